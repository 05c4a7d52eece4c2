/*
 * boot.h - the one heap of the process, made by the first call that needs it.
 */
#ifndef HSHM_PRELOAD_BOOT_H
#define HSHM_PRELOAD_BOOT_H

#include <hshm/hshm.h>
#include <stdatomic.h>

/* NULL until it is made, and for good when it cannot be. */
extern hshm_allocator *_Atomic boot_heap;

/*
 * Make the heap, or wait for the thread that makes it.  NULL when there is none for this call: because this thread is
 * making it right now, because the program has not started yet, or because no heap can be made.
 */
hshm_allocator *boot_make_heap(void);

/* No heap could be made: the program runs on the system's malloc. */
bool boot_has_failed(void);

/* HSHM_PRELOAD_DEBUG is set. */
bool boot_debugs(void);

/* The heap, as boot_make_heap() has it. */
static inline hshm_allocator *
boot_get_heap(void)
{
    /* Acquire pairs with the exchange in boot_make_heap(): who sees the heap sees it whole. */
    hshm_allocator *heap = atomic_load_explicit(&boot_heap, memory_order_acquire);
    return __builtin_expect(heap != NULL, 1) ? heap : boot_make_heap();
}

#endif
