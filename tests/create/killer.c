/*
 * killer.c - see killer.h.
 */
#include "killer.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SYSCALL_STOP = SIGTRAP | 0x80, NOT_TRACEABLE = 77 };

/* The victim's side: one SIGSTOP before the act, and one behind it. */
static int
be_victim(void *arg)
{
    const struct victim *victim = arg;
    const pid_t self = getpid();
    if (victim->prepare != NULL)
        victim->prepare(victim->stage);
    stage_enter(victim->stage);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        return NOT_TRACEABLE;
    (void)kill(self, SIGSTOP);
    victim->act(victim->stage);
    (void)kill(self, SIGSTOP);
    return 0;
}

/* The signal by which the victim stopped.  Fails the test if it ended instead. */
static int
next_stop(pid_t pid)
{
    int status = 0;
    pid_t got;
    do {
        got = waitpid(pid, &status, __WALL);
    } while (got < 0 && errno == EINTR);
    assert_int_equal(got, pid);
    if (!WIFSTOPPED(status))
        fail_msg("the victim ended before it could be killed, with wait status 0x%x", (unsigned)status);
    return WSTOPSIG(status);
}

static bool
is_about_to_size_file(pid_t pid)
{
    struct __ptrace_syscall_info info;
    assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0);
    return info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_ftruncate;
}

bool
kill_at(const struct victim *victim, unsigned stop)
{
    struct victim copy = *victim;
    const pid_t pid = child_start(be_victim, &copy);
    assert_int_equal(next_stop(pid), SIGSTOP);
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD), 0);
    unsigned stops = 0;
    int signal_seen = SYSCALL_STOP;
    while (stops < stop && signal_seen == SYSCALL_STOP) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        signal_seen = next_stop(pid);
        stops++;
        if (victim->meanwhile != NULL && signal_seen == SYSCALL_STOP && is_about_to_size_file(pid))
            victim->meanwhile(victim->stage);
    }
    if (signal_seen != SYSCALL_STOP && signal_seen != SIGSTOP)
        fail_msg("the victim got signal %d by itself", signal_seen);
    stage_kill(pid);
    return signal_seen == SYSCALL_STOP;
}

static int
try_to_be_traced(void *arg)
{
    (void)arg;
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : NOT_TRACEABLE;
}

void
skip_unless_traceable(void)
{
    const int answer = child_run(try_to_be_traced, NULL);
    if (answer == NOT_TRACEABLE) {
        print_message("processes may not be traced here (ptrace)\n");
        skip();
    }
    assert_int_equal(answer, 0);
}
