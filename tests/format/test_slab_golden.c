/*
 * test_slab_golden.c - heaps of slabs of format v1 that were made once stay readable, and the library makes the same ones
 * today.
 */
#include <stdalign.h>

#include <string.h>

#include "allocator/allocator.h"
#include "blocks.h"
#include "format/slab_format.h"
#include "slab_golden.h"

static alignas(SLAB_GOLDEN_ARRAY_ALIGNMENT) unsigned char stored[SLAB_GOLDEN_SIZE];
static alignas(SLAB_GOLDEN_ARRAY_ALIGNMENT) unsigned char made[SLAB_GOLDEN_SIZE];

static const char *
kind_name(hshm_allocator_kind kind)
{
    return kind == HSHM_ALLOCATOR_THREAD_LOCAL ? "thread_local" : "scalable_page";
}

static void
load(hshm_allocator_kind kind, const char *as)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/tests/format/golden/%s_v1_%s", HSHM_SOURCE_DIR, kind_name(kind), as);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("cannot open %s", path);
    assert_int_equal(fread(stored, 1, sizeof stored, file), sizeof stored);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
}

/* When ScalablePage's slabs were tidied last is of another clock each time. */
static void
hide_time(unsigned char *image)
{
    uint64_t root;
    memcpy(&root, image + offsetof(struct region_header, root_off), sizeof root);
    assert_true(root <= SLAB_GOLDEN_SIZE - sizeof(struct slab_root));
    memset(image + root + offsetof(struct slab_root, tidied), 0, sizeof(uint64_t));
}

/* The stored array, with its heap. */
static void
attach_array(hshm_allocator_kind kind)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    load(kind, "array");
    options.array = stored;
    options.array_size = sizeof stored;
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_ARRAY, NULL, &options, NULL));
}

/* ---- counts in CURRENT words: builds that made the images wrote 0 ---- */

static struct {
    size_t shards, words; /* offset, and words of all shards */
    size_t records, record_size, count;
} tables;

static void
find_tables(hshm_allocator_kind kind)
{
    attach_array(kind);
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(NULL, golden_id, kind, &heap));
    const struct slab_heap *h = &heap->slab;
    tables.shards = (size_t)(h->shards - stored);
    tables.words = h->shard_count * h->shard_size / sizeof(uint64_t);
    tables.records = (size_t)(h->records - stored);
    tables.record_size = h->record_size;
    tables.count = h->count;
    assert_ok(hshm_backend_detach(NULL, GOLDEN_BACKEND));
}

static void
clear_bits(unsigned char *at, uint64_t bits)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    word &= ~bits;
    memcpy(at, &word, sizeof word);
}

static void
hide_counts(unsigned char *image)
{
    for (size_t i = 0; i < tables.words; i++)
        clear_bits(image + tables.shards + i * sizeof(uint64_t), CURRENT_TAG_MASK << CURRENT_TAG_SHIFT);
    for (size_t i = 0; i < tables.count; i++)
        clear_bits(image + tables.records + i * tables.record_size + offsetof(struct slab_record, own),
                   PAGE_OWN_COUNT_MASK << PAGE_OWN_COUNT_SHIFT);
}

static void
assert_made_again(hshm_allocator_kind kind, const char *as)
{
    find_tables(kind);
    load(kind, as);
    if (!slab_golden_leave_first_processor()) {
        print_message("this process may run on the first processor only, where slabs have a home\n");
        skip();
    }
    if (!slab_golden_make(made, kind, as[0] == 'f' ? test_path("golden") : NULL))
        fail_msg("the heap is not as slab_golden.h has it: %s", hshm_last_error());
    hide_time(stored);
    hide_time(made);
    if (kind == HSHM_ALLOCATOR_SCALABLE_PAGE) {
        hide_counts(stored);
        hide_counts(made);
    }
    for (size_t i = 0; i < SLAB_GOLDEN_SIZE; i++) {
        if (stored[i] != made[i])
            fail_msg("byte %zu is 0x%02x in the golden image, and 0x%02x today", i, stored[i], made[i]);
    }
}

/* ---- reading ---- */

struct seen {
    size_t blocks, bytes;
    bool patterns[16]; /* by their number */
};

static int
look_at_block(const hshm_block *block, void *arg)
{
    struct seen *seen = arg;
    const unsigned char *bytes = block->addr;
    assert_in_range(bytes[0], 1, SLAB_GOLDEN_BLOCKS);
    const struct slab_golden_block *wanted = &slab_golden_blocks[bytes[0] - 1];
    assert_false(wanted->freed || seen->patterns[bytes[0]]);
    assert_int_equal(block->size, wanted->usable);
    for (size_t i = 0; i < wanted->usable; i++)
        assert_int_equal(bytes[i], wanted->pattern);
    seen->patterns[bytes[0]] = true;
    seen->blocks++;
    seen->bytes += wanted->usable;
    return 0;
}

static int
free_block(const hshm_block *block, void *arg)
{
    return hshm_free(arg, block->addr) != HSHM_OK;
}

/* Everything is where it was; and it is a heap like any other: its blocks can be freed, and new ones taken. */
static void
assert_golden_heap(hshm_allocator_kind kind)
{
    hshm_allocator *heap = NULL;
    struct seen seen = { 0 };
    assert_ok(hshm_allocator_get(NULL, golden_id, kind, &heap));
    assert_ok(hshm_visit_blocks(heap, look_at_block, &seen));
    assert_sound(heap);
    hshm_stats stats = stats_of(heap);
    assert_int_equal(seen.blocks, 6);
    assert_int_equal(stats.live_blocks, 6);
    assert_int_equal(stats.live_bytes, seen.bytes);
    assert_int_equal(stats.allocs, 9);
    assert_int_equal(stats.frees, 3);
    assert_int_equal(stats.failures, 1);

    size_t custom_size = 0;
    const unsigned char *custom = hshm_allocator_custom_header(heap, &custom_size);
    assert_int_equal(custom_size, GOLDEN_CUSTOM_SIZE);
    for (size_t i = 0; i < custom_size; i++)
        assert_int_equal(custom[i], 0xc5);

    void *block = hshm_malloc(heap, 100);
    assert_non_null(block);
    assert_ok(hshm_free(heap, block));
    assert_ok(hshm_visit_blocks(heap, free_block, heap));
    assert_emptied(heap);
    assert_sound(heap);
}

static void
assert_array_is_read(hshm_allocator_kind kind)
{
    attach_array(kind);
    assert_golden_heap(kind);
    assert_ok(hshm_backend_detach(NULL, GOLDEN_BACKEND));
}

static void
assert_file_is_read(hshm_allocator_kind kind)
{
    const char *path = test_path("golden");
    load(kind, "file");
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(stored, 1, sizeof stored, file), sizeof stored);
    assert_int_equal(fclose(file), 0);
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, path, NULL, NULL));
    assert_golden_heap(kind);
    assert_ok(hshm_backend_detach(NULL, GOLDEN_BACKEND));
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path));
}

static void
arrays_are_made_byte_by_byte(void **state)
{
    (void)state;
    assert_made_again(HSHM_ALLOCATOR_SCALABLE_PAGE, "array");
    assert_made_again(HSHM_ALLOCATOR_THREAD_LOCAL, "array");
}

static void
files_are_made_byte_by_byte(void **state)
{
    (void)state;
    assert_made_again(HSHM_ALLOCATOR_SCALABLE_PAGE, "file");
    assert_made_again(HSHM_ALLOCATOR_THREAD_LOCAL, "file");
}

static void
arrays_are_read(void **state)
{
    (void)state;
    assert_array_is_read(HSHM_ALLOCATOR_SCALABLE_PAGE);
    assert_array_is_read(HSHM_ALLOCATOR_THREAD_LOCAL);
}

static void
files_are_read(void **state)
{
    (void)state;
    assert_file_is_read(HSHM_ALLOCATOR_SCALABLE_PAGE);
    assert_file_is_read(HSHM_ALLOCATOR_THREAD_LOCAL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(arrays_are_read, drop_heaps),
        cmocka_unit_test_teardown(files_are_read, drop_heaps),
        cmocka_unit_test_teardown(arrays_are_made_byte_by_byte, drop_heaps),
        cmocka_unit_test_teardown(files_are_made_byte_by_byte, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
