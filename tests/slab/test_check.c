/*
 * test_check.c - hshm_check() as programs call it: it finds damage, counts what is live, and refuses what it does not know.
 */
#include <string.h>

#include "allocator/allocator.h"
#include "blocks.h"

enum { SIZE = 16 << 20, BLOCKS = 100 };

static hshm_allocator *
heap_of_kind(hshm_allocator_kind kind)
{
    return make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("check"), SIZE, kind);
}

static void
a_check_counts_what_is_live(void **state)
{
    hshm_allocator *heap = heap_of_kind(*(const hshm_allocator_kind *)*state);
    for (size_t i = 1; i <= BLOCKS; i++)
        assert_non_null(hshm_malloc(heap, i * 100));
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    assert_ok(hshm_check(heap, 0, &report));
    assert_int_equal(report.live_blocks, BLOCKS);
    assert_int_equal(report.live_bytes, stats_of(heap).live_bytes);
    assert_ok(hshm_check(heap, 0, NULL));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_check_refuses_what_it_does_not_know(void **state)
{
    hshm_allocator *heap = heap_of_kind(*(const hshm_allocator_kind *)*state);
    hshm_check_report report = { .struct_size = 1, .live_blocks = 7 };
    assert_status(hshm_check(heap, HSHM_CHECK_REPAIR << 1, NULL), HSHM_E_INVAL);
    assert_status(hshm_check(heap, 0, &report), HSHM_E_INVAL);
    assert_int_equal(report.live_blocks, 7);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_check_finds_damage(void **state)
{
    hshm_allocator *heap = heap_of_kind(*(const hshm_allocator_kind *)*state);
    assert_non_null(hshm_malloc(heap, 100));
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    report.live_blocks = 7;
    if (hshm_allocator_kind_of(heap) == HSHM_ALLOCATOR_STACK)
        atomic_store(&heap->stack->top, UINT64_MAX);
    else
        atomic_store(&heap->slab.slices[0], slice_make(SLICE_REST, 0, 5));
    assert_status(hshm_check(heap, 0, &report), HSHM_E_CORRUPT);
    assert_sentence("damaged");
    assert_int_equal(report.live_blocks, 7); /* untouched */
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OF_ALL_KINDS(a_check_counts_what_is_live),
        OF_ALL_KINDS(a_check_refuses_what_it_does_not_know),
        OF_ALL_KINDS(a_check_finds_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
