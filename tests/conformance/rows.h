/*
 * rows.h - the kinds that the conformance tests run over, and a heap of each for a test to work on.
 *
 * A new kind of backend or allocator gets every test here by its row in rows.c.
 */
#ifndef HSHM_TESTS_CONFORMANCE_ROWS_H
#define HSHM_TESTS_CONFORMANCE_ROWS_H

#include "support.h"

/* One cell of the matrix in hshm/allocator.h. */
struct row {
    const char *name;
    hshm_backend_kind backend;
    hshm_allocator_kind allocator;
    const char *device; /* GPU kinds: hshm_backend_options.gpu_device                  */
    hshm_status made;   /* what creating answers: HSHM_OK, HSHM_E_NOTSUP, HSHM_E_DEVICE */
    bool shared;        /* others can attach                                            */
    const char *words;  /* where it is refused: part of the sentence                    */
};

/* Blocks that no processor can touch. */
static inline bool
row_is_on_device(const struct row *row)
{
    return row->backend == HSHM_BACKEND_GPU_MALLOC;
}

/* A region's size there: device memory comes in whole pieces of 2 MiB, all of it for blocks. */
static inline size_t
row_size(const struct row *row, size_t size)
{
    const size_t piece = (size_t)2 << 20;
    return row_is_on_device(row) ? (size + piece - 1) / piece * piece : size;
}

/* Of a block's offset, hshm_resolve() answers an address that can be used, or that there is none. */
static inline hshm_status
row_resolves(const struct row *row)
{
    return row_is_on_device(row) ? HSHM_E_NOTSUP : HSHM_OK;
}

extern const struct row rows[];
extern const size_t row_count;

enum { STAGE_BACKEND = 7, STAGE_MAJOR = 70, STAGE_MINOR = 77 };
#define STAGE_ID ((hshm_allocator_id){ STAGE_MAJOR, STAGE_MINOR })

/* A heap of one row, made by a manager of its own. */
struct stage {
    const struct row *row;
    size_t size;
    const char *url; /* name or path; NULL for kinds without                                           */
    int memfd;       /* ARRAY: what the array is a mapping of, so that others can map it too; else -1  */
    void *array;     /* ARRAY: the mapping; else NULL                                                  */
    hshm_backend_options options;
    hshm_manager *manager;
    hshm_backend *backend;
    hshm_allocator *heap;
};

/* Get ready to create: name, path or array.  Nothing of the library is called. */
void stage_prepare(struct stage *stage, const struct row *row, size_t size);

/* Prepare, and create backend and heap; fails the test when it cannot. */
void stage_make(struct stage *stage, const struct row *row, size_t size, size_t custom_size);

/* Destroy what was made, and end the array. */
void stage_end(struct stage *stage);

/* A second view of the same heap: another manager, another address. */
struct view {
    hshm_manager *manager;
    void *array;
    size_t size;
    hshm_allocator *heap;
};
hshm_status view_try(struct view *view, const struct stage *stage, bool read_only, uint64_t timeout_ms);
void view_open(struct view *view, const struct stage *stage, bool read_only);
void view_close(struct view *view);

/* The same in an exec'd process, from the words that the stage's process handed it. */
void stage_words(const struct stage *stage, char ret_words[4][32]);
void stage_from_words(struct stage *stage, char *const words[4], const char *url);

/* Cases of many rows as one list for cmocka. */
typedef void (*row_case)(void **state);
struct named_case {
    const char *name;
    row_case run;
    bool shared_only;
};
/* GPU kinds: each in a process of its own, because a driver's user cannot fork and use it in the child. */
int run_rows(const char *group, const struct named_case *cases, size_t case_count);

#endif
