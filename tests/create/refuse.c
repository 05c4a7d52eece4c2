/*
 * refuse.c - see refuse.h.
 */
#include "refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Filters look at 32 bits at once: where the lower half of an argument lies. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOWER_HALF(n) (offsetof(struct seccomp_data, args) + (n)*8)
#else
#define LOWER_HALF(n) (offsetof(struct seccomp_data, args) + (n)*8 + 4)
#endif

/* O_TMPFILE alone; the constant includes O_DIRECTORY. */
#define TMPFILE_BIT ((unsigned)(O_TMPFILE & ~O_DIRECTORY))

static bool
install(struct sock_filter *lines, unsigned short count)
{
    struct sock_fprog program = { .len = count, .filter = lines };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

bool
refuse_tmpfile(void)
{
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOWER_HALF(2)),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, TMPFILE_BIT, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(lines, sizeof lines / sizeof lines[0]);
}

bool
refuse_renameat2(void)
{
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(lines, sizeof lines / sizeof lines[0]);
}
