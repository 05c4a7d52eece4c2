/*
 * backend_malloc.c - memory of this process alone.  Nobody else can attach.
 *
 * It comes from the system's malloc, or, with HSHM_COMMIT_LAZY, as pages that nobody promised: then a region may be far
 * larger than memory, and costs what is touched of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/backend.h"
#include "base/checked.h"
#include "base/error.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

/* What allocators may rely on: their largest unit is aligned in the process when it is in the region. */
#define BIG_REGION (16 * MIB)
#define BIG_ALIGNMENT (64 * KIB)

static hshm_status
no_memory(const struct region *region, uint64_t size, const char *source)
{
    return fail(HSHM_E_NOSPC,
                "cannot create %s: %s has no %s; ask for less, or see `ulimit -v` and vm.overcommit_memory",
                region_name(region).s, source, size_text(size).s);
}

/* ---- promised: from malloc ---- */

/* Aligned to pages where that costs little, so that pages can be given back. */
static uint64_t
alignment_of(uint64_t size)
{
    if (size >= BIG_REGION)
        return BIG_ALIGNMENT;
    const uint64_t page = region_page_size();
    return size >= 16 * page ? page : CACHE_LINE;
}

/* calloc, because big pieces come as fresh pages then, known to be zero without being touched. */
static hshm_status
obtain_promised(const struct create_request *request, struct region *region)
{
    const uint64_t alignment = alignment_of(request->size);
    region->owned = request->size > SIZE_MAX - alignment ? NULL : calloc(1, request->size + alignment - 1);
    if (region->owned == NULL)
        return no_memory(region, request->size, "malloc");
    region->base = (unsigned char *)align_up((uintptr_t)region->owned, alignment);
    if (request->options.commit == HSHM_COMMIT_PREFAULT) {
        for (uint64_t off = 0; off < request->size; off += region_page_size())
            ((volatile unsigned char *)region->base)[off] = 0;
    }
    return HSHM_OK;
}

/* ---- lazy: pages of our own ---- */

/* `length` and `alignment` are whole pages.  Maps as much more as that may take and cuts it off; NULL without room. */
static unsigned char *
map_aligned(uint64_t length, uint64_t alignment)
{
    const uint64_t extra = alignment - region_page_size();
    if (length > SIZE_MAX - extra)
        return NULL;
    void *mapped =
        mmap(NULL, length + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    const uintptr_t begin = (uintptr_t)mapped;
    const uintptr_t at = (uintptr_t)align_up(begin, alignment);
    if (at > begin)
        (void)munmap(mapped, at - begin);
    if (begin + extra > at)
        (void)munmap((void *)(at + length), begin + extra - at);
    return (unsigned char *)at;
}

/*
 * At a multiple of the largest power of two that fits into it, as files are mapped; of a smaller one where the address
 * space is too narrow for that, down to what allocators rely on.
 */
static hshm_status
obtain_lazy(const struct create_request *request, struct region *region)
{
    const uint64_t page = region_page_size();
    const uint64_t length = align_up(request->size, page);
    const uint64_t least = max_u64(alignment_of(request->size), page);
    uint64_t alignment = floor_power_of_two(length);
    region->base = map_aligned(length, alignment);
    while (region->base == NULL && alignment > least) {
        alignment = max_u64(alignment / 32, least);
        region->base = map_aligned(length, alignment);
    }
    return region->base == NULL ? no_memory(region, request->size, "the address space") : HSHM_OK;
}

static hshm_status
obtain(const struct create_request *request, struct region *region)
{
    region->size = request->size;
    region->zeroed = true;
    return request->options.commit == HSHM_COMMIT_LAZY ? obtain_lazy(request, region)
                                                       : obtain_promised(request, region);
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

/*
 * Bytes of the pages that are in memory, asked of the system some 16,000 pages at a time: 0.2 ms a GiB.  Those that were
 * swapped out are missing.
 */
static uint64_t
resident(const struct region *region)
{
    unsigned char in_memory[16 * 1024];
    const uint64_t page = region_page_size();
    const uint64_t size = align_up(region->size, page);
    uint64_t pages = 0;
    for (uint64_t off = 0; off < size; off += sizeof in_memory * page) {
        const uint64_t part = min_u64(size - off, sizeof in_memory * page);
        if (mincore(region->base + off, part, in_memory) != 0)
            break;
        for (uint64_t i = 0; i < part / page; i++)
            pages += in_memory[i] & 1;
    }
    return pages * page;
}

/* What malloc gave counts as a whole. */
static uint64_t
committed(const struct region *region)
{
    return region->owned != NULL ? region->size : resident(region);
}

static void
release(struct region *region)
{
    if (region->owned != NULL)
        free(region->owned);
    else if (region->base != NULL)
        (void)munmap(region->base, align_up(region->size, region_page_size()));
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
