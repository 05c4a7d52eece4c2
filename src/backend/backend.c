/*
 * backend.c - the table of kinds, and the steps of creating and attaching that all kinds share.
 *
 * A region is whole before anybody can see it:
 *     obtain bytes -> header, empty slots -> our slot and lock -> name
 * A kill before the name leaves nothing that another process could find; a kill after it leaves a region without a
 * heap, whose attachers are told HSHM_E_NOTREADY, and which may be removed because its only slot is unlocked.
 */
#include "backend/backend.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "backend/members.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "sync/clock.h"

/* Adding a kind: its file, a line here, a number in hshm/backend.h, a row in the conformance tests. */
static const struct backend_ops *const backends[] = {
    &backend_posix_shm_ops,  &backend_malloc_ops,     &backend_array_ops,
    &backend_posix_mmap_ops, &backend_gpu_malloc_ops, &backend_gpu_shm_ops,
};

const struct backend_ops *
backend_find(uint32_t kind)
{
    for (size_t i = 0; i < COUNTOF(backends); i++) {
        if ((uint32_t)backends[i]->kind == kind)
            return backends[i];
    }
    (void)fail(HSHM_E_INVAL, "there is no backend kind %" PRIu32 "; see hshm_backend_kind", kind);
    return NULL;
}

struct region_name
backend_name(const struct backend_ops *ops, const char *url)
{
    struct region_name name;
    if (url == NULL || *url == '\0')
        (void)snprintf(name.s, sizeof name.s, "a region (%s)", ops->title);
    else
        (void)snprintf(name.s, sizeof name.s, "'%.300s' (%s)", url, ops->title);
    return name;
}

struct region_name
region_name(const struct region *region)
{
    return backend_name(region->ops, region->url);
}

uint64_t
region_page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- create ---- */

static hshm_status
check_size(const struct backend_ops *ops, const struct create_request *request)
{
    const struct region_name name = backend_name(ops, request->url);
    if (request->size < HSHM_REGION_SIZE_MIN)
        return fail(HSHM_E_INVAL, "cannot create %s: %s is too small for a region, which needs %d bytes at least",
                    name.s, size_text(request->size).s, HSHM_REGION_SIZE_MIN);
    if (request->size > REGION_SIZE_MAX)
        return fail(HSHM_E_INVAL,
                    "cannot create %s: %s is more than any system can map; a size that was negative before it "
                    "became a size_t?",
                    name.s, size_text(request->size).s);
    return HSHM_OK;
}

/* What is reached by a file alone; a GPU's regions are known by name to their drivers' part. */
static bool
can_be_nameless(const struct backend_ops *ops)
{
    return ops->files != NULL && (ops->caps & BACKEND_HAS_GPU) == 0;
}

static hshm_status
check_gpu_need(const struct backend_ops *ops, const char *url, hshm_gpu_need need)
{
    if ((unsigned)need <= HSHM_GPU_OPTIONAL)
        return HSHM_OK;
    return fail(HSHM_E_INVAL, "%s: options.gpu is %u; see hshm/backend.h", backend_name(ops, url).s, (unsigned)need);
}

static hshm_status
check_options(const struct backend_ops *ops, struct create_request *request)
{
    hshm_backend_options *options = &request->options;
    const struct region_name name = backend_name(ops, request->url);
    if (options->mode == 0)
        options->mode = 0600;
    if ((options->mode & 0600) != 0600)
        return fail(HSHM_E_INVAL,
                    "cannot create %s: mode 0%o keeps its own creator from reading and writing it; add 0600", name.s,
                    (unsigned)options->mode);
    if ((options->mode & ~UINT32_C(0777)) != 0)
        return fail(HSHM_E_INVAL, "cannot create %s: mode 0%o has bits beyond 0777", name.s, (unsigned)options->mode);
    if ((unsigned)options->commit > HSHM_COMMIT_PREFAULT || (unsigned)options->replace > HSHM_REPLACE_DEAD)
        return fail(HSHM_E_INVAL, "cannot create %s: options.commit is %u and options.replace %u; see hshm/backend.h",
                    name.s, (unsigned)options->commit, (unsigned)options->replace);
    const hshm_status status = check_gpu_need(ops, request->url, options->gpu);
    if (status != HSHM_OK)
        return status;
    const uint64_t max_size = ops->round_size != NULL && options->max_size <= REGION_SIZE_MAX
                                  ? ops->round_size(options->max_size)
                                  : options->max_size;
    if (options->nameless && !can_be_nameless(ops))
        return fail(HSHM_E_NOTSUP,
                    "cannot create %s without a name: only POSIX shared memory and mapped files can be so; leave "
                    "options.nameless off",
                    name.s);
    if (options->max_size != 0 && max_size != request->size)
        return fail(HSHM_E_NOTSUP,
                    "cannot create %s: a region does not grow in this version, so max_size %s cannot differ from "
                    "size %s; create it at its full size with HSHM_COMMIT_LAZY",
                    name.s, size_text(options->max_size).s, size_text(request->size).s);
    /* Tables for a device's memory are to be small beside it. */
    if (options->slots == 0)
        options->slots =
            region_default_slots(request->size >> (ops->kind == HSHM_BACKEND_GPU_MALLOC ? REGION_DEVICE_SCALE : 0));
    const uint64_t control = region_heap_off(options->slots);
    if (control > request->size && ops->kind != HSHM_BACKEND_GPU_MALLOC)
        return fail(HSHM_E_INVAL, "cannot create %s: %" PRIu32 " slots need %s, the region has %s", name.s,
                    options->slots, size_text(control).s, size_text(request->size).s);
    return HSHM_OK;
}

static hshm_status
check_request(const struct backend_ops *ops, struct create_request *request)
{
    if (request->url == NULL || *request->url == '\0') {
        if (ops->caps & BACKEND_NEEDS_URL)
            return fail(HSHM_E_INVAL, "cannot create %s: it needs a name", backend_name(ops, request->url).s);
    } else if (ops->check_url != NULL) {
        const hshm_status status = ops->check_url(request->url);
        if (status != HSHM_OK)
            return status;
    }
    hshm_status status = check_size(ops, request);
    if (status != HSHM_OK)
        return status;
    if (ops->round_size != NULL)
        request->size = ops->round_size(request->size);
    return check_options(ops, request);
}

/* RFC 4122, version 4: random. */
static void
make_uuid(uint8_t uuid[16])
{
    if (getrandom(uuid, 16, GRND_NONBLOCK) != 16) {
        /* Early in boot.  Two regions of one process still differ by the clock, those of two by the pid. */
        const uint64_t words[2] = { clock_wall_ns(), (uint64_t)getpid() << 32 ^ clock_monotonic_ns() };
        memcpy(uuid, words, 16);
    }
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static void
format_region(struct region *region, hshm_backend_id id, const hshm_backend_options *options)
{
    struct region_birth birth = {
        .region_size = region->size,
        .host_size = region->host_size,
        .slot_count = options->slots,
        .backend_kind = region->ops->kind,
        .backend_id = id,
        .commit = options->commit,
        .pid = (uint32_t)getpid(),
        .uid = (uint32_t)getuid(),
        .now_ns = clock_wall_ns(),
    };
    make_uuid(birth.uuid);
    memcpy(birth.boot_id, region->boot_id, sizeof birth.boot_id);
    if (!region->zeroed)
        memset(region->base, 0, region_heap_off(options->slots));
    region_format_header(region_header(region), &birth);
}

static void
set_members(struct region *region, uint64_t slots_off, uint32_t slot_count)
{
    region->slots = (struct region_slot *)(void *)(region->base + slots_off);
    region->slot_count = slot_count;
}

/* Everything but the slot, which is free already or never was ours. */
static void
forget(struct region *region)
{
    if (region->ops != NULL)
        region->ops->release(region);
    free(region->url);
    *region = (struct region){ .fd = -1, .slot = NO_SLOT };
}

static hshm_status
begin(const struct backend_ops *ops, const char *url, struct region *region)
{
    *region = (struct region){ .ops = ops, .fd = -1, .slot = NO_SLOT };
    region->url = url != NULL && ops->full_url != NULL ? ops->full_url(url) : strdup(url == NULL ? "" : url);
    if (region->url == NULL)
        return fail(HSHM_E_NOSPC, "no memory for the name of %s", backend_name(ops, url).s);
    life_boot_id(region->boot_id);
    return HSHM_OK;
}

/* The kinds whose bytes are all memory need not say so. */
static void
note_host_size(struct region *region)
{
    if (region->host_size == 0)
        region->host_size = region->size;
}

/* Let go of what a device has to do with it. */
static hshm_status
region_part(struct region *region)
{
    return region->ops->part == NULL ? HSHM_OK : region->ops->part(region);
}

/* What a failed create leaves of a device: nothing, not even in the sentence. */
static void
tidy(const struct backend_ops *ops)
{
    const struct sentence kept = sentence_keep();
    if (ops->tidy != NULL)
        (void)ops->tidy();
    sentence_restore(&kept);
}

static hshm_status
equip(const struct create_request *request, struct region *region)
{
    hshm_status status = region->ops->equip == NULL ? HSHM_OK : region->ops->equip(request, region);
    FAILPOINT("region.equipped");
    if (status == HSHM_OK && region->ops->publish != NULL)
        status = region->ops->publish(region);
    if (status != HSHM_OK) {
        const struct sentence kept = sentence_keep();
        (void)region_part(region);
        sentence_restore(&kept);
    }
    return status;
}

static hshm_status
create_once(const struct backend_ops *ops, hshm_backend_id id, const struct create_request *request,
            struct region *ret_region)
{
    struct region region;
    hshm_status status = begin(ops, request->url, &region);
    region.nameless = request->options.nameless;
    if (status == HSHM_OK)
        status = ops->obtain(request, &region);
    if (status == HSHM_OK) {
        note_host_size(&region);
        region.commit = request->options.commit;
        format_region(&region, id, &request->options);
        set_members(&region, sizeof(struct region_header), request->options.slots);
        FAILPOINT("region.formatted");
        status = members_found(&region);
    }
    FAILPOINT("region.founded");
    if (status == HSHM_OK) {
        status = equip(request, &region);
        if (status != HSHM_OK)
            life_drop(&region.life);
    }
    if (status != HSHM_OK) {
        forget(&region);
        tidy(ops);
        return status;
    }
    FAILPOINT("region.named");
    region.in_use = true;
    *ret_region = region;
    return HSHM_OK;
}

/* Take a dead leftover away.  HSHM_OK when the name is free now. */
static hshm_status
clear_way(const struct backend_ops *ops, const char *url)
{
    const hshm_status status = ops->remove(ops, url);
    if (status == HSHM_E_NOTFOUND)
        return HSHM_OK;
    /* No plain file is INVAL here: the name itself was found good before. */
    if (status == HSHM_E_CORRUPT || status == HSHM_E_INVAL)
        return fail(HSHM_E_EXISTS,
                    "cannot create %s: the name is taken by something that is not a region of hshm; remove it "
                    "by hand if it is yours, or use another name",
                    backend_name(ops, url).s);
    return status;
}

hshm_status
region_create(const struct backend_ops *ops, hshm_backend_id id, const struct create_request *request,
              struct region *ret_region)
{
    struct create_request checked = *request;
    hshm_status status = check_request(ops, &checked);
    if (status != HSHM_OK)
        return status;

    const bool replace =
        checked.options.replace == HSHM_REPLACE_DEAD && ops->remove != NULL && !checked.options.nameless;
    for (int tries = 0; tries < 3; tries++) {
        if (replace) {
            status = clear_way(ops, checked.url);
            if (status != HSHM_OK)
                return status;
        }
        status = create_once(ops, id, &checked, ret_region);
        /* Again when another maker swept our unseen file (NOTREADY), or won the name and may be dead by now. */
        const bool again = status == HSHM_E_NOTREADY || (status == HSHM_E_EXISTS && replace);
        if (!again)
            break;
    }
    return status != HSHM_E_NOTREADY
               ? status
               : fail(HSHM_E_BUSY,
                      "cannot create %s: other processes that create it took its unfinished file away each time; try "
                      "again",
                      backend_name(ops, checked.url).s);
}

/* ---- attach ---- */

/*
 * A file that a shutdown caught in use holds what the disk happened to get: pages newer than others that they refer to.
 */
static hshm_status
check_boot(const struct region *region, const hshm_attach_options *options)
{
    const uint64_t *boot_id = region->boot_id;
    struct region_header *header = region_header(region);
    const bool same_boot =
        load_relaxed(&header->boot_id[0]) == boot_id[0] && load_relaxed(&header->boot_id[1]) == boot_id[1];
    if (same_boot || !(region->ops->caps & BACKEND_PERSISTS) || load_acquire(&header->clean) == 1 ||
        options->accept_dirty)
        return HSHM_OK;
    return fail(HSHM_E_DAMAGED,
                "%s was in use when the machine went down, so what the disk holds may contradict itself; "
                "restore a copy, or attach with accept_dirty and check the content",
                region_name(region).s);
}

void
region_use(struct region *region)
{
    if (region->read_only)
        return;
    struct region_header *header = region_header(region);
    const uint64_t *boot_id = region->boot_id;
    if (load_relaxed(&header->boot_id[0]) != boot_id[0] || load_relaxed(&header->boot_id[1]) != boot_id[1]) {
        (void)atomic_fetch_add_explicit(&header->generation, 1, memory_order_relaxed);
        store_relaxed(&header->boot_id[0], boot_id[0]);
        store_relaxed(&header->boot_id[1], boot_id[1]);
    }
    store_release(&header->clean, 0);
    region->in_use = true;
}

static hshm_status
not_ready(const struct region *region, const struct region_header *header)
{
    const uint64_t slots_size = header->heap_off - header->slots_off;
    if (region->fd >= 0 && life_is_held(region->fd, header->slots_off, slots_size) == 0)
        return fail(HSHM_E_NOTREADY,
                    "%s has no heap, and its creator (pid %" PRIu32 ") is dead; remove it "
                    "(hshm_backend_remove), or create it anew with HSHM_REPLACE_DEAD",
                    region_name(region).s, header->creator_pid);
    return fail(HSHM_E_NOTREADY,
                "%s has no heap yet: its creator (pid %" PRIu32 ") lives, but has not called "
                "hshm_allocator_create(); attach later, or with timeout_ms",
                region_name(region).s, header->creator_pid);
}

/* Everything that is known to be true of the bytes afterwards stands in *ret_copy. */
static hshm_status
check_bytes(const struct region *region, struct region_header *ret_copy)
{
    /* Acquire first, copy then: with READY seen, the heap's description is whole. */
    const bool ready = region_ready(region_header(region));
    region_copy_header(ret_copy, region_header(region));
    const struct region_name name = region_name(region);
    hshm_status status = region_check_base(ret_copy, region->host_size, name.s);
    if (status == HSHM_OK && ret_copy->region_size != region->size)
        status = fail(HSHM_E_CORRUPT, "%s changed its size while it was opened", name.s);
    if (status == HSHM_OK && ret_copy->backend_kind != (uint32_t)region->ops->kind)
        status = fail(HSHM_E_INVAL, "%s was created as another kind of backend (%" PRIu32 "); attach with that kind",
                      name.s, ret_copy->backend_kind);
    if (status == HSHM_OK && !ready)
        status = not_ready(region, ret_copy);
    if (status == HSHM_OK)
        status = region_check_heap(ret_copy, name.s);
    return status;
}

static hshm_status
check_attach(const struct backend_ops *ops, const char *url, const hshm_attach_options *options)
{
    if (!(ops->caps & BACKEND_CAN_ATTACH))
        return fail(HSHM_E_NOTSUP,
                    "cannot attach to %s: that memory is private to the process that created it; use "
                    "HSHM_BACKEND_POSIX_SHM_MMAP to share",
                    backend_name(ops, url).s);
    if (options->fd != NULL && !can_be_nameless(ops))
        return fail(
            HSHM_E_NOTSUP,
            "cannot attach to %s by a descriptor: only POSIX shared memory and mapped files can be; leave options.fd "
            "NULL",
            backend_name(ops, url).s);
    if (url == NULL || *url == '\0') {
        if (ops->caps & BACKEND_NEEDS_URL)
            return fail(HSHM_E_INVAL, "cannot attach to %s: it needs a name", backend_name(ops, url).s);
        return HSHM_OK;
    }
    return ops->check_url != NULL ? ops->check_url(url) : HSHM_OK;
}

hshm_status
region_attach(const struct backend_ops *ops, const char *url, const hshm_attach_options *options,
              struct region *ret_region, struct region_header *ret_copy)
{
    hshm_status status = check_attach(ops, url, options);
    if (status == HSHM_OK)
        status = check_gpu_need(ops, url, options->gpu);
    if (status != HSHM_OK)
        return status;
    struct region region;
    status = begin(ops, url, &region);
    region.nameless = options->fd != NULL;
    if (status == HSHM_OK)
        status = ops->open(options, &region);
    note_host_size(&region);
    if (status == HSHM_OK)
        status = check_bytes(&region, ret_copy);
    if (status == HSHM_OK)
        status = check_boot(&region, options);
    if (status == HSHM_OK) {
        region.commit = (hshm_commit)ret_copy->commit;
        set_members(&region, ret_copy->slots_off, ret_copy->slot_count);
        status = members_join(&region);
    }
    if (status == HSHM_OK && ops->join != NULL) {
        status = ops->join(options, &region);
        if (status != HSHM_OK) {
            const struct sentence kept = sentence_keep();
            (void)region_leave(&region);
            sentence_restore(&kept);
            return status;
        }
    }
    if (status != HSHM_OK) {
        forget(&region);
        return status;
    }
    *ret_region = region;
    return HSHM_OK;
}

/* Others are not to find our slot free while we still have the device's memory mapped: its owner may end it then. */
hshm_status
region_leave(struct region *region)
{
    const struct backend_ops *ops = region->ops;
    hshm_status status = region_part(region);
    members_leave(region);
    forget(region);
    if (ops->tidy != NULL) {
        const hshm_status tidied = ops->tidy();
        status = status == HSHM_OK ? tidied : status;
    }
    return status;
}
