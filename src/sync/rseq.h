/*
 * rseq.h - restartable sequences: a few instructions that end in one store, and begin again (here: report AGAIN) if the thread
 * is taken off its processor before that store.
 *
 * So words that only threads on one processor change, in whatever process, can be changed by plain stores: no two of them run
 * at once there, and one that was interrupted has not stored.  An atomic instruction would do too, but waits until all
 * stores before it have reached the cache, and user programs have just written to the block that they free.
 * (Desnoyers, "The 5-year journey to bring restartable sequences to Linux", 2019; rseq(2); glibc registers each thread.)
 *
 * Nothing here may be single-stepped to its end: a debugger's stop is an interruption.  So callers try a few times only, and
 * have another way.  Where there are none (other processors, old kernels, valgrind, the thread sanitizer, which would
 * not see the stores), rseq_cpu() says so.
 */
#ifndef HSHM_SYNC_RSEQ_H
#define HSHM_SYNC_RSEQ_H

#include "sync/atomic.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if !__has_feature(thread_sanitizer)
#define HSHM_HAS_RSEQ 1
#endif
#else
#define HSHM_HAS_RSEQ 1
#endif
#endif
#if defined(HSHM_HAS_RSEQ) && defined(__has_include)
#if !__has_include(<sys/rseq.h>)
#undef HSHM_HAS_RSEQ
#endif
#endif

/* No processor: the way with atomic instructions is to be taken. */
#define RSEQ_NO_CPU UINT32_MAX

enum rseq_result {
    RSEQ_DONE,  /* the store was made                                                        */
    RSEQ_AGAIN, /* interrupted, on another processor by now, or `own` is not what was wanted */
    RSEQ_NOT    /* the word's bits forbid it                                                 */
};

/* That a word's owner is still whom the caller saw: (*own & mask) == want.  Passed by value: all of it in registers. */
struct rseq_guard {
    const _Atomic uint64_t *own;
    uint64_t mask;
    uint64_t want;
};

#if defined(HSHM_HAS_RSEQ)

#include <sys/rseq.h>

static inline struct rseq *
rseq_area(void)
{
    return (struct rseq *)(void *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

/* On which processor this thread runs; a value that is no processor's number when rseq is not registered. */
static inline uint32_t
rseq_cpu(void)
{
    return *(const volatile uint32_t *)&rseq_area()->cpu_id;
}

/*
 * The frame of a sequence.  The table says where it begins, how long it is, and where to go when it was interrupted; the
 * kernel wants the four bytes before that place to be its signature.  `body` ends with the store.
 */
#define RSEQ_SEQUENCE(body)                                       \
    ".pushsection __rseq_cs, \"aw\"\n\t"                          \
    ".balign 32\n"                                                \
    "30:\n\t"                                                     \
    ".long 0, 0\n\t"                                              \
    ".quad 10f, 20f - 10f, 40f\n\t"                               \
    ".popsection\n\t"                                             \
    "leaq 30b(%%rip), %[scratch]\n\t"                             \
    "movq %[scratch], %[table]\n"                                 \
    "10:\n\t"                                                     \
    "cmpl %[cpu], %[cpu_id]\n\t"                                  \
    "jne 50f\n\t"                                                 \
    "movq %[own], %[scratch]\n\t"                                 \
    "andq %[mask], %[scratch]\n\t"                                \
    "cmpq %[want], %[scratch]\n\t"                                \
    "jne 50f\n\t"                                                 \
    "movq %[word], %[bits]\n\t" body "movq %[scratch], %[word]\n" \
    "20:\n\t"                                                     \
    "xorl %[result], %[result]\n\t"                               \
    "jmp 70f\n"                                                   \
    "50:\n\t"                                                     \
    "movl $1, %[result]\n\t"                                      \
    "jmp 70f\n"                                                   \
    "60:\n\t"                                                     \
    "movl $2, %[result]\n"                                        \
    "70:\n\t"                                                     \
    ".pushsection __rseq_failure, \"ax\"\n\t"                     \
    ".byte 0x0f, 0xb9, 0x3d\n\t"                                  \
    ".long 0x53053053\n"                                          \
    "40:\n\t"                                                     \
    "jmp 50b\n\t"                                                 \
    ".popsection\n\t"

#define RSEQ_OPERANDS                                                                                     \
    [result] "=&r"(result), [bits] "=&r"(bits), [scratch] "=&r"(scratch), [word] "+m"(*(uint64_t *)word), \
        [table] "=m"(rseq->rseq_cs)
#define RSEQ_INPUTS                                                                                              \
    [cpu] "r"(cpu), [cpu_id] "m"(rseq->cpu_id), [own] "m"(*(const uint64_t *)guard.own), [mask] "r"(guard.mask), \
        [want] "r"(guard.want)

/*
 * Clear a set bit of a word: bit *inout_at if it is set, else the lowest, which *inout_at then says.  NOT: none is set.
 * (Who asks for a bit that is likely to be set waits for the branch's prediction only, not for the word.)
 */
static inline __attribute__((always_inline)) enum rseq_result
rseq_take(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t *inout_at)
{
    struct rseq *rseq = rseq_area();
    int result;
    uint64_t bits;
    uint64_t scratch;
    uint64_t at = *inout_at;
    __asm__ volatile(RSEQ_SEQUENCE("movq %[bits], %[scratch]\n\t"
                                   "btrq %[at], %[scratch]\n\t"
                                   "jc 80f\n\t"
                                   "testq %[bits], %[bits]\n\t"
                                   "jz 60f\n\t"
                                   "bsfq %[bits], %[at]\n\t"
                                   "btrq %[at], %[scratch]\n"
                                   "80:\n\t")
                     : RSEQ_OPERANDS, [at] "+&r"(at)
                     : RSEQ_INPUTS
                     : "cc", "memory");
    *inout_at = at;
    return (enum rseq_result)result;
}

/* Set a bit of a word: *ret_bits is what the word was.  NOT: it was set. */
static inline __attribute__((always_inline)) enum rseq_result
rseq_give(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t bit, uint64_t *ret_bits)
{
    struct rseq *rseq = rseq_area();
    int result;
    uint64_t bits;
    uint64_t scratch;
    __asm__ volatile(RSEQ_SEQUENCE("testq %[bit], %[bits]\n\t"
                                   "jnz 60f\n\t"
                                   "movq %[bits], %[scratch]\n\t"
                                   "orq %[bit], %[scratch]\n\t")
                     : RSEQ_OPERANDS
                     : RSEQ_INPUTS, [bit] "r"(bit)
                     : "cc", "memory");
    *ret_bits = bits;
    return (enum rseq_result)result;
}

/* Make a word 0 that is `expected`.  NOT: it is something else. */
static inline __attribute__((always_inline)) enum rseq_result
rseq_empty(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t expected)
{
    struct rseq *rseq = rseq_area();
    int result;
    uint64_t bits;
    uint64_t scratch;
    __asm__ volatile(RSEQ_SEQUENCE("cmpq %[expected], %[bits]\n\t"
                                   "jne 60f\n\t"
                                   "xorl %k[scratch], %k[scratch]\n\t")
                     : RSEQ_OPERANDS
                     : RSEQ_INPUTS, [expected] "r"(expected)
                     : "cc", "memory");
    return (enum rseq_result)result;
}

#else

static inline uint32_t
rseq_cpu(void)
{
    return RSEQ_NO_CPU;
}

static inline enum rseq_result
rseq_take(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t *inout_at)
{
    (void)cpu;
    (void)guard;
    (void)word;
    (void)inout_at;
    return RSEQ_AGAIN;
}

static inline enum rseq_result
rseq_give(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t bit, uint64_t *ret_bits)
{
    (void)bit;
    return rseq_take(cpu, guard, word, ret_bits);
}

static inline enum rseq_result
rseq_empty(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t expected)
{
    return rseq_take(cpu, guard, word, &expected);
}

#endif

#endif
