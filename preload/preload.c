/*
 * preload.c - the malloc family of a program that was started with LD_PRELOAD=libhshm-preload.so.
 *
 * Each call is the heap's call, with the C library's habits around it: errno, alignments, what realloc() does with 0.
 * The short paths hold what happens always; what is not the heap's (blocks from before it, wrong addresses) is found out
 * when the heap says no.
 *
 * free() leaves errno alone, as POSIX asks.  A wrong address changes nothing and is passed over: the program may go on, as
 * it does with other mallocs that do not look; HSHM_PRELOAD_DEBUG tells of it.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "boot.h"
#include "settings.h"
#include "spare.h"

#define EXPORT __attribute__((visibility("default")))
#define NO_INLINE __attribute__((noinline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { GRANULE = 16 };

/* All that is exported.  Declared here because no header has all of it: the sized frees are C23's. */
EXPORT void *malloc(size_t size);
EXPORT void *calloc(size_t count, size_t size);
EXPORT void *aligned_alloc(size_t alignment, size_t size);
EXPORT void *memalign(size_t alignment, size_t size);
EXPORT int posix_memalign(void **ret_addr, size_t alignment, size_t size);
EXPORT void *valloc(size_t size);
EXPORT void *pvalloc(size_t size);
EXPORT void free(void *addr);
EXPORT void free_sized(void *addr, size_t size);
EXPORT void free_aligned_sized(void *addr, size_t alignment, size_t size);
EXPORT void *realloc(void *addr, size_t size);
EXPORT void *reallocarray(void *addr, size_t count, size_t size);
EXPORT size_t malloc_usable_size(void *addr);
EXPORT int malloc_trim(size_t keep);

static void *
or_no_memory(void *addr)
{
    if (UNLIKELY(addr == NULL))
        errno = ENOMEM;
    return addr;
}

static bool
is_power_of_two(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* ---- without a heap, or about addresses that are not its own ---- */

static NO_INLINE void *
take_elsewhere(size_t size, size_t alignment)
{
    return or_no_memory(boot_has_failed() ? system_take(size, alignment) : spare_take(size, alignment));
}

/* A product that overflows is more than anyone has. */
static NO_INLINE void *
zeroed_elsewhere(size_t count, size_t size)
{
    size_t bytes;
    if (boot_has_failed())
        return or_no_memory(system_zeroed(count, size));
    return or_no_memory(__builtin_mul_overflow(count, size, &bytes) ? NULL : spare_take(bytes, GRANULE));
}

static void
tell_wrong(const char *call, void *addr)
{
    if (boot_debugs())
        say("%s(%p): %s", call, addr, hshm_last_error());
}

static NO_INLINE void
free_elsewhere(void *addr)
{
    if (addr == NULL || spare_has(addr))
        return;
    if (boot_has_failed())
        system_free(addr);
    else
        tell_wrong("free", addr);
}

static NO_INLINE void *
resize_elsewhere(void *addr, size_t size)
{
    if (spare_has(addr)) {
        void *moved = malloc(size);
        const size_t old_size = spare_size(addr);
        return moved == NULL ? NULL : memcpy(moved, addr, old_size < size ? old_size : size);
    }
    if (boot_has_failed())
        return or_no_memory(system_resize(addr, size));
    if (hshm_last_status() == HSHM_E_BADFREE) {
        tell_wrong("realloc", addr);
        errno = EINVAL;
        return NULL;
    }
    return or_no_memory(NULL);
}

/* ---- taking ---- */

void *
malloc(size_t size)
{
    hshm_allocator *heap = boot_get_heap();
    return LIKELY(heap != NULL) ? or_no_memory(hshm_malloc(heap, size)) : take_elsewhere(size, GRANULE);
}

void *
calloc(size_t count, size_t size)
{
    hshm_allocator *heap = boot_get_heap();
    return LIKELY(heap != NULL) ? or_no_memory(hshm_calloc(heap, count, size)) : zeroed_elsewhere(count, size);
}

/* `alignment` is a power of two. */
static void *
take_aligned(size_t alignment, size_t size)
{
    hshm_allocator *heap = boot_get_heap();
    return LIKELY(heap != NULL) ? or_no_memory(hshm_aligned_alloc(heap, alignment, size))
                                : take_elsewhere(size, alignment);
}

static void *
invalid(void)
{
    errno = EINVAL;
    return NULL;
}

void *
aligned_alloc(size_t alignment, size_t size)
{
    return LIKELY(is_power_of_two(alignment)) ? take_aligned(alignment, size) : invalid();
}

/* Takes the next power of two for an alignment that is none, as glibc does. */
void *
memalign(size_t alignment, size_t size)
{
    const size_t largest = SIZE_MAX / 2 + 1;
    if (alignment > largest)
        return invalid();
    size_t rounded = GRANULE;
    while (rounded < alignment)
        rounded *= 2;
    return take_aligned(rounded, size);
}

/* Answers with the number, and leaves errno as it is. */
int
posix_memalign(void **ret_addr, size_t alignment, size_t size)
{
    if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
        return EINVAL;
    const int error = errno;
    void *addr = take_aligned(alignment, size);
    errno = error;
    if (addr == NULL)
        return ENOMEM;
    *ret_addr = addr;
    return 0;
}

static size_t
page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void *
valloc(size_t size)
{
    return take_aligned(page_size(), size);
}

void *
pvalloc(size_t size)
{
    const size_t page = page_size();
    if (size > SIZE_MAX - (page - 1))
        return or_no_memory(NULL);
    return take_aligned(page, (size + page - 1) & ~(page - 1));
}

/* ---- freeing, resizing ---- */

void
free(void *addr)
{
    const int error = errno;
    hshm_allocator *heap = atomic_load_explicit(&boot_heap, memory_order_acquire);
    if (UNLIKELY(heap == NULL || hshm_free(heap, addr) != HSHM_OK))
        free_elsewhere(addr);
    errno = error;
}

/* What the caller knows of the block is not needed to find it. */
void
free_sized(void *addr, size_t size)
{
    (void)size;
    free(addr);
}

void
free_aligned_sized(void *addr, size_t alignment, size_t size)
{
    (void)alignment;
    (void)size;
    free(addr);
}

/* A size of 0 frees, as it does in glibc. */
void *
realloc(void *addr, size_t size)
{
    if (addr == NULL)
        return malloc(size);
    if (size == 0) {
        free(addr);
        return NULL;
    }
    hshm_allocator *heap = atomic_load_explicit(&boot_heap, memory_order_acquire);
    void *moved = LIKELY(heap != NULL) ? hshm_realloc(heap, addr, size) : NULL;
    return LIKELY(moved != NULL) ? moved : resize_elsewhere(addr, size);
}

void *
reallocarray(void *addr, size_t count, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? or_no_memory(NULL) : realloc(addr, bytes);
}

/* ---- asking ---- */

size_t
malloc_usable_size(void *addr)
{
    if (addr == NULL)
        return 0;
    if (spare_has(addr))
        return spare_size(addr);
    hshm_allocator *heap = atomic_load_explicit(&boot_heap, memory_order_acquire);
    if (heap == NULL)
        return boot_has_failed() ? system_size(addr) : 0;
    const size_t size = hshm_usable_size(heap, addr);
    if (size == 0)
        tell_wrong("malloc_usable_size", addr);
    return size;
}

/* 1 when something was given back.  Not from a Stack, which must rest meanwhile. */
int
malloc_trim(size_t keep)
{
    hshm_allocator *heap = atomic_load_explicit(&boot_heap, memory_order_acquire);
    uint64_t bytes = 0;
    if (heap == NULL || hshm_allocator_kind_of(heap) == HSHM_ALLOCATOR_STACK)
        return 0;
    return hshm_trim(heap, keep, &bytes) == HSHM_OK && bytes > 0;
}
