/*
 * leader_followers.c - the leader of a node makes a heap, the other ranks attach to it: by hand, with libhshm's own calls.
 *
 * hshm_mpi_open() does all of this in one call, and without a name.  Here are the steps for those who want them in their own
 * hands, made safe against what goes wrong with a fixed name:
 *   - the name is this job's alone (hshm_mpi_unique_name), so two jobs on a node never meet;
 *   - ranks agree on errors (hshm_mpi_agree) before anyone goes on, so one that fails lets nobody wait for ever;
 *   - the name goes as soon as all are attached, so that hardly anything can be left behind.
 *
 * Each kind of allocator is tried in turn; what a Malloc heap answers is that it cannot be shared.
 */
#include <hshm/hshm.h>
#include <hshm/mpi.h>

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

enum { BACKEND_ID = 0, MAGIC = 0x5DEADBEE };

#define ALLOCATOR_ID ((hshm_allocator_id){ 1, 0 })
#define SIZE ((size_t)64 << 20)

/* Shared: the custom header. */
struct allocator_header {
    int magic_number;
    _Atomic uint64_t total_allocations;
    _Atomic uint64_t peak_usage;
};

/* The leader: create the region and its heap, and fill in the shared header. */
static hshm_status
setup_leader(hshm_allocator_kind kind, const char *name, hshm_allocator **ret_heap)
{
    hshm_status status = hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, SIZE, name, NULL, NULL);
    if (status != HSHM_OK)
        return status;
    status =
        hshm_allocator_create(NULL, BACKEND_ID, ALLOCATOR_ID, kind, sizeof(struct allocator_header), NULL, ret_heap);
    if (status != HSHM_OK)
        return status;
    struct allocator_header *header = hshm_allocator_custom_header(*ret_heap, NULL);
    header->magic_number = MAGIC;
    header->total_allocations = 0;
    header->peak_usage = 0;
    return HSHM_OK;
}

/* The others: attach to what the leader made, and look whether it is that. */
static hshm_status
setup_follower(hshm_allocator_kind kind, const char *name, hshm_allocator **ret_heap)
{
    hshm_status status = hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, NULL);
    if (status == HSHM_OK)
        status = hshm_allocator_get(NULL, ALLOCATOR_ID, kind, ret_heap);
    if (status != HSHM_OK)
        return status;
    const struct allocator_header *header = hshm_allocator_custom_header(*ret_heap, NULL);
    if (header == NULL || header->magic_number != MAGIC)
        return hshm_set_last_error(HSHM_E_CORRUPT, "the shared header is not the leader's");
    return HSHM_OK;
}

/* Every rank takes a block, and counts it in the header that all of the node share. */
static hshm_status
use(hshm_allocator *heap)
{
    struct allocator_header *header = hshm_allocator_custom_header(heap, NULL);
    void *block = hshm_malloc(heap, 1024);
    if (block == NULL)
        return hshm_last_status();
    atomic_fetch_add(&header->total_allocations, 1);
    return hshm_free(heap, block);
}

/* One kind of heap on every node.  Collective; all ranks get the same answer. */
static hshm_status
try_kind(hshm_allocator_kind kind, MPI_Comm node, const char *name, uint64_t *ret_allocations)
{
    hshm_allocator *heap = NULL;
    int node_rank = 0;
    (void)MPI_Comm_rank(node, &node_rank);

    hshm_status mine = node_rank == 0 ? setup_leader(kind, name, &heap) : HSHM_OK;
    hshm_status status = hshm_mpi_agree(MPI_COMM_WORLD, mine);
    if (status == HSHM_OK) {
        mine = node_rank != 0 ? setup_follower(kind, name, &heap) : HSHM_OK;
        status = hshm_mpi_agree(MPI_COMM_WORLD, mine);
    }
    if (node_rank == 0)
        (void)shm_unlink(name); /* all are attached, or nobody will be */
    if (status == HSHM_OK)
        status = hshm_mpi_agree(MPI_COMM_WORLD, use(heap));
    if (status == HSHM_OK)
        *ret_allocations = ((struct allocator_header *)hshm_allocator_custom_header(heap, NULL))->total_allocations;

    char sentence[768]; /* what is undone has its own say */
    (void)snprintf(sentence, sizeof sentence, "%s", hshm_last_error());
    (void)MPI_Barrier(MPI_COMM_WORLD);
    (void)hshm_backend_destroy(NULL, BACKEND_ID); /* followers only detach; unknown is harmless */
    return hshm_set_last_error(status, sentence);
}

int
main(int argc, char *argv[])
{
    static const struct {
        hshm_allocator_kind kind;
        const char *title;
    } kinds[] = {
        { HSHM_ALLOCATOR_STACK, "Stack" },
        { HSHM_ALLOCATOR_SCALABLE_PAGE, "ScalablePage" },
        { HSHM_ALLOCATOR_THREAD_LOCAL, "ThreadLocal" },
        { HSHM_ALLOCATOR_MALLOC, "Malloc" },
    };
    int rank = 0;
    int failures = 0;
    (void)MPI_Init(&argc, &argv);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm node = MPI_COMM_NULL;
    (void)MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char name[HSHM_NAME_MAX + 1];
        uint64_t allocations = 0;
        hshm_status status = hshm_mpi_unique_name(MPI_COMM_WORLD, "mpi_shared_allocator", name);
        if (status == HSHM_OK)
            status = try_kind(kinds[i].kind, node, name, &allocations);
        const bool expected = kinds[i].kind == HSHM_ALLOCATOR_MALLOC ? status == HSHM_E_NOTSUP : status == HSHM_OK;
        failures += !expected;
        if (rank == 0 && status == HSHM_OK)
            printf("%-12s shared by the ranks of each node; on this one they took %llu blocks\n", kinds[i].title,
                   (unsigned long long)allocations);
        else if (rank == 0)
            printf("%-12s %s\n", kinds[i].title, hshm_last_error());
    }
    (void)MPI_Comm_free(&node);
    (void)MPI_Finalize();
    return failures == 0 ? 0 : 1;
}
