/*
 * helper_seeds.c - writes what the fuzzer starts from: inputs of fuzz_attach.c that hold good regions.
 *
 *     helper_seeds FOLDER
 *
 * Stack heaps of several sizes, empty, with blocks, with free room between blocks, with a custom header, with one slot;
 * heaps of slabs, left and still in use; a region without a heap; one that is cut off.  Each with some scripts.  What differs from run to run (ids, times) is
 * set to constants, so the same files come out every time.
 */
#include <hshm/hshm.h>

#include <sched.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/region_format.h"

enum { IMAGE_MAX = 16384, SCRIPT_SIZE = 24 };

static const char *folder;
static alignas(64) unsigned char image[IMAGE_MAX];

static void
expect(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "helper_seeds: %s: %s\n", what, hshm_last_error());
    exit(1);
}

/* Fixed numbers in place of those that tell one run from another. */
static void
normalise(void)
{
    struct region_header *header = (struct region_header *)(void *)image;
    memset(header->uuid, 0x11, sizeof header->uuid);
    header->creator_pid = 1;
    header->creator_uid = 0;
    header->created_ns = 1;
    atomic_store(&header->boot_id[0], 1);
    atomic_store(&header->boot_id[1], 2);
    header->checksum = region_checksum_of_base(header);
    memset(image + header->slots_off, 0, (size_t)header->slot_count * header->slot_size);
}

static void
write_seed(const char *name, uint8_t flags, const uint8_t script[SCRIPT_SIZE], size_t size)
{
    char path[4096];
    expect(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path, "the folder's name is too long");
    FILE *file = fopen(path, "wb");
    expect(file != NULL, path);
    const bool good = fwrite(&flags, 1, 1, file) == 1 && fwrite(script, 1, SCRIPT_SIZE, file) == SCRIPT_SIZE &&
                      fwrite(image, 1, size, file) == size;
    expect(fclose(file) == 0 && good, path);
}

/* Steps of fuzz_attach.c that are worth to begin with: (argument << 4) | code. */
static const uint8_t scripts[][SCRIPT_SIZE] = {
    /* allocate, free all */
    { 0x10, 0x20, 0x30, 0x40, 0x06, 0x16, 0x26, 0x36, 0x46, 0x56 },
    /* sizes of all kinds, realloc up and down, reset */
    { 0x50, 0x60, 0x70, 0x80, 0x0a, 0x1a, 0x2a, 0x3a, 0xb2, 0xc0, 0xd0, 0xe0, 0xf0, 0x0e, 0x10, 0x0b, 0x1b },
    /* aligned blocks, wild and offset frees, rewind */
    { 0x13, 0x24, 0x15, 0x25, 0x35, 0x19, 0x29, 0x39, 0x0c, 0x1c, 0x2c, 0x3c, 0x2d, 0x6d, 0xcd, 0xfd, 0x0f },
};

static void
write_seeds(const char *what, size_t size)
{
    static const struct {
        const char *suffix;
        uint8_t flags, script;
    } variants[] = {
        { "plain", 0x00, 0 },     { "fixed", 0x07, 1 },     { "aligned", 0x07, 2 },
        { "read_only", 0x09, 0 }, { "scribbled", 0x11, 1 },
    };
    normalise();
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        char name[128];
        (void)snprintf(name, sizeof name, "%s_%zu_%s", what, size, variants[i].suffix);
        uint8_t script[SCRIPT_SIZE];
        memcpy(script, scripts[variants[i].script], sizeof script);
        if (variants[i].flags & 0x10)
            script[12] = 0x1f, script[16] = 0xaf, script[20] = 0x0f, script[21] = 0x10, script[22] = 0x13;
        write_seed(name, variants[i].flags, script, size);
    }
}

static hshm_allocator *
make_kind(hshm_allocator_kind kind, size_t size, uint32_t slots, size_t custom_size, size_t min_block)
{
    static const hshm_allocator_id id = { 1, 0 };
    hshm_allocator *heap = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator_options allocator = HSHM_ALLOCATOR_OPTIONS_INIT;
    options.array = image;
    options.slots = slots;
    allocator.min_block = min_block;
    memset(image, 0, sizeof image);
    expect(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, size, "seed", &options, NULL) == HSHM_OK, "create");
    expect(hshm_allocator_create(NULL, 1, id, kind, custom_size, &allocator, &heap) == HSHM_OK, "heap");
    return heap;
}

static hshm_allocator *
make(size_t size, uint32_t slots, size_t custom_size, bool with_heap)
{
    static const hshm_allocator_id id = { 1, 0 };
    hshm_allocator *heap = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.array = image;
    options.slots = slots;
    memset(image, 0, sizeof image);
    expect(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, size, "seed", &options, NULL) == HSHM_OK, "create");
    if (with_heap)
        expect(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, custom_size, NULL, &heap) == HSHM_OK, "heap");
    return heap;
}

static void
finish(const char *what, size_t size)
{
    expect(hshm_backend_detach(NULL, 1) == HSHM_OK, "detach");
    write_seeds(what, size);
}

/* Blocks of many sizes until a third of the heap is taken; every third one freed when asked for. */
static void
fill(hshm_allocator *heap, size_t limit, bool with_holes)
{
    static const size_t sizes[] = { 1, 40, 16, 100, 520, 32, 600, 16, 200 };
    void *blocks[64];
    size_t count = 0;
    for (size_t used = 0; used < limit && count < 64; count++) {
        const size_t size = sizes[count % (sizeof sizes / sizeof sizes[0])];
        blocks[count] = hshm_malloc(heap, size);
        if (blocks[count] == NULL)
            break;
        memset(blocks[count], (int)count, size);
        used += size;
    }
    for (size_t i = 0; with_holes && i + 1 < count; i += 3)
        expect(hshm_free(heap, blocks[i]) == HSHM_OK, "free");
}

static void
make_slabs(hshm_allocator_kind kind, const char *name)
{
    static const size_t sizes[] = { 4096, 8192, 16384 };
    char what[64];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        (void)snprintf(what, sizeof what, "%s_holes", name);
        fill(make_kind(kind, sizes[i], 2, 40, 0), sizes[i] / 4, true);
        finish(what, sizes[i]);
    }
    (void)snprintf(what, sizeof what, "%s_run", name);
    hshm_allocator *heap = make_kind(kind, 16384, 2, 0, 0);
    expect(hshm_malloc(heap, 8193) != NULL, "run");
    fill(heap, 1000, true);
    finish(what, 16384);
    (void)snprintf(what, sizeof what, "%s_coarse", name);
    fill(make_kind(kind, 16384, 2, 0, 256), 3000, true);
    finish(what, 16384);

    /* As it is while its process is at work. */
    static unsigned char in_use[IMAGE_MAX];
    (void)snprintf(what, sizeof what, "%s_in_use", name);
    heap = make_kind(kind, 8192, 2, 0, 0);
    fill(heap, 2000, true);
    memcpy(in_use, image, sizeof image);
    expect(hshm_backend_detach(NULL, 1) == HSHM_OK, "detach");
    memcpy(image, in_use, sizeof image);
    write_seeds(what, 8192);
}

int
main(int argc, char **argv)
{
    static const size_t sizes[] = { HSHM_REGION_SIZE_MIN, 1024, 2048, 4096, 8192 };
    if (argc != 2) {
        fprintf(stderr, "usage: helper_seeds FOLDER\n");
        return 2;
    }
    folder = argv[1];
    /* Where ScalablePage's slabs are at home is written into them: on the first processor, always. */
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    expect(sched_setaffinity(0, sizeof first, &first) == 0, "needs the first processor");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        (void)make(sizes[i], 0, 0, true);
        finish("empty", sizes[i]);
        fill(make(sizes[i], 0, 0, true), sizes[i] / 3, false);
        finish("blocks", sizes[i]);
        fill(make(sizes[i], 1, 0, true), sizes[i] / 3, true);
        finish("holes", sizes[i]);
    }
    fill(make(4096, 3, 100, true), 1000, true);
    finish("custom", 4096);
    make_slabs(HSHM_ALLOCATOR_SCALABLE_PAGE, "page");
    make_slabs(HSHM_ALLOCATOR_THREAD_LOCAL, "thread");
    (void)make(1024, 0, 0, false);
    finish("no_heap", 1024);
    fill(make(4096, 0, 0, true), 1000, true);
    finish("cut_off", 400);
    return 0;
}
