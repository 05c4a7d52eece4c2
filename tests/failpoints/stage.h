/*
 * stage.h - one heap, one who is killed or stopped at a failpoint in the middle of a call, and what comes of it.
 */
#ifndef HSHM_TESTS_FAILPOINTS_STAGE_H
#define HSHM_TESTS_FAILPOINTS_STAGE_H

#include "crash/victim.h"
#include "points.h"

/* Where heaps are. */
enum { PLACE_SHM, PLACE_MIDDLE, PLACE_LAZY, PLACE_FILE, PLACES };

/* A process that comes by some failpoints: in which call, on which heap. */
struct scene {
    hshm_allocator_kind kind;
    unsigned place;
    const struct call *call;
    uint64_t seed;
    /* Before it another one is killed at this point, in a scene of the same place and seed. */
    const struct call *earlier_call; /* NULL: nobody is */
    const struct failpoint *earlier;
    uint32_t earlier_nth;
};

/* Which points does it come by? */
void scene_count(const struct scene *scene, struct tally *tally);

/*
 * It is killed at the nth time that it comes by the point, or stopped there while others go on; then the heap must be what it should
 * be.  False: it did not come by, this time.  Failures are told with all that is needed to repeat them, and end the test.
 */
bool scene_kill(const struct scene *scene, const struct failpoint *point, uint32_t nth);
bool scene_stop(const struct scene *scene, const struct failpoint *point, uint32_t nth);

/* As many as there are logs for are stopped in the middle of a call on a slot. */
void scene_hold_all_logs(hshm_allocator_kind kind, uint64_t seed);

/* Judges for each place, for all scenes. */
void stage_open(uint64_t seed);
void stage_close(void);

#endif
