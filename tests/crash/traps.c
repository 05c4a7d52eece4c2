/*
 * traps.c - see traps.h.
 */
#include "traps.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { HANDLERS_STACK = 64 << 10 };
#define TRAP_FLAG 0x100u

void
trap_line_open(struct trap_line *line)
{
    int up[2];
    int down[2];
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    assert_int_equal(pipe2(down, O_CLOEXEC), 0);
    *line = (struct trap_line){ .told = up[0], .tell = up[1], .answered = down[0], .answer = down[1] };
}

void
trap_line_use(struct trap_line *line)
{
    assert_int_equal(close(line->tell), 0);
    assert_int_equal(close(line->answered), 0);
}

void
trap_line_close(struct trap_line *line)
{
    assert_int_equal(close(line->told), 0);
    assert_int_equal(close(line->answer), 0);
}

void
trap_line_serve(const struct trap_line *line)
{
    assert_int_equal(close(line->told), 0);
    assert_int_equal(close(line->answer), 0);
}

static struct {
    struct watch *watch;
    struct trap_line *line;
} stepped;

static void
tell(char what)
{
    const int error = errno;
    if (write(stepped.line->tell, &what, 1) != 1 || read(stepped.line->answered, &what, 1) != 1)
        _exit(1); /* nobody watches any more */
    errno = error;
}

/* The flag is clear in here, and as it was when it returns. */
static void
after_an_instruction(int signal)
{
    (void)signal;
    stepped.line->steps++;
    if (watch_changed(stepped.watch))
        tell(TRAP_CHANGED);
}

void
traps_begin(struct watch *watch, struct trap_line *line)
{
    static unsigned char stack[HANDLERS_STACK];
    const stack_t there = { .ss_sp = stack, .ss_size = sizeof stack };
    const struct sigaction action = { .sa_handler = after_an_instruction, .sa_flags = SA_ONSTACK };
    stepped.watch = watch;
    stepped.line = line;
    assert_int_equal(sigaltstack(&there, NULL), 0);
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
    (void)watch_changed(watch);
    tell(TRAP_BEGINS);
#if CAN_TRAP
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | TRAP_FLAG);
#endif
}

void
traps_end(void)
{
#if CAN_TRAP
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~(unsigned long long)TRAP_FLAG);
#endif
}
