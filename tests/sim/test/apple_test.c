/*
 * Simulated Metal: what Apple's stack was seen to do, and what the Metal shim makes of it. Each case runs in a child,
 * with the switches of the simulation in its environment: with the shim's defaults it has to survive, and with the
 * matching workaround off it has to fail, or the case would show nothing.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 *     apple-test          runs all cases and prints the table of docs/simulation.md
 *     apple-test CASE     runs one case in this process
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "mst_sim.h"

enum { THREADS = 8, ITERATIONS = 50, ROWS = 4, IN = 24, OUT = 20 };

static mst_device *open_with(uint32_t flags) {
  mst_device_options options = {0, flags, NULL};
  mst_device *device = NULL;
  OK(mst_device_open(0, &options, &device));
  return device;
}

static atomic_bool drained; /* the draining thread is told to end; a wake may come with completions */

static void *drain(void *argument) {
  mst_completion completions[64];
  int32_t count;
  while (!drained)
    OK(mst_device_next_completions(argument, completions, 64, -1, &count));
  return NULL;
}

/* ------------------------------------------------------------------------------------------------- the crew ------- */

/* x [ROWS, IN] times w [OUT, IN] transposed. */
static mst_executable *compile_product(mst_device *device) {
  const int64_t x_dims[] = {ROWS, IN}, w_dims[] = {OUT, IN};
  mst_graph *graph = NULL;
  mst_executable *executable = NULL;
  int32_t x, w, y;
  OK(mst_graph_create(device, &graph));
  OK(mst_graph_input(graph, MST_F32, x_dims, 2, &x));
  OK(mst_graph_input(graph, MST_F32, w_dims, 2, &w));
  OK(mst_graph_matmul(graph, x, w, MST_MATMUL_TRANSPOSE_B, &y));
  OK(mst_graph_output(graph, y));
  OK(mst_graph_compile(graph, &executable));
  OK(mst_graph_destroy(graph));
  return executable;
}

struct crew {
  mst_device *device;
  mst_executable *product;
  uint32_t encode_flags;
  pthread_barrier_t start;
};

struct member {
  struct crew *crew;
  int index;
  pthread_t thread;
};

struct memory {
  mst_buffer *x, *w, *p, *gamma, *beta, *y;
  float *x_values, *w_values, *p_values, *gamma_values, *beta_values, *y_values;
};

static void expect(float seen, double expected) {
  if (!(fabs(seen - expected) < 1e-4)) {
    fprintf(stderr, "mismatch: %g, not %g\n", (double)seen, expected);
    exit(1);
  }
}

static void check_results(const struct memory *m) {
  for (int i = 0; i < ROWS; i++) {
    double row[OUT], mean = 0, variance = 0;
    for (int j = 0; j < OUT; j++) {
      row[j] = 0;
      for (int k = 0; k < IN; k++)
        row[j] += (double)m->x_values[i * IN + k] * (double)m->w_values[j * IN + k];
      mean += row[j] / OUT;
      expect(m->p_values[i * OUT + j], row[j]);
    }
    for (int j = 0; j < OUT; j++)
      variance += (row[j] - mean) * (row[j] - mean) / OUT;
    for (int j = 0; j < OUT; j++)
      expect(m->y_values[i * OUT + j], (row[j] - mean) / sqrt(variance + 1e-3) * 2 + 1);
  }
}

/* A product and, of its rows, a layer norm: once by each of the shim's two kinds of encoding. */
static void *work(void *argument) {
  struct member *self = argument;
  struct crew *crew = self->crew;
  mst_queue *queue = create_queue(crew->device, (uint64_t)self->index + 1);
  struct memory m;
  m.x = create_floats(crew->device, ROWS * IN, &m.x_values);
  m.w = create_floats(crew->device, OUT * IN, &m.w_values);
  m.p = create_floats(crew->device, ROWS * OUT, &m.p_values);
  m.gamma = create_floats(crew->device, OUT, &m.gamma_values);
  m.beta = create_floats(crew->device, OUT, &m.beta_values);
  m.y = create_floats(crew->device, ROWS * OUT, &m.y_values);
  for (int j = 0; j < OUT; j++) {
    m.gamma_values[j] = 2;
    m.beta_values[j] = 1;
  }
  pthread_barrier_wait(&crew->start);
  for (uint64_t value = 1; value <= ITERATIONS; value++) {
    for (int i = 0; i < ROWS * IN; i++)
      m.x_values[i] = (float)((i * 7 + self->index + (int)value) % 13) / 13;
    for (int i = 0; i < OUT * IN; i++)
      m.w_values[i] = (float)((i * 5 + self->index * 3 + (int)value) % 11) / 11;
    mst_buffer *buffers[] = {m.x, m.w, m.p};
    OK(mst_commands_begin(queue, value));
    OK(mst_encode_executable(queue, value, crew->product, buffers, 3, crew->encode_flags));
    OK(mst_encode_layer_norm(queue, value, m.p, m.gamma, m.beta, m.y, ROWS, OUT, 1e-3f));
    OK(mst_commands_commit(queue, value, MST_COMMIT_DEFAULT));
    OK(mst_queue_wait(queue, value, -1));
    CHECK_EQUAL(0, mst_queue_failed_value(queue));
    check_results(&m);
  }
  mst_buffer *all[] = {m.x, m.w, m.p, m.gamma, m.beta, m.y};
  for (int i = 0; i < 6; i++)
    OK(mst_buffer_destroy(all[i]));
  OK(mst_queue_destroy(queue));
  return NULL;
}

static void run_crew(uint32_t device_flags, uint32_t encode_flags) {
  struct crew crew = {.device = open_with(device_flags), .encode_flags = encode_flags};
  struct member members[THREADS];
  pthread_t drainer;
  crew.product = compile_product(crew.device);
  pthread_barrier_init(&crew.start, NULL, THREADS);
  pthread_create(&drainer, NULL, drain, crew.device);
  for (int i = 0; i < THREADS; i++) {
    members[i] = (struct member){.crew = &crew, .index = i};
    pthread_create(&members[i].thread, NULL, work, &members[i]);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(members[i].thread, NULL);
  OK(mst_executable_destroy(crew.product));
  drained = true;
  OK(mst_device_wake(crew.device));
  pthread_join(drainer, NULL);
  mst_device_counter_facts counters;
  OK(mst_device_counters(crew.device, &counters));
  CHECK_EQUAL(THREADS * ITERATIONS, counters.matmuls_by_graph + counters.matmuls_by_ndarray);
  CHECK_EQUAL(mst_sim_counter("mid_encode_commits"), counters.early_commits);
  CHECK_EQUAL(0, counters.agx_live_encoders);
  CHECK_EQUAL(0, counters.agx_forced_ends);
  CHECK((device_flags & MST_DEVICE_AGX_GUARD) == 0 || counters.agx_acquisitions >= THREADS * ITERATIONS);
  OK(mst_device_close(crew.device));
  pthread_barrier_destroy(&crew.start);
}

static void defaults(void) {
  run_crew(MST_DEVICE_DEFAULT, MST_ENCODE_DEFAULT);
}

static void sole_for_all(void) {
  run_crew(MST_DEVICE_DEFAULT, MST_ENCODE_SOLE);
}

static void graph_forced(void) {
  run_crew(MST_DEVICE_FORCE_GRAPH, MST_ENCODE_SOLE);
}

static void parallel_compute(void) {
  run_crew(MST_DEVICE_PARALLEL_COMPUTE, MST_ENCODE_DEFAULT);
}

static void guarded(void) {
  run_crew(MST_DEVICE_AGX_GUARD, MST_ENCODE_DEFAULT);
}

static void parallel_guarded(void) {
  run_crew(MST_DEVICE_PARALLEL_COMPUTE | MST_DEVICE_AGX_GUARD, MST_ENCODE_DEFAULT);
}

/* ------------------------------------------------------------------------------------------------- failures ------- */

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Stream 1 fails; stream 2 waits for it; 30 others have nothing to do with it. */
static void failure(void) {
  mst_device *device = open_with(MST_DEVICE_DEFAULT);
  mst_executable *product = compile_product(device);
  mst_queue *queues[32];
  mst_buffer *buffers[32][3];
  float *values;
  for (int i = 0; i < 32; i++) {
    char label[16];
    snprintf(label, sizeof label, "stream %d.", i);
    OK(mst_queue_create(device, (uint64_t)i, label, 16, &queues[i]));
    buffers[i][0] = create_floats(device, ROWS * IN, &values);
    buffers[i][1] = create_floats(device, OUT * IN, &values);
    buffers[i][2] = create_floats(device, ROWS * OUT, &values);
  }
  OK(mst_sim_fail_command_buffer("stream 1.", 1, 3));
  double start = seconds();
  for (int i = 0; i < 32; i++) {
    OK(mst_commands_begin(queues[i], 1));
    if (i == 2)
      OK(mst_encode_wait(queues[2], 1, queues[1], 1));
    OK(mst_encode_executable(queues[i], 1, product, buffers[i], 3, MST_ENCODE_DEFAULT));
    OK(mst_commands_commit(queues[i], 1, MST_COMMIT_DEFAULT));
  }
  for (int i = 0; i < 32; i++)
    OK(mst_queue_wait(queues[i], 1, 1000000000));
  CHECK(seconds() - start < 1);
  for (int n = 0; n < 32; n++) {
    mst_completion completion = next_completion(device);
    int32_t expected = completion.queue_id == 1   ? MST_ERROR_EXECUTION
                       : completion.queue_id == 2 ? MST_ERROR_DEPENDENCY
                                                  : MST_OK;
    CHECK_EQUAL(expected, completion.status);
    CHECK_EQUAL(completion.queue_id == 2 ? 1 : 0, completion.cause_queue_id);
    CHECK((completion.message[0] != '\0') == (completion.status != MST_OK));
  }
  for (int i = 0; i < 32; i++) {
    CHECK_EQUAL(i == 1 || i == 2 ? 1 : 0, mst_queue_failed_value(queues[i]));
    for (int b = 0; b < 3; b++)
      OK(mst_buffer_destroy(buffers[i][b]));
    OK(mst_queue_destroy(queues[i]));
  }
  OK(mst_executable_destroy(product));
  OK(mst_device_close(device));
}

/* ------------------------------------------------------------------------------------------------- devices -------- */

static void no_device(const char *reason) {
  mst_device *device = NULL;
  CHECK_EQUAL(0, mst_device_count());
  CHECK_EQUAL(MST_ERROR_NO_DEVICE, mst_device_open(0, NULL, &device));
  CHECK(strstr(mst_last_error(), reason) != NULL);
}

static void absent(void) {
  no_device("Metal shows no GPU");
}

static void unusable(void) {
  no_device("Apple Paravirtual device");
}

static void little_memory(void) {
  mst_device *device = open_with(MST_DEVICE_DEFAULT);
  mst_buffer *fits = NULL, *refused = NULL;
  OK(mst_buffer_create(device, 1 << 20, MST_STORAGE_SHARED, &fits, NULL));
  CHECK_EQUAL(MST_ERROR_OUT_OF_MEMORY, mst_buffer_create(device, 1 << 20, MST_STORAGE_SHARED, &refused, NULL));
  OK(mst_buffer_destroy(fits));
  OK(mst_buffer_create(device, 1 << 20, MST_STORAGE_SHARED, &fits, NULL));
  OK(mst_buffer_destroy(fits));
  OK(mst_device_close(device));
}

/* ------------------------------------------------------------------------------------------------- cases ---------- */

static const struct test_case {
  const char *name;
  const char *switches; /* separated by spaces */
  const char *setting;  /* of the shim, for people */
  void (*body)(void);
  const char *last_words; /* NULL: it survives */
} cases[] = {
    {"plain", "", "default", defaults, NULL},
    {"macos-14", "MACOS=14.0", "default", defaults, NULL},
    {"ndarray", "NDARRAY_LIMIT=2", "default", defaults, NULL},
    {"ndarray-forced", "NDARRAY_LIMIT=2", "sole vouched for, graph forced", graph_forced, NULL},
    {"ndarray-off", "NDARRAY_LIMIT=2", "sole vouched for by all", sole_for_all,
     "more than 2 threads encode an MPSNDArrayMatrixMultiplication"},
    {"ndarray-wrong", "NDARRAY_LIMIT=2 RACE_OUTCOME=garbage", "sole vouched for by all", sole_for_all, "mismatch"},
    {"compute", "COMPUTE_LIMIT=3", "default", defaults, NULL},
    {"compute-off", "COMPUTE_LIMIT=3", "parallel compute", parallel_compute,
     "more than 3 threads encode compute kernels"},
    {"impl-race", "DESTROY_IMPL_RACE=1", "default", defaults, NULL},
    {"impl-race-off", "DESTROY_IMPL_RACE=1", "parallel compute", parallel_compute, "the destroyImpl race"},
    {"impl-race-guard", "DESTROY_IMPL_RACE=1", "parallel compute, AGX guard", parallel_guarded, NULL},
    {"impl-race-all", "DESTROY_IMPL_RACE=all", "AGX guard", guarded, NULL},
    {"impl-race-all-off", "DESTROY_IMPL_RACE=all", "default (no guard)", defaults, "the destroyImpl race"},
    {"guard", "", "AGX guard", guarded, NULL},
    {"graph-commits", "GRAPH_COMMITS=1", "default", defaults, NULL},
    {"graph-commits-fail", "GRAPH_COMMITS=1", "default, a first part fails", failure, NULL},
    {"failure", "", "default, a command buffer fails", failure, NULL},
    {"no-device", "DEVICE=none", "default", absent, NULL},
    {"paravirtual", "DEVICE=paravirtual", "default", unusable, NULL},
    {"memory", "MEMORY_LIMIT=1048576", "default", little_memory, NULL},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static int run(const struct test_case *test) {
  char switches[256];
  snprintf(switches, sizeof switches, "%s", test->switches);
  for (char *each = strtok(switches, " "); each != NULL; each = strtok(NULL, " ")) {
    char *value = strchr(each, '=');
    *value++ = '\0';
    CHECK_EQUAL(0, mst_sim_set(each, value));
  }
  test->body();
  mst_sim_quiesce();
  return mst_sim_report_live_objects() == 0 ? 0 : 1;
}

/* Its end in a word, and whether that is the one it should come to. */
static const char *outcome(const struct test_case *test, bool *as_expected) {
  int words[2];
  CHECK_EQUAL(0, pipe(words));
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    dup2(words[1], 2);
    close(words[0]);
    close(words[1]);
    execl("/proc/self/exe", "apple-test", test->name, (char *)NULL);
    _exit(127);
  }
  close(words[1]);
  static char text[65536];
  size_t length = 0;
  for (ssize_t n; length < sizeof text - 1 && (n = read(words[0], text + length, sizeof text - 1 - length)) > 0;)
    length += (size_t)n;
  text[length] = '\0';
  close(words[0]);
  int status = 0;
  CHECK_EQUAL(child, waitpid(child, &status, 0));
  bool survived = status == 0;
  *as_expected = test->last_words == NULL ? survived : !survived && strstr(text, test->last_words) != NULL;
  if (!*as_expected)
    fprintf(stderr, "%s: status %x, said: %s\n", test->name, (unsigned)status, text);
  return survived ? "survives" : WIFSIGNALED(status) ? "crashes" : "fails";
}

int main(int count, char **arguments) {
  int failed = 0;
  if (count == 1)
    printf("| switch | setting of the shim | outcome |\n|---|---|---|\n");
  for (int i = 0; i < CASES; i++) {
    if (count == 2 && strcmp(arguments[1], cases[i].name) == 0)
      return run(&cases[i]);
    if (count == 1) {
      bool as_expected;
      const char *end = outcome(&cases[i], &as_expected);
      printf("| %s | %s | %s%s |\n", cases[i].switches[0] == '\0' ? "none" : cases[i].switches, cases[i].setting, end,
             as_expected ? "" : " (UNEXPECTED)");
      fflush(stdout);
      failed += !as_expected;
    }
  }
  if (count != 1) {
    fprintf(stderr, "no such case: %s\n", arguments[1]);
    return 2;
  }
  return failed == 0 ? 0 : 1;
}
