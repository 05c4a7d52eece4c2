/*
 * wordcount_table.h - a hash table of words that many processes fill at once, without a lock.
 *
 * All of it lies in one heap and hangs together by offsets, so that it reads the same at every address:
 *
 *     buckets  [  0  | off |  0  | off |  0  ... ]            one array, allocated once
 *                       |           |
 *                       |           +--> "library" 87 --next--> 0
 *                       +--> "the" 1312 --next--> "gnu" 312 --next--> 0
 *
 * Words are added and never taken away, and always at the head of their chain, so:
 *
 *     whatever part of a chain a process has seen stays as it is; what it has not seen can only stand in front of it.
 *
 * Hence a process that lost the race for a bucket's head has to look at the new head part only, and a process that is
 * killed in the middle of an insertion leaves either the whole word or (at most) a block that nobody points to.
 */
#ifndef WORDCOUNT_TABLE_H
#define WORDCOUNT_TABLE_H

#include <hshm/hshm.h>

#include <stdatomic.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "words that processes share must not hide a lock of one process");

/* Shared: where a table begins.  Does not change any more once it is created. */
struct word_table {
    hshm_off buckets; /* of an array: _Atomic hshm_off [mask + 1] */
    uint64_t mask;    /* a power of two, less one                 */
};

/* Shared: one word.  Only `count` changes once the node hangs in a chain. */
struct word_node {
    hshm_off next;          /* HSHM_OFF_NULL ends the chain    */
    _Atomic uint64_t count; /* how often the word was met      */
    uint64_t length;        /* bytes of text; no zero ends it  */
    char text[];
};

/* What word_add() did. */
enum word_added {
    WORD_COUNTED,   /* the word was there                                               */
    WORD_INSERTED,  /* it is new, and this process put it there                         */
    WORD_LOST_RACE, /* it was new, but another process was quicker: ours was given back */
    WORD_NO_ROOM    /* the heap is full; see hshm_last_error()                          */
};

/* Allocate an empty table; false when the heap has no room for it.  `bucket_count` is a power of two. */
bool word_table_create(hshm_allocator *heap, uint64_t bucket_count, struct word_table *ret_table);

/* Count a word once more.  Safe from any number of processes and threads at once. */
enum word_added word_add(hshm_allocator *heap, const struct word_table *table, const char *word, size_t length);

/* Count it so many times more at once. */
enum word_added word_add_times(hshm_allocator *heap, const struct word_table *table, const char *word, size_t length,
                               uint64_t times);

/* How often a word was met; 0 = never. */
uint64_t word_count(hshm_allocator *heap, const struct word_table *table, const char *word, size_t length);

/*
 * All words, in no order, as an array of this process (free() it); the nodes stay in the heap.
 * Nobody may add words meanwhile.  NULL when this process has no memory for the array.
 */
const struct word_node **word_list(hshm_allocator *heap, const struct word_table *table, size_t *ret_count);

#endif
