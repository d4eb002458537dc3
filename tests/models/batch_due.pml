/*
 * Who looks when a batch is due: BatchQueue.push, collect and awaitWork with nextLook, and Line.due.
 *
 * Bound: 3 requests, 2 workers, batches of 2 at most, a delay of 2 in a time of 5; a worker may serve for any time, also for ever
 *
 * Left out: the close, cancellations and deadlines, which signal all or only make less wait; everything of batch_queue.
 */
//: assert noneIsOverdueBesideAnIdleWorker
//: noDeadlock
//: ltl everyRequestIsTaken
//: mutant FORGETS_WHAT_IS_LEFT noneIsOverdueBesideAnIdleWorker
//: mutant KEEPS_THE_PLAN_OF_A_WORKER_THAT_WOKE noneIsOverdueBesideAnIdleWorker
//: mutant LEAVES_A_WORKER_TO_ITS_LATER_PLAN noneIsOverdueBesideAnIdleWorker
//: mutant WAITS_WITHOUT_A_TIME everyRequestIsTaken
//: mutant KEEPS_THE_LOCK noDeadlock

#define REQUESTS 3
#define WORKERS 2
#define MOST 2 /* maxBatch */
#define DELAY 2 /* maxDelay */
#define END 5
#define NEVER 99

byte now;
bit queueLock;
byte first; /* the requests first .. next - 1 wait */
byte next;
byte submittedAt[REQUESTS];
byte nextLook = NEVER;
byte idle; /* workers in awaitWork */
bit waits[WORKERS], signalled[WORKERS]; /* of the condition `work` */
byte until[WORKERS]; /* when a worker that waits wakes by itself */
bit serves[WORKERS];
byte pushed;

bool noneIsOverdueBesideAnIdleWorker = true;

#define SIZE (next - first)
/* Line.due: the time at which the next batch is due. */
#define DUE (SIZE >= MOST -> now : submittedAt[first] + DELAY)
#define OVERDUE (SIZE > 0 && (SIZE >= MOST || submittedAt[first] + DELAY < now))
#define SLEEPS(w) (waits[w] && !signalled[w] && until[w] > now)
#define LOOKS(w) (!serves[w] && !SLEEPS(w))

inline lock() { atomic { queueLock == 0 -> queueLock = 1 } }
inline unlock() { queueLock = 0 }

/* Condition.signal: one of those who wait. */
inline signal() {
  if
  :: waits[0] && !signalled[0] -> signalled[0] = 1
  :: waits[1] && !signalled[1] -> signalled[1] = 1
  :: !(waits[0] && !signalled[0]) && !(waits[1] && !signalled[1])
  fi
}

active proctype submitter() {
  do
  :: pushed < REQUESTS ->
       lock();
       atomic { /* push */
         submittedAt[next] = now;
         next++;
         if
#ifdef LEAVES_A_WORKER_TO_ITS_LATER_PLAN
         :: idle > 0 && nextLook == NEVER ->
#else
         :: idle > 0 && DUE < nextLook ->
#endif
              nextLook = DUE;
              signal()
         :: else
         fi
       };
       unlock();
       pushed++
  :: else -> break
  od
}

/* Worker: collect and what comes after it. */
active [WORKERS] proctype worker() {
  byte me = _pid - 1;
  do
  :: lock();
     do
     :: SIZE > 0 && DUE <= now -> break
     :: else -> /* awaitWork */
          atomic {
            until[me] = (SIZE > 0 -> DUE : NEVER);
            idle++;
            nextLook = (until[me] < nextLook -> until[me] : nextLook);
#ifdef WAITS_WITHOUT_A_TIME
            until[me] = NEVER;
#endif
            waits[me] = 1;
            signalled[me] = 0;
#ifndef KEEPS_THE_LOCK
            queueLock = 0
#endif
          };
end:      signalled[me] || until[me] <= now;
          atomic {
#ifndef KEEPS_THE_LOCK
            queueLock == 0 -> queueLock = 1;
#endif
            waits[me] = 0;
            signalled[me] = 0;
            idle--;
#ifndef KEEPS_THE_PLAN_OF_A_WORKER_THAT_WOKE
            nextLook = NEVER
#endif
          }
     od;
     atomic { /* Line.take */
       first = (SIZE > MOST -> first + MOST : next);
       serves[me] = 1;
#ifndef FORGETS_WHAT_IS_LEFT
       if
       :: SIZE > 0 -> signal()
       :: else
       fi
#endif
     };
     unlock();
     if
     :: true -> serves[me] = 0
     :: serves[1 - me] == 0 -> /* for ever; the other goes on */
endServing:
          false
     fi
  od
} /* unreached: a worker ends with the queue */

/* Time goes on when it likes, but not before whoever is woken, or due, has had a look. */
active proctype clock() {
  do
  :: atomic {
       now < END && !queueLock && (pushed == REQUESTS || now < END - DELAY) ->
         noneIsOverdueBesideAnIdleWorker =
           !(OVERDUE && (SLEEPS(0) || SLEEPS(1)) && !LOOKS(0) && !LOOKS(1));
         assert(noneIsOverdueBesideAnIdleWorker);
         now++
     }
  :: now == END -> break
  od
}

ltl everyRequestIsTaken { <> (first == REQUESTS) }
