/*
 * subject_hshm.c - our heaps, in POSIX shared memory that the system gives page by page.
 */
#include "storm.h"

enum { BACKEND = 1 };
static const hshm_allocator_id heap_id = { 1, 0 };

hshm_allocator *our_heap;

static bool
create(const struct subject *subject, const char *name, size_t bytes)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    return hshm_backend_create(NULL, BACKEND, HSHM_BACKEND_POSIX_SHM_MMAP, bytes, name, &options, NULL) == HSHM_OK &&
           hshm_allocator_create(NULL, BACKEND, heap_id, subject->kind, sizeof(struct user_slots), NULL, &our_heap) ==
               HSHM_OK;
}

static void
destroy(const char *name)
{
    (void)name;
    (void)hshm_backend_destroy(NULL, BACKEND);
}

static bool
attach(const char *name, bool anew)
{
    if (!anew)
        return our_heap != NULL;
    if (our_heap != NULL)
        (void)hshm_backend_detach(NULL, BACKEND);
    our_heap = NULL;
    return hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, NULL) == HSHM_OK &&
           hshm_allocator_get(NULL, heap_id, HSHM_ALLOCATOR_ANY, &our_heap) == HSHM_OK;
}

static void
detach(void)
{
    (void)hshm_backend_detach(NULL, BACKEND);
    our_heap = NULL;
}

static void *
take(size_t size)
{
    return hshm_malloc(our_heap, size);
}

static bool
give(void *block)
{
    return hshm_free(our_heap, block) == HSHM_OK;
}

static uint64_t
to_off(const void *block)
{
    return hshm_to_off(our_heap, block);
}

static void *
to_addr(uint64_t off)
{
    return hshm_to_addr(our_heap, off);
}

#define OURS(option, title, kind)                                                         \
    {                                                                                     \
        option, title, kind, create, destroy, attach, detach, take, give, to_off, to_addr \
    }
const struct subject subject_stack = OURS("stack", "Stack", HSHM_ALLOCATOR_STACK);
const struct subject subject_page = OURS("page", "ScalablePage", HSHM_ALLOCATOR_SCALABLE_PAGE);
const struct subject subject_thread = OURS("thread", "ThreadLocal", HSHM_ALLOCATOR_THREAD_LOCAL);
