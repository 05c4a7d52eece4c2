/*
 * counting.h - instructions of a program, counted by callgrind: the same on a busy machine as on a quiet one.
 */
#ifndef HSHM_TESTS_COUNTING_H
#define HSHM_TESTS_COUNTING_H

#include "support.h"

/*
 * Instructions the program executes inside the functions named in `toggles` and what these call.
 *
 * toggles  one or two functions, the second may be NULL
 * argv     the program, in HSHM_TEST_BIN_DIR, and up to three arguments; ends with NULL
 *
 * Skips the test where there is no valgrind; fails it when the program fails or nothing was counted.
 */
uint64_t counted_instructions(const char *const toggles[2], const char *const argv[]);

#endif
