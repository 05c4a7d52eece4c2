/*
 * test_blocks.c - blocks of heaps of slabs: sizes, alignment, zeros, what a visitor sees, and what an overrun reaches.
 */
#include "scenes.h"

#include <hshm/inline.h>
#include <string.h>

static void
a_block_is_at_most_an_eighth_larger_than_asked(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const uint64_t slice = UINT64_C(1) << heap->slab.shift;
    for (size_t size = 1; size < 2 * MIB; size += 1 + size / 50) {
        void *block = hshm_malloc(heap, size);
        const size_t usable = hshm_usable_size(heap, block);
        assert_true(usable >= size && usable % 16 == 0);
        assert_int_equal((uintptr_t)block % 16, 0);
        if (size > heap->slab.max_size)
            assert_int_equal(usable, (size + slice - 1) / slice * slice);
        if (size > 128)
            assert_true((usable - size) * 8 <= usable);
        else
            assert_true(usable - size < 16);
        assert_ok(hshm_free(heap, block));
    }
    assert_emptied(heap);
    usual_end();
}

static void
inline_calls_do_what_plain_calls_do(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    static void *blocks[4000];
    for (size_t i = 0; i < COUNTOF(blocks); i++) {
        const size_t size = i * 7 % 1300; /* beyond what is inline, too */
        blocks[i] = i % 3 == 0 ? hshm_malloc(heap, size) : hshm_malloc_inline(heap, size);
        assert_true(hshm_usable_size(heap, blocks[i]) >= size);
        block_fill(blocks[i], size, i);
    }
    for (size_t i = 0; i < COUNTOF(blocks); i++) {
        assert_block(heap, blocks[i], i * 7 % 1300, i);
        assert_ok(i % 2 == 0 ? hshm_free(heap, blocks[i]) : hshm_free_inline(heap, blocks[i]));
    }
    assert_ok(hshm_free_inline(heap, NULL));
    assert_null(hshm_malloc_inline(heap, 1024 * MIB));
    assert_int_equal(stats_of(heap).allocs, COUNTOF(blocks));
    assert_emptied(heap);
    assert_sound(heap);
    usual_end();
}

/* ---- alignment ---- */

static void
align_all(hshm_allocator *heap, uint64_t most)
{
    static const size_t sizes[] = { 0, 1, 16, 100, 1000, 5000, 70000, 600000 };
    for (size_t alignment = 1; alignment <= most; alignment *= 2) {
        void *held[COUNTOF(sizes)][2];
        for (size_t i = 0; i < COUNTOF(sizes); i++) {
            for (size_t at = 0; at < 2; at++) {
                held[i][at] = hshm_aligned_alloc(heap, alignment, sizes[i]);
                if (held[i][at] == NULL)
                    continue; /* the largest do not fit beside each other */
                assert_int_equal((uintptr_t)held[i][at] % (alignment < 16 ? 16 : alignment), 0);
                assert_true(hshm_usable_size(heap, held[i][at]) >= sizes[i]);
                sample_fill(held[i][at], sizes[i], i * 2 + at);
            }
        }
        assert_non_null(held[0][0]);
        assert_sound(heap);
        for (size_t i = 0; i < 2 * COUNTOF(sizes); i++) {
            void *block = held[i / 2][i % 2];
            if (block == NULL)
                continue;
            assert_true(sample_holds(block, sizes[i / 2], sizes[i / 2], i));
            if (alignment > 16)
                assert_status(hshm_free(heap, (unsigned char *)block - 16), HSHM_E_BADFREE);
            assert_ok(hshm_free(heap, block));
        }
        assert_int_equal(stats_of(heap).live_blocks, 0);
    }
    assert_emptied(heap);
    assert_sound(heap);
}

static void
any_alignment_that_fits_is_met(hshm_allocator_kind kind)
{
    static const struct place places[] = {
        { "", HSHM_BACKEND_POSIX_SHM_MMAP, 64 * MIB, 0, 0, false },
        { "", HSHM_BACKEND_MALLOC, 64 * MIB, 0, 0, false },
        { "", HSHM_BACKEND_ARRAY, 16 * MIB, 0, 64, false },
        { "", HSHM_BACKEND_ARRAY, 16 * MIB, 0, 4096, false },
    };
    for (size_t i = 0; i < COUNTOF(places); i++) {
        struct scene scene;
        scene_make(&scene, &places[i], kind, 0);
        align_all(scene.heap, places[i].size / 8);
        assert_null(hshm_aligned_alloc(scene.heap, (size_t)1 << 47, 1)); /* a multiple that no process has */
        assert_status(hshm_last_status(), HSHM_E_NOMEM);
        assert_null(hshm_aligned_alloc(scene.heap, SIZE_MAX / 2 + 1, SIZE_MAX));
        assert_null(hshm_aligned_alloc(scene.heap, 4096, SIZE_MAX - 100));
        scene_end(&scene);
    }
}

/* Small blocks all over the heap, until nothing is left but holes; then aligned ones out of these. */
static void
alignment_is_met_when_room_is_short(hshm_allocator_kind kind)
{
    static const struct place place = { "", HSHM_BACKEND_MALLOC, MIB, 0, 0, false };
    struct scene scene;
    static void *blocks[MIB / 16];
    size_t count = 0;
    scene_make(&scene, &place, kind, 0);
    static const size_t sizes[] = { 112, 192, 320, 448, 576, 832 };
    for (; count < COUNTOF(blocks) && (blocks[count] = hshm_malloc(scene.heap, sizes[count % COUNTOF(sizes)])) != NULL;)
        count++;
    for (size_t i = 0; i < count; i += 2)
        assert_ok(hshm_free(scene.heap, blocks[i]));
    size_t got = 0;
    for (size_t i = 0; i < 2000; i++) {
        const size_t alignment = (size_t)32 << i % 5;
        void *block = hshm_aligned_alloc(scene.heap, alignment, 20);
        got += block != NULL;
        assert_int_equal((uintptr_t)block % alignment, 0);
    }
    assert_true(got > 0);
    assert_sound(scene.heap);
    scene_end(&scene);
}

/* ---- zeros ---- */

static void
zeroed_blocks_are_zero_where_others_wrote(hshm_allocator_kind kind)
{
    static const size_t sizes[] = { 1, 100, 1024, 3000, 60000, 500000, 600000, 3 * MIB };
    hshm_allocator *heap = usual_heap(kind);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNTOF(sizes); i++) {
            unsigned char *blocks[3];
            for (size_t at = 0; at < 3; at++) {
                blocks[at] = hshm_calloc(heap, 1, sizes[i]);
                assert_non_null(blocks[at]);
                for (size_t byte = 0; byte < sizes[i]; byte++) {
                    if (blocks[at][byte] != 0)
                        fail_msg("byte %zu of %zu", byte, sizes[i]);
                }
                memset(blocks[at], 0xff, hshm_usable_size(heap, blocks[at]));
            }
            for (size_t at = 0; at < 3; at++)
                assert_ok(hshm_free(heap, blocks[at]));
        }
        (void)hshm_trim(heap, 0, NULL); /* in between, pages that are zero again */
    }
    assert_emptied(heap);
    usual_end();
}

/* An array that was used for something else before it became a region. */
static void
an_array_that_was_dirty_gives_zeroed_blocks(hshm_allocator_kind kind)
{
    static const struct place place = { "", HSHM_BACKEND_ARRAY, 16 * MIB, 0, 0, false };
    struct scene scene;
    scene_make(&scene, &place, kind, 0);
    unsigned char *array = scene.heap->view.base;
    assert_ok(hshm_backend_destroy(NULL, 1));
    memset(array, 0xcc, place.size);
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.array = array;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, place.size, NULL, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, 0, NULL, &scene.heap));
    for (size_t size = 10; size < 4 * MIB; size *= 7) {
        const unsigned char *block = hshm_calloc(scene.heap, 1, size);
        assert_non_null(block);
        for (size_t i = 0; i < size; i++)
            assert_true(block[i] == 0);
    }
    assert_sound(scene.heap);
    scene_end(&scene);
}

/* ---- visitors ---- */

struct visit {
    hshm_allocator *heap;
    const unsigned char *end;
    uint64_t count;
};

static int
look_at_block(const hshm_block *block, void *arg)
{
    struct visit *visit = arg;
    assert_true((const unsigned char *)block->addr >= visit->end);
    assert_int_equal(block->off, hshm_to_off(visit->heap, block->addr));
    assert_int_equal(block->size, hshm_usable_size(visit->heap, block->addr));
    assert_int_equal(*(const uint64_t *)block->addr, (uintptr_t)block->addr);
    visit->end = (const unsigned char *)block->addr + block->size;
    visit->count++;
    return 0;
}

static void
a_visitor_sees_each_live_block_once_in_order(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    static uint64_t *blocks[1000];
    uint64_t random = test_seed();
    for (size_t i = 0; i < COUNTOF(blocks); i++) {
        const size_t size = 8 + next_random(&random) % (i % 100 == 0 ? 300000 : 3000);
        blocks[i] = i % 500 == 0 ? hshm_aligned_alloc(heap, 32768, 600000) : hshm_malloc(heap, size);
        assert_non_null(blocks[i]);
        *blocks[i] = (uintptr_t)blocks[i];
    }
    size_t freed = 0;
    for (size_t i = 0; i < COUNTOF(blocks); i += 3, freed++) {
        *blocks[i] = 0;
        assert_ok(hshm_free(heap, blocks[i]));
    }
    struct visit visit = { heap, NULL, 0 };
    assert_ok(hshm_visit_blocks(heap, look_at_block, &visit));
    assert_int_equal(visit.count, COUNTOF(blocks) - freed);
    usual_end();
}

/* ---- overruns ---- */

/* The tables lie before the data, so that a block that is overrun reaches blocks only; nor is anything kept in free room. */
static void
an_overrun_reaches_no_control_data(hshm_allocator_kind kind)
{
    static const struct place place = { "", HSHM_BACKEND_MALLOC, 16 * MIB, 0, 0, false };
    struct scene scene;
    scene_make(&scene, &place, kind, 100);
    const struct heap_layout *layout = &scene.heap->layout;
    const struct slab_heap *h = &scene.heap->slab;
    assert_true(layout->table_off + layout->table_size <= layout->root_off);
    assert_true(layout->root_off + layout->root_size <= layout->custom_off);
    assert_true(layout->custom_off + layout->custom_size <= layout->data_off);
    assert_ptr_equal(h->data, scene.heap->view.base + layout->data_off);
    assert_int_equal(layout->data_size, h->count << h->shift);
    assert_true(h->records + h->count * h->record_size <= scene.heap->view.base + layout->root_off);
    assert_true((unsigned char *)(h->root + 1) <= h->data);

    void *blocks[200];
    for (size_t i = 0; i < COUNTOF(blocks); i++)
        blocks[i] = hshm_malloc(scene.heap, i * 37);
    for (size_t i = 0; i < COUNTOF(blocks); i += 2)
        assert_ok(hshm_free(scene.heap, blocks[i]));
    const hshm_stats before = stats_of(scene.heap);
    memset(h->data, 0xff, layout->data_size); /* from the first block to the end of all */
    assert_same_stats(scene.heap, before);
    assert_sound(scene.heap);
    for (size_t i = 1; i < COUNTOF(blocks); i += 2)
        assert_ok(hshm_free(scene.heap, blocks[i]));
    for (size_t i = 0; i < COUNTOF(blocks); i++)
        assert_non_null(hshm_malloc(scene.heap, i * 37));
    assert_sound(scene.heap);
    scene_end(&scene);
}

int
main(void)
{
    static const struct kind_case cases[] = {
        KIND_CASE(a_block_is_at_most_an_eighth_larger_than_asked),
        KIND_CASE(inline_calls_do_what_plain_calls_do),
        KIND_CASE(any_alignment_that_fits_is_met),
        KIND_CASE(alignment_is_met_when_room_is_short),
        KIND_CASE(zeroed_blocks_are_zero_where_others_wrote),
        KIND_CASE(an_array_that_was_dirty_gives_zeroed_blocks),
        KIND_CASE(a_visitor_sees_each_live_block_once_in_order),
        KIND_CASE(an_overrun_reaches_no_control_data),
    };
    return run_kinds("slab.blocks", cases, COUNTOF(cases));
}
