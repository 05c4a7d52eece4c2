/*
 * helper_slab_golden.c - writes a golden image of a heap of slabs.
 *
 *     helper_slab_golden scalable_page|thread_local array|file PATH
 *
 * For a new format only, and knowingly; see helper_golden.c.  PATH must not exist yet.
 */
#include <stdalign.h>

#include "slab_golden.h"

static alignas(SLAB_GOLDEN_ARRAY_ALIGNMENT) unsigned char image[SLAB_GOLDEN_SIZE];

int
main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: helper_slab_golden scalable_page|thread_local array|file PATH\n");
        return 2;
    }
    const hshm_allocator_kind kind =
        strcmp(argv[1], "thread_local") == 0 ? HSHM_ALLOCATOR_THREAD_LOCAL : HSHM_ALLOCATOR_SCALABLE_PAGE;
    const char *path = argv[3];
    if (access(path, F_OK) == 0) {
        fprintf(stderr, "helper_slab_golden: %s exists; a golden image is made once\n", path);
        return 1;
    }
    if (!slab_golden_leave_first_processor()) {
        fprintf(stderr, "helper_slab_golden: needs a processor besides the first\n");
        return 1;
    }
    if (!slab_golden_make(image, kind, strcmp(argv[2], "file") == 0 ? path : NULL)) {
        fprintf(stderr, "helper_slab_golden: the heap is not as slab_golden.h has it; last sentence: %s\n",
                hshm_last_error());
        return 1;
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(image, 1, sizeof image, file) != sizeof image || fclose(file) != 0) {
        perror(path);
        return 1;
    }
    return 0;
}
