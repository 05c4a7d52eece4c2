/* main.c - the smallest program that proves that headers and library belong together and work. */
#include <hshm/hshm.h>
#include <stdio.h>
#include <string.h>

int
main(void)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", HSHM_VERSION_MAJOR, HSHM_VERSION_MINOR, HSHM_VERSION_PATCH);
    if (strcmp(version, hshm_version()) != 0) {
        fprintf(stderr, "headers of %s, library of %s\n", version, hshm_version());
        return 1;
    }

    const hshm_allocator_id id = { 1, 0 };
    hshm_allocator *heap;
    if (hshm_backend_create(NULL, 0, HSHM_BACKEND_MALLOC, 1 << 20, "consumer", NULL, NULL) != HSHM_OK ||
        hshm_allocator_create(NULL, 0, id, HSHM_ALLOCATOR_STACK, 0, NULL, &heap) != HSHM_OK) {
        fprintf(stderr, "%s\n", hshm_last_error());
        return 1;
    }
    char *block = hshm_malloc(heap, 100);
    if (block == NULL || hshm_to_addr(heap, hshm_to_off(heap, block)) != block || hshm_free(heap, block) != HSHM_OK) {
        fprintf(stderr, "%s\n", hshm_last_error());
        return 1;
    }
    return hshm_backend_destroy(NULL, 0) == HSHM_OK ? 0 : 1;
}
