/*
 * status.h - how calls fail: a status to act on, and a sentence to show to a person.
 *
 * The sentence says what failed on which name or size, why (with the numbers), and what to do:
 *
 *     cannot create 'big' (POSIX shared memory): /dev/shm has 64.0 MiB free of 64.0 MiB, 4.0 GiB needed; enlarge
 *     /dev/shm (mount -o remount,size=..., docker run --shm-size=...), ask for less, or use HSHM_BACKEND_POSIX_MMAP
 *     on a disk
 */
#ifndef HSHM_STATUS_H
#define HSHM_STATUS_H

#include <hshm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The one table of failures: X(name, number, text).  The numbers are part of the ABI and never change.
 * The enum, hshm_status_name() and hshm_status_text() are made from it.
 */
#define HSHM_STATUS_MAP(X)                                                                \
    X(INVAL, 1, "an argument is wrong")                                                   \
    X(NOMEM, 2, "the heap has no room")                                                   \
    X(NOSPC, 3, "the system cannot back the memory")                                      \
    X(EXISTS, 4, "the name or id is taken")                                               \
    X(NOTFOUND, 5, "the name or id is unknown")                                           \
    X(PERM, 6, "permission denied")                                                       \
    X(BUSY, 7, "in use by others")                                                        \
    X(TIMEOUT, 8, "waited as long as was asked")                                          \
    X(NOTSUP, 9, "this kind cannot do that")                                              \
    X(KIND, 10, "the allocator is of another kind")                                       \
    X(NOTREADY, 11, "the region is still being created")                                  \
    X(CORRUPT, 12, "the region's bytes failed validation")                                \
    X(VERSION, 13, "the region has another format version")                               \
    X(ABI, 14, "the region was made by an incompatible build")                            \
    X(DAMAGED, 15, "the heap could not be repaired, or its last use did not end cleanly") \
    X(BADFREE, 16, "not a live block of this heap: freed already, interior or foreign")   \
    X(LIMIT, 17, "a table is full")                                                       \
    X(DEVICE, 18, "the GPU driver is missing or said no")                                 \
    X(SYSTEM, 19, "a call to the operating system failed")

/** What a call answers.  HSHM_OK is 0; everything else is a failure. */
typedef enum hshm_status {
    HSHM_OK = 0,
#define HSHM_STATUS_ENUM(name, number, text) HSHM_E_##name = (number),
    HSHM_STATUS_MAP(HSHM_STATUS_ENUM)
#undef HSHM_STATUS_ENUM
} hshm_status;

/**
 * The status's name, such as "HSHM_E_NOMEM".
 * A number that is no status gives "HSHM_E_?".  Static; any thread, any signal handler.
 */
HSHM_API const char *hshm_status_name(hshm_status status);

/** One line about the status.  Static; any thread, any signal handler. */
HSHM_API const char *hshm_status_text(hshm_status status);

/**
 * The calling thread's last failure as a sentence; "" if nothing has failed in this thread yet.
 * Calls that succeed leave it alone, like errno.  The text is the library's, and good until the next failure in this
 * thread.  Not for signal handlers.
 */
HSHM_API const char *hshm_last_error(void);

/** The calling thread's last failure as a status; HSHM_OK if nothing has failed in this thread yet. */
HSHM_API hshm_status hshm_last_status(void);

/**
 * Leave a failure behind as this library's own calls do, for libraries built on top of it: what hshm_last_error() and
 * hshm_last_status() tell in this thread from now on.  For instance a failure that was learnt of from another process.
 *
 * @param status    HSHM_OK is allowed, and leaves no failure behind
 * @param sentence  copied, up to 767 bytes; NULL = hshm_status_text(status)
 * @return status, so that a caller can `return hshm_set_last_error(...)`.  Not for signal handlers.
 */
HSHM_API hshm_status hshm_set_last_error(hshm_status status, const char *sentence);

#ifdef __cplusplus
}
#endif

#endif
