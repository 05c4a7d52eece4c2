/*
 * compiler.h - what we ask of the compiler beyond C11, and asserts at two prices.
 *
 * Asserts state what only a mistake of this library can break; they never look at input or at bytes of a region.
 */
#ifndef HSHM_BASE_COMPILER_H
#define HSHM_BASE_COMPILER_H

#include <assert.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNTOF(array) (sizeof(array) / sizeof((array)[0]))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define PRINTF_LIKE(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define NO_INLINE __attribute__((noinline))

/* Cheap: a comparison or two.  In development builds. */
#define ASSERT(expr) assert(expr)

/* Dear: walks whole structures.  Only where a build asks for it. */
#if defined(HSHM_EXPENSIVE_CHECKS)
#define ASSERT_EXPENSIVE(expr) assert(expr)
#else
#define ASSERT_EXPENSIVE(expr) ((void)0)
#endif

#endif
