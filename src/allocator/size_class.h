/*
 * size_class.h - which sizes of blocks there are.
 *
 * Sizes are counted in units, the smallest block (16 bytes on the host).  Up to 16 units there is a class for each; from
 * there eight for each doubling, so that no more than one ninth of a block is lost to rounding:
 *
 *     units   1 2 3 ... 15 16 | 18 20 22 24 26 28 30 32 | 36 40 44 ...
 *     class   0 1 2 ... 14 15 | 16 17 18 19 20 21 22 23 | 24 25 26 ...
 */
#ifndef HSHM_ALLOCATOR_SIZE_CLASS_H
#define HSHM_ALLOCATOR_SIZE_CLASS_H

#include "base/compiler.h"

enum { CLASSES_EACH = 16, CLASSES_A_DOUBLING = 8 };

/* The class of the smallest blocks that hold `units`; units >= 1. */
static inline uint32_t
class_of_units(uint64_t units)
{
    const uint64_t below = units - 1;
    if (below < CLASSES_EACH)
        return (uint32_t)below;
    const uint32_t e = 63 - (uint32_t)__builtin_clzll(below);
    return CLASSES_EACH + (e - 4) * CLASSES_A_DOUBLING + (uint32_t)(below >> (e - 3)) - CLASSES_A_DOUBLING;
}

/* How many units the blocks of a class have. */
static inline uint64_t
units_of_class(uint32_t class)
{
    if (class < CLASSES_EACH)
        return class + UINT64_C(1);
    const uint32_t beyond = class - CLASSES_EACH;
    const uint32_t e = 4 + beyond / CLASSES_A_DOUBLING;
    return (UINT64_C(1) << e) + ((beyond % CLASSES_A_DOUBLING + UINT64_C(1)) << (e - 3));
}

/* How a slab of blocks of `size` bytes is cut: how many slices, how many blocks. */
struct slab_cut {
    uint32_t slices;
    uint32_t blocks;
};

/*
 * The smallest slab that loses at most an eighth at its end, and has so many blocks or slices.  (A slab with few blocks is
 * left for the next one often; one of many slices holds much of a small heap for one class.)
 */
struct slab_cut slab_cut(uint64_t size, uint32_t slice_shift, uint32_t blocks, uint32_t most_slices);

/* The smallest slab with any block of that size: for heaps that have no room for a better one. */
struct slab_cut slab_cut_small(uint64_t size, uint32_t slice_shift);

#endif
