/*
 * ops.h - one exchange of messages with an owner: a request, perhaps bytes, an answer.
 *
 * Those under way stand in one array, with all else that is waited for, and one call to MPI looks through it: a call for each
 * would let MPI look at its network each time, which takes longer than a small message.
 *
 * All functions under the handle's lock.
 */
#ifndef HSHM_MPI_OPS_H
#define HSHM_MPI_OPS_H

#include "handle.h"

/* Local: one exchange.  Made when first needed, and kept for the next. */
struct op {
    struct op *next_free;
    int tag;
    uint32_t node;
    bool over;          /* the answer is there, or will never be */
    hshm_status status; /* over: HSHM_E_SYSTEM if MPI failed     */
    size_t arrived;     /* over: bytes of the answer             */
    MPI_Request sent[2];
    void *direct;       /* GET_DIRECT: where the bytes come to, without an answer's head if all is well     */
    size_t bytes;       /* and how many                                                                     */
    bool by_window;     /* no answer: its request is MPI_Rget's or MPI_Rput's                               */
    size_t first, last; /* the caller's pieces that travel packed in it: [first, last)                      */
    struct wire_request_message request;
    struct wire_answer_message answer;
};

/* An op that nobody uses, for a node; NULL when all are under way (go on with some first), or, with *ret_status, no memory. */
struct op *op_take(hshm_mpi *mpi, uint32_t node, hshm_status *ret_status);
void op_give(hshm_mpi *mpi, struct op *op);

/* Fill in the head of its request. */
void op_prepare(hshm_mpi *mpi, struct op *op, enum wire_kind kind, hshm_off off, uint64_t size);

/* Send request and `behind` bytes of its data; the answer comes into op->answer. */
hshm_status op_ask(hshm_mpi *mpi, struct op *op, size_t behind);
/* Send the request; `size` bytes come into `to`. */
hshm_status op_ask_for_bytes(hshm_mpi *mpi, struct op *op, void *to, size_t size);
/* Send the request, and the bytes. */
hshm_status op_ask_with_bytes(hshm_mpi *mpi, struct op *op, const void *from, size_t size);

/* What else one look at MPI tells of. */
enum place {
    PLACE_POSTED, /* the oldest receive for requests, in a leader; owner.c */
    PLACE_FENCE,  /* everyone is in the fence                              */
    PLACES
};
void place_watch(hshm_mpi *mpi, enum place place, MPI_Request request);
/* Was it over at the last look?  And what MPI said about it. */
bool place_is_over(const hshm_mpi *mpi, enum place place, MPI_Status *ret_about);
MPI_Request *place_request(hshm_mpi *mpi, enum place place);

/* From now on `request` is what tells that it is over. */
void op_watch(hshm_mpi *mpi, struct op *op, MPI_Request request);

/* Look through all that are under way, and mark those that are over.  *ret_busy: there were some. */
hshm_status ops_look(hshm_mpi *mpi, bool *ret_busy);

/* How one that is over ended: MPI's failure, or the owner's with its sentence. */
hshm_status op_result(hshm_mpi *mpi, struct op *op);

#endif
