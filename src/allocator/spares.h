/*
 * spares.h - slices that a thread has for its next slabs and large blocks.
 *
 * To claim slices costs an atomic instruction for each, and to give them free another; a thread that takes and frees blocks of
 * some slices in turn would do little else.  So they stay together for a while:
 *
 *   - a few are kept (ThreadLocal): claimed and out of everyone's sight, so that the thread pays one atomic instruction for
 *     both ways.  They are bounded by a share of what is in use, given back when memory is short and when they were
 *     kept in vain, and look to everyone else like a claim that is about to become something: what a dead process kept is
 *     free (slab_recover.c);
 *   - others are idle (run.c): nobody's, and the thread only remembers where some are.  They cost more atomic instructions,
 *     but bind no memory: anyone who needs room makes use of them, and they are trimmed by age.
 */
#ifndef HSHM_ALLOCATOR_SPARES_H
#define HSHM_ALLOCATOR_SPARES_H

#include "allocator/slab_heap.h"

enum {
    SPARES_MAX = 16,
    IDLE_SLICES_MAX = 64 /* of an idle run: for larger ones, a claim is a small part of what touching them costs */
};

/* Local to a thread: for each number of slices an idle run, slice + 1, which leads to the next; 0 = none. */
struct idle_list {
    uint64_t first[IDLE_SLICES_MAX + 1];
};

struct spare {
    struct claim claim;
    bool old; /* kept when spares_tidy() came by */
};

/* Local to a thread. */
struct spares {
    struct spare kept[SPARES_MAX];
    uint32_t count;
    uint64_t slices; /* of all that is kept */
    struct idle_list idle;
};

/* Keep the slices of a slab or large block that is free now.  False: they must be given free, or are not what they were. */
bool spares_keep(hshm_allocator *a, struct spares *spares, uint64_t first, uint64_t found);

/* One of just so many slices, begun at a multiple of `alignment`; the last that was kept, which is warm. */
bool spares_take(hshm_allocator *a, struct spares *spares, uint64_t slices, uint64_t alignment,
                 struct claim *ret_claim);

/* Give back all that is kept.  True if there was one. */
bool spares_give_back(hshm_allocator *a, struct spares *spares);

/* Give back what was kept when this was called last, and has not been taken since. */
void spares_tidy(hshm_allocator *a, struct spares *spares);

/* The same with idle runs alone. */
bool idle_keep(hshm_allocator *a, struct idle_list *idle, uint64_t first, uint64_t found);
bool idle_take(hshm_allocator *a, struct idle_list *idle, uint64_t slices, uint64_t alignment, struct claim *ret_claim);

#endif
