/*
 * version.c - what hshm/version.h promises about releases.
 */
#include <hshm/version.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *
hshm_version(void)
{
    return TEXT(HSHM_VERSION_MAJOR) "." TEXT(HSHM_VERSION_MINOR) "." TEXT(HSHM_VERSION_PATCH);
}
