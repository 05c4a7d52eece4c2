/*
 * backend_gpu_shm.c - POSIX shared memory that is registered with a GPU: processors and kernels see the same bytes.
 *
 * Each process registers its own mapping, and asks for the address that the device has for it, which may be another one; nothing of
 * that is stored in the region.  Registered pages stay in memory, so they are all given at create, and none are given back.
 */
#include "backend/file_region.h"
#include "backend/gpu_region.h"
#include "base/error.h"

static hshm_status
obtain(const struct create_request *request, struct region *region)
{
    if (request->options.commit == HSHM_COMMIT_LAZY)
        return fail(HSHM_E_NOTSUP,
                    "cannot create %s lazily: to register memory with a GPU gives it all of its pages; use "
                    "HSHM_COMMIT_RESERVE",
                    region_name(region).s);
    return file_obtain(request, region);
}

static hshm_status
pin(const char *verb, const char *wanted, struct region *region)
{
    struct region_gpu *gpu = region->gpu;
    const struct gpu_what what = gpu_what(verb, region);
    hshm_status status = gpu_open(wanted, GPU_FOR_PINNING, what.s, &gpu->device);
    if (status != HSHM_OK)
        return status;
    gpu->end = region->size;
    status = gpu_pin(&gpu->device, what.s, region->base, region->size, region->read_only, &gpu->at);
    gpu->pinned = status == HSHM_OK;
    if (status != HSHM_OK) {
        const struct sentence kept = sentence_keep();
        (void)gpu_close(&gpu->device, what.s);
        sentence_restore(&kept);
    }
    return status;
}

static hshm_status
pin_or_not(const char *verb, hshm_gpu_need need, const char *wanted, struct region *region)
{
    hshm_status status = region_gpu_make(region);
    if (status != HSHM_OK)
        return status;
    status = pin(verb, wanted, region);
    /* That the caller's wish has no meaning is no lack of a GPU. */
    if (status == HSHM_OK || need != HSHM_GPU_OPTIONAL || status == HSHM_E_INVAL)
        return status;
    region_gpu_do_without(region, status);
    return HSHM_OK;
}

static hshm_status
equip(const struct create_request *request, struct region *region)
{
    return pin_or_not("create", request->options.gpu, request->options.gpu_device, region);
}

static hshm_status
join(const hshm_attach_options *options, struct region *region)
{
    return pin_or_not("attach to", options->gpu, options->gpu_device, region);
}

/* In a forked child it is its parent's registration, of which the child has none. */
static hshm_status
part(struct region *region)
{
    struct region_gpu *gpu = region->gpu;
    const struct gpu_what what = gpu_what("leave", region);
    hshm_status status = HSHM_OK;
    if (gpu == NULL)
        return HSHM_OK;
    if (gpu->pinned && gpu->device.pid == life_pid())
        status = gpu_unpin(&gpu->device, what.s, region->base, &region->stays_reserved);
    const hshm_status closed = gpu_close(&gpu->device, what.s);
    region_gpu_end(region);
    return status == HSHM_OK ? closed : status;
}

const struct backend_ops backend_gpu_shm_ops = {
    .kind = HSHM_BACKEND_GPU_SHM_MMAP,
    .title = "GPU-registered shared memory",
    .caps = BACKEND_CAN_ATTACH | BACKEND_NEEDS_URL | BACKEND_HAS_GPU,
    .files = &shm_files,
    .check_url = shm_check_name,
    .round_size = file_round_size,
    .obtain = obtain,
    .equip = equip,
    .join = join,
    .part = part,
    .tidy = gpu_memory_tidy,
    .publish = file_publish,
    .open = file_open,
    .still_named = file_still_named,
    .unname = file_unname,
    .remove = file_remove,
    .promise = file_promise,
    .committed = file_committed,
    .release = file_release,
};
