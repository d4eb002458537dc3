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

/* Where a tensor lies while the executable runs. */
typedef struct mst_place {
  int32_t argument; /* that buffer, or -1: the arena */
  uint64_t offset;  /* in the arena */
} mst_place;

enum mst_step_kind { MST_STEP_FILL_ROWS, MST_STEP_MATMUL, MST_STEP_ADD, MST_STEP_RELU };

typedef struct mst_step {
  uint8_t kind;
  mst_place a; /* fill rows: the row */
  mst_place b;
  mst_place out;
  union {
    struct {
      int64_t rows;
      int64_t columns;
    } fill;
    struct {
      mst_product product;
      int64_t batch; /* products, one after the other in all three tensors */
    } matmul;
    mst_broadcast add;
    int64_t relu_elements;
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
};

void mst_executable_retain(mst_executable *executable);
void mst_executable_release(mst_executable *executable);

/* Runs it in the calling thread. False: no memory. */
bool mst_executable_run(const mst_executable *executable, mst_buffer *const *arguments);

#endif
