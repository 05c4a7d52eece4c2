/*
 * test_names.c - who removes a name: its creator's destroy, only while it means that very region; nobody else.
 */
#include "support.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define FIRST ((hshm_allocator_id){ 1, 0 })

/* Both kinds that have names. */
struct named {
    hshm_backend_kind kind;
    const char *url;
    char path[PATH_MAX];
};

static struct named
named(hshm_backend_kind kind)
{
    struct named result = { .kind = kind };
    if (kind == HSHM_BACKEND_POSIX_SHM_MMAP) {
        result.url = test_name("named");
        (void)snprintf(result.path, sizeof result.path, "/dev/shm/%s", result.url);
    } else {
        result.url = test_path("named");
        (void)snprintf(result.path, sizeof result.path, "%s", result.url);
    }
    return result;
}

static void
for_both_kinds(void (*test)(const struct named *what))
{
    static const hshm_backend_kind kinds[] = { HSHM_BACKEND_POSIX_SHM_MMAP, HSHM_BACKEND_POSIX_MMAP };
    for (size_t i = 0; i < 2; i++) {
        const struct footprint before = footprint_take();
        const struct named what = named(kinds[i]);
        test(&what);
        assert_footprint(before);
    }
}

static bool
name_exists(const struct named *what)
{
    return access(what->path, F_OK) == 0;
}

static hshm_allocator *
create(hshm_manager *manager, const struct named *what)
{
    return make_heap(manager, what->kind, what->url, 16 * KIB, HSHM_ALLOCATOR_STACK);
}

static hshm_allocator *
attach(hshm_manager *manager, const struct named *what)
{
    return attach_heap(manager, what->kind, what->url, 0);
}

static hshm_manager *
new_manager(void)
{
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    return manager;
}

static void
destroy_by_creator(const struct named *what)
{
    (void)create(NULL, what);
    assert_true(name_exists(what));
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_false(name_exists(what));
    assert_status(hshm_backend_attach(NULL, what->kind, what->url, NULL, NULL), HSHM_E_NOTFOUND);
}

static void
the_creator_s_destroy_removes_the_name(void **state)
{
    (void)state;
    for_both_kinds(destroy_by_creator);
}

static void
detach_by_creator(const struct named *what)
{
    unsigned char *block = hshm_malloc(create(NULL, what), 16);
    *block = 42;
    hshm_manager *other = new_manager();
    (void)attach(other, what);
    hshm_shm_ptr where;
    assert_ok(hshm_identify(NULL, block, &where));
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_true(name_exists(what));
    void *addr = NULL;
    assert_ok(hshm_resolve(other, where, &addr));
    assert_int_equal(*(unsigned char *)addr, 42);
    /* Who left and comes back has come as an attacher: its destroy removes nothing. */
    (void)attach(NULL, what);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_true(name_exists(what));
    hshm_manager_destroy(other);
    assert_ok(hshm_backend_remove(what->kind, what->url));
    assert_false(name_exists(what));
}

static void
the_creator_s_detach_leaves_name_and_content(void **state)
{
    (void)state;
    for_both_kinds(detach_by_creator);
}

static int
attach_and_destroy(void *arg)
{
    hshm_manager *manager = new_manager();
    hshm_allocator *heap = attach(manager, arg);
    assert_non_null(hshm_malloc(heap, 16));
    assert_ok(hshm_backend_destroy(manager, 1));
    assert_status(hshm_backend_destroy(manager, 1), HSHM_E_NOTFOUND);
    return 0;
}

static void
destroy_by_attacher(const struct named *what)
{
    hshm_allocator *heap = create(NULL, what);
    assert_int_equal(child_run(attach_and_destroy, (void *)(uintptr_t)what), 0);
    assert_true(name_exists(what));
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.live_blocks, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
an_attacher_s_destroy_leaves_the_name(void **state)
{
    (void)state;
    for_both_kinds(destroy_by_attacher);
}

static int
destroy_inherited(void *arg)
{
    const struct named *what = arg;
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_true(name_exists(what));
    return 0;
}

static void
destroy_by_forked_child(const struct named *what)
{
    hshm_allocator *heap = create(NULL, what);
    assert_int_equal(child_run(destroy_inherited, (void *)(uintptr_t)what), 0);
    assert_true(name_exists(what));
    assert_non_null(hshm_malloc(heap, 16));
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_false(name_exists(what));
}

static void
a_forked_child_s_destroy_leaves_the_name_to_its_parent(void **state)
{
    (void)state;
    for_both_kinds(destroy_by_forked_child);
}

static void
destroy_while_attached(const struct named *what)
{
    hshm_manager *other = new_manager();
    (void)create(NULL, what);
    hshm_allocator *heap = attach(other, what);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_false(name_exists(what));
    /* Those who are there go on, and the name can mean another region meanwhile. */
    unsigned char *block = hshm_malloc(heap, 100);
    assert_non_null(block);
    memset(block, 1, 100);
    hshm_allocator *successor = create(NULL, what);
    assert_non_null(hshm_malloc(successor, 100));
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(successor, &stats));
    assert_int_equal(stats.allocs, 1);
    hshm_manager_destroy(other);
    assert_true(name_exists(what));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
after_destroy_those_attached_go_on(void **state)
{
    (void)state;
    for_both_kinds(destroy_while_attached);
}

static int
create_and_stay(void *arg)
{
    (void)create(NULL, arg);
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

/* Somebody removed the name by hand, and another process made a region of that name. */
static void
destroy_of_renamed(const struct named *what)
{
    hshm_manager *creator = new_manager();
    (void)create(creator, what);
    assert_int_equal(unlink(what->path), 0);
    assert_int_equal(child_run(create_and_stay, (void *)(uintptr_t)what), 0);
    struct stat before, after;
    assert_int_equal(stat(what->path, &before), 0);
    assert_ok(hshm_backend_destroy(creator, 1));
    assert_int_equal(stat(what->path, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_non_null(hshm_malloc(attach(NULL, what), 16));
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_ok(hshm_backend_remove(what->kind, what->url));
    hshm_manager_destroy(creator);
}

static void
destroy_leaves_a_name_that_means_another_region(void **state)
{
    (void)state;
    for_both_kinds(destroy_of_renamed);
}

static void
destroy_of_unnamed(const struct named *what)
{
    (void)create(NULL, what);
    assert_int_equal(unlink(what->path), 0);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_status(hshm_backend_destroy(NULL, 1), HSHM_E_NOTFOUND);
}

static void
destroy_of_what_was_removed_by_hand_is_fine(void **state)
{
    (void)state;
    for_both_kinds(destroy_of_unnamed);
}

static void
end_of_manager(const struct named *what)
{
    hshm_manager *manager = new_manager();
    assert_non_null(hshm_malloc(create(manager, what), 16));
    hshm_manager_destroy(manager);
    assert_true(name_exists(what));
    /* It ended like a detach: nobody lives in it, and all is there. */
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(attach(NULL, what), &stats));
    assert_int_equal(stats.live_blocks, 1);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_ok(hshm_backend_remove(what->kind, what->url));
}

static void
the_end_of_a_manager_leaves_names(void **state)
{
    (void)state;
    for_both_kinds(end_of_manager);
}

static void
unregister_first(const struct named *what)
{
    hshm_allocator *heap = create(NULL, what);
    unsigned char *block = hshm_malloc(heap, 16);
    *block = 42;
    const hshm_off off = hshm_to_off(heap, block);
    assert_ok(hshm_allocator_unregister(NULL, FIRST));
    assert_status(hshm_allocator_get(NULL, FIRST, HSHM_ALLOCATOR_ANY, &heap), HSHM_E_NOTFOUND);
    assert_status(hshm_allocator_unregister(NULL, FIRST), HSHM_E_NOTFOUND);
    assert_status(hshm_allocator_create(NULL, 1, FIRST, HSHM_ALLOCATOR_STACK, 0, NULL, NULL), HSHM_E_EXISTS);
    /* The heap in the region is there for whoever attaches. */
    hshm_manager *other = new_manager();
    heap = attach(other, what);
    assert_int_equal(*(unsigned char *)hshm_to_addr(heap, off), 42);
    assert_ok(hshm_free(heap, hshm_to_addr(heap, off)));
    hshm_manager_destroy(other);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_false(name_exists(what));
}

static void
an_unregistered_heap_can_be_attached_to(void **state)
{
    (void)state;
    for_both_kinds(unregister_first);
}

/* A relative path means what it meant at create, wherever the process goes later. */
static int
create_and_go_elsewhere(void *arg)
{
    assert_int_equal(chdir(arg), 0);
    assert_int_equal(mkdir("below", 0700), 0);
    (void)make_heap(NULL, HSHM_BACKEND_POSIX_MMAP, "region", 16 * KIB, HSHM_ALLOCATOR_STACK);
    assert_int_equal(access("region", F_OK), 0);
    assert_int_equal(chdir("below"), 0);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_int_equal(chdir(".."), 0);
    assert_int_equal(access("region", F_OK), -1);
    assert_int_equal(rmdir("below"), 0);
    return 0;
}

static void
a_relative_path_is_found_again_from_elsewhere(void **state)
{
    (void)state;
    const char *folder = test_path("folder");
    assert_int_equal(mkdir(folder, 0700), 0);
    const int status = child_run(create_and_go_elsewhere, (void *)(uintptr_t)folder);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(status, 0);
}

/* Ids come from the region, not from the caller. */
static void
attach_takes_ids(const struct named *what)
{
    hshm_manager *other = new_manager();
    const hshm_allocator_id id = { UINT32_MAX, 7 };
    assert_ok(hshm_backend_create(NULL, 4000000000, what->kind, 16 * KIB, what->url, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 4000000000, id, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    hshm_backend *backend = NULL;
    assert_ok(hshm_backend_attach(other, what->kind, what->url, NULL, &backend));
    assert_ptr_equal(hshm_backend_get(other, 4000000000), backend);
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(other, id, HSHM_ALLOCATOR_STACK, &heap));
    assert_int_equal(hshm_allocator_id_of(heap).minor, 7);
    assert_int_equal(hshm_allocator_kind_of(heap), HSHM_ALLOCATOR_STACK);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(backend, &info));
    assert_int_equal(info.id, 4000000000);
    assert_false(info.created_here);
    assert_true(info.ready);
    assert_int_equal(info.processes, 2);
    assert_string_equal(info.url, what->url);
    hshm_manager_destroy(other);
    assert_ok(hshm_backend_destroy(NULL, 4000000000));
}

static void
attach_registers_the_ids_that_stand_in_the_region(void **state)
{
    (void)state;
    for_both_kinds(attach_takes_ids);
}

/* Two managers of a process: two addresses, two slots, one heap. */
static void
attach_twice(const struct named *what)
{
    hshm_manager *other = new_manager();
    hshm_allocator *here = create(NULL, what);
    hshm_allocator *there = attach(other, what);
    hshm_backend_info_data ours = HSHM_BACKEND_INFO_INIT, theirs = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &ours));
    assert_ok(hshm_backend_info(hshm_backend_get(other, 1), &theirs));
    assert_ptr_not_equal(ours.base, theirs.base);
    assert_int_not_equal(ours.slot, theirs.slot);
    assert_memory_equal(ours.uuid, theirs.uuid, sizeof ours.uuid);
    assert_true(ours.created_here);
    /* A block that one gave, the other takes back. */
    void *block = hshm_malloc(here, 100);
    assert_ok(hshm_free(there, hshm_to_addr(there, hshm_to_off(here, block))));
    assert_status(hshm_free(here, block), HSHM_E_BADFREE);
    /* It is this process that created it, but by the other manager: this one only attached. */
    assert_ok(hshm_backend_destroy(other, 1));
    assert_true(name_exists(what));
    hshm_manager_destroy(other);
    assert_status(hshm_backend_remove(what->kind, what->url), HSHM_E_BUSY);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_process_may_attach_to_its_own_region_by_another_manager(void **state)
{
    (void)state;
    for_both_kinds(attach_twice);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_creator_s_destroy_removes_the_name),
        cmocka_unit_test(the_creator_s_detach_leaves_name_and_content),
        cmocka_unit_test(an_attacher_s_destroy_leaves_the_name),
        cmocka_unit_test(a_forked_child_s_destroy_leaves_the_name_to_its_parent),
        cmocka_unit_test(after_destroy_those_attached_go_on),
        cmocka_unit_test(destroy_leaves_a_name_that_means_another_region),
        cmocka_unit_test(destroy_of_what_was_removed_by_hand_is_fine),
        cmocka_unit_test(the_end_of_a_manager_leaves_names),
        cmocka_unit_test(an_unregistered_heap_can_be_attached_to),
        cmocka_unit_test(a_relative_path_is_found_again_from_elsewhere),
        cmocka_unit_test(attach_registers_the_ids_that_stand_in_the_region),
        cmocka_unit_test(a_process_may_attach_to_its_own_region_by_another_manager),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
