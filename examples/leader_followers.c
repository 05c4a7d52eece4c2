/*
 * leader_followers.c - the pattern of MPI programs: rank 0 creates a heap, all other ranks attach to it by name.
 *
 *     leader_followers [RANKS [NAME]]         4 ranks, and a name of its own, unless told otherwise
 *
 * Instead of mpirun, this program starts itself once for each rank, and two pipes to each rank are the barrier:
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
 * Everything is checked on the way.  A rank that fails ends, the others notice by their pipes, and rank 0 removes the
 * heap whatever happens.
 */
#include <hshm/hshm.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* Local: what rank 0 knows of a follower. */
struct follower {
    pid_t pid;
    int from; /* the follower's word that it has come to the barrier; at its end if the follower is dead */
    int to;   /* ours that all have come */
};

static int my_rank;

/* Say what was not as promised. */
static bool
check(bool holds, const char *what)
{
    if (!holds)
        fprintf(stderr, "Rank %d: ✗ %s\n", my_rank, what);
    return holds;
}

/* The same for a call of the library, with its own sentence about what went wrong. */
static bool
check_ok(hshm_status status, const char *what)
{
    if (status != HSHM_OK)
        fprintf(stderr, "Rank %d: ✗ %s: %s\n", my_rank, what, hshm_last_error());
    return status == HSHM_OK;
}

/* The same for a call that ends something: that it was not there is fine too. */
static bool
check_ended(hshm_status status, const char *what)
{
    return status == HSHM_E_NOTFOUND || check_ok(status, what);
}

/* One line, at once: the ranks write to the same place. */
static void
say(const char *what)
{
    printf("Rank %d: %s\n", my_rank, what);
    fflush(stdout);
}

static size_t
header_size(int ranks)
{
    return sizeof(struct allocator_header) + (size_t)ranks * BLOCKS_PER_RANK * sizeof(hshm_off);
}

/* What a rank's blocks look like, so that another rank can tell whether they are right. */
static size_t
block_size(int rank, int nth)
{
    return (size_t)(100 * (nth + 1) + rank);
}

static unsigned char
block_pattern(int rank, int nth)
{
    return (unsigned char)(rank * BLOCKS_PER_RANK + nth + 1);
}

/* What a program does first that may have run before: nothing of it is there, and that is harmless. */
static bool
clean_up_nothing(void)
{
    return check(hshm_allocator_unregister(NULL, ALLOCATOR_ID) == HSHM_E_NOTFOUND, "an unknown allocator was found") &&
           check(hshm_backend_destroy(NULL, BACKEND_ID) == HSHM_E_NOTFOUND, "an unknown backend was found");
}

/* ---- Followers -------------------------------------------------------------------------------------------------- */

/* Tell rank 0 that we are here, and wait for its word that all are. */
static bool
follower_barrier(int to_leader, int from_leader)
{
    char byte = 0;
    return check(write(to_leader, &byte, 1) == 1 && read(from_leader, &byte, 1) == 1, "rank 0 is gone");
}

static bool
attach(const char *name, int ranks, hshm_allocator **ret_allocator)
{
    say("Attaching to shared memory backend");
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.timeout_ms = ATTACH_TIMEOUT_MS;
    hshm_status status = hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, &options, NULL);
    if (!check_ok(status, "Failed to attach"))
        return false;
    hshm_allocator *allocator;
    status = hshm_allocator_get(NULL, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, &allocator);
    if (!check_ok(status, "Failed to get allocator after attach"))
        return false;

    size_t size = 0;
    struct allocator_header *header = hshm_allocator_custom_header(allocator, &size);
    /* Pairs with the release in create(): after the magic number, the rest of the header can be seen. */
    const bool valid = size == header_size(ranks) &&
                       atomic_load_explicit(&header->magic_number, memory_order_acquire) == HEADER_MAGIC &&
                       atomic_load(&header->version) == HEADER_VERSION;
    if (!check(valid, "Shared header validation failed"))
        return false;
    say("✓ Successfully attached to shared allocator");
    *ret_allocator = allocator;
    return true;
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

static bool
allocate_blocks(hshm_allocator *allocator, int rank)
{
    struct allocator_header *header = hshm_allocator_custom_header(allocator, NULL);
    for (int nth = 0; nth < BLOCKS_PER_RANK; nth++) {
        const size_t size = block_size(rank, nth);
        unsigned char *block = hshm_malloc(allocator, size);
        if (!check_ok(block != NULL ? HSHM_OK : hshm_last_status(), "a block was not allocated"))
            return false;
        memset(block, block_pattern(rank, nth), size);
        count_allocation(header, size);
        /* Publish: who reads this offset sees the content.  Pairs with the acquire in check_block(). */
        atomic_store_explicit(&header->blocks[rank * BLOCKS_PER_RANK + nth], hshm_to_off(allocator, block),
                              memory_order_release);
    }
    return true;
}

/* `leader_followers --follower RANK RANKS NAME TO_LEADER FROM_LEADER` */
static int
follower_main(char *argv[])
{
    my_rank = atoi(argv[0]);
    const int ranks = atoi(argv[1]);
    const char *name = argv[2];
    const int to_leader = atoi(argv[3]);
    const int from_leader = atoi(argv[4]);
    signal(SIGPIPE, SIG_IGN);

    hshm_allocator *allocator;
    if (!clean_up_nothing())
        return EXIT_FAILURE;
    if (!follower_barrier(to_leader, from_leader) || !attach(name, ranks, &allocator)) /* the heap is there */
        return EXIT_FAILURE;
    if (!allocate_blocks(allocator, my_rank) || !follower_barrier(to_leader, from_leader)) /* the blocks are there */
        return EXIT_FAILURE;
    if (!follower_barrier(to_leader, from_leader)) /* the blocks are gone */
        return EXIT_FAILURE;
    /* In a process that only attached this removes nothing: the name is its creator's. */
    const bool unregistered =
        check_ok(hshm_allocator_unregister(NULL, ALLOCATOR_ID), "the allocator was not unregistered");
    const bool left = check_ok(hshm_backend_destroy(NULL, BACKEND_ID), "the backend was not left");
    return unregistered && left ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- The leader ------------------------------------------------------------------------------------------------- */

/* In the new process: become the follower.  Only its own two descriptors survive the exec. */
static void
become_follower(int rank, int ranks, const char *name, int to_leader, int from_leader)
{
    char numbers[4][16];
    const int values[4] = { rank, ranks, to_leader, from_leader };
    for (int i = 0; i < 4; i++)
        snprintf(numbers[i], sizeof numbers[i], "%d", values[i]);
    char program[] = "leader_followers", role[] = "--follower";
    char *arguments[] = {
        program, role, numbers[0], numbers[1], (char *)(uintptr_t)name, numbers[2], numbers[3], NULL
    };
    fcntl(to_leader, F_SETFD, 0);
    fcntl(from_leader, F_SETFD, 0);
    execv("/proc/self/exe", arguments);
    _exit(127);
}

static bool
start_follower(int rank, int ranks, const char *name, struct follower *follower)
{
    int up[2], down[2];
    if (!check(pipe2(up, O_CLOEXEC) == 0, "no pipe"))
        return false;
    if (!check(pipe2(down, O_CLOEXEC) == 0, "no pipe")) {
        close(up[0]);
        close(up[1]);
        return false;
    }
    const pid_t pid = fork();
    if (pid == 0)
        become_follower(rank, ranks, name, up[1], down[0]);
    close(up[1]);
    close(down[0]);
    *follower = (struct follower){ pid, up[0], down[1] };
    return check(pid > 0, "no process for a follower");
}

/* Wait until all followers have come, then let them go on; false when one of them has ended instead. */
static bool
leader_barrier(const struct follower *followers, int count)
{
    char byte = 0;
    for (int i = 0; i < count; i++)
        if (!check(read(followers[i].from, &byte, 1) == 1, "a follower is gone"))
            return false;
    for (int i = 0; i < count; i++)
        if (!check(write(followers[i].to, &byte, 1) == 1, "a follower is gone"))
            return false;
    return true;
}

/* Close the pipes, so that followers who wait at a barrier go home, and wait for all; false if one failed. */
static bool
dismiss_followers(const struct follower *followers, int count)
{
    bool ok = true;
    for (int i = 0; i < count; i++) {
        close(followers[i].from);
        close(followers[i].to);
    }
    for (int i = 0; i < count; i++) {
        int status = 0;
        if (followers[i].pid > 0 && waitpid(followers[i].pid, &status, 0) == followers[i].pid)
            ok = check(status == 0, "a follower failed") && ok;
    }
    return ok;
}

static bool
create(const char *name, int ranks, hshm_allocator **ret_allocator)
{
    say("Setting up shared memory backend and allocator");
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.replace = HSHM_REPLACE_DEAD; /* should an earlier run have been killed, take its place */
    options.commit = HSHM_COMMIT_LAZY;
    hshm_status status =
        hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 1024 * MIB, name, &options, NULL);
    if (!check_ok(status, "the backend was not created"))
        return false;
    hshm_allocator *allocator;
    status = hshm_allocator_create(NULL, BACKEND_ID, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, header_size(ranks), NULL,
                                   &allocator);
    if (!check_ok(status, "the allocator was not created"))
        return false;

    /* All else in the header is zero when new, as it should be. */
    struct allocator_header *header = hshm_allocator_custom_header(allocator, NULL);
    atomic_store(&header->version, HEADER_VERSION);
    atomic_store_explicit(&header->magic_number, HEADER_MAGIC, memory_order_release);
    say("✓ Created Stack allocator with shared header");
    *ret_allocator = allocator;
    return true;
}

/* Read one block that a follower wrote, and free it: a block belongs to the heap, not to who allocated it. */
static bool
check_block(hshm_allocator *allocator, struct allocator_header *header, int rank, int nth)
{
    _Atomic hshm_off *slot = &header->blocks[rank * BLOCKS_PER_RANK + nth];
    const hshm_shm_ptr shared = { ALLOCATOR_ID, atomic_load_explicit(slot, memory_order_acquire) };
    void *addr = NULL;
    if (!check(shared.off != HSHM_OFF_NULL, "a follower published nothing") ||
        !check_ok(hshm_resolve(NULL, shared, &addr), "a follower published no place in the heap"))
        return false;

    const unsigned char *bytes = addr;
    const size_t size = block_size(rank, nth);
    bool same = hshm_usable_size(allocator, addr) >= size;
    for (size_t i = 0; same && i < size; i++)
        same = bytes[i] == block_pattern(rank, nth);
    hshm_ptr block = { NULL, shared };
    if (!check(same, "a block does not hold what its follower wrote") ||
        !check_ok(hshm_deallocate(allocator, &block), "a follower's block was not freed"))
        return false;
    atomic_store(slot, HSHM_OFF_NULL);
    atomic_fetch_sub(&header->current_usage, size);
    return true;
}

static bool
check_totals(hshm_allocator *allocator, uint64_t live_blocks, uint64_t frees)
{
    hshm_stats stats = HSHM_STATS_INIT;
    return check_ok(hshm_stats_get(allocator, &stats), "no statistics") &&
           check(stats.live_blocks == live_blocks && stats.frees == frees,
                 "the heap's statistics and the shared header disagree");
}

/* Compare what the followers counted with what they must have counted, then read and free all blocks. */
static bool
check_followers(hshm_allocator *allocator, int ranks)
{
    struct allocator_header *header = hshm_allocator_custom_header(allocator, NULL);
    const uint64_t total = atomic_load(&header->total_allocations);
    const uint64_t peak = atomic_load(&header->peak_usage);
    uint64_t blocks = 0, bytes = 0;
    for (int rank = 1; rank < ranks; rank++) {
        for (int nth = 0; nth < BLOCKS_PER_RANK; nth++) {
            blocks++;
            bytes += block_size(rank, nth);
        }
    }
    if (!check(total == blocks, "total_allocations is wrong") || !check(peak == bytes, "peak_usage is wrong") ||
        !check_totals(allocator, blocks, 0))
        return false;
    for (int rank = 1; rank < ranks; rank++)
        for (int nth = 0; nth < BLOCKS_PER_RANK; nth++)
            if (!check_block(allocator, header, rank, nth))
                return false;
    printf("Rank 0: ✓ %" PRIu64 " allocations by %d followers, peak usage %" PRIu64 " bytes, all contents right\n",
           total, ranks - 1, peak);
    return check(atomic_load(&header->current_usage) == 0, "current_usage is wrong") &&
           check_totals(allocator, 0, blocks);
}

/*
 * Remove the heap, also after a failure, and ask the system, not the library, whether it is gone.
 * When the heap could not be created the name may be somebody else's, and stays.
 */
static bool
clean_up(const char *name, bool created)
{
    char path[PATH_MAX];
    struct stat about;
    snprintf(path, sizeof path, "/dev/shm/%s", name);
    const bool unregistered =
        check_ended(hshm_allocator_unregister(NULL, ALLOCATOR_ID), "the allocator was not unregistered");
    const bool destroyed = check_ended(hshm_backend_destroy(NULL, BACKEND_ID), "the backend was not destroyed");
    const bool gone = !created || (lstat(path, &about) == -1 && errno == ENOENT);
    return check(gone, "the heap was left behind in /dev/shm") && unregistered && destroyed;
}

static bool
lead(const char *name, int ranks)
{
    struct follower followers[RANKS_MAX];
    int count = 0;
    bool ok = clean_up_nothing();
    /* Started first, as by mpirun: no rank inherits anything of the heap. */
    while (ok && count < ranks - 1) {
        ok = start_follower(count + 1, ranks, name, &followers[count]);
        count += ok;
    }
    hshm_allocator *allocator = NULL;
    const bool created = ok && create(name, ranks, &allocator);
    ok = created && leader_barrier(followers, count); /* the heap is there */
    ok = ok && leader_barrier(followers, count);      /* the blocks are there */
    ok = ok && check_followers(allocator, ranks);
    ok = ok && leader_barrier(followers, count); /* the blocks are gone */
    ok = dismiss_followers(followers, count) && ok;
    return clean_up(name, created) && ok;
}

int
main(int argc, char *argv[])
{
    if (argc == 7 && strcmp(argv[1], "--follower") == 0)
        return follower_main(argv + 2);

    char *end = NULL;
    const long ranks = argc > 1 ? strtol(argv[1], &end, 10) : 4;
    if (argc > 3 || (end != NULL && *end != '\0') || ranks < 2 || ranks > RANKS_MAX) {
        fprintf(stderr, "usage: leader_followers [RANKS [NAME]], with 2 to %d ranks\n", RANKS_MAX);
        return EXIT_FAILURE;
    }
    char name[64];
    snprintf(name, sizeof name, "mpi_shared_allocator.%d", (int)getpid());

    /* Ctrl-C comes when all is tidied up: this takes a moment only.  The followers inherit it. */
    sigset_t held, before;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigprocmask(SIG_BLOCK, &held, &before);
    signal(SIGPIPE, SIG_IGN); /* a follower that is gone is noticed at the barrier */

    const bool ok = lead(argc > 2 ? argv[2] : name, (int)ranks);
    if (ok)
        say("Cleanup completed");
    sigprocmask(SIG_SETMASK, &before, NULL);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
