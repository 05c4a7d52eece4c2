/*
 * ranks.h - what the programs of this folder share.  Each runs as the ranks of an MPI job, and does one case, which its first
 * argument names; see `run`.
 *
 * A check that fails ends the whole job.  Cases are functions that all ranks call; where a case needs several nodes on one
 * machine, ranks give groups: as many as HSHM_TEST_GROUPS says (1 = the machine's own nodes).
 */
#ifndef HSHM_TESTS_MPI_RANKS_H
#define HSHM_TESTS_MPI_RANKS_H

#include <hshm/hshm.h>
#include <hshm/mpi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)

extern int rank, ranks;

#define CHECK(condition) ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))
#define CHECK_OK(call) check_status((call), HSHM_OK, NULL, #call, __FILE__, __LINE__)
/* Fails unless the call answers `wanted` and its sentence contains `part`. */
#define CHECK_STATUS(call, wanted, part) check_status((call), (wanted), (part), #call, __FILE__, __LINE__)

_Noreturn void check_failed(const char *what, const char *file, int line);
void check_status(hshm_status got, hshm_status wanted, const char *part, const char *call, const char *file, int line);

/* Every rank was told the same sentence. */
void check_same_sentence(void);

/* Options with this rank's group, and 8 MiB. */
hshm_mpi_options options_for_test(void);

/* Open, or fail the test. */
hshm_mpi *open_heaps(const hshm_mpi_options *options);

/* Collective: no file of hshm's is in any /dev/shm that a rank sees, nor bytes of one without a name. */
struct shm_state {
    size_t names;
    unsigned long long free_blocks;
};
struct shm_state shm_look(void);
void check_nothing_left(struct shm_state before);

/* A name for this job's heaps. */
void job_name(char name[HSHM_NAME_MAX + 1], const char *what);

struct mpi_case {
    const char *name;
    void (*run)(void);
};
extern const struct mpi_case setup_cases[], error_cases[], move_cases[], remote_cases[], model_cases[];

#endif
