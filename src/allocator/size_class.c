/*
 * size_class.c - how slabs are cut.
 */
#include "allocator/size_class.h"

enum { LOSS_SHIFT = 3 };

struct slab_cut
slab_cut_small(uint64_t size, uint32_t slice_shift)
{
    const uint64_t slice = UINT64_C(1) << slice_shift;
    const uint64_t slices = (size + slice - 1) >> slice_shift;
    return (struct slab_cut){ (uint32_t)slices, (uint32_t)((slices << slice_shift) / size) };
}

struct slab_cut
slab_cut(uint64_t size, uint32_t slice_shift, uint32_t blocks, uint32_t most_slices)
{
    struct slab_cut cut = slab_cut_small(size, slice_shift);
    /* Ends: with eight blocks, less than an eighth can be lost. */
    for (;;) {
        const uint64_t bytes = (uint64_t)cut.slices << slice_shift;
        const bool large_enough = cut.blocks >= blocks || cut.slices >= most_slices;
        if (large_enough && bytes - cut.blocks * size <= bytes >> LOSS_SHIFT)
            return cut;
        cut.slices++;
        cut.blocks = (uint32_t)(((uint64_t)cut.slices << slice_shift) / size);
    }
}
