/*
 * liveness.c - OFD locks, and mappings that hold them.
 */
#include "sync/liveness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct flock
lock_request(short type, uint64_t off, uint64_t size)
{
    return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)off, .l_len = (off_t)size };
}

int
life_lock(int fd, enum lock_kind kind, uint64_t off, uint64_t size)
{
    struct flock lock = lock_request(kind == LOCK_SHARED ? F_RDLCK : F_WRLCK, off, size);
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EACCES ? EAGAIN : errno;
}

void
life_unlock(int fd, uint64_t off, uint64_t size)
{
    struct flock lock = lock_request(F_UNLCK, off, size);
    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

int
life_is_held(int fd, uint64_t off, uint64_t size)
{
    struct flock lock = lock_request(F_WRLCK, off, size);
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0)
        return -errno;
    return lock.l_type != F_UNLCK;
}

int
life_hold(int fd, struct life *ret_life)
{
    const size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return errno;
    if (madvise(page, page_size, MADV_DONTFORK) != 0) {
        const int error = errno;
        (void)munmap(page, page_size);
        return error;
    }
    *ret_life = (struct life){ page, page_size };
    return 0;
}

void
life_drop(struct life *life)
{
    if (life->page != NULL)
        (void)munmap(life->page, life->page_size);
    *life = (struct life){ 0 };
}

pid_t
life_pid(void)
{
    return getpid();
}

/* Read a small file of /proc as a string.  False when there is none. */
static bool
read_proc(const char *path, char *text, size_t capacity)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const ssize_t got = read(fd, text, capacity - 1);
    (void)close(fd);
    if (got <= 0)
        return false;
    text[got] = '\0';
    return true;
}

uint64_t
life_start_time(void)
{
    char text[1024];
    if (!read_proc("/proc/self/stat", text, sizeof text))
        return 0;
    /* The command's name, in parentheses, may hold anything; field 22 is counted from behind it, where 3 begins. */
    const char *field = strrchr(text, ')');
    for (int at = 2; field != NULL && at < 22; at++)
        field = strchr(field + 1, ' ');
    return field == NULL ? 0 : strtoull(field + 1, NULL, 10);
}

uint64_t
life_pid_namespace(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

void
life_boot_id(uint64_t ret_id[2])
{
    ret_id[0] = ret_id[1] = 0;
    char text[64];
    if (!read_proc("/proc/sys/kernel/random/boot_id", text, sizeof text))
        return;
    unsigned digits = 0;
    for (const char *c = text; *c != '\0' && digits < 32; c++) {
        const char digit[2] = { *c, '\0' };
        char *end = NULL;
        const uint64_t value = strtoull(digit, &end, 16);
        if (end == digit)
            continue;
        ret_id[digits / 16] = ret_id[digits / 16] << 4 | value;
        digits++;
    }
}
