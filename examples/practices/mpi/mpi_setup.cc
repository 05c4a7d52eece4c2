/*
 * mpi_setup.cc - the set-up pattern of MPI programs, with the guide's interface: a leader creates, all others attach.
 *
 *     mpirun -n 4 mpi_setup [SIZE_MIB]        16 MiB unless told otherwise
 *
 *     leader (rank 0 of each node)            all other ranks of the node
 *     clean up what may exist                 clean up what may exist
 *     create backend, allocator, header
 *     ------------------------ agree: is the heap there? --------------------------
 *                                             attach, check the header
 *     ------------------------ agree: have all attached? --------------------------
 *     allocate a block, publish it            allocate a block, publish it
 *     ------------------------ agree: are all blocks there? -----------------------
 *     read the neighbour's block              read the neighbour's block
 *     ------------------------ agree: had all the right content? ------------------
 *     free the own block                      free the own block
 *     ------------------------ agree: is the heap empty? --------------------------
 *     destroy                                 leave
 *
 * Advice: make each barrier a question that all ranks answer (MPI_Allreduce), so that one rank's failure ends all of them with
 * its reason, instead of leaving the others in a barrier for good.  Shared memory is a node's: split the ranks by node first.
 */
#include "../practice.hpp"

#include <hermes_shm/hermes_shm.h>

#include <mpi.h>

#include <atomic>
#include <cstring>

namespace
{

const hshm::ipc::MemoryBackendId backend_id = hipc::MemoryBackendId::Get(0);
const hshm::ipc::AllocatorId alloc_id(1, 0);
constexpr std::uint32_t is_ready = 0xDEADBEEF;
constexpr std::uint32_t version = 1;
constexpr std::size_t block_size = 1000;

/* The ranks of this node, and which of them this is. */
MPI_Comm node = MPI_COMM_NULL;
int rank = 0;
int ranks = 1;

/* In the heap, zero when new.  After it, for each rank: where its block is. */
struct header {
    std::atomic<std::uint32_t> ready; /* is_ready, stored last */
    std::uint32_t version;
    std::atomic<std::uint64_t> total_allocations;
    hipc::AtomicOffsetPointer blocks[1];
};

/* Did a call of the library go well?  Whose did not says why. */
bool
went_well(bool well)
{
    if (!well)
        std::fprintf(stderr, "Rank %d: ✗ %s\n", rank, hshm_last_error());
    return well;
}

/* A barrier that asks: all go on, or none. */
void
agree(bool well, const char *what)
{
    const int mine = well ? 1 : 0;
    int all = 0;
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_LAND, node);
    if (all == 0)
        throw std::runtime_error(std::string("not all ranks of the node could go on: ") + what);
}

/* What a program does first that may have run before in this process, and last: harmless if there is nothing. */
void
clean_up()
{
    HSHM_MEMORY_MANAGER->UnregisterAllocator(alloc_id); /* the allocator before its backend */
    HSHM_MEMORY_MANAGER->DestroyBackend(backend_id);    /* the name goes with the leader's; others only leave */
}

/* One name for each run: the leader's process makes it, all others are told. */
std::string
agreed_name()
{
    char name[64] = "";
    std::snprintf(name, sizeof name, "%s", practice::heap_name("mpi_setup").c_str());
    MPI_Bcast(name, sizeof name, MPI_CHAR, 0, node);
    return name;
}

bool
create(const std::string &url, std::size_t size)
{
    if (!went_well(HSHM_MEMORY_MANAGER->CreateBackend<hipc::PosixShmMmap>(backend_id, size, url) != nullptr))
        return false;
    const std::size_t header_size =
        sizeof(header) + static_cast<std::size_t>(ranks) * sizeof(hipc::AtomicOffsetPointer);
    auto *alloc = HSHM_MEMORY_MANAGER->CreateAllocator<hipc::ScalablePageAllocator>(backend_id, alloc_id, header_size);
    if (!went_well(alloc != nullptr))
        return false;
    auto *shared = alloc->GetCustomHeader<header>();
    shared->version = version;
    shared->ready.store(is_ready, std::memory_order_release);
    std::printf("Rank 0: ✓ Created allocator with shared header\n");
    return true;
}

bool
attach(const std::string &url)
{
    if (!went_well(HSHM_MEMORY_MANAGER->AttachBackend(hipc::MemoryBackendType::kPosixShmMmap, url) != nullptr))
        return false;
    auto *alloc = HSHM_MEMORY_MANAGER->GetAllocator<hipc::ScalablePageAllocator>(alloc_id); /* null: of another kind */
    if (!went_well(alloc != nullptr))
        return false;
    const auto *shared = alloc->GetCustomHeader<header>();
    if (shared == nullptr || shared->ready.load(std::memory_order_acquire) != is_ready || shared->version != version) {
        std::fprintf(stderr, "Rank %d: ✗ Shared header validation failed\n", rank);
        return false;
    }
    std::printf("Rank %d: ✓ Successfully attached to shared allocator\n", rank);
    return true;
}

hipc::FullPtr<char>
publish_block(const hipc::Allocator &alloc, header &shared)
{
    const hipc::FullPtr<char> block = alloc.Allocate(HSHM_DEFAULT_MEM_CTX, block_size);
    if (block.IsNull())
        return block;
    std::memset(block.ptr_, rank + 1, block_size);
    shared.total_allocations.fetch_add(1);
    shared.blocks[rank].store(block.shm_.off_.load(), std::memory_order_release);
    return block;
}

bool
neighbour_is_right(const hipc::Allocator &alloc, const header &shared)
{
    const int neighbour = (rank + 1) % ranks;
    const hipc::OffsetPointer off(shared.blocks[neighbour].load(std::memory_order_acquire));
    const char *bytes = alloc.Convert<char>(off);
    for (std::size_t i = 0; bytes != nullptr && i < block_size; i++) {
        if (bytes[i] != static_cast<char>(neighbour + 1))
            return false;
    }
    return bytes != nullptr;
}

void
run(std::size_t size)
{
    struct at_end { /* on every way out */
        ~at_end() { clean_up(); }
    } guard;
    clean_up();
    const std::string url = agreed_name();
    agree(rank != 0 || create(url, size), "the leader cannot set the heap up");
    agree(rank == 0 || attach(url), "a rank cannot attach");

    auto *alloc = HSHM_MEMORY_MANAGER->GetAllocator<hipc::ScalablePageAllocator>(alloc_id);
    auto *shared = alloc->GetCustomHeader<header>();
    hipc::FullPtr<char> block = publish_block(*alloc, *shared);
    agree(went_well(!block.IsNull()), "a rank finds no room");
    agree(neighbour_is_right(*alloc, *shared), "a block does not hold what its rank wrote");
    agree(went_well(alloc->Free(HSHM_DEFAULT_MEM_CTX, block)), "a block cannot be freed");
    agree(alloc->GetCurrentlyAllocatedSize() == 0, "the heap is not empty again");
    if (rank == 0)
        std::printf("Rank 0: ✓ %llu blocks of %d ranks were read by their neighbours and freed\n",
                    static_cast<unsigned long long>(shared->total_allocations.load()), ranks);
}

} // namespace

int
main(int argc, char *argv[])
{
    MPI_Init(&argc, &argv);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &rank);
    MPI_Comm_size(node, &ranks);
    const unsigned long size_mib = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 16;
    const int status = practice::run([&] { run(hshm::Unit<std::size_t>::Megabytes(size_mib)); });
    MPI_Comm_free(&node);
    MPI_Finalize();
    return status;
}
