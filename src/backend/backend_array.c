/*
 * backend_array.c - the caller's own bytes: static arrays, embedded memory, mappings that the caller made.
 *
 * Shared if the array is: processes that map the same bytes attach with hshm_attach_options.array.  Without a file there
 * are no locks, so no process is ever taken for dead here.
 */
#include "backend/backend.h"
#include "base/error.h"

static hshm_status
check_buffer(const struct region *region, const void *array, uint64_t size, uint64_t least)
{
    if (array == NULL)
        return fail(HSHM_E_INVAL, "%s: no buffer given; set options.array", region_name(region).s);
    if ((uintptr_t)array % CACHE_LINE != 0)
        return fail(HSHM_E_INVAL, "%s: the buffer at %p must begin at a multiple of %d; declare it with alignas(%d)",
                    region_name(region).s, array, CACHE_LINE, CACHE_LINE);
    if (size < least)
        return fail(HSHM_E_INVAL, "%s: the buffer has %s, at least %s are needed", region_name(region).s,
                    size_text(size).s, size_text(least).s);
    if (size > UINTPTR_MAX - (uintptr_t)array)
        return fail(HSHM_E_INVAL, "%s: the buffer at %p cannot have %s", region_name(region).s, array,
                    size_text(size).s);
    return HSHM_OK;
}

static hshm_status
obtain(const struct create_request *request, struct region *region)
{
    const hshm_status status = check_buffer(region, request->options.array, request->size, HSHM_REGION_SIZE_MIN);
    if (status != HSHM_OK)
        return status;
    region->base = request->options.array;
    region->size = request->size;
    region->zeroed = false;
    return HSHM_OK;
}

static hshm_status
open_array(const hshm_attach_options *options, struct region *region)
{
    hshm_status status = check_buffer(region, options->array, options->array_size, sizeof(struct region_header));
    if (status != HSHM_OK)
        return status;
    region->base = options->array;
    region->read_only = options->read_only;
    struct region_header header;
    region_copy_header(&header, region_header(region));
    status = region_check_base(&header, options->array_size, region_name(region).s);
    if (status == HSHM_OK)
        region->size = header.region_size;
    return status;
}

static bool
still_named(const struct region *region)
{
    (void)region;
    return true;
}

static uint64_t
committed(const struct region *region)
{
    return region->size;
}

static void
release(struct region *region)
{
    region->base = NULL; /* the caller's */
}

const struct backend_ops backend_array_ops = {
    .kind = HSHM_BACKEND_ARRAY,
    .title = "array",
    .caps = BACKEND_CAN_ATTACH,
    .obtain = obtain,
    .open = open_array,
    .still_named = still_named,
    .committed = committed,
    .release = release,
};
