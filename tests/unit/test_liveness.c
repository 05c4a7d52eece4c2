/*
 * test_liveness.c - the proof of life by itself: locks of open file descriptions, and mappings that hold them.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/compiler.h"
#include "sync/liveness.h"

/* Two descriptions of one file: one that holds, one that asks. */
static struct {
    char path[4096];
    int holder, asker;
} file;

static int
open_again(int flags)
{
    const int fd = open(file.path, flags | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int
open_file(void **state)
{
    (void)state;
    (void)snprintf(file.path, sizeof file.path, "%s", test_path("life"));
    file.holder = open(file.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    file.asker = open(file.path, O_RDWR | O_CLOEXEC);
    return file.holder >= 0 && file.asker >= 0 ? ftruncate(file.holder, 65536) : -1;
}

static int
close_file(void **state)
{
    (void)state;
    /* A test may have closed the holder. */
    if (file.holder >= 0)
        (void)close(file.holder);
    (void)close(file.asker);
    return unlink(file.path);
}

static void
close_holder(void)
{
    assert_int_equal(close(file.holder), 0);
    file.holder = -1;
}

/* ---- locks ---- */

static void
a_lock_is_seen_by_others_but_not_through_its_own_description(void **state)
{
    (void)state;
    assert_int_equal(life_is_held(file.asker, 64, 64), 0);
    assert_int_equal(life_lock(file.holder, LOCK_EXCLUSIVE, 64, 64), 0);
    assert_int_equal(life_is_held(file.asker, 64, 64), 1);
    assert_int_equal(life_is_held(file.holder, 64, 64), 0);
    /* A duplicate is the same description; another open of the same process is another one. */
    const int same = dup(file.holder);
    const int other = open_again(O_RDONLY);
    assert_int_equal(life_is_held(same, 64, 64), 0);
    assert_int_equal(life_is_held(other, 64, 64), 1);
    assert_int_equal(close(same), 0);
    assert_int_equal(close(other), 0);
    assert_int_equal(life_is_held(file.asker, 64, 64), 1);
    life_unlock(file.holder, 64, 64);
    assert_int_equal(life_is_held(file.asker, 64, 64), 0);
}

static void
a_shared_lock_is_seen_too(void **state)
{
    (void)state;
    assert_int_equal(life_lock(file.holder, LOCK_SHARED, 64, 64), 0);
    assert_int_equal(life_is_held(file.asker, 64, 64), 1);
    assert_int_equal(life_is_held(file.holder, 64, 64), 0);
}

static void
exclusive_locks_shut_all_out_and_shared_ones_only_those(void **state)
{
    (void)state;
    assert_int_equal(life_lock(file.holder, LOCK_EXCLUSIVE, 0, 8), 0);
    assert_int_equal(life_lock(file.asker, LOCK_EXCLUSIVE, 0, 8), EAGAIN);
    assert_int_equal(life_lock(file.asker, LOCK_SHARED, 0, 8), EAGAIN);
    life_unlock(file.holder, 0, 8);

    assert_int_equal(life_lock(file.holder, LOCK_SHARED, 0, 8), 0);
    assert_int_equal(life_lock(file.asker, LOCK_SHARED, 0, 8), 0);
    assert_int_equal(life_lock(file.asker, LOCK_EXCLUSIVE, 0, 8), EAGAIN);
    life_unlock(file.holder, 0, 8);
    assert_int_equal(life_lock(file.asker, LOCK_EXCLUSIVE, 0, 8), 0);
}

static void
locks_are_of_bytes_and_touch_no_others(void **state)
{
    (void)state;
    assert_int_equal(life_lock(file.holder, LOCK_EXCLUSIVE, 64, 64), 0);
    assert_int_equal(life_is_held(file.asker, 0, 64), 0);
    assert_int_equal(life_is_held(file.asker, 63, 1), 0);
    assert_int_equal(life_is_held(file.asker, 64, 1), 1);
    assert_int_equal(life_is_held(file.asker, 127, 1), 1);
    assert_int_equal(life_is_held(file.asker, 128, 1), 0);
    assert_int_equal(life_is_held(file.asker, 0, 65), 1);
    assert_int_equal(life_is_held(file.asker, 0, 4096), 1);
    assert_int_equal(life_lock(file.asker, LOCK_EXCLUSIVE, 128, 64), 0);
    /* Giving back a part leaves the rest. */
    life_unlock(file.holder, 64, 32);
    assert_int_equal(life_is_held(file.asker, 64, 32), 0);
    assert_int_equal(life_is_held(file.asker, 96, 32), 1);
}

static void
to_the_end_means_beyond_the_end_too(void **state)
{
    (void)state;
    assert_int_equal(life_lock(file.holder, LOCK_EXCLUSIVE, 1000000, 8), 0);
    assert_int_equal(life_is_held(file.asker, 0, LOCK_TO_END), 1);
    assert_int_equal(life_is_held(file.asker, 1000000, LOCK_TO_END), 1);
    assert_int_equal(life_is_held(file.asker, 1000008, LOCK_TO_END), 0);
    assert_int_equal(life_lock(file.asker, LOCK_EXCLUSIVE, 1000008, LOCK_TO_END), 0);
    assert_int_equal(life_is_held(file.holder, UINT64_C(1) << 60, 8), 1);
}

static void
descriptors_need_the_right_that_fits_the_lock(void **state)
{
    (void)state;
    const int reader = open_again(O_RDONLY);
    const int writer = open_again(O_WRONLY);
    assert_int_equal(life_lock(reader, LOCK_SHARED, 0, 8), 0);
    life_unlock(reader, 0, 8);
    assert_int_equal(life_lock(reader, LOCK_EXCLUSIVE, 0, 8), EBADF);
    assert_int_equal(life_lock(writer, LOCK_SHARED, 0, 8), EBADF);
    /* Asking takes no right. */
    assert_int_equal(life_lock(file.holder, LOCK_EXCLUSIVE, 0, 8), 0);
    assert_int_equal(life_is_held(reader, 0, 8), 1);
    assert_int_equal(life_is_held(writer, 0, 8), 1);
    assert_int_equal(close(reader), 0);
    assert_int_equal(close(writer), 0);
}

static void
failures_are_told_as_errnos(void **state)
{
    (void)state;
    struct life life = { 0 };
    assert_int_equal(life_lock(-1, LOCK_EXCLUSIVE, 0, 8), EBADF);
    assert_int_equal(life_is_held(-1, 0, 8), -EBADF);
    assert_int_equal(life_hold(-1, &life), EBADF);
    assert_null(life.page);
    life_unlock(-1, 0, 8);
    life_drop(&life);
    life_drop(&life);
    assert_null(life.page);
}

/* ---- mappings that hold ---- */

static struct life
lock_and_hold(void)
{
    struct life life = { 0 };
    assert_int_equal(life_lock(file.holder, LOCK_EXCLUSIVE, 64, 64), 0);
    assert_int_equal(life_hold(file.holder, &life), 0);
    assert_non_null(life.page);
    close_holder();
    return life;
}

static void
a_mapping_holds_the_lock_after_the_descriptor_is_closed(void **state)
{
    (void)state;
    struct life life = lock_and_hold();
    assert_int_equal(life_is_held(file.asker, 64, 64), 1);
    /* Closing others of the same file drops nothing, as it would with locks of a process. */
    const int other = open_again(O_RDWR);
    assert_int_equal(life_is_held(other, 64, 64), 1);
    assert_int_equal(close(other), 0);
    assert_int_equal(life_is_held(file.asker, 64, 64), 1);

    life_drop(&life);
    assert_null(life.page);
    assert_int_equal(life.page_size, 0);
    assert_int_equal(life_is_held(file.asker, 64, 64), 0);
    life_drop(&life);
}

static void
without_a_mapping_closing_drops_the_lock(void **state)
{
    (void)state;
    assert_int_equal(life_lock(file.holder, LOCK_EXCLUSIVE, 64, 64), 0);
    assert_int_equal(life_is_held(file.asker, 64, 64), 1);
    close_holder();
    assert_int_equal(life_is_held(file.asker, 64, 64), 0);
}

static void
a_name_that_is_gone_changes_nothing(void **state)
{
    (void)state;
    struct life life = lock_and_hold();
    assert_int_equal(unlink(file.path), 0);
    assert_int_equal(life_is_held(file.asker, 64, 64), 1);
    life_drop(&life);
    assert_int_equal(life_is_held(file.asker, 64, 64), 0);
    /* For the teardown. */
    const int fd = open(file.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
}

static int
wait_for_step(void *arg)
{
    struct step *steps = arg;
    step_reach(&steps[0]);
    step_wait(&steps[1], 1);
    return 0;
}

static void
a_forked_child_does_not_inherit_it(void **state)
{
    (void)state;
    struct step *steps = shared_bytes(4096);
    struct life life = lock_and_hold();
    const pid_t child = child_start(wait_for_step, steps);
    step_wait(&steps[0], 1);
    const int while_both_live = life_is_held(file.asker, 64, 64);
    life_drop(&life);
    const int after_the_parents_was_dropped = life_is_held(file.asker, 64, 64);
    step_reach(&steps[1]);
    assert_int_equal(child_wait(child), 0);
    assert_int_equal(while_both_live, 1);
    assert_int_equal(after_the_parents_was_dropped, 0);
    assert_int_equal(munmap(steps, 4096), 0);
}

static int
look_for_page(void *arg)
{
    const struct life *life = arg;
    /* Not mapped in the child: the kernel says ENOMEM of pages that are not there. */
    unsigned char resident = 0;
    errno = 0;
    const int found = mincore(life->page, life->page_size, &resident);
    return found == -1 && errno == ENOMEM ? 0 : 1;
}

static void
a_forked_child_does_not_even_have_the_page(void **state)
{
    (void)state;
    struct life life = lock_and_hold();
    assert_int_equal(child_run(look_for_page, &life), 0);
    /* And its end takes nothing from the parent. */
    assert_int_equal(life_is_held(file.asker, 64, 64), 1);
    life_drop(&life);
}

struct held_child {
    struct step steps[2];
};

/* Take the lock in a child, hold it by a mapping, and stay until told, or killed. */
static int
hold_in_child(void *arg)
{
    struct held_child *shared = arg;
    const int fd = open_again(O_RDWR);
    struct life life = { 0 };
    assert_int_equal(life_lock(fd, LOCK_EXCLUSIVE, 64, 64), 0);
    assert_int_equal(life_hold(fd, &life), 0);
    assert_int_equal(close(fd), 0);
    step_reach(&shared->steps[0]);
    step_wait(&shared->steps[1], 1);
    return 0;
}

static void
it_ends_with_the_process_however_that_ends(void **state)
{
    (void)state;
    struct held_child *shared = shared_bytes(4096);
    for (uint32_t round = 1; round <= 2; round++) {
        const pid_t child = child_start(hold_in_child, shared);
        step_wait(&shared->steps[0], round);
        const int held = life_is_held(file.asker, 64, 64);
        const bool by_signal = round == 1;
        if (by_signal)
            assert_int_equal(kill(child, SIGKILL), 0);
        else
            step_reach(&shared->steps[1]);
        assert_int_equal(child_wait(child), by_signal ? 128 + SIGKILL : 0);
        assert_int_equal(held, 1);
        assert_int_equal(life_is_held(file.asker, 64, 64), 0);
    }
    assert_int_equal(munmap(shared, 4096), 0);
}

/* ---- things for people ---- */

static void
the_process_calls_itself_by_its_pid(void **state)
{
    (void)state;
    assert_int_equal(life_pid(), getpid());
}

static int
compare_with_proc(void *arg)
{
    const char *name = arg;
    /* The name, in parentheses, is the field in front of what is looked for. */
    FILE *comm = fopen("/proc/self/comm", "we");
    assert_non_null(comm);
    assert_true(fputs(name, comm) >= 0);
    assert_int_equal(fclose(comm), 0);

    char text[1024] = "";
    FILE *stat = fopen("/proc/self/stat", "re");
    assert_non_null(stat);
    assert_true(fread(text, 1, sizeof text - 1, stat) > 0);
    assert_int_equal(fclose(stat), 0);
    const char *behind = strrchr(text, ')');
    assert_non_null(behind);
    unsigned long long wanted = 0;
    assert_int_equal(sscanf(behind + 1,
                            " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                            &wanted),
                     1);
    assert_true(wanted > 0);
    assert_true(life_start_time() == wanted);
    return 0;
}

static void
the_start_time_is_the_kernels_whatever_the_processes_name(void **state)
{
    (void)state;
    static char names[][16] = { "plain", ") 1 2 3 (", "a b) c", "((" };
    assert_true(life_start_time() != 0);
    for (size_t i = 0; i < COUNTOF(names); i++)
        assert_int_equal(child_run(compare_with_proc, names[i]), 0);
}

static void
the_pid_namespace_is_the_kernels(void **state)
{
    (void)state;
    char link[64] = "";
    unsigned long long inode = 0;
    assert_true(readlink("/proc/self/ns/pid", link, sizeof link - 1) > 0);
    assert_int_equal(sscanf(link, "pid:[%llu]", &inode), 1);
    assert_true(life_pid_namespace() != 0);
    assert_true(life_pid_namespace() == inode);
}

static void
the_boot_id_is_the_kernels(void **state)
{
    (void)state;
    uint64_t id[2] = { 0, 0 };
    uint64_t again[2] = { 1, 1 };
    life_boot_id(id);
    life_boot_id(again);
    assert_true(id[0] != 0 && id[1] != 0);
    assert_memory_equal(id, again, sizeof id);

    char text[64] = "";
    FILE *source = fopen("/proc/sys/kernel/random/boot_id", "re");
    assert_non_null(source);
    assert_non_null(fgets(text, sizeof text, source));
    assert_int_equal(fclose(source), 0);
    char own[64];
    (void)snprintf(own, sizeof own, "%08llx-%04llx-%04llx-%04llx-%012llx\n", (unsigned long long)(id[0] >> 32),
                   (unsigned long long)(id[0] >> 16 & 0xffff), (unsigned long long)(id[0] & 0xffff),
                   (unsigned long long)(id[1] >> 48), (unsigned long long)(id[1] & 0xffffffffffff));
    assert_string_equal(own, text);
}

#define ON_A_FILE(test) cmocka_unit_test_setup_teardown(test, open_file, close_file)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_FILE(a_lock_is_seen_by_others_but_not_through_its_own_description),
        ON_A_FILE(a_shared_lock_is_seen_too),
        ON_A_FILE(exclusive_locks_shut_all_out_and_shared_ones_only_those),
        ON_A_FILE(locks_are_of_bytes_and_touch_no_others),
        ON_A_FILE(to_the_end_means_beyond_the_end_too),
        ON_A_FILE(descriptors_need_the_right_that_fits_the_lock),
        ON_A_FILE(failures_are_told_as_errnos),
        ON_A_FILE(a_mapping_holds_the_lock_after_the_descriptor_is_closed),
        ON_A_FILE(without_a_mapping_closing_drops_the_lock),
        ON_A_FILE(a_name_that_is_gone_changes_nothing),
        ON_A_FILE(a_forked_child_does_not_inherit_it),
        ON_A_FILE(a_forked_child_does_not_even_have_the_page),
        ON_A_FILE(it_ends_with_the_process_however_that_ends),
        cmocka_unit_test(the_process_calls_itself_by_its_pid),
        cmocka_unit_test(the_start_time_is_the_kernels_whatever_the_processes_name),
        cmocka_unit_test(the_pid_namespace_is_the_kernels),
        cmocka_unit_test(the_boot_id_is_the_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
