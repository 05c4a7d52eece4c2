/*
 * test_standin_faults.c - whatever a driver says no to: the right status, a sentence with what it said, and nothing left behind.
 *
 * The test's own process starts no driver; each case is a child that does.
 */
#include "gpu.h"

#include "blocks.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/gpu_cuda.h"
#include "backend/gpu_hip.h"

enum { SIZE = 4 << 20 };

/* ---- what is done ---- */

struct plan {
    enum vendor vendor;
    hshm_backend_kind kind;
    const char *name;
    bool attaches; /* to the heap of that name, instead of making it */
    const char *call;
    uint32_t nth;
    int code;
    struct outcome {
        hshm_status status; /* the first that was not HSHM_OK */
        char sentence[512], failed[64];
        uint64_t calls;
        uint32_t held;
    } * outcome; /* shared with the test */
};

/* Keep the first failure. */
static void
note(struct plan *plan, hshm_status status)
{
    if (plan->outcome->status != HSHM_OK || status == HSHM_OK)
        return;
    plan->outcome->status = status;
    (void)snprintf(plan->outcome->sentence, sizeof plan->outcome->sentence, "%s", hshm_last_error());
}

static void
note_pointer(struct plan *plan, const void *got)
{
    if (got == NULL)
        note(plan, hshm_last_status());
}

/* Everything that asks a driver. */
static void
use_heap(struct plan *plan, hshm_allocator *heap)
{
    char bytes[100] = "what is in it";
    void *block = hshm_malloc(heap, sizeof bytes);
    assert_non_null(block); /* without a driver */
    note(plan, hshm_copy_to(heap, block, bytes, sizeof bytes));
    note(plan, hshm_fill(heap, block, 1, 10));
    note(plan, hshm_copy_from(heap, bytes, block, sizeof bytes));
    note_pointer(plan, hshm_device_ptr(heap, block));
    void *zeros = hshm_calloc(heap, 3, 100);
    note_pointer(plan, zeros);
    void *moved = hshm_realloc(heap, block, 100000);
    note_pointer(plan, moved);
    assert_ok(hshm_free(heap, moved != NULL ? moved : block));
    assert_ok(hshm_free(heap, zeros));
    hshm_stats stats = HSHM_STATS_INIT;
    assert_ok(hshm_stats_get(heap, &stats));
    assert_int_equal(stats.live_blocks, plan->attaches ? 1 : 0); /* what failed has no block */
    assert_ok(hshm_check(heap, 0, NULL));
}

static int
follow(void *arg)
{
    struct plan *plan = arg;
    hshm_allocator *heap = NULL;
    hshm_backend *backend = NULL;
    hshm_gpu_info info;
    if (plan->code != 0)
        make_fail(plan->vendor, plan->call, plan->nth, plan->code);
    const hshm_status status = plan->attaches
                                   ? hshm_backend_attach(NULL, plan->kind, plan->name, NULL, &backend)
                                   : hshm_backend_create(NULL, 1, plan->kind, SIZE, plan->name, NULL, &backend);
    note(plan, status);
    if (status == HSHM_OK && plan->attaches)
        assert_ok(hshm_allocator_get(NULL, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_ANY, &heap));
    else if (status == HSHM_OK)
        assert_ok(
            hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_THREAD_LOCAL, 0, NULL, &heap));
    if (status == HSHM_OK) {
        note(plan, hshm_backend_gpu(backend, &info));
        use_heap(plan, heap);
        note(plan, hshm_backend_destroy(NULL, 1));
        assert_null(hshm_backend_get(NULL, 1));
    } else {
        assert_null(hshm_backend_get(NULL, 1));
    }
    const struct standin_counts counts = counts_of(plan->vendor);
    plan->outcome->calls = counts.calls;
    memcpy(plan->outcome->failed, counts.failed, sizeof counts.failed);
    plan->outcome->held = counts.allocations + counts.mappings + counts.registrations + counts.contexts + counts.pushed;
    return 0;
}

static struct outcome *
run_plan(struct plan *plan)
{
    static struct outcome *outcome;
    if (outcome == NULL)
        outcome = shared_bytes(sizeof *outcome);
    *outcome = (struct outcome){ 0 };
    plan->outcome = outcome;
    const struct footprint before = footprint_take();
    const int ended = child_run(follow, plan);
    if (ended != 0)
        fail_msg("%s, kind %d: call %u (%s) says %d: the child ended with %d; %s", vendor_name(plan->vendor),
                 (int)plan->kind, plan->nth, outcome->failed, plan->code, ended, outcome->sentence);
    assert_int_equal(footprint_take().names, before.names); /* no name, no unseen file */
    return outcome;
}

/* ---- each call fails ---- */

static hshm_status
expected(enum vendor vendor, int code)
{
    if (code == 2)
        return HSHM_E_NOSPC;
    if (code == 801)
        return HSHM_E_NOTSUP;
    return code == 800 && vendor == CUDA ? HSHM_E_PERM : HSHM_E_DEVICE;
}

static bool
is_one_of(const char *call, const char *const *list)
{
    for (; *list != NULL; list++) {
        if (strcmp(call, *list) == 0)
            return true;
    }
    return false;
}

/* What is only for people, or has another way. */
static const char *const harmless[] = {
    "cuDeviceGetName",   "cuDeviceTotalMem_v2",  "cuCtxGetCurrent", "cuCtxGetDevice", "hipDeviceGetName",
    "hipDeviceTotalMem", "hipRuntimeGetVersion", "hipGetDevice",    "hipDeviceGet",   NULL
};
/* Of describing, not of opening. */
static const char *const perhaps_harmless[] = { "cuDeviceGet", NULL };
/* What a driver does not take back stays its own: that one thing. */
static const char *const releasing[] = { "cuMemFree_v2",
                                         "cuDevicePrimaryCtxRelease_v2",
                                         "cuCtxPopCurrent_v2",
                                         "cuIpcCloseMemHandle",
                                         "cuMemHostUnregister",
                                         "hipFree",
                                         "hipIpcCloseMemHandle",
                                         "hipHostUnregister",
                                         "hipSetDevice",
                                         "cuDeviceGet",
                                         "cuCtxPushCurrent_v2",
                                         "hipGetDevice",
                                         NULL };
/* In whatever call, a driver that cannot be started, or has no devices to count, is no device. */
static const char *const starting[] = { "cuInit", "cuDeviceGetCount", "hipInit", "hipGetDeviceCount", NULL };

static void
judge(const struct plan *plan, const struct outcome *outcome)
{
    const char *call = outcome->failed;
    assert_string_not_equal(call, "");
    hshm_status wanted = is_one_of(call, starting) ? HSHM_E_DEVICE : expected(plan->vendor, plan->code);
    if (outcome->status == HSHM_OK && (is_one_of(call, harmless) || is_one_of(call, perhaps_harmless)))
        return;
    /* HIP's other flag was tried then, and refused. */
    char code[16];
    (void)snprintf(code, sizeof code, "said %d", plan->code);
    if (outcome->status != wanted || strstr(outcome->sentence, call) == NULL || strstr(outcome->sentence, code) == NULL)
        fail_msg("%s, kind %d: %s says %d: %s, not %s: %s", vendor_name(plan->vendor), (int)plan->kind, call,
                 plan->code, hshm_status_name(outcome->status), hshm_status_name(wanted), outcome->sentence);
    if (outcome->held > is_one_of(call, releasing))
        fail_msg("%s, kind %d: %s (call %u) says %d: %u things are left", vendor_name(plan->vendor), (int)plan->kind,
                 call, plan->nth, plan->code, outcome->held);
}

static const int codes[] = { 1, 2, 3, 100, 201, 304, 400, 700, 800, 801, 999 };

static void
fail_each_call(struct plan plan)
{
    plan.code = 0;
    use_standin(plan.vendor);
    const struct outcome good = *run_plan(&plan);
    if (good.status != HSHM_OK || good.held != 0)
        fail_msg("without faults: %s", good.sentence);
    for (plan.nth = 1; plan.nth <= good.calls; plan.nth++) {
        /* Every call with two codes, so that each code comes to each part of it. */
        for (size_t i = plan.nth % 5; i < sizeof codes / sizeof codes[0]; i += 5) {
            plan.code = codes[i];
            judge(&plan, run_plan(&plan));
        }
    }
    print_message("%s, kind %d%s: each of %llu calls failed\n", vendor_name(plan.vendor), (int)plan.kind,
                  plan.attaches ? ", attached" : "", (unsigned long long)good.calls);
}

static void
each_call_fails_once(void **state)
{
    (void)state;
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        fail_each_call((struct plan){ .vendor = vendor, .kind = HSHM_BACKEND_GPU_MALLOC, .name = test_name("f") });
        fail_each_call((struct plan){ .vendor = vendor, .kind = HSHM_BACKEND_GPU_SHM_MMAP, .name = test_name("f") });
    }
}

/* By name, with each code, for ever. */
static void
each_function_fails_always(void **state)
{
    (void)state;
    static const char *const names[VENDORS][16] = {
        { "cuInit", "cuDeviceGetCount", "cuDeviceGetUuid_v2", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2",
          "cuMemAlloc_v2", "cuIpcGetMemHandle", "cuMemcpyHtoD_v2", "cuMemcpyDtoH_v2", "cuMemcpyDtoD_v2",
          "cuMemsetD8_v2", "cuCtxSynchronize", "cuMemFree_v2", "cuDevicePrimaryCtxRelease_v2", NULL },
        { "hipInit", "hipGetDeviceCount", "hipDeviceGetUuid", "hipMalloc", "hipIpcGetMemHandle", "hipMemcpy",
          "hipMemset", "hipDeviceSynchronize", "hipFree", NULL },
    };
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        use_standin(vendor);
        for (size_t i = 0; names[vendor][i] != NULL; i++) {
            for (size_t c = 0; c < sizeof codes / sizeof codes[0]; c++) {
                struct plan plan = { .vendor = vendor,
                                     .kind = HSHM_BACKEND_GPU_MALLOC,
                                     .name = test_name("a"),
                                     .call = names[vendor][i],
                                     .code = codes[c] };
                judge(&plan, run_plan(&plan));
            }
        }
    }
}

/* ---- attaching ---- */

struct owner {
    enum vendor vendor;
    const char *name;
    struct step ready, over;
};

static int
own_heap(void *arg)
{
    struct owner *owner = arg;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_GPU_MALLOC, owner->name, SIZE, HSHM_ALLOCATOR_THREAD_LOCAL);
    assert_non_null(hshm_malloc(heap, 10));
    step_reach(&owner->ready);
    step_wait(&owner->over, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_nothing_held(owner->vendor);
    return 0;
}

static void
each_call_of_an_attacher_fails_once(void **state)
{
    (void)state;
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        struct owner *owner = shared_bytes(sizeof *owner);
        *owner = (struct owner){ .vendor = vendor, .name = test_name("owned") };
        use_standin(vendor);
        const pid_t child = child_start(own_heap, owner);
        step_wait(&owner->ready, 1);
        fail_each_call(
            (struct plan){ .vendor = vendor, .kind = HSHM_BACKEND_GPU_MALLOC, .name = owner->name, .attaches = true });
        step_reach(&owner->over);
        assert_int_equal(child_wait(child), 0);
    }
}

/* ---- libraries ---- */

/* A copy of the stand-in that lacks a function. */
static void
lacking(enum vendor vendor, const char *function, const char *path)
{
    struct stat st;
    assert_int_equal(stat(standin_path(vendor), &st), 0);
    const size_t size = (size_t)st.st_size;
    char *bytes = malloc(size);
    FILE *file = fopen(standin_path(vendor), "rb");
    assert_true(bytes != NULL && file != NULL && fread(bytes, 1, size, file) == size && fclose(file) == 0);
    const size_t length = strlen(function);
    for (size_t at = 1; at + length < size; at++) {
        if (bytes[at - 1] == '\0' && memcmp(bytes + at, function, length + 1) == 0)
            bytes[at] = 'x';
    }
    file = fopen(path, "wb");
    assert_true(file != NULL && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
    free(bytes);
}

struct lack {
    enum vendor vendor;
    const char *function;
    bool needed;
};

static const char *const for_memory[] = { "cuMemAlloc_v2",
                                          "cuMemFree_v2",
                                          "cuIpcGetMemHandle",
                                          "cuIpcOpenMemHandle_v2",
                                          "cuIpcCloseMemHandle",
                                          "cuMemGetAddressRange_v2",
                                          "cuMemcpyHtoD_v2",
                                          "cuMemcpyDtoH_v2",
                                          "cuMemcpyDtoD_v2",
                                          "cuMemsetD8_v2",
                                          "cuCtxSynchronize",
                                          "hipMalloc",
                                          "hipFree",
                                          "hipIpcGetMemHandle",
                                          "hipIpcOpenMemHandle",
                                          "hipIpcCloseMemHandle",
                                          "hipMemGetAddressRange",
                                          "hipMemcpy",
                                          "hipMemset",
                                          "hipDeviceSynchronize",
                                          NULL };
static const char *const for_pinning[] = { "cuMemHostRegister_v2",
                                           "cuMemHostUnregister",
                                           "cuMemHostGetDevicePointer_v2",
                                           "hipHostRegister",
                                           "hipHostUnregister",
                                           "hipHostGetDevicePointer",
                                           NULL };

static int
create_without(void *arg)
{
    const struct lack *lack = arg;
    const hshm_backend_kind kinds[] = { HSHM_BACKEND_GPU_MALLOC, HSHM_BACKEND_GPU_SHM_MMAP };
    for (size_t i = 0; i < 2; i++) {
        const bool wants = is_one_of(lack->function, i == 0 ? for_memory : for_pinning);
        const hshm_status wanted = lack->needed ? HSHM_E_DEVICE : wants ? HSHM_E_NOTSUP : HSHM_OK;
        assert_status(hshm_backend_create(NULL, 1, kinds[i], SIZE, test_name("lack"), NULL, NULL), wanted);
        if (wanted == HSHM_OK)
            assert_ok(hshm_backend_destroy(NULL, 1));
        else
            assert_sentence(lack->function);
    }
    assert_nothing_held(lack->vendor);
    return 0;
}

static void
each_function_is_missing(void **state)
{
    (void)state;
#define CUDA_LACK(name, needed) { CUDA, #name, needed },
#define HIP_LACK(name, needed) { HIP, #name, needed },
    struct lack lacks[] = { CUDA_SYMBOLS(CUDA_LACK) HIP_SYMBOLS(HIP_LACK) };
    const char *path = test_path("lacking.so");
    for (size_t i = 0; i < sizeof lacks / sizeof lacks[0]; i++) {
        lacking(lacks[i].vendor, lacks[i].function, path);
        use_standin(lacks[i].vendor);
        use_library(lacks[i].vendor, path);
        if (child_run(create_without, &lacks[i]) != 0)
            fail_msg("without %s", lacks[i].function);
    }
    assert_int_equal(unlink(path), 0);
}

static int
create_with_none(void *arg)
{
    const char *const *words = arg;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    hshm_backend *backend = NULL;
    hshm_gpu_info info;
    size_t count = 0;
    const struct footprint before = footprint_take();
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("none"), NULL, NULL),
                  HSHM_E_DEVICE);
    assert_sentence(words[0]);
    assert_status(hshm_gpu_list(NULL, 0, &count), HSHM_E_DEVICE);
    assert_sentence(words[0]);
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_SHM_MMAP, SIZE, test_name("none"), NULL, NULL),
                  HSHM_E_DEVICE);
    assert_sentence(words[0]);
    assert_int_equal(footprint_take().names, before.names);
    /* An optional GPU: shared memory all the same, and one can ask why it is no more. */
    options.gpu = HSHM_GPU_OPTIONAL;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_SHM_MMAP, SIZE, test_name("none"), &options, &backend));
    hshm_allocator *heap = NULL;
    assert_ok(hshm_allocator_create(NULL, 1, (hshm_allocator_id){ 1, 0 }, HSHM_ALLOCATOR_STACK, 0, NULL, &heap));
    char *block = hshm_calloc(heap, 1, 100);
    assert_int_equal(block[99], 0);
    assert_null(hshm_device_ptr(heap, block));
    assert_status(hshm_last_status(), HSHM_E_DEVICE);
    assert_sentence(words[0]);
    assert_status(hshm_backend_gpu(backend, &info), HSHM_E_DEVICE);
    assert_ok(hshm_backend_destroy(NULL, 1));
    /* Memory of a GPU without a GPU there is not. */
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("none"), &options, NULL),
                  HSHM_E_DEVICE);
    return 0;
}

static void
what_is_missing_is_told_apart(void **state)
{
    (void)state;
    const char *absent = "there is no driver";
    const char *fails = "cannot be started: cuInit said 999";
    const char *stub = "cannot be started: cuInit said 34";
    const char *empty = "no device that this process may see";
    const char *lacks = "lacks the function cuDevicePrimaryCtxRetain";
    use_standins(false, false);
    assert_int_equal(child_run(create_with_none, &absent), 0);
    use_standin(CUDA);
    assert_int_equal(setenv("STANDIN_FAIL", "cuInit:0:999", 1), 0);
    assert_int_equal(child_run(create_with_none, &fails), 0);
    assert_int_equal(setenv("STANDIN_FAIL", "cuInit:0:34", 1), 0);
    assert_int_equal(child_run(create_with_none, &stub), 0);
    assert_int_equal(unsetenv("STANDIN_FAIL"), 0);
    const char *path = test_path("lacking.so");
    lacking(CUDA, "cuDevicePrimaryCtxRetain", path);
    use_library(CUDA, path);
    assert_int_equal(child_run(create_with_none, &lacks), 0);
    use_standin(CUDA);
    /* A driver that starts, and counts none. */
    assert_int_equal(setenv("STANDIN_FAIL", "cuDeviceGetCount:0:100", 1), 0);
    const char *uncounted = "devices cannot be counted: cuDeviceGetCount said 100";
    assert_int_equal(child_run(create_with_none, &uncounted), 0);
    assert_int_equal(unsetenv("STANDIN_FAIL"), 0);
    assert_int_equal(setenv("STANDIN_DEVICES", "-1", 1), 0);
    assert_int_equal(child_run(create_with_none, &empty), 0);
    assert_int_equal(unsetenv("STANDIN_DEVICES"), 0);
    assert_int_equal(unlink(path), 0);
}

/* ---- two vendors; devices in another order ---- */

static int
pick_devices(void *arg)
{
    (void)arg;
    static const struct {
        const char *wish;
        hshm_gpu_vendor vendor;
        uint32_t ordinal;
    } wishes[] = {
        { NULL, HSHM_GPU_CUDA, 0 },     { "cuda", HSHM_GPU_CUDA, 0 },
        { "hip", HSHM_GPU_HIP, 0 },     { "hip:1", HSHM_GPU_HIP, 1 },
        { "cuda:1", HSHM_GPU_CUDA, 1 }, { "GPU-30303030-3030-3030-3030-303030306131", HSHM_GPU_HIP, 1 },
    };
    hshm_gpu_info infos[8];
    size_t count = 0;
    assert_ok(hshm_gpu_list(infos, 8, &count));
    assert_int_equal(count, 4);
    assert_int_equal(infos[3].vendor, HSHM_GPU_HIP);
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
        hshm_backend *backend = NULL;
        hshm_gpu_info info;
        options.gpu_device = wishes[i].wish;
        assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("two"), &options, &backend));
        assert_ok(hshm_backend_gpu(backend, &info));
        assert_int_equal(info.vendor, wishes[i].vendor);
        assert_int_equal(info.ordinal, wishes[i].ordinal);
        assert_ok(hshm_backend_destroy(NULL, 1));
    }
    assert_nothing_held(CUDA);
    assert_nothing_held(HIP);
    return 0;
}

static int
pick_what_is_there(void *arg)
{
    hshm_gpu_vendor *vendor = arg;
    hshm_backend *backend = NULL;
    hshm_gpu_info info;
    assert_ok(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("one"), NULL, &backend));
    assert_ok(hshm_backend_gpu(backend, &info));
    assert_int_equal(info.vendor, *vendor);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static void
of_two_vendors_the_one_asked_for_is_used(void **state)
{
    (void)state;
    hshm_gpu_vendor other = HSHM_GPU_HIP;
    use_standins(true, true);
    assert_int_equal(child_run(pick_devices, NULL), 0);
    /* CUDA's driver is there and has nothing: the other's device is used. */
    assert_int_equal(setenv("STANDIN_FAIL", "cuInit:0:100", 1), 0);
    assert_int_equal(child_run(pick_what_is_there, &other), 0);
    assert_int_equal(unsetenv("STANDIN_FAIL"), 0);
}

struct reversed {
    const char *name, *uuid;
};

static int
attach_reversed(void *arg)
{
    const struct reversed *reversed = arg;
    hshm_gpu_info info;
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_GPU_MALLOC, reversed->name, 0);
    assert_ok(hshm_backend_gpu(hshm_backend_get(NULL, 1), &info));
    assert_string_equal(info.uuid, reversed->uuid);
    assert_int_equal(info.ordinal, 1); /* 0 at the owner's */
    assert_non_null(hshm_malloc(heap, 10));
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

static int
attach_elsewhere(void *arg)
{
    const struct reversed *reversed = arg;
    assert_status(hshm_backend_attach(NULL, HSHM_BACKEND_GPU_MALLOC, reversed->name, NULL, NULL), HSHM_E_NOTFOUND);
    assert_sentence(reversed->uuid);
    return 0;
}

static void
devices_are_known_by_their_uuid(void **state)
{
    (void)state;
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        struct owner *owner = shared_bytes(sizeof *owner);
        *owner = (struct owner){ .vendor = vendor, .name = test_name("reversed") };
        struct reversed reversed = { owner->name, vendor == CUDA ? "GPU-c0c0c0c0-c0c0-c0c0-c0c0-c0c0c0c0c0c0"
                                                                 : "GPU-30303030-3030-3030-3030-303030306130" };
        use_standin(vendor);
        const pid_t child = child_start(own_heap, owner);
        step_wait(&owner->ready, 1);
        assert_int_equal(setenv("STANDIN_REVERSED", "1", 1), 0);
        assert_int_equal(child_run(attach_reversed, &reversed), 0);
        assert_int_equal(unsetenv("STANDIN_REVERSED"), 0);
        /* A process that sees other devices only. */
        assert_int_equal(setenv("STANDIN_FIRST", "4", 1), 0);
        assert_int_equal(child_run(attach_elsewhere, &reversed), 0);
        assert_int_equal(unsetenv("STANDIN_FIRST"), 0);
        step_reach(&owner->over);
        assert_int_equal(child_wait(child), 0);
    }
}

struct same_uuids {
    const char *uuid, *wish; /* NULL: the second's, as it is listed */
    hshm_status status;
};

static int
pick_among_the_same(void *arg)
{
    const struct same_uuids *same = arg;
    hshm_gpu_info infos[2];
    hshm_gpu_info info;
    size_t count = 0;
    hshm_backend *backend = NULL;
    hshm_backend_options options = HSHM_BACKEND_OPTIONS_INIT;
    assert_ok(hshm_gpu_list(infos, 2, &count));
    assert_int_equal(count, 2);
    options.gpu_device = same->wish != NULL ? same->wish : infos[1].uuid;
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_MALLOC, SIZE, test_name("same"), &options, &backend),
                  same->status);
    if (same->status != HSHM_OK) {
        assert_sentence("have the same uuid");
        return 0;
    }
    assert_ok(hshm_backend_gpu(backend, &info));
    assert_int_equal(info.ordinal, 1);
    assert_ok(hshm_backend_destroy(NULL, 1));
    return 0;
}

/* HIP's devices without a serial number all say the same; they are known by their place in the machine then. */
static void
hip_devices_without_a_uuid_are_told_apart(void **state)
{
    (void)state;
    struct same_uuids cases[] = {
        { "XX", NULL, HSHM_OK },
        { "", NULL, HSHM_OK },
        { "0123456789abcdef", NULL, HSHM_E_DEVICE },
        { NULL, "GPU-00000000000000a1", HSHM_OK }, /* as rocminfo writes it */
    };
    use_standin(HIP);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].uuid != NULL)
            assert_int_equal(setenv("STANDIN_HIP_UUID", cases[i].uuid, 1), 0);
        else
            assert_int_equal(unsetenv("STANDIN_HIP_UUID"), 0);
        assert_int_equal(child_run(pick_among_the_same, &cases[i]), 0);
    }
}

/* HIP's flag for opening a handle was 0 until 5.7. */
static void
versions_of_hip_differ_in_a_flag(void **state)
{
    (void)state;
    static const char *const versions[] = { "50732831", "60000000", "60342134", "70051831" };
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        struct owner *owner = shared_bytes(sizeof *owner);
        *owner = (struct owner){ .vendor = HIP, .name = test_name("version") };
        use_standin(HIP);
        assert_int_equal(setenv("STANDIN_HIP_VERSION", versions[i], 1), 0);
        const pid_t child = child_start(own_heap, owner);
        step_wait(&owner->ready, 1);
        struct plan plan = { .vendor = HIP, .kind = HSHM_BACKEND_GPU_MALLOC, .name = owner->name, .attaches = true };
        const struct outcome *outcome = run_plan(&plan);
        assert_string_equal(outcome->sentence, "");
        step_reach(&owner->over);
        assert_int_equal(child_wait(child), 0);
    }
    assert_int_equal(unsetenv("STANDIN_HIP_VERSION"), 0);
}

/* ---- memory that is registered already ---- */

/* What was registered before at these addresses is of pages that are gone: it is ended, and ours begins; or there is no device. */
static int
register_over(void *arg)
{
    static const char *const calls[VENDORS] = { "cuMemHostRegister_v2", "hipHostRegister" };
    const struct lack *lack = arg;
    make_fail(lack->vendor, calls[lack->vendor], 0, 712);
    assert_status(hshm_backend_create(NULL, 1, HSHM_BACKEND_GPU_SHM_MMAP, SIZE, test_name("over"), NULL, NULL),
                  HSHM_E_DEVICE);
    assert_sentence("said 712");
    make_fail(lack->vendor, NULL, 0, 0);
    assert_nothing_held(lack->vendor);
    return 0;
}

/* A driver that does not let go: the addresses are nobody's from then on, so that no later heap is taken for the old one. */
static int
keep_registered(void *arg)
{
    static const char *const calls[VENDORS] = { "cuMemHostUnregister", "hipHostUnregister" };
    const struct lack *lack = arg;
    char *blocks[8];
    for (size_t i = 0; i < 8; i++) {
        hshm_allocator *heap =
            make_heap(NULL, HSHM_BACKEND_GPU_SHM_MMAP, test_name("kept"), SIZE, HSHM_ALLOCATOR_THREAD_LOCAL);
        blocks[i] = hshm_malloc(heap, 10);
        assert_non_null(hshm_device_ptr(heap, blocks[i]));
        for (size_t old = 0; old < i; old++)
            assert_true(blocks[old] - blocks[i] >= SIZE / 2 || blocks[i] - blocks[old] >= SIZE / 2);
        make_fail(lack->vendor, calls[lack->vendor], 1, 999);
        assert_status(hshm_backend_destroy(NULL, 1), HSHM_E_DEVICE);
        assert_int_equal(counts_of(lack->vendor).registrations, i + 1);
    }
    /* One that is not registered any more has no claim. */
    assert_non_null(make_heap(NULL, HSHM_BACKEND_GPU_SHM_MMAP, test_name("kept"), SIZE, HSHM_ALLOCATOR_STACK));
    make_fail(lack->vendor, calls[lack->vendor], 1, 713);
    assert_status(hshm_backend_destroy(NULL, 1), HSHM_E_DEVICE);
    return 0;
}

/* The stand-in keeps a registration, as a driver does whose client unmapped without a word, and the next heap lies there. */
static int
meet_the_old_one(void *arg)
{
    const char *name = test_name("met");
    const struct lack *lack = arg;
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_GPU_SHM_MMAP, name, SIZE, HSHM_ALLOCATOR_STACK);
    register_next_already(lack->vendor);
    hshm_manager *second = NULL;
    assert_ok(hshm_manager_create(&second));
    assert_ok(hshm_backend_attach(second, HSHM_BACKEND_GPU_SHM_MMAP, name, NULL, NULL));
    assert_int_equal(counts_of(lack->vendor).registrations, 2);
    hshm_manager_destroy(second);
    assert_non_null(hshm_device_ptr(heap, hshm_malloc(heap, 10)));
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_nothing_held(lack->vendor);
    return 0;
}

static void
registrations_of_old_pages_are_not_used(void **state)
{
    (void)state;
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        struct lack lack = { .vendor = vendor };
        use_standin(vendor);
        assert_int_equal(child_run(register_over, &lack), 0);
        assert_int_equal(child_run(keep_registered, &lack), 0);
        assert_int_equal(child_run(meet_the_old_one, &lack), 0);
    }
}

/* HIP has no flag for memory that may only be read, and takes CUDA's for another. */
static int
attach_to_read(void *arg)
{
    const struct lack *lack = arg;
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    hshm_manager *second = NULL;
    const char *name = test_name("read");
    hshm_allocator *heap = make_heap(NULL, HSHM_BACKEND_GPU_SHM_MMAP, name, SIZE, HSHM_ALLOCATOR_STACK);
    assert_non_null(heap);
    assert_ok(hshm_manager_create(&second));
    options.read_only = true;
    assert_ok(hshm_backend_attach(second, HSHM_BACKEND_GPU_SHM_MMAP, name, &options, NULL));
    assert_int_equal(counts_of(lack->vendor).registrations, 2);
    hshm_manager_destroy(second);
    /* A device that cannot. */
    make_fail(lack->vendor, lack->function, 1, 801);
    assert_ok(hshm_manager_create(&second));
    assert_status(hshm_backend_attach(second, HSHM_BACKEND_GPU_SHM_MMAP, name, &options, NULL), HSHM_E_NOTSUP);
    assert_sentence("HSHM_GPU_OPTIONAL");
    hshm_manager_destroy(second);
    assert_ok(hshm_backend_destroy(NULL, 1));
    assert_nothing_held(lack->vendor);
    return 0;
}

static void
memory_that_may_only_be_read_is_registered(void **state)
{
    (void)state;
    struct lack lacks[VENDORS] = { { CUDA, "cuMemHostRegister_v2", false }, { HIP, "hipHostRegister", false } };
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        use_standin(vendor);
        assert_int_equal(child_run(attach_to_read, &lacks[vendor]), 0);
    }
}

/* ---- a process that exits ---- */

/* The driver has ended itself, and all that was the process's with it: each call says so (4), and nothing is left to complain of. */
static int
end_late(void *arg)
{
    const struct lack *lack = arg;
    const hshm_backend_kind kinds[] = { HSHM_BACKEND_GPU_MALLOC, HSHM_BACKEND_GPU_SHM_MMAP };
    for (size_t i = 0; i < 2; i++) {
        (void)make_heap(NULL, kinds[i], test_name("late"), SIZE, HSHM_ALLOCATOR_THREAD_LOCAL);
        make_fail(lack->vendor, NULL, 0, 4);
        assert_ok(hshm_backend_destroy(NULL, 1));
        assert_true(counts_of(lack->vendor).calls > 0);
        make_fail(lack->vendor, NULL, 0, 0);
    }
    return 0;
}

static int
leave_late(void *arg)
{
    const struct owner *owner = arg;
    hshm_allocator *heap = attach_heap(NULL, HSHM_BACKEND_GPU_MALLOC, owner->name, 0);
    make_fail(owner->vendor, NULL, 0, 4);
    assert_status(hshm_fill(heap, hshm_malloc(heap, 10), 0, 1), HSHM_E_DEVICE); /* what is not an end fails */
    assert_ok(hshm_backend_detach(NULL, 1));
    return 0;
}

static void
after_the_drivers_end_nothing_is_left(void **state)
{
    (void)state;
    for (enum vendor vendor = CUDA; vendor < VENDORS; vendor++) {
        struct lack lack = { .vendor = vendor };
        struct owner *owner = shared_bytes(sizeof *owner);
        *owner = (struct owner){ .vendor = vendor, .name = test_name("owned") };
        use_standin(vendor);
        assert_int_equal(child_run(end_late, &lack), 0);
        const pid_t child = child_start(own_heap, owner);
        step_wait(&owner->ready, 1);
        assert_int_equal(child_run(leave_late, owner), 0);
        step_reach(&owner->over);
        assert_int_equal(child_wait(child), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_fails_once),
        cmocka_unit_test(each_function_fails_always),
        cmocka_unit_test(each_call_of_an_attacher_fails_once),
        cmocka_unit_test(each_function_is_missing),
        cmocka_unit_test(what_is_missing_is_told_apart),
        cmocka_unit_test(of_two_vendors_the_one_asked_for_is_used),
        cmocka_unit_test(devices_are_known_by_their_uuid),
        cmocka_unit_test(hip_devices_without_a_uuid_are_told_apart),
        cmocka_unit_test(versions_of_hip_differ_in_a_flag),
        cmocka_unit_test(registrations_of_old_pages_are_not_used),
        cmocka_unit_test(memory_that_may_only_be_read_is_registered),
        cmocka_unit_test(after_the_drivers_end_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
