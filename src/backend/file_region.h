/*
 * file_region.h - what the two kinds that live in files share: POSIX shared memory and mapped files.
 *
 * They differ in how a url becomes a file; struct file_kind says that, and the rest is common.
 */
#ifndef HSHM_BACKEND_FILE_REGION_H
#define HSHM_BACKEND_FILE_REGION_H

#include "backend/backend.h"

/* What the names of files that are still being made begin with; see file_region.c. */
#define UNSEEN_PREFIX ".hshm-"

struct file_kind {
    const char *folder; /* where all names lie; NULL = the url is a path       */
    bool takes_memory;  /* pages are memory that a container's limit counts    */
    /* Open, and remove, the file of that name; as open(2) and unlink(2).  `flags` without O_TMPFILE. */
    int (*open_name)(const char *url, int flags, mode_t mode);
    int (*unlink_name)(const char *url);
};

/* Of all kinds that live in /dev/shm: how names become files there, and which names are possible (backend_posix_shm.c). */
extern const struct file_kind shm_files;
hshm_status shm_check_name(const char *url);

/*
 * The same description under a number above 2, for descriptors that are kept: a daemon that closed its standard streams
 * would print into the region else.  -1 with errno stays -1; on failure the descriptor is closed.
 */
int file_above_stdio(int fd);

/* The functions of struct backend_ops, for any kind with `files`. */
uint64_t file_round_size(uint64_t size);
hshm_status file_obtain(const struct create_request *request, struct region *region);
hshm_status file_publish(struct region *region);
hshm_status file_open(const hshm_attach_options *options, struct region *region);
bool file_still_named(const struct region *region);
hshm_status file_unname(struct region *region);
hshm_status file_remove(const struct backend_ops *ops, const char *url);
hshm_status file_promise(struct region *region, uint64_t off, uint64_t size);
hshm_status file_give_back(struct region *region, uint64_t off, uint64_t size);
uint64_t file_committed(const struct region *region);
void file_release(struct region *region);

#endif
