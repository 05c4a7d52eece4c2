/*
 * move.c - bytes between nodes: every size around a limit, vectors, requests, both engines, and what is refused.
 */
#include <unistd.h>

#include "ranks.h"

enum { LONGEST = 700 * 1024, CHUNK = 65536, HEADER = 4104 };

static unsigned char *sent, *got;

static void
fill(unsigned char *bytes, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)((i * 31 + seed * 7 + i / 251) & 0xff);
}

static hshm_mpi *
open_for_moves(hshm_mpi_engine engine)
{
    hshm_mpi_options options = options_for_test();
    options.size = 16 * MIB;
    options.chunk = CHUNK;
    options.engine = engine;
    options.custom_header_size = HEADER;
    sent = malloc(LONGEST);
    got = malloc(LONGEST);
    CHECK(sent != NULL && got != NULL);
    return open_heaps(&options);
}

static void
close_after_moves(hshm_mpi *mpi)
{
    CHECK_OK(hshm_mpi_close(&mpi));
    free(sent);
    free(got);
}

static void
there_and_back(hshm_mpi *mpi, hshm_gptr there, size_t size, unsigned seed)
{
    fill(sent, size, seed);
    memset(got, 0, size);
    CHECK_OK(hshm_mpi_put(mpi, there, sent, size));
    CHECK_OK(hshm_mpi_get(mpi, there, got, size));
    CHECK(memcmp(sent, got, size) == 0);
}

static void
sizes_with(hshm_mpi_engine engine)
{
    static const size_t sizes[] = { 0,         1,     7,         8,           63,          528,           529,
                                    530,       3951,  3952,      3953,        4064,        4096,          8192,
                                    CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 528, CHUNK + 529, 2 * CHUNK + 1, 2 * CHUNK,
                                    LONGEST };
    hshm_mpi *mpi = open_for_moves(engine);
    for (uint32_t i = 0; i < hshm_mpi_nodes(mpi); i++) {
        const uint32_t node = (hshm_mpi_node(mpi) + i) % hshm_mpi_nodes(mpi);
        hshm_gptr there = HSHM_GPTR_NULL;
        CHECK_OK(hshm_mpi_alloc(mpi, node, LONGEST + 16, &there));
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            there_and_back(mpi, hshm_gptr_add(there, (int64_t)(s % 3)), sizes[s], (unsigned)(s + i + (unsigned)rank));
        CHECK_OK(hshm_mpi_free(mpi, there));
    }
    CHECK_OK(hshm_mpi_fence(mpi));
    hshm_stats stats = HSHM_STATS_INIT;
    CHECK_OK(hshm_stats_get(hshm_mpi_allocator(mpi), &stats));
    CHECK(stats.live_blocks == 0);
    close_after_moves(mpi);
}

/* Nobody reaches another node's tables, by either engine, with a custom header behind them or not. */
static void
tables_with(hshm_mpi_engine engine)
{
    static const hshm_allocator_kind kinds[] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_SCALABLE_PAGE,
                                                 HSHM_ALLOCATOR_THREAD_LOCAL };
    for (unsigned i = 0; i < 6; i++) {
        hshm_mpi_options options = options_for_test();
        options.engine = engine;
        options.allocator = kinds[i / 2];
        options.custom_header_size = i % 2 == 0 ? 0 : 64;
        (void)hshm_set_last_error(HSHM_E_TIMEOUT, "mine");
        hshm_mpi *mpi = open_heaps(&options);
        CHECK(hshm_last_status() == HSHM_E_TIMEOUT);
        for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
            hshm_gptr there = HSHM_GPTR_NULL;
            uint64_t word = 1;
            CHECK_OK(hshm_mpi_alloc(mpi, node, 1000, &there));
            CHECK_OK(hshm_mpi_put(mpi, there, &word, sizeof word));
            hshm_gptr tables = there;
            for (tables.off = 8; tables.off < 4096; tables.off *= 2) {
                CHECK_STATUS(hshm_mpi_get(mpi, tables, &word, sizeof word), HSHM_E_INVAL, "tables");
                CHECK_STATUS(hshm_mpi_put(mpi, tables, &word, sizeof word), HSHM_E_INVAL, "tables");
            }
            if (options.custom_header_size != 0) {
                const hshm_gptr header = hshm_mpi_header(mpi, node);
                CHECK_OK(hshm_mpi_get(mpi, header, &word, sizeof word));
                CHECK_STATUS(hshm_mpi_get(mpi, hshm_gptr_add(header, -1), &word, 8), HSHM_E_INVAL, "tables");
            }
            CHECK_OK(hshm_mpi_free(mpi, there));
        }
        CHECK_OK(hshm_mpi_fence(mpi));
        CHECK_OK(hshm_check(hshm_mpi_allocator(mpi), 0, NULL));
        CHECK_OK(hshm_mpi_close(&mpi));
    }
}

static void
tables_by_messages(void)
{
    tables_with(HSHM_MPI_MESSAGES);
}

static void
tables_by_window(void)
{
    tables_with(HSHM_MPI_WINDOW);
}

static void
sizes_by_messages(void)
{
    sizes_with(HSHM_MPI_MESSAGES);
}

static void
sizes_by_window(void)
{
    sizes_with(HSHM_MPI_WINDOW);
}

/* A window where MPI cannot make one: everyone is told what to change. */
static void
window_refused(void)
{
    hshm_mpi_options options = options_for_test();
    options.engine = HSHM_MPI_WINDOW;
    hshm_mpi *mpi = NULL;
    CHECK_STATUS(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi), HSHM_E_NOTSUP, "osc ucx");
    check_same_sentence();
    options.engine = HSHM_MPI_MESSAGES;
    mpi = open_heaps(&options);
    CHECK_OK(hshm_mpi_close(&mpi));
}

/* Pieces of all sizes and nodes, in both directions. */
static void
vectors_with(hshm_mpi_engine engine)
{
    enum { PIECES = 300 };
    hshm_mpi *mpi = open_for_moves(engine);
    hshm_mpi_piece out[PIECES];
    hshm_mpi_piece in[PIECES];
    size_t at = 0;
    for (unsigned i = 0; i < PIECES; i++) {
        const uint32_t node = i / 20 % hshm_mpi_nodes(mpi);
        const size_t size = i % 50 == 49 ? 9000 : i % 7 == 6 ? 0 : 1 + i * 3 % 200;
        hshm_gptr there = HSHM_GPTR_NULL;
        CHECK_OK(hshm_mpi_alloc(mpi, node, size, &there));
        out[i] = (hshm_mpi_piece){ there, sent + at, size };
        in[i] = (hshm_mpi_piece){ there, got + at, size };
        at += size;
    }
    CHECK(at < LONGEST);
    fill(sent, at, (unsigned)rank);
    memset(got, 0, at);
    CHECK_OK(hshm_mpi_putv(mpi, out, PIECES));
    CHECK_OK(hshm_mpi_getv(mpi, in, PIECES));
    CHECK(memcmp(sent, got, at) == 0);

    hshm_mpi_request requests[2] = { NULL, NULL };
    fill(sent, at, (unsigned)rank + 1);
    CHECK_OK(hshm_mpi_rputv(mpi, out, PIECES, &requests[0]));
    CHECK_OK(hshm_mpi_flush(mpi, HSHM_MPI_ALL_NODES));
    bool done = false;
    CHECK_OK(hshm_mpi_test(mpi, &requests[0], &done));
    CHECK(done && requests[0] == NULL);
    CHECK_OK(hshm_mpi_rgetv(mpi, in, PIECES / 2, &requests[0]));
    CHECK_OK(hshm_mpi_rgetv(mpi, in + PIECES / 2, PIECES - PIECES / 2, &requests[1]));
    CHECK_OK(hshm_mpi_wait(mpi, &requests[1]));
    CHECK_OK(hshm_mpi_wait(mpi, &requests[0]));
    CHECK(memcmp(sent, got, at) == 0);
    CHECK_OK(hshm_mpi_getv(mpi, NULL, 0));
    for (unsigned i = 0; i < PIECES; i++)
        CHECK_OK(hshm_mpi_free(mpi, out[i].remote));
    close_after_moves(mpi);
}

/* Empty pieces have no address and no buffer; between others they change nothing. */
static void
empty_pieces(void)
{
    hshm_mpi *mpi = open_for_moves(HSHM_MPI_MESSAGES);
    for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
        hshm_gptr there = HSHM_GPTR_NULL;
        CHECK_OK(hshm_mpi_alloc(mpi, node, 10016, &there));
        hshm_gptr stale = there;
        stale.generation++;
        hshm_gptr nowhere = there;
        nowhere.node = hshm_mpi_nodes(mpi);
        const hshm_mpi_piece out[] = {
            { HSHM_GPTR_NULL, NULL, 0 },
            { there, sent, 8 },
            { HSHM_GPTR_NULL, NULL, 0 },
            { nowhere, NULL, 0 },
            { hshm_gptr_add(there, 8), sent + 8, 8 },
            { stale, sent, 0 },
            { hshm_gptr_add(there, 16), sent + 16, 10000 },
            { stale, NULL, 0 },
        };
        enum { PIECES = sizeof out / sizeof out[0] };
        hshm_mpi_piece in[PIECES];
        memcpy(in, out, sizeof in);
        for (unsigned i = 0; i < PIECES; i++)
            in[i].local = out[i].local == NULL ? NULL : got + ((unsigned char *)out[i].local - sent);
        fill(sent, 10016, (unsigned)rank + node);
        memset(got, 0, 10016);
        CHECK_OK(hshm_mpi_putv(mpi, out, PIECES));
        CHECK_OK(hshm_mpi_getv(mpi, in, PIECES));
        CHECK(memcmp(sent, got, 10016) == 0);
        CHECK_OK(hshm_mpi_putv(mpi, &out[2], 2)); /* nothing but empty ones */
        CHECK_OK(hshm_mpi_free(mpi, there));
    }
    close_after_moves(mpi);
}

static void
vectors_by_messages(void)
{
    vectors_with(HSHM_MPI_MESSAGES);
}

static void
vectors_by_window(void)
{
    vectors_with(HSHM_MPI_WINDOW);
}

/* More requests than exchanges may be under way, and some that nobody waits for before close. */
static void
many_requests(void)
{
    enum { REQUESTS = 3000, EACH = 600 };
    hshm_mpi *mpi = open_for_moves(HSHM_MPI_MESSAGES);
    const uint32_t node = (hshm_mpi_node(mpi) + 1) % hshm_mpi_nodes(mpi);
    hshm_gptr there = HSHM_GPTR_NULL;
    hshm_mpi_request *requests = calloc(REQUESTS, sizeof(hshm_mpi_request));
    CHECK(requests != NULL);
    CHECK_OK(hshm_mpi_alloc(mpi, node, LONGEST, &there));
    fill(sent, LONGEST, 5);
    for (unsigned i = 0; i < REQUESTS; i++) {
        const size_t off = i % 1000 * EACH;
        CHECK_OK(hshm_mpi_rput(mpi, hshm_gptr_add(there, (int64_t)off), sent + off, EACH, &requests[i]));
    }
    CHECK_OK(hshm_mpi_flush(mpi, node));
    for (unsigned i = 0; i < REQUESTS; i++)
        CHECK_OK(hshm_mpi_wait(mpi, &requests[i]));
    for (unsigned i = 0; i < 1000; i++) {
        const size_t off = i * EACH;
        CHECK_OK(hshm_mpi_rget(mpi, hshm_gptr_add(there, (int64_t)off), got + off, EACH, &requests[i]));
    }
    for (unsigned left = 1000; left > 0;) {
        for (unsigned i = 0; i < 1000; i++) {
            bool done = false;
            const bool was = requests[i] != NULL;
            CHECK_OK(hshm_mpi_test(mpi, &requests[i], &done));
            left -= was && done;
        }
    }
    CHECK(memcmp(sent, got, (size_t)1000 * EACH) == 0);
    CHECK_OK(hshm_mpi_wait(mpi, &requests[0]));                       /* a NULL request */
    CHECK_OK(hshm_mpi_rput(mpi, there, sent, LONGEST, &requests[0])); /* for close to finish, and to forget */
    free(requests);
    close_after_moves(mpi);
}

/*
 * A rank begins puts of a node's and then computes: others' requests to that node must not wait for its next call to MPI.
 * Its neighbour tells it through their own heap, without MPI, that it got through.  `run -c` has MPI's processes not reach
 * into each other's memory, so that a message that is too long to be sent at once needs both sides.
 */
static void
a_rank_that_computes(void)
{
    enum { BEGUN = 1, GOT = 2, SMALL = 200, PATIENCE_S = 60 };
    static const size_t sizes[] = { 3951, 3952, 3953, 3960, 3984, 4000, 4032, 4048, 4064, 4096, 5000, 100000 };
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    hshm_mpi *mpi = open_for_moves(HSHM_MPI_MESSAGES);
    int node_rank = 0;
    (void)MPI_Comm_rank(hshm_mpi_node_comm(mpi), &node_rank);
    const bool puts = hshm_mpi_node(mpi) == 1 && node_rank == 0;
    const bool gets = hshm_mpi_node(mpi) == 1 && node_rank == 1;
    int both = puts + gets;
    (void)MPI_Allreduce(MPI_IN_PLACE, &both, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    CHECK(both == 2);
    _Atomic uint64_t *word = hshm_allocator_custom_header(hshm_mpi_allocator(mpi), NULL);
    for (unsigned i = 0; i <= SIZES; i++) {
        if (puts) {
            hshm_gptr there = HSHM_GPTR_NULL;
            hshm_mpi_request request = NULL;
            hshm_mpi_piece small[SMALL];
            CHECK_OK(hshm_mpi_alloc(mpi, 0, 100000, &there));
            for (unsigned k = 0; k < SMALL; k++)
                small[k] = (hshm_mpi_piece){ hshm_gptr_add(there, 8 * (int64_t)k), sent + (size_t)8 * k, 8 };
            fill(sent, 100000, i);
            if (i < SIZES)
                CHECK_OK(hshm_mpi_rput(mpi, there, sent, sizes[i], &request));
            else
                CHECK_OK(hshm_mpi_rputv(mpi, small, SMALL, &request));
            *word = BEGUN;
            for (unsigned ms = 0; *word != GOT; ms++) {
                CHECK(ms < PATIENCE_S * 1000); /* else this test would hang */
                (void)usleep(1000);
            }
            CHECK_OK(hshm_mpi_wait(mpi, &request));
            CHECK_OK(hshm_mpi_get(mpi, there, got, i < SIZES ? sizes[i] : (size_t)8 * SMALL));
            CHECK(memcmp(sent, got, i < SIZES ? sizes[i] : (size_t)8 * SMALL) == 0);
            CHECK_OK(hshm_mpi_free(mpi, there));
        } else if (gets) {
            while (*word != BEGUN)
                (void)usleep(100);
            CHECK_OK(hshm_mpi_get(mpi, hshm_mpi_header(mpi, 0), got, 8));
            *word = GOT;
        }
        CHECK_OK(hshm_mpi_fence(mpi));
    }
    close_after_moves(mpi);
}

/* Behind the custom header, and before data, which begin at a multiple of 64 at least: nobody's, and the owner alone knows it. */
static hshm_gptr
between(hshm_mpi *mpi, uint32_t node)
{
    return hshm_gptr_add(hshm_mpi_header(mpi, node), HEADER);
}

static void
refusals(void)
{
    hshm_mpi *mpi = open_for_moves(HSHM_MPI_MESSAGES);
    hshm_gptr there = HSHM_GPTR_NULL;
    hshm_mpi_request request = NULL;
    for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
        CHECK_OK(hshm_mpi_alloc(mpi, node, 100, &there));
        hshm_gptr tables = there;
        tables.off = 64; /* the region's header */
        hshm_gptr beyond = there;
        beyond.off = 16 * MIB - 4;
        hshm_gptr stale = there;
        stale.generation++;
        CHECK_STATUS(hshm_mpi_get(mpi, tables, got, 8), HSHM_E_INVAL, NULL);
        CHECK_STATUS(hshm_mpi_put(mpi, tables, sent, 8), HSHM_E_INVAL, NULL);
        CHECK_STATUS(hshm_mpi_get(mpi, tables, got, 200000), HSHM_E_INVAL, NULL);
        CHECK_STATUS(hshm_mpi_put(mpi, tables, sent, 200000), HSHM_E_INVAL, NULL);
        CHECK_STATUS(hshm_mpi_rput(mpi, tables, sent, 8, &request), HSHM_E_INVAL, "tables");
        /* What only the owner knows. */
        const hshm_gptr gap = between(mpi, node);
        CHECK_STATUS(hshm_mpi_get(mpi, gap, got, 8), HSHM_E_INVAL, NULL);
        CHECK_STATUS(hshm_mpi_put(mpi, gap, sent, 8), HSHM_E_INVAL, NULL);
        CHECK_STATUS(hshm_mpi_get(mpi, gap, got, 200000), HSHM_E_INVAL, NULL);
        CHECK_STATUS(hshm_mpi_put(mpi, gap, sent, 200000), HSHM_E_INVAL, NULL);
        CHECK_STATUS(hshm_mpi_put(mpi, beyond, sent, 8), HSHM_E_INVAL, "do not lie");
        CHECK_STATUS(hshm_mpi_get(mpi, stale, got, 8), HSHM_E_NOTFOUND, "outlived");
        CHECK_STATUS(hshm_mpi_get(mpi, HSHM_GPTR_NULL, got, 8), HSHM_E_INVAL, "null");
        CHECK_STATUS(hshm_mpi_get(mpi, there, NULL, 8), HSHM_E_INVAL, "NULL");
        CHECK_STATUS(hshm_mpi_rget(mpi, there, got, 8, NULL), HSHM_E_INVAL, "NULL");
        CHECK_OK(hshm_mpi_rput(mpi, gap, sent, 100000, &request));
        CHECK_STATUS(hshm_mpi_wait(mpi, &request), HSHM_E_INVAL, NULL);
        CHECK(request == NULL);
        CHECK_OK(hshm_mpi_free(mpi, there));
    }
    there.node = hshm_mpi_nodes(mpi);
    CHECK_STATUS(hshm_mpi_get(mpi, there, got, 8), HSHM_E_INVAL, "leads to node");
    CHECK_STATUS(hshm_mpi_flush(mpi, hshm_mpi_nodes(mpi)), HSHM_E_INVAL, NULL);
    CHECK_OK(hshm_mpi_fence(mpi));
    CHECK_OK(hshm_check(hshm_mpi_allocator(mpi), 0, NULL));
    close_after_moves(mpi);
}

/* A call that succeeds leaves the last failure alone, though it served requests of others that failed. */
static void
own_failures_stay(void)
{
    hshm_mpi *mpi = open_for_moves(HSHM_MPI_MESSAGES);
    (void)hshm_set_last_error(HSHM_E_TIMEOUT, "mine");
    if (hshm_mpi_leader(mpi, hshm_mpi_node(mpi)) != rank || hshm_mpi_node(mpi) != 0) {
        CHECK_STATUS(hshm_mpi_get(mpi, between(mpi, 0), got, 8), HSHM_E_INVAL, NULL);
        (void)hshm_set_last_error(HSHM_E_TIMEOUT, "mine");
    }
    CHECK_OK(hshm_mpi_fence(mpi));
    CHECK(hshm_last_status() == HSHM_E_TIMEOUT);
    CHECK(strcmp(hshm_last_error(), "mine") == 0);
    close_after_moves(mpi);
}

/* Between addresses and global pointers. */
static void
pointers(void)
{
    hshm_mpi *mpi = open_for_moves(HSHM_MPI_MESSAGES);
    hshm_allocator *heap = hshm_mpi_allocator(mpi);
    int local = 0;
    char *block = hshm_malloc(heap, 100);
    const hshm_gptr here = hshm_mpi_to_global(mpi, block);
    CHECK(here.node == hshm_mpi_node(mpi) && here.off == hshm_to_off(heap, block));
    CHECK(hshm_mpi_to_local(mpi, here) == block);
    CHECK(hshm_mpi_to_local(mpi, hshm_gptr_add(here, 10)) == block + 10);
    CHECK(hshm_gptr_is_null(hshm_mpi_to_global(mpi, NULL)));
    CHECK(hshm_gptr_is_null(hshm_mpi_to_global(mpi, &local)));
    CHECK(hshm_last_status() == HSHM_E_NOTFOUND);
    CHECK(hshm_mpi_to_local(mpi, HSHM_GPTR_NULL) == NULL);
    for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
        const hshm_gptr header = hshm_mpi_header(mpi, node);
        void *address = hshm_mpi_to_local(mpi, header);
        CHECK((address != NULL) == (node == hshm_mpi_node(mpi)));
        CHECK(address == NULL || address == hshm_allocator_custom_header(heap, NULL));
    }
    CHECK(hshm_gptr_is_null(hshm_mpi_header(mpi, hshm_mpi_nodes(mpi))));
    CHECK_OK(hshm_mpi_free(mpi, here));
    close_after_moves(mpi);
}

/*
 * The leader of node 0 leaves MPI alone until others have put into its heap: so they can only come to an end if somebody else
 * serves them in it.
 */
static void
a_leader_that_computes(void)
{
    hshm_mpi_options options = options_for_test();
    options.custom_header_size = 16;
    options.progress = HSHM_MPI_PROGRESS_THREAD;
    hshm_mpi *mpi = open_heaps(&options);
    int outside = hshm_mpi_node(mpi) != 0;
    (void)MPI_Allreduce(MPI_IN_PLACE, &outside, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    CHECK(outside > 0);
    if (hshm_mpi_leader(mpi, 0) == rank) {
        const _Atomic uint64_t *told = hshm_allocator_custom_header(hshm_mpi_allocator(mpi), NULL);
        while (*told != (uint64_t)outside)
            (void)usleep(1000);
    } else if (hshm_mpi_node(mpi) != 0) {
        hshm_gptr there = HSHM_GPTR_NULL;
        uint64_t word = (uint64_t)rank;
        CHECK_OK(hshm_mpi_alloc(mpi, 0, 100000, &there));
        CHECK_OK(hshm_mpi_put(mpi, there, &word, sizeof word));
        word = 0;
        CHECK_OK(hshm_mpi_get(mpi, there, &word, sizeof word));
        CHECK(word == (uint64_t)rank);
        CHECK_OK(hshm_mpi_free(mpi, there));
        CHECK_OK(hshm_mpi_fetch_add(mpi, hshm_mpi_header(mpi, 0), 1, NULL));
    }
    CHECK_OK(hshm_mpi_close(&mpi));
}

/* Without the thread the leader serves in the calls that it makes. */
static void
a_leader_that_calls(void)
{
    hshm_mpi_options options = options_for_test();
    options.custom_header_size = 16;
    options.progress = HSHM_MPI_PROGRESS_CALLS;
    hshm_mpi *mpi = open_heaps(&options);
    int outside = hshm_mpi_node(mpi) != 0;
    (void)MPI_Allreduce(MPI_IN_PLACE, &outside, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (hshm_mpi_leader(mpi, 0) == rank) {
        const _Atomic uint64_t *told = hshm_allocator_custom_header(hshm_mpi_allocator(mpi), NULL);
        while (*told != (uint64_t)outside)
            CHECK_OK(hshm_mpi_progress(mpi));
    } else if (hshm_mpi_node(mpi) != 0) {
        CHECK_OK(hshm_mpi_fetch_add(mpi, hshm_mpi_header(mpi, 0), 1, NULL));
    }
    CHECK_OK(hshm_mpi_close(&mpi));
}

const struct mpi_case move_cases[] = {
    { "sizes_by_messages", sizes_by_messages },
    { "sizes_by_window", sizes_by_window },
    { "tables_by_messages", tables_by_messages },
    { "tables_by_window", tables_by_window },
    { "window_refused", window_refused },
    { "vectors_by_messages", vectors_by_messages },
    { "vectors_by_window", vectors_by_window },
    { "empty_pieces", empty_pieces },
    { "many_requests", many_requests },
    { "a_rank_that_computes", a_rank_that_computes },
    { "refusals", refusals },
    { "own_failures_stay", own_failures_stay },
    { "pointers", pointers },
    { "a_leader_that_computes", a_leader_that_computes },
    { "a_leader_that_calls", a_leader_that_calls },
    { NULL, NULL },
};
