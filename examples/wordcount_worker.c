/*
 * wordcount_worker.c - one of the processes that fill the table: takes piece after piece and indexes its words.
 *
 * A word belongs to the piece in which it begins.  So a worker skips what goes on from the piece before, and reads
 * beyond the end until its last word is whole.
 */
#include "wordcount.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Local: this process's view of the job. */
struct worker {
    hshm_allocator *heap;
    const struct job *job;
    struct tally *tally;
    char *text; /* what of a file is in hand */
    size_t length;
    size_t capacity;
};

/* Read `size` bytes of the file behind those in hand. */
static bool
read_more(struct worker *worker, int fd, const struct file *file, uint64_t at, uint64_t size)
{
    if (worker->length + size > worker->capacity) {
        const size_t capacity = (worker->length + size) * 2;
        char *text = realloc(worker->text, capacity);
        if (text == NULL) {
            complain("no memory for %zu bytes of '%s'", capacity, file->path);
            return false;
        }
        worker->text = text;
        worker->capacity = capacity;
    }
    while (size > 0) {
        const ssize_t got = pread(fd, worker->text + worker->length, size, (off_t)at);
        if (got <= 0) {
            complain("cannot read '%s': %s", file->path, got == 0 ? "it became shorter meanwhile" : strerror(errno));
            return false;
        }
        worker->length += (size_t)got;
        at += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return true;
}

static uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Find the words that begin in text[from] .. text[border - 1], make them lower case in place, and add them. */
static bool
add_words(struct worker *worker, size_t from, size_t border)
{
    uint64_t words = 0, inserted = 0, lost_races = 0;
    char *text = worker->text;
    for (size_t i = from; i < border;) {
        const size_t begin = i;
        for (; i < worker->length && is_letter(text[i]); i++)
            text[i] = (char)(text[i] | 0x20);
        if (i == begin) {
            i++;
            continue;
        }
        const enum word_added added = word_add(worker->heap, &worker->job->table, text + begin, i - begin);
        if (added == WORD_NO_ROOM) {
            complain("the index does not fit into the heap (-s sets its size): %s", hshm_last_error());
            return false;
        }
        words++;
        inserted += added == WORD_INSERTED;
        lost_races += added == WORD_LOST_RACE;
    }
    /* Once a piece, as each of these costs what a word costs. */
    atomic_fetch_add(&worker->tally->words, words);
    atomic_fetch_add(&worker->tally->inserted, inserted);
    atomic_fetch_add(&worker->tally->lost_races, lost_races);
    return true;
}

/* What is in hand ends at `at`, maybe inside a word: read on until that word ends. */
static bool
read_word_end(struct worker *worker, int fd, const struct file *file, uint64_t at)
{
    size_t i = worker->length;
    if (!is_letter(worker->text[i - 1]))
        return true;
    while (i == worker->length && at < file->size) {
        /* As much again each time, so that a word of any length takes few turns. */
        const uint64_t more = least(worker->length, file->size - at);
        if (!read_more(worker, fd, file, at, more))
            return false;
        at += more;
        while (i < worker->length && is_letter(worker->text[i]))
            i++;
    }
    return true;
}

/* Index the words that begin in the piece of the file at `start`. */
static bool
index_piece(struct worker *worker, int fd, const struct file *file, uint64_t start)
{
    const uint64_t end = least(start + PIECE, file->size);
    /* With the byte before: it tells whether a word goes on from there. */
    const uint64_t first = start == 0 ? 0 : start - 1;
    worker->length = 0;
    if (!read_more(worker, fd, file, first, end - first))
        return false;
    const size_t border = worker->length;
    size_t from = 0;
    while (start > 0 && from < border && is_letter(worker->text[from]))
        from++;
    /* Where there is nothing but the inside of a long word, there is nothing to read on for. */
    if (from < border && !read_word_end(worker, fd, file, end))
        return false;
    if (!add_words(worker, from, border))
        return false;
    atomic_fetch_add(&worker->tally->bytes, end - start);
    return true;
}

/* Take pieces of a file until there are none left. */
static bool
index_file(struct worker *worker, struct file *file)
{
    int fd = -1;
    bool ok = true;
    while (ok) {
        /* Whoever adds gets a piece that nobody else gets: no other agreement about who does what is needed. */
        const uint64_t start = atomic_fetch_add(&file->taken, PIECE);
        if (start >= file->size)
            break;
        if (fd < 0)
            fd = open(file->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            complain("cannot read '%s': %s", file->path, strerror(errno));
        ok = fd >= 0 && index_piece(worker, fd, file, start);
        sched_yield(); /* so that all have a part in it, also where there are fewer processors than workers */
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

int
worker_main(char *const arguments[])
{
    /* Should the process that waits for us be killed, nobody would want our work any more. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct worker worker = { 0 };
    struct job *job = job_attach(arguments[0], false, &worker.heap);
    if (job == NULL)
        return EXIT_FAILURE;
    /* It may have been killed before we asked for the signal; then we are another one's child by now. */
    if ((uint64_t)getppid() != job->leader)
        return EXIT_FAILURE;
    worker.job = job;
    worker.tally = &job->tallies[strtoul(arguments[1], NULL, 10)];
    /* Begin together: on little text the first would be done before the last has come. */
    atomic_fetch_add(&job->ready, 1);
    while (atomic_load(&job->ready) < job->workers)
        sched_yield();
    bool ok = true;
    for (hshm_off off = job->files; ok && off != HSHM_OFF_NULL;) {
        struct file *file = hshm_to_addr(worker.heap, off);
        ok = index_file(&worker, file);
        off = file->next;
    }
    free(worker.text);
    hshm_backend_detach(NULL, BACKEND_ID);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
