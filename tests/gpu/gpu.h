/*
 * gpu.h - tests of the GPU kinds, on stand-in drivers.
 *
 * What passes here says: the library calls what it should, in the right order, whatever fails; processes agree on one memory; nothing
 * on the host touches device memory.  It says nothing about real drivers.
 */
#ifndef HSHM_TESTS_GPU_GPU_H
#define HSHM_TESTS_GPU_GPU_H

#include "standin.h"
#include "support.h"

enum vendor { CUDA, HIP, VENDORS };

/* Which drivers this process, and those that it starts, will find: stand-ins, or none.  Before the first call that needs one. */
void use_standins(bool cuda, bool hip);
/* The same, of one vendor alone. */
void use_standin(enum vendor vendor);
/* Another library in its place. */
void use_library(enum vendor vendor, const char *path);
const char *standin_path(enum vendor vendor);
const char *vendor_name(enum vendor vendor);

/* The stand-in of this process; it must have been used, or is loaded now. */
struct standin_counts counts_of(enum vendor vendor);
void make_fail(enum vendor vendor, const char *call, uint32_t nth, int code);
/* Called whenever memory is about to be freed; NULL: no more. */
void before_each_free(enum vendor vendor, void (*hook)(void));

/* What is registered next is so already, by somebody who forgot it. */
void register_next_already(enum vendor vendor);

/* Fails unless nothing of the driver's is held. */
#define assert_nothing_held(vendor) check_nothing_held((vendor), __FILE__, __LINE__)
void check_nothing_held(enum vendor vendor, const char *file, int line);

#endif
