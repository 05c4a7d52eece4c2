/*
 * wordcount.h - what the processes of wordcount share, and what each keeps for itself.
 *
 * The heap carries the whole job, so that its name is all that a process has to be told:
 *
 *     custom header: struct job_header     magic, version, offsets of the rest, the chunk counter
 *     blocks:        files                 the paths
 *                    chunks                pieces of files, each to be indexed by whoever takes it first
 *                    tallies               one a worker
 *                    table                 the index: buckets and a block for each distinct word
 */
#ifndef WORDCOUNT_H
#define WORDCOUNT_H

#include "wordcount_table.h"

#include <stdalign.h>

enum { JOB_VERSION = 1, WORKERS_MAX = 64, BACKEND_ID = 0 };

#define JOB_MAGIC UINT64_C(0x746e756f6364726f) /* "ordcount" */
#define ALLOCATOR_ID ((hshm_allocator_id){ 1, 0 })

/* Shared: a piece of a file that begins and ends between words. */
struct chunk {
    uint64_t file;  /* which: an index into job_header.files */
    uint64_t start; /* bytes from the file's begin */
    uint64_t length;
};

/* Shared: what one worker did.  Written by that worker only; each on a cache line of its own. */
struct tally {
    alignas(64) _Atomic uint64_t bytes; /* of text that it indexed */
    _Atomic uint64_t words;
    _Atomic uint64_t inserted;   /* of these, words that nobody had met before */
    _Atomic uint64_t lost_races; /* ... and those that another process inserted at the same moment */
    _Atomic int64_t pid;
};

/*
 * Shared: the heap's custom header.  Written by the creator; only the atomics change once it is filled in.
 * The arrays: hshm_off files[file_count], each the offset of a path; struct chunk chunks[chunk_count]; and
 * struct tally tallies[worker_count].
 */
struct job_header {
    _Atomic uint64_t filled_in; /* JOB_MAGIC once all that follows is there; stored last */
    uint64_t version;           /* JOB_VERSION */
    struct word_table_root table;
    hshm_off files;
    uint64_t file_count;
    hshm_off chunks;
    uint64_t chunk_count;
    hshm_off tallies;
    uint64_t worker_count;
    uint64_t input_bytes;
    _Atomic uint64_t index_ns;               /* how long the indexing took; 0 = not finished */
    alignas(64) _Atomic uint64_t next_chunk; /* the first that nobody has taken */
};

/* Local: a job as this process sees it. */
struct job {
    hshm_backend *backend;
    hshm_allocator *heap;
    struct job_header *header;
    const hshm_off *files;
    struct chunk *chunks;
    struct tally *tallies;
    struct word_table table;
};

/* Local: the files and how they are cut. */
struct input {
    char **files;
    size_t file_count;
    struct chunk *chunks;
    size_t chunk_count;
    size_t chunk_capacity;
    uint64_t bytes;
};

/* A word is a run of these, whatever the locale: the independent count must mean the same. */
static inline bool
is_letter(char c)
{
    return ((unsigned)c | 0x20) - 'a' < 26;
}

/*
 * Find out what there is to index: the files named, or, when count is 0, those of a folder that most systems have.
 * On failure says why and returns false.  Either way free it with input_free().
 */
bool input_plan(struct input *input, char *const files[], int count);
void input_free(struct input *input);

/*
 * Make the heap and put the job into it; size 0 = by the input.  On failure says why and returns false.  Either way end
 * it with hshm_backend_destroy(), which is harmless when there is nothing to destroy.
 */
bool job_create(const char *name, uint64_t size, unsigned workers, const struct input *input, struct job *ret_job);

/* Attach to a job by its heap's name.  On failure says why and returns false, with nothing attached. */
bool job_attach(const char *name, bool read_only, struct job *ret_job);

/* A file's path, in this process. */
const char *job_path(const struct job *job, uint64_t file);

/* "wordcount: ..." on stderr, as one line. */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

/* The process that indexes: `wordcount --worker NAME INDEX`, the index being that of its tally. */
int worker_main(char *const arguments[]);

/*
 * The process that shows and checks the result: `wordcount --report NAME TOP ADDRESS SIZE`.
 * ADDRESS and SIZE say where the creator has the heap, so that this process can have it elsewhere.
 */
int report_main(char *const arguments[]);

#endif
