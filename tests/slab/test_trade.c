/*
 * test_trade.c - threads, forked children and other programs work on one heap of slabs, and free what others took.
 *
 * After each round, when all have ended, the heap's own check finds it whole, every figure is exact, and what was freed can be
 * one block again.  Threads come and go, so that slabs of ended ones are adopted.
 */
#include "trade.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "scenes.h"

enum { WORKERS = 4, ROUNDS = 4, OPERATIONS = 25000 };

struct task {
    pthread_t thread;
    hshm_allocator *heap;
    uint64_t seed;
    unsigned long count;
};

static const struct board *
board_of(hshm_allocator *heap)
{
    return hshm_allocator_custom_header(heap, NULL);
}

/* Nobody works: what was counted is exact. */
static void
look(hshm_allocator *heap)
{
    const struct board *board = board_of(heap);
    const hshm_stats stats = stats_of(heap);
    uint64_t lying = 0;
    for (size_t i = 0; i < BOARD_PLACES; i++)
        lying += board->places[i] != 0;
    assert_int_equal(board->wrong, 0);
    assert_int_equal(stats.live_blocks, lying);
    assert_int_equal(stats.frees, board->frees);
    assert_int_equal(stats.allocs, board->allocs);
    assert_sound(heap);
}

static void
look_at_the_end(hshm_allocator *heap)
{
    trade_clear(heap);
    look(heap);
    assert_true(board_of(heap)->handed > 0);
    assert_emptied(heap);
    assert_sound(heap);
}

/* ---- threads ---- */

static void *
work_in_thread(void *arg)
{
    const struct task *task = arg;
    trade(task->heap, task->seed, task->count);
    return NULL;
}

static void
threads_trade(const struct place *place, hshm_allocator_kind kind)
{
    struct scene scene;
    struct task tasks[WORKERS];
    uint64_t seed = test_seed();
    scene_make(&scene, place, kind, sizeof(struct board));
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < WORKERS; i++) {
            tasks[i] = (struct task){ .heap = scene.heap, .seed = next_random(&seed), .count = operations(OPERATIONS) };
            assert_int_equal(pthread_create(&tasks[i].thread, NULL, work_in_thread, &tasks[i]), 0);
        }
        for (size_t i = 0; i < WORKERS; i++)
            assert_int_equal(pthread_join(tasks[i].thread, NULL), 0);
        look(scene.heap);
    }
    look_at_the_end(scene.heap);
    scene_end(&scene);
}

/* ---- processes ---- */

static int
work_in_child(void *arg)
{
    const struct task *task = arg;
    trade(task->heap, task->seed, task->count);
    hshm_manager_destroy(NULL); /* else what its threads counted for themselves is lost with it */
    return 0;
}

static pid_t
start_program(const struct scene *scene, const struct task *task)
{
    char words[3][32];
    (void)snprintf(words[0], sizeof words[0], "%d", (int)scene->place->backend);
    (void)snprintf(words[1], sizeof words[1], "%" PRIu64, task->seed);
    (void)snprintf(words[2], sizeof words[2], "%lu", task->count);
    return helper_start("helper_trade", words[0], scene->url, words[1], words[2], NULL);
}

/* Forked children and other programs by turns, and this process among them. */
static void
processes_trade(const struct place *place, hshm_allocator_kind kind)
{
    struct scene scene;
    pid_t workers[WORKERS];
    uint64_t seed = test_seed();
    scene_make(&scene, place, kind, sizeof(struct board));
    for (int round = 0; round < ROUNDS; round++) {
        struct task task = { .heap = scene.heap, .count = operations(OPERATIONS) };
        for (size_t i = 0; i < WORKERS; i++) {
            task.seed = next_random(&seed);
            workers[i] = i % 2 == 0 ? child_start(work_in_child, &task) : start_program(&scene, &task);
        }
        trade(scene.heap, next_random(&seed), task.count);
        for (size_t i = 0; i < WORKERS; i++)
            assert_int_equal(child_wait(workers[i]), 0);
        look(scene.heap);
    }
    look_at_the_end(scene.heap);
    scene_end(&scene);
}

static const struct place for_threads[] = {
    { " in private memory", HSHM_BACKEND_MALLOC, 64 * MIB, 0, 0, false },
    { " in shared memory", HSHM_BACKEND_POSIX_SHM_MMAP, 64 * MIB, 0, 0, true },
    { " in an array", HSHM_BACKEND_ARRAY, 16 * MIB, 0, 0, false },
    { " in an array that is aligned to 64 bytes only", HSHM_BACKEND_ARRAY, 16 * MIB, 0, 64, false },
    { " in 2 MiB", HSHM_BACKEND_MALLOC, 2 * MIB, 0, 0, false },
    { " with blocks of 256 bytes", HSHM_BACKEND_MALLOC, 16 * MIB, 256, 0, false },
};

static const struct place for_processes[] = {
    { " in shared memory", HSHM_BACKEND_POSIX_SHM_MMAP, 64 * MIB, 0, 0, true },
    { " in 16 MiB of shared memory", HSHM_BACKEND_POSIX_SHM_MMAP, 16 * MIB, 0, 0, false },
    { " in 2 MiB of shared memory", HSHM_BACKEND_POSIX_SHM_MMAP, 2 * MIB, 0, 0, false },
    { " in a file", HSHM_BACKEND_POSIX_MMAP, 16 * MIB, 256, 0, false },
};

int
main(void)
{
    return run_places("slab.trade: threads", for_threads, COUNTOF(for_threads), "threads_free_each_others_blocks",
                      threads_trade) +
           run_places("slab.trade: processes", for_processes, COUNTOF(for_processes),
                      "processes_free_each_others_blocks", processes_trade);
}
