/*
 * blocks.h - what tests of allocators need again and again: patterns in blocks, statistics, heaps that are sound.
 */
#ifndef HSHM_TESTS_BLOCKS_H
#define HSHM_TESTS_BLOCKS_H

#include "support.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fill a block with bytes that follow from `key`, and look whether they are still there. */
void block_fill(void *addr, size_t size, uint64_t key);
bool block_holds(const void *addr, size_t size, uint64_t key);

/*
 * The same in any heap, also in one whose blocks lie in device memory: then by the library's copies.
 */
void heap_fill(hshm_allocator *heap, void *addr, size_t size, uint64_t key);
bool heap_holds(hshm_allocator *heap, const void *addr, size_t size, uint64_t key);
/* Are they all that byte? */
bool heap_is_all(hshm_allocator *heap, const void *addr, size_t size, int byte);

/* Fails the test unless the block is live, of at least this size, and as block_fill() left it. */
#define assert_block(heap, addr, size, key) support_assert_block((heap), (addr), (size), (key), __FILE__, __LINE__)
void support_assert_block(hshm_allocator *heap, const void *addr, size_t size, uint64_t key, const char *file,
                          int line);

/* Statistics; fails the test when they cannot be had. */
hshm_stats stats_of(hshm_allocator *heap);

/* Fails the test unless nothing that is counted has changed; what the system holds for the region may. */
#define assert_same_stats(heap, before) support_assert_same_stats((heap), (before), __FILE__, __LINE__)
void support_assert_same_stats(hshm_allocator *heap, hshm_stats before, const char *file, int line);

/* Fails the test unless the heap's own check finds it whole.  Nobody may be changing it. */
#define assert_sound(heap) support_assert_sound((heap), __FILE__, __LINE__)
void support_assert_sound(hshm_allocator *heap, const char *file, int line);

/*
 * Fails the test unless the heap is as good as new: nothing is allocated, and all of its data can be one block.  (Nothing is
 * used then either; heaps of slabs keep some empty ones until the room is needed.)
 */
#define assert_emptied(heap) support_assert_emptied((heap), __FILE__, __LINE__)
void support_assert_emptied(hshm_allocator *heap, const char *file, int line);

/* Does this kind cut slabs? */
bool cuts_slabs(hshm_allocator_kind kind);

/* A size as the Stack rounds it: whole granules, at least one. */
uint64_t stack_rounded(size_t size);

/* A teardown: leave all that the default manager holds, also after a failed test. */
int drop_heaps(void **state);

/*
 * Rows of a table of cases: one for each kind of heap that can be shared, or for each that cuts slabs.  A case finds its kind in
 * *state.
 */
extern hshm_allocator_kind heap_kinds[3];
/* clang-format off */
#define OF_KIND(test, title, i) { #test " (" title ")", test, NULL, drop_heaps, &heap_kinds[i] }
#define OF_STACK(test) OF_KIND(test, "Stack", 0)
#define OF_SCALABLE_PAGE(test) OF_KIND(test, "ScalablePage", 1)
#define OF_THREAD_LOCAL(test) OF_KIND(test, "ThreadLocal", 2)
#define OF_SLAB_KINDS(test) OF_SCALABLE_PAGE(test), OF_THREAD_LOCAL(test)
#define OF_ALL_KINDS(test) OF_STACK(test), OF_SLAB_KINDS(test)
/* clang-format on */

#ifdef __cplusplus
}
#endif

#endif
