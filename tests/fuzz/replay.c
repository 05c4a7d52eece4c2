/*
 * replay.c - run a fuzz target over files, without a fuzzer.
 *
 *     replay_attach FILE|DIRECTORY...
 *
 * What a fuzzer once found stays in tests/fuzz/corpus and is tried again by every test run, whatever the compiler.
 * Ends with 0 when all inputs were survived, 77 when there were none, 1 when one could not be read.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long inputs;

static int
replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    /* Exactly as large as the input, so that a sanitizer sees the first byte read beyond it. */
    uint8_t *data = malloc(size > 0 ? size : 1);
    int failed = file == NULL || data == NULL || fread(data, 1, size, file) != size;
    if (failed) {
        fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
    } else {
        LLVMFuzzerTestOneInput(data, size);
        inputs++;
    }
    free(data);
    if (file != NULL)
        fclose(file);
    return failed;
}

static int replay(const char *path);

static int
replay_directory(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
        return 1;
    }

    int failed = 0;
    for (int i = 0; i < count; i++) {
        char name[PATH_MAX];
        int length = snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && length > 0 && (size_t)length < sizeof name)
            failed |= replay(name);
        free(entries[i]);
    }
    free(entries);
    return failed;
}

static int
replay(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
        return 1;
    }
    return S_ISDIR(status.st_mode) ? replay_directory(path) : replay_file(path, (size_t)status.st_size);
}

int
main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    if (inputs == 0 && !failed) {
        printf("no inputs to replay\n");
        return 77;
    }
    printf("%lu inputs replayed\n", inputs);
    return failed;
}
