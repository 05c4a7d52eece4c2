/*
 * slab_recover.c - what dead processes left, and words that their deaths left derived from nothing.
 *
 * Who is dead, the locks tell (allocator_system.seize); while one cleans up after a process, nobody else does, nor takes its
 * slot.  All of it may be repeated, and be killed itself: each step leaves what a later walk finds again, and the dead
 * one's slots become free last.
 *
 * The words of a process, and what becomes of them:
 *     CLAIMED    free; or REST, inside a run that was just growing or shrinking
 *     FREEING    free
 *     LOCKED     unlocked; ScalablePage: the words taken so far are put back
 *     a thread's slabs   orphans; free, if they have no live block
 *     a CURRENT slab that no shard has           shelved; one that is LEAVING, whoever says so
 * and of everyone: all threads are mailed (someone may have freed a block and died before it told the owner), slabs with free
 * blocks are shelved, bits of taken slices follow their words, and slices are counted anew.
 */
#include "allocator/allocator.h"
#include "allocator/lifetime.h"
#include "allocator/page_slab.h"
#include "base/bits.h"
#include "base/checked.h"
#include "base/failpoint.h"

enum { DEAD_THREADS_WORDS = 65536 / WORD_BITS };
#define ANY_PROCESS UINT64_MAX              /* no word can name it     */
#define NO_PROCESS (SLICE_PROCESS_MASK + 1) /* nor this; it is nobody */

/* Which thread slots are of the process that is cleaned up after, a bit each. */
struct dead_threads {
    uint64_t bits[DEAD_THREADS_WORDS];
};

/* A report that nobody reads. */
#define NO_REPORT (&(hshm_recover_report){ 0 })

/* ---- ThreadLocal ---- */

static bool
is_all_free(const struct slab_heap *h, struct slab_record *record, uint64_t *ret_remote)
{
    const uint32_t blocks = blocks_of(h, record);
    *ret_remote = 0;
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        const uint64_t bits = load_seq_cst(&bits_of(record)[word]);
        const uint64_t remote = load_seq_cst(&remote_of(h, record)[word]);
        *ret_remote += bits_count(remote & ~bits);
        if (((bits | remote) & word_mask(word, blocks)) != word_mask(word, blocks))
            return false;
    }
    return true;
}

/* Nobody takes from it any more; who is freeing a block of it for a slot must know that it did. */
static bool
retire_locked(hshm_allocator *a, uint64_t slice, uint64_t found)
{
    slab_acknowledge(a, slice, OP_ANYONES);
    return run_free(a, slice, found);
}

bool
slab_retire_orphan(hshm_allocator *a, uint64_t slice)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    for (;;) {
        uint64_t own = load_seq_cst(&record->own);
        uint64_t remote;
        if (slice_state(load_acquire(&h->slices[slice])) != SLICE_SLAB || !is_all_free(h, record, &remote) ||
            (own & ~(uint64_t)SLAB_NEWS) != SLAB_IS ||
            !cas_seq_cst(&record->own, &own, SLAB_IS | SLAB_LOCKED | (uint64_t)a->process << 32))
            return false;
        FAILPOINT("thread.orphan_locked");
        /* Locked: nobody takes from it, and it stays what it is.  It may be another slab than the one looked at before. */
        const uint64_t found = load_acquire(&h->slices[slice]);
        const bool is_sound = slab_record_is_sound(h, slice, found);
        if (is_sound && is_all_free(h, record, &remote) && retire_locked(a, slice, found)) {
            (void)atomic_fetch_add_explicit(&h->root->frees, remote, memory_order_relaxed);
            return true;
        }
        atomic_store(&record->own, SLAB_IS);
        if (!is_sound)
            return false; /* in a damaged region */
        shelf_put(h, load_relaxed(&record->class) % h->classes, 0, slice);
    }
}

/* Is the process that a word names the one that is cleaned up after? */
static bool
is_of(uint64_t named, uint64_t process)
{
    return named == process || process == ANY_PROCESS;
}

static bool
is_dead_thread(const struct dead_threads *dead, uint64_t own)
{
    const uint64_t slot = (own >> 8 & 0xffffff) - 1;
    return slot < DEAD_THREADS_WORDS * (uint64_t)WORD_BITS &&
           (dead->bits[slot / WORD_BITS] >> slot % WORD_BITS & 1) != 0;
}

/*
 * Its owner died between the two stores of a harvest: the blocks are free already, and were freed once.  Bits that others set
 * meanwhile are of live blocks, and stay; nobody takes from a slab of the dead.
 */
static void
finish_harvest(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t blocks = blocks_of(h, record);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        const uint64_t both = load_seq_cst(&bits_of(record)[word]) & load_seq_cst(&remote_of(h, record)[word]);
        if (both != 0)
            (void)atomic_fetch_and(&remote_of(h, record)[word], ~both);
    }
}

/* A slab of a dead thread, or one that a dead process had locked, becomes an orphan. */
static void
orphan(hshm_allocator *a, uint64_t slice, uint64_t own, hshm_recover_report *report)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    if ((own >> 8 & 0xffffff) != 0)
        (void)atomic_fetch_add_explicit(&h->root->frees, record->left_from - record->left, memory_order_relaxed);
    record->left = record->left_from = 0;
    FAILPOINT("thread.dead_counted");
    finish_harvest(h, record);
    FAILPOINT("thread.dead_harvested");
    atomic_store(&record->own, SLAB_IS);
    FAILPOINT("thread.dead_orphaned");
    report->slabs++;
    shelf_put(h, load_relaxed(&record->class) % h->classes, 0, slice);
    (void)slab_retire_orphan(a, slice);
}

static void
mail_everyone(const struct slab_heap *h)
{
    const uint64_t high = min_u64(load_acquire(&h->root->threads_high), h->thread_slots);
    for (uint64_t slot = 0; slot < high; slot++) {
        if (load_relaxed(&h->threads[slot].owner) == 0)
            continue;
        for (uint32_t word = 0; word < h->mail_words; word++)
            (void)atomic_fetch_or(&h->mail[slot * h->mail_words + word], UINT64_MAX);
        (void)atomic_fetch_or(&h->threads[slot].mail, UINT64_MAX);
    }
}

static bool
find_dead_threads(const struct slab_heap *h, uint32_t process, struct dead_threads *ret_dead)
{
    const uint64_t high = min_u64(load_acquire(&h->root->threads_high), h->thread_slots);
    bool any = false;
    *ret_dead = (struct dead_threads){ { 0 } };
    for (uint64_t slot = 0; slot < high; slot++) {
        if (load_relaxed(&h->threads[slot].owner) != (1 | (uint64_t)process << THREAD_OWNER_SHIFT))
            continue;
        ret_dead->bits[slot / WORD_BITS] |= UINT64_C(1) << slot % WORD_BITS;
        any = true;
    }
    return any;
}

static void
free_dead_threads(const struct slab_heap *h, const struct dead_threads *dead, hshm_recover_report *report)
{
    for (uint64_t slot = 0; slot < h->thread_slots; slot++) {
        if ((dead->bits[slot / WORD_BITS] >> slot % WORD_BITS & 1) == 0)
            continue;
        store_release(&h->threads[slot].owner, 0);
        FAILPOINT("thread.dead_slot_free");
        report->threads++;
    }
}

/* ---- ScalablePage ---- */

/*
 * The dead one took the words that it logged, and perhaps the next, of which page_slab.c tells what it leaves: a sign in the word,
 * home bits that were becoming shared ones, or no shared bit of many.  A shared bit of few that is 0 is another taker's, who puts
 * it back or keeps it.
 */
static uint64_t
bits_of_the_dead(const struct slab_heap *h, struct slab_record *record, uint32_t word, uint64_t mask)
{
    const uint64_t home = load_seq_cst(&bits_of(record)[word]);
    const uint64_t shared = load_seq_cst(&remote_of(h, record)[word]);
    const uint64_t log = load_acquire(&record->log);
    const uint64_t moving = load_seq_cst(&record->skip);
    if ((log >> word & 1) != 0 || (mask != UINT64_MAX && (shared & SLAB_WORD_TAKEN) != 0))
        return mask & ~home;
    if (mask != UINT64_MAX || log != (UINT64_C(1) << word) - 1)
        return 0;
    if (moving != 0)
        return home == 0 && (shared & moving) == 0 ? moving : 0;
    return shared == 0 && bits_count(~home) >= SLAB_WORD_MANY ? ~home : 0;
}

static void
restore_words(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t blocks = blocks_of(h, record);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        const uint64_t mask = word_mask(word, blocks);
        const uint64_t bits = bits_of_the_dead(h, record, word, mask);
        if (bits != 0 || mask != UINT64_MAX)
            page_put_word(h, record, word, bits);
        FAILPOINT("page.dead_word_put");
    }
    store_release(&record->skip, 0);
    FAILPOINT("page.dead_home_done");
    store_release(&record->log, 0);
    FAILPOINT("page.dead_unlogged");
}

/*
 * CURRENT, and in no shard: the dead one was about to lead one to it; or it has led one elsewhere, and then the slab is LEAVING, by
 * the name of whoever meant to do so last.  If that one lives, it finds done what it was about to do.
 */
static bool
shelve_left(hshm_allocator *a, uint64_t slice, uint64_t process)
{
    for (;;) {
        const uint64_t own = load_seq_cst(&record_of(&a->slab, slice)->own);
        if (!page_is_current(own) || ((own & SLAB_LEAVING) == 0 && !is_of(page_own_process(own), process)) ||
            page_is_in_a_shard(a, slice, page_own_class(own)) || page_own_class(own) >= a->slab.classes)
            return false;
        if (page_shelve(&a->slab, slice, own))
            return true;
    }
}

static void
recover_page_slab(hshm_allocator *a, uint64_t slice, uint64_t own, uint64_t process, hshm_recover_report *report)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    const uint32_t class = page_own_class(own);
    const uint64_t flags = own & SLAB_FLAGS;
    bool shelve = false;
    if (page_is_locked(own) && is_of(page_own_process(own), process)) {
        if ((own & SLAB_FULL) != 0)
            restore_words(h, record);
        __atomic_store_n(&record->left_from, 1, __ATOMIC_SEQ_CST); /* after the bits, as who frees does */
        shelve = true;
        report->slabs++;
    } else if (page_is_current(own)) {
        report->slabs += shelve_left(a, slice, process);
    } else if (flags == (SLAB_IS | SLAB_FULL)) {
        shelve = page_has_free(h, record); /* the hint was set: see recover_slices() */
    } else if (flags == (SLAB_IS | SLAB_SHELVED) && class < h->classes) {
        shelf_put(h, class, page_shelf(h, own), slice);
    }
    if (shelve && class < h->classes &&
        cas_seq_cst(&record->own, &own, page_own(SLAB_SHELVED, class, page_own_home(own), 0)))
        shelf_put(h, class, page_shelf(h, own), slice);
    (void)page_retire(a, slice);
}

/* ---- user slots ---- */

/* A large block becomes a claim of the dead, which is made free with the others; again: it is one already. */
static void
drop_large(hshm_allocator *a, const struct block_place *place, uint64_t process)
{
    uint64_t found = place->found;
    run_mend(&a->slab, place->slice, found);
    (void)cas_seq_cst(&a->slab.slices[place->slice], &found, slice_make(SLICE_CLAIMED, process, 1));
    FAILPOINT("recover.large_dropped");
}

/* Nobody else takes from that slab; so if the block is live, the dead one took it. */
void
slab_undo_take(hshm_allocator *a, struct op_log *log, uint64_t process, void *addr)
{
    struct slab_heap *h = &a->slab;
    struct block_place place;
    (void)log;
    if (!slab_find(a, addr, &place) || !slab_is_live(a, &place))
        return;
    if (slice_state(place.found) == SLICE_RUN) {
        drop_large(a, &place, process);
        return;
    }
    bits_word *row = h->has_owners ? bits_of(place.record) : remote_of(h, place.record);
    (void)atomic_fetch_or(&row[place.block / WORD_BITS], UINT64_C(1) << place.block % WORD_BITS);
    if (!h->has_owners)
        __atomic_store_n(&place.record->left_from, 1, __ATOMIC_SEQ_CST);
}

/* Was the dead one giving the slab free itself, which it had freed a block of?  Then it may hold the block. */
static void
unhold(const struct slab_heap *h, const struct block_place *place, uint64_t process)
{
    const uint64_t own = load_seq_cst(&place->record->own);
    if (!h->has_owners && slice_state(place->found) == SLICE_SLAB && has_flags(own, SLAB_LOCKED | SLAB_FULL) &&
        is_of(page_own_process(own), process))
        restore_words(h, place->record);
}

/* If it is live, and nobody has seen it free since its log says which, the dead one had not freed it yet. */
void
slab_finish_give(hshm_allocator *a, struct op_log *log, uint64_t process, void *addr)
{
    struct block_place place;
    const bool is_found = slab_find(a, addr, &place);
    if (is_found)
        unhold(&a->slab, &place, process);
    const bool is_live = is_found && slab_is_live(a, &place);
    /* In this order: it is acknowledged before it can be live again, or its slices something else. */
    if (!is_live || load_relaxed(&log->won) != 0 ||
        (load_relaxed(&log->block) != 0 && load_seq_cst(&log->ack) >= load_relaxed(&log->seq)))
        return;
    if (slice_state(place.found) == SLICE_RUN)
        drop_large(a, &place, process);
    else
        (void)a->ops.give_elsewhere(a, &place);
}

/* ---- both ---- */

static void
recover_slab(hshm_allocator *a, uint64_t slice, uint64_t process, const struct dead_threads *dead,
             hshm_recover_report *report)
{
    const uint64_t own = load_seq_cst(&record_of(&a->slab, slice)->own);
    if (!a->slab.has_owners)
        recover_page_slab(a, slice, own, process, report);
    else if (is_dead_thread(dead, own) || ((own & SLAB_LOCKED) != 0 && is_of(own >> 32, process)))
        orphan(a, slice, own, report);
    else if ((own & ~(uint64_t)SLAB_NEWS) == SLAB_IS && !slab_retire_orphan(a, slice))
        shelf_put(&a->slab, load_relaxed(&record_of(&a->slab, slice)->class) % a->slab.classes, 0, slice);
}

/*
 * A claim that was to become a slab or run: its further slices may say REST already.  The first goes last.  It is in no run, so that
 * nobody else changes it.
 */
static void
drop_claim(hshm_allocator *a, uint64_t slice, uint64_t found, hshm_recover_report *report)
{
    struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    uint64_t count = 1;
    while (slice + count < high && load_seq_cst(&h->slices[slice + count]) == slice_make(SLICE_REST, 0, count))
        count++;
    report->slices += count;
    /* Downwards: if this is killed too, what is left is a claim with further slices still. */
    while (--count > 0)
        run_drop(a, slice + count, slice_make(SLICE_REST, 0, count));
    run_drop(a, slice, found);
}

/*
 * A claim inside a run that was growing or shrinking belongs to it.  Who frees the run just now has made it REST before; who
 * keeps its slices together does so only if there is no claim among them.
 */
static void
make_rest(const struct slab_heap *h, uint64_t slice, uint64_t first, uint64_t found)
{
    (void)cas_seq_cst(&h->slices[slice], &found, slice_make(SLICE_REST, 0, slice - first));
    FAILPOINT("recover.made_rest");
}

/* Walk all slices.  `first` and `end` are of the slab or run that the walk is in. */
static void
recover_slices(hshm_allocator *a, uint64_t process, const struct dead_threads *dead, hshm_recover_report *report)
{
    struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    uint64_t first = 0;
    uint64_t end = 0;
    for (uint64_t slice = 0; slice < high; slice++) {
        /*
         * A taker may have found no shared bit, said so, and died before it looked once more; also in a slice that is just being
         * made a slab again.  Always safe.
         */
        if (!h->has_owners)
            __atomic_store_n(&record_of(h, slice)->left_from, 1, __ATOMIC_SEQ_CST);
        uint64_t found = load_seq_cst(&h->slices[slice]);
        switch (slice_state(found)) {
        case SLICE_SLAB:
        case SLICE_RUN:
            first = slice;
            end = slice_count(found) <= high - slice ? slice + slice_count(found) : slice + 1;
            if (!lifetime_end_of(a, slice, found, process, report) && slice_state(found) == SLICE_SLAB)
                recover_slab(a, slice, process, dead, report);
            break;
        case SLICE_CLAIMED:
            if (!is_of(slice_process(found), process))
                break;
            if (slice < end)
                make_rest(h, slice, first, found);
            else
                drop_claim(a, slice, found, report);
            break;
        case SLICE_FREEING:
            if (!is_of(slice_process(found), process))
                break;
            report->slices += slice_count(found);
            run_finish_free(a, slice, found);
            break;
        default:
            break;
        }
    }
}

/*
 * What the dead had counted, or had not yet.  Who claims or frees slices meanwhile may make it wrong by as many; until the
 * next recovery, and nothing but pages that go back a little sooner or later depends on it.
 */
static void
count_slices(const struct slab_heap *h)
{
    const uint64_t high = run_high(h);
    uint64_t used = 0;
    uint64_t dirty = 0;
    uint64_t idle = 0;
    for (uint64_t slice = 0; slice < high; slice++) {
        const uint64_t word = load_relaxed(&h->slices[slice]);
        used += !slice_is_free(word);
        dirty += slice_state(word) == SLICE_DIRTY;
        idle += run_idle_at(h, slice);
    }
    store_relaxed(&h->root->used, used);
    store_relaxed(&h->root->dirty, dirty);
    store_relaxed(&h->root->idle, idle);
}

void
slab_recover_process(hshm_allocator *a, uint32_t process, hshm_recover_report *report)
{
    struct dead_threads dead;
    op_recover(a, process, report); /* first: what it held is still its own */
    FAILPOINT("recover.logs");
    (void)find_dead_threads(&a->slab, process, &dead);
    recover_slices(a, process, &dead, report);
    FAILPOINT("recover.slices");
    mail_everyone(&a->slab);
    FAILPOINT("recover.mailed");
    count_slices(&a->slab);
    FAILPOINT("recover.counted");
    free_dead_threads(&a->slab, &dead, report);
}

/* Bits of taken slices that do not follow their words, and free slices below the lowest.  True if there may have been any. */
static bool
sync_all_taken(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    bool found = atomic_exchange(&h->root->lowest, 0) != 0;
    const uint64_t high = run_high(h);
    for (uint64_t slice = 0; slice < high; slice++) {
        const bool taken = (load_relaxed(&h->taken[slice / WORD_BITS]) >> slice % WORD_BITS & 1) != 0;
        if (taken == slice_is_free(load_seq_cst(&h->slices[slice]))) {
            run_sync_taken(h, slice);
            found = true;
        }
    }
    return found;
}

void
slab_recover_copy(hshm_allocator *a, uint32_t kept_slot)
{
    struct slab_heap *h = &a->slab;
    struct dead_threads dead = { { 0 } };
    for (uint32_t slot = 0; slot < h->thread_slots; slot++) {
        if (slot != kept_slot && load_relaxed(&h->threads[slot].owner) != 0)
            dead.bits[slot / WORD_BITS] |= UINT64_C(1) << slot % WORD_BITS;
    }
    op_recover_copy(a);
    recover_slices(a, ANY_PROCESS, &dead, NO_REPORT);
    mail_everyone(h);
    count_slices(h);
    free_dead_threads(h, &dead, NO_REPORT);
    (void)sync_all_taken(a);
}

/* NEWS that came late, to an orphan without free blocks: the next freer shall tell again.  Shelved, if that one did just now. */
static void
forget_late_news(const struct slab_heap *h, uint64_t slice)
{
    struct slab_record *record = record_of(h, slice);
    uint64_t late = SLAB_IS | SLAB_NEWS;
    if (slice_state(load_acquire(&h->slices[slice])) == SLICE_SLAB && cas_seq_cst(&record->own, &late, SLAB_IS))
        shelf_put(h, load_relaxed(&record->class) % h->classes, 0, slice);
}

/* As recovery does, after nobody: slabs with free blocks are shelved, everyone is mailed. */
void
slab_remake(hshm_allocator *a)
{
    static const struct dead_threads none;
    const uint64_t high = run_high(&a->slab);
    for (uint64_t slice = 0; a->slab.has_owners && slice < high; slice++)
        forget_late_news(&a->slab, slice);
    recover_slices(a, NO_PROCESS, &none, NO_REPORT);
    mail_everyone(&a->slab);
    (void)sync_all_taken(a);
}

hshm_status
slab_recover_all(hshm_allocator *a, hshm_recover_report *report)
{
    (void)allocator_for_each_dead(a, slab_recover_process, report);
    (void)sync_all_taken(a);
    return HSHM_OK;
}

bool
slab_recover(hshm_allocator *a)
{
    bool found = allocator_for_each_dead(a, slab_recover_process, NO_REPORT);
    found |= lifetime_squeeze(a);
    found |= sync_all_taken(a);
    /* Whatever their counter says: it may have been counted while others changed it. */
    return run_free_idle(a) || found;
}
