/*
 * window.c - the other engine: MPI windows over the nodes' heaps.
 *
 * One window over all ranks, in which leaders show their whole region and the others nothing; a passive epoch for as long as it
 * is open.  It cannot grow, and need not: neither can a region.  Atomic operations do not go through it: MPI's and the
 * processor's must not meet on a word, so the owner does those, as with messages.
 */
#include "window.h"

#include <inttypes.h>

static hshm_status
cannot_make(int answer)
{
    char words[MPI_MAX_ERROR_STRING + 1] = "";
    int length = 0;
    (void)MPI_Error_string(answer, words, &length);
    return mpi_fail(
        HSHM_E_NOTSUP,
        "MPI cannot make a window here: %.200s; OpenMPI over TCP needs `--mca osc pt2pt` (and less than "
        "MPI_THREAD_MULTIPLE) or `--mca pml ucx --mca osc ucx`; or leave options.engine at HSHM_MPI_MESSAGES",
        words);
}

hshm_status
window_open(hshm_mpi *mpi)
{
    /* On a single node nothing would go through it (and OpenMPI makes none over a single rank). */
    if (mpi->options.engine != HSHM_MPI_WINDOW || mpi->node_count < 2)
        return HSHM_OK;
    const bool leads = mpi->node_rank == 0;
    MPI_Info info = MPI_INFO_NULL;
    (void)MPI_Info_create(&info);
    (void)MPI_Info_set(info, "same_disp_unit", "true");
    const int answer = MPI_Win_create(leads ? mpi->base : NULL, leads ? (MPI_Aint)mpi->region_size : 0, 1, info,
                                      mpi->world, &mpi->window);
    (void)MPI_Info_free(&info);
    if (answer != MPI_SUCCESS) {
        mpi->window = MPI_WIN_NULL;
        return cannot_make(answer);
    }
    (void)MPI_Win_set_errhandler(mpi->window, MPI_ERRORS_RETURN);
    const hshm_status status = mpi_check(MPI_Win_lock_all(MPI_MODE_NOCHECK, mpi->window), "MPI_Win_lock_all");
    mpi->window_locked = status == HSHM_OK;
    return status;
}

void
window_close(hshm_mpi *mpi)
{
    if (mpi->window == MPI_WIN_NULL)
        return;
    if (mpi->window_locked)
        (void)MPI_Win_unlock_all(mpi->window);
    (void)MPI_Win_free(&mpi->window);
}

void
window_abandon(hshm_mpi *mpi)
{
    if (mpi->options.engine != HSHM_MPI_WINDOW)
        return;
    struct kept_error kept;
    error_keep(&kept);
    int mine = mpi->window != MPI_WIN_NULL;
    int all = 0;
    (void)MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, mpi->world);
    error_restore(&kept);
    if (mine && !all) {
        if (mpi->window_locked)
            (void)MPI_Win_unlock_all(mpi->window);
        mpi->window = MPI_WIN_NULL;
    }
}

hshm_status
window_move(hshm_mpi *mpi, struct op *op, bool get, hshm_off off, void *local, size_t size)
{
    const int leader = mpi->nodes[op->node].leader;
    const int count = (int)size;
    op->by_window = true;
    MPI_Request request = MPI_REQUEST_NULL;
    const int answer =
        get ? MPI_Rget(local, count, MPI_BYTE, leader, (MPI_Aint)off, count, MPI_BYTE, mpi->window, &request)
            : MPI_Rput(local, count, MPI_BYTE, leader, (MPI_Aint)off, count, MPI_BYTE, mpi->window, &request);
    const hshm_status status = mpi_check(answer, get ? "MPI_Rget" : "MPI_Rput");
    if (status == HSHM_OK)
        op_watch(mpi, op, request);
    return status;
}

/* MPI_Rput's request says no more than that the buffer may be used again. */
hshm_status
window_flush(hshm_mpi *mpi, uint32_t node)
{
    return mpi_check(MPI_Win_flush(mpi->nodes[node].leader, mpi->window), "MPI_Win_flush");
}
