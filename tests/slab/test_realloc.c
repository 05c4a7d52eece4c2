/*
 * test_realloc.c - blocks of heaps of slabs that change their size: in their place where they can, and with their content.
 */
#include "scenes.h"

#include <string.h>

static void
a_small_block_stays_while_it_is_half_used(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    for (size_t size = 64; size < 500 * KIB; size = size * 3 / 2) {
        void *block = hshm_malloc(heap, size);
        const size_t usable = hshm_usable_size(heap, block);
        block_fill(block, usable, size);
        assert_ptr_equal(hshm_realloc(heap, block, usable), block);
        assert_ptr_equal(hshm_realloc(heap, block, usable / 2 + 1), block);
        assert_int_equal(hshm_usable_size(heap, block), usable);
        assert_true(block_holds(block, usable, size));

        void *smaller = hshm_realloc(heap, block, usable / 4);
        assert_true(hshm_usable_size(heap, smaller) < usable);
        assert_true(block_holds(smaller, usable / 4, size));
        assert_int_equal(hshm_usable_size(heap, block), 0);

        void *larger = hshm_realloc(heap, smaller, usable + 1);
        assert_true(hshm_usable_size(heap, larger) > usable);
        assert_true(block_holds(larger, usable / 4, size));
        assert_ok(hshm_free(heap, larger));
        assert_int_equal(stats_of(heap).live_blocks, 0);
    }
    assert_emptied(heap);
    usual_end();
}

static void
a_large_block_grows_into_the_free_room_behind_it(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    unsigned char *block = hshm_malloc(heap, 600000);
    block_fill(block, 600000, 1);
    for (size_t size = 700000; size < 10 * MIB; size += 500000) {
        assert_ptr_equal(hshm_realloc(heap, block, size), block);
        assert_true(hshm_usable_size(heap, block) >= size);
        assert_true(block_holds(block, 600000, 1));
        assert_sound(heap);
    }
    assert_int_equal(stats_of(heap).live_blocks, 1);
    assert_int_equal(stats_of(heap).frees, 0);
    assert_ok(hshm_free(heap, block));
    assert_emptied(heap);
    usual_end();
}

static void
a_large_block_with_a_neighbour_moves(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    unsigned char *block = hshm_malloc(heap, 600000);
    unsigned char *neighbour = hshm_malloc(heap, 600000);
    block_fill(block, 600000, 1);
    block_fill(neighbour, 600000, 2);
    unsigned char *moved = hshm_realloc(heap, block, 2 * MIB);
    assert_true(moved > neighbour);
    assert_true(block_holds(moved, 600000, 1));
    assert_block(heap, neighbour, 600000, 2);
    assert_status(hshm_free(heap, block), HSHM_E_BADFREE);
    /* Its old room is free, so that the neighbour's end may go and come back. */
    assert_ptr_equal(hshm_malloc(heap, 600000), block);
    assert_ok(hshm_free(heap, block));
    assert_ok(hshm_free(heap, neighbour));
    assert_ok(hshm_free(heap, moved));
    assert_emptied(heap);
    usual_end();
}

static void
a_large_block_that_shrinks_leaves_its_end_to_others(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    unsigned char *block = hshm_malloc(heap, 8 * MIB);
    unsigned char *wall = hshm_malloc(heap, 6 * MIB);
    assert_non_null(wall);
    block_fill(block, 8 * MIB, 3);
    assert_null(hshm_malloc(heap, 3 * MIB));
    assert_ptr_equal(hshm_realloc(heap, block, 4 * MIB), block);
    assert_int_equal(hshm_usable_size(heap, block), 4 * MIB);
    assert_true(block_holds(block, 4 * MIB, 3));
    unsigned char *other = hshm_malloc(heap, 3 * MIB);
    assert_ptr_equal(other, block + 4 * MIB);
    assert_null(hshm_realloc(heap, block, 5 * MIB)); /* not any more */
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_true(block_holds(block, 4 * MIB, 3));
    assert_sound(heap);
    assert_ok(hshm_free(heap, other));
    assert_ok(hshm_free(heap, wall));
    assert_ok(hshm_free(heap, block));
    assert_emptied(heap);
    usual_end();
}

static void
a_large_block_becomes_small_and_large_again(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    unsigned char *block = hshm_malloc(heap, 3 * MIB);
    block_fill(block, 3 * MIB, 4);
    block = hshm_realloc(heap, block, 1000);
    assert_in_range(hshm_usable_size(heap, block), 1000, 1125);
    assert_true(block_holds(block, 1000, 4));
    assert_true(stats_of(heap).used_bytes < MIB);
    block = hshm_realloc(heap, block, 16);
    assert_int_equal(hshm_usable_size(heap, block), 16);
    assert_true(block_holds(block, 16, 4));
    block = hshm_realloc(heap, block, 3 * MIB);
    assert_true(block_holds(block, 16, 4));
    assert_ok(hshm_free(heap, block));
    assert_emptied(heap);
    usual_end();
}

static void
smaller_always_works(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t data = stats_of(heap).data_bytes;
    unsigned char *block = hshm_malloc(heap, (size_t)data);
    assert_non_null(block);
    sample_fill(block, (size_t)data, 5);
    assert_null(hshm_malloc(heap, 1));
    const uint64_t failures = stats_of(heap).failures;
    /* There is no room for another, and to be small it would have to be in a slab. */
    assert_ptr_equal(hshm_realloc(heap, block, 100), block);
    assert_int_equal(stats_of(heap).failures, failures);
    assert_true(sample_holds(block, (size_t)data, 100, 5));
    assert_sound(heap);
    assert_ok(hshm_free(heap, block));
    assert_emptied(heap);
    usual_end();
}

/* In an array that is not aligned, a run's block begins inside its first slice. */
static void
a_block_that_was_aligned_keeps_its_content_when_resized(hshm_allocator_kind kind)
{
    static const struct place place = { "", HSHM_BACKEND_ARRAY, 16 * MIB, 0, 64, false };
    struct scene scene;
    scene_make(&scene, &place, kind, 0);
    static const size_t sizes[] = { 700000, 100, 3 * MIB, 1 * MIB, 600000, 0, 900000 };
    for (size_t alignment = 64; alignment <= MIB; alignment *= 4) {
        unsigned char *block = hshm_aligned_alloc(scene.heap, alignment, 600000);
        size_t size = 600000;
        for (size_t i = 0; i < COUNTOF(sizes); i++) {
            block_fill(block, size, i);
            block = hshm_realloc(scene.heap, block, sizes[i]);
            assert_non_null(block);
            assert_true(hshm_usable_size(scene.heap, block) >= sizes[i]);
            assert_true(block_holds(block, sizes[i] < size ? sizes[i] : size, i));
            size = sizes[i];
            assert_sound(scene.heap);
        }
        assert_ok(hshm_free(scene.heap, block));
        assert_int_equal(stats_of(scene.heap).live_bytes, 0);
    }
    assert_emptied(scene.heap);
    scene_end(&scene);
}

int
main(void)
{
    static const struct kind_case cases[] = {
        KIND_CASE(a_small_block_stays_while_it_is_half_used),
        KIND_CASE(a_large_block_grows_into_the_free_room_behind_it),
        KIND_CASE(a_large_block_with_a_neighbour_moves),
        KIND_CASE(a_large_block_that_shrinks_leaves_its_end_to_others),
        KIND_CASE(a_large_block_becomes_small_and_large_again),
        KIND_CASE(smaller_always_works),
        KIND_CASE(a_block_that_was_aligned_keeps_its_content_when_resized),
    };
    return run_kinds("slab.realloc", cases, COUNTOF(cases));
}
