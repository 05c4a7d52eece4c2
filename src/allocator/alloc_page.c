/*
 * alloc_page.c - slabs that no thread or process owns: memory is bounded by processors, whoever and however many use it.
 *
 * For each class every shard (one a processor) has one current slab, from which all threads that run there take, in
 * whatever process.  So there is no state of a thread or process in the region that could be left behind.
 *
 *     CURRENT   in one shard; takers take from it
 *     FULL      had no free block when it was replaced; in no list
 *     SHELVED   had free blocks afterwards; a shelf of its class leads to it
 *     LOCKED    somebody found it without a live block, and is giving its slices free
 *
 * A free block's bit is in one of two rows.  A slab's *home* is the processor that made it, and its home bits are changed by
 * threads that run there alone, by one plain store in a restartable sequence (sync/rseq.h).  Everyone else uses the
 * shared bits, by atomic instructions.  On processors, kernels and tools without such sequences a slab has no home.
 *
 *                      home bits                    shared bits
 *     take             at home: 1 -> 0, one store   1 -> 0 by CAS
 *     free             at home: 0 -> 1, one store   elsewhere: 0 -> 1 by OR
 *
 * The dangers, and the rules against them:
 *   - A free must not miss that its slab became FULL just then.  Who replaces a slab says FULL, and looks at the bits
 *     again; who frees sets the bit, and looks at the state again; so one sees the other.
 *   - A taker that was stopped between reading a word and its store may go on when the slab's slices are something else by
 *     then.  At home: being stopped ends the sequence, inside which it is seen that the shard still leads to the slab, and
 *     slabs with a home are given free at home only, where nobody else can be meanwhile.  Elsewhere:
 *     whoever gives slices free first takes every block (each word of shared bits by CAS to 0, each of home bits at home),
 *     which fails if a taker was faster; and a taker looks at the owner word *after* its CAS: if that is a slab of its class,
 *     and not LOCKED, the block is good, whatever happened in between; if not, it puts the bit back, which is then a free
 *     block of whatever slab is there now, since it was one when the CAS won it.
 *   - So when memory is short, or on trim, a thread visits each processor.
 *
 * What a kill leaves
 *     take, free                nothing in between: one store.  (A taker killed before it put a bit back: that one block)
 *     a bit set, not shelved    found out by recovery, or by the next free of that slab
 *     slab taken off a shelf, not current yet    its owner word says by whom; recovery shelves it again
 *     LOCKED                    `log` says which words were taken; recovery puts them back, as shared bits
 *
 * Locking: none.
 */
#include <hshm/inline.h>
#include <string.h>

#include "allocator/lifetime.h"
#include "allocator/page_slab.h"
#include "allocator/user_slot.h"
#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "sync/clock.h"
#include "sync/pages.h"
#include "sync/rseq.h"

enum {
    LARGER_CLASSES = 16,
    SEQUENCE_TRIES = 8,    /* restarted so often, it is a debugger that steps: then the way without home */
    TRIES_MAX = 1000,      /* slabs in a row that gave no block: the tables of a damaged region lead in circles */
    FULL_SHARE = 8,        /* a slab counts as full until one of so many blocks is free                     */
    BATCHES_TO_THINK = 64, /* of frees, until a thread sees whether it takes blocks as well */
    LARGES_TO_TIDY = 16,   /* large blocks taken, for each look whether it is time to tidy                  */
    FREES_AT_ONCE = 64,    /* counted by a thread for itself before the region hears of them               */
    TIDY_MS = 500          /* so often somebody looks for slabs that are kept for nothing                  */
};

static inline struct here
here_at(const hshm_allocator *a, bool by_sequences)
{
    const uint32_t cpu = rseq_cpu();
    if (LIKELY(by_sequences && cpu < a->slab.shard_count))
        return (struct here){ cpu, cpu };
    const struct page_thread *thread = thread_of(a);
    const uint32_t shard = is_no_thread(thread) ? cpu_current() : thread->counts_at;
    return (struct here){ shard & (a->slab.shard_count - 1), RSEQ_NO_CPU };
}

/* ---- counting ---- */

static uint64_t
uncounted_frees(const struct page_thread *thread)
{
    const uint64_t budget = load_relaxed(&thread->budget);
    const uint64_t frees = load_relaxed(&thread->frees);
    return frees > budget ? frees - budget : 0; /* another thread may be setting both */
}

/* None is uncounted any more; the budget is for the next ones. */
static void
set_budget(struct page_thread *thread, uint64_t budget)
{
    store_relaxed(&thread->frees, budget);
    store_relaxed(&thread->budget, budget);
}

static void
count_in_region(struct page_thread *thread)
{
    const struct slab_heap *h = &thread->a->slab;
    thread->counts_at = cpu_current();
    (void)atomic_fetch_add_explicit(&shard_at(h, thread->counts_at & (h->shard_count - 1))->frees,
                                    uncounted_frees(thread), memory_order_relaxed);
    set_budget(thread, thread->gives_away ? 0 : FREES_AT_ONCE);
}

/* Under the thread_table lock: the thread ends, or its handle does. */
static void
end_thread(struct hshm_inline_heap *fast)
{
    struct page_thread *thread = (struct page_thread *)(void *)fast;
    count_in_region(thread);
    *thread->back = thread->next;
    if (thread->next != NULL)
        thread->next->back = thread->back;
    pages_give(thread, sizeof *thread);
}

/* The processor on which this thread is now, for its short paths. */
static void
notice_cpu(struct page_thread *thread)
{
    const struct slab_heap *h = &thread->a->slab;
    const uint32_t cpu = rseq_cpu();
    if (cpu == thread->cpu || cpu >= h->shard_count)
        return;
    thread->cpu = cpu;
    thread->home = (uint32_t)page_own(0, 0, cpu + 1, 0);
    thread->shard = shard_at(h, cpu)->current;
}

/* The first call of a thread.  NULL: no memory, or the process has too many heaps. */
static NO_INLINE struct page_thread *
make_thread(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    struct page_thread *thread = h->index < 0 ? NULL : pages_take(sizeof *thread);
    if (thread == NULL)
        return NULL;
    for (size_t units = 0; units < COUNTOF(thread->fast.direct); units++)
        thread->fast.direct[units] = &thread_no_bin;
    thread->a = a;
    thread->counts_at = cpu_current();
    thread->cpu = RSEQ_NO_CPU;
    thread->shard = shard_at(h, 0)->current;
    notice_cpu(thread);
    set_budget(thread, FREES_AT_ONCE);
    thread_table_lock();
    thread->next = h->counters;
    thread->back = &h->counters;
    if (thread->next != NULL)
        thread->next->back = &thread->next;
    h->counters = thread;
    thread_entry_set(h->index, &thread->fast, THREAD_NOBODY, end_thread);
    thread_table_unlock();
    thread_watch_end(); /* may call malloc, which may be us */
    return thread;
}

static struct page_thread *
thread_or_new(hshm_allocator *a)
{
    struct page_thread *thread = thread_of(a);
    return is_no_thread(thread) ? make_thread(a) : thread;
}

static void tidy_by_age(hshm_allocator *a);

/*
 * A thread that only frees gives its blocks away: as shared bits, which whoever takes can reach, wherever that is.  At home
 * they would wait for a taker who runs there, while this thread has the processor and those who take have others.
 */
static void
think_again(struct page_thread *thread)
{
    thread->gives_away = thread->found < BATCHES_TO_THINK * FREES_AT_ONCE / 8;
    thread->found = 0;
    for (uint32_t class = 0; class < thread->a->slab.classes; class ++)
        thread->bins[class].made = 0;
    thread->batches = 0;
}

static inline bool
gives_away(const struct page_thread *thread)
{
    return !is_no_thread(thread) && thread->gives_away;
}

static NO_INLINE void
count_and_tidy(struct page_thread *thread)
{
    if (++thread->batches >= BATCHES_TO_THINK)
        think_again(thread);
    count_in_region(thread);
    run_trim_by_age(thread->a);
    tidy_by_age(thread->a);
}

static void
count_free(hshm_allocator *a)
{
    struct page_thread *thread = thread_or_new(a);
    if (UNLIKELY(thread == NULL)) { /* then the region counts each */
        (void)atomic_fetch_add_explicit(&shard_at(&a->slab, 0)->frees, 1, memory_order_relaxed);
        return;
    }
    store_relaxed(&thread->frees, load_relaxed(&thread->frees) + 1);
    if (UNLIKELY(uncounted_frees(thread) >= FREES_AT_ONCE))
        count_and_tidy(thread);
}

uint64_t
page_uncounted_frees(const hshm_allocator *a)
{
    uint64_t frees = 0;
    thread_table_lock();
    for (const struct page_thread *thread = a->slab.counters; thread != NULL; thread = thread->next)
        frees += uncounted_frees(thread);
    thread_table_unlock();
    return frees;
}

/* ---- taking blocks ---- */

/*
 * The class comes from the caller and the place is looked at once more, since the shard and the record lie in a region and may
 * say anything.
 */
static void *
block_at(const hshm_allocator *a, uint64_t slice, uint32_t class, uint32_t word, uint64_t bit_at)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t off = (slice << h->shift) + (word * (uint64_t)WORD_BITS + bit_at) * h->sizes[class];
    return off + h->sizes[class] <= a->layout.data_size ? h->data + off : NULL;
}

/*
 * At home, from the word that the shard leads to.  NULL: there is none.  While the shard says so, the slab is one of this class,
 * and stays it until we are taken off this processor; see "The dangers".
 */
static void *
take_at_home(const hshm_allocator *a, const _Atomic uint64_t *shard, uint64_t current, uint32_t class, uint32_t cpu)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t slice = current_slice(current);
    if ((current & CURRENT_AT_HOME) == 0 || slice >= h->count)
        return NULL;
    const uint32_t word = (uint32_t)(current >> CURRENT_WORD_SHIFT & h->word_mask);
    _Atomic uint64_t *bits = &bits_of(record_of(h, slice))[word];
    const uint64_t ready = load_relaxed(bits);
    const uint64_t at = ready == 0 ? 0 : (uint64_t)__builtin_ctzll(ready);
    if (ready == 0 || rseq_take(cpu, (struct rseq_guard){ shard, current }, bits, at) != RSEQ_DONE)
        return NULL;
    return block_at(a, slice, class, word, at);
}

/* The same, by what this thread has worked out before. */
static inline __attribute__((always_inline)) void *
take_learned(struct page_thread *thread, uint32_t class)
{
    struct page_bin *bin = &thread->bins[class];
    const struct rseq_guard guard = { &thread->shard[class], bin->current };
    const uint64_t ready = bin->ready;
    if (UNLIKELY(ready == 0))
        return NULL;
    const uint64_t at = (uint64_t)__builtin_ctzll(ready);
    bin->ready = ready & (ready - 1);
    if (UNLIKELY(rseq_take(thread->cpu, guard, bin->bits, at) != RSEQ_DONE))
        return NULL;
    void *block = bin->base + at * bin->size;
    if (block == NULL)
        __builtin_unreachable(); /* spares the caller's own look */
    return block;
}

/* Work it out: the shard, and the record that it leads to, lie in a region and may say anything. */
static void
learn(const struct page_thread *thread, struct page_bin *bin, uint64_t current, uint32_t class)
{
    const hshm_allocator *a = thread->a;
    const struct slab_heap *h = &a->slab;
    const uint64_t slice = current_slice(current);
    const uint64_t word = current >> CURRENT_WORD_SHIFT & h->word_mask;
    const uint64_t size = h->sizes[class];
    const uint64_t off = (slice << h->shift) + word * WORD_BITS * size;
    const uint64_t blocks = off < a->layout.data_size ? (a->layout.data_size - off) / size : 0;
    bin->current = current;
    bin->bits = &bits_of(record_of(h, slice))[word];
    bin->base = h->data + off;
    bin->mask = blocks < WORD_BITS ? (UINT64_C(1) << blocks) - 1 : UINT64_MAX;
    bin->size = (uint32_t)size;
}

/* The word that a shard leads to has no more blocks: let it lead on.  In another slab, if few are free in this one. */
static bool
lead_on(struct page_thread *thread, uint32_t class, uint64_t current)
{
    hshm_allocator *a = thread->a;
    const struct slab_heap *h = &a->slab;
    const struct here here = { thread->cpu, thread->cpu };
    const uint64_t slice = current_slice(current);
    const uint64_t word = current >> CURRENT_WORD_SHIFT & h->word_mask;
    const uint64_t next = page_lead_to(h, thread->cpu, slice, word);
    /* Asked once for a way through the slab; and blocks that others gave away here come first. */
    const bool is_through = (next >> CURRENT_WORD_SHIFT & h->word_mask) <= word;
    struct slab_record *record = record_of(h, slice);
    if (is_through && !may_be_shared(record) && !page_is_worth_a_turn(h, record) &&
        page_replace_current(a, here, class, current))
        return true;
    return next != current && cas_seq_cst(&thread->shard[class], &current, next);
}

/*
 * Let a bin have blocks again: where the shard leads to, or where it can lead.  False: there are none for a thread that is at
 * home; or there is no home here.
 */
static bool
refill(struct page_thread *thread, uint32_t class)
{
    const struct slab_heap *h = &thread->a->slab;
    struct page_bin *bin = &thread->bins[class];
    notice_cpu(thread);
    for (int tries = 0; tries < 3 && thread->home != 0; tries++) {
        const uint64_t current = load_acquire(&thread->shard[class]);
        if ((current & CURRENT_AT_HOME) == 0 || current_slice(current) >= h->count)
            break;
        if (current != bin->current)
            learn(thread, bin, current, class);
        bin->ready = load_relaxed(bin->bits) & bin->mask;
        thread->found += bits_count(bin->ready);
        if (bin->ready != 0)
            return true;
        if (!lead_on(thread, class, current))
            break;
    }
    bin->ready = 0;
    return false;
}

/* From shared bits, of a slab of so many blocks.  Acquire pairs with the OR of who freed the block. */
static void *
take_shared(hshm_allocator *a, uint64_t slice, uint32_t class, uint32_t word, uint32_t blocks)
{
    const struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    _Atomic uint64_t *shared = &remote_of(h, record)[word];
    const uint64_t mask = word_mask(word, blocks); /* SLAB_WORD_TAKEN is no block */
    uint64_t bits = load_seq_cst(shared);          /* after `left_from` was stored; see take_anywhere() */
    while ((bits &= mask) != 0) {
        const uint64_t bit = bits & -bits;
        slab_acknowledge(a, slice, OP_ANYONES);
        bits = atomic_fetch_and(shared, ~bit);
        if (UNLIKELY((bits & bit) == 0)) /* another taker was faster */
            continue;
        FAILPOINT("page.shared_taken");
        const uint64_t own = load_seq_cst(&record->own);
        void *block = block_at(a, slice, class, word, (uint64_t)__builtin_ctzll(bit));
        if (LIKELY((own & (SLAB_IS | SLAB_LOCKED)) == SLAB_IS && page_own_class(own) == class && block != NULL))
            return block;
        (void)atomic_fetch_or(shared, bit);
        note_shared(record);
        return NULL;
    }
    return NULL;
}

static void *
take_any_shared(hshm_allocator *a, uint64_t slice, uint32_t class, uint32_t blocks)
{
    void *block = NULL;
    for (uint32_t word = 0; block == NULL && word < words_for(blocks); word++)
        block = take_shared(a, slice, class, word, blocks);
    return block;
}

/* The same from the word on that had some last: who frees goes through the blocks in the order in which they were taken. */
static void *
take_shared_learned(struct page_thread *thread, uint32_t class)
{
    hshm_allocator *a = thread->a;
    const struct slab_heap *h = &a->slab;
    struct page_bin *bin = &thread->bins[class];
    const uint64_t slice = current_slice(load_acquire(&thread->shard[class]));
    void *block = NULL;
    if (slice < h->count && may_be_shared(record_of(h, slice))) {
        const uint32_t blocks = blocks_of(h, record_of(h, slice));
        const uint32_t words = words_for(blocks);
        for (uint32_t i = 0; block == NULL && i < words; i++) {
            bin->word = bin->word + (i > 0) < words ? bin->word + (i > 0) : 0;
            block = take_shared(a, slice, class, bin->word, blocks);
        }
    }
    bin->shares = block != NULL;
    return block;
}

/* Look through the whole slab; at home its home bits first. */
static NO_INLINE void *
take_anywhere(hshm_allocator *a, uint64_t current, uint32_t class, struct here here)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t slice = current_slice(current);
    struct slab_record *record = record_of(h, slice);
    _Atomic uint64_t *shard = &shard_at(h, here.shard)->current[class];
    void *block = NULL;
    if (here.cpu != RSEQ_NO_CPU && (current & CURRENT_AT_HOME) != 0) {
        const uint64_t next = page_lead_to(h, here.shard, slice, current >> CURRENT_WORD_SHIFT & (h->words - 1));
        if (next == current || cas_seq_cst(shard, &current, next))
            block = take_at_home(a, shard, next, class, here.cpu);
    }
    if (block != NULL || !may_be_shared(record))
        return block;
    block = take_any_shared(a, slice, class, blocks_of(h, record));
    if (block != NULL)
        return block;
    /* An exchange pairs with slab_begin(): all bits of a slab that was made meanwhile are seen. */
    (void)__atomic_exchange_n(&record->left_from, 0, __ATOMIC_SEQ_CST);
    FAILPOINT("page.none_shared");
    block = take_any_shared(a, slice, class, blocks_of(h, record));
    if (block != NULL)
        note_shared(record);
    return block;
}

static NO_INLINE void *
take_slowly(hshm_allocator *a, uint32_t class)
{
    const struct slab_heap *h = &a->slab;
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        const struct here here = here_at(a, tries < SEQUENCE_TRIES);
        const _Atomic uint64_t *shard = &shard_at(h, here.shard)->current[class];
        const uint64_t current = load_acquire(shard);
        if (current_slice(current) < h->count) {
            void *block = here.cpu != RSEQ_NO_CPU ? take_at_home(a, shard, current, class, here.cpu) : NULL;
            if (block == NULL)
                block = take_anywhere(a, current, class, here);
            if (block != NULL)
                return block;
        }
        if (!page_replace_current(a, here, class, current))
            return NULL;
    }
    return NULL;
}

/* ---- for user slots; see op_log.h ---- */

static void squeeze(hshm_allocator *a);
static void shelve_all(hshm_allocator *a);

/* No room for a slab of that class: what lies idle first, then what the dead left. */
static bool give_slab_to(hshm_allocator *a, struct op_log *log, uint32_t class);

static bool
make_room(hshm_allocator *a, struct op_log *log, uint32_t class)
{
    shelve_all(a);
    squeeze(a);
    return give_slab_to(a, log, class) || (slab_recover(a) && give_slab_to(a, log, class));
}

/*
 * Blocks for slots come from a slab that the log has to itself: so whoever recovers it knows whose a block is.  It has no other
 * bits than shared ones that matter, as nobody is at home there.
 */

/* The log has it no more.  Marked before: if we are killed, it is CURRENT and nobody's, which recovery knows. */
static void
leave_slab_of(hshm_allocator *a, struct op_log *log)
{
    const uint64_t slice = load_relaxed(&log->slab) - 1;
    const uint64_t mark = slice < a->slab.count ? page_mark_leaving(a, slice, &log->slab, slice + 1) : 0;
    atomic_store(&log->slab, 0);
    FAILPOINT("page.log_left");
    if (slice < a->slab.count)
        page_leave_current(a, slice, mark);
}

/* A slab of that class for the log.  False: no memory. */
static bool
give_slab_to(hshm_allocator *a, struct op_log *log, uint32_t class)
{
    const struct here nowhere = { 0, RSEQ_NO_CPU };
    uint64_t next = page_find_shelved(a, class, nowhere);
    if (next == 0)
        next = page_make_slab(a, class, nowhere);
    FAILPOINT("page.log_found");
    atomic_store(&log->slab, next);
    FAILPOINT("page.log_has");
    return next != 0;
}

static void *
take_from_log(hshm_allocator *a, struct op *op, uint32_t class)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t slice = load_relaxed(&op->log->slab) - 1;
    struct slab_record *record = record_of(h, slice);
    const uint32_t blocks = blocks_of(h, record);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        _Atomic uint64_t *shared = &remote_of(h, record)[word];
        const uint64_t bits = load_seq_cst(shared) & word_mask(word, blocks);
        void *block = bits == 0 ? NULL : block_at(a, slice, class, word, (uint64_t)__builtin_ctzll(bits));
        if (block == NULL)
            continue;
        if (!op_candidate(a, op, block))
            return NULL;
        slab_acknowledge(a, slice, OP_ANYONES);
        (void)atomic_fetch_and(shared, ~(bits & -bits));
        FAILPOINT("page.log_block_taken");
        return block;
    }
    return NULL;
}

static bool
suits(const hshm_allocator *a, const struct op_log *log, uint32_t class)
{
    const uint64_t slice = load_relaxed(&log->slab) - 1;
    const uint64_t own = slice < a->slab.count ? load_seq_cst(&record_of(&a->slab, slice)->own) : 0;
    return page_is_current(own) && page_own_class(own) == class;
}

static void *
page_take_small_for(hshm_allocator *a, size_t size, struct op *op)
{
    const uint32_t class = slab_class(&a->slab, size);
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        void *block = suits(a, op->log, class) ? take_from_log(a, op, class) : NULL;
        if (block != NULL || op->was_busy)
            return block;
        leave_slab_of(a, op->log);
        if (!give_slab_to(a, op->log, class) && !make_room(a, op->log, class))
            break;
    }
    return slab_no_room(a, size);
}

static void *
page_take_for(hshm_allocator *a, size_t size, struct op *op)
{
    const uint64_t slices = large_slices(&a->slab, size);
    struct claim claim;
    if (size <= a->slab.max_size)
        return page_take_small_for(a, size, op);
    if (!large_fits(a, size, 1))
        return slab_no_room(a, size);
    if (page_take_slices(a, slices, 1, &claim) || run_claim(a, slices, 1, &claim))
        return large_for(a, &claim, op);
    squeeze(a);
    if (run_claim(a, slices, 1, &claim) || (slab_recover(a) && run_claim(a, slices, 1, &claim)))
        return large_for(a, &claim, op);
    return slab_no_room(a, size);
}

/* ---- when there is no room ---- */

/* Slices of slabs without a live block whose home is a processor where nobody has come by since. */
static uint64_t
count_waiting(const struct slab_heap *h)
{
    const uint64_t high = run_high(h);
    uint64_t waiting = 0;
    for (uint64_t slice = 0; slice < high; slice++) {
        struct slab_record *record = record_of(h, slice);
        const uint64_t found = load_relaxed(&h->slices[slice]);
        const uint64_t own = load_relaxed(&record->own);
        if (slice_state(found) == SLICE_SLAB && has_flags(own, SLAB_SHELVED) && page_own_home(own) != 0 &&
            page_is_all_free(h, record))
            waiting += slice_count(found);
    }
    return waiting;
}

/* Slabs that a shard holds without a live block are its no more, and free, if this is their home. */
static void
leave_idle(hshm_allocator *a, uint32_t shard)
{
    struct slab_heap *h = &a->slab;
    for (uint32_t class = 0; class < h->classes; class ++) {
        _Atomic uint64_t *at = &shard_at(h, shard)->current[class];
        uint64_t current = load_seq_cst(at);
        const uint64_t slice = current_slice(current);
        if (slice >= h->count || !page_is_all_free(h, record_of(h, slice)))
            continue;
        const uint64_t mark = page_mark_leaving(a, slice, at, current);
        const bool done = cas_seq_cst(at, &current, 0);
        FAILPOINT("page.shard_left");
        page_leave_current(a, slice, done ? mark : 0);
    }
}

/* The log is ours for the moment: the slab that it keeps for the next blocks of slots, without a live one. */
static void
leave_idle_log(hshm_allocator *a, struct op_log *log)
{
    const uint64_t slice = load_relaxed(&log->slab) - 1;
    if (slice < a->slab.count && page_is_all_free(&a->slab, record_of(&a->slab, slice)))
        leave_slab_of(a, log);
}

/* Slabs that are held without a live block become free. */
static void
squeeze(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    op_each_idle(a, leave_idle_log);
    for (uint32_t shard = 0; shard < h->shard_count; shard++)
        leave_idle(a, shard);
    /* And those on shelves: their last block was freed while they were current, or a taker put a bit back. */
    const uint64_t high = run_high(h);
    for (uint64_t slice = 0; slice < high; slice++)
        (void)page_retire(a, slice);
    if (count_waiting(h) != 0)
        cpu_visit_all(h->shard_count, page_retire_at_home, a);
}

/*
 * Shards keep a slab for each class that was ever used, and slabs that became empty elsewhere than at home wait there; both
 * would add up, after some time, to more than what is live.  Asked often, done rarely, by one thread of all processes; in a
 * large heap more rarely, since all slabs are looked at.
 */
static void
tidy_by_age(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    const uint64_t now = clock_coarse_ms();
    uint64_t before = load_relaxed(&h->root->tidied);
    if (now - before < TIDY_MS + run_high(h) / 1024 || !cas_seq_cst(&h->root->tidied, &before, now))
        return; /* from another boot, a time to come makes the difference large */
    for (uint32_t shard = 0; shard < h->shard_count; shard++)
        leave_idle(a, shard);
    op_each_idle(a, leave_idle_log);
    if (count_waiting(h) > run_enough(h))
        cpu_visit_all(h->shard_count, page_retire_at_home, a);
}

/* Full slabs that have a few free blocks. */
static void
shelve_all(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    for (uint64_t slice = 0; slice < high; slice++) {
        if (slice_state(load_acquire(&h->slices[slice])) != SLICE_SLAB)
            continue;
        const uint64_t own = load_seq_cst(&record_of(h, slice)->own);
        if (has_flags(own, SLAB_FULL) && page_has_free(h, record_of(h, slice)))
            (void)page_shelve(h, slice, own);
    }
}

/* No room for a slab of the right class: what lies idle first, then what the dead left, then larger blocks. */
static NO_INLINE void *
take_desperately(hshm_allocator *a, uint32_t class, size_t size, uint64_t alignment)
{
    shelve_all(a);
    squeeze(a);
    void *block = take_slowly(a, class);
    if (block == NULL) {
        (void)slab_recover(a);
        block = take_slowly(a, class);
    }
    for (uint32_t larger = class + 1; block == NULL && larger < a->slab.classes && larger <= class + LARGER_CLASSES;
         larger++) {
        if (a->slab.sizes[larger] % alignment == 0)
            block = take_slowly(a, larger);
    }
    return block != NULL ? block : slab_no_room(a, size);
}

static void *
take_large(hshm_allocator *a, size_t size, size_t alignment, bool *ret_zero)
{
    struct claim claim;
    if (large_fits(a, size, alignment) && page_take_slices(a, large_slices(&a->slab, size), alignment, &claim)) {
        *ret_zero = false;
        return large_begin(a, &claim, alignment);
    }
    void *block = large_take(a, size, alignment, ret_zero);
    if (block == NULL) {
        squeeze(a);
        block = large_take(a, size, alignment, ret_zero);
    }
    if (block == NULL && slab_recover(a))
        block = large_take(a, size, alignment, ret_zero);
    return block != NULL ? block : slab_no_room(a, size);
}

/* ---- the calls ---- */

static void *
take_class(hshm_allocator *a, uint32_t class, size_t size, uint64_t alignment)
{
    struct page_thread *thread = thread_or_new(a);
    void *block = NULL;
    if (LIKELY(thread != NULL)) {
        block = take_learned(thread, class);
        if (block == NULL && thread->bins[class].shares)
            block = take_shared_learned(thread, class);
        if (block == NULL && refill(thread, class))
            block = take_learned(thread, class);
        if (block == NULL)
            block = take_shared_learned(thread, class);
    }
    if (block == NULL)
        block = take_slowly(a, class);
    return block != NULL ? block : take_desperately(a, class, size, alignment);
}

static NO_INLINE void *
page_malloc_other(hshm_allocator *a, size_t size)
{
    bool zero;
    if (size <= a->slab.max_size)
        return take_class(a, slab_class(&a->slab, size), size, 1);
    struct page_thread *thread = thread_or_new(a);
    if (thread == NULL || ++thread->larges % LARGES_TO_TIDY == 0)
        tidy_by_age(a); /* who takes only large blocks counts few frees */
    return take_large(a, size, 1, &zero);
}

/* The common case is all here: a small block, from this processor's slab of the class, at home. */
static void *
page_malloc(hshm_allocator *a, size_t size)
{
    struct page_thread *thread = thread_of(a);
    if (LIKELY(size <= SMALL_MAX && !is_no_thread(thread))) {
        void *block = take_learned(thread, a->slab.small_class[(size + GRANULE - 1) / GRANULE]);
        if (LIKELY(block != NULL))
            return block;
    }
    return page_malloc_other(a, size);
}

static void *
page_aligned(hshm_allocator *a, size_t size, size_t alignment)
{
    uint32_t class;
    bool zero;
    if (!slab_class_aligned(a, size, alignment, &class))
        return take_large(a, size, alignment, &zero);
    return take_class(a, class, size, alignment);
}

static void *
page_zeroed(hshm_allocator *a, size_t size)
{
    bool zero = false;
    void *block = size > a->slab.max_size ? take_large(a, size, 1, &zero) : page_malloc(a, size);
    return block == NULL || zero ? block : memset(block, 0, size);
}

/* Elsewhere than at home nothing is counted down; the word tells whether it is worth to look at the slab. */
static void
settle(hshm_allocator *a, uint64_t slice, struct slab_record *record, uint32_t word)
{
    struct slab_heap *h = &a->slab;
    const uint64_t own = load_seq_cst(&record->own);
    const uint32_t blocks = blocks_of(h, record);
    const uint64_t mask = word_mask(word, blocks);
    const uint64_t bits = free_word(h, record, word, blocks);
    if ((own & SLAB_CURRENT) == 0 &&
        (bits == mask || (has_flags(own, SLAB_FULL) && bits_count(bits) * FULL_SHARE >= bits_count(mask))))
        page_look_at(a, slice, record);
}

/* At home, if it can be: NOT = it was free. */
static enum rseq_result
give_at_home(const hshm_allocator *a, struct slab_record *record, uint64_t own, uint32_t word, uint64_t at)
{
    const struct slab_heap *h = &a->slab;
    const uint32_t cpu = rseq_cpu();
    if (gives_away(thread_of(a)) || page_own_home(own) == 0 || page_own_home(own) != cpu + 1)
        return RSEQ_AGAIN;
    if (may_be_shared(record) && (load_relaxed(&remote_of(h, record)[word]) >> at & 1) != 0)
        return RSEQ_NOT;
    return rseq_give(cpu, (struct rseq_guard){ &record->own, own }, &bits_of(record)[word], at);
}

/* By an atomic instruction. */
static bool
give_shared(const struct slab_heap *h, struct slab_record *record, uint32_t word, uint64_t bit)
{
    if ((load_acquire(&bits_of(record)[word]) & bit) != 0)
        return false;
    const bool was_live = (atomic_fetch_or(&remote_of(h, record)[word], bit) & bit) == 0;
    FAILPOINT("page.given_shared");
    note_shared(record);
    return was_live;
}

static bool
give(hshm_allocator *a, const struct block_place *place)
{
    const struct slab_heap *h = &a->slab;
    const uint32_t word = place->block / WORD_BITS;
    const uint64_t at = place->block % WORD_BITS;
    if (UNLIKELY(lifetime_has_slab(place->record)))
        return lifetime_give(a, place);
    const enum rseq_result at_home = give_at_home(a, place->record, load_acquire(&place->record->own), word, at);
    if (at_home == RSEQ_NOT || (at_home == RSEQ_AGAIN && !give_shared(h, place->record, word, UINT64_C(1) << at)))
        return false;
    count_free(a);
    settle(a, place->slice, place->record, word);
    return true;
}

static bool
give_large(hshm_allocator *a, const struct block_place *place)
{
    if (!page_give_slices(a, place->slice, place->found))
        return false;
    count_free(a);
    return true;
}

/* What the common cases leave: large blocks, blocks elsewhere than at home, wrong frees; and each that is to be counted. */
static NO_INLINE hshm_status
page_free_other(hshm_allocator *a, void *addr)
{
    struct block_place place;
    struct page_thread *thread = thread_of(a);
    if (addr == NULL)
        return HSHM_OK;
    if (!is_no_thread(thread))
        notice_cpu(thread);
    if (slab_find(a, addr, &place) && (slice_state(place.found) == SLICE_RUN ? give_large(a, &place) : give(a, &place)))
        return HSHM_OK;
    return allocator_bad_free(a, addr);
}

/*
 * The common case: at home, `inside` bytes behind the begin of the slab that begins at `slice`, by a thread that need not count
 * it in the region yet.  SETTLE: done, and `left` has come to 0.
 */
static inline __attribute__((always_inline)) enum hshm_inline_given
give_here(const hshm_allocator *a, uint64_t slice, uint64_t inside)
{
    const struct slab_heap *h = &a->slab;
    struct page_thread *thread = thread_of(a);
    struct slab_record *record = record_of(h, slice);
    /* First: who is no thread has nothing else.  Acquire pairs with the release in slab_begin(). */
    if (UNLIKELY(load_relaxed(&thread->budget) == 0))
        return HSHM_INLINE_REST;
    const uint64_t own = load_acquire(&record->own);
    if (UNLIKELY(((uint32_t)own & (uint32_t)(PAGE_OWN_HOME_MASK | SLAB_IS)) != thread->home || may_be_shared(record)))
        return HSHM_INLINE_REST;
    uint64_t rest;
    const uint64_t block = hshm_inline_multiply(inside, record->reciprocal, &rest);
    bits_word *word =
        &bits_of(record)[block / WORD_BITS & h->word_mask]; /* it lies in a region, and may say anything */
    const struct rseq_guard guard = { &record->own, own };
    if (UNLIKELY(rest >= record->limit || rseq_give(thread->cpu, guard, word, block % WORD_BITS) != RSEQ_DONE))
        return HSHM_INLINE_REST;
    store_relaxed(&thread->budget, load_relaxed(&thread->budget) - 1);
    return UNLIKELY(count_left(record)) ? HSHM_INLINE_SETTLE : HSHM_INLINE_DONE;
}

static NO_INLINE hshm_status
settle_here(hshm_allocator *a, uint64_t slice)
{
    page_look_at(a, slice, record_of(&a->slab, slice));
    return HSHM_OK;
}

/* The same in a slab's further slices. */
static NO_INLINE hshm_status
page_free_rest(hshm_allocator *a, void *addr)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t off = (uintptr_t)addr - (uintptr_t)h->data;
    const uint64_t slice = off >> h->shift;
    const uint64_t found = slice < h->count ? load_relaxed(&h->slices[slice]) : 0;
    if (slice_state(found) != SLICE_REST || slice_count(found) > slice)
        return page_free_other(a, addr);
    const uint64_t first = slice - slice_count(found);
    const enum hshm_inline_given given = give_here(a, first, off - (first << h->shift));
    if (LIKELY(given == HSHM_INLINE_DONE))
        return HSHM_OK;
    return given == HSHM_INLINE_REST ? page_free_other(a, addr) : settle_here(a, first);
}

/* A block of a slab's first slice. */
static hshm_status
page_free(hshm_allocator *a, void *addr)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t off = (uintptr_t)addr - (uintptr_t)h->data;
    const uint64_t slice = off >> h->shift;
    if (UNLIKELY(slice >= h->count))
        return page_free_other(a, addr);
    const enum hshm_inline_given given = give_here(a, slice, off & h->slice_mask);
    if (LIKELY(given == HSHM_INLINE_DONE))
        return HSHM_OK;
    return given == HSHM_INLINE_REST ? page_free_rest(a, addr) : settle_here(a, slice);
}

static bool
page_give_elsewhere(hshm_allocator *a, const struct block_place *place)
{
    const uint32_t word = place->block / WORD_BITS;
    if (UNLIKELY(lifetime_has_slab(place->record)))
        return lifetime_give(a, place);
    if (!give_shared(&a->slab, place->record, word, UINT64_C(1) << place->block % WORD_BITS))
        return false;
    count_free(a);
    settle(a, place->slice, place->record, word);
    return true;
}

static hshm_status
page_trim(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes)
{
    shelve_all(a); /* a full slab may have lost its last block unnoticed */
    squeeze(a);
    (void)slab_recover(a);
    return run_trim(a, keep, ret_bytes);
}

/* ---- handles ---- */

static hshm_status
page_layout(const struct heap_wish *wish, struct heap_layout *ret_layout)
{
    return slab_layout(wish, "ScalablePage", false, ret_layout);
}

static void
begin_handle(hshm_allocator *a)
{
    a->slab.index = a->read_only ? -1 : thread_index_take();
    a->view.thread_off = thread_offset(a->slab.index);
    /* Not as a process began that had our slot before: see page_current_own(). */
    atomic_store(&a->slab.currents, clock_monotonic_ns());
    lifetime_begin(a);
}

static hshm_status
page_init(hshm_allocator *a, const struct heap_wish *wish)
{
    slab_init(a, wish, false);
    begin_handle(a);
    return HSHM_OK;
}

static hshm_status
page_open(hshm_allocator *a, const char *name)
{
    const hshm_status status = slab_open(a, name, false);
    if (status == HSHM_OK)
        begin_handle(a);
    return status;
}

/* What lies in the region is nobody's. */
static void
page_close(hshm_allocator *a)
{
    if (!a->refuses)
        lifetime_end(a);
    thread_table_lock();
    while (a->slab.counters != NULL)
        end_thread(&a->slab.counters->fast);
    thread_index_give(a->slab.index);
    thread_table_unlock();
}

/* The parent's threads count what they freed; this process's one thread begins anew. */
static void
page_fork_child(hshm_allocator *a)
{
    lifetime_fork_child(a);
    while (a->slab.counters != NULL) {
        struct page_thread *thread = a->slab.counters;
        if (!a->private_memory)
            set_budget(thread, 0);
        end_thread(&thread->fast);
    }
    if (a->slab.index >= 0)
        thread_entry_clear(a->slab.index);
    if (a->private_memory)
        slab_recover_copy(a, UINT32_MAX);
}

const struct allocator_ops alloc_scalable_page_ops = {
    .malloc = page_malloc,
    .free = page_free,
    .aligned = page_aligned,
    .realloc = slab_realloc,
    .take_for = page_take_for,
    .give_for = slab_give_for,
    .undo_take = slab_undo_take,
    .finish_give = slab_finish_give,
    .give_elsewhere = page_give_elsewhere,
    .zeroed = page_zeroed,
    .allocate_to = user_slot_allocate,
    .free_from = user_slot_free,
    .usable_size = slab_usable_size,
    .visit = slab_visit,
    .trim = page_trim,
    .stats = slab_stats,
    .check = slab_check,
    .kind = HSHM_ALLOCATOR_SCALABLE_PAGE,
    .title = "ScalablePage",
    .needs = TAKES_MIN_BLOCK | HAS_LIFETIMES,
    .layout = page_layout,
    .check_layout = slab_check_layout,
    .init = page_init,
    .open = page_open,
    .recover = slab_recover_process,
    .recover_all = slab_recover_all,
    .remake = slab_remake,
    .close = page_close,
    .fork_prepare = lifetime_fork_prepare,
    .fork_done = lifetime_fork_done,
    .fork_child = page_fork_child,
};
