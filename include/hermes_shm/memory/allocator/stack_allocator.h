/*
 * stack_allocator.h - a bump pointer: fast, no fragmentation; room comes back from the top.
 */
#ifndef HERMES_SHM_MEMORY_ALLOCATOR_STACK_ALLOCATOR_H
#define HERMES_SHM_MEMORY_ALLOCATOR_STACK_ALLOCATOR_H

#include <hermes_shm/memory/allocator/allocator.h>

namespace hshm::ipc
{

class StackAllocator : public Allocator
{
  public:
    static constexpr hshm_allocator_kind Kind = HSHM_ALLOCATOR_STACK;
};

} // namespace hshm::ipc

#endif
