/*
 * gpu_cuda.c - CUDA's driver: its functions by the names that its library exports, declared by hand.
 *
 * cuda.h would add the suffixes (_v2) by macros; without them the library's older functions of the same name would be called,
 * with 32-bit addresses and sizes.  tests/gpu compares these types with cuda.h where a toolkit is installed.
 */
#include "backend/gpu_cuda.h"

#include <stdio.h>

#include "backend/gpu_driver.h"

enum {
    CUDA_OUT_OF_MEMORY = 2,
    CUDA_NOT_INITIALIZED = 3,
    CUDA_DEINITIALIZED = 4,
    CUDA_HOST_MEMORY_ALREADY_REGISTERED = 712,
    CUDA_HOST_MEMORY_NOT_REGISTERED = 713,
    CUDA_NOT_PERMITTED = 800,
    CUDA_NOT_SUPPORTED = 801,
    IPC_LAZY_ENABLE_PEER = 1, /* the only value that it takes */
    REGISTER_PORTABLE = 1,
    REGISTER_DEVICEMAP = 2,
    REGISTER_READ_ONLY = 8
};

struct cuda_functions cuda_driver;

/* Each is looked for in the library: name, and whether anything can be done without it. */
static const struct gpu_symbol symbols[] = {
#define SYMBOL(name, needed) { #name, (void **)(void *)&cuda_driver.name, needed },
    CUDA_SYMBOLS(SYMBOL)
#undef SYMBOL
};

static const char *const libraries[] = { "libcuda.so.1", NULL };

/* The first function of a list that is not there. */
#define LACKS(name)               \
    if (cuda_driver.name == NULL) \
        return #name;

static const char *
lacks_memory(void)
{
    LACKS(cuMemAlloc_v2)
    LACKS(cuMemFree_v2)
    LACKS(cuIpcGetMemHandle)
    LACKS(cuIpcOpenMemHandle_v2)
    LACKS(cuIpcCloseMemHandle)
    LACKS(cuMemGetAddressRange_v2)
    LACKS(cuMemcpyHtoD_v2)
    LACKS(cuMemcpyDtoH_v2)
    LACKS(cuMemcpyDtoD_v2)
    LACKS(cuMemsetD8_v2)
    LACKS(cuCtxSynchronize)
    return NULL;
}

static const char *
lacks_pinning(void)
{
    LACKS(cuMemHostRegister_v2)
    LACKS(cuMemHostUnregister)
    LACKS(cuMemHostGetDevicePointer_v2)
    return NULL;
}

/* Call it, and answer. */
#define CALL(name, ...) ((struct gpu_answer){ #name, cuda_driver.name(__VA_ARGS__) })

static struct gpu_answer
synchronize(void)
{
    return (struct gpu_answer){ "cuCtxSynchronize", cuda_driver.cuCtxSynchronize() };
}

static struct gpu_answer
start(void)
{
    return CALL(cuInit, 0);
}

static struct gpu_answer
count_devices(int *ret_count)
{
    return CALL(cuDeviceGetCount, ret_count);
}

static struct gpu_answer
device_uuid(int ordinal, struct gpu_uuid *ret_uuid)
{
    cuda_uuid uuid;
    cuda_device device;
    struct gpu_answer answer = CALL(cuDeviceGet, &device, ordinal);
    if (answer.code != 0)
        return answer;
    /* The older one does not know that a device may be a part of one (MIG). */
    answer = cuda_driver.cuDeviceGetUuid_v2 != NULL ? CALL(cuDeviceGetUuid_v2, &uuid, device)
                                                    : CALL(cuDeviceGetUuid, &uuid, device);
    if (answer.code == 0)
        *ret_uuid = (struct gpu_uuid){ { 0 } };
    for (size_t i = 0; answer.code == 0 && i < sizeof uuid.bytes; i++)
        ret_uuid->bytes[i] = (uint8_t)uuid.bytes[i];
    return answer;
}

static void
describe(int ordinal, char *name, size_t size, uint64_t *ret_memory)
{
    size_t bytes = 0;
    cuda_device device;
    if (cuda_driver.cuDeviceGet(&device, ordinal) != 0)
        return;
    if (cuda_driver.cuDeviceGetName == NULL || cuda_driver.cuDeviceGetName(name, (int)size, device) != 0)
        name[0] = '\0';
    if (cuda_driver.cuDeviceTotalMem_v2 != NULL && cuda_driver.cuDeviceTotalMem_v2(&bytes, device) == 0)
        *ret_memory = bytes;
}

static bool
current(int *ret_ordinal)
{
    cuda_context context = NULL;
    cuda_device device;
    if (cuda_driver.cuCtxGetDevice == NULL || cuda_driver.cuCtxGetCurrent(&context) != 0 || context == NULL ||
        cuda_driver.cuCtxGetDevice(&device) != 0)
        return false;
    *ret_ordinal = device; /* a CUdevice is its ordinal */
    return true;
}

static struct gpu_answer
retain(int ordinal, void **ret_context)
{
    cuda_device device;
    const struct gpu_answer answer = CALL(cuDeviceGet, &device, ordinal);
    return answer.code != 0 ? answer : CALL(cuDevicePrimaryCtxRetain, ret_context, device);
}

static struct gpu_answer
release(int ordinal, void *context)
{
    cuda_device device;
    (void)context;
    const struct gpu_answer answer = CALL(cuDeviceGet, &device, ordinal);
    return answer.code != 0 ? answer : CALL(cuDevicePrimaryCtxRelease_v2, device);
}

static struct gpu_answer
enter(const struct gpu_device *device, int *ret_kept)
{
    *ret_kept = 0;
    return CALL(cuCtxPushCurrent_v2, device->context);
}

static struct gpu_answer
leave(const struct gpu_device *device, int kept)
{
    cuda_context popped = NULL;
    (void)device;
    (void)kept;
    return CALL(cuCtxPopCurrent_v2, &popped);
}

static struct gpu_answer
allocate(uint64_t size, uint64_t *ret_at)
{
    cuda_address at = 0;
    const struct gpu_answer answer = CALL(cuMemAlloc_v2, &at, (size_t)size);
    *ret_at = at;
    return answer;
}

static struct gpu_answer
free_memory(uint64_t at)
{
    return CALL(cuMemFree_v2, at);
}

static struct gpu_answer
get_handle(uint64_t at, struct gpu_handle *ret_handle)
{
    cuda_ipc_handle handle = { { 0 } };
    const struct gpu_answer answer = CALL(cuIpcGetMemHandle, &handle, at);
    for (size_t i = 0; i < sizeof handle.reserved; i++)
        ret_handle->bytes[i] = (unsigned char)handle.reserved[i];
    return answer;
}

static struct gpu_answer
open_handle(const struct gpu_handle *handle, uint64_t *ret_at)
{
    cuda_ipc_handle copy;
    cuda_address at = 0;
    for (size_t i = 0; i < sizeof copy.reserved; i++)
        copy.reserved[i] = (char)handle->bytes[i];
    const struct gpu_answer answer = CALL(cuIpcOpenMemHandle_v2, &at, copy, IPC_LAZY_ENABLE_PEER);
    *ret_at = at;
    return answer;
}

static struct gpu_answer
close_handle(uint64_t at)
{
    return CALL(cuIpcCloseMemHandle, at);
}

static struct gpu_answer
range(uint64_t at, uint64_t *ret_base, uint64_t *ret_size)
{
    cuda_address base = 0;
    size_t size = 0;
    const struct gpu_answer answer = CALL(cuMemGetAddressRange_v2, &base, &size, at);
    *ret_base = base;
    *ret_size = size;
    return answer;
}

/*
 * Copies from pageable memory may return before the last bytes are on the device, and fills before they have begun: other
 * processes, who know nothing of this context's order, are to find them done.
 */
static struct gpu_answer
and_wait(struct gpu_answer answer)
{
    return answer.code != 0 ? answer : synchronize();
}

static struct gpu_answer
copy_to(uint64_t at, const void *from, uint64_t size)
{
    return and_wait(CALL(cuMemcpyHtoD_v2, at, from, (size_t)size));
}

/* Kernels of other streams of this process may be at work on these bytes. */
static struct gpu_answer
copy_from(void *to, uint64_t at, uint64_t size)
{
    const struct gpu_answer answer = synchronize();
    return answer.code != 0 ? answer : CALL(cuMemcpyDtoH_v2, to, at, (size_t)size);
}

static struct gpu_answer
copy_within(uint64_t to, uint64_t from, uint64_t size)
{
    return and_wait(CALL(cuMemcpyDtoD_v2, to, from, (size_t)size));
}

static struct gpu_answer
fill(uint64_t at, uint8_t byte, uint64_t size)
{
    return and_wait(CALL(cuMemsetD8_v2, at, byte, (size_t)size));
}

static struct gpu_answer
pin(void *base, uint64_t size, bool read_only)
{
    const unsigned flags = REGISTER_PORTABLE | REGISTER_DEVICEMAP | (read_only ? (unsigned)REGISTER_READ_ONLY : 0);
    const struct gpu_answer answer = CALL(cuMemHostRegister_v2, base, (size_t)size, flags);
    /* The driver would go on using the pages that were there. */
    if (answer.code != CUDA_HOST_MEMORY_ALREADY_REGISTERED || cuda_driver.cuMemHostUnregister(base) != 0)
        return answer;
    return CALL(cuMemHostRegister_v2, base, (size_t)size, flags);
}

static struct gpu_answer
unpin(void *base)
{
    return CALL(cuMemHostUnregister, base);
}

static struct gpu_answer
pinned_address(void *base, uint64_t *ret_at)
{
    cuda_address at = 0;
    const struct gpu_answer answer = CALL(cuMemHostGetDevicePointer_v2, &at, base, 0);
    *ret_at = at;
    return answer;
}

static void
explain(int code, char *ret_text, size_t size)
{
    const char *name = NULL;
    const char *words = NULL;
    if (cuda_driver.cuGetErrorName == NULL || cuda_driver.cuGetErrorName(code, &name) != 0)
        name = NULL;
    if (cuda_driver.cuGetErrorString == NULL || cuda_driver.cuGetErrorString(code, &words) != 0)
        words = NULL;
    (void)snprintf(ret_text, size, "%s, %s", name == NULL ? "unknown" : name, words == NULL ? "no text" : words);
}

const struct gpu_api gpu_cuda = {
    .vendor = VENDOR_CUDA,
    .title = "CUDA",
    .prefix = "cuda",
    .variable = "HSHM_CUDA_LIB",
    .libraries = libraries,
    .symbols = symbols,
    .symbol_count = COUNTOF(symbols),
    .out_of_memory = CUDA_OUT_OF_MEMORY,
    .not_supported = CUDA_NOT_SUPPORTED,
    .not_permitted = CUDA_NOT_PERMITTED,
    .not_started = CUDA_NOT_INITIALIZED,
    .deinitialized = CUDA_DEINITIALIZED,
    .not_registered = CUDA_HOST_MEMORY_NOT_REGISTERED,
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
