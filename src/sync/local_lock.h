/*
 * local_lock.h - a lock for the threads of one process.  Never placed in a region: its owner may be killed.
 *
 * Order, when more than one is held: list of managers (fork.c) -> manager -> blocks of a Malloc heap, or of process lifetime -> fork
 * guard.
 */
#ifndef HSHM_SYNC_LOCAL_LOCK_H
#define HSHM_SYNC_LOCAL_LOCK_H

#include <pthread.h>

#include "base/compiler.h"

struct local_lock {
    pthread_mutex_t mutex;
};

#define LOCAL_LOCK_INIT           \
    {                             \
        PTHREAD_MUTEX_INITIALIZER \
    }

static inline void
local_lock_init(struct local_lock *lock)
{
    *lock = (struct local_lock)LOCAL_LOCK_INIT;
}

static inline void
local_lock_take(struct local_lock *lock)
{
    int error = pthread_mutex_lock(&lock->mutex);
    ASSERT(error == 0); /* a normal mutex fails only if it is no mutex */
    (void)error;
}

static inline void
local_lock_give(struct local_lock *lock)
{
    int error = pthread_mutex_unlock(&lock->mutex);
    ASSERT(error == 0);
    (void)error;
}

#endif
