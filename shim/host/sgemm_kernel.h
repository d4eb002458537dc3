/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The matrix product for one instruction set. Included by a source file that is compiled for that set and defines
 *   MST_SGEMM         the name of the function
 *   MST_VECTOR        floats in a vector
 *   MST_TILE_ROWS     rows of c that are computed at once
 *   MST_TILE_VECTORS  vectors of a row of c that are computed at once
 *
 * A tile of c is held in registers while all of k, or a block of it, passes by. a is read in place. b is packed into
 * panels as wide as a tile, which also transposes it and pads it with zeros, unless it may be read in place, too. The
 * order of the additions into an element of c depends on the shape alone. */
#include <stddef.h>
#include <string.h>

#include "scratch.h"
#include "sgemm.h"
#include "sgemm_variants.h"

enum {
  TILE_COLUMNS = MST_VECTOR * MST_TILE_VECTORS,
  BLOCK_K = 256,       /* a panel of b stays in the first cache */
  BLOCK_ROWS = 96,     /* these rows of a in the second */
  BLOCK_COLUMNS = 512, /* as do all panels */
  FEW_ROWS = 16,       /* too few for packing to pay */
  DOT_ROWS = 3,        /* up to so many rows, a transposed b is best read along its rows */
  DOT_COLUMNS = 4
};
static const int64_t SMALL_B = 32768; /* elements: fits into the second cache as it is */

typedef float vector __attribute__((vector_size(MST_VECTOR * sizeof(float))));

static inline __attribute__((always_inline)) vector load(const float *from) {
  vector loaded;
  memcpy(&loaded, from, sizeof(loaded));
  return loaded;
}

static inline __attribute__((always_inline)) void store(float *to, vector stored) {
  memcpy(to, &stored, sizeof(stored));
}

typedef struct tile_job {
  int64_t k;
  const float *a;
  int64_t a_stride;
  const float *b;
  int64_t b_stride;
  float *c;
  int64_t c_stride;
  int64_t columns; /* of the tile that lie in c */
  bool accumulate;
} tile_job;

static inline __attribute__((always_inline)) void tile(const tile_job *job, const int rows) {
  vector sums[MST_TILE_ROWS][MST_TILE_VECTORS];
  for (int row = 0; row < rows; row++) {
    for (int v = 0; v < MST_TILE_VECTORS; v++) {
      sums[row][v] = (vector){0};
    }
  }
  const float *a = job->a;
  const float *b = job->b;
  const int64_t a_stride = job->a_stride;
  const int64_t b_stride = job->b_stride;
  for (int64_t i = 0; i < job->k; i++) {
    vector b_row[MST_TILE_VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < MST_TILE_VECTORS; v++) {
      b_row[v] = load(b + v * MST_VECTOR);
    }
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++) {
      float factor = a[row * a_stride + i];
#pragma GCC unroll 16
      for (int v = 0; v < MST_TILE_VECTORS; v++) {
        sums[row][v] += factor * b_row[v];
      }
    }
    b += b_stride;
  }
  if (job->columns == TILE_COLUMNS) {
    for (int row = 0; row < rows; row++) {
      float *c = job->c + row * job->c_stride;
      for (int v = 0; v < MST_TILE_VECTORS; v++) {
        vector sum = sums[row][v];
        store(c + v * MST_VECTOR, job->accumulate ? load(c + v * MST_VECTOR) + sum : sum);
      }
    }
    return;
  }
  for (int row = 0; row < rows; row++) {
    float edge[TILE_COLUMNS];
    memcpy(edge, sums[row], sizeof(edge));
    float *c = job->c + row * job->c_stride;
    for (int64_t column = 0; column < job->columns; column++) {
      c[column] = job->accumulate ? c[column] + edge[column] : edge[column];
    }
  }
}

/* A tile with the number of its rows as a constant, so that it is held in registers. */
static void run_tile(const tile_job *job, int64_t rows) {
  switch (rows) {
    case 1:
      tile(job, 1);
      break;
    case 2:
      tile(job, 2);
      break;
    case 3:
      tile(job, 3);
      break;
#if MST_TILE_ROWS > 4
    case 4:
      tile(job, 4);
      break;
    case 5:
      tile(job, 5);
      break;
#endif
#if MST_TILE_ROWS > 6
    case 6:
      tile(job, 6);
      break;
    case 7:
      tile(job, 7);
      break;
#endif
    default:
      tile(job, MST_TILE_ROWS);
      break;
  }
}

/* Packs rows [first_k, first_k + k) and columns [first, first + columns) of b into a panel. */
static void pack(const mst_product *product, const float *b, int64_t first_k, int64_t k, int64_t first, int64_t columns,
                 float *panel) {
  if (product->transpose_b) {
    for (int64_t column = 0; column < columns; column++) {
      const float *from = b + (first + column) * product->b_stride + first_k;
      for (int64_t i = 0; i < k; i++) {
        panel[i * TILE_COLUMNS + column] = from[i];
      }
    }
  } else {
    for (int64_t i = 0; i < k; i++) {
      memcpy(panel + i * TILE_COLUMNS, b + (first_k + i) * product->b_stride + first, (size_t)columns * sizeof(float));
    }
  }
  for (int64_t i = 0; columns < TILE_COLUMNS && i < k; i++) {
    memset(panel + i * TILE_COLUMNS + columns, 0, (size_t)(TILE_COLUMNS - columns) * sizeof(float));
  }
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static float sum_of(vector lanes) {
  float sum = 0.0f;
  for (int i = 0; i < MST_VECTOR; i++) {
    sum += lanes[i];
  }
  return sum;
}

/* Few rows times a transposed b: both are read along k. */
static void multiply_by_dots(const mst_product *product, const float *a, int64_t a_stride, const float *b, float *c) {
  const int64_t k = product->k;
  for (int64_t column = 0; column < product->n; column += DOT_COLUMNS) {
    int64_t columns = least(DOT_COLUMNS, product->n - column);
    for (int64_t row = 0; row < product->m; row++) {
      const float *a_row = a + row * a_stride;
      const float *b_rows[DOT_COLUMNS];
      vector sums[DOT_COLUMNS];
      for (int64_t j = 0; j < DOT_COLUMNS; j++) {
        b_rows[j] = b + (column + least(j, columns - 1)) * product->b_stride;
        sums[j] = (vector){0};
      }
      int64_t i = 0;
      for (; i + MST_VECTOR <= k; i += MST_VECTOR) {
        vector factors = load(a_row + i);
#pragma GCC unroll 16
        for (int j = 0; j < DOT_COLUMNS; j++) {
          sums[j] += factors * load(b_rows[j] + i);
        }
      }
      for (int64_t j = 0; j < columns; j++) {
        float sum = sum_of(sums[j]);
        for (int64_t rest = i; rest < k; rest++) {
          sum += a_row[rest] * b_rows[j][rest];
        }
        float *out = c + row * product->c_stride + column + j;
        *out = product->accumulate ? *out + sum : sum;
      }
    }
  }
}

/* Copies a transposed a, so that its rows lie as those of the product. */
static void transpose(const mst_product *product, const float *a, float *rows) {
  for (int64_t i = 0; i < product->k; i++) {
    for (int64_t row = 0; row < product->m; row++) {
      rows[row * product->k + i] = a[i * product->a_stride + row];
    }
  }
}

bool MST_SGEMM(const mst_product *product, const float *a, const float *b, float *c) {
  const int64_t m = product->m;
  const int64_t n = product->n;
  const int64_t k = product->k;
  int64_t a_stride = product->a_stride;
  if (product->transpose_a) {
    float *rows = mst_scratch(MST_SCRATCH_ROWS, (uint64_t)(m * k) * sizeof(float));
    if (rows == NULL) {
      return false;
    }
    transpose(product, a, rows);
    a = rows;
    a_stride = k;
  }
  if (product->transpose_b && m <= DOT_ROWS) {
    multiply_by_dots(product, a, a_stride, b, c);
    return true;
  }
  const bool in_place = !product->transpose_b && (m <= FEW_ROWS || n <= SMALL_B / k);
  const int64_t panel_columns = (least(n, BLOCK_COLUMNS) + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS;
  const int64_t panel_k = least(k, BLOCK_K);
  float *panels = NULL;
  if (!in_place || n % TILE_COLUMNS != 0) {
    panels = mst_scratch(MST_SCRATCH_PANEL, (uint64_t)(panel_columns * panel_k) * sizeof(float));
    if (panels == NULL) {
      return false;
    }
  }
  for (int64_t first_k = 0; first_k < k; first_k += BLOCK_K) {
    const int64_t block_k = least(BLOCK_K, k - first_k);
    tile_job job = {.k = block_k,
                    .a_stride = a_stride,
                    .c_stride = product->c_stride,
                    .accumulate = product->accumulate || first_k > 0};
    for (int64_t first_column = 0; first_column < n; first_column += BLOCK_COLUMNS) {
      const int64_t end_column = least(first_column + BLOCK_COLUMNS, n);
      for (int64_t first_row = 0; first_row < m; first_row += BLOCK_ROWS) {
        const int64_t end_row = least(first_row + BLOCK_ROWS, m);
        for (int64_t column = first_column; column < end_column; column += TILE_COLUMNS) {
          job.columns = least(TILE_COLUMNS, end_column - column);
          if (in_place && job.columns == TILE_COLUMNS) {
            job.b = b + first_k * product->b_stride + column;
            job.b_stride = product->b_stride;
          } else {
            float *panel = panels + (column - first_column) * block_k;
            if (first_row == 0) {
              pack(product, b, first_k, block_k, column, job.columns, panel);
            }
            job.b = panel;
            job.b_stride = TILE_COLUMNS;
          }
          for (int64_t row = first_row; row < end_row; row += MST_TILE_ROWS) {
            job.a = a + row * a_stride + first_k;
            job.c = c + row * product->c_stride + column;
            run_tile(&job, least(MST_TILE_ROWS, end_row - row));
          }
        }
      }
    }
  }
  return true;
}
