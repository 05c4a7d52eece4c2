/*
 * test_idle.c - runs that became free and wait, as they are, for who needs as many slices: taken by one of several, and as good
 * as free to everyone else.
 */
#include "scenes.h"

#include "allocator/spares.h"

static struct slab_heap *
slab_of(hshm_allocator *heap)
{
    return &heap->slab;
}

static uint64_t
word_at(hshm_allocator *heap, uint64_t slice)
{
    return atomic_load(&slab_of(heap)->slices[slice]);
}

static uint64_t
make_run(hshm_allocator *heap, uint64_t count)
{
    struct claim got;
    assert_true(run_claim(heap, count, 1, &got));
    (void)large_begin(heap, &got, 1);
    return got.first;
}

static uint64_t
make_idle(hshm_allocator *heap, uint64_t count)
{
    const uint64_t run = make_run(heap, count);
    assert_true(run_idle(heap, run, word_at(heap, run), 0));
    assert_int_equal(word_at(heap, run), slice_make(SLICE_IDLE, 0, count));
    return run;
}

static uint64_t
used_slices(hshm_allocator *heap)
{
    return stats_of(heap).used_bytes >> slab_of(heap)->shift;
}

static void
an_idle_run_is_taken_as_a_whole_and_once(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_idle(heap, 5);
    struct claim got;
    uint64_t hint = 7;
    assert_sound(heap);
    assert_int_equal(used_slices(heap), 0);
    assert_false(run_take_idle(heap, run, 4, &got, &hint));
    assert_false(run_take_idle(heap, run + 1, 4, &got, &hint));
    assert_int_equal(hint, 0);
    assert_true(run_take_idle(heap, run, 5, &got, &hint));
    assert_int_equal(got.first, run);
    assert_int_equal(got.count, 5);
    assert_false(got.zero);
    assert_false(run_take_idle(heap, run, 5, &got, &hint));
    assert_int_equal(used_slices(heap), 5);
    run_unclaim(heap, &got);
    assert_int_equal(make_run(heap, 6), run);
    assert_int_equal(run_in_use(slab_of(heap)), 6);
    assert_sound(heap);
    usual_end();
}

static void
what_is_idle_is_room_for_all_else(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t all = slab_of(heap)->count;
    uint64_t left = all;
    for (uint64_t i = 2; left >= 2; i = i < IDLE_SLICES_MAX ? i + 1 : 2) {
        (void)make_run(heap, i < left ? i : left);
        left -= i < left ? i : left;
    }
    for (uint64_t slice = 0; slice < all; slice += slice_count(word_at(heap, slice))) {
        if (slice_state(word_at(heap, slice)) == SLICE_RUN)
            assert_true(run_idle(heap, slice, word_at(heap, slice), 0));
        else
            break;
    }
    assert_sound(heap);
    assert_int_equal(used_slices(heap), left);
    assert_int_equal(stats_of(heap).largest_free, (all - left) << slab_of(heap)->shift);
    assert_int_equal(make_run(heap, all - left), 0);
    assert_int_equal(slab_of(heap)->root->idle, 0);
    assert_sound(heap);
    usual_end();
}

/* A little may lie idle meanwhile; much must not, or a program would have two of everything. */
static void
pages_are_not_touched_while_much_is_idle(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t all = slab_of(heap)->count;
    (void)make_idle(heap, 40);
    assert_int_equal(make_run(heap, 2), 40);
    assert_true(make_idle(heap, 30) != 0);
    const uint64_t high = run_high(slab_of(heap));
    assert_true(high < all - 20);
    assert_true(make_run(heap, 20) < high);
    assert_int_equal(run_high(slab_of(heap)), high);
    assert_sound(heap);
    usual_end();
}

static void
a_run_grows_into_an_idle_neighbour(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_run(heap, 2);
    assert_int_equal(make_idle(heap, 3), run + 2);
    assert_int_equal(make_idle(heap, 3), run + 5);
    const uint64_t beyond = make_run(heap, 1);
    assert_int_equal(beyond, run + 8);
    assert_false(run_resize(heap, run, word_at(heap, run), 9));
    assert_true(run_resize(heap, run, word_at(heap, run), 8));
    assert_int_equal(used_slices(heap), 9);
    assert_sound(heap);
    usual_end();
}

static void
a_list_of_idle_runs_survives_those_who_take_them(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    struct idle_list list = { { 0 } };
    struct claim got;
    uint64_t hint;
    uint64_t runs[4];
    for (size_t i = 0; i < COUNTOF(runs); i++)
        runs[i] = make_run(heap, 3);
    for (size_t i = 0; i < COUNTOF(runs); i++)
        assert_true(idle_keep(heap, &list, runs[i], word_at(heap, runs[i])));
    assert_false(idle_keep(heap, &list, runs[0], slice_make(SLICE_RUN, 0, 3))); /* twice */
    assert_true(idle_take(heap, &list, 3, 1, &got));
    assert_int_equal(got.first, runs[3]); /* the last, which is warm */
    assert_false(idle_take(heap, &list, 4, 1, &got));
    assert_false(idle_take(heap, &list, IDLE_SLICES_MAX + 1, 1, &got));
    /* Another takes the next one, and makes something of it: the list has lost its way, and nothing else. */
    assert_true(run_take_idle(heap, runs[2], 3, &got, &hint));
    atomic_store(&record_of(slab_of(heap), runs[2])->skip, UINT64_MAX);
    assert_false(idle_take(heap, &list, 3, 1, &got));
    assert_false(idle_take(heap, &list, 3, 1, &got));
    list.first[3] = UINT64_MAX; /* as a damaged region may have it */
    assert_false(idle_take(heap, &list, 3, 1, &got));
    assert_true(run_free_idle(heap));
    assert_false(run_free_idle(heap));
    assert_int_equal(make_run(heap, 6), runs[0]);
    assert_sound(heap);
    usual_end();
}

static void
a_block_is_found_to_be_freed_twice_while_its_slices_are_idle(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const size_t size = MIB;
    unsigned char *blocks[8];
    (void)hshm_free(heap, hshm_malloc(heap, 1)); /* now this thread has a place to remember things in */
    for (size_t i = 0; i < COUNTOF(blocks); i++)
        assert_non_null(blocks[i] = hshm_malloc(heap, size));
    for (size_t i = 0; i < COUNTOF(blocks); i++)
        assert_ok(hshm_free(heap, blocks[i]));
    assert_true(atomic_load(&slab_of(heap)->root->idle) != 0);
    for (size_t i = 0; i < COUNTOF(blocks); i++) {
        assert_status(hshm_free(heap, blocks[i]), HSHM_E_BADFREE);
        assert_status(hshm_free(heap, blocks[i] + size / 2), HSHM_E_BADFREE);
    }
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_sound(heap);
    usual_end();
}

static void
recovery_counts_what_is_idle_and_leaves_it(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_idle(heap, 6);
    atomic_store(&slab_of(heap)->root->idle, 99);
    slab_recover_process(heap, heap->process + 1, &(hshm_recover_report){ 0 });
    assert_int_equal(slab_of(heap)->root->idle, 6);
    assert_int_equal(word_at(heap, run), slice_make(SLICE_IDLE, 0, 6));
    assert_int_equal(run_in_use(slab_of(heap)), 0);
    assert_sound(heap);
    /* Counted as none while it was changed: who finds no room looks all the same. */
    atomic_store(&slab_of(heap)->root->idle, 0);
    assert_true(slab_recover(heap));
    assert_int_equal(word_at(heap, run), slice_make(SLICE_DIRTY, 0, 0));
    assert_sound(heap);
    usual_end();
}

static void
a_trim_gives_back_what_is_idle(hshm_allocator_kind kind)
{
    static const struct place lazy = { "", HSHM_BACKEND_POSIX_SHM_MMAP, 32 * MIB, 0, 0, true };
    struct scene scene;
    scene_make(&scene, &lazy, kind, 0);
    (void)make_idle(scene.heap, 50);
    uint64_t bytes = 0;
    assert_ok(hshm_trim(scene.heap, 0, &bytes));
    assert_int_equal(bytes, UINT64_C(50) << slab_of(scene.heap)->shift);
    struct claim got;
    assert_true(run_claim(scene.heap, 50, 1, &got));
    assert_true(got.zero);
    run_unclaim(scene.heap, &got);
    assert_sound(scene.heap);
    scene_end(&scene);
}

static void
a_check_finds_an_idle_run_that_is_interrupted(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t run = make_idle(heap, 4);
    atomic_store(&slab_of(heap)->slices[run + 2], slice_make(SLICE_DIRTY, 0, 0));
    assert_status(hshm_check(heap, 0, NULL), HSHM_E_CORRUPT);
    atomic_store(&slab_of(heap)->slices[run + 2], slice_make(SLICE_REST, 0, 2));
    assert_sound(heap);
    atomic_store(&record_of(slab_of(heap), run)->own, SLAB_IS);
    assert_status(hshm_check(heap, 0, NULL), HSHM_E_CORRUPT);
    atomic_store(&record_of(slab_of(heap), run)->own, 0);
    atomic_store(&slab_of(heap)->slices[run], slice_make(SLICE_IDLE, 0, UINT64_C(1) << 39)); /* longer than the heap */
    assert_status(hshm_check(heap, 0, NULL), HSHM_E_CORRUPT);
    (void)stats_of(heap);
    (void)run_free_idle(heap);
    usual_end();
}

int
main(void)
{
    static const struct kind_case cases[] = {
        KIND_CASE(an_idle_run_is_taken_as_a_whole_and_once),
        KIND_CASE(what_is_idle_is_room_for_all_else),
        KIND_CASE(pages_are_not_touched_while_much_is_idle),
        KIND_CASE(a_run_grows_into_an_idle_neighbour),
        KIND_CASE(a_list_of_idle_runs_survives_those_who_take_them),
        KIND_CASE(a_block_is_found_to_be_freed_twice_while_its_slices_are_idle),
        KIND_CASE(recovery_counts_what_is_idle_and_leaves_it),
        KIND_CASE(a_trim_gives_back_what_is_idle),
        KIND_CASE(a_check_finds_an_idle_run_that_is_interrupted),
    };
    return run_kinds("slab.idle", cases, COUNTOF(cases));
}
