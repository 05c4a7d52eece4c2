/*
 * device.c - blocks that no processor can touch: copies by the device's driver, and the calls that would write to blocks else.
 *
 * A heap on a device is the same heap: offsets, addresses of this process (without access), control data in host memory.  Only three
 * calls touch blocks: calloc, a realloc that moves, and the copies here.
 */
#include <hshm/gpu.h>
#include <inttypes.h>
#include <string.h>

#include "allocator/allocator.h"
#include "base/checked.h"
#include "base/error.h"

static uint64_t
off_of(const hshm_allocator *a, const void *addr)
{
    return (uintptr_t)addr - (uintptr_t)a->view.base;
}

/* ---- what allocators do to blocks ---- */

bool
allocator_move_bytes(hshm_allocator *a, void *to, const void *from, uint64_t size)
{
    const struct device_calls *device = a->system.device;
    if (device != NULL)
        return size == 0 || device->copy_within(a->system.arg, off_of(a, to), off_of(a, from), size) == HSHM_OK;
    memmove(to, from, size);
    return true;
}

static void *
device_zeroed(hshm_allocator *a, size_t size)
{
    void *block = a->ops.malloc(a, size);
    if (block == NULL || size == 0)
        return block;
    if (a->system.device->fill(a->system.arg, off_of(a, block), 0, size) == HSHM_OK)
        return block;
    (void)hshm_free(a, block);
    return NULL;
}

/* Addresses of this process are aligned as asked for; on the device that is so up to what its memory is aligned to. */
static void *
device_aligned(hshm_allocator *a, size_t size, size_t alignment)
{
    if (alignment <= a->system.device_alignment)
        return a->aligned_anyhow(a, size, alignment);
    (void)fail(HSHM_E_NOTSUP, "the heap %" PRIu32 ".%" PRIu32 " lies in device memory that is aligned to %s, not to %s",
               a->id.major, a->id.minor, size_text(a->system.device_alignment).s, size_text(alignment).s);
    return NULL;
}

void
allocator_use_device(hshm_allocator *a)
{
    a->aligned_anyhow = a->ops.aligned;
    a->ops.aligned = device_aligned;
    a->ops.zeroed = device_zeroed;
}

/* ---- the public calls ---- */

enum lies { LIES_NOWHERE, LIES_IN_CUSTOM, LIES_IN_DATA };

/* Where in the heap do these bytes lie? */
static enum lies
where(const hshm_allocator *a, const void *addr, uint64_t size)
{
    const uint64_t off = off_of(a, addr);
    const struct heap_layout *layout = &a->layout;
    if (range_inside(off, size, layout->data_off, layout->data_off + layout->data_size))
        return LIES_IN_DATA;
    if (layout->custom_size != 0 &&
        range_inside(off, size, layout->custom_off, layout->custom_off + layout->custom_size))
        return LIES_IN_CUSTOM;
    return LIES_NOWHERE;
}

static hshm_status
lies_elsewhere(const hshm_allocator *a, const char *call, const void *addr, uint64_t size)
{
    return fail(HSHM_E_INVAL, "%s: the %s at %p do not lie in the heap %" PRIu32 ".%" PRIu32, call, size_text(size).s,
                addr, a->id.major, a->id.minor);
}

/* May these bytes be read, or written? */
static hshm_status
check_access(hshm_allocator *a, const char *call, const void *addr, uint64_t size, bool writes, enum lies *ret_lies)
{
    /* Of another kind of heap blocks lie wherever malloc had them. */
    *ret_lies =
        a->layout.data_size == 0 || a->ops.kind == HSHM_ALLOCATOR_MALLOC ? LIES_IN_CUSTOM : where(a, addr, size);
    if (*ret_lies == LIES_NOWHERE)
        return lies_elsewhere(a, call, addr, size);
    return a->refuses && (writes || !a->read_only) ? a->ops.free(a, NULL) : HSHM_OK;
}

hshm_status
hshm_copy_to(hshm_allocator *a, void *addr, const void *from, size_t size)
{
    enum lies lies;
    const hshm_status status = check_access(a, "hshm_copy_to", addr, size, true, &lies);
    if (status != HSHM_OK || size == 0)
        return status;
    if (lies == LIES_IN_DATA && a->system.device != NULL)
        return a->system.device->copy_to(a->system.arg, off_of(a, addr), from, size);
    memmove(addr, from, size);
    return HSHM_OK;
}

hshm_status
hshm_copy_from(hshm_allocator *a, void *to, const void *addr, size_t size)
{
    enum lies lies;
    const hshm_status status = check_access(a, "hshm_copy_from", addr, size, false, &lies);
    if (status != HSHM_OK || size == 0)
        return status;
    if (lies == LIES_IN_DATA && a->system.device != NULL)
        return a->system.device->copy_from(a->system.arg, to, off_of(a, addr), size);
    memmove(to, addr, size);
    return HSHM_OK;
}

hshm_status
hshm_fill(hshm_allocator *a, void *addr, int byte, size_t size)
{
    enum lies lies;
    const hshm_status status = check_access(a, "hshm_fill", addr, size, true, &lies);
    if (status != HSHM_OK || size == 0)
        return status;
    if (lies == LIES_IN_DATA && a->system.device != NULL)
        return a->system.device->fill(a->system.arg, off_of(a, addr), (uint8_t)byte, size);
    memset(addr, byte, size);
    return HSHM_OK;
}

void *
hshm_device_ptr(hshm_allocator *a, const void *addr)
{
    const enum lies lies = where(a, addr, 1);
    uint64_t at = 0;
    if (a->system.device_address == NULL)
        (void)fail(HSHM_E_NOTSUP,
                   "hshm_device_ptr: the heap %" PRIu32 ".%" PRIu32 " is of no GPU kind; create it on "
                   "HSHM_BACKEND_GPU_SHM_MMAP or _GPU_MALLOC",
                   a->id.major, a->id.minor);
    else if (lies == LIES_NOWHERE)
        (void)lies_elsewhere(a, "hshm_device_ptr", addr, 1);
    else if (lies == LIES_IN_CUSTOM && a->system.device != NULL)
        (void)fail(HSHM_E_INVAL,
                   "hshm_device_ptr: the custom header of the heap %" PRIu32 ".%" PRIu32
                   " is host memory, which the device does not see",
                   a->id.major, a->id.minor);
    else if (a->system.device_address(a->system.arg, off_of(a, addr), &at) == HSHM_OK)
        return (void *)(uintptr_t)at;
    return NULL;
}

void *
hshm_host_ptr(hshm_allocator *a, const void *addr)
{
    enum lies lies;
    if (check_access(a, "hshm_host_ptr", addr, 1, false, &lies) != HSHM_OK)
        return NULL;
    if (lies != LIES_IN_DATA || a->system.device == NULL)
        return (void *)(uintptr_t)addr;
    (void)fail(HSHM_E_NOTSUP,
               "hshm_host_ptr: the heap %" PRIu32 ".%" PRIu32
               " lies in device memory, which no processor can touch; use "
               "hshm_copy_from() and hshm_copy_to(), or hshm_device_ptr() for kernels",
               a->id.major, a->id.minor);
    return NULL;
}
