/*
 * boot.c - makes the heap that a preloaded program lives on.
 *
 * The first call of the malloc family that needs memory makes it.  That call may come from the dynamic loader or from
 * another library's constructor, before anything of ours ran; from several threads at once; and from a child that was
 * forked while another thread of its parent was at it.  So a word says who is making:
 *
 *     nobody -> the maker's pid -> done, or failed
 *
 * Threads of the same process wait for the maker.  A pid that is not ours is that of a parent: its thread does not exist
 * here, and the work begins anew.  (It may also be that of another process in the same memory, around vfork(); then both
 * make a heap, and the first that is finished is taken.)
 *
 * The heap is never destroyed: destructors of other libraries, and threads that outlive main(), still use it.
 */
#include "boot.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "settings.h"
#include "spare.h"

enum maker { NOBODY = 0, DONE = -1, FAILED = -2 };

hshm_allocator *_Atomic boot_heap;
static _Atomic int maker = NOBODY;
static struct settings settings;

/* This thread is the maker.  In static TLS, which a library that is there from the beginning may use freely. */
static _Thread_local bool making __attribute__((tls_model("initial-exec")));

/* ---- making ---- */

/*
 * Lazy: what is not touched costs nothing.  Where the whole does not fit into the address space (a limit that was not
 * foreseen, vm.overcommit_memory = 2), half of it may.
 */
static hshm_status
make_private_memory(hshm_manager *manager)
{
    const uint64_t least = UINT64_C(1) << 20;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    uint64_t size = settings.size;
    hshm_status status = hshm_backend_create(manager, 0, HSHM_BACKEND_MALLOC, size, "preload", &options, NULL);
    while (status == HSHM_E_NOSPC && size / 2 >= least) {
        size /= 2;
        status = hshm_backend_create(manager, 0, HSHM_BACKEND_MALLOC, size, "preload", &options, NULL);
    }
    if (status == HSHM_OK && size < settings.size && (settings.size_is_asked || settings.debug))
        say("there is no room for %" PRIu64 "M; going on with %" PRIu64 "M", settings.size >> 20, size >> 20);
    return status;
}

static hshm_status
make_shared_memory(hshm_manager *manager)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    options.replace = HSHM_REPLACE_DEAD;
    return hshm_backend_create(manager, 0, HSHM_BACKEND_POSIX_SHM_MMAP, settings.shared_size, settings.shared, &options,
                               NULL);
}

/* The kind that is asked for, or, where this build lacks it, the best that it has. */
static hshm_status
make_allocator(hshm_manager *manager, hshm_allocator **ret_heap)
{
    const hshm_allocator_kind kinds[] = { settings.allocator, HSHM_ALLOCATOR_THREAD_LOCAL, HSHM_ALLOCATOR_SCALABLE_PAGE,
                                          HSHM_ALLOCATOR_STACK };
    const hshm_allocator_id id = { 0, 0 };
    hshm_status status = HSHM_E_NOTSUP;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && status == HSHM_E_NOTSUP; i++) {
        status = hshm_allocator_create(manager, 0, id, kinds[i], 0, NULL, ret_heap);
        if (status == HSHM_E_NOTSUP && settings.debug)
            say("%s", hshm_last_error());
    }
    return status;
}

/* Before a fork: what comes of it on a shared heap is not what the program expects. */
static void
warn_of_fork(void)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&warned))
        say("HSHM_PRELOAD_SHARED: pid %d forks, and its child shares its variables instead of getting a copy; use "
            "private memory for this program",
            (int)getpid());
}

/* A heap on shared memory if that is asked for and possible.  NULL otherwise, with a sentence. */
static hshm_allocator *
make_shared(hshm_manager *manager)
{
    hshm_allocator *heap = NULL;
    if (settings.shared[0] == '\0')
        return NULL;
    hshm_status status = make_shared_memory(manager);
    if (status == HSHM_OK)
        status = make_allocator(manager, &heap);
    if (status == HSHM_OK) {
        (void)pthread_atfork(warn_of_fork, NULL, NULL);
    } else {
        say("HSHM_PRELOAD_SHARED: %s; going on with private memory", hshm_last_error());
        (void)hshm_backend_destroy(manager, 0);
    }
    return heap;
}

static hshm_allocator *
make(void)
{
    hshm_manager *manager = NULL;
    settings_read(&settings);
    /* One of our own: the ids in it are nobody else's, and a half-made one can be left behind. */
    hshm_status status = hshm_manager_create(&manager);
    hshm_allocator *heap = status == HSHM_OK ? make_shared(manager) : NULL;
    if (status == HSHM_OK && heap == NULL) {
        status = make_private_memory(manager);
        if (status == HSHM_OK)
            status = make_allocator(manager, &heap);
    }
    if (status != HSHM_OK)
        say("%s; going on with the system's malloc", hshm_last_error());
    return heap;
}

/* ---- once ---- */

static void
wait_while(int value)
{
    (void)syscall(SYS_futex, &maker, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void
wake_all(void)
{
    (void)syscall(SYS_futex, &maker, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* True when this thread is to make the heap; false when somebody has made it, or nobody can. */
static bool
become_maker(void)
{
    const int self = (int)getpid();
    /* Acquire, here and in the exchange, pairs with the release in boot_make_heap(): DONE comes after the heap. */
    int found = atomic_load_explicit(&maker, memory_order_acquire);
    while (found != DONE && found != FAILED) {
        if (found == self) {
            wait_while(found);
            found = atomic_load_explicit(&maker, memory_order_acquire);
        } else if (atomic_compare_exchange_strong_explicit(&maker, &found, self, memory_order_acquire,
                                                           memory_order_acquire)) {
            return true;
        }
    }
    return false;
}

hshm_allocator *
boot_make_heap(void)
{
    /* The loader may call before the C library knows the environment, and with it our settings. */
    if (making || (environ == NULL && spare_is_plenty()))
        return NULL;
    if (become_maker()) {
        making = true;
        hshm_allocator *heap = make();
        making = false;
        hshm_allocator *none = NULL;
        /* Release pairs with the acquire in boot_get_heap(). */
        if (heap != NULL)
            (void)atomic_compare_exchange_strong_explicit(&boot_heap, &none, heap, memory_order_acq_rel,
                                                          memory_order_acquire);
        const bool made = atomic_load_explicit(&boot_heap, memory_order_acquire) != NULL;
        atomic_store_explicit(&maker, made ? DONE : FAILED, memory_order_release);
        wake_all();
    }
    return atomic_load_explicit(&boot_heap, memory_order_acquire);
}

bool
boot_has_failed(void)
{
    return atomic_load_explicit(&maker, memory_order_acquire) == FAILED;
}

bool
boot_debugs(void)
{
    return settings.debug;
}

/* ---- at exit ---- */

static const char *
kind_name(hshm_allocator_kind kind)
{
    switch (kind) {
    case HSHM_ALLOCATOR_THREAD_LOCAL:
        return "thread_local";
    case HSHM_ALLOCATOR_SCALABLE_PAGE:
        return "scalable_page";
    case HSHM_ALLOCATOR_STACK:
        return "stack";
    case HSHM_ALLOCATOR_ANY:
    case HSHM_ALLOCATOR_MALLOC:
        break;
    }
    return "?";
}

/* Many programs close stderr before this; a file gets the line from them too, and from all their children. */
static int
open_stats(void)
{
    return strcmp(settings.stats, "1") == 0
               ? STDERR_FILENO
               : open(settings.stats, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
}

__attribute__((destructor)) static void
tell_stats(void)
{
    hshm_allocator *heap = atomic_load_explicit(&boot_heap, memory_order_acquire);
    hshm_stats stats = HSHM_STATS_INIT;
    if (heap == NULL || settings.stats[0] == '\0' || hshm_stats_get(heap, &stats) != HSHM_OK)
        return;
    const int fd = open_stats();
    say_to(fd,
           "pid %d, %s: %" PRIu64 " blocks taken, %" PRIu64 " freed, %" PRIu64 " refused; %" PRIu64 " live (%" PRIu64
           " KiB), %" PRIu64 " KiB at most; %" PRIu64 " KiB committed of %" PRIu64,
           (int)getpid(), kind_name(hshm_allocator_kind_of(heap)), stats.allocs, stats.frees, stats.failures,
           stats.live_blocks, stats.live_bytes >> 10, stats.peak_bytes >> 10, stats.committed >> 10,
           stats.region_bytes >> 10);
    if (fd != STDERR_FILENO && fd >= 0)
        (void)close(fd);
}
