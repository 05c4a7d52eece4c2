/*
 * test_calls.c - hshm_allocate_to(), hshm_free_from(), hshm_move(): what they do, what they refuse, and many at once.
 */
#include "table.h"

#include <pthread.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static void
a_slot_holds_its_block(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    static const size_t sizes[] = { 0, 1, 64, 100, 1024, 5000, 100000, 3 * MIB };
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        hshm_slot *slot = &table->slots[i];
        assert_int_equal(hshm_slot_load(slot), HSHM_OFF_NULL);
        assert_ok(hshm_allocate_to(heap, sizes[i], slot));
        void *block = hshm_to_addr(heap, hshm_slot_load(slot));
        assert_true(hshm_usable_size(heap, block) >= sizes[i]);
        block_fill(block, sizes[i], i);
    }
    assert_int_equal(full_slots(heap, table), COUNTOF(sizes));
    assert_int_equal(stats_of(heap).live_blocks, COUNTOF(sizes));
    assert_sound(heap);
    for (size_t i = 0; i < COUNTOF(sizes); i++) {
        void *block = hshm_to_addr(heap, hshm_slot_load(&table->slots[i]));
        assert_true(block_holds(block, sizes[i], i));
        assert_ok(hshm_free_from(heap, &table->slots[i]));
        assert_int_equal(hshm_slot_load(&table->slots[i]), HSHM_OFF_NULL);
        assert_int_equal(hshm_usable_size(heap, block), 0);
    }
    assert_int_equal(stats_of(heap).frees, COUNTOF(sizes));
    assert_emptied(heap);
}

static void
a_block_moves_from_slot_to_slot(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 4 * MIB, &table);
    hshm_slot *from = &table->slots[3];
    hshm_slot *to = &table->slots[40];
    assert_ok(hshm_allocate_to(heap, 100, from));
    const hshm_off off = hshm_slot_load(from);
    assert_ok(hshm_move(heap, from, to));
    assert_int_equal(hshm_slot_load(from), HSHM_OFF_NULL);
    assert_int_equal(hshm_slot_load(to), off);
    assert_status(hshm_move(heap, from, to), HSHM_E_NOTFOUND);
    assert_ok(hshm_allocate_to(heap, 100, from));
    assert_status(hshm_move(heap, from, to), HSHM_E_EXISTS);
    assert_status(hshm_move(heap, from, from), HSHM_E_INVAL);
    assert_int_equal(full_slots(heap, table), 2);
    assert_ok(hshm_free_from(heap, to));
    assert_ok(hshm_free_from(heap, from));
    assert_emptied(heap);
}

/* A list, as programs would build one: each block has the slot of the next. */
static void
slots_may_lie_in_blocks(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 4 * MIB, &table);
    hshm_slot *head = &table->slots[0];
    for (int i = 0; i < 100; i++) {
        hshm_slot *new_one = &table->slots[1];
        assert_ok(hshm_allocate_to(heap, 64, new_one));
        hshm_slot *next = hshm_to_addr(heap, hshm_slot_load(new_one));
        memset(next, 0, 64);
        if (hshm_slot_load(head) != HSHM_OFF_NULL)
            assert_ok(hshm_move(heap, head, next));
        assert_ok(hshm_move(heap, new_one, head));
    }
    assert_int_equal(stats_of(heap).live_blocks, 100);
    int length = 0;
    while (hshm_slot_load(head) != HSHM_OFF_NULL) {
        hshm_slot *next = hshm_to_addr(heap, hshm_slot_load(head));
        hshm_slot *rest = &table->slots[1];
        if (hshm_slot_load(next) != HSHM_OFF_NULL)
            assert_ok(hshm_move(heap, next, rest));
        assert_ok(hshm_free_from(heap, head));
        if (hshm_slot_load(rest) != HSHM_OFF_NULL)
            assert_ok(hshm_move(heap, rest, head));
        length++;
    }
    assert_int_equal(length, 100);
    assert_emptied(heap);
}

static void
what_cannot_be_done_changes_nothing(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 4 * MIB, &table);
    hshm_slot mine = { 0 };
    hshm_slot *slot = &table->slots[0];
    assert_status(hshm_allocate_to(heap, 10, NULL), HSHM_E_INVAL);
    assert_status(hshm_allocate_to(heap, 10, &mine), HSHM_E_INVAL);
    assert_sentence("does not lie in the heap");
    assert_status(hshm_allocate_to(heap, 10, (hshm_slot *)(void *)((char *)slot + 4)), HSHM_E_INVAL);
    assert_status(hshm_free_from(heap, slot), HSHM_E_NOTFOUND);
    assert_sentence("is empty");
    assert_status(hshm_allocate_to(heap, 64 * MIB, slot), HSHM_E_NOMEM);
    assert_status(hshm_allocate_to(heap, SIZE_MAX, slot), HSHM_E_NOMEM);
    assert_int_equal(slot->word, 0);
    assert_ok(hshm_allocate_to(heap, 10, slot));
    const uint64_t word = slot->word;
    assert_status(hshm_allocate_to(heap, 10, slot), HSHM_E_EXISTS);
    assert_int_equal(slot->word, word);
    assert_int_equal(stats_of(heap).live_blocks, 1);
    /* Freed otherwise: then it is no block any more, and the slot is left for people to look at. */
    assert_ok(hshm_free(heap, hshm_to_addr(heap, hshm_slot_load(slot))));
    assert_status(hshm_free_from(heap, slot), HSHM_E_BADFREE);
    assert_int_equal(slot->word, word);
    slot->word = 0;
    assert_int_equal(heap->op_table->freeing, 0);
    assert_emptied(heap);
}

static void
damaged_slots_are_found_out(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 4 * MIB, &table);
    uint64_t random = test_seed();
    for (int i = 0; i < 2000; i++) {
        hshm_slot *slot = &table->slots[i % TABLE_SLOTS];
        slot->word = next_random(&random) >> (i % 40);
        const uint64_t state_bits = slot->word & 3;
        const hshm_status status = hshm_free_from(heap, slot);
        assert_true(status == (state_bits == 0 ? HSHM_E_NOTFOUND : state_bits == 1 ? HSHM_E_BADFREE : HSHM_E_BUSY));
        slot->word = 0;
    }
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_sound(heap);
}

static void
who_may_only_look_is_refused(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 4 * MIB, &table);
    hshm_manager *other = NULL;
    hshm_allocator *view = NULL;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    options.read_only = true;
    assert_ok(hshm_allocate_to(heap, 10, &table->slots[0]));
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &info));
    assert_ok(hshm_manager_create(&other));
    assert_ok(hshm_backend_attach(other, HSHM_BACKEND_POSIX_SHM_MMAP, info.url, &options, NULL));
    assert_ok(hshm_allocator_get(other, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &view));
    struct table *seen = hshm_allocator_custom_header(view, NULL);
    assert_int_equal(hshm_slot_load(&seen->slots[0]), hshm_slot_load(&table->slots[0]));
    assert_status(hshm_allocate_to(view, 10, &seen->slots[1]), HSHM_E_PERM);
    assert_status(hshm_free_from(view, &seen->slots[0]), HSHM_E_PERM);
    assert_status(hshm_move(view, &seen->slots[0], &seen->slots[1]), HSHM_E_PERM);
    hshm_manager_destroy(other);
    assert_ok(hshm_free_from(heap, &table->slots[0]));
}

/* Neither depends on the kind that the case is for. */
static void
heaps_without_slots_say_so(void **state)
{
    static _Alignas(64) unsigned char array[32768];
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    hshm_slot slot = { 0 };
    options.array = array;
    assert_ok(hshm_backend_create(NULL, 2, HSHM_BACKEND_MALLOC, MIB, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_MALLOC, 0, NULL, &heap));
    assert_status(hshm_allocate_to(heap, 10, &slot), HSHM_E_NOTSUP);
    assert_ok(hshm_backend_create(NULL, 3, HSHM_BACKEND_ARRAY, sizeof array, NULL, &options, NULL));
    const hshm_allocator_kind kind = *(const hshm_allocator_kind *)*state;
    assert_ok(hshm_allocator_create(NULL, 3, (hshm_allocator_id){ 3, 0 }, kind, 64, NULL, &heap));
    assert_ok(hshm_free(heap, hshm_malloc(heap, 10))); /* a thread that has blocks of that size would not need a log */
    assert_status(hshm_allocate_to(heap, 10, hshm_allocator_custom_header(heap, NULL)), HSHM_E_NOTSUP);
    assert_sentence("64 KiB");
}

/* ---- many at once ---- */

enum { WORKERS = 4, ROUNDS = 20000 };

struct work {
    hshm_allocator *heap;
    struct table *table;
    uint64_t seed;
    _Atomic uint64_t *taken, *freed;
};

/* Statuses that tell of another who was faster. */
static bool
was_possible(hshm_status status)
{
    return status == HSHM_OK || status == HSHM_E_BUSY || status == HSHM_E_EXISTS || status == HSHM_E_NOTFOUND;
}

static void *
change_slots(void *arg)
{
    const struct work *work = arg;
    uint64_t random = work->seed;
    for (int i = 0; i < ROUNDS / (UNDER_SANITIZER ? 10 : 1); i++) {
        hshm_slot *slot = &work->table->slots[next_random(&random) % TABLE_SLOTS];
        hshm_slot *other = &work->table->slots[next_random(&random) % TABLE_SLOTS];
        hshm_status status;
        switch (next_random(&random) % 4) {
        case 0:
        case 1:
            status = hshm_allocate_to(work->heap, next_random(&random) % 200, slot);
            atomic_fetch_add(work->taken, status == HSHM_OK);
            break;
        case 2:
            status = hshm_free_from(work->heap, slot);
            atomic_fetch_add(work->freed, status == HSHM_OK);
            break;
        default:
            status = slot == other ? HSHM_OK : hshm_move(work->heap, slot, other);
            break;
        }
        assert_true(was_possible(status));
    }
    return NULL;
}

static int
change_slots_here(void *arg)
{
    (void)change_slots(arg);
    return 0;
}

static void
assert_balanced(hshm_allocator *heap, struct table *table, uint64_t taken, uint64_t freed)
{
    const uint64_t full = full_slots(heap, table);
    assert_true(freed > 100);
    assert_int_equal(taken - freed, full);
    assert_int_equal(stats_of(heap).live_blocks, full);
    for (size_t i = 0; i < TABLE_SLOTS; i++)
        assert_true(was_possible(hshm_free_from(heap, &table->slots[i])));
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_int_equal(heap->op_table->freeing, 0);
    assert_sound(heap);
}

static void
threads_change_the_same_slots(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    _Atomic uint64_t taken = 0;
    _Atomic uint64_t freed = 0;
    pthread_t threads[WORKERS];
    struct work work[WORKERS];
    for (size_t i = 0; i < WORKERS; i++) {
        work[i] = (struct work){ heap, table, test_seed() + i, &taken, &freed };
        assert_int_equal(pthread_create(&threads[i], NULL, change_slots, &work[i]), 0);
    }
    for (size_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_balanced(heap, table, taken, freed);
}

static void
processes_change_the_same_slots(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    _Atomic uint64_t *counts = shared_bytes(2 * sizeof *counts);
    pid_t children[WORKERS];
    struct work work[WORKERS];
    for (size_t i = 0; i < WORKERS; i++) {
        work[i] = (struct work){ heap, table, test_seed() + i, &counts[0], &counts[1] };
        children[i] = child_start(change_slots_here, &work[i]);
    }
    for (size_t i = 0; i < WORKERS; i++)
        assert_int_equal(child_wait(children[i]), 0);
    assert_balanced(heap, table, counts[0], counts[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OF_ALL_KINDS(a_slot_holds_its_block),          OF_ALL_KINDS(a_block_moves_from_slot_to_slot),
        OF_ALL_KINDS(slots_may_lie_in_blocks),         OF_ALL_KINDS(what_cannot_be_done_changes_nothing),
        OF_ALL_KINDS(damaged_slots_are_found_out),     OF_ALL_KINDS(who_may_only_look_is_refused),
        OF_ALL_KINDS(heaps_without_slots_say_so),      OF_ALL_KINDS(threads_change_the_same_slots),
        OF_ALL_KINDS(processes_change_the_same_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
