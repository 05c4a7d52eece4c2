/*
 * alloc_stack.c - a bump pointer that many processes push at once.
 *
 * One word in the region, the top, says how many granules are taken; allocate moves it up by CAS, and the winner owns
 * the granules in between.  What the granules are stands in a table apart from them, two bits each
 * (format/stack_format.h has the codes and the invariants).  So a block needs no header, its size is known, a wrong free
 * is found out, and an overrun reaches other blocks only.
 *
 * The rule that makes it safe without a lock: **whoever owns granules, and nobody else, writes their codes.**
 *   - allocate: winning the CAS on the top owns them, and they are NONE (all at or above the top are)
 *   - free: changing FIRST or LAST to NONE by CAS owns the block; of two that free it, one loses and is told so.  Not to
 *     FREE, which others may claim and give back while the one who frees still writes
 *   - giving back: changing FREE to NONE by CAS owns a run of free granules; if it still ends at the top, the top is
 *     lowered beneath it.  While we own it nobody can take the top below its end, so an unchanged top means what it says
 *     (no ABA), and the granules that appear above the top are NONE.
 *
 * What a kill leaves (">" marks the store that others see):
 *   allocate   1. > top up                          granules NONE below the top: one block's room unusable, nothing else
 *              2. LAST, FIRST written               one word: both at once; two words: LAST first, so that a kill leaves
 *                                                   at most a live block of one granule that nobody will free
 *   free       1. > FIRST/LAST -> NONE              freed; the rest of its codes follow.  A kill here: as above
 *   give back  1. FREE -> NONE   2. > top down      between them: that free room is unusable
 *   release    1. codes FREE  2. given back         between them: free room at the top, which recovery gives back
 * Rewinding gives all of it back.
 *
 * Not here: reuse of freed room that lies beneath live blocks - that is what a stack does not do.
 */
#include "allocator/allocator.h"
#include "allocator/check.h"
#include "allocator/user_slot.h"
#include "base/bits.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/failpoint.h"

#define ALL_FREE UINT64_C(0x5555555555555555) /* 32 times FREE */

/* Granules are GRANULE bytes, and REGION_DEVICE_BLOCK on a device: blocks there are aligned to so many, and the table is small. */
enum { GRANULE_SHIFT = 4, DEVICE_GRANULE_SHIFT = 8 };
static_assert(GRANULE == 1 << GRANULE_SHIFT && REGION_DEVICE_BLOCK == 1 << DEVICE_GRANULE_SHIFT,
              "as the format has them");

static inline uint64_t
bytes_of(const hshm_allocator *a, uint64_t granules)
{
    return granules << a->granule_shift;
}

static inline unsigned char *
address_of(const hshm_allocator *a, uint64_t granule)
{
    return a->data + bytes_of(a, granule);
}

static uint64_t
code_at(uint64_t word, uint64_t granule)
{
    return word >> (2 * granule & 63) & 3;
}

static uint64_t
code_bits(uint64_t code, uint64_t granule)
{
    return code << (2 * granule & 63);
}

/* The bits of granules from..to (both included) of one word. */
static uint64_t
code_mask(uint64_t from, uint64_t to)
{
    const uint64_t low = UINT64_MAX << 2 * (from % STACK_CODES_PER_WORD);
    const uint64_t high = UINT64_MAX >> (62 - 2 * (to % STACK_CODES_PER_WORD));
    return low & high;
}

/* One bit (the lower) for each code that is not 0. */
static uint64_t
nonzero_codes(uint64_t word)
{
    return (word | word >> 1) & ALL_FREE;
}

static stack_word *
word_of(const hshm_allocator *a, uint64_t granule)
{
    return &a->codes[granule / STACK_CODES_PER_WORD];
}

/* What the top's word means, in granules, never beyond the table: it lies in a region, and may hold anything. */
static uint64_t
top_in(const hshm_allocator *a, uint64_t word)
{
    return min_u64(word / STACK_CODE_BITS, a->granules);
}

static uint64_t
top_of(const hshm_allocator *a)
{
    return top_in(a, load_seq_cst(&a->stack->top));
}

/*
 * Move the top between two granules.  False when it is no longer at `from`.  The second try is for a word that no call
 * of ours wrote (odd, or beyond the table): without it, no call could move the top ever again, and some would try forever.
 */
static bool
move_top(const hshm_allocator *a, uint64_t from, uint64_t to)
{
    uint64_t found = from * STACK_CODE_BITS;
    return cas_seq_cst(&a->stack->top, &found, to * STACK_CODE_BITS) ||
           (top_in(a, found) == from && cas_seq_cst(&a->stack->top, &found, to * STACK_CODE_BITS));
}

/* The first granule in [from, end) whose code is not NONE; end if there is none. */
static uint64_t
next_coded(const hshm_allocator *a, uint64_t from, uint64_t end)
{
    for (uint64_t granule = from; granule < end; granule = align_down(granule, STACK_CODES_PER_WORD) + 32) {
        const uint64_t found =
            nonzero_codes(load_acquire(word_of(a, granule))) & (UINT64_MAX << 2 * (granule % STACK_CODES_PER_WORD));
        if (found != 0)
            return min_u64(align_down(granule, STACK_CODES_PER_WORD) + (uint64_t)__builtin_ctzll(found) / 2, end);
    }
    return end;
}

/* The code of the nearest granule below `before` that has one, and which that is; NONE if there is none. */
static uint64_t
previous_code(const hshm_allocator *a, uint64_t before, uint64_t *ret_granule)
{
    while (before > 0) {
        const uint64_t granule = before - 1;
        const uint64_t word = load_acquire(word_of(a, granule));
        const uint64_t found = nonzero_codes(word) & code_mask(0, granule % STACK_CODES_PER_WORD);
        if (found != 0) {
            const uint64_t at = (63 - (uint64_t)__builtin_clzll(found)) / 2;
            *ret_granule = align_down(granule, STACK_CODES_PER_WORD) + at;
            return code_at(word, at);
        }
        before = align_down(granule, STACK_CODES_PER_WORD);
    }
    return STACK_NONE;
}

/* Write one code over granules [from, end), which the caller owns; others change neighbours in the same words. */
static void
set_codes(const hshm_allocator *a, uint64_t from, uint64_t end, uint64_t code)
{
    while (from < end) {
        const uint64_t last = min_u64(align_down(from, STACK_CODES_PER_WORD) + STACK_CODES_PER_WORD, end) - 1;
        const uint64_t mask = code_mask(from, last);
        const uint64_t wanted = ALL_FREE * code & mask;
        stack_word *at = word_of(a, from);
        uint64_t word = load_relaxed(at);
        /* No store where nothing changes: the table of a lazy region has pages that were never touched. */
        while ((word & mask) != wanted && !cas_seq_cst(at, &word, (word & ~mask) | wanted))
            ;
        from = last + 1;
    }
}

/* Make [first, last], which we own, a live block.  LAST before FIRST: see what a kill leaves, above. */
static void
set_block(const hshm_allocator *a, uint64_t first, uint64_t last)
{
    /* Release pairs with the acquire loads of those who look at codes; they need nothing else from us. */
    if (word_of(a, first) == word_of(a, last)) {
        (void)atomic_fetch_or_explicit(word_of(a, first), code_bits(STACK_FIRST, first) | code_bits(STACK_LAST, last),
                                       memory_order_release);
        return;
    }
    (void)atomic_fetch_or_explicit(word_of(a, last), code_bits(STACK_LAST, last), memory_order_release);
    FAILPOINT("stack.last");
    (void)atomic_fetch_or_explicit(word_of(a, first), code_bits(STACK_FIRST, first), memory_order_release);
}

/* Free room at the top that the dead did not give back is looked for once.  False: there is none. */
static NO_INLINE bool
find_room(hshm_allocator *a, bool *looked)
{
    const bool looks = !*looked;
    *looked = true;
    return looks && allocator_for_each_dead(a, a->ops.recover, &(hshm_recover_report){ 0 });
}

static NO_INLINE void *
no_room(hshm_allocator *a, size_t size)
{
    (void)atomic_fetch_add_explicit(&a->stack->failures, 1, memory_order_relaxed);
    return allocator_no_room(a, size, bytes_of(a, a->granules - top_of(a)));
}

/* Take granules for `size` bytes at a multiple of `alignment`; what was left out below them is free room. */
static void *
stack_aligned(hshm_allocator *a, size_t size, size_t alignment)
{
    const uint64_t extra = size == 0 ? 0 : (size - 1) >> a->granule_shift;
    bool looked = false;
    for (;;) {
        const uint64_t top = top_of(a);
        const uint64_t misfit = (uintptr_t)address_of(a, top) & (alignment - 1);
        const uint64_t first = top + (misfit == 0 ? 0 : (alignment - misfit) >> a->granule_shift);
        uint64_t last;
        if (__builtin_add_overflow(first, extra, &last) || last >= a->granules) {
            if (find_room(a, &looked))
                continue;
            return no_room(a, size);
        }
        if (!move_top(a, top, last + 1))
            continue; /* another one got on */
        FAILPOINT("stack.aligned_top");
        set_codes(a, top, first, STACK_FREE);
        FAILPOINT("stack.aligned_free");
        set_block(a, first, last);
        return address_of(a, first);
    }
}

/* What the short path leaves aside: 0 bytes, no room, and a top that another one moved just then. */
static NO_INLINE void *
stack_malloc_slow(hshm_allocator *a, size_t size)
{
    return stack_aligned(a, size, (size_t)1 << a->granule_shift);
}

/* The top was moved for a block that begins at `top` bits; its two ends lie in different words of the table. */
static NO_INLINE void *
finish_in_two_words(hshm_allocator *a, uint64_t top, size_t size)
{
    const uint64_t first = top / STACK_CODE_BITS;
    set_block(a, first, first + ((size - 1) >> a->granule_shift));
    return address_of(a, first);
}

/*
 * The shape is measured: 30 instructions from hshm_malloc() to its return, two of them locked.  All is counted in bits
 * of the table, as the top is, so that its value serves as shift; calls are the last thing on each side path, so that no
 * register needs saving.  `shift` is the granules', and a constant.
 */
static inline __attribute__((always_inline)) void *
bump(hshm_allocator *a, size_t size, unsigned shift)
{
    /* Of the granules beyond the first.  0 bytes become more than any heap has, and fail with the too large. */
    const uint64_t extra = (size - 1) >> (shift - 1) & ~(uint64_t)1;
    uint64_t room;
    if (UNLIKELY(__builtin_sub_overflow(a->code_limit, extra, &room)))
        return stack_malloc_slow(a, size);
    uint64_t top = load_relaxed(&a->stack->top);
    /* Compared, never added to before: it lies in a region, and may be anyone's bytes, even odd. */
    if (UNLIKELY(top >= room))
        return stack_malloc_slow(a, size);
    /* Acquire pairs with the release in lower_top(): the codes of these granules were made NONE before. */
    if (UNLIKELY(!atomic_compare_exchange_strong_explicit(&a->stack->top, &top, top + extra + STACK_CODE_BITS,
                                                          memory_order_acquire, memory_order_relaxed)))
        return stack_malloc_slow(a, size);
    FAILPOINT("stack.top");
    if (UNLIKELY((top ^ (top + extra)) >= 64))
        return finish_in_two_words(a, top, size);
    /* set_block(), for one word.  top and top + extra differ in their low six bits at most, so extra is below 64. */
    // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): it cannot see that
    const uint64_t codes = (uint64_t)STACK_LAST << extra | STACK_FIRST;
    (void)atomic_fetch_or_explicit(&a->codes[top / 64], codes << (top & 63), memory_order_release);
    return a->data + (top << (shift - 1));
}
static_assert(STACK_CODE_BITS == 2, "a granule is so many bits of the table that its bytes are those << (shift - 1)");

static void *
stack_malloc(hshm_allocator *a, size_t size)
{
    return bump(a, size, GRANULE_SHIFT);
}

static void *
stack_malloc_on_device(hshm_allocator *a, size_t size)
{
    return bump(a, size, DEVICE_GRANULE_SHIFT);
}

/* ---- finding blocks ---- */

/* The granule that `addr` is the first byte of; false when it is none of this heap's. */
static bool
granule_of(const hshm_allocator *a, const void *addr, uint64_t *ret_granule)
{
    const uintptr_t off = (uintptr_t)addr - (uintptr_t)a->data;
    *ret_granule = off >> a->granule_shift;
    return off == *ret_granule << a->granule_shift && *ret_granule < a->granules;
}

/*
 * `granule` is a LAST.  Does the block that it ends begin below?
 *
 * The words are read one after the other, downwards.  A block below whose end lies in a higher word than its beginning
 * may be finished meanwhile: its end is not seen yet, its beginning already.  But then its end is seen in a second look:
 * it was written before the beginning, and as long as `granule` is live, it can only come down or go.  So two looks that
 * find the same beginning tell the truth.
 */
static bool
begins_below(const hshm_allocator *a, uint64_t granule)
{
    uint64_t before = granule;
    uint64_t first = granule;
    while (previous_code(a, granule, &first) == STACK_FIRST) {
        if (first == before)
            return true;
        before = first;
    }
    return false;
}

/* Where the block of several granules that begins at `first` ends; false when it has no end, in a damaged region. */
static bool
end_of(const hshm_allocator *a, uint64_t first, uint64_t *ret_last)
{
    *ret_last = next_coded(a, first + 1, a->granules);
    return *ret_last < a->granules && code_at(load_acquire(word_of(a, *ret_last)), *ret_last) == STACK_LAST;
}

/* Where the live block that begins at `first` ends (its last granule); false when none begins there. */
static bool
last_of(const hshm_allocator *a, uint64_t first, uint64_t *ret_last)
{
    const uint64_t code = code_at(load_acquire(word_of(a, first)), first);
    if (code == STACK_LAST) {
        *ret_last = first;
        return !begins_below(a, first);
    }
    return code == STACK_FIRST && end_of(a, first, ret_last);
}

static bool
find_block(const hshm_allocator *a, const void *addr, uint64_t *ret_first, uint64_t *ret_last)
{
    return granule_of(a, addr, ret_first) && last_of(a, *ret_first, ret_last);
}

static size_t
stack_usable_size(hshm_allocator *a, const void *addr)
{
    uint64_t first;
    uint64_t last;
    return find_block(a, addr, &first, &last) ? (size_t)bytes_of(a, last - first + 1) : 0;
}

/* ---- freeing ---- */

static void
note_peak(struct stack_root *root, uint64_t top)
{
    uint64_t peak = load_relaxed(&root->peak);
    while (peak < top &&
           !atomic_compare_exchange_weak_explicit(&root->peak, &peak, top, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* We own [from, end), all NONE.  Lower the top beneath them if they still lie at the top. */
static bool
lower_top(hshm_allocator *a, uint64_t from, uint64_t end)
{
    note_peak(a->stack, end);
    /* Release pairs with the acquire in stack_malloc().  Sequentially consistent for give_top_back(). */
    return move_top(a, end, from);
}

/* How many codes of `word` are FREE, without a gap, from granule `to` downwards.  `to` is counted within the word. */
static uint64_t
free_run(uint64_t word, uint64_t to)
{
    const uint64_t others = nonzero_codes(word ^ ALL_FREE) & code_mask(0, to);
    return others == 0 ? to + 1 : to - (63 - (uint64_t)__builtin_clzll(others)) / 2;
}

/* Own the run of FREE granules that ends below `end`: make it NONE.  Returns where it begins; end if there is none. */
static uint64_t
claim_free_below(hshm_allocator *a, uint64_t end)
{
    uint64_t from = end;
    while (from > 0) {
        const uint64_t to = (from - 1) % STACK_CODES_PER_WORD;
        stack_word *at = word_of(a, from - 1);
        uint64_t word = load_seq_cst(at);
        uint64_t run;
        do {
            run = free_run(word, to);
        } while (run > 0 && !cas_seq_cst(at, &word, word & ~code_mask(to + 1 - run, to)));
        from -= run;
        if (run <= to)
            break; /* stopped inside the word */
    }
    return from;
}

/*
 * Give free room at the top back, as long as there is some.
 *
 * Called after codes became FREE.  Two that free neighbouring blocks at once must not both miss that the lower one has
 * come to lie at the top: each writes (its codes, or the top) before it reads (the top, or the codes), all of it
 * sequentially consistent, so one of them sees the other.
 */
static void
give_top_back(hshm_allocator *a)
{
    for (;;) {
        const uint64_t end = top_of(a);
        const uint64_t from = claim_free_below(a, end);
        if (from == end)
            return;
        FAILPOINT("stack.free_claimed");
        if (!lower_top(a, from, end))
            set_codes(a, from, end, STACK_FREE); /* someone allocated above: it is free room inside again */
    }
}

/* We own [from, end), whose codes may be anything: they become free room. */
static void
release_range(hshm_allocator *a, uint64_t from, uint64_t end)
{
    if (end == top_of(a)) {
        /* The common case, freeing what was taken last: without writing FREE over all of it first. */
        set_codes(a, from, end, STACK_NONE);
        FAILPOINT("stack.none");
        if (lower_top(a, from, end)) {
            FAILPOINT("stack.lowered");
            give_top_back(a);
            return;
        }
    }
    set_codes(a, from, end, STACK_FREE);
    FAILPOINT("stack.free");
    give_top_back(a);
}

/*
 * Own the live block that begins at `first`.  Of several that try, one wins: its code changes to NONE once.
 *
 * What is found out before may be true of a block that is freed, and its room taken anew, before the CAS.  So the CAS
 * compares the whole word that it was found out from, and where a block of several granules ends is asked when it is ours.
 */
static bool
claim_block(const hshm_allocator *a, uint64_t first, uint64_t *ret_last)
{
    stack_word *at = word_of(a, first);
    uint64_t word = load_acquire(at);
    uint64_t code;
    do {
        code = code_at(word, first);
        if (code != STACK_FIRST && (code != STACK_LAST || begins_below(a, first)))
            return false;
    } while (!cas_acq_rel(at, &word, word ^ code_bits(code, first)));
    FAILPOINT("stack.claimed");
    *ret_last = first;
    if (code == STACK_LAST || end_of(a, first, ret_last))
        return true;
    (void)atomic_fetch_or_explicit(at, code_bits(code, first), memory_order_release); /* as it was: it is no block */
    return false;
}

static hshm_status
stack_free(hshm_allocator *a, void *addr)
{
    if (addr == NULL)
        return HSHM_OK;
    uint64_t first;
    uint64_t last;
    if (!granule_of(a, addr, &first) || !claim_block(a, first, &last))
        return allocator_bad_free(a, addr);
    (void)atomic_fetch_add_explicit(&a->stack->frees, 1, memory_order_relaxed);
    release_range(a, first, last + 1);
    return HSHM_OK;
}

/* ---- for user slots; see op_log.h ---- */

/*
 * What `won` says of the granules from the block's first to a last one: TAKEN, they are the operation's, as block or not yet;
 * FREEING, they are about to be, or still a live block; FREED, it has nothing to do with them any more.
 */
enum { WON_TAKEN = 1, WON_FREEING = 2, WON_FREED = 3, WON_SHIFT = 2 };

static void *
stack_take_for(hshm_allocator *a, size_t size, struct op *op)
{
    const uint64_t extra = size == 0 ? 0 : (size - 1) >> a->granule_shift;
    bool looked = false;
    for (;;) {
        const uint64_t first = top_of(a);
        uint64_t last;
        if (__builtin_add_overflow(first, extra, &last) || last >= a->granules) {
            if (find_room(a, &looked))
                continue;
            return no_room(a, size);
        }
        if (!op_candidate(a, op, address_of(a, first)))
            return NULL;
        if (!move_top(a, first, last + 1))
            continue; /* another one got on */
        FAILPOINT("stack.slot_top");
        /* Before the block is live: else recovery could not tell ours from one that another took there. */
        atomic_store(&op->log->won, last << WON_SHIFT | WON_TAKEN);
        FAILPOINT("stack.slot_won");
        set_block(a, first, last);
        return address_of(a, first);
    }
}

/* The granules are the operation's: they become free room.  Nobody else can have them before FREED is said. */
static void
release_for(hshm_allocator *a, struct op_log *log, uint64_t first, uint64_t last)
{
    set_codes(a, first, last + 1,
              STACK_NONE); /* a kill in release_range() must leave nothing that looks like a block */
    FAILPOINT("stack.slot_none");
    atomic_store(&log->won, WON_FREED);
    FAILPOINT("stack.slot_freed");
    release_range(a, first, last + 1);
}

static bool
free_for(hshm_allocator *a, struct op_log *log, const void *addr)
{
    uint64_t first;
    uint64_t last;
    if (!find_block(a, addr, &first, &last))
        return false;
    atomic_store(&log->won, last << WON_SHIFT | WON_FREEING);
    FAILPOINT("stack.slot_freeing");
    if (!claim_block(a, first, &last)) {
        store_release(&log->won, 0);
        return false;
    }
    (void)atomic_fetch_add_explicit(&a->stack->frees, 1, memory_order_relaxed);
    release_for(a, log, first, last);
    return true;
}

static hshm_status
stack_give_for(hshm_allocator *a, struct op *op, void *addr)
{
    return free_for(a, op->log, addr) ? HSHM_OK : allocator_bad_free(a, addr);
}

/* Are granules the dead operation's, in that state?  From a region: may say anything. */
static bool
has_won(const hshm_allocator *a, const struct op_log *log, const void *addr, uint64_t state, uint64_t *ret_first,
        uint64_t *ret_last)
{
    const uint64_t won = load_relaxed(&log->won);
    *ret_last = won >> WON_SHIFT;
    return (won & ((1 << WON_SHIFT) - 1)) == state && granule_of(a, addr, ret_first) && *ret_last >= *ret_first &&
           *ret_last < top_of(a);
}

static void
stack_undo_take(hshm_allocator *a, struct op_log *log, uint64_t process, void *addr)
{
    uint64_t first;
    uint64_t last;
    (void)process;
    if (has_won(a, log, addr, WON_TAKEN, &first, &last))
        release_for(a, log, first, last);
}

static void
stack_finish_give(hshm_allocator *a, struct op_log *log, uint64_t process, void *addr)
{
    uint64_t first;
    uint64_t last;
    (void)process;
    if (load_relaxed(&log->won) == 0)
        (void)free_for(a, log, addr);
    else if (has_won(a, log, addr, WON_FREEING, &first, &last))
        release_for(a, log, first, last);
}

/* ---- changing sizes ---- */

/*
 * The block [first, last] ends at `new_last` from now on.  The new end is written before the old one goes, so that the
 * block always has one; a kill between leaves a live block of one granule that nobody will free.
 */
static void
move_end(const hshm_allocator *a, uint64_t first, uint64_t last, uint64_t new_last)
{
    if (new_last == first) { /* to a single granule: FIRST becomes LAST */
        (void)atomic_fetch_or_explicit(word_of(a, first), code_bits(STACK_LAST, first), memory_order_release);
        FAILPOINT("stack.single_end");
        set_codes(a, last, last + 1, STACK_NONE);
        return;
    }
    (void)atomic_fetch_or_explicit(word_of(a, new_last), code_bits(STACK_LAST, new_last), memory_order_release);
    FAILPOINT("stack.new_end");
    set_codes(a, last, last + 1, last == first ? STACK_FIRST : STACK_NONE);
}

/* Grow [first, last] to new_last, if it is the top block and there is room. */
static bool
grow_top(hshm_allocator *a, uint64_t first, uint64_t last, uint64_t new_last)
{
    if (new_last >= a->granules || !move_top(a, last + 1, new_last + 1))
        return false;
    FAILPOINT("stack.grown_top");
    move_end(a, first, last, new_last);
    return true;
}

static void *
stack_realloc(hshm_allocator *a, void *addr, size_t size)
{
    uint64_t first;
    uint64_t last;
    if (!find_block(a, addr, &first, &last)) {
        (void)allocator_bad_free(a, addr);
        return NULL;
    }
    const uint64_t extra = size == 0 ? 0 : (size - 1) >> a->granule_shift;
    if (extra >= a->granules)
        return no_room(a, size);
    const uint64_t new_last = first + extra;
    if (new_last < last) {
        move_end(a, first, last, new_last);
        FAILPOINT("stack.shrunk");
        release_range(a, new_last + 1, last + 1);
        return addr;
    }
    if (new_last == last || grow_top(a, first, last, new_last))
        return addr;

    void *moved = a->ops.malloc(a, size);
    if (moved == NULL)
        return NULL;
    /* They overlap only where the top was damaged; even then nothing but blocks may be hurt. */
    const bool is_copied = allocator_move_bytes(a, moved, addr, bytes_of(a, last - first + 1));
    FAILPOINT("stack.realloc_copied");
    (void)stack_free(a, is_copied ? addr : moved);
    return is_copied ? moved : NULL;
}

/* ---- after a death ---- */

/* What was unusable stays so: whose the codes NONE below the top are, its dead owner or a live one, nothing tells. */
static void
stack_recover(hshm_allocator *a, uint32_t process, hshm_recover_report *report)
{
    op_recover(a, process, report);
    give_top_back(a);
}

/* ---- marks ---- */

static hshm_status
stack_mark(hshm_allocator *a, hshm_stack_height *ret_height)
{
    *ret_height = top_of(a);
    return HSHM_OK;
}

/* Live blocks that end in [from, end): each has one LAST. */
static uint64_t
count_blocks(const hshm_allocator *a, uint64_t from, uint64_t end)
{
    uint64_t blocks = 0;
    while (from < end) {
        const uint64_t last = min_u64(align_down(from, STACK_CODES_PER_WORD) + STACK_CODES_PER_WORD, end) - 1;
        const uint64_t word = load_relaxed(word_of(a, from)) & code_mask(from, last);
        blocks += bits_count(word & word >> 1 & ALL_FREE);
        from = last + 1;
    }
    return blocks;
}

/*
 * Codes first, upwards, then the top: a kill leaves room that is unusable until the next rewind, never a block without
 * an end.
 */
static hshm_status
stack_rewind(hshm_allocator *a, hshm_stack_height height)
{
    uint64_t top = top_of(a);
    if (height > top)
        return fail(HSHM_E_INVAL, "cannot rewind the stack %u.%u to %s: its top is at %s", a->id.major, a->id.minor,
                    size_text(bytes_of(a, height)).s, size_text(bytes_of(a, top)).s);
    uint64_t below;
    if (previous_code(a, height, &below) == STACK_FIRST)
        return fail(HSHM_E_INVAL,
                    "cannot rewind the stack %u.%u to %s: a live block begins below and ends above; take marks "
                    "before the blocks that they shall free",
                    a->id.major, a->id.minor, size_text(bytes_of(a, height)).s);
    do {
        top = top_of(a);
        (void)atomic_fetch_add_explicit(&a->stack->frees, count_blocks(a, height, top), memory_order_relaxed);
        set_codes(a, height, top, STACK_NONE);
        FAILPOINT("stack.rewound_codes");
        note_peak(a->stack, top);
        /* Fails only when another works on the heap against the contract; then what he took goes too. */
    } while (top > height && !move_top(a, top, height));
    FAILPOINT("stack.rewound");
    give_top_back(a);
    return HSHM_OK;
}

/* ---- looking ---- */

/* The next live block that begins in [from, end).  False when there is none. */
static bool
next_block(const hshm_allocator *a, uint64_t from, uint64_t end, uint64_t *ret_first, uint64_t *ret_last)
{
    for (uint64_t first = next_coded(a, from, end); first < end; first = next_coded(a, first + 1, end)) {
        const uint64_t code = code_at(load_acquire(word_of(a, first)), first);
        *ret_first = *ret_last = first;
        if (code == STACK_LAST)
            return true;
        if (code != STACK_FIRST)
            continue;
        *ret_last = next_coded(a, first + 1, end);
        if (*ret_last < end && code_at(load_acquire(word_of(a, *ret_last)), *ret_last) == STACK_LAST)
            return true;
    }
    return false;
}

static hshm_status
stack_visit(hshm_allocator *a, hshm_visit_fn fn, void *arg)
{
    const uint64_t top = top_of(a);
    uint64_t first;
    uint64_t last;
    for (uint64_t from = 0; next_block(a, from, top, &first, &last); from = last + 1) {
        const hshm_block block = { address_of(a, first), a->layout.data_off + bytes_of(a, first),
                                   bytes_of(a, last - first + 1) };
        if (fn(&block, arg) != 0)
            break;
    }
    return HSHM_OK;
}

static void
stack_stats(hshm_allocator *a, hshm_stats *ret_stats)
{
    const uint64_t top = top_of(a);
    uint64_t first;
    uint64_t last;
    for (uint64_t from = 0; next_block(a, from, top, &first, &last); from = last + 1) {
        ret_stats->live_blocks++;
        ret_stats->live_bytes += bytes_of(a, last - first + 1);
    }
    ret_stats->used_bytes = bytes_of(a, top);
    ret_stats->peak_bytes = bytes_of(a, min_u64(max_u64(top, load_relaxed(&a->stack->peak)), a->granules));
    ret_stats->largest_free = bytes_of(a, a->granules - top);
    ret_stats->frees = load_relaxed(&a->stack->frees);
    ret_stats->allocs = ret_stats->live_blocks + ret_stats->frees;
    ret_stats->failures = load_relaxed(&a->stack->failures);
}

static hshm_status
stack_trim(hshm_allocator *a, uint64_t keep, uint64_t *ret_bytes)
{
    const struct allocator_system *system = &a->system;
    op_recover_dead(a);
    if (system->give_back == NULL || system->reserved)
        return fail(HSHM_E_NOTSUP, "the stack %u.%u cannot be trimmed: its memory %s", a->id.major, a->id.minor,
                    system->give_back == NULL ? ALLOCATOR_NO_GIVE_BACK
                                              : "was reserved when it was created (create it with HSHM_COMMIT_LAZY)");
    const uint64_t used = a->layout.data_off + bytes_of(a, top_of(a));
    if (keep > a->region_size - used)
        return HSHM_OK;
    const uint64_t from = align_up(used + keep, system->page_size);
    const uint64_t end = align_down(a->region_size, system->page_size);
    if (from >= end)
        return HSHM_OK;
    const uint64_t before = system->committed(system->arg);
    const hshm_status status = system->give_back(system->arg, from, end - from);
    const uint64_t after = system->committed(system->arg);
    *ret_bytes = before > after ? before - after : 0;
    return status;
}

/* ---- checking; see check.h ---- */

/*
 * What a process that is stopped, or was killed, leaves (format/stack_format.h has the invariants):
 *   nothing is coded at or above the top    nobody: the top goes up before codes are written, and down after they are NONE
 *   FIRST is followed by LAST               nobody: LAST is written before FIRST, and goes after it
 *   the granule under the top is not FREE   between its code and the top; nothing tells by whom
 */
static void
look_at_top(struct check *check, uint64_t place, struct check_look *look)
{
    const hshm_allocator *a = check->a;
    const uint64_t word = load_seq_cst(&a->stack->top);
    const uint64_t top = word / STACK_CODE_BITS;
    (void)place;
    if (top > a->granules || word % STACK_CODE_BITS != 0)
        check_note(look, CHECK_WRONG, word, "it lies outside the data, or inside a granule");
    else if (top > 0 && code_at(load_seq_cst(word_of(a, top - 1)), top - 1) == STACK_FREE &&
             load_seq_cst(&a->stack->top) == word)
        check_note(look, CHECK_STALE, word, "free room below it was not given back");
}

/* The next granule that says something, at or above `place`: of a block, the first. */
static void
look_at_code(struct check *check, uint64_t place, struct check_look *look)
{
    const hshm_allocator *a = check->a;
    const uint64_t at = next_coded(a, place, a->granules);
    uint64_t last = at;
    look->next = at < a->granules ? at + 1 : at;
    if (at == a->granules)
        return;
    const uint64_t code = code_at(load_seq_cst(word_of(a, at)), at);
    if (code == STACK_FIRST && end_of(a, at, &last))
        look->next = last + 1;
    else if (code == STACK_FIRST)
        check_note(look, CHECK_WRONG, at, "a block without an end");
    /* After the codes: who writes one raised the top before. */
    if (code != STACK_NONE && last >= top_of(a))
        check_note(look, CHECK_WRONG, last, "a block above the top");
}

static hshm_status
stack_check(hshm_allocator *a, struct check *check)
{
    hshm_status status = check_places(check, "the top, line", look_at_top, 1);
    check->report.slices = top_of(a);
    return status == HSHM_OK ? check_places(check, "granule", look_at_code, a->granules) : status;
}

/* ---- making ---- */

/* Where the data has a place of its own, apart from the rest: as many granules as it holds. */
static hshm_status
layout_on_device(const struct heap_wish *wish, struct heap_layout *ret_layout)
{
    const uint64_t begin = align_up(wish->heap_off, CACHE_LINE);
    const uint64_t granules = (wish->region_size - wish->data_off) >> DEVICE_GRANULE_SHIFT;
    const uint64_t root = begin + stack_table_size(granules);
    const uint64_t root_size = sizeof(struct stack_root) + op_table_size(wish->scale);
    const uint64_t custom = root + root_size;
    if (custom > wish->data_off || wish->custom_size > wish->data_off - custom)
        return allocator_no_layout("Stack", wish, custom);
    *ret_layout = (struct heap_layout){
        .table_off = begin,
        .table_size = stack_table_size(granules),
        .root_off = root,
        .root_size = root_size,
        .custom_off = wish->custom_size == 0 ? 0 : custom,
        .custom_size = wish->custom_size,
        .data_off = wish->data_off,
        .data_size = granules << DEVICE_GRANULE_SHIFT,
        .min_block = REGION_DEVICE_BLOCK,
    };
    return HSHM_OK;
}

static hshm_status
layout_in_region(const struct heap_wish *wish, struct heap_layout *ret_layout)
{
    /* A cache line of table serves this much data. */
    const uint64_t per_line = CACHE_LINE * UINT64_C(4) * GRANULE;
    const uint64_t begin = align_up(wish->heap_off, CACHE_LINE);
    const uint64_t root_size = sizeof(struct stack_root) + op_table_size(wish->scale);
    const uint64_t fixed = begin + root_size;
    const uint64_t custom_size = wish->custom_size;
    const uint64_t region_size = wish->region_size;
    const uint64_t custom = custom_size <= region_size ? align_up(custom_size, CACHE_LINE) : custom_size;
    const uint64_t least = fixed + CACHE_LINE + GRANULE;
    if (least > region_size || custom > region_size - least)
        return allocator_no_layout("Stack", wish, least);

    const uint64_t room = region_size - fixed - custom;
    const uint64_t rest = room % (per_line + CACHE_LINE);
    const uint64_t granules =
        room / (per_line + CACHE_LINE) * (per_line / GRANULE) + (rest > CACHE_LINE ? (rest - CACHE_LINE) / GRANULE : 0);
    ret_layout->table_off = begin;
    ret_layout->table_size = stack_table_size(granules);
    ret_layout->root_off = begin + ret_layout->table_size;
    ret_layout->root_size = root_size;
    ret_layout->custom_size = custom_size;
    ret_layout->custom_off = custom_size == 0 ? 0 : ret_layout->root_off + ret_layout->root_size;
    ret_layout->data_off = ret_layout->root_off + ret_layout->root_size + custom;
    ret_layout->data_size = granules * GRANULE;
    ret_layout->min_block = GRANULE;
    return HSHM_OK;
}

static hshm_status
stack_layout(const struct heap_wish *wish, struct heap_layout *ret_layout)
{
    return wish->data_off != 0 ? layout_on_device(wish, ret_layout) : layout_in_region(wish, ret_layout);
}

static hshm_status
stack_check_layout(const struct heap_layout *layout, const char *name)
{
    const uint64_t granule = layout->min_block;
    if ((granule != GRANULE && granule != REGION_DEVICE_BLOCK) || layout->data_size == 0 ||
        layout->data_size % granule != 0 || layout->table_size < stack_table_size(layout->data_size / granule) ||
        layout->root_size < sizeof(struct stack_root) || layout->root_off == 0 || layout->table_off == 0)
        return fail(HSHM_E_CORRUPT, "%s is damaged: table (%s), root (%s) and data (%s) are no Stack heap's", name,
                    size_text(layout->table_size).s, size_text(layout->root_size).s, size_text(layout->data_size).s);
    return HSHM_OK;
}

static void
stack_view(hshm_allocator *a)
{
    a->codes = (stack_word *)(void *)(a->view.base + a->layout.table_off);
    a->stack = (struct stack_root *)(void *)(a->view.base + a->layout.root_off);
    a->data = a->view.base + a->layout.data_off;
    a->granule_shift = a->layout.min_block == GRANULE ? GRANULE_SHIFT : DEVICE_GRANULE_SHIFT;
    if (a->granule_shift != GRANULE_SHIFT)
        a->ops.malloc = stack_malloc_on_device;
    a->granules = a->layout.data_size >> a->granule_shift;
    a->code_limit = a->granules * STACK_CODE_BITS - 1;
}

static hshm_status
stack_init(hshm_allocator *a, const struct heap_wish *wish)
{
    stack_view(a); /* all is zero, and so it begins */
    op_init(a, sizeof(struct stack_root), wish->scale);
    return HSHM_OK;
}

static hshm_status
stack_open(hshm_allocator *a, const char *name)
{
    stack_view(a);
    op_view(a, sizeof(struct stack_root));
    const uint64_t top = load_acquire(&a->stack->top);
    const uint64_t bits = a->granules * STACK_CODE_BITS;
    if (top > bits || top % STACK_CODE_BITS != 0)
        return fail(HSHM_E_CORRUPT,
                    "%s is damaged: the top of its stack (%llu) lies outside its %llu bits of table; do not use "
                    "it, restore it from a copy or remove it",
                    name, (unsigned long long)top, (unsigned long long)bits);
    return HSHM_OK;
}

static void
stack_close(hshm_allocator *a)
{
    (void)a; /* all there is lies in the region */
}

const struct allocator_ops alloc_stack_ops = {
    .malloc = stack_malloc,
    .free = stack_free,
    .aligned = stack_aligned,
    .realloc = stack_realloc,
    .take_for = stack_take_for,
    .give_for = stack_give_for,
    .undo_take = stack_undo_take,
    .finish_give = stack_finish_give,
    .allocate_to = user_slot_allocate,
    .free_from = user_slot_free,
    .usable_size = stack_usable_size,
    .visit = stack_visit,
    .trim = stack_trim,
    .mark = stack_mark,
    .rewind = stack_rewind,
    .stats = stack_stats,
    .check = stack_check,
    .kind = HSHM_ALLOCATOR_STACK,
    .title = "Stack",
    .layout = stack_layout,
    .check_layout = stack_check_layout,
    .init = stack_init,
    .open = stack_open,
    .close = stack_close,
    .recover = stack_recover,
    .remake = give_top_back,
};
