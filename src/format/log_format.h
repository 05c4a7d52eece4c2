/*
 * log_format.h - what is in the middle of being done to user slots (hshm_allocate_to(), hshm_free_from(), hshm_move()).
 *
 * A plain call changes one place by one store.  These change two, the block's state and the slot in the user's data, and so
 * say first what they are about to do, in a log of their own; recovery finishes or undoes it after a death.  The slot itself
 * says in which log it stands:
 *
 *     EMPTY     0
 *     FULL      it holds the block that begins at `granule`
 *     RESERVED  a block is being taken for it, or moved into it, by log `id`: others see it empty
 *     CLAIMED   its block is being freed, or moved away, by log `id`: likewise
 */
#ifndef HSHM_FORMAT_LOG_FORMAT_H
#define HSHM_FORMAT_LOG_FORMAT_H

#include "format/region_format.h"

/* State in bits 0 and 1, a log's number in bits 2..19, the block's offset in the region in granules in bits 20..63. */
enum user_slot_state { USER_SLOT_EMPTY = 0, USER_SLOT_FULL = 1, USER_SLOT_RESERVED = 2, USER_SLOT_CLAIMED = 3 };

enum { USER_SLOT_ID_BITS = 18, USER_SLOT_GRANULE_SHIFT = 20, USER_SLOT_GRANULE_BYTES = 16 };

static inline uint64_t
user_slot_make(enum user_slot_state state, uint64_t id, uint64_t off)
{
    return (uint64_t)state | id << 2 | off / USER_SLOT_GRANULE_BYTES << USER_SLOT_GRANULE_SHIFT;
}

static inline enum user_slot_state
user_slot_state(uint64_t word)
{
    return (enum user_slot_state)(word & 3);
}

static inline uint64_t
user_slot_off(uint64_t word)
{
    return (word >> USER_SLOT_GRANULE_SHIFT) * USER_SLOT_GRANULE_BYTES;
}

/* Shared: one an operation in flight.  Whoever takes it by CAS of `owner` writes it; `ack` is written by others. */
struct op_log {
    _Atomic uint64_t owner; /*  0: 0 = free; else 1 | process << 8                                                */
    _Atomic uint64_t slot;  /*  8: offset of the user's slot; 0 = nothing is being done                           */
    _Atomic uint64_t to;    /* 16: a move: offset of the slot that it goes to; else 0                             */
    _Atomic uint64_t block; /* 24: offset of the block that is being freed; 0 = none                              */
    _Atomic uint64_t won;   /* 32: the block is ours by now, although its state does not say so; see op_log.h     */
    _Atomic uint64_t seq;   /* 40: counts the frees of this log                                                   */
    _Atomic uint64_t ack;   /* 48: the highest count of which somebody has seen that the block was freed          */
    _Atomic uint64_t slab;  /* 56: ScalablePage: the slab that blocks for slots come from, its slice + 1; 0 = none */
};
static_assert(sizeof(struct op_log) == 64, "format v1");

/* Shared: behind the root, as many logs as root_size has room for; none in heaps of versions without them. */
struct op_table {
    _Atomic uint64_t freeing; /* 0: bit k: log k has a block, or is about to */
    uint64_t reserved[7];
    struct op_log logs[];
};
static_assert(sizeof(struct op_table) == 64, "format v1");

#define OP_LOGS_MAX 64 /* bits of `freeing` */

/* How many logs a region of that size gets: none where they would be a good part of it. */
static inline uint32_t
op_logs_for(uint64_t region_size)
{
    if (region_size < UINT64_C(64) << 10)
        return 0;
    if (region_size < UINT64_C(1) << 20)
        return 4;
    return region_size < UINT64_C(16) << 20 ? 16 : 64;
}

/* Bytes of the table with so many. */
static inline uint64_t
op_table_size(uint64_t region_size)
{
    const uint64_t logs = op_logs_for(region_size);
    return logs == 0 ? 0 : sizeof(struct op_table) + logs * sizeof(struct op_log);
}

#endif
