/*
 * The end of a device: Device.close and end, DeviceStream.close, CompletionLoop (runUntilStopped, drain, stop), Timeline.end and
 * destroyQueue, beside a thread that encodes, one that waits, and a second closer.
 *
 * Bound: 1 stream, 2 command buffers (one maybe still open at the close), 1 encoder, 1 waiter, 2 closers, 1 completion thread; the device may hang, so that the time of the close runs out
 *
 * Left out: buffers and executables, which go in the same order; the housekeeping of the completion thread.
 */
//: assert noQueueCallAfterItsEnd
//: assert noWorkAfterTheClose
//: assert endedOnce
//: assert reportedIsTold
//: assert notReleasedUnderTheDevice
//: noDeadlock
//: ltl everyCloseReturns
//: ltl everyWaitReturns
//: mutant DESTROYS_THE_QUEUE_AT_ONCE noQueueCallAfterItsEnd
//: mutant BEGINS_WITHOUT_A_LOOK_UNDER_THE_LOCK noWorkAfterTheClose
//: mutant ENDS_WITHOUT_THE_CLOSING_LOCK endedOnce
//: mutant STOPS_WITHOUT_A_LAST_DRAIN reportedIsTold
//: mutant RELEASES_WHATEVER_HANGS notReleasedUnderTheDevice
//: mutant WAKES_WITHOUT_A_TRACE everyCloseReturns
//: mutant DOES_NOT_END_THE_TIMELINE everyWaitReturns
//: mutant KEEPS_THE_STREAM_LOCK noDeadlock

mtype = { OPEN, CLOSING, CLOSED };

mtype deviceState = OPEN;
bit closingLock, streamLock;
bit streamClosed; /* DeviceStream.closed */
bit open; /* a command buffer is open */
byte committed, deviceCompleted, records, told;
bit hangs; /* the device does nothing more */
bit stopping, woken, threadOver;
bit ended; /* Timeline.ended */
byte queueUsers; /* Timeline.queueLife */
bit queueClosed, queueDestroyed, driverClosed;
bit waiterOver;
byte closers;
byte ends;

bool noQueueCallAfterItsEnd = true;
bool noWorkAfterTheClose = true;
bool endedOnce = true;
bool reportedIsTold = true;
bool notReleasedUnderTheDevice = true;

inline lockStream() { atomic { streamLock == 0 -> streamLock = 1 } }
inline unlockStream() { streamLock = 0 }

inline queueCall() {
  noQueueCallAfterItsEnd = !queueDestroyed;
  assert(noQueueCallAfterItsEnd)
}

inline commit() {
  atomic {
    queueCall();
    committed++;
    open = 0
  }
}

/* DeviceStream.begin … encoded: twice, the second buffer stays open. */
active proctype encoder() {
  byte count;
  do
  :: count < 2 ->
#ifdef BEGINS_WITHOUT_A_LOOK_UNDER_THE_LOCK
       if
       :: streamClosed -> break
       :: else
       fi;
       lockStream();
#else
       lockStream();
       if
       :: streamClosed -> unlockStream(); break /* DeviceClosedException */
       :: else
       fi;
#endif
       atomic {
         queueCall();
         open = 1;
         noWorkAfterTheClose = !streamClosed;
         assert(noWorkAfterTheClose)
       };
       count++;
       if
       :: count == 1 -> commit()
       :: else
       fi;
#ifdef KEEPS_THE_STREAM_LOCK
       if
       :: !open -> unlockStream()
       :: else
       fi
#else
       unlockStream()
#endif
  :: else -> break
  od
}

/* Runs what is committed, or hangs for ever. */
active proctype device() {
end:
  do
  :: !hangs && deviceCompleted < committed ->
       if
       :: atomic { records++; deviceCompleted++ } /* within one hold of the driver's lock */
       :: hangs = 1
       fi
  od
} /* unreached: the device is there whether somebody uses it or not */

/* CompletionLoop.drain: Driver.nextCompletions, then Timeline.complete. */
inline drain() { told < records -> told++ }

/* CompletionLoop.runUntilStopped. */
active proctype completionThread() {
  do
  :: stopping -> break
  :: !stopping ->
       if
       :: drain()
       :: woken -> woken = 0
       fi
  od;
#ifndef STOPS_WITHOUT_A_LAST_DRAIN
  do
  :: drain()
  :: told == records -> break
  od;
#endif
  threadOver = 1
}

/* Timeline.awaitReached of the first command buffer: in native code, under the queue's life, in slices. */
active proctype waiter() {
  do
  :: committed >= 1 -> break
  :: streamClosed && committed == 0 -> goto over /* nothing was ever committed: nothing to wait for */
  od;
  do
  :: told >= 1 || ended -> break
  :: told < 1 && !ended ->
       /* awaitNatively */
       if
#ifdef DESTROYS_THE_QUEUE_AT_ONCE
       :: true ->
#else
       :: atomic { !queueClosed -> queueUsers++ };
#endif
            queueCall(); /* a slice is over, or the value is there */
            if
            :: deviceCompleted >= 1
            :: ended || hangs || told >= 1
            fi;
            queueCall();
#ifndef DESTROYS_THE_QUEUE_AT_ONCE
            atomic {
              queueUsers--;
              if
              :: queueClosed && queueUsers == 0 -> queueDestroyed = 1
              :: else
              fi
            };
#endif
            /* poll fails on the way of a failure alone; here: park until the completion thread or the end */
            told >= 1 || ended
#ifndef DESTROYS_THE_QUEUE_AT_ONCE
       :: queueClosed -> skip /* true to the caller, who looks at `ended` */
#endif
       fi
  od;
over:
  waiterOver = 1
}

/* Device.close. */
proctype closer() {
  bit hung;
  atomic {
    if
    :: deviceState == OPEN -> deviceState = CLOSING
    :: else
    fi
  };
#ifndef ENDS_WITHOUT_THE_CLOSING_LOCK
  atomic { closingLock == 0 -> closingLock = 1 };
#endif
  if
  :: deviceState != CLOSED ->
#ifdef ENDS_WITHOUT_THE_CLOSING_LOCK
       skip;
#endif
       deviceState = CLOSED;
       /* end */
       atomic {
         ends++;
         endedOnce = ends <= 1;
         assert(endedOnce)
       };
       lockStream(); /* DeviceStream.close */
       streamClosed = 1;
       if
       :: open -> commit()
       :: else
       fi;
       unlockStream();
       if
       :: deviceCompleted == committed
       :: hangs -> hung = 1 /* the deadline */
       fi;
       /* CompletionLoop.stop */
       stopping = 1;
#ifndef WAKES_WITHOUT_A_TRACE
       woken = 1;
#endif
       threadOver;
       atomic {
         reportedIsTold = told == records || hung;
         assert(reportedIsTold)
       };
#ifndef DOES_NOT_END_THE_TIMELINE
       ended = 1;
#endif
       if
#ifdef RELEASES_WHATEVER_HANGS
       :: true ->
#else
       :: !hung ->
#endif
            /* Timeline.destroyQueue: by the last who uses it */
            atomic {
              queueClosed = 1;
              if
#ifdef DESTROYS_THE_QUEUE_AT_ONCE
              :: true -> queueDestroyed = 1
#else
              :: queueUsers == 0 -> queueDestroyed = 1
              :: else
#endif
              fi;
              notReleasedUnderTheDevice = deviceCompleted == committed;
              assert(notReleasedUnderTheDevice)
            };
            driverClosed = 1
#ifndef RELEASES_WHATEVER_HANGS
       :: else -> skip /* WaitTimeoutException: natives are not released */
#endif
       fi
  :: else
  fi;
#ifndef ENDS_WITHOUT_THE_CLOSING_LOCK
  closingLock = 0;
#endif
  closers++
}

init {
  atomic {
    run closer();
    run closer()
  }
}

ltl everyCloseReturns { <> (closers == 2) }

ltl everyWaitReturns { <> waiterOver }
