/**
 * @file name.h
 * Names for blocks inside a heap, so that who attaches finds them.
 *
 *     config = hshm_malloc(heap, sizeof *config);          // one process
 *     hshm_name_set(heap, "config", config);
 *
 *     hshm_name_get(heap, "config", &block);               // another
 *
 * A name belongs to the heap, as its blocks do, and stays when the process that made it ends.  It holds one block or none: it is
 * a slot (<hshm/slot.h>) that can be found again.  hshm_name_set() puts a block there that the program has already; a
 * process that is killed just before has lost that block.  Where that matters, ask for the slot:
 *
 *     hshm_name_slot(heap, "config", &slot);
 *     hshm_allocate_to(heap, sizeof(struct config), slot); // the name holds the block, or no block was taken
 *
 * Names are up to 95 bytes, of any value but 0 (UTF-8 for people).  A region has room for 8 of them below 1 MiB, 64 below 16 MiB,
 * 256 below 256 MiB and 1024 from there; the room of removed names is used again.
 *
 * hshm_name_get() and hshm_name_visit() wait for nobody, and work on heaps attached read-only.  hshm_name_set(),
 * hshm_name_slot() of a new name, hshm_name_remove() and hshm_name_take() are done by one thread at a time: who
 * is killed meanwhile leaves names as they were or as they are to be, and the next one goes on; who is stopped makes the others
 * wait for a second, after which they answer HSHM_E_BUSY.  (On ARRAY nobody can tell who is dead, and a kill at that very
 * moment makes them answer so for good; getting goes on.)
 *
 * Not for MALLOC heaps, nor in regions below 64 KiB.  Threads: safe.  Signals: not safe.
 *
 * A freed block leaves its name behind: remove the name first, or free it by hshm_free_from() on the name's slot.  If that is
 * forgotten, hshm_name_get() finds no block until the room is given out anew - and then it finds whatever block begins there.
 * On a Stack, rewinding beneath a named block is such a free.
 */
#ifndef HSHM_NAME_H
#define HSHM_NAME_H

#include <hshm/allocator.h>
#include <hshm/slot.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Let a name hold a block (not one of HSHM_LIFETIME_PROCESS); the name is made if it is new.
 *
 * @param name   1 to 95 bytes
 * @param block  a live block of this heap: the address where it begins
 * @return HSHM_OK, or, leaving names as they were:
 *         HSHM_E_EXISTS  the name holds a block (to replace it, remove the name, or free or move its block by its slot, first)
 *         HSHM_E_INVAL   the name is NULL, empty or too long; block is no live block of this heap, or ends with its process
 *         HSHM_E_LIMIT   there are as many names as the region has room for
 *         HSHM_E_BUSY    the slot is just being changed; or another process that changes names does not get done (stopped?)
 *         HSHM_E_NOTSUP  a MALLOC heap, or a region below 64 KiB
 *         HSHM_E_PERM    attached read-only, or in a forked child without a place of its own
 */
HSHM_API hshm_status hshm_name_set(hshm_allocator *allocator, const char *name, void *block);

/**
 * The slot of a name, which is made, with no block, if it is new.  It stays where it is until the name is removed.
 * @return HSHM_OK; HSHM_E_INVAL (name, or ret_slot is NULL), _LIMIT, _BUSY, _NOTSUP, _PERM (a new name) as above
 */
HSHM_API hshm_status hshm_name_slot(hshm_allocator *allocator, const char *name, hshm_slot **ret_slot);

/**
 * The block that a name holds.  What was written to the block before hshm_name_set() is seen.
 * @return HSHM_OK; HSHM_E_NOTFOUND (no such name, or it holds no live block); HSHM_E_INVAL, _NOTSUP as above;
 *         HSHM_E_BUSY (the name was removed and made again each time that it was looked at)
 */
HSHM_API hshm_status hshm_name_get(hshm_allocator *allocator, const char *name, void **ret_block);

/**
 * Forget a name.  The block that it holds stays, and is the program's to free.
 * @return HSHM_OK; HSHM_E_NOTFOUND; HSHM_E_BUSY, _INVAL, _NOTSUP, _PERM as above
 */
HSHM_API hshm_status hshm_name_remove(hshm_allocator *allocator, const char *name);

/**
 * Forget a name if it holds this very block, which is the caller's from then on.  Of several that take the same block at once,
 * one succeeds: so it is the way to get what hshm_name_get() showed, in order to free it.
 * @return HSHM_OK; HSHM_E_NOTFOUND (there is no such name any more, or it does not hold that block); HSHM_E_INVAL (block is NULL
 *         too), _BUSY, _NOTSUP, _PERM as above
 */
HSHM_API hshm_status hshm_name_take(hshm_allocator *allocator, const char *name, void *block);

/** Called for each name, with its block or NULL; anything but 0 ends the visit.  `name` is valid during the call. */
typedef int (*hshm_name_visit_fn)(const char *name, void *block, void *arg);

/**
 * Show every name, in no order.  Names that come or go meanwhile may or may not be shown.  The function may call anything.
 * @return HSHM_OK (also when fn ended it), HSHM_E_INVAL (fn is NULL), HSHM_E_NOTSUP
 */
HSHM_API hshm_status hshm_name_visit(hshm_allocator *allocator, hshm_name_visit_fn fn, void *arg);

#ifdef __cplusplus
}
#endif

#endif
