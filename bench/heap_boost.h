/*
 * heap_boost.h - Boost.Interprocess: managed_shared_memory with rbtree_best_fit, its default.
 *
 * It is C++, so a call stands between the workload and the heap: one jump, where the heap takes a lock and walks a tree.
 */
#ifndef HSHM_BENCH_HEAP_BOOST_H
#define HSHM_BENCH_HEAP_BOOST_H

#ifdef __cplusplus
#include <cstddef>
#include <cstdint>
extern "C" {
#else
#include <stddef.h>
#include <stdint.h>
#endif

typedef struct heap_boost *heap_ref;

void *heap_take(heap_ref heap, size_t size);
void heap_free(heap_ref heap, void *block);
uint64_t heap_handle(heap_ref heap, const void *block);
void *heap_address(heap_ref heap, uint64_t handle);

/* What heap_open() and heap_close() stand on; NULL on failure, with a sentence in `why`. */
heap_ref heap_boost_open(const char *name, uint64_t bytes, int create, char *why, size_t why_size);
void heap_boost_close(heap_ref heap);

#ifdef __cplusplus
}
#endif

#endif
