/*
 * judge.h - a process that looks at images: each is put into a file of its own, on which nobody has a lock, so that everyone in it
 * is dead; and then it must be all that was promised.
 */
#ifndef HSHM_TESTS_CRASH_JUDGE_H
#define HSHM_TESTS_CRASH_JUDGE_H

#include "image.h"
#include "ledger.h"

struct judge; /* shared with its process */

/* What the judge found in one image. */
enum verdict { VERDICT_GOOD, VERDICT_CORRUPT, VERDICT_HANGS };

/* A judge for regions of that size, on a backend of that kind. */
struct judge *judge_start(hshm_backend_kind backend, size_t size, uint64_t seed);
void judge_end(struct judge *judge);

/*
 * What has become of `image`, in which the ledger tells what must be there, and a second one (or NULL) what else?  Where it is
 * not good, the judge has said why, and is a new one.  *ret_leak: live blocks that they do not know.
 */
enum verdict judge_image(struct judge *judge, const struct file_view *image, const struct ledger *ledger,
                         const struct ledger *other, uint32_t *ret_leak);

#endif
