/*
 * test_threads.c - one manager, many threads: ids that differ do not disturb each other, of those that race for one
 * exactly one wins, and look-ups go on meanwhile.  Runs under the thread sanitizer too.
 */
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define KIB ((size_t)1 << 10)

enum { THREADS = 8, ROUNDS = 40, STABLE_ID = 100, RACED_ID = 50 };

/* A failed assertion must not jump out of a thread: threads count what is wrong, and the test asserts that it is 0. */
static _Atomic unsigned wrong;

#define expect(holds) expect_at((holds), #holds, __LINE__)

static void
expect_at(bool holds, const char *what, int line)
{
    if (holds)
        return;
    (void)fprintf(stderr, "line %d: %s; last sentence: %s\n", line, what, hshm_last_error());
    atomic_fetch_add(&wrong, 1);
}

/* Local: what a thread gets, and what it answers. */
struct thread {
    pthread_t handle;
    void (*work)(struct thread *self);
    uint32_t index;
    hshm_manager *manager;
    const char *url;
    hshm_status status;
};

static pthread_barrier_t start_line;

static void *
run(void *arg)
{
    struct thread *self = arg;
    (void)pthread_barrier_wait(&start_line);
    self->work(self);
    return NULL;
}

/* All at once; `work` may be another function for the odd ones. */
static void
run_threads(struct thread threads[THREADS], void (*work)(struct thread *), void (*odd_work)(struct thread *))
{
    assert_int_equal(pthread_barrier_init(&start_line, NULL, THREADS), 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        threads[i].index = i;
        threads[i].work = i % 2 == 0 ? work : odd_work;
        assert_int_equal(pthread_create(&threads[i].handle, NULL, run, &threads[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i].handle, NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&start_line), 0);
    assert_int_equal(wrong, 0);
}

/* ---- ids that differ ---- */

static void
live_and_die(struct thread *self)
{
    const hshm_backend_id id = self->index;
    const hshm_allocator_id allocator_id = { self->index, 1 };
    const hshm_backend_kind kind = self->index % 2 == 0 ? HSHM_BACKEND_MALLOC : HSHM_BACKEND_POSIX_SHM_MMAP;
    for (int round = 0; round < ROUNDS; round++) {
        hshm_allocator *heap = NULL, *found = NULL;
        expect(hshm_backend_create(self->manager, id, kind, 16 * KIB, self->url, NULL, NULL) == HSHM_OK);
        expect(hshm_allocator_create(self->manager, id, allocator_id, HSHM_ALLOCATOR_STACK, 0, NULL, &heap) == HSHM_OK);
        expect(hshm_allocator_get(self->manager, allocator_id, HSHM_ALLOCATOR_STACK, &found) == HSHM_OK);
        expect(found == heap);
        unsigned char *block = hshm_malloc(heap, 64);
        expect(block != NULL);
        memset(block, (int)self->index, 64);
        hshm_shm_ptr pointer;
        void *addr = NULL;
        expect(hshm_identify(self->manager, block, &pointer) == HSHM_OK);
        expect(pointer.allocator.major == self->index);
        expect(hshm_resolve(self->manager, pointer, &addr) == HSHM_OK && addr == block);
        expect(block[63] == self->index);
        if (round % 3 == 0)
            expect(hshm_allocator_unregister(self->manager, allocator_id) == HSHM_OK);
        expect(hshm_backend_destroy(self->manager, id) == HSHM_OK);
        expect(hshm_backend_get(self->manager, id) == NULL);
    }
}

static void
threads_with_ids_of_their_own_do_not_disturb_each_other(void **state)
{
    (void)state;
    const struct footprint before = footprint_take();
    struct thread threads[THREADS] = { 0 };
    char urls[THREADS][256];
    for (size_t i = 0; i < THREADS; i++) {
        (void)snprintf(urls[i], sizeof urls[i], "%s", test_name("own"));
        threads[i].url = urls[i];
    }
    run_threads(threads, live_and_die, live_and_die);
    assert_footprint(before);
}

/* ---- look-ups meanwhile ---- */

static hshm_shm_ptr stable_pointer;
static void *stable_block;

static void
look_up(struct thread *self)
{
    for (int round = 0; round < ROUNDS * 10; round++) {
        hshm_allocator *heap = NULL;
        void *addr = NULL;
        hshm_shm_ptr pointer;
        expect(hshm_backend_get(self->manager, STABLE_ID) != NULL);
        expect(hshm_allocator_get(self->manager, stable_pointer.allocator, HSHM_ALLOCATOR_STACK, &heap) == HSHM_OK);
        expect(hshm_resolve(self->manager, stable_pointer, &addr) == HSHM_OK && addr == stable_block);
        expect(hshm_identify(self->manager, stable_block, &pointer) == HSHM_OK && pointer.off == stable_pointer.off);
        /* What comes and goes is there or it is not; the handle is the other thread's, and not touched here. */
        const uint32_t id = (uint32_t)round % THREADS;
        (void)hshm_backend_get(self->manager, id);
        const hshm_allocator_id flapping = { id, 1 };
        hshm_status status = hshm_allocator_get(self->manager, flapping, HSHM_ALLOCATOR_STACK, &heap);
        expect(status == HSHM_OK || status == HSHM_E_NOTFOUND);
        status = hshm_allocator_get(self->manager, flapping, HSHM_ALLOCATOR_MALLOC, &heap);
        expect(status == HSHM_E_KIND || status == HSHM_E_NOTFOUND);
        status = hshm_resolve(self->manager, (hshm_shm_ptr){ flapping, stable_pointer.off }, &addr);
        expect(status == HSHM_OK || status == HSHM_E_NOTFOUND || status == HSHM_E_INVAL);
    }
}

static void
look_ups_go_on_while_others_create_and_destroy(void **state)
{
    (void)state;
    const struct footprint before = footprint_take();
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, STABLE_ID, HSHM_BACKEND_MALLOC, 16 * KIB, NULL, NULL, NULL));
    assert_ok(hshm_allocator_create(NULL, STABLE_ID, (hshm_allocator_id){ STABLE_ID, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL,
                                    &heap));
    hshm_ptr block;
    assert_ok(hshm_allocate(heap, 64, &block));
    stable_pointer = block.shm;
    stable_block = block.addr;
    struct thread threads[THREADS] = { 0 };
    char urls[THREADS][256];
    for (size_t i = 0; i < THREADS; i++) {
        (void)snprintf(urls[i], sizeof urls[i], "%s", test_name("own"));
        threads[i].url = urls[i];
    }
    run_threads(threads, live_and_die, look_up);
    assert_ok(hshm_backend_destroy(NULL, STABLE_ID));
    assert_footprint(before);
}

/* ---- races: one winner ---- */

static unsigned
count_of(const struct thread threads[THREADS], hshm_status status)
{
    unsigned count = 0;
    for (size_t i = 0; i < THREADS; i++)
        count += threads[i].status == status;
    return count;
}

static void
assert_one_wins(const struct thread threads[THREADS], hshm_status others)
{
    assert_int_equal(count_of(threads, HSHM_OK), 1);
    assert_int_equal(count_of(threads, others), THREADS - 1);
}

static void
create_raced_backend(struct thread *self)
{
    self->status = hshm_backend_create(NULL, RACED_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 16 * KIB, self->url, NULL, NULL);
}

static void
create_raced_allocator(struct thread *self)
{
    self->status = hshm_allocator_create(NULL, RACED_ID, (hshm_allocator_id){ self->index, 0 }, HSHM_ALLOCATOR_STACK, 0,
                                         NULL, NULL);
}

static void
create_raced_name(struct thread *self)
{
    self->status = hshm_backend_create(NULL, self->index, HSHM_BACKEND_POSIX_SHM_MMAP, 16 * KIB, self->url, NULL, NULL);
}

static void
destroy_raced(struct thread *self)
{
    self->status = hshm_backend_destroy(NULL, RACED_ID);
}

static void
detach_raced(struct thread *self)
{
    self->status = hshm_backend_detach(NULL, RACED_ID);
}

static void
unregister_raced(struct thread *self)
{
    self->status = hshm_allocator_unregister(NULL, (hshm_allocator_id){ 1, 0 });
}

static void
attach_raced(struct thread *self)
{
    self->status = hshm_backend_attach(self->manager, HSHM_BACKEND_POSIX_SHM_MMAP, self->url, NULL, NULL);
}

static void
share_url(struct thread threads[THREADS], const char *url)
{
    memset(threads, 0, THREADS * sizeof *threads);
    for (size_t i = 0; i < THREADS; i++)
        threads[i].url = url;
}

static void
of_those_who_create_one_backend_id_one_wins(void **state)
{
    (void)state;
    const struct footprint before = footprint_take();
    for (int round = 0; round < ROUNDS; round++) {
        struct thread threads[THREADS] = { 0 };
        char urls[THREADS][256];
        for (size_t i = 0; i < THREADS; i++) {
            (void)snprintf(urls[i], sizeof urls[i], "%s", test_name("raced"));
            threads[i].url = urls[i];
        }
        run_threads(threads, create_raced_backend, create_raced_backend);
        assert_one_wins(threads, HSHM_E_EXISTS);
        assert_int_equal(footprint_take().names, before.names + 1);
        run_threads(threads, create_raced_allocator, create_raced_allocator);
        assert_one_wins(threads, HSHM_E_EXISTS);
        run_threads(threads, destroy_raced, round % 2 == 0 ? destroy_raced : detach_raced);
        assert_one_wins(threads, HSHM_E_NOTFOUND);
        for (size_t i = 0; i < THREADS; i++) /* a detach may have won, and left the name */
            (void)hshm_backend_remove(HSHM_BACKEND_POSIX_SHM_MMAP, urls[i]);
        assert_footprint(before);
    }
}

static void
of_those_who_create_one_name_one_wins(void **state)
{
    (void)state;
    const struct footprint before = footprint_take();
    for (int round = 0; round < ROUNDS; round++) {
        struct thread threads[THREADS];
        share_url(threads, test_name("raced"));
        run_threads(threads, create_raced_name, create_raced_name);
        assert_one_wins(threads, HSHM_E_EXISTS);
        for (uint32_t i = 0; i < THREADS; i++)
            assert_status(hshm_backend_destroy(NULL, i), threads[i].status == HSHM_OK ? HSHM_OK : HSHM_E_NOTFOUND);
        assert_footprint(before);
    }
}

static void
of_those_who_unregister_one_wins(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct thread threads[THREADS];
        share_url(threads, NULL);
        (void)make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, 16 * KIB, HSHM_ALLOCATOR_STACK);
        run_threads(threads, unregister_raced, unregister_raced);
        assert_one_wins(threads, HSHM_E_NOTFOUND);
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
}

static uint32_t
processes_in(hshm_manager *manager)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(manager, 1), &info));
    return info.processes;
}

/* Into one manager: one attaches, and the others' slots come back.  Into managers of their own: all attach. */
static void
of_those_who_attach_in_one_manager_one_wins(void **state)
{
    (void)state;
    const char *name = test_name("raced");
    hshm_manager *owner = NULL;
    assert_ok(hshm_manager_create(&owner));
    (void)make_heap(owner, HSHM_BACKEND_POSIX_SHM_MMAP, name, 64 * KIB, HSHM_ALLOCATOR_STACK);
    const struct footprint before = footprint_take();
    for (int round = 0; round < ROUNDS; round++) {
        struct thread threads[THREADS];
        share_url(threads, name);
        run_threads(threads, attach_raced, attach_raced);
        assert_one_wins(threads, HSHM_E_EXISTS);
        assert_int_equal(processes_in(owner), 2);
        assert_ok(hshm_backend_detach(NULL, 1));

        for (size_t i = 0; i < THREADS; i++)
            assert_ok(hshm_manager_create(&threads[i].manager));
        run_threads(threads, attach_raced, attach_raced);
        assert_int_equal(count_of(threads, HSHM_OK), THREADS);
        assert_int_equal(processes_in(owner), 1 + THREADS);
        for (size_t i = 0; i < THREADS; i++)
            hshm_manager_destroy(threads[i].manager);
        assert_int_equal(processes_in(owner), 1);
        assert_footprint(before);
    }
    assert_ok(hshm_backend_destroy(owner, 1));
    hshm_manager_destroy(owner);
}

/* ---- managers themselves ---- */

static void
come_and_go(struct thread *self)
{
    for (int round = 0; round < ROUNDS; round++) {
        hshm_manager *manager = NULL;
        expect(hshm_manager_create(&manager) == HSHM_OK);
        expect(hshm_backend_create(manager, self->index, HSHM_BACKEND_MALLOC, 8 * KIB, NULL, NULL, NULL) == HSHM_OK);
        expect(hshm_allocator_create(manager, self->index, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL,
                                     NULL) == HSHM_OK);
        hshm_manager_destroy(manager);
    }
}

static void
managers_come_and_go_in_all_threads(void **state)
{
    (void)state;
    const struct footprint before = footprint_take();
    struct thread threads[THREADS] = { 0 };
    run_threads(threads, come_and_go, come_and_go);
    assert_footprint(before);
}

/* ---- sentences ---- */

static void
fail_and_read(struct thread *self)
{
    char part[32];
    (void)snprintf(part, sizeof part, "no backend %u is", 1000 + self->index);
    for (int round = 0; round < ROUNDS * 10; round++) {
        expect(hshm_backend_destroy(self->manager, 1000 + self->index) == HSHM_E_NOTFOUND);
        expect(strstr(hshm_last_error(), part) != NULL);
        expect(hshm_last_status() == HSHM_E_NOTFOUND);
    }
}

static void
each_thread_reads_its_own_failure(void **state)
{
    (void)state;
    struct thread threads[THREADS] = { 0 };
    run_threads(threads, fail_and_read, fail_and_read);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_with_ids_of_their_own_do_not_disturb_each_other),
        cmocka_unit_test(look_ups_go_on_while_others_create_and_destroy),
        cmocka_unit_test(of_those_who_create_one_backend_id_one_wins),
        cmocka_unit_test(of_those_who_create_one_name_one_wins),
        cmocka_unit_test(of_those_who_unregister_one_wins),
        cmocka_unit_test(of_those_who_attach_in_one_manager_one_wins),
        cmocka_unit_test(managers_come_and_go_in_all_threads),
        cmocka_unit_test(each_thread_reads_its_own_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
