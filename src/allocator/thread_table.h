/*
 * thread_table.h - what the calling thread has in each of the process's ThreadLocal and ScalablePage heaps.
 *
 * Every thread has a small table in its static thread-local storage, an entry a heap; so the short path finds the entry at
 * a constant distance from the thread pointer, without a call.  An entry that was never set leads to an empty heap that all
 * share, so that there is no NULL to look for.  A table has few entries, because static storage is scarce; ThreadLocal heaps
 * beyond that use a key of pthreads and take the longer path always, ScalablePage ones count each free in the region.
 *
 * Threads whose table was ever set are listed, so that entries can be emptied when a heap's handle ends, whichever thread
 * ends it; and each thread's heaps end with the thread.
 *
 * Locking: one lock for all of it, also over the lists of heaps in the handles, and over cleaning up (slab_recover.c).
 */
#ifndef HSHM_ALLOCATOR_THREAD_TABLE_H
#define HSHM_ALLOCATOR_THREAD_TABLE_H

#include <hshm/inline.h>

#include "base/compiler.h"

enum { THREAD_ENTRIES = 24 };

void thread_table_lock(void);
void thread_table_unlock(void);

/* An entry for a new handle; -1 when all are taken. */
int thread_index_take(void);
/* Empty that entry in every thread's table; under the lock. */
void thread_index_give(int index);

/* Distance of an entry from the thread pointer; of one that is always empty for -1. */
const struct hshm_inline_thread *thread_offset(int index);

/* The heap that empty entries lead to, and whose slabs are theirs: none.  What alloc_page.c looks for behind it is 0. */
struct thread_none {
    struct hshm_inline_heap heap;
    uint64_t zero;
};
extern struct thread_none thread_none;
#define thread_no_heap thread_none.heap
#define THREAD_NOBODY UINT32_MAX

/* A bin without blocks, ever, and the word that it leads to. */
extern struct hshm_inline_bin thread_no_bin;
extern uint64_t thread_no_blocks;

/* Set the calling thread's entry; `end` is called with the heap, under the lock, when the thread ends.  Under the lock. */
void thread_entry_set(int index, struct hshm_inline_heap *heap, uint64_t me,
                      void (*end)(struct hshm_inline_heap *heap));
/* Let it be empty again. */
void thread_entry_clear(int index);
/* To be called without the lock, after the first thread_entry_set() of a thread: it may call malloc. */
void thread_watch_end(void);

/* Around fork(). */
void thread_table_fork_prepare(void);
void thread_table_fork_parent(void);
void thread_table_fork_child(void);

#endif
