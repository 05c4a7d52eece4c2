/*
 * test_nameless.c - regions without a name: nothing to be found, reached by a descriptor, gone with the last process.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

#define KIB ((size_t)1024)

static const hshm_allocator_id heap_id = { 1, 0 };
static const hshm_backend_kind kinds[] = { HSHM_BACKEND_POSIX_SHM_MMAP, HSHM_BACKEND_POSIX_MMAP };

static const char *
label_of(hshm_backend_kind kind, const char *what)
{
    return kind == HSHM_BACKEND_POSIX_SHM_MMAP ? test_name(what) : test_path(what);
}

/* ids 1 and {1, 0}, with a custom header of one word. */
static hshm_allocator *
make_nameless(hshm_backend_kind kind, const char *label)
{
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.nameless = true;
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_create(NULL, 1, kind, 64 * KIB, label, &options, NULL));
    assert_ok(hshm_allocator_create(NULL, 1, heap_id, HSHM_ALLOCATOR_SCALABLE_PAGE, 8, NULL, &heap));
    return heap;
}

static int
descriptor_of(hshm_manager *manager)
{
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(manager, 1), &info));
    return info.fd;
}

/* What a process that is no child of the creator's heap sees: the pid and number of the creator's descriptor. */
struct where {
    hshm_backend_kind kind;
    pid_t pid;
    int fd;
    bool read_only;
};

static int
open_other(const struct where *where)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)where->pid, where->fd);
    return open(path, (where->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
}

static hshm_allocator *
attach_other(hshm_manager *manager, const struct where *where)
{
    const int fd = open_other(where);
    assert_true(fd >= 0);
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.fd = &fd;
    options.read_only = where->read_only;
    assert_ok(hshm_backend_attach(manager, where->kind, "label", &options, NULL));
    (void)close(fd);
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_get(manager, heap_id, HSHM_ALLOCATOR_SCALABLE_PAGE, &heap));
    return heap;
}

/* In another process: take a block, write into it, and say where it is. */
static int
write_there(void *arg)
{
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    hshm_allocator *heap = attach_other(manager, arg);
    char *text = hshm_malloc(heap, 64);
    assert_non_null(text);
    (void)snprintf(text, 64, "from %d", (int)getpid());
    *(_Atomic hshm_off *)hshm_allocator_custom_header(heap, NULL) = hshm_to_off(heap, text);
    hshm_manager_destroy(manager);
    return 0;
}

static void
others_attach_by_the_creators_descriptor(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *label = label_of(kinds[i], "nameless");
        const struct footprint before = footprint_take();
        hshm_allocator *heap = make_nameless(kinds[i], label);
        assert_int_equal(footprint_take().names, before.names);
        struct where where = { kinds[i], getpid(), descriptor_of(NULL), false };
        assert_int_equal(child_run(write_there, &where), 0);
        const hshm_off off = *(_Atomic hshm_off *)hshm_allocator_custom_header(heap, NULL);
        assert_int_equal(strncmp(hshm_to_addr(heap, off), "from ", 5), 0);
        assert_ok(hshm_free(heap, hshm_to_addr(heap, off)));
        assert_ok(hshm_check(heap, 0, NULL));
        assert_ok(hshm_backend_destroy(NULL, 1));
        assert_footprint(before);
    }
}

/* Two of one label at once: they have nothing to do with each other, nor with a region of that name. */
static void
the_label_need_not_be_free(void **state)
{
    (void)state;
    const char *name = test_name("label");
    hshm_manager *named = NULL;
    assert_ok(hshm_manager_create(&named));
    (void)make_heap(named, HSHM_BACKEND_POSIX_SHM_MMAP, name, 64 * KIB, HSHM_ALLOCATOR_STACK);
    (void)make_nameless(HSHM_BACKEND_POSIX_SHM_MMAP, name);
    assert_ok(hshm_backend_destroy(NULL, 1));
    hshm_allocator *still = attach_heap(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, name, 0);
    assert_int_equal(hshm_allocator_kind_of(still), HSHM_ALLOCATOR_STACK);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_ok(hshm_backend_destroy(named, 1));
    hshm_manager_destroy(named);
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    options.nameless = true;
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_POSIX_SHM_MMAP, 64 * KIB, "a/b", &options, NULL),
                  HSHM_E_INVAL);
}

/* A child's heir of the creator: attached by a descriptor, it is killed; the creator finds it dead and cleans up. */
static int
hold_and_die(void *arg)
{
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    hshm_allocator *heap = attach_other(manager, arg);
    assert_non_null(hshm_malloc_lifetime(heap, 100, HSHM_LIFETIME_PROCESS));
    (void)raise(SIGKILL);
    return 0;
}

static void
the_dead_are_known_by_their_locks(void **state)
{
    (void)state;
    hshm_allocator *heap = make_nameless(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("dead"));
    struct where where = { HSHM_BACKEND_POSIX_SHM_MMAP, getpid(), descriptor_of(NULL), false };
    assert_int_equal(child_run(hold_and_die, &where), 128 + SIGKILL);
    hshm_recover_report report = HSHM_RECOVER_REPORT_INIT;
    assert_ok(hshm_recover(heap, &report));
    assert_true(report.processes >= 1);
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.live_blocks, 0);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static int
use_in_fork(void *arg)
{
    hshm_allocator *heap = arg;
    void *block = hshm_malloc(heap, 100);
    return block == NULL || hshm_free(heap, block) != HSHM_OK;
}

static void
forked_children_go_on_with_it(void **state)
{
    (void)state;
    hshm_allocator *heap = make_nameless(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("fork"));
    assert_int_equal(child_run(use_in_fork, heap), 0);
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    assert_ok(hshm_backend_info(hshm_backend_get(NULL, 1), &info));
    assert_int_equal(info.processes, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

/* Whoever attached keeps it when the creator is killed; and nothing has a name. */
static int
create_and_wait(void *arg)
{
    int *pipe_ends = arg;
    (void)make_nameless(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("orphan"));
    const struct where where = { HSHM_BACKEND_POSIX_SHM_MMAP, getpid(), descriptor_of(NULL), false };
    if (write(pipe_ends[1], &where, sizeof where) != (ssize_t)sizeof where)
        return 1;
    (void)pause();
    return 1;
}

static void
it_outlives_its_creator_with_those_attached(void **state)
{
    (void)state;
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    const struct footprint before = footprint_take();
    const pid_t creator = child_start(create_and_wait, pipe_ends);
    struct where where;
    assert_int_equal(read(pipe_ends[0], &where, sizeof where), sizeof where);
    hshm_allocator *heap = attach_other(NULL, &where);
    (void)kill(creator, SIGKILL);
    assert_int_equal(child_wait(creator), 128 + SIGKILL);
    void *block = hshm_malloc(heap, 1000);
    assert_non_null(block);
    assert_ok(hshm_recover(heap, NULL));
    assert_ok(hshm_free(heap, block));
    assert_ok(hshm_check(heap, 0, NULL));
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_footprint(before);
    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]);
}

static void
it_can_be_attached_read_only(void **state)
{
    (void)state;
    hshm_allocator *heap = make_nameless(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("look"));
    assert_non_null(hshm_malloc(heap, 10));
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    const struct where where = { HSHM_BACKEND_POSIX_SHM_MMAP, getpid(), descriptor_of(NULL), true };
    hshm_allocator *seen = attach_other(manager, &where);
    assert_null(hshm_malloc(seen, 10));
    assert_int_equal(hshm_last_status(), HSHM_E_PERM);
    hshm_manager_destroy(manager);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

static void
wrong_uses_are_refused(void **state)
{
    (void)state;
    static _Alignas(64) unsigned char buffer[64 * 1024];
    hshm_backend_options create = HSHM_BACKEND_OPTIONS_INIT;
    create.nameless = true;
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_MALLOC, 64 * KIB, NULL, &create, NULL), HSHM_E_NOTSUP);
    assert_sentence("nameless");
    create.array = buffer;
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_ARRAY, 64 * KIB, NULL, &create, NULL), HSHM_E_NOTSUP);

    hshm_attach_options attach = HSHM_ATTACH_OPTIONS_INIT;
    int fd = -1;
    attach.fd = &fd;
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, "label", &attach, NULL), HSHM_E_NOTFOUND);
    attach.array = buffer;
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_ARRAY, NULL, &attach, NULL), HSHM_E_NOTSUP);
    assert_sentence("descriptor");
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, "label", &attach, NULL), HSHM_E_INVAL);
    (void)close(fd);

    (void)make_nameless(HSHM_BACKEND_POSIX_SHM_MMAP, test_name("kind"));
    fd = descriptor_of(NULL);
    hshm_manager *manager = NULL;
    assert_ok(hshm_manager_create(&manager));
    assert_status(hshm_backend_attach(manager, HSHM_BACKEND_POSIX_MMAP, "label", &attach, NULL), HSHM_E_INVAL);
    assert_sentence("another kind");
    hshm_manager_destroy(manager);
    assert_ok(hshm_backend_destroy(NULL, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_attach_by_the_creators_descriptor),
        cmocka_unit_test(the_label_need_not_be_free),
        cmocka_unit_test(the_dead_are_known_by_their_locks),
        cmocka_unit_test(forked_children_go_on_with_it),
        cmocka_unit_test(it_outlives_its_creator_with_those_attached),
        cmocka_unit_test(it_can_be_attached_read_only),
        cmocka_unit_test(wrong_uses_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
