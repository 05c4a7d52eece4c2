/*
 * test_first.c - who calls first.  The library is opened here, not preloaded, so that its heap is still to be made when
 * several threads call at the same moment, and when a child is forked.
 *
 * labels: no-asan no-tsan
 * (the library is not built beside a sanitizer)
 */
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY HSHM_TEST_BIN_DIR "/../preload/libhshm-preload.so"

enum { THREADS = 16 };

static struct {
    void *(*malloc)(size_t size);
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
    assert_non_null(library.malloc(1000));
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
    find(handle, "free", &library.free);
    find(handle, "malloc_usable_size", &library.malloc_usable_size);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_heap_is_made_for_all),
        cmocka_unit_test(a_full_heap_says_so_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
