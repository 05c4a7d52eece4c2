/*
 * standin_cuda.c - a stand-in for libcuda.so.1; see standin.h.  Functions under the names that CUDA's driver exports.
 */
#include "standin.h"

#include <stdio.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
#define ENTER(needs_start)                                      \
    const int refused = standin_enter(__func__, (needs_start)); \
    if (refused != 0)                                           \
    return refused
/* And a context must be current. */
#define ENTER_CONTEXT                                               \
    ENTER(true);                                                    \
    struct context *context = depth == 0 ? NULL : stack[depth - 1]; \
    if (context == NULL || context->retained == 0)                  \
    return STANDIN_NO_CONTEXT

enum { DEPTH_MAX = 64, LAZY_ENABLE_PEER = 1, FLAGS_KNOWN = 15 };

struct context {
    int device;
    int retained;
};
struct uuid {
    char bytes[16];
};
struct handle {
    char bytes[64];
};

static struct context contexts[STANDIN_DEVICES_MAX];
static _Thread_local struct context *stack[DEPTH_MAX];
static _Thread_local int depth;

EXPORTED int cuInit(unsigned flags);
EXPORTED int
cuInit(unsigned flags)
{
    ENTER(false);
    return flags != 0 ? STANDIN_INVALID : standin_start();
}

EXPORTED int cuDeviceGetCount(int *count);
EXPORTED int
cuDeviceGetCount(int *count)
{
    ENTER(true);
    *count = standin_devices();
    return 0;
}

static int
check_device(int device)
{
    return device < 0 || device >= standin_devices() ? STANDIN_NO_SUCH_DEVICE : 0;
}

EXPORTED int cuDeviceGet(int *device, int ordinal);
EXPORTED int
cuDeviceGet(int *device, int ordinal)
{
    ENTER(true);
    *device = ordinal;
    return check_device(ordinal);
}

static int
tell_uuid(struct uuid *uuid, int device)
{
    if (check_device(device) != 0)
        return STANDIN_NO_SUCH_DEVICE;
    memset(uuid, 0xc0 + standin_identity(device), sizeof *uuid);
    return 0;
}

EXPORTED int cuDeviceGetUuid(struct uuid *uuid, int device);
EXPORTED int
cuDeviceGetUuid(struct uuid *uuid, int device)
{
    ENTER(true);
    return tell_uuid(uuid, device);
}

EXPORTED int cuDeviceGetUuid_v2(struct uuid *uuid, int device);
EXPORTED int
cuDeviceGetUuid_v2(struct uuid *uuid, int device)
{
    ENTER(true);
    return tell_uuid(uuid, device);
}

EXPORTED int cuDeviceGetName(char *name, int size, int device);
EXPORTED int
cuDeviceGetName(char *name, int size, int device)
{
    ENTER(true);
    (void)snprintf(name, (size_t)size, "stand-in for CUDA %d", standin_identity(device));
    return check_device(device);
}

EXPORTED int cuDeviceTotalMem_v2(size_t *bytes, int device);
EXPORTED int
cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    ENTER(true);
    *bytes = standin_device_memory();
    return check_device(device);
}

EXPORTED int cuDevicePrimaryCtxRetain(struct context **context, int device);
EXPORTED int
cuDevicePrimaryCtxRetain(struct context **context, int device)
{
    ENTER(true);
    if (check_device(device) != 0)
        return STANDIN_NO_SUCH_DEVICE;
    contexts[device].device = device;
    contexts[device].retained++;
    standin_count_context(1);
    *context = &contexts[device];
    return 0;
}

EXPORTED int cuDevicePrimaryCtxRelease_v2(int device);
EXPORTED int
cuDevicePrimaryCtxRelease_v2(int device)
{
    ENTER(true);
    if (check_device(device) != 0 || contexts[device].retained == 0)
        return STANDIN_NO_CONTEXT;
    contexts[device].retained--;
    standin_count_context(-1);
    return 0;
}

EXPORTED int cuCtxGetCurrent(struct context **context);
EXPORTED int
cuCtxGetCurrent(struct context **context)
{
    ENTER(true);
    *context = depth == 0 ? NULL : stack[depth - 1];
    return 0;
}

EXPORTED int cuCtxGetDevice(int *device);
EXPORTED int
cuCtxGetDevice(int *device)
{
    ENTER_CONTEXT;
    *device = context->device;
    return 0;
}

EXPORTED int cuCtxPushCurrent_v2(struct context *context);
EXPORTED int
cuCtxPushCurrent_v2(struct context *context)
{
    ENTER(true);
    if (context == NULL || context->retained == 0 || depth == DEPTH_MAX)
        return STANDIN_NO_CONTEXT;
    stack[depth++] = context;
    standin_count_pushed(1);
    return 0;
}

EXPORTED int cuCtxPopCurrent_v2(struct context **context);
EXPORTED int
cuCtxPopCurrent_v2(struct context **context)
{
    ENTER(true);
    if (depth == 0)
        return STANDIN_NO_CONTEXT;
    *context = stack[--depth];
    standin_count_pushed(-1);
    return 0;
}

EXPORTED int cuCtxSynchronize(void);
EXPORTED int
cuCtxSynchronize(void)
{
    ENTER_CONTEXT;
    return 0;
}

EXPORTED int cuGetErrorName(int error, const char **name);
EXPORTED int
cuGetErrorName(int error, const char **name)
{
    static const struct {
        int code;
        const char *name;
    } names[] = {
        { STANDIN_INVALID, "CUDA_ERROR_INVALID_VALUE" },       { STANDIN_NO_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY" },
        { STANDIN_NOT_STARTED, "CUDA_ERROR_NOT_INITIALIZED" }, { STANDIN_NO_DEVICE, "CUDA_ERROR_NO_DEVICE" },
        { STANDIN_NO_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT" },  { 999, "CUDA_ERROR_UNKNOWN" },
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        *name = names[i].name;
        if (names[i].code == error)
            return 0;
    }
    *name = NULL;
    return STANDIN_INVALID;
}

EXPORTED int cuGetErrorString(int error, const char **text);
EXPORTED int
cuGetErrorString(int error, const char **text)
{
    (void)error;
    *text = "as the stand-in was told";
    return 0;
}

EXPORTED int cuMemAlloc_v2(unsigned long long *at, size_t size);
EXPORTED int
cuMemAlloc_v2(unsigned long long *at, size_t size)
{
    ENTER_CONTEXT;
    uint64_t got = 0;
    const int code = standin_allocate(standin_identity(context->device), size, &got);
    *at = got;
    return code;
}

EXPORTED int cuMemGetInfo_v2(size_t *left, size_t *all);
EXPORTED int
cuMemGetInfo_v2(size_t *left, size_t *all)
{
    ENTER_CONTEXT;
    *all = standin_device_memory();
    *left = *all - standin_used(standin_identity(context->device));
    return 0;
}

EXPORTED int cuMemFree_v2(unsigned long long at);
EXPORTED int
cuMemFree_v2(unsigned long long at)
{
    ENTER_CONTEXT;
    return standin_free(at);
}

EXPORTED int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t size);
EXPORTED int
cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t size)
{
    ENTER_CONTEXT;
    return standin_write(to, from, size);
}

EXPORTED int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t size);
EXPORTED int
cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t size)
{
    ENTER_CONTEXT;
    return standin_read(to, from, size);
}

EXPORTED int cuMemcpyDtoD_v2(unsigned long long to, unsigned long long from, size_t size);
EXPORTED int
cuMemcpyDtoD_v2(unsigned long long to, unsigned long long from, size_t size)
{
    ENTER_CONTEXT;
    return standin_copy(to, from, size);
}

EXPORTED int cuMemsetD8_v2(unsigned long long at, unsigned char byte, size_t count);
EXPORTED int
cuMemsetD8_v2(unsigned long long at, unsigned char byte, size_t count)
{
    ENTER_CONTEXT;
    return standin_set(at, byte, count);
}

EXPORTED int cuIpcGetMemHandle(struct handle *handle, unsigned long long at);
EXPORTED int
cuIpcGetMemHandle(struct handle *handle, unsigned long long at)
{
    ENTER_CONTEXT;
    return standin_export(at, handle->bytes);
}

/* By value, as the driver has it. */
EXPORTED int cuIpcOpenMemHandle_v2(unsigned long long *at, struct handle handle, unsigned flags);
EXPORTED int
cuIpcOpenMemHandle_v2(unsigned long long *at, struct handle handle, unsigned flags)
{
    ENTER_CONTEXT;
    uint64_t got = 0;
    const int code = flags != LAZY_ENABLE_PEER ? STANDIN_INVALID : standin_import(handle.bytes, &got);
    *at = got;
    return code;
}

EXPORTED int cuIpcCloseMemHandle(unsigned long long at);
EXPORTED int
cuIpcCloseMemHandle(unsigned long long at)
{
    ENTER_CONTEXT;
    return standin_unimport(at);
}

EXPORTED int cuMemGetAddressRange_v2(unsigned long long *base, size_t *size, unsigned long long at);
EXPORTED int
cuMemGetAddressRange_v2(unsigned long long *base, size_t *size, unsigned long long at)
{
    ENTER_CONTEXT;
    uint64_t got = 0;
    const int code = standin_range(at, &got, size);
    *base = got;
    return code;
}

EXPORTED int cuMemHostRegister_v2(void *base, size_t size, unsigned flags);
EXPORTED int
cuMemHostRegister_v2(void *base, size_t size, unsigned flags)
{
    ENTER_CONTEXT;
    return (flags & ~(unsigned)FLAGS_KNOWN) != 0 ? STANDIN_INVALID : standin_register(base, size);
}

EXPORTED int cuMemHostUnregister(void *base);
EXPORTED int
cuMemHostUnregister(void *base)
{
    ENTER_CONTEXT;
    return standin_unregister(base);
}

EXPORTED int cuMemHostGetDevicePointer_v2(unsigned long long *at, void *base, unsigned flags);
EXPORTED int
cuMemHostGetDevicePointer_v2(unsigned long long *at, void *base, unsigned flags)
{
    ENTER_CONTEXT;
    uint64_t got = 0;
    const int code = flags != 0 ? STANDIN_INVALID : standin_registered(base, &got);
    *at = got;
    return code;
}
