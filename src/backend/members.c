/*
 * members.c - slots, and the locks that prove that their owners live.
 *
 * Joining, for a writer:
 *     1. open a description of our own            (fork guard held from here)
 *     2. gate, shared                              no remover can be inside; none can get in while we hold it
 *     3. lock the bytes of a slot, exclusively     ours: whoever had it is dead
 *     4. look whether the name still leads here    else we joined a region that was removed between open and gate
 *                                                  (one that was reached by a descriptor needs no name)
 *     5. a mapping holds the description; fill in the slot, let go of the gate
 *     6. close the descriptor (fork guard released), and see that the lock is still there
 * A kill between any two steps drops our locks with us; a slot word that was written stays TAKEN, and whoever finds its
 * bytes unlocked takes it over.
 *
 * The kept descriptor (region.fd) is another description, without locks: it asks about others, and through it a forked
 * child finds the file again.
 *
 * A slot in a region without a file (an array) is a word changed by CAS.  Nobody is ever taken for dead there.
 */
#include "backend/members.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/file_region.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "sync/clock.h"
#include "sync/fork_guard.h"

enum {
    GATE_PATIENCE_MS = 50 /* a remover holds the gate for some microseconds, unless it was stopped */
};

static bool
has_file(const struct region *region)
{
    return region->ops->files != NULL;
}

static uint64_t
slot_lock_off(uint32_t slot)
{
    return sizeof(struct region_header) + (uint64_t)slot * sizeof(struct region_slot);
}

static bool
is_same_file(const struct region *region, int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_dev == region->device && st.st_ino == region->inode;
}

/* The user may close every descriptor, and reuse the number: before each use, see whether it is still ours. */
static bool
fd_is_ours(const struct region *region)
{
    return region->fd >= 0 && is_same_file(region, region->fd);
}

int
region_reopen(struct region *region, int flags)
{
    int fd = -1;
    if (fd_is_ours(region)) {
        char path[32];
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", region->fd);
        fd = open(path, flags | O_CLOEXEC);
    }
    if (fd < 0 && region->nameless && region->unseen_name == NULL) {
        errno = errno == EACCES || errno == EMFILE || errno == ENFILE ? errno : ENOENT;
        return -1;
    }
    if (fd < 0)
        fd = region->ops->files->open_name(region->unseen_name != NULL ? region->unseen_name : region->url,
                                           flags | O_NONBLOCK, 0);
    if (fd >= 0 && !is_same_file(region, fd)) {
        (void)close(fd);
        errno = ENOENT;
        return -1;
    }
    return fd;
}

int
region_fd(struct region *region)
{
    if (!fd_is_ours(region)) {
        /* Other threads may find out at the same time: one of them reopens it, perhaps under the very number it had. */
        fork_guard_enter();
        if (!fd_is_ours(region))
            region->fd = file_above_stdio(region_reopen(region, region->read_only ? O_RDONLY : O_RDWR));
        fork_guard_leave();
    }
    return region->fd;
}

static void
fill_slot(struct region_slot *slot)
{
    slot->pid = (uint32_t)getpid();
    slot->uid = (uint32_t)getuid();
    slot->pid_namespace = life_pid_namespace();
    slot->start_time = life_start_time();
    slot->attached_ns = clock_wall_ns();
    store_relaxed(&slot->log, 0);
    memset(slot->command, 0, sizeof slot->command);
    (void)snprintf(slot->command, sizeof slot->command, "%s", program_invocation_short_name);
    FAILPOINT("members.slot_described");
    /* Pairs with the acquire in whoever shows slots to people: they see the lines above with it. */
    store_release(&slot->state, SLOT_TAKEN);
    FAILPOINT("members.slot_taken");
}

/*
 * Own a slot by its lock: the lowest that looks free, so that small groups touch little memory, else the lowest whose
 * owner is dead.  (Asking the kernel about each slot that looks taken first would make the 1000th attach slow.)
 * The second round tries all: what was taken in the first may have become free since.
 */
static hshm_status
lock_slot(struct region *region, int lock_fd, uint32_t *ret_slot)
{
    for (int round = 0; round < 2; round++) {
        for (uint32_t slot = 0; slot < region->slot_count; slot++) {
            if (round == 0 && load_acquire(&region->slots[slot].state) != SLOT_FREE)
                continue;
            const int error = life_lock(lock_fd, LOCK_EXCLUSIVE, slot_lock_off(slot), sizeof(struct region_slot));
            if (error == 0) {
                *ret_slot = slot;
                return HSHM_OK;
            }
            if (error != EAGAIN)
                return fail(HSHM_E_SYSTEM,
                            "cannot lock slot %u of %s: %s; open file description locks are needed, which "
                            "some file systems lack",
                            slot, region_name(region).s, errno_text(error));
        }
    }
    return fail(HSHM_E_LIMIT,
                "cannot attach to %s: all its %u slots are taken by live processes; create it with more "
                "(hshm_backend_options.slots)",
                region_name(region).s, region->slot_count);
}

/* Without a file: by CAS, and only slots that were given back. */
static hshm_status
take_slot_without_file(struct region *region)
{
    for (uint32_t slot = 0; slot < region->slot_count; slot++) {
        uint32_t found = SLOT_FREE;
        /* Pairs with the release in members_leave(): the one before us is done with the slot's words. */
        if (!cas_acq_rel(&region->slots[slot].state, &found, SLOT_TAKEN))
            continue;
        fill_slot(&region->slots[slot]);
        region->slot = slot;
        return HSHM_OK;
    }
    return fail(HSHM_E_LIMIT,
                "cannot attach to %s: all its %u slots are taken; create it with more "
                "(hshm_backend_options.slots)",
                region_name(region).s, region->slot_count);
}

static hshm_status
open_failed(const struct region *region, int error)
{
    if (error == EMFILE || error == ENFILE)
        return fail(HSHM_E_NOSPC, "cannot reopen %s for its lock: %s; raise `ulimit -n`", region_name(region).s,
                    errno_text(error));
    if (error == EACCES || error == EPERM)
        return fail(HSHM_E_PERM, "cannot reopen %s for its lock: %s; this process (uid %u) may not open it any more",
                    region_name(region).s, errno_text(error), (unsigned)getuid());
    if (error == ENOENT)
        return fail(HSHM_E_NOTFOUND,
                    "%s cannot be reached any more: its descriptor was closed and its name is gone or "
                    "leads elsewhere",
                    region_name(region).s);
    return fail(HSHM_E_SYSTEM, "cannot reopen %s for its lock: %s", region_name(region).s, errno_text(error));
}

static hshm_status
take_gate(struct region *region, int lock_fd)
{
    struct wait wait = wait_begin(GATE_PATIENCE_MS);
    for (;;) {
        const int error = life_lock(lock_fd, LOCK_SHARED, LOCK_GATE_OFF, LOCK_BYTES);
        if (error == 0)
            return HSHM_OK;
        if (error != EAGAIN)
            return fail(HSHM_E_SYSTEM,
                        "cannot lock the gate of %s: %s; open file description locks are needed, which some "
                        "file systems lack",
                        region_name(region).s, errno_text(error));
        if (!wait_more(&wait))
            return fail(
                HSHM_E_BUSY,
                "%s is being removed by another process, or its last user is writing it to its disk; try again, or "
                "attach with timeout_ms",
                region_name(region).s);
    }
}

/* Lock a slot, or as a reader; *ret_slot is NO_SLOT then. */
static hshm_status
lock_place(struct region *region, int lock_fd, uint32_t *ret_slot)
{
    *ret_slot = NO_SLOT;
    if (!region->read_only)
        return lock_slot(region, lock_fd, ret_slot);
    const int error = life_lock(lock_fd, LOCK_SHARED, LOCK_READERS_OFF, LOCK_BYTES);
    if (error != 0)
        return fail(HSHM_E_SYSTEM, "cannot lock %s as a reader: %s", region_name(region).s, errno_text(error));
    return HSHM_OK;
}

/* What lock_fd's description locked is ours from now on, and a mapping holds it.  The caller closes lock_fd. */
static hshm_status
settle(struct region *region, int lock_fd, uint32_t slot)
{
    const int error = life_hold(lock_fd, &region->life);
    if (error != 0)
        return fail(HSHM_E_NOSPC,
                    "cannot map the page that holds the lock on %s: %s; raise `ulimit -v` or "
                    "vm.max_map_count",
                    region_name(region).s, errno_text(error));
    FAILPOINT("members.life_held");
    if (slot != NO_SLOT) {
        region->inherited = load_acquire(&region->slots[slot].state) != SLOT_FREE;
        fill_slot(&region->slots[slot]);
    }
    region->slot = slot;
    return HSHM_OK;
}

/* Steps 2 to 5 above; `named` = the region can be removed by others meanwhile. */
static hshm_status
join_through(struct region *region, int lock_fd, bool named)
{
    uint32_t slot = NO_SLOT;
    hshm_status status = named ? take_gate(region, lock_fd) : HSHM_OK;
    FAILPOINT("members.gate_held");
    if (status == HSHM_OK)
        status = lock_place(region, lock_fd, &slot);
    FAILPOINT("members.place_locked");
    if (status == HSHM_OK && named && !region->nameless && !region->ops->still_named(region))
        status = fail(HSHM_E_NOTFOUND, "%s was removed while this process attached", region_name(region).s);
    if (status == HSHM_OK)
        status = settle(region, lock_fd, slot);
    if (named)
        life_unlock(lock_fd, LOCK_GATE_OFF, LOCK_BYTES);
    FAILPOINT("members.joined");
    return status;
}

static void
give_slot(struct region *region)
{
    if (region->slot != NO_SLOT) {
        /* Pairs with the acquires of those who take the slot next.  If we never cleaned up after who had it before, the
         * slot stays a dead process's: without our lock others will find it. */
        if (!region->inherited)
            store_release(&region->slots[region->slot].state, SLOT_FREE);
        region->slot = NO_SLOT;
        FAILPOINT("members.slot_free");
    }
    life_drop(&region->life);
    FAILPOINT("members.left");
}

/*
 * Does the lock outlive its descriptor?  Stacked file systems (overlayfs, on which containers have their root) map
 * another file than the one that was locked, so there nothing could prove that we live.
 */
static hshm_status
check_hold(struct region *region)
{
    const uint64_t off = region->read_only ? LOCK_READERS_OFF : slot_lock_off(region->slot);
    const int fd = region_fd(region);
    if (fd < 0 || life_is_held(fd, off, LOCK_BYTES) != 0)
        return HSHM_OK;
    return fail(
        HSHM_E_NOTSUP,
        "%s lies on a file system that drops locks when descriptors are closed, so that nobody could be known to "
        "live (overlayfs does that, on which containers have their root); use a volume or another disk, or POSIX "
        "shared memory",
        region_name(region).s);
}

static hshm_status
join(struct region *region, bool named)
{
    if (!has_file(region))
        return region->read_only ? HSHM_OK : take_slot_without_file(region);

    fork_guard_enter();
    hshm_status status;
    const int lock_fd = region_reopen(region, region->read_only ? O_RDONLY : O_RDWR);
    if (lock_fd < 0) {
        status = open_failed(region, errno);
    } else {
        status = join_through(region, lock_fd, named);
        (void)close(lock_fd);
    }
    fork_guard_leave();
    if (status == HSHM_OK) {
        status = check_hold(region);
        if (status != HSHM_OK)
            give_slot(region);
    }
    return status;
}

hshm_status
members_found(struct region *region)
{
    const hshm_status status = join(region, false);
    if (status != HSHM_E_LIMIT)
        return status;
    /* Nobody else can have a slot of it yet: a sweeper holds the file under its unseen name, and will take it away. */
    return fail(HSHM_E_NOTREADY, "cannot create %s: another process took its unfinished file away; try again",
                region_name(region).s);
}

hshm_status
members_join(struct region *region)
{
    return join(region, true);
}

/*
 * The child's place is locked before there is a child, and by the parent, who is attached: so no remover can be inside, and
 * the parent cannot leave as the last one, before the child has it.  No look at the name: a heap whose name was removed
 * on purpose is the child's as much as the parent's.
 */
void
members_fork_prepare(struct region *region)
{
    struct heir *heir = &region->heir;
    *heir = (struct heir){ .fd = -1, .slot = NO_SLOT, .status = HSHM_OK };
    if (!has_file(region))
        return;
    heir->fd = region_reopen(region, region->read_only ? O_RDONLY : O_RDWR);
    if (heir->fd < 0)
        heir->status = open_failed(region, errno);
    else
        heir->status = lock_place(region, heir->fd, &heir->slot);
    FAILPOINT("members.fork_place_locked");
}

/* If there is no child after all, this was the last reference, and the lock goes with it. */
void
members_fork_parent(struct region *region)
{
    if (region->heir.fd >= 0)
        (void)close(region->heir.fd);
    region->heir.fd = -1;
}

hshm_status
members_fork_child(struct region *region)
{
    /* The parent's lock stayed with the parent: the page that holds it is not mapped here. */
    region->life = (struct life){ 0 };
    region->slot = NO_SLOT;
    region->inherited = false;
    hshm_status status = region->heir.status;
    if (status == HSHM_OK && region->heir.fd >= 0)
        status = settle(region, region->heir.fd, region->heir.slot);
    FAILPOINT("members.fork_settled");
    members_fork_parent(region);
    return status;
}

/*
 * Is nobody else left who could write?  (Readers may stay: they change nothing.)  Only with the gate closed: then nobody
 * can join or leave between the question and what follows from it.
 */
static bool
is_last(const struct region *region, int gate_fd)
{
    const uint64_t first = slot_lock_off(0);
    const uint64_t own = slot_lock_off(region->slot);
    const uint64_t behind = own + sizeof(struct region_slot);
    return (own == first || life_is_held(gate_fd, first, own - first) == 0) &&
           life_is_held(gate_fd, behind, LOCK_TO_END) == 0;
}

/*
 * Shut everyone else out of joining and leaving.  A description of its own, which the caller closes before it leaves the
 * fork guard: a child must not inherit it, or the gate would stay shut when we are killed.  -1 when it cannot be had.
 */
static int
close_gate(struct region *region)
{
    const int fd = region_reopen(region, O_RDWR);
    struct wait wait = wait_begin(GATE_PATIENCE_MS);
    while (fd >= 0) {
        const int error = life_lock(fd, LOCK_EXCLUSIVE, LOCK_GATE_OFF, LOCK_BYTES);
        if (error == 0)
            return fd;
        if (error != EAGAIN || !wait_more(&wait))
            break;
    }
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

void
members_leave(struct region *region)
{
    if (!(region->ops->caps & BACKEND_PERSISTS) || region->slot == NO_SLOT) {
        give_slot(region);
        return;
    }
    /* The bulk goes out while others may still come and go; behind the gate little is left to write. */
    const bool written = region->in_use && region->ops->sync(region) == HSHM_OK;
    fork_guard_enter();
    const int gate_fd = close_gate(region);
    FAILPOINT("members.gate_shut");
    if (gate_fd >= 0 && written && is_last(region, gate_fd) && region->ops->sync(region) == HSHM_OK) {
        /* A power loss before the second sync finds the flag still down: safe. */
        store_release(&region_header(region)->clean, 1);
        FAILPOINT("members.clean");
        (void)region->ops->sync(region);
    }
    give_slot(region);
    if (gate_fd >= 0)
        (void)close(gate_fd);
    fork_guard_leave();
}

/* By a description of its own, under the fork guard all the time: a child that inherited it would keep the dead alive. */
int
members_seize(struct region *region, uint32_t slot)
{
    if (!has_file(region) || slot >= region->slot_count || load_acquire(&region->slots[slot].state) != SLOT_TAKEN ||
        members_is_alive(region, slot))
        return -1;
    fork_guard_enter();
    const int fd = region_reopen(region, O_RDWR);
    if (fd >= 0 && life_lock(fd, LOCK_EXCLUSIVE, slot_lock_off(slot), sizeof(struct region_slot)) == 0 &&
        load_acquire(&region->slots[slot].state) == SLOT_TAKEN) {
        FAILPOINT("members.seized");
        return fd;
    }
    if (fd >= 0)
        (void)close(fd);
    fork_guard_leave();
    return -1;
}

void
members_bury(struct region *region, uint32_t slot, int ticket)
{
    store_release(&region->slots[slot].state, SLOT_FREE);
    FAILPOINT("members.buried");
    (void)close(ticket);
    fork_guard_leave();
}

bool
members_is_alive(struct region *region, uint32_t slot)
{
    if (load_acquire(&region->slots[slot].state) != SLOT_TAKEN)
        return false;
    if (slot == region->slot || !has_file(region))
        return true;
    const int fd = region_fd(region);
    return fd < 0 || life_is_held(fd, slot_lock_off(slot), sizeof(struct region_slot)) != 0;
}

uint32_t
members_alive(struct region *region)
{
    uint32_t alive = 0;
    for (uint32_t slot = 0; slot < region->slot_count; slot++)
        alive += members_is_alive(region, slot);
    return alive;
}
