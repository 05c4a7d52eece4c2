/*
 * test_model.c - random calls on heaps of slabs, compared with a model that is nothing but a list of blocks.
 *
 * One thread.  Where a block comes to lie, the model does not foretell; but that it is large enough and aligned, lies in no
 * other, keeps its content, is visited, counted, freed once, and that a request only fails when the heap is short of room.
 *
 * HSHM_TEST_OPERATIONS=10000000 is for a long night.
 */
#include "scenes.h"

#include <stdlib.h>
#include <string.h>

enum { LIVE_MAX = 1500, CHECK_EVERY = 2000, OPERATIONS = 60000, RECENT = 64 };

struct live_block {
    unsigned char *addr;
    size_t usable;
    uint64_t key;
};

struct model {
    hshm_allocator *heap;
    struct slab_heap *slab;
    uint64_t region, most; /* bytes: the region, and the largest block in a slab */
    uint64_t random;
    uint64_t next_key;
    uint64_t allocs, frees, failures;
    size_t count;
    unsigned char *recent[RECENT]; /* addresses that were freed lately */
    struct live_block live[LIVE_MAX];
};

static uint64_t
below(struct model *model, uint64_t limit)
{
    return next_random(&model->random) % limit;
}

static void
fill(struct live_block *block)
{
    sample_fill(block->addr, block->usable, block->key);
}

static void
expect_content(const struct live_block *block, size_t kept)
{
    if (!sample_holds(block->addr, block->usable, kept, block->key))
        fail_msg("the block at %p of %zu bytes has changed", (void *)block->addr, block->usable);
}

/* A request may fail if what it needs was not free in one piece: whole slices, of a class that is larger by an eighth. */
static void
expect_no_room(struct model *model, size_t size, size_t alignment)
{
    const uint64_t slice = UINT64_C(1) << model->slab->shift;
    model->failures++;
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    if (size > model->region || alignment > model->region)
        return;
    const uint64_t padded = (size < alignment ? alignment : size) * 9 / 8 + slice;
    const uint64_t needed = (padded + slice - 1) / slice * slice + (alignment > slice ? alignment : 0);
    const hshm_stats stats = stats_of(model->heap);
    if (stats.largest_free >= needed + alignment)
        fail_msg("no room for %zu bytes aligned to %zu, with %llu free in one piece", size, alignment,
                 (unsigned long long)stats.largest_free);
}

static void
expect_new(struct model *model, void *addr, size_t size, size_t alignment)
{
    if (addr == NULL) {
        expect_no_room(model, size, alignment);
        return;
    }
    struct live_block block = { addr, hshm_usable_size(model->heap, addr), model->next_key++ };
    assert_true(block.usable >= size);
    assert_int_equal((uintptr_t)addr % alignment, 0);
    assert_true((uintptr_t)addr >= (uintptr_t)model->slab->data &&
                block.addr + block.usable <= slice_address(model->slab, model->slab->count));
    fill(&block); /* who lies in it notices */
    model->live[model->count++] = block;
    model->allocs++;
}

static size_t
some_size(struct model *model)
{
    return random_size(&model->random, model->region, model->most);
}

static void
try_malloc(struct model *model)
{
    const size_t size = some_size(model);
    expect_new(model, hshm_malloc(model->heap, size), size, 16);
}

static void
try_allocate(struct model *model)
{
    const size_t size = some_size(model);
    hshm_ptr ptr = HSHM_PTR_NULL;
    const hshm_status status = hshm_allocate(model->heap, size, &ptr);
    assert_true((status == HSHM_OK) == (ptr.addr != NULL));
    assert_int_equal(ptr.shm.off, hshm_to_off(model->heap, ptr.addr));
    expect_new(model, ptr.addr, size, 16);
}

static void
try_calloc(struct model *model)
{
    const size_t size = some_size(model);
    const unsigned char *addr = hshm_calloc(model->heap, 1, size);
    for (size_t i = 0; addr != NULL && i < size; i++) {
        if (addr[i] != 0)
            fail_msg("byte %zu of %zu is not zero", i, size);
    }
    expect_new(model, (void *)(uintptr_t)addr, size, 16);
}

static void
try_aligned(struct model *model)
{
    const size_t alignment = (size_t)1 << below(model, (uint64_t)(63 - __builtin_clzll(model->region)));
    const size_t size = some_size(model);
    expect_new(model, hshm_aligned_alloc(model->heap, alignment, size), size, alignment < 16 ? 16 : alignment);
}

static void
forget(struct model *model, size_t index)
{
    model->recent[model->frees++ % RECENT] = model->live[index].addr;
    model->live[index] = model->live[--model->count];
}

static void
free_one(struct model *model, size_t index)
{
    const struct live_block block = model->live[index];
    expect_content(&block, block.usable);
    hshm_ptr ptr = { block.addr, { { 1, 0 }, 0 } };
    if (below(model, 2) == 0)
        ptr = (hshm_ptr){ NULL, { { 1, 0 }, hshm_to_off(model->heap, ptr.addr) } };
    if (below(model, 2) == 0)
        assert_ok(hshm_deallocate(model->heap, &ptr));
    else
        assert_ok(hshm_free(model->heap, block.addr));
    forget(model, index);
}

static void
try_free(struct model *model)
{
    if (model->count > 0)
        free_one(model, below(model, 3) == 0 ? model->count - 1 : (size_t)below(model, model->count));
}

/* So that slabs become empty, and more than a few. */
static void
try_free_many(struct model *model)
{
    if (below(model, 300) != 0)
        return;
    for (uint64_t i = below(model, LIVE_MAX); i > 0; i--)
        try_free(model);
}

static void
try_realloc(struct model *model)
{
    if (model->count == 0)
        return;
    const size_t index = (size_t)below(model, model->count);
    struct live_block old = model->live[index];
    const size_t size = below(model, 3) == 0 ? old.usable + (size_t)below(model, 1000) : some_size(model);
    unsigned char *addr = hshm_realloc(model->heap, old.addr, size);
    if (addr == NULL) {
        expect_no_room(model, size, 16);
        if (size <= old.usable)
            fail_msg("a block of %zu bytes could not be made smaller, to %zu: %s", old.usable, size, hshm_last_error());
        expect_content(&old, old.usable);
        return;
    }
    const bool moved = addr != old.addr;
    if (moved) {
        assert_int_equal(hshm_usable_size(model->heap, old.addr), 0);
        model->recent[model->frees++ % RECENT] = old.addr;
        model->allocs++;
    }
    old.addr = addr;
    expect_content(&old, size < old.usable ? size : old.usable);
    old.usable = hshm_usable_size(model->heap, addr);
    assert_true(old.usable >= size);
    fill(&old);
    model->live[index] = old;
}

static bool
begins_a_block(const struct model *model, const unsigned char *addr)
{
    for (size_t i = 0; i < model->count; i++) {
        if (addr == model->live[i].addr)
            return true;
    }
    return false;
}

/* Somewhere in or around the region, inside of blocks, where blocks were. */
static void
try_wrong_free(struct model *model)
{
    unsigned char *addr = model->heap->view.base + below(model, model->region + 64);
    const uint64_t choice = below(model, 4);
    if (choice == 0 && model->count > 0) {
        const struct live_block *block = &model->live[below(model, model->count)];
        addr = block->addr + below(model, block->usable) / 16 * 16;
    } else if (choice == 1) {
        addr = model->recent[below(model, RECENT)];
    }
    if (addr == NULL || begins_a_block(model, addr))
        return;
    assert_status(hshm_free(model->heap, addr), HSHM_E_BADFREE);
    const size_t size = some_size(model);
    const void *moved = hshm_realloc(model->heap, addr, size);
    if (moved != NULL)
        fail_msg("a wrong address (%p, at %zu) was resized to %zu: %p", (void *)addr,
                 (size_t)(addr - model->slab->data), size, moved);
    assert_int_equal(hshm_usable_size(model->heap, addr), 0);
}

static void
try_trim(struct model *model)
{
    if (below(model, 500) != 0)
        return;
    uint64_t bytes = 0;
    const hshm_status status = hshm_trim(model->heap, below(model, model->region), &bytes);
    assert_true(status == HSHM_OK || status == HSHM_E_NOTSUP);
}

/* ---- comparing ---- */

static int
by_address(const void *a, const void *b)
{
    const struct live_block *left = a;
    const struct live_block *right = b;
    return left->addr < right->addr ? -1 : left->addr > right->addr;
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
    const struct live_block *expected = &comparison->model->live[comparison->at++];
    assert_ptr_equal(block->addr, expected->addr);
    assert_int_equal(block->size, expected->usable);
    assert_int_equal(block->off, hshm_to_off(comparison->model->heap, expected->addr));
    return 0;
}

static void
compare(struct model *model)
{
    qsort(model->live, model->count, sizeof model->live[0], by_address);
    struct comparison comparison = { model, 0 };
    uint64_t bytes = 0;
    for (size_t i = 0; i < model->count; i++) {
        expect_content(&model->live[i], model->live[i].usable);
        bytes += model->live[i].usable;
    }
    assert_ok(hshm_visit_blocks(model->heap, compare_block, &comparison));
    assert_int_equal(comparison.at, model->count);
    const hshm_stats stats = stats_of(model->heap);
    assert_int_equal(stats.live_blocks, model->count);
    assert_int_equal(stats.live_bytes, bytes);
    assert_int_equal(stats.frees, model->frees);
    assert_int_equal(stats.allocs, model->allocs);
    assert_int_equal(stats.failures, model->failures);
    assert_true(stats.used_bytes >= stats.live_bytes && stats.peak_bytes >= stats.used_bytes);
    assert_true(stats.used_bytes + stats.largest_free <= stats.data_bytes);
    assert_sound(model->heap);
}

/* As often as they stand here. */
static void (*const calls[])(struct model *) = {
    try_malloc,  try_malloc,  try_malloc,  try_malloc,     try_allocate,  try_allocate, try_calloc,
    try_aligned, try_realloc, try_realloc, try_wrong_free, try_free_many, try_trim,     try_free,
    try_free,    try_free,    try_free,    try_free,       try_free,      try_free,
};

static void
run_model(const struct place *place, hshm_allocator_kind kind)
{
    struct scene scene;
    struct model *model = test_calloc(1, sizeof *model);
    scene_make(&scene, place, kind, 100);
    *model =
        (struct model){ .heap = scene.heap, .slab = &scene.heap->slab, .region = place->size, .random = test_seed() };
    model->most = model->slab->max_size;
    const unsigned long count = operations(OPERATIONS);
    for (unsigned long i = 0; i < count; i++) {
        const bool crowded = model->count >= LIVE_MAX - 10;
        (crowded ? try_free : calls[below(model, COUNTOF(calls))])(model);
        if (i % CHECK_EVERY == 0)
            compare(model);
    }
    assert_true(model->failures > 0); /* the edge was reached, too */
    compare(model);
    while (model->count > 0)
        free_one(model, (size_t)below(model, model->count));
    compare(model);
    assert_emptied(scene.heap);
    assert_sound(scene.heap);
    test_free(model);
    scene_end(&scene);
}

static const struct place places[] = {
    { " in private memory", HSHM_BACKEND_MALLOC, 16 * MIB, 0, 0, false },
    { " in shared memory", HSHM_BACKEND_POSIX_SHM_MMAP, 32 * MIB, 0, 0, false },
    { " in shared memory, given back by the page", HSHM_BACKEND_POSIX_SHM_MMAP, 64 * MIB, 0, 0, true },
    { " in an array", HSHM_BACKEND_ARRAY, 16 * MIB, 0, 0, false },
    { " in an array that is aligned to 64 bytes only", HSHM_BACKEND_ARRAY, 16 * MIB, 0, 64, false },
    { " in 64 KiB", HSHM_BACKEND_ARRAY, 64 * KIB, 0, 0, false },
    { " in 1 MiB", HSHM_BACKEND_MALLOC, 1 * MIB, 0, 0, false },
    { " with blocks of 256 bytes", HSHM_BACKEND_MALLOC, 16 * MIB, 256, 0, false },
    { " with blocks of 4096 bytes", HSHM_BACKEND_POSIX_SHM_MMAP, 16 * MIB, 4096, 0, false },
};

int
main(void)
{
    return run_places("slab.model", places, COUNTOF(places), "random_calls_do_as_the_model", run_model);
}
