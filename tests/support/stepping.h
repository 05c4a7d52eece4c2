/*
 * stepping.h - a child that moves an instruction at a time, to be killed or looked at in the middle of a call.
 *
 *     struct stepped child = stepped_start(operation, arg);      stands before operation(arg)
 *     while (stepped_once(&child))                               one instruction of it
 *         ...
 *     stepped_kill(&child), or stepped_finish(&child)            SIGKILL, or on its own to its end
 *
 * Or a child that runs freely but for some parts of its life, which it marks itself:
 *
 *     struct stepped child = stepped_life(life, arg);            life: ... stepping_begin(); a call; stepping_end(); ...
 *     while (stepped_next(&child))                               to the next stepping_begin()
 *         while (stepped_once(&child))                           up to stepping_end(), or the end of the thread
 *             ...
 *
 * By ptrace(), so not with sanitizers, whose own code would be stepped through.
 */
#ifndef HSHM_TESTS_STEPPING_H
#define HSHM_TESTS_STEPPING_H

#include "support.h"

struct stepped {
    pid_t pid;
    unsigned long steps;         /* taken in operations             */
    struct stepped_marks *marks; /* shared with the child           */
    bool ended;                  /* its first thread has            */
};

/* NULL, or why children cannot be stepped here: for a skip. */
const char *stepping_refused(void);

struct stepped stepped_start(void (*operation)(void *arg), void *arg);

struct stepped stepped_life(void (*life)(void *arg), void *arg);

/* False when the child's life has ended, well; a bad end fails the test. */
bool stepped_next(struct stepped *child);

/* In the child, in its first thread. */
void stepping_begin(void);
void stepping_end(void);

/* False once the operation has returned, and then nothing was stepped. */
bool stepped_once(struct stepped *child);

void stepped_kill(struct stepped *child);

/* Let it run to the end of the operation, and see that it ends well. */
void stepped_finish(struct stepped *child);

#endif
