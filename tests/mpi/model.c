/*
 * model.c - random operations on all nodes' heaps, beside a model in private memory.
 *
 * Each rank has blocks on all nodes, and a private copy of each.  It allocates (as an owner's rank by hshm_malloc(), too),
 * frees, puts and gets whole blocks and parts, alone, as vectors and with requests, and adds to counters that all share.
 * Now and then all ranks hand their blocks on to the next.  In the end the contents are what the models say, the counters
 * add up, nothing is left, and each node's heap passes a check.
 *
 * HSHM_TEST_OPERATIONS says how many there are in the whole job, HSHM_TEST_SEED repeats a run.
 */
#include <time.h>

#include "ranks.h"

enum { BLOCKS = 120, MOST = 40000, ROUNDS = 8 };

struct block {
    hshm_gptr at;
    uint64_t size;
    unsigned char *copy;
};

static hshm_mpi *mpi;
static struct block blocks[BLOCKS];
static uint64_t seed, added;
static unsigned char buffer[MOST];

static uint64_t
draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

static void
scribble(unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(seed >> (i % 8 * 8)) ^ (unsigned char)i;
    (void)draw(2);
}

static void
allocate(struct block *b)
{
    const uint32_t node = (uint32_t)draw(hshm_mpi_nodes(mpi));
    b->size = draw(20) == 0 ? 1 + draw(MOST) : 1 + draw(600);
    b->copy = malloc(b->size);
    CHECK(b->copy != NULL);
    if (node == hshm_mpi_node(mpi) && draw(2) == 0) {
        void *block = hshm_malloc(hshm_mpi_allocator(mpi), b->size);
        CHECK(block != NULL);
        b->at = hshm_mpi_to_global(mpi, block);
    } else {
        CHECK_OK(hshm_mpi_alloc(mpi, node, b->size, &b->at));
    }
    scribble(b->copy, b->size);
    CHECK_OK(hshm_mpi_put(mpi, b->at, b->copy, b->size));
}

static void
compare(const struct block *b)
{
    CHECK_OK(hshm_mpi_get(mpi, b->at, buffer, b->size));
    CHECK(memcmp(buffer, b->copy, b->size) == 0);
}

static void
release(struct block *b)
{
    compare(b);
    CHECK_OK(hshm_mpi_free(mpi, b->at));
    free(b->copy);
    *b = (struct block){ HSHM_GPTR_NULL, 0, NULL };
}

static void
change_part(struct block *b)
{
    const size_t off = draw(b->size);
    const size_t size = 1 + draw(b->size - off);
    scribble(b->copy + off, size);
    hshm_mpi_request request = NULL;
    CHECK_OK(hshm_mpi_rput(mpi, hshm_gptr_add(b->at, (int64_t)off), b->copy + off, size, &request));
    if (draw(2) == 0)
        CHECK_OK(hshm_mpi_flush(mpi, b->at.node));
    CHECK_OK(hshm_mpi_wait(mpi, &request));
}

/* Up to 8 blocks in one call, there and back. */
static void
change_many(void)
{
    hshm_mpi_piece pieces[8];
    size_t count = 0;
    size_t at = 0;
    for (unsigned i = 0; i < 8; i++) {
        struct block *b = &blocks[(draw(BLOCKS / 8) * 8) + i];
        if (b->copy == NULL || b->size > 600 || at + b->size > MOST)
            continue;
        scribble(b->copy, b->size);
        pieces[count++] = (hshm_mpi_piece){ b->at, b->copy, b->size };
        at += b->size;
    }
    CHECK_OK(hshm_mpi_putv(mpi, pieces, count));
    at = 0;
    hshm_mpi_piece back[8];
    for (size_t i = 0; i < count; at += pieces[i++].size)
        back[i] = (hshm_mpi_piece){ pieces[i].remote, buffer + at, pieces[i].size };
    CHECK_OK(hshm_mpi_getv(mpi, back, count));
    for (size_t i = 0; i < count; i++)
        CHECK(memcmp(back[i].local, pieces[i].local, pieces[i].size) == 0);
}

static void
one_operation(void)
{
    struct block *b = &blocks[draw(BLOCKS)];
    const uint64_t what = draw(100);
    if (b->copy == NULL) {
        allocate(b);
    } else if (what < 25) {
        release(b);
    } else if (what < 50) {
        compare(b);
    } else if (what < 75) {
        change_part(b);
    } else if (what < 85) {
        change_many();
    } else {
        const uint64_t add = draw(1000);
        CHECK_OK(hshm_mpi_fetch_add(mpi, hshm_mpi_header(mpi, (uint32_t)draw(hshm_mpi_nodes(mpi))), add, NULL));
        added += add;
    }
}

/* To the next rank, blocks and models. */
static void
hand_on(void)
{
    CHECK_OK(hshm_mpi_fence(mpi));
    const int to = (rank + 1) % ranks;
    const int from = (rank + ranks - 1) % ranks;
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct block other = { HSHM_GPTR_NULL, 0, NULL };
        (void)MPI_Sendrecv(&blocks[i], (int)sizeof blocks[i], MPI_BYTE, to, 1, &other, (int)sizeof other, MPI_BYTE,
                           from, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        other.copy = other.size > 0 ? malloc(other.size) : NULL;
        CHECK(other.size == 0 || other.copy != NULL);
        (void)MPI_Sendrecv(blocks[i].copy, (int)blocks[i].size, MPI_BYTE, to, 2, other.copy, (int)other.size, MPI_BYTE,
                           from, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        free(blocks[i].copy);
        blocks[i] = other;
    }
}

static void
check_sums(void)
{
    uint64_t total = 0;
    uint64_t found = 0;
    (void)MPI_Allreduce(&added, &total, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    for (uint32_t node = 0; node < hshm_mpi_nodes(mpi); node++) {
        uint64_t word = 0;
        CHECK_OK(hshm_mpi_get(mpi, hshm_mpi_header(mpi, node), &word, sizeof word));
        found += word;
    }
    CHECK(found == total);
}

static void
random_operations(void)
{
    const char *wanted = getenv("HSHM_TEST_OPERATIONS");
    const char *given = getenv("HSHM_TEST_SEED");
    const unsigned long long operations = wanted != NULL ? strtoull(wanted, NULL, 10) : 12000;
    unsigned long long start = given != NULL ? strtoull(given, NULL, 10) : (unsigned long long)time(NULL);
    (void)MPI_Bcast(&start, 1, MPI_UNSIGNED_LONG_LONG, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("seed %llu, %llu operations\n", start, operations);
    seed = (start + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ ((uint64_t)rank + 1) * UINT64_C(0xD1B54A32D192ED03);
    added = 0;
    const char *kind = getenv("HSHM_TEST_ALLOCATOR");
    hshm_mpi_options options = options_for_test();
    options.size = 32 * MIB;
    options.custom_header_size = 8;
    options.chunk = 16384;
    if (kind != NULL && strcmp(kind, "thread") == 0)
        options.allocator = HSHM_ALLOCATOR_THREAD_LOCAL;
    mpi = open_heaps(&options);
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned long long i = 0; i < operations / (unsigned)ranks / ROUNDS; i++)
            one_operation();
        hand_on();
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (blocks[i].copy != NULL)
            release(&blocks[i]);
    }
    CHECK_OK(hshm_mpi_fence(mpi));
    check_sums();
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    CHECK_OK(hshm_check(hshm_mpi_allocator(mpi), 0, &report));
    CHECK(report.live_blocks == 0);
    CHECK_OK(hshm_mpi_close(&mpi));
}

const struct mpi_case model_cases[] = {
    { "random_operations", random_operations },
    { NULL, NULL },
};
