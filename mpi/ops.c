/*
 * ops.c - one exchange of messages with an owner.
 */
#include "ops.h"

#include <stdlib.h>
#include <string.h>

enum { WATCHED_MAX = PLACES + OPS_MAX };

/* Local.  What MPI is asked about: the named places, and from there on ops; request[] and op[] belong together. */
struct op_table {
    struct op *made[OPS_MAX];
    unsigned count;
    unsigned in_use; /* of these, taken and not given back */
    struct op *free;
    unsigned watched;
    MPI_Request request[WATCHED_MAX];
    struct op *op[WATCHED_MAX];
    bool over[PLACES];
    MPI_Status place_about[PLACES];
    int which[WATCHED_MAX];
    MPI_Status about[WATCHED_MAX];
};

hshm_status
ops_start(hshm_mpi *mpi)
{
    mpi->ops = calloc(1, sizeof *mpi->ops);
    if (mpi->ops == NULL)
        return mpi_fail(HSHM_E_NOSPC, "no memory for requests to other nodes");
    for (unsigned i = 0; i < PLACES; i++)
        mpi->ops->request[i] = MPI_REQUEST_NULL;
    mpi->ops->watched = PLACES;
    return HSHM_OK;
}

void
ops_stop(hshm_mpi *mpi)
{
    for (unsigned i = 0; mpi->ops != NULL && i < mpi->ops->count; i++)
        free(mpi->ops->made[i]);
    free(mpi->ops);
    mpi->ops = NULL;
}

struct op *
op_take(hshm_mpi *mpi, uint32_t node, hshm_status *ret_status)
{
    struct op_table *table = mpi->ops;
    *ret_status = HSHM_OK;
    struct op *op = table->free;
    if (op != NULL) {
        table->free = op->next_free;
    } else {
        if (table->count == OPS_MAX)
            return NULL;
        op = malloc(sizeof *op);
        if (op == NULL) {
            /* With others under way, one of theirs will do. */
            if (table->in_use == 0)
                *ret_status = mpi_fail(HSHM_E_NOSPC, "no memory for a request to node %u", node);
            return NULL;
        }
        op->tag = TAG_OPS + (int)table->count;
        table->made[table->count++] = op;
    }
    table->in_use++;
    op->node = node;
    op->over = false;
    op->status = HSHM_OK;
    op->arrived = 0;
    op->direct = NULL;
    op->bytes = 0;
    op->by_window = false;
    op->first = op->last = 0;
    op->sent[0] = op->sent[1] = MPI_REQUEST_NULL;
    return op;
}

void
op_watch(hshm_mpi *mpi, struct op *op, MPI_Request request)
{
    struct op_table *table = mpi->ops;
    table->request[table->watched] = request;
    table->op[table->watched++] = op;
}

void
op_give(hshm_mpi *mpi, struct op *op)
{
    op->next_free = mpi->ops->free;
    mpi->ops->free = op;
    mpi->ops->in_use--;
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
    MPI_Request request = MPI_REQUEST_NULL;
    const hshm_status status = mpi_check(
        MPI_Irecv(to, (int)size, MPI_BYTE, mpi->nodes[op->node].leader, op->tag, mpi->world, &request), "MPI_Irecv");
    if (status == HSHM_OK)
        op_watch(mpi, op, request);
    return status;
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

void
place_watch(hshm_mpi *mpi, enum place place, MPI_Request request)
{
    mpi->ops->request[place] = request;
    mpi->ops->over[place] = false;
}

bool
place_is_over(const hshm_mpi *mpi, enum place place, MPI_Status *ret_about)
{
    *ret_about = mpi->ops->place_about[place];
    return mpi->ops->over[place];
}

MPI_Request *
place_request(hshm_mpi *mpi, enum place place)
{
    return &mpi->ops->request[place];
}

/* MPI has answered for one. */
static void
mark_over(struct op *op, MPI_Status *about, bool failed)
{
    int bytes = 0;
    op->over = true;
    if (failed)
        op->status = mpi_check(about->MPI_ERROR, "receiving an answer");
    (void)MPI_Get_count(about, MPI_BYTE, &bytes);
    op->arrived = bytes == MPI_UNDEFINED ? 0 : (size_t)bytes;
}

/* Close the gaps that those which are over left. */
static void
forget_over(struct op_table *table)
{
    unsigned kept = PLACES;
    for (unsigned i = PLACES; i < table->watched; i++) {
        if (table->op[i]->over)
            continue;
        table->request[kept] = table->request[i];
        table->op[kept++] = table->op[i];
    }
    table->watched = kept;
}

hshm_status
ops_look(hshm_mpi *mpi, bool *ret_busy)
{
    struct op_table *table = mpi->ops;
    int count = 0;
    const int answer = MPI_Testsome((int)table->watched, table->request, &count, table->which, table->about);
    if (answer != MPI_SUCCESS && answer != MPI_ERR_IN_STATUS)
        return mpi_check(answer, "MPI_Testsome");
    if (count == MPI_UNDEFINED || count == 0)
        return HSHM_OK;
    *ret_busy = true;
    for (int i = 0; i < count; i++) {
        const int which = table->which[i];
        const bool failed = answer == MPI_ERR_IN_STATUS && table->about[i].MPI_ERROR != MPI_SUCCESS;
        if (which >= PLACES) {
            mark_over(table->op[which], &table->about[i], failed);
        } else if (failed) {
            return mpi_check(table->about[i].MPI_ERROR, "MPI_Testsome");
        } else {
            table->over[which] = true;
            table->place_about[which] = table->about[i];
        }
    }
    forget_over(table);
    return HSHM_OK;
}

hshm_status
op_result(hshm_mpi *mpi, struct op *op)
{
    hshm_status status = op->status;
    if (status != HSHM_OK)
        return mpi_fail(status, "node %u's answer was not received: MPI failed", op->node);
    /*
     * Whoever answered has received the request, and, if it did not fail, the bytes: so MPI need not wait for anybody, only
     * note it.  (Bytes that were refused are received, too, or, where there is no memory for them, cut off.)
     */
    for (int i = 0; i < 2 && status == HSHM_OK; i++)
        status = mpi_check(MPI_Wait(&op->sent[i], MPI_STATUS_IGNORE), "MPI_Wait");
    return status == HSHM_OK && !op->by_window ? judge(mpi, op, op->arrived) : status;
}
