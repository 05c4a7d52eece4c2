/*
 * trace.c - see trace.h.
 */
#include "trace.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* How the kernel marks stops at system calls, if asked to. */
enum { AT_SYSTEM_CALL = SIGTRAP | 0x80 };

void
trace_here(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0)
        _exit(1);
}

static int
wait_for_stop(pid_t pid)
{
    int status = 0;
    pid_t got;
    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    assert_int_equal(got, pid);
    return status;
}

pid_t
trace_start(int (*fn)(struct scene *scene), struct scene *scene)
{
    const pid_t pid = scene_start(fn, scene);
    const int status = wait_for_stop(pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(WSTOPSIG(status), SIGSTOP);
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
    return pid;
}

bool
trace_step(pid_t pid)
{
    unsigned long signal = 0;
    for (;;) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, signal), 0);
        const int status = wait_for_stop(pid);
        if (!WIFSTOPPED(status)) {
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), 0);
            return false;
        }
        if (WSTOPSIG(status) == AT_SYSTEM_CALL)
            return true;
        signal = (unsigned long)WSTOPSIG(status);
    }
}
