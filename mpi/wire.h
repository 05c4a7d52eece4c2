/*
 * wire.h - what ranks and leaders say to each other.
 *
 * All messages travel on a communicator of the library's own.  A request goes to the leader with TAG_REQUEST, and carries
 * the tag under which the answer is expected: each exchange under way has its own, so answers need no matching.
 *
 *     kind        request, and behind it          then                        answer, and behind it
 *     GET_PACKED  `pieces` x wire_piece           -                           the pieces' bytes, one after the other
 *     PUT_PACKED  `pieces` x wire_piece, bytes    -                           -
 *     GET_DIRECT  -                               -                           the bytes alone; an answer if it failed
 *     PUT_DIRECT  -                               the bytes, tag + TAG_BYTES  -
 *     ALLOC       -                               -                           value = offset
 *     FREE        -                               -                           -
 *     FETCH_ADD   -                               -                           value = what was there
 *     CAS         -                               -                           value = what was there
 *
 * A failed answer carries the owner's sentence.  GET_DIRECT's bytes are more than any answer has (DIRECT_MIN), so the
 * length tells them apart.
 *
 * Both sides run the same version (open sees to that), but perhaps on machines of different byte order: such jobs are
 * refused by open, too (the plan has the order in it).
 */
#ifndef HSHM_MPI_WIRE_H
#define HSHM_MPI_WIRE_H

#include <assert.h>
#include <stdint.h>

/* Bytes that follow a request have a tag apart from answers': two leaders may be asking each other under the same number. */
enum { TAG_REQUEST = 1, TAG_OPS = 16, TAG_BYTES = 16384 /* added to the answer's; MPI promises tags up to 32767 */ };

/* OpenMPI's shared memory sends 4096 bytes at once, its own head of a message included. */
enum {
    EAGER_MAX = 4024,      /* bytes of a message                                                           */
    INLINE_MAX = 3968,     /* of these, behind a request or an answer                                      */
    PIECE_MAX = 3968 - 16, /* of a piece that travels packed: with its description they fit behind a request */
    SENTENCE_MAX = 512     /* of an owner's sentence                                                       */
};

enum wire_kind {
    WIRE_GET_PACKED = 1,
    WIRE_PUT_PACKED,
    WIRE_GET_DIRECT,
    WIRE_PUT_DIRECT,
    WIRE_ALLOC,
    WIRE_FREE,
    WIRE_FETCH_ADD,
    WIRE_CAS
};

struct wire_request {
    uint32_t kind;       /* enum wire_kind                             */
    uint32_t tag;        /* of the answer                              */
    uint32_t generation; /* of the heap that is meant; ALLOC: too      */
    uint32_t pieces;     /* PACKED: how many descriptions follow       */
    uint64_t off;        /* in the region                              */
    uint64_t size;       /* bytes                                      */
    uint64_t value;      /* FETCH_ADD: to add; CAS: expected           */
    uint64_t desired;    /* CAS                                        */
};
static_assert(sizeof(struct wire_request) == 48, "no padding");

struct wire_piece {
    uint64_t off;
    uint64_t size;
};
static_assert(sizeof(struct wire_piece) == 16, "no padding");

struct wire_answer {
    int32_t status;  /* hshm_status                                    */
    uint32_t length; /* bytes behind it: data, or of the sentence      */
    uint64_t value;
};
static_assert(sizeof(struct wire_answer) == 16, "no padding");

/* A direct transfer is longer than a failed answer. */
enum { DIRECT_MIN = sizeof(struct wire_answer) + SENTENCE_MAX + 1 };
static_assert(2 * DIRECT_MIN < 4096, "the rest of a chunked piece can be made long enough (HSHM_MPI_CHUNK_MIN)");
static_assert(PIECE_MAX + sizeof(struct wire_piece) <= INLINE_MAX, "a piece fits");

struct wire_request_message {
    struct wire_request head;
    unsigned char data[INLINE_MAX];
};
static_assert(sizeof(struct wire_request_message) <= EAGER_MAX, "else a sender who computes keeps others waiting");

struct wire_answer_message {
    struct wire_answer head;
    unsigned char data[INLINE_MAX];
};
static_assert(sizeof(struct wire_answer_message) <= EAGER_MAX, "likewise");

#endif
