/*
 * exchange.h - the custom header through which test_shared.c and helper_conformance.c tell each other what they did.
 */
#ifndef HSHM_TESTS_CONFORMANCE_EXCHANGE_H
#define HSHM_TESTS_CONFORMANCE_EXCHANGE_H

#include <hshm/hshm.h>

enum {
    EXCHANGE_BLOCKS = 100,
    EXCHANGE_HELPERS = 1000, /* what the helper adds to the keys of its blocks */
    EXCHANGE_FROM_TEST = 0x7e57,
    EXCHANGE_FROM_HELPER = 0x4e19
};
#define EXCHANGE_SIZE(i) ((size_t)(i)*13 + 1)

struct exchange {
    uint64_t word; /* EXCHANGE_FROM_... of who wrote last          */
    uint64_t base; /* where the helper had the region             */
    hshm_off blocks[EXCHANGE_BLOCKS];
};

#endif
