/*
 * fuzz_attach.c - whatever bytes a region holds, nobody who attaches to it crashes, hangs, or touches bytes outside it.
 *
 * An input is
 *     byte  0       flags, see below
 *     bytes 1..24   the script: what to do with the heap, one step a byte
 *     bytes 25..    the region, at most 16 KiB of it
 *
 * The region's bytes are attached as an array that ends where its allocation ends, so that the address sanitizer sees
 * the first byte beyond it.  What is demanded besides:
 *   - a call that fails leaves its results alone; one that succeeds gives nothing outside the region;
 *   - attached read-only, not one byte of the region changes;
 *   - a heap that allocator_check() calls whole stays whole, whatever the script does (but FLAG_SCRIBBLE).
 *
 * In corpus/ lie seeds (helper_seeds.c, by name), what was found once and mended (found_*), and what the fuzzer kept
 * because it reaches more code (by hash).
 */
#include <hshm/hshm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "allocator/allocator.h"
#include "format/region_format.h"

enum {
    FLAG_CHECKSUMS = 1 << 0, /* make the header's checksums right, so that mutations get past them           */
    FLAG_MAGIC = 1 << 1,     /* make the words right that every region begins with                           */
    FLAG_READY = 1 << 2,     /* say that the heap is whole                                                   */
    FLAG_READ_ONLY = 1 << 3, /* attach read-only                                                             */
    FLAG_SCRIBBLE = 1 << 4,  /* let the script overwrite control data, as a hostile process that is attached */

    SCRIPT_SIZE = 24,
    IMAGE_MAX = 16384,
    KEPT = 16 /* addresses that the script works on */
};

struct run {
    unsigned char *bytes; /* the region */
    size_t size;
    uint8_t flags;
    uint8_t script[SCRIPT_SIZE];
    hshm_manager *manager;
    hshm_backend *backend;
    hshm_allocator *heap;
    bool whole; /* allocator_check() said so */
    void *kept[KEPT];
    unsigned next;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finding: end as a crash, which the fuzzer keeps with its input. */
#define DEMAND(condition) ((condition) ? (void)0 : broken_demand(#condition, __LINE__))

static void
broken_demand(const char *condition, int line)
{
    fprintf(stderr, "fuzz_attach.c:%d: not so: %s; last sentence: %s\n", line, condition, hshm_last_error());
    abort();
}

static bool
inside(const struct run *run, const void *addr, uint64_t size)
{
    const uintptr_t off = (uintptr_t)addr - (uintptr_t)run->bytes;
    return off <= run->size && size <= run->size - off;
}

static volatile uint8_t sink;

static void
read_bytes(const void *addr, uint64_t size)
{
    uint8_t sum = 0;
    for (uint64_t i = 0; i < size; i++)
        sum = (uint8_t)(sum ^ ((const uint8_t *)addr)[i]);
    sink = sum;
}

static void
keep(struct run *run, void *addr)
{
    run->kept[run->next++ % KEPT] = addr;
}

/* An address of an odd kind: any offset, any alignment, now and then far away. */
static void *
wild(const struct run *run, uint8_t argument)
{
    static const uintptr_t far[] = { 1, 16, (uintptr_t)1 << 47, UINTPTR_MAX, UINTPTR_MAX - 15, (uintptr_t)1 << 63 };
    if (argument < sizeof far / sizeof far[0])
        return (void *)((uintptr_t)run->bytes + far[argument]);
    return (void *)((uintptr_t)run->bytes + (uintptr_t)argument * 24);
}

static size_t
some_size(uint8_t argument)
{
    static const size_t sizes[16] = {
        0, 1, 16, 17, 48, 100, 9000, 512, 513, 1024, 2048, 4000, (size_t)1 << 40, SIZE_MAX / 2, SIZE_MAX - 15, SIZE_MAX
    };
    return sizes[argument & 15];
}

static bool
is_stack(const struct run *run)
{
    return hshm_allocator_kind_of(run->heap) == HSHM_ALLOCATOR_STACK;
}

/* ---- looking ---- */

/* Heaps of slabs are checked as far as they were ever used.  What comes after has to be free, or it is not whole for long. */
static bool
never_used_is_free(const struct slab_heap *h)
{
    const uint64_t high = atomic_load(&h->root->high);
    for (uint64_t slice = high; slice < h->count; slice++) {
        if (!slice_is_free(atomic_load(&h->slices[slice])) || atomic_load(&record_of(h, slice)->own) != 0 ||
            (atomic_load(&h->taken[slice / 64]) >> slice % 64 & 1) != 0)
            return false;
    }
    return true;
}

static bool
is_whole(struct run *run)
{
    return allocator_check(run->heap) == HSHM_OK && (is_stack(run) || never_used_is_free(&run->heap->slab));
}

struct visit {
    struct run *run;
    const unsigned char *end; /* of the block before                                                     */
    bool in_order;            /* one after the other; slabs of a damaged heap may lie on each other      */
    uint64_t blocks, bytes;
};

static int
visit_block(const hshm_block *block, void *arg)
{
    struct visit *visit = arg;
    DEMAND(block->size > 0 && inside(visit->run, block->addr, block->size));
    DEMAND(visit->end == NULL || visit->end <= (const unsigned char *)block->addr || !visit->in_order);
    DEMAND(hshm_to_off(visit->run->heap, block->addr) == block->off);
    read_bytes(block->addr, block->size);
    keep(visit->run, block->addr);
    visit->end = (const unsigned char *)block->addr + block->size;
    visit->blocks++;
    visit->bytes += block->size;
    return 0;
}

static void
look_at_blocks(struct run *run)
{
    struct visit visit = { .run = run, .in_order = is_stack(run) || run->whole };
    DEMAND(hshm_visit_blocks(run->heap, visit_block, &visit) == HSHM_OK);
    hshm_stats stats = HSHM_STATS_INIT;
    DEMAND(hshm_stats_get(run->heap, &stats) == HSHM_OK);
    DEMAND(stats.live_blocks == visit.blocks && stats.live_bytes == visit.bytes);
    DEMAND(stats.region_bytes <= run->size && stats.data_bytes <= stats.region_bytes);
    DEMAND(stats.used_bytes <= stats.data_bytes && stats.peak_bytes <= stats.data_bytes);
    DEMAND(stats.live_bytes <= stats.used_bytes || !visit.in_order);
    DEMAND(stats.largest_free <= stats.data_bytes - stats.used_bytes);
}

static void
look_at_address(struct run *run, void *addr)
{
    const size_t size = hshm_usable_size(run->heap, addr);
    DEMAND(size == 0 || inside(run, addr, size));
    hshm_shm_ptr where = { { 77, 78 }, 79 };
    if (hshm_identify(run->manager, addr, &where) == HSHM_OK) {
        void *back = NULL;
        DEMAND(addr == NULL || inside(run, addr, 1));
        DEMAND(hshm_resolve(run->manager, where, &back) == HSHM_OK && back == addr);
    } else {
        DEMAND(where.allocator.major == 77 && where.allocator.minor == 78 && where.off == 79);
        DEMAND(size == 0);
    }
    DEMAND(hshm_to_addr(run->heap, hshm_to_off(run->heap, addr)) == addr);
}

static void
look_at_offset(struct run *run, hshm_off off)
{
    void *addr = &run->next;
    const hshm_shm_ptr where = { hshm_allocator_id_of(run->heap), off };
    if (hshm_resolve(run->manager, where, &addr) == HSHM_OK)
        DEMAND(off == HSHM_OFF_NULL ? addr == NULL : inside(run, addr, 1));
    else
        DEMAND(addr == &run->next);
}

static void
look_at_backend(struct run *run)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    DEMAND(hshm_backend_info(run->backend, &info) == HSHM_OK);
    DEMAND(info.base == run->bytes && info.size <= run->size && info.kind == HSHM_BACKEND_ARRAY);
    DEMAND(info.processes <= info.slots && !info.created_here);
    DEMAND(info.ready || (run->flags & FLAG_SCRIBBLE) != 0);
    DEMAND(hshm_backend_get(run->manager, info.id) == run->backend);
    DEMAND(hshm_backend_sync(run->backend) == HSHM_OK);

    /* A second time it is either refused, or (ids apart) as good as the first. */
    const hshm_allocator_id other = { 0x11111111, 0x22222222 };
    DEMAND(hshm_allocator_create(run->manager, info.id, other, HSHM_ALLOCATOR_STACK, 0, NULL, NULL) != HSHM_OK);
}

static void
look(struct run *run)
{
    const hshm_allocator_kind kind = hshm_allocator_kind_of(run->heap);
    DEMAND(kind == HSHM_ALLOCATOR_STACK || kind == HSHM_ALLOCATOR_SCALABLE_PAGE || kind == HSHM_ALLOCATOR_THREAD_LOCAL);
    const bool whole = is_whole(run);
    DEMAND(whole || !run->whole || (run->flags & FLAG_SCRIBBLE) != 0);
    run->whole = whole;
    look_at_backend(run);
    look_at_blocks(run);

    size_t custom_size = 0;
    void *custom = hshm_allocator_custom_header(run->heap, &custom_size);
    DEMAND((custom == NULL) == (custom_size == 0));
    if (custom != NULL) {
        DEMAND(inside(run, custom, custom_size));
        read_bytes(custom, custom_size);
    }

    hshm_stack_height height = 0;
    DEMAND(hshm_stack_mark(run->heap, &height) == (is_stack(run) ? HSHM_OK : HSHM_E_KIND));
    DEMAND(height <= run->size / 16);

    for (size_t i = 0; i < KEPT; i++)
        look_at_address(run, run->kept[i]);
    for (size_t i = 0; i < SCRIPT_SIZE; i++) {
        look_at_address(run, wild(run, run->script[i]));
        look_at_offset(run, (hshm_off)run->script[i] * 31);
        look_at_offset(run, UINT64_MAX - run->script[i]);
    }
}

/* ---- changing ---- */

/* A new block: ours from end to end. */
static void
take(struct run *run, void *addr, size_t size, size_t alignment)
{
    if (addr == NULL)
        return;
    DEMAND(inside(run, addr, size));
    DEMAND((uintptr_t)addr % alignment == 0 || (run->flags & FLAG_SCRIBBLE) != 0);
    memset(addr, 0xa5, size);
    keep(run, addr);
}

static void
give(struct run *run, void *addr)
{
    const hshm_status status = hshm_free(run->heap, addr);
    DEMAND(status == HSHM_OK || status == HSHM_E_BADFREE);
}

static void
resize(struct run *run, unsigned at, size_t size)
{
    void *addr = run->kept[at];
    void *moved = hshm_realloc(run->heap, addr, size);
    if (moved == NULL)
        return;
    take(run, moved, size, GRANULE);
    run->kept[at] = NULL;
}

/* Both forms of pointers, of which the offset may be anything. */
static void
by_offset(struct run *run, uint8_t argument)
{
    hshm_ptr ptr = { NULL, { hshm_allocator_id_of(run->heap), (hshm_off)argument << (argument & 3) } };
    const hshm_ptr before = ptr;
    if (argument % 2 == 0) {
        if (hshm_deallocate(run->heap, &ptr) == HSHM_OK)
            DEMAND(ptr.addr == NULL && ptr.shm.off == HSHM_OFF_NULL);
        else
            DEMAND(ptr.addr == NULL && ptr.shm.off == before.shm.off);
    } else if (hshm_reallocate(run->heap, &ptr, some_size(argument)) == HSHM_OK) {
        take(run, ptr.addr, some_size(argument), GRANULE);
    }
}

static void
rewind_stack(struct run *run, uint8_t argument)
{
    hshm_stack_height height = 0;
    if (!is_stack(run)) {
        DEMAND(hshm_stack_rewind(run->heap, argument) == HSHM_E_KIND);
        return;
    }
    DEMAND(hshm_stack_mark(run->heap, &height) == HSHM_OK);
    const hshm_status status =
        hshm_stack_rewind(run->heap, argument == 15 ? UINT64_MAX / 2 + 1 : height * argument / 12);
    DEMAND(status == HSHM_OK || status == HSHM_E_INVAL);
}

/* What a hostile process could store into the tables of slabs while we are attached. */
static void
scribble_slabs(struct run *run, uint8_t argument)
{
    static const uint64_t values[] = { 0, 1, 3, 0x1000003, 0x2000004, 0x1000005, UINT64_MAX, 0x105, 0x101, 0x10000000 };
    const struct slab_heap *h = &run->heap->slab;
    const uint64_t pattern = UINT64_C(0x9e3779b97f4a7c15) * (argument + run->script[1] * UINT64_C(16) + UINT64_C(1));
    const uint64_t value = argument < sizeof values / sizeof values[0] ? values[argument] : pattern;
    const uint64_t words = run->heap->layout.table_size / sizeof(uint64_t);
    if (argument % 4 == 3) /* the root's words that change */
        atomic_store((_Atomic uint64_t *)(void *)h->root + 8 + pattern % 24, value);
    else
        atomic_store((_Atomic uint64_t *)(void *)h->slices + (pattern >> 8) % words, value);
}

/* The same for the header, the table, or the top of a stack. */
static void
scribble(struct run *run, uint8_t argument)
{
    if (argument == 15)
        memset(run->bytes, 0xff, sizeof(struct region_header) < run->size ? sizeof(struct region_header) : run->size);
    if (!is_stack(run)) {
        scribble_slabs(run, argument);
        return;
    }
    static const uint64_t tops[] = { 1, 3, 63, 65, 0, 127, 1024, UINT64_MAX, UINT64_MAX - 1, (uint64_t)1 << 63 };
    const size_t count = sizeof tops / sizeof tops[0];
    if (argument < count) {
        atomic_store(&run->heap->stack->top, tops[argument]);
        return;
    }
    const uint64_t words = run->heap->layout.table_size / sizeof(stack_word);
    const uint64_t pattern = UINT64_C(0x9e3779b97f4a7c15) * (argument + run->script[0] + UINT64_C(1));
    atomic_store(&run->heap->codes[pattern % words], pattern);
}

static void
step(struct run *run, uint8_t code)
{
    const uint8_t argument = code >> 4;
    const size_t size = some_size(argument);
    void *addr;
    switch (code & 15) {
    case 0:
    case 1:
        take(run, hshm_malloc(run->heap, size), size, GRANULE);
        break;
    case 2:
        addr = hshm_calloc(run->heap, argument + (size_t)1, size);
        take(run, addr, addr == NULL ? 0 : (argument + (size_t)1) * size, GRANULE);
        break;
    case 3:
    case 4:
        take(run, hshm_aligned_alloc(run->heap, (size_t)16 << (code & 7), size), size, (size_t)16 << (code & 7));
        break;
    case 5:
        take(run, hshm_aligned_alloc(run->heap, (size_t)1 << (argument * 4), 64), 64, (size_t)1 << (argument * 4));
        break;
    case 6:
    case 7:
    case 8:
        give(run, run->kept[argument]);
        break;
    case 9:
        give(run, wild(run, (uint8_t)(run->script[argument] ^ code)));
        break;
    case 10:
    case 11:
        resize(run, argument, some_size(run->script[argument]));
        break;
    case 12:
        by_offset(run, run->script[argument]);
        break;
    case 13:
        rewind_stack(run, argument);
        break;
    case 14:
        DEMAND(hshm_stack_reset(run->heap) == (is_stack(run) ? HSHM_OK : HSHM_E_KIND));
        break;
    default:
        if (run->flags & FLAG_SCRIBBLE)
            scribble(run, argument);
        else
            DEMAND(hshm_trim(run->heap, argument, NULL) == HSHM_E_NOTSUP);
        break;
    }
}

static void
change(struct run *run)
{
    for (size_t i = 0; i < SCRIPT_SIZE; i++)
        step(run, run->script[i]);
    look(run);
}

static void
try_to_change(struct run *run)
{
    hshm_stack_height height = 0;
    const hshm_status refused = is_stack(run) ? HSHM_E_PERM : HSHM_E_KIND;
    DEMAND(hshm_stack_mark(run->heap, &height) == (is_stack(run) ? HSHM_OK : HSHM_E_KIND));
    for (size_t i = 0; i < KEPT; i++) {
        DEMAND(hshm_free(run->heap, run->kept[i]) == HSHM_E_PERM);
        DEMAND(hshm_realloc(run->heap, run->kept[i], i * 16) == NULL);
    }
    DEMAND(hshm_malloc(run->heap, 1) == NULL && hshm_aligned_alloc(run->heap, 64, 1) == NULL);
    DEMAND(hshm_calloc(run->heap, 1, 1) == NULL);
    DEMAND(hshm_stack_rewind(run->heap, height) == refused && hshm_stack_reset(run->heap) == refused);
    DEMAND(hshm_trim(run->heap, 0, NULL) == HSHM_E_PERM);
}

/* ---- a run ---- */

static void
make_right(struct run *run)
{
    if (run->size < sizeof(struct region_header))
        return;
    struct region_header *header = (struct region_header *)(void *)run->bytes;
    if (run->flags & FLAG_MAGIC) {
        header->magic = REGION_MAGIC;
        header->format_version = REGION_FORMAT_VERSION;
        header->abi_tag = region_abi_tag();
        header->incompat = 0;
        header->backend_kind = HSHM_BACKEND_ARRAY;
    }
    if (run->flags & FLAG_READY)
        atomic_store(&header->state, REGION_READY);
    if (run->flags & FLAG_CHECKSUMS) {
        header->checksum = region_checksum_of_base(header);
        header->heap_checksum = region_checksum_of_heap(header);
    }
}

static hshm_status
attach(struct run *run)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.array = run->bytes;
    options.array_size = run->size;
    options.read_only = (run->flags & FLAG_READ_ONLY) != 0;
    hshm_backend *untouched = (hshm_backend *)(void *)run;
    run->backend = untouched;
    const hshm_status status = hshm_backend_attach(run->manager, HSHM_BACKEND_ARRAY, NULL, &options, &run->backend);
    DEMAND((status == HSHM_OK) == (run->backend != untouched));
    return status;
}

static void
use(struct run *run)
{
    const struct region_header *header = (const struct region_header *)(void *)run->bytes;
    const hshm_backend_id id = header->backend_id;
    const hshm_allocator_id heap = { header->allocator_major, header->allocator_minor };
    DEMAND(hshm_allocator_get(run->manager, heap, HSHM_ALLOCATOR_ANY, &run->heap) == HSHM_OK);
    DEMAND(hshm_allocator_get(run->manager, heap, HSHM_ALLOCATOR_MALLOC, &run->heap) == HSHM_E_KIND);
    look(run);
    if (run->flags & FLAG_READ_ONLY)
        try_to_change(run);
    else
        change(run);
    DEMAND(hshm_allocator_unregister(run->manager, heap) == HSHM_OK);
    DEMAND(hshm_backend_destroy(run->manager, id) == HSHM_OK);
}

static void
run_region(struct run *run)
{
    unsigned char *before = NULL;
    make_right(run);
    if (run->flags & FLAG_READ_ONLY) {
        before = malloc(run->size + 1);
        DEMAND(before != NULL);
        memcpy(before, run->bytes, run->size);
    }
    DEMAND(hshm_manager_create(&run->manager) == HSHM_OK);
    if (attach(run) == HSHM_OK)
        use(run);
    hshm_manager_destroy(run->manager);
    if (before != NULL)
        DEMAND(memcmp(before, run->bytes, run->size) == 0);
    free(before);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = { 0 };
    if (size <= 1 + SCRIPT_SIZE)
        return 0;
    run.flags = data[0];
    memcpy(run.script, data + 1, SCRIPT_SIZE);
    run.size = size - 1 - SCRIPT_SIZE < IMAGE_MAX ? size - 1 - SCRIPT_SIZE : IMAGE_MAX;
    void *bytes = NULL;
    DEMAND(posix_memalign(&bytes, CACHE_LINE, run.size) == 0);
    run.bytes = bytes;
    memcpy(run.bytes, data + 1 + SCRIPT_SIZE, run.size);
    run_region(&run);
    free(bytes);
    return 0;
}
