/*
 * check.h - looking whether a heap is whole, while others work on it, are stopped, or die.
 *
 * A check looks at one *place* after the other (a slice, a granule, a log, ...).  What it finds there is
 *
 *     RIGHT     as docs/format.md has it
 *     STALE     something derived does not follow what it is derived from: whoever was about to bring it up to date was killed, is
 *               stopped, or has not come to it yet.  Nothing tells who, and nothing but time or room is lost
 *     MOVING    a live process, which the words name, is in the middle of a call; or was, and is stopped
 *     DEAD      the same of a dead one: recovery will finish or undo it
 *     WRONG     none of these explains it
 *
 * A look reads several words one after the other, so they may be of different moments, and look WRONG together.  So WRONG is
 * looked at again, for a while and a number of times, and is damage only if it holds still: **no process that is stopped
 * or was killed at any instruction may leave what looks WRONG**, for that holds still too.  The heads of slab_check.c and
 * alloc_stack.c say, for each invariant, what such processes leave.
 *
 * Nothing is stored in the region: it may be mapped for reading only.
 */
#ifndef HSHM_ALLOCATOR_CHECK_H
#define HSHM_ALLOCATOR_CHECK_H

#include "allocator/allocator.h"

/* The worst of what is found at a place counts. */
enum check_verdict { CHECK_RIGHT, CHECK_STALE, CHECK_MOVING, CHECK_DEAD, CHECK_WRONG };

/* Local: one look at one place. */
struct check_look {
    enum check_verdict verdict;
    const char *what; /* is not RIGHT, and the word that says so */
    uint64_t word;
    uint64_t next; /* place to look at next */
    /* What is there; for the report. */
    uint64_t slices, slabs, larges, free_blocks, kept;
};

enum { CHECK_ASKED = 64 };

/* Local: a check under way. */
struct check {
    hshm_allocator *a;
    bool quiet;       /* nobody else works on the heap: all must be RIGHT, at once, but for what the dead left */
    const char *unit; /* what the places are                                                                   */
    uint32_t waits;   /* so often it was waited for something to become RIGHT                                  */
    hshm_check_report report;
    /* Processes that were asked about lately (slot + 1), and what was answered: to ask the kernel takes a while. */
    uint32_t asked[CHECK_ASKED];
    enum process_state answers[CHECK_ASKED];
};

typedef void (*check_fn)(struct check *check, uint64_t place, struct check_look *look);

/* Look at a place, again if need be, and count what is there.  HSHM_OK, or HSHM_E_CORRUPT and a sentence. */
hshm_status check_place(struct check *check, check_fn fn, uint64_t place, uint64_t *ret_next);
/* check_place() for each of so many. */
hshm_status check_places(struct check *check, const char *unit, check_fn fn, uint64_t places);

/* Something is found. */
void check_note(struct check_look *look, enum check_verdict verdict, uint64_t word, const char *what);
/* What is to be thought of words that say this process (its slot) is in the middle of something. */
enum check_verdict check_process(struct check *check, uint64_t process);

/* The logs of operations on user slots, and the names. */
hshm_status check_logs(struct check *check);

#endif
