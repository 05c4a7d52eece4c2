/*
 * crash.c - see crash.h.
 */
#include "crash.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/region_format.h"
#include "judge.h"
#include "stepping.h"
#include "traps.h"
#include "victim.h"

enum {
    CALLS_MAX = 48,
    FAILURES_MAX = 5,  /* then it is known well enough               */
    PAIRS = 3,         /* of victims, in each sweep                       */
    BURST = 60,        /* so many instructions of one, before the other's */
    HEIRS_ONE_IN = 100 /* images: so often an heir goes on with one  */
};

/* Where heaps are. */
struct place {
    const char *name;
    hshm_backend_kind backend;
    size_t size;
    bool lazy;
    unsigned one_in; /* sweeps that it takes part in */
};

#if defined(HSHM_TEST_ON_STANDINS)
enum { LESS = 4 }; /* it is the same code, in another layout */
/* For tests/gpu: drivers that are none. */
static const struct place places[] = {
    /* Not smaller: blocks of 256 bytes and more, and what is kept for the next ones, may fill 2 MiB. */
    { "dev 4M", HSHM_BACKEND_GPU_MALLOC, 4 << 20, false, 1 },
    { "dev 8M", HSHM_BACKEND_GPU_MALLOC, 8 << 20, false, 1 },
    { "reg 256K", HSHM_BACKEND_GPU_SHM_MMAP, 256 << 10, false, 2 },
    { "dev 16M", HSHM_BACKEND_GPU_MALLOC, 16 << 20, false, 4 },
};

__attribute__((constructor)) static void
use_standin(void)
{
    (void)setenv("HSHM_CUDA_LIB", HSHM_TEST_BIN_DIR "/libstandin_cuda.so", 1);
}
#else
enum { LESS = 1 };
static const struct place places[] = {
    { "shm 256K", HSHM_BACKEND_POSIX_SHM_MMAP, 256 << 10, false, 1 },
    { "shm 1M", HSHM_BACKEND_POSIX_SHM_MMAP, 1 << 20, false, 1 },
    { "file 256K", HSHM_BACKEND_POSIX_MMAP, 256 << 10, false, 1 },
    { "shm 16M", HSHM_BACKEND_POSIX_SHM_MMAP, 16 << 20, true, 4 },
};
#endif
/* Rows of figures: calls, then what heirs do, then two calls at once. */
enum { ROW_PAIRS = CALLS_MAX + HEIR_CALLS, ROWS };
enum { PLACES = sizeof places / sizeof places[0], PLACE_LARGE = PLACES - 1 };

struct figures {
    uint64_t steps, changes;
    uint64_t images[PLACES]; /* distinct, and judged */
    uint64_t corrupt, hangs;
    uint32_t leak;
};

struct run {
    hshm_allocator_kind kind;
    uint64_t seed, random;
    struct judge *judges[PLACES];
    struct hash_set seen;
    struct figures figures[ROWS];
    uint64_t failures;
};

/* One call being stepped. */
struct scene {
    struct run *run;
    size_t place;
    size_t row; /* of figures */
    struct cast *cast;
    struct cast *other; /* of a second victim; or NULL */
    struct watch watch;
    bool has_heir; /* it is one, or had one: they come to most of the images otherwise */
};

static void step_heir(struct scene *scene);

/* ---- images ---- */

static void
tell_failure(const struct scene *scene, enum verdict verdict)
{
    const struct cast *cast = scene->cast;
    print_error("%s, %s%s%s, step %lu, in %s: %s (HSHM_TEST_SEED=%" PRIu64 ")\n",
                verdict == VERDICT_HANGS ? "a hang" : "not as promised", cast->call->name,
                scene->other != NULL ? " beside " : "", scene->other != NULL ? scene->other->call->name : "",
                (unsigned long)cast->line.steps, places[scene->place].name, "see above", scene->run->seed);
}

/* The region's bytes have changed: what would a kill leave now? */
static void
look_at_image(struct scene *scene)
{
    struct run *run = scene->run;
    struct figures *figures = &run->figures[scene->row];
    uint32_t leak = 0;
    figures->changes++;
    if (!hash_set_add(&run->seen, watch_hash(&scene->watch)))
        return;
    figures->images[scene->place]++;
    const enum verdict verdict = judge_image(run->judges[scene->place], &scene->watch.file, &scene->cast->ledger,
                                             scene->other != NULL ? &scene->other->ledger : NULL, &leak);
    figures->leak = leak > figures->leak ? leak : figures->leak;
    figures->hangs += verdict == VERDICT_HANGS;
    figures->corrupt += verdict == VERDICT_CORRUPT;
    if (verdict != VERDICT_GOOD) {
        run->failures++;
        tell_failure(scene, verdict);
    } else if (!scene->has_heir && next_random(&run->random) % HEIRS_ONE_IN == 0) {
        scene->has_heir = true;
        step_heir(scene);
    }
}

static void
step_by_ptrace(struct scene *scene, void (*life)(void *cast))
{
    struct run *run = scene->run;
    struct stepped child = stepped_life(life, scene->cast);
    while (!child.ended && run->failures < FAILURES_MAX && stepped_next(&child)) {
        (void)watch_changed(&scene->watch);
        look_at_image(scene);
        while (stepped_once(&child)) {
            scene->cast->line.steps++;
            if (watch_changed(&scene->watch))
                look_at_image(scene);
        }
    }
    if (child.pid >= 0)
        stepped_kill(&child);
}

struct errand {
    void (*life)(void *cast);
    struct cast *cast;
};

static int
run_life(void *arg)
{
    const struct errand *errand = arg;
    errand->life(errand->cast);
    return 0;
}

static void
step_by_traps(struct scene *scene, void (*life)(void *cast))
{
    struct trap_line *line = &scene->cast->line;
    struct errand errand = { life, scene->cast };
    char byte = 0;
    const pid_t child = child_start(run_life, &errand);
    trap_line_use(line);
    while (scene->run->failures < FAILURES_MAX && read(line->told, &byte, 1) == 1) {
        (void)watch_changed(&scene->watch);
        look_at_image(scene);
        assert_int_equal(write(line->answer, &byte, 1), 1);
    }
    /* Others may hold ends of the line, so that its closing says nothing. */
    const bool enough = scene->run->failures >= FAILURES_MAX;
    if (enough)
        (void)kill(child, SIGKILL);
    trap_line_close(line);
    const int status = child_wait(child);
    if (status != 0 && !enough)
        fail_msg("%s: the victim itself ended with %d", scene->cast->call->name, status);
}

static void
step_through(struct scene *scene, void (*life)(void *cast))
{
    struct cast *cast = scene->cast;
    cast->by_ptrace = !CAN_TRAP || cast->call->by_ptrace;
    trap_line_open(&cast->line);
    if (cast->by_ptrace) {
        step_by_ptrace(scene, life);
        trap_line_use(&cast->line);
        trap_line_close(&cast->line);
    } else {
        step_by_traps(scene, life);
    }
    scene->run->figures[scene->row].steps += cast->line.steps;
}

/* ---- heirs ---- */

/* Whoever was in a slot died there. */
static void
take_all_slots(const struct file_view *file)
{
    const struct region_header *header = (const struct region_header *)(void *)file->bytes;
    struct region_slot *slots = (struct region_slot *)(void *)(file->bytes + header->slots_off);
    for (uint32_t i = 0; i < header->slot_count; i++)
        atomic_store(&slots[i].state, SLOT_TAKEN);
}

/* Somebody goes on with this image, and dies in recovery. */
static void
step_heir(struct scene *scene)
{
    struct cast *cast = shared_bytes(sizeof *cast);
    const size_t which = next_random(&scene->run->random) % 4 == 0 ? HEIR_ATTACHES : HEIR_RECOVERS; /* attach is slow */
    memcpy(cast, scene->cast, sizeof *cast);
    cast->call = &heir_calls[which];
    (void)snprintf(cast->name, sizeof cast->name, "%s", test_name("heir"));
    file_url(cast->backend, cast->name, cast->url, sizeof cast->url);
    struct file_view file = file_view_make(cast->name, scene->watch.file.size);
    file_view_copy(&scene->watch.file, &file);
    if (which == HEIR_ATTACHES)
        take_all_slots(&file);
    struct scene heirs = { .run = scene->run,
                           .place = scene->place,
                           .row = CALLS_MAX + which,
                           .cast = cast,
                           .watch = watch_begin(file),
                           .has_heir = true };
    step_through(&heirs, live_as_heir);
    watch_end(&heirs.watch);
    file_view_close(&file);
    file_unlink(cast->name);
    assert_int_equal(munmap(cast, sizeof *cast), 0);
}

/* ---- calls ---- */

static void
end_founder(pid_t founder)
{
    assert_int_equal(kill(founder, SIGKILL), 0);
    assert_int_equal(child_wait(founder), 128 + SIGKILL);
}

/* Who works on a heap in that place, and what they know. */
static struct cast *
make_cast(struct run *run, size_t place, size_t call)
{
    struct cast *cast = shared_bytes(sizeof *cast);
    *cast = (struct cast){ .call = &calls[call],
                           .kind = run->kind,
                           .backend = places[place].backend,
                           .size = places[place].size,
                           .lazy = places[place].lazy,
                           .seed = next_random(&run->random) };
    (void)snprintf(cast->name, sizeof cast->name, "%s", test_name("crash"));
    file_url(cast->backend, cast->name, cast->url, sizeof cast->url);
    return cast;
}

static pid_t
start_founder(struct cast *cast)
{
    const pid_t founder = child_start(found_heap, cast);
    step_wait(&cast->founded, 1);
    return founder;
}

static void
step_call(struct run *run, size_t place, size_t call)
{
    struct cast *cast = make_cast(run, place, call);
    const pid_t founder = start_founder(cast);
    const bool founder_lives = next_random(&run->random) % 2 == 0;
    if (!founder_lives)
        end_founder(founder);
    struct file_view file = file_view_open(cast->name);
    struct scene scene = { .run = run, .place = place, .row = call, .cast = cast, .watch = watch_begin(file) };
    step_through(&scene, live_as_victim);
    if (founder_lives)
        end_founder(founder);
    watch_end(&scene.watch);
    file_view_close(&file);
    file_unlink(cast->name);
    assert_int_equal(munmap(cast, sizeof *cast), 0);
}

/* ---- two victims, each in the middle of a call, in any order of their instructions ---- */

/* Some instructions of one.  False: its call is over. */
static bool
step_some(struct scene *scene, struct stepped *child)
{
    for (uint64_t i = next_random(&scene->run->random) % BURST; i > 0; i--) {
        if (!stepped_once(child))
            return false;
        scene->cast->line.steps++;
        if (watch_changed(&scene->watch))
            look_at_image(scene);
    }
    return true;
}

static void
step_both(struct scene *scene)
{
    struct cast *casts[2] = { scene->cast, scene->other };
    struct stepped children[2];
    bool in_call[2] = { false, false };
    bool alive = true;
    for (size_t i = 0; i < 2; i++) {
        casts[i]->by_ptrace = true;
        trap_line_open(&casts[i]->line);
        children[i] = stepped_life(live_as_victim, casts[i]);
    }
    while (alive && scene->run->failures < FAILURES_MAX) {
        const size_t which = next_random(&scene->run->random) % 2;
        if (!in_call[which]) {
            alive = in_call[which] = stepped_next(&children[which]);
            (void)watch_changed(&scene->watch);
            if (alive)
                look_at_image(scene);
        }
        in_call[which] = in_call[which] && step_some(scene, &children[which]);
    }
    for (size_t i = 0; i < 2; i++) {
        if (children[i].pid >= 0)
            stepped_kill(&children[i]);
        trap_line_use(&casts[i]->line);
        trap_line_close(&casts[i]->line);
    }
    scene->run->figures[scene->row].steps += scene->cast->line.steps;
}

/* A call that any two may be in the middle of: not of the slots and names that each has as its own. */
static size_t
any_call(struct run *run, bool alone)
{
    const bool slabs = cuts_slabs(run->kind);
    for (;;) {
        const size_t call = next_random(&run->random) % call_count;
        if ((slabs ? calls[call].slabs : calls[call].stack) && !calls[call].detached && !calls[call].by_ptrace &&
            (alone || !calls[call].exact))
            return call;
    }
}

static void
step_pair(struct run *run, size_t place)
{
    struct cast *cast = make_cast(run, place, any_call(run, true));
    struct cast *other = make_cast(run, place, any_call(run, false));
    memcpy(other->name, cast->name, sizeof other->name);
    memcpy(other->url, cast->url, sizeof other->url);
    const pid_t founder = start_founder(cast);
    struct file_view file = file_view_open(cast->name);
    struct scene scene = { .run = run,
                           .place = place,
                           .row = ROW_PAIRS,
                           .cast = cast,
                           .other = other,
                           .watch = watch_begin(file),
                           .has_heir = true };
    step_both(&scene);
    end_founder(founder);
    watch_end(&scene.watch);
    file_view_close(&file);
    file_unlink(cast->name);
    assert_int_equal(munmap(cast, sizeof *cast), 0);
    assert_int_equal(munmap(other, sizeof *other), 0);
}

/* ---- figures ---- */

static uint64_t
images_of(const struct figures *figures)
{
    uint64_t images = 0;
    for (size_t place = 0; place < PLACES; place++)
        images += figures->images[place];
    return images;
}

static void
print_row(const char *name, const struct figures *f)
{
    print_message("%-30s %10" PRIu64 " %9" PRIu64, name, f->steps, f->changes);
    for (size_t place = 0; place < PLACES; place++)
        print_message(" %9" PRIu64, f->images[place]);
    print_message(" %8" PRIu64 " %6" PRIu64 " %5u\n", f->corrupt, f->hangs, f->leak);
}

static const char *
name_of_row(size_t row)
{
    if (row == ROW_PAIRS)
        return "two calls at once";
    return row < CALLS_MAX ? calls[row].name : heir_calls[row - CALLS_MAX].name;
}

static void
print_table(const struct run *run)
{
    struct figures all = { 0 };
    print_message("%-30s %10s %9s", "", "steps", "changes");
    for (size_t place = 0; place < PLACES; place++)
        print_message(" %9s", places[place].name);
    print_message(" %8s %6s %5s\n", "corrupt", "hangs", "leak");
    for (size_t row = 0; row < ROWS; row++) {
        const struct figures *f = &run->figures[row];
        if (row < CALLS_MAX && row >= call_count)
            continue;
        print_row(name_of_row(row), f);
        all.steps += f->steps;
        all.changes += f->changes;
        for (size_t place = 0; place < PLACES; place++)
            all.images[place] += f->images[place];
        all.corrupt += f->corrupt;
        all.hangs += f->hangs;
        all.leak = f->leak > all.leak ? f->leak : all.leak;
    }
    print_row("all", &all);
    print_message("%" PRIu64 " distinct images\n", images_of(&all));
}

/* ---- all of it ---- */

void
crash_avoid_string_instructions(char **argv)
{
    static const char settings[] =
        "glibc.cpu.x86_rep_movsb_threshold=0x40000000:glibc.cpu.x86_rep_stosb_threshold=0x40000000";
    if (getenv("GLIBC_TUNABLES") != NULL || setenv("GLIBC_TUNABLES", settings, 1) != 0)
        return;
    (void)execv("/proc/self/exe", argv);
}

/* Every call, in one place; or those that are done otherwise in a large one. */
static void
sweep(struct run *run, size_t place, bool only_large)
{
    const bool slabs = cuts_slabs(run->kind);
    for (size_t call = 0; call < call_count && run->failures < FAILURES_MAX; call++) {
        if ((slabs ? calls[call].slabs : calls[call].stack) && (!only_large || calls[call].large))
            step_call(run, place, call);
    }
    for (int i = 0; i < PAIRS && !only_large && run->failures < FAILURES_MAX; i++)
        step_pair(run, place);
}

void
crash_all_calls(hshm_allocator_kind kind, size_t images)
{
    const char *refused = stepping_refused();
    if (refused != NULL) {
        print_message("%s\n", refused);
        skip();
    }
    const char *given = getenv("HSHM_CRASH_IMAGES");
    const size_t wanted = given != NULL ? strtoul(given, NULL, 10) : images / LESS;
    struct run *run = calloc(1, sizeof *run);
    assert_non_null(run);
    run->kind = kind;
    run->seed = run->random = test_seed();
    for (size_t i = 0; i < PLACES; i++)
        run->judges[i] =
            judge_start(places[i].backend, file_size_of(places[i].backend, places[i].size), next_random(&run->random));
    if (kind == HSHM_ALLOCATOR_THREAD_LOCAL)
        sweep(run, PLACE_LARGE, true);
    for (unsigned i = 0; run->seen.count < wanted && run->failures < FAILURES_MAX; i++) {
        for (size_t place = 0; place < PLACES && run->seen.count < wanted; place++) {
            if (i % places[place].one_in == places[place].one_in - 1)
                sweep(run, place, false);
        }
    }
    for (size_t i = 0; i < PLACES; i++)
        judge_end(run->judges[i]);
    print_table(run);
    const uint64_t failures = run->failures;
    free(run->seen.places);
    free(run);
    assert_int_equal(failures, 0);
}
