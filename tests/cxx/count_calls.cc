/*
 * count_calls.cc - a program for callgrind: take and free blocks of 64 bytes by the C interface, and by each in C++.
 *
 *     count_calls WAY PAIRS
 *
 * WAY: c          hshm_malloc(), hshm_free(), and a look at what they return
 *      heap       hshm::heap::allocate(), deallocate(): the throwing ones
 *      c_ptr      hshm_allocate(), hshm_deallocate(): both forms of a pointer
 *      guide      Allocate(), Free() of the guide's interface, with a FullPtr
 *      allocator  hshm::allocator<T>, as a container in the heap calls it
 *      local      hshm::local_allocator<T>
 *
 * Each is a function of its own, counted whole: what it calls, and its loop.
 */
#include <hermes_shm/memory/memory_manager.h>
#include <hshm/hshm.hpp>

#include <cstdlib>
#include <cstring>

namespace
{

struct element {
    unsigned char bytes[64];
};
using container = hshm::allocator<element>;

} // namespace

extern "C" {

__attribute__((noinline)) bool
count_c(hshm_allocator *heap, unsigned long pairs)
{
    for (unsigned long i = 0; i < pairs; i++) {
        void *block = hshm_malloc(heap, 64);
        if (block == nullptr || hshm_free(heap, block) != HSHM_OK)
            return false;
    }
    return true;
}

__attribute__((noinline)) bool
count_heap(const hshm::heap &heap, unsigned long pairs)
{
    for (unsigned long i = 0; i < pairs; i++)
        heap.deallocate(heap.allocate(64));
    return true;
}

__attribute__((noinline)) bool
count_c_ptr(hshm_allocator *heap, unsigned long pairs)
{
    for (unsigned long i = 0; i < pairs; i++) {
        hshm_ptr block;
        if (hshm_allocate(heap, 64, &block) != HSHM_OK || hshm_deallocate(heap, &block) != HSHM_OK)
            return false;
    }
    return true;
}

__attribute__((noinline)) bool
count_guide(hipc::ThreadLocalAllocator *alloc, unsigned long pairs)
{
    for (unsigned long i = 0; i < pairs; i++) {
        auto block = alloc->Allocate(HSHM_MCTX, 64);
        if (block.IsNull() || !alloc->Free(HSHM_MCTX, block))
            return false;
    }
    return true;
}

__attribute__((noinline)) bool
count_allocator(container &alloc, unsigned long pairs)
{
    for (unsigned long i = 0; i < pairs; i++) {
        const container::pointer block = alloc.allocate(1);
        alloc.deallocate(block, 1);
    }
    return true;
}

__attribute__((noinline)) bool
count_local(hshm::local_allocator<element> alloc, unsigned long pairs)
{
    for (unsigned long i = 0; i < pairs; i++)
        alloc.deallocate(alloc.allocate(1), 1);
    return true;
}
}

int
main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const char *way = argv[1];
    const unsigned long pairs = std::strtoul(argv[2], nullptr, 10);
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    hshm_allocator *handle = nullptr;
    if (hshm_backend_create(nullptr, 1, HSHM_BACKEND_MALLOC, 16 << 20, nullptr, &options, nullptr) != HSHM_OK ||
        hshm_allocator_create(nullptr, 1, { 1, 0 }, HSHM_ALLOCATOR_THREAD_LOCAL, 0, nullptr, &handle) != HSHM_OK)
        return 1;
    const hshm::heap heap(handle);
    container in_heap(heap);
    const bool good =
        std::strcmp(way, "c") == 0       ? count_c(handle, pairs)
        : std::strcmp(way, "heap") == 0  ? count_heap(heap, pairs)
        : std::strcmp(way, "c_ptr") == 0 ? count_c_ptr(handle, pairs)
        : std::strcmp(way, "guide") == 0
            ? count_guide(HSHM_MEMORY_MANAGER->GetAllocator<hipc::ThreadLocalAllocator>(hipc::AllocatorId(1, 0)), pairs)
        : std::strcmp(way, "allocator") == 0 ? count_allocator(in_heap, pairs)
                                             : count_local(heap, pairs);
    return good ? 0 : 1;
}
