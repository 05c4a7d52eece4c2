/*
 * test_numbers.c - arithmetic at its edges: rounding, ranges that must not overflow, and deadlines.
 */
#include "support.h"

#include "base/checked.h"
#include "sync/clock.h"

static void
powers_of_two_are_told_from_others(void **state)
{
    (void)state;
    assert_false(is_power_of_two(0));
    for (unsigned shift = 0; shift < 64; shift++) {
        const uint64_t power = UINT64_C(1) << shift;
        assert_true(is_power_of_two(power));
        assert_true(power <= 2 || !is_power_of_two(power - 1));
        assert_true(power == 1 || !is_power_of_two(power + 1));
        assert_true(shift == 0 || !is_power_of_two(power | 1));
    }
    assert_false(is_power_of_two(UINT64_MAX));
}

static void
rounding_goes_to_the_next_multiple_or_none(void **state)
{
    (void)state;
    assert_int_equal(align_up(0, 64), 0);
    assert_int_equal(align_up(1, 64), 64);
    assert_int_equal(align_up(63, 64), 64);
    assert_int_equal(align_up(64, 64), 64);
    assert_int_equal(align_up(65, 64), 128);
    assert_int_equal(align_up(77, 1), 77);
    assert_int_equal(align_down(0, 64), 0);
    assert_int_equal(align_down(63, 64), 0);
    assert_int_equal(align_down(64, 64), 64);
    assert_int_equal(align_down(127, 64), 64);
    assert_int_equal(align_down(77, 1), 77);
    assert_true(align_down(UINT64_MAX, 4096) == UINT64_MAX - 4095);
    assert_true(align_up(UINT64_MAX - 8191, 4096) == UINT64_MAX - 8191);
    assert_true(align_up(UINT64_MAX - 8190, 4096) == UINT64_MAX - 4095);
    assert_true(align_down(UINT64_MAX, UINT64_C(1) << 63) == UINT64_C(1) << 63);
}

static void
the_largest_power_of_two_below_is_found(void **state)
{
    (void)state;
    assert_int_equal(floor_power_of_two(1), 1);
    assert_int_equal(floor_power_of_two(2), 2);
    assert_int_equal(floor_power_of_two(3), 2);
    assert_int_equal(floor_power_of_two(4095), 2048);
    assert_int_equal(floor_power_of_two(4096), 4096);
    assert_true(floor_power_of_two(UINT64_MAX) == UINT64_C(1) << 63);
    assert_true(floor_power_of_two((UINT64_C(1) << 63) - 1) == UINT64_C(1) << 62);
}

static void
ranges_are_compared_without_overflow(void **state)
{
    (void)state;
    static const struct {
        uint64_t off, size, low, high;
        bool inside;
    } cases[] = {
        { 10, 10, 10, 20, true },
        { 10, 0, 10, 20, true },
        { 20, 0, 10, 20, true },
        { 21, 0, 10, 20, false },
        { 9, 1, 10, 20, false },
        { 9, 5, 10, 20, false },
        { 10, 11, 10, 20, false },
        { 19, 2, 10, 20, false },
        { 0, 0, 0, 0, true },
        { 0, 1, 0, 0, false },
        { 10, UINT64_MAX, 0, 20, false },
        { UINT64_MAX, 1, 0, UINT64_MAX, false },
        { UINT64_MAX, 0, 0, UINT64_MAX, true },
        { UINT64_MAX, UINT64_MAX, 0, UINT64_MAX, false },
        { 0, UINT64_MAX, 0, UINT64_MAX, true },
        { 1, UINT64_MAX, 0, UINT64_MAX, false },
        { UINT64_MAX - 15, 16, 0, UINT64_MAX, false }, /* its end would be 0 */
        { UINT64_MAX - 15, 15, 0, UINT64_MAX, true },
        { 15, 1, 20, 10, false }, /* a range that is upside down holds nothing */
    };
    for (size_t i = 0; i < COUNTOF(cases); i++)
        assert_int_equal(range_inside(cases[i].off, cases[i].size, cases[i].low, cases[i].high), cases[i].inside);
}

static void
the_smaller_and_the_larger(void **state)
{
    (void)state;
    assert_int_equal(min_u64(1, 2), 1);
    assert_int_equal(min_u64(2, 1), 1);
    assert_true(min_u64(UINT64_MAX, 0) == 0);
    assert_int_equal(max_u64(1, 2), 2);
    assert_true(max_u64(UINT64_MAX, 0) == UINT64_MAX);
}

/* ---- deadlines ---- */

static void
no_patience_means_no_pause(void **state)
{
    (void)state;
    struct wait wait = wait_begin(0);
    assert_false(wait_more(&wait));
    assert_false(wait_more(&wait));
}

static void
endless_patience_does_not_overflow(void **state)
{
    (void)state;
    static const uint64_t patient[] = { UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / NS_PER_MS, UINT64_MAX / 2 };
    for (size_t i = 0; i < COUNTOF(patient); i++) {
        struct wait wait = wait_begin(patient[i]);
        assert_true(wait.deadline_ns == UINT64_MAX);
        assert_true(wait_more(&wait));
    }
}

static void
a_deadline_lies_as_far_ahead_as_was_asked(void **state)
{
    (void)state;
    static const uint64_t timeouts[] = { 1, 1000, 3600000, UINT64_C(1) << 40 };
    for (size_t i = 0; i < COUNTOF(timeouts); i++) {
        const uint64_t before = clock_monotonic_ns();
        const struct wait wait = wait_begin(timeouts[i]);
        const uint64_t after = clock_monotonic_ns();
        assert_true(wait.deadline_ns >= before + timeouts[i] * NS_PER_MS);
        assert_true(wait.deadline_ns <= after + timeouts[i] * NS_PER_MS);
    }
}

static void
pauses_grow_to_10_ms_and_no_further(void **state)
{
    (void)state;
    struct wait wait = wait_begin(UINT64_MAX);
    uint64_t expected = NS_PER_MS / 10;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(wait.pause_ns, expected);
        assert_true(wait_more(&wait));
        expected = min_u64(expected * 2, 10 * NS_PER_MS);
    }
    assert_int_equal(wait.pause_ns, 10 * NS_PER_MS);
}

static void
the_monotonic_clock_does_not_go_back(void **state)
{
    (void)state;
    uint64_t before = clock_monotonic_ns();
    for (int i = 0; i < 1000; i++) {
        const uint64_t now = clock_monotonic_ns();
        assert_true(now >= before);
        before = now;
    }
    assert_true(clock_wall_ns() > UINT64_C(1000000000000000000)); /* the year 2001 */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(powers_of_two_are_told_from_others),
        cmocka_unit_test(rounding_goes_to_the_next_multiple_or_none),
        cmocka_unit_test(the_largest_power_of_two_below_is_found),
        cmocka_unit_test(ranges_are_compared_without_overflow),
        cmocka_unit_test(the_smaller_and_the_larger),
        cmocka_unit_test(no_patience_means_no_pause),
        cmocka_unit_test(endless_patience_does_not_overflow),
        cmocka_unit_test(a_deadline_lies_as_far_ahead_as_was_asked),
        cmocka_unit_test(pauses_grow_to_10_ms_and_no_further),
        cmocka_unit_test(the_monotonic_clock_does_not_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
