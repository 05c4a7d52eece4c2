/*
 * scalable_page_allocator.h - general use by any number of threads and processes.
 */
#ifndef HERMES_SHM_MEMORY_ALLOCATOR_SCALABLE_PAGE_ALLOCATOR_H
#define HERMES_SHM_MEMORY_ALLOCATOR_SCALABLE_PAGE_ALLOCATOR_H

#include <hermes_shm/memory/allocator/allocator.h>

namespace hshm::ipc
{

class ScalablePageAllocator : public Allocator
{
  public:
    static constexpr hshm_allocator_kind Kind = HSHM_ALLOCATOR_SCALABLE_PAGE;
};

} // namespace hshm::ipc

#endif
