/*
 * StreamPool: whose own stream is which, and leases. Threads get streams in turn, release them or die with them; others lease
 * a stream that nobody has, and wait until there is one; the pool is closed meanwhile.
 *
 * Bound: 3 streams (1 and 2 are given in turn), 2 threads that ask once and twice, 2 lessees with 1 lease each, under WAIT and under WAIT or FAIL, 1 close
 *
 * Left out: setCurrent, which refuses a leased stream under the lock; callWith, by which a user may go onto one on his own word; OVERSUBSCRIBE, which is nextIndex.
 */
//: assert leasedStreamIsNobodysOwn
//: assert leasedOnce
//: assert zeroIsNotLeased
//: assert streamsAreGivenInTurn
//: assert createdOnce
//: assert noLeaseAfterTheClose
//: noDeadlock
//: ltl everyLeaseIsAnswered
//: ltl everyThreadGetsAStream
//: mutant LEASES_BOUND_STREAMS leasedStreamIsNobodysOwn
//: mutant ASSIGNS_LEASED_STREAMS leasedStreamIsNobodysOwn
//: mutant LOOKS_OUTSIDE_THE_LOCK leasedOnce
//: mutant LEASES_FROM_ZERO zeroIsNotLeased
//: mutant DOES_NOT_TAKE_TURNS streamsAreGivenInTurn
//: mutant CREATES_OUTSIDE_THE_LOCK createdOnce
//: mutant LOOKS_FOR_THE_CLOSE_ONCE noLeaseAfterTheClose
//: mutant THROWS_WITH_THE_LOCK noDeadlock
//: mutant LOOKS_FOR_THE_DEAD_ONLY_WHEN_TOLD everyLeaseIsAnswered
//: mutant KEEPS_THE_LOCK_AFTER_AN_ASSIGNMENT everyThreadGetsAStream

#define SIZE 3
#define NONE 7

bit poolLock;
bit closed;
bit leased[SIZE];
byte turn;
byte created[SIZE];
byte bound[2] = NONE; /* the stream in whose list thread t stands */
byte own[2] = NONE;   /* ThreadLocal */
bit alive[2] = 1;
bit freed[2]; /* a signal that waits for lessee l */
bit waiting[2];
byte has[2] = NONE; /* the stream that lessee l has */
bit answered[2];
byte got[2]; /* how often thread t got a stream */

bool leasedStreamIsNobodysOwn = true;
bool leasedOnce = true;
bool zeroIsNotLeased = true;
bool streamsAreGivenInTurn = true;
bool createdOnce = true;
bool noLeaseAfterTheClose = true;

#define LIVE(i) ((bound[0] == (i) && alive[0]) || (bound[1] == (i) && alive[1]))

#define SOMEBODY_DIED ((bound[0] != NONE && !alive[0]) || (bound[1] != NONE && !alive[1]))

/* StreamPool.live */
inline dropTheDead() {
  if
  :: bound[0] != NONE && !alive[0] -> bound[0] = NONE
  :: else
  fi;
  if
  :: bound[1] != NONE && !alive[1] -> bound[1] = NONE
  :: else
  fi
}

inline lock() { atomic { poolLock == 0 -> poolLock = 1 } }
inline unlock() { poolLock = 0 }
inline signalAll() { atomic { freed[0] = waiting[0]; freed[1] = waiting[1] } }

/* StreamPool.nextIndex, under the lock: streams 1 and 2 in turn, past those that are leased; 0 if all are. */
inline nextIndex() {
#ifdef ASSIGNS_LEASED_STREAMS
  index = 1 + turn; turn = 1 - turn
#else
  if
  :: !leased[1 + turn] -> index = 1 + turn;
#ifndef DOES_NOT_TAKE_TURNS
       turn = 1 - turn
#endif
  :: leased[1 + turn] && !leased[2 - turn] -> index = 2 - turn
  :: else -> index = 0
  fi
#endif
}

/* StreamPool.create: under the lock, which assign and lease have given back by then. */
inline create(i) {
  if
  :: created[i] == 0 ->
#ifdef CREATES_OUTSIDE_THE_LOCK
       skip;
       atomic { created[i]++; createdOnce = created[i] <= 1; assert(createdOnce) }
#else
       lock();
       atomic {
         if
         :: created[i] == 0 -> created[i]++
         :: else
         fi;
         createdOnce = created[i] <= 1;
         assert(createdOnce)
       };
       unlock()
#endif
  :: else
  fi
}

proctype thread(byte t) {
  byte index, before;
  do
  :: got[t] <= t ->
       /* current() → assign() */
       lock();
       before = turn;
       atomic {
         nextIndex();
         streamsAreGivenInTurn = (index == 1 + before && (turn != before)) || leased[1 + before];
         assert(streamsAreGivenInTurn);
         before = 0;
         bound[t] = index;
         leasedStreamIsNobodysOwn = index == 0 || !leased[index];
         assert(leasedStreamIsNobodysOwn)
       };
#ifdef KEEPS_THE_LOCK_AFTER_AN_ASSIGNMENT
       if
       :: index != 0 -> unlock()
       :: else
       fi;
#else
       unlock();
#endif
       create(index);
       atomic { own[t] = index; index = 0; got[t]++ };
       if
       :: /* releaseCurrentThread */
          lock();
          atomic { bound[t] = NONE; own[t] = NONE };
          signalAll();
          unlock()
       :: break /* dies: nobody is told */
       fi
  :: else -> break
  od;
  alive[t] = 0
}

proctype lessee(byte l) {
  byte index = NONE;
  bit patient;
  if
  :: patient = 1
  :: l == 1 -> patient = 0
  fi;
  lock();
#ifdef LOOKS_FOR_THE_CLOSE_ONCE
  if
  :: closed -> unlock(); goto over
  :: else
  fi;
#endif
  do
  ::
#ifdef LOOKS_OUTSIDE_THE_LOCK
     unlock();
#endif
     /* lendable() */
#ifndef LOOKS_FOR_THE_CLOSE_ONCE
     if
     :: closed -> unlock(); goto over
     :: else
     fi;
#endif
     atomic {
       index = NONE;
       dropTheDead();
       if
#ifdef LEASES_FROM_ZERO
       :: !leased[0] && !LIVE(0) -> index = 0
       :: (leased[0] || LIVE(0)) && !leased[1 + turn] && !LIVE(1 + turn) -> index = 1 + turn
#elif defined(LEASES_BOUND_STREAMS)
       :: !leased[1 + turn] -> index = 1 + turn
#else
       :: !leased[1 + turn] && !LIVE(1 + turn) -> index = 1 + turn
       :: (leased[1 + turn] || LIVE(1 + turn)) && !leased[2 - turn] && !LIVE(2 - turn) -> index = 2 - turn
#endif
       :: else
       fi
     };
#ifdef LOOKS_OUTSIDE_THE_LOCK
     lock();
#endif
     if
     :: index != NONE -> break
     :: else ->
          if
          :: !patient -> /* FAIL */
#ifndef THROWS_WITH_THE_LOCK
               unlock();
#endif
               goto over
          :: else
          fi;
          atomic { waiting[l] = 1; freed[l] = 0; poolLock = 0 }; /* awaitNanos gives the lock back … */
#ifdef LOOKS_FOR_THE_DEAD_ONLY_WHEN_TOLD
          freed[l];
#else
          if
          :: freed[l]
          :: SOMEBODY_DIED /* … until it is told, or finds somebody dead at the end of a slice of 20 ms */
          fi;
#endif
          atomic { poolLock == 0 -> poolLock = 1; waiting[l] = 0; freed[l] = 0 }
     fi
  od;
  atomic {
    leasedOnce = !leased[index];
    assert(leasedOnce);
    noLeaseAfterTheClose = !closed;
    assert(noLeaseAfterTheClose);
    zeroIsNotLeased = index != 0;
    assert(zeroIsNotLeased);
    leasedStreamIsNobodysOwn = !LIVE(index);
    assert(leasedStreamIsNobodysOwn);
    leased[index] = 1;
    has[l] = index
  };
  unlock();
  create(index);
  answered[l] = 1;
  /* Lease.close → giveBack */
  lock();
  atomic { leased[index] = 0; has[l] = NONE };
  signalAll();
  unlock();
over:
  answered[l] = 1
}

/* StreamPool.close, at any time or never. */
proctype closer() {
  if
  :: lock();
     closed = 1;
     signalAll();
     unlock()
  :: true
  fi
}

init {
  atomic {
    run thread(0);
    run thread(1);
    run lessee(0);
    run lessee(1);
    run closer()
  }
}

/* Both lessees get a stream, or learn that there is none, or of the close. */
ltl everyLeaseIsAnswered { <> (answered[0] && answered[1]) }

ltl everyThreadGetsAStream { <> (got[0] > 0 && got[1] > 0) }
