/*
 * Simulated Metal: the MPS command buffer, n-dimensional arrays and their product.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>

#include "darwin.h"
#include "metal.h"
#include "product.h"

BOOL MPSSupportsMTLDevice(id<MTLDevice> device) {
  return device != nil && sim_switches.device == SIM_DEVICE_APPLE;
}

/* ------------------------------------------------------------------------------------------------- command buffer - */

@implementation MPSCommandBuffer

+ (instancetype)commandBufferWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer {
  return [[[self alloc] initWithCommandBuffer:commandBuffer] autorelease];
}

+ (instancetype)commandBufferFromCommandQueue:(id<MTLCommandQueue>)commandQueue {
  return [self commandBufferWithCommandBuffer:[commandQueue commandBuffer]];
}

- (instancetype)initWithCommandBuffer:(id<MTLCommandBuffer>)commandBuffer {
  self = [super init];
  if (commandBuffer == nil)
    sim_stop("an MPSCommandBuffer without a command buffer");
  if (self != nil)
    _root = [commandBuffer retain];
  return self;
}

- (void)dealloc {
  [_root release];
  [super dealloc];
}

- (id<MTLCommandBuffer>)rootCommandBuffer {
  return _root;
}

- (id<MTLCommandBuffer>)commandBuffer {
  return _root;
}

- (void)commitAndContinue {
  id<MTLCommandBuffer> next = [[_root commandQueue] commandBuffer];
  [_root commit];
  [_root release];
  _root = [next retain];
}

- (id<MTLDevice>)device {
  return [_root device];
}

- (id<MTLCommandQueue>)commandQueue {
  return [_root commandQueue];
}

- (BOOL)retainedReferences {
  return [_root retainedReferences];
}

- (MTLCommandBufferErrorOption)errorOptions {
  return [_root errorOptions];
}

- (NSString *)label {
  return [_root label];
}

- (void)setLabel:(NSString *)label {
  [_root setLabel:label];
}

- (CFTimeInterval)kernelStartTime {
  return [_root kernelStartTime];
}

- (CFTimeInterval)kernelEndTime {
  return [_root kernelEndTime];
}

- (CFTimeInterval)GPUStartTime {
  return [_root GPUStartTime];
}

- (CFTimeInterval)GPUEndTime {
  return [_root GPUEndTime];
}

- (MTLCommandBufferStatus)status {
  return [_root status];
}

- (NSError *)error {
  return [_root error];
}

- (void)enqueue {
  [_root enqueue];
}

- (void)commit {
  [_root commit];
}

- (void)waitUntilScheduled {
  [_root waitUntilScheduled];
}

- (void)waitUntilCompleted {
  [_root waitUntilCompleted];
}

- (void)addScheduledHandler:(MTLCommandBufferHandler)block {
  [_root addScheduledHandler:block];
}

- (void)addCompletedHandler:(MTLCommandBufferHandler)block {
  [_root addCompletedHandler:block];
}

- (void)encodeWaitForEvent:(id<MTLEvent>)event value:(uint64_t)value {
  [_root encodeWaitForEvent:event value:value];
}

- (void)encodeSignalEvent:(id<MTLEvent>)event value:(uint64_t)value {
  [_root encodeSignalEvent:event value:value];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoder {
  return [_root computeCommandEncoder];
}

- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)dispatchType {
  return [_root computeCommandEncoderWithDispatchType:dispatchType];
}

- (id<MTLBlitCommandEncoder>)blitCommandEncoder {
  return [_root blitCommandEncoder];
}

- (void)pushDebugGroup:(NSString *)string {
  [_root pushDebugGroup:string];
}

- (void)popDebugGroup {
  [_root popDebugGroup];
}

@end

/* ------------------------------------------------------------------------------------------------- arrays --------- */

@implementation MPSNDArrayDescriptor
@synthesize dataType = _dataType;
@synthesize preferPackedRows = _preferPackedRows;

+ (instancetype)descriptorWithDataType:(MPSDataType)dataType
                        dimensionCount:(NSUInteger)count
                        dimensionSizes:(NSUInteger *)sizes {
  if (count == 0 || count > SIM_MAX_RANK)
    sim_stop("an MPSNDArray of %llu dimensions", (unsigned long long)count);
  MPSNDArrayDescriptor *descriptor = [[[self alloc] init] autorelease];
  descriptor->_dataType = dataType;
  descriptor->_rank = count;
  for (NSUInteger i = 0; i < count; i++) {
    if (sizes[i] == 0 || sizes[i] > INT32_MAX)
      sim_stop("an MPSNDArray with a dimension of %llu", (unsigned long long)sizes[i]);
    descriptor->_sizes[i] = sizes[i];
    descriptor->_order[i] = i;
  }
  return descriptor;
}

/* A shape begins with the slowest dimension. */
+ (instancetype)descriptorWithDataType:(MPSDataType)dataType shape:(NSArray *)shape {
  NSUInteger sizes[SIM_MAX_RANK];
  NSUInteger count = [shape count];
  for (NSUInteger i = 0; i < count && i < SIM_MAX_RANK; i++)
    sizes[i] = [[shape objectAtIndex:count - 1 - i] unsignedIntegerValue];
  return [self descriptorWithDataType:dataType dimensionCount:count dimensionSizes:sizes];
}

- (NSUInteger)numberOfDimensions {
  return _rank;
}

- (NSUInteger)lengthOfDimension:(NSUInteger)index {
  return index < _rank ? _sizes[index] : 1;
}

- (void)transposeDimension:(NSUInteger)first withDimension:(NSUInteger)second {
  if (first >= _rank || second >= _rank)
    sim_stop("transposeDimension: %llu with %llu, of %llu", (unsigned long long)first, (unsigned long long)second,
             (unsigned long long)_rank);
  NSUInteger size = _sizes[first], order = _order[first];
  _sizes[first] = _sizes[second];
  _order[first] = _order[second];
  _sizes[second] = size;
  _order[second] = order;
}

@end

@implementation MPSNDArray

- (instancetype)initWithDevice:(id<MTLDevice>)device descriptor:(MPSNDArrayDescriptor *)descriptor {
  NSUInteger rows = 1;
  for (NSUInteger i = 1; i < descriptor->_rank; i++)
    rows *= descriptor->_sizes[i];
  NSUInteger row = (descriptor->_sizes[0] * sizeof(float) + 15) / 16 * 16;
  id<MTLBuffer> buffer = [device newBufferWithLength:rows * row options:MTLResourceStorageModeShared];
  self = [self initWithBuffer:buffer offset:0 descriptor:descriptor];
  [buffer release];
  return self;
}

/* Rows begin at multiples of 16 bytes unless the descriptor prefers them packed. */
- (instancetype)initWithBuffer:(id<MTLBuffer>)buffer
                        offset:(NSUInteger)offset
                    descriptor:(MPSNDArrayDescriptor *)descriptor {
  self = [super init];
  if (!sim_available("macOS 15.0, *"))
    sim_stop("initWithBuffer:offset:descriptor: needs macOS 15");
  if (descriptor->_dataType != MPSDataTypeFloat32)
    sim_stop("the simulation knows MPSDataTypeFloat32 only");
  if (offset % sizeof(float) != 0)
    sim_stop("an MPSNDArray at offset %llu", (unsigned long long)offset);
  SimBuffer *memory = sim_buffer(buffer, "an MPSNDArray");
  _buffer = [buffer retain];
  _device = [[buffer device] retain];
  _dataType = descriptor->_dataType;
  _offset = offset;
  NSUInteger sizes[SIM_MAX_RANK], strides[SIM_MAX_RANK]; /* in memory */
  for (NSUInteger i = 0; i < descriptor->_rank; i++)
    sizes[descriptor->_order[i]] = descriptor->_sizes[i];
  NSUInteger stride = 1;
  for (NSUInteger i = 0; i < descriptor->_rank; i++) {
    strides[i] = stride;
    stride *= sizes[i];
    if (i == 0 && !descriptor->_preferPackedRows)
      stride = (stride + 3) / 4 * 4;
  }
  [memory checkRange:offset length:stride * sizeof(float) in:"an MPSNDArray"];
  _layout.rank = descriptor->_rank;
  for (NSUInteger i = 0; i < descriptor->_rank; i++) {
    _layout.sizes[i] = descriptor->_sizes[i];
    _layout.strides[i] = strides[descriptor->_order[i]];
  }
  return self;
}

- (void)dealloc {
  [_label release];
  [_device release];
  [_buffer release];
  [_parent release];
  [super dealloc];
}

- (NSString *)label {
  return _label;
}

- (void)setLabel:(NSString *)label {
  NSString *copy = [label copy];
  [_label release];
  _label = copy;
}

- (id<MTLDevice>)device {
  return _device;
}

- (MPSNDArray *)parent {
  return _parent;
}

- (MPSDataType)dataType {
  return _dataType;
}

- (size_t)dataTypeSize {
  return sizeof(float);
}

- (NSUInteger)numberOfDimensions {
  return _layout.rank;
}

- (NSUInteger)lengthOfDimension:(NSUInteger)index {
  return index < _layout.rank ? _layout.sizes[index] : 1;
}

- (id<MTLBuffer>)userBuffer {
  return _buffer;
}

- (MPSNDArrayDescriptor *)descriptor {
  return [MPSNDArrayDescriptor descriptorWithDataType:_dataType
                                       dimensionCount:_layout.rank
                                       dimensionSizes:_layout.sizes];
}

- (MPSNDArray *)viewWithLayout:(const struct sim_layout *)layout {
  MPSNDArray *view = [[[MPSNDArray alloc] init] autorelease];
  view->_device = [_device retain];
  view->_buffer = [_buffer retain];
  view->_parent = [self retain];
  view->_dataType = _dataType;
  view->_offset = _offset;
  view->_layout = *layout;
  return view;
}

- (MPSNDArray *)arrayViewWithCommandBuffer:(id<MTLCommandBuffer>)buffer
                                descriptor:(MPSNDArrayDescriptor *)descriptor
                                  aliasing:(MPSAliasingStrategy)aliasing {
  if (buffer != nil)
    [sim_command_buffer(buffer, "a view of an MPSNDArray") checkEncoding:"a view of an MPSNDArray"];
  if (aliasing != MPSAliasingStrategyShallAlias)
    sim_stop("the simulation knows views that shall alias only");
  struct sim_layout layout = {.rank = _layout.rank};
  for (NSUInteger i = 0; i < _layout.rank; i++) {
    if (descriptor->_rank != _layout.rank || descriptor->_sizes[i] != _layout.sizes[descriptor->_order[i]])
      sim_stop("a view of other sizes than its MPSNDArray");
    layout.sizes[i] = descriptor->_sizes[i];
    layout.strides[i] = _layout.strides[descriptor->_order[i]];
  }
  return [self viewWithLayout:&layout];
}

- (MPSNDArray *)arrayViewWithShape:(MPSShape *)shape strides:(MPSShape *)strides {
  struct sim_layout layout = {.rank = [shape count]};
  if (layout.rank == 0 || layout.rank > SIM_MAX_RANK || [strides count] != layout.rank)
    sim_stop("a view of an MPSNDArray with %llu dimensions", (unsigned long long)layout.rank);
  for (NSUInteger i = 0; i < layout.rank; i++) {
    layout.sizes[i] = [[shape objectAtIndex:layout.rank - 1 - i] unsignedIntegerValue];
    layout.strides[i] = [[strides objectAtIndex:layout.rank - 1 - i] unsignedIntegerValue];
  }
  return [self viewWithLayout:&layout];
}

@end

/* ------------------------------------------------------------------------------------------------- kernels -------- */

@implementation MPSKernel
@synthesize options = _options;

- (instancetype)initWithDevice:(id<MTLDevice>)device {
  self = [super init];
  if (!MPSSupportsMTLDevice(device))
    sim_stop("an MPSKernel for a device that MPS does not support");
  if (self != nil)
    _device = [device retain];
  return self;
}

- (void)dealloc {
  [_label release];
  [_device release];
  [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
  return [[[self class] allocWithZone:zone] initWithDevice:_device];
}

- (id<MTLDevice>)device {
  return _device;
}

- (NSString *)label {
  return _label;
}

- (void)setLabel:(NSString *)label {
  NSString *copy = [label copy];
  [_label release];
  _label = copy;
}

@end

@implementation MPSNDArrayMultiaryBase
@end

@implementation MPSNDArrayMultiaryKernel

- (instancetype)initWithDevice:(id<MTLDevice>)device sourceCount:(NSUInteger)count {
  self = [super initWithDevice:device];
  if (self != nil)
    _sourceCount = count;
  return self;
}

- (id)copyWithZone:(NSZone *)zone {
  return [[[self class] allocWithZone:zone] initWithDevice:_device sourceCount:_sourceCount];
}

- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)buffer
                 sourceArrays:(NSArray *)sources
             destinationArray:(MPSNDArray *)destination {
  AGXSimFamilyCommandBuffer *root = sim_command_buffer(buffer, "an MPSNDArray kernel");
  AGXSimFamilyComputeContext *encoder = sim_encoder_of_mps(root);
  [self encodeToCommandEncoder:encoder commandBuffer:buffer sourceArrays:sources destinationArray:destination];
  [encoder endEncoding];
}

- (void)encodeToCommandEncoder:(id<MTLComputeCommandEncoder>)encoder
                 commandBuffer:(id<MTLCommandBuffer>)buffer
                  sourceArrays:(NSArray *)sources
              destinationArray:(MPSNDArray *)destination {
  (void)encoder;
  (void)buffer;
  (void)sources;
  (void)destination;
  sim_stop("this MPSNDArray kernel is not simulated");
}

@end

@implementation MPSNDArrayMatrixMultiplication
@synthesize alpha = _alpha;
@synthesize beta = _beta;

static struct sim_region multiplications;

- (instancetype)initWithDevice:(id<MTLDevice>)device sourceCount:(NSUInteger)count {
  self = [super initWithDevice:device sourceCount:count];
  if (count != 2)
    sim_stop("the simulation multiplies two arrays, not %llu", (unsigned long long)count);
  _alpha = 1;
  _beta = 1;
  return self;
}

/* Apple's stack was seen to fail with three threads that encode such products at once, objects of their own or not. */
- (void)countAmongConcurrent:(AGXSimFamilyCommandBuffer *)root {
  if (!sim_region_enter(&multiplications, sim_switches.ndarray_limit))
    return;
  sim_count(SIM_COUNT_NDARRAY_OVERLAPS);
  switch ((enum sim_outcome)sim_switches.race_outcome) {
    case SIM_OUTCOME_ABORT:
      sim_stop("more than %lld threads encode an MPSNDArrayMatrixMultiplication at once",
               (long long)sim_switches.ndarray_limit);
    case SIM_OUTCOME_ERROR:
      root->_doom = MTLCommandBufferErrorInternal;
      break;
    case SIM_OUTCOME_GARBAGE:
      root->_garbage = true;
      break;
  }
}

static void check_product(MPSNDArray *a, MPSNDArray *b, MPSNDArray *y) {
  if (a->_layout.rank < 2 || b->_layout.rank < 2 || y->_layout.rank < 2 ||
      [a lengthOfDimension:0] != [b lengthOfDimension:1] || [a lengthOfDimension:1] != [y lengthOfDimension:1] ||
      [b lengthOfDimension:0] != [y lengthOfDimension:0])
    sim_stop("a product of MPSNDArrays whose sizes do not fit");
  for (NSUInteger i = 2; i < SIM_MAX_RANK; i++) {
    if ([a lengthOfDimension:i] * [b lengthOfDimension:i] * [y lengthOfDimension:i] != 1)
      sim_stop("the simulation multiplies MPSNDArrays of two dimensions only");
  }
}

static struct sim_matrix matrix_of(MPSNDArray *array) {
  return (struct sim_matrix){.data = (float *)(void *)(((SimBuffer *)array->_buffer)->_bytes + array->_offset),
                             .rows = array->_layout.sizes[1],
                             .columns = array->_layout.sizes[0],
                             .row_stride = array->_layout.strides[1],
                             .column_stride = array->_layout.strides[0]};
}

/* All elements, from the first to the last one. */
static struct sim_access access_to(MPSNDArray *array, bool write) {
  NSUInteger last = 0;
  for (NSUInteger i = 0; i < array->_layout.rank; i++)
    last += (array->_layout.sizes[i] - 1) * array->_layout.strides[i];
  return (struct sim_access){(SimBuffer *)array->_buffer, array->_offset, (last + 1) * sizeof(float), write};
}

- (void)encodeToCommandEncoder:(id<MTLComputeCommandEncoder>)encoder
                 commandBuffer:(id<MTLCommandBuffer>)buffer
                  sourceArrays:(NSArray *)sources
              destinationArray:(MPSNDArray *)destination {
  if (__atomic_exchange_n(&_inside, 1, __ATOMIC_ACQ_REL) != 0)
    sim_stop("two threads use an MPSKernel at once");
  AGXSimFamilyCommandBuffer *root = sim_command_buffer(buffer, "an MPSNDArrayMatrixMultiplication");
  AGXSimFamilyComputeContext *context = (AGXSimFamilyComputeContext *)encoder;
  [context checkOpen:"an MPSNDArrayMatrixMultiplication"];
  if ([sources count] != 2 || destination == nil)
    sim_stop("an MPSNDArrayMatrixMultiplication takes two sources and a destination");
  MPSNDArray *a = [sources objectAtIndex:0];
  MPSNDArray *b = [sources objectAtIndex:1];
  check_product(a, b, destination);
  [self countAmongConcurrent:root];
  MPSNDArray *arrays[] = {a, b, destination};
  for (int i = 0; i < 3; i++)
    [root uses:sim_buffer(arrays[i]->_buffer, "an MPSNDArray")];
  bool garbage = root->_garbage;
  float alpha = (float)_alpha;
  [root append:^(struct sim_run *run) {
    const struct sim_access accesses[] = {access_to(a, false), access_to(b, false), access_to(destination, true)};
    struct sim_matrix y = matrix_of(destination);
    sim_access_begin(accesses, 3, run);
    sim_product(matrix_of(a), matrix_of(b), y, alpha);
    if (garbage)
      y.data[0] += 1;
    sim_access_end(accesses, 3);
    return (uint32_t)0;
  }];
  [context touchImpl];
  sim_region_leave(&multiplications);
  __atomic_store_n(&_inside, 0, __ATOMIC_RELEASE);
}

@end
