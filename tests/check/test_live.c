/*
 * test_live.c - hshm_check() while others work on the heap, are stopped at any moment, or killed and not cleaned up after: it never takes
 * that for damage, and stores nothing: it looks from a process that has the region mapped for reading only.
 *
 * labels: slow
 * HSHM_TEST_LONG=n has n times as many checks; HSHM_TEST_SEED repeats the choices, but not the moments.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "allocator/allocator.h"
#include "blocks.h"

enum {
    /* The thread sanitizer does not see what one thread knows of another by way of another process. */
    WORKERS = UNDER_THREAD_SANITIZER ? 1 : 3,
    THREADS = 2,
    HELD = 24,
    MARKET = 16,
    SLOTS = 12,
    SIZE = 8 << 20,
    CHECKS = UNDER_SANITIZER ? 60 : 300,
    KILLS = UNDER_SANITIZER ? 8 : 60,
    STOPS = UNDER_SANITIZER ? 10 : 60,
    CALLS_BETWEEN = 400 /* most that a worker makes between two things that are done to it */
};

/* In memory that outlives its processes. */
struct scene {
    hshm_allocator_kind kind;
    char url[64];
    uint64_t seed;
    unsigned worker;
    struct step started;
    _Atomic bool ends;
    _Atomic bool checker_ends; /* first: to end without a detach is a death */
    _Atomic uint64_t calls[WORKERS];
    _Atomic uint64_t checks; /* made by the checker */
    _Atomic uint64_t market[MARKET];
    hshm_check_report most; /* of each figure, that a check counted */
};

/* One thread of a worker. */
struct hand {
    struct scene *scene;
    hshm_allocator *heap;
    hshm_slot *slots;
    uint64_t random;
    unsigned worker;
    void *held[HELD];
};

static unsigned
long_factor(void)
{
    const char *text = getenv("HSHM_TEST_LONG");
    return text == NULL ? 1 : (unsigned)strtoul(text, NULL, 10);
}

/* ---- workers ---- */

static size_t
any_size(uint64_t *random)
{
    static const size_t below[] = { 64, 300, 300, 2000, 9000, 40000, 200000, 700000 };
    const uint64_t roll = next_random(random);
    return 1 + (size_t)(roll >> 32) % below[roll % 8];
}

/* What others had too: their block is freed here, or ours there. */
static void
trade(struct hand *hand, void **held)
{
    const uint64_t mine = *held == NULL ? 0 : hshm_to_off(hand->heap, *held);
    const uint64_t other = atomic_exchange(&hand->scene->market[next_random(&hand->random) % MARKET], mine);
    *held = hshm_to_addr(hand->heap, other);
}

static void
work_on_slots(struct hand *hand)
{
    hshm_slot *slot = &hand->slots[next_random(&hand->random) % SLOTS];
    switch (next_random(&hand->random) % 3) {
    case 0:
        (void)hshm_allocate_to(hand->heap, any_size(&hand->random), slot);
        break;
    case 1:
        (void)hshm_free_from(hand->heap, slot);
        break;
    default:
        (void)hshm_move(hand->heap, slot, &hand->slots[next_random(&hand->random) % SLOTS]);
        break;
    }
}

static void
work_on_block(struct hand *hand, void **held)
{
    const size_t size = any_size(&hand->random);
    void *moved;
    if (*held == NULL) {
        *held = next_random(&hand->random) % 8 == 0
                    ? hshm_aligned_alloc(hand->heap, (size_t)16 << next_random(&hand->random) % 10, size)
                    : hshm_malloc(hand->heap, size);
    } else if (next_random(&hand->random) % 4 == 0) {
        moved = hshm_realloc(hand->heap, *held, size);
        *held = moved != NULL ? moved : *held;
    } else {
        assert_ok(hshm_free(hand->heap, *held));
        *held = NULL;
    }
}

static void
work_once(struct hand *hand)
{
    void **held = &hand->held[next_random(&hand->random) % HELD];
    const uint64_t roll = next_random(&hand->random) % 64;
    /* A stack is trimmed while nobody takes blocks. */
    if (roll == 0 && hand->scene->kind != HSHM_ALLOCATOR_STACK)
        (void)hshm_trim(hand->heap, 0, NULL);
    else if (roll == 1)
        assert_ok(hshm_check(hand->heap, 0, NULL)); /* beside other threads of this process */
    else if (roll < 8)
        trade(hand, held);
    else if (roll < 20)
        work_on_slots(hand);
    else
        work_on_block(hand, held);
    (void)atomic_fetch_add(&hand->scene->calls[hand->worker], 1);
}

static void
drop_all(struct hand *hand)
{
    for (size_t i = 0; i < HELD; i++) {
        assert_ok(hshm_free(hand->heap, hand->held[i]));
        hand->held[i] = NULL;
    }
}

static void *
work(void *arg)
{
    struct hand *hand = arg;
    while (!atomic_load(&hand->scene->ends))
        work_once(hand);
    drop_all(hand);
    return NULL;
}

/* Threads end, too, and leave slabs to others. */
static void *
work_a_while(void *arg)
{
    struct hand *hand = arg;
    for (int i = 0; i < 200 && !atomic_load(&hand->scene->ends); i++)
        work_once(hand);
    drop_all(hand);
    return NULL;
}

static struct hand
hand_of(struct scene *scene, unsigned worker, unsigned thread)
{
    struct hand hand = { .scene = scene, .worker = worker, .random = scene->seed + thread };
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &hand.heap));
    hand.slots = hshm_allocator_custom_header(hand.heap, NULL);
    return hand;
}

static int
be_a_worker(void *arg)
{
    struct scene *scene = arg;
    struct hand hands[THREADS];
    pthread_t thread;
    const unsigned worker = scene->worker;
    for (unsigned i = 0; i < THREADS; i++)
        hands[i] = hand_of(scene, worker, i);
    assert_int_equal(pthread_create(&thread, NULL, work, &hands[0]), 0);
    step_reach(&scene->started);
    while (!atomic_load(&scene->ends)) {
        pthread_t other;
        assert_int_equal(pthread_create(&other, NULL, work_a_while, &hands[1]), 0);
        assert_int_equal(pthread_join(other, NULL), 0);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    return 0;
}

static pid_t
start_worker(struct scene *scene, unsigned worker, uint64_t *random)
{
    const uint32_t started = atomic_load(&scene->started.count);
    scene->worker = worker;
    scene->seed = next_random(random);
    const pid_t pid = child_start(be_a_worker, scene);
    step_wait(&scene->started, started + 1);
    return pid;
}

/* Some calls later, at any instruction. */
static void
let_work(struct scene *scene, unsigned worker, uint64_t *random)
{
    const uint64_t until = atomic_load(&scene->calls[worker]) + next_random(random) % CALLS_BETWEEN;
    while (atomic_load(&scene->calls[worker]) < until)
        (void)sched_yield();
    for (volatile uint64_t turns = next_random(random) % 20000; turns > 0; turns--)
        ;
}

/* ---- the checker ---- */

static void
assert_mapped_for_reading_only(const void *addr)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (!found && fgets(line, sizeof line, maps) != NULL) {
        char *rest;
        const uintptr_t begin = (uintptr_t)strtoull(line, &rest, 16);
        const uintptr_t end = (uintptr_t)strtoull(rest + 1, &rest, 16);
        found = (uintptr_t)addr >= begin && (uintptr_t)addr < end;
        if (found && strncmp(rest, " r--s", 5) != 0)
            fail_msg("the region is mapped otherwise: %s", line);
    }
    (void)fclose(maps);
    assert_true(found);
}

static void
note_most(uint64_t *most, uint64_t now)
{
    if (*most < now)
        *most = now;
}

static void
look_once(hshm_allocator *heap, struct scene *scene)
{
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    assert_ok(hshm_check(heap, 0, &report));
    note_most(&scene->most.in_transition, report.in_transition);
    note_most(&scene->most.left_by_dead, report.left_by_dead);
    note_most(&scene->most.stale, report.stale);
    note_most(&scene->most.slabs, report.slabs);
    note_most(&scene->most.live_blocks, report.live_blocks);
    (void)atomic_fetch_add(&scene->checks, 1);
}

static hshm_allocator *
attach_to_read(const struct scene *scene)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    options.read_only = true;
    assert_ok(hshm_backend_detach(NULL, 1)); /* what came with the fork */
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, scene->url, &options, NULL));
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    assert_mapped_for_reading_only(heap->view.base);
    return heap;
}

static int
be_the_checker(void *arg)
{
    struct scene *scene = arg;
    hshm_allocator *heap = attach_to_read(scene);
    while (!atomic_load(&scene->checker_ends))
        look_once(heap, scene);
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
wait_for_checks(struct scene *scene, uint64_t more, pid_t checker)
{
    const uint64_t until = atomic_load(&scene->checks) + more;
    while (atomic_load(&scene->checks) < until) {
        int status;
        if (waitpid(checker, &status, WNOHANG) != 0)
            fail_msg("the checker ended, with status 0x%x", (unsigned)status);
        (void)sched_yield();
    }
}

/* ---- scenes ---- */

static struct scene *
scene_begin(void **state, hshm_allocator **ret_heap)
{
    struct scene *scene = shared_bytes(sizeof *scene);
    scene->kind = *(const hshm_allocator_kind *)*state;
    (void)snprintf(scene->url, sizeof scene->url, "%s", test_name("live"));
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, SIZE, scene->url, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, scene->kind, SLOTS * sizeof(hshm_slot), NULL,
                                    ret_heap));
    return scene;
}

/* The checker's process is the answer. */
static pid_t
start_all(struct scene *scene, pid_t workers[WORKERS], uint64_t *random)
{
    for (unsigned i = 0; i < WORKERS; i++)
        workers[i] = start_worker(scene, i, random);
    return child_start(be_the_checker, scene);
}

static void
end_all(struct scene *scene, const pid_t workers[WORKERS], pid_t checker)
{
    atomic_store(&scene->checker_ends, true);
    assert_int_equal(child_wait(checker), 0);
    atomic_store(&scene->ends, true);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(child_wait(workers[i]), 0);
}

/* All have ended, or are dead: nothing is left of what they were in the middle of. */
static void
scene_end(const struct scene *scene, hshm_allocator *heap)
{
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    print_message("%llu checks; at most %llu places in transition, %llu left by the dead, %llu stale\n",
                  (unsigned long long)scene->checks, (unsigned long long)scene->most.in_transition,
                  (unsigned long long)scene->most.left_by_dead, (unsigned long long)scene->most.stale);
    assert_ok(hshm_check(heap, HSHM_CHECK_REPAIR, &report));
    assert_int_equal(report.in_transition, 0);
    assert_int_equal(report.left_by_dead, 0);
    assert_int_equal(report.stale, 0);
    assert_true(scene->most.live_blocks > 0);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_check_beside_those_who_work_raises_no_alarm(void **state)
{
    hshm_allocator *heap;
    struct scene *scene = scene_begin(state, &heap);
    uint64_t random = test_seed();
    pid_t workers[WORKERS];
    const pid_t checker = start_all(scene, workers, &random);
    wait_for_checks(scene, CHECKS * long_factor(), checker);
    end_all(scene, workers, checker);
    assert_int_equal(scene->most.left_by_dead, 0);
    scene_end(scene, heap);
}

static void
stop(pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

static void
end_by_kill(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(child_wait(pid), 128 + SIGKILL);
}

/* One is killed, and the others go on, who recover it now and then: for want of memory, and by trimming. */
static void
kill_one(struct scene *scene, pid_t *workers, pid_t checker, uint64_t *random)
{
    const unsigned victim = (unsigned)(next_random(random) % WORKERS);
    let_work(scene, victim, random);
    end_by_kill(workers[victim]);
    wait_for_checks(scene, 2, checker);
    workers[victim] = start_worker(scene, victim, random);
}

/* All are killed in the middle of something, and nobody is left who could recover them. */
static void
kill_all(struct scene *scene, pid_t *workers, pid_t checker, uint64_t *random)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        let_work(scene, i, random);
        stop(workers[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        end_by_kill(workers[i]);
    wait_for_checks(scene, 2, checker);
}

static void
what_killed_processes_leave_raises_no_alarm(void **state)
{
    hshm_allocator *heap;
    struct scene *scene = scene_begin(state, &heap);
    uint64_t random = test_seed();
    pid_t workers[WORKERS];
    const pid_t checker = child_start(be_the_checker, scene);
    for (unsigned rounds = 0; rounds < KILLS / (WORKERS + 1) * long_factor(); rounds++) {
        for (unsigned i = 0; i < WORKERS; i++)
            workers[i] = start_worker(scene, i, &random);
        kill_one(scene, workers, checker, &random);
        kill_all(scene, workers, checker, &random);
        if (scene->kind == HSHM_ALLOCATOR_THREAD_LOCAL)
            assert_true(scene->most.left_by_dead >= WORKERS); /* the slots of their threads */
    }
    atomic_store(&scene->checker_ends, true);
    assert_int_equal(child_wait(checker), 0);
    scene_end(scene, heap);
}

static void
stopped_processes_raise_no_alarm(void **state)
{
    hshm_allocator *heap;
    struct scene *scene = scene_begin(state, &heap);
    uint64_t random = test_seed();
    pid_t workers[WORKERS];
    const pid_t checker = start_all(scene, workers, &random);
    for (unsigned stops = 0; stops < STOPS * long_factor(); stops++) {
        /* One after the other, until nobody works: what is left then holds still as damage does. */
        for (unsigned i = 0; i < WORKERS; i++) {
            let_work(scene, i, &random);
            stop(workers[i]);
        }
        wait_for_checks(scene, 2, checker);
        for (unsigned i = 0; i < WORKERS; i++)
            assert_int_equal(kill(workers[i], SIGCONT), 0);
    }
    end_all(scene, workers, checker);
    scene_end(scene, heap);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OF_ALL_KINDS(a_check_beside_those_who_work_raises_no_alarm),
        OF_ALL_KINDS(what_killed_processes_leave_raises_no_alarm),
        OF_ALL_KINDS(stopped_processes_raise_no_alarm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
