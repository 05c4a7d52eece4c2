/*
 * killer.h - kill a process between any two of its system calls.
 *
 * The victim is a child that the test traces.  It stops before and after each system call of its act, and is killed
 * by SIGKILL at the stop that the test names: before a call, the call is not made; after it, nothing of what follows is.
 */
#ifndef HSHM_TESTS_CREATE_KILLER_H
#define HSHM_TESTS_CREATE_KILLER_H

#include "stage.h"

struct victim {
    struct stage *stage;
    void (*prepare)(struct stage *stage); /* first, unharmed; may be NULL                        */
    void (*act)(struct stage *stage);     /* on a file system that lacks what the stage says     */
    /* In the test, when the victim is about to size its file, so has looked at the name already.  May be NULL. */
    void (*meanwhile)(struct stage *stage);
};

/*
 * Start a victim and kill it at its stop number `stop`, counted from 1.  False when it got through its act before; it is
 * killed then all the same.
 */
bool kill_at(const struct victim *victim, unsigned stop);

/* Skips the test when processes may not be traced here. */
void skip_unless_traceable(void);

#endif
