/*
 * inline.h - the short path of the ThreadLocal allocator, to be compiled into the caller.
 *
 * hshm_malloc_inline() and hshm_free_inline() do what hshm_malloc() and hshm_free() do, on every heap.  On a ThreadLocal
 * heap with slices of 64 KiB and blocks of 16 bytes and more (any region of 16 MiB or more, but an array only if it begins
 * at a multiple of 64 KiB), the common case - a block of up
 * to 1024 bytes that this thread's own slabs hold, freed by the thread that owns its slab - runs here, without a call;
 * everything else calls the plain functions.  The plain functions run this very code.
 *
 * What is said here of the inside is for the compiler, not for programs: it may change with the library's version, and a
 * program that includes this header must be compiled again then.  (The library's soname changes too.)
 *
 * How a block is taken and given (see docs/design.md, "ThreadLocal"): a slab's blocks have one bit each in a table apart
 * from them, set = free, and a slab belongs to one thread.  Taking a block is one store, that clears its bit; giving it
 * back is one store, that sets it.  So a process can be killed before or after, but not in between, and a block that was
 * freed already is found out by its bit.  (The compiler may move a plain store of yours before it: publish a block's offset
 * to others by a release store, as you would anyway.)
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

/* Private to a thread: its bins by size, in units of 16 bytes, rounded up. */
struct hshm_inline_heap {
    struct hshm_inline_bin *direct[(HSHM_INLINE_MAX >> HSHM_INLINE_UNIT_SHIFT) + 1];
};

/* Private to a thread: one for each heap of the process, at allocator->thread_off from the thread pointer. */
struct hshm_inline_thread {
    struct hshm_inline_heap *heap; /* never NULL: a thread without one has an empty one that all share */
    uint64_t me;                   /* what a slab's record says when it is this thread's; low 32 bits  */
};

/* In the region: begins a slice's record. */
struct hshm_inline_record {
    uint32_t own; /* whose slab this is; low half of a word of 64 bits, as of `me`       */
    uint32_t own_high;
    uint64_t limit;      /* what is left of a block's offset times the reciprocal is below it   */
    uint64_t reciprocal; /* 2^64 / block size, rounded up, and a little more                    */
    uint32_t left;       /* how many blocks may be freed until the owner must look at the slab  */
};

/* The calling thread's entry for this heap. */
static inline const struct hshm_inline_thread *
hshm_inline_entry(const struct hshm_allocator_base *view)
{
    return (const struct hshm_inline_thread *)(const void *)((const char *)__builtin_thread_pointer() +
                                                             (intptr_t)view->thread_off);
}

/*
 * Set a bit of a word that only its owner changes, and others may read; was it set before?  One store.  In assembler, because
 * of plain C (or atomics) come seven instructions for these three.
 */
static inline bool
// NOLINTNEXTLINE(readability-non-const-parameter): it does not see what the assembler changes
hshm_inline_set(uint64_t *word, uint64_t at)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
    bool was;
    uint64_t bits;
    __asm__("movq %0, %1\n\tbtsq %3, %1\n\tmovq %1, %0" : "+m"(*word), "=&r"(bits), "=@ccc"(was) : "r"(at));
    return was;
#else
    const uint64_t bits = __atomic_load_n(word, __ATOMIC_RELAXED);
    const uint64_t bit = UINT64_C(1) << at % 64;
    __atomic_store_n(word, bits | bit, __ATOMIC_RELAXED);
    return (bits & bit) != 0;
#endif
}

/*
 * Clear a bit that is set in a word that only its owner changes, and others may read.  One store, and one instruction; as an
 * atomic load and store, gcc makes three of it.
 */
static inline void
// NOLINTNEXTLINE(readability-non-const-parameter): it does not see what the assembler changes
hshm_inline_clear(uint64_t *word, uint64_t bit)
{
#if defined(__x86_64__)
    __asm__("xorq %1, %0" : "+m"(*word) : "r"(bit) : "cc");
#else
    __atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED) ^ bit, __ATOMIC_RELAXED);
#endif
}

/*
 * The lowest bit that is set; false: none is.  One instruction finds out both, which of plain C are three.
 */
static inline bool
// NOLINTNEXTLINE(readability-non-const-parameter): it does not see what the assembler changes
hshm_inline_lowest(uint64_t bits, uint64_t *ret_at)
{
#if defined(__x86_64__) && defined(__GCC_ASM_FLAG_OUTPUTS__)
    bool none;
    __asm__("bsfq %2, %1" : "=@ccz"(none), "=r"(*ret_at) : "r"(bits));
    return !none;
#else
    if (bits == 0)
        return false;
    *ret_at = (uint64_t)__builtin_ctzll(bits);
    return true;
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
    uint64_t at;
    if (__builtin_expect(!hshm_inline_lowest(ready, &at), 0)) {
        ready = __atomic_load_n(bin->word, __ATOMIC_RELAXED);
        if (!hshm_inline_lowest(ready, &at))
            return false;
    }
    const uint64_t rest = ready & (ready - 1);
    bin->ready = rest;
    hshm_inline_clear(bin->word, ready ^ rest);
    const uint32_t off = (uint32_t)at * bin->size; /* below 2^32: of 64 blocks of a slab */
    *ret_block = bin->base + off;
    if (*ret_block == NULL)
        __builtin_unreachable(); /* spares the caller's own look */
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

enum hshm_inline_given {
    HSHM_INLINE_DONE,
    HSHM_INLINE_REST,  /* not the common case, or not a live block: nothing was done      */
    HSHM_INLINE_SETTLE /* done, and now the slab is to be looked at: see `left`            */
};

/* The record of this thread's slab in which a block begins there, and the block's number; NULL: it is not the common case. */
static inline struct hshm_inline_record *
hshm_inline_find(const struct hshm_allocator_base *view, const void *addr, uint64_t *ret_block)
{
    /* The data begins at a multiple of a slice's size, or else view->slices is 0. */
    const uint64_t slice = ((uintptr_t)addr - (uintptr_t)view->data) >> HSHM_INLINE_SLICE_SHIFT;
    if (__builtin_expect(slice >= view->slices, 0))
        return NULL;
    struct hshm_inline_record *record =
        (struct hshm_inline_record *)(void *)(view->records + slice * view->record_size);
    /* Relaxed: if it says "mine", this thread wrote it.  It says more after another thread freed a block of the slab. */
    if (__builtin_expect(__atomic_load_n(&record->own, __ATOMIC_RELAXED) != (uint32_t)hshm_inline_entry(view)->me, 0))
        return NULL;
    uint64_t inside;
    *ret_block = hshm_inline_multiply((uint16_t)(uintptr_t)addr, record->reciprocal, &inside);
    if (__builtin_expect(inside >= record->limit, 0))
        return NULL; /* inside a block, or behind the last */
    return record;
}

/* The word that has a block's bit. */
static inline uint64_t *
hshm_inline_word(struct hshm_inline_record *record, uint64_t block)
{
    return (uint64_t *)(void *)((unsigned char *)record + HSHM_INLINE_BITS_OFF) + block / 64;
}

/* Give a block back. */
static inline enum hshm_inline_given
hshm_inline_give(const struct hshm_allocator_base *view, const void *addr)
{
    uint64_t block;
    struct hshm_inline_record *record = hshm_inline_find(view, addr, &block);
    if (__builtin_expect(record == NULL, 0))
        return HSHM_INLINE_REST;
    if (__builtin_expect(hshm_inline_set(hshm_inline_word(record, block), block), 0))
        return HSHM_INLINE_REST; /* free already */
    return __builtin_expect(--record->left == 0, 0) ? HSHM_INLINE_SETTLE : HSHM_INLINE_DONE;
}

/* What an inline free leaves, for each way in which it ends.  Not to be called by programs. */
HSHM_API hshm_status hshm_free_rest(hshm_allocator *allocator, void *addr, enum hshm_inline_given given);

/** hshm_malloc(), its common case inline. */
static inline void *
hshm_malloc_inline(hshm_allocator *allocator, size_t size)
{
    const struct hshm_allocator_base *view = (const struct hshm_allocator_base *)(const void *)allocator;
    if (__builtin_expect(size <= HSHM_INLINE_MAX, 1)) {
        const size_t units = (size + (1u << HSHM_INLINE_UNIT_SHIFT) - 1) >> HSHM_INLINE_UNIT_SHIFT;
        void *block;
        if (__builtin_expect(hshm_inline_take(hshm_inline_entry(view)->heap->direct[units], &block), 1))
            return block;
    }
    return hshm_malloc(allocator, size);
}

/** hshm_free(), its common case inline. */
static inline hshm_status
hshm_free_inline(hshm_allocator *allocator, void *addr)
{
    const struct hshm_allocator_base *view = (const struct hshm_allocator_base *)(const void *)allocator;
    const enum hshm_inline_given given = hshm_inline_give(view, addr);
    return __builtin_expect(given == HSHM_INLINE_DONE, 1) ? HSHM_OK : hshm_free_rest(allocator, addr, given);
}

#ifdef __cplusplus
}
#endif

#endif
