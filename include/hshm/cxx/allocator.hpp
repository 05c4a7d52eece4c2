/*
 * allocator.hpp - what containers take their memory from.
 *
 *   allocator<T>        containers that lie in a heap, for every process: their pointers are offset_ptr
 *   local_allocator<T>  containers of this process only, whose elements lie in a heap: their pointers are T *
 *   memory_resource     the same for std::pmr containers
 *
 * A container is as safe from threads and processes as it is by itself, which is: not at all while one of them writes.  Guard
 * it with a lock in the heap (a robust process-shared mutex says when its holder died).  And who is killed in the middle of a
 * change to a container leaves the container half changed, though the heap is whole.
 */
#ifndef HSHM_CXX_ALLOCATOR_HPP
#define HSHM_CXX_ALLOCATOR_HPP

#include <hshm/cxx/heap.hpp>
#include <hshm/cxx/offset_ptr.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#if __has_include(<memory_resource>)
#include <memory_resource>
#endif
#include <type_traits>
#include <vector>

namespace hshm
{

namespace detail
{

/*
 * Nodes of containers that do not keep to the allocator's kind of pointer: std::list, std::map, std::unordered_map and their
 * kin in libstdc++ before version 15.  The last of them would compile, and other processes would follow its addresses.
 */
template <class T, class = void> inline constexpr bool has_address_next = false;
template <class T>
inline constexpr bool has_address_next<T, std::void_t<decltype(std::declval<T &>()._M_nxt)>> =
    std::is_pointer_v<decltype(std::declval<T &>()._M_nxt)>;
template <class T, class = void> inline constexpr bool has_address_link = false;
template <class T>
inline constexpr bool has_address_link<T, std::void_t<decltype(std::declval<T &>()._M_next)>> =
    std::is_pointer_v<decltype(std::declval<T &>()._M_next)>;
template <class T, class = void> inline constexpr bool has_address_parent = false;
template <class T>
inline constexpr bool has_address_parent<T, std::void_t<decltype(std::declval<T &>()._M_parent)>> =
    std::is_pointer_v<decltype(std::declval<T &>()._M_parent)>;

template <class T>
inline constexpr bool is_node_of_addresses = has_address_next<T> || has_address_link<T> || has_address_parent<T>;

/* Bytes of `count` elements; what is too much for size_t is too much for any heap. */
template <class T>
constexpr std::size_t
bytes_of(std::size_t count) noexcept
{
    std::size_t bytes = 0;
    return __builtin_mul_overflow(count, sizeof(T), &bytes) ? SIZE_MAX : bytes;
}

} // namespace detail

/**
 * The allocator of containers that lie in a heap.
 *
 * It lies there with the container, so it knows its heap by the distance to the region's first byte, and finds this process's
 * handle by that (hshm_allocator_at()).  Copies of a container go to the same heap; assignment and swap do not change a
 * container's heap, and containers of two heaps must not be swapped.
 *
 * Which containers keep to it is listed in docs/cxx.md.  Elements, and nodes, that hold addresses do not compile.
 */
template <class T> class allocator
{
  public:
    using value_type = T;
    using pointer = offset_ptr<T>;
    using const_pointer = offset_ptr<const T>;
    using void_pointer = offset_ptr<void>;
    using const_void_pointer = offset_ptr<const void>;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using propagate_on_container_copy_assignment = std::false_type;
    using propagate_on_container_move_assignment = std::false_type;
    using propagate_on_container_swap = std::false_type;
    using is_always_equal = std::false_type;
    template <class U> struct rebind {
#if defined(__GLIBCXX__)
        static_assert(
            !(std::is_same_v<T, bool> && std::is_same_v<U, unsigned long>),
            "std::vector<bool> of this C++ library keeps the address of its bits, whatever its allocator says; "
            "other processes cannot follow: use hshm::vector<char>, or boost::container::vector<bool>");
#endif
        using other = allocator<U>;
    };

    allocator(const heap &in) noexcept : region_(in.base())
    {
        may_hold();
    }
    allocator(const allocator &) noexcept = default;
    template <class U> allocator(const allocator<U> &other) noexcept : region_(other.region_)
    {
        may_hold();
    }
    /* Of a container that was moved from, the allocator is still needed. */
    allocator &operator=(const allocator &) noexcept = default;
    ~allocator() = default;

    /** @throws hshm::error, which is a std::bad_alloc; HSHM_E_NOTFOUND if this process has left the heap */
    [[nodiscard]] pointer allocate(size_type count)
    {
        static_assert(
            !detail::is_node_of_addresses<T>,
            "this container of the C++ library links its nodes by address, whatever its allocator says; other "
            "processes cannot follow: use Boost's (boost::container::map, boost::unordered_map), or "
            "hshm::local_allocator for a container of one process");
        hshm_allocator *from = handle();
        void *taken = from == nullptr ? nullptr : detail::take(from, detail::bytes_of<T>(count), alignof(T));
        if (__builtin_expect(taken == nullptr, 0))
            detail::throw_no_memory();
        return pointer(static_cast<T *>(taken));
    }
    void deallocate(const pointer &first, size_type) noexcept
    {
        hshm_allocator *to = handle();
        if (to != nullptr) /* else the heap was left, and the memory with it */
            (void)hshm_free(to, first.get());
    }
    size_type max_size() const noexcept
    {
        return std::numeric_limits<difference_type>::max() / sizeof(T);
    }

    /** The heap, without owning it. */
    heap in() const noexcept
    {
        return heap(handle());
    }

    template <class U> bool operator==(const allocator<U> &other) const noexcept
    {
        return region_ == other.region_;
    }
    template <class U> bool operator!=(const allocator<U> &other) const noexcept
    {
        return region_ != other.region_;
    }

  private:
    template <class U> friend class allocator;

    /* Here: of node-based containers, allocate() sees nodes only. */
    static constexpr void may_hold() noexcept
    {
        static_assert(
            may_be_shared<T>,
            "elements of this type hold addresses of one process: use hshm::offset_ptr and containers with "
            "hshm::allocator, or hshm::local_allocator for a container of one process; see hshm::may_be_shared");
    }

    hshm_allocator *handle() const noexcept
    {
        return hshm_allocator_at(region_.get());
    }

    offset_ptr<unsigned char> region_; /* its first byte */
};

/** std::vector in a heap: vector<int> numbers(heap).  More of them, of Boost: hshm/cxx/boost.hpp. */
template <class T> using vector = std::vector<T, allocator<T>>;

namespace detail
{

/*
 * A block of either lifetime at any alignment.  Those of process lifetime are 16-byte aligned; for more, room is taken to move
 * within, and the block's own begin stands right before what is returned.
 */
inline void *
take_for(hshm_allocator *from, std::size_t size, std::size_t alignment, hshm_lifetime lifetime) noexcept
{
    if (lifetime == HSHM_LIFETIME_HEAP)
        return take(from, size, alignment);
    if (alignment <= plain_alignment)
        return hshm_malloc_lifetime(from, size, lifetime);
    std::size_t room = 0;
    if (__builtin_add_overflow(size, alignment, &room))
        room = SIZE_MAX;
    void *taken = hshm_malloc_lifetime(from, room, lifetime);
    if (taken == nullptr)
        return nullptr;
    const std::uintptr_t at = (reinterpret_cast<std::uintptr_t>(taken) + alignment) & ~(alignment - 1);
    reinterpret_cast<void **>(at)[-1] = taken;
    return reinterpret_cast<void *>(at);
}

inline void
give_back(hshm_allocator *to, void *addr, std::size_t alignment, hshm_lifetime lifetime) noexcept
{
    const bool moved = lifetime != HSHM_LIFETIME_HEAP && alignment > plain_alignment && addr != nullptr;
    (void)hshm_free(to, moved ? static_cast<void **>(addr)[-1] : addr);
}

} // namespace detail

/**
 * The allocator of containers whose elements lie in a heap, but which are for this process alone: any container will do, as
 * fast as with std::allocator.  The heap must outlive the container.
 *
 * What such a container held when its process is killed stays taken, though nobody will ever use it: give it
 * HSHM_LIFETIME_PROCESS, and it goes with the process (ThreadLocal and ScalablePage heaps, not on an array; some 20 ns a
 * block more).
 */
template <class T> class local_allocator
{
  public:
    using value_type = T;
    using propagate_on_container_copy_assignment = std::true_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    using is_always_equal = std::false_type;

    local_allocator(const heap &in, hshm_lifetime lifetime = HSHM_LIFETIME_HEAP) noexcept
        : heap_(in.get()), lifetime_(lifetime)
    {
    }
    template <class U>
    local_allocator(const local_allocator<U> &other) noexcept : heap_(other.heap_), lifetime_(other.lifetime_)
    {
    }

    /** @throws hshm::error, which is a std::bad_alloc */
    [[nodiscard]] T *allocate(std::size_t count)
    {
        void *taken = detail::take_for(heap_, detail::bytes_of<T>(count), alignof(T), lifetime_);
        if (__builtin_expect(taken == nullptr, 0))
            detail::throw_no_memory();
        return static_cast<T *>(taken);
    }
    void deallocate(T *first, std::size_t) noexcept { detail::give_back(heap_, first, alignof(T), lifetime_); }

    template <class U> bool operator==(const local_allocator<U> &other) const noexcept
    {
        return heap_ == other.heap_ && lifetime_ == other.lifetime_;
    }
    template <class U> bool operator!=(const local_allocator<U> &other) const noexcept { return !(*this == other); }

  private:
    template <class U> friend class local_allocator;

    hshm_allocator *heap_;
    hshm_lifetime lifetime_;
};

#if defined(__cpp_lib_memory_resource)
/**
 * A std::pmr::memory_resource on a heap, where the C++ library has such (libc++ from version 16).
 *
 * For this process only.  A pmr container holds the address of its resource, and plain pointers to its elements: it must never
 * be put into a heap for others, even though its elements lie in one.  For containers that others use: allocator<T>.
 * Of a killed process the same is true as of local_allocator.
 */
class memory_resource : public std::pmr::memory_resource
{
  public:
    explicit memory_resource(heap in, hshm_lifetime lifetime = HSHM_LIFETIME_HEAP) noexcept
        : heap_(std::move(in)), lifetime_(lifetime)
    {
    }

    const heap &in() const noexcept { return heap_; }

  private:
    void *do_allocate(std::size_t bytes, std::size_t alignment) override
    {
        if (!heap_)
            detail::throw_own(HSHM_E_INVAL, "a memory_resource has no heap any more: it was closed");
        void *taken = detail::take_for(heap_.get(), bytes, alignment, lifetime_);
        if (taken == nullptr)
            detail::throw_no_memory();
        return taken;
    }
    void do_deallocate(void *addr, std::size_t, std::size_t alignment) override
    {
        if (heap_)
            detail::give_back(heap_.get(), addr, alignment, lifetime_);
    }
    bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override { return this == &other; }

    heap heap_;
    hshm_lifetime lifetime_;
};

#endif

} // namespace hshm

#endif
