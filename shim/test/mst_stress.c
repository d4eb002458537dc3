/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Drives the shim from many threads at once and checks every result.
 *
 *     mst_stress [--threads N] [--iterations N] [--workers N] [--workload NAME] [--math PATH] [--seed N]
 *
 * Exit status 0: everything held. Without --workload, all of them run, one after the other:
 *   layers    each thread computes linear layers on its own queue, several in flight, in buffers that it creates and
 *             tries to destroy too early
 *   handover  one number is incremented by all queues in turn, ordered by nothing but waits across queues
 *   events    threads share queues; each drags a buffer of its own from one queue to another behind waits
 *   churn     threads create and destroy queues, graphs, executables and buffers while the others run
 *   failures  command buffers fail at random, failures travel along waits, queues are reset
 * Completions are checked all the while: none is missing, values of a queue come in order, failures come before what
 * depends on them. In "events" the threads drain as they go, which shows that a completion is there before its value. */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "check.h"

enum {
  MOST_THREADS = 256,
  MOST_QUEUES = 1 << 16, /* ever created in a run */
  FAILURE_SLOTS = 1 << 16,
  ROWS = 4,
  IN = 24,
  OUT = 20,
  BYTES = 256
};

typedef struct shared_queue {
  pthread_mutex_t lock; /* encoding is serialised by the caller */
  mst_queue *queue;
  uint64_t id;
  atomic_uint_least64_t committed;
} shared_queue;

typedef struct stress {
  mst_device *device;
  int threads;
  int iterations;
  pthread_mutex_t start; /* held until all threads are there to be let go at once */
  shared_queue queues[MOST_THREADS];
  atomic_uint_least64_t next_queue_id;
  atomic_uint_least64_t committed;

  /* A linear layer, for all. */
  mst_executable *layer;
  mst_buffer *weights;
  mst_buffer *bias;
  float *weight_values;
  float *bias_values;

  /* The number that is handed over. */
  pthread_mutex_t token_lock;
  mst_executable *increment;
  mst_buffer *token;
  mst_buffer *token_copy;
  mst_buffer *one;
  mst_queue *token_queue;
  uint64_t token_value;

  /* What the completions said. */
  pthread_mutex_t drain_lock;
  uint64_t drained;
  atomic_bool ended;                   /* the draining thread is told to end */
  uint64_t *last_values;               /* by queue id */
  uint64_t failures[FAILURE_SLOTS][2]; /* hash table of queue id and value; value 0: free */
  uint64_t failed;
  uint64_t failed_dependents;
} stress;

typedef struct worker {
  stress *stress;
  int index;
  uint64_t random;
  void (*work)(struct worker *worker);
  pthread_t thread;
} worker;

static uint64_t draw(worker *worker, uint64_t bound) {
  worker->random ^= worker->random << 13;
  worker->random ^= worker->random >> 7;
  worker->random ^= worker->random << 17;
  return worker->random % bound;
}

static uint32_t draw_flags(worker *worker) {
  return draw(worker, 2) == 0 ? MST_COMMIT_DEFAULT : MST_COMMIT_WAITING;
}

/* -------------------------------------------------------------------------------------------------- completions --- */

static uint64_t *failure_slot(stress *stress, uint64_t queue_id, uint64_t value) {
  uint64_t at = queue_id * 0x9e3779b97f4a7c15u + value * 0xc2b2ae3d27d4eb4fu;
  for (;; at++) {
    uint64_t *slot = stress->failures[(at >> 7) % FAILURE_SLOTS];
    if (slot[1] == 0 || (slot[0] == queue_id && slot[1] == value)) {
      return slot;
    }
    at += 127;
  }
}

/* Checks completions in the order in which they were drained. drain_lock held. */
static void check_completions(stress *stress, const mst_completion *completions, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    const mst_completion *completion = &completions[i];
    CHECK(completion->queue_id < MOST_QUEUES);
    CHECK_EQUAL(stress->last_values[completion->queue_id] + 1, completion->value);
    stress->last_values[completion->queue_id] = completion->value;
    CHECK(completion->gpu_start_ns <= completion->gpu_end_ns);
    switch (completion->status) {
      case MST_OK:
        CHECK(completion->message[0] == '\0');
        CHECK(completion->gpu_start_ns != 0);
        break;
      case MST_ERROR_EXECUTION: {
        uint64_t *slot = failure_slot(stress, completion->queue_id, completion->value);
        slot[0] = completion->queue_id;
        slot[1] = completion->value;
        stress->failed++;
        break;
      }
      default:
        CHECK_EQUAL(MST_ERROR_DEPENDENCY, completion->status);
        /* The cause is a first failure, and was reported before. */
        CHECK_EQUAL(completion->cause_value,
                    failure_slot(stress, completion->cause_queue_id, completion->cause_value)[1]);
        stress->failed_dependents++;
        break;
    }
  }
  stress->drained += (uint64_t)count;
}

/* Drains what is there. */
static void drain(stress *stress) {
  mst_completion completions[16];
  int32_t count = 0;
  pthread_mutex_lock(&stress->drain_lock);
  while (mst_device_next_completions(stress->device, completions, 16, 0, &count) == MST_OK) {
    check_completions(stress, completions, count);
  }
  pthread_mutex_unlock(&stress->drain_lock);
}

/* The draining thread: a wake ends it. */
static void *drain_always(void *argument) {
  stress *stress = argument;
  mst_completion completions[64];
  int32_t count = 0;
  do {
    OK(mst_device_next_completions(stress->device, completions, 64, -1, &count));
    pthread_mutex_lock(&stress->drain_lock);
    check_completions(stress, completions, count);
    pthread_mutex_unlock(&stress->drain_lock);
  } while (!atomic_load(&stress->ended));
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------ queues ---- */

static mst_queue *make_queue(stress *stress, uint32_t max_in_flight, uint64_t *out_id) {
  mst_queue *queue = NULL;
  *out_id = atomic_fetch_add(&stress->next_queue_id, 1);
  CHECK(*out_id < MOST_QUEUES);
  OK(mst_queue_create(stress->device, *out_id, "stress", max_in_flight, &queue));
  return queue;
}

/* Opens the next command buffer, waiting for room. */
static void begin(mst_queue *queue, uint64_t value) {
  int32_t status = mst_commands_begin(queue, value);
  if (status == MST_ERROR_BUSY) {
    uint64_t oldest = mst_queue_completed_value(queue) + 1;
    if (oldest < value) { /* else all were completed meanwhile */
      OK(mst_queue_wait(queue, oldest, -1));
    }
    status = mst_commands_begin(queue, value);
  }
  OK(status);
}

static void commit(worker *worker, mst_queue *queue, uint64_t value) {
  /* Counted before: the completion may be drained before commit returns. */
  atomic_fetch_add(&worker->stress->committed, 1);
  OK(mst_commands_commit(queue, value, draw_flags(worker)));
}

/* Waits in one of the ways there are. */
static void wait_for(worker *worker, mst_queue *queue, uint64_t value) {
  if (draw(worker, 3) == 0) {
    while (mst_queue_wait(queue, value, 20000) == MST_TIMEOUT) {
    }
  } else {
    OK(mst_queue_wait(queue, value, -1));
  }
  CHECK(mst_queue_completed_value(queue) >= value);
}

/* ------------------------------------------------------------------------------------------------------ layers ---- */

static mst_executable *compile_layer(mst_device *device) {
  mst_graph *graph = NULL;
  int32_t nodes[6];
  const int64_t x_dims[2] = {ROWS, IN};
  const int64_t w_dims[2] = {OUT, IN};
  const int64_t b_dims[1] = {OUT};
  mst_executable *executable = NULL;
  OK(mst_graph_create(device, &graph));
  OK(mst_graph_input(graph, MST_F32, x_dims, 2, &nodes[0]));
  OK(mst_graph_input(graph, MST_F32, w_dims, 2, &nodes[1]));
  OK(mst_graph_input(graph, MST_F32, b_dims, 1, &nodes[2]));
  OK(mst_graph_matmul(graph, nodes[0], nodes[1], MST_MATMUL_TRANSPOSE_B, &nodes[3]));
  OK(mst_graph_add(graph, nodes[3], nodes[2], &nodes[4]));
  OK(mst_graph_relu(graph, nodes[4], &nodes[5]));
  OK(mst_graph_output(graph, nodes[5]));
  OK(mst_graph_compile(graph, &executable));
  OK(mst_graph_destroy(graph));
  return executable;
}

static void check_layer(const stress *stress, const float *x, const float *y) {
  for (int row = 0; row < ROWS; row++) {
    for (int out = 0; out < OUT; out++) {
      double sum = stress->bias_values[out];
      for (int in = 0; in < IN; in++) {
        sum += (double)x[row * IN + in] * stress->weight_values[out * IN + in];
      }
      CHECK(fabs((sum > 0 ? sum : 0) - y[row * OUT + out]) < 1e-4);
    }
  }
}

typedef struct layer_call {
  mst_buffer *x;
  mst_buffer *y;
  float *x_values;
  float *y_values;
  uint64_t value; /* 0: none */
} layer_call;

static void encode_layer(worker *worker, mst_queue *queue, uint64_t value, mst_executable *layer, layer_call *call) {
  stress *stress = worker->stress;
  call->x = create_floats(stress->device, ROWS * IN, &call->x_values);
  call->y = create_floats(stress->device, ROWS * OUT, &call->y_values);
  call->value = value;
  for (int i = 0; i < ROWS * IN; i++) {
    call->x_values[i] = (float)draw(worker, 2000) / 1000.0f - 1.0f;
  }
  mst_buffer *buffers[4] = {call->x, stress->weights, stress->bias, call->y};
  OK(mst_encode_executable(queue, value, layer, buffers, 4, MST_ENCODE_DEFAULT));
}

static void finish_layer(worker *worker, mst_queue *queue, layer_call *call) {
  /* Destroying is refused as long as the device may write the buffer. */
  int32_t status = mst_buffer_destroy(call->y);
  wait_for(worker, queue, call->value);
  if (status != MST_OK) {
    CHECK_EQUAL(MST_ERROR_INVALID_STATE, status);
    check_layer(worker->stress, call->x_values, call->y_values);
    OK(mst_buffer_destroy(call->y));
  }
  OK(mst_buffer_destroy(call->x));
  call->value = 0;
}

static void work_layers(worker *worker) {
  enum { IN_FLIGHT = 4 };
  layer_call calls[IN_FLIGHT] = {{0}};
  uint64_t id = 0;
  mst_queue *queue = make_queue(worker->stress, 1 + (uint32_t)draw(worker, IN_FLIGHT), &id);
  for (int i = 0; i < worker->stress->iterations; i++) {
    layer_call *call = &calls[i % IN_FLIGHT];
    if (call->value != 0) {
      finish_layer(worker, queue, call);
    }
    uint64_t value = (uint64_t)i + 1;
    begin(queue, value);
    encode_layer(worker, queue, value, worker->stress->layer, call);
    commit(worker, queue, value);
    if (draw(worker, 2) == 0) {
      wait_for(worker, queue, value);
      check_layer(worker->stress, call->x_values, call->y_values);
    }
  }
  for (int i = 0; i < IN_FLIGHT; i++) {
    if (calls[i].value != 0) {
      finish_layer(worker, queue, &calls[i]);
    }
  }
  OK(mst_queue_destroy(queue));
}

/* ---------------------------------------------------------------------------------------------------- handover ---- */

static void work_handover(worker *worker) {
  stress *stress = worker->stress;
  shared_queue *own = &stress->queues[worker->index];
  mst_buffer *buffers[3] = {stress->token, stress->one, stress->token_copy};
  for (int i = 0; i < stress->iterations; i++) {
    uint64_t value = (uint64_t)i + 1;
    begin(own->queue, value);
    pthread_mutex_lock(&stress->token_lock);
    if (stress->token_queue != NULL) {
      OK(mst_encode_wait(own->queue, value, stress->token_queue, stress->token_value));
    }
    OK(mst_encode_executable(own->queue, value, stress->increment, buffers, 3, MST_ENCODE_DEFAULT));
    OK(mst_encode_copy(own->queue, value, stress->token_copy, 0, stress->token, 0, sizeof(float)));
    commit(worker, own->queue, value);
    stress->token_queue = own->queue;
    stress->token_value = value;
    pthread_mutex_unlock(&stress->token_lock);
    if (draw(worker, 8) == 0) {
      wait_for(worker, own->queue, value);
    }
  }
  wait_for(worker, own->queue, (uint64_t)stress->iterations);
}

/* ------------------------------------------------------------------------------------------------------ events ---- */

static void work_events(worker *worker) {
  stress *stress = worker->stress;
  uint64_t shared = (uint64_t)stress->threads / 2 + 1;
  uint8_t *bytes[2];
  mst_buffer *buffers[2];
  for (int i = 0; i < 2; i++) {
    OK(mst_buffer_create(stress->device, BYTES, MST_STORAGE_SHARED, &buffers[i], (void **)&bytes[i]));
    memset(bytes[i], 0, BYTES);
  }
  const shared_queue *previous = NULL;
  uint64_t previous_value = 0;
  for (int i = 0; i < stress->iterations; i++) {
    shared_queue *to = &stress->queues[draw(worker, shared)];
    pthread_mutex_lock(&to->lock);
    uint64_t value = atomic_load(&to->committed) + 1;
    begin(to->queue, value);
    if (draw(worker, 8) == 0) {
      OK(mst_encode_fill(to->queue, value, buffers[0], 0, BYTES, 0xee));
      OK(mst_commands_discard(to->queue, value));
      begin(to->queue, value);
    }
    if (previous != NULL) {
      OK(mst_encode_wait(to->queue, value, previous->queue, previous_value));
    }
    for (uint64_t waits = draw(worker, 3); waits > 0; waits--) {
      shared_queue *other = &stress->queues[draw(worker, shared)];
      OK(mst_encode_wait(to->queue, value, other->queue, atomic_load(&other->committed)));
    }
    OK(mst_encode_copy(to->queue, value, buffers[0], 0, buffers[1], 0, BYTES));
    OK(mst_encode_fill(to->queue, value, buffers[0], 0, BYTES, (uint8_t)(i + 1)));
    commit(worker, to->queue, value);
    atomic_store(&to->committed, value);
    pthread_mutex_unlock(&to->lock);
    previous = to;
    previous_value = value;
    if (draw(worker, 3) == 0) {
      wait_for(worker, to->queue, value);
      for (int at = 0; at < BYTES; at++) {
        CHECK_EQUAL((uint8_t)(i + 1), bytes[0][at]);
        CHECK_EQUAL((uint8_t)i, bytes[1][at]);
      }
      drain(stress);
      pthread_mutex_lock(&stress->drain_lock);
      CHECK(stress->last_values[to->id] >= value);
      pthread_mutex_unlock(&stress->drain_lock);
    }
  }
  if (previous != NULL) {
    wait_for(worker, previous->queue, previous_value);
  }
  OK(mst_buffer_destroy(buffers[0]));
  OK(mst_buffer_destroy(buffers[1]));
}

/* ------------------------------------------------------------------------------------------------------- churn ---- */

static void work_churn(worker *worker) {
  stress *stress = worker->stress;
  for (int i = 0; i < stress->iterations; i++) {
    uint64_t ids[2];
    mst_queue *first = make_queue(stress, 2, &ids[0]);
    mst_queue *second = make_queue(stress, 2, &ids[1]);
    mst_executable *layer = compile_layer(stress->device);
    layer_call calls[2];
    OK(mst_commands_begin(first, 1));
    encode_layer(worker, first, 1, layer, &calls[0]);
    commit(worker, first, 1);
    OK(mst_commands_begin(second, 1));
    OK(mst_encode_wait(second, 1, first, 1));
    encode_layer(worker, second, 1, layer, &calls[1]);
    commit(worker, second, 1);
    OK(mst_commands_begin(second, 2));
    OK(mst_encode_wait(second, 2, first, 1));
    OK(mst_executable_destroy(layer)); /* while it is in use */
    OK(mst_queue_destroy(second));     /* with one open */
    CHECK_EQUAL(1, mst_queue_completed_value(first));
    OK(mst_queue_destroy(first));
    for (int j = 0; j < 2; j++) {
      check_layer(stress, calls[j].x_values, calls[j].y_values);
      OK(mst_buffer_destroy(calls[j].x));
      OK(mst_buffer_destroy(calls[j].y));
    }
  }
}

/* ---------------------------------------------------------------------------------------------------- failures ---- */

static void work_failures(worker *worker) {
  stress *stress = worker->stress;
  shared_queue *own = &stress->queues[worker->index];
  uint8_t *bytes = NULL;
  mst_buffer *buffer = NULL;
  OK(mst_buffer_create(stress->device, BYTES, MST_STORAGE_SHARED, &buffer, (void **)&bytes));
  uint64_t value = 0;
  for (int i = 0; i < stress->iterations; i++) {
    if (draw(worker, 4) == 0) {
      OK(mst_test_fail("execute", 1 + (uint32_t)draw(worker, 8), MST_ERROR_EXECUTION));
    }
    value++;
    begin(own->queue, value);
    if (draw(worker, 2) == 0) {
      shared_queue *other = &stress->queues[draw(worker, (uint64_t)stress->threads)];
      OK(mst_encode_wait(own->queue, value, other->queue, atomic_load(&other->committed)));
    }
    OK(mst_encode_fill(own->queue, value, buffer, 0, BYTES, (uint8_t)value));
    commit(worker, own->queue, value);
    atomic_store(&own->committed, value);
    if (draw(worker, 2) == 0) {
      wait_for(worker, own->queue, value);
      uint64_t failed = mst_queue_failed_value(own->queue);
      CHECK(failed <= value);
      if (failed == 0) {
        for (int at = 0; at < BYTES; at++) {
          CHECK_EQUAL((uint8_t)value, bytes[at]);
        }
      } else {
        OK(mst_queue_reset(own->queue));
        CHECK_EQUAL(0, mst_queue_failed_value(own->queue));
      }
    }
  }
  wait_for(worker, own->queue, value);
  OK(mst_buffer_destroy(buffer));
}

/* -------------------------------------------------------------------------------------------------------- runs ---- */

static const struct workload {
  const char *name;
  void (*work)(worker *worker);
  bool threads_drain;
} workloads[] = {{"layers", work_layers, false},
                 {"handover", work_handover, false},
                 {"events", work_events, true},
                 {"churn", work_churn, false},
                 {"failures", work_failures, false}};
enum { WORKLOADS = sizeof(workloads) / sizeof(workloads[0]) };

static void *work(void *argument) {
  worker *worker = argument;
  pthread_mutex_lock(&worker->stress->start);
  pthread_mutex_unlock(&worker->stress->start);
  worker->work(worker);
  return NULL;
}

static mst_executable *compile_increment(mst_device *device) {
  mst_graph *graph = NULL;
  int32_t nodes[3];
  mst_executable *executable = NULL;
  OK(mst_graph_create(device, &graph));
  OK(mst_graph_input(graph, MST_F32, NULL, 0, &nodes[0]));
  OK(mst_graph_input(graph, MST_F32, NULL, 0, &nodes[1]));
  OK(mst_graph_add(graph, nodes[0], nodes[1], &nodes[2]));
  OK(mst_graph_output(graph, nodes[2]));
  OK(mst_graph_compile(graph, &executable));
  OK(mst_graph_destroy(graph));
  return executable;
}

static void run(const struct workload *workload, const mst_device_options *options, int threads, int iterations,
                uint64_t seed) {
  stress *stress = calloc(1, sizeof(*stress));
  worker *workers = calloc((size_t)threads, sizeof(*workers));
  CHECK(stress != NULL && workers != NULL);
  stress->last_values = calloc(MOST_QUEUES, sizeof(uint64_t));
  CHECK(stress->last_values != NULL);
  stress->threads = threads;
  stress->iterations = iterations;
  pthread_mutex_init(&stress->token_lock, NULL);
  pthread_mutex_init(&stress->drain_lock, NULL);
  pthread_mutex_init(&stress->start, NULL);
  pthread_mutex_lock(&stress->start);
  OK(mst_device_open(0, options, &stress->device));
  OK(mst_test_seed(stress->device, seed % 2 == 0 ? 0 : seed));
  OK(mst_test_latency(stress->device, seed % 3 == 0 ? 20000 : 0));
  for (int i = 0; i < threads; i++) {
    pthread_mutex_init(&stress->queues[i].lock, NULL);
    stress->queues[i].queue = make_queue(stress, 8, &stress->queues[i].id);
  }
  stress->layer = compile_layer(stress->device);
  stress->increment = compile_increment(stress->device);
  stress->weights = create_floats(stress->device, OUT * IN, &stress->weight_values);
  stress->bias = create_floats(stress->device, OUT, &stress->bias_values);
  for (int i = 0; i < OUT * IN; i++) {
    stress->weight_values[i] = (float)(i % 17) / 17.0f - 0.5f;
  }
  for (int i = 0; i < OUT; i++) {
    stress->bias_values[i] = (float)i / 10.0f - 1.0f;
  }
  float *token = NULL;
  float *token_copy = NULL;
  float *one = NULL;
  stress->token = create_floats(stress->device, 1, &token);
  stress->token_copy = create_floats(stress->device, 1, &token_copy);
  stress->one = create_floats(stress->device, 1, &one);
  *token = 0.0f;
  *one = 1.0f;

  pthread_t drainer;
  if (!workload->threads_drain) {
    CHECK_EQUAL(0, pthread_create(&drainer, NULL, drain_always, stress));
  }
  for (int i = 0; i < threads; i++) {
    workers[i] = (worker){.stress = stress,
                          .index = i,
                          .random = (seed + 1) * 0x9e3779b97f4a7c15u + (uint64_t)i * 0xc2b2ae3d27d4eb4fu + 1,
                          .work = workload->work};
    CHECK_EQUAL(0, pthread_create(&workers[i].thread, NULL, work, &workers[i]));
  }
  pthread_mutex_unlock(&stress->start);
  for (int i = 0; i < threads; i++) {
    pthread_join(workers[i].thread, NULL);
  }
  OK(mst_test_fail("execute", 0, MST_OK));
  for (int i = 0; i < threads; i++) {
    OK(mst_queue_destroy(stress->queues[i].queue));
  }
  if (!workload->threads_drain) {
    atomic_store(&stress->ended, true);
    OK(mst_device_wake(stress->device));
    pthread_join(drainer, NULL);
  }
  drain(stress);
  CHECK_EQUAL(atomic_load(&stress->committed), stress->drained);
  if (workload->work == work_handover) {
    CHECK_EQUAL(threads * iterations, (long long)*token);
  }
  if (workload->work == work_failures) {
    CHECK(stress->failed > 0);
  }
  printf("%-9s %d threads x %d: %llu command buffers, %llu failed by order, %llu dependents\n", workload->name, threads,
         iterations, (unsigned long long)stress->drained, (unsigned long long)stress->failed,
         (unsigned long long)stress->failed_dependents);

  OK(mst_executable_destroy(stress->layer));
  OK(mst_executable_destroy(stress->increment));
  OK(mst_buffer_destroy(stress->weights));
  OK(mst_buffer_destroy(stress->bias));
  OK(mst_buffer_destroy(stress->token));
  OK(mst_buffer_destroy(stress->token_copy));
  OK(mst_buffer_destroy(stress->one));
  OK(mst_device_close(stress->device));
  check_nothing_lives();
  free(stress->last_values);
  free(workers);
  free(stress);
}

int main(int argc, char **argv) {
  int threads = 8;
  int iterations = 50;
  uint64_t seed = 1;
  const char *name = NULL;
  mst_device_options options = {0, 0, "builtin"};
  const struct option known[] = {{"threads", required_argument, NULL, 't'},
                                 {"iterations", required_argument, NULL, 'i'},
                                 {"workers", required_argument, NULL, 'w'},
                                 {"workload", required_argument, NULL, 'l'},
                                 {"math", required_argument, NULL, 'm'},
                                 {"seed", required_argument, NULL, 's'},
                                 {NULL, 0, NULL, 0}};
  for (int option = 0; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (option) {
      case 't':
        threads = atoi(optarg);
        break;
      case 'i':
        iterations = atoi(optarg);
        break;
      case 'w':
        options.worker_count = (uint32_t)atoi(optarg);
        break;
      case 'l':
        name = optarg;
        break;
      case 'm':
        options.math_library = optarg;
        break;
      case 's':
        seed = strtoull(optarg, NULL, 10);
        break;
      default:
        return 2;
    }
  }
  if (optind != argc || threads < 1 || threads > MOST_THREADS || iterations < 1) {
    fprintf(stderr, "mst_stress: --threads is 1 to %d, --iterations at least 1, and nothing follows the options\n",
            MOST_THREADS);
    return 2;
  }
  bool found = false;
  for (int i = 0; i < WORKLOADS; i++) {
    if (name == NULL || strcmp(name, workloads[i].name) == 0) {
      run(&workloads[i], &options, threads, iterations, seed);
      found = true;
    }
  }
  if (!found) {
    fprintf(stderr, "mst_stress: there is no workload \"%s\"\n", name);
    return 2;
  }
  return 0;
}
