/*
 * cases.c - main() of the cases.
 */
#include "ranks.h"

int rank, ranks;

static void (*find_case(const char *name))(void)
{
    const struct mpi_case *const all[] = { setup_cases, error_cases, move_cases, remote_cases, model_cases };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        for (const struct mpi_case *c = all[i]; c->name != NULL; c++) {
            if (strcmp(c->name, name) == 0)
                return c->run;
        }
    }
    return NULL;
}

/* ranks CASE...  HSHM_TEST_THREADS=multiple asks MPI for MPI_THREAD_MULTIPLE. */
int
main(int argc, char *argv[])
{
    int provided = 0;
    const char *threads = getenv("HSHM_TEST_THREADS");
    const bool multiple = threads != NULL && strcmp(threads, "multiple") == 0;
    (void)MPI_Init_thread(&argc, &argv, multiple ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, &provided);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    CHECK(!multiple || provided == MPI_THREAD_MULTIPLE);
    for (int i = 1; i < argc; i++) {
        void (*run)(void) = find_case(argv[i]);
        if (run == NULL)
            fprintf(stderr, "there is no case '%s'\n", argv[i]);
        CHECK(run != NULL);
        run();
        (void)MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0)
            printf("ok  %s\n", argv[i]);
    }
    (void)MPI_Finalize();
    return argc > 1 ? 0 : 2;
}
