/*
 * table.h - a heap of each kind that has slots, with a table of them in its custom header.
 */
#ifndef HSHM_TESTS_SLOTS_TABLE_H
#define HSHM_TESTS_SLOTS_TABLE_H

#include "blocks.h"

#include "allocator/allocator.h"

enum { TABLE_SLOTS = 64 };

struct table {
    hshm_slot slots[TABLE_SLOTS];
};

/* In lazy POSIX shared memory of that size, by the default manager, with ids 1 and {1, 0}; drop_heaps() ends it. */
hshm_allocator *table_heap(const void *const *state, size_t size, struct table **ret_table);

/* How many slots of the table are full; each must hold a live block, and no two the same. */
uint64_t full_slots(hshm_allocator *heap, const struct table *table);

#endif
