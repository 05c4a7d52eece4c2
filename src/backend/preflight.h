/*
 * preflight.h - will the system be able to back this much memory?  Asked before it answers with a signal.
 *
 * A file beyond `ulimit -f` raises SIGXFSZ; memory beyond a container's limit ends in SIGKILL; a full /dev/shm in
 * SIGBUS.  None of them can be turned into an answer afterwards.
 */
#ifndef HSHM_BACKEND_PREFLIGHT_H
#define HSHM_BACKEND_PREFLIGHT_H

#include <hshm/status.h>

#include "base/compiler.h"

/* `ulimit -f`.  HSHM_OK or HSHM_E_NOSPC. */
hshm_status preflight_file_size(const char *name, uint64_t size);

/* Free space of the file system that fd lies on; `place` is its folder, for the sentence.  HSHM_OK or HSHM_E_NOSPC. */
hshm_status preflight_space(const char *name, int fd, const char *place, uint64_t size);

/* The memory limit of this process's control group.  HSHM_OK, also where there is none, or HSHM_E_NOSPC. */
hshm_status preflight_cgroup(const char *name, uint64_t size);

/*
 * The room that control groups leave: UINT64_MAX without a limit.  v1 and v2, all groups up to the root.
 * The two paths are "/proc/self/cgroup" and "/sys/fs/cgroup"; tests bring their own.
 */
uint64_t preflight_cgroup_room(const char *membership, const char *hierarchy);

/* The sentence for an mmap that was refused.  Always HSHM_E_NOSPC. */
hshm_status preflight_map_failed(const char *name, uint64_t size, int error);

#endif
