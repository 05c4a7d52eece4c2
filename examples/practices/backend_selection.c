/*
 * backend_selection.c - the same small job on a backend of each kind, chosen by what is needed.
 *
 *     other processes must see it          HSHM_BACKEND_POSIX_SHM_MMAP     a name in /dev/shm
 *     one process, as fast as it can be    HSHM_BACKEND_MALLOC             private memory: no name, nothing to reserve
 *     it must outlive the program          HSHM_BACKEND_POSIX_MMAP         a file on a disk
 *     the memory is there already          HSHM_BACKEND_ARRAY              a buffer: embedded systems, a device's memory
 *     a GPU must reach it                  HSHM_BACKEND_GPU_...            answers whether a driver is there
 *
 * Advice: choose the backend by who must see the bytes and how long they must last.  All that is written against the
 * allocator stays the same, so the choice can be made late, and made anew.
 */
#include "practice.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

enum { NUMBERS = 100 };

/* In the heap: a list linked by offsets, which are good in every process and every run of a program. */
struct node {
    hshm_off next;
    uint64_t number;
};

static const hshm_allocator_id allocator_id = { 1, 0 };
static char folder[128];
static char path[160];
static alignas(64) unsigned char buffer[16 * 1024];

static void
remove_file(void)
{
    leave_heap();
    if (path[0] != '\0')
        hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path);
    if (folder[0] != '\0')
        rmdir(folder);
}

/* The job, half one: a list whose first node's offset stands in the custom header. */
static void
write_list(void)
{
    hshm_allocator *heap;
    check(hshm_allocator_get(NULL, allocator_id, HSHM_ALLOCATOR_ANY, &heap), "no heap to write to");
    hshm_off *first = hshm_allocator_custom_header(heap, NULL);
    for (uint64_t i = 1; i <= NUMBERS; i++) {
        struct node *node = hshm_malloc(heap, sizeof *node);
        expect(node != NULL, hshm_last_error());
        *node = (struct node){ *first, i };
        *first = hshm_to_off(heap, node);
    }
}

/* Half two: whoever has the heap can add the numbers up, and knows what must come out. */
static void
read_list(void)
{
    hshm_allocator *heap;
    check(hshm_allocator_get(NULL, allocator_id, HSHM_ALLOCATOR_ANY, &heap), "no heap to read");
    const hshm_off *first = hshm_allocator_custom_header(heap, NULL);
    uint64_t sum = 0;
    for (const struct node *node = hshm_to_addr(heap, *first); node != NULL; node = hshm_to_addr(heap, node->next))
        sum += node->number;
    expect(sum == NUMBERS * (NUMBERS + 1) / 2, "the list does not add up");
}

static void
create(hshm_backend_kind kind, size_t size, const char *url, void *array, hshm_allocator_kind cut)
{
    hshm_backend_options options = lazy();
    options.array = array;
    check(hshm_backend_create(NULL, BACKEND_ID, kind, size, url, &options, NULL), "cannot create the backend");
    check(hshm_allocator_create(NULL, BACKEND_ID, allocator_id, cut, sizeof(hshm_off), NULL, NULL),
          "cannot create the allocator");
}

/* Another process: it leaves what it inherited, to attach by name as any other program would. */
static void
attach_and_read(void)
{
    check(hshm_backend_detach(NULL, BACKEND_ID), "cannot leave the parent's heap");
    check(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, heap_name, NULL, NULL), "cannot attach");
    read_list();
}

static void
shared_memory(void)
{
    create(HSHM_BACKEND_POSIX_SHM_MMAP, MIB, heap_name, NULL, HSHM_ALLOCATOR_SCALABLE_PAGE);
    write_list();
    await_process(start_process(attach_and_read));
    printf("shared:      another process attached to '%s' and read the list\n", heap_name);
}

static void
private_memory(void)
{
    create(HSHM_BACKEND_MALLOC, 16 * MIB, NULL, NULL, HSHM_ALLOCATOR_THREAD_LOCAL);
    write_list();
    read_list();
    hshm_backend_info_data info = HSHM_BACKEND_INFO_INIT;
    check(hshm_backend_info(hshm_backend_get(NULL, BACKEND_ID), &info), "cannot describe the backend");
    expect(info.committed < info.size / 4, "memory was taken that nobody touched");
    printf("private:     no name, no other process, and %zu KiB of %zu MiB taken so far\n",
           (size_t)info.committed / KIB, (size_t)info.size / MIB);
}

static void
persistent_file(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/hshm_backend_selection.XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(folder) == NULL) {
        folder[0] = '\0';
        expect(false, "no folder for a file can be made in $TMPDIR or /tmp");
    }
    snprintf(path, sizeof path, "%s/list", folder);
    hshm_backend_options options = lazy();
    const hshm_status probe = hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_POSIX_MMAP, MIB, path, &options, NULL);
    if (probe == HSHM_E_NOTSUP) { /* the root folder of a container, for instance */
        printf("persistent:  not in this folder: %s\n", hshm_last_error());
        return;
    }
    check(probe, "cannot create the file");
    check(hshm_allocator_create(NULL, BACKEND_ID, allocator_id, HSHM_ALLOCATOR_STACK, sizeof(hshm_off), NULL, NULL),
          "cannot create the allocator");
    write_list();
    check(hshm_backend_sync(hshm_backend_get(NULL, BACKEND_ID)), "cannot write to the disk");
    check(hshm_backend_detach(NULL, BACKEND_ID), "cannot leave the file"); /* destroy would remove it */

    check(hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_MMAP, path, NULL, NULL), "cannot open the file again");
    read_list();
    check(hshm_backend_detach(NULL, BACKEND_ID), "cannot leave the file");
    check(hshm_backend_remove(HSHM_BACKEND_POSIX_MMAP, path), "cannot remove the file");
    printf("persistent:  the list was in the file when it was opened again\n");
}

static void
embedded_array(void)
{
    create(HSHM_BACKEND_ARRAY, sizeof buffer, NULL, buffer, HSHM_ALLOCATOR_STACK);
    write_list();
    read_list();
    hshm_allocator *heap;
    check(hshm_allocator_get(NULL, allocator_id, HSHM_ALLOCATOR_STACK, &heap), "no heap in the buffer");
    const hshm_off *first = hshm_allocator_custom_header(heap, NULL);
    const unsigned char *node = hshm_to_addr(heap, *first);
    expect(node > buffer && node < buffer + sizeof buffer, "the list lies outside the buffer");
    printf("embedded:    a heap of %zu KiB, all of it in a static buffer\n", sizeof buffer / KIB);
}

/* To ask is the way to know: the answer is a status to act on, here by doing without. */
static void
gpu(void)
{
    const hshm_status status =
        hshm_backend_create(NULL, BACKEND_ID, HSHM_BACKEND_GPU_SHM_MMAP, MIB, heap_name, NULL, NULL);
    expect(status == HSHM_OK || status == HSHM_E_DEVICE, "a GPU kind answers something else than yes or HSHM_E_DEVICE");
    printf("GPU:         %s\n", status == HSHM_OK ? "there is one" : hshm_last_error());
}

int
main(void)
{
    begin("backend_selection");
    atexit(remove_file);
    void (*const kinds[])(void) = { shared_memory, private_memory, persistent_file, embedded_array, gpu };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        kinds[i]();
        leave_heap();
    }
    return EXIT_SUCCESS;
}
