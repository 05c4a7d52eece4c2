/*
 * lifetime.h - blocks that end with the process that took them (HSHM_LIFETIME_PROCESS), in heaps of slabs.
 *
 * They lie apart: in slabs of which one process takes, whatever the kind of heap, and in runs whose record names it.  So what a
 * process leaves is found by its slot alone, and ends as a whole.
 */
#ifndef HSHM_ALLOCATOR_LIFETIME_H
#define HSHM_ALLOCATOR_LIFETIME_H

#include <hshm/allocator.h>

#include "allocator/slab_heap.h"

/* Heaps of slabs, when the handle begins: their option is known by then. */
void lifetime_begin(hshm_allocator *a);
/* The process leaves the region: its blocks, and their room, become free. */
void lifetime_end(hshm_allocator *a);
/* After a death: likewise of the slab or run at `slice`, if it is of `process`.  True: it was. */
bool lifetime_end_of(hshm_allocator *a, uint64_t slice, uint64_t found, uint64_t process, hshm_recover_report *report);
/* This process's own slabs without a live block become free.  False: there was none. */
bool lifetime_squeeze(hshm_allocator *a);

/* Blocks of these slabs have one row of bits, the first, for everyone. */
static inline bool
lifetime_has_slab(const struct slab_record *record)
{
    return (load_acquire(&record->own) & (SLAB_IS | SLAB_LIFE)) == (SLAB_IS | SLAB_LIFE);
}
/* Free a block of such a slab.  False: it is free. */
bool lifetime_give(hshm_allocator *a, const struct block_place *place);
/* Does the block at this address, which may be anything, end with its process? */
bool lifetime_has_block(hshm_allocator *a, void *addr);
/* A block of the same lifetime as one that is found. */
void *lifetime_malloc_like(hshm_allocator *a, const struct block_place *place, size_t size);

/* Around fork(): the lock of this process's threads; and in the child, whose blocks the parent's are not. */
void lifetime_fork_prepare(hshm_allocator *a);
void lifetime_fork_done(hshm_allocator *a);
void lifetime_fork_child(hshm_allocator *a);

#endif
