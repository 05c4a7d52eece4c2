/*
 * offset_ptr.hpp - a pointer that may lie in a heap, next to what it points to.
 *
 * It holds the distance from itself to its target, which is the same in every process, wherever each has mapped the region.
 * So both must lie in the same region (or both outside any).  All zero is null: in memory that is zero when new, such as a
 * custom header or a block of hshm_calloc(), it is null before any constructor ran.
 *
 * Copying one makes a new distance: it cannot be copied byte by byte, nor be the type of a std::atomic.  What one process is to
 * publish to another without a lock is an offset from the region's start (std::atomic<hshm_off>, heap::to_offset()).
 *
 * The idea is Boost.Interprocess's offset_ptr.  As there, one address cannot be told from null: the second byte of the pointer
 * itself, where nothing can be that is worth pointing to.
 *
 * A random access iterator, and a pointer in the sense of std::pointer_traits.  Threads: as safe as a T *.
 */
#ifndef HSHM_CXX_OFFSET_PTR_HPP
#define HSHM_CXX_OFFSET_PTR_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <type_traits>

namespace hshm
{

template <class T> class offset_ptr
{
    /* Of void there are no references; the name must exist all the same. */
    using referred = std::conditional_t<std::is_void_v<T>, char, T>;

  public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using difference_type = std::ptrdiff_t;
    using pointer = offset_ptr;
    using reference = referred &;
    using iterator_category = std::random_access_iterator_tag;
#if defined(__cpp_lib_ranges)
    using iterator_concept = std::contiguous_iterator_tag;
#endif
    template <class U> using rebind = offset_ptr<U>;

    constexpr offset_ptr() noexcept = default;
    /* Only of nullptr itself: a literal 0 goes to the next one. */
    template <class Null, std::enable_if_t<std::is_same_v<Null, std::nullptr_t>, int> = 0>
    constexpr offset_ptr(Null) noexcept
    {
    }
    offset_ptr(T *target) noexcept
    {
        set(target);
    }
    offset_ptr(const offset_ptr &other) noexcept
    {
        follow(other);
    }
    template <class U, std::enable_if_t<std::is_convertible_v<U *, T *>, int> = 0>
    offset_ptr(const offset_ptr<U> &other) noexcept
    {
        set(other.get());
    }
    /** What static_cast does for plain pointers: from void, or to a derived class. */
    template <class U, class = decltype(static_cast<T *>(std::declval<U *>())),
              std::enable_if_t<!std::is_convertible_v<U *, T *>, int> = 0>
    explicit offset_ptr(const offset_ptr<U> &other) noexcept
    {
        set(static_cast<T *>(other.get()));
    }
    ~offset_ptr() = default;

    offset_ptr &operator=(const offset_ptr &other) noexcept
    {
        follow(other);
        return *this;
    }
    offset_ptr &operator=(T *target) noexcept
    {
        set(target);
        return *this;
    }

    static offset_ptr pointer_to(referred &target) noexcept
    {
        return offset_ptr(std::addressof(target));
    }

    /** The address, in this process. */
    T *get() const noexcept
    {
        const std::uintptr_t target = reinterpret_cast<std::uintptr_t>(this) + 1 + distance_;
        return distance_ == 0 ? nullptr : reinterpret_cast<T *>(target);
    }

    explicit operator bool() const noexcept
    {
        return distance_ != 0;
    }
    bool operator!() const noexcept
    {
        return distance_ == 0;
    }
    reference operator*() const noexcept
    {
        return *get();
    }
    T *operator->() const noexcept
    {
        return get();
    }
    referred &operator[](difference_type at) const noexcept
    {
        return get()[at];
    }

    offset_ptr &operator+=(difference_type count) noexcept
    {
        /* No address moves from or to null. */
        distance_ += static_cast<std::uintptr_t>(count) * sizeof(referred);
        return *this;
    }
    offset_ptr &operator-=(difference_type count) noexcept
    {
        distance_ -= static_cast<std::uintptr_t>(count) * sizeof(referred);
        return *this;
    }
    offset_ptr &operator++() noexcept
    {
        return *this += 1;
    }
    offset_ptr &operator--() noexcept
    {
        return *this -= 1;
    }
    offset_ptr operator++(int) noexcept
    {
        offset_ptr before(*this);
        *this += 1;
        return before;
    }
    offset_ptr operator--(int) noexcept
    {
        offset_ptr before(*this);
        *this -= 1;
        return before;
    }
    friend offset_ptr operator+(const offset_ptr &from, difference_type count) noexcept
    {
        return offset_ptr(from.get() + count);
    }
    friend offset_ptr operator+(difference_type count, const offset_ptr &from) noexcept
    {
        return from + count;
    }
    friend offset_ptr operator-(const offset_ptr &from, difference_type count) noexcept
    {
        return offset_ptr(from.get() - count);
    }

  private:
    /* set(other.get()), with one question instead of two. */
    void follow(const offset_ptr &other) noexcept
    {
        const std::uintptr_t moved = reinterpret_cast<std::uintptr_t>(&other) - reinterpret_cast<std::uintptr_t>(this);
        distance_ = other.distance_ == 0 ? 0 : other.distance_ + moved;
    }

    void set(T *target) noexcept
    {
        const std::uintptr_t from = reinterpret_cast<std::uintptr_t>(this) + 1;
        distance_ = target == nullptr ? 0 : reinterpret_cast<std::uintptr_t>(target) - from;
    }

    std::uintptr_t distance_ = 0; /* from this object's second byte to the target; 0 = null */
};

template <class T, class U>
std::ptrdiff_t
operator-(const offset_ptr<T> &to, const offset_ptr<U> &from) noexcept
{
    return to.get() - from.get();
}

template <class T, class U>
auto
operator==(const offset_ptr<T> &a, const offset_ptr<U> &b) noexcept -> decltype(a.get() == b.get())
{
    return a.get() == b.get();
}

template <class T, class U>
auto
operator==(const offset_ptr<T> &a, U *b) noexcept -> decltype(a.get() == b)
{
    return a.get() == b;
}

template <class T, class U>
auto
operator==(U *a, const offset_ptr<T> &b) noexcept -> decltype(a == b.get())
{
    return a == b.get();
}

template <class T, class U>
auto
operator!=(const offset_ptr<T> &a, const offset_ptr<U> &b) noexcept -> decltype(a.get() != b.get())
{
    return a.get() != b.get();
}

template <class T, class U>
auto
operator!=(const offset_ptr<T> &a, U *b) noexcept -> decltype(a.get() != b)
{
    return a.get() != b;
}

template <class T, class U>
auto
operator!=(U *a, const offset_ptr<T> &b) noexcept -> decltype(a != b.get())
{
    return a != b.get();
}

template <class T, class U>
auto
operator<(const offset_ptr<T> &a, const offset_ptr<U> &b) noexcept -> decltype(a.get() < b.get())
{
    return a.get() < b.get();
}

template <class T, class U>
auto
operator<(const offset_ptr<T> &a, U *b) noexcept -> decltype(a.get() < b)
{
    return a.get() < b;
}

template <class T, class U>
auto
operator<(U *a, const offset_ptr<T> &b) noexcept -> decltype(a < b.get())
{
    return a < b.get();
}

template <class T, class U>
auto
operator>(const offset_ptr<T> &a, const offset_ptr<U> &b) noexcept -> decltype(a.get() > b.get())
{
    return a.get() > b.get();
}

template <class T, class U>
auto
operator>(const offset_ptr<T> &a, U *b) noexcept -> decltype(a.get() > b)
{
    return a.get() > b;
}

template <class T, class U>
auto
operator>(U *a, const offset_ptr<T> &b) noexcept -> decltype(a > b.get())
{
    return a > b.get();
}

template <class T, class U>
auto
operator<=(const offset_ptr<T> &a, const offset_ptr<U> &b) noexcept -> decltype(a.get() <= b.get())
{
    return a.get() <= b.get();
}

template <class T, class U>
auto
operator<=(const offset_ptr<T> &a, U *b) noexcept -> decltype(a.get() <= b)
{
    return a.get() <= b;
}

template <class T, class U>
auto
operator<=(U *a, const offset_ptr<T> &b) noexcept -> decltype(a <= b.get())
{
    return a <= b.get();
}

template <class T, class U>
auto
operator>=(const offset_ptr<T> &a, const offset_ptr<U> &b) noexcept -> decltype(a.get() >= b.get())
{
    return a.get() >= b.get();
}

template <class T, class U>
auto
operator>=(const offset_ptr<T> &a, U *b) noexcept -> decltype(a.get() >= b)
{
    return a.get() >= b;
}

template <class T, class U>
auto
operator>=(U *a, const offset_ptr<T> &b) noexcept -> decltype(a >= b.get())
{
    return a >= b.get();
}

template <class T>
bool
operator==(const offset_ptr<T> &p, std::nullptr_t) noexcept
{
    return !p;
}

template <class T>
bool
operator==(std::nullptr_t, const offset_ptr<T> &p) noexcept
{
    return !p;
}

template <class T>
bool
operator!=(const offset_ptr<T> &p, std::nullptr_t) noexcept
{
    return static_cast<bool>(p);
}

template <class T>
bool
operator!=(std::nullptr_t, const offset_ptr<T> &p) noexcept
{
    return static_cast<bool>(p);
}

} // namespace hshm

namespace std
{

template <class T> struct hash<hshm::offset_ptr<T>> {
    size_t operator()(const hshm::offset_ptr<T> &p) const noexcept { return hash<T *>()(p.get()); }
};

} // namespace std

#endif
