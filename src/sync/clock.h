/*
 * clock.h - time, for waiting and for people.  Nothing here ever decides who is alive.
 */
#ifndef HSHM_SYNC_CLOCK_H
#define HSHM_SYNC_CLOCK_H

#include <errno.h>
#include <time.h>

#include "base/compiler.h"

#define NS_PER_MS UINT64_C(1000000)

static inline uint64_t
clock_ns(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* For waiting: goes on evenly. */
static inline uint64_t
clock_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* The same in milliseconds, some late, for a quarter of the price: for what is done every now and then. */
static inline uint64_t
clock_coarse_ms(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    return clock_ns(CLOCK_MONOTONIC_COARSE) / NS_PER_MS;
#else
    return clock_monotonic_ns() / NS_PER_MS;
#endif
}

/* For people: when something was made. */
static inline uint64_t
clock_wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

/* Pause; a signal may end it early. */
static inline void
clock_pause_ns(uint64_t ns)
{
    const struct timespec pause = { (time_t)(ns / UINT64_C(1000000000)), (long)(ns % UINT64_C(1000000000)) };
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/*
 * Waiting with back-off: call wait_more() between tries; it pauses 0.1 ms, then twice as long each time up to 10 ms, and
 * says false once `timeout_ms` is over.
 */
struct wait {
    uint64_t deadline_ns;
    uint64_t pause_ns;
};

static inline struct wait
wait_begin(uint64_t timeout_ms)
{
    const uint64_t now = clock_monotonic_ns();
    const uint64_t room = (UINT64_MAX - now) / NS_PER_MS;
    const uint64_t deadline = timeout_ms < room ? now + timeout_ms * NS_PER_MS : UINT64_MAX;
    return (struct wait){ deadline, NS_PER_MS / 10 };
}

static inline bool
wait_more(struct wait *wait)
{
    const uint64_t now = clock_monotonic_ns();
    if (now >= wait->deadline_ns)
        return false;
    const uint64_t left = wait->deadline_ns - now;
    clock_pause_ns(left < wait->pause_ns ? left : wait->pause_ns);
    wait->pause_ns = wait->pause_ns * 2 < 10 * NS_PER_MS ? wait->pause_ns * 2 : 10 * NS_PER_MS;
    return true;
}

#endif
