/*
 * error.hpp - what the throwing forms throw: a status to act on, and a sentence to show to a person.
 *
 *     try {
 *         auto heap = hshm::heap::attach("prices");
 *     } catch (const hshm::error &error) {
 *         if (error.status() == HSHM_E_NOTFOUND) ...
 *         std::cerr << error.what() << '\n';
 *     }
 *
 * Whatever the library throws is an hshm::error.  It is a std::exception too (catch (const std::exception &) sees it, and the same
 * sentence); and, thrown by a call that asks a heap for memory, a std::bad_alloc, so that code which is prepared for a full heap
 * need not know of this library.  (What your own constructors throw goes through; and where this process has no memory for a
 * sentence, that is a std::bad_alloc only.)
 */
#ifndef HSHM_CXX_ERROR_HPP
#define HSHM_CXX_ERROR_HPP

#include <hshm/status.h>

#include <exception>
#include <new>
#include <stdexcept>

namespace hshm
{

/** A call that failed.  Catch it by reference. */
class __attribute__((visibility("default"))) error
{
  public:
    virtual ~error() = default;

    /** As the C call returned it; never HSHM_OK. */
    hshm_status status() const noexcept { return status_; }

    /** What failed on which name or size, why (with the numbers), and what to do. */
    virtual const char *what() const noexcept { return sentence_.what(); }

  protected:
    error(hshm_status status, const char *sentence) : status_(status), sentence_(sentence) {}
    error(const error &) = default;
    error &operator=(const error &) = default;

  private:
    hshm_status status_;
    std::runtime_error sentence_; /* a string whose copies cannot fail */
};

namespace detail
{

/* error is no std::exception by itself, so that each of these is one only once. */
template <class Standard> class __attribute__((visibility("default"))) failure final : public error, public Standard
{
  public:
    failure(hshm_status status, const char *sentence) : error(status, sentence) {}
    const char *what() const noexcept override { return error::what(); }
};

using failed_call = failure<std::exception>;
using failed_allocation = failure<std::bad_alloc>;

template <class Failure>
[[noreturn]] inline void
throw_failure([[maybe_unused]] hshm_status status, [[maybe_unused]] const char *sentence)
{
#if defined(__cpp_exceptions)
    throw Failure(status, sentence);
#else
    std::terminate();
#endif
}

/* The calling thread's last failure. */
[[noreturn]] inline void
throw_last()
{
    throw_failure<failed_call>(hshm_last_status(), hshm_last_error());
}

/* The same, of a call that was to give memory. */
[[noreturn]] inline void
throw_no_memory()
{
    throw_failure<failed_allocation>(hshm_last_status(), hshm_last_error());
}

/* A failure of these headers' own: it is left behind as the library's are, and thrown. */
[[noreturn]] inline void
throw_own(hshm_status status, const char *sentence)
{
    throw_failure<failed_call>(hshm_set_last_error(status, sentence), sentence);
}

inline void
check(hshm_status status)
{
    if (__builtin_expect(status != HSHM_OK, 0))
        throw_last();
}

} // namespace detail
} // namespace hshm

#endif
