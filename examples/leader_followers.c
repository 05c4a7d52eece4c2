/*
 * leader_followers.c - the pattern of MPI programs: rank 0 creates a heap, all other ranks attach to it by name.
 *
 *     leader_followers [RANKS [NAME]]         4 ranks, and a name of its own, unless told otherwise
 *
 * Instead of mpirun, this program starts itself once for each rank, and a pair of sockets to each rank is the barrier:
 *
 *     rank 0 (leader)                         rank 1 .. N-1 (followers, each a program of its own by exec)
 *     clean up what does not exist            clean up what does not exist
 *     create backend, allocator, header
 *     ------------------------------ barrier: the heap is there -------------------------------
 *                                             attach, check the header, allocate and fill blocks,
 *                                             publish their offsets, count them in the header
 *     ------------------------------ barrier: the blocks are there ----------------------------
 *     read all blocks, free all of them
 *     ------------------------------ barrier: the blocks are gone -----------------------------
 *                                             detach, end
 *     wait for the followers, destroy
 *
 * A rank that finds something wrong says so and ends.  The others notice by their sockets, and rank 0 removes the heap
 * whatever happens.
 */
#include <hshm/hshm.h>

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define ALLOCATOR_ID ((hshm_allocator_id){ 1, 0 })

enum { BACKEND_ID = 0, RANKS_MAX = 64, BLOCKS_PER_RANK = 8, HEADER_VERSION = 1, ATTACH_TIMEOUT_MS = 10000 };

#define HEADER_MAGIC 0xDEADBEEFu

/* Shared: the heap's custom header.  Atomic, as all ranks use it at once. */
struct allocator_header {
    _Atomic uint32_t magic_number; /* HEADER_MAGIC once the rest is filled in; stored last */
    _Atomic uint32_t version;
    _Atomic uint64_t total_allocations;
    _Atomic uint64_t current_usage; /* bytes asked for and not yet freed */
    _Atomic uint64_t peak_usage;    /* the most that current_usage ever was */
    _Atomic hshm_off blocks[];      /* BLOCKS_PER_RANK for each rank: what the followers publish */
};

/* Local: this process. */
static int rank;
static int ranks;
static int leader = -1;          /* a follower's socket to rank 0                  */
static int followers[RANKS_MAX]; /* rank 0's sockets to the others; 0 = not started */

/* End this rank.  Rank 0 sends the others home first (at its end of a socket, they end too), and removes the heap. */
_Noreturn static void
leave(int exit_status)
{
    for (int i = 1; rank == 0 && i < ranks; i++) {
        if (followers[i] != 0)
            close(followers[i]);
    }
    int status;
    while (rank == 0 && wait(&status) > 0) {
        if (status != 0)
            exit_status = EXIT_FAILURE;
    }
    /* In a process that only attached, this removes nothing: the name is its creator's. */
    hshm_allocator_unregister(NULL, ALLOCATOR_ID);
    const hshm_status destroyed = hshm_backend_destroy(NULL, BACKEND_ID);
    if (destroyed != HSHM_OK && destroyed != HSHM_E_NOTFOUND) {
        fprintf(stderr, "Rank %d: ✗ cannot destroy the backend: %s\n", rank, hshm_last_error());
        exit_status = EXIT_FAILURE;
    }
    if (rank == 0 && exit_status == EXIT_SUCCESS)
        printf("Rank 0: Cleanup completed\n");
    exit(exit_status);
}

/* Go on only if things are as they should be. */
static void
expect(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "Rank %d: ✗ %s\n", rank, what);
    leave(EXIT_FAILURE);
}

/* Go on only if a call of the library went well. */
static void
check(hshm_status status, const char *what)
{
    if (status == HSHM_OK)
        return;
    fprintf(stderr, "Rank %d: ✗ %s: %s\n", rank, what, hshm_last_error());
    leave(EXIT_FAILURE);
}

/* One line, at once: the ranks write to the same place. */
static void
say(const char *what)
{
    printf("Rank %d: %s\n", rank, what);
    fflush(stdout);
}

/* Wait until all ranks have come here: each follower tells rank 0, which tells them all when the last has come. */
static void
barrier(void)
{
    char byte = 0;
    if (rank != 0) {
        expect(write(leader, &byte, 1) == 1 && read(leader, &byte, 1) == 1, "rank 0 is gone");
        return;
    }
    for (int i = 1; i < ranks; i++)
        expect(read(followers[i], &byte, 1) == 1, "a follower is gone");
    for (int i = 1; i < ranks; i++)
        expect(write(followers[i], &byte, 1) == 1, "a follower is gone");
}

/* What a program does first that may have run before: nothing of it is there, and that is harmless. */
static void
clean_up_existing(void)
{
    expect(hshm_allocator_unregister(NULL, ALLOCATOR_ID) == HSHM_E_NOTFOUND, "an allocator was there already");
    expect(hshm_backend_destroy(NULL, BACKEND_ID) == HSHM_E_NOTFOUND, "a backend was there already");
}

static size_t
header_size(void)
{
    return sizeof(struct allocator_header) + (size_t)(ranks * BLOCKS_PER_RANK) * sizeof(hshm_off);
}

/* What the blocks look like, by their place in allocator_header.blocks: any rank can tell whether they are right. */
static size_t
block_size(int nth)
{
    return (size_t)(100 + nth);
}

/* ---- Followers -------------------------------------------------------------------------------------------------- */

static hshm_allocator *
attach(const char *name)
{
    say("Attaching to shared memory backend");
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.timeout_ms = ATTACH_TIMEOUT_MS;
    check(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, &options, NULL), "Failed to attach");
    hshm_allocator *allocator;
    check(hshm_allocator_get(NULL, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, &allocator),
          "Failed to get allocator after attach");

    size_t size = 0;
    struct allocator_header *header = hshm_allocator_custom_header(allocator, &size);
    /* Pairs with the release in create(): after the magic number, the rest of the header can be seen. */
    expect(size == header_size() && atomic_load_explicit(&header->magic_number, memory_order_acquire) == HEADER_MAGIC &&
               atomic_load(&header->version) == HEADER_VERSION,
           "Shared header validation failed");
    say("✓ Successfully attached to shared allocator");
    return allocator;
}

static void
count_allocation(struct allocator_header *header, size_t size)
{
    atomic_fetch_add(&header->total_allocations, 1);
    const uint64_t usage = atomic_fetch_add(&header->current_usage, size) + size;
    uint64_t peak = atomic_load(&header->peak_usage);
    /* A failed exchange reads the peak anew; somebody may have raised it beyond ours meanwhile. */
    while (usage > peak && !atomic_compare_exchange_weak(&header->peak_usage, &peak, usage))
        continue;
}

static void
allocate_blocks(hshm_allocator *allocator)
{
    struct allocator_header *header = hshm_allocator_custom_header(allocator, NULL);
    for (int nth = rank * BLOCKS_PER_RANK; nth < (rank + 1) * BLOCKS_PER_RANK; nth++) {
        unsigned char *block = hshm_malloc(allocator, block_size(nth));
        check(block != NULL ? HSHM_OK : hshm_last_status(), "cannot allocate");
        memset(block, nth & 0xff, block_size(nth));
        count_allocation(header, block_size(nth));
        /* Publish: who reads this offset sees the content.  Pairs with the acquire in check_block(). */
        atomic_store_explicit(&header->blocks[nth], hshm_to_off(allocator, block), memory_order_release);
    }
}

/* `leader_followers --follower RANK RANKS NAME SOCKET` */
_Noreturn static void
follow(char *argv[])
{
    rank = atoi(argv[0]);
    ranks = atoi(argv[1]);
    leader = atoi(argv[3]);
    clean_up_existing();
    barrier(); /* the heap is there */
    hshm_allocator *allocator = attach(argv[2]);
    allocate_blocks(allocator);
    barrier(); /* the blocks are there */
    barrier(); /* the blocks are gone */
    leave(EXIT_SUCCESS);
}

/* ---- The leader ------------------------------------------------------------------------------------------------- */

static void
start_follower(int its_rank, const char *name)
{
    int ends[2];
    expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socket for a follower");
    const pid_t pid = fork();
    if (pid == 0) {
        char numbers[3][16];
        const int values[3] = { its_rank, ranks, dup(ends[1]) }; /* the copy survives the exec, all else is closed */
        for (int i = 0; i < 3; i++)
            snprintf(numbers[i], sizeof numbers[i], "%d", values[i]);
        execl("/proc/self/exe", "leader_followers", "--follower", numbers[0], numbers[1], name, numbers[2], NULL);
        _exit(EXIT_FAILURE);
    }
    close(ends[1]);
    followers[its_rank] = ends[0];
    expect(pid > 0, "no process for a follower");
}

static hshm_allocator *
create(const char *name)
{
    say("Setting up shared memory backend and allocator");
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.replace = HSHM_REPLACE_DEAD; /* should an earlier run have been killed, take its place */
    options.commit = HSHM_COMMIT_LAZY;   /* memory as it is touched, not a gigabyte now */
    check(hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 1024 * MIB, name, &options, NULL),
          "cannot create the backend");
    hshm_allocator *allocator;
    check(hshm_allocator_create(NULL, BACKEND_ID, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, header_size(), NULL, &allocator),
          "cannot create the allocator");

    /* All else in the header is zero when new, as it should be. */
    struct allocator_header *header = hshm_allocator_custom_header(allocator, NULL);
    atomic_store(&header->version, HEADER_VERSION);
    atomic_store_explicit(&header->magic_number, HEADER_MAGIC, memory_order_release);
    say("✓ Created Stack allocator with shared header");
    return allocator;
}

/* Read one block that a follower wrote, and free it: a block belongs to the heap, not to who allocated it. */
static void
check_block(hshm_allocator *allocator, struct allocator_header *header, int nth)
{
    const hshm_shm_ptr shared = { ALLOCATOR_ID, atomic_load_explicit(&header->blocks[nth], memory_order_acquire) };
    void *addr = NULL;
    check(hshm_resolve(NULL, shared, &addr), "a follower published no place in the heap");
    expect(addr != NULL, "a follower published nothing");
    const unsigned char *bytes = addr;
    for (size_t i = 0; i < block_size(nth); i++)
        expect(bytes[i] == (nth & 0xff), "a block does not hold what its follower wrote");
    check(hshm_free(allocator, addr), "cannot free a follower's block");
    atomic_fetch_sub(&header->current_usage, block_size(nth));
}

/* Compare what the followers counted with what they must have counted, then read and free all blocks. */
static void
check_followers(hshm_allocator *allocator)
{
    struct allocator_header *header = hshm_allocator_custom_header(allocator, NULL);
    const uint64_t total = atomic_load(&header->total_allocations);
    const uint64_t peak = atomic_load(&header->peak_usage);
    uint64_t bytes = 0;
    for (int nth = BLOCKS_PER_RANK; nth < ranks * BLOCKS_PER_RANK; nth++)
        bytes += block_size(nth);
    expect(total == (uint64_t)(ranks - 1) * BLOCKS_PER_RANK, "total_allocations is wrong");
    expect(peak == bytes, "peak_usage is wrong");

    for (int nth = BLOCKS_PER_RANK; nth < ranks * BLOCKS_PER_RANK; nth++)
        check_block(allocator, header, nth);
    hshm_stats stats = HSHM_STATS_INIT;
    check(hshm_stats_get(allocator, &stats), "no statistics");
    expect(stats.live_blocks == 0 && stats.frees == total && atomic_load(&header->current_usage) == 0,
           "the heap is not empty again");
    printf("Rank 0: ✓ %" PRIu64 " allocations by %d followers, peak usage %" PRIu64 " bytes, all contents right\n",
           total, ranks - 1, peak);
}

int
main(int argc, char *argv[])
{
    signal(SIGPIPE, SIG_IGN); /* a rank that is gone is noticed at the barrier */
    if (argc == 6 && strcmp(argv[1], "--follower") == 0)
        follow(argv + 2);

    char *end = NULL;
    const long wanted = argc > 1 ? strtol(argv[1], &end, 10) : 4;
    if (argc > 3 || (end != NULL && *end != '\0') || wanted < 2 || wanted > RANKS_MAX) {
        fprintf(stderr, "usage: leader_followers [RANKS [NAME]], with 2 to %d ranks\n", RANKS_MAX);
        return EXIT_FAILURE;
    }
    ranks = (int)wanted;
    char own_name[64];
    snprintf(own_name, sizeof own_name, "mpi_shared_allocator.%d", (int)getpid());
    const char *name = argc > 2 ? argv[2] : own_name;

    /* This takes a moment only: Ctrl-C may wait until all is tidied up.  The followers inherit it. */
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigprocmask(SIG_BLOCK, &held, NULL);

    clean_up_existing();
    /* Started first, as by mpirun: no rank inherits anything of the heap. */
    for (int i = 1; i < ranks; i++)
        start_follower(i, name);
    hshm_allocator *allocator = create(name);
    barrier(); /* the heap is there */
    barrier(); /* the blocks are there */
    check_followers(allocator);
    barrier(); /* the blocks are gone */
    leave(EXIT_SUCCESS);
}
