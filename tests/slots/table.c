/*
 * table.c - see table.h.
 */
#include "table.h"

hshm_allocator *
table_heap(const void *const *state, size_t size, struct table **ret_table)
{
    const hshm_allocator_kind kind = *(const hshm_allocator_kind *)*state;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    options.commit = HSHM_COMMIT_LAZY;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, size, test_name("slots"), &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, sizeof(struct table), NULL, &heap));
    *ret_table = hshm_allocator_custom_header(heap, NULL);
    return heap;
}

uint64_t
full_slots(hshm_allocator *heap, const struct table *table)
{
    uint64_t full = 0;
    for (size_t i = 0; i < TABLE_SLOTS; i++) {
        const hshm_off off = hshm_slot_load(&table->slots[i]);
        if (off == HSHM_OFF_NULL)
            continue;
        full++;
        assert_true(hshm_usable_size(heap, hshm_to_addr(heap, off)) > 0);
        for (size_t k = 0; k < i; k++)
            assert_true(hshm_slot_load(&table->slots[k]) != off);
    }
    return full;
}
