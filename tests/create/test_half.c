/*
 * test_half.c - whoever attaches while a region is being made finds nothing, then a region that is not ready, then a whole
 * one with a heap that works: tried after every single instruction of its maker.
 *
 * labels: no-asan no-tsan
 * Each instruction of a sanitizer's own code would be stepped through, too.
 */
#include "stage.h"
#include "stepping.h"

/* What an attacher may hear, in the order in which it may hear it. */
enum phase { NOTHING, NAMED, READY, PHASES };

static void
make(void *arg)
{
    const struct stage *stage = arg;
    assert_ok(stage_create(stage, NULL, HSHM_REPLACE_DEAD));
}

static void
make_elsewhere(void *arg)
{
    stage_enter(arg);
    make(arg);
}

/* While there is no name, most of the looks are for the name alone: that takes less time. */
static enum phase
look(const struct stage *stage, unsigned long step)
{
    if (step % 64 != 0 && !stage_named(stage))
        return NOTHING;
    const hshm_status status = stage_attach(stage, NULL);
    if (status == HSHM_E_NOTFOUND)
        return NOTHING;
    if (status == HSHM_E_NOTREADY)
        return NAMED;
    assert_ok(status);
    return READY;
}

/* What was found is as good as it will ever be. */
static struct uuid
try_out(void)
{
    const struct uuid uuid = stage_uuid(NULL);
    stage_use(NULL);
    assert_ok(hshm_backend_detach(NULL, 1));
    return uuid;
}

static void
skip_unless_steppable(void)
{
    const char *reason = stepping_refused();
    if (reason == NULL)
        return;
    print_message("%s\n", reason);
    skip();
}

/* `phase`: what stands there before, a leftover or nothing. */
static void
look_at_each_step(struct stage *stage, enum phase phase)
{
    unsigned found[PHASES] = { 0 };
    enum phase before = phase;
    struct uuid uuid = { { 0 } };
    struct stepped maker = stepped_start(stage->lacks == LACKS_NOTHING ? make : make_elsewhere, stage);
    do {
        const enum phase now = look(stage, maker.steps);
        /* A leftover goes before a region comes. */
        assert_true(now >= before || (before == NAMED && now == NOTHING && found[NOTHING] == 0));
        if (now == READY)
            uuid = try_out();
        found[now]++;
        before = now;
    } while (stepped_once(&maker));
    assert_ok(stage_attach(stage, NULL));
    assert_true(same_uuid(try_out(), uuid));
    print_message("%lu instructions: nothing under the name after %u, a region without a heap after %u, with a heap "
                  "after %u\n",
                  maker.steps, found[NOTHING], found[NAMED], found[READY]);
    for (unsigned i = 0; i < PHASES; i++)
        assert_true(found[i] > 0);
    stepped_kill(&maker);
    assert_ok(stage_remove(stage));
    assert_all_gone(stage);
}

static void
nobody_sees_half_a_region(void **state)
{
    skip_unless_steppable();
    look_at_each_step(stage_begin(state, "half"), NOTHING);
}

static void
nor_when_it_takes_the_place_of_a_leftover(void **state)
{
    skip_unless_steppable();
    struct stage *stage = stage_begin(state, "place");
    stage_leftover(stage, false);
    look_at_each_step(stage, NAMED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(nobody_sees_half_a_region),
        { "nobody_sees_half_a_region (shm, renamed)", nobody_sees_half_a_region, NULL, NULL, &setting_shm_renamed },
        { "nobody_sees_half_a_region (file, linked)", nobody_sees_half_a_region, NULL, NULL, &setting_file_linked },
        IN_BOTH(nor_when_it_takes_the_place_of_a_leftover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
