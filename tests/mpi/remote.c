/*
 * remote.c - what owners do for others: blocks, and words that all change.
 */
#include <pthread.h>

#include "ranks.h"

/* Blocks that one rank takes, another fills, and a third frees. */
static void
blocks_go_round(void)
{
    enum { BLOCKS = 60 };
    hshm_mpi_options options = options_for_test();
    hshm_mpi *mpi = open_heaps(&options);
    hshm_gptr mine[BLOCKS];
    hshm_gptr others[BLOCKS];
    const int to = (rank + 1) % ranks;
    const int from = (rank + ranks - 1) % ranks;
    for (unsigned i = 0; i < BLOCKS; i++) {
        CHECK_OK(hshm_mpi_alloc(mpi, i % hshm_mpi_nodes(mpi), 8 + i * 50, &mine[i]));
        CHECK_OK(hshm_mpi_put(mpi, mine[i], &mine[i], sizeof mine[i] / 2));
    }
    for (int round = 0; round < 3; round++) {
        CHECK_OK(hshm_mpi_fence(mpi));
        (void)MPI_Sendrecv(mine, (int)sizeof mine, MPI_BYTE, to, 7, others, (int)sizeof others, MPI_BYTE, from, 7,
                           MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        memcpy(mine, others, sizeof mine);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        hshm_gptr found = mine[i];
        found.node = 77;
        CHECK_OK(hshm_mpi_get(mpi, mine[i], &found, sizeof found / 2));
        CHECK(found.node == mine[i].node && found.generation == mine[i].generation);
        CHECK_OK(hshm_mpi_free(mpi, mine[i]));
    }
    CHECK_OK(hshm_mpi_fence(mpi));
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    CHECK_OK(hshm_check(hshm_mpi_allocator(mpi), 0, &report));
    CHECK(report.live_blocks == 0);
    CHECK_OK(hshm_mpi_close(&mpi));
}

static void
wrong_frees(void)
{
    hshm_mpi_options options = options_for_test();
    hshm_mpi *mpi = open_heaps(&options);
    for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
        hshm_gptr block = HSHM_GPTR_NULL;
        hshm_gptr none = HSHM_GPTR_NULL;
        CHECK_OK(hshm_mpi_alloc(mpi, node, 100, &block));
        CHECK_STATUS(hshm_mpi_free(mpi, hshm_gptr_add(block, 16)), HSHM_E_BADFREE, NULL);
        CHECK_OK(hshm_mpi_free(mpi, block));
        CHECK_STATUS(hshm_mpi_free(mpi, hshm_gptr_add(block, 8)), HSHM_E_BADFREE, NULL);
        block.generation ^= 1;
        CHECK_STATUS(hshm_mpi_free(mpi, block), HSHM_E_NOTFOUND, "generation");
        CHECK_STATUS(hshm_mpi_alloc(mpi, node, 900 * MIB, &none), HSHM_E_NOMEM, NULL);
        CHECK(hshm_gptr_is_null(none));
    }
    CHECK_OK(hshm_mpi_free(mpi, HSHM_GPTR_NULL));
    CHECK_STATUS(hshm_mpi_alloc(mpi, hshm_mpi_nodes(mpi), 8, &(hshm_gptr){ 0 }), HSHM_E_INVAL, NULL);
    CHECK_STATUS(hshm_mpi_alloc(mpi, 0, 8, NULL), HSHM_E_INVAL, NULL);
    CHECK_OK(hshm_mpi_close(&mpi));
}

/* Everyone adds to every node's words; the owner's ranks with C atomics, too. */
static void
words_that_all_add_to(void)
{
    enum { ADDS = 200 };
    hshm_mpi_options options = options_for_test();
    options.custom_header_size = 2 * sizeof(uint64_t);
    hshm_mpi *mpi = open_heaps(&options);
    _Atomic uint64_t *here = hshm_allocator_custom_header(hshm_mpi_allocator(mpi), NULL);
    for (unsigned i = 0; i < ADDS; i++) {
        for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
            CHECK_OK(hshm_mpi_fetch_add(mpi, hshm_mpi_header(mpi, node), 1, NULL));
            /* Add by compare and swap, too: each success counts once. */
            const hshm_gptr word = hshm_gptr_add(hshm_mpi_header(mpi, node), 8);
            uint64_t expected = 0;
            for (uint64_t old = UINT64_MAX; old != expected;) {
                CHECK_OK(hshm_mpi_cas(mpi, word, expected, expected + 1, &old));
                if (old != expected) {
                    expected = old;
                    old = UINT64_MAX;
                }
            }
        }
        (void)atomic_fetch_add(here, 1);
    }
    CHECK_OK(hshm_mpi_fence(mpi));
    int node_ranks = 0;
    (void)MPI_Comm_size(hshm_mpi_node_comm(mpi), &node_ranks);
    CHECK(here[0] == (uint64_t)ADDS * (uint64_t)(ranks + node_ranks));
    CHECK(here[1] == (uint64_t)ADDS * (uint64_t)ranks);
    for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++)
        CHECK_STATUS(hshm_mpi_fetch_add(mpi, hshm_gptr_add(hshm_mpi_header(mpi, node), 4), 1, NULL), HSHM_E_INVAL, "8");
    CHECK_OK(hshm_mpi_close(&mpi));
}

/* Several threads of each rank at once, with MPI_THREAD_MULTIPLE. */
static void *
one_thread(void *arg)
{
    hshm_mpi *mpi = arg;
    unsigned char out[6000];
    unsigned char in[6000];
    for (unsigned i = 0; i < 40; i++) {
        hshm_gptr there = HSHM_GPTR_NULL;
        const size_t size = i % 2 == 0 ? 60 : sizeof out;
        memset(out, (int)i, sizeof out);
        CHECK_OK(hshm_mpi_alloc(mpi, i % hshm_mpi_nodes(mpi), sizeof out, &there));
        CHECK_OK(hshm_mpi_put(mpi, there, out, size));
        CHECK_OK(hshm_mpi_get(mpi, there, in, size));
        CHECK(memcmp(in, out, size) == 0);
        CHECK_OK(hshm_mpi_fetch_add(mpi, hshm_mpi_header(mpi, i % hshm_mpi_nodes(mpi)), 1, NULL));
        CHECK_OK(hshm_mpi_free(mpi, there));
    }
    return NULL;
}

static void
threads_at_once(void)
{
    enum { THREADS = 3 };
    hshm_mpi_options options = options_for_test();
    options.custom_header_size = 8;
    hshm_mpi *mpi = open_heaps(&options);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, one_thread, mpi) == 0);
    for (int i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    CHECK_OK(hshm_mpi_fence(mpi));
    uint64_t sum = 0;
    for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
        uint64_t word = 0;
        CHECK_OK(hshm_mpi_get(mpi, hshm_mpi_header(mpi, node), &word, sizeof word));
        sum += word;
    }
    CHECK(sum == (uint64_t)THREADS * 40 * (uint64_t)ranks);
    CHECK_OK(hshm_mpi_close(&mpi));
}

const struct mpi_case remote_cases[] = {
    { "blocks_go_round", blocks_go_round },
    { "wrong_frees", wrong_frees },
    { "words_that_all_add_to", words_that_all_add_to },
    { "threads_at_once", threads_at_once },
    { NULL, NULL },
};
