/*
 * setup.c - opening and closing: what is there afterwards, and what is gone.
 */
#include <dirent.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ranks.h"

struct header {
    uint64_t magic;
    _Atomic uint64_t attached;
};

static hshm_status
fill_in(hshm_allocator *heap, void *arg)
{
    struct header *header = hshm_allocator_custom_header(heap, NULL);
    header->magic = *(const uint64_t *)arg;
    return HSHM_OK;
}

/* One heap on each node, seen by all its ranks and by nobody else. */
static void
check_shared(hshm_mpi *mpi)
{
    int node_ranks = 0;
    (void)MPI_Comm_size(hshm_mpi_node_comm(mpi), &node_ranks);
    struct header *header = hshm_allocator_custom_header(hshm_mpi_allocator(mpi), NULL);
    (void)atomic_fetch_add(&header->attached, 1);
    (void)MPI_Barrier(MPI_COMM_WORLD);
    CHECK(header->attached == (uint64_t)node_ranks);
    CHECK(hshm_mpi_node(mpi) < hshm_mpi_nodes(mpi));
    int sum = node_ranks;
    int leads = 0;
    (void)MPI_Comm_rank(hshm_mpi_node_comm(mpi), &leads);
    leads = leads == 0;
    sum = leads ? sum : 0;
    (void)MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    CHECK(sum == ranks);
    CHECK((hshm_mpi_leader(mpi, hshm_mpi_node(mpi)) == rank) == leads);
    CHECK(hshm_mpi_leader(mpi, hshm_mpi_nodes(mpi)) == -1);
}

static void
every_allocator(void)
{
    static const hshm_allocator_kind kinds[] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_SCALABLE_PAGE,
                                                 HSHM_ALLOCATOR_THREAD_LOCAL };
    const struct shm_state before = shm_look();
    for (size_t i = 0; i < 3; i++) {
        uint64_t magic = 0xDEADBEEF + i;
        hshm_mpi_options options = options_for_test();
        options.allocator = kinds[i];
        options.custom_header_size = sizeof(struct header);
        options.init = fill_in;
        options.init_arg = &magic;
        hshm_mpi *mpi = open_heaps(&options);
        hshm_allocator *heap = hshm_mpi_allocator(mpi);
        CHECK(hshm_allocator_kind_of(heap) == kinds[i]);
        CHECK(((struct header *)hshm_allocator_custom_header(heap, NULL))->magic == magic);
        CHECK(!hshm_mpi_recovered(mpi));
        check_shared(mpi);
        void *block = hshm_malloc(heap, 1000);
        CHECK(block != NULL);
        CHECK_OK(hshm_free(heap, block));
        CHECK_OK(hshm_mpi_close(&mpi));
        CHECK(mpi == NULL);
        check_nothing_left(before);
    }
    hshm_mpi_options options = options_for_test();
    options.allocator = HSHM_ALLOCATOR_MALLOC;
    hshm_mpi *mpi = NULL;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi), HSHM_E_NOTSUP, "cannot be shared");
    CHECK(mpi == NULL);
    check_same_sentence();
    check_nothing_left(before);
}

static void
defaults(void)
{
    hshm_mpi *mpi = open_heaps(NULL);
    hshm_stats stats = HSHM_STATS_INIT;
    CHECK_OK(hshm_stats_get(hshm_mpi_allocator(mpi), &stats));
    CHECK(stats.region_bytes == 64 * MIB);
    CHECK(hshm_gptr_is_null(hshm_mpi_header(mpi, 0)));
    CHECK(hshm_mpi_manager(mpi) != hshm_manager_default());
    CHECK_OK(hshm_mpi_close(&mpi));
    CHECK_STATUS(hshm_mpi_close(&mpi), HSHM_E_INVAL, "NULL");
}

/* Several heaps of a job at once, over the same ranks and over some of them; in a manager of the caller's. */
static void
several_at_once(void)
{
    const struct shm_state before = shm_look();
    hshm_mpi_options options = options_for_test();
    options.custom_header_size = sizeof(struct header);
    hshm_mpi *first = open_heaps(&options);
    options.manager = hshm_manager_default();
    options.backend_id = 7;
    options.allocator_id = (hshm_allocator_id){ 8, 9 };
    hshm_mpi *second = open_heaps(&options);
    hshm_allocator *heap = NULL;
    CHECK_OK(hshm_allocator_get(NULL, (hshm_allocator_id){ 8, 9 }, HSHM_ALLOCATOR_ANY, &heap));
    CHECK(heap == hshm_mpi_allocator(second));
    check_shared(first);
    check_shared(second);

    hshm_mpi *third = NULL;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, &third), HSHM_E_EXISTS, "registered");
    check_same_sentence();

    MPI_Comm half = MPI_COMM_NULL;
    (void)MPI_Comm_split(MPI_COMM_WORLD, rank < ranks / 2, 0, &half);
    options.manager = NULL;
    CHECK_OK(hshm_mpi_open(half, &options, &third));
    (void)MPI_Comm_free(&half); /* it was only duplicated */
    const hshm_gptr here = hshm_mpi_to_global(first, hshm_allocator_custom_header(hshm_mpi_allocator(first), NULL));
    CHECK(here.generation != hshm_mpi_header(second, here.node).generation);
    CHECK_OK(hshm_mpi_close(&third));
    CHECK_OK(hshm_mpi_close(&first));
    CHECK_OK(hshm_mpi_close(&second));
    CHECK_STATUS(hshm_allocator_get(NULL, (hshm_allocator_id){ 8, 9 }, HSHM_ALLOCATOR_ANY, &heap), HSHM_E_NOTFOUND,
                 NULL);
    check_nothing_left(before);
}

/* Without a name no other process finds it, also while it is open. */
static void
nameless_while_open(void)
{
    const struct shm_state before = shm_look();
    hshm_mpi_options options = options_for_test();
    hshm_mpi *mpi = open_heaps(&options);
    CHECK(shm_look().names == before.names || getenv("SIMHOSTS") == NULL);
    CHECK_OK(hshm_mpi_close(&mpi));
}

/* ---- again and again ---- */

static size_t
entries_of(const char *folder)
{
    size_t count = 0;
    DIR *entries = opendir(folder);
    CHECK(entries != NULL);
    while (readdir(entries) != NULL)
        count++;
    (void)closedir(entries);
    return count;
}

/* Lines of a file that have the word. */
static size_t
lines_with(const char *path, const char *word)
{
    char line[1024];
    size_t count = 0;
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL)
        count += strstr(line, word) != NULL;
    (void)fclose(file);
    return count;
}

static void
one_cycle(void)
{
    hshm_mpi_options options = options_for_test();
    options.size = MIB;
    hshm_mpi *mpi = open_heaps(&options);
    const uint32_t node = (hshm_mpi_node(mpi) + 1) % hshm_mpi_nodes(mpi);
    hshm_gptr there = HSHM_GPTR_NULL;
    char bytes[6000] = "";
    CHECK_OK(hshm_mpi_alloc(mpi, node, sizeof bytes, &there));
    CHECK_OK(hshm_mpi_put(mpi, there, bytes, sizeof bytes));
    CHECK_OK(hshm_mpi_close(&mpi));
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &(hshm_mpi_options){ .struct_size = sizeof options, .size = 10 }, &mpi),
                 HSHM_E_INVAL, NULL);
}

/* No descriptor, no mapping of shared memory, and hardly a byte of malloc's more. */
static void
cycles(void)
{
    enum { WARM_UP = 10, BYTES_EACH = 2000 };
    const char *wanted = getenv("HSHM_TEST_CYCLES");
    const long count = wanted != NULL ? strtol(wanted, NULL, 10) : 100;
    for (int i = 0; i < WARM_UP; i++)
        one_cycle();
    (void)MPI_Barrier(MPI_COMM_WORLD);
    const size_t descriptors = entries_of("/proc/self/fd");
    const size_t mappings = lines_with("/proc/self/maps", "/dev/shm/");
    const size_t bytes = mallinfo2().uordblks;
    for (long i = 0; i < count; i++)
        one_cycle();
    (void)MPI_Barrier(MPI_COMM_WORLD);
    CHECK(entries_of("/proc/self/fd") == descriptors);
    CHECK(lines_with("/proc/self/maps", "/dev/shm/") == mappings);
    /* MPI keeps some for each communicator; a handle of ours has a hundred thousand, each table thousands. */
    CHECK(mallinfo2().uordblks < bytes + (size_t)count * BYTES_EACH);
}

static bool
name_exists(const char *name)
{
    char path[512];
    struct stat st;
    (void)snprintf(path, sizeof path, "/dev/shm/%s", name);
    return stat(path, &st) == 0;
}

/* Ranks attached read-only look on; the leader is never one. */
static void
read_only_ranks(void)
{
    hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    attach.read_only = rank % 2 == 1 || rank == 0;
    hshm_mpi_options options = options_for_test();
    options.attach = &attach;
    options.custom_header_size = sizeof(struct header);
    hshm_mpi *mpi = open_heaps(&options);
    int node_rank = 0;
    (void)MPI_Comm_rank(hshm_mpi_node_comm(mpi), &node_rank);
    const bool looks = attach.read_only && node_rank != 0;
    void *block = hshm_malloc(hshm_mpi_allocator(mpi), 10);
    CHECK((block == NULL) == looks);
    const hshm_gptr here = hshm_mpi_header(mpi, hshm_mpi_node(mpi));
    uint64_t word = 1;
    CHECK_OK(hshm_mpi_get(mpi, here, &word, sizeof word));
    if (looks) {
        CHECK_STATUS(hshm_mpi_put(mpi, here, &word, sizeof word), HSHM_E_PERM, "read-only");
        CHECK_STATUS(hshm_mpi_fetch_add(mpi, here, 1, NULL), HSHM_E_PERM, "read-only");
    }
    CHECK_OK(hshm_mpi_close(&mpi));
}

/* ---- with a name ---- */

static void
kept_and_recovered(void)
{
    char name[HSHM_NAME_MAX + 1];
    job_name(name, "keep");
    hshm_mpi_options options = options_for_test();
    options.custom_header_size = sizeof(uint64_t);
    options.name = name;
    options.keep = true;
    hshm_mpi *mpi = open_heaps(&options);
    hshm_allocator *heap = hshm_mpi_allocator(mpi);
    hshm_gptr there = HSHM_GPTR_NULL;
    const uint32_t node = (hshm_mpi_node(mpi) + 1) % hshm_mpi_nodes(mpi);
    CHECK_OK(hshm_mpi_alloc(mpi, node, 100, &there));
    CHECK_OK(hshm_mpi_put(mpi, there, "still here", 11));
    CHECK_OK(hshm_mpi_close(&mpi));

    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi), HSHM_E_EXISTS, "taken");
    check_same_sentence();
    options.reuse = HSHM_MPI_RECOVER;
    options.size *= 2;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi), HSHM_E_KIND, "asked for");
    options.size /= 2;

    mpi = open_heaps(&options);
    CHECK(hshm_mpi_recovered(mpi));
    heap = hshm_mpi_allocator(mpi);
    char text[11] = "";
    CHECK_OK(hshm_mpi_get(mpi, there, text, sizeof text)); /* the pointer outlived the job, and so did its heap */
    CHECK(strcmp(text, "still here") == 0);
    CHECK_OK(hshm_mpi_free(mpi, there));
    CHECK_OK(hshm_mpi_fence(mpi));
    CHECK_OK(hshm_check(heap, 0, NULL));

    /* While somebody lives in it, nobody else has it. */
    hshm_mpi *other = NULL;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, &other), HSHM_E_BUSY, "live");
    options.reuse = HSHM_MPI_REPLACE_DEAD;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, &other), HSHM_E_BUSY, NULL);
    CHECK_OK(hshm_mpi_close(&mpi));

    options.keep = false;
    mpi = open_heaps(&options); /* replaces */
    CHECK(!hshm_mpi_recovered(mpi));
    if (!hshm_gptr_is_null(there))
        CHECK_STATUS(hshm_mpi_get(mpi, there, text, 1), HSHM_E_NOTFOUND, "outlived");
    CHECK_OK(hshm_mpi_close(&mpi));
    CHECK(!name_exists(name));
}

/* A recovered heap that is not to be kept goes at close, and one that could not be opened stays. */
static void
recovered_and_dropped(void)
{
    char name[HSHM_NAME_MAX + 1];
    job_name(name, "drop");
    hshm_mpi_options options = options_for_test();
    options.name = name;
    options.keep = true;
    hshm_mpi *mpi = open_heaps(&options);
    char own[HSHM_NAME_MAX + 16];
    (void)snprintf(own, sizeof own, options.group == 0 ? "%s" : "%s.%d", name, options.group);
    CHECK_OK(hshm_mpi_close(&mpi));
    CHECK(name_exists(own));

    options.reuse = HSHM_MPI_RECOVER;
    options.keep = false;
    options.progress = HSHM_MPI_PROGRESS_THREAD; /* fails last of all, where MPI is single-threaded */
    int provided = 0;
    (void)MPI_Query_thread(&provided);
    if (provided != MPI_THREAD_MULTIPLE) {
        CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi), HSHM_E_NOTSUP, "MPI_THREAD_MULTIPLE");
        CHECK(name_exists(own));
        options.progress = HSHM_MPI_PROGRESS_CALLS;
    }
    mpi = open_heaps(&options);
    CHECK(hshm_mpi_recovered(mpi));
    CHECK_OK(hshm_mpi_close(&mpi));
    CHECK(!name_exists(own));
}

/* On a disk of each node's own: here one for all, so ranks of one machine. */
static void
on_a_file(void)
{
    char name[HSHM_NAME_MAX + 1];
    char path[HSHM_NAME_MAX + 32];
    job_name(name, "file");
    const char *folder = getenv("TMPDIR");
    (void)snprintf(path, sizeof path, "%s/%s", folder != NULL && strlen(folder) < 30 ? folder : "/tmp", name);
    hshm_mpi_options options = options_for_test();
    options.backend_kind = HSHM_BACKEND_POSIX_MMAP;
    options.name = path;
    options.size = MIB;
    options.custom_header_size = sizeof(struct header);
    hshm_mpi *mpi = NULL;
    const hshm_status status = hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi);
    if (status == HSHM_E_NOTSUP) { /* an overlay, as containers have */
        CHECK_STATUS(status, HSHM_E_NOTSUP, "file system");
        return;
    }
    CHECK_OK(status);
    check_shared(mpi);
    CHECK_OK(hshm_mpi_close(&mpi));
    struct stat st;
    CHECK(stat(path, &st) != 0);
}

const struct mpi_case setup_cases[] = {
    { "every_allocator", every_allocator },
    { "defaults", defaults },
    { "several_at_once", several_at_once },
    { "nameless_while_open", nameless_while_open },
    { "read_only_ranks", read_only_ranks },
    { "cycles", cycles },
    { "kept_and_recovered", kept_and_recovered },
    { "recovered_and_dropped", recovered_and_dropped },
    { "on_a_file", on_a_file },
    { NULL, NULL },
};
