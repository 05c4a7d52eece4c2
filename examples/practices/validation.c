/*
 * validation.c - what to look at when a program that uses a heap is tested.
 *
 * Advice: sizes at and around every border, several orders of freeing, contents that tell whose they are, and alignment at
 * another address.  Then compare: hshm_stats before and after shows leaks, hshm_visit_blocks() which they are, hshm_check() what
 * was overwritten of the heap's own, HSHM_E_BADFREE what was freed twice; and after the end the name must be gone.
 */
#include "practice.h"

#include <inttypes.h>
#include <string.h>

enum { COPIES = 3 };

static const hshm_allocator_id id = { 1, 0 };
static const size_t sizes[] = { 0,     1,     8,     15,    16,     17,     63,     64,      65,     100,
                                255,   256,   257,   511,   1000,   1024,   1025,   4095,    4096,   4097,
                                10000, 65535, 65536, 65537, 100000, 524288, 524289, 1000000, 1048576 };
enum { SIZES = sizeof sizes / sizeof sizes[0], COUNT = SIZES * COPIES };

static hshm_allocator *heap;  /* as this process created it                       */
static hshm_manager *manager; /* of the view below                                */
static hshm_allocator *view;  /* the same heap at another address, if it is named */
static unsigned char *blocks[COUNT];

static void
clean_up(void)
{
    if (manager != NULL)
        hshm_manager_destroy(manager);
    manager = NULL;
}

/* Any byte of any block tells which block it is of. */
static unsigned char
byte_of(size_t nth, size_t at)
{
    return (unsigned char)(nth * 31 + at * 7 + at / 256);
}

static void
take_all(void)
{
    for (size_t nth = 0; nth < COUNT; nth++) {
        const size_t size = sizes[nth % SIZES];
        blocks[nth] = hshm_malloc(heap, size);
        expect(blocks[nth] != NULL, "no room for a block");
        expect((uintptr_t)blocks[nth] % 16 == 0, "a block is not 16-byte aligned");
        expect(hshm_usable_size(heap, blocks[nth]) >= size, "a block is smaller than was asked for");
        for (size_t at = 0; at < size; at++)
            blocks[nth][at] = byte_of(nth, at);
    }
}

/* After all have been written: had two of them a byte in common, one of them would be wrong. */
static void
compare_all(const hshm_allocator *as_seen_by)
{
    for (size_t nth = 0; nth < COUNT; nth++) {
        const unsigned char *block = hshm_to_addr(as_seen_by, hshm_to_off(heap, blocks[nth]));
        for (size_t at = 0; at < sizes[nth % SIZES]; at++)
            expect(block[at] == byte_of(nth, at), "a block does not hold what was written to it");
    }
}

/* ---- Orders of freeing ------------------------------------------------------------------------------------------ */

static size_t
first_to_last(size_t i)
{
    return i;
}

static size_t
last_to_first(size_t i)
{
    return COUNT - 1 - i;
}

static size_t
scattered(size_t i)
{
    _Static_assert(COUNT % 41 != 0, "41 is prime, so each comes once");
    return i * 41 % COUNT;
}

static void
free_all(size_t (*order)(size_t))
{
    for (size_t i = 0; i < COUNT; i++) {
        void *block = blocks[order(i)];
        check(hshm_free(heap, block), "cannot free a block");
        expect(hshm_free(heap, block) == HSHM_E_BADFREE, "a block could be freed twice");
    }
}

/* ---- What is looked at ------------------------------------------------------------------------------------------ */

static int
count_block(const hshm_block *block, void *arg)
{
    uint64_t *count = arg;
    expect(hshm_to_addr(heap, block->off) == block->addr, "offset and address are not of the same block");
    ++*count;
    return 0;
}

/* All ways to count agree, and the heap's own data are whole. */
static void
expect_live(uint64_t wanted)
{
    uint64_t visited = 0;
    check(hshm_visit_blocks(heap, count_block, &visited), "cannot visit the blocks");
    hshm_stats stats = HSHM_STATS_INIT;
    check(hshm_stats_get(heap, &stats), "no statistics");
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    check(hshm_check(heap, 0, &report), "the heap is damaged");
    if (visited != wanted || stats.live_blocks != wanted || report.live_blocks != wanted)
        fprintf(stderr, "%" PRIu64 " blocks wanted, %" PRIu64 " visited, %" PRIu64 " counted\n", wanted, visited,
                stats.live_blocks);
    expect(visited == wanted && stats.live_blocks == wanted && report.live_blocks == wanted,
           "blocks are lost, or too many");
    expect(stats.live_blocks == stats.allocs - stats.frees, "what was taken and not freed is not what is alive");
}

static void
alignments(void)
{
    for (size_t alignment = 16; alignment <= 4096; alignment *= 2) {
        const unsigned char *block = hshm_aligned_alloc(heap, alignment, 100);
        expect(block != NULL && (uintptr_t)block % alignment == 0, "a block is not aligned as was asked");
        const void *seen = view == NULL ? block : hshm_to_addr(view, hshm_to_off(heap, block));
        expect((uintptr_t)seen % alignment == 0, "a block is not aligned at another address");
        check(hshm_free(heap, (void *)(uintptr_t)block), "cannot free an aligned block");
    }
    hshm_ptr none = HSHM_PTR_NULL;
    expect(hshm_allocate_aligned(heap, 100, 48, &none) == HSHM_E_INVAL, "48 was taken for an alignment");
}

static void
validate(const char *name, hshm_allocator_kind cut, hshm_backend_kind backend)
{
    const hshm_backend_options options = lazy();
    check(hshm_backend_create(NULL, BACKEND_ID, backend, 32 * MIB, heap_name, &options, NULL),
          "cannot create the backend");
    check(hshm_allocator_create(NULL, BACKEND_ID, id, cut, 0, NULL, &heap), "cannot create the allocator");
    view = NULL;
    if (backend == HSHM_BACKEND_POSIX_SHM_MMAP) {
        check(hshm_manager_create(&manager), "no second manager");
        check(hshm_backend_attach(manager, backend, heap_name, NULL, NULL), "cannot attach");
        check(hshm_allocator_get(manager, id, cut, &view), "no heap after attach");
    }

    size_t (*const orders[])(size_t) = { first_to_last, last_to_first, scattered };
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        expect_live(0);
        take_all();
        compare_all(heap);
        if (view != NULL)
            compare_all(view);
        expect_live(COUNT);
        free_all(orders[i]);
    }
    alignments();
    expect_live(0);

    clean_up();
    check(hshm_backend_destroy(NULL, BACKEND_ID), "cannot destroy the backend");
    expect(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, heap_name, NULL, NULL) == HSHM_E_NOTFOUND,
           "the name is still there after the end");
    printf("%-13s %d sizes, 3 orders of freeing, alignments to 4096: contents right%s, nothing left over\n", name,
           SIZES, backend == HSHM_BACKEND_MALLOC ? "" : " at two addresses");
}

int
main(void)
{
    begin("validation");
    atexit(clean_up);
    validate("Stack", HSHM_ALLOCATOR_STACK, HSHM_BACKEND_POSIX_SHM_MMAP);
    validate("ScalablePage", HSHM_ALLOCATOR_SCALABLE_PAGE, HSHM_BACKEND_POSIX_SHM_MMAP);
    validate("ThreadLocal", HSHM_ALLOCATOR_THREAD_LOCAL, HSHM_BACKEND_POSIX_SHM_MMAP);
    validate("Malloc", HSHM_ALLOCATOR_MALLOC, HSHM_BACKEND_MALLOC);
    return EXIT_SUCCESS;
}
