/*
 * bench_stack.c - the Stack allocator beside the system's malloc: blocks taken, and pairs of take and free.
 *
 * One thread; the Stack lies in POSIX shared memory whose pages were touched before, as malloc's were in its own warm-up.
 * The rounds of all rows are interleaved, so that noise of the machine meets them alike.
 */
#include "bench.h"

#include <unistd.h>

enum { ROUNDS = 21, BLOCKS = 100000, BLOCK = 64 };

static hshm_allocator *heap;
static void *blocks[BLOCKS];

static double
stack_take(void)
{
    const double begin = now_us();
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = hshm_malloc(heap, BLOCK);
    const double taken = now_us() - begin;
    must(hshm_stack_reset(heap));
    return taken;
}

static double
system_take(void)
{
    const double begin = now_us();
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(BLOCK);
    const double taken = now_us() - begin;
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    return taken;
}

static double
stack_pairs(void)
{
    const double begin = now_us();
    for (int i = 0; i < BLOCKS; i++)
        must(hshm_free(heap, hshm_malloc(heap, BLOCK)));
    return now_us() - begin;
}

static double
system_pairs(void)
{
    const double begin = now_us();
    for (int i = 0; i < BLOCKS; i++) {
        void *volatile block = malloc(BLOCK);
        free(block);
    }
    return now_us() - begin;
}

static void
print_row(const char *what, double *ours, double *systems)
{
    const double a = percentile(ours, ROUNDS, 50) * 1000 / BLOCKS;
    const double b = percentile(systems, ROUNDS, 50) * 1000 / BLOCKS;
    printf("%-22s %8.1f %8.1f %8.2f\n", what, a, b, a / b);
}

int
main(void)
{
    static double take[2][ROUNDS];
    static double pairs[2][ROUNDS];
    char name[64];
    (void)snprintf(name, sizeof name, "hshm_bench.%d", (int)getpid());
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_PREFAULT;
    must(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, 16 << 20, name, &options, NULL));
    must(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    for (int round = 0; round < ROUNDS; round++) {
        take[0][round] = stack_take();
        take[1][round] = system_take();
        pairs[0][round] = stack_pairs();
        pairs[1][round] = system_pairs();
    }
    must(hshm_backend_destroy(NULL, 1));

    printf("blocks of %d bytes, one thread, medians of %d rounds; nanoseconds\n", BLOCK, ROUNDS);
    printf("%-22s %8s %8s %8s\n", "", "Stack", "malloc", "ratio");
    print_row("take", take[0], take[1]);
    print_row("take and free at once", pairs[0], pairs[1]);
    return 0;
}
