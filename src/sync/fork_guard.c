/*
 * fork_guard.c - one lock and one set of fork handlers for the process.
 *
 * The handlers belong to this library's object file, so that dlclose() takes them away again.
 */
#include "sync/fork_guard.h"

#include "sync/atomic.h"
#include "sync/local_lock.h"

static struct local_lock guard = LOCAL_LOCK_INIT;
static pthread_once_t installed = PTHREAD_ONCE_INIT;
static const struct fork_hooks *_Atomic hooks;

void
fork_guard_enter(void)
{
    local_lock_take(&guard);
}

void
fork_guard_leave(void)
{
    local_lock_give(&guard);
}

static void
before_fork(void)
{
    load_acquire(&hooks)->prepare();
    fork_guard_enter();
}

static void
after_fork_in_parent(void)
{
    fork_guard_leave();
    load_acquire(&hooks)->parent();
}

static void
after_fork_in_child(void)
{
    fork_guard_leave();
    load_acquire(&hooks)->child();
}

static void
install(void)
{
    /* Fails only without memory for the list of handlers; then forked children are like those of _Fork(). */
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void
fork_guard_install(const struct fork_hooks *new_hooks)
{
    /* Set again by each caller, always to the same constant table.  Pairs with the acquires of the handlers. */
    store_release(&hooks, new_hooks);
    (void)pthread_once(&installed, install);
}
