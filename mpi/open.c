/*
 * open.c - the phases of setting up and of leaving.
 *
 *     phase                 collectives                                     can fail on a rank by
 *     0 a communicator      Comm_dup                                        -
 *     1 one plan            Bcast, Allreduce                                options, versions, memory
 *     2 nodes               Comm_split_type, Allgather of a machine,        (MPI)
 *                           Comm_split, Comm_free, Comm_split
 *     3 the heap            Bcast in the node, Allreduce                    memory, permission, names
 *     4 all nodes' heaps    Allgather of leaders, Bcast in the node         -
 *     5 the engine          (Win_create), Allreduce; after a failure        memory, threads, windows
 *                           (with windows) one more
 *
 * No more, whatever the number of ranks.  Each Allreduce is an agreement: after it all go on, or all undo.
 */
#include <stdlib.h>

#include "handle.h"
#include "window.h"

static void
free_comm(MPI_Comm *comm)
{
    if (*comm != MPI_COMM_NULL)
        (void)MPI_Comm_free(comm);
}

/* Everything that is there, in the order of leaving.  Collective over those who have a communicator. */
static hshm_status
undo(hshm_mpi *mpi, bool kept)
{
    helper_stop(mpi);
    owner_stop(mpi);
    transfers_end(mpi);
    window_close(mpi);
    const hshm_status status = heap_leave(mpi, kept);
    ops_stop(mpi);
    return status;
}

static void
free_handle(hshm_mpi *mpi)
{
    free_comm(&mpi->leaders);
    free_comm(&mpi->node_comm);
    free_comm(&mpi->world);
    if (mpi->has_lock)
        (void)pthread_mutex_destroy(&mpi->lock);
    free(mpi->nodes);
    free(mpi->sights);
}

/* ---- open ---- */

/* What can be told before there is a communicator to agree on. */
static hshm_status
check_call(MPI_Comm comm)
{
    int initialized = 0;
    int finalized = 0;
    int inter = 0;
    (void)MPI_Initialized(&initialized);
    (void)MPI_Finalized(&finalized);
    if (!initialized || finalized)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_open: MPI is %s",
                        finalized ? "finalized" : "not initialized; call MPI_Init()");
    if (comm == MPI_COMM_NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_open: comm is MPI_COMM_NULL");
    (void)MPI_Comm_test_inter(comm, &inter);
    if (inter)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_open: comm is an intercommunicator; merge it (MPI_Intercomm_merge)");
    return HSHM_OK;
}

/* Phases 2 to 4.  A status that was not agreed upon is MPI's. */
static hshm_status
set_up_heaps(hshm_mpi *mpi)
{
    hshm_status status = nodes_split(mpi);
    if (status != HSHM_OK)
        return status;
    status = hshm_mpi_agree(mpi->world, heap_set_up(mpi));
    heap_hide(mpi);
    return status == HSHM_OK ? nodes_table(mpi) : status;
}

static hshm_status
start_engine(hshm_mpi *mpi)
{
    const int error = pthread_mutex_init(&mpi->lock, NULL);
    hshm_status status = error == 0 ? HSHM_OK : mpi_fail(HSHM_E_NOSPC, "no lock for hshm_mpi");
    mpi->has_lock = error == 0;
    const hshm_status window = window_open(mpi); /* collective: whatever else */
    if (status == HSHM_OK)
        status = window;
    if (status == HSHM_OK)
        status = ops_start(mpi);
    if (status == HSHM_OK)
        status = owner_start(mpi);
    if (status == HSHM_OK)
        status = helper_start(mpi);
    status = hshm_mpi_agree(mpi->world, status);
    if (status != HSHM_OK)
        window_abandon(mpi);
    return status;
}

/* Phases 1 to 5 on a handle with a communicator. */
static hshm_status
set_up(hshm_mpi *mpi, const hshm_mpi_options *options, hshm_status status)
{
    if (status == HSHM_OK)
        status = plan_options(mpi, options);
    if (status == HSHM_OK)
        status = nodes_prepare(mpi);
    status = plan_agree(mpi, status);
    if (status == HSHM_OK)
        status = set_up_heaps(mpi);
    if (status == HSHM_OK)
        status = start_engine(mpi);
    return status;
}

hshm_status
hshm_mpi_open(MPI_Comm comm, const hshm_mpi_options *options, hshm_mpi **ret_mpi)
{
    hshm_status status = check_call(comm);
    if (status != HSHM_OK)
        return status;
    MPI_Comm world = MPI_COMM_NULL;
    status = mpi_check(MPI_Comm_dup(comm, &world), "MPI_Comm_dup");
    if (status != HSHM_OK)
        return status;
    (void)MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
    /* Without memory for a handle this rank still has to tell the others: one on the stack does for that. */
    hshm_mpi spare = { .options = HSHM_MPI_OPTIONS_INIT };
    hshm_mpi *mpi = calloc(1, sizeof *mpi);
    if (mpi == NULL)
        status = mpi_fail(HSHM_E_NOSPC, "no memory for a handle of hshm_mpi");
    else if (ret_mpi == NULL)
        status = mpi_fail(HSHM_E_INVAL, "hshm_mpi_open: ret_mpi is NULL");
    hshm_mpi *handle = mpi != NULL ? mpi : &spare;
    handle->world = world;
    handle->node_comm = handle->leaders = MPI_COMM_NULL;
    handle->window = MPI_WIN_NULL;
    (void)MPI_Comm_rank(world, &handle->rank);
    status = set_up(handle, options, status);
    if (status == HSHM_OK && ret_mpi != NULL) { /* the second is agreed upon in the first */
        *ret_mpi = mpi;
        return HSHM_OK;
    }
    struct kept_error kept; /* the failure, not what undoing says */
    error_keep(&kept);
    (void)undo(handle, handle->recovered);
    free_handle(handle);
    free(mpi);
    error_restore(&kept);
    return status;
}

/* ---- close ---- */

hshm_status
hshm_mpi_close(hshm_mpi **inout_mpi)
{
    if (inout_mpi == NULL || *inout_mpi == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_close: the handle is NULL");
    hshm_mpi *mpi = *inout_mpi;
    *inout_mpi = NULL;
    /* Nobody asks for anything after this. */
    hshm_status status = hshm_mpi_fence(mpi);
    helper_stop(mpi);
    owner_stop(mpi);
    window_close(mpi);
    /* The leader leaves last, so that it finds nobody in what it removes. */
    if (mpi->node_rank == 0 && status == HSHM_OK)
        status = mpi_check(MPI_Barrier(mpi->node_comm), "MPI_Barrier");
    const hshm_status left = undo(mpi, mpi->options.keep);
    if (status == HSHM_OK)
        status = left;
    if (mpi->node_rank != 0) {
        const hshm_status waited = mpi_check(MPI_Barrier(mpi->node_comm), "MPI_Barrier");
        status = status == HSHM_OK ? waited : status;
    }
    status = hshm_mpi_agree(mpi->world, status);
    free_handle(mpi);
    free(mpi);
    return status;
}

/* ---- questions ---- */

hshm_allocator *
hshm_mpi_allocator(hshm_mpi *mpi)
{
    return mpi->heap;
}

hshm_manager *
hshm_mpi_manager(hshm_mpi *mpi)
{
    return mpi->manager;
}

uint32_t
hshm_mpi_node(const hshm_mpi *mpi)
{
    return mpi->node;
}

uint32_t
hshm_mpi_nodes(const hshm_mpi *mpi)
{
    return mpi->node_count;
}

int
hshm_mpi_leader(const hshm_mpi *mpi, uint32_t node)
{
    return node < mpi->node_count ? (int)mpi->nodes[node].leader : -1;
}

MPI_Comm
hshm_mpi_node_comm(const hshm_mpi *mpi)
{
    return mpi->node_comm;
}

bool
hshm_mpi_recovered(const hshm_mpi *mpi)
{
    return mpi->recovered;
}
