/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Micro-benchmarks of the ABI from C, to compare other languages' use of the same library with. Prints one JSON object.
 *
 *     mst_bench matmul [--threads N] [--size N] [--seconds S] [--math PATH]
 *     mst_bench encode [--seconds S] [--math PATH]
 *
 * matmul: each thread has a queue of its own and multiplies two square matrices again and again: begin, encode, commit
 * with MST_COMMIT_WAITING, wait. encode: one thread encodes 40 calls of an executable that does next to nothing (a sum
 * of two numbers) into each of 15 command buffers, again and again. The queue is held meanwhile, so that neither the sums
 * nor waking those who compute them is counted; the median is printed. A thread drains completions, as a user of the
 * library must. */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "check.h"

enum { MOST_THREADS = 256, BATCH = 40, ROW = 15, MOST_ROWS = 1 << 20 };

typedef struct bench {
  mst_device *device;
  mst_executable *executable;
  int64_t size;
  atomic_bool go;
  atomic_bool stop;
} bench;

typedef struct bench_thread {
  bench *bench;
  pthread_t thread;
  uint64_t id;
  uint64_t operations;
} bench_thread;

static double seconds_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void sleep_for(double seconds) {
  struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&time, NULL);
}

static void *drain(void *argument) {
  bench *bench = argument;
  mst_completion completions[64];
  int32_t count = 0;
  do {
    OK(mst_device_next_completions(bench->device, completions, 64, -1, &count));
    for (int32_t i = 0; i < count; i++) {
      OK(completions[i].status);
    }
  } while (count > 0 || !atomic_load(&bench->stop));
  return NULL;
}

/* Two square inputs and their product, or sum if the size is 1. */
static mst_executable *compile(mst_device *device, int64_t size) {
  mst_graph *graph = NULL;
  int32_t nodes[3];
  const int64_t dims[2] = {size, size};
  mst_executable *executable = NULL;
  OK(mst_graph_create(device, &graph));
  OK(mst_graph_input(graph, MST_F32, dims, 2, &nodes[0]));
  OK(mst_graph_input(graph, MST_F32, dims, 2, &nodes[1]));
  if (size > 1) {
    OK(mst_graph_matmul(graph, nodes[0], nodes[1], MST_MATMUL_DEFAULT, &nodes[2]));
  } else {
    OK(mst_graph_add(graph, nodes[0], nodes[1], &nodes[2]));
  }
  OK(mst_graph_output(graph, nodes[2]));
  OK(mst_graph_compile(graph, &executable));
  OK(mst_graph_destroy(graph));
  return executable;
}

static void create_buffers(mst_device *device, int64_t size, mst_buffer *buffers[3]) {
  for (int i = 0; i < 3; i++) {
    float *values = NULL;
    buffers[i] = create_floats(device, size * size, &values);
    for (int64_t j = 0; j < size * size; j++) {
      values[j] = (float)(j % 7) / 7.0f;
    }
  }
}

static void *multiply(void *argument) {
  bench_thread *thread = argument;
  bench *bench = thread->bench;
  mst_queue *queue = create_queue(bench->device, thread->id);
  mst_buffer *buffers[3];
  create_buffers(bench->device, bench->size, buffers);
  uint64_t value = 0;
  uint64_t first = 0;
  while (!atomic_load_explicit(&bench->stop, memory_order_relaxed)) {
    if (first == 0 && atomic_load_explicit(&bench->go, memory_order_relaxed)) {
      first = value + 1;
    }
    value++;
    OK(mst_commands_begin(queue, value));
    OK(mst_encode_executable(queue, value, bench->executable, buffers, 3, MST_ENCODE_DEFAULT));
    OK(mst_commands_commit(queue, value, MST_COMMIT_WAITING));
    OK(mst_queue_wait(queue, value, -1));
  }
  thread->operations = first == 0 ? 0 : value - first + 1;
  CHECK_EQUAL(0, mst_queue_failed_value(queue));
  OK(mst_queue_destroy(queue));
  for (int i = 0; i < 3; i++) {
    OK(mst_buffer_destroy(buffers[i]));
  }
  return NULL;
}

static void bench_matmul(bench *bench, int threads, double seconds) {
  bench_thread all[MOST_THREADS];
  for (int i = 0; i < threads; i++) {
    all[i] = (bench_thread){.bench = bench, .id = (uint64_t)i};
    CHECK_EQUAL(0, pthread_create(&all[i].thread, NULL, multiply, &all[i]));
  }
  sleep_for(seconds / 4); /* warm up */
  double start = seconds_now();
  atomic_store(&bench->go, true);
  sleep_for(seconds);
  atomic_store(&bench->stop, true);
  double elapsed = seconds_now() - start;
  double operations = 0;
  for (int i = 0; i < threads; i++) {
    pthread_join(all[i].thread, NULL);
    operations += (double)all[i].operations;
  }
  printf("\"threads\": %d, \"size\": %lld, \"seconds\": %.3f, \"ops_per_second\": %.0f, \"gflops\": %.2f", threads,
         (long long)bench->size, elapsed, operations / elapsed,
         2.0 * (double)(bench->size * bench->size * bench->size) * operations / elapsed / 1e9);
}

static int compare(const void *a, const void *b) {
  double left = *(const double *)a;
  double right = *(const double *)b;
  return (left > right) - (left < right);
}

static void bench_encode(bench *bench, double seconds) {
  mst_queue *queue = create_queue(bench->device, 0);
  mst_buffer *buffers[3];
  create_buffers(bench->device, 1, buffers);
  static double rows[MOST_ROWS];
  int count = 0;
  uint64_t value = 0;
  for (double end = seconds_now() + seconds; count < MOST_ROWS && seconds_now() < end; count++) {
    OK(mst_test_hold(queue));
    double start = seconds_now();
    for (int i = 0; i < ROW; i++) {
      value++;
      OK(mst_commands_begin(queue, value));
      for (int j = 0; j < BATCH; j++) {
        OK(mst_encode_executable(queue, value, bench->executable, buffers, 3, MST_ENCODE_DEFAULT));
      }
      OK(mst_commands_commit(queue, value, MST_COMMIT_DEFAULT));
    }
    rows[count] = seconds_now() - start;
    OK(mst_test_release(queue));
    OK(mst_queue_wait(queue, value, -1));
  }
  OK(mst_queue_destroy(queue));
  for (int i = 0; i < 3; i++) {
    OK(mst_buffer_destroy(buffers[i]));
  }
  qsort(rows, (size_t)count, sizeof(double), compare);
  printf("\"rows\": %d, \"encodes\": %d, \"batch\": %d, \"ns_per_encode\": %.1f", count, ROW * BATCH, BATCH,
         rows[count / 2] * 1e9 / (ROW * BATCH));
}

int main(int argc, char **argv) {
  int threads = 1;
  double seconds = 1;
  bench bench = {.size = 64};
  mst_device_options options = {0, 0, NULL};
  const struct option known[] = {{"threads", required_argument, NULL, 't'},
                                 {"size", required_argument, NULL, 'n'},
                                 {"seconds", required_argument, NULL, 's'},
                                 {"math", required_argument, NULL, 'm'},
                                 {NULL, 0, NULL, 0}};
  for (int option = 0; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    switch (option) {
      case 't':
        threads = atoi(optarg);
        break;
      case 'n':
        bench.size = atoll(optarg);
        break;
      case 's':
        seconds = atof(optarg);
        break;
      case 'm':
        options.math_library = optarg;
        break;
      default:
        return 2;
    }
  }
  const char *name = optind + 1 == argc ? argv[optind] : "";
  bool matmul = strcmp(name, "matmul") == 0;
  if ((!matmul && strcmp(name, "encode") != 0) || threads < 1 || threads > MOST_THREADS || bench.size < 2 ||
      bench.size > 8192 || !(seconds > 0)) {
    fprintf(stderr,
            "usage: mst_bench matmul|encode [--threads 1..%d] [--size 2..8192] [--seconds S] [--math PATH|builtin]\n",
            MOST_THREADS);
    return 2;
  }
  OK(mst_device_open(0, &options, &bench.device));
  bench.executable = compile(bench.device, matmul ? bench.size : 1);
  mst_device_facts facts;
  OK(mst_device_info(bench.device, &facts));
  pthread_t drainer;
  CHECK_EQUAL(0, pthread_create(&drainer, NULL, drain, &bench));
  printf("{\"bench\": \"%s\", \"math\": \"%s\", ", name, facts.math);
  if (matmul) {
    bench_matmul(&bench, threads, seconds);
  } else {
    bench_encode(&bench, seconds);
  }
  printf("}\n");
  atomic_store(&bench.stop, true);
  OK(mst_device_wake(bench.device));
  pthread_join(drainer, NULL);
  OK(mst_executable_destroy(bench.executable));
  OK(mst_device_close(bench.device));
  check_nothing_lives();
  return 0;
}
