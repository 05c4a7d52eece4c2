/*
 * settings.c - reads the environment, and speaks to people.
 *
 * Runs inside a program's first malloc, so nothing here may need memory: no stdio streams, no strings but on the stack.
 */
#include "settings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* Less than this holds no program, more than that no address space. */
#define SIZE_LEAST (16 * MIB)
#define SIZE_MOST (UINT64_C(64) * 1024 * GIB)
#define SIZE_DEFAULT (64 * GIB)

void
say_to(int fd, const char *format, ...)
{
    char line[1024] = "hshm-preload: ";
    const size_t begin = strlen(line);
    const size_t room = sizeof line - begin - 1;
    const int error = errno;
    va_list args;
    va_start(args, format);
    const int written = vsnprintf(line + begin, room, format, args);
    va_end(args);
    size_t length = begin + (written < 0 ? 0 : (size_t)written < room ? (size_t)written : room - 1);
    line[length++] = '\n';
    /* One call, so that lines of several processes do not mix.  Nobody can be told that nobody can be told. */
    const ssize_t told = write(fd, line, length);
    (void)told;
    errno = error;
}

/* ---- one value each ---- */

/* "64G", "512MiB", "1048576": digits, then perhaps K, M, G or T, then perhaps B or iB.  0 for anything else. */
static uint64_t
size_from(const char *text)
{
    static const char units[] = "KMGTkmgt";
    if (*text < '0' || *text > '9')
        return 0;
    char *end = NULL;
    errno = 0;
    uint64_t size = strtoull(text, &end, 10);
    if (errno != 0)
        return 0;
    const char *unit = *end == '\0' ? NULL : strchr(units, *end);
    if (unit != NULL) {
        if (__builtin_mul_overflow(size, UINT64_C(1) << 10 * ((unit - units) % 4 + 1), &size))
            return 0;
        end += end[1] == 'i' && end[2] == 'B' ? 3 : end[1] == 'B' ? 2 : 1;
    }
    return *end == '\0' ? size : 0;
}

/*
 * What the address space allows: a process under `ulimit -v` needs the other half for itself.  And what can be touched
 * without a signal: shared memory lies in a file system that may be small.
 */
static uint64_t
default_size(bool shared)
{
    uint64_t size = SIZE_DEFAULT;
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur / 2 < size)
        size = limit.rlim_cur / 2;
    struct statvfs fs;
    if (shared && statvfs("/dev/shm", &fs) == 0 && fs.f_bavail * fs.f_frsize < size)
        size = fs.f_bavail * fs.f_frsize;
    return size > SIZE_LEAST ? size : SIZE_LEAST;
}

static void
read_size(const char *text, struct settings *settings)
{
    settings->size = default_size(false);
    settings->shared_size = default_size(true);
    if (text == NULL)
        return;
    const uint64_t size = size_from(text);
    settings->size_is_asked = size >= SIZE_LEAST && size <= SIZE_MOST;
    if (settings->size_is_asked)
        settings->size = settings->shared_size = size;
    else
        say("HSHM_PRELOAD_SIZE is '%.64s', not a size from 16M to 64T such as 64G or 512M; going on with %lluM", text,
            (unsigned long long)(settings->size / MIB));
}

static void
read_allocator(const char *text, struct settings *settings)
{
    static const struct {
        const char *name;
        hshm_allocator_kind kind;
    } kinds[] = {
        { "thread_local", HSHM_ALLOCATOR_THREAD_LOCAL },
        { "scalable_page", HSHM_ALLOCATOR_SCALABLE_PAGE },
        { "stack", HSHM_ALLOCATOR_STACK },
    };
    settings->allocator = kinds[0].kind;
    if (text == NULL)
        return;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(text, kinds[i].name) == 0) {
            settings->allocator = kinds[i].kind;
            return;
        }
    }
    say("HSHM_PRELOAD_ALLOCATOR is '%.64s', not thread_local, scalable_page or stack; going on with thread_local",
        text);
}

/* Whether the name is a good one, the library finds out itself. */
static void
read_shared(const char *text, struct settings *settings)
{
    settings->shared[0] = '\0';
    if (text == NULL)
        return;
    if (strlen(text) < sizeof settings->shared)
        memcpy(settings->shared, text, strlen(text) + 1);
    else
        say("HSHM_PRELOAD_SHARED is longer than %d bytes; going on with private memory", HSHM_NAME_MAX);
}

static void
read_stats(const char *text, struct settings *settings)
{
    settings->stats[0] = '\0';
    if (text == NULL || strcmp(text, "0") == 0)
        return;
    if ((strcmp(text, "1") == 0 || *text == '/') && strlen(text) < sizeof settings->stats)
        memcpy(settings->stats, text, strlen(text) + 1);
    else
        say("HSHM_PRELOAD_STATS is '%.64s', neither 0, nor 1, nor a file's path from /; going on without", text);
}

static void
read_debug(const char *text, struct settings *settings)
{
    settings->debug = text != NULL && strcmp(text, "0") != 0;
    if (settings->debug && strcmp(text, "1") != 0)
        say("HSHM_PRELOAD_DEBUG is '%.64s', neither 0 nor 1; taken for 1", text);
}

/* An empty variable is one that is not set. */
static const char *
value_of(const char *name)
{
    const char *text = secure_getenv(name);
    return text != NULL && *text != '\0' ? text : NULL;
}

void
settings_read(struct settings *ret_settings)
{
    read_allocator(value_of("HSHM_PRELOAD_ALLOCATOR"), ret_settings);
    read_shared(value_of("HSHM_PRELOAD_SHARED"), ret_settings);
    read_size(value_of("HSHM_PRELOAD_SIZE"), ret_settings);
    read_stats(value_of("HSHM_PRELOAD_STATS"), ret_settings);
    read_debug(value_of("HSHM_PRELOAD_DEBUG"), ret_settings);
}
