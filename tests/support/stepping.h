/*
 * stepping.h - a child that moves an instruction at a time, to be killed or looked at in the middle of a call.
 *
 *     struct stepped child = stepped_start(operation, arg);      stands before operation(arg)
 *     while (stepped_once(&child))                               one instruction of it
 *         ...
 *     stepped_kill(&child), or stepped_finish(&child)            SIGKILL, or on its own to its end
 *
 * By ptrace(), so not with sanitizers, whose own code would be stepped through.
 */
#ifndef HSHM_TESTS_STEPPING_H
#define HSHM_TESTS_STEPPING_H

#include "support.h"

struct stepped {
    pid_t pid;
    unsigned long steps;         /* taken in the operation          */
    struct stepped_marks *marks; /* shared with the child           */
};

/* NULL, or why children cannot be stepped here: for a skip. */
const char *stepping_refused(void);

struct stepped stepped_start(void (*operation)(void *arg), void *arg);

/* False once the operation has returned, and then nothing was stepped. */
bool stepped_once(struct stepped *child);

void stepped_kill(struct stepped *child);

/* Let it run to the end of the operation, and see that it ends well. */
void stepped_finish(struct stepped *child);

#endif
