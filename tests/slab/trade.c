/*
 * trade.c - see trade.h.
 */
#include "trade.h"

#include <string.h>

#include "scenes.h"

enum { HELD_MAX = 200 };

/* Shared: begins each block. */
struct parcel {
    uint64_t size; /* of the block, this included */
    uint64_t key;
};

struct worker {
    hshm_allocator *heap;
    struct board *board;
    uint64_t random;
    uint64_t allocs, frees, handed, wrong;
    size_t count;
    struct parcel *held[HELD_MAX];
};

static uint64_t
below(struct worker *worker, uint64_t limit)
{
    return next_random(&worker->random) % limit;
}

static void
write_parcel(struct worker *worker, struct parcel *parcel, size_t size)
{
    *parcel = (struct parcel){ size, next_random(&worker->random) };
    sample_fill(parcel + 1, size - sizeof *parcel, parcel->key);
}

static bool
is_whole(const struct parcel *parcel, size_t kept)
{
    return parcel->size >= sizeof *parcel &&
           sample_holds(parcel + 1, parcel->size - sizeof *parcel, kept - sizeof *parcel, parcel->key);
}

static void
take(struct worker *worker)
{
    const size_t size = sizeof(struct parcel) + random_size(&worker->random, 2 * MIB, 256 * KIB) % (600 * KIB);
    struct parcel *parcel;
    switch (below(worker, 8)) {
    case 0:
        parcel = hshm_aligned_alloc(worker->heap, (size_t)1 << below(worker, 14), size);
        break;
    case 1:
        parcel = hshm_calloc(worker->heap, 1, size);
        for (size_t i = 0; parcel != NULL && i < size; i++)
            worker->wrong += ((unsigned char *)parcel)[i] != 0;
        break;
    default:
        parcel = hshm_malloc(worker->heap, size);
        break;
    }
    if (parcel == NULL) {
        worker->wrong += hshm_last_status() != HSHM_E_NOMEM;
        return;
    }
    worker->allocs++;
    write_parcel(worker, parcel, size);
    worker->held[worker->count++] = parcel;
}

static void
give(struct worker *worker, struct parcel *parcel)
{
    worker->wrong += !is_whole(parcel, parcel->size);
    memset(parcel, 0xdd, sizeof *parcel); /* who should still read it will notice */
    worker->wrong += hshm_free(worker->heap, parcel) != HSHM_OK;
    worker->frees++;
}

static void
give_some(struct worker *worker)
{
    if (worker->count == 0)
        return;
    const size_t at = (size_t)below(worker, worker->count);
    struct parcel *parcel = worker->held[at];
    worker->held[at] = worker->held[--worker->count];
    give(worker, parcel);
}

static void
resize(struct worker *worker)
{
    if (worker->count == 0)
        return;
    const size_t at = (size_t)below(worker, worker->count);
    struct parcel *parcel = worker->held[at];
    const size_t before = parcel->size;
    const size_t size = sizeof *parcel + (size_t)below(worker, 2 * before);
    struct parcel *moved = hshm_realloc(worker->heap, parcel, size);
    if (moved == NULL) {
        worker->wrong += hshm_last_status() != HSHM_E_NOMEM;
        return;
    }
    worker->wrong += !is_whole(moved, before < size ? before : size);
    if (moved != parcel) {
        worker->allocs++;
        worker->frees++;
    }
    write_parcel(worker, moved, size);
    worker->held[at] = moved;
}

/* Put one of ours on the board, and hold what lay there. */
static void
exchange(struct worker *worker)
{
    uint64_t off = 0;
    if (worker->count > 0)
        off = hshm_to_off(worker->heap, worker->held[--worker->count]);
    off = atomic_exchange(&worker->board->places[below(worker, BOARD_PLACES)], off);
    struct parcel *parcel = hshm_to_addr(worker->heap, off);
    if (parcel == NULL)
        return;
    worker->handed++;
    worker->wrong += !is_whole(parcel, parcel->size) || hshm_usable_size(worker->heap, parcel) < parcel->size;
    if (below(worker, 2) == 0)
        give(worker, parcel);
    else
        worker->held[worker->count++] = parcel;
}

static void
give_all(struct worker *worker)
{
    while (worker->count > 0)
        give(worker, worker->held[--worker->count]);
}

static void
report(struct worker *worker)
{
    (void)atomic_fetch_add(&worker->board->allocs, worker->allocs);
    (void)atomic_fetch_add(&worker->board->frees, worker->frees);
    (void)atomic_fetch_add(&worker->board->handed, worker->handed);
    (void)atomic_fetch_add(&worker->board->wrong, worker->wrong);
}

static struct worker
worker_on(hshm_allocator *heap, uint64_t seed)
{
    return (struct worker){ .heap = heap, .board = hshm_allocator_custom_header(heap, NULL), .random = seed };
}

void
trade(hshm_allocator *heap, uint64_t seed, unsigned long count)
{
    struct worker worker = worker_on(heap, seed);
    for (unsigned long i = 0; i < count; i++) {
        const uint64_t choice = below(&worker, 16);
        if (choice == 0 && below(&worker, 500) == 0)
            give_all(&worker);
        else if (worker.count >= HELD_MAX - 2 || choice < 5)
            give_some(&worker);
        else if (choice < 7)
            resize(&worker);
        else if (choice < 10)
            exchange(&worker);
        else
            take(&worker);
    }
    give_all(&worker);
    report(&worker);
}

void
trade_clear(hshm_allocator *heap)
{
    struct worker worker = worker_on(heap, 0);
    for (size_t i = 0; i < BOARD_PLACES; i++) {
        struct parcel *parcel = hshm_to_addr(heap, atomic_exchange(&worker.board->places[i], 0));
        if (parcel != NULL)
            give(&worker, parcel);
    }
    report(&worker);
}
