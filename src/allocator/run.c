/*
 * run.c - slices: claiming neighbouring ones, making them free, giving their pages back.
 *
 * The truth is one word a slice (format/slab_format.h).  Making something of slices, in steps (">" = others see it):
 *     1. > each word: ZERO or DIRTY -> CLAIMED by this process (CAS)   a kill: the claims of a dead process are free
 *     2.   record and bits of the first slice, REST in the others      the same
 *     3. > first word: SLAB or RUN                                     now it is one
 * Making it free:
 *     1. > claims of the dead inside -> REST (CAS)                     a kill: it is what it was
 *     2. > first word -> FREEING by this process (CAS)                 now it is no block; a kill: finished by recovery
 *     3. > the other words: REST -> DIRTY, then the first              so far as they are REST of this; free, they are anyone's
 * Or making it idle, which spares both, for who wants as many slices next:
 *     1. > first word -> CLAIMED by this process (CAS)                 a kill: as above
 *     2. > first word -> IDLE                                          nobody's, and claimed again by one CAS; or made free
 * So coalescing is implicit: what is free is a row of free words, whoever freed which.
 *
 * One bit a slice says "taken", for finding free rows fast.  It follows the word: who changes a word sets the bit after it
 * and looks at the word once more; a bit that a kill left wrong is found when a claim fails, or made anew before memory is
 * said to be out.  The lowest free place is taken first, so that the pages in use stay few and hot.
 *
 * Locking: none.  Not here: what a slab's blocks are; whose a slab is.
 */
#include "allocator/allocator.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "sync/clock.h"

enum {
    TRIM_BATCH_SLICES = 256, /* claimed at once while their pages go: others must not be short of much, nor
                                wait for long: the system locks the file against its other users meanwhile  */
    DIRTY_FLOOR_SLICES = 32, /* free slices that may keep their pages, whatever is in use                   */
    DIRTY_SHARE = 32,        /* ... and one for so many in use                                              */
    DIRTY_PATIENCE_MS = 500, /* too many for so long: memory that comes and goes is not worth giving back   */
    IDLE_FLOOR_SLICES = 48,  /* that may be idle while others touch new pages                               */
    IDLE_SHARE = 16          /* ... and one for so many in use                                              */
};

static uint64_t
claimed_word(const hshm_allocator *a, bool dirty)
{
    return slice_make(SLICE_CLAIMED, a->process, dirty);
}

uint64_t
run_high(const struct slab_heap *h)
{
    return min_u64(load_acquire(&h->root->high), h->count);
}

void
run_sync_taken(const struct slab_heap *h, uint64_t slice)
{
    _Atomic uint64_t *word = &h->taken[slice / WORD_BITS];
    const uint64_t bit = UINT64_C(1) << slice % WORD_BITS;
    bool is_free;
    do {
        /* Sequentially consistent, here and in the callers' changes: of two who follow different words, the later sees. */
        is_free = slice_is_free(load_seq_cst(&h->slices[slice]));
        if (is_free && (load_seq_cst(word) & bit) != 0)
            (void)atomic_fetch_and(word, ~bit);
        else if (!is_free && (load_seq_cst(word) & bit) == 0)
            (void)atomic_fetch_or(word, bit);
    } while (slice_is_free(load_seq_cst(&h->slices[slice])) != is_free);
}

/* The same for a row that is ours: its bits are set, or cleared, a word at a time. */
static void
set_taken(const struct slab_heap *h, uint64_t first, uint64_t count, bool taken)
{
    while (count > 0) {
        const uint64_t at = first % WORD_BITS;
        const uint64_t row = min_u64(count, WORD_BITS - at);
        const uint64_t bits = (row == WORD_BITS ? UINT64_MAX : (UINT64_C(1) << row) - 1) << at;
        if (taken)
            (void)atomic_fetch_or(&h->taken[first / WORD_BITS], bits);
        else
            (void)atomic_fetch_and(&h->taken[first / WORD_BITS], ~bits);
        for (uint64_t i = 0; i < row; i++) {
            if (slice_is_free(load_seq_cst(&h->slices[first + i])) == taken)
                run_sync_taken(h, first + i);
        }
        first += row;
        count -= row;
    }
}

static void
lower_lowest(const struct slab_heap *h, uint64_t slice)
{
    uint64_t lowest = load_relaxed(&h->root->lowest);
    while (lowest > slice / WORD_BITS && !cas_seq_cst(&h->root->lowest, &lowest, slice / WORD_BITS))
        ;
}

static void
raise_to(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t now = load_relaxed(word);
    while (now < value && !cas_seq_cst(word, &now, value))
        ;
}

/* Derived counters: a kill may leave them wrong until recovery counts anew; never below 0. */
static void
subtract(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t now = load_relaxed(counter);
    while (!cas_seq_cst(counter, &now, now > n ? now - n : 0))
        ;
}

/* Slices in slabs and runs: those of IDLE runs are not. */
static uint64_t
without_idle(const struct slab_heap *h, uint64_t used)
{
    return used - min_u64(load_relaxed(&h->root->idle), used);
}

uint64_t
run_in_use(const struct slab_heap *h)
{
    return without_idle(h, load_relaxed(&h->root->used));
}

static void
note_taken(const struct slab_heap *h, uint64_t count, uint64_t dirty)
{
    raise_to(&h->root->peak, without_idle(h, atomic_fetch_add(&h->root->used, count) + count));
    if (dirty != 0)
        subtract(&h->root->dirty, dirty);
}

static bool
claim_slice(hshm_allocator *a, uint64_t slice, bool *ret_dirty)
{
    slice_word *word = &a->slab.slices[slice];
    uint64_t found = load_relaxed(word);
    *ret_dirty = slice_state(found) == SLICE_DIRTY;
    /* Acquire pairs with the release in set_free(): what the last owner did to the slice is done. */
    return slice_is_free(found) && cas_seq_cst(word, &found, claimed_word(a, *ret_dirty));
}

/* Make a slice free whose word is ours to write; its bit follows.  Release pairs with the acquire in claim_slice(). */
static void
set_free(const struct slab_heap *h, uint64_t slice, bool dirty)
{
    store_release(&h->slices[slice], dirty ? slice_make(SLICE_DIRTY, 0, 0) : 0);
}

/* Claims [first, first + count), or nothing: then *ret_failed is the slice that was not free. */
static bool
claim_row(hshm_allocator *a, uint64_t first, uint64_t count, struct claim *ret_claim, uint64_t *ret_failed)
{
    struct slab_heap *h = &a->slab;
    uint64_t dirty = 0;
    /* First: recovery looks below it for the claims of the dead. */
    raise_to(&h->root->high, first + count);
    for (uint64_t i = 0; i < count; i++) {
        bool was_dirty;
        if (!claim_slice(a, first + i, &was_dirty)) {
            *ret_failed = first + i;
            for (uint64_t k = 0; k < i; k++) {
                set_free(h, first + k, slice_count(load_relaxed(&h->slices[first + k])) != 0);
                FAILPOINT("run.claim_undone");
            }
            set_taken(h, first, i, false);
            run_sync_taken(h, *ret_failed);
            return false;
        }
        FAILPOINT("run.claimed");
        dirty += was_dirty;
    }
    set_taken(h, first, count, true);
    FAILPOINT("run.claim_marked");
    note_taken(h, count, dirty);
    *ret_claim = (struct claim){ .first = first, .count = count, .zero = dirty == 0 };
    return true;
}

/* ---- finding room ---- */

/* The first slice at or above `from` whose bit is `bit`; `end` if there is none. */
static uint64_t
next_slice(const struct slab_heap *h, uint64_t from, uint64_t end, bool taken)
{
    const uint64_t flip = taken ? 0 : UINT64_MAX;
    for (uint64_t at = from; at < end; at = align_down(at, WORD_BITS) + WORD_BITS) {
        const uint64_t found = (load_relaxed(&h->taken[at / WORD_BITS]) ^ flip) & UINT64_MAX << at % WORD_BITS;
        if (found != 0)
            return min_u64(align_down(at, WORD_BITS) + (uint64_t)__builtin_ctzll(found), end);
    }
    return end;
}

/* The first slice at or above `slice` that begins at a multiple of `alignment`, in this process; may lie beyond all. */
static uint64_t
align_slice(const struct slab_heap *h, uint64_t slice, uint64_t alignment)
{
    const uint64_t misfit = (uintptr_t)slice_address(h, slice) & (alignment - 1);
    return misfit == 0 ? slice : slice + ((alignment - misfit) >> h->shift);
}

/* Room below `end`, the lowest. */
static bool
claim_one(hshm_allocator *a, uint64_t end, struct claim *ret_claim)
{
    struct slab_heap *h = &a->slab;
    uint64_t lowest = load_seq_cst(&h->root->lowest);
    uint64_t failed;
    uint64_t at = lowest < h->taken_words ? lowest * WORD_BITS : end;
    for (at = next_slice(h, at, end, false); at < end; at = next_slice(h, at + 1, end, false)) {
        if (!claim_row(a, at, 1, ret_claim, &failed))
            continue;
        if (lowest < at / WORD_BITS) /* unless it was lowered meanwhile */
            (void)cas_seq_cst(&h->root->lowest, &lowest, at / WORD_BITS);
        return true;
    }
    return false;
}

static bool
claim_below(hshm_allocator *a, uint64_t end, uint64_t count, uint64_t alignment, struct claim *ret_claim)
{
    struct slab_heap *h = &a->slab;
    if (count == 1 && alignment <= UINT64_C(1) << h->shift)
        return claim_one(a, end, ret_claim);
    const uint64_t lowest = load_seq_cst(&h->root->lowest);
    uint64_t at = lowest < h->taken_words ? lowest * WORD_BITS : end;
    while (at < end) {
        const uint64_t begin = next_slice(h, at, end, false);
        const uint64_t first = align_slice(h, begin, alignment);
        if (count > end || first > end - count)
            return false;
        uint64_t taken = next_slice(h, begin, first + count, true);
        if (taken == first + count && claim_row(a, first, count, ret_claim, &taken))
            return true;
        at = taken + 1;
    }
    return false;
}

/* Before pages are touched for the first time, much that is idle is made use of; before there is no room, all of it. */
bool
run_claim(hshm_allocator *a, uint64_t count, uint64_t alignment, struct claim *ret_claim)
{
    struct slab_heap *h = &a->slab;
    const bool much_idle = load_relaxed(&h->root->idle) > run_in_use(h) / IDLE_SHARE + IDLE_FLOOR_SLICES;
    if (claim_below(a, much_idle ? run_high(h) : h->count, count, alignment, ret_claim))
        return true;
    if (load_relaxed(&h->root->idle) != 0)
        (void)run_free_idle(a);
    else if (!much_idle)
        return false;
    return claim_below(a, h->count, count, alignment, ret_claim);
}

/* ---- making something of it ---- */

void
run_publish(hshm_allocator *a, const struct claim *claim, enum slice_state state)
{
    struct slab_heap *h = &a->slab;
    for (uint64_t i = 1; i < claim->count && !claim->kept; i++) {
        store_relaxed(&h->slices[claim->first + i], slice_make(SLICE_REST, 0, i));
        FAILPOINT("run.rest");
    }
    /* Release pairs with the acquire in slab_find(): who sees a slab or run sees its record and its further slices. */
    store_release(&h->slices[claim->first], slice_make(state, 0, claim->count));
    FAILPOINT("run.published");
}

void
run_unclaim(hshm_allocator *a, const struct claim *claim)
{
    struct slab_heap *h = &a->slab;
    uint64_t dirty = 0;
    /* Downwards: what a kill leaves is a claim with further slices still. */
    for (uint64_t i = claim->count; i-- > 0;) {
        const uint64_t word = load_relaxed(&h->slices[claim->first + i]);
        const bool was_dirty = slice_state(word) == SLICE_REST || slice_count(word) != 0;
        dirty += was_dirty;
        set_free(h, claim->first + i, was_dirty);
        FAILPOINT("run.unclaimed");
    }
    set_taken(h, claim->first, claim->count, false);
    FAILPOINT("run.unclaim_marked");
    subtract(&h->root->used, claim->count);
    (void)atomic_fetch_add(&h->root->dirty, dirty);
    lower_lowest(h, claim->first);
}

/* ---- giving pages back ---- */

static bool
can_give_back(const hshm_allocator *a)
{
    const struct allocator_system *system = &a->system;
    /* Slices must be whole pages, or the edges would keep their bytes and be taken for zero. */
    const uint64_t odd = (UINT64_C(1) << a->slab.shift | (uintptr_t)a->slab.data) & (system->page_size - 1);
    return system->give_back != NULL && !system->reserved && odd == 0;
}

/* Give the pages of a claim back, and make it free. */
static hshm_status
give_back(hshm_allocator *a, const struct claim *claim)
{
    struct slab_heap *h = &a->slab;
    const struct allocator_system *system = &a->system;
    const hshm_status status =
        system->give_back(system->arg, a->layout.data_off + (claim->first << h->shift), claim->count << h->shift);
    FAILPOINT("run.pages_gone");
    for (uint64_t i = 0; i < claim->count; i++) {
        set_free(h, claim->first + i, status != HSHM_OK);
        FAILPOINT("run.given_back");
    }
    set_taken(h, claim->first, claim->count, false);
    subtract(&h->root->used, claim->count);
    if (status != HSHM_OK)
        (void)atomic_fetch_add(&h->root->dirty, claim->count);
    lower_lowest(h, claim->first);
    return status;
}

/* Claim a row of dirty slices that ends below `end`: how many, downwards, at most a batch. */
static uint64_t
claim_dirty_below(hshm_allocator *a, uint64_t end, uint64_t most)
{
    struct slab_heap *h = &a->slab;
    uint64_t count = 0;
    while (count < most && count < end) {
        bool dirty;
        slice_word *word = &h->slices[end - count - 1];
        if (slice_state(load_relaxed(word)) != SLICE_DIRTY || !claim_slice(a, end - count - 1, &dirty))
            break;
        FAILPOINT("run.dirty_claimed");
        run_sync_taken(h, end - count - 1);
        count++;
    }
    if (count > 0)
        note_taken(h, count, count);
    return count;
}

/* From the top downwards: what lies low is what the next slabs will use. */
hshm_status
run_trim(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes)
{
    struct slab_heap *h = &a->slab;
    *ret_bytes = 0;
    if (!can_give_back(a))
        return fail(HSHM_E_NOTSUP, "the heap %u.%u cannot be trimmed: its memory %s", a->id.major, a->id.minor,
                    a->system.give_back == NULL ? ALLOCATOR_NO_GIVE_BACK
                    : a->system.reserved        ? "was reserved when it was created (create it with HSHM_COMMIT_LAZY)"
                                         : "has slices that are not whole pages of the system (create it larger)");
    const uint64_t keep_slices = keep >> h->shift;
    if (load_relaxed(&h->root->dirty) + load_relaxed(&h->root->idle) > keep_slices)
        (void)run_free_idle(a);
    for (uint64_t end = run_high(h); end > 0;) {
        const uint64_t dirty = load_relaxed(&h->root->dirty);
        if (dirty <= keep_slices)
            break;
        const uint64_t count = claim_dirty_below(a, end, min_u64(dirty - keep_slices, TRIM_BATCH_SLICES));
        if (count == 0) {
            end--;
            continue;
        }
        end -= count;
        const hshm_status status = give_back(a, &(struct claim){ .first = end, .count = count });
        if (status != HSHM_OK)
            return status;
        *ret_bytes += count << h->shift;
    }
    return HSHM_OK;
}

uint64_t
run_enough(const struct slab_heap *h)
{
    return run_in_use(h) / DIRTY_SHARE + DIRTY_FLOOR_SLICES;
}

/*
 * If too many free slices have kept their pages for long, give half of what is too much back.  Asked when slices become free,
 * and now and then by those who take blocks: in a program whose blocks have found their places no slice becomes free any more.
 * It is the caller's time, so one call gives back a batch at most (80 ms a GiB otherwise), and the next is due the sooner the more
 * there is: half goes in as long as patience lasts, however much it is.
 */
void
run_trim_by_age(hshm_allocator *a)
{
    struct slab_root *root = a->slab.root;
    const uint64_t dirty = load_relaxed(&root->dirty) + load_relaxed(&root->idle);
    const uint64_t enough = run_enough(&a->slab);
    uint64_t since = load_relaxed(&root->dirty_since);
    if (dirty <= enough || !can_give_back(a)) {
        if (since != 0)
            store_relaxed(&root->dirty_since, 0);
        return;
    }
    const uint64_t now = clock_coarse_ms();
    if (since == 0 || since > now) {
        store_relaxed(&root->dirty_since, now);
        return;
    }
    const uint64_t half = (dirty - enough + 1) / 2;
    const uint64_t batch = min_u64(half, TRIM_BATCH_SLICES);
    const uint64_t next = now - DIRTY_PATIENCE_MS + DIRTY_PATIENCE_MS * batch / half;
    uint64_t bytes;
    if (now - since >= DIRTY_PATIENCE_MS && cas_seq_cst(&root->dirty_since, &since, next))
        (void)run_trim(a, (dirty - batch) << a->slab.shift, &bytes);
}

/* ---- making it free ---- */

/*
 * The further slices of what begins at `first`, as far as they are still that.  Never a claim: after a death this is repeated, when
 * somebody else may have claimed what was made free the first time.  So there must be no claim of the dead among them when the
 * first word becomes FREEING.
 */
static void
free_rest(const struct slab_heap *h, uint64_t first, uint64_t count)
{
    for (uint64_t i = 1; i < count && first + i < h->count; i++) {
        if (load_relaxed(&h->slices[first + i]) == slice_make(SLICE_REST, 0, i))
            set_free(h, first + i, true);
        FAILPOINT("run.rest_freed");
    }
}

/* Nobody is, or died, resizing a run. */
static bool
are_all_whole(const struct slab_heap *h)
{
    return LIKELY(load_seq_cst(&h->root->resizing) == 0);
}

/* Are its further slices all REST?  Not if one died while the run grew or shrank: then there are claims among them. */
static bool
is_whole(const struct slab_heap *h, uint64_t first, uint64_t count)
{
    if (are_all_whole(h))
        return true;
    for (uint64_t i = 1; i < count && first + i < h->count; i++) {
        if (load_relaxed(&h->slices[first + i]) != slice_make(SLICE_REST, 0, i))
            return false;
    }
    return true;
}

void
run_mend(const struct slab_heap *h, uint64_t first, uint64_t found)
{
    for (uint64_t i = 1; i < slice_count(found) && first + i < h->count; i++) {
        uint64_t word = load_relaxed(&h->slices[first + i]);
        if (slice_state(word) == SLICE_CLAIMED)
            (void)cas_seq_cst(&h->slices[first + i], &word, slice_make(SLICE_REST, 0, i));
    }
}

static bool
begin_free(hshm_allocator *a, uint64_t first, uint64_t found)
{
    const uint64_t freeing = slice_make(SLICE_FREEING, a->process, slice_count(found));
    if (!cas_seq_cst(&a->slab.slices[first], &found, freeing))
        return false;
    FAILPOINT("run.freeing");
    store_release(&record_of(&a->slab, first)->own, 0);
    FAILPOINT("run.freeing_nobodys");
    return true;
}

/* The first word says FREEING by this process. */
static void
finish_free(hshm_allocator *a, uint64_t first, uint64_t count)
{
    struct slab_heap *h = &a->slab;
    free_rest(h, first, count);
    set_free(h, first, true);
    FAILPOINT("run.freed");
    set_taken(h, first, min_u64(count, h->count - first), false);
    FAILPOINT("run.freed_marked");
    subtract(&h->root->used, count);
    (void)atomic_fetch_add(&h->root->dirty, count);
    lower_lowest(h, first);
}

bool
run_free(hshm_allocator *a, uint64_t first, uint64_t found)
{
    if (slice_state(found) == SLICE_RUN && !are_all_whole(&a->slab))
        run_mend(&a->slab, first, found);
    if (!begin_free(a, first, found))
        return false;
    finish_free(a, first, slice_count(found));
    run_trim_by_age(a);
    return true;
}

/*
 * In one step, no FREEING: REST stays in the further slices, as in a claim that is about to become something.  So they must
 * be that: recovery would give what is claimed there to others.
 */
bool
run_keep(hshm_allocator *a, uint64_t first, uint64_t found, struct claim *ret_claim)
{
    const uint64_t count = slice_count(found);
    if (!is_whole(&a->slab, first, count) || !cas_seq_cst(&a->slab.slices[first], &found, claimed_word(a, true)))
        return false;
    FAILPOINT("run.kept");
    store_release(&record_of(&a->slab, first)->own, 0);
    FAILPOINT("run.kept_nobodys");
    *ret_claim = (struct claim){ .first = first, .count = count, .kept = true };
    return true;
}

/* ---- idle runs ---- */

/* How many slices an idle run that begins here has, within those that were ever claimed; 0 = none does. */
uint64_t
run_idle_at(const struct slab_heap *h, uint64_t slice)
{
    const uint64_t found = load_relaxed(&h->slices[slice]);
    return slice_state(found) == SLICE_IDLE ? min_u64(slice_count(found), run_high(h) - min_u64(slice, run_high(h)))
                                            : 0;
}

bool
run_idle(hshm_allocator *a, uint64_t first, uint64_t found, uint64_t hint)
{
    struct slab_heap *h = &a->slab;
    struct claim claim;
    /* A claim first: as soon as it is idle its record may be another's. */
    if (!run_keep(a, first, found, &claim))
        return false;
    store_relaxed(&record_of(h, first)->skip, hint);
    /* Release pairs with the acquire in run_take_idle(). */
    store_release(&h->slices[first], slice_make(SLICE_IDLE, 0, claim.count));
    FAILPOINT("run.idle");
    (void)atomic_fetch_add(&h->root->idle, claim.count);
    return true;
}

bool
run_take_idle(hshm_allocator *a, uint64_t first, uint64_t count, struct claim *ret_claim, uint64_t *ret_hint)
{
    struct slab_heap *h = &a->slab;
    uint64_t idle = slice_make(SLICE_IDLE, 0, count);
    /* Read before: afterwards we write it ourselves.  Acquire pairs with the release in run_idle(). */
    *ret_hint = load_acquire(&h->slices[first]) == idle ? load_relaxed(&record_of(h, first)->skip) : 0;
    if (!cas_seq_cst(&h->slices[first], &idle, claimed_word(a, true)))
        return false;
    FAILPOINT("run.idle_taken");
    subtract(&h->root->idle, count);
    raise_to(&h->root->peak, run_in_use(h));
    *ret_claim = (struct claim){ .first = first, .count = count, .kept = true };
    return true;
}

/* What is one becomes free room.  False: it is something else. */
static bool
free_idle(hshm_allocator *a, uint64_t first, uint64_t found)
{
    const uint64_t count = slice_count(found);
    if (slice_state(found) != SLICE_IDLE || !begin_free(a, first, found))
        return false;
    subtract(&a->slab.root->idle, count);
    finish_free(a, first, count);
    return true;
}

bool
run_free_idle(hshm_allocator *a)
{
    struct slab_heap *h = &a->slab;
    const uint64_t high = run_high(h);
    bool any = false;
    for (uint64_t slice = 0; slice < high; slice++)
        any |= free_idle(a, slice, load_relaxed(&h->slices[slice]));
    return any;
}

/* ---- after a death ---- */

void
run_finish_free(hshm_allocator *a, uint64_t first, uint64_t found)
{
    struct slab_heap *h = &a->slab;
    store_release(&record_of(h, first)->own, 0);
    FAILPOINT("run.finish_nobodys");
    free_rest(h, first, slice_count(found));
    set_taken(h, first, min_u64(slice_count(found), h->count - first), false);
    run_drop(a, first, found);
}

void
run_drop(hshm_allocator *a, uint64_t slice, uint64_t found)
{
    struct slab_heap *h = &a->slab;
    store_release(&record_of(h, slice)->own, 0);
    FAILPOINT("run.drop_nobodys");
    if (cas_seq_cst(&h->slices[slice], &found, slice_make(SLICE_DIRTY, 0, 0))) {
        FAILPOINT("run.dropped");
        run_sync_taken(h, slice);
        lower_lowest(h, slice);
    }
}

/* ---- growing and shrinking in place ---- */

/*
 * Larger: claim the neighbours, store the new count (now they belong to the run), then REST in their words; a kill in
 * between leaves claims of a dead process inside a run, which recovery makes REST.
 */
static bool
grow(hshm_allocator *a, uint64_t first, uint64_t found, uint64_t count)
{
    struct slab_heap *h = &a->slab;
    const uint64_t before = slice_count(found);
    struct claim claim;
    uint64_t failed;
    if (count > h->count - first)
        return false;
    while (!claim_row(a, first + before, count - before, &claim, &failed)) {
        if (!free_idle(a, failed, load_relaxed(&h->slices[failed])))
            return false;
    }
    FAILPOINT("run.grow_claimed");
    if (!cas_seq_cst(&h->slices[first], &found, slice_make(SLICE_RUN, 0, count))) {
        run_unclaim(a, &claim);
        return false;
    }
    FAILPOINT("run.grown");
    for (uint64_t i = before; i < count; i++) {
        store_relaxed(&h->slices[first + i], slice_make(SLICE_REST, 0, i));
        FAILPOINT("run.grown_rest");
    }
    return true;
}

/*
 * Smaller: the tail becomes a claim first, then the new count is stored, then the claim is undone.  A kill before the count
 * leaves claims inside a run, as above.
 */
static bool
shrink(hshm_allocator *a, uint64_t first, uint64_t found, uint64_t count)
{
    struct slab_heap *h = &a->slab;
    const uint64_t before = slice_count(found);
    if (!is_whole(h, first, before))
        return false;
    for (uint64_t i = count; i < before; i++) {
        uint64_t rest = slice_make(SLICE_REST, 0, i);
        if (!cas_seq_cst(&h->slices[first + i], &rest, claimed_word(a, true)))
            return false; /* not the caller's block any more */
        FAILPOINT("run.shrink_claimed");
    }
    if (!cas_seq_cst(&h->slices[first], &found, slice_make(SLICE_RUN, 0, count)))
        return false;
    FAILPOINT("run.shrunk");
    run_unclaim(a, &(struct claim){ .first = first + count, .count = before - count });
    run_trim_by_age(a);
    return true;
}

bool
run_resize(hshm_allocator *a, uint64_t first, uint64_t found, uint64_t count)
{
    const uint64_t before = slice_count(found);
    if (count == before)
        return true;
    (void)atomic_fetch_add(&a->slab.root->resizing, 1);
    FAILPOINT("run.resizing");
    const bool done = count > before ? grow(a, first, found, count) : shrink(a, first, found, count);
    (void)atomic_fetch_sub(&a->slab.root->resizing, 1); /* after a kill it stays too high, which costs time only */
    return done;
}

uint64_t
run_longest_free(const struct slab_heap *h)
{
    const uint64_t high = run_high(h);
    uint64_t longest = 0;
    uint64_t row = 0;
    for (uint64_t slice = 0; slice < high; slice++) {
        const uint64_t count = run_idle_at(h, slice);
        row = count != 0 || slice_is_free(load_relaxed(&h->slices[slice])) ? row + max_u64(count, 1) : 0;
        slice += max_u64(count, 1) - 1;
        longest = max_u64(longest, row);
    }
    return max_u64(longest, row + h->count - high);
}
