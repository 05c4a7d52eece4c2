/*
 * allocator_by_workload.c - four workloads on each allocator: which is for what, and what it costs to choose another.
 *
 * Advice: Stack for scratch that is thrown away in phases: without a byte between blocks, and one call (rewind) frees what nobody
 * kept a list of.  ThreadLocal where threads take and free small blocks at high frequency.  ScalablePage where many threads and
 * processes come and go, since what it keeps for later is bounded by processors.  Malloc where the system's malloc is wanted, for
 * the tools that watch it; a process's own memory at full speed is a ThreadLocal heap on the private backend.  To change the choice
 * is one word at create: measure it with your workload.
 */
#include "practice.h"

#include <pthread.h>
#include <stdatomic.h>

enum { KINDS = 5, ROUNDS = 3, THREADS = 4, PROCESSES = 3, BLOCKS = 160000, HELD = 64, IN_PHASE = 500 };

static const hshm_allocator_id id = { 1, 0 };
static hshm_allocator *heap;

static const struct {
    const char *name;
    hshm_allocator_kind cut;
    hshm_backend_kind backend;
} kinds[KINDS] = {
    { "Stack", HSHM_ALLOCATOR_STACK, HSHM_BACKEND_POSIX_SHM_MMAP },
    { "ScalablePage", HSHM_ALLOCATOR_SCALABLE_PAGE, HSHM_BACKEND_POSIX_SHM_MMAP },
    { "ThreadLocal", HSHM_ALLOCATOR_THREAD_LOCAL, HSHM_BACKEND_POSIX_SHM_MMAP },
    { "TL. private", HSHM_ALLOCATOR_THREAD_LOCAL, HSHM_BACKEND_MALLOC },
    { "Malloc", HSHM_ALLOCATOR_MALLOC, HSHM_BACKEND_MALLOC },
};

/* In the custom header: what all threads and processes of a workload measured. */
struct totals {
    _Atomic uint64_t ns;
    _Atomic uint64_t blocks;
    _Atomic uint32_t full; /* one found no room, and gave up */
};

static struct totals *
totals(void)
{
    return hshm_allocator_custom_header(heap, NULL);
}

static void
add(double start, uint64_t blocks)
{
    atomic_fetch_add(&totals()->ns, (uint64_t)((seconds() - start) * 1e9));
    atomic_fetch_add(&totals()->blocks, blocks);
}

/* Phases: blocks of all sizes, none of them needed after the phase. */
static void
phases(void)
{
    void *blocks[IN_PHASE];
    const double start = seconds();
    for (size_t phase = 0; phase < BLOCKS / IN_PHASE; phase++) {
        hshm_stack_height mark = 0;
        const bool is_stack = hshm_stack_mark(heap, &mark) == HSHM_OK;
        for (size_t i = 0; i < IN_PHASE; i++) {
            blocks[i] = hshm_malloc(heap, 16 + i * 7 % 500);
            expect(blocks[i] != NULL, "no room for a phase");
        }
        if (is_stack)
            check(hshm_stack_rewind(heap, mark), "cannot rewind");
        for (size_t i = 0; i < IN_PHASE && !is_stack; i++)
            check(hshm_free(heap, blocks[i]), "cannot free");
    }
    add(start, BLOCKS);
}

/* Small blocks that live for a while, each for another one. */
static void
churn(uint64_t count)
{
    void *held[HELD] = { NULL };
    uint64_t random = 88172645463325252u;
    uint64_t taken = 0;
    const double start = seconds();
    for (; taken < count; taken++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        void **one = &held[random % HELD];
        check(hshm_free(heap, *one), "cannot free");
        *one = hshm_malloc(heap, 16 + random / HELD % 240);
        if (*one == NULL) { /* of the Stack this is known: room comes back from the top only */
            atomic_store(&totals()->full, 1);
            break;
        }
    }
    for (size_t i = 0; i < HELD; i++)
        check(hshm_free(heap, held[i]), "cannot free");
    add(start, taken);
}

static void
one_thread(void)
{
    churn(BLOCKS);
}

static void
a_part(void)
{
    churn(BLOCKS / THREADS);
}

static void *
churning_thread(void *arg)
{
    (void)arg;
    a_part();
    return NULL;
}

static void
threads(void)
{
    pthread_t all[THREADS];
    for (int i = 0; i < THREADS; i++)
        expect(pthread_create(&all[i], NULL, churning_thread, NULL) == 0, "no thread can be started");
    for (int i = 0; i < THREADS; i++)
        pthread_join(all[i], NULL);
}

static void
processes(void)
{
    pid_t all[PROCESSES];
    for (int i = 0; i < PROCESSES; i++)
        all[i] = start_process(a_part);
    for (int i = 0; i < PROCESSES; i++)
        await_process(all[i]);
}

static const struct {
    const char *name;
    void (*run)(void);
    bool needs_sharing;
} workloads[] = {
    { "scratch, freed by phases", phases, false },
    { "small blocks, one thread", one_thread, false },
    { "small blocks, 4 threads", threads, false },
    { "small blocks, 3 processes", processes, true },
};

/* One workload on one kind of heap, a new one: nanoseconds a block, or 0 if it found no room; and the most bytes in use. */
static double
measure(size_t kind, void (*run)(void), uint64_t *ret_peak)
{
    hshm_backend_options options = lazy();
    options.nameless = kinds[kind].backend == HSHM_BACKEND_POSIX_SHM_MMAP; /* its processes are forked: they have it */
    check(hshm_backend_create(NULL, BACKEND_ID, kinds[kind].backend, 16 * MIB, heap_name, &options, NULL),
          "cannot create the backend");
    check(hshm_allocator_create(NULL, BACKEND_ID, id, kinds[kind].cut, sizeof(struct totals), NULL, &heap),
          "cannot create the allocator");
    double best = 0;
    for (int i = 0; i < ROUNDS && !atomic_load(&totals()->full); i++) {
        atomic_store(&totals()->ns, 0);
        atomic_store(&totals()->blocks, 0);
        run();
        const double ns = (double)atomic_load(&totals()->ns) / (double)atomic_load(&totals()->blocks);
        best = best == 0 || ns < best ? ns : best;
    }
    const bool full = atomic_load(&totals()->full);
    expect(!full || kinds[kind].cut == HSHM_ALLOCATOR_STACK, "a heap that finds its free blocks again was full");
    hshm_stats stats = HSHM_STATS_INIT;
    check(hshm_stats_get(heap, &stats), "no statistics");
    expect(stats.live_blocks == 0, "blocks are left over");
    check(hshm_check(heap, 0, NULL), "the heap is damaged");
    *ret_peak = stats.peak_bytes;
    check(hshm_backend_destroy(NULL, BACKEND_ID), "cannot destroy the backend");
    return full ? 0 : best;
}

static void
print_row(const char *name, const double ns[KINDS])
{
    double fastest = 0;
    for (size_t kind = 0; kind < KINDS; kind++)
        fastest = ns[kind] > 0 && (fastest == 0 || ns[kind] < fastest) ? ns[kind] : fastest;
    printf("%-26s", name);
    for (size_t kind = 0; kind < KINDS; kind++) {
        if (ns[kind] > 0)
            printf(" %13.1f", ns[kind] / fastest);
        else
            printf(" %13s", ns[kind] == 0 ? "full" : "private");
    }
    printf(" %9.1f ns\n", fastest);
}

static void
print_peaks(const char *name, const uint64_t peak[KINDS])
{
    printf("%-26s", name);
    for (size_t kind = 0; kind < KINDS; kind++)
        printf(" %13.0f", (double)peak[kind] / (double)KIB);
    printf("\n");
}

int
main(void)
{
    begin("allocator_by_workload");
    has_threads = true;
    printf("Time for a block taken and freed, as a multiple of the fastest, whose time comes last:\n%-26s", "");
    for (size_t kind = 0; kind < KINDS; kind++)
        printf(" %13s", kinds[kind].name);
    printf("\n");
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        double ns[KINDS];
        uint64_t peak[KINDS] = { 0 };
        for (size_t kind = 0; kind < KINDS; kind++) {
            const bool can = !workloads[i].needs_sharing || kinds[kind].backend != HSHM_BACKEND_MALLOC;
            ns[kind] = can ? measure(kind, workloads[i].run, &peak[kind]) : -1;
        }
        print_row(workloads[i].name, ns);
        if (i == 0)
            print_peaks("  KiB in use for it", peak);
    }
    printf(
        "full: the room of blocks freed beneath others does not come back.  private: no other process can see it.\n");
    return EXIT_SUCCESS;
}
