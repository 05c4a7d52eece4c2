/*
 * bench_regions.c - what it costs to create, attach to, leave and destroy a region, small and huge.
 *
 * Attaching is done by a second manager of this process: the same system calls as in another process.
 */
#include "bench.h"

#include <unistd.h>

enum {
    ROUNDS = 301,
    ROUNDS_RESERVED = 15 /* reserving takes milliseconds */
};

#define MIB ((size_t)1 << 20)

struct subject {
    const char *title;
    size_t rounds;
    size_t size;
    hshm_commit commit;
    double create_us[ROUNDS];
    double attach_us[ROUNDS];
    double detach_us[ROUNDS];
    double destroy_us[ROUNDS];
};

static void
measure(struct subject *subject, hshm_manager *other)
{
    const size_t round = subject->rounds++;
    char name[64];
    (void)snprintf(name, sizeof name, "hshm_bench.%d", (int)getpid());
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.commit = subject->commit;
    const hshm_allocator_id id = { 1, 0 };

    const double t0 = now_us();
    must(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, subject->size, name, &options, NULL));
    must(hshm_allocator_create(NULL, 1, id, HSHM_ALLOCATOR_STACK, 0, NULL, NULL));
    const double t1 = now_us();
    must(hshm_backend_attach(other, HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, NULL));
    const double t2 = now_us();
    must(hshm_backend_detach(other, 1));
    const double t3 = now_us();
    must(hshm_backend_destroy(NULL, 1));
    const double t4 = now_us();

    subject->create_us[round] = t1 - t0;
    subject->attach_us[round] = t2 - t1;
    subject->detach_us[round] = t3 - t2;
    subject->destroy_us[round] = t4 - t3;
}

static void
print_row(const char *call, double *small, double *large)
{
    const double a = percentile(small, ROUNDS, 50);
    const double b = percentile(large, ROUNDS, 50);
    printf("%-9s %10.1f %10.1f %12.1f %10.1f %9.2f\n", call, a, percentile(small, ROUNDS, 95), b,
           percentile(large, ROUNDS, 95), b / a);
}

int
main(void)
{
    static struct subject lazy_64m = { .title = "64 MiB lazy", .size = 64 * MIB, .commit = HSHM_COMMIT_LAZY };
    static struct subject lazy_64g = { .title = "64 GiB lazy", .size = 65536 * MIB, .commit = HSHM_COMMIT_LAZY };
    static struct subject full_64m = { .title = "64 MiB reserved", .size = 64 * MIB, .commit = HSHM_COMMIT_RESERVE };
    hshm_manager *other;
    must(hshm_manager_create(&other));
    for (int round = 0; round < ROUNDS; round++) {
        measure(&lazy_64m, other);
        measure(&lazy_64g, other);
    }
    for (int round = 0; round < ROUNDS_RESERVED; round++)
        measure(&full_64m, other);
    hshm_manager_destroy(other);

    printf("regions in POSIX shared memory, %d rounds; microseconds\n", ROUNDS);
    printf("          %21s %23s\n", lazy_64m.title, lazy_64g.title);
    printf("%-9s %10s %10s %12s %10s %9s\n", "", "median", "95%", "median", "95%", "ratio");
    print_row("create", lazy_64m.create_us, lazy_64g.create_us);
    print_row("attach", lazy_64m.attach_us, lazy_64g.attach_us);
    print_row("detach", lazy_64m.detach_us, lazy_64g.detach_us);
    print_row("destroy", lazy_64m.destroy_us, lazy_64g.destroy_us);
    printf("%s: create %.0f (%.3f ms a MiB), attach %.1f\n", full_64m.title,
           percentile(full_64m.create_us, ROUNDS_RESERVED, 50),
           percentile(full_64m.create_us, ROUNDS_RESERVED, 50) / 1000 / 64,
           percentile(full_64m.attach_us, ROUNDS_RESERVED, 50));
    return 0;
}
