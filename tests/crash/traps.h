/*
 * traps.h - a process that steps through its own instructions: the processor's trap flag is set, and a signal's handler looks
 * at the region after each of them.
 *
 * That is what ptrace() does too (tests/support/stepping.h), but with two changes of process for each instruction, which is most of what
 * a step costs.  It works where no signal is blocked, and on x86-64.
 *
 * Whoever watches is told by a byte, and answers with one before the process goes on:
 */
#ifndef HSHM_TESTS_CRASH_TRAPS_H
#define HSHM_TESTS_CRASH_TRAPS_H

#include "image.h"

enum {
    TRAP_BEGINS = 1, /* before the first instruction */
    TRAP_CHANGED = 2 /* an instruction has changed the region */
};

#if defined(__x86_64__)
#define CAN_TRAP 1
#else
#define CAN_TRAP 0
#endif

struct trap_line {
    int tell, told;       /* a pipe's ends: the process's, the watcher's   */
    int answer, answered; /* the watcher's, the process's                */
    uint64_t steps;
};

/* Of a line in memory that both have. */
void trap_line_open(struct trap_line *line);
/* The watcher, once the process was started: so that its death is the end of what it tells. */
void trap_line_use(struct trap_line *line);
void trap_line_close(struct trap_line *line);
/* The process: the other ends are not its own. */
void trap_line_serve(const struct trap_line *line);

/* Step from here on, looking at `watch`, until traps_end(). */
void traps_begin(struct watch *watch, struct trap_line *line);
void traps_end(void);

#endif
