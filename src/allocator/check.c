/*
 * check.c - see check.h.
 */
#include "allocator/check.h"

#include <inttypes.h>

#include "allocator/user_slot.h"
#include "base/error.h"
#include "sync/clock.h"

enum {
    PATIENCE_MS = 100, /* for one place that looks wrong                                        */
    WAITS_MAX = 20,    /* ... and for so many places; then only so many looks, without a pause: */
    LOOKS_MIN = 16,
    SAME_LOOKS = 4, /* what was found the same so often in the end holds still */
};

/* ---- one place ---- */

void
check_note(struct check_look *look, enum check_verdict verdict, uint64_t word, const char *what)
{
    if (verdict <= look->verdict)
        return;
    look->verdict = verdict;
    look->word = word;
    look->what = what;
}

static void
look_once(struct check *check, check_fn fn, uint64_t place, struct check_look *look)
{
    *look = (struct check_look){ .next = place + 1 };
    fn(check, place, look);
}

static bool
is_same(const struct check_look *one, const struct check_look *other)
{
    return one->verdict == other->verdict && one->what == other->what && one->word == other->word;
}

/* Until it is not wrong, or time is over; then it is damage if it held still. */
static void
wait_for_right(struct check *check, check_fn fn, uint64_t place, struct check_look *look)
{
    struct wait wait = wait_begin(check->waits++ < WAITS_MAX ? PATIENCE_MS : 0);
    uint32_t same = 0;
    for (uint32_t looks = 0; looks < LOOKS_MIN || wait_more(&wait); looks++) {
        const struct check_look before = *look;
        look_once(check, fn, place, look);
        if (look->verdict != CHECK_WRONG)
            return;
        same = is_same(look, &before) ? same + 1 : 0;
    }
    if (same < SAME_LOOKS)
        look->verdict = CHECK_MOVING;
}

static void
count(hshm_check_report *report, const struct check_look *look)
{
    report->slices += look->slices;
    report->slabs += look->slabs;
    report->large_blocks += look->larges;
    report->free_blocks += look->free_blocks;
    report->kept_slices += look->kept;
    report->stale += look->verdict == CHECK_STALE;
    report->in_transition += look->verdict == CHECK_MOVING;
    report->left_by_dead += look->verdict == CHECK_DEAD;
}

hshm_status
check_place(struct check *check, check_fn fn, uint64_t place, uint64_t *ret_next)
{
    const hshm_allocator *a = check->a;
    struct check_look look;
    look_once(check, fn, place, &look);
    if (UNLIKELY(look.verdict == CHECK_STALE || look.verdict == CHECK_WRONG) && !check->quiet) {
        look_once(check, fn, place, &look); /* most often that is all */
        if (look.verdict == CHECK_WRONG)
            wait_for_right(check, fn, place, &look);
    }
    count(&check->report, &look);
    *ret_next = look.next;
    const bool is_good =
        check->quiet ? look.verdict == CHECK_RIGHT || look.verdict == CHECK_DEAD : look.verdict != CHECK_WRONG;
    if (LIKELY(is_good))
        return HSHM_OK;
    return fail(HSHM_E_CORRUPT, "the heap %" PRIu32 ".%" PRIu32 " (%s) is damaged at %s %" PRIu64 ": %s", a->id.major,
                a->id.minor, a->ops.title, check->unit, place, look.what);
}

hshm_status
check_places(struct check *check, const char *unit, check_fn fn, uint64_t places)
{
    hshm_status status = HSHM_OK;
    check->unit = unit;
    for (uint64_t place = 0; status == HSHM_OK && place < places;)
        status = check_place(check, fn, place, &place);
    return status;
}

/* ---- processes ---- */

static enum process_state
ask(struct check *check, uint32_t process)
{
    const struct allocator_system *system = &check->a->system;
    const uint32_t at = process % CHECK_ASKED;
    if (check->asked[at] == process + 1)
        return check->answers[at];
    const enum process_state answer = system->ask == NULL ? PROCESS_LIVES : system->ask(system->arg, process);
    /* Not who is none: it may just be coming or going. */
    check->asked[at] = answer == PROCESS_NONE ? 0 : process + 1;
    check->answers[at] = answer;
    return answer;
}

enum check_verdict
check_process(struct check *check, uint64_t process)
{
    if (process == SLICE_PROCESS_NONE || process == check->a->process)
        return CHECK_MOVING;
    if (process >= check->a->system.processes)
        return CHECK_WRONG;
    const enum process_state state = ask(check, (uint32_t)process);
    return state == PROCESS_NONE ? CHECK_WRONG : state == PROCESS_DEAD ? CHECK_DEAD : CHECK_MOVING;
}

/* ---- logs ---- */

static bool
is_slot(const hshm_allocator *a, uint64_t off)
{
    return off == 0 || user_slot_at(a, off) != NULL;
}

/*
 * Who holds a log is in the middle of an operation, whatever else it says.  Who gives it free clears all else first.
 */
static void
look_at_log(struct check *check, uint64_t id, struct check_look *look)
{
    const hshm_allocator *a = check->a;
    const struct op_log *log = &a->op_table->logs[id];
    const uint64_t owner = load_seq_cst(&log->owner);
    const uint64_t slot = load_seq_cst(&log->slot);
    const uint64_t to = load_seq_cst(&log->to);
    const uint64_t block = load_seq_cst(&log->block);
    const uint64_t ack = load_seq_cst(&log->ack); /* before what it must not be above */
    if (ack > load_seq_cst(&log->seq))
        check_note(look, CHECK_WRONG, ack, "a free was seen that was not begun");
    if (owner != 0)
        check_note(look,
                   owner % (1 << OP_OWNER_SHIFT) == 1 ? check_process(check, owner >> OP_OWNER_SHIFT) : CHECK_WRONG,
                   owner, "a log of nobody's");
    else if ((slot | to | block | load_seq_cst(&log->won)) != 0 || (load_seq_cst(&a->op_table->freeing) >> id & 1) != 0)
        check_note(look, CHECK_WRONG, slot, "a log that nobody has, and that says something");
    if (!is_slot(a, slot) || !is_slot(a, to) || (block != 0 && block - a->layout.data_off >= a->layout.data_size))
        check_note(look, CHECK_WRONG, slot, "a log of a slot or block that there cannot be");
}

static void
look_at_freeing(struct check *check, uint64_t place, struct check_look *look)
{
    const hshm_allocator *a = check->a;
    const uint64_t freeing = load_seq_cst(&a->op_table->freeing);
    (void)place;
    if (a->op_logs < OP_LOGS_MAX && freeing >> a->op_logs != 0)
        check_note(look, CHECK_WRONG, freeing, "a log frees that there is not");
}

/* Who holds the lock of names is in the middle of changing one. */
static void
look_at_names_lock(struct check *check, uint64_t place, struct check_look *look)
{
    const uint64_t lock = load_seq_cst(&check->a->op_table->names_lock);
    (void)place;
    if (lock != 0)
        check_note(look, lock % (1 << OP_OWNER_SHIFT) == 1 ? check_process(check, lock >> OP_OWNER_SHIFT) : CHECK_WRONG,
                   lock, "names are locked by nobody");
}

/* Its state is all that must make sense; what else is in it may be half written, or left behind. */
static void
look_at_name(struct check *check, uint64_t place, struct check_look *look)
{
    const struct name_entry *entry = &check->a->names[place];
    const uint64_t state = load_seq_cst(&entry->state);
    const uint64_t what = state & ((1 << NAME_STATE_BITS) - 1);
    if (what > NAME_GONE || (what == NAME_NEVER && state != 0))
        check_note(look, CHECK_WRONG, state, "a name that is neither there nor not");
    else if (what == NAME_LIVE && load_seq_cst(&entry->name[0]) == 0)
        check_note(look, CHECK_WRONG, state, "a name without letters");
}

hshm_status
check_logs(struct check *check)
{
    const hshm_allocator *a = check->a;
    hshm_status status = HSHM_OK;
    if (a->op_logs != 0)
        status = check_places(check, "the logs' head, line", look_at_freeing, 1);
    if (status == HSHM_OK)
        status = check_places(check, "log", look_at_log, a->op_logs);
    if (status == HSHM_OK && a->name_count != 0)
        status = check_places(check, "the names' lock, line", look_at_names_lock, 1);
    if (status == HSHM_OK)
        status = check_places(check, "name", look_at_name, a->name_count);
    return status;
}
