/*
 * spares.c - see spares.h.
 */
#include "allocator/spares.h"

#include "allocator/allocator.h"
#include "base/checked.h"

enum {
    SHARE = 16,      /* all spares of a thread have at most so much of what is in use */
    SLICES_FREE = 48 /* ... and this many slices whatever is in use                   */
};

static void
drop(struct spares *spares, uint32_t at)
{
    spares->slices -= spares->claims[at].count;
    spares->claims[at] = spares->claims[--spares->count];
}

bool
spares_keep(hshm_allocator *a, struct spares *spares, uint64_t first, uint64_t found)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t most = min_u64(load_relaxed(&h->root->used) / SHARE + SLICES_FREE, h->count / 32);
    if (spares->count == SPARES_MAX || spares->slices + slice_count(found) > most ||
        !run_keep(a, first, found, &spares->claims[spares->count]))
        return false;
    spares->slices += slice_count(found);
    spares->count++;
    return true;
}

bool
spares_take(const hshm_allocator *a, struct spares *spares, uint64_t slices, uint64_t alignment,
            struct claim *ret_claim)
{
    for (uint32_t at = spares->count; at-- > 0;) {
        const struct claim claim = spares->claims[at];
        if (claim.count != slices || ((uintptr_t)slice_address(&a->slab, claim.first) & (alignment - 1)) != 0)
            continue;
        drop(spares, at);
        *ret_claim = claim;
        return true;
    }
    return false;
}

bool
spares_give_back(hshm_allocator *a, struct spares *spares)
{
    const bool any = spares->count > 0;
    while (spares->count > 0) {
        const struct claim claim = spares->claims[spares->count - 1];
        drop(spares, spares->count - 1);
        run_unclaim(a, &claim);
    }
    return any;
}
