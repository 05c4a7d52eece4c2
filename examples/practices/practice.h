/*
 * practice.h - what the examples in C beside it share, and what has nothing to do with heaps: a sentence and an end when
 * something is not as it should be, a name of the program's own, another process, a clock.
 */
#ifndef PRACTICE_H
#define PRACTICE_H

#include <hshm/hshm.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { BACKEND_ID = 0, ATTACH_TIMEOUT_MS = 10000 };

/* The name of the program's heap: no other run has it, so two of them can be there at once. */
static char heap_name[64];

/* At any end of the program, in any of its processes: the one that created the heap removes its name, others only leave. */
static inline void
leave_heap(void)
{
    hshm_backend_destroy(NULL, BACKEND_ID);
}

/* These programs take a moment only: Ctrl-C may wait until all is tidied up. */
static inline void
begin(const char *name)
{
    snprintf(heap_name, sizeof heap_name, "hshm_%s.%d", name, (int)getpid());
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigprocmask(SIG_BLOCK, &held, NULL);
    atexit(leave_heap);
}

/*
 * How a program ends in which something is not as it should be.  exit() lets go of the heap, under the hands of threads that
 * still use it: a program with threads has a heap without a name (hshm_backend_options.nameless), of which the system leaves
 * nothing, and says so here.
 */
static bool has_threads;

static inline _Noreturn void
give_up(void)
{
    if (has_threads)
        _exit(EXIT_FAILURE);
    exit(EXIT_FAILURE);
}

/* Go on only if things are as promised. */
static inline void
expect(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
    give_up();
}

/* Go on only if a call of the library went well. */
static inline void
check(hshm_status status, const char *what)
{
    if (status == HSHM_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, hshm_last_error());
    give_up();
}

/* Run a function in a process of its own. */
static inline pid_t
start_process(void (*run)(void))
{
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        run();
        exit(EXIT_SUCCESS);
    }
    expect(pid > 0, "no process can be started");
    return pid;
}

/* Wait until it has ended.  It said itself what was wrong, if anything was. */
static inline void
await_process(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (status != 0)
        exit(EXIT_FAILURE);
}

/* Lazy memory, as the system is asked for it page by page: an example need not reserve what it does not touch. */
static inline hshm_backend_options
lazy(void)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    return options;
}

static inline void
sleep_ms(long ms)
{
    const struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&pause, NULL);
}

static inline double
seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
