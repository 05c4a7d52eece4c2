/*
 * spare.h - memory for those who ask while there is no heap.
 */
#ifndef HSHM_PRELOAD_SPARE_H
#define HSHM_PRELOAD_SPARE_H

#include <stdbool.h>
#include <stddef.h>

/* ---- while the heap is being made: a piece of this library's own data, never given out twice, so zero ---- */

/* NULL when it is used up. */
void *spare_take(size_t size, size_t alignment);
bool spare_has(const void *addr);
/* Of a block that spare_take() gave: what was asked for. */
size_t spare_size(const void *addr);
/* Is half of it still there? */
bool spare_is_plenty(void);

/* ---- when no heap can be made: the system's malloc, or NULL where it cannot be reached ---- */

void *system_take(size_t size, size_t alignment);
void *system_zeroed(size_t count, size_t size);
void *system_resize(void *addr, size_t size);
void system_free(void *addr);
size_t system_size(void *addr);

#endif
