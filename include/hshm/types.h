/*
 * types.h - the few words that every other header uses: ids, offsets, pointers that travel.
 */
#ifndef HSHM_TYPES_H
#define HSHM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Marks what the shared library exports; all else in it is hidden. */
#if defined(HSHM_BUILDING)
#define HSHM_API __attribute__((visibility("default")))
#else
#define HSHM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Names a backend inside a manager, and is written into the region.  Any value may be used, 0 included. */
typedef uint32_t hshm_backend_id;

/** Names an allocator inside a manager, and is written into the region.  Any pair of values may be used. */
typedef struct hshm_allocator_id {
    uint32_t major;
    uint32_t minor;
} hshm_allocator_id;

/**
 * Bytes from the start of a region.  The same in every process, whatever address the region has there: the only form
 * of pointer that may be stored in a heap or sent to another process.  A block never has offset 0.
 */
typedef uint64_t hshm_off;

#define HSHM_OFF_NULL ((hshm_off)0)

/** A pointer that travels between processes: which heap, and where in it.  Null when off is HSHM_OFF_NULL. */
typedef struct hshm_shm_ptr {
    hshm_allocator_id allocator;
    hshm_off off;
} hshm_shm_ptr;

/** Both forms of one pointer: the address in this process and the form that travels. */
typedef struct hshm_ptr {
    void *addr;
    hshm_shm_ptr shm;
} hshm_ptr;

#define HSHM_PTR_NULL ((hshm_ptr){ NULL, { { 0, 0 }, HSHM_OFF_NULL } })

/** A process's list of backends and allocators; see manager.h. */
typedef struct hshm_manager hshm_manager;

/** One region as one manager sees it; see backend.h. */
typedef struct hshm_backend hshm_backend;

/** One heap as one manager sees it; see allocator.h. */
typedef struct hshm_allocator hshm_allocator;

#ifdef __cplusplus
}
#endif

#endif
