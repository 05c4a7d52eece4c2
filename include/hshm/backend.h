/*
 * backend.h - where the bytes of a heap come from.
 *
 * kind                          bytes                        other processes              after the last process
 * HSHM_BACKEND_POSIX_SHM_MMAP   /dev/shm, by name            attach by name               stay until removed or reboot
 * HSHM_BACKEND_POSIX_MMAP       a file, by path              attach by path               stay on the disk
 * HSHM_BACKEND_MALLOC           malloc, or private pages     no                           gone
 * HSHM_BACKEND_ARRAY            your buffer                  if your buffer is shared     yours
 * HSHM_BACKEND_GPU_MALLOC       memory of a GPU              attach by name               gone; the name stays until removed
 * HSHM_BACKEND_GPU_SHM_MMAP     shared memory a GPU can use  attach by name               stay until removed or reboot
 *
 * The GPU kinds look for a driver when they are used, and answer HSHM_E_DEVICE where there is none; <hshm/gpu.h> tells of
 * them.  They have not been tried on real hardware yet.
 *
 * Life of a named region
 *   create   builds the region unseen and gives it its name in one step, so that others see a whole region or none.  A
 *            name that is taken is never replaced, unless options.replace says so and every process that ever attached
 *            is provably dead.
 *   attach   finds it ready once an allocator was created on it; see hshm_attach_options.timeout_ms.  Attach never
 *            creates a name, and never removes one.
 *   destroy  in the process that created it: removes the name (if it still names this very region) and detaches.
 *            Processes that are attached go on undisturbed; the memory goes when the last one leaves.
 *   remove   takes away what crashed programs left behind; never a region that someone lives in.
 *
 * Who is alive is known exactly, from locks that the kernel drops when a process dies; never guessed from pids or time.
 *
 * Threads: all calls here are safe from several threads; a backend must not be used by one thread while another
 * destroys or detaches it.  Signals: none of them is async-signal-safe.
 * Fork: a child keeps using what its parent had attached, under a slot (an entry in the region's table of processes)
 * of its own, taken inside fork(); in kinds without a file, without a slot.  Where no slot can be had, because the region
 * may not be reopened or all slots are taken, the heap's calls answer HSHM_E_PERM or HSHM_E_LIMIT in the child; see
 * allocator.h.  What the parent created remains the parent's to destroy.  Children of vfork(), _Fork() or a raw clone()
 * must not use their parent's heaps.  Those of _Fork() and clone() do not keep a dead parent looking alive (unless another
 * thread was within the microseconds of an attach when they were made); one of vfork() shares its parent's memory, and so
 * its life, until it calls exec or ends.
 */
#ifndef HSHM_BACKEND_H
#define HSHM_BACKEND_H

#include <hshm/status.h>
#include <hshm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Where the bytes come from.  The numbers are written into regions and never change. */
typedef enum hshm_backend_kind {
    HSHM_BACKEND_POSIX_SHM_MMAP = 1,
    HSHM_BACKEND_MALLOC = 2,
    HSHM_BACKEND_ARRAY = 3,
    HSHM_BACKEND_POSIX_MMAP = 4,
    HSHM_BACKEND_GPU_MALLOC = 5,
    HSHM_BACKEND_GPU_SHM_MMAP = 6
} hshm_backend_kind;

/** How much of the memory the system must promise at once. */
typedef enum hshm_commit {
    /** All of it, at create (0.3 ms a MiB): a full /dev/shm is HSHM_E_NOSPC now, never a SIGBUS later. */
    HSHM_COMMIT_RESERVE = 0,
    /**
     * Page by page, on first touch: create costs the same at any size; a full system kills by SIGBUS on a touch.
     *
     * HSHM_BACKEND_MALLOC maps private pages of its own then, which the system does not reserve memory for (a full one
     * kills by SIGKILL on a touch), at a multiple of the largest power of two that fits into the size (a smaller one, but
     * 64 KiB from 16 MiB up, where there are few addresses).  What a heap gives back goes back to the system, and
     * hshm_backend_info_data.committed counts the pages that are in memory.
     */
    HSHM_COMMIT_LAZY = 1,
    /** All of it, and mapped into the creating process, so that no page faults there later. */
    HSHM_COMMIT_PREFAULT = 2
} hshm_commit;

/** What create does with a name that is taken. */
typedef enum hshm_replace {
    HSHM_REPLACE_NEVER = 0,
    /** Take the place of a leftover whose processes are all provably dead; otherwise HSHM_E_BUSY. */
    HSHM_REPLACE_DEAD = 1
} hshm_replace;

/** GPU kinds: must there be a GPU? */
typedef enum hshm_gpu_need {
    /** Without one, create and attach fail. */
    HSHM_GPU_REQUIRED = 0,
    /**
     * Without one, or one that is as asked for, they succeed, and hshm_backend_gpu() tells why there is none.  GPU_SHM_MMAP: the heap
     * is shared memory then.  GPU_MALLOC, attach only: blocks can be taken and freed, and the heap be looked at, also
     * when its owner is dead; copies answer as hshm_backend_gpu().
     */
    HSHM_GPU_OPTIONAL = 1
} hshm_gpu_need;

/** Limits of sizes and names. */
enum {
    /**
     * The smallest region, in bytes: with the slots that such a region gets by itself (two) it holds a Stack heap of
     * one 64-byte payload and no custom header.  A 4096-byte array gives a Stack heap more than 3 KiB.  Kinds that map
     * pages round the size up to whole pages.
     */
    HSHM_REGION_SIZE_MIN = 704,
    /** The longest name of POSIX shared memory, in bytes; letters, digits, '.', '_' and '-' may be used. */
    HSHM_NAME_MAX = 200
};

/** How hshm_backend_create() works; start from HSHM_BACKEND_OPTIONS_INIT.  NULL means just that. */
typedef struct hshm_backend_options {
    size_t struct_size;   /**< sizeof(hshm_backend_options), so that the struct can grow                           */
    uint32_t mode;        /**< permissions of the name, set whatever the umask, 0600 included; 0 = 0600          */
    hshm_commit commit;   /**< reserve, lazy or prefault                                                          */
    hshm_replace replace; /**< never, or dead                                                                     */
    uint32_t slots;       /**< how many processes may attach at once; 0 = by size: 2 (under 16 KiB), 16 (under
                                1 MiB), 128 (under 16 MiB), 1024                                                   */
    uint64_t max_size;    /**< bytes to keep addresses for; 0 = size.  A region does not grow yet: anything but 0
                                or size (rounded to pages) is HSHM_E_NOTSUP                                        */
    void *array;          /**< HSHM_BACKEND_ARRAY: your buffer of `size` bytes, 64-byte aligned.  It must outlive
                                the backend; its content is overwritten                                            */
    bool nameless;        /**< POSIX_SHM_MMAP, POSIX_MMAP: the url says where the region lies and what messages call it,
                                but no name is made: nothing is left, whenever who is killed.  Others attach by a
                                descriptor; see hshm_attach_options.fd and hshm_backend_info_data.fd               */
    hshm_gpu_need gpu;    /**< GPU kinds: required, or optional                                                   */
    const char *gpu_device; /**< GPU kinds: which one: "cuda", "hip", "cuda:1" (its number here), or as hshm_gpu_list()
                                 tells its uuid; NULL = the calling thread's current one, or the first              */
} hshm_backend_options;

/* clang-format off */
#define HSHM_BACKEND_OPTIONS_INIT \
    { sizeof(hshm_backend_options), 0, HSHM_COMMIT_RESERVE, HSHM_REPLACE_NEVER, 0, 0, NULL, false, HSHM_GPU_REQUIRED, NULL }
/* clang-format on */

/** How hshm_backend_attach() works; start from HSHM_ATTACH_OPTIONS_INIT.  NULL means just that. */
typedef struct hshm_attach_options {
    size_t struct_size;  /**< sizeof(hshm_attach_options)                                                           */
    uint64_t timeout_ms; /**< wait so long for a region that is not there or not ready; 0 = look once               */
    bool read_only;      /**< map without write permission: look-ups and statistics work, the rest is HSHM_E_PERM   */
    bool accept_dirty;   /**< trust a file that the machine's last shutdown caught in use (else HSHM_E_DAMAGED)     */
    void *array;         /**< HSHM_BACKEND_ARRAY: the buffer that already holds a region, 64-byte aligned           */
    uint64_t array_size; /**< HSHM_BACKEND_ARRAY: its bytes                                                         */
    const int *fd;     /**< POSIX_SHM_MMAP, POSIX_MMAP: not NULL: the region is the file that this descriptor leads to,
                               whatever its name or none; the url is a label.  The descriptor came by SCM_RIGHTS, or from
                               opening /proc/PID/fd/N; it stays yours, and may be closed after the call            */
    hshm_gpu_need gpu; /**< GPU kinds: required, or optional                                                      */
    const char *gpu_device; /**< GPU_SHM_MMAP: which one, as at create; GPU_MALLOC: no choice, it is the owner's    */
} hshm_attach_options;

/* clang-format off */
#define HSHM_ATTACH_OPTIONS_INIT { sizeof(hshm_attach_options), 0, false, false, NULL, 0, NULL, HSHM_GPU_REQUIRED, NULL }
/* clang-format on */

/**
 * Create a region and register it in the manager.
 *
 * The region can be attached to by others once hshm_allocator_create() has put a heap into it.
 *
 * @param manager      NULL = hshm_manager_default()
 * @param id           not yet used in this manager
 * @param size         bytes, the region's own tables included; HSHM_REGION_SIZE_MIN or more.  Rounded up to pages where
 *                     the kind maps pages.  GPU_MALLOC: bytes on the device, all for blocks, rounded up to 2 MiB; the
 *                     tables come on top, in host memory, with half a percent of that at most
 * @param url          POSIX_SHM_MMAP and the GPU kinds: a name, [A-Za-z0-9._-] only, 1 to HSHM_NAME_MAX bytes, not "." or "..",
 *                     not beginning with ".hshm-".
 *                     POSIX_MMAP: a path whose folder exists.  Else: a label for messages, or NULL.
 *                     With options.nameless it need not be free, and stays free
 * @param options      NULL = defaults
 * @param ret_backend  on success the backend, owned by the manager; may be NULL
 * @return HSHM_OK, or, with nothing left behind:
 *         HSHM_E_INVAL    kind, size, name, mode or struct_size is wrong
 *         HSHM_E_EXISTS   the id is registered in this manager, or the name is taken
 *         HSHM_E_BUSY     replace = dead, and a process lives in the region of that name
 *         HSHM_E_NOSPC    the file system, a cgroup, `ulimit -f`, `ulimit -v` or memory cannot hold `size`
 *         HSHM_E_PERM     the folder or a leftover belongs to someone else
 *         HSHM_E_NOTFOUND the folder of the path does not exist
 *         HSHM_E_NOTSUP   a network file system, one that drops locks (overlayfs), max_size beyond size, or nameless for a
 *                         kind that has no names, or for a GPU; GPU kinds: a driver that lacks a function or refuses the
 *                         feature, GPU_SHM_MMAP with HSHM_COMMIT_LAZY
 *         HSHM_E_DEVICE   GPU kinds: no driver, no device, or what the driver said; a child forked after it was used
 *         HSHM_E_NOTFOUND GPU kinds: no device as asked for
 *         HSHM_E_SYSTEM   another system call failed; the sentence has its errno
 */
HSHM_API hshm_status hshm_backend_create(hshm_manager *manager, hshm_backend_id id, hshm_backend_kind kind, size_t size,
                                         const char *url, const hshm_backend_options *options,
                                         hshm_backend **ret_backend);

/**
 * Attach to a region that another process, or another manager, created; its backend and its allocator are registered
 * under the ids that stand in the region.
 *
 * The bytes of the region are checked as untrusted input first.  With timeout_ms the call tries again, 0.1 ms to 10 ms
 * apart, while the name does not exist or has no allocator yet.  A remover at work, or the last user
 * of a file who is writing it to its disk, can delay it by up to 50 ms even with timeout_ms = 0, and make it HSHM_E_BUSY.
 *
 * @param manager      NULL = hshm_manager_default()
 * @param kind         as it was created; a private kind (MALLOC) cannot be attached to
 * @param url          the name or path; ignored for ARRAY, which needs options.array
 * @param options      NULL = defaults
 * @param ret_backend  on success the backend, owned by the manager; may be NULL
 * @return HSHM_OK, or, with nothing left behind:
 *         HSHM_E_NOTFOUND  no such name (timeout_ms = 0)
 *         HSHM_E_NOTREADY  the region has no allocator yet (timeout_ms = 0)
 *         HSHM_E_TIMEOUT   either of these was still so when timeout_ms was over; the sentence says which, and whether
 *                          the creator is dead
 *         HSHM_E_INVAL     kind, url, struct_size or array is wrong
 *         HSHM_E_EXISTS    the backend's or allocator's id is registered in this manager already
 *         HSHM_E_PERM      no permission to open it
 *         HSHM_E_NOTSUP    the kind is private to a process, the file lies on a network file system, or this build
 *                          lacks the allocator
 *         HSHM_E_CORRUPT   it is not a region, or its bytes contradict each other
 *         HSHM_E_VERSION   another format version;  HSHM_E_ABI  another word size, cache line or byte order
 *         HSHM_E_DAMAGED   a file that was in use when the machine went down (see accept_dirty); GPU_MALLOC: its owner is dead
 *         HSHM_E_DEVICE    GPU kinds: as hshm_backend_create(); and HSHM_E_NOTFOUND when the owner's device is none that
 *                          this process may see
 *         HSHM_E_LIMIT     all slots are taken by live processes
 *         HSHM_E_BUSY      it is being removed, or written to its disk by its last user
 *         HSHM_E_NOSPC     no address space (`ulimit -v`) or descriptors for it
 *         HSHM_E_SYSTEM    another system call failed
 */
HSHM_API hshm_status hshm_backend_attach(hshm_manager *manager, hshm_backend_kind kind, const char *url,
                                         const hshm_attach_options *options, hshm_backend **ret_backend);

/**
 * Forget what is registered on a backend, leave its memory, and, in the process that created it, remove its name if
 * that still names this very region.  Handles of the backend and its allocator end here.  Others who are attached go on.
 *
 * GPU_MALLOC: the memory goes when the others have left; see <hshm/gpu.h>.
 *
 * @return HSHM_OK, HSHM_E_NOTFOUND (unknown id: harmless), or HSHM_E_PERM / HSHM_E_SYSTEM when the name could not be
 *         removed, HSHM_E_DEVICE when a driver would not take something back (the memory is left even then)
 */
HSHM_API hshm_status hshm_backend_destroy(hshm_manager *manager, hshm_backend_id id);

/**
 * Leave the memory and forget the backend and its allocator in this manager; the name stays.
 * The last process that may write to leave a file marks it as cleanly left.
 *
 * @return HSHM_OK, HSHM_E_NOTFOUND (unknown id: harmless), or HSHM_E_DEVICE (as hshm_backend_destroy())
 */
HSHM_API hshm_status hshm_backend_detach(hshm_manager *manager, hshm_backend_id id);

/**
 * Remove a leftover by name.  Nothing is removed that somebody is attached to, nor what is not a region.
 *
 * @param kind  POSIX_SHM_MMAP, POSIX_MMAP or a GPU kind; the others have no names (HSHM_E_NOTSUP)
 * @return HSHM_OK, or HSHM_E_NOTFOUND, HSHM_E_BUSY (a live process is attached), HSHM_E_PERM, HSHM_E_INVAL (bad name),
 *         HSHM_E_CORRUPT (the name is no region's: remove it by hand if it is yours), HSHM_E_SYSTEM
 */
HSHM_API hshm_status hshm_backend_remove(hshm_backend_kind kind, const char *url);

/** The backend of that id, or NULL (and HSHM_E_NOTFOUND as last status).  Owned by the manager. */
HSHM_API hshm_backend *hshm_backend_get(hshm_manager *manager, hshm_backend_id id);

/**
 * The heap on a backend, whatever its id; NULL, and HSHM_E_NOTREADY as last status, if none was created on it yet, or it
 * was unregistered here.  Not while another thread does either.
 */
HSHM_API hshm_allocator *hshm_backend_allocator(hshm_backend *backend);

/**
 * Write what the heap holds to the disk that backs it and wait for it (POSIX_MMAP); other kinds have nothing to do.
 * Data written by others at the same time may or may not be included.
 *
 * @return HSHM_OK, HSHM_E_INVAL (NULL), HSHM_E_SYSTEM (the disk refused)
 */
HSHM_API hshm_status hshm_backend_sync(hshm_backend *backend);

/** What hshm_backend_info() tells; set struct_size with HSHM_BACKEND_INFO_INIT. */
typedef struct hshm_backend_info_data {
    size_t struct_size;     /**< in: sizeof(hshm_backend_info_data); only so many bytes are written                */
    hshm_backend_kind kind; /**< as created                                                                        */
    hshm_backend_id id;     /**< the id that stands in the region                                                  */
    uint64_t size;          /**< bytes of the region, its tables included                                          */
    uint64_t committed;     /**< bytes that the system holds for it now.  MALLOC: all, or, when it is lazy, what is in
                                  memory (not swapped), which takes 0.2 ms a GiB to find out                       */
    void *base;             /**< its first byte in this process; GPU_MALLOC: only its tables can be touched        */
    bool created_here;      /**< this process created it and destroys its name                                     */
    bool read_only;         /**< attached without write permission                                                 */
    bool ready;             /**< an allocator was created on it                                                    */
    uint32_t slots;         /**< how many processes it can hold                                                    */
    uint32_t processes;     /**< attached managers that are alive now, this one included; read-only ones are not
                                  counted.  For kinds without a file: those that did not detach                    */
    uint32_t slot;          /**< this manager's own slot; UINT32_MAX if it has none (read-only)                    */
    uint8_t uuid[16];       /**< differs for any two regions ever created                                          */
    char url[256];          /**< name, path (cut to fit) or label                                                  */
    int fd;                 /**< the library's own descriptor of the region, to be passed on (SCM_RIGHTS) or opened by
                                 others as /proc/PID/fd/N, not to be closed or locked; -1 without a file           */
} hshm_backend_info_data;

/* clang-format off */
#define HSHM_BACKEND_INFO_INIT { .struct_size = sizeof(hshm_backend_info_data) }
/* clang-format on */

/** Describe a backend.  @return HSHM_OK or HSHM_E_INVAL (NULL backend, wrong struct_size) */
HSHM_API hshm_status hshm_backend_info(hshm_backend *backend, hshm_backend_info_data *ret_info);

#ifdef __cplusplus
}
#endif

#endif
