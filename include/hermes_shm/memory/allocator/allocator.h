/*
 * allocator.h - the guide's allocators: how a region is cut into blocks, and objects made in them.
 *
 *     auto *alloc = HSHM_MEMORY_MANAGER->GetAllocator<hipc::StackAllocator>(id);
 *     hipc::FullPtr<char> bytes = alloc->Allocate(HSHM_MCTX, 1024);
 *     hipc::FullPtr<Point> point = alloc->NewObj<Point>(HSHM_MCTX, 1.0, 2.0);
 *     ...
 *     alloc->DelObj(HSHM_MCTX, point);
 *     alloc->Free(HSHM_MCTX, bytes);
 *
 * Blocks, threads, processes, kills: as hshm/allocator.h says.  An Allocator * is the C interface's hshm_allocator *, seen by
 * another name: there are no objects of these classes, and what is made by one interface can be used by the other.
 *
 * Nothing here throws: what finds no room returns null, a wrong free changes nothing and returns false; hshm_last_error()
 * says why.  (What a constructor throws goes through, and its block is freed before.)
 */
#ifndef HERMES_SHM_MEMORY_ALLOCATOR_ALLOCATOR_H
#define HERMES_SHM_MEMORY_ALLOCATOR_ALLOCATOR_H

#include <hermes_shm/memory/memory.h>

#include <memory>
#include <new>
#include <utility>

namespace hshm::ipc
{

enum class AllocatorType {
    kStackAllocator = HSHM_ALLOCATOR_STACK,
    kScalablePageAllocator = HSHM_ALLOCATOR_SCALABLE_PAGE,
    kThreadLocalAllocator = HSHM_ALLOCATOR_THREAD_LOCAL,
    kMallocAllocator = HSHM_ALLOCATOR_MALLOC
};

namespace detail
{

/* Allocate<int> gives a FullPtr<int>; Allocate<Pointer>, as older programs have it, a Pointer. */
template <typename T> using AllocatedAs = std::conditional_t<IsShmPointer<T>, T, FullPtr<T>>;

/* T(args...), or T{args...} for structs without constructors. */
template <typename T, typename... Args>
void
MakeAt(T *at, Args &&...args)
{
    void *room = const_cast<std::remove_cv_t<T> *>(at);
    if constexpr (std::is_constructible_v<T, Args...>)
        ::new (room) T(std::forward<Args>(args)...);
    else
        ::new (room) T{ std::forward<Args>(args)... };
}

} // namespace detail

/** A heap of any kind. */
class Allocator
{
  public:
    /* For GetAllocator<Allocator>(): whatever kind it is. */
    static constexpr hshm_allocator_kind Kind = HSHM_ALLOCATOR_ANY;

    Allocator() = delete;
    Allocator(const Allocator &) = delete;

    hshm_allocator *Handle() const { return reinterpret_cast<hshm_allocator *>(const_cast<Allocator *>(this)); }
    static Allocator *Of(hshm_allocator *handle) { return reinterpret_cast<Allocator *>(handle); }

    AllocatorId GetId() const { return hshm_allocator_id_of(Handle()); }
    AllocatorType GetType() const { return static_cast<AllocatorType>(hshm_allocator_kind_of(Handle())); }

    /**
     * The program's own bytes in the region, for all processes: zero when new, 64-byte aligned.
     * @return null if the header that was asked for at CreateAllocator() is smaller than a T
     */
    template <typename T> T *GetCustomHeader() const
    {
        std::size_t size = 0;
        void *header = hshm_allocator_custom_header(Handle(), &size);
        return size < sizeof(T) ? nullptr : static_cast<T *>(header);
    }

    /** Bytes that are allocated now, by all processes; as the allocator rounds them. */
    std::size_t GetCurrentlyAllocatedSize() const { return Stats().live_bytes; }
    /** All that is counted; see hshm_stats in hshm/allocator.h.  All zero, struct_size apart, if it cannot be had. */
    hshm_stats Stats() const
    {
        hshm_stats stats = {};
        stats.struct_size = sizeof stats;
        (void)hshm_stats_get(Handle(), &stats);
        return stats;
    }

    /** Does it lie in this heap's blocks or custom header?  The heap must be registered in the memory manager. */
    template <typename T = void> bool ContainsPtr(const T *ptr) const
    {
        hshm_shm_ptr pointer = {};
        return ptr != nullptr && hshm_identify(nullptr, ptr, &pointer) == HSHM_OK &&
               AllocatorId(pointer.allocator) == GetId();
    }

    /* ---- Pointers: no look-up, no check ---- */

    template <typename T, typename PointerT = Pointer, std::enable_if_t<IsShmPointer<PointerT>, int> = 0>
    T *Convert(const PointerT &p) const
    {
        return static_cast<T *>(hshm_to_addr(Handle(), p.off_.load()));
    }
    template <typename T, typename PointerT = Pointer> PointerT Convert(const T *ptr) const
    {
        return ptr == nullptr ? PointerT::GetNull() : PointerT(GetId(), hshm_to_off(Handle(), ptr));
    }

    /* ---- Blocks ---- */

    /** `size` bytes, 16-byte aligned. */
    template <typename T = char> detail::AllocatedAs<T> Allocate(const MemContext &, std::size_t size) const
    {
        hshm_ptr both = {};
        (void)hshm_allocate(Handle(), size, &both);
        return Given<T>(both);
    }
    /** At a multiple of `alignment`, a power of two; 0 means none in particular. */
    template <typename T = char>
    detail::AllocatedAs<T> Allocate(const MemContext &ctx, std::size_t size, std::size_t alignment) const
    {
        return alignment == 0 ? Allocate<T>(ctx, size) : AlignedAllocate<T>(ctx, size, alignment);
    }
    template <typename T = char>
    detail::AllocatedAs<T> AlignedAllocate(const MemContext &, std::size_t size, std::size_t alignment) const
    {
        hshm_ptr both = {};
        (void)hshm_allocate_aligned(Handle(), size, alignment, &both);
        return Given<T>(both);
    }

    /**
     * Another size for a block; its content stays, up to the smaller of both.  Null gives a new block.
     * @return true, and p is where it is now; false, if there was no room, and all is as it was
     */
    template <typename T, typename PointerT>
    bool Reallocate(const MemContext &, FullPtr<T, PointerT> &p, std::size_t new_size) const
    {
        hshm_ptr both = Both(p);
        if (hshm_reallocate(Handle(), &both, new_size) != HSHM_OK)
            return false;
        p = FullPtr<T, PointerT>(static_cast<T *>(both.addr), PointerT(both.shm.allocator, both.shm.off));
        return true;
    }
    template <typename PointerT, std::enable_if_t<std::is_constructible_v<PointerT, AllocatorId, std::size_t>, int> = 0>
    bool Reallocate(const MemContext &ctx, PointerT &p, std::size_t new_size) const
    {
        FullPtr<char, PointerT> full(nullptr, p); /* by shm_ alone, which says whose it is */
        if (!Reallocate(ctx, full, new_size))
            return false;
        p = full.shm_;
        return true;
    }

    /** Free a block, and make p null.  Null is fine.  @return false if it is no live block of this heap */
    template <typename T, typename PointerT> bool Free(const MemContext &, FullPtr<T, PointerT> &p) const
    {
        if (p.ptr_ == nullptr ? !FreeBy(p.shm_) : !FreeAt(p.ptr_))
            return false;
        p.SetNull();
        return true;
    }
    template <typename T, typename PointerT> bool Free(const MemContext &ctx, const FullPtr<T, PointerT> &p) const
    {
        FullPtr<T, PointerT> copy(p);
        return Free(ctx, copy);
    }
    template <typename PointerT, std::enable_if_t<std::is_constructible_v<PointerT, AllocatorId, std::size_t>, int> = 0>
    bool Free(const MemContext &, PointerT &p) const
    {
        if (!FreeBy(p))
            return false;
        p.SetNull();
        return true;
    }
    template <typename T> bool Free(const MemContext &, T *ptr) const { return FreeAt(ptr); }
    bool Free(const MemContext &, const Pointer &p) const { return FreeBy(p); }
    bool Free(const MemContext &, const OffsetPointer &p) const { return FreeBy(p); }

    /* ---- Objects ---- */

    /** Room for `count` of them, which are not made. */
    template <typename T> FullPtr<T> AllocateObjs(const MemContext &ctx, std::size_t count) const
    {
        std::size_t bytes = 0;
        if (__builtin_mul_overflow(count, sizeof(T), &bytes))
            bytes = SIZE_MAX; /* which no heap has room for */
        const FullPtr<char> room = Allocate<char>(ctx, bytes, alignof(T) > 16 ? alignof(T) : 0);
        return FullPtr<T>(static_cast<T *>(static_cast<void *>(room.ptr_)), room.shm_);
    }

    /** `count` of them, each made of the same arguments. */
    template <typename T, typename... Args>
    FullPtr<T> NewObjs(const MemContext &ctx, std::size_t count, const Args &...args) const
    {
        FullPtr<T> p = AllocateObjs<T>(ctx, count);
        if (p.IsNull())
            return p;
        UndoUnlessDone<T> undo{ *this, p.ptr_ };
        for (; undo.made < count; undo.made++)
            detail::MakeAt<T>(p.ptr_ + undo.made, args...);
        undo.done = true;
        return p;
    }
    template <typename T, typename... Args> FullPtr<T> NewObj(const MemContext &ctx, Args &&...args) const
    {
        FullPtr<T> p = AllocateObjs<T>(ctx, 1);
        if (p.IsNull())
            return p;
        UndoUnlessDone<T> undo{ *this, p.ptr_ };
        detail::MakeAt<T>(p.ptr_, std::forward<Args>(args)...);
        undo.done = true;
        return p;
    }

    /**
     * Another number of objects.  They move byte by byte, so T must be trivially copyable; new ones are not made.
     * @return false if there was no room, and all is as it was
     */
    template <typename T, typename PointerT>
    bool ReallocateObjs(const MemContext &ctx, FullPtr<T, PointerT> &p, std::size_t new_count) const
    {
        static_assert(std::is_trivially_copyable_v<T>, "objects that know where they are cannot be moved byte by byte");
        static_assert(alignof(T) <= 16, "a block that moves is 16-byte aligned");
        std::size_t bytes = 0;
        if (__builtin_mul_overflow(new_count, sizeof(T), &bytes))
            bytes = SIZE_MAX;
        return Reallocate(ctx, p, bytes);
    }
    /** Likewise, and makes those from old_count on. */
    template <typename T, typename PointerT, typename... Args>
    bool ReallocateConstructObjs(const MemContext &ctx, FullPtr<T, PointerT> &p, std::size_t old_count,
                                 std::size_t new_count, const Args &...args) const
    {
        if (!ReallocateObjs(ctx, p, new_count))
            return false;
        for (std::size_t i = old_count; i < new_count; i++)
            detail::MakeAt<T>(p.ptr_ + i, args...);
        return true;
    }

    /**
     * Destroy `count` objects and free them; p becomes null.  Null is fine.  They must be there: as with delete, destroying what
     * was destroyed before is an error that is found out after the harm.
     */
    template <typename T, typename PointerT>
    bool DelObjs(const MemContext &ctx, FullPtr<T, PointerT> &p, std::size_t count) const
    {
        if (p.IsNull())
            return true;
        std::destroy_n(p.ptr_, count);
        return Free(ctx, p);
    }
    template <typename T, typename PointerT>
    bool DelObjs(const MemContext &ctx, const FullPtr<T, PointerT> &p, std::size_t count) const
    {
        FullPtr<T, PointerT> copy(p);
        return DelObjs(ctx, copy, count);
    }
    template <typename T> bool DelObjs(const MemContext &, T *ptr, std::size_t count) const
    {
        if (ptr == nullptr)
            return true;
        std::destroy_n(ptr, count);
        return FreeAt(ptr);
    }
    template <typename T, typename PointerT> bool DelObj(const MemContext &ctx, FullPtr<T, PointerT> &p) const
    {
        return DelObjs(ctx, p, 1);
    }
    template <typename T, typename PointerT> bool DelObj(const MemContext &ctx, const FullPtr<T, PointerT> &p) const
    {
        return DelObjs(ctx, p, 1);
    }
    template <typename T> bool DelObj(const MemContext &ctx, T *ptr) const { return DelObjs(ctx, ptr, 1); }

  private:
    /* If a constructor throws: destroys those that were made, and frees the block. */
    template <typename T> struct UndoUnlessDone {
        const Allocator &alloc;
        T *block;
        std::size_t made = 0;
        bool done = false;

        ~UndoUnlessDone()
        {
            if (done)
                return;
            std::destroy_n(block, made);
            (void)alloc.FreeAt(block);
        }
    };

    template <typename T> static detail::AllocatedAs<T> Given(const hshm_ptr &both)
    {
        if constexpr (IsShmPointer<T>)
            return T(AllocatorId(both.shm.allocator), both.shm.off);
        else
            return FullPtr<T>(static_cast<T *>(both.addr), Pointer(AllocatorId(both.shm.allocator), both.shm.off));
    }

    template <typename T, typename PointerT> hshm_ptr Both(const FullPtr<T, PointerT> &p) const
    {
        return { const_cast<std::remove_cv_t<T> *>(p.ptr_), { OwnerOf(p.shm_), p.shm_.off_.load() } };
    }

    /* Whose pointer it is: an offset alone does not say, and is taken for this heap's. */
    template <typename PointerT> AllocatorId OwnerOf(const PointerT &p) const
    {
        if constexpr (std::is_same_v<PointerT, OffsetPointer> || std::is_same_v<PointerT, AtomicOffsetPointer>)
            return GetId();
        else
            return p.alloc_id_;
    }
    /* By the form that travels: hshm_deallocate() sees whose it is. */
    template <typename PointerT> bool FreeBy(const PointerT &p) const
    {
        hshm_ptr both = { nullptr, { OwnerOf(p), p.off_.load() } };
        return hshm_deallocate(Handle(), &both) == HSHM_OK;
    }
    template <typename T> bool FreeAt(T *ptr) const
    {
        return hshm_free(Handle(), const_cast<std::remove_cv_t<T> *>(ptr)) == HSHM_OK;
    }
};

} // namespace hshm::ipc

#endif
