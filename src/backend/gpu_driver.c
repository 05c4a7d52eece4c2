/*
 * gpu_driver.c - finding drivers and devices, and calling them with the right device current.
 */
#include "backend/gpu_driver.h"

#include <ctype.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "sync/liveness.h"
#include "sync/local_lock.h"

static const struct gpu_api *const apis[] = { &gpu_cuda, &gpu_hip };

/* Local: each vendor's driver in this process. */
static struct local_lock lock = LOCAL_LOCK_INIT;
static struct driver {
    void *library; /* never closed: drivers leave threads and handlers behind */
    char name[256];
    pid_t started_by; /* 0: not yet.  Another pid: by a parent, and it is of no use here */
} drivers[COUNTOF(apis)];

/* Not held over fork(), because drivers fork themselves (to load a kernel module) while they are being started. */
void
gpu_driver_fork_child(void)
{
    local_lock_init(&lock);
}

/* ---- starting a driver ---- */

/* A sentence's part: why a vendor's devices cannot be used. */
struct reason {
    char s[400];
};

static hshm_status because(struct reason *reason, hshm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static hshm_status
because(struct reason *reason, hshm_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason->s, sizeof reason->s, format, args);
    va_end(args);
    return status;
}

static hshm_status
status_of(const struct gpu_api *api, int code)
{
    if (code == api->out_of_memory)
        return HSHM_E_NOSPC;
    if (code == api->not_supported)
        return HSHM_E_NOTSUP;
    return code == api->not_permitted ? HSHM_E_PERM : HSHM_E_DEVICE;
}

/* "cuInit said 100 (CUDA_ERROR_NO_DEVICE, no CUDA-capable device is detected)" */
struct said {
    char s[256];
};
static struct said
said(const struct gpu_api *api, struct gpu_answer answer)
{
    struct said text;
    char words[160];
    api->explain(answer.code, words, sizeof words);
    (void)snprintf(text.s, sizeof text.s, "%s said %d (%s)", answer.call, answer.code, words);
    return text;
}

/* The first of the names that there is. */
static void *
open_first(const char *const *names, int flags, struct driver *driver)
{
    for (; *names != NULL; names++) {
        void *library = dlopen(*names, RTLD_NOW | RTLD_LOCAL | flags);
        if (library == NULL)
            continue;
        (void)snprintf(driver->name, sizeof driver->name, "%s", *names);
        return library;
    }
    return NULL;
}

/* The one that the program has already, if it has one: of two versions in one process neither knows the other's memory. */
static void *
open_library(const struct gpu_api *api, struct driver *driver, struct reason *reason)
{
    const char *only[] = { secure_getenv(api->variable), NULL };
    const char *const *names = only[0] != NULL && *only[0] != '\0' ? only : api->libraries;
    void *library = open_first(names, RTLD_NOLOAD, driver);
    if (library == NULL)
        library = open_first(names, 0, driver);
    if (library == NULL) {
        const char *words = dlerror();
        (void)because(reason, HSHM_E_DEVICE, "%s: there is no driver: %s", api->title, words == NULL ? *names : words);
    }
    return library;
}

static hshm_status
find_functions(const struct gpu_api *api, const struct driver *driver, struct reason *reason)
{
    for (size_t i = 0; i < api->symbol_count; i++) {
        const struct gpu_symbol *symbol = &api->symbols[i];
        *symbol->place = dlsym(driver->library, symbol->name);
        if (*symbol->place == NULL && symbol->needed)
            return because(reason, HSHM_E_DEVICE, "%s: the driver %s lacks the function %s; install a newer one",
                           api->title, driver->name, symbol->name);
    }
    return HSHM_OK;
}

/* Under the lock.  Failures are not remembered: a driver that comes later is found by the next call. */
static hshm_status
start_driver(size_t vendor, struct reason *reason)
{
    const struct gpu_api *api = apis[vendor];
    struct driver *driver = &drivers[vendor];
    if (driver->started_by == life_pid())
        return HSHM_OK;
    if (driver->started_by != 0)
        return because(
            reason, HSHM_E_DEVICE,
            "%s: this process was forked (from process %d) after its parent had started the driver, which cannot be "
            "used in such a child; use the GPU before fork() in neither, or exec in the child",
            api->title, (int)driver->started_by);
    if (driver->library == NULL)
        driver->library = open_library(api, driver, reason);
    if (driver->library == NULL)
        return HSHM_E_DEVICE;
    const hshm_status status = find_functions(api, driver, reason);
    if (status != HSHM_OK)
        return status;
    /* First, so that a child forked by another thread meanwhile does not use what is half started. */
    driver->started_by = life_pid();
    const struct gpu_answer answer = api->start();
    if (answer.code == 0)
        return HSHM_OK;
    driver->started_by = 0;
    return because(reason, HSHM_E_DEVICE, "%s: the driver %s cannot be started: %s%s", api->title, driver->name,
                   said(api, answer).s,
                   answer.code != api->not_started
                       ? ""
                       : "; so it says in a process that was forked by one that had used it: exec there");
}

/* How many devices a vendor has here; none is a failure. */
static hshm_status
count_devices(size_t vendor, int *ret_count, struct reason *reason)
{
    const struct gpu_api *api = apis[vendor];
    local_lock_take(&lock);
    const hshm_status status = start_driver(vendor, reason);
    local_lock_give(&lock);
    if (status != HSHM_OK)
        return status;
    const struct gpu_answer answer = api->count(ret_count);
    if (answer.code != 0)
        return because(reason, HSHM_E_DEVICE, "%s: devices cannot be counted: %s", api->title, said(api, answer).s);
    if (*ret_count <= 0)
        return because(reason, HSHM_E_DEVICE,
                       "%s: the driver %s is there, and no device that this process may see (CUDA_VISIBLE_DEVICES, "
                       "HIP_VISIBLE_DEVICES, the container's devices)",
                       api->title, drivers[vendor].name);
    return HSHM_OK;
}

/* ---- which device ---- */

struct gpu_uuid_text
gpu_uuid_text(const struct gpu_uuid *uuid)
{
    struct gpu_uuid_text text;
    char *at = text.s + snprintf(text.s, sizeof text.s, "GPU-");
    for (size_t i = 0; i < sizeof uuid->bytes; i++) {
        const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
        at += snprintf(at, sizeof text.s - (size_t)(at - text.s), "%s%02x", dash ? "-" : "", uuid->bytes[i]);
    }
    return text;
}

/* "GPU-" and 32 digits with dashes anywhere; or as rocminfo writes HIP's: 16 digits, which are its bytes as they are. */
static bool
parse_uuid(const char *text, struct gpu_uuid *ret_uuid)
{
    size_t digits = 0;
    if (strncmp(text, "GPU-", 4) != 0 && strncmp(text, "MIG-", 4) != 0)
        return false;
    if (strlen(text + 4) == sizeof ret_uuid->bytes &&
        strspn(text + 4, "0123456789abcdefABCDEF") == sizeof ret_uuid->bytes) {
        memcpy(ret_uuid->bytes, text + 4, sizeof ret_uuid->bytes);
        return true;
    }
    *ret_uuid = (struct gpu_uuid){ { 0 } };
    for (text += 4; *text != '\0'; text++) {
        if (*text == '-')
            continue;
        if (!isxdigit((unsigned char)*text) || digits == 2 * sizeof ret_uuid->bytes)
            return false;
        const int digit = isdigit((unsigned char)*text) ? *text - '0' : tolower((unsigned char)*text) - 'a' + 10;
        ret_uuid->bytes[digits / 2] = (uint8_t)(ret_uuid->bytes[digits / 2] << 4 | digit);
        digits++;
    }
    return digits == 2 * sizeof ret_uuid->bytes;
}

/* What the caller wants: a vendor (or any), and of it a number, an uuid, or what is current. */
struct wish {
    size_t first, end; /* vendors */
    int ordinal;       /* -1: the current one, or else the first */
    bool by_uuid;
    struct gpu_uuid uuid;
};

static hshm_status
parse_wish(const char *wanted, const char *what, struct wish *ret_wish)
{
    *ret_wish = (struct wish){ .first = 0, .end = COUNTOF(apis), .ordinal = -1 };
    if (wanted == NULL || *wanted == '\0')
        return HSHM_OK;
    ret_wish->by_uuid = parse_uuid(wanted, &ret_wish->uuid);
    if (ret_wish->by_uuid)
        return HSHM_OK;
    for (size_t vendor = 0; vendor < COUNTOF(apis); vendor++) {
        const size_t length = strlen(apis[vendor]->prefix);
        char *end = NULL;
        if (strncmp(wanted, apis[vendor]->prefix, length) != 0)
            continue;
        ret_wish->first = vendor;
        ret_wish->end = vendor + 1;
        if (wanted[length] == '\0')
            return HSHM_OK;
        const long ordinal = wanted[length] == ':' ? strtol(wanted + length + 1, &end, 10) : -1;
        if (end != NULL && end != wanted + length + 1 && *end == '\0' && ordinal >= 0 && ordinal < 65536) {
            ret_wish->ordinal = (int)ordinal;
            return HSHM_OK;
        }
    }
    return fail(HSHM_E_INVAL,
                "%s: '%.64s' names no GPU; \"cuda\", \"hip\", \"cuda:0\" and \"GPU-\" with the 32 digits of an uuid do",
                what, wanted);
}

/* Does the driver have what it takes? */
static hshm_status
check_functions(size_t vendor, enum gpu_purpose purpose, struct reason *reason)
{
    const struct gpu_api *api = apis[vendor];
    const char *lacks = purpose == GPU_FOR_MEMORY    ? api->lacks_memory()
                        : purpose == GPU_FOR_PINNING ? api->lacks_pinning()
                                                     : NULL;
    if (lacks == NULL)
        return HSHM_OK;
    return because(reason, HSHM_E_NOTSUP, "%s: the driver %s lacks the function %s; install a newer one", api->title,
                   drivers[vendor].name, lacks);
}

/* The number, in this process, of the device that is wished for. */
static hshm_status
find_ordinal(size_t vendor, const struct wish *wish, int count, int *ret_ordinal, struct reason *reason)
{
    const struct gpu_api *api = apis[vendor];
    if (!wish->by_uuid) {
        int ordinal = wish->ordinal;
        if (ordinal < 0 && (!api->current(&ordinal) || ordinal < 0 || ordinal >= count))
            ordinal = 0;
        *ret_ordinal = ordinal;
        if (ordinal < count)
            return HSHM_OK;
        return because(reason, HSHM_E_NOTFOUND, "%s: there is no device %d, but %d in all", api->title, ordinal, count);
    }
    int found = -1;
    for (int ordinal = 0; ordinal < count; ordinal++) {
        struct gpu_uuid uuid;
        const struct gpu_answer answer = api->uuid(ordinal, &uuid);
        if (answer.code != 0)
            return because(reason, status_of(api, answer.code), "%s: device %d does not tell its uuid: %s", api->title,
                           ordinal, said(api, answer).s);
        if (memcmp(&uuid, &wish->uuid, sizeof uuid) != 0)
            continue;
        if (found >= 0)
            return because(reason, HSHM_E_DEVICE,
                           "%s: devices %d and %d have the same uuid, %s, and cannot be told apart; "
                           "show the process one of them only (HIP_VISIBLE_DEVICES)",
                           api->title, found, ordinal, gpu_uuid_text(&uuid).s);
        found = ordinal;
    }
    if (found >= 0) {
        *ret_ordinal = found;
        return HSHM_OK;
    }
    return because(reason, HSHM_E_NOTFOUND, "%s: none of the %d devices that this process may see is %s", api->title,
                   count, gpu_uuid_text(&wish->uuid).s);
}

static hshm_status
open_of_vendor(size_t vendor, const struct wish *wish, enum gpu_purpose purpose, struct gpu_device *ret_device,
               struct reason *reason)
{
    const struct gpu_api *api = apis[vendor];
    struct gpu_device device = { .api = api, .pid = life_pid() };
    int count = 0;
    hshm_status status = count_devices(vendor, &count, reason);
    if (status == HSHM_OK)
        status = find_ordinal(vendor, wish, count, &device.ordinal, reason);
    if (status == HSHM_OK)
        status = check_functions(vendor, purpose, reason);
    if (status != HSHM_OK)
        return status;
    struct gpu_answer answer = api->uuid(device.ordinal, &device.uuid);
    if (answer.code == 0)
        answer = api->retain(device.ordinal, &device.context);
    if (answer.code != 0)
        return because(reason, status_of(api, answer.code), "%s: device %d cannot be used: %s", api->title,
                       device.ordinal, said(api, answer).s);
    *ret_device = device;
    return HSHM_OK;
}

static hshm_status
open_wished(const struct wish *wish, enum gpu_purpose purpose, const char *what, struct gpu_device *ret_device)
{
    struct reason reasons[COUNTOF(apis)];
    char all[sizeof reasons / 2] = "";
    hshm_status status = HSHM_E_DEVICE;
    for (size_t vendor = wish->first; vendor < wish->end; vendor++) {
        const hshm_status one = open_of_vendor(vendor, wish, purpose, ret_device, &reasons[vendor]);
        if (one == HSHM_OK)
            return HSHM_OK;
        /* That a device is not among those that are there says more than that there are none. */
        if (status == HSHM_E_DEVICE || one != HSHM_E_DEVICE)
            status = one;
        const size_t length = strlen(all);
        (void)snprintf(all + length, sizeof all - length, "%s%.*s", length == 0 ? "" : "; ", 190, reasons[vendor].s);
    }
    return fail(status, "%s: %s", what, wish->end - wish->first == 1 ? reasons[wish->first].s : all);
}

hshm_status
gpu_open(const char *wanted, enum gpu_purpose purpose, const char *what, struct gpu_device *ret_device)
{
    struct wish wish;
    const hshm_status status = parse_wish(wanted, what, &wish);
    return status != HSHM_OK ? status : open_wished(&wish, purpose, what, ret_device);
}

hshm_status
gpu_open_uuid(uint32_t vendor, const struct gpu_uuid *uuid, const char *what, struct gpu_device *ret_device)
{
    struct wish wish = { .by_uuid = true, .uuid = *uuid };
    while (wish.first < COUNTOF(apis) && (uint32_t)apis[wish.first]->vendor != vendor)
        wish.first++;
    wish.end = wish.first + 1;
    if (wish.first == COUNTOF(apis))
        return fail(HSHM_E_NOTSUP, "%s: its memory is of vendor %" PRIu32 ", which this build does not know", what,
                    vendor);
    return open_wished(&wish, GPU_FOR_MEMORY, what, ret_device);
}

hshm_status
gpu_usable(const struct gpu_device *device, const char *what)
{
    if (device->pid == life_pid())
        return HSHM_OK;
    return fail(
        HSHM_E_DEVICE,
        "%s: this process was forked after its parent (process %d) had started the %s driver, which cannot be used in "
        "such a child; exec, and attach there",
        what, (int)device->pid, device->api->title);
}

static hshm_status
failed(const struct gpu_device *device, const char *what, struct gpu_answer answer)
{
    return fail(status_of(device->api, answer.code), "%s: %s, on %s", what, said(device->api, answer).s,
                gpu_uuid_text(&device->uuid).s);
}

/* Of something that is to go: a driver that has ended itself (the process exits) has ended it. */
static hshm_status
ended(const struct gpu_device *device, const char *what, struct gpu_answer answer)
{
    return answer.code == 0 || answer.code == device->api->deinitialized ? HSHM_OK : failed(device, what, answer);
}

hshm_status
gpu_close(struct gpu_device *device, const char *what)
{
    const struct gpu_device closed = *device;
    *device = (struct gpu_device){ 0 };
    if (closed.api == NULL || closed.pid != life_pid())
        return HSHM_OK;
    return ended(&closed, what, closed.api->release(closed.ordinal, closed.context));
}

/* ---- calls ---- */

/* One call with the device current; in between, `answer` is the call's. */
struct visit {
    int kept;
};

static hshm_status
begin(const struct gpu_device *device, const char *what, struct visit *visit)
{
    const hshm_status status = gpu_usable(device, what);
    if (status != HSHM_OK)
        return status;
    const struct gpu_answer answer = device->api->enter(device, &visit->kept);
    return answer.code == 0 ? HSHM_OK : failed(device, what, answer);
}

/* The call's own failure is told first. */
static struct gpu_answer
leave(const struct gpu_device *device, const struct visit *visit, struct gpu_answer answer)
{
    const struct gpu_answer left = device->api->leave(device, visit->kept);
    return answer.code == 0 ? left : answer;
}

static hshm_status
end(const struct gpu_device *device, const char *what, const struct visit *visit, struct gpu_answer answer)
{
    answer = leave(device, visit, answer);
    return answer.code == 0 ? HSHM_OK : failed(device, what, answer);
}

#define VISIT(device, what, call)                               \
    struct visit visit;                                         \
    const hshm_status status = begin((device), (what), &visit); \
    return status != HSHM_OK ? status : end((device), (what), &visit, (device)->api->call)

/* The same for what ends something. */
#define END_OF(device, call, ret_answer)                                 \
    do {                                                                 \
        struct visit last;                                               \
        *(ret_answer) = (device)->api->enter((device), &last.kept);      \
        if ((ret_answer)->code == 0)                                     \
            *(ret_answer) = leave((device), &last, (device)->api->call); \
    } while (0)

#define LAST_VISIT(device, what, call)                       \
    struct gpu_answer answer;                                \
    const hshm_status status = gpu_usable((device), (what)); \
    if (status != HSHM_OK)                                   \
        return status;                                       \
    END_OF((device), call, &answer);                         \
    return ended((device), (what), answer)

/* When leaving failed after the call itself did not: what it got goes back, entered anew. */
static void
undo(const struct gpu_device *device, struct gpu_answer (*call)(uint64_t at), uint64_t at)
{
    struct visit visit;
    if (device->api->enter(device, &visit.kept).code == 0)
        (void)leave(device, &visit, call(at));
}

hshm_status
gpu_allocate(const struct gpu_device *device, const char *what, uint64_t size, uint64_t *ret_at)
{
    struct visit visit;
    uint64_t at = 0;
    hshm_status status = begin(device, what, &visit);
    if (status != HSHM_OK)
        return status;
    const struct gpu_answer answer = device->api->allocate(size, &at);
    status = end(device, what, &visit, answer);
    if (status == HSHM_OK)
        *ret_at = at;
    else if (answer.code == 0)
        undo(device, device->api->free, at);
    return status;
}

hshm_status
gpu_free(const struct gpu_device *device, const char *what, uint64_t at)
{
    LAST_VISIT(device, what, free(at));
}

hshm_status
gpu_get_handle(const struct gpu_device *device, const char *what, uint64_t at, struct gpu_handle *ret_handle)
{
    VISIT(device, what, get_handle(at, ret_handle));
}

hshm_status
gpu_open_handle(const struct gpu_device *device, const char *what, const struct gpu_handle *handle, uint64_t *ret_at)
{
    struct visit visit;
    uint64_t at = 0;
    hshm_status status = begin(device, what, &visit);
    if (status != HSHM_OK)
        return status;
    const struct gpu_answer answer = device->api->open_handle(handle, &at);
    status = end(device, what, &visit, answer);
    if (status == HSHM_OK)
        *ret_at = at;
    else if (answer.code == 0)
        undo(device, device->api->close_handle, at);
    return status;
}

hshm_status
gpu_close_handle(const struct gpu_device *device, const char *what, uint64_t at)
{
    LAST_VISIT(device, what, close_handle(at));
}

hshm_status
gpu_range(const struct gpu_device *device, const char *what, uint64_t at, uint64_t *ret_base, uint64_t *ret_size)
{
    VISIT(device, what, range(at, ret_base, ret_size));
}

hshm_status
gpu_copy_to(const struct gpu_device *device, const char *what, uint64_t at, const void *from, uint64_t size)
{
    VISIT(device, what, copy_to(at, from, size));
}

hshm_status
gpu_copy_from(const struct gpu_device *device, const char *what, void *to, uint64_t at, uint64_t size)
{
    VISIT(device, what, copy_from(to, at, size));
}

hshm_status
gpu_copy_within(const struct gpu_device *device, const char *what, uint64_t to, uint64_t from, uint64_t size)
{
    VISIT(device, what, copy_within(to, from, size));
}

hshm_status
gpu_fill(const struct gpu_device *device, const char *what, uint64_t at, uint8_t byte, uint64_t size)
{
    VISIT(device, what, fill(at, byte, size));
}

/* What a device may lack is said by name. */
static hshm_status
not_pinned(const struct gpu_device *device, const char *what, bool read_only, struct gpu_answer answer)
{
    if (!read_only || answer.code != device->api->not_supported)
        return failed(device, what, answer);
    return fail(HSHM_E_NOTSUP,
                "%s: %s, on %s; not every device can register memory that this process may only read (of CUDA's those "
                "whose attribute 113 is 1): attach with write permission, or with gpu = HSHM_GPU_OPTIONAL and without "
                "device addresses",
                what, said(device->api, answer).s, gpu_uuid_text(&device->uuid).s);
}

hshm_status
gpu_pin(const struct gpu_device *device, const char *what, void *base, uint64_t size, bool read_only, uint64_t *ret_at)
{
    struct visit visit;
    uint64_t at = 0;
    const hshm_status status = begin(device, what, &visit);
    if (status != HSHM_OK)
        return status;
    struct gpu_answer answer = device->api->pin(base, size, read_only);
    const bool pinned = answer.code == 0;
    if (pinned)
        answer = device->api->pinned_address(base, &at);
    if (pinned && answer.code != 0)
        (void)device->api->unpin(base);
    const bool good = answer.code == 0;
    answer = leave(device, &visit, answer);
    if (answer.code == 0) {
        *ret_at = at;
        return HSHM_OK;
    }
    if (good) {
        struct gpu_answer undone;
        END_OF(device, unpin(base), &undone);
        (void)undone;
    }
    return not_pinned(device, what, read_only, answer);
}

hshm_status
gpu_unpin(const struct gpu_device *device, const char *what, void *base, bool *ret_stays)
{
    struct gpu_answer answer;
    const hshm_status status = gpu_usable(device, what);
    if (status != HSHM_OK)
        return status;
    END_OF(device, unpin(base), &answer);
    *ret_stays =
        answer.code != 0 && answer.code != device->api->not_registered && answer.code != device->api->deinitialized;
    return ended(device, what, answer);
}

/* ---- for people ---- */

void
gpu_describe(const struct gpu_device *device, hshm_gpu_info *ret_info)
{
    *ret_info = (hshm_gpu_info){ .vendor = (hshm_gpu_vendor)device->api->vendor, .ordinal = (uint32_t)device->ordinal };
    (void)snprintf(ret_info->uuid, sizeof ret_info->uuid, "%s", gpu_uuid_text(&device->uuid).s);
    device->api->describe(device->ordinal, ret_info->name, sizeof ret_info->name, &ret_info->memory);
}

/* Those of one vendor; how many there are is added. */
static hshm_status
list_of_vendor(size_t vendor, hshm_gpu_info *ret_infos, size_t room, size_t *ret_count, struct reason *reason)
{
    int count = 0;
    hshm_status status = count_devices(vendor, &count, reason);
    for (int ordinal = 0; ordinal < count && status == HSHM_OK; ordinal++) {
        struct gpu_device device = { .api = apis[vendor], .ordinal = ordinal };
        const struct gpu_answer answer = device.api->uuid(ordinal, &device.uuid);
        if (answer.code != 0)
            status = because(reason, HSHM_E_DEVICE, "%s: device %d does not tell its uuid: %s", device.api->title,
                             ordinal, said(device.api, answer).s);
        else if (*ret_count < room)
            gpu_describe(&device, &ret_infos[*ret_count]);
        *ret_count += status == HSHM_OK;
    }
    return status;
}

hshm_status
hshm_gpu_list(hshm_gpu_info *ret_infos, size_t room, size_t *ret_count)
{
    struct reason reasons[COUNTOF(apis)];
    size_t count = 0;
    if (ret_count == NULL || (ret_infos == NULL && room != 0))
        return fail(HSHM_E_INVAL, "hshm_gpu_list: %s is NULL", ret_count == NULL ? "ret_count" : "ret_infos");
    for (size_t vendor = 0; vendor < COUNTOF(apis); vendor++)
        (void)list_of_vendor(vendor, ret_infos, room, &count, &reasons[vendor]);
    if (count == 0)
        return fail(HSHM_E_DEVICE, "no GPU can be used: %.190s; %.190s", reasons[0].s, reasons[1].s);
    *ret_count = count;
    return HSHM_OK;
}
