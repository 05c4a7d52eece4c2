/*
 * agree.c - one answer for all ranks, and sentences.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "handle.h"

hshm_status
mpi_fail(hshm_status status, const char *format, ...)
{
    char sentence[768];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return hshm_set_last_error(status, sentence);
}

void
error_keep(struct kept_error *kept)
{
    kept->status = hshm_last_status();
    const size_t length = strlen(hshm_last_error());
    memcpy(kept->sentence, hshm_last_error(), length + 1); /* hshm's own are no longer */
}

void
error_restore(const struct kept_error *kept)
{
    (void)hshm_set_last_error(kept->status, kept->sentence);
}

hshm_status
mpi_check(int answer, const char *call)
{
    if (answer == MPI_SUCCESS)
        return HSHM_OK;
    char words[MPI_MAX_ERROR_STRING + 1] = "";
    int length = 0;
    (void)MPI_Error_string(answer, words, &length);
    return mpi_fail(HSHM_E_SYSTEM, "%s failed: %.400s; MPI promises nothing after an error, so end the job", call,
                    words);
}

/* What is told to everyone when one rank failed. */
struct verdict {
    char sentence[768];
};

static void
say_where(struct verdict *verdict, int rank)
{
    char host[65] = "";
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(verdict->sentence, sizeof verdict->sentence, "rank %d on %s: %s", rank, host, hshm_last_error());
}

/*
 * The largest status wins, and of those with it the lowest rank speaks.  Followers of a leader that failed report nothing
 * of their own, so causes do not compete with their consequences.
 */
hshm_status
hshm_mpi_agree(MPI_Comm comm, hshm_status status)
{
    struct {
        int status;
        int rank;
    } mine = { (int)status, 0 }, worst = { 0, 0 };
    hshm_status failed = mpi_check(MPI_Comm_rank(comm, &mine.rank), "MPI_Comm_rank");
    if (failed == HSHM_OK)
        failed = mpi_check(MPI_Allreduce(&mine, &worst, 1, MPI_2INT, MPI_MAXLOC, comm), "MPI_Allreduce");
    if (failed != HSHM_OK || worst.status == HSHM_OK)
        return failed;
    struct verdict verdict = { "" };
    if (mine.rank == worst.rank)
        say_where(&verdict, mine.rank);
    failed = mpi_check(MPI_Bcast(&verdict, (int)sizeof verdict, MPI_BYTE, worst.rank, comm), "MPI_Bcast");
    if (failed != HSHM_OK)
        return failed;
    verdict.sentence[sizeof verdict.sentence - 1] = '\0';
    return hshm_set_last_error((hshm_status)worst.status, verdict.sentence);
}

hshm_status
hshm_mpi_unique_name(MPI_Comm comm, const char *prefix, char *ret_name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    struct {
        int32_t bad;
        char name[HSHM_NAME_MAX + 1];
    } drawn = { 0, "" };
    int rank = 0;
    hshm_status failed = mpi_check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
    if (failed != HSHM_OK)
        return failed;
    if (rank == 0) {
        const size_t length = prefix == NULL ? 0 : strlen(prefix);
        drawn.bad = length < 1 || length > 64 || strspn(prefix, allowed) != length || *prefix == '.';
        if (!drawn.bad)
            (void)snprintf(drawn.name, sizeof drawn.name, "%s-%016llx", prefix, (unsigned long long)random_word());
    }
    failed = mpi_check(MPI_Bcast(&drawn, (int)sizeof drawn, MPI_BYTE, 0, comm), "MPI_Bcast");
    if (failed != HSHM_OK)
        return failed;
    if (drawn.bad)
        return mpi_fail(HSHM_E_INVAL,
                        "hshm_mpi_unique_name: the prefix on rank 0 has to be 1 to 64 letters, digits, '.', '_' "
                        "and '-', and not to begin with '.'");
    memcpy(ret_name, drawn.name, sizeof drawn.name);
    return HSHM_OK;
}

uint64_t
random_word(void)
{
    uint64_t word = 0;
    if (getrandom(&word, sizeof word, GRND_NONBLOCK) == (ssize_t)sizeof word)
        return word;
    /* Early in boot: who and when tell jobs apart, too. */
    struct timespec now = { 0, 0 };
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)getpid() << 40 ^ (uint64_t)now.tv_sec << 30 ^ (uint64_t)now.tv_nsec;
}
