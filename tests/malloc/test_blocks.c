/*
 * test_blocks.c - a Malloc heap, one thread: the system's malloc with a limit, exact books, and wrong frees found out.
 *
 * labels: valgrind
 *
 * How much malloc rounds a size is its own affair (and none of it under sanitizers and valgrind), so what is expected is
 * counted from hshm_usable_size().
 */
#include "blocks.h"

#include <stdlib.h>
#include <string.h>

enum { REGION = 1 << 20 };

static hshm_allocator *
new_heap(void)
{
    return make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
}

/* ---- blocks and figures ---- */

static void
blocks_are_counted_exactly(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 24, 25, 100, 1000, 5000, 100000, 300000 };
    enum { BLOCKS = sizeof sizes / sizeof sizes[0] };
    hshm_allocator *heap = new_heap();
    hshm_stats expected = stats_of(heap);
    assert_int_equal(expected.region_bytes, REGION);
    assert_int_equal(expected.live_bytes + expected.live_blocks + expected.used_bytes + expected.peak_bytes, 0);
    assert_int_equal(expected.free_bytes, expected.data_bytes);
    assert_int_equal(expected.largest_free, expected.data_bytes);
    unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = hshm_malloc(heap, sizes[i]);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        const size_t usable = hshm_usable_size(heap, blocks[i]);
        assert_true(usable >= sizes[i] && usable > 0);
        block_fill(blocks[i], usable, i);
        expected.live_blocks++;
        expected.allocs++;
        expected.live_bytes += usable;
        expected.used_bytes = expected.peak_bytes = expected.live_bytes;
        expected.free_bytes = expected.largest_free = expected.data_bytes - expected.live_bytes;
        assert_same_stats(heap, expected);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        const size_t usable = hshm_usable_size(heap, blocks[i]);
        assert_block(heap, blocks[i], usable, i);
        assert_ok(hshm_free(heap, blocks[i]));
        expected.live_blocks--;
        expected.frees++;
        expected.live_bytes -= usable;
        expected.used_bytes = expected.live_bytes;
        expected.free_bytes = expected.largest_free = expected.data_bytes - expected.live_bytes;
        assert_same_stats(heap, expected);
    }
    assert_int_equal(expected.live_bytes, 0);
    assert_sound(heap);
}

static void
the_limit_is_on_live_bytes(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    void *blocks[64];
    size_t count = 0;
    for (void *block; (block = hshm_malloc(heap, 50000)) != NULL; count++)
        blocks[count] = block;
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_sentence("no room");
    hshm_stats stats = stats_of(heap);
    assert_int_equal(stats.failures, 1);
    assert_int_equal(stats.live_blocks, count);
    assert_true(stats.live_bytes <= stats.data_bytes && stats.peak_bytes <= stats.data_bytes);
    assert_true(stats.data_bytes - stats.live_bytes < 50000 + 8192);

    /* Smaller ones go on, and what is freed can be had again. */
    void *small = hshm_malloc(heap, 100);
    assert_non_null(small);
    assert_ok(hshm_free(heap, small));
    assert_ok(hshm_free(heap, blocks[0]));
    blocks[0] = hshm_malloc(heap, 50000);
    assert_non_null(blocks[0]);
    while (hshm_malloc(heap, 16) != NULL)
        ;
    stats = stats_of(heap);
    assert_true(stats.live_bytes <= stats.data_bytes && stats.peak_bytes <= stats.data_bytes);
    assert_true(stats.free_bytes < 64);
    assert_sound(heap);
}

static void
what_is_larger_than_the_room_is_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2, REGION, REGION * 2 };
    hshm_allocator *heap = new_heap();
    void *block = hshm_malloc(heap, 1000);
    hshm_stats expected = stats_of(heap);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        hshm_ptr ptr = HSHM_PTR_NULL;
        assert_null(hshm_malloc(heap, sizes[i]));
        assert_status(hshm_allocate(heap, sizes[i], &ptr), HSHM_E_NOMEM);
        assert_null(hshm_aligned_alloc(heap, 4096, sizes[i]));
        assert_null(hshm_calloc(heap, 1, sizes[i]));
        assert_null(hshm_realloc(heap, block, sizes[i]));
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        assert_null(ptr.addr);
        expected.failures += 5;
        assert_same_stats(heap, expected);
    }
    assert_null(hshm_malloc(heap, (size_t)expected.largest_free + 1));
    assert_ok(hshm_free(heap, block));
}

static void
calloc_zeroes_and_refuses_products_that_overflow(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    for (size_t size = 1; size < 3000; size += 331) {
        void *dirty = hshm_malloc(heap, size);
        memset(dirty, 0xee, size);
        assert_ok(hshm_free(heap, dirty));
        unsigned char *clean = hshm_calloc(heap, 1, size);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(clean[i], 0);
    }
    assert_null(hshm_calloc(heap, SIZE_MAX / 2, 3));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
}

static void
blocks_may_be_aligned(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        hshm_ptr ptr = HSHM_PTR_NULL;
        assert_ok(hshm_allocate_aligned(heap, 100, alignment, &ptr));
        assert_int_equal((uintptr_t)ptr.addr % alignment, 0);
        assert_int_equal((uintptr_t)ptr.addr % 16, 0);
        assert_int_equal(ptr.shm.off, hshm_to_off(heap, ptr.addr));
        block_fill(ptr.addr, 100, alignment);
        assert_block(heap, ptr.addr, 100, alignment);
        assert_ok(hshm_deallocate(heap, &ptr));
    }
    assert_null(hshm_aligned_alloc(heap, 48, 100));
    assert_int_equal(hshm_last_status(), HSHM_E_INVAL);
    assert_null(hshm_aligned_alloc(heap, 0, 100));
    assert_int_equal(hshm_last_status(), HSHM_E_INVAL);
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_sound(heap);
}

/* ---- wrong frees ---- */

static void
refuse(hshm_allocator *heap, void *addr)
{
    const hshm_stats before = stats_of(heap);
    hshm_ptr ptr = { addr, { { 1, 0 }, 0 } };
    assert_status(hshm_free(heap, addr), HSHM_E_BADFREE);
    assert_sentence("nothing was changed");
    assert_status(hshm_deallocate(heap, &ptr), HSHM_E_BADFREE);
    assert_ptr_equal(ptr.addr, addr);
    assert_null(hshm_realloc(heap, addr, 64));
    assert_int_equal(hshm_last_status(), HSHM_E_BADFREE);
    assert_int_equal(hshm_usable_size(heap, addr), 0);
    assert_int_equal(hshm_last_status(), HSHM_E_BADFREE);
    assert_same_stats(heap, before);
}

static void
wrong_frees_never_reach_malloc(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    hshm_allocator *other = NULL;
    assert_ok(hshm_backend_create(NULL, 2, HSHM_BACKEND_MALLOC, REGION, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_MALLOC, 0, NULL, &other));
    unsigned char *block = hshm_malloc(heap, 1000);
    unsigned char *freed = hshm_malloc(heap, 1000);
    unsigned char *theirs = hshm_malloc(other, 1000);
    unsigned char *libc = malloc(1000);
    int on_the_stack = 0;
    block_fill(block, 1000, 1);
    block_fill(theirs, 1000, 2);
    block_fill(libc, 1000, 3);
    assert_ok(hshm_free(heap, freed));
    refuse(heap, freed);
    refuse(heap, block + 1);
    refuse(heap, block + 16);
    refuse(heap, block - 16);
    refuse(heap, theirs);
    refuse(heap, libc);
    refuse(heap, &on_the_stack);
    refuse(heap, (void *)(uintptr_t)1);
    refuse(heap, (void *)(uintptr_t)16);
    refuse(heap, (void *)UINTPTR_MAX);
    refuse(heap, hshm_to_addr(heap, 1));
    assert_block(heap, block, 1000, 1);
    assert_block(other, theirs, 1000, 2);
    assert_true(block_holds(libc, 1000, 3));
    free(libc);
    assert_ok(hshm_free(heap, NULL));
    assert_ok(hshm_free(heap, block));
    assert_ok(hshm_free(other, theirs));
    assert_sound(heap);
    assert_sound(other);
}

/* ---- realloc ---- */

static void
realloc_keeps_content_and_books(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 10, 1000, 20, 50000, 200000, 300000, 100, 0, 24 };
    hshm_allocator *heap = new_heap();
    unsigned char *block = hshm_realloc(heap, NULL, 40);
    assert_non_null(block);
    size_t size = 40;
    block_fill(block, size, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *moved = hshm_realloc(heap, block, sizes[i]);
        assert_non_null(moved);
        assert_true(block_holds(moved, size < sizes[i] ? size : sizes[i], i));
        block = moved;
        size = sizes[i];
        block_fill(block, size, i + 1);
        const hshm_stats stats = stats_of(heap);
        assert_int_equal(stats.live_blocks, 1);
        assert_int_equal(stats.allocs, 1);
        assert_int_equal(stats.frees, 0);
        assert_int_equal(stats.live_bytes, hshm_usable_size(heap, block));
        assert_true(stats.peak_bytes >= stats.live_bytes);
        assert_sound(heap);
    }
    assert_ok(hshm_free(heap, block));
    assert_int_equal(stats_of(heap).live_bytes, 0);
}

static void
realloc_that_fails_keeps_the_block(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    hshm_ptr ptr = HSHM_PTR_NULL;
    assert_ok(hshm_allocate(heap, 400000, &ptr));
    assert_non_null(hshm_malloc(heap, 400000));
    block_fill(ptr.addr, 400000, 1);
    const hshm_ptr untouched = ptr;
    hshm_stats expected = stats_of(heap);
    assert_status(hshm_reallocate(heap, &ptr, 800000), HSHM_E_NOMEM);
    assert_null(hshm_realloc(heap, ptr.addr, 800000));
    assert_memory_equal(&ptr, &untouched, sizeof ptr);
    assert_block(heap, ptr.addr, 400000, 1);
    expected.failures += 2;
    assert_same_stats(heap, expected);
    /* Room is asked for the difference only. */
    assert_ok(hshm_reallocate(heap, &ptr, 500000));
    assert_block(heap, ptr.addr, 400000, 1);
    assert_sound(heap);
}

/* ---- pointers that travel, as far as they can ---- */

static void
offsets_lead_back_to_blocks(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    hshm_ptr ptr = HSHM_PTR_NULL;
    assert_ok(hshm_allocate(heap, 300, &ptr));
    block_fill(ptr.addr, 300, 1);
    void *addr = NULL;
    assert_ok(hshm_resolve(NULL, ptr.shm, &addr));
    assert_ptr_equal(addr, ptr.addr);
    hshm_shm_ptr found = { { 9, 9 }, 9 };
    assert_ok(hshm_identify(NULL, ptr.addr, &found));
    assert_memory_equal(&found, &ptr.shm, sizeof found);

    hshm_ptr by_offset = { NULL, ptr.shm };
    assert_ok(hshm_reallocate(heap, &by_offset, 3000));
    assert_block(heap, by_offset.addr, 300, 1);
    by_offset.addr = NULL;
    const hshm_shm_ptr gone = by_offset.shm;
    assert_ok(hshm_deallocate(heap, &by_offset));
    addr = &addr;
    assert_status(hshm_resolve(NULL, gone, &addr), HSHM_E_INVAL);
    assert_ptr_equal(addr, &addr);
    assert_int_equal(stats_of(heap).live_blocks, 0);
}

static void
what_lies_in_no_block_is_not_resolved(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    hshm_ptr ptr = HSHM_PTR_NULL;
    assert_ok(hshm_allocate(heap, 300, &ptr));
    void *addr = NULL;
    void *libc = malloc(100);
    hshm_shm_ptr found = { { 9, 9 }, 9 };
    assert_status(hshm_identify(NULL, libc, &found), HSHM_E_NOTFOUND);
    assert_status(hshm_identify(NULL, &found, &found), HSHM_E_NOTFOUND);
    assert_int_equal(found.off, 9);
    const hshm_shm_ptr inside_the_region = { { 1, 0 }, 512 };
    assert_status(hshm_resolve(NULL, inside_the_region, &addr), HSHM_E_INVAL);
    const hshm_shm_ptr libcs = { { 1, 0 }, hshm_to_off(heap, libc) };
    assert_status(hshm_resolve(NULL, libcs, &addr), HSHM_E_INVAL);
    const hshm_shm_ptr unknown = { { 1, 1 }, ptr.shm.off };
    assert_status(hshm_resolve(NULL, unknown, &addr), HSHM_E_NOTFOUND);
    assert_null(addr);
    free(libc);
}

static void
the_custom_header_is_in_the_region(void **state)
{
    (void)state;
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, REGION, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_MALLOC, 500, NULL, &heap));
    size_t size = 0;
    unsigned char *header = hshm_allocator_custom_header(heap, &size);
    assert_int_equal(size, 500);
    assert_int_equal((uintptr_t)header % 64, 0);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(header[i], 0);
    hshm_shm_ptr found;
    void *addr = NULL;
    assert_ok(hshm_identify(NULL, header, &found));
    assert_ok(hshm_resolve(NULL, found, &addr));
    assert_ptr_equal(addr, header);
    refuse(heap, header);
}

/* ---- looking ---- */

enum { VISITED = 500 };

struct seen {
    size_t count, stop_after;
    uint64_t bytes;
    void *blocks[VISITED];
};

static int
note_block(const hshm_block *block, void *arg)
{
    struct seen *seen = arg;
    assert_true(seen->count < VISITED);
    seen->blocks[seen->count++] = block->addr;
    seen->bytes += block->size;
    return seen->count == seen->stop_after;
}

static int
by_address(const void *left, const void *right)
{
    const uintptr_t a = (uintptr_t) * (void *const *)left;
    const uintptr_t b = (uintptr_t) * (void *const *)right;
    return (a > b) - (a < b);
}

static void
a_visit_shows_each_live_block_once(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    void *blocks[VISITED];
    for (size_t i = 0; i < VISITED; i++)
        blocks[i] = hshm_malloc(heap, i * 3);
    for (size_t i = VISITED / 2; i < VISITED; i++)
        assert_ok(hshm_free(heap, blocks[i]));
    struct seen seen = { 0, 0, 0, { NULL } };
    assert_ok(hshm_visit_blocks(heap, note_block, &seen));
    assert_int_equal(seen.count, VISITED / 2);
    assert_int_equal(seen.bytes, stats_of(heap).live_bytes);
    qsort(blocks, VISITED / 2, sizeof blocks[0], by_address);
    qsort(seen.blocks, seen.count, sizeof seen.blocks[0], by_address);
    assert_memory_equal(blocks, seen.blocks, seen.count * sizeof blocks[0]);

    seen = (struct seen){ .stop_after = 7 };
    assert_ok(hshm_visit_blocks(heap, note_block, &seen));
    assert_int_equal(seen.count, 7);
    assert_status(hshm_visit_blocks(heap, NULL, NULL), HSHM_E_INVAL);
}

static void
trimming_asks_malloc_and_leaves_blocks_alone(void **state)
{
    (void)state;
    hshm_allocator *heap = new_heap();
    unsigned char *block = hshm_malloc(heap, 10000);
    block_fill(block, 10000, 1);
    const hshm_stats before = stats_of(heap);
    uint64_t bytes = 99;
    assert_ok(hshm_trim(heap, 0, &bytes));
    assert_int_equal(bytes, 0);
    assert_ok(hshm_trim(heap, 1000, NULL));
    assert_block(heap, block, 10000, 1);
    assert_same_stats(heap, before);
}

/* ---- a model ---- */

enum { MODEL_LIVE = 2000, MODEL_OPERATIONS = 20000 };

struct model_block {
    unsigned char *addr;
    size_t size;
};

/* So many that the tables of live blocks grow, and so mixed that their gaps have to be closed. */
static void
random_calls_keep_blocks_and_books(void **state)
{
    (void)state;
    static struct model_block live[MODEL_LIVE];
    hshm_allocator *heap = new_heap();
    uint64_t random = test_seed();
    size_t count = 0;
    for (int i = 0; i < MODEL_OPERATIONS; i++) {
        const uint64_t kind = next_random(&random) % 8;
        const size_t size = (size_t)(next_random(&random) % 200);
        const size_t at = count == 0 ? 0 : (size_t)(next_random(&random) % count);
        if (count < MODEL_LIVE && (kind < 4 || count == 0)) {
            live[count] = (struct model_block){ hshm_malloc(heap, size), size };
            assert_non_null(live[count].addr);
            block_fill(live[count].addr, size, (uintptr_t)live[count].addr);
            count++;
        } else if (kind == 4) {
            assert_block(heap, live[at].addr, live[at].size, (uintptr_t)live[at].addr);
            live[at] = (struct model_block){ hshm_realloc(heap, live[at].addr, size), size };
            assert_non_null(live[at].addr);
            block_fill(live[at].addr, size, (uintptr_t)live[at].addr);
        } else {
            assert_block(heap, live[at].addr, live[at].size, (uintptr_t)live[at].addr);
            assert_ok(hshm_free(heap, live[at].addr));
            assert_status(hshm_free(heap, live[at].addr), HSHM_E_BADFREE);
            live[at] = live[--count];
        }
        assert_int_equal(stats_of(heap).live_blocks, count);
        if (i % 1000 == 0)
            assert_sound(heap);
    }
    while (count > MODEL_LIVE / 20) {
        count--;
        assert_block(heap, live[count].addr, live[count].size, (uintptr_t)live[count].addr);
        assert_ok(hshm_free(heap, live[count].addr));
    }
    assert_sound(heap);
    assert_int_equal(stats_of(heap).allocs - stats_of(heap).frees, count);
    /* The last ones end with their backend: valgrind and the leak sanitizer look. */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(blocks_are_counted_exactly, drop_heaps),
        cmocka_unit_test_teardown(the_limit_is_on_live_bytes, drop_heaps),
        cmocka_unit_test_teardown(what_is_larger_than_the_room_is_refused, drop_heaps),
        cmocka_unit_test_teardown(calloc_zeroes_and_refuses_products_that_overflow, drop_heaps),
        cmocka_unit_test_teardown(blocks_may_be_aligned, drop_heaps),
        cmocka_unit_test_teardown(wrong_frees_never_reach_malloc, drop_heaps),
        cmocka_unit_test_teardown(realloc_keeps_content_and_books, drop_heaps),
        cmocka_unit_test_teardown(realloc_that_fails_keeps_the_block, drop_heaps),
        cmocka_unit_test_teardown(offsets_lead_back_to_blocks, drop_heaps),
        cmocka_unit_test_teardown(what_lies_in_no_block_is_not_resolved, drop_heaps),
        cmocka_unit_test_teardown(the_custom_header_is_in_the_region, drop_heaps),
        cmocka_unit_test_teardown(a_visit_shows_each_live_block_once, drop_heaps),
        cmocka_unit_test_teardown(trimming_asks_malloc_and_leaves_blocks_alone, drop_heaps),
        cmocka_unit_test_teardown(random_calls_keep_blocks_and_books, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
