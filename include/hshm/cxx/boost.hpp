/*
 * boost.hpp - Boost's containers in a heap.
 *
 * Boost's containers keep to an allocator's kind of pointer, as the C++ standard allows but does not ask of a library: these
 * work in every process.  (std::vector and std::deque do, too; std::string, std::list, std::map and the like do so in libc++
 * only.  docs/cxx.md has the table.)
 *
 *     hshm::map<int, double> *prices = heap.find_or_construct<hshm::map<int, double>>("prices", heap);
 *
 * A container of containers: heap-aware elements are made by giving them the heap, words->emplace_back("text", heap), or by
 * std::scoped_allocator_adaptor.
 *
 * Headers alone are needed (Debian: libboost-dev).  Process-private containers are better off with the C++ library's own.
 */
#ifndef HSHM_CXX_BOOST_HPP
#define HSHM_CXX_BOOST_HPP

#include <hshm/cxx/allocator.hpp>

#include <boost/container/deque.hpp>
#include <boost/container/flat_map.hpp>
#include <boost/container/list.hpp>
#include <boost/container/map.hpp>
#include <boost/container/set.hpp>
#include <boost/container/string.hpp>
#include <boost/functional/hash.hpp>
#include <boost/unordered_map.hpp>
#include <boost/unordered_set.hpp>

#include <functional>
#include <utility>

namespace hshm
{

using string = boost::container::basic_string<char, std::char_traits<char>, allocator<char>>;

template <class T> using list = boost::container::list<T, allocator<T>>;
template <class T> using deque = boost::container::deque<T, allocator<T>>;
template <class K, class Less = std::less<K>> using set = boost::container::set<K, Less, allocator<K>>;
template <class K, class V, class Less = std::less<K>>
using map = boost::container::map<K, V, Less, allocator<std::pair<const K, V>>>;
template <class K, class V, class Less = std::less<K>>
using flat_map = boost::container::flat_map<K, V, Less, allocator<std::pair<K, V>>>;
template <class K, class Hash = boost::hash<K>, class Equal = std::equal_to<K>>
using unordered_set = boost::unordered_set<K, Hash, Equal, allocator<K>>;
template <class K, class V, class Hash = boost::hash<K>, class Equal = std::equal_to<K>>
using unordered_map = boost::unordered_map<K, V, Hash, Equal, allocator<std::pair<const K, V>>>;

} // namespace hshm

#endif
