/*
 * backend_gpu_malloc.c - memory of a GPU: control data in POSIX shared memory, blocks on the device.
 *
 * The region's bytes [0, host_size) are the file's, those from there to its end are the device's memory, which has addresses in this
 * process and no access.  How much control data there will be is known when the heap is made: so the file is longer than that, and
 * only what is used of it is promised.
 */
#include "backend/file_region.h"
#include "backend/gpu_region.h"
#include "base/checked.h"
#include "base/error.h"

/*
 * IPC hands out the driver's own blocks, of which smaller allocations are parts: whole ones, so that nothing of a neighbour
 * is shared.
 */
#define DEVICE_STEP (UINT64_C(2) << 20)
/* For custom headers. */
#define CUSTOM_MOST (UINT64_C(16) << 20)

static uint64_t
round_size(uint64_t size)
{
    return align_up(size, DEVICE_STEP);
}

static hshm_status
obtain(const struct create_request *request, struct region *region)
{
    struct create_request whole = *request;
    const uint64_t begin = region_heap_off(request->options.slots) + region_device_size(true);
    whole.host_size =
        align_up(begin + request->size / (REGION_DEVICE_CONTROL / 4) + DEVICE_STEP + CUSTOM_MOST, DEVICE_STEP);
    whole.size = whole.host_size + request->size;
    return file_obtain(&whole, region);
}

static hshm_status
equip(const struct create_request *request, struct region *region)
{
    (void)gpu_memory_tidy(); /* what it could not end is nothing to us */
    hshm_status status = region_gpu_make(region);
    return status == HSHM_OK ? gpu_memory_make(request->options.gpu_device, region) : status;
}

static hshm_status
join(const hshm_attach_options *options, struct region *region)
{
    (void)gpu_memory_tidy(); /* what it could not end is nothing to us */
    hshm_status status = region_gpu_make(region);
    if (status == HSHM_OK)
        status = gpu_memory_join(region);
    if (status == HSHM_OK || options->gpu != HSHM_GPU_OPTIONAL || status == HSHM_E_CORRUPT || region->gpu == NULL)
        return status;
    region_gpu_do_without(region, status);
    return HSHM_OK;
}

static hshm_status
part(struct region *region)
{
    const hshm_status status = gpu_memory_part(region);
    region_gpu_end(region);
    return status;
}

static hshm_status
remove_leftover(const struct backend_ops *ops, const char *url)
{
    bool ended = false;
    const hshm_status status = gpu_memory_give_up(url, &ended);
    return status == HSHM_OK && !ended ? file_remove(ops, url) : status;
}

static uint64_t
committed(const struct region *region)
{
    return file_committed(region) + (region->size - region->host_size);
}

const struct backend_ops backend_gpu_malloc_ops = {
    .kind = HSHM_BACKEND_GPU_MALLOC,
    .title = "GPU memory",
    .caps = BACKEND_CAN_ATTACH | BACKEND_NEEDS_URL | BACKEND_HAS_GPU,
    .files = &shm_files,
    .check_url = shm_check_name,
    .round_size = round_size,
    .obtain = obtain,
    .equip = equip,
    .join = join,
    .part = part,
    .tidy = gpu_memory_tidy,
    .publish = file_publish,
    .open = file_open,
    .still_named = file_still_named,
    .unname = file_unname,
    .remove = remove_leftover,
    .promise = file_promise,
    .committed = committed,
    .release = file_release,
};
