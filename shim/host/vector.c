/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Chooses the functions over rows that this CPU runs best. */
#include "vector.h"

const mst_vector_kernels *mst_vector(void) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma")) {
    return &mst_vector_avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return &mst_vector_avx2;
  }
#endif
  return &mst_vector_baseline;
}
