/*
 * count_inline.c - the pairs whose instructions are counted: a file of its own, compiled as a program's would be.
 */
#include "count_pairs.h"

#include <hshm/inline.h>

bool
count_inline(hshm_allocator *heap)
{
    for (int i = 0; i < PAIRS_A_CALL; i++) {
        void *block = hshm_malloc_inline(heap, 64);
        if (block == NULL || hshm_free_inline(heap, block) != HSHM_OK)
            return false;
    }
    return true;
}
