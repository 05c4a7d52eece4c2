/*
 * standin.h - what the two stand-in drivers share, and how a test makes them fail.
 *
 * They are no drivers: device memory is a memfd that the processor's view maps without access, so that whoever touches it gets a
 * SIGSEGV; only the copies of the stand-in get there, by pread() and pwrite().  They answer as facts about real drivers have it: in a
 * forked child, without a context, in the exporting process, for sizes of 0, for what is not theirs.
 *
 * Settings, from the environment when the library is loaded:
 *   STANDIN_DEVICES=n        how many (2); of CUDA's and HIP's each
 *   STANDIN_REVERSED=1       numbered from the other end: same devices, other ordinals
 *   STANDIN_FIRST=n          the first is another machine's n-th: devices that others do not have
 *   STANDIN_MEMORY_MIB=n     of each device (1024)
 *   STANDIN_FAIL=call:n:code the n-th call of that name answers that code, and does nothing (n = 0: each)
 *   STANDIN_HIP_VERSION=n    as hipRuntimeGetVersion() tells it (60000000)
 *   STANDIN_HIP_UUID=text    every device of HIP's says so: "XX", "" (all 0), or another
 */
#ifndef HSHM_TESTS_GPU_STANDIN_H
#define HSHM_TESTS_GPU_STANDIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- for tests, by dlsym() ---- */

/* What is not given back yet, in this process. */
struct standin_counts {
    uint32_t allocations, mappings, registrations, contexts, pushed;
    uint64_t bytes;  /* of allocations */
    uint64_t calls;  /* since standin_fail() */
    char failed[64]; /* the call that was made to fail; empty: none was */
};
void standin_counts(struct standin_counts *ret_counts);
/* From now on: the n-th call of that name (NULL: of any name; n = 0: each of them) answers `code`.  code 0: none. */
void standin_fail(const char *call, uint32_t nth, int code);

/* Called whenever memory is about to be freed, without any lock; NULL: no more. */
void standin_before_free(void (*hook)(void));
/* The next memory to be registered is found registered, as if a mapping that was there before had been forgotten. */
void standin_register_next_already(void);

/* ---- for the two ---- */

enum { STANDIN_DEVICES_MAX = 8 };

enum standin_error {
    STANDIN_OK = 0,
    STANDIN_INVALID = 1,
    STANDIN_NO_MEMORY = 2,
    STANDIN_NOT_STARTED = 3,
    STANDIN_NO_DEVICE = 100,
    STANDIN_NO_SUCH_DEVICE = 101,
    STANDIN_NO_CONTEXT = 201,
    STANDIN_MAPPED_ALREADY = 208,
    STANDIN_BAD_HANDLE = 400,
    STANDIN_REGISTERED = 712,
    STANDIN_NOT_REGISTERED = 713
};

/* First in each function: not started, forked, or told to fail.  0 = go on. */
int standin_enter(const char *call, bool needs_start);
int standin_start(void);
int standin_devices(void);
/* Which device has that number; its name in all processes. */
int standin_identity(int ordinal);
uint64_t standin_device_memory(void);

uint64_t standin_used(int device);
int standin_allocate(int device, size_t size, uint64_t *ret_at);
int standin_free(uint64_t at);
int standin_export(uint64_t at, char handle[64]);
int standin_import(const char handle[64], uint64_t *ret_at);
int standin_unimport(uint64_t at);
int standin_range(uint64_t at, uint64_t *ret_base, size_t *ret_size);
int standin_write(uint64_t at, const void *from, size_t size);
int standin_read(void *to, uint64_t at, size_t size);
int standin_copy(uint64_t to, uint64_t from, size_t size);
int standin_set(uint64_t at, unsigned char byte, size_t size);
int standin_register(void *base, size_t size);
int standin_unregister(void *base);
int standin_registered(void *base, uint64_t *ret_at);
/* Contexts that are retained, and pushed. */
void standin_count_context(int by);
void standin_count_pushed(int by);

#endif
