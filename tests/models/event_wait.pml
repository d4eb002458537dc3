/*
 * Two streams that wait for each other's events at the same time: DeviceStream.record, waitFor, flushTo and begin, and the
 * queues of the device, which run their command buffers in order.
 *
 * Bound: 2 streams, 2 threads (thread 0 encodes on stream 0 and waits there for stream 1, thread 1 the other way round), 2 operations and 1 wait each, in up to 3 command buffers a stream; either first operation may fail
 *
 * Left out: the wait of the CPU, which timeline.pml has.
 */
//: assert waitsNameSubmittedValues
//: assert orderAcrossStreams
//: assert failureTravels
//: assert oneStreamLockAtATime
//: noDeadlock
//: ltl whateverIsSubmittedIsDone
//: ltl everyWaitForReturns
//: mutant WAITS_WITHOUT_THE_FLUSH waitsNameSubmittedValues
//: mutant WAITS_WITHOUT_THE_FLUSH_AT_ALL whateverIsSubmittedIsDone
//: mutant SKIPS_WHAT_IS_NOT_SUBMITTED orderAcrossStreams
//: mutant FORGETS_FAILURES_THAT_HAVE_PASSED failureTravels
//: mutant LOOKS_FOR_FAILURES_ONLY_BEFORE failureTravels
//: mutant FLUSHES_UNDER_ITS_OWN_LOCK oneStreamLockAtATime
//: mutant FLUSHES_UNDER_ITS_OWN_LOCK_TOO everyWaitForReturns
//: mutant FLUSHES_UNDER_ITS_OWN_LOCK_AS_WELL noDeadlock

#if defined(FLUSHES_UNDER_ITS_OWN_LOCK) || defined(FLUSHES_UNDER_ITS_OWN_LOCK_TOO) || defined(FLUSHES_UNDER_ITS_OWN_LOCK_AS_WELL)
#define FLUSHES_WITH_THE_LOCK
#endif
#if defined(WAITS_WITHOUT_THE_FLUSH) || defined(WAITS_WITHOUT_THE_FLUSH_AT_ALL)
#define NO_FLUSH
#endif

#define OTHER(s) (1 - (s))
#define MOST 5 /* values 1 to 3, and what stands behind them */

bit streamLock[2];
bit open[2];
byte queued[2];
byte submitted[2];
byte completed[2];
byte failed[2]; /* first value that failed, 0 for none */

/* What each command buffer holds: a wait for a value of the other stream (0 for none), and operations of the user. */
typedef Buffers { byte waits[MOST]; bit dependent[MOST]; bit fails[MOST] }
Buffers buffers[2];

/* Where an operation that comes after the wait was encoded, and what it must come after. */
byte eventOf[2]; /* the other stream's value that stream s waited for */
byte afterWait[2]; /* value of the operation after the wait */
bit refused[2]; /* waitFor threw the failure */
byte done;

byte held[2]; /* stream locks that a thread holds */

bool waitsNameSubmittedValues = true;
bool orderAcrossStreams = true;
bool failureTravels = true;
bool oneStreamLockAtATime = true;

inline lock(s, who) {
  atomic {
    streamLock[s] == 0 -> streamLock[s] = 1;
    held[who]++;
    oneStreamLockAtATime = held[who] <= 1;
    assert(oneStreamLockAtATime)
  }
}

inline unlock(s, who) { atomic { streamLock[s] = 0; held[who]-- } }

/* DeviceStream.commit, with the lock held. */
inline commit(s) { atomic { submitted[s] = submitted[s] + 1; open[s] = 0 } }

/* DeviceStream.begin without its bound on what is in flight. */
inline begin(stream, by) {
  lock(stream, by);
  open[stream] = 1
}

inline flushTo(stream, upTo, by) {
  if
  :: submitted[stream] >= upTo
  :: else ->
       lock(stream, by);
       if
       :: submitted[stream] < upTo && open[stream] -> commit(stream)
       :: else
       fi;
       unlock(stream, by)
  fi
}

proctype thread(byte me) {
  byte event;
  /* an operation, alone in a buffer that may stay open */
  begin(me, me);
  atomic {
    queued[me] = submitted[me] + 1;
    if
    :: buffers[me].fails[queued[me]] = 1
    :: true
    fi
  };
  if
  :: commit(me)
  :: true
  fi;
  unlock(me, me);
  /* DeviceStream.waitFor(other.record()) */
  event = queued[OTHER(me)];
#ifdef FLUSHES_WITH_THE_LOCK
  lock(me, me);
  flushTo(OTHER(me), event, me);
  unlock(me, me);
#elif defined(NO_FLUSH)
  skip;
#elif defined(SKIPS_WHAT_IS_NOT_SUBMITTED)
  if
  :: submitted[OTHER(me)] < event -> eventOf[me] = event; goto operation
  :: else
  fi;
#else
  flushTo(OTHER(me), event, me);
#endif
#ifndef FORGETS_FAILURES_THAT_HAVE_PASSED
  if
  :: failed[OTHER(me)] != 0 && failed[OTHER(me)] <= event -> refused[me] = 1; goto end /* throwIfFailed */
  :: else
  fi;
#endif
  if
  :: completed[OTHER(me)] >= event -> /* Timeline.reached */
       if
#if !defined(FORGETS_FAILURES_THAT_HAVE_PASSED) && !defined(LOOKS_FOR_FAILURES_ONLY_BEFORE)
       :: failed[OTHER(me)] != 0 && failed[OTHER(me)] <= event -> refused[me] = 1; goto end /* throwIfFailed */
#endif
       :: else
       fi;
       eventOf[me] = event
  :: else ->
       begin(me, me);
       atomic { /* Driver.encodeWait */
         waitsNameSubmittedValues = event <= submitted[OTHER(me)];
         assert(waitsNameSubmittedValues);
         buffers[me].waits[submitted[me] + 1] = event;
         queued[me] = submitted[me] + 1;
         eventOf[me] = event
       };
       unlock(me, me)
  fi;
#ifdef SKIPS_WHAT_IS_NOT_SUBMITTED
operation:
#endif
  /* an operation that relies on it */
  begin(me, me);
  atomic {
    afterWait[me] = submitted[me] + 1;
    queued[me] = submitted[me] + 1
  };
  unlock(me, me);
  flushTo(me, afterWait[me], me);
end:
  done++
}

/* Runs the command buffers of a queue in order, each once what it waits for has passed; ends with its threads. */
proctype queue(byte s) {
  byte value;
end:
  do
  :: atomic {
       completed[s] < submitted[s] &&
           (buffers[s].waits[completed[s] + 1] == 0 || completed[OTHER(s)] >= buffers[s].waits[completed[s] + 1]) ->
         value = completed[s] + 1;
         orderAcrossStreams = afterWait[s] != value || completed[OTHER(s)] >= eventOf[s];
         assert(orderAcrossStreams);
         if
         :: failed[s] == 0 &&
                (buffers[s].fails[value] ||
                 (buffers[s].waits[value] != 0 && failed[OTHER(s)] != 0 && failed[OTHER(s)] <= buffers[s].waits[value])) ->
              failed[s] = value
         :: else
         fi;
         completed[s] = value;
         /* Whoever waits for the operation after the wait learns of the failure before it. */
         failureTravels = afterWait[s] != value || failed[OTHER(s)] == 0 || failed[OTHER(s)] > eventOf[s] ||
                          (failed[s] != 0 && failed[s] <= value);
         assert(failureTravels);
         value = 0
     }
  od
} /* unreached: the device serves for ever */

init {
  atomic {
    run thread(0);
    run thread(1);
    run queue(0);
    run queue(1)
  }
}

ltl whateverIsSubmittedIsDone { [] <> (submitted[0] == completed[0] && submitted[1] == completed[1]) }

ltl everyWaitForReturns { <> (done == 2) }
