/*
 * heap.c - where a backend and an allocator meet: laying a heap out, and opening one that is there.
 *
 * Creating, in order: layout, control data zeroed and promised, root, header's second part, state READY.  Attachers look
 * at none of it before READY, so a kill anywhere before that leaves a region without a heap.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "allocator/thread_table.h"
#include "backend/gpu_region.h"
#include "backend/members.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "manager/manager.h"
#include "sync/pages.h"

static hshm_status
give_back(void *arg, uint64_t off, uint64_t size)
{
    struct region *region = arg;
    return region->ops->give_back(region, off, size);
}

static uint64_t
committed(void *arg)
{
    const struct region *region = arg;
    return region->ops->committed(region);
}

static int
seize(void *arg, uint32_t process)
{
    return members_seize(arg, process);
}

static void
bury(void *arg, uint32_t process, int ticket)
{
    members_bury(arg, process, ticket);
}

/* Or has no others, who might die. */
static bool
knows_the_dead(const struct region *region)
{
    return region->ops->files != NULL || (region->ops->caps & BACKEND_SYSTEM_MALLOC) != 0;
}

static enum process_state
ask(void *arg, uint32_t process)
{
    struct region *region = arg;
    if (process >= region->slot_count || members_is_alive(region, process))
        return process < region->slot_count ? PROCESS_LIVES : PROCESS_NONE;
    /* After the lock, which goes later: who leaves gives its slot free first. */
    return load_acquire(&region->slots[process].state) == SLOT_TAKEN ? PROCESS_DEAD : PROCESS_NONE;
}

/* ---- a device, if the region has one ---- */

static bool
is_on_device(const struct region *region)
{
    return region->host_size < region->size;
}

static hshm_status
device_address(void *arg, uint64_t off, uint64_t *ret_at)
{
    return region_gpu_address(arg, off, ret_at);
}

static hshm_status
copy_to(void *arg, uint64_t off, const void *from, uint64_t size)
{
    return region_gpu_copy_to(arg, off, from, size);
}

static hshm_status
copy_from(void *arg, void *to, uint64_t off, uint64_t size)
{
    return region_gpu_copy_from(arg, to, off, size);
}

static hshm_status
copy_within(void *arg, uint64_t to, uint64_t from, uint64_t size)
{
    return region_gpu_copy_within(arg, to, from, size);
}

static hshm_status
fill(void *arg, uint64_t off, uint8_t byte, uint64_t size)
{
    return region_gpu_fill(arg, off, byte, size);
}

static const struct device_calls device_calls = { copy_to, copy_from, copy_within, fill };

/* As it was when the region was joined and checked: others can write what the region says of it. */
static uint64_t
device_alignment(const struct region *region)
{
    return is_on_device(region) && region->gpu != NULL ? region->gpu->alignment : 0;
}

static hshm_allocator *
new_handle(hshm_backend *backend, const struct allocator_ops *ops, const struct heap_layout *layout,
           hshm_allocator_id id)
{
    struct region *region = &backend->region;
    hshm_allocator *a = calloc(1, sizeof *a);
    if (a == NULL) {
        (void)fail(HSHM_E_NOSPC, "no memory for a handle on %s", region_name(region).s);
        return NULL;
    }
    a->view.base = region->base;
    a->ops = *ops;
    a->layout = *layout;
    a->region_size = region->size;
    a->id = id;
    a->process = region->slot == NO_SLOT ? (uint32_t)SLICE_PROCESS_NONE : region->slot;
    a->private_memory = (region->ops->caps & BACKEND_SYSTEM_MALLOC) != 0;
    a->read_only = region->read_only;
    a->view.thread_off = thread_offset(-1);
    a->system = (struct allocator_system){
        .arg = region,
        .page_size = region_page_size(),
        .reserved = region->commit != HSHM_COMMIT_LAZY && region->ops->files != NULL,
        .give_back = region->ops->give_back == NULL ? NULL : give_back,
        .committed = committed,
        .seize = seize,
        .bury = bury,
        .ask = ask,
        .processes = region->slot_count,
        .knows_the_dead = knows_the_dead(region),
        .device_address = region->gpu != NULL ? device_address : NULL,
        .device = is_on_device(region) ? &device_calls : NULL,
        .device_alignment = device_alignment(region),
    };
    return a;
}

/* The matrix of hshm/allocator.h, from what the kinds declare. */
static hshm_status
check_pair(const struct region *region, const struct allocator_ops *ops)
{
    if ((ops->needs & NEEDS_SYSTEM_MALLOC) && !(region->ops->caps & BACKEND_SYSTEM_MALLOC))
        return fail(HSHM_E_NOTSUP,
                    "a %s heap cannot live on %s: its blocks are malloc's, which no other process can see; use "
                    "HSHM_BACKEND_MALLOC, or another allocator",
                    ops->title, region_name(region).s);
    return HSHM_OK;
}

/* The smallest block unless the caller says. */
static uint32_t
default_min_block(const struct region *region)
{
    return is_on_device(region) ? REGION_DEVICE_BLOCK : GRANULE;
}

static hshm_status
check_min_block(const struct region *region, const struct allocator_ops *ops, size_t min_block)
{
    const uint32_t least = default_min_block(region);
    if (min_block == 0 || min_block == least)
        return HSHM_OK;
    if (!(ops->needs & TAKES_MIN_BLOCK))
        return fail(HSHM_E_NOTSUP,
                    "a %s heap has no smallest block that could be chosen: min_block is %zu, not 0 or %" PRIu32,
                    ops->title, min_block, least);
    if (!is_power_of_two(min_block) || min_block < least || min_block > REGION_MIN_BLOCK_MAX)
        return fail(HSHM_E_INVAL, "min_block is %zu; it must be a power of two from %" PRIu32 " to %d%s", min_block,
                    least, REGION_MIN_BLOCK_MAX, least == GRANULE ? "" : " in a GPU's memory");
    return HSHM_OK;
}

static hshm_status
check_lifetime(const struct region *region, const struct allocator_ops *ops, hshm_lifetime lifetime)
{
    if (lifetime != HSHM_LIFETIME_HEAP && lifetime != HSHM_LIFETIME_PROCESS)
        return fail(HSHM_E_INVAL, "there is no lifetime %d of blocks", (int)lifetime);
    return lifetime == HSHM_LIFETIME_HEAP ? HSHM_OK : allocator_check_lifetime(ops, knows_the_dead(region));
}

static void
describe(struct region_header *header, const hshm_allocator *a)
{
    const struct heap_layout *layout = &a->layout;
    header->allocator_kind = a->ops.kind;
    header->min_block = layout->min_block;
    header->allocator_major = a->id.major;
    header->allocator_minor = a->id.minor;
    header->table_off = layout->table_off;
    header->table_size = layout->table_size;
    header->root_off = layout->root_off;
    header->root_size = layout->root_size;
    header->custom_off = layout->custom_off;
    header->custom_size = layout->custom_size;
    header->data_off = layout->data_off;
    header->data_size = layout->data_size;
    header->heap_checksum = region_checksum_of_heap(header);
}

/* Control data reads as zero, and its fixed part can be touched without a SIGBUS; all of it, where the data is elsewhere. */
static hshm_status
prepare_control(struct region *region, const struct heap_layout *layout)
{
    const uint64_t heap_off = region_heap_off(region->slot_count);
    if (is_on_device(region)) {
        const uint64_t end =
            layout->custom_size != 0 ? layout->custom_off + layout->custom_size : layout->root_off + layout->root_size;
        return region->ops->promise(region, heap_off, end - heap_off);
    }
    if (!region->zeroed)
        memset(region->base + heap_off, 0, layout->data_off - heap_off);
    if (region->commit == HSHM_COMMIT_LAZY && region->ops->promise != NULL)
        return region->ops->promise(region, layout->root_off, layout->data_off - layout->root_off);
    return HSHM_OK;
}

hshm_status
heap_create(hshm_backend *backend, hshm_allocator_id id, const struct allocator_ops *ops, uint64_t custom_size,
            const hshm_allocator_options *options, hshm_allocator **ret_allocator)
{
    struct region *region = &backend->region;
    struct region_header *header = region_header(region);
    hshm_status status = check_pair(region, ops);
    if (status == HSHM_OK)
        status = check_min_block(region, ops, options->min_block);
    if (status == HSHM_OK)
        status = check_lifetime(region, ops, options->lifetime);
    if (status != HSHM_OK)
        return status;
    if (region_ready(header))
        return fail(HSHM_E_EXISTS, "%s has a heap already, and a region holds one; create another backend",
                    region_name(region).s);
    struct heap_layout layout = { 0 };
    const bool on_device = is_on_device(region);
    /* Not as the header says: others may write there already. */
    const struct heap_wish wish = {
        .heap_off = region_heap_begin(region),
        .region_size = region->size,
        .data_off = on_device ? region->host_size : 0,
        .scale = on_device ? (region->size - region->host_size) >> REGION_DEVICE_SCALE : region->size,
        .custom_size = custom_size,
        .min_block = options->min_block == 0 ? default_min_block(region) : (uint32_t)options->min_block,
        .cpus = cpu_count(),
        .zeroed = region->zeroed && !on_device,
        .lifetime = (uint32_t)options->lifetime,
    };
    status = ops->layout(&wish, &layout);
    if (status == HSHM_OK)
        status = prepare_control(region, &layout);
    if (status != HSHM_OK)
        return status;

    hshm_allocator *a = new_handle(backend, ops, &layout, id);
    if (a == NULL)
        return HSHM_E_NOSPC;
    status = a->ops.init(a, &wish);
    if (status != HSHM_OK) {
        free(a);
        return status;
    }
    if (on_device)
        allocator_use_device(a);
    FAILPOINT("heap.begun");
    describe(header, a);
    FAILPOINT("heap.described");
    region_publish(header);
    FAILPOINT("heap.published");
    by_address_add(a);
    *ret_allocator = a;
    return HSHM_OK;
}

static struct heap_layout
layout_of(const struct region_header *header)
{
    return (struct heap_layout){
        .table_off = header->table_off,
        .table_size = header->table_size,
        .root_off = header->root_off,
        .root_size = header->root_size,
        .custom_off = header->custom_off,
        .custom_size = header->custom_size,
        .data_off = header->data_off,
        .data_size = header->data_size,
        .min_block = header->min_block,
    };
}

/* Our slot was a dead process's: what it left is ours to clean up. */
static void
recover_inherited(hshm_allocator *a, struct region *region)
{
    if (region->inherited && a->ops.recover != NULL)
        a->ops.recover(a, region->slot, &(hshm_recover_report){ 0 });
    FAILPOINT("heap.opened");
    region->inherited = false;
}

hshm_status
heap_open(hshm_backend *backend, const struct region_header *header, hshm_allocator **ret_allocator)
{
    struct region *region = &backend->region;
    const struct region_name name = region_name(region);
    const struct allocator_ops *ops = allocator_find(header->allocator_kind);
    if (ops == NULL)
        return fail(HSHM_E_NOTSUP,
                    "%s holds a heap of kind %" PRIu32 ", which this build lacks; use the library that made it", name.s,
                    header->allocator_kind);
    if (ops->open == NULL)
        return fail(HSHM_E_CORRUPT, "%s claims to hold a %s heap, which no other process could use; it is damaged",
                    name.s, ops->title);
    const struct heap_layout layout = layout_of(header);
    hshm_status status = ops->check_layout(&layout, name.s);
    if (status != HSHM_OK)
        return status;

    const hshm_allocator_id id = { header->allocator_major, header->allocator_minor };
    hshm_allocator *a = new_handle(backend, ops, &layout, id);
    if (a == NULL)
        return HSHM_E_NOSPC;
    status = a->ops.open(a, name.s);
    if (status != HSHM_OK) {
        free(a);
        return status;
    }
    if (is_on_device(region))
        allocator_use_device(a);
    if (a->read_only)
        allocator_refuse_writes(a);
    else
        recover_inherited(a, region);
    by_address_add(a);
    *ret_allocator = a;
    return HSHM_OK;
}

void
heap_close(hshm_allocator *a)
{
    if (a == NULL)
        return;
    by_address_remove(a);
    a->ops.close(a);
    free(a);
}

/* A forked child has a slot of its own, or none. */
void
heap_settle_in_child(hshm_allocator *a, struct region *region)
{
    if (!a->private_memory) /* a copy is as it was, and the child goes on in the parent's place */
        a->process = region->slot == NO_SLOT ? (uint32_t)SLICE_PROCESS_NONE : region->slot;
    if (a->ops.fork_child != NULL)
        a->ops.fork_child(a);
    if (!a->read_only)
        recover_inherited(a, region);
}

bool
heap_owns(hshm_allocator *a, const void *addr)
{
    const uintptr_t custom = (uintptr_t)a->view.base + a->layout.custom_off;
    if ((uintptr_t)addr - custom < a->layout.custom_size)
        return true;
    return a->ops.owns != NULL ? a->ops.owns(a, addr) : allocator_has(a, addr);
}

bool
heap_is_out_of_reach(const hshm_allocator *a, const void *addr)
{
    return a->system.device != NULL && allocator_has(a, addr);
}
