/*
 * test_slots.c - a thread's place in ThreadLocal heaps: a heap has only so many, a process has an entry for 24 heaps in each
 * thread, and threads and heaps end in any order.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "lazy.h"

/* ---- threads that do one thing after the other, when told to ---- */

struct worker {
    pthread_t thread;
    void (*work)(struct worker *worker, unsigned round);
    void *arg;
    unsigned number, rounds;
    struct step go, done;
};

static void *
run_worker(void *arg)
{
    struct worker *worker = arg;
    for (unsigned round = 0; round < worker->rounds; round++) {
        step_wait(&worker->go, round + 1);
        worker->work(worker, round);
        step_reach(&worker->done);
    }
    return NULL;
}

/* A worker of so many rounds; it ends after the last. */
static void
start_worker(struct worker *worker, unsigned number, unsigned rounds, void (*work)(struct worker *, unsigned),
             void *arg)
{
    *worker = (struct worker){ .work = work, .arg = arg, .number = number, .rounds = rounds };
    assert_int_equal(pthread_create(&worker->thread, NULL, run_worker, worker), 0);
}

static void
next_round(struct worker *worker)
{
    const uint32_t round = atomic_load(&worker->done.count) + 1;
    step_reach(&worker->go);
    step_wait(&worker->done, round);
}

static void
join_worker(struct worker *worker)
{
    assert_int_equal(pthread_join(worker->thread, NULL), 0);
}

/* ---- a heap's slots ---- */

enum { SLOTS = 16, REGION = 512 << 10 };

static hshm_allocator *
small_heap(hshm_backend_id id)
{
    hshm_allocator *heap = NULL;
    char name[32];
    (void)snprintf(name, sizeof name, "slots%u", (unsigned)id);
    assert_ok(hshm_backend_create(NULL, id, HSHM_BACKEND_POSIX_SHM_MMAP, REGION, test_name(name), NULL, NULL));
    assert_ok(
        hshm_allocator_create(NULL, id, (hshm_allocator_id){ id, 0 }, HSHM_ALLOCATOR_THREAD_LOCAL, 0, NULL, &heap));
    return heap;
}

/* Takes a block that stays, and lives on. */
static void
take_a_place(struct worker *worker, unsigned round)
{
    if (round == 0)
        assert_non_null(hshm_malloc(worker->arg, 100));
}

struct late {
    hshm_allocator *heap;
    void *block; /* of another thread */
};

/* A thread without a place can do all but take small blocks. */
static void *
find_no_place(void *arg)
{
    struct late *late = arg;
    for (int i = 0; i < 3; i++) {
        assert_null(hshm_malloc(late->heap, 100));
        assert_int_equal(hshm_last_status(), HSHM_E_LIMIT);
        assert_sentence("has 16 slots for threads, and all are taken by live ones");
        assert_null(hshm_calloc(late->heap, 1, 100));
        assert_int_equal(hshm_last_status(), HSHM_E_LIMIT);
    }
    assert_true(hshm_usable_size(late->heap, late->block) >= 50);
    assert_ok(hshm_free(late->heap, late->block));
    assert_status(hshm_free(late->heap, late->block), HSHM_E_BADFREE);
    void *large = hshm_malloc(late->heap, 100000);
    assert_non_null(large);
    assert_ok(hshm_free(late->heap, large));
    return NULL;
}

static void *
find_a_place(void *arg)
{
    const struct late *late = arg;
    void *block = hshm_malloc(late->heap, 100);
    assert_non_null(block);
    assert_ok(hshm_free(late->heap, block));
    return NULL;
}

static void
more_threads_than_slots_are_told_so_until_one_ends(void **state)
{
    (void)state;
    struct worker workers[SLOTS - 1];
    struct late late = { .heap = small_heap(1) };
    late.block = hshm_malloc(late.heap, 50); /* this thread has a slot, too */
    for (unsigned i = 0; i < SLOTS - 1; i++) {
        start_worker(&workers[i], i, 2, take_a_place, late.heap);
        next_round(&workers[i]);
    }
    in_thread(find_no_place, &late);
    next_round(&workers[7]);
    join_worker(&workers[7]);
    in_thread(find_a_place, &late);
    in_thread(find_a_place, &late);
    for (unsigned i = 0; i < SLOTS - 1; i++) {
        if (i == 7)
            continue;
        next_round(&workers[i]);
        join_worker(&workers[i]);
    }
    free_every_block(late.heap);
    assert_all_free(late.heap, 80);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- many heaps, in many threads ---- */

enum { HEAPS = 30, WORKERS = 4, BLOCKS = 200 };

struct many {
    hshm_allocator *heaps[HEAPS + 1]; /* by backend id; NULL: closed by now */
    void *blocks[HEAPS + 1][WORKERS][BLOCKS];
};

/* In each heap that is open: free what the neighbour took before, and take anew. */
static void
use_all_heaps(struct worker *worker, unsigned round)
{
    struct many *many = worker->arg;
    for (unsigned id = 1; id <= HEAPS; id++) {
        hshm_allocator *heap = many->heaps[id];
        void **blocks = many->blocks[id][(worker->number + round) % WORKERS];
        for (unsigned i = 0; heap != NULL && i < BLOCKS; i++) {
            const uint64_t key = id * 1000 + i;
            if (blocks[i] != NULL)
                assert_block(heap, blocks[i], 48, key);
            assert_ok(hshm_free(heap, blocks[i]));
            blocks[i] = hshm_malloc(heap, 48);
            assert_non_null(blocks[i]);
            block_fill(blocks[i], 48, key);
        }
    }
}

static void
close_heap(struct many *many, unsigned id, bool whole)
{
    assert_sound(many->heaps[id]);
    if (whole) {
        free_every_block(many->heaps[id]);
        assert_all_free(many->heaps[id], 75);
    }
    assert_ok(hshm_backend_destroy(NULL, id));
    many->heaps[id] = NULL;
    for (unsigned i = 0; i < WORKERS; i++)
        for (unsigned j = 0; j < BLOCKS; j++)
            many->blocks[id][i][j] = NULL;
}

/* Odd ones first, so that both heaps with an entry and those by a key go while others stay. */
static void
more_heaps_than_entries_end_in_any_order(void **state)
{
    (void)state;
    struct worker workers[WORKERS];
    struct many *many = calloc(1, sizeof *many);
    assert_non_null(many);
    for (unsigned id = 1; id <= HEAPS; id++)
        many->heaps[id] = small_heap(id);
    for (unsigned i = 0; i < WORKERS; i++)
        start_worker(&workers[i], i, i == 0 ? 2 : 5, use_all_heaps, many);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = round < 2 ? 0 : 1; i < WORKERS; i++)
            next_round(&workers[i]);
        if (round == 1)
            join_worker(&workers[0]); /* while all its heaps are open */
        if (round == 2) {
            for (unsigned id = HEAPS - 1; id <= HEAPS; id -= 2)
                close_heap(many, id, id % 3 == 0);
        }
        if (round == 3) { /* new ones take the places of those that went */
            for (unsigned id = 1; id <= HEAPS; id += 2)
                many->heaps[id] = small_heap(id);
        }
    }
    for (unsigned id = 2; id <= HEAPS; id += 4)
        close_heap(many, id, true);
    for (unsigned i = 1; i < WORKERS; i++)
        join_worker(&workers[i]); /* some of their heaps have gone, others have not */
    for (unsigned id = 1; id <= HEAPS; id++) {
        if (many->heaps[id] != NULL)
            close_heap(many, id, true);
    }
    free(many);
}

/* ---- a heap goes while those who used it live on ---- */

static void
use_two_heaps(struct worker *worker, unsigned round)
{
    struct many *many = worker->arg;
    for (unsigned id = 1; id <= 3; id++) {
        hshm_allocator *heap = many->heaps[id];
        for (unsigned i = 0; heap != NULL && i < BLOCKS; i++) {
            void *block = hshm_malloc(heap, 16 + i);
            assert_non_null(block);
            block_fill(block, 16 + i, round);
            assert_block(heap, block, 16 + i, round);
            assert_ok(hshm_free(heap, block));
        }
    }
}

static void
threads_live_on_when_a_heap_of_theirs_is_destroyed(void **state)
{
    (void)state;
    struct worker workers[WORKERS];
    struct many *many = calloc(1, sizeof *many);
    assert_non_null(many);
    for (unsigned id = 1; id <= 2; id++)
        many->heaps[id] = small_heap(id);
    for (unsigned i = 0; i < WORKERS; i++) {
        start_worker(&workers[i], i, 3, use_two_heaps, many);
        next_round(&workers[i]);
    }
    assert_ok(hshm_backend_destroy(NULL, 1));
    many->heaps[1] = NULL;
    for (unsigned i = 0; i < WORKERS; i++)
        next_round(&workers[i]);
    many->heaps[3] = small_heap(3); /* where the first was */
    for (unsigned i = 0; i < WORKERS; i++) {
        next_round(&workers[i]);
        join_worker(&workers[i]);
    }
    for (unsigned id = 2; id <= 3; id++)
        close_heap(many, id, true);
    free(many);
}

/* ---- ended by a thread that never used it ---- */

static void *
unregister_first(void *arg)
{
    (void)arg;
    assert_ok(hshm_allocator_unregister(NULL, (hshm_allocator_id){ 1, 0 }));
    return NULL;
}

static void *
destroy_second(void *arg)
{
    (void)arg;
    assert_ok(hshm_backend_destroy(NULL, 2));
    return NULL;
}

static void
a_thread_that_never_used_a_heap_may_end_it(void **state)
{
    (void)state;
    struct worker worker;
    struct many *many = calloc(1, sizeof *many);
    assert_non_null(many);
    for (unsigned id = 1; id <= 2; id++)
        many->heaps[id] = small_heap(id);
    start_worker(&worker, 0, 2, use_two_heaps, many);
    next_round(&worker);
    unsigned char *block = hshm_malloc(many->heaps[1], 64);
    assert_non_null(block);
    block_fill(block, 64, 5);

    in_thread(unregister_first, NULL);
    in_thread(destroy_second, NULL);
    many->heaps[1] = many->heaps[2] = NULL;
    assert_true(block_holds(block, 64, 5)); /* the memory stays as long as the backend */
    many->heaps[3] = small_heap(3);
    next_round(&worker);
    join_worker(&worker);
    close_heap(many, 3, true);
    assert_ok(hshm_backend_destroy(NULL, 1));
    free(many);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(more_threads_than_slots_are_told_so_until_one_ends, drop_heaps),
        cmocka_unit_test_teardown(more_heaps_than_entries_end_in_any_order, drop_heaps),
        cmocka_unit_test_teardown(threads_live_on_when_a_heap_of_theirs_is_destroyed, drop_heaps),
        cmocka_unit_test_teardown(a_thread_that_never_used_a_heap_may_end_it, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
