/*
 * test_twice.c - who frees a block from a slot is killed, and so is who cleans up: the block that somebody took anew meanwhile is not
 * freed a second time.
 *
 * labels: no-asan no-tsan
 * (the library with failpoints is not built with sanitizers)
 */
#include "blocks.h"
#include "points.h"

#include <signal.h>

#include "format/log_format.h"

enum { REGION = 256 << 10, SIZE = 48, TAKEN_MAX = REGION / SIZE };

struct scene {
    hshm_allocator *heap;
    hshm_slot *slot;
    const char *point; /* at which this one is killed */
    struct tally *tally;
};

static int
free_and_die(void *arg)
{
    const struct scene *scene = arg;
    points_begin(&(struct point_plan){ scene->tally, point_at(point_named(scene->point)), 1, SIGKILL });
    assert_ok(hshm_free_from(scene->heap, scene->slot));
    return 0;
}

static int
recover_and_die(void *arg)
{
    const struct scene *scene = arg;
    points_begin(&(struct point_plan){ scene->tally, point_at(point_named(scene->point)), 1, SIGKILL });
    assert_ok(hshm_recover(scene->heap, NULL));
    return 0;
}

/* Take blocks until one is at this address, as all are taken before anybody asks who is dead; the others are free again. */
static void
take_anew(hshm_allocator *heap, const void *block)
{
    static void *taken[TAKEN_MAX];
    size_t count = 0;
    while (count < TAKEN_MAX && (taken[count] = hshm_malloc(heap, SIZE)) != NULL && taken[count] != block)
        count++;
    if (count == TAKEN_MAX || taken[count] != block)
        fail_msg("the block did not come again");
    while (count-- > 0)
        assert_ok(hshm_free(heap, taken[count]));
}

static void
play(hshm_allocator_kind kind, const char *first, const char *second)
{
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("twice"), REGION, kind);
    struct tally *tallies = shared_bytes(2 * sizeof *tallies);
    hshm_slot *slot = hshm_calloc(heap, 1, sizeof *slot);
    void *block = hshm_malloc(heap, SIZE);
    assert_true(slot != NULL && block != NULL);
    /* By hand: allocate_to() takes from slabs that the log has to itself. */
    slot->word = user_slot_make(USER_SLOT_FULL, 0, hshm_to_off(heap, block));
    struct scene freer = { heap, slot, first, &tallies[0] };
    struct scene cleaner = { heap, slot, second, &tallies[1] };
    assert_int_equal(child_run(free_and_die, &freer), 128 + SIGKILL);
    assert_int_equal(child_run(recover_and_die, &cleaner), 128 + SIGKILL);
    take_anew(heap, block);
    block_fill(block, SIZE, 1);
    assert_ok(hshm_recover(heap, NULL));
    assert_block(heap, block, SIZE, 1);
    assert_int_equal(slot->word, 0);
    assert_ok(hshm_free(heap, block));
    assert_ok(hshm_free(heap, slot));
    assert_emptied(heap);
}

/* The freer had not said yet which block, or had. */
static void
a_block_that_was_taken_anew_is_not_freed(void **state)
{
    static const char *const deaths[] = { "slot.claimed", "log.counted", "log.freeing", "log.block", "slot.given" };
    for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++) {
        play(*(const hshm_allocator_kind *)*state, deaths[i], "log.given_after_death");
        (void)drop_heaps(state);
    }
}

int
main(void)
{
    static hshm_allocator_kind kinds[] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_SCALABLE_PAGE,
                                           HSHM_ALLOCATOR_THREAD_LOCAL };
    const struct CMUnitTest tests[] = {
        { "stack: a block that was taken anew is not freed", a_block_that_was_taken_anew_is_not_freed, NULL, drop_heaps,
          &kinds[0] },
        { "scalable_page: a block that was taken anew is not freed", a_block_that_was_taken_anew_is_not_freed, NULL,
          drop_heaps, &kinds[1] },
        { "thread_local: a block that was taken anew is not freed", a_block_that_was_taken_anew_is_not_freed, NULL,
          drop_heaps, &kinds[2] },
    };
    return cmocka_run_group_tests_name("failpoints.twice", tests, NULL, NULL);
}
