/*
 * registry.c - a manager's list.  Short: a process has a handful of heaps.
 */
#include "manager/manager.h"

hshm_backend *
registry_find_backend(const hshm_manager *manager, hshm_backend_id id)
{
    for (hshm_backend *backend = manager->backends; backend != NULL; backend = backend->next) {
        if (backend->id == id)
            return backend;
    }
    return NULL;
}

hshm_backend *
registry_find_allocator(const hshm_manager *manager, hshm_allocator_id id)
{
    for (hshm_backend *backend = manager->backends; backend != NULL; backend = backend->next) {
        const hshm_allocator *allocator = backend->allocator;
        if (allocator != NULL && allocator->id.major == id.major && allocator->id.minor == id.minor)
            return backend;
    }
    return NULL;
}

hshm_backend *
registry_find_handle(const hshm_manager *manager, const hshm_allocator *allocator)
{
    for (hshm_backend *backend = manager->backends; backend != NULL; backend = backend->next) {
        if (!backend->building && (backend->allocator == allocator || backend->forgotten == allocator))
            return backend;
    }
    return NULL;
}

hshm_allocator *
registry_find_at(const hshm_manager *manager, const void *region)
{
    for (const hshm_backend *backend = manager->backends; backend != NULL; backend = backend->next) {
        hshm_allocator *allocator = backend->allocator != NULL ? backend->allocator : backend->forgotten;
        if (!backend->building && backend->region.base == region && allocator != NULL)
            return allocator;
    }
    return NULL;
}

void
registry_add(hshm_manager *manager, hshm_backend *backend)
{
    backend->next = manager->backends;
    manager->backends = backend;
}

void
registry_take_out(hshm_manager *manager, hshm_backend *backend)
{
    for (hshm_backend **at = &manager->backends; *at != NULL; at = &(*at)->next) {
        if (*at == backend) {
            *at = backend->next;
            backend->next = NULL;
            return;
        }
    }
}
