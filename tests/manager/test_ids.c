/*
 * test_ids.c - a manager's list: ids of any value, look-ups, taking out in any order, and what is not there.
 *
 * labels: valgrind
 */
#include "support.h"

#define KIB ((size_t)1 << 10)

static const hshm_backend_id backend_ids[] = { 0, 1, 2, 0x7fffffff, 0x80000000, UINT32_MAX };
static const hshm_allocator_id allocator_ids[] = { { 0, 0 },          { 0, 1 },          { 1, 0 },
                                                   { 0, UINT32_MAX }, { UINT32_MAX, 0 }, { UINT32_MAX, UINT32_MAX } };
enum { IDS = 6 };

static void
make(hshm_manager *manager, hshm_backend_id backend, hshm_allocator_id allocator)
{
    assert_ok(hshm_backend_create(manager, backend, HSHM_BACKEND_MALLOC, 8 * KIB, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(manager, backend, allocator, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
}

static hshm_allocator *
get(hshm_manager *manager, hshm_allocator_id id)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(manager, id, HSHM_ALLOCATOR_STACK, &heap));
    return heap;
}

static void
assert_unknown(hshm_manager *manager, hshm_backend_id backend, hshm_allocator_id allocator)
{
    hshm_allocator *heap = (hshm_allocator *)&heap;
    assert_null(hshm_backend_get(manager, backend));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTFOUND);
    assert_status(hshm_allocator_get(manager, allocator, HSHM_ALLOCATOR_ANY, &heap), HSHM_E_NOTFOUND);
    assert_ptr_equal(heap, &heap);
    assert_status(hshm_allocator_unregister(manager, allocator), HSHM_E_NOTFOUND);
    assert_status(hshm_backend_destroy(manager, backend), HSHM_E_NOTFOUND);
    assert_status(hshm_backend_detach(manager, backend), HSHM_E_NOTFOUND);
}

static void
null_is_the_default_manager(void **state)
{
    (void)state;
    hshm_manager *manager = hshm_manager_default();
    assert_non_null(manager);
    assert_ptr_equal(hshm_manager_default(), manager);
    make(NULL, 1, (hshm_allocator_id){ 1, 0 });
    assert_ptr_equal(hshm_backend_get(manager, 1), hshm_backend_get(NULL, 1));
    assert_ptr_equal(get(manager, (hshm_allocator_id){ 1, 0 }), get(NULL, (hshm_allocator_id){ 1, 0 }));
    assert_ok(hshm_backend_destroy(manager, 1));
    assert_unknown(NULL, 1, (hshm_allocator_id){ 1, 0 });
}

static void
ids_may_have_any_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < IDS; i++)
        make(NULL, backend_ids[i], allocator_ids[i]);
    for (size_t i = 0; i < IDS; i++) {
        hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
        assert_ok(hshm_backend_info(hshm_backend_get(NULL, backend_ids[i]), &info));
        assert_int_equal(info.id, backend_ids[i]);
        const hshm_allocator_id id = hshm_allocator_id_of(get(NULL, allocator_ids[i]));
        assert_int_equal(id.major, allocator_ids[i].major);
        assert_int_equal(id.minor, allocator_ids[i].minor);
        hshm_ptr ptr;
        assert_ok(hshm_allocate(get(NULL, allocator_ids[i]), 10, &ptr));
        assert_int_equal(ptr.shm.allocator.major, id.major);
        assert_int_equal(ptr.shm.allocator.minor, id.minor);
    }
    /* Neighbouring values are others. */
    assert_unknown(NULL, 3, (hshm_allocator_id){ 1, 1 });
    assert_unknown(NULL, UINT32_MAX - 1, (hshm_allocator_id){ UINT32_MAX, 1 });
    hshm_manager_destroy(NULL);
}

/* Whatever order they go in, those that remain are found. */
static void
backends_go_in_any_order(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < IDS; i++)
            make(NULL, backend_ids[i], allocator_ids[i]);
        bool there[IDS] = { true, true, true, true, true, true };
        for (size_t left = IDS; left > 0; left--) {
            size_t gone = next_random(&seed) % IDS;
            while (!there[gone])
                gone = (gone + 1) % IDS;
            there[gone] = false;
            const bool destroy = next_random(&seed) % 2 == 0;
            assert_ok(destroy ? hshm_backend_destroy(NULL, backend_ids[gone])
                              : hshm_backend_detach(NULL, backend_ids[gone]));
            for (size_t i = 0; i < IDS; i++) {
                if (there[i])
                    assert_non_null(hshm_malloc(get(NULL, allocator_ids[i]), 1));
                else
                    assert_unknown(NULL, backend_ids[i], allocator_ids[i]);
            }
        }
    }
}

static void
clean_up_of_what_does_not_exist_is_harmless(void **state)
{
    (void)state;
    const struct footprint before = footprint_take();
    hshm_manager *empty = NULL;
    assert_ok(hshm_manager_create(&empty));
    for (size_t i = 0; i < IDS; i++) {
        assert_unknown(NULL, backend_ids[i], allocator_ids[i]);
        assert_sentence("registered in this manager");
        assert_unknown(empty, backend_ids[i], allocator_ids[i]);
    }
    hshm_manager_destroy(empty);
    hshm_manager_destroy(NULL);
    hshm_manager_destroy(NULL);
    assert_footprint(before);
    /* As in programs that begin with it: the real thing goes well afterwards. */
    make(NULL, 0, (hshm_allocator_id){ 1, 0 });
    assert_ok(hshm_allocator_unregister(NULL, (hshm_allocator_id){ 1, 0 }));
    assert_ok(hshm_backend_destroy(NULL, 0));
    assert_unknown(NULL, 0, (hshm_allocator_id){ 1, 0 });
}

static void
managers_know_nothing_of_each_other(void **state)
{
    (void)state;
    hshm_manager *first = NULL, *second = NULL;
    assert_ok(hshm_manager_create(&first));
    assert_ok(hshm_manager_create(&second));
    assert_ptr_not_equal(first, second);
    make(first, 1, (hshm_allocator_id){ 1, 0 });
    assert_unknown(second, 1, (hshm_allocator_id){ 1, 0 });
    assert_unknown(NULL, 1, (hshm_allocator_id){ 1, 0 });
    make(second, 1, (hshm_allocator_id){ 1, 0 });
    assert_ptr_not_equal(get(first, (hshm_allocator_id){ 1, 0 }), get(second, (hshm_allocator_id){ 1, 0 }));
    unsigned char *block = hshm_malloc(get(first, (hshm_allocator_id){ 1, 0 }), 16);
    *block = 77;
    hshm_manager_destroy(second);
    assert_int_equal(*block, 77);
    assert_non_null(hshm_malloc(get(first, (hshm_allocator_id){ 1, 0 }), 16));
    hshm_manager_destroy(first);
}

static void
a_backend_tells_its_heap(void **state)
{
    (void)state;
    const hshm_allocator_id id = { 1, 0 };
    hshm_backend *backend = NULL;
    assert_null(hshm_backend_allocator(NULL));
    assert_int_equal(hshm_last_status(), HSHM_E_INVAL);
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 8 * KIB, NULL, NULL, &backend));
    assert_null(hshm_backend_allocator(backend));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTREADY);
    assert_ok(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    assert_ptr_equal(hshm_backend_allocator(backend), get(NULL, id));
    assert_ok(hshm_allocator_unregister(NULL, id));
    assert_null(hshm_backend_allocator(backend));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
an_unregistered_heap_can_be_taken_back(void **state)
{
    (void)state;
    const hshm_allocator_id id = { 1, 0 };
    make(NULL, 1, id);
    hshm_allocator *heap = get(NULL, id);
    assert_ok(hshm_allocator_register(NULL, heap)); /* it is registered */
    void *block = hshm_malloc(heap, 100);
    assert_ok(hshm_allocator_unregister(NULL, id));
    assert_ok(hshm_allocator_register(NULL, heap));
    assert_ptr_equal(get(NULL, id), heap);
    assert_ok(hshm_free(heap, block));

    /* Not if its id is another's by now. */
    assert_ok(hshm_allocator_unregister(NULL, id));
    make(NULL, 2, id);
    assert_status(hshm_allocator_register(NULL, heap), HSHM_E_EXISTS);
    assert_sentence("id 1.0 was given to another heap");
    assert_ok(hshm_backend_destroy(NULL, 2));
    assert_ok(hshm_allocator_register(NULL, heap));

    /* Nor in another manager, nor after its end. */
    hshm_manager *other = NULL;
    assert_ok(hshm_manager_create(&other));
    assert_status(hshm_allocator_register(other, heap), HSHM_E_NOTFOUND);
    hshm_manager_destroy(other);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_status(hshm_allocator_register(NULL, heap), HSHM_E_NOTFOUND);
    assert_sentence("is no heap of a backend");
    assert_status(hshm_allocator_register(NULL, NULL), HSHM_E_INVAL);
}

static void
unregistered_ids_can_be_used_again(void **state)
{
    (void)state;
    make(NULL, 1, (hshm_allocator_id){ 1, 0 });
    assert_ok(hshm_allocator_unregister(NULL, (hshm_allocator_id){ 1, 0 }));
    assert_non_null(hshm_backend_get(NULL, 1));
    /* For another backend's heap; the first one has its heap still, and takes no second. */
    make(NULL, 2, (hshm_allocator_id){ 1, 0 });
    assert_non_null(hshm_malloc(get(NULL, (hshm_allocator_id){ 1, 0 }), 16));
    assert_status(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL),
                  HSHM_E_EXISTS);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_ok(hshm_backend_destroy(NULL, 2));
}

/* What every order of the four calls at the end of a program answers. */
static void
every_order_of_ending_is_fine(void **state)
{
    (void)state;
    const struct footprint before = footprint_take();
    const hshm_allocator_id id = { 1, 0 };
    hshm_manager *manager = NULL;

    assert_ok(hshm_manager_create(&manager));
    (void)make_heap(manager, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("a"), 8 * KIB, HSHM_ALLOCATOR_STACK);
    assert_ok(hshm_allocator_unregister(manager, id));
    assert_ok(hshm_backend_destroy(manager, 1));
    hshm_manager_destroy(manager);
    assert_footprint(before);

    assert_ok(hshm_manager_create(&manager));
    (void)make_heap(manager, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("b"), 8 * KIB, HSHM_ALLOCATOR_STACK);
    assert_ok(hshm_backend_destroy(manager, 1));
    assert_status(hshm_allocator_unregister(manager, id), HSHM_E_NOTFOUND);
    hshm_manager_destroy(manager);
    assert_footprint(before);

    /* A backend that never got a heap. */
    assert_ok(hshm_manager_create(&manager));
    assert_ok(hshm_backend_create(manager, 1, HSHM_BACKEND_POSIX_SHM_MMAP, 8 * KIB, test_name("c"), NULL, NULL));
    assert_status(hshm_allocator_unregister(manager, id), HSHM_E_NOTFOUND);
    assert_ok(hshm_backend_destroy(manager, 1));
    hshm_manager_destroy(manager);
    assert_footprint(before);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_the_default_manager),
        cmocka_unit_test(ids_may_have_any_value),
        cmocka_unit_test(backends_go_in_any_order),
        cmocka_unit_test(clean_up_of_what_does_not_exist_is_harmless),
        cmocka_unit_test(managers_know_nothing_of_each_other),
        cmocka_unit_test(a_backend_tells_its_heap),
        cmocka_unit_test(an_unregistered_heap_can_be_taken_back),
        cmocka_unit_test(unregistered_ids_can_be_used_again),
        cmocka_unit_test(every_order_of_ending_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
