/*
 * version.h - which release this is, and which format of regions it writes.
 *
 * Two numbers, because they protect different things: the soname protects programs linked against the library, the
 * format version protects heaps that programs built at other times have mapped.
 */
#ifndef HSHM_VERSION_H
#define HSHM_VERSION_H

#include <hshm/types.h>

#define HSHM_VERSION_MAJOR 0
#define HSHM_VERSION_MINOR 1
#define HSHM_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/** The version of the library that runs, as "major.minor.patch".  Static; any thread, any signal handler. */
HSHM_API const char *hshm_version(void);

/** The version of the region format that this library writes and reads.  Any thread, any signal handler. */
HSHM_API uint32_t hshm_format_version(void);

#ifdef __cplusplus
}
#endif

#endif
