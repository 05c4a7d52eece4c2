/*
 * test_bump.c - one stack, one thread: where blocks come to lie, how large they are, and when there is no room.
 */
#include "blocks.h"

#include <string.h>

#include "allocator/allocator.h"

enum { REGION = 65536, CODES_PER_WORD = STACK_CODES_PER_WORD };

static hshm_allocator *
new_stack(void)
{
    return make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
}

static void
blocks_come_one_behind_the_other(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    unsigned char *first = hshm_malloc(heap, 1);
    unsigned char *second = hshm_malloc(heap, 17);
    unsigned char *third = hshm_malloc(heap, 16);
    assert_non_null(first);
    assert_ptr_equal(second, first + 16);
    assert_ptr_equal(third, second + 32);
    assert_int_equal(hshm_usable_size(heap, second), 32);
    assert_sound(heap);
}

static void
sizes_round_up_to_16_and_0_gives_a_block_of_its_own(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 31, 32, 33, 511, 512, 513, 4096, 20000 };
    hshm_allocator *heap = new_stack();
    unsigned char *blocks[sizeof sizes / sizeof sizes[0]];
    uint64_t used = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        blocks[i] = hshm_malloc(heap, sizes[i]);
        assert_non_null(blocks[i]);
        assert_ptr_equal(blocks[i], blocks[0] + used);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        assert_int_equal(hshm_usable_size(heap, blocks[i]), stack_rounded(sizes[i]));
        used += stack_rounded(sizes[i]);
        assert_int_equal(stats_of(heap).used_bytes, used);
        block_fill(blocks[i], hshm_usable_size(heap, blocks[i]), i);
    }
    assert_sound(heap);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_block(heap, blocks[i], stack_rounded(sizes[i]), i);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_ok(hshm_free(heap, blocks[i]));
    assert_int_equal(stats_of(heap).used_bytes, 0);
    assert_sound(heap);
}

static void
allocate_tells_address_and_offset(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    hshm_ptr ptr = HSHM_PTR_NULL;
    assert_ok(hshm_allocate(heap, 100, &ptr));
    assert_int_equal(ptr.shm.allocator.major, 1);
    assert_int_equal(ptr.shm.allocator.minor, 0);
    assert_int_not_equal(ptr.shm.off, HSHM_OFF_NULL);
    assert_int_equal(ptr.shm.off, hshm_to_off(heap, ptr.addr));
    assert_ptr_equal(hshm_to_addr(heap, ptr.shm.off), ptr.addr);
    assert_ok(hshm_deallocate(heap, &ptr));
    assert_null(ptr.addr);
    assert_int_equal(ptr.shm.off, HSHM_OFF_NULL);
    assert_int_equal(stats_of(heap).used_bytes, 0);
}

static void
null_is_freed_without_complaint_and_null_results_are_refused(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    const hshm_stats before = stats_of(heap);
    hshm_ptr null = HSHM_PTR_NULL;
    assert_ok(hshm_free(heap, NULL));
    assert_ok(hshm_deallocate(heap, &null));
    assert_int_equal(hshm_usable_size(heap, NULL), 0);
    assert_status(hshm_allocate(heap, 1, NULL), HSHM_E_INVAL);
    assert_status(hshm_allocate_aligned(heap, 1, 64, NULL), HSHM_E_INVAL);
    assert_status(hshm_reallocate(heap, NULL, 1), HSHM_E_INVAL);
    assert_status(hshm_deallocate(heap, NULL), HSHM_E_INVAL);
    assert_same_stats(heap, before);
}

/* Each must fail, say so, and leave room and results alone. */
static void
refuse_size(hshm_allocator *heap, size_t size, uint64_t failures)
{
    hshm_ptr ptr = { &failures, { { 7, 8 }, 9 } };
    const hshm_ptr untouched = ptr;
    const hshm_stats before = stats_of(heap);
    assert_null(hshm_malloc(heap, size));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_sentence("no room");
    assert_status(hshm_allocate(heap, size, &ptr), HSHM_E_NOMEM);
    assert_null(hshm_calloc(heap, 1, size));
    assert_null(hshm_aligned_alloc(heap, 16, size));
    assert_null(hshm_aligned_alloc(heap, 4096, size));
    assert_status(hshm_allocate_aligned(heap, size, 64, &ptr), HSHM_E_NOMEM);
    assert_memory_equal(&ptr, &untouched, sizeof ptr);
    const hshm_stats after = stats_of(heap);
    assert_int_equal(after.failures, before.failures + 6);
    assert_int_equal(after.used_bytes, before.used_bytes);
    assert_int_equal(after.live_blocks, before.live_blocks);
}

static void
what_is_too_large_is_refused_and_small_ones_still_succeed(void **state)
{
    (void)state;
    static const size_t far_too_large[] = { SIZE_MAX,         SIZE_MAX - 1,  SIZE_MAX - 14,
                                            SIZE_MAX - 15,    SIZE_MAX - 16, SIZE_MAX - 17,
                                            SIZE_MAX / 2 + 1, SIZE_MAX / 2,  SIZE_MAX / 8,
                                            SIZE_MAX / 16,    REGION };
    hshm_allocator *heap = new_stack();
    unsigned char *before = hshm_malloc(heap, 40);
    for (size_t i = 0; i < sizeof far_too_large / sizeof far_too_large[0]; i++) {
        refuse_size(heap, far_too_large[i], i);
        unsigned char *small = hshm_malloc(heap, 1);
        assert_ptr_equal(small, before + 48);
        assert_ok(hshm_free(heap, small));
    }
    const size_t room = (size_t)stats_of(heap).largest_free;
    refuse_size(heap, room + 1, 0);
    refuse_size(heap, room + 16, 0);
    assert_sound(heap);

    unsigned char *rest = hshm_malloc(heap, room);
    assert_ptr_equal(rest, before + 48);
    assert_int_equal(hshm_usable_size(heap, rest), room);
    assert_int_equal(stats_of(heap).largest_free, 0);
    refuse_size(heap, 1, 0);
    refuse_size(heap, 0, 0);
    memset(rest, 0xff, room);
    assert_sound(heap);

    /* The last granule alone, and none behind it. */
    assert_ok(hshm_free(heap, rest));
    assert_non_null(hshm_malloc(heap, room - 16));
    assert_non_null(hshm_malloc(heap, 16));
    refuse_size(heap, 1, 0);
    assert_sound(heap);
}

static void
a_heap_can_be_filled_with_blocks_of_any_size(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 16, 48, 64, 496, 512, 528, 1024, 5000 };
    hshm_allocator *heap = new_stack();
    const uint64_t data = stats_of(heap).data_bytes;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t blocks = 0;
        while (hshm_malloc(heap, sizes[i]) != NULL)
            blocks++;
        assert_int_equal(blocks, data / stack_rounded(sizes[i]));
        assert_int_equal(stats_of(heap).live_blocks, blocks);
        assert_sound(heap);
        assert_ok(hshm_stack_reset(heap));
    }
}

static void
calloc_zeroes_and_refuses_products_that_overflow(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    unsigned char *dirty = hshm_malloc(heap, 1000);
    memset(dirty, 0xee, 1000);
    assert_ok(hshm_free(heap, dirty));
    unsigned char *clean = hshm_calloc(heap, 25, 40);
    assert_ptr_equal(clean, dirty);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(clean[i], 0);
    const hshm_stats before = stats_of(heap);
    assert_null(hshm_calloc(heap, SIZE_MAX, 2));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_null(hshm_calloc(heap, (size_t)1 << 32, (size_t)1 << 32));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_null(hshm_calloc(heap, SIZE_MAX / 16 + 2, 16));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_int_equal(stats_of(heap).used_bytes, before.used_bytes);

    /* No elements, or elements of nothing: a block like any other of 0 bytes. */
    void *none = hshm_calloc(heap, 0, 100);
    void *nothing = hshm_calloc(heap, 100, 0);
    assert_non_null(none);
    assert_non_null(nothing);
    assert_ptr_not_equal(none, nothing);
    assert_ok(hshm_free(heap, nothing));
    assert_ok(hshm_free(heap, none));
}

static void
freeing_in_reverse_gives_all_room_back(void **state)
{
    (void)state;
    enum { BLOCKS = 300 };
    hshm_allocator *heap = new_stack();
    void *blocks[BLOCKS];
    uint64_t heights[BLOCKS];
    uint64_t random = test_seed();
    for (size_t i = 0; i < BLOCKS; i++) {
        heights[i] = stats_of(heap).used_bytes;
        blocks[i] = hshm_malloc(heap, next_random(&random) % 200);
        assert_non_null(blocks[i]);
    }
    for (size_t i = BLOCKS; i-- > 0;) {
        assert_ok(hshm_free(heap, blocks[i]));
        assert_int_equal(stats_of(heap).used_bytes, heights[i]);
    }
    assert_int_equal(stats_of(heap).used_bytes, 0);
    assert_sound(heap);
}

static void
freeing_in_any_order_gives_all_room_back_in_the_end(void **state)
{
    (void)state;
    enum { BLOCKS = 300, ROUNDS = 20 };
    hshm_allocator *heap = new_stack();
    uint64_t random = test_seed();
    for (int round = 0; round < ROUNDS; round++) {
        void *blocks[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            blocks[i] = hshm_malloc(heap, next_random(&random) % 200);
            assert_non_null(blocks[i]);
        }
        for (size_t left = BLOCKS; left > 0; left--) {
            const size_t victim = next_random(&random) % left;
            assert_ok(hshm_free(heap, blocks[victim]));
            blocks[victim] = blocks[left - 1];
            assert_int_equal(stats_of(heap).live_blocks, left - 1);
        }
        assert_int_equal(stats_of(heap).used_bytes, 0);
        assert_int_equal(stats_of(heap).largest_free, stats_of(heap).data_bytes);
        assert_sound(heap);
    }
}

static void
room_beneath_a_live_block_stays_used_until_that_goes(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack();
    void *low = hshm_malloc(heap, 3000);
    void *middle = hshm_malloc(heap, 16);
    void *high = hshm_malloc(heap, 500);
    const hshm_stats full = stats_of(heap);
    assert_ok(hshm_free(heap, low));
    assert_ok(hshm_free(heap, middle));
    assert_int_equal(stats_of(heap).used_bytes, full.used_bytes);
    assert_int_equal(stats_of(heap).live_bytes, 512);
    assert_sound(heap);
    assert_ok(hshm_free(heap, high));
    assert_int_equal(stats_of(heap).used_bytes, 0);
    assert_ptr_equal(hshm_malloc(heap, 1), low);
}

/* ---- where blocks meet the words of the table: 32 granules each ---- */

struct span {
    size_t before, granules;
};

/* Take a block at a place, between two neighbours, look at all three, and free them in each order. */
static void
check_span(hshm_allocator *heap, struct span span, int order)
{
    void *filler = span.before == 0 ? NULL : hshm_malloc(heap, span.before * 16);
    unsigned char *blocks[3] = { hshm_malloc(heap, span.granules * 16), hshm_malloc(heap, 16), hshm_malloc(heap, 32) };
    const size_t sizes[3] = { span.granules * 16, 16, 32 };
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(blocks[i]);
        assert_int_equal(hshm_usable_size(heap, blocks[i]), sizes[i]);
        block_fill(blocks[i], sizes[i], i);
    }
    for (size_t granule = 1; granule < span.granules; granule++)
        assert_int_equal(hshm_usable_size(heap, blocks[0] + granule * 16), 0);
    assert_sound(heap);
    static const size_t orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
    bool gone[3] = { false, false, false };
    for (size_t i = 0; i < 3; i++) {
        const size_t victim = orders[order][i];
        assert_ok(hshm_free(heap, blocks[victim]));
        gone[victim] = true;
        for (size_t other = 0; other < 3; other++) {
            if (gone[other])
                assert_status(hshm_free(heap, blocks[other]), HSHM_E_BADFREE);
            else
                assert_block(heap, blocks[other], sizes[other], other);
        }
        assert_sound(heap);
    }
    assert_int_equal(stats_of(heap).used_bytes, span.before * 16);
    assert_ok(hshm_free(heap, filler));
    assert_int_equal(stats_of(heap).used_bytes, 0);
}

static void
blocks_may_end_begin_and_stretch_anywhere_in_the_table(void **state)
{
    (void)state;
    static const size_t lengths[] = { 1,  2,  3,  CODES_PER_WORD - 1,     CODES_PER_WORD,     CODES_PER_WORD + 1,
                                      63, 64, 65, 2 * CODES_PER_WORD + 1, 3 * CODES_PER_WORD, 100 };
    hshm_allocator *heap = new_stack();
    for (size_t before = 0; before <= CODES_PER_WORD + 1; before++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            const int order = (int)((before + i) % 6);
            check_span(heap, (struct span){ before, lengths[i] }, order);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(blocks_come_one_behind_the_other, drop_heaps),
        cmocka_unit_test_teardown(sizes_round_up_to_16_and_0_gives_a_block_of_its_own, drop_heaps),
        cmocka_unit_test_teardown(allocate_tells_address_and_offset, drop_heaps),
        cmocka_unit_test_teardown(null_is_freed_without_complaint_and_null_results_are_refused, drop_heaps),
        cmocka_unit_test_teardown(what_is_too_large_is_refused_and_small_ones_still_succeed, drop_heaps),
        cmocka_unit_test_teardown(a_heap_can_be_filled_with_blocks_of_any_size, drop_heaps),
        cmocka_unit_test_teardown(calloc_zeroes_and_refuses_products_that_overflow, drop_heaps),
        cmocka_unit_test_teardown(freeing_in_reverse_gives_all_room_back, drop_heaps),
        cmocka_unit_test_teardown(freeing_in_any_order_gives_all_room_back_in_the_end, drop_heaps),
        cmocka_unit_test_teardown(room_beneath_a_live_block_stays_used_until_that_goes, drop_heaps),
        cmocka_unit_test_teardown(blocks_may_end_begin_and_stretch_anywhere_in_the_table, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
