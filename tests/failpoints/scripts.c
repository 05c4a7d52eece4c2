/*
 * scripts.c - see scripts.h.
 */
#include "scripts.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocator/allocator.h"
#include "allocator/page_slab.h"
#include "points.h"

enum { MANY = 8, FEW = 2, LEAVERS_CALLS = 40 };

/* ---- regions ---- */

void
created_url(const struct cast *cast, char *ret_url, size_t size)
{
    (void)snprintf(ret_url, size, "%s-new", cast->url);
}

static void
run_create(struct victim *v)
{
    char url[128];
    created_url(v->cast, url, sizeof url);
    assert_ok(hshm_backend_create(NULL, 2, v->cast->backend, v->cast->size, url, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 2, 0 }, v->cast->kind, 0, NULL, NULL));
}

static void
run_last_detach(struct victim *v)
{
    (void)v;
    assert_ok(hshm_backend_detach(NULL, 1));
}

static void
run_squeeze(struct victim *v)
{
    const hshm_status status = hshm_trim(v->w.heap, 0, NULL);
    assert_true(status == HSHM_OK || status == HSHM_E_NOTSUP);
}

/* ---- threads and children ---- */

/* Another thread works, and waits for the call: its end. */
struct leaver {
    struct worker w;
    pthread_t thread;
    struct step worked, may_end;
};

static struct leaver leaver;

static void *
work_and_end(void *arg)
{
    struct leaver *self = arg;
    work(&self->w, LEAVERS_CALLS);
    step_reach(&self->worked);
    step_wait(&self->may_end, 1);
    return NULL;
}

static bool
choose_thread(struct victim *v)
{
    leaver = (struct leaver){ .w = v->w };
    leaver.w.random = next_random(&v->w.random);
    assert_int_equal(pthread_create(&leaver.thread, NULL, work_and_end, &leaver), 0);
    step_wait(&leaver.worked, 1);
    return true;
}

static void
run_end_of_thread(struct victim *v)
{
    (void)v;
    step_reach(&leaver.may_end);
    assert_int_equal(pthread_join(leaver.thread, NULL), 0);
}

static void
run_short_fork(struct victim *v)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        void *block = hshm_malloc(v->w.heap, 100);
        _exit(block != NULL && hshm_free(v->w.heap, block) == HSHM_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* ---- the Stack ---- */

static hshm_stack_height mark;

static bool
choose_mark(struct victim *v)
{
    v->size = small_size(&v->w) + 1;
    assert_ok(hshm_stack_mark(v->w.heap, &mark));
    return hshm_malloc(v->w.heap, v->size) != NULL;
}

static void
run_rewind(struct victim *v)
{
    assert_ok(hshm_stack_rewind(v->w.heap, mark));
}

/* Its block is what the call is about. */
static void
make_subject(struct victim *v, void *block, size_t size)
{
    v->block = block;
    v->size = size;
    v->w.ledger->subject = (struct held){ hshm_to_off(v->w.heap, block), size, 1 };
    fill_held(v->w.heap, block, size, 1);
}

static bool
choose_two_granules(struct victim *v)
{
    void *block = hshm_malloc(v->w.heap, 20);
    if (block == NULL)
        return false;
    make_subject(v, block, 20);
    v->size = 10;
    v->w.ledger->keeps = 8;
    return true;
}

/* ---- a run that grows, and meets another one ---- */

static bool
choose_too_little_room(struct victim *v)
{
    hshm_allocator *heap = v->w.heap;
    const size_t size = (size_t)(9 * v->w.slice);
    unsigned char *blocks[3];
    run_squeeze(v);
    for (size_t i = 0; i < 3; i++)
        blocks[i] = hshm_malloc(heap, size);
    const bool are_neighbours = blocks[0] != NULL && blocks[1] == blocks[0] + size && blocks[2] == blocks[1] + size;
    assert_ok(hshm_free(heap, blocks[1]));
    if (!are_neighbours)
        assert_ok(hshm_free(heap, blocks[0]));
    else
        make_subject(v, blocks[0], size);
    note_block(&v->w, blocks[2], size);
    run_squeeze(v);
    v->w.ledger->keeps = size;
    v->size = 2 * size + 1;
    return are_neighbours;
}

/* ---- slots ---- */

static bool
choose_large_in_slot(struct victim *v)
{
    empty_slot(v, 0);
    return hshm_allocate_to(v->w.heap, large_size(&v->w), slot_at(v, 0)) == HSHM_OK;
}

static void
run_free_from_slot(struct victim *v)
{
    assert_ok(hshm_free_from(v->w.heap, slot_at(v, 0)));
}

/* ---- one who is about to free a block from a slot, and others who come by it ---- */

struct giver {
    hshm_allocator *heap;
    hshm_slot *slot;
    pthread_t thread;
    struct step gave, may_go_on;
};

static struct giver giver;

static void
wait_after_giving(void *arg)
{
    struct giver *self = arg;
    step_reach(&self->gave);
    step_wait(&self->may_go_on, 1);
}

static void *
give_from_slot(void *arg)
{
    struct giver *self = arg;
    point_call("slot.given", wait_after_giving, self);
    assert_ok(hshm_free_from(self->heap, self->slot));
    return NULL;
}

/* The last block of a slab of this thread: another one has freed it, and its log still says that it is about to. */
static bool
choose_given(struct victim *v)
{
    hshm_allocator *heap = v->w.heap;
    giver = (struct giver){ .heap = heap, .slot = slot_at(v, 0) };
    empty_slot(v, 0);
    void *block = hshm_malloc(heap, (size_t)(v->w.slice / 4 + 600)); /* of a class that few use */
    if (block == NULL)
        return false;
    /* By hand: allocate_to() takes from slabs that the log has to itself. */
    __atomic_store_n(&giver.slot->word, user_slot_make(USER_SLOT_FULL, 0, hshm_to_off(heap, block)), __ATOMIC_RELEASE);
    assert_int_equal(pthread_create(&giver.thread, NULL, give_from_slot, &giver), 0);
    step_wait(&giver.gave, 1);
    return true;
}

static void
settle_given(struct victim *v)
{
    (void)v;
    step_reach(&giver.may_go_on);
    assert_int_equal(pthread_join(giver.thread, NULL), 0);
}

/* ---- ScalablePage: a slab that is made free has bits of both kinds ---- */

enum { BLOCKS_OF_MIXED = 400, MIXED_SIZE = 32, SHARED_OF_WORD = 5 };

struct mixed {
    void *blocks[BLOCKS_OF_MIXED];
    size_t count;
    struct slab_record *slab; /* all blocks of it are ours */
    bits_word *bit_at;        /* one of its shared bits */
    bool is_taken;            /* by one who was slow    */
};

static struct mixed mixed;

static bool
is_of_slab(hshm_allocator *heap, const void *block, const struct slab_record *slab, struct block_place *ret_place)
{
    return slab_find(heap, block, ret_place) && ret_place->record == slab;
}

/* A slab of this processor's of which all blocks are ours; NULL if there is none. */
static struct slab_record *
whole_slab(hshm_allocator *heap, const struct mixed *m)
{
    struct block_place place;
    for (size_t first = 0; first < m->count; first++) {
        uint32_t count = 0;
        assert_true(slab_find(heap, m->blocks[first], &place));
        struct slab_record *slab = place.record;
        for (size_t i = first; i < m->count; i++)
            count += is_of_slab(heap, m->blocks[i], slab, &place);
        if (count == atomic_load(&slab->blocks) && count >= 2 * WORD_BITS &&
            page_own_home(atomic_load(&slab->own)) == rseq_cpu() + 1)
            return slab;
    }
    return NULL;
}

/* All blocks but the last of that slab are freed, a few of each word by shared bits. */
static void
free_all_but_one(struct victim *v, struct mixed *m)
{
    hshm_allocator *heap = v->w.heap;
    void *last = NULL;
    for (size_t i = 0; i < m->count; i++) {
        struct block_place place;
        if (m->slab == NULL || !is_of_slab(heap, m->blocks[i], m->slab, &place))
            assert_ok(hshm_free(heap, m->blocks[i]));
        else if (place.block == 10)
            last = m->blocks[i];
        else if (place.block % WORD_BITS < SHARED_OF_WORD)
            assert_true(heap->ops.give_elsewhere(heap, &place));
        else
            assert_ok(hshm_free(heap, m->blocks[i]));
    }
    if (last != NULL)
        make_subject(v, last, MIXED_SIZE);
}

/* In a region with one shard, slabs are at home on processor 0, and nowhere else. */
static void
run_at_home(bool at_home)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (size_t cpu = at_home ? 0 : 1; cpu < (at_home ? 1 : CPU_SETSIZE); cpu++)
        CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* where it may not be, it stays */
}

/* Of one size, of which blocks are few in a slab, so that it is soon without one. */
static bool
choose_away(struct victim *v)
{
    run_at_home(false);
    v->size = (size_t)(v->w.slice / 2 + v->cast->seed % (v->w.slice / 2));
    return true;
}

static void
settle_taken(struct victim *v)
{
    note_block(&v->w, v->block, v->size);
}

static bool
choose_mixed(struct victim *v)
{
    mixed = (struct mixed){ 0 };
    if (v->cast->kind != HSHM_ALLOCATOR_SCALABLE_PAGE)
        return false;
    run_at_home(true);
    for (void *block; mixed.count < BLOCKS_OF_MIXED; mixed.count++) {
        block = hshm_malloc(v->w.heap, MIXED_SIZE);
        if (block == NULL)
            break;
        mixed.blocks[mixed.count] = block;
    }
    v->block = NULL;
    mixed.slab = whole_slab(v->w.heap, &mixed);
    free_all_but_one(v, &mixed);
    return v->block != NULL;
}

static void
run_free_and_squeeze(struct victim *v)
{
    assert_ok(hshm_free(v->w.heap, v->block));
    v->w.ledger->subject.off = 0;
    run_squeeze(v);
}

/* As a taker does that looked at the slab before it was locked, and was stopped for long. */
static void
take_late(void *arg)
{
    struct mixed *m = arg;
    m->is_taken = (atomic_fetch_and(m->bit_at, ~UINT64_C(1)) & 1) != 0;
}

static bool
choose_taken_late(struct victim *v)
{
    if (!choose_mixed(v))
        return false;
    mixed.bit_at = &remote_of(&v->w.heap->slab, mixed.slab)[1];
    point_call("page.taking", take_late, &mixed);
    return true;
}

/* It finds that the slab was locked, and puts the bit back. */
static void
settle_taken_late(struct victim *v)
{
    (void)v;
    if (!mixed.is_taken)
        return;
    (void)atomic_fetch_or(mixed.bit_at, 1);
    note_shared(mixed.slab);
}

/* ---- all of them ---- */

const struct call script_calls[] = {
    { .name = CALL_CREATES, .stack = true, .slabs = true, .detached = true, .rounds = 1, .run = run_create },
    { .name = CALL_LAST, .stack = true, .slabs = true, .rounds = 1, .choose = choose_trim, .run = run_last_detach },
    { .name = "a thread ends", .slabs = true, .rounds = FEW, .choose = choose_thread, .run = run_end_of_thread },
    { .name = "fork, the child ends",
      .stack = true,
      .slabs = true,
      .news = 1,
      .rounds = 1,
      .choose = choose_trim,
      .run = run_short_fork },
    { .name = CALL_REWINDS, .stack = true, .news = 1, .rounds = FEW, .choose = choose_mark, .run = run_rewind },
    { .name = "shrink to one granule",
      .stack = true,
      .news = 1,
      .rounds = FEW,
      .choose = choose_two_granules,
      .run = run_realloc,
      .settle = settle_resized },
    { .name = "free a large block from a slot",
      .stack = true,
      .slabs = true,
      .exact = true,
      .rounds = FEW,
      .choose = choose_large_in_slot,
      .run = run_free_from_slot },
    { .name = "grow into another one",
      .slabs = true,
      .news = 1,
      .rounds = FEW,
      .choose = choose_too_little_room,
      .run = run_realloc,
      .settle = settle_resized },
    { .name = "see a block that is being freed from a slot",
      .slabs = true,
      .rounds = FEW,
      .choose = choose_given,
      .run = run_squeeze,
      .settle = settle_given },
    { .name = "take a block away from home",
      .slabs = true,
      .news = 1,
      .rounds = MANY,
      .choose = choose_away,
      .run = run_malloc,
      .settle = settle_taken },
    { .name = CALL_MIXED, .slabs = true, .rounds = FEW, .choose = choose_mixed, .run = run_free_and_squeeze },
    { .name = CALL_TAKEN_LATE,
      .slabs = true,
      .news = 1,
      .rounds = FEW,
      .choose = choose_taken_late,
      .run = run_free_and_squeeze,
      .settle = settle_taken_late },
};
const size_t script_count = sizeof script_calls / sizeof script_calls[0];
