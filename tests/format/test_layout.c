/*
 * test_layout.c - format v1, number by number.
 *
 * The numbers are written out here a second time, by hand: whoever moves a field has to move it twice, and knows then
 * that regions made before cannot be read any more.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/malloc_format.h"
#include "format/region_format.h"
#include "format/stack_format.h"
#include "blocks.h"
#include "fields.h"
#include "sync/liveness.h"

/* ---- structs ---- */

static void
the_header_lies_as_written(void **state)
{
    (void)state;
    static const struct field fields[] = {
        FIELD(region_header, magic, 0, 8),
        FIELD(region_header, format_version, 8, 4),
        FIELD(region_header, abi_tag, 12, 4),
        FIELD(region_header, compat, 16, 8),
        FIELD(region_header, incompat, 24, 8),
        FIELD(region_header, uuid, 32, 16),
        FIELD(region_header, region_size, 48, 8),
        FIELD(region_header, heap_off, 56, 8),
        FIELD(region_header, slots_off, 64, 8),
        FIELD(region_header, slot_count, 72, 4),
        FIELD(region_header, slot_size, 76, 4),
        FIELD(region_header, backend_kind, 80, 4),
        FIELD(region_header, backend_id, 84, 4),
        FIELD(region_header, slice_shift, 88, 4),
        FIELD(region_header, commit, 92, 4),
        FIELD(region_header, creator_pid, 96, 4),
        FIELD(region_header, creator_uid, 100, 4),
        FIELD(region_header, created_ns, 104, 8),
        FIELD(region_header, host_size, 112, 8),
        FIELD(region_header, checksum, 120, 8),
        FIELD(region_header, allocator_kind, 128, 4),
        FIELD(region_header, min_block, 132, 4),
        FIELD(region_header, allocator_major, 136, 4),
        FIELD(region_header, allocator_minor, 140, 4),
        FIELD(region_header, table_off, 144, 8),
        FIELD(region_header, table_size, 152, 8),
        FIELD(region_header, root_off, 160, 8),
        FIELD(region_header, root_size, 168, 8),
        FIELD(region_header, custom_off, 176, 8),
        FIELD(region_header, custom_size, 184, 8),
        FIELD(region_header, data_off, 192, 8),
        FIELD(region_header, data_size, 200, 8),
        FIELD(region_header, reserved1, 208, 40),
        FIELD(region_header, heap_checksum, 248, 8),
        FIELD(region_header, state, 256, 4),
        FIELD(region_header, clean, 260, 4),
        FIELD(region_header, generation, 264, 8),
        FIELD(region_header, boot_id, 272, 16),
        FIELD(region_header, size_now, 288, 8),
        FIELD(region_header, reserved2, 296, 24),
    };
    assert_layout("region_header", sizeof(struct region_header), fields, COUNTOF(fields), 320);
}

static void
a_slot_lies_as_written(void **state)
{
    (void)state;
    static const struct field fields[] = {
        FIELD(region_slot, state, 0, 4),
        FIELD(region_slot, pid, 4, 4),
        FIELD(region_slot, uid, 8, 4),
        FIELD(region_slot, reserved, 12, 4),
        FIELD(region_slot, pid_namespace, 16, 8),
        FIELD(region_slot, start_time, 24, 8),
        FIELD(region_slot, attached_ns, 32, 8),
        FIELD(region_slot, log, 40, 8),
        FIELD(region_slot, command, 48, 16),
    };
    assert_layout("region_slot", sizeof(struct region_slot), fields, COUNTOF(fields), 64);
}

static void
a_device_s_memory_is_described_as_written(void **state)
{
    (void)state;
    static const struct field fields[] = {
        FIELD(region_device, vendor, 0, 4),      FIELD(region_device, alignment, 4, 4),
        FIELD(region_device, size, 8, 8),        FIELD(region_device, uuid, 16, 16),
        FIELD(region_device, handle, 32, 64),    FIELD(region_device, owner_pid, 96, 4),
        FIELD(region_device, reserved0, 100, 4), FIELD(region_device, owner_namespace, 104, 8),
        FIELD(region_device, boot_id, 112, 16),  FIELD(region_device, reserved1, 128, 120),
        FIELD(region_device, checksum, 248, 8),
    };
    assert_layout("region_device", sizeof(struct region_device), fields, COUNTOF(fields), 256);
}

static void
the_roots_lie_as_written(void **state)
{
    (void)state;
    static const struct field stack[] = {
        FIELD(stack_root, top, 0, 8),    FIELD(stack_root, reserved0, 8, 56), FIELD(stack_root, peak, 64, 8),
        FIELD(stack_root, frees, 72, 8), FIELD(stack_root, failures, 80, 8),  FIELD(stack_root, reserved1, 88, 40),
    };
    assert_layout("stack_root", sizeof(struct stack_root), stack, COUNTOF(stack), 128);
    static const struct field malloc[] = {
        FIELD(malloc_root, live_bytes, 0, 8),  FIELD(malloc_root, live_blocks, 8, 8),
        FIELD(malloc_root, peak_bytes, 16, 8), FIELD(malloc_root, allocs, 24, 8),
        FIELD(malloc_root, frees, 32, 8),      FIELD(malloc_root, failures, 40, 8),
        FIELD(malloc_root, reserved, 48, 16),
    };
    assert_layout("malloc_root", sizeof(struct malloc_root), malloc, COUNTOF(malloc), 64);
}

/* ---- numbers ---- */

static void
constants_are_as_written(void **state)
{
    (void)state;
    const uint64_t magic = REGION_MAGIC;
    assert_memory_equal(&magic, "hshmreg1", 8);
    assert_int_equal(hshm_format_version(), 1);
    assert_int_equal(REGION_FORMAT_VERSION, 1);
    /* pointers of 8 bytes, atomic words of 8, cache lines of 64, granules of 16 */
    assert_int_equal(region_abi_tag(), 0x10400808);
    assert_int_equal(REGION_INCOMPAT_KNOWN, 1);
    assert_int_equal(REGION_INCOMPAT_DEVICE, 1);
    assert_int_equal(VENDOR_CUDA, 1);
    assert_int_equal(VENDOR_HIP, 2);
    assert_int_equal(LOCK_OWNER_OFF, 16);
    assert_int_equal(REGION_EMPTY, 0);
    assert_int_equal(REGION_READY, 1);
    assert_int_equal(SLOT_FREE, 0);
    assert_int_equal(SLOT_TAKEN, 1);
    assert_int_equal(STACK_NONE, 0);
    assert_int_equal(STACK_FREE, 1);
    assert_int_equal(STACK_FIRST, 2);
    assert_int_equal(STACK_LAST, 3);
}

static void
kinds_keep_their_numbers(void **state)
{
    (void)state;
    assert_int_equal(HSHM_BACKEND_POSIX_SHM_MMAP, 1);
    assert_int_equal(HSHM_BACKEND_MALLOC, 2);
    assert_int_equal(HSHM_BACKEND_ARRAY, 3);
    assert_int_equal(HSHM_BACKEND_POSIX_MMAP, 4);
    assert_int_equal(HSHM_BACKEND_GPU_MALLOC, 5);
    assert_int_equal(HSHM_BACKEND_GPU_SHM_MMAP, 6);
    assert_int_equal(HSHM_ALLOCATOR_STACK, 1);
    assert_int_equal(HSHM_ALLOCATOR_SCALABLE_PAGE, 2);
    assert_int_equal(HSHM_ALLOCATOR_THREAD_LOCAL, 3);
    assert_int_equal(HSHM_ALLOCATOR_MALLOC, 4);
    assert_int_equal(HSHM_COMMIT_RESERVE, 0);
    assert_int_equal(HSHM_COMMIT_LAZY, 1);
    assert_int_equal(HSHM_COMMIT_PREFAULT, 2);
}

/* Worked out by another program, from the definition of FNV-1a with words of 64 bits. */
static void
the_checksum_is_the_one_written(void **state)
{
    (void)state;
    static const uint64_t words[] = { 0, 1, UINT64_C(0x0123456789abcdef) };
    assert_true(region_checksum(words, 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(region_checksum(words, sizeof words) == UINT64_C(0xa9d11e8814d662ef));

    struct region_header header;
    memset(&header, 0x5a, sizeof header);
    assert_true(region_checksum_of_base(&header) == region_checksum(&header, 120));
    assert_true(region_checksum_of_heap(&header) == region_checksum((const char *)&header + 128, 120));
}

/* ---- tables by size ---- */

static void
slots_follow_the_size(void **state)
{
    (void)state;
    static const struct {
        uint64_t size;
        uint32_t slots;
    } rows[] = {
        { 704, 2 },       { 16383, 2 },      { 16384, 16 },      { 1048575, 16 },
        { 1048576, 128 }, { 16777215, 128 }, { 16777216, 1024 }, { UINT64_C(1) << 40, 1024 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        assert_int_equal(region_default_slots(rows[i].size), rows[i].slots);
    assert_int_equal(region_heap_off(1), 384);
    assert_int_equal(region_heap_off(2), 448);
    assert_int_equal(region_heap_off(1024), 65856);
    assert_true(region_heap_off(UINT32_MAX) == UINT64_C(274877907200));
}

static void
slices_follow_the_size(void **state)
{
    (void)state;
    static const struct {
        uint64_t size;
        uint32_t shift;
    } rows[] = {
        { 704, 8 },
        { 65536, 8 },
        { 131071, 8 },
        { 131072, 9 },
        { 262144, 10 },
        { 1048575, 11 },
        { 1048576, 12 },
        { 8388608, 15 },
        { 16777215, 15 },
        { 16777216, 16 },
        { UINT64_C(1) << 40, 16 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        assert_int_equal(region_slice_shift(rows[i].size), rows[i].shift);
}

static void
the_stack_table_has_two_bits_a_granule(void **state)
{
    (void)state;
    static const struct {
        uint64_t granules, size;
    } rows[] = {
        { 1, 64 }, { 4, 64 }, { 255, 64 }, { 256, 64 }, { 257, 128 }, { 512, 128 }, { 513, 192 }, { 65536, 16384 },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++)
        assert_int_equal(stack_table_size(rows[i].granules), rows[i].size);
}

/* ---- lock bytes ---- */

/* Is there a lock of another description on exactly these bytes, and on none beside them? */
static void
assert_only_locked(int fd, uint64_t off, uint64_t size)
{
    assert_int_equal(life_is_held(fd, off, size), 1);
    assert_int_equal(life_is_held(fd, off, 1), 1);
    assert_int_equal(life_is_held(fd, off + size - 1, 1), 1);
    if (off > 0)
        assert_int_equal(life_is_held(fd, 0, off), 0);
    assert_int_equal(life_is_held(fd, off + size, LOCK_TO_END), 0);
}

static void
locks_lie_on_the_bytes_of_the_slots(void **state)
{
    (void)state;
    assert_true(LOCK_GATE_OFF == 0);
    assert_true(LOCK_READERS_OFF == 8);
    assert_true(LOCK_BYTES == 1);

    hshm_manager *reader = NULL;
    const char *name = test_name("locks");
    make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, 8192, HSHM_ALLOCATOR_STACK);
    const int fd = shm_open(name, O_RDWR, 0);
    assert_true(fd >= 0);
    assert_only_locked(fd, 320, 64); /* slot 0 */

    assert_ok(hshm_manager_create(&reader));
    attach_heap(reader, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
    assert_int_equal(life_is_held(fd, 384, 64), 1); /* slot 1 */
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_only_locked(fd, 384, 64);
    hshm_manager_destroy(reader);
    assert_int_equal(life_is_held(fd, 0, LOCK_TO_END), 0);
    (void)close(fd);
}

static void
a_reader_locks_the_byte_of_readers(void **state)
{
    (void)state;
    hshm_manager *reader = NULL;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    const char *name = test_name("readers");
    make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, 8192, HSHM_ALLOCATOR_STACK);
    const int fd = shm_open(name, O_RDWR, 0);
    assert_true(fd >= 0);
    assert_ok(hshm_manager_create(&reader));
    assert_ok(hshm_backend_attach(reader, HSHM_BACKEND_POSIX_SHM_MMAP, name, &options, NULL));
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_only_locked(fd, 8, 1);
    hshm_manager_destroy(reader);
    (void)close(fd);
}

/* ---- sizes ---- */

static alignas(64) unsigned char array[4096];

static hshm_status
create_on_array(size_t size)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.array = array;
    return hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, size, "array", &options, NULL);
}

/* 320 of header, 2 slots of 64, 64 of table, 128 of root, 64 of data. */
static void
the_smallest_region_is_704_bytes(void **state)
{
    (void)state;
    hshm_allocator *heap = NULL;
    assert_int_equal(HSHM_REGION_SIZE_MIN, 704);
    assert_status(create_on_array(703), HSHM_E_INVAL);
    assert_sentence("703 bytes is too small");
    assert_sentence("704 bytes at least");

    assert_ok(create_on_array(704));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    unsigned char *block = hshm_malloc(heap, 64);
    assert_ptr_equal(block, array + 640);
    memset(block, 0xff, 64);
    assert_null(hshm_malloc(heap, 1));
    assert_status(hshm_last_status(), HSHM_E_NOMEM);
    assert_ok(hshm_free(heap, block));
    assert_non_null(hshm_malloc(heap, 64));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
a_custom_header_needs_room_of_its_own(void **state)
{
    (void)state;
    const hshm_allocator_id id = { 1, 0 };
    assert_ok(create_on_array(704));
    assert_status(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, 1, NULL, NULL), HSHM_E_INVAL);
    assert_sentence("custom header");
    assert_ok(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
four_kib_give_more_than_three_to_blocks(void **state)
{
    (void)state;
    hshm_stats stats = HSHM_STATS_INIT;
    hshm_allocator *heap = NULL;
    assert_ok(create_on_array(sizeof array));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.data_bytes, 3456);

    size_t bytes = 0;
    for (unsigned char *block = hshm_malloc(heap, 16); block != NULL; block = hshm_malloc(heap, 16)) {
        assert_ptr_equal(block, array + sizeof array - 3456 + bytes);
        memset(block, 0xee, 16);
        bytes += 16;
    }
    assert_int_equal(bytes, 3456);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_header_lies_as_written, drop_heaps),
        cmocka_unit_test_teardown(a_slot_lies_as_written, drop_heaps),
        cmocka_unit_test_teardown(a_device_s_memory_is_described_as_written, drop_heaps),
        cmocka_unit_test_teardown(the_roots_lie_as_written, drop_heaps),
        cmocka_unit_test_teardown(constants_are_as_written, drop_heaps),
        cmocka_unit_test_teardown(kinds_keep_their_numbers, drop_heaps),
        cmocka_unit_test_teardown(the_checksum_is_the_one_written, drop_heaps),
        cmocka_unit_test_teardown(slots_follow_the_size, drop_heaps),
        cmocka_unit_test_teardown(slices_follow_the_size, drop_heaps),
        cmocka_unit_test_teardown(the_stack_table_has_two_bits_a_granule, drop_heaps),
        cmocka_unit_test_teardown(locks_lie_on_the_bytes_of_the_slots, drop_heaps),
        cmocka_unit_test_teardown(a_reader_locks_the_byte_of_readers, drop_heaps),
        cmocka_unit_test_teardown(the_smallest_region_is_704_bytes, drop_heaps),
        cmocka_unit_test_teardown(a_custom_header_needs_room_of_its_own, drop_heaps),
        cmocka_unit_test_teardown(four_kib_give_more_than_three_to_blocks, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
