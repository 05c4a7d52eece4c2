/*
 * test_runs.c - slices, by the functions that both kinds of heaps use: the lowest place first, neighbours become one again by
 * themselves, runs grow and shrink in their place, and pages that are zero are known.
 */
#include "scenes.h"

#include <string.h>

static struct slab_heap *
slab_of(hshm_allocator *heap)
{
    return &heap->slab;
}

static uint64_t
slice_bytes(hshm_allocator *heap)
{
    return UINT64_C(1) << slab_of(heap)->shift;
}

static struct claim
claim(hshm_allocator *heap, uint64_t count)
{
    struct claim got = { .first = UINT64_MAX };
    assert_true(run_claim(heap, count, 1, &got));
    assert_int_equal(got.count, count);
    return got;
}

/* A run, as a large block is one. */
static uint64_t
make_run(hshm_allocator *heap, uint64_t count)
{
    const struct claim got = claim(heap, count);
    atomic_store(&record_of(slab_of(heap), got.first)->skip, 0);
    run_publish(heap, &got, SLICE_RUN);
    return got.first;
}

static uint64_t
word_at(hshm_allocator *heap, uint64_t slice)
{
    return atomic_load(&slab_of(heap)->slices[slice]);
}

static void
free_run(hshm_allocator *heap, uint64_t first)
{
    assert_true(run_free(heap, first, word_at(heap, first)));
}

static void
the_lowest_place_is_taken_first(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    uint64_t runs[6];
    for (uint64_t i = 0, next = 0; i < 6; i++) {
        runs[i] = make_run(heap, i + 1);
        assert_int_equal(runs[i], next);
        next += i + 1;
    }
    free_run(heap, runs[1]); /* 2 slices */
    free_run(heap, runs[4]); /* 5 slices */
    assert_int_equal(make_run(heap, 3), runs[4]);
    assert_int_equal(make_run(heap, 1), runs[1]);
    assert_int_equal(make_run(heap, 2), runs[4] + 3);
    assert_int_equal(make_run(heap, 2), 21);
    assert_int_equal(make_run(heap, 1), runs[1] + 1);
    assert_sound(heap);
    usual_end();
}

static void
neighbours_become_one_whoever_was_freed_first(hshm_allocator_kind kind)
{
    static const unsigned orders[][3] = {
        { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 }
    };
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t all = slab_of(heap)->count;
    for (size_t i = 0; i < COUNTOF(orders); i++) {
        const uint64_t runs[3] = { make_run(heap, all / 3), make_run(heap, 1), make_run(heap, all - all / 3 - 1) };
        struct claim got;
        assert_false(run_claim(heap, 1, 1, &got)); /* full */
        for (size_t at = 0; at < 3; at++)
            free_run(heap, runs[orders[i][at]]);
        assert_sound(heap);
        const struct claim whole = claim(heap, all);
        assert_int_equal(whole.first, 0);
        run_unclaim(heap, &whole);
        assert_int_equal(stats_of(heap).used_bytes, 0);
    }
    struct claim got;
    assert_false(run_claim(heap, all + 1, 1, &got));
    assert_false(run_claim(heap, UINT64_MAX, 1, &got));
    usual_end();
}

/* Claims and runs of random lengths; a row of flags tells which place is the lowest that is free. */
static void
random_claims_do_as_a_row_of_flags(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t all = slab_of(heap)->count;
    uint64_t random = test_seed();
    bool *taken = test_calloc(all, sizeof *taken);
    uint64_t *lengths = test_calloc(all, sizeof *lengths); /* of the run that begins here; 0 = none */
    for (unsigned long i = operations(30000); i > 0; i--) {
        const uint64_t at = next_random(&random) % all;
        if (lengths[at] != 0) {
            free_run(heap, at);
            memset(&taken[at], 0, lengths[at]);
            lengths[at] = 0;
            continue;
        }
        const uint64_t count = 1 + next_random(&random) % (next_random(&random) % 8 == 0 ? 60 : 6);
        uint64_t lowest = 0;
        for (uint64_t row = 0; lowest < all && row < count; lowest++)
            row = taken[lowest] ? 0 : row + 1;
        lowest -= count;
        struct claim got;
        const bool claimed = run_claim(heap, count, 1, &got);
        bool fits = lowest <= all - count;
        for (uint64_t slice = 0; fits && slice < count; slice++)
            fits = !taken[lowest + slice];
        assert_true(claimed == fits);
        if (!claimed)
            continue;
        assert_int_equal(got.first, lowest);
        if (next_random(&random) % 4 == 0) {
            run_unclaim(heap, &got);
            continue;
        }
        atomic_store(&record_of(slab_of(heap), got.first)->skip, 0);
        run_publish(heap, &got, SLICE_RUN);
        memset(&taken[lowest], 1, count);
        lengths[lowest] = count;
    }
    assert_sound(heap);
    uint64_t used = 0;
    for (uint64_t slice = 0; slice < all; slice++) {
        used += taken[slice];
        if (lengths[slice] != 0)
            free_run(heap, slice);
    }
    assert_sound(heap);
    assert_int_equal(stats_of(heap).used_bytes, 0);
    assert_in_range(stats_of(heap).peak_bytes, used * slice_bytes(heap), all * slice_bytes(heap));
    test_free(lengths);
    test_free(taken);
    usual_end();
}

static void
a_claim_begins_at_the_alignment_that_was_asked_for(hshm_allocator_kind kind)
{
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("runs"), 64 * MIB, kind);
    for (uint64_t alignment = 1; alignment <= 16 * MIB; alignment *= 2) {
        struct claim off_by_one = claim(heap, 1);
        struct claim got;
        assert_true(run_claim(heap, 3, alignment, &got));
        assert_int_equal((uintptr_t)slice_address(slab_of(heap), got.first) % alignment, 0);
        run_unclaim(heap, &got);
        run_unclaim(heap, &off_by_one);
    }
    struct claim got;
    assert_false(run_claim(heap, 1, UINT64_C(1) << 40, &got)); /* unless by chance, which mmap() does not give */
    assert_sound(heap);
    usual_end();
}

static void
a_run_grows_into_free_neighbours_only(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t all = slab_of(heap)->count;
    const uint64_t run = make_run(heap, 2);
    assert_true(run_resize(heap, run, word_at(heap, run), 10));
    assert_int_equal(word_at(heap, run), slice_make(SLICE_RUN, 0, 10));
    for (uint64_t i = 1; i < 10; i++)
        assert_int_equal(word_at(heap, run + i), slice_make(SLICE_REST, 0, i));
    assert_sound(heap);

    const uint64_t neighbour = make_run(heap, 1);
    assert_int_equal(neighbour, 10);
    assert_false(run_resize(heap, run, word_at(heap, run), 11));
    assert_false(run_resize(heap, neighbour, word_at(heap, neighbour), all)); /* beyond the heap */
    assert_false(run_resize(heap, neighbour, word_at(heap, neighbour), UINT64_MAX >> SLICE_COUNT_SHIFT));
    assert_int_equal(word_at(heap, run), slice_make(SLICE_RUN, 0, 10));
    assert_int_equal(stats_of(heap).used_bytes, 11 * slice_bytes(heap));
    assert_true(run_resize(heap, neighbour, word_at(heap, neighbour), all - 10));
    assert_sound(heap);
    usual_end();
}

static void
a_run_that_shrinks_leaves_its_end_to_others(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_run(heap, 10);
    const uint64_t beyond = make_run(heap, 1);
    assert_true(run_resize(heap, run, word_at(heap, run), 3));
    assert_sound(heap);
    assert_int_equal(make_run(heap, 7), run + 3);
    assert_false(run_resize(heap, run, word_at(heap, run), 4));
    free_run(heap, run);
    free_run(heap, beyond);
    assert_sound(heap);
    usual_end();
}

static void
what_is_something_else_by_now_is_not_freed(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_run(heap, 4);
    const uint64_t found = word_at(heap, run);
    assert_true(run_resize(heap, run, found, 3));
    const hshm_stats before = stats_of(heap);
    assert_false(run_free(heap, run, found));
    assert_false(run_resize(heap, run, found, 5));
    struct claim kept;
    assert_false(run_keep(heap, run, found, &kept));
    assert_same_stats(heap, before);
    assert_sound(heap);
    usual_end();
}

static void
a_slice_that_is_kept_is_nobody_elses(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_run(heap, 1);
    struct claim kept;
    assert_true(run_keep(heap, run, word_at(heap, run), &kept));
    assert_int_equal(kept.first, run);
    assert_false(kept.zero);
    assert_int_equal(make_run(heap, 1), run + 1);
    assert_int_equal(stats_of(heap).live_blocks, 1);
    run_unclaim(heap, &kept);
    assert_int_equal(make_run(heap, 1), run);
    assert_sound(heap);
    usual_end();
}

/* ---- after a death ---- */

enum { DEAD = 1000 }; /* a process that never was */

/* Who freed a run was killed when it had made some slices free, and another one has them when recovery goes on. */
static void
a_free_that_is_finished_leaves_what_others_have_by_then(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_run(heap, 4);
    const uint64_t freeing = slice_make(SLICE_FREEING, DEAD, 4);
    atomic_store(&slab_of(heap)->slices[run], freeing);
    for (uint64_t i = 1; i <= 2; i++) {
        atomic_store(&slab_of(heap)->slices[run + i], slice_make(SLICE_DIRTY, 0, 0));
        run_sync_taken(slab_of(heap), run + i);
    }
    const struct claim others = claim(heap, 2);
    assert_int_equal(others.first, run + 1);
    run_finish_free(heap, run, freeing);
    assert_int_equal(slice_state(word_at(heap, run)), SLICE_DIRTY);
    assert_int_equal(slice_state(word_at(heap, run + 1)), SLICE_CLAIMED);
    assert_int_equal(slice_state(word_at(heap, run + 2)), SLICE_CLAIMED);
    assert_int_equal(slice_state(word_at(heap, run + 3)), SLICE_DIRTY);
    assert_int_equal(make_run(heap, 1), run);
    assert_int_equal(make_run(heap, 1), run + 3);
    run_unclaim(heap, &others);
    usual_end();
}

static void
claims_that_the_dead_left_inside_a_run_go_free_with_it(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_run(heap, 4);
    atomic_store(&slab_of(heap)->root->resizing, 1);
    atomic_store(&slab_of(heap)->slices[run + 2], slice_make(SLICE_CLAIMED, DEAD, 1));
    free_run(heap, run);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(slice_state(word_at(heap, run + i)), SLICE_DIRTY);
    assert_int_equal(make_run(heap, 4), run);
    assert_sound(heap);
    usual_end();
}

/* ---- zeros ---- */

static void
only_what_was_never_used_is_known_to_be_zero(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    struct claim fresh = claim(heap, 5);
    assert_true(fresh.zero);
    run_unclaim(heap, &fresh); /* nobody wrote to it */
    fresh = claim(heap, 5);
    assert_true(fresh.zero);
    atomic_store(&record_of(slab_of(heap), fresh.first)->skip, 0);
    run_publish(heap, &fresh, SLICE_RUN);
    free_run(heap, fresh.first);
    const struct claim used = claim(heap, 6); /* one fresh slice among them */
    assert_int_equal(used.first, 0);
    assert_false(used.zero);
    run_unclaim(heap, &used);
    const struct claim still = claim(heap, 5);
    assert_false(still.zero);
    assert_true(claim(heap, 5).zero);
    usual_end();
}

static void
what_was_given_back_is_zero_again(hshm_allocator_kind kind)
{
    static const struct place lazy = { "", HSHM_BACKEND_POSIX_SHM_MMAP, 32 * MIB, 0, 0, true };
    struct scene scene;
    scene_make(&scene, &lazy, kind, 0);
    const uint64_t run = make_run(scene.heap, 100);
    memset(slice_address(slab_of(scene.heap), run), 0xee, 100 * slice_bytes(scene.heap));
    free_run(scene.heap, run);
    uint64_t bytes = 0;
    assert_ok(hshm_trim(scene.heap, 10 * slice_bytes(scene.heap), &bytes));
    assert_int_equal(bytes, 90 * slice_bytes(scene.heap));
    const struct claim low = claim(scene.heap, 10); /* what lies low is kept */
    assert_false(low.zero);
    const struct claim high = claim(scene.heap, 90);
    assert_true(high.zero);
    const unsigned char *begin = slice_address(slab_of(scene.heap), high.first);
    for (uint64_t i = 0; i < 90 * slice_bytes(scene.heap); i++)
        assert_true(begin[i] == 0);
    run_unclaim(scene.heap, &low);
    run_unclaim(scene.heap, &high);
    assert_sound(scene.heap);
    scene_end(&scene);
}

int
main(void)
{
    static const struct kind_case cases[] = {
        KIND_CASE(the_lowest_place_is_taken_first),
        KIND_CASE(neighbours_become_one_whoever_was_freed_first),
        KIND_CASE(random_claims_do_as_a_row_of_flags),
        KIND_CASE(a_claim_begins_at_the_alignment_that_was_asked_for),
        KIND_CASE(a_run_grows_into_free_neighbours_only),
        KIND_CASE(a_run_that_shrinks_leaves_its_end_to_others),
        KIND_CASE(what_is_something_else_by_now_is_not_freed),
        KIND_CASE(a_slice_that_is_kept_is_nobody_elses),
        KIND_CASE(a_free_that_is_finished_leaves_what_others_have_by_then),
        KIND_CASE(claims_that_the_dead_left_inside_a_run_go_free_with_it),
        KIND_CASE(only_what_was_never_used_is_known_to_be_zero),
        KIND_CASE(what_was_given_back_is_zero_again),
    };
    return run_kinds("slab.runs", cases, COUNTOF(cases));
}
