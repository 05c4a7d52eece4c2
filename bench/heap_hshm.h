/*
 * heap_hshm.h - a heap of ours, through the library's calls, or, with BENCH_INLINE, through those that <hshm/inline.h>
 * compiles into the program.
 */
#ifndef HSHM_BENCH_HEAP_HSHM_H
#define HSHM_BENCH_HEAP_HSHM_H

#include <hshm/hshm.h>

#ifdef BENCH_INLINE
#ifdef __has_include
#if __has_include(<hshm/inline.h>)
#include <hshm/inline.h>
#define HEAP_HAS_INLINE 1
#endif
#endif
#endif

typedef hshm_allocator *heap_ref;

static inline void *
heap_take(heap_ref heap, size_t size)
{
#ifdef HEAP_HAS_INLINE
    return hshm_malloc_inline(heap, size);
#else
    return hshm_malloc(heap, size);
#endif
}

/* A free that failed shows in the count of live blocks; see heap_live_blocks(). */
static inline void
heap_free(heap_ref heap, void *block)
{
#ifdef HEAP_HAS_INLINE
    (void)hshm_free_inline(heap, block);
#else
    (void)hshm_free(heap, block);
#endif
}

static inline uint64_t
heap_handle(heap_ref heap, const void *block)
{
    return hshm_to_off(heap, block);
}

static inline void *
heap_address(heap_ref heap, uint64_t handle)
{
    return hshm_to_addr(heap, handle);
}

#endif
