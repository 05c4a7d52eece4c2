/*
 * test_sizes.c - sizes that cannot be: regions, custom headers, slots, buffers, blocks.
 */
#include "limits.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

alignas(4096) static unsigned char array[64 * 1024];

/* The kinds that this build can create, and how. */
struct kind {
    hshm_backend_kind kind;
    const char *url;
    hshm_backend_options options;
};

enum { KINDS = 4 };

static void
fill_kinds(struct kind kinds[KINDS])
{
    static const hshm_backend_kind numbers[KINDS] = { HSHM_BACKEND_POSIX_SHM_MMAP, HSHM_BACKEND_POSIX_MMAP,
                                                      HSHM_BACKEND_MALLOC, HSHM_BACKEND_ARRAY };
    for (size_t i = 0; i < KINDS; i++)
        kinds[i] = (struct kind){ numbers[i], "label", HSHM_BACKEND_OPTIONS_INIT };
    kinds[0].url = test_name("sized");
    kinds[1].url = test_path("sized");
    kinds[3].options.array = array;
}

/* ---- regions ---- */

static void
regions_too_small_or_too_large_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        const char *part;
    } bad[] = {
        { 0, "0 bytes is too small" },
        { 1, "1 bytes is too small" },
        { HSHM_REGION_SIZE_MIN - 1, "bytes is too small" },
        { SIZE_MAX, "(18446744073709551615)" },
        { SIZE_MAX - 4095, "negative" },
        { SIZE_MAX / 2, "negative" },
        { SIZE_MAX / 2 + 1, "negative" },
        { ((size_t)1 << 60) + 1, "negative" },
    };
    char least[32];
    (void)snprintf(least, sizeof least, "%d bytes at least", HSHM_REGION_SIZE_MIN);
    struct kind kinds[KINDS];
    fill_kinds(kinds);
    for (size_t k = 0; k < KINDS; k++) {
        const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            assert_create_refused(kinds[k].kind, bad[i].size, kinds[k].url, &kinds[k].options, HSHM_E_INVAL,
                                  bad[i].part);
            assert_sentence(kinds[k].url);
            if (bad[i].size < HSHM_REGION_SIZE_MIN)
                assert_sentence(least);
        }
        assert_id_free(TRIED_ID);
        witness_end(&witness);
    }
}

/*
 * Large, but a size that offsets can count: there are no addresses for it.  Lazy, so that nothing would be taken of this
 * machine's memory even if it were not refused; test_space.c has a machine of its own to reserve on.
 */
static void
regions_that_no_process_can_map_are_refused(void **state)
{
    (void)state;
    struct kind kinds[KINDS];
    fill_kinds(kinds);
    for (size_t k = 0; k < 2; k++) {
        const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
        const hshm_backend_options lazy = commit_options(HSHM_COMMIT_LAZY);
        assert_create_refused(kinds[k].kind, (size_t)1 << 60, kinds[k].url, &lazy, HSHM_E_NOSPC, kinds[k].url);
        assert_sentence("1.0 EiB (1152921504606846976)");
        assert_id_free(TRIED_ID);
        witness_end(&witness);
    }
}

static void
the_smallest_region_holds_a_stack_with_one_block(void **state)
{
    (void)state;
    struct kind kinds[KINDS];
    fill_kinds(kinds);
    for (size_t k = 0; k < KINDS; k++) {
        hshm_allocator *heap = NULL;
        assert_ok(hshm_backend_create(NULL, TRIED_ID, kinds[k].kind, HSHM_REGION_SIZE_MIN, kinds[k].url,
                                      &kinds[k].options, NULL));
        assert_ok(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
        void *block = hshm_malloc(heap, 64);
        assert_non_null(block);
        memset(block, PATTERN, 64);
        assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
    }
}

/* ---- custom headers ---- */

/* The header and the blocks do not lie on each other, and all of the header can be written. */
static void
assert_header_is_apart(hshm_allocator *heap, size_t header_size)
{
    size_t size = 0;
    unsigned char *header = hshm_allocator_custom_header(heap, &size);
    assert_non_null(header);
    assert_int_equal(size, header_size);
    assert_int_equal((uintptr_t)header % 64, 0);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(header[i], 0);
    memset(header, PATTERN, size);
    unsigned char *block = hshm_malloc(heap, 16);
    assert_non_null(block);
    memset(block, 1, 16);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(header[i], PATTERN);
    assert_int_equal(block[0], 1);
}

static void
try_headers(const struct kind *kind, hshm_allocator_kind cut)
{
    const size_t region_size = 8 * KIB;
    hshm_allocator *heap = (hshm_allocator *)&array;
    assert_ok(hshm_backend_create(NULL, TRIED_ID, kind->kind, region_size, kind->url, &kind->options, NULL));
    static const size_t bad[] = { SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, (size_t)1 << 60, 8 * KIB + 1, 8 * KIB };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_status(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, cut, bad[i], NULL, &heap), HSHM_E_INVAL);
        assert_sentence("custom header");
        assert_sentence("8.0 KiB (8192)");
        assert_ptr_equal(heap, &array);
    }
    /* The largest that fits: one more was refused on this very backend, just before. */
    size_t header_size = region_size - 1;
    while (hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, cut, header_size, NULL, &heap) != HSHM_OK) {
        assert_int_equal(hshm_last_status(), HSHM_E_INVAL);
        assert_ptr_equal(heap, &array);
        header_size--;
    }
    assert_true(header_size > 4 * KIB);
    assert_header_is_apart(heap, header_size);
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
}

static void
custom_headers_that_do_not_fit_leave_the_backend_for_one_that_does(void **state)
{
    (void)state;
    struct kind kinds[KINDS];
    fill_kinds(kinds);
    const struct footprint before = footprint_take();
    for (size_t k = 0; k < KINDS; k++)
        try_headers(&kinds[k], HSHM_ALLOCATOR_STACK);
    try_headers(&kinds[2], HSHM_ALLOCATOR_MALLOC);
    assert_footprint(before);
}

/* ---- slots ---- */

static void
slots_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct kind kinds[KINDS];
    fill_kinds(kinds);
    for (size_t k = 0; k < KINDS; k++) {
        kinds[k].options.slots = UINT32_MAX;
        assert_create_refused(kinds[k].kind, 64 * KIB, kinds[k].url, &kinds[k].options, HSHM_E_INVAL,
                              "4294967295 slots need");
        kinds[k].options.slots = 64 * 1024 / 64;
        assert_create_refused(kinds[k].kind, 64 * KIB, kinds[k].url, &kinds[k].options, HSHM_E_INVAL,
                              "the region has 64.0 KiB (65536)");
        assert_id_free(TRIED_ID);

        /* As many as the region can hold leave no room for a heap, which the heap's creation says. */
        kinds[k].options.slots = 64 * 1024 / 64 - 5;
        assert_ok(hshm_backend_create(NULL, TRIED_ID, kinds[k].kind, 64 * KIB, kinds[k].url, &kinds[k].options, NULL));
        assert_status(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, NULL, NULL),
                      HSHM_E_INVAL);
        assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
        kinds[k].options.slots = 1;
        assert_create_works(kinds[k].kind, 64 * KIB, kinds[k].url, &kinds[k].options);
    }
}

static void
more_processes_than_slots_are_refused(void **state)
{
    (void)state;
    struct kind kinds[KINDS];
    fill_kinds(kinds);
    static const size_t shared[] = { 0, 1, 3 };
    for (size_t i = 0; i < 3; i++) {
        struct kind *kind = &kinds[shared[i]];
        hshm_manager *owner = NULL, *second = NULL;
        assert_ok(hshm_manager_create(&owner));
        assert_ok(hshm_manager_create(&second));
        kind->options.slots = 2;
        assert_ok(hshm_backend_create(owner, 1, kind->kind, 64 * KIB, kind->url, &kind->options, NULL));
        assert_ok(hshm_allocator_create(owner, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
        hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
        options.array = array;
        options.array_size = 64 * KIB;
        assert_ok(hshm_backend_attach(second, kind->kind, kind->url, &options, NULL));
        assert_attach_refused(kind->kind, kind->url, &options, HSHM_E_LIMIT, "2 slots are taken");
        /* Who only reads needs none. */
        options.read_only = true;
        assert_ok(hshm_backend_attach(NULL, kind->kind, kind->url, &options, NULL));
        assert_ok(hshm_backend_detach(NULL, 1));
        options.read_only = false;
        assert_ok(hshm_backend_detach(second, 1));
        assert_ok(hshm_backend_attach(NULL, kind->kind, kind->url, &options, NULL));
        assert_ok(hshm_backend_detach(NULL, 1));
        assert_ok(hshm_backend_destroy(owner, 1));
        hshm_manager_destroy(second);
        hshm_manager_destroy(owner);
    }
}

/* ---- growth ---- */

static void
a_region_that_should_grow_is_refused(void **state)
{
    (void)state;
    struct kind kinds[KINDS];
    fill_kinds(kinds);
    for (size_t k = 0; k < KINDS; k++) {
        static const uint64_t other[] = { 1, 64 * 1024 - 4096, 64 * 1024 + 4096, (uint64_t)1 << 40, UINT64_MAX };
        for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
            kinds[k].options.max_size = other[i];
            assert_create_refused(kinds[k].kind, 64 * KIB, kinds[k].url, &kinds[k].options, HSHM_E_NOTSUP, "max_size");
            assert_sentence("HSHM_COMMIT_LAZY");
        }
        kinds[k].options.max_size = 64 * KIB;
        assert_create_works(kinds[k].kind, 64 * KIB, kinds[k].url, &kinds[k].options);
    }
    /* Sizes are rounded to pages before they are compared. */
    kinds[0].options.max_size = 64 * KIB;
    assert_create_works(kinds[0].kind, 64 * KIB - 1, kinds[0].url, &kinds[0].options);
}

/* ---- the caller's buffer ---- */

static void
buffers_that_cannot_be_are_refused(void **state)
{
    (void)state;
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    assert_create_refused(HSHM_BACKEND_ARRAY, 4 * KIB, "mine", NULL, HSHM_E_INVAL, "options.array");
    assert_create_refused(HSHM_BACKEND_ARRAY, 4 * KIB, "mine", &options, HSHM_E_INVAL, "options.array");
    assert_sentence("mine");
    static const size_t offs[] = { 1, 8, 16, 32, 63 };
    for (size_t i = 0; i < sizeof offs / sizeof offs[0]; i++) {
        options.array = array + offs[i];
        assert_create_refused(HSHM_BACKEND_ARRAY, 4 * KIB, "mine", &options, HSHM_E_INVAL, "multiple of 64");
    }
    options.array = array;
    assert_create_refused(HSHM_BACKEND_ARRAY, HSHM_REGION_SIZE_MIN - 1, "mine", &options, HSHM_E_INVAL, "too small");
    /* It would reach beyond the last address. */
    options.array = (void *)(UINTPTR_MAX - 4095);
    assert_create_refused(HSHM_BACKEND_ARRAY, 1 * MIB, "mine", &options, HSHM_E_INVAL, "cannot have 1.0 MiB");
    assert_id_free(TRIED_ID);
    witness_end(&witness);
}

static void
buffers_that_hold_no_region_are_refused(void **state)
{
    (void)state;
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    assert_attach_refused(HSHM_BACKEND_ARRAY, "mine", NULL, HSHM_E_INVAL, "options.array");
    options.array = array;
    static const uint64_t small[] = { 0, 1, 319 };
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
        options.array_size = small[i];
        assert_attach_refused(HSHM_BACKEND_ARRAY, "mine", &options, HSHM_E_INVAL, "at least 320 bytes");
    }
    options.array = array + 16;
    options.array_size = 4 * KIB;
    assert_attach_refused(HSHM_BACKEND_ARRAY, "mine", &options, HSHM_E_INVAL, "multiple of 64");
    options.array = array;
    memset(array, 0, 4 * KIB);
    assert_attach_refused(HSHM_BACKEND_ARRAY, "mine", &options, HSHM_E_CORRUPT, "mine");
    memset(array, PATTERN, 4 * KIB);
    assert_attach_refused(HSHM_BACKEND_ARRAY, "mine", &options, HSHM_E_CORRUPT, "mine");

    /* A region, of which the caller has a part only. */
    hshm_manager *owner = NULL;
    assert_ok(hshm_manager_create(&owner));
    hshm_backend_options create = HSHM_BACKEND_OPTIONS_INIT;
    create.array = array;
    assert_ok(hshm_backend_create(owner, 1, HSHM_BACKEND_ARRAY, 8 * KIB, "mine", &create, NULL));
    options.array_size = 8 * KIB;
    assert_attach_refused(HSHM_BACKEND_ARRAY, "mine", &options, HSHM_E_NOTREADY, "no heap yet");
    assert_ok(hshm_allocator_create(owner, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    options.array_size = 8 * KIB - 1;
    assert_attach_refused(HSHM_BACKEND_ARRAY, "mine", &options, HSHM_E_CORRUPT, "mine");
    options.array_size = 8 * KIB;
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_ARRAY, "mine", &options, NULL));
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_ok(hshm_backend_destroy(owner, 1));
    hshm_manager_destroy(owner);
    witness_end(&witness);
}

/* ---- blocks ---- */

static void
assert_no_room(hshm_allocator *heap, size_t size)
{
    hshm_ptr ptr = { &ptr, { { 5, 6 }, 7 } };
    assert_status(hshm_allocate(heap, size, &ptr), HSHM_E_NOMEM);
    assert_sentence("has no room for");
    assert_sentence("heap 7.0");
    assert_ptr_equal(ptr.addr, &ptr);
    assert_int_equal(ptr.shm.off, 7);
    assert_null(hshm_malloc(heap, size));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_null(hshm_calloc(heap, 1, size));
    assert_null(hshm_aligned_alloc(heap, 64, size));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
}

static void
try_large_blocks(const struct kind *kind, hshm_allocator_kind cut)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, TRIED_ID, kind->kind, 32 * KIB, kind->url, &kind->options, NULL));
    assert_ok(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, cut, 0, NULL, &heap));
    unsigned char *kept = hshm_malloc(heap, 100);
    assert_non_null(kept);
    memset(kept, PATTERN, 100);
    hshm_stats before = HSHM_STATS_INIT, after = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &before));

    const size_t sizes[] = { SIZE_MAX,        SIZE_MAX - 15,         SIZE_MAX / 2 + 1,  PTRDIFF_MAX,
                             (size_t)1 << 40, before.data_bytes + 1, before.data_bytes, before.largest_free + 1 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_no_room(heap, sizes[i]);
        /* A block that is alone may grow over all there is, but not further. */
        if (sizes[i] <= before.data_bytes)
            continue;
        assert_null(hshm_realloc(heap, kept, sizes[i]));
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        assert_int_equal(kept[99], PATTERN);
    }
    assert_null(hshm_calloc(heap, SIZE_MAX / 2, 3));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
    assert_null(hshm_calloc(heap, (size_t)1 << 32, (size_t)1 << 32));
    assert_sentence("more than there are addresses");
    assert_null(hshm_aligned_alloc(heap, (size_t)1 << 63, 16));
    assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);

    assert_ok(hshm_stats_get(heap, &after));
    assert_int_equal(after.live_blocks, before.live_blocks);
    assert_int_equal(after.live_bytes, before.live_bytes);
    assert_int_equal(after.used_bytes, before.used_bytes);
    assert_true(after.failures >= before.failures + sizeof sizes / sizeof sizes[0]);
    /* What was refused took nothing: all that was free is. */
    void *rest = hshm_malloc(heap, before.largest_free);
    assert_non_null(rest);
    memset(rest, 1, before.largest_free);
    assert_int_equal(kept[99], PATTERN);
    assert_ok(hshm_free(heap, rest));
    assert_non_null(hshm_malloc(heap, 16));
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
}

static void
after_a_block_that_was_too_large_others_are_given(void **state)
{
    (void)state;
    struct kind kinds[KINDS];
    fill_kinds(kinds);
    for (size_t k = 0; k < KINDS; k++)
        try_large_blocks(&kinds[k], HSHM_ALLOCATOR_STACK);
    try_large_blocks(&kinds[2], HSHM_ALLOCATOR_MALLOC);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regions_too_small_or_too_large_are_refused),
        cmocka_unit_test(regions_that_no_process_can_map_are_refused),
        cmocka_unit_test(the_smallest_region_holds_a_stack_with_one_block),
        cmocka_unit_test(custom_headers_that_do_not_fit_leave_the_backend_for_one_that_does),
        cmocka_unit_test(slots_that_do_not_fit_are_refused),
        cmocka_unit_test(more_processes_than_slots_are_refused),
        cmocka_unit_test(a_region_that_should_grow_is_refused),
        cmocka_unit_test(buffers_that_cannot_be_are_refused),
        cmocka_unit_test(buffers_that_hold_no_region_are_refused),
        cmocka_unit_test(after_a_block_that_was_too_large_others_are_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
