/*
 * hip_types.c - are the functions in gpu_hip.h, each parameter of them, those of AMD's hip_runtime_api.h?  Compiled only; see
 * real-headers.
 */
#include <stddef.h>

#include <hip/hip_runtime_api.h>

typedef hipError_t hip_result;
typedef hipMemcpyKind hip_kind;
typedef hipUUID hip_uuid;
typedef hipIpcMemHandle_t hip_ipc_handle;
#define HIP_TYPES_ARE_AMDS
#include "backend/gpu_hip.h"

#define SAME(name, needed) \
    _Static_assert(__builtin_types_compatible_p(__typeof__(hip_runtime.name), __typeof__(&name)), #name);
HIP_SYMBOLS(SAME)

/* What stands for them in the library. */
_Static_assert(sizeof(hipError_t) == sizeof(int) && sizeof(hipMemcpyKind) == sizeof(int), "numbers");
_Static_assert(sizeof(hipUUID) == 16 && _Alignof(hipUUID) == 1, "uuids");
_Static_assert(sizeof(hipIpcMemHandle_t) == 64 && _Alignof(hipIpcMemHandle_t) == 1, "handles");

_Static_assert(hipMemcpyHostToDevice == 1 && hipMemcpyDeviceToHost == 2 && hipMemcpyDeviceToDevice == 3, "kinds");
_Static_assert(hipHostRegisterPortable == 1 && hipHostRegisterMapped == 2, "flags");
_Static_assert(hipErrorOutOfMemory == 2, "codes");
_Static_assert(hipErrorNotInitialized == 3 && hipErrorDeinitialized == 4, "codes");
_Static_assert(hipErrorHostMemoryNotRegistered == 713, "codes");
_Static_assert(hipErrorHostMemoryAlreadyRegistered == 712 && hipErrorNotSupported == 801, "codes");
