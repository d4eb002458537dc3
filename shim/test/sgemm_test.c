/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The built-in matrix product, for every instruction set that this CPU has, against plain loops. The elements are small
 * whole numbers, so that every order of additions gives the same. Operands end where the next page may not be read, and
 * what lies between the rows of the result stays as it was. */
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "sgemm_variants.h"

typedef bool multiply(const mst_product *product, const float *a, const float *b, const float *row, float *c);

static const float UNTOUCHED = -12345.0f;

/* Floats that end at the end of readable memory. */
typedef struct fenced {
  float *floats;
  void *mapping;
  size_t bytes;
} fenced;

static fenced fence(int64_t count) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t needed = (size_t)count * sizeof(float);
  const size_t readable = (needed + page - 1) / page * page;
  fenced made = {.bytes = readable + page};
  made.mapping = mmap(NULL, made.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(made.mapping != MAP_FAILED);
  CHECK(mprotect((char *)made.mapping + readable, page, PROT_NONE) == 0);
  made.floats = (float *)(void *)((char *)made.mapping + readable - needed);
  for (int64_t i = 0; i < count; i++) {
    made.floats[i] = (float)((i * 37 + count) % 9 - 4);
  }
  return made;
}

static void take_down(fenced made) {
  CHECK(munmap(made.mapping, made.bytes) == 0);
}

/* The floats that `rows` rows of `columns` take, with the last one ending where it ends. */
static int64_t span(int64_t rows, int64_t columns, int64_t stride) {
  return (rows - 1) * stride + columns;
}

static void check_product(multiply *multiply, int64_t m, int64_t n, int64_t k, int shape) {
  const bool transpose_a = (shape & 1) != 0;
  const bool transpose_b = (shape & 2) != 0;
  const int64_t gap = (shape & 4) != 0 ? 3 : 0;
  const int64_t a_rows = transpose_a ? k : m;
  const int64_t b_rows = transpose_b ? n : k;
  const mst_product product = {
      .m = m,
      .n = n,
      .k = k,
      .a_stride = (transpose_a ? m : k) + gap,
      .b_stride = (transpose_b ? k : n) + gap,
      .c_stride = n + gap,
      .transpose_a = transpose_a,
      .transpose_b = transpose_b,
  };
  const fenced a = fence(span(a_rows, transpose_a ? m : k, product.a_stride));
  const fenced b = fence(span(b_rows, transpose_b ? k : n, product.b_stride));
  const fenced row = fence(n);
  const fenced c = fence(span(m, n, product.c_stride));
  for (int adds = 0; adds < 2; adds++) {
    for (int64_t i = 0; i < span(m, n, product.c_stride); i++) {
      c.floats[i] = UNTOUCHED;
    }
    CHECK(multiply(&product, a.floats, b.floats, adds ? row.floats : NULL, c.floats));
    for (int64_t i = 0; i < span(m, n, product.c_stride); i++) {
      const int64_t y = i / product.c_stride;
      const int64_t x = i % product.c_stride;
      float expected = UNTOUCHED;
      if (x < n) {
        expected = adds ? row.floats[x] : 0;
        for (int64_t j = 0; j < k; j++) {
          expected += a.floats[transpose_a ? j * product.a_stride + y : y * product.a_stride + j] *
                      b.floats[transpose_b ? x * product.b_stride + j : j * product.b_stride + x];
        }
      }
      if (c.floats[i] != expected) {
        fprintf(stderr, "[%d, %d, %d], shape %d, row %d: element %d, %d is %g, not %g\n", (int)m, (int)n, (int)k, shape,
                adds, (int)y, (int)x, (double)c.floats[i], (double)expected);
        exit(1);
      }
    }
  }
  take_down(a);
  take_down(b);
  take_down(row);
  take_down(c);
}

static void check_multiply(const char *name, multiply *multiply) {
  printf("%s\n", name);
  for (int shape = 0; shape < 8; shape++) {
    /* Every tile, whole and partial. */
    for (int64_t m = 1; m <= 18; m++) {
      for (int64_t n = 1; n <= 35; n++) {
        check_product(multiply, m, n, 1 + (m + n) % 5, shape);
      }
    }
    /* Across the blocks of each dimension. */
    check_product(multiply, 3, 33, 600, shape);
    check_product(multiply, 17, 9, 257, shape);
    check_product(multiply, 97, 40, 20, shape);
    check_product(multiply, 20, 530, 70, shape);
    check_product(multiply, 100, 70, 300, shape);
  }
}

int main(void) {
  check_multiply("baseline", mst_sgemm_baseline);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    check_multiply("AVX2", mst_sgemm_avx2);
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma")) {
    check_multiply("AVX-512", mst_sgemm_avx512);
  }
#endif
  return 0;
}
