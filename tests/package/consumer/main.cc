/* main.cc - the same in C++: both of its interfaces, through the same target and flags. */
#include <hermes_shm/memory/memory_manager.h>
#include <hshm/hshm.hpp>

#include <cstdio>

int
main()
{
    try {
        hshm::heap_options options;
        options.kind = HSHM_BACKEND_MALLOC;
        hshm::heap heap = hshm::heap::create("consumer", 1 << 20, options);
        hshm::vector<int> numbers(100, 7, heap);
        hshm::unique_ptr<int> number = heap.make_unique<int>(numbers[99]);

        const auto backend = hipc::MemoryBackendId::Get(0);
        const hipc::AllocatorId id(1, 0);
        HSHM_MEMORY_MANAGER->CreateBackend<hipc::MallocBackend>(backend, hshm::Unit<size_t>::Megabytes(1));
        auto *alloc = HSHM_MEMORY_MANAGER->CreateAllocator<hipc::StackAllocator>(backend, id, 0);
        const bool good = alloc != nullptr && !alloc->Allocate(HSHM_MCTX, 100).IsNull();
        return good && HSHM_MEMORY_MANAGER->DestroyBackend(backend) && *number == 7 ? 0 : 1;
    } catch (const hshm::error &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
