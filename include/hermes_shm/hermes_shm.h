/*
 * hermes_shm.h - the interface of the HSHM guide: all of it.
 */
#ifndef HERMES_SHM_HERMES_SHM_H
#define HERMES_SHM_HERMES_SHM_H

#include <hermes_shm/memory/memory_manager.h>

#endif
