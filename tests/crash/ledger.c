/*
 * ledger.c - see ledger.h.
 */
#include "ledger.h"

#include <string.h>

#include "allocator/allocator.h"

enum { EDGE = 64, STACK_SLICE = 1024 };

struct worker
worker_make(hshm_allocator *heap, struct ledger *ledger, unsigned part, uint64_t seed)
{
    const bool slabs = cuts_slabs(hshm_allocator_kind_of(heap));
    return (struct worker){ .heap = heap,
                            .ledger = ledger,
                            .part = part,
                            .random = seed,
                            .slice = slabs ? UINT64_C(1) << heap->slab.shift : STACK_SLICE,
                            .data = heap->layout.data_size };
}

uint64_t
random_below(struct worker *w, uint64_t limit)
{
    return limit == 0 ? 0 : next_random(&w->random) % limit;
}

size_t
small_size(struct worker *w)
{
    return (size_t)random_below(w, random_below(w, 4) == 0 ? w->slice / 4 : 200);
}

size_t
medium_size(struct worker *w)
{
    return (size_t)(w->slice / 4 + random_below(w, w->slice * 7));
}

size_t
large_size(struct worker *w)
{
    return (size_t)(w->slice * 8 + 1 + random_below(w, w->slice * 10));
}

size_t
huge_size(struct worker *w)
{
    return (size_t)(w->data / 8 + random_below(w, w->data / 3));
}

size_t
any_size(struct worker *w)
{
    const uint64_t choice = random_below(w, 20);
    return choice < 16 ? small_size(w) : choice < 19 ? medium_size(w) : large_size(w);
}

/* ---- what is in blocks ---- */

hshm_allocator *
attach_anyhow(hshm_backend_kind backend, const char *url)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    if (backend == HSHM_BACKEND_GPU_MALLOC)
        options.gpu = HSHM_GPU_OPTIONAL;
    assert_ok(hshm_backend_attach(NULL, backend, url, &options, NULL));
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    return heap;
}

static bool
is_out_of_reach(hshm_allocator *heap, const void *block)
{
    return heap->system.device != NULL && hshm_device_ptr(heap, block) == NULL;
}

void
fill_held(hshm_allocator *heap, void *block, size_t size, uint64_t key)
{
    unsigned char *bytes = block;
    if (size == 0 || is_out_of_reach(heap, block))
        return;
    heap_fill(heap, bytes, size < EDGE ? size : EDGE, key);
    if (size >= 2 * EDGE)
        heap_fill(heap, bytes + size - EDGE, EDGE, key + 1);
}

bool
is_whole(hshm_allocator *heap, const void *block, const struct held *held, uint64_t kept)
{
    const unsigned char *bytes = block;
    const uint64_t first = held->size < EDGE ? held->size : EDGE;
    if (is_out_of_reach(heap, block))
        return true;
    /* block_fill() writes words: of the last, only whole bytes count, so a shorter prefix is looked at by words. */
    if (kept < first)
        return heap_holds(heap, bytes, kept / 8 * 8, held->key);
    return heap_holds(heap, bytes, first, held->key) &&
           (held->size < 2 * EDGE || kept < held->size ||
            heap_holds(heap, bytes + held->size - EDGE, EDGE, held->key + 1));
}

/* ---- entries ---- */

void
free_held(struct worker *w, struct held *held)
{
    void *block = hshm_to_addr(w->heap, held->off);
    if (!is_whole(w->heap, block, held, held->size))
        fail_msg("a block of %llu bytes was written to by another", (unsigned long long)held->size);
    held->off = 0;
    assert_ok(hshm_free(w->heap, block));
}

void
note_block(struct worker *w, void *block, size_t size)
{
    if (block == NULL)
        return;
    struct held *part = w->ledger->blocks[w->part];
    struct held *at = NULL;
    for (size_t i = 0; i < PART_BLOCKS && at == NULL; i++)
        at = part[i].off == 0 ? &part[i] : NULL;
    if (at == NULL) {
        at = &part[random_below(w, PART_BLOCKS)];
        free_held(w, at);
    }
    at->size = size;
    at->key = next_random(&w->random);
    fill_held(w->heap, block, size, at->key);
    at->off = hshm_to_off(w->heap, block);
}

struct held *
pick_block(struct worker *w, unsigned part, uint64_t from, uint64_t to)
{
    const size_t begin = (size_t)random_below(w, PART_BLOCKS);
    for (size_t i = 0; i < PART_BLOCKS; i++) {
        struct held *held = &w->ledger->blocks[part][(begin + i) % PART_BLOCKS];
        if (held->off != 0 && held->size >= from && held->size < to)
            return held;
    }
    return NULL;
}

void
free_down_to(struct worker *w, unsigned count)
{
    unsigned held = 0;
    for (size_t i = 0; i < PART_BLOCKS; i++)
        held += w->ledger->blocks[w->part][i].off != 0;
    while (held-- > count)
        free_held(w, pick_block(w, w->part, 0, UINT64_MAX));
}

/* ---- work ---- */

static void
resize_held(struct worker *w, struct held *held)
{
    const size_t size = any_size(w);
    const struct held before = *held;
    held->off = 0;
    void *block = hshm_realloc(w->heap, hshm_to_addr(w->heap, before.off), size);
    if (block == NULL) {
        held->off = before.off;
        return;
    }
    assert_true(is_whole(w->heap, block, &before, before.size < size ? before.size : size));
    note_block(w, block, size);
}

static void
call_once(struct worker *w)
{
    const uint64_t choice = random_below(w, 16);
    const size_t size = any_size(w);
    struct held *held = pick_block(w, w->part, 0, UINT64_MAX);
    if (choice < 7 && held != NULL)
        free_held(w, held);
    else if (choice < 8 && held != NULL)
        resize_held(w, held);
    else if (choice < 9)
        note_block(w, hshm_aligned_alloc(w->heap, (size_t)32 << random_below(w, 6), size), size);
    else if (choice < 10)
        note_block(w, hshm_calloc(w->heap, 1, size), size);
    else
        note_block(w, hshm_malloc(w->heap, size), size);
}

void
work(struct worker *w, unsigned calls)
{
    while (calls-- > 0)
        call_once(w);
    if (stats_of(w->heap).live_bytes > w->data / 2)
        free_down_to(w, 10);
}
