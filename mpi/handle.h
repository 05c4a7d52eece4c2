/*
 * handle.h - what a rank keeps of an open job, and what the files of this library ask of each other.
 *
 *     open.c      the phases of open and close            plan.c      options, checked and compared
 *     nodes.c     who shares memory with whom             heap.c      the node's heap: create, attach, leave
 *     agree.c     one answer for all ranks                owner.c     the leader: serve other nodes
 *     ops.c       one exchange of messages                transfer.c  get, put, pieces, requests
 *     remote.c    allocate, free, atomics                 window.c    the other engine, MPI windows
 *     helper.c    the thread that serves                  pointer.c   global pointers and addresses
 *
 * agree <- plan, nodes, heap <- open;  wire <- owner, ops <- transfer, remote <- open.
 *
 * Rule of open and close: no return between two collectives.  What fails is remembered in the handle, the steps that are
 * left do nothing, and the next agreement tells everyone.  (But if MPI itself fails: then nothing is promised any more.)
 *
 * Locking: `lock` guards everything from `ops` on, and every MPI call on these communicators between open and close.  With
 * messages no call that waits for another rank is made under it, so whoever holds it lets go within microseconds (or as long
 * as a copy of at most INLINE_MAX bytes, one of a piece on this node, an allocation, or a call to MPI that does not wait takes).
 * With a window, MPI_Win_flush() at the end of each put waits under it (window.h).
 */
#ifndef HSHM_MPI_HANDLE_H
#define HSHM_MPI_HANDLE_H

#include <hshm/mpi.h>
#include <pthread.h>
#include <stdatomic.h>

#include "wire.h"

struct op_table;
struct duty;

/* Local: what a rank sees of its machine.  Compared between ranks of one machine, during open. */
struct sight {
    char boot[40];
    uint64_t device;        /* of the file system with the heap  */
    uint64_t pid_namespace; /* 0 = unknown                       */
    uint32_t uid;
    int32_t group;
};

/* Local: one node, as every rank knows it. */
struct node {
    int32_t leader;      /* rank in `world`                        */
    uint32_t generation; /* of its heap: from its uuid, never 0    */
    uint64_t size;       /* of its region                          */
    uint64_t header_off; /* custom header; 0 = none                */
    uint64_t first_off;  /* before it are tables; 0 = unknown      */
};

enum {
    REQUESTS_POSTED = 8, /* receives that wait in a leader for requests           */
    OPS_MAX = 1024,      /* exchanges of one rank under way at once; fewer than TAG_BYTES - TAG_OPS */
    OPS_PER_TRANSFER = 16
};

struct hshm_mpi {
    /* Since the phases of open; read-only afterwards. */
    hshm_mpi_options options; /* with defaults filled in                                             */
    char name[HSHM_NAME_MAX + 1 + 4096];
    uint64_t job; /* random, the same on all ranks                                        */
    MPI_Comm world, node_comm, leaders;
    int rank, node_rank;
    uint32_t node;
    uint32_t node_count;
    struct node *nodes;
    struct sight *sights; /* during open                                                          */
    hshm_manager *manager;
    bool own_manager;
    hshm_backend_id backend_id; /* as they stand in the region */
    hshm_allocator_id allocator_id;
    bool has_backend;
    hshm_allocator *heap;
    unsigned char *base;
    uint64_t region_size;
    bool recovered;
    bool read_only;
    bool by_proc; /* this node's ranks reach each other's /proc: no name is needed          */
    int chunk;
    MPI_Win window; /* MPI_WIN_NULL with HSHM_MPI_MESSAGES                                    */
    bool window_locked;

    pthread_mutex_t lock;
    bool has_lock;
    pthread_t helper;
    bool has_helper;
    atomic_bool helper_ends;

    /* Asking: ops.c, transfer.c. */
    struct op_table *ops;
    struct hshm_mpi_transfer *transfers; /* under way, in no order */

    /* Serving, in a leader: owner.c. */
    struct posted *posted; /* REQUESTS_POSTED, in the order in which MPI fills them */
    unsigned next_posted;
    struct duty *duties; /* under way */
    struct duty *free_duties;
};

/* ---- agree.c ---- */

/* Leave a sentence behind (hshm_set_last_error) and return `status`. */
hshm_status mpi_fail(hshm_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * The caller's last failure, put aside while others' are dealt with: a call that succeeds leaves it alone, also if it served
 * a request that failed.
 */
struct kept_error {
    hshm_status status;
    char sentence[768];
};
void error_keep(struct kept_error *kept);
void error_restore(const struct kept_error *kept);

/* HSHM_OK, or HSHM_E_SYSTEM with MPI's words for what `call` answered. */
hshm_status mpi_check(int answer, const char *call);

/* Random bits that no other job draws. */
uint64_t random_word(void);

/* ---- plan.c ---- */

/* Fill mpi->options from what the caller gave.  The caller's rank alone. */
hshm_status plan_options(hshm_mpi *mpi, const hshm_mpi_options *options);

/* Is it the same on all ranks?  Collective; `status` is what this rank's steps so far answered, and is agreed upon. */
hshm_status plan_agree(hshm_mpi *mpi, hshm_status status);

/* ---- nodes.c ---- */

/* Memory for what follows, while a failure can still be told to all. */
hshm_status nodes_prepare(hshm_mpi *mpi);

/* Make node_comm and leaders.  Collective. */
hshm_status nodes_split(hshm_mpi *mpi);

/* Leaders: how many nodes, and which is ours.  Then, on all ranks: the table's memory. */
void nodes_count(hshm_mpi *mpi);
hshm_status nodes_allocate(hshm_mpi *mpi);

/* Tell everyone of all nodes' heaps.  Collective. */
hshm_status nodes_table(hshm_mpi *mpi);

/* ---- heap.c ---- */

/* Create on leaders, attach on the others.  Collective over the node; the answer is this rank's. */
hshm_status heap_set_up(hshm_mpi *mpi);

/* The name that was only needed to attach goes.  On leaders; harmless elsewhere. */
void heap_hide(hshm_mpi *mpi);

/* Leave it, as when open failed, or after everybody is done (`kept`: by options.keep). */
hshm_status heap_leave(hshm_mpi *mpi, bool kept);

/* ---- owner.c ---- */

hshm_status owner_start(hshm_mpi *mpi);
/* Under the lock: look for requests and go on with those under way.  *ret_busy: there was something to do. */
hshm_status owner_serve(hshm_mpi *mpi, bool *ret_busy);
/* After a fence: nobody asks any more. */
void owner_stop(hshm_mpi *mpi);

/* ---- ops.c ---- */

hshm_status ops_start(hshm_mpi *mpi);
void ops_stop(hshm_mpi *mpi);

/* ---- transfer.c ---- */

/* Under the lock: serve, and go on with all transfers. */
hshm_status engine_step(hshm_mpi *mpi, bool *ret_busy);
/* Between two looks, without the lock: let others run when it takes long.  `looks` starts at 0. */
void engine_pause(bool busy, unsigned *looks);
/* Forget transfers that nobody waited for.  After a flush. */
void transfers_end(hshm_mpi *mpi);

/* ---- helper.c ---- */

hshm_status helper_start(hshm_mpi *mpi);
void helper_stop(hshm_mpi *mpi);

/* ---- pointer.c ---- */

/* Does a range of this node's heap lie where its users may go? */
hshm_status pointer_check(hshm_mpi *mpi, hshm_off off, uint64_t size);

/* May this rank store into it, and is it a whole aligned word?  (*ret_word is it.) */
hshm_status pointer_check_writable(const hshm_mpi *mpi);
hshm_status pointer_word(hshm_mpi *mpi, hshm_off off, _Atomic uint64_t **ret_word);

/* Is it a node's, of this generation, and not beyond the region?  As far as any rank can tell. */
hshm_status pointer_check_remote(const hshm_mpi *mpi, hshm_gptr pointer, uint64_t size);

#endif
