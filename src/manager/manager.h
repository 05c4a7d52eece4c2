/*
 * manager.h - what the files of the manager share.
 */
#ifndef HSHM_MANAGER_INTERNAL_H
#define HSHM_MANAGER_INTERNAL_H

#include <hshm/manager.h>

#include "allocator/allocator.h"
#include "backend/backend.h"
#include "sync/local_lock.h"

/* Local: one region in one manager's list. */
struct hshm_backend {
    struct hshm_backend *next;
    hshm_backend_id id;
    bool building; /* the id is taken, the region is still being made; shown to nobody   */
    pid_t creator; /* who made it: its destroy removes the name.  0 = attached           */
    struct region region;
    hshm_allocator *allocator; /* NULL before it is created and after it was unregistered            */
    hshm_allocator *forgotten; /* the unregistered one: its blocks stay until the backend is left    */
};

struct hshm_manager {
    struct local_lock lock; /* over the list and what it shows; not over the memory       */
    hshm_backend *backends;
    hshm_manager *next; /* in the process's list of managers, for fork(); see fork.c  */
};

/* ---- registry.c: the list, under the manager's lock ---- */

hshm_backend *registry_find_backend(const hshm_manager *manager, hshm_backend_id id);
hshm_backend *registry_find_allocator(const hshm_manager *manager, hshm_allocator_id id);
/* The backend that has this handle, unregistered or not.  Only compares: the handle may be anything. */
hshm_backend *registry_find_handle(const hshm_manager *manager, const hshm_allocator *allocator);
/* The heap, unregistered or not, whose region begins there. */
hshm_allocator *registry_find_at(const hshm_manager *manager, const void *region);
void registry_add(hshm_manager *manager, hshm_backend *backend);
void registry_take_out(hshm_manager *manager, hshm_backend *backend);

/* ---- heap.c: an allocator on a region ---- */

/* Lay a new heap out and make it visible.  On failure the region is as it was. */
hshm_status heap_create(hshm_backend *backend, hshm_allocator_id id, const struct allocator_ops *ops,
                        uint64_t custom_size, const hshm_allocator_options *options, hshm_allocator **ret_allocator);

/* A handle on the heap that a checked header describes. */
hshm_status heap_open(hshm_backend *backend, const struct region_header *header, hshm_allocator **ret_allocator);

/* End a handle; NULL is fine. */
void heap_close(hshm_allocator *allocator);

/* In a forked child, after the region has its place or none: let the heap go on under that. */
void heap_settle_in_child(hshm_allocator *allocator, struct region *region);

/* Does this address, or offset, lie in the heap's data or custom header? */
bool heap_owns(hshm_allocator *allocator, const void *addr);

/* ---- by_address.c: the process's heaps by where their regions begin ---- */

void by_address_add(hshm_allocator *allocator);
void by_address_remove(hshm_allocator *allocator);

/* Does it lie in data that no processor can touch? */
bool heap_is_out_of_reach(const hshm_allocator *allocator, const void *addr);

/* ---- fork.c: every manager of the process, so that fork() finds them ---- */

void fork_list_add(hshm_manager *manager);
void fork_list_remove(hshm_manager *manager);

/* The heap whose region begins there, in whichever manager; NULL, with a sentence, if there is none. */
hshm_allocator *managers_find_at(const void *region);

#endif
