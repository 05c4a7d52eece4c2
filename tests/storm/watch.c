/*
 * watch.c - starts workers, kills them at random moments, and looks whether the others' calls return.
 *
 * It makes the heap and touches it no more; all it knows it reads from the ledger.  A worker is killed whatever it does: while it
 * attaches, in the middle of a call, or of a recovery after another one.
 */
#include "storm.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TICK_US = 1000, KILLS_A_JUDGEMENT = 40, KILLS_OF_A_FULL_STACK = 10 };
#define SECOND UINT64_C(1000000000)
#define SUSPICIOUS (SECOND / 2)
#define MIB ((size_t)1 << 20)

struct watch {
    const struct options *options;
    struct storm *storm;
    uint64_t random;
    uint64_t next_kill, deadline;
    uint64_t restart[PROCESSES_MAX]; /* when */
    uint64_t judged_kills;           /* kills at the last judgement */
    bool broken;                     /* something hung or crashed: the heap is made anew */
};

void
storm_fault(struct storm *storm, enum fault fault, const char *format, ...)
{
    (void)atomic_fetch_add(&storm->faults[fault], 1);
    const uint32_t at = atomic_fetch_add(&storm->texts, 1);
    if (at >= TEXTS)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(storm->text[at], sizeof storm->text[at], format, args);
    va_end(args);
}

static uint64_t
any_time(struct watch *w, uint64_t most_us)
{
    return next_random(&w->random) % (most_us * 1000 + 1);
}

static bool
is_ours(const struct watch *w)
{
    return w->options->subject->kind != HSHM_ALLOCATOR_ANY;
}

/* ---- starting ---- */

/* A child that does not outlive us; 0 in it. */
static pid_t
start_process(void)
{
    const pid_t watcher = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)signal(SIGINT, SIG_DFL);
        (void)signal(SIGTERM, SIG_DFL);
        if (getppid() != watcher)
            _exit(1);
    }
    return pid;
}

static void
start_worker(struct watch *w, unsigned index)
{
    struct worker *worker = &w->storm->workers[index];
    atomic_store(&worker->parked, 0);
    worker->threads = next_random(&w->random) % 2 == 0 ? 1 : 1 + (unsigned)(next_random(&w->random) % THREADS_MAX);
    worker->slots_only = is_ours(w) && next_random(&w->random) % 4 == 0;
    worker->attach = next_random(&w->random) % 2 == 0;
    worker->seed = next_random(&w->random);
    const pid_t pid = start_process();
    if (pid == 0)
        worker_run(w->options->subject, w->storm, index);
    worker->pid = pid > 0 ? pid : 0;
}

static void
start_those_whose_time_has_come(struct watch *w)
{
    for (unsigned i = 0; i < w->options->processes; i++) {
        if (w->storm->workers[i].pid == 0 && now_ns() >= w->restart[i])
            start_worker(w, i);
    }
}

/* ---- dying ---- */

/* A thread ended: what it had in its hand, and what it was doing. */
static void
take_over(struct storm *storm, struct holder *holder)
{
    const bool in_call = atomic_exchange(&holder->began, 0) != 0;
    const struct dead dead = { atomic_exchange(&holder->hand, 0), atomic_exchange(&holder->may_lose, 0),
                               in_call ? atomic_load(&holder->call) : CALLS };
    if (in_call)
        (void)atomic_fetch_add(&storm->killed_in[dead.call], 1);
    if ((dead.hand != 0 || dead.may_lose != 0 || in_call) && storm->dead_count < DEAD_MAX)
        storm->dead[storm->dead_count++] = dead;
}

static void
bury(struct watch *w, unsigned index)
{
    struct worker *worker = &w->storm->workers[index];
    worker->pid = 0;
    for (unsigned t = 0; t < THREADS_MAX; t++)
        take_over(w->storm, &worker->holders[t]);
    w->restart[index] = now_ns() + any_time(w, w->options->every_us);
}

static void
note_end(struct watch *w, const char *who, int status)
{
    w->broken = true;
    if (WIFSIGNALED(status))
        storm_fault(w->storm, FAULT_CRASH, "%s was ended by signal %d", who, WTERMSIG(status));
    else
        storm_fault(w->storm, FAULT_CRASH, "%s ended with status %d", who, WEXITSTATUS(status));
}

static void
kill_worker(struct watch *w, unsigned index)
{
    struct worker *worker = &w->storm->workers[index];
    int status;
    (void)kill(worker->pid, SIGKILL);
    while (waitpid(worker->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        note_end(w, "a worker", status);
    w->storm->kills++;
    bury(w, index);
}

static void
kill_one(struct watch *w)
{
    const unsigned first = (unsigned)(next_random(&w->random) % w->options->processes);
    for (unsigned i = 0; i < w->options->processes; i++) {
        const unsigned index = (first + i) % w->options->processes;
        if (w->storm->workers[index].pid != 0) {
            kill_worker(w, index);
            return;
        }
    }
}

static void
reap(struct watch *w)
{
    for (unsigned i = 0; i < w->options->processes; i++) {
        int status;
        if (w->storm->workers[i].pid == 0 || waitpid(w->storm->workers[i].pid, &status, WNOHANG) <= 0)
            continue;
        note_end(w, "a worker", status);
        bury(w, i);
    }
}

/* ---- hangs ---- */

static void
read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    text[0] = '\0';
    if (file == NULL)
        return;
    text[fread(text, 1, size - 1, file)] = '\0';
    (void)fclose(file);
}

/* What the kernel says the thread waits for; for people. */
static void
read_wait(pid_t pid, int32_t tid, char *text, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/wchan", (int)pid, (int)tid);
    read_file(path, text, size);
}

static bool
hangs(struct watch *w, pid_t pid, const struct holder *holder)
{
    const uint64_t began = atomic_load(&holder->began);
    const uint64_t limit = w->options->hang_seconds * SECOND;
    char wait[64];
    if (began == 0 || now_ns() < began + limit)
        return false;
    read_wait(pid, atomic_load(&holder->tid), wait, sizeof wait);
    storm_fault(w->storm, FAULT_HANG, "%s does not return (waits in '%s')", call_names[atomic_load(&holder->call)],
                wait);
    w->broken = true;
    return true;
}

static void
find_hangs(struct watch *w)
{
    for (unsigned i = 0; i < w->options->processes; i++) {
        const struct worker *worker = &w->storm->workers[i];
        for (unsigned t = 0; t < THREADS_MAX && worker->pid != 0; t++) {
            if (hangs(w, worker->pid, &worker->holders[t]))
                return; /* the others may wait for the same */
        }
    }
}

/* Is a thread ready to run, or running? */
static bool
is_ready(pid_t pid, int32_t tid)
{
    char path[64];
    char text[128] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
    read_file(path, text, sizeof text);
    const char *name_end = strrchr(text, ')');
    return name_end != NULL && strncmp(name_end, ") R", 3) == 0;
}

/* Does a call take so long that it may hang?  A thread that is ready may have had no processor for so long, or turn round. */
static bool
takes_long(pid_t pid, const struct holder *holder)
{
    const uint64_t began = atomic_load(&holder->began);
    const uint64_t now = now_ns();
    return began != 0 && now > began + SUSPICIOUS &&
           (now > began + 10 * SUSPICIOUS || !is_ready(pid, atomic_load(&holder->tid)));
}

/* Then nobody is killed, lest it be who hangs, until it is known. */
static bool
may_hang(const struct watch *w)
{
    for (unsigned i = 0; i < w->options->processes; i++) {
        const struct worker *worker = &w->storm->workers[i];
        for (unsigned t = 0; t < THREADS_MAX && worker->pid != 0; t++) {
            if (takes_long(worker->pid, &worker->holders[t]))
                return true;
        }
    }
    return false;
}

static void
sleep_us(uint64_t us)
{
    const struct timespec moment = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
    (void)nanosleep(&moment, NULL);
}

/* ---- judgement ---- */

/* To the end of the judge, or of its patience. */
static void
wait_for_judge(struct watch *w, pid_t pid)
{
    int status;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (hangs(w, pid, &w->storm->judge)) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return;
        }
        sleep_us(TICK_US);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        note_end(w, "the judge", status);
}

/* One that recovers is killed, too. */
static void
kill_in_recovery(struct watch *w)
{
    int status;
    const pid_t pid = start_process();
    if (pid == 0)
        judge_recover(w->storm);
    sleep_us(any_time(w, 1500) / 1000);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    w->storm->kills++;
    atomic_store(&w->storm->judge.began, 0);
}

static void
wait_until_all_stand(struct watch *w)
{
    const uint64_t patience = now_ns() + 2 * w->options->hang_seconds * SECOND;
    for (unsigned i = 0; i < w->options->processes && !w->broken; i++) {
        const struct worker *worker = &w->storm->workers[i];
        while (worker->pid != 0 && atomic_load(&worker->parked) < worker->threads && !w->broken) {
            reap(w);
            find_hangs(w);
            sleep_us(TICK_US / 4);
            if (now_ns() > patience) {
                storm_fault(w->storm, FAULT_HANG, "a worker does not come to the gate");
                w->broken = true;
            }
        }
    }
}

static void
judge(struct watch *w, bool last)
{
    const bool kill_all = last || next_random(&w->random) % 4 == 0;
    atomic_store(&w->storm->gate, 1);
    for (unsigned i = 0; i < w->options->processes; i++) {
        if (w->storm->workers[i].pid != 0 && (kill_all || next_random(&w->random) % 2 == 0))
            kill_worker(w, i);
    }
    wait_until_all_stand(w);
    if (!w->broken && next_random(&w->random) % 4 == 0)
        kill_in_recovery(w);
    if (!w->broken) {
        const pid_t pid = start_process();
        if (pid == 0)
            judge_run(w->options->subject, w->storm, last);
        wait_for_judge(w, pid);
    }
    atomic_store(&w->storm->is_full, 0);
    atomic_store(&w->storm->gate, 0);
    w->judged_kills = w->storm->kills;
}

static bool
is_time_to_judge(const struct watch *w)
{
    const uint64_t kills = w->storm->kills - w->judged_kills;
    const bool full = w->options->subject->kind == HSHM_ALLOCATOR_STACK && atomic_load(&w->storm->is_full) != 0;
    return is_ours(w) && kills >= (full ? KILLS_OF_A_FULL_STACK : KILLS_A_JUDGEMENT);
}

/* ---- all of it ---- */

/* The heap is of no use any more: everyone ends, and another one is made. */
static bool
begin_anew(struct watch *w)
{
    const struct subject *subject = w->options->subject;
    for (unsigned i = 0; i < w->options->processes; i++) {
        if (w->storm->workers[i].pid == 0)
            continue;
        (void)kill(w->storm->workers[i].pid, SIGKILL);
        (void)waitpid(w->storm->workers[i].pid, NULL, 0);
    }
    subject->destroy(w->storm->name);
    memset(w->storm->workers, 0, sizeof w->storm->workers);
    memset(&w->storm->judge, 0, sizeof w->storm->judge);
    memset(w->storm->market, 0, sizeof w->storm->market);
    w->storm->dead_count = 0;
    w->storm->anew++;
    w->broken = false;
    w->judged_kills = w->storm->kills;
    return subject->create(subject, w->storm->name, REGION_MIB * MIB);
}

static bool
is_over(const struct watch *w)
{
    return (w->options->kills != 0 && w->storm->kills >= w->options->kills) || now_ns() >= w->deadline;
}

static bool
go_on(struct watch *w, bool kills)
{
    start_those_whose_time_has_come(w);
    sleep_us(TICK_US);
    reap(w);
    find_hangs(w);
    kills = kills && !w->broken && !may_hang(w);
    if (kills && now_ns() >= w->next_kill) {
        kill_one(w);
        w->next_kill = now_ns() + any_time(w, 2 * w->options->every_us);
    }
    if (kills && is_time_to_judge(w))
        judge(w, false);
    return !w->broken || begin_anew(w);
}

static bool
storm_on(struct watch *w)
{
    while (!is_over(w)) {
        if (!go_on(w, true))
            return false;
    }
    /* Does everyone go on after the last kill? */
    const uint64_t until = now_ns() + 2 * SUSPICIOUS;
    while (now_ns() < until || may_hang(w)) {
        if (!go_on(w, false))
            return false;
    }
    return true;
}

/* Names go, whatever ends us: also for who interrupts a long run. */
static char path_of_name[96];

static void
end_by_signal(int signal_number)
{
    (void)unlink(path_of_name);
    _exit(128 + signal_number);
}

bool
storm_run(const struct options *options, struct storm *storm)
{
    struct watch w = { .options = options, .storm = storm, .random = options->seed };
    const struct subject *subject = options->subject;
    w.deadline = options->seconds == 0 ? UINT64_MAX : now_ns() + options->seconds * SECOND;
    (void)snprintf(path_of_name, sizeof path_of_name, "/dev/shm/%s", storm->name);
    (void)signal(SIGINT, end_by_signal);
    (void)signal(SIGTERM, end_by_signal);
    if (!subject->create(subject, storm->name, REGION_MIB * MIB))
        return false;
    const bool good = storm_on(&w);
    if (good && is_ours(&w))
        judge(&w, true);
    const uint64_t kills = storm->kills;
    for (unsigned i = 0; i < options->processes; i++) {
        if (storm->workers[i].pid != 0)
            kill_worker(&w, i);
    }
    storm->kills = kills;
    subject->destroy(storm->name);
    return good;
}
