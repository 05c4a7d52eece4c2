/*
 * test_no_memory.c - a Malloc heap when the system's malloc itself has nothing: every single request of the library is
 * refused once, and all requests for its tables for as long as one likes.  Calls say so, and what was there stays.
 *
 * labels: valgrind
 *
 * The linker leads the library's calls to malloc and its kin here first (see CMakeLists.txt).
 */
#include "blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { REGION = 2 << 20, BLOCKS = 200 };

static struct {
    uint64_t countdown; /* which request is refused: 1 = the next; 0 = none */
    bool no_tables;     /* calloc refuses all: the tables of live blocks cannot grow */
} refusing;

static bool
refused(void)
{
    return refusing.countdown > 0 && --refusing.countdown == 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *addr, size_t size);
void *__wrap_realloc(void *addr, size_t size);
int __real_posix_memalign(void **ret_addr, size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret_addr, size_t alignment, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *
__wrap_malloc(size_t size)
{
    return refused() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return refused() || refusing.no_tables ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *addr, size_t size)
{
    return refused() ? NULL : __real_realloc(addr, size);
}

int
__wrap_posix_memalign(void **ret_addr, size_t alignment, size_t size)
{
    return refused() ? ENOMEM : __real_posix_memalign(ret_addr, alignment, size);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return refused() ? NULL : __real_aligned_alloc(alignment, size);
}

static int
end_refusals(void **state)
{
    refusing.countdown = 0;
    refusing.no_tables = false;
    return drop_heaps(state);
}

/* ---- each request once ---- */

struct played {
    hshm_allocator *heap;
    unsigned char *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    unsigned failures;
};

static void
expect(struct played *played, hshm_status status, hshm_status failure)
{
    if (status == HSHM_OK)
        return;
    assert_status(status, failure);
    played->failures++;
}

static void
take(struct played *played, size_t at)
{
    const size_t size = at * 7 % 900;
    void *block = at % 5 == 0 ? hshm_aligned_alloc(played->heap, 256, size) : hshm_malloc(played->heap, size);
    played->blocks[at] = block;
    played->sizes[at] = size;
    if (block != NULL)
        block_fill(block, size, at);
    else
        expect(played, hshm_last_status(), HSHM_E_NOMEM);
}

static void
resize(struct played *played, size_t at)
{
    if (played->blocks[at] == NULL)
        return;
    const size_t size = at % 2 == 0 ? played->sizes[at] * 3 : played->sizes[at] / 3;
    void *moved = hshm_realloc(played->heap, played->blocks[at], size);
    if (moved == NULL) {
        expect(played, hshm_last_status(), HSHM_E_NOMEM);
        assert_block(played->heap, played->blocks[at], played->sizes[at], at);
        return;
    }
    const size_t kept = size < played->sizes[at] ? size : played->sizes[at];
    assert_true(block_holds(moved, kept, at));
    block_fill(moved, size, at);
    played->blocks[at] = moved;
    played->sizes[at] = size;
}

static int
count_block(const hshm_block *block, void *arg)
{
    size_t *count = arg;
    *count += block->size > 0;
    return 0;
}

static void
look(struct played *played, size_t live)
{
    size_t count = 0;
    const hshm_status status = hshm_visit_blocks(played->heap, count_block, &count);
    expect(played, status, HSHM_E_NOSPC);
    assert_true(status == HSHM_OK ? count == live : count < live);
}

static size_t
count_live(const struct played *played)
{
    size_t live = 0;
    for (size_t i = 0; i < BLOCKS; i++)
        live += played->blocks[i] != NULL;
    return live;
}

static void
begin(struct played *played)
{
    const hshm_allocator_id id = { 1, 0 };
    expect(played, hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, REGION, NULL, NULL, NULL), HSHM_E_NOSPC);
    if (played->failures > 0) {
        assert_status(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_MALLOC, 0, NULL, NULL), HSHM_E_NOTFOUND);
        assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, REGION, NULL, NULL, NULL));
    }
    const unsigned before = played->failures;
    expect(played, hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_MALLOC, 100, NULL, &played->heap), HSHM_E_NOSPC);
    /* A failed one has changed nothing: the next succeeds. */
    if (played->failures > before)
        assert_ok(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_MALLOC, 100, NULL, &played->heap));
}

/* All kinds of calls, while one request of theirs is refused.  How many failed: none or one. */
static unsigned
play(uint64_t refuse)
{
    static struct played played;
    played = (struct played){ 0 };
    refusing.countdown = refuse;
    begin(&played);
    for (size_t i = 0; i < BLOCKS; i++)
        take(&played, i);
    for (size_t i = 0; i < BLOCKS; i++)
        resize(&played, i);
    look(&played, count_live(&played));
    const bool over = refusing.countdown == 0;
    refusing.countdown = 0;
    assert_sound(played.heap);
    assert_int_equal(stats_of(played.heap).live_blocks, count_live(&played));
    for (size_t i = 0; i < BLOCKS; i++) {
        if (played.blocks[i] != NULL)
            assert_block(played.heap, played.blocks[i], played.sizes[i], i);
        assert_ok(hshm_free(played.heap, played.blocks[i]));
    }
    assert_int_equal(stats_of(played.heap).live_bytes, 0);
    assert_sound(played.heap);
    hshm_manager_destroy(NULL);
    /* A table that cannot grow just now is grown later: not every refusal is a failure. */
    assert_true(played.failures <= (over ? 1U : 0U));
    return over ? played.failures : UINT32_MAX;
}

static void
each_request_may_be_refused_once(void **state)
{
    (void)state;
    unsigned failures = 0;
    uint64_t requests = 0;
    for (unsigned failed; (failed = play(requests + 1)) != UINT32_MAX; requests++)
        failures += failed;
    /* There were that many requests at least, and nearly all of them were missed. */
    assert_true(requests > 2 * BLOCKS);
    assert_true(failures > BLOCKS);
    assert_int_equal(play(0), 0);
}

/* ---- tables that cannot grow ---- */

enum { CROWD = 8192 };

struct crowd {
    hshm_allocator *heap;
    size_t count;
    unsigned char *blocks[CROWD];
};

/* So many small blocks that the tables are as full as they get without growing. */
static void
fill(struct crowd *crowd)
{
    crowd->heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    crowd->count = 0;
    refusing.no_tables = true;
    for (int failures = 0; failures < 20;) {
        assert_true(crowd->count < CROWD);
        unsigned char *block = hshm_malloc(crowd->heap, 24);
        if (block == NULL) {
            assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
            failures++;
            continue;
        }
        block_fill(block, 24, crowd->count);
        crowd->blocks[crowd->count++] = block;
    }
}

static void
check_all(struct crowd *crowd, size_t size)
{
    for (size_t i = 0; i < crowd->count; i++)
        assert_block(crowd->heap, crowd->blocks[i], size, i);
    assert_int_equal(stats_of(crowd->heap).live_blocks, crowd->count);
    assert_sound(crowd->heap);
}

static void
free_all(struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->count; i++) {
        assert_ok(hshm_free(crowd->heap, crowd->blocks[i]));
        assert_status(hshm_free(crowd->heap, crowd->blocks[i]), HSHM_E_BADFREE);
    }
    assert_int_equal(stats_of(crowd->heap).live_bytes, 0);
    assert_sound(crowd->heap);
}

static void
without_room_in_the_tables_there_are_no_more_blocks(void **state)
{
    (void)state;
    static struct crowd crowd;
    fill(&crowd);
    assert_true(crowd.count >= 64);
    check_all(&crowd, 24);
    const hshm_stats stats = stats_of(crowd.heap);
    assert_int_equal(stats.failures, 20);
    assert_int_equal(stats.allocs, crowd.count);
    assert_true(stats.live_bytes < stats.data_bytes / 2); /* the limit was not what refused */

    /* With memory for the tables it goes on. */
    refusing.no_tables = false;
    for (size_t i = 0; i < 1000; i++) {
        unsigned char *block = hshm_malloc(crowd.heap, 24);
        assert_non_null(block);
        block_fill(block, 24, crowd.count);
        crowd.blocks[crowd.count++] = block;
    }
    check_all(&crowd, 24);
    free_all(&crowd);
}

/* The tables of a heap begin with places for a thousand blocks: these are so few that no table is ever crowded. */
static void
few_blocks_can_be_resized_though_the_tables_cannot_grow(void **state)
{
    (void)state;
    enum { FEW = 200, RESIZES = 20000 };
    static struct crowd crowd;
    uint64_t random = test_seed();
    crowd.heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, REGION, HSHM_ALLOCATOR_MALLOC);
    refusing.no_tables = true;
    for (crowd.count = 0; crowd.count < FEW; crowd.count++) {
        crowd.blocks[crowd.count] = hshm_malloc(crowd.heap, 24);
        assert_non_null(crowd.blocks[crowd.count]);
        block_fill(crowd.blocks[crowd.count], 24, crowd.count);
    }
    for (int i = 0; i < RESIZES; i++) {
        const size_t at = (size_t)(next_random(&random) % FEW);
        crowd.blocks[at] = hshm_realloc(crowd.heap, crowd.blocks[at], 24 + (size_t)(next_random(&random) % 600));
        assert_non_null(crowd.blocks[at]);
    }
    check_all(&crowd, 24);
    free_all(&crowd);
}

static void
resizing_with_full_tables_works_or_changes_nothing(void **state)
{
    (void)state;
    enum { RESIZES = 20000 };
    static struct crowd crowd;
    uint64_t random = test_seed();
    unsigned refusals = 0;
    fill(&crowd);
    for (int i = 0; i < RESIZES; i++) {
        const size_t at = (size_t)(next_random(&random) % crowd.count);
        const size_t size = 24 + (size_t)(next_random(&random) % 600);
        unsigned char *moved = hshm_realloc(crowd.heap, crowd.blocks[at], size);
        if (moved == NULL) {
            assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
            refusals++;
            continue;
        }
        crowd.blocks[at] = moved;
        assert_true(hshm_usable_size(crowd.heap, moved) >= size);
    }
    assert_true(refusals > 0);
    check_all(&crowd, 24);
    refusing.no_tables = false;
    for (size_t i = 0; i < crowd.count; i++) {
        crowd.blocks[i] = hshm_realloc(crowd.heap, crowd.blocks[i], 640);
        assert_non_null(crowd.blocks[i]);
    }
    check_all(&crowd, 24);
    free_all(&crowd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(each_request_may_be_refused_once, end_refusals),
        cmocka_unit_test_teardown(without_room_in_the_tables_there_are_no_more_blocks, end_refusals),
        cmocka_unit_test_teardown(resizing_with_full_tables_works_or_changes_nothing, end_refusals),
        cmocka_unit_test_teardown(few_blocks_can_be_resized_though_the_tables_cannot_grow, end_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
