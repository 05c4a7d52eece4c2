/*
 * slab_heap.h - what ScalablePage and ThreadLocal share: a process's view of slices, slabs and runs.
 *
 * file            what it does
 * slab_layout.c   where each part lies in the region; opening a heap, whose bytes are input
 * run.c           slices: claiming neighbouring ones, making them free, giving pages back to the system
 * slab.c          slabs: making one, finding the block of an address, shelves; large blocks
 * slab_look.c     visit, statistics: those who only read
 * slab_check.c    likewise: is all as docs/format.md has it?
 * slab_recover.c  what dead processes left
 * spares.c        slices that a thread keeps for a while
 * thread_slabs.c  ThreadLocal: a thread's slabs as it knows them
 * page_slab.c     ScalablePage: its slabs, and which one a shard takes from
 * op_log.c        operations on user slots (user_slot.c), and finishing them after a death
 * alloc_thread.c, alloc_page.c   who takes blocks from which slab, and how blocks come back
 *
 * A call goes downward: alloc_x -> slab -> run.
 */
#ifndef HSHM_ALLOCATOR_SLAB_HEAP_H
#define HSHM_ALLOCATOR_SLAB_HEAP_H

#include <hshm/allocator.h>
#include <pthread.h>

#include "allocator/op_log.h"
#include "allocator/size_class.h"
#include "base/checked.h"
#include "format/slab_format.h"

enum {
    CLASSES_MAX = 128,
    SLAB_BLOCK_SLICES = 8, /* larger blocks are runs: rounding to slices loses an eighth at most then */
    SMALL_MAX = 1024,      /* up to here a table tells the class */
    WORD_BITS = 64
};

struct thread_heap; /* alloc_thread.c */
struct page_thread; /* alloc_page.c   */
struct heap_wish;   /* allocator.h    */
struct heap_layout;
struct check; /* check.h */

/* Local: where things are, and how many; all of it checked once, so that nothing of it is asked of the region again. */
struct slab_heap {
    struct slab_root *root;
    slice_word *slices;
    _Atomic uint64_t *taken;   /* a bit a slice: not free; derived                          */
    _Atomic uint64_t *shelves; /* `shelf_words` words a class; see slab.c                   */
    struct slab_thread *threads;
    _Atomic uint64_t *mail; /* `mail_words` words a thread slot                          */
    unsigned char *shards;
    unsigned char *records;
    unsigned char *data;

    uint64_t count;       /* slices                             */
    uint64_t taken_words; /* words of bits for so many slices   */
    uint64_t shelf_words; /* the same, and a cursor             */
    uint64_t shard_size;  /* bytes                              */
    uint64_t record_size; /* bytes                              */
    uint64_t max_size;    /* largest block that lies in a slab  */
    uint64_t slice_mask;  /* a slice's bytes, less one          */
    uint64_t word_mask;   /* `words`, less one                  */
    uint32_t shift;       /* log2 of a slice's bytes            */
    uint32_t block_shift; /* log2 of the smallest block         */
    uint32_t words;       /* of bits in a record: a power of two */
    uint32_t classes;
    uint32_t thread_slots;
    uint32_t mail_words;
    uint32_t shard_count;
    uint32_t shelves_each; /* shelves of a class: one, or one a shard  */
    bool has_owners;       /* slabs belong to threads (ThreadLocal)    */

    uint8_t small_class[SMALL_MAX / GRANULE + 1]; /* by size in granules, rounded up */
    uint32_t sizes[CLASSES_MAX];                  /* bytes of a block                */
    struct slab_cut cuts[CLASSES_MAX];            /* of a class's first slabs        */
    struct slab_cut large_cuts[CLASSES_MAX];      /* of a class that has many        */

    /* This process's threads; under the lock of thread_table.c. */
    struct thread_heap *heaps; /* ThreadLocal  */
    struct thread_heap *idle;  /* of ended threads, for the next ones */
    uint32_t idle_heaps;
    struct page_thread *counters; /* ScalablePage */
    _Atomic uint64_t currents;    /* ... words that say CURRENT, written by this process */
    int index; /* in thread_table.c; -1 = none was free, and (ThreadLocal) `key` leads to a thread's heap */
    pthread_key_t key;
};

static inline struct slab_record *
record_of(const struct slab_heap *h, uint64_t slice)
{
    return (struct slab_record *)(void *)(h->records + slice * h->record_size);
}

/* The bits of free blocks. */
static inline bits_word *
bits_of(struct slab_record *record)
{
    return (bits_word *)(void *)(record + 1);
}

/* Free blocks too, the bits set by others than the owner (ThreadLocal) or elsewhere than at home (ScalablePage). */
static inline bits_word *
remote_of(const struct slab_heap *h, struct slab_record *record)
{
    return bits_of(record) + h->words;
}

static inline unsigned char *
slice_address(const struct slab_heap *h, uint64_t slice)
{
    return h->data + (slice << h->shift);
}

/* How many blocks a slab has.  From a region: it may say anything, and is no more than there are bits. */
static inline uint32_t
blocks_of(const struct slab_heap *h, const struct slab_record *record)
{
    return (uint32_t)min_u64(load_relaxed(&record->blocks), (uint64_t)h->words * WORD_BITS);
}

/* How many words of bits so many blocks have. */
static inline uint32_t
words_for(uint64_t blocks)
{
    return (uint32_t)((blocks + WORD_BITS - 1) / WORD_BITS);
}

/* The bits of word `word` that stand for blocks, of so many. */
static inline uint64_t
word_mask(uint32_t word, uint32_t blocks)
{
    const uint32_t before = word * WORD_BITS;
    if (blocks <= before)
        return 0;
    return blocks - before >= WORD_BITS ? UINT64_MAX : (UINT64_C(1) << (blocks - before)) - 1;
}

/* ---- slab_layout.c ---- */

hshm_status slab_layout(const struct heap_wish *wish, const char *title, bool has_owners,
                        struct heap_layout *ret_layout);
hshm_status slab_check_layout(const struct heap_layout *layout, const char *name);
/* Set up the local view on a new heap, and write its root. */
void slab_init(hshm_allocator *a, const struct heap_wish *wish, bool has_owners);
/* The same on an existing one, whose root is input.  HSHM_OK or HSHM_E_CORRUPT. */
hshm_status slab_open(hshm_allocator *a, const char *name, bool has_owners);

/* ---- run.c ---- */

/* Neighbouring slices that this process holds as CLAIMED. */
struct claim {
    uint64_t first;
    uint64_t count;
    bool zero; /* every page reads as zero */
    bool kept; /* by run_keep(): the further slices say REST already */
};

/* Claim `count` neighbouring free slices, at the lowest place where they begin at a multiple of `alignment` bytes. */
bool run_claim(hshm_allocator *a, uint64_t count, uint64_t alignment, struct claim *ret_claim);
/* Make a claim a slab or run: it is one with a single store, when all else is written. */
void run_publish(hshm_allocator *a, const struct claim *claim, enum slice_state state);
/* Undo a claim. */
void run_unclaim(hshm_allocator *a, const struct claim *claim);
/*
 * Make the slab or run of `count` slices at `first` free, whose first word is `found`.  False: it is not that any more, and
 * nothing was changed.
 */
bool run_free(hshm_allocator *a, uint64_t first, uint64_t found);
/* The same, but kept as a claim of this process: for a thread's next slab, or large block. */
bool run_keep(hshm_allocator *a, uint64_t first, uint64_t found, struct claim *ret_claim);
/*
 * The same, but idle: its slices stay together, for the next slab or large block of so many.  `hint` is kept for who takes it.
 * (So a thread's own list of idle runs may lead through their records; whoever takes one breaks it, which does no harm.)
 */
bool run_idle(hshm_allocator *a, uint64_t first, uint64_t found, uint64_t hint);
/* Claim the idle run at `first`.  False: there is none of so many slices. */
bool run_take_idle(hshm_allocator *a, uint64_t first, uint64_t count, struct claim *ret_claim, uint64_t *ret_hint);
/* Make all idle runs free.  True if there was one. */
bool run_free_idle(hshm_allocator *a);
uint64_t run_idle_at(const struct slab_heap *h, uint64_t slice);
/* Slices that are in slabs and runs; all counters here are nearly right. */
uint64_t run_in_use(const struct slab_heap *h);
/* Let the run of `found` at `first` have so many slices.  False: no free neighbours. */
bool run_resize(hshm_allocator *a, uint64_t first, uint64_t found, uint64_t count);
/* Claims that one who died left inside a run that grew or shrank become REST again; for who owns the run. */
void run_mend(const struct slab_heap *h, uint64_t first, uint64_t found);
/* Finish a run_free() that a dead process began. */
void run_finish_free(hshm_allocator *a, uint64_t first, uint64_t found);
/* Set one slice's words free after its holder died. */
void run_drop(hshm_allocator *a, uint64_t slice, uint64_t found);
/* Let the bit follow the word. */
void run_sync_taken(const struct slab_heap *h, uint64_t slice);
/* Give pages of free slices back to the system until at most `keep` bytes of them are left.  How many went. */
hshm_status run_trim(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes);
/* How many slices may be kept for nothing, for the next who needs some. */
uint64_t run_enough(const struct slab_heap *h);
/* The same, in passing and of a part, if there was much for long; to be called often. */
void run_trim_by_age(hshm_allocator *a);
/* No slice at or above this one was ever used; never more than there are. */
uint64_t run_high(const struct slab_heap *h);
/* The longest row of free slices. */
uint64_t run_longest_free(const struct slab_heap *h);

/* ---- slab.c ---- */

/* A block, as its address leads to it. */
struct block_place {
    uint64_t slice; /* first of its slab or run  */
    uint64_t found; /* that slice's word         */
    struct slab_record *record;
    uint32_t block; /* slabs: its number         */
    uint64_t size;  /* usable bytes              */
};

/* Where would a block begin at this address?  False when none can.  Whether one is live there, the bits tell. */
bool slab_find(const hshm_allocator *a, const void *addr, struct block_place *ret_place);
/* Is the block live?  (Runs that slab_find() found are.) */
bool slab_is_live(const hshm_allocator *a, const struct block_place *place);

/* The class for `size` bytes, which are at most max_size; and for a multiple of an alignment, if there is one. */
static inline uint32_t
slab_class(const struct slab_heap *h, uint64_t size)
{
    return size == 0 ? 0 : class_of_units(((size - 1) >> h->block_shift) + 1);
}
bool slab_class_aligned(const hshm_allocator *a, uint64_t size, uint64_t alignment, uint32_t *ret_class);

/* Claim the slices of a slab for blocks of a class, a smaller one if there is no room for one so cut. */
bool slab_claim(hshm_allocator *a, uint32_t class, struct slab_cut cut, struct claim *ret_claim);
/* Write a new slab's record, all blocks free (in which bits), and publish it; `own` says whose it is. */
void slab_begin(hshm_allocator *a, const struct claim *claim, uint32_t class, uint64_t own, bool remote);
/* How many blocks a slab of a class has in so many slices. */
uint32_t slab_blocks(const struct slab_heap *h, uint32_t class, uint64_t slices);
/*
 * The factor and limit by which a block's number is found from its offset (hshm_inline_multiply()).  With factor
 * f = (2^64 + e) / size, the low half of a block's offset i * size times f is i * e, and that of an offset between blocks
 * at least f.  e is chosen near f / (2 * blocks), and the limit blocks * e: above it for the last block, not for one more.
 */
struct slab_numbers {
    uint64_t reciprocal;
    uint64_t limit;
};
struct slab_numbers slab_numbers(uint32_t size, uint32_t blocks);
/* Is this what the record of a slab of that many slices must say?  (It lies in a region.) */
bool slab_record_is_sound(const struct slab_heap *h, uint64_t slice, uint64_t found);

/*
 * Shelves: for each class, which slabs that belong to nobody may have free blocks.  Derived; a set bit may be wrong.  They
 * are taken in turn: a slab that was put there for its first free block has more of them when its turn comes.
 */
static inline _Atomic uint64_t *
shelf_bits(const struct slab_heap *h, uint32_t class, uint32_t shelf)
{
    return &h->shelves[((uint64_t) class * h->shelves_each + shelf) * h->shelf_words + 1];
}
void shelf_put(const struct slab_heap *h, uint32_t class, uint32_t shelf, uint64_t slice);
/* Take a slab off: its slice + 1, or 0 when there is none. */
uint64_t shelf_take(const struct slab_heap *h, uint32_t class, uint32_t shelf);

/* Large blocks; what the allocators' own functions do for sizes above max_size. */
void *large_take(hshm_allocator *a, size_t size, size_t alignment, bool *ret_zero);
/* The same, of a block that ends with a process: its slot + 1; 0 = with the heap. */
void *large_take_for(hshm_allocator *a, size_t size, size_t alignment, uint32_t life, bool *ret_zero);
/* Its parts: would a block of that size and alignment begin where its first slice does, and how many slices has it? */
bool large_fits(const hshm_allocator *a, size_t size, size_t alignment);
uint64_t large_slices(const struct slab_heap *h, size_t size);
void *large_begin(hshm_allocator *a, const struct claim *claim, size_t alignment);
bool large_give(hshm_allocator *a, const struct block_place *place);
void *slab_realloc(hshm_allocator *a, void *addr, size_t size);
/* For user slots; see op_log.h. */
void *large_for(hshm_allocator *a, const struct claim *claim, struct op *op);
/* slab_acknowledge(), which asks first whether any log frees a block. */
void slab_tell_logs(hshm_allocator *a, uint64_t slice, enum op_whose whose);
hshm_status slab_give_for(hshm_allocator *a, struct op *op, void *addr);
size_t slab_usable_size(hshm_allocator *a, const void *addr);
void slab_count_failure(hshm_allocator *a);
void *slab_no_room(hshm_allocator *a, size_t size);

/* ---- slab_look.c ---- */

hshm_status slab_visit(hshm_allocator *a, hshm_visit_fn fn, void *arg);
void slab_stats(hshm_allocator *a, hshm_stats *ret_stats);

/* ---- slab_check.c ---- */

hshm_status slab_check(hshm_allocator *a, struct check *check);

/* ---- slab_recover.c ---- */

/* Clean up after every process that is dead, and compare the bits of taken slices with their words; adds to the report. */
hshm_status slab_recover_all(hshm_allocator *a, hshm_recover_report *report);
/* The same for want of memory: what is idle becomes free too.  True if that may have helped. */
bool slab_recover(hshm_allocator *a);
/* Bits of taken slices, shelves and mail, whoever left them stale; see struct allocator_ops. */
void slab_remake(hshm_allocator *a);
/* Clean up after the process that had this slot before; nobody else has it now. */
void slab_recover_process(hshm_allocator *a, uint32_t process, hshm_recover_report *report);
/*
 * In a forked child that has a copy of private memory: clean up after all threads, for only one goes on here, in the middle of
 * no call, and without slices kept for later.  ThreadLocal: its slot is `kept_slot`, UINT32_MAX if it has none.
 */
void slab_recover_copy(hshm_allocator *a, uint32_t kept_slot);
/* After a death: what it was taking for a slot, and what it was freeing from one; see op_log.h. */
void slab_undo_take(hshm_allocator *a, struct op_log *log, uint64_t process, void *addr);
void slab_finish_give(hshm_allocator *a, struct op_log *log, uint64_t process, void *addr);
/* ThreadLocal: give an orphan free if it has no live block. */
bool slab_retire_orphan(hshm_allocator *a, uint64_t slice);

/* ---- alloc_page.c ---- */

/* ScalablePage: frees by this process's threads that the region does not know of yet. */
uint64_t page_uncounted_frees(const hshm_allocator *a);
/* ScalablePage: give a shelved slab free if it has no live block. */
bool page_retire(hshm_allocator *a, uint64_t slice);

/* ScalablePage: the words of `own`; `home` is a processor's number + 1, or 0. */
#define PAGE_OWN_HOME_MASK UINT64_C(0xffff00)
#define PAGE_OWN_CLASS_MASK (UINT64_C(0xff) << 32)
#define PAGE_OWN_COUNT_SHIFT 24
#define PAGE_OWN_COUNT_BITS 8
#define PAGE_OWN_COUNT_MASK UINT64_C(0xff)

static inline uint64_t
page_own(uint64_t flags, uint32_t class, uint32_t home, uint64_t process)
{
    return SLAB_IS | flags | (uint64_t)home << 8 | (uint64_t) class << 32 | (process & SLICE_PROCESS_MASK) << 40;
}

static inline uint32_t
page_own_class(uint64_t own)
{
    return (uint32_t)(own >> 32 & 0xff);
}

static inline uint32_t
page_own_home(uint64_t own)
{
    return (uint32_t)(own >> 8 & 0xffff);
}

static inline uint64_t
page_own_process(uint64_t own)
{
    return own >> 40 & SLICE_PROCESS_MASK;
}

/* On which of its class's shelves a slab belongs: that of its home. */
static inline uint32_t
page_shelf(const struct slab_heap *h, uint64_t own)
{
    const uint32_t home = page_own_home(own);
    return home == 0 || home > h->shard_count ? 0 : home - 1;
}

static inline struct slab_shard *
shard_at(const struct slab_heap *h, uint32_t shard)
{
    return (struct slab_shard *)(void *)(h->shards + shard * h->shard_size);
}

#endif
