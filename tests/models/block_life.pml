/*
 * The life of one block of memory: Lifetime.acquire/release/close, DeviceStream.follow and usedBy, Uses, StreamCache.take, close,
 * reclaim and takeOut, Allocator.closed, awaitHostSafe, giveBack and stolen. Ghost variables keep what work really touches it.
 *
 * Bound: 1 block of stream 0, 1 other stream, 2 tenancies; the first is used on both streams, and by work on the other that this library does not see; the second goes to the device, to the CPU, to the other stream by a steal, or the block goes back to the driver
 *
 * Left out: the ledger (Lincheck has it), huge blocks and poison, and the way of an allocation beyond the cache.
 */
//: assert noEarlyReuse
//: assert orderAfterTheLastTenant
//: assert noEarlyHostAccess
//: assert notGivenBackUnderTheDevice
//: assert closedOnce
//: assert inOneHand
//: noDeadlock
//: ltl everyClosedBlockComesBack
//: mutant RECYCLES_AT_ONCE noEarlyReuse
//: mutant FENCES_AT_THE_RECORD noEarlyReuse
//: mutant CLOSES_UNDER_AN_ACQUIRE noEarlyReuse
//: mutant DOES_NOT_FOLLOW orderAfterTheLastTenant
//: mutant STEALS_WHAT_IS_IN_USE orderAfterTheLastTenant
//: mutant MAPS_WHEN_THE_TENANT_IS_DONE noEarlyHostAccess
//: mutant GIVES_BACK_WHAT_IS_REUSABLE notGivenBackUnderTheDevice
//: mutant COUNTS_THE_CLOSE_TWICE closedOnce
//: mutant LOOKS_AND_TAKES_IN_TWO_HOLDS inOneHand
//: mutant ENCODES_WITHOUT_RELEASE everyClosedBlockComesBack
//: mutant RECLAIMS_ONLY_ON_ALLOCATION everyClosedBlockComesBack
//: mutant KEEPS_THE_MONITOR noDeadlock

#define MAX(a, b) ((a) > (b) -> (a) : (b))

mtype = { IN_USE, PENDING, CACHED, TAKEN, RELEASED };

/* Streams: everything encoded is committed, which is the worst case for reuse. */
byte queued[2];
byte completed[2];

/* The block: Block, Uses. Its owner is stream 0 until it is stolen. */
bit monitor; /* of the owner's StreamCache */
mtype state = IN_USE;
byte owner;
byte ownerValue, inherited;
byte otherValue;
bit recorded;

/* The first tenancy: Tenancy, Lifetime. */
byte acquires;
bit closed;
byte freed; /* how often Allocator.closed ran */

/* Ghosts: the last work of the first tenant on each stream, seen by the library or not. */
byte touch[2];
byte hands; /* new users of the block, and the driver */
bit done; /* the second tenancy is over, or there is none */

bool noEarlyReuse = true;
bool orderAfterTheLastTenant = true;
bool noEarlyHostAccess = true;
bool notGivenBackUnderTheDevice = true;
bool closedOnce = true;
bool inOneHand = true;

#define OTHERS_PASSED (completed[1 - owner] >= otherValue)
#define OWNER_PASSED (completed[owner] >= ownerValue)
#ifdef RECYCLES_AT_ONCE
#define REUSABLE true
#else
#define REUSABLE OTHERS_PASSED
#endif
#ifdef GIVES_BACK_WHAT_IS_REUSABLE
#define UNUSED OTHERS_PASSED
#else
#define UNUSED (OWNER_PASSED && OTHERS_PASSED)
#endif

inline enterMonitor() { atomic { monitor == 0 -> monitor = 1 } }
inline exitMonitor() { monitor = 0 }

inline acquire(got) {
  atomic {
    if
    :: !closed -> acquires++; got = 1
    :: else -> got = 0
    fi
  }
}

/* StreamCache.settle: to its free list. */
inline settle() {
  state = CACHED;
  otherValue = 0;
  recorded = 0
}

/* Allocator.closed: the fence, then StreamCache.close. */
inline allocatorClosed() {
  freed++;
  closedOnce = freed <= 1;
  assert(closedOnce);
#ifndef FENCES_AT_THE_RECORD
  /* Uses.close */
  if
  :: recorded -> otherValue = MAX(otherValue, queued[1])
  :: else
  fi;
#endif
  enterMonitor();
  atomic {
    if
    :: REUSABLE -> settle()
    :: else -> state = PENDING
    fi
  };
#ifdef KEEPS_THE_MONITOR
  if
  :: state != PENDING -> exitMonitor()
  :: else
  fi
#else
  exitMonitor()
#endif
}

inline release() {
  atomic {
    acquires--;
    last = closed && acquires == 0
  };
  if
  :: last -> last = 0; allocatorClosed()
  :: else
  fi
}

/* A thread of the first tenant: encodes on stream s, or finds the buffer closed. */
proctype user(byte s) {
  bit got, last;
  acquire(got);
  if
  :: got ->
       got = 0;
       atomic { /* under the stream's lock: encode, usedBy, commit */
         queued[s] = queued[s] + 1;
         touch[s] = queued[s];
         if
         :: s == owner -> ownerValue = queued[s]
         :: else -> otherValue = MAX(otherValue, queued[s])
         fi
       };
#ifdef ENCODES_WITHOUT_RELEASE
       skip
#else
       release()
#endif
  :: else
  fi
}

/* The first tenant's own thread: tells of work on stream 1 that the library does not see, encodes it, and closes. */
proctype tenant() {
  bit last;
  if
  :: recorded = 1; /* recordStream: Uses.record; its acquire is always had, as this thread closes later */
#ifdef FENCES_AT_THE_RECORD
     otherValue = MAX(otherValue, queued[1]);
#endif
     atomic { queued[1] = queued[1] + 1; touch[1] = queued[1] }
  :: true
  fi;
  /* DeviceBuffer.close → Lifetime.close */
  atomic {
    closed = 1;
#ifdef CLOSES_UNDER_AN_ACQUIRE
    last = 1
#elif defined(COUNTS_THE_CLOSE_TWICE)
    last = acquires <= 1
#else
    last = acquires == 0
#endif
  };
  if
  :: last -> last = 0; allocatorClosed()
  :: else
  fi
}

/* The device runs each stream in order, the two in any. */
proctype device(byte s) {
end:
  do
  :: completed[s] < queued[s] -> completed[s] = completed[s] + 1
  od
} /* unreached: the device serves for ever */

/* CompletionLoop.drain → Allocator.reclaim → StreamCache.reclaim, whenever something was completed. */
proctype completionThread() {
end:
  do
  :: state == PENDING && REUSABLE ->
#ifdef RECLAIMS_ONLY_ON_ALLOCATION
       false;
#endif
       enterMonitor();
       atomic {
         if
         :: state == PENDING && REUSABLE -> settle()
         :: else -> skip /* unreached: nobody else reclaims here, and what has passed stays so */
         fi
       };
       exitMonitor()
  od
} /* unreached: the thread is there as long as the device */

inline handOut() {
  state = IN_USE;
  hands++;
  inOneHand = hands <= 1;
  assert(inOneHand)
}

/* The next tenant, on the owner's stream or by a steal on the other. */
proctype next() {
  byte value;
  bit forHost;
  state == CACHED || hands > 0;
  if
  :: /* StreamCache.take for the device */
     enterMonitor();
#ifdef LOOKS_AND_TAKES_IN_TWO_HOLDS
     if
     :: state == CACHED -> exitMonitor(); enterMonitor()
     :: else -> exitMonitor(); goto over
     fi;
     atomic {
       inherited = ownerValue;
       handOut()
     };
#else
     if
     :: state == CACHED -> atomic { inherited = ownerValue; handOut() }
     :: else -> exitMonitor(); goto over
     fi;
#endif
     exitMonitor();
     noEarlyReuse = completed[1] >= touch[1];
     assert(noEarlyReuse);
     if
     :: /* work on the owner: ordered by the stream */
        queued[0] = queued[0] + 1;
        ownerValue = queued[0]
     :: /* work on the other stream: DeviceStream.follow */
#ifndef DOES_NOT_FOLLOW
        completed[0] >= inherited; /* on the device; what was encoded before goes on */
#endif
        orderAfterTheLastTenant = completed[0] >= touch[0];
        assert(orderAfterTheLastTenant)
     :: /* map: Uses.await */
#ifdef MAPS_WHEN_THE_TENANT_IS_DONE
        skip;
#else
        OWNER_PASSED;
#endif
        noEarlyHostAccess = completed[0] >= touch[0] && completed[1] >= touch[1];
        assert(noEarlyHostAccess)
     fi
  :: /* StreamCache.take for the CPU */
     enterMonitor();
     if
     :: state == CACHED && UNUSED -> atomic { inherited = ownerValue; handOut() }
     :: else -> exitMonitor(); goto over
     fi;
     exitMonitor();
     noEarlyHostAccess = completed[0] >= touch[0] && completed[1] >= touch[1];
     assert(noEarlyHostAccess)
  :: /* Allocator.stolen, StealPolicy.COMPLETE */
     enterMonitor();
     if
#ifdef STEALS_WHAT_IS_IN_USE
     :: state == CACHED -> atomic { handOut(); owner = 1; ownerValue = 0 }
#else
     :: state == CACHED && UNUSED -> atomic { handOut(); owner = 1; ownerValue = 0 }
#endif
     :: else -> exitMonitor(); goto over
     fi;
     exitMonitor();
     orderAfterTheLastTenant = completed[0] >= touch[0];
     assert(orderAfterTheLastTenant);
     queued[1] = queued[1] + 1;
     ownerValue = queued[1]
  fi;
over:
  done = 1
}

/* Allocator.trimTo → StreamCache.takeOut → giveBack, or not. */
proctype trimmer() {
  if
  :: state == CACHED || hands > 0;
     enterMonitor();
     if
     :: state == CACHED && UNUSED -> atomic { state = TAKEN; hands++; inOneHand = hands <= 1; assert(inOneHand) }
     :: else -> exitMonitor(); goto over
     fi;
     exitMonitor();
     atomic {
       state = RELEASED;
       notGivenBackUnderTheDevice = completed[0] >= touch[0] && completed[1] >= touch[1];
       assert(notGivenBackUnderTheDevice)
     }
  :: true
  fi;
over:
  skip
}

init {
  atomic {
    run user(0);
    run user(1);
    run tenant();
    run device(0);
    run device(1);
    run completionThread();
    run next();
    run trimmer()
  }
}

/* What is closed is cached in the end: its next user comes, or the driver gets it. */
ltl everyClosedBlockComesBack { <> done }
