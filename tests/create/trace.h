/*
 * trace.h - a process that is stopped before and after each of its system calls, and may be killed (scene_kill()) at any such stop.
 *
 * Between two system calls a process changes nothing but memory.  So if a kill at each stop leaves the names in order,
 * a kill at any instruction does.
 */
#ifndef HSHM_TESTS_CREATE_TRACE_H
#define HSHM_TESTS_CREATE_TRACE_H

#include "liveness/scene.h"

/* Called by the process itself: stop here, and from here on at each system call. */
void trace_here(void);

/* Start fn in a child and wait until it has called trace_here(). */
pid_t trace_start(int (*fn)(struct scene *scene), struct scene *scene);

/* Let it go on to its next stop.  False when it ended instead, and has been waited for; the end must be a good one. */
bool trace_step(pid_t pid);

#endif
