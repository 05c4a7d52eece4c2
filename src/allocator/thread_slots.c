/*
 * thread_slots.c - hshm_allocate_to() and hshm_free_from() in ThreadLocal heaps, of small blocks in the calling thread's own
 * slabs: the common case, which needs no log but one word in the thread's slot of the region.
 *
 *     taking                                          a kill behind it, and what recovery does
 *     1. log: which slot
 *     2. the slot: EMPTY -> RESERVED with the block     the block's bit is set, whether or not it was cleared; the slot is emptied
 *     3. the block's bit is cleared                     the same
 *     4. the slot: FULL                                 nothing
 *     5. log: none
 *
 *     freeing
 *     1. log: which slot
 *     2. the slot: FULL -> CLAIMED                      the block's bit is set; the slot is emptied
 *     3. the block's bit is set                         the same
 *     4. the slot: EMPTY                                nothing
 *     5. log: none
 *     6. whatever a free causes, if it was the slab's last block and the like
 *
 * Nobody else takes from this thread's slabs, and until it is cleaned up after they are its own: so what the bit says needs no
 * second word to be understood, as it does in op_log.h.
 */
#include "allocator/allocator.h"
#include "allocator/thread_slabs.h"
#include "allocator/user_slot.h"
#include "base/failpoint.h"

/* This comes before all that follows, for who recovers us: what a kill leaves is a prefix of the stores as they stand. */
#define NEXT_STEP() atomic_signal_fence(memory_order_seq_cst)

hshm_status
thread_allocate_to(hshm_allocator *a, size_t size, hshm_slot *slot)
{
    struct hshm_inline_heap *fast = hshm_inline_entry(&a->view)->heap;
    const uint64_t at = (uintptr_t)slot - (uintptr_t)a->view.base;
    if (UNLIKELY(size > HSHM_INLINE_MAX || !user_slot_is_common(a, at)))
        return user_slot_allocate(a, size, slot);
    struct hshm_inline_bin *bin = fast->direct[(size + GRANULE - 1) / GRANULE];
    uint64_t ready = bin->ready;
    uint64_t which;
    if (UNLIKELY(!hshm_inline_lowest(ready, &which))) {
        ready = __atomic_load_n(bin->word, __ATOMIC_RELAXED);
        if (!hshm_inline_lowest(ready, &which))
            return user_slot_allocate(a, size, slot);
    }
    /* There was a block, so it is a thread's heap. */
    const struct thread_heap *heap = (const struct thread_heap *)(void *)fast;
    _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)slot;
    const uint64_t off = (uintptr_t)bin->base + which * bin->size - (uintptr_t)a->view.base;
    uint64_t empty = USER_SLOT_EMPTY;
    store_release(&heap->shared->log, at);
    FAILPOINT("thread.own_logged");
    if (UNLIKELY(!cas_seq_cst(word, &empty, user_slot_of_block(off) + heap->reserves))) {
        store_release(&heap->shared->log, 0);
        return user_slot_allocate(a, size, slot);
    }
    const uint64_t rest = ready & (ready - 1);
    bin->ready = rest;
    FAILPOINT("thread.own_reserved");
    NEXT_STEP();
    hshm_inline_clear(bin->word, ready ^ rest);
    FAILPOINT("thread.own_taken");
    NEXT_STEP();
    store_release(word, user_slot_of_block(off) + USER_SLOT_FULL);
    FAILPOINT("thread.own_full");
    store_release(&heap->shared->log, 0);
    return HSHM_OK;
}

/* The block was none that is live; the slot is as it was. */
static NO_INLINE hshm_status
was_free(hshm_allocator *a, hshm_slot *slot, uint64_t full, _Atomic uint64_t *log)
{
    store_release((_Atomic uint64_t *)(void *)slot, full);
    store_release(log, 0);
    return user_slot_free(a, slot);
}

hshm_status
thread_free_from(hshm_allocator *a, hshm_slot *slot)
{
    const uint64_t at = (uintptr_t)slot - (uintptr_t)a->view.base;
    if (UNLIKELY(!user_slot_is_common(a, at)))
        return user_slot_free(a, slot);
    _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)slot;
    uint64_t full = load_acquire(word);
    void *addr = a->view.base + user_slot_off_of(full);
    uint64_t block;
    /* The first thing that inline.h looks at refuses an empty slot, whose block would begin where the region does. */
    struct hshm_inline_record *record =
        LIKELY((full & USER_SLOT_CHANGING) == 0) ? hshm_inline_find(&a->view, addr, &block) : NULL;
    if (UNLIKELY(record == NULL))
        return user_slot_free(a, slot);
    /* The slab is this thread's. */
    const struct thread_heap *heap = (const struct thread_heap *)(void *)hshm_inline_entry(&a->view)->heap;
    _Atomic uint64_t *log = &heap->shared->log;
    const uint64_t before = full;
    store_release(log, at);
    if (UNLIKELY(!cas_seq_cst(word, &full, full + heap->claims))) {
        store_release(log, 0);
        return user_slot_free(a, slot);
    }
    FAILPOINT("thread.own_claimed");
    NEXT_STEP();
    if (UNLIKELY(hshm_inline_set(hshm_inline_word(record, block), block)))
        return was_free(a, slot, before, log);
    FAILPOINT("thread.own_given");
    NEXT_STEP();
    store_release(word, USER_SLOT_EMPTY);
    FAILPOINT("thread.own_empty");
    store_release(log, 0);
    return UNLIKELY(--record->left == 0) ? a->ops.settle(a, addr) : HSHM_OK;
}
