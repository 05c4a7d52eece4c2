/*
 * subject_boost.c - Boost.Interprocess: managed_shared_memory with rbtree_best_fit and its mutex, its default.
 * Without STORM_BOOST: that it is missing.
 */
#include "storm.h"

#ifdef STORM_BOOST

#include "../../bench/heap_boost.h"

#include <stdio.h>
#include <sys/mman.h>

static heap_ref segment;

static bool
open_segment(const char *name, size_t bytes, int create)
{
    char why[240] = "";
    segment = heap_boost_open(name, bytes, create, why, sizeof why);
    if (segment == NULL)
        (void)fprintf(stderr, "%s\n", why);
    return segment != NULL;
}

static bool
create(const struct subject *subject, const char *name, size_t bytes)
{
    (void)subject;
    return open_segment(name, bytes, 1);
}

static void
destroy(const char *name)
{
    char path[80];
    (void)snprintf(path, sizeof path, "/%s", name);
    (void)shm_unlink(path);
    heap_boost_close(segment);
    segment = NULL;
}

static bool
attach(const char *name, bool anew)
{
    (void)anew;
    return open_segment(name, 0, 0);
}

static void *
take(size_t size)
{
    return heap_take(segment, size);
}

static bool
give(void *block)
{
    heap_free(segment, block);
    return true;
}

static uint64_t
to_off(const void *block)
{
    return heap_handle(segment, block);
}

static void *
to_addr(uint64_t off)
{
    return heap_address(segment, off);
}

const struct subject subject_boost = {
    "boost", "Boost.Interprocess", HSHM_ALLOCATOR_ANY, create, destroy, attach, NULL, take, give, to_off, to_addr
};

#else

const struct subject subject_boost = { .option = "boost", .title = "Boost.Interprocess" };

#endif
