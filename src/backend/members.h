/*
 * members.h - the processes that are attached to a region.
 */
#ifndef HSHM_BACKEND_MEMBERS_H
#define HSHM_BACKEND_MEMBERS_H

#include "backend/backend.h"

/*
 * Take a slot of a region that nobody else can see yet.
 * HSHM_OK, HSHM_E_NOSPC (descriptors, address space), HSHM_E_NOTSUP (a file system without lasting locks), HSHM_E_SYSTEM,
 * HSHM_E_NOTREADY (another process is taking the unfinished file away: begin again).
 */
hshm_status members_found(struct region *region);

/*
 * Take a slot, or the shared reader's lock, of a region that may be removed at any moment.  Afterwards the region had
 * its name at a time when our lock was held already, so that no remover can take it for dead.
 *
 * HSHM_OK, HSHM_E_LIMIT (no slot), HSHM_E_BUSY (a remover has been at work for longer than 50 ms), HSHM_E_NOTFOUND (it
 * was removed meanwhile), HSHM_E_NOSPC, HSHM_E_PERM, HSHM_E_SYSTEM.
 */
hshm_status members_join(struct region *region);

/*
 * Around fork(), for each region of the process: prepare locks a place for the child, parent forgets it, child takes it up.
 * members_fork_child() answers HSHM_OK, or as members_join() why this child has no place; then it must not use the heap.
 */
void members_fork_prepare(struct region *region);
void members_fork_parent(struct region *region);
hshm_status members_fork_child(struct region *region);

/*
 * Free the slot.  The last to leave a persistent region writes it to its disk and marks it as cleanly left, unless it
 * never was in use here (region_use()): then it turned out to be no heap that could be used.
 */
void members_leave(struct region *region);

/* How many slots are held by live processes (without a file: are taken), our own included. */
uint32_t members_alive(struct region *region);

/* Is the process in this slot alive?  In doubt yes. */
bool members_is_alive(struct region *region, uint32_t slot);

/*
 * Take the slot of a dead process, to clean up after it: a ticket (>= 0), and until members_bury() no other process cleans up
 * after it, nor gets its slot, and this one does not fork.  -1: the slot is free, its process lives, or nobody can tell.
 */
int members_seize(struct region *region, uint32_t slot);
/* All is clean: the slot is free again. */
void members_bury(struct region *region, uint32_t slot, int ticket);

/*
 * A descriptor of the region's file, without locks: the one kept, or a new one when the user closed that.  -1 when it
 * cannot be had any more.  The caller does not close it.
 */
int region_fd(struct region *region);

/*
 * A new description of the region's file.  -1 with errno when the file cannot be reached any more.  The caller closes
 * it.
 */
int region_reopen(struct region *region, int flags);

#endif
