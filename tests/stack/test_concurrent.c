/*
 * test_concurrent.c - several threads, and several processes, on one stack: no granule is handed out twice, each block
 * keeps what was written into it until it is freed by whomever, the figures are exact in the end, and of several that
 * free one block, one succeeds.
 *
 * The workers exchange blocks over a board of offsets, so that most blocks are freed by another than the one who took
 * them.  They count what goes wrong, as cmocka's assertions are for the thread that runs the test.
 */
#include "blocks.h"

#include <pthread.h>
#include <string.h>

enum { REGION = 64 << 10, WORKERS = 4, PLACES = 64, HELD = 8, OPERATIONS = 20000, RACERS = 3 };

/* Under sanitizers watching a word takes long, so that the others cannot run meanwhile. */
#if UNDER_SANITIZER
enum { RACES = 300, SPINS = 1000 };
#else
enum { RACES = 2000, SPINS = 50000 };
#endif

/* What a block begins with; its pattern follows. */
struct stamp {
    uint64_t key, size;
};

struct result {
    uint64_t allocs, frees, failures;
    uint64_t wrong; /* blocks that did not hold what was written, and calls that failed without a reason */
};

/* Shared by the workers. */
struct board {
    _Atomic uint64_t places[PLACES]; /* offsets of blocks; 0 = empty */
    struct result results[WORKERS];
};

struct worker {
    hshm_allocator *heap;
    struct board *board;
    struct result *result;
    uint64_t number, random;
    void *held[HELD];
};

static void
stamp_block(struct worker *worker, void *addr, size_t size)
{
    const struct stamp stamp = { worker->number << 48 | worker->result->allocs, size };
    memcpy(addr, &stamp, sizeof stamp);
    block_fill((char *)addr + sizeof stamp, size - sizeof stamp, stamp.key);
}

static bool
stamp_holds(const void *addr, size_t limit)
{
    struct stamp stamp;
    memcpy(&stamp, addr, sizeof stamp);
    if (stamp.size < sizeof stamp || stamp.size > limit)
        return false;
    return block_holds((const char *)addr + sizeof stamp, (size_t)stamp.size - sizeof stamp, stamp.key);
}

/* A block with a stamp, or NULL when there is no room. */
static void *
take(struct worker *worker)
{
    const uint64_t kind = next_random(&worker->random) % 16;
    /* Many of a single granule: they have no other code than their last one. */
    const uint64_t limit = kind == 0 ? 3000 : kind < 10 ? 300 : 1;
    const size_t size = sizeof(struct stamp) + (size_t)(next_random(&worker->random) % limit);
    void *addr = kind == 1 ? hshm_aligned_alloc(worker->heap, 512, size) : hshm_malloc(worker->heap, size);
    if (addr == NULL) {
        worker->result->failures++;
        worker->result->wrong += hshm_last_status() != HSHM_E_NOMEM;
        return NULL;
    }
    worker->result->allocs++;
    /* First of all, so that nothing but the call itself orders this behind what a former owner did with the bytes. */
    stamp_block(worker, addr, size);
    worker->result->wrong += hshm_usable_size(worker->heap, addr) != stack_rounded(size);
    return addr;
}

static void
give(struct worker *worker, void *addr)
{
    if (addr == NULL)
        return;
    worker->result->wrong += !stamp_holds(addr, hshm_usable_size(worker->heap, addr));
    worker->result->wrong += hshm_free(worker->heap, addr) != HSHM_OK;
    worker->result->frees++;
}

/* Another size: in place, or as one more block taken and freed. */
static void *
resize(struct worker *worker, void *addr)
{
    if (addr == NULL)
        return NULL;
    const size_t size = sizeof(struct stamp) + (size_t)(next_random(&worker->random) % 600);
    struct stamp stamp;
    memcpy(&stamp, addr, sizeof stamp);
    void *moved = hshm_realloc(worker->heap, addr, size);
    if (moved == NULL) {
        worker->result->failures++;
        worker->result->wrong += !stamp_holds(addr, hshm_usable_size(worker->heap, addr));
        return addr;
    }
    worker->result->allocs += moved != addr;
    worker->result->frees += moved != addr;
    const size_t kept = size < stamp.size ? size : (size_t)stamp.size;
    worker->result->wrong += !block_holds((char *)moved + sizeof stamp, kept - sizeof stamp, stamp.key);
    stamp_block(worker, moved, size);
    return moved;
}

static void
exchange(struct worker *worker, size_t place, void *addr)
{
    const hshm_off off = hshm_to_off(worker->heap, addr);
    /* Release hands the block's content on, acquire takes that of the one found. */
    const hshm_off found = atomic_exchange_explicit(&worker->board->places[place], off, memory_order_acq_rel);
    give(worker, hshm_to_addr(worker->heap, found));
}

static void
work(struct worker *worker)
{
    for (int i = 0; i < OPERATIONS; i++) {
        void **mine = &worker->held[next_random(&worker->random) % HELD];
        switch (next_random(&worker->random) % 4) {
        case 0:
            give(worker, *mine);
            *mine = take(worker);
            break;
        case 1:
            *mine = resize(worker, *mine);
            break;
        default:
            exchange(worker, next_random(&worker->random) % PLACES, take(worker));
        }
    }
    for (size_t i = 0; i < HELD; i++)
        give(worker, worker->held[i]);
}

/* Take the last blocks off the board; then nothing may be left, and all was counted. */
static void
settle(hshm_allocator *heap, struct board *board)
{
    assert_sound(heap);
    struct result rest = { 0, 0, 0, 0 };
    struct worker last = { .heap = heap, .board = board, .result = &rest };
    for (size_t i = 0; i < PLACES; i++)
        exchange(&last, i, NULL);
    struct result sum = rest;
    for (size_t i = 0; i < WORKERS; i++) {
        sum.allocs += board->results[i].allocs;
        sum.frees += board->results[i].frees;
        sum.failures += board->results[i].failures;
        sum.wrong += board->results[i].wrong;
    }
    const hshm_stats stats = stats_of(heap);
    assert_int_equal(sum.wrong, 0);
    assert_int_equal(stats.live_blocks, 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.allocs, sum.allocs);
    assert_int_equal(stats.frees, sum.frees);
    assert_int_equal(stats.failures, sum.failures);
    assert_int_equal(sum.allocs, sum.frees);
    assert_sound(heap);
    void *all = hshm_malloc(heap, (size_t)stats.data_bytes);
    assert_non_null(all);
    assert_ok(hshm_free(heap, all));
}

static void *
run_thread(void *arg)
{
    work(arg);
    return NULL;
}

static void
threads_never_get_the_same_block(void **state)
{
    (void)state;
    static struct board board;
    memset(&board, 0, sizeof board);
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){ heap, &board, &board.results[i], i + 1, test_seed() + i, { NULL } };
        assert_int_equal(pthread_create(&threads[i], NULL, run_thread, &workers[i]), 0);
    }
    for (size_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    settle(heap, &board);
}

struct job {
    const char *name;
    struct board *board;
    size_t number;
};

/* Half of them work with what fork() gave them, half attach for themselves, at another address. */
static int
run_process(void *arg)
{
    const struct job *job = arg;
    hshm_manager *manager = NULL;
    hshm_allocator *heap = NULL;
    if (job->number % 2 == 0) {
        assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, &heap));
    } else {
        assert_ok(hshm_manager_create(&manager));
        heap = attach_heap(manager, HSHM_BACKEND_POSIX_SHM_MMAP, job->name, 0);
    }
    struct worker worker = {
        heap, job->board, &job->board->results[job->number], job->number + 1, test_seed() + job->number, { NULL }
    };
    work(&worker);
    if (manager != NULL)
        hshm_manager_destroy(manager);
    return 0;
}

static void
processes_never_get_the_same_block(void **state)
{
    (void)state;
    const char *name = test_name("concurrent");
    struct board *board = shared_bytes(sizeof *board);
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, REGION, HSHM_ALLOCATOR_STACK);
    struct job jobs[WORKERS];
    pid_t children[WORKERS];
    (void)test_seed(); /* before they are forked, so that all have the same */
    for (size_t i = 0; i < WORKERS; i++) {
        jobs[i] = (struct job){ name, board, i };
        children[i] = child_start(run_process, &jobs[i]);
    }
    for (size_t i = 0; i < WORKERS; i++)
        assert_int_equal(child_wait(children[i]), 0);
    settle(heap, board);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- one block, freed by several at once ---- */

struct race {
    struct step met;        /* counts all arrivals, before and after each round */
    _Atomic uint64_t block; /* offset of the block of this round */
    _Atomic uint32_t freed, refused;
    uint64_t wrong;
};

struct racer {
    hshm_allocator *heap;
    struct race *race;
    size_t number;
    uint32_t meetings;
};

/* Everybody leaves at about the same time: they watch a word for a while, and only then wait to be woken. */
static void
meet(struct racer *racer)
{
    struct step *met = &racer->race->met;
    const uint32_t all = ++racer->meetings * RACERS;
    step_reach(met);
    for (int i = 0; i < SPINS && atomic_load_explicit(&met->count, memory_order_acquire) < all; i++)
        ;
    step_wait(met, all);
}

/* Racer 0 lays the round's block out: at the top, or beneath another. */
static void *
prepare_round(struct racer *racer, uint64_t *random)
{
    struct race *race = racer->race;
    const size_t size = next_random(random) % 2 == 0 ? 16 : (size_t)(next_random(random) % 2000);
    void *filler = hshm_malloc(racer->heap, (size_t)(next_random(random) % 600));
    void *block = hshm_malloc(racer->heap, size);
    void *above = next_random(random) % 2 == 0 ? hshm_malloc(racer->heap, 16) : NULL;
    race->wrong += block == NULL || filler == NULL;
    race->wrong += hshm_free(racer->heap, filler) != HSHM_OK;
    atomic_store_explicit(&race->block, hshm_to_off(racer->heap, block), memory_order_relaxed);
    atomic_store_explicit(&race->freed, 0, memory_order_relaxed);
    atomic_store_explicit(&race->refused, 0, memory_order_relaxed);
    return above;
}

static void
judge_round(struct racer *racer, void *above)
{
    struct race *race = racer->race;
    race->wrong += atomic_load_explicit(&race->freed, memory_order_relaxed) != 1;
    race->wrong += atomic_load_explicit(&race->refused, memory_order_relaxed) != RACERS - 1;
    race->wrong += hshm_free(racer->heap, above) != HSHM_OK;
    hshm_stats stats = HSHM_STATS_INIT;
    race->wrong += hshm_stats_get(racer->heap, &stats) != HSHM_OK || stats.used_bytes != 0;
}

static void
run_races(struct racer *racer)
{
    struct race *race = racer->race;
    uint64_t random = test_seed();
    for (int i = 0; i < RACES; i++) {
        void *above = racer->number == 0 ? prepare_round(racer, &random) : NULL;
        meet(racer);
        void *block = hshm_to_addr(racer->heap, atomic_load_explicit(&race->block, memory_order_relaxed));
        const hshm_status status = hshm_free(racer->heap, block);
        if (status == HSHM_OK)
            (void)atomic_fetch_add_explicit(&race->freed, 1, memory_order_relaxed);
        if (status == HSHM_E_BADFREE)
            (void)atomic_fetch_add_explicit(&race->refused, 1, memory_order_relaxed);
        meet(racer);
        if (racer->number == 0)
            judge_round(racer, above);
    }
}

static void *
race_in_thread(void *arg)
{
    run_races(arg);
    return NULL;
}

static void
of_threads_that_free_one_block_one_succeeds(void **state)
{
    (void)state;
    static struct race race;
    memset(&race, 0, sizeof race);
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 65536, HSHM_ALLOCATOR_STACK);
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    (void)test_seed();
    for (size_t i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){ heap, &race, i, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, race_in_thread, &racers[i]), 0);
    }
    for (size_t i = 0; i < RACERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(race.wrong, 0);
    assert_int_equal(stats_of(heap).frees, stats_of(heap).allocs);
    assert_sound(heap);
}

static int
race_in_process(void *arg)
{
    run_races(arg);
    return 0;
}

static void
of_processes_that_free_one_block_one_succeeds(void **state)
{
    (void)state;
    struct race *race = shared_bytes(sizeof *race);
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("race"), 65536, HSHM_ALLOCATOR_STACK);
    struct racer racers[RACERS];
    pid_t children[RACERS];
    (void)test_seed();
    for (size_t i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){ heap, race, i, 0 };
        children[i] = child_start(race_in_process, &racers[i]);
    }
    for (size_t i = 0; i < RACERS; i++)
        assert_int_equal(child_wait(children[i]), 0);
    assert_int_equal(race->wrong, 0);
    assert_int_equal(stats_of(heap).frees, stats_of(heap).allocs);
    assert_sound(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- looking while others work ---- */

static int
count_block(const hshm_block *block, void *arg)
{
    uint64_t *bytes = arg;
    *bytes += block->size;
    return 0;
}

static void
statistics_and_visits_end_while_others_work(void **state)
{
    (void)state;
    static struct board board;
    memset(&board, 0, sizeof board);
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    struct worker workers[2];
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        workers[i] = (struct worker){ heap, &board, &board.results[i], i + 1, test_seed() + i, { NULL } };
        assert_int_equal(pthread_create(&threads[i], NULL, run_thread, &workers[i]), 0);
    }
    const uint64_t data = stats_of(heap).data_bytes;
    for (int i = 0; i < 300; i++) {
        const hshm_stats stats = stats_of(heap);
        assert_in_range(stats.live_bytes, 0, data);
        assert_in_range(stats.used_bytes, 0, data);
        assert_in_range(stats.peak_bytes, stats.used_bytes, data);
        uint64_t bytes = 0;
        assert_ok(hshm_visit_blocks(heap, count_block, &bytes));
        assert_in_range(bytes, 0, data);
    }
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    settle(heap, &board);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(threads_never_get_the_same_block, drop_heaps),
        cmocka_unit_test_teardown(processes_never_get_the_same_block, drop_heaps),
        cmocka_unit_test_teardown(of_threads_that_free_one_block_one_succeeds, drop_heaps),
        cmocka_unit_test_teardown(of_processes_that_free_one_block_one_succeeds, drop_heaps),
        cmocka_unit_test_teardown(statistics_and_visits_end_while_others_work, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
