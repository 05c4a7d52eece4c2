/*
 * helper_golden.c - writes a golden image.
 *
 *     helper_golden array|file PATH
 *
 * For a new format only, and knowingly: images of formats that were released stay as they are, under their own names
 * (stack_v<format>_array, stack_v<format>_file).  PATH must not exist yet.
 */
#include <stdalign.h>

#include "golden.h"

static alignas(GOLDEN_SIZE) unsigned char image[GOLDEN_SIZE];

int
main(int argc, char **argv)
{
    const bool as_file = argc == 3 && strcmp(argv[1], "file") == 0;
    if (argc != 3 || (!as_file && strcmp(argv[1], "array") != 0)) {
        fprintf(stderr, "usage: helper_golden array|file PATH\n");
        return 2;
    }
    const char *path = argv[2];
    if (access(path, F_OK) == 0) {
        fprintf(stderr, "helper_golden: %s exists; a golden image is made once\n", path);
        return 1;
    }
    if (!golden_make(image, as_file ? path : NULL)) {
        fprintf(stderr, "helper_golden: the heap is not as golden.h has it; last sentence: %s\n", hshm_last_error());
        return 1;
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(image, 1, sizeof image, file) != sizeof image || fclose(file) != 0) {
        perror(path);
        return 1;
    }
    return 0;
}
