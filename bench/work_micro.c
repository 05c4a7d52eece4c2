/*
 * work_micro.c - the smallest patterns: take and free at once, and batches freed in the order taken or in reverse.
 */
#include "work.h"

static void
pair_body(struct worker *worker)
{
    const heap_ref heap = worker->heap;
    const size_t size = (size_t)worker->params->size_min;
    const uint64_t ops = worker->params->ops;
    for (uint64_t i = 0; i < ops; i++) {
        void *block = take(heap, size);
        write_first(block, i);
        heap_free(heap, block);
    }
    worker->ops += ops;
}

/* The first round finds memory untouched and caches empty; it is not what these workloads are about. */
static void
pair_prepare(struct worker *worker)
{
    void *block = take(worker->heap, (size_t)worker->params->size_min);
    write_first(block, 1);
    heap_free(worker->heap, block);
}

static void
take_batch(heap_ref heap, void **blocks, size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        blocks[i] = take(heap, size);
        write_first(blocks[i], i);
    }
}

static void
free_in_order(heap_ref heap, void **blocks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        heap_free(heap, blocks[i]);
}

static void
free_in_reverse(heap_ref heap, void **blocks, size_t count)
{
    for (size_t i = count; i > 0; i--)
        heap_free(heap, blocks[i - 1]);
}

static void
batch_prepare(struct worker *worker)
{
    const size_t count = (size_t)worker->params->live;
    worker->own = suite_table(count * sizeof(void *));
    take_batch(worker->heap, worker->own, count, (size_t)worker->params->size_min);
    free_in_order(worker->heap, worker->own, count);
}

static void
fifo_body(struct worker *worker)
{
    const struct suite_params *params = worker->params;
    for (uint64_t done = 0; done < params->ops; done += params->live) {
        take_batch(worker->heap, worker->own, (size_t)params->live, (size_t)params->size_min);
        free_in_order(worker->heap, worker->own, (size_t)params->live);
        worker->ops += params->live;
    }
}

static void
lifo_body(struct worker *worker)
{
    const struct suite_params *params = worker->params;
    for (uint64_t done = 0; done < params->ops; done += params->live) {
        take_batch(worker->heap, worker->own, (size_t)params->live, (size_t)params->size_min);
        free_in_reverse(worker->heap, worker->own, (size_t)params->live);
        worker->ops += params->live;
    }
}

const struct work work_pair = {
    .name = "pair",
    .text = "take a block and free it at once; op = both",
    .defaults = { .size_min = 64, .size_max = 64, .live = 1, .ops = 3000000, .workers_min = 1 },
    .prepare = pair_prepare,
    .body = pair_body,
};

const struct work work_fifo = {
    .name = "fifo",
    .text = "take --live blocks, free them in that order; op = take and free",
    .defaults = { .size_min = 64, .size_max = 64, .live = 1000, .ops = 3000000, .workers_min = 1 },
    .prepare = batch_prepare,
    .body = fifo_body,
};

const struct work work_lifo = {
    .name = "lifo",
    .text = "take --live blocks, free the last one first; op = take and free",
    .defaults = { .size_min = 64, .size_max = 64, .live = 1000, .ops = 3000000, .workers_min = 1 },
    .prepare = batch_prepare,
    .body = lifo_body,
};
