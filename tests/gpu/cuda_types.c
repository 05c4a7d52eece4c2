/*
 * cuda_types.c - are the functions in gpu_cuda.h, each parameter of them, those of NVIDIA's cuda.h?  Compiled only; see real-headers.
 */
#include <cuda.h>
/* The one name that is used as the library has it, and that cuda.h makes another. */
#undef cuDeviceGetUuid

typedef CUresult cuda_result;
typedef CUdevice cuda_device;
typedef CUcontext cuda_context;
typedef CUdeviceptr cuda_address;
typedef CUuuid cuda_uuid;
typedef CUipcMemHandle cuda_ipc_handle;
#define CUDA_TYPES_ARE_NVIDIAS
#include "backend/gpu_cuda.h"

#define SAME(name, needed) \
    _Static_assert(__builtin_types_compatible_p(__typeof__(cuda_driver.name), __typeof__(&name)), #name);
/* Newer headers declare its successor only, which has the same parameters. */
CUresult CUDAAPI cuDeviceGetUuid(CUuuid *uuid, CUdevice device);
_Static_assert(__builtin_types_compatible_p(__typeof__(&cuDeviceGetUuid), __typeof__(&cuDeviceGetUuid_v2)),
               "as its successor");
CUDA_SYMBOLS(SAME)

/* What stands for them in the library. */
_Static_assert(sizeof(CUresult) == sizeof(int) && sizeof(CUdevice) == sizeof(int), "numbers");
_Static_assert(sizeof(CUdeviceptr) == 8 && (CUdeviceptr)-1 > 0, "addresses");
_Static_assert(sizeof(CUcontext) == sizeof(void *), "contexts");
_Static_assert(sizeof(CUuuid) == 16 && _Alignof(CUuuid) == 1, "uuids");
_Static_assert(sizeof(CUipcMemHandle) == 64 && _Alignof(CUipcMemHandle) == 1, "handles");

_Static_assert(CUDA_ERROR_OUT_OF_MEMORY == 2, "codes");
_Static_assert(CUDA_ERROR_NOT_INITIALIZED == 3 && CUDA_ERROR_DEINITIALIZED == 4, "codes");
_Static_assert(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED == 712, "codes");
_Static_assert(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED == 713, "codes");
_Static_assert(CUDA_ERROR_NOT_PERMITTED == 800, "codes");
_Static_assert(CUDA_ERROR_NOT_SUPPORTED == 801, "codes");
_Static_assert(CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS == 1, "flags");
_Static_assert(CU_MEMHOSTREGISTER_PORTABLE == 1, "flags");
_Static_assert(CU_MEMHOSTREGISTER_DEVICEMAP == 2, "flags");
_Static_assert(CU_MEMHOSTREGISTER_READ_ONLY == 8, "flags");
