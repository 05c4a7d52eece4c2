/*
 * test_cycles.c - ten thousand regions made and destroyed, attached and detached, refused and removed leave the process as
 * it was: no descriptor, no mapping, no name and not one byte of malloc's memory more.
 */
#include <malloc.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stage.h"

/* Sanitizers have a malloc of their own, which tells nothing of what is in use and keeps freed memory on purpose. */
#if UNDER_SANITIZER
enum { COUNTS_MEMORY = 0, CYCLES = 300 };
#else
enum { COUNTS_MEMORY = 1, CYCLES = 10000 };
#endif
/* Each leaving waits for the disk. */
enum { CYCLES_ON_DISK = 50, WARM_UP = 20 };

/* The heap of malloc may be trimmed or not, stdio's buffers come and go: some pages either way mean nothing. */
enum { RESIDENT_SLACK = 64 };

static alignas(64) unsigned char array[STAGE_SIZE];

/* ---- what the process holds ---- */

struct holdings {
    struct footprint footprint;
    size_t in_use;   /* bytes that malloc has given out       */
    size_t resident; /* pages of memory that it really has    */
};

static size_t
resident_pages(void)
{
    unsigned long size = 0;
    unsigned long resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    assert_non_null(statm);
    assert_int_equal(fscanf(statm, "%lu %lu", &size, &resident), 2);
    (void)fclose(statm);
    return resident;
}

static struct holdings
count_holdings(void)
{
    struct holdings holdings = { footprint_take(), 0, resident_pages() };
    holdings.in_use = mallinfo2().uordblks;
    return holdings;
}

static void
check_holdings(struct holdings before)
{
    const struct holdings now = count_holdings();
    assert_footprint(before.footprint);
    if (!COUNTS_MEMORY)
        return;
    assert_int_equal(now.in_use, before.in_use);
    if (now.resident > before.resident + RESIDENT_SLACK)
        fail_msg("%zu pages of memory became %zu", before.resident, now.resident);
}

/* A cycle that takes longer than others, or shows less, is tried `less` times less often. */
static void
repeat(struct stage *stage, void (*cycle)(struct stage *stage), unsigned less)
{
    const unsigned cycles = stage != NULL && stage->on_disk ? CYCLES_ON_DISK : CYCLES / less;
    for (unsigned i = 0; i < WARM_UP; i++)
        cycle(stage);
    const struct holdings before = count_holdings();
    for (unsigned i = 0; i < cycles; i++)
        cycle(stage);
    check_holdings(before);
    print_message("%u cycles\n", cycles);
}

/* ---- create and destroy ---- */

static void
create_and_destroy(struct stage *stage)
{
    assert_ok(stage_create(stage, NULL, HSHM_REPLACE_NEVER));
    stage_use(NULL);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
creating_and_destroying_leaves_nothing(void **state)
{
    struct stage *stage = stage_begin(state, "create");
    repeat(stage, create_and_destroy, stage->kind == HSHM_BACKEND_POSIX_SHM_MMAP ? 1 : 5);
    assert_all_gone(stage);
}

static int
create_and_destroy_there(void *arg)
{
    struct stage *stage = arg;
    stage_enter(stage);
    repeat(stage, create_and_destroy, 10);
    return 0;
}

static void
nor_does_it_where_something_is_lacking(void **state)
{
    struct stage *stage = stage_begin(state, "there");
    assert_int_equal(child_run(create_and_destroy_there, stage), 0);
    assert_all_gone(stage);
}

static void
create_and_empty_manager(struct stage *stage)
{
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    assert_ok(stage_create(stage, manager, HSHM_REPLACE_DEAD));
    hshm_manager_destroy(manager);
}

static void
replacing_by_managers_that_end_leaves_one_name(void **state)
{
    struct stage *stage = stage_begin(state, "managers");
    repeat(stage, create_and_empty_manager, 10);
    assert_ok(stage_remove(stage));
    assert_all_gone(stage);
}

static void
create_and_remove(struct stage *stage)
{
    assert_ok(stage_create_region(stage, NULL, HSHM_REPLACE_NEVER));
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_ok(stage_remove(stage));
}

static void
removing_leaves_nothing(void **state)
{
    struct stage *stage = stage_begin(state, "remove");
    repeat(stage, create_and_remove, 10);
    assert_all_gone(stage);
}

/* ---- attach and detach ---- */

static void
attach_and_detach(struct stage *stage)
{
    assert_ok(stage_attach(stage, NULL));
    stage_use(NULL);
    assert_ok(hshm_backend_detach(NULL, 1));
}

static void
read_and_detach(struct stage *stage)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    assert_ok(hshm_backend_attach(NULL, stage->kind, stage->url, &options, NULL));
    assert_ok(hshm_backend_detach(NULL, 1));
}

/* Beside an owner, who must find the region as it was: in another process, so that only what guests take is counted. */
static void
repeat_beside_owner(struct stage *stage, void (*cycle)(struct stage *stage), unsigned less)
{
    const pid_t owner = stage_owner(stage);
    repeat(stage, cycle, less);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(stage_attach(stage, NULL));
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &info));
    assert_int_equal(info.processes, 2);
    assert_int_equal(info.slot, 1);
    assert_ok(hshm_backend_detach(NULL, 1));
    stage_kill(owner);
    assert_ok(stage_remove(stage));
    assert_all_gone(stage);
}

static void
attaching_and_detaching_leaves_nothing(void **state)
{
    struct stage *stage = stage_begin(state, "attach");
    repeat_beside_owner(stage, attach_and_detach, stage->kind == HSHM_BACKEND_POSIX_SHM_MMAP ? 1 : 5);
}

static void
nor_does_reading(void **state)
{
    repeat_beside_owner(stage_begin(state, "read"), read_and_detach, 5);
}

/* ---- refusals ---- */

static void
be_refused(struct stage *stage)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.struct_size = 1;
    assert_status(stage_create(stage, NULL, HSHM_REPLACE_NEVER), HSHM_E_EXISTS);
    assert_status(stage_create(stage, NULL, HSHM_REPLACE_DEAD), HSHM_E_BUSY);
    assert_status(stage_remove(stage), HSHM_E_BUSY);
    assert_status(hshm_backend_attach(NULL, stage->kind, stage->url, &options, NULL), HSHM_E_INVAL);
    /* Here the ids are found to be taken only when all else is done. */
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, STAGE_SIZE, NULL, NULL, NULL));
    assert_status(stage_attach(stage, NULL), HSHM_E_EXISTS);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
being_refused_leaves_nothing(void **state)
{
    repeat_beside_owner(stage_begin(state, "refused"), be_refused, 10);
}

static void
find_no_heap(struct stage *stage)
{
    assert_status(stage_attach(stage, NULL), HSHM_E_NOTREADY);
}

static void
find_no_name(struct stage *stage)
{
    assert_status(stage_attach(stage, NULL), HSHM_E_NOTFOUND);
    assert_status(stage_remove(stage), HSHM_E_NOTFOUND);
}

static void
finding_nothing_leaves_nothing(void **state)
{
    struct stage *stage = stage_begin(state, "nothing");
    repeat(stage, find_no_name, 5);
    stage_leftover(stage, false);
    repeat(stage, find_no_heap, 5);
    assert_ok(stage_remove(stage));
    assert_all_gone(stage);
}

/* ---- kinds without a name ---- */

static void
live_on_malloc(hshm_allocator_kind kind)
{
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_MALLOC, "label", STAGE_SIZE, kind);
    void *block = hshm_malloc(heap, 100);
    assert_non_null(block);
    assert_ok(hshm_free(heap, block));
    assert_non_null(hshm_malloc(heap, 200)); /* destroying frees what is left */
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
live_as_stack(struct stage *stage)
{
    (void)stage;
    live_on_malloc(HSHM_ALLOCATOR_STACK);
}

static void
live_as_malloc(struct stage *stage)
{
    (void)stage;
    live_on_malloc(HSHM_ALLOCATOR_MALLOC);
}

static void
private_regions_leave_nothing(void **state)
{
    (void)state;
    repeat(NULL, live_as_stack, 1);
    repeat(NULL, live_as_malloc, 1);
}

static void
live_in_array(struct stage *stage)
{
    (void)stage;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.array = array;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, sizeof array, NULL, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    stage_use(NULL);

    hshm_manager *guest = NULL;
    hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    attach.array = array;
    attach.array_size = sizeof array;
    assert_ok(hshm_manager_create(&guest));
    assert_ok(hshm_backend_attach(guest, HSHM_BACKEND_ARRAY, NULL, &attach, NULL));
    stage_use(guest);
    hshm_manager_destroy(guest);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
arrays_leave_nothing(void **state)
{
    (void)state;
    repeat(NULL, live_in_array, 1);
}

/* Each thread's cache of freed blocks counts as memory in use: begin again without, so that the count is exact. */
static void
do_without_malloc_cache(char **argv)
{
    static const char tunable[] = "glibc.malloc.tcache_count=0";
    const char *tunables = getenv("GLIBC_TUNABLES");
    if (!COUNTS_MEMORY || (tunables != NULL && strcmp(tunables, tunable) == 0))
        return;
    if (setenv("GLIBC_TUNABLES", tunable, 1) == 0)
        (void)execv("/proc/self/exe", argv);
    perror("cannot start again");
    exit(1);
}

int
main(int argc, char **argv)
{
    (void)argc;
    do_without_malloc_cache(argv);
    const struct CMUnitTest tests[] = {
        IN_BOTH(creating_and_destroying_leaves_nothing),
        ON_DISK(creating_and_destroying_leaves_nothing),
        IN_ALL(nor_does_it_where_something_is_lacking),
        IN_BOTH(replacing_by_managers_that_end_leaves_one_name),
        IN_BOTH(removing_leaves_nothing),
        IN_BOTH(attaching_and_detaching_leaves_nothing),
        ON_DISK(attaching_and_detaching_leaves_nothing),
        IN_BOTH(nor_does_reading),
        IN_BOTH(being_refused_leaves_nothing),
        IN_BOTH(finding_nothing_leaves_nothing),
        cmocka_unit_test(private_regions_leave_nothing),
        cmocka_unit_test(arrays_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
