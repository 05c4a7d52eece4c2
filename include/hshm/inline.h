/*
 * inline.h - the short path of the ThreadLocal allocator, to be compiled into the caller.
 *
 * hshm_malloc_inline() and hshm_free_inline() do what hshm_malloc() and hshm_free() do, on every heap.  On a ThreadLocal
 * heap with slices of 64 KiB and blocks of 16 bytes and more (any region of 16 MiB or more), the common case - a block of up
 * to 1024 bytes that this thread's own slabs hold, freed by the thread that owns its slab - runs here, without a call;
 * everything else calls the plain functions.  The plain functions run this very code.
 *
 * What is said here of the inside is for the compiler, not for programs: it may change with the library's version, and a
 * program that includes this header must be compiled again then.  (The library's soname changes too.)
 *
 * How a block is taken and given (see docs/design.md, "ThreadLocal"): a slab's blocks have one bit each in a table apart
 * from them, set = free, and a slab belongs to one thread.  Taking a block is one store, that clears its bit; giving it
 * back is one store, that sets it.  So a process can be killed before or after, but not in between, and a block that was
 * freed already is found out by its bit.
 */
#ifndef HSHM_INLINE_H
#define HSHM_INLINE_H

#include <hshm/allocator.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    HSHM_INLINE_MAX = 1024,       /* bytes: larger requests take the plain call */
    HSHM_INLINE_UNIT_SHIFT = 4,   /* log2 of the smallest block                 */
    HSHM_INLINE_SLICE_SHIFT = 16, /* log2 of a slice's bytes                    */
    HSHM_INLINE_BITS_OFF = 64     /* where in a record the free bits are        */
};

/*
 * Private to a thread: where the next blocks of one size class come from.  Up to 64 blocks, one word of bits.  `ready` are
 * those of its free blocks that were free when it was last looked at; blocks come from them in turn, so that a block that
 * is just being freed is not waited for.
 */
struct hshm_inline_bin {
    uint64_t ready;
    uint64_t *word;      /* in the region; or a word that is always 0 */
    unsigned char *base; /* the block of the word's lowest bit        */
    uint32_t size;       /* bytes a block                             */
};

/*
 * Private to a thread: its bins by size, in units of 16 bytes, rounded up; and the slab that blocks were taken from last,
 * whose numbers a free needs not wait for.
 */
struct hshm_inline_heap {
    struct hshm_inline_bin *direct[(HSHM_INLINE_MAX >> HSHM_INLINE_UNIT_SHIFT) + 1];
    unsigned char *hot_base;        /* that slab's first byte                                 */
    uint64_t hot_size;              /* and how many it has; 0: there is no such slab          */
    struct hshm_inline_record *hot; /* and its record                                         */
    uint64_t hot_reciprocal;        /* the record's                                           */
    uint64_t hot_limit;             /* likewise                                               */
    uint64_t me;                    /* what a slab's record says when it is this thread's     */
};

/* In the region: begins a slice's record. */
struct hshm_inline_record {
    uint32_t own;        /* whose slab this is; low half of a word of 64 bits, as of `me`       */
    uint32_t own_high;
    uint64_t limit;      /* what is left of a block's offset times the reciprocal is below it   */
    uint64_t reciprocal; /* 2^64 / block size, rounded up, and a little more                    */
    uint32_t left;       /* how many blocks may be freed until the owner must look at the slab  */
    uint32_t left_from;
    uint64_t other[3];
    uint64_t news;       /* others freed blocks that the owner does not know of: not 0          */
};

/*
 * The calling thread's part of this heap, found at a distance from the thread pointer.  Never NULL: a thread that has none
 * yet has an empty one, which all such threads share.
 */
static inline struct hshm_inline_heap *
hshm_inline_heap_of(const struct hshm_allocator_base *view)
{
    return *(struct hshm_inline_heap *const *)(const void *)((const char *)__builtin_thread_pointer() +
                                                             view->thread_off);
}

/* Set a bit of a word in a register; was it set before?  (One instruction, where three would come of plain C.) */
static inline bool
hshm_inline_set_bit(uint64_t *bits, uint64_t at)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
    bool was;
    __asm__("btsq %2, %0" : "+r"(*bits), "=@ccc"(was) : "r"(at));
    return was;
#else
    const uint64_t before = *bits;
    *bits |= UINT64_C(1) << at % 64;
    return *bits == before;
#endif
}

/* Is a word that others may set just now not 0?  (As an atomic load, gcc makes an instruction more of it.) */
static inline bool
hshm_inline_is_set(const uint64_t *word)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
    bool is;
    __asm__ volatile("cmpq $0, %1" : "=@ccnz"(is) : "m"(*word));
    return is;
#else
    return __atomic_load_n(word, __ATOMIC_RELAXED) != 0;
#endif
}

/*
 * Clear a bit that is set in a word that only its owner changes, and others may read.  One store, and one instruction; as an
 * atomic load and store, gcc makes three of it.
 */
static inline void
hshm_inline_clear(uint64_t *word, uint64_t bit)
{
#if defined(__x86_64__)
    __asm__("xorq %1, %0" : "+m"(*word) : "r"(bit) : "cc");
#else
    __atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) ^ bit, __ATOMIC_RELAXED);
#endif
}

/*
 * Take a block of a bin: true, and where it is.  One store takes it.  Relaxed: only the owner changes the word, and what a
 * kill leaves is a prefix of its stores.
 */
static inline bool
hshm_inline_take(struct hshm_inline_bin *bin, void **ret_block)
{
    uint64_t ready = bin->ready;
    if (__builtin_expect(ready == 0, 0)) {
        ready = __atomic_load_n(bin->word, __ATOMIC_RELAXED);
        if (ready == 0)
            return false;
    }
    const uint64_t rest = ready & (ready - 1);
    bin->ready = rest;
    hshm_inline_clear(bin->word, ready ^ rest);
    *ret_block = bin->base + (uint32_t)__builtin_ctzll(ready) * bin->size;
    return true;
}

/*
 * Block number and remainder of an offset in a slab at once: x * (2^64 / size), where the number is the product's high half,
 * and the low half tells whether anything remains.  (Lemire, Kaser, Kurz, "Faster remainder by direct computation", 2019.)
 * Here the factor is a little larger than 2^64 / size, by so much that the low half reaches `limit` exactly where
 * the slab has no more blocks: one comparison finds out addresses inside blocks and those behind the last one.
 * In assembler, because gcc 12 moves the registers of a product of 128 bits about twice.
 */
static inline uint64_t
hshm_inline_multiply(uint64_t x, uint64_t reciprocal, uint64_t *ret_low)
{
#if defined(__x86_64__) && !defined(__clang__)
    uint64_t high;
    __asm__("mulq %3" : "=a"(*ret_low), "=d"(high) : "0"(x), "rm"(reciprocal) : "cc");
    return high;
#else
    __extension__ typedef unsigned __int128 product_type;
    const product_type product = (product_type)x * reciprocal;
    *ret_low = (uint64_t)product;
    return (uint64_t)(product >> 64);
#endif
}

/* Set the block's bit in its slab's record.  False, and the bit is as it was, when this is not the common case. */
static inline bool
hshm_inline_give_to(struct hshm_inline_record *record, uint64_t inside, uint64_t reciprocal, uint64_t limit)
{
    uint64_t rest;
    const uint64_t block = hshm_inline_multiply(inside, reciprocal, &rest);
    if (__builtin_expect(rest >= limit, 0))
        return false; /* inside a block, or behind the last */
    uint64_t *word = (uint64_t *)(void *)((unsigned char *)record + HSHM_INLINE_BITS_OFF) + block / 64;
    uint64_t bits = __atomic_load_n(word, __ATOMIC_RELAXED);
    if (__builtin_expect(hshm_inline_set_bit(&bits, block), 0))
        return false; /* free already */
    if (__builtin_expect(hshm_inline_is_set(&record->news), 0))
        return false; /* perhaps too, by another thread: the plain call looks */
    if (__builtin_expect(--record->left == 0, 0))
        return false; /* the slab's last block, perhaps: the plain call looks, and counts anew */
    __atomic_store_n(word, bits, __ATOMIC_RELAXED);
    return true;
}

/*
 * Give a block back.  False, and the block is as it was, when this is not the common case (or not a live block); then
 * hshm_free_rest() must be called, and not this again: `left` has been counted.
 *
 * The slab that blocks were taken from last comes first: its numbers are at hand, so that the next block's address does not
 * wait for this one's record (a pair of malloc and free takes 29 % less time so, measured, and four instructions less).
 */
static inline bool
hshm_inline_give(const struct hshm_allocator_base *view, const void *addr)
{
    const struct hshm_inline_heap *heap = hshm_inline_heap_of(view);
    const uint64_t inside_hot = (uintptr_t)addr - (uintptr_t)heap->hot_base;
    if (inside_hot < heap->hot_size)
        return hshm_inline_give_to(heap->hot, inside_hot, heap->hot_reciprocal, heap->hot_limit);

    /* The data begins at a multiple of a slice's size, or else view->slices is 0. */
    const uint64_t slice = ((uintptr_t)addr - (uintptr_t)view->data) >> HSHM_INLINE_SLICE_SHIFT;
    if (__builtin_expect(slice >= view->slices, 0))
        return false;
    struct hshm_inline_record *record =
        (struct hshm_inline_record *)(void *)(view->records + slice * view->record_size);
    /* Relaxed: if it says "mine", this thread wrote it. */
    if (__builtin_expect(__atomic_load_n(&record->own, __ATOMIC_RELAXED) != (uint32_t)heap->me, 0))
        return false;
    return hshm_inline_give_to(record, (uint16_t)(uintptr_t)addr, record->reciprocal, record->limit);
}

/* What hshm_free_inline() leaves: everything but the common case.  Not to be called by programs. */
HSHM_API hshm_status hshm_free_rest(hshm_allocator *allocator, void *addr);

/** hshm_malloc(), its common case inline. */
static inline void *
hshm_malloc_inline(hshm_allocator *allocator, size_t size)
{
    const struct hshm_allocator_base *view = (const struct hshm_allocator_base *)(const void *)allocator;
    if (__builtin_expect(size <= HSHM_INLINE_MAX, 1)) {
        const size_t units = (size + (1u << HSHM_INLINE_UNIT_SHIFT) - 1) >> HSHM_INLINE_UNIT_SHIFT;
        void *block;
        if (__builtin_expect(hshm_inline_take(hshm_inline_heap_of(view)->direct[units], &block), 1))
            return block;
    }
    return hshm_malloc(allocator, size);
}

/** hshm_free(), its common case inline. */
static inline hshm_status
hshm_free_inline(hshm_allocator *allocator, void *addr)
{
    const struct hshm_allocator_base *view = (const struct hshm_allocator_base *)(const void *)allocator;
    return __builtin_expect(hshm_inline_give(view, addr), 1) ? HSHM_OK : hshm_free_rest(allocator, addr);
}

#ifdef __cplusplus
}
#endif

#endif
