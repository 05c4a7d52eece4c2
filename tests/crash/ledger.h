/*
 * ledger.h - who holds which block, written down in memory that outlives processes; and random work that keeps it right.
 *
 * A block's entry is there from when it was filled until before it is freed, so what stands here is live and whole at any
 * moment.  Each of those who work writes in a part of its own.
 */
#ifndef HSHM_TESTS_CRASH_LEDGER_H
#define HSHM_TESTS_CRASH_LEDGER_H

#include "blocks.h"

enum {
    PART_VICTIM,  /* the process that is stepped            */
    PART_FOUNDER, /* the one that made the heap              */
    PART_MATE,    /* another thread of the victim            */
    PARTS,
    PART_BLOCKS = 160
};

/* The heap's custom header: slots, of which each full one holds a live block that stands nowhere in the ledger. */
enum { USER_SLOTS = 8 };
struct user_slots {
    hshm_slot slots[USER_SLOTS];
};

/* A name whose block stands nowhere in the ledger, and one of a block that stands there. */
#define NAME_OF_ITS_OWN "its own"
#define NAME_OF_ANOTHERS "another's"

/* What is in a block follows from its size and key. */
struct held {
    uint64_t off; /* 0 = none */
    uint64_t size;
    uint64_t key;
};

struct ledger {
    struct held blocks[PARTS][PART_BLOCKS];
    /* The block that the call under way frees or changes: it may be gone, or if it changes, somewhere else. */
    struct held subject;
    uint64_t keeps; /* so many bytes of it must be somewhere; 0: none    */
    uint32_t news;  /* so many live blocks that stand nowhere there may be */
};

/* One who works. */
struct worker {
    hshm_allocator *heap;
    struct ledger *ledger;
    unsigned part;
    uint64_t random;
    uint64_t slice; /* bytes of one, or what counts as one in a Stack */
    uint64_t data;  /* bytes of the heap's blocks                     */
};

struct worker worker_make(hshm_allocator *heap, struct ledger *ledger, unsigned part, uint64_t seed);
uint64_t random_below(struct worker *w, uint64_t limit);

/* Sizes: of blocks in slabs of one slice, of several, of runs, and of a good part of the heap. */
size_t small_size(struct worker *w);
size_t medium_size(struct worker *w);
size_t large_size(struct worker *w);
size_t huge_size(struct worker *w);
size_t any_size(struct worker *w);

/* Write down a block that was taken, filled; NULL is fine.  Where its part is full, an older one is freed first. */
void note_block(struct worker *w, void *block, size_t size);
void fill_held(hshm_allocator *heap, void *block, size_t size, uint64_t key);
/*
 * Are the first `kept` bytes of a block of this size as they were filled?  Of blocks in the memory of a device whose owner is dead, as in
 * every image, nothing is left that could be looked at, and the answer is yes.
 */
bool is_whole(hshm_allocator *heap, const void *block, const struct held *held, uint64_t kept);
/* Attach, also to a heap on a device whose owner is dead. */
hshm_allocator *attach_anyhow(hshm_backend_kind backend, const char *url);

/* A block of that part of at least `from` and below `to` bytes, at random; NULL if there is none. */
struct held *pick_block(struct worker *w, unsigned part, uint64_t from, uint64_t to);
/* Free one that stands in the ledger. */
void free_held(struct worker *w, struct held *held);
/* Free all of its own part but so many. */
void free_down_to(struct worker *w, unsigned count);

/* Random calls. */
void work(struct worker *w, unsigned calls);

#endif
