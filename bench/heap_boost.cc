/*
 * heap_boost.cc - Boost.Interprocess, the part in C++; see heap_boost.h.
 */
#include "heap_boost.h"

#include <boost/interprocess/managed_shared_memory.hpp>
#include <cstdio>
#include <exception>
#include <new>

namespace ipc = boost::interprocess;

struct heap_boost {
    ipc::managed_shared_memory segment;
};

extern "C" void *
heap_take(heap_ref heap, size_t size)
{
    return heap->segment.allocate(size, std::nothrow);
}

extern "C" void
heap_free(heap_ref heap, void *block)
{
    heap->segment.deallocate(block);
}

/* Handle 0 is the segment's own header, never a block. */
extern "C" uint64_t
heap_handle(heap_ref heap, const void *block)
{
    return static_cast<uint64_t>(heap->segment.get_handle_from_address(block));
}

extern "C" void *
heap_address(heap_ref heap, uint64_t handle)
{
    return heap->segment.get_address_from_handle(static_cast<ipc::managed_shared_memory::handle_t>(handle));
}

extern "C" heap_ref
heap_boost_open(const char *name, uint64_t bytes, int create, char *why, size_t why_size)
{
    try {
        if (create)
            return new heap_boost{ ipc::managed_shared_memory(ipc::create_only, name, bytes) };
        return new heap_boost{ ipc::managed_shared_memory(ipc::open_only, name) };
    } catch (const std::exception &error) {
        (void)std::snprintf(why, why_size, "Boost.Interprocess: %s", error.what());
        return nullptr;
    }
}

extern "C" void
heap_boost_close(heap_ref heap)
{
    delete heap;
}
