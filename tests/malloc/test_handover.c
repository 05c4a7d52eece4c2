/*
 * test_handover.c - threads that free and resize each other's blocks in a Malloc heap that is too small for all of them:
 * no block is lost, shared by two or counted twice, requests without room fail alone, and whoever looks at the heap may
 * change it.
 */
#include "blocks.h"

#include <pthread.h>
#include <string.h>

enum { REGION = 1 << 18, THREADS = 4, PLACES = 64, OPERATIONS = 6000, LARGEST = 60000 };

/* What realloc may go beyond the limit: how much malloc rounds up, a page for the largest blocks. */
enum { ROUNDING = 8192 };

/* At the front of every block: what the rest holds. */
struct head {
    uint64_t key, size;
};

struct crowd {
    hshm_allocator *heap;
    _Atomic(unsigned char *) places[PLACES]; /* whoever takes a block out of its place owns it */
};

struct member {
    struct crowd *crowd;
    uint64_t random;
    uint64_t allocs, frees, failures, wrong;
};

static void
sign(struct member *member, unsigned char *block, size_t size)
{
    const struct head head = { next_random(&member->random), size };
    memcpy(block, &head, sizeof head);
    block_fill(block + sizeof head, size - sizeof head, head.key);
}

static bool
is_signed(const unsigned char *block, size_t size)
{
    struct head head;
    memcpy(&head, block, sizeof head);
    return size <= head.size && block_holds(block + sizeof head, size - sizeof head, head.key);
}

static size_t
random_size(struct member *member)
{
    const size_t most = next_random(&member->random) % 4 == 0 ? LARGEST : 500;
    return sizeof(struct head) + (size_t)(next_random(&member->random) % most);
}

static unsigned char *
take_new(struct member *member)
{
    const size_t size = random_size(member);
    unsigned char *block = hshm_malloc(member->crowd->heap, size);
    if (block == NULL) {
        member->failures++;
        member->wrong += hshm_last_status() != HSHM_E_NOMEM;
        return NULL;
    }
    member->allocs++;
    member->wrong += hshm_usable_size(member->crowd->heap, block) < size;
    sign(member, block, size);
    return block;
}

/* Make a block that was somebody's mine: larger, smaller or gone. */
static unsigned char *
change(struct member *member, unsigned char *block)
{
    hshm_allocator *heap = member->crowd->heap;
    struct head head;
    memcpy(&head, block, sizeof head);
    member->wrong += !is_signed(block, (size_t)head.size);
    if (next_random(&member->random) % 2 == 0) {
        member->wrong += hshm_free(heap, block) != HSHM_OK;
        member->frees++;
        return NULL;
    }
    const size_t size = random_size(member);
    unsigned char *moved = hshm_realloc(heap, block, size);
    if (moved == NULL) {
        member->failures++;
        member->wrong += hshm_last_status() != HSHM_E_NOMEM || !is_signed(block, (size_t)head.size);
        return block;
    }
    member->wrong += !is_signed(moved, size < head.size ? size : (size_t)head.size);
    sign(member, moved, size);
    return moved;
}

static void *
mingle(void *arg)
{
    struct member *member = arg;
    for (int i = 0; i < OPERATIONS; i++) {
        _Atomic(unsigned char *) *place = &member->crowd->places[next_random(&member->random) % PLACES];
        /* Acquire: what the one who put it there wrote into it.  Release: what we write. */
        unsigned char *block = atomic_exchange_explicit(place, NULL, memory_order_acq_rel);
        block = block == NULL ? take_new(member) : change(member, block);
        block = atomic_exchange_explicit(place, block, memory_order_acq_rel);
        if (block != NULL) { /* another thread filled the place meanwhile */
            member->wrong += hshm_free(member->crowd->heap, block) != HSHM_OK;
            member->frees++;
        }
    }
    return NULL;
}

static void
blocks_may_be_freed_and_resized_by_any_thread(void **state)
{
    (void)state;
    static struct crowd crowd;
    struct member members[THREADS];
    pthread_t threads[THREADS];
    memset(&crowd, 0, sizeof crowd);
    crowd.heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    for (size_t i = 0; i < THREADS; i++) {
        members[i] = (struct member){ .crowd = &crowd, .random = test_seed() + i };
        assert_int_equal(pthread_create(&threads[i], NULL, mingle, &members[i]), 0);
    }
    struct member all = { .crowd = &crowd };
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        all.allocs += members[i].allocs;
        all.frees += members[i].frees;
        all.failures += members[i].failures;
        all.wrong += members[i].wrong;
    }
    assert_int_equal(all.wrong, 0);
    assert_sound(crowd.heap);
    const hshm_stats stats = stats_of(crowd.heap);
    assert_int_equal(stats.allocs, all.allocs);
    assert_int_equal(stats.frees, all.frees);
    assert_int_equal(stats.failures, all.failures);
    assert_int_equal(stats.live_blocks, all.allocs - all.frees);
    assert_true(stats.peak_bytes <= stats.data_bytes + THREADS * ROUNDING);
    assert_true(stats.failures > 0); /* or the heap was not too small */
    for (size_t i = 0; i < PLACES; i++)
        assert_ok(hshm_free(crowd.heap, atomic_load(&crowd.places[i])));
    assert_int_equal(stats_of(crowd.heap).live_blocks, 0);
    assert_int_equal(stats_of(crowd.heap).live_bytes, 0);
    assert_sound(crowd.heap);
}

/* ---- one frees what the other resizes ---- */

enum { ROUNDS = 2000 };

struct duel {
    hshm_allocator *heap;
    pthread_barrier_t barrier;
    void *block;
    hshm_status freed;
};

static void *
free_blocks(void *arg)
{
    struct duel *duel = arg;
    for (int i = 0; i < ROUNDS; i++) {
        (void)pthread_barrier_wait(&duel->barrier);
        duel->freed = hshm_free(duel->heap, duel->block);
        (void)pthread_barrier_wait(&duel->barrier);
    }
    return NULL;
}

/* Wrong programs, but no corrupted heaps: either call may come first, and the other is told. */
static void
freeing_and_resizing_one_block_at_once_hurts_nobody(void **state)
{
    (void)state;
    static struct duel duel;
    pthread_t thread;
    duel.heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    assert_int_equal(pthread_barrier_init(&duel.barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, free_blocks, &duel), 0);
    uint64_t wrong = 0;
    for (int i = 0; i < ROUNDS; i++) {
        void *block = duel.block = hshm_malloc(duel.heap, 24);
        (void)pthread_barrier_wait(&duel.barrier);
        void *moved = hshm_realloc(duel.heap, block, i % 2 == 0 ? 2000 : 20);
        const hshm_status resized = moved == NULL ? hshm_last_status() : HSHM_OK;
        (void)pthread_barrier_wait(&duel.barrier);
        if (resized == HSHM_OK && duel.freed == HSHM_OK) {
            wrong += moved != block; /* freed after it was resized in place, or malloc gave the same address again */
        } else if (resized == HSHM_OK) {
            wrong += duel.freed != HSHM_E_BADFREE;
            wrong += hshm_free(duel.heap, moved) != HSHM_OK;
        } else {
            wrong += resized != HSHM_E_BADFREE || duel.freed != HSHM_OK;
        }
        hshm_stats stats = HSHM_STATS_INIT;
        wrong += hshm_stats_get(duel.heap, &stats) != HSHM_OK || stats.live_blocks != 0 || stats.live_bytes != 0;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&duel.barrier), 0);
    assert_int_equal(wrong, 0);
    assert_sound(duel.heap);
}

/* ---- looking and changing ---- */

struct sweep {
    hshm_allocator *heap;
    uint64_t shown, freed, taken;
};

/* Free the odd ones, enlarge the even ones, and put a new one beside each. */
static int
change_shown(const hshm_block *block, void *arg)
{
    struct sweep *sweep = arg;
    sweep->shown++;
    assert_int_equal(hshm_usable_size(sweep->heap, block->addr), block->size);
    assert_ptr_equal(hshm_to_addr(sweep->heap, block->off), block->addr);
    if (sweep->shown % 2 == 0) {
        assert_non_null(hshm_realloc(sweep->heap, block->addr, (size_t)block->size + 48));
    } else {
        assert_ok(hshm_free(sweep->heap, block->addr));
        sweep->freed++;
    }
    if (sweep->taken < 100) { /* they may be shown too: an end must be in sight */
        assert_non_null(hshm_malloc(sweep->heap, 40));
        sweep->taken++;
    }
    return 0;
}

static void
who_looks_at_a_heap_may_change_it(void **state)
{
    (void)state;
    enum { BLOCKS = 500 };
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    for (size_t i = 0; i < BLOCKS; i++)
        assert_non_null(hshm_malloc(heap, 24));
    struct sweep sweep = { heap, 0, 0, 0 };
    assert_ok(hshm_visit_blocks(heap, change_shown, &sweep));
    assert_true(sweep.shown >= BLOCKS);
    assert_int_equal(sweep.taken, 100);
    assert_int_equal(stats_of(heap).live_blocks, BLOCKS + sweep.taken - sweep.freed);
    assert_sound(heap);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(blocks_may_be_freed_and_resized_by_any_thread, drop_heaps),
        cmocka_unit_test_teardown(freeing_and_resizing_one_block_at_once_hurts_nobody, drop_heaps),
        cmocka_unit_test_teardown(who_looks_at_a_heap_may_change_it, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
