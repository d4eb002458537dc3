/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_HOST_LANES_H
#define MST_HOST_LANES_H

/* A vector of floats of one instruction set, and parts of one. Included after MST_VECTOR, the floats in a vector, is
 * defined. */
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
/* Parts of a vector are as cheap as whole ones. */
#define MST_HAS_MASKS 1
#else
#define MST_HAS_MASKS 0
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(MST_VECTOR * sizeof(float))));

INLINE vector every(float value) {
  return (vector){0} + value;
}

INLINE vector load(const float *from) {
  vector loaded;
  memcpy(&loaded, from, sizeof(loaded));
  return loaded;
}

INLINE void store(float *to, vector stored) {
  memcpy(to, &stored, sizeof(stored));
}

/* The first `count` <= MST_VECTOR elements; the other lanes are 0. */
INLINE vector load_part(const float *from, int64_t count) {
#if defined(__AVX512F__)
  return (vector)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#elif defined(__AVX2__)
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (vector)_mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), index));
#else
  vector loaded = {0};
  for (int64_t i = 0; i < count; i++) {
    loaded[i] = from[i];
  }
  return loaded;
#endif
}

INLINE void store_part(float *to, vector stored, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)stored);
#elif defined(__AVX2__)
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), index), (__m256)stored);
#else
  for (int64_t i = 0; i < count; i++) {
    to[i] = stored[i];
  }
#endif
}

/* The sum of the lanes, by halves. */
INLINE float sum_of(vector values) {
#if defined(__AVX512F__)
  const __m512 all = (__m512)values;
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1));
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(all), high);
#elif defined(__AVX2__)
  const __m256 eight = (__m256)values;
#endif
#if MST_HAS_MASKS
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
  float lane[MST_VECTOR];
  memcpy(lane, &values, sizeof(lane));
#pragma GCC unroll 8
  for (int half = MST_VECTOR / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      lane[i] += lane[i + half];
    }
  }
  return lane[0];
#endif
}

#endif
