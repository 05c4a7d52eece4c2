/*
 * alloc_refuse.c - heaps that say no.
 *
 * A handle's functions are swapped for these where the process may look but not touch (attached read-only), or may not
 * even look (a forked child without a place in the region).
 */
#include "allocator/allocator.h"
#include "allocator/user_slot.h"
#include "base/error.h"

static hshm_status
refuse(hshm_allocator *a)
{
    if (a->read_only)
        return fail(HSHM_E_PERM, "the heap %u.%u is attached read-only; attach without read_only to change it",
                    a->id.major, a->id.minor);
    return fail(
        a->refusal,
        "the heap %u.%u was attached by this process's parent, and this process has no slot of its own in "
        "it (it could not reopen the region when it was forked, or found no free slot); attach to it here, by a name "
        "that this user may open",
        a->id.major, a->id.minor);
}

static void *
refuse_malloc(hshm_allocator *a, size_t size)
{
    (void)size;
    (void)refuse(a);
    return NULL;
}

static hshm_status
refuse_free(hshm_allocator *a, void *addr)
{
    (void)addr;
    return refuse(a);
}

static void *
refuse_aligned(hshm_allocator *a, size_t size, size_t alignment)
{
    (void)size;
    (void)alignment;
    (void)refuse(a);
    return NULL;
}

static void *
refuse_realloc(hshm_allocator *a, void *addr, size_t size)
{
    (void)addr;
    (void)size;
    (void)refuse(a);
    return NULL;
}

static hshm_status
// NOLINTNEXTLINE(readability-non-const-parameter): the table's type
refuse_trim(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes)
{
    (void)keep;
    (void)ret_bytes;
    return refuse(a);
}

static hshm_status
refuse_recover(hshm_allocator *a, hshm_recover_report *report)
{
    (void)report;
    return refuse(a);
}

static hshm_status
refuse_rewind(hshm_allocator *a, hshm_stack_height height)
{
    (void)height;
    return refuse(a);
}

static hshm_status
refuse_visit(hshm_allocator *a, hshm_visit_fn fn, void *arg)
{
    (void)fn;
    (void)arg;
    return refuse(a);
}

static hshm_status
// NOLINTNEXTLINE(readability-non-const-parameter): the table's type
refuse_check(hshm_allocator *a, struct check *check)
{
    (void)check;
    return refuse(a);
}

static hshm_status
// NOLINTNEXTLINE(readability-non-const-parameter): the table's type
refuse_mark(hshm_allocator *a, hshm_stack_height *ret_height)
{
    (void)ret_height;
    return refuse(a);
}

void
allocator_refuse_writes(hshm_allocator *a)
{
    a->refuses = true;
    a->ops.malloc = refuse_malloc;
    a->ops.free = refuse_free;
    a->ops.aligned = refuse_aligned;
    a->ops.realloc = refuse_realloc;
    a->ops.zeroed = NULL; /* by malloc */
    a->ops.trim = refuse_trim;
    a->ops.allocate_to = user_slot_allocate; /* which asks first */
    a->ops.free_from = user_slot_free;
    a->ops.recover_all = refuse_recover;
    if (a->ops.rewind != NULL)
        a->ops.rewind = refuse_rewind;
}

void
allocator_refuse_all(hshm_allocator *a)
{
    allocator_refuse_writes(a);
    a->ops.visit = refuse_visit;
    a->ops.check = refuse_check;
    if (a->ops.mark != NULL)
        a->ops.mark = refuse_mark;
}
