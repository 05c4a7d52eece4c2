/*
 * gpu.c - see gpu.h.
 */
#include "gpu.h"

#include <dlfcn.h>
#include <stdlib.h>

static const char *const variables[VENDORS] = { "HSHM_CUDA_LIB", "HSHM_HIP_LIB" };
static const char *const paths[VENDORS] = { HSHM_TEST_BIN_DIR "/libstandin_cuda.so",
                                            HSHM_TEST_BIN_DIR "/libstandin_hip.so" };

const char *
standin_path(enum vendor vendor)
{
    return paths[vendor];
}

const char *
vendor_name(enum vendor vendor)
{
    return vendor == CUDA ? "cuda" : "hip";
}

void
use_library(enum vendor vendor, const char *path)
{
    assert_int_equal(setenv(variables[vendor], path, 1), 0);
}

void
use_standins(bool cuda, bool hip)
{
    use_library(CUDA, cuda ? paths[CUDA] : "/nowhere/libcuda.so.1");
    use_library(HIP, hip ? paths[HIP] : "/nowhere/libamdhip64.so.6");
}

void
use_standin(enum vendor vendor)
{
    use_standins(vendor == CUDA, vendor == HIP);
}

/* The library opens it by the same path, so it is the same. */
static void *
function_of(enum vendor vendor, const char *name)
{
    const char *path = getenv(variables[vendor]);
    void *library = dlopen(path == NULL ? paths[vendor] : path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    void *function = dlsym(library, name);
    assert_non_null(function);
    return function;
}

struct standin_counts
counts_of(enum vendor vendor)
{
    struct standin_counts counts;
    void (*function)(struct standin_counts *) = NULL;
    *(void **)(void *)&function = function_of(vendor, "standin_counts");
    function(&counts);
    return counts;
}

void
make_fail(enum vendor vendor, const char *call, uint32_t nth, int code)
{
    void (*function)(const char *, uint32_t, int) = NULL;
    *(void **)(void *)&function = function_of(vendor, "standin_fail");
    function(call, nth, code);
}

void
before_each_free(enum vendor vendor, void (*hook)(void))
{
    void (*function)(void (*)(void)) = NULL;
    *(void **)(void *)&function = function_of(vendor, "standin_before_free");
    function(hook);
}

void
register_next_already(enum vendor vendor)
{
    void (*function)(void) = NULL;
    *(void **)(void *)&function = function_of(vendor, "standin_register_next_already");
    function();
}

void
check_nothing_held(enum vendor vendor, const char *file, int line)
{
    const struct standin_counts counts = counts_of(vendor);
    if (counts.allocations + counts.mappings + counts.registrations + counts.contexts + counts.pushed == 0 &&
        counts.bytes == 0)
        return;
    print_error("still held: %u allocations (%llu bytes), %u mappings, %u registrations, %u contexts, %u pushed\n",
                counts.allocations, (unsigned long long)counts.bytes, counts.mappings, counts.registrations,
                counts.contexts, counts.pushed);
    _fail(file, line);
}
