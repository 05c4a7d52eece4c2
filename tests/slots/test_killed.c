/*
 * test_killed.c - a process is killed in the middle of an operation on slots: after clean-up each slot holds its block or does
 * not, and no block is lost, whatever others did with the memory meanwhile.
 *
 * labels: no-asan no-tsan
 * (a process with a sanitizer in it cannot be stepped through: most steps would be the sanitizer's own)
 *
 * Each operation is stepped through, and killed after each instruction that changed a byte of the region's control data, of the
 * table of slots or of the data's begin; kills in between leave the same bytes.
 */
#include "stepping.h"
#include "table.h"

#include <string.h>

enum { REGION = 256 << 10, WATCHED = 48 << 10, CHANGES_MAX = 400 };

/* An operation of the victim, and what is there before it. */
struct plan {
    const char *title;
    void (*operation)(void *scene);
    size_t size;                  /* of the block that slot 0 holds before; 0 = it is empty */
    bool by_the_other;            /* that block is one of the survivor's own                */
    bool full_before, full_after; /* slots 0 and 1 together */
};

struct scene {
    const struct plan *plan;
    hshm_allocator *heap;
    struct table *table;
    const unsigned char *region;
};

static void
do_allocate_small(void *arg)
{
    const struct scene *scene = arg;
    (void)hshm_allocate_to(scene->heap, 100, &scene->table->slots[0]);
}

static void
do_allocate_large(void *arg)
{
    const struct scene *scene = arg;
    (void)hshm_allocate_to(scene->heap, 12000, &scene->table->slots[0]);
}

static void
do_free(void *arg)
{
    const struct scene *scene = arg;
    (void)hshm_free_from(scene->heap, &scene->table->slots[0]);
}

static void
do_move(void *arg)
{
    const struct scene *scene = arg;
    (void)hshm_move(scene->heap, &scene->table->slots[0], &scene->table->slots[1]);
}

/* The victim's own block: it allocates it before it is stepped through. */
static void
do_allocate_and_free(void *arg)
{
    do_allocate_small(arg);
    do_free(arg);
}

static const struct plan plans[] = {
    { "allocate_to, small", do_allocate_small, 0, false, false, true },
    { "allocate_to, large", do_allocate_large, 0, false, false, true },
    { "free_from, another's small block", do_free, 100, true, true, false },
    { "free_from, a large block", do_free, 12000, true, true, false },
    { "allocate_to and free_from", do_allocate_and_free, 0, false, false, false },
    { "move", do_move, 100, true, true, true },
};

static struct scene
new_scene(void **state, const struct plan *plan)
{
    struct scene scene = { .plan = plan };
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    scene.heap = table_heap((const void *const *)state, REGION, &scene.table);
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &info));
    scene.region = info.base;
    void *others = hshm_malloc(scene.heap, 100); /* so that the survivor has slabs, and a place */
    if (plan->size != 0)
        assert_ok(hshm_allocate_to(scene.heap, plan->size, &scene.table->slots[0]));
    assert_non_null(hshm_malloc(scene.heap, 100));
    assert_ok(hshm_free(scene.heap, others));
    return scene;
}

/* Step until the region has changed so many times.  False when the operation has returned before. */
static bool
step_to_change(struct stepped *child, const struct scene *scene, unsigned changes)
{
    static unsigned char before[WATCHED];
    memcpy(before, scene->region, WATCHED);
    while (changes > 0) {
        if (!stepped_once(child))
            return false;
        if (memcmp(before, scene->region, WATCHED) != 0) {
            memcpy(before, scene->region, WATCHED);
            changes--;
        }
    }
    return true;
}

/* ---- the survivor, while the victim stands ---- */

enum { TAKEN_MAX = REGION / 100 };

struct taken {
    void *blocks[TAKEN_MAX];
    size_t count;
};

/* Take all the room there is, so that whatever the victim has freed by now is taken anew. */
static void
take_many(hshm_allocator *heap, struct taken *taken)
{
    for (taken->count = 0; taken->count < TAKEN_MAX; taken->count++) {
        taken->blocks[taken->count] = hshm_malloc(heap, 100);
        if (taken->blocks[taken->count] == NULL)
            return;
        block_fill(taken->blocks[taken->count], 100, taken->count);
    }
    fail();
}

/* They are still the survivor's, and nobody else's. */
static void
give_back(const struct scene *scene, const struct taken *taken)
{
    for (size_t i = 0; i < taken->count; i++) {
        for (size_t slot = 0; slot < 2; slot++)
            assert_true(hshm_to_addr(scene->heap, hshm_slot_load(&scene->table->slots[slot])) != taken->blocks[i]);
        assert_block(scene->heap, taken->blocks[i], 100, i);
    }
    for (size_t i = 0; i < taken->count; i++)
        assert_ok(hshm_free(scene->heap, taken->blocks[i]));
}

/* ---- after the kill ---- */

/* Exact: nothing that the victim took or freed is in between. */
static void
check_after(const struct scene *scene, bool is_done)
{
    hshm_allocator *heap = scene->heap;
    const uint64_t full = full_slots(heap, scene->table);
    if (stats_of(heap).live_blocks != 1 + full)
        print_error("%s: ", scene->plan->title);
    assert_true(full == scene->plan->full_before || full == scene->plan->full_after ||
                scene->plan->operation == do_allocate_and_free);
    if (is_done)
        assert_int_equal(full, scene->plan->full_after);
    assert_true(full <= 1);
    assert_int_equal(stats_of(heap).live_blocks, 1 + full);
    assert_int_equal(heap->op_table->freeing, 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(scene->table->slots[i].word & 2, 0);
        if (hshm_slot_load(&scene->table->slots[i]) != HSHM_OFF_NULL)
            assert_ok(hshm_free_from(heap, &scene->table->slots[i]));
    }
    assert_int_equal(stats_of(heap).live_blocks, 1);
    assert_sound(heap);
}

static bool
kill_after_change(void **state, const struct plan *plan, unsigned changes, bool busy)
{
    static struct taken taken;
    struct scene scene = new_scene(state, plan);
    struct stepped child = stepped_start(plan->operation, &scene);
    const bool inside = step_to_change(&child, &scene, changes);
    if (busy)
        take_many(scene.heap, &taken);
    stepped_kill(&child);
    assert_ok(hshm_recover(scene.heap, NULL));
    if (busy)
        give_back(&scene, &taken);
    check_after(&scene, !inside);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return inside;
}

static void
skip_if_refused(void)
{
    const char *refused = stepping_refused();
    if (refused == NULL)
        return;
    print_message("%s\n", refused);
    skip();
}

static void
run_all(void **state, bool busy)
{
    skip_if_refused();
    unsigned kills = 0;
    for (size_t i = 0; i < COUNTOF(plans); i++) {
        unsigned changes = 0;
        if (busy && plans[i].operation != do_free) /* nothing that others could take */
            continue;
        while (kill_after_change(state, &plans[i], changes, busy))
            assert_true(++changes < CHANGES_MAX);
        assert_true(changes > 3);
        kills += changes;
    }
    print_message("%u kills\n", kills);
}

static void
no_block_is_lost(void **state)
{
    run_all(state, false);
}

static void
no_block_is_freed_twice_when_others_have_taken_it_anew(void **state)
{
    run_all(state, true);
}

/* The slot itself tells that its operation's process is dead: nobody has to ask for a clean-up. */
static void
a_slot_that_the_dead_left_is_cleaned_up_by_who_uses_it(void **state)
{
    skip_if_refused();
    for (unsigned changes = 0; changes < CHANGES_MAX; changes++) {
        struct scene scene = new_scene(state, &plans[0]);
        struct stepped child = stepped_start(plans[0].operation, &scene);
        const bool inside = step_to_change(&child, &scene, changes);
        stepped_kill(&child);
        const hshm_status status = hshm_allocate_to(scene.heap, 50, &scene.table->slots[0]);
        assert_true(status == HSHM_OK || status == HSHM_E_EXISTS);
        assert_int_equal(full_slots(scene.heap, scene.table), 1);
        assert_ok(hshm_backend_destroy(NULL, 1));
        if (!inside)
            return;
    }
    fail();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OF_ALL_KINDS(no_block_is_lost),
        OF_ALL_KINDS(no_block_is_freed_twice_when_others_have_taken_it_anew),
        OF_ALL_KINDS(a_slot_that_the_dead_left_is_cleaned_up_by_who_uses_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
