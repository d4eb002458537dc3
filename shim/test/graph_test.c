/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Graphs and executables against sums in double precision.
 *
 *     graph_test [math library] */
#include <stdbool.h>

#include "check.h"

static const char *math_library = "builtin";
static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static void fill(float *values, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    values[i] = (float)(next_random() % 2001) / 1000.0f - 1.0f;
  }
}

static void check_close(const double *expected, const float *actual, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (!(fabs(expected[i] - actual[i]) <= 1e-4 + 1e-4 * fabs(expected[i]))) {
      fprintf(stderr, "element %lld is %g, not %g\n", (long long)i, actual[i], expected[i]);
      exit(1);
    }
  }
}

static mst_device *open_math_device(void) {
  mst_device_options options = {1, 0, math_library};
  mst_device *device = NULL;
  OK(mst_device_open(0, &options, &device));
  return device;
}

/* Runs the graph once and ends it. The buffers are its inputs and outputs. */
static void run_graph(mst_device *device, mst_graph *graph, mst_buffer **buffers, int32_t count) {
  mst_executable *executable = NULL;
  OK(mst_graph_compile(graph, &executable));
  OK(mst_graph_destroy(graph));
  mst_queue *queue = create_queue(device, 1);
  OK(mst_commands_begin(queue, 1));
  OK(mst_encode_executable(queue, 1, executable, buffers, count, 0));
  OK(mst_executable_destroy(executable)); /* the command buffer keeps it */
  OK(mst_commands_commit(queue, 1, MST_COMMIT_WAITING));
  OK(mst_queue_wait(queue, 1, -1));
  CHECK_EQUAL(0, mst_queue_failed_value(queue));
  OK(mst_queue_destroy(queue));
}

static void destroy_buffers(mst_buffer **buffers, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    OK(mst_buffer_destroy(buffers[i]));
  }
}

/* batch x [m, k] times [k, n]; b has rank 2 if shared. */
static void check_matmul(int64_t batch, int64_t m, int64_t n, int64_t k, int transpose_b, int shared_b) {
  mst_device *device = open_math_device();
  float *a = NULL;
  float *b = NULL;
  float *c = NULL;
  int64_t b_batch = shared_b ? 1 : batch;
  mst_buffer *buffers[3] = {create_floats(device, batch * m * k, &a), create_floats(device, b_batch * k * n, &b),
                            create_floats(device, batch * m * n, &c)};
  fill(a, batch * m * k);
  fill(b, b_batch * k * n);
  memset(c, 0xff, (size_t)(batch * m * n) * sizeof(float)); /* NaN: nothing of it may survive */
  double *expected = calloc((size_t)(batch * m * n), sizeof(double));
  CHECK(expected != NULL);
  for (int64_t i = 0; i < batch; i++) {
    for (int64_t row = 0; row < m; row++) {
      for (int64_t column = 0; column < n; column++) {
        double sum = 0;
        for (int64_t j = 0; j < k; j++) {
          int64_t b_index = transpose_b ? column * k + j : j * n + column;
          sum += (double)a[(i * m + row) * k + j] * (double)b[(shared_b ? 0 : i * k * n) + b_index];
        }
        expected[(i * m + row) * n + column] = sum;
      }
    }
  }
  mst_graph *graph = NULL;
  int32_t nodes[3];
  const int64_t a_dims[3] = {batch, m, k};
  const int64_t b_dims[3] = {batch, transpose_b ? n : k, transpose_b ? k : n};
  OK(mst_graph_create(device, &graph));
  OK(mst_graph_input(graph, MST_F32, a_dims, 3, &nodes[0]));
  OK(mst_graph_input(graph, MST_F32, b_dims + shared_b, 3 - shared_b, &nodes[1]));
  OK(mst_graph_matmul(graph, nodes[0], nodes[1], transpose_b ? MST_MATMUL_TRANSPOSE_B : 0, &nodes[2]));
  OK(mst_graph_output(graph, nodes[2]));
  run_graph(device, graph, buffers, 3);
  check_close(expected, c, batch * m * n);
  destroy_buffers(buffers, 3);
  free(expected);
  OK(mst_device_close(device));
}

static void products_of_many_shapes(void) {
  const int64_t sizes[] = {1, 2, 3, 4, 7, 8, 16, 17, 31, 33, 64, 65};
  enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
  for (int i = 0; i < 150; i++) {
    check_matmul(1 + (int64_t)(next_random() % 3), sizes[next_random() % SIZES], sizes[next_random() % SIZES],
                 sizes[next_random() % SIZES], i % 2, i / 2 % 2);
  }
  /* Beyond every block size of the built-in kernel. */
  for (int transpose_b = 0; transpose_b <= 1; transpose_b++) {
    check_matmul(1, 101, 530, 261, transpose_b, 1);
    check_matmul(1, 5, 1050, 600, transpose_b, 1);
    check_matmul(1, 200, 100, 1, transpose_b, 1);
    check_matmul(1, 1, 1, 1000, transpose_b, 1);
  }
}

/* One sum of two tensors. */
static void check_add(const int64_t *a_dims, int32_t a_rank, const int64_t *b_dims, int32_t b_rank) {
  mst_device *device = open_math_device();
  int32_t rank = a_rank > b_rank ? a_rank : b_rank;
  int64_t dims[MST_MAX_RANK];
  int64_t a_count = 1;
  int64_t b_count = 1;
  int64_t count = 1;
  for (int32_t back = 1; back <= rank; back++) {
    int64_t a_dim = back <= a_rank ? a_dims[a_rank - back] : 1;
    int64_t b_dim = back <= b_rank ? b_dims[b_rank - back] : 1;
    dims[rank - back] = a_dim > b_dim ? a_dim : b_dim;
    a_count *= a_dim;
    b_count *= b_dim;
    count *= dims[rank - back];
  }
  float *a = NULL;
  float *b = NULL;
  float *out = NULL;
  mst_buffer *buffers[3] = {create_floats(device, a_count, &a), create_floats(device, b_count, &b),
                            create_floats(device, count, &out)};
  fill(a, a_count);
  fill(b, b_count);
  double *expected = calloc((size_t)count, sizeof(double));
  CHECK(expected != NULL);
  for (int64_t i = 0; i < count; i++) {
    int64_t rest = i;
    int64_t a_index = 0;
    int64_t b_index = 0;
    int64_t a_stride = 1;
    int64_t b_stride = 1;
    for (int32_t back = 1; back <= rank; back++) {
      int64_t at = rest % dims[rank - back];
      rest /= dims[rank - back];
      if (back <= a_rank) {
        a_index += (a_dims[a_rank - back] == 1 ? 0 : at) * a_stride;
        a_stride *= a_dims[a_rank - back];
      }
      if (back <= b_rank) {
        b_index += (b_dims[b_rank - back] == 1 ? 0 : at) * b_stride;
        b_stride *= b_dims[b_rank - back];
      }
    }
    expected[i] = (double)a[a_index] + (double)b[b_index];
  }
  mst_graph *graph = NULL;
  int32_t nodes[3];
  OK(mst_graph_create(device, &graph));
  OK(mst_graph_input(graph, MST_F32, a_dims, a_rank, &nodes[0]));
  OK(mst_graph_input(graph, MST_F32, b_dims, b_rank, &nodes[1]));
  OK(mst_graph_add(graph, nodes[0], nodes[1], &nodes[2]));
  OK(mst_graph_output(graph, nodes[2]));
  run_graph(device, graph, buffers, 3);
  check_close(expected, out, count);
  destroy_buffers(buffers, 3);
  free(expected);
  OK(mst_device_close(device));
}

static void sums_broadcast(void) {
  for (int i = 0; i < 300; i++) {
    int64_t a_dims[MST_MAX_RANK];
    int64_t b_dims[MST_MAX_RANK];
    int32_t rank = (int32_t)(next_random() % 6);
    int32_t a_rank = next_random() % 2 ? rank : (int32_t)(next_random() % ((uint64_t)rank + 1));
    int32_t b_rank = a_rank < rank ? rank : (int32_t)(next_random() % ((uint64_t)rank + 1));
    for (int32_t back = 1; back <= rank; back++) {
      int64_t dim = 1 + (int64_t)(next_random() % 5);
      uint64_t which = next_random() % 4;
      if (back <= a_rank) {
        a_dims[a_rank - back] = which == 0 ? 1 : dim;
      }
      if (back <= b_rank) {
        b_dims[b_rank - back] = which == 1 ? 1 : dim;
      }
    }
    check_add(a_dims, a_rank, b_dims, b_rank);
  }
}

/* Two linear layers with ReLU, the first result also an output, a residual sum, a node that nobody needs, and an input
 * that nobody reads: all ways in which tensors share or do not share memory. */
static void layers_share_memory_without_mixing(void) {
  enum { ROWS = 5, IN = 7, HIDDEN = 33 };
  mst_device *device = open_math_device();
  float *x = NULL;
  float *w1 = NULL;
  float *b1 = NULL;
  float *w2 = NULL;
  float *b2 = NULL;
  float *unused = NULL;
  float *out = NULL;
  float *first = NULL;
  mst_buffer *buffers[8] = {create_floats(device, ROWS * IN, &x),       create_floats(device, HIDDEN * IN, &w1),
                            create_floats(device, HIDDEN, &b1),         create_floats(device, HIDDEN * HIDDEN, &w2),
                            create_floats(device, HIDDEN, &b2),         create_floats(device, 1, &unused),
                            create_floats(device, ROWS * HIDDEN, &out), create_floats(device, ROWS * HIDDEN, &first)};
  fill(x, ROWS * IN);
  fill(w1, HIDDEN * IN);
  fill(b1, HIDDEN);
  fill(w2, HIDDEN * HIDDEN);
  fill(b2, HIDDEN);
  double h[ROWS][HIDDEN];
  double hidden_sum[ROWS][HIDDEN];
  double expected[ROWS][HIDDEN];
  for (int row = 0; row < ROWS; row++) {
    for (int i = 0; i < HIDDEN; i++) {
      double sum = b1[i];
      for (int j = 0; j < IN; j++) {
        sum += (double)x[row * IN + j] * w1[i * IN + j];
      }
      hidden_sum[row][i] = sum;
      h[row][i] = sum > 0 ? sum : 0;
    }
  }
  for (int row = 0; row < ROWS; row++) {
    for (int i = 0; i < HIDDEN; i++) {
      double sum = b2[i];
      for (int j = 0; j < HIDDEN; j++) {
        sum += h[row][j] * w2[j * HIDDEN + i];
      }
      double residual = (sum > 0 ? sum : 0) + h[row][i];
      expected[row][i] = (residual > 0 ? residual : 0) + hidden_sum[row][i];
    }
  }
  mst_graph *graph = NULL;
  OK(mst_graph_create(device, &graph));
  const int64_t x_dims[2] = {ROWS, IN};
  const int64_t w1_dims[2] = {HIDDEN, IN};
  const int64_t w2_dims[2] = {HIDDEN, HIDDEN};
  const int64_t b1_dims[1] = {HIDDEN};
  const int64_t b2_dims[2] = {1, HIDDEN};
  int32_t n[16];
  OK(mst_graph_input(graph, MST_F32, x_dims, 2, &n[0]));
  OK(mst_graph_input(graph, MST_F32, w1_dims, 2, &n[1]));
  OK(mst_graph_input(graph, MST_F32, b1_dims, 1, &n[2]));
  OK(mst_graph_input(graph, MST_F32, w2_dims, 2, &n[3]));
  OK(mst_graph_input(graph, MST_F32, b2_dims, 2, &n[4]));
  OK(mst_graph_input(graph, MST_F32, NULL, 0, &n[5]));
  OK(mst_graph_matmul(graph, n[0], n[1], MST_MATMUL_TRANSPOSE_B, &n[6]));
  OK(mst_graph_add(graph, n[2], n[6], &n[7])); /* the row first */
  OK(mst_graph_relu(graph, n[7], &n[8]));
  OK(mst_graph_matmul(graph, n[8], n[3], 0, &n[9]));
  OK(mst_graph_add(graph, n[9], n[4], &n[10]));
  OK(mst_graph_relu(graph, n[10], &n[11]));
  OK(mst_graph_add(graph, n[11], n[8], &n[12]));
  OK(mst_graph_relu(graph, n[12], &n[13]));
  OK(mst_graph_relu(graph, n[3], &n[14])); /* nobody needs it */
  OK(mst_graph_add(graph, n[13], n[7], &n[15]));
  OK(mst_graph_output(graph, n[15]));
  OK(mst_graph_output(graph, n[7]));
  run_graph(device, graph, buffers, 8);
  check_close(&expected[0][0], out, ROWS * HIDDEN);
  check_close(&hidden_sum[0][0], first, ROWS * HIDDEN);
  destroy_buffers(buffers, 8);
  OK(mst_device_close(device));
}

enum { SIDE = 6, MOST_NODES = 24, MOST_DEGREE = 8 };

/* A node of a random graph, of [SIDE, SIDE] or, for some inputs, [SIDE] or [SIDE, 1]. */
typedef struct random_node {
  double values[SIDE][SIDE];
  double bounds[SIDE][SIDE]; /* how large the terms of each element may be: rounding is measured by it */
  int degree;                /* of the polynomial in the inputs */
  bool square;               /* surely [SIDE, SIDE]: a product takes it, and its elements are compared */
} random_node;

static void random_input(mst_graph *graph, random_node *node, int64_t *out_count, float *values) {
  int32_t id = 0;
  int shape = (int)(next_random() % 4); /* [SIDE, SIDE] twice, a row, a column */
  const int64_t dims[2] = {SIDE, shape == 3 ? 1 : SIDE};
  OK(mst_graph_input(graph, MST_F32, dims, shape == 2 ? 1 : 2, &id));
  *out_count = shape < 2 ? SIDE * SIDE : SIDE;
  fill(values, *out_count);
  for (int row = 0; row < SIDE; row++) {
    for (int column = 0; column < SIDE; column++) {
      node->values[row][column] = values[shape < 2 ? row * SIDE + column : shape == 2 ? column : row];
      node->bounds[row][column] = fabs(node->values[row][column]);
    }
  }
  node->degree = 1;
  node->square = shape < 2;
}

static void random_matmul(random_node *node, const random_node *a, const random_node *b, int transpose_b) {
  for (int row = 0; row < SIDE; row++) {
    for (int column = 0; column < SIDE; column++) {
      node->values[row][column] = 0;
      node->bounds[row][column] = 0;
      for (int i = 0; i < SIDE; i++) {
        node->values[row][column] += a->values[row][i] * (transpose_b ? b->values[column][i] : b->values[i][column]);
        node->bounds[row][column] += a->bounds[row][i] * (transpose_b ? b->bounds[column][i] : b->bounds[i][column]);
      }
    }
  }
  node->degree = a->degree + b->degree;
  node->square = true;
}

/* Adds a random node that computes something from those before it. */
static void random_operation(mst_graph *graph, random_node *nodes, int32_t count, int32_t *out_id) {
  int32_t a = (int32_t)(next_random() % (uint64_t)count);
  int32_t b = (int32_t)(next_random() % (uint64_t)count);
  random_node *node = &nodes[count];
  int transpose_b = (int)(next_random() % 2);
  uint64_t operation = next_random() % 4;
  if (operation >= 2 && nodes[a].square && nodes[b].square && nodes[a].degree + nodes[b].degree <= MOST_DEGREE) {
    random_matmul(node, &nodes[a], &nodes[b], transpose_b);
    OK(mst_graph_matmul(graph, a, b, (uint32_t)transpose_b, out_id));
    return;
  }
  bool relu = operation == 0;
  for (int row = 0; row < SIDE; row++) {
    for (int column = 0; column < SIDE; column++) {
      double left = nodes[a].values[row][column];
      node->values[row][column] = relu ? (left > 0 ? left : 0) : left + nodes[b].values[row][column];
      node->bounds[row][column] = nodes[a].bounds[row][column] + (relu ? 0 : nodes[b].bounds[row][column]);
    }
  }
  node->degree = relu || nodes[a].degree > nodes[b].degree ? nodes[a].degree : nodes[b].degree;
  node->square = nodes[a].square || (!relu && nodes[b].square);
  OK(relu ? mst_graph_relu(graph, a, out_id) : mst_graph_add(graph, a, b, out_id));
}

/* Plans of memory that let tensors overlap at the wrong time give wrong results in some of these. */
static void random_graphs_keep_their_tensors_apart(void) {
  for (int round = 0; round < 400; round++) {
    mst_device *device = open_math_device();
    mst_graph *graph = NULL;
    OK(mst_graph_create(device, &graph));
    static random_node nodes[MOST_NODES];
    mst_buffer *buffers[MOST_NODES];
    int32_t inputs = 1 + (int32_t)(next_random() % 5);
    int32_t count = 0;
    for (; count < inputs; count++) {
      float values[SIDE * SIDE];
      int64_t elements = 0;
      random_input(graph, &nodes[count], &elements, values);
      float *contents = NULL;
      buffers[count] = create_floats(device, elements, &contents);
      memcpy(contents, values, (size_t)elements * sizeof(float));
    }
    for (; count < MOST_NODES; count++) {
      int32_t id = -1;
      random_operation(graph, nodes, count, &id);
      CHECK_EQUAL(count, id);
    }
    int32_t outputs[MOST_NODES];
    float *results[MOST_NODES];
    int32_t output_count = 0;
    for (int32_t id = inputs; id < count; id++) {
      if (id == count - 1 || next_random() % 8 == 0) {
        OK(mst_graph_output(graph, id));
        outputs[output_count] = id;
        buffers[inputs + output_count] = create_floats(device, SIDE * SIDE, &results[output_count]);
        output_count++;
      }
    }
    run_graph(device, graph, buffers, inputs + output_count);
    for (int32_t i = 0; i < output_count; i++) {
      const random_node *node = &nodes[outputs[i]];
      for (int at = 0; node->square && at < SIDE * SIDE; at++) {
        double error = fabs((&node->values[0][0])[at] - results[i][at]);
        CHECK(error <= 1e-5 * (&node->bounds[0][0])[at] + 1e-6);
      }
    }
    destroy_buffers(buffers, inputs + output_count);
    OK(mst_device_close(device));
  }
}

static void relu_keeps_nan(void) {
  mst_device *device = open_math_device();
  float *in = NULL;
  float *out = NULL;
  mst_buffer *buffers[2] = {create_floats(device, 37, &in), create_floats(device, 37, &out)};
  double expected[37];
  for (int i = 0; i < 37; i++) {
    in[i] = i % 3 == 0 ? -1.0f : (float)i;
    expected[i] = i % 3 == 0 ? 0.0 : i;
  }
  in[5] = NAN;
  in[36] = NAN;
  mst_graph *graph = NULL;
  int32_t nodes[2];
  const int64_t dims[1] = {37};
  OK(mst_graph_create(device, &graph));
  OK(mst_graph_input(graph, MST_F32, dims, 1, &nodes[0]));
  OK(mst_graph_relu(graph, nodes[0], &nodes[1]));
  OK(mst_graph_output(graph, nodes[1]));
  run_graph(device, graph, buffers, 2);
  for (int i = 0; i < 37; i++) {
    CHECK(i == 5 || i == 36 ? isnan(out[i]) : out[i] == expected[i]);
  }
  destroy_buffers(buffers, 2);
  OK(mst_device_close(device));
}

static void shapes_are_checked(void) {
  mst_device *device = open_math_device();
  mst_graph *graph = NULL;
  OK(mst_graph_create(device, &graph));
  int32_t node = -1;
  const int64_t zero[1] = {0};
  const int64_t huge[3] = {INT64_MAX / 4, 2, 2};
  const int64_t wide[2] = {1, (int64_t)1 << 40};
  const int64_t dims[3] = {2, 3, 4};
  const int64_t others[3] = {5, 4, 3};
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_input(graph, 3, dims, 1, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_input(graph, MST_F32, zero, 1, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_input(graph, MST_F32, huge, 3, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_input(graph, MST_F32, dims, 9, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_input(graph, MST_F32, dims, -1, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_input(graph, MST_F32, NULL, 1, &node));
  int32_t a = -1;
  int32_t b = -1;
  int32_t row = -1;
  int32_t column = -1;
  OK(mst_graph_input(graph, MST_F32, dims, 3, &a));
  OK(mst_graph_input(graph, MST_F32, others, 3, &b));
  OK(mst_graph_input(graph, MST_F32, wide, 2, &row));
  const int64_t tall[2] = {(int64_t)1 << 40, 1};
  OK(mst_graph_input(graph, MST_F32, tall, 2, &column));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_matmul(graph, a, b, 0, &node));
  CHECK(strstr(mst_last_error(), "[2, 3, 4]") != NULL && strstr(mst_last_error(), "[5, 4, 3]") != NULL);
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_matmul(graph, a, a, 0, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_matmul(graph, a, a, 4, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_matmul(graph, a, 99, 0, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_add(graph, a, b, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_add(graph, row, column, &node)); /* 2^80 elements */
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_matmul(graph, column, row, 0, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_relu(graph, -1, &node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_output(graph, a));
  mst_executable *executable = NULL;
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_compile(graph, &executable));
  CHECK_EQUAL(-1, node);
  OK(mst_graph_relu(graph, a, &node));
  OK(mst_graph_output(graph, node));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_graph_output(graph, node));
  OK(mst_graph_compile(graph, &executable));
  OK(mst_graph_destroy(graph));

  float *values = NULL;
  mst_buffer *buffers[5];
  for (int i = 0; i < 4; i++) {
    buffers[i] = create_floats(device, i == 0 ? 24 : i == 3 ? 60 : 1, &values);
  }
  mst_buffer *small = create_floats(device, 23, &values);
  buffers[4] = create_floats(device, 24, &values);
  mst_queue *queue = create_queue(device, 1);
  OK(mst_commands_begin(queue, 1));
  /* The inputs of 2^40 elements have no buffers that are large enough. */
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_executable(queue, 1, executable, buffers, 5, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_executable(queue, 1, executable, buffers, 4, 0));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_executable(queue, 1, executable, NULL, 5, 0));
  OK(mst_executable_destroy(executable));

  OK(mst_graph_create(device, &graph));
  OK(mst_graph_input(graph, MST_F32, dims, 3, &a));
  OK(mst_graph_relu(graph, a, &node));
  OK(mst_graph_output(graph, node));
  OK(mst_graph_compile(graph, &executable));
  OK(mst_graph_destroy(graph));
  mst_buffer *same[2] = {buffers[0], buffers[0]};
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_executable(queue, 1, executable, same, 2, 0));
  mst_buffer *short_output[2] = {buffers[0], small};
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_encode_executable(queue, 1, executable, short_output, 2, 0));
  OK(mst_executable_destroy(executable));
  destroy_buffers(buffers, 5); /* none is in use */
  OK(mst_buffer_destroy(small));
  OK(mst_queue_destroy(queue));
  OK(mst_device_close(device));
}

/* A mean of 10,000 with a deviation of 0.1: a variance from sums of squares would be noise. */
static void layer_norm_is_exact(void) {
  mst_device *device = open_math_device();
  const uint64_t sizes[][2] = {{1, 1}, {3, 7}, {5, 64}, {2, 1000}};
  for (int i = 0; i < 4; i++) {
    uint64_t rows = sizes[i][0];
    uint64_t columns = sizes[i][1];
    float *x = NULL;
    float *gamma = NULL;
    float *beta = NULL;
    float *y = NULL;
    mst_buffer *buffers[] = {
        create_floats(device, (int64_t)(rows * columns), &x), create_floats(device, (int64_t)columns, &gamma),
        create_floats(device, (int64_t)columns, &beta), create_floats(device, (int64_t)(rows * columns), &y)};
    fill(x, (int64_t)(rows * columns));
    for (uint64_t j = 0; j < rows * columns; j++) {
      x[j] = 10000.0f + 0.1f * x[j];
    }
    fill(gamma, (int64_t)columns);
    fill(beta, (int64_t)columns);
    mst_queue *queue = create_queue(device, 1);
    OK(mst_commands_begin(queue, 1));
    CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT,
                mst_encode_layer_norm(queue, 1, buffers[0], buffers[1], buffers[2], buffers[0], rows, columns, 0));
    CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT,
                mst_encode_layer_norm(queue, 1, buffers[0], buffers[1], buffers[2], buffers[3], rows + 1, columns, 0));
    CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT,
                mst_encode_layer_norm(queue, 1, buffers[0], buffers[1], buffers[2], buffers[3], rows, columns, -1.0f));
    OK(mst_encode_layer_norm(queue, 1, buffers[0], buffers[1], buffers[2], buffers[3], rows, columns, 1e-5f));
    OK(mst_commands_commit(queue, 1, MST_COMMIT_WAITING));
    OK(mst_queue_wait(queue, 1, -1));
    for (uint64_t row = 0; row < rows; row++) {
      double mean = 0;
      double variance = 0;
      double expected[1000];
      for (uint64_t j = 0; j < columns; j++) {
        mean += x[row * columns + j] / (double)columns;
      }
      for (uint64_t j = 0; j < columns; j++) {
        variance += pow(x[row * columns + j] - mean, 2) / (double)columns;
      }
      for (uint64_t j = 0; j < columns; j++) {
        expected[j] = (x[row * columns + j] - mean) / sqrt(variance + 1e-5) * gamma[j] + beta[j];
      }
      check_close(expected, y + row * columns, (int64_t)columns);
    }
    OK(mst_queue_destroy(queue));
    destroy_buffers(buffers, 4);
  }
  mst_device_counter_facts counters;
  OK(mst_device_counters(device, &counters));
  CHECK_EQUAL(4, counters.layer_norms);
  OK(mst_device_close(device));
}

static void path_is_that_of_the_cpu(void) {
  mst_device *device = open_device(1);
  mst_executable *executables[2] = {NULL, NULL};
  for (int products = 0; products < 2; products++) {
    const int64_t dims[] = {2, 2};
    mst_graph *graph = NULL;
    int32_t x = 0;
    int32_t y = 0;
    OK(mst_graph_create(device, &graph));
    OK(mst_graph_input(graph, MST_F32, dims, 2, &x));
    OK(products == 0 ? mst_graph_relu(graph, x, &y) : mst_graph_matmul(graph, x, x, MST_MATMUL_DEFAULT, &y));
    OK(mst_graph_output(graph, y));
    OK(mst_graph_compile(graph, &executables[products]));
    OK(mst_graph_destroy(graph));
  }
  int32_t path = -1;
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_executable_path(NULL, 0, &path));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_executable_path(executables[0], 0, NULL));
  CHECK_EQUAL(MST_ERROR_INVALID_ARGUMENT, mst_executable_path(executables[0], 2, &path));
  CHECK_EQUAL(-1, path);
  for (uint32_t flags = MST_ENCODE_DEFAULT; flags <= MST_ENCODE_SOLE; flags++) {
    OK(mst_executable_path(executables[0], flags, &path));
    CHECK_EQUAL(MST_PATH_NONE, path);
    OK(mst_executable_path(executables[1], flags, &path));
    CHECK_EQUAL(MST_PATH_CPU, path);
  }
  OK(mst_executable_destroy(executables[0]));
  OK(mst_executable_destroy(executables[1]));
  OK(mst_device_close(device));
}

int main(int argc, char **argv) {
  if (argc > 1) {
    math_library = argv[1];
  }
  RUN(products_of_many_shapes);
  RUN(sums_broadcast);
  RUN(layers_share_memory_without_mixing);
  RUN(random_graphs_keep_their_tensors_apart);
  RUN(relu_keeps_nan);
  RUN(shapes_are_checked);
  RUN(layer_norm_is_exact);
  RUN(path_is_that_of_the_cpu);
  return 0;
}
