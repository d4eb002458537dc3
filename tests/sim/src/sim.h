/*
 * Simulated Metal: what its files share.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SIM_H
#define SIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#import <Foundation/Foundation.h>

#include "sim_object.h"

/* ------------------------------------------------------------------------------------------------- strictness ----- */

/* Ends the process with "simulated Metal: <message>": what the debug layer's assertion is on a Mac. */
void sim_stop(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* A text for a message, also where there is no autorelease pool; valid until the thread's next call. */
const char *sim_text(NSString *text);

/* Stops the process if the calling thread has no autorelease pool: the object that is made now would leak. */
void sim_require_pool(const char *what);

/* ------------------------------------------------------------------------------------------------- objects -------- */

/* Adds to the count of living objects of a class that does not derive from SimObject. */
void sim_count_object(Class class, int delta);

/* ------------------------------------------------------------------------------------------------- switches ------- */

enum sim_device_kind { SIM_DEVICE_APPLE, SIM_DEVICE_PARAVIRTUAL, SIM_DEVICE_NONE };

/* What happens when code does what Apple's stack was seen not to survive. */
enum sim_outcome { SIM_OUTCOME_ABORT, SIM_OUTCOME_ERROR, SIM_OUTCOME_GARBAGE };

/* Whose compute contexts are given back before they are cleared: nobody's, the program's, MPS' as well. */
enum sim_impl_race { SIM_IMPL_RACE_OFF, SIM_IMPL_RACE_PROGRAM, SIM_IMPL_RACE_ALL };

/* One atomic each: read on every thread, set by tests. */
extern struct sim_switches {
  _Atomic(int64_t) device;             /* enum sim_device_kind */
  _Atomic(int64_t) macos;              /* major * 100 + minor of the running system */
  _Atomic(int64_t) memory_limit;       /* bytes of all buffers; 0 = none */
  _Atomic(int64_t) ndarray_limit;      /* NDArray multiplications that may be encoded at once; 0 = any number */
  _Atomic(int64_t) compute_limit;      /* compute encoders that may be open at once; 0 = any number */
  _Atomic(int64_t) race_outcome;       /* enum sim_outcome */
  _Atomic(int64_t) destroy_impl_race;  /* enum sim_impl_race: a context's destroyImpl nulls after its unlock */
  _Atomic(int64_t) graph_commits;      /* MPSGraph commits and continues in the middle of an encode */
  _Atomic(int64_t) failed_signals;     /* a failed command buffer signals all the same */
  _Atomic(int64_t) hang_seconds;       /* how long anything may wait before the process is stopped */
  _Atomic(int64_t) latency_us;         /* each command buffer takes this much longer */
  _Atomic(int64_t) hazards;            /* stop when two command buffers use a buffer in no order */
  _Atomic(int64_t) blit_alignment;     /* bytes that offsets and lengths of a blit are a multiple of */
} sim_switches;

enum sim_counter {
  SIM_COUNT_COMMAND_BUFFERS,
  SIM_COUNT_FAILURES,
  SIM_COUNT_MID_ENCODE_COMMITS,
  SIM_COUNT_NDARRAY_OVERLAPS,
  SIM_COUNT_COMPUTE_OVERLAPS,
  SIM_COUNT_IMPL_RACES,
  SIM_COUNTERS
};
void sim_count(enum sim_counter counter);

/* The MTLCommandBufferError that the command buffer about to run is to fail with; 0 for none. */
uint32_t sim_ordered_failure(NSString *queue_label);

/* Blocks while mst_sim_hold is in force. */
void sim_wait_while_held(void);

/* ------------------------------------------------------------------------------------------------- threads -------- */

uint64_t sim_now_ns(void);

/* A thread of the simulation. Who makes such threads end says so first, that mst_sim_quiesce can wait for it. */
void sim_start_thread(const char *name, void *(*body)(void *), void *argument);
void sim_threads_ending(int threads);

/* Work that mst_sim_quiesce waits for: +1 when it is handed over, -1 when it is done. */
void sim_busy(int delta);

/*
 * Counts the threads inside a region that Apple's stack does not let many into. Between enter and leave a thread that
 * finds a limit lingers briefly, so that an overlap which could happen does happen. Returns true when there were
 * more than `limit` (0 = no limit, no lingering) at once.
 */
struct sim_region {
  _Atomic(int64_t) inside;
};
bool sim_region_enter(struct sim_region *region, int64_t limit);
void sim_region_leave(struct sim_region *region);

/* Stops the process when two threads are in the same object at once. Metal's command buffers and encoders and MPS'
 * kernels belong to one thread at a time. */
struct sim_exclusive {
  _Atomic(int) inside;
};
void sim_exclusive_enter(struct sim_exclusive *object, const char *what);
void sim_exclusive_leave(struct sim_exclusive *object);

/* ------------------------------------------------------------------------------------------------- order ---------- */

/*
 * Which command buffers are ordered: a vector clock per command buffer, one component per queue. A tick of a queue is
 * the stretch of its work between two signals. Work is ordered before other work when it is earlier on its queue, when
 * an event was waited for, or when it had completed before the other was committed. Two uses of a buffer, one a write,
 * that are not ordered stop the process: on a Mac the outcome would be left to chance.
 */
enum { SIM_MAX_QUEUES = 256 };

typedef struct sim_clock {
  uint64_t tick[SIM_MAX_QUEUES];
} sim_clock;

void sim_clock_join(sim_clock *target, const sim_clock *source);

/* Index of a new queue; -1 when there are too many. */
int sim_clock_claim(void);
void sim_clock_release(int queue);

/* What the CPU has seen: joined when work completes, read when work is committed. */
void sim_clock_seen(const sim_clock *clock);
void sim_clock_read_seen(sim_clock *target);

#endif /* SIM_H */
