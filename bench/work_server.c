/*
 * work_server.c - workers that come and go, and blocks that outlive them.
 *
 *   server  each worker replaces blocks of its table and then dies; its successor inherits the table, and frees what a
 *           dead thread, or a dead process, allocated
 *   stress  the same, of very mixed sizes, and blocks change hands between living workers, too
 *
 * All state is in the shared table, as handles, because the next generation may be another process.
 */
#include "work.h"

enum { TRANSFER_SLOTS = 1024 };

/* One worker's, handed from generation to generation. */
struct lane {
    _Alignas(SUITE_CACHE_LINE) struct rng rng;
    uint64_t live_bytes;
    uint64_t live_blocks;
    uint64_t slots[]; /* handles of blocks; 0 = none.  A block's first word is its size, hidden by the key */
};

static const uint64_t key = UINT64_C(0x6873686d6b657921);

static size_t
lane_bytes(const struct suite_params *params)
{
    const size_t bytes = sizeof(struct lane) + (size_t)params->live * sizeof(uint64_t);
    return (bytes + SUITE_CACHE_LINE - 1) / SUITE_CACHE_LINE * SUITE_CACHE_LINE;
}

static size_t
server_bytes(const struct suite_params *params)
{
    return lane_bytes(params) * params->threads * params->processes;
}

static size_t
stress_bytes(const struct suite_params *params)
{
    return server_bytes(params) + TRANSFER_SLOTS * sizeof(uint64_t);
}

static struct lane *
lane_of(const struct worker *worker)
{
    return (struct lane *)(void *)((char *)worker->shared + lane_bytes(worker->params) * worker->index);
}

static _Atomic uint64_t *
transfer_of(const struct worker *worker)
{
    return (_Atomic uint64_t *)(void *)((char *)worker->shared + server_bytes(worker->params));
}

static void
fill_slot(heap_ref heap, struct lane *lane, uint64_t *slot, size_t size)
{
    void *block = take(heap, size);
    write_first(block, size ^ key);
    *slot = heap_handle(heap, block);
    lane->live_bytes += size;
    lane->live_blocks++;
}

/* Programs read what they free; so does this, and finds out when two blocks were one. */
static void
empty_slot(heap_ref heap, struct lane *lane, uint64_t *slot)
{
    if (*slot == 0)
        return;
    void *block = heap_address(heap, *slot);
    const uint64_t size = read_first(block) ^ key;
    if (__builtin_expect(size > UINT32_MAX, 0))
        suite_fail("the bytes of a live block have changed");
    heap_free(heap, block);
    *slot = 0;
    lane->live_bytes -= size;
    lane->live_blocks--;
}

static void
tell_live(struct worker *worker, const struct lane *lane)
{
    worker->live_bytes = lane->live_bytes;
    worker->live_blocks = lane->live_blocks;
}

static void
server_prepare(struct worker *worker)
{
    struct lane *lane = lane_of(worker);
    lane->rng = rng_of(worker->index);
    for (uint64_t i = 0; i < worker->params->live; i++)
        fill_slot(worker->heap, lane, &lane->slots[i], rng_size(&lane->rng, worker->params));
    tell_live(worker, lane);
}

static void
server_body(struct worker *worker)
{
    const struct suite_params *params = worker->params;
    struct lane *lane = lane_of(worker);
    const uint64_t ops = params->ops / params->rounds;
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t *slot = &lane->slots[rng_below(&lane->rng, params->live)];
        empty_slot(worker->heap, lane, slot);
        fill_slot(worker->heap, lane, slot, rng_size(&lane->rng, params));
    }
    worker->ops += ops;
    tell_live(worker, lane);
}

/* Mostly small, one in 64 up to 16 KiB, one in 4096 up to 256 KiB. */
static size_t
mixed_size(struct rng *rng)
{
    const uint64_t dice = rng_below(rng, 4096);
    if (dice == 0)
        return (size_t)(16384 + rng_below(rng, 262144 - 16384));
    if (dice <= 64)
        return (size_t)(1024 + rng_below(rng, 16384 - 1024));
    return (size_t)(16 + rng_below(rng, 1024 - 16));
}

static void
stress_prepare(struct worker *worker)
{
    struct lane *lane = lane_of(worker);
    lane->rng = rng_of(worker->index);
    for (uint64_t i = 0; i < worker->params->live; i++)
        fill_slot(worker->heap, lane, &lane->slots[i], mixed_size(&lane->rng));
    tell_live(worker, lane);
}

/*
 * One op in four puts a block where others find it and takes what lay there.  Which block that is depends on who came
 * first; that there is one, and what is done with it, does not.  Live bytes are counted modulo 2^64 in each lane (a lane
 * may free more than it took), and are right in the sum, but for the blocks in transfer, which no lane has given up.
 */
static void
stress_body(struct worker *worker)
{
    const struct suite_params *params = worker->params;
    struct lane *lane = lane_of(worker);
    _Atomic uint64_t *transfer = transfer_of(worker);
    const uint64_t ops = params->ops / params->rounds;
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t *slot = &lane->slots[rng_below(&lane->rng, params->live)];
        if (rng_below(&lane->rng, 4) == 0) {
            _Atomic uint64_t *place = &transfer[rng_below(&lane->rng, TRANSFER_SLOTS)];
            *slot = atomic_exchange_explicit(place, *slot, memory_order_acq_rel);
        } else {
            empty_slot(worker->heap, lane, slot);
            fill_slot(worker->heap, lane, slot, mixed_size(&lane->rng));
        }
    }
    worker->ops += ops;
    tell_live(worker, lane);
}

const struct work work_server = {
    .name = "server",
    .text = "replace blocks of a table, then die; a new worker goes on, --rounds times; op = free and take",
    .flags = WORK_CROSSES | WORK_REPLACED,
    .defaults = { .size_min = 16, .size_max = 512, .live = 5000, .ops = 1000000, .rounds = 20, .workers_min = 1 },
    .shared_bytes = server_bytes,
    .prepare = server_prepare,
    .body = server_body,
};

const struct work work_stress = {
    .name = "stress",
    .text = "mixed sizes, blocks change hands, workers are replaced --rounds times; op = free and take, or an exchange",
    .flags = WORK_CROSSES | WORK_REPLACED,
    .defaults = { .live = 5000, .ops = 500000, .rounds = 10, .workers_min = 1 },
    .shared_bytes = stress_bytes,
    .prepare = stress_prepare,
    .body = stress_body,
};
