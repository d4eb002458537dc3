/*
 * Simulated Metal: the part of Metal Performance Shaders that the Metal shim uses, declared for Linux.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SIM_METAL_PERFORMANCE_SHADERS_H
#define SIM_METAL_PERFORMANCE_SHADERS_H

#import <Metal/Metal.h>

typedef NSArray MPSShape;

typedef NS_ENUM(uint32_t, MPSDataType) {
  MPSDataTypeInvalid = 0,
  MPSDataTypeFloat16 = 268435472,
  MPSDataTypeFloat32 = 268435488,
  MPSDataTypeInt32 = 536870944,
  MPSDataTypeBool = 2147483656,
};

typedef NS_OPTIONS(NSUInteger, MPSKernelOptions) {
  MPSKernelOptionsNone = 0,
  MPSKernelOptionsSkipAPIValidation = 1,
};

typedef NS_OPTIONS(NSUInteger, MPSAliasingStrategy) {
  MPSAliasingStrategyDefault = 0,
  MPSAliasingStrategyShallAlias = 1,
  MPSAliasingStrategyShallNotAlias = 2,
};

BOOL MPSSupportsMTLDevice(id<MTLDevice> device);

@interface MPSCommandBuffer : SimObject <MTLCommandBuffer> {
  id<MTLCommandBuffer> _root;
}
@property(nonatomic, readonly, retain) id<MTLCommandBuffer> commandBuffer;
@property(nonatomic, readonly, retain) id<MTLCommandBuffer> rootCommandBuffer;
+ (instancetype)commandBufferWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer;
+ (instancetype)commandBufferFromCommandQueue:(id<MTLCommandQueue>)commandQueue;
- (instancetype)initWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer;
- (void)commitAndContinue;
@end

enum { SIM_MAX_RANK = 16 };

/* Sizes and strides count from the fastest dimension, in elements. */
struct sim_layout {
  NSUInteger rank;
  NSUInteger sizes[SIM_MAX_RANK];
  NSUInteger strides[SIM_MAX_RANK];
};

@interface MPSNDArrayDescriptor : SimObject {
 @public
  MPSDataType _dataType;
  BOOL _preferPackedRows;
  NSUInteger _rank;
  NSUInteger _sizes[SIM_MAX_RANK];
  NSUInteger _order[SIM_MAX_RANK]; /* the dimension in memory of each dimension */
}
@property(nonatomic, readwrite) MPSDataType dataType;
@property(nonatomic, readonly) NSUInteger numberOfDimensions;
@property(nonatomic, readwrite) BOOL preferPackedRows;
- (NSUInteger)lengthOfDimension:(NSUInteger)dimensionIndex;
- (void)transposeDimension:(NSUInteger)dimensionIndex withDimension:(NSUInteger)dimensionIndex2;
+ (instancetype)descriptorWithDataType:(MPSDataType)dataType
                        dimensionCount:(NSUInteger)numberOfDimensions
                        dimensionSizes:(NSUInteger *)dimensionSizes;
+ (instancetype)descriptorWithDataType:(MPSDataType)dataType shape:(NSArray *)shape;
@end

@interface MPSNDArray : SimObject {
 @public
  id<MTLDevice> _device;
  NSString *_label;
  MPSDataType _dataType;
  id<MTLBuffer> _buffer;
  NSUInteger _offset;
  struct sim_layout _layout;
  MPSNDArray *_parent;
}
@property(atomic, copy) NSString *label;
@property(nonatomic, readonly) MPSDataType dataType;
@property(nonatomic, readonly) size_t dataTypeSize;
@property(nonatomic, readonly) NSUInteger numberOfDimensions;
@property(nonatomic, readonly, retain) id<MTLDevice> device;
@property(nonatomic, readonly, retain) MPSNDArray *parent;
- (NSUInteger)lengthOfDimension:(NSUInteger)dimensionIndex;
- (MPSNDArrayDescriptor *)descriptor;
- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MPSNDArrayDescriptor *)descriptor;
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                        offset:(NSUInteger)offset
                    descriptor:(MPSNDArrayDescriptor *)descriptor;
- (id<MTLBuffer>)userBuffer;
- (MPSNDArray *)arrayViewWithCommandBuffer:(id<MTLCommandBuffer>)cmdBuf
                                descriptor:(MPSNDArrayDescriptor *)descriptor
                                  aliasing:(MPSAliasingStrategy)aliasing;
- (MPSNDArray *)arrayViewWithShape:(MPSShape *)shape strides:(MPSShape *)strides;
@end

@interface MPSKernel : SimObject <NSCopying> {
  id<MTLDevice> _device;
  NSString *_label;
  MPSKernelOptions _options;
}
@property(nonatomic, readwrite) MPSKernelOptions options;
@property(nonatomic, readonly, retain) id<MTLDevice> device;
@property(atomic, copy) NSString *label;
- (instancetype)initWithDevice:(id<MTLDevice>)device;
@end

@interface MPSNDArrayMultiaryBase : MPSKernel
@end

@interface MPSNDArrayMultiaryKernel : MPSNDArrayMultiaryBase {
  NSUInteger _sourceCount;
}
- (instancetype)initWithDevice:(id<MTLDevice>)device sourceCount:(NSUInteger)count;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)cmdBuf
                 sourceArrays:(NSArray *)sourceArrays
             destinationArray:(MPSNDArray *)destination;
- (void)encodeToCommandEncoder:(id<MTLComputeCommandEncoder>)encoder
                 commandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  sourceArrays:(NSArray *)sourceArrays
              destinationArray:(MPSNDArray *)destination;
@end

@interface MPSNDArrayMatrixMultiplication : MPSNDArrayMultiaryKernel {
  double _alpha;
  double _beta;
  int _inside;
}
@property(nonatomic, readwrite) double alpha;
@property(nonatomic, readwrite) double beta;
@end

#endif /* SIM_METAL_PERFORMANCE_SHADERS_H */
