/*
 * test_refused.c - the cells of the matrix that say no: the right status and the reason, and nothing is left behind.
 */
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 64 * 1024 };

static void
a_heap_that_cannot_be_is_refused_with_the_reason(void **state)
{
    const struct row *row = *state;
    struct stage stage;
    stage_prepare(&stage, row, SIZE);
    assert_ok(hshm_manager_create(&stage.manager));
    assert_ok(hshm_backend_create(stage.manager, STAGE_BACKEND, row->backend, SIZE, stage.url, &stage.options, NULL));
    hshm_allocator *heap = NULL;
    assert_status(hshm_allocator_create(stage.manager, STAGE_BACKEND, STAGE_ID, row->allocator, 8, NULL, &heap),
                  row->made);
    assert_sentence(row->words);
    assert_null(heap);
    assert_status(hshm_allocator_get(stage.manager, STAGE_ID, HSHM_ALLOCATOR_ANY, &heap), HSHM_E_NOTFOUND);
    /* The backend is as it was. */
    assert_ok(hshm_allocator_create(stage.manager, STAGE_BACKEND, STAGE_ID, HSHM_ALLOCATOR_STACK, 8, NULL, &heap));
    assert_non_null(hshm_malloc(heap, 100));
    stage_end(&stage);
}

static void
a_backend_without_a_driver_is_refused_with_the_reason(void **state)
{
    const struct row *row = *state;
    const struct footprint before = footprint_take();
    hshm_backend *backend = NULL;
    assert_status(hshm_backend_create(NULL, 1, row->backend, SIZE, test_name("gpu"), NULL, &backend), row->made);
    assert_sentence(row->words);
    assert_null(backend);
    assert_null(hshm_backend_get(NULL, 1));
    assert_status(hshm_backend_attach(NULL, row->backend, test_name("gpu"), NULL, &backend), HSHM_E_NOTFOUND);
    assert_footprint(before);
}

int
main(void)
{
    struct CMUnitTest *tests = calloc(row_count, sizeof *tests);
    size_t count = 0;
    for (size_t i = 0; tests != NULL && i < row_count; i++) {
        if (rows[i].made == HSHM_OK)
            continue;
        tests[count++] = (struct CMUnitTest){
            .name = rows[i].name,
            .test_func = rows[i].made == HSHM_E_DEVICE ? a_backend_without_a_driver_is_refused_with_the_reason
                                                       : a_heap_that_cannot_be_is_refused_with_the_reason,
            .initial_state = (void *)(uintptr_t)&rows[i],
        };
    }
    /* Also on a machine that has one: no library is there. */
    if (setenv("HSHM_CUDA_LIB", "/nowhere/libcuda.so.1", 1) != 0 ||
        setenv("HSHM_HIP_LIB", "/nowhere/libamdhip64.so", 1) != 0)
        return 1;
    const int failed = count == 0 ? 1 : _cmocka_run_group_tests("refused", tests, count, NULL, NULL);
    free(tests);
    return failed;
}
