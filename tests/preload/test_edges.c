/*
 * test_edges.c - what programs may expect of malloc and its family, asked of the preloaded one.
 *
 * labels: no-asan no-tsan
 * (a sanitizer brings its own malloc, and the library is not built beside one)
 *
 * The program starts itself again with LD_PRELOAD set.
 */
#include "bytes.h"
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIBRARY HSHM_TEST_BIN_DIR "/../preload/libhshm-preload.so"

enum { GRANULE = 16, PAGE = 4096 };

/* Not known at compile time, so that no compiler judges what is tried here. */
static volatile size_t huge = SIZE_MAX;
static volatile size_t zero = 0;

static void *
launder(void *addr)
{
    void *volatile there = addr;
    return there;
}

static bool
is_aligned(const void *addr, size_t alignment)
{
    return ((uintptr_t)addr & (alignment - 1)) == 0;
}

/* ---- before main() ---- */

static void *from_preinit;
static void *from_constructor;

static void
preinit(void)
{
    from_preinit = malloc(1000);
    memset(from_preinit, 7, 1000);
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = preinit;

__attribute__((constructor)) static void
constructor(void)
{
    from_constructor = calloc(10, 100);
}

static void
blocks_from_before_main_are_blocks_like_others(void **state)
{
    (void)state;
    assert_true(is_all(from_preinit, 1000, 7));
    assert_true(is_all(from_constructor, 1000, 0));
    from_preinit = realloc(from_preinit, 100000);
    assert_true(is_all(from_preinit, 1000, 7));
    free(from_preinit);
    free(from_constructor);
}

/* ---- one call each ---- */

static void
it_is_the_preloaded_one(void **state)
{
    static const char *const names[] = {
        "malloc", "calloc",  "free",         "realloc",     "memalign",           "aligned_alloc", "posix_memalign",
        "valloc", "pvalloc", "reallocarray", "malloc_trim", "malloc_usable_size", "free_sized",    "free_aligned_sized"
    };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        Dl_info info;
        void *found = dlsym(RTLD_DEFAULT, names[i]);
        assert_non_null(found);
        assert_int_not_equal(dladdr(found, &info), 0);
        assert_non_null(strstr(info.dli_fname, "libhshm-preload.so"));
    }
    assert_null(dlsym(RTLD_DEFAULT, "hshm_malloc"));
}

static void
blocks_are_aligned_apart_and_as_large_as_asked(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    unsigned char *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        const size_t size = i < 200 ? i : i * i;
        blocks[i] = malloc(size);
        assert_non_null(blocks[i]);
        assert_true(is_aligned(blocks[i], GRANULE));
        assert_true(malloc_usable_size(blocks[i]) >= size);
        memset(blocks[i], (int)(i & 255), malloc_usable_size(blocks[i]));
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(is_all(blocks[i], malloc_usable_size(blocks[i]), (unsigned char)i));
        free(blocks[i]);
    }
}

static void
nothing_has_an_address_of_its_own(void **state)
{
    (void)state;
    void *first = malloc(zero);
    void *second = malloc(zero);
    void *third = calloc(zero, 10);
    assert_true(first != NULL && second != NULL && third != NULL);
    assert_true(first != second && second != third && first != third);
    free(first);
    free(second);
    free(third);
    free(NULL);
    assert_int_equal(malloc_usable_size(NULL), 0);
}

static void
calloc_gives_zeros_where_others_wrote(void **state)
{
    (void)state;
    for (size_t size = 1; size < 200000; size = size * 3 + 1) {
        for (int again = 0; again < 3; again++) {
            void *dirty = malloc(size);
            memset(dirty, 0xff, size);
            free(dirty);
            unsigned char *clean = calloc(size, 1);
            assert_true(is_all(clean, size, 0));
            memset(clean, 0xff, size);
            free(clean);
        }
    }
}

#define assert_no_memory(call)           \
    do {                                 \
        errno = 0;                       \
        assert_null(call);               \
        assert_int_equal(errno, ENOMEM); \
    } while (0)

static void
what_nobody_has_is_refused(void **state)
{
    (void)state;
    void *block = malloc(100);
    memset(block, 5, 100);
    for (size_t size = huge; size > huge / 2; size -= huge / 16 + 1) {
        assert_no_memory(malloc(size));
        assert_no_memory(calloc(size, 1));
        assert_no_memory(realloc(launder(block), size));
        assert_no_memory(memalign(64, size));
        assert_no_memory(aligned_alloc(64, size));
        assert_no_memory(valloc(size));
        assert_no_memory(pvalloc(size));
        errno = 0;
        void *kept = block;
        assert_int_equal(posix_memalign(&kept, 64, size), ENOMEM);
        assert_ptr_equal(kept, block);
        assert_int_equal(errno, 0);
    }
    assert_no_memory(calloc(huge / 2 + 2, 2));
    assert_no_memory(calloc(huge / 8, 100));
    assert_no_memory(reallocarray(launder(block), huge / 2 + 2, 2));
    assert_no_memory(reallocarray(NULL, huge / 8, 100));
    assert_true(is_all(block, 100, 5));
    free(block);
}

static void
aligned_blocks_are_aligned(void **state)
{
    (void)state;
    void *block = NULL;
    for (size_t alignment = 1; alignment <= (1 << 22); alignment *= 2) {
        for (size_t size = 0; size < 100000; size = size * 7 + 1) {
            void *blocks[] = { memalign(alignment, size), aligned_alloc(alignment, size), NULL };
            if (alignment >= sizeof(void *))
                assert_int_equal(posix_memalign(&blocks[2], alignment, size), 0);
            for (size_t i = 0; i < 3; i++) {
                assert_true(blocks[i] != NULL || i == 2);
                assert_true(is_aligned(blocks[i], alignment));
                if (blocks[i] != NULL)
                    memset(blocks[i], 1, size);
                free(blocks[i]);
            }
        }
    }
    block = valloc(10);
    assert_true(block != NULL && is_aligned(block, PAGE));
    free(block);
    block = pvalloc(PAGE + 1);
    assert_true(block != NULL && is_aligned(block, PAGE) && malloc_usable_size(block) >= 2 * PAGE);
    free(block);
}

static void
impossible_alignments_are_as_in_glibc(void **state)
{
    (void)state;
    void *block = NULL;
    /* memalign takes the next power of two, the others want one. */
    block = memalign(24 + zero, 100);
    assert_true(block != NULL && is_aligned(block, 32));
    free(block);
    block = memalign(zero, 100);
    assert_true(block != NULL && is_aligned(block, GRANULE));
    free(block);
    block = NULL;
    errno = 0;
    assert_null(aligned_alloc(24 + zero, 100));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(memalign(huge, 100));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_int_equal(posix_memalign(&block, 24 + zero, 100), EINVAL);
    assert_int_equal(posix_memalign(&block, 4, 100), EINVAL);
    assert_int_equal(posix_memalign(&block, zero, 100), EINVAL);
    assert_int_equal(errno, 0);
    assert_null(block);
}

static void
realloc_keeps_the_content(void **state)
{
    (void)state;
    unsigned char *block = realloc(NULL, 1);
    block[0] = 0;
    size_t size = 1;
    for (size_t step = 1; step < 200; step++) {
        const size_t next = step % 5 == 0 ? size / 2 : size * 2 > 1000000 ? 100 + step : size * 2 + step;
        void *other = malloc(step); /* in its way */
        block = realloc(block, next);
        assert_non_null(block);
        assert_true(is_aligned(block, GRANULE));
        assert_true(is_all(block, size < next ? size : next, (unsigned char)(step - 1)));
        memset(block, (int)(step & 255), next);
        size = next;
        free(other);
    }
    void *aligned = memalign(PAGE, 100);
    memset(aligned, 3, 100);
    aligned = realloc(aligned, 10000);
    assert_true(is_all(aligned, 100, 3));
    aligned = reallocarray(aligned, 5, 20);
    assert_true(is_all(aligned, 100, 3));
    assert_null(realloc(aligned, zero)); /* frees */
    free(block);
}

static void
free_leaves_errno_alone(void **state)
{
    (void)state;
    void *blocks[] = { malloc(1), malloc(1000), malloc(1000000), malloc(50000000), NULL };
    memset(blocks[3], 1, 50000000);
    for (size_t i = 0; i < 5; i++) {
        errno = 12345;
        free(blocks[i]);
        assert_int_equal(errno, 12345);
    }
}

static void
wrong_addresses_change_nothing(void **state)
{
    (void)state;
    static char fixed[64];
    char local[64];
    void *mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *live = malloc(200);
    void *freed = malloc(200);
    memset(live, 9, 200);
    free(freed);
    void *const wrong[] = { fixed + 16,
                            local + 16,
                            mapped,
                            live + 16,
                            live + 1,
                            live + 199,
                            freed,
                            (void *)(uintptr_t)16,
                            (void *)(uintptr_t)-16,
                            (void *)(uintptr_t)1 };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        errno = 12345;
        free(launder(wrong[i]));
        assert_int_equal(errno, 12345);
        assert_int_equal(malloc_usable_size(launder(wrong[i])), 0);
        errno = 0;
        assert_null(realloc(launder(wrong[i]), 10));
        assert_int_equal(errno, EINVAL);
    }
    assert_true(is_all(live, 200, 9));
    live = realloc(live, 400);
    assert_true(is_all(live, 200, 9));
    free(live);
    assert_int_equal(munmap(mapped, PAGE), 0);
}

static void
sized_frees_free(void **state)
{
    (void)state;
    /* Not in every C library's headers. */
    void (*free_sized)(void *, size_t);
    void (*free_aligned_sized)(void *, size_t, size_t);
    *(void **)&free_sized = dlsym(RTLD_DEFAULT, "free_sized");
    *(void **)&free_aligned_sized = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    void *block = malloc(100);
    free_sized(block, 100);
    assert_int_equal(malloc_usable_size(launder(block)), 0);
    block = aligned_alloc(128, 256);
    free_aligned_sized(block, 128, 256);
    assert_int_equal(malloc_usable_size(launder(block)), 0);
    free_sized(NULL, 0);
    assert_in_range(malloc_trim(0), 0, 1);
}

static void
the_c_library_lives_on_it_too(void **state)
{
    (void)state;
    char *line = NULL;
    size_t capacity = 0;
    char *text = NULL;
    assert_true(asprintf(&text, "%0*d", 5000, 42) == 5000);
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_true(fprintf(file, "%s\n", text) == 5001);
    rewind(file);
    assert_int_equal(getline(&line, &capacity, file), 5001);
    assert_memory_equal(line, text, 5000);
    assert_int_equal(fclose(file), 0);
    assert_true(malloc_usable_size(line) >= capacity);
    char *copy = strdup(text);
    assert_string_equal(copy, text);
    free(copy);
    free(text);
    free(line);
}

/* ---- threads ---- */

enum { THREADS = 8, ROUNDS = 3000 };

static void *_Atomic exchange[64];

/* Puts blocks where others take them from; whoever takes one frees it. */
static void *
trade(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        const size_t size = 16 + next_random(&random) % 2000;
        unsigned char *block = malloc(size);
        if (block == NULL)
            return (void *)"no block";
        memset(block, (int)(size & 255), size);
        memcpy(block, &size, sizeof size);
        unsigned char *taken = atomic_exchange(&exchange[next_random(&random) % 64], block);
        if (taken == NULL)
            continue;
        size_t its_size;
        memcpy(&its_size, taken, sizeof its_size);
        if (!is_all(taken + sizeof its_size, its_size - sizeof its_size, (unsigned char)its_size))
            return (void *)"a block was given out twice";
        free(taken);
    }
    return NULL;
}

static void
run_threads(void *(*fn)(void *), size_t count)
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fn, (void *)(i + 1)), 0);
    for (size_t i = 0; i < count; i++) {
        void *complaint = NULL;
        assert_int_equal(pthread_join(threads[i], &complaint), 0);
        if (complaint != NULL)
            fail_msg("%s", (const char *)complaint);
    }
}

static void
threads_free_each_others_blocks(void **state)
{
    (void)state;
    run_threads(trade, THREADS);
    for (size_t i = 0; i < 64; i++)
        free(atomic_exchange(&exchange[i], NULL));
}

static pthread_key_t last_words;

static void
speak(void *block)
{
    /* At a thread's end, perhaps after the heap's own farewell to it. */
    free(block);
    free(malloc(100));
}

static void *
live_shortly(void *arg)
{
    (void)arg;
    if (pthread_setspecific(last_words, malloc(50)) != 0)
        return (void *)"no last words";
    free(malloc(1000));
    return NULL;
}

static void
threads_come_and_go(void **state)
{
    (void)state;
    assert_int_equal(pthread_key_create(&last_words, speak), 0);
    for (int i = 0; i < 300; i++)
        run_threads(live_shortly, 4);
    assert_int_equal(pthread_key_delete(last_words), 0);
}

/* ---- other processes ---- */

static int
use_in_child(void *arg)
{
    unsigned char *inherited = arg;
    if (!is_all(inherited, 1000, 1))
        return 1;
    memset(inherited, 2, 1000);
    unsigned char *grown = realloc(inherited, 100000);
    if (grown == NULL || !is_all(grown, 1000, 2))
        return 2;
    free(grown);
    for (size_t i = 1; i < 1000; i++)
        free(malloc(i));
    run_threads(trade, 2);
    return 0;
}

static void
a_forked_child_has_a_copy(void **state)
{
    (void)state;
    unsigned char *block = malloc(1000);
    memset(block, 1, 1000);
    assert_int_equal(child_run(use_in_child, block), 0);
    assert_true(is_all(block, 1000, 1));
    block = realloc(block, 2000);
    assert_true(is_all(block, 1000, 1));
    free(block);
}

static int
fork_on(void *arg)
{
    const uintptr_t generations = (uintptr_t)arg;
    void *block = malloc(100);
    const int status = generations == 0 ? 0 : child_run(fork_on, (void *)(generations - 1));
    free(block);
    return status;
}

static void
so_have_its_children_and_theirs(void **state)
{
    (void)state;
    assert_int_equal(child_run(fork_on, (void *)5), 0);
}

enum { FORKS = 100, BLOCKS_BETWEEN_FORKS = 2000 };

static atomic_size_t allowed;

/* As fast as it can, but no more between two forks than a heap that uses no room twice can bear. */
static void *
churn(void *arg)
{
    (void)arg;
    void *kept[32] = { NULL };
    for (size_t i = 0; i < FORKS * BLOCKS_BETWEEN_FORKS; i++) {
        while (i >= atomic_load(&allowed))
            (void)sched_yield();
        free(kept[i % 32]);
        kept[i % 32] = malloc(i * 37 % 5000);
    }
    for (size_t i = 0; i < 32; i++)
        free(kept[i]);
    return NULL;
}

static int
allocate_in_child(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < 200; i++) {
        void *block = calloc(1, i * 53);
        if (block == NULL || !is_all(block, i * 53, 0))
            return 1;
        free(block);
    }
    return 0;
}

static void
a_child_forked_while_threads_allocate_allocates(void **state)
{
    (void)state;
    pthread_t threads[3];
    atomic_store(&allowed, 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, NULL), 0);
    for (int i = 0; i < FORKS; i++) {
        (void)atomic_fetch_add(&allowed, BLOCKS_BETWEEN_FORKS);
        assert_int_equal(child_run(allocate_in_child, NULL), 0);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void
a_child_of_vfork_may_run_a_program(void **state)
{
    (void)state;
    void *block = malloc(100);
    char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"exit 7", NULL };
    pid_t pid;
    assert_int_equal(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
    assert_int_equal(child_wait(pid), 7);
    pid = vfork();
    if (pid == 0) {
        /* It lives in this memory; what it takes and frees is this process's. */
        free(malloc(200));
        (void)execv("/bin/sh", argv);
        _exit(1);
    }
    assert_int_equal(child_wait(pid), 7);
    assert_int_equal(WEXITSTATUS(system("exit 9")), 9);
    free(block);
}

static int
close_all_and_go_on(void *arg)
{
    (void)arg;
    for (int fd = 0; fd < 1024; fd++)
        (void)close(fd);
    if (clearenv() != 0)
        return 1;
    run_threads(trade, 4);
    void *large = calloc(1, 30000000);
    free(large);
    return large == NULL ? 2 : allocate_in_child(NULL);
}

static void
without_descriptors_and_environment_it_goes_on(void **state)
{
    (void)state;
    assert_int_equal(child_run(close_all_and_go_on, NULL), 0);
}

int
main(int argc, char **argv)
{
    if (getenv("LD_PRELOAD") == NULL) {
        if (access(LIBRARY, R_OK) != 0) {
            puts("libhshm-preload.so was not built");
            return 77;
        }
        (void)setenv("LD_PRELOAD", LIBRARY, 1);
        (void)execv("/proc/self/exe", argv);
        return 1;
    }
    (void)argc;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_from_before_main_are_blocks_like_others),
        cmocka_unit_test(it_is_the_preloaded_one),
        cmocka_unit_test(blocks_are_aligned_apart_and_as_large_as_asked),
        cmocka_unit_test(nothing_has_an_address_of_its_own),
        cmocka_unit_test(calloc_gives_zeros_where_others_wrote),
        cmocka_unit_test(what_nobody_has_is_refused),
        cmocka_unit_test(aligned_blocks_are_aligned),
        cmocka_unit_test(impossible_alignments_are_as_in_glibc),
        cmocka_unit_test(realloc_keeps_the_content),
        cmocka_unit_test(free_leaves_errno_alone),
        cmocka_unit_test(wrong_addresses_change_nothing),
        cmocka_unit_test(sized_frees_free),
        cmocka_unit_test(the_c_library_lives_on_it_too),
        cmocka_unit_test(threads_free_each_others_blocks),
        cmocka_unit_test(threads_come_and_go),
        cmocka_unit_test(a_forked_child_has_a_copy),
        cmocka_unit_test(so_have_its_children_and_theirs),
        cmocka_unit_test(a_child_forked_while_threads_allocate_allocates),
        cmocka_unit_test(a_child_of_vfork_may_run_a_program),
        cmocka_unit_test(without_descriptors_and_environment_it_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
