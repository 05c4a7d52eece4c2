/*
 * fork_guard.h - keeps fork() out of moments that a child must not inherit, and tells the manager about forks.
 *
 * A description that carries a lock exists as a descriptor for a few microseconds, until a mapping holds it (liveness.h).
 * A child forked just then would inherit the descriptor and keep the parent looking alive after its death.  So that
 * window runs under the guard, and the prepare handler takes the guard.
 */
#ifndef HSHM_SYNC_FORK_GUARD_H
#define HSHM_SYNC_FORK_GUARD_H

/* Called around a fork() of this process, in this order of names; `child` runs before fork() returns in the child. */
struct fork_hooks {
    void (*prepare)(void);
    void (*parent)(void);
    void (*child)(void);
};

/* Install the hooks, once in a process's life; later calls do nothing.  prepare runs before the guard is taken. */
void fork_guard_install(const struct fork_hooks *hooks);

void fork_guard_enter(void);
void fork_guard_leave(void);

#endif
