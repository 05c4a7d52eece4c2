/*
 * page_slab.h - ScalablePage's slabs: looking at them, giving them free, and which one a shard takes blocks from; alloc_page.c
 * tells how it all goes together.
 */
#ifndef HSHM_ALLOCATOR_PAGE_SLAB_H
#define HSHM_ALLOCATOR_PAGE_SLAB_H

#include <hshm/inline.h>

#include "allocator/allocator.h"
#include "allocator/spares.h"
#include "allocator/thread_table.h"
#include "base/checked.h"
#include "sync/rseq.h"

/* Local to a thread: where a shard's blocks of one class come from, worked out of what the shard says. */
struct page_bin {
    /*
     * Of the free blocks, those that were free when the word was looked at last.  Blocks come from them in turn, so that one that
     * is just being freed is not waited for.
     */
    uint64_t ready;
    uint64_t current;    /* what it said; see struct slab_shard; 0 = nothing */
    bits_word *bits;     /* the word of home bits                            */
    unsigned char *base; /* the block of its lowest bit                      */
    uint64_t mask;       /* of the bits that can stand for blocks            */
    uint32_t size;       /* bytes a block                                    */
    uint32_t made;       /* slabs, by this thread, lately                    */
    uint32_t word;       /* of the shared bits that had some last            */
    bool shares;         /* they did                                         */
};

/*
 * Local to a thread: where it took blocks last, and where it counts.  An atomic addition for each free would cost a third of
 * it.  All of it is derived, and what a thread remembers is compared with the shard each time it is used.
 */
struct page_thread {
    struct hshm_inline_heap fast; /* an empty one: inline.h finds nothing to take here */
    _Atomic uint64_t budget;      /* so many frees may take the short path before they are counted in the region */
    _Atomic uint64_t frees;       /* counted here, less `budget`; both written by this thread, read by others */
    uint32_t cpu;                 /* where it was when it looked last                              */
    uint32_t home;                /* what `own` of slabs says that are at home there; 0 = none are */
    _Atomic uint64_t *shard;      /* what that processor's shard says, a word a class */
    struct page_bin bins[CLASSES_MAX];

    hshm_allocator *a;
    uint32_t counts_at; /* the shard */
    uint32_t batches;   /* of frees, since `gives_away` was thought of last */
    bool gives_away;    /* see think_again() */
    uint64_t found;     /* blocks for it to take at home, since then */
    uint32_t larges;    /* large blocks taken, ever */
    struct idle_list idle;
    struct page_thread *next; /* in the handle's list */
    struct page_thread **back;
};
static_assert(offsetof(struct page_thread, fast) == 0, "thread_table.c knows the first part only");
static_assert(offsetof(struct page_thread, budget) == offsetof(struct thread_none, zero), "no thread has no budget");

static inline struct page_thread *
thread_of(const hshm_allocator *a)
{
    return (struct page_thread *)(void *)hshm_inline_entry(&a->view)->heap;
}

static inline bool
is_no_thread(const struct page_thread *thread)
{
    return &thread->fast == &thread_no_heap;
}

/* Where this thread runs: which shard it uses, and whether slabs made there are at home on this processor. */
struct here {
    uint32_t shard;
    uint32_t cpu; /* or RSEQ_NO_CPU */
};

/* ---- looking at slabs ---- */

/*
 * May a shared bit be set?  Looked at first because shared bits lie in cache lines of their own.  Who sets a bit sets this
 * afterwards, if it is not; who finds none sets it to 0 and looks at the bits once more.  Who was slow may so change the
 * record of whatever is there by then: a run has no use for the field, and a later slab's bits are found in that second look.
 */
static inline bool
may_be_shared(const struct slab_record *record)
{
    return __atomic_load_n(&record->left_from, __ATOMIC_RELAXED) != 0;
}

static inline void
note_shared(struct slab_record *record)
{
    if (__atomic_load_n(&record->left_from, __ATOMIC_SEQ_CST) == 0)
        __atomic_store_n(&record->left_from, 1, __ATOMIC_SEQ_CST);
}

/* Of a slab of so many blocks; a late SLAB_WORD_TAKEN is none of them. */
static inline uint64_t
free_word(const struct slab_heap *h, struct slab_record *record, uint32_t word, uint32_t blocks)
{
    const uint64_t home = load_seq_cst(&bits_of(record)[word]);
    const uint64_t bits = may_be_shared(record) ? home | load_seq_cst(&remote_of(h, record)[word]) : home;
    return bits & word_mask(word, blocks);
}

static inline bool
has_flags(uint64_t own, uint64_t flags)
{
    return (own & SLAB_FLAGS) == (SLAB_IS | flags);
}

/*
 * CURRENT words.  A slab is made CURRENT before a shard is led to it, and LEAVING before the shard is led elsewhere; then it
 * becomes FULL.  Who is slow may mark a slab that another one leads away already: so several may be about to leave it, and one of
 * them dead.  Each word is another one (its count comes around, but nobody sleeps just so long).  Hence, while it is the same,
 *   - LEAVING and found in no shard: it is in none, and whoever finds that makes it FULL, or shelves it in recovery;
 *   - not LEAVING: its shard has it, or is about to be led to it by the process that is named.
 */
static inline uint64_t
page_current_own(struct slab_heap *h, uint64_t flags, uint32_t class, uint32_t home, uint64_t process)
{
    const uint64_t count = atomic_fetch_add_explicit(&h->currents, 1, memory_order_relaxed) & PAGE_OWN_COUNT_MASK;
    return page_own(SLAB_CURRENT | flags, class, home, process) | count << PAGE_OWN_COUNT_SHIFT;
}

static inline bool
page_is_current(uint64_t own)
{
    return (own & SLAB_FLAGS & ~(uint64_t)SLAB_LEAVING) == (SLAB_IS | SLAB_CURRENT);
}

/* LOCKED, and (with FULL) its blocks are being taken. */
static inline bool
page_is_locked(uint64_t own)
{
    return (own & SLAB_FLAGS & ~(uint64_t)SLAB_FULL) == (SLAB_IS | SLAB_LOCKED);
}

/*
 * `left` in a record: how many blocks may be freed at home until someone must look at the slab: for a full one, until it is
 * worth to be shelved; for a shelved one, until no block is live.  One instruction counts it down, so that threads at home do
 * not disturb each other; it is a hint all the same, since who sets it may be elsewhere: what is missed so, the next
 * taker finds, or tidy_by_age().
 */
#define LEFT_UNCOUNTED UINT32_C(0x80000000)

static inline void
set_left(struct slab_record *record, uint32_t left)
{
    __atomic_store_n(&record->left, left, __ATOMIC_RELAXED);
}

/* True when someone must look. */
static inline bool
count_left(struct slab_record *record)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
    bool none;
    __asm__ volatile("subl $1, %1" : "=@ccz"(none), "+m"(record->left));
    return none;
#else
    return __atomic_fetch_sub(&record->left, 1, __ATOMIC_RELAXED) == 1;
#endif
}

/* Has it a free block, in any row? */
bool page_has_free(const struct slab_heap *h, struct slab_record *record);
/* Has it no live block? */
bool page_is_all_free(const struct slab_heap *h, struct slab_record *record);
/* From `own` as it was found, to a shelf.  False: it is something else by now. */
bool page_shelve(const struct slab_heap *h, uint64_t slice, uint64_t own);
/* The slices of a slab or large block become idle, or free.  False: it is not what it was. */
bool page_give_slices(hshm_allocator *a, uint64_t slice, uint64_t found);
/* Slices that this thread knows to be idle. */
bool page_take_slices(hshm_allocator *a, uint64_t slices, uint64_t alignment, struct claim *ret_claim);
/* Blocks of a word of a locked slab that were taken for good, and are not given free after all. */
void page_put_word(const struct slab_heap *h, struct slab_record *record, uint32_t word, uint64_t bits);
/* On one processor, for cpu_visit_all(): slabs at home there, without a live block, that were waiting for someone to come by. */
void page_retire_at_home(void *arg, uint32_t cpu);
/* A slab that is not current may have to be shelved, or may be without a live block. */
void page_look_at(hshm_allocator *a, uint64_t slice, struct slab_record *record);
/*
 * Before the shard (or log) whose word was found at `at` to lead to the slab is led elsewhere: what the slab says now.  0: it is not
 * there any more.
 */
uint64_t page_mark_leaving(hshm_allocator *a, uint64_t slice, const _Atomic uint64_t *at, uint64_t current);
/*
 * Afterwards, of which the slab says this if it still says what it was marked with; 0 = another one was faster, or nothing was
 * marked, and it may be in a shard.
 */
void page_leave_current(hshm_allocator *a, uint64_t slice, uint64_t mark);
/* Does a shard, or a log, lead to it?  While it says CURRENT and LEAVING, with the same count, none is led to it. */
bool page_is_in_a_shard(const hshm_allocator *a, uint64_t slice, uint32_t class);
/* A slab with blocks that a thread that is there can take, from a shelf: its slice + 1, now CURRENT by this process; 0 = none. */
uint64_t page_find_shelved(hshm_allocator *a, uint32_t class, struct here here);
/* A new one likewise; 0: no memory. */
uint64_t page_make_slab(hshm_allocator *a, uint32_t class, struct here here);
/* What a shard says of a slab: at home, blocks come from the first word that has home bits, of those behind `word`. */
uint64_t page_lead_to(const struct slab_heap *h, uint32_t shard, uint64_t slice, uint64_t word);
/* Another slab for the shard.  False: no memory. */
bool page_replace_current(hshm_allocator *a, struct here here, uint32_t class, uint64_t current);
/* A slab with few free blocks here and there would have to be looked for each of them. */
bool page_is_worth_a_turn(const struct slab_heap *h, struct slab_record *record);

#endif
