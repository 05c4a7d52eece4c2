/*
 * victim.c - see victim.h.
 */
#include "victim.h"

#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#include "allocator/allocator.h"
#include "base/checked.h"
#include "image.h"
#include "stepping.h"
#include "traps.h"

enum {
    FOUNDERS_CALLS = 150,
    MATES_CALLS = 60,
    OWN_CALLS = 40,
    ADOPTED_MAX = 40,
    BLOCKS_OF_LAST = 70,
    FILL_BLOCKS = 64,
    FREED_MAX = 30,
    SLOTS = 6,
    FOUNDERS_SLOTS = 2, /* from there on, the founder fills them */
    MANY = 8,
    FEW = 2
};

/* ---- others ---- */

int
found_heap(void *arg)
{
    struct cast *cast = arg;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    options.slots = cast->slots != 0 ? cast->slots : SLOTS;
    options.commit = cast->lazy ? HSHM_COMMIT_LAZY : HSHM_COMMIT_RESERVE;
    assert_ok(hshm_backend_create(NULL, 1, cast->backend, cast->size, cast->url, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, cast->kind, sizeof(struct user_slots), NULL,
                                    &heap));
    struct worker w = worker_make(heap, &cast->ledger, PART_FOUNDER, cast->seed);
    work(&w, (unsigned)random_below(&w, FOUNDERS_CALLS));
    struct user_slots *slots = hshm_allocator_custom_header(heap, NULL);
    for (size_t i = FOUNDERS_SLOTS; i < USER_SLOTS; i++)
        assert_ok(hshm_allocate_to(heap, small_size(&w), &slots->slots[i]));
    step_reach(&cast->founded);
    (void)pause();
    return 1;
}

struct mate {
    struct worker w;
    struct step ready;
    bool ends;
};

static void *
live_as_mate(void *arg)
{
    struct mate *mate = arg;
    work(&mate->w, (unsigned)random_below(&mate->w, MATES_CALLS));
    step_reach(&mate->ready);
    while (!mate->ends)
        (void)pause();
    return NULL;
}

/* ---- taking ---- */

static bool
choose_small(struct victim *v)
{
    v->size = small_size(&v->w);
    return true;
}

static bool
choose_medium(struct victim *v)
{
    v->size = medium_size(&v->w);
    return true;
}

static bool
choose_large(struct victim *v)
{
    v->size = large_size(&v->w);
    return true;
}

static bool
choose_huge(struct victim *v)
{
    v->size = huge_size(&v->w);
    return true;
}

bool
choose_any(struct victim *v)
{
    v->size = any_size(&v->w);
    v->alignment = (size_t)32 << random_below(&v->w, 8);
    return true;
}

void
run_malloc(struct victim *v)
{
    v->block = hshm_malloc(v->w.heap, v->size);
}

static void
run_aligned(struct victim *v)
{
    v->block = hshm_aligned_alloc(v->w.heap, v->alignment, v->size);
}

static void
run_calloc(struct victim *v)
{
    v->block = hshm_calloc(v->w.heap, 1, v->size);
}

static void
settle_block(struct victim *v)
{
    note_block(&v->w, v->block, v->size);
    if (v->block == NULL || v->size > v->w.data / 8)
        free_down_to(&v->w, 10);
}

/* The heap is nearly full: what is idle, and what the dead left, is wanted. */
static bool
choose_when_short(struct victim *v)
{
    const size_t size = (size_t)(v->w.data / 60);
    for (int i = 0; i < FILL_BLOCKS; i++)
        note_block(&v->w, hshm_malloc(v->w.heap, size), size);
    for (uint64_t i = random_below(&v->w, 6); i > 0; i--) {
        struct held *held = pick_block(&v->w, (unsigned)random_below(&v->w, PARTS), 0, UINT64_MAX);
        if (held != NULL)
            free_held(&v->w, held);
    }
    v->size = random_below(&v->w, 2) == 0 ? medium_size(&v->w) : large_size(&v->w);
    return true;
}

static void
settle_short(struct victim *v)
{
    note_block(&v->w, v->block, v->size);
    free_down_to(&v->w, (unsigned)random_below(&v->w, 30));
}

/* ---- giving back ---- */

static bool
choose_held(struct victim *v, unsigned part, uint64_t from, uint64_t to)
{
    struct held *held = pick_block(&v->w, part, from, to);
    if (held == NULL)
        return false;
    v->w.ledger->subject = *held;
    held->off = 0;
    v->block = hshm_to_addr(v->w.heap, v->w.ledger->subject.off);
    v->size = (size_t)v->w.ledger->subject.size;
    return true;
}

static bool
choose_small_held(struct victim *v)
{
    return choose_held(v, PART_VICTIM, 0, v->w.slice / 4);
}

static bool
choose_medium_held(struct victim *v)
{
    v->size = medium_size(&v->w);
    note_block(&v->w, hshm_malloc(v->w.heap, v->size), v->size);
    return choose_held(v, PART_VICTIM, v->w.slice / 4, v->w.slice * 8);
}

static bool
choose_large_held(struct victim *v)
{
    const uint64_t kind = random_below(&v->w, 4);
    v->size = kind == 0 ? huge_size(&v->w) : large_size(&v->w);
    note_block(&v->w, hshm_malloc(v->w.heap, v->size), v->size);
    return choose_held(v, PART_VICTIM, v->w.slice * 8, UINT64_MAX);
}

static bool
choose_anothers(struct victim *v)
{
    const unsigned part = random_below(&v->w, 2) == 0 ? PART_FOUNDER : PART_MATE;
    return choose_held(v, part, 0, UINT64_MAX);
}

/* The last block of a slab, most often. */
static bool
choose_last(struct victim *v)
{
    v->size = random_below(&v->w, 3) == 0 ? medium_size(&v->w) : small_size(&v->w);
    const uint64_t live = stats_of(v->w.heap).live_bytes;
    uint64_t count = min_u64(BLOCKS_OF_LAST, (v->w.data - min_u64(live, v->w.data)) / 2 / (v->size + 16));
    void *blocks[BLOCKS_OF_LAST];
    for (uint64_t i = 0; i < count; i++)
        blocks[i] = hshm_malloc(v->w.heap, v->size);
    const uint64_t last = count == 0 ? 0 : random_below(&v->w, count);
    for (uint64_t i = 0; i < count; i++) {
        if (i != last)
            assert_ok(hshm_free(v->w.heap, blocks[i]));
    }
    if (count == 0 || blocks[last] == NULL)
        return false;
    note_block(&v->w, blocks[last], v->size);
    for (size_t i = 0; i < PART_BLOCKS; i++) {
        struct held *held = &v->w.ledger->blocks[PART_VICTIM][i];
        if (held->off != hshm_to_off(v->w.heap, blocks[last]))
            continue;
        v->w.ledger->subject = *held;
        held->off = 0;
        v->block = blocks[last];
        return true;
    }
    return false;
}

static void
run_give(struct victim *v)
{
    assert_ok(hshm_free(v->w.heap, v->block));
}

/* ---- changing ---- */

static bool
choose_resize(struct victim *v, size_t size)
{
    v->w.ledger->keeps = min_u64(v->size, size);
    v->w.ledger->keeps += v->w.ledger->keeps == 0;
    v->size = size;
    return true;
}

/* A large block, by some slices more or fewer. */
static bool
choose_resize_large(struct victim *v)
{
    if (!choose_large_held(v))
        return false;
    const uint64_t by = random_below(&v->w, 6 * v->w.slice);
    const bool grows = random_below(&v->w, 2) == 0 || v->size < by + 8 * v->w.slice;
    return choose_resize(v, (size_t)(grows ? v->size + by : v->size - by));
}

static bool
choose_resize_any(struct victim *v)
{
    return choose_held(v, PART_VICTIM, 1, v->w.slice * 8) && choose_resize(v, any_size(&v->w) + 1);
}

void
run_realloc(struct victim *v)
{
    v->block = hshm_realloc(v->w.heap, v->block, v->size);
}

void
settle_resized(struct victim *v)
{
    struct ledger *ledger = v->w.ledger;
    const struct held before = ledger->subject;
    void *block = v->block != NULL ? v->block : hshm_to_addr(v->w.heap, before.off);
    assert_true(is_whole(v->w.heap, block, &before, v->block != NULL ? ledger->keeps : before.size));
    note_block(&v->w, block, v->block != NULL ? v->size : before.size);
}

/* ---- the heap as a whole ---- */

bool
choose_trim(struct victim *v)
{
    work(&v->w, 20);
    return true;
}

static void
run_trim_call(struct victim *v)
{
    const hshm_status status = hshm_trim(v->w.heap, random_below(&v->w, 2) * 16 * v->w.slice, NULL);
    assert_true(status == HSHM_OK || status == HSHM_E_NOTSUP);
}

static void
run_detach(struct victim *v)
{
    (void)v;
    assert_ok(hshm_backend_detach(NULL, 1));
}

static void
run_unregister(struct victim *v)
{
    (void)v;
    assert_ok(hshm_allocator_unregister(NULL, (hshm_allocator_id){ 1, 0 }));
}

void
attach_to(struct victim *v)
{
    hshm_allocator *heap = attach_anyhow(v->cast->backend, v->cast->url);
    v->w = worker_make(heap, &v->cast->ledger, PART_VICTIM, v->cast->seed + 1);
}

static void
run_recover(struct victim *v)
{
    assert_ok(hshm_recover(v->w.heap, NULL));
}

/* The child lives in the heap until its parent is dead. */
static void
run_fork(struct victim *v)
{
    (void)v;
    const pid_t parent = getpid();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0)
        return;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent)
        (void)pause();
    _exit(0);
}

/* ---- blocks in slots ---- */

hshm_slot *
slot_at(const struct victim *v, size_t i)
{
    struct user_slots *slots = hshm_allocator_custom_header(v->w.heap, NULL);
    return &slots->slots[i];
}

void
empty_slot(const struct victim *v, size_t i)
{
    if (hshm_slot_load(slot_at(v, i)) != HSHM_OFF_NULL)
        assert_ok(hshm_free_from(v->w.heap, slot_at(v, i)));
}

static bool
choose_small_for_slot(struct victim *v)
{
    v->size = small_size(&v->w);
    empty_slot(v, 0);
    return true;
}

static bool
choose_large_for_slot(struct victim *v)
{
    v->size = large_size(&v->w);
    empty_slot(v, 0);
    return true;
}

static void
run_allocate_to(struct victim *v)
{
    const hshm_status status = hshm_allocate_to(v->w.heap, v->size, slot_at(v, 0));
    assert_true(status == HSHM_OK || status == HSHM_E_NOMEM);
}

static bool
choose_full_slot(struct victim *v)
{
    empty_slot(v, 0);
    empty_slot(v, 1);
    v->from = 0;
    return hshm_allocate_to(v->w.heap, any_size(&v->w), slot_at(v, 0)) == HSHM_OK;
}

static bool
choose_founders_slot(struct victim *v)
{
    for (v->from = FOUNDERS_SLOTS; v->from < USER_SLOTS; v->from++) {
        if (hshm_slot_load(slot_at(v, v->from)) != HSHM_OFF_NULL)
            return true;
    }
    return false;
}

static void
run_free_from(struct victim *v)
{
    assert_ok(hshm_free_from(v->w.heap, slot_at(v, v->from)));
}

static void
run_move(struct victim *v)
{
    assert_ok(hshm_move(v->w.heap, slot_at(v, 0), slot_at(v, 1)));
}

/* ---- names ---- */

static void
no_name(struct victim *v, const char *name)
{
    hshm_slot *slot;
    assert_ok(hshm_name_slot(v->w.heap, name, &slot));
    if (strcmp(name, NAME_OF_ITS_OWN) == 0 && hshm_slot_load(slot) != HSHM_OFF_NULL)
        assert_ok(hshm_free_from(v->w.heap, slot));
    assert_ok(hshm_name_remove(v->w.heap, name));
}

static bool
choose_name(struct victim *v)
{
    v->size = any_size(&v->w);
    no_name(v, NAME_OF_ITS_OWN);
    return true;
}

static void
run_take_for_name(struct victim *v)
{
    hshm_slot *slot;
    assert_ok(hshm_name_slot(v->w.heap, NAME_OF_ITS_OWN, &slot));
    const hshm_status status = hshm_allocate_to(v->w.heap, v->size, slot);
    assert_true(status == HSHM_OK || status == HSHM_E_NOMEM);
}

static bool
choose_named(struct victim *v)
{
    hshm_slot *slot;
    assert_ok(hshm_name_slot(v->w.heap, NAME_OF_ITS_OWN, &slot));
    return hshm_slot_load(slot) != HSHM_OFF_NULL || hshm_allocate_to(v->w.heap, any_size(&v->w), slot) == HSHM_OK;
}

static void
run_free_name(struct victim *v)
{
    hshm_slot *slot;
    assert_ok(hshm_name_slot(v->w.heap, NAME_OF_ITS_OWN, &slot));
    assert_ok(hshm_free_from(v->w.heap, slot));
    assert_ok(hshm_name_remove(v->w.heap, NAME_OF_ITS_OWN));
}

/* A block that stands in the ledger, and stays there while it has a name. */
static bool
choose_to_name(struct victim *v)
{
    const struct held *held = pick_block(&v->w, PART_VICTIM, 0, UINT64_MAX);
    v->block = held == NULL ? NULL : hshm_to_addr(v->w.heap, held->off);
    return held != NULL;
}

static void
run_name(struct victim *v)
{
    assert_ok(hshm_name_set(v->w.heap, NAME_OF_ANOTHERS, v->block));
}

static void
settle_named(struct victim *v)
{
    no_name(v, NAME_OF_ANOTHERS);
}

/* ---- blocks that end with their process: nobody writes them down ---- */

static bool
choose_own(struct victim *v)
{
    v->size = random_below(&v->w, 8) == 0 ? large_size(&v->w) : any_size(&v->w);
    return true;
}

static void
run_take_own(struct victim *v)
{
    v->block = hshm_malloc_lifetime(v->w.heap, v->size, HSHM_LIFETIME_PROCESS);
}

/* Some stay for later. */
static void
settle_own(struct victim *v)
{
    if (random_below(&v->w, 4) != 0)
        assert_ok(hshm_free(v->w.heap, v->block));
}

static bool
choose_own_held(struct victim *v)
{
    (void)choose_own(v);
    run_take_own(v);
    return v->block != NULL;
}

/* ---- threads ---- */

/* The first thread ends, while another one, which takes no part, keeps the process. */
static void
run_thread_end(struct victim *v)
{
    (void)v;
    pthread_exit(NULL);
}

struct leaver {
    struct worker *w;
    size_t size;
};

static void *
leave_blocks(void *arg)
{
    const struct leaver *leaver = arg;
    for (uint64_t i = 1 + random_below(leaver->w, ADOPTED_MAX); i > 0; i--)
        note_block(leaver->w, hshm_malloc(leaver->w->heap, leaver->size), leaver->size);
    return NULL;
}

/* Another thread leaves a slab with free blocks: what it left is to be adopted. */
static bool
choose_orphaned(struct victim *v)
{
    pthread_t thread;
    const size_t size = random_below(&v->w, 4) == 0 ? medium_size(&v->w) : small_size(&v->w);
    struct leaver leaver = { &v->w, size };
    assert_int_equal(pthread_create(&thread, NULL, leave_blocks, &leaver), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    v->size = size;
    return true;
}

/* ---- all of them ---- */

#define EVERY_KIND .stack = true, .slabs = true
#define TAKES(title, chooses)                                                                       \
    {                                                                                               \
        .name = title, EVERY_KIND, .news = 1, .rounds = MANY, .choose = chooses, .run = run_malloc, \
        .settle = settle_block                                                                      \
    }
#define GIVES(title, chooses)                                                         \
    {                                                                                 \
        .name = title, EVERY_KIND, .rounds = MANY, .choose = chooses, .run = run_give \
    }
#define RESIZES(title, chooses)                                                                      \
    {                                                                                                \
        .name = title, EVERY_KIND, .news = 1, .rounds = MANY, .choose = chooses, .run = run_realloc, \
        .settle = settle_resized                                                                     \
    }

const struct call calls[] = {
    TAKES("take a small block", choose_small),
    TAKES("take a medium block", choose_medium),
    TAKES("take a large block", choose_large),
    TAKES("take a huge block", choose_huge),
    { .name = "take an aligned block",
      EVERY_KIND,
      .news = 1,
      .rounds = MANY,
      .choose = choose_any,
      .run = run_aligned,
      .settle = settle_block },
    { .name = "take a block of zeros",
      EVERY_KIND,
      .news = 1,
      .rounds = MANY,
      .choose = choose_any,
      .run = run_calloc,
      .settle = settle_block },
    { .name = "take when memory is short",
      EVERY_KIND,
      .news = 1,
      .rounds = FEW,
      .choose = choose_when_short,
      .run = run_malloc,
      .settle = settle_short },
    { .name = "take a thread's first block",
      .slabs = true,
      .idle = true,
      .news = 1,
      .rounds = 1,
      .choose = choose_any,
      .run = run_malloc },
    { .name = "take an orphan's block",
      .slabs = true,
      .news = 1,
      .rounds = MANY,
      .choose = choose_orphaned,
      .run = run_malloc,
      .settle = settle_block },
    GIVES("free a small block", choose_small_held),
    GIVES("free a medium block", choose_medium_held),
    GIVES("free a large block", choose_large_held),
    GIVES("free another's block", choose_anothers),
    GIVES("free a slab's last block", choose_last),
    RESIZES("resize a large block", choose_resize_large),
    RESIZES("resize any block", choose_resize_any),
    { .name = "take a small block for a slot",
      EVERY_KIND,
      .exact = true,
      .large = true,
      .rounds = MANY,
      .choose = choose_small_for_slot,
      .run = run_allocate_to },
    { .name = "take a large block for a slot",
      EVERY_KIND,
      .exact = true,
      .rounds = MANY,
      .choose = choose_large_for_slot,
      .run = run_allocate_to },
    { .name = "free a block from a slot",
      EVERY_KIND,
      .exact = true,
      .large = true,
      .rounds = MANY,
      .choose = choose_full_slot,
      .run = run_free_from },
    { .name = "free another's from a slot",
      EVERY_KIND,
      .exact = true,
      .large = true,
      .rounds = MANY,
      .choose = choose_founders_slot,
      .run = run_free_from },
    { .name = "move from slot to slot",
      EVERY_KIND,
      .exact = true,
      .rounds = FEW,
      .choose = choose_full_slot,
      .run = run_move },
    { .name = "take a block of its own",
      .slabs = true,
      .exact = true,
      .rounds = FEW,
      .choose = choose_own,
      .run = run_take_own,
      .settle = settle_own },
    { .name = "free a block of its own",
      .slabs = true,
      .exact = true,
      .rounds = FEW,
      .choose = choose_own_held,
      .run = run_give },
    { .name = "take a block for a name",
      EVERY_KIND,
      .exact = true,
      .rounds = FEW,
      .choose = choose_name,
      .run = run_take_for_name },
    { .name = "free a name's block",
      EVERY_KIND,
      .exact = true,
      .rounds = FEW,
      .choose = choose_named,
      .run = run_free_name },
    { .name = "name a block",
      EVERY_KIND,
      .exact = true,
      .rounds = FEW,
      .choose = choose_to_name,
      .run = run_name,
      .settle = settle_named },
    { .name = "trim", EVERY_KIND, .rounds = FEW, .choose = choose_trim, .run = run_trim_call },
    { .name = "recover", EVERY_KIND, .rounds = 1, .choose = choose_trim, .run = run_recover },
    { .name = "end a thread",
      .slabs = true,
      .by_ptrace = true,
      .rounds = 1,
      .choose = choose_trim,
      .run = run_thread_end },
    { .name = "end the handle", EVERY_KIND, .rounds = 1, .choose = choose_trim, .run = run_unregister },
    { .name = "detach", EVERY_KIND, .rounds = 1, .choose = choose_trim, .run = run_detach },
    { .name = "attach", EVERY_KIND, .detached = true, .rounds = 1, .run = attach_to },
    { .name = "fork", EVERY_KIND, .by_ptrace = true, .rounds = 1, .choose = choose_trim, .run = run_fork },
};
const size_t call_count = sizeof calls / sizeof calls[0];

/* ---- its life ---- */

static void
run_watched_call(struct victim *v)
{
    struct cast *cast = v->cast;
    if (cast->watch_call != NULL) {
        cast->watch_call(v);
        return;
    }
    if (cast->by_ptrace) {
        stepping_begin();
        cast->call->run(v);
        stepping_end();
        return;
    }
    struct watch watch = watch_begin(file_view_open(cast->name));
    traps_begin(&watch, &cast->line);
    cast->call->run(v);
    traps_end();
    file_view_close(&watch.file);
    watch_end(&watch);
}

/* Of a Stack's block that is killed while it is freed, the end may stay, as a block of one granule. */
static uint32_t
may_be_lost(const struct victim *v)
{
    return v->cast->kind == HSHM_ALLOCATOR_STACK && v->cast->ledger.subject.off != 0;
}

static void *
free_some(void *arg)
{
    struct worker *w = arg;
    for (uint64_t i = 1 + random_below(w, FREED_MAX); i > 0; i--) {
        struct held *held = pick_block(w, PART_VICTIM, 0, UINT64_MAX);
        if (held != NULL)
            free_held(w, held);
    }
    return NULL;
}

/* Another thread frees blocks of the victim's, which it has to take in. */
static void
let_another_free(struct victim *v)
{
    pthread_t thread;
    struct worker other = v->w;
    assert_int_equal(pthread_create(&thread, NULL, free_some, &other), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)next_random(&v->w.random);
}

static void
one_round(struct victim *v)
{
    const struct call *call = v->cast->call;
    struct ledger *ledger = &v->cast->ledger;
    ledger->news = call->news;
    if (!call->detached && !call->idle)
        work(&v->w, (unsigned)random_below(&v->w, OWN_CALLS));
    if (!call->detached && !call->idle && random_below(&v->w, 2) == 0)
        let_another_free(v);
    if (call->detached || call->choose(v)) {
        ledger->news += call->exact ? 0 : may_be_lost(v);
        run_watched_call(v);
        if (call->settle != NULL)
            call->settle(v);
    }
    ledger->subject = (struct held){ 0 };
    ledger->keeps = 0;
}

const struct call heir_calls[2] = {
    { .name = "recover what a kill left", EVERY_KIND, .run = run_recover },
    { .name = "attach in a dead one's place", EVERY_KIND, .detached = true, .run = attach_to },
};

void
live_as_heir(void *arg)
{
    struct cast *cast = arg;
    struct victim v = { .cast = cast };
    if (cast->watch_call == NULL)
        trap_line_serve(&cast->line);
    if (!cast->call->detached)
        attach_to(&v);
    run_watched_call(&v);
}

void
live_as_victim(void *arg)
{
    static struct mate mate;
    struct cast *cast = arg;
    struct victim v = { .cast = cast };
    if (cast->watch_call == NULL)
        trap_line_serve(&cast->line);
    if (!cast->call->detached) {
        pthread_t thread;
        attach_to(&v);
        mate.w = worker_make(v.w.heap, &cast->ledger, PART_MATE, cast->seed + 2);
        assert_int_equal(pthread_create(&thread, NULL, live_as_mate, &mate), 0);
        step_wait(&mate.ready, 1);
    }
    const unsigned rounds = cast->lazy && cast->call->rounds > FEW ? FEW : cast->call->rounds; /* it is slow */
    for (unsigned round = 0; round < rounds; round++)
        one_round(&v);
}
