/*
 * bench.h - what the measuring programs share: a clock, medians, and giving up with a sentence.
 */
#ifndef HSHM_BENCH_BENCH_H
#define HSHM_BENCH_BENCH_H

#include <hshm/hshm.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The figures mean nothing after a failure. */
static inline void
must(hshm_status status)
{
    if (status == HSHM_OK)
        return;
    (void)fprintf(stderr, "%s: %s\n", hshm_status_name(status), hshm_last_error());
    exit(1);
}

static inline double
now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static inline int
compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts; `percent` 50 is the median. */
static inline double
percentile(double *values, size_t count, size_t percent)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return values[(count - 1) * percent / 100];
}

#endif
