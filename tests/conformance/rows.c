/*
 * rows.c - see rows.h.
 */
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define YES(title, backend, allocator, shared)                                                 \
    {                                                                                          \
        title, HSHM_BACKEND_##backend, HSHM_ALLOCATOR_##allocator, NULL, HSHM_OK, shared, NULL \
    }
#define NO(title, backend, allocator, status, words)                                                   \
    {                                                                                                  \
        title, HSHM_BACKEND_##backend, HSHM_ALLOCATOR_##allocator, NULL, HSHM_E_##status, false, words \
    }
#define GPU(title, backend, allocator, device)                                                     \
    {                                                                                              \
        title, HSHM_BACKEND_GPU_##backend, HSHM_ALLOCATOR_##allocator, device, HSHM_OK, true, NULL \
    }

/* clang-format off */
#if defined(HSHM_TEST_ON_STANDINS)
/* For tests/gpu: drivers that are none. */
const struct row rows[] = {
    GPU("stand-in CUDA, gpu_shm x stack",            SHM_MMAP, STACK,         "cuda"),
    GPU("stand-in CUDA, gpu_shm x scalable_page",    SHM_MMAP, SCALABLE_PAGE, "cuda"),
    GPU("stand-in CUDA, gpu_shm x thread_local",     SHM_MMAP, THREAD_LOCAL,  "cuda"),
    GPU("stand-in HIP, gpu_shm x stack",             SHM_MMAP, STACK,         "hip"),
    GPU("stand-in HIP, gpu_shm x scalable_page",     SHM_MMAP, SCALABLE_PAGE, "hip"),
    GPU("stand-in HIP, gpu_shm x thread_local",      SHM_MMAP, THREAD_LOCAL,  "hip"),
    GPU("stand-in CUDA, gpu_malloc x stack",         MALLOC,   STACK,         "cuda"),
    GPU("stand-in CUDA, gpu_malloc x scalable_page", MALLOC,   SCALABLE_PAGE, "cuda"),
    GPU("stand-in CUDA, gpu_malloc x thread_local",  MALLOC,   THREAD_LOCAL,  "cuda"),
    GPU("stand-in HIP, gpu_malloc x stack",          MALLOC,   STACK,         "hip"),
    GPU("stand-in HIP, gpu_malloc x scalable_page",  MALLOC,   SCALABLE_PAGE, "hip"),
    GPU("stand-in HIP, gpu_malloc x thread_local",   MALLOC,   THREAD_LOCAL,  "hip"),
};

__attribute__((constructor)) static void
use_standins(void)
{
    (void)setenv("HSHM_CUDA_LIB", HSHM_TEST_BIN_DIR "/libstandin_cuda.so", 1);
    (void)setenv("HSHM_HIP_LIB", HSHM_TEST_BIN_DIR "/libstandin_hip.so", 1);
}
#else
const struct row rows[] = {
    YES("posix_shm x stack",          POSIX_SHM_MMAP, STACK,         true),
    YES("posix_mmap x stack",         POSIX_MMAP,     STACK,         true),
    YES("array x stack",              ARRAY,          STACK,         true),
    YES("malloc x stack",             MALLOC,         STACK,         false),
    YES("posix_shm x scalable_page",  POSIX_SHM_MMAP, SCALABLE_PAGE, true),
    YES("posix_mmap x scalable_page", POSIX_MMAP,     SCALABLE_PAGE, true),
    YES("array x scalable_page",      ARRAY,          SCALABLE_PAGE, true),
    YES("malloc x scalable_page",     MALLOC,         SCALABLE_PAGE, false),
    YES("posix_shm x thread_local",   POSIX_SHM_MMAP, THREAD_LOCAL,  true),
    YES("posix_mmap x thread_local",  POSIX_MMAP,     THREAD_LOCAL,  true),
    YES("array x thread_local",       ARRAY,          THREAD_LOCAL,  true),
    YES("malloc x thread_local",      MALLOC,         THREAD_LOCAL,  false),
    YES("malloc x malloc",            MALLOC,         MALLOC,        false),

    NO("posix_shm x malloc",  POSIX_SHM_MMAP, MALLOC, NOTSUP, "HSHM_BACKEND_MALLOC"),
    NO("posix_mmap x malloc", POSIX_MMAP,     MALLOC, NOTSUP, "HSHM_BACKEND_MALLOC"),
    NO("array x malloc",      ARRAY,          MALLOC, NOTSUP, "HSHM_BACKEND_MALLOC"),

    NO("gpu_malloc",   GPU_MALLOC,   STACK, DEVICE, "driver"),
    NO("gpu_shm_mmap", GPU_SHM_MMAP, STACK, DEVICE, "driver"),
};
#endif
/* clang-format on */
const size_t row_count = sizeof rows / sizeof rows[0];

static void *
map_memfd(int memfd, size_t size)
{
    void *array = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    assert_ptr_not_equal(array, MAP_FAILED);
    return array;
}

void
stage_prepare(struct stage *stage, const struct row *row, size_t size)
{
    *stage =
        (struct stage){ .row = row, .size = row_size(row, size), .memfd = -1, .options = HSHM_BACKEND_OPTIONS_INIT };
    switch (row->backend) {
    case HSHM_BACKEND_POSIX_SHM_MMAP:
    case HSHM_BACKEND_GPU_SHM_MMAP:
    case HSHM_BACKEND_GPU_MALLOC:
        stage->url = test_name("row");
        stage->options.gpu_device = row->device;
        break;
    case HSHM_BACKEND_POSIX_MMAP:
        stage->url = test_path("row");
        break;
    case HSHM_BACKEND_ARRAY:
        stage->memfd = memfd_create("hshm-test-row", 0); /* inherited by exec'd helpers */
        assert_true(stage->memfd >= 0);
        assert_int_equal(ftruncate(stage->memfd, (off_t)size), 0);
        stage->array = map_memfd(stage->memfd, size);
        stage->options.array = stage->array;
        break;
    default:
        break;
    }
}

void
stage_make(struct stage *stage, const struct row *row, size_t size, size_t custom_size)
{
    stage_prepare(stage, row, size);
    assert_ok(hshm_manager_create(&stage->manager));
    assert_ok(hshm_backend_create(stage->manager, STAGE_BACKEND, row->backend, size, stage->url, &stage->options,
                                  &stage->backend));
    assert_ok(hshm_allocator_create(stage->manager, STAGE_BACKEND, STAGE_ID, row->allocator, custom_size, NULL,
                                    &stage->heap));
}

static void
end_array(struct stage *stage)
{
    if (stage->array != NULL)
        assert_int_equal(munmap(stage->array, stage->size), 0);
    if (stage->memfd >= 0)
        assert_int_equal(close(stage->memfd), 0);
}

void
stage_end(struct stage *stage)
{
    if (stage->manager != NULL) {
        const hshm_status status = hshm_backend_destroy(stage->manager, STAGE_BACKEND);
        if (status != HSHM_E_NOTFOUND) /* a test may have destroyed it itself */
            assert_ok(status);
        hshm_manager_destroy(stage->manager);
    }
    end_array(stage);
}

/* ---- second views ---- */

hshm_status
view_try(struct view *view, const struct stage *stage, bool read_only, uint64_t timeout_ms)
{
    *view = (struct view){ .size = stage->size };
    assert_ok(hshm_manager_create(&view->manager));
    hshm_attach_options options = HSHM_ATTACH_OPTIONS_INIT;
    options.read_only = read_only;
    options.timeout_ms = timeout_ms;
    options.gpu_device = stage->row->device;
    if (stage->memfd >= 0) {
        view->array = map_memfd(stage->memfd, stage->size);
        options.array = view->array;
        options.array_size = stage->size;
    }
    const hshm_status status = hshm_backend_attach(view->manager, stage->row->backend, stage->url, &options, NULL);
    if (status == HSHM_OK)
        assert_ok(hshm_allocator_get(view->manager, STAGE_ID, stage->row->allocator, &view->heap));
    return status;
}

void
view_open(struct view *view, const struct stage *stage, bool read_only)
{
    assert_ok(view_try(view, stage, read_only, 0));
}

void
view_close(struct view *view)
{
    hshm_manager_destroy(view->manager);
    if (view->array != NULL)
        assert_int_equal(munmap(view->array, view->size), 0);
}

/* ---- across exec ---- */

void
stage_words(const struct stage *stage, char ret_words[4][32])
{
    (void)snprintf(ret_words[0], 32, "%d", (int)stage->row->backend);
    (void)snprintf(ret_words[1], 32, "%d", (int)stage->row->allocator);
    (void)snprintf(ret_words[2], 32, "%zu", stage->size);
    (void)snprintf(ret_words[3], 32, "%d:%s", stage->memfd, stage->row->device == NULL ? "" : stage->row->device);
}

void
stage_from_words(struct stage *stage, char *const words[4], const char *url)
{
    *stage = (struct stage){ .size = strtoul(words[2], NULL, 10), .memfd = atoi(words[3]), .url = url };
    for (size_t i = 0; i < row_count; i++) {
        const char *device = rows[i].device == NULL ? "" : rows[i].device;
        if ((int)rows[i].backend == atoi(words[0]) && (int)rows[i].allocator == atoi(words[1]) &&
            strcmp(strchr(words[3], ':') + 1, device) == 0)
            stage->row = &rows[i];
    }
    assert_non_null(stage->row);
}

/* ---- lists ---- */

struct errand {
    row_case run;
    const struct row *row;
};

static int
run_errand(void *arg)
{
    const struct errand *errand = arg;
    void *state = (void *)(uintptr_t)errand->row;
    errand->run(&state);
    return 0;
}

static void
run_in_child(void **state)
{
    if (child_run(run_errand, *state) != 0)
        fail_msg("see above");
}

int
run_rows(const char *group, const struct named_case *cases, size_t case_count)
{
    struct CMUnitTest *tests = calloc(row_count * case_count, sizeof *tests);
    char(*names)[160] = calloc(row_count * case_count, sizeof *names);
    struct errand *errands = calloc(row_count * case_count, sizeof *errands);
    size_t count = 0;
    if (tests == NULL || names == NULL || errands == NULL)
        return 1;
    for (size_t r = 0; r < row_count; r++) {
        for (size_t c = 0; c < case_count && rows[r].made == HSHM_OK; c++) {
            if (cases[c].shared_only && !rows[r].shared)
                continue;
            (void)snprintf(names[count], sizeof names[count], "%s: %s", rows[r].name, cases[c].name);
            tests[count] = (struct CMUnitTest){ .name = names[count],
                                                .test_func = cases[c].run,
                                                .initial_state = (void *)(uintptr_t)&rows[r] };
            errands[count] = (struct errand){ cases[c].run, &rows[r] };
            if (rows[r].device != NULL) {
                tests[count].test_func = run_in_child;
                tests[count].initial_state = &errands[count];
            }
            count++;
        }
    }
    const int failed = _cmocka_run_group_tests(group, tests, count, NULL, NULL);
    free(errands);
    free(names);
    free(tests);
    return failed;
}
