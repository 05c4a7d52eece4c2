/*
 * gpu_malloc.h - memory of a GPU.
 */
#ifndef HERMES_SHM_MEMORY_BACKEND_GPU_MALLOC_H
#define HERMES_SHM_MEMORY_BACKEND_GPU_MALLOC_H

#include <hermes_shm/memory/backend/memory_backend.h>

namespace hshm::ipc
{

class GpuMalloc : public detail::GpuBackend<MemoryBackendType::kGpuMalloc, HSHM_BACKEND_GPU_MALLOC>
{
};

} // namespace hshm::ipc

#endif
