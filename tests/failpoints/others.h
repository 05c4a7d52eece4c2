/*
 * others.h - processes that make calls of every sort on a heap while one of them is stopped in the middle of a call.
 */
#ifndef HSHM_TESTS_FAILPOINTS_OTHERS_H
#define HSHM_TESTS_FAILPOINTS_OTHERS_H

#include "crash/victim.h"

/* What an attach finds while the victim is stopped. */
enum new_heap { NEW_NONE, NEW_REGION, NEW_READY };

/* Shared with the others. */
struct others {
    struct cast *cast;
    struct step attached, go;
    bool is_stopped;        /* the victim; else it is dead, or did not come to where it was to be     */
    bool is_cleaner;        /* it is cleaning up after another one                                     */
    bool only_look;         /* the victim's call asks that nobody else changes the heap        */
    bool gate_is_shut;      /* the victim leaves a file, and writes it to its disk             */
    bool locked_out;        /* and so it is while the others have not attached yet             */
    bool logs_are_held;     /* by as many stopped ones as there are                                    */
    enum new_heap new_heap; /* that the victim is creating                                     */
    _Atomic uint32_t turns; /* gives each its number                                           */
    const char *doing[8];   /* what each is in the middle of                                   */
};

enum { OTHERS = 3 };

/* Start them; they attach, and wait until others_go(), which is over when all have made their calls, or fails saying what hangs. */
void others_start(struct others *others, pid_t pids[OTHERS]);
/* NULL when all went well, else what did not. */
const char *others_go(struct others *others, const pid_t pids[OTHERS]);

#endif
