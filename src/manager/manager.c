/*
 * manager.c - the public calls on managers, backends and allocators of a process.
 *
 * The manager's lock guards the list, never the work: creating reserves the id first (a `building` entry), works without
 * the lock, and then shows the entry; destroying takes the entry out first.  So a thread that looks something up never
 * waits for a disk, and fork() never for a timeout.
 */
#include "manager/manager.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/members.h"
#include "base/error.h"
#include "sync/clock.h"
#include "sync/liveness.h"

static hshm_manager default_manager = { .lock = LOCAL_LOCK_INIT };
static pthread_once_t default_once = PTHREAD_ONCE_INIT;

static void
list_default_manager(void)
{
    fork_list_add(&default_manager);
}

hshm_manager *
hshm_manager_default(void)
{
    (void)pthread_once(&default_once, list_default_manager);
    return &default_manager;
}

static hshm_manager *
or_default(hshm_manager *manager)
{
    return manager != NULL ? manager : hshm_manager_default();
}

hshm_status
hshm_manager_create(hshm_manager **ret_manager)
{
    if (ret_manager == NULL)
        return fail(HSHM_E_INVAL, "hshm_manager_create: ret_manager is NULL");
    hshm_manager *manager = calloc(1, sizeof *manager);
    if (manager == NULL)
        return fail(HSHM_E_NOSPC, "no memory for a manager");
    local_lock_init(&manager->lock);
    fork_list_add(manager);
    *ret_manager = manager;
    return HSHM_OK;
}

/* ---- entries ---- */

static hshm_status
unknown_backend(hshm_backend_id id)
{
    return fail(HSHM_E_NOTFOUND, "no backend %" PRIu32 " is registered in this manager", id);
}

static hshm_status
unknown_allocator(hshm_allocator_id id)
{
    return fail(HSHM_E_NOTFOUND, "no allocator %" PRIu32 ".%" PRIu32 " is registered in this manager", id.major,
                id.minor);
}

static hshm_backend *
new_backend(hshm_backend_id id)
{
    hshm_backend *backend = calloc(1, sizeof *backend);
    if (backend == NULL) {
        (void)fail(HSHM_E_NOSPC, "no memory for a backend's handle");
        return NULL;
    }
    backend->id = id;
    return backend;
}

/* Leave the memory of a backend that is in no list any more.  Fails where a device's driver did; it is left even then. */
static hshm_status
end_backend(hshm_backend *backend)
{
    heap_close(backend->allocator);
    heap_close(backend->forgotten);
    const hshm_status status = region_leave(&backend->region);
    free(backend);
    return status;
}

/* Take the finished backend of that id out of the list.  NULL when there is none. */
static hshm_backend *
take_backend(hshm_manager *manager, hshm_backend_id id)
{
    local_lock_take(&manager->lock);
    hshm_backend *backend = registry_find_backend(manager, id);
    if (backend != NULL && backend->building)
        backend = NULL;
    if (backend != NULL)
        registry_take_out(manager, backend);
    local_lock_give(&manager->lock);
    return backend;
}

void
hshm_manager_destroy(hshm_manager *manager)
{
    hshm_manager *emptied = or_default(manager);
    for (;;) {
        local_lock_take(&emptied->lock);
        hshm_backend *backend = emptied->backends;
        while (backend != NULL && backend->building) /* another thread's, which will show or drop it itself */
            backend = backend->next;
        if (backend != NULL)
            registry_take_out(emptied, backend);
        local_lock_give(&emptied->lock);
        if (backend == NULL)
            break;
        (void)end_backend(backend);
    }
    if (emptied != &default_manager) {
        fork_list_remove(emptied);
        free(emptied);
    }
}

/* ---- backends ---- */

/* Take the id, so that no other thread does.  The entry, or NULL with a sentence. */
static hshm_backend *
reserve_id(hshm_manager *manager, hshm_backend_id id)
{
    hshm_backend *backend = new_backend(id);
    if (backend == NULL)
        return NULL;
    backend->building = true;
    local_lock_take(&manager->lock);
    const bool taken = registry_find_backend(manager, id) != NULL;
    if (!taken)
        registry_add(manager, backend);
    local_lock_give(&manager->lock);
    if (taken) {
        free(backend);
        (void)fail(HSHM_E_EXISTS,
                   "the backend id %" PRIu32 " is registered in this manager already; use another one, or "
                   "destroy that backend first",
                   id);
        return NULL;
    }
    return backend;
}

/* Callers of an older header have a shorter struct; what it lacks keeps its default. */
static void
copy_known(void *to, const void *from, size_t struct_size, size_t known)
{
    memcpy(to, from, struct_size < known ? struct_size : known);
}

/* How much of a caller's struct to take: that of the first version, or all; never a part of a pointer. */
static size_t
whole_fields(size_t struct_size, size_t oldest, size_t known)
{
    return struct_size < known ? oldest : known;
}

static hshm_status
copy_backend_options(const hshm_backend_options *given, hshm_backend_options *ret_options)
{
    if (given == NULL)
        return HSHM_OK;
    const size_t oldest = offsetof(hshm_backend_options, nameless);
    const hshm_status status = check_struct_size("hshm_backend_options", given->struct_size, oldest);
    if (status == HSHM_OK)
        memcpy(ret_options, given, whole_fields(given->struct_size, oldest, sizeof *given));
    return status;
}

hshm_status
hshm_backend_create(hshm_manager *manager, hshm_backend_id id, hshm_backend_kind kind, size_t size, const char *url,
                    const hshm_backend_options *options, hshm_backend **ret_backend)
{
    manager = or_default(manager);
    struct create_request request = { .url = url, .size = size, .options = HSHM_BACKEND_OPTIONS_INIT };
    const struct backend_ops *ops = backend_find((uint32_t)kind);
    if (ops == NULL)
        return HSHM_E_INVAL;
    hshm_status status = copy_backend_options(options, &request.options);
    if (status != HSHM_OK)
        return status;
    hshm_backend *backend = reserve_id(manager, id);
    if (backend == NULL)
        return hshm_last_status();

    struct region region;
    status = region_create(ops, id, &request, &region);
    local_lock_take(&manager->lock);
    if (status == HSHM_OK) {
        backend->region = region;
        backend->creator = life_pid();
        backend->building = false;
    } else {
        registry_take_out(manager, backend);
    }
    local_lock_give(&manager->lock);
    if (status != HSHM_OK) {
        free(backend);
        return status;
    }
    if (ret_backend != NULL)
        *ret_backend = backend;
    return HSHM_OK;
}

/* Show an attached backend, unless its ids mean something else here already. */
static hshm_status
register_attached(hshm_manager *manager, hshm_backend *backend)
{
    hshm_status status = HSHM_OK;
    const hshm_allocator_id id = backend->allocator->id;
    local_lock_take(&manager->lock);
    if (registry_find_backend(manager, backend->id) != NULL)
        status = fail(HSHM_E_EXISTS,
                      "cannot attach to %s: its backend id %" PRIu32 " is registered in this manager already; "
                      "attach with another manager (hshm_manager_create)",
                      region_name(&backend->region).s, backend->id);
    else if (registry_find_allocator(manager, id) != NULL)
        status = fail(HSHM_E_EXISTS,
                      "cannot attach to %s: its allocator id %" PRIu32 ".%" PRIu32 " is registered in this "
                      "manager already; attach with another manager (hshm_manager_create)",
                      region_name(&backend->region).s, id.major, id.minor);
    else {
        region_use(&backend->region);
        registry_add(manager, backend);
    }
    local_lock_give(&manager->lock);
    return status;
}

static hshm_status
attach_once(hshm_manager *manager, const struct backend_ops *ops, const char *url, const hshm_attach_options *options,
            hshm_backend **ret_backend)
{
    struct region_header header;
    hshm_backend *backend = new_backend(0);
    if (backend == NULL)
        return HSHM_E_NOSPC;
    hshm_status status = region_attach(ops, url, options, &backend->region, &header);
    if (status != HSHM_OK) {
        free(backend);
        return status;
    }
    backend->id = header.backend_id;
    status = heap_open(backend, &header, &backend->allocator);
    if (status == HSHM_OK)
        status = register_attached(manager, backend);
    if (status != HSHM_OK) {
        const struct sentence kept = sentence_keep();
        (void)end_backend(backend);
        sentence_restore(&kept);
        return status;
    }
    *ret_backend = backend;
    return HSHM_OK;
}

static hshm_status
timed_out(uint64_t timeout_ms)
{
    return fail(HSHM_E_TIMEOUT, "waited %" PRIu64 " ms: %s", timeout_ms, hshm_last_error());
}

hshm_status
hshm_backend_attach(hshm_manager *manager, hshm_backend_kind kind, const char *url, const hshm_attach_options *options,
                    hshm_backend **ret_backend)
{
    manager = or_default(manager);
    hshm_attach_options wanted = HSHM_ATTACH_OPTIONS_INIT;
    const struct backend_ops *ops = backend_find((uint32_t)kind);
    if (ops == NULL)
        return HSHM_E_INVAL;
    if (options != NULL) {
        const size_t oldest = offsetof(hshm_attach_options, fd);
        const hshm_status status = check_struct_size("hshm_attach_options", options->struct_size, oldest);
        if (status != HSHM_OK)
            return status;
        memcpy(&wanted, options, whole_fields(options->struct_size, oldest, sizeof *options));
    }
    hshm_backend *backend = NULL;
    struct wait wait = wait_begin(wanted.timeout_ms);
    hshm_status status = attach_once(manager, ops, url, &wanted, &backend);
    while (status == HSHM_E_NOTFOUND || status == HSHM_E_NOTREADY || status == HSHM_E_BUSY) {
        if (wanted.timeout_ms == 0)
            return status;
        if (!wait_more(&wait))
            return timed_out(wanted.timeout_ms);
        status = attach_once(manager, ops, url, &wanted, &backend);
    }
    if (status == HSHM_OK && ret_backend != NULL)
        *ret_backend = backend;
    return status;
}

hshm_status
hshm_backend_destroy(hshm_manager *manager, hshm_backend_id id)
{
    hshm_backend *backend = take_backend(or_default(manager), id);
    if (backend == NULL)
        return unknown_backend(id);
    hshm_status status = HSHM_OK;
    /* Our slot is still ours here, so nobody can take the region for dead while its name goes. */
    if (backend->creator == life_pid() && backend->region.ops->unname != NULL)
        status = backend->region.ops->unname(&backend->region);
    const hshm_status ended = end_backend(backend);
    return status == HSHM_OK ? ended : status;
}

hshm_status
hshm_backend_detach(hshm_manager *manager, hshm_backend_id id)
{
    hshm_backend *backend = take_backend(or_default(manager), id);
    if (backend == NULL)
        return unknown_backend(id);
    return end_backend(backend);
}

hshm_status
hshm_backend_remove(hshm_backend_kind kind, const char *url)
{
    const struct backend_ops *ops = backend_find((uint32_t)kind);
    if (ops == NULL)
        return HSHM_E_INVAL;
    if (ops->remove == NULL)
        return fail(HSHM_E_NOTSUP, "regions of the kind %s have no names that could be removed", ops->title);
    if (url == NULL)
        return fail(HSHM_E_INVAL, "hshm_backend_remove: url is NULL");
    const hshm_status status = ops->check_url(url);
    return status == HSHM_OK ? ops->remove(ops, url) : status;
}

hshm_backend *
hshm_backend_get(hshm_manager *manager, hshm_backend_id id)
{
    manager = or_default(manager);
    local_lock_take(&manager->lock);
    hshm_backend *backend = registry_find_backend(manager, id);
    if (backend != NULL && backend->building)
        backend = NULL;
    local_lock_give(&manager->lock);
    if (backend == NULL)
        (void)unknown_backend(id);
    return backend;
}

hshm_allocator *
hshm_backend_allocator(hshm_backend *backend)
{
    if (backend == NULL)
        (void)fail(HSHM_E_INVAL, "hshm_backend_allocator: backend is NULL");
    else if (backend->allocator == NULL)
        (void)fail(HSHM_E_NOTREADY, "%s has no heap here: none was created on it yet, or it was unregistered",
                   region_name(&backend->region).s);
    return backend == NULL ? NULL : backend->allocator;
}

hshm_status
hshm_backend_sync(hshm_backend *backend)
{
    if (backend == NULL)
        return fail(HSHM_E_INVAL, "hshm_backend_sync: backend is NULL");
    return backend->region.ops->sync == NULL ? HSHM_OK : backend->region.ops->sync(&backend->region);
}

hshm_status
hshm_backend_info(hshm_backend *backend, hshm_backend_info_data *ret_info)
{
    if (backend == NULL || ret_info == NULL)
        return fail(HSHM_E_INVAL, "hshm_backend_info: %s is NULL", backend == NULL ? "backend" : "ret_info");
    const size_t oldest = offsetof(hshm_backend_info_data, fd);
    const hshm_status status = check_struct_size("hshm_backend_info_data", ret_info->struct_size, oldest);
    if (status != HSHM_OK)
        return status;
    struct region *region = &backend->region;
    const struct region_header *header = region_header(region);
    hshm_backend_info_data info = {
        .struct_size = ret_info->struct_size,
        .kind = region->ops->kind,
        .id = backend->id,
        .size = region->size,
        .committed = region->ops->committed(region),
        .base = region->base,
        .created_here = backend->creator == life_pid(),
        .read_only = region->read_only,
        .ready = region_ready(header),
        .slots = region->slot_count,
        .processes = members_alive(region),
        .slot = region->slot,
        .fd = region->ops->files != NULL ? region_fd(region) : -1,
    };
    memcpy(info.uuid, header->uuid, sizeof info.uuid);
    (void)snprintf(info.url, sizeof info.url, "%s", region->url);
    copy_known(ret_info, &info, ret_info->struct_size, sizeof info);
    return HSHM_OK;
}

/* ---- allocators ---- */

/* Under the manager's lock: laying a heap out takes microseconds, and no other thread may do it at the same time. */
static hshm_status
create_locked(hshm_manager *manager, hshm_backend_id backend_id, hshm_allocator_id id, const struct allocator_ops *ops,
              size_t custom_header_size, const hshm_allocator_options *options, hshm_allocator **ret_allocator)
{
    hshm_backend *backend = registry_find_backend(manager, backend_id);
    if (backend == NULL || backend->building)
        return unknown_backend(backend_id);
    if (registry_find_allocator(manager, id) != NULL)
        return fail(HSHM_E_EXISTS,
                    "the allocator id %" PRIu32 ".%" PRIu32 " is registered in this manager already; use another "
                    "one, or unregister that allocator first",
                    id.major, id.minor);
    if (backend->region.read_only)
        return fail(HSHM_E_PERM, "%s is attached read-only: no heap can be made on it",
                    region_name(&backend->region).s);
    if (backend->creator != life_pid() && !region_ready(region_header(&backend->region)))
        return fail(HSHM_E_PERM, "%s was created by this process's parent, which alone can make its heap",
                    region_name(&backend->region).s);
    hshm_allocator *allocator = NULL;
    const hshm_status status = heap_create(backend, id, ops, custom_header_size, options, &allocator);
    if (status == HSHM_OK)
        *ret_allocator = backend->allocator = allocator;
    return status;
}

static hshm_status
copy_allocator_options(const hshm_allocator_options *given, hshm_allocator_options *ret_options)
{
    if (given == NULL)
        return HSHM_OK;
    const size_t oldest = offsetof(hshm_allocator_options, min_block);
    const hshm_status status = check_struct_size("hshm_allocator_options", given->struct_size, oldest);
    if (status == HSHM_OK)
        copy_known(ret_options, given, given->struct_size, sizeof *given);
    return status;
}

hshm_status
hshm_allocator_create(hshm_manager *manager, hshm_backend_id backend_id, hshm_allocator_id allocator_id,
                      hshm_allocator_kind kind, size_t custom_header_size, const hshm_allocator_options *options,
                      hshm_allocator **ret_allocator)
{
    manager = or_default(manager);
    const struct allocator_ops *ops = allocator_find((uint32_t)kind);
    if (ops == NULL)
        return HSHM_E_INVAL;
    hshm_allocator_options wanted = HSHM_ALLOCATOR_OPTIONS_INIT;
    hshm_status status = copy_allocator_options(options, &wanted);
    if (status != HSHM_OK)
        return status;
    hshm_allocator *allocator = NULL;
    local_lock_take(&manager->lock);
    status = create_locked(manager, backend_id, allocator_id, ops, custom_header_size, &wanted, &allocator);
    local_lock_give(&manager->lock);
    if (status == HSHM_OK && ret_allocator != NULL)
        *ret_allocator = allocator;
    return status;
}

hshm_status
hshm_allocator_get(hshm_manager *manager, hshm_allocator_id allocator_id, hshm_allocator_kind kind,
                   hshm_allocator **ret_allocator)
{
    if (ret_allocator == NULL)
        return fail(HSHM_E_INVAL, "hshm_allocator_get: ret_allocator is NULL");
    manager = or_default(manager);
    local_lock_take(&manager->lock);
    const hshm_backend *backend = registry_find_allocator(manager, allocator_id);
    hshm_allocator *allocator = backend == NULL ? NULL : backend->allocator;
    /* Read here: without the lock, another thread may end the handle. */
    const hshm_allocator_kind is = allocator == NULL ? HSHM_ALLOCATOR_ANY : allocator->ops.kind;
    const char *title = allocator == NULL ? "" : allocator->ops.title;
    local_lock_give(&manager->lock);
    if (allocator == NULL)
        return unknown_allocator(allocator_id);
    if (kind != HSHM_ALLOCATOR_ANY && kind != is)
        return fail(HSHM_E_KIND, "the allocator %" PRIu32 ".%" PRIu32 " is a %s (kind %d), not of kind %d",
                    allocator_id.major, allocator_id.minor, title, (int)is, (int)kind);
    *ret_allocator = allocator;
    return HSHM_OK;
}

hshm_status
hshm_allocator_unregister(hshm_manager *manager, hshm_allocator_id allocator_id)
{
    manager = or_default(manager);
    local_lock_take(&manager->lock);
    hshm_backend *backend = registry_find_allocator(manager, allocator_id);
    if (backend != NULL) {
        /* A region holds one heap ever, so there is none to be forgotten before this one. */
        backend->forgotten = backend->allocator;
        backend->allocator = NULL;
    }
    local_lock_give(&manager->lock);
    return backend != NULL ? HSHM_OK : unknown_allocator(allocator_id);
}

static hshm_status
register_locked(hshm_manager *manager, hshm_allocator *allocator)
{
    hshm_backend *backend = registry_find_handle(manager, allocator);
    if (backend == NULL)
        return fail(HSHM_E_NOTFOUND, "%p is no heap of a backend that is registered in this manager",
                    (const void *)allocator);
    if (backend->allocator == allocator)
        return HSHM_OK;
    if (registry_find_allocator(manager, allocator->id) != NULL)
        return fail(HSHM_E_EXISTS, "the allocator id %" PRIu32 ".%" PRIu32 " was given to another heap meanwhile",
                    allocator->id.major, allocator->id.minor);
    backend->allocator = allocator;
    backend->forgotten = NULL;
    return HSHM_OK;
}

hshm_status
hshm_allocator_register(hshm_manager *manager, hshm_allocator *allocator)
{
    if (allocator == NULL)
        return fail(HSHM_E_INVAL, "hshm_allocator_register: allocator is NULL");
    manager = or_default(manager);
    local_lock_take(&manager->lock);
    const hshm_status status = register_locked(manager, allocator);
    local_lock_give(&manager->lock);
    return status;
}

/* ---- pointers that travel ---- */

hshm_status
hshm_resolve(hshm_manager *manager, hshm_shm_ptr pointer, void **ret_addr)
{
    if (ret_addr == NULL)
        return fail(HSHM_E_INVAL, "hshm_resolve: ret_addr is NULL");
    if (pointer.off == HSHM_OFF_NULL) {
        *ret_addr = NULL;
        return HSHM_OK;
    }
    manager = or_default(manager);
    hshm_status status = HSHM_OK;
    local_lock_take(&manager->lock);
    const hshm_backend *backend = registry_find_allocator(manager, pointer.allocator);
    if (backend == NULL) {
        status = unknown_allocator(pointer.allocator);
    } else {
        void *addr = hshm_to_addr(backend->allocator, pointer.off);
        if (heap_is_out_of_reach(backend->allocator, addr))
            status =
                fail(HSHM_E_NOTSUP,
                     "offset %" PRIu64 " of the heap %" PRIu32 ".%" PRIu32 " lies in device memory, which no processor "
                     "can touch; hshm_to_addr() gives an address for calls of this library, hshm_device_ptr() one "
                     "for kernels",
                     pointer.off, pointer.allocator.major, pointer.allocator.minor);
        else if (heap_owns(backend->allocator, addr))
            *ret_addr = addr;
        else
            status = fail(HSHM_E_INVAL, "offset %" PRIu64 " lies outside the heap %" PRIu32 ".%" PRIu32, pointer.off,
                          pointer.allocator.major, pointer.allocator.minor);
    }
    local_lock_give(&manager->lock);
    return status;
}

hshm_status
hshm_identify(hshm_manager *manager, const void *addr, hshm_shm_ptr *ret_pointer)
{
    if (ret_pointer == NULL)
        return fail(HSHM_E_INVAL, "hshm_identify: ret_pointer is NULL");
    if (addr == NULL) {
        *ret_pointer = HSHM_PTR_NULL.shm;
        return HSHM_OK;
    }
    manager = or_default(manager);
    bool found = false;
    local_lock_take(&manager->lock);
    for (const hshm_backend *backend = manager->backends; backend != NULL && !found; backend = backend->next) {
        hshm_allocator *allocator = backend->allocator;
        found = allocator != NULL && heap_owns(allocator, addr);
        if (found)
            *ret_pointer = (hshm_shm_ptr){ allocator->id, hshm_to_off(allocator, addr) };
    }
    local_lock_give(&manager->lock);
    return found ? HSHM_OK : fail(HSHM_E_NOTFOUND, "%p lies in no heap of this manager", addr);
}
