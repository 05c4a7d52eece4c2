/*
 * test_wrong_free.c - whatever is freed that is no live block of a heap of slabs, nothing changes, and it is told.
 *
 * In release builds too: nothing here relies on asserts.
 */
#include "scenes.h"

#include <hshm/inline.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* In every way of freeing or resizing: refused, and nothing has changed. */
static void
expect_refused(hshm_allocator *heap, void *addr)
{
    const hshm_stats before = stats_of(heap);
    assert_status(hshm_free(heap, addr), HSHM_E_BADFREE);
    assert_status(hshm_free_inline(heap, addr), HSHM_E_BADFREE);
    hshm_ptr ptr = { addr, { { 1, 0 }, 0 } };
    assert_status(hshm_deallocate(heap, &ptr), HSHM_E_BADFREE);
    assert_ptr_equal(ptr.addr, addr);
    assert_null(hshm_realloc(heap, addr, 100));
    assert_status(hshm_last_status(), HSHM_E_BADFREE);
    assert_int_equal(hshm_usable_size(heap, addr), 0);
    assert_same_stats(heap, before);
    assert_sound(heap);
}

/* ---- threads ---- */

struct call {
    hshm_allocator *heap;
    void *addr;
    hshm_status status;
};

static void *
free_in_thread(void *arg)
{
    struct call *call = arg;
    call->status = hshm_free(call->heap, call->addr);
    return NULL;
}

static void *
malloc_in_thread(void *arg)
{
    struct call *call = arg;
    call->addr = hshm_malloc(call->heap, 64);
    return NULL;
}

static struct call
in_thread(void *(*run)(void *arg), hshm_allocator *heap, void *addr)
{
    struct call call = { heap, addr, HSHM_OK };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, &call), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return call;
}

/* ---- blocks ---- */

/* A size for each way in which a block can lie: one word of bits, several, several slices, runs. */
static const size_t sizes[] = { 1,     16,    48,    64,     100,    768,    1024,   1500,   5000,
                                20000, 40000, 65536, 100000, 300000, 524288, 524289, 700000, 3 * MIB };

static void
a_block_is_freed_once(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        void *neighbour = hshm_malloc(heap, sizes[i]); /* so that the slab stays */
        void *block = hshm_malloc(heap, sizes[i]);
        assert_ok(hshm_free(heap, block));
        expect_refused(heap, block);
        assert_ok(hshm_free(heap, neighbour));
        expect_refused(heap, neighbour);
        expect_refused(heap, block);
    }
    assert_emptied(heap);
    usual_end();
}

static void
an_address_inside_a_block_is_none(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        unsigned char *block = hshm_malloc(heap, sizes[i]);
        const size_t usable = hshm_usable_size(heap, block);
        const size_t inside[] = { 1,   2,    7,    8,     15,    16,     32,         48,          64,
                                  256, 1024, 4096, 16384, 65536, 131072, usable / 2, usable - 16, usable - 1 };
        for (size_t at = 0; at < COUNTOF(inside); at++) {
            if (inside[at] > 0 && inside[at] < usable)
                expect_refused(heap, block + inside[at]);
        }
        assert_ok(hshm_free(heap, block));
    }
    assert_emptied(heap);
    usual_end();
}

/* Blocks do not fill their slices to the last byte: for each class, what lies behind its last block. */
static void
the_end_of_a_slab_is_no_block(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    const struct slab_heap *h = &heap->slab;
    for (uint32_t class = 0; class < h->classes; class ++) {
        unsigned char *block = hshm_malloc(heap, h->sizes[class]);
        assert_int_equal(hshm_usable_size(heap, block), h->sizes[class]);
        const uint64_t slice = (uint64_t)(block - h->data) >> h->shift;
        const uint64_t slices = slice_count(atomic_load(&h->slices[slice]));
        const uint64_t blocks = slab_blocks(h, class, slices);
        unsigned char *begin = slice_address(h, slice);
        for (uint64_t off = blocks * h->sizes[class]; off < slices << h->shift; off += h->sizes[class])
            expect_refused(heap, begin + off);
        for (uint64_t i = 1; i < slices; i++) {
            if (((i << h->shift) % h->sizes[class]) != 0)
                expect_refused(heap, begin + (i << h->shift));
        }
        if (blocks > 1)
            expect_refused(heap, begin + (blocks - 1) * h->sizes[class]); /* never given out */
        assert_ok(hshm_free(heap, block));
    }
    assert_emptied(heap);
    usual_end();
}

static void
what_lies_outside_the_blocks_is_none(hshm_allocator_kind kind)
{
    static const struct place place = { "", HSHM_BACKEND_MALLOC, 16 * MIB, 0, 0, false };
    struct scene scene;
    scene_make(&scene, &place, kind, 1000);
    hshm_allocator *heap = scene.heap;
    const struct slab_heap *h = &heap->slab;
    unsigned char *block = hshm_malloc(heap, 100);
    unsigned char *run = hshm_malloc(heap, MIB);
    unsigned char *foreign = malloc(100);
    int local;
    void *const wrong[] = {
        heap->view.base,
        heap->view.base + 64,
        (void *)h->slices,
        (void *)h->taken,
        (void *)h->shelves,
        (void *)h->threads,
        h->shards,
        h->records,
        h->records + h->record_size,
        (void *)h->root,
        hshm_allocator_custom_header(heap, NULL),
        h->data - 16,
        h->data - (UINT64_C(1) << h->shift),
        slice_address(h, h->count - 1), /* never taken */
        slice_address(h, h->count),
        slice_address(h, h->count) - 16,
        heap->view.base + 16 * MIB,
        foreign,
        &local,
        (void *)(uintptr_t)1,
        (void *)(uintptr_t)16,
        (void *)UINTPTR_MAX,
        (void *)(UINTPTR_MAX - 15),
        (void *)(UINTPTR_MAX / 2 + 1),
        block - 16,
        run + MIB,
        run - 16,
    };
    for (size_t i = 0; i < COUNTOF(wrong); i++) {
        if (wrong[i] != block)
            expect_refused(heap, wrong[i]);
    }
    free(foreign);
    assert_ok(hshm_free(heap, block));
    assert_ok(hshm_free(heap, run));
    scene_end(&scene);
}

/* ---- of other threads ---- */

static void
a_block_is_freed_once_by_whichever_thread(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        void *neighbour = hshm_malloc(heap, sizes[i]);
        void *block = hshm_malloc(heap, sizes[i]);
        assert_ok(hshm_free(heap, block));
        assert_int_equal(in_thread(free_in_thread, heap, block).status, HSHM_E_BADFREE);

        block = hshm_malloc(heap, sizes[i]);
        assert_int_equal(in_thread(free_in_thread, heap, block).status, HSHM_OK);
        assert_int_equal(in_thread(free_in_thread, heap, block).status, HSHM_E_BADFREE);
        expect_refused(heap, block); /* its owner may not know of it yet */
        assert_ok(hshm_free(heap, neighbour));
    }
    assert_emptied(heap);
    usual_end();
}

enum { ROW = 3000 };

/* Others free all of them, the owner looks (it takes new ones), and only then they are freed again. */
static void
a_free_by_another_thread_stays_known_to_the_owner(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    static void *row[ROW];
    for (size_t i = 0; i < ROW; i++)
        row[i] = hshm_malloc(heap, 64);
    for (size_t i = 0; i < ROW; i += 2)
        assert_int_equal(in_thread(free_in_thread, heap, row[i]).status, HSHM_OK);
    assert_int_equal(stats_of(heap).live_blocks, ROW / 2);
    /* The current slab's few left, then the first that it knows of: in none of them lies row[1], which is live. */
    void *more[ROW];
    for (size_t i = 0; i < ROW / 4; i++)
        more[i] = hshm_malloc(heap, 64);
    for (size_t i = 0; i < ROW; i += 2) {
        bool again = false;
        for (size_t at = 0; at < ROW / 4; at++)
            again |= more[at] == row[i];
        if (!again)
            assert_status(hshm_free(heap, row[i]), HSHM_E_BADFREE);
    }
    for (size_t i = 1; i < ROW; i += 2)
        assert_ok(hshm_free(heap, row[i]));
    for (size_t i = 0; i < ROW / 4; i++)
        assert_ok(hshm_free(heap, more[i]));
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_emptied(heap);
    assert_sound(heap);
    usual_end();
}

/* Another frees a block, and its owner does so again, who takes new ones then: no two of them may be the same. */
static void
a_second_free_by_the_owner_gives_no_block_out_twice(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    static void *row[ROW];
    for (size_t i = 0; i < 100; i++)
        row[i] = hshm_malloc(heap, 64);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(in_thread(free_in_thread, heap, row[i]).status, HSHM_OK);
        assert_status(hshm_free(heap, row[i]), HSHM_E_BADFREE);
    }
    for (size_t i = 0; i < ROW; i++) {
        row[i] = hshm_malloc(heap, 64);
        *(uint64_t *)row[i] = i;
    }
    for (size_t i = 0; i < ROW; i++)
        assert_int_equal(*(uint64_t *)row[i], i);
    assert_int_equal(stats_of(heap).live_blocks, ROW);
    for (size_t i = 0; i < ROW; i++)
        assert_ok(hshm_free(heap, row[i]));
    assert_emptied(heap);
    assert_sound(heap);
    usual_end();
}

static void
blocks_of_an_ended_thread_are_freed_once(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    void *first = in_thread(malloc_in_thread, heap, NULL).addr;
    void *second = in_thread(malloc_in_thread, heap, NULL).addr;
    assert_non_null(first);
    assert_non_null(second);
    assert_ptr_not_equal(first, second);
    expect_refused(heap, (unsigned char *)first + 16);
    assert_ok(hshm_free(heap, first));
    expect_refused(heap, first);
    assert_int_equal(in_thread(free_in_thread, heap, second).status, HSHM_OK);
    expect_refused(heap, second);
    assert_emptied(heap);
    usual_end();
}

static void
a_wrong_free_does_not_disturb_blocks_that_come_later(hshm_allocator_kind kind)
{
    hshm_allocator *heap = usual_heap(kind);
    static void *row[ROW];
    for (size_t i = 0; i < ROW; i++) {
        row[i] = hshm_malloc(heap, 64);
        block_fill(row[i], 64, i);
        assert_status(hshm_free(heap, (unsigned char *)row[i] + 16), HSHM_E_BADFREE);
        assert_status(hshm_free_inline(heap, (unsigned char *)row[i] + 32), HSHM_E_BADFREE);
    }
    for (size_t i = 0; i < ROW; i++) {
        assert_block(heap, row[i], 64, i);
        assert_ok(hshm_free_inline(heap, row[i]));
        assert_status(hshm_free_inline(heap, row[i]), HSHM_E_BADFREE);
    }
    assert_emptied(heap);
    usual_end();
}

int
main(void)
{
    static const struct kind_case cases[] = {
        KIND_CASE(a_block_is_freed_once),
        KIND_CASE(an_address_inside_a_block_is_none),
        KIND_CASE(the_end_of_a_slab_is_no_block),
        KIND_CASE(what_lies_outside_the_blocks_is_none),
        KIND_CASE(a_block_is_freed_once_by_whichever_thread),
        KIND_CASE(a_free_by_another_thread_stays_known_to_the_owner),
        KIND_CASE(a_second_free_by_the_owner_gives_no_block_out_twice),
        KIND_CASE(blocks_of_an_ended_thread_are_freed_once),
        KIND_CASE(a_wrong_free_does_not_disturb_blocks_that_come_later),
    };
    return run_kinds("slab.wrong_free", cases, COUNTOF(cases));
}
