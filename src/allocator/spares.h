/*
 * spares.h - slices that a thread keeps for its next slabs and large blocks, claimed and out of everyone's sight.
 *
 * To claim slices costs an atomic instruction for each, and to give them free another; a thread that takes and frees blocks of
 * some slices in turn would do little else.  What is kept is bounded by a share of what is in use, is given back when
 * memory is short and when it was kept in vain, and looks to everyone else like a claim that is about to become something:
 * what a dead process kept is free (slab_recover.c).
 */
#ifndef HSHM_ALLOCATOR_SPARES_H
#define HSHM_ALLOCATOR_SPARES_H

#include "allocator/slab_heap.h"

enum { SPARES_MAX = 16 };

/* Local to a thread. */
struct spares {
    struct claim claims[SPARES_MAX];
    uint32_t count;
    uint64_t slices; /* of all claims */
};

/* Keep the slices of a slab or large block that is free now.  False: they must be given free, or are not what they were. */
bool spares_keep(hshm_allocator *a, struct spares *spares, uint64_t first, uint64_t found);

/* One of just so many slices, begun at a multiple of `alignment`; the last that was kept, which is warm. */
bool spares_take(const hshm_allocator *a, struct spares *spares, uint64_t slices, uint64_t alignment,
                 struct claim *ret_claim);

/* Give all back.  True if there was one. */
bool spares_give_back(hshm_allocator *a, struct spares *spares);

#endif
