/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The matrix product for one instruction set. Included by a source file that is compiled for that set and defines
 *   MST_SGEMM         the name of the function
 *   MST_VECTOR        floats in a vector
 *   MST_TILE_ROWS     rows of c that are computed at once
 *   MST_TILE_VECTORS  vectors of a row of c that are computed at once: 2
 *
 * A tile of c is held in registers while all of k, or a block of it, passes by; it starts with the row that is added, or
 * with zeros. a is read in place. b is packed into panels as wide as a tile, which also transposes it, unless it may be
 * read in place, too. The last, narrower tile has one vector less where that suffices, and a partial one at its end. The
 * order of the additions into an element of c depends on the shape alone. */
#include <stddef.h>
#include <string.h>

#include "lanes.h"
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

typedef struct tile_job {
  int64_t k;
  const float *a;
  int64_t a_stride;
  const float *b;
  int64_t b_stride;
  float *c;
  int64_t c_stride;
  const float *row; /* what the tile starts with; NULL: zeros */
  int64_t columns;  /* of the tile that lie in c */
  bool accumulate;  /* add to what c holds */
} tile_job;

/* The last vector of a row of the tile: `last` of its lanes lie in c. Where parts are not cheap, b is padded. */
INLINE vector load_last(const float *from, bool partial, int64_t last) {
  return partial ? load_part(from, last) : load(from);
}

INLINE void tile(const tile_job *job, const int rows, const int vectors, const bool partial) {
  const int64_t last = job->columns - (vectors - 1) * MST_VECTOR;
  vector sums[MST_TILE_ROWS][MST_TILE_VECTORS];
  for (int v = 0; v < vectors; v++) {
    const bool part = partial && v == vectors - 1;
    const vector start = job->row != NULL ? load_last(job->row + v * MST_VECTOR, part, last) : (vector){0};
    for (int row = 0; row < rows; row++) {
      sums[row][v] = start;
    }
  }
  const float *a = job->a;
  const float *b = job->b;
  const int64_t a_stride = job->a_stride;
  const int64_t b_stride = job->b_stride;
  for (int64_t i = 0; i < job->k; i++) {
    vector b_row[MST_TILE_VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++) {
      b_row[v] = load_last(b + v * MST_VECTOR, MST_HAS_MASKS && partial && v == vectors - 1, last);
    }
#pragma GCC unroll 16
    for (int row = 0; row < rows; row++) {
      float factor = a[row * a_stride + i];
#pragma GCC unroll 16
      for (int v = 0; v < vectors; v++) {
        sums[row][v] += factor * b_row[v];
      }
    }
    b += b_stride;
  }
  for (int row = 0; row < rows; row++) {
    for (int v = 0; v < vectors; v++) {
      const bool part = partial && v == vectors - 1;
      float *c = job->c + row * job->c_stride + v * MST_VECTOR;
      const vector sum = job->accumulate ? load_last(c, part, last) + sums[row][v] : sums[row][v];
      if (part) {
        store_part(c, sum, last);
      } else {
        store(c, sum);
      }
    }
  }
}

/* A tile with the number of its rows as a constant, so that it is held in registers. */
INLINE void run_rows(const tile_job *job, int64_t rows, const int vectors, const bool partial) {
  switch (rows) {
    case 1:
      tile(job, 1, vectors, partial);
      break;
    case 2:
      tile(job, 2, vectors, partial);
      break;
    case 3:
      tile(job, 3, vectors, partial);
      break;
#if MST_TILE_ROWS > 4
    case 4:
      tile(job, 4, vectors, partial);
      break;
    case 5:
      tile(job, 5, vectors, partial);
      break;
#endif
#if MST_TILE_ROWS > 6
    case 6:
      tile(job, 6, vectors, partial);
      break;
    case 7:
      tile(job, 7, vectors, partial);
      break;
#endif
    default:
      tile(job, MST_TILE_ROWS, vectors, partial);
      break;
  }
}

/* MST_TILE_VECTORS is 2. */
static void run_tile(const tile_job *job, int64_t rows) {
  if (job->columns == TILE_COLUMNS) {
    run_rows(job, rows, 2, false);
  } else if (job->columns > MST_VECTOR) {
    run_rows(job, rows, 2, true);
  } else if (job->columns == MST_VECTOR) {
    run_rows(job, rows, 1, false);
  } else {
    run_rows(job, rows, 1, true);
  }
}

/* Packs rows [first_k, first_k + k) and columns [first, first + columns) of b into a panel, padded with zeros where parts
 * of vectors are not cheap. */
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
  for (int64_t i = 0; !MST_HAS_MASKS && columns < TILE_COLUMNS && i < k; i++) {
    memset(panel + i * TILE_COLUMNS + columns, 0, (size_t)(TILE_COLUMNS - columns) * sizeof(float));
  }
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* Few rows times a transposed b: both are read along k. */
static void multiply_by_dots(const mst_product *product, const float *a, int64_t a_stride, const float *b,
                             const float *added, float *c) {
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
        c[row * product->c_stride + column + j] = added != NULL ? added[column + j] + sum : sum;
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

bool MST_SGEMM(const mst_product *product, const float *a, const float *b, const float *added, float *c) {
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
    multiply_by_dots(product, a, a_stride, b, added, c);
    return true;
  }
  const bool in_place = !product->transpose_b && (m <= FEW_ROWS || n <= SMALL_B / k);
  const int64_t panel_columns = (least(n, BLOCK_COLUMNS) + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS;
  const int64_t panel_k = least(k, BLOCK_K);
  float *panels = NULL;
  if (!in_place || (!MST_HAS_MASKS && n % TILE_COLUMNS != 0)) {
    panels = mst_scratch(MST_SCRATCH_PANEL, (uint64_t)(panel_columns * panel_k) * sizeof(float));
    if (panels == NULL) {
      return false;
    }
  }
  for (int64_t first_k = 0; first_k < k; first_k += BLOCK_K) {
    const int64_t block_k = least(BLOCK_K, k - first_k);
    tile_job job = {.k = block_k, .a_stride = a_stride, .c_stride = product->c_stride, .accumulate = first_k > 0};
    for (int64_t first_column = 0; first_column < n; first_column += BLOCK_COLUMNS) {
      const int64_t end_column = least(first_column + BLOCK_COLUMNS, n);
      for (int64_t first_row = 0; first_row < m; first_row += BLOCK_ROWS) {
        const int64_t end_row = least(first_row + BLOCK_ROWS, m);
        for (int64_t column = first_column; column < end_column; column += TILE_COLUMNS) {
          job.columns = least(TILE_COLUMNS, end_column - column);
          job.row = added != NULL && first_k == 0 ? added + column : NULL;
          if (in_place && (MST_HAS_MASKS || job.columns == TILE_COLUMNS)) {
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
