/*
 * op_log.h - doing two things so that a kill leaves both or neither: the logs of operations on user slots.
 *
 * Taking a block for a slot:                               a kill behind it, and what recovery does
 *     1. log: which slot
 *     2. the slot: EMPTY -> RESERVED with the block          the block is given back, if it was taken (by whom, see below)
 *     3. the block is taken
 *     4. the slot: FULL                                      nothing
 * Freeing what a slot holds:
 *     1. log: which slot
 *     2. the slot: FULL -> CLAIMED                           the block is freed; then the slot is emptied
 *     3. log: a new count, which block                       the block is freed, if it was not; then likewise
 *     4. the block is freed
 *     5. the slot: EMPTY                                     nothing
 * Only from 3 on do others say that they saw the block free: earlier, it may have been another free that they saw.
 * So recovery does 3 itself, if it was not done: it may be killed, too, and others take the block that it freed.
 * Moving: as both, without 3; CLAIMED decides.
 *
 * "Was it taken" must have an answer although others take and free, too:
 *   - blocks for slots come from slabs of which nobody else takes: this thread's (ThreadLocal), the log's own (ScalablePage); or
 *     they are claimed slices; the Stack says in `won` that it has raised the top;
 * and so must "was it freed", although others may have taken the block anew by then:
 *   - whoever takes blocks that others freed looks first whether a log has them (op_acknowledge()), and writes down that the
 *     free was seen, before they can become anyone's; large blocks become a claim of the dead first, and then `won`.
 *
 * Locking: none; a log belongs to who holds it, and after a death to the one cleaner.
 */
#ifndef HSHM_ALLOCATOR_OP_LOG_H
#define HSHM_ALLOCATOR_OP_LOG_H

#include <hshm/slot.h>

#include "base/compiler.h"
#include "format/log_format.h"

/* Local: an operation in flight. */
struct op {
    struct op_log *log;
    _Atomic uint64_t *slot;
    uint32_t id;
    bool is_reserved; /* the slot says RESERVED               */
    bool was_busy;    /* it did not let itself be reserved    */
};

/* Where a heap's logs and names are: behind its root, of which so many bytes are its own. */
void op_view(hshm_allocator *a, uint64_t own_root_size);
/* The same for a new heap, all zero: how many there are, in a region of `scale` bytes. */
void op_init(hshm_allocator *a, uint64_t own_root_size, uint64_t scale);
/*
 * Before a block is taken for a slot: say which.  Again, if it was not that one after all.  False: the slot is not empty.
 */
bool op_candidate(hshm_allocator *a, struct op *op, const void *block);

/*
 * Who is about to take free blocks, or give their slices free, between these offsets of the region: let logs that free one
 * of them know that it is free, if it is.  Who takes all blocks of a slab for good, and may die before that can be seen, does it
 * in two steps: other processes' logs first; this one's when all blocks are taken, and so were free.  Until then a death is
 * theirs too, and recovery puts the blocks back before it asks whether they are free.  TAKEN: without a look at the blocks, which
 * are nobody's.
 */
enum op_whose { OP_ANYONES, OP_OTHERS, OP_OURS_TAKEN, OP_ANYONES_TAKEN };
void op_acknowledge(hshm_allocator *a, uint64_t begin, uint64_t end, enum op_whose whose);

/* Does a log have this slab?  ScalablePage. */
bool op_has_slab(const hshm_allocator *a, uint64_t slice);
/* Hold each log that has a slab and that nobody holds, and call `fn`. */
void op_each_idle(hshm_allocator *a, void (*fn)(hshm_allocator *a, struct op_log *log));

/* Finish or undo what a dead process was doing; or, in a forked child that has a copy of private memory, every process. */
void op_recover(hshm_allocator *a, uint32_t process, hshm_recover_report *report);
void op_recover_copy(hshm_allocator *a);

#endif
