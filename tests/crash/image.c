/*
 * image.c - see image.h.
 */
#include "image.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "blocks.h"
#include "format/slab_format.h"
#include "format/stack_format.h"

enum {
    SLOTS_LOOKED_AT = 16,
    THREADS_LOOKED_AT = 16,
    HEAD_OF_TABLE = 12 << 10,
    RANGES_MAX = 8,
    SMALL_REGION = 1 << 20,
    SMALL_TABLE = 16 << 10,
    SLICES_AHEAD = 32
};

/* ---- files ---- */

static struct file_view
map_file(int fd, size_t size)
{
    struct file_view file = { .size = size, .fd = fd };
    file.bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(file.bytes, MAP_FAILED);
    return file;
}

struct file_view
file_view_open(const char *name)
{
    char path[256];
    struct stat stat;
    (void)snprintf(path, sizeof path, "/dev/shm/%s", name);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &stat), 0);
    return map_file(fd, (size_t)stat.st_size);
}

struct file_view
file_view_make(const char *name, size_t size)
{
    char path[256];
    (void)snprintf(path, sizeof path, "/dev/shm/%s", name);
    const int fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return map_file(fd, size);
}

void
file_url(hshm_backend_kind backend, const char *name, char *ret_url, size_t size)
{
    /* Writing a file out, as the last who leaves does, costs nothing there. */
    (void)snprintf(ret_url, size, "%s%s", backend == HSHM_BACKEND_POSIX_MMAP ? "/dev/shm/" : "", name);
}

void
file_unlink(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "/dev/shm/%s", name);
    assert_int_equal(unlink(path), 0);
}

void
file_view_close(struct file_view *file)
{
    assert_int_equal(munmap(file->bytes, file->size), 0);
    assert_int_equal(close(file->fd), 0);
}

static const struct region_header *
header_of(const struct file_view *file)
{
    return (const struct region_header *)(const void *)file->bytes;
}

static bool
has_slabs(const struct file_view *file)
{
    return cuts_slabs((hshm_allocator_kind)header_of(file)->allocator_kind);
}

static const struct slab_root *
root_of(const struct file_view *file)
{
    return (const struct slab_root *)(const void *)(file->bytes + header_of(file)->root_off);
}

struct measure {
    hshm_backend_kind backend;
    size_t size;
};

static int
make_and_measure(void *arg)
{
    struct measure *measure = arg;
    const char *name = test_name("measure");
    char url[128];
    file_url(measure->backend, name, url, sizeof url);
    assert_ok(hshm_backend_create(NULL, 1, measure->backend, measure->size, url, NULL, NULL));
    struct file_view file = file_view_open(name);
    measure->size = file.size;
    file_view_close(&file);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

size_t
file_size_of(hshm_backend_kind backend, size_t size)
{
    struct measure *measure = shared_bytes(sizeof *measure);
    measure->backend = backend;
    measure->size = size;
    assert_int_equal(child_run(make_and_measure, measure), 0);
    return measure->size;
}

static bool
is_on_device(const struct file_view *file)
{
    return (header_of(file)->incompat & REGION_INCOMPAT_DEVICE) != 0;
}

size_t
file_control_size(const struct file_view *file)
{
    const struct region_header *header = header_of(file);
    if (!is_on_device(file))
        return (size_t)header->data_off;
    return (size_t)(header->custom_size == 0 ? header->root_off + header->root_size
                                             : header->custom_off + header->custom_size);
}

void
file_view_copy(const struct file_view *from, const struct file_view *to)
{
    assert_int_equal(from->size, to->size);
    size_t size = from->size;
    if (is_on_device(from))
        size = file_control_size(from);
    else if (size > SMALL_REGION && has_slabs(from) && root_of(from)->high < root_of(from)->slices) {
        size = (size_t)(header_of(from)->data_off + (root_of(from)->high << root_of(from)->slice_shift));
        assert_int_equal(
            fallocate(to->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)size, (off_t)(from->size - size)), 0);
    }
    memcpy(to->bytes, from->bytes, size);
}

/* ---- watching ---- */

struct range {
    uint64_t off, size;
};

/*
 * Which parts of the control data anything can have happened to.  In large regions most records are of slices that were never
 * used, and nobody has most of the slots.
 */
static size_t
ranges_of(const struct watch *watch, struct range ranges[RANGES_MAX])
{
    const struct region_header *header = header_of(&watch->file);
    const uint64_t state = offsetof(struct region_header, state);
    const uint64_t slots = min_u64(header->slot_count, SLOTS_LOOKED_AT) * sizeof(struct region_slot);
    size_t count = 0;
    ranges[count++] = (struct range){ state, sizeof *header - state + slots };
    const uint64_t table = header->table_off;
    if (!has_slabs(&watch->file)) {
        const struct stack_root *stack =
            (const struct stack_root *)(const void *)(watch->file.bytes + header->root_off);
        const uint64_t below_top = atomic_load(&stack->top) / 8 + HEAD_OF_TABLE;
        ranges[count++] = (struct range){ table, min_u64(below_top, header->table_size) };
        ranges[count++] = (struct range){ header->root_off, header->root_size };
        return count;
    }
    if (watch->file.size <= SMALL_REGION || header->table_size <= SMALL_TABLE) {
        ranges[count++] = (struct range){ table, watch->control - table };
        return count;
    }
    /* The records are last in the table, and mail before them; words of slices, shelves and threads are first. */
    const struct slab_root *root = root_of(&watch->file);
    const uint64_t words = max_u64((UINT64_C(1) << (root->slice_shift - root->block_shift)) / 64, 1);
    const uint64_t record = sizeof(struct slab_record) + 16 * words;
    const uint64_t records = header->table_off + header->table_size - align_up(record * root->slices, 64);
    const uint64_t used = min_u64(root->high + SLICES_AHEAD, root->slices) * record;
    ranges[count++] = (struct range){ records, used };
    ranges[count++] = (struct range){ header->root_off, header->root_size };
    ranges[count++] = (struct range){ table, min_u64(records - table, HEAD_OF_TABLE) };
    uint64_t mail_words = 1;
    while (mail_words * 64 < root->slices)
        mail_words *= 2;
    if (root->thread_slots != 0)
        ranges[count++] = (struct range){ records - root->thread_slots * mail_words * sizeof(uint64_t),
                                          THREADS_LOOKED_AT * mail_words * sizeof(uint64_t) };
    return count;
}

struct watch
watch_begin(struct file_view file)
{
    struct watch watch = { .file = file, .control = file_control_size(&file) };
    watch.copy = malloc(watch.control);
    assert_non_null(watch.copy);
    memcpy(watch.copy, file.bytes, watch.control);
    return watch;
}

void
watch_end(struct watch *watch)
{
    free(watch->copy);
    watch->copy = NULL;
}

bool
watch_changed(struct watch *watch)
{
    struct range ranges[RANGES_MAX];
    const size_t count = ranges_of(watch, ranges);
    bool changed = false;
    for (size_t i = 0; i < count; i++)
        changed |= memcmp(watch->copy + ranges[i].off, watch->file.bytes + ranges[i].off, ranges[i].size) != 0;
    for (size_t i = 0; changed && i < count; i++)
        memcpy(watch->copy + ranges[i].off, watch->file.bytes + ranges[i].off, ranges[i].size);
    return changed;
}

/* ---- hashes ---- */

static uint64_t
hash_word(uint64_t hash, uint64_t word)
{
    hash ^= word;
    return next_random(&hash);
}

static uint64_t
hash_bytes(uint64_t hash, const unsigned char *bytes, uint64_t size)
{
    uint64_t word;
    for (uint64_t at = 0; at + sizeof word <= size; at += sizeof word) {
        memcpy(&word, bytes + at, sizeof word);
        if (word != 0) /* most are; where the others stand is part of it */
            hash = hash_word(hash, word ^ at << 40);
    }
    return hash;
}

uint64_t
watch_hash(const struct watch *watch)
{
    const struct region_header *header = header_of(&watch->file);
    const struct region_slot *slots = (const struct region_slot *)(const void *)(watch->file.bytes + header->slots_off);
    uint64_t hash = hash_word(header->allocator_kind, header->region_size);
    hash = hash_word(hash, (uint64_t)atomic_load(&header->state) << 32 | atomic_load(&header->clean));
    for (uint32_t i = 0; i < header->slot_count; i++)
        hash = hash_word(hash, atomic_load(&slots[i].state));
    struct range ranges[RANGES_MAX];
    const size_t count = ranges_of(watch, ranges);
    for (size_t i = 1; i < count; i++)
        hash = hash_bytes(hash_word(hash, i), watch->file.bytes + ranges[i].off, ranges[i].size);
    return hash;
}

static size_t
place_of(const struct hash_set *set, uint64_t hash)
{
    size_t at = (size_t)hash & (set->capacity - 1);
    while (set->places[at] != 0 && set->places[at] != hash)
        at = (at + 1) & (set->capacity - 1);
    return at;
}

static void
grow_set(struct hash_set *set)
{
    struct hash_set larger = { .capacity = set->capacity == 0 ? 1024 : 2 * set->capacity, .count = set->count };
    larger.places = calloc(larger.capacity, sizeof *larger.places);
    assert_non_null(larger.places);
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->places[i] != 0)
            larger.places[place_of(&larger, set->places[i])] = set->places[i];
    }
    free(set->places);
    *set = larger;
}

bool
hash_set_add(struct hash_set *set, uint64_t hash)
{
    hash += hash == 0;
    if (2 * set->count >= set->capacity)
        grow_set(set);
    const size_t at = place_of(set, hash);
    if (set->places[at] == hash)
        return false;
    set->places[at] = hash;
    set->count++;
    return true;
}
