/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Chooses the built-in matrix product that this CPU runs best. */
#include "sgemm.h"

#include "sgemm_variants.h"

#if defined(__x86_64__)

static bool has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
}

static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool mst_sgemm(const mst_product *product, const float *a, const float *b, const float *row, float *c) {
  if (has_avx512()) {
    return mst_sgemm_avx512(product, a, b, row, c);
  }
  return has_avx2() ? mst_sgemm_avx2(product, a, b, row, c) : mst_sgemm_baseline(product, a, b, row, c);
}

const char *mst_sgemm_variant(void) {
  return has_avx512() ? "AVX-512" : has_avx2() ? "AVX2" : "SSE2";
}

int64_t mst_sgemm_rows_ahead(void) {
  return has_avx512() ? 4 : has_avx2() ? 1 : 0;
}

#else

int64_t mst_sgemm_rows_ahead(void) {
  return 0;
}

bool mst_sgemm(const mst_product *product, const float *a, const float *b, const float *row, float *c) {
  return mst_sgemm_baseline(product, a, b, row, c);
}

const char *mst_sgemm_variant(void) {
#if defined(__aarch64__)
  return "NEON";
#else
  return "portable";
#endif
}

#endif
