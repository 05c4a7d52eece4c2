/*
 * judge.c - see judge.h.
 */
#include "judge.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "allocator/allocator.h"
#include "base/checked.h"

enum { SURVIVORS_CALLS = 200, SURVIVORS_BLOCKS = 48, HANG_SECONDS = 20 };

struct judge {
    hshm_backend_kind backend;
    char name[64]; /* of the file in /dev/shm */
    char url[96];
    struct file_view file;
    pid_t pid;
    /* Pipes: a byte for each image, 0 for the end; and one for each answer.  Their ends there and here. */
    int asked, answers, ask, answered;
    struct ledger ledgers[2]; /* the second is empty unless there is another */
    bool has_other;
    uint64_t random;
    uint32_t leak;
};

/* ---- what is live ---- */

struct seen {
    uint64_t *offs, *sizes;
    bool *known;
    size_t count, capacity;
    uint64_t end;
};

static int
see_block(const hshm_block *block, void *arg)
{
    struct seen *seen = arg;
    assert_true(block->off >= seen->end); /* ascending, and none inside another */
    seen->end = block->off + block->size;
    if (seen->count == seen->capacity) {
        seen->capacity = 2 * seen->capacity + 64;
        seen->offs = realloc(seen->offs, seen->capacity * sizeof *seen->offs);
        seen->sizes = realloc(seen->sizes, seen->capacity * sizeof *seen->sizes);
        seen->known = realloc(seen->known, seen->capacity * sizeof *seen->known);
        assert_true(seen->offs != NULL && seen->sizes != NULL && seen->known != NULL);
    }
    seen->offs[seen->count] = block->off;
    seen->sizes[seen->count] = block->size;
    seen->known[seen->count++] = false;
    return 0;
}

/* Which live block begins there?  seen->count if none. */
static size_t
place_in(const struct seen *seen, uint64_t off)
{
    size_t low = 0;
    size_t high = seen->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (seen->offs[middle] < off)
            low = middle + 1;
        else
            high = middle;
    }
    return low < seen->count && seen->offs[low] == off ? low : seen->count;
}

/* Is it live?  Each is asked for once. */
static bool
is_seen(struct seen *seen, uint64_t off, uint64_t size)
{
    const size_t low = place_in(seen, off);
    if (low == seen->count)
        return false;
    if (seen->known[low])
        fail_msg("the block at %llu is two", (unsigned long long)off);
    if (seen->sizes[low] < size)
        fail_msg("the block at %llu has %llu bytes, not %llu", (unsigned long long)off,
                 (unsigned long long)seen->sizes[low], (unsigned long long)size);
    seen->known[low] = true;
    return true;
}

static void
find_held(hshm_allocator *heap, struct seen *seen, const struct held *held)
{
    if (!is_seen(seen, held->off, held->size))
        fail_msg("the block of %llu bytes at %llu is lost", (unsigned long long)held->size,
                 (unsigned long long)held->off);
    if (!is_whole(heap, hshm_to_addr(heap, held->off), held, held->size))
        fail_msg("the block of %llu bytes at %llu was written to", (unsigned long long)held->size,
                 (unsigned long long)held->off);
}

/*
 * The block that the call was about is where it was, or gone if it was to be freed, or its bytes are in a new one.  Of two calls at once, what
 * the one gave back may be the other's already, who has written it down.
 */
static void
find_subject(hshm_allocator *heap, struct seen *seen, const struct ledger *ledger, bool has_other)
{
    const struct held *subject = &ledger->subject;
    const uint64_t kept = ledger->keeps != 0 ? ledger->keeps : subject->size;
    if (subject->off == 0)
        return;
    const size_t place = place_in(seen, subject->off);
    const bool is_others = has_other && place < seen->count && seen->known[place];
    bool found = !is_others && is_seen(seen, subject->off, ledger->keeps != 0 ? kept : subject->size);
    if (found && !is_whole(heap, hshm_to_addr(heap, subject->off), subject, kept))
        fail_msg("the block of the call was written to");
    for (size_t i = 0; i < seen->count && !found && ledger->keeps != 0; i++)
        found = !seen->known[i] && seen->sizes[i] >= kept &&
                is_whole(heap, hshm_to_addr(heap, seen->offs[i]), subject, kept);
    if (!found && ledger->keeps != 0)
        fail_msg("the block of the call is lost");
}

/* Each slot is empty, or holds a live block, which is no other's. */
static void
find_slots(hshm_allocator *heap, struct seen *seen)
{
    const struct user_slots *slots = hshm_allocator_custom_header(heap, NULL);
    for (size_t i = 0; i < USER_SLOTS; i++) {
        const hshm_off off = hshm_slot_load(&slots->slots[i]);
        if (off == HSHM_OFF_NULL && slots->slots[i].word != 0)
            fail_msg("slot %zu is still being changed", i);
        if (off != HSHM_OFF_NULL && !is_seen(seen, off, 0))
            fail_msg("slot %zu holds a block that is not live", i);
    }
}

static int
count_name(const char *name, void *block, void *arg)
{
    (void)block;
    assert_true(strcmp(name, NAME_OF_ITS_OWN) == 0 || strcmp(name, NAME_OF_ANOTHERS) == 0);
    ++*(unsigned *)arg;
    return 0;
}

/* The block of a name that is there. */
static hshm_off
named(hshm_allocator *heap, const char *name)
{
    void *block = NULL;
    const hshm_status status = hshm_name_get(heap, name, &block);
    assert_true(status == HSHM_OK || status == HSHM_E_NOTFOUND);
    return status == HSHM_OK ? hshm_to_off(heap, block) : HSHM_OFF_NULL;
}

/* Names are whole, and lead to live blocks; those that are theirs alone are known by them. */
static void
find_names(hshm_allocator *heap, struct seen *seen)
{
    unsigned names = 0;
    assert_ok(hshm_name_visit(heap, count_name, &names));
    assert_true(names <= 2);
    const hshm_off own = named(heap, NAME_OF_ITS_OWN);
    if (own == HSHM_OFF_NULL && strstr(hshm_last_error(), "was freed") != NULL)
        fail_msg("a name leads to a block that is not live");
    if (own != HSHM_OFF_NULL && !is_seen(seen, own, 0))
        fail_msg("a name holds a block that is not live");
    (void)named(heap, NAME_OF_ANOTHERS); /* which may have been freed by who holds it, name or not */
}

static void
find_all_held(hshm_allocator *heap, struct seen *seen, const struct ledger *ledger)
{
    for (size_t part = 0; part < PARTS; part++) {
        for (size_t i = 0; i < PART_BLOCKS; i++) {
            if (ledger->blocks[part][i].off != 0)
                find_held(heap, seen, &ledger->blocks[part][i]);
        }
    }
}

/* All that must be live is, and whole; *ret_leak of others are. */
static void
compare(hshm_allocator *heap, const struct ledger ledgers[2], bool has_other, uint32_t *ret_leak)
{
    const uint32_t news = ledgers[0].news + ledgers[1].news;
    struct seen seen = { 0 };
    uint64_t bytes = 0;
    assert_ok(hshm_visit_blocks(heap, see_block, &seen));
    for (size_t i = 0; i < 2; i++)
        find_all_held(heap, &seen, &ledgers[i]);
    for (size_t i = 0; i < 2; i++)
        find_subject(heap, &seen, &ledgers[i], has_other);
    find_slots(heap, &seen);
    find_names(heap, &seen);
    *ret_leak = 0;
    for (size_t i = 0; i < seen.count; i++) {
        *ret_leak += !seen.known[i];
        bytes += seen.sizes[i];
    }
    if (*ret_leak > news)
        fail_msg("%u live blocks are nobody's, at most %u may be", *ret_leak, news);
    const hshm_stats stats = stats_of(heap);
    assert_int_equal(stats.live_blocks, seen.count);
    assert_int_equal(stats.live_bytes, bytes);
    free(seen.offs);
    free(seen.sizes);
    free(seen.known);
}

/* ---- after recovery ---- */

/* Nothing is found a second time, and nothing is stored. */
static void
recover_again(struct judge *judge, hshm_allocator *heap)
{
    const size_t control = file_control_size(&judge->file);
    unsigned char *before = malloc(control);
    assert_non_null(before);
    memcpy(before, judge->file.bytes, control);
    hshm_recover_report report = HSHM_RECOVER_REPORT_INIT;
    assert_ok(hshm_recover(heap, &report));
    assert_int_equal(report.processes + report.threads + report.slabs + report.slices + report.operations, 0);
    for (size_t at = 0; at < control; at++) {
        if (before[at] != judge->file.bytes[at])
            fail_msg("a second recovery changed byte %zu", at);
    }
    free(before);
}

static int
free_seen(const hshm_block *block, void *arg)
{
    assert_ok(hshm_free(arg, block->addr));
    return 0;
}

static void
assert_zeros(const unsigned char *block, size_t size)
{
    for (size_t at = 0; block != NULL && at < size; at++) {
        if (block[at] != 0)
            fail_msg("a block of zeros has another byte at %zu of %zu", at, size);
    }
}

/* Names can be made and removed, whatever there was. */
static void
name_anew(hshm_allocator *heap)
{
    hshm_slot *slot;
    void *block = NULL;
    assert_ok(hshm_name_slot(heap, NAME_OF_ITS_OWN, &slot));
    assert_ok(hshm_name_remove(heap, NAME_OF_ITS_OWN));
    void *other = hshm_malloc(heap, 1);
    if (other != NULL) {
        assert_ok(hshm_name_set(heap, "new", other));
        assert_ok(hshm_name_get(heap, "new", &block));
        assert_ptr_equal(block, other);
        assert_ok(hshm_name_remove(heap, "new"));
        assert_ok(hshm_free(heap, other));
    }
}

/* A survivor works on the heap as if nothing had been, with the dead's blocks too. */
static void
survive(struct judge *judge, hshm_allocator *heap)
{
    struct worker survivor = worker_make(heap, &judge->ledgers[0], PART_VICTIM, judge->random);
    for (unsigned call = 0; call < SURVIVORS_CALLS; call += 10) {
        work(&survivor, 10);
        survivor.part = (unsigned)random_below(&survivor, PARTS);
        struct held *held = pick_block(&survivor, survivor.part, 0, UINT64_MAX);
        if (held != NULL)
            free_held(&survivor, held);
    }
    const size_t size = any_size(&survivor);
    void *zeros = hshm_calloc(heap, 1, size);
    if (heap->system.device == NULL)
        assert_zeros(zeros, size);
    assert_ok(hshm_free(heap, zeros));
    name_anew(heap);
    for (survivor.part = 0; survivor.part < PARTS; survivor.part++)
        free_down_to(&survivor, 0);
    assert_ok(hshm_visit_blocks(heap, free_seen, heap));
    if (hshm_allocator_kind_of(heap) == HSHM_ALLOCATOR_STACK)
        assert_ok(hshm_stack_reset(heap));
    /* All of it is one block again: not a slice, not a granule is lost. */
    void *all = hshm_malloc(heap, (size_t)stats_of(heap).data_bytes);
    if (all == NULL)
        fail_msg("no room for one block of all: %s", hshm_last_error());
    assert_ok(hshm_free(heap, all));
    assert_ok(hshm_check(heap, 0, NULL));
}

/* What a kill leaves is no damage, to who looks before it is recovered; and nobody lives who could be in the middle of a call. */
static void
look_before(struct judge *judge)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    hshm_allocator *heap = NULL;
    options.read_only = true;
    options.gpu = HSHM_GPU_OPTIONAL; /* in no image is the owner of a device's memory alive */
    assert_ok(hshm_backend_attach(NULL, judge->backend, judge->url, &options, NULL));
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    assert_ok(hshm_check(heap, 0, &report));
    assert_int_equal(report.in_transition + report.kept_slices, 0);
    assert_ok(hshm_backend_detach(NULL, 1));
}

/* All is as docs/format.md has it, hints too. */
static void
check_whole(hshm_allocator *heap)
{
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    assert_ok(hshm_check(heap, 0, &report));
    assert_int_equal(report.left_by_dead + report.in_transition, 0);
    assert_int_equal(report.stale, 0);
}

static void
examine(struct judge *judge)
{
    look_before(judge);
    hshm_allocator *heap = attach_anyhow(judge->backend, judge->url);
    assert_ok(hshm_recover(heap, NULL));
    check_whole(heap);
    compare(heap, judge->ledgers, judge->has_other, &judge->leak);
    recover_again(judge, heap);
    check_whole(heap);
    survive(judge, heap);
    assert_ok(hshm_backend_detach(NULL, 1));
}

/* ---- its process ---- */

/* Blocks of a ScalablePage heap are at home on processors: on that of the dead, or on another. */
static void
run_on_any_processor(uint64_t random)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)(random % (uint64_t)sysconf(_SC_NPROCESSORS_ONLN)), &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* where it may not be, it stays */
}

static int
be_a_judge(void *arg)
{
    struct judge *judge = arg;
    char byte;
    run_on_any_processor(judge->random);
    while (read(judge->asked, &byte, 1) == 1 && byte != 0) {
        (void)alarm(HANG_SECONDS);
        examine(judge);
        (void)alarm(0);
        assert_int_equal(write(judge->answers, &byte, 1), 1);
    }
    return 0;
}

static void
start_process(struct judge *judge)
{
    int to[2];
    int from[2];
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    judge->asked = to[0];
    judge->ask = to[1];
    judge->answered = from[0];
    judge->answers = from[1];
    judge->pid = child_start(be_a_judge, judge);
    /* So that the death of the judge is the end of its answers. */
    assert_int_equal(close(judge->asked), 0);
    assert_int_equal(close(judge->answers), 0);
}

struct judge *
judge_start(hshm_backend_kind backend, size_t size, uint64_t seed)
{
    struct judge *judge = shared_bytes(sizeof *judge);
    judge->backend = backend;
    judge->random = seed;
    (void)snprintf(judge->name, sizeof judge->name, "%s", test_name("judge"));
    file_url(backend, judge->name, judge->url, sizeof judge->url);
    judge->file = file_view_make(judge->name, size);
    start_process(judge);
    return judge;
}

static int
end_process(struct judge *judge)
{
    assert_int_equal(close(judge->ask), 0);
    assert_int_equal(close(judge->answered), 0);
    return child_wait(judge->pid);
}

void
judge_end(struct judge *judge)
{
    const char end = 0;
    assert_int_equal(write(judge->ask, &end, 1), 1);
    assert_int_equal(end_process(judge), 0);
    file_view_close(&judge->file);
    file_unlink(judge->name);
    assert_int_equal(munmap(judge, sizeof *judge), 0);
}

enum verdict
judge_image(struct judge *judge, const struct file_view *image, const struct ledger *ledger, const struct ledger *other,
            uint32_t *ret_leak)
{
    char byte = 1;
    file_view_copy(image, &judge->file);
    judge->ledgers[0] = *ledger;
    judge->ledgers[1] = other != NULL ? *other : (struct ledger){ 0 };
    judge->has_other = other != NULL;
    (void)next_random(&judge->random);
    assert_int_equal(write(judge->ask, &byte, 1), 1);
    ssize_t got;
    do {
        got = read(judge->answered, &byte, 1);
    } while (got < 0 && errno == EINTR);
    *ret_leak = judge->leak;
    if (got == 1)
        return VERDICT_GOOD;
    const int status = end_process(judge);
    start_process(judge);
    return status == 128 + SIGALRM ? VERDICT_HANGS : VERDICT_CORRUPT;
}
