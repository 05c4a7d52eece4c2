/*
 * test_trim.c - free pages above the top go back to the system and read as zero; what is live stays; and memory that was
 * promised, or is the caller's own, is not given away.
 */
#include "blocks.h"

#include <string.h>
#include <unistd.h>

enum { REGION = 1 << 20, BIG = 512 << 10 };

static hshm_allocator *
new_stack(hshm_backend_kind kind, const char *url, size_t size, hshm_commit commit)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    options.commit = commit;
    assert_ok(hshm_backend_create(NULL, 1, kind, size, url, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    return heap;
}

static bool
all_bytes(const unsigned char *bytes, size_t size, unsigned char value)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != value)
            return false;
    }
    return true;
}

/* The bytes that one block of BIG had below the first whole page are not given back: trim takes whole pages. */
static size_t
torn_page(hshm_allocator *heap, const unsigned char *block)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (page - (size_t)hshm_to_off(heap, block) % page) % page;
}

static void
a_lazy_region_gives_pages_back(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("trim"), REGION, HSHM_COMMIT_LAZY);
    unsigned char *low = hshm_malloc(heap, 1000);
    block_fill(low, 1000, 1);
    unsigned char *block = hshm_malloc(heap, BIG);
    (void)stats_of(heap); /* counting reads the whole table, which then has its pages */
    const uint64_t untouched = stats_of(heap).committed;
    memset(block, 0xff, BIG);
    assert_true(stats_of(heap).committed >= untouched + BIG - 8192);
    assert_ok(hshm_free(heap, block));

    uint64_t bytes = 0;
    assert_ok(hshm_trim(heap, 0, &bytes));
    assert_in_range(bytes, BIG - 8192, BIG + 8192);
    assert_true(stats_of(heap).committed <= untouched);
    assert_block(heap, low, 1000, 1);
    assert_sound(heap);

    assert_ptr_equal(hshm_malloc(heap, BIG), block);
    const size_t torn = torn_page(heap, block);
    assert_true(all_bytes(block + torn, BIG - torn, 0));
    assert_true(all_bytes(block, torn, 0xff)); /* its page is low's too */
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
what_shall_be_kept_is_kept(void **state)
{
    (void)state;
    const uint64_t keep = BIG / 2;
    hshm_allocator *heap = new_stack(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("keep"), REGION, HSHM_COMMIT_LAZY);
    unsigned char *block = hshm_malloc(heap, BIG);
    memset(block, 0xff, BIG);
    assert_ok(hshm_free(heap, block));
    uint64_t bytes = 99;
    assert_ok(hshm_trim(heap, BIG, &bytes));
    assert_in_range(bytes, 0, 4096);
    assert_ok(hshm_trim(heap, UINT64_MAX, &bytes));
    assert_int_equal(bytes, 0);
    assert_ok(hshm_trim(heap, keep, NULL));
    assert_ptr_equal(hshm_malloc(heap, BIG), block);
    assert_true(all_bytes(block, (size_t)keep, 0xff));
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    assert_true(all_bytes(block + keep + page, BIG - (size_t)keep - page, 0));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
live_blocks_are_never_touched(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("live"), REGION, HSHM_COMMIT_LAZY);
    unsigned char *low = hshm_malloc(heap, 100000);
    unsigned char *gap = hshm_malloc(heap, 100000);
    unsigned char *high = hshm_malloc(heap, 100001);
    block_fill(low, 100000, 1);
    memset(gap, 0xff, 100000);
    block_fill(high, 100001, 2);
    assert_ok(hshm_free(heap, gap)); /* free, but below the top: it stays */
    assert_ok(hshm_trim(heap, 0, NULL));
    assert_block(heap, low, 100000, 1);
    assert_block(heap, high, 100001, 2);
    assert_true(all_bytes(gap, 100000, 0xff));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_full_heap_has_nothing_to_give(void **state)
{
    (void)state;
    hshm_allocator *heap = new_stack(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("full"), 65536, HSHM_COMMIT_LAZY);
    const size_t data = (size_t)stats_of(heap).data_bytes;
    unsigned char *all = hshm_malloc(heap, data);
    block_fill(all, data, 1);
    uint64_t bytes = 99;
    assert_ok(hshm_trim(heap, 0, &bytes));
    assert_int_equal(bytes, 0);
    assert_block(heap, all, data, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
promised_pages_and_arrays_are_refused(void **state)
{
    (void)state;
    static const hshm_commit promised[] = { HSHM_COMMIT_RESERVE, HSHM_COMMIT_PREFAULT };
    for (size_t i = 0; i < 2; i++) {
        hshm_allocator *heap = new_stack(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("kept"), 65536, promised[i]);
        uint64_t bytes = 99;
        const uint64_t committed = stats_of(heap).committed;
        assert_status(hshm_trim(heap, 0, &bytes), HSHM_E_NOTSUP);
        assert_sentence("reserved");
        assert_int_equal(bytes, 99);
        assert_int_equal(stats_of(heap).committed, committed);
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
    static _Alignas(64) unsigned char array[65536];
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    options.array = array;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, sizeof array, NULL, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    assert_status(hshm_trim(heap, 0, NULL), HSHM_E_NOTSUP);
    assert_sentence("array");
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_lazy_region_may_be_trimmed_by_whoever_attached_but_for_readers(void **state)
{
    (void)state;
    const char *name = test_name("theirs");
    hshm_allocator *heap = new_stack(HSHM_BACKEND_POSIX_SHM_MMAP, name, REGION, HSHM_COMMIT_LAZY);
    unsigned char *block = hshm_malloc(heap, BIG);
    memset(block, 0xff, BIG);
    assert_ok(hshm_free(heap, block));
    hshm_manager *others[2] = { NULL, NULL };
    assert_ok(hshm_manager_create(&others[0]));
    assert_ok(hshm_manager_create(&others[1]));
    hshm_attach_options read_only = HSHM_ATTACH_OPTIONS_INIT;
    read_only.read_only = true;
    hshm_allocator *reader = NULL;
    assert_ok(hshm_backend_attach(others[0], HSHM_BACKEND_POSIX_SHM_MMAP, name, &read_only, NULL));
    assert_ok(hshm_allocator_get(others[0], (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, &reader));
    assert_status(hshm_trim(reader, 0, NULL), HSHM_E_PERM);

    uint64_t bytes = 0;
    assert_ok(hshm_trim(attach_heap(others[1], HSHM_BACKEND_POSIX_SHM_MMAP, name, 0), 0, &bytes));
    assert_true(bytes >= BIG - 8192);
    hshm_manager_destroy(others[0]);
    hshm_manager_destroy(others[1]);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* Small ones begin anywhere in a page, large ones at pages; neither may lose a byte that is live. */
static void
memory_from_malloc_can_be_trimmed_at_any_size(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1024, 4096, 8192, 20000, 65535, 65536, 100000, 300000, REGION };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        hshm_allocator *heap = new_stack(HSHM_BACKEND_MALLOC, NULL, sizes[i], HSHM_COMMIT_LAZY);
        const size_t data = (size_t)stats_of(heap).data_bytes;
        unsigned char *low = hshm_malloc(heap, data / 4);
        unsigned char *high = hshm_malloc(heap, (size_t)stats_of(heap).largest_free);
        const size_t size = hshm_usable_size(heap, high);
        block_fill(low, data / 4, i);
        memset(high, 0xff, size);
        assert_ok(hshm_free(heap, high));
        assert_ok(hshm_trim(heap, 0, NULL));
        assert_block(heap, low, data / 4, i);
        assert_sound(heap);

        assert_ptr_equal(hshm_malloc(heap, size), high);
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        for (unsigned char *at = (unsigned char *)(((uintptr_t)high + page - 1) / page * page);
             sizes[i] >= 16 * page && at + page <= high + size; at += page)
            assert_true(all_bytes(at, page, 0));
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_lazy_region_gives_pages_back, drop_heaps),
        cmocka_unit_test_teardown(what_shall_be_kept_is_kept, drop_heaps),
        cmocka_unit_test_teardown(live_blocks_are_never_touched, drop_heaps),
        cmocka_unit_test_teardown(a_full_heap_has_nothing_to_give, drop_heaps),
        cmocka_unit_test_teardown(promised_pages_and_arrays_are_refused, drop_heaps),
        cmocka_unit_test_teardown(a_lazy_region_may_be_trimmed_by_whoever_attached_but_for_readers, drop_heaps),
        cmocka_unit_test_teardown(memory_from_malloc_can_be_trimmed_at_any_size, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
