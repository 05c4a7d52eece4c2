/*
 * points.h - what a process does when it comes by a failpoint (base/failpoint.h).
 */
#ifndef HSHM_TESTS_FAILPOINTS_POINTS_H
#define HSHM_TESTS_FAILPOINTS_POINTS_H

#include "support.h"

#include "base/failpoint.h"

enum { POINTS_MAX = 256 };

/* All there are, in the library that this program is linked with. */
size_t point_count(void);
const struct failpoint *point_at(size_t i);
/* Its number; fails the test when there is none of that name. */
size_t point_named(const char *name);

/* Shared with the processes that are watched. */
struct tally {
    _Atomic uint32_t hits[POINTS_MAX];
    _Atomic pid_t who;   /* was the first at the armed point           */
    struct step reached; /* 1 when it was, and is about to be stopped  */
};

/*
 * From now on this process counts what it passes; at the nth time that it comes by `point`, if not NULL, it sends itself `signal`.
 * Once: who begins again with the same tally goes on counting.
 */
struct point_plan {
    struct tally *tally;
    const struct failpoint *point;
    uint32_t nth;
    int signal; /* SIGKILL or SIGSTOP */
};
void points_begin(const struct point_plan *plan);
void points_end(void);

/* Also call `fn` when a thread comes by the point of that name the next time, watched or not.  One at a time. */
void point_call(const char *name, void (*fn)(void *arg), void *arg);

#endif
