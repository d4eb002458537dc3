/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_EXECUTABLE_H
#define MST_HOST_EXECUTABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blas.h"
#include "elementwise.h"
#include "mst.h"

/* Where a tensor lies while the executable runs. Not negative: in that buffer. */
enum mst_memory { MST_IN_ARENA = -1, MST_IN_CONSTANTS = -2 };

typedef struct mst_place {
  int32_t memory;
  int64_t offset; /* elements */
} mst_place;

enum mst_step_kind {
  MST_STEP_MATMUL,
  MST_STEP_BINARY,
  MST_STEP_UNARY,
  MST_STEP_SOFTMAX,
  MST_STEP_LAYER_NORM,
  MST_STEP_MEAN,
  MST_STEP_COPY,
  MST_STEP_WIDEN,
  MST_STEP_NARROW,
  MST_STEP_ROUND
};

/* Products of matrices that lie at regular distances: as many as the product of dims, at least one. */
typedef struct mst_matmul {
  mst_product product;
  bool adds_row;
  int32_t rank;
  int64_t dims[MST_MAX_RANK];
  int64_t a_strides[MST_MAX_RANK];
  int64_t b_strides[MST_MAX_RANK];
  int64_t c_strides[MST_MAX_RANK];
} mst_matmul;

typedef struct mst_step {
  uint8_t kind;
  uint8_t operation; /* binary, unary */
  mst_place a;
  mst_place b; /* layer norm: gamma */
  mst_place c; /* layer norm: beta; matmul: the row that is added to each of the product's */
  mst_place out;
  union {
    struct {
      int64_t rows;
      int64_t columns;
      float eps;
    } rows; /* softmax, layer norm */
    mst_matmul matmul;
    mst_walk walk; /* binary, copy */
    mst_mean_plan mean;
    int64_t elements; /* unary, conversions */
  } as;
} mst_step;

/* Immutable but for the count, so any number of threads may run it at once. */
struct mst_executable {
  uint32_t tag;
  atomic_uint references; /* the caller's handle and the command buffers that use it */
  mst_device *device;
  uint32_t input_count;
  uint32_t argument_count; /* inputs and outputs */
  uint64_t *argument_bytes;
  mst_step *steps;
  uint32_t step_count;
  uint32_t matmul_count;
  uint64_t arena_bytes;
  float *constants;
};

void mst_executable_retain(mst_executable *executable);
void mst_executable_release(mst_executable *executable);

/* Frees one that nobody has seen yet. */
void mst_executable_free(mst_executable *executable);

/* Runs it in the calling thread. False: no memory. */
bool mst_executable_run(const mst_executable *executable, mst_buffer *const *arguments);

#endif
