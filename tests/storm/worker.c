/*
 * worker.c - what a worker does: random calls, until it is killed.  See storm.h.
 */
#include "storm.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
enum { PART = 64, WHAT_OFF_BITS = 24, WHAT_KEY_BITS = 16 };

struct thread {
    struct caller caller;
    const struct subject *subject;
    struct storm *storm;
    struct worker *worker;
    struct holder *holder;
    unsigned process, index;
    uint64_t random;
};

static uint64_t
below(struct thread *t, uint64_t limit)
{
    return next_random(&t->random) % limit;
}

static bool
is_stack(const struct thread *t)
{
    return t->subject->kind == HSHM_ALLOCATOR_STACK;
}

/* ---- blocks that say what is in them ---- */

void *
entry_block(const struct subject *subject, uint64_t what)
{
    return subject->to_addr((what & ((1u << WHAT_OFF_BITS) - 1)) * 16);
}

static size_t
entry_size(uint64_t what)
{
    return (size_t)(what >> (WHAT_OFF_BITS + WHAT_KEY_BITS));
}

static unsigned
entry_key(uint64_t what)
{
    return (unsigned)(what >> WHAT_OFF_BITS & ((1u << WHAT_KEY_BITS) - 1));
}

/* The begin depends on the key alone, so that a block may change its size; the end on the size, too. */
static unsigned char
byte_at(unsigned key, size_t i)
{
    return (unsigned char)((key * 131u + (unsigned)i * 7u) >> (i & 7));
}

static size_t
head_size(size_t size)
{
    return size < PART ? size : PART;
}

static size_t
tail_begin(size_t size)
{
    return size < 2 * (size_t)PART ? head_size(size) : size - PART;
}

static uint64_t
write_block(struct thread *t, unsigned char *block, size_t size)
{
    const unsigned key = 1 + (unsigned)below(t, (1u << WHAT_KEY_BITS) - 1);
    for (size_t i = 0; i < head_size(size); i++)
        block[i] = byte_at(key, i);
    for (size_t i = tail_begin(size); i < size; i++)
        block[i] = byte_at(key ^ (unsigned)size, i);
    return (uint64_t)size << (WHAT_OFF_BITS + WHAT_KEY_BITS) | (uint64_t)key << WHAT_OFF_BITS |
           t->subject->to_off(block) / 16;
}

static bool
head_holds(const unsigned char *block, unsigned key, size_t size)
{
    for (size_t i = 0; i < head_size(size); i++) {
        if (block[i] != byte_at(key, i))
            return false;
    }
    return true;
}

bool
read_block(const struct subject *subject, struct storm *storm, uint64_t what)
{
    const size_t size = entry_size(what);
    const unsigned key = entry_key(what);
    const unsigned char *block = entry_block(subject, what);
    bool holds = head_holds(block, key, size);
    for (size_t i = tail_begin(size); i < size; i++)
        holds = holds && block[i] == byte_at(key ^ (unsigned)size, i);
    if (holds && subject->kind != HSHM_ALLOCATOR_ANY)
        holds = hshm_usable_size(our_heap, block) >= size;
    if (!holds)
        storm_fault(storm, FAULT_CONTENT, "a block of %zu bytes at offset %llu is not what was written there", size,
                    (unsigned long long)subject->to_off(block));
    return holds;
}

/* ---- calls ---- */

/* `may_lose`: blocks that a kill from now on may leave live and unknown, but for the one in hand. */
static void
risk(struct thread *t, uint32_t may_lose)
{
    atomic_store(&t->holder->may_lose, may_lose);
}

static void
hold(struct thread *t, uint64_t what)
{
    atomic_store(&t->holder->hand, what);
}

/*
 * Most are small, so that kills find the library at work rather than the system, which gives pages; some are such that a slab has
 * few blocks and comes and goes.  A Stack is full soon enough.
 */
static size_t
any_size(struct thread *t)
{
    const size_t sizes[] = { 64, 64, 64, 64, 64, 600, 600, 600, 600, 600, 8000, 8000, 40000, 100000, 400000, 1000000 };
    return 16 + (size_t)below(t, sizes[below(t, sizeof sizes / sizeof sizes[0])]) / (is_stack(t) ? 64 : 1);
}

static uint64_t
clear(struct entry *entry)
{
    return atomic_exchange(&entry->what, 0);
}

static void
bad_answer(struct thread *t, enum call call)
{
    storm_fault(t->storm, FAULT_ANSWER, "%s: %s: %s", call_names[call], hshm_status_name(hshm_last_status()),
                hshm_last_error());
}

/* Free what no entry leads to any more, and is in hand, if it is anything.  A Stack's block may leave its end live. */
static void
drop(struct thread *t, uint64_t what)
{
    if (what == 0)
        return;
    if (read_block(t->subject, t->storm, what)) {
        risk(t, is_stack(t));
        call_begin(&t->caller, CALL_FREE);
        const bool done = t->subject->give(entry_block(t->subject, what));
        call_end(&t->caller);
        risk(t, 0);
        if (!done)
            bad_answer(t, CALL_FREE);
    }
    hold(t, 0);
}

/* There may be no room; other reasons there must not be. */
static void
no_block(struct thread *t, enum call call)
{
    atomic_store(&t->storm->is_full, 1);
    if (t->subject->kind != HSHM_ALLOCATOR_ANY && hshm_last_status() != HSHM_E_NOMEM)
        bad_answer(t, call);
}

static void
drop_entry(struct thread *t, struct entry *entry)
{
    const uint64_t what = atomic_load(&entry->what);
    hold(t, what);
    atomic_store(&entry->what, 0); /* nobody else writes it */
    drop(t, what);
}

static void *
take_somehow(struct thread *t, size_t size)
{
    const uint64_t roll = t->subject->kind == HSHM_ALLOCATOR_ANY ? 15 : below(t, 16);
    const enum call call = roll < 2 ? CALL_ALIGNED : roll < 4 && size < 65536 ? CALL_CALLOC : CALL_MALLOC;
    const size_t alignment = (size_t)16 << below(t, 14);
    call_begin(&t->caller, call);
    void *block = call == CALL_ALIGNED  ? hshm_aligned_alloc(our_heap, alignment, size)
                  : call == CALL_CALLOC ? hshm_calloc(our_heap, 1, size)
                                        : t->subject->take(size);
    call_end(&t->caller);
    if (block == NULL)
        no_block(t, call);
    if (block != NULL && call == CALL_CALLOC &&
        (*(unsigned char *)block != 0 || memcmp(block, (unsigned char *)block + 1, size - 1) != 0))
        storm_fault(t->storm, FAULT_CONTENT, "calloc gave a block of %zu bytes that are not zero", size);
    return block;
}

static void
take(struct thread *t, struct entry *entry)
{
    const size_t size = any_size(t);
    risk(t, 1);
    void *block = take_somehow(t, size);
    /* Nobody else writes this entry: it was cleared by us. */
    if (block != NULL)
        atomic_store(&entry->what, write_block(t, block, size));
    risk(t, 0);
}

static void
change(struct thread *t, struct entry *entry)
{
    const uint64_t what = atomic_load(&entry->what);
    const size_t size = any_size(t) / 4 + 16; /* a large one is copied for long */
    if (what == 0 || !read_block(t->subject, t->storm, what))
        return;
    hold(t, what);
    risk(t, is_stack(t) ? 2 : 1);
    atomic_store(&entry->what, 0);
    call_begin(&t->caller, CALL_REALLOC);
    unsigned char *block = hshm_realloc(our_heap, entry_block(t->subject, what), size);
    call_end(&t->caller);
    if (block == NULL)
        no_block(t, CALL_REALLOC);
    const size_t kept = entry_size(what) < size ? entry_size(what) : size;
    if (block != NULL && !head_holds(block, entry_key(what), kept))
        storm_fault(t->storm, FAULT_CONTENT, "realloc from %zu to %zu bytes lost the content", entry_size(what), size);
    atomic_store(&entry->what, block != NULL ? write_block(t, block, size) : what);
    risk(t, 0);
    hold(t, 0);
}

/* From hand to hand: what another put there is ours, and the other way round. */
static void
trade(struct thread *t, struct entry *entry)
{
    struct entry *stall = &t->storm->market[below(t, MARKET)];
    risk(t, 1);
    const uint64_t ours = clear(entry);
    hold(t, ours);
    const uint64_t theirs = atomic_exchange(&stall->what, ours);
    hold(t, theirs);
    risk(t, 0);
    drop(t, theirs);
}

/* ---- slots: nothing may be lost ---- */

static struct user_slots *
slots(void)
{
    return hshm_allocator_custom_header(our_heap, NULL);
}

static hshm_slot *
any_slot(struct thread *t)
{
    return &slots()->shared[below(t, SHARED_SLOTS)];
}

static void
slot_answer(struct thread *t, enum call call, hshm_status status)
{
    if (status == HSHM_E_INVAL || status == HSHM_E_NOTSUP || status == HSHM_E_PERM || status == HSHM_E_BADFREE ||
        status == HSHM_E_LIMIT)
        bad_answer(t, call);
}

static hshm_status
slot_free(struct thread *t, hshm_slot *slot)
{
    call_begin(&t->caller, CALL_FREE_FROM);
    const hshm_status status = hshm_free_from(our_heap, slot);
    call_end(&t->caller);
    slot_answer(t, CALL_FREE_FROM, status);
    return status;
}

static hshm_status
slot_take(struct thread *t, hshm_slot *slot, size_t size)
{
    call_begin(&t->caller, CALL_ALLOCATE_TO);
    const hshm_status status = hshm_allocate_to(our_heap, size, slot);
    call_end(&t->caller);
    slot_answer(t, CALL_ALLOCATE_TO, status);
    return status;
}

static hshm_status
slot_move(struct thread *t, hshm_slot *from, hshm_slot *to)
{
    call_begin(&t->caller, CALL_MOVE);
    const hshm_status status = hshm_move(our_heap, from, to);
    call_end(&t->caller);
    slot_answer(t, CALL_MOVE, status);
    return status;
}

/* A slot of its own: what is in the block is written down, and must be there. */
static void
use_own_slot(struct thread *t)
{
    const uint64_t i = below(t, OWN_SLOTS);
    hshm_slot *own = slots()->own[t->process][t->index];
    struct entry *entry = &t->holder->own[i];
    const uint64_t what = clear(entry);
    if (what != 0)
        (void)read_block(t->subject, t->storm, what);
    if (below(t, 4) == 0) {
        (void)slot_move(t, &own[i], any_slot(t));
        (void)slot_free(t, &own[i]);
        return;
    }
    (void)slot_free(t, &own[i]);
    const size_t size = any_size(t) / 4 + 16;
    if (slot_take(t, &own[i], size) == HSHM_OK)
        atomic_store(&entry->what, write_block(t, hshm_to_addr(our_heap, hshm_slot_load(&own[i])), size));
}

static void
use_slots(struct thread *t)
{
    switch (below(t, 4)) {
    case 0:
        (void)slot_take(t, any_slot(t), any_size(t) / 4 + 16);
        break;
    case 1:
        (void)slot_free(t, any_slot(t));
        break;
    case 2: {
        hshm_slot *from = any_slot(t);
        hshm_slot *to = any_slot(t);
        if (from != to)
            (void)slot_move(t, from, to);
        break;
    }
    default:
        use_own_slot(t);
        break;
    }
}

/* ---- the rest ---- */

static void
leave_and_come_back(struct thread *t)
{
    call_begin(&t->caller, CALL_DETACH);
    t->subject->detach();
    call_end(&t->caller);
    call_begin(&t->caller, CALL_ATTACH);
    const bool done = t->subject->attach(t->storm->name, true);
    call_end(&t->caller);
    if (done)
        return;
    bad_answer(t, CALL_ATTACH);
    _exit(1);
}

static void
trim(struct thread *t)
{
    if (is_stack(t)) /* wants that nobody allocates meanwhile */
        return;
    call_begin(&t->caller, CALL_TRIM);
    const hshm_status status = hshm_trim(our_heap, below(t, 8 * MIB), NULL);
    call_end(&t->caller);
    if (status != HSHM_OK)
        bad_answer(t, CALL_TRIM);
}

static void
recover(struct thread *t)
{
    call_begin(&t->caller, CALL_RECOVER);
    const hshm_status status = hshm_recover(our_heap, NULL);
    call_end(&t->caller);
    if (status != HSHM_OK)
        bad_answer(t, CALL_RECOVER);
}

/* What any heap can. */
static void
plain_call(struct thread *t, struct entry *entry)
{
    if (below(t, 3) == 0) {
        trade(t, entry);
        return;
    }
    drop_entry(t, entry);
    take(t, entry);
}

/* What takes long, and so would be where most are killed.  True if it was done. */
static bool
seldom(struct thread *t)
{
    const uint64_t roll = below(t, 65536);
    if (roll == 0)
        trim(t);
    else if (roll <= 8)
        recover(t);
    else if (roll <= 16 && t->worker->threads == 1)
        leave_and_come_back(t);
    else
        return false;
    return true;
}

static void
call_once(struct thread *t)
{
    struct entry *entry = &t->holder->entries[below(t, HELD)];
    const uint64_t roll = below(t, 8);
    if (t->subject->kind == HSHM_ALLOCATOR_ANY)
        plain_call(t, entry);
    else if (seldom(t))
        return;
    else if (roll < 2 || t->worker->slots_only)
        use_slots(t);
    else if (roll < 3)
        change(t, entry);
    else
        plain_call(t, entry);
}

static void
wait_at_gate(struct thread *t)
{
    const struct timespec moment = { 0, 300000 };
    (void)atomic_fetch_add(&t->worker->parked, 1);
    while (atomic_load(&t->storm->gate) != 0)
        (void)nanosleep(&moment, NULL);
    (void)atomic_fetch_sub(&t->worker->parked, 1);
}

static void *
storm_on(void *arg)
{
    struct thread *t = arg;
    t->caller = caller_make(t->storm, t->holder);
    for (;;) {
        if (atomic_load_explicit(&t->storm->gate, memory_order_relaxed) != 0)
            wait_at_gate(t);
        call_once(t);
    }
    return NULL;
}

_Noreturn void
worker_run(const struct subject *subject, struct storm *storm, unsigned index)
{
    struct worker *worker = &storm->workers[index];
    struct thread threads[THREADS_MAX];
    uint64_t random = worker->seed;
    struct caller caller = caller_make(storm, &worker->holders[0]);
    call_begin(&caller, CALL_ATTACH);
    const bool attached = subject->attach(storm->name, worker->attach);
    call_end(&caller);
    (void)close(caller.schedstat);
    if (!attached) {
        storm_fault(storm, FAULT_ANSWER, "attach: %s", hshm_last_error());
        _exit(1);
    }
    for (unsigned i = 0; i < worker->threads; i++)
        threads[i] = (struct thread){ .subject = subject,
                                      .storm = storm,
                                      .worker = worker,
                                      .holder = &worker->holders[i],
                                      .process = index,
                                      .index = i,
                                      .random = next_random(&random) };
    for (unsigned i = 1; i < worker->threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, storm_on, &threads[i]) != 0)
            _exit(1);
    }
    (void)storm_on(&threads[0]);
    _exit(1);
}
