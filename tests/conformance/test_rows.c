/*
 * test_rows.c - what every heap does, whatever it is made of: one manager, one address.
 */
#include "blocks.h"
#include "rows.h"

#include <stdalign.h>
#include <string.h>

enum { SIZE = 256 * 1024, BLOCKS = 64 };

static const struct row *
row_of(void **state)
{
    return *state;
}

static void
a_backend_says_what_it_is(void **state)
{
    struct stage stage;
    struct stage second;
    stage_make(&stage, row_of(state), SIZE, 0);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(stage.backend, &info));
    assert_int_equal(info.kind, stage.row->backend);
    assert_int_equal(info.id, STAGE_BACKEND);
    if (row_is_on_device(stage.row)) /* addresses for the custom header come on top */
        assert_in_range(info.size, stage.size + 1, stage.size + (64 << 20));
    else
        assert_int_equal(info.size, SIZE);
    assert_in_range(info.committed, 1, stage.size + stage.size / 100 + 4096);
    assert_non_null(info.base);
    assert_true(info.created_here);
    assert_false(info.read_only);
    assert_true(info.ready);
    assert_int_equal(info.slots, 16);
    assert_int_equal(info.processes, 1);
    assert_int_equal(info.slot, 0);
    assert_string_equal(info.url, stage.url == NULL ? "" : stage.url);
    assert_ptr_equal(hshm_backend_get(stage.manager, STAGE_BACKEND), stage.backend);

    hshm_backend_info_data other = HSHM_BACKEND_INFO_INIT;
    stage_make(&second, row_of(state), SIZE, 0);
    assert_ok(hshm_backend_info(second.backend, &other));
    assert_memory_not_equal(info.uuid, other.uuid, sizeof info.uuid);
    stage_end(&second);
    stage_end(&stage);
}

static void
an_allocator_says_what_it_is(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    assert_int_equal(hshm_allocator_kind_of(stage.heap), stage.row->allocator);
    const hshm_allocator_id id = hshm_allocator_id_of(stage.heap);
    assert_int_equal(id.major, STAGE_MAJOR);
    assert_int_equal(id.minor, STAGE_MINOR);

    hshm_allocator *found = NULL;
    assert_ok(hshm_allocator_get(stage.manager, STAGE_ID, HSHM_ALLOCATOR_ANY, &found));
    assert_ptr_equal(found, stage.heap);
    found = NULL;
    for (int kind = HSHM_ALLOCATOR_STACK; kind <= HSHM_ALLOCATOR_MALLOC; kind++) {
        if (kind != (int)stage.row->allocator)
            assert_status(hshm_allocator_get(stage.manager, STAGE_ID, (hshm_allocator_kind)kind, &found), HSHM_E_KIND);
    }
    assert_status(hshm_allocator_get(stage.manager, (hshm_allocator_id){ STAGE_MAJOR, 0 }, HSHM_ALLOCATOR_ANY, &found),
                  HSHM_E_NOTFOUND);
    assert_null(found);
    stage_end(&stage);
}

static void
the_custom_header_is_zero_and_aligned(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 1000);
    size_t size = 0;
    unsigned char *header = hshm_allocator_custom_header(stage.heap, &size);
    assert_non_null(header);
    assert_int_equal(size, 1000);
    assert_int_equal((uintptr_t)header % 64, 0);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(header[i], 0);
    memset(header, 0xa5, size);
    void *block = hshm_calloc(stage.heap, 1, 4000);
    heap_fill(stage.heap, block, 4000, 1);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(header[i], 0xa5);
    assert_ok(hshm_free(stage.heap, block));
    stage_end(&stage);

    stage_make(&stage, row_of(state), SIZE, 0);
    assert_null(hshm_allocator_custom_header(stage.heap, &size));
    assert_int_equal(size, 0);
    stage_end(&stage);
}

static size_t
size_number(size_t i)
{
    return 1 + i * i * 7 % 997;
}

static void
blocks_keep_what_is_written(void **state)
{
    struct stage stage;
    hshm_ptr blocks[BLOCKS];
    stage_make(&stage, row_of(state), SIZE, 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_ok(hshm_allocate(stage.heap, size_number(i), &blocks[i]));
        assert_int_equal((uintptr_t)blocks[i].addr % 16, 0);
        assert_int_equal(blocks[i].shm.off, hshm_to_off(stage.heap, blocks[i].addr));
        assert_int_equal(blocks[i].shm.allocator.major, STAGE_MAJOR);
        heap_fill(stage.heap, blocks[i].addr, hshm_usable_size(stage.heap, blocks[i].addr), i);
    }
    for (size_t i = 0; i < BLOCKS; i += 2) /* every other one grows, and keeps its content */
        assert_ok(hshm_reallocate(stage.heap, &blocks[i], size_number(i) + 500));
    for (size_t i = 0; i < BLOCKS; i++)
        assert_true(heap_holds(stage.heap, blocks[i].addr, size_number(i), i));
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_ok(hshm_deallocate(stage.heap, &blocks[i]));
        assert_null(blocks[i].addr);
        assert_int_equal(blocks[i].shm.off, HSHM_OFF_NULL);
    }
    const hshm_stats stats = stats_of(stage.heap);
    assert_int_equal(stats.live_blocks, 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_true(stats.peak_bytes > 0);
    assert_int_equal(stats.allocs, stats.frees);
    assert_emptied(stage.heap);
    stage_end(&stage);
}

static void
alignment_is_as_asked(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    for (size_t alignment = 1; alignment <= 16384; alignment *= 2) {
        void *block = hshm_aligned_alloc(stage.heap, alignment, 100);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % alignment, 0);
        hshm_ptr pointer;
        assert_ok(hshm_allocate_aligned(stage.heap, 1, alignment, &pointer));
        assert_int_equal((uintptr_t)pointer.addr % alignment, 0);
        assert_ok(hshm_deallocate(stage.heap, &pointer));
        assert_ok(hshm_free(stage.heap, block));
    }
    assert_null(hshm_aligned_alloc(stage.heap, 48, 100));
    assert_status(hshm_last_status(), HSHM_E_INVAL);
    stage_end(&stage);
}

static void
zeroed_memory_is_zero_and_products_are_checked(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    void *dirty = hshm_malloc(stage.heap, 5000);
    heap_fill(stage.heap, dirty, 5000, 1);
    assert_ok(hshm_free(stage.heap, dirty));
    const unsigned char *zeroed = hshm_calloc(stage.heap, 1250, 4);
    assert_non_null(zeroed);
    assert_true(heap_is_all(stage.heap, zeroed, 5000, 0));
    assert_null(hshm_calloc(stage.heap, SIZE_MAX / 2, 3));
    assert_status(hshm_last_status(), HSHM_E_NOMEM);
    stage_end(&stage);
}

static void
pointers_travel(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 64);
    hshm_ptr pointer;
    assert_ok(hshm_allocate(stage.heap, 100, &pointer));
    assert_ptr_equal(hshm_to_addr(stage.heap, pointer.shm.off), pointer.addr);

    void *addr = NULL;
    assert_status(hshm_resolve(stage.manager, pointer.shm, &addr), row_resolves(stage.row));
    assert_ptr_equal(addr, row_is_on_device(stage.row) ? NULL : pointer.addr);
    hshm_shm_ptr travels = { { 0, 0 }, 0 };
    assert_ok(hshm_identify(stage.manager, pointer.addr, &travels));
    assert_int_equal(travels.off, pointer.shm.off);
    assert_int_equal(travels.allocator.major, STAGE_MAJOR);

    assert_ok(hshm_identify(stage.manager, hshm_allocator_custom_header(stage.heap, NULL), &travels));
    assert_ok(hshm_resolve(stage.manager, travels, &addr));
    assert_ptr_equal(addr, hshm_allocator_custom_header(stage.heap, NULL));

    int foreign;
    assert_status(hshm_identify(stage.manager, &foreign, &travels), HSHM_E_NOTFOUND);
    assert_status(hshm_resolve(stage.manager, (hshm_shm_ptr){ STAGE_ID, UINT64_C(1) << 62 }, &addr), HSHM_E_INVAL);
    assert_ok(hshm_resolve(stage.manager, (hshm_shm_ptr){ STAGE_ID, HSHM_OFF_NULL }, &addr));
    assert_null(addr);
    stage_end(&stage);
}

static void
wrong_frees_change_nothing(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 64);
    char *block = hshm_malloc(stage.heap, 200);
    char *gone = hshm_malloc(stage.heap, 200);
    assert_ok(hshm_free(stage.heap, gone));
    const hshm_stats before = stats_of(stage.heap);
    int foreign;
    void *const wrong[] = { block + 16,
                            block + 1,
                            gone,
                            &foreign,
                            (void *)(uintptr_t)16,
                            hshm_allocator_custom_header(stage.heap, NULL),
                            (void *)UINTPTR_MAX };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_status(hshm_free(stage.heap, wrong[i]), HSHM_E_BADFREE);
        assert_null(hshm_realloc(stage.heap, wrong[i], 10));
        assert_status(hshm_last_status(), HSHM_E_BADFREE);
        assert_int_equal(hshm_usable_size(stage.heap, wrong[i]), 0);
    }
    assert_same_stats(stage.heap, before);
    assert_ok(hshm_free(stage.heap, NULL));
    assert_ok(hshm_free(stage.heap, block));
    stage_end(&stage);
}

static void
too_much_is_refused_and_little_is_still_given(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    const size_t sizes[] = { stage.size + 1, SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        hshm_ptr pointer = { &stage, { { 1, 2 }, 3 } };
        assert_status(hshm_allocate(stage.heap, sizes[i], &pointer), HSHM_E_NOMEM);
        assert_ptr_equal(pointer.addr, &stage); /* untouched */
        assert_int_equal(pointer.shm.off, 3);
        void *block = hshm_malloc(stage.heap, 64);
        assert_non_null(block);
        assert_ok(hshm_free(stage.heap, block));
    }
    assert_int_equal(stats_of(stage.heap).failures, sizeof sizes / sizeof sizes[0]);
    stage_end(&stage);
}

/* 95 % of the region in one block; of heaps of slabs, whose tables are larger, that is promised from 16 MiB up. */
static void
the_largest_block_is_as_large_as_promised(void **state)
{
    struct stage stage;
    const size_t region = cuts_slabs(row_of(state)->allocator) ? (size_t)16 << 20 : SIZE;
    const size_t size = region / 100 * 95;
    stage_make(&stage, row_of(state), region, 0);
    void *block = hshm_malloc(stage.heap, size);
    assert_non_null(block);
    heap_fill(stage.heap, block, size, 5);
    assert_true(heap_holds(stage.heap, block, size, 5));
    assert_ok(hshm_free(stage.heap, block));
    stage_end(&stage);
}

static void
what_the_statistics_call_free_in_one_piece_can_be_one_block(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    for (size_t i = 0; i < BLOCKS; i++)
        assert_non_null(hshm_malloc(stage.heap, size_number(i)));
    const size_t largest = (size_t)stats_of(stage.heap).largest_free;
    /* The C library may round up, and what is rounded counts. */
    const size_t rounding = stage.row->allocator == HSHM_ALLOCATOR_MALLOC ? 8192 : 0;
    assert_true(largest > stage.size / 4);
    void *block = hshm_malloc(stage.heap, largest - rounding);
    assert_non_null(block);
    heap_fill(stage.heap, block, largest - rounding, 8);
    assert_sound(stage.heap);
    assert_ok(hshm_free(stage.heap, block));
    assert_null(hshm_malloc(stage.heap, largest + 1));
    stage_end(&stage);
}

struct tally {
    uint64_t blocks, bytes;
    uint64_t until;
};

static int
tally_block(const hshm_block *block, void *arg)
{
    struct tally *tally = arg;
    tally->blocks++;
    tally->bytes += block->size;
    return tally->blocks == tally->until;
}

static void
visits_and_statistics_agree(void **state)
{
    struct stage stage;
    void *blocks[BLOCKS];
    stage_make(&stage, row_of(state), SIZE, 0);
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = hshm_malloc(stage.heap, size_number(i));
    for (size_t i = 0; i < BLOCKS; i += 3)
        assert_ok(hshm_free(stage.heap, blocks[i]));
    struct tally tally = { 0, 0, 0 };
    assert_ok(hshm_visit_blocks(stage.heap, tally_block, &tally));
    const hshm_stats stats = stats_of(stage.heap);
    assert_int_equal(tally.blocks, BLOCKS - (BLOCKS + 2) / 3);
    assert_int_equal(stats.live_blocks, tally.blocks);
    assert_int_equal(stats.live_bytes, tally.bytes);
    assert_int_equal(stats.allocs, BLOCKS);
    assert_int_equal(stats.frees, (BLOCKS + 2) / 3);
    assert_true(stats.region_bytes == stage.size || row_is_on_device(stage.row));
    assert_int_equal(stats.free_bytes, stats.data_bytes - stats.live_bytes);

    tally = (struct tally){ 0, 0, 3 };
    assert_ok(hshm_visit_blocks(stage.heap, tally_block, &tally));
    assert_int_equal(tally.blocks, 3);
    stage_end(&stage);
}

/* Whatever a visitor wants to know or do about a block. */
static int
work_on_block(const hshm_block *block, void *arg)
{
    struct stage *stage = arg;
    hshm_shm_ptr travels;
    void *addr;
    if (hshm_usable_size(stage->heap, block->addr) != block->size ||
        hshm_identify(stage->manager, block->addr, &travels) != HSHM_OK ||
        hshm_resolve(stage->manager, travels, &addr) != row_resolves(stage->row) ||
        hshm_to_addr(stage->heap, travels.off) != block->addr)
        return 1;
    return hshm_free(stage->heap, block->addr) != HSHM_OK;
}

static void
a_visitor_may_do_what_it_likes(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    for (size_t i = 0; i < BLOCKS; i++)
        assert_non_null(hshm_malloc(stage.heap, size_number(i)));
    assert_ok(hshm_visit_blocks(stage.heap, work_on_block, &stage));
    assert_int_equal(stats_of(stage.heap).live_blocks, 0);
    assert_sound(stage.heap);
    stage_end(&stage);
}

static void
a_region_holds_one_heap(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    hshm_allocator *second = NULL;
    assert_status(hshm_allocator_create(stage.manager, STAGE_BACKEND, (hshm_allocator_id){ 1, 1 }, stage.row->allocator,
                                        0, NULL, &second),
                  HSHM_E_EXISTS);
    assert_null(second);
    assert_ok(hshm_allocator_unregister(stage.manager, STAGE_ID));
    assert_status(hshm_allocator_unregister(stage.manager, STAGE_ID), HSHM_E_NOTFOUND);
    /* Forgotten here, still in the region. */
    assert_status(hshm_allocator_create(stage.manager, STAGE_BACKEND, STAGE_ID, stage.row->allocator, 0, NULL, &second),
                  HSHM_E_EXISTS);
    stage_end(&stage);
}

static void
an_end_leaves_nothing(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 16); /* whatever is opened once and kept is opened now */
    stage_end(&stage);
    const struct footprint before = footprint_take();
    stage_make(&stage, row_of(state), SIZE, 16);
    assert_non_null(hshm_malloc(stage.heap, 10));
    assert_ok(hshm_backend_sync(stage.backend));
    assert_ok(hshm_backend_destroy(stage.manager, STAGE_BACKEND));
    assert_status(hshm_backend_destroy(stage.manager, STAGE_BACKEND), HSHM_E_NOTFOUND);
    assert_status(hshm_backend_detach(stage.manager, STAGE_BACKEND), HSHM_E_NOTFOUND);
    assert_null(hshm_backend_get(stage.manager, STAGE_BACKEND));
    stage_end(&stage);
    assert_footprint(before);
}

static void
private_memory_cannot_be_attached_to(void **state)
{
    struct stage stage;
    if (row_of(state)->shared)
        return; /* test_shared.c */
    stage_make(&stage, row_of(state), SIZE, 0);
    struct view view;
    assert_status(view_try(&view, &stage, false, 0), HSHM_E_NOTSUP);
    assert_sentence("private");
    view_close(&view);
    assert_status(hshm_backend_remove(stage.row->backend, "x"), HSHM_E_NOTSUP);
    stage_end(&stage);
}

/* A dead one: tests/slab/test_recover.c. */
static void
a_recovery_finds_nobody_among_the_living(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    assert_non_null(hshm_malloc(stage.heap, 100));
    const hshm_stats before = stats_of(stage.heap);
    hshm_recover_report report = { .struct_size = sizeof report, .processes = 7 };
    assert_ok(hshm_recover(stage.heap, &report));
    assert_int_equal(report.processes + report.threads + report.slabs + report.slices, 0);
    assert_ok(hshm_recover(stage.heap, NULL));
    report = (hshm_recover_report){ .struct_size = 1, .processes = 7 };
    assert_status(hshm_recover(stage.heap, &report), HSHM_E_INVAL);
    assert_int_equal(report.processes, 7);
    assert_same_stats(stage.heap, before);
    stage_end(&stage);
}

int
main(void)
{
#define CASE(name)         \
    {                      \
#name, name, false \
    }
    static const struct named_case cases[] = {
        CASE(a_backend_says_what_it_is),
        CASE(an_allocator_says_what_it_is),
        CASE(the_custom_header_is_zero_and_aligned),
        CASE(blocks_keep_what_is_written),
        CASE(alignment_is_as_asked),
        CASE(zeroed_memory_is_zero_and_products_are_checked),
        CASE(pointers_travel),
        CASE(wrong_frees_change_nothing),
        CASE(too_much_is_refused_and_little_is_still_given),
        CASE(the_largest_block_is_as_large_as_promised),
        CASE(what_the_statistics_call_free_in_one_piece_can_be_one_block),
        CASE(visits_and_statistics_agree),
        CASE(a_visitor_may_do_what_it_likes),
        CASE(a_region_holds_one_heap),
        CASE(a_recovery_finds_nobody_among_the_living),
        CASE(an_end_leaves_nothing),
        CASE(private_memory_cannot_be_attached_to),
    };
    return run_rows("rows", cases, sizeof cases / sizeof cases[0]);
}
