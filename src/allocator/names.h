/*
 * names.h - the names of a heap: slots that can be found again; <hshm/name.h> has the calls, format/log_format.h the entries.
 */
#ifndef HSHM_ALLOCATOR_NAMES_H
#define HSHM_ALLOCATOR_NAMES_H

#include <hshm/name.h>

/* Is there a name's slot at this offset of the region, which may be anything? */
bool names_have_slot(const hshm_allocator *a, uint64_t off);
/* A process is dead: it changes no names any more. */
void names_unlock_of(hshm_allocator *a, uint32_t process);

#endif
