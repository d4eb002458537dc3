/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Executables: steps over planned memory, as compile.c made them. */
#include "executable.h"

#include <stdlib.h>

#include "../common/error.h"
#include "buffer.h"
#include "device.h"
#include "scratch.h"
#include "test_hooks.h"

/* ---------------------------------------------------------------------------------------------------- lifetime ---- */

void mst_executable_retain(mst_executable *executable) {
  atomic_fetch_add_explicit(&executable->references, 1, memory_order_relaxed);
}

void mst_executable_free(mst_executable *executable) {
  free(executable->argument_bytes);
  free(executable->steps);
  free(executable->constants);
  executable->tag = MST_TAG_ENDED;
  free(executable);
}

void mst_executable_release(mst_executable *executable) {
  if (atomic_fetch_sub_explicit(&executable->references, 1, memory_order_acq_rel) == 1) {
    mst_device *device = executable->device;
    mst_executable_free(executable);
    atomic_fetch_sub(&mst_live.executables, 1);
    mst_device_release(device);
  }
}

int32_t mst_executable_path(mst_executable *executable, uint32_t flags, int32_t *out_path) {
  MST_ENTER(mst_executable_path);
  if (!mst_is(executable, MST_TAG_EXECUTABLE) || out_path == NULL) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "no executable or no out-parameter");
  }
  if ((flags & ~(uint32_t)MST_ENCODE_SOLE) != 0) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "unknown flags 0x%x", flags);
  }
  *out_path = executable->matmul_count == 0 ? MST_PATH_NONE : MST_PATH_CPU;
  return MST_OK;
}

int32_t mst_executable_destroy(mst_executable *executable) {
  MST_ENTER(mst_executable_destroy);
  if (executable == NULL) {
    return MST_OK;
  }
  if (!mst_is(executable, MST_TAG_EXECUTABLE)) {
    return MST_FAIL(MST_ERROR_INVALID_ARGUMENT, "not an executable");
  }
  mst_executable_release(executable);
  return MST_OK;
}

/* --------------------------------------------------------------------------------------------------------- run ---- */

static bool run_matmul(const mst_blas *blas, const mst_matmul *matmul, const float *a, const float *b, const float *row,
                       float *c) {
  int64_t index[MST_MAX_RANK] = {0};
  for (;;) {
    if (!mst_blas_multiply(blas, &matmul->product, a, b, row, c)) {
      return false;
    }
    int32_t axis = matmul->rank - 1;
    for (; axis >= 0; axis--) {
      a += matmul->a_strides[axis];
      b += matmul->b_strides[axis];
      c += matmul->c_strides[axis];
      if (++index[axis] < matmul->dims[axis]) {
        break;
      }
      a -= matmul->a_strides[axis] * matmul->dims[axis];
      b -= matmul->b_strides[axis] * matmul->dims[axis];
      c -= matmul->c_strides[axis] * matmul->dims[axis];
      index[axis] = 0;
    }
    if (axis < 0) {
      return true;
    }
  }
}

/* Where the tensors of a run lie. */
typedef struct run {
  const mst_executable *executable;
  mst_buffer *const *arguments;
  float *arena;
} run;

static float *at(const run *run, mst_place place) {
  float *memory = place.memory >= 0                  ? (float *)run->arguments[place.memory]->contents
                  : place.memory == MST_IN_CONSTANTS ? run->executable->constants
                                                     : run->arena;
  return memory + place.offset;
}

static bool run_step(const run *run, const mst_step *step) {
  const mst_vector_kernels *vector = mst_vector();
  const float *a = at(run, step->a);
  float *out = at(run, step->out);
  switch (step->kind) {
    case MST_STEP_MATMUL:
      return run_matmul(&run->executable->device->blas, &step->as.matmul, a, at(run, step->b),
                        step->as.matmul.adds_row ? at(run, step->c) : NULL, out);
    case MST_STEP_BINARY:
      mst_walk_binary(&step->as.walk, step->operation, a, at(run, step->b), out);
      break;
    case MST_STEP_UNARY:
      vector->unary[step->operation](a, out, step->as.elements);
      break;
    case MST_STEP_SOFTMAX:
      vector->softmax(a, out, step->as.rows.rows, step->as.rows.columns);
      break;
    case MST_STEP_LAYER_NORM:
      vector->layer_norm(a, at(run, step->b), at(run, step->c), step->as.rows.eps, out, step->as.rows.rows,
                         step->as.rows.columns);
      break;
    case MST_STEP_MEAN:
      mst_mean(&step->as.mean, a, out);
      break;
    case MST_STEP_COPY:
      mst_walk_copy(&step->as.walk, a, out);
      break;
    case MST_STEP_WIDEN:
      mst_widen((const uint16_t *)a, out, step->as.elements);
      break;
    case MST_STEP_NARROW:
      mst_narrow(a, (uint16_t *)out, step->as.elements);
      break;
    default:
      mst_round_to_f16(a, out, step->as.elements);
      break;
  }
  return true;
}

bool mst_executable_run(const mst_executable *executable, mst_buffer *const *arguments) {
  run run = {.executable = executable, .arguments = arguments};
  if (executable->arena_bytes > 0) {
    if (executable->arena_bytes > atomic_load_explicit(&executable->device->limit_bytes, memory_order_relaxed)) {
      return false; /* the system might well promise so much, and end the process when it is used */
    }
    run.arena = mst_scratch(MST_SCRATCH_ARENA, executable->arena_bytes);
    if (run.arena == NULL) {
      return false;
    }
  }
  bool done = true;
  for (uint32_t i = 0; done && i < executable->step_count; i++) {
    done = run_step(&run, &executable->steps[i]);
  }
  mst_scratch_trim();
  return done;
}
