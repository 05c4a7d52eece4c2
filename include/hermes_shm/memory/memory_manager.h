/*
 * memory_manager.h - the guide's memory manager: backends and allocators of this process.
 *
 *     auto *manager = HSHM_MEMORY_MANAGER;
 *     manager->CreateBackend<hipc::PosixShmMmap>(backend_id, hshm::Unit<size_t>::Gigabytes(1), "my_heap");
 *     manager->CreateAllocator<hipc::StackAllocator>(backend_id, alloc_id, sizeof(int));
 *     auto *alloc = manager->GetAllocator<hipc::StackAllocator>(alloc_id);
 *
 * It is the C interface's default manager (hshm/manager.h), and what is registered by one is seen by the other.  Its calls are
 * safe from several threads, and none throws: null or false means that it failed, and hshm_last_error() says why.
 */
#ifndef HERMES_SHM_MEMORY_MEMORY_MANAGER_H
#define HERMES_SHM_MEMORY_MEMORY_MANAGER_H

#include <hermes_shm/memory/allocator/allocator.h>
#include <hermes_shm/memory/allocator/malloc_allocator.h>
#include <hermes_shm/memory/allocator/scalable_page_allocator.h>
#include <hermes_shm/memory/allocator/stack_allocator.h>
#include <hermes_shm/memory/allocator/thread_local_allocator.h>
#include <hermes_shm/memory/backend/array_backend.h>
#include <hermes_shm/memory/backend/gpu_malloc.h>
#include <hermes_shm/memory/backend/gpu_shm_mmap.h>
#include <hermes_shm/memory/backend/malloc_backend.h>
#include <hermes_shm/memory/backend/memory_backend.h>
#include <hermes_shm/memory/backend/posix_mmap.h>
#include <hermes_shm/memory/backend/posix_shm_mmap.h>
#include <hermes_shm/memory/memory.h>

#include <atomic>

/** The memory manager of this process. */
#define HSHM_MEMORY_MANAGER (::hshm::ipc::MemoryManager::Get())

namespace hshm::ipc
{

namespace detail
{

struct BackendKind {
    MemoryBackendType type;
    hshm_backend_kind kind;
};
inline constexpr BackendKind backend_kinds[] = {
    { PosixShmMmap::EnumType, PosixShmMmap::Kind }, { MallocBackend::EnumType, MallocBackend::Kind },
    { ArrayBackend::EnumType, ArrayBackend::Kind }, { PosixMmap::EnumType, PosixMmap::Kind },
    { GpuMalloc::EnumType, GpuMalloc::Kind },       { GpuShmMmap::EnumType, GpuShmMmap::Kind },
};

/* How long AttachBackend() waits for a region that is there, but whose creator has not put its allocator on it yet. */
inline constexpr std::uint64_t attach_wait_ms = 1000;

} // namespace detail

inline MemoryBackendType
MemoryBackend::GetType() const
{
    const hshm_backend_kind kind = Info().kind;
    for (const detail::BackendKind &row : detail::backend_kinds) {
        if (row.kind == kind)
            return row.type;
    }
    return MemoryBackendType::kPosixShmMmap;
}

/** See above.  There is one; it has no state that could end before its users. */
class __attribute__((visibility("default"))) MemoryManager
{
  public:
    static MemoryManager *Get()
    {
        static MemoryManager manager;
        return &manager;
    }

    /* ---- Backends ---- */

    /**
     * Create a backend; what comes after the size is said at each kind (backend/memory_backend.h).
     * The memory is reserved: too little of it is an answer here, not a signal later.  A name that a crashed program left is
     * taken over if every process that ever used it is dead.
     * @return null if the id or the name is taken, if there is no room, ...
     */
    template <typename BackendT, typename... Args>
    MemoryBackend *CreateBackend(const MemoryBackendId &id, std::size_t size, Args &&...args)
    {
        const detail::BackendArguments what = BackendT::Understand(std::forward<Args>(args)...);
        hshm_backend *made = nullptr;
        const hshm_backend_options options = what.Options();
        (void)hshm_backend_create(nullptr, id.id_, what.kind, size, what.Url(), &options, &made);
        return MemoryBackend::Of(made);
    }

    /** The same for code that serves all kinds: those without names do without the name. */
    template <typename BackendT, typename... Args>
    MemoryBackend *CreateBackendWithUrl(const MemoryBackendId &id, std::size_t size, const std::string &url,
                                        Args &&...args)
    {
        if constexpr (std::is_base_of_v<MallocBackend, BackendT> || std::is_base_of_v<ArrayBackend, BackendT>)
            return CreateBackend<BackendT>(id, size, std::forward<Args>(args)...);
        else
            return CreateBackend<BackendT>(id, size, url, std::forward<Args>(args)...);
    }

    /**
     * Attach to a backend that another process created; it and its allocator are registered under the ids that they have there.
     * Waits up to a second for its allocator if that is still being created, and not for its name: attach after the creator's
     * barrier, or try again, or use the other form.
     * @return null if there is no such region, if it is still without an allocator, if an id is taken here, ...
     */
    MemoryBackend *AttachBackend(MemoryBackendType type, const std::string &url)
    {
        const hshm_attach_options once = HSHM_ATTACH_OPTIONS_INIT;
        MemoryBackend *attached = AttachBackend(type, url, once);
        if (attached != nullptr || hshm_last_status() != HSHM_E_NOTREADY)
            return attached;
        hshm_attach_options wait = HSHM_ATTACH_OPTIONS_INIT;
        wait.timeout_ms = detail::attach_wait_ms;
        return AttachBackend(type, url, wait);
    }

    /** The same with options: timeout_ms waits for the name, too; read_only; ... */
    MemoryBackend *AttachBackend(MemoryBackendType type, const std::string &url, const hshm_attach_options &options)
    {
        hshm_backend *attached = nullptr;
        (void)hshm_backend_attach(nullptr, KindOf(type), url.c_str(), &options, &attached);
        return MemoryBackend::Of(attached);
    }

    MemoryBackend *GetBackend(const MemoryBackendId &id)
    {
        return MemoryBackend::Of(hshm_backend_get(nullptr, id.id_));
    }

    /** Leave the memory, and forget the backend and its allocator; the name stays, for others to attach to. */
    bool UnregisterBackend(const MemoryBackendId &id) { return hshm_backend_detach(nullptr, id.id_) == HSHM_OK; }

    /**
     * Leave the memory, and forget the backend and its allocator; in the process that created it, remove its name too (if it
     * still names this very region).  Others who are attached go on.  False, and harmless, if there is no such backend.
     */
    bool DestroyBackend(const MemoryBackendId &id) { return hshm_backend_destroy(nullptr, id.id_) == HSHM_OK; }

    /** Nothing is left to be found: AttachBackend() registers allocators itself. */
    void ScanBackends(bool = true) {}

    /* ---- Allocators ---- */

    /**
     * Put an allocator on a backend that this process created, and make it ready for others to attach.
     * @return null if the backend has one already, if the pair cannot be (Malloc on shared memory), ...
     */
    template <typename AllocT>
    AllocT *CreateAllocator(const MemoryBackendId &backend_id, const AllocatorId &alloc_id,
                            std::size_t custom_header_size, const hshm_allocator_options *options = nullptr)
    {
        static_assert(AllocT::Kind != HSHM_ALLOCATOR_ANY, "say which kind: StackAllocator, ScalablePageAllocator, ...");
        hshm_allocator *made = nullptr;
        (void)hshm_allocator_create(nullptr, backend_id.id_, alloc_id, AllocT::Kind, custom_header_size, options,
                                    &made);
        return static_cast<AllocT *>(Allocator::Of(made));
    }

    /** Take an allocator back that was unregistered, as long as its backend is there.  @return null if it is not */
    Allocator *RegisterAllocator(Allocator *alloc)
    {
        return alloc != nullptr && hshm_allocator_register(nullptr, alloc->Handle()) == HSHM_OK ? alloc : nullptr;
    }

    /** @return null if there is none, or if it is of another kind */
    template <typename AllocT = Allocator> AllocT *GetAllocator(const AllocatorId &id)
    {
        hshm_allocator *found = nullptr;
        (void)hshm_allocator_get(nullptr, id, AllocT::Kind, &found);
        return static_cast<AllocT *>(Allocator::Of(found));
    }

    /** Forget an allocator here; its heap stays.  False, and harmless, if there is none. */
    bool UnregisterAllocator(const AllocatorId &id) { return hshm_allocator_unregister(nullptr, id) == HSHM_OK; }

    /**
     * The allocator for code that names none: the one that was set, while it is registered; else this process's malloc.
     * @return null if that is not of the kind that is asked for
     */
    template <typename AllocT = Allocator> AllocT *GetDefaultAllocator()
    {
        const AllocatorId set = Default();
        return GetAllocator<Allocator>(set) != nullptr ? GetAllocator<AllocT>(set) : Root<AllocT>();
    }
    template <typename AllocT> void SetDefaultAllocator(AllocT *alloc)
    {
        default_.store(alloc == nullptr ? AllocatorId::GetNull().int_ : alloc->GetId().int_);
    }

    /* ---- Pointers, of all allocators that are registered ---- */

    /** The address in this process; null if no allocator has it. */
    template <typename T, typename PointerT = Pointer, std::enable_if_t<IsShmPointer<PointerT>, int> = 0>
    T *Convert(const PointerT &p)
    {
        void *addr = nullptr;
        (void)hshm_resolve(nullptr, { p.alloc_id_, p.off_.load() }, &addr);
        return static_cast<T *>(addr);
    }
    /** The form that travels, for an address in a heap that the program knows: not checked. */
    template <typename T, typename PointerT = Pointer> PointerT Convert(const AllocatorId &id, T *ptr)
    {
        const Allocator *alloc = GetAllocator<Allocator>(id);
        return alloc == nullptr ? PointerT::GetNull() : alloc->template Convert<T, PointerT>(ptr);
    }
    /** Likewise in any of them; null if it lies in none. */
    template <typename T, typename PointerT = Pointer> PointerT Convert(T *ptr)
    {
        hshm_shm_ptr pointer = {};
        return hshm_identify(nullptr, ptr, &pointer) == HSHM_OK ? PointerT(pointer.allocator, pointer.off)
                                                                : PointerT::GetNull();
    }

  private:
    MemoryManager() = default;

    /* 0, of which the C calls say what is wrong with it, if there is none. */
    static hshm_backend_kind KindOf(MemoryBackendType type)
    {
        for (const detail::BackendKind &row : detail::backend_kinds) {
            if (row.type == type)
                return row.kind;
        }
        return static_cast<hshm_backend_kind>(0);
    }

    AllocatorId Default() const
    {
        AllocatorId id;
        id.int_ = default_.load();
        return id;
    }

    /* Made when it is first asked for, or was taken away; its ids are the last there are. */
    template <typename AllocT> AllocT *Root()
    {
        const AllocatorId id(UINT32_MAX, 0);
        AllocT *root = GetAllocator<AllocT>(id);
        if (root == nullptr && hshm_last_status() == HSHM_E_NOTFOUND) {
            CreateBackend<MallocBackend>(MemoryBackendId::GetRoot(), 4096);
            CreateAllocator<MallocAllocator>(MemoryBackendId::GetRoot(), id, 0);
            root = GetAllocator<AllocT>(id); /* of threads that do so at once, one creates it */
        }
        return root;
    }

    std::atomic<std::uint64_t> default_{ UINT64_MAX }; /* an AllocatorId; null */
};

template <typename T, typename PointerT>
FullPtr<T, PointerT>::FullPtr(const PointerT &shm) : ptr_(MemoryManager::Get()->Convert<T>(shm)), shm_(shm)
{
    if (ptr_ == nullptr)
        shm_.SetNull();
}

template <typename T, typename PointerT>
FullPtr<T, PointerT>::FullPtr(T *ptr) : ptr_(ptr), shm_(MemoryManager::Get()->Convert<T, PointerT>(ptr))
{
}

template <typename T, typename PointerT>
FullPtr<T, PointerT>::FullPtr(const Allocator *alloc, T *ptr) : ptr_(ptr), shm_(alloc->Convert<T, PointerT>(ptr))
{
}

template <typename T, typename PointerT>
FullPtr<T, PointerT>::FullPtr(const Allocator *alloc, const OffsetPointer &off)
    : ptr_(alloc->Convert<T>(off)), shm_(alloc->GetId(), off.load())
{
}

} // namespace hshm::ipc

#endif
