/*
 * memory_backend.h - the guide's backends: where the bytes of a heap come from.
 *
 * Each kind is a class that says how CreateBackend<Kind>(id, size, ...) is to be understood:
 *
 *     PosixShmMmap    (id, size, url)             /dev/shm, by name
 *     PosixMmap       (id, size, path)            a file
 *     MallocBackend   (id, size)                  this process's memory
 *     ArrayBackend    (id, size, array)           yours: 64-byte aligned, must outlive the backend
 *     GpuMalloc       (id, size, url[, gpu])      a GPU's memory: blocks are for kernels and hshm_copy_to(); see hshm/gpu.h
 *     GpuShmMmap      (id, size, url[, gpu])      shared memory that a GPU can use
 *
 * hshm/backend.h says what each promises.  A MemoryBackend * is the C interface's hshm_backend *, seen by another name: there
 * are no objects of these classes.
 */
#ifndef HERMES_SHM_MEMORY_BACKEND_MEMORY_BACKEND_H
#define HERMES_SHM_MEMORY_BACKEND_MEMORY_BACKEND_H

#include <hermes_shm/memory/memory.h>

#include <vector>

namespace hshm::ipc
{

/* Inline, so that a program may declare the guide's own list, too (which has the same names in the same order). */
inline namespace memory_backend_type
{

enum class MemoryBackendType {
    kPosixShmMmap,  /**< POSIX shared memory with mmap  */
    kMallocBackend, /**< malloc                         */
    kArrayBackend,  /**< the caller's array             */
    kPosixMmap,     /**< a mapped file                  */
    kGpuMalloc,     /**< a GPU's memory                 */
    kGpuShmMmap,    /**< shared memory for CPU and GPU  */
};

} // namespace memory_backend_type

/** One region as the manager sees it. */
class MemoryBackend
{
  public:
    MemoryBackend() = delete;
    MemoryBackend(const MemoryBackend &) = delete;

    hshm_backend *Handle() const { return reinterpret_cast<hshm_backend *>(const_cast<MemoryBackend *>(this)); }
    static MemoryBackend *Of(hshm_backend *handle) { return reinterpret_cast<MemoryBackend *>(handle); }

    MemoryBackendId GetId() const { return { Info().id }; }
    MemoryBackendType GetType() const;
    /** Bytes of the region, its tables included. */
    std::size_t GetSize() const { return Info().size; }
    /** Did this process create it, so that its DestroyBackend() removes the name? */
    bool IsOwned() const { return Info().created_here; }
    /** See hshm/backend.h.  All zero, struct_size apart, if it cannot be had. */
    hshm_backend_info_data Info() const
    {
        hshm_backend_info_data info = {};
        info.struct_size = sizeof info;
        (void)hshm_backend_info(Handle(), &info);
        return info;
    }
};

namespace detail
{

/* What hshm_backend_create() is given. */
struct BackendArguments {
    hshm_backend_kind kind;
    hshm_backend_options options;
    std::string url;
    std::string device{};

    const char *Url() const { return url.empty() ? nullptr : url.c_str(); }
    hshm_backend_options Options() const
    {
        hshm_backend_options all = options;
        if (!device.empty())
            all.gpu_device = device.c_str();
        return all;
    }
};

/* A name that a crashed program left is taken over; one that somebody lives in never is. */
inline hshm_backend_options
DefaultOptions()
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.replace = HSHM_REPLACE_DEAD;
    return options;
}

/* What the kinds with names share; `options` is for those who want more than the guide's. */
template <MemoryBackendType TYPE, hshm_backend_kind KIND> class NamedBackend : public MemoryBackend
{
  public:
    static constexpr MemoryBackendType EnumType = TYPE;
    static constexpr hshm_backend_kind Kind = KIND;

    static BackendArguments Understand(const std::string &url, const hshm_backend_options &options = DefaultOptions())
    {
        return { KIND, options, url, {} };
    }
};

/* And the kinds on a GPU: the n-th of this process's, as hshm_gpu_list() numbers them; -1 is the thread's current one. */
template <MemoryBackendType TYPE, hshm_backend_kind KIND> class GpuBackend : public MemoryBackend
{
  public:
    static constexpr MemoryBackendType EnumType = TYPE;
    static constexpr hshm_backend_kind Kind = KIND;

    static BackendArguments Understand(const std::string &url, int gpu = -1,
                                       const hshm_backend_options &options = DefaultOptions())
    {
        return { KIND, options, url, gpu < 0 ? std::string() : DeviceOf(static_cast<std::size_t>(gpu)) };
    }

  private:
    /* A number that no device has, and one that no driver knows of, are told by the call that creates the backend. */
    static std::string DeviceOf(std::size_t gpu)
    {
        std::size_t count = 0;
        if (hshm_gpu_list(nullptr, 0, &count) != HSHM_OK)
            return {};
        std::vector<hshm_gpu_info> infos(count);
        if (gpu >= count || hshm_gpu_list(infos.data(), count, &count) != HSHM_OK)
            return "device " + std::to_string(gpu) + " of " + std::to_string(count);
        return infos[gpu].uuid;
    }
};

} // namespace detail
} // namespace hshm::ipc

#endif
