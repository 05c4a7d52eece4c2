/*
 * test_size_class.c - which sizes of blocks there are, what is lost to rounding, and how slabs are cut.
 */
#include "allocator/size_class.h"

#include "allocator/allocator.h"
#include "blocks.h"

enum { UNIT_SHIFT = 4, SLICE_SHIFT_LEAST = 10, BLOCK_MAX = 512 * 1024 };

static void
the_first_classes_are_as_written(void **state)
{
    (void)state;
    static const uint64_t units[] = { 1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 18, 20,
                                      22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 88, 96 };
    for (uint32_t class = 0; class < COUNTOF(units); class ++)
        assert_int_equal(units_of_class(class), units[class]);
}

static void
a_class_is_the_smallest_that_holds_the_units(void **state)
{
    (void)state;
    uint32_t before = 0;
    for (uint64_t units = 1; units <= BLOCK_MAX >> UNIT_SHIFT; units++) {
        const uint32_t class = class_of_units(units);
        assert_true(units_of_class(class) >= units);
        assert_true(class == 0 || units_of_class(class - 1) < units);
        assert_true(class == before || class == before + 1); /* ascending, and none is left out */
        before = class;
    }
    for (uint32_t class = 0; class < CLASSES_MAX; class ++)
        assert_int_equal(class_of_units(units_of_class(class)), class);
}

static void
rounding_loses_an_eighth_at_most_above_128_bytes(void **state)
{
    (void)state;
    for (uint64_t size = 129; size <= BLOCK_MAX; size++) {
        const uint64_t rounded = units_of_class(class_of_units((size + 15) >> UNIT_SHIFT)) << UNIT_SHIFT;
        assert_true(rounded >= size);
        if ((rounded - size) * 8 > rounded)
            fail_msg("%llu bytes become %llu", (unsigned long long)size, (unsigned long long)rounded);
    }
}

/* Each slice size, each smallest block that slices of that size can have, each class. */
static void
for_each_cut(void (*look)(uint64_t size, uint32_t slice_shift, uint32_t block_shift))
{
    for (uint32_t slice_shift = SLICE_SHIFT_LEAST; slice_shift <= SLICE_SHIFT_MAX; slice_shift++) {
        for (uint32_t block_shift = UNIT_SHIFT; block_shift + 4 <= slice_shift && block_shift <= 12; block_shift++) {
            const uint64_t most = (uint64_t)SLAB_BLOCK_SLICES << slice_shift;
            const uint32_t classes = class_of_units(most >> block_shift) + 1;
            assert_true(classes <= CLASSES_MAX);
            for (uint32_t class = 0; class < classes; class ++)
                look(units_of_class(class) << block_shift, slice_shift, block_shift);
        }
    }
}

/* As in a large heap, and as in a small one, where a slab has the fewest slices that lose little. */
static const struct {
    uint32_t blocks, most_slices;
} wishes[] = { { 16, 64 }, { 16, 1 } };

static void
look_at_cut(uint64_t size, uint32_t slice_shift, uint32_t block_shift)
{
    const struct slab_cut small = slab_cut_small(size, slice_shift);
    assert_true(small.blocks >= 1);
    assert_true(small.slices == 1 || ((uint64_t)(small.slices - 1) << slice_shift) < size);
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        const struct slab_cut cut = slab_cut(size, slice_shift, wishes[i].blocks, wishes[i].most_slices);
        const uint64_t bytes = (uint64_t)cut.slices << slice_shift;
        assert_true(cut.blocks * size <= bytes && (cut.blocks + 1) * size > bytes);
        assert_true(cut.blocks >= wishes[i].blocks || cut.slices >= wishes[i].most_slices);
        assert_true((bytes - cut.blocks * size) * 8 <= bytes);
        assert_true(cut.slices <= wishes[i].most_slices + SLAB_BLOCK_SLICES * UINT64_C(8));
        assert_true(cut.blocks <= UINT64_C(1) << (slice_shift - block_shift)); /* a bit each in the record */
        assert_true(small.slices <= cut.slices);
    }
}

static void
a_cut_loses_an_eighth_at_most_and_has_enough_blocks(void **state)
{
    (void)state;
    for_each_cut(look_at_cut);
}

/* As the short paths of free compute it: every address of the first slice, and each eighth of the others. */
static void
look_at_remainders(uint64_t size, uint32_t slice_shift, struct slab_cut cut)
{
    const struct slab_numbers numbers = slab_numbers((uint32_t)size, cut.blocks);
    const uint64_t bytes = (uint64_t)cut.slices << slice_shift;
    for (uint64_t off = 0; off < bytes; off += off >> slice_shift == 0 ? 1 : 8) {
        __extension__ typedef unsigned __int128 product_type;
        const product_type product = (product_type)off * numbers.reciprocal;
        const bool begins = (uint64_t)product < numbers.limit;
        if (begins != (off % size == 0 && off / size < cut.blocks))
            fail_msg("size %llu, slices of 2^%u: does a block begin at %llu?", (unsigned long long)size, slice_shift,
                     (unsigned long long)off);
        if (begins && (uint64_t)(product >> 64) != off / size)
            fail_msg("size %llu: which block begins at %llu?", (unsigned long long)size, (unsigned long long)off);
    }
}

static void
look_at_numbers(uint64_t size, uint32_t slice_shift, uint32_t block_shift)
{
    (void)block_shift;
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++)
        look_at_remainders(size, slice_shift, slab_cut(size, slice_shift, wishes[i].blocks, wishes[i].most_slices));
    look_at_remainders(size, slice_shift, slab_cut_small(size, slice_shift));
}

static void
the_numbers_of_a_slab_tell_where_blocks_begin(void **state)
{
    (void)state;
    for_each_cut(look_at_numbers);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_classes_are_as_written),
        cmocka_unit_test(a_class_is_the_smallest_that_holds_the_units),
        cmocka_unit_test(rounding_loses_an_eighth_at_most_above_128_bytes),
        cmocka_unit_test(a_cut_loses_an_eighth_at_most_and_has_enough_blocks),
        cmocka_unit_test(the_numbers_of_a_slab_tell_where_blocks_begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
