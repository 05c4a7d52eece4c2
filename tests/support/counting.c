/*
 * counting.c - instructions of a program, counted by callgrind.
 */
#include "counting.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NO_VALGRIND = 127, TEXT = 4096 + 64, ARGUMENTS = 4 };

struct run {
    const char *const *toggles, *const *argv;
    const char *out;
};

static int
run_callgrind(void *arg)
{
    const struct run *run = arg;
    char out[TEXT], first[TEXT], second[TEXT], program[TEXT];
    (void)snprintf(out, sizeof out, "--callgrind-out-file=%s", run->out);
    (void)snprintf(first, sizeof first, "--toggle-collect=%s", run->toggles[0]);
    /* A name that no function has toggles nothing. */
    (void)snprintf(second, sizeof second, "--toggle-collect=%s", run->toggles[1] ? run->toggles[1] : "nothing");
    (void)snprintf(program, sizeof program, HSHM_TEST_BIN_DIR "/%s", run->argv[0]);
    const char *rest[ARGUMENTS] = { NULL };
    for (int i = 0; i < ARGUMENTS - 1 && run->argv[i + 1] != NULL; i++)
        rest[i] = run->argv[i + 1];
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)dup2(nowhere, STDOUT_FILENO);
    (void)dup2(nowhere, STDERR_FILENO);
    (void)execlp("valgrind", "valgrind", "--tool=callgrind", first, second, out, program, rest[0], rest[1], rest[2],
                 (char *)NULL);
    return NO_VALGRIND;
}

/* The line "totals: N" of what callgrind wrote; 0 if there is none. */
static uint64_t
read_total(const char *path)
{
    char line[1024];
    uint64_t total = 0;
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "totals: ", 8) == 0)
            total = strtoull(line + 8, NULL, 10);
    }
    (void)fclose(file);
    return total;
}

uint64_t
counted_instructions(const char *const toggles[2], const char *const argv[])
{
    struct run run = { toggles, argv, test_path("callgrind") };
    const int status = child_run(run_callgrind, &run);
    if (status == NO_VALGRIND) {
        print_message("no valgrind to count with (Debian: apt-get install valgrind)\n");
        skip();
    }
    assert_int_equal(status, 0);
    const uint64_t total = read_total(run.out);
    assert_true(total > 0);
    return total;
}
