/*
 * region_format.h - format v1 of a region: what every process that maps it agrees on.  docs/format.md tells it in prose.
 *
 *     0            320                 heap_off                                                      region_size
 *     | header     | slots             | table        | root        | custom header | data           |
 *       who, what    who is attached     the allocator's control data  the caller's    blocks
 *
 * Everything here is fixed width, little or big endian as the machine (a region of the other kind is refused), holds
 * offsets and never addresses, and reads as "empty" when zero.  Control data lies before the blocks, so that a block
 * that is overrun damages blocks only.
 *
 * Who writes what, when:
 *   bytes   0..127   the creator, before the region has a name; never again
 *   bytes 128..255   the creator of the heap, before `state` says READY; never again
 *   bytes 256..319   words that change, alone on their cache line
 */
#ifndef HSHM_FORMAT_REGION_FORMAT_H
#define HSHM_FORMAT_REGION_FORMAT_H

#include <hshm/status.h>
#include <hshm/types.h>

#include "base/compiler.h"
#include "sync/atomic.h"

enum {
    REGION_FORMAT_VERSION = 1,
    CACHE_LINE = 64,
    GRANULE = 16,         /* smallest unit of a block, and its alignment */
    SLICE_SHIFT_MAX = 16, /* slices of 64 KiB, from 16 MiB upwards      */
    REGION_MIN_BLOCK_MAX = 4096,
    REGION_DEVICE_SCALE = 4,               /* tables for a device's memory are those of a region of a 16th */
    REGION_DEVICE_BLOCK = 256,             /* the smallest block there                                     */
    REGION_DEVICE_CONTROL = 200,           /* of so much of it, one part may be control data               */
    REGION_DEVICE_ALIGNMENT_MOST = 2 << 20 /* that is relied on, whatever the driver gives       */
};

/* "hshmreg1" as it lies in memory on a little-endian machine. */
#define REGION_MAGIC UINT64_C(0x316765726d687368)

/* Offsets need room to be added up in a file's 63 bits. */
#define REGION_SIZE_MAX (UINT64_C(1) << 60)

/* Features that a region may have.  Unknown incompatible ones are refused, compatible ones ignored. */
#define REGION_INCOMPAT_DEVICE UINT64_C(1) /* the blocks lie in a device's memory: host_size, struct region_device */
#define REGION_INCOMPAT_KNOWN REGION_INCOMPAT_DEVICE

enum region_state {
    REGION_EMPTY = 0, /* no heap yet: attachers are told to wait              */
    REGION_READY = 1  /* the heap is whole; pairs: region_publish()/region_ready() */
};

/* Shared: at offset 0 of the region. */
struct region_header {
    uint64_t magic;          /*   0: REGION_MAGIC                                                     */
    uint32_t format_version; /*   8: REGION_FORMAT_VERSION                                            */
    uint32_t abi_tag;        /*  12: region_abi_tag() of the creator                                  */
    uint64_t compat;         /*  16: features that a reader may ignore                                */
    uint64_t incompat;       /*  24: features that a reader must know                                 */
    uint8_t uuid[16];        /*  32: differs for any two regions                                      */
    uint64_t region_size;    /*  48: bytes                                                            */
    uint64_t heap_off;       /*  56: first byte behind the slots                                      */
    uint64_t slots_off;      /*  64                                                                   */
    uint32_t slot_count;     /*  72                                                                   */
    uint32_t slot_size;      /*  76: sizeof(struct region_slot)                                       */
    uint32_t backend_kind;   /*  80: hshm_backend_kind                                                */
    uint32_t backend_id;     /*  84: hshm_backend_id                                                  */
    uint32_t slice_shift;    /*  88: log2 of the unit in which allocators cut the data; 0 = not cut   */
    uint32_t commit;         /*  92: hshm_commit that it was created with                             */
    uint32_t creator_pid;    /*  96: for people                                                       */
    uint32_t creator_uid;    /* 100: for people                                                       */
    uint64_t created_ns;     /* 104: wall clock, for people                                           */
    uint64_t host_size;      /* 112: INCOMPAT_DEVICE: so many of the bytes are the file's             */
    uint64_t checksum;       /* 120: region_checksum() of bytes 0..119                                */

    uint32_t allocator_kind;  /* 128: hshm_allocator_kind                                             */
    uint32_t min_block;       /* 132: bytes of the smallest block; a power of two                     */
    uint32_t allocator_major; /* 136: hshm_allocator_id                                               */
    uint32_t allocator_minor; /* 140                                                                  */
    uint64_t table_off;       /* 144: the slice table: control data by place, apart from the blocks   */
    uint64_t table_size;      /* 152: bytes                                                           */
    uint64_t root_off;        /* 160: the allocator's root                                            */
    uint64_t root_size;       /* 168: bytes                                                           */
    uint64_t custom_off;      /* 176: the caller's header; 0 = none                                   */
    uint64_t custom_size;     /* 184: bytes that the caller asked for                                 */
    uint64_t data_off;        /* 192: blocks                                                          */
    uint64_t data_size;       /* 200: bytes                                                           */
    uint64_t reserved1[5];    /* 208                                                                  */
    uint64_t heap_checksum;   /* 248: region_checksum() of bytes 128..247                             */

    _Atomic uint32_t state;      /* 256: enum region_state                                            */
    _Atomic uint32_t clean;      /* 260: 1 = the last to leave wrote everything to its disk           */
    _Atomic uint64_t generation; /* 264: 1 when created, one more for each boot it came through       */
    _Atomic uint64_t boot_id[2]; /* 272: of the last boot in which someone attached for writing       */
    _Atomic uint64_t size_now;   /* 288: bytes that the file has; region_size until regions grow      */
    uint64_t reserved2[3];       /* 296                                                               */
};
static_assert(sizeof(struct region_header) == 320, "format v1");
static_assert(offsetof(struct region_header, format_version) == 8, "format v1");
static_assert(offsetof(struct region_header, uuid) == 32, "format v1");
static_assert(offsetof(struct region_header, region_size) == 48, "format v1");
static_assert(offsetof(struct region_header, slots_off) == 64, "format v1");
static_assert(offsetof(struct region_header, backend_kind) == 80, "format v1");
static_assert(offsetof(struct region_header, checksum) == 120, "format v1");
static_assert(offsetof(struct region_header, allocator_kind) == 128, "format v1");
static_assert(offsetof(struct region_header, table_off) == 144, "format v1");
static_assert(offsetof(struct region_header, root_off) == 160, "format v1");
static_assert(offsetof(struct region_header, custom_off) == 176, "format v1");
static_assert(offsetof(struct region_header, data_off) == 192, "format v1");
static_assert(offsetof(struct region_header, heap_checksum) == 248, "format v1");
static_assert(offsetof(struct region_header, state) == 256, "format v1");
static_assert(offsetof(struct region_header, generation) == 264, "format v1");
static_assert(offsetof(struct region_header, size_now) == 288, "format v1");

enum slot_state {
    SLOT_FREE = 0,
    SLOT_TAKEN = 1 /* by a live process, or left so by one that died: its lock tells */
};

/*
 * Shared: one per attached process, at slots_off.  Written by its owner, who holds the OFD lock on its bytes.
 * (In regions without a file there is no lock, and a slot is taken by changing `state` from FREE to TAKEN.)
 */
struct region_slot {
    _Atomic uint32_t state; /*  0: enum slot_state                                              */
    uint32_t pid;           /*  4: for people, as is all the rest                               */
    uint32_t uid;           /*  8                                                               */
    uint32_t reserved;      /* 12                                                               */
    uint64_t pid_namespace; /* 16: inode                                                        */
    uint64_t start_time;    /* 24: clock ticks since boot                                       */
    uint64_t attached_ns;   /* 32: wall clock                                                   */
    _Atomic uint64_t log;   /* 40: kept for the operation in flight; 0 in this version          */
    char command[16];       /* 48: the program's name, ends with 0                              */
};
static_assert(sizeof(struct region_slot) == 64, "format v1");
static_assert(offsetof(struct region_slot, pid_namespace) == 16, "format v1");
static_assert(offsetof(struct region_slot, log) == 40, "format v1");
static_assert(offsetof(struct region_slot, command) == 48, "format v1");

/*
 * Shared, with INCOMPAT_DEVICE: at heap_off, which is then the first byte behind the slots still; the heap begins behind it.
 * Written before the region has a name, and never again.  The bytes [host_size, region_size) of the region are the device's
 * memory: nobody's CPU touches them, and the data is just these.
 */
struct region_device {
    uint32_t vendor;          /*   0: enum region_vendor: whose driver made the handle                  */
    uint32_t alignment;       /*   4: of the memory's first byte, at least, wherever it is mapped       */
    uint64_t size;            /*   8: bytes of it; region_size - host_size                              */
    uint8_t uuid[16];         /*  16: the device's, as its driver tells it                              */
    uint8_t handle[64];       /*  32: by which other processes map it; the driver's                     */
    uint32_t owner_pid;       /*  96: for people; whether the owner lives, its lock tells               */
    uint32_t reserved0;       /* 100                                                                    */
    uint64_t owner_namespace; /* 104: of pids: its inode; for people                                    */
    uint64_t boot_id[2];      /* 112: in which the memory was made                                      */
    uint64_t reserved1[15];   /* 128                                                                    */
    uint64_t checksum;        /* 248: region_checksum() of bytes 0..247                                 */
};
static_assert(sizeof(struct region_device) == 256, "format v1");
static_assert(offsetof(struct region_device, uuid) == 16, "format v1");
static_assert(offsetof(struct region_device, handle) == 32, "format v1");
static_assert(offsetof(struct region_device, owner_pid) == 96, "format v1");
static_assert(offsetof(struct region_device, boot_id) == 112, "format v1");
static_assert(offsetof(struct region_device, checksum) == 248, "format v1");

enum region_vendor { VENDOR_CUDA = 1, VENDOR_HIP = 2 };

/*
 * Lock bytes of a region's file.  Shared and exclusive are of OFD locks; see sync/liveness.h.
 *
 *     gate           shared while attaching; the remover locks the whole file exclusively, and so finds out in one step
 *                    that nobody lives here and that nobody is about to
 *     readers        shared by each attacher without write permission, for as long as it stays
 *     owner          exclusive by the process that has the device's memory, for as long as it has it
 *     slot i         exclusive by the process in slot i, for as long as it stays
 */
#define LOCK_GATE_OFF UINT64_C(0)
#define LOCK_READERS_OFF UINT64_C(8)
#define LOCK_OWNER_OFF UINT64_C(16)
#define LOCK_BYTES UINT64_C(1)

/* What both sides must agree on before either may touch the other's words. */
uint32_t region_abi_tag(void);

/* FNV-1a over 64-bit words: finds bytes that went astray.  It is no protection against someone who forges them. */
uint64_t region_checksum(const void *bytes, size_t size);

/* The checksums as they must be, over a header's two constant parts. */
uint64_t region_checksum_of_base(const struct region_header *header);
uint64_t region_checksum_of_heap(const struct region_header *header);

/* How many slots a region of this size gets unless the caller says; see hshm_backend_options.slots. */
uint32_t region_default_slots(uint64_t region_size);

/* The slice shift for a region of this size: 64 KiB slices from 16 MiB, 1/256 of the region below, 256 bytes at least. */
uint32_t region_slice_shift(uint64_t region_size);

/*
 * Fill the constant first part of a new region's header; the rest of the region's control data is zero.
 * `now` of the parameters that vary are the caller's: this file asks nothing of the system.
 */
struct region_birth {
    uint64_t region_size;
    uint64_t host_size; /* the same, or less: then the rest is a device's */
    uint32_t slot_count;
    uint32_t backend_kind;
    uint32_t backend_id;
    uint32_t commit;
    uint32_t pid;
    uint32_t uid;
    uint64_t now_ns;
    uint8_t uuid[16];
    uint64_t boot_id[2];
};
void region_format_header(struct region_header *header, const struct region_birth *birth);

/* Where the first byte behind the slots is. */
uint64_t region_heap_off(uint32_t slot_count);

/* Bytes behind the slots that are the region's still. */
static inline uint64_t
region_device_size(bool has_device)
{
    return has_device ? sizeof(struct region_device) : 0;
}

/* The checksum as it must be. */
uint64_t region_checksum_of_device(const struct region_device *device);

/*
 * Check the description of a device's memory, copied, as untrusted input; `size` is what the header leaves for it.
 * HSHM_OK or HSHM_E_CORRUPT.
 */
hshm_status region_check_device(const struct region_device *copy, uint64_t size, const char *name);

/* How many of a checked header's bytes the file has. */
static inline uint64_t
region_host_size(const struct region_header *copy)
{
    return (copy->incompat & REGION_INCOMPAT_DEVICE) != 0 ? copy->host_size : copy->region_size;
}

/*
 * Copy a header out of shared memory, each word once, so that what was checked is what is used.
 */
void region_copy_header(struct region_header *ret_copy, const struct region_header *shared);

/*
 * Check the first part of a copied header as untrusted input.
 *
 * @param available  bytes that are really there; the region may not claim more
 * @param name       for the sentence: "'x' (POSIX shared memory)"
 * @return HSHM_OK, HSHM_E_CORRUPT, HSHM_E_VERSION, HSHM_E_ABI
 */
hshm_status region_check_base(const struct region_header *copy, uint64_t available, const char *name);

/* Check the second part likewise; the state word said READY before the copy was taken.  HSHM_OK or HSHM_E_CORRUPT. */
hshm_status region_check_heap(const struct region_header *copy, const char *name);

/* Make the heap visible: everything written before this may be seen by attachers, nothing earlier. */
static inline void
region_publish(struct region_header *shared)
{
    /* Pairs with the acquire in region_ready(): an attacher that reads READY also sees bytes 128..255, table and root. */
    store_release(&shared->state, REGION_READY);
}

static inline bool
region_ready(const struct region_header *shared)
{
    return load_acquire(&((struct region_header *)(uintptr_t)shared)->state) == REGION_READY;
}

#endif
