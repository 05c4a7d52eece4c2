/*
 * victim.h - the processes around a call that is stepped through, and the calls.
 *
 * A founder makes the heap and works on it; it lives on, or is dead by then.  The victim attaches, has another thread (the mate)
 * work, and then does the same call again and again, with other work in between that is not stepped.
 */
#ifndef HSHM_TESTS_CRASH_VICTIM_H
#define HSHM_TESTS_CRASH_VICTIM_H

#include "ledger.h"
#include "traps.h"

struct victim;

struct call {
    const char *name;
    bool stack;    /* Stacks have it too                              */
    bool slabs;    /* heaps of slabs have it                          */
    bool detached; /* the victim is not attached yet                  */
    bool idle;     /* attached, but its first thread has taken no block */
    uint32_t news; /* live blocks that nobody knows a kill may leave  */
    bool exact;    /* not one more, whatever the kind                 */
    bool large;    /* done otherwise in regions of 16 MiB and more    */
    unsigned rounds;
    /* Get ready.  False: not this time.  NULL where the victim is not attached. */
    bool (*choose)(struct victim *victim);
    void (*run)(struct victim *victim);
    /* Write down what it gave; may be NULL. */
    void (*settle)(struct victim *victim);
    bool by_ptrace; /* signals are blocked somewhere in it: no traps.h */
};

extern const struct call calls[];
extern const size_t call_count;

/* Shared: what they all know. */
struct cast {
    const struct call *call;
    hshm_allocator_kind kind;
    hshm_backend_kind backend;
    size_t size;
    bool lazy;
    char name[64], url[96];
    uint64_t seed;
    bool by_ptrace;
    uint32_t slots; /* that the region has; 0 = a few */
    /* Instead of stepping through the call, with whatever else is to be noticed of it; NULL: it is stepped. */
    void (*watch_call)(struct victim *victim);
    struct trap_line line;
    struct step founded;
    struct ledger ledger;
};

/* Local to the victim. */
struct victim {
    struct cast *cast;
    struct worker w;
    size_t size, alignment;
    void *block; /* that the call is about, or gave */
    size_t from; /* the slot that it is about       */
};

/* What an heir does, in an image that a kill left. */
enum { HEIR_RECOVERS, HEIR_ATTACHES, HEIR_CALLS };
extern const struct call heir_calls[HEIR_CALLS];
void live_as_heir(void *cast);

/* Begin to work on the cast's heap, where the victim is not attached yet. */
void attach_to(struct victim *victim);
/* Parts of `calls`. */
bool choose_any(struct victim *victim);
bool choose_trim(struct victim *victim);
void run_malloc(struct victim *victim);
void run_realloc(struct victim *victim);
void settle_resized(struct victim *victim);
hshm_slot *slot_at(const struct victim *victim, size_t i);
void empty_slot(const struct victim *victim, size_t i);

/* The founder's life, and the victim's, for child_start() and stepped_life(). */
int found_heap(void *cast);
void live_as_victim(void *cast);

#endif
