/*
 * scene.c - see scene.h.
 */
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

hshm_backend_kind scene_shm_kind = HSHM_BACKEND_POSIX_SHM_MMAP;
hshm_backend_kind scene_mmap_kind = HSHM_BACKEND_POSIX_MMAP;

/* Ends, for all who read it, when the test program does: only that keeps the other end. */
static int lifeline[2] = { -1, -1 };

int
scene_setup(void **state)
{
    (void)state;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        return -1;
    return pipe2(lifeline, O_CLOEXEC);
}

struct scene *
scene_begin(void **state, const char *what)
{
    struct scene *scene = shared_bytes(sizeof *scene);
    scene->kind = **(hshm_backend_kind **)state;
    if (scene->kind == HSHM_BACKEND_POSIX_MMAP) {
        (void)snprintf(scene->url, sizeof scene->url, "%s", test_path(what));
        (void)snprintf(scene->path, sizeof scene->path, "%s", scene->url);
    } else {
        (void)snprintf(scene->url, sizeof scene->url, "%s", test_name(what));
        (void)snprintf(scene->path, sizeof scene->path, "/dev/shm/%.250s", scene->url);
    }
    return scene;
}

/* ---- processes ---- */

struct start {
    int (*fn)(struct scene *scene);
    struct scene *scene;
};

static int
begin_process(void *arg)
{
    const struct start *start = arg;
    (void)close(lifeline[1]);
    return start->fn(start->scene);
}

pid_t
scene_start(int (*fn)(struct scene *scene), struct scene *scene)
{
    struct start start = { fn, scene };
    return child_start(begin_process, &start);
}

_Noreturn void
scene_stay(void)
{
    char byte;
    while (read(lifeline[0], &byte, 1) < 0 && errno == EINTR)
        ;
    _exit(3);
}

int
scene_lifeline(void)
{
    return lifeline[0];
}

void
scene_kill(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(child_wait(pid), 128 + SIGKILL);
}

bool
scene_become_nobody(void)
{
    if (getuid() != 0)
        return false;
    assert_int_equal(setgroups(0, NULL), 0);
    assert_int_equal(setgid(NOBODY), 0);
    assert_int_equal(setuid(NOBODY), 0);
    /* Changing the user forgot it. */
    assert_int_equal(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
    return true;
}

void
scene_open_to_all(struct scene *scene)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", scene->path);
    *strrchr(folder, '/') = '\0';
    if (scene->kind == HSHM_BACKEND_POSIX_MMAP)
        assert_int_equal(chmod(folder, 0755), 0);
    scene->mode = 0666;
}

/* ---- the region ---- */

hshm_allocator *
scene_create(struct scene *scene, hshm_manager *manager)
{
    hshm_allocator *heap = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.slots = scene->slots;
    options.mode = scene->mode;
    options.replace = scene->replace;
    assert_ok(hshm_backend_create(manager, 1, scene->kind, SCENE_SIZE, scene->url, &options, NULL));
    assert_ok(hshm_allocator_create(manager, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    return heap;
}

hshm_allocator *
scene_attach(struct scene *scene, hshm_manager *manager)
{
    return attach_heap(manager, scene->kind, scene->url, 0);
}

hshm_backend_info_data
scene_info(hshm_manager *manager)
{
    hshm_backend *backend = hshm_backend_get(manager, 1);
    assert_non_null(backend);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(backend, &info));
    return info;
}

void
scene_report(struct scene *scene, unsigned number, hshm_manager *manager)
{
    assert_true(number < SCENE_REPORTS);
    scene->reports[number].info = scene_info(manager);
    atomic_store(&scene->reports[number].pid, getpid());
    step_reach(&scene->ready);
}

int
scene_owner(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    scene_report(scene, 0, NULL);
    scene_stay();
}

int
scene_guest(struct scene *scene)
{
    (void)scene_attach(scene, NULL);
    scene_report(scene, 1, NULL);
    scene_stay();
}

/* ---- what is true of it ---- */

bool
scene_named(const struct scene *scene)
{
    struct stat st;
    return lstat(scene->path, &st) == 0;
}

hshm_status
scene_remove(const struct scene *scene)
{
    return hshm_backend_remove(scene->kind, scene->url);
}

hshm_status
scene_replace(const struct scene *scene)
{
    hshm_manager *manager = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.replace = HSHM_REPLACE_DEAD;
    options.slots = 7; /* recognisable */
    assert_ok(hshm_manager_create(&manager));
    const hshm_status status = hshm_backend_create(manager, 1, scene->kind, SCENE_SIZE, scene->url, &options, NULL);
    hshm_manager_destroy(manager);
    return status;
}

static void
expect(hshm_status got, hshm_status wanted, const char *call, const char *file, int line)
{
    support_assert_status(got, wanted, call, file, line);
}

void
scene_assert_lives(const struct scene *scene, const char *file, int line)
{
    struct stat before;
    struct stat after;
    assert_int_equal(stat(scene->path, &before), 0);
    expect(scene_remove(scene), HSHM_E_BUSY, "remove of a region that someone lives in", file, line);
    expect(scene_replace(scene), HSHM_E_BUSY, "replacing a region that someone lives in", file, line);
    assert_int_equal(stat(scene->path, &after), 0);
    assert_true(before.st_dev == after.st_dev && before.st_ino == after.st_ino);
}

void
scene_assert_leftover(const struct scene *scene, const char *file, int line)
{
    /* Each in its turn has to do with what a killed process left; the replacer leaves one more. */
    static unsigned turn;
    if (turn++ % 2 == 0)
        expect(scene_replace(scene), HSHM_OK, "replacing a leftover", file, line);
    expect(scene_remove(scene), HSHM_OK, "remove of a leftover", file, line);
    expect(scene_remove(scene), HSHM_E_NOTFOUND, "remove of nothing", file, line);
    assert_false(scene_named(scene));
}

unsigned
scene_descriptors(const struct scene *scene, int *ret_fd)
{
    unsigned count = 0;
    struct stat file;
    struct stat st;
    assert_int_equal(stat(scene->path, &file), 0);
    for (int fd = 0; fd < 256; fd++) {
        if (fstat(fd, &st) != 0 || st.st_dev != file.st_dev || st.st_ino != file.st_ino)
            continue;
        *ret_fd = fd;
        count++;
    }
    return count;
}
