/*
 * test_races.c - when several processes want one name at once, exactly one gets it, and the others hear so; who looks on
 * sees nothing, a region that is not ready, or a whole one; and no remover and no replacer takes the name from those who
 * are attached.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stage.h"

enum { RACERS = 8, WATCHERS = 2 };

/* Under sanitizers, and where each leaving waits for a disk, a few rounds take as long as all do elsewhere. */
#if UNDER_SANITIZER
enum { ROUNDS = 10 };
#else
enum { ROUNDS = 100 };
#endif
enum { ROUNDS_ON_DISK = 10 };

/* Shared by the test and all who take part. */
struct race {
    struct stage *stage;
    hshm_replace replace;
    unsigned rounds;
    struct step go;    /* a round begins                                   */
    struct step tried; /* a racer has its answer                           */
    struct step seen;  /* a watcher saw a region that it had not seen yet  */
    struct step leave; /* the round is over, the winner may go             */
    struct step left;  /* a racer is done with the round                   */
    _Atomic bool over; /* and so are all rounds                            */
    hshm_status answers[RACERS];
    struct uuid won;
    struct uuid watched[WATCHERS];
    /* For the last tests: how often what succeeded. */
    struct step replaced;
    struct step removed;
};

/* For child_start(). */
struct part {
    struct race *race;
    unsigned number;
};

static struct race *
race_begin(void **state, const char *what)
{
    struct race *race = shared_bytes(sizeof *race);
    race->stage = stage_begin(state, what);
    race->rounds = race->stage->on_disk ? ROUNDS_ON_DISK : ROUNDS;
    return race;
}

static void
start_all(struct race *race, int (*fn)(void *arg), unsigned count, pid_t *ret_pids)
{
    for (unsigned i = 0; i < count; i++) {
        struct part part = { race, i };
        ret_pids[i] = child_start(fn, &part);
    }
}

static void
await_all(const pid_t *pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(child_wait(pids[i]), 0);
}

/*
 * A gate that is closed for more than 50 ms: that of a region that is being removed, and of a file that its last user
 * leaves.  Neither should take so long, but on a busy machine it may.
 */
static bool
may_be_busy(const struct race *race, bool removers)
{
    return removers || race->stage->kind == HSHM_BACKEND_POSIX_MMAP;
}

/* ---- those who look on ---- */

static int
watch(void *arg)
{
    const struct part *part = arg;
    struct race *race = part->race;
    struct uuid last = { { 0 } };
    while (!atomic_load(&race->over)) {
        const hshm_status status = stage_attach(race->stage, NULL);
        if (status == HSHM_E_NOTFOUND || status == HSHM_E_NOTREADY)
            continue;
        if (status == HSHM_E_BUSY && may_be_busy(race, false))
            continue;
        assert_ok(status);
        stage_use(NULL);
        const struct uuid uuid = stage_uuid(NULL);
        assert_ok(hshm_backend_detach(NULL, 1));
        if (same_uuid(uuid, last))
            continue;
        last = race->watched[part->number] = uuid;
        step_reach(&race->seen);
    }
    return 0;
}

/* ---- creators ---- */

static int
race_to_create(void *arg)
{
    const struct part *part = arg;
    struct race *race = part->race;
    stage_enter(race->stage);
    for (unsigned round = 1; round <= race->rounds; round++) {
        step_wait(&race->go, round);
        const hshm_status status = stage_create(race->stage, NULL, race->replace);
        race->answers[part->number] = status;
        if (status == HSHM_OK)
            race->won = stage_uuid(NULL);
        step_reach(&race->tried);
        step_wait(&race->leave, round);
        if (status == HSHM_OK)
            assert_ok(hshm_backend_destroy(NULL, 1));
        step_reach(&race->left);
    }
    return 0;
}

/* One answer is `won`, all others are `lost` or `lost_too`. */
static void
check_answers(const struct race *race, hshm_status lost, hshm_status lost_too)
{
    unsigned winners = 0;
    for (unsigned i = 0; i < RACERS; i++) {
        const hshm_status answer = race->answers[i];
        winners += answer == HSHM_OK;
        if (answer != HSHM_OK && answer != lost && answer != lost_too)
            fail_msg("racer %u was answered %s", i, hshm_status_name(answer));
    }
    assert_int_equal(winners, 1);
}

/* Everybody finds the winner's region. */
static void
check_winner(struct race *race, unsigned round, unsigned watchers)
{
    step_wait(&race->seen, watchers * round);
    for (unsigned i = 0; i < watchers; i++)
        assert_true(same_uuid(race->watched[i], race->won));
    hshm_status status;
    do {
        status = stage_attach(race->stage, NULL);
    } while (status == HSHM_E_BUSY && may_be_busy(race, false));
    assert_ok(status);
    assert_true(same_uuid(stage_uuid(NULL), race->won));
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_int_equal(stage_unseen(race->stage), 0);
}

static void
run_creators(struct race *race, unsigned watchers, void (*prepare)(struct stage *stage))
{
    const bool replacing = race->replace == HSHM_REPLACE_DEAD;
    pid_t racers[RACERS];
    pid_t lookers[WATCHERS];
    start_all(race, race_to_create, RACERS, racers);
    start_all(race, watch, watchers, lookers);
    for (unsigned round = 1; round <= race->rounds; round++) {
        if (prepare != NULL)
            prepare(race->stage);
        step_reach(&race->go);
        step_wait(&race->tried, RACERS * round);
        check_answers(race, HSHM_E_EXISTS, replacing ? HSHM_E_BUSY : HSHM_E_EXISTS);
        check_winner(race, round, watchers);
        step_reach(&race->leave);
        step_wait(&race->left, RACERS * round);
        assert_all_gone(race->stage);
    }
    atomic_store(&race->over, true);
    await_all(racers, RACERS);
    await_all(lookers, watchers);
}

static void
one_of_many_creators_gets_the_name(void **state)
{
    run_creators(race_begin(state, "create"), WATCHERS, NULL);
}

static void
leave_region(struct stage *stage)
{
    stage_leftover(stage, false);
}

static void
leave_heap(struct stage *stage)
{
    stage_leftover(stage, true);
}

static void
one_of_many_replacers_gets_the_name_of_the_dead(void **state)
{
    struct race *race = race_begin(state, "replace");
    race->replace = HSHM_REPLACE_DEAD;
    run_creators(race, WATCHERS, leave_region);
}

/* Nobody looks on: who attached to the leftover would make it a living one. */
static void
one_of_many_replacers_gets_the_name_of_a_dead_heap(void **state)
{
    struct race *race = race_begin(state, "reheap");
    race->replace = HSHM_REPLACE_DEAD;
    run_creators(race, 0, leave_heap);
}

/* ---- removers ---- */

static int
race_to_remove(void *arg)
{
    const struct part *part = arg;
    struct race *race = part->race;
    for (unsigned round = 1; round <= race->rounds; round++) {
        step_wait(&race->go, round);
        race->answers[part->number] = stage_remove(race->stage);
        step_reach(&race->tried);
    }
    return 0;
}

/* As a creator leaves it that was killed between link() and unlink(). */
static void
leave_two_names(struct stage *stage)
{
    char unseen[PATH_MAX];
    stage_leftover(stage, true);
    const int length = snprintf(unseen, sizeof unseen, "%.1000s/.hshm-%s.0123456789abcdef", stage->folder, stage->base);
    assert_in_range(length, 1, sizeof unseen - 1);
    assert_int_equal(link(stage->path, unseen), 0);
    assert_int_equal(stage_unseen(stage), 1);
}

static void
run_removers(struct race *race, void (*prepare)(struct stage *stage))
{
    pid_t racers[RACERS];
    start_all(race, race_to_remove, RACERS, racers);
    for (unsigned round = 1; round <= race->rounds; round++) {
        prepare(race->stage);
        step_reach(&race->go);
        step_wait(&race->tried, RACERS * round);
        check_answers(race, HSHM_E_NOTFOUND, HSHM_E_BUSY);
        assert_all_gone(race->stage);
    }
    await_all(racers, RACERS);
}

static void
one_of_many_removers_removes(void **state)
{
    run_removers(race_begin(state, "remove"), leave_heap);
}

static void
one_of_many_removers_removes_what_has_two_names(void **state)
{
    run_removers(race_begin(state, "twice"), leave_two_names);
}

/* ---- all of them at once ---- */

/* While one manager is attached, the name leads another one to the very same region. */
static void
check_name_is_kept(const struct race *race, hshm_manager *other)
{
    hshm_status status;
    do {
        status = stage_attach(race->stage, other);
    } while (status == HSHM_E_BUSY && may_be_busy(race, false));
    assert_ok(status);
    assert_true(same_uuid(stage_uuid(NULL), stage_uuid(other)));
    assert_ok(hshm_backend_detach(other, 1));
}

/* So many visits, and no more: those who wait for all guests to be gone must get their turn, too. */
static int
come_and_go(void *arg)
{
    struct race *race = ((const struct part *)arg)->race;
    hshm_manager *other = NULL;
    unsigned visits = 0;
    assert_ok(hshm_manager_create(&other));
    while (visits < race->rounds) {
        const hshm_status status = stage_attach(race->stage, NULL);
        if (status == HSHM_E_NOTFOUND || status == HSHM_E_NOTREADY ||
            (status == HSHM_E_BUSY && may_be_busy(race, true)))
            continue;
        assert_ok(status);
        check_name_is_kept(race, other);
        (void)sched_yield(); /* let the others try */
        check_name_is_kept(race, other);
        stage_use(NULL);
        assert_ok(hshm_backend_detach(NULL, 1));
        visits++;
        (void)sched_yield();
    }
    hshm_manager_destroy(other);
    return 0;
}

static int
replace_and_leave(void *arg)
{
    struct race *race = ((const struct part *)arg)->race;
    hshm_manager *other = NULL;
    stage_enter(race->stage);
    assert_ok(hshm_manager_create(&other));
    while (!atomic_load(&race->over)) {
        const hshm_status status = stage_create(race->stage, NULL, HSHM_REPLACE_DEAD);
        if (status == HSHM_E_BUSY || status == HSHM_E_EXISTS)
            continue;
        assert_ok(status);
        check_name_is_kept(race, other);
        assert_ok(hshm_backend_detach(NULL, 1));
        step_reach(&race->replaced);
        (void)sched_yield();
    }
    hshm_manager_destroy(other);
    return 0;
}

static int
remove_and_remove(void *arg)
{
    struct race *race = ((const struct part *)arg)->race;
    while (!atomic_load(&race->over)) {
        const hshm_status status = stage_remove(race->stage);
        if (status != HSHM_E_NOTFOUND && status != HSHM_E_BUSY) {
            assert_ok(status);
            step_reach(&race->removed);
        }
        (void)sched_yield();
    }
    return 0;
}

static void
nobody_takes_the_name_from_those_who_are_attached(void **state)
{
    struct race *race = race_begin(state, "crowd");
    enum { GUESTS = 3, REPLACERS = 3, REMOVERS = 1, ALL = GUESTS + REPLACERS + REMOVERS };
    pid_t pids[ALL];
    start_all(race, come_and_go, GUESTS, pids);
    start_all(race, replace_and_leave, REPLACERS, pids + GUESTS);
    start_all(race, remove_and_remove, REMOVERS, pids + GUESTS + REPLACERS);
    await_all(pids, GUESTS);
    const unsigned replaced = atomic_load(&race->replaced.count);
    const unsigned removed = atomic_load(&race->removed.count);
    step_wait(&race->replaced, replaced + race->rounds);
    step_wait(&race->removed, removed + race->rounds / 10);
    atomic_store(&race->over, true);
    await_all(pids + GUESTS, ALL - GUESTS);
    print_message("during %u visits replaced %u times, removed %u times\n", GUESTS * race->rounds, replaced, removed);
    if (stage_named(race->stage))
        assert_ok(stage_remove(race->stage));
    assert_all_gone(race->stage);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ALL(one_of_many_creators_gets_the_name),
        ON_DISK(one_of_many_creators_gets_the_name),
        IN_ALL(one_of_many_replacers_gets_the_name_of_the_dead),
        IN_ALL(one_of_many_replacers_gets_the_name_of_a_dead_heap),
        ON_DISK(one_of_many_replacers_gets_the_name_of_a_dead_heap),
        IN_BOTH(one_of_many_removers_removes),
        IN_BOTH(one_of_many_removers_removes_what_has_two_names),
        IN_ALL(nobody_takes_the_name_from_those_who_are_attached),
        ON_DISK(nobody_takes_the_name_from_those_who_are_attached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
