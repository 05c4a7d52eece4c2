/*
 * test_realloc.c - blocks that change their size: in place at the top and when they shrink, else by moving; and never
 * half-way.
 */
#include "blocks.h"

#include <string.h>

enum { REGION = 65536 };

static hshm_allocator *
new_stack(void)
{
    return make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
}

static void
the_top_block_grows_in_place(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 16, 17, 33, 40, 500, 511, 512, 513, 1024, 1500, 8000, 30000 };
    hshm_allocator *heap = new_stack();
    unsigned char *low = hshm_malloc(heap, 24);
    unsigned char *block = hshm_malloc(heap, 1);
    block_fill(low, 24, 7);
    for (size_t i = 1; i < sizeof sizes / sizeof sizes[0]; i++) {
        block_fill(block, sizes[i - 1], i);
        assert_ptr_equal(hshm_realloc(heap, block, sizes[i]), block);
        assert_block(heap, block, sizes[i - 1], i);
        assert_int_equal(hshm_usable_size(heap, block), stack_rounded(sizes[i]));
        assert_int_equal(stats_of(heap).used_bytes, 32 + stack_rounded(sizes[i]));
        assert_int_equal(stats_of(heap).live_blocks, 2);
        assert_sound(heap);
    }
    assert_block(heap, low, 24, 7);
    assert_int_equal(stats_of(heap).allocs, 2);
    assert_ok(hshm_free(heap, block));
    assert_int_equal(stats_of(heap).used_bytes, 32);
}

static void
the_top_block_grows_to_the_very_end_and_not_beyond(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    const size_t data = (size_t)stats_of(heap).data_bytes;
    unsigned char *block = hshm_malloc(heap, 100);
    block_fill(block, 100, 1);
    assert_null(hshm_realloc(heap, block, data + 1));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_ptr_equal(hshm_realloc(heap, block, data), block);
    assert_int_equal(stats_of(heap).largest_free, 0);
    assert_block(heap, block, 100, 1);
    assert_sound(heap);
    assert_ptr_equal(hshm_realloc(heap, block, 100), block);
    assert_int_equal(stats_of(heap).used_bytes, 112);
    assert_sound(heap);
}

static void
shrinking_stays_in_place_and_gives_room_back_at_the_top(void **state)
{
    (void)state;
    static const size_t sizes[] = { 30000, 8000, 1025, 1024, 513, 512, 496, 100, 33, 32, 17, 16, 1, 0 };
    hshm_allocator *heap = new_stack();
    unsigned char *low = hshm_malloc(heap, 200);
    unsigned char *block = hshm_malloc(heap, 40000);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        block_fill(block, sizes[i], i);
        assert_ptr_equal(hshm_realloc(heap, block, sizes[i]), block);
        assert_block(heap, block, sizes[i], i);
        assert_int_equal(hshm_usable_size(heap, block), stack_rounded(sizes[i]));
        assert_int_equal(stats_of(heap).used_bytes, 208 + stack_rounded(sizes[i]));
        assert_sound(heap);
    }
    /* Also when what lies under it was freed meanwhile. */
    assert_ok(hshm_free(heap, low));
    assert_ok(hshm_free(heap, block));
    assert_int_equal(stats_of(heap).used_bytes, 0);
}

static void
shrinking_inside_leaves_free_room_that_comes_back_later(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1600, 1000, 512, 496, 48, 16 };
    hshm_allocator *heap = new_stack();
    unsigned char *low = hshm_malloc(heap, 48);
    unsigned char *block = hshm_malloc(heap, 2000);
    unsigned char *high = hshm_malloc(heap, 48);
    block_fill(low, 48, 1);
    block_fill(high, 48, 2);
    const uint64_t used = stats_of(heap).used_bytes;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        block_fill(block, sizes[i], i);
        assert_ptr_equal(hshm_realloc(heap, block, sizes[i]), block);
        assert_block(heap, block, sizes[i], i);
        assert_int_equal(hshm_usable_size(heap, block), stack_rounded(sizes[i]));
        assert_status(hshm_free(heap, block + stack_rounded(sizes[i])), HSHM_E_BADFREE);
        assert_int_equal(stats_of(heap).used_bytes, used);
        assert_int_equal(stats_of(heap).live_blocks, 3);
        assert_sound(heap);
    }
    assert_block(heap, low, 48, 1);
    assert_block(heap, high, 48, 2);
    assert_ok(hshm_free(heap, high));
    assert_int_equal(stats_of(heap).used_bytes, 48 + 16);
    assert_ok(hshm_free(heap, low));
    assert_ok(hshm_free(heap, block));
    assert_int_equal(stats_of(heap).used_bytes, 0);
}

static void
a_block_that_cannot_grow_moves_with_its_content(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    unsigned char *block = hshm_malloc(heap, 1000);
    unsigned char *above = hshm_malloc(heap, 30);
    block_fill(block, 1000, 1);
    block_fill(above, 30, 2);
    unsigned char *moved = hshm_realloc(heap, block, 3000);
    assert_ptr_equal(moved, above + 32);
    assert_block(heap, moved, 1000, 1);
    assert_block(heap, above, 30, 2);
    assert_int_equal(hshm_usable_size(heap, moved), 3008);
    assert_status(hshm_free(heap, block), HSHM_E_BADFREE);
    const hshm_stats stats = stats_of(heap);
    assert_int_equal(stats.live_blocks, 2);
    assert_int_equal(stats.live_bytes, 32 + 3008);
    assert_int_equal(stats.used_bytes, 1008 + 32 + 3008);
    assert_int_equal(stats.allocs, 3);
    assert_int_equal(stats.frees, 1);
    assert_sound(heap);
}

static void
growing_within_the_last_granule_changes_nothing(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    unsigned char *block = hshm_malloc(heap, 33);
    assert_non_null(hshm_malloc(heap, 1));
    const hshm_stats before = stats_of(heap);
    for (size_t size = 33; size <= 48; size++)
        assert_ptr_equal(hshm_realloc(heap, block, size), block);
    assert_same_stats(heap, before);
}

static void
failure_keeps_the_block(void **state)
{
    (void)state;
    static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2, REGION, REGION * 2 };
    hshm_allocator *heap = new_stack();
    hshm_ptr ptr = HSHM_PTR_NULL;
    assert_ok(hshm_allocate(heap, 1000, &ptr));
    assert_non_null(hshm_malloc(heap, 16));
    block_fill(ptr.addr, 1000, 3);
    const hshm_ptr untouched = ptr;
    hshm_stats before = stats_of(heap);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_null(hshm_realloc(heap, ptr.addr, sizes[i]));
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        assert_status(hshm_reallocate(heap, &ptr, sizes[i]), HSHM_E_NOMEM);
        assert_memory_equal(&ptr, &untouched, sizeof ptr);
        assert_block(heap, ptr.addr, 1000, 3);
        before.failures += 2;
        assert_same_stats(heap, before);
    }
    /* It would have to move, and there is less room than the whole heap. */
    const size_t room = (size_t)stats_of(heap).largest_free;
    assert_null(hshm_realloc(heap, ptr.addr, room + 1));
    assert_block(heap, ptr.addr, 1000, 3);
    unsigned char *moved = hshm_realloc(heap, ptr.addr, room);
    assert_non_null(moved);
    assert_block(heap, moved, 1000, 3);
    assert_sound(heap);
}

static void
null_allocates_and_size_0_gives_the_smallest_block(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    unsigned char *block = hshm_realloc(heap, NULL, 100);
    assert_non_null(block);
    assert_int_equal(hshm_usable_size(heap, block), 112);
    assert_ptr_equal(hshm_realloc(heap, block, 0), block);
    assert_int_equal(hshm_usable_size(heap, block), 16);
    assert_int_equal(stats_of(heap).live_blocks, 1);

    hshm_ptr ptr = HSHM_PTR_NULL;
    assert_ok(hshm_reallocate(heap, &ptr, 0));
    assert_ptr_equal(ptr.addr, block + 16);
    assert_int_equal(ptr.shm.off, hshm_to_off(heap, ptr.addr));
    assert_int_equal(ptr.shm.allocator.major, 1);
    assert_int_equal(hshm_usable_size(heap, ptr.addr), 16);
    assert_ok(hshm_free(heap, ptr.addr));
    assert_ok(hshm_free(heap, block));
    assert_int_equal(stats_of(heap).used_bytes, 0);
}

static void
an_offset_alone_is_enough(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    hshm_ptr ptr = HSHM_PTR_NULL;
    assert_ok(hshm_allocate(heap, 50, &ptr));
    block_fill(ptr.addr, 50, 5);
    hshm_ptr by_offset = { NULL, ptr.shm };
    assert_ok(hshm_reallocate(heap, &by_offset, 400));
    assert_ptr_equal(by_offset.addr, ptr.addr);
    assert_int_equal(by_offset.shm.off, ptr.shm.off);

    assert_non_null(hshm_malloc(heap, 1)); /* now it has to move */
    by_offset.addr = NULL;
    assert_ok(hshm_reallocate(heap, &by_offset, 1000));
    assert_ptr_not_equal(by_offset.addr, ptr.addr);
    assert_int_equal(by_offset.shm.off, hshm_to_off(heap, by_offset.addr));
    assert_block(heap, by_offset.addr, 50, 5);

    void *addr = by_offset.addr;
    by_offset.addr = NULL;
    assert_ok(hshm_deallocate(heap, &by_offset));
    assert_int_equal(by_offset.shm.off, HSHM_OFF_NULL);
    assert_int_equal(hshm_usable_size(heap, addr), 0);
    assert_int_equal(stats_of(heap).live_blocks, 1);
    assert_sound(heap);
}

static void
ends_may_move_anywhere_in_the_words_of_the_table(void **state)
{
    (void)state;
    static const size_t lengths[] = { 1, 2, 3, 31, 32, 33, 63, 64, 65, 97 };
    const size_t count = sizeof lengths / sizeof lengths[0];
    hshm_allocator *heap = new_stack();
    for (size_t before = 1; before <= 33; before++) {
        unsigned char *low = hshm_malloc(heap, before * 16);
        for (size_t i = 0; i < count * count; i++) {
            const size_t from = lengths[i / count] * 16;
            const size_t to = lengths[i % count] * 16;
            unsigned char *block = hshm_malloc(heap, from);
            assert_ptr_equal(hshm_realloc(heap, block, to), block);
            assert_int_equal(hshm_usable_size(heap, block), to);
            assert_int_equal(stats_of(heap).used_bytes, before * 16 + to);
            assert_int_equal(hshm_usable_size(heap, low), before * 16);
            assert_sound(heap);
            assert_ok(hshm_free(heap, block));
        }
        assert_ok(hshm_free(heap, low));
        assert_int_equal(stats_of(heap).used_bytes, 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_top_block_grows_in_place, drop_heaps),
        cmocka_unit_test_teardown(the_top_block_grows_to_the_very_end_and_not_beyond, drop_heaps),
        cmocka_unit_test_teardown(shrinking_stays_in_place_and_gives_room_back_at_the_top, drop_heaps),
        cmocka_unit_test_teardown(shrinking_inside_leaves_free_room_that_comes_back_later, drop_heaps),
        cmocka_unit_test_teardown(a_block_that_cannot_grow_moves_with_its_content, drop_heaps),
        cmocka_unit_test_teardown(growing_within_the_last_granule_changes_nothing, drop_heaps),
        cmocka_unit_test_teardown(failure_keeps_the_block, drop_heaps),
        cmocka_unit_test_teardown(null_allocates_and_size_0_gives_the_smallest_block, drop_heaps),
        cmocka_unit_test_teardown(an_offset_alone_is_enough, drop_heaps),
        cmocka_unit_test_teardown(ends_may_move_anywhere_in_the_words_of_the_table, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
