/*
 * heap_malloc.c - the malloc of this process; see heap_malloc.h.
 */
#include "heap.h"

enum heap_answer
heap_open(const struct heap_options *options, bool create, heap_ref *ret_heap, char *why, size_t why_size)
{
    (void)options;
    (void)create;
    (void)why;
    (void)why_size;
    *ret_heap = NULL;
    return HEAP_OK;
}

void
heap_close(heap_ref heap)
{
    (void)heap;
}

bool
heap_is_shared(const struct heap_options *options)
{
    (void)options;
    return false;
}

int64_t
heap_live_blocks(heap_ref heap)
{
    (void)heap;
    return -1;
}
