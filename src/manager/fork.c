/*
 * fork.c - a forked child's heaps.
 *
 * The memory is inherited; the proof of life is not (sync/liveness.h).  So before fork() returns in the child, each
 * region gets a slot of the child's own.  Where that cannot be had, the heap refuses every call in the child: working
 * under the parent's slot would make the child look dead, and its work look abandoned, when the parent dies.
 *
 * The list of managers is global, besides the default manager: fork() has no argument.
 */
#include "allocator/thread_table.h"
#include "backend/gpu_region.h"
#include "backend/members.h"
#include "base/error.h"
#include "manager/manager.h"
#include "sync/fork_guard.h"

static struct {
    struct local_lock lock;
    hshm_manager *first;
} managers = { LOCAL_LOCK_INIT, NULL };

/* Before: take every lock, so that the child inherits none in the middle of a change. */
static void
before_fork(void)
{
    local_lock_take(&managers.lock);
    for (hshm_manager *manager = managers.first; manager != NULL; manager = manager->next) {
        local_lock_take(&manager->lock);
        for (hshm_backend *backend = manager->backends; backend != NULL; backend = backend->next) {
            if (backend->building)
                continue;
            members_fork_prepare(&backend->region);
            if (backend->allocator != NULL && backend->allocator->ops.fork_prepare != NULL)
                backend->allocator->ops.fork_prepare(backend->allocator);
        }
    }
    thread_table_fork_prepare();
}

static void
free_heap_locks(hshm_backend *backend)
{
    if (backend->allocator != NULL && backend->allocator->ops.fork_done != NULL)
        backend->allocator->ops.fork_done(backend->allocator);
}

static void
after_fork_in_parent(void)
{
    thread_table_fork_parent();
    for (hshm_manager *manager = managers.first; manager != NULL; manager = manager->next) {
        for (hshm_backend *backend = manager->backends; backend != NULL; backend = backend->next) {
            if (backend->building)
                continue;
            free_heap_locks(backend);
            members_fork_parent(&backend->region);
        }
        local_lock_give(&manager->lock);
    }
    local_lock_give(&managers.lock);
}

static void
settle_in_child(hshm_backend *backend)
{
    free_heap_locks(backend);
    const hshm_status status = members_fork_child(&backend->region);
    backend->creator = 0; /* the name remains the parent's to remove */
    /* One that was unregistered, too: when the child leaves the region, it must not end what is the parent's. */
    hshm_allocator *const handles[] = { backend->allocator, backend->forgotten };
    for (size_t i = 0; i < COUNTOF(handles); i++) {
        if (handles[i] != NULL)
            heap_settle_in_child(handles[i], &backend->region);
        if (status != HSHM_OK && handles[i] != NULL) {
            handles[i]->refusal = status == HSHM_E_LIMIT ? HSHM_E_LIMIT : HSHM_E_PERM;
            allocator_refuse_all(handles[i]);
        }
    }
}

/* A region that another thread was making belongs to the parent; here nobody would ever finish it. */
static void
forget_building(hshm_manager *manager)
{
    for (hshm_backend **at = &manager->backends; *at != NULL;) {
        if ((*at)->building)
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
}

static void
after_fork_in_child(void)
{
    gpu_fork_child();
    for (hshm_manager *manager = managers.first; manager != NULL; manager = manager->next) {
        forget_building(manager);
        for (hshm_backend *backend = manager->backends; backend != NULL; backend = backend->next)
            settle_in_child(backend);
        local_lock_give(&manager->lock);
    }
    thread_table_fork_child();
    local_lock_give(&managers.lock);
}

hshm_allocator *
managers_find_at(const void *region)
{
    hshm_allocator *found = NULL;
    local_lock_take(&managers.lock);
    for (hshm_manager *manager = managers.first; manager != NULL && found == NULL; manager = manager->next) {
        local_lock_take(&manager->lock);
        found = registry_find_at(manager, region);
        local_lock_give(&manager->lock);
    }
    local_lock_give(&managers.lock);
    if (found == NULL)
        (void)fail(HSHM_E_NOTFOUND, "no heap of this process has its region at %p", region);
    return found;
}

static const struct fork_hooks hooks = { before_fork, after_fork_in_parent, after_fork_in_child };

void
fork_list_add(hshm_manager *manager)
{
    fork_guard_install(&hooks);
    local_lock_take(&managers.lock);
    manager->next = managers.first;
    managers.first = manager;
    local_lock_give(&managers.lock);
}

void
fork_list_remove(hshm_manager *manager)
{
    local_lock_take(&managers.lock);
    for (hshm_manager **at = &managers.first; *at != NULL; at = &(*at)->next) {
        if (*at == manager) {
            *at = manager->next;
            break;
        }
    }
    local_lock_give(&managers.lock);
}
