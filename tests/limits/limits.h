/*
 * limits.h - what every refusal has to keep: nothing left behind, ids free, and what was there goes on.
 *
 * For the programs of this folder only.
 */
#ifndef HSHM_TESTS_LIMITS_H
#define HSHM_TESTS_LIMITS_H

#include "support.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* What a child answers when the system would not let it set the scene. */
enum { CANNOT_TRY = 77 };

enum { BYSTANDER_ID = 1000, TRIED_ID = 7, PATTERN = 0x5a, PATTERN_SIZE = 1000 };
#define BYSTANDER_ALLOCATOR ((hshm_allocator_id){ BYSTANDER_ID, 0 })
#define TRIED_ALLOCATOR ((hshm_allocator_id){ TRIED_ID, 0 })

/* A heap that has nothing to do with what is refused, and all else that must not change. */
struct witness {
    hshm_allocator *heap;
    unsigned char *block;
    struct footprint before;
};

static inline struct witness
witness_begin(hshm_backend_kind kind, const char *url)
{
    struct witness witness;
    assert_ok(hshm_backend_create(NULL, BYSTANDER_ID, kind, 64 * KIB, url, NULL, NULL));
    assert_ok(
        hshm_allocator_create(NULL, BYSTANDER_ID, BYSTANDER_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, NULL, &witness.heap));
    witness.block = hshm_malloc(witness.heap, PATTERN_SIZE);
    assert_non_null(witness.block);
    memset(witness.block, PATTERN, PATTERN_SIZE);
    witness.before = footprint_take();
    return witness;
}

/* The bystander's block is as it was, and its heap gives and takes. */
static inline void
assert_goes_on(const struct witness *witness)
{
    for (size_t i = 0; i < PATTERN_SIZE; i++)
        assert_int_equal(witness->block[i], PATTERN);
    void *block = hshm_malloc(witness->heap, 100);
    assert_non_null(block);
    assert_ok(hshm_free(witness->heap, block));
}

/* The bystander goes on, and nothing is left of what was tried. */
static inline void
assert_nothing_left(const struct witness *witness)
{
    assert_footprint(witness->before);
    assert_goes_on(witness);
}

static inline void
witness_end(const struct witness *witness)
{
    assert_nothing_left(witness);
    assert_ok(hshm_backend_destroy(NULL, BYSTANDER_ID));
}

/* The id that was tried can be used by others at once. */
static inline void
assert_id_free(hshm_backend_id id)
{
    assert_null(hshm_backend_get(NULL, id));
    assert_ok(hshm_backend_create(NULL, id, HSHM_BACKEND_MALLOC, 4 * KIB, NULL, NULL, NULL));
    assert_ok(hshm_backend_destroy(NULL, id));
}

/*
 * Create must answer `wanted` with a sentence that says `part`, leave *ret_backend alone, and leave nothing behind.
 * Returns the sentence's status, for what else a test wants to see in hshm_last_error().
 */
#define assert_create_refused(kind, size, url, options, wanted, part)                                              \
    do {                                                                                                           \
        hshm_backend *backend_ = (hshm_backend *)&backend_;                                                        \
        const struct footprint before_ = footprint_take();                                                         \
        assert_status(hshm_backend_create(NULL, TRIED_ID, (kind), (size), (url), (options), &backend_), (wanted)); \
        assert_sentence(part);                                                                                     \
        assert_int_equal(hshm_last_status(), (wanted));                                                            \
        assert_ptr_equal(backend_, &backend_);                                                                     \
        assert_footprint(before_);                                                                                 \
    } while (0)

/* Attach likewise. */
#define assert_attach_refused(kind, url, options, wanted, part)                                  \
    do {                                                                                         \
        hshm_backend *backend_ = (hshm_backend *)&backend_;                                      \
        const struct footprint before_ = footprint_take();                                       \
        assert_status(hshm_backend_attach(NULL, (kind), (url), (options), &backend_), (wanted)); \
        assert_sentence(part);                                                                   \
        assert_int_equal(hshm_last_status(), (wanted));                                          \
        assert_ptr_equal(backend_, &backend_);                                                   \
        assert_footprint(before_);                                                               \
    } while (0)

/* A whole life under the id that was tried: create, heap, block, destroy. */
static inline void
assert_create_works(hshm_backend_kind kind, size_t size, const char *url, const hshm_backend_options *options)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, TRIED_ID, kind, size, url, options, NULL));
    assert_ok(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    void *block = hshm_malloc(heap, 16);
    assert_non_null(block);
    memset(block, 1, 16);
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
}

/* Lower (or raise) the soft limit. */
static inline void
set_limit(unsigned resource, rlim_t value)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(resource, &limit), 0);
    limit.rlim_cur = value;
    assert_int_equal(setrlimit(resource, &limit), 0);
}

static inline hshm_backend_options
commit_options(hshm_commit commit)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = commit;
    return options;
}

#endif
