/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#define MST_VECTOR_KERNELS mst_vector_avx512
#define MST_VECTOR 16
#include "vector_kernel.h"
