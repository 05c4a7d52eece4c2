/*
 * malloc_backend.h - this process's own memory.
 */
#ifndef HERMES_SHM_MEMORY_BACKEND_MALLOC_BACKEND_H
#define HERMES_SHM_MEMORY_BACKEND_MALLOC_BACKEND_H

#include <hermes_shm/memory/backend/memory_backend.h>

namespace hshm::ipc
{

class MallocBackend : public MemoryBackend
{
  public:
    static constexpr MemoryBackendType EnumType = MemoryBackendType::kMallocBackend;
    static constexpr hshm_backend_kind Kind = HSHM_BACKEND_MALLOC;

    static detail::BackendArguments Understand(const hshm_backend_options &options = detail::DefaultOptions())
    {
        return { Kind, options, {}, {} };
    }
};

} // namespace hshm::ipc

#endif
