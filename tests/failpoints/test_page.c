/*
 * test_page.c - processes that work on a ScalablePage heap, killed and stopped at each failpoint.
 *
 * labels: no-asan no-tsan
 * (hundreds of processes, each of which is forked from a test with a sanitizer in it, take minutes)
 */
#include "failpoints.h"

int
main(void)
{
    return failpoints_main("failpoints.page", HSHM_ALLOCATOR_SCALABLE_PAGE);
}
