/*
 * thread_local_allocator.h - general use at high frequency: each thread keeps blocks of its own.
 */
#ifndef HERMES_SHM_MEMORY_ALLOCATOR_THREAD_LOCAL_ALLOCATOR_H
#define HERMES_SHM_MEMORY_ALLOCATOR_THREAD_LOCAL_ALLOCATOR_H

#include <hermes_shm/memory/allocator/allocator.h>

namespace hshm::ipc
{

class ThreadLocalAllocator : public Allocator
{
  public:
    static constexpr hshm_allocator_kind Kind = HSHM_ALLOCATOR_THREAD_LOCAL;
};

} // namespace hshm::ipc

#endif
