/*
 * gpu.h - heaps that a GPU works on: device memory, and host memory that kernels see.
 *
 * HSHM_BACKEND_GPU_SHM_MMAP   POSIX shared memory, registered with a GPU in each process that attaches.  Processors and
 *                             kernels see the same bytes: blocks are used as on the host, and hshm_device_ptr() gives the
 *                             address for a kernel.
 * HSHM_BACKEND_GPU_MALLOC     memory of a GPU, shared by processes on that GPU.  What the allocator keeps lies in host
 *                             memory apart from it, so any process takes and frees blocks without a word to the driver; the
 *                             blocks themselves are for kernels, and for the copies below.
 *
 * Addresses.  A block of a GPU_MALLOC heap has three of them:
 *   offset          hshm_shm_ptr, hshm_off: the same in every process; what travels.
 *   handle address  what hshm_malloc(), hshm_ptr.addr, hshm_to_addr() and visitors give, and hshm_free() and all other calls
 *                   of this library take.  It lies in a range of this process's addresses without access: unlike any
 *                   other pointer of the process, and a SIGSEGV for who touches it, never somebody else's bytes.
 *   device address  hshm_device_ptr(): for kernels and for the driver's own calls, in this process and on this device.
 * hshm_host_ptr() says whether the processor may touch an address: it gives it back, or NULL and HSHM_E_NOTSUP; and
 * hshm_resolve(), whose result is there to be used, answers HSHM_E_NOTSUP for blocks in device memory.  The custom header, slots in it
 * and names are host memory in every heap.
 *
 * Whose the memory is.  A GPU_MALLOC heap's memory belongs to the process that created it, its owner: other processes map it,
 * by the driver's IPC.  So
 *   - hshm_backend_destroy() by the owner takes the name away at once.  The memory stays while others are attached, and goes in the
 *     owner's next call to create, attach, destroy or detach any GPU backend after the last of them left, or when the owner ends.
 *   - hshm_backend_detach() by the owner, and attaching again, work as anywhere: the memory stays as long as the name does, and
 *     the owner lives.
 *   - when the owner dies, the bytes of all blocks are gone.  Who is attached may go on taking and freeing blocks (there is nothing in them
 *     any more); copies answer HSHM_E_DAMAGED, and so does attaching.  hshm_backend_remove() and HSHM_REPLACE_DEAD take
 *     what is left away.  (What a kernel that runs in that moment sees, the driver decides.)  Of an owner that was killed just now the
 *     device's memory may come back a moment later than its name: HSHM_E_NOSPC until then.
 *   - who may read the region's file (hshm_backend_options.mode) has the driver's handle in it, and so can write to the memory: an attacher
 *     with read_only set cannot by this library's calls, but by kernels that are given hshm_device_ptr().  Drivers map it in no other way.
 *
 * Fork.  Drivers cannot be used in a child that was forked after its parent had used them.  Such a child goes on taking and
 * freeing blocks; copies and hshm_device_ptr() answer HSHM_E_DEVICE there.  A child that calls exec and attaches has all of it.
 *
 * Drivers are looked for at run time, in the first call that needs one: libcuda.so.1 (CUDA) and libamdhip64.so (HIP); nothing of
 * them is needed to build hshm or to run it without these kinds.  The environment variables HSHM_CUDA_LIB and HSHM_HIP_LIB
 * name other files for them, for tests; a program with raised privileges ignores them.  CUDA devices are used by
 * their primary contexts (a program without one of its own should retain it once: else the first heap makes it, and the last ends it, each
 * time), and the calling thread's current context, or HIP device, is after each call what it was before.
 *
 * All calls here are safe from several threads; none is async-signal-safe.
 */
#ifndef HSHM_GPU_H
#define HSHM_GPU_H

#include <hshm/allocator.h>
#include <hshm/backend.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Whose driver. */
typedef enum hshm_gpu_vendor { HSHM_GPU_NONE = 0, HSHM_GPU_CUDA = 1, HSHM_GPU_HIP = 2 } hshm_gpu_vendor;

/** A GPU. */
typedef struct hshm_gpu_info {
    hshm_gpu_vendor vendor;
    uint32_t ordinal; /**< in this process: others may number devices otherwise                     */
    char uuid[48];    /**< the device in all processes: "GPU-" and 36 characters                   */
    char name[64];    /**< for people; may be empty                                                  */
    uint64_t memory;  /**< bytes it has; 0 = unknown                                                 */
} hshm_gpu_info;

/**
 * List the GPUs that this process can use, those of CUDA first.  Starts the drivers that are there, after which forked children
 * cannot use them.
 *
 * @param ret_infos  room for `room` of them; may be NULL when room is 0
 * @param ret_count  on success how many there are, which may be more than `room`
 * @return HSHM_OK; HSHM_E_DEVICE: there are none, and the sentence says why for each vendor (no library, one that lacks a function,
 *         its first call failed, no device); HSHM_E_INVAL (NULL)
 */
HSHM_API hshm_status hshm_gpu_list(hshm_gpu_info *ret_infos, size_t room, size_t *ret_count);

/**
 * Which GPU does this backend use in this process?
 *
 * @return HSHM_OK, and *ret_info is filled; HSHM_E_NOTSUP: it is of no GPU kind; or why there is none: what a GPU that was optional
 *         (hshm_backend_options.gpu) answered; HSHM_E_DEVICE in a forked child; HSHM_E_DAMAGED: the heap's owner is dead;
 *         HSHM_E_INVAL (NULL)
 */
HSHM_API hshm_status hshm_backend_gpu(hshm_backend *backend, hshm_gpu_info *ret_info);

/**
 * The address of a block, or of a byte in one, for kernels and for the driver's own calls in this process.
 *
 * @param addr  in the heap's data; on GPU_SHM_MMAP also in its custom header
 * @return it, or NULL, and as last status HSHM_E_NOTSUP (the heap is of no GPU kind), HSHM_E_INVAL (addr lies not in the heap), or
 *         as hshm_backend_gpu()
 */
HSHM_API void *hshm_device_ptr(hshm_allocator *allocator, const void *addr);

/**
 * The address itself, if the processor may touch what is there.
 *
 * @param addr  in the heap's data or custom header
 * @return it, or NULL, and as last status HSHM_E_NOTSUP (device memory), HSHM_E_INVAL (addr lies not in the heap)
 */
HSHM_API void *hshm_host_ptr(hshm_allocator *allocator, const void *addr);

/**
 * Copy from this process's memory into a heap, of any kind.  When it returns, the bytes are there for every process and for
 * kernels that start later.  On device memory it waits for all of the device's work (of this process): for ever, where a kernel never
 * ends; and a stream that is being captured into a graph is broken off.  So does the rest that touches a device's memory here.
 *
 * @param addr  where to, in the heap's data or custom header; with all `size` bytes
 * @param from  memory that the processor may touch
 * @return HSHM_OK, HSHM_E_INVAL (not in the heap), HSHM_E_PERM (read-only; or, as HSHM_E_LIMIT, in a forked child without a place of its
 *         own); on device memory also HSHM_E_DEVICE (what the driver said), HSHM_E_DAMAGED (the owner is dead)
 */
HSHM_API hshm_status hshm_copy_to(hshm_allocator *allocator, void *addr, const void *from, size_t size);

/** Copy from a heap, of any kind, into this process's memory.  @return as hshm_copy_to(), also on read-only heaps HSHM_OK */
HSHM_API hshm_status hshm_copy_from(hshm_allocator *allocator, void *to, const void *addr, size_t size);

/** Fill bytes of a heap, of any kind, with one value.  @return as hshm_copy_to() */
HSHM_API hshm_status hshm_fill(hshm_allocator *allocator, void *addr, int byte, size_t size);

#ifdef __cplusplus
}
#endif

#endif
