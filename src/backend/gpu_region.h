/*
 * gpu_region.h - what a region has of a GPU: where its bytes are on the device, in this process.
 */
#ifndef HSHM_BACKEND_GPU_REGION_H
#define HSHM_BACKEND_GPU_REGION_H

#include "backend/backend.h"
#include "backend/gpu_driver.h"

struct gpu_memory; /* gpu_memory.c */

/* Local: one for each region of a GPU kind. */
struct region_gpu {
    struct gpu_device device;  /* no api: there is none, and `status` and `reason` say why        */
    uint64_t begin, end;       /* offsets in the region, of what is on the device                 */
    uint64_t at;               /* the device's address of `begin`                                 */
    uint32_t alignment;        /* GPU_MALLOC: of `at`, in every process; checked                  */
    bool pinned;               /* GPU_SHM_MMAP: registered by us, and to be unregistered          */
    struct gpu_memory *memory; /* GPU_MALLOC                                                     */
    hshm_status status;
    char reason[480];
};

/* "cannot attach to 'x' (GPU memory)", for the calls of gpu_driver.h. */
struct gpu_what {
    char s[440];
};
struct gpu_what gpu_what(const char *verb, const struct region *region);

/* region->gpu, empty; HSHM_OK or NOSPC. */
hshm_status region_gpu_make(struct region *region);
/* A GPU that was optional is not to be had: remember the last sentence. */
void region_gpu_do_without(struct region *region, hshm_status status);
void region_gpu_end(struct region *region);

/*
 * Whoever calls these has a region of a GPU kind.  They answer HSHM_E_DEVICE and others where there is no device, and
 * HSHM_E_DAMAGED when the memory's owner is dead.  Offsets are in [begin, end), as the caller guarantees.
 */
hshm_status region_gpu_usable(struct region *region);
hshm_status region_gpu_address(struct region *region, uint64_t off, uint64_t *ret_at);
hshm_status region_gpu_copy_to(struct region *region, uint64_t off, const void *from, uint64_t size);
hshm_status region_gpu_copy_from(struct region *region, void *to, uint64_t off, uint64_t size);
hshm_status region_gpu_copy_within(struct region *region, uint64_t to, uint64_t from, uint64_t size);
hshm_status region_gpu_fill(struct region *region, uint64_t off, uint8_t byte, uint64_t size);

/* ---- gpu_memory.c: device memory that processes share; for backend_gpu_malloc.c ---- */

/* Get memory for a region that is still unseen, as its owner, and describe it there. */
hshm_status gpu_memory_make(const char *wanted, struct region *region);
/* Map the memory of a region that we have joined. */
hshm_status gpu_memory_join(struct region *region);
/* This region's part in it is over. */
hshm_status gpu_memory_part(struct region *region);
/* Does its owner live?  And what there is to say if not: DAMAGED, or CORRUPT where the region does not even tell whose it was. */
bool gpu_memory_lives(struct region *region);
hshm_status gpu_memory_is_dead(struct region *region, const char *what);
/* End memory of ours whose region has no name any more, and nobody attached. */
hshm_status gpu_memory_tidy(void);
/* The same for memory of ours that has this name, which goes first; *ret_ended false: it is not ours, or in use, and all is as it was. */
hshm_status gpu_memory_give_up(const char *url, bool *ret_ended);

/* In a forked child. */
void gpu_fork_child(void);

#endif
