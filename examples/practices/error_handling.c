/*
 * error_handling.c - each failure has a status to act on and a sentence to show; some pass by themselves, most do not.
 *
 * Advice: look at every status.  Try again, a little later each time, what others may be about to change: HSHM_E_NOTFOUND and
 * HSHM_E_NOTREADY (not created yet), HSHM_E_BUSY (still in use), HSHM_E_TIMEOUT.  All else stays as it is however often one
 * asks: show hshm_last_error(), which says what to do about it.  (To wait for a region, hshm_attach_options.timeout_ms alone
 * will do, and wakes up sooner than a loop.)
 */
#include "practice.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static const hshm_allocator_id id = { 1, 0 };
static hshm_manager *other; /* a second list of heaps in this process, as if it were another process */
static char junk_name[80];
static pid_t creator; /* another process, while the name that it makes may be there */

/* ---- Part one: what each looks like ----------------------------------------------------------------------------- */

static int shown;

static void
show(hshm_status status, hshm_status wanted)
{
    if (status != wanted)
        fprintf(stderr, "%s was to come, not %s\n", hshm_status_name(wanted), hshm_status_name(status));
    expect(status == wanted, "a failure is not reported as the header says");
    expect(hshm_last_status() == status && strlen(hshm_last_error()) > 20, "a failure came without its sentence");
    printf("  %-15s  %s\n                   %s\n", hshm_status_name(status), hshm_status_text(status),
           hshm_last_error());
    shown++;
}

static hshm_status
create(hshm_backend_id backend, hshm_backend_kind kind, size_t size, const char *name,
       const hshm_backend_options *options)
{
    return hshm_backend_create(NULL, backend, kind, size, name, options, NULL);
}

static hshm_status
attach(const char *name, const hshm_attach_options *options)
{
    return hshm_backend_attach(other, HSHM_BACKEND_POSIX_SHM_MMAP, name, options, NULL);
}

static void
failures_of_backends(void)
{
    const hshm_backend_kind shm = HSHM_BACKEND_POSIX_SHM_MMAP;
    hshm_backend_options one_process = lazy();
    one_process.slots = 1;
    hshm_attach_options wait = HSHM_ATTACH_OPTIONS_INIT;
    wait.timeout_ms = 20;

    show(create(BACKEND_ID, shm, MIB, "no/name", NULL), HSHM_E_INVAL);
    show(create(BACKEND_ID, shm, (size_t)1 << 46, heap_name, NULL), HSHM_E_NOSPC);
    show(create(BACKEND_ID, HSHM_BACKEND_GPU_MALLOC, MIB, "gpu", NULL), HSHM_E_DEVICE);
    show(attach(heap_name, NULL), HSHM_E_NOTFOUND);
    show(attach(heap_name, &wait), HSHM_E_TIMEOUT);
    check(create(BACKEND_ID, shm, MIB, heap_name, &one_process), "cannot create the backend");
    show(attach(heap_name, NULL), HSHM_E_NOTREADY);
    show(create(BACKEND_ID, shm, MIB, "another", NULL), HSHM_E_EXISTS);
    show(hshm_backend_remove(shm, heap_name), HSHM_E_BUSY);

    /* Something of that name which is no region. */
    snprintf(junk_name, sizeof junk_name, "%s.junk", heap_name);
    const int junk = shm_open(junk_name, O_CREAT | O_EXCL | O_RDWR, 0600);
    expect(junk >= 0 && ftruncate(junk, (off_t)MIB) == 0, "no shared memory for a name that is no region's");
    close(junk);
    show(attach(junk_name, NULL), HSHM_E_CORRUPT);
    shm_unlink(junk_name);
}

static void
failures_of_allocators(void)
{
    show(hshm_allocator_create(NULL, BACKEND_ID, id, HSHM_ALLOCATOR_MALLOC, 0, NULL, NULL), HSHM_E_NOTSUP);
    hshm_allocator *heap = NULL;
    check(hshm_allocator_create(NULL, BACKEND_ID, id, HSHM_ALLOCATOR_STACK, 0, NULL, &heap),
          "cannot create the allocator");
    show(attach(heap_name, NULL), HSHM_E_LIMIT);
    hshm_allocator *wrong = NULL;
    show(hshm_allocator_get(NULL, id, HSHM_ALLOCATOR_THREAD_LOCAL, &wrong), HSHM_E_KIND);

    hshm_ptr block = HSHM_PTR_NULL;
    show(hshm_allocate(heap, 2 * MIB, &block), HSHM_E_NOMEM);
    expect(block.addr == NULL && wrong == NULL, "a failed call changed what it returns through");
    void *taken = hshm_malloc(heap, 100);
    expect(taken != NULL, hshm_last_error());
    check(hshm_free(heap, taken), "cannot free a block");
    show(hshm_free(heap, taken), HSHM_E_BADFREE);

    hshm_attach_options look_only = HSHM_ATTACH_OPTIONS_INIT;
    look_only.read_only = true;
    check(attach(heap_name, &look_only), "cannot attach read-only");
    check(hshm_allocator_get(other, id, HSHM_ALLOCATOR_ANY, &heap), "no heap after attach");
    show(hshm_allocate(heap, 100, &block), HSHM_E_PERM);
    check(hshm_backend_detach(other, BACKEND_ID), "cannot leave the heap");
}

/* ---- Part two: what to do --------------------------------------------------------------------------------------- */

/* May it be different in a moment, without anything being done about it here? */
static bool
is_transient(hshm_status status)
{
    return status == HSHM_E_NOTFOUND || status == HSHM_E_NOTREADY || status == HSHM_E_BUSY || status == HSHM_E_TIMEOUT;
}

/* Try until it goes well, fails for good, or has failed 12 times: after 1, 2, 4 ... ms, 4 seconds in all. */
static hshm_status
retry(hshm_status (*attempt)(void), int *ret_attempts)
{
    hshm_status status = HSHM_OK;
    for (int i = 0; i < 12; i++) {
        status = attempt();
        *ret_attempts = i + 1;
        if (!is_transient(status))
            return status;
        sleep_ms(1L << i);
    }
    return status;
}

static hshm_status
attach_once(void)
{
    return hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, heap_name, NULL, NULL);
}

static hshm_status
remove_once(void)
{
    return hshm_backend_remove(HSHM_BACKEND_POSIX_SHM_MMAP, heap_name);
}

static hshm_status
attach_to_no_name(void)
{
    return hshm_backend_attach(NULL, HSHM_BACKEND_POSIX_SHM_MMAP, "no/name", NULL, NULL);
}

/* Another process, which makes the heap after a while, and stays in it for a while. */
static void
late_creator(void)
{
    const hshm_backend_options options = lazy();
    sleep_ms(20);
    check(create(BACKEND_ID, HSHM_BACKEND_POSIX_SHM_MMAP, MIB, heap_name, &options), "cannot create the backend");
    sleep_ms(20);
    check(hshm_allocator_create(NULL, BACKEND_ID, id, HSHM_ALLOCATOR_STACK, 0, NULL, NULL),
          "cannot create the allocator");
    sleep_ms(100);
    check(hshm_backend_detach(NULL, BACKEND_ID), "cannot leave the heap"); /* and leave its name to the other */
}

static void
clean_up(void)
{
    if (other != NULL)
        hshm_manager_destroy(other);
    shm_unlink(junk_name);
    if (creator == 0)
        return;
    /* The other process leaves its name to this one, which did not come so far. */
    hshm_backend_detach(NULL, BACKEND_ID);
    int attempts = 0;
    if (retry(remove_once, &attempts) != HSHM_OK)
        fprintf(stderr, "error_handling: '%s' stays: %s\n", heap_name, hshm_last_error());
}

int
main(void)
{
    begin("error_handling");
    atexit(clean_up);
    check(hshm_manager_create(&other), "no second manager");

    printf("What fails says so, each in its own words:\n");
    failures_of_backends();
    failures_of_allocators();
    check(hshm_backend_destroy(NULL, BACKEND_ID), "cannot destroy the backend");
    printf("%d kinds of failure were provoked.\n", shown);

    int attempts = 0;
    creator = start_process(late_creator);
    const hshm_status attached = retry(attach_once, &attempts);
    printf("Not there yet:  attached at attempt %d\n", attempts);
    check(attached, "cannot attach to what another process was to create");
    check(hshm_backend_detach(NULL, BACKEND_ID), "cannot leave the heap");

    const hshm_status removed = retry(remove_once, &attempts);
    printf("Still in use:   removed at attempt %d\n", attempts);
    check(removed, "cannot remove what another process has left");
    await_process(creator);
    creator = 0;

    const hshm_status never = retry(attach_to_no_name, &attempts);
    expect(never == HSHM_E_INVAL && attempts == 1, "what cannot succeed was tried again");
    printf("Wrong for good: given up after one attempt: %s\n", hshm_last_error());
    return EXIT_SUCCESS;
}
