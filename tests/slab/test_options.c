/*
 * test_options.c - the smallest block that a heap of slabs is made for, and what its tables need.
 */
#include "scenes.h"

#include <string.h>

static hshm_status
make_with(hshm_allocator_kind kind, size_t size, size_t min_block, hshm_allocator **ret_heap)
{
    hshm_allocator_options options = HSHM_ALLOCATOR_OPTIONS_INIT;
    options.min_block = min_block;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, size, NULL, NULL, NULL));
    return hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, 0, &options, ret_heap);
}

static void
blocks_are_multiples_of_the_smallest(hshm_allocator_kind kind)
{
    for (size_t min_block = 16; min_block <= 4096; min_block *= 2) {
        hshm_allocator *heap = NULL;
        assert_ok(make_with(kind, 16 * MIB, min_block, &heap));
        void *blocks[300];
        for (size_t i = 0; i < COUNTOF(blocks); i++) {
            const size_t size = i * i / 3;
            blocks[i] = hshm_malloc(heap, size);
            assert_non_null(blocks[i]);
            const size_t usable = hshm_usable_size(heap, blocks[i]);
            assert_int_equal(usable % min_block, 0);
            assert_int_equal((uintptr_t)blocks[i] % min_block, 0);
            if (size > 8 * min_block)
                assert_true((usable - size) * 8 <= usable);
            block_fill(blocks[i], usable, i);
        }
        assert_sound(heap);
        for (size_t i = 0; i < COUNTOF(blocks); i++) {
            assert_block(heap, blocks[i], hshm_usable_size(heap, blocks[i]), i);
            assert_status(hshm_free(heap, (unsigned char *)blocks[i] + 8), HSHM_E_BADFREE);
            assert_ok(hshm_free(heap, blocks[i]));
        }
        assert_emptied(heap);
        usual_end();
    }
}

static void
no_other_size_is_a_smallest_block(hshm_allocator_kind kind)
{
    static const size_t wrong[] = {
        1, 8, 15, 17, 24, 100, 4095, 8192, 65536, SIZE_MAX, SIZE_MAX / 2 + 1, ((size_t)1 << 32) + 16
    };
    for (size_t i = 0; i < COUNTOF(wrong); i++) {
        hshm_allocator *heap = NULL;
        assert_status(make_with(kind, 16 * MIB, wrong[i], &heap), HSHM_E_INVAL);
        assert_sentence("power of two from 16 to 4096");
        assert_null(heap);
        assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, 0, NULL, &heap));
        assert_int_equal(hshm_usable_size(heap, hshm_malloc(heap, 1)), 16);
        usual_end();
    }
}

static void
who_attaches_finds_the_smallest_block(hshm_allocator_kind kind)
{
    static const struct place place = { "", HSHM_BACKEND_POSIX_SHM_MMAP, 16 * MIB, 256, 0, false };
    struct scene scene;
    hshm_manager *other = NULL;
    scene_make(&scene, &place, kind, 0);
    assert_ok(hshm_manager_create(&other));
    assert_ok(hshm_backend_attach(other, place.backend, scene.url, NULL, NULL));
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(other, (hshm_allocator_id){ 1, 0 }, kind, &heap));
    for (size_t i = 0; i < 1000; i++) {
        hshm_ptr here;
        hshm_ptr there;
        assert_ok(hshm_allocate(scene.heap, i, &here));
        assert_ok(hshm_allocate(heap, i, &there));
        assert_int_not_equal(here.shm.off, there.shm.off);
        assert_int_equal(here.shm.off % 256, 0);
        assert_int_equal(there.shm.off % 256, 0);
        assert_ok(hshm_free(heap, hshm_to_addr(heap, here.shm.off)));
        if (i % 2 == 0)
            assert_ok(hshm_deallocate(heap, &there));
    }
    hshm_manager_destroy(other);
    assert_int_equal(stats_of(scene.heap).live_blocks, 500);
    assert_sound(scene.heap);
    scene_end(&scene);
}

static void
others_have_no_smallest_block_to_choose(void **state)
{
    (void)state;
    static const hshm_allocator_kind others[] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_MALLOC };
    for (size_t i = 0; i < COUNTOF(others); i++) {
        hshm_allocator *heap = NULL;
        assert_status(make_with(others[i], MIB, 256, &heap), HSHM_E_NOTSUP);
        assert_sentence("no smallest block that could be chosen");
        usual_end();
        assert_ok(make_with(others[i], MIB, 16, &heap)); /* what it has anyway */
        assert_non_null(hshm_malloc(heap, 1));
        usual_end();
    }
}

/* ---- tables ---- */

/* Shares of the data: what grows with the slices, what with slices and lists of slabs, and what with neither. */
struct shares {
    double slices, lists, fixed;
};

static struct shares
shares_of(hshm_allocator_kind kind, size_t size, size_t min_block)
{
    const struct place place = { "", HSHM_BACKEND_POSIX_SHM_MMAP, size, min_block, 0, true };
    struct scene scene;
    scene_make(&scene, &place, kind, 0);
    const struct heap_layout *layout = &scene.heap->layout;
    const struct slab_heap *h = &scene.heap->slab;
    const double data = (double)layout->data_size;
    const uint64_t all = layout->root_off + layout->root_size - layout->table_off;
    const uint64_t lists = (uint64_t)((unsigned char *)h->threads - (unsigned char *)h->shelves);
    const uint64_t slices =
        (uint64_t)((unsigned char *)h->shelves - (unsigned char *)h->slices) + h->count * h->record_size;
    scene_end(&scene);
    return (struct shares){ (double)slices / data, (double)lists / data, (double)(all - slices - lists) / data };
}

/*
 * A slice of 64 KiB has 64 bytes and two bits for each of its blocks; a word; and a bit for each class of each list (of which
 * ScalablePage has one a processor).  The slots of threads follow the region's size, in steps.
 */
static void
tables_are_small(hshm_allocator_kind kind)
{
    for (size_t size = 16 * MIB; size <= (size_t)4 << 30; size *= 4) {
        const struct shares fine = shares_of(kind, size, 16);
        const struct shares coarse = shares_of(kind, size, 256);
        print_message("%4zu MiB: tables are %.2f %% of the data with blocks of 16 bytes, with 256 %.3f %% for slices, "
                      "%.3f %% for lists, %.3f %% for threads\n",
                      size / MIB, 100 * (fine.slices + fine.lists + fine.fixed), 100 * coarse.slices,
                      100 * coarse.lists, 100 * coarse.fixed);
        assert_true(fine.slices <= 0.018);
        assert_true(coarse.slices <= 0.0022);
        assert_true(coarse.fixed <= 0.017);
    }
}

/* Small regions have small slices; the least that a heap needs is told to who asks for less. */
static void
small_regions_hold_small_heaps(hshm_allocator_kind kind)
{
    size_t least = 0;
    for (size_t size = HSHM_REGION_SIZE_MIN; size <= 64 * KIB; size += 64) {
        hshm_allocator *heap = NULL;
        assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, size, NULL, NULL, NULL));
        const hshm_status status = hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, 0, NULL, &heap);
        if (status == HSHM_OK) {
            least = least == 0 ? size : least;
            void *block = hshm_malloc(heap, 16);
            assert_non_null(block);
            memset(block, 0x55, hshm_usable_size(heap, block));
            assert_sound(heap);
            assert_ok(hshm_free(heap, block));
            assert_emptied(heap);
        } else {
            assert_int_equal(status, HSHM_E_INVAL);
            assert_sentence("its own tables take");
            assert_int_equal(least, 0); /* what is larger works too */
        }
        usual_end();
    }
    assert_in_range(least, HSHM_REGION_SIZE_MIN, 16 * KIB);
}

static int
run_others(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(others_have_no_smallest_block_to_choose,
                                                                  drop_heaps) };
    return cmocka_run_group_tests_name("slab.options: others", tests, NULL, NULL);
}

int
main(void)
{
    static const struct kind_case cases[] = {
        KIND_CASE(blocks_are_multiples_of_the_smallest),  KIND_CASE(no_other_size_is_a_smallest_block),
        KIND_CASE(who_attaches_finds_the_smallest_block), KIND_CASE(tables_are_small),
        KIND_CASE(small_regions_hold_small_heaps),
    };
    return run_kinds("slab.options", cases, COUNTOF(cases)) + run_others();
}
