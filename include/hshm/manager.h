/*
 * manager.h - a process's list of backends and allocators.
 *
 * Most programs use the default manager and pass NULL.  An explicit manager is a list of its own: it may attach to
 * regions that another manager of the same process holds (at another address, under a slot of its own), and uses ids
 * without regard to other managers.
 *
 * All calls are safe from several threads.  None is async-signal-safe.
 */
#ifndef HSHM_MANAGER_H
#define HSHM_MANAGER_H

#include <hshm/status.h>
#include <hshm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The manager that NULL stands for.  Never fails, never ends. */
HSHM_API hshm_manager *hshm_manager_default(void);

/**
 * Make an empty manager.
 * @return HSHM_OK, HSHM_E_INVAL (ret_manager is NULL), or HSHM_E_NOSPC (no memory)
 */
HSHM_API hshm_status hshm_manager_create(hshm_manager **ret_manager);

/**
 * Detach from everything that is registered and free the manager.  Names stay; hshm_backend_destroy() removes those.
 * NULL and the default manager: the default manager is emptied, and stays.
 */
HSHM_API void hshm_manager_destroy(hshm_manager *manager);

/**
 * The address, in this process, of a pointer that came from another one.
 * A null pointer gives NULL.  The offset is checked to lie inside the heap's data or custom header
 * (MALLOC: to be that of a live block).
 *
 * @return HSHM_OK, HSHM_E_NOTFOUND (no such allocator in this manager), HSHM_E_INVAL (outside the heap), or HSHM_E_NOTSUP (a
 *         block in device memory, which no processor can touch: hshm_to_addr() and <hshm/gpu.h>)
 */
HSHM_API hshm_status hshm_resolve(hshm_manager *manager, hshm_shm_ptr pointer, void **ret_addr);

/**
 * The form that travels, for an address in any heap of this manager.  NULL gives the null pointer.
 *
 * @return HSHM_OK, or HSHM_E_NOTFOUND (the address lies in no heap of this manager)
 */
HSHM_API hshm_status hshm_identify(hshm_manager *manager, const void *addr, hshm_shm_ptr *ret_pointer);

/**
 * The heap of this process whose region begins at that address, in whichever manager, registered or not.
 *
 * For what lies in a region and must find its heap there, such as the allocator of a container: hshm_to_off() of its own
 * address tells where the region begins, and that distance is the same in every process.  Takes some 5 ns, without a lock, as
 * long as a process has no more than some 200 heaps.
 *
 * @param region  hshm_to_addr(heap, off) - off, for any offset; the heap must not be left during the call
 * @return NULL if there is none, and HSHM_E_NOTFOUND as last status
 */
HSHM_API hshm_allocator *hshm_allocator_at(const void *region);

#ifdef __cplusplus
}
#endif

#endif
