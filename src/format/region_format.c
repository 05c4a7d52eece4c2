/*
 * region_format.c - making and checking region headers.
 *
 * What is checked here comes from a file that anyone may have written: each test says what it found, none trusts the
 * checksum alone (who forges bytes forges checksums too), and no sum of two untrusted numbers may overflow.
 */
#include "format/region_format.h"

#include <hshm/allocator.h>
#include <hshm/backend.h>
#include <hshm/version.h>
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"

uint32_t
hshm_format_version(void)
{
    return REGION_FORMAT_VERSION;
}

uint32_t
region_abi_tag(void)
{
    /* The byte order is in the magic already; here stands what may differ between builds of the same order. */
    return (uint32_t)sizeof(void *) | (uint32_t)sizeof(_Atomic uint64_t) << 8 | (uint32_t)CACHE_LINE << 16 |
           (uint32_t)GRANULE << 24;
}

uint64_t
region_checksum(const void *bytes, size_t size)
{
    ASSERT(size % sizeof(uint64_t) == 0);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, (const char *)bytes + at, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
    }
    return hash;
}

uint64_t
region_checksum_of_base(const struct region_header *header)
{
    return region_checksum(header, offsetof(struct region_header, checksum));
}

uint64_t
region_checksum_of_heap(const struct region_header *header)
{
    const size_t begin = offsetof(struct region_header, allocator_kind);
    return region_checksum((const char *)header + begin, offsetof(struct region_header, heap_checksum) - begin);
}

uint32_t
region_default_slots(uint64_t region_size)
{
    if (region_size < UINT64_C(16) << 10)
        return 2;
    if (region_size < UINT64_C(1) << 20)
        return 16;
    if (region_size < UINT64_C(16) << 20)
        return 128;
    return 1024;
}

uint32_t
region_slice_shift(uint64_t region_size)
{
    uint32_t shift = SLICE_SHIFT_MAX;
    while (shift > 8 && region_size < UINT64_C(256) << shift)
        shift--;
    return shift;
}

uint64_t
region_heap_off(uint32_t slot_count)
{
    return sizeof(struct region_header) + (uint64_t)slot_count * sizeof(struct region_slot);
}

void
region_format_header(struct region_header *header, const struct region_birth *birth)
{
    header->magic = REGION_MAGIC;
    header->format_version = REGION_FORMAT_VERSION;
    header->abi_tag = region_abi_tag();
    header->compat = 0;
    header->incompat = birth->host_size < birth->region_size ? REGION_INCOMPAT_DEVICE : 0;
    header->host_size = birth->host_size < birth->region_size ? birth->host_size : 0;
    memcpy(header->uuid, birth->uuid, sizeof header->uuid);
    header->region_size = birth->region_size;
    header->heap_off = region_heap_off(birth->slot_count);
    header->slots_off = sizeof(struct region_header);
    header->slot_count = birth->slot_count;
    header->slot_size = sizeof(struct region_slot);
    header->backend_kind = birth->backend_kind;
    header->backend_id = birth->backend_id;
    header->slice_shift = region_slice_shift(birth->region_size);
    header->commit = birth->commit;
    header->creator_pid = birth->pid;
    header->creator_uid = birth->uid;
    header->created_ns = birth->now_ns;
    header->checksum = region_checksum_of_base(header);

    store_relaxed(&header->state, REGION_EMPTY);
    store_relaxed(&header->clean, 0);
    store_relaxed(&header->generation, 1);
    store_relaxed(&header->boot_id[0], birth->boot_id[0]);
    store_relaxed(&header->boot_id[1], birth->boot_id[1]);
    store_relaxed(&header->size_now, birth->region_size);
}

void
region_copy_header(struct region_header *ret_copy, const struct region_header *shared)
{
    /* Through volatile: the compiler may not read a word twice, however often the copy is used. */
    const volatile uint64_t *from = (const volatile uint64_t *)(const volatile void *)shared;
    uint64_t words[sizeof *ret_copy / sizeof(uint64_t)];
    for (size_t i = 0; i < COUNTOF(words); i++)
        words[i] = from[i];
    memcpy(ret_copy, words, sizeof *ret_copy);
}

static hshm_status
corrupt(const char *name, const char *field, uint64_t found, uint64_t limit)
{
    return fail(HSHM_E_CORRUPT,
                "%s is damaged: %s is %" PRIu64 ", which does not fit with %" PRIu64
                "; do not use it, restore it from a copy or remove it",
                name, field, found, limit);
}

hshm_status
region_check_base(const struct region_header *copy, uint64_t available, const char *name)
{
    if (copy->magic == __builtin_bswap64(REGION_MAGIC))
        return fail(HSHM_E_ABI,
                    "%s was made on a machine of the other byte order; it can be used on such machines only", name);
    if (copy->magic != REGION_MAGIC)
        return fail(HSHM_E_CORRUPT, "%s is not a region of hshm: it begins with 0x%016" PRIx64 "; check the name", name,
                    copy->magic);
    if (copy->format_version != REGION_FORMAT_VERSION)
        return fail(HSHM_E_VERSION,
                    "%s has format version %" PRIu32 ", this library reads version %d; use the library "
                    "that made it, or make it anew",
                    name, copy->format_version, REGION_FORMAT_VERSION);
    if (copy->checksum != region_checksum_of_base(copy))
        return fail(HSHM_E_CORRUPT,
                    "%s is damaged: its header's checksum is wrong; do not use it, restore it from a copy "
                    "or remove it",
                    name);
    if (copy->abi_tag != region_abi_tag())
        return fail(HSHM_E_ABI,
                    "%s was made by a build with ABI tag 0x%08" PRIx32 ", this one has 0x%08" PRIx32
                    " (word size, atomics, cache line, granule); use a build that matches",
                    name, copy->abi_tag, region_abi_tag());
    if ((copy->incompat & ~REGION_INCOMPAT_KNOWN) != 0)
        return fail(HSHM_E_VERSION,
                    "%s uses features 0x%" PRIx64 " that this library does not know; use a newer library", name,
                    copy->incompat & ~REGION_INCOMPAT_KNOWN);

    const bool has_device = (copy->incompat & REGION_INCOMPAT_DEVICE) != 0;
    if (has_device != (copy->backend_kind == HSHM_BACKEND_GPU_MALLOC))
        return corrupt(name, "its kind of backend", copy->backend_kind, copy->incompat);
    if (has_device && (copy->host_size >= copy->region_size || copy->host_size % CACHE_LINE != 0))
        return corrupt(name, "its part in the file", copy->host_size, copy->region_size);
    if (copy->region_size > REGION_SIZE_MAX)
        return corrupt(name, "its size", copy->region_size, REGION_SIZE_MAX);
    const uint64_t host_size = region_host_size(copy);
    if (host_size > available)
        return corrupt(name, "its size", host_size, available);
    if (copy->slots_off != sizeof *copy)
        return corrupt(name, "the place of its slots", copy->slots_off, sizeof *copy);
    if (copy->slot_size != sizeof(struct region_slot))
        return corrupt(name, "the size of a slot", copy->slot_size, sizeof(struct region_slot));
    if (copy->slot_count == 0 || copy->heap_off != region_heap_off(copy->slot_count))
        return corrupt(name, "the end of its slots", copy->heap_off, region_heap_off(copy->slot_count));
    if (copy->heap_off > host_size || host_size - copy->heap_off < region_device_size(has_device))
        return corrupt(name, "the end of its slots", copy->heap_off, host_size);
    if (copy->slice_shift != region_slice_shift(copy->region_size))
        return corrupt(name, "its slice shift", copy->slice_shift, region_slice_shift(copy->region_size));
    if (copy->commit > HSHM_COMMIT_PREFAULT)
        return corrupt(name, "its way of commitment", copy->commit, HSHM_COMMIT_PREFAULT);
    return HSHM_OK;
}

hshm_status
region_check_heap(const struct region_header *copy, const char *name)
{
    if (copy->heap_checksum != region_checksum_of_heap(copy))
        return fail(HSHM_E_CORRUPT,
                    "%s is damaged: the checksum over its heap's description is wrong; do not use it, "
                    "restore it from a copy or remove it",
                    name);

    /* Parts follow each other in this order; each begins on a cache line of its own. */
    const bool has_device = (copy->incompat & REGION_INCOMPAT_DEVICE) != 0;
    const uint64_t host_size = region_host_size(copy);
    const struct {
        const char *field;
        uint64_t off, size, end;
    } parts[] = {
        { "the place of its table", copy->table_off, copy->table_size, host_size },
        { "the place of its root", copy->root_off, copy->root_size, host_size },
        { "the place of its custom header", copy->custom_off, copy->custom_size, host_size },
        { "the place of its data", copy->data_off, copy->data_size, copy->region_size },
    };
    uint64_t low = copy->heap_off + region_device_size(has_device);
    for (size_t i = 0; i < COUNTOF(parts); i++) {
        if (parts[i].off == 0 && parts[i].size == 0)
            continue;
        if (parts[i].off % CACHE_LINE != 0 || !range_inside(parts[i].off, parts[i].size, low, parts[i].end))
            return corrupt(name, parts[i].field, parts[i].off, low);
        low = parts[i].off + parts[i].size;
    }
    if (has_device && copy->data_off != host_size)
        return corrupt(name, "the place of its data", copy->data_off, host_size);
    if (!is_power_of_two(copy->min_block) || copy->min_block < GRANULE || copy->min_block > REGION_MIN_BLOCK_MAX)
        return corrupt(name, "its smallest block", copy->min_block, GRANULE);
    return HSHM_OK;
}

uint64_t
region_checksum_of_device(const struct region_device *device)
{
    return region_checksum(device, offsetof(struct region_device, checksum));
}

hshm_status
region_check_device(const struct region_device *copy, uint64_t size, const char *name)
{
    if (copy->checksum != region_checksum_of_device(copy))
        return fail(
            HSHM_E_CORRUPT,
            "%s is damaged: the checksum over its device memory's description is wrong; do not use it, remove it",
            name);
    if (copy->size != size)
        return corrupt(name, "the size of its device memory", copy->size, size);
    if (copy->vendor != VENDOR_CUDA && copy->vendor != VENDOR_HIP)
        return corrupt(name, "its device's vendor", copy->vendor, VENDOR_HIP);
    if (!is_power_of_two(copy->alignment) || copy->alignment < REGION_DEVICE_BLOCK ||
        copy->alignment > REGION_DEVICE_ALIGNMENT_MOST)
        return corrupt(name, "its device memory's alignment", copy->alignment, REGION_DEVICE_ALIGNMENT_MOST);
    return HSHM_OK;
}
