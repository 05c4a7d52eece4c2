/*
 * slots.pml - calls with two places to change: allocate_to and free_from, as src/allocator/op_log.h has them, for slabs that threads
 * own.  Of the protocol, not of the code: here a log is a thread's, there an operation's.
 *
 * A user's slot is a word in the heap: EMPTY, FULL with a block, or RESERVED or CLAIMED by the thread that is changing it.
 *
 *     allocate_to   log; slot EMPTY -> RESERVED (CAS); the block's free bit cleared; slot -> FULL; log 0
 *     free_from     log; slot FULL -> CLAIMED (CAS); log: a new number, and the block; its bit set, free or remote; slot -> EMPTY;
 *                   log 0
 *     harvest       remote bits read; acks of the logs that match them (CAS-max); free bits set; remote bits cleared
 *
 * Frees are numbered, so that an ack says which of a thread's are known to be done.
 * Two owners with a slab of one block each, and two freers that free from whatever slot is full; one thread may be killed at any
 * step, and who recovers it too.  The slab of a dead owner is adopted by the other one.
 *
 * Not here: more blocks than one a word (that a dead one's slab is adopted only after its log was seen to, matters there); what a
 * slot says that is read while it changes; the flag that spares the look at all logs.
 *
 * Must hold
 *     no block is in two slots, or in a slot and free
 *     at the end, each block is in one slot, or free: a kill costs nothing
 *     no slot is left RESERVED or CLAIMED
 */
#ifndef CALLS
#define CALLS 1 /* of owner 0 */
#endif
#ifndef CALLS_OTHER
#define CALLS_OTHER 1 /* of owner 1 */
#endif
#ifndef FREES
#define FREES 1 /* of freer 2 */
#endif
#ifndef FREES_OTHER
#define FREES_OTHER 1 /* of freer 3 */
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef VICTIM
#define VICTIM 2
#endif

#define EMPTY 0
#define FULL 1
#define RESERVED 2
#define CLAIMED 3
#define SLOT(state, b, who) ((state) | (b) << 2 | (who) << 3)
#define STATE(v) ((v) & 3)
#define BLOCK(v) ((v) >> 2 & 1)
#define WHO(v) ((v) >> 3)

byte slot[2];   /* the users' */
byte log[6];    /* by thread: 0, or slot + 1                       */
byte block[6];  /* ... 0, or the block that it frees, + 1          */
byte seq[6];    /* ... which free that is                          */
byte ack[6];    /* ... the highest one that is known to be done    */
bit free[2];    /* by slab, of one block each */
bit remote[2];
byte own[2];    /* thread + 1; 0: an orphan */

bool dead[6];
bool done[6];
bool clean[6];

/* harvest(): acks first, then free bits, then remote bits */
inline harvest(s) {
    if
    :: remote[s] ->
       t = 0;
       do
       :: t < 4 ->
          /* acknowledge() */
          got = seq[t];
          if
          :: block[t] == s + 1 ->
             if
             :: remote[s] || free[s] ->
#ifdef MISTAKE_ACK_STORED
                ack[t] = got
#else
                atomic { if :: ack[t] < got -> ack[t] = got :: else fi }
#endif
             :: else
             fi
          :: else
          fi;
          atomic { t++; got = 0 }
       :: else -> t = 0; break
       od;
#ifdef MISTAKE_REMOTE_FIRST
       remote[s] = 0;
       free[s] = 1
#else
       free[s] = 1;
       remote[s] = 0
#endif
    :: else
    fi
}

/* op_log_free(): the number first; who sees the block free asks for the block */
inline write_block(b) {
    seq[me]++;
    block[me] = (b) + 1
}

/* op_end() */
inline end_log() {
    block[me] = 0;
    log[me] = 0
}

inline allocate_to(u, s) {
    log[me] = u + 1;
    atomic {
        if
        :: slot[u] == EMPTY -> slot[u] = SLOT(RESERVED, s, me); ok = true
        :: else -> ok = false
        fi
    };
    if
    :: ok ->
#ifdef MISTAKE_FULL_FIRST
       slot[u] = SLOT(FULL, s, 0);
       atomic { assert(free[s]); free[s] = 0 }
#else
       atomic { assert(free[s]); free[s] = 0 };
       slot[u] = SLOT(FULL, s, 0)
#endif
    :: else
    fi;
    end_log();
    ok = false
}

inline free_from(u) {
    v = slot[u];
    log[me] = u + 1;
#ifdef FOUND_BLOCK_EARLY
    /* As it was: another's free of the block was taken for this one's, if the slot got it anew before it was CLAIMED. */
    write_block(BLOCK(v));
#endif
    atomic {
        if
        :: STATE(v) == FULL && slot[u] == v -> v = SLOT(CLAIMED, BLOCK(v), me); slot[u] = v; ok = true
        :: else -> ok = false
        fi
    };
    if
    :: ok ->
#ifndef FOUND_BLOCK_EARLY
       write_block(BLOCK(v));
#endif
       /* Only the owner sets the free bit. */
       if
       :: own[BLOCK(v)] == me + 1 -> atomic { assert(!free[BLOCK(v)] && !remote[BLOCK(v)]); free[BLOCK(v)] = 1 }
       :: else -> atomic { assert(!free[BLOCK(v)] && !remote[BLOCK(v)]); remote[BLOCK(v)] = 1 }
       fi;
       slot[u] = EMPTY
    :: else
    fi;
    end_log();
    atomic { ok = false; v = 0 }
}

#define FORGET i = 0; t = 0; got = 0; v = 0; ok = false

proctype owner(byte me; byte calls) {
    byte i, t, got, v;
    bool ok;
    {
        do
        :: i < calls ->
           i++;
           if
           :: own[0] == me + 1 && free[0] -> allocate_to(0, 0)
           :: own[1] == me + 1 && free[1] -> allocate_to(1, 1)
           :: own[1] == me + 1 && free[1] -> allocate_to(0, 1)
           :: STATE(slot[0]) == FULL -> free_from(0)
           :: own[0] == me + 1 -> harvest(0)
           :: own[1] == me + 1 -> harvest(1)
           :: atomic { own[0] == 0 -> own[0] = me + 1 }; harvest(0)
           :: true
           fi
        :: else -> break
        od;
        atomic { done[me] = true; FORGET }
    } unless {
        atomic { dead[me] -> FORGET }
    }
}

proctype freer(byte me; byte calls) {
    byte i, t, got, v;
    bool ok;
    {
        do
        :: i < calls ->
           i++;
           if
           :: STATE(slot[0]) == FULL -> free_from(0)
           :: STATE(slot[1]) == FULL -> free_from(1)
           :: true
           fi
        :: else -> break
        od;
        atomic { done[me] = true; FORGET }
    } unless {
        atomic { dead[me] -> FORGET }
    }
}

/* Of a dead thread: what its log says, then its slabs become orphans. */
inline recover(p) {
    got = log[p];
    if
    :: got != 0 ->
       v = slot[got - 1];
       if
       :: STATE(v) == RESERVED && WHO(v) == p ->
          free[BLOCK(v)] = 1;
          slot[got - 1] = EMPTY
       :: STATE(v) == CLAIMED && WHO(v) == p ->
          ok = own[BLOCK(v)] == p + 1;
          if
          :: ok -> free[BLOCK(v)] = 1
          :: else ->
#ifdef MISTAKE_ACK_UNSEEN
             atomic { if :: !remote[BLOCK(v)] -> remote[BLOCK(v)] = 1 :: else fi }
#else
#ifdef MISTAKE_ACK_BEFORE_BIT
             atomic { t = block[p] != 0 && ack[p] >= seq[p] };
             if
             :: !remote[BLOCK(v)] && !t -> remote[BLOCK(v)] = 1
             :: else
             fi
#else
             if
             :: !remote[BLOCK(v)] ->
                if
#ifdef MISTAKE_ACK_UNNAMED
                :: ack[p] < seq[p] -> remote[BLOCK(v)] = 1
#else
                :: block[p] == 0 || ack[p] < seq[p] -> remote[BLOCK(v)] = 1
#endif
                :: else
                fi
             :: else
             fi
#endif
#endif
          fi;
          slot[got - 1] = EMPTY
       :: else
       fi;
       block[p] = 0;
       log[p] = 0
    :: else
    fi;
    atomic { if :: own[0] == p + 1 -> own[0] = 0 :: else fi };
    atomic { if :: own[1] == p + 1 -> own[1] = 0 :: else fi };
    atomic { clean[p] = true; got = 0; v = 0; t = 0; ok = false }
}

proctype cleaner(byte me) {
    byte got, v, t;
    bool ok;
    {
        if
        :: atomic { !done[VICTIM] -> dead[VICTIM] = true }; recover(VICTIM)
        :: true
        fi;
        done[me] = true
    } unless {
        atomic { dead[me] -> got = 0; v = 0; t = 0; ok = false }
    }
}

proctype next_cleaner(byte me) {
    byte got, v, t;
    bool ok;
    if
    :: atomic { !done[4] -> dead[4] = true };
       if
       :: dead[VICTIM] -> recover(VICTIM)
       :: else
       fi;
       clean[4] = true
    :: true
    fi;
    done[me] = true
}

#define GONE(p) (done[p] || clean[p])
#define IN(u, b) (STATE(slot[u]) != EMPTY && BLOCK(slot[u]) == (b))

/* Whatever happens meanwhile: a block that a FULL slot has is not free, nor in the other one. */
#define IS_TWICE(b) ((slot[0] == SLOT(FULL, b, 0)) + (slot[1] == SLOT(FULL, b, 0)) + (free[b] || remote[b]) > 1)

proctype look() {
    byte b;
    do
    :: atomic { IS_TWICE(0) || IS_TWICE(1) -> assert(false) }
    :: atomic {
           GONE(0) && GONE(1) && GONE(2) && GONE(3) && GONE(4) && GONE(5) ->
           do
           :: b < 2 ->
              assert((STATE(slot[b]) == EMPTY || STATE(slot[b]) == FULL) && IN(0, b) + IN(1, b) + (free[b] || remote[b]) == 1);
              b++
           :: else -> break
           od
       };
       break
    od
}

init {
    atomic {
        own[0] = 1;
        own[1] = 2;
        slot[0] = SLOT(FULL, 0, 0);
        slot[1] = SLOT(FULL, 1, 0);
        done[4] = KILLS < 1;
        done[5] = KILLS < 2;
        run owner(0, CALLS);
        run owner(1, CALLS_OTHER);
        run freer(2, FREES);
#if FREES_OTHER > 0
        run freer(3, FREES_OTHER);
#else
        done[3] = true;
#endif
#if KILLS > 0
        run cleaner(4);
#endif
#if KILLS > 1
        run next_cleaner(5);
#endif
        run look()
    }
}
