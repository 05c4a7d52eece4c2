/*
 * test_phases.c - a program whose blocks change their sizes from time to time: what is committed follows what is live.
 *
 * Pages of slices that have been free for some time are given back in passing.  Time is made to pass here: the moment since
 * which too many are free is moved back.  HSHM_TEST_LONG=n lives n times as many rounds.
 *
 * labels: no-tsan
 * (one thread: there is nothing to race, and what it measures is too large for that sanitizer)
 */
#include <stdlib.h>

#include "allocator/allocator.h"
#include "lazy.h"

struct mix {
    const char *title;
    size_t least, most;
    double bound; /* what may be committed for each live byte */
};

/* Of the largest blocks only some dozen are live, and each class has a slab of several. */
static const struct mix mixes[] = {
    { "16..64", 16, 64, 1.4 },   { "16..1024", 16, 1024, 1.4 },     { "4096..65536", 4096, 65536, 1.4 },
    { "32..256", 32, 256, 1.4 }, { "700..12000", 700, 12000, 1.4 }, { "100000..2000000", 100000, 2000000, 1.6 },
};

struct held {
    void *block;
    size_t size;
};

/* What a program holds: about `target` bytes, in blocks of the present mix. */
struct hold {
    hshm_allocator *heap;
    struct held *held;
    size_t count, room;
    uint64_t bytes, target, random;
};

static void
hold_more(struct hold *hold, const struct mix *mix)
{
    while (hold->bytes < hold->target) {
        const size_t size = mix->least + (size_t)(next_random(&hold->random) % (mix->most - mix->least + 1));
        void *block = hshm_malloc(hold->heap, size);
        assert_non_null(block);
        touch(block, size);
        assert_true(hold->count < hold->room);
        hold->held[hold->count++] = (struct held){ block, size };
        hold->bytes += size;
    }
}

static void
hold_less(struct hold *hold, size_t i)
{
    assert_ok(hshm_free(hold->heap, hold->held[i].block));
    hold->bytes -= hold->held[i].size;
    hold->held[i] = hold->held[--hold->count];
}

/* Blocks of the old mix go in random order, until none is left. */
static void
change_mix(struct hold *hold, const struct mix *mix)
{
    struct hold old = *hold;
    hold->held = calloc(hold->room, sizeof *hold->held);
    assert_non_null(hold->held);
    hold->count = 0;
    while (old.count > 0) {
        const uint64_t before = old.bytes;
        hold_less(&old, (size_t)(next_random(&hold->random) % old.count));
        hold->bytes -= before - old.bytes;
        hold_more(hold, mix);
    }
    free(old.held);
    hold_more(hold, mix);
}

/* As though so many ms had gone by. */
static void
pass_time(const hshm_allocator *heap, uint64_t ms)
{
    struct slab_root *root = heap->slab.root;
    const uint64_t since = load_relaxed(&root->dirty_since);
    const uint64_t tidied = load_relaxed(&root->tidied);
    if (since > ms)
        store_relaxed(&root->dirty_since, since - ms);
    if (tidied > ms)
        store_relaxed(&root->tidied, tidied - ms);
}

/* The new mix has its time: every block is replaced about twice, in ten seconds or so. */
static void
live_on(struct hold *hold, const struct mix *mix, bool moves)
{
    enum { PARTS = 20, PART_MS = 1000, STEPS = 100 }; /* in steps: a call gives back only a part of what is due */
    for (unsigned part = 0; part < PARTS; part++) {
        if (moves)
            (void)run_on(part);
        const size_t count = 2 * hold->count / PARTS + 1;
        const size_t step = count < STEPS ? 1 : count / STEPS;
        for (size_t i = 0; i < count; i++) {
            if (i % step == 0)
                pass_time(hold->heap, PART_MS * step / count);
            hold_less(hold, (size_t)(next_random(&hold->random) % hold->count));
            hold_more(hold, mix);
        }
    }
}

static void
report(const char *title, hshm_allocator *heap, uint64_t requested)
{
    print_message("%-16s committed: %.3f of live bytes, %.3f of requested ones\n", title,
                  (double)committed(heap) / (double)stats_of(heap).live_bytes,
                  (double)committed(heap) / (double)requested);
}

/* How many times there was too much.  Every other round the program moves from processor to processor. */
static unsigned
live_through_all(struct hold *hold, bool moves)
{
    unsigned too_much = 0;
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++) {
        if (moves)
            (void)run_on((unsigned)i);
        change_mix(hold, &mixes[i]);
        live_on(hold, &mixes[i], moves);
        report(mixes[i].title, hold->heap, hold->bytes);
        /* ScalablePage: of blocks that were freed elsewhere than at home some wait for a taker there. */
        const double bound = mixes[i].bound + (moves ? 0.3 : 0);
        too_much += (double)committed(hold->heap) > bound * (double)stats_of(hold->heap).live_bytes;
    }
    return too_much;
}

/* Live bytes are as the heap rounds them; what rounding costs, test_memory.c measures. */
static void
changing_sizes_leave_no_memory_behind(void **state)
{
    const unsigned rounds = 2 * long_factor();
    struct hold hold = { .heap = lazy_heap(lazy_kind(state), test_name("phases"), GIB) };
    hold.target = 64 * MIB;
    hold.room = hold.target / 16;
    hold.random = test_seed();
    hold.held = calloc(hold.room, sizeof *hold.held);
    assert_non_null(hold.held);
    unsigned too_much = 0;
    for (unsigned round = 0; round < rounds; round++)
        too_much += live_through_all(&hold, round % 2 != 0);
    run_anywhere();
    while (hold.count > 0)
        hold_less(&hold, hold.count - 1);
    free(hold.held);
    assert_int_equal(too_much, 0);
    assert_none_lost(hold.heap);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_HEAPS(changing_sizes_leave_no_memory_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
