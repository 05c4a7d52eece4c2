/*
 * scenes.h - heaps of slabs, of both kinds, in all sorts of memory, for a test to work on.
 */
#ifndef HSHM_TESTS_SLAB_SCENES_H
#define HSHM_TESTS_SLAB_SCENES_H

#include "blocks.h"

#include "allocator/allocator.h"

#define MIB ((size_t)1 << 20)
#define KIB ((size_t)1 << 10)

/* Some memory, and how it is cut. */
struct place {
    const char *name; /* " in ..."; follows the kind's */
    hshm_backend_kind backend;
    size_t size;
    size_t min_block; /* 0 = the default                                                         */
    size_t misfit;    /* ARRAY: it begins so many bytes behind a multiple of its size            */
    bool lazy;        /* pages can be given back                                                 */
};

/* A heap of one kind in one place, of the default manager, with ids 1 and {1, 0}. */
struct scene {
    const struct place *place;
    hshm_allocator_kind kind;
    const char *url;
    unsigned char *mapping; /* ARRAY */
    size_t mapping_size;
    hshm_allocator *heap;
};

void scene_make(struct scene *scene, const struct place *place, hshm_allocator_kind kind, size_t custom_size);
void scene_end(struct scene *scene);

/* A heap of the usual sort, and its end: 16 MiB of shared memory, where the short paths of <hshm/inline.h> are taken. */
hshm_allocator *usual_heap(hshm_allocator_kind kind);
void usual_end(void);

/* Both kinds of heaps of slabs. */
extern const hshm_allocator_kind slab_kinds[2];

/* Each case for both kinds, whose number the case finds in *state; its name begins with the kind's. */
struct kind_case {
    const char *name;
    void (*run)(hshm_allocator_kind kind);
};
int run_kinds(const char *group, const struct kind_case *cases, size_t count);
#define KIND_CASE(name) \
    {                   \
#name, name     \
    }

/* One case, for both kinds in each of these places. */
int run_places(const char *group, const struct place *places, size_t count, const char *sentence,
               void (*run)(const struct place *place, hshm_allocator_kind kind));

/* HSHM_TEST_OPERATIONS, or, if it is not set, `usual`; a tenth of that under a sanitizer. */
unsigned long operations(unsigned long usual);

/* Sizes as programs ask for them: mostly small, some around `most`, the size that is a run of its own. */
size_t random_size(uint64_t *random, uint64_t region, uint64_t most);

/*
 * Fill a block of `size` bytes, and look whether its first `kept` are as they were filled; of large blocks only so much of
 * each page that a mistake is noticed.
 */
void sample_fill(void *addr, size_t size, uint64_t key);
bool sample_holds(const void *addr, size_t size, size_t kept, uint64_t key);

#endif
