/*
 * alloc_thread.c - slabs that threads own.
 *
 * A slab belongs to one thread's slot in the region (format/slab_format.h), and only its owner takes blocks from it; so
 * taking a block is one plain store that clears its bit, and the owner's free is one that sets it (<hshm/inline.h>).
 * A free by anyone else sets the block's bit in a second row, the remote bits, which the owner harvests:
 *
 *                        free bits       remote bits
 *     owner takes        1 -> 0
 *     owner frees        0 -> 1
 *     another frees                      0 -> 1
 *     owner harvests     |= remote       &= ~what was seen
 *
 * A thread has for each class one current slab, from which it takes; a queue of slabs with enough free blocks to be worth
 * a turn; and slabs that were full when last seen, in no list.  A slab's life in its owner's hands:
 *
 *     CURRENT --few free blocks left--> FILLING --an eighth is free--> QUEUED --its turn--> CURRENT
 *                                                                      QUEUED --no live block--> its slices are free
 *
 * (FILLING, because a turn for each block that comes back would cost more than the block.)  `left` in a record counts the
 * owner's frees down to the moment when it must look: for a filling slab when an eighth is free, for a queued one when no
 * block is live.  Nothing is counted when a block is taken, because only current slabs give blocks, and those wait for no
 * moment.
 *
 * Mail: who frees a block of another's slab, as the first since the owner last looked (NEWS says so), tells the owner: a
 * bit for the slab, in the owner's mail.  The owner clears first and looks then, the other sets its bit first and
 * tells then; so one of them sees the other.  Who owns a slab is asked after the bit was set, for the same reason.
 *
 * What ended threads and dead processes leave are orphans: slabs of nobody.  They are adopted by who needs their class (found
 * on the class's shelf), or given free by whoever frees their last block.
 *
 * What a kill leaves
 *     take, free by the owner   nothing in between: one store
 *     remote free               1. remote bit  2. mail; between them: the owner does not know.  Recovery mails everyone
 *     harvest                   1. free bits  2. remote bits cleared; between them a bit in both; harvested again: the same
 *     adoption                  one CAS on `own`
 *     new slab, slab freed      run.c
 *     end of a thread           each slab by itself; the slot is given free last, so that recovery finds the others
 *
 * Locking: none on these paths; the process's thread_table lock where a thread's heap begins or ends.
 */
#include <string.h>

#include "allocator/allocator.h"
#include "allocator/lifetime.h"
#include "allocator/thread_slabs.h"
#include "allocator/thread_table.h"
#include "allocator/user_slot.h"
#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "sync/pages.h"

enum {
    IDLE_HEAPS = 8,         /* private parts of ended threads, kept for the next ones          */
    FEW_SLABS = 2,          /* of a class: then its next slabs are larger                      */
    FILLING_SHARE = 8,      /* one of so many blocks free: the slab is worth a turn            */
    LARGER_CLASSES = 16,    /* out of memory: how many larger classes may serve a request      */
    TIDY_WORK = 1024,       /* after so many refills a thread looks what it keeps in vain      */
    SLICE_WORK = 4,         /* ... of which a slice of a new slab or large block counts so many */
    ADOPTIONS_AT_ONCE = 64, /* orphans looked at before a new slab is made instead             */
    OWN_SLOT_SHIFT = 8,
    OWN_INDEX_SHIFT = 32
};
#define LEFT_UNCOUNTED UINT32_C(0x80000000)

static_assert(offsetof(struct thread_heap, fast) == 0, "thread_table.c knows the first part only");
static_assert(offsetof(struct hshm_inline_record, own) == offsetof(struct slab_record, own) &&
                  offsetof(struct hshm_inline_record, limit) == offsetof(struct slab_record, limit) &&
                  offsetof(struct hshm_inline_record, reciprocal) == offsetof(struct slab_record, reciprocal) &&
                  offsetof(struct hshm_inline_record, left) == offsetof(struct slab_record, left) &&
                  HSHM_INLINE_BITS_OFF == sizeof(struct slab_record),
              "inline.h knows the record");
static_assert((int)HSHM_INLINE_UNIT_SHIFT == 4 && GRANULE == 16, "inline.h knows the unit");

/* ---- counting ---- */

static void
count_frees(struct thread_heap *heap, uint64_t n)
{
    /* The owner alone writes it; who reads sees some moment's value. */
    store_relaxed(&heap->shared->frees, load_relaxed(&heap->shared->frees) + n);
}

/* Count the frees since `left` was set, and set it anew. */
static void
set_left(struct thread_heap *heap, struct slab *slab, uint32_t left)
{
    struct slab_record *record = slab->record;
    if (record->left_from != record->left)
        count_frees(heap, record->left_from - record->left);
    record->left = record->left_from = left;
}

static uint32_t
live_blocks(const struct slab *slab)
{
    uint32_t free_blocks = 0;
    for (uint32_t word = 0; word < slab->words; word++)
        free_blocks += bits_count(load_relaxed(&slab->bits[word]));
    return slab->blocks - free_blocks;
}

/* ---- ownership ---- */

static uint64_t
own_word(const struct thread_heap *heap, const struct slab *slab)
{
    return heap->me | (uint64_t)slab->index << OWN_INDEX_SHIFT;
}

/* Did others free blocks that the owner has not seen? */
static bool
has_news(const struct slab *slab)
{
    return (load_relaxed(&slab->record->own) & SLAB_NEWS) != 0;
}

/*
 * Take in what others freed.  The remote bits are cleared after the free bits were set, and only those that were seen; if
 * others came in between, again.  A bit that is set in both already is a second free of a block: it is dropped.
 */
static uint32_t
harvest(struct thread_heap *heap, struct slab *slab)
{
    uint32_t count = 0;
    /* Cleared before the bits are looked at; pairs with the CAS in bring_news(). */
    (void)atomic_fetch_and(&slab->record->own, ~(uint64_t)SLAB_NEWS);
    FAILPOINT("thread.news_seen");
    for (uint32_t word = 0; word < slab->words; word++) {
        const uint64_t mask = word_mask(word, slab->blocks);
        /* Acquire pairs with the release of who freed: its last writes to the block come before our next owner's. */
        uint64_t seen = load_acquire(&slab->remote[word]);
        while (seen != 0) {
            slab_acknowledge(heap->a, slab->slice, OP_ANYONES); /* before we can take them */
            const uint64_t bits = load_relaxed(&slab->bits[word]);
            count += bits_count(seen & mask & ~bits);
            store_relaxed(&slab->bits[word], bits | (seen & mask));
            FAILPOINT("thread.harvested_bits");
            seen = atomic_fetch_and(&slab->remote[word], ~seen) & ~seen;
            FAILPOINT("thread.harvested");
        }
    }
    if (count != 0)
        count_frees(heap, count);
    return count;
}

/* Its slices become free, or are kept.  It is in no queue, and has no live block. */
static void
retire(struct thread_heap *heap, struct slab *slab)
{
    const uint64_t found = slice_make(SLICE_SLAB, 0, slab->slices);
    set_left(heap, slab, 0);
    if (!spares_keep(heap->a, &heap->spares, slab->slice, found))
        (void)run_free(heap->a, slab->slice, found);
    owned_drop(heap, slab);
}

/* A queued slab has no live block.  One is kept for each class, if it is small: the next block may come at once. */
static void
queued_is_empty(struct thread_heap *heap, struct slab *slab)
{
    if (heap->queues[slab->class].first == slab && slab->next == NULL && slab->slices <= SLAB_BLOCK_SLICES) {
        set_left(heap, slab, LEFT_UNCOUNTED);
        return;
    }
    owned_dequeue(heap, slab);
    retire(heap, slab);
}

/* Its bits have changed by more than `left` tells. */
static void
count_queued(struct thread_heap *heap, struct slab *slab)
{
    const uint32_t live = live_blocks(slab);
    if (live == 0)
        queued_is_empty(heap, slab);
    else
        set_left(heap, slab, live);
}

/* How many free blocks make a slab worth a turn. */
static uint32_t
enough_free(const struct slab *slab)
{
    return slab->blocks <= FILLING_SHARE ? 1 : slab->blocks / FILLING_SHARE;
}

/* A slab with few free blocks here and there would have to be looked for each of them. */
static bool
is_worth_a_turn(const struct slab *slab)
{
    return slab->blocks - live_blocks(slab) >= enough_free(slab);
}

/* Its bits may have changed by more than `left` tells: is it worth a turn now? */
static void
count_filling(struct thread_heap *heap, struct slab *slab)
{
    const uint32_t free_blocks = slab->blocks - live_blocks(slab);
    const uint32_t enough = enough_free(slab);
    if (free_blocks < enough) {
        set_left(heap, slab, enough - free_blocks);
        return;
    }
    owned_enqueue(heap, slab);
    count_queued(heap, slab);
}

static void
look_at(struct thread_heap *heap, struct slab *slab)
{
    const uint32_t freed = slab->place == PLACE_UNUSED ? 0 : harvest(heap, slab);
    if (freed == 0)
        return;
    if (slab->place == PLACE_FILLING)
        count_filling(heap, slab);
    else if (slab->place == PLACE_QUEUED)
        count_queued(heap, slab);
}

static void
read_mail(struct thread_heap *heap)
{
    const uint32_t mail_words = heap->a->slab.mail_words;
    /* Cleared before anything is looked at: who comes later sets it again.  Pairs with the OR in send_mail(). */
    uint64_t which = atomic_exchange(&heap->shared->mail, 0);
    FAILPOINT("thread.mail_opened");
    for (; which != 0; which &= which - 1) {
        const uint32_t word = (uint32_t)__builtin_ctzll(which);
        if (word >= mail_words)
            break;
        uint64_t bits = atomic_exchange(&heap->mail[word], 0);
        FAILPOINT("thread.mail_read");
        for (; bits != 0; bits &= bits - 1) {
            const uint32_t first = word * WORD_BITS + (uint32_t)__builtin_ctzll(bits);
            for (uint32_t i = first; i < owned_limit(heap); i += mail_words * WORD_BITS)
                look_at(heap, owned_at(heap, i));
        }
    }
}

/* ---- taking blocks ---- */

/* The slab is not its class's current one any more. */
static void
no_bin(struct thread_heap *heap, const struct slab *slab)
{
    heap->bins[slab->class].word = &thread_no_blocks;
    heap->bins[slab->class].ready = 0;
    heap->current[slab->class] = NULL;
}

static void
lead_bin(struct thread_heap *heap, struct slab *slab, uint32_t word)
{
    const struct slab_heap *h = &heap->a->slab;
    struct hshm_inline_bin *bin = &heap->bins[slab->class];
    slab->at = word;
    bin->size = h->sizes[slab->class];
    bin->base = slice_address(h, slab->slice) + (uint64_t)word * WORD_BITS * bin->size;
    bin->word = (uint64_t *)(void *)&slab->bits[word];
    bin->ready = load_relaxed(&slab->bits[word]);
}

/* Let the bin of a current slab lead to its next word with free blocks.  False behind the last. */
static inline bool
next_word(struct thread_heap *heap, struct slab *slab)
{
    for (uint32_t word = slab->at + 1; word < slab->words; word++) {
        if (load_relaxed(&slab->bits[word]) == 0)
            continue;
        lead_bin(heap, slab, word);
        return true;
    }
    return false;
}

/* The same from the first word on, and for a slab that may not have been current before. */
static bool
set_bin(struct thread_heap *heap, struct slab *slab)
{
    slab->at = UINT32_MAX; /* before the first */
    return next_word(heap, slab);
}

static void
make_current(struct thread_heap *heap, struct slab *slab)
{
    set_left(heap, slab, LEFT_UNCOUNTED);
    slab->place = PLACE_CURRENT;
    heap->current[slab->class] = slab;
}

/* The current slab has no free block, or so few that another slab serves better. */
static void
leave_current(struct thread_heap *heap, struct slab *slab)
{
    slab->place = PLACE_FILLING;
    no_bin(heap, slab);
    count_filling(heap, slab);
}

static struct slab *
next_queued(struct thread_heap *heap, uint32_t class)
{
    struct slab *slab = heap->queues[class].first;
    if (slab != NULL)
        owned_dequeue(heap, slab);
    return slab;
}

/* Is there an orphan in this slice, of this class?  Then it is ours. */
static struct slab *
adopt_slice(struct thread_heap *heap, uint64_t slice, uint32_t class)
{
    struct slab_heap *h = &heap->a->slab;
    const uint64_t found = load_acquire(&h->slices[slice]);
    struct slab_record *record = record_of(h, slice);
    uint64_t nobodys = load_acquire(&record->own);
    if (slice_state(found) != SLICE_SLAB || (nobodys & ~(uint64_t)SLAB_NEWS) != SLAB_IS)
        return NULL;
    struct slab *slab = owned_new(heap);
    if (slab == NULL)
        return NULL;
    /* Acquire pairs with the release of who left it: its bits and its record. */
    if (!cas_seq_cst(&record->own, &nobodys, own_word(heap, slab))) {
        owned_drop(heap, slab);
        return NULL;
    }
    FAILPOINT("thread.adopted");
    if (!slab_record_is_sound(h, slice, found) || load_relaxed(&record->class) != class) {
        /* Of another class, or damaged: left where it is.  Who freed a block meanwhile has told us, and nobody else. */
        atomic_store(&record->own, SLAB_IS);
        owned_drop(heap, slab);
        const uint32_t its_class = load_relaxed(&record->class);
        if (its_class < h->classes)
            shelf_put(h, its_class, 0, slice);
        return NULL;
    }
    owned_describe(heap, slab, slice, slice_count(found), class);
    for (uint32_t word = 0; word < slab->words; word++)
        store_relaxed(&slab->bits[word], load_relaxed(&slab->bits[word]) & word_mask(word, slab->blocks));
    record->left = record->left_from = LEFT_UNCOUNTED;
    (void)harvest(heap, slab);
    return slab;
}

static struct slab *
adopt(struct thread_heap *heap, uint32_t class)
{
    struct slab_heap *h = &heap->a->slab;
    for (int tries = 0; tries < ADOPTIONS_AT_ONCE; tries++) {
        const uint64_t taken = shelf_take(h, class, 0);
        if (taken == 0)
            return NULL;
        struct slab *slab = adopt_slice(heap, taken - 1, class);
        if (slab != NULL)
            return slab;
    }
    return NULL;
}

static struct slab *
make_slab(struct thread_heap *heap, uint32_t class)
{
    hshm_allocator *a = heap->a;
    struct claim claim;
    struct slab *slab = owned_new(heap);
    if (slab == NULL)
        return NULL;
    const struct slab_cut cut = heap->slabs[class] < FEW_SLABS ? a->slab.cuts[class] : a->slab.large_cuts[class];
    if (!spares_take(heap->a, &heap->spares, cut.slices, 1, &claim) && !slab_claim(a, class, cut, &claim)) {
        owned_drop(heap, slab);
        return NULL;
    }
    heap->work += claim.count * SLICE_WORK; /* tidied with the next refill: this one is about to use what it finds */
    run_trim_by_age(a);
    owned_describe(heap, slab, claim.first, claim.count, class);
    slab_begin(a, &claim, class, own_word(heap, slab), false);
    return slab;
}

/* Give back what this thread keeps for later, and look at all its slabs.  True if anything became free. */
static bool
squeeze(struct thread_heap *heap)
{
    bool found = spares_give_back(heap->a, &heap->spares);
    for (uint32_t i = 0; i < owned_limit(heap); i++) {
        struct slab *slab = owned_at(heap, i);
        if (slab->place == PLACE_UNUSED)
            continue;
        found |= harvest(heap, slab) != 0;
        if (live_blocks(slab) != 0) {
            if (slab->place == PLACE_QUEUED)
                count_queued(heap, slab);
            else if (slab->place == PLACE_FILLING && live_blocks(slab) < slab->blocks) {
                owned_enqueue(heap, slab);
                count_queued(heap, slab);
                found = true;
            }
            continue;
        }
        if (slab->place == PLACE_QUEUED)
            owned_dequeue(heap, slab);
        else if (slab->place == PLACE_CURRENT)
            no_bin(heap, slab);
        set_left(heap, slab, 0); /* before its record can be another's */
        (void)run_free(heap->a, slab->slice, slice_make(SLICE_SLAB, 0, slab->slices));
        owned_drop(heap, slab);
        found = true;
    }
    return found;
}

/* The bin of a larger class that has a free block, when there is no room for a slab of the right one. */
static bool
take_larger(struct thread_heap *heap, uint32_t class, uint64_t alignment, void **ret_block)
{
    const uint32_t end =
        class + LARGER_CLASSES < heap->a->slab.classes ? class + LARGER_CLASSES : heap->a->slab.classes;
    for (uint32_t larger = class + 1; larger < end; larger++) {
        if (heap->a->slab.sizes[larger] % alignment != 0)
            continue;
        if (hshm_inline_take(&heap->bins[larger], ret_block))
            return true;
        struct slab *slab = heap->current[larger];
        if (slab == NULL && (slab = next_queued(heap, larger)) != NULL)
            make_current(heap, slab);
        if (slab != NULL && set_bin(heap, slab))
            return hshm_inline_take(&heap->bins[larger], ret_block);
    }
    return false;
}

/* A slab with free blocks for a class that has none; NULL without any. */
static struct slab *
find_slab(struct thread_heap *heap, uint32_t class)
{
    struct slab *slab = next_queued(heap, class);
    if (slab == NULL)
        slab = adopt(heap, class);
    return slab != NULL ? slab : make_slab(heap, class);
}

static void
let_go(struct thread_heap *heap, struct slab *slab)
{
    set_left(heap, slab, 0);
    (void)run_free(heap->a, slab->slice, slice_make(SLICE_SLAB, 0, slab->slices));
    owned_drop(heap, slab);
}

/*
 * For each class that it ever used a thread may keep an empty slab or two, for a block that comes soon, and slices for the next
 * slabs.  What was kept in vain is let go; it would add up to tens of MiB.  One walk over the classes for each TIDY_WORK.
 */
static NO_INLINE void
tidy(struct thread_heap *heap)
{
    heap->work = 0;
    run_trim_by_age(heap->a);
    spares_tidy(heap->a, &heap->spares);
    for (uint32_t class = 0; class < heap->a->slab.classes; class ++) {
        struct slab *current = heap->current[class];
        if (current != NULL && live_blocks(current) == 0) {
            no_bin(heap, current);
            let_go(heap, current);
        }
        struct slab *queued = heap->queues[class].first;
        if (queued != NULL && live_blocks(queued) == 0) {
            owned_dequeue(heap, queued);
            let_go(heap, queued);
        }
    }
}

static void
note_work(struct thread_heap *heap, uint64_t work)
{
    heap->work += work;
    if (UNLIKELY(heap->work >= TIDY_WORK))
        tidy(heap);
}

/* The bin has run out.  False when there is no memory. */
static bool
refill(struct thread_heap *heap, uint32_t class)
{
    note_work(heap, 1);
    for (int desperate = 0; desperate < 3;) {
        if (load_relaxed(&heap->shared->mail) != 0)
            read_mail(heap);
        struct slab *slab = heap->current[class];
        if (slab != NULL) {
            if (has_news(slab))
                (void)harvest(heap, slab);
            if (is_worth_a_turn(slab) && set_bin(heap, slab))
                return true;
            leave_current(heap, slab);
        }
        slab = find_slab(heap, class);
        if (slab != NULL) {
            make_current(heap, slab);
            if (set_bin(heap, slab))
                return true;
            continue;
        }
        /* No room.  First what this thread holds, then what the dead left. */
        if (desperate == 0)
            (void)squeeze(heap);
        else if (desperate == 1)
            (void)slab_recover(heap->a);
        desperate++;
    }
    return false;
}

/* ---- a thread's heap ---- */

static bool
take_slot(hshm_allocator *a, uint32_t *ret_slot)
{
    struct slab_heap *h = &a->slab;
    const uint64_t mine = 1 | (uint64_t)a->process << THREAD_OWNER_SHIFT;
    for (uint32_t slot = 0; slot < h->thread_slots; slot++) {
        uint64_t nobody = 0;
        if (load_relaxed(&h->threads[slot].owner) != 0)
            continue;
        /* First: recovery looks no further, and a kill must not hide the slot from it. */
        uint64_t high = load_relaxed(&h->root->threads_high);
        while (high <= slot && !cas_seq_cst(&h->root->threads_high, &high, slot + UINT64_C(1)))
            ;
        FAILPOINT("thread.slot_in_sight");
        if (!cas_seq_cst(&h->threads[slot].owner, &nobody, mine))
            continue;
        FAILPOINT("thread.slot_taken");
        *ret_slot = slot;
        return true;
    }
    return false;
}

static void
fill_heap(struct thread_heap *heap, hshm_allocator *a, uint32_t slot)
{
    struct slab_heap *h = &a->slab;
    heap->a = a;
    heap->slot = slot;
    heap->shared = &h->threads[slot];
    heap->mail = &h->mail[(uint64_t)slot * h->mail_words];
    heap->me = SLAB_IS | (slot + UINT64_C(1)) << OWN_SLOT_SHIFT;
    heap->reserves = user_slot_make(USER_SLOT_RESERVED, op_id_of_thread(slot), 0);
    heap->claims = user_slot_make(USER_SLOT_CLAIMED, op_id_of_thread(slot), 0) - USER_SLOT_FULL;
    for (uint32_t class = 0; class < h->classes; class ++)
        heap->bins[class].word = &thread_no_blocks;
    /* Where blocks end with the process if nothing else is asked, inline.h must not find these. */
    for (size_t units = 0; units < COUNTOF(heap->fast.direct); units++)
        heap->fast.direct[units] =
            a->life.is_default ? &thread_no_bin : &heap->bins[slab_class(h, units << HSHM_INLINE_UNIT_SHIFT)];
    heap->next = h->heaps;
    heap->back = &h->heaps;
    if (heap->next != NULL)
        heap->next->back = &heap->next;
    h->heaps = heap;
}

static void
release_heap(struct thread_heap *heap)
{
    owned_free(heap);
    pages_give(heap, sizeof *heap);
}

/* Heaps that pthreads' keys lead to, of all handles, under the thread_table lock. */
static struct thread_heap *keyed_heaps;

/* Take a heap out of the list of keyed ones.  False: it is not there.  Never looks at *heap, which may be gone. */
static bool
unlist_keyed(const struct thread_heap *heap)
{
    for (struct thread_heap **at = &keyed_heaps; *at != NULL; at = &(*at)->next_keyed) {
        if (*at != heap)
            continue;
        *at = (*at)->next_keyed;
        return true;
    }
    return false;
}

static void
unlist_heap(struct thread_heap *heap)
{
    (void)unlist_keyed(heap);
    *heap->back = heap->next;
    if (heap->next != NULL)
        heap->next->back = heap->back;
}

/* Private parts of threads are some pages each: the next thread takes one over, under the lock. */
static void
retire_heap(struct thread_heap *heap)
{
    struct slab_heap *h = &heap->a->slab;
    unlist_heap(heap);
    if (h->idle_heaps == IDLE_HEAPS) {
        release_heap(heap);
        return;
    }
    heap->next = h->idle;
    h->idle = heap;
    h->idle_heaps++;
}

static struct thread_heap *
new_heap(struct slab_heap *h)
{
    struct thread_heap *heap = h->idle;
    if (heap == NULL)
        return pages_take(sizeof *heap);
    h->idle = heap->next;
    h->idle_heaps--;
    return heap;
}

/* A slab becomes an orphan, or free. */
static void
leave_slab(struct thread_heap *heap, struct slab *slab)
{
    struct slab_heap *h = &heap->a->slab;
    (void)harvest(heap, slab);
    set_left(heap, slab, 0);
    if (live_blocks(slab) == 0) {
        (void)run_free(heap->a, slab->slice, slice_make(SLICE_SLAB, 0, slab->slices));
        return;
    }
    /* Then look once more: who freed a block before this store has looked at `own` before, too. */
    atomic_store(&slab->record->own, SLAB_IS);
    FAILPOINT("thread.orphaned");
    bool has_free = live_blocks(slab) < slab->blocks;
    for (uint32_t word = 0; word < slab->words; word++)
        has_free |= load_seq_cst(&slab->remote[word]) != 0;
    if (has_free)
        shelf_put(h, slab->class, 0, slab->slice);
    /* If it was adopted in between, that is not our slab any more, and not NOBODY's. */
    (void)slab_retire_orphan(heap->a, slab->slice);
}

/* Under the thread_table lock: the thread ends, or its handle does. */
static void
end_heap(struct hshm_inline_heap *fast)
{
    struct thread_heap *heap = (struct thread_heap *)(void *)fast;
    (void)spares_give_back(heap->a, &heap->spares);
    FAILPOINT("thread.end_spares");
    for (uint32_t i = 0; i < owned_limit(heap); i++) {
        struct slab *slab = owned_at(heap, i);
        if (slab->place == PLACE_UNUSED)
            continue;
        if (slab->place == PLACE_QUEUED)
            owned_dequeue(heap, slab);
        else if (slab->place == PLACE_CURRENT)
            no_bin(heap, slab);
        leave_slab(heap, slab);
        owned_drop(heap, slab);
    }
    FAILPOINT("thread.end_slabs");
    store_release(&heap->shared->owner, 0);
    FAILPOINT("thread.end_slot");
    retire_heap(heap);
}

/*
 * For heaps that have no entry in the thread's table: a thread ends.  pthreads has read the pointer before we have the lock,
 * so the handle may have ended meanwhile, and the heap with it; the list tells.
 */
static void
end_keyed_heap(void *heap)
{
    thread_table_lock();
    if (unlist_keyed(heap))
        end_heap(heap);
    thread_table_unlock();
}

/* Of a heap that has no entry in the threads' tables. */
static NO_INLINE struct thread_heap *
keyed_heap(const hshm_allocator *a)
{
    return a->slab.index < 0 ? pthread_getspecific(a->slab.key) : NULL;
}

/* The calling thread's heap, or NULL if it has none. */
static inline struct thread_heap *
heap_of(const hshm_allocator *a)
{
    struct hshm_inline_heap *fast = hshm_inline_entry(&a->view)->heap;
    return LIKELY(fast != &thread_no_heap) ? (struct thread_heap *)(void *)fast : keyed_heap(a);
}

static hshm_status
no_slot(const hshm_allocator *a)
{
    return fail(HSHM_E_LIMIT,
                "the heap %u.%u has %u slots for threads, and all are taken by live ones; let threads end, share the "
                "work among fewer, or use a larger region or HSHM_ALLOCATOR_SCALABLE_PAGE",
                a->id.major, a->id.minor, a->slab.thread_slots);
}

static struct thread_heap *
make_heap(hshm_allocator *a)
{
    uint32_t slot = 0;
    if (!take_slot(a, &slot) && !(slab_recover(a) && take_slot(a, &slot))) {
        (void)no_slot(a);
        return NULL;
    }
    thread_table_lock();
    struct thread_heap *heap = new_heap(&a->slab);
    thread_table_unlock();
    if (heap == NULL) {
        store_release(&a->slab.threads[slot].owner, 0);
        (void)fail(HSHM_E_NOSPC, "no memory for a thread's part of the heap %u.%u: %zu bytes", a->id.major, a->id.minor,
                   sizeof *heap);
        return NULL;
    }
    thread_table_lock();
    fill_heap(heap, a, slot);
    if (a->slab.index >= 0) {
        thread_entry_set(a->slab.index, &heap->fast, heap->me, end_heap);
    } else {
        heap->next_keyed = keyed_heaps;
        keyed_heaps = heap;
    }
    thread_table_unlock();
    /* These may call malloc, which may be us: the heap is in its place by now. */
    if (a->slab.index >= 0)
        thread_watch_end();
    else
        (void)pthread_setspecific(a->slab.key, heap);
    return heap;
}

/* ---- the calls ---- */

static NO_INLINE void *
out_of_memory(struct thread_heap *heap, size_t size, uint32_t class, uint64_t alignment)
{
    void *block;
    if (take_larger(heap, class, alignment, &block))
        return block;
    return slab_no_room(heap->a, size);
}

static struct thread_heap *
heap_or_new(hshm_allocator *a)
{
    struct thread_heap *heap = heap_of(a);
    return LIKELY(heap != NULL) ? heap : make_heap(a);
}

static void *
take_class(hshm_allocator *a, uint32_t class, size_t size, uint64_t alignment)
{
    struct thread_heap *heap = heap_or_new(a);
    if (UNLIKELY(heap == NULL)) {
        slab_count_failure(a);
        return NULL;
    }
    void *block;
    while (UNLIKELY(!hshm_inline_take(&heap->bins[class], &block))) {
        struct slab *slab = heap->current[class];
        /* Most often there is another word in the same slab; mail is read between slabs. */
        if (slab != NULL && next_word(heap, slab))
            continue;
        if (!refill(heap, class))
            return out_of_memory(heap, size, class, alignment);
    }
    return block;
}

static void *
take_fresh(hshm_allocator *a, struct thread_heap *heap, size_t size, size_t alignment, bool *ret_zero)
{
    run_trim_by_age(a);
    void *block = large_take(a, size, alignment, ret_zero);
    if (block == NULL && heap != NULL && squeeze(heap))
        block = large_take(a, size, alignment, ret_zero);
    if (block == NULL && slab_recover(a))
        block = large_take(a, size, alignment, ret_zero);
    return block != NULL ? block : slab_no_room(a, size);
}

/* Large blocks belong to no thread; but this thread may keep what one needs.  Without a slot for it, it keeps nothing. */
static void *
take_large(hshm_allocator *a, size_t size, size_t alignment, bool *ret_zero)
{
    struct thread_heap *heap = heap_or_new(a);
    const uint64_t slices = large_slices(&a->slab, size);
    struct claim claim;
    if (UNLIKELY(heap == NULL))
        return take_fresh(a, NULL, size, alignment, ret_zero);
    if (LIKELY(large_fits(a, size, alignment) && spares_take(a, &heap->spares, slices, alignment, &claim))) {
        note_work(heap, 1);
        *ret_zero = false;
        return large_begin(a, &claim, alignment);
    }
    note_work(heap, slices * SLICE_WORK);
    return take_fresh(a, heap, size, alignment, ret_zero);
}

/* ---- for user slots; see op_log.h ---- */

static void *
take_large_for(hshm_allocator *a, struct thread_heap *heap, size_t size, struct op *op)
{
    const uint64_t slices = large_slices(&a->slab, size);
    struct claim claim;
    if (!large_fits(a, size, 1))
        return slab_no_room(a, size);
    if (spares_take(a, &heap->spares, slices, 1, &claim) || run_claim(a, slices, 1, &claim) ||
        (squeeze(heap) && run_claim(a, slices, 1, &claim)) || (slab_recover(a) && run_claim(a, slices, 1, &claim)))
        return large_for(a, &claim, op);
    return slab_no_room(a, size);
}

/* Like take_class(), telling which block before it is taken. */
static void *
thread_take_for(hshm_allocator *a, size_t size, struct op *op)
{
    struct thread_heap *heap = heap_or_new(a);
    if (heap == NULL)
        return NULL;
    if (size > a->slab.max_size)
        return take_large_for(a, heap, size, op);
    const uint32_t class = slab_class(&a->slab, size);
    struct hshm_inline_bin *bin = &heap->bins[class];
    for (;;) {
        if (bin->ready == 0)
            bin->ready = __atomic_load_n(bin->word, __ATOMIC_RELAXED);
        if (bin->ready != 0) {
            void *block = bin->base + (uint64_t)__builtin_ctzll(bin->ready) * bin->size;
            if (!op_candidate(a, op, block))
                return NULL;
            (void)hshm_inline_take(bin, &block);
            FAILPOINT("thread.slot_block_taken");
            return block;
        }
        struct slab *slab = heap->current[class];
        if ((slab == NULL || !next_word(heap, slab)) && !refill(heap, class))
            return slab_no_room(a, size);
    }
}

/* ---- the calls, once more ---- */

static NO_INLINE void *
thread_malloc_other(hshm_allocator *a, size_t size)
{
    bool zero;
    if (UNLIKELY(size > a->slab.max_size))
        return take_large(a, size, 1, &zero);
    const uint32_t class = slab_class(&a->slab, size);
    struct hshm_inline_heap *fast = hshm_inline_entry(&a->view)->heap;
    void *block;
    if (LIKELY(fast != &thread_no_heap && hshm_inline_take(&((struct thread_heap *)(void *)fast)->bins[class], &block)))
        return block;
    return take_class(a, class, size, 1);
}

static inline __attribute__((always_inline)) void *
take_small(hshm_allocator *a, size_t size)
{
    if (LIKELY(size <= HSHM_INLINE_MAX)) {
        const size_t units = (size + GRANULE - 1) / GRANULE;
        void *block;
        if (LIKELY(hshm_inline_take(hshm_inline_entry(&a->view)->heap->direct[units], &block)))
            return block;
    }
    return thread_malloc_other(a, size);
}

static void *
thread_malloc(hshm_allocator *a, size_t size)
{
    return take_small(a, size);
}

/* The same, an instruction shorter, for processors that clear the lowest bit in one. */
#if defined(__x86_64__)
__attribute__((target("bmi"))) static void *
thread_malloc_bmi(hshm_allocator *a, size_t size)
{
    return take_small(a, size);
}
#endif

static void *
thread_aligned(hshm_allocator *a, size_t size, size_t alignment)
{
    uint32_t class;
    bool zero;
    if (slab_class_aligned(a, size, alignment, &class))
        return take_class(a, class, size, alignment);
    return take_large(a, size, alignment, &zero);
}

static void *
thread_zeroed(hshm_allocator *a, size_t size)
{
    bool zero = false;
    void *block = size > a->slab.max_size ? take_large(a, size, 1, &zero) : thread_malloc(a, size);
    return block == NULL || zero ? block : memset(block, 0, size);
}

/* ---- giving blocks back ---- */

/*
 * `left` has come to 0 in the slab that begins here, which is this thread's.  (In a damaged region, it need not be: then
 * nothing is done.)
 */
static NO_INLINE void
settle(struct thread_heap *heap, uint64_t slice)
{
    const uint64_t own = load_relaxed(&record_of(&heap->a->slab, slice)->own);
    const uint32_t index = (uint32_t)(own >> OWN_INDEX_SHIFT);
    struct slab *slab = index < owned_limit(heap) ? owned_at(heap, index) : NULL;
    if (slab == NULL || slab->place == PLACE_UNUSED || slab->slice != slice)
        return;
    if (slab->place == PLACE_CURRENT)
        set_left(heap, slab, LEFT_UNCOUNTED);
    else if (slab->place == PLACE_FILLING)
        count_filling(heap, slab);
    else
        count_queued(heap, slab);
}

/* Pairs with the exchanges in read_mail(): the owner clears first and looks then. */
static void
send_mail(struct slab_heap *h, uint64_t own)
{
    const uint64_t slot = (own >> OWN_SLOT_SHIFT & 0xffffff) - 1;
    if (slot >= h->thread_slots)
        return;
    const uint32_t bit = (uint32_t)(own >> OWN_INDEX_SHIFT) % (h->mail_words * WORD_BITS);
    (void)atomic_fetch_or(&h->mail[slot * h->mail_words + bit / WORD_BITS], UINT64_C(1) << bit % WORD_BITS);
    FAILPOINT("thread.mail_written");
    (void)atomic_fetch_or(&h->threads[slot].mail, UINT64_C(1) << bit / WORD_BITS);
}

/* Mark a slab, unless it is marked or is none any more: `own` as it was, and whether this was the first news. */
static uint64_t
bring_news(struct slab_record *record, bool *ret_first)
{
    uint64_t own = load_seq_cst(&record->own);
    *ret_first = false;
    while (!*ret_first && (own & (SLAB_IS | SLAB_LOCKED | SLAB_NEWS)) == SLAB_IS)
        *ret_first = cas_seq_cst(&record->own, &own, own | SLAB_NEWS);
    return own;
}

static bool
free_remote(hshm_allocator *a, const struct block_place *place)
{
    struct slab_heap *h = &a->slab;
    if (UNLIKELY(lifetime_has_slab(place->record)))
        return lifetime_give(a, place);
    const uint32_t at = place->block / WORD_BITS;
    const uint64_t bit = UINT64_C(1) << place->block % WORD_BITS;
    const uint64_t bits = load_acquire(&bits_of(place->record)[at]);
    if ((bits & bit) != 0)
        return false;
    /* Sequentially consistent, and the owner is asked for afterwards: see "Mail" above. */
    const uint64_t before = atomic_fetch_or(&remote_of(h, place->record)[at], bit);
    if ((before & bit) != 0)
        return false;
    bool first;
    FAILPOINT("thread.remote_bit");
    const uint64_t own = bring_news(place->record, &first);
    FAILPOINT("thread.news_brought");
    if ((own >> OWN_SLOT_SHIFT & 0xffffff) != 0) {
        if (first)
            send_mail(h, own);
        return true;
    }
    if ((own & ~(uint64_t)SLAB_NEWS) != SLAB_IS)
        return true;
    if (first)
        shelf_put(h, load_relaxed(&place->record->class) % h->classes, 0, place->slice);
    /* As they are now: whoever left the slab may have moved bits since they were read. */
    const uint64_t freed = load_seq_cst(&bits_of(place->record)[at]) | load_seq_cst(&remote_of(h, place->record)[at]);
    if (freed == word_mask(at, load_relaxed(&place->record->blocks)))
        (void)slab_retire_orphan(a, place->slice);
    return true;
}

static bool
free_block(hshm_allocator *a, const struct block_place *place)
{
    if (slice_state(place->found) != SLICE_RUN)
        return free_remote(a, place);
    struct thread_heap *heap = heap_of(a);
    if (heap == NULL || !spares_keep(heap->a, &heap->spares, place->slice, place->found))
        return large_give(a, place);
    count_frees(heap, 1);
    return true;
}

static bool
keep_large(struct thread_heap *heap, uint64_t slice, uint64_t found)
{
    if (load_relaxed(&record_of(&heap->a->slab, slice)->skip) != 0 ||
        !spares_keep(heap->a, &heap->spares, slice, found))
        return false;
    count_frees(heap, 1);
    return true;
}

/*
 * Give a block back of a slab of several slices, or of any slab in a heap that inline.h does not know, if it is this thread's:
 * as hshm_inline_give() does.  REST: another's, not the begin of a block, or free.
 */
static inline enum hshm_inline_given
give_own(const struct thread_heap *heap, const struct slab_heap *h, uint64_t slice, uint64_t inside)
{
    struct slab_record *record = record_of(h, slice);
    /* Relaxed: if it says "mine", this thread wrote it. */
    if (UNLIKELY(((uint32_t)load_relaxed(&record->own) & ~(uint32_t)SLAB_NEWS) != (uint32_t)heap->me))
        return HSHM_INLINE_REST;
    uint64_t rest;
    const uint64_t block = hshm_inline_multiply(inside, record->reciprocal, &rest);
    if (UNLIKELY(rest >= record->limit || block >= (uint64_t)h->words * WORD_BITS))
        return HSHM_INLINE_REST;
    const uint64_t bit = UINT64_C(1) << block % WORD_BITS;
    bits_word *word = &bits_of(record)[block / WORD_BITS];
    const uint64_t bits = load_relaxed(word);
    if (UNLIKELY(((bits | load_relaxed(&word[h->words])) & bit) != 0))
        return HSHM_INLINE_REST;
    store_relaxed(word, bits | bit);
    return UNLIKELY(--record->left == 0) ? HSHM_INLINE_SETTLE : HSHM_INLINE_DONE;
}

/* What the common cases leave: large blocks, blocks of others' slabs and of none. */
static NO_INLINE hshm_status
free_other(hshm_allocator *a, void *addr)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t off = (uintptr_t)addr - (uintptr_t)h->data;
    const uint64_t slice = off >> h->shift;
    struct thread_heap *heap = heap_of(a);
    struct block_place place;
    if (heap != NULL && slice < h->count && off == slice << h->shift) {
        /* Acquire pairs with the release in run_publish(). */
        const uint64_t found = load_acquire(&h->slices[slice]);
        if (slice_state(found) == SLICE_RUN && keep_large(heap, slice, found))
            return HSHM_OK;
    }
    if (addr == NULL || (slab_find(a, addr, &place) && free_block(a, &place)))
        return HSHM_OK;
    return allocator_bad_free(a, addr);
}

/* After <hshm/inline.h> has found that it is not the common case. */
static hshm_status
thread_free(hshm_allocator *a, void *addr)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t off = (uintptr_t)addr - (uintptr_t)h->data;
    uint64_t slice = off >> h->shift;
    struct thread_heap *heap = heap_of(a);
    if (UNLIKELY(slice >= h->count || heap == NULL))
        return free_other(a, addr);
    const uint64_t found = load_relaxed(&h->slices[slice]);
    if (slice_state(found) == SLICE_REST)
        slice -= min_u64(slice_count(found), slice);
    const enum hshm_inline_given given = give_own(heap, h, slice, off - (slice << h->shift));
    if (UNLIKELY(given == HSHM_INLINE_REST))
        return free_other(a, addr);
    if (UNLIKELY(given == HSHM_INLINE_SETTLE))
        settle(heap, slice);
    return HSHM_OK;
}

/* hshm_inline_give() has given it back, and `left` has come to 0. */
static hshm_status
thread_settle(hshm_allocator *a, void *addr)
{
    struct thread_heap *heap = heap_of(a);
    if (heap != NULL)
        settle(heap, ((uintptr_t)addr - (uintptr_t)a->slab.data) >> a->slab.shift);
    return HSHM_OK;
}

static hshm_status
thread_trim(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes)
{
    struct thread_heap *heap = heap_of(a);
    if (heap != NULL)
        (void)squeeze(heap);
    (void)slab_recover(a);
    return run_trim(a, keep, ret_bytes);
}

/* ---- handles ---- */

static hshm_status
thread_layout(const struct heap_wish *wish, struct heap_layout *ret_layout)
{
    return slab_layout(wish, "ThreadLocal", true, ret_layout);
}

static hshm_status
begin_handle(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    h->index = a->read_only ? -1 : thread_index_take();
    a->view.thread_off = thread_offset(h->index);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("bmi"))
        a->ops.malloc = thread_malloc_bmi;
#endif
    lifetime_begin(a);
    if (h->index < 0 && !a->read_only && pthread_key_create(&h->key, end_keyed_heap) != 0)
        return fail(
            HSHM_E_NOSPC,
            "this process has no thread-specific storage left for one more ThreadLocal heap; close some, or use "
            "HSHM_ALLOCATOR_SCALABLE_PAGE");
    return HSHM_OK;
}

static hshm_status
thread_init(hshm_allocator *a, const struct heap_wish *wish)
{
    slab_init(a, wish, true);
    return begin_handle(a);
}

static hshm_status
thread_open(hshm_allocator *a, const char *name)
{
    const hshm_status status = slab_open(a, name, true);
    return status == HSHM_OK ? begin_handle(a) : status;
}

static void
thread_close(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    if (a->read_only)
        return;
    if (!a->refuses)
        lifetime_end(a);
    thread_table_lock();
    while (h->heaps != NULL)
        end_heap(&h->heaps->fast);
    while (h->idle != NULL)
        release_heap(new_heap(h));
    thread_index_give(h->index);
    thread_table_unlock();
    if (h->index < 0)
        (void)pthread_key_delete(h->key);
}

/*
 * The parent's threads keep their slots, and this process has none of them; but of private memory it has a copy, in which its
 * one thread goes on, and what the others owned is nobody's.  Under the thread_table lock, as all around fork().
 */
static void
thread_fork_child(hshm_allocator *a)
{
    struct thread_heap *mine = a->read_only ? NULL : heap_of(a);
    struct thread_heap *next;
    lifetime_fork_child(a);
    for (struct thread_heap *heap = a->slab.heaps; heap != NULL; heap = next) {
        next = heap->next;
        if (a->private_memory)
            (void)spares_give_back(heap->a, &heap->spares);
        if (a->private_memory && heap == mine)
            continue;
        unlist_heap(heap);
        release_heap(heap);
    }
    if (a->private_memory)
        slab_recover_copy(a, mine == NULL ? UINT32_MAX : mine->slot);
    if (mine == NULL || a->private_memory)
        return;
    if (a->slab.index >= 0)
        thread_entry_clear(a->slab.index);
    else
        (void)pthread_setspecific(a->slab.key, NULL);
}

const struct allocator_ops alloc_thread_local_ops = {
    .malloc = thread_malloc,
    .free = thread_free,
    .settle = thread_settle,
    .aligned = thread_aligned,
    .realloc = slab_realloc,
    .take_for = thread_take_for,
    .give_for = slab_give_for,
    .undo_take = slab_undo_take,
    .finish_give = slab_finish_give,
    .give_elsewhere = free_remote,
    .zeroed = thread_zeroed,
    .allocate_to = thread_allocate_to,
    .free_from = thread_free_from,
    .usable_size = slab_usable_size,
    .visit = slab_visit,
    .trim = thread_trim,
    .stats = slab_stats,
    .check = slab_check,
    .kind = HSHM_ALLOCATOR_THREAD_LOCAL,
    .title = "ThreadLocal",
    .needs = TAKES_MIN_BLOCK | HAS_LIFETIMES,
    .layout = thread_layout,
    .check_layout = slab_check_layout,
    .init = thread_init,
    .open = thread_open,
    .recover = slab_recover_process,
    .recover_all = slab_recover_all,
    .remake = slab_remake,
    .close = thread_close,
    .fork_prepare = lifetime_fork_prepare,
    .fork_done = lifetime_fork_done,
    .fork_child = thread_fork_child,
};
