/*
 * storm.h - processes that work on one heap, and are killed at any moment while the others go on.
 *
 *   main.c      options in, one row a subject out
 *   watch.c     starts workers, kills them, finds those that hang; touches no heap itself once it is made
 *   worker.c    what a worker does: random calls, each written down and timed
 *   clock.c     how long a call took, less the time that its thread was ready and had no processor
 *   judge.c     a process of its own that recovers, checks and accounts for every block, while nobody else works
 *   subject_*.c the heaps: ours, and Boost.Interprocess
 *
 * Each thread writes down what it holds, in memory that outlives it (the ledger): an entry is cleared before its block is freed,
 * and written when a new one is filled.  So an entry says the truth whenever its thread is killed.  What the call under way frees
 * or changes stands in `hand`; how many blocks more the thread may take into its grave, in `may_lose`.
 */
#ifndef HSHM_TESTS_STORM_STORM_H
#define HSHM_TESTS_STORM_STORM_H

#include <hshm/hshm.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "../support/random.h"

enum {
    PROCESSES_MAX = 16,
    THREADS_MAX = 3,
    HELD = 32,         /* blocks that a thread has                     */
    MARKET = 16,       /* that wander from one process to another      */
    OWN_SLOTS = 8,     /* of a thread; others leave them alone         */
    SHARED_SLOTS = 32, /* of everyone                                  */
    DEAD_MAX = 4096,   /* threads killed between two judgements, at most */
    TEXTS = 24,
    REGION_MIB = 128
};

/* What is looked for. */
enum fault {
    FAULT_CONTENT, /* a block is not what was written into it, or two have it    */
    FAULT_CHECK,   /* hshm_check(), or a count that does not follow from the rest */
    FAULT_ANSWER,  /* a call answered what it must not                            */
    FAULT_STATS,   /* statistics are not what a recount gives                     */
    FAULT_LEAK,    /* more live blocks that nobody knows than the killed may lose */
    FAULT_MEMORY,  /* what is free does not come back                             */
    FAULT_CRASH,   /* a worker ended by itself                                    */
    FAULT_HANG,    /* a call does not return                                      */
    FAULTS
};

enum call {
    CALL_MALLOC,
    CALL_FREE,
    CALL_REALLOC,
    CALL_CALLOC,
    CALL_ALIGNED,
    CALL_ALLOCATE_TO,
    CALL_FREE_FROM,
    CALL_MOVE,
    CALL_TRIM,
    CALL_RECOVER,
    CALL_ATTACH,
    CALL_DETACH,
    CALL_CHECK,
    CALLS
};
extern const char *const call_names[CALLS];

/* A block and what is in it: size << 40 | key << 24 | offset in granules, in one word that changes at once; 0 = none. */
struct entry {
    _Atomic uint64_t what;
};

/* A thread's part of the ledger. */
struct holder {
    struct entry entries[HELD];
    struct entry own[OWN_SLOTS]; /* what is in its slots, once it is written */
    _Atomic uint64_t hand;
    _Atomic uint32_t may_lose;
    _Atomic uint32_t call;  /* the one under way ...              */
    _Atomic uint64_t began; /* ... since when; 0: between calls   */
    _Atomic uint64_t calls;
    _Atomic int32_t tid;
};

struct worker {
    struct holder holders[THREADS_MAX];
    _Atomic uint32_t parked; /* threads that wait at the gate */
    uint32_t threads;
    uint64_t seed;
    pid_t pid; /* 0 = none */
    bool slots_only;
    bool attach; /* anew; else it goes on with what it inherited */
};

struct pause {
    _Atomic uint64_t ns;      /* the longest, less the wait for a processor */
    _Atomic uint64_t wall_ns; /* the longest as it was                      */
    _Atomic uint64_t calls;   /* that took longer than is looked at closely */
    _Atomic uint64_t majors;  /* of these, with major page faults           */
};

/* What a judge says; added up. */
struct verdicts {
    uint64_t judged, leaked, allowed;
    uint64_t live_blocks, live_bytes, used_bytes, committed; /* at the end, trimmed and not freed yet */
    uint64_t committed_empty;                                /* everything freed                      */
    uint64_t recover_ns;                                     /* the longest                           */
};

/* A thread that was killed. */
struct dead {
    uint64_t hand;
    uint32_t may_lose;
    uint32_t call; /* CALLS: in none */
};

/* Shared by all processes of a storm. */
struct storm {
    struct worker workers[PROCESSES_MAX];
    struct holder judge;
    struct entry market[MARKET];
    struct dead dead[DEAD_MAX]; /* since the last judgement */
    uint32_t dead_count;
    _Atomic uint64_t killed_in[CALLS]; /* threads, in the middle of a call */
    _Atomic uint32_t gate;
    _Atomic uint32_t is_full; /* somebody found no room since the last judgement */
    struct pause pauses[CALLS];
    struct verdicts verdicts;
    _Atomic uint64_t faults[FAULTS];
    _Atomic uint32_t texts;
    char text[TEXTS][240];
    char name[64];
    uint64_t kills, anew; /* heaps that were made anew after a hang or a crash */
};

/* The heap's custom header. */
struct user_slots {
    hshm_slot own[PROCESSES_MAX][THREADS_MAX][OWN_SLOTS];
    hshm_slot shared[SHARED_SLOTS];
};

/* A kind of heap.  NULL for a call: it has none. */
struct subject {
    const char *option, *title;
    hshm_allocator_kind kind; /* ANY: not ours */
    bool (*create)(const struct subject *subject, const char *name, size_t bytes);
    void (*destroy)(const char *name);
    bool (*attach)(const char *name, bool anew);
    void (*detach)(void);
    void *(*take)(size_t size);
    bool (*give)(void *block);
    uint64_t (*to_off)(const void *block);
    void *(*to_addr)(uint64_t off);
};
extern const struct subject subject_stack, subject_page, subject_thread, subject_boost;
extern hshm_allocator *our_heap; /* this process's handle, on subjects that are ours */

struct options {
    const struct subject *subject;
    uint64_t kills;   /* 0: no limit */
    uint64_t seconds; /* 0: no limit */
    uint64_t every_us;
    uint64_t hang_seconds;
    uint64_t seed;
    unsigned processes;
};

/* watch.c: to the end.  False when the heap cannot be made. */
bool storm_run(const struct options *options, struct storm *storm);
/* Note a fault, with a sentence; from any process. */
__attribute__((format(printf, 3, 4))) void storm_fault(struct storm *storm, enum fault fault, const char *format, ...);

/* ---- clock.c ---- */

/* One who makes calls: a thread. */
struct caller {
    struct storm *storm;
    struct holder *holder;
    int schedstat;         /* this thread's, open             */
    uint64_t waited_at;    /* when it was read last ...       */
    uint64_t waited;       /* ... ns in the run queue until then */
    uint64_t major_faults; /* ... and major faults            */
    uint64_t began;
};

uint64_t now_ns(void);
struct caller caller_make(struct storm *storm, struct holder *holder);
void call_begin(struct caller *c, enum call call);
void call_end(struct caller *c);

/* ---- worker.c ---- */

_Noreturn void worker_run(const struct subject *subject, struct storm *storm, unsigned index);
void *entry_block(const struct subject *subject, uint64_t what);
/* Is the block as it was written?  Else a fault. */
bool read_block(const struct subject *subject, struct storm *storm, uint64_t what);

/* ---- judge.c ---- */

/* Recover, and no more: to be killed in the middle. */
_Noreturn void judge_recover(struct storm *storm);
/* Recover, check, account for all blocks, free those that nobody knows; `last`: then free everything, and see what comes back. */
_Noreturn void judge_run(const struct subject *subject, struct storm *storm, bool last);

#endif
