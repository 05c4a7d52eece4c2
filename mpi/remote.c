/*
 * remote.c - what only the owner of a heap can do for others: allocate, free, atomic operations.  One exchange each.
 */
#include "ops.h"

/* An op for a node, waiting for one if all are under way. */
static struct op *
wait_for_op(hshm_mpi *mpi, uint32_t node, hshm_status *ret_status)
{
    unsigned looks = 0;
    for (;;) {
        struct op *op = op_take(mpi, node, ret_status);
        if (op != NULL || *ret_status != HSHM_OK)
            return op;
        bool busy = false;
        *ret_status = engine_step(mpi, &busy);
        if (*ret_status != HSHM_OK)
            return NULL;
        (void)pthread_mutex_unlock(&mpi->lock);
        engine_pause(busy, &looks);
        (void)pthread_mutex_lock(&mpi->lock);
    }
}

/* What is asked of an owner.  The lock is held on entry and on return, and let go in between. */
static hshm_status
exchange(hshm_mpi *mpi, struct op *op)
{
    unsigned looks = 0;
    hshm_status status = op_ask(mpi, op, 0);
    while (status == HSHM_OK && !op->over) {
        bool busy = false;
        status = engine_step(mpi, &busy);
        if (status != HSHM_OK || op->over)
            break;
        (void)pthread_mutex_unlock(&mpi->lock);
        engine_pause(busy, &looks);
        (void)pthread_mutex_lock(&mpi->lock);
    }
    return status == HSHM_OK ? op_result(mpi, op) : status;
}

static hshm_status
ask(hshm_mpi *mpi, hshm_gptr at, struct wire_request wanted, uint64_t *ret_value)
{
    hshm_status status = HSHM_OK;
    (void)pthread_mutex_lock(&mpi->lock);
    struct op *op = wait_for_op(mpi, at.node, &status);
    if (op != NULL) {
        op_prepare(mpi, op, (enum wire_kind)wanted.kind, at.off, wanted.size);
        op->request.head.value = wanted.value;
        op->request.head.desired = wanted.desired;
        status = exchange(mpi, op);
        if (status == HSHM_OK && ret_value != NULL)
            *ret_value = op->answer.head.value;
        /* After MPI's own failures (an owner's may be called HSHM_E_SYSTEM, too) an answer may still come into it. */
        if (op->over && op->status == HSHM_OK)
            op_give(mpi, op);
    }
    (void)pthread_mutex_unlock(&mpi->lock);
    return status;
}

hshm_status
hshm_mpi_alloc(hshm_mpi *mpi, uint32_t node, size_t size, hshm_gptr *ret_pointer)
{
    if (mpi == NULL || ret_pointer == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_alloc: %s is NULL", mpi == NULL ? "mpi" : "ret_pointer");
    if (node >= mpi->node_count)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_alloc: node %u of %u", node, mpi->node_count);
    hshm_gptr pointer = { node, mpi->nodes[node].generation, HSHM_OFF_NULL };
    hshm_status status;
    if (node == mpi->node) {
        hshm_ptr block = HSHM_PTR_NULL;
        status = hshm_allocate(mpi->heap, size, &block);
        pointer.off = block.shm.off;
    } else {
        status = ask(mpi, pointer, (struct wire_request){ .kind = WIRE_ALLOC, .size = size }, &pointer.off);
    }
    if (status == HSHM_OK)
        *ret_pointer = pointer;
    return status;
}

hshm_status
hshm_mpi_free(hshm_mpi *mpi, hshm_gptr pointer)
{
    if (mpi == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_free: mpi is NULL");
    if (pointer.off == HSHM_OFF_NULL)
        return HSHM_OK;
    const hshm_status status = pointer_check_remote(mpi, pointer, 1);
    if (status != HSHM_OK)
        return status;
    if (pointer.node == mpi->node)
        return hshm_free(mpi->heap, hshm_to_addr(mpi->heap, pointer.off));
    return ask(mpi, pointer, (struct wire_request){ .kind = WIRE_FREE }, NULL);
}

hshm_status
hshm_mpi_fetch_add(hshm_mpi *mpi, hshm_gptr at, uint64_t add, uint64_t *ret_old)
{
    if (mpi == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_fetch_add: mpi is NULL");
    hshm_status status = pointer_check_remote(mpi, at, sizeof(uint64_t));
    if (status != HSHM_OK)
        return status;
    if (at.node != mpi->node)
        return ask(mpi, at, (struct wire_request){ .kind = WIRE_FETCH_ADD, .value = add }, ret_old);
    _Atomic uint64_t *word = NULL;
    status = pointer_word(mpi, at.off, &word);
    if (status != HSHM_OK)
        return status;
    const uint64_t old = atomic_fetch_add(word, add);
    if (ret_old != NULL)
        *ret_old = old;
    return HSHM_OK;
}

hshm_status
hshm_mpi_cas(hshm_mpi *mpi, hshm_gptr at, uint64_t expected, uint64_t desired, uint64_t *ret_old)
{
    if (mpi == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_cas: mpi is NULL");
    hshm_status status = pointer_check_remote(mpi, at, sizeof(uint64_t));
    if (status != HSHM_OK)
        return status;
    if (at.node != mpi->node)
        return ask(mpi, at, (struct wire_request){ .kind = WIRE_CAS, .value = expected, .desired = desired }, ret_old);
    _Atomic uint64_t *word = NULL;
    status = pointer_word(mpi, at.off, &word);
    if (status != HSHM_OK)
        return status;
    uint64_t found = expected;
    (void)atomic_compare_exchange_strong(word, &found, desired);
    if (ret_old != NULL)
        *ret_old = found;
    return HSHM_OK;
}
