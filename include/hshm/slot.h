/**
 * @file slot.h
 * Slots: words inside a heap that hold a block each, and are changed together with it whatever dies meanwhile.
 *
 * hshm_malloc() and a store of its result are two steps, and a process that is killed in between has lost a block that nobody
 * knows of.  Where that matters - an index, a queue, a table in shared memory - let the library do both: hshm_allocate_to()
 * takes a block and puts it into a slot, hshm_free_from() frees what a slot holds, hshm_move() moves it to another.  After a
 * kill at any instruction, and hshm's clean-up after the dead (at attach, before HSHM_E_NOMEM, in hshm_trim()), the slot
 * holds the block or it does not, and no block is lost.
 *
 * A slot lies in the heap: in a block, or in the custom header; 8-byte aligned; zero = empty, as the custom header
 * and blocks of hshm_calloc() are.  Read it with hshm_slot_load() only.  Any process may call these on any slot at the same
 * time; of several that change one slot, one is first, and the others are told so.  Freeing a block that has full slots in it
 * loses what those hold.
 *
 * Not for MALLOC heaps, whose blocks lie outside the region, nor in regions below 64 KiB.  Threads: safe.  Signals: not safe.  No call waits for another
 * process, unless as many operations as the heap has logs for (4 below 1 MiB, 16 below 16 MiB, else 64)
 * are in flight at once, and then a second at most.
 */
#ifndef HSHM_SLOT_H
#define HSHM_SLOT_H

#include <hshm/allocator.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A place for one block, in a heap.  Opaque; all zero = empty. */
typedef struct hshm_slot {
    uint64_t word;
} hshm_slot;

/**
 * Take a block of at least `size` bytes, and let the slot hold it.
 *
 * @param slot  empty, in this heap
 * @return HSHM_OK, or, leaving heap and slot as they were:
 *         HSHM_E_EXISTS  the slot holds a block
 *         HSHM_E_BUSY    another thread or process is just changing it
 *         HSHM_E_INVAL   it does not lie in this heap, or not at a multiple of 8
 *         HSHM_E_NOMEM   no room
 *         HSHM_E_LIMIT   more operations on slots are in flight than the heap has logs for, or (THREAD_LOCAL) more threads
 *                        than it has slots for
 *         HSHM_E_NOTSUP  a MALLOC heap, a region below 64 KiB, or one made by a version without slots
 *         HSHM_E_PERM    attached read-only, or in a forked child without a place of its own
 */
HSHM_API hshm_status hshm_allocate_to(hshm_allocator *allocator, size_t size, hshm_slot *slot);

/**
 * Free the block that a slot holds, and empty it.
 *
 * @return HSHM_OK; HSHM_E_NOTFOUND (it is empty); HSHM_E_BADFREE (what it says is no live block: its bytes were damaged;
 *         nothing was changed); HSHM_E_BUSY, _INVAL, _LIMIT, _NOTSUP, _PERM as above
 */
HSHM_API hshm_status hshm_free_from(hshm_allocator *allocator, hshm_slot *slot);

/**
 * Move the block that `from` holds to `to`.  At no moment do both hold it.
 *
 * @param to  empty, another slot of the same heap
 * @return HSHM_OK; HSHM_E_NOTFOUND (`from` is empty); HSHM_E_EXISTS (`to` holds a block); HSHM_E_BUSY, _INVAL (they are
 *         the same, too), _LIMIT, _NOTSUP, _PERM as above
 */
HSHM_API hshm_status hshm_move(hshm_allocator *allocator, hshm_slot *from, hshm_slot *to);

/**
 * The block that a slot holds: its offset, for hshm_to_addr(), or HSHM_OFF_NULL when it is empty or just being changed.
 * What the process wrote to the block before it gave it to the slot by hshm_move() is seen; after hshm_allocate_to() there is
 * nothing to see yet.
 */
HSHM_API hshm_off hshm_slot_load(const hshm_slot *slot);

#ifdef __cplusplus
}
#endif

#endif
