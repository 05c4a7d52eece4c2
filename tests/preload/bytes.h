/*
 * bytes.h - what lies in a block, for tests that run with their malloc replaced.
 */
#ifndef HSHM_TESTS_BYTES_H
#define HSHM_TESTS_BYTES_H

#include <stdbool.h>
#include <stddef.h>

static inline bool
is_all(const void *addr, size_t size, unsigned char value)
{
    const unsigned char *bytes = addr;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != value)
            return false;
    }
    return true;
}

#endif
