/*
 * points.c - see points.h.
 */
#include "points.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Made by the linker. */
extern const struct failpoint *__start_hshm_failpoints[];
extern const struct failpoint *__stop_hshm_failpoints[];

size_t
point_count(void)
{
    const size_t count = (size_t)(__stop_hshm_failpoints - __start_hshm_failpoints);
    assert_true(count <= POINTS_MAX);
    return count;
}

const struct failpoint *
point_at(size_t i)
{
    return __start_hshm_failpoints[i];
}

static size_t
number_of(const struct failpoint *point)
{
    size_t i = 0;
    while (point_at(i) != point)
        i++;
    return i;
}

size_t
point_named(const char *name)
{
    for (size_t i = 0; i < point_count(); i++) {
        if (strcmp(point_at(i)->name, name) == 0)
            return i;
    }
    fail_msg("there is no failpoint %s", name);
    return 0;
}

static struct {
    struct point_plan plan;
    _Atomic bool on;
    _Atomic uint32_t left;
    const struct failpoint *_Atomic called;
    void (*fn)(void *arg);
    void *arg;
} watched;

void
points_begin(const struct point_plan *plan)
{
    if (watched.plan.tally != plan->tally)
        atomic_store(&watched.left, plan->nth);
    watched.plan = *plan;
    atomic_store(&watched.on, true);
}

void
points_end(void)
{
    atomic_store(&watched.on, false);
}

void
point_call(const char *name, void (*fn)(void *arg), void *arg)
{
    watched.fn = fn;
    watched.arg = arg;
    atomic_store(&watched.called, point_at(point_named(name)));
}

static void
count(const struct failpoint *point)
{
    const struct point_plan *plan = &watched.plan;
    atomic_fetch_add(&plan->tally->hits[number_of(point)], 1);
    if (point != plan->point || atomic_fetch_sub(&watched.left, 1) != 1)
        return;
    points_end();
    atomic_store(&plan->tally->who, getpid());
    step_reach(&plan->tally->reached);
    (void)raise(plan->signal); /* this thread's, so that it takes no step more */
}

void
failpoint_reached(const struct failpoint *point)
{
    const struct failpoint *called = point;
    if (atomic_compare_exchange_strong(&watched.called, &called, NULL))
        watched.fn(watched.arg);
    if (atomic_load(&watched.on))
        count(point);
}
