/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Walks over tensors that are not dense: broadcasting, copies that rearrange, means; and conversions. */
#include "elementwise.h"

#include <string.h>

/* -------------------------------------------------------------------------------------------------------- walks ---- */

void mst_walk_plan(mst_walk *walk, int32_t rank, const int64_t *dims, const int64_t *a_strides,
                   const int64_t *b_strides) {
  int32_t merged = 0;
  for (int32_t axis = 0; axis < rank; axis++) {
    if (dims[axis] == 1) {
      continue;
    }
    int32_t last = merged - 1;
    if (merged > 0 && walk->a_strides[last] == a_strides[axis] * dims[axis] &&
        walk->b_strides[last] == b_strides[axis] * dims[axis]) {
      walk->dims[last] *= dims[axis];
    } else {
      last = merged++;
      walk->dims[last] = dims[axis];
    }
    walk->a_strides[last] = a_strides[axis];
    walk->b_strides[last] = b_strides[axis];
  }
  if (merged == 0) {
    walk->dims[0] = 1;
    walk->a_strides[0] = 0;
    walk->b_strides[0] = 0;
    merged = 1;
  }
  walk->rank = merged;
}

/* Moves on by one in the dimensions before the last. False at the end. */
static bool next_row(const mst_walk *walk, int64_t *index, int64_t *a, int64_t *b) {
  for (int32_t axis = walk->rank - 2; axis >= 0; axis--) {
    *a += walk->a_strides[axis];
    *b += walk->b_strides[axis];
    if (++index[axis] < walk->dims[axis]) {
      return true;
    }
    *a -= walk->a_strides[axis] * walk->dims[axis];
    *b -= walk->b_strides[axis] * walk->dims[axis];
    index[axis] = 0;
  }
  return false;
}

void mst_walk_binary(const mst_walk *walk, enum mst_binary operation, const float *a, const float *b, float *out) {
  mst_binary_row *row = mst_vector()->binary[operation];
  const int32_t inner = walk->rank - 1;
  const int64_t count = walk->dims[inner];
  int64_t index[MST_MAX_RANK] = {0};
  int64_t a_at = 0;
  int64_t b_at = 0;
  do {
    row(a + a_at, walk->a_strides[inner], b + b_at, walk->b_strides[inner], out, count);
    out += count;
  } while (next_row(walk, index, &a_at, &b_at));
}

void mst_walk_copy(const mst_walk *walk, const float *a, float *b) {
  const int32_t inner = walk->rank - 1;
  const int64_t count = walk->dims[inner];
  const int64_t a_stride = walk->a_strides[inner];
  const int64_t b_stride = walk->b_strides[inner];
  const bool dense = a_stride == 1 && b_stride == 1;
  int64_t index[MST_MAX_RANK] = {0};
  int64_t a_at = 0;
  int64_t b_at = 0;
  do {
    const float *from = a + a_at;
    float *to = b + b_at;
    if (dense) {
      memcpy(to, from, (size_t)count * sizeof(float));
    } else {
      for (int64_t i = 0; i < count; i++) {
        to[i * b_stride] = from[i * a_stride];
      }
    }
  } while (next_row(walk, index, &a_at, &b_at));
}

/* --------------------------------------------------------------------------------------------------------- mean ---- */

void mst_mean_prepare(mst_mean_plan *plan, int32_t rank, const int64_t *dims, uint32_t axes) {
  int32_t merged = 0;
  for (int32_t axis = 0; axis < rank; axis++) {
    const bool reduced = (axes >> axis & 1) != 0;
    if (dims[axis] == 1) {
      continue;
    }
    if (merged > 0 && plan->reduced[merged - 1] == reduced) {
      plan->dims[merged - 1] *= dims[axis];
    } else {
      plan->dims[merged] = dims[axis];
      plan->reduced[merged++] = reduced;
    }
  }
  if (merged == 0) {
    plan->dims[0] = 1;
    plan->reduced[0] = true;
    merged = 1;
  }
  plan->rank = merged;
  int64_t stride = 1;
  for (int32_t axis = merged - 1; axis >= 0; axis--) {
    plan->strides[axis] = stride;
    stride *= plan->dims[axis];
  }
}

/* Moves on in the dimensions [0, end) of one kind. False at the end. */
static bool next_of_kind(const mst_mean_plan *plan, bool reduced, int32_t end, int64_t *index, int64_t *at) {
  for (int32_t axis = end - 1; axis >= 0; axis--) {
    if (plan->reduced[axis] != reduced) {
      continue;
    }
    *at += plan->strides[axis];
    if (++index[axis] < plan->dims[axis]) {
      return true;
    }
    *at -= plan->strides[axis] * plan->dims[axis];
    index[axis] = 0;
  }
  return false;
}

void mst_mean(const mst_mean_plan *plan, const float *in, float *out) {
  /* Sums are kept in double precision, for a block of neighbouring results if the last dimension is kept. */
  enum { BLOCK = 128 };
  const int32_t inner = plan->rank - 1;
  const int64_t columns = plan->dims[inner];
  double count = 1;
  for (int32_t axis = 0; axis < plan->rank; axis++) {
    count *= plan->reduced[axis] ? (double)plan->dims[axis] : 1.0;
  }
  int64_t kept_index[MST_MAX_RANK] = {0};
  int64_t kept_at = 0;
  do {
    if (plan->reduced[inner]) {
      int64_t index[MST_MAX_RANK] = {0};
      int64_t at = kept_at;
      double sum = 0;
      do {
        for (int64_t i = 0; i < columns; i++) {
          sum += in[at + i];
        }
      } while (next_of_kind(plan, true, inner, index, &at));
      *out++ = (float)(sum / count);
      continue;
    }
    for (int64_t first = 0; first < columns; first += BLOCK) {
      const int64_t width = columns - first < BLOCK ? columns - first : BLOCK;
      int64_t index[MST_MAX_RANK] = {0};
      int64_t at = kept_at + first;
      double sums[BLOCK] = {0};
      do {
        for (int64_t i = 0; i < width; i++) {
          sums[i] += in[at + i];
        }
      } while (next_of_kind(plan, true, inner, index, &at));
      for (int64_t i = 0; i < width; i++) {
        *out++ = (float)(sums[i] / count);
      }
    }
  } while (next_of_kind(plan, false, inner, kept_index, &kept_at));
}

/* ----------------------------------------------------------------------------------------------------- binary16 ---- */

static float widened(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
  const uint32_t rest = half & 0x7fffu;
  float size;
  if (rest >= 0x7c00u) {
    const uint32_t special = 0x7f800000u | rest << 13; /* infinity or NaN */
    memcpy(&size, &special, sizeof(size));
  } else {
    /* As a binary32 its exponent is 112 too small; the product is exact, for subnormal numbers, too. */
    const uint32_t shifted = rest << 13;
    memcpy(&size, &shifted, sizeof(size));
    size *= 0x1p112f;
  }
  uint32_t bits;
  memcpy(&bits, &size, sizeof(bits));
  bits |= sign;
  memcpy(&size, &bits, sizeof(size));
  return size;
}

static uint16_t narrowed(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = bits >> 16 & 0x8000u;
  uint32_t size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) {
    return (uint16_t)(sign | 0x7e00u | (size >> 13 & 0x1ffu)); /* NaN, quiet */
  }
  if (size >= 0x477ff000u) {
    return (uint16_t)(sign | 0x7c00u); /* from 65520 on, infinity */
  }
  if (size < 0x38800000u) {
    /* Subnormal: adding 0.5 leaves a multiple of 2^-24, rounded as it must be, in the lowest bits. */
    float shifted;
    memcpy(&shifted, &size, sizeof(shifted));
    shifted += 0.5f;
    memcpy(&size, &shifted, sizeof(size));
    return (uint16_t)(sign | (size - 0x3f000000u));
  }
  size += 0xfffu + (size >> 13 & 1u); /* to nearest, ties to even */
  return (uint16_t)(sign | (size - 0x38000000u) >> 13);
}

void mst_widen(const uint16_t *in, float *out, int64_t elements) {
  for (int64_t i = 0; i < elements; i++) {
    out[i] = widened(in[i]);
  }
}

void mst_narrow(const float *in, uint16_t *out, int64_t elements) {
  for (int64_t i = 0; i < elements; i++) {
    out[i] = narrowed(in[i]);
  }
}

void mst_round_to_f16(const float *in, float *out, int64_t elements) {
  for (int64_t i = 0; i < elements; i++) {
    out[i] = widened(narrowed(in[i]));
  }
}
