/*
 * test_recover.c - hshm_recover() as programs call it: it says what dead processes left, gives it free, and leaves the
 * living alone.  What it must cope with: tests/crash.
 */
#include <signal.h>
#include <unistd.h>

#include "blocks.h"

#include "allocator/allocator.h"

enum { SIZE = 32 << 20, SLICE = 64 << 10, KEPT_SLICES = 9, BLOCK = 100, BLOCKS = 2 };

struct team {
    struct step ready;
    hshm_allocator *heap;
};

/* Has blocks, and keeps the slices of a large one if it is of that kind. */
static int
work_and_wait(void *arg)
{
    struct team *team = arg;
    for (int i = 0; i < BLOCKS; i++) {
        void *block = hshm_malloc(team->heap, BLOCK);
        assert_non_null(block);
        block_fill(block, BLOCK, 1);
    }
    assert_ok(hshm_free(team->heap, hshm_malloc(team->heap, (size_t)KEPT_SLICES * SLICE)));
    step_reach(&team->ready);
    (void)pause();
    return 1;
}

static struct team *
team_of_kind(void **state)
{
    struct team *team = shared_bytes(sizeof *team);
    team->heap =
        make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("recover"), SIZE, *(const hshm_allocator_kind *)*state);
    return team;
}

static pid_t
start_worker(struct team *team, uint32_t number)
{
    const pid_t pid = child_start(work_and_wait, team);
    step_wait(&team->ready, number);
    return pid;
}

static void
kill_worker(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(child_wait(pid), 128 + SIGKILL);
}

static hshm_recover_report
recover(const struct team *team)
{
    hshm_recover_report report = HSHM_RECOVER_REPORT_INIT;
    assert_ok(hshm_recover(team->heap, &report));
    return report;
}

static void
a_recovery_says_what_the_dead_left(void **state)
{
    struct team *team = team_of_kind(state);
    kill_worker(start_worker(team, 1));
    kill_worker(start_worker(team, 2));
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    const hshm_recover_report report = recover(team);
    /* The second worker was forked when the first was dead, and has its slot: so its fork cleaned up after that. */
    assert_in_range(report.processes, 1, 2);
    const bool has_threads = hshm_allocator_kind_of(team->heap) == HSHM_ALLOCATOR_THREAD_LOCAL;
    assert_int_equal(report.threads, has_threads ? report.processes : 0);
    assert_int_equal(report.slabs, has_threads ? report.processes : 0);
    assert_int_equal(report.slices, has_threads ? KEPT_SLICES * report.processes : 0);
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &info));
    assert_int_equal(info.processes, 1);
    assert_ok(hshm_check(team->heap, 0, NULL));

    const hshm_recover_report again = recover(team);
    assert_int_equal(again.processes + again.threads + again.slabs + again.slices, 0);
    assert_int_equal(stats_of(team->heap).live_blocks, 2 * BLOCKS);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_recovery_leaves_the_living_alone(void **state)
{
    struct team *team = team_of_kind(state);
    const pid_t living = start_worker(team, 1);
    kill_worker(start_worker(team, 2));
    const hshm_recover_report report = recover(team);
    assert_int_equal(report.processes, 1);
    assert_true(report.threads <= 1);
    assert_true(report.slabs <= 1);
    assert_true(report.slices <= KEPT_SLICES);
    assert_int_equal(recover(team).processes, 0);
    kill_worker(living);
    assert_int_equal(recover(team).processes, 1);
    assert_ok(hshm_check(team->heap, 0, NULL));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static int
free_block(const hshm_block *block, void *arg)
{
    assert_true(block_holds(block->addr, BLOCK, 1));
    assert_ok(hshm_free(arg, block->addr));
    return 0;
}

static void
what_the_dead_had_allocated_stays(void **state)
{
    struct team *team = team_of_kind(state);
    kill_worker(start_worker(team, 1));
    (void)recover(team);
    assert_int_equal(stats_of(team->heap).live_blocks, BLOCKS);
    assert_ok(hshm_visit_blocks(team->heap, free_block, team->heap));
    assert_emptied(team->heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static int
set_both_bits(const hshm_block *block, void *arg)
{
    hshm_allocator *heap = arg;
    struct block_place place;
    assert_true(slab_find(heap, block->addr, &place));
    const uint64_t bit = UINT64_C(1) << place.block % 64;
    (void)atomic_fetch_or(&bits_of(place.record)[place.block / 64], bit);
    (void)atomic_fetch_or(&remote_of(&heap->slab, place.record)[place.block / 64], bit);
    return 1; /* of the first block only */
}

/* What is left when the owner dies after it took in what others freed, and before it cleared their bits. */
static void
half_a_harvest_is_no_second_free(void **state)
{
    struct team *team = team_of_kind(state);
    const pid_t worker = start_worker(team, 1);
    assert_ok(hshm_visit_blocks(team->heap, set_both_bits, team->heap));
    kill_worker(worker);
    assert_int_equal(recover(team).processes, 1);
    assert_ok(hshm_check(team->heap, 0, NULL));
    assert_int_equal(stats_of(team->heap).live_blocks, BLOCKS - 1);
    assert_ok(hshm_visit_blocks(team->heap, free_block, team->heap));
    assert_emptied(team->heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OF_ALL_KINDS(a_recovery_says_what_the_dead_left),
        OF_ALL_KINDS(a_recovery_leaves_the_living_alone),
        OF_ALL_KINDS(what_the_dead_had_allocated_stays),
        OF_THREAD_LOCAL(half_a_harvest_is_no_second_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
