/*
 * malloc_format.h - what a Malloc heap keeps in its region: nothing but its counters.
 *
 * The blocks lie wherever the system's malloc put them; their offsets are differences of addresses modulo 2^64, and
 * mean something in this process only.
 */
#ifndef HSHM_FORMAT_MALLOC_FORMAT_H
#define HSHM_FORMAT_MALLOC_FORMAT_H

#include "format/region_format.h"

/* Private to a process, though it lies in a region: at root_off. */
struct malloc_root {
    _Atomic uint64_t live_bytes;  /*  0: as malloc rounds them                          */
    _Atomic uint64_t live_blocks; /*  8                                                 */
    _Atomic uint64_t peak_bytes;  /* 16                                                 */
    _Atomic uint64_t allocs;      /* 24                                                 */
    _Atomic uint64_t frees;       /* 32                                                 */
    _Atomic uint64_t failures;    /* 40                                                 */
    uint64_t reserved[2];         /* 48                                                 */
};
static_assert(sizeof(struct malloc_root) == 64, "format v1");
static_assert(offsetof(struct malloc_root, failures) == 40, "format v1");

#endif
