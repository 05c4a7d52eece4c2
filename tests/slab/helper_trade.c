/*
 * helper_trade.c - another program at work on a heap of test_trade.c.
 *
 *     helper_trade BACKEND URL SEED OPERATIONS
 */
#include "trade.h"

#include <stdlib.h>

int
main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    hshm_allocator *heap = NULL;
    if (hshm_backend_attach(NULL, (hshm_backend_kind)atoi(argv[1]), argv[2], NULL, NULL) != HSHM_OK ||
        hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap) != HSHM_OK) {
        print_error("%s\n", hshm_last_error());
        return 3;
    }
    trade(heap, strtoull(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    return hshm_backend_detach(NULL, 1) == HSHM_OK ? 0 : 4;
}
