/*
 * bench_mpi.c - what libhshm-mpi costs, beside plain MPI in the same run.  See scripts/bench-mpi.
 *
 *     bench_mpi pair         2 ranks, each a node: bytes, words and blocks there and back
 *     bench_mpi setup        open and close, 32 MiB on each node
 *     bench_mpi busy [CALLS] a leader that computes for 2 s: how long others' gets take, with the helper thread or (CALLS) without
 *
 * Plain MPI and hshm take turns, block by block, so that what else the machine does falls on both; medians of the blocks are
 * printed, and their ratio.
 */
#include <hshm/mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define MIB ((size_t)1 << 20)

enum { BLOCKS = 41, LONG = 4 << 20 };

static int rank, ranks;
static hshm_mpi *mpi;
static hshm_gptr there; /* rank 0's, on node 1 */
static char *buffer;

static void
need(hshm_status status)
{
    if (status == HSHM_OK)
        return;
    fprintf(stderr, "rank %d: %s\n", rank, hshm_last_error());
    (void)MPI_Abort(MPI_COMM_WORLD, 1);
}

/* ---- plain MPI, `times` times; both ranks ---- */

static void
plain_round_trips(int times, int size)
{
    for (int i = 0; i < times; i++) {
        if (rank == 0)
            (void)MPI_Send(buffer, size, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
        (void)MPI_Recv(buffer, size, MPI_BYTE, 1 - rank, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 1)
            (void)MPI_Send(buffer, size, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
    }
}

/* One behind the other, and a word back at the end. */
static void
plain_sends(int times, int size)
{
    for (int i = 0; i < times; i++) {
        if (rank == 0)
            (void)MPI_Send(buffer, size, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
        else
            (void)MPI_Recv(buffer, size, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    if (rank == 0)
        (void)MPI_Recv(buffer, 8, MPI_BYTE, 1, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    else
        (void)MPI_Send(buffer, 8, MPI_BYTE, 0, 2, MPI_COMM_WORLD);
}

/* ---- hshm, `times` times; rank 0 ---- */

static void
gets(int times, int size)
{
    for (int i = 0; i < times; i++)
        need(hshm_mpi_get(mpi, there, buffer, (size_t)size));
}

static void
puts_there(int times, int size)
{
    for (int i = 0; i < times; i++)
        need(hshm_mpi_put(mpi, there, buffer, (size_t)size));
}

static void
pairs(int times, int size)
{
    for (int i = 0; i < times; i++) {
        hshm_gptr block = HSHM_GPTR_NULL;
        need(hshm_mpi_alloc(mpi, 1, (size_t)size, &block));
        need(hshm_mpi_free(mpi, block));
    }
}

static void
adds(int times, int size)
{
    (void)size;
    for (int i = 0; i < times; i++)
        need(hshm_mpi_fetch_add(mpi, there, 1, NULL));
}

/* ---- turns ---- */

typedef void (*work_fn)(int times, int size);

/* One block: seconds for each time. */
static double
block(work_fn work, bool plain, int times, int size)
{
    need(hshm_mpi_fence(mpi));
    const double begin = MPI_Wtime();
    if (plain || rank == 0)
        work(times, size);
    const double end = MPI_Wtime();
    need(hshm_mpi_fence(mpi)); /* in which the owner serves */
    return (end - begin) / times;
}

static void
compare(const char *what, work_fn plain, work_fn ours, int times, int size)
{
    double of_plain[BLOCKS];
    double of_ours[BLOCKS];
    double ratios[BLOCKS];
    (void)block(plain, true, times, size);
    (void)block(ours, false, times, size);
    for (int i = 0; i < BLOCKS; i++) {
        of_plain[i] = block(plain, true, times, size);
        of_ours[i] = block(ours, false, times, size);
        ratios[i] = of_ours[i] / of_plain[i];
    }
    if (rank == 0) {
        const double p = percentile(of_plain, BLOCKS, 50);
        const double o = percentile(of_ours, BLOCKS, 50);
        printf("%-34s %9.2f us %9.2f us   time x %.2f (of turns: x %.2f)", what, p * 1e6, o * 1e6, o / p,
               percentile(ratios, BLOCKS, 50));
        if (size >= 1 << 20)
            printf("  %.0f and %.0f MB/s, x %.2f", size / p / 1e6, size / o / 1e6, p / o);
        printf("\n");
        (void)fflush(stdout);
    }
}

static void
open_pair(void)
{
    hshm_mpi_options options = HSHM_MPI_OPTIONS_INIT;
    options.size = 64 * MIB;
    options.group = getenv("BENCH_GROUPS") != NULL ? rank : 0;
    options.progress = HSHM_MPI_PROGRESS_CALLS;
    need(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi));
    buffer = malloc(LONG);
    if (buffer == NULL || hshm_mpi_nodes(mpi) != 2) {
        fprintf(stderr, "pair needs 2 ranks on 2 nodes (or BENCH_GROUPS=1)\n");
        (void)MPI_Abort(MPI_COMM_WORLD, 1);
    }
    memset(buffer, 1, LONG);
    if (rank == 0) {
        need(hshm_mpi_alloc(mpi, 1, LONG, &there));
        need(hshm_mpi_put(mpi, there, buffer, LONG));
    }
}

static void
pair(void)
{
    open_pair();
    if (rank == 0)
        printf("%-34s %12s %12s\n", "", "plain MPI", "hshm");
    compare("get of 8 B; round trip", plain_round_trips, gets, 200, 8);
    compare("put of 8 B; round trip", plain_round_trips, puts_there, 200, 8);
    compare("fetch_add; round trip", plain_round_trips, adds, 200, 8);
    compare("alloc + free; round trip", plain_round_trips, pairs, 200, 64);
    compare("get of 3900 B; round trip of 8 B", plain_round_trips, gets, 100, 3900);
    compare("get of 4 MiB; MPI_Send, streamed", plain_sends, gets, 8, LONG);
    compare("put of 4 MiB; MPI_Send, streamed", plain_sends, puts_there, 8, LONG);
    need(hshm_mpi_close(&mpi));
}

/* ---- set-up ---- */

static void
setup(void)
{
    enum { TIMES = 15 };
    double opened[TIMES];
    double closed[TIMES];
    hshm_mpi_options options = HSHM_MPI_OPTIONS_INIT;
    options.size = 32 * MIB;
    for (int i = 0; i < TIMES; i++) {
        (void)MPI_Barrier(MPI_COMM_WORLD);
        const double begin = MPI_Wtime();
        need(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi));
        const double ready = MPI_Wtime();
        const int nodes = (int)hshm_mpi_nodes(mpi);
        need(hshm_mpi_close(&mpi));
        opened[i] = ready - begin;
        closed[i] = MPI_Wtime() - ready;
        if (i == 0 && rank == 0)
            printf("%d ranks on %d nodes, 32 MiB each: the first open %.1f ms, close %.1f ms\n", ranks, nodes,
                   opened[0] * 1e3, closed[0] * 1e3);
    }
    (void)MPI_Allreduce(MPI_IN_PLACE, opened, TIMES, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    (void)MPI_Allreduce(MPI_IN_PLACE, closed, TIMES, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0)
        printf("median of %d, of the slowest rank: open %.1f ms, close %.1f ms\n", TIMES,
               percentile(opened, TIMES, 50) * 1e3, percentile(closed, TIMES, 50) * 1e3);
}

/* ---- a leader that computes ---- */

static void
busy(bool by_calls)
{
    hshm_mpi_options options = HSHM_MPI_OPTIONS_INIT;
    options.size = 32 * MIB;
    options.custom_header_size = 64;
    options.group = getenv("BENCH_GROUPS") != NULL ? rank % 2 : 0;
    options.progress = by_calls ? HSHM_MPI_PROGRESS_CALLS : HSHM_MPI_PROGRESS_THREAD;
    need(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi));
    (void)MPI_Barrier(MPI_COMM_WORLD);
    double worst = 0;
    double sum = 0;
    int count = 0;
    const double begin = MPI_Wtime();
    volatile double x = 1;
    if (rank == hshm_mpi_leader(mpi, 0)) {
        while (MPI_Wtime() - begin < 2)
            for (int i = 0; i < 100000; i++)
                x = x * 1.0000001;
    } else if (hshm_mpi_node(mpi) != 0) {
        while (MPI_Wtime() - begin < 1.9) {
            uint64_t word = 0;
            const double asked = MPI_Wtime();
            need(hshm_mpi_get(mpi, hshm_mpi_header(mpi, 0), &word, sizeof word));
            const double took = MPI_Wtime() - asked;
            worst = took > worst ? took : worst;
            sum += took;
            count++;
        }
    }
    need(hshm_mpi_fence(mpi));
    (void)MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    (void)MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    (void)MPI_Allreduce(MPI_IN_PLACE, &count, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf("a leader computes for 2 s, %s: %d gets of 8 B by others, mean %.2f ms, the slowest %.1f ms\n",
               by_calls ? "no helper thread" : "helper thread", count, sum / count * 1e3, worst * 1e3);
    need(hshm_mpi_close(&mpi));
}

int
main(int argc, char *argv[])
{
    int provided = 0;
    const char *what = argc > 1 ? argv[1] : "";
    const bool threads = strcmp(what, "busy") == 0;
    (void)MPI_Init_thread(&argc, &argv, threads ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, &provided);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (strcmp(what, "pair") == 0)
        pair();
    else if (strcmp(what, "setup") == 0)
        setup();
    else if (threads)
        busy(argc > 2);
    else if (rank == 0)
        fprintf(stderr, "usage: bench_mpi pair|setup|busy [calls]\n");
    free(buffer);
    (void)MPI_Finalize();
    return 0;
}
