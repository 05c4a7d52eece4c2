/*
 * user_slot.c - hshm_allocate_to(), hshm_free_from(), hshm_move(): a block and the slot that holds it, changed as one; op_log.h
 * has the steps.
 */
#include "allocator/user_slot.h"

#include "allocator/allocator.h"
#include "allocator/names.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"

_Atomic uint64_t *
user_slot_at(const hshm_allocator *a, uint64_t off)
{
    const bool is_one = user_slot_is_common(a, off) || names_have_slot(a, off);
    return is_one ? (_Atomic uint64_t *)(void *)(a->view.base + off) : NULL;
}

/* The slot, if these calls work on it. */
static hshm_status
place_of(hshm_allocator *a, const char *call, const hshm_slot *slot, _Atomic uint64_t **ret_slot)
{
    if (a->ops.take_for == NULL)
        return fail(HSHM_E_NOTSUP, "%s: a %s heap has no slots: its blocks lie outside the region", call, a->ops.title);
    if (a->op_logs == 0)
        return fail(
            HSHM_E_NOTSUP,
            "%s: the heap %u.%u has no logs for slots: its region is smaller than 64 KiB, or was made by a version "
            "of hshm without them",
            call, a->id.major, a->id.minor);
    if (a->refuses)
        return a->ops.free(a, NULL);
    *ret_slot = slot == NULL ? NULL : user_slot_at(a, hshm_to_off(a, slot));
    if (*ret_slot == NULL)
        return fail(
            HSHM_E_INVAL,
            "%s: the slot %p does not lie in the heap %u.%u (in a block, or in the custom header) at a multiple of 8",
            call, (const void *)slot, a->id.major, a->id.minor);
    return HSHM_OK;
}

/* What a slot says when nobody is changing it; who died changing it is cleaned up after first. */
static hshm_status
settled_word(hshm_allocator *a, const char *call, const _Atomic uint64_t *slot, uint64_t *ret_word)
{
    *ret_word = load_acquire(slot);
    if (user_slot_state(*ret_word) <= USER_SLOT_FULL)
        return HSHM_OK;
    op_recover_dead(a);
    *ret_word = load_acquire(slot);
    if (user_slot_state(*ret_word) <= USER_SLOT_FULL)
        return HSHM_OK;
    return fail(HSHM_E_BUSY, "%s: another thread or process is changing the slot at offset %llu; try again", call,
                (unsigned long long)hshm_to_off(a, (const void *)slot));
}

static hshm_status
is_full(const hshm_allocator *a, const char *call, const _Atomic uint64_t *slot)
{
    return fail(HSHM_E_EXISTS, "%s: the slot at offset %llu holds a block already; free or move it first", call,
                (unsigned long long)hshm_to_off(a, (const void *)slot));
}

static hshm_status
is_empty(const hshm_allocator *a, const char *call, const _Atomic uint64_t *slot)
{
    return fail(HSHM_E_NOTFOUND, "%s: the slot at offset %llu is empty", call,
                (unsigned long long)hshm_to_off(a, (const void *)slot));
}

static hshm_status
was_faster(const hshm_allocator *a, const char *call, const _Atomic uint64_t *slot)
{
    return fail(HSHM_E_BUSY, "%s: another thread or process has just changed the slot at offset %llu; look again", call,
                (unsigned long long)hshm_to_off(a, (const void *)slot));
}

/* Where a thread begins to look for a free log: not where the others do. */
static uint32_t
start_of(const hshm_allocator *a, const _Atomic uint64_t *slot)
{
    return (uint32_t)(hshm_to_off(a, (const void *)slot) / CACHE_LINE) ^ a->process;
}

static hshm_status
take_into(hshm_allocator *a, size_t size, _Atomic uint64_t *slot)
{
    struct op op;
    const hshm_status status = op_begin(a, start_of(a, slot), slot, &op);
    if (status != HSHM_OK)
        return status;
    store_release(&op.log->slot, hshm_to_off(a, (const void *)slot));
    FAILPOINT("slot.named");
    void *block = a->ops.take_for(a, size, &op);
    FAILPOINT("slot.taken");
    if (block != NULL)
        store_release(slot, user_slot_make(USER_SLOT_FULL, 0, hshm_to_off(a, block)));
    else if (op.is_reserved)
        store_release(slot, USER_SLOT_EMPTY);
    FAILPOINT("slot.full");
    op_end(a, op.log);
    if (block != NULL)
        return HSHM_OK;
    return op.was_busy ? was_faster(a, "hshm_allocate_to", slot) : hshm_last_status();
}

hshm_status
user_slot_allocate(hshm_allocator *a, size_t size, hshm_slot *slot)
{
    _Atomic uint64_t *at = NULL;
    uint64_t word = 0;
    hshm_status status = place_of(a, "hshm_allocate_to", slot, &at);
    if (status == HSHM_OK)
        status = settled_word(a, "hshm_allocate_to", at, &word);
    if (status != HSHM_OK)
        return status;
    if (user_slot_state(word) == USER_SLOT_FULL)
        return is_full(a, "hshm_allocate_to", at);
    return take_into(a, size, at);
}

static hshm_status
free_out_of(hshm_allocator *a, _Atomic uint64_t *slot, uint64_t word)
{
    struct op op;
    hshm_status status = op_begin(a, start_of(a, slot), slot, &op);
    if (status != HSHM_OK)
        return status;
    const uint64_t off = user_slot_off(word);
    store_release(&op.log->slot, hshm_to_off(a, (const void *)slot));
    FAILPOINT("slot.free_named");
    if (!cas_seq_cst(slot, &word, user_slot_make(USER_SLOT_CLAIMED, op.id, off))) {
        op_end(a, op.log);
        return was_faster(a, "hshm_free_from", slot);
    }
    FAILPOINT("slot.claimed");
    op_log_free(a, op.log, off);
    status = a->ops.give_for(a, &op, hshm_to_addr(a, off));
    FAILPOINT("slot.given");
    store_release(slot, status == HSHM_OK ? USER_SLOT_EMPTY : word);
    FAILPOINT("slot.emptied");
    op_end(a, op.log);
    return status;
}

hshm_status
user_slot_free(hshm_allocator *a, hshm_slot *slot)
{
    _Atomic uint64_t *at = NULL;
    uint64_t word = 0;
    hshm_status status = place_of(a, "hshm_free_from", slot, &at);
    if (status == HSHM_OK)
        status = settled_word(a, "hshm_free_from", at, &word);
    if (status != HSHM_OK)
        return status;
    return user_slot_state(word) == USER_SLOT_EMPTY ? is_empty(a, "hshm_free_from", at) : free_out_of(a, at, word);
}

hshm_status
hshm_allocate_to(hshm_allocator *a, size_t size, hshm_slot *slot)
{
    return a->ops.allocate_to(a, size, slot);
}

hshm_status
hshm_free_from(hshm_allocator *a, hshm_slot *slot)
{
    return a->ops.free_from(a, slot);
}

static hshm_status
move_between(hshm_allocator *a, _Atomic uint64_t *from, uint64_t word, _Atomic uint64_t *to)
{
    struct op op;
    const hshm_status status = op_begin(a, start_of(a, from), from, &op);
    if (status != HSHM_OK)
        return status;
    const uint64_t off = user_slot_off(word);
    uint64_t empty = USER_SLOT_EMPTY;
    store_release(&op.log->to, hshm_to_off(a, (const void *)to));
    FAILPOINT("slot.move_to_named");
    store_release(&op.log->slot, hshm_to_off(a, (const void *)from));
    FAILPOINT("slot.move_named");
    _Atomic uint64_t *lost = NULL;
    if (!cas_seq_cst(to, &empty, user_slot_make(USER_SLOT_RESERVED, op.id, off))) {
        lost = to;
    } else if (!cas_seq_cst(from, &word, user_slot_make(USER_SLOT_CLAIMED, op.id, off))) {
        store_release(to, USER_SLOT_EMPTY);
        lost = from;
    } else {
        FAILPOINT("slot.move_claimed");
        store_release(to, user_slot_make(USER_SLOT_FULL, 0, off));
        FAILPOINT("slot.move_there");
        store_release(from, USER_SLOT_EMPTY);
        FAILPOINT("slot.moved");
    }
    op_end(a, op.log);
    return lost == NULL ? HSHM_OK : was_faster(a, "hshm_move", lost);
}

hshm_status
hshm_move(hshm_allocator *a, hshm_slot *from, hshm_slot *to)
{
    _Atomic uint64_t *from_at = NULL;
    _Atomic uint64_t *to_at = NULL;
    uint64_t word = 0;
    uint64_t to_word = 0;
    hshm_status status = place_of(a, "hshm_move", from, &from_at);
    if (status == HSHM_OK)
        status = place_of(a, "hshm_move", to, &to_at);
    if (status == HSHM_OK && from_at == to_at)
        status = fail(HSHM_E_INVAL, "hshm_move: from and to are the same slot");
    if (status == HSHM_OK)
        status = settled_word(a, "hshm_move", from_at, &word);
    if (status == HSHM_OK)
        status = settled_word(a, "hshm_move", to_at, &to_word);
    if (status != HSHM_OK)
        return status;
    if (user_slot_state(word) == USER_SLOT_EMPTY)
        return is_empty(a, "hshm_move", from_at);
    return user_slot_state(to_word) == USER_SLOT_FULL ? is_full(a, "hshm_move", to_at)
                                                      : move_between(a, from_at, word, to_at);
}

hshm_off
hshm_slot_load(const hshm_slot *slot)
{
    /* Acquire pairs with the release stores of FULL. */
    const uint64_t word = __atomic_load_n(&slot->word, __ATOMIC_ACQUIRE);
    return user_slot_state(word) == USER_SLOT_FULL ? user_slot_off(word) : HSHM_OFF_NULL;
}
