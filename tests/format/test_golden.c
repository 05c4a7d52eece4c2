/*
 * test_golden.c - regions of format v1 that were made once stay readable, and the library makes the same ones today.
 *
 * golden/ holds images of one heap (golden.h) as an array and as a file, normalised.  Today's library makes the same
 * bytes from the same calls; and it attaches to the images, finds each block where it was, and goes on working.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "blocks.h"
#include "golden.h"

static alignas(GOLDEN_SIZE) unsigned char stored[GOLDEN_SIZE];
static alignas(GOLDEN_SIZE) unsigned char made[GOLDEN_SIZE];

static void
load(const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/tests/format/golden/%s", HSHM_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("cannot open %s", path);
    assert_int_equal(fread(stored, 1, sizeof stored, file), sizeof stored);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
}

static void
assert_same_images(void)
{
    for (size_t i = 0; i < GOLDEN_SIZE; i++) {
        if (stored[i] != made[i])
            fail_msg("byte %zu is 0x%02x in the golden image, and 0x%02x today", i, stored[i], made[i]);
    }
}

static bool
pages_fit(void)
{
    if (sysconf(_SC_PAGESIZE) == GOLDEN_SIZE)
        return true;
    print_message("this system has pages of %ld bytes; the golden file has one of 4096\n", sysconf(_SC_PAGESIZE));
    return false;
}

static void
the_array_is_made_byte_by_byte(void **state)
{
    (void)state;
    load("stack_v1_array");
    if (!golden_make(made, NULL))
        fail_msg("the heap is not as golden.h has it: %s", hshm_last_error());
    assert_same_images();
}

static void
the_file_is_made_byte_by_byte(void **state)
{
    (void)state;
    if (!pages_fit())
        skip();
    load("stack_v1_file");
    if (!golden_make(made, test_path("golden")))
        fail_msg("the heap is not as golden.h has it: %s", hshm_last_error());
    assert_same_images();
}

/* ---- reading ---- */

struct seen {
    size_t blocks;
};

static int
compare_block(const hshm_block *block, void *arg)
{
    struct seen *seen = arg;
    assert_true(seen->blocks < COUNTOF(golden_blocks));
    const struct golden_block *wanted = &golden_blocks[seen->blocks++];
    assert_int_equal(block->off, wanted->off);
    assert_int_equal(block->size, wanted->size);
    for (size_t i = 0; i < wanted->size; i++)
        assert_int_equal(((const unsigned char *)block->addr)[i], wanted->pattern);
    return 0;
}

static void
assert_golden_heap(hshm_allocator *heap)
{
    struct seen seen = { 0 };
    assert_ok(hshm_visit_blocks(heap, compare_block, &seen));
    assert_int_equal(seen.blocks, COUNTOF(golden_blocks));
    assert_sound(heap);

    size_t custom_size = 0;
    const unsigned char *custom = hshm_allocator_custom_header(heap, &custom_size);
    assert_int_equal(custom_size, GOLDEN_CUSTOM_SIZE);
    assert_int_equal(hshm_to_off(heap, custom), 704);
    for (size_t i = 0; i < custom_size; i++)
        assert_int_equal(custom[i], 0xc5);

    const hshm_stats stats = stats_of(heap);
    assert_int_equal(stats.region_bytes, 4096);
    assert_int_equal(stats.data_bytes, 3328);
    assert_int_equal(stats.live_blocks, 6);
    assert_int_equal(stats.live_bytes, 16 + 112 + 16 + 48 + 16 + 1200);
    assert_int_equal(stats.used_bytes, 1088 + 1200 - 768);
    assert_int_equal(stats.peak_bytes, 1088 + 2000 - 768);
    assert_int_equal(stats.frees, 2);
    assert_int_equal(stats.failures, 1);
}

/* What was read is a heap like any other: its blocks can be freed, and new ones taken. */
static void
assert_goes_on(hshm_allocator *heap)
{
    unsigned char *block = hshm_malloc(heap, 64);
    assert_int_equal(hshm_to_off(heap, block), 1088 + 1200);
    assert_ok(hshm_free(heap, block));
    for (size_t i = 0; i < COUNTOF(golden_blocks); i++)
        assert_ok(hshm_free(heap, hshm_to_addr(heap, golden_blocks[i].off)));
    assert_sound(heap);
    assert_int_equal(stats_of(heap).used_bytes, 0);
    assert_non_null(hshm_malloc(heap, 3328));
}

static void
the_array_is_read(void **state)
{
    (void)state;
    hshm_allocator *heap = NULL;
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    hshm_backend *backend = NULL;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    load("stack_v1_array");
    options.array = stored;
    options.array_size = sizeof stored;
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_ARRAY, NULL, &options, &backend));
    assert_ok(hshm_backend_info(backend, &info));
    assert_int_equal(info.id, GOLDEN_BACKEND);
    assert_int_equal(info.slots, GOLDEN_SLOTS);
    assert_memory_equal(info.uuid, "golden image 001", 16);
    assert_ok(hshm_allocator_get(NULL, golden_id, HSHM_ALLOCATOR_STACK, &heap));
    assert_golden_heap(heap);
    assert_goes_on(heap);
    assert_ok(hshm_backend_detach(NULL, GOLDEN_BACKEND));
}

static void
store(const char *path)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(stored, 1, sizeof stored, file), sizeof stored);
    assert_int_equal(fclose(file), 0);
}

/* It comes from another boot, and was left cleanly. */
static void
the_file_is_read(void **state)
{
    (void)state;
    hshm_allocator *heap = NULL;
    if (!pages_fit())
        skip();
    const char *path = test_path("golden");
    load("stack_v1_file");
    store(path);
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, path, NULL, NULL));
    assert_ok(hshm_allocator_get(NULL, golden_id, HSHM_ALLOCATOR_STACK, &heap));
    assert_golden_heap(heap);
    assert_goes_on(heap);
    assert_ok(hshm_backend_detach(NULL, GOLDEN_BACKEND));
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_array_is_made_byte_by_byte, drop_heaps),
        cmocka_unit_test_teardown(the_file_is_made_byte_by_byte, drop_heaps),
        cmocka_unit_test_teardown(the_array_is_read, drop_heaps),
        cmocka_unit_test_teardown(the_file_is_read, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
