/*
 * nodes.c - who shares memory with whom.
 *
 * MPI's idea of a node is a machine; ours is one /dev/shm (or one disk, for files).  Two containers of a machine have two.
 * So MPI's nodes are split again (and never joined: ranks that share memory, but have host names of their own, are two
 * nodes), by what their ranks see: the boot of the kernel and the device number of the file system,
 * which no two file systems of one kernel share, and the caller's group.  That the memory is the same is proved in the end by
 * the uuid that an attacher finds in the region (heap.c).
 *
 * The leader of a node is its lowest rank.  Nodes are numbered in the order of their leaders' ranks, by a communicator of
 * leaders, through which also what is to be known of every node goes round.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handle.h"

static void
read_boot(char boot[40])
{
    memset(boot, 0, 40);
    const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read(fd, boot, 36) < 0)
        memset(boot, 0, 40);
    (void)close(fd);
}

/* Where the heap's file will lie. */
static void
folder_of(const hshm_mpi *mpi, char *folder, size_t size)
{
    if (mpi->options.backend_kind == HSHM_BACKEND_POSIX_SHM_MMAP) {
        (void)snprintf(folder, size, "/dev/shm");
        return;
    }
    const char *slash = strrchr(mpi->name, '/');
    if (slash == NULL)
        (void)snprintf(folder, size, ".");
    else
        (void)snprintf(folder, size, "%.*s", slash == mpi->name ? 1 : (int)(slash - mpi->name), mpi->name);
}

static struct sight
look_around(const hshm_mpi *mpi)
{
    struct sight sight;
    memset(&sight, 0, sizeof sight); /* it is compared as bytes */
    read_boot(sight.boot);
    struct stat st;
    char folder[sizeof mpi->name];
    folder_of(mpi, folder, sizeof folder);
    if (stat(folder, &st) == 0)
        sight.device = (uint64_t)st.st_dev;
    if (stat("/proc/self/ns/pid", &st) == 0)
        sight.pid_namespace = (uint64_t)st.st_ino;
    sight.uid = (uint32_t)geteuid();
    sight.group = mpi->options.group;
    return sight;
}

static bool
same_node(const struct sight *a, const struct sight *b)
{
    return memcmp(a->boot, b->boot, sizeof a->boot) == 0 && a->device == b->device && a->group == b->group;
}

/*
 * Everyone of this machine knows everyone's sight, so the colour, the lowest rank that sees the same, needs no hash that could
 * collide.
 */
static hshm_status
split_machine(hshm_mpi *mpi, MPI_Comm machine)
{
    int count = 0;
    int rank = 0;
    (void)MPI_Comm_size(machine, &count);
    (void)MPI_Comm_rank(machine, &rank);
    const struct sight mine = look_around(mpi);
    struct sight *all = mpi->sights;
    hshm_status status = mpi_check(
        MPI_Allgather(&mine, (int)sizeof mine, MPI_BYTE, all, (int)sizeof mine, MPI_BYTE, machine), "MPI_Allgather");
    int colour = rank;
    mpi->by_proc = true;
    for (int i = count - 1; i >= 0 && status == HSHM_OK; i--) {
        if (!same_node(&mine, &all[i]))
            continue;
        colour = i;
        mpi->by_proc = mpi->by_proc && mine.pid_namespace == all[i].pid_namespace && mine.pid_namespace != 0 &&
                       mine.uid == all[i].uid;
    }
    if (status == HSHM_OK)
        status = mpi_check(MPI_Comm_split(machine, colour, mpi->rank, &mpi->node_comm), "MPI_Comm_split");
    return status;
}

hshm_status
nodes_prepare(hshm_mpi *mpi)
{
    int count = 0;
    (void)MPI_Comm_size(mpi->world, &count);
    mpi->sights = calloc((size_t)count, sizeof *mpi->sights);
    return mpi->sights != NULL ? HSHM_OK
                               : mpi_fail(HSHM_E_NOSPC, "no memory for what %d ranks see of their machines", count);
}

hshm_status
nodes_split(hshm_mpi *mpi)
{
    MPI_Comm machine = MPI_COMM_NULL;
    hshm_status status =
        mpi_check(MPI_Comm_split_type(mpi->world, MPI_COMM_TYPE_SHARED, mpi->rank, MPI_INFO_NULL, &machine),
                  "MPI_Comm_split_type");
    if (status == HSHM_OK) {
        status = split_machine(mpi, machine);
        (void)MPI_Comm_free(&machine);
    }
    free(mpi->sights);
    mpi->sights = NULL;
    if (status != HSHM_OK)
        return status;
    (void)MPI_Comm_rank(mpi->node_comm, &mpi->node_rank);
    const int colour = mpi->node_rank == 0 ? 0 : MPI_UNDEFINED;
    return mpi_check(MPI_Comm_split(mpi->world, colour, mpi->rank, &mpi->leaders), "MPI_Comm_split");
}

void
nodes_count(hshm_mpi *mpi)
{
    int count = 0;
    int node = 0;
    (void)MPI_Comm_size(mpi->leaders, &count);
    (void)MPI_Comm_rank(mpi->leaders, &node);
    mpi->node_count = (uint32_t)count;
    mpi->node = (uint32_t)node;
}

hshm_status
nodes_allocate(hshm_mpi *mpi)
{
    mpi->nodes = calloc(mpi->node_count, sizeof *mpi->nodes);
    return mpi->nodes != NULL ? HSHM_OK : mpi_fail(HSHM_E_NOSPC, "no memory for a table of %u nodes", mpi->node_count);
}

/* Of a uuid, which is random: enough to tell a heap from the one that was there before. */
static uint32_t
generation_of(const uint8_t uuid[16])
{
    uint32_t words[4];
    memcpy(words, uuid, sizeof words);
    const uint32_t generation = words[0] ^ words[1] ^ words[2] ^ words[3];
    return generation != 0 ? generation : 1;
}

static bool
is_for_users(hshm_mpi *mpi, hshm_off off)
{
    void *addr = NULL;
    return hshm_resolve(mpi->manager, (hshm_shm_ptr){ mpi->allocator_id, off }, &addr) == HSHM_OK;
}

/*
 * Where the tables end: at the custom header, or else where data begin, which nobody tells but by answering for one offset.
 * Data are one range, that ends at the region's end or a little before.  0 if it cannot be found out.
 */
static hshm_off
first_off(hshm_mpi *mpi, hshm_off header_off, uint64_t size)
{
    if (header_off != HSHM_OFF_NULL)
        return header_off;
    struct kept_error kept; /* questions that are answered with no are not the caller's failures */
    error_keep(&kept);
    uint64_t step = 1;
    while (step < size && !is_for_users(mpi, size - step))
        step *= 2;
    hshm_off before = 0; /* the region's own header */
    hshm_off found = step < size ? size - step : 0;
    while (found > before + 1) {
        const hshm_off middle = before + (found - before) / 2;
        if (is_for_users(mpi, middle))
            found = middle;
        else
            before = middle;
    }
    error_restore(&kept);
    return found;
}

static struct node
describe_node(hshm_mpi *mpi)
{
    struct node node;
    memset(&node, 0, sizeof node);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    (void)hshm_backend_info(hshm_backend_get(mpi->manager, mpi->backend_id), &info);
    node.leader = mpi->rank;
    node.generation = generation_of(info.uuid);
    node.size = info.size;
    node.header_off = hshm_to_off(mpi->heap, hshm_allocator_custom_header(mpi->heap, NULL));
    node.first_off = first_off(mpi, node.header_off, info.size);
    return node;
}

hshm_status
nodes_table(hshm_mpi *mpi)
{
    hshm_status status = HSHM_OK;
    if (mpi->node_rank == 0) {
        const struct node mine = describe_node(mpi);
        status = mpi_check(
            MPI_Allgather(&mine, (int)sizeof mine, MPI_BYTE, mpi->nodes, (int)sizeof mine, MPI_BYTE, mpi->leaders),
            "MPI_Allgather");
    }
    if (status == HSHM_OK)
        status =
            mpi_check(MPI_Bcast(mpi->nodes, (int)(mpi->node_count * sizeof *mpi->nodes), MPI_BYTE, 0, mpi->node_comm),
                      "MPI_Bcast");
    return status;
}
