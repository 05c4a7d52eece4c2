/*
 * judge.c - a process of its own that recovers, checks and accounts for every block, while the living wait at the gate.
 */
#include "storm.h"

#include <stdlib.h>
#include <unistd.h>

#include "allocator/allocator.h"
#include "allocator/user_slot.h"
#include "base/checked.h"

#define MIB (UINT64_C(1) << 20)
enum { GRANULES = REGION_MIB * 1024 * 1024 / 16, BLOCK_PERCENT = 90 };

/* Which blocks somebody has, a bit for each granule of the region; and what a visit finds. */
struct account {
    struct caller caller;
    const struct subject *subject;
    struct storm *storm;
    uint64_t known[GRANULES / 64];
    uint64_t in_hand[GRANULES / 64];
    uint64_t slabs[GRANULES / 64]; /* by slice: has a live block */
    uint64_t blocks, bytes;        /* live                       */
    uint64_t accounted, leaked, may_lose;
    hshm_block lost[8]; /* the first that leaked */
    bool free_all;
};

static bool
set_bit(uint64_t *bits, uint64_t at)
{
    const uint64_t bit = UINT64_C(1) << at % 64;
    const bool was = (bits[at / 64] & bit) != 0;
    bits[at / 64] |= bit;
    return was;
}

static bool
get_bit(const uint64_t *bits, uint64_t at)
{
    return (bits[at / 64] >> at % 64 & 1) != 0;
}

static hshm_stats
stats_now(struct account *a)
{
    hshm_stats stats = HSHM_STATS_INIT;
    if (hshm_stats_get(our_heap, &stats) != HSHM_OK)
        storm_fault(a->storm, FAULT_ANSWER, "stats: %s", hshm_last_error());
    return stats;
}

/* ---- recovery, and what must be true after it ---- */

/* The counts of slices, by which pages go back to the system, must not drift from kill to kill. */
static void
check_counts(struct account *a)
{
    const struct slab_heap *h = &our_heap->slab;
    uint64_t used = 0;
    uint64_t dirty = 0;
    for (uint64_t slice = 0; slice < h->count; slice++) {
        const uint64_t word = load_relaxed(&h->slices[slice]);
        used += !slice_is_free(word);
        dirty += slice_state(word) == SLICE_DIRTY;
    }
    if (load_relaxed(&h->root->used) != used || load_relaxed(&h->root->dirty) != dirty)
        storm_fault(a->storm, FAULT_CHECK, "%llu slices are used, not %llu; %llu are dirty, not %llu",
                    (unsigned long long)used, (unsigned long long)load_relaxed(&h->root->used),
                    (unsigned long long)dirty, (unsigned long long)load_relaxed(&h->root->dirty));
}

static void
recover(struct account *a)
{
    hshm_recover_report report = HSHM_RECOVER_REPORT_INIT;
    const uint64_t begin = now_ns();
    call_begin(&a->caller, CALL_RECOVER);
    const hshm_status status = hshm_recover(our_heap, &report);
    call_end(&a->caller);
    const uint64_t took = now_ns() - begin;
    if (a->storm->verdicts.recover_ns < took)
        a->storm->verdicts.recover_ns = took;
    if (status != HSHM_OK)
        storm_fault(a->storm, FAULT_ANSWER, "recover: %s", hshm_last_error());
    /* Counted by recovery alone, and exactly when nobody else works. */
    if (report.processes > 0 && a->subject->kind != HSHM_ALLOCATOR_STACK)
        check_counts(a);
    call_begin(&a->caller, CALL_CHECK);
    if (hshm_check(our_heap, 0, NULL) != HSHM_OK)
        storm_fault(a->storm, FAULT_CHECK, "%s", hshm_last_error());
    call_end(&a->caller);
}

/* ---- who has which block ---- */

static uint64_t
granule_of(struct account *a, uint64_t what)
{
    return a->subject->to_off(entry_block(a->subject, what)) / 16;
}

static void
know(struct account *a, uint64_t granule)
{
    a->accounted++;
    if (set_bit(a->known, granule))
        storm_fault(a->storm, FAULT_CONTENT, "two have the block at offset %llu", (unsigned long long)granule * 16);
}

static void
know_entry(struct account *a, const struct entry *entry)
{
    const uint64_t what = atomic_load(&entry->what);
    if (what == 0)
        return;
    (void)read_block(a->subject, a->storm, what);
    know(a, granule_of(a, what));
}

static void
know_slot(struct account *a, hshm_slot *slot, const struct entry *content)
{
    const hshm_off off = hshm_slot_load(slot);
    if (user_slot_state(slot->word) > USER_SLOT_FULL)
        storm_fault(a->storm, FAULT_CHECK, "a slot is still being changed, by nobody: %llx",
                    (unsigned long long)slot->word);
    const uint64_t what = content != NULL ? atomic_load(&content->what) : 0;
    if (off != HSHM_OFF_NULL)
        know(a, off / 16);
    if (what == 0)
        return;
    if (granule_of(a, what) != off / 16)
        storm_fault(a->storm, FAULT_CONTENT, "a slot lost its block");
    else
        (void)read_block(a->subject, a->storm, what);
}

static void
know_all(struct account *a)
{
    struct user_slots *slots = hshm_allocator_custom_header(our_heap, NULL);
    for (unsigned w = 0; w < PROCESSES_MAX; w++) {
        for (unsigned t = 0; t < THREADS_MAX; t++) {
            const struct holder *holder = &a->storm->workers[w].holders[t];
            for (unsigned i = 0; i < HELD; i++)
                know_entry(a, &holder->entries[i]);
            for (unsigned i = 0; i < OWN_SLOTS; i++)
                know_slot(a, &slots->own[w][t][i], &holder->own[i]);
        }
    }
    for (unsigned i = 0; i < MARKET; i++)
        know_entry(a, &a->storm->market[i]);
    for (unsigned i = 0; i < SHARED_SLOTS; i++)
        know_slot(a, &slots->shared[i], NULL);
    for (unsigned i = 0; i < a->storm->dead_count; i++) {
        const struct dead *dead = &a->storm->dead[i];
        a->may_lose += dead->may_lose;
        if (dead->hand != 0)
            (void)set_bit(a->in_hand, granule_of(a, dead->hand));
    }
}

/* ---- which blocks there are ---- */

static void
free_block(struct account *a, const hshm_block *block)
{
    if (hshm_free(our_heap, block->addr) != HSHM_OK)
        storm_fault(a->storm, FAULT_ANSWER, "free: %s", hshm_last_error());
}

static int
count(const hshm_block *block, void *arg)
{
    struct account *a = arg;
    struct block_place place;
    a->blocks++;
    a->bytes += block->size;
    if (a->subject->kind != HSHM_ALLOCATOR_STACK && slab_find(our_heap, block->addr, &place))
        (void)set_bit(a->slabs, place.slice);
    return 0;
}

/* What nobody knows becomes free, so that it is counted once. */
static int
sort_out(const hshm_block *block, void *arg)
{
    struct account *a = arg;
    const bool known = get_bit(a->known, block->off / 16);
    if (!known && !get_bit(a->in_hand, block->off / 16)) {
        if (a->leaked < sizeof a->lost / sizeof a->lost[0])
            a->lost[a->leaked] = *block;
        a->leaked++;
    }
    if (!known || a->free_all)
        free_block(a, block);
    return 0;
}

static void
check_stats(struct account *a)
{
    const hshm_stats stats = stats_now(a);
    a->blocks = a->bytes = 0;
    (void)hshm_visit_blocks(our_heap, count, a);
    if (stats.live_blocks != a->blocks || stats.live_bytes != a->bytes)
        storm_fault(a->storm, FAULT_STATS, "%llu blocks of %llu bytes are live, not %llu of %llu",
                    (unsigned long long)a->blocks, (unsigned long long)a->bytes, (unsigned long long)stats.live_blocks,
                    (unsigned long long)stats.live_bytes);
}

static void
tell_leak(struct account *a)
{
    storm_fault(a->storm, FAULT_LEAK, "%llu live blocks are nobody's; the dead may have lost %llu",
                (unsigned long long)a->leaked, (unsigned long long)a->may_lose);
    for (unsigned i = 0; i < a->leaked && i < sizeof a->lost / sizeof a->lost[0]; i++)
        storm_fault(a->storm, FAULT_LEAK, "  one of %llu bytes at %llu", (unsigned long long)a->lost[i].size,
                    (unsigned long long)a->lost[i].off);
    for (unsigned i = 0; i < a->storm->dead_count; i++) {
        const struct dead *dead = &a->storm->dead[i];
        storm_fault(a->storm, FAULT_LEAK, "  killed in %s, may have lost %u, had %llx in hand",
                    dead->call == CALLS ? "no call" : call_names[dead->call], (unsigned)dead->may_lose,
                    (unsigned long long)dead->hand);
    }
}

static void
settle_accounts(struct account *a)
{
    struct storm *storm = a->storm;
    know_all(a);
    check_stats(a);
    const uint64_t blocks = a->blocks;
    (void)hshm_visit_blocks(our_heap, sort_out, a);
    if (blocks < a->accounted)
        storm_fault(storm, FAULT_CONTENT, "%llu blocks are held, and only %llu are live",
                    (unsigned long long)a->accounted, (unsigned long long)blocks);
    storm->verdicts.leaked += a->leaked;
    storm->verdicts.allowed += a->may_lose;
    if (a->leaked > a->may_lose)
        tell_leak(a);
    storm->dead_count = 0;
}

/* Nobody has anything any more. */
static void
forget_all(struct account *a)
{
    struct user_slots *slots = hshm_allocator_custom_header(our_heap, NULL);
    for (unsigned w = 0; w < PROCESSES_MAX; w++) {
        for (unsigned t = 0; t < THREADS_MAX; t++) {
            struct holder *holder = &a->storm->workers[w].holders[t];
            for (unsigned i = 0; i < HELD; i++)
                atomic_store(&holder->entries[i].what, 0);
            for (unsigned i = 0; i < OWN_SLOTS; i++)
                atomic_store(&holder->own[i].what, 0);
        }
    }
    for (unsigned i = 0; i < MARKET; i++)
        atomic_store(&a->storm->market[i].what, 0);
    *slots = (struct user_slots){ 0 };
}

/* ---- the end: what is free comes back ---- */

static void
trim(struct account *a)
{
    call_begin(&a->caller, CALL_TRIM);
    if (hshm_trim(our_heap, 0, NULL) != HSHM_OK)
        storm_fault(a->storm, FAULT_ANSWER, "trim: %s", hshm_last_error());
    call_end(&a->caller);
}

/* Once all the rest was given back: bytes of the tables, and of slabs and large blocks with a live block in them; whole pages. */
static uint64_t
needed(const struct account *a, const hshm_stats *stats)
{
    uint64_t bytes = stats->region_bytes - stats->data_bytes;
    if (a->subject->kind == HSHM_ALLOCATOR_STACK)
        return align_up(bytes + stats->used_bytes, our_heap->system.page_size);
    const struct slab_heap *h = &our_heap->slab;
    for (uint64_t slice = 0; slice < h->count; slice++) {
        if (get_bit(a->slabs, slice))
            bytes += slice_count(load_relaxed(&h->slices[slice])) << h->shift;
    }
    return align_up(bytes, our_heap->system.page_size);
}

/* Everyone is dead: trimmed, the heap has no more memory than its live blocks need. */
static void
weigh(struct account *a)
{
    struct verdicts *v = &a->storm->verdicts;
    trim(a);
    check_stats(a);
    const hshm_stats stats = stats_now(a);
    const uint64_t tables = stats.region_bytes - stats.data_bytes;
    const uint64_t need = needed(a, &stats);
    v->live_blocks = stats.live_blocks;
    v->live_bytes = stats.live_bytes;
    v->used_bytes = stats.used_bytes;
    v->committed = stats.committed;
    if (stats.committed > need || stats.used_bytes + tables > need)
        storm_fault(a->storm, FAULT_MEMORY, "%llu bytes are used, %llu committed; live blocks and tables need %llu",
                    (unsigned long long)stats.used_bytes, (unsigned long long)stats.committed,
                    (unsigned long long)need);
}

static void
empty(struct account *a)
{
    if (a->subject->kind == HSHM_ALLOCATOR_STACK && hshm_stack_reset(our_heap) != HSHM_OK)
        storm_fault(a->storm, FAULT_ANSWER, "reset: %s", hshm_last_error());
    forget_all(a);
    const hshm_stats stats = stats_now(a);
    if (stats.live_blocks != 0)
        storm_fault(a->storm, FAULT_STATS, "everything is free, and %llu blocks are live",
                    (unsigned long long)stats.live_blocks);
}

static void
take_most(struct account *a)
{
    trim(a);
    const hshm_stats stats = stats_now(a);
    a->storm->verdicts.committed_empty = stats.committed;
    if (stats.committed > stats.region_bytes - stats.data_bytes + MIB / 2)
        storm_fault(a->storm, FAULT_MEMORY, "everything is free, and %llu bytes are committed",
                    (unsigned long long)stats.committed);
    void *block = hshm_malloc(our_heap, stats.data_bytes / 100 * BLOCK_PERCENT);
    if (block == NULL || hshm_free(our_heap, block) != HSHM_OK)
        storm_fault(a->storm, FAULT_MEMORY, "everything is free, and %d %% of it are no block: %s", BLOCK_PERCENT,
                    hshm_last_error());
}

static struct account *
account_make(const struct subject *subject, struct storm *storm)
{
    struct account *a = calloc(1, sizeof *a);
    if (a == NULL)
        _exit(1);
    a->subject = subject;
    a->storm = storm;
    a->caller = caller_make(storm, &storm->judge);
    return a;
}

_Noreturn void
judge_recover(struct storm *storm)
{
    struct caller caller = caller_make(storm, &storm->judge);
    call_begin(&caller, CALL_RECOVER);
    (void)hshm_recover(our_heap, NULL);
    call_end(&caller);
    _exit(0);
}

_Noreturn void
judge_run(const struct subject *subject, struct storm *storm, bool last)
{
    struct account *a = account_make(subject, storm);
    recover(a);
    if (last)
        weigh(a);
    /* A Stack is not emptied by what is freed inside it. */
    a->free_all = last || subject->kind == HSHM_ALLOCATOR_STACK;
    settle_accounts(a);
    if (a->free_all)
        empty(a);
    if (last)
        take_most(a);
    storm->verdicts.judged++;
    _exit(0);
}
