/*
 * test_damage.c - what hshm_check() makes of each invariant that is broken by hand: damage, if nothing that processes do explains
 * it; else it says who was in the middle of something, a live process or a dead one, or that a hint is stale.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "allocator/allocator.h"
#include "blocks.h"

enum { SIZE = 16 << 20, LARGE_SLICES = 12, SMALL = 700, SMALLS = 60 };

/* A heap with some of everything, on which nobody works; and words of it. */
struct subject {
    hshm_allocator *heap;
    struct slab_heap *h;
    uint64_t run;  /* first slice of a large block              */
    uint64_t slab; /* first slice of a slab with free blocks    */
    uint64_t unused;
    uint32_t dead; /* the slot of a process that was killed     */
    uint32_t none; /* a slot that nobody has                    */
};

static uint64_t
find_slice(const struct slab_heap *h, enum slice_state state, uint64_t least)
{
    for (uint64_t slice = 0; slice < h->count; slice++) {
        if (slice_state(h->slices[slice]) == state && slice_count(h->slices[slice]) >= least)
            return slice;
    }
    fail_msg("no slice is in state %d", (int)state);
    return 0;
}

static int
be_killed(void *arg)
{
    (void)arg;
    (void)raise(SIGKILL);
    return 0;
}

static bool
is_dead(const hshm_allocator *heap, uint32_t process)
{
    return heap->system.ask(heap->system.arg, process) == PROCESS_DEAD;
}

static struct subject
subject_make(hshm_allocator_kind kind)
{
    struct subject s = { 0 };
    void *blocks[SMALLS];
    s.heap = make_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, test_name("damage"), SIZE, kind);
    for (size_t i = 0; i < SMALLS; i++)
        assert_non_null(blocks[i] = hshm_malloc(s.heap, SMALL));
    assert_non_null(hshm_malloc(s.heap, (size_t)LARGE_SLICES << 16));
    for (size_t i = 0; i < SMALLS; i += 3)
        assert_ok(hshm_free(s.heap, blocks[i]));
    assert_int_equal(child_run(be_killed, NULL), 128 + SIGKILL);
    while (!is_dead(s.heap, s.dead))
        assert_true(++s.dead < s.heap->system.processes);
    s.none = s.heap->system.processes - 1;
    s.h = &s.heap->slab;
    if (kind == HSHM_ALLOCATOR_STACK)
        return s;
    s.run = find_slice(s.h, SLICE_RUN, LARGE_SLICES);
    s.slab = find_slice(s.h, SLICE_SLAB, 1);
    s.unused = s.h->count - 1;
    return s;
}

static void
subject_end(void)
{
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static hshm_check_report
check_ok(const struct subject *s)
{
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    assert_ok(hshm_check(s->heap, 0, &report));
    return report;
}

/* It is whole before, and afterwards. */
static void
assert_damage(const struct subject *s, _Atomic uint64_t *word, uint64_t value, const char *sentence)
{
    const uint64_t before = atomic_load(word);
    assert_int_equal(check_ok(s).in_transition, 0);
    atomic_store(word, value);
    if (hshm_check(s->heap, 0, NULL) != HSHM_E_CORRUPT)
        fail_msg("not found: %s", sentence);
    assert_sentence(sentence);
    atomic_store(word, before);
    assert_int_equal(check_ok(s).in_transition, 0);
}

enum reason { MOVING, DEAD, STALE };

static void
assert_explained(const struct subject *s, _Atomic uint64_t *word, uint64_t value, enum reason reason)
{
    const uint64_t before = atomic_load(word);
    const hshm_check_report good = check_ok(s);
    atomic_store(word, value);
    const hshm_check_report report = check_ok(s);
    assert_int_equal(report.in_transition, good.in_transition + (reason == MOVING));
    assert_int_equal(report.left_by_dead, good.left_by_dead + (reason == DEAD));
    assert_int_equal(report.stale, good.stale + (reason == STALE));
    atomic_store(word, before);
}

/* The same word, said of a live process, of a dead one, and of none. */
#define ASSERT_BY_PROCESS(s, word, make, sentence)                                      \
    do {                                                                                \
        assert_explained((s), (word), make((uint64_t)(s)->heap->process), MOVING);      \
        assert_explained((s), (word), make((uint64_t)(s)->dead), DEAD);                 \
        assert_damage((s), (word), make((uint64_t)(s)->none), (sentence));              \
        assert_damage((s), (word), make((uint64_t)SLICE_PROCESS_MASK - 1), (sentence)); \
    } while (0)

/* ---- heaps of slabs ---- */

static _Atomic uint64_t *
own_of(const struct subject *s, uint64_t slice)
{
    return &record_of(s->h, slice)->own;
}

static _Atomic uint64_t *
word_of_32(_Atomic uint32_t *two)
{
    return (_Atomic uint64_t *)(void *)two;
}

#define CLAIM_OF(process) slice_make(SLICE_CLAIMED, (process), 1)
#define FREEING_OF(process) slice_make(SLICE_FREEING, (process), LARGE_SLICES)

static void
slices_that_make_no_sense_are_found(void **state)
{
    const struct subject s = subject_make(*(const hshm_allocator_kind *)*state);
    slice_word *slices = s.h->slices;
    assert_damage(&s, &slices[s.run], slice_make(SLICE_REST, 0, 3), "belongs to nothing");
    assert_damage(&s, &slices[s.run], 9, "belongs to nothing");
    assert_damage(&s, &slices[s.run], slice_make(SLICE_RUN, 0, UINT64_C(1) << 39), "longer than the heap");
    assert_damage(&s, &slices[s.run], slice_make(SLICE_RUN, 0, 0), "of no slices");
    assert_damage(&s, &slices[s.run], slice_make(SLICE_RUN, 0, LARGE_SLICES - 2), "belongs to nothing");
    assert_damage(&s, &slices[s.run], slice_make(SLICE_DIRTY, 0, 0), "belongs to nothing");
    assert_damage(&s, &slices[s.run], slice_make(SLICE_DIRTY, 0, 5), "more in its word");
    assert_damage(&s, &slices[s.run + 2], slice_make(SLICE_DIRTY, 0, 0), "interrupted");
    assert_damage(&s, &slices[s.run + 2], slice_make(SLICE_REST, 0, 1), "interrupted");
    assert_damage(&s, &slices[s.unused], slice_make(SLICE_SLAB, 0, 1), "never claimed");
    assert_damage(&s, &s.h->root->high, s.h->count + 1, "more slices were used");
    assert_damage(&s, own_of(&s, s.run), SLAB_IS, "is owned");
    assert_damage(&s, own_of(&s, s.run + 1), SLAB_IS, "is owned");
    assert_damage(&s, &record_of(s.h, s.run)->skip, (uint64_t)LARGE_SLICES << 16, "behind its end");
    ASSERT_BY_PROCESS(&s, &slices[s.run + 2], CLAIM_OF, "interrupted");
    ASSERT_BY_PROCESS(&s, &slices[s.run], FREEING_OF, "made free by nobody");
    assert_explained(&s, &slices[s.run], CLAIM_OF((uint64_t)s.dead), DEAD);
    assert_damage(&s, &slices[s.run], CLAIM_OF((uint64_t)s.none), "claimed by nobody");
    assert_explained(&s, &s.h->taken[0], s.h->taken[0] ^ 1, STALE);
    subject_end();
}

static void
slabs_that_make_no_sense_are_found(void **state)
{
    const struct subject s = subject_make(*(const hshm_allocator_kind *)*state);
    struct slab_record *record = record_of(s.h, s.slab);
    const uint32_t last = words_for(record->blocks) - 1;
    assert_damage(&s, word_of_32(&record->size), *word_of_32(&record->size) + 16, "does not fit its slices");
    assert_damage(&s, word_of_32(&record->class), s.h->classes, "does not fit its slices");
    assert_true(record->blocks % 64 != 0);
    assert_damage(&s, &bits_of(record)[last], bits_of(record)[last] | UINT64_C(1) << 62, "beyond a slab's end");
    assert_damage(&s, &remote_of(s.h, record)[last], remote_of(s.h, record)[last] | UINT64_C(1) << 62,
                  "beyond a slab's end");
    assert_damage(&s, own_of(&s, s.slab), 0, "a slab that is none");
    assert_damage(&s, own_of(&s, s.slab), SLAB_IS | SLAB_CURRENT | SLAB_FULL, "a slab that is none");
    assert_damage(&s, &s.heap->op_table->logs[1].slot, s.heap->layout.data_off, "a log that nobody has");
    assert_damage(&s, &s.heap->op_table->logs[1].ack, 1, "was not begun");
    assert_damage(&s, &s.heap->op_table->logs[1].slab, s.run + 1, "the slab of log 1");
#define LOG_OF(process) (1 | (process) << 8)
    ASSERT_BY_PROCESS(&s, &s.heap->op_table->logs[2].owner, LOG_OF, "log 2: a log of nobody's");
    assert_damage(&s, &s.heap->op_table->freeing, 1, "a log that nobody has");
    subject_end();
}

static void
owners_that_make_no_sense_are_found(void **state)
{
    (void)state;
    const struct subject s = subject_make(HSHM_ALLOCATOR_THREAD_LOCAL);
    struct slab_record *record = record_of(s.h, s.slab);
    _Atomic uint64_t *own = own_of(&s, s.slab);
    const uint64_t bits = bits_of(record)[0];
    _Atomic uint64_t *thread = &s.h->threads[(*own >> 8 & 0xffffff) - 1].owner;
    assert_true(bits != 0);
#define LOCKED_BY(process) (SLAB_IS | SLAB_LOCKED | (process) << 32)
    ASSERT_BY_PROCESS(&s, own, LOCKED_BY, "somebody has locked");
    assert_damage(&s, own, SLAB_IS | (s.h->thread_slots + UINT64_C(1)) << 8, "whose owner makes no sense");
    assert_damage(&s, own, SLAB_IS | UINT64_C(9) << 8, "a thread slot that nobody has");
    assert_damage(&s, thread, LOG_OF((uint64_t)s.none), "a thread slot of nobody");
    assert_explained(&s, own, SLAB_IS, STALE);                      /* an orphan with free blocks, and on no shelf */
    assert_explained(&s, &remote_of(s.h, record)[0], bits, MOVING); /* half a harvest */
    const uint64_t owner = *own;
    *own = SLAB_IS;
    shelf_put(s.h, record->class, 0, s.slab);
    assert_damage(&s, &remote_of(s.h, record)[0], bits, "freed twice");
    *own = owner;
    subject_end();
}

static void
holders_that_make_no_sense_are_found(void **state)
{
    (void)state;
    const struct subject s = subject_make(HSHM_ALLOCATOR_SCALABLE_PAGE);
    struct slab_record *record = record_of(s.h, s.slab);
    _Atomic uint64_t *own = own_of(&s, s.slab);
    const uint32_t class = record->class;
    _Atomic uint64_t *current = NULL;
    for (uint32_t shard = 0; shard < s.h->shard_count; shard++) {
        if (current_slice(shard_at(s.h, shard)->current[class]) == s.slab)
            current = &shard_at(s.h, shard)->current[class];
    }
    assert_non_null(current);
    const uint32_t home = page_own_home(*own);
#define LOCKED_PAGE(process) page_own(SLAB_LOCKED, class, home, (process))
#define CURRENT_PAGE(process) page_own(SLAB_CURRENT, class, home, (process))
    assert_damage(&s, own, page_own(SLAB_CURRENT, class + 1, home, 0), "of another class");
    assert_damage(&s, own, page_own(SLAB_FULL, class, home, 0), "in a shard and not current");
    assert_damage(&s, own, LOCKED_PAGE((uint64_t)s.none), "somebody has locked");
    assert_damage(&s, current, current_make(s.run, 0, false, 0), "not its own");
    assert_damage(&s, current, current_make(s.h->count, 0, false, 0), "not its own");
    assert_damage(&s, current + 1, *current, "not its own");
    assert_damage(&s, current, *current ^ CURRENT_AT_HOME, "at home elsewhere");
    assert_damage(&s, &s.heap->op_table->logs[0].slab, s.slab + 1, "or in several");
    const uint64_t bits = bits_of(record)[0] | remote_of(s.h, record)[0];
    assert_true(bits != 0);
    _Atomic uint64_t *other = bits_of(record)[0] != 0 ? &remote_of(s.h, record)[0] : &bits_of(record)[0];
    assert_damage(&s, other, *other | bits, "freed twice");
    /* Between a shard and a slab's own word. */
    const uint64_t led = atomic_exchange(current, 0);
    *own = page_own(SLAB_SHELVED, class, home, 0);
    shelf_put(s.h, class, page_shelf(s.h, *own), s.slab);
    assert_explained(&s, own, CURRENT_PAGE((uint64_t)s.heap->process), MOVING);
    assert_explained(&s, own, CURRENT_PAGE((uint64_t)s.dead), DEAD);
    assert_explained(&s, own, CURRENT_PAGE((uint64_t)s.none), STALE);
    ASSERT_BY_PROCESS(&s, own, LOCKED_PAGE, "somebody has locked");
    _Atomic uint64_t *shelf = &shelf_bits(s.h, class, page_shelf(s.h, *own))[s.slab / 64];
    assert_explained(&s, shelf, *shelf ^ UINT64_C(1) << s.slab % 64, STALE);
    *own = CURRENT_PAGE((uint64_t)s.heap->process);
    *current = led;
    subject_end();
}

static void
a_repair_makes_hints_anew(void **state)
{
    const hshm_allocator_kind kind = *(const hshm_allocator_kind *)*state;
    const struct subject s = subject_make(kind);
    (void)atomic_fetch_xor(&s.h->taken[0], 3);
    if (kind == HSHM_ALLOCATOR_THREAD_LOCAL)
        atomic_store(own_of(&s, s.slab), SLAB_IS); /* not shelved; its owner will not be asked again */
    assert_true(check_ok(&s).stale >= 1);
    hshm_check_report report = HSHM_CHECK_REPORT_INIT;
    assert_ok(hshm_check(s.heap, HSHM_CHECK_REPAIR, &report));
    assert_int_equal(report.stale + report.left_by_dead, 0);
    assert_int_equal(s.heap->system.ask(s.heap->system.arg, s.dead), PROCESS_NONE);
    assert_int_equal(check_ok(&s).stale, 0);
    subject_end();
}

static void
a_report_of_the_first_version_is_filled_as_far_as_it_goes(void **state)
{
    const struct subject s = subject_make(*(const hshm_allocator_kind *)*state);
    hshm_check_report report = { .struct_size = offsetof(hshm_check_report, slices), .slices = 7, .stale = 8 };
    assert_ok(hshm_check(s.heap, 0, &report));
    assert_true(report.live_blocks > 0);
    assert_int_equal(report.struct_size, offsetof(hshm_check_report, slices));
    assert_int_equal(report.slices, 7);
    assert_int_equal(report.stale, 8);
    subject_end();
}

static void
a_report_tells_what_was_looked_at(void **state)
{
    const struct subject s = subject_make(*(const hshm_allocator_kind *)*state);
    const hshm_check_report report = check_ok(&s);
    const hshm_stats stats = stats_of(s.heap);
    assert_int_equal(report.live_blocks, stats.live_blocks);
    assert_int_equal(report.large_blocks, 1);
    assert_int_equal(report.slabs, 1);
    assert_int_equal(report.free_blocks, record_of(s.h, s.slab)->blocks - (stats.live_blocks - 1));
    assert_int_equal(report.slices, atomic_load(&s.h->root->high));
    subject_end();
}

/* ---- the Stack ---- */

static void
a_stack_that_makes_no_sense_is_found(void **state)
{
    (void)state;
    const struct subject s = subject_make(HSHM_ALLOCATOR_STACK);
    const uint64_t top = atomic_load(&s.heap->stack->top);
    stack_word *codes = s.heap->codes;
    assert_damage(&s, &s.heap->stack->top, top + 1, "outside the data, or inside a granule");
    assert_damage(&s, &s.heap->stack->top, UINT64_MAX - 1, "outside the data");
    assert_damage(&s, &s.heap->stack->top, top - 2, "above the top");
    assert_damage(&s, &codes[s.heap->granules / 32 - 1], 1, "above the top");
    const uint64_t at = (top / 2 - 1) / 32; /* the word of the last block's end */
    assert_damage(&s, &codes[at], 0, "without an end");
    assert_damage(&s, &codes[at], codes[at] | UINT64_C(1) << ((top / 2 - 3) % 32 * 2), "without an end");
    ASSERT_BY_PROCESS(&s, &s.heap->op_table->logs[2].owner, LOG_OF, "log 2: a log of nobody's");
    subject_end();
}

/* ---- anything ---- */

/* It ends, and says something; under a sanitizer nothing outside is read. */
static void
a_check_of_any_bytes_ends(void **state)
{
    static const hshm_allocator_kind kinds[] = { HSHM_ALLOCATOR_STACK, HSHM_ALLOCATOR_SCALABLE_PAGE,
                                                 HSHM_ALLOCATOR_THREAD_LOCAL };
    uint64_t random = test_seed();
    (void)state;
    for (size_t round = 0; round < 30; round++) {
        const struct subject s = subject_make(kinds[round % 3]);
        const struct heap_layout *layout = &s.heap->layout;
        const uint64_t one_of = 1 + next_random(&random) % 2000;
        for (uint64_t off = layout->table_off; off < layout->root_off + layout->root_size; off += 8) {
            const uint64_t value = next_random(&random) >> next_random(&random) % 64;
            if (next_random(&random) % one_of == 0)
                memcpy(s.heap->view.base + off, &value, sizeof value);
        }
        const hshm_status status = hshm_check(s.heap, 0, NULL);
        assert_true(status == HSHM_OK || status == HSHM_E_CORRUPT);
        subject_end();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OF_SLAB_KINDS(slices_that_make_no_sense_are_found),
        OF_SLAB_KINDS(slabs_that_make_no_sense_are_found),
        cmocka_unit_test_teardown(owners_that_make_no_sense_are_found, drop_heaps),
        cmocka_unit_test_teardown(holders_that_make_no_sense_are_found, drop_heaps),
        OF_SLAB_KINDS(a_repair_makes_hints_anew),
        OF_SLAB_KINDS(a_report_of_the_first_version_is_filled_as_far_as_it_goes),
        OF_SLAB_KINDS(a_report_tells_what_was_looked_at),
        cmocka_unit_test_teardown(a_stack_that_makes_no_sense_is_found, drop_heaps),
        cmocka_unit_test_teardown(a_check_of_any_bytes_ends, drop_heaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
