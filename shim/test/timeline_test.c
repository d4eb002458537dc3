/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Values, waits, failures and completions of queues. */
#include <pthread.h>
#include <sched.h>

#include "check.h"

static void runs_in_order_and_reports_each_value(void) {
  mst_device *device = open_device(2);
  mst_queue *queue = create_queue(device, 7);
  mst_buffer *buffer = NULL;
  void *contents = NULL;
  OK(mst_buffer_create(device, 16, MST_STORAGE_SHARED, &buffer, &contents));
  CHECK_EQUAL(0, mst_queue_completed_value(queue));
  for (uint64_t value = 1; value <= 40; value++) {
    commit_fill(queue, value, buffer, (uint8_t)value);
  }
  OK(mst_queue_wait(queue, 40, -1));
  CHECK_EQUAL(40, mst_queue_completed_value(queue));
  CHECK_EQUAL(0, mst_queue_failed_value(queue));
  CHECK_EQUAL(40, *(uint8_t *)contents);
  uint64_t last_end = 0;
  for (uint64_t value = 1; value <= 40; value++) {
    mst_completion completion = next_completion(device);
    CHECK_EQUAL(7, completion.queue_id);
    CHECK_EQUAL(value, completion.value);
    CHECK_EQUAL(MST_OK, completion.status);
    CHECK(completion.gpu_start_ns >= last_end && completion.gpu_end_ns >= completion.gpu_start_ns);
    CHECK(completion.message[0] == '\0');
    last_end = completion.gpu_end_ns;
  }
  int32_t count = -1;
  mst_completion none;
  CHECK_EQUAL(MST_TIMEOUT, mst_device_next_completions(device, &none, 1, 0, &count));
  CHECK_EQUAL(0, count);
  OK(mst_buffer_destroy(buffer));
  OK(mst_queue_destroy(queue));
  OK(mst_device_close(device));
}

static void refuses_what_metal_forbids(void) {
  mst_device *device = open_device(1);
  mst_queue *queue = create_queue(device, 1);
  mst_queue *other = create_queue(device, 2);
  mst_buffer *buffer = NULL;
  OK(mst_buffer_create(device, 8, MST_STORAGE_PRIVATE, &buffer, NULL));

  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_begin(queue, 2));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_begin(queue, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_commit(queue, 1, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_wait(queue, 1, 0));
  OK(mst_commands_begin(queue, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_begin(queue, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_wait(queue, 1, -1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_encode_wait(queue, 1, other, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_encode_wait(queue, 1, queue, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_reset(queue));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_commands_commit(queue, 1, 64));
  OK(mst_commands_discard(queue, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_discard(queue, 1));
  commit_fill(queue, 1, buffer, 1);
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_encode_fill(queue, 1, buffer, 0, 1, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_commit(queue, 1, 0));
  OK(mst_queue_wait(queue, 1, -1));

  OK(mst_test_hold(queue));
  for (uint64_t value = 2; value <= 65; value++) {
    commit_fill(queue, value, NULL, 0);
  }
  CHECK_EQUAL(MST_ERROR_BUSY, mst_commands_begin(queue, 66));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_reset(queue));
  OK(mst_test_step(queue, 1));
  OK(mst_queue_wait(queue, 2, -1));
  OK(mst_commands_begin(queue, 66));
  OK(mst_commands_commit(queue, 66, 0));
  CHECK_EQUAL(MST_ERROR_BUSY, mst_commands_begin(queue, 67));
  OK(mst_test_release(queue));
  OK(mst_queue_wait(queue, 66, -1));

  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_wait((mst_queue *)buffer, 1, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_commands_begin(NULL, 1));
  mst_queue *none = NULL;
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create(device, 3, NULL, 0, &none));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create(device, 3, NULL, MST_MAX_IN_FLIGHT + 1, &none));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create(device, 2, NULL, 1, &none));
  CHECK(none == NULL);
  CHECK(strstr(mst_last_error(), "mst_queue_create") != NULL);
  OK(mst_buffer_destroy(buffer));
  OK(mst_queue_destroy(queue));
  OK(mst_queue_destroy(other));
  OK(mst_device_close(device));
}

static void waits_across_queues_without_a_worker(void) {
  mst_device *device = open_device(1);
  enum { QUEUES = 8 };
  mst_queue *queues[QUEUES];
  for (uint64_t i = 0; i < QUEUES; i++) {
    queues[i] = create_queue(device, i);
  }
  mst_buffer *buffer = NULL;
  void *contents = NULL;
  OK(mst_buffer_create(device, 1, MST_STORAGE_SHARED, &buffer, &contents));
  /* A chain: each waits for the one before, the first is held. All but the last queue's work overwrite the byte. */
  OK(mst_test_hold(queues[0]));
  for (uint64_t i = 0; i < QUEUES; i++) {
    OK(mst_commands_begin(queues[i], 1));
    if (i > 0) {
      OK(mst_encode_wait(queues[i], 1, queues[i - 1], 1));
    }
    OK(mst_encode_fill(queues[i], 1, buffer, 0, 1, (uint8_t)(i + 1)));
    OK(mst_commands_commit(queues[i], 1, 0));
  }
  /* The one worker is free for others although seven queues are parked. */
  mst_queue *free_queue = create_queue(device, 100);
  commit_fill(free_queue, 1, NULL, 0);
  OK(mst_queue_wait(free_queue, 1, -1));
  CHECK_EQUAL(MST_TIMEOUT, mst_queue_wait(queues[QUEUES - 1], 1, 1000));
  CHECK_EQUAL(0, mst_queue_completed_value(queues[QUEUES - 1]));
  OK(mst_test_release(queues[0]));
  OK(mst_queue_wait(queues[QUEUES - 1], 1, -1));
  CHECK_EQUAL(QUEUES, *(uint8_t *)contents);
  for (uint64_t i = 0; i < QUEUES; i++) {
    CHECK_EQUAL(1, mst_queue_completed_value(queues[i]));
    OK(mst_queue_destroy(queues[i]));
  }
  OK(mst_queue_destroy(free_queue));
  OK(mst_buffer_destroy(buffer));
  OK(mst_device_close(device));
}

static void failures_stick_and_travel_with_their_first_cause(void) {
  mst_device *device = open_device(2);
  mst_queue *a = create_queue(device, 1);
  mst_queue *b = create_queue(device, 2);
  mst_queue *c = create_queue(device, 3);
  mst_buffer *buffer = NULL;
  uint8_t *contents = NULL;
  OK(mst_buffer_create(device, 1, MST_STORAGE_SHARED, &buffer, (void **)&contents));
  *contents = 0;
  commit_fill(a, 1, NULL, 0);
  OK(mst_queue_wait(a, 1, -1));
  OK(mst_test_hold(a));
  commit_fill(a, 2, NULL, 0);
  OK(mst_commands_begin(b, 1));
  OK(mst_encode_wait(b, 1, a, 2));
  OK(mst_encode_fill(b, 1, buffer, 0, 1, 99));
  OK(mst_commands_commit(b, 1, 0));
  OK(mst_commands_begin(c, 1));
  OK(mst_encode_wait(c, 1, b, 1));
  OK(mst_encode_fill(c, 1, buffer, 0, 1, 98));
  OK(mst_commands_commit(c, 1, 0));
  OK(mst_test_fail("execute", 1, MST_ERROR_EXECUTION));
  OK(mst_test_release(a));
  OK(mst_queue_wait(c, 1, -1));
  CHECK_EQUAL(0, *contents);
  CHECK_EQUAL(2, mst_queue_failed_value(a));
  CHECK_EQUAL(1, mst_queue_failed_value(b));
  CHECK_EQUAL(1, mst_queue_failed_value(c));
  CHECK_EQUAL(1, next_completion(device).value);
  mst_completion failed = next_completion(device);
  CHECK_EQUAL(MST_ERROR_EXECUTION, failed.status);
  CHECK_EQUAL(1, failed.queue_id);
  CHECK_EQUAL(2, failed.value);
  CHECK(failed.message[0] != '\0');
  for (uint64_t id = 2; id <= 3; id++) {
    mst_completion dependent = next_completion(device);
    CHECK_EQUAL(id, dependent.queue_id);
    CHECK_EQUAL(MST_ERROR_DEPENDENCY, dependent.status);
    CHECK_EQUAL(1, dependent.cause_queue_id);
    CHECK_EQUAL(2, dependent.cause_value);
    CHECK_EQUAL(0, dependent.gpu_start_ns);
    CHECK_EQUAL(0, dependent.gpu_end_ns);
  }
  /* Encoded after the failure, and for a value before it. */
  OK(mst_commands_begin(b, 2));
  OK(mst_encode_wait(b, 2, a, 2));
  OK(mst_commands_commit(b, 2, 0));
  OK(mst_commands_begin(c, 2));
  OK(mst_encode_wait(c, 2, a, 1));
  OK(mst_encode_fill(c, 2, buffer, 0, 1, 5));
  OK(mst_commands_commit(c, 2, 0));
  OK(mst_queue_wait(b, 2, -1));
  OK(mst_queue_wait(c, 2, -1));
  CHECK_EQUAL(5, *contents);
  for (int i = 0; i < 2; i++) {
    mst_completion completion = next_completion(device);
    CHECK_EQUAL(completion.queue_id == 2 ? MST_ERROR_DEPENDENCY : MST_OK, completion.status);
  }
  CHECK_EQUAL(1, mst_queue_failed_value(b));

  /* What a wait has learned outlives the reset of the queue that it waited for. */
  OK(mst_queue_reset(b));
  CHECK_EQUAL(0, mst_queue_failed_value(b));
  OK(mst_commands_begin(b, 3));
  OK(mst_encode_wait(b, 3, a, 2));
  OK(mst_queue_reset(a));
  OK(mst_commands_commit(b, 3, 0));
  OK(mst_queue_wait(b, 3, -1));
  CHECK_EQUAL(3, mst_queue_failed_value(b));
  OK(mst_queue_reset(b));
  OK(mst_queue_reset(c));
  OK(mst_buffer_destroy(buffer));
  OK(mst_queue_destroy(a));
  OK(mst_queue_destroy(b));
  OK(mst_queue_destroy(c));
  OK(mst_device_close(device));
}

static void a_discarded_wait_leaves_no_trace(void) {
  mst_device *device = open_device(1);
  mst_queue *a = create_queue(device, 1);
  mst_queue *b = create_queue(device, 2);
  OK(mst_test_hold(a));
  commit_fill(a, 1, NULL, 0);
  commit_fill(a, 2, NULL, 0);
  OK(mst_commands_begin(b, 1));
  OK(mst_encode_wait(b, 1, a, 1));
  OK(mst_encode_wait(b, 1, a, 2));
  OK(mst_commands_discard(b, 1));
  OK(mst_commands_begin(b, 1));
  OK(mst_encode_wait(b, 1, a, 2));
  /* Destroyed with an open command buffer that waits. */
  OK(mst_queue_destroy(b));
  OK(mst_test_release(a));
  OK(mst_queue_wait(a, 2, -1));
  OK(mst_queue_destroy(a));
  OK(mst_device_close(device));
}

static void a_hint_without_a_wait_starts_by_itself(void) {
  mst_device *device = open_device(1);
  mst_queue *queue = create_queue(device, 1);
  for (uint64_t value = 1; value <= 5; value++) {
    OK(mst_commands_begin(queue, value));
    OK(mst_commands_commit(queue, value, MST_COMMIT_WAITING));
    CHECK_EQUAL(value, next_completion(device).value);
  }
  /* A default commit on top takes the hint away; a wait for it runs both. */
  OK(mst_commands_begin(queue, 6));
  OK(mst_commands_commit(queue, 6, MST_COMMIT_WAITING));
  commit_fill(queue, 7, NULL, 0);
  OK(mst_queue_wait(queue, 7, -1));
  OK(mst_queue_destroy(queue));
  OK(mst_device_close(device));
}

/* Commits an empty command buffer that waits for the first of `gate`. */
static void commit_behind_gate(mst_queue *queue, mst_queue *gate) {
  OK(mst_commands_begin(queue, 1));
  OK(mst_encode_wait(queue, 1, gate, 1));
  OK(mst_commands_commit(queue, 1, MST_COMMIT_DEFAULT));
}

static void latency_ties_up_no_worker(void) {
  enum { QUEUES = 4, LATENCY_NS = 250000000 };
  mst_device *device = open_device(1);
  mst_queue *gate = create_queue(device, QUEUES);
  mst_queue *slow[QUEUES];
  OK(mst_test_hold(gate));
  commit_fill(gate, 1, NULL, 0);
  for (uint64_t i = 0; i < QUEUES; i++) {
    slow[i] = create_queue(device, i);
    commit_behind_gate(slow[i], gate);
  }
  OK(mst_test_latency(device, LATENCY_NS));
  OK(mst_test_release(gate));
  CHECK_EQUAL(QUEUES, next_completion(device).queue_id);
  uint64_t starts[QUEUES];
  uint64_t ends[QUEUES];
  for (int i = 0; i < QUEUES; i++) {
    mst_completion completion = next_completion(device);
    starts[completion.queue_id] = completion.gpu_start_ns;
    ends[completion.queue_id] = completion.gpu_end_ns;
    CHECK(completion.gpu_end_ns - completion.gpu_start_ns >= LATENCY_NS);
  }
  /* All overlap, on one worker. */
  for (int i = 0; i < QUEUES; i++) {
    for (int j = 0; j < QUEUES; j++) {
      CHECK(starts[i] < ends[j]);
    }
    OK(mst_queue_destroy(slow[i]));
  }
  OK(mst_queue_destroy(gate));
  OK(mst_device_close(device));
}

static void seeds_change_the_order(void) {
  enum { QUEUES = 16 };
  uint64_t orders[3][QUEUES];
  const uint64_t seeds[3] = {42, 42, 0};
  for (int round = 0; round < 3; round++) {
    mst_device *device = open_device(1);
    mst_queue *queues[QUEUES];
    mst_queue *gate = create_queue(device, 1000);
    mst_queue *last = create_queue(device, 1001);
    OK(mst_test_hold(gate));
    commit_fill(gate, 1, NULL, 0);
    for (uint64_t i = 0; i < QUEUES; i++) {
      queues[i] = create_queue(device, i);
      commit_behind_gate(queues[i], gate);
    }
    /* When this one is done, the one worker has parked those before it. They become ready within one publish, so that
     * only the choice decides. */
    commit_fill(last, 1, NULL, 0);
    CHECK_EQUAL(1001, next_completion(device).queue_id);
    OK(mst_test_seed(device, seeds[round]));
    OK(mst_test_release(gate));
    CHECK_EQUAL(1000, next_completion(device).queue_id);
    for (int i = 0; i < QUEUES; i++) {
      orders[round][i] = next_completion(device).queue_id;
    }
    for (int i = 0; i < QUEUES; i++) {
      OK(mst_queue_destroy(queues[i]));
    }
    OK(mst_queue_destroy(gate));
    OK(mst_queue_destroy(last));
    OK(mst_device_close(device));
  }
  CHECK(memcmp(orders[0], orders[1], sizeof(orders[0])) == 0);
  CHECK(memcmp(orders[0], orders[2], sizeof(orders[0])) != 0);
}

static void *drain_until_woken(void *argument) {
  mst_completion completions[4];
  int32_t count = -1;
  OK(mst_device_next_completions(argument, completions, 4, -1, &count));
  CHECK_EQUAL(0, count);
  return NULL;
}

static void wake_and_close_send_drainers_home(void) {
  mst_device *device = open_device(1);
  mst_completion completion;
  int32_t count = -1;
  OK(mst_device_wake(device));
  OK(mst_device_wake(device));
  OK(mst_device_next_completions(device, &completion, 1, -1, &count));
  CHECK_EQUAL(0, count);
  CHECK_EQUAL(MST_TIMEOUT, mst_device_next_completions(device, &completion, 1, 0, &count));
  CHECK_EQUAL(MST_TIMEOUT, mst_device_next_completions(device, &completion, 1, 1000, &count));
  /* Completions do not swallow a wake. */
  mst_queue *queue = create_queue(device, 1);
  commit_fill(queue, 1, NULL, 0);
  OK(mst_queue_wait(queue, 1, -1));
  OK(mst_device_wake(device));
  CHECK_EQUAL(1, next_completion(device).value);
  OK(mst_device_next_completions(device, &completion, 1, -1, &count));
  CHECK_EQUAL(0, count);
  OK(mst_queue_destroy(queue));
  pthread_t drainer;
  CHECK_EQUAL(0, pthread_create(&drainer, NULL, drain_until_woken, device));
  OK(mst_device_wake(device));
  pthread_join(drainer, NULL);
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_device_next_completions(device, &completion, 0, 0, &count));
  OK(mst_device_close(device));
}

typedef struct drained {
  mst_device *device;
  mst_queue *echo; /* gets a command buffer for each completion of another queue */
} drained;

static void *echo_completions(void *argument) {
  drained *drained = argument;
  for (uint64_t value = 1; value <= 20; value++) {
    mst_completion completion = next_completion(drained->device);
    CHECK_EQUAL(1, completion.queue_id);
    CHECK_EQUAL(value, completion.value);
    commit_fill(drained->echo, value, NULL, 0);
    CHECK_EQUAL(2, next_completion(drained->device).queue_id);
  }
  return NULL;
}

/* The waiting thread executes the work itself and is in no hurry to tell the drainer, but tell it must. */
static void drainers_hear_of_what_waiters_executed(void) {
  mst_device *device = open_device(1);
  mst_queue *queue = create_queue(device, 1);
  drained drained = {device, create_queue(device, 2)};
  pthread_t drainer;
  CHECK_EQUAL(0, pthread_create(&drainer, NULL, echo_completions, &drained));
  for (uint64_t value = 1; value <= 20; value++) {
    OK(mst_commands_begin(queue, value));
    OK(mst_commands_commit(queue, value, MST_COMMIT_WAITING));
    OK(mst_queue_wait(queue, value, -1));
    while (mst_queue_completed_value(drained.echo) < value) {
      sched_yield();
    }
  }
  pthread_join(drainer, NULL);
  OK(mst_queue_destroy(drained.echo));
  OK(mst_queue_destroy(queue));
  OK(mst_device_close(device));
}

static void close_drains_and_objects_may_end_later(void) {
  mst_device *device = open_device(2);
  mst_queue *queue = create_queue(device, 1);
  mst_buffer *buffer = NULL;
  uint8_t *contents = NULL;
  OK(mst_buffer_create(device, 1, MST_STORAGE_SHARED, &buffer, (void **)&contents));
  OK(mst_test_hold(queue));
  for (uint64_t value = 1; value <= 10; value++) {
    commit_fill(queue, value, buffer, (uint8_t)value);
  }
  OK(mst_commands_begin(queue, 11));
  OK(mst_encode_fill(queue, 11, buffer, 0, 1, 11));
  OK(mst_device_close(device));
  CHECK_EQUAL(10, mst_queue_completed_value(queue));
  CHECK_EQUAL(10, *contents);
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_commit(queue, 11, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_buffer_destroy(buffer));
  OK(mst_queue_destroy(queue));
  OK(mst_buffer_destroy(buffer));
}

static void a_lost_device_fails_everything(void) {
  mst_device *device = open_device(1);
  mst_queue *queue = create_queue(device, 1);
  OK(mst_test_fail("execute", 2, MST_ERROR_DEVICE_LOST));
  for (uint64_t value = 1; value <= 3; value++) {
    commit_fill(queue, value, NULL, 0);
    CHECK_EQUAL(value == 1 ? MST_OK : MST_ERROR_DEVICE_LOST, next_completion(device).status);
  }
  OK(mst_queue_destroy(queue));
  OK(mst_device_close(device));
}

int main(void) {
  CHECK_EQUAL(MST_ABI_VERSION, mst_abi_version());
  CHECK_EQUAL(16, strlen(mst_build_id()));
  CHECK(strcmp(mst_backend_name(), "host") == 0);
  CHECK(strcmp(mst_last_error(), "") == 0);
  RUN(runs_in_order_and_reports_each_value);
  RUN(refuses_what_metal_forbids);
  RUN(waits_across_queues_without_a_worker);
  RUN(failures_stick_and_travel_with_their_first_cause);
  RUN(a_discarded_wait_leaves_no_trace);
  RUN(a_hint_without_a_wait_starts_by_itself);
  RUN(latency_ties_up_no_worker);
  RUN(seeds_change_the_order);
  RUN(wake_and_close_send_drainers_home);
  RUN(drainers_hear_of_what_waiters_executed);
  RUN(close_drains_and_objects_may_end_later);
  RUN(a_lost_device_fails_everything);
  return 0;
}
