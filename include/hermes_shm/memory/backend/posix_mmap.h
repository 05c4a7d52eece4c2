/*
 * posix_mmap.h - a mapped file: it stays on the disk.
 */
#ifndef HERMES_SHM_MEMORY_BACKEND_POSIX_MMAP_H
#define HERMES_SHM_MEMORY_BACKEND_POSIX_MMAP_H

#include <hermes_shm/memory/backend/memory_backend.h>

namespace hshm::ipc
{

class PosixMmap : public detail::NamedBackend<MemoryBackendType::kPosixMmap, HSHM_BACKEND_POSIX_MMAP>
{
};

} // namespace hshm::ipc

#endif
