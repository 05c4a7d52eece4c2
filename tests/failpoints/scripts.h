/*
 * scripts.h - calls that come by failpoints which those of tests/crash do not, or seldom; in the same form.
 */
#ifndef HSHM_TESTS_FAILPOINTS_SCRIPTS_H
#define HSHM_TESTS_FAILPOINTS_SCRIPTS_H

#include "crash/victim.h"

/* Names that the test treats in a way of their own. */
#define CALL_CREATES "create a heap"
#define CALL_REWINDS "rewind"
#define CALL_LAST "detach as the last one"
#define CALL_MIXED "make a slab of shared and home bits free"
#define CALL_TAKEN_LATE "make a slab free that another takes from"

extern const struct call script_calls[];
extern const size_t script_count;

/* By what name "create a heap" makes one. */
void created_url(const struct cast *cast, char *ret_url, size_t size);

#endif
