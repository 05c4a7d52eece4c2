/*
 * test_fork_threads.c - fork() in the middle of what other threads do: no child hangs on a lock that it inherited, each
 * has its own place, and none inherits what would keep its parent looking alive.
 *
 * labels: no-asan
 * (clang 14's address sanitizer does not take its own malloc's locks around fork(): its children hang in malloc)
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"

enum { FORKS = 100, STAYING = 40 };

/* One thread's endless work; ends soon after `stop` is set. */
struct worker {
    pthread_t thread;
    void (*work)(struct worker *worker);
    struct scene *scene;
    hshm_allocator *heap;
    atomic_bool *stop;
    _Atomic unsigned rounds;
};

static void *
run_worker(void *arg)
{
    struct worker *worker = arg;
    while (!atomic_load(worker->stop)) {
        worker->work(worker);
        atomic_fetch_add(&worker->rounds, 1);
    }
    return NULL;
}

static void
start_worker(struct worker *worker)
{
    assert_int_equal(pthread_create(&worker->thread, NULL, run_worker, worker), 0);
}

static void
allocate_and_free(struct worker *worker)
{
    void *block = hshm_malloc(worker->heap, 48);
    assert_non_null(block);
    assert_ok(hshm_free(worker->heap, block));
}

/* The manager that attach_and_detach() may be attached by just now; a child forked just then has a place by it. */
static hshm_manager *_Atomic comer;

static void
attach_and_detach(struct worker *worker)
{
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    atomic_store(&comer, manager);
    (void)scene_attach(worker->scene, manager);
    assert_ok(hshm_backend_detach(manager, 1));
    atomic_store(&comer, NULL);
    hshm_manager_destroy(manager);
}

static void
create_and_destroy(struct worker *worker)
{
    char url[PATH_MAX];
    (void)snprintf(url, sizeof url, "%.200s-other", worker->scene->url);
    assert_ok(hshm_backend_create(NULL, 2, worker->scene->kind, 4096, url, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    assert_ok(hshm_backend_destroy(NULL, 2));
}

static void
try_remove(struct worker *worker)
{
    assert_status(scene_remove(worker->scene), HSHM_E_BUSY);
}

/* ---- no child hangs ---- */

static _Noreturn void
child_uses_heaps(hshm_allocator *heap, hshm_allocator *private_heap, uint32_t parents_slot)
{
    hshm_backend_info_data info = scene_info(NULL);
    void *block = hshm_malloc(heap, 48);
    void *private_block = hshm_malloc(private_heap, 48);
    const bool good = info.slot != UINT32_MAX && info.slot != parents_slot && block != NULL && private_block != NULL &&
                      hshm_free(heap, block) == HSHM_OK && hshm_free(private_heap, private_block) == HSHM_OK;
    _exit(good ? 0 : 1);
}

static hshm_allocator *
create_private_heap(void)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, 3, HSHM_BACKEND_MALLOC, 65536, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 3, (hshm_allocator_id){ 3, 0 }, HSHM_ALLOCATOR_MALLOC, 0, NULL, &heap));
    return heap;
}

static int
fork_among_threads(struct scene *scene)
{
    atomic_bool stop = false;
    hshm_allocator *heap = scene_create(scene, NULL);
    hshm_allocator *private_heap = create_private_heap();
    struct worker workers[] = {
        { .work = allocate_and_free, .heap = heap },   { .work = allocate_and_free, .heap = private_heap },
        { .work = attach_and_detach, .scene = scene }, { .work = create_and_destroy, .scene = scene },
        { .work = try_remove, .scene = scene },
    };
    enum { WORKERS = sizeof workers / sizeof workers[0] };
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i].stop = &stop;
        start_worker(&workers[i]);
    }
    for (int i = 0; i < FORKS; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            child_uses_heaps(heap, private_heap, 0);
        assert_int_equal(child_wait(child), 0);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_true(atomic_load(&workers[i].rounds) > 0);
    }
    assert_int_equal(scene_info(NULL).processes, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static void
no_child_hangs_on_what_threads_held(void **state)
{
    struct scene *scene = scene_begin(state, "threads");
    assert_int_equal(child_wait(scene_start(fork_among_threads, scene)), 0);
    assert_false(scene_named(scene));
}

/* ---- no child inherits a lock ---- */

/* Children that leave the region and stay; if one of them carries a lock of its parent's, that shows now. */
static void
fork_staying_children(struct scene *scene)
{
    for (int i = 0; i < STAYING; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child > 0)
            continue;
        if (atomic_load(&comer) != NULL)
            hshm_manager_destroy(atomic_load(&comer));
        step_reach(&scene->ready);
        scene_stay();
    }
    step_reach(&scene->ready);
}

static int
fork_while_attaching(struct scene *scene)
{
    atomic_bool stop = false;
    struct worker worker = { .work = attach_and_detach, .scene = scene, .stop = &stop };
    start_worker(&worker);
    while (atomic_load(&worker.rounds) == 0)
        (void)sched_yield();
    fork_staying_children(scene);
    scene_stay();
}

static void
a_fork_during_an_attach_keeps_nobody_alive(void **state)
{
    struct scene *scene = scene_begin(state, "attaching");
    scene->slots = 2 * STAYING;
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    const pid_t parent = scene_start(fork_while_attaching, scene);
    step_wait(&scene->ready, 2 + STAYING);
    assert_lives(scene);
    scene_kill(owner);
    scene_kill(parent);
    assert_leftover(scene);
}

/* A remover without permission for its last step: the region stays, and must not stay locked. */
static void
fail_to_remove(struct worker *worker)
{
    assert_status(scene_remove(worker->scene), HSHM_E_PERM);
}

static int
fork_while_removing(struct scene *scene)
{
    atomic_bool stop = false;
    struct worker worker = { .work = fail_to_remove, .scene = scene, .stop = &stop };
    assert_true(scene_become_nobody());
    start_worker(&worker);
    while (atomic_load(&worker.rounds) == 0)
        (void)sched_yield();
    fork_staying_children(scene);
    scene_stay();
}

static void
a_fork_during_a_removal_leaves_no_lock_behind(void **state)
{
    if (getuid() != 0) {
        print_message("only root may become another user\n");
        skip();
    }
    struct scene *scene = scene_begin(state, "removing");
    scene_open_to_all(scene);
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    scene_kill(owner);
    const pid_t parent = scene_start(fork_while_removing, scene);
    step_wait(&scene->ready, 2 + STAYING);
    scene_kill(parent);
    assert_leftover(scene);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_KINDS(no_child_hangs_on_what_threads_held),
        BOTH_KINDS(a_fork_during_an_attach_keeps_nobody_alive),
        BOTH_KINDS(a_fork_during_a_removal_leaves_no_lock_behind),
    };
    return cmocka_run_group_tests(tests, scene_setup, NULL);
}
