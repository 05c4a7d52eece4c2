/*
 * scenes.h - one call of a stack each, with the heap that it finds: for tests that stop a process in the middle of it.
 *
 *     | low | gap (free) | block | high |            low and high are the survivor's, block is the victim's
 */
#ifndef HSHM_TESTS_STACK_SCENES_H
#define HSHM_TESTS_STACK_SCENES_H

#include "allocator/allocator.h"
#include "blocks.h"

enum { SCENE_REGION = 16 << 10, SCENE_SLOTS = 4, LOW = 200, HIGH = 40 };

struct scene;

/* One call, and the heap that it finds. */
struct plan {
    const char *title;
    void (*operation)(void *scene);
    size_t size;      /* of the victim's block; 0 = it has none                         */
    size_t gap;       /* of free room beneath it                                        */
    bool covered;     /* a survivor's block lies on it                                  */
    size_t argument;  /* the new size                                                   */
    size_t alignment; /* of the new block                                               */
    uint64_t lost;    /* how many bytes a kill may lose at most                         */
};

/* Shared with the child: what the call answered. */
struct outcome {
    void *addr;
    hshm_status status;
};

struct scene {
    const struct plan *plan;
    unsigned char *region;
    hshm_allocator *heap;
    unsigned char *low, *high; /* the survivor's blocks; high may be NULL */
    unsigned char *block;      /* the victim's                            */
    struct outcome *outcome;
};

/* ---- what victims do ---- */

static void
do_malloc(void *arg)
{
    const struct scene *scene = arg;
    scene->outcome->addr = hshm_malloc(scene->heap, scene->plan->argument);
}

static void
do_aligned(void *arg)
{
    const struct scene *scene = arg;
    scene->outcome->addr = hshm_aligned_alloc(scene->heap, scene->plan->alignment, scene->plan->argument);
}

static void
do_free(void *arg)
{
    const struct scene *scene = arg;
    scene->outcome->status = hshm_free(scene->heap, scene->block);
}

static void
do_realloc(void *arg)
{
    const struct scene *scene = arg;
    scene->outcome->addr = hshm_realloc(scene->heap, scene->block, scene->plan->argument);
}

static void
do_rewind(void *arg)
{
    const struct scene *scene = arg;
    const hshm_stack_height height = (uint64_t)(scene->block - scene->heap->data) / GRANULE;
    scene->outcome->status = hshm_stack_rewind(scene->heap, height);
}

/* 32 granules of 16 bytes have their codes in one word of the table: 512 bytes; LOW takes 13 granules of the first. */
static const struct plan plans[] = {
    { .title = "malloc, one word", .operation = do_malloc, .argument = 64, .lost = 64 },
    { .title = "malloc, one granule", .operation = do_malloc, .argument = 1, .lost = 16 },
    { .title = "malloc, 0 bytes", .operation = do_malloc, .argument = 0, .lost = 16 },
    { .title = "malloc, two words", .operation = do_malloc, .argument = 400, .lost = 400 },
    { .title = "malloc, four words", .operation = do_malloc, .argument = 1500, .lost = 1504 },
    { .title = "aligned, one word", .operation = do_aligned, .alignment = 64, .argument = 40, .lost = 48 + 64 },
    { .title = "aligned, wide", .operation = do_aligned, .alignment = 1024, .argument = 900, .lost = 912 + 1024 },
    { .title = "free the top, one granule", .operation = do_free, .size = 16, .lost = 16 },
    { .title = "free the top, one word", .operation = do_free, .size = 64, .lost = 64 },
    { .title = "free the top, two words", .operation = do_free, .size = 400, .lost = 400 },
    { .title = "free the top, four words", .operation = do_free, .size = 1500, .lost = 1504 },
    { .title = "free the top above a gap", .operation = do_free, .size = 48, .gap = 96, .lost = 48 + 96 },
    { .title = "free the top above a wide gap", .operation = do_free, .size = 700, .gap = 1200, .lost = 704 + 1200 },
    { .title = "free inside, one granule", .operation = do_free, .size = 16, .covered = true, .lost = 16 },
    { .title = "free inside, one word", .operation = do_free, .size = 64, .covered = true, .lost = 64 },
    { .title = "free inside, two words", .operation = do_free, .size = 400, .covered = true, .lost = 400 },
    { .title = "free inside, four words", .operation = do_free, .size = 1500, .covered = true, .lost = 1504 },
    { .title = "grow, one granule to two", .operation = do_realloc, .size = 16, .argument = 32, .lost = 32 },
    { .title = "grow, one granule to wide", .operation = do_realloc, .size = 16, .argument = 900, .lost = 912 },
    { .title = "grow, in a word", .operation = do_realloc, .size = 64, .argument = 128, .lost = 128 },
    { .title = "grow, word to word", .operation = do_realloc, .size = 64, .argument = 1500, .lost = 1504 },
    { .title = "shrink, in a word", .operation = do_realloc, .size = 160, .argument = 32, .lost = 160 },
    { .title = "shrink, word to word", .operation = do_realloc, .size = 1500, .argument = 100, .lost = 1504 },
    { .title = "shrink, wide to one granule", .operation = do_realloc, .size = 900, .argument = 1, .lost = 912 },
    { .title = "shrink to one granule", .operation = do_realloc, .size = 48, .argument = 0, .lost = 48 },
    { .title = "shrink inside", .operation = do_realloc, .size = 160, .covered = true, .argument = 48, .lost = 160 },
    { .title = "shrink inside, word to word",
      .operation = do_realloc,
      .size = 1500,
      .covered = true,
      .argument = 17,
      .lost = 1504 },
    { .title = "move", .operation = do_realloc, .size = 64, .covered = true, .argument = 200, .lost = 64 + 208 },
    { .title = "move, wide",
      .operation = do_realloc,
      .size = 700,
      .covered = true,
      .argument = 900,
      .lost = 704 + 912 },
    { .title = "rewind", .operation = do_rewind, .size = 64, .gap = 64, .lost = 64 + 64 },
    { .title = "rewind, wide", .operation = do_rewind, .size = 1500, .gap = 600, .lost = 1504 + 608 },
};

#define PLANS (sizeof plans / sizeof plans[0])

/* ---- the scene ---- */

static struct scene
new_scene(const struct plan *plan)
{
    static void *region;
    static struct outcome *outcome;
    if (region == NULL) {
        region = shared_bytes(SCENE_REGION);
        outcome = shared_bytes(sizeof *outcome);
    }
    *outcome = (struct outcome){ NULL, HSHM_E_SYSTEM };
    struct scene scene = { .plan = plan, .region = region, .outcome = outcome };
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.array = region;
    options.slots = SCENE_SLOTS;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, SCENE_REGION, NULL, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &scene.heap));
    scene.low = hshm_malloc(scene.heap, LOW);
    void *gap = plan->gap == 0 ? NULL : hshm_malloc(scene.heap, plan->gap);
    if (plan->size != 0)
        scene.block = hshm_malloc(scene.heap, plan->size);
    if (plan->covered)
        scene.high = hshm_malloc(scene.heap, HIGH);
    assert_ok(hshm_free(scene.heap, gap));
    block_fill(scene.low, LOW, 1);
    if (scene.block != NULL)
        block_fill(scene.block, plan->size, 3);
    if (scene.high != NULL)
        block_fill(scene.high, HIGH, 2);
    return scene;
}

static void
end_scene(void)
{
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* Do each call here once: the dynamic linker would look up what it needs inside every child anew, step by step. */
static void
warm_up(void)
{
    for (size_t i = 0; i < PLANS; i++) {
        struct scene scene = new_scene(&plans[i]);
        plans[i].operation(&scene);
        end_scene();
    }
}

/* Blocks of many kinds: all can be had, none lies where another does, and all can be given back. */
static void
use_heap(const struct scene *scene)
{
    static const size_t sizes[] = { 16, 64, 600, 0, 1100, 100 };
    enum { BLOCKS = sizeof sizes / sizeof sizes[0] };
    unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = i == 2 ? hshm_aligned_alloc(scene->heap, 256, sizes[i]) : hshm_malloc(scene->heap, sizes[i]);
        assert_non_null(blocks[i]);
        block_fill(blocks[i], sizes[i], 10 + i);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        assert_block(scene->heap, blocks[i], sizes[i], 10 + i);
    assert_block(scene->heap, scene->low, LOW, 1);
    if (scene->high != NULL)
        assert_block(scene->heap, scene->high, HIGH, 2);
    for (size_t i = BLOCKS; i-- > 0;)
        assert_ok(hshm_free(scene->heap, blocks[i]));
}

#endif
