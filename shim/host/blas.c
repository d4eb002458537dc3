/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Which library computes matrix products. */
#include "blas.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/error.h"
#include "sgemm.h"

/* Values of the CBLAS interface. */
enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };

static void use_builtin(mst_blas *blas) {
  blas->library = NULL;
  blas->sgemm = NULL;
  blas->builtin_rows = 0;
  snprintf(blas->name, sizeof(blas->name), "built-in C kernel (%s)", mst_sgemm_variant());
}

/* A function of the library, through memcpy because ISO C has no cast from an object to a function pointer. */
static void find(void *library, const char *name, void *out_function, size_t size) {
  void *address = dlsym(library, name);
  memcpy(out_function, &address, size);
}

/* Loads a library. If it misses others that a Fortran compiler brings and that lie beside it, loads those first: they
 * find each other by name then, whatever search path they were built with. */
static void *load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const char *slash = strrchr(path, '/');
  if (library != NULL || slash == NULL) {
    return library;
  }
  const char *companions[] = {"libgcc_s.so.1", "libquadmath.so.0", "libgfortran.so.5"};
  for (size_t i = 0; i < sizeof(companions) / sizeof(companions[0]); i++) {
    char beside[4096];
    int length = snprintf(beside, sizeof(beside), "%.*s/%s", (int)(slash - path), path, companions[i]);
    if (length > 0 && (size_t)length < sizeof(beside)) {
      dlopen(beside, RTLD_NOW | RTLD_LOCAL);
    }
  }
  return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

int32_t mst_blas_open(mst_blas *blas, const char *path) {
  if (path != NULL && strcmp(path, "builtin") == 0) {
    use_builtin(blas);
    return MST_OK;
  }
  bool system = path == NULL;
  if (system) {
#if defined(__APPLE__)
    path = "/System/Library/Frameworks/Accelerate.framework/Accelerate";
#else
    use_builtin(blas);
    return MST_OK;
#endif
  }
  void *library = load(path);
  if (library == NULL) {
    if (system) {
      use_builtin(blas);
      return MST_OK;
    }
    const char *why = dlerror();
    return mst_error(MST_ERROR_INVALID_ARGUMENT, "mst_device_open", "cannot load the math library %s: %s", path,
                     why != NULL ? why : "no reason given");
  }
  find(library, "cblas_sgemm", &blas->sgemm, sizeof(blas->sgemm));
  if (blas->sgemm == NULL) {
    dlclose(library);
    return mst_error(MST_ERROR_INVALID_ARGUMENT, "mst_device_open", "the math library %s has no cblas_sgemm", path);
  }
  blas->library = library;

  /* Parallelism is the queues' business: a product is computed by the thread that runs its queue. */
  void (*set_num_threads)(int) = NULL;
  find(library, "openblas_set_num_threads", &set_num_threads, sizeof(set_num_threads));
  char *(*get_config)(void) = NULL;
  find(library, "openblas_get_config", &get_config, sizeof(get_config));
  if (set_num_threads != NULL) {
    set_num_threads(1);
    blas->builtin_rows = mst_sgemm_rows_ahead();
    int length = snprintf(blas->name, sizeof(blas->name), "%s, 1 thread per call",
                          get_config != NULL ? get_config() : "OpenBLAS");
    if (blas->builtin_rows > 0 && length > 0 && (size_t)length < sizeof(blas->name)) {
      snprintf(blas->name + length, sizeof(blas->name) - (size_t)length, "; small products: built-in (%s)",
               mst_sgemm_variant());
    }
  } else {
    const char *slash = strrchr(path, '/');
    snprintf(blas->name, sizeof(blas->name), "%s", slash != NULL ? slash + 1 : path);
  }
  return MST_OK;
}

void mst_blas_close(mst_blas *blas) {
  /* The library stays loaded: a BLAS has threads and thread-local state of its own, which an unload would pull away. */
  blas->library = NULL;
}

/* Whether the built-in kernel is the faster one, as it was measured beside OpenBLAS 0.3.31 with AVX-512 and AVX2. A larger
 * transposed b has to be packed anew for each product, and large products are what OpenBLAS is made for. */
static bool is_builtin(const mst_blas *blas, const mst_product *product) {
  const int64_t large = 256 * 256 * 256;
  const int64_t large_transposed = 64 * 64;
  return blas->builtin_rows > 0 && product->m >= blas->builtin_rows && !product->transpose_a &&
         product->n <= large / product->k && product->n * product->k <= large / product->m &&
         (!product->transpose_b || product->n * product->k <= large_transposed);
}

bool mst_blas_multiply(const mst_blas *blas, const mst_product *product, const float *a, const float *b,
                       const float *row, float *c) {
  bool fits = product->m <= INT_MAX && product->n <= INT_MAX && product->k <= INT_MAX && product->a_stride <= INT_MAX &&
              product->b_stride <= INT_MAX && product->c_stride <= INT_MAX;
  if (blas->sgemm == NULL || !fits || is_builtin(blas, product)) {
    return mst_sgemm(product, a, b, row, c);
  }
  for (int64_t i = 0; row != NULL && i < product->m; i++) {
    memcpy(c + i * product->c_stride, row, (size_t)product->n * sizeof(float));
  }
  blas->sgemm(ROW_MAJOR, product->transpose_a ? TRANSPOSE : NO_TRANSPOSE,
              product->transpose_b ? TRANSPOSE : NO_TRANSPOSE, (int)product->m, (int)product->n, (int)product->k, 1.0f,
              a, (int)product->a_stride, b, (int)product->b_stride, row != NULL ? 1.0f : 0.0f, c,
              (int)product->c_stride);
  return true;
}
