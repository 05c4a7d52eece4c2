/*
 * scene.h - processes around one region, and the two things that can be true of it: somebody lives in it, or it is a
 * leftover.
 *
 * The test itself stays outside of the region unless it says otherwise, so that whether somebody lives there is asked
 * by another process.  It is the subreaper of all that is started here: a grandchild whose parent was killed becomes
 * its child, so that it can wait for its end.
 */
#ifndef HSHM_TESTS_LIVENESS_SCENE_H
#define HSHM_TESTS_LIVENESS_SCENE_H

#include <limits.h>

#include "support.h"

enum { SCENE_SIZE = 65536, SCENE_REPORTS = 8, NOBODY = 65534 };

/* What a process saw. */
struct report {
    _Atomic pid_t pid;
    hshm_status status;
    hshm_backend_info_data info;
};

/* Shared by the test and all its processes. */
struct scene {
    hshm_backend_kind kind;
    char url[PATH_MAX];
    char path[PATH_MAX]; /* the file that the url names */
    /* For scene_create(); 0 = defaults. */
    uint32_t slots;
    uint32_t mode;
    hshm_replace replace;
    struct step ready; /* what the test waits for  */
    struct step go;    /* what the others wait for */
    struct report reports[SCENE_REPORTS];
};

/* Two cases of a test: on shared memory and on a file.  The test finds the kind in *state. */
#define BOTH_KINDS(fn)                                            \
    { #fn " (shm)", (fn), NULL, NULL, (void *)&scene_shm_kind },  \
    {                                                             \
#fn " (file)", (fn), NULL, NULL, (void *)&scene_mmap_kind \
    }
extern hshm_backend_kind scene_shm_kind;
extern hshm_backend_kind scene_mmap_kind;

/* A new name for the kind in *state.  Good until the test program ends. */
struct scene *scene_begin(void **state, const char *what);

/* child_start() for functions of a scene.  They may fork, and their children may outlive them. */
pid_t scene_start(int (*fn)(struct scene *scene), struct scene *scene);

/* Stay until killed, or until the test program is gone.  For direct children and their children. */
_Noreturn void scene_stay(void);

/* A descriptor whose reads end when the test program does; for programs to read from. */
int scene_lifeline(void);

/* Create the region and its heap, ids 1 and {1, 0}. */
hshm_allocator *scene_create(struct scene *scene, hshm_manager *manager);

/* Attach to it. */
hshm_allocator *scene_attach(struct scene *scene, hshm_manager *manager);

/* create() and stay; attach() and stay.  They report, as number 0 and 1, and reach `ready`. */
int scene_owner(struct scene *scene);
int scene_guest(struct scene *scene);

/* hshm_backend_info() of backend 1. */
hshm_backend_info_data scene_info(hshm_manager *manager);

/* Write down pid and info, and reach `ready`. */
void scene_report(struct scene *scene, unsigned number, hshm_manager *manager);

/* Does the region's name exist? */
bool scene_named(const struct scene *scene);

/* Kill a process that is ours to wait for, and wait. */
void scene_kill(pid_t pid);

hshm_status scene_remove(const struct scene *scene);

/* Create with HSHM_REPLACE_DEAD in a manager that ends again; the name stays, if it was made. */
hshm_status scene_replace(const struct scene *scene);

/* Neither remover nor replacer gets the name. */
#define assert_lives(scene) scene_assert_lives((scene), __FILE__, __LINE__)
void scene_assert_lives(const struct scene *scene, const char *file, int line);

/* The remover gets it, and nothing is left. */
#define assert_leftover(scene) scene_assert_leftover((scene), __FILE__, __LINE__)
void scene_assert_leftover(const struct scene *scene, const char *file, int line);

/* How many descriptors of this process lead to the region's file; *ret_fd is one of them. */
unsigned scene_descriptors(const struct scene *scene, int *ret_fd);

/* Become the user "nobody" for good.  False when this process is not root. */
bool scene_become_nobody(void);

/* Let everyone use the region that will be created, and look into its folder. */
void scene_open_to_all(struct scene *scene);

/* For cmocka_run_group_tests(). */
int scene_setup(void **state);

#endif
