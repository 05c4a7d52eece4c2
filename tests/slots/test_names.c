/*
 * test_names.c - hshm_name_set(), _slot(), _get(), _remove(), _visit(): what they do and refuse, from other processes too, many at
 * once, and with some of them killed.
 */
#include "table.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocator/names.h"

#define MIB ((size_t)1 << 20)

static int
count_one(const char *name, void *block, void *arg)
{
    (void)name;
    (void)block;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned
count_names(hshm_allocator *heap)
{
    unsigned names = 0;
    assert_ok(hshm_name_visit(heap, count_one, &names));
    return names;
}

static void
a_name_leads_to_its_block(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    void *block = hshm_malloc(heap, 100);
    void *found = NULL;
    assert_status(hshm_name_get(heap, "config", &found), HSHM_E_NOTFOUND);
    assert_sentence("has no name \"config\"");
    assert_ok(hshm_name_set(heap, "config", block));
    assert_ok(hshm_name_get(heap, "config", &found));
    assert_ptr_equal(found, block);
    assert_status(hshm_name_get(heap, "confi", &found), HSHM_E_NOTFOUND);
    assert_status(hshm_name_get(heap, "config2", &found), HSHM_E_NOTFOUND);
    void *other = hshm_malloc(heap, 100);
    assert_status(hshm_name_set(heap, "config", other), HSHM_E_EXISTS);
    assert_ok(hshm_name_get(heap, "config", &found));
    assert_ptr_equal(found, block);
    assert_ok(hshm_name_remove(heap, "config"));
    assert_status(hshm_name_get(heap, "config", &found), HSHM_E_NOTFOUND);
    assert_status(hshm_name_remove(heap, "config"), HSHM_E_NOTFOUND);
    assert_true(hshm_usable_size(heap, block) >= 100); /* the block stayed */
    assert_ok(hshm_name_set(heap, "config", other));
    assert_ok(hshm_name_get(heap, "config", &found));
    assert_ptr_equal(found, other);
    assert_int_equal(count_names(heap), 1);
    assert_sound(heap);
}

static void
a_name_is_a_slot(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    hshm_slot *slot = NULL;
    hshm_slot *again = NULL;
    void *found = NULL;
    assert_ok(hshm_name_slot(heap, "queue", &slot));
    assert_ok(hshm_name_slot(heap, "queue", &again));
    assert_ptr_equal(slot, again);
    assert_status(hshm_name_get(heap, "queue", &found), HSHM_E_NOTFOUND);
    assert_sentence("holds no live block");
    assert_ok(hshm_allocate_to(heap, 64, slot));
    assert_ok(hshm_name_get(heap, "queue", &found));
    assert_int_equal(hshm_to_off(heap, found), hshm_slot_load(slot));
    assert_ok(hshm_move(heap, slot, &table->slots[0]));
    assert_status(hshm_name_get(heap, "queue", &found), HSHM_E_NOTFOUND);
    assert_ok(hshm_move(heap, &table->slots[0], slot));
    assert_ok(hshm_free_from(heap, slot));
    assert_int_equal(stats_of(heap).live_blocks, 0);
    void *block = hshm_malloc(heap, 10);
    assert_ok(hshm_name_set(heap, "queue", block)); /* the name was there, and holds it now */
    assert_int_equal(hshm_slot_load(slot), hshm_to_off(heap, block));
    assert_ok(hshm_free(heap, block));
    assert_status(hshm_name_get(heap, "queue", &found), HSHM_E_NOTFOUND);
    assert_sentence("was left behind");
    assert_ok(hshm_name_remove(heap, "queue"));
    assert_int_equal(count_names(heap), 0);
    assert_sound(heap);
}

static void
a_block_is_taken_by_one(void **state)
{
    hshm_allocator *heap =
        make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("take"), 1 << 20, *(hshm_allocator_kind *)*state);
    void *block = hshm_malloc(heap, 100);
    void *other = hshm_malloc(heap, 100);
    assert_ok(hshm_name_set(heap, "it", block));
    assert_status(hshm_name_take(heap, "it", other), HSHM_E_NOTFOUND);
    assert_sentence("does not hold");
    assert_status(hshm_name_take(heap, "it", NULL), HSHM_E_INVAL);
    assert_ok(hshm_name_take(heap, "it", block));
    assert_status(hshm_name_take(heap, "it", block), HSHM_E_NOTFOUND);
    /* Named again, it is no longer the one that was seen. */
    assert_ok(hshm_name_set(heap, "it", other));
    assert_status(hshm_name_take(heap, "it", block), HSHM_E_NOTFOUND);
    void *found = NULL;
    assert_ok(hshm_name_get(heap, "it", &found));
    assert_ptr_equal(found, other);
    hshm_slot *slot = NULL;
    assert_ok(hshm_name_slot(heap, "empty", &slot));
    assert_status(hshm_name_take(heap, "empty", block), HSHM_E_NOTFOUND);
}

static void
what_cannot_be_named_is_refused(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    char *block = hshm_malloc(heap, 100);
    void *found = NULL;
    hshm_slot *slot;
    char longest[97];
    memset(longest, 'x', sizeof longest);
    longest[96] = '\0';
    assert_status(hshm_name_set(heap, longest, block), HSHM_E_INVAL);
    assert_sentence("1 to 95 bytes");
    assert_status(hshm_name_set(heap, "", block), HSHM_E_INVAL);
    assert_status(hshm_name_set(heap, NULL, block), HSHM_E_INVAL);
    assert_status(hshm_name_get(heap, longest, &found), HSHM_E_INVAL);
    assert_status(hshm_name_get(heap, "a", NULL), HSHM_E_INVAL);
    assert_status(hshm_name_slot(heap, "a", NULL), HSHM_E_INVAL);
    assert_status(hshm_name_visit(heap, NULL, NULL), HSHM_E_INVAL);
    assert_status(hshm_name_set(heap, "a", NULL), HSHM_E_INVAL);
    assert_status(hshm_name_set(heap, "a", block + 16), HSHM_E_INVAL);
    assert_sentence("no live block");
    assert_status(hshm_name_set(heap, "a", &found), HSHM_E_INVAL);
    longest[95] = '\0';
    assert_ok(hshm_name_set(heap, longest, block));
    assert_ok(hshm_name_get(heap, longest, &found));
    longest[94] = '\0';
    assert_status(hshm_name_get(heap, longest, &found), HSHM_E_NOTFOUND);
    assert_int_equal(count_names(heap), 1);
    heap->op_table->names_lock = 1 | (uint64_t)(heap->process + 1) << 8; /* somebody who never gets done */
    assert_status(hshm_name_slot(heap, "b", &slot), HSHM_E_BUSY);
    longest[94] = 'x';
    assert_ok(hshm_name_get(heap, longest, &found));
    assert_ok(hshm_name_slot(heap, longest, &slot)); /* nothing is to be made */
    heap->op_table->names_lock = 0;
}

static void
small_and_private_heaps_have_none(void **state)
{
    hshm_allocator *heap = NULL;
    void *found = NULL;
    (void)state;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, 32 << 10, test_name("names"), NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    assert_status(hshm_name_get(heap, "a", &found), HSHM_E_NOTSUP);
    assert_sentence("smaller than 64 KiB");
    assert_status(hshm_name_visit(heap, count_one, NULL), HSHM_E_NOTSUP);
    assert_ok(hshm_backend_create(NULL, 2, HSHM_BACKEND_MALLOC, MIB, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 2, 0 }, HSHM_ALLOCATOR_MALLOC, 0, NULL, &heap));
    assert_status(hshm_name_set(heap, "a", hshm_malloc(heap, 1)), HSHM_E_NOTSUP);
}

static void
as_many_names_as_there_is_room_for(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, MIB, &table);
    void *block = hshm_malloc(heap, 10);
    void *found;
    char name[32];
    unsigned names = 0;
    hshm_status status;
    do {
        (void)snprintf(name, sizeof name, "name %u", names);
        status = hshm_name_set(heap, name, block);
        names += status == HSHM_OK;
    } while (status == HSHM_OK);
    assert_int_equal(status, HSHM_E_LIMIT);
    assert_sentence("names already");
    assert_int_equal(names, 64);
    assert_int_equal(count_names(heap), 64);
    for (unsigned round = 0; round < 1000; round++) { /* room of removed ones is used again, and searches still end */
        (void)snprintf(name, sizeof name, "name %u", round);
        assert_ok(hshm_name_remove(heap, name));
        (void)snprintf(name, sizeof name, "name %u", round + 64);
        assert_ok(hshm_name_set(heap, name, block));
        (void)snprintf(name, sizeof name, "name %u", round + 32);
        assert_ok(hshm_name_get(heap, name, &found));
    }
    assert_status(hshm_name_get(heap, "none", &found), HSHM_E_NOTFOUND);
    assert_int_equal(count_names(heap), 64);
}

struct visitor {
    const char *url;
    hshm_off off;
};

static int
find_by_name(void *arg)
{
    const struct visitor *visitor = arg;
    hshm_manager *manager = NULL;
    hshm_allocator *heap = NULL;
    void *found = NULL;
    hshm_slot *slot;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    assert_ok(hshm_manager_create(&manager));
    assert_ok(hshm_backend_attach(manager, HSHM_BACKEND_POSIX_SHM_MMAP, visitor->url, &options, NULL));
    assert_ok(hshm_allocator_get(manager, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    assert_ok(hshm_name_get(heap, "there", &found));
    assert_int_equal(hshm_to_off(heap, found), visitor->off);
    assert_string_equal(found, "what it says");
    assert_int_equal(count_names(heap), 1);
    assert_status(hshm_name_set(heap, "more", found), HSHM_E_PERM);
    assert_status(hshm_name_remove(heap, "there"), HSHM_E_PERM);
    assert_status(hshm_name_slot(heap, "more", &slot), HSHM_E_PERM);
    hshm_manager_destroy(manager);
    return 0;
}

static void
others_find_it_also_read_only(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 4 * MIB, &table);
    char *block = hshm_malloc(heap, 100);
    memcpy(block, "what it says", sizeof "what it says");
    assert_ok(hshm_name_set(heap, "there", block));
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &info));
    struct visitor visitor = { info.url, hshm_to_off(heap, block) };
    const pid_t child = child_start(find_by_name, &visitor);
    assert_int_equal(child_wait(child), 0);
}

/* ---- many at once ---- */

enum { PARTIES = 4, NAMES = 6, ROUNDS = 3000 };

struct party {
    hshm_allocator *heap;
    uint64_t seed;
    _Atomic uint64_t *made, *removed;
};

/* What is found under a name was put there under that name. */
static void
look_at_name(hshm_allocator *heap, const char *name)
{
    void *found = NULL;
    const hshm_status status = hshm_name_get(heap, name, &found);
    assert_true(status == HSHM_OK || status == HSHM_E_NOTFOUND);
    if (status == HSHM_OK)
        assert_memory_equal(found, name, strlen(name));
}

static void *
change_names(void *arg)
{
    const struct party *party = arg;
    uint64_t random = party->seed;
    char *blocks[NAMES];
    char name[NAMES][16];
    for (size_t i = 0; i < NAMES;
         i++) { /* of each name a block of one's own, so that nobody frees what another one reads */
        (void)snprintf(name[i], sizeof name[i], "name %zu", i);
        blocks[i] = hshm_malloc(party->heap, 32);
        memcpy(blocks[i], name[i], sizeof name[i]);
    }
    for (int i = 0; i < ROUNDS / (UNDER_SANITIZER ? 10 : 1); i++) {
        const size_t which = next_random(&random) % NAMES;
        hshm_status status;
        switch (next_random(&random) % 4) {
        case 0:
            status = hshm_name_set(party->heap, name[which], blocks[which]);
            assert_true(status == HSHM_OK || status == HSHM_E_EXISTS);
            atomic_fetch_add(party->made, status == HSHM_OK);
            break;
        case 1:
            status = hshm_name_remove(party->heap, name[which]);
            assert_true(status == HSHM_OK || status == HSHM_E_NOTFOUND);
            atomic_fetch_add(party->removed, status == HSHM_OK);
            break;
        default:
            look_at_name(party->heap, name[which]);
            break;
        }
    }
    return NULL;
}

static int
change_names_here(void *arg)
{
    (void)change_names(arg);
    return 0;
}

static void
threads_and_processes_change_the_same_names(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    _Atomic uint64_t *counts = shared_bytes(2 * sizeof *counts);
    pid_t children[PARTIES];
    pthread_t threads[PARTIES];
    struct party party[2 * PARTIES];
    for (size_t i = 0; i < 2 * (size_t)PARTIES; i++)
        party[i] = (struct party){ heap, test_seed() + i, &counts[0], &counts[1] };
    for (size_t i = 0; i < PARTIES; i++)
        children[i] = child_start(change_names_here, &party[i]);
    for (size_t i = 0; i < PARTIES; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, change_names, &party[PARTIES + i]), 0);
    for (size_t i = 0; i < PARTIES; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(child_wait(children[i]), 0);
    }
    assert_true(counts[0] > 10);
    assert_int_equal(counts[0] - counts[1], count_names(heap));
    assert_int_equal(heap->op_table->names_lock, 0);
    assert_sound(heap);
}

/* ---- killed ---- */

enum { VICTIMS = 40 };

static int
change_names_for_ever(void *arg)
{
    for (;;)
        (void)change_names(arg);
    return 0;
}

/* Until it has done so many calls more; then it is in the middle of some other one. */
static void
wait_for_changes(pid_t victim, _Atomic uint64_t *counts, uint64_t more)
{
    const uint64_t until = counts[0] + counts[1] + more;
    while (counts[0] + counts[1] < until) {
        assert_int_equal(waitpid(victim, NULL, WNOHANG), 0);
        (void)sched_yield();
    }
}

static void
who_is_killed_leaves_names_to_the_others(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    _Atomic uint64_t *counts = shared_bytes(2 * sizeof *counts);
    uint64_t random = test_seed();
    for (unsigned round = 0; round < VICTIMS; round++) {
        struct party party = { heap, next_random(&random), &counts[0], &counts[1] };
        const pid_t victim = child_start(change_names_for_ever, &party);
        wait_for_changes(victim, counts, 1 + next_random(&random) % 100);
        assert_int_equal(kill(victim, SIGKILL), 0);
        assert_int_equal(child_wait(victim), 128 + SIGKILL);
        (void)change_names(&party); /* the first call that needs the lock finds out */
    }
    assert_ok(hshm_recover(heap, NULL));
    assert_int_equal(heap->op_table->names_lock, 0);
    assert_sound(heap);
}

/* The lock is held by a process that is dead; each change looks for that itself. */
static int
die_with_the_lock(void *arg)
{
    hshm_allocator *heap = arg;
    assert_ok(hshm_free(heap, hshm_malloc(heap, 1)));
    heap->op_table->names_lock = 1 | (uint64_t)heap->process << 8;
    (void)raise(SIGKILL);
    return 0;
}

static void
a_dead_one_s_lock_is_let_go(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, 16 * MIB, &table);
    const pid_t victim = child_start(die_with_the_lock, heap);
    hshm_slot *slot;
    assert_int_equal(child_wait(victim), 128 + SIGKILL);
    assert_true(heap->op_table->names_lock != 0);
    assert_ok(hshm_name_slot(heap, "mine", &slot));
    assert_int_equal(heap->op_table->names_lock, 0);
}

/* Bytes of a table are input: whatever they say, calls end, and answer something. */
static void
damaged_names_are_survived(void **state)
{
    struct table *table;
    hshm_allocator *heap = table_heap((const void *const *)state, MIB, &table);
    uint64_t random = test_seed();
    for (unsigned round = 0; round < 200; round++) {
        unsigned char *bytes = (unsigned char *)heap->names;
        hshm_slot *slot;
        void *found;
        for (size_t i = 0; i < heap->name_count * sizeof *heap->names; i++)
            bytes[i] = (unsigned char)next_random(&random);
        (void)count_names(heap);
        (void)hshm_name_get(heap, "a", &found);
        if (hshm_name_slot(heap, "a", &slot) == HSHM_OK) {
            (void)hshm_allocate_to(heap, 1, slot);
            (void)hshm_free_from(heap, slot);
            (void)hshm_name_remove(heap, "a");
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OF_ALL_KINDS(a_name_leads_to_its_block),
        OF_ALL_KINDS(a_name_is_a_slot),
        OF_ALL_KINDS(a_block_is_taken_by_one),
        OF_ALL_KINDS(what_cannot_be_named_is_refused),
        OF_ALL_KINDS(small_and_private_heaps_have_none),
        OF_ALL_KINDS(as_many_names_as_there_is_room_for),
        OF_ALL_KINDS(others_find_it_also_read_only),
        OF_ALL_KINDS(threads_and_processes_change_the_same_names),
        OF_ALL_KINDS(who_is_killed_leaves_names_to_the_others),
        OF_ALL_KINDS(a_dead_one_s_lock_is_let_go),
        OF_ALL_KINDS(damaged_names_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
