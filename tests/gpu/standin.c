/*
 * standin.c - see standin.h.
 */
#include "standin.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))
#define ALIGNMENT ((uint64_t)2 << 20)
#define DEVICE_DISTANCE ((uint64_t)1 << 44) /* registered memory has other addresses on the device */

struct piece {
    struct piece *next;
    uint64_t at;
    size_t size;
    int fd;
    int device;
    bool imported;
    char handle[64];
};

struct registration {
    struct registration *next;
    uintptr_t base;
    size_t size;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pid_t started_by;
static struct piece *pieces;
static struct registration *registrations;
static struct standin_counts counts;
static void (*before_free)(void);
static bool forgotten;
static struct {
    char call[64];
    uint32_t nth, seen;
    int code;
} fault;

static long
setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtol(text, NULL, 10);
}

__attribute__((constructor)) static void
read_fault(void)
{
    char call[64] = "";
    unsigned nth = 0;
    int code = 0;
    const char *text = getenv("STANDIN_FAIL");
    if (text != NULL && sscanf(text, "%63[^:]:%u:%d", call, &nth, &code) == 3)
        standin_fail(strcmp(call, "*") == 0 ? NULL : call, nth, code);
}

EXPORTED void
standin_fail(const char *call, uint32_t nth, int code)
{
    memset(&fault, 0, sizeof fault);
    (void)snprintf(fault.call, sizeof fault.call, "%s", call == NULL ? "" : call);
    fault.nth = nth;
    fault.code = code;
    counts.calls = 0;
    counts.failed[0] = '\0';
}

EXPORTED void
standin_counts(struct standin_counts *ret_counts)
{
    (void)pthread_mutex_lock(&mutex);
    *ret_counts = counts;
    (void)pthread_mutex_unlock(&mutex);
}

int
standin_enter(const char *call, bool needs_start)
{
    counts.calls++;
    if (fault.code != 0 && (fault.call[0] == '\0' || strcmp(call, fault.call) == 0)) {
        fault.seen++;
        if (fault.nth == 0 || fault.seen == fault.nth) {
            (void)snprintf(counts.failed, sizeof counts.failed, "%s", call);
            return fault.code;
        }
    }
    return needs_start && started_by != getpid() ? STANDIN_NOT_STARTED : STANDIN_OK;
}

int
standin_start(void)
{
    if (started_by != 0 && started_by != getpid())
        return STANDIN_NOT_STARTED;
    started_by = getpid();
    return standin_devices() == 0 ? STANDIN_NO_DEVICE : STANDIN_OK;
}

int
standin_devices(void)
{
    return (int)setting("STANDIN_DEVICES", 2);
}

int
standin_identity(int ordinal)
{
    return setting("STANDIN_REVERSED", 0) != 0 ? standin_devices() - 1 - ordinal
                                               : ordinal + (int)setting("STANDIN_FIRST", 0);
}

uint64_t
standin_device_memory(void)
{
    return (uint64_t)setting("STANDIN_MEMORY_MIB", 1024) << 20;
}

void
standin_count_context(int by)
{
    counts.contexts += (uint32_t)by;
}

void
standin_count_pushed(int by)
{
    counts.pushed += (uint32_t)by;
}

/* ---- memory; under the mutex ---- */

static struct piece **
find(uint64_t at)
{
    for (struct piece **piece = &pieces; *piece != NULL; piece = &(*piece)->next) {
        if (at >= (*piece)->at && at - (*piece)->at < (*piece)->size)
            return piece;
    }
    return NULL;
}

/* Addresses without access. */
static void *
map_without_access(int fd, size_t size)
{
    char *reserve = mmap(NULL, size + ALIGNMENT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserve == MAP_FAILED)
        return reserve;
    char *at = (char *)(((uintptr_t)reserve + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (at > reserve)
        (void)munmap(reserve, (size_t)(at - reserve));
    (void)munmap(at + size, ALIGNMENT - (size_t)(at - reserve));
    return mmap(at, size, PROT_NONE, MAP_SHARED | MAP_FIXED, fd, 0);
}

static int
add_piece(int fd, size_t size, int device, bool imported, uint64_t *ret_at)
{
    struct piece *piece = calloc(1, sizeof *piece);
    void *at = map_without_access(fd, size);
    if (piece == NULL || at == MAP_FAILED) {
        free(piece);
        (void)close(fd);
        return STANDIN_NO_MEMORY;
    }
    *piece = (struct piece){ .at = (uintptr_t)at, .size = size, .fd = fd, .device = device, .imported = imported };
    piece->next = pieces;
    pieces = piece;
    *ret_at = piece->at;
    return STANDIN_OK;
}

static void
drop_piece(struct piece **place)
{
    struct piece *piece = *place;
    *place = piece->next;
    (void)munmap((void *)(uintptr_t)piece->at, piece->size);
    (void)close(piece->fd);
    free(piece);
}

static uint64_t
used_of(int device)
{
    uint64_t used = 0;
    for (const struct piece *piece = pieces; piece != NULL; piece = piece->next)
        used += piece->device == device && !piece->imported ? piece->size : 0;
    return used;
}

uint64_t
standin_used(int device)
{
    (void)pthread_mutex_lock(&mutex);
    const uint64_t used = used_of(device);
    (void)pthread_mutex_unlock(&mutex);
    return used;
}

int
standin_allocate(int device, size_t size, uint64_t *ret_at)
{
    if (size == 0)
        return STANDIN_INVALID;
    (void)pthread_mutex_lock(&mutex);
    int code = STANDIN_NO_MEMORY;
    const int fd = size > standin_device_memory() - used_of(device) ? -1 : memfd_create("hshm-standin", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
        code = add_piece(fd, size, device, false, ret_at);
    else if (fd >= 0)
        (void)close(fd);
    counts.allocations += code == STANDIN_OK;
    counts.bytes += code == STANDIN_OK ? size : 0;
    (void)pthread_mutex_unlock(&mutex);
    return code;
}

static int
drop(uint64_t at, bool imported)
{
    (void)pthread_mutex_lock(&mutex);
    struct piece **piece = find(at);
    const bool is_one = piece != NULL && (*piece)->at == at && (*piece)->imported == imported;
    if (is_one) {
        counts.allocations -= !imported;
        counts.mappings -= imported;
        counts.bytes -= imported ? 0 : (*piece)->size;
        drop_piece(piece);
    }
    (void)pthread_mutex_unlock(&mutex);
    return is_one ? STANDIN_OK : STANDIN_INVALID;
}

int
standin_range(uint64_t at, uint64_t *ret_base, size_t *ret_size)
{
    (void)pthread_mutex_lock(&mutex);
    struct piece **piece = find(at);
    if (piece != NULL) {
        *ret_base = (*piece)->at;
        *ret_size = (*piece)->size;
    }
    (void)pthread_mutex_unlock(&mutex);
    return piece != NULL ? STANDIN_OK : STANDIN_INVALID;
}

EXPORTED void
standin_before_free(void (*hook)(void))
{
    before_free = hook;
}

int
standin_free(uint64_t at)
{
    if (before_free != NULL)
        before_free();
    return drop(at, false);
}

int
standin_unimport(uint64_t at)
{
    return drop(at, true);
}

/* A handle is whose descriptor it is: so the memory is gone when its owner is. */
int
standin_export(uint64_t at, char handle[64])
{
    (void)pthread_mutex_lock(&mutex);
    struct piece **piece = find(at);
    const bool is_one = piece != NULL && !(*piece)->imported;
    memset(handle, 0, 64);
    if (is_one)
        (void)snprintf(handle, 64, "standin %d %d %zu %d", (int)getpid(), (*piece)->fd, (*piece)->size,
                       (*piece)->device);
    (void)pthread_mutex_unlock(&mutex);
    return is_one ? STANDIN_OK : STANDIN_INVALID;
}

static int
import_locked(const char handle[64], uint64_t *ret_at)
{
    int pid = 0;
    int fd = -1;
    int device = 0;
    size_t size = 0;
    char text[65];
    char path[64];
    memcpy(text, handle, 64);
    text[64] = '\0';
    if (sscanf(text, "standin %d %d %zu %d", &pid, &fd, &size, &device) != 4)
        return STANDIN_BAD_HANDLE;
    if (pid == getpid())
        return STANDIN_NO_CONTEXT; /* as both drivers say in the exporting process */
    for (const struct piece *piece = pieces; piece != NULL; piece = piece->next) {
        if (piece->imported && memcmp(piece->handle, handle, 64) == 0)
            return STANDIN_MAPPED_ALREADY;
    }
    (void)snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    const int own = open(path, O_RDWR | O_CLOEXEC);
    if (own < 0)
        return STANDIN_BAD_HANDLE;
    const int code = add_piece(own, size, device, true, ret_at);
    if (code == STANDIN_OK) {
        memcpy(pieces->handle, handle, 64);
        counts.mappings++;
    }
    return code;
}

int
standin_import(const char handle[64], uint64_t *ret_at)
{
    (void)pthread_mutex_lock(&mutex);
    const int code = import_locked(handle, ret_at);
    (void)pthread_mutex_unlock(&mutex);
    return code;
}

/* ---- copies ---- */

/* The file, and where in it; -1 when the bytes are not all of one piece. */
static int
place_of(uint64_t at, size_t size, off_t *ret_off)
{
    (void)pthread_mutex_lock(&mutex);
    struct piece **piece = find(at);
    const bool is_one = piece != NULL && size <= (*piece)->size - (at - (*piece)->at);
    const int fd = is_one ? (*piece)->fd : -1;
    *ret_off = is_one ? (off_t)(at - (*piece)->at) : 0;
    (void)pthread_mutex_unlock(&mutex);
    return fd;
}

int
standin_write(uint64_t at, const void *from, size_t size)
{
    off_t off;
    const int fd = place_of(at, size, &off);
    return fd >= 0 && pwrite(fd, from, size, off) == (ssize_t)size ? STANDIN_OK : STANDIN_INVALID;
}

int
standin_read(void *to, uint64_t at, size_t size)
{
    off_t off;
    const int fd = place_of(at, size, &off);
    return fd >= 0 && pread(fd, to, size, off) == (ssize_t)size ? STANDIN_OK : STANDIN_INVALID;
}

int
standin_copy(uint64_t to, uint64_t from, size_t size)
{
    char *bytes = malloc(size);
    if (bytes == NULL)
        return STANDIN_NO_MEMORY;
    int code = standin_read(bytes, from, size);
    if (code == STANDIN_OK)
        code = standin_write(to, bytes, size);
    free(bytes);
    return code;
}

int
standin_set(uint64_t at, unsigned char byte, size_t size)
{
    char bytes[4096];
    memset(bytes, byte, sizeof bytes);
    int code = STANDIN_OK;
    while (size > 0 && code == STANDIN_OK) {
        const size_t step = size < sizeof bytes ? size : sizeof bytes;
        code = standin_write(at, bytes, step);
        at += step;
        size -= step;
    }
    return code;
}

/* ---- registered host memory ---- */

static struct registration **
registration_of(uintptr_t begin, size_t size)
{
    for (struct registration **one = &registrations; *one != NULL; one = &(*one)->next) {
        if (begin < (*one)->base + (*one)->size && (*one)->base < begin + size)
            return one;
    }
    return NULL;
}

EXPORTED void
standin_register_next_already(void)
{
    forgotten = true;
}

int
standin_register(void *base, size_t size)
{
    struct registration *one = calloc(1, sizeof *one);
    if (base == NULL || size == 0 || one == NULL) {
        free(one);
        return STANDIN_INVALID;
    }
    *one = (struct registration){ .base = (uintptr_t)base, .size = size };
    (void)pthread_mutex_lock(&mutex);
    const bool is_new = registration_of((uintptr_t)base, size) == NULL;
    if (is_new) {
        one->next = registrations;
        registrations = one;
        counts.registrations++;
    }
    (void)pthread_mutex_unlock(&mutex);
    if (!is_new)
        free(one);
    const bool was_there = forgotten;
    forgotten = false;
    return is_new && !was_there ? STANDIN_OK : STANDIN_REGISTERED;
}

int
standin_unregister(void *base)
{
    (void)pthread_mutex_lock(&mutex);
    struct registration **place = registration_of((uintptr_t)base, 1);
    struct registration *one = place == NULL || (*place)->base != (uintptr_t)base ? NULL : *place;
    if (one != NULL) {
        *place = one->next;
        counts.registrations--;
    }
    (void)pthread_mutex_unlock(&mutex);
    free(one);
    return one != NULL ? STANDIN_OK : STANDIN_NOT_REGISTERED;
}

int
standin_registered(void *base, uint64_t *ret_at)
{
    (void)pthread_mutex_lock(&mutex);
    struct registration **place = registration_of((uintptr_t)base, 1);
    (void)pthread_mutex_unlock(&mutex);
    if (place == NULL)
        return STANDIN_INVALID;
    *ret_at = (uintptr_t)base + DEVICE_DISTANCE;
    return STANDIN_OK;
}
