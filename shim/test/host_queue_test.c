/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Queues whose values the CPU signals. Also run on the Metal shim, on the simulation. */
#include <pthread.h>

#include "check.h"

static mst_queue *create_host_queue(mst_device *device, uint64_t id) {
  mst_queue *queue = NULL;
  OK(mst_queue_create_host(device, id, "host", &queue));
  return queue;
}

static mst_buffer *create_byte(mst_device *device, uint8_t **out_contents) {
  mst_buffer *buffer = NULL;
  OK(mst_buffer_create(device, 4, MST_STORAGE_SHARED, &buffer, (void **)out_contents));
  memset(*out_contents, 0, 4);
  return buffer;
}

/* Commits a command buffer that waits for a value, and then fills four bytes. */
static void commit_behind(mst_queue *queue, uint64_t value, mst_queue *awaited, uint64_t awaited_value,
                          mst_buffer *buffer, uint8_t byte) {
  OK(mst_commands_begin(queue, value));
  OK(mst_encode_wait(queue, value, awaited, awaited_value));
  OK(mst_encode_fill(queue, value, buffer, 0, 4, byte));
  OK(mst_commands_commit(queue, value, MST_COMMIT_DEFAULT));
}

static void check_none(mst_device *device) {
  mst_completion none;
  int32_t count = -1;
  CHECK_EQUAL(MST_TIMEOUT, mst_device_next_completions(device, &none, 1, 0, &count));
  CHECK_EQUAL(0, count);
}

static void a_signal_lets_go_what_waits_and_what_will(void) {
  mst_device *device = open_device(1);
  mst_queue *host = create_host_queue(device, 9);
  mst_queue *a = create_queue(device, 1);
  mst_queue *b = create_queue(device, 2);
  mst_queue *probe = create_queue(device, 3);
  uint8_t *contents[2];
  mst_buffer *buffers[2] = {create_byte(device, &contents[0]), create_byte(device, &contents[1])};
  CHECK_EQUAL(0, mst_queue_completed_value(host));
  OK(mst_queue_wait(host, 0, 0));
  CHECK_EQUAL(MST_TIMEOUT, mst_queue_wait(host, 1, 0));
  CHECK_EQUAL(MST_TIMEOUT, mst_queue_wait(host, UINT64_MAX, 1000));
  commit_behind(a, 1, host, 1, buffers[0], 7);
  commit_behind(b, 1, host, 1, buffers[1], 8);
  /* The one worker is not tied up. */
  commit_fill(probe, 1, NULL, 0);
  CHECK_EQUAL(3, next_completion(device).queue_id);
  CHECK_EQUAL(0, mst_queue_completed_value(a));
  CHECK_EQUAL(0, *contents[0]);

  OK(mst_queue_signal(host, 1, NULL));
  CHECK_EQUAL(1, mst_queue_completed_value(host));
  OK(mst_queue_wait(a, 1, -1));
  OK(mst_queue_wait(b, 1, -1));
  CHECK_EQUAL(7, *contents[0]);
  CHECK_EQUAL(8, *contents[1]);
  mst_completion signalled = next_completion(device);
  CHECK_EQUAL(9, signalled.queue_id);
  CHECK_EQUAL(1, signalled.value);
  CHECK_EQUAL(MST_OK, signalled.status);
  CHECK_EQUAL(0, signalled.gpu_start_ns);
  CHECK_EQUAL(0, signalled.gpu_end_ns);
  CHECK(signalled.message[0] == '\0');
  next_completion(device);
  next_completion(device);

  /* Signalled before the wait. */
  OK(mst_queue_signal(host, 2, NULL));
  commit_behind(a, 2, host, 2, buffers[0], 9);
  OK(mst_queue_wait(a, 2, -1));
  CHECK_EQUAL(9, *contents[0]);
  OK(mst_buffer_destroy(buffers[0]));
  OK(mst_buffer_destroy(buffers[1]));
  OK(mst_queue_destroy(a));
  OK(mst_queue_destroy(b));
  OK(mst_queue_destroy(probe));
  OK(mst_queue_destroy(host));
  OK(mst_device_close(device));
}

static void a_signal_covers_the_values_before_it(void) {
  mst_device *device = open_device(1);
  mst_queue *host = create_host_queue(device, 9);
  mst_queue *a = create_queue(device, 1);
  mst_queue *b = create_queue(device, 2);
  uint8_t *contents = NULL;
  mst_buffer *buffer = create_byte(device, &contents);
  commit_behind(a, 1, host, 3, buffer, 1);
  commit_behind(b, 1, host, 6, buffer, 2);
  OK(mst_queue_signal(host, 5, NULL));
  OK(mst_queue_wait(a, 1, -1));
  CHECK_EQUAL(0, mst_queue_completed_value(b));
  CHECK_EQUAL(1, *contents);
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_signal(host, 5, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_signal(host, 3, "late"));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_signal(host, 0, NULL));
  CHECK_EQUAL(0, mst_queue_failed_value(host));
  CHECK_EQUAL(5, next_completion(device).value);
  CHECK_EQUAL(1, next_completion(device).queue_id);
  check_none(device);
  OK(mst_queue_signal(host, UINT64_MAX, NULL));
  OK(mst_queue_wait(b, 1, -1));
  CHECK_EQUAL(UINT64_MAX, mst_queue_completed_value(host));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_signal(host, UINT64_MAX, NULL));
  OK(mst_queue_destroy(a));
  OK(mst_queue_destroy(b));
  OK(mst_queue_destroy(host));
  OK(mst_buffer_destroy(buffer));
  OK(mst_device_close(device));
}

static void a_failure_strikes_who_waits_until_the_reset(void) {
  mst_device *device = open_device(1);
  mst_queue *host = create_host_queue(device, 9);
  mst_queue *a = create_queue(device, 1);
  mst_queue *b = create_queue(device, 2);
  uint8_t *contents = NULL;
  mst_buffer *buffer = create_byte(device, &contents);
  commit_behind(a, 1, host, 1, buffer, 1);
  OK(mst_queue_signal(host, 1, "the disk is full"));
  CHECK_EQUAL(1, mst_queue_failed_value(host));
  OK(mst_queue_wait(host, 1, -1));
  OK(mst_queue_wait(a, 1, -1));
  mst_completion failed = next_completion(device);
  CHECK_EQUAL(9, failed.queue_id);
  CHECK_EQUAL(MST_ERROR_EXECUTION, failed.status);
  CHECK(strcmp(failed.message, "the disk is full") == 0);
  CHECK_EQUAL(0, failed.cause_value);
  mst_completion dependent = next_completion(device);
  CHECK_EQUAL(1, dependent.queue_id);
  CHECK_EQUAL(MST_ERROR_DEPENDENCY, dependent.status);
  CHECK_EQUAL(9, dependent.cause_queue_id);
  CHECK_EQUAL(1, dependent.cause_value);
  /* Encoded when it is known, and for a later value that succeeds: the failure sticks. */
  memset(contents, 0, 4);
  commit_behind(b, 1, host, 1, buffer, 2);
  OK(mst_queue_signal(host, 2, NULL));
  commit_behind(b, 2, host, 2, buffer, 3);
  OK(mst_queue_wait(b, 2, -1));
  CHECK_EQUAL(0, *contents);
  for (int i = 0; i < 3; i++) {
    mst_completion completion = next_completion(device);
    CHECK_EQUAL(completion.queue_id == 9 ? MST_OK : MST_ERROR_DEPENDENCY, completion.status);
  }
  /* A reset strikes nobody's waits for what is to come. */
  commit_behind(a, 2, host, 3, buffer, 4);
  OK(mst_queue_reset(host));
  CHECK_EQUAL(0, mst_queue_failed_value(host));
  OK(mst_queue_signal(host, 3, NULL));
  OK(mst_queue_wait(a, 2, -1));
  CHECK_EQUAL(4, *contents);
  CHECK_EQUAL(9, next_completion(device).queue_id);
  CHECK_EQUAL(MST_OK, next_completion(device).status);
  OK(mst_queue_destroy(a));
  OK(mst_queue_destroy(b));
  OK(mst_queue_destroy(host));
  OK(mst_buffer_destroy(buffer));
  OK(mst_device_close(device));
}

static void messages_are_copied_and_cut(void) {
  mst_device *device = open_device(1);
  mst_queue *host = create_host_queue(device, 9);
  char message[1000];
  memset(message, 'x', sizeof(message));
  message[sizeof(message) - 1] = '\0';
  OK(mst_queue_signal(host, 1, message));
  memset(message, 'y', sizeof(message) - 1);
  OK(mst_queue_signal(host, 2, ""));
  mst_completion cut = next_completion(device);
  CHECK_EQUAL(sizeof(cut.message) - 1, strlen(cut.message));
  CHECK_EQUAL('x', cut.message[0]);
  CHECK(next_completion(device).message[0] != '\0');
  OK(mst_queue_signal(host, 3, message)); /* nobody takes it */
  OK(mst_queue_destroy(host));
  OK(mst_device_close(device));
}

static void kinds_are_not_confused(void) {
  mst_device *device = open_device(1);
  mst_queue *host = create_host_queue(device, 9);
  mst_queue *queue = create_queue(device, 1);
  mst_queue *none = NULL;
  uint8_t *contents = NULL;
  mst_buffer *buffer = create_byte(device, &contents);
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_begin(host, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_commit(host, 1, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_commands_discard(host, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_encode_fill(host, 1, buffer, 0, 4, 1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_encode_wait(host, 1, queue, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_signal(queue, 1, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_signal(NULL, 1, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_signal((mst_queue *)buffer, 1, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create_host(device, 1, NULL, &none));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create_host(device, 9, NULL, &none));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create(device, 9, NULL, 4, &none));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create(device, 10, NULL, 0, &none));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create_host(NULL, 10, NULL, &none));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_queue_create_host(device, 10, NULL, NULL));
  CHECK(none == NULL);
  CHECK_EQUAL(0, mst_queue_completed_value(host));
  OK(mst_queue_destroy(host));
  OK(mst_queue_create_host(device, 9, NULL, &host));
  OK(mst_queue_destroy(host));
  OK(mst_queue_destroy(queue));
  OK(mst_buffer_destroy(buffer));
  OK(mst_device_close(device));
}

static void its_end_ends_the_waits(void) {
  mst_device *device = open_device(1);
  mst_queue *host = create_host_queue(device, 9);
  mst_queue *a = create_queue(device, 1);
  mst_queue *b = create_queue(device, 2);
  uint8_t *contents = NULL;
  mst_buffer *other = create_byte(device, &contents);
  mst_buffer *buffer = create_byte(device, &contents);
  OK(mst_queue_signal(host, 2, NULL));
  CHECK_EQUAL(2, next_completion(device).value);
  commit_behind(a, 1, host, 4, other, 1);
  commit_behind(b, 1, host, 7, buffer, 2);
  OK(mst_queue_destroy(host));
  OK(mst_queue_wait(a, 1, -1));
  OK(mst_queue_wait(b, 1, -1));
  mst_completion failed = next_completion(device);
  CHECK_EQUAL(9, failed.queue_id);
  CHECK_EQUAL(7, failed.value);
  CHECK_EQUAL(MST_ERROR_EXECUTION, failed.status);
  CHECK(strstr(failed.message, "never signalled") != NULL);
  for (int i = 0; i < 2; i++) {
    mst_completion dependent = next_completion(device);
    CHECK_EQUAL(MST_ERROR_DEPENDENCY, dependent.status);
    CHECK_EQUAL(9, dependent.cause_queue_id);
    CHECK_EQUAL(3, dependent.cause_value);
  }
  /* Waits that were discarded leave nothing to end. */
  host = create_host_queue(device, 10);
  OK(mst_commands_begin(a, 2));
  OK(mst_encode_wait(a, 2, host, 1));
  OK(mst_commands_discard(a, 2));
  OK(mst_queue_destroy(host));
  check_none(device);
  /* Signalled, and gone before what waits has run. */
  host = create_host_queue(device, 11);
  OK(mst_queue_reset(b));
  OK(mst_test_hold(b));
  commit_behind(b, 2, host, 1, buffer, 3);
  OK(mst_queue_signal(host, 1, NULL));
  OK(mst_queue_destroy(host));
  OK(mst_test_release(b));
  OK(mst_queue_wait(b, 2, -1));
  CHECK_EQUAL(0, mst_queue_failed_value(b));
  CHECK_EQUAL(3, *contents);
  OK(mst_queue_destroy(a));
  OK(mst_queue_destroy(b));
  OK(mst_buffer_destroy(other));
  OK(mst_buffer_destroy(buffer));
  OK(mst_device_close(device));
}

typedef struct waiter {
  pthread_t thread;
  mst_queue *queue;
  uint64_t value;
  int32_t status;
} waiter;

static void *wait_for_value(void *argument) {
  waiter *waiter = argument;
  waiter->status = mst_queue_wait(waiter->queue, waiter->value, -1);
  return NULL;
}

static void start(waiter *waiter, mst_queue *queue, uint64_t value) {
  waiter->queue = queue;
  waiter->value = value;
  CHECK_EQUAL(0, pthread_create(&waiter->thread, NULL, wait_for_value, waiter));
}

static void threads_wait_as_well(void) {
  enum { THREADS = 4 };
  mst_device *device = open_device(1);
  mst_queue *host = create_host_queue(device, 9);
  mst_queue *queue = create_queue(device, 1);
  uint8_t *contents = NULL;
  mst_buffer *buffer = create_byte(device, &contents);
  for (uint64_t value = 1; value <= 50; value++) {
    commit_behind(queue, value, host, value, buffer, (uint8_t)value);
    waiter waiters[THREADS];
    for (int i = 0; i < THREADS; i++) {
      start(&waiters[i], i % 2 == 0 ? host : queue, value);
    }
    OK(mst_queue_signal(host, value, NULL));
    for (int i = 0; i < THREADS; i++) {
      pthread_join(waiters[i].thread, NULL);
      OK(waiters[i].status);
    }
    CHECK_EQUAL(value, *contents);
  }
  OK(mst_queue_destroy(host));
  OK(mst_queue_destroy(queue));
  OK(mst_buffer_destroy(buffer));
  OK(mst_device_close(device));
}

static void close_does_not_wait_for_signals(void) {
  mst_device *device = open_device(1);
  mst_queue *host = create_host_queue(device, 9);
  mst_queue *unused = create_host_queue(device, 10);
  mst_queue *queue = create_queue(device, 1);
  mst_queue *open = create_queue(device, 2);
  uint8_t *contents = NULL;
  mst_buffer *buffer = create_byte(device, &contents);
  commit_behind(queue, 1, host, 1, buffer, 1);
  commit_behind(queue, 2, host, 3, buffer, 2);
  OK(mst_commands_begin(open, 1));
  OK(mst_encode_wait(open, 1, unused, 5));
  waiter waiter;
  start(&waiter, host, 8);
  OK(mst_device_close(device));
  pthread_join(waiter.thread, NULL);
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, waiter.status);
  CHECK_EQUAL(2, mst_queue_completed_value(queue));
  CHECK_EQUAL(1, mst_queue_failed_value(queue));
  CHECK_EQUAL(1, mst_queue_failed_value(host));
  CHECK_EQUAL(3, mst_queue_completed_value(host));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_signal(host, 9, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_queue_wait(host, 9, -1));
  CHECK_EQUAL(MST_ERROR_INVALID_STATE, mst_encode_wait(open, 1, host, 9));
  OK(mst_encode_wait(open, 1, host, 3));
  OK(mst_queue_destroy(host));
  OK(mst_queue_destroy(unused));
  OK(mst_queue_destroy(open));
  OK(mst_queue_destroy(queue));
  OK(mst_buffer_destroy(buffer));
}

int main(void) {
  RUN(a_signal_lets_go_what_waits_and_what_will);
  RUN(a_signal_covers_the_values_before_it);
  RUN(a_failure_strikes_who_waits_until_the_reset);
  RUN(messages_are_copied_and_cut);
  RUN(kinds_are_not_confused);
  RUN(its_end_ends_the_waits);
  RUN(threads_wait_as_well);
  RUN(close_does_not_wait_for_signals);
  return 0;
}
