/*
 * backend_posix_shm.c - POSIX shared memory: files of a tmpfs, found by shm_open().
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/file_region.h"
#include "base/error.h"

/*
 * One rule for all systems: no folders, nothing hidden or odd, room for the prefix of unseen files.  glibc takes names
 * without the leading slash as they are.
 */
hshm_status
shm_check_name(const char *url)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t length = strlen(url);
    if (length < 1 || length > HSHM_NAME_MAX)
        return fail(HSHM_E_INVAL, "a name of shared memory has 1 to %d bytes, this one has %zu", HSHM_NAME_MAX, length);
    const size_t good = strspn(url, allowed);
    if (good != length)
        return fail(HSHM_E_INVAL,
                    "'%s' is no name of shared memory: byte %zu is 0x%02x; letters, digits, '.', '_' and '-' may "
                    "be used",
                    url, good, (unsigned)(unsigned char)url[good]);
    if (strcmp(url, ".") == 0 || strcmp(url, "..") == 0)
        return fail(HSHM_E_INVAL, "'%s' is no name of shared memory but a folder", url);
    if (strncmp(url, UNSEEN_PREFIX, strlen(UNSEEN_PREFIX)) == 0)
        return fail(HSHM_E_INVAL, "'%s': names that begin with " UNSEEN_PREFIX " are the library's own", url);
    return HSHM_OK;
}

const struct file_kind shm_files = {
    .folder = "/dev/shm",
    .takes_memory = true,
    .open_name = shm_open,
    .unlink_name = shm_unlink,
};

const struct backend_ops backend_posix_shm_ops = {
    .kind = HSHM_BACKEND_POSIX_SHM_MMAP,
    .title = "POSIX shared memory",
    .caps = BACKEND_CAN_ATTACH | BACKEND_NEEDS_URL,
    .files = &shm_files,
    .check_url = shm_check_name,
    .round_size = file_round_size,
    .obtain = file_obtain,
    .publish = file_publish,
    .open = file_open,
    .still_named = file_still_named,
    .unname = file_unname,
    .remove = file_remove,
    .promise = file_promise,
    .give_back = file_give_back,
    .committed = file_committed,
    .release = file_release,
};
