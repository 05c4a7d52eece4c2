/*
 * test_whole.c - the heap as a whole: one block takes nearly all of it, small blocks that were freed become large ones, and
 * when there is no room the answer is a status, and all goes on once there is.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lazy.h"

/* ---- many blocks ---- */

/* Blocks taken in a row, freed in this or that order, by this or that thread. */
struct pile {
    hshm_allocator *heap;
    void **blocks;
    size_t count, room, size;
    char url[64];
};

static struct pile
new_pile(hshm_allocator *heap, size_t size)
{
    struct pile pile = { .heap = heap, .size = size };
    pile.room = (size_t)stats_of(heap).region_bytes / size + 1;
    pile.blocks = calloc(pile.room, sizeof *pile.blocks);
    assert_non_null(pile.blocks);
    return pile;
}

/* Take blocks until there are none. */
static void
fill(struct pile *pile)
{
    for (void *block; (block = hshm_malloc(pile->heap, pile->size)) != NULL;) {
        assert_true(pile->count < pile->room);
        block_fill(block, 16, pile->count);
        pile->blocks[pile->count++] = block;
    }
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
}

static void *
free_pile(void *arg)
{
    struct pile *pile = arg;
    for (size_t i = 0; i < pile->count; i++) {
        assert_true(block_holds(pile->blocks[i], 16, i));
        assert_ok(hshm_free(pile->heap, pile->blocks[i]));
    }
    pile->count = 0;
    return NULL;
}

static void
fill_and_free(hshm_allocator *heap, size_t size, bool by_another)
{
    struct pile pile = new_pile(heap, size);
    fill(&pile);
    /* Tables and the ends of slabs take less than an eighth. */
    assert_true(pile.count * size >= stats_of(heap).region_bytes / 8 * 7);
    if (by_another)
        in_thread(free_pile, &pile);
    else
        (void)free_pile(&pile);
    free(pile.blocks);
}

static void
a_fresh_heap_has_a_block_of_95_percent(void **state)
{
    const size_t sizes[] = { 16 * MIB, 64 * MIB, GIB };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        hshm_allocator *heap = lazy_heap(lazy_kind(state), test_name("fresh"), sizes[i]);
        assert_all_free(heap, 95);
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

static void
small_blocks_become_larger_ones_and_one_large_one(hshm_allocator_kind kind, bool by_another)
{
    hshm_allocator *heap = lazy_heap(kind, test_name("pile"), scaled(64, 16) * MIB);
    fill_and_free(heap, KIB, by_another);
    fill_and_free(heap, 4 * KIB, by_another);
    void *large = hshm_malloc(heap, scaled(64, 16) * MIB / 10 * 9);
    assert_non_null(large);
    assert_ok(hshm_free(heap, large));
    assert_none_lost(heap);
    fill_and_free(heap, 48, by_another);
    assert_none_lost(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
small_blocks_that_their_thread_freed_become_one_large_block(void **state)
{
    small_blocks_become_larger_ones_and_one_large_one(lazy_kind(state), false);
}

static void
small_blocks_that_another_thread_freed_become_one_large_block(void **state)
{
    small_blocks_become_larger_ones_and_one_large_one(lazy_kind(state), true);
}

/* Fill the heap on the processor of the same number as this round. */
static int
fill_elsewhere(void *arg)
{
    struct pile *pile = arg;
    assert_ok(hshm_backend_detach(NULL, 1));
    pile->heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, pile->url, 0);
    (void)run_on(0);
    while (hshm_malloc(pile->heap, pile->size) != NULL)
        ;
    return 0;
}

/* As programs do that are bound to processors: one fills the heap, another needs it. */
static void
small_blocks_of_another_processor_become_one_large_block(void **state)
{
    struct pile *pile = shared_bytes(sizeof *pile);
    const char *url = test_name("pinned");
    (void)snprintf(pile->url, sizeof pile->url, "%s", url);
    pile->size = KIB;
    hshm_allocator *heap = lazy_heap(lazy_kind(state), url, 64 * MIB);
    assert_int_equal(child_run(fill_elsewhere, pile), 0);
    (void)run_on(1);
    free_every_block(heap);
    assert_none_lost(heap);
    run_anywhere();
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- no room ---- */

enum { MANY = 1 << 16, LARGEST = 200000 };

/* Blocks of any size. */
struct crowd {
    hshm_allocator *heap;
    void *blocks[MANY];
    size_t sizes[MANY];
    size_t count;
    uint64_t random;
};

static bool
join_crowd(struct crowd *crowd, size_t size)
{
    void *block = hshm_malloc(crowd->heap, size);
    if (block == NULL) {
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        return false;
    }
    assert_true(crowd->count < MANY);
    block_fill(block, size, crowd->count);
    crowd->blocks[crowd->count] = block;
    crowd->sizes[crowd->count++] = size;
    return true;
}

/* Sizes of all magnitudes alike. */
static size_t
any_size(uint64_t *random)
{
    const size_t below = (size_t)1 << (4 + next_random(random) % 14);
    return 1 + (size_t)(next_random(random) % below);
}

/* Until a small block is refused, too. */
static void
fill_up(struct crowd *crowd)
{
    while (join_crowd(crowd, any_size(&crowd->random)))
        ;
    for (size_t size = LARGEST; size > 0; size /= 2)
        while (join_crowd(crowd, size))
            ;
    assert_false(join_crowd(crowd, 1));
}

/* Every second one, or all. */
static void
leave_crowd(struct crowd *crowd, size_t first, size_t step)
{
    for (size_t i = first; i < crowd->count; i += step) {
        if (crowd->blocks[i] == NULL)
            continue;
        assert_block(crowd->heap, crowd->blocks[i], crowd->sizes[i], i);
        assert_ok(hshm_free(crowd->heap, crowd->blocks[i]));
        crowd->blocks[i] = NULL;
    }
}

static struct crowd *
new_crowd(hshm_allocator *heap)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    assert_non_null(crowd);
    crowd->heap = heap;
    crowd->random = test_seed();
    return crowd;
}

static void
a_full_heap_says_so_and_goes_on_after_frees(void **state)
{
    hshm_allocator *heap = lazy_heap(lazy_kind(state), test_name("full"), 16 * MIB);
    struct crowd *crowd = new_crowd(heap);
    for (int round = 0; round < 4; round++) {
        crowd->count = 0;
        fill_up(crowd);
        assert_sound(heap);
        const hshm_stats full = stats_of(heap);
        assert_true(full.failures > 0);
        assert_int_equal(full.live_blocks, crowd->count);
        leave_crowd(crowd, 0, 2);
        for (int i = 0; i < 1000; i++)
            assert_ok(hshm_free(heap, hshm_malloc(heap, any_size(&crowd->random) / 4)));
        leave_crowd(crowd, 1, 2);
        assert_none_lost(heap);
    }
    free(crowd);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_block_too_large_leaves_room_for_small_ones(void **state)
{
    hshm_allocator *heap = lazy_heap(lazy_kind(state), test_name("large"), 16 * MIB);
    void *most = hshm_malloc(heap, 12 * MIB);
    assert_non_null(most);
    for (int i = 0; i < 1000; i++) {
        assert_null(hshm_malloc(heap, 8 * MIB));
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        assert_non_null(hshm_malloc(heap, 100));
        assert_null(hshm_malloc(heap, SIZE_MAX - 100));
        assert_null(hshm_aligned_alloc(heap, 4 * MIB, 8 * MIB));
    }
    assert_int_equal(stats_of(heap).live_blocks, 1001);
    free_every_block(heap);
    assert_all_free(heap, 95);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* Each class has slabs of its own; what becomes free must serve other classes. */
static void
room_of_some_sizes_serves_all_others(void **state)
{
    hshm_allocator *heap = lazy_heap(lazy_kind(state), test_name("classes"), 16 * MIB);
    struct crowd *crowd = new_crowd(heap);
    bool any = true;
    while (any) {
        any = false;
        for (size_t size = 16; size < LARGEST; size += size / 8 & ~(size_t)15 ? size / 8 & ~(size_t)15 : 16)
            any |= join_crowd(crowd, size);
    }
    const size_t small_end = crowd->count;
    uint64_t freed = 0;
    for (size_t i = 0; i < small_end; i++) {
        if (crowd->sizes[i] >= 20000)
            continue;
        freed += crowd->sizes[i];
        assert_ok(hshm_free(heap, crowd->blocks[i]));
        crowd->blocks[i] = NULL;
    }
    uint64_t taken = 0;
    while (join_crowd(crowd, 30000))
        taken += 30000;
    print_message("%llu bytes in blocks below 20000 were freed, %llu in blocks of 30000 taken\n",
                  (unsigned long long)freed, (unsigned long long)taken);
    assert_true(taken >= freed / 4 * 3);
    leave_crowd(crowd, 0, 1);
    assert_none_lost(heap);
    free(crowd);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- what another process holds ---- */

struct other {
    struct step holds, may_free, freed, may_end;
    char url[64];
};

static int
hold_half(void *arg)
{
    struct other *other = arg;
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, other->url, 0);
    struct pile pile = new_pile(heap, 300);
    while (pile.count < pile.room / 2) {
        void *block = hshm_malloc(heap, pile.size);
        assert_non_null(block);
        block_fill(block, 16, pile.count);
        pile.blocks[pile.count++] = block;
    }
    step_reach(&other->holds);
    step_wait(&other->may_free, 1);
    (void)free_pile(&pile);
    assert_null(hshm_malloc(heap, 16 * MIB));
    step_reach(&other->freed);
    step_wait(&other->may_end, 1);
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
what_another_process_held_is_everybodys_once_it_is_free(void **state)
{
    struct other *other = shared_bytes(sizeof *other);
    const char *url = test_name("held");
    (void)snprintf(other->url, sizeof other->url, "%s", url);
    (void)lazy_heap(lazy_kind(state), url, 16 * MIB);
    assert_ok(hshm_backend_detach(NULL, 1));
    const pid_t child = child_start(hold_half, other);
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, url, 0);
    step_wait(&other->holds, 1);
    struct pile pile = new_pile(heap, 500);
    fill(&pile);
    assert_null(hshm_malloc(heap, 500));
    step_reach(&other->may_free);
    step_wait(&other->freed, 1);
    const size_t before = pile.count;
    fill(&pile);
    print_message("%zu blocks of 500 beside another process, %zu after it freed its own\n", before, pile.count);
    assert_true(pile.count * 500 > 14 * MIB);
    (void)free_pile(&pile);
    free(pile.blocks);
    step_reach(&other->may_end);
    assert_int_equal(child_wait(child), 0);
    assert_none_lost(heap);
    assert_ok(hshm_backend_detach(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_HEAPS(a_fresh_heap_has_a_block_of_95_percent),
        BOTH_HEAPS(small_blocks_that_their_thread_freed_become_one_large_block),
        BOTH_HEAPS(small_blocks_that_another_thread_freed_become_one_large_block),
        BOTH_HEAPS(small_blocks_of_another_processor_become_one_large_block),
        BOTH_HEAPS(a_full_heap_says_so_and_goes_on_after_frees),
        BOTH_HEAPS(a_block_too_large_leaves_room_for_small_ones),
        BOTH_HEAPS(room_of_some_sizes_serves_all_others),
        BOTH_HEAPS(what_another_process_held_is_everybodys_once_it_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
