/*
 * test_slab_corrupt.c - heaps of slabs whose root or tables are wrong: refused with a status, or survived.
 *
 * What the root says is compared with what its table has room for.  Words of the tables change all the time and can only be
 * looked at when they are used: any bytes in them may give wrong answers, but never a crash, an endless loop, or a write
 * outside the region.  The region lies in an array between guards; the address sanitizer sees its ends, too.
 */
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "allocator/allocator.h"
#include "blocks.h"

enum { IMAGE_SIZE = 32768, GUARD = 4096, GUARD_BYTE = 0x7b };

static const hshm_allocator_id heap_id = { 1, 0 };

/* A good region of each kind, with all sorts of things in it, that its process has left; and what is made of it. */
struct subject {
    hshm_allocator_kind kind;
    size_t min_block;
    alignas(64) unsigned char good[IMAGE_SIZE];
};
static struct subject subjects[] = {
    { .kind = HSHM_ALLOCATOR_SCALABLE_PAGE, .min_block = 16 },
    { .kind = HSHM_ALLOCATOR_THREAD_LOCAL, .min_block = 16 },
    { .kind = HSHM_ALLOCATOR_THREAD_LOCAL, .min_block = 256 },
};

static alignas(4096) unsigned char arena[GUARD + IMAGE_SIZE + GUARD];
static unsigned char *const work = arena + GUARD;

static struct region_header *
work_header(void)
{
    return (struct region_header *)(void *)work;
}

static struct slab_root *
work_root(void)
{
    return (struct slab_root *)(void *)(work + work_header()->root_off);
}

static void
make_good(struct subject *subject)
{
    hshm_allocator *heap = NULL;
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator_options options = HSHM_ALLOCATOR_OPTIONS_INIT;
    backend.array = work;
    backend.slots = 3;
    options.min_block = subject->min_block;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, IMAGE_SIZE, NULL, &backend, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, heap_id, subject->kind, 100, &options, &heap));
    void *gone[5];
    for (size_t i = 0; i < 5; i++) {
        assert_non_null(hshm_malloc(heap, 20 * i));
        gone[i] = hshm_malloc(heap, 20 * i);
    }
    assert_non_null(hshm_malloc(heap, heap->slab.count * 400));
    for (size_t i = 0; i < 5; i++)
        assert_ok(hshm_free(heap, gone[i]));
    assert_ok(hshm_backend_detach(NULL, 1));
    memcpy(subject->good, work, IMAGE_SIZE);
}

static int
make_all_good(void **state)
{
    (void)state;
    memset(arena, GUARD_BYTE, sizeof arena);
    for (size_t i = 0; i < COUNTOF(subjects); i++)
        make_good(&subjects[i]);
    return 0;
}

static void
assert_guards(void)
{
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(arena[i], GUARD_BYTE);
        assert_int_equal(arena[GUARD + IMAGE_SIZE + i], GUARD_BYTE);
    }
}

static hshm_status
attach(bool read_only)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = read_only;
    options.array = work;
    options.array_size = IMAGE_SIZE;
    return hshm_backend_attach(NULL, HSHM_BACKEND_ARRAY, NULL, &options, NULL);
}

static void
assert_refused(const char *sentence)
{
    work_header()->heap_checksum = region_checksum_of_heap(work_header());
    for (int read_only = 0; read_only < 2; read_only++) {
        assert_status(attach(read_only != 0), HSHM_E_CORRUPT);
        assert_sentence(sentence);
        assert_null(hshm_backend_get(NULL, 1));
        assert_guards();
    }
}

/* ---- the root ---- */

#define REFUSE_ROOT(subject, field, value)         \
    do {                                           \
        memcpy(work, (subject)->good, IMAGE_SIZE); \
        work_root()->field = (value);              \
        assert_refused("its root describes");      \
    } while (0)

static void
a_root_that_does_not_fit_its_table_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(subjects); i++) {
        const struct subject *subject = &subjects[i];
        memcpy(work, subject->good, IMAGE_SIZE);
        const struct slab_root right = { .slices = work_root()->slices,
                                         .slice_shift = work_root()->slice_shift,
                                         .block_shift = work_root()->block_shift,
                                         .thread_slots = work_root()->thread_slots,
                                         .shards = work_root()->shards };
        const uint64_t slices[] = { 0,
                                    right.slices - 1,
                                    right.slices + 1,
                                    right.slices * 2,
                                    UINT64_C(1) << 32,
                                    UINT64_MAX,
                                    right.slices + (UINT64_C(1) << 54) };
        const uint32_t shifts[] = {
            0, 1, 4, 9, right.slice_shift - 1, right.slice_shift + 1, 17, 32, 63, 64, UINT32_MAX
        };
        const uint32_t numbers[] = { 3, 5, 64, 65537, UINT32_C(1) << 31, UINT32_MAX };
        for (size_t at = 0; at < COUNTOF(slices); at++)
            REFUSE_ROOT(subject, slices, slices[at]);
        for (size_t at = 0; at < COUNTOF(shifts); at++) {
            REFUSE_ROOT(subject, slice_shift, shifts[at]);
            if (shifts[at] != right.block_shift)
                REFUSE_ROOT(subject, block_shift, shifts[at]);
        }
        for (size_t at = 0; at < COUNTOF(numbers); at++) {
            REFUSE_ROOT(subject, thread_slots, numbers[at]);
            REFUSE_ROOT(subject, shards, numbers[at]);
        }
        REFUSE_ROOT(subject, thread_slots, right.thread_slots == 0);
        REFUSE_ROOT(subject, shards, right.shards == 0);
    }
}

#define REFUSE_HEADER(subject, field, value, sentence) \
    do {                                               \
        memcpy(work, (subject)->good, IMAGE_SIZE);     \
        work_header()->field = (value);                \
        assert_refused(sentence);                      \
    } while (0)

static void
a_description_that_does_not_fit_its_root_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(subjects); i++) {
        const struct subject *subject = &subjects[i];
        const struct region_header *good = (const struct region_header *)(const void *)subject->good;
        REFUSE_HEADER(subject, min_block, good->min_block == 16 ? 32 : 16, "its root describes");
        REFUSE_HEADER(subject, min_block, good->min_block * 2, "its root describes");
        REFUSE_HEADER(subject, table_size, good->table_size - 64, "its root describes");
        REFUSE_HEADER(subject, data_size, good->data_size - 64, "its root describes");
        REFUSE_HEADER(subject, data_size, 0, "no heap's of slabs");
        REFUSE_HEADER(subject, root_size, good->root_size - 64, "no heap's of slabs");
        REFUSE_HEADER(subject, allocator_kind,
                      subject->kind == HSHM_ALLOCATOR_THREAD_LOCAL ? HSHM_ALLOCATOR_SCALABLE_PAGE
                                                                   : HSHM_ALLOCATOR_THREAD_LOCAL,
                      "its root describes");
        REFUSE_HEADER(subject, allocator_kind, HSHM_ALLOCATOR_STACK, "is damaged");
    }
}

/* ---- the tables ---- */

static bool
is_inside(const void *addr, uint64_t size)
{
    const uint64_t off = (uint64_t)((uintptr_t)addr - (uintptr_t)work);
    return off <= IMAGE_SIZE && size <= IMAGE_SIZE - off;
}

struct look {
    hshm_allocator *heap;
    size_t count;
    void *blocks[64];
};

static int
look_at_block(const hshm_block *block, void *arg)
{
    struct look *look = arg;
    assert_true(block->size > 0 && is_inside(block->addr, block->size));
    if (look->count < COUNTOF(look->blocks))
        look->blocks[look->count++] = block->addr;
    return 0;
}

/* Whatever there is to do.  What it answers does not matter; where it leads to does. */
static void
work_on(hshm_allocator *heap)
{
    static const size_t sizes[] = { 0, 16, 100, 300, 1000, 5000, 9000, 20000 };
    struct look look = { .heap = heap };
    hshm_stats stats = HSHM_STATS_INIT;
    (void)allocator_check(heap);
    assert_ok(hshm_stats_get(heap, &stats));
    assert_ok(hshm_visit_blocks(heap, look_at_block, &look));
    for (size_t i = 0; i < look.count; i += 2) {
        const size_t usable = hshm_usable_size(heap, look.blocks[i]);
        assert_true(usable == 0 || is_inside(look.blocks[i], usable));
        (void)hshm_free(heap, look.blocks[i]);
        (void)hshm_free(heap, look.blocks[i]);
    }
    for (size_t i = 0; i < 3 * COUNTOF(sizes); i++) {
        const size_t size = sizes[i % COUNTOF(sizes)];
        void *block = i % 3 == 0   ? hshm_malloc(heap, size)
                      : i % 3 == 1 ? hshm_calloc(heap, 1, size)
                                   : hshm_aligned_alloc(heap, 64, size);
        if (block == NULL)
            continue;
        assert_true(is_inside(block, size));
        memset(block, 0x11, size);
        void *moved = hshm_realloc(heap, block, sizes[(i * 5 + 1) % COUNTOF(sizes)]);
        assert_true(moved == NULL || is_inside(moved, sizes[(i * 5 + 1) % COUNTOF(sizes)]));
        (void)hshm_free(heap, moved == NULL ? block : moved);
    }
    (void)hshm_trim(heap, 0, NULL);
    for (size_t off = 0; off < IMAGE_SIZE; off += 208)
        (void)hshm_free(heap, work + off);
    (void)allocator_check(heap);
}

static void
survive_word(const struct subject *subject, size_t off, uint64_t value)
{
    hshm_allocator *heap = NULL;
    memcpy(work, subject->good, IMAGE_SIZE);
    memcpy(work + off, &value, sizeof value);
    const hshm_status status = attach(false);
    if (status == HSHM_OK) {
        assert_ok(hshm_allocator_get(NULL, heap_id, subject->kind, &heap));
        work_on(heap);
        assert_ok(hshm_backend_detach(NULL, 1));
    } else {
        assert_int_equal(status, HSHM_E_CORRUPT);
    }
    assert_guards();
}

static void
any_word_in_root_and_tables_is_survived(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    for (size_t i = 0; i < COUNTOF(subjects); i++) {
        const struct region_header *good = (const struct region_header *)(const void *)subjects[i].good;
        for (size_t off = good->table_off; off < good->root_off + good->root_size; off += 8) {
            const uint64_t values[] = { 0, 1, UINT64_MAX, next_random(&random), next_random(&random) & 0x1f0000ff };
            for (size_t at = 0; at < COUNTOF(values); at++)
                survive_word(&subjects[i], off, values[at]);
        }
    }
}

static void
tables_full_of_anything_are_survived(void **state)
{
    (void)state;
    uint64_t random = test_seed();
    for (size_t round = 0; round < 300; round++) {
        const struct subject *subject = &subjects[round % COUNTOF(subjects)];
        const struct region_header *good = (const struct region_header *)(const void *)subject->good;
        hshm_allocator *heap = NULL;
        memcpy(work, subject->good, IMAGE_SIZE);
        const uint64_t one_of = 1 + next_random(&random) % 20;
        for (size_t off = good->table_off; off < good->root_off + good->root_size; off += 8) {
            /* The root's first line is compared; all else may be anything. */
            const bool is_compared = off >= good->root_off && off < good->root_off + 24;
            const uint64_t value = next_random(&random) >> next_random(&random) % 64;
            if (!is_compared && next_random(&random) % one_of == 0)
                memcpy(work + off, &value, sizeof value);
        }
        assert_ok(attach(false));
        assert_ok(hshm_allocator_get(NULL, heap_id, subject->kind, &heap));
        work_on(heap);
        assert_ok(hshm_backend_detach(NULL, 1));
        assert_guards();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_root_that_does_not_fit_its_table_is_refused, drop_heaps),
        cmocka_unit_test_teardown(a_description_that_does_not_fit_its_root_is_refused, drop_heaps),
        cmocka_unit_test_teardown(any_word_in_root_and_tables_is_survived, drop_heaps),
        cmocka_unit_test_teardown(tables_full_of_anything_are_survived, drop_heaps),
    };
    return cmocka_run_group_tests(tests, make_all_good, NULL);
}
