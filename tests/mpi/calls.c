/*
 * calls.c - the library's calls to MPI, seen through MPI's profiling interface: counted, and ranks killed in them.
 *
 *     mpi_calls count [window]  open and close on 1, 2, 4, ... ranks, with groups: always the same number of collectives
 *     mpi_calls kill [NAME]    open, work, close; HSHM_TEST_KILL=rank:call makes a rank kill itself before that call to
 *                              MPI of the library's, counted from 1, and says nothing if there were not so many.  With
 *                              NAME the heap has that name, is kept, and recovered or created
 *     mpi_calls twin ROUNDS    open and close so often, and see nobody else's heap
 *     mpi_calls version        rank 1 claims to be of another version
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ranks.h"

int rank, ranks;

/* While the library is inside open or close; and in work. */
static bool counting;
static unsigned collectives, calls, killed_at;

static void
on_call(bool collective)
{
    if (!counting)
        return;
    collectives += collective;
    if (++calls == killed_at)
        (void)raise(SIGKILL);
}

/* The calls that the library makes; each does what MPI's own does. */
#define WRAP(collective, name, parameters, arguments) \
    int MPI_##name parameters                         \
    {                                                 \
        on_call(collective);                          \
        return PMPI_##name arguments;                 \
    }

WRAP(true, Comm_dup, (MPI_Comm comm, MPI_Comm *ret), (comm, ret))
WRAP(true, Comm_split, (MPI_Comm comm, int colour, int key, MPI_Comm *ret), (comm, colour, key, ret))
WRAP(true, Comm_split_type, (MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *ret),
     (comm, type, key, info, ret))
WRAP(true, Comm_free, (MPI_Comm * comm), (comm))
WRAP(true, Bcast, (void *bytes, int count, MPI_Datatype type, int root, MPI_Comm comm),
     (bytes, count, type, root, comm))
WRAP(true, Allreduce, (const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm),
     (in, out, count, type, op, comm))
WRAP(true, Allgather,
     (const void *in, int in_count, MPI_Datatype in_type, void *out, int out_count, MPI_Datatype out_type,
      MPI_Comm comm),
     (in, in_count, in_type, out, out_count, out_type, comm))
WRAP(true, Win_create, (void *base, MPI_Aint size, int unit, MPI_Info info, MPI_Comm comm, MPI_Win *ret),
     (base, size, unit, info, comm, ret))
WRAP(true, Win_free, (MPI_Win * window), (window))
WRAP(true, Barrier, (MPI_Comm comm), (comm))
WRAP(true, Ibarrier, (MPI_Comm comm, MPI_Request *request), (comm, request))
WRAP(false, Isend,
     (const void *bytes, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *request),
     (bytes, count, type, to, tag, comm, request))
WRAP(false, Irecv, (void *bytes, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *request),
     (bytes, count, type, from, tag, comm, request))
WRAP(false, Cancel, (MPI_Request * request), (request))

/* ---- another version ---- */

static bool claims_another_version;

const char *__real_hshm_version(void);
const char *__wrap_hshm_version(void);

/* The linker puts it in hshm_version()'s place (see CMakeLists.txt). */
const char *
__wrap_hshm_version(void)
{
    return claims_another_version ? "0.99.0" : __real_hshm_version();
}

/* ---- count ---- */

/* The leaders make the most of them: one among themselves. */
static unsigned
count_on(MPI_Comm comm, int groups, hshm_mpi_engine engine)
{
    hshm_mpi_options options = HSHM_MPI_OPTIONS_INIT;
    options.size = MIB;
    options.group = rank % groups;
    options.engine = engine;
    hshm_mpi *mpi = NULL;
    collectives = 0;
    counting = true;
    CHECK_OK(hshm_mpi_open(comm, &options, &mpi));
    const unsigned for_open = collectives;
    CHECK_OK(hshm_mpi_close(&mpi));
    counting = false;
    unsigned most[2] = { for_open, collectives };
    (void)MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_UNSIGNED, MPI_MAX, comm);
    if (rank == 0)
        printf("%u collectives to open, %u with close\n", most[0], most[1]);
    return most[1];
}

static void
count(hshm_mpi_engine engine)
{
    unsigned first = 0;
    for (int size = 1; size <= ranks; size *= 2) {
        MPI_Comm some = MPI_COMM_NULL;
        (void)MPI_Comm_split(MPI_COMM_WORLD, rank < size ? 0 : MPI_UNDEFINED, rank, &some);
        for (int groups = 1; groups <= 8 && some != MPI_COMM_NULL; groups *= 2) {
            if (rank == 0)
                printf("%2d ranks, %d groups: ", size, groups);
            /* Where there are several nodes a window is made and freed, too. */
            const unsigned windows = engine == HSHM_MPI_WINDOW && size > 1 && groups > 1 ? 2 : 0;
            const unsigned now = count_on(some, groups, engine) - windows;
            first = first == 0 ? now : first;
            CHECK(now == first);
        }
        if (some != MPI_COMM_NULL)
            (void)MPI_Comm_free(&some);
    }
}

/* ---- kill ---- */

static void
read_kill(void)
{
    const char *text = getenv("HSHM_TEST_KILL");
    char *end = NULL;
    if (text == NULL)
        return;
    const long who = strtol(text, &end, 10);
    if (who == rank && *end == ':')
        killed_at = (unsigned)strtoul(end + 1, NULL, 10);
}

static void
work(hshm_mpi *mpi)
{
    char bytes[5000] = "work";
    for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
        hshm_gptr there = HSHM_GPTR_NULL;
        CHECK_OK(hshm_mpi_alloc(mpi, node, sizeof bytes, &there));
        CHECK_OK(hshm_mpi_put(mpi, there, bytes, sizeof bytes));
        CHECK_OK(hshm_mpi_free(mpi, there));
    }
    CHECK_OK(hshm_mpi_fence(mpi));
}

static void
killed(const char *name)
{
    hshm_mpi_options options = options_for_test();
    options.size = 4 * MIB;
    options.name = name;
    options.keep = name != NULL;
    options.reuse = name != NULL ? HSHM_MPI_RECOVER : HSHM_MPI_NEW;
    read_kill();
    counting = true;
    hshm_mpi *mpi = open_heaps(&options);
    work(mpi);
    CHECK_OK(hshm_check(hshm_mpi_allocator(mpi), 0, NULL));
    CHECK_OK(hshm_mpi_close(&mpi));
    counting = false;
    unsigned most = calls;
    (void)MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_UNSIGNED, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0)
        printf("calls %u\n", most);
}

/* ---- twin ---- */

/* This job's mark is in its heaps, and no other's. */
static hshm_status
mark(hshm_allocator *heap, void *arg)
{
    _Atomic uint64_t *header = hshm_allocator_custom_header(heap, NULL);
    if (atomic_exchange(header, *(const uint64_t *)arg) != 0)
        return hshm_set_last_error(HSHM_E_CORRUPT, "somebody was here");
    return HSHM_OK;
}

static void
twin(unsigned rounds)
{
    uint64_t job = ((uint64_t)getpid() << 32) ^ (uint64_t)(uintptr_t)&job;
    (void)MPI_Bcast(&job, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    hshm_mpi_options options = options_for_test();
    options.size = MIB;
    options.custom_header_size = 2 * sizeof(uint64_t);
    options.init = mark;
    options.init_arg = &job;
    for (unsigned i = 0; i < rounds; i++) {
        hshm_mpi *mpi = open_heaps(&options);
        int node_ranks = 0;
        (void)MPI_Comm_size(hshm_mpi_node_comm(mpi), &node_ranks);
        _Atomic uint64_t *header = hshm_allocator_custom_header(hshm_mpi_allocator(mpi), NULL);
        CHECK(header[0] == job);
        (void)atomic_fetch_add(&header[1], 1);
        CHECK_OK(hshm_mpi_fence(mpi));
        CHECK(header[1] == (uint64_t)node_ranks);
        hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
        CHECK_OK(hshm_backend_info(hshm_backend_get(hshm_mpi_manager(mpi), 0), &info));
        CHECK(info.processes == (uint32_t)node_ranks);
        CHECK_OK(hshm_mpi_close(&mpi));
    }
}

static void
version(void)
{
    hshm_mpi *mpi = NULL;
    claims_another_version = rank == 1;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, NULL, &mpi), HSHM_E_VERSION, "version of hshm");
    check_same_sentence();
    claims_another_version = false;
    CHECK_OK(hshm_mpi_open(MPI_COMM_WORLD, NULL, &mpi));
    CHECK_OK(hshm_mpi_close(&mpi));
}

int
main(int argc, char *argv[])
{
    (void)MPI_Init(&argc, &argv);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "count") == 0)
        count(argc > 2 && strcmp(argv[2], "window") == 0 ? HSHM_MPI_WINDOW : HSHM_MPI_MESSAGES);
    else if (strcmp(what, "kill") == 0)
        killed(argc > 2 ? argv[2] : NULL);
    else if (strcmp(what, "twin") == 0 && argc > 2)
        twin((unsigned)strtoul(argv[2], NULL, 10));
    else if (strcmp(what, "version") == 0)
        version();
    else
        check_failed("the first argument is known", __FILE__, __LINE__);
    (void)MPI_Finalize();
    return 0;
}
