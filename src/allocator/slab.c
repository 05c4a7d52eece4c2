/*
 * slab.c - slabs and large blocks, as both allocators use them: making, finding by address, shelves.
 *
 * A slab is one or more slices cut into blocks of one class, with a bit a block in the record of its first slice.  The block
 * of an address is found by arithmetic: slice, then offset times the reciprocal of the block's size.  An address that is
 * not the beginning of a block, or of no slab, is found out on the way; whether the block is live, its bit tells.
 *
 * A shelf is a row of bits for one class, a bit a slice: here lies a slab that belongs to nobody and may have free blocks.
 * It only saves searching: whoever takes a slab off a shelf looks whether it is what it should be.
 *
 * Locking: none.  Not here: whose a slab is, and when it goes (alloc_thread.c, alloc_page.c).
 */
#include <hshm/inline.h>
#include <string.h>

#include "allocator/allocator.h"
#include "allocator/lifetime.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"

/* ---- finding ---- */

/* The first slice of what slice `at` belongs to; false when it is free, or its word makes no sense. */
static bool
find_first(const struct slab_heap *h, uint64_t at, uint64_t *ret_first, uint64_t *ret_found)
{
    /* Acquire pairs with the release in run_publish(). */
    uint64_t found = load_acquire(&h->slices[at]);
    uint64_t first = at;
    if (slice_state(found) == SLICE_REST) {
        if (slice_count(found) > at)
            return false;
        first = at - slice_count(found);
        found = load_acquire(&h->slices[first]);
    }
    if (slice_state(found) != SLICE_SLAB && slice_state(found) != SLICE_RUN)
        return false;
    /* From a region: may say anything. */
    if (slice_count(found) <= at - first || slice_count(found) > h->count - first)
        return false;
    *ret_first = first;
    *ret_found = found;
    return true;
}

static uint64_t
run_size(const struct slab_heap *h, uint64_t found, uint64_t skip)
{
    const uint64_t bytes = slice_count(found) << h->shift;
    return skip < bytes ? bytes - skip : 0;
}

static uint32_t
min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

bool
slab_find(const hshm_allocator *a, const void *addr, struct block_place *ret_place)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t off = (uintptr_t)addr - (uintptr_t)h->data;
    struct block_place place;
    if (off >> h->shift >= h->count || !find_first(h, off >> h->shift, &place.slice, &place.found))
        return false;
    place.record = record_of(h, place.slice);
    const uint64_t inside = off - (place.slice << h->shift);
    if (slice_state(place.found) == SLICE_RUN) {
        place.block = 0;
        const uint64_t skip = load_relaxed(&place.record->skip);
        place.size = run_size(h, place.found, skip);
        *ret_place = place;
        return inside == skip && place.size != 0;
    }
    /* Each field once, and what is worked out with the reciprocal is seen to be right: of a foreign region it may be anything. */
    const uint32_t size = load_relaxed(&place.record->size);
    const uint32_t blocks = min_u32(load_relaxed(&place.record->blocks), h->words * WORD_BITS);
    uint64_t rest;
    const uint64_t block =
        hshm_inline_multiply(inside, __atomic_load_n(&place.record->reciprocal, __ATOMIC_RELAXED), &rest);
    if (size == 0 || block >= blocks || block * size != inside || inside + size > slice_count(place.found) << h->shift)
        return false;
    place.block = (uint32_t)block;
    place.size = size;
    *ret_place = place;
    return true;
}

bool
slab_is_live(const hshm_allocator *a, const struct block_place *place)
{
    const struct slab_heap *h = &a->slab;
    if (slice_state(place->found) == SLICE_RUN)
        return true;
    const uint64_t bit = UINT64_C(1) << place->block % WORD_BITS;
    const uint64_t freed = load_acquire(&bits_of(place->record)[place->block / WORD_BITS]) |
                           load_acquire(&remote_of(h, place->record)[place->block / WORD_BITS]);
    return (freed & bit) == 0;
}

size_t
slab_usable_size(hshm_allocator *a, const void *addr)
{
    struct block_place place;
    return slab_find(a, addr, &place) && slab_is_live(a, &place) ? (size_t)place.size : 0;
}

/* ---- making ---- */

uint32_t
slab_blocks(const struct slab_heap *h, uint32_t class, uint64_t slices)
{
    return (uint32_t)min_u64((slices << h->shift) / h->sizes[class], (uint64_t)h->words * WORD_BITS);
}

struct slab_numbers
slab_numbers(uint32_t size, uint32_t blocks)
{
    const uint64_t exact = UINT64_MAX / size + 1;
    const uint64_t more = exact / (UINT64_C(2) * blocks * size);
    const uint64_t reciprocal = exact + max_u64(more, 1);
    return (struct slab_numbers){ reciprocal, reciprocal * size * blocks }; /* modulo 2^64: e * blocks */
}

bool
slab_claim(hshm_allocator *a, uint32_t class, struct slab_cut cut, struct claim *ret_claim)
{
    const struct slab_heap *h = &a->slab;
    if (run_claim(a, cut.slices, 1, ret_claim))
        return true;
    if (cut.slices == 1)
        return false;
    const struct slab_cut least = slab_cut_small(h->sizes[class], h->shift);
    return least.slices < cut.slices && run_claim(a, least.slices, 1, ret_claim);
}

void
slab_begin(hshm_allocator *a, const struct claim *claim, uint32_t class, uint64_t own, bool remote)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, claim->first);
    const uint32_t blocks = slab_blocks(h, class, claim->count);
    store_relaxed(&record->size, h->sizes[class]);
    store_relaxed(&record->blocks, blocks);
    store_relaxed(&record->class, class);
    const struct slab_numbers numbers = slab_numbers(h->sizes[class], blocks);
    /* Atomic, these and `left`: in a ScalablePage heap, who was slow may still be at the slab that was here before. */
    __atomic_store_n(&record->reciprocal, numbers.reciprocal, __ATOMIC_RELAXED);
    __atomic_store_n(&record->limit, numbers.limit, __ATOMIC_RELAXED);
    store_relaxed(&record->skip, 0);
    store_relaxed(&record->log, 0);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        store_relaxed(&bits_of(record)[word], remote ? 0 : word_mask(word, blocks));
        store_relaxed(&remote_of(h, record)[word], remote ? word_mask(word, blocks) : 0);
    }
    /* `left_from` is released after the bits for take_anywhere(): who makes it 0 after this finds them. */
    __atomic_store_n(&record->left, h->has_owners ? 0 : UINT32_C(0x80000000), __ATOMIC_RELAXED);
    __atomic_store_n(&record->left_from, remote, __ATOMIC_RELEASE);
    /*
     * Release: who sees whose it is sees its record.  ScalablePage: who was slow may still be at the slab that was here before,
     * and takes a block as soon as this is one of the same class, and not locked.  It must not before the slices say so: then
     * its free would not find the slab, and recovery would make the slices free.
     */
    FAILPOINT("slab.described");
    if (h->has_owners) {
        store_release(&record->own, own);
        FAILPOINT("thread.slab_owned");
        run_publish(a, claim, SLICE_SLAB);
        return;
    }
    store_release(&record->own, (own & ~(uint64_t)SLAB_CURRENT) | SLAB_LOCKED);
    FAILPOINT("page.slab_locked");
    run_publish(a, claim, SLICE_SLAB);
    store_release(&record->own, own);
    FAILPOINT("page.slab_current");
}

bool
slab_record_is_sound(const struct slab_heap *h, uint64_t slice, uint64_t found)
{
    const struct slab_record *record = record_of(h, slice);
    const uint32_t class = load_relaxed(&record->class);
    if (class >= h->classes || slice_count(found) == 0 || slice_count(found) > h->count - slice)
        return false;
    const uint32_t blocks = slab_blocks(h, class, slice_count(found));
    if (blocks == 0 || load_relaxed(&record->blocks) != blocks || load_relaxed(&record->size) != h->sizes[class])
        return false;
    const struct slab_numbers numbers = slab_numbers(h->sizes[class], blocks);
    return __atomic_load_n(&record->reciprocal, __ATOMIC_RELAXED) == numbers.reciprocal &&
           __atomic_load_n(&record->limit, __ATOMIC_RELAXED) == numbers.limit;
}

bool
slab_class_aligned(const hshm_allocator *a, uint64_t size, uint64_t alignment, uint32_t *ret_class)
{
    const struct slab_heap *h = &a->slab;
    /* Blocks begin at multiples of their size from the data's begin, in a slice that begins at one of its size. */
    if (((uintptr_t)h->data & (alignment - 1)) != 0 || alignment > UINT64_C(1) << h->shift || size > h->max_size)
        return false;
    for (uint32_t class = slab_class(h, max_u64(size, alignment)); class < h->classes; class ++) {
        if (h->sizes[class] % alignment == 0) {
            *ret_class = class;
            return true;
        }
    }
    return false;
}

/* ---- shelves ---- */

void
shelf_put(const struct slab_heap *h, uint32_t class, uint32_t shelf, uint64_t slice)
{
    _Atomic uint64_t *word = &shelf_bits(h, class, shelf)[slice / WORD_BITS];
    const uint64_t bit = UINT64_C(1) << slice % WORD_BITS;
    FAILPOINT("slab.to_shelve");
    /* Pairs with the AND in shelf_take(): the taker sees the slab as it was put. */
    if ((load_seq_cst(word) & bit) == 0)
        (void)atomic_fetch_or(word, bit);
}

/* Take the first slab in bits [from, end) of a shelf. */
static uint64_t
take_between(_Atomic uint64_t *shelf, uint64_t from, uint64_t end)
{
    while (from < end) {
        _Atomic uint64_t *word = &shelf[from / WORD_BITS];
        const uint64_t bits = load_relaxed(word) & UINT64_MAX << from % WORD_BITS;
        const uint64_t bit = bits & -bits;
        if (bits == 0)
            from = align_down(from, WORD_BITS) + WORD_BITS;
        else if ((atomic_fetch_and(word, ~bit) & bit) != 0)
            return align_down(from, WORD_BITS) + (uint64_t)__builtin_ctzll(bit) + 1;
    }
    return 0;
}

uint64_t
shelf_take(const struct slab_heap *h, uint32_t class, uint32_t shelf)
{
    _Atomic uint64_t *bits = shelf_bits(h, class, shelf);
    _Atomic uint64_t *cursor = bits - 1;
    const uint64_t end = run_high(h);
    const uint64_t from = min_u64(load_relaxed(cursor), end);
    uint64_t taken = take_between(bits, from, end);
    if (taken == 0)
        taken = take_between(bits, 0, end);
    if (taken != 0) {
        FAILPOINT("slab.off_shelf");
        store_relaxed(cursor, taken);
    }
    return taken <= h->count ? taken : 0;
}

/* ---- large blocks ---- */

static bool
slices_are_aligned(const struct slab_heap *h)
{
    return ((uintptr_t)h->data & ((UINT64_C(1) << h->shift) - 1)) == 0;
}

bool
large_fits(const hshm_allocator *a, size_t size, size_t alignment)
{
    const struct slab_heap *h = &a->slab;
    return size <= h->count << h->shift && (slices_are_aligned(h) || ((uintptr_t)h->data & (alignment - 1)) == 0);
}

uint64_t
large_slices(const struct slab_heap *h, size_t size)
{
    return (max_u64(size, 1) + (UINT64_C(1) << h->shift) - 1) >> h->shift;
}

static void *
begin_for(hshm_allocator *a, const struct claim *claim, size_t alignment, uint32_t life)
{
    struct slab_heap *h = &a->slab;
    const uintptr_t begin = (uintptr_t)slice_address(h, claim->first);
    const uint64_t skip = align_up(begin, alignment) - begin;
    store_relaxed(&record_of(h, claim->first)->skip, skip);
    store_relaxed(&record_of(h, claim->first)->life, life);
    FAILPOINT("slab.large_described");
    run_publish(a, claim, SLICE_RUN);
    return (void *)(begin + skip);
}

void *
large_begin(hshm_allocator *a, const struct claim *claim, size_t alignment)
{
    return begin_for(a, claim, alignment, 0);
}

/*
 * Where slices do not begin at multiples of the alignment in this process, the block begins inside the first slice; the
 * record says where, and there are more slices for it.
 */
void *
large_take_for(hshm_allocator *a, size_t size, size_t alignment, uint32_t life, bool *ret_zero)
{
    struct slab_heap *h = &a->slab;
    const uint64_t slice = UINT64_C(1) << h->shift;
    const uint64_t extra = large_fits(a, 0, alignment) ? 0 : alignment;
    uint64_t bytes;
    struct claim claim;
    if (__builtin_add_overflow(max_u64(size, 1), extra + slice - 1, &bytes) ||
        !run_claim(a, bytes >> h->shift, extra == 0 && slices_are_aligned(h) ? alignment : 1, &claim))
        return NULL;
    *ret_zero = claim.zero;
    return begin_for(a, &claim, alignment, life);
}

void *
large_take(hshm_allocator *a, size_t size, size_t alignment, bool *ret_zero)
{
    return large_take_for(a, size, alignment, 0, ret_zero);
}

bool
large_give(hshm_allocator *a, const struct block_place *place)
{
    if (!run_free(a, place->slice, place->found))
        return false;
    (void)atomic_fetch_add_explicit(&a->slab.root->frees, 1, memory_order_relaxed);
    return true;
}

/* ---- for user slots; see op_log.h ---- */

/* Claimed slices become a large block for a slot; or nobody's, if the slot does not want it. */
void *
large_for(hshm_allocator *a, const struct claim *claim, struct op *op)
{
    if (op_candidate(a, op, slice_address(&a->slab, claim->first)))
        return large_begin(a, claim, 1);
    run_unclaim(a, claim);
    return NULL;
}

/* A claim of ours first, which recovery knows for what it is; and `won`, before it can be anything else's. */
static hshm_status
give_large_for(hshm_allocator *a, struct op *op, const struct block_place *place)
{
    struct claim claim;
    run_mend(&a->slab, place->slice, place->found);
    if (!run_keep(a, place->slice, place->found, &claim))
        return allocator_bad_free(a, slice_address(&a->slab, place->slice));
    FAILPOINT("slab.large_kept_for_slot");
    atomic_store(&op->log->won, 1);
    FAILPOINT("slab.large_won_for_slot");
    run_unclaim(a, &claim);
    (void)atomic_fetch_add_explicit(&a->slab.root->frees, 1, memory_order_relaxed);
    return HSHM_OK;
}

NO_INLINE void
slab_tell_logs(hshm_allocator *a, uint64_t slice, enum op_whose whose)
{
    const uint64_t begin = a->layout.data_off + (slice << a->slab.shift);
    const uint64_t found = load_relaxed(&a->slab.slices[slice]);
    op_acknowledge(a, begin, begin + (slice_count(found) << a->slab.shift), whose);
}

hshm_status
slab_give_for(hshm_allocator *a, struct op *op, void *addr)
{
    struct block_place place;
    if (!slab_find(a, addr, &place) || !slab_is_live(a, &place))
        return allocator_bad_free(a, addr);
    if (slice_state(place.found) == SLICE_RUN)
        return give_large_for(a, op, &place);
    if (a->slab
            .has_owners) /* its own blocks nobody else takes, and others' are freed where they must be acknowledged */
        return hshm_free(a, addr);
    return a->ops.give_elsewhere(a, &place) ? HSHM_OK : allocator_bad_free(a, addr);
}

/* May a block stay where it is?  Not if less than half of it would be used. */
static bool
fits(const hshm_allocator *a, const struct block_place *place, size_t size)
{
    if (size > place->size)
        return false;
    return size > place->size / 2 || place->size == a->slab.sizes[0];
}

static bool
resize_run(hshm_allocator *a, const struct block_place *place, size_t size)
{
    const struct slab_heap *h = &a->slab;
    uint64_t bytes;
    if (size <= h->max_size / 2 ||
        __builtin_add_overflow(size, load_relaxed(&place->record->skip) + (UINT64_C(1) << h->shift) - 1, &bytes))
        return false;
    return run_resize(a, place->slice, place->found, bytes >> h->shift);
}

void *
slab_realloc(hshm_allocator *a, void *addr, size_t size)
{
    struct block_place place;
    if (!slab_find(a, addr, &place) || !slab_is_live(a, &place)) {
        (void)allocator_bad_free(a, addr);
        return NULL;
    }
    const bool stays = slice_state(place.found) == SLICE_RUN ? resize_run(a, &place, size) : fits(a, &place, size);
    if (stays)
        return addr;
    void *moved = lifetime_malloc_like(a, &place, size);
    if (moved == NULL && size <= place.size) { /* smaller always works, and is no failure */
        (void)atomic_fetch_sub_explicit(&a->slab.root->failures, 1, memory_order_relaxed);
        return addr;
    }
    if (moved == NULL)
        return NULL;
    const bool is_copied = allocator_move_bytes(a, moved, addr, min_u64(size, place.size));
    FAILPOINT("slab.realloc_copied");
    (void)hshm_free(a, is_copied ? addr : moved);
    return is_copied ? moved : NULL;
}

/* ---- no room ---- */

void
slab_count_failure(hshm_allocator *a)
{
    (void)atomic_fetch_add_explicit(&a->slab.root->failures, 1, memory_order_relaxed);
}

void *
slab_no_room(hshm_allocator *a, size_t size)
{
    slab_count_failure(a);
    return allocator_no_room(a, size, run_longest_free(&a->slab) << a->slab.shift);
}
