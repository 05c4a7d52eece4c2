/*
 * array_backend.h - memory that the program has already.
 */
#ifndef HERMES_SHM_MEMORY_BACKEND_ARRAY_BACKEND_H
#define HERMES_SHM_MEMORY_BACKEND_ARRAY_BACKEND_H

#include <hermes_shm/memory/backend/memory_backend.h>

namespace hshm::ipc
{

class ArrayBackend : public MemoryBackend
{
  public:
    static constexpr MemoryBackendType EnumType = MemoryBackendType::kArrayBackend;
    static constexpr hshm_backend_kind Kind = HSHM_BACKEND_ARRAY;

    /** `array`: 64-byte aligned; its content is overwritten, and it must outlive the backend. */
    static detail::BackendArguments Understand(void *array, hshm_backend_options options = detail::DefaultOptions())
    {
        options.array = array;
        return { Kind, options, {}, {} };
    }
};

} // namespace hshm::ipc

#endif
