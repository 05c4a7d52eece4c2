/*
 * clock.c - how long a call took, less the time that its thread was ready and had no processor.
 *
 * The kernel counts for each thread the ns that it waited in a run queue (/proc/thread-self/schedstat, second figure).  To read
 * it costs more than most calls, so it is read at times in between, when the last reading is older than BASELINE_NS, and after
 * calls that took longer than LONG_NS.  Of the wait since the last reading, only what cannot have been before the call is taken
 * off: so a pause is never given as shorter than it was, and at most as BASELINE_NS longer.
 *
 * What stays in: time that another user of the host took from this whole machine, waits for locks in the kernel, page faults.
 * Major ones (pages that were swapped out) are counted apart.
 */
#include "storm.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BASELINE_NS UINT64_C(500000)
#define LONG_NS UINT64_C(1000000)

const char *const call_names[CALLS] = { "malloc",      "free",      "realloc", "calloc", "aligned_alloc",
                                        "allocate_to", "free_from", "move",    "trim",   "recover",
                                        "attach",      "detach",    "check" };

uint64_t
now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t
waited_ns(const struct caller *c)
{
    char text[64] = "";
    char *end;
    if (pread(c->schedstat, text, sizeof text - 1, 0) <= 0)
        return 0;
    (void)strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

static uint64_t
major_faults(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_majflt : 0;
}

static void
read_baseline(struct caller *c, uint64_t now)
{
    c->waited_at = now;
    c->waited = waited_ns(c);
    c->major_faults = major_faults();
}

struct caller
caller_make(struct storm *storm, struct holder *holder)
{
    atomic_store(&holder->tid, (int32_t)gettid());
    return (struct caller){ .storm = storm,
                            .holder = holder,
                            .schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC) };
}

void
call_begin(struct caller *c, enum call call)
{
    uint64_t now = now_ns();
    if (now - c->waited_at > BASELINE_NS) {
        read_baseline(c, now);
        now = now_ns();
    }
    c->began = now;
    atomic_store_explicit(&c->holder->call, (uint32_t)call, memory_order_relaxed);
    atomic_store_explicit(&c->holder->began, now, memory_order_release);
}

static void
raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t now = atomic_load(most);
    while (now < value && !atomic_compare_exchange_weak(most, &now, value))
        ;
}

static void
note_long(struct caller *c, uint64_t now)
{
    struct pause *pause = &c->storm->pauses[atomic_load(&c->holder->call)];
    const uint64_t wall = now - c->began;
    const uint64_t before = c->began - c->waited_at;
    const uint64_t waited = waited_ns(c) - c->waited;
    const uint64_t in_call = waited > before ? waited - before : 0;
    raise_to(&pause->ns, wall - (in_call < wall ? in_call : wall));
    raise_to(&pause->wall_ns, wall);
    (void)atomic_fetch_add(&pause->calls, 1);
    if (major_faults() != c->major_faults)
        (void)atomic_fetch_add(&pause->majors, 1);
}

void
call_end(struct caller *c)
{
    const uint64_t now = now_ns();
    if (now - c->began > LONG_NS)
        note_long(c, now);
    atomic_store_explicit(&c->holder->began, 0, memory_order_release);
    atomic_store_explicit(&c->holder->calls, atomic_load_explicit(&c->holder->calls, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}
