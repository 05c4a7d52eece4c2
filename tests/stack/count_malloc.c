/*
 * count_malloc.c - a program for callgrind: take a number of blocks of 64 bytes from a stack, and nothing else.
 *
 *     count_malloc BLOCKS GRANULES      behind one block of so many granules; 1: every eighth of the others then has its
 *                                       codes in two words of the table
 */
#include <hshm/hshm.h>
#include <stdlib.h>

int
main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const unsigned long blocks = strtoul(argv[1], NULL, 10);
    const unsigned long granules = strtoul(argv[2], NULL, 10);
    hshm_allocator *heap = NULL;
    if (hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 1 << 20, NULL, NULL, NULL) != HSHM_OK ||
        hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap) != HSHM_OK)
        return 1;
    if (hshm_malloc(heap, granules * 16) == NULL)
        return 1;
    for (unsigned long i = 0; i < blocks; i++) {
        if (hshm_malloc(heap, 64) == NULL)
            return 1;
    }
    return 0;
}
