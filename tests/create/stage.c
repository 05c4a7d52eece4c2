/*
 * stage.c - see stage.h.
 */
#include "stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct setting setting_shm = { HSHM_BACKEND_POSIX_SHM_MMAP, LACKS_NOTHING, false };
struct setting setting_file = { HSHM_BACKEND_POSIX_MMAP, LACKS_NOTHING, false };
struct setting setting_shm_renamed = { HSHM_BACKEND_POSIX_SHM_MMAP, LACKS_TMPFILE, false };
struct setting setting_file_renamed = { HSHM_BACKEND_POSIX_MMAP, LACKS_TMPFILE, false };
struct setting setting_shm_linked = { HSHM_BACKEND_POSIX_SHM_MMAP, LACKS_NOREPLACE, false };
struct setting setting_file_linked = { HSHM_BACKEND_POSIX_MMAP, LACKS_NOREPLACE, false };
struct setting setting_disk = { HSHM_BACKEND_POSIX_MMAP, LACKS_NOTHING, true };

/* ---- file systems that lack something ---- */

/* Let system calls fail as they do there.  False when this process may not filter its system calls. */
static bool
refuse_calls(enum lacks lacks)
{
    const unsigned low_half = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 4;
    const unsigned flags = (unsigned)offsetof(struct seccomp_data, args[2]) + low_half;
    const unsigned rename = lacks == LACKS_NOREPLACE ? SECCOMP_RET_ERRNO | EINVAL : SECCOMP_RET_ALLOW;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, flags),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, O_TMPFILE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, O_TMPFILE, 2, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, rename),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
    };
    struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int
try_to_refuse(void *arg)
{
    const struct stage *stage = arg;
    if (!refuse_calls(stage->lacks))
        return 1;
    /* Is it refused, and nothing else? */
    if (open(stage->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) >= 0 || errno != EOPNOTSUPP)
        return 2;
    const int other = open(stage->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return other >= 0 && close(other) == 0 ? 0 : 3;
}

void
stage_enter(const struct stage *stage)
{
    if (stage->lacks != LACKS_NOTHING)
        assert_true(refuse_calls(stage->lacks));
}

static bool
gives_tmpfile(const char *folder)
{
    const int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 && close(fd) == 0;
}

static void
skip_unless_possible(struct stage *stage)
{
    if (stage->lacks == LACKS_NOTHING) {
        if (gives_tmpfile(stage->folder))
            return;
        print_message("%s has no O_TMPFILE; only the other ways of creating can be tried there\n", stage->folder);
        skip();
    }
    const int refused = child_run(try_to_refuse, stage);
    if (refused == 1) {
        print_message("this process may not filter its system calls (seccomp)\n");
        skip();
    }
    assert_int_equal(refused, 0);
}

struct stage *
stage_begin(void **state, const char *what)
{
    const struct setting *setting = *state;
    struct stage *stage = shared_bytes(sizeof *stage);
    stage->kind = setting->kind;
    stage->lacks = setting->lacks;
    stage->on_disk = setting->on_disk;
    if (stage->on_disk)
        (void)snprintf(stage->path, sizeof stage->path, "%s", test_path(what));
    else
        (void)snprintf(stage->path, sizeof stage->path, "/dev/shm/%.200s", test_name(what));
    const char *slash = strrchr(stage->path, '/');
    (void)snprintf(stage->folder, sizeof stage->folder, "%.*s", (int)(slash - stage->path), stage->path);
    (void)snprintf(stage->base, sizeof stage->base, "%.250s", slash + 1);
    (void)snprintf(stage->url, sizeof stage->url, "%s",
                   stage->kind == HSHM_BACKEND_POSIX_MMAP ? stage->path : stage->base);
    skip_unless_possible(stage);
    return stage;
}

/* ---- the region ---- */

hshm_status
stage_create_region(const struct stage *stage, hshm_manager *manager, hshm_replace replace)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.replace = replace;
    options.commit = stage->commit;
    options.slots = stage->slots;
    return hshm_backend_create(manager, 1, stage->kind, STAGE_SIZE, stage->url, &options, NULL);
}

hshm_status
stage_create(const struct stage *stage, hshm_manager *manager, hshm_replace replace)
{
    const hshm_status status = stage_create_region(stage, manager, replace);
    if (status != HSHM_OK)
        return status;
    return hshm_allocator_create(manager, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, NULL);
}

hshm_status
stage_attach(const struct stage *stage, hshm_manager *manager)
{
    return hshm_backend_attach(manager, stage->kind, stage->url, NULL, NULL);
}

hshm_status
stage_remove(const struct stage *stage)
{
    return hshm_backend_remove(stage->kind, stage->url);
}

static int
create_and_die(void *arg)
{
    assert_ok(stage_create(arg, NULL, HSHM_REPLACE_NEVER));
    return raise(SIGKILL);
}

static int
create_region_and_die(void *arg)
{
    assert_ok(stage_create_region(arg, NULL, HSHM_REPLACE_NEVER));
    return raise(SIGKILL);
}

void
stage_leftover(struct stage *stage, bool with_heap)
{
    assert_int_equal(child_run(with_heap ? create_and_die : create_region_and_die, stage), 128 + SIGKILL);
    assert_true(stage_named(stage));
}

void
stage_use(hshm_manager *manager)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(manager, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, &heap));
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.region_bytes, STAGE_SIZE);
    void *block = hshm_malloc(heap, 100);
    assert_non_null(block);
    memset(block, 0xa5, 100);
    assert_ok(hshm_free(heap, block));
}

struct uuid
stage_uuid(hshm_manager *manager)
{
    struct uuid uuid;
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(manager, 1), &info));
    memcpy(uuid.bytes, info.uuid, sizeof uuid.bytes);
    return uuid;
}

bool
same_uuid(struct uuid a, struct uuid b)
{
    return memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

/* ---- names ---- */

ino_t
stage_inode(const struct stage *stage)
{
    struct stat st;
    return lstat(stage->path, &st) == 0 ? st.st_ino : 0;
}

bool
stage_named(const struct stage *stage)
{
    return stage_inode(stage) != 0;
}

/* How many files of the folder carry the name, in whatever form. */
static unsigned
count_files(const struct stage *stage)
{
    unsigned count = 0;
    DIR *entries = opendir(stage->folder);
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
        count += strstr(entry->d_name, stage->base) != NULL;
    (void)closedir(entries);
    return count;
}

unsigned
stage_unseen(const struct stage *stage)
{
    return count_files(stage) - stage_named(stage);
}

void
stage_assert_all_gone(const struct stage *stage, const char *file, int line)
{
    const unsigned files = count_files(stage);
    if (files == 0)
        return;
    print_error("%u files are left of %s, the name itself is %s\n", files, stage->path,
                stage_named(stage) ? "one of them" : "gone");
    _fail(file, line);
}

/* ---- processes ---- */

_Noreturn void
stage_stay(struct step *step)
{
    step_reach(step);
    for (;;)
        (void)pause();
}

static int
attach_and_stay(void *arg)
{
    struct stage *stage = arg;
    assert_ok(stage_attach(stage, NULL));
    stage_stay(&stage->ready);
}

static int
create_and_stay(void *arg)
{
    struct stage *stage = arg;
    assert_ok(stage_create(stage, NULL, HSHM_REPLACE_NEVER));
    stage_stay(&stage->ready);
}

static pid_t
start_and_wait(struct stage *stage, int (*fn)(void *arg))
{
    const uint32_t before = atomic_load(&stage->ready.count);
    const pid_t pid = child_start(fn, stage);
    step_wait(&stage->ready, before + 1);
    return pid;
}

pid_t
stage_guest(struct stage *stage)
{
    return start_and_wait(stage, attach_and_stay);
}

pid_t
stage_owner(struct stage *stage)
{
    return start_and_wait(stage, create_and_stay);
}

void
stage_kill(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(child_wait(pid), 128 + SIGKILL);
}
