/*
 * wordcount_report.c - the last process of wordcount: attaches read-only, shows the index, and checks it.
 *
 * It maps the heap at another address than the creator on purpose.  Whatever it can still read, it reads by offsets.
 * The check is a count that shares no code with this program: tr, sort and uniq over the same files.
 */
#include "wordcount.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BAR_WIDTH = 32, WORD_WIDTH = 20, DIFFERENCES_SHOWN = 10 };

/* Local: all words of the index, and their sum. */
struct word_list {
    const struct word_node **nodes;
    size_t count;
    uint64_t total;
};

static uint64_t
count_of(const struct word_node *node)
{
    return atomic_load_explicit(&node->count, memory_order_relaxed);
}

/* The order of `LC_ALL=C sort`: by bytes, and a word before those that it begins. */
static int
compare_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
    const size_t common = a_length < b_length ? a_length : b_length;
    const int order = memcmp(a, b, common);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int
by_text(const void *left, const void *right)
{
    const struct word_node *a = *(const struct word_node *const *)left;
    const struct word_node *b = *(const struct word_node *const *)right;
    return compare_text(a->text, a->length, b->text, b->length);
}

static int
by_count(const void *left, const void *right)
{
    const uint64_t a = count_of(*(const struct word_node *const *)left);
    const uint64_t b = count_of(*(const struct word_node *const *)right);
    return a != b ? (a < b) - (a > b) : by_text(left, right);
}

static bool
list_words(const struct job *job, struct word_list *ret_list)
{
    struct word_list list = { 0 };
    if (!word_table_list(&job->table, &list.nodes, &list.count)) {
        complain("no memory for a list of all words");
        return false;
    }
    for (size_t i = 0; i < list.count; i++)
        list.total += count_of(list.nodes[i]);
    *ret_list = list;
    return true;
}

static double
mib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
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

static void
print_top(struct word_list *list, size_t top)
{
    qsort(list->nodes, list->count, sizeof list->nodes[0], by_count);
    if (top > list->count)
        top = list->count;
    if (top > 0)
        printf("\n%10s  word\n", "count");
    for (size_t i = 0; i < top; i++) {
        const struct word_node *node = list->nodes[i];
        const uint64_t most = count_of(list->nodes[0]);
        const int shown = node->length < WORD_WIDTH ? (int)node->length : WORD_WIDTH;
        const int bar = (int)((double)count_of(node) / (double)most * BAR_WIDTH + 0.5);
        printf("%10" PRIu64 "  %.*s%*s %.*s\n", count_of(node), shown, node->text, WORD_WIDTH - shown, "", bar,
               "################################");
    }
}

static void
print_workers(const struct job *job, uint64_t total)
{
    printf("\n%10s  %8s  %10s  %6s  %10s  %10s\n", "worker", "pid", "words", "share", "new words", "races lost");
    for (uint64_t i = 0; i < job->header->worker_count; i++) {
        struct tally *tally = &job->tallies[i];
        const uint64_t words = atomic_load(&tally->words);
        printf("%10" PRIu64 "  %8" PRId64 "  %10" PRIu64 "  %5.1f%%  %10" PRIu64 "  %10" PRIu64 "\n", i + 1,
               atomic_load(&tally->pid), words, total == 0 ? 0.0 : 100.0 * (double)words / (double)total,
               atomic_load(&tally->inserted), atomic_load(&tally->lost_races));
    }
}

static bool
print_heap(const struct job *job, const void *creator_base)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    hshm_stats stats = HSHM_STATS_INIT;
    if (hshm_backend_info(job->backend, &info) != HSHM_OK || hshm_stats_get(job->heap, &stats) != HSHM_OK) {
        complain("cannot describe the heap: %s", hshm_last_error());
        return false;
    }
    printf("heap '%s': at %p in the process that made it, at %p here\n", info.url, creator_base, info.base);
    printf("  %.2f MiB in %" PRIu64 " blocks are live, %.2f MiB at peak, %.2f MiB are free\n", mib(stats.live_bytes),
           stats.live_blocks, mib(stats.peak_bytes), mib(stats.free_bytes));
    printf("  %.1f MiB of POSIX shared memory; %" PRIu32 " of at most %" PRIu32 " processes attached, readers apart\n",
           mib(info.size), info.processes, info.slots);
    if (info.base == creator_base) {
        complain("the heap lies at %p here too, although something else was put there first", creator_base);
        return false;
    }
    return true;
}

static bool
print_report(const struct job *job, struct word_list *list, size_t top, const void *creator_base)
{
    const struct job_header *header = job->header;
    const double seconds = (double)atomic_load(&header->index_ns) / 1e9;
    printf("%" PRIu64 " words, %zu distinct; %.2f MB in %" PRIu64 " file%s\n", list->total, list->count,
           (double)header->input_bytes / 1e6, header->file_count, header->file_count == 1 ? "" : "s");
    printf("indexed in %.1f ms by %" PRIu64 " process%s, their start included (%.1f MB/s)\n", seconds * 1e3,
           header->worker_count, header->worker_count == 1 ? "" : "es", (double)header->input_bytes / 1e6 / seconds);
    if (!print_heap(job, creator_base))
        return false;
    print_top(list, top);
    print_workers(job, list->total);
    putchar('\n');
    return flush_output();
}

/*
 * Start the independent count; its lines, "count word" in the order of words, come through *ret_lines.
 *
 * The paths are arguments of the shell, not part of its script, so nothing in a path can act as a command.  The `echo`
 * keeps the last word of a file and the first of the next one apart.
 */
static bool
start_reference(const struct job *job, pid_t *ret_pid, FILE **ret_lines)
{
    static const char script[] = "LC_ALL=C; export LC_ALL; for file do cat <\"$file\"; echo; done |"
                                 " tr -cs 'A-Za-z' '\\n' | tr 'A-Z' 'a-z' | sort | uniq -c";
    const uint64_t file_count = job->header->file_count;
    const char **arguments = calloc(file_count + 5, sizeof *arguments);
    if (arguments == NULL) {
        complain("no memory for the names of %" PRIu64 " files", file_count);
        return false;
    }
    arguments[0] = "sh";
    arguments[1] = "-c";
    arguments[2] = script;
    arguments[3] = "sh";
    for (uint64_t i = 0; i < file_count; i++)
        arguments[4 + i] = job_path(job, i);

    bool started = false;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) == 0) {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        /* posix_spawn() does not write to its arguments; the prototype is older than const. */
        errno = posix_spawnp(ret_pid, "sh", &actions, NULL, (char *const *)(uintptr_t)arguments, environ);
        started = errno == 0 && (*ret_lines = fdopen(ends[0], "r")) != NULL;
        posix_spawn_file_actions_destroy(&actions);
        close(ends[1]);
    }
    if (!started)
        complain("cannot start sh for the independent count: %s", strerror(errno));
    free(arguments);
    return started;
}

/* The independent count, word by word. */
struct reference {
    FILE *lines;
    char *line;
    size_t capacity;
    const char *text; /* in `line` */
    size_t length;
    uint64_t count;
};

/* Go to the next word; false at the end. */
static bool
reference_next(struct reference *reference)
{
    ssize_t length;
    while ((length = getline(&reference->line, &reference->capacity, reference->lines)) > 0) {
        char *text;
        const uint64_t count = strtoull(reference->line, &text, 10);
        const char *end = reference->line + length - (reference->line[length - 1] == '\n');
        if (text < end && *text == ' ')
            text++;
        if (text == end) /* what is no letter at the begin of the text gives an empty word */
            continue;
        reference->text = text;
        reference->length = (size_t)(end - text);
        reference->count = count;
        return true;
    }
    return false;
}

static void
tell_difference(uint64_t nth, const char *text, size_t length, uint64_t ours, uint64_t theirs)
{
    const int shown = length < WORD_WIDTH * 2 ? (int)length : WORD_WIDTH * 2;
    if (nth < DIFFERENCES_SHOWN)
        complain("'%.*s' was met %" PRIu64 " times, but tr|sort|uniq says %" PRIu64, shown, text, ours, theirs);
}

/* Walk both counts in the order of words, and compare each word in both directions.  Returns the differences. */
static uint64_t
compare_counts(struct word_list *list, FILE *lines)
{
    qsort(list->nodes, list->count, sizeof list->nodes[0], by_text);
    struct reference theirs = { .lines = lines };
    uint64_t differences = 0;
    size_t i = 0;
    bool more = reference_next(&theirs);
    while (more || i < list->count) {
        const struct word_node *ours = i < list->count ? list->nodes[i] : NULL;
        const int order = !more          ? -1
                          : ours == NULL ? 1
                                         : compare_text(ours->text, ours->length, theirs.text, theirs.length);
        if (order < 0)
            tell_difference(differences++, ours->text, ours->length, count_of(ours), 0);
        else if (order > 0)
            tell_difference(differences++, theirs.text, theirs.length, 0, theirs.count);
        else if (count_of(ours) != theirs.count)
            tell_difference(differences++, theirs.text, theirs.length, count_of(ours), theirs.count);
        if (order <= 0)
            i++;
        if (order >= 0)
            more = reference_next(&theirs);
    }
    free(theirs.line);
    return differences;
}

static bool
check_against_reference(const struct job *job, struct word_list *list)
{
    pid_t pid = 0;
    FILE *lines = NULL;
    if (!start_reference(job, &pid, &lines))
        return false;
    const uint64_t differences = compare_counts(list, lines);
    fclose(lines);
    int status = 0;
    while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
        continue;
    if (status != 0) {
        complain("the independent count (tr|sort|uniq) failed");
        return false;
    }
    if (differences != 0) {
        complain("%" PRIu64 " words differ from tr|sort|uniq (did a file change meanwhile?)", differences);
        return false;
    }
    printf("agrees with tr|sort|uniq: %" PRIu64 " words, %zu distinct\n", list->total, list->count);
    return flush_output();
}

int
report_main(char *const arguments[])
{
    const char *name = arguments[0];
    const size_t top = strtoul(arguments[1], NULL, 10);
    void *creator_base = (void *)(uintptr_t)strtoull(arguments[2], NULL, 16);
    const size_t size = strtoull(arguments[3], NULL, 10);

    /*
     * Occupy the creator's address, so that this process must have the heap at another one.  When something lies there
     * already that serves as well, hence no look at the result; print_heap() compares.
     */
    mmap(creator_base, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    struct job job;
    if (!job_attach(name, true, &job))
        return EXIT_FAILURE;
    struct word_list list = { 0 };
    const bool ok =
        list_words(&job, &list) && print_report(&job, &list, top, creator_base) && check_against_reference(&job, &list);
    free(list.nodes);
    hshm_backend_detach(NULL, BACKEND_ID);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
