/*
 * Simulated Metal: the device.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "library.h"
#include "metal.h"

NSErrorDomain const MTLCommandBufferErrorDomain = @"MTLCommandBufferErrorDomain";
NSErrorDomain const MTLLibraryErrorDomain = @"MTLLibraryErrorDomain";

static const uint64_t GIGABYTE = 1ull << 30;

@implementation MTLArchitecture

- (NSString *)name {
  return @"simulated";
}

@end

@implementation MTLCommandQueueDescriptor
@synthesize maxCommandBufferCount = _maxCommandBufferCount;

- (instancetype)init {
  self = [super init];
  if (self != nil)
    _maxCommandBufferCount = 64;
  return self;
}

- (id)copyWithZone:(NSZone *)zone {
  MTLCommandQueueDescriptor *copy = [[[self class] allocWithZone:zone] init];
  copy.maxCommandBufferCount = _maxCommandBufferCount;
  return copy;
}

@end

@implementation SimDevice

static pthread_once_t once = PTHREAD_ONCE_INIT;
static SimDevice *shared;

static void make_shared(void) {
  shared = [[SimDevice alloc] init];
  sim_count_object([SimDevice class], -1); /* this one stays; what counts are the references to it */
}

+ (SimDevice *)shared {
  pthread_once(&once, make_shared);
  return shared;
}

- (instancetype)retain {
  sim_count_object([SimDevice class], 1);
  return [super retain];
}

- (oneway void)release {
  if ([self retainCount] <= 1)
    sim_stop("the device was released more often than retained");
  sim_count_object([SimDevice class], -1);
  [super release];
}

- (NSString *)name {
  return sim_switches.device == SIM_DEVICE_PARAVIRTUAL ? @"Apple Paravirtual device" : @"Simulated Apple GPU (CPU)";
}

- (uint64_t)registryID {
  return 1;
}

- (MTLArchitecture *)architecture {
  sim_require_pool("an MTLArchitecture");
  return [[[MTLArchitecture alloc] init] autorelease];
}

- (MTLSize)maxThreadsPerThreadgroup {
  return MTLSizeMake(1024, 1024, 1024);
}

- (BOOL)isLowPower {
  return NO;
}

- (BOOL)isHeadless {
  return NO;
}

- (BOOL)isRemovable {
  return NO;
}

- (BOOL)hasUnifiedMemory {
  return YES;
}

- (uint64_t)recommendedMaxWorkingSetSize {
  int64_t limit = sim_switches.memory_limit;
  return limit > 0 ? (uint64_t)limit : 8 * GIGABYTE;
}

- (NSUInteger)currentAllocatedSize {
  return _allocated;
}

- (NSUInteger)maxThreadgroupMemoryLength {
  return 32768;
}

- (NSUInteger)maxBufferLength {
  return 4 * GIGABYTE;
}

- (id<MTLCommandQueue>)newCommandQueue {
  return [self newCommandQueueWithMaxCommandBufferCount:64];
}

- (id<MTLCommandQueue>)newCommandQueueWithMaxCommandBufferCount:(NSUInteger)count {
  return [[SimQueue alloc] initWithDevice:self maxCommandBufferCount:count];
}

- (id<MTLCommandQueue>)newCommandQueueWithDescriptor:(MTLCommandQueueDescriptor *)descriptor {
  return [self newCommandQueueWithMaxCommandBufferCount:descriptor.maxCommandBufferCount];
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  return [[SimBuffer alloc] initWithDevice:self length:length options:options];
}

- (id<MTLBuffer>)newBufferWithBytes:(const void *)pointer
                             length:(NSUInteger)length
                            options:(MTLResourceOptions)options {
  if (pointer == NULL)
    sim_stop("newBufferWithBytes: of NULL");
  SimBuffer *buffer = [[SimBuffer alloc] initWithDevice:self length:length options:options];
  if (buffer != nil)
    memcpy(buffer->_bytes, pointer, length);
  return buffer;
}

- (id<MTLEvent>)newEvent {
  return [self newSharedEvent];
}

- (id<MTLSharedEvent>)newSharedEvent {
  return [[SimSharedEvent alloc] initWithDevice:self];
}

- (id<MTLLibrary>)newLibraryWithSource:(NSString *)source options:(MTLCompileOptions *)options error:(NSError **)error {
  return [[SimLibrary alloc] initWithDevice:self source:source options:options error:error];
}

- (id<MTLComputePipelineState>)newComputePipelineStateWithFunction:(id<MTLFunction>)function error:(NSError **)error {
  (void)error;
  if (function == nil)
    sim_stop("a compute pipeline state without a function");
  return [[SimPipeline alloc] initWithFunction:(SimFunction *)function];
}

- (BOOL)supportsFamily:(MTLGPUFamily)family {
  if (sim_switches.device == SIM_DEVICE_PARAVIRTUAL)
    return (family >= MTLGPUFamilyApple1 && family <= MTLGPUFamilyApple5) ||
           (family >= MTLGPUFamilyCommon1 && family <= MTLGPUFamilyCommon3);
  return (family >= MTLGPUFamilyApple1 && family <= MTLGPUFamilyApple7) || family == MTLGPUFamilyMac1 ||
         family == MTLGPUFamilyMac2 || (family >= MTLGPUFamilyCommon1 && family <= MTLGPUFamilyCommon3) ||
         family == MTLGPUFamilyMetal3;
}

@end

id<MTLDevice> MTLCreateSystemDefaultDevice(void) {
  return sim_switches.device == SIM_DEVICE_NONE ? nil : [[SimDevice shared] retain];
}

NSArray *MTLCopyAllDevices(void) {
  if (sim_switches.device == SIM_DEVICE_NONE)
    return [[NSArray alloc] init];
  return [[NSArray alloc] initWithObjects:[SimDevice shared], nil];
}
