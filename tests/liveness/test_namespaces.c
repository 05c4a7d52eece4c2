/*
 * test_namespaces.c - pids mean nothing across pid namespaces; who is alive is seen all the same, from inside and from
 * outside.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "scene.h"

enum { OWNER, GUEST, OWNER_OUTSIDE, GUEST_OUTSIDE, NO_NAMESPACE = 77 };

/* ---- processes in namespaces of their own ---- */

/*
 * Run fn in a child that is process 1 of a new pid namespace, and end as it does.  Its pid as seen from here is
 * reported under `number`.
 */
static int
run_inside(struct scene *scene, unsigned number, int (*fn)(struct scene *scene))
{
    assert_int_equal(unshare(CLONE_NEWPID), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        assert_int_equal(getpid(), 1);
        const int status = fn(scene);
        (void)fflush(NULL);
        _exit(status);
    }
    atomic_store(&scene->reports[number].pid, child);
    step_reach(&scene->ready);
    return child_wait(child);
}

static void
kill_inside(struct scene *scene, unsigned number, pid_t runner)
{
    assert_int_equal(kill(scene->reports[number].pid, SIGKILL), 0);
    assert_int_equal(child_wait(runner), 128 + SIGKILL);
}

static void
need_namespaces(void)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(unshare(CLONE_NEWPID) == 0 ? 0 : NO_NAMESPACE);
    if (child_wait(pid) != 0) {
        print_message("this user may not make pid namespaces (unshare)\n");
        skip();
    }
}

static int
owner_in_namespace(struct scene *scene)
{
    return run_inside(scene, OWNER_OUTSIDE, scene_owner);
}

static int
guest_in_namespace(struct scene *scene)
{
    return run_inside(scene, GUEST_OUTSIDE, scene_guest);
}

/* ---- cases ---- */

static int
guest_that_looks_twice(struct scene *scene)
{
    (void)scene_attach(scene, NULL);
    scene_report(scene, GUEST, NULL);
    step_wait(&scene->go, 1);
    scene_report(scene, GUEST, NULL);
    scene_stay();
}

static int
looking_guest_in_namespace(struct scene *scene)
{
    return run_inside(scene, GUEST_OUTSIDE, guest_that_looks_twice);
}

static void
a_guest_inside_and_an_owner_outside_see_each_other(void **state)
{
    need_namespaces();
    struct scene *scene = scene_begin(state, "guest");
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    const pid_t runner = scene_start(looking_guest_in_namespace, scene);
    step_wait(&scene->ready, 3);
    assert_int_equal(scene->reports[GUEST].info.processes, 2);

    scene_kill(owner);
    step_reach(&scene->go);
    step_wait(&scene->ready, 4);
    assert_int_equal(scene->reports[GUEST].info.processes, 1);
    assert_lives(scene);
    kill_inside(scene, GUEST_OUTSIDE, runner);
    assert_leftover(scene);
}

static void
an_owner_inside_is_seen_from_outside(void **state)
{
    need_namespaces();
    struct scene *scene = scene_begin(state, "owner");
    const pid_t runner = scene_start(owner_in_namespace, scene);
    step_wait(&scene->ready, 2);
    assert_lives(scene);
    const pid_t guest = scene_start(guest_that_looks_twice, scene);
    step_wait(&scene->ready, 3);
    assert_int_equal(scene->reports[GUEST].info.processes, 2);

    kill_inside(scene, OWNER_OUTSIDE, runner);
    step_reach(&scene->go);
    step_wait(&scene->ready, 4);
    assert_int_equal(scene->reports[GUEST].info.processes, 1);
    assert_lives(scene);
    scene_kill(guest);
    assert_leftover(scene);
}

static void
processes_of_equal_pid_are_told_apart(void **state)
{
    need_namespaces();
    struct scene *scene = scene_begin(state, "equal");
    const pid_t owner_runner = scene_start(owner_in_namespace, scene);
    step_wait(&scene->ready, 2);
    const pid_t guest_runner = scene_start(guest_in_namespace, scene);
    step_wait(&scene->ready, 4);
    assert_int_equal(scene->reports[OWNER].pid, 1);
    assert_int_equal(scene->reports[GUEST].pid, 1);
    assert_int_equal(scene->reports[GUEST].info.processes, 2);
    assert_int_not_equal(scene->reports[OWNER].info.slot, scene->reports[GUEST].info.slot);

    kill_inside(scene, OWNER_OUTSIDE, owner_runner);
    assert_lives(scene);
    kill_inside(scene, GUEST_OUTSIDE, guest_runner);
    assert_leftover(scene);
}

/* Its creator is process 1 of the namespace outside of this one. */
static int
child_of_equal_pid(struct scene *scene)
{
    assert_false(scene_info(NULL).created_here);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_true(scene_named(scene));
    return 0;
}

static int
parent_of_equal_pid(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    assert_int_equal(run_inside(scene, GUEST_OUTSIDE, child_of_equal_pid), 0);
    assert_true(scene_info(NULL).created_here);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_false(scene_named(scene));
    return 0;
}

static int
family_in_namespace(struct scene *scene)
{
    return run_inside(scene, OWNER_OUTSIDE, parent_of_equal_pid);
}

static void
a_child_of_equal_pid_is_not_taken_for_the_creator(void **state)
{
    need_namespaces();
    struct scene *scene = scene_begin(state, "family");
    assert_int_equal(child_wait(scene_start(family_in_namespace, scene)), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_KINDS(a_guest_inside_and_an_owner_outside_see_each_other),
        BOTH_KINDS(an_owner_inside_is_seen_from_outside),
        BOTH_KINDS(processes_of_equal_pid_are_told_apart),
        BOTH_KINDS(a_child_of_equal_pid_is_not_taken_for_the_creator),
    };
    return cmocka_run_group_tests(tests, scene_setup, NULL);
}
