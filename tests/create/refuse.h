/*
 * refuse.h - let system calls fail as they do on file systems and kernels that lack them.
 *
 * By a seccomp filter over the calling process and its children, for good.
 */
#ifndef HSHM_TESTS_CREATE_REFUSE_H
#define HSHM_TESTS_CREATE_REFUSE_H

#include <stdbool.h>

/* open() with O_TMPFILE fails with EOPNOTSUPP.  False when there are no filters here. */
bool refuse_tmpfile(void);

/* renameat2() fails with EINVAL, as where RENAME_NOREPLACE is unknown. */
bool refuse_renameat2(void);

#endif
