/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The functions over rows, for every instruction set that this CPU has, against double precision: built from their
 * sources, since the library chooses one set for itself. */
#include "vector.h"

#include "check.h"

typedef double exact_function(double x);

static double exact_relu(double x) {
  return x > 0 ? x : 0;
}

static double exact_sigmoid(double x) {
  return 1 / (1 + exp(-x));
}

static double exact_gelu(double x) {
  return x / 2 * erfc(-x / sqrt(2));
}

static double exact_gelu_tanh(double x) {
  const double u = sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x);
  return x / (1 + exp(-2 * u));
}

/* The distance from the exact value in units of its last place, those of the smallest normal numbers at least. */
static double ulps(float actual, double exact) {
  int exponent;
  frexp(exact, &exponent);
  return fabs(actual - exact) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static void check_function(const mst_vector_kernels *kernels, enum mst_unary operation, exact_function *exact,
                           double allowed, double lowest) {
  enum { COUNT = 1 << 16 };
  static float in[COUNT];
  static float out[COUNT];
  double worst = 0;
  for (int part = 0; part < 4; part++) {
    const float scale[] = {0.01f, 1.0f, 10.0f, 90.0f};
    for (int i = 0; i < COUNT; i++) {
      in[i] = scale[part] * ((float)i / (COUNT / 2) - 1.0f);
    }
    kernels->unary[operation](in, out, COUNT);
    for (int i = 0; i < COUNT; i++) {
      double error = in[i] < lowest ? 0 : ulps(out[i], exact((double)in[i]));
      if (!(error <= allowed)) {
        fprintf(stderr, "function %d of %.9g is %.9g, not %.9g\n", operation, (double)in[i], (double)out[i],
                exact((double)in[i]));
        exit(1);
      }
      worst = error > worst ? error : worst;
    }
  }
  printf("  function %d: at most %.2f units in the last place\n", operation, worst);
}

/* Rows of every length, from every offset, in place and not: an element's bits depend on the element alone. */
static void check_positions(const mst_vector_kernels *kernels) {
  enum { COUNT = 70 };
  float in[COUNT];
  float whole[COUNT];
  float part[COUNT];
  for (int i = 0; i < COUNT; i++) {
    in[i] = (float)((i * 37) % 61) / 10.0f - 3.0f;
  }
  for (int operation = 0; operation < MST_UNARY_COUNT; operation++) {
    kernels->unary[operation](in, whole, COUNT);
    for (int first = 0; first < 20; first++) {
      for (int count = 1; first + count <= COUNT; count++) {
        memset(part, 0x7f, sizeof(part));
        kernels->unary[operation](in + first, part + first, count);
        CHECK(memcmp(part + first, whole + first, (size_t)count * sizeof(float)) == 0);
        CHECK(first + count == COUNT || memcmp(part + first + count, "\x7f\x7f\x7f\x7f", 4) == 0);
        memcpy(part, in, sizeof(part));
        kernels->unary[operation](part + first, part + first, count);
        CHECK(memcmp(part + first, whole + first, (size_t)count * sizeof(float)) == 0);
      }
    }
  }
  for (int count = 1; count <= COUNT; count++) {
    kernels->binary[MST_BINARY_SUBTRACT](in, 1, in + 1, 0, part, count);
    for (int i = 0; i < count; i++) {
      CHECK(part[i] == in[i] - in[1]);
    }
    kernels->binary[MST_BINARY_DIVIDE](in + 1, 0, in, 1, part, count);
    for (int i = 0; i < count; i++) {
      CHECK(part[i] == in[1] / in[i] || isnan(part[i]));
    }
    memcpy(part, in, sizeof(part));
    kernels->binary[MST_BINARY_MULTIPLY](in, 1, part, 1, part, count);
    for (int i = 0; i < count; i++) {
      CHECK(part[i] == in[i] * in[i]);
    }
  }
}

static void check_rows(const mst_vector_kernels *kernels) {
  enum { ROWS = 7, MOST = 70 };
  float in[ROWS * MOST];
  float gamma[MOST];
  float beta[MOST];
  float out[ROWS * MOST];
  for (int columns = 1; columns <= MOST; columns++) {
    for (int i = 0; i < ROWS * columns; i++) {
      in[i] = 100.0f + 0.001f * (float)((i * 37) % 61 - 30) / 10.0f;
    }
    for (int i = 0; i < columns; i++) {
      gamma[i] = 1.0f + (float)i / 70.0f;
      beta[i] = (float)(i % 5);
    }
    kernels->layer_norm(in, gamma, beta, 1e-9f, out, ROWS, columns);
    for (int row = 0; row < ROWS; row++) {
      double mean = 0;
      double variance = 0;
      for (int i = 0; i < columns; i++) {
        mean += (double)in[row * columns + i] / columns;
      }
      for (int i = 0; i < columns; i++) {
        variance += pow((double)in[row * columns + i] - mean, 2) / columns;
      }
      for (int i = 0; i < columns; i++) {
        double exact =
            ((double)in[row * columns + i] - mean) / sqrt(variance + 1e-9) * (double)gamma[i] + (double)beta[i];
        CHECK(fabs((double)out[row * columns + i] - exact) < 2e-5);
      }
    }
    for (int row = 0; row < ROWS; row++) {
      kernels->softmax(in + row * columns, out + row * columns, 1, columns);
    }
    kernels->softmax(in, in, ROWS, columns);
    CHECK(memcmp(in, out, (size_t)(ROWS * columns) * sizeof(float)) == 0);
    for (int row = 0; row < ROWS; row++) {
      double sum = 0;
      for (int i = 0; i < columns; i++) {
        sum += (double)in[row * columns + i];
      }
      CHECK(fabs(sum - 1) < 1e-6);
    }
  }
}

/* One NaN makes all of its row NaN, wherever it is, and no other row. */
static void check_nan(const mst_vector_kernels *kernels) {
  enum { ROWS = 5, MOST = 40 };
  float in[ROWS * MOST];
  for (int columns = 1; columns <= MOST; columns++) {
    for (int at = 0; at < columns; at++) {
      for (int i = 0; i < ROWS * columns; i++) {
        in[i] = i % 3 == 0 ? -INFINITY : (float)(i % 5);
      }
      in[2 * columns + at] = NAN;
      kernels->softmax(in, in, ROWS, columns);
      for (int i = 0; i < ROWS * columns; i++) {
        CHECK(i / columns != 2 || isnan(in[i]));
        CHECK(columns == 1 || i / columns == 2 || !isnan(in[i]));
      }
    }
  }
}

static void check_kernels(const char *name, const mst_vector_kernels *kernels) {
  printf("%s\n", name);
  check_function(kernels, MST_UNARY_RELU, exact_relu, 0, -INFINITY);
  check_function(kernels, MST_UNARY_SIGMOID, exact_sigmoid, 3, -87);
  check_function(kernels, MST_UNARY_TANH, tanh, 3, -INFINITY);
  /* Far out to the left, the argument of the exponential function is no longer exact. */
  check_function(kernels, MST_UNARY_GELU_ERF, exact_gelu, 8, -4);
  check_function(kernels, MST_UNARY_GELU_TANH, exact_gelu_tanh, 24, -4);
  check_positions(kernels);
  check_rows(kernels);
  check_nan(kernels);
}

int main(void) {
  check_kernels("baseline", &mst_vector_baseline);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    check_kernels("AVX2", &mst_vector_avx2);
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma")) {
    check_kernels("AVX-512", &mst_vector_avx512);
  }
#endif
  return 0;
}
