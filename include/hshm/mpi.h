/*
 * mpi.h - a heap on every node of an MPI job, set up by one call, and pointers that reach from node to node.
 *
 * A library of its own, libhshm-mpi (pkg-config hshm-mpi, CMake hshm::hshm_mpi), over libhshm's public calls.
 *
 *     hshm_mpi *mpi;
 *     hshm_mpi_options options = HSHM_MPI_OPTIONS_INIT;
 *     options.size = 1 << 30;
 *     if (hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi) != HSHM_OK)      // the same answer on every rank
 *         fprintf(stderr, "%s\n", hshm_last_error());                     // and the same sentence
 *     hshm_allocator *heap = hshm_mpi_allocator(mpi);                     // shared by the ranks of this node
 *     hshm_gptr there;
 *     hshm_mpi_alloc(mpi, 1, 4096, &there);                               // a block on node 1, by whoever
 *     hshm_mpi_put(mpi, there, bytes, 4096);
 *     hshm_mpi_fence(mpi);                                                // collective: all that was put is there
 *     ...
 *     hshm_mpi_close(&mpi);                                               // collective
 *
 * A node is a set of ranks of one host, as MPI sees it, that see the same /dev/shm (and gave the same options.group): two
 * containers of one machine are two nodes, also with one /dev/shm if they have host names of their own (MPI takes them for
 * two hosts then).  Nodes are numbered from 0, in the order of their lowest ranks; that rank is the node's leader, creates its
 * heap, and does for other nodes what only the owner of a heap can do: allocate, free, atomic operations, and with
 * HSHM_MPI_MESSAGES moving the bytes, too.
 *
 * Who must call what, when
 *   Ranks of other nodes are served by a node's leader, while it is in a call of this header, or all the time by a helper
 *   thread (see hshm_mpi_options.progress).  Without the thread, leaders that compute for long call hshm_mpi_progress()
 *   now and then, and wait in hshm_mpi_fence() rather than in MPI_Barrier(): a rank that waits in MPI itself serves nobody,
 *   and whoever needs it waits, for ever if that is who it waits for.
 *
 * Threads: with MPI_THREAD_MULTIPLE every call but open, close and fence is safe from several threads at once; with less,
 *   calls here are made by the thread, or one at a time, as for MPI's own.
 * Signals: none is async-signal-safe.  Fork: a child has none of this; it may use the node's heap as any forked child.
 * MPI errors: this library works on communicators of its own, which return errors; they come back as HSHM_E_SYSTEM.  After one,
 *   what MPI promises is nothing, so end the job.
 * Death: MPI ends the job when a rank dies.  Of a heap without a name (the default) nothing is left on any node, whatever
 *   was killed when.  docs/mpi.md has the promises in full.
 */
#ifndef HSHM_MPI_H
#define HSHM_MPI_H

#include <hshm/allocator.h>
#include <hshm/backend.h>
#include <hshm/manager.h>
#include <hshm/status.h>
#include <hshm/types.h>
#include <mpi.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A job's heaps as this rank sees them. */
typedef struct hshm_mpi hshm_mpi;

/**
 * A pointer that means the same on every rank of the job; may be stored in heaps and sent in messages.  Null when off is
 * HSHM_OFF_NULL.  `generation` tells this heap from any that was there before or comes after: a pointer that outlived its
 * heap is refused, never followed.
 */
typedef struct hshm_gptr {
    uint32_t node;
    uint32_t generation;
    hshm_off off;
} hshm_gptr;

/* clang-format off */
#ifdef __cplusplus
#define HSHM_GPTR_NULL (hshm_gptr{ 0, 0, HSHM_OFF_NULL })
#else
#define HSHM_GPTR_NULL ((hshm_gptr){ 0, 0, HSHM_OFF_NULL })
#endif
/* clang-format on */

/**
 * What open does with heaps of that name that are there already.  What was replaced on one node is gone, also if open then
 * fails on another; what could not be recovered stays.
 */
typedef enum hshm_mpi_reuse {
    HSHM_MPI_NEW = 0,          /**< the name must be free on each node, else HSHM_E_EXISTS                       */
    HSHM_MPI_REPLACE_DEAD = 1, /**< a leftover that nobody lives in is replaced; else HSHM_E_BUSY                */
    HSHM_MPI_RECOVER = 2 /**< a heap that nobody lives in is recovered and used, its blocks included; where there is
                                    none, one is created; where somebody lives in it: HSHM_E_BUSY                 */
} hshm_mpi_reuse;

/** Who serves other nodes' requests in a leader. */
typedef enum hshm_mpi_progress_by {
    HSHM_MPI_PROGRESS_AUTO = 0,  /**< a helper thread if MPI was started with MPI_THREAD_MULTIPLE, else calls      */
    HSHM_MPI_PROGRESS_CALLS = 1, /**< calls of this header only: no thread, the shortest way                       */
    HSHM_MPI_PROGRESS_THREAD =
        2 /**< a helper thread, or HSHM_E_NOTSUP.  It looks every millisecond at least; while requests
                                      come it looks all the time                                                  */
} hshm_mpi_progress_by;

/** How bytes travel between nodes. */
typedef enum hshm_mpi_engine {
    HSHM_MPI_MESSAGES = 0, /**< messages to the leader, which MPI moves straight between heap and buffer            */
    HSHM_MPI_WINDOW = 1    /**< an MPI window over each heap, MPI_Rget and MPI_Rput: on networks that reach into another
                                node's memory the leader has no part in it.  A window cannot grow, and some networks
                                pin all of it.  On others a put ends when MPI in the leader has taken part, and
                                until then the rank that puts, a leader too, serves nobody                        */
} hshm_mpi_engine;

/**
 * Fill in a new heap's custom header, before any other rank can see it.  Runs on the leader of each node on which a heap
 * is created (not where one is recovered).  Anything but HSHM_OK makes open fail so on every rank; leave a sentence by
 * hshm_set_last_error().
 */
typedef hshm_status (*hshm_mpi_init_fn)(hshm_allocator *heap, void *arg);

/** The shortest options.chunk. */
enum { HSHM_MPI_CHUNK_MIN = 4096 };

/** How hshm_mpi_open() works; start from HSHM_MPI_OPTIONS_INIT.  NULL means just that. */
typedef struct hshm_mpi_options {
    size_t struct_size;            /**< sizeof(hshm_mpi_options), so that the struct can grow                      */
    size_t size;                   /**< bytes of each node's region, its tables included; 0 = 64 MiB               */
    hshm_allocator_kind allocator; /**< 0 = HSHM_ALLOCATOR_SCALABLE_PAGE.  MALLOC is HSHM_E_NOTSUP: not shared      */
    size_t custom_header_size;     /**< as for hshm_allocator_create()                                             */
    hshm_mpi_init_fn init;         /**< fills in the custom header; NULL: it stays zero                            */
    void *init_arg;                /**< passed to init; may differ between ranks, and so may init                  */
    const char *name;              /**< NULL: no name, nothing can be left behind.  Else the name on every node, as for
                                        hshm_backend_create() (of a group but 0: with ".<group>" behind it)           */
    hshm_mpi_reuse reuse;          /**< with a name: what to do with one that is there                             */
    bool keep;                     /**< with a name: it stays after close, for the next job                        */
    int group;                     /**< ranks of a node that give another number have another heap, and count as another
                                        node: one heap for each socket, say.  0 or more; may differ between ranks     */
    hshm_mpi_progress_by progress; /**< who serves other nodes                                                     */
    hshm_mpi_engine engine;        /**< how bytes travel                                                           */
    size_t chunk;                  /**< most bytes that one MPI call moves, HSHM_MPI_CHUNK_MIN to INT_MAX; 0 = 1 GiB  */
    hshm_backend_kind backend_kind; /**< 0 = HSHM_BACKEND_POSIX_SHM_MMAP; or POSIX_MMAP, whose name is a path on a disk
                                        of each node's own                                                            */
    const hshm_backend_options *backend; /**< mode, commit, slots; NULL = defaults.  replace, nameless: see above     */
    const hshm_allocator_options *allocator_options; /**< NULL = defaults                                         */
    const hshm_attach_options
        *attach;                /**< read_only, accept_dirty of this rank; a leader is never read-only.  May differ
                                        between ranks                                                                 */
    hshm_manager *manager;      /**< which list the heap goes into; NULL = one of its own, so that several jobs'
                                        heaps and yours never want the same id (here NULL is not the default manager).
                                        May differ between ranks                                                      */
    hshm_backend_id backend_id; /**< ids in that manager, written into the regions                             */
    hshm_allocator_id allocator_id;
} hshm_mpi_options;

/* clang-format off */
#define HSHM_MPI_OPTIONS_INIT \
    { sizeof(hshm_mpi_options), 0, HSHM_ALLOCATOR_SCALABLE_PAGE, 0, NULL, NULL, NULL, HSHM_MPI_NEW, false, 0, \
      HSHM_MPI_PROGRESS_AUTO, HSHM_MPI_MESSAGES, 0, HSHM_BACKEND_POSIX_SHM_MMAP, NULL, NULL, NULL, NULL, 0, { 1, 0 } }
/* clang-format on */

/**
 * Set up a heap on each node of a communicator.  Collective over `comm`: all its ranks call it, with the same options but
 * where a member says "may differ".
 *
 * Either all ranks succeed, or all fail, with the same status and the sentence of a rank that failed ("rank 5 on h3: ..."),
 * and nothing of what it made is left on any node.  (A window that MPI could make on some ranks only cannot be freed before
 * MPI_Finalize().)  The number of MPI collectives in it does not depend on the number of ranks.  The
 * communicator is only duplicated, and may be freed afterwards.
 *
 * Several may be open at a time, also over the same ranks; each is a heap of its own on every node.
 *
 * @param comm     an intracommunicator
 * @param options  NULL = defaults
 * @return HSHM_OK, or what hshm_backend_create(), _attach(), hshm_allocator_create() or options.init answered on a rank, or
 *         HSHM_E_INVAL    comm is null or an intercommunicator, MPI is not initialized (these on this rank alone); ret_mpi is NULL,
 *                         an option is wrong (struct_size of a struct it points to included), or not the same on each rank
 *         HSHM_E_VERSION  ranks run different versions of hshm
 *         HSHM_E_BUSY     reuse: somebody lives in the heap of that name
 *         HSHM_E_KIND     RECOVER: the heap of that name has another allocator, size or custom header
 *         HSHM_E_PERM     a rank may not open its leader's region: it runs as another user (see options.backend->mode), or
 *                         as a program whose /proc/PID/fd others may not open
 *         HSHM_E_NOTSUP   HSHM_ALLOCATOR_MALLOC, PROGRESS_THREAD without MPI_THREAD_MULTIPLE, or MPI cannot make windows
 *                         (the sentence names what to change)
 *         HSHM_E_SYSTEM   a call to MPI failed
 */
HSHM_API hshm_status hshm_mpi_open(MPI_Comm comm, const hshm_mpi_options *options, hshm_mpi **ret_mpi);

/**
 * Leave the heaps.  Collective.  Finishes what this rank has under way, waits until every rank is here (serving them
 * meanwhile), detaches, and frees communicators and windows.  A heap that has no name, or was not to be kept, is gone then.
 * Before MPI_Finalize().
 *
 * @param inout_mpi  set to NULL in any case.  A null handle is HSHM_E_INVAL on this rank alone
 * @return HSHM_OK, or on all ranks the same: what removing the name answered on a node, or HSHM_E_SYSTEM (MPI)
 */
HSHM_API hshm_status hshm_mpi_close(hshm_mpi **inout_mpi);

/** This node's heap, for all calls of allocator.h.  It ends with close; do not unregister it. */
HSHM_API hshm_allocator *hshm_mpi_allocator(hshm_mpi *mpi);

/** The manager that the heap is registered in. */
HSHM_API hshm_manager *hshm_mpi_manager(hshm_mpi *mpi);

/** This rank's node, 0 .. hshm_mpi_nodes() - 1. */
HSHM_API uint32_t hshm_mpi_node(const hshm_mpi *mpi);

/** How many nodes there are. */
HSHM_API uint32_t hshm_mpi_nodes(const hshm_mpi *mpi);

/** The rank, in the communicator of open, that leads a node; -1 if there is no such node. */
HSHM_API int hshm_mpi_leader(const hshm_mpi *mpi, uint32_t node);

/** The ranks of this node, the leader first.  The library's own: use it, do not free it. */
HSHM_API MPI_Comm hshm_mpi_node_comm(const hshm_mpi *mpi);

/** Was this node's heap there before (HSHM_MPI_RECOVER)? */
HSHM_API bool hshm_mpi_recovered(const hshm_mpi *mpi);

/* ---- for those who set up by hand ---- */

/**
 * All ranks of `comm` learn whether one of them failed.  Collective.  Pass what your own steps answered, in the thread in which
 * they failed; never return between two collectives without it.
 *
 * @return HSHM_OK if all passed that; else on each rank the same status, and the sentence of a rank that passed it.
 *         HSHM_E_SYSTEM  MPI failed
 */
HSHM_API hshm_status hshm_mpi_agree(MPI_Comm comm, hshm_status status);

/**
 * A name for shared memory that no other job has, the same on each rank: "<prefix>-<16 digits>".  Collective.
 *
 * @param prefix    letters, digits, '.', '_' and '-', up to 64 bytes; rank 0's counts
 * @param ret_name  at least HSHM_NAME_MAX + 1 bytes
 * @return HSHM_OK, or on each rank the same: HSHM_E_INVAL (prefix), HSHM_E_SYSTEM (MPI)
 */
HSHM_API hshm_status hshm_mpi_unique_name(MPI_Comm comm, const char *prefix, char *ret_name);

/* ---- global pointers ---- */

static inline bool
hshm_gptr_is_null(hshm_gptr pointer)
{
    return pointer.off == HSHM_OFF_NULL;
}

/** A pointer so many bytes further on. */
static inline hshm_gptr
hshm_gptr_add(hshm_gptr pointer, int64_t bytes)
{
    pointer.off += (uint64_t)bytes;
    return pointer;
}

/**
 * The global form of an address in this node's heap (its custom header included).  NULL gives the null pointer, and so does an
 * address that is not in the heap (HSHM_E_NOTFOUND in hshm_last_status()).
 */
HSHM_API hshm_gptr hshm_mpi_to_global(hshm_mpi *mpi, const void *addr);

/**
 * The address of a global pointer if it leads into this node's heap: for plain loads and stores.  NULL for the null pointer, for
 * another node's (HSHM_E_NOTSUP in hshm_last_status()), and for what leads nowhere (HSHM_E_INVAL, HSHM_E_NOTFOUND).
 */
HSHM_API void *hshm_mpi_to_local(hshm_mpi *mpi, hshm_gptr pointer);

/** Node `node`'s custom header; the null pointer if the heaps have none, or there is no such node. */
HSHM_API hshm_gptr hshm_mpi_header(const hshm_mpi *mpi, uint32_t node);

/**
 * Allocate on a node.  On another node its leader does it.  The block belongs to that node's heap.
 *
 * @return HSHM_OK, or: HSHM_E_INVAL (no such node, ret_pointer is NULL), or what hshm_allocate() answered there, such as
 *         HSHM_E_NOMEM; HSHM_E_SYSTEM (MPI)
 */
HSHM_API hshm_status hshm_mpi_alloc(hshm_mpi *mpi, uint32_t node, size_t size, hshm_gptr *ret_pointer);

/**
 * Free a block of any node, whoever allocated it and how.  The null pointer is fine.
 *
 * @return HSHM_OK, or: HSHM_E_BADFREE, HSHM_E_NOTFOUND (of a heap that is gone), HSHM_E_INVAL, HSHM_E_SYSTEM (MPI)
 */
HSHM_API hshm_status hshm_mpi_free(hshm_mpi *mpi, hshm_gptr pointer);

/*
 * Moving bytes.  For all calls below:
 *
 * A range must lie in the heap's data or custom header, not in the library's tables.  On this node it is a copy between
 * addresses.  A get that has returned has the bytes; a put that has returned (or whose request was waited for) has stored
 * them in the other node's memory, where its ranks see them once told so by any means of synchronization.  Neither is atomic.  Of a get
 * that failed the buffer's content is undefined; of a single put of up to 3952 bytes by HSHM_MPI_MESSAGES that
 * failed nothing is stored; of a longer one, of a vector, and of a put by HSHM_MPI_WINDOW an unknown part.
 *
 * @return HSHM_OK, or:
 *         HSHM_E_INVAL     no such node, a range outside the heap, a NULL buffer, or the null pointer
 *         HSHM_E_NOTFOUND  the pointer's heap is gone: another generation is there now
 *         HSHM_E_PERM      the range is on this node, to which this rank is attached read-only (a leader never is)
 *         HSHM_E_NOSPC     no memory for the request
 *         HSHM_E_SYSTEM    MPI failed
 */

/** Copy `size` bytes from another node (or this one) into `buffer`.  Waits.  0 bytes are fine. */
HSHM_API hshm_status hshm_mpi_get(hshm_mpi *mpi, hshm_gptr from, void *buffer, size_t size);

/** Copy `size` bytes to another node (or this one).  Waits. */
HSHM_API hshm_status hshm_mpi_put(hshm_mpi *mpi, hshm_gptr to, const void *buffer, size_t size);

/** One piece of a transfer. */
typedef struct hshm_mpi_piece {
    hshm_gptr remote;
    void *local; /**< hshm_mpi_putv() only reads it */
    size_t size;
} hshm_mpi_piece;

/** Many pieces, also of several nodes, in one call; small ones of one node that follow each other share messages.  Waits. */
HSHM_API hshm_status hshm_mpi_getv(hshm_mpi *mpi, const hshm_mpi_piece *pieces, size_t count);
HSHM_API hshm_status hshm_mpi_putv(hshm_mpi *mpi, const hshm_mpi_piece *pieces, size_t count);

/** A transfer under way.  NULL = none, like MPI_REQUEST_NULL. */
typedef struct hshm_mpi_transfer *hshm_mpi_request;

/**
 * The same without waiting, as MPI_Rget() and MPI_Rput().  Buffers (but not the array of pieces) must stay, and of a put stay
 * as they are, until hshm_mpi_wait() or _test() says that it is done.  Every request must be waited for or tested until it is done;
 * it goes on while this rank is in calls of this header.
 */
HSHM_API hshm_status hshm_mpi_rget(hshm_mpi *mpi, hshm_gptr from, void *buffer, size_t size,
                                   hshm_mpi_request *ret_request);
HSHM_API hshm_status hshm_mpi_rput(hshm_mpi *mpi, hshm_gptr to, const void *buffer, size_t size,
                                   hshm_mpi_request *ret_request);
HSHM_API hshm_status hshm_mpi_rgetv(hshm_mpi *mpi, const hshm_mpi_piece *pieces, size_t count,
                                    hshm_mpi_request *ret_request);
HSHM_API hshm_status hshm_mpi_rputv(hshm_mpi *mpi, const hshm_mpi_piece *pieces, size_t count,
                                    hshm_mpi_request *ret_request);

/**
 * Wait for a transfer, and end its request.  @return how it ended; HSHM_OK for a NULL request; HSHM_E_SYSTEM: MPI failed, perhaps
 * before the transfer was done (its buffers are MPI's then until MPI_Finalize())
 */
HSHM_API hshm_status hshm_mpi_wait(hshm_mpi *mpi, hshm_mpi_request *inout_request);

/**
 * Look whether a transfer is done, and if so end its request.
 * @param ret_done  true: it is done, and the status is how it ended.  false: the status is HSHM_OK, or HSHM_E_SYSTEM (MPI), and
 *                  the request is still there
 */
HSHM_API hshm_status hshm_mpi_test(hshm_mpi *mpi, hshm_mpi_request *inout_request, bool *ret_done);

/**
 * Add to a 64-bit word of any node, atomically; done by the node's own processors, so that it mixes with the C atomics of
 * that node's ranks on the same word.  Sequentially consistent.
 *
 * @param at       8-byte aligned
 * @param ret_old  what was there; may be NULL
 * @return as for hshm_mpi_get(); HSHM_E_INVAL also for an address that is not aligned
 */
HSHM_API hshm_status hshm_mpi_fetch_add(hshm_mpi *mpi, hshm_gptr at, uint64_t add, uint64_t *ret_old);

/** Store `desired` if `expected` is there; likewise.  It was stored if *ret_old is `expected`. */
HSHM_API hshm_status hshm_mpi_cas(hshm_mpi *mpi, hshm_gptr at, uint64_t expected, uint64_t desired, uint64_t *ret_old);

/** For hshm_mpi_flush(): every node. */
#define HSHM_MPI_ALL_NODES UINT32_MAX

/**
 * Wait until all transfers that this rank has under way with a node are done there.  Their requests are still to be waited for (which
 * is then a look).  @return HSHM_OK, or HSHM_E_INVAL (no such node), HSHM_E_SYSTEM (MPI).  How each ended, its request tells.
 */
HSHM_API hshm_status hshm_mpi_flush(hshm_mpi *mpi, uint32_t node);

/**
 * Flush, and wait until every rank has come here, serving other nodes meanwhile.  Collective.  What any rank had put before is there
 * for all of them afterwards.  @return HSHM_OK or HSHM_E_SYSTEM (MPI)
 */
HSHM_API hshm_status hshm_mpi_fence(hshm_mpi *mpi);

/**
 * Do what is there to do: serve other nodes (in a leader), go on with this rank's transfers.  Never waits.
 * @return HSHM_OK or HSHM_E_SYSTEM (MPI)
 */
HSHM_API hshm_status hshm_mpi_progress(hshm_mpi *mpi);

#ifdef __cplusplus
}
#endif

#endif
