/*
 * count_pairs.h - what count_pairs.c and count_inline.c share.
 */
#ifndef HSHM_TESTS_SLAB_COUNT_PAIRS_H
#define HSHM_TESTS_SLAB_COUNT_PAIRS_H

#include <hshm/types.h>

enum { PAIRS_A_CALL = 1000 };

/* PAIRS_A_CALL times: take a block of 64 bytes, free it. */
bool count_inline(hshm_allocator *heap);

#endif
