/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Operations element by element.
 *
 * Nothing tells what MPSGraph's own functions make of NaN and infinities, and some of those of the Metal Shading
 * Language are known to overflow. So NaN is carried by selections, for which it is neither less nor greater than
 * anything, and a function gets no argument for which it or what follows could overflow. */
#include "tensors.h"

/* exp(-FAR) is 0 in binary32. */
static const double FAR = 120.0;

/* tanh(STEEP) is 1 in binary32. */
static const double STEEP = 20.0;

MPSGraphTensor *mst_tensor_of(MPSGraph *metal, double value, MPSGraphTensor *like) {
  return [metal constantWithScalar:value shape:like.shape dataType:MPSDataTypeFloat32];
}

static MPSGraphTensor *plus(MPSGraph *metal, MPSGraphTensor *a, MPSGraphTensor *b) {
  return [metal additionWithPrimaryTensor:a secondaryTensor:b name:nil];
}

static MPSGraphTensor *minus(MPSGraph *metal, MPSGraphTensor *a, MPSGraphTensor *b) {
  return [metal subtractionWithPrimaryTensor:a secondaryTensor:b name:nil];
}

static MPSGraphTensor *times(MPSGraph *metal, MPSGraphTensor *a, MPSGraphTensor *b) {
  return [metal multiplicationWithPrimaryTensor:a secondaryTensor:b name:nil];
}

static MPSGraphTensor *divided(MPSGraph *metal, MPSGraphTensor *a, MPSGraphTensor *b) {
  return [metal divisionWithPrimaryTensor:a secondaryTensor:b name:nil];
}

static MPSGraphTensor *scaled(MPSGraph *metal, double factor, MPSGraphTensor *a) {
  return times(metal, a, mst_tensor_of(metal, factor, a));
}

/* max(a, least); NaN stays. */
static MPSGraphTensor *at_least(MPSGraph *metal, double least, MPSGraphTensor *a) {
  MPSGraphTensor *bound = mst_tensor_of(metal, least, a);
  return [metal selectWithPredicateTensor:[metal lessThanWithPrimaryTensor:a secondaryTensor:bound name:nil]
                      truePredicateTensor:bound
                     falsePredicateTensor:a
                                     name:nil];
}

/* min(a, most); NaN stays. */
static MPSGraphTensor *at_most(MPSGraph *metal, double most, MPSGraphTensor *a) {
  MPSGraphTensor *bound = mst_tensor_of(metal, most, a);
  return [metal selectWithPredicateTensor:[metal greaterThanWithPrimaryTensor:a secondaryTensor:bound name:nil]
                      truePredicateTensor:bound
                     falsePredicateTensor:a
                                     name:nil];
}

/* |a|, and no more than FAR. */
static MPSGraphTensor *size_of(MPSGraph *metal, MPSGraphTensor *a) {
  return at_most(metal, FAR, [metal absoluteWithTensor:a name:nil]);
}

/* exp(factor * a) */
static MPSGraphTensor *power(MPSGraph *metal, double factor, MPSGraphTensor *a) {
  return [metal exponentWithTensor:scaled(metal, factor, a) name:nil];
}

/* 1 / (1 + p) for a >= 0, p / (1 + p) below, with p = exp(-|a|). */
static MPSGraphTensor *sigmoid(MPSGraph *metal, MPSGraphTensor *a) {
  MPSGraphTensor *one = mst_tensor_of(metal, 1, a);
  MPSGraphTensor *zero = mst_tensor_of(metal, 0, a);
  MPSGraphTensor *p = power(metal, -1, size_of(metal, a));
  MPSGraphTensor *above = [metal selectWithPredicateTensor:[metal lessThanWithPrimaryTensor:a
                                                                            secondaryTensor:zero
                                                                                       name:nil]
                                       truePredicateTensor:p
                                      falsePredicateTensor:one
                                                      name:nil];
  return divided(metal, above, plus(metal, one, p));
}

static MPSGraphTensor *hyperbolic_tangent(MPSGraph *metal, MPSGraphTensor *a) {
  return [metal tanhWithTensor:at_least(metal, -STEEP, at_most(metal, STEEP, a)) name:nil];
}

/* Both forms of GELU are odd around the line a / 2: gelu(a) = max(a, 0) - t * Q(t) with t = |a| and Q the part of the
 * distribution beyond t. Q is computed as such: 1 - Phi(t) would leave nothing of it where Phi is almost 1. */
static MPSGraphTensor *gelu(MPSGraph *metal, MPSGraphTensor *a, MPSGraphTensor *size, MPSGraphTensor *beyond) {
  return minus(metal, at_least(metal, 0, a), times(metal, size, beyond));
}

/* exp(-t^2 / 2) times a polynomial in 1 / (1 + 0.3 t), whose coefficients were fitted to the relative error. The same
 * as the host shim's: see vector_kernel.h. */
static MPSGraphTensor *normal_tail(MPSGraph *metal, MPSGraphTensor *size) {
  static const double COEFFICIENTS[] = {-0.0200194678, 0.108888769,  -0.219084319,  0.178248619,
                                        -0.0666475523, 0.0881531028, 0.0817529069,  0.109301228,
                                        0.119735684,   0.11967032,   7.06684637e-07};
  MPSGraphTensor *one = mst_tensor_of(metal, 1, size);
  MPSGraphTensor *s = divided(metal, one, plus(metal, one, scaled(metal, 0.3, size)));
  MPSGraphTensor *sum = mst_tensor_of(metal, COEFFICIENTS[0], size);
  for (size_t i = 1; i < sizeof(COEFFICIENTS) / sizeof(COEFFICIENTS[0]); i++) {
    sum = plus(metal, times(metal, sum, s), mst_tensor_of(metal, COEFFICIENTS[i], size));
  }
  return times(metal, sum, power(metal, -0.5, times(metal, size, size)));
}

/* (1 - tanh(u)) / 2 = p / (1 + p) with p = exp(-2u), u = sqrt(2 / pi) (t + 0.044715 t^3) */
static MPSGraphTensor *tanh_tail(MPSGraph *metal, MPSGraphTensor *size) {
  static const double TWICE = 2 * 0.7978845608028654;
  MPSGraphTensor *square = times(metal, size, size);
  MPSGraphTensor *u = times(metal, size, plus(metal, scaled(metal, 0.044715, square), mst_tensor_of(metal, 1, size)));
  MPSGraphTensor *p = power(metal, -TWICE, u);
  return divided(metal, p, plus(metal, mst_tensor_of(metal, 1, size), p));
}

MPSGraphTensor *mst_tensor_unary(MPSGraph *metal, enum mst_unary operation, MPSGraphTensor *a) {
  MPSGraphTensor *size = nil;
  switch (operation) {
    case MST_UNARY_SIGMOID:
      return sigmoid(metal, a);
    case MST_UNARY_TANH:
      return hyperbolic_tangent(metal, a);
    case MST_UNARY_GELU_ERF:
      size = size_of(metal, a);
      return gelu(metal, a, size, normal_tail(metal, size));
    case MST_UNARY_GELU_TANH:
      size = size_of(metal, a);
      return gelu(metal, a, size, tanh_tail(metal, size));
    default:
      return at_least(metal, 0, a); /* ReLU */
  }
}

MPSGraphTensor *mst_tensor_binary(MPSGraph *metal, enum mst_binary operation, MPSGraphTensor *a, MPSGraphTensor *b) {
  switch (operation) {
    case MST_BINARY_ADD:
      return plus(metal, a, b);
    case MST_BINARY_SUBTRACT:
      return minus(metal, a, b);
    case MST_BINARY_MULTIPLY:
      return times(metal, a, b);
    default:
      return divided(metal, a, b);
  }
}
