/*
 * heap_none.h - no heap at all: every block is the same one.
 *
 * What a workload costs with it is what the suite itself costs: its loop, its random numbers, its stores.
 */
#ifndef HSHM_BENCH_HEAP_NONE_H
#define HSHM_BENCH_HEAP_NONE_H

enum {
    HEAP_NONE_BYTES = 32 << 20 /* the largest block that a workload asks for */
};

typedef unsigned char *heap_ref;

static inline void *
heap_take(heap_ref heap, size_t size)
{
    (void)size;
    return heap;
}

static inline void
heap_free(heap_ref heap, void *block)
{
    (void)heap;
    (void)block;
}

static inline uint64_t
heap_handle(heap_ref heap, const void *block)
{
    (void)heap;
    return (uint64_t)(uintptr_t)block;
}

static inline void *
heap_address(heap_ref heap, uint64_t handle)
{
    (void)heap;
    return (void *)(uintptr_t)handle;
}

#endif
