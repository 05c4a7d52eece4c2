/*
 * test_preflight.c - limits on files, file systems and addresses are told in a sentence before they bite.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backend/preflight.h"

enum { LIMIT = 1 << 20 };

/* For the rest of this process: limits are set in children. */
static void
set_soft_limit(int which, rlim_t value)
{
    struct rlimit limit;
    assert_int_equal(getrlimit((__rlimit_resource_t)which, &limit), 0);
    limit.rlim_cur = value;
    assert_int_equal(setrlimit((__rlimit_resource_t)which, &limit), 0);
}

/* ---- `ulimit -f` ---- */

static int
check_file_sizes(void *arg)
{
    (void)arg;
    set_soft_limit(RLIMIT_FSIZE, LIMIT);
    assert_ok(preflight_file_size("'heap'", 0));
    assert_ok(preflight_file_size("'heap'", LIMIT - 1));
    assert_ok(preflight_file_size("'heap'", LIMIT));
    assert_status(preflight_file_size("'heap'", LIMIT + 1), HSHM_E_NOSPC);
    assert_sentence("cannot create 'heap'");
    assert_sentence("1.0 MiB (1048577) needed");
    assert_sentence("allows files of 1.0 MiB (1048576)");
    assert_sentence("ulimit -f");
    assert_status(preflight_file_size("'heap'", UINT64_MAX), HSHM_E_NOSPC);
    set_soft_limit(RLIMIT_FSIZE, 0);
    assert_status(preflight_file_size("'heap'", 1), HSHM_E_NOSPC);
    return 0;
}

static void
files_beyond_the_limit_are_refused(void **state)
{
    (void)state;
    assert_int_equal(child_run(check_file_sizes, NULL), 0);
}

static int
check_no_limit(void *arg)
{
    (void)arg;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    if (limit.rlim_max != RLIM_INFINITY)
        return 77;
    set_soft_limit(RLIMIT_FSIZE, RLIM_INFINITY);
    assert_ok(preflight_file_size("'heap'", UINT64_MAX));
    return 0;
}

static void
without_a_limit_any_size_passes(void **state)
{
    (void)state;
    const int status = child_run(check_no_limit, NULL);
    if (status == 77) {
        print_message("the hard limit on file sizes (ulimit -H -f) is not infinite here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* ---- file systems ---- */

static void
more_than_a_file_system_has_is_refused(void **state)
{
    (void)state;
    const int fd = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        print_message("there is no /dev/shm\n");
        skip();
    }
    struct statvfs fs;
    const int asked = fstatvfs(fd, &fs);
    const bool bounded = asked == 0 && fs.f_blocks != 0;
    const uint64_t all = bounded ? (uint64_t)fs.f_blocks * fs.f_frsize : 0;
    const hshm_status none = preflight_space("'heap'", fd, "/dev/shm", 0);
    const hshm_status more = preflight_space("'heap'", fd, "/dev/shm", all + 1);
    assert_int_equal(close(fd), 0);
    if (!bounded) {
        print_message("/dev/shm knows no bounds here\n");
        skip();
    }
    assert_ok(none);
    assert_status(more, HSHM_E_NOSPC);
    assert_sentence("cannot create 'heap': /dev/shm has ");
    assert_sentence("--shm-size");
}

static void
a_file_system_that_does_not_say_is_not_asked_again(void **state)
{
    (void)state;
    assert_ok(preflight_space("'heap'", -1, "nowhere", UINT64_MAX));
}

/* ---- control groups ---- */

static void
more_than_any_group_allows_is_refused_where_there_is_a_limit(void **state)
{
    (void)state;
    if (preflight_cgroup_room("/proc/self/cgroup", "/sys/fs/cgroup") == UINT64_MAX) {
        assert_ok(preflight_cgroup("'heap'", UINT64_MAX));
        return;
    }
    assert_status(preflight_cgroup("'heap'", UINT64_MAX), HSHM_E_NOSPC);
    assert_sentence("cannot create 'heap'");
    assert_sentence("HSHM_COMMIT_LAZY");
}

/* ---- a refused mapping ---- */

static int
check_sentence_of_mappings(void *arg)
{
    (void)arg;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_AS, &limit), 0);
    if (limit.rlim_cur == RLIM_INFINITY) {
        assert_status(preflight_map_failed("'heap'", 4096, ENOMEM), HSHM_E_NOSPC);
        assert_sentence("cannot map 'heap': 4.0 KiB (4096) needed");
        assert_sentence("(errno 12)");
        assert_sentence("vm.max_map_count");
    }
    /* So much that nothing is kept from the process, but a limit all the same. */
    set_soft_limit(RLIMIT_AS, (rlim_t)1 << 62);
    assert_status(preflight_map_failed("'heap'", 4096, ENOMEM), HSHM_E_NOSPC);
    assert_sentence("ulimit -v");
    assert_sentence("4.0 EiB (4611686018427387904)");
    return 0;
}

static void
a_refused_mapping_names_the_limit_if_there_is_one(void **state)
{
    (void)state;
    assert_int_equal(child_run(check_sentence_of_mappings, NULL), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_beyond_the_limit_are_refused),
        cmocka_unit_test(without_a_limit_any_size_passes),
        cmocka_unit_test(more_than_a_file_system_has_is_refused),
        cmocka_unit_test(a_file_system_that_does_not_say_is_not_asked_again),
        cmocka_unit_test(more_than_any_group_allows_is_refused_where_there_is_a_limit),
        cmocka_unit_test(a_refused_mapping_names_the_limit_if_there_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
