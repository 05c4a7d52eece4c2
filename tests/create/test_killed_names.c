/*
 * test_killed_names.c - whatever a killed creator left under a name, the next one who wants the name gets it: by
 * removing, by replacing at once, or, where no name was made, by creating.  A creator that loses the race for a name, and a
 * host that destroys what its guests live in, may be killed anywhere without harm to the living.
 *
 * test_killed.c kills the others; here the kills are counted by what they left, so that each way has been gone.
 *
 * labels: no-asan no-tsan
 * A sanitizer's runtime makes system calls of its own in the victim, and its forked victims are slow to start.
 */
#include "killer.h"

/* What stands under the name after a kill. */
enum phase { NOTHING, NAMED, READY, PHASES };

/* What is done about it. */
enum cure { REMOVE, REPLACE, CREATE, CURES };

/* How often each was found, so that no test passes without having seen what it is about. */
struct tally {
    unsigned points;
    unsigned phases[PHASES];
    unsigned unseen;        /* an unseen file was left                */
    unsigned unseen_beside; /* ... beside the name that it got        */
};

/* ---- acts of the victim ---- */

static void
create_all(struct stage *stage)
{
    assert_ok(stage_create(stage, NULL, HSHM_REPLACE_NEVER));
}

static void
replace_all(struct stage *stage)
{
    assert_ok(stage_create(stage, NULL, HSHM_REPLACE_DEAD));
}

static void
create_too_late(struct stage *stage)
{
    assert_status(stage_create(stage, NULL, HSHM_REPLACE_NEVER), HSHM_E_EXISTS);
}

static void
replace_too_late(struct stage *stage)
{
    assert_status(stage_create(stage, NULL, HSHM_REPLACE_DEAD), HSHM_E_BUSY);
}

static void
destroy(struct stage *stage)
{
    (void)stage;
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- what is found, and what is done about it ---- */

static enum phase
find_phase(const struct stage *stage)
{
    const bool named = stage_named(stage);
    const hshm_status status = stage_attach(stage, NULL);
    switch (status) {
    case HSHM_OK:
        assert_true(named);
        stage_use(NULL);
        assert_ok(hshm_backend_detach(NULL, 1));
        return READY;
    case HSHM_E_NOTREADY:
        assert_true(named);
        assert_sentence("dead");
        return NAMED;
    default:
        assert_status(status, HSHM_E_NOTFOUND);
        assert_false(named);
        return NOTHING;
    }
}

/* Who waits is told that it was in vain. */
static void
check_waiting(const struct stage *stage, enum phase phase)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.timeout_ms = 1;
    if (phase == READY)
        return;
    assert_status(hshm_backend_attach(NULL, stage->kind, stage->url, &options, NULL), HSHM_E_TIMEOUT);
    if (phase == NAMED)
        assert_sentence("dead");
}

/* A life from create to destroy; nothing is left after it. */
static void
check_life(const struct stage *stage, hshm_replace replace)
{
    assert_ok(stage_create(stage, NULL, replace));
    stage_use(NULL);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_all_gone(stage);
}

/* On the same file system as the victim, whose unseen files only those look for who make some themselves. */
static int
live_there(void *arg)
{
    const struct stage *stage = arg;
    stage_enter(stage);
    check_life(stage, HSHM_REPLACE_NEVER);
    return 0;
}

static void
check_removed(const struct stage *stage)
{
    const bool named = stage_named(stage);
    assert_status(stage_remove(stage), named ? HSHM_OK : HSHM_E_NOTFOUND);
    assert_all_gone(stage);
}

static void
apply_cure(struct stage *stage, enum cure cure)
{
    switch (cure) {
    case REMOVE:
        check_waiting(stage, find_phase(stage));
        check_removed(stage);
        check_life(stage, HSHM_REPLACE_NEVER);
        break;
    case REPLACE:
        check_life(stage, HSHM_REPLACE_DEAD);
        break;
    default:
        if (stage_named(stage)) {
            assert_status(stage_create(stage, NULL, HSHM_REPLACE_NEVER), HSHM_E_EXISTS);
            check_removed(stage);
        }
        assert_int_equal(child_run(live_there, stage), 0);
        assert_all_gone(stage);
        break;
    }
}

/* ---- killed creators ---- */

static void
count_finding(struct tally *tally, const struct stage *stage, enum cure cure)
{
    const unsigned unseen = stage_unseen(stage);
    assert_true(unseen <= 1);
    tally->unseen += unseen;
    tally->unseen_beside += unseen == 1 && stage_named(stage);
    /* The replacer has to do with what is there, untouched even by an attacher. */
    if (cure != REPLACE)
        tally->phases[find_phase(stage)]++;
}

static bool
kill_and_cure(const struct victim *victim, unsigned stop, enum cure cure, bool leftover, struct tally *tally)
{
    if (leftover)
        stage_leftover(victim->stage, true);
    const bool within = kill_at(victim, stop);
    count_finding(tally, victim->stage, cure);
    apply_cure(victim->stage, cure);
    return within;
}

/*
 * Kill at every stop, with `leftover` under the name before.  Once for each cure in shared memory, by turns where little
 * differs from that.
 */
static struct tally
kill_everywhere(const struct victim *victim, bool leftover)
{
    const struct stage *stage = victim->stage;
    const bool each_cure = stage->kind == HSHM_BACKEND_POSIX_SHM_MMAP &&
                           (stage->lacks == LACKS_NOREPLACE || (stage->lacks == LACKS_NOTHING && !leftover));
    struct tally tally = { 0 };
    bool within = true;
    for (unsigned stop = 1; within; stop++) {
        within = false;
        for (unsigned cure = 0; cure < CURES; cure++) {
            if (each_cure || stop % CURES == cure)
                within |= kill_and_cure(victim, stop, (enum cure)cure, leftover, &tally);
        }
        tally.points += within;
    }
    print_message("killed at %u points: nothing under the name %u times, a region without a heap %u, with a heap %u; "
                  "an unseen file left %u\n",
                  tally.points, tally.phases[NOTHING], tally.phases[NAMED], tally.phases[READY], tally.unseen);
    return tally;
}

/* The kills fell on all that can happen on this file system, and on nothing that cannot. */
static void
check_tally(const struct stage *stage, struct tally tally)
{
    for (enum phase phase = 0; phase < PHASES; phase++)
        assert_true(tally.phases[phase] > 0);
    assert_int_equal(tally.unseen > 0, stage->lacks != LACKS_NOTHING);
    assert_int_equal(tally.unseen_beside > 0, stage->lacks == LACKS_NOREPLACE);
}

static void
what_a_killed_creator_leaves_can_be_removed_and_replaced(void **state)
{
    skip_unless_traceable();
    struct stage *stage = stage_begin(state, "creator");
    const struct victim victim = { stage, NULL, create_all, NULL };
    check_tally(stage, kill_everywhere(&victim, false));
}

static void
so_can_what_is_reserved_page_by_page(void **state)
{
    skip_unless_traceable();
    struct stage *stage = stage_begin(state, "lazy");
    stage->commit = HSHM_COMMIT_LAZY;
    const struct victim victim = { stage, NULL, create_all, NULL };
    check_tally(stage, kill_everywhere(&victim, false));
}

static void
so_can_what_a_killed_replacer_leaves(void **state)
{
    skip_unless_traceable();
    struct stage *stage = stage_begin(state, "replacer");
    const struct victim victim = { stage, NULL, replace_all, NULL };
    check_tally(stage, kill_everywhere(&victim, true));
}

/* ---- makers at work ---- */

/* As removers, replacers and other makers do. */
static void
sweep(struct stage *stage)
{
    const unsigned unseen = stage_unseen(stage);
    assert_int_equal(unseen, stage->lacks != LACKS_NOTHING);
    assert_status(stage_remove(stage), HSHM_E_NOTFOUND);
    assert_status(stage_create(stage, NULL, HSHM_REPLACE_DEAD), HSHM_OK);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_int_equal(stage_unseen(stage), unseen);
}

static void
nobody_takes_the_file_of_a_maker_at_work(void **state)
{
    skip_unless_traceable();
    struct stage *stage = stage_begin(state, "maker");
    const struct victim victim = { stage, NULL, create_all, sweep };
    assert_false(kill_at(&victim, UINT_MAX));
    assert_int_equal(find_phase(stage), READY);
    check_removed(stage);
}

/* ---- the victim looks, finds no name, and loses the race for it ---- */

static pid_t rival;

static void
let_rival_win(struct stage *stage)
{
    rival = stage_owner(stage);
}

/* Somebody lives there: newcomers find room, and nobody takes the name. */
static void
check_lives(const struct stage *stage)
{
    const ino_t inode = stage_inode(stage);
    assert_int_not_equal(inode, 0);
    assert_ok(stage_attach(stage, NULL));
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &info));
    assert_int_equal(info.processes, 2);
    stage_use(NULL);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_status(stage_remove(stage), HSHM_E_BUSY);
    assert_status(stage_create_region(stage, NULL, HSHM_REPLACE_DEAD), HSHM_E_BUSY);
    assert_int_equal(stage_inode(stage), inode);
}

/* The loser is dead, the rival lives in what it made. */
static void
check_rival(const struct stage *stage)
{
    assert_status(stage_remove(stage), HSHM_E_BUSY);
    assert_int_equal(stage_unseen(stage), 0);
    check_lives(stage);
    stage_kill(rival);
    check_removed(stage);
}

static void
kill_the_loser(void **state, const char *what, void (*act)(struct stage *))
{
    skip_unless_traceable();
    struct stage *stage = stage_begin(state, what);
    const struct victim victim = { stage, NULL, act, let_rival_win };
    unsigned unseen = 0;
    unsigned lost = 0;
    bool within = true;
    for (unsigned stop = 1; within; stop++) {
        rival = 0;
        within = kill_at(&victim, stop);
        unseen += stage_unseen(stage);
        if (rival != 0)
            check_rival(stage);
        else
            check_removed(stage);
        lost += rival != 0;
    }
    print_message("killed at %u points while it lost; an unseen file left %u times\n", lost, unseen);
    assert_true(lost > 10);
    assert_int_equal(unseen > 0, stage->lacks != LACKS_NOTHING);
}

static void
a_creator_that_loses_may_be_killed_anywhere(void **state)
{
    kill_the_loser(state, "loser", create_too_late);
}

static void
a_replacer_that_loses_may_be_killed_anywhere(void **state)
{
    kill_the_loser(state, "late", replace_too_late);
}

/* ---- the victim destroys what a guest lives in ---- */

static void
create_and_await_guest(struct stage *stage)
{
    create_all(stage);
    step_reach(&stage->ready);
    step_wait(&stage->guests, 1);
}

static int
be_guest_of_victim(void *arg)
{
    struct stage *stage = arg;
    step_wait(&stage->ready, 1);
    assert_ok(stage_attach(stage, NULL));
    stage_stay(&stage->guests);
}

/* With its name the guest's region is nobody else's; without, others may make a new one of that name. */
static void
check_guest(const struct stage *stage, pid_t guest)
{
    if (stage_named(stage))
        check_lives(stage);
    else
        check_life(stage, HSHM_REPLACE_NEVER);
    stage_kill(guest);
    check_removed(stage);
}

static void
a_host_killed_anywhere_while_it_destroys_leaves_its_guests_alone(void **state)
{
    skip_unless_traceable();
    struct stage *stage = stage_begin(state, "host");
    const struct victim victim = { stage, create_and_await_guest, destroy, NULL };
    unsigned points = 0;
    unsigned named = 0;
    for (bool within = true; within; points += within) {
        atomic_store(&stage->ready.count, 0);
        atomic_store(&stage->guests.count, 0);
        const pid_t guest = child_start(be_guest_of_victim, stage);
        within = kill_at(&victim, points + 1);
        named += stage_named(stage);
        check_guest(stage, guest);
    }
    print_message("killed at %u points; the name was there %u times\n", points, named);
    assert_true(named > 0);
    assert_true(named < points);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ALL(what_a_killed_creator_leaves_can_be_removed_and_replaced),
        ON_DISK(what_a_killed_creator_leaves_can_be_removed_and_replaced),
        IN_BOTH(so_can_what_is_reserved_page_by_page),
        IN_ALL(so_can_what_a_killed_replacer_leaves),
        IN_ALL(nobody_takes_the_file_of_a_maker_at_work),
        IN_ALL(a_creator_that_loses_may_be_killed_anywhere),
        IN_ALL(a_replacer_that_loses_may_be_killed_anywhere),
        IN_BOTH(a_host_killed_anywhere_while_it_destroys_leaves_its_guests_alone),
        ON_DISK(a_host_killed_anywhere_while_it_destroys_leaves_its_guests_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
