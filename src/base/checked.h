/*
 * checked.h - arithmetic on sizes that may come from anywhere.
 */
#ifndef HSHM_BASE_CHECKED_H
#define HSHM_BASE_CHECKED_H

#include "base/compiler.h"

static inline bool
is_power_of_two(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* `alignment` is a power of two, and n + alignment does not overflow. */
static inline uint64_t
align_up(uint64_t n, uint64_t alignment)
{
    ASSERT(is_power_of_two(alignment));
    return (n + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t
align_down(uint64_t n, uint64_t alignment)
{
    ASSERT(is_power_of_two(alignment));
    return n & ~(alignment - 1);
}

/* The largest power of two that is not above n; n > 0. */
static inline uint64_t
floor_power_of_two(uint64_t n)
{
    ASSERT(n > 0);
    return UINT64_C(1) << (63 - __builtin_clzll(n));
}

/* Does [off, off + size) lie inside [low, high)?  No sum overflows on the way. */
static inline bool
range_inside(uint64_t off, uint64_t size, uint64_t low, uint64_t high)
{
    return off >= low && off <= high && size <= high - off;
}

static inline uint64_t
min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t
max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
