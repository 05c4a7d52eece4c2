/*
 * test_permission.c - what belongs to another user: each call says HSHM_E_PERM, and leaves it alone.
 *
 * A child becomes another user (uid 65534), which only root can do.
 */
#include "limits.h"

#include <grp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

enum { NOBODY = 65534 };

static bool
become_nobody(void)
{
    return setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0;
}

/* Run a scene as another user; skip when that cannot be. */
static void
play_as_nobody(int (*scene)(void *arg), const char *url)
{
    const int status = child_run(scene, (void *)(uintptr_t)url);
    if (status == CANNOT_TRY) {
        print_message("needs root: no other user to be\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* Let others look into this process's folder, so that the file's own mode decides. */
static const char *
reachable_path(const char *what)
{
    const char *path = test_path(what);
    char folder[4096];
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    assert_int_equal(chmod(folder, 0711), 0);
    return path;
}

static hshm_allocator *
make_heap_of_mode(hshm_manager *manager, hshm_backend_kind kind, const char *url, uint32_t mode)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.mode = mode;
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(manager, 1, kind, 64 * KIB, url, &options, NULL));
    assert_ok(hshm_allocator_create(manager, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    return heap;
}

/* The owner's regions are in a manager of their own, so that children find the default one empty. */
static hshm_manager *
new_manager(void)
{
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    return manager;
}

/* ---- attach ---- */

static int
attach_to_closed(hshm_backend_kind kind, const char *url)
{
    if (!become_nobody())
        return CANNOT_TRY;
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    assert_attach_refused(kind, url, &options, HSHM_E_PERM, url);
    assert_sentence("uid 65534");
    /* Waiting would not help, and is not done. */
    options.timeout_ms = 3600000;
    assert_attach_refused(kind, url, &options, HSHM_E_PERM, url);
    options.read_only = true;
    assert_attach_refused(kind, url, &options, HSHM_E_PERM, url);
    witness_end(&witness);
    return 0;
}

static int
attach_to_closed_shm(void *arg)
{
    return attach_to_closed(HSHM_BACKEND_POSIX_SHM_MMAP, arg);
}

static int
attach_to_closed_file(void *arg)
{
    return attach_to_closed(HSHM_BACKEND_POSIX_MMAP, arg);
}

static void
a_region_of_mode_0600_is_closed_to_others(void **state)
{
    (void)state;
    hshm_manager *owner = new_manager();
    const char *name = test_name("closed");
    (void)make_heap_of_mode(owner, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
    play_as_nobody(attach_to_closed_shm, name);
    assert_ok(hshm_backend_destroy(owner, 1));
    const char *path = reachable_path("closed");
    (void)make_heap_of_mode(owner, HSHM_BACKEND_POSIX_MMAP, path, 0);
    play_as_nobody(attach_to_closed_file, path);
    assert_ok(hshm_backend_destroy(owner, 1));
    hshm_manager_destroy(owner);
}

static int
attach_to_readable(void *arg)
{
    if (!become_nobody())
        return CANNOT_TRY;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    assert_attach_refused(HSHM_BACKEND_POSIX_SHM_MMAP, arg, &options, HSHM_E_PERM, arg);
    options.read_only = true;
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, arg, &options, NULL));
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.live_blocks, 1);
    assert_null(hshm_malloc(heap, 1));
    assert_int_equal(hshm_last_status(), HSHM_E_PERM);
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
a_region_of_mode_0644_can_be_read_by_others(void **state)
{
    (void)state;
    hshm_manager *owner = new_manager();
    const char *name = test_name("readable");
    assert_non_null(hshm_malloc(make_heap_of_mode(owner, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0644), 10));
    play_as_nobody(attach_to_readable, name);
    assert_ok(hshm_backend_destroy(owner, 1));
    hshm_manager_destroy(owner);
}

/* Its blocks are everyone's; its name in /dev/shm, which is sticky, remains its owner's. */
static int
use_open(void *arg)
{
    if (!become_nobody())
        return CANNOT_TRY;
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, arg, 0);
    assert_non_null(hshm_malloc(heap, 100));
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static void
a_region_of_mode_0666_can_be_used_by_others(void **state)
{
    (void)state;
    hshm_manager *owner = new_manager();
    const char *name = test_name("open");
    hshm_allocator *heap = make_heap_of_mode(owner, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0666);
    play_as_nobody(use_open, name);
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.live_blocks, 1);
    (void)attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_ok(hshm_backend_destroy(owner, 1));
    hshm_manager_destroy(owner);
}

/* ---- leftovers ---- */

static int
leave_closed(void *arg)
{
    (void)make_heap_of_mode(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, arg, 0600);
    return 0;
}

static int
leave_open(void *arg)
{
    (void)make_heap_of_mode(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, arg, 0666);
    return 0;
}

static int
take_leftover(void *arg)
{
    if (!become_nobody())
        return CANNOT_TRY;
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.replace = HSHM_REPLACE_DEAD;
    assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, arg, &options, HSHM_E_PERM, arg);
    assert_id_free(TRIED_ID);
    assert_status(hshm_backend_remove(HSHM_BACKEND_POSIX_SHM_MMAP, arg), HSHM_E_PERM);
    assert_sentence(arg);
    assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, arg, NULL, HSHM_E_EXISTS, arg);
    witness_end(&witness);
    return 0;
}

static void
another_user_s_leftover_stays(void **state)
{
    (void)state;
    static int (*const leave[])(void *arg) = { leave_closed, leave_open };
    for (size_t i = 0; i < 2; i++) {
        const char *name = test_name("leftover");
        assert_int_equal(child_run(leave[i], (void *)(uintptr_t)name), 0);
        play_as_nobody(take_leftover, name);
        /* It is as it was: its owner may look into it, and remove it. */
        (void)attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
        assert_ok(hshm_backend_detach(NULL, 1));
        assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_SHM_MMAP, name));
    }
}

/* ---- folders ---- */

static int
create_in_closed_folder(void *arg)
{
    const char *folder = arg;
    if (!become_nobody())
        return CANNOT_TRY;
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/region", folder);
    assert_create_refused(HSHM_BACKEND_POSIX_MMAP, 64 * KIB, path, NULL, HSHM_E_PERM, path);
    assert_sentence(folder);
    assert_sentence("uid 65534");
    assert_id_free(TRIED_ID);
    witness_end(&witness);
    return 0;
}

static void
a_folder_without_permission_is_refused(void **state)
{
    (void)state;
    static const mode_t modes[] = { 0700, 0755 };
    const char *folder = reachable_path("folder");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mkdir(folder, modes[i]), 0);
        const int status = child_run(create_in_closed_folder, (void *)(uintptr_t)folder);
        assert_int_equal(rmdir(folder), 0);
        if (status == CANNOT_TRY) {
            print_message("needs root: no other user to be\n");
            skip();
        }
        assert_int_equal(status, 0);
    }
}

/* ---- who may destroy what he created ---- */

/* A process that gave up its rights after it created cannot remove the name; it leaves the memory all the same. */
static int
create_then_give_up(void *arg)
{
    const char *path = arg;
    const struct footprint before = footprint_take();
    (void)make_heap_of_mode(NULL, HSHM_BACKEND_POSIX_MMAP, path, 0600);
    if (!become_nobody())
        return CANNOT_TRY;
    assert_status(hshm_backend_destroy(NULL, 1), HSHM_E_PERM);
    assert_sentence(path);
    assert_status(hshm_backend_destroy(NULL, 1), HSHM_E_NOTFOUND);
    const struct footprint after = footprint_take();
    assert_int_equal(after.descriptors, before.descriptors);
    assert_int_equal(after.mappings, before.mappings);
    return 0;
}

static void
destroy_without_permission_leaves_the_memory_and_says_so(void **state)
{
    (void)state;
    const char *path = reachable_path("given-up");
    play_as_nobody(create_then_give_up, path);
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_region_of_mode_0600_is_closed_to_others),
        cmocka_unit_test(a_region_of_mode_0644_can_be_read_by_others),
        cmocka_unit_test(a_region_of_mode_0666_can_be_used_by_others),
        cmocka_unit_test(another_user_s_leftover_stays),
        cmocka_unit_test(a_folder_without_permission_is_refused),
        cmocka_unit_test(destroy_without_permission_leaves_the_memory_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
