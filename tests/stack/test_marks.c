/*
 * test_marks.c - marks, rewinding to them, and starting anew.
 */
#include "blocks.h"

#include <string.h>

enum { REGION = 65536 };

static hshm_allocator *
new_stack(void)
{
    return make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
}

static hshm_stack_height
mark_of(hshm_allocator *heap)
{
    hshm_stack_height height = UINT64_MAX;
    assert_ok(hshm_stack_mark(heap, &height));
    return height;
}

static void
rewinding_frees_what_was_taken_after_the_mark_and_nothing_else(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    unsigned char *low = hshm_malloc(heap, 700);
    block_fill(low, 700, 1);
    const hshm_stack_height mark = mark_of(heap);
    const hshm_stats at_mark = stats_of(heap);
    unsigned char *above[20];
    for (size_t i = 0; i < 20; i++) {
        above[i] = hshm_malloc(heap, i * 60);
        assert_non_null(above[i]);
    }
    const uint64_t peak = stats_of(heap).used_bytes;
    assert_ok(hshm_free(heap, above[7])); /* freed room goes too */
    assert_ok(hshm_stack_rewind(heap, mark));
    hshm_stats expected = at_mark;
    expected.allocs += 20;
    expected.frees += 20;
    expected.peak_bytes = peak;
    assert_same_stats(heap, expected);
    assert_block(heap, low, 700, 1);
    for (size_t i = 0; i < 20; i++)
        assert_status(hshm_free(heap, above[i]), HSHM_E_BADFREE);
    assert_sound(heap);
    assert_ptr_equal(hshm_malloc(heap, 1), above[0]);
}

static void
marks_nest_and_may_be_used_again(void **state)
{
    (void)state;
    enum { DEPTH = 10 };
    hshm_allocator *heap = new_stack();
    hshm_stack_height marks[DEPTH];
    void *blocks[DEPTH];
    for (size_t i = 0; i < DEPTH; i++) {
        marks[i] = mark_of(heap);
        blocks[i] = hshm_malloc(heap, 100 * i + 1);
        assert_non_null(blocks[i]);
    }
    for (size_t i = DEPTH; i-- > 0;) {
        assert_ok(hshm_stack_rewind(heap, marks[i]));
        assert_int_equal(stats_of(heap).live_blocks, i);
        assert_ok(hshm_stack_rewind(heap, marks[i])); /* nothing is above it any more: nothing happens */
        assert_int_equal(stats_of(heap).live_blocks, i);
        assert_ptr_equal(hshm_malloc(heap, 2000), blocks[i]);
        assert_ok(hshm_stack_rewind(heap, marks[i]));
        assert_sound(heap);
    }
    assert_int_equal(stats_of(heap).used_bytes, 0);
}

static void
a_mark_above_the_top_is_refused(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    void *low = hshm_malloc(heap, 100);
    void *high = hshm_malloc(heap, 100);
    const hshm_stack_height mark = mark_of(heap);
    assert_ok(hshm_free(heap, high));
    const hshm_stats before = stats_of(heap);
    assert_status(hshm_stack_rewind(heap, mark), HSHM_E_INVAL);
    assert_sentence("top");
    assert_status(hshm_stack_rewind(heap, UINT64_MAX), HSHM_E_INVAL);
    assert_status(hshm_stack_rewind(heap, mark_of(heap) + 1), HSHM_E_INVAL);
    assert_status(hshm_stack_rewind(heap, UINT64_MAX / 16 + 2), HSHM_E_INVAL);
    assert_same_stats(heap, before);
    assert_sound(heap);
    assert_ok(hshm_free(heap, low));
}

static void
a_mark_that_cuts_a_live_block_is_refused(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    void *first = hshm_malloc(heap, 64);
    assert_non_null(hshm_malloc(heap, 64));
    const hshm_stack_height mark = mark_of(heap);
    assert_ok(hshm_stack_reset(heap));

    /* One granule short of it, one beyond, and far beyond. */
    static const size_t refused[] = { 129, 144, 600, 5000 };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        unsigned char *block = hshm_malloc(heap, refused[i]);
        assert_ptr_equal(block, first);
        block_fill(block, refused[i], i);
        const hshm_stats before = stats_of(heap);
        assert_status(hshm_stack_rewind(heap, mark), HSHM_E_INVAL);
        assert_sentence("live block");
        assert_same_stats(heap, before);
        assert_block(heap, block, refused[i], i);
        assert_sound(heap);
        assert_ok(hshm_free(heap, block));
    }
    void *exact = hshm_malloc(heap, 128);
    assert_ptr_equal(exact, first);
    assert_ok(hshm_stack_rewind(heap, mark)); /* ends just there */
    assert_int_equal(hshm_usable_size(heap, exact), 128);
}

static void
a_mark_in_free_room_takes_that_room_back_too(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    void *low = hshm_malloc(heap, 32);
    void *middle = hshm_malloc(heap, 320);
    const hshm_stack_height mark = mark_of(heap);
    void *high = hshm_malloc(heap, 16);
    assert_ok(hshm_free(heap, middle));
    assert_int_equal(hshm_usable_size(heap, high), 16);
    assert_ok(hshm_stack_rewind(heap, mark));
    assert_int_equal(stats_of(heap).used_bytes, 32);
    assert_int_equal(hshm_usable_size(heap, low), 32);
    assert_sound(heap);
    assert_status(hshm_stack_rewind(heap, mark), HSHM_E_INVAL); /* it lies above the top by now */
}

static void
reset_frees_everything(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    assert_ok(hshm_stack_reset(heap)); /* of an empty heap: nothing happens */
    assert_int_equal(stats_of(heap).frees, 0);
    uint64_t random = test_seed();
    uint64_t blocks = 0;
    void *last = NULL;
    for (void *block; (block = hshm_malloc(heap, next_random(&random) % 1500)) != NULL; blocks++)
        last = block;
    assert_non_null(last);
    const uint64_t peak = stats_of(heap).used_bytes;
    assert_ok(hshm_stack_reset(heap));
    const hshm_stats stats = stats_of(heap);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.live_blocks, 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(stats.frees, blocks);
    assert_int_equal(stats.allocs, blocks);
    assert_int_equal(stats.peak_bytes, peak);
    assert_int_equal(stats.failures, 1);
    assert_status(hshm_free(heap, last), HSHM_E_BADFREE);
    assert_sound(heap);
    assert_non_null(hshm_malloc(heap, (size_t)stats.data_bytes));
}

static void
marks_are_the_same_in_every_process(void **state)
{
    (void)state;
    hshm_manager *other = NULL;
    assert_ok(hshm_manager_create(&other));
    const char *name = test_name("marks");
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, REGION, HSHM_ALLOCATOR_STACK);
    hshm_allocator *theirs = attach_heap(other, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
    assert_non_null(hshm_malloc(heap, 100));
    const hshm_stack_height mark = mark_of(heap);
    assert_int_equal(mark_of(theirs), mark);
    void *block = hshm_malloc(heap, 100);
    assert_ok(hshm_stack_rewind(theirs, mark));
    assert_status(hshm_free(heap, block), HSHM_E_BADFREE);
    assert_int_equal(mark_of(heap), mark);
    hshm_manager_destroy(other);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_malloc_heap_has_no_marks(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    hshm_stack_height height = 12345;
    assert_status(hshm_stack_mark(heap, &height), HSHM_E_KIND);
    assert_int_equal(height, 12345);
    assert_status(hshm_stack_mark(heap, NULL), HSHM_E_KIND);
    assert_status(hshm_stack_rewind(heap, 0), HSHM_E_KIND);
    assert_status(hshm_stack_reset(heap), HSHM_E_KIND);
    assert_sentence("no Stack");
}

static void
a_null_result_is_refused(void **state)
{
    (void)state;
    assert_status(hshm_stack_mark(new_stack(), NULL), HSHM_E_INVAL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(rewinding_frees_what_was_taken_after_the_mark_and_nothing_else, drop_heaps),
        cmocka_unit_test_teardown(marks_nest_and_may_be_used_again, drop_heaps),
        cmocka_unit_test_teardown(a_mark_above_the_top_is_refused, drop_heaps),
        cmocka_unit_test_teardown(a_mark_that_cuts_a_live_block_is_refused, drop_heaps),
        cmocka_unit_test_teardown(a_mark_in_free_room_takes_that_room_back_too, drop_heaps),
        cmocka_unit_test_teardown(reset_frees_everything, drop_heaps),
        cmocka_unit_test_teardown(marks_are_the_same_in_every_process, drop_heaps),
        cmocka_unit_test_teardown(a_malloc_heap_has_no_marks, drop_heaps),
        cmocka_unit_test_teardown(a_null_result_is_refused, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
