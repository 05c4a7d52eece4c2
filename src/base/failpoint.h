/*
 * failpoint.h - names for the gaps between two stores that others see, at which tests kill and stop processes.
 *
 *     store_release(slot, ...);
 *     FAILPOINT("slot.full");
 *
 * The name is the file's, more or less, and what has just been done; docs/design.md says what a kill there leaves.  It is nothing
 * at all but in the objects that are built a second time for tests/failpoints (the build option HSHM_FAILPOINTS): there each place
 * is listed, and the test is told whenever a thread comes by.  Not in the short paths that end in one store: they have no gap.
 */
#ifndef HSHM_BASE_FAILPOINT_H
#define HSHM_BASE_FAILPOINT_H

struct failpoint {
    const char *name;
    const char *file;
    unsigned line;
};

/* The test's to define.  May never return. */
void failpoint_reached(const struct failpoint *point);

#if defined(HSHM_FAILPOINTS)

/* The linker makes a table of the pointers, from __start_hshm_failpoints to __stop_hshm_failpoints. */
#define FAILPOINT(title)                                                                                        \
    do {                                                                                                        \
        static const struct failpoint failpoint_ = { title, __FILE__, __LINE__ };                               \
        static const struct failpoint *listed_ __attribute__((section("hshm_failpoints"), used)) = &failpoint_; \
        failpoint_reached(&failpoint_);                                                                         \
    } while (0)

#else
#define FAILPOINT(title) ((void)0)
#endif

#endif
