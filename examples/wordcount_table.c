/*
 * wordcount_table.c - see wordcount_table.h for the picture and the rule that all of this rests on.
 */
#include "wordcount_table.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a, folded to 32 bits: good enough for words, and short enough to read. */
static uint32_t
hash_word(const char *word, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)word[i]) * 0x100000001b3u;
    return (uint32_t)(hash ^ hash >> 32);
}

static struct word_node *
node_at(const struct word_table *table, hshm_off off)
{
    return hshm_to_addr(table->heap, off);
}

/* Look for a word in the part of a chain that begins at `first` and ends before `end`. */
static struct word_node *
chain_find(const struct word_table *table, hshm_off first, hshm_off end, const char *word, size_t length, uint32_t hash)
{
    for (hshm_off off = first; off != end; off = node_at(table, off)->next) {
        struct word_node *node = node_at(table, off);
        if (node->hash == hash && node->length == length && memcmp(node->text, word, length) == 0)
            return node;
    }
    return NULL;
}

static void
node_count(struct word_node *node)
{
    /* Relaxed: the sums are read after the counting processes were waited for. */
    atomic_fetch_add_explicit(&node->count, 1, memory_order_relaxed);
}

static struct word_node *
node_new(const struct word_table *table, const char *word, size_t length, uint32_t hash)
{
    struct word_node *node = hshm_malloc(table->heap, sizeof *node + length);
    if (node == NULL)
        return NULL;
    node->next = HSHM_OFF_NULL;
    atomic_init(&node->count, 1);
    node->hash = hash;
    node->length = (uint32_t)length;
    memcpy(node->text, word, length);
    return node;
}

bool
word_table_create(hshm_allocator *heap, uint64_t bucket_count, struct word_table_root *ret_root)
{
    /* Zeroed, which is HSHM_OFF_NULL in every bucket. */
    void *buckets = hshm_calloc(heap, bucket_count, sizeof(_Atomic hshm_off));
    if (buckets == NULL)
        return false;
    ret_root->buckets = hshm_to_off(heap, buckets);
    ret_root->bucket_count = bucket_count;
    return true;
}

struct word_table
word_table_open(hshm_allocator *heap, const struct word_table_root *root)
{
    return (struct word_table){
        .heap = heap,
        .buckets = hshm_to_addr(heap, root->buckets),
        .mask = root->bucket_count - 1,
    };
}

enum word_added
word_table_add(const struct word_table *table, const char *word, size_t length)
{
    const uint32_t hash = hash_word(word, length);
    _Atomic hshm_off *head = &table->buckets[hash & table->mask];

    /* Pairs with the release below: who sees a node's offset also sees what is in the node. */
    hshm_off seen = atomic_load_explicit(head, memory_order_acquire);
    struct word_node *node = chain_find(table, seen, HSHM_OFF_NULL, word, length, hash);
    if (node != NULL) {
        node_count(node);
        return WORD_COUNTED;
    }

    struct word_node *fresh = node_new(table, word, length, hash);
    if (fresh == NULL)
        return WORD_NO_ROOM;

    hshm_off end = seen;
    for (;;) {
        fresh->next = seen;
        /* The word appears here, by one store.  A process killed before it leaves a block that nobody points to. */
        if (atomic_compare_exchange_strong_explicit(head, &seen, hshm_to_off(table->heap, fresh), memory_order_acq_rel,
                                                    memory_order_acquire))
            return WORD_INSERTED;

        /* Others were quicker.  Their words stand between the new head and what we had looked through. */
        node = chain_find(table, seen, end, word, length, hash);
        if (node != NULL) {
            node_count(node);
            hshm_free(table->heap, fresh);
            return WORD_LOST_RACE;
        }
        end = seen;
    }
}

/* Write the addresses of all nodes to `nodes` unless it is NULL; returns how many there are. */
static size_t
collect_nodes(const struct word_table *table, const struct word_node **nodes)
{
    size_t count = 0;
    for (uint64_t i = 0; i <= table->mask; i++) {
        hshm_off off = atomic_load_explicit(&table->buckets[i], memory_order_acquire);
        for (; off != HSHM_OFF_NULL; off = node_at(table, off)->next) {
            if (nodes != NULL)
                nodes[count] = node_at(table, off);
            count++;
        }
    }
    return count;
}

bool
word_table_list(const struct word_table *table, const struct word_node ***ret_nodes, size_t *ret_count)
{
    const size_t count = collect_nodes(table, NULL);
    const struct word_node **nodes = calloc(count + 1, sizeof *nodes);
    if (nodes == NULL)
        return false;
    collect_nodes(table, nodes);
    *ret_nodes = nodes;
    *ret_count = count;
    return true;
}
