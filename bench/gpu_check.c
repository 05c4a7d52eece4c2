/*
 * gpu_check.c - does hshm do on this machine's GPU what it promises, and how fast?  See scripts/gpu-check.
 *
 * Everything through the public API, on the real driver, in several processes: this program starts itself anew for each of them, for a
 * driver cannot be used in a forked child.  The driver is called by itself only for what the API has nothing for: kernels, how much
 * memory the device has left, and the rates of cuMemAlloc() to compare with.
 *
 * Ends with 0: all that could be tried is as promised; 1: something is not; 2: arguments, such as a device that is not there; 77: there
 * is no GPU, and the reason.
 * On a stand-in driver (tests/gpu) kernels are left out, and the figures are of no device.
 */
#include <hshm/hshm.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum {
    MIB = 1 << 20,
    PATIENCE_S = 60,
    RESULTS_MAX = 64,
    THREADS = 256,
    DEVICES_MAX = 64,
    RETRIES = 50,
    RETRY_US = 100000
};

/* ---- results ---- */

struct result {
    char name[64], text[200];
    enum { PASS, FAIL, FIGURE, LEFT_OUT } verdict;
    double figure;
    char unit[16];
};

static struct result results[RESULTS_MAX];
static size_t result_count;

static void put(int verdict, const char *name, double figure, const char *unit, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static void
put(int verdict, const char *name, double figure, const char *unit, const char *format, ...)
{
    static const char *const words[] = { "ok", "FAILED", "", "left out" };
    va_list args;
    if (result_count == RESULTS_MAX)
        return;
    struct result *result = &results[result_count++];
    result->verdict = (__typeof__(result->verdict))verdict;
    result->figure = figure;
    (void)snprintf(result->name, sizeof result->name, "%s", name);
    (void)snprintf(result->unit, sizeof result->unit, "%s", unit);
    va_start(args, format);
    (void)vsnprintf(result->text, sizeof result->text, format, args);
    va_end(args);
    if (verdict == FIGURE)
        printf("  %-52s %12.2f %-8s %s\n", name, figure, unit, result->text);
    else
        printf("  %-52s %12s %-8s %s\n", name, words[verdict], "", result->text);
    (void)fflush(stdout);
}

static void
verdict(const char *name, bool good, const char *why)
{
    put(good ? PASS : FAIL, name, 0, "", "%s", good ? "" : why);
}

static double
now_ns(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* ---- the driver, for what the API has nothing for ---- */

struct driver {
    void *library;
    int (*cuDriverGetVersion)(int *);
    int (*cuDeviceGet)(int *, int);
    int (*cuDeviceGetAttribute)(int *, int, int);
    int (*cuDevicePrimaryCtxRetain)(void **, int);
    int (*cuDevicePrimaryCtxRelease_v2)(int);
    int (*cuCtxPushCurrent_v2)(void *);
    int (*cuCtxPopCurrent_v2)(void **);
    int (*cuCtxSynchronize)(void);
    int (*cuMemGetInfo_v2)(size_t *, size_t *);
    int (*cuMemAlloc_v2)(unsigned long long *, size_t);
    int (*cuMemFree_v2)(unsigned long long);
    int (*cuModuleLoadData)(void **, const void *);
    int (*cuModuleGetFunction)(void **, void *, const char *);
    int (*cuModuleUnload)(void *);
    int (*cuLaunchKernel)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                          void **);
};

static struct driver driver;

/* Of CUDA only; what is missing stays NULL. */
static void
find_driver(void)
{
#define FIND(name) *(void **)(void *)&driver.name = dlsym(driver.library, #name)
    const char *path = getenv("HSHM_CUDA_LIB");
    driver.library = dlopen(path != NULL && *path != '\0' ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver.library == NULL)
        return;
    FIND(cuDriverGetVersion);
    FIND(cuDeviceGet);
    FIND(cuDeviceGetAttribute);
    FIND(cuDevicePrimaryCtxRetain);
    FIND(cuDevicePrimaryCtxRelease_v2);
    FIND(cuCtxPushCurrent_v2);
    FIND(cuCtxPopCurrent_v2);
    FIND(cuCtxSynchronize);
    FIND(cuMemGetInfo_v2);
    FIND(cuMemAlloc_v2);
    FIND(cuMemFree_v2);
    FIND(cuModuleLoadData);
    FIND(cuModuleGetFunction);
    FIND(cuModuleUnload);
    FIND(cuLaunchKernel);
#undef FIND
}

static bool
can_launch(void)
{
    return driver.library != NULL && driver.cuModuleLoadData != NULL && driver.cuLaunchKernel != NULL;
}

/* The device's context, pushed; false where there is none. */
static bool
enter(int device)
{
    void *context = NULL;
    int handle = 0;
    return driver.library != NULL && driver.cuDeviceGet(&handle, device) == 0 &&
           driver.cuDevicePrimaryCtxRetain(&context, handle) == 0 && driver.cuCtxPushCurrent_v2(context) == 0;
}

static void
leave(int device)
{
    void *context = NULL;
    int handle = 0;
    (void)driver.cuCtxPopCurrent_v2(&context);
    (void)driver.cuDeviceGet(&handle, device);
    (void)driver.cuDevicePrimaryCtxRelease_v2(handle);
}

/* Bytes that the device has left; 0 = it does not tell. */
static size_t
memory_left(int device)
{
    size_t left = 0;
    size_t all = 0;
    if (driver.cuMemGetInfo_v2 == NULL || !enter(device))
        return 0;
    if (driver.cuMemGetInfo_v2(&left, &all) != 0)
        left = 0;
    leave(device);
    return left;
}

/*
 * One reference for the whole run: without it each heap would be the first, and the last, user of the device's context, which costs more
 * than the heap.  As any program does that has a context of its own.
 */
static void
keep_context(int device)
{
    void *context = NULL;
    int handle = 0;
    if (driver.library != NULL && driver.cuDeviceGet(&handle, device) == 0)
        (void)driver.cuDevicePrimaryCtxRetain(&context, handle);
}

/* Has the device so much left?  Others' memory, and that of processes that died just now, may take a while. */
static bool
has_left(int device, size_t wanted)
{
    for (int i = 0; i < RETRIES; i++) {
        if (memory_left(device) >= wanted)
            return true;
        (void)usleep(RETRY_US);
    }
    return false;
}

static const char kernels[] = ".version 6.4\n"
                              ".target sm_70\n"
                              ".address_size 64\n"
                              ".visible .entry add_one(.param .u64 at, .param .u32 count)\n"
                              "{\n"
                              "  .reg .pred %p; .reg .b32 %r<6>; .reg .b64 %d<4>;\n"
                              "  ld.param.u64 %d1, [at]; ld.param.u32 %r1, [count];\n"
                              "  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;\n"
                              "  mad.lo.u32 %r5, %r2, %r3, %r4;\n"
                              "  setp.ge.u32 %p, %r5, %r1;\n"
                              "  @%p bra DONE;\n"
                              "  cvta.to.global.u64 %d1, %d1;\n"
                              "  mul.wide.u32 %d2, %r5, 4; add.u64 %d3, %d1, %d2;\n"
                              "  ld.global.u32 %r2, [%d3]; add.u32 %r2, %r2, 1; st.global.u32 [%d3], %r2;\n"
                              "DONE: ret;\n"
                              "}\n"
                              ".visible .entry count_up(.param .u64 at, .param .u32 times)\n"
                              "{\n"
                              "  .reg .pred %p; .reg .b32 %r<4>; .reg .b64 %d<2>;\n"
                              "  ld.param.u64 %d1, [at]; ld.param.u32 %r1, [times];\n"
                              "  cvta.to.global.u64 %d1, %d1;\n"
                              "AGAIN: setp.eq.u32 %p, %r1, 0;\n"
                              "  @%p bra DONE;\n"
                              "  atom.sys.global.add.u32 %r2, [%d1], 1;\n"
                              "  sub.u32 %r1, %r1, 1; bra AGAIN;\n"
                              "DONE: ret;\n"
                              "}\n";

/* Run a kernel of `threads` threads with an address and a number.  0, or what the driver said. */
static int
launch(int device, const char *name, void *at, uint32_t number, uint32_t threads, bool waits)
{
    void *module = NULL;
    void *function = NULL;
    uint64_t address = (uintptr_t)at;
    void *arguments[] = { &address, &number };
    if (!enter(device))
        return -1;
    int code = driver.cuModuleLoadData(&module, kernels);
    if (code == 0)
        code = driver.cuModuleGetFunction(&function, module, name);
    if (code == 0)
        code = driver.cuLaunchKernel(function, (threads + THREADS - 1) / THREADS, 1, 1,
                                     threads < THREADS ? threads : THREADS, 1, 1, 0, NULL, arguments, NULL);
    if (code == 0 && waits)
        code = driver.cuCtxSynchronize();
    leave(device); /* the context stays: the heap has it, too */
    return code;
}

/* ---- processes ---- */

static char name[64];   /* of the heap that is tried just now */
static char self[4096]; /* this program                       */

static int names;   /* that were made up          */
static pid_t maker; /* who made them up           */

static const char *
fresh_name(void)
{
    (void)snprintf(name, sizeof name, "hshm-gpu-check-%d-%d", (int)getpid(), ++names);
    return name;
}

/* At exit, also in the middle: no name stays. */
static void
remove_names(void)
{
    for (; maker == getpid() && names > 0; names--) {
        char path[80];
        (void)snprintf(path, sizeof path, "/hshm-gpu-check-%d-%d", (int)maker, names);
        (void)shm_unlink(path);
    }
}

struct other {
    pid_t pid;
    int to, from; /* pipes: a byte says "go on" */
};

static void
die(const char *what)
{
    fprintf(stderr, "gpu_check: %s: %s\n", what, hshm_last_error());
    exit(1);
}

/* The number of a descriptor, out of the way of those that the other process finds at 10 and 11. */
static int
out_of_the_way(int fd)
{
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    if (moved < 0)
        die("no descriptors");
    (void)close(fd);
    return moved;
}

static struct other
start(const char *role, const char *heap)
{
    int to[2];
    int from[2];
    struct other other = { .pid = -1 };
    posix_spawn_file_actions_t actions;
    char *arguments[] = { self, (char *)(uintptr_t) "--role", (char *)(uintptr_t)role, (char *)(uintptr_t)heap, NULL };
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
        die("no pipes");
    to[0] = out_of_the_way(to[0]);
    from[1] = out_of_the_way(from[1]);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, to[0], 10);
    (void)posix_spawn_file_actions_adddup2(&actions, from[1], 11);
    if (posix_spawn(&other.pid, self, &actions, NULL, arguments, environ) != 0)
        die("cannot start another process");
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(to[0]);
    (void)close(from[1]);
    other.to = to[1];
    other.from = from[0];
    return other;
}

/* Let it go on, and wait until it has said something; false: it ended. */
static void
tell(const struct other *other)
{
    if (write(other->to, "g", 1) != 1)
        fprintf(stderr, "gpu_check: process %d does not listen\n", (int)other->pid);
}

static bool
hear(const struct other *other)
{
    char byte;
    ssize_t got;
    do {
        got = read(other->from, &byte, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1;
}

/* Its exit status; 128 + a signal. */
static int
end(const struct other *other)
{
    int status = 0;
    (void)close(other->to);
    while (waitpid(other->pid, &status, 0) < 0 && errno == EINTR)
        ;
    (void)close(other->from);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* In a role. */
static void
say(void)
{
    (void)!write(11, "s", 1);
}

static void
wait_for_word(void)
{
    char byte;
    if (read(10, &byte, 1) != 1)
        exit(3);
}

/* ---- heaps ---- */

enum { BLOCKS = 24, WORDS = 5000 };

/* The custom header: who left which blocks. */
struct board {
    hshm_off blocks[4][BLOCKS];
    _Atomic uint32_t count;
};

static size_t
size_of(size_t i)
{
    return (i + 1) * 797 % 20000 + 4;
}

static hshm_allocator *
create(hshm_backend_kind kind, size_t size, hshm_allocator_kind allocator)
{
    hshm_allocator *heap = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.gpu_device = getenv("GPU_CHECK_DEVICE");
    hshm_status status = HSHM_E_NOSPC;
    /* What a killed process had of the device may go a moment after the process. */
    for (int i = 0; i < RETRIES && status == HSHM_E_NOSPC; i++) {
        status = hshm_backend_create(NULL, 1, kind, size, fresh_name(), &options, NULL);
        if (status == HSHM_E_NOSPC)
            (void)usleep(RETRY_US);
    }
    if (status != HSHM_OK || hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, allocator,
                                                   sizeof(struct board), NULL, &heap) != HSHM_OK)
        die("a heap cannot be made");
    return heap;
}

static hshm_allocator *
attach(const char *heap_name)
{
    hshm_allocator *heap = NULL;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.gpu_device = getenv("GPU_CHECK_DEVICE");
    const bool is_shared = strchr(heap_name, '/') != NULL; /* "name/" is of registered memory */
    char plain[64];
    (void)snprintf(plain, sizeof plain, "%.*s", (int)strcspn(heap_name, "/"), heap_name);
    if (hshm_backend_attach(NULL, is_shared ? HSHM_BACKEND_GPU_SHM_MMAP : HSHM_BACKEND_GPU_MALLOC, plain, &options,
                            NULL) != HSHM_OK ||
        hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap) != HSHM_OK)
        die("cannot attach");
    return heap;
}

static struct board *
board_of(hshm_allocator *heap)
{
    return hshm_allocator_custom_header(heap, NULL);
}

static void
pattern(unsigned char *bytes, size_t size, uint32_t key)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(key * 31 + i * 7);
}

static unsigned char bytes[1 << 16], found[1 << 16];

/* Leave blocks with patterns, as number `who`. */
static bool
leave_blocks(hshm_allocator *heap, uint32_t who)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        void *block = hshm_malloc(heap, size_of(i));
        pattern(bytes, size_of(i), who * 100 + (uint32_t)i);
        if (block == NULL || hshm_copy_to(heap, block, bytes, size_of(i)) != HSHM_OK)
            return false;
        board_of(heap)->blocks[who][i] = hshm_to_off(heap, block);
    }
    return true;
}

static bool
find_blocks(hshm_allocator *heap, uint32_t who, bool frees)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        void *block = hshm_to_addr(heap, board_of(heap)->blocks[who][i]);
        pattern(bytes, size_of(i), who * 100 + (uint32_t)i);
        if (hshm_copy_from(heap, found, block, size_of(i)) != HSHM_OK || memcmp(bytes, found, size_of(i)) != 0)
            return false;
        if (frees && hshm_free(heap, block) != HSHM_OK)
            return false;
    }
    return true;
}

/* ---- roles ---- */

/* Look at the owner's blocks, leave some, wait, and free those of the next one. */
static int
role_worker(const char *heap_name, uint32_t who)
{
    hshm_allocator *heap = attach(heap_name);
    bool good = find_blocks(heap, 0, false) && leave_blocks(heap, who);
    say();
    wait_for_word(); /* all have left theirs */
    good = good && find_blocks(heap, who % 2 + 1, true);
    say();
    wait_for_word();
    return good && hshm_backend_detach(NULL, 1) == HSHM_OK ? 0 : 1;
}

/* Numbers in a block, that another process's kernel counts up. */
static int
role_numbers(const char *heap_name)
{
    hshm_allocator *heap = attach(heap_name);
    static uint32_t words[WORDS];
    void *block = hshm_malloc(heap, sizeof words);
    for (uint32_t i = 0; i < WORDS; i++)
        words[i] = i * 3;
    if (block == NULL || hshm_copy_to(heap, block, words, sizeof words) != HSHM_OK)
        die("numbers");
    board_of(heap)->blocks[1][0] = hshm_to_off(heap, block);
    say();
    wait_for_word();
    if (hshm_copy_from(heap, words, block, sizeof words) != HSHM_OK)
        die("numbers again");
    for (uint32_t i = 0; i < WORDS; i++) {
        if (words[i] != i * 3 + 1)
            return 1;
    }
    return hshm_free(heap, block) == HSHM_OK && hshm_backend_detach(NULL, 1) == HSHM_OK ? 0 : 1;
}

/* Count a word up beside a kernel. */
static int
role_counter(const char *heap_name)
{
    hshm_allocator *heap = attach(heap_name);
    say();
    wait_for_word();
    for (int i = 0; i < 100000; i++)
        board_of(heap)->count++;
    return hshm_backend_detach(NULL, 1) == HSHM_OK ? 0 : 1;
}

/* Make a heap, and stay until killed. */
static int
role_owner(const char *given)
{
    hshm_allocator *heap = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.gpu_device = getenv("GPU_CHECK_DEVICE");
    if (hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, 64 * (size_t)MIB, given, &options, NULL) != HSHM_OK ||
        hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_THREAD_LOCAL, sizeof(struct board),
                              NULL, &heap) != HSHM_OK ||
        !leave_blocks(heap, 0))
        die("the owner");
    say();
    wait_for_word();
    return 1;
}

/* Attach, take blocks, and stay. */
static int
role_victim(const char *heap_name)
{
    hshm_allocator *heap = attach(heap_name);
    if (!leave_blocks(heap, 3))
        die("the victim");
    say();
    wait_for_word();
    return 1;
}

static int
play_role(const char *role, const char *heap_name)
{
    (void)alarm(PATIENCE_S);
    if (strcmp(role, "worker1") == 0 || strcmp(role, "worker2") == 0)
        return role_worker(heap_name, (uint32_t)(role[6] - '0'));
    if (strcmp(role, "numbers") == 0)
        return role_numbers(heap_name);
    if (strcmp(role, "counter") == 0)
        return role_counter(heap_name);
    if (strcmp(role, "owner") == 0)
        return role_owner(heap_name);
    return strcmp(role, "victim") == 0 ? role_victim(heap_name) : 2;
}

/* ---- checks ---- */

static const struct {
    hshm_allocator_kind kind;
    const char *name;
} allocators[] = { { HSHM_ALLOCATOR_STACK, "Stack" },
                   { HSHM_ALLOCATOR_SCALABLE_PAGE, "ScalablePage" },
                   { HSHM_ALLOCATOR_THREAD_LOCAL, "ThreadLocal" } };

static const char *
title(const char *what, const char *which)
{
    static char text[64];
    (void)snprintf(text, sizeof text, "%s, %s", what, which);
    return text;
}

static void
destroy(const char *what)
{
    if (hshm_backend_destroy(NULL, 1) != HSHM_OK)
        verdict(title(what, "destroy"), false, hshm_last_error());
}

/* A creates, B and C attach; each reads, takes and frees the others' blocks. */
static void
check_processes(hshm_backend_kind kind, const char *what, size_t which)
{
    hshm_allocator *heap = create(kind, 64 * (size_t)MIB, allocators[which].kind);
    char heap_name[80];
    (void)snprintf(heap_name, sizeof heap_name, "%s%s", name, kind == HSHM_BACKEND_GPU_SHM_MMAP ? "/" : "");
    bool good = leave_blocks(heap, 0);
    const struct other others[2] = { start("worker1", heap_name), start("worker2", heap_name) };
    for (int part = 0; part < 2; part++) {
        for (int i = 0; i < 2; i++)
            good = hear(&others[i]) && good;
        for (int i = 0; i < 2; i++)
            tell(&others[i]);
    }
    for (int i = 0; i < 2; i++)
        good = end(&others[i]) == 0 && good;
    good = good && find_blocks(heap, 0, true) && hshm_check(heap, 0, NULL) == HSHM_OK;
    verdict(title(what, allocators[which].name), good, "see standard error");
    destroy(what);
}

static void
check_kernel(hshm_backend_kind kind, const char *what, int device)
{
    hshm_allocator *heap = create(kind, 64 * (size_t)MIB, HSHM_ALLOCATOR_THREAD_LOCAL);
    char heap_name[80];
    (void)snprintf(heap_name, sizeof heap_name, "%s%s", name, kind == HSHM_BACKEND_GPU_SHM_MMAP ? "/" : "");
    const struct other other = start("numbers", heap_name);
    int code = -1;
    char why[64];
    if (hear(&other)) {
        void *at = hshm_device_ptr(heap, hshm_to_addr(heap, board_of(heap)->blocks[1][0]));
        code = at == NULL ? -2 : launch(device, "add_one", at, WORDS, WORDS, true);
        tell(&other);
    }
    const int ended = end(&other);
    (void)snprintf(why, sizeof why, "the driver said %d, the other process %d", code, ended);
    verdict(what, code == 0 && ended == 0, why);
    destroy(what);
}

/* A kernel and two processes count the same word of registered memory. */
static void
check_atomics(int device)
{
    hshm_allocator *heap = create(HSHM_BACKEND_GPU_SHM_MMAP, 16 * (size_t)MIB, HSHM_ALLOCATOR_STACK);
    char heap_name[80];
    char why[64];
    (void)snprintf(heap_name, sizeof heap_name, "%s/", name);
    const struct other other = start("counter", heap_name);
    int code = -1;
    if (hear(&other)) {
        void *at = hshm_device_ptr(heap, (const void *)&board_of(heap)->count);
        tell(&other);
        code = at == NULL ? -2 : launch(device, "count_up", at, 1000, THREADS, false);
        for (int i = 0; i < 100000; i++)
            board_of(heap)->count++;
        if (code == 0 && enter(device)) {
            code = driver.cuCtxSynchronize();
            leave(device);
        }
    }
    const int ended = end(&other);
    const uint32_t expected = 2 * 100000 + 1000 * THREADS;
    (void)snprintf(why, sizeof why, "%u, not %u; %d, %d", board_of(heap)->count, expected, code, ended);
    /* Not each platform has atomics that both sides see: a fact about it, and no promise of the library's. */
    put(board_of(heap)->count == expected && code == 0 ? PASS : LEFT_OUT, "a kernel and 2 processes count one word", 0,
        "", "%s", board_of(heap)->count == expected && code == 0 ? "" : why);
    destroy("counting");
}

static void
check_deaths(void)
{
    hshm_allocator *heap = create(HSHM_BACKEND_GPU_MALLOC, 64 * (size_t)MIB, HSHM_ALLOCATOR_THREAD_LOCAL);
    hshm_recover_report report = HSHM_RECOVER_REPORT_INIT;
    bool good = leave_blocks(heap, 0);
    const struct other victim = start("victim", name);
    good = hear(&victim) && good;
    (void)kill(victim.pid, SIGKILL);
    good = end(&victim) == 128 + SIGKILL && good;
    good = good && hshm_recover(heap, &report) == HSHM_OK && report.processes == 1;
    good = good && hshm_check(heap, 0, NULL) == HSHM_OK && find_blocks(heap, 0, true) && find_blocks(heap, 3, true);
    verdict("an attacher is killed", good, hshm_last_error());
    destroy("killed attacher");

    char owned[64];
    (void)snprintf(owned, sizeof owned, "%s", fresh_name());
    const struct other owner = start("owner", owned);
    good = hear(&owner);
    heap = attach(owned);
    good = good && find_blocks(heap, 0, false);
    (void)kill(owner.pid, SIGKILL);
    good = end(&owner) == 128 + SIGKILL && good;
    void *block = hshm_malloc(heap, 1000);
    good = good && block != NULL && hshm_copy_to(heap, block, "x", 1) == HSHM_E_DAMAGED &&
           hshm_free(heap, block) == HSHM_OK;
    destroy("killed owner");
    good = good && hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, owned, NULL, NULL) == HSHM_E_DAMAGED;
    good = good && hshm_backend_remove(HSHM_BACKEND_GPU_MALLOC, owned) == HSHM_OK;
    verdict("the owner is killed", good, hshm_last_error());
}

/* Destroyed while another one has it mapped: the memory stays, and goes when that has left. */
static void
check_late(int device)
{
    const size_t size = 512 * (size_t)MIB;
    const size_t before = memory_left(device);
    char why[128];
    hshm_allocator *heap = create(HSHM_BACKEND_GPU_MALLOC, size, HSHM_ALLOCATOR_THREAD_LOCAL);
    bool good = leave_blocks(heap, 0);
    const struct other late = start("worker1", name);
    good = hear(&late) && good;
    good = hshm_backend_destroy(NULL, 1) == HSHM_OK && good;
    const size_t mapped = memory_left(device);
    (void)kill(late.pid, SIGKILL);
    good = end(&late) == 128 + SIGKILL && good;
    heap = create(HSHM_BACKEND_GPU_MALLOC, 2 * (size_t)MIB, HSHM_ALLOCATOR_STACK);
    /* A quarter of it is room for what others do with the card meanwhile. */
    const bool stayed = before == 0 || mapped + size - size / 4 <= before;
    const bool went = before == 0 || has_left(device, before - size / 4);
    (void)snprintf(why, sizeof why, "%s; MiB left before: %zu, mapped: %zu, after: %zu", good ? "done" : "not done",
                   before / MIB, mapped / MIB, memory_left(device) / MIB);
    verdict("destroyed while another one has it mapped", good && stayed && went && heap != NULL, why);
    destroy("late");
}

static void
check_fork(void)
{
    hshm_allocator *heap = create(HSHM_BACKEND_GPU_MALLOC, 2 * (size_t)MIB, HSHM_ALLOCATOR_THREAD_LOCAL);
    void *block = hshm_malloc(heap, 10);
    const pid_t child = fork();
    if (child == 0) {
        const bool good = hshm_copy_from(heap, bytes, block, 1) == HSHM_E_DEVICE && hshm_free(heap, block) == HSHM_OK;
        _exit(good ? 0 : 1);
    }
    int status = -1;
    (void)waitpid(child, &status, 0);
    verdict("a forked child is told, and frees", status == 0, "it was not");
    destroy("fork");
}

static void
check_leaks(int device, int cycles)
{
    size_t before = 0;
    const double begin = now_ns();
    for (int i = 0; i < cycles; i++) {
        hshm_allocator *heap = create(HSHM_BACKEND_GPU_MALLOC, 16 * (size_t)MIB, allocators[i % 3].kind);
        if (hshm_malloc(heap, 1000) == NULL)
            die("leak loop");
        destroy("leak loop");
        if (i == 2) /* what a driver keeps for good it has by now */
            before = memory_left(device);
    }
    put(FIGURE, "create and destroy a heap of 16 MiB", (now_ns() - begin) / cycles / 1e3, "us", "%d times", cycles);
    /* 2 MiB, the driver's step, may be another program's on this card. */
    const bool is_back = before == 0 || has_left(device, before - 2 * (size_t)MIB);
    const size_t after = memory_left(device);
    if (before == 0)
        put(LEFT_OUT, "device memory is back to the start", 0, "", "the driver does not tell how much is left");
    else
        put(is_back ? PASS : FAIL, "device memory is back to the start", 0, "", "%zu MiB left before, %zu after",
            before / MIB, after / MIB);
}

/* ---- figures ---- */

static int
compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double
median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return values[count / 2];
}

enum { TURNS = 7 };

static void
measure_copies(const char *from_what, void *host)
{
    const size_t size = 64 * (size_t)MIB;
    hshm_allocator *heap = create(HSHM_BACKEND_GPU_MALLOC, 2 * size, HSHM_ALLOCATOR_THREAD_LOCAL);
    void *block = hshm_malloc(heap, size);
    double to[TURNS];
    double from[TURNS];
    memset(host, 1, size);
    for (int i = 0; i < TURNS; i++) {
        double begin = now_ns();
        if (hshm_copy_to(heap, block, host, size) != HSHM_OK)
            die("copy to");
        to[i] = (double)size / (now_ns() - begin);
        begin = now_ns();
        if (hshm_copy_from(heap, host, block, size) != HSHM_OK)
            die("copy from");
        from[i] = (double)size / (now_ns() - begin);
    }
    put(FIGURE, title("copy to the device", from_what), median(to, TURNS), "GB/s", "64 MiB");
    put(FIGURE, title("copy from the device", from_what), median(from, TURNS), "GB/s", "64 MiB");
    destroy("copies");
}

static void
measure_bandwidth(void)
{
    const size_t size = 64 * (size_t)MIB;
    void *pageable = malloc(size);
    hshm_manager *second = NULL;
    hshm_allocator *registered = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.gpu_device = getenv("GPU_CHECK_DEVICE");
    if (pageable == NULL || hshm_manager_create(&second) != HSHM_OK)
        die("no memory");
    measure_copies("not registered", pageable);
    free(pageable);
    if (hshm_backend_create(second, 2, HSHM_BACKEND_GPU_SHM_MMAP, 2 * size, fresh_name(), &options, NULL) != HSHM_OK ||
        hshm_allocator_create(second, 2, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &registered) !=
            HSHM_OK)
        die("registered memory");
    measure_copies("registered (GPU_SHM_MMAP)", hshm_malloc(registered, size));
    if (hshm_backend_destroy(second, 2) != HSHM_OK)
        die("destroy");
    hshm_manager_destroy(second);
}

static void
measure_registering(void)
{
    const size_t size = 512 * (size_t)MIB;
    double shared[3];
    double plain[3];
    for (int i = 0; i < 3; i++) {
        for (int gpu = 0; gpu < 2; gpu++) {
            const hshm_backend_kind kind = gpu != 0 ? HSHM_BACKEND_GPU_SHM_MMAP : HSHM_BACKEND_POSIX_SHM_MMAP;
            hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
            options.gpu_device = getenv("GPU_CHECK_DEVICE");
            const double begin = now_ns();
            const hshm_status status = hshm_backend_create(NULL, 1, kind, size, fresh_name(), &options, NULL);
            *(gpu != 0 ? &shared[i] : &plain[i]) = (now_ns() - begin) / 1e6;
            if (status == HSHM_E_NOSPC) {
                put(LEFT_OUT, "registering shared memory", 0, "", "%.150s", hshm_last_error());
                return;
            }
            if (status != HSHM_OK || hshm_backend_destroy(NULL, 1) != HSHM_OK)
                die("registering");
        }
    }
    put(FIGURE, "register 1 GiB", 2 * (median(shared, 3) - median(plain, 3)), "ms",
        "of 512 MiB, beyond %.0f ms to reserve it", median(plain, 3));
}

/* ns for a block taken and given back. */
static double
pair_of_calls(hshm_allocator *heap, uint32_t *random)
{
    enum { HELD = 64, ROUNDS = 3000 };
    void *blocks[HELD];
    const double begin = now_ns();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < HELD; i++) {
            *random = *random * 1103515245 + 12345;
            blocks[i] = hshm_malloc(heap, 300 + (*random >> 16) % 700);
        }
        for (int i = HELD; i-- > 0;)
            (void)hshm_free(heap, blocks[i]);
    }
    return (now_ns() - begin) / ROUNDS / HELD;
}

static double
pair_of_the_drivers(int device)
{
    enum { PAIRS = 200 };
    double time = 0;
    unsigned long long at = 0;
    if (driver.cuMemAlloc_v2 == NULL || !enter(device))
        return 0;
    const double begin = now_ns();
    for (int i = 0; i < PAIRS; i++) {
        if (driver.cuMemAlloc_v2(&at, 1000) != 0 || driver.cuMemFree_v2(at) != 0)
            break;
    }
    time = (now_ns() - begin) / PAIRS;
    leave(device);
    return time;
}

static void
measure_allocation(int device)
{
    for (size_t which = 0; which < 3; which++) {
        double host[TURNS];
        double gpu[TURNS];
        uint32_t random = 1;
        hshm_allocator *plain = NULL;
        hshm_allocator *heap = create(HSHM_BACKEND_GPU_MALLOC, 64 * (size_t)MIB, allocators[which].kind);
        if (hshm_backend_create(NULL, 2, HSHM_BACKEND_POSIX_SHM_MMAP, 64 * (size_t)MIB, fresh_name(), NULL, NULL) !=
                HSHM_OK ||
            hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 2, 0 }, allocators[which].kind, 0, NULL, &plain) !=
                HSHM_OK)
            die("a heap on the host");
        for (int i = 0; i < TURNS; i++) {
            host[i] = pair_of_calls(plain, &random);
            gpu[i] = pair_of_calls(heap, &random);
        }
        const double ratio = median(gpu, TURNS) / median(host, TURNS);
        put(FIGURE, title("take and free a block", allocators[which].name), median(gpu, TURNS), "ns",
            "%.2f x the same on POSIX shared memory (%.1f ns)", ratio, median(host, TURNS));
        destroy("allocation");
        if (hshm_backend_destroy(NULL, 2) != HSHM_OK)
            die("destroy");
    }
    const double theirs = pair_of_the_drivers(device);
    if (theirs > 0)
        put(FIGURE, "the driver's own: cuMemAlloc and cuMemFree", theirs, "ns", "1000 bytes");
    else
        put(LEFT_OUT, "the driver's own: cuMemAlloc and cuMemFree", 0, "", "not CUDA");
}

/* ---- the whole ---- */

static void
tell_device(const hshm_gpu_info *info)
{
    static const struct {
        int number;
        const char *name;
    } attributes[] = { { 16, "multiprocessors" },
                       { 18, "integrated" },
                       { 20, "compute mode" },
                       { 91, "host pointers for registered memory" },
                       { 99, "host register supported" },
                       { 113, "read-only host register supported" },
                       { 125, "legacy IPC supported (125)" } };
    printf("\n%s %s, %s, %.1f GiB, device %u\n", info->vendor == HSHM_GPU_CUDA ? "CUDA" : "HIP", info->uuid, info->name,
           (double)info->memory / (double)(1 << 30), info->ordinal);
    int version = 0;
    if (driver.cuDriverGetVersion != NULL && driver.cuDriverGetVersion(&version) == 0)
        put(FIGURE, "driver's version", version, "", "%s", "");
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0] && driver.cuDeviceGetAttribute != NULL; i++) {
        int value = 0;
        if (driver.cuDeviceGetAttribute(&value, attributes[i].number, (int)info->ordinal) == 0)
            put(FIGURE, attributes[i].name, value, "", "%s", "");
    }
}

/* A string's characters, fit for JSON. */
static void
write_text(FILE *file, const char *text)
{
    (void)fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', file);
        (void)fputc((unsigned char)*text < ' ' ? ' ' : *text, file);
    }
    (void)fputc('"', file);
}

static void
write_json(const char *path, const hshm_gpu_info *info)
{
    static const char *const words[] = { "pass", "fail", "figure", "left out" };
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        fprintf(stderr, "gpu_check: cannot write %s: %s\n", path, strerror(errno));
        exit(1);
    }
    (void)fprintf(file, "{\n  \"hshm\": \"%s\",\n  \"device\": ", hshm_version());
    write_text(file, info->name);
    (void)fprintf(file, ",\n  \"uuid\": \"%s\",\n  \"memory\": %" PRIu64 ",\n  \"results\": [\n", info->uuid,
                  info->memory);
    for (size_t i = 0; i < result_count; i++) {
        (void)fprintf(file, "    { \"name\": ");
        write_text(file, results[i].name);
        (void)fprintf(file,
                      ", \"verdict\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"text\": ", words[results[i].verdict],
                      results[i].figure, results[i].unit);
        write_text(file, results[i].text);
        (void)fprintf(file, " }%s\n", i + 1 < result_count ? "," : "");
    }
    (void)fprintf(file, "  ]\n}\n");
    (void)fclose(file);
}

static void
check_all(const hshm_gpu_info *info, int cycles)
{
    const int device = (int)info->ordinal;
    tell_device(info);
    printf("\nas promised?\n");
    for (size_t i = 0; i < 3; i++)
        check_processes(HSHM_BACKEND_GPU_MALLOC, "3 processes, device memory", i);
    for (size_t i = 0; i < 3; i++)
        check_processes(HSHM_BACKEND_GPU_SHM_MMAP, "3 processes, registered", i);
    if (can_launch() && info->vendor == HSHM_GPU_CUDA) {
        check_kernel(HSHM_BACKEND_GPU_MALLOC, "a kernel on another process's block, device memory", device);
        check_kernel(HSHM_BACKEND_GPU_SHM_MMAP, "a kernel on another process's block, registered", device);
        check_atomics(device);
    } else {
        put(LEFT_OUT, "kernels", 0, "", "%s", "this driver launches none that are known here");
    }
    check_deaths();
    check_late(device);
    check_fork();
    check_leaks(device, cycles);
    printf("\nfigures (medians)\n");
    measure_allocation(device);
    measure_bandwidth();
    measure_registering();
}

/* "cuda", "hip:1", or an uuid. */
static bool
is_wanted(const char *wanted, const hshm_gpu_info *info)
{
    char numbered[32];
    const char *vendor = info->vendor == HSHM_GPU_CUDA ? "cuda" : "hip";
    (void)snprintf(numbered, sizeof numbered, "%s:%u", vendor, info->ordinal);
    return strcmp(wanted, info->uuid) == 0 || strcmp(wanted, numbered) == 0 || strcmp(wanted, vendor) == 0;
}

int
main(int argc, char **argv)
{
    hshm_gpu_info infos[DEVICES_MAX];
    size_t count = 0;
    size_t which = 0;
    int cycles = 1000;
    const char *json = NULL;
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return 1;
    if (argc == 4 && strcmp(argv[1], "--role") == 0)
        return play_role(argv[2], argv[3]);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--json") == 0)
            json = argv[i + 1];
        else if (strcmp(argv[i], "--cycles") == 0)
            cycles = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--device") == 0)
            (void)setenv("GPU_CHECK_DEVICE", argv[i + 1], 1);
        else {
            fprintf(stderr, "gpu_check [--json FILE] [--cycles N] [--device GPU]\n");
            return 2;
        }
    }
    (void)signal(SIGPIPE, SIG_IGN);
    maker = getpid();
    (void)atexit(remove_names);
    if (hshm_gpu_list(infos, DEVICES_MAX, &count) != HSHM_OK) {
        printf("skipped: %s\n", hshm_last_error());
        return 77;
    }
    find_driver();
    count = count < DEVICES_MAX ? count : DEVICES_MAX;
    const char *wanted = getenv("GPU_CHECK_DEVICE");
    while (wanted != NULL && which < count && !is_wanted(wanted, &infos[which]))
        which++;
    if (which == count) {
        fprintf(stderr, "gpu_check: none of the %zu devices here is %s; \"cuda\", \"hip:1\" or an uuid\n", count,
                wanted);
        return 2;
    }
    if (infos[which].vendor == HSHM_GPU_CUDA)
        keep_context((int)infos[which].ordinal);
    (void)setenv("GPU_CHECK_DEVICE", infos[which].uuid, 1); /* the same in every process */
    check_all(&infos[which], cycles < 4 ? 4 : cycles);
    size_t failed = 0;
    for (size_t i = 0; i < result_count; i++)
        failed += results[i].verdict == FAIL;
    if (json != NULL)
        write_json(json, &infos[which]);
    printf("\n%s\n", failed == 0 ? "all as promised" : "NOT as promised");
    return failed == 0 ? 0 : 1;
}
