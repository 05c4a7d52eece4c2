/*
 * test_memory.c - how much memory blocks cost: of one size, of many sizes, and when others free them than took them.
 *
 * Counted is what the system holds for the whole region, tables included.  With HSHM_TEST_LONG=n, n times as many blocks are
 * taken by some and freed by others.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "lazy.h"

/* ---- at rest ---- */

/* Figures stand in the test's output, whether they are good enough or not. */
static double
report(const char *what, double figure)
{
    print_message("%-60s %8.3f\n", what, figure);
    return figure;
}

static void
a_million_small_blocks_cost_two_bytes_more_than_their_size_each(void **state)
{
    const size_t count = scaled(1000000, 200000);
    hshm_allocator *heap = lazy_heap(lazy_kind(state), test_name("million"), 256 * MIB);
    for (size_t i = 0; i < count; i++)
        touch(hshm_malloc(heap, 64), 64);
    const double each = (double)committed(heap) / (double)count;
    /* A smaller crowd has to bear the same fixed parts. */
    assert_true(report("bytes committed for each block of 64", each) <= (UNDER_SANITIZER ? 68 : 66));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* Requested bytes of all that the region takes of the system, in percent. */
static double
payload_share(hshm_allocator_kind kind, size_t least, size_t most)
{
    hshm_allocator *heap = lazy_heap(kind, test_name("share"), 256 * MIB);
    const size_t enough = scaled(64, 16) * MIB;
    uint64_t random = test_seed();
    uint64_t requested = 0;
    while (requested < enough) {
        const size_t size = least + (size_t)(next_random(&random) % (most - least + 1));
        touch(hshm_malloc(heap, size), size);
        requested += size;
    }
    const double share = 100 * (double)requested / (double)committed(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return share;
}

static void
most_of_the_memory_is_payload(void **state)
{
    const hshm_allocator_kind kind = lazy_kind(state);
    assert_true(report("payload at 16..1024 bytes, percent", payload_share(kind, 16, 1024)) >= 86);
    assert_true(report("payload at 65 bytes, percent", payload_share(kind, 65, 65)) >= 78);
}

/* ---- those who take and those who free ---- */

enum { PRODUCERS = 4, PRODUCED_SIZE = 592, RING = 256 };

/* From one producer to the consumer; offsets, so that it may lie between processes too. */
struct ring {
    _Alignas(64) _Atomic uint64_t put;
    _Alignas(64) _Atomic uint64_t got;
    _Atomic uint64_t blocks[RING];
};

struct works {
    struct ring rings[PRODUCERS];
    struct step ready; /* the consumer is attached */
    size_t live;       /* blocks a producer        */
    size_t replaced;   /* ... and how many of them it replaces */
    char url[64];
};

struct producer {
    pthread_t thread;
    struct works *works;
    struct ring *ring;
    hshm_allocator *heap;
    uint64_t random;
};

static void
ring_put(struct ring *ring, uint64_t block)
{
    const uint64_t at = atomic_load_explicit(&ring->put, memory_order_relaxed);
    while (at - atomic_load_explicit(&ring->got, memory_order_acquire) == RING)
        (void)sched_yield();
    atomic_store_explicit(&ring->blocks[at % RING], block, memory_order_relaxed);
    atomic_store_explicit(&ring->put, at + 1, memory_order_release);
}

/* 0: there is nothing in it. */
static uint64_t
ring_get(struct ring *ring)
{
    const uint64_t at = atomic_load_explicit(&ring->got, memory_order_relaxed);
    if (atomic_load_explicit(&ring->put, memory_order_acquire) == at)
        return 0;
    const uint64_t block = atomic_load_explicit(&ring->blocks[at % RING], memory_order_relaxed);
    atomic_store_explicit(&ring->got, at + 1, memory_order_release);
    return block;
}

static uint64_t
produce_block(hshm_allocator *heap)
{
    void *block = hshm_malloc(heap, PRODUCED_SIZE);
    assert_non_null(block);
    touch(block, PRODUCED_SIZE);
    return hshm_to_off(heap, block);
}

/* Keeps so many blocks, replaces random ones, and never frees one itself. */
static void *
produce(void *arg)
{
    struct producer *producer = arg;
    const struct works *works = producer->works;
    uint64_t *blocks = calloc(works->live, sizeof *blocks);
    assert_non_null(blocks);
    for (size_t i = 0; i < works->live; i++)
        blocks[i] = produce_block(producer->heap);
    for (size_t n = 0; n < works->replaced; n++) {
        const size_t i = (size_t)(next_random(&producer->random) % works->live);
        ring_put(producer->ring, blocks[i]);
        blocks[i] = produce_block(producer->heap);
    }
    for (size_t i = 0; i < works->live; i++)
        ring_put(producer->ring, blocks[i]);
    free(blocks);
    return NULL;
}

/* Free all that comes; the most that was committed meanwhile. */
static uint64_t
consume(hshm_allocator *heap, struct works *works)
{
    const size_t all = PRODUCERS * (works->live + works->replaced);
    uint64_t peak = 0;
    for (size_t freed = 0; freed < all;) {
        size_t came = 0;
        for (size_t i = 0; i < PRODUCERS; i++) {
            const uint64_t block = ring_get(&works->rings[i]);
            if (block == 0)
                continue;
            assert_ok(hshm_free(heap, hshm_to_addr(heap, block)));
            came++;
        }
        if (freed / 1024 != (freed + came) / 1024)
            peak = committed(heap) > peak ? committed(heap) : peak;
        freed += came;
        if (came == 0)
            (void)sched_yield();
    }
    return peak;
}

static void
start_producers(struct producer *producers, struct works *works, hshm_allocator *heap)
{
    uint64_t random = test_seed();
    for (size_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){ .works = works, .ring = &works->rings[i], .heap = heap };
        producers[i].random = next_random(&random);
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
}

static void
join_producers(struct producer *producers)
{
    for (size_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_join(producers[i].thread, NULL), 0);
}

static struct works *
new_works(const char *url)
{
    struct works *works = shared_bytes(sizeof *works);
    works->live = scaled(16384, 2048);
    works->replaced = scaled(100000, 10000) * long_factor();
    (void)snprintf(works->url, sizeof works->url, "%s", url);
    return works;
}

static double
over_live(const struct works *works, uint64_t peak)
{
    return (double)peak / (double)(PRODUCERS * works->live * PRODUCED_SIZE);
}

static void
a_thread_that_only_frees_keeps_memory_low(void **state)
{
    struct producer producers[PRODUCERS];
    hshm_allocator *heap = lazy_heap(lazy_kind(state), test_name("consumer"), 256 * MIB);
    struct works *works = new_works("");
    start_producers(producers, works, heap);
    const uint64_t peak = consume(heap, works);
    join_producers(producers);
    assert_true(report("peak over live, freed by a thread", over_live(works, peak)) <= 1.5);
    assert_none_lost(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static int
produce_in_threads(void *arg)
{
    struct works *works = arg;
    struct producer producers[PRODUCERS];
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, works->url, 0);
    start_producers(producers, works, heap);
    join_producers(producers);
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
a_process_that_only_frees_keeps_memory_low(void **state)
{
    if (UNDER_THREAD_SANITIZER) {
        print_message(
            "what another process frees and threads here take is ordered by that process, which is not seen\n");
        skip();
    }
    const char *url = test_name("consumer");
    struct works *works = new_works(url);
    hshm_allocator *heap = lazy_heap(lazy_kind(state), url, 256 * MIB);
    assert_ok(hshm_backend_detach(NULL, 1)); /* so that the child is an attacher, not an heir */
    const pid_t child = child_start(produce_in_threads, works);
    heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, url, 0);
    const uint64_t peak = consume(heap, works);
    assert_int_equal(child_wait(child), 0);
    assert_true(report("peak over live, freed by a process", over_live(works, peak)) <= 1.5);
    assert_none_lost(heap);
    assert_ok(hshm_backend_detach(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_HEAPS(a_million_small_blocks_cost_two_bytes_more_than_their_size_each),
        BOTH_HEAPS(most_of_the_memory_is_payload),
        BOTH_HEAPS(a_thread_that_only_frees_keeps_memory_low),
        BOTH_HEAPS(a_process_that_only_frees_keeps_memory_low),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
