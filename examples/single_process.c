/*
 * single_process.c - the shortest whole program: a heap in POSIX shared memory, one block, a custom header, clean-up.
 *
 *     single_process [SIZE_MIB [NAME]]        1024 MiB, and a name of its own, unless told otherwise
 *
 * It prints what happens and checks that it is what was promised; if not, it says so and exits with 1.  Whatever
 * happens, nothing stays in /dev/shm.
 */
#include <hshm/hshm.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define ALLOCATOR_ID ((hshm_allocator_id){ 1, 0 })

enum { BACKEND_ID = 0, BLOCK_SIZE = 1024, CUSTOM_METADATA = 0x12345678 };

/* Say what was not as promised. */
static bool
check(bool holds, const char *what)
{
    if (!holds)
        fprintf(stderr, "single_process: %s\n", what);
    return holds;
}

/* The same for a call of the library, with its own sentence about what went wrong. */
static bool
check_ok(hshm_status status, const char *what)
{
    if (status != HSHM_OK)
        fprintf(stderr, "single_process: %s: %s\n", what, hshm_last_error());
    return status == HSHM_OK;
}

/* The same for a call that ends something: that it was not there is fine too. */
static bool
check_ended(hshm_status status, const char *what)
{
    return status == HSHM_E_NOTFOUND || check_ok(status, what);
}

/* Step 1: bytes. */
static bool
create_backend(const char *name, size_t size)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    /* A gigabyte of addresses for one small block: let the system find the memory page by page, as it is touched. */
    options.commit = HSHM_COMMIT_LAZY;
    const hshm_status status =
        hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, size, name, &options, NULL);
    if (!check_ok(status, "the backend was not created"))
        return false;
    if (size % (1024 * MIB) == 0)
        printf("Created backend with ID %d, size %zu GB\n", BACKEND_ID, size / (1024 * MIB));
    else
        printf("Created backend with ID %d, size %zu MB\n", BACKEND_ID, size / MIB);
    return true;
}

/* Step 2: a way to cut them into blocks.  Step 3: look it up by its id, as any other part of a program would. */
static bool
create_allocator(hshm_allocator **ret_allocator)
{
    hshm_status status =
        hshm_allocator_create(NULL, BACKEND_ID, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, sizeof(_Atomic int), NULL, NULL);
    if (!check_ok(status, "the allocator was not created"))
        return false;
    hshm_allocator *allocator;
    status = hshm_allocator_get(NULL, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, &allocator);
    if (!check_ok(status, "the allocator was not found"))
        return false;
    printf("✓ Stack allocator created successfully\n");
    *ret_allocator = allocator;
    return true;
}

static bool
use_allocator(hshm_allocator *allocator)
{
    /* Initialize the custom header.  Others may be attached already, hence atomic. */
    size_t header_size = 0;
    _Atomic int *custom_header = hshm_allocator_custom_header(allocator, &header_size);
    if (!check(custom_header != NULL && header_size == sizeof *custom_header, "the custom header is not there") ||
        !check(atomic_load(custom_header) == 0, "the custom header is not zero when new"))
        return false;
    atomic_store(custom_header, CUSTOM_METADATA);

    hshm_ptr block;
    if (!check_ok(hshm_allocate(allocator, BLOCK_SIZE, &block), "the block was not allocated"))
        return false;
    printf("Allocated %d bytes at offset %" PRIu64 "\n", BLOCK_SIZE, block.shm.off);
    memset(block.addr, 0xab, BLOCK_SIZE);
    if (!check(hshm_to_addr(allocator, block.shm.off) == block.addr, "offset and address are not of the same block") ||
        !check(hshm_usable_size(allocator, block.addr) >= BLOCK_SIZE, "the block is smaller than asked for") ||
        !check_ok(hshm_deallocate(allocator, &block), "the block was not freed") ||
        !check(block.addr == NULL && block.shm.off == HSHM_OFF_NULL, "the freed pointer is not null"))
        return false;

    hshm_stats stats = HSHM_STATS_INIT;
    if (!check_ok(hshm_stats_get(allocator, &stats), "no statistics") ||
        !check(stats.live_blocks == 0 && stats.frees == 1, "the statistics do not show one block come and gone"))
        return false;
    printf("Custom header: 0x%08X\n", (unsigned)atomic_load(custom_header));
    return check(atomic_load(custom_header) == CUSTOM_METADATA, "the custom header did not persist");
}

/* Step 4, also after a failure: what was not created is not found, which is harmless. */
static bool
clean_up(const char *name)
{
    const bool unregistered =
        check_ended(hshm_allocator_unregister(NULL, ALLOCATOR_ID), "the allocator was not unregistered");
    const bool destroyed = check_ended(hshm_backend_destroy(NULL, BACKEND_ID), "the backend was not destroyed");
    const hshm_status status = hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, NULL);
    return check(status == HSHM_E_NOTFOUND, "the name can still be attached to") && unregistered && destroyed;
}

/* The same question, but not to the library. */
static bool
check_nothing_left(const char *name)
{
    char path[PATH_MAX];
    struct stat about;
    snprintf(path, sizeof path, "/dev/shm/%s", name);
    if (lstat(path, &about) == -1 && errno == ENOENT)
        return true;
    fprintf(stderr, "single_process: '%s' was left behind\n", path);
    return false;
}

int
main(int argc, char *argv[])
{
    char *end = NULL;
    const unsigned long size_mib = argc > 1 ? strtoul(argv[1], &end, 10) : 1024;
    if (argc > 3 || (end != NULL && *end != '\0') || size_mib == 0 || size_mib > SIZE_MAX / MIB) {
        fprintf(stderr, "usage: single_process [SIZE_MIB [NAME]]\n");
        return EXIT_FAILURE;
    }
    char name[HSHM_NAME_MAX + 1];
    snprintf(name, sizeof name, "my_shared_memory.%d", (int)getpid());

    /* Ctrl-C comes when all is tidied up: this takes a moment only. */
    sigset_t held, before;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigprocmask(SIG_BLOCK, &held, &before);

    const char *url = argc > 2 ? argv[2] : name;
    hshm_allocator *allocator;
    const bool created = create_backend(url, size_mib * MIB);
    bool ok = created && create_allocator(&allocator) && use_allocator(allocator);
    /* If the name was somebody else's, it is to stay. */
    if (created)
        ok = clean_up(url) && check_nothing_left(url) && ok;
    if (ok)
        printf("Cleanup completed\n");

    sigprocmask(SIG_SETMASK, &before, NULL);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
