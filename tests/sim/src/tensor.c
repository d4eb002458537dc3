/*
 * Simulated Metal: tensors and what MPSGraph's operations make of them.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "product.h"

/* Plain loops; what orders their accesses is checked per buffer (buffer.m), not per element. */
#define UNCHECKED __attribute__((no_sanitize("thread")))

/* ------------------------------------------------------------------------------------------------- elements ------- */

size_t sim_tensor_count(const struct sim_tensor *tensor) {
  size_t count = 1;
  for (size_t i = 0; i < tensor->rank; i++)
    count *= tensor->sizes[i];
  return count;
}

size_t sim_type_bytes(enum sim_type type) {
  return type == SIM_F32 ? 4 : type == SIM_F16 ? 2 : 1;
}

/* binary16: 11 bits of precision, the smallest step 2^-24, nothing from 65520 on. */
static float round_half(double value) {
  if (isnan(value) || isinf(value) || value == 0)
    return (float)value;
  int exponent = 0;
  frexp(value, &exponent); /* value = m * 2^exponent, m in [0.5, 1) */
  int step = exponent - 11 < -24 ? -24 : exponent - 11;
  double rounded = ldexp(nearbyint(ldexp(value, -step)), step);
  return (float)(fabs(rounded) >= 65536 ? copysign(INFINITY, value) : copysign(rounded, value));
}

float sim_tensor_round(enum sim_type type, double value) {
  return type == SIM_F16 ? round_half(value) : type == SIM_BOOL ? (float)(value != 0) : (float)value;
}

static float half_value(uint16_t pattern) {
  int exponent = pattern >> 10 & 31;
  int fraction = pattern & 1023;
  double size = exponent == 0    ? ldexp(fraction, -24)
                : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                 : ldexp(1024 + fraction, exponent - 25);
  return (float)(pattern >> 15 ? -size : size);
}

/* Of a value that binary16 has. */
static uint16_t half_pattern(float value) {
  uint16_t sign = signbit(value) ? 0x8000 : 0;
  double size = fabs((double)value);
  if (isnan(value))
    return sign | 0x7E00;
  if (isinf(value))
    return sign | 0x7C00;
  if (size < ldexp(1, -14))
    return (uint16_t)(sign | (uint16_t)ldexp(size, 24));
  int exponent = 0;
  double fraction = frexp(size, &exponent); /* in [0.5, 1) */
  return (uint16_t)(sign | (exponent + 14) << 10 | (uint16_t)(ldexp(fraction, 11) - 1024));
}

UNCHECKED void sim_tensor_load(struct sim_tensor *tensor, const void *bytes) {
  size_t count = sim_tensor_count(tensor);
  for (size_t i = 0; i < count; i++)
    tensor->elements[i] =
        tensor->type == SIM_F16 ? half_value(((const uint16_t *)bytes)[i]) : ((const float *)bytes)[i];
}

UNCHECKED void sim_tensor_store(const struct sim_tensor *tensor, void *bytes) {
  size_t count = sim_tensor_count(tensor);
  for (size_t i = 0; i < count; i++) {
    if (tensor->type == SIM_F16)
      ((uint16_t *)bytes)[i] = half_pattern(tensor->elements[i]);
    else
      ((float *)bytes)[i] = tensor->elements[i];
  }
}

void sim_tensor_fill(struct sim_tensor *y, double value) {
  size_t count = sim_tensor_count(y);
  for (size_t i = 0; i < count; i++)
    y->elements[i] = sim_tensor_round(y->type, value);
}

/* ------------------------------------------------------------------------------------------------- positions ------ */

/* A position in a tensor, which goes through all in row-major order. */
struct position {
  size_t at[SIM_TENSOR_RANK];
};

static void advance(struct position *position, const struct sim_tensor *tensor) {
  for (size_t i = tensor->rank; i-- > 0;) {
    if (++position->at[i] < tensor->sizes[i])
      return;
    position->at[i] = 0;
  }
}

static size_t index_of(const struct position *position, const struct sim_tensor *tensor) {
  size_t index = 0;
  for (size_t i = 0; i < tensor->rank; i++)
    index = index * tensor->sizes[i] + position->at[i];
  return index;
}

/* The position in an operand of what is at `position` in a tensor of at least its rank. */
static struct position broadcast(const struct position *position, size_t rank, const struct sim_tensor *operand) {
  struct position own = {{0}};
  for (size_t i = 0; i < operand->rank; i++)
    own.at[i] = operand->sizes[i] == 1 ? 0 : position->at[rank - operand->rank + i];
  return own;
}

static bool same_shape(const struct sim_tensor *a, const struct sim_tensor *b) {
  return a->rank == b->rank && memcmp(a->sizes, b->sizes, a->rank * sizeof a->sizes[0]) == 0;
}

/* ------------------------------------------------------------------------------------------------- operations ----- */

UNCHECKED void sim_tensor_map(struct sim_tensor *y, sim_function *f, const struct sim_tensor *const *operands,
                              int count) {
  size_t elements = sim_tensor_count(y);
  bool dense[3] = {false, false, false};
  for (int o = 0; o < count; o++)
    dense[o] = same_shape(y, operands[o]);
  struct position position = {{0}};
  for (size_t i = 0; i < elements; i++, advance(&position, y)) {
    double values[3] = {0, 0, 0};
    for (int o = 0; o < count; o++) {
      size_t index = i;
      if (!dense[o]) {
        struct position own = broadcast(&position, y->rank, operands[o]);
        index = index_of(&own, operands[o]);
      }
      values[o] = (double)operands[o]->elements[index];
    }
    y->elements[i] = sim_tensor_round(y->type, f(values[0], values[1], values[2]));
  }
}

UNCHECKED void sim_tensor_reduce(struct sim_tensor *y, enum sim_reduction reduction, const struct sim_tensor *a,
                                 uint32_t axes) {
  sim_tensor_fill(y, reduction == SIM_REDUCE_MAXIMUM ? -INFINITY : 0);
  size_t count = sim_tensor_count(a);
  struct position position = {{0}};
  for (size_t i = 0; i < count; i++, advance(&position, a)) {
    struct position kept = position;
    for (size_t axis = 0; axis < a->rank; axis++)
      kept.at[axis] = axes >> axis & 1 ? 0 : position.at[axis];
    float *result = &y->elements[index_of(&kept, y)];
    if (reduction == SIM_REDUCE_MAXIMUM)
      *result = fmaxf(*result, a->elements[i]);
    else
      *result = sim_tensor_round(y->type, (double)*result + (double)a->elements[i]);
  }
  size_t results = sim_tensor_count(y);
  for (size_t i = 0; reduction == SIM_REDUCE_MEAN && i < results; i++)
    y->elements[i] = sim_tensor_round(y->type, (double)y->elements[i] / (double)(count / results));
}

UNCHECKED void sim_tensor_permute(struct sim_tensor *y, const struct sim_tensor *a, const size_t *permutation) {
  size_t count = sim_tensor_count(y);
  struct position position = {{0}};
  for (size_t i = 0; i < count; i++, advance(&position, y)) {
    struct position from = {{0}};
    for (size_t axis = 0; axis < y->rank; axis++)
      from.at[permutation[axis]] = position.at[axis];
    y->elements[i] = a->elements[index_of(&from, a)];
  }
}

UNCHECKED void sim_tensor_slice(struct sim_tensor *y, const struct sim_tensor *a, const size_t *starts,
                                const size_t *strides) {
  size_t count = sim_tensor_count(y);
  struct position position = {{0}};
  for (size_t i = 0; i < count; i++, advance(&position, y)) {
    struct position from = {{0}};
    for (size_t axis = 0; axis < y->rank; axis++)
      from.at[axis] = starts[axis] + position.at[axis] * strides[axis];
    y->elements[i] = a->elements[index_of(&from, a)];
  }
}

UNCHECKED void sim_tensor_insert(struct sim_tensor *y, const struct sim_tensor *a, size_t dimension, size_t start) {
  size_t count = sim_tensor_count(a);
  struct position position = {{0}};
  for (size_t i = 0; i < count; i++, advance(&position, a)) {
    struct position to = position;
    to.at[dimension] += start;
    y->elements[index_of(&to, y)] = a->elements[i];
  }
}

void sim_tensor_product(struct sim_tensor *y, const struct sim_tensor *a, const struct sim_tensor *b) {
  size_t m = a->sizes[a->rank - 2], k = a->sizes[a->rank - 1], n = b->sizes[b->rank - 1];
  size_t a_batches = sim_tensor_count(a) / (m * k), b_batches = sim_tensor_count(b) / (k * n);
  size_t count = sim_tensor_count(y);
  for (size_t i = 0; i < count / (m * n); i++) {
    struct sim_matrix left = {a->elements + i % a_batches * m * k, m, k, k, 1};
    struct sim_matrix right = {b->elements + i % b_batches * k * n, k, n, n, 1};
    struct sim_matrix result = {y->elements + i * m * n, m, n, n, 1};
    sim_product(left, right, result, 1);
  }
  for (size_t i = 0; i < count; i++)
    y->elements[i] = sim_tensor_round(y->type, (double)y->elements[i]);
}
