/*
 * test_threads.c - a Malloc heap with several threads: blocks, books and the limit are exact, one of several that free a
 * block succeeds, and a child forked while others work can go on.
 */
#include "blocks.h"

#include <pthread.h>
#include <string.h>

enum { REGION = 4 << 20, THREADS = 4, HELD = 200, OPERATIONS = 5000, FORKS = 20 };

/* Under sanitizers watching a word takes long, so that the others cannot run meanwhile. */
#if UNDER_SANITIZER
enum { RACES = 300, SPINS = 1000 };
#else
enum { RACES = 2000, SPINS = 50000 };
#endif

struct worker {
    hshm_allocator *heap;
    _Atomic int *stop; /* NULL: after OPERATIONS */
    uint64_t number, random;
    uint64_t allocs, frees, wrong;
    unsigned char *blocks[HELD];
    size_t sizes[HELD];
};

static void
change_one(struct worker *worker)
{
    const size_t at = (size_t)(next_random(&worker->random) % HELD);
    const size_t size = (size_t)(next_random(&worker->random) % 1000);
    const uint64_t key = worker->number << 32 | at;
    unsigned char *block = worker->blocks[at];
    if (block != NULL)
        worker->wrong += !block_holds(block, worker->sizes[at], key);
    if (block != NULL && next_random(&worker->random) % 3 == 0) {
        worker->blocks[at] = hshm_realloc(worker->heap, block, size);
    } else {
        worker->wrong += hshm_free(worker->heap, block) != HSHM_OK;
        worker->frees += block != NULL;
        worker->blocks[at] = hshm_malloc(worker->heap, size);
        worker->allocs++;
    }
    worker->sizes[at] = size;
    if (worker->blocks[at] == NULL)
        worker->wrong++; /* the heap is large enough for all that they hold */
    else
        block_fill(worker->blocks[at], size, key);
}

static void *
work(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; worker->stop == NULL ? i < OPERATIONS : atomic_load(worker->stop) == 0; i++)
        change_one(worker);
    for (size_t at = 0; at < HELD; at++) {
        worker->wrong += hshm_free(worker->heap, worker->blocks[at]) != HSHM_OK;
        worker->frees += worker->blocks[at] != NULL;
        worker->blocks[at] = NULL;
    }
    return NULL;
}

static void
start(struct worker *workers, pthread_t *threads, hshm_allocator *heap, _Atomic int *stop)
{
    for (size_t i = 0; i < THREADS; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].heap = heap;
        workers[i].stop = stop;
        workers[i].number = i + 1;
        workers[i].random = test_seed() + i;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
}

/* Nothing may be left, and all was counted. */
static void
finish(const struct worker *workers, const pthread_t *threads, hshm_allocator *heap)
{
    uint64_t allocs = 0;
    uint64_t frees = 0;
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
        allocs += workers[i].allocs;
        frees += workers[i].frees;
    }
    const hshm_stats stats = stats_of(heap);
    assert_int_equal(stats.live_blocks, 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(stats.allocs, allocs);
    assert_int_equal(stats.frees, frees);
    assert_int_equal(allocs, frees);
    assert_int_equal(stats.failures, 0);
    assert_sound(heap);
}

static void
threads_share_a_heap(void **state)
{
    (void)state;
    static struct worker workers[THREADS];
    pthread_t threads[THREADS];
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    start(workers, threads, heap, NULL);
    finish(workers, threads, heap);
}

static int
add_size(const hshm_block *block, void *arg)
{
    uint64_t *bytes = arg;
    *bytes += block->size;
    return 0;
}

static void
looking_is_safe_while_others_work(void **state)
{
    (void)state;
    static struct worker workers[THREADS];
    static _Atomic int stop;
    pthread_t threads[THREADS];
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    atomic_store(&stop, 0);
    start(workers, threads, heap, &stop);
    for (int i = 0; i < 100; i++) {
        const hshm_stats stats = stats_of(heap);
        assert_in_range(stats.live_bytes, 0, stats.data_bytes);
        assert_in_range(stats.live_blocks, 0, THREADS * HELD);
        uint64_t bytes = 0;
        assert_ok(hshm_visit_blocks(heap, add_size, &bytes));
        /* No sum that ever was, as blocks come and go meanwhile; but each is one that was there. */
        assert_in_range(bytes, 0, 2 * stats.data_bytes);
        assert_int_equal(hshm_usable_size(heap, &stop), 0);
    }
    atomic_store(&stop, 1);
    finish(workers, threads, heap);
}

/* ---- forks ---- */

static int
work_in_child(void *arg)
{
    hshm_allocator *heap = arg;
    /* A lock that was held by a thread of the parent would stop us here. */
    void *blocks[64];
    for (size_t i = 0; i < 64; i++) {
        blocks[i] = hshm_malloc(heap, i * 100);
        assert_non_null(blocks[i]);
        block_fill(blocks[i], i * 100, i);
    }
    uint64_t bytes = 0;
    assert_ok(hshm_visit_blocks(heap, add_size, &bytes));
    for (size_t i = 0; i < 64; i++) {
        assert_block(heap, blocks[i], i * 100, i);
        assert_ok(hshm_free(heap, blocks[i]));
        assert_status(hshm_free(heap, blocks[i]), HSHM_E_BADFREE);
    }
    return 0;
}

struct watcher {
    hshm_allocator *heap;
    _Atomic int *stop;
    uint64_t bytes;
};

/* Holds one lock of the heap or another nearly all the time. */
static void *
watch(void *arg)
{
    struct watcher *watcher = arg;
    while (atomic_load(watcher->stop) == 0)
        (void)hshm_visit_blocks(watcher->heap, add_size, &watcher->bytes);
    return NULL;
}

static void
a_child_forked_while_others_work_can_go_on(void **state)
{
    (void)state;
    if (UNDER_ADDRESS_SANITIZER) {
        print_message("clang 14's address sanitizer takes none of its own malloc's locks around fork()\n");
        skip();
    }
    static struct worker workers[THREADS];
    static _Atomic int stop;
    pthread_t threads[THREADS];
    pthread_t watching;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    atomic_store(&stop, 0);
    start(workers, threads, heap, &stop);
    struct watcher watcher = { heap, &stop, 0 };
    assert_int_equal(pthread_create(&watching, NULL, watch, &watcher), 0);
    for (int i = 0; i < FORKS; i++)
        assert_int_equal(child_run(work_in_child, heap), 0);
    atomic_store(&stop, 1);
    assert_int_equal(pthread_join(watching, NULL), 0);
    finish(workers, threads, heap);
}

/* What a child frees is its own copy: the parent's block stays. */
static int
free_in_child(void *arg)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_MALLOC, &heap));
    assert_block(heap, arg, 500, 1);
    assert_ok(hshm_free(heap, arg));
    assert_int_equal(stats_of(heap).live_blocks, 0);
    return 0;
}

static void
a_child_has_its_own_copy(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    void *block = hshm_malloc(heap, 500);
    block_fill(block, 500, 1);
    assert_int_equal(child_run(free_in_child, block), 0);
    assert_block(heap, block, 500, 1);
    assert_int_equal(stats_of(heap).live_blocks, 1);
    assert_sound(heap);
}

/* ---- races ---- */

enum { RACERS = 3 };

struct race {
    struct step met; /* counts all arrivals, before and after each round */
    hshm_allocator *heap;
    void *blocks[RACERS]; /* of this round */
    _Atomic uint32_t succeeded, refused;
    uint64_t wrong;
};

struct racer {
    struct race *race;
    size_t number;
    uint32_t meetings;
    void (*prepare)(struct race *race);
    hshm_status (*act)(struct race *race, size_t number);
    void (*judge)(struct race *race);
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

static void *
run_races(void *arg)
{
    struct racer *racer = arg;
    struct race *race = racer->race;
    for (int i = 0; i < RACES; i++) {
        if (racer->number == 0) {
            atomic_store(&race->succeeded, 0);
            atomic_store(&race->refused, 0);
            racer->prepare(race);
        }
        meet(racer);
        if (racer->act(race, racer->number) == HSHM_OK)
            (void)atomic_fetch_add(&race->succeeded, 1);
        else
            (void)atomic_fetch_add(&race->refused, 1);
        meet(racer);
        if (racer->number == 0)
            racer->judge(race);
    }
    return NULL;
}

static void
run_racers(struct racer model)
{
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    for (size_t i = 0; i < RACERS; i++) {
        racers[i] = model;
        racers[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, run_races, &racers[i]), 0);
    }
    for (size_t i = 0; i < RACERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(model.race->wrong, 0);
    assert_int_equal(stats_of(model.race->heap).live_blocks, 0);
    assert_sound(model.race->heap);
}

static void
take_one(struct race *race)
{
    race->blocks[0] = hshm_malloc(race->heap, 100);
    race->wrong += race->blocks[0] == NULL;
}

static hshm_status
free_the_one(struct race *race, size_t number)
{
    (void)number;
    const hshm_status status = hshm_free(race->heap, race->blocks[0]);
    return status == HSHM_OK || status == HSHM_E_BADFREE ? status : HSHM_E_SYSTEM;
}

static void
one_freed(struct race *race)
{
    race->wrong += atomic_load(&race->succeeded) != 1 || atomic_load(&race->refused) != RACERS - 1;
    hshm_stats stats = HSHM_STATS_INIT;
    race->wrong += hshm_stats_get(race->heap, &stats) != HSHM_OK || stats.live_blocks != 0 || stats.live_bytes != 0;
}

static void
of_threads_that_free_one_block_one_succeeds(void **state)
{
    (void)state;
    static struct race race;
    memset(&race, 0, sizeof race);
    race.heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    run_racers((struct racer){ .race = &race, .prepare = take_one, .act = free_the_one, .judge = one_freed });
}

enum { HALF = REGION / 2 };

static void
take_small_ones(struct race *race)
{
    for (size_t i = 0; i < RACERS; i++) {
        race->blocks[i] = hshm_malloc(race->heap, 16);
        race->wrong += race->blocks[i] == NULL;
    }
}

static hshm_status
grow_mine(struct race *race, size_t number)
{
    void *grown = hshm_realloc(race->heap, race->blocks[number], HALF);
    if (grown == NULL)
        return hshm_last_status();
    race->blocks[number] = grown;
    return HSHM_OK;
}

/* There is room for one of that size and not for two. */
static void
one_grew(struct race *race)
{
    race->wrong += atomic_load(&race->succeeded) != 1;
    for (size_t i = 0; i < RACERS; i++)
        race->wrong += hshm_free(race->heap, race->blocks[i]) != HSHM_OK;
}

static void
blocks_that_grow_at_once_do_not_pass_the_limit_together(void **state)
{
    (void)state;
    static struct race race;
    memset(&race, 0, sizeof race);
    race.heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    run_racers((struct racer){ .race = &race, .prepare = take_small_ones, .act = grow_mine, .judge = one_grew });
    const hshm_stats stats = stats_of(race.heap);
    assert_in_range(stats.peak_bytes, HALF, stats.data_bytes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(threads_share_a_heap, drop_heaps),
        cmocka_unit_test_teardown(looking_is_safe_while_others_work, drop_heaps),
        cmocka_unit_test_teardown(a_child_forked_while_others_work_can_go_on, drop_heaps),
        cmocka_unit_test_teardown(a_child_has_its_own_copy, drop_heaps),
        cmocka_unit_test_teardown(of_threads_that_free_one_block_one_succeeds, drop_heaps),
        cmocka_unit_test_teardown(blocks_that_grow_at_once_do_not_pass_the_limit_together, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
