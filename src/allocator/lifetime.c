/*
 * lifetime.c - see lifetime.h.
 *
 * A slab of these is SLAB_LIFE in its owner word, which names the process; nobody is its owner, no shard has it, and no shelf.  Its free
 * bits are the first row alone.  Only its process takes, under a lock of its threads; everyone frees, by one atomic instruction:
 *
 *     take     1 -> 0 by AND, under the lock
 *     free     0 -> 1 by OR
 *     ends     when no block is live, by its process; or, whatever is live, by who cleans up after it
 *
 * What a kill leaves: a slab or run that names a dead process; recovery makes its slices free, with all that lies in them.
 *
 * Locking: the process's own lock, which dies with it.  So no call waits for another process.
 */
#include "allocator/lifetime.h"

#include "allocator/allocator.h"
#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"

enum {
    LOOKED_AT_ONCE = 1024, /* slices, for a slab with free blocks, before a new one is made                */
    TRIES_MAX = 1000       /* slabs in a row that gave no block: the tables of a damaged region say so     */
};

static uint64_t
own_of(const hshm_allocator *a, uint32_t class)
{
    return page_own(SLAB_LIFE, class, 0, a->process);
}

static bool
is_own_slab(const hshm_allocator *a, uint64_t slice, uint64_t *ret_class)
{
    const struct slab_heap *h = &a->slab;
    const uint64_t own = load_acquire(&record_of(h, slice)->own);
    *ret_class = page_own_class(own);
    return slice_state(load_acquire(&h->slices[slice])) == SLICE_SLAB && *ret_class < h->classes &&
           own == own_of(a, (uint32_t)*ret_class);
}

static uint32_t
live_in(const struct slab_heap *h, struct slab_record *record)
{
    const uint32_t blocks = blocks_of(h, record);
    uint32_t live = 0;
    for (uint32_t word = 0; word < words_for(blocks); word++)
        live += bits_count(word_mask(word, blocks) & ~load_seq_cst(&bits_of(record)[word]));
    return live;
}

/* ---- taking; all under the lock ---- */

static void *
take_from(hshm_allocator *a, uint64_t slice, uint32_t class)
{
    const struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    const uint32_t blocks = blocks_of(h, record);
    for (uint32_t word = 0; word < words_for(blocks); word++) {
        const uint64_t bits = load_seq_cst(&bits_of(record)[word]) & word_mask(word, blocks);
        if (bits == 0)
            continue;
        const uint64_t block = word * (uint64_t)WORD_BITS + (uint64_t)__builtin_ctzll(bits);
        const uint64_t off = (slice << h->shift) + block * h->sizes[class];
        if (off + h->sizes[class] > a->layout.data_size)
            return NULL; /* of a damaged region */
        slab_acknowledge(a, slice, OP_ANYONES);
        (void)atomic_fetch_and(&bits_of(record)[word], ~(bits & -bits));
        FAILPOINT("life.taken");
        return h->data + off;
    }
    return NULL;
}

/* No block of it is live, and nobody else takes from it. */
static void
retire(hshm_allocator *a, uint64_t slice)
{
    const uint64_t found = load_acquire(&a->slab.slices[slice]);
    slab_acknowledge(a, slice, OP_ANYONES);
    (void)run_free(a, slice, found);
}

/* One of our slabs of that class that has free blocks, among the next slices; on the way, empty ones become free. */
static bool
find_slab(hshm_allocator *a, uint32_t class)
{
    struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    for (uint64_t looked = 0; looked < min_u64(high, LOOKED_AT_ONCE); looked++) {
        const uint64_t slice = a->life.cursor++ % high;
        uint64_t its_class;
        if (!is_own_slab(a, slice, &its_class) || a->life.current[its_class] == slice + 1)
            continue;
        const uint32_t live = live_in(h, record_of(h, slice));
        if (its_class == class && live < blocks_of(h, record_of(h, slice))) {
            a->life.current[class] = slice + 1;
            return true;
        }
        if (live == 0)
            retire(a, slice);
    }
    return false;
}

static bool
make_slab(hshm_allocator *a, uint32_t class)
{
    struct claim claim;
    if (!slab_claim(a, class, a->slab.cuts[class], &claim))
        return false;
    slab_begin(a, &claim, class, own_of(a, class), false);
    a->life.current[class] = claim.first + 1;
    return true;
}

static void *
take_small(hshm_allocator *a, uint32_t class)
{
    void *block = NULL;
    for (int tries = 0; tries < TRIES_MAX && block == NULL; tries++) {
        if (a->life.current[class] != 0)
            block = take_from(a, a->life.current[class] - 1, class);
        if (block == NULL && !find_slab(a, class) && !make_slab(a, class))
            break;
    }
    return block;
}

static void *
take_large(hshm_allocator *a, size_t size, size_t alignment)
{
    bool zero;
    return large_take_for(a, size, alignment, a->process + 1, &zero);
}

static void *
take(hshm_allocator *a, size_t size, size_t alignment)
{
    uint32_t class;
    const bool is_small = slab_class_aligned(a, size, alignment, &class);
    local_lock_take(&a->life.lock);
    void *block = is_small ? take_small(a, class) : take_large(a, size, alignment);
    local_lock_give(&a->life.lock);
    return block;
}

static void *
lifetime_aligned(hshm_allocator *a, size_t size, size_t alignment)
{
    uint64_t bytes;
    void *block = take(a, size, alignment);
    /* What others keep for later, this process's own empty slabs, and what the dead left. */
    if (block == NULL && a->ops.trim(a, a->region_size, &bytes) != HSHM_E_PERM)
        block = take(a, size, alignment);
    return block != NULL ? block : slab_no_room(a, size);
}

static void *
lifetime_malloc(hshm_allocator *a, size_t size)
{
    return lifetime_aligned(a, size, 1);
}

/* ---- giving ---- */

/* Of a block that is found: does it end with its process? */
static bool
ends_with_process(const struct block_place *place)
{
    return slice_state(place->found) == SLICE_RUN ? load_relaxed(&place->record->life) != 0
                                                  : lifetime_has_slab(place->record);
}

bool
lifetime_give(hshm_allocator *a, const struct block_place *place)
{
    const uint64_t bit = UINT64_C(1) << place->block % WORD_BITS;
    if ((atomic_fetch_or(&bits_of(place->record)[place->block / WORD_BITS], bit) & bit) != 0)
        return false;
    FAILPOINT("life.given");
    (void)atomic_fetch_add_explicit(&a->slab.root->frees, 1, memory_order_relaxed);
    return true;
}

bool
lifetime_squeeze(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    bool found = false;
    if (!load_relaxed(&a->life.used))
        return false;
    local_lock_take(&a->life.lock);
    for (uint64_t slice = 0; slice < high; slice++) {
        uint64_t class;
        if (!is_own_slab(a, slice, &class) || live_in(h, record_of(h, slice)) != 0)
            continue;
        if (a->life.current[class] == slice + 1)
            a->life.current[class] = 0;
        retire(a, slice);
        found = true;
    }
    local_lock_give(&a->life.lock);
    return found;
}

/* ---- the end of a process ---- */

bool
lifetime_end_of(hshm_allocator *a, uint64_t slice, uint64_t found, uint64_t process, hshm_recover_report *report)
{
    struct slab_heap *h = &a->slab;
    struct slab_record *record = record_of(h, slice);
    const bool is_slab = slice_state(found) == SLICE_SLAB;
    const uint64_t named =
        is_slab ? page_own_process(load_acquire(&record->own)) : load_relaxed(&record->life) - UINT64_C(1);
    if ((is_slab ? !lifetime_has_slab(record) : load_relaxed(&record->life) == 0) || named != process)
        return false;
    const uint32_t live = is_slab ? live_in(h, record) : 1;
    FAILPOINT("life.ends");
    do {
        /* Who was freeing one of them for a slot need not any more. */
        slab_acknowledge(a, slice, OP_ANYONES_TAKEN);
        if (run_free(a, slice, found))
            break;
        /* It is being freed; or it was made larger or smaller just then. */
        found = load_acquire(&h->slices[slice]);
        if (slice_state(found) != SLICE_RUN || load_relaxed(&record->life) != process + 1)
            return true;
    } while (true);
    (void)atomic_fetch_add_explicit(&h->root->frees, live, memory_order_relaxed);
    report->blocks += live;
    return true;
}

void
lifetime_end(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    const uint64_t high = load_relaxed(&a->life.used) ? run_high(h) : 0;
    for (uint64_t slice = 0; slice < high; slice++) {
        const uint64_t found = load_acquire(&h->slices[slice]);
        if (slice_state(found) == SLICE_SLAB || slice_state(found) == SLICE_RUN)
            (void)lifetime_end_of(a, slice, found, a->process, &(hshm_recover_report){ 0 });
    }
}

/* ---- handles ---- */

void
lifetime_begin(hshm_allocator *a)
{
    local_lock_init(&a->life.lock);
    a->life.is_default = a->slab.root->lifetime == HSHM_LIFETIME_PROCESS;
    if (!a->life.is_default)
        return;
    store_relaxed(&a->life.used, true);
    a->ops.malloc = lifetime_malloc;
    a->ops.aligned = lifetime_aligned;
    a->ops.zeroed = NULL; /* by malloc */
}

void
lifetime_fork_prepare(hshm_allocator *a)
{
    local_lock_take(&a->life.lock);
}

void
lifetime_fork_done(hshm_allocator *a)
{
    local_lock_give(&a->life.lock);
}

void
lifetime_fork_child(hshm_allocator *a)
{
    if (a->private_memory)
        return; /* a copy of its own, in which it goes on */
    for (uint32_t class = 0; class < a->slab.classes; class ++)
        a->life.current[class] = 0;
}

bool
lifetime_has_block(hshm_allocator *a, void *addr)
{
    struct block_place place;
    return (a->ops.needs & HAS_LIFETIMES) != 0 && slab_find(a, addr, &place) && ends_with_process(&place);
}

/* Of a block that moves: to one of the same lifetime. */
void *
lifetime_malloc_like(hshm_allocator *a, const struct block_place *place, size_t size)
{
    return hshm_malloc_lifetime(a, size, ends_with_process(place) ? HSHM_LIFETIME_PROCESS : HSHM_LIFETIME_HEAP);
}

void *
hshm_malloc_lifetime(hshm_allocator *a, size_t size, hshm_lifetime lifetime)
{
    hshm_status status = HSHM_OK;
    if (lifetime != HSHM_LIFETIME_HEAP && lifetime != HSHM_LIFETIME_PROCESS)
        status = fail(HSHM_E_INVAL, "hshm_malloc_lifetime: there is no lifetime %d", (int)lifetime);
    else if (lifetime == HSHM_LIFETIME_PROCESS)
        status = allocator_check_lifetime(&a->ops, a->system.knows_the_dead);
    if (status != HSHM_OK)
        return NULL;
    if (a->refuses || (a->ops.needs & HAS_LIFETIMES) == 0) /* a MALLOC heap's blocks end with the process anyway */
        return a->ops.malloc(a, size);
    if (lifetime == HSHM_LIFETIME_HEAP)
        return a->life.is_default ? allocator_find(a->ops.kind)->malloc(a, size) : a->ops.malloc(a, size);
    store_relaxed(&a->life.used, true);
    return lifetime_malloc(a, size);
}
