/*
 * test_slab_layout.c - format v1 of heaps of slabs, number by number.
 *
 * As in test_layout.c: the numbers are written out here a second time, by hand; those of whole heaps were worked out by
 * another program from the description in format/slab_format.h.
 */
#include <stdalign.h>
#include <string.h>

#include "allocator/allocator.h"
#include "blocks.h"
#include "fields.h"

static void
the_structs_lie_as_written(void **state)
{
    (void)state;
    static const struct field record[] = {
        FIELD(slab_record, own, 0, 8),     FIELD(slab_record, limit, 8, 8),      FIELD(slab_record, reciprocal, 16, 8),
        FIELD(slab_record, left, 24, 4),   FIELD(slab_record, left_from, 28, 4), FIELD(slab_record, size, 32, 4),
        FIELD(slab_record, blocks, 36, 4), FIELD(slab_record, class, 40, 4),     FIELD(slab_record, life, 44, 4),
        FIELD(slab_record, skip, 48, 8),   FIELD(slab_record, log, 56, 8),
    };
    assert_layout("slab_record", sizeof(struct slab_record), record, COUNTOF(record), 64);
    static const struct field thread[] = {
        FIELD(slab_thread, owner, 0, 8),       FIELD(slab_thread, log, 8, 8),
        FIELD(slab_thread, reserved, 16, 8),   FIELD(slab_thread, frees, 24, 8),
        FIELD(slab_thread, reserved0, 32, 32), FIELD(slab_thread, mail, 64, 8),
        FIELD(slab_thread, reserved1, 72, 56),
    };
    assert_layout("slab_thread", sizeof(struct slab_thread), thread, COUNTOF(thread), 128);
    static const struct field root[] = {
        FIELD(slab_root, slices, 0, 8),        FIELD(slab_root, slice_shift, 8, 4),
        FIELD(slab_root, block_shift, 12, 4),  FIELD(slab_root, thread_slots, 16, 4),
        FIELD(slab_root, shards, 20, 4),       FIELD(slab_root, lifetime, 24, 4),
        FIELD(slab_root, reserved4, 28, 4),    FIELD(slab_root, reserved0, 32, 32),
        FIELD(slab_root, lowest, 64, 8),       FIELD(slab_root, high, 72, 8),
        FIELD(slab_root, threads_high, 80, 8), FIELD(slab_root, reserved1, 88, 40),
        FIELD(slab_root, used, 128, 8),        FIELD(slab_root, peak, 136, 8),
        FIELD(slab_root, dirty, 144, 8),       FIELD(slab_root, dirty_since, 152, 8),
        FIELD(slab_root, tidied, 160, 8),      FIELD(slab_root, idle, 168, 8),
        FIELD(slab_root, resizing, 176, 8),    FIELD(slab_root, reserved2, 184, 8),
        FIELD(slab_root, frees, 192, 8),       FIELD(slab_root, failures, 200, 8),
        FIELD(slab_root, reserved3, 208, 48),
    };
    assert_layout("slab_root", sizeof(struct slab_root), root, COUNTOF(root), 256);
    assert_int_equal(offsetof(struct slab_shard, frees), 0);
    assert_int_equal(offsetof(struct slab_shard, current), 64);
}

static void
logs_lie_as_written(void **state)
{
    (void)state;
    static const struct field log[] = {
        FIELD(op_log, owner, 0, 8), FIELD(op_log, slot, 8, 8), FIELD(op_log, to, 16, 8),  FIELD(op_log, block, 24, 8),
        FIELD(op_log, won, 32, 8),  FIELD(op_log, seq, 40, 8), FIELD(op_log, ack, 48, 8), FIELD(op_log, slab, 56, 8),
    };
    assert_layout("op_log", sizeof(struct op_log), log, COUNTOF(log), 64);
    static const struct field table[] = {
        FIELD(op_table, freeing, 0, 8),     FIELD(op_table, log_count, 8, 4),  FIELD(op_table, name_count, 12, 4),
        FIELD(op_table, names_lock, 16, 8), FIELD(op_table, reserved, 24, 40),
    };
    assert_layout("op_table", sizeof(struct op_table), table, COUNTOF(table), 64);
    static const struct field name[] = {
        FIELD(name_entry, state, 0, 8),
        FIELD(name_entry, slot, 8, 8),
        FIELD(name_entry, reserved, 16, 16),
        FIELD(name_entry, name, 32, 96),
    };
    assert_layout("name_entry", sizeof(struct name_entry), name, COUNTOF(name), 128);
    assert_int_equal(offsetof(struct op_table, logs), 64);
    assert_int_equal(op_id_of_thread(0), 64);
    assert_int_equal(user_slot_make(USER_SLOT_FULL, 0, 0x12340), 0x123400001);
    assert_int_equal(user_slot_make(USER_SLOT_RESERVED, 5, 0x10), 0x100016);
    assert_int_equal(user_slot_make(USER_SLOT_CLAIMED, 0x3ffff, 0), 0xfffff);
    assert_int_equal(user_slot_off(0x123400001), 0x12340);
    assert_int_equal(user_slot_state(0x100016), USER_SLOT_RESERVED);
}

static void
words_are_as_written(void **state)
{
    (void)state;
    assert_int_equal(NAME_NEVER, 0);
    assert_int_equal(NAME_LIVE, 1);
    assert_int_equal(NAME_GONE, 2);
    assert_int_equal(SLICE_ZERO, 0);
    assert_int_equal(SLICE_DIRTY, 1);
    assert_int_equal(SLICE_CLAIMED, 2);
    assert_int_equal(SLICE_SLAB, 3);
    assert_int_equal(SLICE_RUN, 4);
    assert_int_equal(SLICE_REST, 5);
    assert_int_equal(SLICE_FREEING, 6);
    assert_int_equal(SLICE_IDLE, 7);
    assert_int_equal(slice_make(SLICE_RUN, 0, 3), 0x3000004);
    assert_int_equal(slice_make(SLICE_CLAIMED, 0x12345, 1), 0x1123452);
    assert_int_equal(slice_make(SLICE_FREEING, SLICE_PROCESS_NONE, 2), 0x2fffff6);
    assert_int_equal(slice_state(0x2fffff6), SLICE_FREEING);
    assert_int_equal(current_make(0x12345, 7, true, 0), 0x8000070000012346);
    assert_int_equal(current_make(0, 0, false, 0xf7fff), 0x7fff000000000001);
    assert_int_equal(current_slice(0x80000f0000012346), 0x12345);
    assert_int_equal(current_slice(0), UINT64_MAX);
    assert_int_equal(slice_process(0x2fffff6), 0xfffff);
    assert_int_equal(slice_count(0x2fffff6), 2);
    assert_int_equal(SLAB_IS, 1);
    assert_int_equal(SLAB_CURRENT, 4);
    assert_int_equal(SLAB_SHELVED, 8);
    assert_int_equal(SLAB_LOCKED, 16);
    assert_int_equal(SLAB_LEAVING, 64);
    assert_int_equal(page_own(SLAB_CURRENT, 7, 3, 9), 0x90700000305);
    assert_int_equal(page_own_class(0x90700000305), 7);
    assert_int_equal(page_own_home(0x90700000305), 3);
    assert_int_equal(page_own_process(0x90700000305), 9);
    assert_int_equal(THREAD_OWNER_SHIFT, 8);
}

/* ---- whole heaps ---- */

/* From the region's begin: table, root, data; from the table's: its parts.  3 slots for processes, no custom header. */
struct whole {
    hshm_allocator_kind kind;
    uint64_t region, min_block;
    uint64_t slices, slice_shift, classes, record_size;
    uint64_t taken, shelves, threads, mail, shards, records, table_size, root_off, data_off;
};

/* clang-format off */
static const struct whole wholes[] = {
    { HSHM_ALLOCATOR_THREAD_LOCAL,     8192,  16,   5, 10,  56,   80,   64,  128, 1024,   1536,   1600,   1600,   2048,   2560,   2816 },
    { HSHM_ALLOCATOR_SCALABLE_PAGE,    8192,  16,   5, 10,  56,   80,   64,  128, 1024,   1024,   1024,   1536,   1984,   2496,   2752 },
    { HSHM_ALLOCATOR_THREAD_LOCAL,     8192, 256,   1, 12,  40,   80,   64,  128,  768,   1280,   1344,   1344,   1472,   1984,   2304 },
    { HSHM_ALLOCATOR_SCALABLE_PAGE,    8192, 256,   1, 12,  40,   80,   64,  128,  768,    768,    768,   1152,   1280,   1792,   2048 },
    { HSHM_ALLOCATOR_THREAD_LOCAL,    65536,  16,  54, 10,  56,   80,  448,  512, 1408,   3456,   3584,   3584,   7936,   8448,  10048 },
    { HSHM_ALLOCATOR_SCALABLE_PAGE,   65536,  16,  55, 10,  56,   80,  448,  512, 1408,   1408,   1408,   1920,   6336,   6848,   8448 },
    { HSHM_ALLOCATOR_THREAD_LOCAL,    65536, 256,  14, 12,  40,   80,  128,  192,  832,   2880,   3008,   3008,   4160,   4672,   6400 },
    { HSHM_ALLOCATOR_SCALABLE_PAGE,   65536, 256,  14, 12,  40,   80,  128,  192,  832,    832,    832,   1216,   2368,   2880,   4608 },
    { HSHM_ALLOCATOR_THREAD_LOCAL,  1048576,  16, 242, 12,  72,  128, 1984, 2048, 4928,  13120,  15168,  15168,  46144,  46656,  56192 },
    { HSHM_ALLOCATOR_SCALABLE_PAGE, 1048576,  16, 244, 12,  72,  128, 1984, 2048, 4928,   4928,   4928,   5568,  36800,  37312,  46848 },
    { HSHM_ALLOCATOR_THREAD_LOCAL,  1048576, 256, 245, 12,  40,   80, 1984, 2048, 3648,  11840,  13888,  13888,  33536,  34048,  43776 },
    { HSHM_ALLOCATOR_SCALABLE_PAGE, 1048576, 256, 247, 12,  40,   80, 1984, 2048, 3648,   3648,   3648,   4032,  23808,  24320,  34048 },
    /* Above 16 MiB ScalablePage's depends on the number of processors. */
    { HSHM_ALLOCATOR_THREAD_LOCAL, 16777216,  16, 248, 16, 104, 1088, 1984, 2048, 6208, 137280, 170048, 170048, 439872, 440384, 524288 },
    { HSHM_ALLOCATOR_THREAD_LOCAL, 16777216, 256, 252, 16,  72,  128, 2048, 2112, 4992, 136064, 168832, 168832, 201088, 201600, 262144 },
};
/* clang-format on */

static uint64_t
distance(const void *from, const void *to)
{
    return (uint64_t)((const char *)to - (const char *)from);
}

/* 64 bytes, logs of 64 and names of 128; see format/log_format.h. */
static uint64_t
size_of_logs(uint64_t region)
{
    static const struct {
        uint64_t region, size;
    } known[] = { { 8192, 0 }, { 65536, 1344 }, { 1048576, 9280 }, { 16777216, 36928 } };
    for (size_t i = 0; i < COUNTOF(known); i++) {
        if (known[i].region == region)
            return known[i].size;
    }
    fail();
    return 0;
}

static void
assert_whole(const struct whole *whole, const hshm_allocator *heap)
{
    const struct slab_heap *h = &heap->slab;
    const struct heap_layout *layout = &heap->layout;
    assert_int_equal(h->count, whole->slices);
    assert_int_equal(h->shift, whole->slice_shift);
    assert_int_equal(h->classes, whole->classes);
    assert_int_equal(h->record_size, whole->record_size);
    assert_int_equal(distance(h->slices, h->taken), whole->taken);
    assert_int_equal(distance(h->slices, h->shelves), whole->shelves);
    assert_int_equal(distance(h->slices, h->threads), whole->threads);
    assert_int_equal(distance(h->slices, h->mail), whole->mail);
    assert_int_equal(distance(h->slices, h->shards), whole->shards);
    assert_int_equal(distance(h->slices, h->records), whole->records);
    assert_int_equal(layout->table_off, 512);
    assert_int_equal(layout->table_size, whole->table_size);
    assert_int_equal(layout->root_off, whole->root_off);
    assert_int_equal(layout->root_size, 256 + size_of_logs(whole->region));
    assert_int_equal(layout->data_off, whole->data_off);
    assert_int_equal(layout->data_size, whole->slices << whole->slice_shift);
    assert_ptr_equal(h->slices, heap->view.base + 512);
    assert_ptr_equal(h->data, heap->view.base + whole->data_off);
}

static void
heaps_lie_as_worked_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(wholes); i++) {
        hshm_allocator *heap = NULL;
        hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
        hshm_allocator_options options = HSHM_ALLOCATOR_OPTIONS_INIT;
        backend.slots = 3;
        options.min_block = (size_t)wholes[i].min_block;
        assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, (size_t)wholes[i].region, NULL, &backend, NULL));
        assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, wholes[i].kind, 0, &options, &heap));
        assert_whole(&wholes[i], heap);
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_structs_lie_as_written),
        cmocka_unit_test(logs_lie_as_written),
        cmocka_unit_test(words_are_as_written),
        cmocka_unit_test_teardown(heaps_lie_as_worked_out, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
