/*
 * op_log.c - see op_log.h.
 */
#include "allocator/allocator.h"
#include "allocator/names.h"
#include "allocator/user_slot.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "sync/clock.h"

enum { PATIENCE_MS = 1000 };

/* How many there are, in a root of which so many bytes are the table's; from a region, it may say anything. */
static uint64_t
count_in(uint64_t *room, uint64_t said, uint64_t size, uint64_t most)
{
    const uint64_t count = min_u64(min_u64(said, most), *room / size);
    *room -= count * size;
    return count;
}

void
op_view(hshm_allocator *a, uint64_t own_root_size)
{
    uint64_t room = a->layout.root_size - min_u64(own_root_size, a->layout.root_size);
    struct op_table *table = (struct op_table *)(void *)(a->view.base + a->layout.root_off + own_root_size);
    a->op_table = table;
    a->op_logs = a->name_count = 0;
    a->slots_size = 0; /* no logs, no slots */
    a->slots_off = a->layout.custom_size != 0 ? a->layout.custom_off : a->layout.data_off;
    if (room < sizeof *table)
        return;
    room -= sizeof *table;
    a->op_logs = (uint32_t)count_in(&room, *(volatile uint32_t *)&table->log_count, sizeof *table->logs, OP_LOGS_MAX);
    /* Not in blocks that no processor can touch. */
    const uint64_t end = a->system.device == NULL ? a->layout.data_off + a->layout.data_size
                                                  : a->layout.custom_off + a->layout.custom_size;
    if (a->op_logs != 0 && end > a->slots_off)
        a->slots_size = (end - a->slots_off) / sizeof(hshm_slot) * sizeof(hshm_slot);
    a->names = (struct name_entry *)(void *)&table->logs[a->op_logs];
    a->name_count = (uint32_t)count_in(&room, *(volatile uint32_t *)&table->name_count, sizeof *a->names, UINT32_MAX);
}

void
op_init(hshm_allocator *a, uint64_t own_root_size, uint64_t scale)
{
    op_view(a, own_root_size);
    if (a->layout.root_size - own_root_size < sizeof *a->op_table)
        return;
    a->op_table->log_count = op_logs_for(scale);
    a->op_table->name_count = names_for(scale);
    op_view(a, own_root_size);
}

static struct op_log *
log_at(const hshm_allocator *a, uint32_t id)
{
    return &a->op_table->logs[id];
}

/* ---- in the middle of an operation ---- */

bool
op_try_for_long(hshm_allocator *a, bool (*try)(hshm_allocator *a, void *arg), void *arg)
{
    if (LIKELY(try(a, arg)))
        return true;
    op_recover_dead(a);
    struct wait wait = wait_begin(PATIENCE_MS);
    do {
        if (try(a, arg))
            return true;
    } while (wait_more(&wait));
    op_recover_dead(a); /* who died meanwhile */
    return try(a, arg);
}

/* The first log that is free, from number op->id on. */
static bool
try_begin(hshm_allocator *a, void *arg)
{
    struct op *op = arg;
    for (uint32_t i = 0; i < a->op_logs; i++) {
        const uint32_t id = (op->id + i) % a->op_logs;
        uint64_t nobody = 0;
        if (load_relaxed(&log_at(a, id)->owner) != 0 ||
            !cas_seq_cst(&log_at(a, id)->owner, &nobody, 1 | (uint64_t)a->process << OP_OWNER_SHIFT))
            continue;
        FAILPOINT("log.taken");
        op->log = log_at(a, id);
        op->id = id;
        return true;
    }
    return false;
}

hshm_status
op_begin(hshm_allocator *a, uint32_t start, _Atomic uint64_t *slot, struct op *ret_op)
{
    *ret_op = (struct op){ .slot = slot, .id = start };
    if (LIKELY(op_try_for_long(a, try_begin, ret_op)))
        return HSHM_OK;
    return fail(
        HSHM_E_LIMIT,
        "the heap %u.%u has %u logs for operations on slots, and all are in use by live processes (stopped ones?); "
        "try again, or use a larger region",
        a->id.major, a->id.minor, a->op_logs);
}

void
op_end(hshm_allocator *a, struct op_log *log)
{
    const uint64_t bit = UINT64_C(1) << (log - a->op_table->logs);
    store_release(&log->block, 0);
    FAILPOINT("log.end_block");
    if ((load_seq_cst(&a->op_table->freeing) & bit) != 0)
        (void)atomic_fetch_and(&a->op_table->freeing, ~bit);
    FAILPOINT("log.end_freeing");
    store_release(&log->slot, 0);
    FAILPOINT("log.end_slot");
    store_release(&log->to, 0);
    store_release(&log->won, 0);
    FAILPOINT("log.end_won");
    store_release(&log->owner, 0);
    FAILPOINT("log.ended");
}

bool
op_candidate(hshm_allocator *a, struct op *op, const void *block)
{
    const uint64_t word = user_slot_make(USER_SLOT_RESERVED, op->id, hshm_to_off(a, block));
    uint64_t empty = USER_SLOT_EMPTY;
    /* Sequentially consistent, so that nothing that follows comes before it, in the compiler either. */
    if (op->is_reserved) {
        (void)atomic_exchange(op->slot, word);
        return true;
    }
    op->is_reserved = cas_seq_cst(op->slot, &empty, word);
    op->was_busy = !op->is_reserved;
    FAILPOINT("log.reserved");
    return op->is_reserved;
}

void
op_log_free(hshm_allocator *a, struct op_log *log, uint64_t off)
{
    store_release(&log->seq, load_relaxed(&log->seq) + 1);
    FAILPOINT("log.counted");
    /* Before the block: who sees it free asks for this.  Pairs with op_any_frees(). */
    (void)atomic_fetch_or(&a->op_table->freeing, UINT64_C(1) << (log - a->op_table->logs));
    FAILPOINT("log.freeing");
    atomic_store(&log->block, off);
    FAILPOINT("log.block");
}

/* ---- those who take what others freed ---- */

static bool
is_free_block(hshm_allocator *a, uint64_t off)
{
    struct block_place place;
    return slab_find(a, hshm_to_addr(a, off), &place) && !slab_is_live(a, &place);
}

static void
acknowledge(hshm_allocator *a, struct op_log *log, uint64_t off, enum op_whose whose)
{
    /* In this order: if the log frees the block once more, with another count, it is not free between its two frees. */
    const uint64_t seq = load_seq_cst(&log->seq);
    if (load_seq_cst(&log->block) != off || (whose < OP_OURS_TAKEN && !is_free_block(a, off)))
        return;
    uint64_t ack = load_relaxed(&log->ack);
    /* Never lower: a late one must not undo a later one. */
    while (ack < seq && !cas_seq_cst(&log->ack, &ack, seq))
        ;
    FAILPOINT("slab.acknowledged");
}

NO_INLINE void
op_acknowledge(hshm_allocator *a, uint64_t begin, uint64_t end, enum op_whose whose)
{
    const uint64_t ours = 1 | (uint64_t)a->process << OP_OWNER_SHIFT;
    for (uint64_t which = load_seq_cst(&a->op_table->freeing); which != 0; which &= which - 1) {
        const uint32_t id = (uint32_t)__builtin_ctzll(which);
        const uint64_t off = id < a->op_logs ? load_seq_cst(&log_at(a, id)->block) : 0;
        if (off < begin || off >= end ||
            (whose != OP_ANYONES && whose != OP_ANYONES_TAKEN &&
             (load_seq_cst(&log_at(a, id)->owner) == ours) != (whose == OP_OURS_TAKEN)))
            continue;
        acknowledge(a, log_at(a, id), off, whose);
    }
}

/* ---- ScalablePage's slabs ---- */

bool
op_has_slab(const hshm_allocator *a, uint64_t slice)
{
    for (uint32_t id = 0; id < a->op_logs; id++) {
        if (load_seq_cst(&log_at(a, id)->slab) == slice + 1)
            return true;
    }
    return false;
}

void
op_each_idle(hshm_allocator *a, void (*fn)(hshm_allocator *a, struct op_log *log))
{
    for (uint32_t id = 0; id < a->op_logs; id++) {
        struct op op;
        uint64_t nobody = 0;
        op.log = log_at(a, id);
        if (load_relaxed(&op.log->slab) == 0 ||
            !cas_seq_cst(&op.log->owner, &nobody, 1 | (uint64_t)a->process << OP_OWNER_SHIFT))
            continue;
        fn(a, op.log);
        op_end(a, op.log);
    }
}

/* ---- after a death ---- */

static bool
is_of(uint64_t owner, uint64_t process)
{
    return owner != 0 && (process == UINT64_MAX || owner == (1 | process << OP_OWNER_SHIFT));
}

/*
 * Does the slot say that this log changes it?  The log may have outlived its operation by a few instructions, and the block in which
 * the slot lay: then it is somebody's data, and must not look like a slot of such a log by chance.
 */
static bool
stands_in(const hshm_allocator *a, uint64_t word, enum user_slot_state state, uint32_t id)
{
    return user_slot_state(word) == state && (word >> 2 & ((1u << USER_SLOT_ID_BITS) - 1)) == id &&
           user_slot_off(word) - a->layout.data_off < a->layout.data_size;
}

static void
finish_move(const hshm_allocator *a, uint32_t id, _Atomic uint64_t *from, _Atomic uint64_t *to)
{
    uint64_t there = load_seq_cst(to);
    uint64_t here = load_seq_cst(from);
    if (stands_in(a, here, USER_SLOT_CLAIMED, id)) {
        if (stands_in(a, there, USER_SLOT_RESERVED, id)) /* else it is there already, and may have been moved on */
            (void)cas_seq_cst(to, &there, user_slot_make(USER_SLOT_FULL, 0, user_slot_off(here)));
        FAILPOINT("log.moved_after_death");
        (void)cas_seq_cst(from, &here, USER_SLOT_EMPTY);
    } else if (stands_in(a, there, USER_SLOT_RESERVED, id)) {
        (void)cas_seq_cst(to, &there, USER_SLOT_EMPTY);
    }
}

/* One place or two, then the slot; so it may be repeated: what is done already is seen. */
static void
finish(hshm_allocator *a, uint32_t id, uint64_t process)
{
    struct op_log *log = log_at(a, id);
    _Atomic uint64_t *slot = user_slot_at(a, load_relaxed(&log->slot));
    const uint64_t to_off = load_relaxed(&log->to);
    _Atomic uint64_t *to = user_slot_at(a, to_off);
    uint64_t word = slot == NULL ? USER_SLOT_EMPTY : load_seq_cst(slot);
    void *block = hshm_to_addr(a, user_slot_off(word));
    if (to_off != 0) {
        if (slot != NULL && to != NULL)
            finish_move(a, id, slot, to);
    } else if (stands_in(a, word, USER_SLOT_RESERVED, id)) {
        a->ops.undo_take(a, log, process, block);
        FAILPOINT("log.undone_after_death");
        (void)cas_seq_cst(slot, &word, USER_SLOT_EMPTY);
    } else if (stands_in(a, word, USER_SLOT_CLAIMED, id) &&
               (load_relaxed(&log->block) == 0 || load_relaxed(&log->block) == user_slot_off(word))) {
        if (load_relaxed(&log->block) == 0) /* who recovers after us has to know whether somebody saw this free */
            op_log_free(a, log, hshm_to_off(a, block));
        a->ops.finish_give(a, log, process, block);
        FAILPOINT("log.given_after_death");
        (void)cas_seq_cst(slot, &word, USER_SLOT_EMPTY);
    }
    FAILPOINT("log.settled_after_death");
    op_end(a, log);
}

/* A thread's own log: thread_slots.c tells what may have been done. */
static void
finish_of_thread(hshm_allocator *a, uint32_t slot_of_thread, uint64_t process)
{
    struct slab_thread *thread = &a->slab.threads[slot_of_thread];
    const uint32_t id = op_id_of_thread(slot_of_thread);
    _Atomic uint64_t *slot = user_slot_at(a, load_relaxed(&thread->log));
    uint64_t word = slot == NULL ? USER_SLOT_EMPTY : load_seq_cst(slot);
    if (stands_in(a, word, USER_SLOT_RESERVED, id) || stands_in(a, word, USER_SLOT_CLAIMED, id)) {
        a->ops.undo_take(a, NULL, process, hshm_to_addr(a, user_slot_off(word)));
        (void)cas_seq_cst(slot, &word, USER_SLOT_EMPTY);
    }
    store_release(&thread->log, 0);
}

static uint64_t
recover_threads(hshm_allocator *a, uint64_t process)
{
    /* No further: slots that were never taken lie in pages that were never touched. */
    const uint64_t slots = a->op_logs != 0 && a->slab.has_owners
                               ? min_u64(load_acquire(&a->slab.root->threads_high), a->slab.thread_slots)
                               : 0;
    uint64_t finished = 0;
    for (uint32_t slot = 0; slot < slots; slot++) {
        if (!is_of(load_seq_cst(&a->slab.threads[slot].owner), process) ||
            load_relaxed(&a->slab.threads[slot].log) == 0)
            continue;
        finish_of_thread(a, slot, process);
        finished++;
    }
    return finished;
}

static uint64_t
recover(hshm_allocator *a, uint64_t process)
{
    uint64_t finished = 0;
    for (uint32_t id = 0; id < a->op_logs; id++) {
        if (!is_of(load_seq_cst(&log_at(a, id)->owner), process))
            continue;
        finish(a, id, process);
        finished++;
    }
    return finished;
}

void
op_recover(hshm_allocator *a, uint32_t process, hshm_recover_report *report)
{
    report->operations += recover(a, process) + recover_threads(a, process);
    names_unlock_of(a, process);
}

void
op_recover_copy(hshm_allocator *a)
{
    (void)recover(a, UINT64_MAX);
    (void)recover_threads(a, UINT64_MAX); /* this thread itself is in none */
    if (a->name_count != 0)
        store_release(&a->op_table->names_lock, 0);
}

void
op_recover_dead(hshm_allocator *a)
{
    (void)allocator_for_each_dead(a, a->ops.recover, &(hshm_recover_report){ 0 });
}
