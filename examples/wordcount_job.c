/*
 * wordcount_job.c - from a list of files to a heap that holds the whole job, and from a heap's name to the job in it.
 *
 * The creator cuts the files into chunks between words, puts paths, chunks, tallies and an empty table into the heap,
 * and makes that visible as a whole.  The others need the name only.
 */
#include "wordcount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define DEFAULT_FOLDER "/usr/share/common-licenses"

enum {
    CHUNK_SIZE = 64 * 1024, /* small enough to keep all workers busy to the end, large enough to be worth a trip */
    ATTACH_TIMEOUT_MS = 10000
};

/* ---- The input: which files, and how they are cut --------------------------------------------------------------- */

static bool
add_file(struct input *input, const char *path)
{
    char **files = realloc(input->files, (input->file_count + 1) * sizeof *files);
    if (files == NULL)
        return false;
    input->files = files;
    files[input->file_count] = strdup(path);
    return files[input->file_count++] != NULL;
}

static bool
add_chunk(struct input *input, uint64_t start, uint64_t length)
{
    if (input->chunk_count == input->chunk_capacity) {
        const size_t capacity = input->chunk_capacity * 2 + 64;
        struct chunk *chunks = realloc(input->chunks, capacity * sizeof *chunks);
        if (chunks == NULL)
            return false;
        input->chunks = chunks;
        input->chunk_capacity = capacity;
    }
    input->chunks[input->chunk_count++] = (struct chunk){ input->file_count - 1, start, length };
    return true;
}

/* The first place at or after `at` that has no letter, or the file's end; false, with errno, if it cannot be read. */
static bool
find_border(int fd, uint64_t at, uint64_t size, uint64_t *ret_border)
{
    char bytes[256];
    while (at < size) {
        const ssize_t got = pread(fd, bytes, sizeof bytes, (off_t)at);
        if (got < 0)
            return false;
        if (got == 0)
            break;
        for (ssize_t i = 0; i < got; i++, at++) {
            if (!is_letter(bytes[i])) {
                *ret_border = at;
                return true;
            }
        }
    }
    *ret_border = size;
    return true;
}

/* Cut a file into chunks, between words. */
static bool
cut_file(struct input *input, int fd, uint64_t size)
{
    for (uint64_t start = 0, end = 0; start < size; start = end) {
        if (!find_border(fd, start + CHUNK_SIZE, size, &end) || !add_chunk(input, start, end - start))
            return false;
    }
    input->bytes += size;
    return true;
}

static bool
plan_file(struct input *input, const char *path)
{
    struct stat about;
    /* Without O_NONBLOCK to open a pipe would wait for somebody to write into it. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok = fd >= 0 && fstat(fd, &about) == 0;
    if (ok && !S_ISREG(about.st_mode)) {
        complain("'%s' is not a regular file", path);
        close(fd);
        return false;
    }
    ok = ok && add_file(input, path) && cut_file(input, fd, (uint64_t)about.st_size);
    if (!ok)
        complain("cannot read '%s': %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Regular files only: a symbolic link beside its target would count the same text twice. */
static bool
plan_folder(struct input *input, const char *folder)
{
    struct dirent **entries = NULL;
    const int count = scandir(folder, &entries, NULL, alphasort);
    bool ok = count >= 0;
    if (!ok)
        complain("cannot list '%s': %s; name the files to index on the command line", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        struct stat about;
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (ok && lstat(path, &about) == 0 && S_ISREG(about.st_mode))
            ok = plan_file(input, path);
        free(entries[i]);
    }
    free(entries);
    return ok;
}

bool
input_plan(struct input *input, char *const files[], int count)
{
    if (count == 0)
        return plan_folder(input, DEFAULT_FOLDER);
    for (int i = 0; i < count; i++)
        if (!plan_file(input, files[i]))
            return false;
    return true;
}

void
input_free(struct input *input)
{
    for (size_t i = 0; i < input->file_count; i++)
        free(input->files[i]);
    free(input->files);
    free(input->chunks);
}

/* ---- The job in the heap ---------------------------------------------------------------------------------------- */

/* Find the header and turn its offsets into this process's addresses. */
static void
job_map(struct job *job)
{
    struct job_header *header = hshm_allocator_custom_header(job->heap, NULL);
    job->header = header;
    job->files = hshm_to_addr(job->heap, header->files);
    job->chunks = hshm_to_addr(job->heap, header->chunks);
    job->tallies = hshm_to_addr(job->heap, header->tallies);
    job->table = word_table_open(job->heap, &header->table);
}

const char *
job_path(const struct job *job, uint64_t file)
{
    return hshm_to_addr(job->heap, job->files[file]);
}

/* Copy the paths into the heap: an array of offsets, and a block for each path. */
static bool
store_paths(hshm_allocator *heap, const struct input *input, hshm_off *ret_off)
{
    hshm_off *files = hshm_malloc(heap, input->file_count * sizeof *files);
    if (files == NULL)
        return false;
    for (size_t i = 0; i < input->file_count; i++) {
        const size_t size = strlen(input->files[i]) + 1;
        char *path = hshm_malloc(heap, size);
        if (path == NULL)
            return false;
        memcpy(path, input->files[i], size);
        files[i] = hshm_to_off(heap, path);
    }
    *ret_off = hshm_to_off(heap, files);
    return true;
}

/* Copy the chunks into the heap. */
static bool
store_chunks(hshm_allocator *heap, const struct input *input, hshm_off *ret_off)
{
    struct chunk *chunks = hshm_malloc(heap, input->chunk_count * sizeof *chunks);
    if (chunks == NULL)
        return false;
    if (input->chunk_count > 0)
        memcpy(chunks, input->chunks, input->chunk_count * sizeof *chunks);
    *ret_off = hshm_to_off(heap, chunks);
    return true;
}

/* One tally a worker, all zero. */
static bool
store_tallies(hshm_allocator *heap, unsigned workers, hshm_off *ret_off)
{
    struct tally *tallies = hshm_aligned_alloc(heap, alignof(struct tally), workers * sizeof *tallies);
    if (tallies == NULL)
        return false;
    memset(tallies, 0, workers * sizeof *tallies);
    *ret_off = hshm_to_off(heap, tallies);
    return true;
}

/* As many buckets as the text may have distinct words, but no more than an eighth of the heap. */
static uint64_t
choose_bucket_count(uint64_t input_bytes, uint64_t heap_size)
{
    uint64_t count = 1024;
    while (count < input_bytes / 16 && count * sizeof(hshm_off) < heap_size / 16 && count < (uint64_t)1 << 22)
        count *= 2;
    return count;
}

/* By default the index of a text has room for four times the text; that of long texts needs far less. */
static uint64_t
choose_heap_size(uint64_t input_bytes)
{
    const uint64_t size = 32 * MIB + 4 * input_bytes;
    return size < 2048 * MIB ? size : 2048 * MIB;
}

/* Put the job into an empty heap. */
static bool
store_job(hshm_allocator *heap, uint64_t heap_size, unsigned workers, const struct input *input)
{
    struct job_header *header = hshm_allocator_custom_header(heap, NULL);
    header->version = JOB_VERSION;
    header->file_count = input->file_count;
    header->chunk_count = input->chunk_count;
    header->worker_count = workers;
    header->input_bytes = input->bytes;
    if (!store_paths(heap, input, &header->files) || !store_chunks(heap, input, &header->chunks) ||
        !store_tallies(heap, workers, &header->tallies) ||
        !word_table_create(heap, choose_bucket_count(input->bytes, heap_size), &header->table))
        return false;
    /* Make it visible as a whole.  Pairs with the acquire in job_attach(). */
    atomic_store_explicit(&header->filled_in, JOB_MAGIC, memory_order_release);
    return true;
}

bool
job_create(const char *name, uint64_t size, unsigned workers, const struct input *input, struct job *ret_job)
{
    struct job job = { 0 };
    if (size == 0)
        size = choose_heap_size(input->bytes);
    hshm_status status =
        hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, size, name, NULL, &job.backend);
    if (status == HSHM_OK)
        status = hshm_allocator_create(NULL, BACKEND_ID, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, sizeof *job.header, NULL,
                                       &job.heap);
    if (status != HSHM_OK) {
        complain("cannot make a heap of %" PRIu64 " MiB%s: %s", size / MIB,
                 status == HSHM_E_NOSPC ? " (-s sets its size)" : "", hshm_last_error());
        return false;
    }
    if (!store_job(job.heap, size, workers, input)) {
        complain("the list of files does not fit into the heap (-s sets its size): %s", hshm_last_error());
        return false;
    }
    job_map(&job);
    *ret_job = job;
    return true;
}

bool
job_attach(const char *name, bool read_only, struct job *ret_job)
{
    struct job job = { 0 };
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.timeout_ms = ATTACH_TIMEOUT_MS;
    options.read_only = read_only;
    if (hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, &options, &job.backend) != HSHM_OK) {
        complain("cannot attach to the heap '%s': %s", name, hshm_last_error());
        return false;
    }
    if (hshm_allocator_get(NULL, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, &job.heap) != HSHM_OK) {
        complain("cannot use the heap '%s': %s", name, hshm_last_error());
        goto err_detach;
    }
    size_t header_size = 0;
    const struct job_header *header = hshm_allocator_custom_header(job.heap, &header_size);
    /* Pairs with the release in store_job(): after it, all else in the header can be seen. */
    if (header_size != sizeof *header || atomic_load_explicit(&header->filled_in, memory_order_acquire) != JOB_MAGIC ||
        header->version != JOB_VERSION) {
        complain("the heap '%s' holds no job for this version of wordcount", name);
        goto err_detach;
    }
    job_map(&job);
    *ret_job = job;
    return true;

err_detach:
    hshm_backend_detach(NULL, BACKEND_ID);
    return false;
}
