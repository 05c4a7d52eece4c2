/*
 * test_killed.c - a process is killed in the middle of a call, and the others go on: their blocks are whole, their calls
 * succeed, no more is lost than the block that the call was about, and a reset brings all of it back.
 *
 * labels: no-asan no-tsan
 * (a process with a sanitizer in it cannot be stepped through: most steps would be the sanitizer's own)
 *
 * "Anywhere" is meant so: what a kill leaves is the region's bytes, for everything else dies with the process.  So each
 * call is stepped through, instruction by instruction, and killed after each one that changed a byte of the region;
 * kills in between leave the same bytes.
 */
#include "blocks.h"
#include "stepping.h"

#include <signal.h>
#include <string.h>

#include "scenes.h"

/* ---- what must be true after a kill ---- */

static uint64_t
code_of(const hshm_allocator *heap, uint64_t granule)
{
    const uint64_t word = load_relaxed(&heap->codes[granule / STACK_CODES_PER_WORD]);
    return word >> (granule % STACK_CODES_PER_WORD * STACK_CODE_BITS) & 3;
}

/* Bytes below the top that are not free: when all blocks are freed, they are lost until a rewind. */
static uint64_t
bytes_not_free(hshm_allocator *heap)
{
    uint64_t bytes = 0;
    const uint64_t top = stats_of(heap).used_bytes / GRANULE;
    for (uint64_t granule = 0; granule < top; granule++)
        bytes += code_of(heap, granule) == STACK_FREE ? 0 : GRANULE;
    return bytes;
}

static void
check_figures(const struct scene *scene)
{
    const hshm_stats stats = stats_of(scene->heap);
    const uint64_t survivors = 1U + scene->plan->covered;
    assert_true(stats.live_bytes <= stats.used_bytes);
    assert_true(stats.used_bytes <= stats.data_bytes);
    /* Besides the survivor's: the victim's, and one that the call was about. */
    assert_in_range(stats.live_blocks, survivors, survivors + (scene->plan->size != 0) + 1);
}

/* Free what can be freed; what is not free then is lost. */
static uint64_t
free_all(const struct scene *scene)
{
    assert_ok(hshm_free(scene->heap, scene->high));
    if (scene->block != NULL) {
        /* Anybody may free what a dead process left, if it is a block still. */
        const hshm_status status = hshm_free(scene->heap, scene->block);
        assert_true(status == HSHM_OK || status == HSHM_E_BADFREE);
    }
    assert_ok(hshm_free(scene->heap, scene->low));
    return bytes_not_free(scene->heap);
}

static void
reset(hshm_allocator *heap)
{
    assert_ok(hshm_stack_reset(heap));
    const hshm_stats stats = stats_of(heap);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.live_blocks, 0);
    assert_sound(heap);
    unsigned char *all = hshm_malloc(heap, (size_t)stats.data_bytes);
    assert_non_null(all);
    assert_int_equal(hshm_usable_size(heap, all), stats.data_bytes);
    assert_ok(hshm_free(heap, all));
    assert_int_equal(stats_of(heap).used_bytes, 0);
}

/* ---- killed after each instruction that changed something ---- */

/* Step until the region has changed so many times.  False when the call has returned before. */
static bool
step_to_change(struct stepped *child, const struct scene *scene, unsigned changes)
{
    static unsigned char before[SCENE_REGION];
    memcpy(before, scene->region, SCENE_REGION);
    while (changes > 0) {
        if (!stepped_once(child))
            return false;
        if (memcmp(before, scene->region, SCENE_REGION) != 0) {
            memcpy(before, scene->region, SCENE_REGION);
            changes--;
        }
    }
    return true;
}

/* False when the call changes the region less often than that; then it was killed after it had returned. */
static bool
kill_after_change(const struct plan *plan, unsigned changes, uint64_t *worst)
{
    const struct scene scene = new_scene(plan);
    struct stepped child = stepped_start(plan->operation, (void *)(uintptr_t)&scene);
    const bool inside = step_to_change(&child, &scene, changes);
    stepped_kill(&child);

    check_figures(&scene);
    use_heap(&scene); /* ends with a free at the top, which repairs what can be repaired */
    assert_sound(scene.heap);
    const uint64_t lost = free_all(&scene);
    if (lost > plan->lost || (changes == 0 && lost > 0))
        fail_msg("killed after change %u: %llu bytes are lost", changes, (unsigned long long)lost);
    *worst = lost > *worst ? lost : *worst;
    assert_ok(hshm_free(scene.heap, hshm_malloc(scene.heap, 100)));
    assert_sound(scene.heap);
    reset(scene.heap);
    end_scene();
    return inside;
}

static void
a_kill_at_any_instruction_loses_one_block_at_most(void **state)
{
    (void)state;
    const char *refused = stepping_refused();
    if (refused != NULL) {
        print_message("%s\n", refused);
        skip();
    }
    warm_up();
    for (size_t i = 0; i < PLANS; i++) {
        uint64_t worst = 0;
        unsigned changes = 0;
        while (kill_after_change(&plans[i], changes, &worst))
            changes++;
        print_message("%-32s %u kills inside, lost at most %llu bytes of %llu\n", plans[i].title, changes,
                      (unsigned long long)worst, (unsigned long long)plans[i].lost);
        assert_true(changes > 1); /* it did change something */
    }
}

/* ---- killed anywhere in the middle of much work ---- */

enum { ROUNDS = 100, VICTIMS = 2, HELD = 8, BUSY_REGION = 64 << 10 };

struct crowd {
    struct step started; /* one a victim */
    uint64_t seed;
};

/* Blocks that one process holds, with their sizes; keys follow from who and where. */
struct holder {
    hshm_allocator *heap;
    uint64_t random, key;
    void *blocks[HELD];
    size_t sizes[HELD];
};

static void
let_go(struct holder *holder)
{
    for (size_t i = 0; i < HELD; i++) {
        if (holder->blocks[i] != NULL && !block_holds(holder->blocks[i], holder->sizes[i], holder->key + i))
            fail_msg("a block of %zu bytes was written to by another", holder->sizes[i]);
        assert_ok(hshm_free(holder->heap, holder->blocks[i]));
        holder->blocks[i] = NULL;
    }
}

/* One random call.  Without room, all that is held is let go: others will do so too. */
static void
hold(struct holder *holder)
{
    const size_t i = (size_t)(next_random(&holder->random) % HELD);
    const size_t size = (size_t)(next_random(&holder->random) % 700);
    void *block = NULL;
    if (holder->blocks[i] != NULL && !block_holds(holder->blocks[i], holder->sizes[i], holder->key + i))
        fail_msg("a block of %zu bytes was written to by another", holder->sizes[i]);
    switch (next_random(&holder->random) % 4) {
    case 0:
        block = hshm_realloc(holder->heap, holder->blocks[i], size);
        break;
    case 1:
        assert_ok(hshm_free(holder->heap, holder->blocks[i]));
        block = holder->blocks[i] = hshm_aligned_alloc(holder->heap, 128, size);
        break;
    default:
        assert_ok(hshm_free(holder->heap, holder->blocks[i]));
        block = holder->blocks[i] = hshm_malloc(holder->heap, size);
    }
    if (block == NULL) {
        assert_int_equal(hshm_last_status(), HSHM_E_NOMEM);
        let_go(holder);
        return;
    }
    holder->blocks[i] = block;
    holder->sizes[i] = size;
    block_fill(block, size, holder->key + i);
}

static int
work_until_killed(void *arg)
{
    struct crowd *crowd = arg;
    struct holder holder = { .random = crowd->seed, .key = crowd->seed };
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, &holder.heap));
    step_reach(&crowd->started);
    while (holder.heap != NULL)
        hold(&holder);
    return 1;
}

static int
free_orphan(const hshm_block *block, void *arg)
{
    assert_ok(hshm_free(arg, block->addr));
    return 0;
}

static void
kill_crowd(hshm_allocator *heap, struct crowd *crowd, uint64_t *random)
{
    struct holder survivor = { .heap = heap, .random = next_random(random), .key = 1 };
    pid_t victims[VICTIMS];
    atomic_store(&crowd->started.count, 0);
    for (size_t i = 0; i < VICTIMS; i++) {
        crowd->seed = next_random(random);
        victims[i] = child_start(work_until_killed, crowd);
        step_wait(&crowd->started, (uint32_t)i + 1);
    }
    for (size_t i = 0; i < VICTIMS; i++) {
        for (uint64_t calls = next_random(random) % 1000; calls > 0; calls--)
            hold(&survivor);
        assert_int_equal(kill(victims[i], SIGKILL), 0);
        assert_int_equal(child_wait(victims[i]), 128 + SIGKILL);
    }
    for (int i = 0; i < 100; i++)
        hold(&survivor);
    const hshm_stats stats = stats_of(heap);
    assert_true(stats.live_bytes <= stats.used_bytes && stats.used_bytes <= stats.data_bytes);
    let_go(&survivor);

    /* What the victims held is everybody's to free, and then nothing is live. */
    assert_ok(hshm_visit_blocks(heap, free_orphan, heap));
    assert_int_equal(stats_of(heap).live_blocks, 0);
    assert_ok(hshm_free(heap, hshm_malloc(heap, 16)));
    assert_sound(heap);
    reset(heap);
}

static void
survivors_of_random_kills_go_on(void **state)
{
    (void)state;
    struct crowd *crowd = shared_bytes(sizeof *crowd);
    uint64_t random = test_seed();
    hshm_allocator *heap =
        make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("killed"), BUSY_REGION, HSHM_ALLOCATOR_STACK);
    for (int i = 0; i < ROUNDS; i++)
        kill_crowd(heap, crowd, &random);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_kill_at_any_instruction_loses_one_block_at_most, drop_heaps),
        cmocka_unit_test_teardown(survivors_of_random_kills_go_on, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
