/*
 * error.c - statuses, and the calling thread's last failure.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Local, per thread: long enough for a path, two sizes and a remedy. */
static _Thread_local struct {
    hshm_status status;
    char sentence[768];
    char errno_words[96];
} last;

hshm_status
fail(hshm_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    /* Through a copy: an argument may be the previous sentence itself. */
    char sentence[sizeof last.sentence];
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    memcpy(last.sentence, sentence, sizeof sentence);
    last.status = status;
    return status;
}

const char *
errno_text(int error)
{
    char words[64];
    (void)snprintf(last.errno_words, sizeof last.errno_words, "%s (errno %d)", strerror_r(error, words, sizeof words),
                   error);
    return last.errno_words;
}

struct size_text
size_text(uint64_t bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    struct size_text text;
    if (bytes < 1024) {
        (void)snprintf(text.s, sizeof text.s, "%llu bytes", (unsigned long long)bytes);
        return text;
    }
    double scaled = (double)bytes / 1024;
    size_t unit = 0;
    while (scaled >= 1024 && unit + 1 < COUNTOF(units)) {
        scaled /= 1024;
        unit++;
    }
    (void)snprintf(text.s, sizeof text.s, "%.1f %s (%llu)", scaled, units[unit], (unsigned long long)bytes);
    return text;
}

hshm_status
check_struct_size(const char *name, size_t struct_size, size_t needed)
{
    if (struct_size >= needed)
        return HSHM_OK;
    return fail(HSHM_E_INVAL, "%s.struct_size is %zu, at least %zu expected; start from its _INIT macro", name,
                struct_size, needed);
}

const char *
hshm_last_error(void)
{
    return last.sentence;
}

hshm_status
hshm_last_status(void)
{
    return last.status;
}

hshm_status
hshm_set_last_error(hshm_status status, const char *sentence)
{
    if (status != HSHM_OK)
        return fail(status, "%s", sentence != NULL ? sentence : hshm_status_text(status));
    last.sentence[0] = '\0';
    last.status = HSHM_OK;
    return HSHM_OK;
}

const char *
hshm_status_name(hshm_status status)
{
    switch (status) {
    case HSHM_OK:
        return "HSHM_OK";
#define STATUS_NAME(name, number, text) \
    case HSHM_E_##name:                 \
        return "HSHM_E_" #name;
        HSHM_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    }
    return "HSHM_E_?";
}

const char *
hshm_status_text(hshm_status status)
{
    switch (status) {
    case HSHM_OK:
        return "success";
#define STATUS_TEXT(name, number, text) \
    case HSHM_E_##name:                 \
        return text;
        HSHM_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "not a status of this library";
}
