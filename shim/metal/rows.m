/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Operations along axes. MPSGraph's reductions keep the axis that they reduce, with a length of 1: their results go
 * with their operands by broadcasting. */
#include "tensors.h"

static NSInteger last_axis(MPSGraphTensor *a) {
  return (NSInteger)a.shape.count - 1;
}

static MPSGraphTensor *mean_of_rows(MPSGraph *metal, MPSGraphTensor *a) {
  NSNumber *axis = [NSNumber numberWithInteger:last_axis(a)];
  return [metal meanOfTensor:a axes:[NSArray arrayWithObject:axis] name:nil];
}

/* The maximum is taken off first, so that no power exceeds 1 and that of the maximum is 1. What softMaxWithTensor does
 * is said nowhere. */
MPSGraphTensor *mst_tensor_softmax(MPSGraph *metal, MPSGraphTensor *a) {
  NSInteger axis = last_axis(a);
  MPSGraphTensor *most = [metal reductionMaximumWithTensor:a axis:axis name:nil];
  MPSGraphTensor *powers =
      [metal exponentWithTensor:[metal subtractionWithPrimaryTensor:a secondaryTensor:most name:nil] name:nil];
  MPSGraphTensor *sums = [metal reductionSumWithTensor:powers axis:axis name:nil];
  return [metal divisionWithPrimaryTensor:powers secondaryTensor:sums name:nil];
}

/* The mean is that of the differences to a first mean, and the variance that of the differences to the mean: for values
 * that lie close together both are exact, however far from 0 they are. Not normalizationWithTensor with
 * varianceOfTensor: what these make of such values is said nowhere, and others got wrong results from them. */
MPSGraphTensor *mst_tensor_layer_norm(MPSGraph *metal, MPSGraphTensor *a, MPSGraphTensor *gamma, MPSGraphTensor *beta,
                                      float eps) {
  MPSGraphTensor *near = a;
  for (int i = 0; i < 2; i++) {
    near = [metal subtractionWithPrimaryTensor:near secondaryTensor:mean_of_rows(metal, near) name:nil];
  }
  MPSGraphTensor *squares = [metal multiplicationWithPrimaryTensor:near secondaryTensor:near name:nil];
  MPSGraphTensor *variance = mean_of_rows(metal, squares);
  MPSGraphTensor *deviation =
      [metal squareRootWithTensor:[metal additionWithPrimaryTensor:variance
                                                   secondaryTensor:mst_tensor_of(metal, (double)eps, variance)
                                                              name:nil]
                             name:nil];
  MPSGraphTensor *normal = [metal divisionWithPrimaryTensor:near secondaryTensor:deviation name:nil];
  MPSGraphTensor *scaled = [metal multiplicationWithPrimaryTensor:normal secondaryTensor:gamma name:nil];
  return [metal additionWithPrimaryTensor:scaled secondaryTensor:beta name:nil];
}

MPSGraphTensor *mst_tensor_mean(MPSGraph *metal, const mst_node *mean, MPSGraphTensor *a) {
  NSMutableArray<NSNumber *> *axes = [NSMutableArray arrayWithCapacity:MST_MAX_RANK];
  for (int axis = 0; axis < MST_MAX_RANK; axis++) {
    if ((mean->as.axes >> axis & 1) != 0) {
      [axes addObject:[NSNumber numberWithInt:axis]];
    }
  }
  return [metal reshapeTensor:[metal meanOfTensor:a axes:axes name:nil] withShape:mst_shape_of(mean) name:nil];
}
