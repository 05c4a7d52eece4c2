/*
 * test_clock.c - waiting with back-off ends, and where it is to end; see test_numbers.c for how it begins and pauses.
 */
#include "support.h"

#include "sync/clock.h"

static void
waiting_ends_and_not_before_the_deadline(void **state)
{
    (void)state;
    const uint64_t begin = clock_monotonic_ns();
    struct wait wait = wait_begin(3);
    while (wait_more(&wait))
        ;
    assert_true(clock_monotonic_ns() - begin >= 3 * NS_PER_MS);
    assert_false(wait_more(&wait));
}

static void
the_last_pause_is_cut_at_the_deadline(void **state)
{
    (void)state;
    /* A pause that would outlast the test, unless it is cut. */
    struct wait wait = { clock_monotonic_ns() + NS_PER_MS, UINT64_C(3600) * 1000 * NS_PER_MS };
    while (wait_more(&wait))
        ;
    assert_true(clock_monotonic_ns() >= wait.deadline_ns);
}

static void
the_longest_timeouts_that_fit_are_kept(void **state)
{
    (void)state;
    /* A century less than the clock can count: no machine has been up for so long. */
    const uint64_t century_ms = UINT64_C(36525) * 86400 * 1000;
    const uint64_t timeout = UINT64_MAX / NS_PER_MS - century_ms;
    const uint64_t before = clock_monotonic_ns();
    const struct wait wait = wait_begin(timeout);
    const uint64_t after = clock_monotonic_ns();
    assert_true(wait.deadline_ns >= before + timeout * NS_PER_MS);
    assert_true(wait.deadline_ns <= after + timeout * NS_PER_MS);
    assert_true(wait.deadline_ns < UINT64_MAX);
}

static void
a_timeout_of_0_does_not_even_begin_to_back_off(void **state)
{
    (void)state;
    struct wait wait = wait_begin(0);
    const uint64_t pause = wait.pause_ns;
    assert_false(wait_more(&wait));
    assert_int_equal(wait.pause_ns, pause);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiting_ends_and_not_before_the_deadline),
        cmocka_unit_test(the_last_pause_is_cut_at_the_deadline),
        cmocka_unit_test(the_longest_timeouts_that_fit_are_kept),
        cmocka_unit_test(a_timeout_of_0_does_not_even_begin_to_back_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
