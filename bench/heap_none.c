/*
 * heap_none.c - no heap; see heap_none.h.
 */
#include "heap.h"

#include <stdio.h>
#include <sys/mman.h>

enum heap_answer
heap_open(const struct heap_options *options, bool create, heap_ref *ret_heap, char *why, size_t why_size)
{
    (void)options;
    (void)create;
    void *block = mmap(NULL, HEAP_NONE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
        (void)snprintf(why, why_size, "no memory for the one block");
        return HEAP_FAILED;
    }
    *ret_heap = block;
    return HEAP_OK;
}

void
heap_close(heap_ref heap)
{
    (void)munmap(heap, HEAP_NONE_BYTES);
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
