/*
 * gpu_region.c - a region's bytes on a device.
 */
#include "backend/gpu_region.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

struct gpu_what
gpu_what(const char *verb, const struct region *region)
{
    struct gpu_what what;
    (void)snprintf(what.s, sizeof what.s, "cannot %s %s", verb, region_name(region).s);
    return what;
}

hshm_status
region_gpu_make(struct region *region)
{
    region->gpu = calloc(1, sizeof *region->gpu);
    return region->gpu != NULL ? HSHM_OK
                               : fail(HSHM_E_NOSPC, "no memory for what %s has of a GPU", region_name(region).s);
}

void
region_gpu_do_without(struct region *region, hshm_status status)
{
    region->gpu->device = (struct gpu_device){ 0 };
    region->gpu->status = status;
    (void)snprintf(region->gpu->reason, sizeof region->gpu->reason, "%s", hshm_last_error());
}

void
region_gpu_end(struct region *region)
{
    free(region->gpu);
    region->gpu = NULL;
}

hshm_status
region_gpu_usable(struct region *region)
{
    const struct region_gpu *gpu = region->gpu;
    /* Asked before each kernel: words only where something is wrong. */
    const bool has_device = gpu->device.api != NULL;
    const bool is_usable = has_device && gpu->device.pid == life_pid();
    if (is_usable && (gpu->memory == NULL || gpu_memory_lives(region)))
        return HSHM_OK;
    if (!has_device)
        return fail(gpu->status, "%s has no GPU here: %s", region_name(region).s, gpu->reason);
    const struct gpu_what what = gpu_what("use the GPU for", region);
    return is_usable ? gpu_memory_is_dead(region, what.s) : gpu_usable(&gpu->device, what.s);
}

static uint64_t
address_of(const struct region_gpu *gpu, uint64_t off)
{
    ASSERT(off >= gpu->begin && off < gpu->end);
    return gpu->at + (off - gpu->begin);
}

hshm_status
region_gpu_address(struct region *region, uint64_t off, uint64_t *ret_at)
{
    const hshm_status status = region_gpu_usable(region);
    if (status == HSHM_OK)
        *ret_at = address_of(region->gpu, off);
    return status;
}

hshm_status
region_gpu_copy_to(struct region *region, uint64_t off, const void *from, uint64_t size)
{
    const hshm_status status = region_gpu_usable(region);
    return status != HSHM_OK ? status
                             : gpu_copy_to(&region->gpu->device, gpu_what("copy to", region).s,
                                           address_of(region->gpu, off), from, size);
}

hshm_status
region_gpu_copy_from(struct region *region, void *to, uint64_t off, uint64_t size)
{
    const hshm_status status = region_gpu_usable(region);
    return status != HSHM_OK ? status
                             : gpu_copy_from(&region->gpu->device, gpu_what("copy from", region).s, to,
                                             address_of(region->gpu, off), size);
}

hshm_status
region_gpu_copy_within(struct region *region, uint64_t to, uint64_t from, uint64_t size)
{
    const hshm_status status = region_gpu_usable(region);
    return status != HSHM_OK ? status
                             : gpu_copy_within(&region->gpu->device, gpu_what("move a block in", region).s,
                                               address_of(region->gpu, to), address_of(region->gpu, from), size);
}

hshm_status
region_gpu_fill(struct region *region, uint64_t off, uint8_t byte, uint64_t size)
{
    const hshm_status status = region_gpu_usable(region);
    return status != HSHM_OK ? status
                             : gpu_fill(&region->gpu->device, gpu_what("fill bytes of", region).s,
                                        address_of(region->gpu, off), byte, size);
}
