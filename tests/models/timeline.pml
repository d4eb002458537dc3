/*
 * One stream and its timeline: Timeline, DeviceStream.begin/commit, CompletionLoop.drain, and the rules of the driver: a
 * completion is queued before its value shows, and who has taken it sees the value.
 *
 * Bound: 2 command buffers, at most 1 in flight; 1 encoding thread, 2 waiting threads (one waits natively, one parks), 1 completion thread; any of the buffers may fail
 *
 * Left out: timeouts, interrupts and the watchdog (they only end waits), GPU times, and resets.
 */
//: assert completedNeverPassesTheDevice
//: assert completedNeverPassesSubmittedUnderTheLock
//: assert completedOnlyGrows
//: assert noEarlyReturn
//: assert waiterSeesTheFailure
//: assert maxInFlightIsKept
//: noDeadlock
//: ltl everyWaitEnds
//: ltl everythingIsSubmitted
//: mutant POLL_BELIEVES_THE_COMMIT completedNeverPassesTheDevice
//: mutant SUBMITS_AFTER_THE_LOCK completedNeverPassesSubmittedUnderTheLock
//: mutant ADVANCES_WITHOUT_COMPARING completedOnlyGrows
//: mutant GIVES_WORK_TO_THE_FIRST_WAITER noEarlyReturn
//: mutant POLL_PASSES_FAILURES waiterSeesTheFailure
//: mutant KEEPS_THE_FAILURE_AFTERWARDS waiterSeesTheFailure
//: mutant BEGINS_WITHOUT_WAITING maxInFlightIsKept
//: mutant DRIVER_PUBLISHES_IN_TWO_HOLDS maxInFlightIsKept
//: mutant KEEPS_THE_LOCK_IF_NOTHING_IS_OPEN noDeadlock
//: mutant WAKES_BEFORE_IT_COMPLETES everyWaitEnds
//: mutant LOOKS_BEFORE_IT_REGISTERS everyWaitEnds
//: mutant FORGETS_TO_COMMIT_BEFORE_THE_WAIT everyWaitEnds
//: mutant WAITS_FOR_THE_NEWEST everythingIsSubmitted

#define BUFFERS 2
#define MAX_IN_FLIGHT 1
#define NONE 9

/* The stream: DeviceStream. */
bit streamLock;
bit open;
byte queued;    /* what everything encoded so far will have reached */
byte submitted; /* Timeline.submitted, under the stream's lock */

/* The device: what the driver sees. */
byte committed;       /* last value that it accepted */
byte deviceCompleted; /* Driver.completedValue */
byte failedValue;     /* Driver.failedValue: the first that failed, 0 for none */
bit deviceLock;
byte records;         /* completions that are queued for the completion thread, as the last one's value */

/* The timeline. */
byte completed;
byte failures = NONE; /* first value of the kept failure */
bit hasWaiters;
bit registered[2];
bit parkPermit[2]; /* LockSupport.unpark */
byte waitsFor[2];

bit taken; /* of a mutant alone */

bool completedNeverPassesTheDevice = true;
bool completedNeverPassesSubmittedUnderTheLock = true;
bool completedOnlyGrows = true;
bool noEarlyReturn = true;
bool waiterSeesTheFailure = true;
bool maxInFlightIsKept = true;

byte returned; /* waiting threads that are done */

inline lockStream() {
  atomic {
    streamLock == 0 -> streamLock = 1;
    completedNeverPassesSubmittedUnderTheLock = completed <= submitted;
    assert(completedNeverPassesSubmittedUnderTheLock)
  }
}
inline unlockStream() { streamLock = 0 }

inline setCompleted(value) {
  completedOnlyGrows = value >= completed;
  completed = value;
  completedNeverPassesTheDevice = completed <= deviceCompleted;
  assert(completedOnlyGrows);
  assert(completedNeverPassesTheDevice)
}

/* Timeline.advance: a compare-and-set in a loop; here in one step, which is what it comes to. */
inline advance(value) {
#ifdef ADVANCES_WITHOUT_COMPARING
  d_step { setCompleted(value) }
#else
  atomic {
    if
    :: completed < value -> setCompleted(value)
    :: else
    fi
  }
#endif
}

/* Timeline.poll: reads the device's value, then its failure, then advances; three steps. */
inline poll() {
#ifdef POLL_BELIEVES_THE_COMMIT
  now = committed;
#else
  now = deviceCompleted;
#endif
  if
  :: now > completed ->
#ifndef POLL_PASSES_FAILURES
       if
       :: failedValue == 0 || failedValue > now ->
#endif
            advance(now)
#ifndef POLL_PASSES_FAILURES
       :: else
       fi
#endif
  :: else
  fi;
  now = 0 /* forgotten, so that it does not tell states apart */
}

/* Driver.begin: refused with BUSY if too much is under way. */
inline driverBegin() {
  atomic {
    maxInFlightIsKept = committed - deviceCompleted < MAX_IN_FLIGHT;
    assert(maxInFlightIsKept);
    open = 1
  }
}

/* DeviceStream.commit, with the lock held. The driver accepts the value before Timeline.submitted shows it. */
inline commit() {
  committed = submitted + 1;
#ifdef SUBMITS_AFTER_THE_LOCK
  unlockStream();
  skip;
  lockStream();
#endif
  submitted = submitted + 1;
  open = 0
}

inline flushTo(value) {
  if
  :: submitted >= value
  :: else ->
       lockStream();
       if
       :: submitted < value && open -> commit(); unlockStream()
       :: else ->
#ifndef KEEPS_THE_LOCK_IF_NOTHING_IS_OPEN
            unlockStream()
#endif
       fi
  fi
}

/* Encodes one operation into a command buffer of its own, BUFFERS times; the last one stays open. */
active proctype encoder() {
  byte now, oldest;
  do
  :: queued == BUFFERS -> break
  :: else ->
       /* DeviceStream.begin */
       do
       :: lockStream();
          oldest = (submitted >= MAX_IN_FLIGHT -> submitted - MAX_IN_FLIGHT + 1 : 0);
#ifdef WAITS_FOR_THE_NEWEST
          oldest = submitted + 1;
#endif
          if
          :: !open ->
#ifndef BEGINS_WITHOUT_WAITING
               poll();
               if
               :: completed >= oldest -> driverBegin()
               :: else
               fi
#else
               driverBegin()
#endif
          :: else -> skip /* unreached: the only encoder leaves no buffer open behind before it begins again */
          fi;
          if
          :: open -> oldest = 0; break
          :: else ->
               unlockStream();
               atomic { completed >= oldest -> oldest = 0 } /* Timeline.awaitReached: shown by the waiting threads below */
          fi
       od;
       queued = submitted + 1;
       if
       :: queued < BUFFERS -> commit()
       :: else /* the last is left to whoever waits for it */
       fi;
       unlockStream()
  od
}

/* The device runs committed buffers in order. Each may fail; after a failure all fail. */
active proctype device() {
end:
  do
  :: deviceCompleted == BUFFERS -> break
  :: deviceCompleted < committed ->
       deviceLock = 1;
       records = deviceCompleted + 1; /* the record first */
#ifdef DRIVER_PUBLISHES_IN_TWO_HOLDS
       deviceLock = 0;
#endif
       if
       :: failedValue == 0 -> failedValue = deviceCompleted + 1
       :: true
       fi;
       deviceCompleted = deviceCompleted + 1;
       deviceLock = 0
  od
}

/* CompletionLoop: takes records in order. */
active proctype completionThread() {
  byte value;
  byte i;
end:
  do
  :: value == BUFFERS -> break
  :: atomic { !deviceLock && value < records -> value = value + 1 };
       /* Timeline.complete */
#ifdef WAKES_BEFORE_IT_COMPLETES
       if
       :: hasWaiters ->
            d_step {
              i = 0;
              do
              :: i < 2 ->
                   if
                   :: registered[i] && waitsFor[i] <= value -> registered[i] = 0; parkPermit[i] = 1
                   :: else
                   fi;
                   i++
              :: else -> break
              od;
              i = 0
            }
       :: else
       fi;
#endif
#ifdef KEEPS_THE_FAILURE_AFTERWARDS
       advance(value);
#endif
       if
       :: failedValue != 0 && failedValue <= value && failures == NONE -> failures = failedValue
       :: else
       fi;
       advance(value);
#ifndef WAKES_BEFORE_IT_COMPLETES
       /* Timeline.wakeReached: looks for waiters after `completed` was written */
       if
       :: hasWaiters ->
            d_step { /* wakeUpTo, under the waiters' lock */
              i = 0;
              do
              :: i < 2 ->
                   if
                   :: registered[i] && waitsFor[i] <= completed -> registered[i] = 0; parkPermit[i] = 1
                   :: else
                   fi;
                   i++
              :: else -> break
              od;
              i = 0;
              hasWaiters = registered[0] || registered[1]
            }
       :: else
       fi
#endif
  od
}

/* DeviceStream.await of everything that is encoded by now. Thread 0 waits natively first, thread 1 parks at once. */
proctype waiter(byte me) {
  byte value, now;
  value = queued;
#ifndef FORGETS_TO_COMMIT_BEFORE_THE_WAIT
  flushTo(value);
#endif
#ifdef GIVES_WORK_TO_THE_FIRST_WAITER
  if
  :: atomic { !taken -> taken = 1 }
  :: else -> goto awake
  fi;
#endif
  if
  :: completed >= value -> goto awake
  :: else
  fi;
  poll();
  if
  :: completed >= value -> goto awake
  :: else
  fi;
  /* Timeline.block */
  if
  :: me == 0 ->
       deviceCompleted >= value; /* Driver.awaitValue */
       poll();
       if
       :: completed >= value -> goto awake
       :: else /* a failure is on its way through the completion thread */
       fi
  :: else
  fi;
  /* Timeline.park */
#ifdef LOOKS_BEFORE_IT_REGISTERS
  if
  :: completed >= value -> goto awake
  :: else
  fi;
#endif
  d_step { /* register, under the waiters' lock */
    waitsFor[me] = value;
    registered[me] = 1;
    hasWaiters = 1
  };
#ifdef LOOKS_BEFORE_IT_REGISTERS
  atomic { parkPermit[me] -> parkPermit[me] = 0 };
#endif
  do
  :: completed >= value -> break
  :: else -> atomic { parkPermit[me] -> parkPermit[me] = 0 } /* LockSupport.park */
  od;
  atomic { /* forget */
    registered[me] = 0;
    waitsFor[me] = 0;
    hasWaiters = registered[0] || registered[1]
  };
awake:
  atomic {
    noEarlyReturn = value <= deviceCompleted;
    assert(noEarlyReturn);
    /* Timeline.throwIfFailed */
    waiterSeesTheFailure = failedValue == 0 || failedValue > value || failures <= value;
    assert(waiterSeesTheFailure)
  };
  atomic { value = 0; now = 0; returned++ }
}

init {
  atomic {
    run waiter(0);
    run waiter(1)
  }
}

/* Whoever waits returns. The last buffer is committed by a waiter who saw it, if any: nobody else waits for it. */
ltl everyWaitEnds { <> (returned == 2) }

/* Encoding goes on: what is in flight ends, and room is made for the next. */
ltl everythingIsSubmitted { <> (queued == BUFFERS) }
