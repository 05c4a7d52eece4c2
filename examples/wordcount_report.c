/*
 * wordcount_report.c - the last process of wordcount: attaches read-only, shows the index, and checks it.
 *
 * It maps the heap at another address than the creator, on purpose: all that it reads, it reads by offsets.  The check
 * is a count that shares no code with this program: tr, sort and uniq over the same files.
 */
#include "wordcount.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BAR_WIDTH = 32, WORD_WIDTH = 20, DIFFERENCES_SHOWN = 10 };

/* Local: the job, and all its words. */
struct report {
    hshm_allocator *heap;
    const struct job *job;
    const struct word_node **nodes;
    size_t distinct;
    uint64_t words;
};

static uint64_t
count_of(const struct word_node *node)
{
    return atomic_load_explicit(&node->count, memory_order_relaxed);
}

/* The most frequent words first; those of equal count by the alphabet. */
static int
by_count(const void *left, const void *right)
{
    const struct word_node *a = *(const struct word_node *const *)left;
    const struct word_node *b = *(const struct word_node *const *)right;
    if (count_of(a) != count_of(b))
        return count_of(a) > count_of(b) ? -1 : 1;
    const int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

static bool
list_words(struct report *report)
{
    report->nodes = word_list(report->heap, &report->job->table, &report->distinct);
    if (report->nodes == NULL) {
        complain("no memory for a list of all words");
        return false;
    }
    for (size_t i = 0; i < report->distinct; i++)
        report->words += count_of(report->nodes[i]);
    qsort(report->nodes, report->distinct, sizeof report->nodes[0], by_count);
    return true;
}

static void
print_top(const struct report *report, size_t top)
{
    if (top > report->distinct)
        top = report->distinct;
    if (top > 0)
        printf("\n%10s  word\n", "count");
    for (size_t i = 0; i < top; i++) {
        const struct word_node *node = report->nodes[i];
        const int shown = node->length < WORD_WIDTH ? (int)node->length : WORD_WIDTH;
        const int bar = (int)((double)count_of(node) / (double)count_of(report->nodes[0]) * BAR_WIDTH + 0.5);
        printf("%10" PRIu64 "  %.*s%*s %.*s\n", count_of(node), shown, node->text, WORD_WIDTH - shown, "", bar,
               "################################");
    }
}

static void
print_workers(const struct report *report)
{
    printf("\n%10s  %10s  %6s  %10s  %10s\n", "worker", "words", "share", "new words", "races lost");
    for (uint64_t i = 0; i < report->job->workers; i++) {
        const struct tally *tally = &report->job->tallies[i];
        const uint64_t words = atomic_load(&tally->words);
        printf("%10" PRIu64 "  %10" PRIu64 "  %5.1f%%  %10" PRIu64 "  %10" PRIu64 "\n", i + 1, words,
               report->words == 0 ? 0.0 : 100.0 * (double)words / (double)report->words, atomic_load(&tally->inserted),
               atomic_load(&tally->lost_races));
    }
}

/* Output counts as shown only when it has arrived. */
static bool
flush_output(void)
{
    if (fflush(stdout) == 0)
        return true;
    complain("cannot write the report: %s", strerror(errno));
    return false;
}

static double
mib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

static bool
print_heap(const struct report *report, const void *creator_base)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    hshm_stats stats = HSHM_STATS_INIT;
    if (hshm_backend_info(hshm_backend_get(NULL, BACKEND_ID), &info) != HSHM_OK ||
        hshm_stats_get(report->heap, &stats) != HSHM_OK) {
        complain("cannot describe the heap: %s", hshm_last_error());
        return false;
    }
    printf("the heap '%s' has %.1f MiB of POSIX shared memory: %.1f MiB in %" PRIu64 " blocks, %.1f MiB free\n",
           info.url, mib(info.size), mib(stats.live_bytes), stats.live_blocks, mib(stats.free_bytes));
    printf("it lies at %p in the process that made it, and at %p in this one, which only reads\n", creator_base,
           info.base);
    return true;
}

static bool
print_report(const struct report *report, size_t top, const void *creator_base)
{
    const struct job *job = report->job;
    const double seconds = (double)job->index_ns / 1e9;
    printf("%" PRIu64 " words, %zu distinct; %.2f MB in %" PRIu64 " file%s\n", report->words, report->distinct,
           (double)job->bytes / 1e6, job->file_count, job->file_count == 1 ? "" : "s");
    printf("indexed in %.1f ms by %" PRIu64 " process%s, their start included: %.1f MB/s\n", seconds * 1e3,
           job->workers, job->workers == 1 ? "" : "es", (double)job->bytes / 1e6 / seconds);
    if (!print_heap(report, creator_base))
        return false;
    print_top(report, top);
    print_workers(report);
    putchar('\n');
    return flush_output(); /* and what is forked from now on does not print it again */
}

/* ---- The independent count -------------------------------------------------------------------------------------- */

/* In the new process: become the shell.  Paths are its arguments, not part of its script: nothing in them is a command. */
static void
become_reference(const struct report *report, int output)
{
    /* The `echo` keeps the last word of a file and the first of the next one apart. */
    static char shell[] = "sh", option[] = "-c",
                script[] = "LC_ALL=C; export LC_ALL; for file do cat <\"$file\"; echo; done |"
                           " tr -cs 'A-Za-z' '\\n' | tr 'A-Z' 'a-z' | sort | uniq -c";
    char **arguments = calloc(report->job->file_count + 5, sizeof *arguments);
    if (arguments == NULL)
        _exit(EXIT_FAILURE);
    char **at = arguments;
    *at++ = shell;
    *at++ = option;
    *at++ = script;
    *at++ = shell;
    for (hshm_off off = report->job->files; off != HSHM_OFF_NULL;) {
        struct file *file = hshm_to_addr(report->heap, off);
        *at++ = file->path;
        off = file->next;
    }
    dup2(output, STDOUT_FILENO);
    execvp(shell, arguments);
    complain("cannot start sh: %s", strerror(errno));
    _exit(EXIT_FAILURE);
}

/* Compare each line "count word" with the index; false when one differs, or the index has others. */
static bool
compare_counts(const struct report *report, FILE *lines)
{
    uint64_t distinct = 0, differences = 0;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, lines)) > 0) {
        char *word;
        const uint64_t theirs = strtoull(line, &word, 10);
        word += *word == ' ';
        const size_t word_length = (size_t)(line + length - word) - 1;
        if (word_length == 0) /* what is no letter at the begin of the text gives an empty word */
            continue;
        distinct++;
        const uint64_t ours = word_count(report->heap, &report->job->table, word, word_length);
        if (ours != theirs && differences++ < DIFFERENCES_SHOWN)
            complain("'%.*s' was met %" PRIu64 " times, but tr|sort|uniq says %" PRIu64,
                     word_length < WORD_WIDTH ? (int)word_length : WORD_WIDTH, word, ours, theirs);
    }
    free(line);
    if (differences == 0 && distinct == report->distinct)
        return true;
    complain("%" PRIu64 " counts differ from those of tr|sort|uniq, which knows %" PRIu64 " distinct words "
             "(did a file change meanwhile?)",
             differences, distinct);
    return false;
}

static bool
check_against_reference(const struct report *report)
{
    int ends[2];
    pid_t pid = -1;
    FILE *lines = NULL;
    if (pipe(ends) == 0 && (lines = fdopen(ends[0], "r")) != NULL)
        pid = fork();
    if (pid == 0)
        become_reference(report, ends[1]);
    if (pid < 0) {
        complain("cannot start the independent count: %s", strerror(errno));
        return false;
    }
    close(ends[1]);
    const bool same = compare_counts(report, lines);
    fclose(lines);
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        complain("the independent count (tr|sort|uniq) failed");
        return false;
    }
    if (!same)
        return false;
    printf("agrees with tr|sort|uniq: %" PRIu64 " words, %zu distinct\n", report->words, report->distinct);
    return flush_output();
}

int
report_main(char *const arguments[])
{
    const char *name = arguments[0];
    const size_t top = strtoul(arguments[1], NULL, 10);
    void *creator_base = (void *)(uintptr_t)strtoull(arguments[2], NULL, 16);
    /* Be in the way at the creator's address.  When something lies there already that serves as well. */
    mmap(creator_base, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    struct report report = { 0 };
    report.job = job_attach(name, true, &report.heap);
    if (report.job == NULL)
        return EXIT_FAILURE;
    const bool ok = list_words(&report) && print_report(&report, top, creator_base) && check_against_reference(&report);
    free(report.nodes);
    hshm_backend_detach(NULL, BACKEND_ID);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
