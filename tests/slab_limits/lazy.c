/*
 * lazy.c - see lazy.h.
 */
#include "lazy.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "allocator/allocator.h"

hshm_allocator_kind lazy_page_kind = HSHM_ALLOCATOR_SCALABLE_PAGE;
hshm_allocator_kind lazy_thread_kind = HSHM_ALLOCATOR_THREAD_LOCAL;

hshm_allocator_kind
lazy_kind(void **state)
{
    return *(const hshm_allocator_kind *)*state;
}

hshm_allocator *
lazy_heap(hshm_allocator_kind kind, const char *url, size_t size)
{
    hshm_allocator *heap = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = HSHM_COMMIT_LAZY;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, size, url, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, kind, 0, NULL, &heap));
    return heap;
}

unsigned
long_factor(void)
{
    const char *given = getenv("HSHM_TEST_LONG");
    const unsigned long factor = given == NULL ? 1 : strtoul(given, NULL, 10);
    return factor < 1 || factor > 1000000 ? 1 : (unsigned)factor;
}

size_t
scaled(size_t usual, size_t sanitized)
{
    return UNDER_SANITIZER ? sanitized : usual;
}

/* Without the statistics, whose walk over all slabs would cost more than what is tested. */
uint64_t
committed(hshm_allocator *heap)
{
    return heap->system.committed(heap->system.arg);
}

void
in_thread(void *(*fn)(void *arg), void *arg)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* As the process found them. */
static const cpu_set_t *
all_processors(void)
{
    static cpu_set_t all;
    if (CPU_COUNT(&all) == 0)
        assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    return &all;
}

bool
run_on(unsigned nth)
{
    const cpu_set_t *all = all_processors();
    unsigned left = nth % (unsigned)CPU_COUNT(all);
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, all) || left-- > 0)
        cpu++;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    return CPU_COUNT(all) > 1;
}

void
run_anywhere(void)
{
    assert_int_equal(sched_setaffinity(0, sizeof(cpu_set_t), all_processors()), 0);
}

static int
free_block(const hshm_block *block, void *arg)
{
    assert_ok(hshm_free(arg, block->addr));
    return 0;
}

void
free_every_block(hshm_allocator *heap)
{
    assert_ok(hshm_visit_blocks(heap, free_block, heap));
}

void
touch(void *block, size_t size)
{
    volatile unsigned char *bytes = block;
    for (size_t at = 0; at < size; at += 4096)
        bytes[at] = 1;
    if (size > 0)
        bytes[size - 1] = 1;
}

void
lazy_assert_all_free(hshm_allocator *heap, unsigned percent, const char *file, int line)
{
    support_assert_sound(heap, file, line);
    const hshm_stats stats = stats_of(heap);
    if (stats.live_blocks != 0 || stats.live_bytes != 0) {
        print_error("%llu blocks of %llu bytes are live\n", (unsigned long long)stats.live_blocks,
                    (unsigned long long)stats.live_bytes);
        _fail(file, line);
    }
    const size_t most = (size_t)(stats.region_bytes / 100 * percent);
    void *block = hshm_malloc(heap, most);
    if (block == NULL) {
        print_error("nothing is live, and there is no room for %u %%: %s\n", percent, hshm_last_error());
        _fail(file, line);
    }
    assert_ok(hshm_free(heap, block));
    support_assert_sound(heap, file, line);
}

void
lazy_assert_none_lost(hshm_allocator *heap, const char *file, int line)
{
    lazy_assert_all_free(heap, 90, file, line);
    /* Lets go of what is kept for the next blocks, also where no pages can be given back. */
    const hshm_status status = hshm_trim(heap, 0, NULL);
    assert_true(status == HSHM_OK || status == HSHM_E_NOTSUP);
    const hshm_stats stats = stats_of(heap);
    if (stats.used_bytes == 0 && stats.largest_free == stats.data_bytes)
        return;
    print_error("nothing is live, but %llu bytes are in use, and the largest free part is %llu of %llu\n",
                (unsigned long long)stats.used_bytes, (unsigned long long)stats.largest_free,
                (unsigned long long)stats.data_bytes);
    _fail(file, line);
}
