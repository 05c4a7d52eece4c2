/*
 * gpu_hip.h - the functions of HIP's runtime that are used; as gpu_cuda.h.
 *
 * Not used, because they changed between ROCm 5 and 6: hipGetDeviceProperties, hipPointerGetAttributes.
 */
#ifndef HSHM_BACKEND_GPU_HIP_H
#define HSHM_BACKEND_GPU_HIP_H

#include <stddef.h>

#if !defined(HIP_TYPES_ARE_AMDS) /* tests/gpu/hip_types.c has hip_runtime_api.h's */
typedef int hip_result;
typedef int hip_kind;
typedef struct hip_uuid {
    char bytes[16];
} hip_uuid;
/* Passed by value. */
typedef struct hip_ipc_handle {
    char reserved[64];
} hip_ipc_handle;
#endif

/* X(name, needed) */
#define HIP_SYMBOLS(X)              \
    X(hipInit, true)                \
    X(hipGetDeviceCount, true)      \
    X(hipGetDevice, true)           \
    X(hipSetDevice, true)           \
    X(hipGetLastError, true)        \
    X(hipRuntimeGetVersion, false)  \
    X(hipDeviceGet, false)          \
    X(hipDeviceGetUuid, false)      \
    X(hipDeviceGetPCIBusId, false)  \
    X(hipDeviceGetName, false)      \
    X(hipDeviceTotalMem, false)     \
    X(hipDeviceSynchronize, false)  \
    X(hipGetErrorName, false)       \
    X(hipGetErrorString, false)     \
    X(hipMalloc, false)             \
    X(hipFree, false)               \
    X(hipMemcpy, false)             \
    X(hipMemset, false)             \
    X(hipIpcGetMemHandle, false)    \
    X(hipIpcOpenMemHandle, false)   \
    X(hipIpcCloseMemHandle, false)  \
    X(hipMemGetAddressRange, false) \
    X(hipHostRegister, false)       \
    X(hipHostUnregister, false)     \
    X(hipHostGetDevicePointer, false)

struct hip_functions {
    hip_result (*hipInit)(unsigned int flags);
    hip_result (*hipGetDeviceCount)(int *count);
    hip_result (*hipGetDevice)(int *ordinal);
    hip_result (*hipSetDevice)(int ordinal);
    hip_result (*hipGetLastError)(void);
    hip_result (*hipRuntimeGetVersion)(int *version);
    hip_result (*hipDeviceGet)(int *device, int ordinal);
    hip_result (*hipDeviceGetUuid)(hip_uuid *uuid, int device);
    hip_result (*hipDeviceGetPCIBusId)(char *id, int size, int ordinal);
    hip_result (*hipDeviceGetName)(char *name, int size, int device);
    hip_result (*hipDeviceTotalMem)(size_t *bytes, int device);
    hip_result (*hipDeviceSynchronize)(void);
    const char *(*hipGetErrorName)(hip_result error);
    const char *(*hipGetErrorString)(hip_result error);
    hip_result (*hipMalloc)(void **at, size_t size);
    hip_result (*hipFree)(void *at);
    hip_result (*hipMemcpy)(void *to, const void *from, size_t size, hip_kind kind);
    hip_result (*hipMemset)(void *at, int byte, size_t size);
    hip_result (*hipIpcGetMemHandle)(hip_ipc_handle *handle, void *at);
    hip_result (*hipIpcOpenMemHandle)(void **at, hip_ipc_handle handle, unsigned int flags);
    hip_result (*hipIpcCloseMemHandle)(void *at);
    hip_result (*hipMemGetAddressRange)(void **base, size_t *size, void *at);
    hip_result (*hipHostRegister)(void *base, size_t size, unsigned int flags);
    hip_result (*hipHostUnregister)(void *base);
    hip_result (*hipHostGetDevicePointer)(void **at, void *base, unsigned int flags);
};

extern struct hip_functions hip_runtime;

#endif
