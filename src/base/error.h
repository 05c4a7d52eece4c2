/*
 * error.h - leave a status and a sentence behind.
 *
 * A sentence says what failed on which name or size, why (numbers included), and what to do.
 */
#ifndef HSHM_BASE_ERROR_H
#define HSHM_BASE_ERROR_H

#include <hshm/status.h>

#include "base/compiler.h"

/* Remember the sentence for this thread and return `status`, so that a caller can `return fail(...)`. */
hshm_status fail(hshm_status status, const char *format, ...) PRINTF_LIKE(2, 3);

/* The calling thread's last failure, for who does more after it that may fail too. */
struct sentence {
    hshm_status status;
    char s[768];
};
struct sentence sentence_keep(void);
void sentence_restore(const struct sentence *kept);

/* An errno as words with its name's number: "No space left on device (errno 28)".  Good until this thread's next one. */
const char *errno_text(int error);

/* A number of bytes for people: "64.0 MiB (67108864)".  Returned by value, so that several fit into one sentence. */
struct size_text {
    char s[48];
};
struct size_text size_text(uint64_t bytes);

/*
 * Check an option or result struct of the public API.
 * `struct_size` is its first word, `needed` the size of the oldest layout that was ever released.
 */
hshm_status check_struct_size(const char *name, size_t struct_size, size_t needed);

#endif
