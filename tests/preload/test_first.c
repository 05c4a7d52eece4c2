/*
 * test_first.c - who calls first.  The library is opened here, not preloaded, so that its heap is still to be made when
 * several threads call at the same moment, and when a child is forked.
 *
 * labels: no-asan no-tsan
 * (the library is not built beside a sanitizer)
 */
#include "bytes.h"
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LIBRARY HSHM_TEST_BIN_DIR "/../preload/libhshm-preload.so"

enum { THREADS = 16 };

static struct {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *addr, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    void (*free)(void *addr);
    size_t (*malloc_usable_size)(void *addr);
} library;

static pthread_barrier_t start;

static void *
call_first(void *arg)
{
    (void)arg;
    (void)pthread_barrier_wait(&start);
    void *block = library.malloc(100);
    if (block != NULL)
        memset(block, 1, 100);
    return block;
}

/* All blocks must be the heap's: of two heaps, one would not know the other's. */
static int
call_all_at_once(void *arg)
{
    (void)arg;
    pthread_t threads[THREADS];
    void *blocks[THREADS];
    assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_first, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], &blocks[i]), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_non_null(blocks[i]);
        assert_true(library.malloc_usable_size(blocks[i]) >= 100);
        library.free(blocks[i]);
        assert_int_equal(library.malloc_usable_size(blocks[i]), 0);
    }
    return 0;
}

static void
one_heap_is_made_for_all(void **state)
{
    (void)state;
    /* Each child begins without a heap. */
    for (int i = 0; i < 200; i++)
        assert_int_equal(child_run(call_all_at_once, NULL), 0);
}

static int
fail_to_find_room(void *arg)
{
    (void)arg;
    size_t taken = 0;
    void *first = NULL;
    errno = 0;
    for (void *block = library.malloc(10000); block != NULL; block = library.malloc(10000)) {
        memset(block, 1, 10000);
        first = block;
        taken++;
    }
    assert_int_equal(errno, ENOMEM);
    assert_in_range(taken, 1000, 16 * 1024 * 1024 / 10000); /* of a heap of 16 MiB */
    library.free(first);
    assert_non_null(library.malloc(10000));
    return 0;
}

static void
a_full_heap_says_so_and_goes_on(void **state)
{
    (void)state;
    assert_int_equal(setenv("HSHM_PRELOAD_SIZE", "16M", 1), 0);
    assert_int_equal(child_run(fail_to_find_room, NULL), 0);
    assert_int_equal(unsetenv("HSHM_PRELOAD_SIZE"), 0);
}

/* Before the C library knows the environment, and so the settings, blocks come from elsewhere. */
static int
call_before_there_is_an_environment(void *arg)
{
    char **known = environ;
    unsigned char *early[8];
    (void)arg;
    environ = NULL;
    for (size_t i = 0; i < 8; i++) {
        early[i] = i % 2 == 0 ? library.memalign(4096 >> i, 1000) : library.calloc(10, 100);
        assert_int_equal((uintptr_t)early[i] % (i % 2 == 0 ? 4096 >> i : 16), 0);
        assert_true(is_all(early[i], 1000, 0));
        assert_int_equal(library.malloc_usable_size(early[i]), 1000);
        memset(early[i], (int)i + 1, 1000);
    }
    library.free(early[7]);
    early[0] = library.realloc(early[0], 2000);
    assert_true(is_all(early[0], 1000, 1));
    environ = known;
    void *late = library.malloc(1000); /* of the heap */
    assert_true(library.malloc_usable_size(late) >= 1000);
    for (size_t i = 1; i < 7; i++) {
        assert_true(is_all(early[i], 1000, (unsigned char)(i + 1)));
        assert_int_equal(library.malloc_usable_size(early[i]), 1000);
        early[i] = library.realloc(early[i], i < 4 ? 3000 : 500);
        assert_true(is_all(early[i], 500, (unsigned char)(i + 1)));
        library.free(early[i]);
        assert_int_equal(library.malloc_usable_size(early[i]), 0); /* known to be freed: it was the heap's */
    }
    library.free(early[0]);
    library.free(late);
    return 0;
}

static void
calls_before_there_is_an_environment_are_served(void **state)
{
    (void)state;
    assert_int_equal(child_run(call_before_there_is_an_environment, NULL), 0);
}

/* An environment that never comes (clearenv() before the first call) does not keep the heap away. */
static int
call_without_an_environment(void *arg)
{
    (void)arg;
    assert_int_equal(clearenv(), 0);
    for (int i = 0; i < 1000; i++) {
        void *block = library.malloc(1000);
        assert_non_null(block);
        memset(block, 1, 1000);
    }
    assert_non_null(library.malloc(10 << 20));
    return 0;
}

static void
without_an_environment_there_is_a_heap_all_the_same(void **state)
{
    (void)state;
    assert_int_equal(child_run(call_without_an_environment, NULL), 0);
}

static int
call_where_nothing_can_be_mapped(void *arg)
{
    (void)arg;
    /* What the system's malloc can give without the system. */
    void *room[100];
    for (size_t i = 0; i < 100; i++)
        room[i] = malloc(2000);
    for (size_t i = 0; i < 100; i++)
        free(room[i]);
    const struct rlimit none = { 0, 0 };
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    unsigned char *block = library.malloc(1000);
    assert_non_null(block);
    assert_true(library.malloc_usable_size(block) >= 1000);
    memset(block, 1, 1000);
    block = library.realloc(block, 1500);
    assert_true(is_all(block, 1000, 1));
    free(block); /* it is the system's indeed */
    block = library.calloc(100, 10);
    assert_true(is_all(block, 1000, 0));
    library.free(block);
    library.free(NULL);
    errno = 0;
    assert_null(library.malloc(SIZE_MAX / 4));
    assert_int_equal(errno, ENOMEM);
    return 0;
}

static void
where_no_heap_can_be_the_systems_malloc_serves(void **state)
{
    (void)state;
    assert_int_equal(child_run(call_where_nothing_can_be_mapped, NULL), 0);
}

/* A child that is forked before there is a heap makes its own, and so do its parent and its children. */
static int
fork_before_the_first_call(void *arg)
{
    (void)arg;
    assert_int_equal(child_run(call_all_at_once, NULL), 0);
    assert_int_equal(call_all_at_once(NULL), 0);
    void *block = library.malloc(10);
    assert_int_equal(child_run(call_all_at_once, NULL), 0);
    library.free(block);
    return 0;
}

static void
forks_before_and_after_the_first_call_are_alike(void **state)
{
    (void)state;
    assert_int_equal(child_run(fork_before_the_first_call, NULL), 0);
}

static void *
fork_while_it_is_made(void *arg)
{
    (void)pthread_barrier_wait(&start);
    const pid_t pid = fork();
    if (pid == 0) {
        void *block = library.malloc(100);
        const bool good = block != NULL && library.malloc_usable_size(block) >= 100;
        library.free(block);
        _exit(good ? 0 : 1);
    }
    *(int *)arg = child_wait(pid);
    return NULL;
}

static int
make_and_fork_at_once(void *arg)
{
    pthread_t threads[2];
    void *block;
    int status = -1;
    (void)arg;
    assert_int_equal(pthread_barrier_init(&start, NULL, 2), 0);
    assert_int_equal(pthread_create(&threads[0], NULL, call_first, NULL), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, fork_while_it_is_made, &status), 0);
    assert_int_equal(pthread_join(threads[0], &block), 0);
    assert_int_equal(pthread_join(threads[1], NULL), 0);
    assert_int_equal(status, 0);
    assert_true(library.malloc_usable_size(block) >= 100);
    return 0;
}

static void
a_child_forked_while_the_heap_is_made_has_one(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++)
        assert_int_equal(child_run(make_and_fork_at_once, NULL), 0);
}

static void
find(void *handle, const char *name, void *ret_function)
{
    void *found = dlsym(handle, name);
    assert_non_null(found);
    memcpy(ret_function, &found, sizeof found);
}

int
main(void)
{
    if (access(LIBRARY, R_OK) != 0) {
        puts("libhshm-preload.so was not built");
        return 77;
    }
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        puts(dlerror());
        return 1;
    }
    find(handle, "malloc", &library.malloc);
    find(handle, "calloc", &library.calloc);
    find(handle, "realloc", &library.realloc);
    find(handle, "memalign", &library.memalign);
    find(handle, "free", &library.free);
    find(handle, "malloc_usable_size", &library.malloc_usable_size);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_heap_is_made_for_all),
        cmocka_unit_test(calls_before_there_is_an_environment_are_served),
        cmocka_unit_test(without_an_environment_there_is_a_heap_all_the_same),
        cmocka_unit_test(where_no_heap_can_be_the_systems_malloc_serves),
        cmocka_unit_test(forks_before_and_after_the_first_call_are_alike),
        cmocka_unit_test(a_child_forked_while_the_heap_is_made_has_one),
        cmocka_unit_test(a_full_heap_says_so_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
