/*
 * test_thousand.c - a thousand processes in one region: each has a slot, one more has none, and those of the dead go to
 * whoever comes next.
 *
 * labels: serial no-asan no-tsan
 * A thousand forks of a sanitized process take too much memory, and a minute.
 */
#include <signal.h>

#include "scene.h"

enum {
    SLOTS = 1000,
    GUESTS = SLOTS - 1, /* the test itself is the owner */
    LATE = 50,
    REGION = 262144
};

/* Where those wait who come when the first have died. */
struct thousand {
    struct step late_go;
    struct step late_ready;
    struct step last_ready;
};

static struct thousand *thousand;

static int
guest(struct scene *scene)
{
    step_wait(&scene->go, 1);
    (void)scene_attach(scene, NULL);
    step_reach(&scene->ready);
    scene_stay();
}

/* Too many at first, welcome later. */
static int
late_guest(struct scene *scene)
{
    step_wait(&thousand->late_go, 1);
    assert_status(hshm_backend_attach(NULL, scene->kind, scene->url, NULL, NULL), HSHM_E_LIMIT);
    assert_sentence("all its 1000 slots are taken by live processes");
    step_reach(&thousand->late_ready);
    step_wait(&thousand->late_go, 2);
    (void)scene_attach(scene, NULL);
    step_reach(&thousand->last_ready);
    scene_stay();
}

static void
own_region(struct scene *scene)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.slots = SLOTS;
    assert_ok(hshm_backend_create(NULL, 1, scene->kind, REGION, scene->url, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
}

static void
kill_all(const pid_t *pids, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(kill(pids[i], SIGKILL), 0);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(child_wait(pids[i]), 128 + SIGKILL);
}

/* From all parts of the table, and none twice: LATE of them, moved to the end of the list. */
static void
choose_victims(pid_t *pids)
{
    uint64_t state = test_seed();
    for (unsigned i = 0; i < LATE; i++) {
        const unsigned left = GUESTS - i;
        const unsigned at = (unsigned)(next_random(&state) % left);
        const pid_t pid = pids[at];
        pids[at] = pids[left - 1];
        pids[left - 1] = pid;
    }
}

static void
a_thousand_processes_have_a_slot_each(void **state)
{
    static pid_t guests[GUESTS];
    static pid_t late[LATE];
    struct scene *scene = scene_begin(state, "thousand");
    thousand = shared_bytes(sizeof *thousand);
    /* All are started first: a child of an owner would be a member by birth. */
    for (unsigned i = 0; i < GUESTS; i++)
        guests[i] = scene_start(guest, scene);
    for (unsigned i = 0; i < LATE; i++)
        late[i] = scene_start(late_guest, scene);
    own_region(scene);
    step_reach(&scene->go);
    step_wait(&scene->ready, GUESTS);
    assert_int_equal(scene_info(NULL).slots, SLOTS);
    assert_int_equal(scene_info(NULL).processes, SLOTS);

    step_reach(&thousand->late_go);
    step_wait(&thousand->late_ready, LATE);
    assert_int_equal(scene_info(NULL).processes, SLOTS);

    choose_victims(guests);
    kill_all(guests + GUESTS - LATE, LATE);
    assert_int_equal(scene_info(NULL).processes, SLOTS - LATE);
    step_reach(&thousand->late_go);
    step_wait(&thousand->last_ready, LATE);
    assert_int_equal(scene_info(NULL).processes, SLOTS);

    kill_all(guests, GUESTS - LATE);
    assert_int_equal(scene_info(NULL).processes, 1 + LATE);
    assert_ok(hshm_backend_detach(NULL, 1));
    kill_all(late, LATE - 1);
    assert_lives(scene);
    kill_all(late + LATE - 1, 1);
    assert_leftover(scene);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_KINDS(a_thousand_processes_have_a_slot_each),
    };
    return cmocka_run_group_tests(tests, scene_setup, NULL);
}
