/*
 * thread.pml - who owns a slab, and how its blocks come back to it: src/allocator/alloc_thread.c, and orphan(),
 * slab_retire_orphan(), mail_everyone() and slab_recover_process() of src/allocator/slab_recover.c.
 *
 * Owner 0 begins with a slab, owner 1 without; each takes and frees blocks, reads mail, harvests, gives slabs free or makes them
 * anew, adopts, and may end.  Freers free blocks that owners took.  One thread (a process each) may be killed at any step; who
 * recovers it may be killed as well, and the next one recovers both.
 *
 * Must hold
 *     no block is given to two; none is taken by who does not own the slab; no slab goes free with a live block
 *     in a slab, a block is free or held, always: a kill costs at most the block that its victim was about to free
 *     at the end, an owner that has read its mail has all blocks that others freed; an orphan with free blocks stands on the
 *     shelf, and one without a live block is free; no slab is locked, or of who is gone
 *
 * Not here: in which order an owner uses its slabs (any); classes; more than one word of bits; slices (slices.pml).
 */
#ifndef SLICES
#define SLICES 1
#endif
#ifndef FREERS
#define FREERS 2
#endif
#ifndef CALLS
#define CALLS 2 /* of owner 0 */
#endif
#ifndef CALLS_OTHER
#define CALLS_OTHER 2 /* of owner 1 */
#endif
#ifndef HELD
#define HELD 2 /* blocks that owner 0 has taken already */
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef VICTIM
#define VICTIM 0 /* owners 0, 1; freers 2, 3 */
#endif
#define MASK 3 /* two blocks a slab */

#define IS 1
#define NEWS 2
#define LOCKED 4
#define OF_SLOT(slot) (IS | ((slot) + 1) << 3)
#define SLOT(o) ((o) >> 3 & 3) /* + 1; 0: nobody's */
#define LOCKED_BY(p) (IS | LOCKED | (p) << 5)
#define WHO(o) ((o) >> 5)

#define FREE 0
#define CLAIMED 1
#define SLAB 2
#define FREEING 3
#define WORD(state, p) ((state) | (p) << 2)

byte word[SLICES];
short own[SLICES];
byte bits[SLICES];
byte remote[SLICES];
byte shelf;
byte slot_owner[2]; /* process + 1 */
byte mail[2];       /* by slot: a bit a slice */
bool which[2];      /* `mail` of struct slab_thread */

bool held[SLICES * 2];
bool freeing[6]; /* by process: a block of its is neither held nor free */
byte lost;
bool dead[6];
bool done[6];
bool clean[6];

/* A slab's slices become free; `cond` is that the word is as it was found. */
#define BEGIN_FREE(s) word[s] == SLAB -> assert(!held[(s) * 2] && !held[(s) * 2 + 1]); word[s] = WORD(FREEING, me)

/* run_free() by who has the slab. */
inline free_slab(s) {
    atomic { assert(word[s] == SLAB); BEGIN_FREE(s) };
    own[s] = 0;
    word[s] = FREE
}

/* slab_retire_orphan(); gone: it is free now */
inline retire_orphan(s) {
    do
    :: atomic { o = own[s]; gone = false };
       if
       :: word[s] != SLAB -> break
       :: else
       fi;
       x = bits[s];
       if
       :: atomic { (x | remote[s]) != MASK -> x = 0; break }
       :: else
       fi;
#ifdef MISTAKE_RETIRE_UNLOCKED
       if
       :: (o & ~NEWS) == IS -> atomic { if :: BEGIN_FREE(s); gone = true :: else fi }; own[s] = 0; word[s] = FREE
       :: else
       fi;
       break
#else
       atomic {
           if
           :: (o & ~NEWS) == IS && own[s] == o -> own[s] = LOCKED_BY(me)
           :: else -> x = 0; break
           fi
       };
       x = bits[s];
       if
       :: atomic { (x | remote[s]) == MASK -> x = 0 };
          atomic {
              if
              :: BEGIN_FREE(s); gone = true
              :: else
              fi
          };
          if
          :: gone -> own[s] = 0; word[s] = FREE; break
          :: else
          fi
       :: else
       fi;
       own[s] = IS;
       shelf = shelf | 1 << s
#endif
    od;
    atomic { o = 0; x = 0 }
}

/* harvest() */
inline harvest(s) {
#ifndef MISTAKE_NEWS_LATE
    own[s] = own[s] & ~NEWS;
#endif
    seen = remote[s];
    do
    :: else -> break
    :: seen != 0 ->
#ifdef MISTAKE_REMOTE_FIRST
       remote[s] = remote[s] & ~seen;
       bits[s] = bits[s] | seen;
       seen = 0
#else
       bits[s] = bits[s] | seen;
#ifdef MISTAKE_REMOTE_ALL
       atomic { remote[s] = 0; seen = 0 }
#else
       atomic { x = remote[s]; remote[s] = x & ~seen; seen = x & ~seen; x = 0 }
#endif
#endif
    od;
#ifdef MISTAKE_NEWS_LATE
    own[s] = own[s] & ~NEWS
#endif
}

/* send_mail() */
inline send_mail(slot) {
    mail[slot] = mail[slot] | 1 << s;
    which[slot] = true
}

/* free_remote(), bring_news(), of block `b` of slice s, which is picked */
inline free_remote() {
#ifdef MISTAKE_OWNER_FIRST
    o = own[s];
#endif
    atomic {
        assert(((bits[s] | remote[s]) & 1 << (b & 1)) == 0);
        remote[s] = remote[s] | 1 << (b & 1);
        freeing[me] = false
    };
#ifdef MISTAKE_OWNER_FIRST
    atomic {
        if
        :: own[s] == o && (o & NEWS) == 0 -> own[s] = o | NEWS; first = true
        :: else
        fi
    };
#else
    do
    :: atomic {
           o = own[s];
           if
           :: (o & (IS | LOCKED | NEWS)) != IS -> break
           :: else
           fi
       };
       atomic {
           if
           :: own[s] == o -> own[s] = o | NEWS; first = true; break
           :: else
           fi
       }
    od;
#endif
    if
    :: SLOT(o) != 0 && first -> send_mail(SLOT(o) - 1)
    :: SLOT(o) == 0 && (o & ~NEWS) == IS ->
       if
       :: atomic { first -> shelf = shelf | 1 << s }
       :: else
       fi;
       x = bits[s];
       if
       :: atomic { (x | remote[s]) == MASK -> x = 0 }; retire_orphan(s)
       :: else
       fi
    :: else
    fi
}

/* A process that is over shall not make states differ. */
#define FORGET b = 0; s = 0; x = 0; o = 0; first = false; gone = false
#define FORGET_ALL FORGET; slot = 0; owned = 0; i = 0; seen = 0; got = 0
#define FORGET_CLEANING s = 0; x = 0; got = 0; dead_slots = 0; o = 0; gone = false

/* Is the slab this thread's, as far as it knows in private memory? */
#define MINE(s) (owned >> (s) & 1)

inline look_at(s) {
    if
    :: MINE(s) -> harvest(s)
    :: else
    fi
}

/* read_mail() */
inline read_mail() {
    atomic {
        if
        :: which[slot] -> which[slot] = false; first = true
        :: else
        fi
    };
    if
    :: first ->
       atomic { first = false; got = mail[slot]; mail[slot] = 0 };
       if
       :: got & 1 -> look_at(0)
       :: else
       fi;
#if SLICES > 1
       if
       :: got & 2 -> look_at(1)
       :: else
       fi;
#endif
       got = 0
    :: else
    fi
}

/* make_slab(), slab_begin() from a claim */
inline begin_slab(s) {
    atomic { bits[s] = MASK; remote[s] = 0 };
    own[s] = OF_SLOT(slot);
    atomic { assert(word[s] == WORD(CLAIMED, me)); word[s] = SLAB; owned = owned | 1 << s }
}

/* take_class(): a block of a slab that this thread has */
#define TAKE(s, n)                                                                          \
    atomic {                                                                                \
        MINE(s) && (bits[s] >> (n) & 1) == 1 ->                                             \
        assert(!held[(s) * 2 + (n)] && SLOT(own[s]) == slot + 1 && word[s] == SLAB);        \
        bits[s] = bits[s] & ~(1 << (n));                                                    \
        held[(s) * 2 + (n)] = true                                                          \
    }

/* thread_free() of one's own: hshm_inline_give(), give_own() */
#define GIVE(s, n)                                                                          \
    atomic {                                                                                \
        MINE(s) && held[(s) * 2 + (n)] ->                                                   \
        assert(((bits[s] | remote[s]) >> (n) & 1) == 0);                                    \
        bits[s] = bits[s] | 1 << (n);                                                       \
        held[(s) * 2 + (n)] = false                                                         \
    }

/* leave_slab() */
inline leave_slab(s) {
    harvest(s);
    if
    :: bits[s] == MASK -> free_slab(s)
    :: else ->
       own[s] = IS;
#ifndef MISTAKE_LEAVE_UNSEEN
       x = bits[s];
       if
       :: (x | remote[s]) != 0 -> shelf = shelf | 1 << s
       :: else
       fi;
#else
       if
       :: bits[s] != 0 -> shelf = shelf | 1 << s
       :: else
       fi;
#endif
       retire_orphan(s)
    fi;
    owned = owned & ~(1 << s)
}

/* adopt(), adopt_slice() */
inline adopt(s) {
    atomic { (shelf >> s & 1) == 1 -> shelf = shelf & ~(1 << s) };
    got = word[s];
    o = own[s];
    if
    :: got == SLAB && (o & ~NEWS) == IS ->
       atomic {
           if
           :: own[s] == o -> own[s] = OF_SLOT(slot); owned = owned | 1 << s
           :: else
           fi
       };
       look_at(s)
    :: else
    fi;
    atomic { o = 0; got = 0 }
}

#define FOR_EACH_SLICE(what)  \
    if                        \
    :: what(0)                \
    :: what(SLICES - 1)       \
    fi

proctype owner(byte me; byte calls) {
    byte slot, owned, i, s, x, seen, got, b;
    short o;
    bool first, gone;
    {
        /* take_slot() */
        atomic {
            if
            :: slot_owner[0] == 0 || slot_owner[0] == me + 1 -> slot = 0
            :: else -> assert(slot_owner[1] == 0); slot = 1
            fi;
            slot_owner[slot] = me + 1;
            owned = (me == 0)
        };
        do
        :: i < calls ->
           atomic { i++; s = 0 };
#if SLICES > 1
           select(s : 0 .. SLICES - 1);
#endif
           if
           :: TAKE(s, 0)
           :: TAKE(s, 1)
           :: GIVE(s, 0)
           :: GIVE(s, 1)
           :: read_mail()
           :: MINE(s) -> harvest(s)
           :: atomic { MINE(s) && bits[s] == MASK };
              if
              :: free_slab(s)
              :: /* run_keep(), and made a slab again */
                 atomic { assert(word[s] == SLAB && !held[s * 2] && !held[s * 2 + 1]); word[s] = WORD(CLAIMED, me) };
                 own[s] = 0;
                 begin_slab(s);
                 owned = owned | 4
              fi;
              atomic {
                  if
                  :: owned & 4 -> owned = owned & ~4
                  :: else -> owned = owned & ~(1 << s)
                  fi
              }
           :: atomic { word[s] == FREE -> word[s] = WORD(CLAIMED, me) }; begin_slab(s)
           :: adopt(s)
           :: true
           fi
        :: else -> break
        od;
        if
        :: true -> /* stays: what others freed must reach it when it looks next */
           atomic { done[me] = true; FORGET_ALL }
        :: true -> /* end_heap() */
           if
           :: MINE(0) -> leave_slab(0)
           :: else
           fi;
#if SLICES > 1
           if
           :: MINE(1) -> leave_slab(1)
           :: else
           fi;
#endif
           atomic { slot_owner[slot] = 0; done[me] = true; FORGET_ALL }
        fi
    } unless {
        atomic { dead[me] -> FORGET_ALL }
    }
}

proctype freer(byte me) {
    byte s, x, b;
    short o;
    bool first, gone;
    {
        if
        :: atomic { held[0] -> held[0] = false; freeing[me] = true; b = 0; s = 0; assert(word[0] == SLAB) }; free_remote()
        :: atomic { held[1] -> held[1] = false; freeing[me] = true; b = 1; s = 0; assert(word[0] == SLAB) }; free_remote()
#if SLICES > 1
        :: atomic { held[2] -> held[2] = false; freeing[me] = true; b = 2; s = 1; assert(word[1] == SLAB) }; free_remote()
        :: atomic { held[3] -> held[3] = false; freeing[me] = true; b = 3; s = 1; assert(word[1] == SLAB) }; free_remote()
#endif
        :: true
        fi;
        atomic { done[me] = true; FORGET }
    } unless {
        atomic { dead[me] -> FORGET }
    }
}

/* slab_recover_process() */
inline recover(p) {
    dead_slots = (slot_owner[0] == p + 1) + 2 * (slot_owner[1] == p + 1);
#ifdef MISTAKE_SLOTS_FIRST
    atomic { if :: dead_slots & 1 -> slot_owner[0] = 0 :: else fi; if :: dead_slots & 2 -> slot_owner[1] = 0 :: else fi };
#endif
    s = 0;
    do
    :: s < SLICES ->
       got = word[s];
       if
       :: got == SLAB ->
          o = own[s];
          if
          :: (SLOT(o) != 0 && (dead_slots >> (SLOT(o) - 1) & 1) == 1) || ((o & LOCKED) != 0 && WHO(o) == p) ->
             /* orphan() */
             own[s] = IS;
             shelf = shelf | 1 << s;
             retire_orphan(s)
          :: (o & ~NEWS) == IS ->
             retire_orphan(s);
             if
             :: !gone -> shelf = shelf | 1 << s
             :: else
             fi
          :: else
          fi
       :: got == WORD(CLAIMED, p) || got == WORD(FREEING, p) -> own[s] = 0; word[s] = FREE
       :: else
       fi;
       atomic { s++; got = 0; o = 0; gone = false }
    :: else -> s = 0; break
    od;
    /* mail_everyone() */
#ifndef MISTAKE_NO_MAIL
    do
    :: s < 2 ->
       if
       :: slot_owner[s] != 0 -> mail[s] = 3; which[s] = true
       :: else
       fi;
       s++
    :: else -> s = 0; break
    od;
#endif
    /* free_dead_threads() */
    if
    :: dead_slots & 1 -> slot_owner[0] = 0
    :: else
    fi;
    if
    :: dead_slots & 2 -> slot_owner[1] = 0
    :: else
    fi;
    atomic { dead_slots = 0; clean[p] = true }
}

#define KILL(p) !done[p] -> dead[p] = true; lost = lost + freeing[p]; freeing[p] = false

/* slab_recover(): who holds the dead one's lock recovers it. */
proctype cleaner(byte me) {
    byte s, x, got, dead_slots;
    short o;
    bool gone;
    {
        if
        :: atomic { KILL(VICTIM) }; recover(VICTIM)
        :: true
        fi;
        atomic { done[me] = true; FORGET_CLEANING }
    } unless {
        atomic { dead[me] -> FORGET_CLEANING }
    }
}

proctype next_cleaner(byte me) {
    byte s, x, got, dead_slots;
    short o;
    bool gone;
    if
    :: atomic { KILL(4) };
       if
       :: dead[VICTIM] -> recover(VICTIM)
       :: else
       fi;
       recover(4)
    :: true
    fi;
    atomic { done[me] = true; FORGET_CLEANING }
}

#define GONE(p) (done[p] || clean[p])

proctype look() {
    byte s, i, missing;
    GONE(0) && GONE(1) && GONE(2) && GONE(3) && GONE(4) && GONE(5);
    atomic {
        do
        :: s < SLICES ->
           if
           :: word[s] == FREE -> assert(own[s] == 0 && !held[s * 2] && !held[s * 2 + 1])
           :: else ->
              assert(word[s] == SLAB && (own[s] & LOCKED) == 0);
              i = 0;
              do
              :: i < 2 ->
                 assert(!(held[s * 2 + i] && ((bits[s] | remote[s]) >> i & 1) != 0));
                 missing = missing + (!held[s * 2 + i] && ((bits[s] | remote[s]) >> i & 1) == 0);
                 i++
              :: else -> break
              od;
              if
              :: SLOT(own[s]) != 0 ->
                 /* Its owner lives, and will find what is there, in its mail or in its own record. */
                 assert(slot_owner[SLOT(own[s]) - 1] != 0 && !dead[slot_owner[SLOT(own[s]) - 1] - 1]);
                 assert(remote[s] == 0 || (which[SLOT(own[s]) - 1] && (mail[SLOT(own[s]) - 1] >> s & 1) == 1))
              :: else ->
                 assert((bits[s] | remote[s]) != MASK);
                 assert((bits[s] | remote[s]) == 0 || (shelf >> s & 1) == 1)
              fi
           fi;
           s++
        :: else -> break
        od;
        assert(missing <= lost)
    }
}

init {
    atomic {
        word[0] = SLAB;
        own[0] = OF_SLOT(0);
        slot_owner[0] = 1;
        bits[0] = MASK & ~((1 << HELD) - 1);
        held[0] = HELD > 0;
        held[1] = HELD > 1;
        done[3] = FREERS < 2;
        done[4] = KILLS < 1;
        done[5] = KILLS < 2;
        run owner(0, CALLS);
        run owner(1, CALLS_OTHER);
        run freer(2);
#if FREERS > 1
        run freer(3);
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
