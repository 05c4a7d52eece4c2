/*
 * main.c - storm [OPTION]... SUBJECT...  - options in, one row a subject out.
 *
 *   SUBJECT             stack, page, thread, boost
 *   --kills N           so many for each subject (100); 0: no limit
 *   --seconds N         so long for each subject; 0: no limit
 *   --every-ms N        between two kills, on average (25)
 *   --processes N       at once (6)
 *   --hang-seconds N    a call that takes longer does not return (20)
 *   --seed N            repeats the choices, but not the moments; else HSHM_TEST_SEED, else the clock
 *
 * Exits with 1 if a promise was broken (of our heaps; the others' rows are for comparison).
 */
#include "storm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct subject *const subjects[] = { &subject_stack, &subject_page, &subject_thread, &subject_boost };
enum { SUBJECTS = sizeof subjects / sizeof subjects[0] };

static const char *const fault_names[FAULTS] = { "content", "check",  "answer", "stats",
                                                 "leak",    "memory", "crash",  "hang" };

_Noreturn static void
usage(const char *about)
{
    (void)fprintf(stderr, "storm: %s; see the head of main.c\n", about);
    exit(2);
}

/*
 * The longest pause of any call; *ret_call: of which.  Not of a check, which judges alone make; nor of a trim, which takes as long as
 * the system takes to free the pages that it was asked to free: it has a line of its own.
 */
static uint64_t
longest_pause(const struct storm *storm, unsigned *ret_call)
{
    *ret_call = 0;
    for (unsigned call = 0; call < CALL_CHECK; call++) {
        if (call != CALL_TRIM && atomic_load(&storm->pauses[call].ns) > atomic_load(&storm->pauses[*ret_call].ns))
            *ret_call = call;
    }
    return atomic_load(&storm->pauses[*ret_call].ns);
}

static uint64_t
count_calls(const struct storm *storm)
{
    uint64_t calls = 0;
    for (unsigned w = 0; w < PROCESSES_MAX; w++) {
        for (unsigned t = 0; t < THREADS_MAX; t++)
            calls += atomic_load(&storm->workers[w].holders[t].calls);
    }
    return calls;
}

static uint64_t
faults(const struct storm *storm, enum fault fault)
{
    return atomic_load(&storm->faults[fault]);
}

static double
mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static uint64_t
count_killed_in_calls(const struct storm *storm)
{
    uint64_t threads = 0;
    for (unsigned call = 0; call < CALLS; call++)
        threads += atomic_load(&storm->killed_in[call]);
    return threads;
}

static void
print_row(const struct subject *subject, const struct storm *storm, double seconds)
{
    const struct verdicts *v = &storm->verdicts;
    unsigned call;
    const uint64_t pause = longest_pause(storm, &call);
    printf("%-18s %7llu kills in %.0f s, %llu thousand calls; %llu hangs, %llu crashes, heap made anew %llu times\n",
           subject->title, (unsigned long long)storm->kills, seconds, (unsigned long long)(count_calls(storm) / 1000),
           (unsigned long long)faults(storm, FAULT_HANG), (unsigned long long)faults(storm, FAULT_CRASH),
           (unsigned long long)storm->anew);
    printf("%18s longest pause %.1f ms, in %s (trims: %.1f)\n", "", (double)pause / 1e6, call_names[call],
           (double)atomic_load(&storm->pauses[CALL_TRIM].ns) / 1e6);
    printf("%18s %llu threads were killed in the middle of a call\n", "",
           (unsigned long long)count_killed_in_calls(storm));
    if (subject->kind == HSHM_ALLOCATOR_ANY)
        return;
    printf(
        "%18s corrupt blocks %llu, checks failed %llu, wrong answers %llu, wrong statistics %llu, in %llu judgements\n",
        "", (unsigned long long)faults(storm, FAULT_CONTENT), (unsigned long long)faults(storm, FAULT_CHECK),
        (unsigned long long)faults(storm, FAULT_ANSWER), (unsigned long long)faults(storm, FAULT_STATS),
        (unsigned long long)v->judged);
    printf("%18s live blocks that nobody knew %llu, where the dead were just taking %llu; longest recovery %.1f ms\n",
           "", (unsigned long long)v->leaked, (unsigned long long)v->allowed, (double)v->recover_ns / 1e6);
    printf(
        "%18s at the end %llu blocks of %.1f MiB live, in slabs of %.1f MiB; committed %.1f MiB; all freed: %.1f MiB\n",
        "", (unsigned long long)v->live_blocks, mib(v->live_bytes), mib(v->used_bytes), mib(v->committed),
        mib(v->committed_empty));
}

static void
print_pauses(const struct storm *storm)
{
    for (unsigned call = 0; call < CALLS; call++) {
        const struct pause *pause = &storm->pauses[call];
        if (atomic_load(&pause->calls) + atomic_load(&storm->killed_in[call]) != 0)
            printf(
                "%18s %-13s %5llu killed in it; %7llu over 1 ms, the longest %.1f ms (%.1f by the clock); %llu with major faults\n",
                "", call_names[call], (unsigned long long)atomic_load(&storm->killed_in[call]),
                (unsigned long long)atomic_load(&pause->calls), (double)atomic_load(&pause->ns) / 1e6,
                (double)atomic_load(&pause->wall_ns) / 1e6, (unsigned long long)atomic_load(&pause->majors));
    }
}

static bool
print_faults(const struct storm *storm)
{
    bool any = false;
    for (unsigned fault = 0; fault < FAULTS; fault++) {
        if (faults(storm, fault) == 0)
            continue;
        any = true;
        printf("    %s: %llu\n", fault_names[fault], (unsigned long long)faults(storm, fault));
    }
    for (unsigned i = 0; i < atomic_load(&storm->texts) && i < TEXTS; i++)
        printf("    %s\n", storm->text[i]);
    return any;
}

/* True if the promises were kept. */
static bool
run(const struct options *options)
{
    const struct subject *subject = options->subject;
    if (subject->create == NULL) {
        printf("%-18s not measured: this build has no such heap (Debian: libboost-dev)\n", subject->title);
        return true;
    }
    struct storm *storm = mmap(NULL, sizeof *storm, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (storm == MAP_FAILED)
        usage("no memory");
    (void)snprintf(storm->name, sizeof storm->name, "hshm-storm-%d-%s", (int)getpid(), subject->option);
    const uint64_t begin = now_ns();
    const bool ran = storm_run(options, storm);
    print_row(subject, storm, (double)(now_ns() - begin) / 1e9);
    print_pauses(storm);
    if (!ran)
        printf("    the heap cannot be made: %s\n", hshm_last_error());
    const bool any = print_faults(storm);
    (void)fflush(stdout);
    (void)munmap(storm, sizeof *storm);
    return ran && (!any || subject->kind == HSHM_ALLOCATOR_ANY);
}

static uint64_t
number(const char *text)
{
    char *end;
    const uint64_t value = text == NULL ? 0 : strtoull(text, &end, 10);
    if (text == NULL || end == text || *end != '\0')
        usage("a number is missing");
    return value;
}

static bool
set_option(struct options *options, const char *name, const char *value)
{
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = { { "--kills", &options->kills },
                    { "--seconds", &options->seconds },
                    { "--hang-seconds", &options->hang_seconds },
                    { "--seed", &options->seed } };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(name, numbers[i].name) != 0)
            continue;
        *numbers[i].value = number(value);
        return true;
    }
    if (strcmp(name, "--every-ms") == 0)
        options->every_us = number(value) * 1000;
    else if (strcmp(name, "--processes") == 0)
        options->processes = (unsigned)number(value);
    else
        return false;
    return true;
}

static const struct subject *
find_subject(const char *name)
{
    for (size_t i = 0; i < SUBJECTS; i++) {
        if (strcmp(subjects[i]->option, name) == 0)
            return subjects[i];
    }
    usage("unknown option or subject");
}

int
main(int argc, char **argv)
{
    struct options options = { .kills = 100, .every_us = 25000, .hang_seconds = 20, .processes = 6, .seed = now_ns() };
    const char *seed = getenv("HSHM_TEST_SEED");
    const struct subject *chosen[SUBJECTS * 2] = { NULL };
    size_t count = 0;
    bool good = true;
    if (seed != NULL)
        options.seed = number(seed);
    for (int i = 1; i < argc; i++) {
        if (set_option(&options, argv[i], argv[i + 1])) {
            i++;
            continue;
        }
        if (count < SUBJECTS * 2)
            chosen[count++] = find_subject(argv[i]);
    }
    if (options.processes == 0 || options.processes > PROCESSES_MAX)
        usage("--processes wants 1 to 16");
    if (count == 0)
        usage("no subject");
    printf("seed %llu\n", (unsigned long long)options.seed);
    (void)fflush(stdout);
    for (size_t i = 0; i < count; i++) {
        options.subject = chosen[i];
        good = run(&options) && good;
    }
    return good ? 0 : 1;
}
