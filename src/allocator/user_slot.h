/*
 * user_slot.h - slots in the user's data; the public calls are in user_slot.c, what they need of the logs is here.
 */
#ifndef HSHM_ALLOCATOR_USER_SLOT_H
#define HSHM_ALLOCATOR_USER_SLOT_H

#include "allocator/allocator.h"

/* hshm_allocate_to() and hshm_free_from(), for kinds that have nothing better, and whatever that leaves. */
hshm_status user_slot_allocate(hshm_allocator *a, size_t size, hshm_slot *slot);
hshm_status user_slot_free(hshm_allocator *a, hshm_slot *slot);

/* At this offset, which may be anything, is room of the user's: a block's, perhaps, or the custom header's, and what pads it. */
static inline bool
user_slot_is_common(const hshm_allocator *a, uint64_t off)
{
    return off % sizeof(hshm_slot) == 0 && off - a->slots_off < a->slots_size;
}

/* The slot at an offset, which may be anything; NULL when none can be there. */
_Atomic uint64_t *user_slot_at(const hshm_allocator *a, uint64_t off);

/* Hold a log, the first free one from `start` on.  HSHM_OK or HSHM_E_LIMIT. */
hshm_status op_begin(hshm_allocator *a, uint32_t start, _Atomic uint64_t *slot, struct op *ret_op);
/* Whatever it was is done. */
void op_end(hshm_allocator *a, struct op_log *log);
/* When a slot is CLAIMED for a free, before the block is: which block. */
void op_log_free(hshm_allocator *a, struct op_log *log, uint64_t off);
/*
 * Try what another process may hinder; and if it does, again: after cleaning up after the dead, for a second, and once more after
 * those who died meanwhile.
 */
bool op_try_for_long(hshm_allocator *a, bool (*try)(hshm_allocator *a, void *arg), void *arg);
/* Clean up after every process that is dead. */
void op_recover_dead(hshm_allocator *a);

#endif
