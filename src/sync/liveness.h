/*
 * liveness.h - who is alive, told by the kernel.
 *
 * A process proves life by an OFD lock (open file description lock) on bytes of a region's file.  The kernel drops it
 * when the last reference to the description goes, however the process ends; pids, pid namespaces, users and time play
 * no part.  What had to be found by trying:
 *   - A lock is invisible through the description that holds it.  So nobody asks about himself, and everybody who asks
 *     does so through a description without locks.
 *   - A descriptor does not last: daemons close them all; forked children inherit them.  So the lock is held by a
 *     *mapping* of one page that is not inherited (MADV_DONTFORK), and the descriptor is closed at once.
 */
#ifndef HSHM_SYNC_LIVENESS_H
#define HSHM_SYNC_LIVENESS_H

#include <hshm/types.h>
#include <sys/types.h>

#include "base/compiler.h"

/* Local: what keeps this process's lock.  All zero: no lock. */
struct life {
    void *page;
    size_t page_size;
};

enum lock_kind {
    LOCK_SHARED,   /* several may hold it; needs a readable descriptor  */
    LOCK_EXCLUSIVE /* one holds it; needs a writable descriptor         */
};

/* How many bytes "to the end of the file, wherever that will be" are. */
#define LOCK_TO_END UINT64_C(0)

/* Lock bytes of the file for `fd`'s description, without waiting.  0, EAGAIN when others hold them, or another errno. */
int life_lock(int fd, enum lock_kind kind, uint64_t off, uint64_t size);

void life_unlock(int fd, uint64_t off, uint64_t size);

/*
 * Does any description but fd's own hold a lock on these bytes?  1 yes, 0 no, -errno if the kernel would not say (then
 * somebody must be taken as alive).
 */
int life_is_held(int fd, uint64_t off, uint64_t size);

/*
 * Let a mapping of the file's first page hold fd's description from now on.  The caller closes fd, under the fork guard
 * since before it was opened.  0 or an errno.
 */
int life_hold(int fd, struct life *ret_life);

/* Drop the lock: from now on this process looks dead.  Harmless on an empty struct. */
void life_drop(struct life *life);

/* This process, as it calls itself.  To tell a forked child from its parent; never to tell who is alive. */
pid_t life_pid(void);

/* Things for people to read; no decision rests on them. */
uint64_t life_start_time(void);    /* of this process, in clock ticks since boot; 0 = unknown */
uint64_t life_pid_namespace(void); /* its inode; 0 = unknown                                  */

/* This boot's id; all zero when the system does not tell. */
void life_boot_id(uint64_t ret_id[2]);

#endif
