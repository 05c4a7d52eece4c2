/*
 * test_end.c - managers are emptied and ended while other threads are at work.
 */
#include <pthread.h>
#include <stdio.h>

#include "blocks.h"

enum { ROUNDS = 300, SIZE = 16384 };

static _Atomic bool done;

/* Creates and destroys, whatever becomes of it meanwhile. */
static void *
come_and_go(void *arg)
{
    hshm_manager *manager = arg;
    for (int i = 0; i < ROUNDS; i++) {
        hshm_status status = hshm_backend_create(manager, 1, HSHM_BACKEND_MALLOC, SIZE, NULL, NULL, NULL);
        if (status != HSHM_OK)
            return (void *)1;
        status = hshm_allocator_create(manager, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL);
        if (status != HSHM_OK && status != HSHM_E_NOTFOUND)
            return (void *)2;
        status = hshm_backend_destroy(manager, 1);
        if (status != HSHM_OK && status != HSHM_E_NOTFOUND)
            return (void *)3;
    }
    atomic_store(&done, true);
    return NULL;
}

static void
the_default_manager_is_emptied_while_others_create(void **state)
{
    (void)state;
    pthread_t thread;
    void *failed = NULL;
    atomic_store(&done, false);
    assert_int_equal(pthread_create(&thread, NULL, come_and_go, hshm_manager_default()), 0);
    while (!atomic_load(&done))
        hshm_manager_destroy(NULL);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_status(hshm_backend_destroy(NULL, 1), HSHM_E_NOTFOUND);
}

static void
blocks_of_a_forgotten_allocator_stay_until_the_backend_goes(void **state)
{
    (void)state;
    for (int kind = HSHM_ALLOCATOR_STACK; kind <= HSHM_ALLOCATOR_MALLOC;
         kind += HSHM_ALLOCATOR_MALLOC - HSHM_ALLOCATOR_STACK) {
        hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, SIZE, (hshm_allocator_kind)kind);
        void *block = hshm_malloc(heap, 3000);
        block_fill(block, 3000, 1);
        assert_ok(hshm_allocator_unregister(NULL, (hshm_allocator_id){ 1, 0 }));
        assert_true(block_holds(block, 3000, 1));
        assert_ok(hshm_backend_destroy(NULL, 1)); /* the address sanitizer sees whether the block went with it */
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_default_manager_is_emptied_while_others_create, drop_heaps),
        cmocka_unit_test_teardown(blocks_of_a_forgotten_allocator_stay_until_the_backend_goes, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
