/*
 * test_shared.c - one heap at two addresses: two managers of a process, and another program.
 */
#include "blocks.h"
#include "exchange.h"
#include "rows.h"

#include <inttypes.h>
#include <stdio.h>

enum { SIZE = 512 * 1024 };

/* The same program, with the same rows. */
#if defined(HSHM_TEST_ON_STANDINS)
#define HELPER "helper_conformance_standin"
#else
#define HELPER "helper_conformance"
#endif

static const struct row *
row_of(void **state)
{
    return *state;
}

static void
offsets_mean_the_same_at_two_addresses(void **state)
{
    struct stage stage;
    struct view view;
    stage_make(&stage, row_of(state), SIZE, 128);
    view_open(&view, &stage, false);
    assert_ptr_not_equal(hshm_to_addr(stage.heap, 64), hshm_to_addr(view.heap, 64));

    hshm_ptr block;
    assert_ok(hshm_allocate(stage.heap, 3000, &block));
    heap_fill(stage.heap, block.addr, 3000, 1);
    void *seen = NULL;
    assert_status(hshm_resolve(view.manager, block.shm, &seen), row_resolves(stage.row));
    if (row_is_on_device(stage.row))
        seen = hshm_to_addr(view.heap, block.shm.off);
    assert_ptr_not_equal(seen, block.addr);
    assert_true(heap_holds(view.heap, seen, 3000, 1));
    heap_fill(view.heap, seen, 3000, 2);
    assert_true(heap_holds(stage.heap, block.addr, 3000, 2));

    hshm_ptr by_offset = { NULL, block.shm };
    assert_ok(hshm_reallocate(view.heap, &by_offset, 6000));
    assert_true(heap_holds(view.heap, by_offset.addr, 3000, 2));
    by_offset.addr = NULL;
    assert_ok(hshm_deallocate(stage.heap, &by_offset));
    assert_int_equal(stats_of(view.heap).live_blocks, 0);
    view_close(&view);
    stage_end(&stage);
}

static void
aligned_blocks_are_aligned_at_both(void **state)
{
    struct stage stage;
    struct view view;
    stage_make(&stage, row_of(state), SIZE, 0);
    view_open(&view, &stage, false);
    /* An array is aligned as its owner mapped it. */
    const size_t most = stage.memfd >= 0 ? 4096 : 65536;
    for (size_t alignment = 16; alignment <= most; alignment *= 2) {
        hshm_ptr block;
        assert_ok(hshm_allocate_aligned(stage.heap, 8, alignment, &block));
        assert_int_equal((uintptr_t)hshm_to_addr(view.heap, block.shm.off) % alignment, 0);
    }
    view_close(&view);
    stage_end(&stage);
}

static void
each_manager_has_a_place_of_its_own(void **state)
{
    struct stage stage;
    struct view view;
    stage_make(&stage, row_of(state), SIZE, 0);
    view_open(&view, &stage, false);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(view.manager, STAGE_BACKEND), &info));
    assert_int_equal(info.slot, 1);
    assert_int_equal(info.processes, 2);
    assert_false(info.created_here);
    assert_ok(hshm_backend_info(stage.backend, &info));
    assert_int_equal(info.slot, 0);
    assert_int_equal(info.processes, 2);
    view_close(&view);
    assert_ok(hshm_backend_info(stage.backend, &info));
    assert_int_equal(info.processes, 1);
    stage_end(&stage);
}

static void
one_list_holds_an_id_once(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    const struct footprint before = footprint_take();
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.array = stage.array;
    options.array_size = stage.size;
    options.gpu_device = stage.row->device;
    assert_status(hshm_backend_attach(stage.manager, stage.row->backend, stage.url, &options, NULL), HSHM_E_EXISTS);
    assert_sentence("another manager");
    assert_footprint(before);
    assert_non_null(hshm_malloc(stage.heap, 10));
    stage_end(&stage);
}

static void
read_only_looks_and_does_not_touch(void **state)
{
    struct stage stage;
    struct view view;
    stage_make(&stage, row_of(state), SIZE, 64);
    hshm_ptr block;
    assert_ok(hshm_allocate(stage.heap, 500, &block));
    heap_fill(stage.heap, block.addr, 500, 9);
    view_open(&view, &stage, true);

    void *seen = hshm_to_addr(view.heap, block.shm.off);
    assert_true(heap_holds(view.heap, seen, 500, 9));
    assert_int_equal(hshm_usable_size(view.heap, seen), hshm_usable_size(stage.heap, block.addr));
    assert_same_stats(view.heap, stats_of(stage.heap));
    assert_non_null(hshm_allocator_custom_header(view.heap, NULL));
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(view.manager, STAGE_BACKEND), &info));
    assert_true(info.read_only);
    assert_int_equal(info.slot, UINT32_MAX);
    assert_int_equal(info.processes, 1);

    const hshm_stats before = stats_of(stage.heap);
    assert_null(hshm_malloc(view.heap, 10));
    assert_status(hshm_last_status(), HSHM_E_PERM);
    assert_null(hshm_calloc(view.heap, 1, 10));
    assert_null(hshm_aligned_alloc(view.heap, 256, 10));
    assert_null(hshm_realloc(view.heap, seen, 10));
    assert_status(hshm_last_status(), HSHM_E_PERM);
    assert_status(hshm_free(view.heap, seen), HSHM_E_PERM);
    assert_status(hshm_trim(view.heap, 0, NULL), HSHM_E_PERM);
    assert_status(hshm_recover(view.heap, NULL), HSHM_E_PERM);
    if (stage.row->allocator == HSHM_ALLOCATOR_STACK)
        assert_status(hshm_stack_reset(view.heap), HSHM_E_PERM);
    assert_status(hshm_allocator_create(view.manager, STAGE_BACKEND, (hshm_allocator_id){ 9, 9 }, stage.row->allocator,
                                        0, NULL, NULL),
                  HSHM_E_PERM);
    assert_same_stats(stage.heap, before);
    assert_ok(hshm_backend_sync(hshm_backend_get(view.manager, STAGE_BACKEND)));
    view_close(&view);
    stage_end(&stage);
}

static void
another_program_works_on_the_heap(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, sizeof(struct exchange));
    struct exchange *exchange = hshm_allocator_custom_header(stage.heap, NULL);
    exchange->word = EXCHANGE_FROM_TEST;
    for (uint32_t i = 0; i < EXCHANGE_BLOCKS; i++) {
        hshm_ptr block;
        assert_ok(hshm_allocate(stage.heap, EXCHANGE_SIZE(i), &block));
        heap_fill(stage.heap, block.addr, EXCHANGE_SIZE(i), i);
        exchange->blocks[i] = block.shm.off;
    }
    char words[4][32];
    char base[32];
    stage_words(&stage, words);
    (void)snprintf(base, sizeof base, "%" PRIxPTR, (uintptr_t)hshm_to_addr(stage.heap, 64) - 64);
    assert_int_equal(child_wait(helper_start(HELPER, words[0], words[1], words[2], words[3],
                                             stage.url == NULL ? "" : stage.url, base, NULL)),
                     0);
    assert_int_equal(exchange->word, EXCHANGE_FROM_HELPER);
    assert_int_not_equal(exchange->base, (uintptr_t)hshm_to_addr(stage.heap, 64) - 64);
    for (uint32_t i = 0; i < EXCHANGE_BLOCKS; i++) {
        void *block = hshm_to_addr(stage.heap, exchange->blocks[i]);
        assert_true(heap_holds(stage.heap, block, EXCHANGE_SIZE(i), i % 2 == 0 ? EXCHANGE_HELPERS + i : i));
        assert_ok(hshm_free(stage.heap, block));
    }
    assert_emptied(stage.heap);
    stage_end(&stage);
}

static void
a_region_without_a_heap_is_not_ready(void **state)
{
    struct stage stage;
    struct view view;
    stage_prepare(&stage, row_of(state), SIZE);
    assert_ok(hshm_manager_create(&stage.manager));
    assert_ok(
        hshm_backend_create(stage.manager, STAGE_BACKEND, stage.row->backend, SIZE, stage.url, &stage.options, NULL));
    assert_status(view_try(&view, &stage, false, 0), HSHM_E_NOTREADY);
    assert_sentence("hshm_allocator_create");
    view_close(&view);
    assert_status(view_try(&view, &stage, false, 5), HSHM_E_TIMEOUT);
    assert_sentence("hshm_allocator_create"); /* it says what was waited for */
    view_close(&view);
    assert_ok(hshm_allocator_create(stage.manager, STAGE_BACKEND, STAGE_ID, stage.row->allocator, 0, NULL, NULL));
    view_open(&view, &stage, false);
    view_close(&view);
    stage_end(&stage);
}

struct early {
    struct stage stage;
    struct step *step;
};

/* Attaches before there is anything; the step says that it has begun. */
static int
attach_early(void *arg)
{
    struct early *early = arg;
    struct view view;
    if (view_try(&view, &early->stage, false, 0) == HSHM_OK)
        return 1;
    view_close(&view);
    step_reach(early->step);
    if (view_try(&view, &early->stage, false, 20000) != HSHM_OK) {
        print_error("%s\n", hshm_last_error());
        return 2;
    }
    void *block = hshm_malloc(view.heap, 100);
    if (block == NULL || hshm_free(view.heap, block) != HSHM_OK)
        return 3;
    view_close(&view);
    return 0;
}

static void
who_comes_early_waits(void **state)
{
    struct early early;
    struct stage *stage = &early.stage;
    stage_prepare(stage, row_of(state), SIZE);
    if (stage->memfd >= 0) { /* an array is there, or it is not: nothing to wait for */
        stage_end(stage);
        return;
    }
    early.step = shared_bytes(sizeof *early.step);
    const pid_t child = child_start(attach_early, &early);
    step_wait(early.step, 1);
    assert_ok(hshm_manager_create(&stage->manager));
    assert_ok(hshm_backend_create(stage->manager, STAGE_BACKEND, stage->row->backend, SIZE, stage->url, &stage->options,
                                  NULL));
    assert_ok(hshm_allocator_create(stage->manager, STAGE_BACKEND, STAGE_ID, stage->row->allocator, 0, NULL, NULL));
    assert_int_equal(child_wait(child), 0);
    stage_end(stage);
}

static void
what_is_not_there_is_waited_for_as_long_as_asked(void **state)
{
    struct stage stage;
    struct view view;
    stage_prepare(&stage, row_of(state), SIZE);
    if (stage.memfd < 0) {
        assert_status(view_try(&view, &stage, false, 0), HSHM_E_NOTFOUND);
        view_close(&view);
        assert_status(view_try(&view, &stage, false, 3), HSHM_E_TIMEOUT);
        assert_sentence("waited 3 ms");
        view_close(&view);
    } else {
        /* Zeros are no region. */
        assert_status(view_try(&view, &stage, false, 3), HSHM_E_CORRUPT);
        view_close(&view);
    }
    stage_end(&stage);
}

static void
names_go_with_their_creator_only(void **state)
{
    struct stage stage;
    struct view view;
    stage_make(&stage, row_of(state), SIZE, 0);
    view_open(&view, &stage, false);
    const struct footprint with_name = footprint_take();
    assert_ok(hshm_backend_destroy(stage.manager, STAGE_BACKEND));
    if (stage.url != NULL)
        assert_int_equal(footprint_take().names, with_name.names - 1);
    /* Who is attached goes on. */
    void *block = hshm_malloc(view.heap, 1000);
    assert_non_null(block);
    heap_fill(view.heap, block, 1000, 3);
    assert_true(heap_holds(view.heap, block, 1000, 3));
    if (stage.url != NULL) {
        struct view late;
        assert_status(view_try(&late, &stage, false, 0), HSHM_E_NOTFOUND);
        view_close(&late);
    }
    view_close(&view);
    stage_end(&stage);
}

static void
detaching_leaves_the_heap_for_others(void **state)
{
    struct stage stage;
    struct view view;
    stage_make(&stage, row_of(state), SIZE, 0);
    hshm_ptr block;
    assert_ok(hshm_allocate(stage.heap, 100, &block));
    heap_fill(stage.heap, block.addr, 100, 4);
    assert_ok(hshm_backend_detach(stage.manager, STAGE_BACKEND));
    view_open(&view, &stage, false);
    assert_true(heap_holds(view.heap, hshm_to_addr(view.heap, block.shm.off), 100, 4));
    view_close(&view);
    if (stage.url != NULL)
        assert_ok(hshm_backend_remove(stage.row->backend, stage.url));
    stage_end(&stage);
}

int
main(void)
{
#define CASE(name)        \
    {                     \
#name, name, true \
    }
    static const struct named_case cases[] = {
        CASE(offsets_mean_the_same_at_two_addresses),
        CASE(aligned_blocks_are_aligned_at_both),
        CASE(each_manager_has_a_place_of_its_own),
        CASE(one_list_holds_an_id_once),
        CASE(read_only_looks_and_does_not_touch),
        CASE(another_program_works_on_the_heap),
        CASE(a_region_without_a_heap_is_not_ready),
        CASE(who_comes_early_waits),
        CASE(what_is_not_there_is_waited_for_as_long_as_asked),
        CASE(names_go_with_their_creator_only),
        CASE(detaching_leaves_the_heap_for_others),
    };
    return run_rows("shared", cases, sizeof cases / sizeof cases[0]);
}
