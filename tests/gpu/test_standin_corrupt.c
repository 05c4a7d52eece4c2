/*
 * test_standin_corrupt.c - what a region says of a device's memory is input: whatever it says, attaching ends with a status.
 *
 * On a stand-in driver.  Checksums are made right again, as one who forges bytes would.
 */
#include "gpu.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/region_format.h"

enum { SIZE = 4 << 20 };

struct forged {
    unsigned char *bytes;
    size_t size;
    struct region_header *header;
    struct region_device *device;
};

static void
forge_host_size(struct forged *f, uint64_t value)
{
    f->header->host_size = value;
}

static void
forge_region_size(struct forged *f, uint64_t value)
{
    f->header->region_size = value;
}

static void
forge_incompat(struct forged *f, uint64_t value)
{
    f->header->incompat = value;
}

static void
forge_kind(struct forged *f, uint64_t value)
{
    f->header->backend_kind = (uint32_t)value;
}

static void
forge_data_off(struct forged *f, uint64_t value)
{
    f->header->data_off = value;
}

static void
forge_table_off(struct forged *f, uint64_t value)
{
    f->header->table_off = value;
}

static void
forge_custom_off(struct forged *f, uint64_t value)
{
    f->header->custom_off = value;
}

static void
forge_min_block(struct forged *f, uint64_t value)
{
    f->header->min_block = (uint32_t)value;
}

static void
forge_device_size(struct forged *f, uint64_t value)
{
    f->device->size = value;
}

static void
forge_vendor(struct forged *f, uint64_t value)
{
    f->device->vendor = (uint32_t)value;
}

static void
forge_alignment(struct forged *f, uint64_t value)
{
    f->device->alignment = (uint32_t)value;
}

static void
forge_handle(struct forged *f, uint64_t value)
{
    memset(f->device->handle, (int)value, sizeof f->device->handle);
}

static const struct {
    const char *name;
    void (*forge)(struct forged *f, uint64_t value);
} forgeries[] = {
    { "host_size", forge_host_size },       { "region_size", forge_region_size },
    { "incompat", forge_incompat },         { "kind", forge_kind },
    { "data_off", forge_data_off },         { "table_off", forge_table_off },
    { "custom_off", forge_custom_off },     { "min_block", forge_min_block },
    { "device's size", forge_device_size }, { "vendor", forge_vendor },
    { "alignment", forge_alignment },       { "handle", forge_handle },
};
static const uint64_t values[] = {
    0,
    1,
    3,
    16,
    64,
    255,
    1000,
    4096,
    65536,
    (uint64_t)SIZE,
    UINT64_C(1) << 31,
    UINT64_C(1) << 40,
    UINT64_MAX / 2,
    UINT64_MAX - 63,
    UINT64_MAX,
};

struct
try {
    const char *name;
    hshm_status status;
};

/* In another process than the owner, so that the handle is looked at, too. */
static int
attach_and_look(void *arg)
{
    struct try *try = arg;
    hshm_allocator *heap = NULL;
    try->status = hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, try->name, NULL, NULL);
    if (try->status != HSHM_OK)
        return 0;
    /* What it says is possible: then it can be worked with. */
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    (void)hshm_check(heap, 0, NULL);
    void *block = hshm_malloc(heap, 100);
    if (block != NULL)
        (void)hshm_free(heap, block);
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static struct forged
open_forged(const char *name)
{
    char path[256];
    struct stat st;
    struct forged f = { 0 };
    (void)snprintf(path, sizeof path, "/dev/shm/%s", name);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    f.size = (size_t)st.st_size;
    f.bytes = mmap(NULL, f.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(f.bytes, MAP_FAILED);
    assert_int_equal(close(fd), 0);
    f.header = (struct region_header *)(void *)f.bytes;
    f.device = (struct region_device *)(void *)(f.bytes + f.header->heap_off);
    return f;
}

static void
make_checksums_right(struct forged *f)
{
    f->header->checksum = region_checksum_of_base(f->header);
    f->header->heap_checksum = region_checksum_of_heap(f->header);
    f->device->checksum = region_checksum_of_device(f->device);
}

struct owner {
    const char *name;
    hshm_allocator_kind kind;
    struct step ready, over;
};

static int
own(void *arg)
{
    struct owner *owner = arg;
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, owner->name, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, owner->kind, 100, NULL, &heap));
    assert_non_null(hshm_malloc(heap, 1000));
    step_reach(&owner->ready);
    step_wait(&owner->over, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static void
forge_everything(hshm_allocator_kind kind)
{
    struct owner *owner = shared_bytes(sizeof *owner);
    struct try *try = shared_bytes(sizeof *try);
    unsigned refused = 0;
    *owner = (struct owner){ .name = test_name("forged"), .kind = kind };
    try->name = owner->name;
    const pid_t child = child_start(own, owner);
    step_wait(&owner->ready, 1);
    struct forged f = open_forged(owner->name);
    const struct region_header header = *f.header;
    const struct region_device device = *f.device;
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            forgeries[i].forge(&f, values[v]);
            make_checksums_right(&f);
            if (child_run(attach_and_look, try) != 0)
                fail_msg("allocator %d, %s = %llu", (int)kind, forgeries[i].name, (unsigned long long)values[v]);
            refused += try->status != HSHM_OK;
            *f.header = header;
            *f.device = device;
        }
    }
    /* A byte that went astray. */
    f.device->handle[5] ^= 1;
    assert_int_equal(child_run(attach_and_look, try), 0);
    assert_int_equal(try->status, HSHM_E_CORRUPT);
    *f.device = device;
    assert_int_equal(child_run(attach_and_look, try), 0);
    assert_int_equal(try->status, HSHM_OK);
    print_message("allocator %d: %u of %zu forgeries refused\n", (int)kind, refused,
                  sizeof forgeries / sizeof forgeries[0] * (sizeof values / sizeof values[0]));
    assert_int_equal(munmap(f.bytes, f.size), 0);
    step_reach(&owner->over);
    assert_int_equal(child_wait(child), 0);
}

static void
forged_descriptions_are_refused_or_harmless(void **state)
{
    (void)state;
    use_standin(CUDA);
    for (int kind = HSHM_ALLOCATOR_STACK; kind <= HSHM_ALLOCATOR_THREAD_LOCAL; kind++)
        forge_everything((hshm_allocator_kind)kind);
}

/* ---- more memory than there is ---- */

/* All of its own is in order: only the driver knows how much the handle leads to. */
static void
forge_more(struct forged *f)
{
    f->header->region_size += 16 * SIZE;
    f->device->size += 16 * SIZE;
    make_checksums_right(f);
}

static int
attach_to_more(void *arg)
{
    const char *name = arg;
    hshm_manager *second = NULL;
    assert_ok(hshm_manager_create(&second));
    struct forged f = open_forged(name);
    const struct region_header header = *f.header;
    const struct region_device device = *f.device;
    forge_more(&f);
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, name, NULL, NULL), HSHM_E_CORRUPT);
    assert_sentence("what its handle leads to");
    *f.header = header;
    *f.device = device;
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, name, NULL, NULL));
    /* Forged after this process mapped it. */
    forge_more(&f);
    assert_status(hshm_backend_attach(second, HSHM_BACKEND_GPU_MALLOC, name, NULL, NULL), HSHM_E_CORRUPT);
    assert_sentence("than this process has of it already");
    *f.device = device;
    *f.header = header;
    f.device->uuid[3] ^= 1;
    make_checksums_right(&f);
    assert_status(hshm_backend_attach(second, HSHM_BACKEND_GPU_MALLOC, name, NULL, NULL), HSHM_E_CORRUPT);
    *f.device = device;
    *f.header = header;
    assert_ok(hshm_backend_attach(second, HSHM_BACKEND_GPU_MALLOC, name, NULL, NULL));
    assert_int_equal(munmap(f.bytes, f.size), 0);
    hshm_manager_destroy(second);
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
memory_that_is_not_there_is_given_to_nobody(void **state)
{
    (void)state;
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        struct owner *owner = shared_bytes(sizeof *owner);
        *owner = (struct owner){ .name = test_name("more"), .kind = HSHM_ALLOCATOR_THREAD_LOCAL };
        use_standin(vendor);
        const pid_t child = child_start(own, owner);
        step_wait(&owner->ready, 1);
        assert_int_equal(child_run(attach_to_more, (void *)(uintptr_t)owner->name), 0);
        step_reach(&owner->over);
        assert_int_equal(child_wait(child), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forged_descriptions_are_refused_or_harmless),
        cmocka_unit_test(memory_that_is_not_there_is_given_to_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
