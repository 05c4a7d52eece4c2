/*
 * slab_golden.h - the golden images of heaps of slabs: by helper_golden.c once for each format, by test_slab_golden.c each
 * time.
 *
 * 16 KiB, a custom header, slabs of two classes, one that was emptied, and a run.  See golden.h, whose constants are used too.
 */
#ifndef HSHM_TESTS_SLAB_GOLDEN_H
#define HSHM_TESTS_SLAB_GOLDEN_H

#include <sched.h>
#include <stdlib.h>

#include "golden.h"

enum { SLAB_GOLDEN_SIZE = 16384, SLAB_GOLDEN_ARRAY_ALIGNMENT = 4096 };

/* The live blocks, by the order in which they are taken: what was asked for, what can be used, and what is in them. */
static const struct slab_golden_block {
    size_t asked, usable;
    unsigned char pattern;
    bool freed; /* again, before the image is made */
} slab_golden_blocks[] = {
    { 10, 16, 0x01, false }, { 100, 112, 0x02, false }, { 16, 16, 0x03, true },      { 100, 112, 0x04, true },
    { 1, 16, 0x05, false },  { 97, 112, 0x06, false },  { 8193, 9216, 0x07, false }, { 0, 16, 0x08, false },
};
enum { SLAB_GOLDEN_BLOCKS = sizeof slab_golden_blocks / sizeof slab_golden_blocks[0] };

/*
 * ScalablePage: slabs have no home on processors above the first, in a heap of one shard.  So images are made there: they
 * would tell where they were made.  False when this process may run on the first only.
 */
static inline bool
slab_golden_leave_first_processor(void)
{
    cpu_set_t may;
    if (sched_getaffinity(0, sizeof may, &may) != 0)
        return false;
    CPU_CLR(0, &may);
    return CPU_COUNT(&may) > 0 && sched_setaffinity(0, sizeof may, &may) == 0;
}

static inline bool
slab_golden_fill(hshm_manager *manager, hshm_allocator_kind kind)
{
    hshm_allocator *heap = NULL;
    if (hshm_allocator_create(manager, GOLDEN_BACKEND, golden_id, kind, GOLDEN_CUSTOM_SIZE, NULL, &heap) != HSHM_OK)
        return false;
    memset(hshm_allocator_custom_header(heap, NULL), 0xc5, GOLDEN_CUSTOM_SIZE);
    void *blocks[SLAB_GOLDEN_BLOCKS];
    for (size_t i = 0; i < SLAB_GOLDEN_BLOCKS; i++) {
        blocks[i] = hshm_malloc(heap, slab_golden_blocks[i].asked);
        if (blocks[i] == NULL || hshm_usable_size(heap, blocks[i]) != slab_golden_blocks[i].usable)
            return false;
        memset(blocks[i], slab_golden_blocks[i].pattern, slab_golden_blocks[i].usable);
    }
    void *gone = hshm_malloc(heap, 200);                             /* a slab of its own, which is empty then */
    if (gone == NULL || hshm_malloc(heap, SLAB_GOLDEN_SIZE) != NULL) /* a failure, which is counted */
        return false;
    memset(gone, 0x66, 200);
    bool good = hshm_free(heap, gone) == HSHM_OK;
    for (size_t i = 0; i < SLAB_GOLDEN_BLOCKS; i++)
        good &= !slab_golden_blocks[i].freed || hshm_free(heap, blocks[i]) == HSHM_OK;
    return good;
}

/* Make the heap in `image`, SLAB_GOLDEN_SIZE bytes.  `path` is where the file is made; NULL makes an array. */
static inline bool
slab_golden_make(unsigned char *image, hshm_allocator_kind kind, const char *path)
{
    return golden_make_with(image, SLAB_GOLDEN_SIZE, path, slab_golden_fill, kind);
}

#endif
