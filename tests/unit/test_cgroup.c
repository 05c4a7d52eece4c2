/*
 * test_cgroup.c - the room that control groups leave, read from trees that this test writes: version 1 and 2, limits at
 * any group on the way up, files in the cache, and trees that say nothing.
 */
#include "support.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "backend/preflight.h"

#define MIB (UINT64_C(1) << 20)

/* Local to a test: its tree, and the file that says which group this process is in. */
struct tree {
    char root[PATH_MAX / 2];
    char membership[PATH_MAX / 2];
};

static int
plant(void **state)
{
    static struct tree tree;
    (void)snprintf(tree.root, sizeof tree.root, "%s", test_path("cgroup"));
    (void)snprintf(tree.membership, sizeof tree.membership, "%s", test_path("self-cgroup"));
    *state = &tree;
    return mkdir(tree.root, 0700);
}

static int
remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static int
fell(void **state)
{
    const struct tree *tree = *state;
    (void)remove(tree->membership);
    return nftw(tree->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void
write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Write a file of a group, making the folders on the way. */
static void
set(const struct tree *tree, const char *group, const char *file, const char *text)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s%s/%s", tree->root, group, file);
    for (char *slash = path + strlen(tree->root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    write_text(path, text);
}

static uint64_t
room(const struct tree *tree, const char *membership)
{
    write_text(tree->membership, membership);
    return preflight_cgroup_room(tree->membership, tree->root);
}

#define assert_room(got, wanted) assert_true((got) == (wanted))

/* ---- version 2 ---- */

static void
v2_counts_what_is_held(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/box", "memory.max", "104857600\n");
    set(tree, "/box", "memory.current", "41943040\n");
    assert_room(room(tree, "0::/box\n"), 60 * MIB);
}

static void
v2_counts_cached_files_as_room(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/box", "memory.max", "104857600\n");
    set(tree, "/box", "memory.current", "41943040\n");
    set(tree, "/box", "memory.stat",
        "anon 1048576\nfile 33554432\nshmem 12582912\ninactive_anon 5\nactive_anon 6\n"
        "inactive_file 10485760\nactive_file 10485760\nunevictable 0\n");
    assert_room(room(tree, "0::/box\n"), 80 * MIB);

    /* More cache than is held is a moment between two reads, not more room than the limit. */
    set(tree, "/box", "memory.current", "1048576\n");
    assert_room(room(tree, "0::/box\n"), 100 * MIB);
}

static void
v2_takes_the_least_of_all_groups_above(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/a/b/c", "memory.max", "max\n");
    set(tree, "/a/b/c", "memory.current", "1048576\n");
    set(tree, "/a/b", "memory.max", "52428800\n");
    set(tree, "/a/b", "memory.current", "10485760\n");
    set(tree, "/a", "memory.max", "104857600\n");
    set(tree, "/a", "memory.current", "94371840\n");
    assert_room(room(tree, "0::/a/b/c\n"), 10 * MIB);
    assert_room(room(tree, "0::/a/b\n"), 10 * MIB);
    set(tree, "/a", "memory.current", "20971520\n");
    assert_room(room(tree, "0::/a/b/c\n"), 40 * MIB);
    set(tree, "/a/b/c", "memory.max", "3145728\n");
    assert_room(room(tree, "0::/a/b/c\n"), 2 * MIB);
    assert_room(room(tree, "0::/a\n"), 80 * MIB);
}

static void
v2_reads_the_root_of_a_container(void **state)
{
    const struct tree *tree = *state;
    set(tree, "", "memory.max", "8388608\n");
    set(tree, "", "memory.current", "1048576\n");
    assert_room(room(tree, "0::/\n"), 7 * MIB);
    /* Where the path is the host's, and only the container's own root can be seen. */
    assert_room(room(tree, "0::/system.slice/docker-0123456789.scope\n"), 7 * MIB);
}

static void
v2_without_a_limit_says_so(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/box", "memory.max", "max\n");
    set(tree, "/box", "memory.current", "41943040\n");
    assert_room(room(tree, "0::/box\n"), UINT64_MAX);
}

static void
a_group_that_is_full_leaves_nothing(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/box", "memory.max", "1048576\n");
    set(tree, "/box", "memory.current", "1048576\n");
    assert_room(room(tree, "0::/box\n"), 0);
    set(tree, "/box", "memory.current", "9999999\n"); /* a limit that was lowered */
    assert_room(room(tree, "0::/box\n"), 0);
    set(tree, "/box", "memory.max", "0\n");
    assert_room(room(tree, "0::/box\n"), 0);
}

static void
a_limit_without_a_figure_of_use_is_taken_whole(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/box", "memory.max", "1048576\n");
    assert_room(room(tree, "0::/box\n"), MIB);
}

/* ---- version 1 ---- */

static void
v1_is_found_by_its_controller(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/memory/jobs/17", "memory.limit_in_bytes", "104857600\n");
    set(tree, "/memory/jobs/17", "memory.usage_in_bytes", "62914560\n");
    set(tree, "/memory/jobs/17", "memory.stat",
        "cache 5\nactive_file 1\ninactive_file 1\ntotal_cache 5\n"
        "total_inactive_file 10485760\ntotal_active_file 20971520\n");
    static const char membership[] = "12:pids:/jobs/17\n"
                                     "8:cpu,cpuacct:/elsewhere\n"
                                     "5:memory:/jobs/17\n"
                                     "1:name=systemd:/user.slice\n";
    assert_room(room(tree, membership), 70 * MIB);
    assert_room(room(tree, "5:hugetlb,memory,misc:/jobs/17\n"), 70 * MIB);
    assert_room(room(tree, "5:hugetlb:/jobs/17\n4:memory2:/jobs/17\n3:xmemory:/jobs/17\n"), UINT64_MAX);
}

static void
v1_takes_the_least_of_all_groups_above(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/memory/jobs/17", "memory.limit_in_bytes", "9223372036854771712\n"); /* how v1 says "none" */
    set(tree, "/memory/jobs/17", "memory.usage_in_bytes", "1048576\n");
    assert_room(room(tree, "5:memory:/jobs/17\n"), UINT64_MAX);
    set(tree, "/memory", "memory.limit_in_bytes", "31457280\n");
    set(tree, "/memory", "memory.usage_in_bytes", "10485760\n");
    assert_room(room(tree, "5:memory:/jobs/17\n"), 20 * MIB);
    set(tree, "/memory/jobs", "memory.limit_in_bytes", "10485760\n");
    set(tree, "/memory/jobs", "memory.usage_in_bytes", "9437184\n");
    assert_room(room(tree, "5:memory:/jobs/17\n"), MIB);
    assert_room(room(tree, "5:memory:/\n"), 20 * MIB);
}

static void
both_versions_at_once_give_the_lesser_room(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/memory/box", "memory.limit_in_bytes", "20971520\n");
    set(tree, "/memory/box", "memory.usage_in_bytes", "0\n");
    set(tree, "/box", "memory.max", "10485760\n");
    set(tree, "/box", "memory.current", "0\n");
    assert_room(room(tree, "5:memory:/box\n0::/box\n"), 10 * MIB);
    assert_room(room(tree, "0::/nobox\n5:memory:/box\n"), 20 * MIB);
}

/* ---- trees that say nothing ---- */

static void
what_cannot_be_read_is_no_limit(void **state)
{
    const struct tree *tree = *state;
    assert_room(preflight_cgroup_room(tree->membership, tree->root), UINT64_MAX); /* no such file */
    static const char *const memberships[] = { "0::/box\n", "",          "\n\n",        "nonsense\n", "0:\n", "0::\n",
                                               "::::\n",    ":memory\n", "5:memory:\n", "5:memory\n", "0::/" };
    for (size_t i = 0; i < sizeof memberships / sizeof memberships[0]; i++)
        assert_room(room(tree, memberships[i]), UINT64_MAX);
}

static void
odd_contents_are_no_limit(void **state)
{
    const struct tree *tree = *state;
    static const char *const contents[] = {
        "", "\n", "many\n", "max", "9223372036854775807\n", "99999999999999999999\n"
    };
    set(tree, "/box", "memory.current", "0\n");
    for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++) {
        set(tree, "/box", "memory.max", contents[i]);
        assert_room(room(tree, "0::/box\n"), UINT64_MAX);
    }
    set(tree, "/box", "memory.max", "1048576"); /* without a newline */
    assert_room(room(tree, "0::/box"), MIB);
}

static void
keys_of_the_statistics_are_compared_whole(void **state)
{
    const struct tree *tree = *state;
    set(tree, "/box", "memory.max", "10485760\n");
    set(tree, "/box", "memory.current", "8388608\n");
    set(tree, "/box", "memory.stat",
        "workingset_active_file 4194304\nactive_file_x 4194304\nxactive_file 4194304\nactive_file 1048576\n"
        "inactive_file");
    assert_room(room(tree, "0::/box\n"), 3 * MIB);
    set(tree, "/box", "memory.stat", "active_file 1048576"); /* the first line, the last, and no newline */
    assert_room(room(tree, "0::/box\n"), 3 * MIB);
}

static void
long_paths_are_survived(void **state)
{
    const struct tree *tree = *state;
    char membership[7000];
    int length = snprintf(membership, sizeof membership, "0::");
    while (length < (int)sizeof membership - 20)
        length += snprintf(membership + length, sizeof membership - (size_t)length, "/longer");
    set(tree, "", "memory.max", "2097152\n");
    set(tree, "", "memory.current", "0\n");
    assert_room(room(tree, membership), 2 * MIB); /* the groups above are read all the same */
}

static void
this_process_gets_an_answer(void **state)
{
    (void)state;
    assert_true(preflight_cgroup_room("/proc/self/cgroup", "/sys/fs/cgroup") > 0);
    assert_ok(preflight_cgroup("'a test'", 1));
}

#define IN_TREE(test) cmocka_unit_test_setup_teardown(test, plant, fell)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TREE(v2_counts_what_is_held),
        IN_TREE(v2_counts_cached_files_as_room),
        IN_TREE(v2_takes_the_least_of_all_groups_above),
        IN_TREE(v2_reads_the_root_of_a_container),
        IN_TREE(v2_without_a_limit_says_so),
        IN_TREE(a_group_that_is_full_leaves_nothing),
        IN_TREE(a_limit_without_a_figure_of_use_is_taken_whole),
        IN_TREE(v1_is_found_by_its_controller),
        IN_TREE(v1_takes_the_least_of_all_groups_above),
        IN_TREE(both_versions_at_once_give_the_lesser_room),
        IN_TREE(what_cannot_be_read_is_no_limit),
        IN_TREE(odd_contents_are_no_limit),
        IN_TREE(keys_of_the_statistics_are_compared_whole),
        IN_TREE(long_paths_are_survived),
        cmocka_unit_test(this_process_gets_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
