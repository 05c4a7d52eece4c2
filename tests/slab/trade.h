/*
 * trade.h - workers that take blocks, fill them, hand them to each other over a board of offsets, and free what they got.
 *
 * The board lies in the heap's custom header, so that threads, forked children and other programs can all work on it.  What a
 * block holds says itself how it must look: whoever gets one can check it.
 */
#ifndef HSHM_TESTS_SLAB_TRADE_H
#define HSHM_TESTS_SLAB_TRADE_H

#include "blocks.h"

enum { BOARD_PLACES = 64 };

/* Shared: in the custom header. */
struct board {
    _Atomic uint64_t places[BOARD_PLACES]; /* offsets of blocks; 0 = empty                  */
    _Atomic uint64_t allocs;               /* what all workers did together                 */
    _Atomic uint64_t frees;
    _Atomic uint64_t handed; /* blocks that were got from the board           */
    _Atomic uint64_t wrong;  /* blocks that were not as they should, and more */
};

/* So many random calls, and then frees what it holds; the board keeps what lies on it. */
void trade(hshm_allocator *heap, uint64_t seed, unsigned long count);

/* Free what lies on the board. */
void trade_clear(hshm_allocator *heap);

#endif
