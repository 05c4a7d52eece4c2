/*
 * page.pml - the words that ScalablePage's threads share: src/allocator/alloc_page.c, and recover_page_slab() and
 * restore_words() of src/allocator/slab_recover.c.
 *
 * Two threads take blocks of a class each, free whatever block there is, and let go of what lies idle (squeeze()); so slabs
 * become full, shelved, free, and are made again for the other class while somebody is still at the slab before.  One shard.
 * One may be killed at any step and is recovered while the other goes on.
 *
 * With HOME, thread 0 and (HOME 2) thread 1 run on the shard's processor: home bits, changed in restartable sequences there.
 * Only sequences that reach their store are modelled, for those interrupted do nothing; so no other thread of
 * that processor takes a step between a sequence's begin and its store, but threads elsewhere do.
 *
 * Must hold
 *     no block is given to two, or of another class than was asked for, or in a slab that is none yet or not any more;
 *     none is in a slab that goes free, or that its free cannot find
 *     at the end, every block is held or free, but one for each kill; each slab is current, shelved, or full without a free
 *     block; one that is shelved stands on the shelf; where the hint says so, no shared bit is set
 *
 * Not here: `left`, and what else only says when to look (HOME: looking is optional therefore); several shards; retired slices
 * are made free, not idle (slices.pml).
 */
#ifndef SLICES
#define SLICES 1
#endif
#ifndef WORDS
#define WORDS 1 /* of bits: of two blocks each, of one if there are several */
#endif
#ifndef CALLS
#define CALLS 1 /* of thread 0, which is killed, if one is */
#endif
#ifndef CALLS_OTHER
#define CALLS_OTHER 3
#endif
#ifndef CALLS_THIRD
#define CALLS_THIRD 0 /* of thread 3, elsewhere, of the class of thread 1 */
#endif
/* TAKERS: thread 0 only lets go of what lies idle, and the others only take */
#ifndef KILLS
#define KILLS 0
#endif
#ifndef START
#define START 1 /* what there is already: 0 nothing, 1 a current slab with a live block and a free one,
                  2 one with both free */
#endif
#ifndef OTHER_CLASS
#define OTHER_CLASS 1 /* of thread 1; thread 0 has class 0 */
#endif
#ifndef HOME
#define HOME 0
#endif
#if WORDS == 1
#define MASK 3
#else
#define MASK 1
#endif
/* FULL_WORDS: words without a bit to spare, and two shared bits are many; no third thread then, who could have taken as many */
#if defined(FULL_WORDS) || defined(FOUND_UNSIGNED)
#define TAKEN 0
#else
#define TAKEN 4 /* SLAB_WORD_TAKEN */
#endif

/* own */
#define IS 1
#define FULL 2
#define CURRENT 4
#define SHELVED 8
#define LOCKED 16
#define FLAGS 31
#define AT_HOME 32
#define CLASS(o) ((o) >> 6 & 1)
#define WHO(o) ((o) >> 7 & 3)
#define LEAVING 512
#define OWN(flags, class, home, who) (IS | (flags) | (home) | (class) << 6 | (who) << 7)
#define IS_IN(o, flags) (((o) & FLAGS) == (IS | (flags)))
/* page_current_own(): none as the one before it */
#define OWN_CURRENT(class, home) (OWN(CURRENT, class, home, me) | count << 10)
#define COUNT_ON count = (count + 1) & 7
#define LEADS(c, s) ((shard[c] & 15) == (s) + 1)

/* Slice words; the process in the bits above. */
#define FREE 0
#define CLAIMED 1
#define SLAB 2
#define FREEING 3

byte word[SLICES];
short own[SLICES];
byte home[SLICES * WORDS];
byte shared[SLICES * WORDS];
byte log[SLICES];
byte moving[SLICES]; /* `skip` */
bool hint[SLICES]; /* `left_from` */
short shard[2];    /* for each class: slice + 1, 16 if it is at home, and of `own` the count and the process */
byte shelf[2];     /* for each class: a bit a slice */

bool held[SLICES * 2];
bool in_hand[4]; /* a process's kill now may cost a block */
byte lost;
bool dead[4];
bool done[4];
bool clean;
byte sequence; /* thread + 1 that is inside one, on the shard's processor */

#define BLOCK(s, w, one) ((s) * 2 + (w) + (one) - 1) /* with two words, one is 1 */
#define IS_HOME(p) ((p) < HOME)                      /* does it run at home? */

inline note_shared(s) {
    hint[s] = true
}

/* free_word(), of all words: how many blocks are free */
inline count_free(s) {
    atomic { w = 0; free = 0 };
    do
    :: w < WORDS ->
       bits = home[s * WORDS + w];
       atomic {
           if
           :: hint[s] -> skip
           :: else -> got = 2
           fi
       };
       if
       :: got != 2 -> bits = bits | shared[s * WORDS + w]
       :: else -> got = 0
       fi;
       atomic { free = free + (bits & 1) + (bits >> 1 & 1); bits = 0; w++ }
    :: else -> w = 0; break
    od
}

inline shelve(s, from) {
    atomic {
        if
        :: own[s] == (from) -> own[s] = OWN(SHELVED, CLASS(from), (from) & AT_HOME, 0); got = 2
        :: else
        fi
    };
    if
    :: got == 2 -> atomic { got = 0; shelf[CLASS(from)] = shelf[CLASS(from)] | 1 << s }
    :: else
    fi
}

/* page_put_word() */
inline put_word(s, put) {
    shared[s * WORDS + w] = shared[s * WORDS + w] | (put);
#ifndef FULL_WORDS
    shared[s * WORDS + w] = shared[s * WORDS + w] & ~TAKEN
#endif
}

/* unlock(), of w words */
inline unlock(s) {
    do
    :: w > 0 -> w--; put_word(s, MASK)
    :: else -> break
    od;
    note_shared(s);
    log[s] = 0;
    shelve(s, locked)
}

/* empty_home(); ok: it is */
inline empty_home(s) {
    if
    :: atomic { IS_HOME(me) && own[s] == locked && home[s * WORDS + w] == bits -> home[s * WORDS + w] = 0 } /* rseq_empty() */
    :: ok = false
    fi
}

/* take_word(): all blocks of word w of a locked slab; `ok` */
inline take_word(s) {
    bits = home[s * WORDS + w];
    atomic { ok = shared[s * WORDS + w] == (MASK & ~bits) };
#ifdef FULL_WORDS
    /* share_word(): few shared bits become many */
    if
    :: ok && bits != 0 && bits != MASK ->
       moving[s] = bits;
       empty_home(s);
       if
       :: ok -> put_word(s, bits); bits = 0
       :: else
       fi;
       moving[s] = 0
    :: else
    fi;
#endif
    atomic {
        if
#if defined(FULL_WORDS) || defined(FOUND_UNSIGNED)
        :: ok && bits == MASK -> skip
#endif
        :: ok && shared[s * WORDS + w] == (MASK & ~bits) -> shared[s * WORDS + w] = TAKEN
        :: else -> ok = false
        fi
    };
    if
    :: ok && bits != 0 ->
       empty_home(s);
       if
       :: !ok -> put_word(s, MASK & ~bits); note_shared(s)
       :: else
       fi
    :: else
    fi
}

/* page_retire() */
inline retire(s) {
    count_free(s);
    o = own[s];
    if
    :: free == 2 && IS_IN(o, SHELVED) && ((o & AT_HOME) == 0 || IS_HOME(me)) ->
       count_free(s);
       locked = OWN(LOCKED, CLASS(o), o & AT_HOME, me);
       atomic {
           if
           :: free == 2 && word[s] == SLAB && own[s] == o -> own[s] = locked; ok = true
           :: else -> ok = false
           fi
       };
       if
       :: ok ->
#ifndef MISTAKE_RETIRE_UNTAKEN
          w = 0;
          do
          :: w < WORDS ->
             take_word(s);
             if
             :: !ok -> break
             :: else -> atomic { log[s] = log[s] | 1 << w; w++ }
             fi
          :: else ->
             atomic { shared[s * WORDS] = 0; shared[s * WORDS + WORDS - 1] = 0 };
             break
          od;
#endif
          if
          :: ok ->
             atomic {
                 assert(word[s] == SLAB);
                 assert(!held[s * 2] && !held[s * 2 + 1]);
                 word[s] = FREEING | me << 2
             };
             own[s] = 0;
             word[s] = FREE
          :: else -> unlock(s)
          fi
       :: else
       fi
    :: else
    fi;
    atomic { w = 0; o = 0; locked = 0; free = 0; bits = 0; ok = false }
}

/* look_at() */
inline look_at(s) {
    o = own[s];
    if
    :: (o & CURRENT) == 0 ->
       count_free(s);
       if
       :: IS_IN(o, FULL) && free > 0 -> shelve(s, o)
       :: else
       fi;
       if
       :: free == 2 -> retire(s)
       :: else
       fi
    :: else
    fi;
    atomic { o = 0; free = 0 }
}

/* page_leave_current() */
inline leave_current(s) {
    do
    :: o = own[s];
       if
       :: atomic { !IS_IN(o, CURRENT) -> ok = false; break }
#ifndef FOUND_MARKS
       :: atomic { IS_IN(o, CURRENT) && ((o & LEAVING) == 0 || (o != mark && LEADS(CLASS(o), s))) -> ok = false; break }
#endif
       :: else
       fi;
       atomic {
           if
           :: own[s] == o -> own[s] = OWN(FULL, CLASS(o), o & AT_HOME, 0); ok = true; break
           :: else
           fi
       }
    od;
#ifndef MISTAKE_LEAVE_UNSEEN
    if
    :: ok -> look_at(s)
    :: else
    fi;
#endif
    atomic { mark = 0; o = 0 }
}

/* page_mark_leaving(), of shard c */
inline mark_leaving(s, c) {
#ifdef FOUND_MARKS
    /* As it was: a late mark is of a slab that is left already, and nobody's who was killed. */
    o = own[s];
    atomic {
        if
        :: IS_IN(o, CURRENT) && own[s] == o -> own[s] = OWN(CURRENT, CLASS(o), o & AT_HOME, me)
        :: else
        fi;
        o = 0
    }
#else
    do
    :: o = own[s];
       if
#ifdef MISTAKE_MARK_UNSEEN
       :: atomic { !IS_IN(o, CURRENT) -> break }
#else
       :: atomic { !IS_IN(o, CURRENT) || shard[c] != current -> break }
#endif
       :: else
       fi;
       atomic {
           if
           :: own[s] == o -> mark = OWN_CURRENT(CLASS(o), o & AT_HOME) | LEAVING; COUNT_ON; own[s] = mark; break
           :: else
           fi
       }
    od;
    o = 0
#endif
}

/* take_shelved(); next: slice + 1 */
inline take_shelved(c) {
    next = 0;
    atomic { /* shelf_take() */
        if
        :: (shelf[c] & 1) != 0 -> shelf[c] = shelf[c] & ~1; next = 1
#if SLICES > 1
        :: (shelf[c] & 1) == 0 && (shelf[c] & 2) != 0 -> shelf[c] = shelf[c] & ~2; next = 2
#endif
        :: else
        fi
    };
    if
    :: next != 0 ->
       o = own[next - 1];
       if
       :: IS_IN(o, SHELVED) && CLASS(o) == c ->
          /* is_of_use() */
          count_free((next - 1));
          atomic {
              if
              :: free == 0 -> shelf[c] = shelf[c] | 1 << (next - 1); next = 0
              :: free != 0 && own[next - 1] == o -> own[next - 1] = OWN_CURRENT(c, o & AT_HOME); COUNT_ON
              :: else -> next = 0
              fi
          }
       :: else -> next = 0
       fi
    :: else
    fi;
    atomic { o = 0; free = 0 }
}

/* make_slab(), slab_begin(), run_publish(); next: slice + 1 */
inline make_slab(c) {
    atomic {
        if
        :: word[0] == FREE -> word[0] = CLAIMED | me << 2; next = 1
#if SLICES > 1
        :: word[0] != FREE && word[1] == FREE -> word[1] = CLAIMED | me << 2; next = 2
#endif
        :: else
        fi
    };
    if
    :: next != 0 ->
       log[next - 1] = 0;
       w = 0;
       do
       :: atomic { w < WORDS -> home[(next - 1) * WORDS + w] = (IS_HOME(me) -> MASK : 0) };
          atomic { shared[(next - 1) * WORDS + w] = (IS_HOME(me) -> 0 : MASK); w++ }
       :: else -> w = 0; break
       od;
       hint[next - 1] = !IS_HOME(me);
#ifdef FOUND_OWN_EARLY
       /* As it was: a taker that was slow took a block of a slab that was not one yet. */
       own[next - 1] = OWN_CURRENT(c, (IS_HOME(me) -> AT_HOME : 0));
       word[next - 1] = SLAB
#else
       own[next - 1] = OWN(LOCKED, c, (IS_HOME(me) -> AT_HOME : 0), me);
       word[next - 1] = SLAB;
       atomic { own[next - 1] = OWN_CURRENT(c, (IS_HOME(me) -> AT_HOME : 0)); COUNT_ON }
#endif
    :: else
    fi
}

#ifdef MISTAKE_LEAD_AGAIN
#define TAG(s) 0
#else
#define TAG(s) ((own[s] >> 10 & 7) << 5 | WHO(own[s]) << 8)
#endif
#define LEAD(s) ((s) + 1 + ((own[s] & AT_HOME) != 0 -> 16 : 0) + TAG(s))

#ifdef FOUND_MARKS
#define LEAVES (ok && current != 0)
#else
#define LEAVES (current != 0)
#endif

/* replace_current(); ok: there is a slab */
inline replace_current(c) {
    take_shelved(c);
    if
    :: next == 0 -> make_slab(c)
    :: else
    fi;
    if
    :: next == 0 -> ok = false
    :: else ->
       if
       :: current != 0 -> mark_leaving(((current & 15) - 1), c)
       :: else
       fi;
       atomic {
           if
           :: shard[c] == current -> shard[c] = LEAD(next - 1); ok = true
           :: else -> ok = false; mark = 0
           fi
       };
       if
       :: !ok -> o = own[next - 1]; shelve((next - 1), o); o = 0
       :: else
       fi;
       if
       :: LEAVES -> leave_current(((current & 15) - 1))
       :: else
       fi;
       ok = true
    fi;
    next = 0
}

/* A block is this thread's. */
#define GOT(s, w, one, c) assert(word[s] == SLAB && CLASS(own[s]) == c && !held[BLOCK(s, w, one)]); held[BLOCK(s, w, one)] = true; in_hand[me] = false; got = 1

/* take_shared(), of all words: take_any_shared(); got = 1 */
inline take_shared(s, c) {
    w = 0;
    do
    :: w < WORDS && got == 0 ->
       bits = shared[s * WORDS + w] & MASK;
       do
       :: bits != 0 ->
          atomic {
              one = (bits & 1 -> 1 : 2);
              bits = shared[s * WORDS + w];
              shared[s * WORDS + w] = bits & ~one;
              bits = bits & MASK;
              if
              :: (bits & one) != 0 -> in_hand[me] = true; break
              :: else
              fi
          }
       :: else -> break
       od;
       if
       :: in_hand[me] ->
          atomic {
              o = own[s];
#ifdef MISTAKE_TAKE_UNSEEN
              if
              :: true -> GOT(s, w, one, c)
#else
              if
              :: (o & (IS | LOCKED)) == IS && CLASS(o) == c -> GOT(s, w, one, c)
#endif
              :: else
              fi
          };
          if
          :: got == 0 ->
             atomic { shared[s * WORDS + w] = shared[s * WORDS + w] | one; in_hand[me] = false };
             note_shared(s);
          :: else
          fi
       :: else
       fi;
       atomic { o = 0; bits = 0; one = 0; w++ }
    :: else -> break
    od;
    w = 0
}

/* take_at_home(), take_learned() */
inline take_at_home(s, c) {
    bits = home[s];
    if
    :: bits != 0 ->
       one = (bits & 1 -> 1 : 2);
       if
       :: atomic { sequence == 0 && shard[c] == current && (home[s] & one) != 0 -> sequence = me + 1 }
          atomic { sequence = 0; home[s] = home[s] & ~one; GOT(s, 0, one, c) }
       :: true /* interrupted, or it is not what it was */
       fi
    :: else
    fi;
    atomic { bits = 0; one = 0 }
}

/* take_slowly(), with take_anywhere() */
inline take(c) {
    tries = 0;
    do
    :: got == 0 && tries < 2 ->
       tries++;
       current = shard[c];
       if
       :: current != 0 ->
#if HOME > 0
          if
          :: IS_HOME(me) && (current & 16) != 0 -> take_at_home(((current & 15) - 1), c)
          :: else
          fi;
#endif
          if
          :: got == 0 && hint[((current & 15) - 1)] ->
             take_shared(((current & 15) - 1), c);
             if
             :: got == 0 ->
                hint[((current & 15) - 1)] = false;
#ifndef MISTAKE_HINT_UNSEEN
                take_shared(((current & 15) - 1), c);
                if
                :: got == 1 -> note_shared(((current & 15) - 1))
                :: else
                fi
#endif
             :: else
             fi
          :: else
          fi
       :: else
       fi;
       if
       :: got == 0 ->
          replace_current(c);
          if
          :: !ok -> break
          :: else
          fi
       :: else
       fi
    :: else -> break
    od;
    atomic { got = 0; tries = 0; current = 0; ok = false }
}

/* page_free(), give(), settle() */
inline give(b) {
    /* slab_find() */
    assert(word[b / 2] == SLAB);
#if HOME > 0
    o = own[b / 2];
    if
    :: IS_HOME(me) && (o & AT_HOME) != 0 ->
       if
       :: atomic { sequence == 0 && own[b / 2] == o -> sequence = me + 1 }
          atomic { sequence = 0; home[b / 2] = home[b / 2] | 1 << (b & 1); held[b] = false; in_hand[me] = false; got = 1 }
       :: true
       fi
    :: else
    fi;
    o = 0;
#endif
    if
    :: got == 0 ->
       atomic {
#if WORDS == 1
           shared[b / 2] = shared[b / 2] | 1 << (b & 1);
#else
           shared[b] = 1;
#endif
           held[b] = false;
           in_hand[me] = false
       };
#ifndef MISTAKE_UNNOTED
       note_shared(b / 2);
#endif
       o = own[b / 2];
       if
       :: (o & CURRENT) == 0 -> look_at(b / 2)
       :: else
       fi
    :: else ->
       got = 0;
       if
       :: look_at(b / 2)
       :: true
       fi
    fi;
    o = 0
}

/* squeeze(), leave_idle() */
inline squeeze() {
    c = 0;
    do
    :: c < 2 ->
       current = shard[c];
       if
       :: current != 0 ->
          count_free(((current & 15) - 1));
          if
          :: free == 2 ->
             mark_leaving(((current & 15) - 1), c);
             atomic {
                 if
                 :: shard[c] == current -> shard[c] = 0; ok = true
                 :: else -> ok = false; mark = 0
                 fi
             };
             if
             :: LEAVES -> leave_current(((current & 15) - 1))
             :: else
             fi
          :: else
          fi
       :: else
       fi;
       atomic { c++; current = 0; free = 0; ok = false }
    :: else -> c = 0; break
    od;
    retire(0);
#if SLICES > 1
    retire(1)
#endif
}

#define LOCALS byte b, c, w, free, bits, one, got, next, tries, count; short current, o, locked, mark; bool ok

/* A process that is over shall not make states differ. */
#define FORGET b = 0; c = 0; w = 0; free = 0; bits = 0; one = 0; got = 0; next = 0; current = 0; tries = 0; count = 0; o = 0; locked = 0; mark = 0; ok = false

/* On the shard's processor, nobody else moves while a sequence goes on. */
#define RUNS(p) (!IS_HOME(p) || sequence == 0 || sequence == (p) + 1)

proctype thread(byte me; byte class; byte calls) provided (RUNS(_pid - 1)) {
    byte i;
    LOCALS;
    {
        count = 1;
        do
        :: i < calls ->
           i++;
           if
#ifdef TAKERS
           :: me == 0 -> squeeze()
           :: me != 0 -> take(class)
#else
           :: take(class)
           :: atomic { held[0] -> b = 0; held[0] = false; in_hand[me] = true }; give(b); b = 0
           :: atomic { held[1] -> b = 1; held[1] = false; in_hand[me] = true }; give(b); b = 0
#if SLICES > 1
           :: atomic { held[2] -> b = 2; held[2] = false; in_hand[me] = true }; give(b); b = 0
           :: atomic { held[3] -> b = 3; held[3] = false; in_hand[me] = true }; give(b); b = 0
#endif
           :: squeeze()
           :: true
#endif
           fi
        :: else -> break
        od;
        atomic { done[me] = true; FORGET; i = 0 }
    } unless {
        atomic { dead[me] -> FORGET; i = 0 }
    }
}

/* bits_of_the_dead(), restore_words() */
inline restore_words(s) {
    w = 0;
    do
    :: w < WORDS ->
       bits = MASK & ~home[s * WORDS + w];
       if
#ifdef FOUND_UNSIGNED
       /* As it was: of a word that was not logged yet, one shared bit may be another taker's. */
       :: (log[s] >> w & 1) != 0 || (log[s] == (1 << w) - 1 && shared[s * WORDS + w] == 0 && bits == 3)
#else
       :: (log[s] >> w & 1) != 0 || (shared[s * WORDS + w] & TAKEN) != 0
#ifdef FULL_WORDS
       :: log[s] == 0 && moving[s] != 0 ->
          bits = (home[s] == 0 && (shared[s] & moving[s]) == 0 -> moving[s] : 0)
       :: log[s] == 0 && moving[s] == 0 && shared[s] == 0 && bits == MASK
#endif
#endif
       :: else -> bits = 0
       fi;
       put_word(s, bits);
       w++
    :: else -> w = 0; bits = 0; break
    od;
    moving[s] = 0;
    log[s] = 0
}

/* shelve_left() */
inline shelve_left(s) {
    do
    :: o = own[s];
       if
#ifdef FOUND_MARKS
       :: !IS_IN(o, CURRENT) || WHO(o) != 0 || LEADS(CLASS(o), s) -> break
#else
       :: !IS_IN(o, CURRENT) || ((o & LEAVING) == 0 && WHO(o) != 0) || LEADS(CLASS(o), s) -> break
#endif
       :: else
       fi;
       shelve(s, o)
    od
}

/* recover_slices(), recover_page_slab(), run_finish_free(), run_drop() */
inline recover() {
    c = 0;
    do
    :: c < SLICES ->
#ifndef FOUND_HINT_OF_SLABS
       hint[c] = true;
#endif
       if
       :: word[c] == SLAB ->
          o = own[c];
#ifdef FOUND_HINT_OF_SLABS
          hint[c] = true; /* as it was: not of slices that are just being made a slab again */
#endif
          if
          :: IS_IN(o, LOCKED) && WHO(o) == 0 ->
             restore_words(c);
#ifndef FOUND_HINT_EARLY
             note_shared(c); /* as it was: not again; a taker that found nothing said so before */
#endif
             got = 1
          :: else
          fi;
          if
          :: got == 1
          :: got == 0 && IS_IN(o, CURRENT) -> shelve_left(c)
          :: IS_IN(o, FULL) -> got = ((home[c * WORDS] | shared[c * WORDS] | home[c * WORDS + WORDS - 1] | shared[c * WORDS + WORDS - 1]) != 0)
          :: IS_IN(o, SHELVED) -> shelf[CLASS(o)] = shelf[CLASS(o)] | 1 << c
          :: else
          fi;
          if
          :: got == 1 -> got = 0; shelve(c, o)
          :: else
          fi;
          retire(c)
       :: word[c] == CLAIMED ->
          own[c] = 0;
          atomic { assert(!held[c * 2] && !held[c * 2 + 1]); word[c] = FREE }
       :: word[c] == FREEING -> own[c] = 0; word[c] = FREE
       :: else
       fi;
       c++
    :: else -> c = 0; break
    od
}

proctype cleaner(byte me) {
    LOCALS;
    if
    :: atomic {
           !done[0] && sequence != 1 -> dead[0] = true; lost = in_hand[0]; in_hand[0] = false /* in a sequence: as before it, or after it */
       };
       recover();
       clean = true
    :: true
    fi;
    atomic { done[me] = true; FORGET }
}

proctype look() {
    byte s, i, bits, missing;
    (done[0] || clean) && done[1] && done[2] && done[3];
    atomic {
        do
        :: s < SLICES ->
           if
           :: word[s] == FREE -> assert(own[s] == 0 && !held[s * 2] && !held[s * 2 + 1])
           :: else ->
              assert(word[s] == SLAB);
#if WORDS == 1
              bits = home[s] | shared[s];
              assert((home[s] & shared[s]) == 0);
#else
              bits = shared[s * 2] | shared[s * 2 + 1] << 1;
#endif
              i = 0;
              do
              :: i < 2 ->
                 assert(!(held[s * 2 + i] && (bits >> i & 1) != 0));
                 missing = missing + (!held[s * 2 + i] && (bits >> i & 1) == 0);
                 i++
              :: else -> break
              od;
              assert(IS_IN(own[s], CURRENT) || IS_IN(own[s], SHELVED) || IS_IN(own[s], FULL));
              assert(IS_IN(own[s], CURRENT) == LEADS(CLASS(own[s]), s));
              assert(!(IS_IN(own[s], SHELVED) && bits != 0 && (shelf[CLASS(own[s])] >> s & 1) == 0));
#if HOME == 0
              assert(!(IS_IN(own[s], FULL) && bits != 0));
#endif
              assert(hint[s] || (shared[s * WORDS] | shared[s * WORDS + WORDS - 1]) == 0)
           fi;
           s++
        :: else -> break
        od;
        assert(missing <= lost)
    }
}

init {
    atomic {
#if START == 2
        /* The same without a live block. */
        word[0] = SLAB;
        own[0] = OWN(CURRENT, 0, 0, 1);
        shared[0] = MASK;
        hint[0] = true;
        shard[0] = 1;
#elif START == 1
        /* A current slab of class 0, with one live block. */
        word[0] = SLAB;
        own[0] = OWN(CURRENT, 0, (IS_HOME(0) -> AT_HOME : 0), 1);
        home[0] = (IS_HOME(0) -> MASK & ~1 : 0);
        shared[0] = (IS_HOME(0) -> 0 : MASK & ~1);
#if WORDS > 1
        shared[1] = 1;
#endif
        hint[0] = !IS_HOME(0);
        shard[0] = (IS_HOME(0) -> 17 : 1);
        held[0] = true;
#endif
        run thread(0, 0, CALLS);
        run thread(1, OTHER_CLASS, CALLS_OTHER);
#if CALLS_THIRD > 0
        run thread(3, OTHER_CLASS, CALLS_THIRD);
#else
        done[3] = true;
#endif
#if KILLS > 0
        run cleaner(2);
#else
        done[2] = true;
#endif
        run look()
    }
}
