/*
 * test_persist.c - a region in a file: it outlives its processes, and one that a shutdown caught in use is not trusted.
 *
 * A shutdown cannot be had here; another boot is played by changing the boot id that stands in the file.
 */
#include "blocks.h"
#include "format/region_format.h"
#include "rows.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 128 * 1024 };

/* All cases run for each of these. */
static hshm_allocator_kind heap_kind;

struct kept {
    const char *path;
    hshm_off off;
};

/* A process that makes a heap with one block in it and leaves, or dies without leaving. */
static int
make_and_detach(void *arg)
{
    struct kept *kept = arg;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_MMAP, kept->path, SIZE, heap_kind);
    hshm_ptr block;
    assert_ok(hshm_allocate(heap, 2000, &block));
    block_fill(block.addr, 2000, 1);
    kept->off = block.shm.off;
    assert_ok(hshm_backend_sync(hshm_backend_get(NULL, 1)));
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static int
make_and_die(void *arg)
{
    struct kept *kept = arg;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_POSIX_MMAP, kept->path, SIZE, heap_kind);
    hshm_ptr block;
    assert_ok(hshm_allocate(heap, 2000, &block));
    block_fill(block.addr, 2000, 1);
    kept->off = block.shm.off;
    return 0; /* child_start() ends us with _exit(): nothing of the library runs any more */
}

static struct kept *
file_of_the_past(int (*maker)(void *arg))
{
    struct kept *kept = shared_bytes(sizeof *kept);
    kept->path = test_path("kept");
    assert_int_equal(child_run(maker, kept), 0);
    return kept;
}

static void
assert_kept(const struct kept *kept, const hshm_attach_options *options)
{
    hshm_allocator *heap = NULL;
    assert_ok(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, kept->path, options, NULL));
    assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, heap_kind, &heap));
    void *block = hshm_to_addr(heap, kept->off);
    assert_true(block_holds(block, 2000, 1));
    void *more = hshm_malloc(heap, 100);
    assert_non_null(more);
    assert_ok(hshm_free(heap, more));
    assert_sound(heap);
}

/* The words of the header that this is about. */
struct mark {
    uint32_t clean;
    uint64_t generation;
};

static struct mark
read_mark(const char *path)
{
    struct region_header header;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
    (void)close(fd);
    return (struct mark){ header.clean, header.generation };
}

/* From now on the file was last used in another boot. */
static void
play_another_boot(const char *path)
{
    const uint64_t other[2] = { 1, 2 };
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, other, sizeof other, offsetof(struct region_header, boot_id)), sizeof other);
    (void)close(fd);
}

static void
a_file_outlives_the_process_that_made_it(void **state)
{
    (void)state;
    const struct kept *kept = file_of_the_past(make_and_detach);
    for (int round = 0; round < 3; round++) {
        assert_kept(kept, NULL);
        assert_ok(hshm_backend_detach(NULL, 1));
    }
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, kept->path));
}

static void
a_file_outlives_a_process_that_just_died(void **state)
{
    (void)state;
    const struct kept *kept = file_of_the_past(make_and_die);
    assert_int_equal(read_mark(kept->path).clean, 0);
    assert_kept(kept, NULL);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_int_equal(read_mark(kept->path).clean, 1);
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, kept->path));
}

static void
the_last_to_leave_marks_it_clean(void **state)
{
    (void)state;
    const struct kept *kept = file_of_the_past(make_and_detach);
    assert_int_equal(read_mark(kept->path).clean, 1);
    hshm_manager *other;
    assert_ok(hshm_manager_create(&other));
    assert_kept(kept, NULL);
    assert_int_equal(read_mark(kept->path).clean, 0);
    assert_ok(hshm_backend_attach(other, HSHM_BACKEND_POSIX_MMAP, kept->path, NULL, NULL));
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_int_equal(read_mark(kept->path).clean, 0);
    hshm_manager_destroy(other);
    assert_int_equal(read_mark(kept->path).clean, 1);
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, kept->path));
}

static void
a_clean_file_of_another_boot_is_taken_up(void **state)
{
    (void)state;
    const struct kept *kept = file_of_the_past(make_and_detach);
    assert_int_equal(read_mark(kept->path).generation, 1);
    play_another_boot(kept->path);
    assert_kept(kept, NULL);
    assert_int_equal(read_mark(kept->path).generation, 2);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_kept(kept, NULL);
    assert_int_equal(read_mark(kept->path).generation, 2);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, kept->path));
}

static void
a_file_that_a_shutdown_caught_in_use_is_not_trusted(void **state)
{
    (void)state;
    const struct kept *kept = file_of_the_past(make_and_die);
    play_another_boot(kept->path);
    const struct footprint before = footprint_take();
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, kept->path, NULL, NULL), HSHM_E_DAMAGED);
    assert_sentence("accept_dirty");
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, kept->path, &options, NULL), HSHM_E_DAMAGED);
    assert_footprint(before);
    assert_int_equal(read_mark(kept->path).generation, 1);

    options = (hshm_attach_options)HSHM_ATTACH_OPTIONS_INIT;
    options.accept_dirty = true;
    assert_kept(kept, &options);
    assert_int_equal(read_mark(kept->path).generation, 2);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_kept(kept, NULL); /* left cleanly now */
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, kept->path));
}

static void
an_attach_that_failed_does_not_make_a_file_trusted(void **state)
{
    (void)state;
    const struct kept *kept = file_of_the_past(make_and_die);
    play_another_boot(kept->path);
    /* The last step fails: the ids of the file mean another heap here. */
    (void)make_heap(NULL, HSHM_BACKEND_MALLOC, NULL, SIZE, heap_kind);
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.accept_dirty = true;
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, kept->path, &options, NULL), HSHM_E_EXISTS);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_int_equal(read_mark(kept->path).clean, 0);
    assert_int_equal(read_mark(kept->path).generation, 1);
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, kept->path, NULL, NULL), HSHM_E_DAMAGED);
    assert_ok(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, kept->path));
}

static void
a_relative_path_is_as_good(void **state)
{
    (void)state;
    char folder[4096];
    const char *path = test_path("relative");
    assert_non_null(getcwd(folder, sizeof folder));
    char *base = strrchr(path, '/');
    *base = '\0';
    assert_int_equal(chdir(path), 0);
    *base = '/';
    (void)make_heap(NULL, HSHM_BACKEND_POSIX_MMAP, base + 1, SIZE, heap_kind);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(chdir(folder), 0); /* where it leads does not change with the folder */
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_int_not_equal(stat(path, &st), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_file_outlives_the_process_that_made_it, drop_heaps),
        cmocka_unit_test_teardown(a_file_outlives_a_process_that_just_died, drop_heaps),
        cmocka_unit_test_teardown(the_last_to_leave_marks_it_clean, drop_heaps),
        cmocka_unit_test_teardown(a_clean_file_of_another_boot_is_taken_up, drop_heaps),
        cmocka_unit_test_teardown(a_file_that_a_shutdown_caught_in_use_is_not_trusted, drop_heaps),
        cmocka_unit_test_teardown(an_attach_that_failed_does_not_make_a_file_trusted, drop_heaps),
        cmocka_unit_test_teardown(a_relative_path_is_as_good, drop_heaps),
    };
    static const struct {
        hshm_allocator_kind kind;
        const char *group;
    } kinds[] = {
        { HSHM_ALLOCATOR_STACK, "persist: stack" },
        { HSHM_ALLOCATOR_SCALABLE_PAGE, "persist: scalable_page" },
        { HSHM_ALLOCATOR_THREAD_LOCAL, "persist: thread_local" },
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        heap_kind = kinds[i].kind;
        failed += cmocka_run_group_tests_name(kinds[i].group, tests, NULL, NULL);
    }
    return failed;
}
