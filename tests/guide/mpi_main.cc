/*
 * After the guide's two set-up functions: one program that calls them for one kind of allocator after the other, with barriers
 * between the phases, as the guide advises.
 *
 *     mpi          each kind, then destroys what is left
 *     mpi stay     each kind, and leaves what is left to others
 *     mpi die      the first kind; then rank 0 is killed while all are attached
 *     mpi hold     without MPI: lives in a region of the guide's name until it is killed
 */
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace
{

const hshm::ipc::AllocatorId alloc_id(1, 0);

/* What the guide's functions leave is there, and of use to all: rank 0's block is read by the others. */
template <typename AllocatorT>
void
use(const char *name, int rank)
{
    auto *allocator = HSHM_MEMORY_MANAGER->GetAllocator<AllocatorT>(alloc_id);
    std::printf("rank %d: %s: %s\n", rank, name, allocator != nullptr ? "allocator" : "none");
    unsigned long long off = 0;
    hipc::FullPtr<char> block;
    if (rank == 0 && allocator != nullptr) {
        block = allocator->Allocate(HSHM_DEFAULT_MEM_CTX, 4096);
        if (block.IsNull())
            std::abort();
        std::strcpy(block.ptr_, name);
        off = block.shm_.off_.load();
    }
    MPI_Bcast(&off, 1, MPI_UNSIGNED_LONG_LONG, 0, MPI_COMM_WORLD);
    if (allocator != nullptr && off != 0 &&
        std::strcmp(allocator->template Convert<char>(hipc::OffsetPointer(off)), name) != 0)
        std::abort();
    MPI_Barrier(MPI_COMM_WORLD);
    if (!block.IsNull() && !allocator->Free(HSHM_DEFAULT_MEM_CTX, block))
        std::abort();
}

template <typename AllocatorT>
void
set_up(const char *name, int rank)
{
    SetupMpiAllocatorRank0<AllocatorT>();
    if (rank == 0 && HSHM_MEMORY_MANAGER->GetAllocator<AllocatorT>(alloc_id) == nullptr) {
        /* The function above does not look at what its calls return: see why by doing the last one again. */
        if (HSHM_MEMORY_MANAGER->CreateAllocator<AllocatorT>(hipc::MemoryBackendId::Get(0), alloc_id, 64) != nullptr)
            std::abort();
        std::printf("rank 0: %s: refused: %s\n", name, hshm_last_error());
    }
    MPI_Barrier(MPI_COMM_WORLD);
    SetupMpiAllocatorRankN<AllocatorT>();
    MPI_Barrier(MPI_COMM_WORLD);
    use<AllocatorT>(name, rank);
    std::fflush(stdout);
    MPI_Barrier(MPI_COMM_WORLD);
}

int
hold()
{
    auto *manager = HSHM_MEMORY_MANAGER;
    const auto id = hipc::MemoryBackendId::Get(7);
    if (manager->CreateBackend<hipc::PosixShmMmap>(id, hshm::Unit<size_t>::Megabytes(1), "mpi_shared_allocator") ==
            nullptr ||
        manager->CreateAllocator<hipc::StackAllocator>(id, alloc_id, 64) == nullptr) {
        std::printf("%s\n", hshm_last_error());
        return 1;
    }
    std::printf("holding\n");
    std::fflush(stdout);
    for (;;)
        pause();
}

} // namespace

int
main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    if (std::strcmp(way, "hold") == 0)
        return hold();
    int rank = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);

    set_up<hipc::StackAllocator>("Stack", rank);
    if (std::strcmp(way, "die") == 0) {
        if (rank == 0)
            std::raise(SIGKILL);
        MPI_Barrier(MPI_COMM_WORLD);
    }
    set_up<hipc::MallocAllocator>("Malloc", rank);
    set_up<hipc::ScalablePageAllocator>("ScalablePage", rank);
    set_up<hipc::ThreadLocalAllocator>("ThreadLocal", rank);

    if (std::strcmp(way, "stay") != 0) {
        HSHM_MEMORY_MANAGER->UnregisterAllocator(alloc_id);
        HSHM_MEMORY_MANAGER->DestroyBackend(hipc::MemoryBackendId::Get(0));
    }
    MPI_Finalize();
    return 0;
}
