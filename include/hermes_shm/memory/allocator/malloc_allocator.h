/*
 * malloc_allocator.h - the system's malloc, in one process (on a MallocBackend only).
 */
#ifndef HERMES_SHM_MEMORY_ALLOCATOR_MALLOC_ALLOCATOR_H
#define HERMES_SHM_MEMORY_ALLOCATOR_MALLOC_ALLOCATOR_H

#include <hermes_shm/memory/allocator/allocator.h>

namespace hshm::ipc
{

class MallocAllocator : public Allocator
{
  public:
    static constexpr hshm_allocator_kind Kind = HSHM_ALLOCATOR_MALLOC;
};

} // namespace hshm::ipc

#endif
