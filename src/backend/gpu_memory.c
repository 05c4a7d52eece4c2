/*
 * gpu_memory.c - device memory that several processes have mapped, and when it ends.
 *
 * It is the owner's, who made it: when the owner ends it, or dies, it is gone for all.  So the owner keeps it while others may have it
 * mapped, which the locks on the region's file tell (members.c):
 *     an attacher   has its slot's lock, or the readers'  before it maps the memory, and until after it has unmapped it
 *     the owner     locks the gate, the readers' lock and all slots for itself, and only then takes the name away (if it is still there)
 *                   and lets go of the memory
 * Who attaches holds the gate from before it looks at the name; so either it is seen, or it finds the gate shut, or the name gone.
 *
 * That the owner lives, a lock of its own says (LOCK_OWNER_OFF), held from before the region has a name until the memory is gone; in the same
 * way as a slot's, so that a child does not inherit it, and nothing but the process's end, or ours, drops it.  Of a process that is killed the
 * kernel ends the mappings, and so the lock, a moment before it closes the driver's files, and so the memory: it may still be taken then.
 *
 * Drivers let a process map a handle once, and not at all in the process that made it.  So each memory is in a list of this process, with
 * how many regions (managers) use it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/file_region.h"
#include "backend/gpu_region.h"
#include "backend/members.h"
#include "base/checked.h"
#include "base/error.h"
#include "sync/fork_guard.h"
#include "sync/local_lock.h"

struct gpu_memory {
    struct gpu_memory *next;
    struct region file; /* what is needed to ask about it: ops, url, fd, device, inode */
    struct gpu_device device;
    uint64_t at, size;
    uint32_t users; /* regions of this process                  */
    bool is_owner;
    struct life life; /* the owner's lock                         */
};

/* Local: this process's, and in a forked child its parent's. */
static struct local_lock lock = LOCAL_LOCK_INIT;
static struct gpu_memory *memories;

void
gpu_fork_child(void)
{
    local_lock_init(&lock);
    gpu_driver_fork_child();
}

/* ---- the list, under the lock ---- */

static struct gpu_memory *
find_memory(const struct region *region)
{
    for (struct gpu_memory *memory = memories; memory != NULL; memory = memory->next) {
        if (memory->file.device == region->device && memory->file.inode == region->inode &&
            memory->device.pid == life_pid())
            return memory;
    }
    return NULL;
}

static void
list_memory(struct gpu_memory *memory)
{
    memory->next = memories;
    memories = memory;
}

static void
unlist_memory(const struct gpu_memory *memory)
{
    for (struct gpu_memory **at = &memories; *at != NULL; at = &(*at)->next) {
        if (*at == memory) {
            *at = memory->next;
            return;
        }
    }
}

/* A new entry, with a descriptor of its own where the owner has to ask later.  NULL, and a sentence: HSHM_E_NOSPC. */
static struct gpu_memory *
new_memory(struct region *region, bool is_owner)
{
    struct gpu_memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL) {
        (void)fail(HSHM_E_NOSPC, "no memory for what %s has of a GPU", region_name(region).s);
        return NULL;
    }
    memory->users = 1;
    memory->is_owner = is_owner;
    memory->file = (struct region){ .ops = region->ops,
                                    .url = strdup(region->url),
                                    .fd = -1,
                                    .slot = NO_SLOT,
                                    .device = region->device,
                                    .inode = region->inode };
    if (memory->file.url != NULL && is_owner)
        memory->file.fd = file_above_stdio(region_reopen(region, O_RDWR));
    if (memory->file.url != NULL && (!is_owner || memory->file.fd >= 0))
        return memory;
    (void)fail(HSHM_E_NOSPC, "cannot keep %s open for its device memory: %s", region_name(region).s, errno_text(errno));
    free(memory->file.url);
    free(memory);
    return NULL;
}

/* The entry ends, and the device is let go of; not the memory itself. */
static hshm_status
end_memory(struct gpu_memory *memory, const char *what)
{
    life_drop(&memory->life);
    file_release(&memory->file);
    const hshm_status status = gpu_close(&memory->device, what);
    free(memory->file.url);
    free(memory);
    return status;
}

/* What a failed step leaves: nothing, and its sentence. */
static void
drop_memory(struct gpu_memory *memory, const char *what)
{
    const struct sentence kept = sentence_keep();
    (void)end_memory(memory, what);
    sentence_restore(&kept);
}

/* ---- the owner ---- */

static hshm_status
hold_owner_lock(struct region *region, struct gpu_memory *memory)
{
    int error = 0;
    fork_guard_enter();
    const int fd = region_reopen(region, O_RDWR);
    if (fd < 0)
        error = errno;
    if (error == 0)
        error = life_lock(fd, LOCK_EXCLUSIVE, LOCK_OWNER_OFF, LOCK_BYTES);
    if (error == 0)
        error = life_hold(fd, &memory->life);
    if (fd >= 0)
        (void)close(fd);
    fork_guard_leave();
    if (error == 0)
        return HSHM_OK;
    return fail(error == EMFILE || error == ENFILE || error == ENOMEM ? HSHM_E_NOSPC : HSHM_E_SYSTEM,
                "cannot lock %s as the owner of its device memory: %s", region_name(region).s, errno_text(error));
}

static struct region_device *
device_part(const struct region *region)
{
    return (struct region_device *)(void *)(region->base + region_heap_off(region->slot_count));
}

static uint32_t
alignment_of(const struct gpu_memory *memory)
{
    return (uint32_t)min_u64(memory->at & -memory->at, REGION_DEVICE_ALIGNMENT_MOST);
}

static void
describe(struct region *region, const struct gpu_memory *memory, const struct gpu_handle *handle)
{
    struct region_device part = {
        .vendor = memory->device.api->vendor,
        .alignment = alignment_of(memory),
        .size = memory->size,
        .owner_pid = (uint32_t)life_pid(),
        .owner_namespace = life_pid_namespace(),
    };
    memcpy(part.uuid, memory->device.uuid.bytes, sizeof part.uuid);
    memcpy(part.handle, handle->bytes, sizeof part.handle);
    memcpy(part.boot_id, region->boot_id, sizeof part.boot_id);
    part.checksum = region_checksum_of_device(&part);
    *device_part(region) = part;
}

static void
use_memory(struct region *region, struct gpu_memory *memory, uint32_t alignment)
{
    *region->gpu = (struct region_gpu){ .device = memory->device,
                                        .begin = region->host_size,
                                        .end = region->host_size + memory->size,
                                        .at = memory->at,
                                        .alignment = alignment,
                                        .memory = memory };
}

/* Memory, its handle, and the lock that says that we live; in this order they are undone, too. */
static hshm_status
obtain(struct region *region, struct gpu_memory *memory, const char *what)
{
    struct gpu_handle handle;
    memory->size = region->size - region->host_size;
    hshm_status status = gpu_allocate(&memory->device, what, memory->size, &memory->at);
    if (status != HSHM_OK)
        return status;
    if (memory->at % REGION_DEVICE_BLOCK != 0)
        status = fail(HSHM_E_DEVICE, "%s: the driver gave memory at 0x%llx, which is no multiple of %d", what,
                      (unsigned long long)memory->at, REGION_DEVICE_BLOCK);
    if (status == HSHM_OK)
        status = gpu_get_handle(&memory->device, what, memory->at, &handle);
    if (status == HSHM_OK)
        status = hold_owner_lock(region, memory);
    if (status == HSHM_OK) {
        describe(region, memory, &handle);
        return HSHM_OK;
    }
    struct gpu_what undo = gpu_what("undo creating", region);
    const struct sentence kept = sentence_keep();
    (void)gpu_free(&memory->device, undo.s, memory->at);
    sentence_restore(&kept);
    return status;
}

hshm_status
gpu_memory_make(const char *wanted, struct region *region)
{
    const struct gpu_what what = gpu_what("create", region);
    struct gpu_memory *memory = new_memory(region, true);
    if (memory == NULL)
        return HSHM_E_NOSPC;
    hshm_status status = gpu_open(wanted, GPU_FOR_MEMORY, what.s, &memory->device);
    if (status == HSHM_OK)
        status = obtain(region, memory, what.s);
    if (status != HSHM_OK) {
        drop_memory(memory, what.s);
        return status;
    }
    local_lock_take(&lock);
    list_memory(memory);
    local_lock_give(&lock);
    use_memory(region, memory, alignment_of(memory));
    return HSHM_OK;
}

/* ---- attachers ---- */

static bool
owner_lives(struct region *region)
{
    const int fd = region_fd(region);
    return fd < 0 || life_is_held(fd, LOCK_OWNER_OFF, LOCK_BYTES) != 0;
}

static hshm_status
owner_is_dead(const char *what, const struct region_device *part)
{
    return fail(
        HSHM_E_DAMAGED,
        "%s: the process that owned its device memory (pid %u) is dead, and the bytes of all blocks are gone with it; "
        "remove it (hshm_backend_remove), or create it anew with HSHM_REPLACE_DEAD",
        what, part->owner_pid);
}

/* The description, each word of it read once, and checked. */
static hshm_status
read_part(const struct region *region, struct region_device *ret_part)
{
    const volatile uint64_t *from = (const volatile uint64_t *)(const volatile void *)device_part(region);
    uint64_t words[sizeof *ret_part / sizeof(uint64_t)];
    for (size_t i = 0; i < COUNTOF(words); i++)
        words[i] = from[i];
    memcpy(ret_part, words, sizeof *ret_part);
    return region_check_device(ret_part, region->size - region->host_size, region_name(region).s);
}

/* What was mapped must be what the region says: its size is input, and every address is computed with it. */
static hshm_status
check_mapping(const struct region_device *part, const struct gpu_memory *memory, const char *what)
{
    uint64_t base = 0;
    uint64_t size = 0;
    const hshm_status status = gpu_range(&memory->device, what, memory->at, &base, &size);
    if (status != HSHM_OK)
        return status;
    if (base != memory->at || size < part->size)
        return fail(HSHM_E_CORRUPT,
                    "%s: it says that its device memory has %llu bytes, and what its handle leads to has %llu from "
                    "0x%llx on, mapped at 0x%llx; it is damaged, do not use it, remove it",
                    what, (unsigned long long)part->size, (unsigned long long)size, (unsigned long long)base,
                    (unsigned long long)memory->at);
    if (memory->at % part->alignment == 0)
        return HSHM_OK;
    return fail(HSHM_E_DEVICE,
                "%s: the driver maps its memory at 0x%llx here, which is no multiple of %u as at its owner's", what,
                (unsigned long long)memory->at, part->alignment);
}

static hshm_status
map_memory(const struct region_device *part, struct gpu_memory *memory, const char *what)
{
    struct gpu_uuid uuid;
    struct gpu_handle handle;
    memcpy(uuid.bytes, part->uuid, sizeof uuid.bytes);
    memcpy(handle.bytes, part->handle, sizeof handle.bytes);
    memory->size = part->size;
    hshm_status status = gpu_open_uuid(part->vendor, &uuid, what, &memory->device);
    if (status == HSHM_OK)
        status = gpu_open_handle(&memory->device, what, &handle, &memory->at);
    if (status != HSHM_OK)
        return status;
    status = check_mapping(part, memory, what);
    if (status == HSHM_OK)
        return HSHM_OK;
    const struct sentence kept = sentence_keep();
    (void)gpu_close_handle(&memory->device, what, memory->at);
    sentence_restore(&kept);
    return status;
}

/* What another manager of this process has: is it what the region says now? */
static bool
is_as_described(const struct gpu_memory *memory, const struct region_device *part)
{
    return memory->size == part->size && (uint32_t)memory->device.api->vendor == part->vendor &&
           memcmp(memory->device.uuid.bytes, part->uuid, sizeof part->uuid) == 0 && memory->at % part->alignment == 0;
}

/* Under the lock: no other thread of this process maps it at the same time.  NULL, and status and sentence. */
static struct gpu_memory *
join_locked(struct region *region, const struct region_device *part, const char *what)
{
    struct gpu_memory *memory = find_memory(region);
    /* Also where it is mapped already: nobody attaches to a dead owner's. */
    if ((memory == NULL || !memory->is_owner) && !owner_lives(region)) {
        (void)owner_is_dead(what, part);
        return NULL;
    }
    if (memory != NULL && !is_as_described(memory, part)) {
        (void)fail(HSHM_E_CORRUPT,
                   "%s: it describes other device memory than this process has of it already (%llu bytes on %s); it is "
                   "damaged, do not use it, remove it",
                   what, (unsigned long long)memory->size, gpu_uuid_text(&memory->device.uuid).s);
        return NULL;
    }
    if (memory != NULL) {
        memory->users++;
        return memory;
    }
    memory = new_memory(region, false);
    if (memory == NULL)
        return NULL;
    if (map_memory(part, memory, what) != HSHM_OK) {
        drop_memory(memory, what);
        return NULL;
    }
    list_memory(memory);
    return memory;
}

hshm_status
gpu_memory_join(struct region *region)
{
    const struct gpu_what what = gpu_what("attach to", region);
    struct region_device part;
    const hshm_status status = read_part(region, &part);
    if (status != HSHM_OK)
        return status;
    region->gpu->alignment = part.alignment; /* also where the GPU is done without */
    local_lock_take(&lock);
    struct gpu_memory *memory = join_locked(region, &part, what.s);
    local_lock_give(&lock);
    if (memory == NULL)
        return hshm_last_status();
    use_memory(region, memory, part.alignment);
    return HSHM_OK;
}

bool
gpu_memory_lives(struct region *region)
{
    return region->gpu->memory->is_owner || owner_lives(region);
}

hshm_status
gpu_memory_is_dead(struct region *region, const char *what)
{
    struct region_device part;
    const hshm_status status = read_part(region, &part);
    return status != HSHM_OK ? status : owner_is_dead(what, &part);
}

/* ---- the end ---- */

hshm_status
gpu_memory_part(struct region *region)
{
    struct gpu_memory *memory = region->gpu == NULL ? NULL : region->gpu->memory;
    const struct gpu_what what = gpu_what("leave", region);
    /* What a parent had, a child cannot end. */
    if (memory == NULL || memory->device.pid != life_pid())
        return HSHM_OK;
    local_lock_take(&lock);
    const bool is_last = --memory->users == 0 && !memory->is_owner;
    if (is_last)
        unlist_memory(memory);
    hshm_status status = is_last ? gpu_close_handle(&memory->device, what.s, memory->at) : HSHM_OK;
    if (is_last) {
        const hshm_status ended = end_memory(memory, what.s);
        status = status == HSHM_OK ? ended : status;
    }
    local_lock_give(&lock);
    return status;
}

/*
 * Nobody is attached, and nobody can come to be until the descriptor is closed; -1: somebody is, or it cannot be told.  All but the
 * owner's own byte is locked.  Under the fork guard, which the caller leaves soon: drivers may fork.
 */
static int
shut_others_out(struct gpu_memory *memory)
{
    const int fd = region_reopen(&memory->file, O_RDWR);
    if (fd < 0)
        return -1;
    if (life_lock(fd, LOCK_EXCLUSIVE, 0, LOCK_OWNER_OFF) == 0 &&
        life_lock(fd, LOCK_EXCLUSIVE, LOCK_OWNER_OFF + LOCK_BYTES, LOCK_TO_END) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static bool
is_idle(const struct gpu_memory *memory)
{
    return memory->is_owner && memory->users == 0 && memory->device.pid == life_pid();
}

/* The memory is freed before the owner's lock goes: who sees no owner, unless one was killed just now, finds its memory free. */
static hshm_status
free_memory(struct gpu_memory *memory)
{
    const struct gpu_what what = gpu_what("end", &memory->file);
    unlist_memory(memory);
    hshm_status status = gpu_free(&memory->device, what.s, memory->at);
    const hshm_status ended = end_memory(memory, what.s);
    return status == HSHM_OK ? ended : status;
}

/*
 * End it, if nobody is attached; `unnames` says whether it may still have its name, which goes first.  A child that is forked while the
 * driver frees inherits the locks of a file without a name, which keep nobody from anything.
 */
static hshm_status
end_if_alone(struct gpu_memory *memory, bool unnames, bool *ret_ended)
{
    hshm_status status = HSHM_OK;
    fork_guard_enter();
    const int fd = shut_others_out(memory);
    if (fd >= 0 && unnames)
        status = memory->file.ops->unname(&memory->file);
    if (fd >= 0 && status != HSHM_OK)
        (void)close(fd);
    fork_guard_leave();
    if (fd < 0 || status != HSHM_OK)
        return status;
    status = free_memory(memory);
    (void)close(fd);
    *ret_ended = true;
    return status;
}

hshm_status
gpu_memory_tidy(void)
{
    hshm_status status = HSHM_OK;
    bool ended = false;
    local_lock_take(&lock);
    for (struct gpu_memory *memory = memories; memory != NULL;) {
        struct gpu_memory *next = memory->next;
        if (is_idle(memory) && !file_still_named(&memory->file)) {
            const hshm_status freed = end_if_alone(memory, false, &ended);
            status = status == HSHM_OK ? freed : status;
        }
        memory = next;
    }
    local_lock_give(&lock);
    return status;
}

hshm_status
gpu_memory_give_up(const char *url, bool *ret_ended)
{
    hshm_status status = HSHM_OK;
    *ret_ended = false;
    local_lock_take(&lock);
    for (struct gpu_memory *memory = memories; memory != NULL; memory = memory->next) {
        if (is_idle(memory) && strcmp(memory->file.url, url) == 0 && file_still_named(&memory->file)) {
            status = end_if_alone(memory, true, ret_ended);
            break; /* a name is one file's */
        }
    }
    local_lock_give(&lock);
    return status;
}
