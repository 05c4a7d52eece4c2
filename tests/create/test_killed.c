/*
 * test_killed.c - whoever creates, attaches, leaves or removes may be killed between any two of its system calls: the
 * next one to come gets an answer at once, a leftover can be removed, nothing stays behind, and a region that someone
 * lives in keeps its name.
 *
 * labels: no-asan no-tsan
 * The sanitizers' runtimes make system calls of their own, and do not like to be traced.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "refuse.h"
#include "sync/liveness.h"
#include "trace.h"

enum {
    FEWEST_STOPS = 6, /* of anything worth a test: three system calls */
    PATIENCE_MS = 2,  /* of those who attach                          */
    CHILD = 5         /* number of its report                         */
};

/* What is to be killed, and what must be true then.  NULL: nothing. */
struct plan {
    void (*prepare)(struct scene *scene); /* before each start             */
    int (*victim)(struct scene *scene);   /* calls trace_here() somewhere  */
    void (*at_stop)(struct scene *scene); /* while it is stopped           */
    void (*check)(struct scene *scene);   /* when it is dead               */
    bool spare;                           /* let it go on instead: it must come to a good end */
};

/* For whoever reads of a failure. */
static unsigned last_stop;

static int
tell_last_stop(void **state)
{
    (void)state;
    print_message("stops: %u\n", last_stop);
    return 0;
}

static bool
reach_stop(pid_t pid, unsigned stop)
{
    for (unsigned i = 0; i < stop; i++) {
        if (!trace_step(pid))
            return false;
    }
    return true;
}

static void
run_to_end(pid_t pid)
{
    while (trace_step(pid))
        ;
}

static void
at_each_stop(struct scene *scene, const struct plan *plan)
{
    bool stopped = true;
    for (last_stop = 1; stopped; last_stop++) {
        if (plan->prepare != NULL)
            plan->prepare(scene);
        const pid_t pid = trace_start(plan->victim, scene);
        stopped = reach_stop(pid, last_stop);
        if (stopped && plan->at_stop != NULL)
            plan->at_stop(scene);
        if (stopped && plan->spare)
            run_to_end(pid);
        else if (stopped)
            scene_kill(pid);
        if (plan->check != NULL)
            plan->check(scene);
    }
    assert_true(last_stop > FEWEST_STOPS);
}

/* ---- what must be true ---- */

/* Call fn for each file whose name has the region's in it, its unseen files included. */
static unsigned
for_each_file(const struct scene *scene, void (*fn)(const char *path))
{
    unsigned count = 0;
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", scene->path);
    char *base = strrchr(folder, '/');
    *base++ = '\0';
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        if (strstr(entry->d_name, base) == NULL)
            continue;
        count++;
        if (fn != NULL) {
            char path[PATH_MAX + 256];
            (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            fn(path);
        }
    }
    (void)closedir(entries);
    return count;
}

static void
assert_nothing_left(const struct scene *scene)
{
    assert_int_equal(for_each_file(scene, NULL), 0);
}

static void
assert_left_nothing(struct scene *scene)
{
    assert_nothing_left(scene);
}

/* How long attach_and_exit() waits. */
static uint64_t patience_ms;

static int
attach_and_exit(struct scene *scene)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.timeout_ms = patience_ms;
    const hshm_status status = hshm_backend_attach(NULL, scene->kind, scene->url, &options, NULL);
    if (status != HSHM_OK)
        return (int)status;
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, &heap));
    void *block = hshm_malloc(heap, 100);
    assert_non_null(block);
    assert_ok(hshm_free(heap, block));
    return HSHM_OK;
}

/*
 * Who attaches gets a heap that works, or hears that there is none, and never waits longer than he said.
 * By a child that does not detach: detaching from a file waits for the disk, too long for all these stops.
 */
static hshm_status
attach_is_answered(struct scene *scene, uint64_t timeout_ms)
{
    patience_ms = timeout_ms;
    return (hshm_status)child_wait(scene_start(attach_and_exit, scene));
}

static int
create_and_exit(struct scene *scene)
{
    scene->replace = HSHM_REPLACE_NEVER;
    (void)scene_create(scene, NULL);
    return 0;
}

static void
leave_heap(struct scene *scene)
{
    const hshm_replace replace = scene->replace;
    assert_int_equal(child_wait(scene_start(create_and_exit, scene)), 0);
    scene->replace = replace;
}

static void
the_name_can_be_used(struct scene *scene)
{
    leave_heap(scene);
    assert_ok(scene_remove(scene));
    assert_nothing_left(scene);
}

static void
leftover_goes(struct scene *scene)
{
    const hshm_status status = attach_is_answered(scene, PATIENCE_MS);
    if (status != HSHM_OK)
        assert_status(status, HSHM_E_TIMEOUT);
    const bool named = scene_named(scene);
    assert_status(scene_remove(scene), named ? HSHM_OK : HSHM_E_NOTFOUND);
    assert_nothing_left(scene);
    the_name_can_be_used(scene);
}

/* ---- create ---- */

static int
create(struct scene *scene)
{
    trace_here();
    (void)scene_create(scene, NULL);
    return 0;
}

static int
create_without_tmpfile(struct scene *scene)
{
    assert_true(refuse_tmpfile());
    return create(scene);
}

static int
create_by_link_and_unlink(struct scene *scene)
{
    assert_true(refuse_renameat2());
    return create_without_tmpfile(scene);
}

/* Without a name: create, let the heap be used, and destroy it, killed anywhere. */
static int
create_nameless(struct scene *scene)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.nameless = true;
    hshm_allocator *heap = NULL;
    trace_here();
    assert_ok(hshm_backend_create(NULL, 1, scene->kind, SCENE_SIZE, scene->url, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    assert_non_null(hshm_malloc(heap, 100));
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static int
create_no_heap_and_exit(struct scene *scene)
{
    assert_ok(hshm_backend_create(NULL, 1, scene->kind, SCENE_SIZE, scene->url, NULL, NULL));
    return 0;
}

static void
leave_region_without_heap(struct scene *scene)
{
    assert_int_equal(child_wait(scene_start(create_no_heap_and_exit, scene)), 0);
}

static int
try_filters(struct scene *scene)
{
    (void)scene;
    return refuse_tmpfile() && refuse_renameat2() ? 0 : 1;
}

static void
need_filters(struct scene *scene)
{
    if (child_wait(scene_start(try_filters, scene)) != 0) {
        print_message("no system call filters here (seccomp)\n");
        skip();
    }
}

static void
a_killed_creator_leaves_nothing_that_lasts(void **state)
{
    struct scene *scene = scene_begin(state, "create");
    at_each_stop(scene, &(struct plan){ .victim = create, .check = leftover_goes });
}

static void
a_killed_creator_without_a_name_leaves_nothing_at_all(void **state)
{
    struct scene *scene = scene_begin(state, "nameless");
    at_each_stop(scene, &(struct plan){ .victim = create_nameless, .check = assert_left_nothing });
}

static void
a_killed_creator_without_tmpfile_leaves_nothing_that_lasts(void **state)
{
    struct scene *scene = scene_begin(state, "unseen");
    need_filters(scene);
    at_each_stop(scene, &(struct plan){ .victim = create_without_tmpfile, .check = leftover_goes });
}

static void
a_killed_creator_that_links_leaves_nothing_that_lasts(void **state)
{
    struct scene *scene = scene_begin(state, "linked");
    need_filters(scene);
    at_each_stop(scene, &(struct plan){ .victim = create_by_link_and_unlink, .check = leftover_goes });
}

static int
create_and_destroy_without_tmpfile(struct scene *scene)
{
    assert_true(refuse_tmpfile());
    (void)scene_create(scene, NULL);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

/* The next creator, that is, of the same file system: it sweeps where it makes unseen files itself. */
static void
next_creator_sweeps(struct scene *scene)
{
    if (scene_named(scene))
        assert_ok(scene_remove(scene));
    else
        assert_int_equal(child_wait(scene_start(create_and_destroy_without_tmpfile, scene)), 0);
    assert_nothing_left(scene);
}

static void
unseen_files_of_the_dead_go_with_the_next_create(void **state)
{
    struct scene *scene = scene_begin(state, "swept");
    need_filters(scene);
    at_each_stop(scene, &(struct plan){ .victim = create_without_tmpfile, .check = next_creator_sweeps });
}

static void
a_killed_replacer_leaves_a_leftover_or_nothing(void **state)
{
    struct scene *scene = scene_begin(state, "replace");
    scene->replace = HSHM_REPLACE_DEAD;
    const struct plan plan = { .prepare = leave_region_without_heap, .victim = create, .check = leftover_goes };
    at_each_stop(scene, &plan);
}

static void
a_killed_replacer_without_tmpfile_leaves_a_leftover_or_nothing(void **state)
{
    struct scene *scene = scene_begin(state, "replace-unseen");
    scene->replace = HSHM_REPLACE_DEAD;
    need_filters(scene);
    const struct plan plan = { .prepare = leave_heap, .victim = create_without_tmpfile, .check = leftover_goes };
    at_each_stop(scene, &plan);
}

/* ---- makers that are slow ---- */

static void
sweep(struct scene *scene)
{
    const hshm_status status = scene_remove(scene);
    assert_true(status == HSHM_E_NOTFOUND || status == HSHM_E_BUSY);
}

static void
a_maker_whose_file_was_swept_begins_again(void **state)
{
    struct scene *scene = scene_begin(state, "slow");
    need_filters(scene);
    const struct plan plan = {
        .victim = create_without_tmpfile, .at_stop = sweep, .check = leftover_goes, .spare = true
    };
    at_each_stop(scene, &plan);
}

static int sweepers_fd = -1;

static void
lock_as_sweepers_do(const char *path)
{
    assert_int_equal(sweepers_fd, -1);
    sweepers_fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(sweepers_fd >= 0);
    const int error = life_lock(sweepers_fd, LOCK_EXCLUSIVE, 0, LOCK_TO_END);
    assert_true(error == 0 || error == EAGAIN);
}

static void
be_a_stopped_sweeper(struct scene *scene)
{
    (void)for_each_file(scene, lock_as_sweepers_do);
}

static void
sweeper_ends(struct scene *scene)
{
    if (sweepers_fd >= 0)
        assert_int_equal(close(sweepers_fd), 0);
    sweepers_fd = -1;
    leftover_goes(scene);
}

static void
a_sweeper_at_work_does_not_stop_a_maker(void **state)
{
    struct scene *scene = scene_begin(state, "sweeper");
    need_filters(scene);
    const struct plan plan = {
        .victim = create_without_tmpfile, .at_stop = be_a_stopped_sweeper, .check = sweeper_ends, .spare = true
    };
    at_each_stop(scene, &plan);
}

/* ---- attach ---- */

static int
attach(struct scene *scene)
{
    trace_here();
    (void)scene_attach(scene, NULL);
    return 0;
}

static int
attach_to_read(struct scene *scene)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    trace_here();
    assert_ok(hshm_backend_attach(NULL, scene->kind, scene->url, &options, NULL));
    return 0;
}

static void
its_slot_is_free_again(struct scene *scene)
{
    assert_lives(scene);
    (void)scene_attach(scene, NULL);
    assert_int_equal(scene_info(NULL).slot, 1);
    assert_int_equal(scene_info(NULL).processes, 2);
    assert_ok(hshm_backend_detach(NULL, 1));
}

/* Start an owner, do the rest while it lives, and see it die. */
static void
beside_an_owner(struct scene *scene, const struct plan *plan)
{
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    at_each_stop(scene, plan);
    scene_kill(owner);
    assert_leftover(scene);
}

static void
a_killed_guest_leaves_its_slot_to_others(void **state)
{
    struct scene *scene = scene_begin(state, "guest");
    scene->slots = 2;
    beside_an_owner(scene, &(struct plan){ .victim = attach, .check = its_slot_is_free_again });
}

static void
a_killed_reader_leaves_nothing(void **state)
{
    struct scene *scene = scene_begin(state, "reader");
    scene->slots = 2;
    beside_an_owner(scene, &(struct plan){ .victim = attach_to_read, .check = its_slot_is_free_again });
}

static void
a_killed_guest_of_a_leftover_leaves_a_leftover(void **state)
{
    struct scene *scene = scene_begin(state, "guest-dead");
    at_each_stop(scene, &(struct plan){ .prepare = leave_heap, .victim = attach, .check = leftover_goes });
    at_each_stop(scene, &(struct plan){ .prepare = leave_heap, .victim = attach_to_read, .check = leftover_goes });
}

/* ---- leaving ---- */

static int
destroy(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    trace_here();
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static int
detach(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    trace_here();
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
a_killed_destroyer_leaves_a_leftover_or_nothing(void **state)
{
    struct scene *scene = scene_begin(state, "destroy");
    at_each_stop(scene, &(struct plan){ .victim = destroy, .check = leftover_goes });
}

static void
leftover_stays_and_goes(struct scene *scene)
{
    assert_true(scene_named(scene));
    assert_int_equal(attach_is_answered(scene, 0), HSHM_OK);
    leftover_goes(scene);
}

static void
who_is_killed_while_detaching_leaves_a_leftover(void **state)
{
    struct scene *scene = scene_begin(state, "detach");
    at_each_stop(scene, &(struct plan){ .victim = detach, .check = leftover_stays_and_goes });
}

/* A child that the C library knows nothing of, which has all that its parent had open. */
static int
detach_beside_a_raw_child(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    assert_true(child >= 0);
    if (child == 0)
        scene_stay();
    atomic_store(&scene->reports[CHILD].pid, child);
    trace_here();
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
leftover_goes_before_the_raw_child(struct scene *scene)
{
    leftover_stays_and_goes(scene);
    scene_kill(scene->reports[CHILD].pid);
}

static void
no_lock_of_a_killed_leaver_stays_with_its_children(void **state)
{
    struct scene *scene = scene_begin(state, "raw");
    const struct plan plan = { .victim = detach_beside_a_raw_child, .check = leftover_goes_before_the_raw_child };
    at_each_stop(scene, &plan);
}

/* ---- fork ---- */

/* How many children there were. */
static uint32_t forked;

static int
fork_once(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    trace_here();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        scene_report(scene, CHILD, NULL);
        scene_stay();
    }
    return 0;
}

/* Its child, if there was one by then, is the test's now, and lives in the region at every moment. */
static void
orphan_lives(struct scene *scene)
{
    if (waitpid(-1, NULL, WNOHANG) == 0) {
        assert_lives(scene);
        forked++;
        step_wait(&scene->ready, forked);
        assert_int_equal(scene->reports[CHILD].info.slot, 1);
        assert_lives(scene);
        scene_kill(scene->reports[CHILD].pid);
    }
    leftover_goes(scene);
}

static void
a_parent_killed_in_fork_leaves_a_child_with_a_place(void **state)
{
    struct scene *scene = scene_begin(state, "fork");
    forked = 0;
    at_each_stop(scene, &(struct plan){ .victim = fork_once, .check = orphan_lives });
    assert_true(forked > 1);
}

/* ---- removing ---- */

static int
remove_it(struct scene *scene)
{
    trace_here();
    assert_ok(scene_remove(scene));
    return 0;
}

static void
a_killed_remover_leaves_a_leftover_or_nothing(void **state)
{
    struct scene *scene = scene_begin(state, "remove");
    at_each_stop(scene, &(struct plan){ .prepare = leave_heap, .victim = remove_it, .check = leftover_goes });
}

static int
remove_in_vain(struct scene *scene)
{
    trace_here();
    assert_status(scene_remove(scene), HSHM_E_BUSY);
    return 0;
}

static int
replace_in_vain(struct scene *scene)
{
    trace_here();
    assert_status(scene_replace(scene), HSHM_E_BUSY);
    return 0;
}

static void
it_still_lives(struct scene *scene)
{
    assert_lives(scene);
    assert_int_equal(attach_is_answered(scene, 0), HSHM_OK);
}

static void
a_killed_remover_takes_no_name_from_the_living(void **state)
{
    struct scene *scene = scene_begin(state, "remove-vain");
    beside_an_owner(scene, &(struct plan){ .victim = remove_in_vain, .check = it_still_lives });
}

static void
a_killed_replacer_takes_no_name_from_the_living(void **state)
{
    struct scene *scene = scene_begin(state, "replace-vain");
    beside_an_owner(scene, &(struct plan){ .victim = replace_in_vain, .check = it_still_lives });
}

/* The remover is stopped, perhaps with every lock in its hands. */
static void
nobody_waits_for_the_remover(struct scene *scene)
{
    const hshm_status attached = attach_is_answered(scene, 0);
    assert_true(attached == HSHM_OK || attached == HSHM_E_NOTFOUND || attached == HSHM_E_BUSY);
    const hshm_status removed = scene_remove(scene);
    assert_true(removed == HSHM_OK || removed == HSHM_E_NOTFOUND || removed == HSHM_E_BUSY);
    assert_true(removed != HSHM_E_BUSY || attached == HSHM_E_BUSY);
}

static void
a_stopped_remover_makes_nobody_wait(void **state)
{
    struct scene *scene = scene_begin(state, "stopped");
    const struct plan plan = {
        .prepare = leave_heap, .victim = remove_it, .at_stop = nobody_waits_for_the_remover, .check = leftover_goes
    };
    at_each_stop(scene, &plan);
}

#define KILLED(fn)                                                          \
    { #fn " (shm)", (fn), NULL, tell_last_stop, (void *)&scene_shm_kind },  \
    {                                                                       \
#fn " (file)", (fn), NULL, tell_last_stop, (void *)&scene_mmap_kind \
    }

int
main(void)
{
    const struct CMUnitTest tests[] = {
        KILLED(a_killed_creator_leaves_nothing_that_lasts),
        KILLED(a_killed_creator_without_a_name_leaves_nothing_at_all),
        KILLED(a_killed_creator_without_tmpfile_leaves_nothing_that_lasts),
        KILLED(a_killed_creator_that_links_leaves_nothing_that_lasts),
        KILLED(unseen_files_of_the_dead_go_with_the_next_create),
        KILLED(a_killed_replacer_leaves_a_leftover_or_nothing),
        KILLED(a_killed_replacer_without_tmpfile_leaves_a_leftover_or_nothing),
        KILLED(a_maker_whose_file_was_swept_begins_again),
        KILLED(a_sweeper_at_work_does_not_stop_a_maker),
        KILLED(a_killed_guest_leaves_its_slot_to_others),
        KILLED(a_killed_reader_leaves_nothing),
        KILLED(a_killed_guest_of_a_leftover_leaves_a_leftover),
        KILLED(a_killed_destroyer_leaves_a_leftover_or_nothing),
        KILLED(who_is_killed_while_detaching_leaves_a_leftover),
        KILLED(no_lock_of_a_killed_leaver_stays_with_its_children),
        KILLED(a_parent_killed_in_fork_leaves_a_child_with_a_place),
        KILLED(a_killed_remover_leaves_a_leftover_or_nothing),
        KILLED(a_killed_remover_takes_no_name_from_the_living),
        KILLED(a_killed_replacer_takes_no_name_from_the_living),
        KILLED(a_stopped_remover_makes_nobody_wait),
    };
    return cmocka_run_group_tests(tests, scene_setup, NULL);
}
