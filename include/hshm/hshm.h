/*
 * hshm.h - heaps in memory that many processes share: everything but MPI.
 *
 * A backend obtains bytes (POSIX shared memory, a mapped file, malloc, your array).  An allocator cuts them into
 * blocks (ThreadLocal, ScalablePage, Stack, Malloc).  A manager is this process's list of both.  One region of bytes =
 * one backend = one allocator; that pair, seen from one process, is a heap.
 *
 *     hshm_backend *backend;
 *     hshm_allocator *heap;
 *     hshm_backend_create(NULL, 0, HSHM_BACKEND_POSIX_SHM_MMAP, 1 << 30, "my_heap", NULL, &backend);
 *     hshm_allocator_create(NULL, 0, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, sizeof(int), NULL, &heap);
 *     void *block = hshm_malloc(heap, 1024);            // an address, for this process
 *     hshm_off where = hshm_to_off(heap, block);        // an offset, for every process
 *     ...
 *     hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, "my_heap", NULL, &backend);     // another process
 *     hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap);
 *     block = hshm_to_addr(heap, where);
 *
 * Three rules hold everywhere:
 *   - every call that can fail says how: a status, and a sentence in hshm_last_error();
 *   - results come through `ret_` parameters, which stay untouched on failure;
 *   - addresses are for one process, offsets are for all: what you store *in* a heap are offsets.
 *
 * The library never prints, aborts or exits because of its input or of bytes that it finds in a region.
 */
#ifndef HSHM_HSHM_H
#define HSHM_HSHM_H

#include <hshm/allocator.h>
#include <hshm/backend.h>
#include <hshm/gpu.h>
#include <hshm/manager.h>
#include <hshm/name.h>
#include <hshm/slot.h>
#include <hshm/status.h>
#include <hshm/types.h>
#include <hshm/version.h>

#endif
