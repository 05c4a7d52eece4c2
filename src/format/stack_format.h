/*
 * stack_format.h - what a Stack heap keeps in its region.
 *
 * The data is counted in granules of 16 bytes.  The table holds two bits a granule, out of the way of the blocks:
 *
 *     00  nothing, or inside a block, or a block that is just being taken or freed
 *     10  first granule of a live block of several
 *     11  last granule of a live block of several, or the only granule of a live block
 *     01  free, below the top
 *
 *     granule   0  1  2  3  4  5  6  7  8 | 9 ...
 *     code     10 00 11 11 01 01 10 00 11 | 00 ...      blocks 0-2, 3, (4-5 free), 6-8; top = 9
 *
 * Invariants, while nobody is in the middle of a call:
 *   - every granule at or above the top has code 00;
 *   - 10 is followed by 00s and then 11, all below the top;
 *   - so there are as many live blocks as there are 11s;
 *   - the granule below the top is not 01 (free room at the top is given back).
 */
#ifndef HSHM_FORMAT_STACK_FORMAT_H
#define HSHM_FORMAT_STACK_FORMAT_H

#include "format/region_format.h"

enum stack_code { STACK_NONE = 0, STACK_FREE = 1, STACK_FIRST = 2, STACK_LAST = 3 };

enum { STACK_CODE_BITS = 2, STACK_CODES_PER_WORD = 64 / STACK_CODE_BITS };

/* Shared: at root_off.  The top is changed by every call, and so has a cache line without other words that change. */
struct stack_root {
    _Atomic uint64_t top;      /*  0: where the next block starts, in bits of the table: 2 for each granule taken */
    uint64_t reserved0[7];     /*  8                                                                             */
    _Atomic uint64_t peak;     /* 64: the highest top that was ever lowered again, in granules                   */
    _Atomic uint64_t frees;    /* 72: blocks freed; derived, a kill may leave it one short                       */
    _Atomic uint64_t failures; /* 80: requests that found no room; derived                                       */
    uint64_t reserved1[5];     /* 88                                                                             */
};
static_assert(sizeof(struct stack_root) == 128, "format v1");
static_assert(offsetof(struct stack_root, peak) == 64, "format v1");
static_assert(offsetof(struct stack_root, frees) == 72, "format v1");
static_assert(offsetof(struct stack_root, failures) == 80, "format v1");

/* Shared: at table_off; code of granule g is bits 2 (g % 32) and above of word g / 32. */
typedef _Atomic uint64_t stack_word;

/* Bytes of table that so many granules need, in whole cache lines. */
static inline uint64_t
stack_table_size(uint64_t granules)
{
    const uint64_t words = granules / STACK_CODES_PER_WORD + (granules % STACK_CODES_PER_WORD != 0);
    return (words * sizeof(uint64_t) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

#endif
