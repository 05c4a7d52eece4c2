/*
 * slab_look.c - those who only read a heap of slabs: visit, statistics; and slab_check.c.
 *
 * Both walk the slices once, in order, within bounds of this process's own; what they read of the region is looked at before
 * it is used.  Others may work meanwhile.
 */
#include "allocator/allocator.h"
#include "base/bits.h"
#include "base/checked.h"

#define UNCOUNTED_MAX UINT32_C(0x7fff0000) /* owners count from 2^31 down, or from a number of blocks */

/* Local: a slab as a walk sees it. */
struct seen {
    struct slab_record *record;
    uint64_t slice;
    uint64_t found; /* that slice's word */
    uint32_t size;
    uint32_t blocks;
    uint32_t class;
};

/* False when its record makes no sense: in a damaged region, or because it is being made into something else. */
static bool
see_slab(const struct slab_heap *h, uint64_t slice, uint64_t found, struct seen *ret_seen)
{
    struct slab_record *record = record_of(h, slice);
    const struct seen seen = {
        record, slice, found, load_relaxed(&record->size), load_relaxed(&record->blocks), load_relaxed(&record->class)
    };
    *ret_seen = seen;
    return seen.class < h->classes && seen.size == h->sizes[seen.class] && slice_count(found) <= h->count - slice &&
           seen.blocks <= h->words * WORD_BITS && seen.blocks <= (slice_count(found) << h->shift) / seen.size;
}

/*
 * Is it still the slab that was seen?  It may go in the middle of a walk, by others or by what a visit calls, and in one that
 * goes (ScalablePage: LOCKED, or LOCKED last) blocks look as if they were live.
 */
static bool
is_there(const struct slab_heap *h, const struct seen *seen)
{
    return (load_seq_cst(&seen->record->own) & (SLAB_IS | SLAB_LOCKED)) == SLAB_IS &&
           load_seq_cst(&h->slices[seen->slice]) == seen->found && load_relaxed(&seen->record->class) == seen->class;
}

static uint64_t
live_word(const struct slab_heap *h, const struct seen *seen, uint32_t word)
{
    const uint64_t freed = load_seq_cst(&bits_of(seen->record)[word]) | load_seq_cst(&remote_of(h, seen->record)[word]);
    const uint64_t live = ~freed & word_mask(word, seen->blocks);
    /* Asked after the bits were read: who takes them for good has said LOCKED before. */
    return live == 0 || is_there(h, seen) ? live : 0;
}

/* ---- visit ---- */

static int
visit_slab(const hshm_allocator *a, const struct seen *seen, hshm_visit_fn fn, void *arg)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t begin = seen->slice << h->shift;
    for (uint32_t word = 0; word < words_for(seen->blocks); word++) {
        for (uint64_t live = live_word(h, seen, word); live != 0; live &= live - 1) {
            const uint64_t off = begin + (word * (uint64_t)WORD_BITS + (uint64_t)__builtin_ctzll(live)) * seen->size;
            const hshm_block block = { h->data + off, a->layout.data_off + off, seen->size };
            const int ended = fn(&block, arg);
            if (ended != 0)
                return ended;
        }
    }
    return 0;
}

/* Usable bytes of a run; 0 when its words make no sense. */
static uint64_t
see_run(const struct slab_heap *h, uint64_t slice, uint64_t found, uint64_t *ret_skip)
{
    const uint64_t bytes = slice_count(found) << h->shift;
    *ret_skip = load_relaxed(&record_of(h, slice)->skip);
    return slice_count(found) > h->count - slice || *ret_skip >= bytes ? 0 : bytes - *ret_skip;
}

static int
visit_run(const hshm_allocator *a, uint64_t slice, uint64_t found, hshm_visit_fn fn, void *arg)
{
    const struct slab_heap *h = &a->slab;
    uint64_t skip;
    const uint64_t size = see_run(h, slice, found, &skip);
    if (size == 0)
        return 0;
    const uint64_t off = (slice << h->shift) + skip;
    const hshm_block block = { h->data + off, a->layout.data_off + off, size };
    return fn(&block, arg);
}

hshm_status
slab_visit(hshm_allocator *a, hshm_visit_fn fn, void *arg)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    for (uint64_t slice = 0; slice < high; slice++) {
        const uint64_t found = load_acquire(&h->slices[slice]);
        struct seen seen;
        int ended = 0;
        if (slice_state(found) == SLICE_SLAB && see_slab(h, slice, found, &seen))
            ended = visit_slab(a, &seen, fn, arg);
        else if (slice_state(found) == SLICE_RUN)
            ended = visit_run(a, slice, found, fn, arg);
        if (ended != 0)
            break;
    }
    return HSHM_OK;
}

/* ---- statistics ---- */

/* What the owner has not counted yet.  It changes the two words without a lock; each is whole, and they belong together
 * nearly always: no tool needs more. */
#if defined(__clang__) || defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread")))
#endif
static uint64_t
uncounted_frees(const struct slab_record *record)
{
    const uint32_t left = *(const volatile uint32_t *)&record->left;
    const uint32_t from = *(const volatile uint32_t *)&record->left_from;
    /* One of them from before, and one from after its owner began to count anew, are nothing like a count. */
    return from - left <= UNCOUNTED_MAX ? from - left : 0;
}

static void
count_slab(const struct slab_heap *h, const struct seen *seen, hshm_stats *stats)
{
    uint64_t live = 0;
    for (uint32_t word = 0; word < words_for(seen->blocks); word++) {
        live += bits_count(live_word(h, seen, word));
        if (h->has_owners) /* freed by others, not counted by the owner yet */
            stats->frees += bits_count(load_relaxed(&remote_of(h, seen->record)[word]) &
                                       ~load_relaxed(&bits_of(seen->record)[word]));
    }
    stats->live_blocks += live;
    stats->live_bytes += live * seen->size;
    if (h->has_owners)
        stats->frees += uncounted_frees(seen->record);
}

static void
count_slice(const struct slab_heap *h, uint64_t slice, hshm_stats *stats)
{
    const uint64_t found = load_acquire(&h->slices[slice]);
    struct seen seen;
    if (!slice_is_free(found))
        stats->used_bytes += UINT64_C(1) << h->shift;
    if (slice_state(found) == SLICE_SLAB && see_slab(h, slice, found, &seen))
        count_slab(h, &seen, stats);
    if (slice_state(found) == SLICE_RUN) {
        uint64_t skip;
        const uint64_t size = see_run(h, slice, found, &skip);
        stats->live_blocks += size != 0;
        stats->live_bytes += size;
    }
}

void
slab_stats(hshm_allocator *a, hshm_stats *ret_stats)
{
    struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    for (uint64_t slice = 0; slice < high; slice++) {
        const uint64_t idle = run_idle_at(h, slice);
        if (idle == 0)
            count_slice(h, slice, ret_stats);
        else
            slice += idle - 1;
    }
    ret_stats->frees += load_relaxed(&h->root->frees);
    const uint64_t threads = min_u64(load_relaxed(&h->root->threads_high), h->thread_slots);
    for (uint64_t slot = 0; slot < threads; slot++)
        ret_stats->frees += load_relaxed(&h->threads[slot].frees);
    for (uint32_t shard = 0; shard < h->shard_count; shard++)
        ret_stats->frees += load_relaxed(&shard_at(h, shard)->frees);
    if (!h->has_owners)
        ret_stats->frees += page_uncounted_frees(a);
    ret_stats->peak_bytes = max_u64(min_u64(load_relaxed(&h->root->peak), h->count) << h->shift, ret_stats->used_bytes);
    ret_stats->largest_free = run_longest_free(h) << h->shift;
    ret_stats->allocs = ret_stats->live_blocks + ret_stats->frees;
    ret_stats->failures = load_relaxed(&h->root->failures);
}
