/*
 * errors.c - one rank cannot, and all are told so: the same status, the same sentence, nothing left.
 */
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ranks.h"

/* All fail alike, and after it all is well. */
static void
check_refused(const hshm_mpi_options *options, hshm_status wanted, const char *part)
{
    const struct shm_state before = shm_look();
    hshm_mpi *mpi = NULL;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, options, &mpi), wanted, part);
    CHECK(mpi == NULL);
    check_same_sentence();
    check_nothing_left(before);
}

static void
check_well(void)
{
    const hshm_mpi_options options = options_for_test();
    hshm_mpi *mpi = open_heaps(&options);
    CHECK_OK(hshm_mpi_close(&mpi));
}

#define ONE_DIFFERS(member, value, what)               \
    do {                                               \
        hshm_mpi_options options = options_for_test(); \
        if (rank == ranks - 1)                         \
            options.member = (value);                  \
        check_refused(&options, HSHM_E_INVAL, what);   \
    } while (0)

static void
options_that_differ(void)
{
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator_options allocator = HSHM_ALLOCATOR_OPTIONS_INIT;
    backend.mode = 0660;
    allocator.min_block = 256;
    ONE_DIFFERS(size, 4 * MIB, "options.size");
    ONE_DIFFERS(allocator, HSHM_ALLOCATOR_STACK, "options.allocator");
    ONE_DIFFERS(custom_header_size, 8, "options.custom_header_size");
    ONE_DIFFERS(name, "hshm-mpi-other", "options.name");
    ONE_DIFFERS(progress, HSHM_MPI_PROGRESS_CALLS, "options.progress");
    ONE_DIFFERS(engine, HSHM_MPI_WINDOW, "options.engine");
    ONE_DIFFERS(chunk, 8192, "options.chunk");
    ONE_DIFFERS(backend, &backend, "mode");
    ONE_DIFFERS(allocator_options, &allocator, "min_block");
    ONE_DIFFERS(name, "", "options.name");
    ONE_DIFFERS(backend_id, 3, "options.backend_id");
    ONE_DIFFERS(allocator_id, ((hshm_allocator_id){ 1, 7 }), "options.allocator_id");
    check_well();
}

static void
options_that_are_wrong(void)
{
    ONE_DIFFERS(struct_size, 3, "struct_size");
    ONE_DIFFERS(group, -1, "group");
    ONE_DIFFERS(chunk, 100, "chunk");
    ONE_DIFFERS(keep, true, "without a name");
    ONE_DIFFERS(reuse, HSHM_MPI_RECOVER, "without a name");
    ONE_DIFFERS(engine, (hshm_mpi_engine)9, "engine 9");
    ONE_DIFFERS(allocator, (hshm_allocator_kind)99, "allocator is 99");
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator_options allocator = HSHM_ALLOCATOR_OPTIONS_INIT;
    hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    backend.struct_size = allocator.struct_size = attach.struct_size = 0;
    ONE_DIFFERS(backend, &backend, "backend->struct_size is 0");
    ONE_DIFFERS(allocator_options, &allocator, "allocator_options->struct_size is 0");
    ONE_DIFFERS(attach, &attach, "attach->struct_size is 0");
    hshm_mpi_options options = options_for_test();
    options.size = 100;
    check_refused(&options, HSHM_E_INVAL, "too small");
    options = options_for_test();
    options.name = "a/b";
    check_refused(&options, HSHM_E_INVAL, "a/b");
    options = options_for_test();
    options.backend_kind = HSHM_BACKEND_MALLOC;
    check_refused(&options, HSHM_E_NOTSUP, "backend_kind");
    hshm_mpi *mpi = NULL;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_NULL, NULL, &mpi), HSHM_E_INVAL, "MPI_COMM_NULL");
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, NULL, NULL), HSHM_E_INVAL, "ret_mpi");
    /* On one rank: the others do not wait for it, but are told. */
    options = options_for_test();
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, rank == ranks - 1 ? NULL : &mpi), HSHM_E_INVAL, "ret_mpi");
    check_same_sentence();
    check_well();
}

/* On the last rank that leads a node: the others have made theirs already. */
static hshm_status
init_fails(hshm_allocator *heap, void *arg)
{
    (void)heap;
    const int leader = *(const int *)arg;
    if (rank != leader)
        return HSHM_OK;
    return hshm_set_last_error(HSHM_E_LIMIT, "no licence for this node");
}

static hshm_status
init_says_nothing(hshm_allocator *heap, void *arg)
{
    (void)heap;
    (void)arg;
    return HSHM_E_BUSY;
}

static void
init_that_fails(void)
{
    hshm_mpi_options options = options_for_test();
    hshm_mpi *mpi = open_heaps(&options);
    int leader = hshm_mpi_leader(mpi, hshm_mpi_nodes(mpi) - 1);
    CHECK_OK(hshm_mpi_close(&mpi));
    options.init = init_fails;
    options.init_arg = &leader;
    check_refused(&options, HSHM_E_LIMIT, "no licence for this node");
    options.init = init_says_nothing;
    check_refused(&options, HSHM_E_BUSY, "options.init answered HSHM_E_BUSY");
    check_well();
}

/* More than one node's /dev/shm has: by a file that fills it. */
static void
full_memory(void)
{
    CHECK(getenv("SIMHOSTS") != NULL); /* nobody else's is to be filled */
    const char filler[] = "/dev/shm/filler";
    struct statvfs fs;
    CHECK(statvfs("/dev/shm", &fs) == 0);
    const bool fills = rank == ranks - 1;
    if (fills) {
        FILE *file = fopen(filler, "we");
        CHECK(file != NULL);
        static const char bytes[64 * 1024];
        for (unsigned long long left = fs.f_bfree * fs.f_frsize - 4 * MIB; left > sizeof bytes; left -= sizeof bytes)
            CHECK(fwrite(bytes, sizeof bytes, 1, file) == 1);
        (void)fclose(file);
    }
    hshm_mpi_options options = options_for_test();
    check_refused(&options, HSHM_E_NOSPC, "/dev/shm has");
    if (fills)
        (void)unlink(filler);
    (void)MPI_Barrier(MPI_COMM_WORLD);
    check_well();
}

/* A rank that runs as another user: may not open what its leader made, unless the mode says so. */
static void
another_user(void)
{
    CHECK(geteuid() == 0);
    int node_rank = 0;
    hshm_mpi_options options = options_for_test();
    hshm_mpi *mpi = open_heaps(&options);
    (void)MPI_Comm_rank(hshm_mpi_node_comm(mpi), &node_rank);
    int followers = node_rank != 0;
    CHECK_OK(hshm_mpi_close(&mpi));
    (void)MPI_Allreduce(MPI_IN_PLACE, &followers, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    CHECK(followers > 0);
    if (node_rank != 0)
        CHECK(seteuid(65534) == 0);
    check_refused(&options, HSHM_E_PERM, "Permission denied");
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    backend.mode = 0666;
    options.backend = &backend;
    const struct shm_state before = shm_look();
    mpi = open_heaps(&options);
    CHECK(shm_look().names == before.names || getenv("SIMHOSTS") == NULL); /* the name was only there to attach */
    CHECK_OK(hshm_mpi_close(&mpi));
    if (node_rank != 0)
        CHECK(seteuid(0) == 0);
    check_nothing_left(before);
}

/* No room for addresses on one rank, which follows. */
static void
no_addresses(void)
{
    struct rlimit before;
    struct rlimit less;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    less = before;
    hshm_mpi_options options = options_for_test();
    options.size = 64 * MIB;
    if (rank == ranks - 1) {
        FILE *statm = fopen("/proc/self/statm", "re");
        unsigned long pages = 0;
        CHECK(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
        (void)fclose(statm);
        less.rlim_cur = pages * 4096 + 40 * MIB;
        CHECK(setrlimit(RLIMIT_AS, &less) == 0);
    }
    check_refused(&options, HSHM_E_NOSPC, "ulimit -v");
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    check_well();
}

/* ---- by hand ---- */

static void
agreement(void)
{
    CHECK_OK(hshm_mpi_agree(MPI_COMM_WORLD, HSHM_OK));
    hshm_status mine = HSHM_OK;
    if (rank == ranks - 1)
        mine = hshm_set_last_error(HSHM_E_PERM, "mine is broken");
    CHECK_STATUS(hshm_mpi_agree(MPI_COMM_WORLD, mine), HSHM_E_PERM, "mine is broken");
    check_same_sentence();
    char name[HSHM_NAME_MAX + 1];
    char again[HSHM_NAME_MAX + 1];
    CHECK_OK(hshm_mpi_unique_name(MPI_COMM_WORLD, "by.hand", name));
    CHECK_OK(hshm_mpi_unique_name(MPI_COMM_WORLD, "by.hand", again));
    CHECK(strcmp(name, again) != 0 && strncmp(name, "by.hand-", 8) == 0);
    memcpy(again, name, sizeof again);
    (void)MPI_Bcast(again, (int)sizeof again, MPI_CHAR, 0, MPI_COMM_WORLD);
    CHECK(strcmp(name, again) == 0);
    CHECK_STATUS(hshm_mpi_unique_name(MPI_COMM_WORLD, rank == 0 ? "a b" : "good", name), HSHM_E_INVAL, "prefix");
}

const struct mpi_case error_cases[] = {
    { "options_that_differ", options_that_differ },
    { "options_that_are_wrong", options_that_are_wrong },
    { "init_that_fails", init_that_fails },
    { "full_memory", full_memory },
    { "another_user", another_user },
    { "no_addresses", no_addresses },
    { "agreement", agreement },
    { NULL, NULL },
};
