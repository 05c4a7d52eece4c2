/*
 * log_format.h - what is in the middle of being done to user slots (hshm_allocate_to(), hshm_free_from(), hshm_move()); and
 * named slots.
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

enum {
    USER_SLOT_ID_BITS = 18,
    USER_SLOT_GRANULE_SHIFT = 20,
    USER_SLOT_GRANULE_BITS = 4,
    USER_SLOT_GRANULE_BYTES = 1 << USER_SLOT_GRANULE_BITS
};

static inline uint64_t
user_slot_make(enum user_slot_state state, uint64_t id, uint64_t off)
{
    return (uint64_t)state | id << 2 | off / USER_SLOT_GRANULE_BYTES << USER_SLOT_GRANULE_SHIFT;
}

/* The same, quicker: a word of state and number 0 for a block, to which those are added; and back. */
static inline uint64_t
user_slot_of_block(uint64_t off)
{
    return off << (USER_SLOT_GRANULE_SHIFT - USER_SLOT_GRANULE_BITS);
}

static inline uint64_t
user_slot_off_of(uint64_t full_or_empty)
{
    return full_or_empty >> (USER_SLOT_GRANULE_SHIFT - USER_SLOT_GRANULE_BITS);
}

#define USER_SLOT_CHANGING UINT64_C(2) /* set in RESERVED and CLAIMED */

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

/*
 * Shared: a name, and a slot that holds the block of that name.  Changed by who holds `names_lock`, and then by one store, to
 * `state`; the slot by the calls on slots too.
 *
 * State: in bits 0 and 1 what it is, above them a count of its changes, so that who reads knows that it was the same all the time.
 */
enum name_state { NAME_NEVER = 0, NAME_LIVE = 1, NAME_GONE = 2 };
enum { NAME_STATE_BITS = 2, NAME_WORDS = 12, NAME_BYTES_MAX = NAME_WORDS * 8 - 1 };
struct name_entry {
    _Atomic uint64_t state;            /*  0: others than LIVE: nothing else of the entry means anything */
    _Atomic uint64_t slot;             /*  8: as a user's slot                                           */
    uint64_t reserved[2];              /* 16                                                             */
    _Atomic uint64_t name[NAME_WORDS]; /* 32: bytes as in memory, zero behind the last                   */
};
static_assert(sizeof(struct name_entry) == 128, "format v1");
static_assert(offsetof(struct name_entry, name) == 32, "format v1");

/* Shared: behind the root; then the logs, then the names.  None of them in heaps of regions below 64 KiB. */
struct op_table {
    _Atomic uint64_t freeing;    /*  0: bit k: log k has a block, or is about to                  */
    uint32_t log_count;          /*  8: constant                                                  */
    uint32_t name_count;         /* 12: constant                                                  */
    _Atomic uint64_t names_lock; /* 16: who changes names: 0 = nobody, else 1 | process << 8      */
    uint64_t reserved[5];        /* 24                                                            */
    struct op_log logs[];
};
static_assert(sizeof(struct op_table) == 64, "format v1");
static_assert(offsetof(struct op_table, names_lock) == 16, "format v1");

#define OP_LOGS_MAX 64 /* bits of `freeing` */
#define OP_OWNER_SHIFT 8

/* A thread of a ThreadLocal heap has a log of its own, one word in its slot, for blocks of its own slabs. */
static inline uint32_t
op_id_of_thread(uint32_t slot)
{
    return OP_LOGS_MAX + slot;
}

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

/* How many names: a 64th of a region at most. */
static inline uint32_t
names_for(uint64_t region_size)
{
    if (region_size < UINT64_C(64) << 10)
        return 0;
    if (region_size < UINT64_C(1) << 20)
        return 8;
    if (region_size < UINT64_C(16) << 20)
        return 64;
    return region_size < UINT64_C(256) << 20 ? 256 : 1024;
}

/* Bytes of the table with so many. */
static inline uint64_t
op_table_size(uint64_t region_size)
{
    const uint64_t logs = op_logs_for(region_size);
    const uint64_t names = names_for(region_size);
    return logs == 0 ? 0 : sizeof(struct op_table) + logs * sizeof(struct op_log) + names * sizeof(struct name_entry);
}

#endif
