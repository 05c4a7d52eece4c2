/*
 * backend_gpu.c - the two GPU kinds.  This build has no driver for them: they say so, whatever is asked.
 */
#include "backend/backend.h"
#include "base/error.h"

static hshm_status
no_driver(const struct region *region)
{
    return fail(HSHM_E_DEVICE,
                "%s: no GPU driver is present in this build of hshm; use HSHM_BACKEND_POSIX_SHM_MMAP for "
                "memory of the host",
                region_name(region).s);
}

static hshm_status
obtain(const struct create_request *request, struct region *region)
{
    (void)request;
    return no_driver(region);
}

static hshm_status
open_device(const hshm_attach_options *options, struct region *region)
{
    (void)options;
    return no_driver(region);
}

static uint64_t
committed(const struct region *region)
{
    (void)region;
    return 0;
}

static void
release(struct region *region)
{
    (void)region;
}

const struct backend_ops backend_gpu_malloc_ops = {
    .kind = HSHM_BACKEND_GPU_MALLOC,
    .title = "GPU memory",
    .caps = 0,
    .obtain = obtain,
    .committed = committed,
    .release = release,
};

const struct backend_ops backend_gpu_shm_ops = {
    .kind = HSHM_BACKEND_GPU_SHM_MMAP,
    .title = "GPU-registered shared memory",
    .caps = BACKEND_CAN_ATTACH,
    .obtain = obtain,
    .open = open_device,
    .committed = committed,
    .release = release,
};
