/*
 * shareable.hpp - which types certainly hold addresses of one process, and so must not lie where others read them.
 */
#ifndef HSHM_CXX_SHAREABLE_HPP
#define HSHM_CXX_SHAREABLE_HPP

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace hshm
{

namespace detail
{

/* Containers whose allocator has plain pointers, such as every one with std::allocator. */
template <class T, class = void> inline constexpr bool has_plain_pointers = false;
template <class T>
inline constexpr bool has_plain_pointers<T, std::void_t<typename T::allocator_type>> =
    std::is_pointer_v<typename std::allocator_traits<typename T::allocator_type>::pointer>;

} // namespace detail

/**
 * May objects of this type lie where other processes read them?  False for what certainly holds an address of one process: a
 * pointer, a class with virtual functions, a container or string with the usual allocator, a smart pointer or view of the
 * standard library, and pairs, tuples, arrays and the like of such.  It cannot look into classes.
 *
 * Specialise it for a type of your own that is meant for one process only, or whose every process runs at the same addresses:
 *
 *     template <> inline constexpr bool hshm::may_be_shared<scratch *> = true;
 */
template <class T>
inline constexpr bool may_be_shared =
    !std::is_pointer_v<T> && !std::is_reference_v<T> && !std::is_member_function_pointer_v<T> &&
    !std::is_polymorphic_v<T> && !detail::has_plain_pointers<T>;

template <class T> inline constexpr bool may_be_shared<const T> = may_be_shared<T>;
template <class T, std::size_t N> inline constexpr bool may_be_shared<T[N]> = may_be_shared<T>;
template <class T, std::size_t N> inline constexpr bool may_be_shared<const T[N]> = may_be_shared<T>;
template <class T, std::size_t N> inline constexpr bool may_be_shared<std::array<T, N>> = may_be_shared<T>;
template <class T> inline constexpr bool may_be_shared<std::optional<T>> = may_be_shared<T>;
template <class A, class B> inline constexpr bool may_be_shared<std::pair<A, B>> = may_be_shared<A> &&may_be_shared<B>;
template <class... T> inline constexpr bool may_be_shared<std::tuple<T...>> = (may_be_shared<T> && ...);
template <class... T> inline constexpr bool may_be_shared<std::variant<T...>> = (may_be_shared<T> && ...);

template <class C, class Traits> inline constexpr bool may_be_shared<std::basic_string_view<C, Traits>> = false;
template <class T, class D> inline constexpr bool may_be_shared<std::unique_ptr<T, D>> = false;
template <class T> inline constexpr bool may_be_shared<std::shared_ptr<T>> = false;
template <class T> inline constexpr bool may_be_shared<std::weak_ptr<T>> = false;
template <class T> inline constexpr bool may_be_shared<std::function<T>> = false;
template <class T> inline constexpr bool may_be_shared<std::reference_wrapper<T>> = false;

} // namespace hshm

#endif
