/*
 * settings.h - what the environment asks of the preloaded library.
 */
#ifndef HSHM_PRELOAD_SETTINGS_H
#define HSHM_PRELOAD_SETTINGS_H

#include <hshm/hshm.h>

/* Local: read once, before there is a heap. */
struct settings {
    uint64_t size;                  /* HSHM_PRELOAD_SIZE: bytes of the region at most               */
    uint64_t shared_size;           /* the same for a shared one                                    */
    bool size_is_asked;             /* not the defaults, so that a smaller one deserves a sentence  */
    hshm_allocator_kind allocator;  /* HSHM_PRELOAD_ALLOCATOR                                  */
    char shared[HSHM_NAME_MAX + 1]; /* HSHM_PRELOAD_SHARED: the region's name; empty = private */
    char stats[4096];               /* HSHM_PRELOAD_STATS: "1" = a line on stderr at exit, a path = appended there */
    bool debug;                     /* HSHM_PRELOAD_DEBUG: sentences that programs can do without                  */
};

/* Wrong values are named on stderr, and become the defaults. */
void settings_read(struct settings *ret_settings);

/* "hshm-preload: ..." and a line's end to a descriptor, without memory from anyone. */
void say_to(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define say(...) say_to(2, __VA_ARGS__)

#endif
