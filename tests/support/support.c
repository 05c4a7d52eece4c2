/*
 * support.c - see support.h.
 */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NAMES_KEPT = 16, HELPER_ARGUMENTS = 16, STEP_PATIENCE_S = 30 };

/* ---- statuses ---- */

void
support_assert_status(hshm_status got, hshm_status wanted, const char *call, const char *file, int line)
{
    if (got == wanted)
        return;
    print_error("%s is %s, not %s; last sentence: %s\n", call, hshm_status_name(got), hshm_status_name(wanted),
                hshm_last_error());
    _fail(file, line);
}

void
support_assert_sentence(const char *part, const char *file, int line)
{
    if (strstr(hshm_last_error(), part) != NULL)
        return;
    print_error("the sentence says nothing of '%s': %s\n", part, hshm_last_error());
    _fail(file, line);
}

/* ---- names ---- */

static struct {
    pid_t owner; /* 0 = nobody asked for a name yet */
    unsigned count;
    char prefix[64];
    char folder[PATH_MAX];
} names;

static void
remove_matching(const char *folder, const char *prefix)
{
    DIR *entries = opendir(folder);
    if (entries == NULL)
        return;
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        /* Unseen files carry the name behind a prefix of their own. */
        if (strstr(entry->d_name, prefix) != NULL)
            (void)unlinkat(dirfd(entries), entry->d_name, 0);
    }
    (void)closedir(entries);
}

void
support_clean(void)
{
    if (names.owner != getpid())
        return;
    remove_matching("/dev/shm", names.prefix);
    remove_matching(names.folder, names.prefix);
    (void)rmdir(names.folder);
}

static void
own_names(void)
{
    if (names.owner != 0)
        return;
    names.owner = getpid();
    (void)snprintf(names.prefix, sizeof names.prefix, "hshm-test-%d-", (int)getpid());
    remove_matching("/dev/shm", names.prefix); /* of an earlier process of this number that was killed */
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(names.folder, sizeof names.folder, "%s/hshm-test-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    assert_non_null(mkdtemp(names.folder));
    assert_int_equal(atexit(support_clean), 0);
}

static const char *
next_name(const char *folder, const char *what)
{
    static char kept[NAMES_KEPT][PATH_MAX + 256];
    own_names();
    char *name = kept[names.count % NAMES_KEPT];
    (void)snprintf(name, sizeof kept[0], "%s%s%s%u-%s", folder, *folder == '\0' ? "" : "/", names.prefix, names.count,
                   what);
    names.count++;
    return name;
}

const char *
test_name(const char *what)
{
    return next_name("", what);
}

const char *
test_path(const char *what)
{
    own_names();
    return next_name(names.folder, what);
}

/* ---- heaps ---- */

hshm_allocator *
make_heap(hshm_manager *manager, hshm_backend_kind backend, const char *url, size_t size, hshm_allocator_kind kind)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(manager, 1, backend, size, url, NULL, NULL));
    assert_ok(hshm_allocator_create(manager, 1, (hshm_allocator_id){ 1, 0 }, kind, 0, NULL, &heap));
    return heap;
}

hshm_allocator *
attach_heap(hshm_manager *manager, hshm_backend_kind backend, const char *url, uint64_t timeout_ms)
{
    hshm_allocator *heap = NULL;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.timeout_ms = timeout_ms;
    assert_ok(hshm_backend_attach(manager, backend, url, &options, NULL));
    assert_ok(hshm_allocator_get(manager, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    return heap;
}

/* ---- counts ---- */

static size_t
count_entries(const char *folder, const char *part)
{
    size_t count = 0;
    DIR *entries = opendir(folder);
    if (entries == NULL)
        return 0;
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
        count += strstr(entry->d_name, part) != NULL;
    (void)closedir(entries);
    return count;
}

/* The C library's own heaps come and go, and neighbours of equal kind are joined by the kernel: files alone tell. */
static size_t
count_mappings(void)
{
    size_t count = 0;
    char *line = NULL;
    size_t capacity = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (getline(&line, &capacity, maps) > 0)
        count += strchr(line, '/') != NULL;
    free(line);
    (void)fclose(maps);
    return count;
}

struct footprint
footprint_take(void)
{
    own_names();
    return (struct footprint){
        .descriptors = count_entries("/proc/self/fd", ""),
        .mappings = count_mappings(),
        .names = count_entries("/dev/shm", names.prefix) + count_entries(names.folder, names.prefix),
    };
}

void
support_assert_footprint(struct footprint before, const char *file, int line)
{
    const struct footprint now = footprint_take();
    if (now.descriptors == before.descriptors && now.mappings == before.mappings && now.names == before.names)
        return;
    print_error("descriptors %zu -> %zu, mappings %zu -> %zu, names %zu -> %zu\n", before.descriptors, now.descriptors,
                before.mappings, now.mappings, before.names, now.names);
    _fail(file, line);
}

/* ---- children ---- */

/* In a child: a failed assertion must not go on with the parent's tests, nor cmocka catch what should kill. */
static void
leave_cmocka(void)
{
    static const int caught[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS };
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        (void)signal(caught[i], SIG_DFL);
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    /* The end of the parent is the end of its children, whatever they wait for. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

pid_t
child_start(int (*fn)(void *arg), void *arg)
{
    own_names();
    (void)fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    leave_cmocka();
    const int status = fn(arg);
    (void)fflush(NULL);
    _exit(status);
}

int
child_wait(pid_t pid)
{
    int status = 0;
    pid_t got;
    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    assert_int_equal(got, pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int
child_run(int (*fn)(void *arg), void *arg)
{
    return child_wait(child_start(fn, arg));
}

pid_t
helper_start(const char *program, ...)
{
    char path[PATH_MAX];
    char *argv[HELPER_ARGUMENTS + 2] = { path };
    (void)snprintf(path, sizeof path, "%s/%s", HSHM_TEST_BIN_DIR, program);
    va_list args;
    va_start(args, program);
    size_t count = 1;
    for (char *arg = va_arg(args, char *); arg != NULL; arg = va_arg(args, char *)) {
        assert_true(count <= HELPER_ARGUMENTS);
        argv[count++] = arg;
    }
    va_end(args);
    (void)fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    leave_cmocka();
    (void)execv(path, argv);
    (void)fprintf(stderr, "cannot start %s: %s\n", path, strerror(errno));
    _exit(127);
}

/* ---- shared memory and steps ---- */

void *
shared_bytes(size_t size)
{
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    return bytes;
}

static long
futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

void
step_reach(struct step *step)
{
    /* Pairs with the acquire in step_wait(): who sees the count sees what was done before it. */
    (void)atomic_fetch_add_explicit(&step->count, 1, memory_order_release);
    (void)futex(&step->count, FUTEX_WAKE, INT_MAX, NULL);
}

void
step_wait(struct step *step, uint32_t count)
{
    const time_t begin = time(NULL);
    for (;;) {
        const uint32_t now = atomic_load_explicit(&step->count, memory_order_acquire);
        if (now >= count)
            return;
        if (time(NULL) - begin > STEP_PATIENCE_S)
            fail_msg("waited %d s for step %u, which stands at %u", STEP_PATIENCE_S, count, now);
        const struct timespec second = { 1, 0 };
        (void)futex(&step->count, FUTEX_WAIT, now, &second);
    }
}

/* ---- random numbers ---- */

uint64_t
test_seed(void)
{
    static uint64_t seed;
    if (seed != 0)
        return seed;
    const char *given = getenv("HSHM_TEST_SEED");
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec;
    print_message("HSHM_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}
