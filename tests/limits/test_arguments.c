/*
 * test_arguments.c - arguments that are wrong: NULL where something is needed, kinds and values that do not exist, ids
 * that are taken, structs of another size, pairs that do not go together.  Each is told, and changes nothing.
 */
#include "limits.h"

#include <limits.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

alignas(64) static unsigned char array[16 * 1024];

/* ---- NULL ---- */

static void
results_that_cannot_be_null_are_refused(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 16 * KIB, HSHM_ALLOCATOR_STACK);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    hshm_stats stats = HSHM_STATS_INIT;
    assert_status(hshm_manager_create(NULL), HSHM_E_INVAL);
    assert_sentence("ret_manager is NULL");
    assert_status(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, NULL), HSHM_E_INVAL);
    assert_sentence("ret_allocator is NULL");
    assert_status(hshm_resolve(NULL, (hshm_shm_ptr){ { 1, 0 }, 64 }, NULL), HSHM_E_INVAL);
    assert_sentence("ret_addr is NULL");
    assert_status(hshm_identify(NULL, heap, NULL), HSHM_E_INVAL);
    assert_sentence("ret_pointer is NULL");
    assert_status(hshm_backend_sync(NULL), HSHM_E_INVAL);
    assert_sentence("backend is NULL");
    assert_status(hshm_backend_info(NULL, &info), HSHM_E_INVAL);
    assert_sentence("backend is NULL");
    assert_status(hshm_backend_info(hshm_backend_get(NULL, 1), NULL), HSHM_E_INVAL);
    assert_sentence("ret_info is NULL");
    assert_status(hshm_allocate(heap, 16, NULL), HSHM_E_INVAL);
    assert_sentence("ret_ptr is NULL");
    assert_status(hshm_allocate_aligned(heap, 16, 64, NULL), HSHM_E_INVAL);
    assert_sentence("ret_ptr is NULL");
    assert_status(hshm_reallocate(heap, NULL, 16), HSHM_E_INVAL);
    assert_sentence("inout_ptr is NULL");
    assert_status(hshm_deallocate(heap, NULL), HSHM_E_INVAL);
    assert_sentence("inout_ptr is NULL");
    assert_status(hshm_visit_blocks(heap, NULL, NULL), HSHM_E_INVAL);
    assert_sentence("fn is NULL");
    assert_status(hshm_stack_mark(heap, NULL), HSHM_E_INVAL);
    assert_sentence("ret_height is NULL");
    assert_status(hshm_stats_get(heap, NULL), HSHM_E_INVAL);
    assert_sentence("ret_stats is NULL");
    assert_status(hshm_stats_get(NULL, &stats), HSHM_E_INVAL);
    assert_sentence("allocator is NULL");
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.allocs, 0);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
results_that_nobody_wants_may_be_null(void **state)
{
    (void)state;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 64 * KIB, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 10, NULL, NULL));
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, &heap));
    assert_non_null(hshm_allocator_custom_header(heap, NULL));
    assert_ok(hshm_trim(heap, 0, NULL));
    assert_ok(hshm_free(heap, NULL));
    hshm_ptr null = HSHM_PTR_NULL;
    assert_ok(hshm_deallocate(heap, &null));
    assert_int_equal(hshm_usable_size(heap, NULL), 0);
    void *block = hshm_realloc(heap, NULL, 10);
    assert_non_null(block);
    assert_ok(hshm_reallocate(heap, &null, 10));
    assert_non_null(null.addr);
    assert_int_equal(hshm_to_off(heap, NULL), HSHM_OFF_NULL);
    assert_null(hshm_to_addr(heap, HSHM_OFF_NULL));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- structs of another size ---- */

static void
structs_that_are_too_small_are_refused(void **state)
{
    (void)state;
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    hshm_backend *backend = hshm_backend_get(NULL, BYSTANDER_ID);
    static const size_t less[] = { 1, 8, SIZE_MAX }; /* SIZE_MAX: to 0, below */
    for (size_t i = 0; i < 3; i++) {
        hshm_backend_options create = HSHM_BACKEND_OPTIONS_INIT;
        /* The first version ended there. */
        create.struct_size = less[i] == SIZE_MAX ? 0 : offsetof(hshm_backend_options, nameless) - less[i];
        assert_create_refused(HSHM_BACKEND_MALLOC, 64 * KIB, NULL, &create, HSHM_E_INVAL, "hshm_backend_options");
        assert_sentence("_INIT");
        assert_id_free(TRIED_ID);

        hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
        attach.struct_size = less[i] == SIZE_MAX ? 0 : offsetof(hshm_attach_options, fd) - less[i];
        assert_attach_refused(HSHM_BACKEND_POSIX_SHM_MMAP, "none", &attach, HSHM_E_INVAL, "hshm_attach_options");

        hshm_backend_info_data info;
        memset(&info, PATTERN, sizeof info);
        info.struct_size = less[i] == SIZE_MAX ? 0 : offsetof(hshm_backend_info_data, fd) - less[i];
        assert_status(hshm_backend_info(backend, &info), HSHM_E_INVAL);
        assert_sentence("hshm_backend_info_data");
        assert_int_equal(((unsigned char *)&info)[sizeof info - 1], PATTERN);

        hshm_stats stats;
        memset(&stats, PATTERN, sizeof stats);
        stats.struct_size = less[i] == SIZE_MAX ? 0 : sizeof stats - less[i];
        assert_status(hshm_stats_get(witness.heap, &stats), HSHM_E_INVAL);
        assert_sentence("hshm_stats.struct_size");
        assert_int_equal(((unsigned char *)&stats)[sizeof stats - 1], PATTERN);
    }
    /* Of a struct that ends in the middle of what came later, nothing of that is looked at. */
    hshm_backend_options create = HSHM_BACKEND_OPTIONS_INIT;
    create.struct_size = sizeof create - 1;
    create.gpu = (hshm_gpu_need)77;
    assert_ok(hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_MALLOC, 4 * KIB, NULL, &create, NULL));
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
    create.struct_size = sizeof create;
    assert_create_refused(HSHM_BACKEND_MALLOC, 4 * KIB, NULL, &create, HSHM_E_INVAL, "options.gpu is 77");
    hshm_allocator_options options = HSHM_ALLOCATOR_OPTIONS_INIT;
    options.struct_size = offsetof(hshm_allocator_options, min_block) - 1; /* the first version ended there */
    assert_ok(hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_MALLOC, 4 * KIB, NULL, NULL, NULL));
    assert_status(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, &options, NULL),
                  HSHM_E_INVAL);
    assert_sentence("hshm_allocator_options");
    options.struct_size++;
    options.min_block = 77; /* nothing of it is looked at */
    assert_ok(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, &options, NULL));
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
    witness_end(&witness);
}

/* What a program would pass that was built with a later header: more than this library knows. */
static void
structs_of_a_later_version_work(void **state)
{
    (void)state;
    struct {
        hshm_stats known;
        unsigned char later[64];
    } stats;
    struct {
        hshm_backend_info_data known;
        unsigned char later[64];
    } info;
    struct {
        hshm_backend_options known;
        unsigned char later[64];
    } options = { .known = HSHM_BACKEND_OPTIONS_INIT };
    memset(&stats, PATTERN, sizeof stats);
    memset(&info, PATTERN, sizeof info);
    stats.known.struct_size = sizeof stats;
    info.known.struct_size = sizeof info;
    options.known.struct_size = sizeof options;
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_MALLOC, 64 * KIB, NULL, &options.known, NULL));
    assert_ok(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    assert_ok(hshm_stats_get(heap, &stats.known));
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, TRIED_ID), &info.known));
    assert_int_equal(stats.known.struct_size, sizeof stats);
    assert_int_equal(stats.known.region_bytes, 64 * KIB);
    assert_int_equal(info.known.size, 64 * KIB);
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(stats.later[i], PATTERN);
        assert_int_equal(info.later[i], PATTERN);
    }
    assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
}

/* ---- kinds and values that do not exist ---- */

static void
kinds_of_backends_that_do_not_exist_are_refused(void **state)
{
    (void)state;
    static const int unknown[] = { 0, 7, 100, -1, INT_MAX, INT_MIN };
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        const hshm_backend_kind kind = (hshm_backend_kind)unknown[i];
        assert_create_refused(kind, 64 * KIB, "name", NULL, HSHM_E_INVAL, "no backend kind");
        assert_attach_refused(kind, "name", NULL, HSHM_E_INVAL, "no backend kind");
        assert_status(hshm_backend_remove(kind, "name"), HSHM_E_INVAL);
        assert_id_free(TRIED_ID);
    }
}

static void
values_of_options_that_do_not_exist_are_refused(void **state)
{
    (void)state;
    static const uint32_t modes[] = { 01600, 04755, 0100600, UINT32_MAX };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
        options.mode = modes[i];
        assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, test_name("mode"), &options, HSHM_E_INVAL, "0777");
    }
    static const uint32_t closed[] = { 0400, 0200, 0066, 0001 };
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
        options.mode = closed[i];
        assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, test_name("mode"), &options, HSHM_E_INVAL,
                              "add 0600");
    }
    static const int values[] = { 3, 100, -1, INT_MIN };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        hshm_backend_options options = commit_options((hshm_commit)values[i]);
        assert_create_refused(HSHM_BACKEND_MALLOC, 64 * KIB, NULL, &options, HSHM_E_INVAL, "options.commit");
        options = commit_options(HSHM_COMMIT_RESERVE);
        options.replace = (hshm_replace)values[i];
        assert_create_refused(HSHM_BACKEND_MALLOC, 64 * KIB, NULL, &options, HSHM_E_INVAL, "options.replace");
    }
    assert_id_free(TRIED_ID);
}

/* ---- what this build, or any, cannot do ---- */

static void
gpu_kinds_say_that_there_is_no_driver(void **state)
{
    (void)state;
    /* Also on a machine that has one. */
    assert_int_equal(setenv("HSHM_CUDA_LIB", "/nowhere/libcuda.so.1", 1), 0);
    assert_int_equal(setenv("HSHM_HIP_LIB", "/nowhere/libamdhip64.so", 1), 0);
    const char *name = test_name("gpu");
    assert_create_refused(HSHM_BACKEND_GPU_MALLOC, 64 * KIB, name, NULL, HSHM_E_DEVICE, "there is no driver");
    assert_create_refused(HSHM_BACKEND_GPU_SHM_MMAP, 64 * KIB, name, NULL, HSHM_E_DEVICE, "there is no driver");
    assert_attach_refused(HSHM_BACKEND_GPU_MALLOC, name, NULL, HSHM_E_NOTFOUND, "No such file");
    assert_attach_refused(HSHM_BACKEND_GPU_SHM_MMAP, name, NULL, HSHM_E_NOTFOUND, "No such file");
    assert_id_free(TRIED_ID);
}

static void
private_kinds_cannot_be_attached_to_or_removed(void **state)
{
    (void)state;
    assert_attach_refused(HSHM_BACKEND_MALLOC, "private", NULL, HSHM_E_NOTSUP, "private to the process");
    static const hshm_backend_kind nameless[] = { HSHM_BACKEND_MALLOC, HSHM_BACKEND_ARRAY };
    for (size_t i = 0; i < sizeof nameless / sizeof nameless[0]; i++) {
        assert_status(hshm_backend_remove(nameless[i], "private"), HSHM_E_NOTSUP);
        assert_sentence("no names");
    }
}

static void
allocators_that_cannot_be_leave_the_backend_for_one_that_can(void **state)
{
    (void)state;
    static const struct {
        int kind;
        hshm_status status;
        const char *part;
    } bad[] = {
        { HSHM_ALLOCATOR_ANY, HSHM_E_INVAL, "no allocator kind 0" },
        { 5, HSHM_E_INVAL, "no allocator kind 5" },
        { -1, HSHM_E_INVAL, "no allocator kind" },
        { HSHM_ALLOCATOR_MALLOC, HSHM_E_NOTSUP, "HSHM_BACKEND_MALLOC" },
    };
    const struct {
        hshm_backend_kind kind;
        const char *url;
    } on[] = {
        { HSHM_BACKEND_POSIX_SHM_MMAP, test_name("pair") },
        { HSHM_BACKEND_POSIX_MMAP, test_path("pair") },
        { HSHM_BACKEND_ARRAY, "pair" },
        { HSHM_BACKEND_MALLOC, "pair" },
    };
    for (size_t k = 0; k < 4; k++) {
        hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
        options.array = array;
        assert_ok(hshm_backend_create(NULL, TRIED_ID, on[k].kind, sizeof array, on[k].url, &options, NULL));
        hshm_allocator *heap = (hshm_allocator *)&array;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            if (on[k].kind == HSHM_BACKEND_MALLOC && bad[i].kind == HSHM_ALLOCATOR_MALLOC)
                continue;
            assert_status(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, (hshm_allocator_kind)bad[i].kind, 0,
                                                NULL, &heap),
                          bad[i].status);
            assert_sentence(bad[i].part);
            assert_ptr_equal(heap, &array);
            assert_status(hshm_allocator_get(NULL, TRIED_ALLOCATOR, HSHM_ALLOCATOR_ANY, &heap), HSHM_E_NOTFOUND);
        }
        assert_ok(hshm_allocator_create(NULL, TRIED_ID, TRIED_ALLOCATOR, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
        assert_non_null(hshm_malloc(heap, 10));
        assert_ok(hshm_backend_destroy(NULL, TRIED_ID));
    }
}

static void
a_region_is_attached_to_as_the_kind_that_it_is(void **state)
{
    (void)state;
    hshm_manager *owner = NULL;
    assert_ok(hshm_manager_create(&owner));
    const char *name = test_name("kind");
    char path[300];
    (void)snprintf(path, sizeof path, "/dev/shm/%s", name);
    (void)make_heap(owner, HSHM_BACKEND_POSIX_SHM_MMAP, name, 64 * KIB, HSHM_ALLOCATOR_STACK);
    assert_attach_refused(HSHM_BACKEND_POSIX_MMAP, path, NULL, HSHM_E_INVAL, "another kind of backend");
    assert_sentence(path);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(owner, 1), &info));
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.array = info.base;
    options.array_size = info.size;
    assert_attach_refused(HSHM_BACKEND_ARRAY, "bytes", &options, HSHM_E_INVAL, "another kind of backend");
    assert_ok(hshm_backend_destroy(owner, 1));
    hshm_manager_destroy(owner);
}

/* ---- ids that are taken, heaps of another kind ---- */

static void
ids_that_are_taken_are_refused(void **state)
{
    (void)state;
    const char *name = test_name("ids");
    hshm_allocator *first = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 16 * KIB, HSHM_ALLOCATOR_STACK);
    hshm_backend *backend = (hshm_backend *)&backend;
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, name, NULL, &backend),
                  HSHM_E_EXISTS);
    assert_sentence("backend id 1 ");
    assert_ptr_equal(backend, &backend);
    assert_attach_refused(HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, HSHM_E_NOTFOUND, name);

    assert_ok(hshm_backend_create(NULL, TRIED_ID, HSHM_BACKEND_MALLOC, 16 * KIB, NULL, NULL, NULL));
    assert_status(
        hshm_allocator_create(NULL, TRIED_ID, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL),
        HSHM_E_EXISTS);
    assert_sentence("allocator id 1.0 ");
    assert_ok(hshm_allocator_create(NULL, TRIED_ID, (hshm_allocator_id){ 1, 1 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    assert_non_null(hshm_malloc(first, 10));
    hshm_manager_destroy(NULL);
}

static void
attach_under_ids_that_are_taken_is_refused(void **state)
{
    (void)state;
    hshm_manager *owner = NULL;
    assert_ok(hshm_manager_create(&owner));
    const char *name = test_name("ids");
    (void)make_heap(owner, HSHM_BACKEND_POSIX_SHM_MMAP, name, 64 * KIB, HSHM_ALLOCATOR_STACK);

    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 16 * KIB, NULL, NULL, NULL));
    assert_attach_refused(HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, HSHM_E_EXISTS, "backend id 1 ");
    assert_sentence(name);
    assert_sentence("hshm_manager_create");
    assert_ok(hshm_backend_destroy(NULL, 1));

    assert_ok(hshm_backend_create(NULL, 2, HSHM_BACKEND_MALLOC, 16 * KIB, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    assert_attach_refused(HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, HSHM_E_EXISTS, "allocator id 1.0 ");
    /* No slot is lost by that. */
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(owner, 1), &info));
    assert_int_equal(info.processes, 1);
    assert_ok(hshm_allocator_unregister(NULL, (hshm_allocator_id){ 1, 0 }));
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, NULL));
    hshm_manager_destroy(NULL);
    assert_ok(hshm_backend_destroy(owner, 1));
    hshm_manager_destroy(owner);
}

static void
a_backend_takes_one_allocator(void **state)
{
    (void)state;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, "one", 16 * KIB, HSHM_ALLOCATOR_STACK);
    hshm_allocator *second = (hshm_allocator *)&second;
    assert_status(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_MALLOC, 0, NULL, &second),
                  HSHM_E_EXISTS);
    assert_sentence("'one' (malloc) has a heap already");
    assert_ptr_equal(second, &second);
    assert_status(hshm_allocator_get(NULL, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_ANY, &second), HSHM_E_NOTFOUND);
    assert_sentence("no allocator 2.0");
    assert_non_null(hshm_malloc(heap, 10));
    assert_status(hshm_allocator_create(NULL, 99, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL),
                  HSHM_E_NOTFOUND);
    assert_sentence("no backend 99");
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_heap_of_another_kind_is_not_given_out(void **state)
{
    (void)state;
    static const struct {
        hshm_allocator_kind is, asked;
        const char *part;
    } pairs[] = {
        { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_MALLOC, "is a Stack (kind 1), not of kind 4" },
        { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_SCALABLE_PAGE, "not of kind 2" },
        { HSHM_ALLOCATOR_MALLOC, HSHM_ALLOCATOR_STACK, "is a Malloc (kind 4), not of kind 1" },
        { HSHM_ALLOCATOR_MALLOC, (hshm_allocator_kind)77, "not of kind 77" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        (void)make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 16 * KIB, pairs[i].is);
        hshm_allocator *heap = (hshm_allocator *)&heap;
        assert_status(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, pairs[i].asked, &heap), HSHM_E_KIND);
        assert_sentence(pairs[i].part);
        assert_ptr_equal(heap, &heap);
        assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, pairs[i].is, &heap));
        assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

static void
alignments_that_are_no_powers_of_two_are_refused(void **state)
{
    (void)state;
    static const size_t bad[] = { 0, 3, 24, 100, SIZE_MAX, ((size_t)1 << 63) + 1 };
    static const hshm_allocator_kind cuts[] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_MALLOC };
    for (size_t k = 0; k < 2; k++) {
        hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 16 * KIB, cuts[k]);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            hshm_ptr ptr = { &ptr, { { 5, 6 }, 7 } };
            assert_status(hshm_allocate_aligned(heap, 16, bad[i], &ptr), HSHM_E_INVAL);
            assert_sentence("no power of two");
            assert_ptr_equal(ptr.addr, &ptr);
            assert_null(hshm_aligned_alloc(heap, bad[i], 16));
            assert_int_equal(hshm_last_status(), HSHM_E_INVAL);
        }
        hshm_stats stats = HSHM_STATS_INIT;
        assert_ok(hshm_stats_get(heap, &stats));
        assert_int_equal(stats.live_blocks, 0);
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

/* ---- statuses ---- */

static void
numbers_that_are_no_status_have_words_too(void **state)
{
    (void)state;
    static const int unknown[] = { -1, 20, INT_MAX, INT_MIN };
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_string_equal(hshm_status_name((hshm_status)unknown[i]), "HSHM_E_?");
        assert_string_equal(hshm_status_text((hshm_status)unknown[i]), "not a status of this library");
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_that_cannot_be_null_are_refused),
        cmocka_unit_test(results_that_nobody_wants_may_be_null),
        cmocka_unit_test(structs_that_are_too_small_are_refused),
        cmocka_unit_test(structs_of_a_later_version_work),
        cmocka_unit_test(kinds_of_backends_that_do_not_exist_are_refused),
        cmocka_unit_test(values_of_options_that_do_not_exist_are_refused),
        cmocka_unit_test(gpu_kinds_say_that_there_is_no_driver),
        cmocka_unit_test(private_kinds_cannot_be_attached_to_or_removed),
        cmocka_unit_test(allocators_that_cannot_be_leave_the_backend_for_one_that_can),
        cmocka_unit_test(a_region_is_attached_to_as_the_kind_that_it_is),
        cmocka_unit_test(ids_that_are_taken_are_refused),
        cmocka_unit_test(attach_under_ids_that_are_taken_is_refused),
        cmocka_unit_test(a_backend_takes_one_allocator),
        cmocka_unit_test(a_heap_of_another_kind_is_not_given_out),
        cmocka_unit_test(alignments_that_are_no_powers_of_two_are_refused),
        cmocka_unit_test(numbers_that_are_no_status_have_words_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
