/*
 * mpi.c - somebody else's MPI program.
 */
#include <hshm/mpi.h>
#include <stdio.h>

int
main(int argc, char *argv[])
{
    hshm_mpi *mpi = NULL;
    (void)MPI_Init(&argc, &argv);
    hshm_status status = hshm_mpi_open(MPI_COMM_WORLD, NULL, &mpi);
    if (status == HSHM_OK) {
        void *block = hshm_malloc(hshm_mpi_allocator(mpi), 100);
        status = block == NULL ? hshm_last_status() : hshm_free(hshm_mpi_allocator(mpi), block);
        (void)hshm_mpi_close(&mpi);
    }
    if (status != HSHM_OK)
        (void)fprintf(stderr, "%s\n", hshm_last_error());
    (void)MPI_Finalize();
    return status == HSHM_OK ? 0 : 1;
}
