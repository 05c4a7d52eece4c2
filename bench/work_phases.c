/*
 * work_phases.c - a long run in phases of different sizes: does memory that was cut for one size serve the next?
 *
 * Each phase keeps --live bytes live and replaces them twice, at random, with blocks of its own sizes; so what the phase
 * before left dies slowly, and never all of a page at once.  The phase "thin" frees three blocks of four and takes
 * nothing: what a heap holds then beyond what is live is what it cannot give back.  A point, with memory and live bytes,
 * is made at the end of each phase of the last cycle.
 */
#include "work.h"

enum { SIZE_SMALLEST = 16 };

static const struct phase {
    const char *label;
    size_t size_min;
    size_t size_max;
} phases[] = {
    { "16..128", 16, 128 },     { "256..1024", 256, 1024 }, { "512", 512, 512 }, { "32..4096", 32, 4096 },
    { "16..16384", 16, 16384 }, { "thin", 0, 0 },           { "64", 64, 64 },    { "2000..3000", 2000, 3000 },
};

struct live {
    void *block;
    size_t size;
};

/* All live blocks, dense, in no order. */
struct set {
    size_t count;
    size_t count_max;
    struct live *blocks;
};

static void
phases_prepare(struct worker *worker)
{
    struct set *set = suite_table(sizeof *set);
    set->count_max = (size_t)worker->params->live / SIZE_SMALLEST;
    set->blocks = suite_table(set->count_max * sizeof *set->blocks);
    worker->own = set;
}

static void
free_any(struct worker *worker, struct set *set, struct rng *rng)
{
    struct live *chosen = &set->blocks[rng_below(rng, set->count)];
    worker->live_bytes -= chosen->size;
    heap_free(worker->heap, chosen->block);
    *chosen = set->blocks[--set->count];
}

static void
add(struct worker *worker, struct set *set, size_t size)
{
    if (set->count == set->count_max)
        suite_fail("--live is too small for the sizes of the phases");
    void *block = take(worker->heap, size);
    write_first(block, size);
    write_pages(block, size);
    set->blocks[set->count++] = (struct live){ block, size };
    worker->live_bytes += size;
    worker->ops++;
}

static void
replace_twice(struct worker *worker, struct set *set, struct rng *rng, const struct phase *phase)
{
    const uint64_t live = worker->params->live;
    for (uint64_t taken = 0; taken < 2 * live;) {
        const size_t size = phase->size_min + (size_t)rng_below(rng, phase->size_max - phase->size_min + 1);
        while (set->count > 0 && worker->live_bytes + size > live)
            free_any(worker, set, rng);
        add(worker, set, size);
        taken += size;
    }
}

static void
phases_body(struct worker *worker)
{
    struct set *set = worker->own;
    struct rng rng = rng_of(worker->index);
    for (uint64_t cycle = 0; cycle < worker->params->rounds; cycle++) {
        for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
            if (phases[i].size_min == 0)
                for (size_t rest = set->count / 4; set->count > rest;)
                    free_any(worker, set, &rng);
            else
                replace_twice(worker, set, &rng, &phases[i]);
            worker->live_blocks = set->count;
            if (cycle + 1 == worker->params->rounds)
                suite_point(worker, phases[i].label);
        }
    }
}

const struct work work_phases = {
    .name = "phases",
    .text = "--live bytes in blocks of sizes that change from phase to phase, --rounds cycles; op = take and free",
    .defaults = { .live = 64 << 20, .rounds = 1, .workers_min = 1 },
    .prepare = phases_prepare,
    .body = phases_body,
};
