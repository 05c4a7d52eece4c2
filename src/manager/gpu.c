/*
 * gpu.c - the public call that tells of a backend's GPU; those on blocks are in allocator/device.c.
 */
#include <hshm/gpu.h>

#include "backend/gpu_region.h"
#include "base/error.h"
#include "manager/manager.h"

hshm_status
hshm_backend_gpu(hshm_backend *backend, hshm_gpu_info *ret_info)
{
    if (backend == NULL || ret_info == NULL)
        return fail(HSHM_E_INVAL, "hshm_backend_gpu: %s is NULL", backend == NULL ? "backend" : "ret_info");
    struct region *region = &backend->region;
    if (region->gpu == NULL)
        return fail(HSHM_E_NOTSUP, "%s is of no GPU kind", region_name(region).s);
    const hshm_status status = region_gpu_usable(region);
    if (status == HSHM_OK)
        gpu_describe(&region->gpu->device, ret_info);
    return status;
}
