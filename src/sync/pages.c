/*
 * pages.c - private pages, and processors.
 */
#include "sync/pages.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

void *
pages_take(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

void
pages_give(void *pages, size_t size)
{
    if (pages != NULL)
        (void)munmap(pages, size);
}

uint32_t
cpu_count(void)
{
    const long count = sysconf(_SC_NPROCESSORS_CONF);
    return count < 1 ? 1 : (uint32_t)count;
}

void
cpu_visit_all(uint32_t count, void (*fn)(void *arg, uint32_t cpu), void *arg)
{
    cpu_set_t before;
    if (sched_getaffinity(0, sizeof before, &before) != 0)
        return;
    for (uint32_t cpu = 0; cpu < count && cpu < CPU_SETSIZE; cpu++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof one, &one) == 0)
            fn(arg, cpu);
    }
    (void)sched_setaffinity(0, sizeof before, &before);
}

uint32_t
cpu_current(void)
{
    const int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (uint32_t)cpu;
}
