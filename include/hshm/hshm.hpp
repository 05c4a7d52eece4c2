/*
 * hshm.hpp - hshm for C++17: heaps in memory that many processes share, and containers that live in them.
 *
 *     auto heap = hshm::heap::create("prices", 1_GiB);              // one process; the name goes when it ends
 *     using table = hshm::vector<double>;                           // std::vector with hshm::allocator
 *     table *rows = heap.construct_named<table>("rows", heap);      // the vector, and what it holds, lie in the heap
 *     rows->push_back(1.25);
 *
 *     auto heap = hshm::heap::attach("prices", 1s);                 // another process, at another address
 *     table *rows = heap.find<table>("rows");
 *
 * Header-only, over the C interface (hshm/hshm.h), whose words it keeps: link with libhshm, nothing else.
 *
 *   hshm/cxx/error.hpp            hshm::error: what the throwing forms throw
 *   hshm/cxx/offset_ptr.hpp       offset_ptr<T>: a pointer that may lie in a heap
 *   hshm/cxx/region.hpp           manager, backend: memory with an owner
 *   hshm/cxx/heap.hpp             heap, block, unique_ptr; named objects
 *   hshm/cxx/allocator.hpp        allocator<T>, local_allocator<T>, memory_resource; vector
 * and, to be included where they are wanted:
 *   hshm/cxx/inline.hpp           the short path of ThreadLocal heaps, compiled into the caller
 *   hshm/cxx/boost.hpp            (needs Boost's headers) string, map, set, unordered_map, flat_map, list, deque: Boost's, in a heap
 *
 * Two forms of calls that can fail: the plain one throws hshm::error; one that is given std::nothrow first returns something
 * empty (or the C status), and hshm_last_status() and hshm_last_error() say why.  Under -fno-exceptions the plain ones
 * call std::terminate() instead.
 *
 * Which containers may live in a heap, and what the guide's own interface (hermes_shm/...) is: docs/cxx.md.
 */
#ifndef HSHM_HSHM_HPP
#define HSHM_HSHM_HPP

#include <hshm/cxx/allocator.hpp>
#include <hshm/cxx/error.hpp>
#include <hshm/cxx/heap.hpp>
#include <hshm/cxx/offset_ptr.hpp>
#include <hshm/cxx/region.hpp>
#include <hshm/hshm.h>

#endif
