/*
 * test_pointers.c - hshm_resolve() and hshm_identify(): between addresses and the form that travels.
 *
 * labels: valgrind
 */
#include "support.h"

#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1 << 10)
#define FIRST ((hshm_allocator_id){ 1, 0 })

enum { HEADER_SIZE = 100 };

/* Local: one heap and what there is to point to. */
struct scene {
    hshm_allocator *heap;
    unsigned char *base;
    uint64_t size;
    unsigned char *header;
    unsigned char *block;
};

static struct scene
make_scene(hshm_manager *manager, hshm_backend_id backend, hshm_backend_kind kind, const char *url,
           hshm_allocator_id id)
{
    struct scene scene = { 0 };
    assert_ok(hshm_backend_create(manager, backend, kind, 16 * KIB, url, NULL, NULL));
    assert_ok(hshm_allocator_create(manager, backend, id, HSHM_ALLOCATOR_STACK, HEADER_SIZE, NULL, &scene.heap));
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(manager, backend), &info));
    scene.base = info.base;
    scene.size = info.size;
    scene.header = hshm_allocator_custom_header(scene.heap, NULL);
    scene.block = hshm_malloc(scene.heap, 64);
    assert_non_null(scene.block);
    return scene;
}

static void
assert_both_ways(hshm_manager *manager, hshm_allocator_id id, const struct scene *scene, const unsigned char *addr)
{
    hshm_shm_ptr pointer = { { 99, 99 }, 99 };
    assert_ok(hshm_identify(manager, addr, &pointer));
    assert_int_equal(pointer.allocator.major, id.major);
    assert_int_equal(pointer.allocator.minor, id.minor);
    assert_int_equal(pointer.off, (uint64_t)(addr - scene->base));
    void *back = NULL;
    assert_ok(hshm_resolve(manager, pointer, &back));
    assert_ptr_equal(back, addr);
    assert_int_equal(hshm_to_off(scene->heap, addr), pointer.off);
    assert_ptr_equal(hshm_to_addr(scene->heap, pointer.off), addr);
}

static void
assert_neither_way(hshm_manager *manager, hshm_allocator_id id, const void *addr, hshm_off off)
{
    hshm_shm_ptr pointer = { { 99, 98 }, 97 };
    assert_status(hshm_identify(manager, addr, &pointer), HSHM_E_NOTFOUND);
    assert_sentence("lies in no heap");
    assert_int_equal(pointer.off, 97);
    void *back = &pointer;
    assert_status(hshm_resolve(manager, (hshm_shm_ptr){ id, off }, &back), HSHM_E_INVAL);
    assert_sentence("outside the heap");
    assert_ptr_equal(back, &pointer);
}

static void
null_is_null_everywhere(void **state)
{
    (void)state;
    hshm_shm_ptr pointer = { { 9, 9 }, 9 };
    void *addr = &pointer;
    /* Also where no heap is. */
    assert_ok(hshm_identify(NULL, NULL, &pointer));
    assert_int_equal(pointer.off, HSHM_OFF_NULL);
    assert_ok(hshm_resolve(NULL, pointer, &addr));
    assert_null(addr);
    addr = &pointer;
    assert_ok(hshm_resolve(NULL, (hshm_shm_ptr){ { 12, 34 }, HSHM_OFF_NULL }, &addr));
    assert_null(addr);
}

static void
blocks_and_the_custom_header_travel(void **state)
{
    (void)state;
    const struct scene scene = make_scene(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("one"), FIRST);
    assert_both_ways(NULL, FIRST, &scene, scene.block);
    assert_both_ways(NULL, FIRST, &scene, scene.block + 63);
    assert_both_ways(NULL, FIRST, &scene, scene.header);
    assert_both_ways(NULL, FIRST, &scene, scene.header + HEADER_SIZE - 1);
    /* The last byte of the heap; whether it is in a block is the heap's business. */
    assert_both_ways(NULL, FIRST, &scene, scene.base + scene.size - 16);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
what_lies_outside_does_not_travel(void **state)
{
    (void)state;
    const struct scene scene = make_scene(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("one"), FIRST);
    int local = 0;
    /* The region's own tables are none of the caller's. */
    assert_neither_way(NULL, FIRST, scene.base, 1);
    assert_neither_way(NULL, FIRST, scene.base + 400, 400);
    assert_neither_way(NULL, FIRST, scene.header - 1, (hshm_off)(scene.header - 1 - scene.base));
    assert_neither_way(NULL, FIRST, scene.base + scene.size, scene.size);
    assert_neither_way(NULL, FIRST, &local, scene.size + 1);
    assert_neither_way(NULL, FIRST, scene.base - 1, UINT64_MAX);
    assert_neither_way(NULL, FIRST, (void *)UINTPTR_MAX, UINT64_MAX - 15);
    assert_neither_way(NULL, FIRST, (void *)1, UINT64_C(1) << 63);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
unknown_heaps_are_told_from_wrong_offsets(void **state)
{
    (void)state;
    const struct scene scene = make_scene(NULL, 1, HSHM_BACKEND_MALLOC, NULL, FIRST);
    void *addr = &addr;
    const hshm_shm_ptr foreign = { { 1, 1 }, hshm_to_off(scene.heap, scene.block) };
    assert_status(hshm_resolve(NULL, foreign, &addr), HSHM_E_NOTFOUND);
    assert_sentence("no allocator 1.1");
    assert_ptr_equal(addr, &addr);
    /* Registered no more, found no more. */
    assert_ok(hshm_allocator_unregister(NULL, FIRST));
    assert_status(hshm_resolve(NULL, (hshm_shm_ptr){ FIRST, foreign.off }, &addr), HSHM_E_NOTFOUND);
    hshm_shm_ptr pointer;
    assert_status(hshm_identify(NULL, scene.block, &pointer), HSHM_E_NOTFOUND);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

enum { HEAPS = 5 };

static void
among_several_heaps_the_right_one_is_found(void **state)
{
    (void)state;
    struct scene scenes[HEAPS];
    for (uint32_t i = 0; i < HEAPS; i++)
        scenes[i] = make_scene(NULL, i, i % 2 == 0 ? HSHM_BACKEND_MALLOC : HSHM_BACKEND_POSIX_SHM_MMAP,
                               test_name("several"), (hshm_allocator_id){ 7, i });
    for (uint32_t i = 0; i < HEAPS; i++) {
        assert_both_ways(NULL, (hshm_allocator_id){ 7, i }, &scenes[i], scenes[i].block);
        assert_both_ways(NULL, (hshm_allocator_id){ 7, i }, &scenes[i], scenes[i].header);
    }
    assert_ok(hshm_backend_destroy(NULL, 2));
    for (uint32_t i = 0; i < HEAPS; i++) {
        if (i != 2)
            assert_both_ways(NULL, (hshm_allocator_id){ 7, i }, &scenes[i], scenes[i].block);
    }
    hshm_manager_destroy(NULL);
}

/* Blocks of a Malloc heap lie anywhere; it knows its own. */
static void
blocks_of_a_malloc_heap_travel_inside_the_process(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 64 * KIB, HSHM_ALLOCATOR_MALLOC);
    hshm_ptr block;
    assert_ok(hshm_allocate(heap, 100, &block));
    hshm_shm_ptr pointer;
    assert_ok(hshm_identify(NULL, block.addr, &pointer));
    assert_int_equal(pointer.off, block.shm.off);
    void *addr = NULL;
    assert_ok(hshm_resolve(NULL, pointer, &addr));
    assert_ptr_equal(addr, block.addr);
    void *foreign = malloc(100);
    assert_non_null(foreign);
    assert_status(hshm_identify(NULL, foreign, &pointer), HSHM_E_NOTFOUND);
    free(foreign);
    assert_ok(hshm_deallocate(heap, &block));
    assert_status(hshm_resolve(NULL, pointer, &addr), HSHM_E_INVAL);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* The same region twice in this process: one offset, two addresses. */
static void
an_offset_means_the_same_in_another_manager(void **state)
{
    (void)state;
    const char *name = test_name("twice");
    hshm_manager *other = NULL;
    assert_ok(hshm_manager_create(&other));
    const struct scene here = make_scene(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, name, FIRST);
    struct scene there = { .heap = NULL };
    assert_ok(hshm_backend_attach(other, HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, NULL));
    assert_ok(hshm_allocator_get(other, FIRST, HSHM_ALLOCATOR_STACK, &there.heap));

    memcpy(here.block, "travels", 8);
    hshm_shm_ptr pointer;
    assert_ok(hshm_identify(NULL, here.block, &pointer));
    void *addr = NULL;
    assert_ok(hshm_resolve(other, pointer, &addr));
    assert_ptr_not_equal(addr, here.block);
    assert_string_equal(addr, "travels");
    assert_ptr_equal(hshm_to_addr(there.heap, pointer.off), addr);
    /* Each manager knows its own view only. */
    assert_status(hshm_identify(NULL, addr, &pointer), HSHM_E_NOTFOUND);
    assert_status(hshm_identify(other, here.block, &pointer), HSHM_E_NOTFOUND);
    hshm_manager_destroy(other);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_null_everywhere),
        cmocka_unit_test(blocks_and_the_custom_header_travel),
        cmocka_unit_test(what_lies_outside_does_not_travel),
        cmocka_unit_test(unknown_heaps_are_told_from_wrong_offsets),
        cmocka_unit_test(among_several_heaps_the_right_one_is_found),
        cmocka_unit_test(blocks_of_a_malloc_heap_travel_inside_the_process),
        cmocka_unit_test(an_offset_means_the_same_in_another_manager),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
