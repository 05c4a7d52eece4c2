/*
 * work_sharing.c - do blocks of different workers lie in one cache line?
 *
 *   thrash   (active) each worker takes a small block and writes it many times: a heap that cuts one line for two workers
 *            makes them slow
 *   scratch  (passive) one worker takes a small block for each, side by side; each frees the one it was given and goes
 *            on as in thrash: a heap that gives it the same room again makes them slow
 */
#include "work.h"

enum { WRITES = 100 };

static void
write_many(void *block)
{
    volatile uint64_t *word = block;
    for (int i = 0; i < WRITES; i++)
        (*word)++;
}

static void
thrash_body(struct worker *worker)
{
    const heap_ref heap = worker->heap;
    const size_t size = (size_t)worker->params->size_min;
    for (uint64_t i = 0; i < worker->params->ops; i += WRITES) {
        void *block = take(heap, size);
        write_first(block, i);
        write_many(block);
        heap_free(heap, block);
        worker->ops += WRITES;
    }
}

static size_t
scratch_bytes(const struct suite_params *params)
{
    return sizeof(uint64_t) * params->threads * params->processes;
}

static void
scratch_prepare(struct worker *worker)
{
    uint64_t *given = worker->shared;
    for (unsigned i = 0; worker->index == 0 && i < worker->count; i++) {
        void *block = take(worker->heap, (size_t)worker->params->size_min);
        write_first(block, i);
        given[i] = heap_handle(worker->heap, block);
    }
}

static void
scratch_body(struct worker *worker)
{
    const uint64_t *given = worker->shared;
    void *block = heap_address(worker->heap, given[worker->index]);
    write_many(block);
    heap_free(worker->heap, block);
    thrash_body(worker);
}

const struct work work_thrash = {
    .name = "thrash",
    .text = "take a small block, write it 100 times, free it; op = a write",
    .defaults = { .size_min = 8, .size_max = 8, .ops = 20000000, .workers_min = 1 },
    .body = thrash_body,
};

const struct work work_scratch = {
    .name = "scratch",
    .text = "free a block that lay beside the others', then as thrash; op = a write",
    .flags = WORK_CROSSES,
    .defaults = { .size_min = 8, .size_max = 8, .ops = 20000000, .workers_min = 1 },
    .shared_bytes = scratch_bytes,
    .prepare = scratch_prepare,
    .body = scratch_body,
};
