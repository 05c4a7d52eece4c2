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

static bool
is_aligned(const hshm_allocator *a, uint64_t slice, uint64_t alignment)
{
    return ((uintptr_t)slice_address(&a->slab, slice) & (alignment - 1)) == 0;
}

/* ---- kept ---- */

static struct claim
take_out(struct spares *spares, uint32_t at)
{
    const struct claim claim = spares->kept[at].claim;
    spares->slices -= claim.count;
    spares->kept[at] = spares->kept[--spares->count];
    return claim;
}

bool
spares_keep(hshm_allocator *a, struct spares *spares, uint64_t first, uint64_t found)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t most = min_u64(load_relaxed(&h->root->used) / SHARE + SLICES_FREE, h->count / 32);
    if (spares->count == SPARES_MAX || spares->slices + slice_count(found) > most)
        return idle_keep(a, &spares->idle, first, found);
    struct spare *spare = &spares->kept[spares->count];
    if (!run_keep(a, first, found, &spare->claim))
        return false;
    spare->old = false;
    spares->slices += slice_count(found);
    spares->count++;
    return true;
}

bool
spares_take(hshm_allocator *a, struct spares *spares, uint64_t slices, uint64_t alignment, struct claim *ret_claim)
{
    for (uint32_t at = spares->count; at-- > 0;) {
        const struct claim *claim = &spares->kept[at].claim;
        if (claim->count != slices || !is_aligned(a, claim->first, alignment))
            continue;
        *ret_claim = take_out(spares, at);
        return true;
    }
    return idle_take(a, &spares->idle, slices, alignment, ret_claim);
}

bool
spares_give_back(hshm_allocator *a, struct spares *spares)
{
    const bool any = spares->count > 0;
    while (spares->count > 0) {
        const struct claim claim = take_out(spares, spares->count - 1);
        run_unclaim(a, &claim);
    }
    return any;
}

void
spares_tidy(hshm_allocator *a, struct spares *spares)
{
    for (uint32_t at = spares->count; at-- > 0;) {
        if (!spares->kept[at].old) {
            spares->kept[at].old = true;
            continue;
        }
        const struct claim claim = take_out(spares, at); /* what comes in its place was looked at before */
        run_unclaim(a, &claim);
    }
}

/* ---- idle ---- */

bool
idle_keep(hshm_allocator *a, struct idle_list *idle, uint64_t first, uint64_t found)
{
    const uint64_t slices = slice_count(found);
    /* A single slice costs as much to give free as to make idle, and the lowest shall be taken first. */
    if (slices < 2 || slices > IDLE_SLICES_MAX || !run_idle(a, first, found, idle->first[slices]))
        return false;
    idle->first[slices] = first + 1;
    run_trim_by_age(a);
    return true;
}

bool
idle_take(hshm_allocator *a, struct idle_list *idle, uint64_t slices, uint64_t alignment, struct claim *ret_claim)
{
    if (slices > IDLE_SLICES_MAX)
        return false;
    const uint64_t first = idle->first[slices] - 1;
    /* The hint comes from a region, and may be anything. */
    if (first >= a->slab.count || !is_aligned(a, first, alignment))
        return false;
    /* If others have it, they have made its record lead elsewhere, and the list ends. */
    return run_take_idle(a, first, slices, ret_claim, &idle->first[slices]);
}
