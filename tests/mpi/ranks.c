/*
 * ranks.c - what the programs of this folder share.
 */
#include "ranks.h"

#include <dirent.h>
#include <sys/statvfs.h>
#include <unistd.h>

void
check_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: rank %d: not so: %s\n", file, line, rank, what);
    (void)MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

void
check_status(hshm_status got, hshm_status wanted, const char *part, const char *call, const char *file, int line)
{
    if (got == wanted && (part == NULL || strstr(hshm_last_error(), part) != NULL))
        return;
    fprintf(stderr, "%s:%d: rank %d: %s answered %s, not %s%s%s: %s\n", file, line, rank, call, hshm_status_name(got),
            hshm_status_name(wanted), part != NULL ? " with " : "", part != NULL ? part : "", hshm_last_error());
    (void)MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

void
check_same_sentence(void)
{
    char first[768] = "";
    (void)snprintf(first, sizeof first, "%s", hshm_last_error());
    (void)MPI_Bcast(first, (int)sizeof first, MPI_CHAR, 0, MPI_COMM_WORLD);
    CHECK(strcmp(first, hshm_last_error()) == 0);
}

hshm_mpi_options
options_for_test(void)
{
    hshm_mpi_options options = HSHM_MPI_OPTIONS_INIT;
    const char *groups = getenv("HSHM_TEST_GROUPS");
    const int count = groups != NULL ? (int)strtol(groups, NULL, 10) : 1;
    options.size = 8 * MIB;
    options.group = rank % count;
    return options;
}

hshm_mpi *
open_heaps(const hshm_mpi_options *options)
{
    hshm_mpi *mpi = NULL;
    CHECK_OK(hshm_mpi_open(MPI_COMM_WORLD, options, &mpi));
    CHECK(mpi != NULL);
    return mpi;
}

struct shm_state
shm_look(void)
{
    struct shm_state state = { 0, 0 };
    (void)MPI_Barrier(MPI_COMM_WORLD);
    DIR *entries = opendir("/dev/shm");
    CHECK(entries != NULL);
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
        state.names += strstr(entry->d_name, "hshm-mpi") != NULL;
    (void)closedir(entries);
    struct statvfs fs;
    CHECK(statvfs("/dev/shm", &fs) == 0);
    state.free_blocks = fs.f_bfree;
    (void)MPI_Barrier(MPI_COMM_WORLD);
    return state;
}

/* Others use a /dev/shm that is not a simulated host's, so there only names are told for sure. */
void
check_nothing_left(struct shm_state before)
{
    const struct shm_state now = shm_look();
    if (getenv("SIMHOSTS") == NULL)
        return;
    CHECK(now.names == before.names);
    CHECK(now.free_blocks == before.free_blocks);
}

void
job_name(char name[HSHM_NAME_MAX + 1], const char *what)
{
    char prefix[64];
    (void)snprintf(prefix, sizeof prefix, "hshm-test-mpi-%s", what);
    CHECK_OK(hshm_mpi_unique_name(MPI_COMM_WORLD, prefix, name));
}
