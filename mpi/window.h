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
/* Collective, after open failed: does every rank have one?  If not, nobody can free it, and it is left to MPI_Finalize(). */
void window_abandon(hshm_mpi *mpi);

/* Under the lock: begin to move bytes between a buffer and op->node's heap. */
hshm_status window_move(hshm_mpi *mpi, struct op *op, bool get, hshm_off off, void *local, size_t size);
/*
 * Puts to a node are done on this side; see that they are on the other.  Under the lock.  This waits, where the network has no
 * part of its own in it: until the node's leader calls MPI.
 */
hshm_status window_flush(hshm_mpi *mpi, uint32_t node);

#endif
