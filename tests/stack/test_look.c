/*
 * test_look.c - what a stack tells about itself: statistics, live blocks in order, the custom header.
 */
#include "blocks.h"

#include <string.h>

enum { REGION = 65536 };

static hshm_allocator *
new_stack(void)
{
    return make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
}

/* ---- statistics ---- */

static void
an_empty_heap_has_nothing_but_room(void **state)
{
    (void)state;
    const hshm_stats stats = stats_of(new_stack());
    assert_int_equal(stats.struct_size, sizeof stats);
    assert_int_equal(stats.region_bytes, REGION);
    assert_in_range(stats.data_bytes, REGION * 9 / 10, REGION);
    assert_int_equal(stats.free_bytes, stats.data_bytes);
    assert_int_equal(stats.largest_free, stats.data_bytes);
    assert_int_equal(stats.live_bytes + stats.live_blocks + stats.used_bytes + stats.peak_bytes, 0);
    assert_int_equal(stats.allocs + stats.frees + stats.failures, 0);
    assert_in_range(stats.committed, 1, REGION);
    assert_true(stats.fragmentation == 0);
}

static void
each_figure_follows_each_call(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    hshm_stats expected = stats_of(heap);
    void *first = hshm_malloc(heap, 100);
    void *second = hshm_calloc(heap, 10, 10);
    hshm_ptr third = HSHM_PTR_NULL;
    assert_ok(hshm_allocate(heap, 1000, &third));
    expected.live_blocks = expected.allocs = 3;
    expected.live_bytes = expected.used_bytes = expected.peak_bytes = 112 + 112 + 1008;
    expected.free_bytes = expected.largest_free = expected.data_bytes - expected.live_bytes;
    assert_same_stats(heap, expected);

    assert_ok(hshm_free(heap, second)); /* inside: free, but not to be had */
    expected.live_blocks = 2;
    expected.frees = 1;
    expected.live_bytes -= 112;
    expected.free_bytes += 112;
    assert_same_stats(heap, expected);
    const hshm_stats now = stats_of(heap);
    const double wanted = 1 - (double)now.largest_free / (double)now.free_bytes;
    assert_true(now.fragmentation > 0 && now.fragmentation == wanted);

    assert_null(hshm_malloc(heap, REGION));
    expected.failures = 1;
    assert_same_stats(heap, expected);

    assert_ok(hshm_deallocate(heap, &third)); /* the top: second's room comes back with it */
    expected.live_blocks = 1;
    expected.frees = 2;
    expected.live_bytes = expected.used_bytes = 112;
    expected.free_bytes = expected.largest_free = expected.data_bytes - 112;
    assert_same_stats(heap, expected);

    assert_ok(hshm_free(heap, first));
    expected.live_blocks = expected.live_bytes = expected.used_bytes = 0;
    expected.frees = 3;
    expected.free_bytes = expected.largest_free = expected.data_bytes;
    assert_same_stats(heap, expected);
}

static void
the_peak_is_the_highest_that_the_top_ever_was(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    void *block = hshm_malloc(heap, 5000);
    assert_int_equal(stats_of(heap).peak_bytes, 5008);
    assert_ok(hshm_free(heap, block));
    assert_int_equal(stats_of(heap).peak_bytes, 5008);
    block = hshm_malloc(heap, 1000);
    assert_int_equal(stats_of(heap).peak_bytes, 5008);
    assert_ptr_equal(hshm_realloc(heap, block, 8000), block);
    assert_int_equal(stats_of(heap).peak_bytes, 8000);
    assert_ptr_equal(hshm_realloc(heap, block, 16), block);
    assert_int_equal(stats_of(heap).peak_bytes, 8000);
    assert_non_null(hshm_malloc(heap, 9000));
    assert_ok(hshm_stack_reset(heap));
    assert_int_equal(stats_of(heap).peak_bytes, 16 + 9008);
    assert_null(hshm_malloc(heap, REGION)); /* what failed was never used */
    assert_int_equal(stats_of(heap).peak_bytes, 16 + 9008);
}

static void
only_as_much_as_was_asked_for_is_written(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    struct {
        hshm_stats stats;
        unsigned char behind[64];
    } larger;
    memset(&larger, 0xaa, sizeof larger);
    larger.stats.struct_size = sizeof larger; /* as a later version of the header would say */
    assert_ok(hshm_stats_get(heap, &larger.stats));
    assert_int_equal(larger.stats.struct_size, sizeof larger);
    assert_int_equal(larger.stats.region_bytes, REGION);
    for (size_t i = 0; i < sizeof larger.behind; i++)
        assert_int_equal(larger.behind[i], 0xaa);

    static const size_t wrong[] = { 0, 1, sizeof(hshm_stats) - 1 };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memset(&larger, 0xaa, sizeof larger);
        larger.stats.struct_size = wrong[i];
        assert_status(hshm_stats_get(heap, &larger.stats), HSHM_E_INVAL);
        assert_sentence("struct_size");
        assert_int_equal(larger.stats.struct_size, wrong[i]);
        assert_int_equal(larger.stats.region_bytes, UINT64_C(0xaaaaaaaaaaaaaaaa));
    }
    assert_status(hshm_stats_get(heap, NULL), HSHM_E_INVAL);
    assert_status(hshm_stats_get(NULL, &larger.stats), HSHM_E_INVAL);
}

/* ---- visiting ---- */

enum { VISIT_MAX = 64 };

struct seen {
    hshm_allocator *heap;
    size_t count, stop_after;
    hshm_block blocks[VISIT_MAX];
};

static int
note_block(const hshm_block *block, void *arg)
{
    struct seen *seen = arg;
    assert_true(seen->count < VISIT_MAX);
    assert_int_equal(block->off, hshm_to_off(seen->heap, block->addr));
    assert_int_equal(block->size, hshm_usable_size(seen->heap, block->addr));
    seen->blocks[seen->count++] = *block;
    return seen->count == seen->stop_after;
}

static struct seen
visit(hshm_allocator *heap, size_t stop_after)
{
    struct seen seen = { .heap = heap, .stop_after = stop_after };
    assert_ok(hshm_visit_blocks(heap, note_block, &seen));
    return seen;
}

static void
a_visit_shows_live_blocks_in_order(void **state)
{
    (void)state;
    enum { BLOCKS = 40 };
    hshm_allocator *heap = new_stack();
    assert_int_equal(visit(heap, 0).count, 0);
    unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = i % 5 == 4 ? hshm_aligned_alloc(heap, 256, i * 20) : hshm_malloc(heap, i * 40);
    assert_int_equal(visit(heap, 0).count, BLOCKS);
    for (size_t i = 0; i < BLOCKS; i += 3)
        assert_ok(hshm_free(heap, blocks[i]));

    const struct seen seen = visit(heap, 0);
    size_t at = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % 3 != 0)
            assert_ptr_equal(seen.blocks[at++].addr, blocks[i]);
    }
    assert_int_equal(at, seen.count);
    assert_int_equal(seen.count, stats_of(heap).live_blocks);
}

static void
a_visit_ends_when_the_function_says_so(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    for (size_t i = 0; i < 10; i++)
        assert_non_null(hshm_malloc(heap, 50 * i));
    assert_int_equal(visit(heap, 1).count, 1);
    assert_int_equal(visit(heap, 4).count, 4);
    assert_int_equal(visit(heap, 10).count, 10);
    assert_status(hshm_visit_blocks(heap, NULL, NULL), HSHM_E_INVAL);
}

static int
free_it(const hshm_block *block, void *arg)
{
    assert_ok(hshm_free(arg, block->addr));
    return 0;
}

static void
the_function_may_free_what_it_is_shown(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    for (size_t i = 0; i < 100; i++)
        assert_non_null(hshm_malloc(heap, 10 * i));
    assert_ok(hshm_visit_blocks(heap, free_it, heap));
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_int_equal(stats_of(heap).used_bytes, 0);
    assert_sound(heap);
}

/* ---- the custom header ---- */

static void
the_custom_header_is_zero_aligned_and_at_the_same_offset_everywhere(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 8, 63, 64, 65, 1000, 20000 };
    hshm_manager *other = NULL;
    assert_ok(hshm_manager_create(&other));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const char *name = test_name("custom");
        hshm_allocator *heap = NULL;
        assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, REGION, name, NULL, NULL));
        assert_ok(
            hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, sizes[i], NULL, &heap));
        size_t size = 0;
        unsigned char *header = hshm_allocator_custom_header(heap, &size);
        assert_non_null(header);
        assert_int_equal(size, sizes[i]);
        assert_int_equal((uintptr_t)header % 64, 0);
        for (size_t at = 0; at < size; at++)
            assert_int_equal(header[at], 0);
        block_fill(header, size, i);

        hshm_allocator *theirs = attach_heap(other, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
        size = 0;
        unsigned char *seen = hshm_allocator_custom_header(theirs, &size);
        assert_int_equal(size, sizes[i]);
        assert_ptr_not_equal(seen, header);
        assert_int_equal(hshm_to_off(theirs, seen), hshm_to_off(heap, header));
        assert_true(block_holds(seen, size, i));

        /* Blocks leave it alone, and it is no block. */
        void *all = hshm_malloc(heap, (size_t)stats_of(heap).data_bytes);
        assert_non_null(all);
        memset(all, 0x77, (size_t)stats_of(heap).data_bytes);
        assert_true(block_holds(header, size, i));
        assert_status(hshm_free(heap, header), HSHM_E_BADFREE);
        assert_ok(hshm_backend_detach(other, 1));
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
    hshm_manager_destroy(other);
}

static void
without_a_custom_header_there_is_none(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    size_t size = 99;
    assert_null(hshm_allocator_custom_header(heap, &size));
    assert_int_equal(size, 0);
    assert_null(hshm_allocator_custom_header(heap, NULL));
}

static void
a_custom_header_that_does_not_fit_leaves_the_backend_usable(void **state)
{
    (void)state;
    static const size_t sizes[] = { REGION, REGION - 1024, SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2 };
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, REGION, NULL, NULL, NULL));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_status(
            hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, sizes[i], NULL, &heap),
            HSHM_E_INVAL);
        assert_null(heap);
        assert_sentence("custom header");
    }
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 4096, NULL, &heap));
    assert_non_null(hshm_malloc(heap, 100));
}

static void
the_largest_custom_header_leaves_one_block(void **state)
{
    (void)state;
    /* Sizes that the region's rest cannot hold are refused, down to one that leaves room for a single granule. */
    hshm_allocator *heap = NULL;
    size_t size = REGION;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, REGION, NULL, NULL, NULL));
    while (hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, size, NULL, &heap) !=
           HSHM_OK)
        size -= 16;
    const hshm_stats stats = stats_of(heap);
    assert_in_range(stats.data_bytes, 16, 256);
    unsigned char *header = hshm_allocator_custom_header(heap, NULL);
    memset(header, 0x5a, size);
    void *block = hshm_malloc(heap, (size_t)stats.data_bytes);
    assert_non_null(block);
    memset(block, 0xa5, (size_t)stats.data_bytes);
    for (size_t at = 0; at < size; at++)
        assert_int_equal(header[at], 0x5a);
    assert_sound(heap);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_empty_heap_has_nothing_but_room, drop_heaps),
        cmocka_unit_test_teardown(each_figure_follows_each_call, drop_heaps),
        cmocka_unit_test_teardown(the_peak_is_the_highest_that_the_top_ever_was, drop_heaps),
        cmocka_unit_test_teardown(only_as_much_as_was_asked_for_is_written, drop_heaps),
        cmocka_unit_test_teardown(a_visit_shows_live_blocks_in_order, drop_heaps),
        cmocka_unit_test_teardown(a_visit_ends_when_the_function_says_so, drop_heaps),
        cmocka_unit_test_teardown(the_function_may_free_what_it_is_shown, drop_heaps),
        cmocka_unit_test_teardown(the_custom_header_is_zero_aligned_and_at_the_same_offset_everywhere, drop_heaps),
        cmocka_unit_test_teardown(without_a_custom_header_there_is_none, drop_heaps),
        cmocka_unit_test_teardown(a_custom_header_that_does_not_fit_leaves_the_backend_usable, drop_heaps),
        cmocka_unit_test_teardown(the_largest_custom_header_leaves_one_block, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
