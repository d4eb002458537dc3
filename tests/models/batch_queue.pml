/*
 * BatchQueue: submit (enter, push, awaitSpace), the worker's collect and serve, cancel (withdraw), and close with a time that may
 * run out (failAll). A request's outcome is decided by Request.end.
 *
 * Bound: 3 requests by 3 threads (when the line is full, 1 and 2 block, 0 is refused), a line of 2, 1 worker that serves 1 at a time, 1 cancellation, 1 close whose time runs out or not
 *
 * Left out: when a batch is due (a pure function, tested by itself), deadlines (a cancellation by the worker), CALLER_RUNS, retries.
 */
//: assert oneOutcome
//: assert noneAcceptedAfterTheClose
//: assert lineKeepsItsCapacity
//: assert noneLeftBehind
//: noDeadlock
//: ltl everyAcceptedRequestEnds
//: ltl everySubmitReturns
//: ltl everyCloseReturns
//: mutant ENDS_IN_TWO_STEPS oneOutcome
//: mutant PUSHES_AFTER_A_LOOK noneAcceptedAfterTheClose
//: mutant PUSHES_WITHOUT_COUNTING lineKeepsItsCapacity
//: mutant LEAVES_AT_THE_CLOSE noneLeftBehind
//: mutant FORGETS_THE_WAKE_UP_AT_THE_CLOSE noDeadlock
//: mutant SERVES_OUTSIDE_THE_LOCK everyAcceptedRequestEnds
//: mutant KEEPS_THE_PLAN_OF_A_WORKER_THAT_WOKE everyAcceptedRequestEnds
//: mutant TAKES_WITHOUT_TELLING everySubmitReturns
//: mutant FORGETS_TO_INTERRUPT everyCloseReturns

#define REQUESTS 3
#define NONE 9
#define CAPACITY 2
#define SIZE (line[0] + line[1] + line[2]) /* Line.size */

mtype = { NEW, OPEN, SUCCEEDED, CANCELLED, ABANDONED };

bit queueLock;
bit closing, abandoned;
bit line[REQUESTS]; /* the requests that wait */
byte serving = NONE; /* the request that is being served */
bit workSignal, idle, planned; /* planned: nextLook is not later than what waits is due */
bit spaceSignal[REQUESTS], spaceWaits[REQUESTS];
mtype outcome[REQUESTS] = NEW;
byte ends[REQUESTS];
bit accepted[REQUESTS];
byte submitted; /* submits that returned */
bit closed, workerOver, interrupted;
bit late; /* the close comes when all is over, and helps nobody; what the function returns is done then */

#define ENDED(i) (!accepted[i] || outcome[i] != OPEN)

bool oneOutcome = true;
bool noneAcceptedAfterTheClose = true;
bool lineKeepsItsCapacity = true;
bool noneLeftBehind = true;

inline lock() { atomic { queueLock == 0 -> queueLock = 1 } }
inline unlock() { queueLock = 0 }

/* Condition.signal on `space`: one of those who wait. */
inline signalSpace() {
  if
  :: spaceWaits[1] && !spaceSignal[1] -> spaceSignal[1] = 1
  :: spaceWaits[2] && !spaceSignal[2] -> spaceSignal[2] = 1
  :: !(spaceWaits[1] && !spaceSignal[1]) && !(spaceWaits[2] && !spaceSignal[2])
  fi
}

inline signalAllSpace() { spaceSignal[1] = spaceWaits[1]; spaceSignal[2] = spaceWaits[2] }

/* Request.end: a compare-and-set. */
inline end(request, how) {
#ifdef ENDS_IN_TWO_STEPS
  if
  :: outcome[request] == OPEN ->
       skip;
       atomic { outcome[request] = how; ends[request]++ }
#else
  atomic {
    if
    :: outcome[request] == OPEN -> outcome[request] = how; ends[request]++
#endif
    :: else
    fi;
    oneOutcome = ends[request] <= 1;
    assert(oneOutcome)
#ifndef ENDS_IN_TWO_STEPS
  }
#endif
}

/* submit → enter. */
proctype submitter(byte me) {
  outcome[me] = OPEN;
#ifdef PUSHES_AFTER_A_LOOK
  if
  :: closing -> goto over
  :: else
  fi;
#endif
  lock();
  do
  ::
#ifndef PUSHES_AFTER_A_LOOK
     if
     :: closing -> unlock(); goto over /* RejectedExecutionException */
     :: else
     fi;
#endif
     if
#ifdef PUSHES_WITHOUT_COUNTING
     :: true -> break
#else
     :: SIZE < CAPACITY -> break
     :: else ->
          if
          :: me == 0 -> unlock(); goto over /* Overload.REJECT */
          :: else ->
               atomic { spaceWaits[me] = 1; spaceSignal[me] = 0; queueLock = 0 }; /* awaitSpace */
               atomic { spaceSignal[me] -> spaceWaits[me] = 0; spaceSignal[me] = 0 };
               lock()
          fi
#endif
     fi
  od;
  atomic { /* push */
    lineKeepsItsCapacity = SIZE < CAPACITY;
    assert(lineKeepsItsCapacity);
    noneAcceptedAfterTheClose = !closing;
    assert(noneAcceptedAfterTheClose);
    line[me] = 1;
    accepted[me] = 1;
    if
    :: idle && !planned -> planned = 1; workSignal = 1
    :: else
    fi
  };
  unlock();
over:
  submitted++
}

/* Request.cancel by the holder of request 1's future. */
proctype canceller() {
  if
  :: accepted[1] ->
       end(1, CANCELLED);
       /* withdraw */
       lock();
       atomic {
         if
         :: line[1] -> line[1] = 0; signalSpace()
         :: else
         fi
       };
       unlock()
  :: true
  fi
}

/* Worker.serveAll. */
proctype worker() {
  byte request = NONE;
  bit stuck;
  do
  :: /* collect */
     lock();
     do
     :: SIZE == 0 && closing -> unlock(); goto over
#ifdef LEAVES_AT_THE_CLOSE
     :: SIZE > 0 && closing -> unlock(); goto over
     :: SIZE > 0 && !closing -> break
#else
     :: SIZE > 0 -> break
#endif
     :: SIZE == 0 && !closing ->
          atomic { idle = 1; workSignal = 0; queueLock = 0 }; /* awaitWork */
          workSignal;
          atomic {
            queueLock == 0 -> queueLock = 1;
            idle = 0;
            workSignal = 0;
#ifndef KEEPS_THE_PLAN_OF_A_WORKER_THAT_WOKE
            planned = 0
#endif
          }
     od;
     atomic {
       if
       :: line[0] -> request = 0
       :: line[1] -> request = 1
       :: line[2] -> request = 2
       fi;
       line[request] = 0;
#ifndef SERVES_OUTSIDE_THE_LOCK
       serving = request;
#endif
#ifndef TAKES_WITHOUT_TELLING
       signalSpace()
#endif
     };
     unlock();
#ifdef SERVES_OUTSIDE_THE_LOCK
     serving = request;
#endif
     /* serve: what the function returned may never be done; only a close whose time is over gets the worker out then */
     if
     :: stuck = 0
     :: !late -> stuck = 1
     fi;
     if
     :: stuck ->
          interrupted;
          atomic { stuck = 0; serving = NONE; request = NONE };
          goto over
     :: else
     fi;
     end(request, SUCCEEDED);
     atomic { serving = NONE; request = NONE }
  od;
over:
  atomic {
    noneLeftBehind = SIZE == 0 || abandoned;
    assert(noneLeftBehind);
    workerOver = 1
  }
}

/* close: waits for the worker until it is over or the time is. */
proctype closer() {
  byte each, served = NONE;
  bit left[REQUESTS];
  !late || (submitted == REQUESTS && ENDED(0) && ENDED(1) && ENDED(2));
  lock();
  atomic {
    closing = 1;
#ifndef FORGETS_THE_WAKE_UP_AT_THE_CLOSE
    workSignal = idle;
    signalAllSpace()
#endif
  };
  unlock();
  if
  :: workerOver
  :: !workerOver -> /* the time is over: failAll */
     lock();
     atomic {
       abandoned = 1;
       left[0] = line[0]; left[1] = line[1]; left[2] = line[2];
       line[0] = 0; line[1] = 0; line[2] = 0;
       served = serving;
       workSignal = idle;
       signalAllSpace()
     };
     unlock();
     do
     :: each < REQUESTS ->
          if
          :: left[each] -> left[each] = 0; end(each, ABANDONED)
          :: else
          fi;
          each++
     :: else -> break
     od;
     if
     :: served != NONE -> end(served, ABANDONED)
     :: else
     fi;
#ifndef FORGETS_TO_INTERRUPT
     interrupted = 1;
#endif
     workerOver
  fi;
  closed = 1
}

init {
  atomic {
    if
    :: late = 0
    :: late = 1
    fi;
    run submitter(0);
    run submitter(1);
    run submitter(2);
    run canceller();
    run worker();
    run closer()
  }
}

ltl everyAcceptedRequestEnds { [] ((accepted[0] -> <> (outcome[0] != OPEN)) && (accepted[1] -> <> (outcome[1] != OPEN)) && (accepted[2] -> <> (outcome[2] != OPEN))) }

ltl everySubmitReturns { <> (submitted == REQUESTS) }

ltl everyCloseReturns { <> closed }
