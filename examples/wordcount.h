/*
 * wordcount.h - what the processes of wordcount share.
 *
 * The heap carries the whole job, so that its name is all that a process has to be told:
 *
 *     custom header   struct job       where the rest begins, and what each worker has done
 *     blocks          struct file      the files to index, as a list
 *                     the table        buckets, and a block for each distinct word (wordcount_table.h)
 */
#ifndef WORDCOUNT_H
#define WORDCOUNT_H

#include "wordcount_table.h"

#include <stdalign.h>

enum {
    BACKEND_ID = 0,
    WORKERS_MAX = 64,
    PIECE = 16 * 1024 /* bytes of a file that a worker takes at once: few enough to keep all busy to the end */
};

#define ALLOCATOR_ID ((hshm_allocator_id){ 1, 0 })

/* Shared: a file to index. */
struct file {
    hshm_off next; /* HSHM_OFF_NULL ends the list */
    uint64_t size;
    _Atomic uint64_t taken; /* where the next piece begins that nobody has taken */
    char path[];            /* ends with a zero */
};

/* Shared: what one worker has done.  Written by that worker only; each on a cache line of its own. */
struct tally {
    alignas(64) _Atomic uint64_t bytes; /* of text that it looked through                            */
    _Atomic uint64_t words;
    _Atomic uint64_t inserted;   /* of these, words that nobody had met before                       */
    _Atomic uint64_t lost_races; /* of these, words that another process inserted at the same moment */
};

/* Shared: the custom header.  Filled in before the workers are started; only the atomics change while they work. */
struct job {
    struct word_table table;
    hshm_off files;
    uint64_t file_count;
    uint64_t bytes; /* in all files together */
    uint64_t workers;
    uint64_t leader;        /* the process that waits for them */
    _Atomic uint64_t ready; /* workers that have attached */
    uint64_t index_ns;      /* how long the workers took; written when they are gone */
    struct tally tallies[WORKERS_MAX];
};

/* A word is a run of these, whatever the locale: the independent count must mean the same. */
static inline bool
is_letter(char c)
{
    return ((unsigned)c | 0x20) - 'a' < 26;
}

/* "wordcount: ..." on stderr, as one line. */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

/* Attach to the heap of that name and find the job in it.  NULL, and the reason is told, when that cannot be done. */
struct job *job_attach(const char *name, bool read_only, hshm_allocator **ret_heap);

/* The process that indexes: `wordcount --worker NAME INDEX`, the index being that of its tally. */
int worker_main(char *const arguments[]);

/*
 * The process that shows and checks the result: `wordcount --report NAME TOP ADDRESS`.
 * ADDRESS is where the creator has the heap; this process will have it elsewhere.
 */
int report_main(char *const arguments[]);

#endif
