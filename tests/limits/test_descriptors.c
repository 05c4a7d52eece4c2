/*
 * test_descriptors.c - a process that has no descriptor left, or a few: create, attach and remove say so.
 *
 * Each call is tried with 0, 1, 2, ... free descriptors until it succeeds, so that every open(2) in it fails once.
 */
#include "limits.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>

enum { FREE_MAX = 16 };

/* One more than the highest descriptor in use. */
static int
first_unused(void)
{
    int highest = -1;
    DIR *entries = opendir("/proc/self/fd");
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        const int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd != dirfd(entries) && fd > highest)
            highest = fd;
    }
    (void)closedir(entries);
    return highest + 1;
}

/* Take the unused descriptors below `end`, so that those above are all that there is.  Returns how many. */
static int
fill_gaps(int end, int *ret_filled)
{
    int count = 0;
    for (int fd = open("/dev/null", O_RDONLY); fd >= 0; fd = open("/dev/null", O_RDONLY)) {
        if (fd >= end) {
            (void)close(fd);
            break;
        }
        ret_filled[count++] = fd;
    }
    return count;
}

/* Local: what is tried with few descriptors. */
struct attempt {
    hshm_status (*call)(const char *url);
    void (*undo)(void);
    hshm_backend_kind kind;
    const char *url;
};

static void
try_with(const struct attempt *attempt, int free_count, hshm_status *ret_status)
{
    static int filled[1024];
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const int end = first_unused();
    const int count = fill_gaps(end, filled);
    set_limit(RLIMIT_NOFILE, (rlim_t)(end + free_count));
    *ret_status = attempt->call(attempt->url);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < count; i++)
        (void)close(filled[i]);
}

static int
with_ever_more(void *arg)
{
    const struct attempt *attempt = arg;
    const bool shm = attempt->kind == HSHM_BACKEND_POSIX_SHM_MMAP;
    const struct witness witness = witness_begin(attempt->kind, shm ? test_name("bystander") : test_path("bystander"));
    hshm_status status = HSHM_E_NOSPC;
    int free_count = 0;
    for (; free_count < FREE_MAX; free_count++) {
        try_with(attempt, free_count, &status);
        if (status == HSHM_OK)
            break;
        assert_int_equal(status, HSHM_E_NOSPC);
        assert_sentence(attempt->url);
        assert_sentence("ulimit -n");
        assert_nothing_left(&witness);
    }
    print_message("needed %d free descriptors\n", free_count);
    assert_int_equal(status, HSHM_OK);
    assert_true(free_count > 0);
    attempt->undo();
    witness_end(&witness);
    return 0;
}

/* ---- create ---- */

static hshm_status
create_shm(const char *url)
{
    return hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, url, NULL, NULL);
}

static hshm_status
create_file(const char *url)
{
    return hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_POSIX_MMAP, 64 * KIB, url, NULL, NULL);
}

static void
destroy_tried(void)
{
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
}

static void
create_needs_descriptors_and_says_so(void **state)
{
    (void)state;
    struct attempt shm = { .call = create_shm, .undo = destroy_tried, .kind = HSHM_BACKEND_POSIX_SHM_MMAP };
    shm.url = test_name("tried");
    assert_int_equal(child_run(with_ever_more, &shm), 0);
    struct attempt file = { .call = create_file, .undo = destroy_tried, .kind = HSHM_BACKEND_POSIX_MMAP };
    file.url = test_path("tried");
    assert_int_equal(child_run(with_ever_more, &file), 0);
}

/* ---- attach ---- */

static hshm_manager *other;

static hshm_status
attach_shm(const char *url)
{
    return hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, url, NULL, NULL);
}

static hshm_status
attach_file_read_only(const char *url)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    return hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, url, &options, NULL);
}

static void
detach_tried(void)
{
    assert_ok(hshm_backend_detach(NULL, 1));
}

static int
attach_with_ever_more(void *arg)
{
    const struct attempt *attempt = arg;
    assert_ok(hshm_manager_create(&other));
    (void)make_heap(other, attempt->kind, attempt->url, 64 * KIB, HSHM_ALLOCATOR_STACK);
    const int status = with_ever_more(arg);
    assert_ok(hshm_backend_destroy(other, 1));
    hshm_manager_destroy(other);
    return status;
}

static void
attach_needs_descriptors_and_says_so(void **state)
{
    (void)state;
    struct attempt shm = { .call = attach_shm, .undo = detach_tried, .kind = HSHM_BACKEND_POSIX_SHM_MMAP };
    shm.url = test_name("tried");
    assert_int_equal(child_run(attach_with_ever_more, &shm), 0);
    struct attempt file = { .call = attach_file_read_only, .undo = detach_tried, .kind = HSHM_BACKEND_POSIX_MMAP };
    file.url = test_path("tried");
    assert_int_equal(child_run(attach_with_ever_more, &file), 0);
}

/* ---- remove ---- */

static hshm_status
remove_shm(const char *url)
{
    return hshm_backend_remove(HSHM_BACKEND_POSIX_SHM_MMAP, url);
}

static void
nothing(void)
{
}

static int
leave_shm(void *arg)
{
    (void)make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, arg, 64 * KIB, HSHM_ALLOCATOR_STACK);
    return 0;
}

static int
remove_with_ever_more(void *arg)
{
    const struct attempt *attempt = arg;
    assert_int_equal(child_run(leave_shm, (void *)(uintptr_t)attempt->url), 0);
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    hshm_status status = HSHM_E_NOSPC;
    int free_count = 0;
    for (; free_count < FREE_MAX && status != HSHM_OK; free_count++) {
        try_with(attempt, free_count, &status);
        if (status != HSHM_OK) {
            assert_int_equal(status, HSHM_E_NOSPC);
            assert_sentence("ulimit -n");
            assert_nothing_left(&witness);
        }
    }
    assert_int_equal(status, HSHM_OK);
    assert_true(free_count > 1);
    assert_status(hshm_backend_remove(attempt->kind, attempt->url), HSHM_E_NOTFOUND);
    return 0;
}

static void
remove_needs_descriptors_and_says_so(void **state)
{
    (void)state;
    struct attempt shm = { .call = remove_shm, .undo = nothing, .kind = HSHM_BACKEND_POSIX_SHM_MMAP };
    shm.url = test_name("tried");
    assert_int_equal(child_run(remove_with_ever_more, &shm), 0);
}

/* ---- what needs none ---- */

static hshm_status
work_and_destroy(const char *url)
{
    (void)url;
    hshm_allocator *heap = NULL;
    hshm_status status = hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, NULL, &heap);
    if (status == HSHM_OK && hshm_malloc(heap, 100) == NULL)
        status = hshm_last_status();
    return status == HSHM_OK ? hshm_backend_destroy(NULL, TRIED_ID) : status;
}

static int
with_none(void *arg)
{
    const char *url = arg;
    const struct footprint before = footprint_take();
    assert_ok(create_shm(url));
    hshm_status status = HSHM_E_SYSTEM;
    const struct attempt attempt = { .call = work_and_destroy, .url = url };
    try_with(&attempt, 0, &status);
    assert_int_equal(status, HSHM_OK);
    assert_footprint(before);
    return 0;
}

static void
a_heap_is_made_used_and_destroyed_without_a_free_descriptor(void **state)
{
    (void)state;
    assert_int_equal(child_run(with_none, (void *)(uintptr_t)test_name("tried")), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_needs_descriptors_and_says_so),
        cmocka_unit_test(attach_needs_descriptors_and_says_so),
        cmocka_unit_test(remove_needs_descriptors_and_says_so),
        cmocka_unit_test(a_heap_is_made_used_and_destroyed_without_a_free_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
