/*
 * failpoints.c - see failpoints.h.
 */
#include "failpoints.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crash/image.h"
#include "points.h"
#include "scripts.h"
#include "stage.h"
#include "sync/rseq.h"

enum {
    SCENES_OF_POINT = 16, /* kept, with different calls */
    TRIES = 12,           /* to come by a point once more              */
    SWEEPS = 6,           /* through all calls, until each is found    */
    HEIRS = 200,          /* of a sweep */
    NTH_MAX = 40
};

/* A point, and who comes by it. */
struct found {
    struct scene scenes[SCENES_OF_POINT];
    uint32_t hits[SCENES_OF_POINT];
    size_t count;
};

static struct {
    hshm_allocator_kind kind;
    uint64_t random;
    struct found points[POINTS_MAX];
} all;

/* ---- which ones ---- */

static bool
begins_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Has this kind of heap such a gap? */
static bool
belongs(const struct failpoint *point)
{
    const char *name = point->name;
    if (begins_with(name, "stack."))
        return all.kind == HSHM_ALLOCATOR_STACK;
    if (begins_with(name, "thread."))
        return all.kind == HSHM_ALLOCATOR_THREAD_LOCAL;
    if (begins_with(name, "page."))
        return all.kind == HSHM_ALLOCATOR_SCALABLE_PAGE;
    if (begins_with(name, "run.") || begins_with(name, "slab.") || begins_with(name, "recover.") ||
        begins_with(name, "life."))
        return all.kind != HSHM_ALLOCATOR_STACK;
    return true;
}

/* Without restartable sequences no slab has a home; with one shard, only those of processor 0 have. */
static bool
can_be(const struct failpoint *point)
{
    cpu_set_t set;
    if (!begins_with(point->name, "page.home_") ||
        (rseq_cpu() != RSEQ_NO_CPU && sched_getaffinity(0, sizeof set, &set) == 0 && CPU_ISSET(0, &set)))
        return true;
    print_message("%s: nobody comes by, as this system has no restartable sequences, or processor 0 is not ours\n",
                  point->name);
    return false;
}

static bool
is_wanted(size_t i)
{
    return belongs(point_at(i)) && can_be(point_at(i));
}

static size_t
missing(void)
{
    size_t count = 0;
    for (size_t i = 0; i < point_count(); i++)
        count += is_wanted(i) && all.points[i].count == 0;
    return count;
}

/* ---- finding them ---- */

static void
note_scene(const struct scene *scene)
{
    struct tally *tally = shared_bytes(sizeof *tally);
    scene_count(scene, tally);
    for (size_t i = 0; i < point_count(); i++) {
        struct found *found = &all.points[i];
        const uint32_t hits = atomic_load(&tally->hits[i]);
        bool has_call = false;
        for (size_t k = 0; k < found->count; k++)
            has_call |= found->scenes[k].call == scene->call;
        if (hits == 0 || has_call || found->count == SCENES_OF_POINT)
            continue;
        found->scenes[found->count] = *scene;
        found->hits[found->count++] = hits;
    }
}

static bool
is_call(const struct call *call, const char *name)
{
    return strcmp(call->name, name) == 0;
}

/* In the larger places, whose images take longer to judge, what is shown nowhere else. */
static bool
suits(const struct call *call, unsigned place)
{
    const bool is_of_words = is_call(call, CALL_MIXED) || is_call(call, CALL_TAKEN_LATE);
    if (is_of_words != (place == PLACE_MIDDLE) || (place == PLACE_LAZY && !is_call(call, "trim") && !call->large))
        return false;
    return (all.kind == HSHM_ALLOCATOR_STACK ? call->stack : call->slabs) && !call->by_ptrace;
}

static void
sweep(void)
{
    for (unsigned place = 0; place < PLACES; place++) {
        for (size_t i = 0; i < call_count + script_count; i++) {
            const struct call *call = i < call_count ? &calls[i] : &script_calls[i - call_count];
            const struct scene scene = { all.kind, place, call, next_random(&all.random), NULL, NULL, 0 };
            if (suits(call, place))
                note_scene(&scene);
        }
    }
}

/* Some points only those come by who clean up after others. */
static void
look_for_heirs(void)
{
    for (unsigned tries = 0; tries < HEIRS && missing() > 0; tries++) {
        const size_t i = next_random(&all.random) % point_count();
        const struct found *found = &all.points[i];
        const size_t which = found->count == 0 ? 0 : next_random(&all.random) % found->count;
        if (found->count == 0 || found->scenes[which].earlier != NULL ||
            is_call(found->scenes[which].call, CALL_CREATES))
            continue;
        struct scene scene = found->scenes[which];
        scene.earlier_call = scene.call;
        scene.earlier = point_at(i);
        scene.earlier_nth = 1;
        scene.call = &heir_calls[HEIR_RECOVERS];
        note_scene(&scene);
    }
}

static void
find_all(void)
{
    for (int i = 0; i < SWEEPS && missing() > 0; i++) {
        sweep();
        look_for_heirs();
    }
}

/* docs/design.md says what a kill there leaves. */
static void
assert_told(const struct failpoint *point)
{
    static char text[256 << 10];
    char name[64];
    FILE *file = text[0] == '\0' ? fopen(HSHM_SOURCE_DIR "/docs/design.md", "re") : NULL;
    if (file != NULL) {
        (void)fread(text, 1, sizeof text - 1, file);
        (void)fclose(file);
    }
    (void)snprintf(name, sizeof name, "`%s`", point->name);
    if (strstr(text, name) == NULL)
        fail_msg("docs/design.md does not tell of %s", name);
}

static void
each_failpoint_is_come_by(void **state)
{
    (void)state;
    size_t count = 0;
    for (size_t i = 0; i < point_count(); i++) {
        const struct failpoint *point = point_at(i);
        assert_int_equal(point_named(point->name), i); /* no two have one name */
        if (!is_wanted(i))
            continue;
        count++;
        assert_told(point);
        if (all.points[i].count == 0)
            print_error("%s (%s:%u): nobody came by\n", point->name, point->file, point->line);
    }
    print_message("%zu failpoints\n", count);
    assert_int_equal(missing(), 0);
}

/* ---- at each ---- */

typedef bool (*play_fn)(const struct scene *scene, const struct failpoint *point, uint32_t nth);

static size_t
most_often(const struct found *found)
{
    size_t best = 0;
    for (size_t i = 1; i < found->count; i++)
        best = found->hits[i] > found->hits[best] ? i : best;
    return best;
}

/* One of the calls that led there, once more.  Their threads, and their processors, need not do the same again. */
static bool
play_at(size_t i, play_fn play)
{
    const struct found *found = &all.points[i];
    for (size_t try = 0; try < TRIES; try++) {
        const size_t which = try < TRIES / 4 ? next_random(&all.random) % found->count : most_often(found);
        const uint32_t hits = found->hits[which] < NTH_MAX ? found->hits[which] : NTH_MAX;
        const uint32_t nth = try < TRIES / 2 ? 1 + (uint32_t)(next_random(&all.random) % hits) : 1;
        if (play(&found->scenes[which], point_at(i), nth))
            return true;
    }
    print_error("%s: nobody came by once more\n", point_at(i)->name);
    return false;
}

static void
play_everywhere(play_fn play)
{
    size_t lost = 0;
    for (size_t i = 0; i < point_count(); i++) {
        if (is_wanted(i) && all.points[i].count > 0)
            lost += !play_at(i, play);
    }
    assert_int_equal(lost, 0);
}

static void
a_kill_there_leaves_a_heap_that_recovers(void **state)
{
    (void)state;
    play_everywhere(scene_kill);
}

static void
nobody_waits_for_one_who_is_stopped_there(void **state)
{
    (void)state;
    play_everywhere(scene_stop);
}

static void
only_calls_on_slots_wait_when_all_logs_are_held(void **state)
{
    (void)state;
    scene_hold_all_logs(all.kind, next_random(&all.random));
}

/* ---- all of it ---- */

static int
open_and_find(void **state)
{
    (void)state;
    /* What is to be found are places; whoever looks for states in which a call may be, sets a seed. */
    all.random = getenv("HSHM_TEST_SEED") != NULL ? test_seed() : 1;
    stage_open(all.random);
    find_all();
    return 0;
}

static int
close_all(void **state)
{
    (void)state;
    stage_close();
    return 0;
}

int
failpoints_main(const char *group, hshm_allocator_kind kind)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failpoint_is_come_by),
        cmocka_unit_test(a_kill_there_leaves_a_heap_that_recovers),
        cmocka_unit_test(nobody_waits_for_one_who_is_stopped_there),
        cmocka_unit_test(only_calls_on_slots_wait_when_all_logs_are_held),
    };
    all.kind = kind;
    return cmocka_run_group_tests_name(group, tests, open_and_find, close_all);
}
