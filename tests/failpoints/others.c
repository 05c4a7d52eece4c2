/*
 * others.c - see others.h.
 *
 * Each call has to end, and to answer what it answers anyway, but for these, which say with a status that a process is in the
 * middle of something (docs/design.md, "Who can wait for whom"):
 *     a call on the very slot that the stopped one is changing        HSHM_E_BUSY
 *     a call on any slot while stopped ones hold all logs             HSHM_E_LIMIT, after a second
 *     attach while the last user of a file writes it to its disk       HSHM_E_BUSY
 *     attach to what is being created                                 HSHM_E_NOTFOUND, HSHM_E_NOTREADY
 */
#include "others.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocator/allocator.h"
#include "scripts.h"

enum { HANG_SECONDS = 20, CALLS = 40, BLOCKS_OF_THEIRS = 3, SLOT_ROUNDS = 4 };

struct other {
    struct others *all;
    uint32_t number;
    struct worker w;
    struct ledger ledger;
};

#define DO(other, what) ((void)((other)->all->doing[(other)->number] = (what)))

static void
use_blocks(struct other *o)
{
    DO(o, "malloc, free, realloc, calloc, aligned_alloc");
    work(&o->w, CALLS);
}

/* Blocks that stopped ones own: the founder's, or the victim's. */
static void
free_theirs(struct other *o)
{
    struct worker theirs = o->w;
    DO(o, "free of others' blocks");
    theirs.ledger = &o->all->cast->ledger;
    theirs.part = o->number == 1 ? PART_FOUNDER : PART_VICTIM;
    for (int i = 0; i < BLOCKS_OF_THEIRS && o->number != 0; i++) {
        struct held *held = pick_block(&theirs, theirs.part, 0, UINT64_MAX);
        if (held != NULL)
            free_held(&theirs, held);
    }
}

/*
 * All logs are held: only a thread's own small blocks (ThreadLocal) need none, once it has some; nor, in heaps that inline.h knows,
 * which this one is not, to be freed.
 */
static void
use_slots_without_logs(struct other *o, hshm_slot *slots)
{
    hshm_allocator *heap = o->w.heap;
    assert_status(hshm_allocate_to(heap, large_size(&o->w), &slots[0]), HSHM_E_LIMIT);
    const hshm_status status = hshm_allocate_to(heap, 10, &slots[0]);
    if (heap->slab.has_owners && status == HSHM_OK) {
        assert_status(hshm_move(heap, &slots[0], &slots[1]), HSHM_E_LIMIT);
        assert_status(hshm_free_from(heap, &slots[0]), HSHM_E_LIMIT);
        assert_ok(hshm_free(heap, hshm_to_addr(heap, hshm_slot_load(&slots[0]))));
    } else {
        assert_status(status, HSHM_E_LIMIT);
    }
}

/* Slots that nobody else uses. */
static void
use_slots(struct other *o)
{
    hshm_allocator *heap = o->w.heap;
    DO(o, "allocate_to, move, free_from");
    hshm_slot *slots = hshm_calloc(heap, 2, sizeof *slots);
    for (int i = 0; i < SLOT_ROUNDS && slots != NULL; i++) {
        if (o->all->logs_are_held) {
            use_slots_without_logs(o, slots);
            break;
        }
        const hshm_status status = hshm_allocate_to(heap, any_size(&o->w), &slots[0]);
        if (status == HSHM_E_NOMEM)
            continue;
        assert_ok(status);
        assert_ok(hshm_move(heap, &slots[0], &slots[1]));
        assert_ok(hshm_free_from(heap, &slots[1]));
    }
    assert_ok(hshm_free(heap, slots));
}

/* Only while the stopped one is changing names: then for a second, and that is the answer. */
static bool
has_changed(const struct other *o, hshm_status status)
{
    const bool is_locked = atomic_load(&o->w.heap->op_table->names_lock) != 0;
    return status == HSHM_OK || (status == HSHM_E_BUSY && o->all->is_stopped && is_locked);
}

static void
use_names(struct other *o)
{
    hshm_allocator *heap = o->w.heap;
    void *block = hshm_malloc(heap, 10);
    void *found = NULL;
    char name[16];
    (void)snprintf(name, sizeof name, "other %u", o->number);
    DO(o, "name_set, name_get, name_remove");
    const hshm_status status = block == NULL ? HSHM_E_NOMEM : hshm_name_set(heap, name, block);
    if (status == HSHM_OK) {
        assert_ok(hshm_name_get(heap, name, &found));
        assert_ptr_equal(found, block);
        assert_true(has_changed(o, hshm_name_remove(heap, name)));
    } else if (block != NULL) {
        assert_true(has_changed(o, status));
        assert_status(hshm_name_get(heap, name, &found), HSHM_E_NOTFOUND);
    }
    assert_ok(hshm_free(heap, block));
}

/* Their slabs nobody else takes from. */
static void
use_own(struct other *o)
{
    hshm_allocator *heap = o->w.heap;
    DO(o, "malloc_lifetime");
    for (int i = 0; i < SLOT_ROUNDS && cuts_slabs(o->all->cast->kind); i++)
        assert_ok(hshm_free(heap, hshm_malloc_lifetime(heap, any_size(&o->w), HSHM_LIFETIME_PROCESS)));
}

/* What free_from() answers where a slot is not full. */
static bool
is_answer(const struct others *all, enum user_slot_state state, hshm_status status)
{
    if (state == USER_SLOT_EMPTY || !all->is_stopped)
        return status == HSHM_E_NOTFOUND;
    /* A dead one's: it is cleaned up after by the call, unless the stopped one is at it. */
    return status == HSHM_E_BUSY || (all->is_cleaner && status == HSHM_E_NOTFOUND);
}

/* Where a dead one was changing the slot, another one of us may be cleaning up after it just now: then once more. */
static hshm_status
free_from_settled(const struct other *o, hshm_slot *slot)
{
    hshm_status status = hshm_free_from(o->w.heap, slot);
    while (status == HSHM_E_BUSY && !o->all->is_stopped)
        status = hshm_free_from(o->w.heap, slot);
    return status;
}

/* The victim's slots, with calls that change nothing. */
static void
look_at_slots(struct other *o)
{
    struct user_slots *theirs = hshm_allocator_custom_header(o->w.heap, NULL);
    DO(o, "free_from, allocate_to on the slots of the stopped one");
    for (size_t i = 0; i < USER_SLOTS && o->number == 0; i++) {
        hshm_slot *slot = &theirs->slots[i];
        const enum user_slot_state state = user_slot_state(__atomic_load_n(&slot->word, __ATOMIC_SEQ_CST));
        if (state == USER_SLOT_FULL)
            assert_status(hshm_allocate_to(o->w.heap, 10, slot), HSHM_E_EXISTS);
        else
            assert_true(is_answer(o->all, state, free_from_settled(o, slot)));
    }
}

static int
count_block(const hshm_block *block, void *arg)
{
    uint64_t *bytes = arg;
    *bytes += block->size;
    return 0;
}

static void
look(struct other *o)
{
    uint64_t bytes = 0;
    DO(o, "stats_get");
    (void)stats_of(o->w.heap);
    DO(o, "visit_blocks");
    assert_ok(hshm_visit_blocks(o->w.heap, count_block, &bytes));
}

static void
trim_and_recover(struct other *o)
{
    DO(o, "trim");
    const hshm_status status = hshm_trim(o->w.heap, 0, NULL);
    assert_true(status == HSHM_OK || status == HSHM_E_NOTSUP);
    DO(o, "recover");
    assert_ok(hshm_recover(o->w.heap, NULL));
}

/* By another manager, which has a slot of its own. */
static void
attach_once_more(const struct other *o)
{
    const struct cast *cast = o->all->cast;
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    DO(o, "attach");
    assert_status(hshm_backend_attach(manager, cast->backend, cast->url, NULL, NULL),
                  o->all->gate_is_shut ? HSHM_E_BUSY : HSHM_OK);
    DO(o, "detach");
    hshm_manager_destroy(manager);
    DO(o, "remove");
    assert_status(hshm_backend_remove(cast->backend, cast->url), HSHM_E_BUSY);
}

static void
attach_to_new(const struct other *o)
{
    static const hshm_status wanted[] = {
        [NEW_NONE] = HSHM_E_NOTFOUND, [NEW_REGION] = HSHM_E_NOTREADY, [NEW_READY] = HSHM_OK
    };
    const struct cast *cast = o->all->cast;
    hshm_manager *manager = NULL;
    char url[128];
    created_url(cast, url, sizeof url);
    assert_ok(hshm_manager_create(&manager));
    DO(o, "attach to what is being created");
    assert_status(hshm_backend_attach(manager, cast->backend, url, NULL, NULL), wanted[o->all->new_heap]);
    hshm_manager_destroy(manager);
}

static void *
take_and_end(void *arg)
{
    hshm_allocator *heap = arg;
    assert_ok(hshm_free(heap, hshm_malloc(heap, 50)));
    return NULL;
}

static void
end_a_thread(const struct other *o)
{
    pthread_t thread;
    DO(o, "a thread that begins and ends");
    assert_int_equal(pthread_create(&thread, NULL, take_and_end, o->w.heap), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void
fork_once(const struct other *o)
{
    DO(o, "fork");
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)take_and_end(o->w.heap);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void
do_everything(struct other *o)
{
    look(o);
    attach_to_new(o);
    if (o->number == 0)
        attach_once_more(o);
    if (o->all->only_look)
        return;
    use_blocks(o);
    free_theirs(o);
    look_at_slots(o);
    use_slots(o);
    use_names(o);
    use_own(o);
    trim_and_recover(o);
    end_a_thread(o);
    if (o->number == 2)
        fork_once(o);
    use_blocks(o);
    look(o);
    free_down_to(&o->w, 0);
}

/* The victim was alone. */
static int
be_locked_out(const struct other *o)
{
    step_reach(&o->all->attached);
    step_wait(&o->all->go, 1);
    (void)alarm(HANG_SECONDS);
    attach_once_more(o);
    return 0;
}

static int
live_as_other(void *arg)
{
    struct others *all = arg;
    static struct other self;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    self.all = all;
    self.number = atomic_fetch_add(&all->turns, 1);
    if (all->locked_out)
        return be_locked_out(&self);
    hshm_allocator *heap = attach_heap(NULL, all->cast->backend, all->cast->url, 0);
    self.w = worker_make(heap, &self.ledger, PART_VICTIM, all->cast->seed + 10 + self.number);
    step_reach(&all->attached);
    step_wait(&all->go, 1);
    (void)alarm(HANG_SECONDS);
    do_everything(&self);
    DO(&self, "the last detach");
    assert_ok(hshm_backend_detach(NULL, 1));
    DO(&self, NULL);
    return 0;
}

void
others_start(struct others *others, pid_t pids[OTHERS])
{
    for (int i = 0; i < OTHERS; i++)
        pids[i] = child_start(live_as_other, others);
    step_wait(&others->attached, OTHERS);
}

const char *
others_go(struct others *others, const pid_t pids[OTHERS])
{
    static char text[128];
    bool wrong = false;
    step_reach(&others->go);
    for (int i = 0; i < OTHERS; i++) {
        const int status = child_wait(pids[i]);
        const char *doing = NULL;
        for (int k = 0; k < OTHERS && doing == NULL; k++)
            doing = others->doing[k];
        if (status == 0 || wrong)
            continue;
        wrong = true;
        (void)snprintf(text, sizeof text, "%s %s", doing == NULL ? "a start" : doing,
                       status == 128 + SIGALRM ? "hangs" : "fails");
    }
    return wrong ? text : NULL;
}
