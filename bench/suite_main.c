/*
 * suite_main.c - arguments in, one line of JSON out.
 *
 *     suite_hshm --kind stack --workload pair --size 64 --ops 1000000 --threads 1 --processes 2
 *
 * Exit status: 0 measured, 1 it failed (the line says why), 2 the arguments are wrong, 77 this build has no such heap.
 */
#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_NOTSUP = 77 };

static const uint64_t region_bytes_default = UINT64_C(4) << 30;

static const struct work *const works[] = {
    &work_pair,   &work_fifo,   &work_lifo, &work_random,   &work_fill,   &work_large,   &work_batch,
    &work_server, &work_stress, &work_ring, &work_consumer, &work_thrash, &work_scratch, &work_phases,
};

static const struct work *
find_work(const char *name)
{
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++)
        if (strcmp(works[i]->name, name) == 0)
            return works[i];
    return NULL;
}

static void
print_usage(FILE *to, const char *program)
{
    (void)fprintf(to,
                  "usage: %s --workload NAME [option]...\n"
                  "  --size N | --size MIN..MAX   bytes of a block\n"
                  "  --live N --ops N --rounds N  see the workloads; of each worker\n"
                  "  --threads N --processes N    N threads in each of N processes; default 1 and 1\n"
                  "  --subject LABEL              what the output calls the heap\n"
                  "  --kind KIND --on-malloc --prefault --region BYTES --name NAME   of heaps in shared memory\n"
                  "workloads:\n",
                  program);
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++)
        (void)fprintf(to, "  %-9s %s\n", works[i]->name, works[i]->text);
}

_Noreturn static void
usage_error(const char *program, const char *what, const char *value)
{
    (void)fprintf(stderr, "%s: %s '%s'; see --help\n", program, what, value);
    exit(EXIT_USAGE);
}

static uint64_t
number(const char *program, const char *text, char **ret_end)
{
    errno = 0;
    const unsigned long long value = strtoull(text, ret_end, 10);
    if (errno != 0 || *ret_end == text || text[0] == '-')
        usage_error(program, "not a number:", text);
    return value;
}

static uint64_t
whole_number(const char *program, const char *text)
{
    char *end;
    const uint64_t value = number(program, text, &end);
    if (*end != '\0')
        usage_error(program, "not a number:", text);
    return value;
}

static void
parse_sizes(const char *program, const char *text, struct suite_params *params)
{
    char *end;
    params->size_min = params->size_max = number(program, text, &end);
    if (strncmp(end, "..", 2) == 0)
        params->size_max = whole_number(program, end + 2);
    else if (*end != '\0')
        usage_error(program, "not a size:", text);
    /* Workloads write a word into each block. */
    if (params->size_min < sizeof(uint64_t) || params->size_max < params->size_min)
        usage_error(program, "not a size of 8 bytes or more:", text);
}

/* @return whether `name` is an option with a value, and it was taken */
static bool
parse_value(const char *program, const char *name, const char *value, struct suite_params *params)
{
    const struct {
        const char *name;
        uint64_t *number;
    } numbers[] = { { "--live", &params->live },
                    { "--ops", &params->ops },
                    { "--rounds", &params->rounds },
                    { "--region", &params->heap.region_bytes } };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(name, numbers[i].name) == 0) {
            *numbers[i].number = whole_number(program, value);
            return true;
        }
    if (strcmp(name, "--size") == 0)
        parse_sizes(program, value, params);
    else if (strcmp(name, "--threads") == 0)
        params->threads = (unsigned)whole_number(program, value);
    else if (strcmp(name, "--processes") == 0)
        params->processes = (unsigned)whole_number(program, value);
    else if (strcmp(name, "--subject") == 0)
        params->subject = value;
    else if (strcmp(name, "--kind") == 0)
        params->heap.kind = value;
    else if (strcmp(name, "--name") == 0)
        params->heap.name = value;
    else if (strcmp(name, "--workload") != 0)
        return false;
    return true;
}

static bool
parse_flag(const char *name, struct suite_params *params)
{
    if (strcmp(name, "--on-malloc") == 0)
        params->heap.on_malloc = true;
    else if (strcmp(name, "--prefault") == 0)
        params->heap.prefault = true;
    else
        return false;
    return true;
}

/* The workload decides the defaults, so it is looked for first. */
static const struct work *
parse_workload(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_usage(stdout, argv[0]);
            exit(0);
        }
        if (strcmp(argv[i], "--workload") == 0 && i + 1 < argc) {
            const struct work *work = find_work(argv[i + 1]);
            if (work == NULL)
                usage_error(argv[0], "no such workload:", argv[i + 1]);
            return work;
        }
    }
    print_usage(stderr, argv[0]);
    exit(EXIT_USAGE);
}

static void
check_workers(const char *program, const struct suite_params *params)
{
    const unsigned workers = params->threads * params->processes;
    if (params->threads < 1 || params->processes < 1 || params->threads > SUITE_WORKERS_MAX ||
        params->processes > SUITE_WORKERS_MAX || workers > SUITE_WORKERS_MAX)
        usage_error(program, "too few or too many workers for", params->work->name);
    if (workers < params->work->defaults.workers_min)
        usage_error(program, "more workers are needed for", params->work->name);
}

static void
parse(int argc, char **argv, struct suite_params *params)
{
    const struct work *work = parse_workload(argc, argv);
    params->work = work;
    params->size_min = work->defaults.size_min;
    params->size_max = work->defaults.size_max;
    params->live = work->defaults.live;
    params->ops = work->defaults.ops;
    params->rounds = work->defaults.rounds;
    for (int i = 1; i < argc; i++) {
        if (parse_flag(argv[i], params))
            continue;
        if (i + 1 >= argc || !parse_value(argv[0], argv[i], argv[i + 1], params))
            usage_error(argv[0], "unknown argument, or one that lacks its value:", argv[i]);
        i++;
    }
    check_workers(argv[0], params);
}

static void
print_text(const char *key, const char *text)
{
    printf("\"%s\": \"", key);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)putchar('\\');
        (void)putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    printf("\", ");
}

static double
ratio(uint64_t a, uint64_t b)
{
    return b == 0 ? 0 : (double)a / (double)b;
}

static void
print_points(const struct suite_result *result)
{
    printf("\"points\": [");
    for (size_t i = 0; i < result->points; i++) {
        const struct suite_point *point = &result->point[i];
        printf("%s{\"label\": \"%s\", \"rss\": %llu, \"live_bytes\": %llu, \"live_blocks\": %llu, \"wall_ns\": %.0f}",
               i == 0 ? "" : ", ", point->label, (unsigned long long)point->memory,
               (unsigned long long)point->live_bytes, (unsigned long long)point->live_blocks, point->wall_ns);
    }
    printf("], \"pids\": [");
    for (size_t i = 0; i < result->pids; i++)
        printf("%s%d", i == 0 ? "" : ", ", result->pid[i]);
    printf("]");
}

static void
print_figures(const struct suite_params *params, const struct suite_result *result)
{
    const unsigned lanes = (params->work->flags & WORK_ONE_LANE) != 0 ? 1 : params->threads * params->processes;
    const double ops = result->ops == 0 ? 1 : (double)result->ops;
    const struct suite_point *end = &result->point[result->points - 1];
    uint64_t live_most = 0;
    for (size_t i = 0; i < result->points; i++)
        if (result->point[i].live_bytes > live_most)
            live_most = result->point[i].live_bytes;
    printf("\"ops\": %llu, \"ns_per_op\": %.3f, \"cpu_ns_per_op\": %.3f, \"wall_ns\": %.0f, \"cpu_ns\": %.0f, ",
           (unsigned long long)result->ops, result->wall_ns * lanes / ops, result->cpu_ns / ops, result->wall_ns,
           result->cpu_ns);
    printf(
        "\"peak_rss\": %llu, \"rss\": %llu, \"live_bytes\": %llu, \"live_blocks\": %llu, \"heap_live_blocks\": %lld, ",
        (unsigned long long)result->memory_peak, (unsigned long long)end->memory, (unsigned long long)end->live_bytes,
        (unsigned long long)end->live_blocks, (long long)result->heap_live_blocks);
    printf("\"rss_over_live\": %.4f, \"peak_over_live\": %.4f, ", ratio(end->memory, end->live_bytes),
           ratio(result->memory_peak, live_most));
}

static void
print_json(const struct suite_params *params, const struct suite_result *result)
{
    static const char *const answers[] = { [HEAP_OK] = "ok", [HEAP_NOTSUP] = "notsup", [HEAP_FAILED] = "failed" };
    printf("{");
    print_text("subject", params->subject);
    print_text("workload", params->work->name);
    printf("\"params\": {\"threads\": %u, \"processes\": %u, \"size_min\": %llu, \"size_max\": %llu, \"live\": %llu, "
           "\"ops\": %llu, \"rounds\": %llu}, ",
           params->threads, params->processes, (unsigned long long)params->size_min,
           (unsigned long long)params->size_max, (unsigned long long)params->live, (unsigned long long)params->ops,
           (unsigned long long)params->rounds);
    if (result->answer == HEAP_OK)
        print_figures(params, result);
    else
        print_text("why", result->why);
    print_text("status", answers[result->answer]);
    print_points(result);
    printf("}\n");
}

int
main(int argc, char **argv)
{
    static struct suite_result result;
    char name[64];
    (void)snprintf(name, sizeof name, "hshm_suite.%d", (int)getpid());
    struct suite_params params = {
        .subject = "?",
        .threads = 1,
        .processes = 1,
        .heap = { .name = name, .kind = "thread_local", .region_bytes = region_bytes_default },
    };
    parse(argc, argv, &params);
    if ((params.work->flags & WORK_CROSSES) != 0 && params.processes > 1 && !heap_is_shared(&params.heap)) {
        result.answer = HEAP_NOTSUP;
        (void)snprintf(result.why, sizeof result.why, "blocks of a private heap do not go to another process");
    } else {
        suite_run(&params, &result);
    }
    print_json(&params, &result);
    return result.answer == HEAP_OK ? 0 : result.answer == HEAP_NOTSUP ? EXIT_NOTSUP : 1;
}
