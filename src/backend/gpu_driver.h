/*
 * gpu_driver.h - GPUs, whoever made them: the driver of each vendor is found at run time.
 *
 * One table of functions a vendor (gpu_api), which call the driver and answer with its code; everything else - finding the
 * library, which device, contexts, sentences - is in gpu_driver.c, once.
 *
 * Nothing happens before the first call that needs a device.  Who forks after that has children that cannot use the driver: the
 * process that started it is remembered, and a child is told so.
 */
#ifndef HSHM_BACKEND_GPU_DRIVER_H
#define HSHM_BACKEND_GPU_DRIVER_H

#include <hshm/gpu.h>
#include <sys/types.h>

#include "format/region_format.h"

/* What a driver's function said; 0 = good. */
struct gpu_answer {
    const char *call;
    int code;
};

struct gpu_handle {
    unsigned char bytes[64];
};

struct gpu_uuid {
    uint8_t bytes[16];
};

/* A function that is looked for in a driver's library, and where its address goes. */
struct gpu_symbol {
    const char *name;
    void **place;
    bool needed; /* without it no device can be used */
};

struct gpu_device;

struct gpu_api {
    enum region_vendor vendor;
    const char *title;
    const char *prefix;           /* of a wish: "cuda:1"                      */
    const char *variable;         /* of the environment: another library      */
    const char *const *libraries; /* which are tried, in turn; ends with NULL */
    const struct gpu_symbol *symbols;
    size_t symbol_count;
    int out_of_memory, not_supported, not_permitted; /* codes */
    int not_started;                                 /* ... also in a forked child of a process that used the driver */
    int deinitialized;                               /* ... after the driver's own end, when the process exits       */
    int not_registered;

    /* A function that an older or smaller driver may lack is missing: its name.  NULL: all for memory of its own, or for registering. */
    const char *(*lacks_memory)(void);
    const char *(*lacks_pinning)(void);

    struct gpu_answer (*start)(void);
    struct gpu_answer (*count)(int *ret_count);
    struct gpu_answer (*uuid)(int ordinal, struct gpu_uuid *ret_uuid);
    /* For people: name and bytes; what is not known stays as it is. */
    void (*describe)(int ordinal, char *name, size_t size, uint64_t *ret_memory);
    /* The calling thread's device, if it has one. */
    bool (*current)(int *ret_ordinal);
    struct gpu_answer (*retain)(int ordinal, void **ret_context);
    struct gpu_answer (*release)(int ordinal, void *context);
    /* Make a device the calling thread's; and undo it.  `kept` is for leave(). */
    struct gpu_answer (*enter)(const struct gpu_device *device, int *ret_kept);
    struct gpu_answer (*leave)(const struct gpu_device *device, int kept);

    /* With the device entered. */
    struct gpu_answer (*allocate)(uint64_t size, uint64_t *ret_at);
    struct gpu_answer (*free)(uint64_t at);
    struct gpu_answer (*get_handle)(uint64_t at, struct gpu_handle *ret_handle);
    struct gpu_answer (*open_handle)(const struct gpu_handle *handle, uint64_t *ret_at);
    struct gpu_answer (*close_handle)(uint64_t at);
    /* The allocation, or mapping, that an address lies in. */
    struct gpu_answer (*range)(uint64_t at, uint64_t *ret_base, uint64_t *ret_size);
    /* These return when it is done, for everyone. */
    struct gpu_answer (*copy_to)(uint64_t at, const void *from, uint64_t size);
    struct gpu_answer (*copy_from)(void *to, uint64_t at, uint64_t size);
    struct gpu_answer (*copy_within)(uint64_t to, uint64_t from, uint64_t size);
    struct gpu_answer (*fill)(uint64_t at, uint8_t byte, uint64_t size);
    /* Register host memory that was mapped just now: a registration that is there already is of what was there before, and ends. */
    struct gpu_answer (*pin)(void *base, uint64_t size, bool read_only);
    struct gpu_answer (*unpin)(void *base);
    struct gpu_answer (*pinned_address)(void *base, uint64_t *ret_at);
    /* "CUDA_ERROR_NO_DEVICE, no CUDA-capable device is detected" */
    void (*explain)(int code, char *ret_text, size_t size);
};

extern const struct gpu_api gpu_cuda;
extern const struct gpu_api gpu_hip;

/* Local: a device as one process uses it.  All zero: none. */
struct gpu_device {
    const struct gpu_api *api;
    int ordinal;
    void *context; /* CUDA: the primary context, retained */
    pid_t pid;     /* who retained it                     */
    struct gpu_uuid uuid;
};

/* What a device is wanted for: the functions for it must be there. */
enum gpu_purpose { GPU_FOR_LOOKING, GPU_FOR_MEMORY, GPU_FOR_PINNING };

/*
 * Find a device and keep it ready.  `wanted` is hshm_backend_options.gpu_device, or NULL; `what` begins sentences: "cannot
 * create 'x' (GPU memory)".
 * HSHM_OK, HSHM_E_DEVICE, HSHM_E_NOTSUP (the driver lacks a function), HSHM_E_NOTFOUND (no such device), HSHM_E_INVAL (wanted)
 */
hshm_status gpu_open(const char *wanted, enum gpu_purpose purpose, const char *what, struct gpu_device *ret_device);

/* The device of a vendor that has this uuid, wherever in this process's list it stands.  As gpu_open(). */
hshm_status gpu_open_uuid(uint32_t vendor, const struct gpu_uuid *uuid, const char *what,
                          struct gpu_device *ret_device);

/* Let it go; harmless on none, and in a forked child.  HSHM_OK or HSHM_E_DEVICE. */
hshm_status gpu_close(struct gpu_device *device, const char *what);

/* Can this process use it?  HSHM_OK, or HSHM_E_DEVICE in a child that was forked after. */
hshm_status gpu_usable(const struct gpu_device *device, const char *what);

/*
 * HSHM_OK, HSHM_E_NOSPC (no memory on the device), HSHM_E_NOTSUP, HSHM_E_PERM, HSHM_E_DEVICE.  What ends something (gpu_close, gpu_free,
 * gpu_close_handle, gpu_unpin) succeeds when the driver has ended itself before: it is gone with it.
 */
hshm_status gpu_allocate(const struct gpu_device *device, const char *what, uint64_t size, uint64_t *ret_at);
hshm_status gpu_free(const struct gpu_device *device, const char *what, uint64_t at);
hshm_status gpu_get_handle(const struct gpu_device *device, const char *what, uint64_t at,
                           struct gpu_handle *ret_handle);
hshm_status gpu_open_handle(const struct gpu_device *device, const char *what, const struct gpu_handle *handle,
                            uint64_t *ret_at);
hshm_status gpu_close_handle(const struct gpu_device *device, const char *what, uint64_t at);
/* What allocation or mapping lies there: its first byte, and how many. */
hshm_status gpu_range(const struct gpu_device *device, const char *what, uint64_t at, uint64_t *ret_base,
                      uint64_t *ret_size);
hshm_status gpu_copy_to(const struct gpu_device *device, const char *what, uint64_t at, const void *from,
                        uint64_t size);
hshm_status gpu_copy_from(const struct gpu_device *device, const char *what, void *to, uint64_t at, uint64_t size);
hshm_status gpu_copy_within(const struct gpu_device *device, const char *what, uint64_t to, uint64_t from,
                            uint64_t size);
hshm_status gpu_fill(const struct gpu_device *device, const char *what, uint64_t at, uint8_t byte, uint64_t size);
/* Register [base, base + size), and its address on the device. */
hshm_status gpu_pin(const struct gpu_device *device, const char *what, void *base, uint64_t size, bool read_only,
                    uint64_t *ret_at);
/* *ret_stays: the driver still has these addresses for registered, so nothing else may be mapped there. */
hshm_status gpu_unpin(const struct gpu_device *device, const char *what, void *base, bool *ret_stays);

/* For people. */
void gpu_describe(const struct gpu_device *device, hshm_gpu_info *ret_info);
struct gpu_uuid_text {
    char s[48];
};
struct gpu_uuid_text gpu_uuid_text(const struct gpu_uuid *uuid);

/* In a forked child, before anything else here: no other thread goes on. */
void gpu_driver_fork_child(void);

#endif
