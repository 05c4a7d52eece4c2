/*
 * spare.c - memory for those who ask while there is no heap.
 *
 * Making a heap takes memory itself: names, handles.  It comes from an array that is only ever used upwards; a few
 * kilobytes are needed, and what nobody touches costs nothing.  Each block has its size in the 16 bytes before it.
 */
#include "spare.h"

#include <dlfcn.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum {
    ARENA_SIZE = 256 * 1024,
    HEADER = 16 /* holds the size, and keeps what follows aligned */
};

static alignas(64) unsigned char arena[ARENA_SIZE];
static _Atomic size_t used;

/* Where a block may begin behind `from`, as an offset: after its header, aligned as an address. */
static size_t
place_behind(size_t from, size_t alignment)
{
    const uintptr_t earliest = (uintptr_t)arena + from + HEADER;
    return (size_t)(((earliest + alignment - 1) & ~(uintptr_t)(alignment - 1)) - (uintptr_t)arena);
}

void *
spare_take(size_t size, size_t alignment)
{
    if (size > ARENA_SIZE || alignment > ARENA_SIZE)
        return NULL;
    size_t from = atomic_load_explicit(&used, memory_order_relaxed);
    size_t at;
    size_t end;
    do {
        at = place_behind(from, alignment < HEADER ? HEADER : alignment);
        end = (at + size + HEADER - 1) & ~(size_t)(HEADER - 1);
        if (end > ARENA_SIZE)
            return NULL;
        /* Relaxed: whoever moves `used` owns what lies between, and nobody else ever looks at it. */
    } while (!atomic_compare_exchange_weak_explicit(&used, &from, end, memory_order_relaxed, memory_order_relaxed));
    memcpy(arena + at - HEADER, &size, sizeof size);
    return arena + at;
}

bool
spare_has(const void *addr)
{
    return (uintptr_t)addr - (uintptr_t)arena < ARENA_SIZE;
}

size_t
spare_size(const void *addr)
{
    size_t size;
    memcpy(&size, (const unsigned char *)addr - HEADER, sizeof size);
    return size;
}

bool
spare_is_plenty(void)
{
    return atomic_load_explicit(&used, memory_order_relaxed) < ARENA_SIZE / 2;
}

/* ---- the system's malloc, by the names under which glibc has it too ---- */

extern void *__libc_memalign(size_t alignment, size_t size) __attribute__((weak));
extern void *__libc_calloc(size_t count, size_t size) __attribute__((weak));
extern void *__libc_realloc(void *addr, size_t size) __attribute__((weak));
extern void __libc_free(void *addr) __attribute__((weak));

void *
system_take(size_t size, size_t alignment)
{
    return __libc_memalign == NULL ? NULL : __libc_memalign(alignment, size);
}

void *
system_zeroed(size_t count, size_t size)
{
    return __libc_calloc == NULL ? NULL : __libc_calloc(count, size);
}

void *
system_resize(void *addr, size_t size)
{
    return __libc_realloc == NULL ? NULL : __libc_realloc(addr, size);
}

void
system_free(void *addr)
{
    if (__libc_free != NULL)
        __libc_free(addr);
}

size_t
system_size(void *addr)
{
    /* The one function of these that has no second name. */
    size_t (*size_of)(void *addr) = NULL;
    void *found = dlsym(RTLD_NEXT, "malloc_usable_size");
    memcpy(&size_of, &found, sizeof size_of);
    return size_of == NULL ? 0 : size_of(addr);
}
