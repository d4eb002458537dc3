/*
 * Simulated Metal: the switches, what tests order, and what was counted.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "darwin.h"
#include "mst_sim.h"
#include "sim.h"

struct sim_switches sim_switches = {
    .macos = 1500,
    .hang_seconds = 20,
    .hazards = 1,
    .blit_alignment = 4,
};

struct word {
  const char *name;
  int64_t value;
};

static const struct word devices[] = {
    {"apple", SIM_DEVICE_APPLE}, {"paravirtual", SIM_DEVICE_PARAVIRTUAL}, {"none", SIM_DEVICE_NONE}, {NULL, 0}};
static const struct word outcomes[] = {
    {"abort", SIM_OUTCOME_ABORT}, {"error", SIM_OUTCOME_ERROR}, {"garbage", SIM_OUTCOME_GARBAGE}, {NULL, 0}};
static const struct word impl_races[] = {
    {"0", SIM_IMPL_RACE_OFF}, {"1", SIM_IMPL_RACE_PROGRAM}, {"all", SIM_IMPL_RACE_ALL}, {NULL, 0}};
static const struct word flags[] = {{"0", 0}, {"1", 1}, {NULL, 0}};

/* A switch takes one of its words or, without words, a number. */
static const struct {
  const char *name;
  _Atomic(int64_t) *value;
  const struct word *words;
} switches[] = {
    {"DEVICE", &sim_switches.device, devices},
    {"MACOS", &sim_switches.macos, NULL},
    {"MEMORY_LIMIT", &sim_switches.memory_limit, NULL},
    {"NDARRAY_LIMIT", &sim_switches.ndarray_limit, NULL},
    {"COMPUTE_LIMIT", &sim_switches.compute_limit, NULL},
    {"RACE_OUTCOME", &sim_switches.race_outcome, outcomes},
    {"DESTROY_IMPL_RACE", &sim_switches.destroy_impl_race, impl_races},
    {"GRAPH_COMMITS", &sim_switches.graph_commits, flags},
    {"FAILED_SIGNALS", &sim_switches.failed_signals, flags},
    {"HANG_SECONDS", &sim_switches.hang_seconds, NULL},
    {"LATENCY_US", &sim_switches.latency_us, NULL},
    {"HAZARDS", &sim_switches.hazards, flags},
    {"BLIT_ALIGNMENT", &sim_switches.blit_alignment, NULL},
};
enum { SWITCHES = sizeof switches / sizeof switches[0] };

static bool parse(const char *name, const struct word *words, const char *text, int64_t *value) {
  if (words != NULL) {
    for (; words->name != NULL; words++) {
      if (strcmp(words->name, text) == 0) {
        *value = words->value;
        return true;
      }
    }
    return false;
  }
  if (strcmp(name, "MACOS") == 0) {
    unsigned major = 0, minor = 0;
    if (sscanf(text, "%u.%u", &major, &minor) < 1)
      return false;
    *value = (int64_t)major * 100 + minor;
    return true;
  }
  char *end;
  *value = strtoll(text, &end, 10);
  return end != text && *end == '\0' && *value >= 0;
}

int32_t mst_sim_set(const char *name, const char *value) {
  for (int i = 0; i < SWITCHES; i++) {
    int64_t number;
    if (strcmp(switches[i].name, name) == 0) {
      if (!parse(name, switches[i].words, value, &number))
        return -1;
      atomic_store(switches[i].value, number);
      return 0;
    }
  }
  return -1;
}

static void order_failure_from(const char *text);

/* Runs when the library is loaded, before anything can ask. */
__attribute__((constructor)) static void read_environment(void) {
  for (int i = 0; i < SWITCHES; i++) {
    char name[64];
    snprintf(name, sizeof name, "MST_SIM_%s", switches[i].name);
    const char *value = getenv(name);
    if (value != NULL && *value != '\0' && mst_sim_set(switches[i].name, value) != 0)
      sim_stop("%s=%s is not a value of this switch", name, value);
  }
  const char *order = getenv("MST_SIM_FAIL_COMMAND_BUFFER");
  if (order != NULL && *order != '\0')
    order_failure_from(order);
}

int sim_available(const char *platforms) {
  unsigned major = 0, minor = 0;
  if (sscanf(platforms, "macOS %u.%u", &major, &minor) < 1)
    sim_stop("@available(%s) names no version of macOS", platforms);
  return sim_switches.macos >= (int64_t)major * 100 + minor;
}

/* ------------------------------------------------------------------------------------------------- orders --------- */

static pthread_mutex_t orders_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t orders_changed = PTHREAD_COND_INITIALIZER;
static char failure_label[128];
static uint32_t failure_countdown;
static uint32_t failure_code;
static bool held;

int32_t mst_sim_fail_command_buffer(const char *queue_label, uint32_t n, uint32_t error_code) {
  pthread_mutex_lock(&orders_lock);
  snprintf(failure_label, sizeof failure_label, "%s", queue_label == NULL ? "" : queue_label);
  failure_countdown = n;
  failure_code = error_code;
  pthread_mutex_unlock(&orders_lock);
  return 0;
}

bool mst_sim_failure_ordered(void) {
  pthread_mutex_lock(&orders_lock);
  bool ordered = failure_countdown > 0;
  pthread_mutex_unlock(&orders_lock);
  return ordered;
}

/* n[:code[:label]] */
static void order_failure_from(const char *text) {
  unsigned n = 0, code = 1;
  int label = 0;
  if (sscanf(text, "%u:%u:%n", &n, &code, &label) < 1)
    sim_stop("MST_SIM_FAIL_COMMAND_BUFFER=%s is not n[:code[:label]]", text);
  mst_sim_fail_command_buffer(label > 0 ? text + label : NULL, n, code);
}

uint32_t sim_ordered_failure(NSString *queue_label) {
  uint32_t code = 0;
  pthread_mutex_lock(&orders_lock);
  @autoreleasepool { /* a GPU has none */
    if (failure_countdown > 0 &&
        (failure_label[0] == '\0' || (queue_label != nil && strstr([queue_label UTF8String], failure_label) != NULL)) &&
        --failure_countdown == 0)
      code = failure_code;
  }
  pthread_mutex_unlock(&orders_lock);
  return code;
}

void mst_sim_hold(void) {
  pthread_mutex_lock(&orders_lock);
  held = true;
  pthread_mutex_unlock(&orders_lock);
}

void mst_sim_release(void) {
  pthread_mutex_lock(&orders_lock);
  held = false;
  pthread_cond_broadcast(&orders_changed);
  pthread_mutex_unlock(&orders_lock);
}

void sim_wait_while_held(void) {
  pthread_mutex_lock(&orders_lock);
  while (held)
    pthread_cond_wait(&orders_changed, &orders_lock);
  pthread_mutex_unlock(&orders_lock);
}

/* ------------------------------------------------------------------------------------------------- counters ------- */

static _Atomic(int64_t) counters[SIM_COUNTERS];
static const char *const counter_names[SIM_COUNTERS] = {
    [SIM_COUNT_COMMAND_BUFFERS] = "command_buffers",       [SIM_COUNT_FAILURES] = "failures",
    [SIM_COUNT_MID_ENCODE_COMMITS] = "mid_encode_commits", [SIM_COUNT_NDARRAY_OVERLAPS] = "ndarray_overlaps",
    [SIM_COUNT_COMPUTE_OVERLAPS] = "compute_overlaps",     [SIM_COUNT_IMPL_RACES] = "impl_races",
};

void sim_count(enum sim_counter counter) {
  atomic_fetch_add(&counters[counter], 1);
}

int64_t mst_sim_counter(const char *name) {
  for (int i = 0; i < SIM_COUNTERS; i++) {
    if (strcmp(counter_names[i], name) == 0)
      return atomic_load(&counters[i]);
  }
  return -1;
}
