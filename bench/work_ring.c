/*
 * work_ring.c - one allocates, another frees.
 *
 *   ring      workers 2i and 2i + 1 are a producer and a consumer with a ring between them
 *   consumer  the last worker frees what all others replace in their tables, and allocates nothing itself: free memory
 *             gathers where nobody allocates, unless the heap brings it back
 *
 * A worker whose ring is empty, or full, spins a little and then yields: wall time is what counts here; CPU time has the
 * waiting in it.
 */
#include "work.h"

#include <sched.h>

enum {
    RING_SLOTS = 1024, /* a power of two    */
    RING_BATCH = 32,   /* a divisor of that */
    SPINS_MAX = 64
};

/*
 * One writer, one reader.  Each side keeps its own copy of the other's count, looks only when that says "wait", and tells
 * the other only of whole batches.  So the ring's own cache lines change hands seldom, and it is the blocks' and the heap's
 * that are measured; told of each block, a waiting reader and its writer run in step, an order of magnitude slower, and
 * chance decides in which runs.
 */
struct ring {
    _Alignas(SUITE_CACHE_LINE) _Atomic uint64_t written; /* as the reader may know */
    _Alignas(SUITE_CACHE_LINE) _Atomic uint64_t read;    /* as the writer may know */
    _Alignas(SUITE_CACHE_LINE) uint64_t written_own;     /* the writer's           */
    uint64_t read_seen;
    _Alignas(SUITE_CACHE_LINE) uint64_t read_own; /* the reader's */
    uint64_t written_seen;
    _Alignas(SUITE_CACHE_LINE) uint64_t slots[RING_SLOTS];
};

static void
wait_a_little(unsigned *spins)
{
    if (++*spins % SPINS_MAX == 0)
        (void)sched_yield();
}

static bool
ring_full(struct ring *ring)
{
    if (ring->written_own - ring->read_seen < RING_SLOTS)
        return false;
    /* Pairs with the release in ring_try_get(): a slot is not written anew before it was read. */
    ring->read_seen = atomic_load_explicit(&ring->read, memory_order_acquire);
    return ring->written_own - ring->read_seen >= RING_SLOTS;
}

/* Pairs with the acquire in ring_try_get(): slots and the blocks' bytes are there before the count says so. */
static void
ring_flush(struct ring *ring)
{
    atomic_store_explicit(&ring->written, ring->written_own, memory_order_release);
}

static void
ring_put(struct ring *ring, uint64_t handle)
{
    for (unsigned spins = 0; ring_full(ring);)
        wait_a_little(&spins);
    ring->slots[ring->written_own++ % RING_SLOTS] = handle;
    if (ring->written_own % RING_BATCH == 0)
        ring_flush(ring);
}

static bool
ring_try_get(struct ring *ring, uint64_t *ret_handle)
{
    if (ring->read_own == ring->written_seen) {
        ring->written_seen = atomic_load_explicit(&ring->written, memory_order_acquire);
        if (ring->read_own == ring->written_seen)
            return false;
    }
    *ret_handle = ring->slots[ring->read_own++ % RING_SLOTS];
    if (ring->read_own % RING_BATCH == 0)
        atomic_store_explicit(&ring->read, ring->read_own, memory_order_release);
    return true;
}

/* First word: the size.  Last byte: its lowest byte. */
static uint64_t
make_block(heap_ref heap, size_t size)
{
    unsigned char *block = take(heap, size);
    write_first(block, size);
    ((volatile unsigned char *)block)[size - 1] = (unsigned char)size;
    return heap_handle(heap, block);
}

/* The last byte of a block of 8 bytes is the highest of its first word. */
static void
use_up_block(heap_ref heap, uint64_t handle)
{
    const unsigned char *block = heap_address(heap, handle);
    const uint64_t size = read_first(block) & UINT32_MAX;
    if (__builtin_expect(size < sizeof size || block[size - 1] != (unsigned char)size, 0))
        suite_fail("the bytes of a block have changed on the way");
    heap_free(heap, (void *)(uintptr_t)block);
}

/* ---- ring ---- */

static size_t
ring_bytes(const struct suite_params *params)
{
    return sizeof(struct ring) * params->threads * params->processes;
}

static void
produce(struct worker *worker, struct ring *ring)
{
    struct rng rng = rng_of(worker->index);
    for (uint64_t i = 0; i < worker->params->ops; i++)
        ring_put(ring, make_block(worker->heap, rng_size(&rng, worker->params)));
    ring_flush(ring);
}

static void
consume(struct worker *worker, struct ring *ring)
{
    for (uint64_t i = 0; i < worker->params->ops; i++) {
        uint64_t handle;
        for (unsigned spins = 0; !ring_try_get(ring, &handle);)
            wait_a_little(&spins);
        use_up_block(worker->heap, handle);
    }
    worker->ops += worker->params->ops;
}

static void
ring_body(struct worker *worker)
{
    struct ring *ring = (struct ring *)worker->shared + worker->index / 2;
    if (worker->index % 2 == 1)
        consume(worker, ring);
    else if (worker->index + 1 < worker->count)
        produce(worker, ring);
}

/* ---- consumer ---- */

static void
consumer_prepare(struct worker *worker)
{
    if (worker->index + 1 == worker->count)
        return;
    const size_t count = (size_t)worker->params->live;
    uint64_t *slots = suite_table(count * sizeof *slots);
    struct rng rng = rng_of(worker->index);
    for (size_t i = 0; i < count; i++) {
        const size_t size = rng_size(&rng, worker->params);
        slots[i] = make_block(worker->heap, size);
        worker->live_bytes += size;
    }
    worker->live_blocks = count;
    worker->own = slots;
}

static void
replace_blocks(struct worker *worker, struct ring *ring)
{
    const struct suite_params *params = worker->params;
    uint64_t *slots = worker->own;
    struct rng rng = rng_of(worker->index + SUITE_WORKERS_MAX);
    for (uint64_t i = 0; i < params->ops; i++) {
        uint64_t *slot = &slots[rng_below(&rng, params->live)];
        ring_put(ring, *slot);
        *slot = make_block(worker->heap, rng_size(&rng, params));
    }
    ring_flush(ring);
}

static void
free_for_all(struct worker *worker, struct ring *rings)
{
    const unsigned producers = worker->count - 1;
    const uint64_t ops = worker->params->ops * producers;
    unsigned spins = 0;
    for (uint64_t done = 0; done < ops;) {
        const uint64_t before = done;
        for (unsigned i = 0; i < producers; i++) {
            uint64_t handle;
            if (!ring_try_get(&rings[i], &handle))
                continue;
            use_up_block(worker->heap, handle);
            done++;
        }
        if (done == before)
            wait_a_little(&spins);
    }
    worker->ops += ops;
}

static void
consumer_body(struct worker *worker)
{
    struct ring *rings = worker->shared;
    if (worker->index + 1 == worker->count)
        free_for_all(worker, rings);
    else
        replace_blocks(worker, &rings[worker->index]);
}

const struct work work_ring = {
    .name = "ring",
    .text = "half of the workers take blocks, the others free them; op = a block's whole way",
    .flags = WORK_CROSSES | WORK_ONE_LANE,
    .defaults = { .size_min = 64, .size_max = 64, .ops = 500000, .workers_min = 2 },
    .shared_bytes = ring_bytes,
    .body = ring_body,
};

const struct work work_consumer = {
    .name = "consumer",
    .text = "all workers but one replace blocks of their --live, and that one frees them; op = a replaced block",
    .flags = WORK_CROSSES | WORK_ONE_LANE,
    .defaults = { .size_min = 592, .size_max = 592, .live = 16384, .ops = 250000, .workers_min = 2 },
    .shared_bytes = ring_bytes,
    .prepare = consumer_prepare,
    .body = consumer_body,
};
