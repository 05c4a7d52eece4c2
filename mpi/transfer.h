/*
 * transfer.h - get and put: pieces of any size and node, cut into exchanges.
 */
#ifndef HSHM_MPI_TRANSFER_H
#define HSHM_MPI_TRANSFER_H

#include "ops.h"

/* Local: a call's pieces, and how far it has come.  With a request: malloc'ed, the pieces behind it. */
struct hshm_mpi_transfer {
    struct hshm_mpi_transfer *next; /* in the handle's list, while it is under way */
    bool get;
    bool listed;
    const hshm_mpi_piece *pieces;
    size_t count;
    size_t at;   /* the piece that is next to be sent */
    size_t done; /* bytes of it that are sent         */
    struct op *ops[OPS_PER_TRANSFER];
    unsigned under_way;
    bool unflushed;     /* puts by a window, of which only this side is done */
    hshm_status status; /* the first failure, and its sentence */
    char sentence[768];
};

#endif
