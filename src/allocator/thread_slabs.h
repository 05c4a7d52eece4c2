/*
 * thread_slabs.h - the slabs of one thread, as their owner knows them (ThreadLocal): descriptions in private memory, by the
 * index that `own` in a slab's record names, and queues of those that wait for their turn.
 *
 * All of it is derived, dies with the process, and is used by one thread; or, when that ends, under the thread_table lock.
 */
#ifndef HSHM_ALLOCATOR_THREAD_SLABS_H
#define HSHM_ALLOCATOR_THREAD_SLABS_H

#include <hshm/inline.h>

#include "allocator/spares.h"

enum { CHUNK_SLABS = 64 }; /* so many descriptions are made at once */

enum place { PLACE_UNUSED, PLACE_CURRENT, PLACE_QUEUED, PLACE_FILLING };

/* Local: a slab as its owner knows it; nothing here is asked of the region again. */
struct slab {
    struct slab *next; /* in its queue, or among the unused */
    struct slab *previous;
    struct slab_record *record;
    bits_word *bits;
    bits_word *remote;
    uint64_t slice;
    uint64_t slices;
    uint32_t blocks;
    uint32_t words;
    uint32_t class;
    uint32_t at;    /* the word that blocks were taken from last          */
    uint32_t index; /* of this description; in `own`, for mail           */
    enum place place;
};

struct slab_queue {
    struct slab *first;
    struct slab *last;
};

/* Local to one thread. */
struct thread_heap {
    struct hshm_inline_heap fast; /* first: it is what the thread's table leads to */
    struct hshm_inline_bin bins[CLASSES_MAX];
    struct slab *current[CLASSES_MAX];
    struct slab_queue queues[CLASSES_MAX];
    uint32_t slabs[CLASSES_MAX]; /* how many it owns */
    hshm_allocator *a;
    struct slab_thread *shared;
    _Atomic uint64_t *mail;
    uint32_t slot;
    uint64_t me;       /* `own` of its slabs, but for the index                        */
    uint64_t reserves; /* a user's slot that this thread has RESERVED, but for the block */
    uint64_t claims;   /* what makes one that is FULL one that this thread has CLAIMED   */

    struct slab **chunks; /* of descriptions, by index */
    uint32_t chunk_count;
    uint32_t chunk_room;
    struct slab *unused;

    struct spares spares;
    uint64_t work; /* since it was tidied last */

    struct thread_heap *next; /* in the handle's list */
    struct thread_heap **back;
    struct thread_heap *next_keyed; /* of handles without an index; see end_keyed_heap() */
};
static inline uint32_t
owned_limit(const struct thread_heap *heap)
{
    return heap->chunk_count * CHUNK_SLABS;
}

static inline struct slab *
owned_at(const struct thread_heap *heap, uint32_t index)
{
    return &heap->chunks[index / CHUNK_SLABS][index % CHUNK_SLABS];
}

/* A description that is not used.  NULL: no memory. */
struct slab *owned_new(struct thread_heap *heap);
/* It describes nothing any more. */
void owned_drop(struct thread_heap *heap, struct slab *slab);
/* Let it describe the slab of so many slices that begins at `slice`. */
void owned_describe(struct thread_heap *heap, struct slab *slab, uint64_t slice, uint64_t slices, uint32_t class);
void owned_free(struct thread_heap *heap);

/* thread_slots.c: of allocator_ops. */
hshm_status thread_allocate_to(hshm_allocator *a, size_t size, hshm_slot *slot);
hshm_status thread_free_from(hshm_allocator *a, hshm_slot *slot);

/* To the end of its class's queue, and out of it. */
void owned_enqueue(struct thread_heap *heap, struct slab *slab);
void owned_dequeue(struct thread_heap *heap, struct slab *slab);

#endif
