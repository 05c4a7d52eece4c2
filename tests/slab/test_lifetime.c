/*
 * test_lifetime.c - blocks that end with the process that took them: after a kill, a detach, the end of a handle; and nobody
 * else's blocks with them.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hshm/inline.h>

#include "blocks.h"

#include "allocator/allocator.h"

enum { SIZE = 32 << 20, SLICE = 64 << 10, SMALL = 500, LARGE = 3 };

struct team {
    struct step ready, go, done;
    hshm_allocator *heap;
    char url[64];
    hshm_off shown;
};

static struct team *
team_with(hshm_allocator_kind kind, hshm_lifetime lifetime)
{
    struct team *team = shared_bytes(sizeof *team);
    hshm_allocator_options options = HSHM_ALLOCATOR_OPTIONS_INIT;
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    options.lifetime = lifetime;
    backend.commit = HSHM_COMMIT_LAZY;
    (void)snprintf(team->url, sizeof team->url, "%s", test_name("lifetime"));
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, SIZE, team->url, &backend, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, 256, &options, &team->heap));
    return team;
}

static hshm_allocator_kind
kind_of(void *const *state)
{
    return *(const hshm_allocator_kind *)*state;
}

/* Some of each sort, of a few classes. */
static void
take_own(hshm_allocator *heap)
{
    for (size_t i = 0; i < SMALL; i++) {
        char *block = hshm_malloc_lifetime(heap, 1 + i * 7 % 3000, HSHM_LIFETIME_PROCESS);
        assert_non_null(block);
        block_fill(block, 1 + i * 7 % 3000, i);
    }
    for (size_t i = 0; i < LARGE; i++)
        assert_non_null(hshm_malloc_lifetime(heap, (10 + i) * SLICE, HSHM_LIFETIME_PROCESS));
}

static int
take_and_wait(void *arg)
{
    struct team *team = arg;
    take_own(team->heap);
    block_fill(hshm_malloc_lifetime(team->heap, 100, HSHM_LIFETIME_HEAP), 100, 7); /* this one stays */
    void *shown = hshm_malloc_lifetime(team->heap, 64, HSHM_LIFETIME_PROCESS);
    team->shown = hshm_to_off(team->heap, shown);
    step_reach(&team->ready);
    (void)pause();
    return 1;
}

static void
kill_child(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(child_wait(pid), 128 + SIGKILL);
}

static void
a_killed_process_takes_its_blocks_along(void **state)
{
    for (int lifetime = HSHM_LIFETIME_HEAP; lifetime <= HSHM_LIFETIME_PROCESS;
         lifetime++) { /* whatever the option says */
        struct team *team = team_with(kind_of(state), (hshm_lifetime)lifetime);
        void *mine = hshm_malloc_lifetime(team->heap, 50, HSHM_LIFETIME_PROCESS);
        const pid_t child = child_start(take_and_wait, team);
        step_wait(&team->ready, 1);
        block_fill(mine, 50, 3);
        assert_int_equal(stats_of(team->heap).live_blocks, SMALL + LARGE + 3);
        assert_sound(team->heap);
        kill_child(child);
        hshm_recover_report report = HSHM_RECOVER_REPORT_INIT;
        assert_ok(hshm_recover(team->heap, &report));
        assert_int_equal(report.blocks, SMALL + LARGE + 1);
        assert_int_equal(report.processes, 1);
        assert_int_equal(stats_of(team->heap).live_blocks, 2);
        assert_block(team->heap, mine, 50, 3);
        assert_sound(team->heap);
        assert_int_equal(hshm_usable_size(team->heap, hshm_to_addr(team->heap, team->shown)), 0);
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

/* Attaches by itself, so that it has a handle and a slot that it can end. */
static int
attach_take_and_leave(void *arg)
{
    const struct team *team = arg;
    hshm_manager *manager = NULL;
    hshm_allocator *heap = NULL;
    assert_ok(hshm_manager_create(&manager));
    for (int way = 0; way < 2; way++) {
        assert_ok(hshm_backend_attach(manager, HSHM_BACKEND_POSIX_SHM_MMAP, team->url, NULL, NULL));
        assert_ok(hshm_allocator_get(manager, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
        take_own(heap);
        if (way == 0)
            assert_ok(hshm_allocator_unregister(manager, (hshm_allocator_id){ 1, 0 }));
        assert_ok(hshm_backend_detach(manager, 1));
    }
    hshm_manager_destroy(manager);
    return 0;
}

static void
who_leaves_takes_its_blocks_along(void **state)
{
    struct team *team = team_with(kind_of(state), HSHM_LIFETIME_HEAP);
    void *mine = hshm_malloc(team->heap, 50);
    assert_non_null(mine);
    assert_int_equal(child_wait(child_start(attach_take_and_leave, team)), 0);
    assert_int_equal(stats_of(team->heap).live_blocks, 1);
    assert_ok(hshm_free(team->heap, mine));
    assert_emptied(team->heap);
}

static void
others_may_free_them_meanwhile(void **state)
{
    struct team *team = team_with(kind_of(state), HSHM_LIFETIME_HEAP);
    const pid_t child = child_start(take_and_wait, team);
    step_wait(&team->ready, 1);
    void *shown = hshm_to_addr(team->heap, team->shown);
    assert_true(hshm_usable_size(team->heap, shown) >= 64);
    assert_ok(hshm_free(team->heap, shown));
    assert_status(hshm_free(team->heap, shown), HSHM_E_BADFREE);
    assert_status(hshm_free(team->heap, (char *)shown + 16), HSHM_E_BADFREE);
    assert_status(hshm_name_set(team->heap, "mine", hshm_malloc_lifetime(team->heap, 10, HSHM_LIFETIME_PROCESS)),
                  HSHM_E_INVAL);
    assert_sentence("ends with its process");
    assert_int_equal(stats_of(team->heap).live_blocks, SMALL + LARGE + 2);
    assert_sound(team->heap);
    kill_child(child);
    hshm_recover_report report = HSHM_RECOVER_REPORT_INIT;
    assert_ok(hshm_recover(team->heap, &report));
    assert_int_equal(report.blocks, SMALL + LARGE);
}

static void
a_default_holds_for_every_call(void **state)
{
    struct team *team = team_with(kind_of(state), HSHM_LIFETIME_PROCESS);
    hshm_allocator *heap = team->heap;
    hshm_slot *slot = hshm_allocator_custom_header(heap, NULL);
    const pid_t child = child_start(take_and_wait, team); /* has it from the region */
    step_wait(&team->ready, 1);
    assert_ok(hshm_allocate_to(heap, 64, slot)); /* the heap's */
    void *blocks[] = { hshm_malloc(heap, 64),         hshm_malloc_inline(heap, 64),
                       hshm_calloc(heap, 3, 100),     hshm_aligned_alloc(heap, 4096, 100),
                       hshm_malloc(heap, 20 * SLICE), hshm_realloc(heap, hshm_malloc(heap, 10), 3000) };
    for (size_t i = 0; i < COUNTOF(blocks); i++) {
        assert_non_null(blocks[i]);
        const uint64_t slice = (hshm_to_off(heap, blocks[i]) - heap->layout.data_off) >> heap->slab.shift;
        const struct slab_record *record = record_of(&heap->slab, slice);
        assert_true((record->own & SLAB_LIFE) != 0 || record->life == heap->process + 1);
    }
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(((unsigned char *)blocks[2])[i], 0);
    assert_int_equal((uintptr_t)blocks[3] % 4096, 0);
    void *kept = hshm_realloc(heap, hshm_malloc_lifetime(heap, 10, HSHM_LIFETIME_HEAP), 5000); /* keeps its lifetime */
    assert_sound(heap);
    kill_child(child);
    assert_ok(hshm_recover(heap, NULL));
    assert_int_equal(stats_of(heap).live_blocks, COUNTOF(blocks) + 3);
    assert_ok(hshm_free(heap, kept));
    for (size_t i = 0; i < COUNTOF(blocks); i++)
        assert_ok(hshm_free(heap, blocks[i]));
    assert_ok(hshm_free_from(heap, slot));
    assert_int_equal(stats_of(heap).live_blocks, 1); /* of the child, by its own wish */
    assert_sound(heap);
}

/* ---- many threads, and room that comes back ---- */

enum { THREADS = 4, HELD = 200, ROUNDS = 20000 };

struct thread_work {
    hshm_allocator *heap;
    _Atomic(unsigned char *) *market; /* blocks that one took and another frees */
    uint64_t random;
};

static void *
take_and_give(void *arg)
{
    struct thread_work *work = arg;
    for (int i = 0; i < ROUNDS / (UNDER_SANITIZER ? 10 : 1); i++) {
        const size_t size = 16 + next_random(&work->random) % (i % 100 == 0 ? 20 * SLICE : 600);
        unsigned char *block = hshm_malloc_lifetime(work->heap, size, HSHM_LIFETIME_PROCESS);
        if (block != NULL)
            block[0] = block[15] = 1;
        block = atomic_exchange(&work->market[next_random(&work->random) % HELD], block);
        if (block != NULL) {
            assert_int_equal(block[0], 1);
            assert_int_equal(block[15], 1);
            block[0] = block[15] = 0; /* who has it too would see */
            assert_ok(hshm_free(work->heap, block));
        }
    }
    return NULL;
}

static void
threads_share_a_process_s_slabs(void **state)
{
    struct team *team = team_with(kind_of(state), HSHM_LIFETIME_HEAP);
    static _Atomic(unsigned char *) market[HELD];
    pthread_t threads[THREADS];
    struct thread_work work[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        work[i] = (struct thread_work){ team->heap, market, test_seed() + i };
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &work[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < HELD; i++)
        assert_ok(hshm_free(team->heap, atomic_exchange(&market[i], NULL)));
    assert_emptied(team->heap);
}

static void
a_full_heap_is_found_out_and_empties(void **state)
{
    struct team *team = team_with(kind_of(state), HSHM_LIFETIME_PROCESS);
    hshm_allocator *heap = team->heap;
    enum { MOST = SIZE / 1024 };
    static void *blocks[MOST];
    size_t count = 0;
    while (count < MOST && (blocks[count] = hshm_malloc(heap, 1024)) != NULL)
        count++;
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_true(count > MOST * 9 / 10);
    for (size_t i = 0; i < count; i += 2)
        assert_ok(hshm_free(heap, blocks[i]));
    for (size_t i = 0; i < count; i += 2)
        assert_non_null(blocks[i] = hshm_malloc(heap, 1024)); /* what was freed is found, wherever it is */
    for (size_t i = 0; i < count; i++)
        assert_ok(hshm_free(heap, blocks[i]));
    assert_emptied(heap);
}

/* ---- forks ---- */

static int
use_the_parents(void *arg)
{
    struct team *team = arg;
    void *own = hshm_malloc_lifetime(team->heap, 64, HSHM_LIFETIME_PROCESS);
    assert_non_null(own);
    assert_true(hshm_to_off(team->heap, own) != team->shown);
    assert_block(team->heap, hshm_to_addr(team->heap, team->shown), 64, 5);
    return 0;
}

static void
a_child_s_blocks_are_its_own(void **state)
{
    struct team *team = team_with(kind_of(state), HSHM_LIFETIME_HEAP);
    void *mine = hshm_malloc_lifetime(team->heap, 64, HSHM_LIFETIME_PROCESS);
    block_fill(mine, 64, 5);
    team->shown = hshm_to_off(team->heap, mine);
    assert_int_equal(child_wait(child_start(use_the_parents, team)), 0);
    assert_ok(hshm_recover(team->heap, NULL));
    assert_int_equal(stats_of(team->heap).live_blocks, 1);
    assert_block(team->heap, mine, 64, 5);
}

static int
leave_the_region(void *arg)
{
    (void)arg;
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

/* Its handle has ended, but the parent has not left. */
static void
a_child_that_leaves_ends_nothing_of_its_parent(void **state)
{
    struct team *team = team_with(kind_of(state), HSHM_LIFETIME_HEAP);
    const pid_t keeper = child_start(take_and_wait, team);
    step_wait(&team->ready, 1);
    hshm_manager *manager = NULL;
    hshm_allocator *again = NULL;
    char *mine = hshm_malloc_lifetime(team->heap, 64, HSHM_LIFETIME_PROCESS);
    block_fill(mine, 64, 9);
    const uint64_t live = stats_of(team->heap).live_blocks;
    const hshm_off off = hshm_to_off(team->heap, mine);
    assert_ok(hshm_allocator_unregister(NULL, (hshm_allocator_id){ 1, 0 }));
    assert_int_equal(child_wait(child_start(leave_the_region, NULL)), 0);
    assert_ok(hshm_manager_create(&manager));
    assert_ok(hshm_backend_attach(manager, HSHM_BACKEND_POSIX_SHM_MMAP, team->url, NULL, NULL));
    assert_ok(hshm_allocator_get(manager, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &again));
    assert_int_equal(stats_of(again).live_blocks, live);
    assert_block(again, hshm_to_addr(again, off), 64, 9);
    assert_sound(again);
    kill_child(keeper);
    hshm_manager_destroy(manager);
}

/* ---- what there is not ---- */

static void
kinds_without_it_say_so(void **state)
{
    static unsigned char *array;
    hshm_allocator *heap = NULL;
    hshm_allocator_options options = HSHM_ALLOCATOR_OPTIONS_INIT;
    const hshm_allocator_id id = { 1, 0 };
    options.lifetime = HSHM_LIFETIME_PROCESS;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 1 << 20, NULL, NULL, NULL));
    assert_status(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, 0, &options, &heap), HSHM_E_NOTSUP);
    assert_sentence("has no blocks of process lifetime");
    options.lifetime = (hshm_lifetime)2;
    assert_status(hshm_allocator_create(NULL, 1, id, kind_of(state), 0, &options, &heap), HSHM_E_INVAL);
    assert_ok(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    assert_null(hshm_malloc_lifetime(heap, 10, HSHM_LIFETIME_PROCESS));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTSUP);
    assert_non_null(hshm_malloc_lifetime(heap, 10, HSHM_LIFETIME_HEAP));
    assert_null(hshm_malloc_lifetime(heap, 10, (hshm_lifetime)7));
    assert_int_equal(hshm_last_status(), HSHM_E_INVAL);
    assert_ok(hshm_backend_destroy(NULL, 1));

    array = aligned_alloc(4096, 1 << 20);
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    backend.array = array;
    options.lifetime = HSHM_LIFETIME_PROCESS;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, 1 << 20, NULL, &backend, NULL));
    assert_status(hshm_allocator_create(NULL, 1, id, kind_of(state), 0, &options, &heap), HSHM_E_NOTSUP);
    assert_sentence("nobody can tell who is dead");
    assert_ok(hshm_allocator_create(NULL, 1, id, kind_of(state), 0, NULL, &heap));
    assert_null(hshm_malloc_lifetime(heap, 10, HSHM_LIFETIME_PROCESS));
    assert_int_equal(hshm_last_status(), HSHM_E_NOTSUP);
    assert_ok(hshm_backend_destroy(NULL, 1));
    free(array);

    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 1 << 20, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_MALLOC, 0, &options, &heap));
    void *block = hshm_malloc_lifetime(heap, 10, HSHM_LIFETIME_PROCESS);
    assert_non_null(block);
    assert_ok(hshm_free(heap, block));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OF_SLAB_KINDS(a_killed_process_takes_its_blocks_along),
        OF_SLAB_KINDS(who_leaves_takes_its_blocks_along),
        OF_SLAB_KINDS(others_may_free_them_meanwhile),
        OF_SLAB_KINDS(a_default_holds_for_every_call),
        OF_SLAB_KINDS(threads_share_a_process_s_slabs),
        OF_SLAB_KINDS(a_full_heap_is_found_out_and_empties),
        OF_SLAB_KINDS(a_child_s_blocks_are_its_own),
        OF_SLAB_KINDS(a_child_that_leaves_ends_nothing_of_its_parent),
        OF_SLAB_KINDS(kinds_without_it_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
