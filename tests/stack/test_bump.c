/*
 * test_bump.c - one stack, one thread: what the calls give and refuse.
 */
#include "support.h"

static void
blocks_come_one_behind_the_other(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 65536, HSHM_ALLOCATOR_STACK);
    unsigned char *first = hshm_malloc(heap, 1);
    unsigned char *second = hshm_malloc(heap, 17);
    unsigned char *third = hshm_malloc(heap, 16);
    assert_non_null(first);
    assert_ptr_equal(second, first + 16);
    assert_ptr_equal(third, second + 32);
    assert_int_equal(hshm_usable_size(heap, second), 32);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_one_behind_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
