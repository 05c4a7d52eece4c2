/*
 * alloc_malloc.c - the system's malloc behind the same calls.
 *
 * The blocks are malloc's, the limit and the counters are ours: live bytes never exceed the data that the region was
 * given.  Which addresses are live stands in a set apart from the blocks, so that wrong frees are found out before
 * malloc sees them.  The set is split into shards by address, each with a lock of this process: a Malloc heap has no
 * other users.
 *
 * A shard is a table with open addressing, at most three quarters full; removing moves followers back, so there are no
 * tombstones.  (Knuth, The Art of Computer Programming vol. 3, 6.4, algorithm R.)
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "allocator/allocator.h"
#include "allocator/user_slot.h"
#include "allocator/check.h"
#include "base/checked.h"
#include "base/error.h"
#include "sync/local_lock.h"

/* fork() takes the locks of all shards at once, and clang's thread sanitizer gives up at 64 held locks. */
enum {
    SHARD_BITS = 4,
    SHARDS = 1 << SHARD_BITS,
    SHARD_FIRST_CAPACITY = 64 /* a power of two */
};

/* Local: addresses of live blocks; 0 = empty place. */
struct shard {
    alignas(CACHE_LINE) struct local_lock lock;
    uintptr_t *places;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
};

struct block_set {
    struct shard shards[SHARDS];
    atomic_bool tight; /* some shard is more than three quarters full and could not grow: nothing may move now */
};

static uint64_t
hash(uintptr_t addr)
{
    return ((uint64_t)addr >> 4) * UINT64_C(0x9e3779b97f4a7c15);
}

static struct shard *
shard_of(const hshm_allocator *a, uintptr_t addr)
{
    return &a->live->shards[hash(addr) >> (64 - SHARD_BITS)];
}

static size_t
home_of(const struct shard *shard, uintptr_t addr)
{
    return (size_t)(hash(addr) >> 20) & (shard->capacity - 1);
}

/* Where addr is, or the empty place where it would be. */
static size_t
find_place(const struct shard *shard, uintptr_t addr)
{
    size_t at = home_of(shard, addr);
    while (shard->places[at] != 0 && shard->places[at] != addr)
        at = (at + 1) & (shard->capacity - 1);
    return at;
}

static bool
grow_shard(struct shard *shard)
{
    const size_t capacity = shard->capacity == 0 ? SHARD_FIRST_CAPACITY : shard->capacity * 2;
    struct shard grown = { .places = calloc(capacity, sizeof *grown.places), .capacity = capacity };
    if (grown.places == NULL)
        return false;
    for (size_t i = 0; i < shard->capacity; i++) {
        if (shard->places[i] != 0)
            grown.places[find_place(&grown, shard->places[i])] = shard->places[i];
    }
    free(shard->places);
    shard->places = grown.places;
    shard->capacity = capacity;
    return true;
}

/* Is there a place without touching the quarter that is kept for moved blocks?  Under the shard's lock. */
static bool
has_place(struct shard *shard)
{
    return (shard->count + 1) * 4 <= shard->capacity * 3 || grow_shard(shard);
}

/*
 * False without memory for it.  A quarter of each shard is kept for blocks that realloc has moved already and that cannot
 * be refused any more (`moved`); one place stays empty always, so that searches end.
 */
static bool
insert(hshm_allocator *a, uintptr_t addr, bool moved)
{
    struct shard *shard = shard_of(a, addr);
    local_lock_take(&shard->lock);
    bool room = has_place(shard);
    if (!room && moved) {
        store_relaxed(&a->live->tight, true);
        room = shard->count + 1 < shard->capacity;
    }
    if (room) {
        shard->places[find_place(shard, addr)] = addr;
        shard->count++;
    }
    local_lock_give(&shard->lock);
    return room;
}

/*
 * May realloc move a block anywhere?  Not while a shard lives on the quarter that is kept: then it is used by those who
 * asked before, a few threads at most, and by nobody after them.
 */
static bool
may_move(hshm_allocator *a)
{
    if (!load_relaxed(&a->live->tight))
        return true;
    bool relieved = true;
    for (size_t i = 0; i < SHARDS && relieved; i++) {
        struct shard *shard = &a->live->shards[i];
        local_lock_take(&shard->lock);
        relieved = has_place(shard);
        local_lock_give(&shard->lock);
    }
    if (relieved)
        store_relaxed(&a->live->tight, false);
    return relieved;
}

static void
close_gap(struct shard *shard, size_t gap)
{
    const size_t mask = shard->capacity - 1;
    for (size_t at = (gap + 1) & mask; shard->places[at] != 0; at = (at + 1) & mask) {
        /* May it move back to the gap?  Only if its home does not lie behind the gap. */
        const size_t home = home_of(shard, shard->places[at]);
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            shard->places[gap] = shard->places[at];
            gap = at;
        }
    }
    shard->places[gap] = 0;
}

/* Own a live block: of several that try, one is told true. */
static bool
take_out(hshm_allocator *a, uintptr_t addr)
{
    struct shard *shard = shard_of(a, addr);
    bool found = false;
    local_lock_take(&shard->lock);
    if (shard->capacity != 0) {
        const size_t at = find_place(shard, addr);
        found = addr != 0 && shard->places[at] == addr;
        if (found) {
            close_gap(shard, at);
            shard->count--;
        }
    }
    local_lock_give(&shard->lock);
    return found;
}

static bool
is_live(hshm_allocator *a, uintptr_t addr)
{
    struct shard *shard = shard_of(a, addr);
    local_lock_take(&shard->lock);
    const bool found = addr != 0 && shard->capacity != 0 && shard->places[find_place(shard, addr)] == addr;
    local_lock_give(&shard->lock);
    return found;
}

/* ---- counting ---- */

static void
note_peak(struct malloc_root *root, uint64_t bytes)
{
    uint64_t peak = load_relaxed(&root->peak_bytes);
    while (peak < bytes && !atomic_compare_exchange_weak_explicit(&root->peak_bytes, &peak, bytes, memory_order_relaxed,
                                                                  memory_order_relaxed))
        ;
}

/* Take so many bytes of the heap's limit.  False when they are not there. */
static bool
charge(hshm_allocator *a, uint64_t bytes)
{
    uint64_t live = load_relaxed(&a->counters->live_bytes);
    do {
        if (live > a->layout.data_size || bytes > a->layout.data_size - live)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&a->counters->live_bytes, &live, live + bytes, memory_order_relaxed,
                                                    memory_order_relaxed));
    note_peak(a->counters, live + bytes);
    return true;
}

static void
discharge(hshm_allocator *a, uint64_t bytes)
{
    (void)atomic_fetch_sub_explicit(&a->counters->live_bytes, bytes, memory_order_relaxed);
}

static void
count(_Atomic uint64_t *counter)
{
    (void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static uint64_t
room_left(const hshm_allocator *a)
{
    const uint64_t live = load_relaxed(&a->counters->live_bytes);
    return live < a->layout.data_size ? a->layout.data_size - live : 0;
}

static NO_INLINE void *
no_room(hshm_allocator *a, size_t size)
{
    count(&a->counters->failures);
    return allocator_no_room(a, size, room_left(a));
}

/* ---- blocks ---- */

/* Enter what malloc gave into the books, or give it back. */
static void *
admit(hshm_allocator *a, void *addr, size_t size)
{
    if (addr == NULL)
        return no_room(a, size);
    const uint64_t bytes = malloc_usable_size(addr);
    if (charge(a, bytes)) {
        if (insert(a, (uintptr_t)addr, false)) {
            count(&a->counters->live_blocks);
            count(&a->counters->allocs);
            return addr;
        }
        discharge(a, bytes);
    }
    free(addr);
    return no_room(a, size);
}

static void *
malloc_malloc(hshm_allocator *a, size_t size)
{
    /* Asked first, so that malloc is not made to find room for what the limit forbids. */
    if (size > room_left(a))
        return no_room(a, size);
    return admit(a, malloc(size == 0 ? 1 : size), size);
}

static void *
malloc_aligned(hshm_allocator *a, size_t size, size_t alignment)
{
    void *addr = NULL;
    /* An aligned place is found in `alignment` bytes more, so the heap's limit is one for them too. */
    if (size > room_left(a) || alignment > a->layout.data_size ||
        posix_memalign(&addr, alignment, size == 0 ? 1 : size) != 0)
        return no_room(a, size);
    return admit(a, addr, size);
}

static hshm_status
malloc_free(hshm_allocator *a, void *addr)
{
    if (addr == NULL)
        return HSHM_OK;
    if (!take_out(a, (uintptr_t)addr))
        return allocator_bad_free(a, addr);
    discharge(a, malloc_usable_size(addr));
    (void)atomic_fetch_sub_explicit(&a->counters->live_blocks, 1, memory_order_relaxed);
    count(&a->counters->frees);
    free(addr);
    return HSHM_OK;
}

static void *
malloc_realloc(hshm_allocator *a, void *addr, size_t size)
{
    /* Out of the set while malloc may move it: nobody can free it meanwhile. */
    if (!take_out(a, (uintptr_t)addr)) {
        (void)allocator_bad_free(a, addr);
        return NULL;
    }
    const uint64_t old_bytes = malloc_usable_size(addr);
    const uint64_t more = size > old_bytes ? size - old_bytes : 0;
    void *moved = NULL;
    if (!may_move(a)) {
        moved = more == 0 ? addr : NULL;
    } else if (more == 0 || charge(a, more)) {
        moved = realloc(addr, size == 0 ? 1 : size);
        /* Rounding may go a little beyond the limit here: the block has moved, and cannot be refused any more. */
        const uint64_t new_bytes = moved != NULL ? malloc_usable_size(moved) : old_bytes;
        (void)atomic_fetch_add_explicit(&a->counters->live_bytes, new_bytes - old_bytes - more, memory_order_relaxed);
        note_peak(a->counters, load_relaxed(&a->counters->live_bytes));
    }
    /* There is a place: a quarter of the shard is kept for this, and each try makes it larger if it can. */
    const bool entered = insert(a, (uintptr_t)(moved != NULL ? moved : addr), true);
    ASSERT(entered);
    (void)entered;
    return moved != NULL ? moved : no_room(a, size);
}

static size_t
malloc_usable(hshm_allocator *a, const void *addr)
{
    return is_live(a, (uintptr_t)addr) ? malloc_usable_size((void *)(uintptr_t)addr) : 0;
}

static bool
malloc_owns(hshm_allocator *a, const void *addr)
{
    return is_live(a, (uintptr_t)addr);
}

/* What stands in a shard now.  NULL when there is nothing, or no memory for it: *ret_count tells. */
static hshm_block *
copy_shard(const hshm_allocator *a, struct shard *shard, size_t *ret_count)
{
    local_lock_take(&shard->lock);
    hshm_block *blocks = shard->count == 0 ? NULL : malloc(shard->count * sizeof *blocks);
    size_t count = 0;
    for (size_t at = 0; at < shard->capacity && blocks != NULL; at++) {
        void *addr = (void *)shard->places[at];
        if (addr != NULL)
            blocks[count++] = (hshm_block){ addr, hshm_to_off(a, addr), malloc_usable_size(addr) };
    }
    *ret_count = blocks == NULL ? shard->count : count;
    local_lock_give(&shard->lock);
    return blocks;
}

/* From a copy, so that fn may do what it likes with the heap, and nobody waits for it. */
static hshm_status
malloc_visit(hshm_allocator *a, hshm_visit_fn fn, void *arg)
{
    int stop = 0;
    for (size_t i = 0; i < SHARDS && stop == 0; i++) {
        size_t count;
        hshm_block *blocks = copy_shard(a, &a->live->shards[i], &count);
        if (blocks == NULL && count > 0)
            return fail(HSHM_E_NOSPC, "no memory for a list of %zu blocks of the Malloc heap %u.%u", count, a->id.major,
                        a->id.minor);
        for (size_t at = 0; at < count && stop == 0; at++)
            stop = fn(&blocks[at], arg);
        free(blocks);
    }
    return HSHM_OK;
}

static hshm_status
malloc_give_back(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes)
{
    (void)a;
    *ret_bytes = 0; /* malloc_trim tells whether, not how much */
    (void)malloc_trim((size_t)keep);
    return HSHM_OK;
}

static void
malloc_stats_of(hshm_allocator *a, hshm_stats *ret_stats)
{
    const struct malloc_root *root = a->counters;
    ret_stats->live_bytes = load_relaxed(&root->live_bytes);
    ret_stats->live_blocks = load_relaxed(&root->live_blocks);
    ret_stats->used_bytes = ret_stats->live_bytes;
    ret_stats->peak_bytes = load_relaxed(&root->peak_bytes);
    ret_stats->largest_free = room_left(a);
    ret_stats->allocs = load_relaxed(&root->allocs);
    ret_stats->frees = load_relaxed(&root->frees);
    ret_stats->failures = load_relaxed(&root->failures);
}

struct recount {
    uint64_t blocks, bytes;
};

static int
recount_block(const hshm_block *block, void *arg)
{
    struct recount *recount = arg;
    recount->blocks++;
    recount->bytes += block->size;
    return 0;
}

/* On a heap that nobody is changing: the books equal a recount. */
/* The counters follow the set, in two steps: of a thread in the middle of a call they may differ. */
static void
look_at_counters(struct check *check, uint64_t place, struct check_look *look)
{
    hshm_allocator *a = check->a;
    struct recount recount = { 0, 0 };
    (void)place;
    (void)malloc_visit(a, recount_block, &recount);
    if (recount.blocks != load_relaxed(&a->counters->live_blocks) ||
        recount.bytes != load_relaxed(&a->counters->live_bytes))
        check_note(look, CHECK_STALE, recount.blocks, "they differ from a recount");
}

static hshm_status
malloc_check(hshm_allocator *a, struct check *check)
{
    (void)a;
    return check_places(check, "the counters, line", look_at_counters, 1);
}

/* ---- making ---- */

static hshm_status
malloc_layout(const struct heap_wish *wish, struct heap_layout *ret_layout)
{
    const uint64_t root_off = align_up(wish->heap_off, CACHE_LINE);
    const uint64_t least = root_off + sizeof(struct malloc_root) + GRANULE;
    const uint64_t custom_size = wish->custom_size;
    const uint64_t region_size = wish->region_size;
    const uint64_t custom = custom_size <= region_size ? align_up(custom_size, CACHE_LINE) : custom_size;
    if (least > region_size || custom > region_size - least)
        return allocator_no_layout("Malloc", wish, least);
    *ret_layout = (struct heap_layout){ .root_off = root_off, .root_size = sizeof(struct malloc_root) };
    ret_layout->min_block = GRANULE;
    ret_layout->custom_size = custom_size;
    ret_layout->custom_off = custom_size == 0 ? 0 : root_off + sizeof(struct malloc_root);
    ret_layout->data_off = root_off + sizeof(struct malloc_root) + custom;
    ret_layout->data_size = align_down(region_size - ret_layout->data_off, GRANULE);
    return HSHM_OK;
}

/* As with every other kind, the blocks end with their heap. */
static void
malloc_close(hshm_allocator *a)
{
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &a->live->shards[i];
        for (size_t at = 0; at < shard->capacity; at++)
            free((void *)shard->places[at]);
        free(shard->places);
    }
    free(a->live);
    a->live = NULL;
}

static hshm_status
malloc_init(hshm_allocator *a, const struct heap_wish *wish)
{
    (void)wish;
    a->counters = (struct malloc_root *)(void *)(a->view.base + a->layout.root_off);
    a->live = aligned_alloc(CACHE_LINE, sizeof *a->live);
    if (a->live == NULL)
        return fail(HSHM_E_NOSPC, "no memory for the table of the Malloc heap's blocks");
    memset(a->live, 0, sizeof *a->live);
    bool whole = true;
    for (size_t i = 0; i < SHARDS; i++) {
        local_lock_init(&a->live->shards[i].lock);
        whole = whole && grow_shard(&a->live->shards[i]);
    }
    if (whole)
        return HSHM_OK;
    malloc_close(a);
    return fail(HSHM_E_NOSPC, "no memory for the table of the Malloc heap's blocks");
}

static void
malloc_fork_prepare(hshm_allocator *a)
{
    for (size_t i = 0; i < SHARDS; i++)
        local_lock_take(&a->live->shards[i].lock);
}

static void
malloc_fork_done(hshm_allocator *a)
{
    for (size_t i = SHARDS; i-- > 0;)
        local_lock_give(&a->live->shards[i].lock);
}

const struct allocator_ops alloc_malloc_ops = {
    .malloc = malloc_malloc,
    .free = malloc_free,
    .aligned = malloc_aligned,
    .realloc = malloc_realloc,
    .allocate_to = user_slot_allocate,
    .free_from = user_slot_free,
    .usable_size = malloc_usable,
    .visit = malloc_visit,
    .trim = malloc_give_back,
    .stats = malloc_stats_of,
    .check = malloc_check,
    .kind = HSHM_ALLOCATOR_MALLOC,
    .title = "Malloc",
    .needs = NEEDS_SYSTEM_MALLOC,
    .layout = malloc_layout,
    .init = malloc_init,
    .close = malloc_close,
    .owns = malloc_owns,
    .fork_prepare = malloc_fork_prepare,
    .fork_done = malloc_fork_done,
};
