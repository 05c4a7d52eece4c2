/*
 * test_churn.c - those who use a heap come and go by the thousand, and nothing of it is lost: no slot, no slice, no block.
 * And many at once take no more memory than few.
 *
 * labels: no-asan no-tsan
 * (thousands of forks and threads of a sanitized process take minutes)
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "allocator/allocator.h"
#include "lazy.h"

enum { THREADS = 10000, THREADS_AT_ONCE = 8, PROCESSES = 1000, PROCESSES_AT_ONCE = 4, HANDED = 64, OWN = 24 };

/* Where those who go leave blocks for those who come; offsets. */
struct market {
    _Atomic hshm_off blocks[HANDED];
    _Atomic uint64_t number; /* of the comer: each has other random numbers */
    _Atomic uint64_t calls;  /* of the victim that is to be killed          */
    uint64_t seed;
    char url[64];
};

static struct market *
new_market(const char *url)
{
    struct market *market = shared_bytes(sizeof *market);
    market->seed = test_seed();
    (void)snprintf(market->url, sizeof market->url, "%s", url);
    return market;
}

static uint64_t
comers_random(struct market *market)
{
    uint64_t random = market->seed + atomic_fetch_add(&market->number, 1);
    (void)next_random(&random);
    return random;
}

/* Small mostly, and now and then one that is a run of slices. */
static size_t
any_size(uint64_t *random)
{
    const uint64_t roll = next_random(random);
    return roll % 64 == 0 ? 300000 + (size_t)(roll >> 32) % 700000
                          : 1 + (size_t)(roll >> 32) % (roll % 8 == 0 ? 20000 : 500);
}

/* Put a block into the market, and free what lay there. */
static void
hand_over(hshm_allocator *heap, struct market *market, void *block, uint64_t at)
{
    const hshm_off off = block == NULL ? HSHM_OFF_NULL : hshm_to_off(heap, block);
    const hshm_off lay_there = atomic_exchange(&market->blocks[at % HANDED], off);
    if (lay_there != HSHM_OFF_NULL)
        assert_ok(hshm_free(heap, hshm_to_addr(heap, lay_there)));
}

static void
visit_market(hshm_allocator *heap, struct market *market, uint64_t *random)
{
    void *own[OWN];
    for (size_t i = 0; i < OWN; i++) {
        const size_t size = any_size(random);
        own[i] = hshm_malloc(heap, size);
        assert_non_null(own[i]);
        *(volatile unsigned char *)own[i] = 1;
    }
    for (size_t i = 0; i < OWN; i++) {
        if (next_random(random) % 2 == 0)
            assert_ok(hshm_free(heap, own[i]));
        else
            hand_over(heap, market, own[i], next_random(random));
    }
}

static void
clear_market(hshm_allocator *heap, struct market *market)
{
    for (uint64_t at = 0; at < HANDED; at++)
        hand_over(heap, market, NULL, at);
}

/* ThreadLocal: this thread may have one; ScalablePage: there are none. */
static unsigned
threads_with_a_slot(hshm_allocator *heap)
{
    unsigned count = 0;
    for (uint32_t slot = 0; slot < heap->slab.thread_slots; slot++)
        count += load_relaxed(&heap->slab.threads[slot].owner) != 0;
    return count;
}

/* ---- threads ---- */

struct comer {
    pthread_t thread;
    hshm_allocator *heap;
    struct market *market;
};

static void *
come_and_go(void *arg)
{
    const struct comer *comer = arg;
    uint64_t random = comers_random(comer->market);
    visit_market(comer->heap, comer->market, &random);
    return NULL;
}

static void
ten_thousand_threads_leave_nothing_behind(void **state)
{
    struct market *market = new_market("");
    hshm_allocator *heap = lazy_heap(lazy_kind(state), test_name("threads"), 256 * MIB);
    struct comer comers[THREADS_AT_ONCE];
    for (unsigned i = 0; i < THREADS; i++) {
        struct comer *comer = &comers[i % THREADS_AT_ONCE];
        if (i >= THREADS_AT_ONCE)
            assert_int_equal(pthread_join(comer->thread, NULL), 0);
        *comer = (struct comer){ .heap = heap, .market = market };
        assert_int_equal(pthread_create(&comer->thread, NULL, come_and_go, comer), 0);
    }
    for (size_t i = 0; i < THREADS_AT_ONCE; i++)
        assert_int_equal(pthread_join(comers[i].thread, NULL), 0);
    clear_market(heap, market);
    print_message("%llu MiB were the most in use\n", (unsigned long long)(stats_of(heap).peak_bytes / MIB));
    assert_in_range(threads_with_a_slot(heap), 0, 1);
    assert_none_lost(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- processes ---- */

/* As one that was started anew; a child inherits its parent's heaps. */
static hshm_allocator *
come_in(const struct market *market)
{
    assert_ok(hshm_backend_detach(NULL, 1));
    return attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, market->url, 0);
}

/* Goes without a word: what it handed over stays, and so does half of what it has. */
static int
come_and_exit(void *arg)
{
    struct market *market = arg;
    uint64_t random = comers_random(market);
    hshm_allocator *heap = come_in(market);
    visit_market(heap, market, &random);
    void *kept[OWN];
    for (size_t i = 0; i < OWN; i++)
        kept[i] = hshm_malloc(heap, any_size(&random));
    for (size_t i = next_random(&random) % 2; i < OWN; i += 2)
        assert_ok(hshm_free(heap, kept[i]));
    return 0;
}

static int
come_and_be_killed(void *arg)
{
    struct market *market = arg;
    uint64_t random = comers_random(market);
    hshm_allocator *heap = come_in(market);
    while (heap != NULL) {
        visit_market(heap, market, &random);
        atomic_fetch_add(&market->calls, 1);
    }
    return 1;
}

static void
kill_one(struct market *market, uint64_t *random)
{
    atomic_store(&market->calls, 0);
    const uint64_t visits = next_random(random) % 8;
    uint64_t spins = next_random(random) % 4096;
    const pid_t victim = child_start(come_and_be_killed, market);
    while (atomic_load(&market->calls) < visits)
        (void)sched_yield();
    while (spins-- > 0)
        (void)atomic_load(&market->calls);
    assert_int_equal(kill(victim, SIGKILL), 0);
    assert_int_equal(child_wait(victim), 128 + SIGKILL);
}

static void
a_thousand_processes_leave_nothing_behind(void **state)
{
    struct market *market = new_market(test_name("processes"));
    hshm_allocator *heap = lazy_heap(lazy_kind(state), market->url, GIB);
    uint64_t random = market->seed;
    pid_t children[PROCESSES_AT_ONCE] = { 0 };
    for (unsigned i = 0; i < PROCESSES * 4 / 5; i++) {
        pid_t *child = &children[i % PROCESSES_AT_ONCE];
        if (*child != 0)
            assert_int_equal(child_wait(*child), 0);
        *child = child_start(come_and_exit, market);
        if (i % 4 == 0)
            kill_one(market, &random);
    }
    for (size_t i = 0; i < PROCESSES_AT_ONCE; i++)
        assert_int_equal(child_wait(children[i]), 0);
    (void)slab_recover(heap);
    assert_sound(heap);
    assert_in_range(threads_with_a_slot(heap), 0, 1);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &info));
    assert_int_equal(info.processes, 1);
    print_message("%llu blocks were left behind\n", (unsigned long long)stats_of(heap).live_blocks);
    /* A victim may have been killed between taking a block from the market and freeing it, or before it put one in. */
    free_every_block(heap);
    assert_none_lost(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- many at once ---- */

static const size_t sizes[] = { 16, 64, 100, 300, 1000, 3000, 9000, 30000 };
enum { SIZES = sizeof sizes / sizeof sizes[0], HELD_IN_ALL = 200 };

struct guests {
    size_t each; /* blocks of each size that one holds */
    struct step hold, may_go;
    char url[64];
};

static int
hold_blocks(void *arg)
{
    struct guests *guests = arg;
    assert_ok(hshm_backend_detach(NULL, 1));
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, guests->url, 0);
    for (size_t i = 0; i < SIZES * guests->each; i++) {
        const size_t size = sizes[i % SIZES];
        void *block = hshm_malloc(heap, size);
        void *passing = hshm_malloc(heap, size);
        assert_true(block != NULL && passing != NULL);
        touch(block, size);
        touch(passing, size);
        assert_ok(hshm_free(heap, passing));
    }
    step_reach(&guests->hold);
    step_wait(&guests->may_go, 1);
    return 0;
}

/* What is committed while so many hold the same number of blocks in all. */
static uint64_t
committed_by(unsigned count)
{
    pid_t children[HELD_IN_ALL];
    struct guests *guests = shared_bytes(sizeof *guests);
    guests->each = HELD_IN_ALL / count;
    (void)snprintf(guests->url, sizeof guests->url, "%s", test_name("guests"));
    hshm_allocator *heap = lazy_heap(HSHM_ALLOCATOR_SCALABLE_PAGE, guests->url, 256 * MIB);
    for (unsigned i = 0; i < count; i++)
        children[i] = child_start(hold_blocks, guests);
    step_wait(&guests->hold, count);
    const uint64_t bytes = committed(heap);
    assert_int_equal(stats_of(heap).live_blocks, SIZES * HELD_IN_ALL);
    step_reach(&guests->may_go);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(child_wait(children[i]), 0);
    free_every_block(heap);
    (void)slab_recover(heap);
    assert_none_lost(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return bytes;
}

/* Each slab is 64 KiB or a few times that; a processor has one of each class to take from. */
static void
two_hundred_processes_take_no_more_memory_than_two(void **state)
{
    (void)state;
    const uint64_t two = committed_by(2);
    const uint64_t many = committed_by(HELD_IN_ALL);
    print_message("committed: %llu KiB by 2, %llu KiB by %u\n", (unsigned long long)(two / KIB),
                  (unsigned long long)(many / KIB), (unsigned)HELD_IN_ALL);
    uint64_t slabs = 0;
    for (size_t i = 0; i < SIZES; i++)
        slabs += 2 * (sizes[i] > 8192 ? 256 * KIB : 64 * KIB);
    assert_true(many <= two + slabs);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_HEAPS(ten_thousand_threads_leave_nothing_behind),
        BOTH_HEAPS(a_thousand_processes_leave_nothing_behind),
        cmocka_unit_test_teardown(two_hundred_processes_take_no_more_memory_than_two, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
