/*
 * by_address.c - the heap of this process whose region begins at an address.
 *
 * What lies in a region and has to find its heap, such as the allocator of a container, can know where the region begins - a
 * fixed distance away - but not this process's handle.  This table leads from the one to the other without a lock, and without
 * regard to managers.  It is a cache: what found no place in it is found in the managers' lists.
 *
 * A place is given to a heap by its first word, and is read as long as that heap is open:
 *
 *     0  ->  TAKEN  ->  the region's first byte  ->  TAKEN  ->  0
 *                       (the handle is right here)
 *
 * A reader asks for a heap that is open during the call (else it has no business there), so the word that it matches was stored
 * before, and is not taken back meanwhile.  A child that is forked in the middle of a change inherits a place that stays TAKEN.
 */
#include "manager/manager.h"
#include "sync/atomic.h"

enum { PLACES = 256, TRIED = 8, TAKEN = 1 }; /* no region begins at 1 */

static struct {
    _Atomic uintptr_t region;
    _Atomic(hshm_allocator *) handle;
} places[PLACES];

/* Regions begin at multiples of 64 at least, and mostly of far more: the low bits of the product are the others' only. */
static size_t
first_place(uintptr_t region)
{
    return (size_t)((uint64_t)region * UINT64_C(0x9E3779B97F4A7C15) >> 56);
}
static_assert(PLACES == 1 << 8, "as first_place() shifts");

void
by_address_add(hshm_allocator *allocator)
{
    const uintptr_t region = (uintptr_t)allocator->view.base;
    for (size_t i = 0; i < TRIED; i++) {
        const size_t at = (first_place(region) + i) % PLACES;
        uintptr_t found = 0;
        if (!cas_acq_rel(&places[at].region, &found, (uintptr_t)TAKEN))
            continue;
        store_relaxed(&places[at].handle, allocator);
        /* Pairs with the acquire in hshm_allocator_at(): who sees the region sees the handle. */
        store_release(&places[at].region, region);
        return;
    }
}

void
by_address_remove(hshm_allocator *allocator)
{
    const uintptr_t region = (uintptr_t)allocator->view.base;
    for (size_t i = 0; i < TRIED; i++) {
        const size_t at = (first_place(region) + i) % PLACES;
        /* Two managers may have a heap on the same array. */
        if (load_acquire(&places[at].region) != region || load_relaxed(&places[at].handle) != allocator)
            continue;
        store_relaxed(&places[at].region, (uintptr_t)TAKEN);
        store_relaxed(&places[at].handle, NULL);
        /* Pairs with the acquire of the exchange in by_address_add(): the next handle comes after this one's end. */
        store_release(&places[at].region, (uintptr_t)0);
        return;
    }
}

hshm_allocator *
hshm_allocator_at(const void *region)
{
    for (size_t i = 0; i < TRIED; i++) {
        const size_t at = (first_place((uintptr_t)region) + i) % PLACES;
        if (load_acquire(&places[at].region) == (uintptr_t)region)
            return load_relaxed(&places[at].handle);
    }
    return managers_find_at(region);
}
