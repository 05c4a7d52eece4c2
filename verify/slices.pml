/*
 * slices.pml - who has which slices: src/allocator/run.c, and what src/allocator/slab_recover.c does with them.
 *
 * Two processes claim rows of slices, make slabs and large blocks of them, free, keep, idle, grow and shrink these, also those
 * that the other made.  Either may be killed at any step.  Then its words are recovered while the other goes on; who
 * recovers may be killed as well, and another one begins anew.
 *
 * Every statement that touches a shared word is one step; sequences of them are not atomic, unless one instruction does it.
 *
 * Must hold
 *     no slice is in two things            `in` tells which one it is in; checked at each claim, publication and free
 *     nothing is lost                      at the end each word is free, or of a whole slab, large block or idle run
 *     a taken bit equals its word          at the end, if nobody was killed
 *     a kill costs one block at most       that its victim was about to free
 *
 * Not here: what `lowest`, `used`, `dirty` and `idle` say (hints); pages; ZERO or DIRTY; which room a search finds: any.
 */
#ifndef N
#define N 3 /* slices */
#endif
#ifndef CALLS
#define CALLS 1 /* of the process that is killed, if one is */
#endif
#ifndef CALLS_SURVIVOR
#define CALLS_SURVIVOR 2
#endif
#ifndef CALLS_THIRD
#define CALLS_THIRD 0 /* of another survivor */
#endif
#ifndef START
#define START 0 /* what there is already: 0 nothing, 1 a block of 3 slices, 2 one of 2, 3 a slab of 2, 4 an idle run of 2 */
#endif
#ifndef KILLS
#define KILLS 1 /* 0, 1, or 2: the second one's victim is who recovers */
#endif

/* A slice's word: state, process, count. */
#define FREE 0
#define CLAIMED 2
#define SLAB 3
#define RUN 4
#define REST 5
#define FREEING 6
#define IDLE 7
#define MAKE(state, process, count) ((state) | (process) << 3 | (count) << 6)
#define STATE(w) ((w) & 7)
#define PROCESS(w) ((w) >> 3 & 7)
#define COUNT(w) ((w) >> 6)
#define MINE MAKE(CLAIMED, me, 1)

short word[N];
bool own[N]; /* of the slices' records: not 0 */
byte taken;
byte high;

/* What is so, whatever the words say. */
byte in[N];    /* first slice + 1 of the claim, slab, block or idle run that it is in         */
byte block[N]; /* 1: a block, or a slab with one, begins here, and whoever likes frees it;
                  2 + process: that one is resizing it                                          */
bool dead[5];  /* by process: workers 0, 1 and 4, cleaners 2 and 3 */
bool done[5];
bool clean[5]; /* recovered after its death */
byte lost;     /* blocks whose free a kill prevented */
bool freeing[5];

#define BIT(s) (1 << (s))
#define ROW(first, count) (((1 << (count)) - 1) << (first))

/* run_sync_taken() */
inline sync_taken(s) {
    do
    :: is_free = word[s] == FREE;
       atomic {
           if
           :: is_free -> taken = taken & ~BIT(s)
           :: else -> taken = taken | BIT(s)
           fi
       };
#ifdef MISTAKE_TAKEN_ONCE
       break
#else
       if
       :: atomic { (word[s] == FREE) == is_free -> is_free = false; break }
       :: else
       fi
#endif
    od
}

/* set_taken() */
inline set_taken_row(first, count, is_taken) {
    atomic {
        if
        :: is_taken -> taken = taken | ROW(first, count)
        :: else -> taken = taken & ~ROW(first, count)
        fi
    };
    do
    :: atomic { k < count && (word[first + k] == FREE) != is_taken -> k++ }
    :: atomic { k < count && (word[first + k] == FREE) == is_taken };
       sync_taken(first + k);
       k++
    :: atomic { k == count -> k = 0; break }
    od
}

/* set_free(), of a slice in `thing` */
inline set_free(at, thing) {
    atomic { assert(in[at] == (thing) + 1); in[at] = 0; word[at] = FREE }
}

/* claim_row().  `ok`. */
inline claim_row(first, count) {
#ifndef MISTAKE_HIGH_LATE
    atomic { if :: high < first + count -> high = first + count :: else fi };
#endif
    atomic { ok = true; i = 0 };
    do
    :: atomic {
           ok && i < count ->
           if
           :: word[first + i] == FREE -> word[first + i] = MINE; assert(in[first + i] == 0); in[first + i] = first + 1; i++
           :: else -> ok = false
           fi
       }
    :: else -> break
    od;
#ifdef MISTAKE_HIGH_LATE
    atomic { if :: high < first + count -> high = first + count :: else fi };
#endif
    if
    :: ok -> set_taken_row(first, count, true)
    :: else ->
       j = 0;
       do
       :: atomic { j < i -> set_free(first + j, first); j++ }
       :: else -> break
       od;
       set_taken_row(first, i, false);
       sync_taken(first + i)
    fi
}

/* run_publish(); for a slab slab_begin() has written `own` before. */
inline publish(first, count, kept, is_slab) {
    if
    :: is_slab -> own[first] = true
    :: else
    fi;
    i = 1;
    do
    :: atomic { !kept && i < count -> word[first + i] = MAKE(REST, 0, i); i++ }
    :: else -> break
    od;
    atomic {
        i = 0;
        do
        :: i < count -> assert(in[first + i] == first + 1); i++
        :: else -> break
        od;
        word[first] = MAKE((is_slab -> SLAB : RUN), 0, count);
        block[first] = 1
    }
}

/* run_unclaim() */
inline unclaim(first, count) {
    i = count;
    do
    :: atomic { i > 0 -> i--; set_free(first + i, first) }
    :: else -> break
    od;
    set_taken_row(first, count, false)
}

/* run_mend(): claims of the dead inside become REST, before anything of it is free */
inline mend(first, count) {
    i = 1;
    do
    :: i < count ->
       w = word[first + i];
       if
       :: atomic {
              STATE(w) == CLAIMED ->
              if
              :: word[first + i] == w -> word[first + i] = MAKE(REST, 0, i)
              :: else
              fi
          }
       :: else
       fi;
       atomic { w = 0; i++ }
    :: else -> i = 0; break
    od
}

/* free_rest() */
inline free_rest(first, count) {
    i = 1;
    do
    :: i < count ->
#ifdef FOUND_FREE_CLAIMS
       /* As it was: what was free already, and is another's claim by now, was made free. */
       w = word[first + i];
       if
       :: atomic {
              w == MAKE(REST, 0, i) || STATE(w) == CLAIMED ->
              if
              :: word[first + i] == w -> assert(in[first + i] == first + 1); in[first + i] = 0; word[first + i] = FREE; i++
              :: else /* recovery has made it REST, or free: again */
              fi;
              w = 0
          }
       :: atomic { else -> i++; w = 0 }
       fi
#else
       if
       :: word[first + i] == MAKE(REST, 0, i) -> set_free(first + i, first); i++
       :: else -> i++
       fi
#endif
    :: else -> i = 0; break
    od
}

/* finish_free() */
inline finish_free(first, count) {
#ifdef MISTAKE_FIRST_FIRST
    set_free(first, first);
    free_rest(first, count);
#else
    free_rest(first, count);
    set_free(first, first);
#endif
    set_taken_row(first, count, false)
}

/* begin_free() from a word that was found; `ok` */
inline begin_free(first, found) {
#if !defined(FOUND_FREE_CLAIMS) && !defined(FOUND_FREE_REST)
    /* FOUND_FREE_REST: as it was; what a dead process has claimed inside was passed over. */
    if
    :: STATE(found) == RUN -> mend(first, COUNT(found))
    :: else
    fi;
#endif
    atomic {
        if
        :: word[first] == found -> word[first] = MAKE(FREEING, me, COUNT(found)); freeing[me] = false; ok = true
        :: else -> ok = false
        fi
    };
    if
    :: atomic { ok -> own[first] = false }
    :: else
    fi
}

/* are_rest(): no dead process has claims inside; `ok` */
inline are_rest(first, found) {
    atomic { ok = true; i = 1 };
    do
    :: atomic {
           i < COUNT(found) ->
           if
           :: word[first + i] != MAKE(REST, 0, i) -> ok = false
           :: else
           fi;
           i++
       }
    :: else -> i = 0; break
    od
}

/* run_keep(); `ok` */
inline keep(first, found) {
#ifdef FOUND_KEEP
    ok = true;
#else
    are_rest(first, found);
#endif
    atomic {
        if
        :: ok && word[first] == found -> word[first] = MINE; freeing[me] = false
        :: else -> ok = false
        fi
    };
    if
    :: atomic { ok -> own[first] = false }
    :: else
    fi
}

/* A block, or a slab without a live one, is given free in one of the ways that there are: run_free(), run_keep(), run_idle(). */
inline give_free(first, found) {
    if
    :: begin_free(first, found);
       assert(ok);
       finish_free(first, COUNT(found))
    :: keep(first, found);
       if
       :: ok ->
          if
          :: publish(first, COUNT(found), true, true)
          :: unclaim(first, COUNT(found))
          :: COUNT(found) > 1 -> word[first] = MAKE(IDLE, 0, COUNT(found))
          fi
       :: else ->
          begin_free(first, found);
          assert(ok);
          finish_free(first, COUNT(found))
       fi
    fi
}

/* grow(), by one */
inline grow(first, found) {
    n = COUNT(found);
    if
    :: first + n < N ->
       claim_row(first + n, 1);
       if
       :: ok ->
          atomic {
              assert(word[first] == found);
              word[first] = MAKE(RUN, 0, n + 1);
              in[first + n] = first + 1
          };
          word[first + n] = MAKE(REST, 0, n)
       :: else
       fi
    :: else
    fi
}

/* shrink(), to one */
inline shrink(first, found) {
    n = COUNT(found);
#ifdef FOUND_SHRINK
    ok = n > 1;
#else
    are_rest(first, found);
    ok = ok && n > 1;
#endif
    i = 1;
    do
    :: atomic {
           ok && i < n ->
           if
           :: word[first + i] == MAKE(REST, 0, i) -> word[first + i] = MINE; i++
           :: else -> ok = false /* what was claimed stays claimed, as long as this process lives */
           fi
       }
    :: else -> i = 0; break
    od;
    if
    :: ok ->
       atomic {
           assert(word[first] == found);
           word[first] = MAKE(RUN, 0, 1);
           i = 1;
           do
           :: i < n -> assert(in[first + i] == first + 1); in[first + i] = first + 2; i++
           :: else -> break
           od;
           i = 0
       };
       unclaim(first + 1, n - 1)
    :: else
    fi
}

/* A process that is over shall not make states differ. */
#define FORGET ops = 0; f = 0; n = 0; i = 0; j = 0; k = 0; w = 0; found = 0; ok = false; is_free = false
#define FORGET_CLEANING s = 0; first = 0; end = 0; n = 0; i = 0; k = 0; found = 0; w = 0; ok = false; is_free = false

/* A process that uses a heap. */
proctype worker(byte me; byte calls) {
    byte ops, f, n, i, j, k;
    short w, found;
    bool ok, is_free;
    {
        do
        :: ops < calls ->
           atomic { ops++; n = 0; i = 0; j = 0; w = 0; ok = false; is_free = false; select(f : 0 .. N - 1) };
           if
           :: f + 1 < N && (taken & ROW(f, 2)) == 0; /* run_claim(): a row of two, or of one */
              claim_row(f, 2);
              if
              :: ok -> publish(f, 2, false, false)
              :: else
              fi
           :: word[f] == FREE; /* run_claim() goes by the bits, run_trim() by the words */
              claim_row(f, 1);
              if
              :: ok -> publish(f, 1, false, true)
              :: ok -> unclaim(f, 1)
              :: else
              fi
           :: atomic {
                  block[f] == 1 -> block[f] = 0; freeing[me] = true; found = word[f]
              };
              give_free(f, found)
           :: atomic {
                  block[f] == 1 && STATE(word[f]) == RUN -> block[f] = 2 + me; found = word[f]
              };
              if
              :: grow(f, found)
              :: shrink(f, found)
              fi;
              block[f] = 1
           :: atomic { STATE(word[f]) == IDLE -> found = word[f] };
              atomic { /* run_take_idle() */
                  if
                  :: word[f] == found -> word[f] = MINE; ok = true
                  :: else
                  fi
              };
              if
              :: ok -> publish(f, COUNT(found), true, false)
              :: else
              fi
           :: atomic { STATE(word[f]) == IDLE -> found = word[f] };
              begin_free(f, found); /* run_free_idle() */
              if
              :: ok -> finish_free(f, COUNT(found))
              :: else
              fi
           :: true
           fi
        :: else -> break
        od;
        atomic { done[me] = true; FORGET }
    } unless {
        atomic { dead[me] -> FORGET }
    }
}

/* run_drop() */
inline drop(s, found) {
    own[s] = false;
    atomic {
        if
        :: word[s] == found -> word[s] = FREE; in[s] = 0; ok = true
        :: else -> ok = false
        fi
    };
    if
    :: ok -> sync_taken(s)
    :: else
    fi
}

/* drop_claim() */
inline drop_claim(s, found) {
    n = 1;
    do
    :: s + n < high && word[s + n] == MAKE(REST, 0, n) -> n++
    :: else -> break
    od;
#ifdef MISTAKE_CLAIM_FIRST
    drop(s, found);
#endif
    do
    :: n > 1 -> n--; drop(s + n, MAKE(REST, 0, n))
    :: else -> break
    od;
#ifndef MISTAKE_CLAIM_FIRST
    drop(s, found)
#endif
}

/* make_rest() */
inline make_rest(s, first, found) {
    atomic {
        if
        :: word[s] == found -> word[s] = MAKE(REST, 0, s - first); ok = true
        :: else -> ok = false
        fi
    };
#ifdef FOUND_MAKE_REST
    /* As it was: unless the run was freed just now. */
    if
    :: ok ->
       w = word[first];
       if
       :: (STATE(w) != RUN && STATE(w) != SLAB) || COUNT(w) <= s - first -> drop(s, MAKE(REST, 0, s - first))
       :: else
       fi
    :: else
    fi
#endif
}

/* recover_slices(), as far as slices go; run_finish_free() */
inline recover(victim) {
    s = 0; first = 0; end = 0;
    do
    :: s < high ->
       found = word[s];
       if
       :: STATE(found) == SLAB || STATE(found) == RUN -> first = s; end = s + COUNT(found)
       :: STATE(found) == CLAIMED && PROCESS(found) == victim ->
#ifdef MISTAKE_NO_REST
          drop_claim(s, found)
#else
          if
          :: s < end -> make_rest(s, first, found)
          :: else -> drop_claim(s, found)
          fi
#endif
       :: STATE(found) == FREEING && PROCESS(found) == victim ->
          own[s] = false;
          n = COUNT(found);
          free_rest(s, n);
          set_taken_row(s, n, false);
          drop(s, found)
       :: else
       fi;
       s++
    :: else -> break
    od;
    clean[victim] = true;
    s = 0; first = 0; end = 0; found = 0; n = 0; i = 0; w = 0
}

/* Dead now: what it was about to free is lost; what it was resizing is as good as before to who has its address. */
inline kill(victim) {
    atomic {
        !done[victim] && !dead[victim] ->
        dead[victim] = true;
        lost = lost + freeing[victim];
        freeing[victim] = false;
        i = 0;
        do
        :: i < N ->
           if
           :: block[i] == 2 + victim -> block[i] = 1
           :: else
           fi;
           i++
        :: else -> break
        od;
        i = 0
    }
}

/* Finds out that a worker is dead (it kills it itself), and holds its lock as long as it lives: slab_recover(). */
proctype cleaner(byte me) {
    byte s, first, end, n, i, k;
    short found, w;
    bool ok, is_free;
    {
        if
        :: kill(0); recover(0)
        :: true
        fi;
        atomic { done[me] = true; FORGET_CLEANING }
    } unless {
        atomic { dead[me] -> FORGET_CLEANING }
    }
}

/* The next one, after the first was killed: recovers both. */
proctype next_cleaner(byte me) {
    byte s, first, end, n, i, k;
    short found, w;
    bool ok, is_free;
    if
    :: kill(2);
       if
       :: dead[0] -> recover(0)
       :: else
       fi;
       recover(2)
    :: skip
    fi;
    atomic { done[me] = true; FORGET_CLEANING }
}

#define GONE(p) (done[p] || (dead[p] && clean[p]))

/* When all is quiet. */
proctype look() {
    byte s, i, n, blocks, things;
    GONE(0) && GONE(1) && GONE(2) && GONE(3) && done[4];
    atomic {
        s = 0;
        do
        :: s < N ->
           if
           :: word[s] == FREE -> assert(in[s] == 0 && !own[s] && block[s] == 0)
           :: STATE(word[s]) == SLAB || STATE(word[s]) == RUN || STATE(word[s]) == IDLE ->
              n = COUNT(word[s]);
              if
              :: STATE(word[s]) == IDLE -> assert(block[s] == 0)
              :: else -> things++; blocks = blocks + block[s]
              fi;
              assert(own[s] == (STATE(word[s]) == SLAB) && in[s] == s + 1 && s + n <= N && s + n <= high);
              i = 1;
              do
              :: i < n -> assert(word[s + i] == MAKE(REST, 0, i) && in[s + i] == s + 1 && !own[s + i] && block[s + i] == 0); i++
              :: else -> break
              od
           :: STATE(word[s]) == REST -> /* of something that is one */
              n = s - COUNT(word[s]);
              assert(in[s] == n + 1 && COUNT(word[n]) > COUNT(word[s]));
              assert(STATE(word[n]) == SLAB || STATE(word[n]) == RUN || STATE(word[n]) == IDLE)
           :: else -> assert(false)
           fi;
           if
           :: !dead[0] && !dead[1] -> assert(((taken & BIT(s)) != 0) == (word[s] != FREE))
           :: else
           fi;
           s++
        :: else -> break
        od;
        assert(things - blocks == lost)
    }
}

inline begin_with(first, count, state) {
    high = first + count;
    taken = ROW(first, count);
    word[first] = MAKE(state, 0, count);
    own[first] = state == SLAB;
    block[first] = state != IDLE;
    for (i : 0 .. count - 1) {
        in[first + i] = first + 1;
        if
        :: i > 0 -> word[first + i] = MAKE(REST, 0, i)
        :: else
        fi
    }
}

init {
    byte i;
    atomic {
#if KILLS < 1
        done[2] = true;
#endif
#if KILLS < 2
        done[3] = true;
#endif
        /* What there is already. */
#if START == 1
        begin_with(0, 3, RUN);
#elif START == 2
        begin_with(0, 2, RUN);
#elif START == 3
        begin_with(1, 2, SLAB);
#elif START == 4
        begin_with(0, 2, IDLE);
#endif
        run worker(0, CALLS);
        run worker(1, CALLS_SURVIVOR);
#if CALLS_THIRD > 0
        run worker(4, CALLS_THIRD);
#else
        done[4] = true;
#endif
#if KILLS > 0
        run cleaner(2);
#endif
#if KILLS > 1
        run next_cleaner(3);
#endif
        run look()
    }
}
