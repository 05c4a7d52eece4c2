/*
 * memory.h - the guide's words for ids and pointers.
 *
 * The guide's interface (hermes_shm/...) is C++17 over the C one (hshm/hshm.h): same regions, same heaps, same rules.  Its
 * objects are the C objects: an AllocatorId is an hshm_allocator_id, a Pointer an hshm_shm_ptr, a FullPtr an hshm_ptr, byte by
 * byte.  Where programs that were written for another implementation of the guide may meet a difference: docs/cxx.md.
 *
 * No call here throws.  What fails returns null (a pointer, a FullPtr) or false, and hshm_last_error() says why.
 */
#ifndef HERMES_SHM_MEMORY_MEMORY_H
#define HERMES_SHM_MEMORY_MEMORY_H

#include <hshm/hshm.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <typeinfo>

namespace hshm
{

/** Sizes: hshm::Unit<size_t>::Gigabytes(1).  Powers of 1024. */
template <typename T> class Unit
{
  public:
    static constexpr T Bytes(T n) { return n; }
    static constexpr T Kilobytes(T n) { return Shifted(n, 10); }
    static constexpr T Megabytes(T n) { return Shifted(n, 20); }
    static constexpr T Gigabytes(T n) { return Shifted(n, 30); }
    static constexpr T Terabytes(T n) { return Shifted(n, 40); }
    static constexpr T Petabytes(T n) { return Shifted(n, 50); }

  private:
    static constexpr T Shifted(T n, int bits) { return static_cast<T>(n * static_cast<T>(std::uint64_t{ 1 } << bits)); }
};

/** A thread's number.  Kept for MemContext. */
struct ThreadId {
    std::uint64_t tid_ = UINT64_MAX;

    static constexpr ThreadId GetNull() { return {}; }
    constexpr bool IsNull() const { return tid_ == UINT64_MAX; }
};

namespace ipc
{

/** Names a backend.  Get(n) gives the n-th of a program. */
class MemoryBackendId
{
  public:
    std::uint32_t id_ = 0;

    constexpr MemoryBackendId() = default;
    constexpr MemoryBackendId(std::uint32_t id) : id_(id) {}
    static constexpr MemoryBackendId GetRoot() { return { UINT32_MAX }; }
    static constexpr MemoryBackendId Get(std::uint32_t n) { return { n }; }
    constexpr bool operator==(const MemoryBackendId &other) const { return id_ == other.id_; }
    constexpr bool operator!=(const MemoryBackendId &other) const { return id_ != other.id_; }
};

/** Names an allocator. */
union AllocatorId {
    struct {
        std::uint32_t major_;
        std::uint32_t minor_;
    } bits_;
    std::uint64_t int_;

    AllocatorId() = default;
    constexpr explicit AllocatorId(std::uint32_t major, std::uint32_t minor) : bits_{ major, minor } {}
    AllocatorId(hshm_allocator_id id) : bits_{ id.major, id.minor } {}
    operator hshm_allocator_id() const { return { bits_.major_, bits_.minor_ }; }

    static constexpr AllocatorId GetNull() { return AllocatorId(UINT32_MAX, UINT32_MAX); }
    void SetNull() { *this = GetNull(); }
    bool IsNull() const { return *this == GetNull(); }
    bool operator==(const AllocatorId &other) const { return int_ == other.int_; }
    bool operator!=(const AllocatorId &other) const { return int_ != other.int_; }
};

/** A word that looks like a std::atomic and is none. */
template <typename T> class nonatomic
{
  public:
    constexpr nonatomic() = default;
    constexpr nonatomic(T value) : value_(value) {}
    T load(std::memory_order = std::memory_order_seq_cst) const { return value_; }
    void store(T value, std::memory_order = std::memory_order_seq_cst) { value_ = value; }
    T exchange(T value, std::memory_order = std::memory_order_seq_cst)
    {
        const T before = value_;
        value_ = value;
        return before;
    }
    bool compare_exchange_strong(T &expected, T desired, std::memory_order = std::memory_order_seq_cst)
    {
        if (value_ == expected) {
            value_ = desired;
            return true;
        }
        expected = value_;
        return false;
    }
    bool compare_exchange_weak(T &expected, T desired, std::memory_order = std::memory_order_seq_cst)
    {
        return compare_exchange_strong(expected, desired);
    }
    T fetch_add(T n, std::memory_order = std::memory_order_seq_cst) { return exchange(static_cast<T>(value_ + n)); }
    T fetch_sub(T n, std::memory_order = std::memory_order_seq_cst) { return exchange(static_cast<T>(value_ - n)); }

  private:
    T value_{};
};

/** A std::atomic that is copied by load and store. */
template <typename T> class copyable_atomic : public std::atomic<T>
{
  public:
    constexpr copyable_atomic(T value = T()) : std::atomic<T>(value) {}
    copyable_atomic(const copyable_atomic &other) : std::atomic<T>(other.load()) {}
    copyable_atomic &operator=(const copyable_atomic &other)
    {
        this->store(other.load());
        return *this;
    }
};

template <typename T, bool ATOMIC> using opt_atomic = std::conditional_t<ATOMIC, copyable_atomic<T>, nonatomic<T>>;

/** What pointers that travel have in common: the base of all of them, which can be asked for by type. */
struct ShmPointer {
};
template <typename T> inline constexpr bool IsShmPointer = std::is_base_of_v<ShmPointer, T>;

/**
 * An offset from a region's start, where the program knows which.  Null is 0, as in memory that is zero when new.
 * The atomic one is for words that several threads or processes change; it is copied by load and store.
 */
template <bool ATOMIC = false> struct OffsetPointerBase : public ShmPointer {
    opt_atomic<std::size_t, ATOMIC> off_;

    constexpr OffsetPointerBase() : off_(0) {}
    constexpr explicit OffsetPointerBase(std::size_t off) : off_(off) {}
    /** So that all kinds of pointers can be made of the same two things. */
    constexpr OffsetPointerBase(AllocatorId, std::size_t off) : off_(off) {}
    OffsetPointerBase(const OffsetPointerBase &other) = default;
    OffsetPointerBase(const OffsetPointerBase<!ATOMIC> &other) : off_(other.load()) {}
    OffsetPointerBase &operator=(const OffsetPointerBase &other) = default;
    OffsetPointerBase &operator=(std::size_t off)
    {
        off_.store(off);
        return *this;
    }

    static OffsetPointerBase GetNull() { return OffsetPointerBase(); }
    void SetNull() { off_.store(0); }
    bool IsNull() const { return load() == 0; }
    OffsetPointerBase<false> ToOffsetPointer() const { return OffsetPointerBase<false>(load()); }

    std::size_t load(std::memory_order order = std::memory_order_seq_cst) const { return off_.load(order); }
    void store(std::size_t off, std::memory_order order = std::memory_order_seq_cst) { off_.store(off, order); }
    std::size_t exchange(std::size_t off, std::memory_order order = std::memory_order_seq_cst)
    {
        return off_.exchange(off, order);
    }
    bool compare_exchange_weak(std::size_t &expected, std::size_t desired,
                               std::memory_order order = std::memory_order_seq_cst)
    {
        return off_.compare_exchange_weak(expected, desired, order);
    }
    bool compare_exchange_strong(std::size_t &expected, std::size_t desired,
                                 std::memory_order order = std::memory_order_seq_cst)
    {
        return off_.compare_exchange_strong(expected, desired, order);
    }

    OffsetPointerBase operator+(std::size_t n) const { return OffsetPointerBase(load() + n); }
    OffsetPointerBase operator-(std::size_t n) const { return OffsetPointerBase(load() - n); }
    OffsetPointerBase &operator+=(std::size_t n)
    {
        off_.fetch_add(n);
        return *this;
    }
    OffsetPointerBase &operator-=(std::size_t n)
    {
        off_.fetch_sub(n);
        return *this;
    }
    OffsetPointerBase &operator++() { return *this += 1; }
    OffsetPointerBase &operator--() { return *this -= 1; }
    OffsetPointerBase operator++(int) { return OffsetPointerBase(off_.fetch_add(1)); }
    OffsetPointerBase operator--(int) { return OffsetPointerBase(off_.fetch_sub(1)); }
    template <bool OTHER> bool operator==(const OffsetPointerBase<OTHER> &other) const
    {
        return load() == other.load();
    }
    template <bool OTHER> bool operator!=(const OffsetPointerBase<OTHER> &other) const
    {
        return load() != other.load();
    }
};

using OffsetPointer = OffsetPointerBase<false>;
using AtomicOffsetPointer = OffsetPointerBase<true>;
template <typename T> using TypedOffsetPointer = OffsetPointer;
template <typename T> using TypedAtomicOffsetPointer = AtomicOffsetPointer;

/**
 * A pointer that travels between processes: which allocator, and where in its region.  Null when its offset is.
 * Of the atomic one the offset is atomic; change the allocator while nobody looks.
 */
template <bool ATOMIC = false> struct PointerBase : public ShmPointer {
    AllocatorId alloc_id_;
    OffsetPointerBase<ATOMIC> off_;

    constexpr PointerBase() : alloc_id_(AllocatorId::GetNull()) {}
    constexpr explicit PointerBase(AllocatorId id, std::size_t off) : alloc_id_(id), off_(off) {}
    explicit PointerBase(AllocatorId id, OffsetPointer off) : alloc_id_(id), off_(off.load()) {}
    PointerBase(const PointerBase &other) = default;
    PointerBase(const PointerBase<!ATOMIC> &other) : alloc_id_(other.alloc_id_), off_(other.off_.load()) {}
    PointerBase &operator=(const PointerBase &other) = default;

    static PointerBase GetNull() { return PointerBase(); }
    void SetNull() { *this = GetNull(); }
    bool IsNull() const { return off_.IsNull(); }
    OffsetPointer ToOffsetPointer() const { return off_.ToOffsetPointer(); }

    PointerBase operator+(std::size_t n) const { return PointerBase(alloc_id_, off_.load() + n); }
    PointerBase operator-(std::size_t n) const { return PointerBase(alloc_id_, off_.load() - n); }
    PointerBase &operator+=(std::size_t n)
    {
        off_ += n;
        return *this;
    }
    PointerBase &operator-=(std::size_t n)
    {
        off_ -= n;
        return *this;
    }
    PointerBase &operator++() { return *this += 1; }
    PointerBase &operator--() { return *this -= 1; }
    PointerBase operator++(int) { return PointerBase(alloc_id_, (off_++).load()); }
    PointerBase operator--(int) { return PointerBase(alloc_id_, (off_--).load()); }
    /** All null pointers are equal. */
    template <bool OTHER> bool operator==(const PointerBase<OTHER> &other) const
    {
        return off_ == other.off_ && (off_.IsNull() || alloc_id_ == other.alloc_id_);
    }
    template <bool OTHER> bool operator!=(const PointerBase<OTHER> &other) const { return !(*this == other); }
};

using Pointer = PointerBase<false>;
using AtomicPointer = PointerBase<true>;
template <typename T> using TypedPointer = Pointer;
template <typename T> using TypedAtomicPointer = AtomicPointer;

class Allocator;

/**
 * Both forms of one pointer: the address in this process, and the form that travels.
 * Made of one of them alone, it finds the other through the memory manager, and is null if there is no such heap.
 */
template <typename T = char, typename PointerT = Pointer> struct FullPtr : public ShmPointer {
    T *ptr_ = nullptr;
    PointerT shm_;

    FullPtr() = default;
    FullPtr(T *ptr, const PointerT &shm) : ptr_(ptr), shm_(shm) {}
    /** From the form that travels; of any allocator that the manager knows. */
    explicit FullPtr(const PointerT &shm);
    /** From an address in any of the manager's heaps.  One that lies in none keeps its address, and has a null shm_. */
    explicit FullPtr(T *ptr);
    /** Likewise, where the program knows the heap: nothing is looked up, nor checked. */
    FullPtr(const Allocator *alloc, T *ptr);
    FullPtr(const Allocator *alloc, const OffsetPointer &off);

    static FullPtr GetNull() { return FullPtr(); }
    void SetNull()
    {
        ptr_ = nullptr;
        shm_.SetNull();
    }
    bool IsNull() const { return ptr_ == nullptr; }
    explicit operator bool() const { return ptr_ != nullptr; }

    T *operator->() const { return ptr_; }
    template <typename U = T> std::enable_if_t<!std::is_void_v<U>, U> &operator*() const { return *ptr_; }
    template <typename U = T> std::enable_if_t<!std::is_void_v<U>, U> &operator[](std::size_t at) const
    {
        return ptr_[at];
    }

    /** The same place, as another type. */
    template <typename U> FullPtr<U, PointerT> Cast() const
    {
        return FullPtr<U, PointerT>(reinterpret_cast<U *>(ptr_), shm_);
    }
    template <typename U, std::enable_if_t<std::is_convertible_v<T *, U *> && !std::is_same_v<T, U>, int> = 0>
    operator FullPtr<U, PointerT>() const
    {
        return FullPtr<U, PointerT>(ptr_, shm_ + Upcast<U>());
    }

    /** By so many elements. */
    FullPtr operator+(std::size_t n) const { return FullPtr(ptr_ + n, shm_ + n * sizeof(T)); }
    FullPtr operator-(std::size_t n) const { return FullPtr(ptr_ - n, shm_ - n * sizeof(T)); }
    FullPtr &operator+=(std::size_t n) { return *this = *this + n; }
    FullPtr &operator-=(std::size_t n) { return *this = *this - n; }
    FullPtr &operator++() { return *this += 1; }
    FullPtr &operator--() { return *this -= 1; }

    bool operator==(const FullPtr &other) const { return ptr_ == other.ptr_ && shm_ == other.shm_; }
    bool operator!=(const FullPtr &other) const { return !(*this == other); }

  private:
    /* A base class may begin behind the object that it is part of. */
    template <typename U> std::size_t Upcast() const
    {
        U *as = ptr_;
        return ptr_ == nullptr ? 0
                               : static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(as) -
                                                          reinterpret_cast<std::uintptr_t>(ptr_));
    }
};

/** The older name. */
template <typename T = char, typename PointerT = Pointer> using LPointer = FullPtr<T, PointerT>;

/**
 * What an allocation is for.  Threads are known by themselves here: it may name one, and nothing depends on it.
 */
class MemContext
{
  public:
    ThreadId tid_;

    constexpr MemContext() = default;
    constexpr MemContext(const ThreadId &tid) : tid_(tid) {}
};

/* The C interface's own words, under other names; those that are not atomic are plain values. */
static_assert(std::is_trivially_copyable_v<Pointer> && std::is_trivially_copyable_v<FullPtr<>>);
static_assert(sizeof(AllocatorId) == sizeof(hshm_allocator_id));
static_assert(sizeof(Pointer) == sizeof(hshm_shm_ptr) && sizeof(AtomicPointer) == sizeof(hshm_shm_ptr));
static_assert(sizeof(FullPtr<>) == sizeof(hshm_ptr));
static_assert(std::atomic<std::size_t>::is_always_lock_free);

} // namespace ipc
} // namespace hshm

/** The guide's short name. */
namespace hipc = hshm::ipc;

#define HSHM_DEFAULT_MEM_CTX (::hshm::ipc::MemContext())
#define HSHM_MCTX HSHM_DEFAULT_MEM_CTX

namespace std
{

template <> struct hash<hshm::ipc::AllocatorId> {
    size_t operator()(const hshm::ipc::AllocatorId &id) const noexcept { return hash<uint64_t>()(id.int_); }
};
template <> struct hash<hshm::ipc::MemoryBackendId> {
    size_t operator()(const hshm::ipc::MemoryBackendId &id) const noexcept { return hash<uint32_t>()(id.id_); }
};
template <> struct hash<hshm::ipc::Pointer> {
    size_t operator()(const hshm::ipc::Pointer &p) const noexcept
    {
        return p.IsNull() ? 0 : hash<uint64_t>()(p.alloc_id_.int_ * UINT64_C(0x9E3779B97F4A7C15) + p.off_.load());
    }
};

} // namespace std

#endif
