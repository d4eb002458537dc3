/*
 * Events that the CPU completes: HostEvents.create, tick, failed and close, HostPromise.end, HostTimeline.promise, signal and complete,
 * beside a stream that waits for one (DeviceStream.waitFor, follow, commit, close), a thread that does, and Device.close.
 *
 * Bound: 2 events, of 2 host queues or of one after the other; each is signalled or failed, the first maybe dropped or left; whoever ends one may meet the close, or the completion thread; 1 stream or 1 thread waits for any of them, before or after; the driver refuses 1 signal; 1 completion thread, which keeps no idle queue; 1 close
 *
 * Left out: timeouts and the watchdog, how a thread is woken (timeline.pml), what the stream does else (event_wait.pml), and a device whose driver refuses every signal.
 */
//: assert endedOnce
//: assert aQueueHasOneOwner
//: assert noQueueCallAfterItsEnd
//: assert nobodyGoesOnEarly
//: assert failureReachesWhoeverWaits
//: assert failureStrikesNoOther
//: noDeadlock
//: ltl everyWaitReturns
//: ltl everyEventEnds
//: ltl everyCloseReturns
//: mutant ENDS_WITHOUT_THE_COMPARE endedOnce
//: mutant GIVES_THE_QUEUE_BACK_BEFORE_THE_SIGNAL aQueueHasOneOwner
//: mutant ENDS_QUEUES_UNDER_A_CALL noQueueCallAfterItsEnd
//: mutant LETS_GO_BEFORE_THE_COMMIT noQueueCallAfterItsEnd
//: mutant BELIEVES_THE_PROMISE nobodyGoesOnEarly
//: mutant LOOKS_FOR_FAILURES_ONLY_BEFORE failureReachesWhoeverWaits
//: mutant POLL_PASSES_FAILURES failureReachesWhoeverWaits
//: mutant USES_A_FAILED_QUEUE_AGAIN failureStrikesNoOther
//: mutant LEAVES_WHAT_IS_PENDING_AT_THE_CLOSE noDeadlock
//: mutant FORGETS_WHAT_IS_DROPPED everyWaitReturns
//: mutant LOOKS_AT_THE_CLOSE_FIRST everyEventEnds
//: mutant FORGETS_A_REFUSAL_AT_THE_CLOSE everyEventEnds
//: mutant ENDS_EVENTS_AFTER_THE_WAIT everyCloseReturns

#define NONE 2
mtype = { NEW, PENDING, ENDING, ENDED }; /* HostPromise.State */

/* Events and their promises. */
mtype state[2] = NEW;
byte queueOf[2], value[2];
bit made[2];      /* create has returned it */
bit promises[2];  /* HostEvents.promises */
bit gone;         /* nobody holds it, and the collector has found it */
bit signalled[2]; /* the driver was told */
bit asFailure[2]; /* as a failure */
bit refused, silent;

/* Host queues and their timelines. */
bit opened[2], live[2], idle[2];
byte submitted[2];       /* the last value promised */
byte deviceCompleted[2]; /* Driver.completedValue */
byte failedValue[2];     /* Driver.failedValue, 0 for none */
byte completed[2];
byte failures[2]; /* the value of the failure that is kept, 0 for none */
byte told[2];
byte users[2]; /* Timeline.queueLife */
bit queueClosed[2], queueDestroyed[2], ended[2];

/* The stream, with at most one command buffer. */
bit streamClosed, open, committed;
byte waitsFor = NONE, awaitedValue, behind = NONE; /* on the device for a value of a queue; the event that the work is behind */
bit works;

bit eventsClosed; /* HostEvents.closed */
bit stopping, threadOver, makerOver, userOver, closed;
bit late; /* the close comes when all is over, and helps nobody */

bool endedOnce = true;
bool aQueueHasOneOwner = true;
bool noQueueCallAfterItsEnd = true;
bool nobodyGoesOnEarly = true;
bool failureReachesWhoeverWaits = true;
bool failureStrikesNoOther = true;

inline queueCall(q) {
  noQueueCallAfterItsEnd = !queueDestroyed[q];
  assert(noQueueCallAfterItsEnd)
}

/* Timeline.releaseQueue and destroyQueue: the last who uses it ends it. */
inline releaseQueue(q) {
  users[q]--;
  if
  :: queueClosed[q] && users[q] == 0 -> queueDestroyed[q] = 1
  :: else
  fi
}

inline destroyQueue(q) {
  queueClosed[q] = 1;
  if
#ifdef ENDS_QUEUES_UNDER_A_CALL
  :: true -> queueDestroyed[q] = 1
#else
  :: users[q] == 0 -> queueDestroyed[q] = 1
  :: else /* unreached: where the call cannot meet another */
#endif
  fi
}

/* Timeline.poll: not past a failure. */
#ifdef POLL_PASSES_FAILURES
#define MAY_PASS(q) true
#else
#define MAY_PASS(q) (failedValue[q] == 0)
#endif
inline poll(q) {
  completed[q] = (!queueClosed[q] && deviceCompleted[q] > completed[q] && MAY_PASS(q) -> deviceCompleted[q] : completed[q])
}

/* HostPromise.end and endForGood: whoever is refused tries again once the close has begun. */
inline endPromise(e, fails) {
  do
  ::
#ifdef ENDS_WITHOUT_THE_COMPARE
     if
     :: state[e] == PENDING -> state[e] = ENDING
     :: state[e] != PENDING -> break
     fi;
#else
     if
     :: atomic { state[e] == PENDING -> state[e] = ENDING }
     :: state[e] != PENDING -> break /* unreached: where nobody else ends it */
     fi;
#endif
#ifdef GIVES_THE_QUEUE_BACK_BEFORE_THE_SIGNAL
     idle[queueOf[e]] = !fails;
#endif
     if /* HostTimeline.signal */
     :: atomic { queueClosed[queueOf[e]] -> state[e] = ENDED; promises[e] = 0 }; /* unreached: but for a thread that a close overtakes */
        break /* unreached: in the same way */
     :: atomic {
          !queueClosed[queueOf[e]] ->
            users[queueOf[e]]++;
            queueCall(queueOf[e]);
            if
            :: endedOnce = deviceCompleted[queueOf[e]] < value[e];
               assert(endedOnce);
               deviceCompleted[queueOf[e]] = value[e];
               signalled[e] = 1;
               asFailure[e] = fails;
               failedValue[queueOf[e]] = (fails && failedValue[queueOf[e]] == 0 -> value[e] : failedValue[queueOf[e]])
            :: !refused -> refused = 1
            fi
        }
     fi;
     atomic {
       releaseQueue(queueOf[e]);
       if
       :: signalled[e] -> /* HostEvents.ended */
            poll(queueOf[e]); /* which a failure keeps from anything */
            state[e] = ENDED;
            promises[e] = 0;
#ifdef USES_A_FAILED_QUEUE_AGAIN
            idle[queueOf[e]] = 1;
#else
            idle[queueOf[e]] = !fails;
#endif
            break
       :: else -> state[e] = PENDING
       fi
     };
     if
#ifdef FORGETS_A_REFUSAL_AT_THE_CLOSE
     :: true -> break
#else
     :: eventsClosed
     :: !eventsClosed -> break /* unreached: by the close itself */
#endif
     fi
  od
}

/* HostEvents.create. */
inline create(e) {
#ifdef LOOKS_AT_THE_CLOSE_FIRST
  if
  :: eventsClosed -> goto over
  :: !eventsClosed
  fi;
#endif
  atomic {
    if
    :: idle[0] -> queue = 0; idle[0] = 0
    :: else -> /* open */
         queue = opened[0];
         opened[queue] = 1;
         live[queue] = 1
    fi;
    aQueueHasOneOwner = state[1 - e] == NEW || state[1 - e] == ENDED || queueOf[1 - e] != queue;
    assert(aQueueHasOneOwner);
    submitted[queue]++;
    queueOf[e] = queue;
    value[e] = submitted[queue];
    state[e] = PENDING;
    promises[e] = 1
  };
#ifndef LOOKS_AT_THE_CLOSE_FIRST
  if
  :: eventsClosed ->
       endPromise(e, 1);
       atomic { destroyQueue(queue) };
       goto over
  :: !eventsClosed
  fi;
#endif
  made[e] = 1
}

/* Makes the events, one after the other. One that it drops or leaves stays open beside the next. */
active proctype maker() {
  byte queue, e;
  bit fails;
making:
  create(e);
ending:
  if
  :: fails = 0; endPromise(e, fails) /* HostEvent.signal */
  :: fails = 1; endPromise(e, fails) /* HostEvent.fail */
  :: atomic { e == 0 -> gone = 1 }
  :: atomic { e == 0 && !late -> silent = 1 }
  fi;
  if
  :: state[e] == PENDING && (e == 1 || (!gone && !silent)) -> goto ending /* it was refused: another try */
  :: else
  fi;
  if
  :: atomic { e == 0 -> e = 1 }; goto making
  :: e == 1
  fi;
over:
  atomic { makerOver = 1; queue = 0; e = 0; fails = 0 }
}

/* DeviceStream.commit, with the lock held; the wait may be encoded anew before it. */
inline commit() {
  if
  :: waitsFor != NONE ->
       queueCall(waitsFor);
#ifndef LETS_GO_BEFORE_THE_COMMIT
       releaseQueue(waitsFor)
#endif
  :: else
  fi;
  open = 0;
  committed = 1
}

/* Waits for an event: itself (DeviceEvent.await), or has the stream do so (DeviceStream.waitFor) for an operation behind it. */
active proctype user() {
  byte e = NONE;
  bit passed;
  if
  :: made[0] -> e = 0
  :: made[1] -> e = 1
  :: makerOver -> goto over
  fi;
  if
  :: goto waiting
  :: true
  fi;
  if
  :: failures[queueOf[e]] != 0 && failures[queueOf[e]] <= value[e] -> goto over /* throwIfFailed */
  :: else
  fi;
  /* follow */
#ifdef BELIEVES_THE_PROMISE
  passed = submitted[queueOf[e]] >= value[e];
#else
  atomic {
    if
    :: completed[queueOf[e]] < value[e] -> poll(queueOf[e])
    :: else
    fi;
    passed = completed[queueOf[e]] >= value[e]
  };
#endif
  if
  :: !passed ->
       atomic {
         if
         :: queueClosed[queueOf[e]] -> passed = 1
         :: !queueClosed[queueOf[e]] -> users[queueOf[e]]++ /* holdQueue */
         fi
       }
  :: else
  fi;
  if
  :: passed ->
#ifndef LOOKS_FOR_FAILURES_ONLY_BEFORE
       if
       :: failures[queueOf[e]] != 0 && failures[queueOf[e]] <= value[e] -> goto over /* throwIfFailed */
       :: else
       fi
#endif
  :: !passed ->
       atomic { /* begin and Driver.encodeWait */
         if
         :: streamClosed -> releaseQueue(queueOf[e]); goto over /* DeviceClosedException */
         :: else ->
              queueCall(queueOf[e]);
              open = 1;
              waitsFor = queueOf[e];
              awaitedValue = value[e];
#ifdef LETS_GO_BEFORE_THE_COMMIT
              releaseQueue(waitsFor)
#endif
         fi
       }
  fi;
  atomic { /* an operation */
    if
    :: streamClosed -> goto over /* DeviceClosedException */
    :: else -> open = 1; works = 1; behind = e
    fi
  };
  atomic {
    if
    :: open -> commit()
    :: else /* the close has done it */
    fi
  };
  goto over;

waiting:
  atomic {
    if
    :: completed[queueOf[e]] < value[e] -> poll(queueOf[e])
    :: else
    fi
  };
  completed[queueOf[e]] >= value[e] || ended[queueOf[e]];
  atomic { /* throwIfFailed */
    if
    :: completed[queueOf[e]] >= value[e] ->
         nobodyGoesOnEarly = signalled[e];
         assert(nobodyGoesOnEarly);
         failureReachesWhoeverWaits = !asFailure[e] || (failures[queueOf[e]] != 0 && failures[queueOf[e]] <= value[e]);
         assert(failureReachesWhoeverWaits);
         failureStrikesNoOther = asFailure[e] || failures[queueOf[e]] == 0 || failures[queueOf[e]] > value[e];
         assert(failureStrikesNoOther)
    :: else /* DeviceClosedException */
    fi
  };
over:
  atomic { passed = 0; e = NONE; userOver = 1 }
}

/* Runs the command buffer. */
active proctype device() {
endIdle:
  atomic {
    committed && (waitsFor == NONE || deviceCompleted[waitsFor] >= awaitedValue) ->
      if
      :: works ->
           nobodyGoesOnEarly = signalled[behind];
           assert(nobodyGoesOnEarly);
           failureReachesWhoeverWaits = !asFailure[behind] || (waitsFor != NONE && failedValue[waitsFor] != 0 && failedValue[waitsFor] <= awaitedValue);
           assert(failureReachesWhoeverWaits);
           failureStrikesNoOther = asFailure[behind] || waitsFor == NONE || failedValue[waitsFor] == 0 || failedValue[waitsFor] > awaitedValue;
           assert(failureStrikesNoOther)
      :: else
      fi;
      committed = 0;
      waitsFor = NONE;
      awaitedValue = 0;
      behind = NONE;
      works = 0
  }
}

#define TOLD(q) (told[q] == deviceCompleted[q])

/* HostTimeline.complete, of one value; each has a completion. */
inline complete(q) {
  atomic {
    !TOLD(q) ->
      failures[q] = (failedValue[q] == told[q] + 1 && failures[q] == 0 -> failedValue[q] : failures[q]);
      told[q]++;
      completed[q] = (completed[q] < told[q] -> told[q] : completed[q]);
      if
      :: failures[q] != 0 -> live[q] = 0; destroyQueue(q) /* HostEvents.failed */
      :: else
      fi
  }
}

/* HostEvents.tick: ends a queue that is idle; no more than so many are kept. */
inline endIdleQueue(q) {
  atomic {
    !stopping && idle[q] && told[q] == submitted[q] ->
      idle[q] = 0;
      live[q] = 0;
      destroyQueue(q)
  }
}

/* CompletionLoop. */
active proctype completionThread() {
  do
  :: complete(0)
  :: complete(1)
  :: endIdleQueue(0)
  :: endIdleQueue(1)
#ifndef FORGETS_WHAT_IS_DROPPED
  :: !stopping && gone && state[0] != ENDED -> endPromise(0, 1)
#endif
  :: stopping && TOLD(0) && TOLD(1) -> break
  od;
  threadOver = 1
}

/* Device.close. */
active proctype closer() {
  if
  :: true
  :: atomic { !silent -> late = 1 };
     makerOver && userOver && state[0] == ENDED && state[1] == ENDED
  fi;
  atomic { /* DeviceStream.close */
    streamClosed = 1;
    if
    :: open -> commit()
    :: else
    fi
  };
#ifndef ENDS_EVENTS_AFTER_THE_WAIT
  eventsClosed = 1; /* HostEvents.close */
#ifndef LEAVES_WHAT_IS_PENDING_AT_THE_CLOSE
  if
  :: promises[0] -> endPromise(0, 1)
  :: else
  fi;
  if
  :: promises[1] -> endPromise(1, 1)
  :: else
  fi;
#endif
#endif
  !committed; /* Timeline.awaitReached */
#ifdef ENDS_EVENTS_AFTER_THE_WAIT
  eventsClosed = 1;
  if
  :: promises[0] -> endPromise(0, 1)
  :: else
  fi;
  if
  :: promises[1] -> endPromise(1, 1)
  :: else
  fi;
#endif
  stopping = 1; /* CompletionLoop.stop */
  threadOver;
  atomic { /* HostEvents.end */
    ended[0] = live[0];
    ended[1] = live[1]
  };
  atomic { /* HostEvents.destroy */
    if
    :: live[0] -> destroyQueue(0)
    :: else
    fi;
    if
    :: live[1] -> destroyQueue(1)
    :: else
    fi
  };
  closed = 1
}

ltl everyWaitReturns { <> userOver }

ltl everyEventEnds { <> (makerOver && (state[0] == NEW || state[0] == ENDED) && (state[1] == NEW || state[1] == ENDED)) }

ltl everyCloseReturns { <> closed }
