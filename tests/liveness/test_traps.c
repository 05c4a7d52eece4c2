/*
 * test_traps.c - places where proof of life was once lost, or held too long, without anyone noticing.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/region_format.h"
#include "scene.h"

/* ---- file systems on which a lock goes with its descriptor ---- */

enum { NO_OVERLAY = 77 };

static bool
mount_overlay(const char *folder)
{
    char path[PATH_MAX];
    char options[4 * PATH_MAX];
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=1m") != 0)
        return false;
    static const char *const parts[] = { "lower", "upper", "work", "merged" };
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, parts[i]);
        if (mkdir(path, 0755) != 0)
            return false;
    }
    (void)snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", folder, folder,
                   folder);
    return mount("overlay", path, "overlay", 0, options) == 0;
}

static int
create_on_overlay(void *arg)
{
    const char *folder = arg;
    char url[PATH_MAX];
    struct stat st;
    if (!mount_overlay(folder))
        return NO_OVERLAY;
    (void)snprintf(url, sizeof url, "%s/merged/region", folder);
    const struct footprint before = footprint_take();
    hshm_backend *backend = NULL;
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_MMAP, SCENE_SIZE, url, NULL, &backend),
                  HSHM_E_NOTSUP);
    assert_sentence("overlayfs");
    assert_null(backend);
    assert_footprint(before);
    assert_int_not_equal(stat(url, &st), 0);
    return 0;
}

static void
where_locks_do_not_last_nothing_is_created(void **state)
{
    (void)state;
    const char *folder = test_path("overlay");
    assert_int_equal(mkdir(folder, 0755), 0);
    const int status = child_run(create_on_overlay, (void *)(uintptr_t)folder);
    assert_int_equal(rmdir(folder), 0);
    if (status == NO_OVERLAY) {
        print_message("overlayfs cannot be mounted here (it needs root)\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* ---- forks ---- */

/* Forks, and leaves as soon as there is a child; the child reports that it is there, and stays. */
static int
fork_and_leave(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) {
        assert_ok(hshm_backend_detach(NULL, 1));
        return 0;
    }
    scene_report(scene, 0, NULL);
    scene_stay();
}

static uint32_t
clean_word(const struct scene *scene)
{
    uint32_t clean = 77;
    const int fd = open(scene->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &clean, sizeof clean, offsetof(struct region_header, clean)), sizeof clean);
    (void)close(fd);
    return clean;
}

static void
a_file_is_in_use_as_long_as_a_forked_child_has_it(void **state)
{
    for (int round = 0; round < 50; round++) {
        struct scene *scene = scene_begin(state, "clean");
        assert_int_equal(child_wait(scene_start(fork_and_leave, scene)), 0);
        step_wait(&scene->ready, 1);
        if (scene->kind == HSHM_BACKEND_POSIX_MMAP)
            assert_int_equal(clean_word(scene), 0);
        assert_lives(scene);
        /* We are the subreaper: the child is ours now. */
        scene_kill(scene->reports[0].pid);
        assert_leftover(scene);
    }
}

/* The parent's name, in a new namespace in which the child has the parent's number. */
static int
be_first_in_two_namespaces(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    assert_int_equal(unshare(CLONE_NEWPID), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0)
        return child_wait(child);
    assert_int_equal(getpid(), 1);
    assert_false(scene_info(NULL).created_here);
    assert_ok(hshm_backend_destroy(NULL, 1));
    _exit(0);
}

static int
be_first(struct scene *scene)
{
    assert_int_equal(unshare(CLONE_NEWPID), 0);
    const pid_t first = fork();
    assert_true(first >= 0);
    if (first == 0) {
        assert_int_equal(getpid(), 1);
        _exit(be_first_in_two_namespaces(scene));
    }
    return child_wait(first);
}

static void
a_child_with_its_parents_number_is_not_its_parent(void **state)
{
    if (geteuid() != 0) {
        print_message("pid namespaces need root\n");
        skip();
    }
    struct scene *scene = scene_begin(state, "number");
    assert_int_equal(child_wait(scene_start(be_first, scene)), 0);
    assert_true(scene_named(scene));
    assert_leftover(scene);
}

/* ---- a daemon's standard streams ---- */

static int
print_without_streams(struct scene *scene)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        (void)close(fd);
    hshm_manager *other;
    assert_ok(hshm_manager_create(&other));
    (void)scene_create(scene, NULL);
    (void)scene_attach(scene, other);
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (write(fd, "a line of the log\n", 18) >= 0)
            return 1; /* into what? */
    }
    scene_report(scene, 0, NULL);
    scene_stay();
}

static void
what_a_daemon_prints_does_not_land_in_the_region(void **state)
{
    struct scene *scene = scene_begin(state, "streams");
    const pid_t daemon = scene_start(print_without_streams, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    (void)scene_attach(scene, NULL);
    assert_ok(hshm_backend_detach(NULL, 1));
    scene_kill(daemon);
    assert_leftover(scene);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_locks_do_not_last_nothing_is_created),
        BOTH_KINDS(a_file_is_in_use_as_long_as_a_forked_child_has_it),
        BOTH_KINDS(a_child_with_its_parents_number_is_not_its_parent),
        BOTH_KINDS(what_a_daemon_prints_does_not_land_in_the_region),
    };
    return cmocka_run_group_tests(tests, scene_setup, NULL);
}
