/*
 * test_by_address.c - hshm_allocator_at(): from where a region begins to this process's heap.
 *
 * labels: valgrind
 */
#include "blocks.h"

#include <pthread.h>

#define KIB ((size_t)1 << 10)
#define FIRST ((hshm_allocator_id){ 1, 0 })

static const void *
region_of(const hshm_allocator *heap)
{
    return (const unsigned char *)hshm_to_addr(heap, 64) - 64;
}

static void
a_heap_is_found_where_its_region_begins(void **state)
{
    (void)state;
    hshm_allocator *heap =
        make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("at"), 64 * KIB, HSHM_ALLOCATOR_STACK);
    const unsigned char *region = region_of(heap);
    assert_ptr_equal(hshm_allocator_at(region), heap);
    assert_null(hshm_allocator_at(region + 64));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTFOUND);
    assert_sentence("no heap of this process has its region at");
    assert_null(hshm_allocator_at(NULL));
    assert_null(hshm_allocator_at((const void *)1));
    /* Forgotten by the manager, but the memory is here. */
    assert_ok(hshm_allocator_unregister(NULL, FIRST));
    assert_ptr_equal(hshm_allocator_at(region), heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_null(hshm_allocator_at(region));
}

static void
each_attachment_of_a_region_has_its_own(void **state)
{
    (void)state;
    const char *name = test_name("two");
    hshm_manager *other = NULL;
    hshm_allocator *there = NULL;
    hshm_allocator *here = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, 64 * KIB, HSHM_ALLOCATOR_STACK);
    assert_ok(hshm_manager_create(&other));
    assert_ok(hshm_backend_attach(other, HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, NULL));
    assert_ok(hshm_allocator_get(other, FIRST, HSHM_ALLOCATOR_ANY, &there));
    assert_ptr_not_equal(here, there);
    assert_ptr_equal(hshm_allocator_at(region_of(here)), here);
    assert_ptr_equal(hshm_allocator_at(region_of(there)), there);
    const void *gone = region_of(there);
    hshm_manager_destroy(other);
    assert_null(hshm_allocator_at(gone));
    assert_ptr_equal(hshm_allocator_at(region_of(here)), here);
}

/* One address for two handles: either will do, and one is left when the other ends. */
static void
an_array_may_be_in_two_managers(void **state)
{
    (void)state;
    static _Alignas(64) unsigned char array[64 * 1024];
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.array = array;
    hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    attach.array = array;
    attach.array_size = sizeof array;
    hshm_manager *other = NULL;
    hshm_allocator *here = NULL;
    hshm_allocator *there = NULL;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, sizeof array, NULL, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, FIRST, HSHM_ALLOCATOR_STACK, 0, NULL, &here));
    assert_ok(hshm_manager_create(&other));
    assert_ok(hshm_backend_attach(other, HSHM_BACKEND_ARRAY, NULL, &attach, NULL));
    assert_ok(hshm_allocator_get(other, FIRST, HSHM_ALLOCATOR_ANY, &there));
    const hshm_allocator *found = hshm_allocator_at(array);
    assert_true(found == here || found == there);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_ptr_equal(hshm_allocator_at(array), there);
    hshm_manager_destroy(other);
    assert_null(hshm_allocator_at(array));
}

enum { MANY = 600 };

/* More than the table has places for. */
static void
however_many_there_are(void **state)
{
    (void)state;
    static hshm_allocator *heaps[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        assert_ok(hshm_backend_create(NULL, i, HSHM_BACKEND_MALLOC, 4 * KIB, NULL, NULL, NULL));
        assert_ok(
            hshm_allocator_create(NULL, i, (hshm_allocator_id){ 2, i }, HSHM_ALLOCATOR_STACK, 0, NULL, &heaps[i]));
    }
    for (uint32_t i = 0; i < MANY; i++)
        assert_ptr_equal(hshm_allocator_at(region_of(heaps[i])), heaps[i]);
    for (uint32_t i = 0; i < MANY; i += 2)
        assert_ok(hshm_backend_destroy(NULL, i));
    for (uint32_t i = 1; i < MANY; i += 2)
        assert_ptr_equal(hshm_allocator_at(region_of(heaps[i])), heaps[i]);
}

static int
look_in_child(void *arg)
{
    hshm_allocator *heap = arg;
    return hshm_allocator_at(region_of(heap)) == heap ? 0 : 1;
}

static void
a_forked_child_finds_them_too(void **state)
{
    (void)state;
    hshm_allocator *heap =
        make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("child"), 64 * KIB, HSHM_ALLOCATOR_STACK);
    assert_int_equal(child_run(look_in_child, heap), 0);
}

enum { THREADS = 4, ROUNDS = 300 };

static void *
come_and_go(void *arg)
{
    const uint32_t id = *(const uint32_t *)arg;
    for (int i = 0; i < ROUNDS; i++) {
        hshm_allocator *heap = NULL;
        if (hshm_backend_create(NULL, id, HSHM_BACKEND_MALLOC, 4 * KIB, NULL, NULL, NULL) != HSHM_OK ||
            hshm_allocator_create(NULL, id, (hshm_allocator_id){ 3, id }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap) !=
                HSHM_OK ||
            hshm_allocator_at(region_of(heap)) != heap || hshm_backend_destroy(NULL, id) != HSHM_OK)
            return arg;
    }
    return NULL;
}

/* One thread's region may come where another's just was. */
static void
while_others_come_and_go(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    uint32_t ids[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &ids[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_heap_is_found_where_its_region_begins, drop_heaps),
        cmocka_unit_test_teardown(each_attachment_of_a_region_has_its_own, drop_heaps),
        cmocka_unit_test_teardown(an_array_may_be_in_two_managers, drop_heaps),
        cmocka_unit_test_teardown(however_many_there_are, drop_heaps),
        cmocka_unit_test_teardown(a_forked_child_finds_them_too, drop_heaps),
        cmocka_unit_test_teardown(while_others_come_and_go, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
