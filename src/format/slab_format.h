/*
 * slab_format.h - what the heaps that cut slabs (ScalablePage, ThreadLocal) keep in their region.
 *
 * The data is counted in slices (64 KiB in regions of 16 MiB and more).  Neighbouring slices make
 *   - a slab: cut into blocks of one size class, one bit a block, set = free;
 *   - a run: one large block;
 *   - free room.
 * All that says so lies in the table, apart from the blocks:
 *
 *     table   | slice words | taken bits | shelves     | threads | mail     | shards  | records                   |
 *               8 B a slice   1 bit        1 bit a class  128 B     bits      words     meta, free bits, freed bits
 *               the truth     derived      derived        a slot    derived   derived   the truth of blocks
 *
 * The truth is the slice words, `own` in the records, and the bits of blocks; each changes by single stores, so that a
 * process may be killed between any two.  All else is derived and can be made again from it.
 *
 * Words that name a process name its slot in the region (struct region_slot), whose lock tells whether it lives.
 */
#ifndef HSHM_FORMAT_SLAB_FORMAT_H
#define HSHM_FORMAT_SLAB_FORMAT_H

#include "format/region_format.h"

/*
 * A slice's word: state in bits 0..3, process in bits 4..23, count in bits 24..63.
 *
 *     ZERO      free, and its pages read as zero; the whole word is 0
 *     DIRTY     free
 *     CLAIMED   being made into something by `process`, or kept by one of its threads for its next slab or large block;
 *               count is 1 if it was DIRTY
 *     SLAB      first slice of a slab of `count` slices
 *     RUN       first slice of a block of `count` slices
 *     REST      a further slice of a slab or run, `count` slices behind its first
 *     FREEING   first slice of `count` that `process` is making free
 *     IDLE      first slice of `count` free ones that wait, with REST behind, for the next slab or large block of so many
 *               slices, whoever's; as good as free to who finds no other room
 */
enum slice_state {
    SLICE_ZERO = 0,
    SLICE_DIRTY = 1,
    SLICE_CLAIMED = 2,
    SLICE_SLAB = 3,
    SLICE_RUN = 4,
    SLICE_REST = 5,
    SLICE_FREEING = 6,
    SLICE_IDLE = 7
};
typedef _Atomic uint64_t slice_word;

#define SLICE_PROCESS_BITS 20
#define SLICE_PROCESS_MASK ((UINT64_C(1) << SLICE_PROCESS_BITS) - 1)
#define SLICE_PROCESS_NONE SLICE_PROCESS_MASK /* of a process without a slot; never taken for dead */
#define SLICE_COUNT_SHIFT 24
#define SLICES_MAX (UINT64_C(1) << 32) /* so that block numbers and offsets in slabs can be multiplied without a care */

static inline uint64_t
slice_make(enum slice_state state, uint64_t process, uint64_t count)
{
    return (uint64_t)state | (process & SLICE_PROCESS_MASK) << 4 | count << SLICE_COUNT_SHIFT;
}

static inline enum slice_state
slice_state(uint64_t word)
{
    return (enum slice_state)(word & 15);
}

static inline uint64_t
slice_process(uint64_t word)
{
    return word >> 4 & SLICE_PROCESS_MASK;
}

static inline uint64_t
slice_count(uint64_t word)
{
    return word >> SLICE_COUNT_SHIFT;
}

static inline bool
slice_is_free(uint64_t word)
{
    return slice_state(word) <= SLICE_DIRTY;
}

/*
 * Who may take blocks from a slab; `own` of its record.
 *
 *     bits 0..7    0 = no slab; else SLAB_IS and flags
 *     bits 8..31   ThreadLocal: slot of the owning thread + 1; 0 = nobody's
 *                  ScalablePage: the processor where the slab is at home + 1; 0 = nowhere
 *     bits 32..63  ThreadLocal: where the owner keeps it, for mail; or, LOCKED, the process
 *                  ScalablePage: class in bits 32..39, and in bits 40..59 the process that made it CURRENT or LOCKED;
 *                  CURRENT: that process's count of such words in bits 24..31, so that none is as the one before it
 *
 * ThreadLocal   its owner's, or nobody's: an orphan; NEWS: others freed blocks since the owner last looked
 * ScalablePage  CURRENT (in some shard; LEAVING: somebody leads it elsewhere just now, or meant to), SHELVED (has free blocks, see
 *               shelves), FULL (neither)
 * both          LIFE: blocks of this slab end with the process, named as in ScalablePage, that alone takes from it; one row of bits
 *               LOCKED: one process is about to free the slab, and others leave it alone (ScalablePage: with FULL, it is taking its
 *               blocks, all of which were free)
 */
enum {
    SLAB_IS = 1 << 0,
    SLAB_FULL = 1 << 1,
    SLAB_CURRENT = 1 << 2,
    SLAB_SHELVED = 1 << 3,
    SLAB_LOCKED = 1 << 4,
    SLAB_NEWS = 1 << 5,
    SLAB_LEAVING = 1 << 6,
    SLAB_LIFE = 1 << 7,
    SLAB_FLAGS = 0xff
};

/*
 * Shared: one a slice, of which only those of slabs' first slices, and of runs' for `skip`, mean something.  The first
 * 32 bytes are what a plain free reads; <hshm/inline.h> knows them too.
 */
struct slab_record {
    _Atomic uint64_t own;    /*  0: see above                                                              */
    uint64_t limit;          /*  8: see slab_numbers()                                                     */
    uint64_t reciprocal;     /* 16: 2^64 / size and a little more; see there                               */
    uint32_t left;           /* 24: ThreadLocal: local frees until the owner must look; its owner's only   */
    uint32_t left_from;      /* 28: ThreadLocal: what `left` was set to;
                                    ScalablePage: 0 = no shared bit is set (derived; see alloc_page.c)     */
    _Atomic uint32_t size;   /* 32: bytes a block                                                       */
    _Atomic uint32_t blocks; /* 36: how many                                                            */
    _Atomic uint32_t class;  /* 40: size class                                                          */
    _Atomic uint32_t life;   /* 44: RUN: slot + 1 of the process with which the block ends; 0 = the heap's  */
    _Atomic uint64_t skip;   /* 48: RUN: bytes from the slice's begin to the block's;
                                    IDLE: a hint where another one is, slice + 1;
                                    ScalablePage, LOCKED: home bits that are becoming shared ones       */
    _Atomic uint64_t log;    /* 56: ScalablePage: words claimed by the process that has it LOCKED       */
};
/*
 * ScalablePage, of a LOCKED slab, whose blocks are being taken, word by word: a word that has more bits than blocks says by this
 * bit that it was taken, until `log` does so of all; of another one, so many shared bits at least are taken at once.
 */
#define SLAB_WORD_TAKEN (UINT64_C(1) << 63)
#define SLAB_WORD_MANY 32
static_assert(sizeof(struct slab_record) == 64, "format v1");
static_assert(offsetof(struct slab_record, reciprocal) == 16, "format v1");
static_assert(offsetof(struct slab_record, left) == 24, "format v1");
static_assert(offsetof(struct slab_record, size) == 32, "format v1");
static_assert(offsetof(struct slab_record, skip) == 48, "format v1");

typedef _Atomic uint64_t bits_word;

/* Shared: one a thread that allocates.  First line by its owner; mail by everyone. */
struct slab_thread {
    _Atomic uint64_t owner; /*   0: 0 = free; else 1 | process << 8                                      */
    _Atomic uint64_t
        log; /*   8: offset of the user's slot that it takes a block for, or frees it from, in its own slabs; 0 */
    uint64_t reserved;      /*  16                                                                       */
    _Atomic uint64_t frees; /*  24: blocks freed in slabs of this slot, ever; see also left_from - left  */
    uint64_t reserved0[4];  /*  32                                                                       */
    _Atomic uint64_t mail;  /*  64: bit k: look at mail word k of this slot                              */
    uint64_t reserved1[7];  /*  72                                                                       */
};
static_assert(sizeof(struct slab_thread) == 128, "format v1");
static_assert(offsetof(struct slab_thread, mail) == 64, "format v1");

#define THREAD_OWNER_SHIFT 8

/* Shared: at root_off.  First line: constant.  Others: each its own line, derived but for the counters. */
struct slab_root {
    uint64_t slices;               /*   0: how many slices the data has                                        */
    uint32_t slice_shift;          /*   8                                                                      */
    uint32_t block_shift;          /*  12: log2 of the smallest block                                          */
    uint32_t thread_slots;         /*  16: ThreadLocal                                                         */
    uint32_t shards;               /*  20: ScalablePage                                                        */
    uint32_t lifetime;             /*  24: hshm_lifetime of blocks for which none is asked                      */
    uint32_t reserved4;            /*  28                                                                      */
    uint64_t reserved0[4];         /*  32                                                                      */
    _Atomic uint64_t lowest;       /*  64: no word of taken bits below this one has a free slice (nearly)      */
    _Atomic uint64_t high;         /*  72: no slice at or above was ever claimed                               */
    _Atomic uint64_t threads_high; /*  80: no thread slot at or above was ever taken                     */
    uint64_t reserved1[5];         /*  88                                                                */
    _Atomic uint64_t used;         /* 128: slices in slabs and runs                                      */
    _Atomic uint64_t peak;         /* 136: the most that `used` ever was                                 */
    _Atomic uint64_t dirty;        /* 144: free slices whose pages may be committed                      */
    _Atomic uint64_t dirty_since;  /* 152: ms of the monotonic clock: since when there are too many; 0   */
    _Atomic uint64_t tidied;       /* 160: ms likewise: when ScalablePage's idle slabs were let go last  */
    _Atomic uint64_t idle;         /* 168: of `used`, those in IDLE runs                                 */
    _Atomic uint64_t resizing;     /* 176: runs that grow or shrink just now, or did when their process died */
    uint64_t reserved2;            /* 184                                                                */
    _Atomic uint64_t frees;        /* 192: blocks freed that no thread slot counted                      */
    _Atomic uint64_t failures;     /* 200: requests that found no room                                   */
    uint64_t reserved3[6];         /* 208                                                                */
};
static_assert(sizeof(struct slab_root) == 256, "format v1");
static_assert(offsetof(struct slab_root, lowest) == 64, "format v1");
static_assert(offsetof(struct slab_root, used) == 128, "format v1");
static_assert(offsetof(struct slab_root, frees) == 192, "format v1");

/*
 * Shared: ScalablePage, one a shard: counters, then one word a class, which says what its current slab is:
 *
 *     bits 0..39   its first slice + 1; 0 = none, and the whole word is 0
 *     bits 40..47  the word of its home bits that blocks come from
 *     bits 48..62  of that slab's `own`: the count, and above it the lowest bits of the process
 *     bit 63       it is at home on the shard's processor
 */
struct slab_shard {
    _Atomic uint64_t frees;
    uint64_t reserved[7];
    _Atomic uint64_t current[];
};
static_assert(offsetof(struct slab_shard, current) == 64, "format v1");

#define CURRENT_SLICE_MASK ((UINT64_C(1) << 40) - 1)
#define CURRENT_WORD_SHIFT 40
#define CURRENT_TAG_SHIFT 48
#define CURRENT_TAG_MASK UINT64_C(0x7fff)
#define CURRENT_AT_HOME (UINT64_C(1) << 63)

static inline uint64_t
current_make(uint64_t slice, uint64_t word, bool at_home, uint64_t tag)
{
    return (slice + 1) | word << CURRENT_WORD_SHIFT | (tag & CURRENT_TAG_MASK) << CURRENT_TAG_SHIFT |
           (at_home ? CURRENT_AT_HOME : 0);
}

/* UINT64_MAX: none. */
static inline uint64_t
current_slice(uint64_t current)
{
    return (current & CURRENT_SLICE_MASK) - 1;
}

#endif
