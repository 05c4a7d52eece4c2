/*
 * standin_hip.c - a stand-in for libamdhip64; see standin.h.
 */
#include "standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
/* What fails is also the thread's last error, until somebody asks for it. */
#define ENTER(needs_start)                                      \
    const int refused = standin_enter(__func__, (needs_start)); \
    if (refused != 0)                                           \
    return sticky(refused)

enum { TO_DEVICE = 1, TO_HOST = 2, WITHIN = 3, VERSION_6 = 60000000, REGISTER_FLAGS = 7 };

struct uuid {
    char bytes[16];
};
struct handle {
    char bytes[64];
};

static _Thread_local int current;
static _Thread_local int last_error;

static int
sticky(int code)
{
    if (code != 0)
        last_error = code;
    return code;
}

static uint64_t
number(const void *at)
{
    return (uintptr_t)at;
}

static int
check_device(int device)
{
    return sticky(device < 0 || device >= standin_devices() ? STANDIN_NO_SUCH_DEVICE : 0);
}

EXPORTED int hipInit(unsigned flags);
EXPORTED int
hipInit(unsigned flags)
{
    ENTER(false);
    return sticky(flags != 0 ? STANDIN_INVALID : standin_start());
}

EXPORTED int hipGetLastError(void);
EXPORTED int
hipGetLastError(void)
{
    const int error = last_error;
    last_error = 0;
    return error;
}

EXPORTED int hipGetDeviceCount(int *count);
EXPORTED int
hipGetDeviceCount(int *count)
{
    ENTER(true);
    *count = standin_devices();
    return sticky(*count == 0 ? STANDIN_NO_DEVICE : 0);
}

EXPORTED int hipGetDevice(int *device);
EXPORTED int
hipGetDevice(int *device)
{
    ENTER(true);
    *device = current;
    return 0;
}

EXPORTED int hipSetDevice(int device);
EXPORTED int
hipSetDevice(int device)
{
    ENTER(true);
    const int code = check_device(device);
    if (code == 0) {
        standin_count_pushed((device != 0) - (current != 0));
        current = device;
    }
    return code;
}

EXPORTED int hipRuntimeGetVersion(int *version);
EXPORTED int
hipRuntimeGetVersion(int *version)
{
    ENTER(false);
    const char *text = getenv("STANDIN_HIP_VERSION");
    *version = text == NULL ? VERSION_6 : atoi(text);
    return 0;
}

EXPORTED int hipDeviceGet(int *device, int ordinal);
EXPORTED int
hipDeviceGet(int *device, int ordinal)
{
    ENTER(true);
    *device = ordinal;
    return check_device(ordinal);
}

EXPORTED int hipDeviceGetUuid(struct uuid *uuid, int device);
EXPORTED int
hipDeviceGetUuid(struct uuid *uuid, int device)
{
    ENTER(true);
    memset(uuid, 0, sizeof *uuid);
    char text[17];
    const char *all = getenv("STANDIN_HIP_UUID");
    (void)snprintf(text, sizeof text, "%016x", 0xa0u + (unsigned)standin_identity(device));
    if (all != NULL)
        (void)snprintf(text, sizeof text, "%s", all);
    memcpy(uuid->bytes, text, all == NULL ? sizeof uuid->bytes : strlen(text));
    return check_device(device);
}

EXPORTED int hipDeviceGetPCIBusId(char *id, int size, int device);
EXPORTED int
hipDeviceGetPCIBusId(char *id, int size, int device)
{
    ENTER(true);
    (void)snprintf(id, (size_t)size, "0000:%02x:00.0", standin_identity(device));
    return check_device(device);
}

EXPORTED int hipDeviceGetName(char *name, int size, int device);
EXPORTED int
hipDeviceGetName(char *name, int size, int device)
{
    ENTER(true);
    (void)snprintf(name, (size_t)size, "stand-in for HIP %d", standin_identity(device));
    return check_device(device);
}

EXPORTED int hipDeviceTotalMem(size_t *bytes, int device);
EXPORTED int
hipDeviceTotalMem(size_t *bytes, int device)
{
    ENTER(true);
    *bytes = standin_device_memory();
    return check_device(device);
}

EXPORTED int hipDeviceSynchronize(void);
EXPORTED int
hipDeviceSynchronize(void)
{
    ENTER(true);
    return 0;
}

EXPORTED const char *hipGetErrorName(int error);
EXPORTED const char *
hipGetErrorName(int error)
{
    return error == STANDIN_NO_MEMORY ? "hipErrorOutOfMemory" : "hipErrorUnknown";
}

EXPORTED const char *hipGetErrorString(int error);
EXPORTED const char *
hipGetErrorString(int error)
{
    (void)error;
    return "as the stand-in was told";
}

EXPORTED int hipMalloc(void **at, size_t size);
EXPORTED int
hipMalloc(void **at, size_t size)
{
    ENTER(true);
    uint64_t got = 0;
    const int code = standin_allocate(standin_identity(current), size, &got);
    *at = (void *)(uintptr_t)got;
    return sticky(code);
}

EXPORTED int hipFree(void *at);
EXPORTED int
hipFree(void *at)
{
    ENTER(true);
    return sticky(at == NULL ? 0 : standin_free(number(at)));
}

EXPORTED int hipMemcpy(void *to, const void *from, size_t size, int kind);
EXPORTED int
hipMemcpy(void *to, const void *from, size_t size, int kind)
{
    ENTER(true);
    if (kind == TO_DEVICE)
        return sticky(standin_write(number(to), from, size));
    if (kind == TO_HOST)
        return sticky(standin_read(to, number(from), size));
    return sticky(kind == WITHIN ? standin_copy(number(to), number(from), size) : STANDIN_INVALID);
}

EXPORTED int hipMemset(void *at, int byte, size_t size);
EXPORTED int
hipMemset(void *at, int byte, size_t size)
{
    ENTER(true);
    return sticky(standin_set(number(at), (unsigned char)byte, size));
}

EXPORTED int hipIpcGetMemHandle(struct handle *handle, void *at);
EXPORTED int
hipIpcGetMemHandle(struct handle *handle, void *at)
{
    ENTER(true);
    return sticky(standin_export(number(at), handle->bytes));
}

/* The flag that it takes was 0 until 5.7. */
EXPORTED int hipIpcOpenMemHandle(void **at, struct handle handle, unsigned flags);
EXPORTED int
hipIpcOpenMemHandle(void **at, struct handle handle, unsigned flags)
{
    ENTER(true);
    const char *text = getenv("STANDIN_HIP_VERSION");
    const unsigned wanted = text == NULL || atoi(text) >= VERSION_6;
    uint64_t got = 0;
    const int code = flags != wanted ? STANDIN_INVALID : standin_import(handle.bytes, &got);
    *at = (void *)(uintptr_t)got;
    return sticky(code);
}

EXPORTED int hipIpcCloseMemHandle(void *at);
EXPORTED int
hipIpcCloseMemHandle(void *at)
{
    ENTER(true);
    return sticky(standin_unimport(number(at)));
}

EXPORTED int hipMemGetAddressRange(void **base, size_t *size, void *at);
EXPORTED int
hipMemGetAddressRange(void **base, size_t *size, void *at)
{
    ENTER(true);
    uint64_t got = 0;
    const int code = standin_range(number(at), &got, size);
    *base = (void *)(uintptr_t)got;
    return sticky(code);
}

/* CUDA's flag for memory that may only be read, 8, is another one here (coarse-grained), which nobody is to mean. */
EXPORTED int hipHostRegister(void *base, size_t size, unsigned flags);
EXPORTED int
hipHostRegister(void *base, size_t size, unsigned flags)
{
    ENTER(true);
    return sticky((flags & ~(unsigned)REGISTER_FLAGS) != 0 ? STANDIN_INVALID : standin_register(base, size));
}

EXPORTED int hipHostUnregister(void *base);
EXPORTED int
hipHostUnregister(void *base)
{
    ENTER(true);
    return sticky(standin_unregister(base));
}

EXPORTED int hipHostGetDevicePointer(void **at, void *base, unsigned flags);
EXPORTED int
hipHostGetDevicePointer(void **at, void *base, unsigned flags)
{
    ENTER(true);
    uint64_t got = 0;
    const int code = flags != 0 ? STANDIN_INVALID : standin_registered(base, &got);
    *at = (void *)(uintptr_t)got;
    return sticky(code);
}
