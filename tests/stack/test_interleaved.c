/*
 * test_interleaved.c - a call is overtaken in its middle: others take, free and give room back while it stands still, and
 * then it goes on.  It must answer as if alone, and everything must be exact afterwards.
 *
 * labels: no-asan no-tsan
 * (a process with a sanitizer in it cannot be stepped through: most steps would be the sanitizer's own)
 *
 * Threads that run freely meet in such places once in a million calls, if at all.  Here one is stopped there, by stepping
 * it through the call: before and after each instruction that changes the region, and at random ones between.
 */
#include "stepping.h"

#include <string.h>

#include "scenes.h"

enum { CHANGES_MAX = 32, KEPT = 3, RANDOM_STOPS = 2 };

/* ---- what the overtaker does ---- */

struct kept {
    void *blocks[KEPT];
    size_t sizes[KEPT];
};

static void
keep(const struct scene *scene, struct kept *kept)
{
    static const size_t sizes[KEPT] = { 16, 600, 1 };
    for (size_t i = 0; i < KEPT; i++) {
        kept->blocks[i] = hshm_malloc(scene->heap, sizes[i]);
        kept->sizes[i] = sizes[i];
        assert_non_null(kept->blocks[i]);
        block_fill(kept->blocks[i], sizes[i], 20 + i);
    }
}

static void
take_and_give_back(struct scene *scene, struct kept *kept)
{
    (void)kept;
    use_heap(scene);
}

static void
take_and_keep(struct scene *scene, struct kept *kept)
{
    keep(scene, kept);
}

/* All that is ours goes, so that the victim's block or gap may come to lie at the top; then others take its place. */
static void
free_neighbours_and_take(struct scene *scene, struct kept *kept)
{
    assert_ok(hshm_free(scene->heap, scene->high));
    assert_ok(hshm_free(scene->heap, scene->low));
    scene->high = scene->low = NULL;
    keep(scene, kept);
}

/* Something is taken and freed beneath something that stays. */
static void
leave_a_gap(struct scene *scene, struct kept *kept)
{
    void *gap = hshm_malloc(scene->heap, 48);
    keep(scene, kept);
    assert_ok(hshm_free(scene->heap, gap));
}

static void (*const overtakers[])(struct scene *, struct kept *) = { take_and_give_back, take_and_keep,
                                                                     free_neighbours_and_take, leave_a_gap };
#define OVERTAKERS (sizeof overtakers / sizeof overtakers[0])

/* ---- what must be true afterwards ---- */

/* The block that the victim has in the end, and how much of it is as it was before. */
static void *
check_answer(const struct scene *scene)
{
    const struct plan *plan = scene->plan;
    if (plan->operation == do_free) {
        assert_status(scene->outcome->status, HSHM_OK);
        return NULL;
    }
    unsigned char *block = scene->outcome->addr;
    assert_non_null(block);
    assert_true(plan->alignment == 0 || (uintptr_t)block % plan->alignment == 0);
    assert_int_equal(hshm_usable_size(scene->heap, block), stack_rounded(plan->argument));
    if (plan->operation == do_realloc)
        assert_true(block_holds(block, plan->size < plan->argument ? plan->size : plan->argument, 3));
    memset(block, 0xcc, stack_rounded(plan->argument));
    return block;
}

static void
check_end(struct scene *scene, const struct kept *kept)
{
    void *block = check_answer(scene);
    assert_sound(scene->heap);
    uint64_t blocks = block != NULL;
    if (scene->low != NULL)
        assert_block(scene->heap, scene->low, LOW, 1);
    if (scene->high != NULL)
        assert_block(scene->heap, scene->high, HIGH, 2);
    for (size_t i = 0; i < KEPT; i++) {
        if (kept->blocks[i] != NULL)
            assert_block(scene->heap, kept->blocks[i], kept->sizes[i], 20 + i);
        blocks += kept->blocks[i] != NULL;
    }
    blocks += scene->low != NULL;
    blocks += scene->high != NULL;
    assert_int_equal(stats_of(scene->heap).live_blocks, blocks);

    assert_ok(hshm_free(scene->heap, scene->low));
    assert_ok(hshm_free(scene->heap, block));
    for (size_t i = 0; i < KEPT; i++)
        assert_ok(hshm_free(scene->heap, kept->blocks[i]));
    assert_ok(hshm_free(scene->heap, scene->high));
    assert_int_equal(stats_of(scene->heap).live_blocks, 0);
    assert_int_equal(stats_of(scene->heap).used_bytes, 0);
    assert_sound(scene->heap);
}

/* ---- where to stop ---- */

struct stops {
    unsigned long steps;
    size_t count;
    unsigned long at[3 + 2 * CHANGES_MAX + RANDOM_STOPS];
};

/* Step through the call once, and note where it changes the region. */
static struct stops
find_stops(const struct plan *plan, uint64_t *random)
{
    static unsigned char before[SCENE_REGION];
    struct scene scene = new_scene(plan);
    struct stops stops = { 0, 0, { 0 } };
    struct stepped child = stepped_start(plan->operation, &scene);
    memcpy(before, scene.region, SCENE_REGION);
    while (stepped_once(&child)) {
        if (memcmp(before, scene.region, SCENE_REGION) == 0)
            continue;
        memcpy(before, scene.region, SCENE_REGION);
        assert_true(stops.count < 2UL * CHANGES_MAX);
        stops.at[stops.count++] = child.steps - 1;
        stops.at[stops.count++] = child.steps;
    }
    stops.steps = child.steps;
    stepped_kill(&child);
    end_scene();
    for (int i = 0; i < RANDOM_STOPS; i++)
        stops.at[stops.count++] = (unsigned long)(next_random(random) % stops.steps);
    return stops;
}

static void
overtake(const struct plan *plan, unsigned long steps, void (*overtaker)(struct scene *, struct kept *))
{
    struct scene scene = new_scene(plan);
    struct kept kept = { { NULL }, { 0 } };
    struct stepped child = stepped_start(plan->operation, &scene);
    while (child.steps < steps && stepped_once(&child))
        ;
    overtaker(&scene, &kept);
    stepped_finish(&child);
    check_end(&scene, &kept);
    end_scene();
}

static void
need_stepping(void)
{
    const char *refused = stepping_refused();
    if (refused != NULL) {
        print_message("%s\n", refused);
        skip();
    }
}

static void
a_call_that_is_overtaken_anywhere_answers_as_if_alone(void **state)
{
    (void)state;
    need_stepping();
    warm_up();
    uint64_t random = test_seed();
    for (size_t i = 0; i < PLANS; i++) {
        if (plans[i].operation == do_rewind)
            continue; /* it has the heap to itself, by contract */
        const struct stops stops = find_stops(&plans[i], &random);
        print_message("%s, %lu instructions, overtaken after", plans[i].title, stops.steps);
        for (size_t j = 0; j < stops.count; j++) {
            print_message(" %lu", stops.at[j]);
            overtake(&plans[i], stops.at[j], overtakers[next_random(&random) % OVERTAKERS]);
        }
        print_message("\n");
    }
}

/* ---- three at once ---- */

/* Somebody else's block of one granule, and what freeing it answered. */
struct other {
    hshm_allocator *heap;
    void *block;
    struct outcome *outcome;
};

static void
free_other(void *arg)
{
    const struct other *other = arg;
    other->outcome->status = hshm_free(other->heap, other->block);
}

/*
 * One stands in the middle of a call about a block; another has taken the granule above and stands in the middle of
 * freeing that; the first goes on to its end, then the second.  False when the second was past its look at the table.
 */
static bool
overtake_a_free(const struct plan *plan, unsigned long stop, unsigned long steps)
{
    static struct outcome *outcome;
    if (outcome == NULL)
        outcome = shared_bytes(sizeof *outcome);
    struct scene scene = new_scene(plan);
    struct stepped first = stepped_start(plan->operation, &scene);
    while (first.steps < stop && stepped_once(&first))
        ;
    struct other other = { scene.heap, hshm_malloc(scene.heap, 16), outcome };
    const uint64_t frees = stats_of(scene.heap).frees;
    *outcome = (struct outcome){ NULL, HSHM_E_SYSTEM };
    struct stepped second = stepped_start(free_other, &other);
    while (second.steps < steps && stepped_once(&second))
        ;
    const bool looking = stats_of(scene.heap).frees == frees;
    stepped_finish(&first);
    stepped_finish(&second);
    assert_status(outcome->status, HSHM_OK);
    check_end(&scene, &(struct kept){ { NULL }, { 0 } });
    end_scene();
    return looking;
}

/*
 * The code of a single granule is also that of a block's last one, so a free has to look below; and what it sees there
 * may be half old, half new.
 */
static void
a_free_is_never_refused_for_what_happens_below(void **state)
{
    (void)state;
    static const struct plan below[] = {
        { .title = "malloc into the next word", .operation = do_malloc, .argument = 480, .lost = 480 },
        { .title = "grow to the third word", .operation = do_realloc, .size = 400, .argument = 960, .lost = 960 },
    };
    need_stepping();
    warm_up();
    uint64_t random = test_seed();
    for (size_t i = 0; i < sizeof below / sizeof below[0]; i++) {
        const struct stops stops = find_stops(&below[i], &random);
        unsigned long steps = 0;
        while (overtake_a_free(&below[i], stops.at[1], steps))
            steps++;
        print_message("%s, free overtaken after each of %lu instructions\n", below[i].title, steps);
        assert_true(steps > 10);
    }
}

/* ---- a free that comes too late ---- */

/*
 * While one stands in the middle of freeing a block, another frees it, and others take its place.  The late one is told
 * so, unless a block begins at that very address again: then it cannot know, and frees that one.  Whatever it does, it
 * does to that block alone.  False when the late one was past its look at the table.
 */
static bool
come_too_late(const struct plan *plan, unsigned long steps, bool same_address, size_t size)
{
    struct scene scene = new_scene(plan);
    struct stepped late = stepped_start(do_free, &scene);
    const uint64_t frees = stats_of(scene.heap).frees;
    while (late.steps < steps && stepped_once(&late))
        ;
    const bool looking = stats_of(scene.heap).frees == frees && hshm_usable_size(scene.heap, scene.block) != 0;
    if (looking) {
        assert_ok(hshm_free(scene.heap, scene.block));
        if (!same_address)
            assert_ok(hshm_free(scene.heap, scene.low));
        unsigned char *taken = hshm_malloc(scene.heap, size);
        unsigned char *third = hshm_malloc(scene.heap, 16);
        assert_true((taken == scene.block) == same_address);
        block_fill(taken, size, 4);
        block_fill(third, 16, 5);
        stepped_finish(&late);
        const bool freed = scene.outcome->status == HSHM_OK;
        assert_true(freed ? same_address : scene.outcome->status == HSHM_E_BADFREE);
        assert_sound(scene.heap);
        assert_block(scene.heap, third, 16, 5);
        if (!freed)
            assert_block(scene.heap, taken, size, 4);
        assert_status(hshm_free(scene.heap, taken), freed ? HSHM_E_BADFREE : HSHM_OK);
        assert_ok(hshm_free(scene.heap, third));
        if (same_address)
            assert_ok(hshm_free(scene.heap, scene.low));
        assert_int_equal(stats_of(scene.heap).used_bytes, 0);
        assert_sound(scene.heap);
    } else {
        stepped_finish(&late);
    }
    end_scene();
    return looking;
}

static void
a_free_that_comes_too_late_hurts_no_third_block(void **state)
{
    (void)state;
    /* What is freed twice, whether it is taken anew at the same address, and how large it is then. */
    static const struct {
        struct plan plan;
        bool same_address;
        size_t size;
    } cases[] = {
        { { .title = "a wide one, taken anew smaller", .operation = do_free, .size = 400 }, true, 48 },
        { { .title = "a wide one, taken anew larger", .operation = do_free, .size = 400 }, true, 1000 },
        { { .title = "a wide one, taken anew as one granule", .operation = do_free, .size = 400 }, true, 1 },
        { { .title = "one granule, taken anew larger", .operation = do_free, .size = 16 }, true, 100 },
        { { .title = "one granule, the end of another now", .operation = do_free, .size = 16 }, false, LOW + 16 },
        { { .title = "one granule, inside another now", .operation = do_free, .size = 16 }, false, 700 },
    };
    need_stepping();
    warm_up();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned long steps = 0;
        while (come_too_late(&cases[i].plan, steps, cases[i].same_address, cases[i].size))
            steps++;
        print_message("%s: too late after each of %lu instructions\n", cases[i].plan.title, steps);
        assert_true(steps > 10);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_call_that_is_overtaken_anywhere_answers_as_if_alone, drop_heaps),
        cmocka_unit_test_teardown(a_free_is_never_refused_for_what_happens_below, drop_heaps),
        cmocka_unit_test_teardown(a_free_that_comes_too_late_hurts_no_third_block, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
