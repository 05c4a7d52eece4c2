/*
 * test_members.c - a process that is attached is alive to all others until it ends, whatever it does meanwhile: closes
 * its descriptors, sends them away, becomes another user, stops, or loses threads.  And not a moment longer: a zombie is
 * dead.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format/region_format.h"
#include "scene.h"

/* ---- the plain case ---- */

static void
only_the_last_death_makes_a_leftover(void **state)
{
    struct scene *scene = scene_begin(state, "plain");
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    const pid_t guest = scene_start(scene_guest, scene);
    step_wait(&scene->ready, 2);
    assert_int_equal(scene->reports[1].info.processes, 2);

    scene_kill(owner);
    assert_lives(scene);
    scene_kill(guest);
    assert_leftover(scene);
}

static int
create_without_heap(struct scene *scene)
{
    assert_ok(hshm_backend_create(NULL, 1, scene->kind, SCENE_SIZE, scene->url, NULL, NULL));
    scene_report(scene, 0, NULL);
    scene_stay();
}

static void
a_creator_that_has_no_heap_yet_is_alive(void **state)
{
    struct scene *scene = scene_begin(state, "heapless");
    const pid_t owner = scene_start(create_without_heap, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    assert_status(hshm_backend_attach(NULL, scene->kind, scene->url, NULL, NULL), HSHM_E_NOTREADY);
    assert_sentence("lives");
    scene_kill(owner);
    assert_status(hshm_backend_attach(NULL, scene->kind, scene->url, NULL, NULL), HSHM_E_NOTREADY);
    assert_sentence("dead");
    assert_leftover(scene);
}

/* ---- closed descriptors ---- */

enum { FOREIGN = 24, CLOSED_TO = 256 };

static void
close_all_but_standard(void)
{
    for (int fd = 3; fd < CLOSED_TO; fd++)
        (void)close(fd);
}

/* Take the lowest numbers, as a daemon's own files would. */
static void
open_foreign(int fds[FOREIGN], struct stat identities[FOREIGN])
{
    for (int i = 0; i < FOREIGN; i += 2)
        assert_int_equal(pipe(&fds[i]), 0);
    for (int i = 0; i < FOREIGN; i++)
        assert_int_equal(fstat(fds[i], &identities[i]), 0);
}

static void
assert_foreign_untouched(const int fds[FOREIGN], const struct stat identities[FOREIGN])
{
    for (int i = 0; i < FOREIGN; i++) {
        struct stat st;
        assert_int_equal(fstat(fds[i], &st), 0);
        assert_true(st.st_dev == identities[i].st_dev && st.st_ino == identities[i].st_ino);
    }
}

static void
use_heap(hshm_allocator *heap)
{
    void *block = hshm_malloc(heap, 64);
    assert_non_null(block);
    memset(block, 1, 64);
    assert_ok(hshm_free(heap, block));
}

static int
live_without_descriptors(struct scene *scene)
{
    int fds[FOREIGN];
    struct stat identities[FOREIGN];
    hshm_allocator *heap = scene_create(scene, NULL);
    close_all_but_standard();
    open_foreign(fds, identities);
    const struct footprint before = footprint_take();

    use_heap(heap);
    assert_int_equal(scene_info(NULL).processes, 1);
    assert_foreign_untouched(fds, identities);
    step_reach(&scene->ready);
    step_wait(&scene->go, 1); /* a guest has come */
    assert_int_equal(scene_info(NULL).processes, 2);
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_true(stats.committed > 0);
    step_reach(&scene->ready);
    step_wait(&scene->go, 2); /* and is dead */
    assert_int_equal(scene_info(NULL).processes, 1);

    assert_ok(hshm_backend_detach(NULL, 1));
    assert_foreign_untouched(fds, identities);
    const struct footprint after = footprint_take();
    assert_int_equal(after.descriptors, before.descriptors);
    return 0;
}

static void
closing_all_descriptors_harms_nobody(void **state)
{
    struct scene *scene = scene_begin(state, "closed");
    const pid_t owner = scene_start(live_without_descriptors, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    const pid_t guest = scene_start(scene_guest, scene);
    step_wait(&scene->ready, 2);
    assert_int_equal(scene->reports[1].info.processes, 2);
    step_reach(&scene->go);
    step_wait(&scene->ready, 3);
    scene_kill(guest);
    step_reach(&scene->go);
    assert_int_equal(child_wait(owner), 0);
    assert_leftover(scene);
}

/* The first call after the loss is the one that would close what has the number now. */
static int
leave_with_reused_number(struct scene *scene)
{
    int fds[FOREIGN];
    struct stat identities[FOREIGN];
    int lost = -1;
    (void)scene_create(scene, NULL);
    assert_int_equal(scene_descriptors(scene, &lost), 1);
    close_all_but_standard();
    open_foreign(fds, identities);
    struct stat st;
    assert_int_equal(fstat(lost, &st), 0); /* taken again */
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_foreign_untouched(fds, identities);
    return 0;
}

static void
a_reused_descriptor_is_not_closed_at_detach(void **state)
{
    struct scene *scene = scene_begin(state, "reused");
    assert_int_equal(child_wait(scene_start(leave_with_reused_number, scene)), 0);
    assert_leftover(scene);
}

static int
close_and_stay(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    close_all_but_standard();
    step_reach(&scene->ready);
    return pause();
}

static void
without_descriptors_death_is_seen_all_the_same(void **state)
{
    struct scene *scene = scene_begin(state, "closed-killed");
    const pid_t owner = scene_start(close_and_stay, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    scene_kill(owner);
    assert_leftover(scene);
}

static int
live_without_name_and_descriptors(struct scene *scene)
{
    hshm_allocator *heap = scene_create(scene, NULL);
    assert_int_equal(unlink(scene->path), 0);
    close_all_but_standard();
    use_heap(heap);
    /* Nobody can be asked any more: in doubt all are alive, and there is one. */
    assert_int_equal(scene_info(NULL).processes, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static void
a_heap_without_name_and_descriptors_goes_on(void **state)
{
    struct scene *scene = scene_begin(state, "unreachable");
    assert_int_equal(child_wait(scene_start(live_without_name_and_descriptors, scene)), 0);
    assert_status(scene_remove(scene), HSHM_E_NOTFOUND);
}

enum { ASKING_THREADS = 4, ASKING_ROUNDS = 50 };

static pthread_barrier_t asking;

static void *
ask_together(void *arg)
{
    (void)arg;
    for (int i = 0; i < ASKING_ROUNDS; i++) {
        (void)pthread_barrier_wait(&asking);
        assert_int_equal(scene_info(NULL).processes, 1);
        (void)pthread_barrier_wait(&asking);
    }
    return NULL;
}

static int
lose_descriptor_among_threads(struct scene *scene)
{
    pthread_t threads[ASKING_THREADS];
    int fd = -1;
    (void)scene_create(scene, NULL);
    assert_int_equal(pthread_barrier_init(&asking, NULL, ASKING_THREADS + 1), 0);
    for (int i = 0; i < ASKING_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_together, NULL), 0);
    for (int i = 0; i < ASKING_ROUNDS; i++) {
        assert_int_equal(scene_descriptors(scene, &fd), 1);
        assert_int_equal(close(fd), 0);
        (void)pthread_barrier_wait(&asking);
        (void)pthread_barrier_wait(&asking);
    }
    for (int i = 0; i < ASKING_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(scene_descriptors(scene, &fd), 1);
    assert_ok(hshm_backend_detach(NULL, 1));
    assert_int_equal(scene_descriptors(scene, &fd), 0);
    return 0;
}

static void
threads_that_reopen_at_once_keep_one_descriptor(void **state)
{
    if (UNDER_THREAD_SANITIZER) {
        /* To ask whether a number is still ours while another thread may get it from open() is all there is to do. */
        print_message("the thread sanitizer takes a look at a lost descriptor's number for a race\n");
        skip();
    }
    struct scene *scene = scene_begin(state, "asked");
    assert_int_equal(child_wait(scene_start(lose_descriptor_among_threads, scene)), 0);
    assert_leftover(scene);
}

/* ---- descriptors that travel ---- */

static void
send_descriptor(int socket, int fd)
{
    char byte = 'x';
    char control[CMSG_SPACE(sizeof fd)];
    memset(control, 0, sizeof control);
    struct iovec iov = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    assert_int_equal(sendmsg(socket, &message, 0), 1);
}

static int
receive_descriptor(int socket)
{
    int fd = -1;
    char byte;
    char control[CMSG_SPACE(sizeof fd)];
    struct iovec iov = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
    };
    assert_int_equal(recvmsg(socket, &message, 0), 1);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    assert_non_null(header);
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

/* Inherited by the children of one test. */
static int passing_sockets[2];

static int
create_and_send(struct scene *scene)
{
    int fd = -1;
    (void)scene_create(scene, NULL);
    assert_int_equal(scene_descriptors(scene, &fd), 1);
    send_descriptor(passing_sockets[0], fd);
    scene_stay();
}

static int
receive_and_hold(struct scene *scene)
{
    int found = -1;
    const int fd = receive_descriptor(passing_sockets[1]);
    assert_int_equal(scene_descriptors(scene, &found), 1);
    assert_int_equal(fd, found);
    step_reach(&scene->ready);
    scene_stay();
}

static void
a_descriptor_that_was_sent_away_proves_no_life(void **state)
{
    struct scene *scene = scene_begin(state, "sent");
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, passing_sockets), 0);
    const pid_t holder = scene_start(receive_and_hold, scene);
    const pid_t owner = scene_start(create_and_send, scene);
    assert_int_equal(close(passing_sockets[0]), 0);
    assert_int_equal(close(passing_sockets[1]), 0);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    scene_kill(owner);
    assert_leftover(scene);
    scene_kill(holder); /* which lived until now */
}

/* ---- two managers ---- */

static int
remover_gets_busy(struct scene *scene)
{
    assert_status(scene_remove(scene), HSHM_E_BUSY);
    return 0;
}

static void
two_managers_of_a_process_live_apart(void **state)
{
    struct scene *scene = scene_begin(state, "managers");
    hshm_manager *first = NULL;
    hshm_manager *second = NULL;
    assert_ok(hshm_manager_create(&first));
    assert_ok(hshm_manager_create(&second));
    (void)scene_create(scene, first);
    hshm_allocator *heap = scene_attach(scene, second);
    assert_int_equal(scene_info(first).processes, 2);
    assert_int_equal(scene_info(second).processes, 2);
    assert_int_not_equal(scene_info(first).slot, scene_info(second).slot);

    /* With POSIX locks, closing any descriptor of the file would drop the process's locks. */
    assert_ok(hshm_backend_detach(first, 1));
    const int fd = open(scene->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    use_heap(heap);
    assert_int_equal(scene_info(second).processes, 1);
    assert_lives(scene); /* the same process asks */

    hshm_manager_destroy(second);
    hshm_manager_destroy(first);
    assert_leftover(scene);
}

static int
another_process_sees_the_second_manager(struct scene *scene)
{
    hshm_manager *first = NULL;
    hshm_manager *second = NULL;
    assert_ok(hshm_manager_create(&first));
    assert_ok(hshm_manager_create(&second));
    (void)scene_create(scene, first);
    (void)scene_attach(scene, second);
    assert_ok(hshm_backend_detach(second, 1));
    assert_int_equal(scene_info(first).processes, 1);
    step_reach(&scene->ready);
    step_wait(&scene->go, 1);
    (void)scene_attach(scene, second);
    assert_ok(hshm_backend_detach(first, 1));
    step_reach(&scene->ready);
    scene_stay();
}

static void
detaching_one_manager_leaves_the_other_alive(void **state)
{
    struct scene *scene = scene_begin(state, "managers-seen");
    const pid_t pid = scene_start(another_process_sees_the_second_manager, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    step_reach(&scene->go);
    step_wait(&scene->ready, 2);
    assert_lives(scene);
    assert_int_equal(child_wait(scene_start(remover_gets_busy, scene)), 0);
    scene_kill(pid);
    assert_leftover(scene);
}

/* ---- readers ---- */

static int
read_and_stay(struct scene *scene)
{
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = true;
    assert_ok(hshm_backend_attach(NULL, scene->kind, scene->url, &options, NULL));
    scene_report(scene, 1, NULL);
    scene_stay();
}

static void
readers_count_as_alive(void **state)
{
    struct scene *scene = scene_begin(state, "readers");
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    const pid_t first = scene_start(read_and_stay, scene);
    step_wait(&scene->ready, 2);
    assert_int_equal(scene->reports[1].info.processes, 1); /* the owner; readers have no slots */
    assert_int_equal(scene->reports[1].info.slot, UINT32_MAX);
    const pid_t second = scene_start(read_and_stay, scene);
    step_wait(&scene->ready, 3);

    scene_kill(owner);
    assert_lives(scene);
    scene_kill(first);
    assert_lives(scene);
    scene_kill(second);
    assert_leftover(scene);
}

static void
a_reader_may_come_to_a_leftover_and_keep_it(void **state)
{
    struct scene *scene = scene_begin(state, "reader-late");
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    scene_kill(owner);
    const pid_t reader = scene_start(read_and_stay, scene);
    step_wait(&scene->ready, 2);
    assert_int_equal(scene->reports[1].info.processes, 0);
    assert_lives(scene);
    scene_kill(reader);
    assert_leftover(scene);
}

/* The word that says that a file was left cleanly, as it lies in the file. */
static uint32_t
clean_word(const struct scene *scene)
{
    uint32_t clean = UINT32_MAX;
    const int fd = open(scene->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &clean, sizeof clean, offsetof(struct region_header, clean)), sizeof clean);
    assert_int_equal(close(fd), 0);
    return clean;
}

/* Leaves, comes again and leaves, each when the test says so. */
static int
write_and_leave(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    step_reach(&scene->ready);
    step_wait(&scene->go, 1);
    assert_ok(hshm_backend_detach(NULL, 1));
    step_reach(&scene->ready);
    step_wait(&scene->go, 2);
    (void)scene_attach(scene, NULL);
    step_reach(&scene->ready);
    step_wait(&scene->go, 3);
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
a_reader_that_stays_does_not_make_a_file_unclean(void **state)
{
    struct scene *scene = scene_begin(state, "clean");
    const pid_t writer = scene_start(write_and_leave, scene);
    step_wait(&scene->ready, 1);
    const pid_t reader = scene_start(read_and_stay, scene);
    step_wait(&scene->ready, 2);
    assert_int_equal(clean_word(scene), 0);
    step_reach(&scene->go);
    step_wait(&scene->ready, 3);
    /* Nobody is left who could write. */
    assert_int_equal(clean_word(scene), 1);
    assert_lives(scene);
    step_reach(&scene->go);
    step_wait(&scene->ready, 4);
    assert_int_equal(clean_word(scene), 0);
    step_reach(&scene->go);
    assert_int_equal(child_wait(writer), 0);
    assert_int_equal(clean_word(scene), 1);
    scene_kill(reader);
    assert_leftover(scene);
}

/* ---- other users ---- */

static int
create_and_become_nobody(struct scene *scene)
{
    hshm_allocator *heap = scene_create(scene, NULL);
    assert_true(scene_become_nobody());
    use_heap(heap);
    assert_int_equal(scene_info(NULL).processes, 1);
    scene_report(scene, 0, NULL);
    step_wait(&scene->go, 1); /* a guest has come */
    use_heap(heap);
    assert_int_equal(scene_info(NULL).processes, 2);
    scene_report(scene, 0, NULL);
    scene_stay();
}

static void
become_other_user_and_live(void **state, uint32_t mode)
{
    struct scene *scene = scene_begin(state, "setuid");
    scene->mode = mode;
    const pid_t owner = scene_start(create_and_become_nobody, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    const pid_t guest = scene_start(scene_guest, scene);
    step_wait(&scene->ready, 2);
    step_reach(&scene->go);
    step_wait(&scene->ready, 3);
    scene_kill(guest);
    assert_lives(scene);
    scene_kill(owner);
    assert_leftover(scene);
}

static bool
need_root(void)
{
    if (getuid() == 0)
        return true;
    print_message("only root may become another user\n");
    skip();
    return false;
}

static void
a_process_that_becomes_another_user_stays_alive(void **state)
{
    if (need_root()) {
        become_other_user_and_live(state, 0600);
        become_other_user_and_live(state, 0666);
    }
}

static int
look_as_nobody(struct scene *scene)
{
    assert_true(scene_become_nobody());
    assert_lives(scene);
    step_reach(&scene->ready);
    step_wait(&scene->go, 1); /* the owner is dead */
    /* The folder's owner and root may take names away here, nobody may not. */
    assert_status(scene_remove(scene), HSHM_E_PERM);
    assert_status(scene_replace(scene), HSHM_E_PERM);
    assert_true(scene_named(scene));
    return 0;
}

static void
another_user_sees_who_is_alive(void **state)
{
    if (!need_root())
        return;
    struct scene *scene = scene_begin(state, "others");
    scene_open_to_all(scene);
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    const pid_t other = scene_start(look_as_nobody, scene);
    step_wait(&scene->ready, 2);
    scene_kill(owner);
    step_reach(&scene->go);
    assert_int_equal(child_wait(other), 0);
    assert_leftover(scene);
}

static int
attach_as_nobody(struct scene *scene)
{
    assert_true(scene_become_nobody());
    return scene_guest(scene);
}

static void
another_user_is_seen_alive(void **state)
{
    if (!need_root())
        return;
    struct scene *scene = scene_begin(state, "other-guest");
    scene_open_to_all(scene);
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    const pid_t guest = scene_start(attach_as_nobody, scene);
    step_wait(&scene->ready, 2);
    scene_kill(owner);
    assert_lives(scene);
    scene_kill(guest);
    assert_leftover(scene);
}

/* ---- between life and death ---- */

static void
a_stopped_process_is_alive(void **state)
{
    struct scene *scene = scene_begin(state, "stopped");
    int status = 0;
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    assert_int_equal(kill(owner, SIGSTOP), 0);
    assert_int_equal(waitpid(owner, &status, WUNTRACED), owner);
    assert_true(WIFSTOPPED(status));
    assert_lives(scene);
    scene_kill(owner);
    assert_leftover(scene);
}

static void
a_zombie_is_dead(void **state)
{
    struct scene *scene = scene_begin(state, "zombie");
    siginfo_t info;
    const pid_t owner = scene_start(scene_owner, scene);
    step_wait(&scene->ready, 1);
    assert_int_equal(kill(owner, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)owner, &info, WEXITED | WNOWAIT), 0);
    assert_leftover(scene);
    assert_int_equal(child_wait(owner), 128 + SIGKILL);
}

static int
create_and_exit(struct scene *scene)
{
    (void)scene_create(scene, NULL);
    return 0;
}

static void
an_exit_without_detach_is_a_death(void **state)
{
    struct scene *scene = scene_begin(state, "exit");
    assert_int_equal(child_wait(scene_start(create_and_exit, scene)), 0);
    assert_true(scene_named(scene));
    assert_leftover(scene);
}

static void *
outlive_main(void *arg)
{
    struct scene *scene = arg;
    char text[64] = "";
    /* The first thread is gone when the process looks like a zombie to those who read /proc. */
    while (strstr(text, ") Z") == NULL) {
        const int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
        const ssize_t got = read(fd, text, sizeof text - 1);
        (void)close(fd);
        text[got > 0 ? got : 0] = '\0';
    }
    step_reach(&scene->ready);
    scene_stay();
}

static int
end_first_thread(struct scene *scene)
{
    pthread_t thread;
    (void)scene_create(scene, NULL);
    assert_int_equal(pthread_create(&thread, NULL, outlive_main, scene), 0);
    pthread_exit(NULL);
}

static void
a_process_without_its_first_thread_is_alive(void **state)
{
    struct scene *scene = scene_begin(state, "headless");
    const pid_t owner = scene_start(end_first_thread, scene);
    step_wait(&scene->ready, 1);
    assert_lives(scene);
    scene_kill(owner);
    assert_leftover(scene);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_KINDS(only_the_last_death_makes_a_leftover),
        BOTH_KINDS(a_creator_that_has_no_heap_yet_is_alive),
        BOTH_KINDS(closing_all_descriptors_harms_nobody),
        BOTH_KINDS(a_reused_descriptor_is_not_closed_at_detach),
        BOTH_KINDS(without_descriptors_death_is_seen_all_the_same),
        BOTH_KINDS(a_heap_without_name_and_descriptors_goes_on),
        BOTH_KINDS(threads_that_reopen_at_once_keep_one_descriptor),
        BOTH_KINDS(a_descriptor_that_was_sent_away_proves_no_life),
        BOTH_KINDS(two_managers_of_a_process_live_apart),
        BOTH_KINDS(detaching_one_manager_leaves_the_other_alive),
        BOTH_KINDS(readers_count_as_alive),
        BOTH_KINDS(a_reader_may_come_to_a_leftover_and_keep_it),
        cmocka_unit_test_prestate(a_reader_that_stays_does_not_make_a_file_unclean, &scene_mmap_kind),
        BOTH_KINDS(a_process_that_becomes_another_user_stays_alive),
        BOTH_KINDS(another_user_sees_who_is_alive),
        BOTH_KINDS(another_user_is_seen_alive),
        BOTH_KINDS(a_stopped_process_is_alive),
        BOTH_KINDS(a_zombie_is_dead),
        BOTH_KINDS(an_exit_without_detach_is_a_death),
        BOTH_KINDS(a_process_without_its_first_thread_is_alive),
    };
    return cmocka_run_group_tests(tests, scene_setup, NULL);
}
