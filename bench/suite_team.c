/*
 * suite_team.c - the leader and its workers.
 *
 * Time.  Workers meet at gates ("points"): one when all are prepared, one after the body, and any that the workload
 * asks for.  The leader opens a gate when all have come.  Wall time is summed over the stretches between gates, each from
 * the first worker that set out to the last that arrived; CPU time is that of all processes of the team, read by the
 * leader while all of them stand still, so dead threads and replaced processes are in it and the leader is not.
 *
 * Memory is what the heap makes the system hold: the region's blocks in /dev/shm (every page once, however many processes
 * have mapped it), plus each process's private anonymous pages (resident minus shared, from /proc/PID/statm), less what was
 * there before the heap and less the suite's own tables.  Pages of program files are not counted.  Thread stacks are: a few
 * pages a thread, for every subject alike.  The peak is looked at each 2 ms while the workers run, and at each point.
 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SAMPLE_NS = 2000000,
    EXIT_REPLACED = 10, /* this generation is over: the next process, please */
    EXIT_FAILED = 11
};

/* Shared by the leader and all its processes; in an anonymous mapping that they inherit. */
struct control {
    _Atomic uint32_t arrived; /* workers at the gate; a futex, woken on arrival */
    _Atomic uint32_t opened;  /* how many gates were opened; a futex            */
    _Atomic uint32_t created; /* the heap is there                              */
    _Atomic uint32_t failed;
    _Atomic uint64_t own_bytes; /* of suite_table(); workers that are replaced have none */
    int32_t answer;             /* enum heap_answer, of the first that failed */
    char why[256];
    char label[24]; /* of the next point, by worker 0 */
    int64_t heap_live_blocks;
    uint64_t base_bytes[SUITE_WORKERS_MAX]; /* by process: private memory before the heap was there */
    struct {
        _Alignas(SUITE_CACHE_LINE) double start_ns;
        double stop_ns;
        uint64_t ops;
        uint64_t live_bytes;
        uint64_t live_blocks;
    } worker[SUITE_WORKERS_MAX];
};

/* The leader's. */
struct team {
    const struct suite_params *params;
    struct suite_result *result;
    struct control *control;
    void *shared;
    unsigned workers;
    int region_fd; /* -1 = none, or not known yet */
    double cpu_dead_ns;
    double cpu_started_ns;
    double sampled_ns;
    struct {
        pid_t pid;
        uint64_t generation;
    } process[SUITE_WORKERS_MAX];
};

/* One team a program: signal handlers and the workloads' calls need to find it. */
static struct team *the_team;
static struct control *the_control;
static char region_path[PATH_MAX];

static double
now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void
futex_wait(_Atomic uint32_t *word, uint32_t value, long timeout_ns)
{
    const struct timespec timeout = { 0, timeout_ns };
    (void)syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns == 0 ? NULL : &timeout, NULL, 0);
}

static void
futex_wake_all(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void *
shared_pages(size_t bytes)
{
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

/* Private anonymous bytes of a process; 0 when it is gone. */
static uint64_t
private_bytes(pid_t pid)
{
    char path[48];
    char text[128];
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t length = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    unsigned long resident = 0;
    unsigned long shared = 0;
    if (sscanf(text, "%*u %lu %lu", &resident, &shared) != 2 || resident < shared)
        return 0;
    return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- in the workers' processes ---- */

_Noreturn static void
fail_with(enum heap_answer answer, const char *why)
{
    if (atomic_exchange(&the_control->failed, 1) == 0) {
        the_control->answer = (int32_t)answer;
        (void)snprintf(the_control->why, sizeof the_control->why, "%s", why);
    }
    _exit(EXIT_FAILED);
}

void
suite_fail(const char *why)
{
    fail_with(HEAP_FAILED, why);
}

void *
suite_table(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t rounded = (bytes + page - 1) / page * page;
    void *table = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (table == MAP_FAILED)
        suite_fail("no memory for the suite's own tables");
    (void)atomic_fetch_add(&the_control->own_bytes, rounded);
    return table;
}

static void
wait_at_gate(void)
{
    const uint32_t opened = atomic_load(&the_control->opened);
    (void)atomic_fetch_add(&the_control->arrived, 1);
    futex_wake_all(&the_control->arrived);
    while (atomic_load(&the_control->opened) == opened)
        futex_wait(&the_control->opened, opened, 0);
}

void
suite_point(struct worker *worker, const char *label)
{
    struct control *control = the_control;
    const unsigned index = worker->index;
    control->worker[index].stop_ns = now_ns();
    control->worker[index].ops += worker->ops;
    worker->ops = 0;
    control->worker[index].live_bytes = worker->live_bytes;
    control->worker[index].live_blocks = worker->live_blocks;
    if (index == 0)
        (void)snprintf(control->label, sizeof control->label, "%s", label);
    wait_at_gate();
    control->worker[index].start_ns = now_ns();
}

static void *
body_thread(void *arg)
{
    struct worker *worker = arg;
    worker->params->work->body(worker);
    return NULL;
}

/* Each generation is a thread of its own; this one only waits for it. */
static void
run_generations_of_threads(struct worker *worker)
{
    for (worker->generation = 0; worker->generation < worker->params->rounds; worker->generation++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, body_thread, worker) != 0)
            suite_fail("cannot start a thread");
        (void)pthread_join(thread, NULL);
    }
}

/*
 * Several workers get a CPU each, where there are so many: left alone, the scheduler now and then puts two that wait for
 * each other on one, and a run measures that instead.  A lone worker goes where the machine is idle.
 */
static void
choose_cpu(const struct worker *worker)
{
    cpu_set_t allowed;
    if (worker->count == 1 || sched_getaffinity(0, sizeof allowed, &allowed) != 0 ||
        (unsigned)CPU_COUNT(&allowed) < worker->count)
        return;
    unsigned seen = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || seen++ != worker->index)
            continue;
        cpu_set_t chosen;
        CPU_ZERO(&chosen);
        CPU_SET(cpu, &chosen);
        (void)sched_setaffinity(0, sizeof chosen, &chosen);
        return;
    }
}

static void *
worker_thread(void *arg)
{
    struct worker *worker = arg;
    const struct work *work = worker->params->work;
    choose_cpu(worker);
    const bool replaced = (work->flags & WORK_REPLACED) != 0;
    if (worker->generation == 0) {
        if (work->prepare != NULL)
            work->prepare(worker);
        suite_point(worker, "prepared");
    }
    if (replaced && worker->params->processes == 1)
        run_generations_of_threads(worker);
    else
        work->body(worker);
    if (replaced && worker->params->processes > 1 && worker->generation + 1 < worker->params->rounds) {
        the_control->worker[worker->index].ops += worker->ops;
        return NULL;
    }
    suite_point(worker, "end");
    return NULL;
}

_Noreturn static void
process_main(const struct team *team, unsigned process)
{
    static struct worker workers[SUITE_WORKERS_MAX];
    const struct suite_params *params = team->params;
    const uint64_t generation = team->process[process].generation;
    struct control *control = team->control;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL);
    control->base_bytes[process] = private_bytes(getpid());

    heap_ref heap;
    char why[sizeof control->why];
    const bool create = !heap_is_shared(&params->heap) || (process == 0 && generation == 0);
    const enum heap_answer answer = heap_open(&params->heap, create, &heap, why, sizeof why);
    if (answer != HEAP_OK)
        fail_with(answer, why);
    atomic_store(&control->created, 1);
    futex_wake_all(&control->created);

    pthread_t threads[SUITE_WORKERS_MAX];
    for (unsigned i = 0; i < params->threads; i++) {
        workers[i].params = params;
        workers[i].heap = heap;
        workers[i].index = process * params->threads + i;
        workers[i].count = team->workers;
        workers[i].generation = generation;
        workers[i].shared = team->shared;
        if (i > 0 && pthread_create(&threads[i], NULL, worker_thread, &workers[i]) != 0)
            suite_fail("cannot start a thread");
    }
    /*
     * The first one is this thread, so that a lone worker runs in a process that has no threads, as it would elsewhere.
     * It comes last: threads inherit where it may run.
     */
    (void)worker_thread(&workers[0]);
    for (unsigned i = 1; i < params->threads; i++)
        (void)pthread_join(threads[i], NULL);

    const bool replaced = (params->work->flags & WORK_REPLACED) != 0 && params->processes > 1;
    const bool last = !replaced || generation + 1 >= params->rounds;
    if (last && process == 0)
        control->heap_live_blocks = heap_live_blocks(heap);
    heap_close(heap);
    _exit(last ? 0 : EXIT_REPLACED);
}

/* ---- in the leader ---- */

static void
start_process(struct team *team, unsigned process)
{
    const pid_t pid = fork();
    if (pid == 0)
        process_main(team, process);
    team->process[process].pid = pid;
    if (team->result->pids < SUITE_WORKERS_MAX)
        team->result->pid[team->result->pids++] = (int)pid;
}

static void
kill_all(const struct team *team)
{
    for (unsigned i = 0; i < team->params->processes; i++)
        if (team->process[i].pid > 0)
            (void)kill(team->process[i].pid, SIGKILL);
}

static void
on_signal(int number)
{
    /* First the workers: one of them may be about to make the name. */
    kill_all(the_team);
    while (wait(NULL) > 0)
        continue;
    if (region_path[0] != '\0')
        (void)unlink(region_path);
    _exit(128 + number);
}

/* Its only use is to wake the leader. */
static void
on_child(int number)
{
    (void)number;
}

static void
catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    action.sa_handler = on_child;
    (void)sigaction(SIGCHLD, &action, NULL);
}

static void
note_death(struct team *team, unsigned process, int status, const struct rusage *usage)
{
    team->cpu_dead_ns += (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1e9 +
                         (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1e3;
    team->process[process].pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REPLACED) {
        team->process[process].generation++;
        start_process(team, process);
        return;
    }
    if (atomic_exchange(&team->control->failed, 1) == 0) {
        team->control->answer = HEAP_FAILED;
        (void)snprintf(team->control->why, sizeof team->control->why, "process %u ended by %s %d", process,
                       WIFSIGNALED(status) ? "signal" : "status",
                       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
}

static void
reap(struct team *team, int options)
{
    for (unsigned i = 0; i < team->params->processes; i++) {
        int status;
        struct rusage usage;
        const pid_t pid = team->process[i].pid;
        if (pid > 0 && wait4(pid, &status, options, &usage) == pid)
            note_death(team, i, status, &usage);
    }
}

static bool
has_failed(const struct team *team)
{
    return atomic_load(&team->control->failed) != 0;
}

static uint64_t
memory_now(const struct team *team)
{
    uint64_t bytes = 0;
    uint64_t not_the_heaps = atomic_load(&team->control->own_bytes);
    for (unsigned i = 0; i < team->params->processes; i++) {
        if (team->process[i].pid <= 0)
            continue;
        const uint64_t base = team->control->base_bytes[i];
        const uint64_t now = private_bytes(team->process[i].pid);
        /* A process that has just been forked has no base yet: its memory is its parent's. */
        if (base != 0 && now > base)
            bytes += now - base;
    }
    bytes = bytes > not_the_heaps ? bytes - not_the_heaps : 0;
    struct stat region;
    if (team->region_fd >= 0 && fstat(team->region_fd, &region) == 0)
        bytes += (uint64_t)region.st_blocks * 512;
    return bytes;
}

static uint64_t
sample_memory(struct team *team)
{
    const uint64_t bytes = memory_now(team);
    if (bytes > team->result->memory_peak)
        team->result->memory_peak = bytes;
    team->sampled_ns = now_ns();
    return bytes;
}

/* CPU time that the team has used so far. */
static double
cpu_ns(const struct team *team)
{
    double sum = team->cpu_dead_ns;
    for (unsigned i = 0; i < team->params->processes; i++) {
        clockid_t clock;
        struct timespec used;
        if (team->process[i].pid > 0 && clock_getcpuclockid(team->process[i].pid, &clock) == 0 &&
            clock_gettime(clock, &used) == 0)
            sum += (double)used.tv_sec * 1e9 + (double)used.tv_nsec;
    }
    return sum;
}

/* @return false when the run has failed */
static bool
wait_for_workers(struct team *team)
{
    for (;;) {
        const uint32_t arrived = atomic_load(&team->control->arrived);
        if (arrived == team->workers)
            return true;
        futex_wait(&team->control->arrived, arrived, SAMPLE_NS);
        reap(team, WNOHANG);
        if (has_failed(team))
            return false;
        if (now_ns() - team->sampled_ns >= SAMPLE_NS)
            (void)sample_memory(team);
    }
}

static void
open_gate(struct team *team)
{
    team->cpu_started_ns = cpu_ns(team);
    atomic_store(&team->control->arrived, 0);
    (void)atomic_fetch_add(&team->control->opened, 1);
    futex_wake_all(&team->control->opened);
}

/* What happened since the gate before; all workers stand still. */
static void
record_point(struct team *team, bool timed)
{
    struct suite_result *result = team->result;
    const struct control *control = team->control;
    double start = 0;
    double stop = 0;
    struct suite_point point = { .memory = sample_memory(team) };
    (void)snprintf(point.label, sizeof point.label, "%s", control->label);
    result->ops = 0;
    for (unsigned i = 0; i < team->workers; i++) {
        if (i == 0 || control->worker[i].start_ns < start)
            start = control->worker[i].start_ns;
        if (i == 0 || control->worker[i].stop_ns > stop)
            stop = control->worker[i].stop_ns;
        result->ops += control->worker[i].ops;
        point.live_bytes += control->worker[i].live_bytes;
        point.live_blocks += control->worker[i].live_blocks;
    }
    if (timed) {
        point.wall_ns = stop - start;
        result->wall_ns += point.wall_ns;
        result->cpu_ns += cpu_ns(team) - team->cpu_started_ns;
    }
    if (result->points < SUITE_POINTS_MAX)
        result->point[result->points++] = point;
}

/* The region's name is needed by those that attach later, and by nobody else. */
static void
forget_name(struct team *team)
{
    if (region_path[0] == '\0')
        return;
    if (team->region_fd < 0)
        team->region_fd = open(region_path, O_RDONLY | O_CLOEXEC);
    if ((team->params->work->flags & WORK_REPLACED) != 0 && team->params->processes > 1)
        return;
    (void)unlink(region_path);
    region_path[0] = '\0';
}

/* The first one creates the heap; the others come when it is there. */
static bool
start_all(struct team *team)
{
    start_process(team, 0);
    while (atomic_load(&team->control->created) == 0) {
        futex_wait(&team->control->created, 0, SAMPLE_NS);
        reap(team, WNOHANG);
        if (has_failed(team))
            return false;
    }
    for (unsigned i = 1; i < team->params->processes; i++)
        start_process(team, i);
    return true;
}

static bool
lead(struct team *team)
{
    if (!start_all(team))
        return false;
    bool timed = false;
    bool ended;
    do {
        if (!wait_for_workers(team))
            return false;
        if (!timed) {
            forget_name(team);
            /* What was needed to get ready is no peak of the workload. */
            team->result->memory_peak = 0;
        }
        record_point(team, timed);
        timed = true;
        /* Behind the gate they write the next label. */
        ended = strcmp(team->control->label, "end") == 0;
        open_gate(team);
    } while (!ended);
    reap(team, 0);
    team->result->heap_live_blocks = team->control->heap_live_blocks;
    return !has_failed(team);
}

static bool
set_up(struct team *team)
{
    const struct suite_params *params = team->params;
    team->control = shared_pages(sizeof *team->control);
    const size_t bytes = params->work->shared_bytes == NULL ? 0 : params->work->shared_bytes(params);
    team->shared = bytes == 0 ? NULL : shared_pages(bytes);
    if (team->control == NULL || (bytes != 0 && team->shared == NULL))
        return false;
    team->control->heap_live_blocks = -1;
    the_team = team;
    the_control = team->control;
    if (heap_is_shared(&params->heap))
        (void)snprintf(region_path, sizeof region_path, "/dev/shm/%s", params->heap.name);
    catch_signals();
    return true;
}

void
suite_run(const struct suite_params *params, struct suite_result *result)
{
    static struct team team;
    team = (struct team){
        .params = params, .result = result, .workers = params->threads * params->processes, .region_fd = -1
    };
    *result = (struct suite_result){ .answer = HEAP_FAILED, .heap_live_blocks = -1 };
    if (!set_up(&team)) {
        (void)snprintf(result->why, sizeof result->why, "no memory for the suite's own tables");
        return;
    }
    if (lead(&team)) {
        result->answer = HEAP_OK;
    } else {
        kill_all(&team);
        reap(&team, 0);
        result->answer = (enum heap_answer)team.control->answer;
        (void)snprintf(result->why, sizeof result->why, "%s", team.control->why);
    }
    if (region_path[0] != '\0')
        (void)unlink(region_path);
}
