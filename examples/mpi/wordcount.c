/*
 * wordcount.c - count the words of many files on many nodes, and merge the counts through global pointers.
 *
 *     mpirun ... mpi_wordcount [FILE...]        without files: those of /usr/share/common-licenses
 *
 * 1. Each rank counts a share of the files into its node's table, in a heap that the ranks of the node share.
 * 2. Each node owns a range of buckets.  Its ranks read those of every other node's table, by hshm_mpi_get() and _getv(), and add
 *    them to the node's totals.  The same word lies in the same bucket on every node (same hash, same size), so each word is
 *    added up in one place.
 * 3. Nodes add their sums to node 0's header (hshm_mpi_fetch_add), and put their most frequent words there (hshm_mpi_put).
 *
 * Rank 0 counts once more, alone and without a heap, and compares.
 */
#include <hshm/mpi.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wordcount.h"

enum { BUCKETS = 8192, TOP = 8, NODES_MAX = 64, TEXT_MAX = 48 };

/* Shared, on each node: the custom header. */
struct node_header {
    struct word_table words;  /* of this node's files          */
    struct word_table totals; /* of all, for our buckets alone */
    /* On node 0: sums over all nodes. */
    _Atomic uint64_t word_sum;
    _Atomic uint64_t distinct_sum;
    struct frequent {
        uint64_t count;
        char text[TEXT_MAX];
    } top[NODES_MAX][TOP];
};

static int rank, ranks;

static void
need(hshm_status status)
{
    if (status == HSHM_OK)
        return;
    fprintf(stderr, "mpi_wordcount: rank %d: %s\n", rank, hshm_last_error());
    (void)MPI_Abort(MPI_COMM_WORLD, 1);
}

static void
need_memory(const void *pointer)
{
    if (pointer == NULL)
        need(hshm_set_last_error(HSHM_E_NOSPC, "no memory"));
}

static hshm_status
make_tables(hshm_allocator *heap, void *arg)
{
    (void)arg;
    struct node_header *header = hshm_allocator_custom_header(heap, NULL);
    if (!word_table_create(heap, BUCKETS, &header->words) || !word_table_create(heap, BUCKETS, &header->totals))
        return hshm_last_status();
    return HSHM_OK;
}

/* ---- 1: counting ---- */

/* Words of one file.  Into a table, or, with a NULL heap, only how many. */
static uint64_t
count_file(const char *path, hshm_allocator *heap, const struct word_table *table)
{
    uint64_t words = 0;
    size_t length = 0;
    char word[4096];
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    for (int c = getc(file);; c = getc(file)) {
        if (c != EOF && is_letter((char)c) && length < sizeof word) {
            word[length++] = (char)c;
            continue;
        }
        if (length > 0 && heap != NULL && word_add(heap, table, word, length) == WORD_NO_ROOM)
            need(hshm_last_status());
        words += length > 0;
        length = 0;
        if (c == EOF)
            break;
        if (is_letter((char)c)) /* a word too long for us goes on as another */
            word[length++] = (char)c;
    }
    (void)fclose(file);
    return words;
}

/* ---- 2: merging ---- */

/* A node of a remote chain, on its way to us: first what stands before its text. */
struct traveller {
    struct {
        hshm_off next;
        uint64_t count;
        uint64_t length;
    } head;
    char *text;
};
_Static_assert(sizeof(((struct traveller *)NULL)->head) == offsetof(struct word_node, text), "as struct word_node");

/* One step along all chains at once: heads, then texts, each in one call. */
static size_t
merge_level(hshm_mpi *mpi, hshm_gptr base, hshm_off *chain, size_t count, const struct word_table *totals)
{
    struct traveller *travellers = calloc(count, sizeof *travellers);
    hshm_mpi_piece *pieces = calloc(count, sizeof *pieces);
    need_memory(travellers);
    need_memory(pieces);
    for (size_t i = 0; i < count; i++) {
        base.off = chain[i];
        pieces[i] = (hshm_mpi_piece){ base, &travellers[i].head, sizeof travellers[i].head };
    }
    need(hshm_mpi_getv(mpi, pieces, count));
    for (size_t i = 0; i < count; i++) {
        travellers[i].text = malloc(travellers[i].head.length);
        need_memory(travellers[i].text);
        pieces[i].remote.off += sizeof travellers[i].head;
        pieces[i].local = travellers[i].text;
        pieces[i].size = travellers[i].head.length;
    }
    need(hshm_mpi_getv(mpi, pieces, count));
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        const struct traveller *t = &travellers[i];
        if (word_add_times(hshm_mpi_allocator(mpi), totals, t->text, t->head.length, t->head.count) == WORD_NO_ROOM)
            need(hshm_last_status());
        if (t->head.next != HSHM_OFF_NULL)
            chain[left++] = t->head.next;
        free(travellers[i].text);
    }
    free(travellers);
    free(pieces);
    return left;
}

/* Buckets [first, last) of a node's table. */
static void
merge_from(hshm_mpi *mpi, uint32_t node, uint64_t first, uint64_t last, const struct word_table *totals)
{
    struct word_table theirs;
    hshm_gptr base = hshm_mpi_header(mpi, node);
    need(hshm_mpi_get(mpi, base, &theirs, sizeof theirs)); /* `words` comes first */
    hshm_off *chain = calloc(last - first + 1, sizeof *chain);
    need_memory(chain);
    base.off = theirs.buckets + first * sizeof(hshm_off);
    need(hshm_mpi_get(mpi, base, chain, (last - first) * sizeof *chain));
    size_t count = 0;
    for (uint64_t i = 0; i < last - first; i++) {
        if (chain[i] != HSHM_OFF_NULL)
            chain[count++] = chain[i];
    }
    while (count > 0)
        count = merge_level(mpi, base, chain, count, totals);
    free(chain);
}

/* The buckets that this rank merges: a part of its node's, which are a part of all. */
static void
merge(hshm_mpi *mpi, const struct word_table *totals)
{
    int node_rank = 0;
    int node_ranks = 0;
    (void)MPI_Comm_rank(hshm_mpi_node_comm(mpi), &node_rank);
    (void)MPI_Comm_size(hshm_mpi_node_comm(mpi), &node_ranks);
    const uint64_t nodes = hshm_mpi_nodes(mpi);
    const uint64_t begin = BUCKETS * (uint64_t)hshm_mpi_node(mpi) / nodes;
    const uint64_t share = BUCKETS * ((uint64_t)hshm_mpi_node(mpi) + 1) / nodes - begin;
    const uint64_t first = begin + share * (uint64_t)node_rank / (uint64_t)node_ranks;
    const uint64_t last = begin + share * ((uint64_t)node_rank + 1) / (uint64_t)node_ranks;
    for (uint32_t i = 0; i < nodes; i++) /* not all at the same node first */
        merge_from(mpi, (hshm_mpi_node(mpi) + i) % (uint32_t)nodes, first, last, totals);
}

/* ---- 3: sums ---- */

static int
by_count(const void *a, const void *b)
{
    const uint64_t x = (*(const struct word_node *const *)a)->count;
    const uint64_t y = (*(const struct word_node *const *)b)->count;
    return (x < y) - (x > y);
}

/* A leader's. */
static void
report_to_node_0(hshm_mpi *mpi, const struct word_table *totals)
{
    size_t count = 0;
    const struct word_node **words = word_list(hshm_mpi_allocator(mpi), totals, &count);
    need_memory(words);
    struct frequent top[TOP];
    uint64_t sum = 0;
    memset(top, 0, sizeof top);
    qsort(words, count, sizeof *words, by_count);
    for (size_t i = 0; i < count; i++) {
        sum += words[i]->count;
        if (i >= TOP)
            continue;
        top[i].count = words[i]->count;
        (void)snprintf(top[i].text, sizeof top[i].text, "%.*s", (int)words[i]->length, words[i]->text);
    }
    free(words);
    const hshm_gptr header = hshm_mpi_header(mpi, 0);
    need(hshm_mpi_fetch_add(mpi, hshm_gptr_add(header, offsetof(struct node_header, word_sum)), sum, NULL));
    need(hshm_mpi_fetch_add(mpi, hshm_gptr_add(header, offsetof(struct node_header, distinct_sum)), count, NULL));
    const size_t place = offsetof(struct node_header, top) + hshm_mpi_node(mpi) * sizeof top;
    need(hshm_mpi_put(mpi, hshm_gptr_add(header, (int64_t)place), top, sizeof top));
}

static int
by_frequency(const void *a, const void *b)
{
    const uint64_t x = ((const struct frequent *)a)->count;
    const uint64_t y = ((const struct frequent *)b)->count;
    return (x < y) - (x > y);
}

/* Rank 0's.  False if a count made without any of this is another. */
static bool
show(hshm_mpi *mpi, char *const files[], size_t file_count)
{
    struct node_header *header = hshm_allocator_custom_header(hshm_mpi_allocator(mpi), NULL);
    uint64_t alone = 0;
    for (size_t i = 0; i < file_count; i++)
        alone += count_file(files[i], NULL, NULL);
    printf("%d ranks on %u nodes: %llu words, %llu distinct, in %zu files\n", ranks, hshm_mpi_nodes(mpi),
           (unsigned long long)header->word_sum, (unsigned long long)header->distinct_sum, file_count);
    qsort(header->top, (size_t)NODES_MAX * TOP, sizeof(struct frequent), by_frequency);
    for (size_t i = 0; i < TOP; i++)
        printf("  %8llu %s\n", (unsigned long long)header->top[0][i].count, header->top[0][i].text);
    if (alone != header->word_sum)
        fprintf(stderr, "mpi_wordcount: counted alone they are %llu\n", (unsigned long long)alone);
    return alone == header->word_sum;
}

/* ---- files ---- */

static int
is_file(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Those that are there without being named.  All ranks see the same: the folder is sorted. */
static char **
default_files(size_t *ret_count)
{
    static const char folder[] = "/usr/share/common-licenses";
    struct dirent **entries = NULL;
    const int found = scandir(folder, &entries, is_file, alphasort);
    char **files = calloc(found > 0 ? (size_t)found : 1, sizeof *files);
    need_memory(files);
    for (int i = 0; i < found; i++) {
        const size_t size = sizeof folder + 1 + strlen(entries[i]->d_name);
        files[i] = malloc(size);
        need_memory(files[i]);
        (void)snprintf(files[i], size, "%s/%s", folder, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    *ret_count = found > 0 ? (size_t)found : 0;
    return files;
}

int
main(int argc, char *argv[])
{
    (void)MPI_Init(&argc, &argv);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    size_t file_count = (size_t)argc - 1;
    char **own = argc > 1 ? NULL : default_files(&file_count);
    char *const *files = own != NULL ? own : argv + 1;

    hshm_mpi *mpi = NULL;
    hshm_mpi_options options = HSHM_MPI_OPTIONS_INIT;
    options.custom_header_size = sizeof(struct node_header);
    options.init = make_tables;
    need(hshm_mpi_open(MPI_COMM_WORLD, &options, &mpi));
    if (hshm_mpi_nodes(mpi) > NODES_MAX)
        need(hshm_set_last_error(HSHM_E_LIMIT, "too many nodes for this example"));
    hshm_allocator *heap = hshm_mpi_allocator(mpi);
    struct node_header *header = hshm_allocator_custom_header(heap, NULL);

    for (size_t i = (size_t)rank; i < file_count; i += (size_t)ranks)
        (void)count_file(files[i], heap, &header->words);
    need(hshm_mpi_fence(mpi));
    merge(mpi, &header->totals);
    need(hshm_mpi_fence(mpi));
    if (hshm_mpi_leader(mpi, hshm_mpi_node(mpi)) == rank)
        report_to_node_0(mpi, &header->totals);
    need(hshm_mpi_fence(mpi));
    const bool right = rank != 0 || show(mpi, (char *const *)files, file_count);

    need(hshm_mpi_close(&mpi));
    for (size_t i = 0; own != NULL && i < file_count; i++)
        free(own[i]);
    free(own);
    (void)MPI_Finalize();
    return right ? 0 : 1;
}
