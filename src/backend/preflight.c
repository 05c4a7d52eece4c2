/*
 * preflight.c - limits of the system, read before they bite.
 */
#include "backend/preflight.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "base/checked.h"
#include "base/error.h"

hshm_status
preflight_file_size(const char *name, uint64_t size)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || size <= limit.rlim_cur)
        return HSHM_OK;
    return fail(HSHM_E_NOSPC,
                "cannot create %s: %s needed, and `ulimit -f` (RLIMIT_FSIZE) allows files of %s; raise it or "
                "ask for less",
                name, size_text(size).s, size_text(limit.rlim_cur).s);
}

hshm_status
preflight_space(const char *name, int fd, const char *place, uint64_t size)
{
    struct statvfs fs;
    if (fstatvfs(fd, &fs) != 0 || fs.f_blocks == 0)
        return HSHM_OK; /* it does not say, or knows no bounds (tmpfs with size=0) */
    const uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (size <= room)
        return HSHM_OK;
    return fail(
        HSHM_E_NOSPC,
        "cannot create %s: %s has %s free of %s, %s needed; enlarge it (mount -o remount,size=..., "
        "docker run --shm-size=..., an emptyDir of medium Memory), remove leftovers, ask for less, or place a file on "
        "a disk (HSHM_BACKEND_POSIX_MMAP)",
        name, place, size_text(room).s, size_text((uint64_t)fs.f_blocks * fs.f_frsize).s, size_text(size).s);
}

/* ---- control groups ---- */

static bool
read_text(const char *path, char *text, size_t capacity)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    const size_t got = fread(text, 1, capacity - 1, file);
    (void)fclose(file);
    text[got] = '\0';
    return got > 0;
}

/* A file with one number in it; "max" and numbers near 2^63 mean "no limit".  UINT64_MAX if there is none. */
static uint64_t
read_number(const char *folder, const char *file)
{
    char path[PATH_MAX];
    char text[64];
    if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path || !read_text(path, text, sizeof text))
        return UINT64_MAX;
    char *end = NULL;
    const uint64_t number = strtoull(text, &end, 10);
    return end == text || number >= (uint64_t)INT64_MAX / 2 ? UINT64_MAX : number;
}

/* The bytes of a line "key number" in memory.stat; 0 if there is none. */
static uint64_t
read_stat(const char *folder, const char *key)
{
    char path[PATH_MAX];
    char text[8192];
    if (snprintf(path, sizeof path, "%s/memory.stat", folder) >= (int)sizeof path ||
        !read_text(path, text, sizeof text))
        return 0;
    const size_t length = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            return strtoull(line + length, NULL, 10);
    }
    return 0;
}

struct cgroup_names {
    const char *limit, *usage, *active_file, *inactive_file;
};
static const struct cgroup_names cgroup_v1 = { "memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file",
                                               "total_inactive_file" };
static const struct cgroup_names cgroup_v2 = { "memory.max", "memory.current", "active_file", "inactive_file" };

/* One group's room.  Cached files count as used but make way, so they count as room here. */
static uint64_t
group_room(const char *folder, const struct cgroup_names *names)
{
    const uint64_t limit = read_number(folder, names->limit);
    if (limit == UINT64_MAX)
        return UINT64_MAX;
    const uint64_t usage = read_number(folder, names->usage);
    const uint64_t cache = read_stat(folder, names->active_file) + read_stat(folder, names->inactive_file);
    const uint64_t held = usage == UINT64_MAX || usage < cache ? 0 : usage - cache;
    return held < limit ? limit - held : 0;
}

/* The least room of a group and all groups above it, up to the hierarchy's root. */
static uint64_t
chain_room(const char *root, char *group, const struct cgroup_names *names)
{
    uint64_t room = UINT64_MAX;
    for (;;) {
        char folder[PATH_MAX];
        if (snprintf(folder, sizeof folder, "%s%s", root, group) < (int)sizeof folder)
            room = min_u64(room, group_room(folder, names));
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            return room;
        *slash = '\0';
    }
}

/* Lines are "0::/path" (v2) and "n:controller,controller:/path" (v1). */
static uint64_t
line_room(char *line, const char *hierarchy)
{
    char *controllers = strchr(line, ':');
    char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (group == NULL)
        return UINT64_MAX;
    *controllers++ = '\0';
    *group++ = '\0';
    if (*controllers == '\0')
        return chain_room(hierarchy, group, &cgroup_v2);

    for (char *rest = NULL, *name = strtok_r(controllers, ",", &rest); name != NULL;
         name = strtok_r(NULL, ",", &rest)) {
        if (strcmp(name, "memory") != 0)
            continue;
        char root[PATH_MAX];
        if (snprintf(root, sizeof root, "%s/memory", hierarchy) < (int)sizeof root)
            return chain_room(root, group, &cgroup_v1);
    }
    return UINT64_MAX;
}

uint64_t
preflight_cgroup_room(const char *membership, const char *hierarchy)
{
    char text[8192];
    if (!read_text(membership, text, sizeof text))
        return UINT64_MAX;
    uint64_t room = UINT64_MAX;
    for (char *rest = NULL, *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        room = min_u64(room, line_room(line, hierarchy));
    return room;
}

hshm_status
preflight_cgroup(const char *name, uint64_t size)
{
    const uint64_t room = preflight_cgroup_room("/proc/self/cgroup", "/sys/fs/cgroup");
    if (size <= room)
        return HSHM_OK;
    return fail(HSHM_E_NOSPC,
                "cannot create %s: %s needed, and the memory limit of this container (control group) leaves %s; "
                "raise the limit (docker run --memory=..., resources.limits.memory), ask for less, or create it with "
                "HSHM_COMMIT_LAZY",
                name, size_text(size).s, size_text(room).s);
}

hshm_status
preflight_map_failed(const char *name, uint64_t size, int error)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        return fail(HSHM_E_NOSPC,
                    "cannot map %s: %s needed: %s; `ulimit -v` (RLIMIT_AS) allows this process %s of addresses: "
                    "raise it or ask for less",
                    name, size_text(size).s, errno_text(error), size_text(limit.rlim_cur).s);
    return fail(HSHM_E_NOSPC,
                "cannot map %s: %s needed: %s; see vm.max_map_count and vm.overcommit_memory, or ask for less", name,
                size_text(size).s, errno_text(error));
}
