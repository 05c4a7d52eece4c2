/*
 * test_instructions.c - a block of 64 bytes of a ThreadLocal heap costs no more than 46 instructions, taken and freed, from the
 * first of hshm_malloc() to the return of hshm_free(); 48 in batches; and 42 where it is compiled into the caller, in a loop.
 *
 * labels: once no-asan no-tsan
 * (what is counted is not this build but count_pairs, the library compiled as for a release)
 *
 * Instructions are counted by callgrind, so the result is the same on a busy machine.
 */
#include "blocks.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FEW = 10000, MANY = 20000, NO_VALGRIND = 127 };

/* gcc's numbers are the promise.  Inline, the loop is counted too, and that its blocks are looked at for NULL. */
#if defined(__clang__)
enum { GATE_PLAIN = 48, GATE_BATCHES = 50, GATE_INLINE = 42 };
#else
enum { GATE_PLAIN = 46, GATE_BATCHES = 48, GATE_INLINE = 42 };
#endif

struct run {
    const char *kind, *way, *pairs, *out;
};

static int
run_callgrind(void *arg)
{
    const struct run *run = arg;
    char out[4096 + 32];
    (void)snprintf(out, sizeof out, "--callgrind-out-file=%s", run->out);
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)dup2(nowhere, STDOUT_FILENO);
    (void)dup2(nowhere, STDERR_FILENO);
    const bool is_inline = strcmp(run->way, "inline") == 0;
    (void)execlp("valgrind", "valgrind", "--tool=callgrind",
                 is_inline ? "--toggle-collect=count_inline" : "--toggle-collect=hshm_malloc",
                 is_inline ? "--toggle-collect=nothing" : "--toggle-collect=hshm_free", out,
                 HSHM_TEST_BIN_DIR "/count_pairs", run->kind, run->way, run->pairs, (char *)NULL);
    return NO_VALGRIND;
}

/* The line "totals: N" of what callgrind wrote; 0 if there is none. */
static uint64_t
read_total(const char *path)
{
    char line[1024];
    uint64_t total = 0;
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "totals: ", 8) == 0)
            total = strtoull(line + 8, NULL, 10);
    }
    (void)fclose(file);
    return total;
}

/* Instructions inside the functions that are counted and what they call. */
static uint64_t
count(const char *kind, const char *way, const char *pairs)
{
    struct run run = { kind, way, pairs, test_path("callgrind") };
    const int status = child_run(run_callgrind, &run);
    if (status == NO_VALGRIND) {
        print_message("no valgrind to count with (Debian: apt-get install valgrind)\n");
        skip();
    }
    assert_int_equal(status, 0);
    const uint64_t total = read_total(run.out);
    assert_true(total > 0);
    return total;
}

/* In the long run: what happens once a process, and once a slab of the first ones, is left out. */
static double
instructions_a_pair(hshm_allocator_kind kind, const char *way)
{
    char number[16];
    (void)snprintf(number, sizeof number, "%d", (int)kind);
    const uint64_t few = count(number, way, "10000");
    const uint64_t many = count(number, way, "20000");
    assert_true(many > few);
    return (double)(many - few) / (MANY - FEW);
}

static void
assert_within(const char *way, double gate)
{
    const double counted = instructions_a_pair(HSHM_ALLOCATOR_THREAD_LOCAL, way);
    print_message("ThreadLocal, 64 bytes, %s: %.2f instructions a pair (at most %.0f)\n", way, counted, gate);
    assert_true(counted > 10); /* it did count */
    assert_true(counted <= gate);
}

static void
a_block_costs_46_instructions_at_most(void **state)
{
    (void)state;
    assert_within("plain", GATE_PLAIN);
}

static void
a_block_of_a_batch_costs_48_instructions_at_most(void **state)
{
    (void)state;
    assert_within("batches", GATE_BATCHES);
}

static void
a_block_costs_42_instructions_at_most_inline(void **state)
{
    (void)state;
    assert_within("inline", GATE_INLINE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_block_costs_46_instructions_at_most, drop_heaps),
        cmocka_unit_test_teardown(a_block_of_a_batch_costs_48_instructions_at_most, drop_heaps),
        cmocka_unit_test_teardown(a_block_costs_42_instructions_at_most_inline, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
