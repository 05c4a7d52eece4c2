/*
 * ops.c - one exchange of messages with an owner.
 */
#include "ops.h"

#include <stdlib.h>
#include <string.h>

#include "window.h"

struct op *
op_take(hshm_mpi *mpi, uint32_t node, hshm_status *ret_status)
{
    *ret_status = HSHM_OK;
    struct op *op = mpi->free_ops;
    if (op != NULL) {
        mpi->free_ops = op->next_free;
    } else {
        if (mpi->op_count == OPS_MAX)
            return NULL;
        op = malloc(sizeof *op);
        if (op == NULL) {
            /* With others under way, one of theirs will do. */
            if (mpi->op_count == 0 || mpi->transfers == NULL)
                *ret_status = mpi_fail(HSHM_E_NOSPC, "no memory for a request to node %u", node);
            return NULL;
        }
        op->tag = TAG_OPS + (int)mpi->op_count;
        mpi->ops[mpi->op_count++] = op;
    }
    op->node = node;
    op->direct = NULL;
    op->bytes = 0;
    op->by_window = op->put = false;
    op->first = op->last = 0;
    op->answered = op->sent[0] = op->sent[1] = MPI_REQUEST_NULL;
    return op;
}

void
op_give(hshm_mpi *mpi, struct op *op)
{
    op->next_free = mpi->free_ops;
    mpi->free_ops = op;
}

void
op_prepare(hshm_mpi *mpi, struct op *op, enum wire_kind kind, hshm_off off, uint64_t size)
{
    op->request.head = (struct wire_request){
        .kind = (uint32_t)kind,
        .tag = (uint32_t)op->tag,
        .generation = mpi->nodes[op->node].generation,
        .off = off,
        .size = size,
    };
}

static hshm_status
expect(hshm_mpi *mpi, struct op *op, void *to, size_t size)
{
    return mpi_check(
        MPI_Irecv(to, (int)size, MPI_BYTE, mpi->nodes[op->node].leader, op->tag, mpi->world, &op->answered),
        "MPI_Irecv");
}

static hshm_status
send_request(hshm_mpi *mpi, struct op *op, size_t behind)
{
    return mpi_check(MPI_Isend(&op->request, (int)(sizeof op->request.head + behind), MPI_BYTE,
                               mpi->nodes[op->node].leader, TAG_REQUEST, mpi->world, &op->sent[0]),
                     "MPI_Isend");
}

hshm_status
op_ask(hshm_mpi *mpi, struct op *op, size_t behind)
{
    const hshm_status status = expect(mpi, op, &op->answer, sizeof op->answer);
    return status == HSHM_OK ? send_request(mpi, op, behind) : status;
}

hshm_status
op_ask_for_bytes(hshm_mpi *mpi, struct op *op, void *to, size_t size)
{
    op->direct = to;
    op->bytes = size;
    const hshm_status status = expect(mpi, op, to, size);
    return status == HSHM_OK ? send_request(mpi, op, 0) : status;
}

hshm_status
op_ask_with_bytes(hshm_mpi *mpi, struct op *op, const void *from, size_t size)
{
    hshm_status status = op_ask(mpi, op, 0);
    if (status == HSHM_OK)
        status = mpi_check(MPI_Isend(from, (int)size, MPI_BYTE, mpi->nodes[op->node].leader, op->tag + TAG_BYTES,
                                     mpi->world, &op->sent[1]),
                           "MPI_Isend");
    return status;
}

/* What the owner said, as this rank's failure. */
static hshm_status
owner_failed(const hshm_mpi *mpi, const struct op *op, const struct wire_answer *head, const unsigned char *sentence)
{
    const uint32_t length = head->length < SENTENCE_MAX ? head->length : SENTENCE_MAX;
    return mpi_fail((hshm_status)head->status, "node %u (led by rank %d): %.*s", op->node,
                    (int)mpi->nodes[op->node].leader, (int)length, (const char *)sentence);
}

static hshm_status
judge(const hshm_mpi *mpi, struct op *op, size_t bytes)
{
    if (op->direct != NULL && bytes == op->bytes)
        return HSHM_OK;
    if (op->direct != NULL) /* the owner's failure came where the bytes should be */
        memcpy(&op->answer, op->direct, bytes < sizeof op->answer ? bytes : sizeof op->answer);
    if (bytes < sizeof op->answer.head)
        return mpi_fail(HSHM_E_SYSTEM, "node %u answered with %zu bytes, which is no answer", op->node, bytes);
    if (op->answer.head.status != HSHM_OK)
        return owner_failed(mpi, op, &op->answer.head, op->answer.data);
    return HSHM_OK;
}

hshm_status
op_test(hshm_mpi *mpi, struct op *op, bool *ret_done)
{
    MPI_Status about;
    int done = 0;
    *ret_done = false;
    hshm_status status = mpi_check(MPI_Test(&op->answered, &done, &about), "MPI_Test");
    if (status == HSHM_OK && !done)
        return HSHM_OK;
    *ret_done = true;
    if (status != HSHM_OK)
        return status;
    /* Whoever answered has received it all, so this does not wait. */
    status = mpi_check(MPI_Waitall(2, op->sent, MPI_STATUSES_IGNORE), "MPI_Waitall");
    int bytes = 0;
    (void)MPI_Get_count(&about, MPI_BYTE, &bytes);
    if (status == HSHM_OK && op->by_window)
        return window_complete(mpi, op);
    return status == HSHM_OK ? judge(mpi, op, (size_t)bytes) : status;
}
