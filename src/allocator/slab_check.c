/*
 * slab_check.c - are the tables of a heap of slabs what docs/format.md says?  check.h has how a live heap can be asked that.
 *
 * What a process that is stopped leaves as long as it is, and one that is killed until recovery:
 *
 *   invariant                                   broken by                                            found to be
 *   a slice is free, or of a slab, run or       claims; FREEING slices                               by the process in the word
 *     idle run
 *   REST behind SLAB, IDLE                      nobody: written before, and kept until the first     -
 *                                               word says FREEING or CLAIMED
 *   REST behind RUN                             growing, shrinking: CLAIMED words                    by the process in them
 *   REST without a first word                   nobody: REST goes from the end (or behind FREEING)   -
 *   own is 0 but in slabs                       nobody: 0 before FREEING or a claim is free          -
 *   class, size, ... follow from each other     nobody: written before SLAB                          -
 *   no bit beyond the end                       ScalablePage, LOCKED: the sign; and one who put it   by the process; STALE
 *                                               back late
 *   no bit in both rows                         ThreadLocal: half a harvest                          by the owner's process
 *   no slab is LOCKED                           who makes it free, or made it just now               by the process in `own`
 *   the owner's slot is taken                   nobody: the slot goes last                           -
 *   an orphan with free blocks is shelved       between leaving, freeing or taking off, and the      STALE
 *                                               shelf's bit
 *   an orphan without any has no NEWS           a freer, if others adopted and left meanwhile        STALE
 *   CURRENT: in one shard or log                between the shard and `own`: CURRENT, in none        by the process in `own`; or
 *                                               STALE, if another marked it last, and has left
 *   in a shard or log: CURRENT                  nobody: CURRENT before, and until after              -
 *   SHELVED with free blocks: on the shelf      between `own` and the shelf's bit                    STALE
 *   left_from is not 0 if a shared bit is set   between the bit and left_from                        STALE
 *   a taken bit follows its slice's word        between the word and the bit                         STALE
 *   slices above `high` are free                nobody: `high` first                                 -
 *   a thread's slot is of a process             killed: until recovery                               by that process
 *   LIFE: the process lives                     killed: until recovery                               by that process
 *
 * "Found to be ... by the process": in transition if that lives, else left by the dead.  A claim of a live process is as it should be:
 * threads keep slices for later.
 */
#include "allocator/check.h"

#include "allocator/page_slab.h"
#include "base/bits.h"
#include "base/checked.h"

/* Behind `high` are words that were never touched, of which each page would take memory: only so many are looked at. */
enum { UNUSED_LOOKED_AT = 8192 };

/* ---- slabs ---- */

/* Local: a slab, as one look sees it. */
struct slab_look {
    struct slab_record *record;
    uint64_t slice;
    uint64_t own;
    uint32_t class;
    uint32_t blocks;
    bool has_free;
    bool has_shared;
    uint64_t twice; /* bits of a word that are set in both rows */
};

static void
look_at_bits(const struct slab_heap *h, struct slab_look *slab, struct check_look *look)
{
    for (uint32_t word = 0; word < words_for(slab->blocks); word++) {
        const uint64_t mask = word_mask(word, slab->blocks);
        const uint64_t bits = load_seq_cst(&bits_of(slab->record)[word]);
        const uint64_t remote = load_seq_cst(&remote_of(h, slab->record)[word]);
        const uint64_t beyond = (bits | remote) & ~mask;
        if (beyond != 0) {
            const bool is_sign = !h->has_owners && beyond == SLAB_WORD_TAKEN && (bits & beyond) == 0;
            check_note(look, is_sign ? CHECK_STALE : CHECK_WRONG, beyond, "free blocks beyond a slab's end");
        }
        slab->has_free |= ((bits | remote) & mask) != 0;
        slab->has_shared |= (remote & mask) != 0;
        slab->twice |= bits & remote & mask;
        look->free_blocks += bits_count((bits | remote) & mask);
    }
}

static bool
is_on_shelf(const struct slab_heap *h, uint32_t class, uint32_t shelf, uint64_t slice)
{
    const uint64_t word = load_seq_cst(&shelf_bits(h, class, shelf)[slice / WORD_BITS]);
    return (word >> slice % WORD_BITS & 1) != 0;
}

static void
look_at_orphan(const struct slab_heap *h, const struct slab_look *slab, struct check_look *look)
{
    if (slab->twice != 0)
        check_note(look, CHECK_WRONG, slab->twice, "a block was freed twice");
    if (slab->has_free && !is_on_shelf(h, slab->class, 0, slab->slice))
        check_note(look, CHECK_STALE, slab->own, "an orphan with free blocks is on no shelf");
    if (!slab->has_free && (slab->own & SLAB_NEWS) != 0)
        check_note(look, CHECK_STALE, slab->own, "an orphan whose first free block would not be told of");
}

static void
look_at_owner(struct check *check, const struct slab_look *slab, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    const uint64_t owner = slab->own >> 8 & 0xffffff;
    if ((slab->own & SLAB_FLAGS & ~(uint64_t)SLAB_NEWS) != SLAB_IS || owner > h->thread_slots ||
        (owner == 0 && (slab->own & ~(uint64_t)SLAB_NEWS) != SLAB_IS)) {
        check_note(look, CHECK_WRONG, slab->own, "a slab that is none, or whose owner makes no sense");
        return;
    }
    if (owner == 0) {
        look_at_orphan(h, slab, look);
        return;
    }
    const uint64_t thread = load_seq_cst(&h->threads[owner - 1].owner);
    if (thread == 0)
        check_note(look, CHECK_WRONG, slab->own, "a slab of a thread slot that nobody has");
    else if (slab->twice != 0)
        check_note(look, check_process(check, thread >> THREAD_OWNER_SHIFT), slab->twice, "a block was freed twice");
}

static bool
is_current_of(const hshm_allocator *a, uint32_t shard, const struct slab_look *slab)
{
    return current_slice(load_seq_cst(&shard_at(&a->slab, shard)->current[slab->class])) == slab->slice;
}

/* In how many shards and logs it is. */
static uint32_t
count_holders(const hshm_allocator *a, const struct slab_look *slab)
{
    uint32_t holders = 0;
    for (uint32_t shard = 0; shard < a->slab.shard_count; shard++)
        holders += is_current_of(a, shard, slab);
    for (uint32_t id = 0; id < a->op_logs; id++)
        holders += load_seq_cst(&a->op_table->logs[id].slab) == slab->slice + 1;
    return holders;
}

static void
look_at_holders(struct check *check, const struct slab_look *slab, struct check_look *look)
{
    const uint32_t holders = count_holders(check->a, slab);
    const bool is_current = page_is_current(slab->own);
    if (holders == is_current)
        return;
    if (holders != 0) {
        check_note(look, CHECK_WRONG, slab->own, "a slab is in a shard and not current, or in several");
        return;
    }
    /* Of two that replaced it, the one that was marked last need not be the one that left it so. */
    const enum check_verdict verdict = check_process(check, page_own_process(slab->own));
    check_note(look, verdict == CHECK_WRONG ? CHECK_STALE : verdict, slab->own, "a slab is current and in no shard");
}

static void
look_at_page(struct check *check, const struct slab_look *slab, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    const bool is_one =
        has_flags(slab->own, SLAB_FULL) || page_is_current(slab->own) || has_flags(slab->own, SLAB_SHELVED);
    if (!is_one || page_own_class(slab->own) != slab->class || page_own_home(slab->own) > h->shard_count) {
        check_note(look, CHECK_WRONG, slab->own, "a slab that is none, is of another class, or at home nowhere");
        return;
    }
    if (slab->twice != 0)
        check_note(look, CHECK_WRONG, slab->twice, "a block was freed twice");
    look_at_holders(check, slab, look);
    if (has_flags(slab->own, SLAB_SHELVED) && slab->has_free &&
        !is_on_shelf(h, slab->class, page_shelf(h, slab->own), slab->slice))
        check_note(look, CHECK_STALE, slab->own, "a slab with free blocks is on no shelf");
    if (slab->has_shared && !may_be_shared(slab->record))
        check_note(look, CHECK_STALE, slab->own, "a shared bit is set, and its record says that none is");
}

/* Its blocks are being taken, or were not given yet, and mean nothing. */
static void
look_at_locked(struct check *check, uint64_t own, struct check_look *look)
{
    const bool has_owners = check->a->slab.has_owners;
    const uint64_t flags = own & SLAB_FLAGS & ~(uint64_t)(has_owners ? SLAB_NEWS : SLAB_LIFE | SLAB_FULL);
    const uint64_t process = has_owners ? own >> 32 : page_own_process(own);
    const bool is_sound = flags == (SLAB_IS | SLAB_LOCKED) && (!has_owners || (own >> 8 & 0xffffff) == 0);
    check_note(look, is_sound ? check_process(check, process) : CHECK_WRONG, own, "a slab that somebody has locked");
}

/* Of blocks that end with a process: as long as that lives it is as it should be. */
static void
look_at_life(struct check *check, uint64_t process, uint64_t word, struct check_look *look)
{
    const enum check_verdict verdict = check_process(check, process);
    if (verdict != CHECK_MOVING)
        check_note(look, verdict, word, "blocks of process lifetime, and their process is no more");
}

static void
look_at_life_slab(struct check *check, const struct slab_look *slab, struct check_look *look)
{
    if (slab->own != page_own(SLAB_LIFE, slab->class, 0, page_own_process(slab->own)) || slab->has_shared)
        check_note(look, CHECK_WRONG, slab->own, "a slab of process lifetime that is more than that");
    else
        look_at_life(check, page_own_process(slab->own), slab->own, look);
}

static void
look_at_slab(struct check *check, uint64_t slice, uint64_t found, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    struct slab_record *record = record_of(h, slice);
    struct slab_look slab = { .record = record, .slice = slice, .own = load_seq_cst(&record->own) };
    slab.class = load_relaxed(&record->class);
    look->slabs = 1;
    if (!slab_record_is_sound(h, slice, found) || slab.class >= h->classes) {
        check_note(look, CHECK_WRONG, slab.class, "a slab's record does not fit its slices");
        return;
    }
    if ((slab.own & SLAB_LOCKED) != 0) {
        look_at_locked(check, slab.own, look);
        return;
    }
    slab.blocks = slab_blocks(h, slab.class, slice_count(found));
    look_at_bits(h, &slab, look);
    if ((slab.own & SLAB_LIFE) != 0)
        look_at_life_slab(check, &slab, look);
    else if (h->has_owners)
        look_at_owner(check, &slab, look);
    else
        look_at_page(check, &slab, look);
}

/* ---- slices ---- */

static bool
is_rest(const struct slab_heap *h, uint64_t slice, uint64_t behind)
{
    return load_seq_cst(&h->slices[slice]) == slice_make(SLICE_REST, 0, behind);
}

static void
look_at_own(const struct slab_heap *h, uint64_t slice, struct check_look *look)
{
    const uint64_t own = load_seq_cst(&record_of(h, slice)->own);
    if (own != 0)
        check_note(look, CHECK_WRONG, own, "a slice that is no slab's first, and is owned");
}

/* The further slices of a slab, run or idle run; in a run that grows or shrinks, or did, claims may be among them. */
static void
look_at_rest(struct check *check, uint64_t first, uint64_t found, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    for (uint64_t i = 1; i < slice_count(found); i++) {
        const uint64_t word = load_seq_cst(&h->slices[first + i]);
        if (word != slice_make(SLICE_REST, 0, i)) {
            const bool may_be = slice_state(found) == SLICE_RUN && slice_state(word) == SLICE_CLAIMED;
            check_note(look, may_be ? check_process(check, slice_process(word)) : CHECK_WRONG, word,
                       "a slab or run that is interrupted");
        }
        look_at_own(h, first + i, look);
    }
}

static void
look_at_whole(struct check *check, uint64_t first, uint64_t found, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    const uint64_t count = slice_count(found);
    if (count == 0 || count > h->count - first || slice_process(found) != 0) {
        check_note(look, CHECK_WRONG, found, "a slab or run that is longer than the heap, or of no slices");
        return;
    }
    look->next = first + count;
    look_at_rest(check, first, found, look);
    if (slice_state(found) == SLICE_SLAB) {
        look_at_slab(check, first, found, look);
        return;
    }
    look_at_own(h, first, look);
    look->larges = slice_state(found) == SLICE_RUN;
    const uint32_t life = load_relaxed(&record_of(h, first)->life);
    if (slice_state(found) == SLICE_RUN && life != 0)
        look_at_life(check, life - UINT64_C(1), life, look);
    if (slice_state(found) == SLICE_RUN && load_relaxed(&record_of(h, first)->skip) >= count << h->shift)
        check_note(look, CHECK_WRONG, found, "a block that begins behind its end");
}

/* It may be about to become something, or about to be free: its further slices say REST from the first one on. */
static void
look_at_claim(struct check *check, uint64_t first, uint64_t found, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    const enum check_verdict verdict =
        slice_count(found) > 1 ? CHECK_WRONG : check_process(check, slice_process(found));
    uint64_t count = 1;
    while (count < h->count - first && is_rest(h, first + count, count))
        count++;
    look->next = first + count;
    if (verdict == CHECK_MOVING)
        look->kept = count;
    else
        check_note(look, verdict, found, "a slice is claimed by nobody");
}

/* What is behind becomes free, and perhaps another's, from the first one on. */
static void
look_at_being_freed(struct check *check, uint64_t first, uint64_t found, struct check_look *look)
{
    const bool is_sound = slice_count(found) != 0 && slice_count(found) <= check->a->slab.count - first;
    check_note(look, is_sound ? check_process(check, slice_process(found)) : CHECK_WRONG, found,
               "slices are being made free by nobody");
}

static bool
is_all_rest(const struct slab_heap *h, uint64_t first, uint64_t end)
{
    for (uint64_t slice = end; --slice > first;) {
        if (!is_rest(h, slice, slice - first))
            return false;
    }
    return true;
}

/* What does a further slice belong to?  Asked where none was expected: that may have been made meanwhile.  False: to nothing. */
static bool
find_first(const struct slab_heap *h, uint64_t slice, uint64_t found, uint64_t *ret_first, uint64_t *ret_found)
{
    const uint64_t behind = slice_count(found);
    if (behind == 0 || behind > slice || slice_process(found) != 0)
        return false;
    *ret_first = slice - behind;
    *ret_found = load_seq_cst(&h->slices[*ret_first]);
    switch (slice_state(*ret_found)) {
    case SLICE_SLAB:
    case SLICE_RUN:
    case SLICE_IDLE:
    case SLICE_FREEING:
        return slice_count(*ret_found) > behind;
    case SLICE_CLAIMED:
        return is_all_rest(h, *ret_first, slice);
    default:
        return false;
    }
}

static void
look_at_first(struct check *check, uint64_t first, uint64_t found, struct check_look *look)
{
    switch (slice_state(found)) {
    case SLICE_ZERO:
    case SLICE_DIRTY:
        if (found != slice_make(slice_state(found), 0, 0))
            check_note(look, CHECK_WRONG, found, "a free slice with more in its word");
        look_at_own(&check->a->slab, first, look);
        break;
    case SLICE_CLAIMED:
        look_at_claim(check, first, found, look);
        break;
    case SLICE_FREEING:
        look_at_being_freed(check, first, found, look);
        break;
    case SLICE_SLAB:
    case SLICE_RUN:
    case SLICE_IDLE:
        look_at_whole(check, first, found, look);
        break;
    default:
        check_note(look, CHECK_WRONG, found, "a slice that belongs to nothing");
        break;
    }
}

static void
look_at_slice(struct check *check, uint64_t slice, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    const uint64_t found = load_seq_cst(&h->slices[slice]);
    uint64_t first = slice;
    uint64_t found_first = found;
    if (slice_state(found) != SLICE_REST)
        look_at_first(check, slice, found, look);
    else if (!find_first(h, slice, found, &first, &found_first))
        check_note(look, CHECK_WRONG, found, "a slice that belongs to nothing");
    else if (slice_state(found_first) != SLICE_FREEING) /* which was looked at before */
        look_at_first(check, first, found_first, look);
    look->next = max_u64(look->next, slice + 1);
    look->slices = look->next - slice;
    /* Else what was seen of it may be of two that were there one after the other. */
    if (look->verdict != CHECK_RIGHT && load_seq_cst(&h->slices[first]) != found_first)
        check_note(look, CHECK_WRONG, found, "a slice that does not hold still");
}

/* Those that were never used; `high` is read after the word, and is raised before it. */
static void
look_above(struct check *check, uint64_t place, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    const uint64_t slice = h->count - 1 - place;
    const uint64_t word = load_seq_cst(&h->slices[slice]);
    if (!slice_is_free(word) && slice >= load_seq_cst(&h->root->high))
        check_note(look, CHECK_WRONG, word, "a slice is in use that was never claimed");
}

/* 64 slices, and their bits. */
static void
look_at_taken(struct check *check, uint64_t place, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    const uint64_t taken = load_seq_cst(&h->taken[place]);
    const uint64_t first = place * WORD_BITS;
    uint64_t right = 0;
    for (uint64_t i = 0; i < WORD_BITS && first + i < h->count; i++)
        right |= (uint64_t)!slice_is_free(load_seq_cst(&h->slices[first + i])) << i;
    if (taken != right)
        check_note(look, CHECK_STALE, taken ^ right, "a bit does not say whether its slice is taken (64 slices each)");
}

/* ---- who holds slabs ---- */

/* Claimed only until its process ends or is recovered, and until then by nobody else. */
static void
look_at_thread(struct check *check, uint64_t slot, struct check_look *look)
{
    const uint64_t owner = load_seq_cst(&check->a->slab.threads[slot].owner);
    if (owner == 0)
        return;
    const bool is_sound = owner % (1 << THREAD_OWNER_SHIFT) == 1;
    const enum check_verdict verdict = is_sound ? check_process(check, owner >> THREAD_OWNER_SHIFT) : CHECK_WRONG;
    const uint64_t log = load_seq_cst(&check->a->slab.threads[slot].log);
    if (verdict != CHECK_MOVING) /* which is as it should be */
        check_note(look, verdict, owner, "a thread slot of nobody's");
    else if (log != 0)
        check_note(look, verdict, log, "a thread is in the middle of an operation on a slot");
}

/* Does it lead to a slab that is current, and of that class? */
static void
look_at_held(const struct slab_heap *h, uint64_t slice, uint32_t class, uint64_t word, struct check_look *look)
{
    const uint64_t own = slice < h->count ? load_seq_cst(&record_of(h, slice)->own) : 0;
    if (slice >= h->count || slice_state(load_seq_cst(&h->slices[slice])) != SLICE_SLAB || !page_is_current(own) ||
        (class != UINT32_MAX && page_own_class(own) != class))
        check_note(look, CHECK_WRONG, word, "it leads to a slab that is not its own");
}

static void
look_at_shard(struct check *check, uint64_t place, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    const uint32_t shard = (uint32_t)(place / h->classes);
    const uint32_t class = (uint32_t)(place % h->classes);
    const uint64_t current = load_seq_cst(&shard_at(h, shard)->current[class]);
    if (current == 0)
        return;
    const uint64_t slice = current_slice(current);
    look_at_held(h, slice, class, current, look);
    if (look->verdict == CHECK_RIGHT &&
        ((current & CURRENT_AT_HOME) != 0) != (page_own_home(load_seq_cst(&record_of(h, slice)->own)) == shard + 1))
        check_note(look, CHECK_WRONG, current, "its slab is at home elsewhere");
}

static void
look_at_log_slab(struct check *check, uint64_t id, struct check_look *look)
{
    const hshm_allocator *a = check->a;
    const uint64_t slab = load_seq_cst(&a->op_table->logs[id].slab);
    if (slab != 0 && a->slab.has_owners)
        check_note(look, CHECK_WRONG, slab, "it has a slab, as only those of ScalablePage do");
    else if (slab != 0)
        look_at_held(&a->slab, slab - 1, UINT32_MAX, slab, look);
}

static void
look_at_root(struct check *check, uint64_t place, struct check_look *look)
{
    const struct slab_heap *h = &check->a->slab;
    (void)place;
    if (load_seq_cst(&h->root->high) > h->count)
        check_note(look, CHECK_WRONG, load_seq_cst(&h->root->high), "more slices were used than there are");
    if (load_seq_cst(&h->root->threads_high) > h->thread_slots)
        check_note(look, CHECK_WRONG, load_seq_cst(&h->root->threads_high), "more thread slots than there are");
}

static hshm_status
check_above(struct check *check)
{
    const struct slab_heap *h = &check->a->slab;
    const uint64_t above = min_u64(h->count - run_high(h), UNUSED_LOOKED_AT);
    uint64_t next;
    hshm_status status = HSHM_OK;
    check->unit = "slice, counted from the last";
    for (uint64_t slice = run_high(h); status == HSHM_OK && slice < run_high(h) + above && slice < h->count; slice++)
        status = check_place(check, look_above, h->count - 1 - slice, &next);
    return status;
}

hshm_status
slab_check(hshm_allocator *a, struct check *check)
{
    const struct slab_heap *h = &a->slab;
    hshm_status status = check_places(check, "the root, line", look_at_root, 1);
    if (status == HSHM_OK)
        status = check_places(check, "slice", look_at_slice, run_high(h));
    if (status == HSHM_OK)
        status = check_above(check);
    if (status == HSHM_OK)
        status = check_places(check, "word of taken bits", look_at_taken, words_for(run_high(h)));
    if (status == HSHM_OK)
        status = check_places(check, "thread slot", look_at_thread,
                              min_u64(load_acquire(&h->root->threads_high), h->thread_slots));
    if (status == HSHM_OK)
        status = check_places(check, "shard and class", look_at_shard, (uint64_t)h->shard_count * h->classes);
    if (status == HSHM_OK && a->op_logs != 0)
        status = check_places(check, "the slab of log", look_at_log_slab, a->op_logs);
    return status;
}
