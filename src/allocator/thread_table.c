/*
 * thread_table.c - see thread_table.h.
 */
#include "allocator/thread_table.h"

#include <limits.h>
#include <pthread.h>

#include "sync/local_lock.h"

uint64_t thread_no_blocks;

struct hshm_inline_bin thread_no_bin = { .word = &thread_no_blocks };

#define FOUR(...) __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__
#define SIXTEEN(...) FOUR(__VA_ARGS__), FOUR(__VA_ARGS__), FOUR(__VA_ARGS__), FOUR(__VA_ARGS__)

/* No slab's record ever says THREAD_NOBODY: owners have 24 bits, of which it would be the last, and no flags are 0xff. */
#define NO_ENTRY                       \
    {                                  \
        &thread_no_heap, THREAD_NOBODY \
    }

struct thread_none thread_none = { .heap = { .direct = { SIXTEEN(&thread_no_bin), SIXTEEN(&thread_no_bin),
                                                         SIXTEEN(&thread_no_bin), SIXTEEN(&thread_no_bin),
                                                         &thread_no_bin } } };
static_assert(COUNTOF(thread_no_heap.direct) == 65, "each leads somewhere");

/* Local to a thread; linked while the thread is listed, under the lock. */
struct thread_table {
    struct hshm_inline_thread entries[THREAD_ENTRIES + 1]; /* the last is always empty */
    void (*ends[THREAD_ENTRIES])(struct hshm_inline_heap *heap);
    struct thread_table *next;
    struct thread_table **back;
    unsigned ends_seen; /* how often the thread has begun to end */
};

/* Initial exec: the distance from the thread pointer is the same in all threads, and known when a handle is made. */
static _Thread_local struct thread_table table __attribute__((
    tls_model("initial-exec"))) = { .entries = { SIXTEEN(NO_ENTRY), FOUR(NO_ENTRY), FOUR(NO_ENTRY), NO_ENTRY } };
static_assert(COUNTOF(table.entries) == 25, "each leads somewhere");

static struct {
    struct local_lock lock;
    struct thread_table *first;
    uint32_t taken; /* a bit an index */
} threads = { LOCAL_LOCK_INIT, NULL, 0 };
static_assert(THREAD_ENTRIES < 32, "bits of `taken`");

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool have_key;

void
thread_table_lock(void)
{
    local_lock_take(&threads.lock);
}

void
thread_table_unlock(void)
{
    local_lock_give(&threads.lock);
}

int
thread_index_take(void)
{
    thread_table_lock();
    int index = -1;
    if (~threads.taken << (32 - THREAD_ENTRIES) != 0) {
        index = __builtin_ctz(~threads.taken);
        threads.taken |= UINT32_C(1) << index;
    }
    thread_table_unlock();
    return index;
}

static void
empty_entry(struct thread_table *of, int index)
{
    of->entries[index] = (struct hshm_inline_thread)NO_ENTRY;
}

void
thread_index_give(int index)
{
    if (index < 0)
        return;
    for (struct thread_table *at = threads.first; at != NULL; at = at->next)
        empty_entry(at, index);
    threads.taken &= ~(UINT32_C(1) << index);
}

const struct hshm_inline_thread *
thread_offset(int index)
{
    const struct hshm_inline_thread *entry = &table.entries[index < 0 ? THREAD_ENTRIES : index];
    return (const struct hshm_inline_thread *)((const char *)entry - (const char *)__builtin_thread_pointer());
}

static void
unlist(struct thread_table *at)
{
    if (at->back == NULL)
        return;
    *at->back = at->next;
    if (at->next != NULL)
        at->next->back = at->back;
    at->next = NULL;
    at->back = NULL;
}

static void
list(struct thread_table *at)
{
    /* Behind its last end nobody would take it out again; what it has then, the handle's end gives back. */
    if (at->back != NULL || at->ends_seen >= PTHREAD_DESTRUCTOR_ITERATIONS)
        return;
    at->next = threads.first;
    at->back = &threads.first;
    if (at->next != NULL)
        at->next->back = &at->next;
    threads.first = at;
}

/* A thread ends.  Its later frees find no heap and go the way of other threads' frees; a later malloc begins anew. */
static void
end_thread(void *of)
{
    struct thread_table *ended = of;
    thread_table_lock();
    ended->ends_seen++;
    for (int index = 0; index < THREAD_ENTRIES; index++) {
        struct hshm_inline_heap *heap = ended->entries[index].heap;
        if (heap == &thread_no_heap)
            continue;
        empty_entry(ended, index);
        ended->ends[index](heap);
    }
    unlist(ended);
    thread_table_unlock();
}

static void
make_key(void)
{
    have_key = pthread_key_create(&key, end_thread) == 0;
}

void
thread_entry_set(int index, struct hshm_inline_heap *heap, uint64_t me, void (*end)(struct hshm_inline_heap *heap))
{
    list(&table);
    table.ends[index] = end;
    table.entries[index] = (struct hshm_inline_thread){ heap, me };
}

void
thread_entry_clear(int index)
{
    empty_entry(&table, index);
}

void
thread_watch_end(void)
{
    (void)pthread_once(&key_once, make_key);
    if (have_key && (pthread_getspecific(key) != NULL || pthread_setspecific(key, &table) == 0))
        return;
    /* Without keys its table is not watched, and a thread's slabs stay its own until the handle ends. */
    thread_table_lock();
    unlist(&table);
    thread_table_unlock();
}

void
thread_table_fork_prepare(void)
{
    thread_table_lock();
}

void
thread_table_fork_parent(void)
{
    thread_table_unlock();
}

/* The one thread that the child has is the one that forked. */
void
thread_table_fork_child(void)
{
    threads.first = NULL;
    const bool was_listed = table.back != NULL;
    table.back = NULL;
    if (was_listed)
        list(&table);
    thread_table_unlock();
}
