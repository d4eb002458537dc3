/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Executables: a graph, compiled by MPSGraph once for each queue that uses it.
 *
 * MPSGraphExecutable is marked as safe for several threads, but nothing says that two encodes of one may overlap, and
 * an MPSGraph or an MPSKernel is for one thread at a time. So each queue has an *instance* of its own, which only the
 * holder of that queue touches. The first one is made by mst_graph_compile, where errors belong, and goes to the first
 * queue that asks; the others are compiled at the first use on their queue.
 *
 * Invariants
 *   1. An instance is in the list of its executable and, once a queue has it, in that of the queue. Both are guarded by
 *      device->instances_lock, which is held for list work only: nothing is compiled or released under it.
 *   2. An instance ends with its executable or with its queue, whichever is first. Neither ends while a command buffer
 *      uses the instance: the command buffer keeps the executable, and a queue outlives its command buffers.
 *   3. Only the thread that holds the queue's lock adds an instance for it, so none is compiled twice. */
#include "executable.h"

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>
#import <MetalPerformanceShadersGraph/MetalPerformanceShadersGraph.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "commands.h"
#include "compile.h"
#include "device.h"
#include "error.h"
#include "matmul.h"
#include "queue.h"
#include "tensors.h"

typedef struct mst_instance {
  mst_executable *executable;
  mst_queue *queue; /* NULL: not yet given to one */
  MPSGraph *graph;  /* owns the tensors that the executable names */
  MPSGraphExecutable *metal;
  MPSGraphExecutableExecutionDescriptor *execution;
  uint32_t *feeds;   /* position in feedTensors -> argument */
  uint32_t *targets; /* position in targetTensors -> argument */
  uint32_t feed_count;
  uint32_t target_count;
  MPSNDArrayMatrixMultiplication *multiply; /* made at first use */
  struct mst_instance *previous_of_executable;
  struct mst_instance *next_of_executable;
  struct mst_instance *previous_of_queue;
  struct mst_instance *next_of_queue;
} mst_instance;

/* ---------------------------------------------------------------------------------------------------- compiling --- */

/* Writes, for each tensor of `order`, which argument it is; false if it is none of `count` from the first. */
static bool find_arguments(NSArray<MPSGraphTensor *> *order, NSArray<MPSGraphTensor *> *arguments, uint32_t first,
                           uint32_t count, uint32_t *out) {
  for (NSUInteger i = 0; i < order.count; i++) {
    uint32_t argument = first;
    while (argument < first + count && [order objectAtIndex:i] != [arguments objectAtIndex:argument]) {
      argument++;
    }
    if (argument == first + count) {
      return false;
    }
    out[i] = argument;
  }
  return true;
}

static void free_instance(mst_instance *instance) {
  [instance->multiply release];
  [instance->execution release];
  [instance->metal release];
  [instance->graph release];
  free(instance->feeds);
  free(instance->targets);
  free(instance);
}

/* A new instance, in no list; NULL and an error on behalf of `function`. */
static mst_instance *make_instance(mst_executable *executable, const char *function, int32_t *status) {
  mst_instance *instance = calloc(1, sizeof(mst_instance));
  if (instance == NULL) {
    *status = mst_error(MST_ERROR_OUT_OF_MEMORY, function, "no memory for an executable");
    return NULL;
  }
  instance->executable = executable;
  instance->graph = [[MPSGraph alloc] init];
  instance->graph.options = MPSGraphOptionsNone; /* unified memory: nothing to copy back */
  NSMutableArray<MPSGraphTensor *> *arguments = [NSMutableArray array];
  NSString *reason = @"MPSGraph gives no executable";
  @try {
    instance->metal =
        [mst_compile(executable->graph, instance->graph, executable->device->graph_device, arguments) retain];
  } @catch (NSException *exception) {
    reason = [NSString stringWithFormat:@"%@: %@", exception.name, exception.reason];
  }
  if (instance->metal == nil) {
    free_instance(instance);
    *status = mst_error(MST_ERROR_COMPILE, function, "%s", reason.UTF8String);
    return NULL;
  }
  instance->metal.options = MPSGraphOptionsNone;
  instance->execution = [[MPSGraphExecutableExecutionDescriptor alloc] init];
  instance->execution.waitUntilCompleted = NO;

  /* The order of the feeds is MPSGraph's own; inputs that no output needs may be missing. */
  NSArray<MPSGraphTensor *> *feeds = instance->metal.feedTensors;
  NSArray<MPSGraphTensor *> *targets = instance->metal.targetTensors;
  instance->feed_count = (uint32_t)feeds.count;
  instance->target_count = (uint32_t)targets.count;
  instance->feeds = calloc(feeds.count + 1, sizeof(uint32_t));
  instance->targets = calloc(targets.count + 1, sizeof(uint32_t));
  uint32_t output_count = executable->argument_count - executable->input_count;
  if (instance->feeds == NULL || instance->targets == NULL || instance->target_count != output_count ||
      !find_arguments(feeds, arguments, 0, executable->input_count, instance->feeds) ||
      !find_arguments(targets, arguments, executable->input_count, output_count, instance->targets)) {
    free_instance(instance);
    *status = mst_error(MST_ERROR_COMPILE, function, "MPSGraph names other feeds or targets than the graph has");
    return NULL;
  }
  return instance;
}

/* ---------------------------------------------------------------------------------------------------- instances --- */

/* Puts an instance into the list of its queue. Instances lock held. */
static void give_to_queue(mst_instance *instance, mst_queue *queue) {
  instance->queue = queue;
  instance->next_of_queue = queue->instances;
  if (queue->instances != NULL) {
    queue->instances->previous_of_queue = instance;
  }
  queue->instances = instance;
}

static void link_to_executable(mst_instance *instance) {
  mst_executable *executable = instance->executable;
  instance->next_of_executable = executable->instances;
  if (executable->instances != NULL) {
    executable->instances->previous_of_executable = instance;
  }
  executable->instances = instance;
}

static void unlink_from_queue(mst_instance *instance) {
  if (instance->queue == NULL) {
    return;
  }
  *(instance->previous_of_queue != NULL ? &instance->previous_of_queue->next_of_queue : &instance->queue->instances) =
      instance->next_of_queue;
  if (instance->next_of_queue != NULL) {
    instance->next_of_queue->previous_of_queue = instance->previous_of_queue;
  }
}

static void unlink_from_executable(mst_instance *instance) {
  *(instance->previous_of_executable != NULL ? &instance->previous_of_executable->next_of_executable
                                             : &instance->executable->instances) = instance->next_of_executable;
  if (instance->next_of_executable != NULL) {
    instance->next_of_executable->previous_of_executable = instance->previous_of_executable;
  }
}

/* The queue's instance, or one that no queue has yet, which it then gets; NULL if there is neither. */
static mst_instance *find_instance(mst_executable *executable, mst_queue *queue) {
  pthread_mutex_lock(&executable->device->instances_lock);
  mst_instance *spare = NULL;
  mst_instance *found = executable->instances;
  while (found != NULL && found->queue != queue) {
    spare = found->queue == NULL ? found : spare;
    found = found->next_of_executable;
  }
  if (found == NULL && spare != NULL) {
    found = spare;
    give_to_queue(found, queue);
  }
  pthread_mutex_unlock(&executable->device->instances_lock);
  return found;
}

static mst_instance *instance_for(mst_executable *executable, mst_queue *queue, const char *function, int32_t *status) {
  mst_instance *instance = find_instance(executable, queue);
  if (instance == NULL) {
    instance = make_instance(executable, function, status);
    if (instance != NULL) {
      pthread_mutex_lock(&executable->device->instances_lock);
      link_to_executable(instance);
      give_to_queue(instance, queue);
      pthread_mutex_unlock(&executable->device->instances_lock);
    }
  }
  return instance;
}

void mst_executable_forget_queue(mst_queue *queue) {
  pthread_mutex_t *lock = &queue->device->instances_lock;
  pthread_mutex_lock(lock);
  mst_instance *first = queue->instances;
  queue->instances = NULL;
  for (mst_instance *each = first; each != NULL; each = each->next_of_queue) {
    unlink_from_executable(each);
  }
  pthread_mutex_unlock(lock);
  mst_instance *next = NULL;
  for (mst_instance *each = first; each != NULL; each = next) {
    next = each->next_of_queue;
    free_instance(each);
  }
}

/* -------------------------------------------------------------------------------------- beginning and end --------- */

void mst_executable_retain(mst_executable *executable) {
  atomic_fetch_add_explicit(&executable->references, 1, memory_order_relaxed);
}

void mst_executable_release(mst_executable *executable) {
  if (atomic_fetch_sub_explicit(&executable->references, 1, memory_order_acq_rel) != 1) {
    return;
  }
  mst_device *device = executable->device;
  pthread_mutex_lock(&device->instances_lock);
  for (mst_instance *each = executable->instances; each != NULL; each = each->next_of_executable) {
    unlink_from_queue(each);
  }
  pthread_mutex_unlock(&device->instances_lock);
  mst_instance *next = NULL;
  for (mst_instance *each = executable->instances; each != NULL; each = next) {
    next = each->next_of_executable;
    free_instance(each);
  }
  mst_graph_destroy(executable->graph);
  free(executable->arguments);
  executable->tag = MST_TAG_ENDED;
  free(executable);
  mst_device_release(device);
}

/* Whether an encode with these flags goes to MPSNDArrayMatrixMultiplication. */
static bool goes_to_ndarray(const mst_executable *executable, uint32_t flags) {
  return (flags & MST_ENCODE_SOLE) != 0 && (executable->device->flags & MST_DEVICE_FORCE_GRAPH) == 0 &&
         executable->sole_product >= 0;
}

int32_t mst_executable_path(mst_executable *executable, uint32_t flags, int32_t *out_path) {
  if (!mst_is(executable, MST_TAG_EXECUTABLE) || out_path == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no executable or no out-parameter");
  }
  if ((flags & ~(uint32_t)MST_ENCODE_SOLE) != 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
  }
  *out_path = executable->matmul_count == 0        ? MST_PATH_NONE
              : goes_to_ndarray(executable, flags) ? MST_PATH_NDARRAY
                                                   : MST_PATH_GRAPH;
  return MST_OK;
}

int32_t mst_executable_destroy(mst_executable *executable) {
  @autoreleasepool {
    if (executable == NULL) {
      return MST_OK;
    }
    if (!mst_is(executable, MST_TAG_EXECUTABLE)) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not an executable");
    }
    mst_executable_release(executable);
    return MST_OK;
  }
}

/* Keeps what was compiled; false if there is no memory. */
static bool describe(mst_executable *executable, const mst_graph *graph) {
  executable->input_count = (uint32_t)graph->input_count;
  executable->argument_count = (uint32_t)(graph->input_count + graph->output_count);
  executable->graph = mst_graph_copy(graph);
  executable->arguments = malloc(executable->argument_count * sizeof(int32_t));
  if (executable->graph == NULL || executable->arguments == NULL) {
    return false;
  }
  uint32_t argument = 0;
  int32_t product = -1;
  for (int32_t id = 0; id < graph->node_count; id++) {
    if (graph->nodes[id].kind == MST_NODE_INPUT) {
      executable->arguments[argument++] = id;
    } else if (graph->nodes[id].kind == MST_NODE_MATMUL) {
      executable->matmul_count++;
      product = id;
    }
  }
  memcpy(executable->arguments + argument, graph->outputs, (size_t)graph->output_count * sizeof(int32_t));
  bool sole = executable->matmul_count == 1 && graph->node_count == graph->input_count + 1;
  executable->sole_product = sole && mst_matmul_suits_ndarray(graph, &graph->nodes[product]) ? product : -1;
  return true;
}

int32_t mst_graph_compile(mst_graph *graph, mst_executable **out_executable) {
  @autoreleasepool {
    if (!mst_is(graph, MST_TAG_GRAPH) || out_executable == NULL) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no graph or no out-parameter");
    }
    int32_t status = mst_compile_check(graph, __func__);
    if (status != MST_OK) {
      return status;
    }
    mst_executable *executable = calloc(1, sizeof(mst_executable));
    if (executable == NULL) {
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an executable");
    }
    executable->tag = MST_TAG_EXECUTABLE;
    atomic_init(&executable->references, 1);
    executable->device = graph->device;
    mst_device_retain(graph->device);
    if (!describe(executable, graph)) {
      mst_executable_release(executable);
      return MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an executable");
    }
    mst_instance *instance = make_instance(executable, __func__, &status);
    if (instance == NULL) {
      mst_executable_release(executable);
      return status;
    }
    link_to_executable(instance); /* nobody else knows the executable yet */
    *out_executable = executable;
    return MST_OK;
  }
}

/* ------------------------------------------------------------------------------------------------------- encode --- */

static const mst_node *argument_node(const mst_executable *executable, uint32_t argument) {
  return &executable->graph->nodes[executable->arguments[argument]];
}

/* Whether the buffers fit the executable; else an error. */
static int32_t check_arguments(const mst_queue *queue, const mst_executable *executable, mst_buffer *const *buffers,
                               int32_t count, const char *function) {
  if (!mst_is(executable, MST_TAG_EXECUTABLE)) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "not an executable");
  }
  if (executable->device != queue->device) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "the executable belongs to another device");
  }
  if (buffers == NULL || count < 0 || (uint32_t)count != executable->argument_count) {
    return mst_error(MST_ERROR_INVALID_ARGUMENT, function,
                     "%d buffers were given, the executable takes %u inputs and %u outputs", count,
                     executable->input_count, executable->argument_count - executable->input_count);
  }
  for (int32_t i = 0; i < count; i++) {
    const mst_node *node = argument_node(executable, (uint32_t)i);
    uint64_t bytes = (uint64_t)(node->elements * mst_dtype_bytes(node->dtype));
    int32_t status = mst_commands_check_range(queue, buffers[i], 0, bytes, function);
    if (status != MST_OK) {
      return status;
    }
    for (int32_t j = 0; j < i && (uint32_t)i >= executable->input_count; j++) {
      if (buffers[i] == buffers[j]) {
        return mst_error(MST_ERROR_INVALID_ARGUMENT, function, "buffer %d, an output, is buffer %d as well", i, j);
      }
    }
  }
  return MST_OK;
}

/* The tensors over the buffers, in the order of MPSGraph. */
static NSArray<MPSGraphTensorData *> *tensor_data(const mst_executable *executable, mst_buffer *const *buffers,
                                                  const uint32_t *order, uint32_t count) {
  NSMutableArray<MPSGraphTensorData *> *data = [NSMutableArray arrayWithCapacity:count];
  for (uint32_t i = 0; i < count; i++) {
    const mst_node *node = argument_node(executable, order[i]);
    MPSGraphTensorData *tensor = [[MPSGraphTensorData alloc] initWithMTLBuffer:buffers[order[i]]->metal
                                                                         shape:mst_shape_of(node)
                                                                      dataType:mst_type_of(node->dtype)];
    [data addObject:tensor];
    [tensor release];
  }
  return data;
}

/* False: not suited to this path. */
static bool encode_ndarray(mst_commands *commands, mst_instance *instance, mst_buffer *const *buffers) {
  mst_executable *executable = instance->executable;
  const mst_graph *graph = executable->graph;
  const mst_node *product = &graph->nodes[executable->sole_product];
  if (instance->multiply == nil) {
    instance->multiply = [[MPSNDArrayMatrixMultiplication alloc] initWithDevice:executable->device->metal
                                                                    sourceCount:2];
  }
  /* The graph has no other nodes than its inputs and the product: the position of an input is its id, or one less. */
  uint32_t a = 0;
  uint32_t b = 0;
  for (uint32_t i = 0; i < executable->input_count; i++) {
    a = executable->arguments[i] == mst_operand(graph, product, 0) ? i : a;
    b = executable->arguments[i] == mst_operand(graph, product, 1) ? i : b;
  }
  return instance->multiply != nil && mst_matmul_encode(commands, instance->multiply, graph, product, buffers[a]->metal,
                                                        buffers[b]->metal, buffers[executable->input_count]->metal);
}

static void encode_graph(mst_commands *commands, mst_instance *instance, mst_buffer *const *buffers) {
  const mst_executable *executable = instance->executable;
  mst_commands_watch(commands); /* MPSGraph may commit the root */
  [instance->metal encodeToCommandBuffer:commands->metal
                             inputsArray:tensor_data(executable, buffers, instance->feeds, instance->feed_count)
                            resultsArray:tensor_data(executable, buffers, instance->targets, instance->target_count)
                     executionDescriptor:instance->execution];
}

/* Encodes by the path that the flags allow, and counts it. */
static int32_t encode(mst_commands *commands, mst_instance *instance, mst_buffer *const *buffers, uint32_t flags,
                      const char *function) {
  mst_device *device = commands->queue->device;
  @try {
    if (goes_to_ndarray(instance->executable, flags) && encode_ndarray(commands, instance, buffers)) {
      atomic_fetch_add_explicit(&device->matmuls_by_ndarray, 1, memory_order_relaxed);
    } else {
      encode_graph(commands, instance, buffers);
      atomic_fetch_add_explicit(&device->matmuls_by_graph, instance->executable->matmul_count, memory_order_relaxed);
    }
    return MST_OK;
  } @catch (NSException *exception) {
    NSString *reason = [NSString stringWithFormat:@"%@: %@", exception.name, exception.reason];
    return mst_error(MST_ERROR_INTERNAL, function, "Metal Performance Shaders refuse the encode: %s",
                     reason.UTF8String);
  }
}

int32_t mst_encode_executable(mst_queue *queue, uint64_t value, mst_executable *executable, mst_buffer *const *buffers,
                              int32_t count, uint32_t flags) {
  @autoreleasepool {
    int32_t status = MST_OK;
    mst_commands *commands = mst_commands_find_open(queue, value, __func__, &status);
    if (commands == NULL) {
      return status;
    }
    status = check_arguments(queue, executable, buffers, count, __func__);
    if (status != MST_OK) {
      return status;
    }
    if ((flags & ~(uint32_t)MST_ENCODE_SOLE) != 0) {
      return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
    }
    mst_instance *instance = instance_for(executable, queue, __func__, &status);
    if (instance == NULL || !mst_commands_keep(commands, executable)) {
      return instance == NULL ? status : MST_FAIL(MST_ERROR_OUT_OF_MEMORY, "no memory for an operation");
    }
    status = mst_commands_use(commands, buffers, (uint32_t)count, __func__);
    if (status != MST_OK || commands->dependency.value != 0) {
      return status;
    }
    /* After an exception the buffers stay in use: part of the operation may be encoded. */
    return encode(commands, instance, buffers, flags, __func__);
  }
}
