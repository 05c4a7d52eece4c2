/*
 * fragmentation.c - room that is free but of no use: how it comes about, how it is seen, and what to do.
 *
 * Advice: watch two figures of hshm_stats.  used_bytes far above live_bytes: slabs are held by few blocks each, since blocks of
 * short and of long lives lie side by side; take those with long lives first, or in a heap of their own.  largest_free far below
 * free_bytes: large blocks of many sizes leave holes that fit none; give large blocks one size, or a few.  hshm_trim() gives
 * back to the system what is free, if it was made with HSHM_COMMIT_LAZY.
 */
#include "practice.h"

#include <inttypes.h>
#include <string.h>

enum { SMALL = 256, SMALL_BLOCKS = 60000, EVERY = 60, LONG_LIVED = SMALL_BLOCKS / EVERY };

static const hshm_allocator_id id = { 1, 0 };
static hshm_allocator *heap;
static void *blocks[SMALL_BLOCKS];

static void
new_heap(void)
{
    leave_heap();
    const hshm_backend_options options = lazy();
    check(hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 32 * MIB, heap_name, &options, NULL),
          "cannot create the backend");
    check(hshm_allocator_create(NULL, BACKEND_ID, id, HSHM_ALLOCATOR_SCALABLE_PAGE, 0, NULL, &heap),
          "cannot create the allocator");
}

/* What a program would do now and then, or another process for it. */
static hshm_stats
watch(const char *when)
{
    hshm_stats stats = HSHM_STATS_INIT;
    check(hshm_stats_get(heap, &stats), "no statistics");
    printf("  %-42s %6.1f %6.1f %6.1f %6.1f %6.0f%% %9.1f\n", when, (double)stats.live_bytes / (double)MIB,
           (double)stats.used_bytes / (double)MIB, (double)stats.free_bytes / (double)MIB,
           (double)stats.largest_free / (double)MIB, 100 * stats.fragmentation, (double)stats.committed / (double)MIB);
    return stats;
}

static void *
take(size_t size)
{
    void *block = hshm_malloc(heap, size);
    expect(block != NULL, "no room for a block");
    memset(block, 1, size); /* touched: memory of the system from now on */
    return block;
}

static void
give(void **block)
{
    check(hshm_free(heap, *block), "cannot free");
    *block = NULL;
}

static void
long_lives_among_short(void)
{
    printf("One small block of %d lives long:\n", EVERY);
    for (size_t i = 0; i < SMALL_BLOCKS; i++)
        blocks[i] = take(SMALL);
    const hshm_stats full = watch("all taken, in the order of the work");
    for (size_t i = 0; i < SMALL_BLOCKS; i++) {
        if (i % EVERY != 0)
            give(&blocks[i]);
    }
    const hshm_stats after = watch("those with short lives freed");
    expect(after.live_bytes < full.live_bytes / 50, "more is alive than was kept");
    expect(after.used_bytes > 10 * after.live_bytes, "slabs with one long-lived block in each came free");

    new_heap();
    for (size_t i = 0; i < SMALL_BLOCKS; i++)
        blocks[i] = take(SMALL);
    watch("all taken, those with long lives first");
    for (size_t i = LONG_LIVED; i < SMALL_BLOCKS; i++)
        give(&blocks[i]);
    const hshm_stats apart = watch("those with short lives freed");
    expect(apart.live_bytes == after.live_bytes, "the two ways do not keep the same");

    uint64_t returned = 0;
    check(hshm_trim(heap, 0, &returned), "cannot give memory back");
    const hshm_stats trimmed = watch("hshm_trim()");
    expect(trimmed.used_bytes < after.used_bytes / 10, "long-lived blocks beside each other hold as many slabs");
    expect(trimmed.committed < full.committed / 2, "the system did not get back what is free");
}

/* Large blocks until the heap is full; then every other one is freed. */
static size_t
holes(size_t size)
{
    size_t count = 0;
    while (count < SMALL_BLOCKS && (blocks[count] = hshm_malloc(heap, size)) != NULL)
        count++;
    expect(hshm_last_status() == HSHM_E_NOMEM, hshm_last_error());
    for (size_t i = 0; i < count; i += 2)
        give(&blocks[i]);
    return count;
}

static void
large_blocks(void)
{
    printf("Large blocks:\n");
    new_heap();
    const size_t count = holes(MIB);
    const hshm_stats stats = watch("full of 1 MiB blocks, every other freed");
    void *wider = hshm_malloc(heap, 2 * MIB);
    expect(wider == NULL && stats.free_bytes > 8 * MIB, "two holes apart made room for one block");
    printf("  %.1f MiB are free, but for 2 MiB there is no room: %s\n", (double)stats.free_bytes / (double)MIB,
           hshm_last_error());
    for (size_t i = 0; i < count; i += 2)
        blocks[i] = take(MIB);
    watch("one size for all: each hole fits the next");
    for (size_t i = 0; i < count; i++)
        give(&blocks[i]);
    const hshm_stats empty = watch("all freed: one room again");
    expect(empty.live_blocks == 0 && empty.largest_free > 16 * MIB, "free room beside free room is not one");
}

int
main(void)
{
    begin("fragmentation");
    new_heap();
    printf("  %-42s %6s %6s %6s %6s %7s %9s  (MiB)\n", "", "live", "used", "free", "larg.", "fragm.", "committed");
    long_lives_among_short();
    large_blocks();
    check(hshm_check(heap, 0, NULL), "the heap is damaged");
    return EXIT_SUCCESS;
}
