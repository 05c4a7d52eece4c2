/*
 * heap_hshm.c - a heap of ours; see heap_hshm.h.
 */
#include "heap.h"

#include <stdio.h>
#include <string.h>

enum { BACKEND_ID = 1, ATTACH_TIMEOUT_MS = 10000 };

static const hshm_allocator_id allocator_id = { 1, 0 };

static const struct {
    const char *name;
    hshm_allocator_kind kind;
} kinds[] = {
    { "stack", HSHM_ALLOCATOR_STACK },
    { "scalable_page", HSHM_ALLOCATOR_SCALABLE_PAGE },
    { "thread_local", HSHM_ALLOCATOR_THREAD_LOCAL },
    { "malloc", HSHM_ALLOCATOR_MALLOC },
};

static hshm_allocator_kind
kind_of(const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return kinds[i].kind;
    return HSHM_ALLOCATOR_ANY;
}

static hshm_backend_kind
backend_of(const struct heap_options *options)
{
    const bool private_memory = options->on_malloc || kind_of(options->kind) == HSHM_ALLOCATOR_MALLOC;
    return private_memory ? HSHM_BACKEND_MALLOC : HSHM_BACKEND_POSIX_SHM_MMAP;
}

static hshm_status
create_heap(const struct heap_options *options, heap_ref *ret_heap)
{
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    backend.commit = options->prefault ? HSHM_COMMIT_PREFAULT : HSHM_COMMIT_LAZY;
    hshm_status status = hshm_backend_create(NULL, BACKEND_ID, backend_of(options), (size_t)options->region_bytes,
                                             options->name, &backend, NULL);
    if (status != HSHM_OK)
        return status;
    status = hshm_allocator_create(NULL, BACKEND_ID, allocator_id, kind_of(options->kind), 0, NULL, ret_heap);
    if (status != HSHM_OK)
        (void)hshm_backend_destroy(NULL, BACKEND_ID);
    return status;
}

static hshm_status
attach_heap(const struct heap_options *options, heap_ref *ret_heap)
{
    hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    attach.timeout_ms = ATTACH_TIMEOUT_MS;
    const hshm_status status = hshm_backend_attach(NULL, backend_of(options), options->name, &attach, NULL);
    if (status != HSHM_OK)
        return status;
    return hshm_allocator_get(NULL, allocator_id, kind_of(options->kind), ret_heap);
}

enum heap_answer
heap_open(const struct heap_options *options, bool create, heap_ref *ret_heap, char *why, size_t why_size)
{
#if defined(BENCH_INLINE) && !defined(HEAP_HAS_INLINE)
    (void)snprintf(why, why_size, "this version has no <hshm/inline.h>");
    return HEAP_NOTSUP;
#endif
    if (kind_of(options->kind) == HSHM_ALLOCATOR_ANY) {
        (void)snprintf(why, why_size, "--kind must be stack, scalable_page, thread_local or malloc");
        return HEAP_FAILED;
    }
    const hshm_status status = create ? create_heap(options, ret_heap) : attach_heap(options, ret_heap);
    if (status == HSHM_OK)
        return HEAP_OK;
    (void)snprintf(why, why_size, "%s: %s", hshm_status_name(status), hshm_last_error());
    return status == HSHM_E_NOTSUP ? HEAP_NOTSUP : HEAP_FAILED;
}

void
heap_close(heap_ref heap)
{
    (void)heap;
    (void)hshm_backend_detach(NULL, BACKEND_ID);
}

bool
heap_is_shared(const struct heap_options *options)
{
    return backend_of(options) == HSHM_BACKEND_POSIX_SHM_MMAP;
}

int64_t
heap_live_blocks(heap_ref heap)
{
    hshm_stats stats = HSHM_STATS_INIT;
    return hshm_stats_get(heap, &stats) == HSHM_OK ? (int64_t)stats.live_blocks : -1;
}
