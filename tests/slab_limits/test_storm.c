/*
 * test_storm.c - processes are killed in the middle of a storm of calls, and the others go on: what the dead held is whole
 * and everybody's, the heap is sound once it was recovered, and for each thread that died one block at most is not accounted for.
 *
 * labels: no-asan no-tsan
 * (thousands of forks of a sanitized process take minutes)
 *
 * HSHM_TEST_LONG=n kills n times as many; HSHM_TEST_SEED repeats the choices, but not the moments.
 *
 * Each thread writes down what it holds, in memory that outlives it: an entry is cleared before its block is freed, and
 * written when a new one is filled.  So an entry says the truth whenever its thread is killed, and what no entry leads to is
 * at most the block that the thread had in its hands.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "allocator/allocator.h"
#include "lazy.h"

enum { ROUNDS = 120, VICTIMS = 2, THREADS_MAX = 3, HELD = 40, REGION_MIB = 32, MARKET = 16 };

/* A block and what is in it: key and size, in one word that changes at once. */
struct entry {
    _Atomic uint64_t what; /* size << 32 | offset in granules; 0 = none */
};

/* One thread's part. */
struct holder {
    struct entry entries[HELD];
    _Atomic uint32_t hands; /* blocks that may be in its hands: 1, in a realloc 2 */
    _Atomic uint32_t calls;
};

struct storm {
    struct holder holders[VICTIMS][THREADS_MAX];
    struct holder survivor;
    /* Blocks that wander from one process to another. */
    struct entry market[MARKET];
    struct step started;
    uint64_t seed;
    unsigned victim, threads;
    bool attach;
    char url[64];
};

struct stormer {
    hshm_allocator *heap;
    struct storm *storm;
    struct holder *holder;
    uint64_t random;
};

/* ---- blocks that say what is in them ---- */

static void *
entry_block(hshm_allocator *heap, uint64_t what)
{
    return hshm_to_addr(heap, (what & UINT32_MAX) * 16);
}

static size_t
entry_size(uint64_t what)
{
    return (size_t)(what >> 32);
}

/* Beginning and end of a block tell of others that write into it. */
static void
write_block(unsigned char *block, size_t size)
{
    const size_t part = size < 64 ? size : 64;
    block_fill(block, part, size);
    block_fill(block + size - part, part, size);
}

static void
read_block(hshm_allocator *heap, uint64_t what)
{
    const size_t size = entry_size(what);
    const size_t part = size < 64 ? size : 64;
    const unsigned char *block = entry_block(heap, what);
    if (hshm_usable_size(heap, block) < size || !block_holds(block + size - part, part, size) ||
        (size >= 128 && !block_holds(block, part, size)))
        fail_msg("a block of %zu bytes at offset %llu is not what it was", size,
                 (unsigned long long)hshm_to_off(heap, block));
}

static uint64_t
entry_of(hshm_allocator *heap, void *block, size_t size)
{
    return (uint64_t)size << 32 | hshm_to_off(heap, block) / 16;
}

static void
drop(hshm_allocator *heap, uint64_t what)
{
    if (what == 0)
        return;
    read_block(heap, what);
    assert_ok(hshm_free(heap, entry_block(heap, what)));
}

/* ---- the calls ---- */

/* Often such that a slab has few blocks and comes and goes. */
static size_t
any_size(uint64_t *random)
{
    const uint64_t roll = next_random(random);
    const size_t below = (size_t[]){ 64, 600, 600, 8000, 40000, 100000, 400000, 1000000 }[roll % 8];
    return 16 + (size_t)(roll >> 32) % below;
}

static uint64_t
clear(struct entry *entry)
{
    return atomic_exchange(&entry->what, 0);
}

static void
take(struct stormer *s, struct entry *entry)
{
    const size_t size = any_size(&s->random);
    const bool aligned = next_random(&s->random) % 8 == 0;
    void *block = aligned ? hshm_aligned_alloc(s->heap, (size_t)16 << next_random(&s->random) % 14, size)
                          : hshm_malloc(s->heap, size);
    if (block == NULL) {
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        return;
    }
    write_block(block, size);
    /* Nobody else writes this entry: it was cleared by us. */
    atomic_store(&entry->what, entry_of(s->heap, block, size));
}

static void
change(struct stormer *s, struct entry *entry)
{
    atomic_store(&s->holder->hands, 2);
    const uint64_t what = clear(entry);
    const size_t size = any_size(&s->random);
    if (what != 0) {
        read_block(s->heap, what);
        unsigned char *block = hshm_realloc(s->heap, entry_block(s->heap, what), size);
        if (block != NULL)
            write_block(block, size);
        atomic_store(&entry->what, block != NULL ? entry_of(s->heap, block, size) : what);
    }
    atomic_store(&s->holder->hands, 1);
}

static void
call_once(struct stormer *s)
{
    struct entry *entry = &s->holder->entries[next_random(&s->random) % HELD];
    const uint64_t roll = next_random(&s->random) % 64;
    if (roll == 0) {
        assert_ok(hshm_trim(s->heap, next_random(&s->random) % (4 * MIB), NULL));
    } else if (roll == 1) {
        (void)slab_recover(s->heap);
    } else if (roll < 10) {
        change(s, entry);
    } else if (roll < 30) {
        /* From hand to hand: what another put there is ours, and the other way round. */
        struct entry *stall = &s->storm->market[next_random(&s->random) % MARKET];
        drop(s->heap, atomic_exchange(&stall->what, clear(entry)));
    } else {
        drop(s->heap, clear(entry));
        take(s, entry);
    }
    (void)atomic_fetch_add(&s->holder->calls, 1);
}

/* ---- victims ---- */

static void *
storm_on(void *arg)
{
    struct stormer *s = arg;
    for (;;)
        call_once(s);
    return NULL;
}

static int
be_a_victim(void *arg)
{
    struct storm *storm = arg;
    struct stormer stormers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    const unsigned count = storm->threads;
    uint64_t random = storm->seed;
    hshm_allocator *heap = NULL;
    if (storm->attach) {
        assert_ok(hshm_backend_detach(NULL, 1));
        heap = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, storm->url, 0);
    } else {
        assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    }
    for (unsigned i = 0; i < count; i++) {
        stormers[i] = (struct stormer){ heap, storm, &storm->holders[storm->victim][i], next_random(&random) };
        atomic_store(&stormers[i].holder->hands, 1);
    }
    for (unsigned i = 1; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm_on, &stormers[i]), 0);
    step_reach(&storm->started);
    (void)storm_on(&stormers[0]);
    return 1;
}

static pid_t
start_victim(struct storm *storm, unsigned victim, uint64_t *random)
{
    storm->seed = next_random(random);
    storm->victim = victim;
    storm->threads = 1 + (unsigned)(next_random(random) % THREADS_MAX);
    storm->attach = next_random(random) % 2 == 0;
    const uint32_t started = atomic_load(&storm->started.count);
    const pid_t pid = child_start(be_a_victim, storm);
    step_wait(&storm->started, started + 1);
    return pid;
}

/* ---- afterwards ---- */

/* Which blocks an entry leads to, a bit for each granule of the region; and how many others there are. */
struct account {
    hshm_allocator *heap;
    uint64_t known[REGION_MIB * 1024 * 1024 / 16 / 64];
    unsigned blocks, unknown;
};

static void
account_for(struct account *account, const struct entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint64_t what = atomic_load(&entries[i].what);
        if (what == 0)
            continue;
        read_block(account->heap, what);
        const uint64_t granule = what & UINT32_MAX;
        const uint64_t bit = UINT64_C(1) << granule % 64;
        if (account->known[granule / 64] & bit)
            fail_msg("two entries have the block at offset %llu", (unsigned long long)granule * 16);
        account->known[granule / 64] |= bit;
        account->blocks++;
    }
}

static int
free_unknown(const hshm_block *block, void *arg)
{
    struct account *account = arg;
    const uint64_t granule = block->off / 16;
    if (account->known[granule / 64] >> granule % 64 & 1)
        return 0;
    account->unknown++;
    assert_ok(hshm_free(account->heap, block->addr));
    return 0;
}

static unsigned
in_hands(struct storm *storm)
{
    unsigned blocks = 0;
    for (unsigned v = 0; v < VICTIMS; v++) {
        for (unsigned t = 0; t < THREADS_MAX; t++)
            blocks += atomic_exchange(&storm->holders[v][t].hands, 0);
    }
    return blocks;
}

/* The counts of slices, by which pages go back to the system, must not drift from kill to kill. */
static void
check_counts(const hshm_allocator *heap)
{
    const struct slab_heap *h = &heap->slab;
    uint64_t used = 0;
    uint64_t dirty = 0;
    for (uint64_t slice = 0; slice < h->count; slice++) {
        const uint64_t word = load_relaxed(&h->slices[slice]);
        used += !slice_is_free(word);
        dirty += slice_state(word) == SLICE_DIRTY;
    }
    assert_int_equal(load_relaxed(&h->root->used), used);
    assert_int_equal(load_relaxed(&h->root->dirty), dirty);
}

/* Everybody is dead but us.  How many blocks no entry led to. */
static unsigned
settle_accounts(hshm_allocator *heap, struct storm *storm)
{
    struct account *account = calloc(1, sizeof *account);
    assert_non_null(account);
    account->heap = heap;
    (void)slab_recover(heap);
    assert_sound(heap);
    check_counts(heap);
    for (unsigned v = 0; v < VICTIMS; v++) {
        for (unsigned t = 0; t < THREADS_MAX; t++)
            account_for(account, storm->holders[v][t].entries, HELD);
    }
    account_for(account, storm->survivor.entries, HELD);
    account_for(account, storm->market, MARKET);
    assert_ok(hshm_visit_blocks(heap, free_unknown, account));
    assert_int_equal(stats_of(heap).live_blocks, account->blocks);
    const unsigned unknown = account->unknown;
    free(account);
    if (unknown > in_hands(storm))
        fail_msg("%u blocks are nobody's", unknown);
    return unknown;
}

/* Of what the dead held the survivor takes some, and leaves some for later. */
static void
inherit(hshm_allocator *heap, struct storm *storm, uint64_t *random)
{
    for (unsigned v = 0; v < VICTIMS; v++) {
        for (unsigned t = 0; t < THREADS_MAX; t++) {
            for (unsigned i = 0; i < HELD; i++) {
                if (next_random(random) % 4 != 0)
                    drop(heap, clear(&storm->holders[v][t].entries[i]));
            }
        }
    }
}

static unsigned
kill_in_the_storm(hshm_allocator *heap, struct storm *storm, uint64_t *random)
{
    struct stormer survivor = { heap, storm, &storm->survivor, next_random(random) };
    pid_t victims[VICTIMS];
    for (unsigned v = 0; v < VICTIMS; v++)
        victims[v] = start_victim(storm, v, random);
    for (unsigned v = 0; v < VICTIMS; v++) {
        for (uint64_t calls = next_random(random) % 300; calls > 0; calls--)
            call_once(&survivor);
        assert_int_equal(kill(victims[v], SIGKILL), 0);
        assert_int_equal(child_wait(victims[v]), 128 + SIGKILL);
        for (uint64_t calls = next_random(random) % 100; calls > 0; calls--)
            call_once(&survivor);
    }
    const unsigned unknown = settle_accounts(heap, storm);
    inherit(heap, storm, random);
    return unknown;
}

static void
survivors_of_kills_go_on_and_lose_nothing(void **state)
{
    struct storm *storm = shared_bytes(sizeof *storm);
    uint64_t random = test_seed();
    const unsigned rounds = ROUNDS * long_factor();
    unsigned unknown = 0;
    (void)snprintf(storm->url, sizeof storm->url, "%s", test_name("storm"));
    hshm_allocator *heap = lazy_heap(lazy_kind(state), storm->url, REGION_MIB * MIB);
    for (unsigned i = 0; i < rounds; i++)
        unknown += kill_in_the_storm(heap, storm, &random);
    print_message("%u kills, %u blocks were in the hands of the dead\n", rounds * VICTIMS, unknown);
    free_every_block(heap);
    (void)slab_recover(heap);
    assert_none_lost(heap);
    assert_true(committed(heap) <= MIB); /* tables */
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_HEAPS(survivors_of_kills_go_on_and_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
