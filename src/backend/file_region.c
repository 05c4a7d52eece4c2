/*
 * file_region.c - a region in a file: built unseen, published at once, found again, removed when dead.
 *
 * Create
 *     1. O_TMPFILE in the folder of the name: a file that nobody can open
 *     2. mode, size, reservation, map                     a kill up to here leaves nothing at all
 *        (header and slot are written by region_create())
 *     3. linkat() gives it its name; EEXIST if another was faster
 *   A nameless region is whole after step 2: no link, nothing to remove; others open /proc/PID/fd/N, or are sent a
 *   descriptor.
 *   Where O_TMPFILE is refused (some network and FUSE file systems, no /proc), the file is made under an unseen name
 *   ".hshm-<name>.<16 digits>" and renamed without replacing.  A kill then leaves that file; its lock tells that its
 *   maker is dead, and the next create or remove of <name> takes it away.
 *
 * Remove
 *     1. open the name, lock the *whole* file exclusively: succeeds only if no process holds a slot, reads, or is
 *        attaching, and keeps all from attaching
 *     2. see that the name still leads to this file, unlink it, close
 *   While the lock is held nobody else can take the name away, so the name cannot come to mean another region in
 *   between (but by a user's rm, which we cannot stop).
 */
#include "backend/file_region.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backend/members.h"
#include "backend/preflight.h"
#include "base/checked.h"
#include "base/error.h"
#include "sync/fork_guard.h"

#define FALLOCATE_STEP (UINT64_C(64) << 20)
#define FALLOCATE_STEP_MIN (UINT64_C(1) << 20)
#define UNSEEN_TRIES 100

uint64_t
file_round_size(uint64_t size)
{
    return align_up(size, region_page_size());
}

/* ---- paths ---- */

/* Local, for the length of a call: where a url leads. */
struct place {
    char path[PATH_MAX];
    char folder[PATH_MAX];
    const char *base; /* in path */
};

static hshm_status
find_place(const struct backend_ops *ops, const char *url, struct place *ret_place)
{
    const char *folder = ops->files->folder;
    const int length = folder != NULL ? snprintf(ret_place->path, sizeof ret_place->path, "%s/%s", folder, url)
                                      : snprintf(ret_place->path, sizeof ret_place->path, "%s", url);
    if (length >= (int)sizeof ret_place->path)
        return fail(HSHM_E_INVAL, "the path of %s is too long: %d bytes, at most %d", backend_name(ops, url).s, length,
                    PATH_MAX - 1);
    const char *slash = strrchr(ret_place->path, '/');
    ret_place->base = slash == NULL ? ret_place->path : slash + 1;
    if (slash == NULL)
        memcpy(ret_place->folder, ".", sizeof ".");
    else if (slash == ret_place->path)
        memcpy(ret_place->folder, "/", sizeof "/");
    else
        (void)snprintf(ret_place->folder, sizeof ret_place->folder, "%.*s", (int)(slash - ret_place->path),
                       ret_place->path);
    return HSHM_OK;
}

/* The url of another file in the same folder.  NULL without memory; the caller frees it. */
static char *
sibling_url(const char *url, const char *base, const char *sibling_base)
{
    char *sibling = NULL;
    if (asprintf(&sibling, "%.*s%s", (int)(strlen(url) - strlen(base)), url, sibling_base) < 0)
        return NULL;
    return sibling;
}

int
file_above_stdio(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    const int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    const int error = errno;
    (void)close(fd);
    errno = error;
    return above;
}

/* ---- mapping ---- */

static void *
map_nothing(uint64_t size)
{
    return mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/*
 * Map at a multiple of the largest power of two that fits into the region, so that aligned blocks are aligned in every
 * process: reserve twice as much, and use the part that lies right.  Where addresses are scarce, anywhere.
 *
 * Of the region's `size` bytes the file has the first `host_size`.  The others get addresses, and no memory: who touches
 * them gets a SIGSEGV.
 */
static void *
map_aligned(int fd, uint64_t size, uint64_t host_size, int protection)
{
    /* Whole pages, as the system maps them: a region that was made where pages are smaller may end inside one. */
    const uint64_t length = file_round_size(size);
    uint64_t alignment = floor_power_of_two(length);
    void *reserve = MAP_FAILED;
    if (length <= UINT64_MAX / 4)
        reserve = map_nothing(length + alignment);
    if (reserve == MAP_FAILED && host_size == size)
        return mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    if (reserve == MAP_FAILED) {
        alignment = region_page_size();
        reserve = map_nothing(length + alignment);
    }
    if (reserve == MAP_FAILED)
        return MAP_FAILED;

    const uintptr_t begin = (uintptr_t)reserve;
    const uintptr_t at = (uintptr_t)align_up(begin, alignment);
    void *base = mmap((void *)at, host_size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (base == MAP_FAILED) {
        const int error = errno;
        (void)munmap(reserve, length + alignment);
        errno = error;
        return MAP_FAILED;
    }
    if (at > begin)
        (void)munmap(reserve, at - begin);
    if (begin + alignment > at)
        (void)munmap((void *)(at + length), begin + alignment - at);
    return base;
}

static hshm_status
map_region(struct region *region, uint64_t size, uint64_t host_size)
{
    void *base = map_aligned(region->fd, size, host_size, region->read_only ? PROT_READ : PROT_READ | PROT_WRITE);
    if (base == MAP_FAILED)
        return preflight_map_failed(region_name(region).s, size, errno);
    region->base = base;
    region->size = size;
    region->host_size = host_size;
    return HSHM_OK;
}

static hshm_status
remember_identity(struct region *region)
{
    struct stat st;
    if (fstat(region->fd, &st) != 0)
        return fail(HSHM_E_SYSTEM, "cannot look at %s: %s", region_name(region).s, errno_text(errno));
    region->device = st.st_dev;
    region->inode = st.st_ino;
    return HSHM_OK;
}

/* ---- file systems ---- */

/* Nodes of a network file system do not see each other's stores, and locks and mappings there promise little. */
static hshm_status
refuse_network(const struct region *region)
{
    static const struct {
        uint32_t magic;
        const char *title;
    } network[] = {
        { 0x6969, "NFS" },          { 0xff534d42, "CIFS" },   { 0xfe534d42, "SMB2" },  { 0x517b, "SMB" },
        { 0x0bd00bd0, "Lustre" },   { 0x47504653, "GPFS" },   { 0x00c36400, "Ceph" },  { 0x5346414f, "AFS" },
        { 0x01021997, "9p" },       { 0x6b414653, "AFS" },    { 0x7461636f, "OCFS2" }, { 0x01161970, "GFS2" },
        { 0x20030528, "OrangeFS" }, { 0x19830326, "BeeGFS" },
    };
    struct statfs fs;
    if (fstatfs(region->fd, &fs) != 0)
        return HSHM_OK;
    for (size_t i = 0; i < COUNTOF(network); i++) {
        if ((uint32_t)fs.f_type == network[i].magic)
            return fail(HSHM_E_NOTSUP,
                        "%s lies on a network file system (%s), where processes of several nodes would not see "
                        "each other's memory; use a local disk, or POSIX shared memory",
                        region_name(region).s, network[i].title);
    }
    return HSHM_OK;
}

/* ---- create ---- */

static hshm_status
nothing_there(struct region_name name, const char *verb, const char *folder, int error)
{
    if (strcmp(verb, "attach to") == 0 && access(folder, F_OK) == 0)
        return fail(HSHM_E_NOTFOUND,
                    "cannot attach to %s: %s: nobody has made it in %s yet, or it was removed; to wait for it, set "
                    "timeout_ms",
                    name.s, errno_text(error), folder);
    return fail(HSHM_E_NOTFOUND, "cannot %s %s: %s: look whether %s exists", verb, name.s, errno_text(error), folder);
}

static hshm_status
open_failed(const struct region *region, const char *verb, const char *folder, int error)
{
    const struct region_name name = region_name(region);
    switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
        return fail(HSHM_E_PERM,
                    "cannot %s %s: %s: uid %u may not do that in %s; ask its owner, or see `ausearch -m avc` if "
                    "its mode looks right",
                    verb, name.s, errno_text(error), (unsigned)geteuid(), folder);
    case ENOENT:
    case ENOTDIR:
        return nothing_there(name, verb, folder, error);
    case EMFILE:
    case ENFILE:
        return fail(HSHM_E_NOSPC, "cannot %s %s: %s; raise `ulimit -n`", verb, name.s, errno_text(error));
    case ENOSPC:
    case EDQUOT:
        return fail(HSHM_E_NOSPC, "cannot %s %s: %s: no room in %s", verb, name.s, errno_text(error), folder);
    case EEXIST:
        return fail(HSHM_E_EXISTS,
                    "cannot %s %s: the name is taken; attach to it, remove it (hshm_backend_remove), or let a "
                    "dead leftover be replaced (HSHM_REPLACE_DEAD)",
                    verb, name.s);
    case ELOOP:
    case EISDIR:
    case EINVAL:
    case ENXIO:
        return fail(HSHM_E_INVAL, "cannot %s %s: %s: it must be a plain file in a plain folder", verb, name.s,
                    errno_text(error));
    default:
        return fail(HSHM_E_SYSTEM, "cannot %s %s in %s: %s", verb, name.s, folder, errno_text(error));
    }
}

/* Can a description be opened anew?  Without /proc an O_TMPFILE could never get the lock that proves its maker alive. */
static bool
can_reopen(int fd)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return access(path, F_OK) == 0;
}

static int
open_tmpfile(const char *folder)
{
    const int fd = file_above_stdio(open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (fd >= 0 && !can_reopen(fd)) {
        (void)close(fd);
        errno = EOPNOTSUPP;
        return -1;
    }
    return fd;
}

static uint64_t
random_word(void)
{
    uint64_t word = 0;
    if (getrandom(&word, sizeof word, GRND_NONBLOCK) != (ssize_t)sizeof word)
        word = (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)&word; /* early in boot: O_EXCL keeps names apart */
    return word;
}

/* Lock the whole file: true if nobody lives in it, and then nobody can come to, until fd is closed. */
static bool
lock_dead(int fd)
{
    return life_lock(fd, LOCK_EXCLUSIVE, 0, LOCK_TO_END) == 0;
}

/* Is this the name of an unseen file for `base`: ".hshm-<base>.<16 digits>"? */
static bool
is_unseen_name(const char *name, const char *base)
{
    const size_t prefix = strlen(UNSEEN_PREFIX);
    const size_t length = strlen(base);
    return strncmp(name, UNSEEN_PREFIX, prefix) == 0 && strncmp(name + prefix, base, length) == 0 &&
           name[prefix + length] == '.' && strspn(name + prefix + length + 1, "0123456789abcdef") == 16 &&
           name[prefix + length + 1 + 16] == '\0';
}

/* Take away unseen files of dead makers of this name.  Nothing depends on success. */
static void
sweep_unseen(const struct backend_ops *ops, const char *url, const struct place *place)
{
    DIR *entries = opendir(place->folder);
    if (entries == NULL)
        return;
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        if (!is_unseen_name(entry->d_name, place->base))
            continue;
        char *sibling = sibling_url(url, place->base, entry->d_name);
        fork_guard_enter(); /* no child shall inherit the lock */
        const int fd = sibling == NULL ? -1 : ops->files->open_name(sibling, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0);
        if (fd >= 0) {
            if (lock_dead(fd))
                (void)ops->files->unlink_name(sibling);
            (void)close(fd);
        }
        fork_guard_leave();
        free(sibling);
    }
    (void)closedir(entries);
}

/*
 * Make the file, and lock it before a sweeper takes it for a dead maker's; publish drops that lock, when the slot's is
 * there.  HSHM_E_NOTREADY when a sweeper was faster.
 */
static hshm_status
open_unseen_once(struct region *region, const struct place *place)
{
    char base[NAME_MAX + 32];
    (void)snprintf(base, sizeof base, UNSEEN_PREFIX "%s.%016" PRIx64, place->base, random_word());
    region->unseen_name = sibling_url(region->url, place->base, base);
    if (region->unseen_name == NULL)
        return fail(HSHM_E_NOSPC, "cannot create %s: no memory for its name", region_name(region).s);
    region->fd = file_above_stdio(region->ops->files->open_name(region->unseen_name, O_RDWR | O_CREAT | O_EXCL, 0600));
    if (region->fd < 0) {
        const int error = errno;
        free(region->unseen_name);
        region->unseen_name = NULL;
        return open_failed(region, "create", place->folder, error);
    }
    struct stat st;
    /* A file system without such locks is told of when the slot is taken. */
    if (life_lock(region->fd, LOCK_SHARED, LOCK_GATE_OFF, LOCK_BYTES) != EAGAIN && fstat(region->fd, &st) == 0 &&
        st.st_nlink > 0)
        return HSHM_OK;
    file_release(region);
    return fail(HSHM_E_NOTREADY, "cannot create %s: another process took its unfinished file away; try again",
                region_name(region).s);
}

/* Where O_TMPFILE is refused.  To lose against sweepers again and again would take one at each try's same microsecond. */
static hshm_status
open_unseen(struct region *region, const struct place *place)
{
    sweep_unseen(region->ops, region->url, place);
    hshm_status status = open_unseen_once(region, place);
    for (int tries = 1; status == HSHM_E_NOTREADY && tries < UNSEEN_TRIES; tries++)
        status = open_unseen_once(region, place);
    return status;
}

static hshm_status
open_new(struct region *region, const struct place *place)
{
    region->fd = open_tmpfile(place->folder);
    if (region->fd >= 0)
        return HSHM_OK;
    if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOSYS)
        return open_unseen(region, place);
    return open_failed(region, "create", place->folder, errno);
}

static hshm_status
size_failed(const struct region *region, const char *folder, uint64_t size, int error)
{
    if (error == ENOSPC || error == EDQUOT) {
        const hshm_status status = preflight_space(region_name(region).s, region->fd, folder, size);
        if (status != HSHM_OK)
            return status;
    }
    const bool no_room = error == ENOSPC || error == EDQUOT || error == EFBIG || error == ENOMEM;
    return fail(no_room ? HSHM_E_NOSPC : HSHM_E_SYSTEM,
                "cannot give %s its size in %s: %s needed: %s; free some room there, "
                "or ask for less",
                region_name(region).s, folder, size_text(size).s, errno_text(error));
}

/*
 * Make the file system promise these bytes.  0 or an errno.
 * Some kernels undo a step when a signal comes in and answer EINTR: smaller steps then, or timers would keep us forever.
 */
static int
reserve_bytes(int fd, uint64_t off, uint64_t size)
{
    uint64_t most = FALLOCATE_STEP;
    while (size > 0) {
        const uint64_t step = min_u64(size, most);
        if (fallocate(fd, 0, (off_t)off, (off_t)step) != 0) {
            if (errno == EINTR) {
                most = max_u64(most / 2, FALLOCATE_STEP_MIN);
                continue;
            }
            if (errno == EOPNOTSUPP) /* then by writing to each block, as the C library does */
                return posix_fallocate(fd, (off_t)off, (off_t)size);
            return errno;
        }
        off += step;
        size -= step;
    }
    return 0;
}

/* How many bytes the file has. */
static uint64_t
file_size(const struct create_request *request)
{
    return request->host_size == 0 ? request->size : request->host_size;
}

/*
 * Mode, size, reservation.  Header and slots are promised even to a lazy region: attaching must not end in a SIGBUS.  Where
 * the data is elsewhere, how much control data there will be is not known yet; it is promised when the heap is made.
 */
static hshm_status
size_file(struct region *region, const struct create_request *request, const char *folder)
{
    const bool has_device = request->host_size != 0;
    const bool lazy = request->options.commit == HSHM_COMMIT_LAZY || has_device;
    const uint64_t size = file_size(request);
    hshm_status status = refuse_network(region);
    if (status == HSHM_OK && !lazy)
        status = preflight_space(region_name(region).s, region->fd, folder, size);
    if (status == HSHM_OK && !lazy && region->ops->files->takes_memory)
        status = preflight_cgroup(region_name(region).s, size);
    if (status != HSHM_OK)
        return status;

    /* Set, not asked for: the umask takes part in open(). */
    if (fchmod(region->fd, (mode_t)request->options.mode) != 0)
        return fail(HSHM_E_SYSTEM, "cannot set mode %04o on %s: %s", (unsigned)request->options.mode,
                    region_name(region).s, errno_text(errno));
    if (ftruncate(region->fd, (off_t)size) != 0)
        return size_failed(region, folder, size, errno);
    const uint64_t begin = region_heap_off(request->options.slots) + region_device_size(has_device);
    const uint64_t promised = lazy ? min_u64(size, begin) : size;
    const int error = reserve_bytes(region->fd, 0, promised);
    return error == 0 ? HSHM_OK : size_failed(region, folder, promised, error);
}

static hshm_status
prefault(struct region *region)
{
#if defined(MADV_POPULATE_WRITE)
    if (madvise(region->base, region->size, MADV_POPULATE_WRITE) == 0)
        return HSHM_OK;
    if (errno != EINVAL && errno != ENOSYS)
        return fail(HSHM_E_NOSPC, "cannot map all %s of %s at once: %s", size_text(region->size).s,
                    region_name(region).s, errno_text(errno));
#endif
    /* Kernels before 5.14: touch each page; it is reserved, so no touch can fail. */
    const uint64_t page = region_page_size();
    for (uint64_t off = 0; off < region->size; off += page)
        ((volatile unsigned char *)region->base)[off] = 0;
    return HSHM_OK;
}

hshm_status
file_obtain(const struct create_request *request, struct region *region)
{
    struct place place;
    hshm_status status = find_place(region->ops, region->url, &place);
    if (status != HSHM_OK)
        return status;
    /* Told early, before memory is taken for nothing; publish tells it for certain. */
    struct stat st;
    if (!region->nameless && lstat(place.path, &st) == 0)
        return open_failed(region, "create", place.folder, EEXIST);

    status = preflight_file_size(region_name(region).s, file_size(request));
    if (status == HSHM_OK)
        status = open_new(region, &place);
    if (status == HSHM_OK)
        status = remember_identity(region);
    if (status == HSHM_OK)
        status = size_file(region, request, place.folder);
    if (status == HSHM_OK)
        status = map_region(region, request->size, file_size(request));
    if (status == HSHM_OK && request->options.commit == HSHM_COMMIT_PREFAULT && request->host_size == 0)
        status = prefault(region);
    if (status != HSHM_OK) {
        file_release(region);
        return status;
    }
    region->zeroed = true;
    return HSHM_OK;
}

/* Link an O_TMPFILE into place.  0 or an errno. */
static int
link_tmpfile(int fd, const struct place *place)
{
    char from[32];
    (void)snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, from, AT_FDCWD, place->path, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

/* Give the unseen file its name, without replacing one that is there.  0 or an errno. */
static int
rename_unseen(const struct place *unseen, const struct place *place)
{
    if (renameat2(AT_FDCWD, unseen->path, AT_FDCWD, place->path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return errno;
    /*
     * File systems without it: a second name, and then the first one away.  A kill in between leaves a sibling of a
     * region that lives; sweep_unseen() removes it when the region is dead, and nothing else minds it.
     */
    if (link(unseen->path, place->path) != 0)
        return errno;
    (void)unlink(unseen->path);
    return 0;
}

hshm_status
file_publish(struct region *region)
{
    struct place place;
    struct place unseen;
    hshm_status status = find_place(region->ops, region->url, &place);
    if (status == HSHM_OK && region->unseen_name != NULL)
        status = find_place(region->ops, region->unseen_name, &unseen);
    if (status != HSHM_OK)
        return status;
    /* The kept description is to have no locks; the slot's holds the file by now. */
    if (region->unseen_name != NULL)
        life_unlock(region_fd(region), LOCK_GATE_OFF, LOCK_BYTES);
    int error = 0;
    if (!region->nameless)
        error = region->unseen_name == NULL ? link_tmpfile(region->fd, &place) : rename_unseen(&unseen, &place);
    else if (region->unseen_name != NULL && region->ops->files->unlink_name(region->unseen_name) != 0)
        error = errno;
    if (error == ENOENT)
        return fail(HSHM_E_NOTREADY, "cannot create %s: another process took its unfinished file away; try again",
                    region_name(region).s);
    if (error != 0)
        return open_failed(region, "create", place.folder, error);
    free(region->unseen_name);
    region->unseen_name = NULL;
    return HSHM_OK;
}

/* ---- attach ---- */

/* A first look through the descriptor: is it a region, and how much of it to map? */
static hshm_status
read_size(struct region *region, uint64_t *ret_size, uint64_t *ret_host_size)
{
    const struct region_name name = region_name(region);
    struct stat st;
    if (fstat(region->fd, &st) != 0)
        return fail(HSHM_E_SYSTEM, "cannot look at %s: %s", name.s, errno_text(errno));
    if (!S_ISREG(st.st_mode))
        return fail(HSHM_E_INVAL, "%s is no plain file", name.s);
    struct region_header header;
    const ssize_t got = pread(region->fd, &header, sizeof header, 0);
    if (got < 0)
        return fail(HSHM_E_SYSTEM, "cannot read %s: %s", name.s, errno_text(errno));
    if ((size_t)got < sizeof header)
        return fail(HSHM_E_CORRUPT,
                    "%s is not a region of hshm: it has %lld bytes, a region's header alone has %zu; check "
                    "the name",
                    name.s, (long long)st.st_size, sizeof header);
    const hshm_status status = region_check_base(&header, (uint64_t)st.st_size, name.s);
    if (status == HSHM_OK) {
        *ret_size = header.region_size;
        *ret_host_size = region_host_size(&header);
    }
    return status;
}

/* By name, or a description of our own of what the caller's descriptor leads to.  -1 with errno. */
static int
open_existing(const struct region *region, const int *callers_fd)
{
    const int flags = (region->read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK;
    /* Never O_CREAT: besides creating, it is refused for others' files in sticky folders (fs.protected_regular). */
    if (callers_fd == NULL)
        return file_above_stdio(region->ops->files->open_name(region->url, flags, 0));
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", *callers_fd);
    return file_above_stdio(open(path, flags | O_CLOEXEC));
}

hshm_status
file_open(const hshm_attach_options *options, struct region *region)
{
    struct place place;
    hshm_status status = find_place(region->ops, region->url, &place);
    if (status != HSHM_OK)
        return status;
    region->read_only = options->read_only;
    region->fd = open_existing(region, options->fd);
    if (region->fd < 0)
        return open_failed(region, "attach to", place.folder, errno);

    uint64_t size = 0;
    uint64_t host_size = 0;
    status = remember_identity(region);
    if (status == HSHM_OK)
        status = refuse_network(region);
    if (status == HSHM_OK)
        status = read_size(region, &size, &host_size);
    if (status == HSHM_OK)
        status = map_region(region, size, host_size);
    if (status != HSHM_OK)
        file_release(region);
    return status;
}

bool
file_still_named(const struct region *region)
{
    struct place place;
    struct stat st;
    return find_place(region->ops, region->url, &place) == HSHM_OK && stat(place.path, &st) == 0 &&
           st.st_dev == region->device && st.st_ino == region->inode;
}

/* ---- remove ---- */

hshm_status
file_unname(struct region *region)
{
    if (!file_still_named(region))
        return HSHM_OK; /* removed by hand, or the name is another region's by now: not ours to touch */
    if (region->ops->files->unlink_name(region->url) == 0 || errno == ENOENT)
        return HSHM_OK;
    return fail(errno == EACCES || errno == EPERM ? HSHM_E_PERM : HSHM_E_SYSTEM, "cannot remove the name of %s: %s",
                region_name(region).s, errno_text(errno));
}

/* Is it one of ours, of whatever version?  Anything else is not ours to remove. */
static bool
is_region(int fd)
{
    uint64_t magic = 0;
    return pread(fd, &magic, sizeof magic, 0) == (ssize_t)sizeof magic && magic == REGION_MAGIC;
}

/* The file is open, and no child can inherit it: lock it, look at it, and take its name away if it is a dead region's. */
static hshm_status
remove_open(struct region *region)
{
    const struct region_name name = region_name(region);
    const hshm_status status = remember_identity(region);
    if (status != HSHM_OK)
        return status;
    if (!is_region(region->fd))
        return fail(HSHM_E_CORRUPT, "%s is not a region of hshm and was left alone; remove it by hand if it is yours",
                    name.s);
    if (!lock_dead(region->fd))
        return fail(HSHM_E_BUSY,
                    "%s was left alone: a live process is attached to it, or another is removing it; see "
                    "/proc/locks for who",
                    name.s);
    if (!file_still_named(region))
        return fail(HSHM_E_NOTFOUND, "%s was removed by another process meanwhile", name.s);
    return file_unname(region);
}

hshm_status
file_remove(const struct backend_ops *ops, const char *url)
{
    struct place place;
    hshm_status status = find_place(ops, url, &place);
    if (status != HSHM_OK)
        return status;
    struct region region = { .ops = ops, .url = (char *)(uintptr_t)url, .fd = -1 };
    sweep_unseen(ops, url, &place);
    fork_guard_enter(); /* a child that inherited the lock would hold it after our death */
    region.fd = ops->files->open_name(url, O_RDWR | O_NONBLOCK | O_NOFOLLOW, 0);
    if (region.fd < 0) {
        status = open_failed(&region, "remove", place.folder, errno);
    } else {
        status = remove_open(&region);
        (void)close(region.fd);
    }
    fork_guard_leave();
    return status;
}

/* ---- the rest ---- */

hshm_status
file_promise(struct region *region, uint64_t off, uint64_t size)
{
    struct place place;
    hshm_status status = find_place(region->ops, region->url, &place);
    if (status != HSHM_OK)
        return status;
    const int error = reserve_bytes(region_fd(region), off, size);
    return error == 0 ? HSHM_OK : size_failed(region, place.folder, size, error);
}

hshm_status
file_give_back(struct region *region, uint64_t off, uint64_t size)
{
    if (size == 0 || madvise(region->base + off, size, MADV_REMOVE) == 0)
        return HSHM_OK;
    return fail(errno == EOPNOTSUPP ? HSHM_E_NOTSUP : HSHM_E_SYSTEM, "cannot give %s of %s back to the system: %s",
                size_text(size).s, region_name(region).s, errno_text(errno));
}

uint64_t
file_committed(const struct region *region)
{
    const int fd = region_fd((struct region *)(uintptr_t)region);
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

void
file_release(struct region *region)
{
    if (region->base != NULL && region->stays_reserved)
        (void)mmap(region->base, region->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                   0);
    else if (region->base != NULL)
        (void)munmap(region->base, region->size);
    region->base = NULL;
    if (region->unseen_name != NULL)
        (void)region->ops->files->unlink_name(region->unseen_name);
    free(region->unseen_name);
    region->unseen_name = NULL;
    struct stat st;
    /* If the user closed our descriptor, the number may be his by now. */
    if (region->fd >= 0 && fstat(region->fd, &st) == 0 &&
        (region->inode == 0 || (st.st_dev == region->device && st.st_ino == region->inode)))
        (void)close(region->fd);
    region->fd = -1;
}
