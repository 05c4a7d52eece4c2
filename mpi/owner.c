/*
 * owner.c - the leader of a node does for other nodes what only it can do.
 *
 * Receives for requests are posted in a ring.  MPI fills them in the order in which they were posted, and requests are short
 * enough (EAGER_MAX) to be sent at once with what MPI is configured to by default: none waits for its sender's next call to MPI.
 * So looking at the oldest one is enough: it is part of the one look at MPI that all share (ops.h).  Where a shorter limit was
 * configured (btl_vader_eager_limit, say), a long request of a rank that then computes delays those behind it until that
 * rank calls MPI again.
 *
 * What cannot be finished at once is a duty: bytes that still arrive (PUT_DIRECT), answers that are still being sent.  The
 * number of duties is bounded by what ranks may have under way, and by memory: without memory for one more, requests
 * wait in MPI until another is done.
 */
#include <stdlib.h>
#include <string.h>

#include "ops.h"

struct posted {
    MPI_Request request;
    struct wire_request_message message;
};

enum duty_state { DUTY_RECEIVING, DUTY_SENDING };

struct duty {
    struct duty *next;
    enum duty_state state;
    MPI_Request request;
    int source; /* whom to answer, and under which tag */
    int tag;
    void *drain; /* where bytes go that may not be stored; freed with the duty */
    struct wire_answer_message answer;
};

/* ---- duties ---- */

static struct duty *
new_duty(hshm_mpi *mpi)
{
    struct duty *duty = mpi->free_duties;
    if (duty != NULL) {
        mpi->free_duties = duty->next;
        return duty;
    }
    return malloc(sizeof *duty);
}

static void
end_duty(hshm_mpi *mpi, struct duty *duty)
{
    free(duty->drain);
    duty->drain = NULL;
    duty->next = mpi->free_duties;
    mpi->free_duties = duty;
}

static void
add_duty(hshm_mpi *mpi, struct duty *duty, enum duty_state state)
{
    duty->state = state;
    duty->next = mpi->duties;
    mpi->duties = duty;
}

/* Nothing to wait for: back at once; else it becomes a duty. */
static hshm_status
send_bytes(hshm_mpi *mpi, struct duty *duty, const void *bytes, size_t size)
{
    const hshm_status status = mpi_check(
        MPI_Isend(bytes, (int)size, MPI_BYTE, duty->source, duty->tag, mpi->world, &duty->request), "MPI_Isend");
    if (status == HSHM_OK)
        add_duty(mpi, duty, DUTY_SENDING);
    else
        end_duty(mpi, duty);
    return status;
}

static hshm_status
send_answer(hshm_mpi *mpi, struct duty *duty)
{
    return send_bytes(mpi, duty, &duty->answer, sizeof duty->answer.head + duty->answer.head.length);
}

/* The answer to what failed: its status, and the sentence. */
static void
answer_failure(struct duty *duty, hshm_status status)
{
    const char *sentence = hshm_last_error();
    size_t length = strlen(sentence);
    length = length < SENTENCE_MAX ? length : SENTENCE_MAX;
    memcpy(duty->answer.data, sentence, length);
    duty->answer.head = (struct wire_answer){ (int32_t)status, (uint32_t)length, 0 };
}

/* ---- requests, by kind; each fills in the answer or fails ---- */

typedef hshm_status (*serve_fn)(hshm_mpi *mpi, const struct wire_request_message *request, size_t length,
                                struct wire_answer_message *answer);

static struct wire_piece
read_piece(const struct wire_request_message *request, uint32_t index)
{
    struct wire_piece piece;
    memcpy(&piece, request->data + index * sizeof piece, sizeof piece);
    return piece;
}

/* All pieces lie in the heap, and their sum is at most `most`.  Before the first is touched: all or nothing. */
static hshm_status
check_pieces(hshm_mpi *mpi, const struct wire_request_message *request, size_t length, size_t most)
{
    size_t sum = 0;
    if (request->head.pieces > length / sizeof(struct wire_piece))
        return mpi_fail(HSHM_E_INVAL, "a request of %u pieces has %zu bytes", request->head.pieces, length);
    for (uint32_t i = 0; i < request->head.pieces; i++) {
        const struct wire_piece piece = read_piece(request, i);
        const hshm_status status = pointer_check(mpi, piece.off, piece.size);
        if (status != HSHM_OK)
            return status;
        if (piece.size > most - sum)
            return mpi_fail(HSHM_E_INVAL, "a request for more than %zu bytes at once", most);
        sum += piece.size;
    }
    return HSHM_OK;
}

static hshm_status
serve_get(hshm_mpi *mpi, const struct wire_request_message *request, size_t length, struct wire_answer_message *answer)
{
    const hshm_status status = check_pieces(mpi, request, length, sizeof answer->data);
    if (status != HSHM_OK)
        return status;
    uint32_t at = 0;
    for (uint32_t i = 0; i < request->head.pieces; i++) {
        const struct wire_piece piece = read_piece(request, i);
        memcpy(answer->data + at, hshm_to_addr(mpi->heap, piece.off), piece.size);
        at += (uint32_t)piece.size;
    }
    answer->head.length = at;
    return HSHM_OK;
}

static hshm_status
serve_put(hshm_mpi *mpi, const struct wire_request_message *request, size_t length, struct wire_answer_message *answer)
{
    (void)answer;
    size_t at = request->head.pieces * sizeof(struct wire_piece);
    const hshm_status status = check_pieces(mpi, request, length, at <= length ? length - at : 0);
    if (status != HSHM_OK)
        return status;
    for (uint32_t i = 0; i < request->head.pieces; i++) {
        const struct wire_piece piece = read_piece(request, i);
        memcpy(hshm_to_addr(mpi->heap, piece.off), request->data + at, piece.size);
        at += piece.size;
    }
    return HSHM_OK;
}

static hshm_status
serve_alloc(hshm_mpi *mpi, const struct wire_request_message *request, size_t length,
            struct wire_answer_message *answer)
{
    (void)length;
    hshm_ptr block = HSHM_PTR_NULL;
    const hshm_status status = hshm_allocate(mpi->heap, request->head.size, &block);
    answer->head.value = block.shm.off;
    return status;
}

static hshm_status
serve_free(hshm_mpi *mpi, const struct wire_request_message *request, size_t length, struct wire_answer_message *answer)
{
    (void)length;
    (void)answer;
    return hshm_free(mpi->heap, hshm_to_addr(mpi->heap, request->head.off));
}

static hshm_status
serve_fetch_add(hshm_mpi *mpi, const struct wire_request_message *request, size_t length,
                struct wire_answer_message *answer)
{
    (void)length;
    _Atomic uint64_t *word = NULL;
    const hshm_status status = pointer_word(mpi, request->head.off, &word);
    if (status == HSHM_OK)
        answer->head.value = atomic_fetch_add(word, request->head.value);
    return status;
}

static hshm_status
serve_cas(hshm_mpi *mpi, const struct wire_request_message *request, size_t length, struct wire_answer_message *answer)
{
    (void)length;
    _Atomic uint64_t *word = NULL;
    const hshm_status status = pointer_word(mpi, request->head.off, &word);
    uint64_t found = request->head.value;
    if (status == HSHM_OK)
        (void)atomic_compare_exchange_strong(word, &found, request->head.desired);
    answer->head.value = found;
    return status;
}

static const serve_fn serve_at_once[] = {
    [WIRE_GET_PACKED] = serve_get, [WIRE_PUT_PACKED] = serve_put,      [WIRE_ALLOC] = serve_alloc,
    [WIRE_FREE] = serve_free,      [WIRE_FETCH_ADD] = serve_fetch_add, [WIRE_CAS] = serve_cas,
};

/* ---- direct transfers ---- */

static hshm_status
serve_direct_get(hshm_mpi *mpi, const struct wire_request *head, struct duty *duty, hshm_status status)
{
    if (status == HSHM_OK && head->size < DIRECT_MIN)
        status = mpi_fail(HSHM_E_INVAL, "a direct transfer of %llu bytes", (unsigned long long)head->size);
    if (status == HSHM_OK)
        return send_bytes(mpi, duty, hshm_to_addr(mpi->heap, head->off), head->size);
    answer_failure(duty, status);
    return send_answer(mpi, duty);
}

/* The bytes are on their way in any case.  If they may not be stored they are received elsewhere, as far as there is memory. */
static hshm_status
serve_direct_put(hshm_mpi *mpi, const struct wire_request *head, struct duty *duty, hshm_status status)
{
    void *to = hshm_to_addr(mpi->heap, head->off);
    size_t size = head->size;
    duty->answer.head = (struct wire_answer){ HSHM_OK, 0, 0 };
    if (status != HSHM_OK) {
        answer_failure(duty, status);
        to = duty->drain = malloc(size);
        size = to != NULL ? size : 0;
    }
    status =
        mpi_check(MPI_Irecv(to, (int)size, MPI_BYTE, duty->source, duty->tag + TAG_BYTES, mpi->world, &duty->request),
                  "MPI_Irecv");
    if (status == HSHM_OK)
        add_duty(mpi, duty, DUTY_RECEIVING);
    else
        end_duty(mpi, duty);
    return status;
}

/* ---- looking ---- */

static hshm_status
serve_request(hshm_mpi *mpi, const struct wire_request_message *request, int bytes, int source)
{
    struct duty *duty = new_duty(mpi); /* owner_serve() saw to it that there is one */
    const struct wire_request *head = &request->head;
    duty->source = source;
    duty->tag = (int)head->tag;
    duty->drain = NULL;
    duty->answer.head = (struct wire_answer){ HSHM_OK, 0, 0 };
    hshm_status status = HSHM_OK;
    if (head->generation != mpi->nodes[mpi->node].generation)
        status = mpi_fail(HSHM_E_NOTFOUND, "a request for generation %08x of node %u's heap, which is of %08x",
                          head->generation, mpi->node, mpi->nodes[mpi->node].generation);
    if (head->kind == WIRE_GET_DIRECT || head->kind == WIRE_PUT_DIRECT) {
        if (status == HSHM_OK)
            status = pointer_check(mpi, head->off, head->size);
        return head->kind == WIRE_GET_DIRECT ? serve_direct_get(mpi, head, duty, status)
                                             : serve_direct_put(mpi, head, duty, status);
    }
    const bool known = head->kind < sizeof serve_at_once / sizeof serve_at_once[0] && serve_at_once[head->kind] != NULL;
    if (status == HSHM_OK && !known)
        status = mpi_fail(HSHM_E_INVAL, "a request of the unknown kind %u", head->kind);
    if (status == HSHM_OK)
        status = serve_at_once[head->kind](mpi, request, (size_t)bytes - sizeof *head, &duty->answer);
    if (status != HSHM_OK)
        answer_failure(duty, status);
    return send_answer(mpi, duty);
}

static hshm_status
post(hshm_mpi *mpi, struct posted *posted)
{
    const hshm_status status = mpi_check(MPI_Irecv(&posted->message, (int)sizeof posted->message, MPI_BYTE,
                                                   MPI_ANY_SOURCE, TAG_REQUEST, mpi->world, &posted->request),
                                         "MPI_Irecv");
    if (status != HSHM_OK)
        posted->request = MPI_REQUEST_NULL;
    return status;
}

/* The next of the ring is the oldest now.  Its handle stands in one place at a time, for MPI changes it when it is over. */
static void
watch_oldest(hshm_mpi *mpi)
{
    struct posted *oldest = &mpi->posted[mpi->next_posted];
    place_watch(mpi, PLACE_POSTED, oldest->request);
    oldest->request = MPI_REQUEST_NULL;
}

/* A request is there, as the last look found.  *ret_busy is set if so. */
static hshm_status
take_request(hshm_mpi *mpi, bool *ret_busy)
{
    MPI_Status about;
    if (!place_is_over(mpi, PLACE_POSTED, &about))
        return HSHM_OK;
    struct posted *posted = &mpi->posted[mpi->next_posted];
    struct kept_error kept;
    hshm_status status = HSHM_OK;
    int bytes = 0;
    *ret_busy = true;
    error_keep(&kept);
    (void)MPI_Get_count(&about, MPI_BYTE, &bytes);
    if (bytes >= (int)sizeof posted->message.head)
        status = serve_request(mpi, &posted->message, bytes, about.MPI_SOURCE);
    if (status == HSHM_OK) /* whatever the request came to: MPI did not fail */
        error_restore(&kept);
    mpi->next_posted = (mpi->next_posted + 1) % REQUESTS_POSTED;
    const hshm_status again = post(mpi, posted);
    watch_oldest(mpi);
    return status != HSHM_OK ? status : again;
}

/* One step of a duty.  *ret_over: it is done with. */
static hshm_status
go_on(struct duty *duty, bool *ret_over)
{
    int done = 0;
    *ret_over = false;
    const int answer = MPI_Test(&duty->request, &done, MPI_STATUS_IGNORE);
    /* Bytes that had nowhere to go are cut off, which is no failure of MPI's. */
    const bool cut = answer != MPI_SUCCESS && duty->state == DUTY_RECEIVING && duty->answer.head.status != HSHM_OK;
    const hshm_status status = cut ? HSHM_OK : mpi_check(answer, "MPI_Test");
    if (status != HSHM_OK || (!done && !cut))
        return status;
    *ret_over = true;
    return HSHM_OK;
}

static hshm_status
go_on_with_duties(hshm_mpi *mpi, bool *ret_busy)
{
    struct duty **link = &mpi->duties;
    while (*link != NULL) {
        struct duty *duty = *link;
        bool over = false;
        hshm_status status = go_on(duty, &over);
        if (status != HSHM_OK)
            return status;
        if (!over) {
            link = &duty->next;
            continue;
        }
        *ret_busy = true;
        *link = duty->next;
        if (duty->state == DUTY_SENDING) {
            end_duty(mpi, duty);
            continue;
        }
        status = send_answer(mpi, duty); /* which puts it at the list's head, behind us or before */
        if (status != HSHM_OK)
            return status;
    }
    return HSHM_OK;
}

hshm_status
owner_serve(hshm_mpi *mpi, bool *ret_busy)
{
    if (mpi->posted == NULL)
        return HSHM_OK;
    hshm_status status = HSHM_OK;
    if (mpi->duties != NULL)
        status = go_on_with_duties(mpi, ret_busy);
    /* One to spare, so that a request that was received can be answered. */
    if (status == HSHM_OK && mpi->free_duties == NULL) {
        mpi->free_duties = malloc(sizeof *mpi->free_duties);
        if (mpi->free_duties == NULL)
            return HSHM_OK; /* until one of those under way is done */
        mpi->free_duties->next = NULL;
        mpi->free_duties->drain = NULL;
    }
    return status == HSHM_OK ? take_request(mpi, ret_busy) : status;
}

hshm_status
owner_start(hshm_mpi *mpi)
{
    if (mpi->node_rank != 0 || mpi->node_count < 2)
        return HSHM_OK;
    mpi->posted = calloc(REQUESTS_POSTED, sizeof *mpi->posted);
    if (mpi->posted == NULL)
        return mpi_fail(HSHM_E_NOSPC, "no memory for requests from other nodes");
    for (int i = 0; i < REQUESTS_POSTED; i++)
        mpi->posted[i].request = MPI_REQUEST_NULL;
    hshm_status status = HSHM_OK;
    for (int i = 0; i < REQUESTS_POSTED && status == HSHM_OK; i++)
        status = post(mpi, &mpi->posted[i]);
    if (status == HSHM_OK)
        watch_oldest(mpi);
    return status;
}

static void
free_duties(struct duty *duty)
{
    while (duty != NULL) {
        struct duty *next = duty->next;
        free(duty->drain);
        free(duty);
        duty = next;
    }
}

void
owner_stop(hshm_mpi *mpi)
{
    for (unsigned i = 0; mpi->posted != NULL && i < REQUESTS_POSTED; i++) {
        if (i == mpi->next_posted && *place_request(mpi, PLACE_POSTED) != MPI_REQUEST_NULL) {
            mpi->posted[i].request = *place_request(mpi, PLACE_POSTED);
            *place_request(mpi, PLACE_POSTED) = MPI_REQUEST_NULL;
        }
        if (mpi->posted[i].request == MPI_REQUEST_NULL)
            continue;
        (void)MPI_Cancel(&mpi->posted[i].request);
        (void)MPI_Wait(&mpi->posted[i].request, MPI_STATUS_IGNORE);
    }
    free(mpi->posted);
    mpi->posted = NULL;
    /* Answers that were sent: whoever asked has them, or it would not have come to the fence. */
    for (struct duty *duty = mpi->duties; duty != NULL; duty = duty->next)
        (void)MPI_Wait(&duty->request, MPI_STATUS_IGNORE);
    free_duties(mpi->duties);
    free_duties(mpi->free_duties);
    mpi->duties = mpi->free_duties = NULL;
}
