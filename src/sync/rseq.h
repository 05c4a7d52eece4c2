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
    RSEQ_AGAIN, /* interrupted, on another processor by now, or the guard is not what was wanted */
    RSEQ_NOT    /* the word's bits forbid it                                                 */
};

/* That another word still says what the caller saw.  Passed by value: all of it in registers. */
struct rseq_guard {
    const _Atomic uint64_t *at;
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
 * kernel wants the four bytes before that place to be its signature.  `body` looks at the word, in rax, and changes it there;
 * the store ends it.  By jumps out of it, not by a result: no register and no instruction is spent on telling.
 */
#define RSEQ_SEQUENCE(body)                                \
    ".pushsection __rseq_cs, \"aw\"\n\t"                   \
    ".balign 32\n"                                         \
    "30:\n\t"                                              \
    ".long 0, 0\n\t"                                       \
    ".quad 10f, 20f - 10f, 40f\n\t"                        \
    ".popsection\n\t"                                      \
    "leaq 30b(%%rip), %%rax\n\t"                           \
    "movq %%rax, %[table]\n"                               \
    "10:\n\t"                                              \
    "cmpl %[cpu], %[cpu_id]\n\t"                           \
    "jne %l[again]\n\t"                                    \
    "cmpq %[want], %[guard]\n\t"                           \
    "jne %l[again]\n\t"                                    \
    "movq %[word], %%rax\n\t" body "movq %%rax, %[word]\n" \
    "20:\n\t"                                              \
    ".pushsection __rseq_failure, \"ax\"\n\t"              \
    ".byte 0x0f, 0xb9, 0x3d\n\t"                           \
    ".long 0x53053053\n"                                   \
    "40:\n\t"                                              \
    "jmp %l[again]\n\t"                                    \
    ".popsection\n\t"

/* The words are written, too, which "memory" says: compilers differ in whether a jumping one may have outputs. */
#define RSEQ_INPUTS                                                                                                   \
    [table] "m"(rseq->rseq_cs), [cpu_id] "m"(rseq->cpu_id), [cpu] "r"(cpu), [guard] "m"(*(const uint64_t *)guard.at), \
        [want] "r"(guard.want), [word] "m"(*(const uint64_t *)word)

/* The last lines of each function. */
#define RSEQ_RESULTS   \
    return RSEQ_DONE;  \
again:                 \
    return RSEQ_AGAIN; \
forbidden:             \
    return RSEQ_NOT

/*
 * Clear bit `at` of a word.  NOT: it is clear.  (Who asks for a bit that is likely to be set waits for the branch's prediction
 * only, not for the word.)
 */
static inline __attribute__((always_inline)) enum rseq_result
rseq_take(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t at)
{
    struct rseq *rseq = rseq_area();
    __asm__ goto(RSEQ_SEQUENCE("btrq %[at], %%rax\n\t"
                               "jnc %l[forbidden]\n\t")
                 :
                 : RSEQ_INPUTS, [at] "r"(at)
                 : "rax", "cc", "memory"
                 : again, forbidden);
    RSEQ_RESULTS;
}

/* Set bit `at` of a word.  NOT: it is set. */
static inline __attribute__((always_inline)) enum rseq_result
rseq_give(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t at)
{
    struct rseq *rseq = rseq_area();
    __asm__ goto(RSEQ_SEQUENCE("btsq %[at], %%rax\n\t"
                               "jc %l[forbidden]\n\t")
                 :
                 : RSEQ_INPUTS, [at] "r"(at)
                 : "rax", "cc", "memory"
                 : again, forbidden);
    RSEQ_RESULTS;
}

/* Make a word 0 that is `expected`.  NOT: it is something else. */
static inline __attribute__((always_inline)) enum rseq_result
rseq_empty(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t expected)
{
    struct rseq *rseq = rseq_area();
    __asm__ goto(RSEQ_SEQUENCE("cmpq %[expected], %%rax\n\t"
                               "jne %l[forbidden]\n\t"
                               "xorl %%eax, %%eax\n\t")
                 :
                 : RSEQ_INPUTS, [expected] "r"(expected)
                 : "rax", "cc", "memory"
                 : again, forbidden);
    RSEQ_RESULTS;
}

#else

static inline uint32_t
rseq_cpu(void)
{
    return RSEQ_NO_CPU;
}

static inline enum rseq_result
rseq_take(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t at)
{
    (void)cpu;
    (void)guard;
    (void)word;
    (void)at;
    return RSEQ_AGAIN;
}

static inline enum rseq_result
rseq_give(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t at)
{
    return rseq_take(cpu, guard, word, at);
}

static inline enum rseq_result
rseq_empty(uint32_t cpu, struct rseq_guard guard, _Atomic uint64_t *word, uint64_t expected)
{
    return rseq_take(cpu, guard, word, expected);
}

#endif

#endif
