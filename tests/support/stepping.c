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

/* The child's next stop; the signal that stopped it, or 0 when it has ended. */
static int
next_stop(pid_t pid)
{
    int status = 0;
    pid_t got;
    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    assert_int_equal(got, pid);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
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

bool
stepped_once(struct stepped *child)
{
    if (atomic_load(&child->marks->done) != 0)
        return false;
    one_instruction(child->pid);
    child->steps++;
    return true;
}

static void
forget(struct stepped *child)
{
    assert_int_equal(munmap(child->marks, sizeof *child->marks), 0);
    *child = (struct stepped){ .pid = -1 };
    end_turns();
}

void
stepped_kill(struct stepped *child)
{
    assert_int_equal(kill(child->pid, SIGKILL), 0);
    assert_int_equal(child_wait(child->pid), 128 + SIGKILL);
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
