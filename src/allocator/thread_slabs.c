/*
 * thread_slabs.c - see thread_slabs.h.
 */
#include "allocator/thread_slabs.h"

#include "allocator/allocator.h"
#include "sync/pages.h"

/* ---- descriptions ---- */

static size_t
chunks_size(uint32_t chunks)
{
    return chunks * sizeof(void *);
}

static bool
more_room_for_chunks(struct thread_heap *heap)
{
    const uint32_t room = heap->chunk_room == 0 ? 512 : heap->chunk_room * 2;
    struct slab **chunks = pages_take(chunks_size(room));
    if (chunks == NULL)
        return false;
    for (uint32_t i = 0; i < heap->chunk_count; i++)
        chunks[i] = heap->chunks[i];
    /* In this order: a fork may copy the moment in between. */
    struct slab **before = heap->chunks;
    const uint32_t room_before = heap->chunk_room;
    heap->chunks = chunks;
    heap->chunk_room = room;
    pages_give(before, chunks_size(room_before));
    return true;
}

struct slab *
owned_new(struct thread_heap *heap)
{
    if (heap->unused == NULL) {
        if (heap->chunk_count == heap->chunk_room && !more_room_for_chunks(heap))
            return NULL;
        struct slab *chunk = pages_take(CHUNK_SLABS * sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        for (uint32_t i = CHUNK_SLABS; i-- > 0;) {
            chunk[i].index = heap->chunk_count * CHUNK_SLABS + i;
            chunk[i].next = heap->unused;
            heap->unused = &chunk[i];
        }
        heap->chunks[heap->chunk_count++] = chunk;
    }
    struct slab *slab = heap->unused;
    heap->unused = slab->next;
    slab->next = NULL;
    return slab;
}

void
owned_drop(struct thread_heap *heap, struct slab *slab)
{
    if (slab->blocks != 0)
        heap->slabs[slab->class]--;
    slab->blocks = 0;
    slab->place = PLACE_UNUSED;
    slab->next = heap->unused;
    heap->unused = slab;
}

void
owned_describe(struct thread_heap *heap, struct slab *slab, uint64_t slice, uint64_t slices, uint32_t class)
{
    const struct slab_heap *h = &heap->a->slab;
    heap->slabs[class]++;
    slab->record = record_of(h, slice);
    slab->bits = bits_of(slab->record);
    slab->remote = remote_of(h, slab->record);
    slab->slice = slice;
    slab->slices = slices;
    slab->class = class;
    slab->blocks = slab_blocks(h, class, slices);
    slab->words = words_for(slab->blocks);
    slab->at = 0;
}

void
owned_free(struct thread_heap *heap)
{
    for (uint32_t i = 0; i < heap->chunk_count; i++)
        pages_give(heap->chunks[i], CHUNK_SLABS * sizeof(struct slab));
    pages_give(heap->chunks, chunks_size(heap->chunk_room));
}

/* ---- queues ---- */

void
owned_enqueue(struct thread_heap *heap, struct slab *slab)
{
    struct slab_queue *queue = &heap->queues[slab->class];
    slab->place = PLACE_QUEUED;
    slab->next = NULL;
    slab->previous = queue->last;
    if (queue->last != NULL)
        queue->last->next = slab;
    else
        queue->first = slab;
    queue->last = slab;
}

void
owned_dequeue(struct thread_heap *heap, struct slab *slab)
{
    struct slab_queue *queue = &heap->queues[slab->class];
    if (slab->previous != NULL)
        slab->previous->next = slab->next;
    else
        queue->first = slab->next;
    if (slab->next != NULL)
        slab->next->previous = slab->previous;
    else
        queue->last = slab->previous;
    slab->next = slab->previous = NULL;
}
