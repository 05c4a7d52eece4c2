/*
 * pointer.c - global pointers, and the addresses and ranges that they stand for.
 */
#include <inttypes.h>

#include "handle.h"

hshm_status
pointer_check(hshm_mpi *mpi, hshm_off off, uint64_t size)
{
    if (off == HSHM_OFF_NULL || size > mpi->region_size || off > mpi->region_size - size)
        return mpi_fail(HSHM_E_INVAL,
                        "bytes %" PRIu64 " to %" PRIu64 " do not lie in a heap of %" PRIu64 " bytes on node %u", off,
                        off + size, mpi->region_size, mpi->node);
    void *addr = NULL;
    hshm_status status = hshm_resolve(mpi->manager, (hshm_shm_ptr){ mpi->allocator_id, off }, &addr);
    /* What lies between two such places is no table: data and custom header are neighbours. */
    if (status == HSHM_OK && size > 1)
        status = hshm_resolve(mpi->manager, (hshm_shm_ptr){ mpi->allocator_id, off + size - 1 }, &addr);
    return status;
}

hshm_status
pointer_check_writable(const hshm_mpi *mpi)
{
    if (!mpi->read_only)
        return HSHM_OK;
    return mpi_fail(HSHM_E_PERM, "this rank attached to node %u's heap read-only (options.attach)", mpi->node);
}

hshm_status
pointer_word(hshm_mpi *mpi, hshm_off off, _Atomic uint64_t **ret_word)
{
    if (off % sizeof(uint64_t) != 0)
        return mpi_fail(HSHM_E_INVAL, "an atomic operation on offset %" PRIu64 ", which is no multiple of 8", off);
    hshm_status status = pointer_check_writable(mpi);
    if (status == HSHM_OK)
        status = pointer_check(mpi, off, sizeof(uint64_t));
    if (status == HSHM_OK)
        *ret_word = (_Atomic uint64_t *)hshm_to_addr(mpi->heap, off);
    return status;
}

hshm_status
pointer_check_remote(const hshm_mpi *mpi, hshm_gptr pointer, uint64_t size)
{
    if (pointer.off == HSHM_OFF_NULL)
        return mpi_fail(HSHM_E_INVAL, "the global pointer is null");
    if (pointer.node >= mpi->node_count)
        return mpi_fail(HSHM_E_INVAL, "the global pointer leads to node %u of %u", pointer.node, mpi->node_count);
    const struct node *node = &mpi->nodes[pointer.node];
    if (pointer.generation != node->generation)
        return mpi_fail(
            HSHM_E_NOTFOUND,
            "the global pointer is of generation %08x of node %u's heap, which is of generation %08x: it outlived "
            "its heap",
            pointer.generation, pointer.node, node->generation);
    if (size > node->size || pointer.off > node->size - size)
        return mpi_fail(HSHM_E_INVAL,
                        "bytes %" PRIu64 " to %" PRIu64 " do not lie in node %u's heap of %" PRIu64 " bytes",
                        pointer.off, pointer.off + size, pointer.node, node->size);
    if (pointer.off < node->first_off)
        return mpi_fail(HSHM_E_INVAL, "offset %" PRIu64 " of node %u's heap lies in its tables, which end at %" PRIu64,
                        pointer.off, pointer.node, node->first_off);
    return HSHM_OK;
}

hshm_gptr
hshm_mpi_to_global(hshm_mpi *mpi, const void *addr)
{
    if (addr == NULL)
        return HSHM_GPTR_NULL;
    const uintptr_t at = (uintptr_t)addr;
    const uintptr_t base = (uintptr_t)mpi->base;
    if (at < base || at - base >= mpi->region_size || pointer_check(mpi, at - base, 1) != HSHM_OK) {
        (void)mpi_fail(HSHM_E_NOTFOUND, "the address %p is not in node %u's heap", addr, mpi->node);
        return HSHM_GPTR_NULL;
    }
    return (hshm_gptr){ mpi->node, mpi->nodes[mpi->node].generation, at - base };
}

void *
hshm_mpi_to_local(hshm_mpi *mpi, hshm_gptr pointer)
{
    if (pointer.off == HSHM_OFF_NULL || pointer_check_remote(mpi, pointer, 1) != HSHM_OK)
        return NULL;
    if (pointer.node != mpi->node) {
        (void)mpi_fail(HSHM_E_NOTSUP,
                       "the global pointer leads to node %u, this is node %u: use hshm_mpi_get() and _put()",
                       pointer.node, mpi->node);
        return NULL;
    }
    return pointer_check(mpi, pointer.off, 1) == HSHM_OK ? hshm_to_addr(mpi->heap, pointer.off) : NULL;
}

hshm_gptr
hshm_mpi_header(const hshm_mpi *mpi, uint32_t node)
{
    if (node >= mpi->node_count || mpi->nodes[node].header_off == HSHM_OFF_NULL)
        return HSHM_GPTR_NULL;
    return (hshm_gptr){ node, mpi->nodes[node].generation, mpi->nodes[node].header_off };
}
