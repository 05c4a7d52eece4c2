/*
 * allocator.h - cutting a region into blocks.
 *
 * kind                           what it is for
 * HSHM_ALLOCATOR_STACK           a bump pointer: no waste between blocks, any number freed at once; room comes back from
 *                                the top
 * HSHM_ALLOCATOR_SCALABLE_PAGE   general use; what is kept for the next blocks is bounded by processors, however many
 *                                threads and processes there are
 * HSHM_ALLOCATOR_THREAD_LOCAL    general use at high frequency; each thread that allocates keeps some memory for its next
 *                                blocks, and takes one of a fixed number of slots.  Its short path can be compiled into the
 *                                caller: <hshm/inline.h>
 * HSHM_ALLOCATOR_MALLOC          the system's malloc, in this process only
 *
 *                 POSIX_SHM_MMAP  POSIX_MMAP  MALLOC                  ARRAY                        GPU_SHM_MMAP  GPU_MALLOC
 * STACK           yes             yes         yes, this process only  yes; shared if the array is  yes           yes
 * SCALABLE_PAGE   yes             yes         yes, this process only  yes; shared if the array is  yes           yes
 * THREAD_LOCAL    yes             yes         yes, this process only  yes; shared if the array is  yes           yes
 * MALLOC          no              no          yes, this process only  no                           no            no
 *
 * On GPU_MALLOC blocks lie in device memory: multiples of 256 bytes, and aligned to that at least, at addresses that are for calls
 * of this library and not to be touched; hshm_calloc(), and hshm_realloc() where it moves, ask the driver, and may answer
 * HSHM_E_DEVICE or HSHM_E_DAMAGED; alignments above the device memory's own (2 MiB, most often) are HSHM_E_NOTSUP.  See
 * <hshm/gpu.h>.
 *
 * Whatever is "no" answers HSHM_E_NOTSUP with the reason when the allocator is created.
 *
 * Blocks
 *   A block belongs to the heap, not to the process that took it: it stays when that process ends, and any process
 *   attached to the heap may free it.  Blocks are 16-byte aligned, more on request, and not zeroed unless by
 *   hshm_calloc().  A request of 0 bytes gives a block of its own that may be freed like any other.
 *   Blocks of a MALLOC backend or heap end with the backend, in hshm_backend_destroy() or _detach().
 *   Freeing what is not a live block of the heap (freed already, interior, foreign, wild) changes nothing and answers
 *   HSHM_E_BADFREE, also in release builds.  Not found out: a second free once the address has been given out anew, for
 *   then it is a live block; and, not in every case, a wrong free while another thread or process frees or takes that very
 *   room at the same moment, after which a block may be given out twice.
 *
 * Threads and processes: every call is safe from several threads and processes at once, except where it says so.
 * SCALABLE_PAGE: when memory is short, in hshm_trim(), and rarely otherwise, a call may bind its thread to one processor
 * after the other for a moment, also to those that it was bound away from, and then to those on which it ran before.
 * Signals: no call here but hshm_to_off() and hshm_to_addr() is async-signal-safe.
 *
 * Killed processes: SIGKILL in the middle of a call leaves the heap consistent and makes nobody wait.  What a process had
 * allocated stays, as after any other end.
 *   STACK   At most the one block (in a free, the room it gave back; in a realloc that moves, both) that the call was about
 *           stays unusable until the stack is rewound, and, as beneath a live block, free room beneath it does not come
 *           back before.
 *   SCALABLE_PAGE, THREAD_LOCAL
 *           A block is taken, and given back, by a single store.  Taken for good is at most the one block that a call had
 *           taken and not returned yet.
 *           Out of reach until somebody cleans up: what its threads kept for their next blocks (THREAD_LOCAL: all free
 *           room in slabs that they owned), and slices that were changing hands.  Cleaning up runs by itself: at attach,
 *           and in a forked child, after the process whose slot is taken over; after every dead process before
 *           HSHM_E_NOMEM, or HSHM_E_LIMIT for want of a thread slot, is answered, and in hshm_recover() and hshm_trim().  On ARRAY nobody can
 *           tell who is dead, so what a dead process kept there stays out of reach; its live blocks can be freed.
 *
 * Threads of THREAD_LOCAL: the first request of a thread takes a slot for it, which it gives back when it ends.  A region
 * has 4 of them below 64 KiB, 16 below 1 MiB, 64 below 16 MiB, 1024 below 64 MiB, and 4096 from there, for the threads of
 * all processes.  When all are taken by the living, requests answer HSHM_E_LIMIT; but for frees, and for blocks of more than
 * 8 slices (512 KiB in regions of 16 MiB and more), which need no slot.
 *
 * Forked children: the child goes on with the parent's shared heaps under a slot of its own (ARRAY: under none), and may
 * free what the parent took; THREAD_LOCAL: its thread takes a slot at its next request, the parent's threads keep theirs.  A heap on MALLOC is
 * copied: the child's thread goes on with what it had there, and what other threads kept is nobody's in the copy.
 * So is an ARRAY that is not in shared memory, but in the copy what the threads kept stays out of reach.
 *
 * In a heap attached read-only, calls that would change it answer HSHM_E_PERM.  In a forked child that could not get a
 * place of its own they do likewise, visits and marks too, or answer HSHM_E_LIMIT when all slots were taken.
 *
 * A heap is a handle that hshm_allocator_create() or _get() gave and that has not ended; calls do not look for NULL.
 */
#ifndef HSHM_ALLOCATOR_H
#define HSHM_ALLOCATOR_H

#include <hshm/status.h>
#include <hshm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How a region is cut.  The numbers are written into regions and never change. */
typedef enum hshm_allocator_kind {
    HSHM_ALLOCATOR_ANY = 0, /**< for hshm_allocator_get(): whatever kind it is */
    HSHM_ALLOCATOR_STACK = 1,
    HSHM_ALLOCATOR_SCALABLE_PAGE = 2,
    HSHM_ALLOCATOR_THREAD_LOCAL = 3,
    HSHM_ALLOCATOR_MALLOC = 4
} hshm_allocator_kind;

/**
 * How long a block lives if nobody frees it.
 *
 * HSHM_LIFETIME_PROCESS: until the process that took it has died or detached (by the manager by which it took it): then
 * hshm frees it, after a death when somebody cleans up (see "Killed processes" above).  For
 * what only its maker needs - buffers, scratch, what a server holds for itself - so that killed processes leave nothing.
 * Others may use such a block as long as its maker lives, and free it if that lives until the call returns; to free it later is
 * a wrong free.  A forked child's
 * are its own, and the parent's stay the parent's.  hshm_realloc() keeps a block's lifetime; a block that it moves is then the
 * calling process's.  Blocks of hshm_allocate_to() always have the heap's lifetime, and names hold no others.
 *
 * SCALABLE_PAGE and THREAD_LOCAL: such blocks come from slabs of the process, and its threads take them one at a time, which costs
 * some 30 ns for a block taken and freed instead of 8.  MALLOC: all blocks end with the process.  STACK has none: its room comes back from the top
 * only.  Nor have heaps on ARRAY, where nobody can tell who is dead.
 */
typedef enum hshm_lifetime {
    HSHM_LIFETIME_HEAP = 0,   /**< as long as the heap          */
    HSHM_LIFETIME_PROCESS = 1 /**< as long as the process that took it */
} hshm_lifetime;

/** How hshm_allocator_create() works; start from HSHM_ALLOCATOR_OPTIONS_INIT.  NULL means just that. */
typedef struct hshm_allocator_options {
    size_t struct_size; /**< sizeof(hshm_allocator_options), so that the struct can grow             */
    size_t min_block;   /**< SCALABLE_PAGE, THREAD_LOCAL: bytes of the smallest block, of which all sizes are multiples;
                             and all offsets of blocks; a power of two from 16 to 4096, 0 = 16.  With 256 the control
                             data is a seventh (SCALABLE_PAGE) or a quarter of that with 16                      */
    hshm_lifetime lifetime; /**< of blocks for which nothing else is asked, whichever process takes them             */
} hshm_allocator_options;

/* clang-format off */
#define HSHM_ALLOCATOR_OPTIONS_INIT { sizeof(hshm_allocator_options), 0, HSHM_LIFETIME_HEAP }
/* clang-format on */

/**
 * Put a heap on a backend, register it in the manager, and make the region ready for others to attach.
 *
 * To fill in the custom header before others can see it is not possible: they may attach as soon as the call returns
 * (or shortly before).  Make the last word that you store in it, atomically, the one that says "filled in".
 *
 * @param manager             NULL = hshm_manager_default()
 * @param backend_id          a backend of this manager, created by it, without a heap yet
 * @param allocator_id        not yet used in this manager
 * @param custom_header_size  bytes for your own use at a fixed place in the region, zero when new; may be 0
 * @param options             NULL = defaults
 * @param ret_allocator       on success the heap, owned by the manager; may be NULL
 * @return HSHM_OK, or, leaving the backend as it was:
 *         HSHM_E_NOTFOUND  no such backend
 *         HSHM_E_EXISTS    the backend has a heap already, or the id is registered in this manager
 *         HSHM_E_INVAL     kind, lifetime or struct_size is wrong; min_block is no power of two from 16 to 4096; or the heap's tables
 *                          and the custom header do not fit into the region
 *         HSHM_E_NOTSUP    that kind does not work on that backend, or (STACK, MALLOC) takes no min_block but 0 and 16, or
 *                          has no process lifetime there; the sentence says why
 *         HSHM_E_NOSPC     no memory for the handle, or a lazy region's file system has no room for the heap's tables;
 *                          THREAD_LOCAL, beyond some 24 such heaps in a process: no key for thread-specific data is left
 *         HSHM_E_PERM      the backend is attached read-only, or was created by this process's parent
 *         HSHM_E_SYSTEM    a system call failed
 */
HSHM_API hshm_status hshm_allocator_create(hshm_manager *manager, hshm_backend_id backend_id,
                                           hshm_allocator_id allocator_id, hshm_allocator_kind kind,
                                           size_t custom_header_size, const hshm_allocator_options *options,
                                           hshm_allocator **ret_allocator);

/**
 * The heap of that id.
 * @param kind  what the caller expects, or HSHM_ALLOCATOR_ANY
 * @return HSHM_OK, HSHM_E_NOTFOUND, HSHM_E_KIND (it is of another kind), or HSHM_E_INVAL (ret_allocator is NULL)
 */
HSHM_API hshm_status hshm_allocator_get(hshm_manager *manager, hshm_allocator_id allocator_id, hshm_allocator_kind kind,
                                        hshm_allocator **ret_allocator);

/**
 * Forget the heap in this manager: its id is free, and the handle is of no use but for hshm_allocator_register().  What is
 * in the region stays, and others who are attached go on.  Blocks can be read and written until the backend is detached or
 * destroyed.
 * @return HSHM_OK, or HSHM_E_NOTFOUND (harmless)
 */
HSHM_API hshm_status hshm_allocator_unregister(hshm_manager *manager, hshm_allocator_id allocator_id);

/**
 * Take a heap that was unregistered back into the manager, under its id.  Its backend must not have been left meanwhile.
 * @return HSHM_OK, also if it is registered; HSHM_E_NOTFOUND (no backend of this manager has that handle), HSHM_E_EXISTS (the
 *         id was given to another heap), HSHM_E_INVAL (NULL)
 */
HSHM_API hshm_status hshm_allocator_register(hshm_manager *manager, hshm_allocator *allocator);

/** The heap's kind. */
HSHM_API hshm_allocator_kind hshm_allocator_kind_of(const hshm_allocator *allocator);

/** The heap's id. */
HSHM_API hshm_allocator_id hshm_allocator_id_of(const hshm_allocator *allocator);

/**
 * The caller's own bytes in the region: 64-byte aligned, zero when new, at the same offset in every process.
 * Shared by all, so use atomic types in it.
 *
 * @param ret_size  the size that was asked for at create; may be NULL
 * @return the address, or NULL if the heap was created without a custom header (no failure: the size is then 0)
 */
HSHM_API void *hshm_allocator_custom_header(hshm_allocator *allocator, size_t *ret_size);

/**
 * Allocate `size` bytes, 16-byte aligned.
 *
 * @return HSHM_OK, or, leaving *ret_ptr as it was:
 *         HSHM_E_NOMEM  the heap has no room for it; smaller requests may still succeed
 *         HSHM_E_LIMIT  THREAD_LOCAL: all slots for threads are taken by live ones
 *         HSHM_E_NOSPC  THREAD_LOCAL: the system has no memory for this thread's private part
 *         HSHM_E_INVAL  ret_ptr is NULL
 *         HSHM_E_PERM   attached read-only
 */
HSHM_API hshm_status hshm_allocate(hshm_allocator *allocator, size_t size, hshm_ptr *ret_ptr);

/** hshm_allocate() shaped like malloc: the address, or NULL, with the reason in hshm_last_status(). */
HSHM_API void *hshm_malloc(hshm_allocator *allocator, size_t size);

/**
 * hshm_malloc() of a block of that lifetime, whatever the heap's option says.  Free it like any other.
 * @return NULL also for HSHM_E_NOTSUP (STACK, or a heap on ARRAY, has no process lifetime) and HSHM_E_INVAL (no such lifetime)
 */
HSHM_API void *hshm_malloc_lifetime(hshm_allocator *allocator, size_t size, hshm_lifetime lifetime);

/**
 * Like hshm_malloc() for `count` elements of `size` bytes, zeroed.  A product that overflows is HSHM_E_NOMEM.
 * SCALABLE_PAGE, THREAD_LOCAL: a block of more than 8 slices that nobody used since the system gave its pages as zero (when
 * the region was made, or after they were given back) is not written to.
 */
HSHM_API void *hshm_calloc(hshm_allocator *allocator, size_t count, size_t size);

/**
 * Allocate `size` bytes at a multiple of `alignment`.
 *
 * The address is aligned in every process: regions of the named kinds are mapped at multiples of the largest power of
 * two that fits into them (where the address space allows it; the calling process's address is aligned in any case).
 *
 * @param alignment  a power of two; anything up to 16 gives 16
 * @return as hshm_allocate(), and HSHM_E_INVAL when alignment is no power of two
 */
HSHM_API hshm_status hshm_allocate_aligned(hshm_allocator *allocator, size_t size, size_t alignment, hshm_ptr *ret_ptr);

/** hshm_allocate_aligned() shaped like C11's aligned_alloc. */
HSHM_API void *hshm_aligned_alloc(hshm_allocator *allocator, size_t alignment, size_t size);

/**
 * Change the size of a block, in place where it can be; otherwise it moves and its content up to the smaller of both
 * sizes moves with it.  A null *inout_ptr (addr and shm.off) allocates.  A size of 0 gives a block of the smallest size,
 * it does not free.  The new part is not zeroed, and a block that moved is only 16-byte aligned.
 * SCALABLE_PAGE, THREAD_LOCAL: a block of up to 8 slices stays where it is if the new size fits and is more than half of its
 * usable size; a larger one grows into free slices behind it, and gives slices back where it shrinks.  To make a block
 * smaller never fails for want of room.
 *
 * @param inout_ptr  a live block of this heap (by addr, or by shm.off when addr is NULL), owned by the caller
 * @return HSHM_OK, or, leaving block and *inout_ptr as they were: HSHM_E_BADFREE, or as hshm_allocate()
 */
HSHM_API hshm_status hshm_reallocate(hshm_allocator *allocator, hshm_ptr *inout_ptr, size_t size);

/** hshm_reallocate() shaped like realloc; on failure NULL, and the block is as it was. */
HSHM_API void *hshm_realloc(hshm_allocator *allocator, void *addr, size_t size);

/**
 * Free a block and null *inout_ptr.  A null pointer is fine.
 *
 * @param inout_ptr  the block, by addr, or by shm.off when addr is NULL; shm.allocator must be the heap's own when
 *                   shm.off is used
 * @return HSHM_OK, or, changing nothing: HSHM_E_BADFREE, HSHM_E_INVAL (inout_ptr is NULL), HSHM_E_PERM (read-only)
 */
HSHM_API hshm_status hshm_deallocate(hshm_allocator *allocator, hshm_ptr *inout_ptr);

/**
 * Free a block by its address.  NULL is fine.
 *
 * A second free of a block is found out until its address is given out anew, whoever freed it first: also when that was
 * another thread or process than the one that owns the block's slab, and the owner has not looked since.
 *
 * @return HSHM_OK, HSHM_E_BADFREE, HSHM_E_PERM
 */
HSHM_API hshm_status hshm_free(hshm_allocator *allocator, void *addr);

/**
 * How many bytes of a block may be used: at least what was asked for.
 * @return 0 when `addr` is not a live block of this heap (and HSHM_E_BADFREE as last status), or is NULL
 */
HSHM_API size_t hshm_usable_size(hshm_allocator *allocator, const void *addr);

/** A live block, as hshm_visit_blocks() shows it. */
typedef struct hshm_block {
    void *addr;    /**< in this process           */
    hshm_off off;  /**< in every process          */
    uint64_t size; /**< usable bytes              */
} hshm_block;

/** Called for each block; anything but 0 ends the visit. */
typedef int (*hshm_visit_fn)(const hshm_block *block, void *arg);

/**
 * Show every live block, at ascending offsets (MALLOC: in no order).  Safe while others work on the heap: blocks that
 * come or go meanwhile may or may not be shown.  The function may call anything, also on this heap.
 *
 * @return HSHM_OK (also when fn ended it), HSHM_E_INVAL (fn is NULL), HSHM_E_NOSPC (MALLOC: no memory for a list)
 */
HSHM_API hshm_status hshm_visit_blocks(hshm_allocator *allocator, hshm_visit_fn fn, void *arg);

/**
 * Give free memory back to the system, keeping `keep` free bytes.
 *
 * STACK: the pages above the top; the caller guarantees that nobody allocates meanwhile.
 * SCALABLE_PAGE, THREAD_LOCAL: safe while others work.  First slabs without a live block, and slices kept for later, become
 * free (THREAD_LOCAL: the calling thread's; SCALABLE_PAGE: everyone's, for which the calling thread may visit one processor
 * after the other), then what dead processes left; then pages of free slices go back, the highest first.  Slices must be
 * whole pages, as they are in regions of 16 MiB and more.  Without this call, half of what is free beyond 32 slices and a
 * 32nd of what is used goes back once it has been too much for half a second; at most 256 slices in one call.
 * MALLOC: asks malloc_trim().
 * Named regions made with HSHM_COMMIT_RESERVE or _PREFAULT keep what was reserved (HSHM_E_NOTSUP), and so does an ARRAY
 * (slabs become free, and the dead are cleaned up after, all the same).
 *
 * @param ret_bytes  how much was given back; may be NULL
 * @return HSHM_OK, HSHM_E_NOTSUP, HSHM_E_PERM (read-only), HSHM_E_SYSTEM
 */
HSHM_API hshm_status hshm_trim(hshm_allocator *allocator, uint64_t keep, uint64_t *ret_bytes);

/** A height of the stack, for hshm_stack_rewind().  The same in every process. */
typedef uint64_t hshm_stack_height;

/**
 * Remember how high the stack is.
 * @return HSHM_OK, HSHM_E_KIND (not a Stack), HSHM_E_INVAL (ret_height is NULL)
 */
HSHM_API hshm_status hshm_stack_mark(hshm_allocator *allocator, hshm_stack_height *ret_height);

/**
 * Free every block that lies above a mark, whoever took it.
 *
 * The caller guarantees that no thread or process uses those blocks any more, nor allocates or frees in this heap
 * meanwhile.  Room that a killed process left unusable above the mark comes back too.
 *
 * @return HSHM_OK, HSHM_E_KIND (not a Stack), HSHM_E_INVAL (the mark is above the top, or cuts a live block: it was
 *         taken before what lies under it was freed and taken anew, or grew), HSHM_E_PERM (read-only)
 */
HSHM_API hshm_status hshm_stack_rewind(hshm_allocator *allocator, hshm_stack_height height);

/** hshm_stack_rewind() to the bottom: the whole heap is free. */
HSHM_API hshm_status hshm_stack_reset(hshm_allocator *allocator);

/** What hshm_stats_get() tells; set struct_size with HSHM_STATS_INIT. */
typedef struct hshm_stats {
    size_t struct_size;    /**< in: sizeof(hshm_stats); only so many bytes are written                              */
    uint64_t region_bytes; /**< the whole region                                                                    */
    uint64_t data_bytes;   /**< of these, for blocks                                                                */
    uint64_t live_bytes;   /**< in blocks that are allocated, rounded as the allocator rounds                       */
    uint64_t live_blocks;  /**< how many they are                                                                   */
    uint64_t used_bytes;   /**< STACK: up to the top, freed blocks beneath it included; MALLOC: live_bytes;
                                others: slices that are not free, with the free blocks in them and what threads keep */
    uint64_t peak_bytes;   /**< the most that used_bytes ever was                                                   */
    uint64_t free_bytes;   /**< data_bytes - live_bytes                                                             */
    uint64_t largest_free; /**< the largest block that would fit now (alignment 16; MALLOC: less its rounding);
                                SCALABLE_PAGE, THREAD_LOCAL: the longest row of free slices; smaller blocks may still
                                fit into slabs when it is 0                                                         */
    uint64_t allocs;       /**< blocks ever taken; but for MALLOC live_blocks + frees, less what kills lost        */
    uint64_t frees;        /**< blocks ever freed, by rewinds too.  SCALABLE_PAGE: threads tell of 64 at once; so it is
                                exact for this process's, and up to 63 less for each thread of others (for good,
                                if it is killed)                                                                    */
    uint64_t failures;     /**< requests that found no room                                                         */
    uint64_t committed;    /**< bytes of the region that the system holds now                                       */
    double fragmentation;  /**< 1 - largest_free / free_bytes; 0 when nothing is free                               */
} hshm_stats;

/* clang-format off */
#define HSHM_STATS_INIT { .struct_size = sizeof(hshm_stats) }
/* clang-format on */

/**
 * Count what the heap holds.  Correct across processes, and safe while others work: each figure is then one of a
 * moment during the call.  STACK: reads the table of blocks, so it takes time in proportion to their number (some
 * 10 ns each); SCALABLE_PAGE, THREAD_LOCAL: reads each slice's word and each slab's bits; MALLOC: no more than a few loads.
 *
 * @return HSHM_OK, or HSHM_E_INVAL (NULL, wrong struct_size)
 */
HSHM_API hshm_status hshm_stats_get(hshm_allocator *allocator, hshm_stats *ret_stats);

/**
 * What hshm_check() saw; set struct_size with HSHM_CHECK_REPORT_INIT.  The last three count places, such as a slice, a slab
 * or a log, at which the heap is not as it is while nobody is in the middle of a call, for a reason that is no damage.
 */
typedef struct hshm_check_report {
    size_t struct_size;     /**< in: sizeof(hshm_check_report); only so many bytes are written                       */
    uint64_t live_blocks;   /**< as hshm_visit_blocks() would show them                                              */
    uint64_t live_bytes;    /**< in these                                                                            */
    uint64_t slices;        /**< looked at: all that were ever used.  STACK: granules of 16 bytes below the top      */
    uint64_t slabs;         /**< SCALABLE_PAGE, THREAD_LOCAL: among these                                            */
    uint64_t large_blocks;  /**< the same: blocks that have slices to themselves                                     */
    uint64_t free_blocks;   /**< the same: in slabs                                                                  */
    uint64_t kept_slices;   /**< the same: that live processes keep for later, or are making something of            */
    uint64_t in_transition; /**< live processes are in the middle of a call there, or were when they were stopped    */
    uint64_t left_by_dead;  /**< dead processes were, or held something for their threads: hshm_recover() mends it   */
    uint64_t stale; /**< hints and other derived words that do not follow what they are derived from: some time or
                                 room may be lost until HSHM_CHECK_REPAIR, or until somebody works there again       */
} hshm_check_report;

/* clang-format off */
#define HSHM_CHECK_REPORT_INIT { .struct_size = sizeof(hshm_check_report) }
/* clang-format on */

/** Flags of hshm_check(). */
enum {
    /** hshm_recover() first, and make what is derived anew.  Damage is not repaired. */
    HSHM_CHECK_REPAIR = 1 << 0
};

/**
 * Walk everything that the heap keeps in its region, and compare it with what must be true of it (docs/format.md).
 *
 * Safe while others work on the heap, and are stopped or killed meanwhile.  What they are in the middle of is no damage, nor
 * is what a killed one left before it was recovered; the report counts it.  What looks wrong is looked at again
 * until it is right, or did not change for a tenth of a second: so that damage is reported takes as long.
 * Without HSHM_CHECK_REPAIR it stores nothing, and a heap attached read-only can be checked.  It ends whatever the bytes are, after
 * time in proportion to the heap's tables, and two seconds of such waits at most.
 *
 * On a heap that nobody works on, after hshm_recover() by somebody, in_transition and left_by_dead are 0.  On ARRAY and MALLOC
 * backends nobody is known to be dead; what the dead were doing there counts as in transition.
 *
 * @param flags       0 or HSHM_CHECK_REPAIR
 * @param ret_report  may be NULL
 * @return HSHM_OK: nothing that live, stopped and killed processes do not explain; or HSHM_E_CORRUPT, and the sentence says where
 *         the first damage is, and what; HSHM_E_INVAL (flags, struct_size); HSHM_E_PERM or HSHM_E_LIMIT in a forked child
 *         without a place of its own; with HSHM_CHECK_REPAIR also what hshm_recover() returns
 */
HSHM_API hshm_status hshm_check(hshm_allocator *allocator, unsigned flags, hshm_check_report *ret_report);

/** What hshm_recover() did; set struct_size with HSHM_RECOVER_REPORT_INIT. */
typedef struct hshm_recover_report {
    size_t struct_size;  /**< in: sizeof(hshm_recover_report); only so many bytes are written                       */
    uint64_t processes;  /**< dead ones that were cleaned up after, and whose slots are free now                    */
    uint64_t threads;    /**< THREAD_LOCAL: slots of their threads that are free now                                */
    uint64_t slabs;      /**< that were their threads', or that they were about to change: anybody's now, or free   */
    uint64_t slices;     /**< that they kept for later, were making a slab or large block of, or were making free:
                             free now                                                                              */
    uint64_t operations; /**< on slots (hshm/slot.h) that were finished or undone                                  */
    uint64_t blocks;     /**< of process lifetime that were theirs, and are free now                               */
} hshm_recover_report;

/* clang-format off */
#define HSHM_RECOVER_REPORT_INIT { .struct_size = sizeof(hshm_recover_report) }
/* clang-format on */

/**
 * Finish or undo what dead processes left in the middle of, and give free what they kept for later.  Their live blocks
 * stay.  Safe while others work; may be killed itself, and be repeated: the next one goes on where it was.
 *
 * It need not be called: the same happens when it is needed; see "Killed processes" above.  Call it to have the room back
 * earlier, or to know what there was.
 * STACK: gives free room at the top back; room that a kill made unusable stays so until the stack is rewound.
 * MALLOC, and heaps on ARRAY or MALLOC backends: nobody is known to be dead, and nothing is found.
 *
 * @param ret_report  may be NULL
 * @return HSHM_OK, also when nobody was dead; HSHM_E_INVAL (struct_size); HSHM_E_PERM (read-only; or, as HSHM_E_LIMIT, in
 *         a forked child without a place of its own)
 */
HSHM_API hshm_status hshm_recover(hshm_allocator *allocator, hshm_recover_report *ret_report);

/* The part of a heap's handle that the two functions below, and inline.h, need.  First in every handle; part of the ABI. */
struct hshm_allocator_base {
    unsigned char *base;    /* the region                                                                  */
    unsigned char *data;    /* the first slice                                                             */
    uint64_t slices;        /* how many of them inline.h may look at; 0 on heaps that it does not know     */
    unsigned char *records; /* control data, by slice                                                      */
    uint64_t record_size;   /* bytes of it a slice                                                         */
    /* Distance of the thread's entry for this heap from the thread pointer.  Of a type by which compilers know that no
     * store to a word of the region changes it. */
    const struct hshm_inline_thread *thread_off;
};

/** The offset, for every process, of an address in the heap.  NULL gives HSHM_OFF_NULL.  Unchecked; signal-safe. */
static inline hshm_off
hshm_to_off(const hshm_allocator *allocator, const void *addr)
{
    const struct hshm_allocator_base *view = (const struct hshm_allocator_base *)(const void *)allocator;
    return addr == NULL ? HSHM_OFF_NULL : (hshm_off)((uintptr_t)addr - (uintptr_t)view->base);
}

/** The address, in this process, of an offset.  HSHM_OFF_NULL gives NULL.  Unchecked (hshm_resolve checks); signal-safe. */
static inline void *
hshm_to_addr(const hshm_allocator *allocator, hshm_off off)
{
    const struct hshm_allocator_base *view = (const struct hshm_allocator_base *)(const void *)allocator;
    return off == HSHM_OFF_NULL ? NULL : (void *)((uintptr_t)view->base + (uintptr_t)off);
}

#ifdef __cplusplus
}
#endif

#endif
