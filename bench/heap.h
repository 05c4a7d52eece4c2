/*
 * heap.h - the heap that a suite program measures, chosen when it is compiled.
 *
 * The workloads are compiled once for each kind of heap, with BENCH_HEAP naming one of heap_*.h.  Taking and freeing are
 * static inline functions there, so that what is measured is the heap's own call and no table of functions in front
 * of it.  Each heap_*.h gives:
 *
 *     heap_ref                        how this process refers to the heap
 *     heap_take(), heap_free()        the calls that are measured
 *     heap_handle(), heap_address()   a block's name that is good in every process that shares the heap, and back
 *
 * and the file that belongs to it gives the functions below.
 */
#ifndef HSHM_BENCH_HEAP_H
#define HSHM_BENCH_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_options {
    const char *name;      /* of the region in /dev/shm; whoever calls heap_open() first takes the name away again */
    const char *kind;      /* hshm: stack, scalable_page, thread_local, malloc                                      */
    bool on_malloc;        /* hshm: on the backend MALLOC instead of POSIX shared memory                            */
    bool prefault;         /* hshm: with all pages mapped beforehand                                                */
    uint64_t region_bytes; /* of a shared heap; pages are taken as they are touched                                 */
};

enum heap_answer {
    HEAP_OK,
    HEAP_NOTSUP, /* this build has no such heap */
    HEAP_FAILED
};

#include BENCH_HEAP

/* Create the heap, or attach to the one that another process created; on failure `why` gets a sentence. */
enum heap_answer heap_open(const struct heap_options *options, bool create, heap_ref *ret_heap, char *why,
                           size_t why_size);

/* Leave it.  Names stay. */
void heap_close(heap_ref heap);

/* Can several processes work in one such heap? */
bool heap_is_shared(const struct heap_options *options);

/* How many blocks the heap says are live; -1 when it does not know. */
int64_t heap_live_blocks(heap_ref heap);

#endif
