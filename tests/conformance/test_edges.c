/*
 * test_edges.c - what every heap does at the edges of its calls: nothing, too much, too often, another's.
 */
#include "blocks.h"
#include "base/compiler.h"
#include "rows.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 256 * 1024, FILL_SIZE = 64 };

static const struct row *
row_of(void **state)
{
    return *state;
}

/* ---- blocks ---- */

static void
no_bytes_are_a_block_of_their_own(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    unsigned char *first = hshm_malloc(stage.heap, 0);
    unsigned char *second = hshm_calloc(stage.heap, 0, 8);
    unsigned char *third = hshm_aligned_alloc(stage.heap, 64, 0);
    assert_non_null(first);
    assert_non_null(second);
    assert_non_null(third);
    assert_ptr_not_equal(first, second);
    assert_ptr_not_equal(second, third);
    assert_true(hshm_usable_size(stage.heap, first) > 0);
    third = hshm_realloc(stage.heap, third, 0); /* of the smallest size, and not freed */
    assert_non_null(third);
    assert_int_equal(stats_of(stage.heap).live_blocks, 3);
    assert_ok(hshm_free(stage.heap, first));
    assert_ok(hshm_free(stage.heap, second));
    assert_ok(hshm_free(stage.heap, third));
    assert_status(hshm_free(stage.heap, second), HSHM_E_BADFREE);
    assert_sound(stage.heap);
    stage_end(&stage);
}

static size_t
fill(hshm_allocator *heap, void **blocks, size_t capacity)
{
    size_t count = 0;
    for (void *block = hshm_malloc(heap, FILL_SIZE); block != NULL; block = hshm_malloc(heap, FILL_SIZE)) {
        assert_true(count < capacity);
        block_fill(block, FILL_SIZE, count);
        blocks[count++] = block;
    }
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    return count;
}

static void
free_in_any_order(hshm_allocator *heap, void **blocks, size_t count, uint64_t *random)
{
    for (size_t left = count; left > 0; left--) {
        const size_t at = (size_t)(next_random(random) % left);
        assert_ok(hshm_free(heap, blocks[at]));
        blocks[at] = blocks[left - 1];
    }
}

static void
a_full_heap_says_so_and_is_as_good_as_new_when_emptied(void **state)
{
    struct stage stage;
    uint64_t random = test_seed();
    static void *blocks[SIZE / FILL_SIZE];
    stage_make(&stage, row_of(state), SIZE, 0);
    size_t first_count = 0;
    for (int round = 0; round < 3; round++) {
        const size_t count = fill(stage.heap, blocks, COUNTOF(blocks));
        assert_true(count * FILL_SIZE > SIZE * 3 / 4);
        if (round == 0)
            first_count = count;
        if (stage.row->allocator != HSHM_ALLOCATOR_MALLOC)
            assert_int_equal(count, first_count);
        else /* the C library gives some blocks a little more than asked, not always the same ones */
            assert_in_range(count, first_count - first_count / 100, first_count + first_count / 100);
        assert_int_equal(stats_of(stage.heap).failures, round + 1);
        for (size_t i = 0; i < count; i++)
            assert_true(block_holds(blocks[i], FILL_SIZE, i));
        assert_sound(stage.heap);
        free_in_any_order(stage.heap, blocks, count, &random);
        assert_emptied(stage.heap);
        assert_sound(stage.heap);
    }
    stage_end(&stage);
}

static void
a_pointer_into_another_heap_is_refused(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    hshm_ptr block;
    assert_ok(hshm_allocate(stage.heap, 100, &block));
    const hshm_stats before = stats_of(stage.heap);
    hshm_ptr other = { NULL, { { STAGE_MAJOR, STAGE_MINOR + 1 }, block.shm.off } };
    assert_status(hshm_deallocate(stage.heap, &other), HSHM_E_BADFREE);
    assert_sentence("belongs to heap 70.78");
    assert_status(hshm_reallocate(stage.heap, &other, 5000), HSHM_E_BADFREE);
    assert_int_equal(other.shm.off, block.shm.off);
    assert_same_stats(stage.heap, before);

    other.shm.allocator = STAGE_ID;
    assert_ok(hshm_deallocate(stage.heap, &other));
    assert_int_equal(stats_of(stage.heap).live_blocks, 0);
    stage_end(&stage);
}

static void
a_failed_resize_leaves_block_and_pointer(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    hshm_ptr block;
    assert_ok(hshm_allocate(stage.heap, 1000, &block));
    block_fill(block.addr, 1000, 5);
    const hshm_ptr before = block;
    assert_status(hshm_reallocate(stage.heap, &block, SIZE), HSHM_E_NOMEM);
    assert_ptr_equal(block.addr, before.addr);
    assert_int_equal(block.shm.off, before.shm.off);
    assert_null(hshm_realloc(stage.heap, block.addr, SIZE_MAX));
    assert_true(block_holds(block.addr, 1000, 5));
    assert_ok(hshm_deallocate(stage.heap, &block));

    /* From nothing it allocates. */
    assert_ok(hshm_reallocate(stage.heap, &block, 10));
    assert_non_null(block.addr);
    stage_end(&stage);
}

/* ---- arguments ---- */

static void
missing_arguments_are_told(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 8);
    assert_status(hshm_allocate(stage.heap, 1, NULL), HSHM_E_INVAL);
    assert_status(hshm_allocate_aligned(stage.heap, 1, 16, NULL), HSHM_E_INVAL);
    assert_status(hshm_deallocate(stage.heap, NULL), HSHM_E_INVAL);
    assert_status(hshm_reallocate(stage.heap, NULL, 1), HSHM_E_INVAL);
    assert_status(hshm_visit_blocks(stage.heap, NULL, NULL), HSHM_E_INVAL);
    assert_status(hshm_stats_get(stage.heap, NULL), HSHM_E_INVAL);
    assert_status(hshm_backend_info(stage.backend, NULL), HSHM_E_INVAL);
    assert_status(hshm_backend_info(NULL, NULL), HSHM_E_INVAL);
    assert_status(hshm_backend_sync(NULL), HSHM_E_INVAL);
    assert_status(hshm_allocator_get(stage.manager, STAGE_ID, HSHM_ALLOCATOR_ANY, NULL), HSHM_E_INVAL);
    hshm_stats stats = { .struct_size = 3 };
    assert_status(hshm_stats_get(stage.heap, &stats), HSHM_E_INVAL);
    hshm_backend_info_data info = { .struct_size = 0 };
    assert_status(hshm_backend_info(stage.backend, &info), HSHM_E_INVAL);
    assert_non_null(hshm_allocator_custom_header(stage.heap, NULL));
    assert_int_equal(stats_of(stage.heap).live_blocks, 0);
    stage_end(&stage);
}

static void
only_a_stack_has_marks(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 0);
    hshm_stack_height height = 12345;
    void *block = hshm_malloc(stage.heap, 10);
    if (stage.row->allocator == HSHM_ALLOCATOR_STACK) {
        assert_ok(hshm_stack_mark(stage.heap, &height));
        assert_non_null(hshm_malloc(stage.heap, 1000));
        assert_ok(hshm_stack_rewind(stage.heap, height));
        assert_int_equal(stats_of(stage.heap).live_blocks, 1);
        assert_ok(hshm_stack_reset(stage.heap));
        assert_int_equal(stats_of(stage.heap).live_blocks, 0);
    } else {
        assert_status(hshm_stack_mark(stage.heap, &height), HSHM_E_KIND);
        assert_int_equal(height, 12345);
        assert_status(hshm_stack_rewind(stage.heap, 0), HSHM_E_KIND);
        assert_status(hshm_stack_reset(stage.heap), HSHM_E_KIND);
        assert_ok(hshm_free(stage.heap, block));
    }
    stage_end(&stage);
}

/* An id means one thing in a list; whoever asks for it again changes nothing, and leaves nothing behind. */
static void
taken_ids_are_refused(void **state)
{
    struct stage stage;
    struct stage second;
    stage_make(&stage, row_of(state), SIZE, 0);
    stage_prepare(&second, row_of(state), SIZE);
    const struct footprint before = footprint_take();
    hshm_backend *backend = NULL;
    assert_status(hshm_backend_create(stage.manager, STAGE_BACKEND, second.row->backend, SIZE, second.url,
                                      &second.options, &backend),
                  HSHM_E_EXISTS);
    assert_null(backend);
    assert_footprint(before);
    assert_ok(hshm_backend_create(stage.manager, STAGE_BACKEND + 1, second.row->backend, SIZE, second.url,
                                  &second.options, NULL));
    assert_status(
        hshm_allocator_create(stage.manager, STAGE_BACKEND + 1, STAGE_ID, second.row->allocator, 0, NULL, &second.heap),
        HSHM_E_EXISTS);
    assert_null(second.heap);
    assert_ok(hshm_backend_destroy(stage.manager, STAGE_BACKEND + 1));
    assert_footprint(before);
    stage_end(&second);
    stage_end(&stage);
}

static void
other_sizes_to_keep_addresses_for_are_refused(void **state)
{
    struct stage stage;
    stage_prepare(&stage, row_of(state), SIZE);
    const struct footprint before = footprint_take();
    static const uint64_t others[] = { 1, SIZE / 2, SIZE + 65536, UINT64_MAX };
    for (size_t i = 0; i < COUNTOF(others); i++) {
        stage.options.max_size = others[i];
        assert_status(hshm_backend_create(NULL, 1, stage.row->backend, SIZE, stage.url, &stage.options, NULL),
                      HSHM_E_NOTSUP);
        assert_footprint(before);
    }
    stage_end(&stage);
}

/* ---- shared by many ---- */

enum { WORKERS = 3, WORKER_ROUNDS = 3000, WORKER_BLOCKS = 40 };

struct crew {
    struct stage *stage;
    struct step *start;
    uint64_t seed;
};

/* Take and free blocks of our own, and see that nobody else writes into them. */
static int
work_on_heap(void *arg)
{
    const struct crew *crew = arg;
    struct view view;
    void *blocks[WORKER_BLOCKS] = { NULL };
    size_t sizes[WORKER_BLOCKS] = { 0 };
    uint64_t random = crew->seed;
    view_open(&view, crew->stage, false);
    step_wait(crew->start, 1);
    for (uint64_t round = 0; round < WORKER_ROUNDS; round++) {
        const size_t at = (size_t)(next_random(&random) % WORKER_BLOCKS);
        if (blocks[at] != NULL) {
            assert_block(view.heap, blocks[at], sizes[at], crew->seed + at);
            assert_ok(hshm_free(view.heap, blocks[at]));
            blocks[at] = NULL;
            continue;
        }
        sizes[at] = (size_t)(next_random(&random) % 600);
        blocks[at] = hshm_malloc(view.heap, sizes[at]);
        if (blocks[at] != NULL)
            block_fill(blocks[at], sizes[at], crew->seed + at);
    }
    for (size_t i = 0; i < WORKER_BLOCKS; i++)
        assert_ok(hshm_free(view.heap, blocks[i]));
    view_close(&view);
    return 0;
}

static void
many_processes_work_at_once(void **state)
{
    struct stage stage;
    pid_t workers[WORKERS];
    stage_make(&stage, row_of(state), SIZE, 0);
    struct crew crew = { &stage, shared_bytes(sizeof(struct step)), test_seed() };
    for (size_t i = 0; i < WORKERS; i++) {
        crew.seed += 1000000;
        workers[i] = child_start(work_on_heap, &crew);
    }
    step_reach(crew.start);
    for (size_t i = 0; i < WORKERS; i++)
        assert_int_equal(child_wait(workers[i]), 0);
    assert_sound(stage.heap);
    const hshm_stats stats = stats_of(stage.heap);
    assert_int_equal(stats.live_blocks, 0);
    assert_emptied(stage.heap);
    assert_true(stats.frees > WORKERS * WORKER_ROUNDS / 10);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(stage.backend, &info));
    assert_int_equal(info.processes, 1);
    stage_end(&stage);
}

static int
write_where_reading_is_allowed(void *arg)
{
    struct stage *stage = arg;
    struct view view;
    view_open(&view, stage, true);
    *(volatile char *)hshm_allocator_custom_header(view.heap, NULL) = 1;
    return 0;
}

static void
a_reader_has_no_page_to_write_to(void **state)
{
    struct stage stage;
    stage_make(&stage, row_of(state), SIZE, 64);
    /* The pages of an array are its owner's: they stay as he mapped them. */
    assert_int_equal(child_run(write_where_reading_is_allowed, &stage), stage.memfd >= 0 ? 0 : 128 + SIGSEGV);
    stage_end(&stage);
}

/* ---- names ---- */

static bool
has_name(const struct row *row)
{
    return row->backend == HSHM_BACKEND_POSIX_SHM_MMAP || row->backend == HSHM_BACKEND_POSIX_MMAP;
}

static void
a_name_that_is_free_again_makes_another_region(void **state)
{
    struct stage stage;
    struct view old;
    struct view view;
    if (!has_name(row_of(state)))
        return; /* no name */
    stage_make(&stage, row_of(state), SIZE, 64);
    view_open(&old, &stage, false);
    strcpy(hshm_allocator_custom_header(old.heap, NULL), "old");
    assert_status(hshm_backend_create(NULL, 1, stage.row->backend, SIZE, stage.url, NULL, NULL), HSHM_E_EXISTS);
    assert_ok(hshm_backend_destroy(stage.manager, STAGE_BACKEND));

    assert_ok(hshm_backend_create(stage.manager, STAGE_BACKEND, stage.row->backend, SIZE, stage.url, NULL, NULL));
    assert_ok(hshm_allocator_create(stage.manager, STAGE_BACKEND, STAGE_ID, stage.row->allocator, 64, NULL, NULL));
    view_open(&view, &stage, false);
    assert_string_equal(hshm_allocator_custom_header(view.heap, NULL), "");
    assert_string_equal(hshm_allocator_custom_header(old.heap, NULL), "old");
    view_close(&view);
    view_close(&old);
    stage_end(&stage);
}

static int
make_backend_and_die(void *arg)
{
    const struct stage *stage = arg;
    assert_ok(hshm_backend_create(NULL, 1, stage->row->backend, SIZE, stage->url, NULL, NULL));
    return 0; /* by _exit(): no heap will ever be there */
}

static void
who_waits_for_the_dead_is_told(void **state)
{
    struct stage stage;
    struct view view;
    if (!has_name(row_of(state)))
        return; /* without a file nobody is ever taken for dead */
    stage_prepare(&stage, row_of(state), SIZE);
    assert_int_equal(child_run(make_backend_and_die, &stage), 0);
    const struct footprint before = footprint_take();
    assert_status(view_try(&view, &stage, false, 0), HSHM_E_NOTREADY);
    assert_sentence("is dead; remove it");
    view_close(&view);
    assert_status(view_try(&view, &stage, false, 3), HSHM_E_TIMEOUT);
    assert_sentence("waited 3 ms");
    assert_sentence("is dead; remove it");
    view_close(&view);
    assert_footprint(before);

    stage.options.replace = HSHM_REPLACE_DEAD;
    assert_ok(hshm_manager_create(&stage.manager));
    assert_ok(hshm_backend_create(stage.manager, STAGE_BACKEND, stage.row->backend, SIZE, stage.url, &stage.options,
                                  &stage.backend));
    assert_status(hshm_backend_create(NULL, 1, stage.row->backend, SIZE, stage.url, &stage.options, NULL), HSHM_E_BUSY);
    stage_end(&stage);
}

/* ---- commitment ---- */

/* How much of the mapping at `base` lies in this process's page tables. */
static uint64_t
resident(const void *base)
{
    char line[512];
    unsigned long begin = 0;
    unsigned long kib = 0;
    bool inside = false;
    FILE *maps = fopen("/proc/self/smaps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long end;
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            inside = begin == (unsigned long)(uintptr_t)base;
        else if (inside && sscanf(line, "Rss: %lu kB", &kib) == 1)
            break;
    }
    (void)fclose(maps);
    return (uint64_t)kib * 1024;
}

static void
prefaulted_pages_are_mapped_already(void **state)
{
    struct stage stage;
    if (!has_name(row_of(state)))
        return; /* their pages are shared with other memory, which cannot be told apart */
    for (int prefault = 0; prefault < 2; prefault++) {
        stage_prepare(&stage, row_of(state), SIZE);
        stage.options.commit = prefault ? HSHM_COMMIT_PREFAULT : HSHM_COMMIT_RESERVE;
        assert_ok(hshm_manager_create(&stage.manager));
        assert_ok(hshm_backend_create(stage.manager, STAGE_BACKEND, stage.row->backend, SIZE, stage.url, &stage.options,
                                      &stage.backend));
        hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
        assert_ok(hshm_backend_info(stage.backend, &info));
        if (prefault)
            assert_int_equal(resident(info.base), SIZE);
        else
            assert_in_range(resident(info.base), 1, SIZE / 2);
        stage_end(&stage);
    }
}

int
main(void)
{
#define CASE(name, shared_only)  \
    {                            \
#name, name, shared_only \
    }
    static const struct named_case cases[] = {
        CASE(no_bytes_are_a_block_of_their_own, false),
        CASE(a_full_heap_says_so_and_is_as_good_as_new_when_emptied, false),
        CASE(a_pointer_into_another_heap_is_refused, false),
        CASE(a_failed_resize_leaves_block_and_pointer, false),
        CASE(missing_arguments_are_told, false),
        CASE(only_a_stack_has_marks, false),
        CASE(taken_ids_are_refused, false),
        CASE(other_sizes_to_keep_addresses_for_are_refused, false),
        CASE(many_processes_work_at_once, true),
        CASE(a_reader_has_no_page_to_write_to, true),
        CASE(a_name_that_is_free_again_makes_another_region, true),
        CASE(who_waits_for_the_dead_is_told, true),
        CASE(prefaulted_pages_are_mapped_already, true),
    };
    return run_rows("edges", cases, COUNTOF(cases));
}
