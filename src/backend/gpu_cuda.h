/*
 * gpu_cuda.h - the functions of CUDA's driver that are used, as its library exports them.
 *
 * A struct of pointers, one for each, named as the function.  Their types are written here once; tests/gpu/cuda_types.c compares each
 * with NVIDIA's cuda.h.
 */
#ifndef HSHM_BACKEND_GPU_CUDA_H
#define HSHM_BACKEND_GPU_CUDA_H

#include <stddef.h>

#if !defined(CUDA_TYPES_ARE_NVIDIAS) /* tests/gpu/cuda_types.c has cuda.h's */
typedef int cuda_result;
typedef int cuda_device;
typedef void *cuda_context;
typedef unsigned long long cuda_address;
typedef struct cuda_uuid {
    char bytes[16];
} cuda_uuid;
/* Passed by value. */
typedef struct cuda_ipc_handle {
    char reserved[64];
} cuda_ipc_handle;
#endif

/* X(name, needed): without those that are needed no device can be used. */
#define CUDA_SYMBOLS(X)                   \
    X(cuInit, true)                       \
    X(cuDeviceGetCount, true)             \
    X(cuDeviceGet, true)                  \
    X(cuDeviceGetUuid, true)              \
    X(cuDeviceGetUuid_v2, false)          \
    X(cuDeviceGetName, false)             \
    X(cuDeviceTotalMem_v2, false)         \
    X(cuDevicePrimaryCtxRetain, true)     \
    X(cuDevicePrimaryCtxRelease_v2, true) \
    X(cuCtxGetCurrent, true)              \
    X(cuCtxGetDevice, false)              \
    X(cuCtxPushCurrent_v2, true)          \
    X(cuCtxPopCurrent_v2, true)           \
    X(cuCtxSynchronize, false)            \
    X(cuGetErrorName, false)              \
    X(cuGetErrorString, false)            \
    X(cuMemAlloc_v2, false)               \
    X(cuMemFree_v2, false)                \
    X(cuMemcpyHtoD_v2, false)             \
    X(cuMemcpyDtoH_v2, false)             \
    X(cuMemcpyDtoD_v2, false)             \
    X(cuMemsetD8_v2, false)               \
    X(cuIpcGetMemHandle, false)           \
    X(cuIpcOpenMemHandle_v2, false)       \
    X(cuIpcCloseMemHandle, false)         \
    X(cuMemGetAddressRange_v2, false)     \
    X(cuMemHostRegister_v2, false)        \
    X(cuMemHostUnregister, false)         \
    X(cuMemHostGetDevicePointer_v2, false)

struct cuda_functions {
    cuda_result (*cuInit)(unsigned int flags);
    cuda_result (*cuDeviceGetCount)(int *count);
    cuda_result (*cuDeviceGet)(cuda_device *device, int ordinal);
    cuda_result (*cuDeviceGetUuid)(cuda_uuid *uuid, cuda_device device);
    cuda_result (*cuDeviceGetUuid_v2)(cuda_uuid *uuid, cuda_device device);
    cuda_result (*cuDeviceGetName)(char *name, int size, cuda_device device);
    cuda_result (*cuDeviceTotalMem_v2)(size_t *bytes, cuda_device device);
    cuda_result (*cuDevicePrimaryCtxRetain)(cuda_context *context, cuda_device device);
    cuda_result (*cuDevicePrimaryCtxRelease_v2)(cuda_device device);
    cuda_result (*cuCtxGetCurrent)(cuda_context *context);
    cuda_result (*cuCtxGetDevice)(cuda_device *device);
    cuda_result (*cuCtxPushCurrent_v2)(cuda_context context);
    cuda_result (*cuCtxPopCurrent_v2)(cuda_context *context);
    cuda_result (*cuCtxSynchronize)(void);
    cuda_result (*cuGetErrorName)(cuda_result error, const char **name);
    cuda_result (*cuGetErrorString)(cuda_result error, const char **text);
    cuda_result (*cuMemAlloc_v2)(cuda_address *at, size_t size);
    cuda_result (*cuMemFree_v2)(cuda_address at);
    cuda_result (*cuMemcpyHtoD_v2)(cuda_address to, const void *from, size_t size);
    cuda_result (*cuMemcpyDtoH_v2)(void *to, cuda_address from, size_t size);
    cuda_result (*cuMemcpyDtoD_v2)(cuda_address to, cuda_address from, size_t size);
    cuda_result (*cuMemsetD8_v2)(cuda_address at, unsigned char byte, size_t count);
    cuda_result (*cuIpcGetMemHandle)(cuda_ipc_handle *handle, cuda_address at);
    cuda_result (*cuIpcOpenMemHandle_v2)(cuda_address *at, cuda_ipc_handle handle, unsigned int flags);
    cuda_result (*cuIpcCloseMemHandle)(cuda_address at);
    cuda_result (*cuMemGetAddressRange_v2)(cuda_address *base, size_t *size, cuda_address at);
    cuda_result (*cuMemHostRegister_v2)(void *base, size_t size, unsigned int flags);
    cuda_result (*cuMemHostUnregister)(void *base);
    cuda_result (*cuMemHostGetDevicePointer_v2)(cuda_address *at, void *base, unsigned int flags);
};

/* Filled when the library was found (gpu_driver.c). */
extern struct cuda_functions cuda_driver;

#endif
