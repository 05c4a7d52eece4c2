/*
 * gpu_hip.c - HIP's runtime (ROCm); see gpu_cuda.c.
 *
 * There are no contexts to push: which device is current is a thread's own, and is put back after each call.  An error stays until
 * somebody asks for the last one, so who failed asks.
 */
#include "backend/gpu_hip.h"

#include <stdio.h>
#include <string.h>

#include "backend/gpu_driver.h"

enum {
    HIP_INVALID_VALUE = 1,
    HIP_OUT_OF_MEMORY = 2,
    HIP_NOT_INITIALIZED = 3,
    HIP_DEINITIALIZED = 4,
    HIP_HOST_MEMORY_ALREADY_REGISTERED = 712,
    HIP_HOST_MEMORY_NOT_REGISTERED = 713,
    HIP_NOT_SUPPORTED = 801,
    HIP_TO_DEVICE = 1,
    HIP_TO_HOST = 2,
    HIP_WITHIN = 3,
    REGISTER_PORTABLE = 1,
    REGISTER_MAPPED = 2,
    LAZY_PEER_SINCE =
        60000000, /* hipIpcMemLazyEnablePeerAccess was 0 until HIP 5.7, is 1 since 6.0, and nothing else is taken */
    NO_CODE = -1
};

struct hip_functions hip_runtime;

static const struct gpu_symbol symbols[] = {
#define SYMBOL(name, needed) { #name, (void **)(void *)&hip_runtime.name, needed },
    HIP_SYMBOLS(SYMBOL)
#undef SYMBOL
};

static const char *const libraries[] = { "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so",
                                         NULL };

#define LACKS(name)               \
    if (hip_runtime.name == NULL) \
        return #name;

static const char *
lacks_memory(void)
{
    LACKS(hipMalloc)
    LACKS(hipFree)
    LACKS(hipIpcGetMemHandle)
    LACKS(hipIpcOpenMemHandle)
    LACKS(hipIpcCloseMemHandle)
    LACKS(hipMemGetAddressRange)
    LACKS(hipMemcpy)
    LACKS(hipMemset)
    LACKS(hipDeviceSynchronize)
    return NULL;
}

static const char *
lacks_pinning(void)
{
    LACKS(hipHostRegister)
    LACKS(hipHostUnregister)
    LACKS(hipHostGetDevicePointer)
    return NULL;
}

/* What failed is forgotten by the runtime, so that a program's own next call is not blamed for it. */
static struct gpu_answer
answered(const char *call, hip_result code)
{
    if (code != 0)
        (void)hip_runtime.hipGetLastError();
    return (struct gpu_answer){ call, code };
}

#define CALL(name, ...) answered(#name, hip_runtime.name(__VA_ARGS__))

static struct gpu_answer
synchronize(void)
{
    return answered("hipDeviceSynchronize", hip_runtime.hipDeviceSynchronize());
}

static void *
address(uint64_t at)
{
    return (void *)(uintptr_t)at;
}

static struct gpu_answer
start(void)
{
    return CALL(hipInit, 0);
}

static struct gpu_answer
count_devices(int *ret_count)
{
    return CALL(hipGetDeviceCount, ret_count);
}

/* Devices without a serial number answer "XX", or nothing, all of them alike. */
static bool
is_no_uuid(const hip_uuid *uuid)
{
    static const hip_uuid zero;
    return memcmp(uuid->bytes, "XX", 2) == 0 || memcmp(uuid, &zero, sizeof zero) == 0;
}

/* Where there is no uuid: which slot of the machine the device sits in. */
static struct gpu_answer
device_uuid(int ordinal, struct gpu_uuid *ret_uuid)
{
    hip_uuid uuid = { { 0 } };
    int device = ordinal;
    struct gpu_answer answer = { "hipDeviceGetUuid", 0 };
    if (hip_runtime.hipDeviceGetUuid != NULL && hip_runtime.hipDeviceGet != NULL) {
        answer = CALL(hipDeviceGet, &device, ordinal);
        if (answer.code == 0)
            answer = CALL(hipDeviceGetUuid, &uuid, device);
    }
    if (answer.code == 0 && is_no_uuid(&uuid)) {
        uuid = (hip_uuid){ { 0 } };
        answer = hip_runtime.hipDeviceGetPCIBusId == NULL
                     ? (struct gpu_answer){ "hipDeviceGetUuid", HIP_NOT_SUPPORTED }
                     : CALL(hipDeviceGetPCIBusId, uuid.bytes, (int)sizeof uuid.bytes, ordinal);
    }
    if (answer.code == 0)
        memcpy(ret_uuid->bytes, uuid.bytes, sizeof ret_uuid->bytes);
    return answer;
}

static void
describe(int ordinal, char *name, size_t size, uint64_t *ret_memory)
{
    size_t bytes = 0;
    int device = ordinal;
    if (hip_runtime.hipDeviceGet != NULL && CALL(hipDeviceGet, &device, ordinal).code != 0)
        return;
    if (hip_runtime.hipDeviceGetName == NULL || CALL(hipDeviceGetName, name, (int)size, device).code != 0)
        name[0] = '\0';
    if (hip_runtime.hipDeviceTotalMem != NULL && CALL(hipDeviceTotalMem, &bytes, device).code == 0)
        *ret_memory = bytes;
}

static bool
current(int *ret_ordinal)
{
    return CALL(hipGetDevice, ret_ordinal).code == 0;
}

static struct gpu_answer
retain(int ordinal, void **ret_context)
{
    (void)ordinal;
    *ret_context = NULL;
    return (struct gpu_answer){ "hipSetDevice", 0 };
}

static struct gpu_answer
release(int ordinal, void *context)
{
    (void)ordinal;
    (void)context;
    return (struct gpu_answer){ "hipSetDevice", 0 };
}

static struct gpu_answer
enter(const struct gpu_device *device, int *ret_kept)
{
    const struct gpu_answer answer = CALL(hipGetDevice, ret_kept);
    return answer.code != 0 || *ret_kept == device->ordinal ? answer : CALL(hipSetDevice, device->ordinal);
}

static struct gpu_answer
leave(const struct gpu_device *device, int kept)
{
    return kept == device->ordinal ? (struct gpu_answer){ "hipSetDevice", 0 } : CALL(hipSetDevice, kept);
}

static struct gpu_answer
allocate(uint64_t size, uint64_t *ret_at)
{
    void *at = NULL;
    const struct gpu_answer answer = CALL(hipMalloc, &at, (size_t)size);
    *ret_at = (uintptr_t)at;
    return answer;
}

static struct gpu_answer
free_memory(uint64_t at)
{
    return CALL(hipFree, address(at));
}

static struct gpu_answer
get_handle(uint64_t at, struct gpu_handle *ret_handle)
{
    hip_ipc_handle handle = { { 0 } };
    const struct gpu_answer answer = CALL(hipIpcGetMemHandle, &handle, address(at));
    memcpy(ret_handle->bytes, handle.reserved, sizeof ret_handle->bytes);
    return answer;
}

static struct gpu_answer
open_handle(const struct gpu_handle *handle, uint64_t *ret_at)
{
    hip_ipc_handle copy;
    void *at = NULL;
    int version = LAZY_PEER_SINCE;
    memcpy(copy.reserved, handle->bytes, sizeof copy.reserved);
    if (hip_runtime.hipRuntimeGetVersion != NULL && CALL(hipRuntimeGetVersion, &version).code != 0)
        version = LAZY_PEER_SINCE;
    const unsigned flag = version >= LAZY_PEER_SINCE;
    struct gpu_answer answer = CALL(hipIpcOpenMemHandle, &at, copy, flag);
    /* A version that counts otherwise: the other one. */
    if (answer.code == HIP_INVALID_VALUE)
        answer = CALL(hipIpcOpenMemHandle, &at, copy, 1 - flag);
    *ret_at = (uintptr_t)at;
    return answer;
}

static struct gpu_answer
close_handle(uint64_t at)
{
    return CALL(hipIpcCloseMemHandle, address(at));
}

static struct gpu_answer
range(uint64_t at, uint64_t *ret_base, uint64_t *ret_size)
{
    void *base = NULL;
    size_t size = 0;
    const struct gpu_answer answer = CALL(hipMemGetAddressRange, &base, &size, address(at));
    *ret_base = (uintptr_t)base;
    *ret_size = size;
    return answer;
}

static struct gpu_answer
and_wait(struct gpu_answer answer)
{
    return answer.code != 0 ? answer : synchronize();
}

static struct gpu_answer
copy_to(uint64_t at, const void *from, uint64_t size)
{
    return and_wait(CALL(hipMemcpy, address(at), from, (size_t)size, HIP_TO_DEVICE));
}

static struct gpu_answer
copy_from(void *to, uint64_t at, uint64_t size)
{
    const struct gpu_answer answer = synchronize();
    return answer.code != 0 ? answer : CALL(hipMemcpy, to, address(at), (size_t)size, HIP_TO_HOST);
}

static struct gpu_answer
copy_within(uint64_t to, uint64_t from, uint64_t size)
{
    return and_wait(CALL(hipMemcpy, address(to), address(from), (size_t)size, HIP_WITHIN));
}

static struct gpu_answer
fill(uint64_t at, uint8_t byte, uint64_t size)
{
    return and_wait(CALL(hipMemset, address(at), byte, (size_t)size));
}

/* There is no flag for memory that may only be read: CUDA's, 8, means coarse-grained here. */
static struct gpu_answer
pin(void *base, uint64_t size, bool read_only)
{
    const unsigned flags = REGISTER_PORTABLE | REGISTER_MAPPED;
    (void)read_only;
    const struct gpu_answer answer = CALL(hipHostRegister, base, (size_t)size, flags);
    if (answer.code != HIP_HOST_MEMORY_ALREADY_REGISTERED || CALL(hipHostUnregister, base).code != 0)
        return answer;
    return CALL(hipHostRegister, base, (size_t)size, flags);
}

static struct gpu_answer
unpin(void *base)
{
    return CALL(hipHostUnregister, base);
}

static struct gpu_answer
pinned_address(void *base, uint64_t *ret_at)
{
    void *at = NULL;
    const struct gpu_answer answer = CALL(hipHostGetDevicePointer, &at, base, 0);
    *ret_at = (uintptr_t)at;
    return answer;
}

static void
explain(int code, char *ret_text, size_t size)
{
    const char *name = hip_runtime.hipGetErrorName == NULL ? NULL : hip_runtime.hipGetErrorName(code);
    const char *words = hip_runtime.hipGetErrorString == NULL ? NULL : hip_runtime.hipGetErrorString(code);
    (void)snprintf(ret_text, size, "%s, %s", name == NULL ? "unknown" : name, words == NULL ? "no text" : words);
}

const struct gpu_api gpu_hip = {
    .vendor = VENDOR_HIP,
    .title = "HIP",
    .prefix = "hip",
    .variable = "HSHM_HIP_LIB",
    .libraries = libraries,
    .symbols = symbols,
    .symbol_count = COUNTOF(symbols),
    .out_of_memory = HIP_OUT_OF_MEMORY,
    .not_supported = HIP_NOT_SUPPORTED,
    .not_permitted = NO_CODE,
    .not_started = HIP_NOT_INITIALIZED,
    .deinitialized = HIP_DEINITIALIZED,
    .not_registered = HIP_HOST_MEMORY_NOT_REGISTERED,
    .lacks_memory = lacks_memory,
    .lacks_pinning = lacks_pinning,
    .start = start,
    .count = count_devices,
    .uuid = device_uuid,
    .describe = describe,
    .current = current,
    .retain = retain,
    .release = release,
    .enter = enter,
    .leave = leave,
    .allocate = allocate,
    .free = free_memory,
    .get_handle = get_handle,
    .open_handle = open_handle,
    .close_handle = close_handle,
    .range = range,
    .copy_to = copy_to,
    .copy_from = copy_from,
    .copy_within = copy_within,
    .fill = fill,
    .pin = pin,
    .unpin = unpin,
    .pinned_address = pinned_address,
    .explain = explain,
};
