/*
 * wordcount.c - several processes index many files in one hash table that lies in shared memory.
 *
 *     wordcount                      this process: makes the heap, starts the others, waits, removes the heap
 *      |-- wordcount --worker ...    P of these: attach by name, take pieces of text, add their words to the table
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
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define DEFAULT_FILES "/usr/share/common-licenses/*"

/* What the command line says. */
struct options {
    unsigned workers;
    uint64_t heap_mib; /* 0 = by the input */
    uint64_t top;
    char *const *files;
    size_t file_count;
};

/* Local: the heap that this process makes, and what it needs to wait for others. */
struct leader {
    char name[64];
    hshm_allocator *heap;
    struct job *job;
    sigset_t held;   /* signals that wait until take_signal() asks for them */
    sigset_t before; /* the mask that we were started with                  */
    const char *role;
    pid_t pids[WORKERS_MAX]; /* children; 0 = ended */
    unsigned started;
};

/* How a part of the work ended: 0 = well, FAILED, or the number of the signal that wants this program to end. */
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

/* ---- The job in the heap ---------------------------------------------------------------------------------------- */

struct job *
job_attach(const char *name, bool read_only, hshm_allocator **ret_heap)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = read_only;
    if (hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, &options, NULL) != HSHM_OK ||
        hshm_allocator_get(NULL, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, ret_heap) != HSHM_OK) {
        complain("cannot use the heap '%s': %s", name, hshm_last_error());
        return NULL;
    }
    size_t size = 0;
    struct job *job = hshm_allocator_custom_header(*ret_heap, &size);
    if (size == sizeof *job)
        return job;
    complain("the heap '%s' holds no job of this program", name);
    return NULL;
}

/* Is it a file that can be read in pieces?  Its size, or -1 and the reason is told. */
static int64_t
size_of(const char *path)
{
    struct stat about;
    /* Without O_NONBLOCK to open a pipe would wait for somebody to write into it. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const bool known = fd >= 0 && fstat(fd, &about) == 0;
    if (!known)
        complain("cannot read '%s': %s", path, strerror(errno));
    else if (!S_ISREG(about.st_mode))
        complain("'%s' is not a regular file", path);
    if (fd >= 0)
        close(fd);
    return known && S_ISREG(about.st_mode) ? about.st_size : -1;
}

/* Put one file at the head of the job's list. */
static bool
add_file(hshm_allocator *heap, struct job *job, const char *path)
{
    const int64_t size = size_of(path);
    if (size < 0)
        return false;
    struct file *file = hshm_malloc(heap, sizeof *file + strlen(path) + 1);
    if (file == NULL) {
        complain("the list of files does not fit into the heap (-s sets its size): %s", hshm_last_error());
        return false;
    }
    file->next = job->files;
    file->size = (uint64_t)size;
    atomic_init(&file->taken, 0);
    strcpy(file->path, path);
    job->files = hshm_to_off(heap, file);
    job->file_count++;
    return true;
}

/* Room for an index as large as the text; that of long texts needs far less. */
static uint64_t
choose_heap_size(uint64_t input_bytes)
{
    const uint64_t size = 32 * MIB + input_bytes;
    return size < 1024 * MIB ? size : 1024 * MIB;
}

/* As many buckets as the text may have distinct words, within an eighth of the heap. */
static uint64_t
choose_bucket_count(uint64_t input_bytes, uint64_t heap_size)
{
    uint64_t count = 1024;
    while (count < input_bytes / 128 && count * sizeof(hshm_off) < heap_size / 16)
        count *= 2;
    return count;
}

/* Make the heap and put the job into it. */
static bool
create_job(struct leader *leader, const struct options *options)
{
    uint64_t input_bytes = 0;
    for (size_t i = 0; i < options->file_count; i++) {
        const int64_t size = size_of(options->files[i]);
        if (size < 0)
            return false;
        input_bytes += (uint64_t)size;
    }
    const uint64_t heap_size = options->heap_mib != 0 ? options->heap_mib * MIB : choose_heap_size(input_bytes);
    if (hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, heap_size, leader->name, NULL, NULL) !=
            HSHM_OK ||
        hshm_allocator_create(NULL, BACKEND_ID, ALLOCATOR_ID, HSHM_ALLOCATOR_STACK, sizeof(struct job), NULL,
                              &leader->heap) != HSHM_OK) {
        complain("cannot make the heap (-s sets its size): %s", hshm_last_error());
        return false;
    }
    /* All zero when new; and nobody else looks at it before we start them. */
    struct job *job = leader->job = hshm_allocator_custom_header(leader->heap, NULL);
    job->workers = options->workers;
    job->leader = (uint64_t)getpid();
    job->bytes = input_bytes;
    for (size_t i = options->file_count; i > 0; i--) {
        if (!add_file(leader->heap, job, options->files[i - 1]))
            return false;
    }
    if (word_table_create(leader->heap, choose_bucket_count(input_bytes, heap_size), &job->table))
        return true;
    complain("the table does not fit into the heap (-s sets its size): %s", hshm_last_error());
    return false;
}

/* ---- Processes and signals -------------------------------------------------------------------------------------- */

/*
 * Hold back what would end this process, and SIGCHLD, until take_signal() asks for them.  What our caller chose to
 * ignore (nohup) stays ignored.  SIGPIPE is among them: `wordcount | head` leaves no heap behind.
 */
static void
hold_signals(struct leader *leader)
{
    static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
    sigemptyset(&leader->held);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        struct sigaction action;
        if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&leader->held, ending[i]);
    }
    signal(SIGCHLD, SIG_DFL); /* were it ignored, there would be nothing to wait for */
    sigaddset(&leader->held, SIGCHLD);
    sigprocmask(SIG_BLOCK, &leader->held, &leader->before);
}

/* The next signal, or 0 if none came for a tenth of a second. */
static int
take_signal(const struct leader *leader)
{
    static const struct timespec tenth = { 0, 100000000 };
    const int number = sigtimedwait(&leader->held, NULL, &tenth);
    return number > 0 ? number : 0;
}

/* Start this very program anew, with the signal mask that it was itself started with. */
static bool
start(struct leader *leader, const char *argument, const char *last_argument)
{
    char program[] = "wordcount";
    char role[32];
    snprintf(role, sizeof role, "--%s", leader->role);
    /* posix_spawn() does not write to its arguments; the prototype is older than const. */
    char *arguments[] = { program, role, leader->name, (char *)(uintptr_t)argument, (char *)(uintptr_t)last_argument,
                          NULL };
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, &leader->before);
    const int error =
        posix_spawn(&leader->pids[leader->started], "/proc/self/exe", NULL, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        complain("cannot start a %s: %s", leader->role, strerror(error));
        return false;
    }
    leader->started++;
    return true;
}

/* Take notice of those that have ended; FAILED if one did not end well, else how many are left. */
static int
reap(struct leader *leader)
{
    int left = 0;
    bool ok = true;
    for (unsigned i = 0; i < leader->started; i++) {
        int status;
        if (leader->pids[i] == 0 || waitpid(leader->pids[i], &status, WNOHANG) != leader->pids[i]) {
            left += leader->pids[i] != 0;
            continue;
        }
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGPIPE) /* `wordcount | head` needs no explanation */
            complain("%s %u (process %d) was killed: %s; its share of the work is lost", leader->role, i + 1,
                     (int)leader->pids[i], strsignal(WTERMSIG(status)));
        ok = ok && status == 0;
        leader->pids[i] = 0;
    }
    return ok ? left : FAILED;
}

/* End whoever is left.  To be killed while they write to the heap does no harm to it. */
static void
end_all(struct leader *leader)
{
    for (unsigned i = 0; i < leader->started; i++) {
        if (leader->pids[i] == 0)
            continue;
        kill(leader->pids[i], SIGKILL);
        waitpid(leader->pids[i], NULL, 0);
    }
    leader->started = 0;
}

/* One line on the terminal, drawn over and over; the numbers come from the heap. */
static void
draw_progress(const struct job *job)
{
    static const char full[] = "########################################";
    const int width = (int)sizeof full - 1;
    uint64_t done = 0;
    for (uint64_t i = 0; i < job->workers; i++)
        done += atomic_load(&job->tallies[i].bytes);
    const double part = job->bytes == 0 ? 1.0 : (double)done / (double)job->bytes;
    const int filled = (int)(part * width);
    fprintf(stderr, "\r[%.*s%*s] %3.0f%%  %.1f of %.1f MB", filled, full, width - filled, "", part * 100,
            (double)done / 1e6, (double)job->bytes / 1e6);
}

/* Wait until all that were started have ended: 0, FAILED, or a signal.  Nobody is left then. */
static int
wait_for_all(struct leader *leader, bool show_progress)
{
    int left = (int)leader->started;
    int result = 0;
    while (result == 0 && left > 0) {
        const int number = take_signal(leader);
        if (number != 0 && number != SIGCHLD)
            result = number;
        else if ((left = reap(leader)) == FAILED)
            result = FAILED;
        else if (number == 0 && show_progress)
            draw_progress(leader->job);
    }
    if (show_progress)
        fprintf(stderr, "\r\033[K");
    end_all(leader);
    return result;
}

static uint64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Have the workers fill the table. */
static int
run_workers(struct leader *leader)
{
    const uint64_t begin = now_ns();
    leader->role = "worker";
    for (uint64_t i = 0; i < leader->job->workers; i++) {
        char index[24];
        snprintf(index, sizeof index, "%" PRIu64, i);
        if (!start(leader, index, NULL)) {
            end_all(leader);
            return FAILED;
        }
    }
    const int result = wait_for_all(leader, isatty(STDERR_FILENO));
    leader->job->index_ns = now_ns() - begin;
    return result;
}

/* Have another process show and check what the workers did. */
static int
run_report(struct leader *leader, uint64_t top)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    if (hshm_backend_info(hshm_backend_get(NULL, BACKEND_ID), &info) != HSHM_OK) {
        complain("cannot describe the heap: %s", hshm_last_error());
        return FAILED;
    }
    char shown[24], address[24];
    snprintf(shown, sizeof shown, "%" PRIu64, top);
    snprintf(address, sizeof address, "%" PRIxPTR, (uintptr_t)info.base);
    leader->role = "report";
    return start(leader, shown, address) ? wait_for_all(leader, false) : FAILED;
}

/* ---- The command line ------------------------------------------------------------------------------------------- */

static void
print_usage(FILE *stream)
{
    fputs("usage: wordcount [-p N] [-s SIZE_MIB] [-t TOP] [-h] [FILE ...]\n"
          "\n"
          "Index the words of files by several processes, in one hash table in shared memory,\n"
          "and check the result against tr | sort | uniq.\n"
          "\n"
          "  -p N         this many worker processes, 1 to 64 (4)\n"
          "  -s SIZE_MIB  size of the heap (32 MiB and the input's size, at most 1 GiB)\n"
          "  -t TOP       show so many of the most frequent words (20)\n"
          "  -h           show this\n"
          "\n"
          "Without FILE: the files in /usr/share/common-licenses\n",
          stream);
}

static uint64_t
parse_number(const char *text, uint64_t min, uint64_t max)
{
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    /* strtoull() would take a minus sign. */
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < min || number > max) {
        complain("'%s' is not a number from %" PRIu64 " to %" PRIu64 "; see wordcount -h", text, min, max);
        exit(EXIT_FAILURE);
    }
    return number;
}

static void
parse_options(int argc, char *argv[], struct options *options)
{
    int letter;
    while ((letter = getopt(argc, argv, "p:s:t:h")) != -1) {
        switch (letter) {
        case 'p':
            options->workers = (unsigned)parse_number(optarg, 1, WORKERS_MAX);
            break;
        case 's':
            options->heap_mib = parse_number(optarg, 1, MIB);
            break;
        case 't':
            options->top = parse_number(optarg, 0, UINT32_MAX);
            break;
        case 'h':
            print_usage(stdout);
            exit(EXIT_SUCCESS);
        default:
            print_usage(stderr);
            exit(EXIT_FAILURE);
        }
    }
    options->files = argv + optind;
    options->file_count = (size_t)(argc - optind);
}

/* Regular files only: a symbolic link beside its target would count the same text twice. */
static void
use_default_files(struct options *options, glob_t *found)
{
    if (glob(DEFAULT_FILES, 0, NULL, found) != 0)
        complain("there is no " DEFAULT_FILES " here; name the files to index on the command line");
    size_t count = 0;
    for (size_t i = 0; i < found->gl_pathc; i++) {
        char *path = found->gl_pathv[i];
        struct stat about;
        if (lstat(path, &about) != 0 || !S_ISREG(about.st_mode))
            continue;
        found->gl_pathv[i] = found->gl_pathv[count];
        found->gl_pathv[count++] = path;
    }
    options->files = found->gl_pathv;
    options->file_count = count;
}

int
main(int argc, char *argv[])
{
    if (argc == 4 && strcmp(argv[1], "--worker") == 0)
        return worker_main(argv + 2);
    if (argc == 5 && strcmp(argv[1], "--report") == 0)
        return report_main(argv + 2);

    struct options options = { .workers = 4, .top = 20 };
    glob_t found = { 0 };
    parse_options(argc, argv, &options);
    if (options.file_count == 0)
        use_default_files(&options, &found);

    struct leader leader = { 0 };
    snprintf(leader.name, sizeof leader.name, "hshm_wordcount.%d", (int)getpid());
    hold_signals(&leader);
    int result = FAILED;
    if (options.file_count > 0 && create_job(&leader, &options))
        result = run_workers(&leader);
    if (result == 0)
        result = run_report(&leader, options.top);

    /* Whatever happened.  When no heap was made there is nothing to destroy, which is harmless. */
    const hshm_status status = hshm_backend_destroy(NULL, BACKEND_ID);
    if (status != HSHM_OK && status != HSHM_E_NOTFOUND) {
        complain("cannot remove the heap '%s': %s", leader.name, hshm_last_error());
        result = FAILED;
    }
    globfree(&found);
    if (result > 0) {
        /* Die by the signal that came, as if it had not been held back. */
        raise(result);
        sigprocmask(SIG_SETMASK, &leader.before, NULL);
    }
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
