/*
 * stage.h - one name, on a file system that lacks this or that, and what lies under it: nothing, a leftover, a region.
 *
 * For the programs of this folder only.
 */
#ifndef HSHM_TESTS_CREATE_STAGE_H
#define HSHM_TESTS_CREATE_STAGE_H

#include <limits.h>

#include "support.h"

enum { STAGE_SIZE = 65536 };

/* What some file systems refuse, and the library does in other ways then. */
enum lacks {
    LACKS_NOTHING,
    LACKS_TMPFILE,  /* O_TMPFILE: files are made under an unseen name, and renamed      */
    LACKS_NOREPLACE /* and RENAME_NOREPLACE: they are linked to the name, then unlinked */
};

/* Where a test takes place.  A test finds it in *state. */
struct setting {
    hshm_backend_kind kind;
    enum lacks lacks;
    bool on_disk; /* files: in memory otherwise, where nobody waits for a disk; the library does the same in both */
};
extern struct setting setting_shm, setting_file, setting_shm_renamed, setting_file_renamed, setting_shm_linked,
    setting_file_linked, setting_disk;

/* Lines of a table of cmocka tests: each kind; each kind with each lack; files on a disk. */
/* clang-format off */
#define IN_BOTH(fn) \
    { #fn " (shm)", (fn), NULL, NULL, &setting_shm }, \
    { #fn " (file)", (fn), NULL, NULL, &setting_file }
#define IN_ALL(fn) \
    IN_BOTH(fn), \
    { #fn " (shm, renamed)", (fn), NULL, NULL, &setting_shm_renamed }, \
    { #fn " (file, renamed)", (fn), NULL, NULL, &setting_file_renamed }, \
    { #fn " (shm, linked)", (fn), NULL, NULL, &setting_shm_linked }, \
    { #fn " (file, linked)", (fn), NULL, NULL, &setting_file_linked }
#define ON_DISK(fn) \
    { #fn " (file on a disk)", (fn), NULL, NULL, &setting_disk }
/* clang-format on */

/* Shared by the test and its children. */
struct stage {
    hshm_backend_kind kind;
    enum lacks lacks;
    bool on_disk;
    hshm_commit commit; /* for stage_create(); RESERVE unless the test says otherwise */
    uint32_t slots;     /* likewise; 0 = default                                      */
    char url[PATH_MAX];
    char path[PATH_MAX]; /* the file that the url names   */
    char folder[PATH_MAX];
    char base[256]; /* the path's last part          */
    struct step ready;
    struct step guests;
};

/* A name that is free, in the setting of *state.  Skips the test when the setting cannot be had here. */
struct stage *stage_begin(void **state, const char *what);

/* From now on this process lives on a file system that lacks what the stage says.  Only in children: it lasts. */
void stage_enter(const struct stage *stage);

/* Create the region, ids 1 and {1, 0}; and its heap too. */
hshm_status stage_create_region(const struct stage *stage, hshm_manager *manager, hshm_replace replace);
hshm_status stage_create(const struct stage *stage, hshm_manager *manager, hshm_replace replace);

/* Attach once, without waiting. */
hshm_status stage_attach(const struct stage *stage, hshm_manager *manager);

hshm_status stage_remove(const struct stage *stage);

/* What a killed process leaves: a region with or without a heap. */
void stage_leftover(struct stage *stage, bool with_heap);

/* Is a whole region with a heap that works attached as 1 and {1, 0}?  Fails the test if not. */
void stage_use(hshm_manager *manager);

/* Which region is attached as 1? */
struct uuid {
    uint8_t bytes[16];
};
struct uuid stage_uuid(hshm_manager *manager);
bool same_uuid(struct uuid a, struct uuid b);

/* Does the name exist?  How many unseen files stand beside it? */
bool stage_named(const struct stage *stage);
unsigned stage_unseen(const struct stage *stage);

/* Fails unless nothing at all is left of the name. */
#define assert_all_gone(stage) stage_assert_all_gone((stage), __FILE__, __LINE__)
void stage_assert_all_gone(const struct stage *stage, const char *file, int line);

/* Which file the name leads to; 0 = none. */
ino_t stage_inode(const struct stage *stage);

/* Start a child that attaches, or creates, reaches stage->ready and stays until it is killed. */
pid_t stage_guest(struct stage *stage);
pid_t stage_owner(struct stage *stage);
void stage_kill(pid_t pid);

/* Reach a step, and stay. */
_Noreturn void stage_stay(struct step *step);

#endif
