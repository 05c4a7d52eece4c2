/*
 * failpoints.h - what is shown at each failpoint of one kind of heap.
 *
 * The calls of tests/crash, and some of scripts.h, are made by a process that counts the failpoints that it comes by; so each is
 * found, with calls that lead there.  Those of recovery are found by who cleans up after one that was killed at another.
 */
#ifndef HSHM_TESTS_FAILPOINTS_FAILPOINTS_H
#define HSHM_TESTS_FAILPOINTS_FAILPOINTS_H

#include "support.h"

/* For main(): all cases, for heaps of this kind. */
int failpoints_main(const char *group, hshm_allocator_kind kind);

#endif
