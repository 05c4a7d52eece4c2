/*
 * test_stack.c - processes that work on a Stack heap, killed and stopped at each failpoint.
 *
 * labels: no-asan no-tsan
 * (hundreds of processes, each of which is forked from a test with a sanitizer in it, take minutes)
 */
#include "failpoints.h"

int
main(void)
{
    return failpoints_main("failpoints.stack", HSHM_ALLOCATOR_STACK);
}
