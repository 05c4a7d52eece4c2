/*
 * support.h - what tests need again and again: names of their own, children that report, counts before and after.
 *
 * Include this instead of cmocka.h.
 */
#ifndef HSHM_TESTS_SUPPORT_H
#define HSHM_TESTS_SUPPORT_H

/* cmocka wants these four before itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include <cmocka.h>
#ifdef __cplusplus
}
#endif
#include <hshm/hshm.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "random.h"

#ifdef __cplusplus
extern "C" {
/* cmocka's cast to a number, which objects that are true or false may not have. */
#undef assert_true
#undef assert_false
#define assert_true(c) _assert_true((c) ? 1 : 0, #c, __FILE__, __LINE__)
#define assert_false(c) _assert_true((c) ? 0 : 1, "!(" #c ")", __FILE__, __LINE__)
#endif

/* ---- builds ---- */

/* 1 in builds with these sanitizers: slower, and with a malloc of their own. */
#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ADDRESS_SANITIZER 1
#endif
#endif
#if !defined(UNDER_ADDRESS_SANITIZER)
#define UNDER_ADDRESS_SANITIZER 0
#endif

#if defined(__SANITIZE_THREAD__)
#define UNDER_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_THREAD_SANITIZER 1
#endif
#endif
#if !defined(UNDER_THREAD_SANITIZER)
#define UNDER_THREAD_SANITIZER 0
#endif

#define UNDER_SANITIZER (UNDER_ADDRESS_SANITIZER || UNDER_THREAD_SANITIZER)

/* ---- statuses, with the library's sentence when they are others ---- */

#define assert_status(call, wanted) support_assert_status((call), (wanted), #call, __FILE__, __LINE__)
#define assert_ok(call) assert_status(call, HSHM_OK)
void support_assert_status(hshm_status got, hshm_status wanted, const char *call, const char *file, int line);

/* Fails unless the calling thread's last sentence contains `part`. */
#define assert_sentence(part) support_assert_sentence((part), __FILE__, __LINE__)
void support_assert_sentence(const char *part, const char *file, int line);

/* ---- names ---- */

/*
 * A name of shared memory that no other test, and no other run, uses: "hshm-test-<pid>-<n>-<what>".
 * Static storage, good for the next 16 calls.  Whatever is left under these names goes when the process exits
 * (see support_clean()).
 */
const char *test_name(const char *what);

/* A path on a disk, likewise: in a folder of this process's own under $TMPDIR, which goes when the process exits. */
const char *test_path(const char *what);

/* Remove all that this process left behind; called by itself at exit of the process that first asked for a name. */
void support_clean(void);

/* ---- heaps in one call; they fail the test when they cannot ---- */

/* Create a backend and an allocator of `kind` on it, ids 1 and {1, 0}. */
hshm_allocator *make_heap(hshm_manager *manager, hshm_backend_kind backend, const char *url, size_t size,
                          hshm_allocator_kind kind);

/* Attach and get the heap. */
hshm_allocator *attach_heap(hshm_manager *manager, hshm_backend_kind backend, const char *url, uint64_t timeout_ms);

/* ---- counts before and after ---- */

/* What a call could leave behind. */
struct footprint {
    size_t descriptors; /* open in this process                                                        */
    size_t mappings;    /* lines of /proc/self/maps, those of heap and stacks apart                    */
    size_t names;       /* entries of /dev/shm and of this process's folder that test_name/path could make */
};
struct footprint footprint_take(void);

/* Fails, saying which, unless the footprint is as it was. */
#define assert_footprint(before) support_assert_footprint((before), __FILE__, __LINE__)
void support_assert_footprint(struct footprint before, const char *file, int line);

/* ---- children ---- */

/*
 * Fork, run fn(arg) in the child, and exit there with what it returns (0 = good).  A failing assertion in the child
 * ends it by SIGABRT.  The child never returns into the test, and removes none of the parent's names.
 */
pid_t child_start(int (*fn)(void *arg), void *arg);

/* Wait for a child; its exit status, or 128 + the signal that ended it. */
int child_wait(pid_t pid);

/* child_start() and child_wait() in one. */
int child_run(int (*fn)(void *arg), void *arg);

/* Start a helper program of HSHM_TEST_BIN_DIR by exec; the list ends with NULL. */
pid_t helper_start(const char *program, ...) __attribute__((sentinel));

/* ---- memory that children share with the test ---- */

/* Zeroed, shared with every child forked later; whole pages.  Unmapped at exit. */
void *shared_bytes(size_t size);

#ifndef __cplusplus
/*
 * Steps that processes wait for: step_reach() makes it so many, step_wait() returns when it is at least so many.
 * Waits on a futex; after 30 s it fails the test.
 */
struct step {
    _Atomic uint32_t count;
};
void step_reach(struct step *step);
void step_wait(struct step *step, uint32_t count);
#endif

/* ---- random numbers: repeatable; next_random() is in random.h ---- */

/* The seed: HSHM_TEST_SEED if it is set, else the clock; printed once. */
uint64_t test_seed(void);

#ifdef __cplusplus
}
#endif

#endif
