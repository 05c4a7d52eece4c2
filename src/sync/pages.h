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

#endif
