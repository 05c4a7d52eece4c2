/*
 * single_process.c - the shortest whole program: a heap in POSIX shared memory, one block, a custom header, clean-up.
 *
 *     single_process [SIZE_MIB [NAME]]        1024 MiB, and a name of its own, unless told otherwise
 *
 * Whatever goes wrong is said in a sentence, the program exits with 1, and nothing stays in /dev/shm.
 */
#include <hshm/hshm.h>

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

enum { BACKEND_ID = 0, BLOCK_SIZE = 1024 };

/* Go on only if a call of the library went well. */
static void
check(hshm_status status, const char *what)
{
    if (status == HSHM_OK)
        return;
    fprintf(stderr, "single_process: %s: %s\n", what, hshm_last_error());
    hshm_backend_destroy(NULL, BACKEND_ID); /* harmless if there is none */
    exit(EXIT_FAILURE);
}

/* Go on only if things are as promised. */
static void
expect(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "single_process: %s\n", what);
    hshm_backend_destroy(NULL, BACKEND_ID);
    exit(EXIT_FAILURE);
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
    char name[64];
    snprintf(name, sizeof name, "my_shared_memory.%d", (int)getpid());
    const char *url = argc > 2 ? argv[2] : name;

    /* This takes a moment only: Ctrl-C may wait until all is tidied up. */
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigprocmask(SIG_BLOCK, &held, NULL);

    /* Step 1: a backend, which has the bytes.  Lazy: the system finds the memory page by page, as it is touched. */
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    check(hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, size_mib * MIB, url, &options, NULL),
          "cannot create the backend");
    if (size_mib % 1024 == 0)
        printf("Created backend with ID %d, size %lu GB\n", BACKEND_ID, size_mib / 1024);
    else
        printf("Created backend with ID %d, size %lu MB\n", BACKEND_ID, size_mib);

    /* Step 2: an allocator on it, which cuts the bytes into blocks, with room for a header of ours. */
    const hshm_allocator_id id = { 1, 0 };
    check(hshm_allocator_create(NULL, BACKEND_ID, id, HSHM_ALLOCATOR_STACK, sizeof(_Atomic int), NULL, NULL),
          "cannot create the allocator");

    /* Step 3: look it up by its id, as any other part of a program would, and use it. */
    hshm_allocator *allocator;
    check(hshm_allocator_get(NULL, id, HSHM_ALLOCATOR_STACK, &allocator), "cannot get the allocator");
    printf("✓ Stack allocator created successfully\n");

    /* Atomic, since other processes may look at it at the same time. */
    _Atomic int *custom_header = hshm_allocator_custom_header(allocator, NULL);
    atomic_store(custom_header, 0x12345678);

    hshm_ptr block;
    check(hshm_allocate(allocator, BLOCK_SIZE, &block), "cannot allocate");
    printf("Allocated %d bytes at offset %" PRIu64 "\n", BLOCK_SIZE, block.shm.off);
    memset(block.addr, 0xab, BLOCK_SIZE);
    expect(hshm_to_addr(allocator, block.shm.off) == block.addr, "offset and address are not of the same block");
    check(hshm_deallocate(allocator, &block), "cannot free the block");
    expect(block.addr == NULL && block.shm.off == HSHM_OFF_NULL, "the freed pointer is not null");

    printf("Custom header: 0x%08X\n", (unsigned)atomic_load(custom_header));
    expect(atomic_load(custom_header) == 0x12345678, "the custom header did not persist");

    /* Step 4: clean up.  What this process created, its destroy removes from /dev/shm. */
    check(hshm_allocator_unregister(NULL, id), "cannot unregister the allocator");
    check(hshm_backend_destroy(NULL, BACKEND_ID), "cannot destroy the backend");
    expect(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, url, NULL, NULL) == HSHM_E_NOTFOUND,
           "the name can still be attached to");
    printf("Cleanup completed\n");
    return EXIT_SUCCESS;
}
