/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Functions over rows for one instruction set. Included by a source file that is compiled for that set and defines
 *   MST_VECTOR_KERNELS  the name of the table
 *   MST_VECTOR          floats in a vector
 *
 * The last, partial vector of a row is computed like the others, with lanes to spare, so that an element's bits do not
 * depend on where it lies. The polynomials are minimax fits of this project, made in double precision; what they
 * approximate and how well stands with each. */
#include <math.h>
#include <stdbool.h>

#include "lanes.h"
#include "vector.h"

enum { SHORT_ROWS = 4 };

typedef int32_t lanes __attribute__((vector_size(MST_VECTOR * sizeof(int32_t))));
typedef uint32_t bits __attribute__((vector_size(MST_VECTOR * sizeof(uint32_t))));

/* yes where a lane of the condition is set, else no. */
INLINE vector choose(lanes condition, vector yes, vector no) {
  return (vector)((condition & (lanes)yes) | (~condition & (lanes)no));
}

/* The lanes from `count` on replaced. */
INLINE vector pad(vector values, int64_t count, float padding) {
  lanes index;
  for (int i = 0; i < MST_VECTOR; i++) {
    index[i] = i;
  }
  return choose(index < (lanes){0} + (int32_t)count, values, every(padding));
}

/* Of NaN and a number, either. */
INLINE vector greater_of(vector a, vector b) {
  return choose(a > b, a, b);
}

/* The greatest lane; if one is NaN, any. */
INLINE float greatest_of(vector values) {
#if MST_HAS_MASKS
#if defined(__AVX512F__)
  const __m512 all = (__m512)values;
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1));
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(all), high);
#else
  const __m256 eight = (__m256)values;
#endif
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
  float lane[MST_VECTOR];
  memcpy(lane, &values, sizeof(lane));
#pragma GCC unroll 8
  for (int half = MST_VECTOR / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    }
  }
  return lane[0];
#endif
}

/* ------------------------------------------------------------------------------------------------- functions ------- */

/* exp(x) = 2^n exp(r), n whole and |r| <= ln(2) / 2. exp(r) = 1 + r + r^2 P(r), P within 2^-28 of it. */
INLINE vector exp_of(vector x) {
  x = choose(x < every(-104.0f), every(-104.0f), x); /* 0 from here on */
  x = choose(x > every(89.0f), every(89.0f), x);     /* infinity from here on */
  /* Adding 1.5 * 2^23 rounds to a whole number, and leaves it in the lowest bits. */
  const vector rounder = every(12582912.0f);
  const vector shifted = x * 1.44269504f + rounder;
  const vector whole = shifted - rounder;
  const lanes n = (lanes)((bits)shifted - (bits)rounder);
  vector r = x - whole * 0.693145752f; /* ln(2) in two parts, the first of few bits */
  r = r - whole * 1.42860677e-6f;
  vector p = r * 0.00139504892f + 0.0083688898f;
  p = p * r + 0.0416662060f;
  p = p * r + 0.166665182f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  /* In two factors, since 2^n alone may not be a float while the result is one. */
  const lanes half = n >> 1;
  const bits first = ((bits)half + 127) << 23;
  const bits second = ((bits)(n - half) + 127) << 23;
  return p * (vector)first * (vector)second;
}

INLINE vector relu_of(vector x) {
  return choose(x < every(0.0f), every(0.0f), x);
}

INLINE vector sigmoid_of(vector x) {
  return 1.0f / (1.0f + exp_of(-x));
}

/* Near 0, x + x^3 P(x^2) with P within 2^-27 of it; else by the exponential function. */
INLINE vector tanh_of(vector x) {
  const vector size = (vector)((bits)x & 0x7fffffff);
  const vector square = x * x;
  vector p = square * -0.0056039053f + 0.0205517113f;
  p = p * square + -0.053714104f;
  p = p * square + 0.133311525f;
  p = p * square + -0.333332717f;
  const vector near = x + x * square * p;
  const vector far = 1.0f - 2.0f / (exp_of(size + size) + 1.0f);
  const vector signed_far = (vector)((bits)far | ((bits)x & 0x80000000u));
  return choose(size < every(0.625f), near, signed_far);
}

/* x Phi(x). Phi(-t) = exp(-t^2 / 2) Q(1 / (1 + 0.3 t)) for t >= 0, Q within 2^-28 of it up to where Phi is 0; the
 * other half by symmetry. So small values of Phi are as exact as large ones. */
INLINE vector gelu_erf_of(vector x) {
  const vector size = (vector)((bits)x & 0x7fffffff);
  const vector s = 1.0f / (size * 0.3f + 1.0f);
  vector q = s * -0.0200194678f + 0.108888769f;
  q = q * s + -0.219084319f;
  q = q * s + 0.178248619f;
  q = q * s + -0.0666475523f;
  q = q * s + 0.0881531028f;
  q = q * s + 0.0817529069f;
  q = q * s + 0.109301228f;
  q = q * s + 0.119735684f;
  q = q * s + 0.11967032f;
  q = q * s + 7.06684637e-07f;
  const vector tail = q * exp_of(size * size * -0.5f);
  /* Beyond 15 the tail is 0, which does not go well with infinity. */
  const vector below = choose(x < every(-15.0f), every(-0.0f), x * tail);
  const vector above = choose(x > every(15.0f), x, x - x * tail);
  return choose(x < every(0.0f), below, above);
}

/* x / 2 (1 + tanh(u)) = x / (1 + exp(-2u)) */
INLINE vector gelu_tanh_of(vector x) {
  const vector twice = x * (x * x * (2 * 0.797884561f * 0.044715f) + 2 * 0.797884561f);
  return choose(x < every(-15.0f), every(-0.0f), x / (1.0f + exp_of(-twice)));
}

#define MST_DEFINE_UNARY(function)                                                 \
  static void function##_row(const float *in, float *out, int64_t count) {         \
    int64_t i = 0;                                                                 \
    for (; i + MST_VECTOR <= count; i += MST_VECTOR) {                             \
      store(out + i, function##_of(load(in + i)));                                 \
    }                                                                              \
    if (i < count) {                                                               \
      store_part(out + i, function##_of(load_part(in + i, count - i)), count - i); \
    }                                                                              \
  }
MST_DEFINE_UNARY(relu)
MST_DEFINE_UNARY(sigmoid)
MST_DEFINE_UNARY(tanh)
MST_DEFINE_UNARY(gelu_erf)
MST_DEFINE_UNARY(gelu_tanh)

/* ---------------------------------------------------------------------------------------------- two operands ------- */

#define MST_DEFINE_BINARY(name, operator)                                                                \
  static void name##_row(const float *a, int64_t a_stride, const float *b, int64_t b_stride, float *out, \
                         int64_t count) {                                                                \
    const vector a_all = every(*a);                                                                      \
    const vector b_all = every(*b);                                                                      \
    int64_t i = 0;                                                                                       \
    if (a_stride != 0 && b_stride != 0) {                                                                \
      for (; i + MST_VECTOR <= count; i += MST_VECTOR) {                                                 \
        store(out + i, load(a + i) operator load(b + i));                                                \
      }                                                                                                  \
    } else if (a_stride != 0) {                                                                          \
      for (; i + MST_VECTOR <= count; i += MST_VECTOR) {                                                 \
        store(out + i, load(a + i) operator b_all);                                                      \
      }                                                                                                  \
    } else {                                                                                             \
      for (; i + MST_VECTOR <= count; i += MST_VECTOR) {                                                 \
        store(out + i, a_all operator(b_stride != 0 ? load(b + i) : b_all));                             \
      }                                                                                                  \
    }                                                                                                    \
    if (i < count) {                                                                                     \
      const int64_t rest = count - i;                                                                    \
      const vector a_rest = a_stride != 0 ? load_part(a + i, rest) : a_all;                              \
      const vector b_rest = b_stride != 0 ? load_part(b + i, rest) : b_all;                              \
      store_part(out + i, a_rest operator b_rest, rest);                                                 \
    }                                                                                                    \
  }
MST_DEFINE_BINARY(add, +)
MST_DEFINE_BINARY(subtract, -)
MST_DEFINE_BINARY(multiply, *)
MST_DEFINE_BINARY(divide, /)

/* --------------------------------------------------------------------------------------------------- rows ---------- */

/* Rows that fit into a vector, some at once: the steps of one row wait for each other, those of different rows do not. A
 * row with NaN in it is all NaN, whatever its greatest element is taken to be, since the sum of its powers is. */
INLINE void softmax_short_rows(const float *in, float *out, int64_t columns, const int rows) {
  vector x[SHORT_ROWS];
  for (int row = 0; row < rows; row++) {
    x[row] = pad(load_part(in + row * columns, columns), columns, -INFINITY);
  }
  for (int row = 0; row < rows; row++) {
    /* The lanes to spare get a harmless exponent: multiplying to a subnormal number takes very long. */
    const vector exponent = pad(x[row] - greatest_of(x[row]), columns, 0.0f);
    const vector power = pad(exp_of(exponent), columns, 0.0f);
    x[row] = power * every(1.0f / sum_of(power));
  }
  for (int row = 0; row < rows; row++) {
    store_part(out + row * columns, x[row], columns);
  }
}

static void softmax_rows(const float *in, float *out, int64_t rows, int64_t columns) {
  const int64_t whole = columns / MST_VECTOR * MST_VECTOR;
  const int64_t rest = columns - whole;
  if (columns <= MST_VECTOR) {
    for (; rows >= SHORT_ROWS; rows -= SHORT_ROWS, in += SHORT_ROWS * columns, out += SHORT_ROWS * columns) {
      softmax_short_rows(in, out, columns, SHORT_ROWS);
    }
    for (; rows > 0; rows--, in += columns, out += columns) {
      softmax_short_rows(in, out, columns, 1);
    }
    return;
  }
  for (int64_t row = 0; row < rows; row++, in += columns, out += columns) {
    vector greatest = every(-INFINITY);
    for (int64_t i = 0; i < whole; i += MST_VECTOR) {
      greatest = greater_of(greatest, load(in + i));
    }
    if (rest > 0) {
      greatest = greater_of(greatest, pad(load_part(in + whole, rest), rest, -INFINITY));
    }
    const vector top = every(greatest_of(greatest));
    vector sums = {0};
    for (int64_t i = 0; i < whole; i += MST_VECTOR) {
      const vector power = exp_of(load(in + i) - top);
      sums += power;
      store(out + i, power);
    }
    if (rest > 0) {
      const vector power = pad(exp_of(load_part(in + whole, rest) - top), rest, 0.0f);
      sums += power;
      store_part(out + whole, power, rest);
    }
    const vector scale = every(1.0f / sum_of(sums));
    for (int64_t i = 0; i < whole; i += MST_VECTOR) {
      store(out + i, load(out + i) * scale);
    }
    if (rest > 0) {
      store_part(out + whole, load_part(out + whole, rest) * scale, rest);
    }
  }
}

/* The mean is taken of the differences to the row's first element, and the variance of the differences to the mean: for
 * values that lie close together both are exact, however far from 0 they are. */
static void layer_norm_rows(const float *in, const float *gamma, const float *beta, float eps, float *out, int64_t rows,
                            int64_t columns) {
  const int64_t whole = columns / MST_VECTOR * MST_VECTOR;
  const int64_t rest = columns - whole;
  for (int64_t row = 0; row < rows; row++, in += columns, out += columns) {
    const vector base = every(*in);
    vector sums = {0};
    for (int64_t i = 0; i < whole; i += MST_VECTOR) {
      sums += load(in + i) - base;
    }
    if (rest > 0) {
      sums += pad(load_part(in + whole, rest) - base, rest, 0.0f);
    }
    const vector mean = every(sum_of(sums) / (float)columns);
    vector squares = {0};
    for (int64_t i = 0; i < whole; i += MST_VECTOR) {
      const vector difference = load(in + i) - base - mean;
      squares += difference * difference;
    }
    if (rest > 0) {
      const vector difference = pad(load_part(in + whole, rest) - base - mean, rest, 0.0f);
      squares += difference * difference;
    }
    const vector scale = every(1.0f / sqrtf(sum_of(squares) / (float)columns + eps));
    for (int64_t i = 0; i < whole; i += MST_VECTOR) {
      store(out + i, (load(in + i) - base - mean) * scale * load(gamma + i) + load(beta + i));
    }
    if (rest > 0) {
      const vector difference = load_part(in + whole, rest) - base - mean;
      store_part(out + whole, difference * scale * load_part(gamma + whole, rest) + load_part(beta + whole, rest),
                 rest);
    }
  }
}

const mst_vector_kernels MST_VECTOR_KERNELS = {
    .unary = {relu_row, sigmoid_row, tanh_row, gelu_erf_row, gelu_tanh_row},
    .binary = {add_row, subtract_row, multiply_row, divide_row},
    .softmax = softmax_rows,
    .layer_norm = layer_norm_rows,
};
