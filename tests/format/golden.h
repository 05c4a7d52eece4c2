/*
 * golden.h - the one heap of which golden images are made: by helper_golden.c once for each format, by test_golden.c each
 * time.
 *
 * 4096 bytes, one Stack, a custom header, blocks of several kinds with free room between them.  What differs from run to
 * run is set to constants afterwards; all other bytes follow from the format and from golden_fill().
 */
#ifndef HSHM_TESTS_GOLDEN_H
#define HSHM_TESTS_GOLDEN_H

#include <fcntl.h>
#include <hshm/hshm.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/region_format.h"

enum {
    GOLDEN_SIZE = 4096,
    GOLDEN_BACKEND = 7,
    GOLDEN_SLOTS = 3,
    GOLDEN_CUSTOM_SIZE = 40,
    GOLDEN_UNTOUCHED = 0xcc /* what an array holds before it becomes a region */
};

static const hshm_allocator_id golden_id = { 11, 22 };

/* The live blocks, by offset.  See the comments in golden_fill() for what lies between them. */
static const struct golden_block {
    hshm_off off;
    size_t size; /* usable */
    unsigned char pattern;
} golden_blocks[] = {
    { 768, 16, 0x01 },  { 800, 112, 0x03 }, { 960, 16, 0x04 },
    { 1024, 48, 0x05 }, { 1072, 16, 0x06 }, { 1088, 1200, 0x07 },
};

/* Put the golden heap on a backend that has none.  False when a call fails; hshm_last_error() has the sentence. */
static inline bool
golden_fill(hshm_manager *manager, hshm_allocator_kind kind)
{
    hshm_allocator *heap = NULL;
    if (hshm_allocator_create(manager, GOLDEN_BACKEND, golden_id, kind, GOLDEN_CUSTOM_SIZE, NULL, &heap) != HSHM_OK)
        return false;
    size_t custom_size = 0;
    memset(hshm_allocator_custom_header(heap, &custom_size), 0xc5, GOLDEN_CUSTOM_SIZE);

    unsigned char *blocks[8] = { NULL };
    blocks[1] = hshm_malloc(heap, 1);
    blocks[2] = hshm_malloc(heap, 10); /* freed below: one free granule */
    blocks[3] = hshm_malloc(heap, 100);
    void *hole = hshm_malloc(heap, 48); /* likewise: three of them */
    blocks[4] = hshm_malloc(heap, 0);
    blocks[5] = hshm_aligned_alloc(heap, 256, 33); /* leaves free room below itself */
    blocks[6] = hshm_malloc(heap, 16);
    blocks[7] = hshm_malloc(heap, 2000);        /* shrunk below: the peak stays */
    if (hshm_malloc(heap, GOLDEN_SIZE) != NULL) /* a failure, which is counted */
        return false;
    if (hole == NULL || blocks[5] == NULL || blocks[7] == NULL || hshm_free(heap, blocks[2]) != HSHM_OK ||
        hshm_free(heap, hole) != HSHM_OK || hshm_realloc(heap, blocks[7], 1200) != blocks[7])
        return false;
    for (size_t i = 0; i < sizeof golden_blocks / sizeof golden_blocks[0]; i++) {
        const struct golden_block *block = &golden_blocks[i];
        unsigned char *addr = hshm_to_addr(heap, block->off);
        if (hshm_usable_size(heap, addr) != block->size)
            return false;
        memset(addr, block->pattern, block->size);
    }
    return true;
}

/* Constants in place of what differs from run to run, of processes and of machines. */
static inline void
golden_normalise(unsigned char *image)
{
    struct region_header *header = (struct region_header *)(void *)image;
    memcpy(header->uuid, "golden image 001", sizeof header->uuid);
    header->creator_pid = 4711;
    header->creator_uid = 1000;
    header->created_ns = UINT64_C(1700000000000000000);
    header->checksum = region_checksum_of_base(header);
    atomic_store(&header->boot_id[0], UINT64_C(0x0123456789abcdef));
    atomic_store(&header->boot_id[1], UINT64_C(0xfedcba9876543210));
    for (uint32_t i = 0; i < header->slot_count && i < GOLDEN_SLOTS; i++) {
        struct region_slot *slot = &((struct region_slot *)(void *)(image + sizeof *header))[i];
        if (slot->pid == 0)
            continue; /* never taken */
        slot->pid = 4711;
        slot->uid = 1000;
        slot->pid_namespace = UINT64_C(4026531836);
        slot->start_time = 12345;
        slot->attached_ns = UINT64_C(1700000000000000000);
        memcpy(slot->command, "helper_golden\0\0", sizeof slot->command);
    }
}

/*
 * Make a golden heap in `image`, `size` bytes at a multiple of that; `fill` allocates in it.
 * `path` is where the file is made; NULL makes an array.
 */
static inline bool
golden_make_with(unsigned char *image, size_t size, const char *path,
                 bool (*fill)(hshm_manager *manager, hshm_allocator_kind kind), hshm_allocator_kind kind)
{
    hshm_manager *manager = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.slots = GOLDEN_SLOTS;
    options.array = image;
    memset(image, GOLDEN_UNTOUCHED, size);
    if (hshm_manager_create(&manager) != HSHM_OK)
        return false;
    bool good =
        hshm_backend_create(manager, GOLDEN_BACKEND, path == NULL ? HSHM_BACKEND_ARRAY : HSHM_BACKEND_POSIX_MMAP, size,
                            path, &options, NULL) == HSHM_OK &&
        fill(manager, kind);
    hshm_manager_destroy(manager);
    if (good && path != NULL) {
        FILE *file = fopen(path, "rb");
        good = file != NULL && fread(image, 1, size, file) == size && fgetc(file) == EOF;
        if (file != NULL)
            (void)fclose(file);
    }
    if (good)
        golden_normalise(image);
    return good;
}

static inline bool
golden_make(unsigned char *image, const char *path)
{
    return golden_make_with(image, GOLDEN_SIZE, path, golden_fill, HSHM_ALLOCATOR_STACK);
}

#endif
