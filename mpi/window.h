/*
 * window.h - the other engine: MPI windows over the nodes' heaps.
 */
#ifndef HSHM_MPI_WINDOW_H
#define HSHM_MPI_WINDOW_H

#include "ops.h"

/* Collective.  HSHM_E_NOTSUP, with what to change, where MPI cannot make one; on this rank. */
hshm_status window_open(hshm_mpi *mpi);
/* Collective; harmless without one. */
void window_close(hshm_mpi *mpi);

/* Under the lock: begin to move bytes between a buffer and op->node's heap. */
hshm_status window_move(hshm_mpi *mpi, struct op *op, bool get, hshm_off off, void *local, size_t size);
/* What was begun is done on this side; see that it is on the other. */
hshm_status window_complete(hshm_mpi *mpi, const struct op *op);

#endif
