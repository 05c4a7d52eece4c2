/*
 * test_unload.c - a program that loads the shared library, uses heaps of slabs in several threads, and unloads it, lives on;
 * also when those threads end only then.
 *
 * labels: no-asan no-tsan
 * (their own threads' bookkeeping does not expect libraries to come and go)
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

enum { BLOCKS = 1000, SPINS = 200 * 1000 * 1000 };

struct library {
    void *handle;
    __typeof__(&hshm_backend_create) backend_create;
    __typeof__(&hshm_allocator_create) allocator_create;
    __typeof__(&hshm_backend_destroy) backend_destroy;
    __typeof__(&hshm_malloc) malloc;
    __typeof__(&hshm_free) free;
};

/* ISO C has no cast from an object's pointer to a function's. */
static void
find(const struct library *library, const char *name, void *ret_function)
{
    void *found = dlsym(library->handle, name);
    assert_non_null(found);
    memcpy(ret_function, &found, sizeof found);
}

static void
load(struct library *library)
{
    library->handle = dlopen(HSHM_SHARED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library->handle == NULL)
        fail_msg("%s", dlerror());
    find(library, "hshm_backend_create", &library->backend_create);
    find(library, "hshm_allocator_create", &library->allocator_create);
    find(library, "hshm_backend_destroy", &library->backend_destroy);
    find(library, "hshm_malloc", &library->malloc);
    find(library, "hshm_free", &library->free);
}

struct user {
    const struct library *library;
    hshm_allocator *heap;
    struct step *used, *unloaded;
};

static void
use(const struct library *library, hshm_allocator *heap)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        void *block = library->malloc(heap, i);
        assert_non_null(block);
        assert_int_equal(library->free(heap, block), HSHM_OK);
    }
}

static void *
use_and_outlive(void *arg)
{
    const struct user *user = arg;
    use(user->library, user->heap);
    step_reach(user->used);
    step_wait(user->unloaded, 1);
    return NULL;
}

static void
the_library_may_be_unloaded(void **state)
{
    const hshm_allocator_kind kind = *(const hshm_allocator_kind *)*state;
    struct library library;
    struct step *steps = shared_bytes(2 * sizeof *steps);
    hshm_allocator *heap = NULL;
    load(&library);
    assert_int_equal(library.backend_create(NULL, 1, HSHM_BACKEND_MALLOC, (size_t)64 << 20, "", NULL, NULL), HSHM_OK);
    assert_int_equal(library.allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, 0, NULL, &heap), HSHM_OK);

    struct user user = { &library, heap, &steps[0], &steps[1] };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, use_and_outlive, &user), 0);
    step_wait(user.used, 1);
    use(&library, heap);
    assert_int_equal(library.backend_destroy(NULL, 1), HSHM_OK);
    assert_int_equal(dlclose(library.handle), 0);
    step_reach(user.unloaded);
    assert_int_equal(pthread_join(thread, NULL), 0);
    /* The kernel looks at a thread's last restartable sequence when it interrupts the thread. */
    for (volatile unsigned spin = 0; spin < SPINS; spin++)
        ;
}

int
main(void)
{
    static hshm_allocator_kind kinds[] = { HSHM_ALLOCATOR_SCALABLE_PAGE, HSHM_ALLOCATOR_THREAD_LOCAL };
    const struct CMUnitTest tests[] = {
        { "the_library_may_be_unloaded (ScalablePage)", the_library_may_be_unloaded, NULL, NULL, &kinds[0] },
        { "the_library_may_be_unloaded (ThreadLocal)", the_library_may_be_unloaded, NULL, NULL, &kinds[1] },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
