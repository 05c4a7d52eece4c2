/*
 * test_page.c - a process that works on a ScalablePage heap may be killed at any instruction of any call.
 *
 * labels: no-asan no-tsan once slow
 * (a process with a sanitizer in it cannot be stepped through: most steps would be the sanitizer's own)
 *
 * HSHM_CRASH_IMAGES=n for a long run; HSHM_TEST_SEED repeats one.
 */
#include "crash.h"

enum { IMAGES = 3600 };

static void
a_kill_at_any_instruction_leaves_a_heap_that_recovers(void **state)
{
    (void)state;
    crash_all_calls(HSHM_ALLOCATOR_SCALABLE_PAGE, IMAGES);
}

int
main(int argc, char **argv)
{
    (void)argc;
    crash_avoid_string_instructions(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_instruction_leaves_a_heap_that_recovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
