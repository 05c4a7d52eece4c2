/*
 * alloc_page.c - slabs that nobody owns: memory is bounded by processors, whoever and however many the users are.
 *
 * For each class every shard (one a processor, nearly) has one current slab, from which all threads that run there take, in
 * whatever process.  Taking a block is one CAS on its word of bits; giving it back is one OR, whoever does it.  So there is
 * no state of a thread or process in the region that could be left behind; a kill falls before or after.
 *
 *     CURRENT   in one shard; takers take from it
 *     FULL      had no free block when it was replaced; in no list
 *     SHELVED   had free blocks afterwards; its class's shelf leads to it
 *     LOCKED    somebody found it without a live block, and is giving its slices free
 *
 * The two dangers, and the rules against them:
 *   - A free must not miss that its slab became FULL just then.  Who replaces a slab says FULL, and looks at the bits
 *     again; who frees sets the bit, and looks at the state again; both sequentially consistent, so one sees the other.
 *   - A taker that was stopped between reading a word and its CAS may go on when the slab's slices are something else by
 *     then.  So whoever gives slices free first takes every block (each word by CAS from "all free" to 0), which fails if
 *     a taker was faster; and a taker looks at the state *after* its CAS: if that is a slab of its class, and not LOCKED, the
 *     block is good, whatever happened in between; if not, it puts the bit back, which is then a free block of whatever
 *     slab is there now, since it was one when the CAS won it.
 *
 * What a kill leaves
 *     take, free                nothing in between: one store.  (A taker killed before it put a bit back: that one block)
 *     a bit set, not shelved    found out by recovery, or when the next block of that word's neighbours comes back
 *     slab taken off the shelf, not current yet    `own` says by whom; recovery shelves it again
 *     LOCKED                    `log` says which words were taken; recovery puts them back
 *
 * Locking: none.
 */
#include <hshm/inline.h>
#include <string.h>

#include "allocator/allocator.h"
#include "allocator/thread_table.h"
#include "base/checked.h"
#include "base/error.h"
#include "sync/pages.h"

enum {
    LARGER_CLASSES = 16,
    FREES_AT_ONCE = 64 /* counted by a thread for itself before the region hears of them */
};

/*
 * Local to a thread: where it counts, and on which processor it was when it counted last.  An atomic addition for each free
 * would cost a third of it.
 */
struct page_thread {
    struct hshm_inline_heap fast; /* an empty one: inline.h finds nothing to take here */
    hshm_allocator *a;
    _Atomic uint32_t frees; /* written by this thread; read by others for statistics */
    uint32_t shard;
    struct page_thread *next; /* in the handle's list */
    struct page_thread **back;
};
static_assert(offsetof(struct page_thread, fast) == 0, "thread_table.c knows the first part only");

static struct page_thread *
thread_of(const hshm_allocator *a)
{
    return (struct page_thread *)(void *)hshm_inline_heap_of(&a->view);
}

static bool
is_no_thread(const struct page_thread *thread)
{
    return &thread->fast == &thread_no_heap;
}

static struct slab_shard *
shard_here(const hshm_allocator *a)
{
    const struct page_thread *thread = thread_of(a);
    const struct slab_heap *h = &a->slab;
    return shard_at(h, (UNLIKELY(is_no_thread(thread)) ? cpu_current() : thread->shard) & (h->shard_count - 1));
}

/* ---- counting ---- */

static void
count_in_region(struct page_thread *thread)
{
    const struct slab_heap *h = &thread->a->slab;
    thread->shard = cpu_current();
    (void)atomic_fetch_add_explicit(&shard_at(h, thread->shard & (h->shard_count - 1))->frees,
                                    load_relaxed(&thread->frees), memory_order_relaxed);
    store_relaxed(&thread->frees, 0);
}

/* Under the thread_table lock: the thread ends, or its handle does. */
static void
end_thread(struct hshm_inline_heap *fast)
{
    struct page_thread *thread = (struct page_thread *)(void *)fast;
    count_in_region(thread);
    *thread->back = thread->next;
    if (thread->next != NULL)
        thread->next->back = thread->back;
    pages_give(thread, sizeof *thread);
}

/* The first free of a thread, or one that finds no memory to count in: then the region counts each. */
static NO_INLINE void
begin_counting(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    struct page_thread *thread = h->index < 0 ? NULL : pages_take(sizeof *thread);
    if (thread == NULL) {
        (void)atomic_fetch_add_explicit(&shard_here(a)->frees, 1, memory_order_relaxed);
        return;
    }
    for (size_t units = 0; units < COUNTOF(thread->fast.direct); units++)
        thread->fast.direct[units] = &thread_no_bin;
    thread->fast.me = thread_no_heap.me;
    thread->a = a;
    thread->shard = cpu_current();
    store_relaxed(&thread->frees, 1);
    thread_table_lock();
    thread->next = h->counters;
    thread->back = &h->counters;
    if (thread->next != NULL)
        thread->next->back = &thread->next;
    h->counters = thread;
    thread_entry_set(h->index, &thread->fast, end_thread);
    thread_table_unlock();
    thread_watch_end();
}

static inline void
count_free(hshm_allocator *a)
{
    struct page_thread *thread = thread_of(a);
    if (UNLIKELY(is_no_thread(thread))) {
        begin_counting(a);
        return;
    }
    const uint32_t frees = load_relaxed(&thread->frees) + 1;
    store_relaxed(&thread->frees, frees);
    if (UNLIKELY(frees >= FREES_AT_ONCE))
        count_in_region(thread);
}

uint64_t
page_uncounted_frees(const hshm_allocator *a)
{
    uint64_t frees = 0;
    thread_table_lock();
    for (const struct page_thread *thread = a->slab.counters; thread != NULL; thread = thread->next)
        frees += load_relaxed(&thread->frees);
    thread_table_unlock();
    return frees;
}

static bool
has_free(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t words = words_for(min_u64(load_relaxed(&record->blocks), (uint64_t)h->words * WORD_BITS));
    for (uint32_t word = 0; word < words; word++) {
        if (load_seq_cst(&bits_of(record)[word]) != 0)
            return true;
    }
    return false;
}

static bool
is_all_free(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t blocks = (uint32_t)min_u64(load_relaxed(&record->blocks), (uint64_t)h->words * WORD_BITS);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        if (load_seq_cst(&bits_of(record)[word]) != word_mask(word, blocks))
            return false;
    }
    return true;
}

/* From `own` as it was found, to the same class on its shelf.  False: it is something else by now. */
static bool
shelve(const struct slab_heap *h, uint64_t slice, uint64_t own)
{
    const uint32_t class = page_own_class(own);
    if (class >= h->classes || !cas_seq_cst(&record_of(h, slice)->own, &own, page_own(SLAB_SHELVED, class, 0)))
        return false;
    shelf_put(h, class, slice);
    return true;
}

/* ---- giving slabs free ---- */

/* Put words back that were taken for good and cannot be given free now. */
static void
unlock(const struct slab_heap *h, uint64_t slice, uint64_t locked, uint32_t words)
{
    struct slab_record *record = record_of(h, slice);
    const uint32_t blocks = load_relaxed(&record->blocks);
    for (uint32_t word = 0; word < words; word++)
        (void)atomic_fetch_or(&bits_of(record)[word], word_mask(word, blocks));
    store_release(&record->log, 0);
    (void)shelve(h, slice, locked);
}

bool
page_retire(hshm_allocator *a, uint64_t slice)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    const uint64_t found = load_acquire(&h->slices[slice]);
    uint64_t own = load_seq_cst(&record->own);
    if (slice_state(found) != SLICE_SLAB || (own & SLAB_FLAGS) != (SLAB_IS | SLAB_SHELVED) || !is_all_free(h, record) ||
        !slab_record_is_sound(h, slice, found))
        return false;
    const uint64_t locked = page_own(SLAB_LOCKED, page_own_class(own), a->process);
    if (!cas_seq_cst(&record->own, &own, locked))
        return false;
    const uint32_t blocks = load_relaxed(&record->blocks);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        uint64_t all = word_mask(word, blocks);
        if (!cas_seq_cst(&bits_of(record)[word], &all, 0)) {
            unlock(h, slice, locked, word);
            return false;
        }
        store_release(&record->log, load_relaxed(&record->log) | UINT64_C(1) << word);
    }
    (void)run_free(a, slice, found);
    return true;
}

/* ---- the shard's slab ---- */

/* It is not the shard's any more.  FULL first, then the bits again: see above. */
static void
leave_current(const struct slab_heap *h, uint64_t slice)
{
    struct slab_record *record = record_of(h, slice);
    uint64_t own = load_seq_cst(&record->own);
    if ((own & SLAB_FLAGS) != (SLAB_IS | SLAB_CURRENT))
        return;
    const uint64_t full = page_own(SLAB_FULL, page_own_class(own), 0);
    if (cas_seq_cst(&record->own, &own, full) && has_free(h, record))
        (void)shelve(h, slice, full);
}

/* A slab with free blocks that no shard has: its slice + 1, now CURRENT by this process; 0 when there is none. */
static uint64_t
take_shelved(hshm_allocator *a, uint32_t class)
{
    struct slab_heap *h = &a->slab;
    for (;;) {
        const uint64_t taken = shelf_take(h, class);
        if (taken == 0)
            return 0;
        struct slab_record *record = record_of(h, taken - 1);
        uint64_t shelved = page_own(SLAB_SHELVED, class, 0);
        if (slab_record_is_sound(h, taken - 1, load_acquire(&h->slices[taken - 1])) &&
            cas_seq_cst(&record->own, &shelved, page_own(SLAB_CURRENT, class, a->process)))
            return taken;
    }
}

static uint64_t
make_slab(hshm_allocator *a, uint32_t class)
{
    struct claim claim;
    if (!slab_claim(a, class, &claim))
        return 0;
    slab_begin(a, &claim, class, page_own(SLAB_CURRENT, class, a->process));
    return claim.first + 1;
}

/* Another slab for the shard.  False: no memory. */
static bool
replace_current(hshm_allocator *a, struct slab_shard *shard, uint32_t class, uint64_t current)
{
    struct slab_heap *h = &a->slab;
    uint64_t next = take_shelved(a, class);
    if (next == 0)
        next = make_slab(a, class);
    if (next == 0)
        return false;
    const uint64_t before = current;
    if (cas_seq_cst(&shard->current[class], &current, next)) {
        if (before != 0 && before <= h->count)
            leave_current(h, before - 1);
    } else {
        (void)shelve(h, next - 1, load_seq_cst(&record_of(h, next - 1)->own)); /* another thread was faster */
    }
    return true;
}

/* Let the hint lead to a word with free blocks.  False: there is none. */
static bool
set_hint(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t words = words_for(min_u64(load_relaxed(&record->blocks), (uint64_t)h->words * WORD_BITS));
    const uint32_t begin = load_relaxed(&record->hint);
    for (uint32_t i = 0; i < words; i++) {
        const uint32_t word = (begin + i) % words;
        if (load_relaxed(&bits_of(record)[word]) == 0)
            continue;
        store_relaxed(&record->hint, word);
        return true;
    }
    return false;
}

/*
 * Take a block of a slab: its address, or NULL when the word that the hint leads to has none, or changed.  The class comes
 * from the caller and the address is looked at once more, since the record lies in a region and may say anything.
 */
static inline void *
take_from(const hshm_allocator *a, uint64_t slice, uint32_t class)
{
    const struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    const uint32_t at = load_relaxed(&record->hint) & (h->words - 1);
    bits_word *word = &bits_of(record)[at];
    uint64_t bits = load_relaxed(word);
    if (bits == 0)
        return NULL;
    const uint64_t bit = bits & -bits;
    /* Acquire pairs with the OR of who freed the block. */
    if (!cas_seq_cst(word, &bits, bits & ~bit))
        return NULL;
    const uint64_t off = (slice << h->shift) + (at * WORD_BITS + (uint64_t)__builtin_ctzll(bit)) * h->sizes[class];
    const uint64_t own = load_seq_cst(&record->own);
    if (LIKELY((own & (SLAB_IS | SLAB_LOCKED)) == SLAB_IS && page_own_class(own) == class &&
               off + h->sizes[class] <= a->layout.data_size))
        return h->data + off;
    (void)atomic_fetch_or(word, bit);
    return NULL;
}

/* Slabs that shards hold without a live block become free. */
static void
squeeze(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    for (uint32_t i = 0; i < h->shard_count; i++) {
        for (uint32_t class = 0; class < h->classes; class++) {
            _Atomic uint64_t *current = &shard_at(h, i)->current[class];
            uint64_t slice = load_seq_cst(current);
            if (slice == 0 || slice > h->count || !is_all_free(h, record_of(h, slice - 1)) ||
                !cas_seq_cst(current, &slice, 0))
                continue;
            leave_current(h, slice - 1);
            (void)page_retire(a, slice - 1);
        }
    }
}

static void *
take_class(hshm_allocator *a, uint32_t class)
{
    struct slab_heap *h = &a->slab;
    for (;;) {
        struct slab_shard *shard = shard_here(a);
        const uint64_t current = load_acquire(&shard->current[class]);
        if (LIKELY(current - 1 < h->count)) {
            void *block = take_from(a, current - 1, class);
            if (LIKELY(block != NULL))
                return block;
            if (set_hint(h, record_of(h, current - 1)) &&
                page_own_class(load_relaxed(&record_of(h, current - 1)->own)) == class)
                continue;
        }
        if (!replace_current(a, shard, class, current))
            return NULL;
    }
}

/* No room for a slab of the right class: what lies idle first, then what the dead left, then larger blocks. */
static NO_INLINE void *
take_desperately(hshm_allocator *a, uint32_t class, size_t size)
{
    squeeze(a);
    void *block = take_class(a, class);
    if (block == NULL) {
        (void)slab_recover(a);
        block = take_class(a, class);
    }
    for (uint32_t larger = class + 1; block == NULL && larger < a->slab.classes && larger <= class + LARGER_CLASSES; larger++)
        block = take_class(a, larger);
    return block != NULL ? block : slab_no_room(a, size);
}

static void *
take_large(hshm_allocator *a, size_t size, size_t alignment, bool *ret_zero)
{
    void *block = large_take(a, size, alignment, ret_zero);
    if (block == NULL) {
        squeeze(a);
        block = large_take(a, size, alignment, ret_zero);
    }
    if (block == NULL && slab_recover(a))
        block = large_take(a, size, alignment, ret_zero);
    return block != NULL ? block : slab_no_room(a, size);
}

static void *
page_malloc(hshm_allocator *a, size_t size)
{
    bool zero;
    if (UNLIKELY(size > a->slab.max_size))
        return take_large(a, size, 1, &zero);
    const uint32_t class = slab_class(&a->slab, size);
    void *block = take_class(a, class);
    return LIKELY(block != NULL) ? block : take_desperately(a, class, size);
}

static void *
page_aligned(hshm_allocator *a, size_t size, size_t alignment)
{
    uint32_t class;
    bool zero;
    if (!slab_class_aligned(a, size, alignment, &class))
        return take_large(a, size, alignment, &zero);
    void *block = take_class(a, class);
    return block != NULL ? block : take_desperately(a, class, size);
}

static void *
page_zeroed(hshm_allocator *a, size_t size)
{
    bool zero = false;
    void *block = size > a->slab.max_size ? take_large(a, size, 1, &zero) : page_malloc(a, size);
    return block == NULL || zero ? block : memset(block, 0, size);
}

/* ---- giving blocks back ---- */

/* A word had no free block before, or has no live one now. */
static NO_INLINE void
settle(hshm_allocator *a, uint64_t slice, bool word_is_free)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    const uint64_t own = load_seq_cst(&record->own);
    if ((own & SLAB_FLAGS) == (SLAB_IS | SLAB_FULL))
        (void)shelve(h, slice, own);
    if (word_is_free)
        (void)page_retire(a, slice);
}

static inline bool
give(hshm_allocator *a, uint64_t slice, struct slab_record *record, uint32_t block)
{
    const uint32_t at = block / WORD_BITS;
    const uint64_t bit = UINT64_C(1) << block % WORD_BITS;
    const uint64_t before = atomic_fetch_or(&bits_of(record)[at], bit);
    if (UNLIKELY((before & bit) != 0))
        return false;
    count_free(a);
    const bool word_is_free = (before | bit) == word_mask(at, load_relaxed(&record->blocks));
    if (UNLIKELY(before == 0 || word_is_free))
        settle(a, slice, word_is_free);
    return true;
}

static NO_INLINE hshm_status
page_free_other(hshm_allocator *a, void *addr)
{
    struct block_place place;
    if (addr == NULL)
        return HSHM_OK;
    if (slab_find(a, addr, &place) && (slice_state(place.found) == SLICE_RUN
                                           ? large_give(a, &place)
                                           : give(a, place.slice, place.record, place.block)))
        return HSHM_OK;
    return allocator_bad_free(a, addr);
}

/* The common case: a slab's first slice. */
static hshm_status
page_free(hshm_allocator *a, void *addr)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t off = (uintptr_t)addr - (uintptr_t)h->data;
    const uint64_t slice = off >> h->shift;
    if (UNLIKELY(slice >= h->count))
        return page_free_other(a, addr);
    struct slab_record *record = record_of(h, slice);
    if (UNLIKELY((load_acquire(&record->own) & SLAB_IS) == 0))
        return page_free_other(a, addr);
    uint64_t inside;
    const uint64_t block =
        hshm_inline_multiply(off & ((UINT64_C(1) << h->shift) - 1), record->reciprocal, &inside);
    if (UNLIKELY(inside >= record->limit || block >= h->words * WORD_BITS))
        return allocator_bad_free(a, addr);
    return LIKELY(give(a, slice, record, (uint32_t)block)) ? HSHM_OK : allocator_bad_free(a, addr);
}

static hshm_status
page_trim(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes)
{
    squeeze(a);
    (void)slab_recover(a);
    return run_trim(a, keep, ret_bytes);
}

/* ---- handles ---- */

static hshm_status
page_layout(const struct heap_wish *wish, struct heap_layout *ret_layout)
{
    return slab_layout(wish, "ScalablePage", false, ret_layout);
}

static void
begin_handle(hshm_allocator *a)
{
    a->slab.index = a->read_only ? -1 : thread_index_take();
    a->view.thread_off = thread_offset(a->slab.index);
}

static hshm_status
page_init(hshm_allocator *a, const struct heap_wish *wish)
{
    slab_init(a, wish, false);
    begin_handle(a);
    return HSHM_OK;
}

static hshm_status
page_open(hshm_allocator *a, const char *name)
{
    const hshm_status status = slab_open(a, name, false);
    if (status == HSHM_OK)
        begin_handle(a);
    return status;
}

/* What lies in the region is nobody's. */
static void
page_close(hshm_allocator *a)
{
    thread_table_lock();
    while (a->slab.counters != NULL)
        end_thread(&a->slab.counters->fast);
    thread_index_give(a->slab.index);
    thread_table_unlock();
}

/* The parent's threads count what they freed; this process's one thread begins anew. */
static void
page_fork_child(hshm_allocator *a)
{
    while (a->slab.counters != NULL) {
        struct page_thread *thread = a->slab.counters;
        if (!a->private_memory)
            store_relaxed(&thread->frees, 0);
        end_thread(&thread->fast);
    }
    if (a->slab.index >= 0)
        thread_entry_clear(a->slab.index);
}

const struct allocator_ops alloc_scalable_page_ops = {
    .malloc = page_malloc,
    .free = page_free,
    .aligned = page_aligned,
    .realloc = slab_realloc,
    .zeroed = page_zeroed,
    .usable_size = slab_usable_size,
    .visit = slab_visit,
    .trim = page_trim,
    .stats = slab_stats,
    .check = slab_check,
    .kind = HSHM_ALLOCATOR_SCALABLE_PAGE,
    .title = "ScalablePage",
    .needs = TAKES_MIN_BLOCK,
    .layout = page_layout,
    .check_layout = slab_check_layout,
    .init = page_init,
    .open = page_open,
    .recover = slab_recover_process,
    .close = page_close,
    .fork_child = page_fork_child,
};
