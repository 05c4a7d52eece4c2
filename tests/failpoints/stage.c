/*
 * stage.c - see stage.h.
 */
#include "stage.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash/judge.h"
#include "others.h"
#include "scripts.h"

static const struct {
    hshm_backend_kind backend;
    size_t size;
    bool lazy;
} places[PLACES] = {
    [PLACE_SHM] = { HSHM_BACKEND_POSIX_SHM_MMAP, 256 << 10, false },
    [PLACE_MIDDLE] = { HSHM_BACKEND_POSIX_SHM_MMAP, 1 << 20, false }, /* below, a slab has few words of bits */
    [PLACE_LAZY] = { HSHM_BACKEND_POSIX_SHM_MMAP, 16 << 20, true },   /* below, slices are not whole pages */
    [PLACE_FILE] = { HSHM_BACKEND_POSIX_MMAP, 256 << 10, false },
};

enum { SLOTS = 10 };

static struct judge *judges[PLACES];

void
stage_open(uint64_t seed)
{
    for (unsigned i = 0; i < PLACES; i++)
        judges[i] = judge_start(places[i].backend, places[i].size, seed + i);
}

void
stage_close(void)
{
    for (unsigned i = 0; i < PLACES; i++)
        judge_end(judges[i]);
}

/* ---- who is on it ---- */

struct stage {
    const struct scene *scene;
    struct cast *cast;
    struct others *others;
    pid_t founder;
};

/* A child's begin: it ends with the test, and is on the same processor each time, as where that is decides which way blocks take. */
static void
begin_child(uint64_t seed)
{
    cpu_set_t set;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return;
    uint64_t skip = seed % (uint64_t)CPU_COUNT(&set);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &set) && skip-- != 0)
            CPU_CLR(cpu, &set);
    }
    (void)sched_setaffinity(0, sizeof set, &set);
}

static int
run_founder(void *arg)
{
    const struct cast *cast = arg;
    begin_child(cast->seed >> 8);
    return found_heap(arg);
}

static void
end_founder(struct stage *stage)
{
    if (stage->founder <= 0)
        return;
    assert_int_equal(kill(stage->founder, SIGKILL), 0);
    assert_int_equal(child_wait(stage->founder), 128 + SIGKILL);
    stage->founder = 0;
}

static struct stage
stage_set(const struct scene *scene)
{
    struct stage stage = { .scene = scene, .cast = shared_bytes(sizeof *stage.cast) };
    struct cast *cast = stage.cast;
    stage.others = shared_bytes(sizeof *stage.others);
    cast->kind = scene->kind;
    cast->backend = places[scene->place].backend;
    cast->size = places[scene->place].size;
    cast->lazy = places[scene->place].lazy;
    cast->slots = SLOTS;
    cast->seed = scene->seed;
    stage.others->cast = cast;
    (void)snprintf(cast->name, sizeof cast->name, "%s", test_name("failpoints"));
    file_url(cast->backend, cast->name, cast->url, sizeof cast->url);
    stage.founder = child_start(run_founder, cast);
    step_wait(&cast->founded, 1);
    /* The last one leaves a file in another way. */
    if (scene->seed % 4 == 0 || strcmp(scene->call->name, CALL_LAST) == 0)
        end_founder(&stage);
    return stage;
}

static void
stage_clear(struct stage *stage)
{
    char path[256];
    end_founder(stage);
    file_unlink(stage->cast->name);
    (void)snprintf(path, sizeof path, "/dev/shm/%s-new", stage->cast->name);
    (void)unlink(path);
    assert_int_equal(munmap(stage->others, sizeof *stage->others), 0);
    assert_int_equal(munmap(stage->cast, sizeof *stage->cast), 0);
}

/* ---- the victim ---- */

/* Local to the victim: it inherits this. */
static struct point_plan armed;

static void
watch_call(struct victim *v)
{
    points_begin(&armed);
    v->cast->call->run(v);
    points_end();
}

static bool
is_heirs(const struct call *call)
{
    return call == &heir_calls[HEIR_RECOVERS] || call == &heir_calls[HEIR_ATTACHES];
}

static int
run_victim(void *arg)
{
    struct cast *cast = arg;
    begin_child(cast->seed >> 16);
    (void)(is_heirs(cast->call) ? live_as_heir : live_as_victim)(cast);
    return 0;
}

static pid_t
start_victim(const struct stage *stage, const struct call *call, const struct point_plan *plan)
{
    armed = *plan;
    stage->cast->call = call;
    stage->cast->watch_call = watch_call;
    return child_start(run_victim, stage->cast);
}

static bool
was_reached(const struct tally *tally)
{
    return atomic_load(&tally->reached.count) != 0;
}

/* The one before, of whom all is left that a kill leaves.  False: it did not come by its point. */
static bool
play_earlier(const struct stage *stage)
{
    const struct scene *scene = stage->scene;
    if (scene->earlier_call == NULL)
        return true;
    struct tally *tally = shared_bytes(sizeof *tally);
    const struct point_plan plan = { tally, scene->earlier, scene->earlier_nth, SIGKILL };
    (void)child_wait(start_victim(stage, scene->earlier_call, &plan));
    const bool reached = was_reached(tally);
    assert_int_equal(munmap(tally, sizeof *tally), 0);
    return reached;
}

void
scene_count(const struct scene *scene, struct tally *tally)
{
    struct stage stage = stage_set(scene);
    if (play_earlier(&stage)) {
        const struct point_plan plan = { tally, NULL, 0, 0 };
        const int status = child_wait(start_victim(&stage, scene->call, &plan));
        if (status != 0)
            fail_msg("%s: the call itself ended with %d", scene->call->name, status);
    }
    stage_clear(&stage);
}

/* ---- what has become of the heap ---- */

static const char *
judge_heap(const struct stage *stage)
{
    static const char *const verdicts[] = { NULL, "the heap is not as promised, see above", "recovery hangs" };
    uint32_t leak = 0;
    struct file_view file = file_view_open(stage->cast->name);
    const enum verdict verdict = judge_image(judges[stage->scene->place], &file, &stage->cast->ledger, NULL, &leak);
    file_view_close(&file);
    return verdicts[verdict];
}

static void
tell(const struct scene *scene, const struct failpoint *point, uint32_t nth, const char *how, const char *what)
{
    print_error("%s for the %u. time at %s (%s:%u), in \"%s\" (kind %d, place %u, seed %" PRIu64 "): %s\n", how, nth,
                point->name, point->file, point->line, scene->call->name, (int)scene->kind, scene->place, scene->seed,
                what);
    if (scene->earlier_call != NULL)
        print_error("    before, in \"%s\", another one was killed for the %u. time at %s\n", scene->earlier_call->name,
                    scene->earlier_nth, scene->earlier->name);
    fail();
}

/* The heap is judged once more, if that is worth it. */
static const char *
end_scene(struct stage *stage, struct tally *tally, bool judge, const char *wrong)
{
    end_founder(stage);
    if (judge)
        wrong = judge_heap(stage);
    stage_clear(stage);
    assert_int_equal(munmap(tally, sizeof *tally), 0);
    return wrong;
}

/* What a dead creator left can be replaced. */
static const char *
create_again(const struct stage *stage)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    hshm_allocator *heap = NULL;
    char url[128];
    options.replace = HSHM_REPLACE_DEAD;
    created_url(stage->cast, url, sizeof url);
    if (hshm_backend_create(NULL, 2, stage->cast->backend, stage->cast->size, url, &options, NULL) != HSHM_OK ||
        hshm_allocator_create(NULL, 2, (hshm_allocator_id){ 2, 0 }, stage->cast->kind, 0, NULL, &heap) != HSHM_OK)
        return hshm_last_error();
    assert_ok(hshm_backend_destroy(NULL, 2));
    return NULL;
}

bool
scene_kill(const struct scene *scene, const struct failpoint *point, uint32_t nth)
{
    struct stage stage = stage_set(scene);
    struct tally *tally = shared_bytes(sizeof *tally);
    const char *wrong = NULL;
    bool reached = play_earlier(&stage);
    if (reached) {
        const struct point_plan plan = { tally, point, nth, SIGKILL };
        const int status = child_wait(start_victim(&stage, scene->call, &plan));
        reached = was_reached(tally);
        if (!reached && status != 0)
            wrong = "it did not come by, and its call failed";
    }
    if (reached) {
        pid_t pids[OTHERS];
        wrong = judge_heap(&stage);
        if (wrong == NULL && strcmp(scene->call->name, CALL_CREATES) == 0)
            wrong = create_again(&stage);
        /* The heap itself: it has the dead one's locks, too, or not. */
        others_start(stage.others, pids);
        const char *others_say = others_go(stage.others, pids);
        wrong = wrong != NULL ? wrong : others_say;
    }
    wrong = end_scene(&stage, tally, reached && wrong == NULL, wrong);
    if (wrong != NULL)
        tell(scene, point, nth, "killed", wrong);
    return reached;
}

/* ---- stopped ---- */

/* The state of a process that is no child of ours, perhaps: R, S, T, Z, ... */
static char
state_of(pid_t pid)
{
    char path[64];
    char text[512] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 'X';
    const size_t size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    const char *behind = strrchr(text, ')');
    return behind == NULL ? 'X' : behind[2];
}

/* Until it is stopped, or has ended without coming by; and then it is waited for, too. */
static bool
wait_for_stop(const struct tally *tally, pid_t victim)
{
    siginfo_t info = { 0 };
    /* Its own stop, or its end; or its child's stop, while it waits for that: then a moment passes between looks. */
    for (;;) {
        info.si_pid = 0;
        assert_int_equal(waitid(P_PID, (id_t)victim, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT), 0);
        if (info.si_pid != 0 && info.si_code != CLD_STOPPED)
            return false;
        if (was_reached(tally) && state_of(atomic_load(&tally->who)) == 'T')
            return true;
        (void)usleep(200);
    }
}

static void
tell_others(struct others *others, const struct scene *scene, const struct failpoint *point)
{
    const bool is_file = places[scene->place].backend == HSHM_BACKEND_POSIX_MMAP;
    others->is_stopped = true;
    others->is_cleaner = is_heirs(scene->call);
    others->only_look = strcmp(scene->call->name, CALL_REWINDS) == 0;
    others->gate_is_shut = others->locked_out || (is_file && (strcmp(point->name, "members.gate_shut") == 0 ||
                                                              strcmp(point->name, "members.slot_free") == 0 ||
                                                              strcmp(point->name, "members.left") == 0));
    if (strcmp(scene->call->name, CALL_CREATES) != 0)
        return;
    if (strcmp(point->name, "heap.published") == 0)
        others->new_heap = NEW_READY;
    else if (strncmp(point->name, "heap.", 5) == 0 || strcmp(point->name, "region.named") == 0)
        others->new_heap = NEW_REGION;
}

/* Others make their calls, and it goes on. */
static const char *
go_on_beside(struct stage *stage, const struct tally *tally, pid_t victim, const pid_t pids[OTHERS])
{
    const char *wrong = others_go(stage->others, pids);
    const pid_t who = atomic_load(&tally->who);
    if (wrong == NULL && state_of(who) != 'T')
        wrong = "the stopped one went on by itself";
    if (kill(who, SIGCONT) != 0 && wrong == NULL)
        wrong = "the stopped one is gone";
    const int status = child_wait(victim);
    if (wrong == NULL && status != 0)
        wrong = "the stopped one went on, and its call failed";
    if (stage->scene->call->settle != NULL)
        stage->cast->ledger.news = 0;
    return wrong;
}

bool
scene_stop(const struct scene *scene, const struct failpoint *point, uint32_t nth)
{
    struct stage stage = stage_set(scene);
    struct tally *tally = shared_bytes(sizeof *tally);
    pid_t pids[OTHERS];
    const char *wrong = NULL;
    bool reached = play_earlier(&stage);
    if (reached) {
        const struct point_plan plan = { tally, point, nth, SIGSTOP };
        stage.others->locked_out = strcmp(point->name, "members.clean") == 0;
        others_start(stage.others, pids);
        const pid_t victim = start_victim(&stage, scene->call, &plan);
        reached = wait_for_stop(tally, victim);
        if (reached) {
            tell_others(stage.others, scene, point);
            wrong = go_on_beside(&stage, tally, victim, pids);
        } else {
            (void)others_go(stage.others, pids);
            if (child_wait(victim) != 0)
                wrong = "it did not come by, and its call failed";
        }
    }
    wrong = end_scene(&stage, tally, reached && wrong == NULL, wrong);
    if (wrong != NULL)
        tell(scene, point, nth, "stopped", wrong);
    return reached;
}

/* ---- all logs are held ---- */

enum {
    LOGS = 4,     /* of a region of PLACE_SHM's size                               */
    LARGE = 10000 /* bytes: a block that lies in no slab there, and so needs a log */
};

struct holder {
    const struct cast *cast;
    struct point_plan plan;
};

static int
hold_a_log(void *arg)
{
    const struct holder *holder = arg;
    begin_child(holder->cast->seed);
    hshm_allocator *heap = attach_heap(NULL, holder->cast->backend, holder->cast->url, 0);
    hshm_slot *slot = hshm_calloc(heap, 1, sizeof *slot);
    assert_non_null(slot);
    points_begin(&holder->plan);
    const hshm_status status = hshm_allocate_to(heap, LARGE, slot);
    points_end();
    assert_true(status == HSHM_OK || status == HSHM_E_NOMEM);
    if (status == HSHM_OK)
        assert_ok(hshm_free_from(heap, slot));
    assert_ok(hshm_free(heap, slot));
    return 0;
}

void
scene_hold_all_logs(hshm_allocator_kind kind, uint64_t seed)
{
    const struct scene scene = { .kind = kind, .place = PLACE_SHM, .call = &script_calls[0], .seed = seed };
    struct stage stage = stage_set(&scene);
    struct tally *tallies = shared_bytes(LOGS * sizeof *tallies);
    pid_t holders[LOGS];
    pid_t pids[OTHERS];
    bool all_stopped = true;
    bool all_well = true;
    for (int i = 0; i < LOGS; i++) {
        struct holder holder = { stage.cast, { &tallies[i], point_at(point_named("slot.named")), 1, SIGSTOP } };
        holders[i] = child_start(hold_a_log, &holder);
        all_stopped &= wait_for_stop(&tallies[i], holders[i]);
    }
    stage.others->logs_are_held = true;
    others_start(stage.others, pids);
    const char *wrong = others_go(stage.others, pids);
    for (int i = 0; i < LOGS; i++) {
        (void)kill(holders[i], SIGCONT);
        all_well &= child_wait(holders[i]) == 0;
    }
    end_founder(&stage);
    wrong = wrong != NULL ? wrong : judge_heap(&stage);
    stage_clear(&stage);
    assert_int_equal(munmap(tallies, LOGS * sizeof *tallies), 0);
    if (wrong != NULL)
        fail_msg("%s", wrong);
    assert_true(all_stopped && all_well);
}
