/*
 * test_forked.c - fork() with heaps of slabs: on shared memory the child has a part of its own and may free what its parent
 * took; of private memory it has a copy, which goes on working and disturbs nobody.
 *
 * labels: no-asan no-tsan
 * (clang 14's address sanitizer does not take its own malloc's locks around fork(): its children hang in malloc; and its
 * thread sanitizer forbids threads in the child of a process with threads)
 */
#include <pthread.h>
#include <stdlib.h>

#include "allocator/allocator.h"
#include "lazy.h"

enum { BLOCKS = 600, FORKS = 60, BUSY = 3, ENTRIES = 26 };

static size_t
size_of(size_t i)
{
    return 16 + i * 37 % 3000 + (i % 100 == 0 ? 100000 : 0);
}

struct blocks {
    hshm_allocator *heap;
    void *blocks[BLOCKS];
};

static void *
take_all(void *arg)
{
    struct blocks *blocks = arg;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks->blocks[i] = hshm_malloc(blocks->heap, size_of(i));
        assert_non_null(blocks->blocks[i]);
        block_fill(blocks->blocks[i], size_of(i), i);
    }
    return NULL;
}

static void
see_all(const struct blocks *blocks, size_t first, size_t step)
{
    for (size_t i = first; i < BLOCKS; i += step)
        assert_block(blocks->heap, blocks->blocks[i], size_of(i), i);
}

static void
free_some(const struct blocks *blocks, size_t first, size_t step)
{
    for (size_t i = first; i < BLOCKS; i += step) {
        assert_block(blocks->heap, blocks->blocks[i], size_of(i), i);
        assert_ok(hshm_free(blocks->heap, blocks->blocks[i]));
    }
}

/* A program's work, in a few lines. */
static void
work(hshm_allocator *heap, uint64_t key)
{
    enum { HELD = 100 };
    const size_t first = (size_t)key * 41;
    void *held[HELD];
    for (size_t i = 0; i < HELD; i++) {
        held[i] = hshm_malloc(heap, size_of(i + first));
        assert_non_null(held[i]);
        block_fill(held[i], size_of(i + first), key + i);
    }
    for (size_t i = 0; i < HELD; i++) {
        assert_true(block_holds(held[i], size_of(i + first), key + i));
        assert_ok(hshm_free(heap, held[i]));
    }
}

static hshm_allocator *
private_heap(hshm_backend_id id, hshm_allocator_kind kind)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, id, HSHM_BACKEND_MALLOC, 64 * MIB, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, id, (hshm_allocator_id){ id, 0 }, kind, 0, NULL, &heap));
    return heap;
}

/* ---- shared memory ---- */

/* A grandchild too, and threads: each has a part of its own. */
static int
free_grandparents_blocks(void *arg)
{
    const struct blocks *theirs = arg;
    work(theirs->heap, 3);
    free_some(theirs, 1, 3);
    return 0;
}

static int
free_parents_blocks(void *arg)
{
    struct blocks *theirs = arg;
    struct blocks *own = calloc(1, sizeof *own);
    assert_non_null(own);
    own->heap = theirs->heap;
    (void)take_all(own);
    see_all(theirs, 0, 1);
    free_some(theirs, 0, 3);
    if (child_run(free_grandparents_blocks, theirs) != 0)
        return 1;
    see_all(own, 0, 1);
    free_some(own, 0, 1);
    in_thread(take_all, own);
    free_some(own, 0, 1);
    free(own);
    return 0;
}

static void
a_child_has_a_part_of_its_own_and_frees_its_parents_blocks(void **state)
{
    struct blocks *blocks = calloc(1, sizeof *blocks);
    assert_non_null(blocks);
    blocks->heap = lazy_heap(lazy_kind(state), test_name("child"), 128 * MIB);
    (void)take_all(blocks);
    const pid_t child = child_start(free_parents_blocks, blocks);
    for (uint64_t i = 0; i < 100; i++)
        work(blocks->heap, i);
    assert_int_equal(child_wait(child), 0);
    free_some(blocks, 2, 3);
    (void)slab_recover(blocks->heap);
    assert_none_lost(blocks->heap);
    free(blocks);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* The second generation began as a copy of what was a copy. */
static int
orphan_works_on(void *arg)
{
    struct blocks *blocks = arg;
    work(blocks->heap, 1);
    free_some(blocks, 0, 1);
    return 0;
}

static int
be_a_parent(void *arg)
{
    struct blocks *blocks = arg;
    (void)take_all(blocks);
    const pid_t child = child_start(orphan_works_on, blocks);
    work(blocks->heap, 2);
    return child_wait(child);
}

static void
a_childs_child_is_as_good_as_a_child(void **state)
{
    struct blocks *blocks = shared_bytes(sizeof *blocks);
    blocks->heap = lazy_heap(lazy_kind(state), test_name("orphan"), 128 * MIB);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(child_run(be_a_parent, blocks), 0);
        (void)slab_recover(blocks->heap);
        assert_sound(blocks->heap);
        assert_int_equal(stats_of(blocks->heap).live_blocks, 0);
    }
    assert_none_lost(blocks->heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- private memory ---- */

/* What this thread took, and what another one did that the child does not have. */
struct family {
    struct blocks own, others;
    struct step taken, may_end;
};

/* Empty some slabs, so that this thread keeps slices for its next ones, which must not be lost in the child. */
static void
keep_slices(hshm_allocator *heap)
{
    enum { MANY = 4000 };
    void *held[MANY];
    for (size_t i = 0; i < MANY; i++) {
        held[i] = hshm_malloc(heap, 500);
        assert_non_null(held[i]);
    }
    for (size_t i = 0; i < MANY; i++)
        assert_ok(hshm_free(heap, held[i]));
}

static void *
take_and_wait(void *arg)
{
    struct family *family = arg;
    (void)take_all(&family->others);
    keep_slices(family->others.heap);
    step_reach(&family->taken);
    step_wait(&family->may_end, 1);
    free_some(&family->others, 0, 1);
    return NULL;
}

static int
use_the_copy(void *arg)
{
    struct family *family = arg;
    hshm_allocator *heap = family->own.heap;
    see_all(&family->own, 0, 1);
    see_all(&family->others, 0, 1);
    assert_sound(heap);
    work(heap, 1);
    free_some(&family->others, 0, 2);
    free_some(&family->own, 0, 2);
    (void)in_thread(take_all, &(struct blocks){ .heap = heap });
    free_every_block(heap);
    assert_none_lost(heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static void
a_childs_copy_of_private_memory_goes_on_working(void **state)
{
    pthread_t thread;
    struct family *family = calloc(1, sizeof *family);
    assert_non_null(family);
    family->own.heap = family->others.heap = private_heap(1, lazy_kind(state));
    assert_int_equal(pthread_create(&thread, NULL, take_and_wait, family), 0);
    (void)take_all(&family->own);
    step_wait(&family->taken, 1);
    for (int i = 0; i < 3; i++) {
        const pid_t child = child_start(use_the_copy, family);
        work(family->own.heap, 2);
        assert_int_equal(child_wait(child), 0);
        see_all(&family->own, 0, 1);
        see_all(&family->others, 0, 1);
    }
    step_reach(&family->may_end);
    assert_int_equal(pthread_join(thread, NULL), 0);
    free_some(&family->own, 0, 1);
    assert_none_lost(family->own.heap);
    free(family);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- more heaps than a thread has entries for ---- */

struct heaps {
    struct blocks of[ENTRIES];
};

static int
use_all_heaps(void *arg)
{
    struct heaps *heaps = arg;
    for (size_t i = 0; i < ENTRIES; i++) {
        work(heaps->of[i].heap, i);
        free_some(&heaps->of[i], 0, 1);
        assert_int_equal(stats_of(heaps->of[i].heap).live_blocks, 0);
    }
    return 0;
}

static void
a_child_has_all_its_parents_heaps_however_many(void **state)
{
    struct heaps *heaps = calloc(1, sizeof *heaps);
    assert_non_null(heaps);
    for (size_t i = 0; i < ENTRIES; i++) {
        heaps->of[i].heap = private_heap((hshm_backend_id)i + 1, lazy_kind(state));
        (void)take_all(&heaps->of[i]);
    }
    assert_int_equal(child_run(use_all_heaps, heaps), 0);
    assert_int_equal(use_all_heaps(heaps), 0);
    for (size_t i = 0; i < ENTRIES; i++)
        assert_ok(hshm_backend_destroy(NULL, (hshm_backend_id)i + 1));
    free(heaps);
}

/* ---- among busy threads ---- */

struct busy {
    pthread_t thread;
    hshm_allocator *shared, *copied;
    atomic_bool *stop;
    _Atomic uint64_t rounds;
};

static void *
be_busy(void *arg)
{
    struct busy *busy = arg;
    while (!atomic_load(busy->stop)) {
        work(busy->shared, atomic_load(&busy->rounds));
        work(busy->copied, atomic_load(&busy->rounds));
        (void)atomic_fetch_add(&busy->rounds, 1);
    }
    return NULL;
}

struct forker {
    hshm_allocator *shared, *copied;
    struct blocks *mine;
};

/* Threads, too: they take the places that the parent's threads have in the copy. */
static void *
work_on_both(void *arg)
{
    const struct forker *forker = arg;
    for (uint64_t i = 0; i < 3; i++) {
        work(forker->shared, i);
        work(forker->copied, i);
    }
    return NULL;
}

static int
fork_and_work(void *arg)
{
    struct forker *forker = arg;
    (void)work_on_both(forker);
    in_thread(work_on_both, forker);
    see_all(forker->mine, 0, 1);
    free_some(forker->mine, 0, 7);
    return 0;
}

static void
a_child_forked_among_busy_threads_works(void **state)
{
    atomic_bool stop = false;
    struct busy busy[BUSY];
    struct forker forker = { .shared = lazy_heap(lazy_kind(state), test_name("busy"), 256 * MIB) };
    forker.copied = private_heap(2, lazy_kind(state));
    forker.mine = calloc(1, sizeof *forker.mine);
    assert_non_null(forker.mine);
    forker.mine->heap = forker.copied;
    (void)take_all(forker.mine);
    for (size_t i = 0; i < BUSY; i++) {
        busy[i] = (struct busy){ .shared = forker.shared, .copied = forker.copied, .stop = &stop };
        assert_int_equal(pthread_create(&busy[i].thread, NULL, be_busy, &busy[i]), 0);
    }
    for (int i = 0; i < FORKS; i++) {
        const pid_t child = child_start(fork_and_work, &forker);
        work(forker.copied, 1);
        assert_int_equal(child_wait(child), 0);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < BUSY; i++) {
        assert_int_equal(pthread_join(busy[i].thread, NULL), 0);
        assert_true(atomic_load(&busy[i].rounds) > 0);
    }
    free_some(forker.mine, 0, 1);
    free(forker.mine);
    (void)slab_recover(forker.shared);
    assert_none_lost(forker.shared);
    assert_none_lost(forker.copied);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_ok(hshm_backend_destroy(NULL, 2));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_HEAPS(a_child_has_a_part_of_its_own_and_frees_its_parents_blocks),
        BOTH_HEAPS(a_childs_child_is_as_good_as_a_child),
        BOTH_HEAPS(a_childs_copy_of_private_memory_goes_on_working),
        BOTH_HEAPS(a_child_has_all_its_parents_heaps_however_many),
        BOTH_HEAPS(a_child_forked_among_busy_threads_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
