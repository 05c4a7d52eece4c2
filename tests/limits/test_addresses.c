/*
 * test_addresses.c - `ulimit -v`: a process that may not map so much.
 *
 * labels: no-asan no-tsan
 * The sanitizers map terabytes for their own use, and cannot run under such a limit.
 */
#include "limits.h"

#include <stdio.h>

/* Allow `more` bytes of addresses beyond those in use. */
static void
allow_addresses(size_t more)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    assert_int_equal(fclose(file), 0);
    set_limit(RLIMIT_AS, (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + more);
}

struct kind_and_url {
    hshm_backend_kind kind;
    const char *url;
};

static int
create_beyond(void *arg)
{
    const struct kind_and_url *what = arg;
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
    const hshm_backend_options lazy = commit_options(HSHM_COMMIT_LAZY);
    allow_addresses(3 * MIB);
    assert_create_refused(what->kind, 8 * MIB, what->url, &lazy, HSHM_E_NOSPC, "ulimit -v");
    assert_sentence("8.0 MiB (8388608)");
    if (what->kind != HSHM_BACKEND_MALLOC)
        assert_sentence(what->url);
    assert_id_free(TRIED_ID);
    assert_nothing_left(&witness);
    /* There is no room to look for an aligned place (twice the size), but for the region itself there is. */
    assert_create_works(what->kind, 2 * MIB, what->url, &lazy);
    witness_end(&witness);
    return 0;
}

static void
a_region_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    struct kind_and_url shm = { HSHM_BACKEND_POSIX_SHM_MMAP, test_name("big") };
    struct kind_and_url file = { HSHM_BACKEND_POSIX_MMAP, test_path("big") };
    struct kind_and_url private = { HSHM_BACKEND_MALLOC, NULL };
    assert_int_equal(child_run(create_beyond, &shm), 0);
    assert_int_equal(child_run(create_beyond, &file), 0);
    assert_int_equal(child_run(create_beyond, &private), 0);
}

/* The limit is met by one process; the region, and those who are attached to it, do not notice. */
static int
attach_beyond(void *arg)
{
    const struct kind_and_url *what = arg;
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
    allow_addresses(3 * MIB);
    assert_attach_refused(what->kind, what->url, NULL, HSHM_E_NOSPC, "ulimit -v");
    assert_sentence(what->url);
    assert_sentence("8.0 MiB (8388608)");
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    assert_attach_refused(what->kind, what->url, &options, HSHM_E_NOSPC, "ulimit -v");
    assert_nothing_left(&witness);

    set_limit(RLIMIT_AS, RLIM_INFINITY);
    hshm_allocator *heap = attach_heap(NULL, what->kind, what->url, 0);
    assert_non_null(hshm_malloc(heap, 100));
    assert_ok(hshm_backend_detach(NULL, 1));
    witness_end(&witness);
    return 0;
}

static void
attach_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    struct kind_and_url both[] = { { HSHM_BACKEND_POSIX_SHM_MMAP, test_name("big") },
                                   { HSHM_BACKEND_POSIX_MMAP, test_path("big") } };
    for (size_t i = 0; i < 2; i++) {
        const hshm_backend_options lazy = commit_options(HSHM_COMMIT_LAZY);
        hshm_allocator *heap = NULL;
        hshm_manager *owner = NULL;
        assert_ok(hshm_manager_create(&owner));
        assert_ok(hshm_backend_create(owner, 1, both[i].kind, 8 * MIB, both[i].url, &lazy, NULL));
        assert_ok(hshm_allocator_create(owner, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
        assert_int_equal(child_run(attach_beyond, &both[i]), 0);
        hshm_stats stats = HSHM_STATS_INIT;
        assert_ok(hshm_stats_get(heap, &stats));
        assert_int_equal(stats.live_blocks, 1);
        hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
        assert_ok(hshm_backend_info(hshm_backend_get(owner, 1), &info));
        assert_int_equal(info.processes, 1);
        assert_ok(hshm_backend_destroy(owner, 1));
        hshm_manager_destroy(owner);
    }
}

/* A region that fits, while the one page more that holds the proof of life does not: also refused, also whole. */
static int
no_page_left(void *arg)
{
    const char *url = arg;
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const hshm_backend_options lazy = commit_options(HSHM_COMMIT_LAZY);
    size_t more = 0;
    hshm_status status = HSHM_E_NOSPC;
    /* From nothing to enough, page by page: each mapping in the call fails once. */
    for (; more < 64 * page && status == HSHM_E_NOSPC; more += page) {
        allow_addresses(more);
        status = hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 16 * page, url, &lazy, NULL);
        set_limit(RLIMIT_AS, RLIM_INFINITY);
        if (status != HSHM_OK)
            assert_nothing_left(&witness);
    }
    assert_int_equal(status, HSHM_OK);
    assert_true(more > 16 * page);
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
    witness_end(&witness);
    return 0;
}

static void
every_mapping_may_fail(void **state)
{
    (void)state;
    assert_int_equal(child_run(no_page_left, (void *)(uintptr_t)test_name("page")), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_region_beyond_the_limit_is_refused),
        cmocka_unit_test(attach_beyond_the_limit_is_refused),
        cmocka_unit_test(every_mapping_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
