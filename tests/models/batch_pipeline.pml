/*
 * The loop of a batch worker that waits for its own batches: BatchQueue.launchAll, launch, land, conclude and acquire, beside submit,
 * cancel, the threads that complete futures (Serving.conclude, ended), the stream of the worker (flush, await, recover) and close.
 *
 * Bound: 3 requests at once, each a batch, 1 worker, up to 2 batches under way and 2 to be concluded, 1 close whose time runs out or not, and beside it 1 trouble: a batch fails on the device and takes those behind it along, a launch or a commit is refused, a request is cancelled, the worker is interrupted, the device hangs, or what hangs on a future of a batch keeps the others from ending
 *
 * Left out: the lock and the conditions (batch_queue.pml, batch_due.pml), retries, and Flight.results that throws, which ends as a failure.
 */
//: assert oneOutcome
//: assert atMostDepthUnderWay
//: assert atMostDepthConcluding
//: assert resultsAfterTheWork
//: assert noBatchIsAwaitedByNobody
//: assert endsAfterItsBatches
//: assert endsOnlyAtTheClose
//: assert givesUpOnlyAtTheClose
//: assert resetsWithoutWork
//: noDeadlock
//: ltl everyAcceptedRequestEnds
//: ltl theWorkerEnds
//: ltl closeReturns
//: mutant ENDS_IN_TWO_STEPS oneOutcome
//: mutant LAUNCHES_WITHOUT_ROOM atMostDepthUnderWay
//: mutant CONCLUDES_WITHOUT_A_SLOT atMostDepthConcluding
//: mutant LANDS_WITHOUT_THE_WAIT resultsAfterTheWork
//: mutant LEAVES_AT_THE_CLOSE noBatchIsAwaitedByNobody
//: mutant LEAVES_BEFORE_THE_FUTURES_ARE_COMPLETED endsAfterItsBatches
//: mutant LETS_A_REFUSED_FLUSH_OUT endsOnlyAtTheClose
//: mutant GIVES_UP_WHEN_INTERRUPTED givesUpOnlyAtTheClose
//: mutant RESETS_WITHOUT_SYNCHRONIZING resetsWithoutWork
//: mutant FORGETS_TO_INTERRUPT noDeadlock
//: mutant FORGETS_WHAT_FAILED_TO_LAUNCH everyAcceptedRequestEnds
//: mutant ABANDONS_THE_LINE_ALONE everyAcceptedRequestEnds
//: mutant WAITS_FOR_A_SECOND_INTERRUPT theWorkerEnds
//: mutant JOINS_WITHOUT_A_TIME closeReturns

#define REQUESTS 3
#define NONE 3
#define DEPTH 2
#define SIZE (line[0] + line[1] + line[2]) /* Line.size */

mtype = { NEW, OPEN, SUCCEEDED, FAILED, CANCELLED, ABANDONED };
mtype = { NOTHING, ENCODED, COMMITTED, DONE, BROKEN }; /* what has become of a batch's work */
mtype = { NOT_YET, RESULTS, FAILURE }; /* what the thread that completes a batch's futures was given */

bit line[REQUESTS];
bit serving[REQUESTS]; /* the batches of BatchQueue.serving */
bit closing, abandoned;
mtype outcome[REQUESTS] = NEW;
bit submitted;
chan launched = [DEPTH + 1] of { byte };
byte slots = DEPTH;
byte concluding; /* batches whose futures are being completed */
mtype concluded[REQUESTS] = NOT_YET;
bit interrupted; /* Thread.interrupt */
bit workerOver, closed;
bit late; /* the close comes when all is over, and helps nobody */

/* The worker's stream and the device. */
mtype work[REQUESTS] = NOTHING;
bit streamFailed;

/* The trouble, once it has begun. Nothing hangs before a close that is late. */
bit troubled, deviceHangs, usersHang;

#define IS(what) (work[0] == what || work[1] == what || work[2] == what)
#define ENDED(i) (outcome[i] != OPEN)

bool oneOutcome = true;
bool atMostDepthUnderWay = true;
bool atMostDepthConcluding = true;
bool resultsAfterTheWork = true;
bool noBatchIsAwaitedByNobody = true;
bool endsAfterItsBatches = true;
bool endsOnlyAtTheClose = true;
bool givesUpOnlyAtTheClose = true;
bool resetsWithoutWork = true;

/* Request.end: a compare-and-set. */
inline endRequest(request, isOpen, how) {
  if
  :: isOpen ->
       oneOutcome = outcome[request] == OPEN;
       assert(oneOutcome);
       outcome[request] = how
  :: else
  fi
}

/* submit, of all requests: what the worker does not look at yet is not due to it. */
active proctype submitter() {
  atomic {
    if
    :: closing /* RejectedExecutionException */
    :: else ->
         outcome[0] = OPEN;
         outcome[1] = OPEN;
         outcome[2] = OPEN;
         line[0] = 1;
         line[1] = 1;
         line[2] = 1
    fi;
    submitted = 1
  }
}

/* Request.cancel by the holder of request 1's future, or Thread.interrupt of the worker by a stranger. */
active proctype stranger() {
  if
  :: atomic {
       !troubled && outcome[1] == OPEN ->
         troubled = 1;
         endRequest(1, outcome[1] == OPEN, CANCELLED)
     };
     line[1] = 0 /* withdraw */
  :: atomic { !troubled -> troubled = 1; interrupted = 1 }
  :: true
  fi
}

/* Runs what is committed, in order. After a failure all that is behind it fails, until the reset. */
active proctype device() {
  byte each;
endIdle:
  do
  :: atomic {
       !deviceHangs && IS(COMMITTED) ->
         each = (work[0] == COMMITTED -> 0 : (work[1] == COMMITTED -> 1 : 2));
         if
         :: streamFailed -> work[each] = BROKEN
         :: !streamFailed -> work[each] = DONE
         :: !streamFailed && !troubled -> troubled = 1; streamFailed = 1; work[each] = BROKEN
         :: !streamFailed && !troubled && !late -> troubled = 1; deviceHangs = 1
         fi;
         each = 0
     }
  od
} /* unreached: the device is there whether somebody uses it or not */

/* DeviceStream.flush of all that is encoded; the driver may refuse. */
inline flush() {
  good = 1;
  if
  :: IS(ENCODED) ->
       if
       :: work[0] = (work[0] == ENCODED -> COMMITTED : work[0]);
          work[1] = (work[1] == ENCODED -> COMMITTED : work[1]);
          work[2] = (work[2] == ENCODED -> COMMITTED : work[2])
       :: !troubled -> troubled = 1; good = 0
       fi
  :: else
  fi
}

/* Semaphore.acquire; goes on without once the queue has given up. */
inline acquire(permits) {
  do
#ifndef WAITS_FOR_A_SECOND_INTERRUPT
  :: abandoned -> break
#endif
  :: atomic { slots >= permits && !interrupted -> slots = slots - permits }; break
  :: atomic { interrupted -> interrupted = 0 }; /* InterruptedException */
#ifdef WAITS_FOR_A_SECOND_INTERRUPT
     if
     :: abandoned -> break
     :: else
     fi
#endif
  od
}

/* Worker.conclude: hands a batch to a thread that completes its futures. */
inline conclude(batch, what) {
#ifndef CONCLUDES_WITHOUT_A_SLOT
  acquire(1);
#endif
  atomic {
    concluded[batch] = what;
    concluding++;
    atMostDepthConcluding = concluding <= DEPTH || abandoned;
    assert(atMostDepthConcluding);
    batch = NONE;
    good = 0
  }
}

/* Worker.launchAll. */
active proctype worker() {
  byte next = NONE, oldest = NONE;
  bit none, good;
collecting:
  atomic {
    if
#ifdef LAUNCHES_WITHOUT_ROOM
    :: true ->
#else
    :: len(launched) < DEPTH ->
#endif
         /* collect, patient if nothing is under way */
         if
         :: SIZE > 0 ->
              next = (line[0] -> 0 : (line[1] -> 1 : 2));
              line[next] = 0;
              serving[next] = 1
         :: SIZE == 0 && closing -> none = 1
         :: !closing && len(launched) > 0 -> skip /* nothing is due */
         fi
#ifndef LAUNCHES_WITHOUT_ROOM
    :: else
#endif
    fi;
    if
    :: next != NONE && len(launched) > 0 -> flush()
    :: else
    fi
  };
  if
#ifdef LETS_A_REFUSED_FLUSH_OUT
  :: next != NONE && len(launched) > 0 && !good -> goto over /* MetalStreamsException */
  :: next != NONE && !(len(launched) > 0 && !good) -> goto launching
#else
  :: next != NONE -> goto launching
#endif
#ifdef LEAVES_AT_THE_CLOSE
  :: next == NONE && none -> goto over
#endif
  :: next == NONE && len(launched) > 0 -> goto landing
  :: next == NONE && len(launched) == 0 && none ->
#ifndef LEAVES_BEFORE_THE_FUTURES_ARE_COMPLETED
       acquire(DEPTH);
#endif
       goto over
  fi;

launching: /* launch */
  good = 0;
  if
  :: atomic { outcome[next] != OPEN -> serving[next] = 0; next = NONE }; /* begin gives no batch */
     goto collecting
  :: outcome[next] == OPEN
  fi;
  if
  :: streamFailed && len(launched) > 0 -> goto landing /* and back */
  :: streamFailed && len(launched) == 0 -> /* BatchQueue.recover */
#ifndef RESETS_WITHOUT_SYNCHRONIZING
       !IS(COMMITTED); /* DeviceStream.synchronize: there may be batches that were given up */
#endif
       atomic {
         resetsWithoutWork = !IS(ENCODED) && !IS(COMMITTED);
         assert(resetsWithoutWork);
         streamFailed = 0
       }
  :: else
  fi;
  if
  :: atomic { /* Launcher.launch */
       !streamFailed ->
         work[next] = ENCODED;
         launched ! next;
         atMostDepthUnderWay = len(launched) <= DEPTH;
         assert(atMostDepthUnderWay);
         next = NONE
     }
  :: atomic { streamFailed || !troubled -> troubled = 1 };
#ifndef FORGETS_WHAT_FAILED_TO_LAUNCH
     conclude(next, FAILURE)
#else
     next = NONE
#endif
  fi;
  goto collecting;

landing: /* land, of the oldest */
  atomic { launched ? oldest; none = 0 };
  do
  :: atomic { abandoned -> good = 0 }; break /* RejectedExecutionException */
  :: atomic { !abandoned -> flush() }; /* Flight.await */
     if
     :: !good -> break
#ifdef LANDS_WITHOUT_THE_WAIT
     :: good -> break
#endif
     :: good && work[oldest] == DONE -> break
     :: atomic { good && work[oldest] == BROKEN -> good = 0 }; break
     :: atomic { good && work[oldest] == COMMITTED && interrupted -> interrupted = 0 }; /* WaitInterruptedException */
#ifdef GIVES_UP_WHEN_INTERRUPTED
        atomic {
          givesUpOnlyAtTheClose = abandoned;
          assert(givesUpOnlyAtTheClose);
          good = 0
        };
        break
#endif
     fi
  od;
  conclude(oldest, (good -> RESULTS : FAILURE)); /* of a failure, Flight.abandon */
  if
  :: next != NONE -> goto launching
  :: next == NONE -> goto collecting
  fi;

over:
  atomic {
    noBatchIsAwaitedByNobody = len(launched) == 0;
    assert(noBatchIsAwaitedByNobody);
    endsAfterItsBatches = abandoned || (!serving[0] && !serving[1] && !serving[2]);
    assert(endsAfterItsBatches);
    endsOnlyAtTheClose = closing;
    assert(endsOnlyAtTheClose);
    workerOver = 1;
    none = 0
  }
}

/* The thread that completes the futures of a batch: Serving.conclude, then Worker.ended. */
proctype completer(byte batch) {
#ifdef ENDS_IN_TWO_STEPS
  bit looked;
endLooking:
  concluded[batch] != NOT_YET;
  looked = outcome[batch] == OPEN;
#endif
endIdle:
  atomic {
    concluded[batch] != NOT_YET ->
      resultsAfterTheWork = concluded[batch] != RESULTS || work[batch] == DONE;
      assert(resultsAfterTheWork);
      if
      :: true -> /* Serving.conclude */
#ifdef ENDS_IN_TWO_STEPS
         endRequest(batch, looked, (concluded[batch] == RESULTS -> SUCCEEDED : FAILED));
#else
         endRequest(batch, outcome[batch] == OPEN, (concluded[batch] == RESULTS -> SUCCEEDED : FAILED));
#endif
         serving[batch] = 0; /* ended */
         slots++;
         concluding--;
         concluded[batch] = NOT_YET;
         work[batch] = (work[batch] == DONE || work[batch] == BROKEN -> NOTHING : work[batch]) /* forgotten, so that it does not tell states apart */
      :: !late && (!troubled || usersHang) -> /* what hangs on the future of another request of the batch does not return */
           troubled = 1;
           usersHang = 1
      fi
  }
}

/* close: waits for the worker until it is over or the time is. */
active proctype closer() {
  byte each;
  bit left[REQUESTS];
  if
  :: true
  :: atomic { !deviceHangs && !usersHang -> late = 1 };
     submitted && ENDED(0) && ENDED(1) && ENDED(2)
  fi;
  closing = 1; /* shut */
  if
  :: workerOver
#ifndef JOINS_WITHOUT_A_TIME
  :: !workerOver ->
       atomic { /* failAll */
         abandoned = 1;
         left[0] = line[0];
         left[1] = line[1];
         left[2] = line[2];
#ifndef ABANDONS_THE_LINE_ALONE
         left[0] = left[0] || serving[0];
         left[1] = left[1] || serving[1];
         left[2] = left[2] || serving[2];
#endif
         line[0] = 0;
         line[1] = 0;
         line[2] = 0
       };
       atomic {
         do
         :: each < REQUESTS ->
              if
              :: left[each] -> left[each] = 0; endRequest(each, outcome[each] == OPEN, ABANDONED)
              :: else
              fi;
              each++
         :: else -> break
         od;
         each = 0
       };
#ifndef FORGETS_TO_INTERRUPT
       interrupted = 1
#endif
#endif
  fi;
  closed = 1
}

init {
  atomic {
    run completer(0);
    run completer(1);
    run completer(2)
  }
}

ltl everyAcceptedRequestEnds { <> (submitted && ENDED(0) && ENDED(1) && ENDED(2)) }

ltl theWorkerEnds { <> workerOver }

ltl closeReturns { <> closed }
