/*
 * blocks.c - see blocks.h.
 */
#include "blocks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "allocator/allocator.h"

hshm_allocator_kind heap_kinds[3] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_SCALABLE_PAGE, HSHM_ALLOCATOR_THREAD_LOCAL };

static uint64_t
pattern_word(uint64_t key, uint64_t at)
{
    uint64_t state = key * UINT64_C(0x100000001b3) + at;
    return next_random(&state);
}

void
block_fill(void *addr, size_t size, uint64_t key)
{
    unsigned char *bytes = addr;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        const uint64_t word = pattern_word(key, at);
        memcpy(bytes + at, &word, size - at < sizeof word ? size - at : sizeof word);
    }
}

bool
block_holds(const void *addr, size_t size, uint64_t key)
{
    const unsigned char *bytes = addr;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        const uint64_t word = pattern_word(key, at);
        if (memcmp(bytes + at, &word, size - at < sizeof word ? size - at : sizeof word) != 0)
            return false;
    }
    return true;
}

/* Is it memory that the processor may touch?  (Of a Malloc heap all is.) */
static bool
is_in_reach(const hshm_allocator *heap)
{
    return heap->system.device == NULL;
}

void
heap_fill(hshm_allocator *heap, void *addr, size_t size, uint64_t key)
{
    if (is_in_reach(heap)) {
        block_fill(addr, size, key);
        return;
    }
    void *bytes = malloc(size);
    assert_non_null(bytes);
    block_fill(bytes, size, key);
    assert_ok(hshm_copy_to(heap, addr, bytes, size));
    free(bytes);
}

/* The bytes, here; to be freed unless they are there anyway. */
static const unsigned char *
fetch(hshm_allocator *heap, const void *addr, size_t size, void **ret_copy)
{
    *ret_copy = NULL;
    if (is_in_reach(heap))
        return addr;
    *ret_copy = malloc(size);
    assert_non_null(*ret_copy);
    assert_ok(hshm_copy_from(heap, *ret_copy, addr, size));
    return *ret_copy;
}

bool
heap_holds(hshm_allocator *heap, const void *addr, size_t size, uint64_t key)
{
    void *copy;
    const bool holds = block_holds(fetch(heap, addr, size, &copy), size, key);
    free(copy);
    return holds;
}

bool
heap_is_all(hshm_allocator *heap, const void *addr, size_t size, int byte)
{
    void *copy;
    bool is_all = true;
    const unsigned char *bytes = fetch(heap, addr, size, &copy);
    for (size_t i = 0; i < size; i++)
        is_all = is_all && bytes[i] == byte;
    free(copy);
    return is_all;
}

void
support_assert_block(hshm_allocator *heap, const void *addr, size_t size, uint64_t key, const char *file, int line)
{
    const size_t usable = hshm_usable_size(heap, addr);
    const bool whole = usable >= size && usable > 0 && block_holds(addr, size, key);
    if (whole)
        return;
    print_error("block at %p of %zu bytes, key %" PRIu64 ": usable size %zu, content %s\n", addr, size, key, usable,
                block_holds(addr, size, key) ? "as written" : "changed");
    _fail(file, line);
}

hshm_stats
stats_of(hshm_allocator *heap)
{
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    return stats;
}

struct figure {
    const char *name;
    uint64_t before, now;
};

void
support_assert_same_stats(hshm_allocator *heap, hshm_stats before, const char *file, int line)
{
    const hshm_stats now = stats_of(heap);
    const struct figure figures[] = {
        { "region_bytes", before.region_bytes, now.region_bytes },
        { "data_bytes", before.data_bytes, now.data_bytes },
        { "live_bytes", before.live_bytes, now.live_bytes },
        { "live_blocks", before.live_blocks, now.live_blocks },
        { "used_bytes", before.used_bytes, now.used_bytes },
        { "peak_bytes", before.peak_bytes, now.peak_bytes },
        { "free_bytes", before.free_bytes, now.free_bytes },
        { "largest_free", before.largest_free, now.largest_free },
        { "allocs", before.allocs, now.allocs },
        { "frees", before.frees, now.frees },
        { "failures", before.failures, now.failures },
    };
    bool same = true;
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        if (figures[i].before == figures[i].now)
            continue;
        print_error("%s was %" PRIu64 ", is %" PRIu64 "\n", figures[i].name, figures[i].before, figures[i].now);
        same = false;
    }
    if (!same)
        _fail(file, line);
}

void
support_assert_sound(hshm_allocator *heap, const char *file, int line)
{
    if (allocator_check(heap) == HSHM_OK)
        return;
    print_error("the heap is not sound: %s\n", hshm_last_error());
    _fail(file, line);
}

bool
cuts_slabs(hshm_allocator_kind kind)
{
    return kind == HSHM_ALLOCATOR_SCALABLE_PAGE || kind == HSHM_ALLOCATOR_THREAD_LOCAL;
}

void
support_assert_emptied(hshm_allocator *heap, const char *file, int line)
{
    hshm_stats stats = stats_of(heap);
    bool good = stats.live_blocks == 0 && stats.live_bytes == 0;
    if (good && cuts_slabs(hshm_allocator_kind_of(heap))) {
        void *all = hshm_malloc(heap, (size_t)stats.data_bytes);
        good = all != NULL && hshm_free(heap, all) == HSHM_OK;
        stats = stats_of(heap);
        /* In the smallest heaps that block lay in a slab itself. */
        if (good && stats.used_bytes == stats.data_bytes && stats.data_bytes <= heap->slab.max_size)
            return;
    }
    if (good && stats.used_bytes == 0)
        return;
    print_error("%" PRIu64 " blocks are live (%" PRIu64 " bytes), %" PRIu64 " bytes are used; %s\n", stats.live_blocks,
                stats.live_bytes, stats.used_bytes, hshm_last_error());
    _fail(file, line);
}

uint64_t
stack_rounded(size_t size)
{
    return size == 0 ? GRANULE : ((uint64_t)size + GRANULE - 1) / GRANULE * GRANULE;
}

int
drop_heaps(void **state)
{
    (void)state;
    hshm_manager_destroy(NULL);
    return 0;
}
