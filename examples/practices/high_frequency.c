/*
 * high_frequency.c - many small blocks, taken and freed by several threads, and freed by others than who took them.
 *
 * Advice: at high frequency use a ThreadLocal heap: each thread takes blocks from slabs of its own, without a lock.  Its short
 * path can be compiled into the program, by <hshm/inline.h>; that matters where a block is taken every few dozen nanoseconds.
 * Blocks may be freed by any thread, and go back to the thread whose they were.
 */
#include "practice.h"

#include <hshm/inline.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 4, BLOCKS_EACH = 200000, BOX = 256, HELD = 64, PAIRS = 1000000 };

static const hshm_allocator_id id = { 1, 0 };
static hshm_allocator *heap;

struct message {
    uint64_t from;
    uint64_t number;
    uint64_t payload[5];
};

/* Where one thread leaves messages for the next one: a ring with one writer and one reader. */
struct box {
    _Atomic uint64_t written; /* by the writer: pairs with the reader's acquire  */
    _Atomic uint64_t read;    /* by the reader: pairs with the writer's acquire  */
    struct message *messages[BOX];
};
static struct box boxes[THREADS];

/* Take as many as are there, check and free them: they are another thread's blocks. */
static uint64_t
receive(struct box *box, uint64_t from, uint64_t so_far)
{
    const uint64_t there = atomic_load_explicit(&box->written, memory_order_acquire);
    for (; so_far < there; so_far++) {
        struct message *message = box->messages[so_far % BOX];
        expect(message->from == from && message->number == so_far && message->payload[4] == from + so_far,
               "a message was overwritten on its way");
        check(hshm_free_inline(heap, message), "cannot free another thread's block");
    }
    atomic_store_explicit(&box->read, so_far, memory_order_release);
    return so_far;
}

static void
send_message(struct box *box, uint64_t from, uint64_t number)
{
    struct message *message = hshm_malloc_inline(heap, sizeof *message);
    expect(message != NULL, "no room for a message");
    *message = (struct message){ from, number, { 0, 0, 0, 0, from + number } };
    box->messages[number % BOX] = message;
    atomic_store_explicit(&box->written, number + 1, memory_order_release);
}

/* Each thread writes to its own box, and reads its neighbour's. */
static void *
pass_messages(void *arg)
{
    struct box *mine = arg;
    const uint64_t me = (uint64_t)(mine - boxes);
    const uint64_t neighbour = (me + 1) % THREADS;
    uint64_t sent = 0;
    uint64_t received = 0;
    while (sent < BLOCKS_EACH || received < BLOCKS_EACH) {
        const uint64_t before = sent + received;
        while (sent < BLOCKS_EACH && sent < atomic_load_explicit(&mine->read, memory_order_acquire) + BOX)
            send_message(mine, me, sent++);
        received = receive(&boxes[neighbour], neighbour, received);
        if (sent + received == before)
            sched_yield(); /* the neighbour has to run first */
    }
    return NULL;
}

static void
freed_by_others(void)
{
    pthread_t threads[THREADS];
    const double start = seconds();
    for (int i = 0; i < THREADS; i++)
        expect(pthread_create(&threads[i], NULL, pass_messages, &boxes[i]) == 0, "no thread can be started");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    const double ns = (seconds() - start) * 1e9 / ((double)THREADS * BLOCKS_EACH);
    printf("freed by another thread: %d blocks by %d threads, %.0f ns each\n", THREADS * BLOCKS_EACH, THREADS, ns);
}

/* The same loop twice, once with calls and once without: HELD blocks are held all the time, and each is freed in its turn. */
#define DEFINE_LOOP(NAME, TAKE, GIVE)                              \
    static double NAME(void)                                       \
    {                                                              \
        void *held[HELD] = { NULL };                               \
        const double start = seconds();                            \
        for (size_t i = 0; i < PAIRS; i++) {                       \
            GIVE(heap, held[i % HELD]);                            \
            held[i % HELD] = TAKE(heap, 16 + i % 16 * 8);          \
            expect(held[i % HELD] != NULL, "no room for a block"); \
        }                                                          \
        const double end = seconds();                              \
        for (size_t i = 0; i < HELD; i++)                          \
            check(GIVE(heap, held[i]), "cannot free a block");     \
        return (end - start) * 1e9 / PAIRS;                        \
    }
DEFINE_LOOP(with_calls, hshm_malloc, hshm_free)
DEFINE_LOOP(compiled_in, hshm_malloc_inline, hshm_free_inline)

static void
freed_by_its_own(void)
{
    double plain = with_calls(); /* the first time round, memory is touched for the first time */
    double inlined = compiled_in();
    for (int i = 0; i < 3; i++) {
        const double again = with_calls();
        const double again_inlined = compiled_in();
        plain = again < plain ? again : plain;
        inlined = again_inlined < inlined ? again_inlined : inlined;
    }
    printf("taken and freed again:   %.1f ns by calls, %.1f ns compiled in (%.1f times as fast)\n", plain, inlined,
           plain / inlined);
}

int
main(void)
{
    begin("high_frequency");
    has_threads = true;
    hshm_backend_options options = lazy();
    options.nameless = true; /* nobody is to attach */
    check(hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, 32 * MIB, heap_name, &options, NULL),
          "cannot create the backend");
    check(hshm_allocator_create(NULL, BACKEND_ID, id, HSHM_ALLOCATOR_THREAD_LOCAL, 0, NULL, &heap),
          "cannot create the allocator");

    freed_by_its_own();
    freed_by_others();

    hshm_stats stats = HSHM_STATS_INIT;
    check(hshm_stats_get(heap, &stats), "no statistics");
    expect(stats.live_blocks == 0, "blocks are left over");
    check(hshm_check(heap, 0, NULL), "the heap is damaged");
    printf("All of %" PRIu64 " blocks were freed, and never more than %.1f MiB in use for them.\n", stats.frees,
           (double)stats.peak_bytes / (double)MIB);
    return EXIT_SUCCESS;
}
