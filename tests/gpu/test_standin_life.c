/*
 * test_standin_life.c - whose a heap in device memory is, and when it ends: owners and attachers that come, go and die.
 *
 * On stand-in drivers.  The test's own process starts none; each part is a child, or another program.
 */
#include "gpu.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocks.h"

enum { SIZE = 4 << 20, CYCLES = 1000, STEPS = 8, ROUNDS = 150 };

/* Shared by those who take part. */
struct play {
    enum vendor vendor;
    const char *name;
    struct step steps[STEPS];
    hshm_off off;
    bool replaces;
};

static struct play *
begin_play(enum vendor vendor)
{
    struct play *play = shared_bytes(sizeof *play);
    *play = (struct play){ .vendor = vendor, .name = test_name("life") };
    use_standin(vendor);
    return play;
}

static void
on_both(void (*run)(enum vendor vendor))
{
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++)
        run(vendor);
}

static hshm_allocator *
own(struct play *play)
{
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, SIZE, HSHM_ALLOCATOR_SCALABLE_PAGE);
    void *block = hshm_malloc(heap, 5000);
    heap_fill(heap, block, 5000, 1);
    play->off = hshm_to_off(heap, block);
    return heap;
}

static hshm_allocator *
join(struct play *play)
{
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, 0);
    assert_true(heap_holds(heap, hshm_to_addr(heap, play->off), 5000, 1));
    return heap;
}

/* ---- attaching in the owner itself ---- */

static int
attach_in_the_owner(void *arg)
{
    struct play *play = arg;
    hshm_manager *second = NULL;
    hshm_allocator *heap = own(play);
    hshm_allocator *same = NULL;
    assert_ok(hshm_manager_create(&second));
    assert_ok(hshm_backend_attach(second, HSHM_BACKEND_GPU_MALLOC, play->name, NULL, NULL));
    assert_ok(hshm_allocator_get(second, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &same));
    /* One memory, two handle addresses, no second mapping. */
    void *seen = hshm_to_addr(same, play->off);
    assert_ptr_not_equal(seen, hshm_to_addr(heap, play->off));
    assert_ptr_equal(hshm_device_ptr(same, seen), hshm_device_ptr(heap, hshm_to_addr(heap, play->off)));
    assert_int_equal(counts_of(play->vendor).mappings, 0);
    heap_fill(same, seen, 5000, 2);
    assert_true(heap_holds(heap, hshm_to_addr(heap, play->off), 5000, 2));
    /* The first handle ends; the second goes on. */
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_true(heap_holds(same, seen, 5000, 2));
    assert_int_equal(counts_of(play->vendor).allocations, 1);
    hshm_manager_destroy(second);
    assert_nothing_held(play->vendor);
    return 0;
}

static void
owner_attaches(enum vendor vendor)
{
    assert_int_equal(child_run(attach_in_the_owner, begin_play(vendor)), 0);
}

static void
the_owner_may_attach_to_its_own(void **state)
{
    (void)state;
    on_both(owner_attaches);
}

/* Two managers of an attacher: one mapping, which goes with the last. */
static int
attach_twice(void *arg)
{
    struct play *play = arg;
    hshm_manager *second = NULL;
    hshm_allocator *heap = join(play);
    assert_ok(hshm_manager_create(&second));
    assert_ok(hshm_backend_attach(second, HSHM_BACKEND_GPU_MALLOC, play->name, NULL, NULL));
    assert_int_equal(counts_of(play->vendor).mappings, 1);
    assert_ok(hshm_backend_detach(second, 1));
    assert_int_equal(counts_of(play->vendor).mappings, 1);
    assert_true(heap_holds(heap, hshm_to_addr(heap, play->off), 5000, 1));
    hshm_manager_destroy(second);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_nothing_held(play->vendor);
    return 0;
}

static int
own_until_told(void *arg)
{
    struct play *play = arg;
    (void)own(play);
    step_reach(&play->steps[0]);
    step_wait(&play->steps[1], 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_nothing_held(play->vendor);
    return 0;
}

static void
attacher_attaches_twice(enum vendor vendor)
{
    struct play *play = begin_play(vendor);
    const pid_t owner = child_start(own_until_told, play);
    step_wait(&play->steps[0], 1);
    assert_int_equal(child_run(attach_twice, play), 0);
    step_reach(&play->steps[1]);
    assert_int_equal(child_wait(owner), 0);
}

static void
a_process_maps_a_heap_once(void **state)
{
    (void)state;
    on_both(attacher_attaches_twice);
}

/* ---- destroy while others are attached ---- */

static int
destroy_early(void *arg)
{
    struct play *play = arg;
    (void)own(play);
    step_reach(&play->steps[0]);
    step_wait(&play->steps[1], 1); /* the other one is attached */
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_int_equal(counts_of(play->vendor).allocations, 1); /* not free yet */
    step_reach(&play->steps[2]);
    step_wait(&play->steps[3], 1); /* it has left, or died */
    assert_status(hshm_backend_detach(NULL, 1), HSHM_E_NOTFOUND);
    /* Any such call frees it. */
    assert_status(
        hshm_backend_create(NULL, 2, HSHM_BACKEND_GPU_MALLOC, (size_t)64 << 30, test_name("next"), NULL, NULL),
        HSHM_E_NOSPC);
    assert_nothing_held(play->vendor);
    return 0;
}

static int
go_on_after_destroy(void *arg)
{
    struct play *play = arg;
    hshm_allocator *heap = join(play);
    step_reach(&play->steps[1]);
    step_wait(&play->steps[2], 1);
    /* The name is gone, the memory is not. */
    hshm_manager *late = NULL;
    assert_ok(hshm_manager_create(&late));
    assert_status(hshm_backend_attach(late, HSHM_BACKEND_GPU_MALLOC, play->name, NULL, NULL), HSHM_E_NOTFOUND);
    hshm_manager_destroy(late);
    assert_true(heap_holds(heap, hshm_to_addr(heap, play->off), 5000, 1));
    void *block = hshm_calloc(heap, 1, 300);
    assert_non_null(block);
    assert_ok(hshm_free(heap, block));
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_nothing_held(play->vendor);
    return 0;
}

static int
die_after_destroy(void *arg)
{
    struct play *play = arg;
    (void)join(play);
    step_reach(&play->steps[1]);
    step_wait(&play->steps[2], 1);
    (void)raise(SIGKILL);
    return 1;
}

static void
destroy_while_attached(enum vendor vendor)
{
    for (int dies = 0; dies < 2; dies++) {
        struct play *play = begin_play(vendor);
        const pid_t owner = child_start(destroy_early, play);
        step_wait(&play->steps[0], 1);
        const pid_t other = child_start(dies != 0 ? die_after_destroy : go_on_after_destroy, play);
        assert_int_equal(child_wait(other), dies != 0 ? 128 + SIGKILL : 0);
        step_reach(&play->steps[3]);
        assert_int_equal(child_wait(owner), 0);
    }
}

static void
memory_stays_while_others_are_attached(void **state)
{
    (void)state;
    on_both(destroy_while_attached);
}

/* ---- detach by the owner ---- */

static int
detach_and_come_back(void *arg)
{
    struct play *play = arg;
    (void)own(play);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_int_equal(counts_of(play->vendor).allocations, 1);
    step_reach(&play->steps[0]);
    step_wait(&play->steps[1], 1); /* another one was attached meanwhile */
    hshm_allocator *heap = join(play);
    assert_non_null(hshm_malloc(heap, 100));
    assert_ok(hshm_backend_detach(NULL, 1));
    /* Nobody is attached, and the name is still there: it goes, and the memory with it. */
    assert_ok(hshm_backend_remove(HSHM_BACKEND_GPU_MALLOC, play->name));
    assert_nothing_held(play->vendor);
    return 0;
}

static int
look_in(void *arg)
{
    struct play *play = arg;
    (void)join(play);
    /* Not even by another process can it be removed while its owner lives. */
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_status(hshm_backend_remove(HSHM_BACKEND_GPU_MALLOC, play->name), HSHM_E_BUSY);
    assert_nothing_held(play->vendor);
    return 0;
}

static void
owner_detaches(enum vendor vendor)
{
    struct play *play = begin_play(vendor);
    const pid_t owner = child_start(detach_and_come_back, play);
    step_wait(&play->steps[0], 1);
    assert_int_equal(child_run(look_in, play), 0);
    step_reach(&play->steps[1]);
    assert_int_equal(child_wait(owner), 0);
}

static void
an_owner_that_detaches_keeps_the_memory(void **state)
{
    (void)state;
    on_both(owner_detaches);
}

/* ---- the memory goes while somebody is about to attach ---- */

static struct play *interrupted;

/* In the owner, when it is about to free: now or never. */
static void
let_another_try(void)
{
    step_reach(&interrupted->steps[1]);
    step_wait(&interrupted->steps[2], 1);
}

static int
give_up_memory(void *arg)
{
    struct play *play = arg;
    hshm_backend_options replace = HSHM_BACKEND_OPTIONS_INIT;
    replace.replace = HSHM_REPLACE_DEAD;
    (void)own(play);
    assert_ok(hshm_backend_detach(NULL, 1));
    step_reach(&play->steps[0]);
    interrupted = play;
    before_each_free(play->vendor, let_another_try);
    if (play->replaces)
        assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, play->name, &replace, NULL));
    else
        assert_ok(hshm_backend_remove(HSHM_BACKEND_GPU_MALLOC, play->name));
    before_each_free(play->vendor, NULL);
    assert_int_equal(counts_of(play->vendor).allocations, play->replaces);
    if (play->replaces)
        assert_ok(hshm_backend_destroy(NULL, 1));
    assert_nothing_held(play->vendor);
    return 0;
}

static int
attach_in_that_moment(void *arg)
{
    struct play *play = arg;
    step_wait(&play->steps[1], 1);
    const hshm_status status = hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, NULL, NULL);
    step_reach(&play->steps[2]);
    assert_status(status, HSHM_E_NOTFOUND);
    return 0;
}

static void
memory_goes(enum vendor vendor)
{
    for (int replaces = 0; replaces < 2; replaces++) {
        struct play *play = begin_play(vendor);
        play->replaces = replaces != 0;
        const pid_t owner = child_start(give_up_memory, play);
        step_wait(&play->steps[0], 1);
        assert_int_equal(child_run(attach_in_that_moment, play), 0);
        assert_int_equal(child_wait(owner), 0);
    }
}

static void
nobody_attaches_to_memory_that_goes(void **state)
{
    (void)state;
    on_both(memory_goes);
}

/* The same without arrangement: whoever got in has the memory until he leaves, whatever the owner does. */
static int
make_and_remove(void *arg)
{
    struct play *play = arg;
    for (int i = 0; i < ROUNDS; i++) {
        (void)own(play);
        assert_ok(hshm_backend_detach(NULL, 1));
        hshm_status status = HSHM_E_BUSY;
        while (status == HSHM_E_BUSY)
            status = hshm_backend_remove(HSHM_BACKEND_GPU_MALLOC, play->name);
        assert_ok(status);
        assert_nothing_held(play->vendor);
    }
    step_reach(&play->steps[0]);
    return 0;
}

static int
come_and_go(void *arg)
{
    struct play *play = arg;
    while (atomic_load(&play->steps[0].count) == 0) {
        hshm_allocator *heap = NULL;
        const hshm_status status = hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, NULL, NULL);
        if (status != HSHM_OK && status != HSHM_E_NOTFOUND && status != HSHM_E_NOTREADY && status != HSHM_E_BUSY)
            assert_ok(status);
        if (status != HSHM_OK)
            continue;
        if (hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap) == HSHM_OK) {
            void *block = hshm_malloc(heap, 100);
            assert_non_null(block);
            heap_fill(heap, block, 100, 7);
            assert_true(heap_holds(heap, block, 100, 7));
            assert_ok(hshm_free(heap, block));
        }
        assert_ok(hshm_backend_detach(NULL, 1));
    }
    assert_nothing_held(play->vendor);
    return 0;
}

static void
race(enum vendor vendor)
{
    struct play *play = begin_play(vendor);
    const pid_t owner = child_start(make_and_remove, play);
    const pid_t others[] = { child_start(come_and_go, play), child_start(come_and_go, play) };
    assert_int_equal(child_wait(owner), 0);
    assert_int_equal(child_wait(others[0]), 0);
    assert_int_equal(child_wait(others[1]), 0);
}

static void
removing_and_attaching_race(void **state)
{
    (void)state;
    on_both(race);
}

/* ---- the owner's death ---- */

static int
own_until_killed(void *arg)
{
    struct play *play = arg;
    (void)own(play);
    step_reach(&play->steps[0]);
    (void)pause();
    return 1;
}

static int
survive_the_owner(void *arg)
{
    struct play *play = arg;
    char bytes[10];
    hshm_gpu_info info;
    hshm_allocator *heap = join(play);
    void *old = hshm_to_addr(heap, play->off);
    step_reach(&play->steps[1]);
    step_wait(&play->steps[2], 1); /* it is dead */
    /* What lies on the host goes on. */
    void *block = hshm_malloc(heap, 1000);
    assert_non_null(block);
    assert_ok(hshm_recover(heap, NULL));
    assert_ok(hshm_check(heap, 0, NULL));
    assert_ok(hshm_free(heap, block));
    assert_ok(hshm_free(heap, old));
    /* What lay on the device is gone. */
    assert_status(hshm_copy_from(heap, bytes, old, sizeof bytes), HSHM_E_DAMAGED);
    assert_status(hshm_copy_to(heap, old, bytes, sizeof bytes), HSHM_E_DAMAGED);
    assert_status(hshm_fill(heap, old, 0, sizeof bytes), HSHM_E_DAMAGED);
    assert_sentence("is dead");
    assert_null(hshm_device_ptr(heap, old));
    assert_status(hshm_last_status(), HSHM_E_DAMAGED);
    assert_null(hshm_calloc(heap, 1, 100));
    assert_status(hshm_last_status(), HSHM_E_DAMAGED);
    assert_status(hshm_backend_gpu(hshm_backend_get(NULL, 1), &info), HSHM_E_DAMAGED);
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.live_blocks, 0); /* calloc took none for good */
    assert_status(hshm_backend_remove(HSHM_BACKEND_GPU_MALLOC, play->name), HSHM_E_BUSY);
    /* That the memory is mapped here already makes no difference to who attaches now. */
    hshm_manager *second = NULL;
    assert_ok(hshm_manager_create(&second));
    assert_status(hshm_backend_attach(second, HSHM_BACKEND_GPU_MALLOC, play->name, NULL, NULL), HSHM_E_DAMAGED);
    hshm_manager_destroy(second);
    assert_int_equal(counts_of(play->vendor).mappings, 1);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_nothing_held(play->vendor);
    return 0;
}

static int
come_too_late(void *arg)
{
    struct play *play = arg;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, NULL, NULL), HSHM_E_DAMAGED);
    assert_sentence("HSHM_REPLACE_DEAD");
    /* To look at what is left. */
    options.gpu = HSHM_GPU_OPTIONAL;
    options.read_only = true;
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, &options, NULL));
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    assert_ok(hshm_check(heap, 0, NULL));
    assert_null(hshm_device_ptr(heap, hshm_to_addr(heap, play->off)));
    assert_status(hshm_last_status(), HSHM_E_DAMAGED);
    assert_ok(hshm_backend_detach(NULL, 1));
    /* And to begin anew under that name. */
    hshm_backend_options replace = HSHM_BACKEND_OPTIONS_INIT;
    replace.replace = HSHM_REPLACE_DEAD;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, play->name, &replace, NULL));
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_nothing_held(play->vendor);
    return 0;
}

static void
owner_dies(enum vendor vendor)
{
    struct play *play = begin_play(vendor);
    const pid_t owner = child_start(own_until_killed, play);
    step_wait(&play->steps[0], 1);
    const pid_t other = child_start(survive_the_owner, play);
    step_wait(&play->steps[1], 1);
    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_int_equal(child_wait(owner), 128 + SIGKILL);
    step_reach(&play->steps[2]);
    assert_int_equal(child_wait(other), 0);
    assert_int_equal(child_run(come_too_late, play), 0);
}

static void
an_owner_s_death_is_told(void **state)
{
    (void)state;
    on_both(owner_dies);
}

/* ---- fork ---- */

static int
inherit(void *arg)
{
    struct play *play = arg;
    hshm_allocator *heap = NULL;
    char byte;
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    void *old = hshm_to_addr(heap, play->off);
    void *block = hshm_malloc(heap, 700);
    assert_non_null(block);
    assert_ok(hshm_free(heap, block));
    assert_status(hshm_copy_from(heap, &byte, old, 1), HSHM_E_DEVICE);
    assert_sentence("forked");
    assert_null(hshm_device_ptr(heap, old));
    assert_status(hshm_last_status(), HSHM_E_DEVICE);
    assert_null(hshm_calloc(heap, 1, 10));
    assert_status(hshm_last_status(), HSHM_E_DEVICE);
    assert_status(hshm_backend_create(NULL, 9, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("child"), NULL, NULL),
                  HSHM_E_DEVICE);
    assert_sentence("forked");
    assert_ok(hshm_backend_destroy(NULL, 1)); /* the parent's stays */
    return 0;
}

static int
fork_after_use(void *arg)
{
    struct play *play = arg;
    hshm_allocator *heap = own(play);
    const struct standin_counts before = counts_of(play->vendor);
    assert_int_equal(child_run(inherit, play), 0);
    const struct standin_counts after = counts_of(play->vendor);
    assert_int_equal(after.allocations, before.allocations);
    assert_true(heap_holds(heap, hshm_to_addr(heap, play->off), 5000, 1));
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_nothing_held(play->vendor);
    return 0;
}

static int
inherit_registered(void *arg)
{
    (void)arg;
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    char *block = hshm_malloc(heap, 700);
    strcpy(block, "host memory");
    assert_null(hshm_device_ptr(heap, block));
    assert_status(hshm_last_status(), HSHM_E_DEVICE);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static int
fork_registered(void *arg)
{
    struct play *play = arg;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_GPU_SHM_MMAP, play->name, SIZE, HSHM_ALLOCATOR_THREAD_LOCAL);
    assert_int_equal(child_run(inherit_registered, play), 0);
    assert_non_null(hshm_device_ptr(heap, hshm_malloc(heap, 10)));
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_nothing_held(play->vendor);
    return 0;
}

static void
parent_forks(enum vendor vendor)
{
    assert_int_equal(child_run(fork_after_use, begin_play(vendor)), 0);
    assert_int_equal(child_run(fork_registered, begin_play(vendor)), 0);
}

static void
a_forked_child_is_told_that_it_has_no_driver(void **state)
{
    (void)state;
    on_both(parent_forks);
}

/* ---- again and again ---- */

static int
create_and_destroy(void *arg)
{
    struct play *play = arg;
    const hshm_allocator_kind kinds[] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_SCALABLE_PAGE,
                                          HSHM_ALLOCATOR_THREAD_LOCAL };
    struct footprint before = { 0 };
    for (int i = 0; i < CYCLES; i++) {
        hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, SIZE, kinds[i % 3]);
        void *block = hshm_malloc(heap, (size_t)(i % 100) * 1000 + 1);
        assert_ok(hshm_fill(heap, block, i, 1));
        assert_int_equal(counts_of(play->vendor).bytes, SIZE);
        assert_ok(hshm_backend_destroy(NULL, 1));
        assert_nothing_held(play->vendor);
        if (i == 5)
            before = footprint_take();
    }
    assert_footprint(before);
    return 0;
}

static void
cycles(enum vendor vendor)
{
    assert_int_equal(child_run(create_and_destroy, begin_play(vendor)), 0);
}

static void
a_thousand_heaps_leave_nothing(void **state)
{
    (void)state;
    on_both(cycles);
}

/* ---- nobody asks the host ---- */

/* Without any driver a process that need not touch blocks takes and frees them for others. */
static int
work_without_a_driver(void *arg)
{
    struct play *play = arg;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    char byte = 0;
    use_standins(false, false);
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, NULL, NULL), HSHM_E_DEVICE);
    assert_sentence("there is no driver");
    options.gpu = HSHM_GPU_OPTIONAL;
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, play->name, &options, NULL));
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    assert_non_null(hshm_malloc(heap, 1000));
    assert_ok(hshm_free(heap, hshm_to_addr(heap, play->off)));
    void *block = hshm_malloc(heap, 10);
    assert_status(hshm_copy_to(heap, block, &byte, 1), HSHM_E_DEVICE);
    assert_sentence("there is no driver");
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
without_driver(enum vendor vendor)
{
    struct play *play = begin_play(vendor);
    const pid_t owner = child_start(own_until_told, play);
    step_wait(&play->steps[0], 1);
    assert_int_equal(child_run(work_without_a_driver, play), 0);
    step_reach(&play->steps[1]);
    assert_int_equal(child_wait(owner), 0);
}

static void
blocks_can_be_taken_without_a_driver(void **state)
{
    (void)state;
    on_both(without_driver);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_owner_may_attach_to_its_own),
        cmocka_unit_test(a_process_maps_a_heap_once),
        cmocka_unit_test(memory_stays_while_others_are_attached),
        cmocka_unit_test(an_owner_that_detaches_keeps_the_memory),
        cmocka_unit_test(nobody_attaches_to_memory_that_goes),
        cmocka_unit_test(removing_and_attaching_race),
        cmocka_unit_test(an_owner_s_death_is_told),
        cmocka_unit_test(a_forked_child_is_told_that_it_has_no_driver),
        cmocka_unit_test(a_thousand_heaps_leave_nothing),
        cmocka_unit_test(blocks_can_be_taken_without_a_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
