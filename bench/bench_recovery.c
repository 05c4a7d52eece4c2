/*
 * bench_recovery.c - what it costs the living when a process dies that held much: it takes 1 GiB of blocks of 64 bytes, and is
 * killed; another one recovers, while a thread of it goes on allocating and freeing on another processor.
 *
 *     bench_recovery [ROUNDS [MIB]]
 *
 * The region is given page by page and the blocks are not written to, so that the memory that is needed is that of the tables.
 * Printed are medians: of hshm_recover(), and of the thread's pairs of calls before and during it.
 */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS_MAX = 99, BLOCK = 64, PAIRS_A_LOOK = 64 };
#define MIB ((size_t)1 << 20)
#define BEFORE_US 300000.0

static const hshm_allocator_id heap_id = { 1, 0 };

/* A thread that allocates and frees, and tells how far it is. */
struct worker {
    hshm_allocator *heap;
    _Atomic uint64_t pairs;
    _Atomic bool ends;
};

struct figures {
    double recover_ms[ROUNDS_MAX];
    double before[ROUNDS_MAX], during[ROUNDS_MAX], slower[ROUNDS_MAX]; /* pairs a us */
    uint64_t threads, slabs;
};

static void
run_on(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

static void *
work(void *arg)
{
    struct worker *worker = arg;
    run_on(1);
    while (!atomic_load_explicit(&worker->ends, memory_order_relaxed)) {
        for (int i = 0; i < PAIRS_A_LOOK; i++) {
            void *block = hshm_malloc(worker->heap, BLOCK);
            if (block == NULL)
                must(hshm_last_status());
            must(hshm_free(worker->heap, block));
        }
        (void)atomic_fetch_add_explicit(&worker->pairs, PAIRS_A_LOOK, memory_order_relaxed);
    }
    return NULL;
}

/* In a child: hold so many blocks, and be killed. */
static void
hold_and_die(hshm_allocator *heap, uint64_t blocks)
{
    const pid_t pid = fork();
    if (pid == 0) {
        for (uint64_t i = 0; i < blocks; i++) {
            if (hshm_malloc(heap, BLOCK) == NULL)
                _exit(1);
        }
        (void)raise(SIGKILL);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status)) {
        (void)fprintf(stderr, "the process that was to hold the blocks could not\n");
        exit(1);
    }
}

static double
rate(const struct worker *worker, uint64_t pairs, double us)
{
    return (double)(atomic_load(&worker->pairs) - pairs) / us;
}

static void
measure(hshm_allocator *heap, struct worker *worker, struct figures *f, size_t round)
{
    hshm_recover_report report = HSHM_RECOVER_REPORT_INIT;
    uint64_t pairs = atomic_load(&worker->pairs);
    double begin = now_us();
    (void)usleep((useconds_t)BEFORE_US);
    f->before[round] = rate(worker, pairs, now_us() - begin);
    pairs = atomic_load(&worker->pairs);
    begin = now_us();
    must(hshm_recover(heap, &report));
    const double us = now_us() - begin;
    f->during[round] = rate(worker, pairs, us);
    f->recover_ms[round] = us / 1e3;
    f->slower[round] = f->before[round] / f->during[round];
    f->slabs = report.slabs;
    f->threads = report.threads;
    if (report.processes != 1) {
        (void)fprintf(stderr, "%llu processes were cleaned up after, not 1\n", (unsigned long long)report.processes);
        exit(1);
    }
}

static void
one_round(hshm_allocator_kind kind, size_t bytes, struct figures *f, size_t round)
{
    struct worker worker = { NULL, 0, false };
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    pthread_t thread;
    char name[64];
    (void)snprintf(name, sizeof name, "hshm_bench.%d", (int)getpid());
    options.commit = HSHM_COMMIT_LAZY;
    must(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, 2 * bytes, name, &options, NULL));
    must(hshm_allocator_create(NULL, 1, heap_id, kind, 0, NULL, &worker.heap));
    hold_and_die(worker.heap, bytes / BLOCK);
    run_on(0);
    (void)pthread_create(&thread, NULL, work, &worker);
    (void)usleep(20000); /* so that it has begun */
    measure(worker.heap, &worker, f, round);
    atomic_store(&worker.ends, true);
    (void)pthread_join(thread, NULL);
    must(hshm_check(worker.heap, 0, NULL));
    must(hshm_backend_destroy(NULL, 1));
}

int
main(int argc, char **argv)
{
    const size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 5;
    const size_t bytes = (argc > 2 ? strtoul(argv[2], NULL, 10) : 1024) * MIB;
    const struct {
        const char *title;
        hshm_allocator_kind kind;
    } kinds[] = { { "Stack", HSHM_ALLOCATOR_STACK },
                  { "ScalablePage", HSHM_ALLOCATOR_SCALABLE_PAGE },
                  { "ThreadLocal", HSHM_ALLOCATOR_THREAD_LOCAL } };
    static struct figures f[3];
    if (rounds == 0 || rounds > ROUNDS_MAX)
        return 2;
    printf("recovery after a process that held %zu MiB in blocks of %d bytes; medians of %zu\n", bytes / MIB, BLOCK,
           rounds);
    printf("%-14s %12s %28s %28s %8s %8s\n", "", "recover, ms", "pairs a us before", "during", "slower", "slabs");
    for (size_t k = 0; k < 3; k++) {
        for (size_t round = 0; round < rounds; round++)
            one_round(kinds[k].kind, bytes, &f[k], round);
        printf("%-14s %12.2f %28.1f %28.1f %8.2f %8llu\n", kinds[k].title, percentile(f[k].recover_ms, rounds, 50),
               percentile(f[k].before, rounds, 50), percentile(f[k].during, rounds, 50),
               percentile(f[k].slower, rounds, 50), (unsigned long long)f[k].slabs);
    }
    return 0;
}
