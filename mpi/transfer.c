/*
 * transfer.c - get and put: pieces of any size and node, cut into exchanges, several of them under way at once.
 *
 *     piece of this node                    copied at once
 *     small pieces (PIECE_MAX) of one       packed into one exchange, as many as follow each other and fit
 *       node that follow each other
 *     anything longer                       direct, in chunks of at most options.chunk bytes
 *     with HSHM_MPI_WINDOW                  MPI_Rget and MPI_Rput in the same chunks
 *
 * A transfer has up to OPS_PER_TRANSFER exchanges under way; whoever steps the engine (a call that waits, progress, a
 * test) takes in what has come and sends the next.  All under the handle's lock.
 */
#include "transfer.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "window.h"

/* ---- stepping ---- */

static bool
travels_packed(const hshm_mpi *mpi, const hshm_mpi_piece *piece)
{
    return mpi->window == MPI_WIN_NULL && piece->size <= PIECE_MAX;
}

static hshm_status
copy_here(hshm_mpi *mpi, bool get, const hshm_mpi_piece *piece)
{
    hshm_status status = pointer_check(mpi, piece->remote.off, piece->size);
    if (status == HSHM_OK && !get)
        status = pointer_check_writable(mpi);
    if (status != HSHM_OK)
        return status;
    void *here = hshm_to_addr(mpi->heap, piece->remote.off);
    /* The caller's buffer may lie in the same heap. */
    if (get)
        memmove(piece->local, here, piece->size);
    else
        memmove(here, piece->local, piece->size);
    return HSHM_OK;
}

/* From transfer->at on, as many pieces as may share an exchange.  Empty ones have no address, and travel nowhere. */
static size_t
count_packed(const hshm_mpi *mpi, const struct hshm_mpi_transfer *t)
{
    const uint32_t node = t->pieces[t->at].remote.node;
    size_t room = INLINE_MAX;
    size_t last = t->at;
    for (; last < t->count; last++) {
        const hshm_mpi_piece *piece = &t->pieces[last];
        if (piece->size == 0)
            continue;
        const size_t needed = sizeof(struct wire_piece) + piece->size;
        if (piece->remote.node != node || !travels_packed(mpi, piece) || needed > room)
            break;
        room -= needed;
    }
    return last;
}

static hshm_status
send_packed(hshm_mpi *mpi, struct hshm_mpi_transfer *t, struct op *op)
{
    op->first = t->at;
    op->last = count_packed(mpi, t);
    op_prepare(mpi, op, t->get ? WIRE_GET_PACKED : WIRE_PUT_PACKED, 0, 0);
    unsigned char *at = op->request.data;
    for (size_t i = op->first; i < op->last; i++) {
        if (t->pieces[i].size == 0)
            continue;
        const struct wire_piece piece = { t->pieces[i].remote.off, t->pieces[i].size };
        memcpy(at, &piece, sizeof piece);
        at += sizeof piece;
        op->request.head.pieces++;
    }
    for (size_t i = op->first; i < op->last && !t->get; i++) {
        if (t->pieces[i].size == 0) /* its buffer may be NULL */
            continue;
        memcpy(at, t->pieces[i].local, t->pieces[i].size);
        at += t->pieces[i].size;
    }
    t->at = op->last;
    return op_ask(mpi, op, (size_t)(at - op->request.data));
}

static hshm_status
send_chunk(hshm_mpi *mpi, struct hshm_mpi_transfer *t, struct op *op)
{
    const hshm_mpi_piece *piece = &t->pieces[t->at];
    const hshm_off off = piece->remote.off + t->done;
    unsigned char *local = (unsigned char *)piece->local + t->done;
    const size_t left = piece->size - t->done;
    size_t size = left < (size_t)mpi->chunk ? left : (size_t)mpi->chunk;
    /* A rest that is too short to go directly gets some of this chunk's bytes, which has more than twice as many. */
    if (left > size && left - size < DIRECT_MIN)
        size -= DIRECT_MIN;
    t->done += size;
    if (t->done == piece->size) {
        t->at++;
        t->done = 0;
    }
    if (mpi->window != MPI_WIN_NULL)
        return window_move(mpi, op, t->get, off, local, size);
    op_prepare(mpi, op, t->get ? WIRE_GET_DIRECT : WIRE_PUT_DIRECT, off, size);
    return t->get ? op_ask_for_bytes(mpi, op, local, size) : op_ask_with_bytes(mpi, op, local, size);
}

/* Its caller hears of it when it asks for the result; the thread that came upon it keeps its own last failure. */
static void
fail_transfer(struct hshm_mpi_transfer *t, hshm_status status, const struct kept_error *kept)
{
    t->at = t->count; /* nothing more is sent */
    if (t->status == HSHM_OK) {
        t->status = status;
        (void)snprintf(t->sentence, sizeof t->sentence, "%s", hshm_last_error());
    }
    error_restore(kept);
}

/* Send what may be sent.  *ret_busy: something was. */
static void
send_more(hshm_mpi *mpi, struct hshm_mpi_transfer *t, bool *ret_busy)
{
    struct kept_error kept;
    error_keep(&kept);
    while (t->at < t->count && t->under_way < OPS_PER_TRANSFER) {
        const hshm_mpi_piece *piece = &t->pieces[t->at];
        hshm_status status = HSHM_OK;
        *ret_busy = true;
        if (piece->size == 0) {
            t->at++;
            continue;
        }
        if (piece->remote.node == mpi->node) {
            status = copy_here(mpi, t->get, piece);
            t->at++;
        } else {
            struct op *op = op_take(mpi, piece->remote.node, &status);
            if (op == NULL && status == HSHM_OK)
                return; /* when others are done */
            if (op != NULL) {
                status = travels_packed(mpi, piece) ? send_packed(mpi, t, op) : send_chunk(mpi, t, op);
                if (status == HSHM_OK)
                    t->ops[t->under_way++] = op;
            }
        }
        if (status != HSHM_OK)
            fail_transfer(t, status, &kept);
    }
}

static void
unpack(const struct hshm_mpi_transfer *t, const struct op *op)
{
    const unsigned char *at = op->answer.data;
    for (size_t i = op->first; i < op->last; i++) {
        if (t->pieces[i].size == 0)
            continue;
        memcpy(t->pieces[i].local, at, t->pieces[i].size);
        at += t->pieces[i].size;
    }
}

/* Take in what has come. */
static void
take_in(hshm_mpi *mpi, struct hshm_mpi_transfer *t, bool *ret_busy)
{
    for (unsigned i = 0; i < t->under_way;) {
        struct op *op = t->ops[i];
        if (!op->over) {
            i++;
            continue;
        }
        *ret_busy = true;
        struct kept_error kept;
        error_keep(&kept);
        const hshm_status status = op_result(mpi, op);
        if (status != HSHM_OK)
            fail_transfer(t, status, &kept);
        else if (op->by_window)
            t->unflushed = t->unflushed || !t->get;
        else if (t->get)
            unpack(t, op);
        t->ops[i] = t->ops[--t->under_way];
        op_give(mpi, op);
    }
}

static bool
is_done(const struct hshm_mpi_transfer *t)
{
    return t->at == t->count && t->under_way == 0;
}

/* All is put, as far as this side goes: see that it is there.  Once a transfer, for it may wait. */
static void
flush_puts(hshm_mpi *mpi, struct hshm_mpi_transfer *t)
{
    struct kept_error kept;
    error_keep(&kept);
    uint32_t flushed = mpi->node;
    t->unflushed = false;
    for (size_t i = 0; i < t->count; i++) {
        const uint32_t node = t->pieces[i].remote.node;
        if (t->pieces[i].size == 0 || node == flushed || node == mpi->node)
            continue;
        const hshm_status status = window_flush(mpi, node);
        if (status != HSHM_OK)
            fail_transfer(t, status, &kept);
        flushed = node;
    }
}

static void
step(hshm_mpi *mpi, struct hshm_mpi_transfer *t, bool *ret_busy)
{
    if (t->under_way > 0)
        take_in(mpi, t, ret_busy);
    if (t->at < t->count)
        send_more(mpi, t, ret_busy);
    if (t->unflushed && is_done(t))
        flush_puts(mpi, t);
}

hshm_status
engine_step(hshm_mpi *mpi, bool *ret_busy)
{
    const hshm_status status = ops_look(mpi, ret_busy);
    if (status != HSHM_OK)
        return status;
    for (struct hshm_mpi_transfer *t = mpi->transfers; t != NULL; t = t->next)
        step(mpi, t, ret_busy);
    return owner_serve(mpi, ret_busy);
}

void
engine_pause(bool busy, unsigned *looks)
{
    /* Where ranks are more than processors, whoever is waited for needs one: soon a turn, and after a while more than that. */
    enum { LOOKS_ALONE = 100, LOOKS_A_TURN = 8, LOOKS_AWAKE = 3000, NAP_NS = 50000 };
    if (busy)
        *looks = 0;
    else if (++*looks > LOOKS_AWAKE)
        (void)nanosleep(&(struct timespec){ 0, NAP_NS }, NULL);
    else if (*looks > LOOKS_ALONE && *looks % LOOKS_A_TURN == 0) /* MPI may yield in each look, too */
        (void)sched_yield();
}

/* ---- the list of those with a request ---- */

static void
put_on_list(hshm_mpi *mpi, struct hshm_mpi_transfer *t)
{
    t->next = mpi->transfers;
    mpi->transfers = t;
    t->listed = true;
}

static void
take_from_list(hshm_mpi *mpi, struct hshm_mpi_transfer *t)
{
    struct hshm_mpi_transfer **link = &mpi->transfers;
    while (*link != t)
        link = &(*link)->next;
    *link = t->next;
    t->listed = false;
}

void
transfers_end(hshm_mpi *mpi)
{
    while (mpi->transfers != NULL) {
        struct hshm_mpi_transfer *t = mpi->transfers;
        take_from_list(mpi, t);
        free(t);
    }
}

/* ---- calls ---- */

static hshm_status
check_pieces(const hshm_mpi *mpi, const char *call, const hshm_mpi_piece *pieces, size_t count)
{
    if (mpi == NULL || (pieces == NULL && count > 0))
        return mpi_fail(HSHM_E_INVAL, "%s: %s is NULL", call, mpi == NULL ? "mpi" : "pieces");
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].size == 0)
            continue;
        if (pieces[i].local == NULL)
            return mpi_fail(HSHM_E_INVAL, "%s: the buffer of piece %zu is NULL", call, i);
        const hshm_status status = pointer_check_remote(mpi, pieces[i].remote, pieces[i].size);
        if (status != HSHM_OK)
            return status;
    }
    return HSHM_OK;
}

static hshm_status
result_of(const struct hshm_mpi_transfer *t)
{
    return t->status == HSHM_OK ? HSHM_OK : hshm_set_last_error(t->status, t->sentence);
}

/* Go on with everything until this transfer is done.  *ret_done false: it is not, and never will be, for MPI failed. */
static hshm_status
finish(hshm_mpi *mpi, struct hshm_mpi_transfer *t, bool *ret_done)
{
    unsigned looks = 0;
    for (;;) {
        bool busy = false;
        (void)pthread_mutex_lock(&mpi->lock);
        if (!t->listed)
            step(mpi, t, &busy);
        const bool done = is_done(t);
        /* Whoever waits serves; but what is there need not wait for that. */
        const hshm_status status = done ? HSHM_OK : engine_step(mpi, &busy);
        (void)pthread_mutex_unlock(&mpi->lock);
        *ret_done = done;
        if (done)
            return result_of(t);
        if (status != HSHM_OK)
            return status;
        engine_pause(busy, &looks);
    }
}

static hshm_status
move(hshm_mpi *mpi, const char *call, bool get, const hshm_mpi_piece *pieces, size_t count)
{
    const hshm_status status = check_pieces(mpi, call, pieces, count);
    if (status != HSHM_OK)
        return status;
    struct hshm_mpi_transfer t;
    t.next = NULL;
    t.get = get;
    t.listed = false;
    t.pieces = pieces;
    t.count = count;
    t.at = t.done = 0;
    t.under_way = 0;
    t.unflushed = false;
    t.status = HSHM_OK;
    bool done = false;
    return finish(mpi, &t, &done);
}

static hshm_status
begin(hshm_mpi *mpi, const char *call, bool get, const hshm_mpi_piece *pieces, size_t count,
      hshm_mpi_request *ret_request)
{
    const hshm_status status = check_pieces(mpi, call, pieces, count);
    if (status != HSHM_OK)
        return status;
    if (ret_request == NULL)
        return mpi_fail(HSHM_E_INVAL, "%s: ret_request is NULL", call);
    struct hshm_mpi_transfer *t = malloc(sizeof *t + count * sizeof *pieces);
    if (t == NULL)
        return mpi_fail(HSHM_E_NOSPC, "%s: no memory for a request of %zu pieces", call, count);
    memset(t, 0, sizeof *t);
    hshm_mpi_piece *own = (hshm_mpi_piece *)(t + 1);
    if (count > 0)
        memcpy(own, pieces, count * sizeof *pieces);
    t->get = get;
    t->pieces = own;
    t->count = count;
    bool busy = false;
    (void)pthread_mutex_lock(&mpi->lock);
    put_on_list(mpi, t);
    step(mpi, t, &busy);
    (void)pthread_mutex_unlock(&mpi->lock);
    *ret_request = t;
    return HSHM_OK;
}

hshm_status
hshm_mpi_get(hshm_mpi *mpi, hshm_gptr from, void *buffer, size_t size)
{
    const hshm_mpi_piece piece = { from, buffer, size };
    return move(mpi, "hshm_mpi_get", true, &piece, 1);
}

hshm_status
hshm_mpi_put(hshm_mpi *mpi, hshm_gptr to, const void *buffer, size_t size)
{
    const hshm_mpi_piece piece = { to, (void *)(uintptr_t)buffer, size };
    return move(mpi, "hshm_mpi_put", false, &piece, 1);
}

hshm_status
hshm_mpi_getv(hshm_mpi *mpi, const hshm_mpi_piece *pieces, size_t count)
{
    return move(mpi, "hshm_mpi_getv", true, pieces, count);
}

hshm_status
hshm_mpi_putv(hshm_mpi *mpi, const hshm_mpi_piece *pieces, size_t count)
{
    return move(mpi, "hshm_mpi_putv", false, pieces, count);
}

hshm_status
hshm_mpi_rget(hshm_mpi *mpi, hshm_gptr from, void *buffer, size_t size, hshm_mpi_request *ret_request)
{
    const hshm_mpi_piece piece = { from, buffer, size };
    return begin(mpi, "hshm_mpi_rget", true, &piece, 1, ret_request);
}

hshm_status
hshm_mpi_rput(hshm_mpi *mpi, hshm_gptr to, const void *buffer, size_t size, hshm_mpi_request *ret_request)
{
    const hshm_mpi_piece piece = { to, (void *)(uintptr_t)buffer, size };
    return begin(mpi, "hshm_mpi_rput", false, &piece, 1, ret_request);
}

hshm_status
hshm_mpi_rgetv(hshm_mpi *mpi, const hshm_mpi_piece *pieces, size_t count, hshm_mpi_request *ret_request)
{
    return begin(mpi, "hshm_mpi_rgetv", true, pieces, count, ret_request);
}

hshm_status
hshm_mpi_rputv(hshm_mpi *mpi, const hshm_mpi_piece *pieces, size_t count, hshm_mpi_request *ret_request)
{
    return begin(mpi, "hshm_mpi_rputv", false, pieces, count, ret_request);
}

static void
forget_request(hshm_mpi *mpi, hshm_mpi_request *inout_request)
{
    (void)pthread_mutex_lock(&mpi->lock);
    take_from_list(mpi, *inout_request);
    (void)pthread_mutex_unlock(&mpi->lock);
    free(*inout_request);
    *inout_request = NULL;
}

/* The request is done: forget it, and tell how it ended. */
static hshm_status
end_request(hshm_mpi *mpi, hshm_mpi_request *inout_request)
{
    const hshm_status status = result_of(*inout_request);
    forget_request(mpi, inout_request);
    return status;
}

hshm_status
hshm_mpi_wait(hshm_mpi *mpi, hshm_mpi_request *inout_request)
{
    if (mpi == NULL || inout_request == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_wait: %s is NULL", mpi == NULL ? "mpi" : "inout_request");
    if (*inout_request == NULL)
        return HSHM_OK;
    bool done = false;
    const hshm_status status = finish(mpi, *inout_request, &done);
    /* Where MPI failed its exchanges stay taken until the handle goes: an answer may still come into them. */
    forget_request(mpi, inout_request);
    return status;
}

hshm_status
hshm_mpi_test(hshm_mpi *mpi, hshm_mpi_request *inout_request, bool *ret_done)
{
    if (mpi == NULL || inout_request == NULL || ret_done == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_test: %s is NULL",
                        mpi == NULL             ? "mpi"
                        : inout_request == NULL ? "inout_request"
                                                : "ret_done");
    hshm_status status = HSHM_OK;
    bool done = *inout_request == NULL;
    if (!done) {
        bool busy = false;
        (void)pthread_mutex_lock(&mpi->lock);
        status = engine_step(mpi, &busy);
        done = is_done(*inout_request);
        (void)pthread_mutex_unlock(&mpi->lock);
    }
    if (done && *inout_request != NULL)
        status = end_request(mpi, inout_request);
    *ret_done = done;
    return status;
}

/* ---- flush, progress ---- */

static bool
goes_to(const struct hshm_mpi_transfer *t, uint32_t node)
{
    bool found = node == HSHM_MPI_ALL_NODES;
    for (size_t i = 0; i < t->count && !found; i++)
        found = t->pieces[i].remote.node == node;
    return found;
}

static bool
is_flushed(const hshm_mpi *mpi, uint32_t node)
{
    for (const struct hshm_mpi_transfer *t = mpi->transfers; t != NULL; t = t->next) {
        if (!is_done(t) && goes_to(t, node))
            return false;
    }
    return true;
}

hshm_status
hshm_mpi_flush(hshm_mpi *mpi, uint32_t node)
{
    if (mpi == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_flush: mpi is NULL");
    if (node != HSHM_MPI_ALL_NODES && node >= mpi->node_count)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_flush: node %u of %u", node, mpi->node_count);
    unsigned looks = 0;
    for (;;) {
        bool busy = false;
        (void)pthread_mutex_lock(&mpi->lock);
        const bool done = is_flushed(mpi, node);
        const hshm_status status = done ? HSHM_OK : engine_step(mpi, &busy);
        (void)pthread_mutex_unlock(&mpi->lock);
        if (done || status != HSHM_OK)
            return status;
        engine_pause(busy, &looks);
    }
}

hshm_status
hshm_mpi_fence(hshm_mpi *mpi)
{
    hshm_status status = hshm_mpi_flush(mpi, HSHM_MPI_ALL_NODES);
    if (status != HSHM_OK)
        return status;
    MPI_Request all_here = MPI_REQUEST_NULL;
    (void)pthread_mutex_lock(&mpi->lock);
    status = mpi_check(MPI_Ibarrier(mpi->world, &all_here), "MPI_Ibarrier");
    place_watch(mpi, PLACE_FENCE, all_here);
    (void)pthread_mutex_unlock(&mpi->lock);
    unsigned looks = 0;
    for (bool done = false; status == HSHM_OK && !done;) {
        bool busy = false;
        MPI_Status about;
        (void)pthread_mutex_lock(&mpi->lock);
        status = engine_step(mpi, &busy);
        done = place_is_over(mpi, PLACE_FENCE, &about);
        (void)pthread_mutex_unlock(&mpi->lock);
        if (!done)
            engine_pause(busy, &looks);
    }
    return status;
}

hshm_status
hshm_mpi_progress(hshm_mpi *mpi)
{
    if (mpi == NULL)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_progress: mpi is NULL");
    bool busy = false;
    (void)pthread_mutex_lock(&mpi->lock);
    const hshm_status status = engine_step(mpi, &busy);
    (void)pthread_mutex_unlock(&mpi->lock);
    return status;
}
