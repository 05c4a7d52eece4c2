/*
 * pages.h - memory of this process alone, straight from the system: for what must not go through malloc, because malloc may
 * be what it serves.
 */
#ifndef HSHM_SYNC_PAGES_H
#define HSHM_SYNC_PAGES_H

#include "base/compiler.h"

/* Zeroed, at a page's begin; NULL when there is none.  The caller gives it back with the same size. */
void *pages_take(size_t size);
void pages_give(void *pages, size_t size);

/* How many processors this machine has; at least 1. */
uint32_t cpu_count(void);

/* Which of them runs this thread now, as a hint. */
uint32_t cpu_current(void);

/*
 * Run fn(arg, cpu) on each of the first `count` processors, one after the other, and let this thread run where it did before.
 * Those too that it was bound away from: others left memory there; but not where the system does not let it.  Slow: for when
 * memory is short.
 */
void cpu_visit_all(uint32_t count, void (*fn)(void *arg, uint32_t cpu), void *arg);

#endif
