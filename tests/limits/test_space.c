/*
 * test_space.c - file systems without room: /dev/shm, a disk, files that may not grow, a container's memory.
 *
 * Each child sees a /dev/shm of its own, of 1 MiB, in a mount namespace of its own; so all of this needs root.
 */
#include "limits.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* ---- scenes ---- */

/* From here on, what is mounted is seen by this process alone.  False where that is not allowed. */
static bool
own_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static bool
mount_small(const char *folder)
{
    return mount("tmpfs", folder, "tmpfs", 0, "size=1m") == 0;
}

static bool
small_shm(void)
{
    return own_mounts() && mount_small("/dev/shm");
}

static uint64_t
free_bytes(const char *folder)
{
    struct statvfs fs;
    assert_int_equal(statvfs(folder, &fs), 0);
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* Run a scene in a child; skip when the child could not set it up. */
static void
play(int (*scene)(void *arg))
{
    const int status = child_run(scene, NULL);
    if (status == CANNOT_TRY) {
        print_message("needs root, to mount for one process alone\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* ---- /dev/shm of 1 MiB ---- */

static int
more_than_there_is(void *arg)
{
    (void)arg;
    if (!small_shm())
        return CANNOT_TRY;
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
    const uint64_t room = free_bytes("/dev/shm");
    const char *name = test_name("big");
    static const hshm_commit whole[] = { HSHM_COMMIT_RESERVE, HSHM_COMMIT_PREFAULT };
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        const hshm_backend_options options = commit_options(whole[i]);
        assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, 4 * MIB, name, &options, HSHM_E_NOSPC, name);
        assert_sentence("/dev/shm has ");
        assert_sentence("of 1.0 MiB (1048576)");
        assert_sentence("4.0 MiB (4194304) needed");
        assert_sentence("--shm-size");
        assert_sentence("HSHM_BACKEND_POSIX_MMAP");
        assert_id_free(TRIED_ID);
        assert_int_equal(free_bytes("/dev/shm"), room);
        /* As large as a region may be asked for. */
        assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, (size_t)1 << 60, name, &options, HSHM_E_NOSPC,
                              "1.0 EiB (1152921504606846976) needed");
    }
    /* Exactly what is there can be had, a page more cannot. */
    assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, room + 1, name, NULL, HSHM_E_NOSPC, "/dev/shm");
    assert_create_works(HSHM_BACKEND_POSIX_SHM_MMAP, room, name, NULL);
    assert_int_equal(free_bytes("/dev/shm"), room);
    witness_end(&witness);
    return 0;
}

static void
more_than_dev_shm_has_is_refused_and_what_it_has_is_given(void **state)
{
    (void)state;
    play(more_than_there_is);
}

/* Take all of /dev/shm but `left` bytes. */
static void
fill_shm(hshm_backend_id id, uint64_t left)
{
    const uint64_t room = free_bytes("/dev/shm");
    assert_true(room > left);
    assert_ok(hshm_backend_create(NULL, id, HSHM_BACKEND_POSIX_SHM_MMAP, room - left, test_name("filler"), NULL, NULL));
    assert_int_equal(free_bytes("/dev/shm"), left);
}

enum { FILLER_ID = 8 };

static int
touch_all(void *arg)
{
    hshm_allocator *heap = arg;
    for (;;) {
        unsigned char *block = hshm_malloc(heap, 4096);
        if (block == NULL)
            return 0;
        *block = 1;
    }
}

/* A lazy region is larger than /dev/shm; only the touch of a page that is not there kills, as its documentation says. */
static int
lazy_beyond(void *arg)
{
    (void)arg;
    if (!small_shm())
        return CANNOT_TRY;
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
    const hshm_backend_options options = commit_options(HSHM_COMMIT_LAZY);
    const char *name = test_name("lazy");
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 4 * MIB, name, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    unsigned char *block = hshm_malloc(heap, 64 * KIB);
    assert_non_null(block);
    memset(block, PATTERN, 64 * KIB);

    assert_int_equal(child_run(touch_all, heap), 128 + SIGBUS);
    /* Not even that hurts the others: what was written is there, what is there can be read, and can be given back. */
    assert_int_equal(block[64 * KIB - 1], PATTERN);
    assert_goes_on(&witness);
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_true(stats.live_blocks > 1);
    assert_ok(hshm_stack_reset(heap));
    uint64_t given = 0;
    assert_ok(hshm_trim(heap, 0, &given));
    assert_true(given > 0);
    assert_true(free_bytes("/dev/shm") > 512 * KIB);
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
    witness_end(&witness);
    return 0;
}

static void
a_lazy_region_may_be_larger_than_dev_shm(void **state)
{
    (void)state;
    play(lazy_beyond);
}

/* Header, slots and root are promised by calls that can say no: with /dev/shm full they do, instead of dying. */
static int
lazy_on_full(void *arg)
{
    (void)arg;
    if (!small_shm())
        return CANNOT_TRY;
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
    const hshm_backend_options options = commit_options(HSHM_COMMIT_LAZY);
    const char *name = test_name("lazy");

    /* Not even header and slots. */
    fill_shm(FILLER_ID, 0);
    assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, 4 * MIB, name, &options, HSHM_E_NOSPC, name);
    assert_sentence("needed");
    assert_ok(hshm_backend_destroy(NULL, FILLER_ID));

    /* Those, but no heap. */
    assert_ok(hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 4 * MIB, name, &options, NULL));
    fill_shm(FILLER_ID, 0);
    hshm_allocator *heap = NULL;
    assert_status(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 64 * KIB, NULL, &heap),
                  HSHM_E_NOSPC);
    assert_sentence(name);
    assert_sentence("/dev/shm");
    assert_null(heap);
    assert_goes_on(&witness);
    assert_attach_refused(HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, HSHM_E_NOTREADY, "no heap yet");

    /* With room again, the same call on the same backend goes well. */
    assert_ok(hshm_backend_destroy(NULL, FILLER_ID));
    assert_ok(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 64 * KIB, NULL, &heap));
    memset(hshm_allocator_custom_header(heap, NULL), PATTERN, 64 * KIB);
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
    witness_end(&witness);
    return 0;
}

static void
a_lazy_region_on_a_full_dev_shm_is_refused_not_killed(void **state)
{
    (void)state;
    play(lazy_on_full);
}

/* What was reserved can be used to the last byte, and attached to, when nothing else is left. */
static int
reserved_on_full(void *arg)
{
    (void)arg;
    if (!small_shm())
        return CANNOT_TRY;
    const char *name = test_name("reserved");
    hshm_manager *other = NULL;
    assert_ok(hshm_manager_create(&other));
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, 512 * KIB, HSHM_ALLOCATOR_STACK);
    fill_shm(FILLER_ID, 0);

    hshm_allocator *attached = attach_heap(other, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
    size_t taken = 0;
    for (unsigned char *block = hshm_malloc(attached, 1024); block != NULL; block = hshm_malloc(attached, 1024)) {
        memset(block, PATTERN, 1024);
        taken += 1024;
    }
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_true(taken > 400 * KIB);
    assert_ok(hshm_stack_reset(heap));
    hshm_manager_destroy(other);
    assert_ok(hshm_backend_destroy(NULL, FILLER_ID));
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static void
what_was_reserved_can_be_used_when_nothing_else_is_left(void **state)
{
    (void)state;
    play(reserved_on_full);
}

/* ---- a small disk ---- */

/* A folder of this process's own; the parent made it, so that it can remove it. */
static const char *disk;

static int
full_disk(void *arg)
{
    (void)arg;
    if (!own_mounts() || !mount_small(disk))
        return CANNOT_TRY;
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/region", disk);
    char bystander[4096];
    (void)snprintf(bystander, sizeof bystander, "%s/bystander", disk);
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_MMAP, bystander);
    const uint64_t room = free_bytes(disk);

    assert_create_refused(HSHM_BACKEND_POSIX_MMAP, 4 * MIB, path, NULL, HSHM_E_NOSPC, path);
    assert_sentence("4.0 MiB (4194304) needed");
    assert_sentence("of 1.0 MiB (1048576)");
    assert_id_free(TRIED_ID);
    assert_int_equal(free_bytes(disk), room);
    assert_int_equal(access(path, F_OK), -1);
    assert_create_works(HSHM_BACKEND_POSIX_MMAP, room, path, NULL);

    const hshm_backend_options lazy = commit_options(HSHM_COMMIT_LAZY);
    assert_ok(hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_POSIX_MMAP, 4 * MIB, path, &lazy, NULL));
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
    assert_int_equal(free_bytes(disk), room);
    witness_end(&witness);
    return 0;
}

static void
a_full_disk_is_refused_for_mapped_files(void **state)
{
    (void)state;
    disk = test_path("disk");
    assert_int_equal(mkdir(disk, 0700), 0);
    const int status = child_run(full_disk, NULL);
    assert_int_equal(rmdir(disk), 0);
    if (status == CANNOT_TRY) {
        print_message("needs root, to mount for one process alone\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* ---- ulimit -f ---- */

static int
small_files(void *arg)
{
    const hshm_backend_kind kind = *(hshm_backend_kind *)arg;
    const bool shm = kind == HSHM_BACKEND_POSIX_SHM_MMAP;
    const struct witness witness = witness_begin(kind, shm ? test_name("bystander") : test_path("bystander"));
    const char *url = shm ? test_name("file") : test_path("file");
    const hshm_backend_options lazy = commit_options(HSHM_COMMIT_LAZY);
    hshm_allocator *heap = NULL;
    /* Larger than what will be allowed; its size does not change any more. */
    const char *early = shm ? test_name("early") : test_path("early");
    assert_ok(hshm_backend_create(NULL, 9, kind, 256 * KIB, early, &lazy, NULL));

    set_limit(RLIMIT_FSIZE, 64 * KIB);
    assert_create_refused(kind, 64 * KIB + 1, url, NULL, HSHM_E_NOSPC, url);
    assert_sentence("ulimit -f");
    assert_sentence("files of 64.0 KiB (65536)");
    assert_create_refused(kind, MIB, url, &lazy, HSHM_E_NOSPC, "1.0 MiB (1048576) needed");
    assert_id_free(TRIED_ID);
    assert_create_works(kind, 64 * KIB, url, NULL);
    assert_ok(hshm_allocator_create(NULL, 9, (hshm_allocator_id){ 9, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    assert_non_null(hshm_malloc(heap, 128 * KIB));
    assert_ok(hshm_backend_destroy(NULL, 9));
    witness_end(&witness);
    return 0;
}

static void
files_that_may_not_grow_are_refused_without_a_signal(void **state)
{
    (void)state;
    static hshm_backend_kind kinds[] = { HSHM_BACKEND_POSIX_SHM_MMAP, HSHM_BACKEND_POSIX_MMAP };
    assert_int_equal(child_run(small_files, &kinds[0]), 0);
    assert_int_equal(child_run(small_files, &kinds[1]), 0);
}

/* ---- a container's memory ---- */

static void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/*
 * Show this process the control groups of a container with 32 MiB, of which 12 are in use.  Not real groups: what the
 * kernel says of them stands in files, and this puts others in their place, for this process alone.
 */
static bool
small_container(const char *membership, const char *group, const char *limit, const char *usage)
{
    if (!own_mounts() || mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "size=1m") != 0)
        return false;
    char path[4096];
    (void)snprintf(path, sizeof path, "/sys/fs/cgroup/membership");
    write_file(path, membership);
    if (mount(path, "/proc/self/cgroup", NULL, MS_BIND, NULL) != 0)
        return false;
    (void)snprintf(path, sizeof path, "/sys/fs/cgroup/%s", group);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
    assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
    char file[8192];
    (void)snprintf(file, sizeof file, "%s/%s", path, limit);
    write_file(file, "33554432\n");
    (void)snprintf(file, sizeof file, "%s/%s", path, usage);
    write_file(file, "12582912\n");
    return true;
}

static void
assert_container_counts(void)
{
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
    const char *name = test_name("big");
    assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, 20 * MIB + 1, name, NULL, HSHM_E_NOSPC, name);
    assert_sentence("memory limit of this container");
    assert_sentence("leaves 20.0 MiB (20971520)");
    assert_sentence("--memory");
    assert_id_free(TRIED_ID);
    /* A lazy one asks for nothing now; a file's pages make way, and are not counted; and what is left may be had. */
    const hshm_backend_options lazy = commit_options(HSHM_COMMIT_LAZY);
    assert_create_works(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * MIB, name, &lazy);
    assert_create_works(HSHM_BACKEND_POSIX_MMAP, 21 * MIB, test_path("file"), NULL);
    assert_create_works(HSHM_BACKEND_POSIX_SHM_MMAP, MIB, name, NULL);
    witness_end(&witness);
}

static int
container_v1(void *arg)
{
    (void)arg;
    if (!small_container("5:cpu,memory:/docker/abc\n0::/\n", "memory/docker/abc", "memory.limit_in_bytes",
                         "memory.usage_in_bytes"))
        return CANNOT_TRY;
    assert_container_counts();
    return 0;
}

static int
container_v2(void *arg)
{
    (void)arg;
    /* The limit stands above the group that the process is in. */
    if (!small_container("0::/kubepods/pod1/main\n", "kubepods/pod1", "memory.max", "memory.current"))
        return CANNOT_TRY;
    assert_container_counts();
    return 0;
}

static void
a_container_s_memory_limit_is_asked_first_v1(void **state)
{
    (void)state;
    play(container_v1);
}

static void
a_container_s_memory_limit_is_asked_first_v2(void **state)
{
    (void)state;
    play(container_v2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_than_dev_shm_has_is_refused_and_what_it_has_is_given),
        cmocka_unit_test(a_lazy_region_may_be_larger_than_dev_shm),
        cmocka_unit_test(a_lazy_region_on_a_full_dev_shm_is_refused_not_killed),
        cmocka_unit_test(what_was_reserved_can_be_used_when_nothing_else_is_left),
        cmocka_unit_test(a_full_disk_is_refused_for_mapped_files),
        cmocka_unit_test(files_that_may_not_grow_are_refused_without_a_signal),
        cmocka_unit_test(a_container_s_memory_limit_is_asked_first_v1),
        cmocka_unit_test(a_container_s_memory_limit_is_asked_first_v2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
