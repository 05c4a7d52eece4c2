/*
 * work_random.c - blocks of random sizes and lives, each worker with its own: replacing, large ones, batches, filling.
 */
#include "work.h"

/* ---- random: replace any of many live blocks ---- */

struct slot {
    void *block;
    size_t size;
};

static void
put(struct worker *worker, struct slot *slot, size_t size)
{
    slot->block = take(worker->heap, size);
    slot->size = size;
    write_first(slot->block, size);
    worker->live_bytes += size;
}

static void
random_prepare(struct worker *worker)
{
    const size_t count = (size_t)worker->params->live;
    struct slot *slots = suite_table(count * sizeof *slots);
    struct rng rng = rng_of(worker->index);
    for (size_t i = 0; i < count; i++)
        put(worker, &slots[i], rng_size(&rng, worker->params));
    worker->live_blocks = count;
    worker->own = slots;
}

static void
random_body(struct worker *worker)
{
    const struct suite_params *params = worker->params;
    struct slot *slots = worker->own;
    struct rng rng = rng_of(worker->index + SUITE_WORKERS_MAX);
    for (uint64_t i = 0; i < params->ops; i++) {
        struct slot *slot = &slots[rng_below(&rng, params->live)];
        worker->live_bytes -= slot->size;
        heap_free(worker->heap, slot->block);
        put(worker, slot, rng_size(&rng, params));
    }
    worker->ops += params->ops;
}

/* ---- large: the same with blocks of many pages, all of them touched ---- */

static void
large_body(struct worker *worker)
{
    const struct suite_params *params = worker->params;
    struct slot *slots = worker->own;
    struct rng rng = rng_of(worker->index + SUITE_WORKERS_MAX);
    for (uint64_t i = 0; i < params->ops; i++) {
        struct slot *slot = &slots[rng_below(&rng, params->live)];
        worker->live_bytes -= slot->size;
        heap_free(worker->heap, slot->block);
        put(worker, slot, rng_size(&rng, params));
        write_pages(slot->block, slot->size);
    }
    worker->ops += params->ops;
}

/* ---- fill: take and never free; every byte is written ---- */

static void
fill_body(struct worker *worker)
{
    const struct suite_params *params = worker->params;
    const heap_ref heap = worker->heap;
    struct rng rng = rng_of(worker->index);
    for (uint64_t i = 0; i < params->live; i++) {
        const size_t size = rng_size(&rng, params);
        memset(take(heap, size), (int)i, size);
        worker->live_bytes += size;
    }
    worker->live_blocks = params->live;
    worker->ops += params->live;
}

/* ---- batch: many sizes at once, half of them freed in random order ---- */

static const uint16_t batch_sizes[] = { 24,  8,  120, 32, 64,  200, 16,  48, 350, 96,  1000, 40,
                                        512, 16, 72,  24, 160, 32,  640, 56, 88,  256, 8,    2000 };

struct batch {
    void **blocks;
    uint32_t *order; /* a permutation of the slots */
};

static void
batch_prepare(struct worker *worker)
{
    const size_t count = (size_t)worker->params->live;
    struct batch *batch = suite_table(sizeof *batch);
    batch->blocks = suite_table(count * sizeof *batch->blocks);
    batch->order = suite_table(count * sizeof *batch->order);
    struct rng rng = rng_of(worker->index);
    for (size_t i = 0; i < count; i++) {
        const size_t j = (size_t)rng_below(&rng, i + 1);
        batch->order[i] = batch->order[j];
        batch->order[j] = (uint32_t)i;
    }
    worker->own = batch;
}

/* Round after round another half of the slots, one slot in two of the permutation, is emptied and filled again. */
static void
batch_body(struct worker *worker)
{
    const struct suite_params *params = worker->params;
    const struct batch *batch = worker->own;
    const heap_ref heap = worker->heap;
    size_t kind = worker->index;
    size_t start = 0;
    for (uint64_t done = 0; done < params->ops;) {
        for (size_t i = 0; i < params->live; i++) {
            if (batch->blocks[i] != NULL)
                continue;
            batch->blocks[i] = take(heap, batch_sizes[kind++ % (sizeof batch_sizes / sizeof batch_sizes[0])]);
            write_first(batch->blocks[i], i);
            done++;
            worker->ops++;
        }
        for (size_t i = start; i < params->live; i += 2) {
            heap_free(heap, batch->blocks[batch->order[i]]);
            batch->blocks[batch->order[i]] = NULL;
        }
        start ^= 1;
    }
    for (size_t i = 0; i < params->live; i++)
        worker->live_blocks += batch->blocks[i] != NULL;
}

#define MIB UINT64_C(1048576)

const struct work work_random = {
    .name = "random",
    .text = "--live blocks of --size, any of which is replaced by a new one; op = free and take",
    .defaults = { .size_min = 16, .size_max = 1024, .live = 100000, .ops = 500000, .workers_min = 1 },
    .prepare = random_prepare,
    .body = random_body,
};

const struct work work_large = {
    .name = "large",
    .text = "--live blocks of 5 to 25 MiB, replaced; a byte in each page is written; op = free and take",
    .defaults = { .size_min = 5 * MIB, .size_max = 25 * MIB, .live = 8, .ops = 200, .workers_min = 1 },
    .prepare = random_prepare,
    .body = large_body,
};

const struct work work_fill = {
    .name = "fill",
    .text = "take --live blocks of --size, write all of each, free none; op = a block",
    .defaults = { .size_min = 64, .size_max = 64, .live = 4194304, .workers_min = 1 },
    .body = fill_body,
};

const struct work work_batch = {
    .name = "batch",
    .text = "--live blocks of many sizes, half of which are freed in random order and taken anew; op = take and free",
    .defaults = { .live = 5000, .ops = 1000000, .workers_min = 1 },
    .prepare = batch_prepare,
    .body = batch_body,
};
