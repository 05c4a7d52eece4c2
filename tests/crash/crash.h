/*
 * crash.h - every instruction of every call is one at which a process may be killed: the run over all of them.
 *
 * A victim is stepped through a call (tests/support/stepping.h).  Each time an instruction has changed the region's control data
 * its bytes are what a SIGKILL there leaves; if they are none that were seen before, a judge looks at them (judge.h).  Now and
 * then an heir goes on with such bytes, and is stepped through recovery, or attach, likewise.
 */
#ifndef HSHM_TESTS_CRASH_CRASH_H
#define HSHM_TESTS_CRASH_CRASH_H

#include "support.h"

/*
 * For main(): the C library copies and fills with string instructions, of which each byte is a step.  Starts the program anew
 * with settings under which it does not.
 */
void crash_avoid_string_instructions(char **argv);

/*
 * Run over all calls of one kind of heap, with ever new states before the call, until at least so many distinct images were
 * judged; HSHM_CRASH_IMAGES, if it is set, is used instead.  Prints the table; fails if one image was not good.
 */
void crash_all_calls(hshm_allocator_kind kind, size_t images);

#endif
