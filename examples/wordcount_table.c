/*
 * wordcount_table.c - see wordcount_table.h for the picture and the rule that all of this rests on.
 */
#include "wordcount_table.h"

#include <stdlib.h>
#include <string.h>

static struct word_node *
node_at(const hshm_allocator *heap, hshm_off off)
{
    return hshm_to_addr(heap, off);
}

/* The bucket that a word belongs to, by the hash FNV-1a. */
static _Atomic hshm_off *
bucket_of(const hshm_allocator *heap, const struct word_table *table, const char *word, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)word[i]) * 0x100000001b3u;
    _Atomic hshm_off *buckets = hshm_to_addr(heap, table->buckets);
    return &buckets[(hash ^ hash >> 32) & table->mask];
}

/* Look for a word in the part of a chain that begins at `first` and ends before `end`. */
static struct word_node *
chain_find(const hshm_allocator *heap, hshm_off first, hshm_off end, const char *word, size_t length)
{
    for (hshm_off off = first; off != end; off = node_at(heap, off)->next) {
        struct word_node *node = node_at(heap, off);
        if (node->length == length && memcmp(node->text, word, length) == 0)
            return node;
    }
    return NULL;
}

static struct word_node *
node_new(hshm_allocator *heap, const char *word, size_t length, uint64_t times)
{
    struct word_node *node = hshm_malloc(heap, sizeof *node + length);
    if (node == NULL)
        return NULL;
    atomic_init(&node->count, times);
    node->length = length;
    memcpy(node->text, word, length);
    return node;
}

/* Count a word that is there.  Relaxed: the sums are read after those who count were waited for. */
static void
count_again(struct word_node *node, uint64_t times)
{
    atomic_fetch_add_explicit(&node->count, times, memory_order_relaxed);
}

bool
word_table_create(hshm_allocator *heap, uint64_t bucket_count, struct word_table *ret_table)
{
    /* Zeroed, which is HSHM_OFF_NULL in every bucket. */
    void *buckets = hshm_calloc(heap, bucket_count, sizeof(_Atomic hshm_off));
    if (buckets == NULL)
        return false;
    *ret_table = (struct word_table){ hshm_to_off(heap, buckets), bucket_count - 1 };
    return true;
}

enum word_added
word_add_times(hshm_allocator *heap, const struct word_table *table, const char *word, size_t length, uint64_t times)
{
    _Atomic hshm_off *head = bucket_of(heap, table, word, length);
    /* Pairs with the release below: who sees a node's offset also sees what is in the node, and in those behind it. */
    hshm_off seen = atomic_load_explicit(head, memory_order_acquire);
    struct word_node *node = chain_find(heap, seen, HSHM_OFF_NULL, word, length);
    if (node != NULL) {
        count_again(node, times);
        return WORD_COUNTED;
    }

    struct word_node *fresh = node_new(heap, word, length, times);
    if (fresh == NULL)
        return WORD_NO_ROOM;
    for (;;) {
        const hshm_off end = fresh->next = seen;
        /* The word appears here, by one store. */
        if (atomic_compare_exchange_strong_explicit(head, &seen, hshm_to_off(heap, fresh), memory_order_acq_rel,
                                                    memory_order_acquire))
            return WORD_INSERTED;

        /* Others were quicker.  Their words stand between the new head and what we had looked through. */
        node = chain_find(heap, seen, end, word, length);
        if (node != NULL) {
            count_again(node, times);
            (void)hshm_free(heap, fresh);
            return WORD_LOST_RACE;
        }
    }
}

enum word_added
word_add(hshm_allocator *heap, const struct word_table *table, const char *word, size_t length)
{
    return word_add_times(heap, table, word, length, 1);
}

uint64_t
word_count(hshm_allocator *heap, const struct word_table *table, const char *word, size_t length)
{
    const hshm_off first = atomic_load_explicit(bucket_of(heap, table, word, length), memory_order_acquire);
    const struct word_node *node = chain_find(heap, first, HSHM_OFF_NULL, word, length);
    return node == NULL ? 0 : atomic_load_explicit(&node->count, memory_order_relaxed);
}

/* Write the addresses of all nodes to `nodes`, unless it is NULL; returns how many there are. */
static size_t
collect_nodes(const hshm_allocator *heap, const struct word_table *table, const struct word_node **nodes)
{
    const _Atomic hshm_off *buckets = hshm_to_addr(heap, table->buckets);
    size_t count = 0;
    for (uint64_t i = 0; i <= table->mask; i++) {
        hshm_off off = atomic_load_explicit(&buckets[i], memory_order_acquire);
        for (; off != HSHM_OFF_NULL; off = node_at(heap, off)->next) {
            if (nodes != NULL)
                nodes[count] = node_at(heap, off);
            count++;
        }
    }
    return count;
}

const struct word_node **
word_list(hshm_allocator *heap, const struct word_table *table, size_t *ret_count)
{
    const size_t count = collect_nodes(heap, table, NULL);
    const struct word_node **nodes = calloc(count + 1, sizeof *nodes);
    if (nodes == NULL)
        return NULL;
    (void)collect_nodes(heap, table, nodes);
    *ret_count = count;
    return nodes;
}
