/*
 * heap_malloc.h - the malloc of this process: the C library's, or whichever LD_PRELOAD put in its place.
 */
#ifndef HSHM_BENCH_HEAP_MALLOC_H
#define HSHM_BENCH_HEAP_MALLOC_H

#include <stdlib.h>

typedef struct heap_malloc *heap_ref; /* there is only one, and it needs no handle */

static inline void *
heap_take(heap_ref heap, size_t size)
{
    (void)heap;
    return malloc(size);
}

static inline void
heap_free(heap_ref heap, void *block)
{
    (void)heap;
    free(block);
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
