/*
 * work.h - what the workloads share: random numbers, blocks that are there, first bytes.
 *
 * Every workload does the same operations for every heap: its random numbers come from a fixed seed and the worker's
 * index, and from nothing that the heap does.
 */
#ifndef HSHM_BENCH_WORK_H
#define HSHM_BENCH_WORK_H

#include "suite.h"

#include <string.h>

/* xorshift64*: a few cycles, and good enough to choose slots and sizes. */
struct rng {
    uint64_t state;
};

static inline struct rng
rng_of(uint64_t index)
{
    return (struct rng){ (index + 1) * UINT64_C(0x9e3779b97f4a7c15) };
}

static inline uint32_t
rng_next(struct rng *rng)
{
    uint64_t x = rng->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    rng->state = x;
    return (uint32_t)((x * UINT64_C(0x2545f4914f6cdd1d)) >> 32);
}

/* 0 .. count - 1 */
static inline uint64_t
rng_below(struct rng *rng, uint64_t count)
{
    return ((uint64_t)rng_next(rng) * count) >> 32;
}

static inline size_t
rng_size(struct rng *rng, const struct suite_params *params)
{
    return (size_t)(params->size_min + rng_below(rng, params->size_max - params->size_min + 1));
}

/* A block, or the end of the run. */
static inline void *
take(heap_ref heap, size_t size)
{
    void *block = heap_take(heap, size);
    if (__builtin_expect(block == NULL, 0))
        suite_fail("the heap has no room");
    return block;
}

/* Volatile, so that no compiler finds out that a block that is only written to is not needed. */
static inline void
write_first(void *block, uint64_t value)
{
    *(volatile uint64_t *)block = value;
}

static inline uint64_t
read_first(const void *block)
{
    return *(const volatile uint64_t *)block;
}

/* One byte in each page, so that the memory is there as it would be for a program that uses the block. */
static inline void
write_pages(void *block, size_t size)
{
    volatile unsigned char *bytes = block;
    for (size_t i = 0; i < size; i += 4096)
        bytes[i] = (unsigned char)i;
    bytes[size - 1] = 1;
}

#endif
