/*
 * gpu_shm_mmap.h - shared memory that a GPU can use.
 */
#ifndef HERMES_SHM_MEMORY_BACKEND_GPU_SHM_MMAP_H
#define HERMES_SHM_MEMORY_BACKEND_GPU_SHM_MMAP_H

#include <hermes_shm/memory/backend/memory_backend.h>

namespace hshm::ipc
{

class GpuShmMmap : public detail::GpuBackend<MemoryBackendType::kGpuShmMmap, HSHM_BACKEND_GPU_SHM_MMAP>
{
};

} // namespace hshm::ipc

#endif
