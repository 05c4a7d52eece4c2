/*
 * page_slab.c - see page_slab.h.
 */
#include "allocator/page_slab.h"

#include "base/bits.h"
#include "base/failpoint.h"
#include "sync/pages.h"

enum {
    USELESS_AT_MOST = 16, /* slabs of another home looked at, before a new one is made       */
    SEQUENCE_TRIES = 8,   /* restarted so often, it is a debugger that steps                 */
    FEW_SLABS = 2,        /* that a thread makes of a class in a while: the next ones are larger */
    FULL_SHARE = 8        /* a slab counts as full until one of so many blocks is free       */
};

/* ---- looking at slabs ---- */

bool
page_has_free(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t blocks = blocks_of(h, record);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        if (free_word(h, record, word, blocks) != 0)
            return true;
    }
    return false;
}

bool
page_is_all_free(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t blocks = blocks_of(h, record);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        if (free_word(h, record, word, blocks) != word_mask(word, blocks))
            return false;
    }
    return true;
}

/* From `own` as it was found, to a shelf.  False: it is something else by now. */
bool
page_shelve(const struct slab_heap *h, uint64_t slice, uint64_t own)
{
    const uint32_t class = page_own_class(own);
    if (class >= h->classes ||
        !cas_seq_cst(&record_of(h, slice)->own, &own, page_own(SLAB_SHELVED, class, page_own_home(own), 0)))
        return false;
    shelf_put(h, class, page_shelf(h, own), slice);
    return true;
}

/* ---- giving slabs free ---- */

/*
 * Taking all blocks of a locked slab, word by word, so that whoever recovers it knows which we had.  Another taker may hold one
 * that it took before, and puts back or keeps; so that a shared bit is 0 says nothing of us, if we did not leave a sign:
 *   - in a word that has more bits than blocks, one of those, SLAB_WORD_TAKEN;
 *   - else the number: we never take few shared bits at once.  Few and many at home become all shared first; those at home are
 *     nobody else's in between, and `skip` says which.
 */

/* The home bits of a word.  False: we are not at its home any more. */
static bool
empty_home(struct slab_record *record, uint64_t locked, uint32_t word, uint64_t home)
{
    const struct rseq_guard guard = { &record->own, locked };
    enum rseq_result done = home == 0 ? RSEQ_DONE : RSEQ_AGAIN;
    /* Again, if it was only interrupted: nobody might come by a second time. */
    for (int tries = 0; done == RSEQ_AGAIN && tries < SEQUENCE_TRIES && page_own_home(locked) == rseq_cpu() + 1;
         tries++)
        done = rseq_empty(rseq_cpu(), guard, &bits_of(record)[word], home);
    return done == RSEQ_DONE;
}

/* What take_word() took, if it was told of: it is of shared bits from now on. */
void
page_put_word(const struct slab_heap *h, struct slab_record *record, uint32_t word, uint64_t bits)
{
    (void)atomic_fetch_or(&remote_of(h, record)[word], bits);
    if (word_mask(word, blocks_of(h, record)) != UINT64_MAX)
        (void)atomic_fetch_and(&remote_of(h, record)[word], ~SLAB_WORD_TAKEN);
}

/* A word of home bits becomes one of shared bits.  False: we are not at its home any more. */
static bool
share_word(const struct slab_heap *h, struct slab_record *record, uint64_t locked, uint32_t word, uint64_t home)
{
    atomic_store(&record->skip, home);
    FAILPOINT("page.home_told");
    const bool is_ours = empty_home(record, locked, word, home);
    FAILPOINT("page.home_emptied");
    if (is_ours)
        page_put_word(h, record, word, home);
    FAILPOINT("page.home_shared");
    atomic_store(&record->skip, 0);
    FAILPOINT("page.home_done");
    return is_ours;
}

/* Take all blocks of a word of a locked slab.  False: a taker was faster, or we are not at its home any more. */
static bool
take_word(hshm_allocator *a, uint64_t slice, uint64_t locked, uint32_t word, uint64_t mask)
{
    const struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    _Atomic uint64_t *at = &remote_of(h, record)[word];
    uint64_t home = load_seq_cst(&bits_of(record)[word]);
    uint64_t shared = mask & ~home;
    if (load_seq_cst(at) != shared)
        return false;
    /* Between seeing them free and taking them; while the slab is locked nobody can have taken and freed one of them anew. */
    if (shared != 0)
        slab_acknowledge(a, slice, OP_OTHERS);
    if (mask == UINT64_MAX && shared != 0 && bits_count(shared) < SLAB_WORD_MANY) {
        if (!share_word(h, record, locked, word, home))
            return false;
        home = 0;
        shared = mask;
    }
    const uint64_t taken = mask != UINT64_MAX ? SLAB_WORD_TAKEN : 0;
    if (shared != taken && !cas_seq_cst(at, &shared, taken))
        return false;
    FAILPOINT("page.word_shared_taken");
    if (empty_home(record, locked, word, home))
        return true;
    page_put_word(h, record, word, mask & ~home);
    note_shared(record);
    return false;
}

/* Put the first words back, as shared bits, that were taken for good and cannot be given free now. */
static void
unlock(const struct slab_heap *h, uint64_t slice, uint64_t locked, uint32_t words)
{
    struct slab_record *record = record_of(h, slice);
    const uint32_t blocks = blocks_of(h, record);
    for (uint32_t word = 0; word < words; word++) {
        page_put_word(h, record, word, word_mask(word, blocks));
        FAILPOINT("page.word_put_back");
    }
    note_shared(record);
    store_release(&record->log, 0);
    FAILPOINT("page.unlogged");
    (void)page_shelve(h, slice, locked);
}

/* All blocks of a locked slab.  False: as it was. */
static bool
take_all(hshm_allocator *a, uint64_t slice, uint64_t locked)
{
    const struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    const uint32_t blocks = blocks_of(h, record);
    const uint32_t words = words_for(blocks);
    for (uint32_t word = 0; word < words; word++) {
        if (!take_word(a, slice, locked, word, word_mask(word, blocks))) {
            unlock(h, slice, locked, word);
            return false;
        }
        FAILPOINT("page.word_taken");
        store_release(&record->log, load_relaxed(&record->log) | UINT64_C(1) << word);
        FAILPOINT("page.word_logged");
    }
    if (words != 0) /* who was slow finds nothing, in the slab that will be here next neither */
        (void)atomic_exchange(&remote_of(h, record)[words - 1], 0);
    FAILPOINT("page.all_taken");
    return true;
}

/* The slices of a slab or large block become idle, or free.  False: it is not what it was. */
bool
page_give_slices(hshm_allocator *a, uint64_t slice, uint64_t found)
{
    struct page_thread *thread = thread_of(a);
    return (!is_no_thread(thread) && idle_keep(a, &thread->idle, slice, found)) || run_free(a, slice, found);
}

bool
page_take_slices(hshm_allocator *a, uint64_t slices, uint64_t alignment, struct claim *ret_claim)
{
    struct page_thread *thread = thread_of(a);
    return !is_no_thread(thread) && idle_take(a, &thread->idle, slices, alignment, ret_claim);
}

bool
page_retire(hshm_allocator *a, uint64_t slice)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    const uint64_t found = load_acquire(&h->slices[slice]);
    uint64_t own = load_seq_cst(&record->own);
    const uint32_t home = page_own_home(own);
    if (slice_state(found) != SLICE_SLAB || !has_flags(own, SLAB_SHELVED) || (home != 0 && home != rseq_cpu() + 1) ||
        !page_is_all_free(h, record) || !slab_record_is_sound(h, slice, found))
        return false;
    uint64_t locked = page_own(SLAB_LOCKED, page_own_class(own), home, a->process);
    if (!cas_seq_cst(&record->own, &own, locked))
        return false;
    FAILPOINT("page.locked");
    /*
     * Once more: it may have been taken, filled and shelved anew since the first look.  Only then a word that says that blocks are
     * being taken: all of them are free, and a bit that is 0 is of us or of a taker, for whoever recovers us.
     */
    const uint64_t taking = locked | SLAB_FULL;
    if (!page_is_all_free(h, record) || !cas_seq_cst(&record->own, &locked, taking)) {
        (void)page_shelve(h, slice, locked);
        return false;
    }
    locked = taking;
    FAILPOINT("page.taking");
    if (!take_all(a, slice, locked))
        return false;
    /* Locked, it stays what it is; before, it may have been another slab than the one looked at. */
    const uint64_t now = load_acquire(&h->slices[slice]);
    slab_acknowledge(a, slice, OP_OURS_TAKEN);
    if (page_give_slices(a, slice, now))
        return true;
    unlock(h, slice, locked, words_for(blocks_of(h, record)));
    return false;
}

/* On one processor: slabs at home there, without a live block, that were waiting for someone to come by. */
void
page_retire_at_home(void *arg, uint32_t cpu)
{
    hshm_allocator *a = arg;
    const struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    for (uint64_t slice = 0; slice < high && rseq_cpu() == cpu; slice++) {
        if (slice_state(load_relaxed(&h->slices[slice])) == SLICE_SLAB &&
            page_own_home(load_relaxed(&record_of(h, slice)->own)) == cpu + 1)
            (void)page_retire(a, slice);
    }
}

/* ---- the shard's slab ---- */

static uint32_t
count_free_blocks(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t blocks = blocks_of(h, record);
    uint32_t free_blocks = 0;
    for (uint32_t word = 0; word < words_for(blocks); word++)
        free_blocks += bits_count(free_word(h, record, word, blocks));
    return free_blocks;
}

/* How many free blocks make a slab worth a turn in a shard; see page_look_at(). */
static uint32_t
enough_free(uint32_t blocks)
{
    return blocks < FULL_SHARE ? 1 : blocks / FULL_SHARE;
}

bool
page_is_worth_a_turn(const struct slab_heap *h, struct slab_record *record)
{
    return count_free_blocks(h, record) >= enough_free(blocks_of(h, record));
}

/*
 * A slab that is not current may have to be shelved, or may be without a live block.  It is shelved when an eighth of its
 * blocks is free, not for the first: to take a slab and leave it again costs half a dozen atomic instructions, which shall
 * serve several blocks.
 */
NO_INLINE void
page_look_at(hshm_allocator *a, uint64_t slice, struct slab_record *record)
{
    struct slab_heap *h = &a->slab;
    const uint64_t own = load_seq_cst(&record->own);
    const uint32_t blocks = blocks_of(h, record);
    const uint32_t enough = enough_free(blocks);
    if ((own & SLAB_CURRENT) != 0) {
        set_left(record, LEFT_UNCOUNTED);
        return;
    }
    const uint32_t free_blocks = count_free_blocks(h, record);
    if (has_flags(own, SLAB_FULL) && free_blocks < enough) {
        set_left(record, enough - free_blocks);
        return;
    }
    if (has_flags(own, SLAB_FULL))
        (void)page_shelve(h, slice, own);
    set_left(record, free_blocks < blocks ? blocks - free_blocks : 1);
    if (free_blocks == blocks)
        (void)page_retire(a, slice);
}

bool
page_is_in_a_shard(const hshm_allocator *a, uint64_t slice, uint32_t class)
{
    const struct slab_heap *h = &a->slab;
    for (uint32_t shard = 0; shard < h->shard_count && class < h->classes; shard++) {
        if (current_slice(load_seq_cst(&shard_at(h, shard)->current[class])) == slice)
            return true;
    }
    return op_has_slab(a, slice);
}

uint64_t
page_mark_leaving(hshm_allocator *a, uint64_t slice, const _Atomic uint64_t *at, uint64_t current)
{
    struct slab_record *record = record_of(&a->slab, slice);
    for (;;) {
        uint64_t own = load_seq_cst(&record->own);
        /* In this order: else it may be what somebody is only about to lead a shard to. */
        if (!page_is_current(own) || load_seq_cst(at) != current)
            return 0;
        const uint64_t mark =
            page_current_own(&a->slab, SLAB_LEAVING, page_own_class(own), page_own_home(own), a->process);
        if (cas_seq_cst(&record->own, &own, mark))
            return mark;
    }
}

/* FULL first, then the bits again: see page_slab.h. */
void
page_leave_current(hshm_allocator *a, uint64_t slice, uint64_t mark)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    for (;;) {
        uint64_t own = load_seq_cst(&record->own);
        if (!page_is_current(own) || (own & SLAB_LEAVING) == 0 ||
            (own != mark && page_is_in_a_shard(a, slice, page_own_class(own))))
            return;
        if (cas_seq_cst(&record->own, &own, page_own(SLAB_FULL, page_own_class(own), page_own_home(own), 0)))
            break;
    }
    FAILPOINT("page.full");
    page_look_at(a, slice, record);
}

/* Are there blocks that this thread can take, being where it is? */
static bool
is_of_use(const struct slab_heap *h, struct slab_record *record, uint64_t own, struct here here)
{
    const uint32_t blocks = blocks_of(h, record);
    const bool at_home = here.cpu != RSEQ_NO_CPU && page_own_home(own) == here.cpu + 1;
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        if ((at_home && load_relaxed(&bits_of(record)[word]) != 0) ||
            (may_be_shared(record) && (load_relaxed(&remote_of(h, record)[word]) & word_mask(word, blocks)) != 0))
            return true;
    }
    return false;
}

/* A slab with free blocks from a shelf: its slice + 1, now CURRENT by this process; 0 when there is none. */
static uint64_t
take_shelved(hshm_allocator *a, uint32_t class, uint32_t shelf, struct here here)
{
    struct slab_heap *h = &a->slab;
    int useless = 0;
    for (;;) {
        const uint64_t taken = shelf_take(h, class, shelf);
        if (taken == 0)
            return 0;
        const uint64_t slice = taken - 1;
        struct slab_record *record = record_of(h, slice);
        uint64_t own = load_seq_cst(&record->own);
        if (!has_flags(own, SLAB_SHELVED) || page_own_class(own) != class ||
            !slab_record_is_sound(h, slice, load_acquire(&h->slices[slice])))
            continue; /* it is something else by now, and who made it that puts it where it belongs */
        if (!is_of_use(h, record, own, here)) {
            shelf_put(h, class, shelf, slice);
            if (++useless >= USELESS_AT_MOST)
                return 0;
            continue;
        }
        if (!cas_seq_cst(&record->own, &own, page_current_own(h, 0, class, page_own_home(own), a->process)))
            continue;
        FAILPOINT("page.unshelved");
        set_left(record, LEFT_UNCOUNTED);
        return taken;
    }
}

uint64_t
page_find_shelved(hshm_allocator *a, uint32_t class, struct here here)
{
    const uint32_t shards = a->slab.shard_count;
    uint64_t next = 0;
    for (uint32_t i = 0; next == 0 && i < shards; i++)
        next = take_shelved(a, class, (here.shard + i) & (shards - 1), here);
    return next;
}

uint64_t
page_make_slab(hshm_allocator *a, uint32_t class, struct here here)
{
    struct page_thread *thread = thread_of(a);
    const bool has_many = !is_no_thread(thread) && thread->bins[class].made++ >= FEW_SLABS;
    const struct slab_cut cut = has_many ? a->slab.large_cuts[class] : a->slab.cuts[class];
    struct claim claim;
    if (!page_take_slices(a, cut.slices, 1, &claim) && !slab_claim(a, class, cut, &claim))
        return 0;
    const bool has_home = here.cpu != RSEQ_NO_CPU;
    slab_begin(a, &claim, class, page_current_own(&a->slab, 0, class, has_home ? here.cpu + 1 : 0, a->process),
               !has_home);
    return claim.first + 1;
}

/* What a shard says of a slab: at home, blocks come from the first word that has home bits, of those behind `word`. */
uint64_t
page_lead_to(const struct slab_heap *h, uint32_t shard, uint64_t slice, uint64_t word)
{
    struct slab_record *record = record_of(h, slice);
    const uint32_t words = words_for(blocks_of(h, record));
    const uint64_t own = load_seq_cst(&record->own);
    const bool at_home = page_own_home(own) == shard + 1;
    /* Not the same word twice: who means to lead the shard elsewhere must find out that it led there and back. */
    const uint64_t tag =
        page_own_process(own) << PAGE_OWN_COUNT_BITS | (own >> PAGE_OWN_COUNT_SHIFT & PAGE_OWN_COUNT_MASK);
    for (uint32_t i = 0; at_home && i < words; i++) {
        word = word + 1 < words ? word + 1 : 0;
        if (load_relaxed(&bits_of(record)[word]) != 0)
            return current_make(slice, word, true, tag);
    }
    return current_make(slice, 0, at_home, tag);
}

/* Another slab for the shard.  False: no memory. */
bool
page_replace_current(hshm_allocator *a, struct here here, uint32_t class, uint64_t current)
{
    struct slab_heap *h = &a->slab;
    uint64_t next = page_find_shelved(a, class, here);
    if (next == 0)
        next = page_make_slab(a, class, here);
    if (next == 0)
        return false;
    _Atomic uint64_t *at = &shard_at(h, here.shard)->current[class];
    const uint64_t before = current_slice(current);
    const bool leaves = before < h->count;
    const uint64_t mark = leaves ? page_mark_leaving(a, before, at, current) : 0;
    FAILPOINT("page.marked");
    const bool done = cas_seq_cst(at, &current, page_lead_to(h, here.shard, next - 1, UINT64_MAX));
    FAILPOINT("page.led_elsewhere");
    if (!done)
        (void)page_shelve(h, next - 1, load_seq_cst(&record_of(h, next - 1)->own)); /* another thread was faster */
    if (leaves)
        page_leave_current(a, before, done ? mark : 0);
    return true;
}
