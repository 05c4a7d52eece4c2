/*
 * posix_shm_mmap.h - POSIX shared memory: other processes attach by name.
 */
#ifndef HERMES_SHM_MEMORY_BACKEND_POSIX_SHM_MMAP_H
#define HERMES_SHM_MEMORY_BACKEND_POSIX_SHM_MMAP_H

#include <hermes_shm/memory/backend/memory_backend.h>

namespace hshm::ipc
{

class PosixShmMmap : public detail::NamedBackend<MemoryBackendType::kPosixShmMmap, HSHM_BACKEND_POSIX_SHM_MMAP>
{
};

} // namespace hshm::ipc

#endif
