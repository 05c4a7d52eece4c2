/*
 * scenes.c - see scenes.h.
 */
#include "scenes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

const hshm_allocator_kind slab_kinds[2] = { HSHM_ALLOCATOR_SCALABLE_PAGE, HSHM_ALLOCATOR_THREAD_LOCAL };

/* ---- heaps ---- */

/* At a multiple of its size, less what it is to miss that by. */
static void *
map_array(struct scene *scene)
{
    const struct place *place = scene->place;
    scene->mapping_size = 2 * place->size + place->misfit;
    scene->mapping = mmap(NULL, scene->mapping_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(scene->mapping, MAP_FAILED);
    const uintptr_t begin = ((uintptr_t)scene->mapping + place->size - 1) / place->size * place->size;
    return (void *)(begin + place->misfit);
}

void
scene_make(struct scene *scene, const struct place *place, hshm_allocator_kind kind, size_t custom_size)
{
    *scene = (struct scene){ .place = place, .kind = kind };
    hshm_backend_options backend = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator_options allocator = HSHM_ALLOCATOR_OPTIONS_INIT;
    allocator.min_block = place->min_block;
    if (place->lazy)
        backend.commit = HSHM_COMMIT_LAZY;
    if (place->backend == HSHM_BACKEND_ARRAY)
        backend.array = map_array(scene);
    else if (place->backend == HSHM_BACKEND_POSIX_SHM_MMAP)
        scene->url = test_name("slab");
    else if (place->backend == HSHM_BACKEND_POSIX_MMAP)
        scene->url = test_path("slab");
    assert_ok(hshm_backend_create(NULL, 1, place->backend, place->size, scene->url, &backend, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, custom_size, &allocator, &scene->heap));
}

void
scene_end(struct scene *scene)
{
    assert_ok(hshm_backend_destroy(NULL, 1));
    if (scene->mapping != NULL)
        assert_int_equal(munmap(scene->mapping, scene->mapping_size), 0);
}

hshm_allocator *
usual_heap(hshm_allocator_kind kind)
{
    return make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("usual"), 16 * MIB, kind);
}

void
usual_end(void)
{
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* ---- cases ---- */

/* A case of one kind, as cmocka gets it. */
struct bound {
    void (*run)(hshm_allocator_kind kind);
    void (*run_in)(const struct place *place, hshm_allocator_kind kind);
    const struct place *place;
    hshm_allocator_kind kind;
    char name[160];
};

static void
run_bound(void **state)
{
    const struct bound *bound = *state;
    if (bound->place != NULL)
        bound->run_in(bound->place, bound->kind);
    else
        bound->run(bound->kind);
}

/* Run them, each for the kind that its number says. */
static int
run_bounds(const char *group, struct bound *bounds, size_t count)
{
    struct CMUnitTest *tests = calloc(count, sizeof *tests);
    if (tests == NULL)
        return 1;
    for (size_t i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){
            .name = bounds[i].name, .test_func = run_bound, .initial_state = &bounds[i], .teardown_func = drop_heaps
        };
    const int failed = _cmocka_run_group_tests(group, tests, count, NULL, NULL);
    free(tests);
    return failed;
}

static void
name_bound(struct bound *bound, size_t number, const char *sentence, const char *where)
{
    bound->kind = slab_kinds[number % 2];
    (void)snprintf(bound->name, sizeof bound->name, "%s%s: %s", number % 2 == 0 ? "scalable_page" : "thread_local",
                   where, sentence);
}

int
run_kinds(const char *group, const struct kind_case *cases, size_t count)
{
    struct bound *bounds = calloc(2 * count, sizeof *bounds);
    for (size_t i = 0; bounds != NULL && i < 2 * count; i++) {
        bounds[i].run = cases[i / 2].run;
        name_bound(&bounds[i], i, cases[i / 2].name, "");
    }
    const int failed = bounds == NULL ? 1 : run_bounds(group, bounds, 2 * count);
    free(bounds);
    return failed;
}

int
run_places(const char *group, const struct place *places, size_t count, const char *sentence,
           void (*run)(const struct place *place, hshm_allocator_kind kind))
{
    struct bound *bounds = calloc(2 * count, sizeof *bounds);
    for (size_t i = 0; bounds != NULL && i < 2 * count; i++) {
        bounds[i].run_in = run;
        bounds[i].place = &places[i / 2];
        name_bound(&bounds[i], i, sentence, places[i / 2].name);
    }
    const int failed = bounds == NULL ? 1 : run_bounds(group, bounds, 2 * count);
    free(bounds);
    return failed;
}

/* ---- random calls ---- */

unsigned long
operations(unsigned long usual)
{
    const char *given = getenv("HSHM_TEST_OPERATIONS");
    if (given != NULL)
        return strtoul(given, NULL, 10);
    return UNDER_SANITIZER ? usual / 10 : usual;
}

size_t
random_size(uint64_t *random, uint64_t region, uint64_t most)
{
    const uint64_t choice = next_random(random) % 1000;
    const uint64_t number = next_random(random);
    if (choice < 3)
        return (size_t)number; /* more than there is */
    if (choice < 10)
        return (size_t)(number % (region / 4));
    if (choice < 20)
        return (size_t)(most / 2 + number % most);
    if (choice < 60)
        return (size_t)(number % (most / 4 + 1));
    if (choice < 80)
        return (size_t)(number % 4);
    return (size_t)(number % (choice < 300 ? 2000 : 300));
}

enum { PAGE = 4096, SAMPLE = 64 };

void
sample_fill(void *addr, size_t size, uint64_t key)
{
    unsigned char *bytes = addr;
    if (size <= PAGE) {
        block_fill(bytes, size, key);
        return;
    }
    for (size_t at = 0; at + SAMPLE <= size; at += PAGE)
        block_fill(bytes + at, SAMPLE, key + at);
    block_fill(bytes + size - SAMPLE, SAMPLE, key);
}

bool
sample_holds(const void *addr, size_t size, size_t kept, uint64_t key)
{
    const unsigned char *bytes = addr;
    if (size <= PAGE)
        return block_holds(bytes, kept, key);
    for (size_t at = 0; at + 2 * SAMPLE <= size && at + SAMPLE <= kept; at += PAGE) {
        if (!block_holds(bytes + at, SAMPLE, key + at))
            return false;
    }
    return kept < size || block_holds(bytes + size - SAMPLE, SAMPLE, key);
}
