/*
 * heap_boost.c - Boost.Interprocess, the part in C; see heap_boost.h.
 */
#include "heap.h"

enum heap_answer
heap_open(const struct heap_options *options, bool create, heap_ref *ret_heap, char *why, size_t why_size)
{
    *ret_heap = heap_boost_open(options->name, options->region_bytes, create, why, why_size);
    return *ret_heap == NULL ? HEAP_FAILED : HEAP_OK;
}

void
heap_close(heap_ref heap)
{
    heap_boost_close(heap);
}

bool
heap_is_shared(const struct heap_options *options)
{
    (void)options;
    return true;
}

int64_t
heap_live_blocks(heap_ref heap)
{
    (void)heap;
    return -1;
}
