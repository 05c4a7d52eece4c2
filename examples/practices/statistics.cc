/*
 * statistics.cc - memory watched from another process, with the guide's interface.
 *
 * Advice: what a heap holds is counted in the heap, so any process that attaches can watch it, and those who work on it need do
 * nothing for that.  GetCurrentlyAllocatedSize() is what all processes together hold; Stats() says besides how many blocks, how
 * much room is in use for them, and the largest block that would fit.  Warn by used_bytes: a heap is full when that is.
 */
#include "practice.hpp"

#include <hermes_shm/hermes_shm.h>

#include <sys/socket.h>
#include <vector>

using practice::check;
using practice::expect;

namespace
{

const hshm::ipc::MemoryBackendId backend_id = hipc::MemoryBackendId::Get(0);
const hshm::ipc::AllocatorId alloc_id(1, 0);
constexpr double warn_at = 0.75;

using blocks = std::vector<hipc::FullPtr<char>>;

/* What the worker says after each step: what it should hold now. */
struct report {
    char what[32];
    std::size_t asked; /* bytes */
    std::size_t blocks;
};

void
allocate(const hipc::Allocator &alloc, blocks &held, std::size_t count, std::size_t size)
{
    for (std::size_t i = 0; i < count; i++) {
        held.push_back(alloc.Allocate(HSHM_DEFAULT_MEM_CTX, size));
        check(!held.back().IsNull()); /* before it is used */
    }
}

void
free_down_to(const hipc::Allocator &alloc, blocks &held, std::size_t count)
{
    while (held.size() > count) {
        check(alloc.Free(HSHM_DEFAULT_MEM_CTX, held.back()));
        held.pop_back();
    }
}

/* Say what was done, and go on when the monitor has looked. */
void
tell(int monitor, const char *what, std::size_t asked, std::size_t count)
{
    report now{ {}, asked, count };
    std::snprintf(now.what, sizeof now.what, "%s", what);
    char looked = 0;
    expect(write(monitor, &now, sizeof now) == sizeof now && read(monitor, &looked, 1) == 1, "the monitor is gone");
}

/* The other process: it makes the heap, and knows nothing of how it is watched. */
void
work(const std::string &url, int monitor)
{
    auto *manager = HSHM_MEMORY_MANAGER;
    struct clean_up { /* on every way out: the allocator before its backend */
        ~clean_up()
        {
            HSHM_MEMORY_MANAGER->UnregisterAllocator(alloc_id);
            HSHM_MEMORY_MANAGER->DestroyBackend(backend_id);
        }
    } at_end;
    check(manager->CreateBackend<hipc::PosixShmMmap>(backend_id, hshm::Unit<size_t>::Megabytes(16), url) != nullptr);
    auto *alloc = manager->CreateAllocator<hipc::ScalablePageAllocator>(backend_id, alloc_id, 0);
    check(alloc != nullptr);

    blocks held;
    tell(monitor, "a new heap", 0, 0);
    allocate(*alloc, held, 1000, 1000);
    tell(monitor, "1000 blocks of 1000 bytes", 1000 * 1000, 1000);
    allocate(*alloc, held, 3, hshm::Unit<size_t>::Megabytes(4));
    tell(monitor, "and 3 of 4 MiB", 1000 * 1000 + 3 * hshm::Unit<size_t>::Megabytes(4), 1003);
    free_down_to(*alloc, held, 1000);
    tell(monitor, "those 3 freed", 1000 * 1000, 1000);
    free_down_to(*alloc, held, 0);
    tell(monitor, "all freed", 0, 0);
}

void
look(const hipc::Allocator &alloc, const report &step)
{
    const std::size_t allocated = alloc.GetCurrentlyAllocatedSize();
    const hshm_stats stats = alloc.Stats();
    const double used = static_cast<double>(stats.used_bytes) / static_cast<double>(stats.data_bytes);
    std::printf("%-26s %10zu %8llu %6.0f%% %12llu%s\n", step.what, allocated,
                static_cast<unsigned long long>(stats.live_blocks), 100 * used,
                static_cast<unsigned long long>(stats.largest_free), used > warn_at ? "   nearly full" : "");
    expect(stats.live_blocks == step.blocks, "the monitor counts other blocks than the worker");
    expect(allocated == stats.live_bytes && allocated >= step.asked && allocated <= step.asked + step.asked / 4,
           "the monitor sees another size than the worker holds");
    expect((used > warn_at) == (step.blocks == 1003), "the warning came when it should not, or did not when it should");
}

void
watch(const std::string &url, int worker)
{
    struct hang_up { /* on every way out: the worker reads that, and ends */
        int socket;
        ~hang_up() { close(socket); }
    } at_end{ worker };
    report step{};
    const hipc::Allocator *alloc = nullptr;
    std::printf("%-26s %10s %8s %7s %12s\n", "", "allocated", "blocks", "in use", "largest free");
    while (read(worker, &step, sizeof step) == sizeof step) {
        if (alloc == nullptr) { /* its first step is that the heap is there */
            check(HSHM_MEMORY_MANAGER->AttachBackend(hipc::MemoryBackendType::kPosixShmMmap, url) != nullptr);
            alloc = HSHM_MEMORY_MANAGER->GetAllocator<hipc::Allocator>(alloc_id); /* of whatever kind it is */
            check(alloc != nullptr);
        }
        look(*alloc, step);
        expect(write(worker, "", 1) == 1, "the worker is gone");
    }
    expect(alloc != nullptr && step.blocks == 0, "the worker ended early");
    /* It has removed the name; who is attached sees the heap until he leaves. */
    expect(alloc->GetCurrentlyAllocatedSize() == 0, "the heap is not empty at the end");
    HSHM_MEMORY_MANAGER->DestroyBackend(backend_id);
}

} // namespace

int
main()
{
    const std::string url = practice::heap_name("statistics");
    return practice::run([&] {
        signal(SIGPIPE, SIG_IGN); /* who is gone is noticed at the socket */
        int ends[2];
        expect(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "no socket");
        practice::process worker([&] {
            close(ends[0]);
            work(url, ends[1]);
        });
        close(ends[1]);
        watch(url, ends[0]);
        worker.must_end_well();
    });
}
