/*
 * test_standin_heaps.c - heaps of both GPU kinds, of both vendors, on stand-in drivers: what they do that others do not.
 */
#include "gpu.h"

#include "blocks.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocator/allocator.h"

enum { SIZE = 16 << 20, BLOCKS = 40 };

static const hshm_allocator_kind kinds[] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_SCALABLE_PAGE,
                                             HSHM_ALLOCATOR_THREAD_LOCAL };

/* Each case in a process of its own: a driver is found once in a process's life. */
struct scene {
    enum vendor vendor;
    hshm_allocator_kind kind;
    void (*run)(const struct scene *scene);
};

static int
run_scene(void *arg)
{
    const struct scene *scene = arg;
    use_standin(scene->vendor);
    scene->run(scene);
    assert_nothing_held(scene->vendor);
    return 0;
}

static void
on_all(void (*run)(const struct scene *scene))
{
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            struct scene scene = { vendor, kinds[i], run };
            if (child_run(run_scene, &scene) != 0)
                fail_msg("%s, allocator %d", vendor_name(vendor), (int)kinds[i]);
        }
    }
}

static hshm_allocator *
device_heap(const struct scene *scene, size_t size, size_t custom_size)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, size, test_name("device"), NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, scene->kind, custom_size, NULL, &heap));
    return heap;
}

/* ---- device memory ---- */

static void
blocks_in_device_memory(const struct scene *scene)
{
    hshm_allocator *heap = device_heap(scene, SIZE, 64);
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        const size_t size = 1 + i * i * 37;
        blocks[i] = hshm_malloc(heap, size);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)hshm_device_ptr(heap, blocks[i]) % 256, 0);
        heap_fill(heap, blocks[i], size, i);
    }
    for (size_t i = 0; i < BLOCKS; i += 3) {
        blocks[i] = hshm_realloc(heap, blocks[i], 3 * (1 + i * i * 37));
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_true(heap_holds(heap, blocks[i], 1 + i * i * 37, i));
        assert_ok(hshm_free(heap, blocks[i]));
        assert_status(hshm_free(heap, blocks[i]), HSHM_E_BADFREE);
    }
    assert_ok(hshm_check(heap, 0, NULL));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
test_blocks_in_device_memory(void **state)
{
    (void)state;
    on_all(blocks_in_device_memory);
}

static void
zeros_and_fills(const struct scene *scene)
{
    hshm_allocator *heap = device_heap(scene, SIZE, 64);
    unsigned char bytes[5000];
    void *dirty = hshm_malloc(heap, sizeof bytes);
    assert_ok(hshm_fill(heap, dirty, 0xee, sizeof bytes));
    assert_ok(hshm_copy_from(heap, bytes, dirty, sizeof bytes));
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], 0xee);
    assert_ok(hshm_free(heap, dirty));
    void *zeros = hshm_calloc(heap, 5, 1000);
    assert_ok(hshm_copy_from(heap, bytes, zeros, sizeof bytes));
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], 0);
    /* Inside a block, across its end, and outside. */
    assert_ok(hshm_copy_to(heap, (char *)zeros + 100, "inside", 7));
    assert_ok(hshm_copy_from(heap, bytes, (char *)zeros + 100, 7));
    assert_string_equal((char *)bytes, "inside");
    assert_status(hshm_copy_to(heap, bytes, "x", 1), HSHM_E_INVAL);
    assert_status(hshm_copy_from(heap, bytes, zeros, (size_t)2 * SIZE), HSHM_E_INVAL);
    assert_status(hshm_fill(heap, zeros, 0, SIZE_MAX), HSHM_E_INVAL);
    /* The custom header is host memory. */
    char *custom = hshm_allocator_custom_header(heap, NULL);
    assert_ok(hshm_copy_to(heap, custom, "custom", 7));
    assert_string_equal(custom, "custom");
    assert_ptr_equal(hshm_host_ptr(heap, custom), custom);
    assert_null(hshm_device_ptr(heap, custom));
    assert_status(hshm_last_status(), HSHM_E_INVAL);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
test_zeros_and_fills(void **state)
{
    (void)state;
    on_all(zeros_and_fills);
}

static int
touch(void *block)
{
    return *(volatile char *)block;
}

static void
host_access(const struct scene *scene)
{
    hshm_allocator *heap = device_heap(scene, SIZE, 0);
    hshm_ptr block;
    void *addr = NULL;
    hshm_shm_ptr travels;
    assert_ok(hshm_allocate(heap, 1000, &block));
    assert_null(hshm_host_ptr(heap, block.addr));
    assert_status(hshm_last_status(), HSHM_E_NOTSUP);
    assert_sentence("hshm_copy_from");
    assert_status(hshm_resolve(NULL, block.shm, &addr), HSHM_E_NOTSUP);
    assert_null(addr);
    assert_ok(hshm_identify(NULL, block.addr, &travels));
    assert_int_equal(travels.off, block.shm.off);
    assert_ptr_equal(hshm_to_addr(heap, block.shm.off), block.addr);
    /* Who touches it all the same does not get somebody's bytes. */
    if (!UNDER_SANITIZER)
        assert_int_equal(child_run(touch, block.addr), 128 + SIGSEGV);
    block.addr = NULL;
    assert_ok(hshm_deallocate(heap, &block));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
test_host_access_is_refused(void **state)
{
    (void)state;
    on_all(host_access);
}

static void
names_and_slots(const struct scene *scene)
{
    hshm_allocator *heap = device_heap(scene, SIZE, sizeof(hshm_slot));
    hshm_slot *slot = hshm_allocator_custom_header(heap, NULL);
    assert_ok(hshm_allocate_to(heap, 3000, slot));
    heap_fill(heap, hshm_to_addr(heap, hshm_slot_load(slot)), 3000, 5);
    void *block = hshm_malloc(heap, 100);
    void *found = NULL;
    assert_ok(hshm_name_set(heap, "a block", block));
    assert_ok(hshm_name_get(heap, "a block", &found));
    assert_ptr_equal(found, block);
    /* Not in a block: no processor could read it there. */
    assert_status(hshm_allocate_to(heap, 10, block), HSHM_E_INVAL);
    assert_true(heap_holds(heap, hshm_to_addr(heap, hshm_slot_load(slot)), 3000, 5));
    assert_ok(hshm_free_from(heap, slot));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
test_names_and_slots(void **state)
{
    (void)state;
    on_all(names_and_slots);
}

static void
alignments(const struct scene *scene)
{
    hshm_allocator *heap = device_heap(scene, SIZE, 0);
    for (size_t alignment = 16; alignment <= (2 << 20); alignment *= 2) {
        void *block = hshm_aligned_alloc(heap, alignment, 10);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % alignment, 0);
        assert_int_equal((uintptr_t)hshm_device_ptr(heap, block) % alignment, 0);
    }
    assert_null(hshm_aligned_alloc(heap, 4 << 20, 10));
    assert_status(hshm_last_status(), HSHM_E_NOTSUP);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
test_alignments(void **state)
{
    (void)state;
    on_all(alignments);
}

/* Control data is little beside the device's memory, whatever its size; and the device has no less than was asked for. */
static void
control_is_little(const struct scene *scene)
{
    static const size_t sizes[] = { (size_t)2 << 20,  (size_t)3 << 20,   (size_t)16 << 20,
                                    (size_t)64 << 20, (size_t)256 << 20, (size_t)1 << 30 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        hshm_allocator *heap = device_heap(scene, sizes[i], 0);
        const hshm_stats stats = { .struct_size = sizeof stats };
        hshm_stats got = stats;
        assert_ok(hshm_stats_get(heap, &got));
        const uint64_t control = heap->layout.root_off + heap->layout.root_size;
        if (got.data_bytes < sizes[i] || control * 200 > got.data_bytes)
            fail_msg("%zu bytes: %llu for blocks, %llu of control data", sizes[i], (unsigned long long)got.data_bytes,
                     (unsigned long long)control);
        print_message("%s %d: %5zu MiB, control data %.3f %%, committed on the host %.3f %%\n",
                      vendor_name(scene->vendor), (int)scene->kind, sizes[i] >> 20,
                      100.0 * (double)control / (double)got.data_bytes,
                      100.0 * (double)(got.committed - got.data_bytes) / (double)got.data_bytes);
        void *all = hshm_malloc(heap, sizes[i]);
        assert_non_null(all);
        assert_ok(hshm_free(heap, all));
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

static void
test_control_data_is_little(void **state)
{
    (void)state;
    on_all(control_is_little);
}

/* The same by arithmetic, for cards and machines that are not here: up to 192 GiB, and 256 processors. */
static void
test_control_data_is_little_on_large_machines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct allocator_ops *ops = allocator_find(kinds[i]);
        for (uint64_t size = 2 << 20; size <= (uint64_t)192 << 30;
             size += size / 2 / (2 << 20) * (2 << 20) + (2 << 20)) {
            struct heap_layout layout = { 0 };
            const uint64_t slots = region_default_slots(size >> REGION_DEVICE_SCALE);
            const struct heap_wish wish = {
                .heap_off = region_heap_off((uint32_t)slots) + sizeof(struct region_device),
                .region_size = size + size / 50 / 64 * 64 + (32 << 20),
                .data_off = size / 50 / 64 * 64 + (32 << 20),
                .scale = size >> REGION_DEVICE_SCALE,
                .min_block = REGION_DEVICE_BLOCK,
                .cpus = 256,
            };
            assert_ok(ops->layout(&wish, &layout));
            if (layout.data_size != size || (layout.root_off + layout.root_size) * 200 > size)
                fail_msg("allocator %d, %llu bytes: %llu for blocks, %llu of control data", (int)kinds[i],
                         (unsigned long long)size, (unsigned long long)layout.data_size,
                         (unsigned long long)(layout.root_off + layout.root_size));
        }
    }
}

static void
options_and_errors(const struct scene *scene)
{
    hshm_backend *backend = NULL;
    hshm_allocator *heap = NULL;
    hshm_gpu_info info;
    hshm_allocator_options options = HSHM_ALLOCATOR_OPTIONS_INIT;
    hshm_backend_options wish = HSHM_BACKEND_OPTIONS_INIT;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, 5 << 20, test_name("options"), NULL, &backend));
    assert_ok(hshm_backend_gpu(backend, &info));
    assert_int_equal(info.vendor, scene->vendor == CUDA ? HSHM_GPU_CUDA : HSHM_GPU_HIP);
    assert_int_equal(info.ordinal, 0);
    options.min_block = 128;
    assert_int_not_equal(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, scene->kind, 0, &options, &heap),
                         HSHM_OK);
    options.min_block = 256;
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, scene->kind, 0, &options, &heap));
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.data_bytes, 6 << 20); /* whole blocks of the driver's */
    assert_status(hshm_trim(heap, 0, NULL), HSHM_E_NOTSUP);
    assert_ok(hshm_backend_destroy(NULL, 1));

    /* More than there is. */
    assert_status(
        hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, (size_t)64 << 30, test_name("much"), NULL, NULL),
        HSHM_E_NOSPC);
    assert_sentence(scene->vendor == CUDA ? "CUDA_ERROR_OUT_OF_MEMORY" : "hipErrorOutOfMemory");
    /* Which device. */
    char uuid[48];
    (void)snprintf(uuid, sizeof uuid, "%s", info.uuid);
    static const char *const bad[] = { "gpu", "cuda:x", "GPU-12", "cuda:", "hip:-1" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wish.gpu_device = bad[i];
        assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("bad"), &wish, NULL),
                      HSHM_E_INVAL);
    }
    char ordinal[16];
    (void)snprintf(ordinal, sizeof ordinal, "%s:1", vendor_name(scene->vendor));
    wish.gpu_device = ordinal;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("second"), &wish, &backend));
    assert_ok(hshm_backend_gpu(backend, &info));
    assert_int_equal(info.ordinal, 1);
    assert_string_not_equal(info.uuid, uuid);
    assert_ok(hshm_backend_destroy(NULL, 1));
    wish.gpu_device = uuid;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("uuid"), &wish, &backend));
    assert_ok(hshm_backend_gpu(backend, &info));
    assert_int_equal(info.ordinal, 0);
    assert_ok(hshm_backend_destroy(NULL, 1));
    (void)snprintf(ordinal, sizeof ordinal, "%s:7", vendor_name(scene->vendor));
    wish.gpu_device = ordinal;
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("none"), &wish, NULL),
                  HSHM_E_NOTFOUND);
    wish.gpu_device = scene->vendor == CUDA ? "hip" : "cuda";
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("other"), &wish, NULL),
                  HSHM_E_DEVICE);
    assert_sentence("there is no driver");

    hshm_gpu_info all[4];
    size_t count = 0;
    assert_ok(hshm_gpu_list(all, 4, &count));
    assert_int_equal(count, 2);
    assert_string_equal(all[0].uuid, uuid);
    assert_true(strstr(all[0].name, "stand-in") != NULL);
    assert_int_equal(all[0].memory, (uint64_t)1 << 30);
}

static void
test_options_and_errors(void **state)
{
    (void)state;
    on_all(options_and_errors);
}

/* ---- registered shared memory ---- */

static void
registered_memory(const struct scene *scene)
{
    hshm_allocator *heap = NULL;
    hshm_allocator *same = NULL;
    hshm_backend *backend = NULL;
    hshm_manager *second = NULL;
    hshm_gpu_info info;
    const char *name = test_name("registered");
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_SHM_MMAP, SIZE, name, NULL, &backend));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, scene->kind, 64, NULL, &heap));
    assert_ok(hshm_backend_gpu(backend, &info));
    char *block = hshm_malloc(heap, 1000);
    strcpy(block, "the same bytes");
    assert_ptr_equal(hshm_host_ptr(heap, block), block);
    char *device = hshm_device_ptr(heap, block);
    assert_non_null(device);
    assert_ptr_not_equal(device, block); /* the stand-in's are others */
    assert_int_equal((char *)hshm_device_ptr(heap, block + 10) - device, 10);
    assert_non_null(hshm_device_ptr(heap, hshm_allocator_custom_header(heap, NULL)));
    assert_null(hshm_device_ptr(heap, &info));
    assert_status(hshm_last_status(), HSHM_E_INVAL);
    assert_int_equal(counts_of(scene->vendor).registrations, 1);

    assert_ok(hshm_manager_create(&second));
    assert_ok(hshm_backend_attach(second, HSHM_BACKEND_GPU_SHM_MMAP, name, NULL, NULL));
    assert_ok(hshm_allocator_get(second, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &same));
    assert_string_equal(hshm_to_addr(same, hshm_to_off(heap, block)), "the same bytes");
    assert_int_equal(counts_of(scene->vendor).registrations, 2); /* each its own mapping */
    char bytes[15];
    assert_ok(hshm_copy_from(same, bytes, hshm_to_addr(same, hshm_to_off(heap, block)), sizeof bytes));
    assert_string_equal(bytes, "the same bytes");
    hshm_manager_destroy(second);
    assert_int_equal(counts_of(scene->vendor).registrations, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));

    hshm_backend_options lazy = HSHM_BACKEND_OPTIONS_INIT;
    lazy.commit = HSHM_COMMIT_LAZY;
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_SHM_MMAP, SIZE, name, &lazy, NULL), HSHM_E_NOTSUP);
}

static void
test_registered_memory(void **state)
{
    (void)state;
    on_all(registered_memory);
}

/* Others' kinds of heaps know the calls, too. */
static void
test_host_heaps_have_copies_and_no_device(void **state)
{
    (void)state;
    char bytes[6];
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, SIZE, HSHM_ALLOCATOR_THREAD_LOCAL);
    void *block = hshm_malloc(heap, 100);
    hshm_gpu_info info;
    assert_ok(hshm_fill(heap, block, 'x', 5));
    assert_ok(hshm_copy_to(heap, (char *)block + 5, "", 1));
    assert_ok(hshm_copy_from(heap, bytes, block, 6));
    assert_string_equal(bytes, "xxxxx");
    assert_ptr_equal(hshm_host_ptr(heap, block), block);
    assert_null(hshm_device_ptr(heap, block));
    assert_status(hshm_last_status(), HSHM_E_NOTSUP);
    assert_status(hshm_backend_gpu(hshm_backend_get(NULL, 1), &info), HSHM_E_NOTSUP);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_in_device_memory),
        cmocka_unit_test(test_zeros_and_fills),
        cmocka_unit_test(test_host_access_is_refused),
        cmocka_unit_test(test_names_and_slots),
        cmocka_unit_test(test_alignments),
        cmocka_unit_test(test_control_data_is_little),
        cmocka_unit_test(test_control_data_is_little_on_large_machines),
        cmocka_unit_test(test_options_and_errors),
        cmocka_unit_test(test_registered_memory),
        cmocka_unit_test(test_host_heaps_have_copies_and_no_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
