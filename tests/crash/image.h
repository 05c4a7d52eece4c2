/*
 * image.h - a region's bytes, as someone sees them who only looks: what a SIGKILL at this moment would leave.
 */
#ifndef HSHM_TESTS_CRASH_IMAGE_H
#define HSHM_TESTS_CRASH_IMAGE_H

#include "support.h"

/* A region's file, mapped beside the library. */
struct file_view {
    unsigned char *bytes;
    size_t size;
    int fd;
};

/* Of an existing file in /dev/shm; or a new one of that size. */
struct file_view file_view_open(const char *name);
struct file_view file_view_make(const char *name, size_t size);
/* By what name a backend of that kind finds it. */
void file_url(hshm_backend_kind backend, const char *name, char *ret_url, size_t size);
void file_unlink(const char *name);
/* How many bytes the file of such a region has; where the data lies on a device, it is another number. */
size_t file_size_of(hshm_backend_kind backend, size_t size);
/* Bytes of it that are control data, and the caller's header. */
size_t file_control_size(const struct file_view *file);
void file_view_close(struct file_view *file);
/* Make `to` what `from` is: of the data, as much as was ever used; the rest reads as zero. */
void file_view_copy(const struct file_view *from, const struct file_view *to);

/* What of a region is compared between two instructions: its control data, as far as it is used. */
struct watch {
    struct file_view file;
    unsigned char *copy; /* of the control data */
    size_t control;      /* bytes of it         */
};

struct watch watch_begin(struct file_view file);
void watch_end(struct watch *watch);
/* Has it changed since it was looked at last? */
bool watch_changed(struct watch *watch);
/* A hash of what the control data says, without what is for people, and without clocks. */
uint64_t watch_hash(const struct watch *watch);

/* A set of hashes. */
struct hash_set {
    uint64_t *places;
    size_t capacity, count;
};
/* False if it was there. */
bool hash_set_add(struct hash_set *set, uint64_t hash);

#endif
