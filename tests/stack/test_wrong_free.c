/*
 * test_wrong_free.c - whatever is not the beginning of a live block is refused, and nothing changes by it: freed blocks,
 * places inside blocks, other heaps' blocks, the region's own tables, addresses of anything else.
 */
#include "blocks.h"

#include <stdlib.h>
#include <string.h>

#include "allocator/allocator.h"

enum { REGION = 65536 };

/* Every call that takes a block must refuse this one. */
static void
refuse(hshm_allocator *heap, void *addr)
{
    const hshm_stats before = stats_of(heap);
    hshm_ptr ptr = { addr, { { 1, 0 }, 0 } };
    const hshm_ptr untouched = ptr;
    assert_status(hshm_free(heap, addr), HSHM_E_BADFREE);
    assert_status(hshm_deallocate(heap, &ptr), HSHM_E_BADFREE);
    assert_status(hshm_reallocate(heap, &ptr, 64), HSHM_E_BADFREE);
    assert_memory_equal(&ptr, &untouched, sizeof ptr);
    assert_null(hshm_realloc(heap, addr, 1));
    assert_int_equal(hshm_last_status(), HSHM_E_BADFREE);
    assert_int_equal(hshm_usable_size(heap, addr), 0);
    assert_int_equal(hshm_last_status(), HSHM_E_BADFREE);
    assert_sentence("nothing was changed");
    assert_same_stats(heap, before);
    assert_sound(heap);
}

struct heap_of_three {
    hshm_allocator *heap;
    unsigned char *one;  /* one granule                     */
    unsigned char *many; /* seven granules                  */
    unsigned char *wide; /* over two words of the table     */
    unsigned char *freed;
    unsigned char *top; /* keeps the freed one from the top */
};

static struct heap_of_three
three_blocks(void)
{
    struct heap_of_three it = { .heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK) };
    it.one = hshm_malloc(it.heap, 16);
    it.many = hshm_malloc(it.heap, 7 * 16);
    it.wide = hshm_malloc(it.heap, 40 * 16);
    it.freed = hshm_malloc(it.heap, 5 * 16);
    it.top = hshm_malloc(it.heap, 16);
    assert_non_null(it.top);
    assert_ok(hshm_free(it.heap, it.freed));
    block_fill(it.one, 16, 1);
    block_fill(it.many, 7 * 16, 2);
    block_fill(it.wide, 40 * 16, 3);
    block_fill(it.top, 16, 4);
    return it;
}

/* All is as it was: the blocks are whole, and freeing them leaves nothing. */
static void
finish(struct heap_of_three it)
{
    assert_block(it.heap, it.one, 16, 1);
    assert_block(it.heap, it.many, 7 * 16, 2);
    assert_block(it.heap, it.wide, 40 * 16, 3);
    assert_block(it.heap, it.top, 16, 4);
    assert_ok(hshm_free(it.heap, it.one));
    assert_ok(hshm_free(it.heap, it.many));
    assert_ok(hshm_free(it.heap, it.wide));
    assert_ok(hshm_free(it.heap, it.top));
    assert_int_equal(stats_of(it.heap).used_bytes, 0);
    assert_sound(it.heap);
}

static void
a_freed_block_is_refused_wherever_it_lies(void **state)
{
    (void)state;
    struct heap_of_three it = three_blocks();
    refuse(it.heap, it.freed);
    void *above = hshm_malloc(it.heap, 100);
    assert_ok(hshm_free(it.heap, above));
    refuse(it.heap, above); /* above the top now */
    finish(it);
    refuse(it.heap, it.one);
    refuse(it.heap, it.many);
    refuse(it.heap, it.wide);
}

static void
every_other_address_of_the_region_is_refused(void **state)
{
    (void)state;
    struct heap_of_three it = three_blocks();
    unsigned char *base = hshm_to_addr(it.heap, 1);
    base--;
    const hshm_stats before = stats_of(it.heap);
    for (size_t off = 0; off <= REGION; off++) {
        unsigned char *addr = base + off;
        if (addr == it.one || addr == it.many || addr == it.wide || addr == it.top)
            continue;
        assert_int_equal(hshm_usable_size(it.heap, addr), 0);
        assert_status(hshm_free(it.heap, addr), HSHM_E_BADFREE);
        assert_null(hshm_realloc(it.heap, addr, 8));
    }
    assert_same_stats(it.heap, before);
    assert_sound(it.heap);
    finish(it);
}

static void
what_lies_inside_blocks_is_refused(void **state)
{
    (void)state;
    struct heap_of_three it = three_blocks();
    refuse(it.heap, it.many + 1);
    refuse(it.heap, it.many + 8);
    refuse(it.heap, it.many + 16);
    refuse(it.heap, it.many + 6 * 16); /* its last granule has the code of a block of one */
    refuse(it.heap, it.wide + 39 * 16);
    refuse(it.heap, it.wide + 31 * 16);
    refuse(it.heap, it.freed + 16);
    refuse(it.heap, it.freed + 4 * 16);
    refuse(it.heap, it.one + 1);
    refuse(it.heap, it.one - 1);
    finish(it);
}

static void
tables_header_and_what_lies_beyond_are_refused(void **state)
{
    (void)state;
    struct heap_of_three it = three_blocks();
    unsigned char *base = it.heap->view.base;
    refuse(it.heap, base);
    refuse(it.heap, base + it.heap->layout.root_off);
    refuse(it.heap, base + it.heap->layout.table_off);
    refuse(it.heap, it.one - 16);
    refuse(it.heap, base + it.heap->layout.data_off + it.heap->layout.data_size);
    refuse(it.heap, base + REGION);
    finish(it);
}

static void
foreign_and_wild_addresses_are_refused(void **state)
{
    (void)state;
    struct heap_of_three it = three_blocks();
    int on_the_stack = 0;
    static int global;
    void *from_malloc = malloc(64);
    refuse(it.heap, &on_the_stack);
    refuse(it.heap, &global);
    refuse(it.heap, from_malloc);
    refuse(it.heap, (void *)(uintptr_t)&malloc);
    refuse(it.heap, (void *)(uintptr_t)1);
    refuse(it.heap, (void *)(uintptr_t)16);
    refuse(it.heap, (void *)UINTPTR_MAX);
    refuse(it.heap, (void *)(UINTPTR_MAX - 15));
    refuse(it.heap, (void *)((uintptr_t)it.one ^ (uintptr_t)1 << 47));
    free(from_malloc);
    finish(it);
}

static void
another_heaps_block_is_refused(void **state)
{
    (void)state;
    struct heap_of_three it = three_blocks();
    hshm_allocator *other = NULL;
    assert_ok(hshm_backend_create(NULL, 2, HSHM_BACKEND_MALLOC, REGION, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &other));
    hshm_ptr theirs = HSHM_PTR_NULL;
    assert_ok(hshm_allocate(other, 100, &theirs));
    refuse(it.heap, theirs.addr);

    /* By offset, the id tells. */
    const hshm_stats before = stats_of(it.heap);
    hshm_ptr by_offset = { NULL, { { 2, 0 }, hshm_to_off(it.heap, it.one) } };
    const hshm_ptr untouched = by_offset;
    assert_status(hshm_deallocate(it.heap, &by_offset), HSHM_E_BADFREE);
    assert_sentence("2.0");
    assert_status(hshm_reallocate(it.heap, &by_offset, 64), HSHM_E_BADFREE);
    by_offset.shm.allocator = (hshm_allocator_id){ 1, 5 };
    assert_status(hshm_deallocate(it.heap, &by_offset), HSHM_E_BADFREE);
    by_offset.shm.allocator = untouched.shm.allocator;
    assert_memory_equal(&by_offset, &untouched, sizeof by_offset);
    assert_same_stats(it.heap, before);
    finish(it);
    assert_ok(hshm_deallocate(other, &theirs));
    assert_int_equal(stats_of(other).used_bytes, 0);
}

static void
wrong_offsets_are_refused(void **state)
{
    (void)state;
    struct heap_of_three it = three_blocks();
    const hshm_off good = hshm_to_off(it.heap, it.many);
    const hshm_off offsets[] = { 1,      16,         good + 1,        good + 16,        good + 6 * 16,
                                 REGION, UINT64_MAX, UINT64_MAX - 15, (hshm_off)1 << 63 };
    const hshm_stats before = stats_of(it.heap);
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        hshm_ptr ptr = { NULL, { { 1, 0 }, offsets[i] } };
        assert_status(hshm_deallocate(it.heap, &ptr), HSHM_E_BADFREE);
        assert_status(hshm_reallocate(it.heap, &ptr, 300), HSHM_E_BADFREE);
        assert_int_equal(ptr.shm.off, offsets[i]);
    }
    assert_same_stats(it.heap, before);
    finish(it);
}

static void
a_block_freed_through_an_aligned_gap_is_refused(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_STACK);
    unsigned char *low = hshm_malloc(heap, 16);
    unsigned char *aligned = hshm_aligned_alloc(heap, 1024, 16);
    assert_non_null(aligned);
    for (unsigned char *gap = low + 16; gap < aligned; gap += 16)
        refuse(heap, gap);
    assert_ok(hshm_free(heap, aligned));
    assert_ok(hshm_free(heap, low));
    assert_int_equal(stats_of(heap).used_bytes, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_freed_block_is_refused_wherever_it_lies, drop_heaps),
        cmocka_unit_test_teardown(every_other_address_of_the_region_is_refused, drop_heaps),
        cmocka_unit_test_teardown(what_lies_inside_blocks_is_refused, drop_heaps),
        cmocka_unit_test_teardown(tables_header_and_what_lies_beyond_are_refused, drop_heaps),
        cmocka_unit_test_teardown(foreign_and_wild_addresses_are_refused, drop_heaps),
        cmocka_unit_test_teardown(another_heaps_block_is_refused, drop_heaps),
        cmocka_unit_test_teardown(wrong_offsets_are_refused, drop_heaps),
        cmocka_unit_test_teardown(a_block_freed_through_an_aligned_gap_is_refused, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
