/*
 * plan.c - what this rank was asked for, and whether all ranks were asked for the same.
 *
 * Before any file exists.  Rank 0's plan goes to everyone, and each compares it with its own; so a rank that differs can
 * say in what.  One table says what is compared.
 */
#include <hshm/version.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"

#define DEFAULT_SIZE ((size_t)64 << 20)
#define DEFAULT_CHUNK ((size_t)1 << 30)
#define BYTE_ORDER_MARK UINT64_C(0x0102030405060708)

static hshm_status
check_kinds(const hshm_mpi_options *o)
{
    if ((unsigned)o->allocator > HSHM_ALLOCATOR_MALLOC)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_options.allocator is %u; see hshm_allocator_kind",
                        (unsigned)o->allocator);
    if (o->allocator == HSHM_ALLOCATOR_MALLOC)
        return mpi_fail(HSHM_E_NOTSUP,
                        "a Malloc heap cannot be shared by the ranks of a node: it is the system's malloc in "
                        "one process; use another allocator, or make one heap a process by hand");
    if (o->backend_kind != HSHM_BACKEND_POSIX_SHM_MMAP && o->backend_kind != HSHM_BACKEND_POSIX_MMAP)
        return mpi_fail(HSHM_E_NOTSUP,
                        "hshm_mpi_options.backend_kind is %u: ranks share HSHM_BACKEND_POSIX_SHM_MMAP or _POSIX_MMAP",
                        (unsigned)o->backend_kind);
    if ((unsigned)o->reuse > HSHM_MPI_RECOVER || (unsigned)o->progress > HSHM_MPI_PROGRESS_THREAD ||
        (unsigned)o->engine > HSHM_MPI_WINDOW)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_options: reuse is %u, progress %u, engine %u; see hshm/mpi.h",
                        (unsigned)o->reuse, (unsigned)o->progress, (unsigned)o->engine);
    return HSHM_OK;
}

static hshm_status
check_values(const hshm_mpi_options *o)
{
    if (o->chunk < HSHM_MPI_CHUNK_MIN || o->chunk > INT_MAX)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_options.chunk is %zu; it is 0, or %d to %d bytes", o->chunk,
                        HSHM_MPI_CHUNK_MIN, INT_MAX);
    if (o->group < 0)
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_options.group is %d; groups are numbered from 0", o->group);
    if (o->name == NULL && (o->keep || o->reuse != HSHM_MPI_NEW))
        return mpi_fail(HSHM_E_INVAL, "hshm_mpi_options: %s without a name: nobody could find that heap again",
                        o->keep ? "keep" : "reuse");
    if (o->name == NULL && o->backend_kind == HSHM_BACKEND_POSIX_MMAP)
        return mpi_fail(HSHM_E_INVAL,
                        "hshm_mpi_options: HSHM_BACKEND_POSIX_MMAP needs a name, which is the file's path");
    return HSHM_OK;
}

/* Options of other headers, of which each rank reads members (a follower never passes them on).  As hshm itself asks. */
static hshm_status
check_structs(const hshm_mpi_options *o)
{
    const struct {
        const char *what;
        const size_t *struct_size;
        size_t oldest;
    } all[] = {
        { "backend", o->backend != NULL ? &o->backend->struct_size : NULL, offsetof(hshm_backend_options, nameless) },
        { "allocator_options", o->allocator_options != NULL ? &o->allocator_options->struct_size : NULL,
          sizeof(hshm_allocator_options) },
        { "attach", o->attach != NULL ? &o->attach->struct_size : NULL, offsetof(hshm_attach_options, fd) },
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].struct_size != NULL && *all[i].struct_size < all[i].oldest)
            return mpi_fail(
                HSHM_E_INVAL,
                "hshm_mpi_options.%s->struct_size is %zu, at least %zu expected; start from its _INIT macro",
                all[i].what, *all[i].struct_size, all[i].oldest);
    }
    return HSHM_OK;
}

/* What a heap is called: the user's name, or a label for messages. */
static hshm_status
make_name(hshm_mpi *mpi)
{
    const hshm_mpi_options *o = &mpi->options;
    if (o->name == NULL)
        return HSHM_OK;
    int length = 0;
    if (o->group == 0)
        length = snprintf(mpi->name, sizeof mpi->name, "%s", o->name);
    else
        length = snprintf(mpi->name, sizeof mpi->name, "%s.%d", o->name, o->group);
    if (length < (int)sizeof mpi->name)
        return HSHM_OK;
    return mpi_fail(HSHM_E_INVAL, "hshm_mpi_options.name has %zu bytes, which is too many", strlen(o->name));
}

hshm_status
plan_options(hshm_mpi *mpi, const hshm_mpi_options *options)
{
    hshm_mpi_options *o = &mpi->options;
    *o = (hshm_mpi_options)HSHM_MPI_OPTIONS_INIT;
    if (options != NULL) {
        const size_t oldest = sizeof *o;
        if (options->struct_size < oldest)
            return mpi_fail(HSHM_E_INVAL,
                            "hshm_mpi_options.struct_size is %zu, at least %zu expected; start from its _INIT macro",
                            options->struct_size, oldest);
        *o = *options;
    }
    o->size = o->size != 0 ? o->size : DEFAULT_SIZE;
    o->chunk = o->chunk != 0 ? o->chunk : DEFAULT_CHUNK;
    o->allocator = o->allocator != HSHM_ALLOCATOR_ANY ? o->allocator : HSHM_ALLOCATOR_SCALABLE_PAGE;
    o->backend_kind = o->backend_kind != 0 ? o->backend_kind : HSHM_BACKEND_POSIX_SHM_MMAP;
    hshm_status status = check_kinds(o);
    if (status == HSHM_OK)
        status = check_structs(o);
    if (status == HSHM_OK)
        status = check_values(o);
    if (status == HSHM_OK)
        status = make_name(mpi);
    if (status != HSHM_OK)
        return status;
    mpi->chunk = (int)o->chunk;
    return HSHM_OK;
}

/* ---- comparing ---- */

/* Goes from rank 0 to all.  Numbers only: what is longer is hashed. */
enum plan_word {
    PLAN_BYTE_ORDER,
    PLAN_VERSION,
    PLAN_OWN_VERSION,
    PLAN_FORMAT,
    PLAN_SIZE,
    PLAN_ALLOCATOR,
    PLAN_HEADER,
    PLAN_NAME,
    PLAN_REUSE,
    PLAN_KEEP,
    PLAN_PROGRESS,
    PLAN_ENGINE,
    PLAN_CHUNK,
    PLAN_KIND,
    PLAN_MODE,
    PLAN_COMMIT,
    PLAN_SLOTS,
    PLAN_MIN_BLOCK,
    PLAN_LIFETIME,
    PLAN_BACKEND_ID,
    PLAN_ALLOCATOR_ID,
    PLAN_WORDS,
    PLAN_JOB = PLAN_WORDS, /* rank 0's alone, and taken over by the others */
    PLAN_SENT
};

/* How each is called, and what a difference is. */
static const struct {
    const char *what;
    hshm_status status;
} plan_words[PLAN_WORDS] = {
    [PLAN_BYTE_ORDER] = { "the machine's byte order", HSHM_E_ABI },
    [PLAN_VERSION] = { "the version of hshm (major * 1000000 + minor * 1000 + patch)", HSHM_E_VERSION },
    [PLAN_OWN_VERSION] = { "the version of libhshm-mpi (in the same form)", HSHM_E_VERSION },
    [PLAN_FORMAT] = { "the format of regions", HSHM_E_VERSION },
    [PLAN_SIZE] = { "options.size", HSHM_E_INVAL },
    [PLAN_ALLOCATOR] = { "options.allocator", HSHM_E_INVAL },
    [PLAN_HEADER] = { "options.custom_header_size", HSHM_E_INVAL },
    [PLAN_NAME] = { "options.name (its hash)", HSHM_E_INVAL },
    [PLAN_REUSE] = { "options.reuse", HSHM_E_INVAL },
    [PLAN_KEEP] = { "options.keep", HSHM_E_INVAL },
    [PLAN_PROGRESS] = { "options.progress", HSHM_E_INVAL },
    [PLAN_ENGINE] = { "options.engine", HSHM_E_INVAL },
    [PLAN_CHUNK] = { "options.chunk", HSHM_E_INVAL },
    [PLAN_KIND] = { "options.backend_kind", HSHM_E_INVAL },
    [PLAN_MODE] = { "options.backend->mode", HSHM_E_INVAL },
    [PLAN_COMMIT] = { "options.backend->commit", HSHM_E_INVAL },
    [PLAN_SLOTS] = { "options.backend->slots", HSHM_E_INVAL },
    [PLAN_MIN_BLOCK] = { "options.allocator_options->min_block", HSHM_E_INVAL },
    [PLAN_LIFETIME] = { "options.allocator_options->lifetime", HSHM_E_INVAL },
    [PLAN_BACKEND_ID] = { "options.backend_id", HSHM_E_INVAL },
    [PLAN_ALLOCATOR_ID] = { "options.allocator_id (major * 2^32 + minor)", HSHM_E_INVAL },
};

/* FNV-1a: differs for names that differ, but for one case in 2^64; none at all is 0. */
static uint64_t
hash_text(const char *text)
{
    if (text == NULL)
        return 0;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

/* The running library's, which may be another than the one this was compiled against. */
static uint64_t
version_number(void)
{
    uint64_t number = 0;
    char *end = NULL;
    const char *text = hshm_version();
    for (int i = 0; i < 3; i++) {
        number = number * 1000 + strtoul(text, &end, 10);
        text = *end == '.' ? end + 1 : end;
    }
    return number;
}

static void
write_plan(const hshm_mpi *mpi, uint64_t plan[PLAN_SENT])
{
    const hshm_mpi_options *o = &mpi->options;
    static const hshm_backend_options default_backend = HSHM_BACKEND_OPTIONS_INIT;
    static const hshm_allocator_options default_allocator = HSHM_ALLOCATOR_OPTIONS_INIT;
    const hshm_backend_options *backend = o->backend != NULL ? o->backend : &default_backend;
    const hshm_allocator_options *allocator = o->allocator_options != NULL ? o->allocator_options : &default_allocator;
    plan[PLAN_BYTE_ORDER] = BYTE_ORDER_MARK;
    plan[PLAN_VERSION] = version_number();
    plan[PLAN_OWN_VERSION] = HSHM_VERSION_MAJOR * 1000000 + HSHM_VERSION_MINOR * 1000 + HSHM_VERSION_PATCH;
    plan[PLAN_FORMAT] = hshm_format_version();
    plan[PLAN_SIZE] = o->size;
    plan[PLAN_ALLOCATOR] = o->allocator;
    plan[PLAN_HEADER] = o->custom_header_size;
    plan[PLAN_NAME] = hash_text(o->name);
    plan[PLAN_REUSE] = o->reuse;
    plan[PLAN_KEEP] = o->keep;
    plan[PLAN_PROGRESS] = o->progress;
    plan[PLAN_ENGINE] = o->engine;
    plan[PLAN_CHUNK] = o->chunk;
    plan[PLAN_KIND] = o->backend_kind;
    plan[PLAN_MODE] = backend->mode != 0 ? backend->mode : 0600;
    plan[PLAN_COMMIT] = backend->commit;
    plan[PLAN_SLOTS] = backend->slots;
    plan[PLAN_MIN_BLOCK] = allocator->min_block;
    plan[PLAN_LIFETIME] = allocator->lifetime;
    plan[PLAN_BACKEND_ID] = o->backend_id;
    plan[PLAN_ALLOCATOR_ID] = (uint64_t)o->allocator_id.major << 32 | o->allocator_id.minor;
    plan[PLAN_JOB] = random_word();
}

static hshm_status
compare_plans(const uint64_t mine[PLAN_SENT], const uint64_t first[PLAN_SENT])
{
    for (unsigned i = 0; i < PLAN_WORDS; i++) {
        if (mine[i] != first[i])
            return mpi_fail(plan_words[i].status,
                            "%s is %" PRIu64 " here and %" PRIu64 " on rank 0; it has to be the same on all ranks%s",
                            plan_words[i].what, mine[i], first[i],
                            i <= PLAN_FORMAT ? " (see LD_LIBRARY_PATH on each node)" : "");
    }
    return HSHM_OK;
}

hshm_status
plan_agree(hshm_mpi *mpi, hshm_status status)
{
    uint64_t mine[PLAN_SENT] = { 0 };
    uint64_t first[PLAN_SENT] = { 0 };
    write_plan(mpi, mine);
    memcpy(first, mine, sizeof first);
    const hshm_status failed = mpi_check(MPI_Bcast(first, PLAN_SENT, MPI_UINT64_T, 0, mpi->world), "MPI_Bcast");
    if (failed != HSHM_OK)
        return failed;
    /* If rank 0's own options are wrong, it says so; what differs from them means nothing then, but INVAL it is anyhow. */
    if (status == HSHM_OK)
        status = compare_plans(mine, first);
    mpi->job = first[PLAN_JOB];
    return hshm_mpi_agree(mpi->world, status);
}
