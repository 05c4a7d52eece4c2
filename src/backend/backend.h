/*
 * backend.h - how a region's bytes are obtained, named, found again and given back.
 *
 * One table of functions a kind (backend_ops), and one struct for a mapped region, whatever its kind.  The steps that
 * all kinds share - header, slots, checks, undoing - are in backend.c; who is attached is in members.c.
 */
#ifndef HSHM_BACKEND_BACKEND_H
#define HSHM_BACKEND_BACKEND_H

#include <hshm/backend.h>
#include <sys/types.h>

#include "format/region_format.h"
#include "sync/atomic.h"
#include "sync/liveness.h"

struct backend_ops;
struct file_kind;
struct region_gpu; /* gpu_region.h */

/* What a kind can do, by declaration: the rules of the manager ask these, never the kind itself. */
enum backend_caps {
    BACKEND_CAN_ATTACH = 1 << 0,    /* a process that did not create the region may attach to it           */
    BACKEND_PERSISTS = 1 << 1,      /* outlives a reboot: the clean flag means something                   */
    BACKEND_SYSTEM_MALLOC = 1 << 2, /* private memory from malloc: a Malloc heap may sit on it             */
    BACKEND_NEEDS_URL = 1 << 3,     /* a name or path must be given                                        */
    BACKEND_HAS_GPU = 1 << 4        /* region->gpu is there                                                */
};

/* Local: one region as one manager of this process has mapped it.  Zeroed = nothing held. */
struct region {
    const struct backend_ops *ops;
    char *url;           /* name, path or label; owned                                              */
    unsigned char *base; /* first byte; aligned to 64 at least                                      */
    uint64_t size;       /* bytes                                                                   */
    uint64_t host_size;  /* so many of them are memory; what lies beyond is a device's, mapped without
                             access, so that it has addresses                                       */
    bool zeroed;         /* at create: every byte of host_size is known to be 0                     */
    bool read_only;
    hshm_commit commit;
    void *owned; /* MALLOC: what to free                                                    */

    /* Files only. */
    _Atomic int fd; /* description without locks, for questions and for reopening; -1 = none.
                             The user may have closed it: only through region_fd()                   */
    dev_t device;   /* the file's identity, to recognise it by                                 */
    ino_t inode;
    char *unseen_name; /* the name that stands in until publish, where O_TMPFILE is refused; owned */
    bool nameless;     /* the url leads nowhere: created so, or attached by a descriptor           */

    bool stays_reserved; /* its addresses are never free again: a GPU's driver still has them registered          */
    /* GPU kinds: what this process has of the device; NULL before, and in others. */
    struct region_gpu *gpu;

    /* Membership; see members.c. */
    struct region_slot *slots;
    uint32_t slot_count;
    uint32_t slot; /* ours, or NO_SLOT                                                        */
    struct life life;
    struct heir { /* the place of a child that is being forked; between the handlers only        */
        int fd;   /* of the description that holds its lock; -1 = none                           */
        uint32_t slot;
        hshm_status status;
    } heir;
    uint64_t boot_id[2]; /* of this boot                                                            */
    bool in_use;         /* this process may change it; see region_use()                             */
    bool inherited;      /* our slot was a dead process's, which left it without leave               */
};

#define NO_SLOT UINT32_MAX

/* What the caller of create asked for, checked and rounded. */
struct create_request {
    const char *url;
    uint64_t size;
    uint64_t host_size; /* 0: all of it.  Set by kinds that have memory elsewhere too */
    hshm_backend_options options;
};

/* Which calls of a kind may be NULL stands beside each; region->ops and region->url are set before any. */
struct backend_ops {
    hshm_backend_kind kind;
    const char *title; /* for sentences: "POSIX shared memory" */
    unsigned caps;
    /* How urls become files.  NULL: this kind has no files, and so no locks that prove who is alive. */
    const struct file_kind *files;

    /* Is this name or path possible?  NULL: any. */
    hshm_status (*check_url)(const char *url);
    /* The url in a form that chdir() does not change; malloc'ed, NULL without memory.  NULL: as it is. */
    char *(*full_url)(const char *url);
    /* Round a size to what the kind can give.  NULL: as it is. */
    uint64_t (*round_size)(uint64_t size);
    /*
     * Get bytes that nobody else can see.  Sets base, size, zeroed and what the kind keeps.
     * On failure nothing is left behind.
     */
    hshm_status (*obtain)(const struct create_request *request, struct region *region);
    /* Give the finished region its name, unless that is taken: HSHM_E_EXISTS.  NULL: it has none. */
    hshm_status (*publish)(struct region *region);
    /* Between our slot and the name: what else the region needs.  On failure nothing is left behind.  NULL: nothing. */
    hshm_status (*equip)(const struct create_request *request, struct region *region);
    /* The same of a region that we have joined. */
    hshm_status (*join)(const hshm_attach_options *options, struct region *region);
    /* Before our slot is given back: let go of what equip and join gave, also of nothing.  NULL: nothing. */
    hshm_status (*part)(struct region *region);
    /* After it was given back, and the region's name perhaps too: end what was kept for others.  NULL: nothing. */
    hshm_status (*tidy)(void);
    /* Find and map an existing region; only its header's first part has been checked.  NULL without CAN_ATTACH. */
    hshm_status (*open)(const hshm_attach_options *options, struct region *region);
    /* Does the name still lead to this region?  NULL: it has none. */
    bool (*still_named)(const struct region *region);
    /* Remove the name if it leads to this very region.  NULL: it has none. */
    hshm_status (*unname)(struct region *region);
    /* Remove a leftover by name, unless someone lives in it.  NULL: no names. */
    hshm_status (*remove)(const struct backend_ops *ops, const char *url);
    /* Write to what backs it.  NULL: nothing backs it. */
    hshm_status (*sync)(struct region *region);
    /* Make sure that these bytes can be touched, in a lazy region.  NULL: always so. */
    hshm_status (*promise)(struct region *region, uint64_t off, uint64_t size);
    /* Give pages back; afterwards they read as zero.  Offsets are page aligned.  NULL: cannot. */
    hshm_status (*give_back)(struct region *region, uint64_t off, uint64_t size);
    /* How many bytes the system holds for it. */
    uint64_t (*committed)(const struct region *region);
    /* Undo obtain or open: unmap, close, free.  Also on a region that obtain or open left half-way. */
    void (*release)(struct region *region);
};

extern const struct backend_ops backend_posix_shm_ops;
extern const struct backend_ops backend_posix_mmap_ops;
extern const struct backend_ops backend_malloc_ops;
extern const struct backend_ops backend_array_ops;
extern const struct backend_ops backend_gpu_malloc_ops;
extern const struct backend_ops backend_gpu_shm_ops;

/* The functions of a kind, or NULL and a sentence (HSHM_E_INVAL) for a number that is none. */
const struct backend_ops *backend_find(uint32_t kind);

/* "'name' (POSIX shared memory)": how sentences name a region.  By value, so that it fits into an expression. */
struct region_name {
    char s[360];
};
struct region_name backend_name(const struct backend_ops *ops, const char *url);
struct region_name region_name(const struct region *region);

static inline struct region_header *
region_header(const struct region *region)
{
    return (struct region_header *)(void *)region->base;
}

/*
 * Create, whole: obtain, write header, take slot 0, publish.  On failure nothing is left behind, and *ret_region is as
 * it was.  `id` is written into the region.
 */
hshm_status region_create(const struct backend_ops *ops, hshm_backend_id id, const struct create_request *request,
                          struct region *ret_region);

/*
 * Attach once, without waiting for a name or a heap: open, check, join.  `ret_copy` gets the header as it was checked.
 * On failure nothing is left behind.
 */
hshm_status region_attach(const struct backend_ops *ops, const char *url, const hshm_attach_options *options,
                          struct region *ret_region, struct region_header *ret_copy);

/* Bytes in a page of this system. */
uint64_t region_page_size(void);

/* From now on the heap is used here: a file is not clean, and was last used in this boot.  After the last check. */
void region_use(struct region *region);

/* Leave the slot and the memory.  The name stays.  HSHM_OK, or what a device's driver said; all is left even then. */
hshm_status region_leave(struct region *region);

/* Where the heap may begin. */
static inline uint64_t
region_heap_begin(const struct region *region)
{
    return region_heap_off(region->slot_count) + region_device_size(region->host_size < region->size);
}

#endif
