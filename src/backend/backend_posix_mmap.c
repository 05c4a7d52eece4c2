/*
 * backend_posix_mmap.c - a file of the user's, mapped: outlives processes and reboots.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/file_region.h"
#include "base/error.h"

static hshm_status
check_path(const char *url)
{
    const size_t length = strlen(url);
    if (length == 0)
        return fail(HSHM_E_INVAL, "the path of a mapped file is empty");
    if (length >= PATH_MAX)
        return fail(HSHM_E_INVAL, "the path of a mapped file has %zu bytes, at most %d are possible", length,
                    PATH_MAX - 1);
    const char *slash = strrchr(url, '/');
    const char *base = slash == NULL ? url : slash + 1;
    if (*base == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        return fail(HSHM_E_INVAL, "'%.200s' names a folder, not a file", url);
    if (strncmp(base, UNSEEN_PREFIX, strlen(UNSEEN_PREFIX)) == 0)
        return fail(HSHM_E_INVAL, "'%.200s': file names that begin with " UNSEEN_PREFIX " are the library's own", url);
    if (strlen(base) > HSHM_NAME_MAX)
        return fail(HSHM_E_INVAL, "the last part of '%.200s' has %zu bytes, at most %d are possible", url, strlen(base),
                    HSHM_NAME_MAX);
    return HSHM_OK;
}

static char *
full_path(const char *url)
{
    char folder[PATH_MAX];
    char *path = NULL;
    /* Where the folder cannot be told (it was removed), the path is as good as the caller made it. */
    if (*url == '/' || getcwd(folder, sizeof folder) == NULL)
        return strdup(url);
    return asprintf(&path, "%s/%s", folder, url) < 0 ? NULL : path;
}

static int
open_path(const char *url, int flags, mode_t mode)
{
    return open(url, flags | O_CLOEXEC, mode);
}

static hshm_status
sync_file(struct region *region)
{
    if (region->read_only || msync(region->base, region->size, MS_SYNC) == 0)
        return HSHM_OK;
    return fail(HSHM_E_SYSTEM, "cannot write %s to its disk: %s; what was written since the last sync may be lost",
                region_name(region).s, errno_text(errno));
}

static const struct file_kind path_files = {
    .folder = NULL,
    .takes_memory = false,
    .open_name = open_path,
    .unlink_name = unlink,
};

const struct backend_ops backend_posix_mmap_ops = {
    .kind = HSHM_BACKEND_POSIX_MMAP,
    .title = "mapped file",
    .caps = BACKEND_CAN_ATTACH | BACKEND_PERSISTS | BACKEND_NEEDS_URL,
    .files = &path_files,
    .check_url = check_path,
    .full_url = full_path,
    .round_size = file_round_size,
    .obtain = file_obtain,
    .publish = file_publish,
    .open = file_open,
    .still_named = file_still_named,
    .unname = file_unname,
    .remove = file_remove,
    .sync = sync_file,
    .promise = file_promise,
    .give_back = file_give_back,
    .committed = file_committed,
    .release = file_release,
};
