/*
 * test_given_back.c - memory goes back to the system: whoever took the blocks and whoever freed them, a trim leaves next to
 * nothing committed.
 *
 * HSHM_TEST_LONG=1: with 256 MiB of blocks; 4 and more: with 1 GiB.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "allocator/allocator.h"
#include "lazy.h"
#include "sync/clock.h"

enum { SIZE = 64 };

/* Lies in memory that processes share: `offs` too. */
struct blocks {
    hshm_allocator *heap; /* of the process that uses it just then */
    size_t count;
    hshm_off *offs;
    bool in_order;
    struct step taken;
    char url[64];
};

static struct blocks *
new_blocks(bool in_order)
{
    struct blocks *blocks = shared_bytes(sizeof *blocks);
    blocks->count = scaled(256, 32) * MIB / SIZE * (long_factor() >= 4 ? 4 : 1);
    blocks->offs = shared_bytes(blocks->count * sizeof *blocks->offs);
    blocks->in_order = in_order;
    (void)snprintf(blocks->url, sizeof blocks->url, "%s", test_name("back"));
    return blocks;
}

static size_t
region_for(const struct blocks *blocks)
{
    return blocks->count * SIZE / 4 * 5 + 16 * MIB;
}

static void *
take_blocks(void *arg)
{
    struct blocks *blocks = arg;
    for (size_t i = 0; i < blocks->count; i++) {
        void *block = hshm_malloc(blocks->heap, SIZE);
        assert_non_null(block);
        touch(block, SIZE);
        blocks->offs[i] = hshm_to_off(blocks->heap, block);
    }
    return NULL;
}

static void
shuffle(struct blocks *blocks)
{
    uint64_t random = test_seed();
    for (size_t i = blocks->count; i > 1; i--) {
        const size_t at = (size_t)(next_random(&random) % i);
        const hshm_off off = blocks->offs[at];
        blocks->offs[at] = blocks->offs[i - 1];
        blocks->offs[i - 1] = off;
    }
}

static void *
free_blocks(void *arg)
{
    struct blocks *blocks = arg;
    if (!blocks->in_order)
        shuffle(blocks);
    for (size_t i = 0; i < blocks->count; i++)
        assert_ok(hshm_free(blocks->heap, hshm_to_addr(blocks->heap, blocks->offs[i])));
    return NULL;
}

/* As tight as the tables allow: 2 % of the blocks' memory is theirs. */
static void
see_it_go(hshm_allocator *heap, uint64_t before)
{
    assert_int_equal(stats_of(heap).live_blocks, 0);
    const uint64_t freed = committed(heap);
    uint64_t bytes = 0;
    assert_ok(hshm_trim(heap, 0, &bytes));
    const uint64_t after = committed(heap);
    print_message("committed: %llu MiB full, %llu freed, %llu KiB trimmed: %.2f %% back\n",
                  (unsigned long long)(before / MIB), (unsigned long long)(freed / MIB),
                  (unsigned long long)(after / KIB), 100 - 100 * (double)after / (double)before);
    assert_true(after <= before / 100 * 3);
    assert_true(bytes <= freed);
    assert_none_lost(heap);
}

static void
blocks_go_back(void **state, bool in_order)
{
    struct blocks *blocks = new_blocks(in_order);
    blocks->heap = lazy_heap(lazy_kind(state), blocks->url, region_for(blocks));
    (void)take_blocks(blocks);
    const uint64_t before = committed(blocks->heap);
    (void)free_blocks(blocks);
    see_it_go(blocks->heap, before);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
blocks_that_their_thread_freed_in_order_go_back(void **state)
{
    blocks_go_back(state, true);
}

static void
blocks_that_their_thread_freed_in_any_order_go_back(void **state)
{
    blocks_go_back(state, false);
}

static void
blocks_of_an_ended_thread_go_back(void **state)
{
    struct blocks *blocks = new_blocks(false);
    blocks->heap = lazy_heap(lazy_kind(state), blocks->url, region_for(blocks));
    in_thread(take_blocks, blocks);
    const uint64_t before = committed(blocks->heap);
    (void)free_blocks(blocks);
    see_it_go(blocks->heap, before);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static int
take_and_stay(void *arg)
{
    struct blocks *blocks = arg;
    blocks->heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, blocks->url, 0);
    (void)take_blocks(blocks);
    step_reach(&blocks->taken);
    step_wait(&blocks->taken, 2); /* never */
    return 0;
}

static int
trim_from_elsewhere(void *arg)
{
    struct blocks *blocks = arg;
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, blocks->url, 0);
    assert_ok(hshm_trim(heap, 0, NULL));
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

/* Start a process that takes the blocks; it stands there with them. */
static pid_t
start_taker(void **state, struct blocks *blocks)
{
    (void)lazy_heap(lazy_kind(state), blocks->url, region_for(blocks));
    assert_ok(hshm_backend_detach(NULL, 1));
    const pid_t child = child_start(take_and_stay, blocks);
    step_wait(&blocks->taken, 1);
    blocks->heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, blocks->url, 0);
    return child;
}

static void
end_taker(pid_t child)
{
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(child_wait(child), 128 + SIGKILL);
}

static void
blocks_of_a_killed_process_go_back(void **state)
{
    struct blocks *blocks = new_blocks(false);
    end_taker(start_taker(state, blocks));
    const uint64_t before = committed(blocks->heap);
    (void)free_blocks(blocks);
    see_it_go(blocks->heap, before);
    assert_ok(hshm_backend_detach(NULL, 1));
}

static void
blocks_freed_before_their_process_was_killed_go_back(void **state)
{
    struct blocks *blocks = new_blocks(true);
    const pid_t child = start_taker(state, blocks);
    const uint64_t before = committed(blocks->heap);
    (void)free_blocks(blocks);
    end_taker(child);
    see_it_go(blocks->heap, before);
    assert_ok(hshm_backend_detach(NULL, 1));
}

static void
any_process_may_trim(void **state)
{
    struct blocks *blocks = new_blocks(true);
    blocks->heap = lazy_heap(lazy_kind(state), blocks->url, region_for(blocks));
    (void)take_blocks(blocks);
    const uint64_t before = committed(blocks->heap);
    (void)free_blocks(blocks);
    assert_ok(hshm_backend_detach(NULL, 1)); /* so that the child is an attacher, not an heir */
    const pid_t child = child_start(trim_from_elsewhere, blocks);
    assert_int_equal(child_wait(child), 0);
    blocks->heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, blocks->url, 0);
    assert_true(committed(blocks->heap) <= before / 100 * 3);
    assert_none_lost(blocks->heap);
    assert_ok(hshm_backend_detach(NULL, 1));
}

/* As though there had been too much for a second, a block gives slices free.  How many bytes went. */
static uint64_t
go_by_age(hshm_allocator *heap, void *block, size_t size)
{
    const uint64_t before = committed(heap);
    store_relaxed(&heap->slab.root->dirty_since, clock_coarse_ms() - 1000);
    assert_ptr_equal(hshm_realloc(heap, block, size), block);
    const uint64_t after = committed(heap);
    return before > after ? before - after : 0;
}

/* It is the time of who happens to call. */
static void
one_call_gives_a_part_back(void **state)
{
    enum { BLOCKS = 96, BATCH_MIB = 16 };
    hshm_allocator *heap = lazy_heap(lazy_kind(state), test_name("part"), (BLOCKS + 32) * MIB);
    void *blocks[BLOCKS];
    void *other = hshm_malloc(heap, 4 * MIB);
    assert_non_null(other);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = hshm_malloc(heap, MIB);
        assert_non_null(blocks[i]);
        touch(blocks[i], MIB);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        assert_ok(hshm_free(heap, blocks[i]));
    const uint64_t first = go_by_age(heap, other, 3 * MIB);
    const uint64_t second = go_by_age(heap, other, 2 * MIB);
    assert_true(first > 0 && first <= BATCH_MIB * MIB);
    assert_true(second > 0 && second <= BATCH_MIB * MIB);
    assert_ok(hshm_free(heap, other));
    assert_ok(hshm_trim(heap, 0, NULL));
    assert_none_lost(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_HEAPS(blocks_that_their_thread_freed_in_order_go_back),
        BOTH_HEAPS(blocks_that_their_thread_freed_in_any_order_go_back),
        BOTH_HEAPS(blocks_of_an_ended_thread_go_back),
        BOTH_HEAPS(blocks_of_a_killed_process_go_back),
        BOTH_HEAPS(blocks_freed_before_their_process_was_killed_go_back),
        BOTH_HEAPS(any_process_may_trim),
        BOTH_HEAPS(one_call_gives_a_part_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
