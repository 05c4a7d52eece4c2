/*
 * backend_malloc.c - private memory from the system's malloc.  Nobody else can attach.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/backend.h"
#include "base/checked.h"
#include "base/error.h"

/*
 * calloc, because big pieces come as fresh pages then, known to be zero without being touched.  Aligned to pages where
 * that costs little, so that pages can be given back.
 */
static hshm_status
obtain(const struct create_request *request, struct region *region)
{
    const uint64_t page = region_page_size();
    const uint64_t alignment = request->size >= 16 * page ? page : CACHE_LINE;
    region->owned = request->size > SIZE_MAX - alignment ? NULL : calloc(1, request->size + alignment - 1);
    if (region->owned == NULL)
        return fail(HSHM_E_NOSPC,
                    "cannot create %s: malloc has no %s; ask for less, or see `ulimit -v` and "
                    "vm.overcommit_memory",
                    region_name(region).s, size_text(request->size).s);
    region->base = (unsigned char *)align_up((uintptr_t)region->owned, alignment);
    region->size = request->size;
    region->zeroed = true;
    if (request->options.commit == HSHM_COMMIT_PREFAULT) {
        for (uint64_t off = 0; off < region->size; off += page)
            ((volatile unsigned char *)region->base)[off] = 0;
    }
    return HSHM_OK;
}

/*
 * Private anonymous pages: dropping them gives them back, and the next touch finds zeros.  A small region begins
 * anywhere in a page; then only the pages that lie in the range as a whole go.
 */
static hshm_status
give_back(struct region *region, uint64_t off, uint64_t size)
{
    const uint64_t page = region_page_size();
    const uintptr_t begin = (uintptr_t)align_up((uintptr_t)region->base + off, page);
    const uintptr_t end = (uintptr_t)align_down((uintptr_t)region->base + off + size, page);
    if (begin >= end || madvise((void *)begin, end - begin, MADV_DONTNEED) == 0)
        return HSHM_OK;
    return fail(HSHM_E_SYSTEM, "cannot give %s of %s back to the system: %s", size_text(size).s, region_name(region).s,
                errno_text(errno));
}

static uint64_t
committed(const struct region *region)
{
    return region->size;
}

static void
release(struct region *region)
{
    free(region->owned);
    region->owned = NULL;
    region->base = NULL;
}

const struct backend_ops backend_malloc_ops = {
    .kind = HSHM_BACKEND_MALLOC,
    .title = "malloc",
    .caps = BACKEND_SYSTEM_MALLOC,
    .obtain = obtain,
    .give_back = give_back,
    .committed = committed,
    .release = release,
};
