/*
 * heap.c - the node's heap: made by the leader, attached to by the others, left in the end.
 *
 * Without a name (the default) the leader's region is a file that nobody can find; the others open it through the leader's
 * /proc/PID/fd/N, which a user's own processes may in one pid namespace.  A kill at any moment leaves nothing.  Where
 * ranks of a node are of several users or pid namespaces (containers that share /dev/shm), the region gets a name that no
 * other job has, for as long as it takes to attach: a kill in those milliseconds leaves a region that nobody lives in.
 *
 *     leader                                          followers
 *     create region and heap, or recover one
 *     options.init fills in the custom header
 *     ------------- ticket: how to get at it, and its uuid -------------->
 *                                                     attach; the uuid has to be the ticket's
 *     ------------- (open.c) all agree ----------------------------------
 *     the name that was only for attaching goes
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "handle.h"

/* What a leader tells its node.  Bytes of one machine: no conversion. */
struct ticket {
    uint32_t node, node_count;
    int32_t ready;
    int32_t recovered;
    int32_t pid; /* of the leader, and its descriptor; fd -1: by name */
    int32_t fd;
    uint8_t uuid[16];
    uint32_t backend_id;
    uint32_t major, minor;
    char name[HSHM_NAME_MAX + 1]; /* if it is not options.name */
};

/* The name while it is attached to, or the label of a region that has none. */
static void
passing_name(const hshm_mpi *mpi, char name[HSHM_NAME_MAX + 1])
{
    (void)snprintf(name, HSHM_NAME_MAX + 1, "hshm-mpi-%016" PRIx64 "-%d", mpi->job, mpi->rank);
}

/* ---- the leader ---- */

static hshm_status
create(hshm_mpi *mpi)
{
    const hshm_mpi_options *o = &mpi->options;
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    if (o->backend != NULL)
        memcpy(&backend, o->backend,
               o->backend->struct_size < sizeof backend ? o->backend->struct_size : sizeof backend);
    backend.struct_size = sizeof backend;
    backend.replace = o->reuse != HSHM_MPI_NEW ? HSHM_REPLACE_DEAD : HSHM_REPLACE_NEVER;
    backend.nameless = o->name == NULL && mpi->by_proc;
    hshm_status status =
        hshm_backend_create(mpi->manager, o->backend_id, o->backend_kind, o->size, mpi->name, &backend, NULL);
    if (status != HSHM_OK)
        return status;
    mpi->has_backend = true;
    mpi->backend_id = o->backend_id;
    mpi->allocator_id = o->allocator_id;
    status = hshm_allocator_create(mpi->manager, o->backend_id, o->allocator_id, o->allocator, o->custom_header_size,
                                   o->allocator_options, &mpi->heap);
    if (status == HSHM_OK && o->init != NULL) {
        (void)hshm_set_last_error(HSHM_OK, NULL);
        status = o->init(mpi->heap, o->init_arg);
        if (status != HSHM_OK && hshm_last_status() == HSHM_OK)
            (void)mpi_fail(status, "options.init answered %s", hshm_status_name(status));
    }
    return status;
}

static hshm_status
attach(hshm_mpi *mpi, const char *url, const int *fd, bool follower)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    const hshm_attach_options *given = mpi->options.attach;
    if (given != NULL) {
        options.read_only = given->read_only && follower;
        options.accept_dirty = given->accept_dirty;
    }
    mpi->read_only = options.read_only;
    options.fd = fd;
    hshm_backend *backend = NULL;
    hshm_status status = hshm_backend_attach(mpi->manager, mpi->options.backend_kind, url, &options, &backend);
    if (status != HSHM_OK)
        return status;
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    status = hshm_backend_info(backend, &info);
    mpi->has_backend = true;
    mpi->backend_id = info.id;
    return status;
}

/* A heap of that name is there and nobody else lives in it: is it what was asked for? */
static hshm_status
check_found(hshm_mpi *mpi, const hshm_backend_info_data *info)
{
    const hshm_mpi_options *o = &mpi->options;
    size_t header = 0;
    hshm_status status = hshm_allocator_get(mpi->manager, o->allocator_id, HSHM_ALLOCATOR_ANY, &mpi->heap);
    if (status != HSHM_OK)
        return status;
    mpi->allocator_id = o->allocator_id;
    if (info->processes > 1)
        return mpi_fail(HSHM_E_BUSY,
                        "cannot recover '%s': %u other processes live in it; wait for that job to end, or use "
                        "another name",
                        mpi->name, info->processes - 1);
    (void)hshm_allocator_custom_header(mpi->heap, &header);
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t size = (o->size + page - 1) / page * page;
    if (hshm_allocator_kind_of(mpi->heap) != o->allocator || info->size != size || header != o->custom_header_size)
        return mpi_fail(HSHM_E_KIND,
                        "cannot go on with '%s': allocator %d, %" PRIu64
                        " bytes, a custom header of %zu are there, and %d, "
                        "%" PRIu64 ", %zu were asked for; ask for what is there, or for HSHM_MPI_REPLACE_DEAD",
                        mpi->name, (int)hshm_allocator_kind_of(mpi->heap), info->size, header, (int)o->allocator, size,
                        o->custom_header_size);
    return HSHM_OK;
}

/* *ret_found false: there is none to recover, and one can be created. */
static hshm_status
recover(hshm_mpi *mpi, bool *ret_found)
{
    *ret_found = false;
    hshm_status status = attach(mpi, mpi->name, NULL, false);
    if (status == HSHM_E_NOTFOUND ||
        status == HSHM_E_NOTREADY) /* or its creator died half-way; create replaces only the dead */
        return HSHM_OK;
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    if (status == HSHM_OK)
        status = hshm_backend_info(hshm_backend_get(mpi->manager, mpi->backend_id), &info);
    if (status == HSHM_OK)
        status = check_found(mpi, &info);
    if (status == HSHM_OK)
        status = hshm_recover(mpi->heap, NULL);
    *ret_found = status == HSHM_OK;
    return status;
}

static hshm_status
lead(hshm_mpi *mpi, struct ticket *ticket)
{
    bool found = false;
    hshm_status status = HSHM_OK;
    if (mpi->options.name == NULL)
        passing_name(mpi, mpi->name);
    if (mpi->options.reuse == HSHM_MPI_RECOVER)
        status = recover(mpi, &found);
    if (status == HSHM_OK && !found)
        status = create(mpi);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    if (status == HSHM_OK)
        status = hshm_backend_info(hshm_backend_get(mpi->manager, mpi->backend_id), &info);
    if (status != HSHM_OK)
        return status;
    mpi->recovered = found;
    ticket->recovered = found;
    ticket->pid = (int32_t)getpid();
    ticket->fd = mpi->options.name == NULL && mpi->by_proc ? info.fd : -1;
    memcpy(ticket->uuid, info.uuid, sizeof ticket->uuid);
    ticket->backend_id = mpi->backend_id;
    ticket->major = mpi->allocator_id.major;
    ticket->minor = mpi->allocator_id.minor;
    if (mpi->options.name == NULL)
        memcpy(ticket->name, mpi->name, sizeof ticket->name);
    ticket->ready = 1;
    return HSHM_OK;
}

/* ---- the others ---- */

static hshm_status
attach_by_ticket(hshm_mpi *mpi, const struct ticket *ticket)
{
    if (mpi->options.name == NULL)
        memcpy(mpi->name, ticket->name, sizeof ticket->name);
    if (ticket->fd < 0)
        return attach(mpi, mpi->name, NULL, true);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)ticket->pid, (int)ticket->fd);
    /* Whatever stands there if the leader has died meanwhile: open neither waits for it nor takes a terminal. */
    const int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return mpi_fail(
            HSHM_E_PERM,
            "cannot open the leader's region by %s: %s; it has to be this user's process, and /proc mounted; "
            "or give the heap a name (options.name)",
            path, strerror(errno));
    const hshm_status status = attach(mpi, mpi->name, &fd, true);
    (void)close(fd);
    return status;
}

static hshm_status
follow(hshm_mpi *mpi, const struct ticket *ticket)
{
    hshm_status status = attach_by_ticket(mpi, ticket);
    if (status != HSHM_OK)
        return status;
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    status = hshm_backend_info(hshm_backend_get(mpi->manager, mpi->backend_id), &info);
    if (status == HSHM_OK && memcmp(info.uuid, ticket->uuid, sizeof info.uuid) != 0)
        status =
            mpi_fail(HSHM_E_NOTFOUND,
                     "'%s' is not the leader's region: the same name, but other memory; this rank does not see the "
                     "leader's /dev/shm",
                     mpi->name);
    mpi->allocator_id = (hshm_allocator_id){ ticket->major, ticket->minor };
    mpi->recovered = ticket->recovered != 0;
    if (status == HSHM_OK)
        status = hshm_allocator_get(mpi->manager, mpi->allocator_id, mpi->options.allocator, &mpi->heap);
    return status;
}

static hshm_status
find_manager(hshm_mpi *mpi)
{
    mpi->manager = mpi->options.manager;
    if (mpi->manager != NULL)
        return HSHM_OK;
    const hshm_status status = hshm_manager_create(&mpi->manager);
    mpi->own_manager = status == HSHM_OK;
    return status;
}

static hshm_status
remember_region(hshm_mpi *mpi)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    const hshm_status status = hshm_backend_info(hshm_backend_get(mpi->manager, mpi->backend_id), &info);
    mpi->base = info.base;
    mpi->region_size = info.size;
    return status;
}

hshm_status
heap_set_up(hshm_mpi *mpi)
{
    struct ticket ticket;
    memset(&ticket, 0, sizeof ticket);
    ticket.fd = -1;
    hshm_status status = find_manager(mpi);
    if (mpi->node_rank == 0)
        nodes_count(mpi);
    ticket.node = mpi->node;
    ticket.node_count = mpi->node_count;
    if (status == HSHM_OK && mpi->node_rank == 0)
        status = lead(mpi, &ticket);
    const hshm_status failed =
        mpi_check(MPI_Bcast(&ticket, (int)sizeof ticket, MPI_BYTE, 0, mpi->node_comm), "MPI_Bcast");
    if (failed != HSHM_OK)
        return failed;
    mpi->node = ticket.node;
    mpi->node_count = ticket.node_count;
    if (status == HSHM_OK)
        status = nodes_allocate(mpi);
    if (status == HSHM_OK && mpi->node_rank != 0 && ticket.ready)
        status = follow(mpi, &ticket);
    if (status == HSHM_OK && ticket.ready)
        status = remember_region(mpi);
    return status;
}

void
heap_hide(hshm_mpi *mpi)
{
    if (mpi->node_rank == 0 && mpi->options.name == NULL && !mpi->by_proc)
        (void)shm_unlink(mpi->name);
}

hshm_status
heap_leave(hshm_mpi *mpi, bool kept)
{
    hshm_status status = HSHM_OK;
    const bool goes = mpi->node_rank == 0 && !kept;
    /* Destroying takes away the name of what this process created, and only detaches from what it found. */
    if (mpi->has_backend && goes)
        status = hshm_backend_destroy(mpi->manager, mpi->backend_id);
    else if (mpi->has_backend)
        status = hshm_backend_detach(mpi->manager, mpi->backend_id);
    /* One that an earlier job made: what somebody lives in stays, and the caller learns of it. */
    if (status == HSHM_OK && mpi->has_backend && goes && mpi->recovered)
        status = hshm_backend_remove(mpi->options.backend_kind, mpi->name);
    mpi->has_backend = false;
    mpi->heap = NULL;
    if (mpi->own_manager)
        hshm_manager_destroy(mpi->manager);
    mpi->own_manager = false;
    return status;
}
