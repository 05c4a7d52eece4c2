/*
 * test_options.c - how much memory is promised when, permissions, and sizes: for each kind that lives in a file.
 */
#include "blocks.h"
#include "rows.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 1024 * 1024, PAGE = 4096 };

static const struct row *
row_of(void **state)
{
    return *state;
}

static bool
has_file(const struct row *row)
{
    return row->backend == HSHM_BACKEND_POSIX_SHM_MMAP || row->backend == HSHM_BACKEND_POSIX_MMAP;
}

/* Pages of the region's own hold the blocks, and nobody else has them. */
static bool
is_private(const struct row *row)
{
    return row->backend == HSHM_BACKEND_MALLOC && row->allocator != HSHM_ALLOCATOR_MALLOC;
}

static void
make_with(struct stage *stage, const struct row *row, size_t size, const hshm_backend_options *options)
{
    stage_prepare(stage, row, size);
    void *array = stage->options.array;
    stage->options = *options;
    stage->options.array = array;
    assert_ok(hshm_manager_create(&stage->manager));
    assert_ok(hshm_backend_create(stage->manager, STAGE_BACKEND, row->backend, size, stage->url, &stage->options,
                                  &stage->backend));
}

static void
make_heap_on(struct stage *stage)
{
    assert_ok(
        hshm_allocator_create(stage->manager, STAGE_BACKEND, STAGE_ID, stage->row->allocator, 0, NULL, &stage->heap));
}

static uint64_t
committed(struct stage *stage)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(stage->backend, &info));
    return info.committed;
}

static struct stat
stat_of(const struct stage *stage)
{
    char path[4096];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s%s", stage->url[0] == '/' ? "" : "/dev/shm/", stage->url);
    assert_int_equal(stat(path, &st), 0);
    return st;
}

static void
a_reserved_region_is_promised_as_a_whole(void **state)
{
    struct stage stage;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    make_with(&stage, row_of(state), SIZE, &options);
    assert_true(committed(&stage) >= SIZE);
    stage_end(&stage);
    options.commit = HSHM_COMMIT_PREFAULT;
    make_with(&stage, row_of(state), SIZE, &options);
    assert_true(committed(&stage) >= SIZE);
    make_heap_on(&stage);
    assert_non_null(hshm_malloc(stage.heap, SIZE / 2));
    stage_end(&stage);
}

static void
a_lazy_region_takes_what_is_touched(void **state)
{
    struct stage stage;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    make_with(&stage, row_of(state), SIZE, &options);
    make_heap_on(&stage);
    if (has_file(stage.row) || is_private(stage.row)) {
        const uint64_t empty = committed(&stage);
        assert_in_range(empty, PAGE, SIZE / 8); /* header, slots and root */
        block_fill(hshm_malloc(stage.heap, SIZE / 2), SIZE / 2, 1);
        /* A private region's tables come page by page too. */
        assert_in_range(committed(&stage), empty + SIZE / 2 - PAGE, empty + SIZE / 2 + 8 * PAGE);
    }
    stage_end(&stage);
}

static void
a_lazy_region_may_be_larger_than_memory(void **state)
{
    struct stage stage;
    struct view view;
    if (row_of(state)->backend != HSHM_BACKEND_POSIX_SHM_MMAP)
        return; /* a disk may refuse files of this size, and an array is there as a whole */
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    const size_t size = (size_t)64 << 30;
    make_with(&stage, row_of(state), size, &options);
    make_heap_on(&stage);
    view_open(&view, &stage, false);
    hshm_ptr block;
    assert_ok(hshm_allocate(view.heap, size / 2, &block)); /* nobody touches it */
    assert_ok(hshm_allocate(view.heap, 100, &block));
    block_fill(block.addr, 100, 7);
    assert_true(block_holds(hshm_to_addr(stage.heap, block.shm.off), 100, 7));
    /* Heaps of slabs have a word for each 64 KiB, written when they are taken. */
    const uint64_t words = cuts_slabs(stage.row->allocator) ? size / 65536 * sizeof(uint64_t) : 0;
    assert_in_range(committed(&stage), PAGE, SIZE + words);
    view_close(&view);
    stage_end(&stage);
}

static bool
base_is_aligned(const struct stage *stage, size_t alignment)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(stage->backend, &info));
    return ((uintptr_t)info.base & (alignment - 1)) == 0;
}

static void
a_lazy_private_region_is_pages_that_come_and_go(void **state)
{
    struct stage stage;
    if (!is_private(row_of(state)))
        return;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    const size_t size = (size_t)64 << 30; /* more than the machine has */
    make_with(&stage, row_of(state), size, &options);
    assert_true(base_is_aligned(&stage, (size_t)2 << 20));
    make_heap_on(&stage);
    const uint64_t empty = committed(&stage);
    assert_in_range(empty, PAGE, SIZE);
    unsigned char *block = hshm_malloc(stage.heap, 8 * SIZE);
    block_fill(block, 8 * SIZE, 3);
    assert_true(committed(&stage) >= empty + 8 * SIZE - PAGE);
    assert_ok(hshm_free(stage.heap, block));
    assert_ok(hshm_trim(stage.heap, 0, NULL));
    assert_in_range(committed(&stage), PAGE, SIZE);
    block = hshm_malloc(stage.heap, 8 * SIZE);
    /* A Stack's first block begins inside a page, which has the end of its tables too, and stays. */
    for (size_t i = PAGE; i < 8 * SIZE; i += PAGE / 2)
        assert_int_equal(block[i + PAGE / 4], 0);
    stage_end(&stage);
}

/* As allocators rely on it. */
static void
private_regions_are_aligned_by_their_size(void **state)
{
    struct stage stage;
    if (row_of(state)->backend != HSHM_BACKEND_MALLOC)
        return;
    const hshm_commit commits[] = { HSHM_COMMIT_RESERVE, HSHM_COMMIT_LAZY };
    const struct {
        size_t size, alignment;
    } wanted[] = { { 704, 64 }, { 16 * PAGE, PAGE }, { 16 * SIZE, 65536 }, { 100 * SIZE + 1, 65536 } };
    for (size_t i = 0; i < 8; i++) {
        hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
        options.commit = commits[i / 4];
        make_with(&stage, row_of(state), wanted[i % 4].size, &options);
        assert_true(base_is_aligned(&stage, wanted[i % 4].alignment));
        /* Heaps of slabs need more than the smallest region. */
        const bool small = wanted[i % 4].size < 16 * PAGE;
        if (!small || row_of(state)->allocator == HSHM_ALLOCATOR_STACK ||
            row_of(state)->allocator == HSHM_ALLOCATOR_MALLOC) {
            make_heap_on(&stage);
            assert_non_null(hshm_malloc(stage.heap, 16));
        }
        stage_end(&stage);
    }
}

static void
a_private_region_is_refused_where_there_is_no_room(void **state)
{
    struct stage stage;
    if (row_of(state)->backend != HSHM_BACKEND_MALLOC)
        return;
    stage_prepare(&stage, row_of(state), (size_t)1 << 59);
    stage.options.commit = HSHM_COMMIT_LAZY;
    assert_ok(hshm_manager_create(&stage.manager));
    const struct footprint before = footprint_take();
    assert_status(
        hshm_backend_create(stage.manager, STAGE_BACKEND, HSHM_BACKEND_MALLOC, stage.size, NULL, &stage.options, NULL),
        HSHM_E_NOSPC);
    assert_sentence("the address space has no");
    assert_footprint(before);
    stage_end(&stage);
}

static void
permissions_are_as_asked_whatever_the_umask(void **state)
{
    struct stage stage;
    if (!has_file(row_of(state)))
        return; /* no name that could have permissions */
    const mode_t modes[] = { 0, 0600, 0640, 0666, 0604 };
    const mode_t masks[] = { 022, 0777, 0 };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0] * 3; i++) {
        const mode_t before = umask(masks[i % 3]);
        hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
        options.mode = modes[i / 3];
        make_with(&stage, row_of(state), 65536, &options);
        (void)umask(before);
        assert_int_equal(stat_of(&stage).st_mode & 07777, options.mode == 0 ? 0600 : options.mode);
        stage_end(&stage);
    }
}

static void
sizes_are_whole_pages_where_pages_are_mapped(void **state)
{
    struct stage stage;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    make_with(&stage, row_of(state), 65536 + 1, &options);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(stage.backend, &info));
    assert_int_equal(info.size, has_file(stage.row) ? 65536 + PAGE : 65537);
    if (has_file(stage.row))
        assert_int_equal(stat_of(&stage).st_size, info.size);
    make_heap_on(&stage);
    assert_non_null(hshm_malloc(stage.heap, 100));
    stage_end(&stage);
}

static void
a_region_does_not_grow_yet(void **state)
{
    struct stage stage;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.max_size = SIZE;
    make_with(&stage, row_of(state), SIZE, &options);
    stage_end(&stage);

    stage_prepare(&stage, row_of(state), SIZE);
    stage.options.max_size = 2 * SIZE;
    assert_ok(hshm_manager_create(&stage.manager));
    assert_status(
        hshm_backend_create(stage.manager, STAGE_BACKEND, stage.row->backend, SIZE, stage.url, &stage.options, NULL),
        HSHM_E_NOTSUP);
    assert_sentence("HSHM_COMMIT_LAZY");
    stage_end(&stage);
}

static void
as_many_processes_as_slots_were_asked_for(void **state)
{
    struct stage stage;
    struct view view;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.slots = 1;
    make_with(&stage, row_of(state), 65536, &options);
    make_heap_on(&stage);
    if (stage.row->shared) {
        assert_status(view_try(&view, &stage, false, 0), HSHM_E_LIMIT);
        assert_sentence("options.slots");
        view_close(&view);
        view_open(&view, &stage, true); /* who only reads needs none */
        view_close(&view);
    }
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
        CASE(a_reserved_region_is_promised_as_a_whole),
        CASE(a_lazy_region_takes_what_is_touched),
        CASE(a_lazy_region_may_be_larger_than_memory),
        CASE(permissions_are_as_asked_whatever_the_umask),
        CASE(a_lazy_private_region_is_pages_that_come_and_go),
        CASE(private_regions_are_aligned_by_their_size),
        CASE(a_private_region_is_refused_where_there_is_no_room),
        CASE(sizes_are_whole_pages_where_pages_are_mapped),
        CASE(a_region_does_not_grow_yet),
        CASE(as_many_processes_as_slots_were_asked_for),
    };
    return run_rows("options", cases, sizeof cases / sizeof cases[0]);
}
