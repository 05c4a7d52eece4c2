/*
 * test_stats.c - the figures of heaps of slabs are exact when nobody works, whoever freed what.
 */
#include "scenes.h"

#include <pthread.h>

enum { ROW = 2000 };

struct share {
    hshm_allocator *heap;
    void **blocks;
    size_t count;
    size_t step; /* which of them: every step-th */
    size_t size; /* taking: bytes                */
};

static void *
free_share(void *arg)
{
    const struct share *share = arg;
    for (size_t i = 0; i < share->count; i += share->step) {
        if (hshm_free(share->heap, share->blocks[i]) != HSHM_OK)
            return arg;
    }
    return NULL;
}

static void *
take_share(void *arg)
{
    const struct share *share = arg;
    for (size_t i = 0; i < share->count; i += share->step) {
        share->blocks[i] = hshm_malloc(share->heap, share->size);
        if (share->blocks[i] == NULL)
            return arg;
    }
    return NULL;
}

static void
in_thread(void *(*run)(void *arg), struct share *share)
{
    pthread_t thread;
    void *failed = share;
    assert_int_equal(pthread_create(&thread, NULL, run, share), 0);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
}

static void
assert_counts(hshm_allocator *heap, uint64_t allocs, uint64_t frees, uint64_t live_bytes)
{
    const hshm_stats stats = stats_of(heap);
    assert_int_equal(stats.allocs, allocs);
    assert_int_equal(stats.frees, frees);
    assert_int_equal(stats.live_blocks, allocs - frees);
    assert_int_equal(stats.live_bytes, live_bytes);
    assert_int_equal(stats.free_bytes, stats.data_bytes - live_bytes);
    assert_in_range(stats.used_bytes, live_bytes, stats.data_bytes);
    assert_in_range(stats.peak_bytes, stats.used_bytes, stats.data_bytes);
    assert_true(stats.largest_free <= stats.data_bytes - stats.used_bytes);
    assert_sound(heap);
}

static void
one_thread_is_counted_exactly(hshm_allocator_kind kind)
{
    static void *row[ROW];
    hshm_allocator *heap = usual_heap(kind);
    assert_counts(heap, 0, 0, 0);
    uint64_t bytes = 0;
    for (size_t i = 0; i < ROW; i++) {
        row[i] = hshm_malloc(heap, i);
        bytes += hshm_usable_size(heap, row[i]);
        if (i % 100 == 0)
            assert_counts(heap, i + 1, 0, bytes);
    }
    for (size_t i = 0; i < ROW; i++) {
        bytes -= hshm_usable_size(heap, row[i]);
        assert_ok(hshm_free(heap, row[i]));
        if (i % 100 == 0)
            assert_counts(heap, ROW, i + 1, bytes);
    }
    assert_counts(heap, ROW, ROW, 0);
    assert_int_equal(stats_of(heap).failures, 0);
    usual_end();
}

static void
frees_by_others_count_before_the_owner_knows(hshm_allocator_kind kind)
{
    static void *row[ROW];
    hshm_allocator *heap = usual_heap(kind);
    struct share share = { heap, row, ROW, 1, 64 };
    assert_null(take_share(&share));
    assert_counts(heap, ROW, 0, ROW * 64);
    share.step = 2;
    in_thread(free_share, &share);
    assert_counts(heap, ROW, ROW / 2, ROW / 2 * 64);
    share.blocks = row + 1;
    share.count = ROW - 1;
    assert_null(free_share(&share));
    assert_counts(heap, ROW, ROW, 0);
    /* And when it does, not twice. */
    share = (struct share){ heap, row, ROW, 1, 64 };
    assert_null(take_share(&share));
    assert_counts(heap, 2 * ROW, ROW, ROW * 64);
    in_thread(free_share, &share);
    assert_emptied(heap); /* which takes and frees one more */
    assert_counts(heap, 2 * ROW + 1, 2 * ROW + 1, 0);
    usual_end();
}

static void
what_ended_threads_did_is_counted(hshm_allocator_kind kind)
{
    static void *row[ROW];
    hshm_allocator *heap = usual_heap(kind);
    for (uint64_t round = 0; round < 20; round++) {
        struct share share = { heap, row, ROW, 1, 100 };
        in_thread(take_share, &share);
        assert_counts(heap, (round + 1) * ROW, round * ROW, ROW * 112);
        if (round % 3 == 0)
            assert_null(free_share(&share));
        else
            in_thread(free_share, &share);
        assert_counts(heap, (round + 1) * ROW, (round + 1) * ROW, 0);
    }
    assert_emptied(heap);
    usual_end();
}

static void
the_peak_stays_and_failures_are_counted(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    void *block = hshm_malloc(heap, 5 * MIB);
    assert_int_equal(stats_of(heap).peak_bytes, 5 * MIB);
    assert_ok(hshm_free(heap, block));
    assert_int_equal(stats_of(heap).peak_bytes, 5 * MIB);
    assert_int_equal(stats_of(heap).used_bytes, 0);
    assert_null(hshm_malloc(heap, 17 * MIB));
    assert_null(hshm_malloc(heap, SIZE_MAX));
    assert_null(hshm_calloc(heap, 17, MIB));
    assert_null(hshm_aligned_alloc(heap, 64, 17 * MIB));
    block = hshm_malloc(heap, 10);
    assert_null(hshm_realloc(heap, block, 17 * MIB));
    assert_int_equal(stats_of(heap).failures, 5);
    assert_int_equal(stats_of(heap).peak_bytes, 5 * MIB);
    assert_ok(hshm_free(heap, block));
    usual_end();
}

/* Everyone works, and one looks: what it sees is of some moment, and it sees no nonsense. */
struct watched {
    struct share share;
    _Atomic bool ended;
};

static void *
work_while_watched(void *arg)
{
    struct watched *watched = arg;
    void *failed = NULL;
    for (int round = 0; round < 50 && failed == NULL; round++) {
        failed = take_share(&watched->share);
        if (failed == NULL)
            failed = free_share(&watched->share);
    }
    watched->ended = true;
    return failed;
}

static void
who_looks_while_others_work_sees_no_nonsense(hshm_allocator_kind kind)
{
    static void *row[ROW];
    hshm_allocator *heap = usual_heap(kind);
    struct watched watched = { { heap, row, ROW, 1, 48 }, false };
    pthread_t thread;
    void *failed = &watched;
    assert_int_equal(pthread_create(&thread, NULL, work_while_watched, &watched), 0);
    uint64_t looks = 0;
    while (!watched.ended || looks == 0) {
        const hshm_stats stats = stats_of(heap);
        /* Slabs are looked at one after the other: their blocks of one round, and others' of a later one, can be seen. */
        assert_true(stats.live_blocks <= 2 * ROW);
        /* What an owner adds to its own sum in this moment may be seen twice, or not at all. */
        assert_true(stats.allocs <= 2 * 50 * ROW && stats.frees <= 2 * 50 * ROW);
        assert_true(stats.used_bytes <= stats.data_bytes && stats.peak_bytes <= stats.data_bytes);
        looks++;
    }
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_counts(heap, 50 * ROW, 50 * ROW, 0);
    usual_end();
}

int
main(void)
{
    static const struct kind_case cases[] = {
        KIND_CASE(one_thread_is_counted_exactly),
        KIND_CASE(frees_by_others_count_before_the_owner_knows),
        KIND_CASE(what_ended_threads_did_is_counted),
        KIND_CASE(the_peak_stays_and_failures_are_counted),
        KIND_CASE(who_looks_while_others_work_sees_no_nonsense),
    };
    return run_kinds("slab.stats", cases, COUNTOF(cases));
}
