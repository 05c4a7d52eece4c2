/*
 * wordcount_worker.c - one of the processes that fill the table: takes chunk after chunk and indexes its words.
 */
#include "wordcount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The text of one chunk, and the file that it came from, kept open for the next. */
struct reader {
    int fd;
    uint64_t file;
    char *text;
    size_t capacity;
};

static bool
reader_open(struct reader *reader, const struct job *job, uint64_t file)
{
    if (reader->fd >= 0 && reader->file == file)
        return true;
    if (reader->fd >= 0)
        close(reader->fd);
    reader->file = file;
    reader->fd = open(job_path(job, file), O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0)
        complain("cannot read '%s': %s", job_path(job, file), strerror(errno));
    return reader->fd >= 0;
}

static bool
reader_load(struct reader *reader, const struct job *job, const struct chunk *chunk)
{
    if (!reader_open(reader, job, chunk->file))
        return false;
    if (chunk->length > reader->capacity) {
        char *text = realloc(reader->text, chunk->length);
        if (text == NULL) {
            complain("no memory for %" PRIu64 " bytes of '%s'", chunk->length, job_path(job, chunk->file));
            return false;
        }
        reader->text = text;
        reader->capacity = chunk->length;
    }
    for (size_t done = 0; done < chunk->length;) {
        const ssize_t got = pread(reader->fd, reader->text + done, chunk->length - done, (off_t)(chunk->start + done));
        if (got <= 0) {
            complain("cannot read '%s': %s", job_path(job, chunk->file),
                     got == 0 ? "it became shorter meanwhile" : strerror(errno));
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

/* What one chunk brought.  Summed up here first, as this process's own numbers cost less than the heap's. */
struct sums {
    uint64_t words;
    uint64_t inserted;
    uint64_t lost_races;
};

/* Find the words of a text, make them lower case in place, and add them to the shared table. */
static bool
index_text(const struct word_table *table, char *text, size_t length, struct sums *sums)
{
    for (size_t i = 0; i < length;) {
        while (i < length && !is_letter(text[i]))
            i++;
        const size_t start = i;
        for (; i < length && is_letter(text[i]); i++)
            text[i] = (char)(text[i] | 0x20);
        if (i == start)
            break;
        const enum word_added added = word_table_add(table, text + start, i - start);
        if (added == WORD_NO_ROOM) {
            complain("the index does not fit into the heap (-s sets its size): %s", hshm_last_error());
            return false;
        }
        sums->words++;
        sums->inserted += added == WORD_INSERTED;
        sums->lost_races += added == WORD_LOST_RACE;
    }
    return true;
}

static bool
index_chunk(const struct job *job, struct tally *tally, struct reader *reader, const struct chunk *chunk)
{
    struct sums sums = { 0 };
    if (!reader_load(reader, job, chunk) || !index_text(&job->table, reader->text, chunk->length, &sums))
        return false;
    /* Relaxed: the parent looks at them to show progress only, and reads the sums after it has waited for us. */
    atomic_fetch_add_explicit(&tally->words, sums.words, memory_order_relaxed);
    atomic_fetch_add_explicit(&tally->inserted, sums.inserted, memory_order_relaxed);
    atomic_fetch_add_explicit(&tally->lost_races, sums.lost_races, memory_order_relaxed);
    atomic_fetch_add_explicit(&tally->bytes, chunk->length, memory_order_relaxed);
    return true;
}

int
worker_main(char *const arguments[])
{
    struct job job;
    if (!job_attach(arguments[0], false, &job))
        return EXIT_FAILURE;
    struct tally *tally = &job.tallies[strtoul(arguments[1], NULL, 10)];
    atomic_store(&tally->pid, getpid());
    struct reader reader = { .fd = -1 };
    bool ok = true;
    while (ok) {
        /* Whoever adds gets a number that nobody else gets: no other agreement about who does what is needed. */
        const uint64_t nth = atomic_fetch_add_explicit(&job.header->next_chunk, 1, memory_order_relaxed);
        if (nth >= job.header->chunk_count)
            break;
        ok = index_chunk(&job, tally, &reader, &job.chunks[nth]);
    }
    if (reader.fd >= 0)
        close(reader.fd);
    free(reader.text);
    hshm_backend_detach(NULL, BACKEND_ID);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
