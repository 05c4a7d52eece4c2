/*
 * inline.hpp - the short path of ThreadLocal heaps, compiled into the caller: hshm/inline.h, whose conditions hold here, too.
 *
 *     void *block = hshm::allocate_inline(heap, 64);
 *     hshm::deallocate_inline(heap, block);
 *
 * On every heap these do what heap.allocate() and heap.deallocate() do.  A program that includes this must be compiled again
 * for another version of the library.
 */
#ifndef HSHM_CXX_INLINE_HPP
#define HSHM_CXX_INLINE_HPP

#include <hshm/cxx/heap.hpp>
#include <hshm/inline.h>

namespace hshm
{

/** @throws hshm::error, which is a std::bad_alloc */
inline void *
allocate_inline(const heap &from, std::size_t size)
{
    void *taken = hshm_malloc_inline(from.get(), size);
    if (__builtin_expect(taken == nullptr, 0))
        detail::throw_no_memory();
    return taken;
}

inline void
deallocate_inline(const heap &to, void *addr)
{
    detail::check(hshm_free_inline(to.get(), addr));
}

} // namespace hshm

#endif
