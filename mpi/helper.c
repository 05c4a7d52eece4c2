/*
 * helper.c - the thread that serves other nodes while the leader's own threads compute.
 *
 * MPI has no wait that sleeps and still serves, so it looks: all the time while requests come, then ever less often, every
 * millisecond in the end.  That costs a leader that nobody asks some thousandth of a processor.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "handle.h"

enum { LOOKS_AFTER_WORK = 200, NAP_MIN_NS = 20000, NAP_MAX_NS = 1000000 };

static void *
serve_others(void *arg)
{
    hshm_mpi *mpi = arg;
    unsigned idle = 0;
    long nap_ns = NAP_MIN_NS;
    while (!atomic_load_explicit(&mpi->helper_ends, memory_order_relaxed)) {
        bool busy = false;
        (void)pthread_mutex_lock(&mpi->lock);
        /* What fails here fails in the leader's own next call, too. */
        (void)engine_step(mpi, &busy);
        (void)pthread_mutex_unlock(&mpi->lock);
        idle = busy ? 0 : idle + 1;
        if (idle < LOOKS_AFTER_WORK) {
            nap_ns = NAP_MIN_NS;
            (void)sched_yield();
            continue;
        }
        (void)nanosleep(&(struct timespec){ 0, nap_ns }, NULL);
        nap_ns = nap_ns * 2 < NAP_MAX_NS ? nap_ns * 2 : NAP_MAX_NS;
    }
    return NULL;
}

/* Signals are for the program's own threads. */
static int
start_without_signals(hshm_mpi *mpi)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&mpi->helper, NULL, serve_others, mpi);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

hshm_status
helper_start(hshm_mpi *mpi)
{
    int provided = MPI_THREAD_SINGLE;
    (void)MPI_Query_thread(&provided);
    const bool possible = provided == MPI_THREAD_MULTIPLE;
    if (mpi->options.progress == HSHM_MPI_PROGRESS_THREAD && !possible)
        return mpi_fail(HSHM_E_NOTSUP,
                        "HSHM_MPI_PROGRESS_THREAD needs MPI_Init_thread(..., MPI_THREAD_MULTIPLE, ...), and MPI "
                        "to provide it; or ask for HSHM_MPI_PROGRESS_CALLS");
    if (mpi->options.progress == HSHM_MPI_PROGRESS_CALLS || !possible || mpi->posted == NULL)
        return HSHM_OK;
    atomic_store(&mpi->helper_ends, false);
    const int error = start_without_signals(mpi);
    if (error != 0)
        return mpi_fail(HSHM_E_NOSPC, "cannot start the thread that serves other nodes: %s", strerror(error));
    mpi->has_helper = true;
    return HSHM_OK;
}

void
helper_stop(hshm_mpi *mpi)
{
    if (!mpi->has_helper)
        return;
    atomic_store(&mpi->helper_ends, true);
    (void)pthread_join(mpi->helper, NULL);
    mpi->has_helper = false;
}
