/*
 * bits.h - words of bits.
 */
#ifndef HSHM_BASE_BITS_H
#define HSHM_BASE_BITS_H

#include <stdint.h>

/*
 * How many bits are set.  By arithmetic: without an instruction that not every processor has, gcc calls a function that looks
 * into a table.  (Warren, "Hacker's Delight", 5-1.)
 */
static inline uint32_t
bits_count(uint64_t bits)
{
#if defined(__POPCNT__)
    return (uint32_t)__builtin_popcountll(bits);
#else
    bits -= bits >> 1 & UINT64_C(0x5555555555555555);
    bits = (bits & UINT64_C(0x3333333333333333)) + (bits >> 2 & UINT64_C(0x3333333333333333));
    bits = (bits + (bits >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (uint32_t)(bits * UINT64_C(0x0101010101010101) >> 56);
#endif
}

#endif
