/*
 * lazy.h - heaps of slabs whose memory the system gives page by page, so that what they hold of it can be measured; and
 * what tests of their limits ask again and again.
 */
#ifndef HSHM_TESTS_SLAB_LIMITS_LAZY_H
#define HSHM_TESTS_SLAB_LIMITS_LAZY_H

#include "blocks.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* Two cases of a test, one for each kind; heaps are dropped afterwards, also after a failure. */
#define BOTH_HEAPS(fn)                                                          \
    { #fn " (ScalablePage)", (fn), NULL, drop_heaps, (void *)&lazy_page_kind }, \
    {                                                                           \
#fn " (ThreadLocal)", (fn), NULL, drop_heaps, (void *)&lazy_thread_kind \
    }
extern hshm_allocator_kind lazy_page_kind;
extern hshm_allocator_kind lazy_thread_kind;

/* The kind of heap of this case, from the test's *state. */
hshm_allocator_kind lazy_kind(void **state);

/* Create a heap of that kind on lazily committed POSIX shared memory, ids 1 and {1, 0}. */
hshm_allocator *lazy_heap(hshm_allocator_kind kind, const char *url, size_t size);

/* How many times longer than usual: the number in HSHM_TEST_LONG, or 1. */
unsigned long_factor(void);

/* Smaller under sanitizers, whose shadow of memory costs time and memory. */
size_t scaled(size_t usual, size_t sanitized);

/* What the system holds for the region now. */
uint64_t committed(hshm_allocator *heap);

/* Run fn(arg) in a thread of its own, to its end. */
void in_thread(void *(*fn)(void *arg), void *arg);

/* Let this thread run on the nth of the processors that this process may use; round and round.  False if there is only one. */
bool run_on(unsigned nth);
void run_anywhere(void);

/* Free every block that is live. */
void free_every_block(hshm_allocator *heap);

/* Touch all pages of a block, as a program does. */
void touch(void *block, size_t size);

/* Fails the test unless nothing is live, the heap is sound, and one block of `percent` of it can be had. */
#define assert_all_free(heap, percent) lazy_assert_all_free((heap), (percent), __FILE__, __LINE__)
void lazy_assert_all_free(hshm_allocator *heap, unsigned percent, const char *file, int line);

/* Likewise, and no slice is kept for anything.  For when no other thread that used the heap lives. */
#define assert_none_lost(heap) lazy_assert_none_lost((heap), __FILE__, __LINE__)
void lazy_assert_none_lost(hshm_allocator *heap, const char *file, int line);

#endif
