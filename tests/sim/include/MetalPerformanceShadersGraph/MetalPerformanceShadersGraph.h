/*
 * Simulated Metal: the part of MPSGraph that the Metal shim uses, declared for Linux.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SIM_METAL_PERFORMANCE_SHADERS_GRAPH_H
#define SIM_METAL_PERFORMANCE_SHADERS_GRAPH_H

#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

@class MPSGraph, MPSGraphTensor, MPSGraphTensorData, MPSGraphExecutable, MPSGraphOperation;

typedef NSDictionary MPSGraphTensorDataDictionary;
typedef NSDictionary MPSGraphTensorShapedTypeDictionary;
typedef void (^MPSGraphExecutableCompletionHandler)(NSArray *, NSError *);
typedef void (^MPSGraphExecutableScheduledHandler)(NSArray *, NSError *);

typedef NS_OPTIONS(NSUInteger, MPSGraphOptions) {
  MPSGraphOptionsNone = 0,
  MPSGraphOptionsSynchronizeResults = 1,
  MPSGraphOptionsVerbose = 2,
  MPSGraphOptionsDefault = 1,
};

typedef NS_ENUM(NSUInteger, MPSGraphOptimization) {
  MPSGraphOptimizationLevel0 = 0,
  MPSGraphOptimizationLevel1 = 1,
};

@interface MPSGraphObject : SimObject
@end

@interface MPSGraphDevice : MPSGraphObject {
  id<MTLDevice> _metalDevice;
}
@property(nonatomic, readonly) id<MTLDevice> metalDevice;
+ (instancetype)deviceWithMTLDevice:(id<MTLDevice>)metalDevice;
@end

@interface MPSGraphType : MPSGraphObject
@end

@interface MPSGraphShapedType : MPSGraphType {
  MPSShape *_shape;
  MPSDataType _dataType;
}
@property(atomic, copy, readwrite) MPSShape *shape;
@property(atomic, readwrite) MPSDataType dataType;
- (instancetype)initWithShape:(MPSShape *)shape dataType:(MPSDataType)dataType;
@end

/* Belongs to its graph, which owns it; a copy is a reference. */
@interface MPSGraphTensor : MPSGraphObject <NSCopying> {
 @public
  MPSGraph *_graph; /* not retained; nil once the graph is gone */
  int _index;
  MPSShape *_shape;
  MPSDataType _dataType;
}
@property(copy, nonatomic, readonly) MPSShape *shape;
@property(nonatomic, readonly) MPSDataType dataType;
@end

@interface MPSGraphTensorData : MPSGraphObject {
 @public
  MPSShape *_shape;
  MPSDataType _dataType;
  id<MTLBuffer> _buffer;
  MPSNDArray *_ndarray;
}
@property(copy, nonatomic, readonly) MPSShape *shape;
@property(nonatomic, readonly) MPSDataType dataType;
- (instancetype)initWithMTLBuffer:(id<MTLBuffer>)buffer shape:(MPSShape *)shape dataType:(MPSDataType)dataType;
- (instancetype)initWithMPSNDArray:(MPSNDArray *)ndarray;
- (MPSNDArray *)mpsndarray;
@end

@interface MPSGraphCompilationDescriptor : MPSGraphObject <NSCopying> {
  MPSGraphOptimization _optimizationLevel;
  BOOL _waitForCompilationCompletion;
}
@property(nonatomic, readwrite) MPSGraphOptimization optimizationLevel;
@property(nonatomic, readwrite) BOOL waitForCompilationCompletion;
- (void)disableTypeInference;
@end

@interface MPSGraphExecutableExecutionDescriptor : MPSGraphObject <NSCopying> {
  MPSGraphExecutableScheduledHandler _scheduledHandler;
  MPSGraphExecutableCompletionHandler _completionHandler;
  BOOL _waitUntilCompleted;
}
@property(atomic, copy, readwrite) MPSGraphExecutableScheduledHandler scheduledHandler;
@property(atomic, copy, readwrite) MPSGraphExecutableCompletionHandler completionHandler;
@property(atomic, readwrite) BOOL waitUntilCompleted;
@end

@interface MPSGraph : MPSGraphObject {
 @public
  MPSGraphOptions _options;
  NSMutableArray *_tensors;
  struct sim_node *_nodes;
  int _node_count;
}
@property(atomic, readwrite) MPSGraphOptions options;
@property(nonatomic, readonly) NSArray *placeholderTensors;
- (MPSGraphTensor *)placeholderWithShape:(MPSShape *)shape dataType:(MPSDataType)dataType name:(NSString *)name;
- (MPSGraphTensor *)constantWithData:(NSData *)data shape:(MPSShape *)shape dataType:(MPSDataType)dataType;
- (MPSGraphTensor *)constantWithScalar:(double)scalar shape:(MPSShape *)shape dataType:(MPSDataType)dataType;
- (MPSGraphTensor *)matrixMultiplicationWithPrimaryTensor:(MPSGraphTensor *)primaryTensor
                                          secondaryTensor:(MPSGraphTensor *)secondaryTensor
                                                     name:(NSString *)name;
- (MPSGraphTensor *)additionWithPrimaryTensor:(MPSGraphTensor *)primaryTensor
                              secondaryTensor:(MPSGraphTensor *)secondaryTensor
                                         name:(NSString *)name;
- (MPSGraphTensor *)subtractionWithPrimaryTensor:(MPSGraphTensor *)primaryTensor
                                 secondaryTensor:(MPSGraphTensor *)secondaryTensor
                                            name:(NSString *)name;
- (MPSGraphTensor *)multiplicationWithPrimaryTensor:(MPSGraphTensor *)primaryTensor
                                    secondaryTensor:(MPSGraphTensor *)secondaryTensor
                                               name:(NSString *)name;
- (MPSGraphTensor *)divisionWithPrimaryTensor:(MPSGraphTensor *)primaryTensor
                              secondaryTensor:(MPSGraphTensor *)secondaryTensor
                                         name:(NSString *)name;
- (MPSGraphTensor *)identityWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name;
- (MPSGraphTensor *)absoluteWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name;
- (MPSGraphTensor *)exponentWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name;
- (MPSGraphTensor *)squareRootWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name;
- (MPSGraphTensor *)tanhWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name;
- (MPSGraphTensor *)castTensor:(MPSGraphTensor *)tensor toType:(MPSDataType)type name:(NSString *)name;
- (MPSGraphTensor *)meanOfTensor:(MPSGraphTensor *)tensor axes:(NSArray *)axes name:(NSString *)name;
- (MPSGraphTensor *)reductionSumWithTensor:(MPSGraphTensor *)tensor axis:(NSInteger)axis name:(NSString *)name;
- (MPSGraphTensor *)reductionMaximumWithTensor:(MPSGraphTensor *)tensor axis:(NSInteger)axis name:(NSString *)name;
- (MPSGraphTensor *)transposeTensor:(MPSGraphTensor *)tensor permutation:(NSArray *)permutation name:(NSString *)name;
- (MPSGraphTensor *)transposeTensor:(MPSGraphTensor *)tensor
                          dimension:(NSUInteger)dimensionIndex
                      withDimension:(NSUInteger)dimensionIndex2
                               name:(NSString *)name;
- (MPSGraphTensor *)reshapeTensor:(MPSGraphTensor *)tensor withShape:(MPSShape *)shape name:(NSString *)name;
- (MPSGraphTensor *)sliceTensor:(MPSGraphTensor *)tensor
                      dimension:(NSUInteger)dimensionIndex
                          start:(NSInteger)start
                         length:(NSInteger)length
                           name:(NSString *)name;
- (MPSGraphTensor *)sliceTensor:(MPSGraphTensor *)tensor
                         starts:(NSArray *)starts
                           ends:(NSArray *)ends
                        strides:(NSArray *)strides
                           name:(NSString *)name;
- (MPSGraphTensor *)concatTensors:(NSArray *)tensors dimension:(NSInteger)dimensionIndex name:(NSString *)name;
- (MPSGraphTensor *)lessThanWithPrimaryTensor:(MPSGraphTensor *)primaryTensor
                              secondaryTensor:(MPSGraphTensor *)secondaryTensor
                                         name:(NSString *)name;
- (MPSGraphTensor *)greaterThanWithPrimaryTensor:(MPSGraphTensor *)primaryTensor
                                 secondaryTensor:(MPSGraphTensor *)secondaryTensor
                                            name:(NSString *)name;
- (MPSGraphTensor *)selectWithPredicateTensor:(MPSGraphTensor *)predicateTensor
                          truePredicateTensor:(MPSGraphTensor *)truePredicateTensor
                         falsePredicateTensor:(MPSGraphTensor *)falseSelectTensor
                                         name:(NSString *)name;
- (MPSGraphExecutable *)compileWithDevice:(MPSGraphDevice *)device
                                    feeds:(MPSGraphTensorShapedTypeDictionary *)feeds
                            targetTensors:(NSArray *)targetTensors
                         targetOperations:(NSArray *)targetOperations
                    compilationDescriptor:(MPSGraphCompilationDescriptor *)compilationDescriptor;
@end

@interface MPSGraphExecutable : MPSGraphObject {
 @public
  MPSGraphOptions _options;
  NSArray *_feedTensors;
  NSArray *_targetTensors;
  struct sim_node *_nodes;
  int _node_count;
}
@property(atomic, readwrite) MPSGraphOptions options;
@property(atomic, readonly) NSArray *feedTensors;
@property(atomic, readonly) NSArray *targetTensors;
- (NSArray *)encodeToCommandBuffer:(MPSCommandBuffer *)commandBuffer
                       inputsArray:(NSArray *)inputsArray
                      resultsArray:(NSArray *)resultsArray
               executionDescriptor:(MPSGraphExecutableExecutionDescriptor *)executionDescriptor;
@end

#endif /* SIM_METAL_PERFORMANCE_SHADERS_GRAPH_H */
