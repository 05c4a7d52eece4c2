/*
 * test_instructions.c - a block of 64 bytes of a ThreadLocal heap costs no more than 46 instructions, taken and freed, from the
 * first of hshm_malloc() to the return of hshm_free(); 48 in batches; 40 where it is compiled into the caller, in a loop; and 110 if a slot
 * takes it and gives it back.
 *
 * labels: once no-asan no-tsan
 * (what is counted is not this build but count_pairs, the library compiled as for a release)
 *
 * Instructions are counted by callgrind, so the result is the same on a busy machine.
 */
#include "blocks.h"
#include "counting.h"

#include <stdio.h>
#include <string.h>

enum { FEW = 10000, MANY = 20000 };

/* gcc's numbers are the promise.  Inline, the loop is counted too, and that its blocks are looked at for NULL. */
#if defined(__clang__)
enum { GATE_PLAIN = 48, GATE_BATCHES = 50, GATE_INLINE = 40, GATE_SLOTS = 110 };
#else
enum { GATE_PLAIN = 46, GATE_BATCHES = 48, GATE_INLINE = 40, GATE_SLOTS = 110 };
#endif

/* Instructions inside the functions that are counted and what they call. */
static uint64_t
count(const char *kind, const char *way, const char *pairs)
{
    static const char *const calls[] = { "hshm_malloc", "hshm_free" };
    static const char *const compiled_in[] = { "count_inline", NULL };
    static const char *const of_slots[] = { "hshm_allocate_to", "hshm_free_from" };
    const char *const argv[] = { "count_pairs", kind, way, pairs, NULL };
    return counted_instructions(strcmp(way, "inline") == 0  ? compiled_in
                                : strcmp(way, "slots") == 0 ? of_slots
                                                            : calls,
                                argv);
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
a_block_costs_40_instructions_at_most_inline(void **state)
{
    (void)state;
    assert_within("inline", GATE_INLINE);
}

static void
a_block_costs_110_instructions_at_most_with_its_slot(void **state)
{
    (void)state;
    assert_within("slots", GATE_SLOTS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_block_costs_46_instructions_at_most, drop_heaps),
        cmocka_unit_test_teardown(a_block_of_a_batch_costs_48_instructions_at_most, drop_heaps),
        cmocka_unit_test_teardown(a_block_costs_40_instructions_at_most_inline, drop_heaps),
        cmocka_unit_test_teardown(a_block_costs_110_instructions_at_most_with_its_slot, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
