/*
 * helper_conformance.c - another program at work on the heap of test_shared.c: nothing is inherited but names.
 *
 *     helper_conformance BACKEND ALLOCATOR SIZE MEMFD URL BASE
 *
 * BASE is where the test has the region; here it must lie elsewhere.  The custom header is a struct exchange.  Ends with 0 when all was as told there; 2 when an argument is missing.
 */
#include "blocks.h"
#include "exchange.h"
#include "rows.h"
#include "sync/clock.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Each block that the test left has its content; every other one is freed here. */
static int
look_and_free(hshm_allocator *heap, struct exchange *exchange)
{
    for (uint32_t i = 0; i < EXCHANGE_BLOCKS; i++) {
        void *block = hshm_to_addr(heap, exchange->blocks[i]);
        if (hshm_usable_size(heap, block) < EXCHANGE_SIZE(i) || !heap_holds(heap, block, EXCHANGE_SIZE(i), i))
            return 10;
        if (i % 2 == 0) {
            if (hshm_free(heap, block) != HSHM_OK || hshm_free(heap, block) != HSHM_E_BADFREE)
                return 11;
            exchange->blocks[i] = HSHM_OFF_NULL;
        }
    }
    return 0;
}

/* New ones in their place, for the test to find. */
static int
leave_blocks(hshm_allocator *heap, struct exchange *exchange)
{
    for (uint32_t i = 0; i < EXCHANGE_BLOCKS; i += 2) {
        hshm_ptr block;
        if (hshm_allocate(heap, EXCHANGE_SIZE(i), &block) != HSHM_OK)
            return 12;
        heap_fill(heap, block.addr, EXCHANGE_SIZE(i), EXCHANGE_HELPERS + i);
        exchange->blocks[i] = block.shm.off;
    }
    return 0;
}

/* Without randomized addresses the region would come to lie where the test has it.  What is taken already is as good. */
static void
occupy(uint64_t base, size_t size)
{
    (void)mmap((void *)(uintptr_t)base, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

/*
 * When the test forked, its library locked a place for the child that would work on; which became this program instead.  The
 * parent holds that lock until fork() has returned there, and this program may be faster.
 */
static bool
is_one_of_two(hshm_manager *manager, hshm_backend_info_data *ret_info)
{
    struct wait wait = wait_begin(10000);
    do {
        if (hshm_backend_info(hshm_backend_get(manager, STAGE_BACKEND), ret_info) != HSHM_OK)
            return false;
        if (ret_info->processes == 2)
            return true;
    } while (wait_more(&wait));
    print_error("%u processes, this one in slot %u\n", ret_info->processes, ret_info->slot);
    return false;
}

int
main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    struct stage stage;
    struct view view;
    stage_from_words(&stage, argv + 1, argv[5]);
    occupy(strtoull(argv[6], NULL, 16), stage.size);
    if (view_try(&view, &stage, false, 0) != HSHM_OK) {
        print_error("%s\n", hshm_last_error());
        return 3;
    }
    size_t size = 0;
    struct exchange *exchange = hshm_allocator_custom_header(view.heap, &size);
    if (exchange == NULL || size != sizeof *exchange || exchange->word != EXCHANGE_FROM_TEST)
        return 4;
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    if (!is_one_of_two(view.manager, &info) || info.created_here)
        return 5;
    exchange->base = (uintptr_t)info.base;
    int failed = look_and_free(view.heap, exchange);
    if (failed == 0)
        failed = leave_blocks(view.heap, exchange);
    exchange->word = EXCHANGE_FROM_HELPER;
    /* An attacher's destroy leaves name and memory. */
    if (hshm_backend_destroy(view.manager, STAGE_BACKEND) != HSHM_OK)
        return 6;
    view_close(&view);
    return failed;
}
