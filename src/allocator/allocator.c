/*
 * allocator.c - the table of kinds, and the public calls in front of it.
 *
 * The malloc-shaped calls are jumps; the others fill in offsets and sentences around them.
 */
#include "allocator/allocator.h"
#include "allocator/check.h"

#include <hshm/inline.h>

#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"

/* Adding a kind: its file, a line here, a number in hshm/allocator.h, a row in the conformance tests. */
static const struct allocator_ops *const allocators[] = {
    &alloc_stack_ops,
    &alloc_scalable_page_ops,
    &alloc_thread_local_ops,
    &alloc_malloc_ops,
};

const struct allocator_ops *
allocator_find(uint32_t kind)
{
    for (size_t i = 0; i < COUNTOF(allocators); i++) {
        if ((uint32_t)allocators[i]->kind == kind)
            return allocators[i];
    }
    (void)fail(HSHM_E_INVAL, "there is no allocator kind %" PRIu32 " that can be created; see hshm_allocator_kind",
               kind);
    return NULL;
}

static hshm_status
check_all(struct check *check)
{
    const hshm_status status = check->a->ops.check(check->a, check);
    return status == HSHM_OK ? check_logs(check) : status;
}

hshm_status
allocator_check(hshm_allocator *a)
{
    struct check check = { .a = a, .quiet = true };
    return check_all(&check);
}

bool
allocator_for_each_dead(hshm_allocator *a,
                        void (*recover)(hshm_allocator *a, uint32_t process, hshm_recover_report *report),
                        hshm_recover_report *report)
{
    const struct allocator_system *system = &a->system;
    bool found = false;
    for (uint32_t process = 0; system->seize != NULL && process < system->processes; process++) {
        const int ticket = process == a->process ? -1 : system->seize(system->arg, process);
        if (ticket < 0)
            continue;
        if (recover != NULL)
            recover(a, process, report);
        system->bury(system->arg, process, ticket);
        report->processes++;
        found = true;
    }
    return found;
}

NO_INLINE void *
allocator_no_room(hshm_allocator *a, size_t size, uint64_t largest)
{
    (void)fail(HSHM_E_NOMEM,
               "the heap %" PRIu32 ".%" PRIu32 " (%s) has no room for %s: its largest free block is %s of %s in all; "
               "free some blocks, or create it larger",
               a->id.major, a->id.minor, a->ops.title, size_text(size).s, size_text(largest).s,
               size_text(a->layout.data_size).s);
    return NULL;
}

NO_INLINE hshm_status
allocator_bad_free(const hshm_allocator *a, const void *addr)
{
    const char *what = !allocator_has(a, addr) && a->ops.kind != HSHM_ALLOCATOR_MALLOC
                           ? "it lies outside the heap's data"
                           : "it is not the beginning of a live block (freed already, or inside a block)";
    return fail(HSHM_E_BADFREE, "%p is not a block of the heap %" PRIu32 ".%" PRIu32 " (%s): %s; nothing was changed",
                addr, a->id.major, a->id.minor, a->ops.title, what);
}

hshm_status
allocator_check_lifetime(const struct allocator_ops *ops, bool knows_the_dead)
{
    if ((ops->needs & (HAS_LIFETIMES | NEEDS_SYSTEM_MALLOC)) == 0)
        return fail(HSHM_E_NOTSUP, "a %s heap has no blocks of process lifetime: its room comes back from the top only",
                    ops->title);
    if (!knows_the_dead)
        return fail(HSHM_E_NOTSUP, "a heap on an array has no blocks of process lifetime: nobody can tell who is dead");
    return HSHM_OK;
}

hshm_status
allocator_no_layout(const char *title, const struct heap_wish *wish, uint64_t least)
{
    if (wish->custom_size == 0)
        return fail(HSHM_E_INVAL, "a %s heap does not fit into a region of %s: its own tables take %s", title,
                    size_text(wish->region_size).s, size_text(least).s);
    return fail(HSHM_E_INVAL,
                "a custom header of %s does not fit into a region of %s, of which the %s heap's own tables "
                "take %s",
                size_text(wish->custom_size).s, size_text(wish->region_size).s, title, size_text(least).s);
}

static hshm_ptr
both_forms(const hshm_allocator *a, void *addr)
{
    return (hshm_ptr){ addr, { a->id, hshm_to_off(a, addr) } };
}

static hshm_status
null_argument(const char *call, const char *name)
{
    return fail(HSHM_E_INVAL, "%s: %s is NULL", call, name);
}

/* The address that the caller means: addr, or where shm.off leads.  Sentence and status when it is another heap's. */
static hshm_status
address_of(const hshm_allocator *a, const hshm_ptr *ptr, void **ret_addr)
{
    if (ptr->addr == NULL && ptr->shm.off != HSHM_OFF_NULL &&
        (ptr->shm.allocator.major != a->id.major || ptr->shm.allocator.minor != a->id.minor))
        return fail(HSHM_E_BADFREE,
                    "the pointer belongs to heap %" PRIu32 ".%" PRIu32 ", not to %" PRIu32 ".%" PRIu32
                    "; nothing was changed",
                    ptr->shm.allocator.major, ptr->shm.allocator.minor, a->id.major, a->id.minor);
    *ret_addr = ptr->addr != NULL ? ptr->addr : hshm_to_addr(a, ptr->shm.off);
    return HSHM_OK;
}

void *
hshm_malloc(hshm_allocator *a, size_t size)
{
    return a->ops.malloc(a, size);
}

hshm_status
hshm_free(hshm_allocator *a, void *addr)
{
    const enum hshm_inline_given given = hshm_inline_give(&a->view, addr);
    if (LIKELY(given == HSHM_INLINE_DONE))
        return HSHM_OK;
    return given == HSHM_INLINE_REST ? a->ops.free(a, addr) : a->ops.settle(a, addr);
}

hshm_status
hshm_free_rest(hshm_allocator *a, void *addr, enum hshm_inline_given given)
{
    return given == HSHM_INLINE_REST ? a->ops.free(a, addr) : a->ops.settle(a, addr);
}

hshm_status
hshm_allocate(hshm_allocator *a, size_t size, hshm_ptr *ret_ptr)
{
    if (UNLIKELY(ret_ptr == NULL))
        return null_argument("hshm_allocate", "ret_ptr");
    void *addr = a->ops.malloc(a, size);
    if (UNLIKELY(addr == NULL))
        return hshm_last_status();
    *ret_ptr = both_forms(a, addr);
    return HSHM_OK;
}

hshm_status
hshm_deallocate(hshm_allocator *a, hshm_ptr *inout_ptr)
{
    if (UNLIKELY(inout_ptr == NULL))
        return null_argument("hshm_deallocate", "inout_ptr");
    void *addr = NULL;
    hshm_status status = address_of(a, inout_ptr, &addr);
    if (status == HSHM_OK)
        status = hshm_free_inline(a, addr);
    if (LIKELY(status == HSHM_OK))
        *inout_ptr = HSHM_PTR_NULL;
    return status;
}

void *
hshm_calloc(hshm_allocator *a, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        (void)fail(HSHM_E_NOMEM, "hshm_calloc: %zu elements of %zu bytes are more than there are addresses", count,
                   size);
        return NULL;
    }
    if (a->ops.zeroed != NULL)
        return a->ops.zeroed(a, bytes);
    void *addr = a->ops.malloc(a, bytes);
    return addr == NULL ? NULL : memset(addr, 0, bytes);
}

void *
hshm_aligned_alloc(hshm_allocator *a, size_t alignment, size_t size)
{
    if (UNLIKELY(!is_power_of_two(alignment))) {
        (void)fail(HSHM_E_INVAL, "the alignment %zu is no power of two", alignment);
        return NULL;
    }
    return alignment <= GRANULE ? a->ops.malloc(a, size) : a->ops.aligned(a, size, alignment);
}

hshm_status
hshm_allocate_aligned(hshm_allocator *a, size_t size, size_t alignment, hshm_ptr *ret_ptr)
{
    if (UNLIKELY(ret_ptr == NULL))
        return null_argument("hshm_allocate_aligned", "ret_ptr");
    void *addr = hshm_aligned_alloc(a, alignment, size);
    if (UNLIKELY(addr == NULL))
        return hshm_last_status();
    *ret_ptr = both_forms(a, addr);
    return HSHM_OK;
}

void *
hshm_realloc(hshm_allocator *a, void *addr, size_t size)
{
    return addr == NULL ? a->ops.malloc(a, size) : a->ops.realloc(a, addr, size);
}

hshm_status
hshm_reallocate(hshm_allocator *a, hshm_ptr *inout_ptr, size_t size)
{
    if (UNLIKELY(inout_ptr == NULL))
        return null_argument("hshm_reallocate", "inout_ptr");
    void *addr = NULL;
    const hshm_status status = address_of(a, inout_ptr, &addr);
    if (status != HSHM_OK)
        return status;
    addr = hshm_realloc(a, addr, size);
    if (addr == NULL)
        return hshm_last_status();
    *inout_ptr = both_forms(a, addr);
    return HSHM_OK;
}

size_t
hshm_usable_size(hshm_allocator *a, const void *addr)
{
    if (addr == NULL)
        return 0;
    const size_t size = a->ops.usable_size(a, addr);
    if (size == 0)
        (void)allocator_bad_free(a, addr);
    return size;
}

hshm_status
hshm_visit_blocks(hshm_allocator *a, hshm_visit_fn fn, void *arg)
{
    return fn == NULL ? null_argument("hshm_visit_blocks", "fn") : a->ops.visit(a, fn, arg);
}

hshm_status
hshm_trim(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    const hshm_status status = a->ops.trim(a, keep, &bytes);
    if (status == HSHM_OK && ret_bytes != NULL)
        *ret_bytes = bytes;
    return status;
}

static hshm_status
not_a_stack(const hshm_allocator *a)
{
    return fail(HSHM_E_KIND, "the heap %" PRIu32 ".%" PRIu32 " is no Stack but a %s: it has no marks", a->id.major,
                a->id.minor, a->ops.title);
}

hshm_status
hshm_stack_mark(hshm_allocator *a, hshm_stack_height *ret_height)
{
    if (a->ops.mark == NULL)
        return not_a_stack(a);
    return ret_height == NULL ? null_argument("hshm_stack_mark", "ret_height") : a->ops.mark(a, ret_height);
}

hshm_status
hshm_stack_rewind(hshm_allocator *a, hshm_stack_height height)
{
    return a->ops.rewind == NULL ? not_a_stack(a) : a->ops.rewind(a, height);
}

hshm_status
hshm_stack_reset(hshm_allocator *a)
{
    return hshm_stack_rewind(a, 0);
}

hshm_status
hshm_stats_get(hshm_allocator *a, hshm_stats *ret_stats)
{
    if (a == NULL || ret_stats == NULL)
        return null_argument("hshm_stats_get", a == NULL ? "allocator" : "ret_stats");
    const hshm_status status = check_struct_size("hshm_stats", ret_stats->struct_size, sizeof(hshm_stats));
    if (status != HSHM_OK)
        return status;
    hshm_stats stats = { .struct_size = ret_stats->struct_size,
                         .region_bytes = a->region_size,
                         .data_bytes = a->layout.data_size,
                         .committed = a->system.committed(a->system.arg) };
    a->ops.stats(a, &stats);
    stats.free_bytes = stats.live_bytes < stats.data_bytes ? stats.data_bytes - stats.live_bytes : 0;
    stats.fragmentation = stats.free_bytes == 0 ? 0 : 1 - (double)stats.largest_free / (double)stats.free_bytes;
    *ret_stats = stats;
    return HSHM_OK;
}

static int
count_block(const hshm_block *block, void *arg)
{
    hshm_check_report *report = arg;
    report->live_blocks++;
    report->live_bytes += block->size;
    return 0;
}

/* Its first version had the counts of live blocks only. */
#define CHECK_REPORT_LEAST offsetof(hshm_check_report, slices)

/* What the dead left, and what nobody left by name. */
static hshm_status
repair(hshm_allocator *a)
{
    const hshm_status status = hshm_recover(a, NULL);
    if (status == HSHM_OK && a->ops.remake != NULL)
        a->ops.remake(a);
    return status;
}

hshm_status
hshm_check(hshm_allocator *a, unsigned flags, hshm_check_report *ret_report)
{
    if ((flags & ~(unsigned)HSHM_CHECK_REPAIR) != 0)
        return fail(HSHM_E_INVAL, "hshm_check: flags are 0x%x; this version knows HSHM_CHECK_REPAIR (0x%x) only", flags,
                    HSHM_CHECK_REPAIR);
    struct check check = { .a = a, .report = { .struct_size = sizeof check.report } };
    hshm_status status = HSHM_OK;
    if (ret_report != NULL)
        status = check_struct_size("hshm_check_report", ret_report->struct_size, CHECK_REPORT_LEAST);
    if (status == HSHM_OK && (flags & HSHM_CHECK_REPAIR) != 0)
        status = repair(a);
    if (status == HSHM_OK)
        status = check_all(&check);
    if (status == HSHM_OK && ret_report != NULL)
        status = a->ops.visit(a, count_block, &check.report);
    if (status == HSHM_OK && ret_report != NULL) {
        check.report.struct_size = ret_report->struct_size;
        memcpy(ret_report, &check.report, (size_t)min_u64(ret_report->struct_size, sizeof check.report));
    }
    return status;
}

hshm_status
hshm_recover(hshm_allocator *a, hshm_recover_report *ret_report)
{
    hshm_recover_report report = { .struct_size = sizeof report };
    if (ret_report != NULL) {
        const hshm_status status = check_struct_size("hshm_recover_report", ret_report->struct_size, sizeof report);
        if (status != HSHM_OK)
            return status;
        report.struct_size = ret_report->struct_size;
    }
    hshm_status status = HSHM_OK;
    if (a->ops.recover_all != NULL)
        status = a->ops.recover_all(a, &report);
    else
        (void)allocator_for_each_dead(a, a->ops.recover, &report);
    if (status == HSHM_OK && ret_report != NULL)
        *ret_report = report;
    return status;
}

void *
hshm_allocator_custom_header(hshm_allocator *a, size_t *ret_size)
{
    if (ret_size != NULL)
        *ret_size = (size_t)a->layout.custom_size;
    return a->layout.custom_size == 0 ? NULL : a->view.base + a->layout.custom_off;
}

hshm_allocator_kind
hshm_allocator_kind_of(const hshm_allocator *a)
{
    return a->ops.kind;
}

hshm_allocator_id
hshm_allocator_id_of(const hshm_allocator *a)
{
    return a->id;
}
