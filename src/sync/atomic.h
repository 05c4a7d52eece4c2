/*
 * atomic.h - the memory orders we use, by name.
 *
 * Each use says in a comment whom it pairs with; one that cannot name its partner is relaxed, or wrong.
 */
#ifndef HSHM_SYNC_ATOMIC_H
#define HSHM_SYNC_ATOMIC_H

#include <stdatomic.h>

#include "base/compiler.h"

#define load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define load_seq_cst(p) atomic_load_explicit((p), memory_order_seq_cst)
#define store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)

/* Compare and set; `expected` is a pointer that receives what was found.  Failure orders as a plain acquire load. */
#define cas_acq_rel(p, expected, desired) \
    atomic_compare_exchange_strong_explicit((p), (expected), (desired), memory_order_acq_rel, memory_order_acquire)
#define cas_seq_cst(p, expected, desired) \
    atomic_compare_exchange_strong_explicit((p), (expected), (desired), memory_order_seq_cst, memory_order_seq_cst)

/* Words shared between processes must be changed by the processor itself, never through a lock of this process's C library. */
static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "shared words must be lock-free");
static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4,
              "atomic words are plain words in a region");

#endif
