/*
 * test_model.c - thousands of random calls, compared with a model that is nothing but a list of blocks.
 *
 * A stack with one user is exact: a new block begins at the top (or at the next multiple of its alignment), the top is
 * where the highest live block ends, and a request fails if and only if that leads beyond the data.  So the model foretells
 * each address, each failure and each figure of the statistics.
 */
#include "blocks.h"

#include <string.h>

#include "allocator/allocator.h"

enum { REGION = 65536, OPERATIONS = 20000, LIVE_MAX = 256, CHECK_EVERY = 100 };

struct live_block {
    uint64_t begin, size; /* from the first byte of data; the size as rounded */
    uint64_t key;
};

struct model {
    hshm_allocator *heap;
    unsigned char *data;
    uint64_t data_size;
    uint64_t random;
    uint64_t next_key;
    uint64_t allocs, frees, failures, peak;
    size_t count;
    struct live_block live[LIVE_MAX]; /* ascending */
};

static uint64_t
model_top(const struct model *model)
{
    return model->count == 0 ? 0 : model->live[model->count - 1].begin + model->live[model->count - 1].size;
}

static uint64_t
below(struct model *model, uint64_t limit)
{
    return next_random(&model->random) % limit;
}

/* Mostly small, now and then large, seldom more than there is. */
static size_t
random_size(struct model *model)
{
    switch (below(model, 20)) {
    case 0:
        return (size_t)below(model, 8000);
    case 1:
        return (size_t)(500 + below(model, 30)); /* about as much as a word of the table holds */
    case 2:
        return below(model, 10) == 0 ? (size_t)next_random(&model->random) : (size_t)below(model, 3);
    default:
        return (size_t)below(model, 300);
    }
}

static void
fill(const struct model *model, struct live_block block)
{
    block_fill(model->data + block.begin, (size_t)block.size, block.key);
}

static void
expect_content(const struct model *model, struct live_block block, uint64_t size)
{
    assert_true(block_holds(model->data + block.begin, (size_t)size, block.key));
}

/* Is there room for `size` bytes at `begin`? */
static bool
fits(const struct model *model, uint64_t begin, size_t size)
{
    return size <= model->data_size && begin + stack_rounded(size) <= model->data_size;
}

static void
note_top(struct model *model)
{
    if (model_top(model) > model->peak)
        model->peak = model_top(model);
}

/* The heap answered `addr` to a request for `size` bytes that should begin at `begin`. */
static void
expect_new(struct model *model, const unsigned char *addr, uint64_t begin, size_t size)
{
    if (!fits(model, begin, size)) {
        assert_null(addr);
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        model->failures++;
        return;
    }
    assert_ptr_equal(addr, model->data + begin);
    const struct live_block block = { begin, stack_rounded(size), model->next_key++ };
    assert_int_equal(hshm_usable_size(model->heap, addr), block.size);
    model->live[model->count++] = block;
    model->allocs++;
    note_top(model);
    fill(model, block);
}

static void
try_malloc(struct model *model)
{
    const size_t size = random_size(model);
    expect_new(model, hshm_malloc(model->heap, size), model_top(model), size);
}

static void
try_calloc(struct model *model)
{
    const size_t size = (size_t)below(model, 700);
    const uint64_t begin = model_top(model);
    unsigned char *addr = hshm_calloc(model->heap, 1, size);
    for (size_t i = 0; addr != NULL && i < size; i++)
        assert_int_equal(addr[i], 0);
    expect_new(model, addr, begin, size);
}

static void
try_aligned(struct model *model)
{
    const size_t alignment = (size_t)1 << below(model, 13);
    const size_t size = random_size(model);
    const uint64_t granule = alignment < 16 ? 16 : alignment;
    const uint64_t top = (uintptr_t)model->data + model_top(model);
    const uint64_t begin = (top + granule - 1) / granule * granule - (uintptr_t)model->data;
    hshm_ptr ptr = HSHM_PTR_NULL;
    (void)hshm_allocate_aligned(model->heap, size, alignment, &ptr);
    expect_new(model, ptr.addr, begin, size);
    assert_int_equal(ptr.shm.off, hshm_to_off(model->heap, ptr.addr));
}

static void
forget(struct model *model, size_t index)
{
    model->count--;
    memmove(&model->live[index], &model->live[index + 1], (model->count - index) * sizeof model->live[0]);
    model->frees++;
}

static void
free_one(struct model *model, size_t index)
{
    const struct live_block block = model->live[index];
    expect_content(model, block, block.size);
    hshm_ptr ptr = { model->data + block.begin, { { 1, 0 }, 0 } };
    if (below(model, 2) == 0)
        ptr = (hshm_ptr){ NULL, { { 1, 0 }, hshm_to_off(model->heap, ptr.addr) } };
    assert_ok(hshm_deallocate(model->heap, &ptr));
    forget(model, index);
}

static void
try_free(struct model *model)
{
    if (model->count == 0)
        return;
    free_one(model, below(model, 2) == 0 ? model->count - 1 : (size_t)below(model, model->count));
}

/* To a place of its own: as malloc, copy, free. */
static void
expect_moved(struct model *model, size_t index, unsigned char *addr, size_t size)
{
    const struct live_block old = model->live[index];
    if (addr != NULL)
        assert_true(block_holds(addr, (size_t)old.size, old.key));
    const uint64_t failures = model->failures;
    expect_new(model, addr, model_top(model), size);
    if (model->failures == failures)
        forget(model, index);
    else
        expect_content(model, old, old.size);
}

static void
try_realloc(struct model *model)
{
    if (model->count == 0)
        return;
    const size_t index = (size_t)below(model, model->count);
    struct live_block *block = &model->live[index];
    const size_t size = random_size(model);
    unsigned char *addr = hshm_realloc(model->heap, model->data + block->begin, size);
    const bool in_place = size <= model->data_size && (stack_rounded(size) <= block->size ||
                                                       (index == model->count - 1 && fits(model, block->begin, size)));
    if (!in_place) {
        expect_moved(model, index, addr, size);
        return;
    }
    assert_ptr_equal(addr, model->data + block->begin);
    const uint64_t kept = stack_rounded(size) < block->size ? stack_rounded(size) : block->size;
    expect_content(model, *block, kept);
    block->size = stack_rounded(size);
    fill(model, *block);
    assert_int_equal(hshm_usable_size(model->heap, addr), block->size);
    note_top(model);
}

static bool
begins_a_block(const struct model *model, const unsigned char *addr)
{
    for (size_t i = 0; i < model->count; i++) {
        if (addr == model->data + model->live[i].begin)
            return true;
    }
    return false;
}

/* Somewhere in or around the region, most often where a block might begin. */
static void
try_wrong_free(struct model *model)
{
    unsigned char *addr = model->heap->view.base + below(model, REGION + 64);
    if (below(model, 4) != 0)
        addr = model->data + below(model, model_top(model) + 32) / 16 * 16;
    if (addr == NULL || begins_a_block(model, addr))
        return;
    assert_status(hshm_free(model->heap, addr), HSHM_E_BADFREE);
    assert_null(hshm_realloc(model->heap, addr, random_size(model)));
    assert_int_equal(hshm_usable_size(model->heap, addr), 0);
}

/* A mark, some blocks above it and a few freed beneath, and back. */
static void
try_rewind(struct model *model)
{
    hshm_stack_height mark = 0;
    assert_ok(hshm_stack_mark(model->heap, &mark));
    const uint64_t height = model_top(model);
    for (uint64_t i = below(model, 8); i > 0 && model->count < LIVE_MAX; i--)
        try_malloc(model);
    if (model_top(model) < height)
        return;
    if (below(model, 3) == 0)
        try_free(model);
    if (model_top(model) < height) {
        assert_status(hshm_stack_rewind(model->heap, mark), HSHM_E_INVAL);
        return;
    }
    assert_ok(hshm_stack_rewind(model->heap, mark));
    while (model->count > 0 && model_top(model) > height)
        forget(model, model->count - 1);
}

static void
compare_stats(const struct model *model)
{
    hshm_stats expected = stats_of(model->heap);
    expected.live_bytes = 0;
    for (size_t i = 0; i < model->count; i++)
        expected.live_bytes += model->live[i].size;
    expected.live_blocks = model->count;
    expected.used_bytes = model_top(model);
    expected.peak_bytes = model->peak;
    expected.free_bytes = model->data_size - expected.live_bytes;
    expected.largest_free = model->data_size - expected.used_bytes;
    expected.allocs = model->allocs;
    expected.frees = model->frees;
    expected.failures = model->failures;
    assert_same_stats(model->heap, expected);
}

struct comparison {
    const struct model *model;
    size_t at;
};

static int
compare_block(const hshm_block *block, void *arg)
{
    struct comparison *comparison = arg;
    assert_true(comparison->at < comparison->model->count);
    const struct live_block expected = comparison->model->live[comparison->at++];
    assert_ptr_equal(block->addr, comparison->model->data + expected.begin);
    assert_int_equal(block->size, expected.size);
    expect_content(comparison->model, expected, expected.size);
    return 0;
}

static void
compare(const struct model *model)
{
    struct comparison comparison = { model, 0 };
    assert_sound(model->heap);
    compare_stats(model);
    assert_ok(hshm_visit_blocks(model->heap, compare_block, &comparison));
    assert_int_equal(comparison.at, model->count);
}

/* As often as they stand here. */
static void (*const operations[])(struct model *) = {
    try_malloc,  try_malloc,  try_malloc,     try_malloc, try_malloc, try_malloc, try_calloc, try_aligned, try_aligned,
    try_realloc, try_realloc, try_wrong_free, try_rewind, try_free,   try_free,   try_free,   try_free,    try_free,
};

static void
one_operation(struct model *model)
{
    const bool crowded = model->count >= LIVE_MAX - 10;
    const size_t choice = (size_t)below(model, sizeof operations / sizeof operations[0]);
    (crowded ? try_free : operations[choice])(model);
}

static void
run_model(hshm_backend_kind kind, const char *url)
{
    struct model model = { .heap = make_heap(NULL, kind, url, REGION, HSHM_ALLOCATOR_STACK), .random = test_seed() };
    model.data = model.heap->data;
    model.data_size = stats_of(model.heap).data_bytes;
    for (int i = 0; i < OPERATIONS; i++) {
        one_operation(&model);
        assert_int_equal(stats_of(model.heap).used_bytes, model_top(&model));
        if (i % CHECK_EVERY == 0)
            compare(&model);
    }
    assert_true(model.failures > 0); /* the edge was reached, too */
    while (model.count > 0)
        free_one(&model, (size_t)below(&model, model.count));
    compare(&model);
    assert_int_equal(stats_of(model.heap).used_bytes, 0);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_stack_in_private_memory_does_as_the_model(void **state)
{
    (void)state;
    run_model(HSHM_BACKEND_MALLOC, NULL);
}

static void
a_stack_in_shared_memory_does_as_the_model(void **state)
{
    (void)state;
    run_model(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("model"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_stack_in_private_memory_does_as_the_model, drop_heaps),
        cmocka_unit_test_teardown(a_stack_in_shared_memory_does_as_the_model, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
