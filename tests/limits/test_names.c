/*
 * test_names.c - names and paths that cannot be, and things that lie where a region should: refused, and left alone.
 *
 * Not tried here: network file systems (HSHM_E_NOTSUP), of which a machine for tests has none.
 */
#include "limits.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

/* ---- names of shared memory ---- */

static void
assert_bad_name(const char *name, const char *part)
{
    assert_create_refused(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, name, NULL, HSHM_E_INVAL, part);
    assert_id_free(TRIED_ID);
    assert_attach_refused(HSHM_BACKEND_POSIX_SHM_MMAP, name, NULL, HSHM_E_INVAL, part);
    hshm_attach_options patient = HSHM_ATTACH_OPTIONS_INIT;
    patient.timeout_ms = 3600000; /* no name gets better by waiting */
    assert_attach_refused(HSHM_BACKEND_POSIX_SHM_MMAP, name, &patient, HSHM_E_INVAL, part);
}

static void
names_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *part;
    } bad[] = {
        { "/", "'/'" },
        { "/name", "byte 0 is 0x2f" },
        { "a/b", "byte 1 is 0x2f" },
        { "../name", "0x2f" },
        { ".", "a folder" },
        { "..", "a folder" },
        { "two words", "0x20" },
        { "tab\there", "0x09" },
        { "line\n", "0x0a" },
        { "\x01", "0x01" },
        { "del\x7f", "0x7f" },
        { "stra\xc3\x9f"
          "e",
          "byte 4 is 0xc3" },
        { "\xff", "0xff" },
        { "na%sme", "0x25" },
        { "a:b", "0x3a" },
    };
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("bystander"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_bad_name(bad[i].name, bad[i].part);
    }
    witness_end(&witness);
}

static void
a_name_is_needed(void **state)
{
    (void)state;
    static const hshm_backend_kind named[] = { HSHM_BACKEND_POSIX_SHM_MMAP, HSHM_BACKEND_POSIX_MMAP };
    for (size_t i = 0; i < 2; i++) {
        assert_create_refused(named[i], 64 * KIB, NULL, NULL, HSHM_E_INVAL, "needs a name");
        assert_create_refused(named[i], 64 * KIB, "", NULL, HSHM_E_INVAL, "needs a name");
        assert_attach_refused(named[i], NULL, NULL, HSHM_E_INVAL, "needs a name");
        assert_attach_refused(named[i], "", NULL, HSHM_E_INVAL, "needs a name");
        assert_status(hshm_backend_remove(named[i], NULL), HSHM_E_INVAL);
        assert_status(hshm_backend_remove(named[i], ""), HSHM_E_INVAL);
    }
    assert_id_free(TRIED_ID);
}

/* A name of so many bytes that no other test uses. */
static const char *
long_name(size_t length)
{
    static char name[512];
    const int prefix = snprintf(name, sizeof name, "%s", test_name("long"));
    assert_true((size_t)prefix < length && length < sizeof name);
    memset(name + prefix, 'n', length - (size_t)prefix);
    name[length] = '\0';
    return name;
}

static void
a_name_has_200_bytes_and_not_one_more(void **state)
{
    (void)state;
    assert_create_works(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, long_name(HSHM_NAME_MAX), NULL);
    assert_bad_name(long_name(HSHM_NAME_MAX + 1), "this one has 201");
    assert_status(hshm_backend_remove(HSHM_BACKEND_POSIX_SHM_MMAP, long_name(HSHM_NAME_MAX + 1)), HSHM_E_INVAL);
}

static void
all_that_may_be_in_a_name_works(void **state)
{
    (void)state;
    char name[256];
    (void)snprintf(name, sizeof name, "%s.AZaz09._-", test_name(""));
    assert_create_works(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, name, NULL);
    (void)snprintf(name, sizeof name, "...%s", test_name(""));
    assert_create_works(HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, name, NULL);
}

/* ---- paths ---- */

static const char *
below(const char *folder, const char *rest)
{
    static char path[2 * PATH_MAX];
    (void)snprintf(path, sizeof path, "%s%s", folder, rest);
    return path;
}

static void
assert_bad_path(const char *path, hshm_status status, const char *part)
{
    assert_create_refused(HSHM_BACKEND_POSIX_MMAP, 64 * KIB, path, NULL, status, part);
    assert_id_free(TRIED_ID);
    assert_attach_refused(HSHM_BACKEND_POSIX_MMAP, path, NULL, status, part);
    assert_status(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path), status);
}

static void
paths_that_cannot_be_are_refused(void **state)
{
    (void)state;
    const struct witness witness = witness_begin(HSHM_BACKEND_POSIX_MMAP, test_path("bystander"));
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", test_path("folder"));
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_bad_path("/", HSHM_E_INVAL, "names a folder");
    assert_bad_path(".", HSHM_E_INVAL, "names a folder");
    assert_bad_path("..", HSHM_E_INVAL, "names a folder");
    assert_bad_path(below(folder, "/"), HSHM_E_INVAL, "names a folder");
    assert_bad_path(below(folder, "/."), HSHM_E_INVAL, "names a folder");
    assert_bad_path(below(folder, "/x/.."), HSHM_E_INVAL, "names a folder");

    assert_bad_path(below(folder, "/none/region"), HSHM_E_NOTFOUND, "/none exists");
    assert_int_equal(access(below(folder, "/none"), F_OK), -1);
    assert_int_equal(rmdir(folder), 0);
    witness_end(&witness);
}

static void
a_plain_file_is_no_folder(void **state)
{
    (void)state;
    char file[PATH_MAX];
    (void)snprintf(file, sizeof file, "%s", test_path("file"));
    assert_create_works(HSHM_BACKEND_POSIX_MMAP, 64 * KIB, file, NULL);
    const int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_bad_path(below(file, "/region"), HSHM_E_NOTFOUND, "Not a directory");
    assert_int_equal(unlink(file), 0);
}

static void
paths_that_are_too_long_are_refused(void **state)
{
    (void)state;
    char path[2 * PATH_MAX];
    /* A last part of one byte too many. */
    (void)snprintf(path, sizeof path, "%s/", test_path("folder"));
    size_t length = strlen(path);
    memset(path + length, 'n', HSHM_NAME_MAX + 1);
    path[length + HSHM_NAME_MAX + 1] = '\0';
    assert_bad_path(path, HSHM_E_INVAL, "201 bytes");
    /* A path of PATH_MAX bytes, whose parts are all short enough. */
    for (length = 0; length < PATH_MAX; length++)
        path[length] = length % 100 == 0 ? '/' : 'n';
    path[PATH_MAX] = '\0';
    assert_bad_path(path, HSHM_E_INVAL, "4096 bytes");
    /* One byte less is long, but possible: there is just no such folder. */
    path[PATH_MAX - 1] = '\0';
    assert_bad_path(path, HSHM_E_NOTFOUND, "No such file");
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_bad_path(path, HSHM_E_INVAL, "bytes");
}

/* ---- what lies there already ---- */

/* Local: a thing at the name of a region. */
struct thing {
    const char *what;
    bool (*make)(const char *path); /* false: this machine cannot have it here */
    hshm_status attach, remove;
};

static bool
make_symlink_to_nowhere(const char *path)
{
    return symlink("/nowhere/at/all", path) == 0;
}

static bool
make_symlink_to_itself(const char *path)
{
    return symlink(path, path) == 0;
}

static bool
make_folder(const char *path)
{
    return mkdir(path, 0700) == 0;
}

static bool
make_fifo(const char *path)
{
    return mkfifo(path, 0600) == 0;
}

static bool
make_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path)
        return false;
    memcpy(address.sun_path, path, strlen(path) + 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    (void)close(fd);
    return bound;
}

static bool
make_empty_file(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    (void)close(fd);
    return fd >= 0;
}

static bool
make_text_file(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char text[4096];
    memset(text, 't', sizeof text);
    const bool written = fd >= 0 && write(fd, text, sizeof text) == (ssize_t)sizeof text;
    (void)close(fd);
    return written;
}

static const struct thing things[] = {
    { "a symlink to nowhere", make_symlink_to_nowhere, HSHM_OK, HSHM_E_INVAL },
    { "a symlink to itself", make_symlink_to_itself, HSHM_E_INVAL, HSHM_E_INVAL },
    { "a folder", make_folder, HSHM_E_INVAL, HSHM_E_INVAL },
    { "a fifo", make_fifo, HSHM_E_INVAL, HSHM_E_CORRUPT },
    { "a socket", make_socket, HSHM_E_INVAL, HSHM_E_INVAL },
    { "an empty file", make_empty_file, HSHM_E_CORRUPT, HSHM_E_CORRUPT },
    { "a file of text", make_text_file, HSHM_E_CORRUPT, HSHM_E_CORRUPT },
};

static void
assert_left_alone(const char *path, const struct stat *before)
{
    struct stat now;
    assert_int_equal(lstat(path, &now), 0);
    assert_int_equal(now.st_ino, before->st_ino);
    assert_int_equal(now.st_mode, before->st_mode);
    assert_int_equal(now.st_size, before->st_size);
}

/* Shared memory never follows a symlink; a path does, as paths do. */
static hshm_status
attach_status(const struct thing *thing, hshm_backend_kind kind)
{
    if (thing->attach != HSHM_OK)
        return thing->attach;
    return kind == HSHM_BACKEND_POSIX_SHM_MMAP ? HSHM_E_INVAL : HSHM_E_NOTFOUND;
}

static void
try_thing(const struct thing *thing, hshm_backend_kind kind, const char *url, const char *path)
{
    print_message("%s\n", thing->what);
    assert_true(thing->make(path));
    struct stat before;
    assert_int_equal(lstat(path, &before), 0);
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    hshm_backend_options replace = HSHM_BACKEND_OPTIONS_INIT;
    replace.replace = HSHM_REPLACE_DEAD;
    assert_create_refused(kind, 64 * KIB, url, NULL, HSHM_E_EXISTS, url);
    assert_sentence("the name is taken");
    assert_create_refused(kind, 64 * KIB, url, &replace, HSHM_E_EXISTS, url);
    assert_sentence("remove it by hand");
    assert_id_free(TRIED_ID);

    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    assert_attach_refused(kind, url, &options, attach_status(thing, kind), url);
    options.read_only = true;
    assert_attach_refused(kind, url, &options, attach_status(thing, kind), url);
    assert_status(hshm_backend_remove(kind, url), thing->remove);
    assert_sentence(url);
    assert_left_alone(path, &before);
    witness_end(&witness);
    assert_int_equal(remove(path), 0);
}

static void
what_is_no_region_is_refused_and_left_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof things / sizeof things[0]; i++) {
        char path[PATH_MAX];
        const char *name = test_name("thing");
        (void)snprintf(path, sizeof path, "/dev/shm/%s", name);
        try_thing(&things[i], HSHM_BACKEND_POSIX_SHM_MMAP, name, path);
        const char *file = test_path("thing");
        try_thing(&things[i], HSHM_BACKEND_POSIX_MMAP, file, file);
    }
}

static void
a_device_is_refused_and_left_alone(void **state)
{
    (void)state;
    const char *path = test_path("device");
    if (mknod(path, S_IFCHR | 0600, makedev(1, 5)) != 0) {
        print_message("cannot make a device here: %s\n", strerror(errno));
        skip();
    }
    struct stat before;
    assert_int_equal(lstat(path, &before), 0);
    const struct witness witness = witness_begin(HSHM_BACKEND_MALLOC, NULL);
    assert_create_refused(HSHM_BACKEND_POSIX_MMAP, 64 * KIB, path, NULL, HSHM_E_EXISTS, path);
    hshm_backend *backend = NULL;
    const hshm_status status = hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, path, NULL, &backend);
    /* Where devices may be opened, it is none of ours; where they may not (nodev), nobody may open it. */
    assert_true(status == HSHM_E_INVAL || status == HSHM_E_PERM);
    assert_sentence(path);
    assert_null(backend);
    assert_int_not_equal(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path), HSHM_OK);
    assert_left_alone(path, &before);
    witness_end(&witness);
    assert_int_equal(unlink(path), 0);
}

/* A symlink to a region leads to it, as paths do; it is never removed in the region's place. */
static void
a_symlink_to_a_mapped_file_can_be_attached_to(void **state)
{
    (void)state;
    const char *path = test_path("region");
    const char *symbolic = test_path("link");
    hshm_manager *owner = NULL;
    assert_ok(hshm_manager_create(&owner));
    (void)make_heap(owner, HSHM_BACKEND_POSIX_MMAP, path, 64 * KIB, HSHM_ALLOCATOR_STACK);
    assert_int_equal(symlink(path, symbolic), 0);
    (void)attach_heap(NULL, HSHM_BACKEND_POSIX_MMAP, symbolic, 0);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_status(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, symbolic), HSHM_E_INVAL);
    assert_ok(hshm_backend_destroy(owner, 1));
    assert_int_equal(access(path, F_OK), -1);
    assert_attach_refused(HSHM_BACKEND_POSIX_MMAP, symbolic, NULL, HSHM_E_NOTFOUND, symbolic);
    assert_int_equal(unlink(symbolic), 0);
    hshm_manager_destroy(owner);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_cannot_be_are_refused),
        cmocka_unit_test(a_name_is_needed),
        cmocka_unit_test(a_name_has_200_bytes_and_not_one_more),
        cmocka_unit_test(all_that_may_be_in_a_name_works),
        cmocka_unit_test(paths_that_cannot_be_are_refused),
        cmocka_unit_test(a_plain_file_is_no_folder),
        cmocka_unit_test(paths_that_are_too_long_are_refused),
        cmocka_unit_test(what_is_no_region_is_refused_and_left_alone),
        cmocka_unit_test(a_device_is_refused_and_left_alone),
        cmocka_unit_test(a_symlink_to_a_mapped_file_can_be_attached_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
