/*
 * test_fork.c - a forked child has a place of its own: it lives and dies for itself, and where it can have no place, its
 * heap refuses.  Children that no handler prepared (_Fork(), raw clone, posix_spawn) keep nobody looking alive.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"

enum { PARENT, CHILD, GRANDCHILD };

static void
use_heap(hshm_allocator *heap)
{
    void *block = hshm_malloc(heap, 64);
    assert_non_null(block);
    memset(block, 1, 64);
    assert_ok(hshm_free(heap, block));
}

/* ---- a child and its parent ---- */

static _Noreturn void
child_that_works(struct scene *scene, hshm_allocator *heap)
{
    use_heap(heap);
    scene_report(scene, CHILD, NULL);
    step_wait(&scene->go, 1);
    use_heap(heap);
    scene_report(scene, CHILD, NULL);
    scene_stay();
}

static int
parent_of_one(struct scene *scene)
{
    hshm_allocator *heap = scene_create(scene, NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        child_that_works(scene, heap);
    scene_report(scene, PARENT, NULL);
    step_wait(&scene->go, 1);
    /* Here only when the test kills the child: killed processes are waited for by their parent. */
    assert_int_equal(child_wait(child), 128 + SIGKILL);
    use_heap(heap);
    scene_report(scene, PARENT, NULL);
    scene_stay();
}

static void
a_child_outlives_its_parent(void **state)
{
    struct scene *scene = scene_begin(state, "orphan");
    const pid_t parent = scene_start(parent_of_one, scene);
    step_wait(&scene->ready, 2);
    assert_int_equal(scene->reports[PARENT].info.slot, 0);
    assert_int_equal(scene->reports[CHILD].info.slot, 1);
    assert_int_equal(scene->reports[CHILD].info.processes, 2);
    assert_true(scene->reports[PARENT].info.created_here);
    assert_false(scene->reports[CHILD].info.created_here);

    scene_kill(parent);
    assert_lives(scene);
    step_reach(&scene->go);
    step_wait(&scene->ready, 3);
    assert_int_equal(scene->reports[CHILD].info.processes, 1);
    assert_int_equal(scene->reports[CHILD].info.slot, 1);
    assert_lives(scene);
    scene_kill(scene->reports[CHILD].pid);
    assert_leftover(scene);
}

static void
a_parent_outlives_its_child(void **state)
{
    struct scene *scene = scene_begin(state, "bereaved");
    const pid_t parent = scene_start(parent_of_one, scene);
    step_wait(&scene->ready, 2);
    assert_int_equal(kill(scene->reports[CHILD].pid, SIGKILL), 0);
    step_reach(&scene->go);
    step_wait(&scene->ready, 3);
    assert_int_equal(scene->reports[PARENT].info.processes, 1);
    assert_int_equal(scene->reports[PARENT].info.slot, 0);
    assert_lives(scene);
    scene_kill(parent);
    assert_leftover(scene);
}

static int
three_generations(struct scene *scene)
{
    hshm_allocator *heap = scene_create(scene, NULL);
    unsigned generation = PARENT;
    while (generation < GRANDCHILD) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child > 0)
            break;
        generation++;
    }
    use_heap(heap);
    scene_report(scene, generation, NULL);
    step_wait(&scene->go, 1);
    use_heap(heap);
    scene_report(scene, generation, NULL);
    scene_stay();
}

static void
grandchildren_live_for_themselves(void **state)
{
    struct scene *scene = scene_begin(state, "family");
    const pid_t parent = scene_start(three_generations, scene);
    step_wait(&scene->ready, 3);
    bool seen[3] = { false };
    for (unsigned i = PARENT; i <= GRANDCHILD; i++) {
        const uint32_t slot = scene->reports[i].info.slot;
        assert_true(slot < 3 && !seen[slot]);
        seen[slot] = true;
    }
    scene_kill(parent);
    scene_kill(scene->reports[CHILD].pid); /* the test's own by now */
    assert_lives(scene);
    step_reach(&scene->go);
    step_wait(&scene->ready, 4);
    assert_int_equal(scene->reports[GRANDCHILD].info.processes, 1);
    scene_kill(scene->reports[GRANDCHILD].pid);
    assert_leftover(scene);
}

static int
fork_as_guest(struct scene *scene)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    hshm_manager *reader = NULL;
    assert_ok(hshm_manager_create(&reader));
    assert_ok(hshm_backend_attach(reader, scene->kind, scene->url, &options, NULL));
    const pid_t child = fork();
    assert_true(child >= 0);
    scene_report(scene, child == 0 ? CHILD : PARENT, reader);
    scene_stay();
}

static void
a_readers_child_is_a_reader_too(void **state)
{
    struct scene *scene = scene_begin(state, "reader");
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    const pid_t reader = scene_start(fork_as_guest, scene);
    step_wait(&scene->ready, 3);
    scene_kill(owner);
    scene_kill(reader);
    assert_lives(scene);
    scene_kill(scene->reports[CHILD].pid);
    assert_leftover(scene);
}

static int
fork_with_two_managers(struct scene *scene)
{
    hshm_manager *second = NULL;
    (void)scene_create(scene, NULL);
    assert_ok(hshm_manager_create(&second));
    (void)scene_attach(scene, second);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        assert_int_not_equal(scene_info(NULL).slot, scene_info(second).slot);
        assert_int_equal(scene_info(NULL).processes, 4);
        assert_ok(hshm_backend_detach(NULL, 1));
        assert_int_equal(scene_info(second).processes, 3);
        hshm_manager_destroy(second);
        _exit(0);
    }
    assert_int_equal(child_wait(child), 0);
    assert_int_equal(scene_info(NULL).processes, 2);
    scene_report(scene, PARENT, NULL);
    scene_stay();
}

static void
a_child_has_a_place_for_each_manager(void **state)
{
    struct scene *scene = scene_begin(state, "managers");
    const pid_t parent = scene_start(fork_with_two_managers, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    scene_kill(parent);
    assert_leftover(scene);
}

/* ---- children without a place ---- */

static void
assert_refuses(hshm_allocator *heap, void *block, hshm_status wanted)
{
    hshm_ptr ptr = HSHM_PTR_NULL;
    hshm_stack_height height;
    assert_null(hshm_malloc(heap, 16));
    assert_int_equal(hshm_last_status(), wanted);
    assert_sentence("no slot of its own");
    assert_status(hshm_allocate(heap, 16, &ptr), wanted);
    assert_status(hshm_free(heap, block), wanted);
    assert_null(hshm_realloc(heap, block, 128));
    assert_int_equal(hshm_last_status(), wanted);
    assert_null(hshm_aligned_alloc(heap, 64, 64));
    assert_int_equal(hshm_last_status(), wanted);
    assert_status(hshm_stack_mark(heap, &height), wanted);
    assert_status(hshm_stack_reset(heap), wanted);
}

/* Fork; the child's heap must refuse everything, and the parent's must know nothing of it. */
static void
fork_refused_child(hshm_allocator *heap, hshm_status wanted)
{
    unsigned char *block = hshm_malloc(heap, 64);
    assert_non_null(block);
    memset(block, 77, 64);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        assert_int_equal(scene_info(NULL).slot, UINT32_MAX);
        assert_refuses(heap, block, wanted);
        assert_int_equal(block[63], 77); /* the memory itself is there */
        assert_ok(hshm_backend_destroy(NULL, 1));
        _exit(0);
    }
    assert_int_equal(child_wait(child), 0);
    assert_int_equal(block[0], 77);
    assert_int_equal(hshm_usable_size(heap, block), 64);
    assert_ok(hshm_free(heap, block));
    use_heap(heap);
}

static int
fork_at_full_slots(struct scene *scene)
{
    hshm_allocator *heap = scene_create(scene, NULL);
    fork_refused_child(heap, HSHM_E_LIMIT);
    assert_int_equal(scene_info(NULL).processes, 1);
    scene_report(scene, PARENT, NULL);
    scene_stay();
}

static void
without_a_free_slot_the_childs_heap_refuses(void **state)
{
    struct scene *scene = scene_begin(state, "full");
    scene->slots = 1;
    const pid_t parent = scene_start(fork_at_full_slots, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    scene_kill(parent);
    assert_leftover(scene);
}

static int
refused_child_starts_over(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) {
        step_reach(&scene->ready);
        scene_stay();
    }
    assert_ok(hshm_backend_detach(NULL, 1));
    step_wait(&scene->go, 1); /* the parent is dead */
    hshm_allocator *heap = scene_attach(scene, NULL);
    use_heap(heap);
    scene_report(scene, CHILD, NULL);
    scene_stay();
}

static void
a_refused_child_may_attach_for_itself(void **state)
{
    struct scene *scene = scene_begin(state, "over");
    scene->slots = 1;
    const pid_t parent = scene_start(refused_child_starts_over, scene);
    step_wait(&scene->ready, 1);
    scene_kill(parent);
    step_reach(&scene->go);
    step_wait(&scene->ready, 2);
    assert_int_equal(scene->reports[CHILD].info.slot, 0);
    assert_lives(scene);
    scene_kill(scene->reports[CHILD].pid);
    assert_leftover(scene);
}

static int
fork_as_nobody(struct scene *scene)
{
    hshm_allocator *heap = scene_create(scene, NULL);
    assert_true(scene_become_nobody());
    fork_refused_child(heap, HSHM_E_PERM);
    for (int fd = 3; fd < 256; fd++)
        (void)close(fd);
    fork_refused_child(heap, HSHM_E_PERM);
    assert_int_equal(scene_info(NULL).slot, 0);
    step_reach(&scene->ready);
    return pause();
}

static void
a_child_that_may_not_reopen_the_region_is_refused(void **state)
{
    if (getuid() != 0) {
        print_message("only root may become another user\n");
        skip();
    }
    struct scene *scene = scene_begin(state, "nobody");
    scene->mode = 0600;
    const pid_t parent = scene_start(fork_as_nobody, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    scene_kill(parent);
    assert_leftover(scene);
}

static int
fork_beyond_reach(struct scene *scene)
{
    hshm_allocator *heap = scene_create(scene, NULL);
    assert_int_equal(unlink(scene->path), 0);
    /* The kept descriptor still leads to the file. */
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        assert_int_equal(scene_info(NULL).slot, 1);
        assert_int_equal(scene_info(NULL).processes, 2);
        use_heap(heap);
        _exit(0);
    }
    assert_int_equal(child_wait(child), 0);
    /* Now nothing does. */
    for (int fd = 3; fd < 256; fd++)
        (void)close(fd);
    fork_refused_child(heap, HSHM_E_PERM);
    return 0;
}

static void
a_child_of_a_nameless_region_reopens_it_by_descriptor(void **state)
{
    struct scene *scene = scene_begin(state, "nameless");
    assert_int_equal(child_wait(scene_start(fork_beyond_reach, scene)), 0);
    assert_status(scene_remove(scene), HSHM_E_NOTFOUND);
}

/* ---- what is the parent's remains the parent's ---- */

static int
child_destroys(struct scene *scene)
{
    hshm_allocator *heap = scene_create(scene, NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        assert_ok(hshm_backend_destroy(NULL, 1));
        assert_true(scene_named(scene));
        _exit(0);
    }
    assert_int_equal(child_wait(child), 0);
    assert_true(scene_named(scene));
    use_heap(heap);
    assert_int_equal(scene_info(NULL).processes, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_false(scene_named(scene));
    return 0;
}

static void
a_childs_destroy_leaves_the_parents_name(void **state)
{
    struct scene *scene = scene_begin(state, "destroy");
    assert_int_equal(child_wait(scene_start(child_destroys, scene)), 0);
}

static int
child_makes_no_heap(struct scene *scene)
{
    const hshm_allocator_id id = { 1, 0 };
    assert_ok(hshm_backend_create(NULL, 1, scene->kind, SCENE_SIZE, scene->url, NULL, NULL));
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        assert_status(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, 0, NULL, NULL), HSHM_E_PERM);
        assert_sentence("parent");
        _exit(0);
    }
    assert_int_equal(child_wait(child), 0);
    assert_ok(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static void
a_child_makes_no_heap_on_its_parents_region(void **state)
{
    struct scene *scene = scene_begin(state, "heap");
    assert_int_equal(child_wait(scene_start(child_makes_no_heap, scene)), 0);
}

static int
child_occupies_slot(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        scene_report(scene, CHILD, NULL);
        step_wait(&scene->go, 1);
        _exit(0); /* no detach */
    }
    assert_int_equal(child_wait(child), 0);
    step_reach(&scene->ready);
    scene_stay();
}

static void
a_child_that_exits_frees_its_slot(void **state)
{
    struct scene *scene = scene_begin(state, "slot");
    scene->slots = 2;
    const pid_t parent = scene_start(child_occupies_slot, scene);
    step_wait(&scene->ready, 1);
    assert_status(hshm_backend_attach(NULL, scene->kind, scene->url, NULL, NULL), HSHM_E_LIMIT);
    assert_sentence("all its 2 slots");
    step_reach(&scene->go);
    step_wait(&scene->ready, 2);
    (void)scene_attach(scene, NULL);
    assert_int_equal(scene_info(NULL).slot, 1);
    assert_int_equal(scene_info(NULL).processes, 2);
    assert_ok(hshm_backend_detach(NULL, 1));
    scene_kill(parent);
    assert_leftover(scene);
}

/* ---- no handlers ---- */

static pid_t
raw_clone(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static pid_t (*fork_without_handlers)(void);

/* In its child hardly anything may be called: the C library does not know that there was a fork. */
static int
parent_of_unprepared(struct scene *scene)
{
    int fd = -1;
    (void)scene_create(scene, NULL);
    const pid_t child = fork_without_handlers();
    assert_true(child >= 0);
    if (child == 0) {
        step_reach(&scene->ready);
        scene_stay();
    }
    atomic_store(&scene->reports[CHILD].pid, child);
    /* What the child inherited: one descriptor of the region. */
    assert_int_equal(scene_descriptors(scene, &fd), 1);
    step_reach(&scene->ready);
    scene_stay();
}

static void
unprepared_child(void **state, const char *what, pid_t (*how)(void))
{
    struct scene *scene = scene_begin(state, what);
    fork_without_handlers = how;
    const pid_t parent = scene_start(parent_of_unprepared, scene);
    step_wait(&scene->ready, 2);
    assert_lives(scene);
    scene_kill(parent);
    const pid_t child = scene->reports[CHILD].pid;
    assert_leftover(scene);
    assert_int_equal(waitpid(child, NULL, WNOHANG), 0); /* it was alive all the time */
    scene_kill(child);
}

static void
a_cloned_child_keeps_nobody_alive(void **state)
{
    unprepared_child(state, "clone", raw_clone);
}

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
static void
a_child_of_underscore_fork_keeps_nobody_alive(void **state)
{
    unprepared_child(state, "_Fork", _Fork);
}
#endif

/* ---- exec ---- */

/*
 * A program that says that it runs, and then lives as long as the test lets it.  (That a descriptor was closed by exec is
 * no sign of it: the kernel drops the old memory, and what that held, some microseconds later.)
 */
static char program[] = "sh";
static char *program_argv[] = { program, (char[]){ "-c" }, (char[]){ "echo; exec cat" }, NULL };

static void
execute(int output)
{
    assert_true(dup2(scene_lifeline(), STDIN_FILENO) >= 0);
    assert_true(dup2(output, STDOUT_FILENO) >= 0);
    (void)execvp(program, program_argv);
    abort();
}

static void
wait_for_program(const int ends[2])
{
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 1);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static int
child_executes(struct scene *scene)
{
    int ends[2];
    (void)scene_create(scene, NULL);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        execute(ends[1]);
    wait_for_program(ends);
    assert_int_equal(scene_info(NULL).processes, 1);
    atomic_store(&scene->reports[CHILD].pid, child);
    step_reach(&scene->ready);
    scene_stay();
}

static int
parent_spawns(struct scene *scene)
{
    int ends[2];
    pid_t child = 0;
    posix_spawn_file_actions_t actions;
    (void)scene_create(scene, NULL);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, scene_lifeline(), STDIN_FILENO), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO), 0);
    assert_int_equal(posix_spawnp(&child, program, &actions, NULL, program_argv, environ), 0);
    assert_int_equal(posix_spawn_file_actions_destroy(&actions), 0);
    wait_for_program(ends);
    assert_int_equal(scene_info(NULL).processes, 1);
    atomic_store(&scene->reports[CHILD].pid, child);
    step_reach(&scene->ready);
    scene_stay();
}

static void
program_keeps_nobody_alive(void **state, const char *what, int (*parent_fn)(struct scene *scene))
{
    struct scene *scene = scene_begin(state, what);
    const pid_t parent = scene_start(parent_fn, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    scene_kill(parent);
    const pid_t child = scene->reports[CHILD].pid;
    assert_leftover(scene);
    assert_int_equal(waitpid(child, NULL, WNOHANG), 0); /* it was alive all the time */
    scene_kill(child);
}

static void
exec_in_the_child_ends_its_membership(void **state)
{
    program_keeps_nobody_alive(state, "exec", child_executes);
}

static void
a_spawned_program_keeps_nobody_alive(void **state)
{
    program_keeps_nobody_alive(state, "spawn", parent_spawns);
}

static int owner_output[2];

static int
owner_executes(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    step_reach(&scene->ready);
    step_wait(&scene->go, 1);
    execute(owner_output[1]);
    return 1;
}

static void
exec_ends_ones_own_membership(void **state)
{
    struct scene *scene = scene_begin(state, "exec-self");
    assert_int_equal(pipe2(owner_output, O_CLOEXEC), 0);
    const pid_t owner = scene_start(owner_executes, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    step_reach(&scene->go);
    wait_for_program(owner_output);
    assert_leftover(scene);
    assert_int_equal(waitpid(owner, NULL, WNOHANG), 0);
    scene_kill(owner);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_KINDS(a_child_outlives_its_parent),
        BOTH_KINDS(a_parent_outlives_its_child),
        BOTH_KINDS(grandchildren_live_for_themselves),
        BOTH_KINDS(a_readers_child_is_a_reader_too),
        BOTH_KINDS(a_child_has_a_place_for_each_manager),
        BOTH_KINDS(without_a_free_slot_the_childs_heap_refuses),
        BOTH_KINDS(a_refused_child_may_attach_for_itself),
        BOTH_KINDS(a_child_that_may_not_reopen_the_region_is_refused),
        BOTH_KINDS(a_child_of_a_nameless_region_reopens_it_by_descriptor),
        BOTH_KINDS(a_childs_destroy_leaves_the_parents_name),
        BOTH_KINDS(a_child_makes_no_heap_on_its_parents_region),
        BOTH_KINDS(a_child_that_exits_frees_its_slot),
        BOTH_KINDS(a_cloned_child_keeps_nobody_alive),
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
        BOTH_KINDS(a_child_of_underscore_fork_keeps_nobody_alive),
#endif
        BOTH_KINDS(exec_in_the_child_ends_its_membership),
        BOTH_KINDS(a_spawned_program_keeps_nobody_alive),
        BOTH_KINDS(exec_ends_ones_own_membership),
    };
    return cmocka_run_group_tests(tests, scene_setup, NULL);
}
