/*
 * test_instructions.c - hshm_malloc() on a stack costs no more than 30 instructions, from its first to its return, in a
 * row of blocks of 64 bytes; and not many more where a block has its codes in two words of the table.
 *
 * labels: once no-asan no-tsan
 * (what is counted is not this build but count_malloc, the library compiled as for a release)
 *
 * Instructions are counted by callgrind, so the result is the same on a busy machine.
 */
#include "blocks.h"
#include "counting.h"

enum { FEW = 1000, MANY = 2000 };

/* gcc's numbers are the promise; clang 14 makes 33 of the same source. */
#if defined(__clang__)
enum { GATE = 36, GATE_ACROSS = 40 };
#else
enum { GATE = 30, GATE_ACROSS = 36 };
#endif

/* Instructions inside hshm_malloc() and what it calls. */
static uint64_t
count(const char *blocks, const char *granules)
{
    static const char *const calls[] = { "hshm_malloc", NULL };
    const char *const argv[] = { "count_malloc", blocks, granules, NULL };
    return counted_instructions(calls, argv);
}

static double
instructions_a_block(const char *granules)
{
    const uint64_t few = count("1000", granules);
    const uint64_t many = count("2000", granules);
    assert_true(many > few);
    return (double)(many - few) / (MANY - FEW);
}

static void
malloc_takes_30_instructions_at_most(void **state)
{
    (void)state;
    const double in_one_word = instructions_a_block("4");
    const double everywhere = instructions_a_block("1");
    print_message(
        "hshm_malloc(heap, 64): %.2f instructions; %.2f on average when every eighth block lies in two words of "
        "the table\n",
        in_one_word, everywhere);
    assert_true(in_one_word > 5); /* it did count */
    assert_true(in_one_word <= GATE);
    assert_true(everywhere <= GATE_ACROSS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(malloc_takes_30_instructions_at_most, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
