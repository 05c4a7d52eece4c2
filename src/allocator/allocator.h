/*
 * allocator.h - how a region is cut into blocks.
 *
 * One table of functions a kind.  A handle (struct hshm_allocator) carries its own copy of that table, so that a call
 * costs one indirect jump, and so that single functions can be swapped for ones that refuse (alloc_refuse.c).
 *
 * What an allocator needs of the system reaches it through struct allocator_system; it includes no header for memory or
 * files.
 */
#ifndef HSHM_ALLOCATOR_ALLOCATOR_H
#define HSHM_ALLOCATOR_ALLOCATOR_H

#include <hshm/allocator.h>

#include "allocator/op_log.h"
#include "allocator/slab_heap.h"
#include "format/malloc_format.h"
#include "format/stack_format.h"
#include "sync/local_lock.h"

struct check; /* check.h */

/* Of the process that has a slot, if one has. */
enum process_state { PROCESS_NONE, PROCESS_LIVES, PROCESS_DEAD };

/*
 * Data that no processor may touch; offsets are the region's, of the data only.  Each call may fail, for a driver is asked.
 */
struct device_calls {
    hshm_status (*copy_to)(void *arg, uint64_t off, const void *from, uint64_t size);
    hshm_status (*copy_from)(void *arg, void *to, uint64_t off, uint64_t size);
    hshm_status (*copy_within)(void *arg, uint64_t to, uint64_t from, uint64_t size);
    hshm_status (*fill)(void *arg, uint64_t off, uint8_t byte, uint64_t size);
};

/* What the manager lets an allocator ask of the memory's owner; `arg` goes into each. */
struct allocator_system {
    void *arg;
    uint64_t page_size;
    bool reserved; /* pages were promised by the system and must not be given back */
    /* Give whole pages back; afterwards they read as zero.  NULL: the memory cannot do that. */
    hshm_status (*give_back)(void *arg, uint64_t off, uint64_t size);
    uint64_t (*committed)(void *arg);
    /*
     * Is the process that had this slot dead?  Then nobody else may take its slot, or clean up after it, until bury() gives
     * the slot free.  A ticket for bury(), or -1: it lives, or nobody can tell.  NULL: nobody can.
     */
    int (*seize)(void *arg, uint32_t process);
    void (*bury)(void *arg, uint32_t process, int ticket);
    /* Only to know; a dead one stays dead until somebody seizes it.  NULL: all live. */
    enum process_state (*ask)(void *arg, uint32_t process);
    uint32_t processes;  /* how many slots there are */
    bool knows_the_dead; /* or there are no others */
    /* The device's address of a byte of the region.  NULL: no device has one. */
    hshm_status (*device_address)(void *arg, uint64_t off, uint64_t *ret_at);
    const struct device_calls *device; /* NULL: the data is memory like any other */
    uint64_t device_alignment;         /* of the data's first byte on the device  */
};

/* What a heap is to be like; from the caller's options and the region. */
struct heap_wish {
    uint64_t heap_off;    /* first byte that it may use                    */
    uint64_t region_size; /* first that it may not                         */
    uint64_t data_off;    /* 0, or where the data must begin: on a device  */
    uint64_t scale;       /* tables of fixed size are for a region of so many bytes */
    uint64_t custom_size;
    uint32_t min_block; /* bytes of the smallest block, a power of two   */
    uint32_t cpus;      /* that this machine has                         */
    bool zeroed;        /* every byte from heap_off on reads as zero     */
    uint32_t lifetime;  /* hshm_lifetime of blocks for which none is asked */
};

/* Where the parts of a heap lie in its region; offsets, as the header has them. */
struct heap_layout {
    uint64_t table_off, table_size;
    uint64_t root_off, root_size;
    uint64_t custom_off, custom_size;
    uint64_t data_off, data_size;
    uint32_t min_block;
};

/* The kinds of memory that a kind of heap can live in. */
enum allocator_needs {
    NEEDS_SYSTEM_MALLOC = 1 << 0, /* memory that is malloc's and this process's alone             */
    HAS_LIFETIMES = 1 << 2,       /* blocks may end with the process that took them               */
    TAKES_MIN_BLOCK = 1 << 1      /* the caller may say how large the smallest block is           */
};

struct allocator_ops {
    /* The hot ones first.  `addr` may be anything: wrong frees are found out and change nothing. */
    void *(*malloc)(hshm_allocator *a, size_t size);
    /* What is not done by <hshm/inline.h>, which is asked first on every heap, and knows ThreadLocal ones. */
    hshm_status (*free)(hshm_allocator *a, void *addr);
    /* A block of ours was given back there, and its slab is to be looked at.  NULL: not known there. */
    hshm_status (*settle)(hshm_allocator *a, void *addr);
    /* alignment is a power of two above GRANULE */
    void *(*aligned)(hshm_allocator *a, size_t size, size_t alignment);
    /* addr is not NULL.  NULL on failure, and then nothing has changed. */
    void *(*realloc)(hshm_allocator *a, void *addr, size_t size);
    /* malloc() of bytes that are zero.  NULL: malloc() and memset(). */
    void *(*zeroed)(hshm_allocator *a, size_t size);
    /* 0 when addr is no live block; leaves no sentence behind */
    size_t (*usable_size)(hshm_allocator *a, const void *addr);
    hshm_status (*visit)(hshm_allocator *a, hshm_visit_fn fn, void *arg);
    hshm_status (*trim)(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes);
    hshm_status (*mark)(hshm_allocator *a, hshm_stack_height *ret_height);
    hshm_status (*rewind)(hshm_allocator *a, hshm_stack_height height);
    /* Fills all but region_bytes, data_bytes, committed and what follows from the others. */
    void (*stats)(hshm_allocator *a, hshm_stats *ret_stats);
    /* Walk everything and compare with the invariants in docs/format.md; see check.h.  HSHM_OK or CORRUPT. */
    hshm_status (*check)(hshm_allocator *a, struct check *check);

    hshm_status (*allocate_to)(hshm_allocator *a, size_t size, hshm_slot *slot);
    hshm_status (*free_from)(hshm_allocator *a, hshm_slot *slot);
    /*
     * For user slots; NULL: this kind has none.  Take a block, having told op_candidate() which, and give one back, as op_log.h
     * says; after a death, undo the one and finish the other: `process` is the dead one, and `addr` may be anything.
     */
    void *(*take_for)(hshm_allocator *a, size_t size, struct op *op);
    hshm_status (*give_for)(hshm_allocator *a, struct op *op, void *addr);
    void (*undo_take)(hshm_allocator *a, struct op_log *log, uint64_t process, void *addr);
    void (*finish_give)(hshm_allocator *a, struct op_log *log, uint64_t process, void *addr);
    /* Heaps of slabs: free a live block of a slab where whoever takes it must acknowledge it.  False: it is none. */
    bool (*give_elsewhere)(hshm_allocator *a, const struct block_place *place);

    hshm_allocator_kind kind;
    const char *title;
    unsigned needs;

    /* Divide a region.  HSHM_OK, or HSHM_E_INVAL when the heap does not fit. */
    hshm_status (*layout)(const struct heap_wish *wish, struct heap_layout *ret_layout);
    /* Is this layout, read from a header and inside the region, one that this kind can work on?  HSHM_OK or CORRUPT. */
    hshm_status (*check_layout)(const struct heap_layout *layout, const char *name);
    /* Set up a handle on a new heap, whose control data is all zero.  HSHM_OK or NOSPC. */
    hshm_status (*init)(hshm_allocator *a, const struct heap_wish *wish);
    /* Set up a handle on an existing heap.  Its root is input: HSHM_OK or CORRUPT. */
    hshm_status (*open)(hshm_allocator *a, const char *name);
    /* End a handle. */
    void (*close)(hshm_allocator *a);
    /* Does this address lie in a block, as far as can be told without one?  NULL: in the heap's data. */
    bool (*owns)(hshm_allocator *a, const void *addr);
    /* Around fork(), for kinds with locks of this process; may be NULL. */
    void (*fork_prepare)(hshm_allocator *a);
    void (*fork_done)(hshm_allocator *a);
    /* In a forked child, `process` set anew: forget what the parent's threads own.  May be NULL. */
    void (*fork_child)(hshm_allocator *a);
    /* Clean up after a dead process whose slot this process has now; adds to the report.  May be NULL: nothing to clean. */
    void (*recover)(hshm_allocator *a, uint32_t process, hshm_recover_report *report);
    /* Clean up after all that are dead; adds to the report.  NULL: by recover(), one by one. */
    hshm_status (*recover_all)(hshm_allocator *a, hshm_recover_report *report);
    /* Make what is derived anew, whoever left it stale; others may work meanwhile.  May be NULL: nothing is. */
    void (*remake)(hshm_allocator *a);
};

/* Local: one manager's handle on one heap.  The public header reads `view`. */
struct hshm_allocator {
    struct hshm_allocator_base view;
    struct allocator_ops ops;

    /* Stack: its words in the region, and how many granules it has. */
    stack_word *codes;
    struct stack_root *stack;
    uint64_t granules;
    uint32_t granule_shift; /* log2 of one's bytes */
    uint64_t code_limit;    /* the same in bits of the table, less one: no block leads beyond, even from an odd top */
    unsigned char *data;

    /* Malloc: its counters in the region, and which addresses are live. */
    struct malloc_root *counters;
    struct block_set *live;

    /* ScalablePage, ThreadLocal. */
    struct slab_heap slab;

    /* Logs of operations on user slots, and how many. */
    struct op_table *op_table;
    uint32_t op_logs;
    uint64_t slots_off; /* where slots of the user's can be: from the custom header, or else the data, to the end */
    uint64_t slots_size;
    /* Named slots, likewise. */
    uint32_t name_count;
    struct name_entry *names;

    /* Local: where this process's threads take blocks of process lifetime; lifetime.c. */
    struct {
        struct local_lock lock;
        uint64_t current[CLASSES_MAX]; /* slab by class, its slice + 1; 0 = none      */
        uint64_t cursor;               /* the slice that is looked at next for one    */
        _Atomic bool used;             /* there may be such blocks                    */
        bool is_default;               /* of all requests that do not ask for another */
    } life;

    struct heap_layout layout;
    uint64_t region_size;
    hshm_allocator_id id;
    uint32_t process;    /* this process's slot in the region, or SLICE_PROCESS_NONE                        */
    bool private_memory; /* nobody else sees the region, and a forked child gets a copy of it               */
    bool read_only;
    bool refuses;        /* calls that change it answer with a sentence, and nothing else */
    hshm_status refusal; /* with which refused calls answer */
    struct allocator_system system;
    /* Data on a device: what ops.aligned was, before device.c stepped in. */
    void *(*aligned_anyhow)(hshm_allocator *a, size_t size, size_t alignment);
};
static_assert(offsetof(struct hshm_allocator, view) == 0, "hshm_to_off() and hshm_to_addr() rely on it");

extern const struct allocator_ops alloc_stack_ops;
extern const struct allocator_ops alloc_malloc_ops;
extern const struct allocator_ops alloc_scalable_page_ops;
extern const struct allocator_ops alloc_thread_local_ops;

/* The functions of a kind, or NULL and a sentence (HSHM_E_INVAL) for a number that is none. */
const struct allocator_ops *allocator_find(uint32_t kind);

/* Let every call that would change the heap answer HSHM_E_PERM. */
void allocator_refuse_writes(hshm_allocator *a);

/* Let every call answer HSHM_E_PERM: this forked child has no place in the region. */
void allocator_refuse_all(hshm_allocator *a);

/*
 * hshm_check() of a heap on which nobody else works: at once, and all must be as when nobody is in the middle of a call, hints
 * too, but for what names a dead process.  For tests and fuzzers.  HSHM_OK or HSHM_E_CORRUPT.
 */
hshm_status allocator_check(hshm_allocator *a);

/* Out of line and shared: the sentence for a request without room.  Returns NULL, for malloc-shaped calls. */
void *allocator_no_room(hshm_allocator *a, size_t size, uint64_t largest);

/*
 * Clean up after each process that is dead with `recover` (NULL: its slot is all that it left), and give its slot free; adds
 * to the report.  False if there was none.
 */
bool allocator_for_each_dead(hshm_allocator *a,
                             void (*recover)(hshm_allocator *a, uint32_t process, hshm_recover_report *report),
                             hshm_recover_report *report);

/* The sentence for a wrong free; HSHM_E_BADFREE. */
hshm_status allocator_bad_free(const hshm_allocator *a, const void *addr);

/* Has that kind blocks of process lifetime, in memory of which the dead are known or not?  HSHM_OK or NOTSUP. */
hshm_status allocator_check_lifetime(const struct allocator_ops *ops, bool knows_the_dead);

/* The sentence for a kind of heap whose tables do not leave room for that custom header; HSHM_E_INVAL. */
hshm_status allocator_no_layout(const char *title, const struct heap_wish *wish, uint64_t least);

/* Does any log free a block just now?  Asked by who takes blocks that others freed; pairs with the addition in op_log.c. */
static inline bool
op_any_frees(const hshm_allocator *a)
{
    return a->op_logs != 0 && load_seq_cst(&a->op_table->freeing) != 0;
}

/* op_acknowledge() for all blocks of a slab or run. */
static inline void
slab_acknowledge(hshm_allocator *a, uint64_t slice, enum op_whose whose)
{
    if (UNLIKELY(op_any_frees(a)))
        slab_tell_logs(a, slice, whose);
}

/* Why memory cannot be trimmed that has no give_back; behind "its memory". */
#define ALLOCATOR_NO_GIVE_BACK "does not go back in pieces (the caller's array, or a GPU's memory)"

/* The data lies on a device: let calls that would touch blocks ask it. */
void allocator_use_device(hshm_allocator *a);

/*
 * Move a block's bytes to a new block; they may overlap, in a damaged region.  False: the device's driver refused, and the
 * sentence says why.
 */
bool allocator_move_bytes(hshm_allocator *a, void *to, const void *from, uint64_t size);

/* Is this address inside the heap's data? */
static inline bool
allocator_has(const hshm_allocator *a, const void *addr)
{
    return (uintptr_t)addr - ((uintptr_t)a->view.base + a->layout.data_off) < a->layout.data_size;
}

#endif
