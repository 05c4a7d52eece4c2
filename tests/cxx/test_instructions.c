/*
 * test_instructions.c - a block of 64 bytes, taken and freed, costs at most 3 instructions more in C++ than in C.
 *
 * labels: once no-asan no-tsan
 * (what is counted is not this build but count_calls, compiled with the library as for a release)
 */
#include "blocks.h"
#include "counting.h"

#include <stdio.h>

enum { FEW = 10000, MANY = 20000, MORE_A_PAIR = 3 };

static double
instructions_a_pair(const char *way, const char *function)
{
    const char *const functions[] = { function, NULL };
    const char *const few[] = { "count_calls", way, "10000", NULL };
    const char *const many[] = { "count_calls", way, "20000", NULL };
    const uint64_t of_few = counted_instructions(functions, few);
    const uint64_t of_many = counted_instructions(functions, many);
    assert_true(of_many > of_few);
    const double counted = (double)(of_many - of_few) / (MANY - FEW);
    print_message("%-9s %.2f instructions a pair\n", way, counted);
    assert_true(counted > 20); /* it did count */
    return counted;
}

static void
a_heap_costs_what_c_costs(void **state)
{
    (void)state;
    const double c = instructions_a_pair("c", "count_c");
    assert_true(instructions_a_pair("heap", "count_heap") <= c + MORE_A_PAIR);
    assert_true(instructions_a_pair("local", "count_local") <= c + MORE_A_PAIR);
}

static void
the_guides_interface_costs_what_c_costs(void **state)
{
    (void)state;
    const double c = instructions_a_pair("c_ptr", "count_c_ptr");
    assert_true(instructions_a_pair("guide", "count_guide") <= c + MORE_A_PAIR);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_heap_costs_what_c_costs, drop_heaps),
        cmocka_unit_test_teardown(the_guides_interface_costs_what_c_costs, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
