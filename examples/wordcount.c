/*
 * wordcount.c - several processes index many files in one hash table that lies in shared memory.
 *
 *     wordcount                      this process: makes the heap, plans the work, starts the others, waits
 *      |-- wordcount --worker ...    P of these: attach by name, take chunks of text, add their words to the table
 *      `-- wordcount --report ...    one more, afterwards: attaches read-only, shows the table and checks every count
 *
 * Each is a program of its own (exec, not just fork), with the heap at an address of its own.  What lies in the heap is
 * in wordcount.h; how the table takes words from all of them at once without a lock is in wordcount_table.h.
 *
 * The heap's name is removed when this process ends: after success, after failure, and on Ctrl-C.  For that it takes
 * signals only where it waits for its children, and dies by them after it has tidied up.
 */
#include "wordcount.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

/* What the command line says. */
struct options {
    unsigned workers;
    uint64_t size; /* of the heap in bytes; 0 = by the input */
    const char *name;
    bool keep;
    uint64_t top;
};

/* The processes that this one waits for. */
struct crew {
    const char *what;
    pid_t pids[WORKERS_MAX];
    unsigned count;
    unsigned running;
};

/* What a wait ended with: 0 = all is well, FAILED = a child failed, or the number of the signal that came. */
enum { FAILED = -1 };

void
complain(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    /* One call, so that lines of several processes do not mix; on a terminal over what is left of the progress bar. */
    fprintf(stderr, "%swordcount: %s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", text);
}

/* ---- Processes and signals -------------------------------------------------------------------------------------- */

/*
 * Hold back what would end this process, and SIGCHLD, until take_signal() asks for them.  A signal that the caller's
 * caller chose to ignore (nohup) remains ignored.  SIGPIPE is among them: `wordcount | head` leaves no heap behind.
 */
static void
hold_signals(sigset_t *ret_held, sigset_t *ret_before)
{
    static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
    sigemptyset(ret_held);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        struct sigaction action;
        if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(ret_held, ending[i]);
    }
    signal(SIGCHLD, SIG_DFL); /* were it ignored, there would be nothing to wait for */
    sigaddset(ret_held, SIGCHLD);
    sigprocmask(SIG_BLOCK, ret_held, ret_before);
}

/* The next signal, or 0 if none came for a tenth of a second.  With `forever` it waits until there is one. */
static int
take_signal(const sigset_t *held, bool forever)
{
    static const struct timespec tenth = { 0, 100000000 };
    const int number = forever ? sigwaitinfo(held, NULL) : sigtimedwait(held, NULL, &tenth);
    return number > 0 ? number : 0;
}

/* Start this very program anew, with the signal mask that it was itself started with. */
static bool
crew_add(struct crew *crew, char *const arguments[], const sigset_t *mask)
{
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, mask);
    const int error = posix_spawn(&crew->pids[crew->count], "/proc/self/exe", NULL, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        complain("cannot start a %s: %s", crew->what, strerror(error));
        return false;
    }
    crew->count++;
    crew->running++;
    return true;
}

/* End whoever is left and wait for them.  To be killed while they write to the heap does no harm to it. */
static void
crew_kill(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        if (crew->pids[i] > 0)
            kill(crew->pids[i], SIGKILL);
    for (unsigned i = 0; i < crew->count; i++)
        if (crew->pids[i] > 0)
            waitpid(crew->pids[i], NULL, 0);
    crew->running = 0;
}

/* Take notice of those that have ended; false if one did not end well. */
static bool
crew_reap(struct crew *crew)
{
    bool ok = true;
    for (unsigned i = 0; i < crew->count; i++) {
        int status;
        if (crew->pids[i] <= 0 || waitpid(crew->pids[i], &status, WNOHANG) != crew->pids[i])
            continue;
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGPIPE) /* `wordcount | head` needs no explanation */
            complain("%s %u (process %d) was killed: %s", crew->what, i + 1, (int)crew->pids[i],
                     strsignal(WTERMSIG(status)));
        else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
            complain("%s %u (process %d) failed", crew->what, i + 1, (int)crew->pids[i]);
        ok = ok && status == 0;
        crew->pids[i] = 0;
        crew->running--;
    }
    return ok;
}

/* One line on the terminal, drawn over and over; the numbers come from the tallies in the heap. */
static void
draw_progress(const struct job *job)
{
    static const char full[] = "########################################";
    const int width = (int)sizeof full - 1;
    const uint64_t total = job->header->input_bytes;
    uint64_t done = 0;
    for (uint64_t i = 0; i < job->header->worker_count; i++)
        done += atomic_load_explicit(&job->tallies[i].bytes, memory_order_relaxed);
    const double part = total == 0 ? 1.0 : (double)done / (double)total;
    const int filled = (int)(part * width);
    fprintf(stderr, "\r[%.*s%*s] %3.0f%%  %.1f of %.1f MB", filled, full, width - filled, "", part * 100,
            (double)done / 1e6, (double)total / 1e6);
}

/* Wait until all of the crew have ended: 0, FAILED, or the signal that wants this program to end. */
static int
crew_wait(struct crew *crew, const struct job *job, const sigset_t *held, bool show_progress)
{
    int result = 0;
    while (result == 0 && crew->running > 0) {
        const int number = take_signal(held, !show_progress);
        if (number != 0 && number != SIGCHLD)
            result = number;
        else if (!crew_reap(crew))
            result = FAILED;
        else if (show_progress)
            draw_progress(job);
    }
    if (show_progress)
        fprintf(stderr, "\r\033[K");
    crew_kill(crew);
    return result;
}

/* ---- The whole -------------------------------------------------------------------------------------------------- */

static uint64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Have the workers fill the table. */
static int
run_workers(const struct options *options, const struct job *job, const sigset_t *held, const sigset_t *before)
{
    const uint64_t begin = now_ns();
    struct crew crew = { .what = "worker" };
    for (unsigned i = 0; i < options->workers; i++) {
        char nth[16];
        snprintf(nth, sizeof nth, "%u", i);
        char program[] = "wordcount", role[] = "--worker";
        char *arguments[] = { program, role, (char *)(uintptr_t)options->name, nth, NULL };
        if (!crew_add(&crew, arguments, before)) {
            crew_kill(&crew);
            return FAILED;
        }
    }
    const int result = crew_wait(&crew, job, held, isatty(STDERR_FILENO));
    atomic_store(&job->header->index_ns, now_ns() - begin);
    return result;
}

/* Have another process show and check what the workers did. */
static int
run_report(const struct options *options, const struct job *job, const sigset_t *held, const sigset_t *before)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    if (hshm_backend_info(job->backend, &info) != HSHM_OK) {
        complain("cannot describe the heap: %s", hshm_last_error());
        return FAILED;
    }
    char program[] = "wordcount", role[] = "--report", top[32], address[32], size[32];
    snprintf(top, sizeof top, "%" PRIu64, options->top);
    snprintf(address, sizeof address, "%" PRIxPTR, (uintptr_t)info.base);
    snprintf(size, sizeof size, "%" PRIu64, info.size);
    char *arguments[] = { program, role, (char *)(uintptr_t)options->name, top, address, size, NULL };
    struct crew crew = { .what = "report" };
    if (!crew_add(&crew, arguments, before))
        return FAILED;
    return crew_wait(&crew, job, held, false);
}

/* Make the heap, have it filled and read, and remove it, whatever happens in between. */
static int
run(const struct options *options, const struct input *input, const sigset_t *held, const sigset_t *before)
{
    struct job job;
    int result = FAILED;
    if (job_create(options->name, options->size, options->workers, input, &job)) {
        result = run_workers(options, &job, held, before);
        if (result == 0)
            result = run_report(options, &job, held, before);
    }
    if (result == 0 && options->keep) {
        hshm_backend_detach(NULL, BACKEND_ID);
        printf("the heap is kept as '%s'\n", options->name);
        return result;
    }
    const hshm_status status = hshm_backend_destroy(NULL, BACKEND_ID);
    if (status != HSHM_OK && status != HSHM_E_NOTFOUND) {
        complain("cannot remove the heap '%s': %s", options->name, hshm_last_error());
        return FAILED;
    }
    return result;
}

static void
print_usage(FILE *stream)
{
    fputs("usage: wordcount [-p N] [-s SIZE_MIB] [-n NAME] [-k] [-t TOP] [-h] [FILE ...]\n"
          "\n"
          "Index the words of files by several processes, in one hash table in shared memory,\n"
          "and check the result against tr | sort | uniq.\n"
          "\n"
          "  -p N         this many worker processes, 1 to 64 (4)\n"
          "  -s SIZE_MIB  size of the heap (32 MiB and four times the input, at most 2 GiB)\n"
          "  -n NAME      name of the heap (hshm_wordcount. and the process id)\n"
          "  -k           keep the heap at the end, to look at it\n"
          "  -t TOP       show so many of the most frequent words (20)\n"
          "  -h           show this\n"
          "\n"
          "Without FILE: the regular files in /usr/share/common-licenses\n",
          stream);
}

static bool
parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    /* strtoull() would take a minus sign. */
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < min || number > max) {
        complain("'%s' is not a number from %" PRIu64 " to %" PRIu64, text, min, max);
        return false;
    }
    *ret_number = number;
    return true;
}

/* Returns true to go on, or false with what to exit with. */
static bool
parse_options(int argc, char *argv[], struct options *options, int *ret_exit)
{
    *ret_exit = EXIT_FAILURE;
    uint64_t number;
    int letter;
    while ((letter = getopt(argc, argv, "p:s:n:kt:h")) != -1) {
        switch (letter) {
        case 'p':
            if (!parse_number(optarg, 1, WORKERS_MAX, &number))
                return false;
            options->workers = (unsigned)number;
            break;
        case 's':
            if (!parse_number(optarg, 1, MIB, &number))
                return false;
            options->size = number * MIB;
            break;
        case 't':
            if (!parse_number(optarg, 0, UINT32_MAX, &options->top))
                return false;
            break;
        case 'n':
            options->name = optarg;
            break;
        case 'k':
            options->keep = true;
            break;
        case 'h':
            *ret_exit = EXIT_SUCCESS;
            print_usage(stdout);
            return false;
        default:
            print_usage(stderr);
            return false;
        }
    }
    return true;
}

int
main(int argc, char *argv[])
{
    if (argc == 4 && strcmp(argv[1], "--worker") == 0)
        return worker_main(argv + 2);
    if (argc == 6 && strcmp(argv[1], "--report") == 0)
        return report_main(argv + 2);

    char name[64];
    snprintf(name, sizeof name, "hshm_wordcount.%d", (int)getpid());
    struct options options = { .workers = 4, .name = name, .top = 20 };
    int status;
    if (!parse_options(argc, argv, &options, &status))
        return status;

    sigset_t held, before;
    hold_signals(&held, &before);
    struct input input = { 0 };
    int result = FAILED;
    if (input_plan(&input, argv + optind, argc - optind))
        result = run(&options, &input, &held, &before);
    input_free(&input);
    if (result > 0) {
        /* Die by the signal that came, as if it had not been held back; now there is nothing left to tidy up. */
        raise(result);
        sigprocmask(SIG_SETMASK, &before, NULL);
    }
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
