/*
 * suite.h - one workload on one heap, by any number of threads in any number of processes.
 *
 *   suite_main.c   arguments in, one line of JSON out
 *   suite_team.c   the team: starts the workers, opens the gates they wait at, reads clocks and memory at quiet points
 *   work_*.c       the workloads
 *   heap_*.[hc]    the heaps; see heap.h
 *
 * A worker is a thread.  Worker i belongs to process i / threads.  All processes are forked by one that never touches
 * the heap (the leader); the first creates the heap, the others attach to it as strangers would.
 */
#ifndef HSHM_BENCH_SUITE_H
#define HSHM_BENCH_SUITE_H

#include "heap.h"

#include <stdatomic.h>
#include <stdint.h>

enum { SUITE_WORKERS_MAX = 64, SUITE_POINTS_MAX = 64, SUITE_CACHE_LINE = 64 };

struct suite_params {
    const char *subject; /* a label for the output */
    const struct work *work;
    struct heap_options heap;
    unsigned threads; /* in each process                                              */
    unsigned processes;
    uint64_t size_min; /* of blocks, in bytes; random in between where they differ     */
    uint64_t size_max;
    uint64_t live;   /* blocks (bytes, where the workload says so) that a worker has */
    uint64_t ops;    /* of each worker, in all                                       */
    uint64_t rounds; /* generations of replaced workers, or cycles of phases         */
};

struct worker {
    const struct suite_params *params;
    heap_ref heap;
    unsigned index;      /* 0 .. count - 1                                                                     */
    unsigned count;      /* workers in all                                                                     */
    uint64_t generation; /* of a worker that is replaced: 0 .. params->rounds - 1                              */
    void *shared;        /* the workload's table that all workers share, whichever process they are in; zeroed */
    void *own;           /* what prepare() made for this worker                                                */
    uint64_t ops;        /* out: how many it did                                                               */
    uint64_t live_bytes; /* out: what it asked for and has not freed, at the next point                        */
    uint64_t live_blocks;
};

enum work_flags {
    WORK_CROSSES = 1 << 0,  /* blocks go from worker to worker: with several processes, only on a shared heap     */
    WORK_REPLACED = 1 << 1, /* each worker is replaced by a new one `rounds` times: by a new thread, or, where    */
                            /* there are several processes, by a new process.  State lives in the shared table    */
    WORK_ONE_LANE = 1 << 2  /* workers do different things for one result: ns_per_op is wall time by ops          */
};

struct work {
    const char *name;
    const char *text; /* what it does, and what an op is */
    unsigned flags;
    struct {
        uint64_t size_min, size_max, live, ops, rounds;
        unsigned workers_min; /* fewer make no sense */
    } defaults;
    size_t (*shared_bytes)(const struct suite_params *params); /* NULL = none                          */
    void (*prepare)(struct worker *worker);                    /* not timed; generation 0 only; or NULL */
    void (*body)(struct worker *worker);                       /* timed                                 */
};

extern const struct work work_pair, work_fifo, work_lifo, work_random, work_fill, work_large, work_batch, work_server,
    work_stress, work_ring, work_consumer, work_thrash, work_scratch, work_phases;

/* What the leader measured between the first point and the last. */
struct suite_point {
    char label[24];
    uint64_t memory; /* bytes, as suite_team.c explains */
    uint64_t live_bytes;
    uint64_t live_blocks;
    double wall_ns; /* since the point before */
};

struct suite_result {
    enum heap_answer answer;
    char why[256];
    uint64_t ops;
    double wall_ns;
    double cpu_ns;
    uint64_t memory_peak;
    int64_t heap_live_blocks; /* what the heap says at the last point; -1 = it does not say */
    size_t points;
    struct suite_point point[SUITE_POINTS_MAX];
    size_t pids;
    int pid[SUITE_WORKERS_MAX];
};

/* Run it.  result->answer says how it went. */
void suite_run(const struct suite_params *params, struct suite_result *result);

/*
 * For workloads: all workers wait here while clocks stand still and memory is counted.  Set worker->live_bytes and
 * live_blocks before.  A point at the end of the body is made by itself.
 */
void suite_point(struct worker *worker, const char *label);

/* For workloads: zeroed memory that is not the heap's, and not counted; it lasts as long as the process. */
void *suite_table(size_t bytes);

/* For workloads: give the whole run up. */
_Noreturn void suite_fail(const char *why);

#endif
