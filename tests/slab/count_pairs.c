/*
 * count_pairs.c - a program for callgrind: take and free blocks of 64 bytes of a heap of slabs, and nothing else.
 *
 *     count_pairs KIND WAY PAIRS
 *
 * WAY: plain    a block, and freed at once, by hshm_malloc() and hshm_free()
 *      batches  1000 blocks, and then freed in the same order
 *      slots    as plain, by hshm_allocate_to() and hshm_free_from(), of a slot in the custom header
 *      inline   the same by what <hshm/inline.h> has; in count_inline(), which is counted whole
 */
#include "count_pairs.h"

#include <hshm/hshm.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 1000 };

static bool
plain(hshm_allocator *heap, unsigned long pairs)
{
    for (unsigned long i = 0; i < pairs; i++) {
        void *block = hshm_malloc(heap, 64);
        if (block == NULL || hshm_free(heap, block) != HSHM_OK)
            return false;
    }
    return true;
}

static bool
batches(hshm_allocator *heap, unsigned long pairs)
{
    static void *blocks[BATCH];
    for (unsigned long done = 0; done < pairs; done += BATCH) {
        for (size_t i = 0; i < BATCH; i++)
            blocks[i] = hshm_malloc(heap, 64);
        for (size_t i = 0; i < BATCH; i++) {
            if (blocks[i] == NULL || hshm_free(heap, blocks[i]) != HSHM_OK)
                return false;
        }
    }
    return true;
}

static bool
slots(hshm_allocator *heap, unsigned long pairs)
{
    hshm_slot *slot = hshm_allocator_custom_header(heap, NULL);
    for (unsigned long i = 0; i < pairs; i++) {
        if (hshm_allocate_to(heap, 64, slot) != HSHM_OK || hshm_free_from(heap, slot) != HSHM_OK)
            return false;
    }
    return true;
}

static bool
inlined(hshm_allocator *heap, unsigned long pairs)
{
    for (unsigned long done = 0; done < pairs; done += PAIRS_A_CALL) {
        if (!count_inline(heap))
            return false;
    }
    return true;
}

int
main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    hshm_allocator *heap = NULL;
    const hshm_allocator_kind kind = (hshm_allocator_kind)atoi(argv[1]);
    const unsigned long pairs = strtoul(argv[3], NULL, 10);
    /* Lazy: a region of its own pages, which begins where slices can. */
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    if (hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 16 << 20, NULL, &options, NULL) != HSHM_OK ||
        hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, sizeof(hshm_slot), NULL, &heap) != HSHM_OK)
        return 1;
    const bool good = strcmp(argv[2], "plain") == 0     ? plain(heap, pairs)
                      : strcmp(argv[2], "batches") == 0 ? batches(heap, pairs)
                      : strcmp(argv[2], "slots") == 0   ? slots(heap, pairs)
                                                        : inlined(heap, pairs);
    return good ? 0 : 1;
}
