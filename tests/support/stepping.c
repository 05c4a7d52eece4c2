/*
 * stepping.c - see stepping.h.
 */
#include "stepping.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* Shared: the child sets them around the operation, the parent reads them between steps. */
struct stepped_marks {
    _Atomic int begun, done;
};

struct errand {
    struct stepped_marks *marks;
    void (*operation)(void *arg);
    void *arg;
};

enum { REFUSED = 77 };

/* Parent and children take turns: on one processor that costs a third less. */
static struct {
    cpu_set_t before;
    unsigned children;
} turns;

static void
take_turns(void)
{
    if (turns.children++ > 0)
        return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    assert_int_equal(sched_getaffinity(0, sizeof turns.before, &turns.before), 0);
    (void)sched_setaffinity(0, sizeof one, &one);
}

static void
end_turns(void)
{
    if (--turns.children == 0)
        (void)sched_setaffinity(0, sizeof turns.before, &turns.before);
}

static int
run_stepped(void *arg)
{
    const struct errand *errand = arg;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        return REFUSED;
    (void)raise(SIGSTOP);
    atomic_store(&errand->marks->begun, 1);
    errand->operation(errand->arg);
    atomic_store(&errand->marks->done, 1);
    return 0;
}

static int
next_status(pid_t pid)
{
    int status = 0;
    pid_t got;
    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    assert_int_equal(got, pid);
    return status;
}

/* The child's next stop; the signal that stopped it, or 0 when it has ended. */
static int
next_stop(pid_t pid)
{
    const int status = next_status(pid);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
}

/* Has its first thread come to its end, though the process may go on? */
static bool
is_end_of_thread(int status)
{
    return WIFSTOPPED(status) && status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8);
}

static void
one_instruction(pid_t pid)
{
    assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    const int signal = next_stop(pid);
    if (signal != SIGTRAP)
        fail_msg("a stepped child stopped by signal %d", signal);
}

static void
do_nothing(void *arg)
{
    (void)arg;
}

const char *
stepping_refused(void)
{
    struct stepped_marks marks = { 0, 0 };
    struct errand errand = { &marks, do_nothing, NULL };
    const pid_t pid = child_start(run_stepped, &errand);
    if (next_stop(pid) == 0)
        return "ptrace is refused here (a container without CAP_SYS_PTRACE, or seccomp)";
    const bool steps = ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0;
    if (steps)
        (void)next_stop(pid);
    (void)kill(pid, SIGKILL);
    (void)next_stop(pid);
    return steps ? NULL : "this machine cannot step through instructions";
}

struct stepped
stepped_start(void (*operation)(void *arg), void *arg)
{
    take_turns();
    struct stepped child = { .marks = shared_bytes(sizeof *child.marks) };
    struct errand errand = { child.marks, operation, arg };
    child.pid = child_start(run_stepped, &errand);
    assert_int_equal(next_stop(child.pid), SIGSTOP);
    while (atomic_load(&child.marks->begun) == 0)
        one_instruction(child.pid);
    return child;
}

static void
forget(struct stepped *child)
{
    assert_int_equal(munmap(child->marks, sizeof *child->marks), 0);
    *child = (struct stepped){ .pid = -1 };
    end_turns();
}

/* ---- a life of its own ---- */

static struct stepped_marks *own_marks;

static int
run_life(void *arg)
{
    const struct errand *errand = arg;
    own_marks = errand->marks;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        return REFUSED;
    (void)raise(SIGSTOP);
    errand->operation(errand->arg);
    return 0;
}

struct stepped
stepped_life(void (*life)(void *arg), void *arg)
{
    take_turns();
    struct stepped child = { .marks = shared_bytes(sizeof *child.marks) };
    struct errand errand = { child.marks, life, arg };
    child.pid = child_start(run_life, &errand);
    assert_int_equal(next_stop(child.pid), SIGSTOP);
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, child.pid, NULL, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL), 0);
    return child;
}

void
stepping_begin(void)
{
    atomic_store(&own_marks->done, 0);
    atomic_store(&own_marks->begun, 0);
    (void)raise(SIGSTOP);
    atomic_store(&own_marks->begun, 1);
}

void
stepping_end(void)
{
    atomic_store(&own_marks->done, 1);
}

bool
stepped_next(struct stepped *child)
{
    int status;
    do {
        assert_int_equal(ptrace(PTRACE_CONT, child->pid, NULL, NULL), 0);
        status = next_status(child->pid);
    } while (is_end_of_thread(status));
    if (!WIFSTOPPED(status)) {
        assert_int_equal(status, 0);
        forget(child);
        return false;
    }
    if (WSTOPSIG(status) != SIGSTOP)
        fail_msg("a stepped child stopped by signal %d", WSTOPSIG(status));
    while (atomic_load(&child->marks->begun) == 0)
        one_instruction(child->pid);
    return true;
}

/* ---- steps ---- */

bool
stepped_once(struct stepped *child)
{
    if (child->ended || atomic_load(&child->marks->done) != 0)
        return false;
    assert_int_equal(ptrace(PTRACE_SINGLESTEP, child->pid, NULL, NULL), 0);
    const int status = next_status(child->pid);
    child->ended = is_end_of_thread(status);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        fail_msg("a stepped child %s %d", WIFSTOPPED(status) ? "stopped by signal" : "ended, status",
                 WIFSTOPPED(status) ? WSTOPSIG(status) : status);
    child->steps++;
    return !child->ended;
}

void
stepped_kill(struct stepped *child)
{
    assert_int_equal(kill(child->pid, SIGKILL), 0);
    int status;
    while (status = next_status(child->pid), WIFSTOPPED(status)) /* at the end of its thread, if that was asked for */
        (void)ptrace(PTRACE_CONT, child->pid, NULL, NULL);
    assert_int_equal(status, SIGKILL);
    forget(child);
}

void
stepped_finish(struct stepped *child)
{
    assert_int_equal(ptrace(PTRACE_DETACH, child->pid, NULL, NULL), 0);
    assert_int_equal(child_wait(child->pid), 0);
    assert_int_equal(atomic_load(&child->marks->done), 1);
    forget(child);
}
