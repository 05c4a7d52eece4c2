/*
 * test_corrupt.c - a region whose bytes are wrong is told apart, with the documented status and a sentence, before anything
 * is done with it; and nothing is left behind.
 *
 * Each test runs on the three kinds that one can attach to: an array, POSIX shared memory, a mapped file.  A good image is
 * taken once, one thing in it is made wrong, and the result is attached to as a whole region, writable and read-only.
 * Where the checksums would find the change by themselves they are made right again, as one would who forges bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blocks.h"
#include "format/region_format.h"
#include "format/stack_format.h"

enum {
    IMAGE_SIZE = 65536, /* as large as the largest page, so that files are not rounded */
    /* Where the parts of such a heap lie, with 3 slots and a custom header of 100 bytes. */
    ROOT_OFF = 1536,
    DATA_SIZE = 62400
};

static const hshm_allocator_id heap_id = { 1, 0 };

/* One kind of memory and a good region in it.  What was made of it for a try lies in `bytes` or under `url`. */
struct carrier {
    hshm_backend_kind kind;
    const char *title;
    char url[300];
    alignas(64) unsigned char good[IMAGE_SIZE];
    unsigned char *bytes; /* ARRAY */
    size_t size;
};

static struct carrier carriers[] = {
    { .kind = HSHM_BACKEND_ARRAY, .title = "array" },
    { .kind = HSHM_BACKEND_POSIX_SHM_MMAP, .title = "shm" },
    { .kind = HSHM_BACKEND_POSIX_MMAP, .title = "file" },
};

static alignas(64) unsigned char work[IMAGE_SIZE];

static struct region_header *
work_header(void)
{
    return (struct region_header *)(void *)work;
}

/* ---- good images ---- */

static void
make_good(struct carrier *carrier)
{
    hshm_backend *backend = NULL;
    hshm_allocator *heap = NULL;
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.array = work;
    options.slots = 3;
    const char *url = carrier->kind == HSHM_BACKEND_POSIX_MMAP ? test_path(carrier->title) : test_name(carrier->title);
    (void)snprintf(carrier->url, sizeof carrier->url, "%s", url);
    assert_ok(hshm_backend_create(NULL, 1, carrier->kind, IMAGE_SIZE, carrier->url, &options, &backend));
    assert_ok(hshm_allocator_create(NULL, 1, heap_id, HSHM_ALLOCATOR_STACK, 100, NULL, &heap));
    assert_non_null(hshm_malloc(heap, 100));
    assert_non_null(hshm_malloc(heap, 16));
    assert_ok(hshm_backend_info(backend, &info));
    assert_int_equal(info.size, IMAGE_SIZE);
    memcpy(carrier->good, info.base, IMAGE_SIZE);
    const struct region_header *header = (const struct region_header *)(void *)carrier->good;
    assert_int_equal(header->root_off, ROOT_OFF);
    assert_int_equal(header->data_size, DATA_SIZE);
    assert_ok(hshm_backend_destroy(NULL, 1));
    /* As if its creator had left. */
    memset(carrier->good + sizeof(struct region_header), 0, sizeof(struct region_slot));
}

static int
make_all_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(carriers); i++)
        make_good(&carriers[i]);
    return 0;
}

/* ---- putting bytes where they are attached to ---- */

static int
open_url(const struct carrier *carrier, int flags)
{
    return carrier->kind == HSHM_BACKEND_POSIX_MMAP ? open(carrier->url, flags, 0600)
                                                    : shm_open(carrier->url, flags, 0600);
}

static void
place(struct carrier *carrier, size_t size)
{
    carrier->size = size;
    if (carrier->kind == HSHM_BACKEND_ARRAY) {
        void *bytes = NULL;
        /* Not a byte more, so that the address sanitizer sees where it ends. */
        assert_int_equal(posix_memalign(&bytes, 64, size == 0 ? 1 : size), 0);
        carrier->bytes = bytes;
        memcpy(bytes, work, size);
        return;
    }
    const int fd = open_url(carrier, O_RDWR | O_CREAT | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, work, size), (ssize_t)size);
    (void)close(fd);
}

static void
read_back(const struct carrier *carrier, unsigned char *ret_bytes)
{
    if (carrier->kind == HSHM_BACKEND_ARRAY) {
        memcpy(ret_bytes, carrier->bytes, carrier->size);
        return;
    }
    const int fd = open_url(carrier, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, ret_bytes, carrier->size), (ssize_t)carrier->size);
    (void)close(fd);
}

static void
take_away(struct carrier *carrier)
{
    if (carrier->kind == HSHM_BACKEND_ARRAY)
        free(carrier->bytes);
    else if (carrier->kind == HSHM_BACKEND_POSIX_MMAP)
        assert_int_equal(unlink(carrier->url), 0);
    else
        assert_int_equal(shm_unlink(carrier->url), 0);
    carrier->bytes = NULL;
}

static hshm_status
attach(const struct carrier *carrier, bool read_only)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = read_only;
    options.array = carrier->bytes;
    options.array_size = carrier->size;
    return hshm_backend_attach(NULL, carrier->kind, carrier->url, &options, NULL);
}

static void
make_checksums_right(void)
{
    work_header()->checksum = region_checksum_of_base(work_header());
    work_header()->heap_checksum = region_checksum_of_heap(work_header());
}

/* An attach that failed may have come and gone in a slot; whatever else there is stays as it was. */
static void
assert_untouched(const struct carrier *carrier)
{
    static unsigned char now[IMAGE_SIZE];
    const size_t slots_end = 320 + 3 * sizeof(struct region_slot);
    read_back(carrier, now);
    assert_memory_equal(now, work, carrier->size < 256 ? carrier->size : 256);
    if (carrier->size > slots_end)
        assert_memory_equal(now + slots_end, work + slots_end, carrier->size - slots_end);
}

/* Attach to what stands in `work`, in both ways; each fails with that status, and leaves nothing behind. */
static void
assert_refused(struct carrier *carrier, size_t size, hshm_status wanted, const char *sentence)
{
    place(carrier, size);
    const struct footprint before = footprint_take();
    for (int read_only = 0; read_only < 2; read_only++) {
        const hshm_status status = attach(carrier, read_only != 0);
        if (status != wanted || strstr(hshm_last_error(), sentence) == NULL)
            fail_msg("%s, '%s' (%s) expected: %s, '%s'", carrier->title, sentence, hshm_status_name(wanted),
                     hshm_status_name(status), hshm_last_error());
        assert_null(hshm_backend_get(NULL, 1));
        assert_footprint(before);
        assert_untouched(carrier);
    }
    take_away(carrier);
}

/* ---- one thing wrong ---- */

/* A change of one field: to a number, by a number, or to another field's value. */
struct edit {
    size_t off, size; /* 0 bytes: no change */
    size_t from;      /* the field that is added to; NOWHERE = a number by itself */
    uint64_t number;
};

#define NOWHERE SIZE_MAX
#define PLACE(field) offsetof(struct region_header, field), sizeof(((struct region_header *)NULL)->field)
#define SET(field, value)              \
    {                                  \
        PLACE(field), NOWHERE, (value) \
    }
#define ADD(field, value)                                                      \
    {                                                                          \
        PLACE(field), offsetof(struct region_header, field), (uint64_t)(value) \
    }
#define COPY(field, other)                                     \
    {                                                          \
        PLACE(field), offsetof(struct region_header, other), 0 \
    }
#define SET_TOP(value)                                                   \
    {                                                                    \
        ROOT_OFF + offsetof(struct stack_root, top), 8, NOWHERE, (value) \
    }

static void
edit_work(const struct edit *edit)
{
    if (edit->size == sizeof(uint32_t)) {
        uint32_t value = 0;
        if (edit->from != NOWHERE)
            memcpy(&value, work + edit->from, sizeof value);
        value += (uint32_t)edit->number;
        memcpy(work + edit->off, &value, sizeof value);
    } else if (edit->size == sizeof(uint64_t)) {
        uint64_t value = 0;
        if (edit->from != NOWHERE)
            memcpy(&value, work + edit->from, sizeof value);
        value += edit->number;
        memcpy(work + edit->off, &value, sizeof value);
    }
}

struct wrong {
    struct edit edits[2];
    bool checksums_right; /* made right again afterwards */
    hshm_status status;
    const char *sentence;
};

/* clang-format off */
static const struct wrong wrongs[] = {
    /* Whose is it? */
    { { ADD(magic, 1) }, true, HSHM_E_CORRUPT, "is not a region of hshm: it begins with 0x" },
    { { SET(magic, __builtin_bswap64(REGION_MAGIC)) }, true, HSHM_E_ABI, "other byte order" },
    { { SET(format_version, 2) }, true, HSHM_E_VERSION, "has format version 2, this library reads version 1" },
    { { SET(format_version, 2) }, false, HSHM_E_VERSION, "has format version 2" },
    { { SET(format_version, 0) }, true, HSHM_E_VERSION, "has format version 0" },
    { { ADD(abi_tag, 1 << 16) }, true, HSHM_E_ABI, "ABI tag 0x10410808, this one has 0x10400808" },
    { { SET(incompat, 4) }, true, HSHM_E_VERSION, "uses features 0x4" },
    { { ADD(checksum, 1) }, false, HSHM_E_CORRUPT, "its header's checksum is wrong" },
    { { ADD(heap_checksum, 1) }, false, HSHM_E_CORRUPT, "checksum over its heap's description is wrong" },

    /* The region */
    { { ADD(region_size, 1) }, true, HSHM_E_CORRUPT, "its size is 65537, which does not fit with 65536" },
    { { SET(region_size, UINT64_MAX) }, true, HSHM_E_CORRUPT, "its size" },
    { { SET(region_size, 511) }, true, HSHM_E_CORRUPT, "the end of its slots is 512, which does not fit with 511" },
    { { ADD(region_size, -64) }, true, HSHM_E_CORRUPT, "the place of its data" },
    { { SET(slots_off, 384) }, true, HSHM_E_CORRUPT, "the place of its slots is 384" },
    { { SET(slot_size, 128) }, true, HSHM_E_CORRUPT, "the size of a slot is 128" },
    { { SET(slot_count, 0), SET(heap_off, 320) }, true, HSHM_E_CORRUPT, "the end of its slots" },
    { { SET(slot_count, 2000), SET(heap_off, 128320) }, true, HSHM_E_CORRUPT,
      "the end of its slots is 128320, which does not fit with 65536" },
    { { SET(slot_count, UINT32_MAX), SET(heap_off, 320 + 64 * UINT64_C(0xffffffff)) }, true, HSHM_E_CORRUPT,
      "the end of its slots" },
    { { ADD(heap_off, 64) }, true, HSHM_E_CORRUPT, "the end of its slots" },
    { { ADD(slice_shift, 1) }, true, HSHM_E_CORRUPT, "its slice shift" },
    { { SET(commit, 3) }, true, HSHM_E_CORRUPT, "its way of commitment is 3" },
    { { SET(backend_kind, HSHM_BACKEND_MALLOC) }, true, HSHM_E_INVAL, "created as another kind of backend (2)" },
    { { SET(backend_kind, 1000) }, true, HSHM_E_INVAL, "created as another kind of backend (1000)" },
    { { SET(state, REGION_EMPTY) }, true, HSHM_E_NOTREADY, "has no heap" },
    { { SET(state, 77) }, true, HSHM_E_NOTREADY, "has no heap" },

    /* The heap's kind */
    { { SET(allocator_kind, 0) }, true, HSHM_E_NOTSUP, "holds a heap of kind 0, which this build lacks" },
    { { SET(allocator_kind, 99) }, true, HSHM_E_NOTSUP, "holds a heap of kind 99, which this build lacks" },
    { { SET(allocator_kind, HSHM_ALLOCATOR_SCALABLE_PAGE) }, true, HSHM_E_CORRUPT, "its root describes" },
    { { SET(allocator_kind, HSHM_ALLOCATOR_THREAD_LOCAL) }, true, HSHM_E_CORRUPT, "its root describes" },
    { { SET(allocator_kind, HSHM_ALLOCATOR_MALLOC) }, true, HSHM_E_CORRUPT, "claims to hold a Malloc heap" },
    { { SET(min_block, 24) }, true, HSHM_E_CORRUPT, "its smallest block is 24" },
    { { SET(min_block, 8) }, true, HSHM_E_CORRUPT, "its smallest block is 8" },
    { { SET(min_block, 8192) }, true, HSHM_E_CORRUPT, "its smallest block is 8192" },
    { { SET(min_block, 32) }, true, HSHM_E_CORRUPT, "no Stack heap's" },

    /* The heap's parts: table, root, custom header, data, in this order and apart from each other */
    { { SET(table_off, 320) }, true, HSHM_E_CORRUPT, "the place of its table is 320" },
    { { COPY(table_off, root_off) }, true, HSHM_E_CORRUPT, "the place of its root" },
    { { ADD(table_size, 64) }, true, HSHM_E_CORRUPT, "the place of its root" },
    { { ADD(table_size, -64) }, true, HSHM_E_CORRUPT, "no Stack heap's" },
    { { SET(table_off, UINT64_MAX - 63) }, true, HSHM_E_CORRUPT, "the place of its table" },
    { { ADD(table_off, 8) }, true, HSHM_E_CORRUPT, "the place of its table" },
    { { SET(table_off, 0), SET(table_size, 0) }, true, HSHM_E_CORRUPT, "no Stack heap's" },
    { { COPY(root_off, table_off) }, true, HSHM_E_CORRUPT, "the place of its root" },
    { { SET(root_size, 64) }, true, HSHM_E_CORRUPT, "no Stack heap's" },
    { { SET(root_off, 0), SET(root_size, 0) }, true, HSHM_E_CORRUPT, "no Stack heap's" },
    { { SET(root_size, UINT64_MAX) }, true, HSHM_E_CORRUPT, "the place of its root" },
    { { COPY(custom_off, root_off) }, true, HSHM_E_CORRUPT, "the place of its custom header" },
    { { COPY(custom_off, data_off) }, true, HSHM_E_CORRUPT, "the place of its data" },
    { { SET(custom_size, UINT64_MAX - 63) }, true, HSHM_E_CORRUPT, "the place of its custom header" },
    { { SET(custom_off, 0) }, true, HSHM_E_CORRUPT, "the place of its custom header is 0" },
    { { COPY(data_off, custom_off), SET(data_size, 64) }, true, HSHM_E_CORRUPT, "the place of its data" },
    { { ADD(data_off, 16), ADD(data_size, -16) }, true, HSHM_E_CORRUPT, "the place of its data" },
    { { ADD(data_size, 16) }, true, HSHM_E_CORRUPT, "the place of its data" },
    { { ADD(data_size, -8) }, true, HSHM_E_CORRUPT, "no Stack heap's" },
    { { SET(data_size, 0) }, true, HSHM_E_CORRUPT, "no Stack heap's" },
    { { SET(data_off, 0), SET(data_size, 0) }, true, HSHM_E_CORRUPT, "no Stack heap's" },

    /* The stack's top */
    { { SET_TOP(DATA_SIZE / 8 + 2) }, false, HSHM_E_CORRUPT, "the top of its stack" },
    { { SET_TOP(1) }, false, HSHM_E_CORRUPT, "the top of its stack (1)" },
    { { SET_TOP(UINT64_MAX) }, false, HSHM_E_CORRUPT, "the top of its stack" },
};
/* clang-format on */

static void
each_wrong_thing_is_told_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(carriers); i++) {
        for (size_t at = 0; at < COUNTOF(wrongs); at++) {
            memcpy(work, carriers[i].good, IMAGE_SIZE);
            edit_work(&wrongs[at].edits[0]);
            edit_work(&wrongs[at].edits[1]);
            if (wrongs[at].checksums_right)
                make_checksums_right();
            assert_refused(&carriers[i], IMAGE_SIZE, wrongs[at].status, wrongs[at].sentence);
        }
    }
}

static void
bytes_of_one_value_are_no_region(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(carriers); i++) {
        memset(work, 0, IMAGE_SIZE);
        assert_refused(&carriers[i], IMAGE_SIZE, HSHM_E_CORRUPT, "it begins with 0x0000000000000000");
        memset(work, 0xff, IMAGE_SIZE);
        assert_refused(&carriers[i], IMAGE_SIZE, HSHM_E_CORRUPT, "it begins with 0xffffffffffffffff");
    }
}

/* ---- sizes ---- */

static void
a_short_file_is_no_region(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 7, 8, 100, 319 };
    for (size_t i = 1; i < COUNTOF(carriers); i++) {
        memcpy(work, carriers[i].good, IMAGE_SIZE);
        for (size_t at = 0; at < COUNTOF(sizes); at++) {
            char sentence[64];
            (void)snprintf(sentence, sizeof sentence, "it has %zu bytes", sizes[at]);
            assert_refused(&carriers[i], sizes[at], HSHM_E_CORRUPT, sentence);
        }
    }
}

static void
a_file_that_was_cut_off_is_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = { 320, 4096, IMAGE_SIZE - 1 };
    for (size_t i = 0; i < COUNTOF(carriers); i++) {
        memcpy(work, carriers[i].good, IMAGE_SIZE);
        for (size_t at = 0; at < COUNTOF(sizes); at++)
            assert_refused(&carriers[i], sizes[at], HSHM_E_CORRUPT, "its size is 65536");
    }
}

static void
an_array_too_short_for_a_header_is_a_wrong_argument(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 319 };
    memcpy(work, carriers[0].good, IMAGE_SIZE);
    for (size_t at = 0; at < COUNTOF(sizes); at++)
        assert_refused(&carriers[0], sizes[at], HSHM_E_INVAL, "at least 320 bytes are needed");
}

/* A file may be longer than its region: whoever copied it may have rounded it up. */
static void
a_longer_file_is_fine(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(carriers); i++) {
        memcpy(work, carriers[i].good, IMAGE_SIZE);
        work_header()->region_size -= 4096;
        work_header()->data_size -= 4096;
        work_header()->slice_shift = region_slice_shift(work_header()->region_size);
        make_checksums_right();
        place(&carriers[i], IMAGE_SIZE);
        assert_ok(attach(&carriers[i], false));
        assert_ok(hshm_backend_detach(NULL, 1));
        take_away(&carriers[i]);
    }
}

/* Addresses that are set aside without a file behind them. */
static size_t
reserved_addresses(void)
{
    size_t sum = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long begin = 0;
        unsigned long end = 0;
        if (sscanf(line, "%lx-%lx ---p", &begin, &end) == 2 && strstr(line, "---p") != NULL &&
            strchr(line, '/') == NULL)
            sum += end - begin;
    }
    (void)fclose(maps);
    return sum;
}

/* As a region from a system with smaller pages may be. */
static void
a_size_that_is_no_whole_page_leaves_no_addresses_taken(void **state)
{
    (void)state;
    for (size_t i = 1; i < COUNTOF(carriers); i++) {
        memcpy(work, carriers[i].good, IMAGE_SIZE);
        work_header()->region_size = 64 * 100;
        work_header()->data_size = 64 * 100 - work_header()->data_off;
        work_header()->slice_shift = region_slice_shift(work_header()->region_size);
        make_checksums_right();
        place(&carriers[i], IMAGE_SIZE);
        assert_ok(attach(&carriers[i], false));
        assert_ok(hshm_backend_detach(NULL, 1));
        const size_t before = reserved_addresses();
        for (int round = 0; round < 50; round++) {
            assert_ok(attach(&carriers[i], false));
            assert_ok(hshm_backend_detach(NULL, 1));
        }
        assert_in_range(reserved_addresses(), 0, before); /* a sanitizer may give some of its own back */
        take_away(&carriers[i]);
    }
}

/* ---- every byte, every word ---- */

/* What attaching answers when a bit of this byte of the header is another one; see docs/format.md for who reads it. */
static hshm_status
answer_to_flip(const struct carrier *carrier, size_t byte)
{
    if (byte < 8)
        return HSHM_E_CORRUPT; /* magic */
    if (byte < 12)
        return HSHM_E_VERSION;
    if (byte < 256)
        return HSHM_E_CORRUPT; /* checksums find it before anything reads it */
    if (byte < 260)
        return HSHM_E_NOTREADY; /* state */
    if (byte >= 272 && byte < 288 && carrier->kind == HSHM_BACKEND_POSIX_MMAP)
        return HSHM_E_DAMAGED; /* of another boot, and not cleanly left */
    /* Ignored: clean (in the same boot), generation, boot_id (but of files on a disk), size_now, reserved2. */
    return HSHM_OK;
}

static void
every_flipped_bit_of_the_header_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(carriers); i++) {
        const struct footprint before = footprint_take();
        for (size_t bit = 0; bit < sizeof(struct region_header) * 8; bit++) {
            memcpy(work, carriers[i].good, IMAGE_SIZE);
            work[bit / 8] ^= (unsigned char)(1 << bit % 8);
            place(&carriers[i], IMAGE_SIZE);
            const hshm_status wanted = answer_to_flip(&carriers[i], bit / 8);
            /* Leaving a file writes it to the disk; a reader has nothing to write. */
            const hshm_status status = attach(&carriers[i], bit % 8 != 0);
            if (status != wanted)
                fail_msg("%s, bit %zu of byte %zu: %s, not %s", carriers[i].title, bit % 8, bit / 8,
                         hshm_status_name(status), hshm_status_name(wanted));
            if (status == HSHM_OK)
                assert_ok(hshm_backend_detach(NULL, 1));
            take_away(&carriers[i]);
        }
        assert_footprint(before);
    }
}

/* A heap that was let in is one that can be worked with. */
static void
assert_usable(void)
{
    const struct region_header *header = work_header();
    const hshm_allocator_id id = { header->allocator_major, header->allocator_minor };
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(NULL, id, HSHM_ALLOCATOR_STACK, &heap));
    unsigned char *block = hshm_malloc(heap, 32);
    assert_non_null(block);
    memset(block, 0x77, 32);
    assert_ok(hshm_free(heap, block));
    assert_sound(heap);
    assert_ok(hshm_backend_detach(NULL, header->backend_id));
}

static void
forge_word(struct carrier *carrier, size_t word, uint64_t value, size_t *inout_accepted)
{
    memcpy(work, carrier->good, IMAGE_SIZE);
    memcpy(work + word * 8, &value, sizeof value);
    if (word != 15)
        work_header()->checksum = region_checksum_of_base(work_header());
    if (word != 31)
        work_header()->heap_checksum = region_checksum_of_heap(work_header());
    place(carrier, IMAGE_SIZE);
    switch (attach(carrier, false)) {
    case HSHM_OK:
        *inout_accepted += 1;
        assert_usable();
        break;
    case HSHM_E_CORRUPT:
    case HSHM_E_VERSION:
    case HSHM_E_ABI:
    case HSHM_E_INVAL:
    case HSHM_E_NOTSUP:
    case HSHM_E_NOTREADY:
    case HSHM_E_DAMAGED:
        break;
    default:
        fail_msg("%s, word %zu = %llu: %s", carrier->title, word, (unsigned long long)value, hshm_last_error());
    }
    take_away(carrier);
}

static void
every_forged_word_of_the_header_is_survived(void **state)
{
    (void)state;
    static const uint64_t values[] = { 0, 1, UINT64_MAX };
    for (size_t i = 0; i < COUNTOF(carriers); i++) {
        const struct footprint before = footprint_take();
        size_t accepted = 0;
        for (size_t word = 0; word < sizeof(struct region_header) / 8; word++) {
            for (size_t at = 0; at < COUNTOF(values); at++)
                forge_word(&carriers[i], word, values[at], &accepted);
        }
        assert_footprint(before);
        /* uuid, creator, ids, what is reserved, ...: there are words that any value is fine for. */
        assert_true(accepted > 30);
    }
}

static void
unknown_compatible_features_are_ignored(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(carriers); i++) {
        memcpy(work, carriers[i].good, IMAGE_SIZE);
        work_header()->compat = UINT64_MAX;
        make_checksums_right();
        place(&carriers[i], IMAGE_SIZE);
        assert_ok(attach(&carriers[i], false));
        assert_usable();
        take_away(&carriers[i]);
    }
}

/* ---- what may be removed ---- */

static void
only_regions_can_be_removed(void **state)
{
    (void)state;
    for (size_t i = 1; i < COUNTOF(carriers); i++) {
        struct carrier *carrier = &carriers[i];
        memcpy(work, carrier->good, IMAGE_SIZE);
        work_header()->magic ^= 1;
        place(carrier, IMAGE_SIZE);
        assert_status(hshm_backend_remove(carrier->kind, carrier->url), HSHM_E_CORRUPT);
        assert_sentence("is not a region of hshm and was left alone");
        assert_untouched(carrier);

        /* Damaged, or of a version to come, but ours. */
        memcpy(work, carrier->good, IMAGE_SIZE);
        work_header()->format_version = 9;
        place(carrier, 100);
        assert_ok(hshm_backend_remove(carrier->kind, carrier->url));
        assert_status(hshm_backend_remove(carrier->kind, carrier->url), HSHM_E_NOTFOUND);
    }
}

static void
a_creator_does_not_rely_on_what_others_may_write(void **state)
{
    (void)state;
    const uint64_t forged[] = { 0, 1, UINT64_MAX - 191, UINT64_MAX, UINT64_C(1) << 40, IMAGE_SIZE };
    for (size_t i = 0; i < COUNTOF(forged); i++) {
        hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
        hshm_allocator *heap = NULL;
        options.array = work;
        assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, IMAGE_SIZE, NULL, &options, NULL));
        work_header()->heap_off = forged[i];
        work_header()->slots_off = forged[i];
        work_header()->slot_count = (uint32_t)forged[i];
        assert_ok(hshm_allocator_create(NULL, 1, heap_id, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
        assert_non_null(hshm_malloc(heap, IMAGE_SIZE / 2));
        assert_sound(heap);
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_creator_does_not_rely_on_what_others_may_write),
        cmocka_unit_test_teardown(each_wrong_thing_is_told_apart, drop_heaps),
        cmocka_unit_test_teardown(bytes_of_one_value_are_no_region, drop_heaps),
        cmocka_unit_test_teardown(a_short_file_is_no_region, drop_heaps),
        cmocka_unit_test_teardown(a_file_that_was_cut_off_is_refused, drop_heaps),
        cmocka_unit_test_teardown(an_array_too_short_for_a_header_is_a_wrong_argument, drop_heaps),
        cmocka_unit_test_teardown(a_longer_file_is_fine, drop_heaps),
        cmocka_unit_test_teardown(a_size_that_is_no_whole_page_leaves_no_addresses_taken, drop_heaps),
        cmocka_unit_test_teardown(every_flipped_bit_of_the_header_is_found, drop_heaps),
        cmocka_unit_test_teardown(every_forged_word_of_the_header_is_survived, drop_heaps),
        cmocka_unit_test_teardown(unknown_compatible_features_are_ignored, drop_heaps),
        cmocka_unit_test_teardown(only_regions_can_be_removed, drop_heaps),
    };
    return cmocka_run_group_tests(tests, make_all_good, NULL);
}
