/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_TEST_ABI_MODEL_H
#define MST_TEST_ABI_MODEL_H

/* Calls of the ABI beside a model of it: see abi_model.c. Each checked_ function makes the call of that name, ends the
 * process if the result is none that mst.h allows, and returns it. Handles may be NULL or of another type; what was
 * destroyed may not be used. One thread. */

#include <stdbool.h>

#include "check.h"

/* Most objects that live at a time. */
enum { QUEUES = 5, BUFFERS = 6, GRAPHS = 2, EXECUTABLES = 3, DEVICES = 2, MOST_ARGUMENTS = 8 };

/* Forgets everything, and takes these open devices. */
void model_start(mst_device *const *devices);

/* Lets all work end, checks what is left to check, and ends everything, the devices first or last. */
void model_finish(bool devices_first);

/* One more than the last committed value; 1 if this is no queue. */
uint64_t model_next_value(const mst_queue *queue);

/* The id of a queue of the device; `otherwise` if it has none. */
uint64_t model_taken_id(const mst_device *device, uint64_t otherwise);

/* Whether all up to `value` completes without any further call. */
bool model_must_complete(const mst_queue *queue, uint64_t value);

/* Compares what can be seen at this moment: values, memory figures, contents of buffers that nothing uses. */
void model_look(void);

int32_t checked_queue_create(mst_device *device, uint64_t id, uint32_t max_in_flight, mst_queue **out_queue);
int32_t checked_queue_create_host(mst_device *device, uint64_t id, mst_queue **out_queue);
int32_t checked_queue_signal(mst_queue *queue, uint64_t value, const char *failure);
int32_t checked_queue_destroy(mst_queue *queue); /* releases and signals all before: it may wait for any */
int32_t checked_queue_wait(mst_queue *queue, uint64_t value, int64_t timeout_ns);
int32_t checked_queue_reset(mst_queue *queue);

int32_t checked_commands_begin(mst_queue *queue, uint64_t value);
int32_t checked_commands_commit(mst_queue *queue, uint64_t value, uint32_t flags);
int32_t checked_commands_discard(mst_queue *queue, uint64_t value);

int32_t checked_encode_wait(mst_queue *queue, uint64_t value, mst_queue *awaited_queue, uint64_t awaited_value);
int32_t checked_encode_fill(mst_queue *queue, uint64_t value, mst_buffer *buffer, uint64_t offset, uint64_t length,
                            uint8_t byte);
int32_t checked_encode_copy(mst_queue *queue, uint64_t value, mst_buffer *source, uint64_t source_offset,
                            mst_buffer *target, uint64_t target_offset, uint64_t length);
int32_t checked_encode_executable(mst_queue *queue, uint64_t value, mst_executable *executable,
                                  mst_buffer *const *buffers, int32_t count, uint32_t flags);
int32_t checked_encode_layer_norm(mst_queue *queue, uint64_t value, mst_buffer *x, mst_buffer *gamma, mst_buffer *beta,
                                  mst_buffer *y, uint64_t rows, uint64_t columns, float eps);

int32_t checked_buffer_create(mst_device *device, uint64_t bytes, int32_t storage, mst_buffer **out_buffer);
int32_t checked_buffer_destroy(mst_buffer *buffer);

int32_t checked_graph_create(mst_device *device, mst_graph **out_graph);
int32_t checked_graph_destroy(mst_graph *graph);

enum node_kind { NODE_INPUT, NODE_CONSTANT, NODE_COMPUTED };

/* Checks what a call that adds a node to a graph has returned. bytes: of the tensor, 0 if that is not known. */
void checked_node(mst_graph *graph, int32_t status, int32_t node, enum node_kind kind, uint64_t bytes);
int32_t checked_graph_output(mst_graph *graph, int32_t node);
int32_t checked_graph_compile(mst_graph *graph, mst_executable **out_executable);
int32_t checked_executable_destroy(mst_executable *executable);

/* Takes completions: waits for them, if there must be one, else only looks. */
int32_t checked_next_completions(mst_device *device, int32_t capacity, bool waits);
void checked_device_wake(mst_device *device);

int32_t checked_hold(mst_queue *queue);
int32_t checked_release(mst_queue *queue);
int32_t checked_step(mst_queue *queue, uint32_t count);
int32_t checked_fail_execution(uint32_t n, int32_t status); /* mst_test_fail("execute", ...) */

/* Of any call: its status is one of mst.h, no defect, and explained. */
int32_t check_status(int32_t status);

#endif
