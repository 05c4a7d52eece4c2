/*
 * slab_layout.c - where the parts of a heap of slabs lie in its region.
 *
 * Everything follows from few numbers: the region's size, the smallest block, how many slices there are, threads and shards.
 * The creator computes them, the root keeps them, and who attaches computes all the rest again and compares.
 */
#include <hshm/inline.h>
#include <inttypes.h>

#include "allocator/allocator.h"
#include "base/checked.h"
#include "base/error.h"

enum {
    SLICE_SHIFT_MIN = 10, /* of slabs: with smaller slices the records would be most of it */
    BLOCKS_LEAST = 4,     /* in a slab, if it is not too large for the heap then                   */
    BLOCKS_WANTED = 16,   /* likewise, when a class has some slabs already                         */
    SLAB_SLICES_MAX = 64, /* 4 MiB                                                                 */
    SHARDS_MAX = 16,
    THREAD_SLOTS_LEAST = 4,
    MAIL_WORDS_MAX = 64 /* as many as a slot's mail word has bits */
};

/* What the offsets follow from; as the root has it. */
struct geometry {
    uint64_t slices;
    uint32_t slice_shift;
    uint32_t block_shift;
    uint32_t thread_slots;
    uint32_t shards;
    bool has_owners;
};

/* Offsets from the table's begin, and sizes of parts. */
struct parts {
    uint64_t taken, shelves, threads, mail, shards, records, end;
    uint64_t taken_words, shelf_words, shard_size, record_size, max_size;
    uint32_t words, classes, mail_words;
};

static uint32_t
shelves_each(const struct geometry *g)
{
    return g->shards == 0 ? 1 : g->shards;
}

static struct parts
parts_of(const struct geometry *g)
{
    struct parts p = { 0 };
    const uint64_t slice = UINT64_C(1) << g->slice_shift;
    p.max_size = min_u64(slice * SLAB_BLOCK_SLICES, UINT64_C(1) << 30);
    p.classes = class_of_units(p.max_size >> g->block_shift) + 1;
    p.words = words_for(slice >> g->block_shift);
    p.taken_words = (g->slices + WORD_BITS - 1) / WORD_BITS;
    p.record_size = sizeof(struct slab_record) + p.words * sizeof(bits_word) * 2;
    p.shard_size = align_up(sizeof(struct slab_shard) + p.classes * sizeof(uint64_t), CACHE_LINE);
    while (p.mail_words < MAIL_WORDS_MAX && p.mail_words * UINT64_C(64) < g->slices)
        p.mail_words = p.mail_words == 0 ? 1 : p.mail_words * 2;

    p.taken = align_up(g->slices * sizeof(slice_word), CACHE_LINE);
    p.shelves = align_up(p.taken + p.taken_words * sizeof(uint64_t), CACHE_LINE);
    p.shelf_words = p.taken_words + 1;
    p.threads =
        align_up(p.shelves + (uint64_t)p.classes * shelves_each(g) * p.shelf_words * sizeof(uint64_t), CACHE_LINE);
    p.mail = p.threads + g->thread_slots * sizeof(struct slab_thread);
    p.shards = align_up(p.mail + (uint64_t)g->thread_slots * p.mail_words * sizeof(uint64_t), CACHE_LINE);
    p.records = p.shards + g->shards * p.shard_size;
    p.end = align_up(p.records + g->slices * p.record_size, CACHE_LINE);
    return p;
}

/* A region's slices; small regions have small ones, so that they have many. */
static uint32_t
slice_shift_for(uint64_t region_size, uint32_t block_shift)
{
    const uint32_t shift = region_slice_shift(region_size);
    const uint32_t least = block_shift + 4 > SLICE_SHIFT_MIN ? block_shift + 4 : SLICE_SHIFT_MIN;
    return shift > least ? shift : least;
}

static uint32_t
thread_slots_for(uint64_t region_size)
{
    if (region_size < UINT64_C(64) << 10)
        return THREAD_SLOTS_LEAST;
    if (region_size < UINT64_C(1) << 20)
        return 16;
    if (region_size < UINT64_C(16) << 20)
        return 64;
    return region_size < UINT64_C(64) << 20 ? 1024 : 4096;
}

static uint32_t
log2_of(uint64_t power)
{
    return (uint32_t)__builtin_ctzll(power);
}

static struct geometry
geometry_for(const struct heap_wish *wish, bool has_owners)
{
    struct geometry g = { .block_shift = log2_of(wish->min_block), .has_owners = has_owners };
    g.slice_shift = wish->data_off != 0 ? SLICE_SHIFT_MAX : slice_shift_for(wish->region_size, g.block_shift);
    if (has_owners)
        g.thread_slots = thread_slots_for(wish->region_size);
    else
        for (g.shards = 1; g.shards < wish->cpus && g.shards < SHARDS_MAX && g.slice_shift == SLICE_SHIFT_MAX;)
            g.shards *= 2;
    return g;
}

/* Where a heap lies whose table begins at `begin`; false when it is more than the region has. */
static bool
place_parts(const struct heap_wish *wish, uint64_t begin, const struct geometry *g, struct heap_layout *ret_layout)
{
    const uint64_t slice = UINT64_C(1) << g->slice_shift;
    const uint64_t table = parts_of(g).end;
    const uint64_t root = begin + table;
    const uint64_t root_size = sizeof(struct slab_root) + op_table_size(wish->scale);
    const uint64_t custom = root + root_size;
    if (wish->custom_size > wish->region_size || custom > wish->region_size)
        return false;
    /* Data begins at a slice's multiple, so that blocks are aligned where the region is; small slices save the room. */
    const uint64_t least =
        align_up(custom + wish->custom_size,
                 g->slice_shift == SLICE_SHIFT_MAX ? slice : max_u64(CACHE_LINE, UINT64_C(1) << g->block_shift));
    const uint64_t data = wish->data_off != 0 ? wish->data_off : least;
    if (custom + wish->custom_size > data || data > wish->region_size ||
        g->slices > (wish->region_size - data) >> g->slice_shift)
        return false;
    *ret_layout = (struct heap_layout){
        .table_off = begin,
        .table_size = table,
        .root_off = root,
        .root_size = root_size,
        .custom_off = wish->custom_size == 0 ? 0 : custom,
        .custom_size = wish->custom_size,
        .data_off = data,
        .data_size = g->slices << g->slice_shift,
        .min_block = wish->min_block,
    };
    return true;
}

/* As many slices as fit: found by halving, since the table grows with them. */
static uint64_t
most_slices(const struct heap_wish *wish, uint64_t begin, struct geometry *g, struct heap_layout *ret_layout)
{
    uint64_t fit = 0;
    uint64_t too_many = min_u64(wish->region_size >> g->slice_shift, SLICES_MAX) + 1;
    while (too_many - fit > 1) {
        g->slices = fit + (too_many - fit) / 2;
        if (place_parts(wish, begin, g, ret_layout))
            fit = g->slices;
        else
            too_many = g->slices;
    }
    g->slices = fit;
    return fit;
}

/* Of a device's memory little may be control data, however small it is: fewer threads, fewer shards. */
static void
fit_device(const struct heap_wish *wish, uint64_t begin, struct geometry *g)
{
    const uint64_t most = (wish->region_size - wish->data_off) / REGION_DEVICE_CONTROL;
    const uint64_t others = begin + sizeof(struct slab_root) + op_table_size(wish->scale);
    g->slices = (wish->region_size - wish->data_off) >> g->slice_shift;
    while (parts_of(g).end + others > most && (g->thread_slots > THREAD_SLOTS_LEAST || g->shards > 1)) {
        g->thread_slots /= 2;
        g->shards /= 2;
    }
}

/* The creator's and, but for the number of slices, what the root says then. */
static struct geometry
geometry_wished(const struct heap_wish *wish, bool has_owners)
{
    struct geometry g = geometry_for(wish, has_owners);
    if (wish->data_off != 0)
        fit_device(wish, align_up(wish->heap_off, CACHE_LINE), &g);
    return g;
}

hshm_status
slab_layout(const struct heap_wish *wish, const char *title, bool has_owners, struct heap_layout *ret_layout)
{
    struct geometry g = geometry_wished(wish, has_owners);
    const uint64_t begin = align_up(wish->heap_off, CACHE_LINE);
    if (wish->heap_off / sizeof(struct region_slot) >= SLICE_PROCESS_NONE)
        return fail(HSHM_E_INVAL, "a region for a %s heap has %llu slots for processes at most; ask for fewer", title,
                    (unsigned long long)SLICE_PROCESS_NONE);
    if (most_slices(wish, begin, &g, ret_layout) == 0) {
        g.slices = 1;
        return allocator_no_layout(title, wish,
                                   begin + parts_of(&g).end + sizeof(struct slab_root) + op_table_size(wish->scale) +
                                       (UINT64_C(1) << g.slice_shift));
    }
    (void)place_parts(wish, begin, &g, ret_layout);
    return HSHM_OK;
}

hshm_status
slab_check_layout(const struct heap_layout *layout, const char *name)
{
    if (layout->data_size == 0 || layout->root_size < sizeof(struct slab_root) || layout->root_off == 0 ||
        layout->table_off == 0)
        return fail(HSHM_E_CORRUPT, "%s is damaged: table (%s), root (%s) and data (%s) are no heap's of slabs", name,
                    size_text(layout->table_size).s, size_text(layout->root_size).s, size_text(layout->data_size).s);
    return HSHM_OK;
}

/* Slices of the size that <hshm/inline.h> knows, at addresses that it can compute with. */
static bool
suits_inline(const struct slab_heap *h)
{
    return h->has_owners && h->shift == HSHM_INLINE_SLICE_SHIFT && h->block_shift >= HSHM_INLINE_UNIT_SHIFT &&
           ((uintptr_t)h->data & ((UINT64_C(1) << h->shift) - 1)) == 0;
}

/* No slab for more than a 128th of the heap, if it can be smaller. */
static uint32_t
most_slices_of_slab(uint64_t slices)
{
    return (uint32_t)min_u64(max_u64(slices / 128, 1), SLAB_SLICES_MAX);
}

static void
set_view(hshm_allocator *a, const struct geometry *g)
{
    struct slab_heap *h = &a->slab;
    const struct parts p = parts_of(g);
    unsigned char *table = a->view.base + a->layout.table_off;
    h->root = (struct slab_root *)(void *)(a->view.base + a->layout.root_off);
    h->slices = (slice_word *)(void *)table;
    h->taken = (_Atomic uint64_t *)(void *)(table + p.taken);
    h->shelves = (_Atomic uint64_t *)(void *)(table + p.shelves);
    h->threads = (struct slab_thread *)(void *)(table + p.threads);
    h->mail = (_Atomic uint64_t *)(void *)(table + p.mail);
    h->shards = table + p.shards;
    h->records = table + p.records;
    h->data = a->view.base + a->layout.data_off;
    h->count = g->slices;
    h->taken_words = p.taken_words;
    h->shelf_words = p.shelf_words;
    h->shard_size = p.shard_size;
    h->record_size = p.record_size;
    h->max_size = p.max_size;
    h->shift = g->slice_shift;
    h->slice_mask = (UINT64_C(1) << h->shift) - 1;
    h->block_shift = g->block_shift;
    h->words = p.words;
    h->word_mask = h->words - 1;
    h->classes = p.classes;
    h->thread_slots = g->thread_slots;
    h->mail_words = p.mail_words;
    h->shard_count = g->shards;
    h->shelves_each = shelves_each(g);
    h->has_owners = g->has_owners;
    h->index = -1;
    for (uint32_t class = 0; class < h->classes; class ++) {
        h->sizes[class] = (uint32_t)(units_of_class(class) << h->block_shift);
        h->cuts[class] = slab_cut(h->sizes[class], h->shift, BLOCKS_LEAST, most_slices_of_slab(h->count));
        h->large_cuts[class] = slab_cut(h->sizes[class], h->shift, BLOCKS_WANTED, most_slices_of_slab(h->count));
    }
    for (size_t granules = 0; granules < COUNTOF(h->small_class); granules++)
        h->small_class[granules] = (uint8_t)slab_class(h, granules * GRANULE);
    a->view.data = h->data;
    a->view.records = h->records;
    a->view.record_size = h->record_size;
    a->view.slices = suits_inline(h) ? h->count : 0;
}

void
slab_init(hshm_allocator *a, const struct heap_wish *wish, bool has_owners)
{
    struct geometry g = geometry_wished(wish, has_owners);
    g.slices = a->layout.data_size >> g.slice_shift;
    set_view(a, &g);
    op_init(a, sizeof(struct slab_root), wish->scale);
    struct slab_root *root = a->slab.root;
    root->slices = g.slices;
    root->slice_shift = g.slice_shift;
    root->block_shift = g.block_shift;
    root->thread_slots = g.thread_slots;
    root->shards = g.shards;
    root->lifetime = wish->lifetime;
    for (uint64_t slice = 0; slice < g.slices && !wish->zeroed; slice++)
        store_relaxed(&a->slab.slices[slice], slice_make(SLICE_DIRTY, 0, 0));
}

/* Numbers that multiply and shift without a care; that they belong together, the sizes of the parts tell. */
static bool
is_possible(const struct geometry *g, const struct heap_layout *layout)
{
    return g->block_shift == log2_of(layout->min_block) && g->slice_shift >= SLICE_SHIFT_MIN &&
           g->slice_shift <= SLICE_SHIFT_MAX && g->slice_shift >= g->block_shift + 4 && g->slices > 0 &&
           g->slices <= SLICES_MAX && g->slices << g->slice_shift == layout->data_size &&
           (g->has_owners
                ? g->thread_slots > 0 && g->thread_slots <= 65536 && g->shards == 0
                : g->thread_slots == 0 && g->shards > 0 && g->shards <= SHARDS_MAX && is_power_of_two(g->shards));
}

hshm_status
slab_open(hshm_allocator *a, const char *name, bool has_owners)
{
    const volatile struct slab_root *root =
        (const volatile struct slab_root *)(void *)(a->view.base + a->layout.root_off);
    const struct geometry g = {
        .slices = root->slices,
        .slice_shift = root->slice_shift,
        .block_shift = root->block_shift,
        .thread_slots = root->thread_slots,
        .shards = root->shards,
        .has_owners = has_owners,
    };
    if (!is_possible(&g, &a->layout) || parts_of(&g).end != a->layout.table_size)
        return fail(HSHM_E_CORRUPT,
                    "%s is damaged: its root describes %" PRIu64 " slices of 2^%" PRIu32 " bytes, %" PRIu32
                    " threads and %" PRIu32 " shards, which is not what its table has room for; do not use it, restore "
                    "it from a copy or remove it",
                    name, g.slices, g.slice_shift, g.thread_slots, g.shards);
    set_view(a, &g);
    op_view(a, sizeof(struct slab_root));
    return HSHM_OK;
}
