/*
 * test_aligned.c - blocks at multiples of powers of two, also as another mapping of the region sees them.
 */
#include "blocks.h"

#include "allocator/allocator.h"

enum { REGION = 1 << 20, ALIGNMENT_MAX = 64 << 10 };

static bool
is_multiple(const void *addr, size_t alignment)
{
    return (uintptr_t)addr % alignment == 0;
}

static void
every_alignment_up_to_64_kib_is_kept(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 16, 100, 600, 5000 };
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    for (size_t alignment = 1; alignment <= ALIGNMENT_MAX; alignment *= 2) {
        unsigned char *end = NULL;
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            unsigned char *block = hshm_aligned_alloc(heap, alignment, sizes[i]);
            assert_non_null(block);
            assert_true(is_multiple(block, alignment));
            assert_true(is_multiple(block, 16));
            assert_int_equal(hshm_usable_size(heap, block), stack_rounded(sizes[i]));
            /* The next multiple behind the last block, no other. */
            assert_true(end == NULL || (block >= end && (size_t)(block - end) < alignment) || alignment < 16);
            end = block + stack_rounded(sizes[i]);
            block_fill(block, sizes[i], i);
        }
        assert_sound(heap);
        assert_ok(hshm_stack_reset(heap));
    }
}

static void
small_alignments_cost_nothing(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    unsigned char *first = hshm_malloc(heap, 16);
    for (size_t alignment = 1; alignment <= 16; alignment *= 2) {
        unsigned char *block = hshm_aligned_alloc(heap, alignment, 16);
        assert_ptr_equal(block, first + 16);
        assert_ok(hshm_free(heap, block));
    }
}

static void
what_is_no_power_of_two_is_refused(void **state)
{
    (void)state;
    static const size_t wrong[] = { 0, 3, 5, 6, 12, 24, 48, 100, 4095, 4097, SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2 };
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    const hshm_stats before = stats_of(heap);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        hshm_ptr ptr = HSHM_PTR_NULL;
        assert_status(hshm_allocate_aligned(heap, 64, wrong[i], &ptr), HSHM_E_INVAL);
        assert_null(ptr.addr);
        assert_null(hshm_aligned_alloc(heap, wrong[i], 64));
        assert_int_equal(hshm_last_status(), HSHM_E_INVAL);
        assert_sentence("power of two");
    }
    assert_same_stats(heap, before);
}

static void
an_alignment_that_no_address_in_the_heap_has_finds_no_room(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    static const size_t sizes[] = { 0, 1, 64, SIZE_MAX, SIZE_MAX - 15 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_null(hshm_aligned_alloc(heap, (size_t)1 << 63, sizes[i]));
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        assert_null(hshm_aligned_alloc(heap, (size_t)1 << 62, sizes[i]));
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    }
    assert_int_equal(stats_of(heap).used_bytes, 0);
    assert_int_equal(stats_of(heap).failures, 2 * sizeof sizes / sizeof sizes[0]);
    assert_non_null(hshm_malloc(heap, 64));
    assert_sound(heap);
}

static void
the_gap_left_below_is_free_room_and_comes_back(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    for (size_t alignment = 32; alignment <= ALIGNMENT_MAX; alignment *= 2) {
        void *low = hshm_malloc(heap, 16);
        unsigned char *high = hshm_aligned_alloc(heap, alignment, 40);
        assert_non_null(high);
        const hshm_stats stats = stats_of(heap);
        assert_int_equal(stats.live_blocks, 2);
        assert_int_equal(stats.live_bytes, 16 + 48);
        assert_int_equal(stats.used_bytes, (uint64_t)(high + 48 - (unsigned char *)low));
        assert_sound(heap);
        assert_ok(hshm_free(heap, high));
        assert_int_equal(stats_of(heap).used_bytes, 16);
        assert_sound(heap);
        assert_ok(hshm_free(heap, low));
        assert_int_equal(stats_of(heap).used_bytes, 0);
    }
}

static void
the_last_place_that_is_aligned_can_be_had(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    const size_t alignment = 4096;
    size_t blocks = 0;
    unsigned char *last = NULL;
    for (unsigned char *block; (block = hshm_aligned_alloc(heap, alignment, 1)) != NULL; blocks++)
        last = block;
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    const unsigned char *end = heap->data + stats_of(heap).data_bytes;
    assert_true((size_t)(end - last) <= alignment);
    assert_true(blocks >= REGION / alignment - 16);

    /* What is left behind it still serves the unaligned. */
    const size_t rest = (size_t)stats_of(heap).largest_free;
    assert_int_equal(rest, (size_t)(end - last) - 16);
    if (rest > 0)
        assert_ptr_equal(hshm_malloc(heap, rest), last + 16);
    assert_sound(heap);
}

static void
blocks_are_aligned_in_every_mapping_of_the_region(void **state)
{
    (void)state;
    hshm_manager *other = NULL;
    assert_ok(hshm_manager_create(&other));
    const char *name = test_name("aligned");
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, REGION, HSHM_ALLOCATOR_STACK);
    hshm_allocator *theirs = attach_heap(other, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
    for (size_t alignment = 16; alignment <= ALIGNMENT_MAX; alignment *= 2) {
        hshm_ptr ours = HSHM_PTR_NULL;
        hshm_ptr by_them = HSHM_PTR_NULL;
        assert_ok(hshm_allocate_aligned(heap, 100, alignment, &ours));
        assert_ok(hshm_allocate_aligned(theirs, 100, alignment, &by_them));
        void *seen_by_them = hshm_to_addr(theirs, ours.shm.off);
        void *seen_by_us = hshm_to_addr(heap, by_them.shm.off);
        assert_ptr_not_equal(seen_by_them, ours.addr);
        assert_true(is_multiple(ours.addr, alignment));
        assert_true(is_multiple(seen_by_them, alignment));
        assert_true(is_multiple(by_them.addr, alignment));
        assert_true(is_multiple(seen_by_us, alignment));
        assert_int_equal(hshm_usable_size(theirs, seen_by_them), 112);
        block_fill(ours.addr, 100, alignment);
        assert_block(theirs, seen_by_them, 100, alignment);
        assert_ok(hshm_free(theirs, seen_by_them));
        assert_status(hshm_free(heap, ours.addr), HSHM_E_BADFREE);
        assert_ok(hshm_free(heap, seen_by_us));
    }
    assert_int_equal(stats_of(theirs).used_bytes, 0);
    assert_sound(heap);
    hshm_manager_destroy(other);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_alignment_up_to_64_kib_is_kept, drop_heaps),
        cmocka_unit_test_teardown(small_alignments_cost_nothing, drop_heaps),
        cmocka_unit_test_teardown(what_is_no_power_of_two_is_refused, drop_heaps),
        cmocka_unit_test_teardown(an_alignment_that_no_address_in_the_heap_has_finds_no_room, drop_heaps),
        cmocka_unit_test_teardown(the_gap_left_below_is_free_room_and_comes_back, drop_heaps),
        cmocka_unit_test_teardown(the_last_place_that_is_aligned_can_be_had, drop_heaps),
        cmocka_unit_test_teardown(blocks_are_aligned_in_every_mapping_of_the_region, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
