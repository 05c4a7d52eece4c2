/*
 * test_standin_model.c - three processes at work on one heap in device memory, each operation compared with a model.
 *
 * On stand-in drivers.  The model is a table in memory that the three share: which blocks are live, and what is in them.  Whoever picks
 * an entry has it to himself for one operation, whichever process took its block.
 */
#include "gpu.h"

#include <stdlib.h>
#include <string.h>

#include "blocks.h"

enum { SIZE = 32 << 20, PROCESSES = 3, OPERATIONS = 100002, ENTRIES = 300, SIZE_MOST = 40000 };

enum { EMPTY, BUSY, FULL };

struct entry {
    _Atomic uint32_t state;
    hshm_off off;
    size_t size;
    uint64_t key;
};

struct model {
    enum vendor vendor;
    hshm_allocator_kind kind;
    const char *name;
    uint64_t seed;
    _Atomic uint32_t numbers;
    struct step made, done;
    struct entry entries[ENTRIES];
    _Atomic uint64_t operations, checked;
};

static size_t
any_size(uint64_t *random)
{
    const uint64_t most = next_random(random) % 8 == 0 ? SIZE_MOST : 1000;
    return (size_t)(1 + next_random(random) % most);
}

static void
look(struct model *model, hshm_allocator *heap, const struct entry *entry)
{
    void *block = hshm_to_addr(heap, entry->off);
    if (hshm_usable_size(heap, block) < entry->size || !heap_holds(heap, block, entry->size, entry->key))
        fail_msg("a block of %zu bytes is not as it was written", entry->size);
    model->checked++;
}

static void
write_down(hshm_allocator *heap, struct entry *entry, void *block, size_t size, uint64_t key)
{
    entry->off = hshm_to_off(heap, block);
    entry->size = size;
    entry->key = key;
    heap_fill(heap, block, size, key);
}

/* On an entry that nobody else has: EMPTY or FULL afterwards. */
static uint32_t
take_block(hshm_allocator *heap, struct entry *entry, uint64_t *random)
{
    const size_t size = any_size(random);
    const uint64_t choice = next_random(random) % 4;
    void *block = choice == 0   ? hshm_calloc(heap, 1, size)
                  : choice == 1 ? hshm_aligned_alloc(heap, (size_t)256 << next_random(random) % 6, size)
                                : hshm_malloc(heap, size);
    if (block == NULL) {
        assert_status(hshm_last_status(), HSHM_E_NOMEM);
        return EMPTY;
    }
    if (choice == 0 && !heap_is_all(heap, block, size, 0))
        fail_msg("zeros of %zu bytes are none", size);
    write_down(heap, entry, block, size, next_random(random));
    return FULL;
}

static uint32_t
resize_block(hshm_allocator *heap, struct entry *entry, uint64_t *random)
{
    const size_t size = any_size(random);
    void *block = hshm_realloc(heap, hshm_to_addr(heap, entry->off), size);
    if (block == NULL) {
        assert_status(hshm_last_status(), HSHM_E_NOMEM);
        return FULL;
    }
    const size_t kept = size < entry->size ? size : entry->size;
    if (!heap_holds(heap, block, kept, entry->key))
        fail_msg("a block lost its first %zu bytes when its size changed", kept);
    write_down(heap, entry, block, size, next_random(random));
    return FULL;
}

static uint32_t
operate(struct model *model, hshm_allocator *heap, struct entry *entry, bool is_full, uint64_t *random)
{
    if (!is_full)
        return take_block(heap, entry, random);
    look(model, heap, entry);
    switch (next_random(random) % 4) {
    case 0:
        return resize_block(heap, entry, random);
    case 1:
        return FULL;
    default:
        assert_ok(hshm_free(heap, hshm_to_addr(heap, entry->off)));
        return EMPTY;
    }
}

static void
work(struct model *model, hshm_allocator *heap, uint64_t random)
{
    for (int i = 0; i < OPERATIONS / PROCESSES;) {
        struct entry *entry = &model->entries[next_random(&random) % ENTRIES];
        uint32_t found = atomic_load(&entry->state);
        if (found == BUSY || !atomic_compare_exchange_strong(&entry->state, &found, BUSY))
            continue;
        atomic_store(&entry->state, operate(model, heap, entry, found == FULL, &random));
        model->operations++;
        i++;
    }
}

static int
count(const hshm_block *block, void *arg)
{
    (void)block;
    ++*(uint64_t *)arg;
    return 0;
}

/* All is as the model says, and goes. */
static void
compare(struct model *model, hshm_allocator *heap)
{
    uint64_t live = 0;
    uint64_t expected = 0;
    hshm_stats stats = HSHM_STATS_INIT;
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    assert_ok(hshm_visit_blocks(heap, count, &live));
    for (size_t i = 0; i < ENTRIES; i++) {
        assert_int_not_equal(model->entries[i].state, BUSY);
        expected += model->entries[i].state == FULL;
        if (model->entries[i].state == FULL)
            look(model, heap, &model->entries[i]);
    }
    assert_int_equal(live, expected);
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.live_blocks, expected);
    assert_ok(hshm_recover(heap, NULL));
    assert_ok(hshm_check(heap, 0, &report));
    assert_int_equal(report.live_blocks, expected);
    for (size_t i = 0; i < ENTRIES; i++) {
        if (model->entries[i].state == FULL)
            assert_ok(hshm_free(heap, hshm_to_addr(heap, model->entries[i].off)));
    }
    assert_ok(hshm_check(heap, 0, NULL));
}

static int
take_part(void *arg)
{
    struct model *model = arg;
    const uint32_t number = model->numbers++;
    const bool owns = number == 0;
    hshm_allocator *heap = NULL;
    if (owns) {
        heap = make_heap(NULL, HSHM_BACKEND_GPU_MALLOC, model->name, SIZE, model->kind);
        step_reach(&model->made);
    } else {
        step_wait(&model->made, 1);
        heap = attach_heap(NULL, HSHM_BACKEND_GPU_MALLOC, model->name, 0);
    }
    work(model, heap, model->seed + number);
    step_reach(&model->done);
    if (owns) {
        step_wait(&model->done, PROCESSES);
        compare(model, heap);
        assert_int_equal(model->operations, OPERATIONS);
    }
    assert_ok(hshm_backend_destroy(NULL, 1));
    if (!owns)
        assert_nothing_held(model->vendor);
    return 0;
}

static void
run_model(enum vendor vendor, hshm_allocator_kind kind)
{
    struct model *model = shared_bytes(sizeof *model);
    pid_t children[PROCESSES];
    *model = (struct model){ .vendor = vendor, .kind = kind, .name = test_name("model"), .seed = test_seed() };
    use_standin(vendor);
    for (size_t i = 0; i < PROCESSES; i++)
        children[i] = child_start(take_part, model);
    for (size_t i = 0; i < PROCESSES; i++)
        assert_int_equal(child_wait(children[i]), 0);
    print_message("%s, allocator %d: %llu operations of %d processes, %llu blocks read back whole\n",
                  vendor_name(vendor), (int)kind, (unsigned long long)model->operations, PROCESSES,
                  (unsigned long long)model->checked);
}

static void
three_processes_and_a_model_agree(void **state)
{
    (void)state;
    for (int kind = HSHM_ALLOCATOR_STACK; kind <= HSHM_ALLOCATOR_THREAD_LOCAL; kind++)
        run_model(CUDA, (hshm_allocator_kind)kind);
    run_model(HIP, HSHM_ALLOCATOR_THREAD_LOCAL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_processes_and_a_model_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
