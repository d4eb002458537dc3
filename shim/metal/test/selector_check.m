/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* Compares what the Metal shim calls with what this system has.
 *
 *     selector_check
 *
 * The table names every method of Metal, MPS and MPSGraph that shim/metal calls, with the type encoding of its
 * declaration. A class is asked by name; for a protocol, an object of the running driver is asked, since that is what
 * gets the message. A method that is missing, or has other types, fails the check. A method newer than the system is
 * left out, and so is what needs a device where there is none: both are printed and counted.
 *
 * Exit status: 0 all that could be compared is equal, 1 something is not. */
#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#import <MetalPerformanceShaders/MetalPerformanceShaders.h>
#import <MetalPerformanceShadersGraph/MetalPerformanceShadersGraph.h>
#include <ctype.h>
#include <objc/runtime.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct method {
  const char *owner; /* class or protocol */
  char kind;         /* '+' or '-' */
  const char *selector;
  const char *encoding;
  int major; /* macOS that has it; 0: every one that we run on */
  int minor;
} method;

/* clang-format off */
static const method METHODS[] = {
    {"MTLDevice", '-', "architecture", "@16@0:8", 0, 0},
    {"MTLDevice", '-', "currentAllocatedSize", "Q16@0:8", 0, 0},
    {"MTLDevice", '-', "hasUnifiedMemory", "B16@0:8", 0, 0},
    {"MTLDevice", '-', "isLowPower", "B16@0:8", 0, 0},
    {"MTLDevice", '-', "maxBufferLength", "Q16@0:8", 0, 0},
    {"MTLDevice", '-', "name", "@16@0:8", 0, 0},
    {"MTLDevice", '-', "newBufferWithLength:options:", "@32@0:8Q16Q24", 0, 0},
    {"MTLDevice", '-', "newCommandQueue", "@16@0:8", 0, 0},
    {"MTLDevice", '-', "newCommandQueueWithMaxCommandBufferCount:", "@24@0:8Q16", 0, 0},
    {"MTLDevice", '-', "newComputePipelineStateWithFunction:error:", "@32@0:8@16^@24", 0, 0},
    {"MTLDevice", '-', "newLibraryWithSource:options:error:", "@40@0:8@16@24^@32", 0, 0},
    {"MTLDevice", '-', "newSharedEvent", "@16@0:8", 0, 0},
    {"MTLDevice", '-', "recommendedMaxWorkingSetSize", "Q16@0:8", 0, 0},
    {"MTLDevice", '-', "registryID", "Q16@0:8", 0, 0},
    {"MTLDevice", '-', "supportsFamily:", "B24@0:8q16", 0, 0},
    {"MTLArchitecture", '-', "name", "@16@0:8", 0, 0},
    {"MTLCommandQueue", '-', "commandBuffer", "@16@0:8", 0, 0},
    {"MTLCommandQueue", '-', "setLabel:", "v24@0:8@16", 0, 0},
    {"MTLCommandBuffer", '-', "GPUEndTime", "d16@0:8", 0, 0},
    {"MTLCommandBuffer", '-', "GPUStartTime", "d16@0:8", 0, 0},
    {"MTLCommandBuffer", '-', "addCompletedHandler:", "v24@0:8@?16", 0, 0},
    {"MTLCommandBuffer", '-', "blitCommandEncoder", "@16@0:8", 0, 0},
    {"MTLCommandBuffer", '-', "commit", "v16@0:8", 0, 0},
    {"MTLCommandBuffer", '-', "computeCommandEncoder", "@16@0:8", 0, 0},
    {"MTLCommandBuffer", '-', "encodeSignalEvent:value:", "v32@0:8@16Q24", 0, 0},
    {"MTLCommandBuffer", '-', "encodeWaitForEvent:value:", "v32@0:8@16Q24", 0, 0},
    {"MTLCommandBuffer", '-', "error", "@16@0:8", 0, 0},
    {"MTLCommandBuffer", '-', "status", "Q16@0:8", 0, 0},
    {"MTLCommandEncoder", '-', "endEncoding", "v16@0:8", 0, 0},
    {"MTLBlitCommandEncoder", '-', "copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:", "v56@0:8@16Q24@32Q40Q48", 0, 0},
    {"MTLBlitCommandEncoder", '-', "fillBuffer:range:value:", "v44@0:8@16{_NSRange=QQ}24C40", 0, 0},
    {"MTLComputeCommandEncoder", '-', "dispatchThreadgroups:threadsPerThreadgroup:", "v64@0:8{?=QQQ}16{?=QQQ}40", 0, 0},
    {"MTLComputeCommandEncoder", '-', "setBuffer:offset:atIndex:", "v40@0:8@16Q24Q32", 0, 0},
    {"MTLComputeCommandEncoder", '-', "setBytes:length:atIndex:", "v40@0:8r^v16Q24Q32", 0, 0},
    {"MTLComputeCommandEncoder", '-', "setComputePipelineState:", "v24@0:8@16", 0, 0},
    {"MTLBuffer", '-', "contents", "^v16@0:8", 0, 0},
    {"MTLEvent", '-', "setLabel:", "v24@0:8@16", 0, 0},
    {"MTLSharedEvent", '-', "signaledValue", "Q16@0:8", 0, 0},
    {"MTLSharedEvent", '-', "setSignaledValue:", "v24@0:8Q16", 0, 0},
    {"MTLLibrary", '-', "newFunctionWithName:", "@24@0:8@16", 0, 0},
    {"MTLComputePipelineState", '-', "maxTotalThreadsPerThreadgroup", "Q16@0:8", 0, 0},
    {"MTLComputePipelineState", '-', "threadExecutionWidth", "Q16@0:8", 0, 0},
    {"MTLCompileOptions", '-', "setFastMathEnabled:", "v20@0:8B16", 0, 0},
    {"MTLCompileOptions", '-', "setMathMode:", "v24@0:8q16", 15, 0},
    {"MPSCommandBuffer", '-', "commitAndContinue", "v16@0:8", 0, 0},
    {"MPSCommandBuffer", '-', "initWithCommandBuffer:", "@24@0:8@16", 0, 0},
    {"MPSCommandBuffer", '-', "rootCommandBuffer", "@16@0:8", 0, 0},
    {"MPSNDArrayDescriptor", '+', "descriptorWithDataType:dimensionCount:dimensionSizes:", "@36@0:8I16Q20^Q28", 0, 0},
    {"MPSNDArrayDescriptor", '-', "setPreferPackedRows:", "v20@0:8B16", 15, 0},
    {"MPSNDArrayDescriptor", '-', "transposeDimension:withDimension:", "v32@0:8Q16Q24", 0, 0},
    {"MPSNDArray", '-', "arrayViewWithCommandBuffer:descriptor:aliasing:", "@40@0:8@16@24Q32", 0, 0},
    {"MPSNDArray", '-', "descriptor", "@16@0:8", 0, 0},
    {"MPSNDArray", '-', "initWithBuffer:offset:descriptor:", "@40@0:8@16Q24@32", 15, 0},
    {"MPSNDArrayMultiaryKernel", '-', "encodeToCommandBuffer:sourceArrays:destinationArray:", "v40@0:8@16@24@32", 0, 0},
    {"MPSNDArrayMultiaryKernel", '-', "initWithDevice:sourceCount:", "@32@0:8@16Q24", 0, 0},
    {"MPSGraph", '-', "absoluteWithTensor:name:", "@32@0:8@16@24", 0, 0},
    {"MPSGraph", '-', "additionWithPrimaryTensor:secondaryTensor:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "castTensor:toType:name:", "@36@0:8@16I24@28", 0, 0},
    {"MPSGraph", '-', "compileWithDevice:feeds:targetTensors:targetOperations:compilationDescriptor:", "@56@0:8@16@24@32@40@48", 0, 0},
    {"MPSGraph", '-', "concatTensors:dimension:name:", "@40@0:8@16q24@32", 0, 0},
    {"MPSGraph", '-', "constantWithData:shape:dataType:", "@36@0:8@16@24I32", 0, 0},
    {"MPSGraph", '-', "constantWithScalar:shape:dataType:", "@36@0:8d16@24I32", 0, 0},
    {"MPSGraph", '-', "divisionWithPrimaryTensor:secondaryTensor:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "exponentWithTensor:name:", "@32@0:8@16@24", 0, 0},
    {"MPSGraph", '-', "greaterThanWithPrimaryTensor:secondaryTensor:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "identityWithTensor:name:", "@32@0:8@16@24", 0, 0},
    {"MPSGraph", '-', "lessThanWithPrimaryTensor:secondaryTensor:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "matrixMultiplicationWithPrimaryTensor:secondaryTensor:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "meanOfTensor:axes:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "multiplicationWithPrimaryTensor:secondaryTensor:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "placeholderWithShape:dataType:name:", "@36@0:8@16I24@28", 0, 0},
    {"MPSGraph", '-', "reductionMaximumWithTensor:axis:name:", "@40@0:8@16q24@32", 0, 0},
    {"MPSGraph", '-', "reductionSumWithTensor:axis:name:", "@40@0:8@16q24@32", 0, 0},
    {"MPSGraph", '-', "reshapeTensor:withShape:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "selectWithPredicateTensor:truePredicateTensor:falsePredicateTensor:name:", "@48@0:8@16@24@32@40", 0, 0},
    {"MPSGraph", '-', "setOptions:", "v24@0:8Q16", 0, 0},
    {"MPSGraph", '-', "sliceTensor:dimension:start:length:name:", "@56@0:8@16Q24q32q40@48", 0, 0},
    {"MPSGraph", '-', "sliceTensor:starts:ends:strides:name:", "@56@0:8@16@24@32@40@48", 0, 0},
    {"MPSGraph", '-', "squareRootWithTensor:name:", "@32@0:8@16@24", 0, 0},
    {"MPSGraph", '-', "subtractionWithPrimaryTensor:secondaryTensor:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraph", '-', "tanhWithTensor:name:", "@32@0:8@16@24", 0, 0},
    {"MPSGraph", '-', "transposeTensor:dimension:withDimension:name:", "@48@0:8@16Q24Q32@40", 0, 0},
    {"MPSGraph", '-', "transposeTensor:permutation:name:", "@40@0:8@16@24@32", 0, 0},
    {"MPSGraphCompilationDescriptor", '-', "setOptimizationLevel:", "v24@0:8Q16", 0, 0},
    {"MPSGraphCompilationDescriptor", '-', "setWaitForCompilationCompletion:", "v20@0:8B16", 0, 0},
    {"MPSGraphDevice", '+', "deviceWithMTLDevice:", "@24@0:8@16", 0, 0},
    {"MPSGraphExecutable", '-', "encodeToCommandBuffer:inputsArray:resultsArray:executionDescriptor:", "@48@0:8@16@24@32@40", 0, 0},
    {"MPSGraphExecutable", '-', "feedTensors", "@16@0:8", 0, 0},
    {"MPSGraphExecutable", '-', "setOptions:", "v24@0:8Q16", 0, 0},
    {"MPSGraphExecutable", '-', "targetTensors", "@16@0:8", 0, 0},
    {"MPSGraphExecutableExecutionDescriptor", '-', "setWaitUntilCompleted:", "v20@0:8B16", 0, 0},
    {"MPSGraphShapedType", '-', "initWithShape:dataType:", "@28@0:8@16I24", 0, 0},
    {"MPSGraphTensor", '-', "shape", "@16@0:8", 0, 0},
    {"MPSGraphTensorData", '-', "initWithMTLBuffer:shape:dataType:", "@36@0:8@16@24I32", 0, 0},
};
/* clang-format on */

/* An object of the driver for each protocol, as far as there is a device. */
typedef struct sample {
  const char *protocol;
  id object;
} sample;

enum { MOST_SAMPLES = 12 };

static sample samples[MOST_SAMPLES];
static int sample_count;

static void add_sample(const char *protocol, id object) {
  if (object != nil) {
    samples[sample_count++] = (sample){protocol, object};
  }
}

static id sample_of(const char *protocol) {
  for (int i = 0; i < sample_count; i++) {
    if (strcmp(samples[i].protocol, protocol) == 0) {
      return samples[i].object;
    }
  }
  return nil;
}

/* The samples live until the program ends. */
static void make_samples(void) {
  id<MTLDevice> device = MTLCreateSystemDefaultDevice();
  if (device == nil) {
    return;
  }
  id<MTLCommandQueue> queue = [device newCommandQueue];
  id<MTLCommandBuffer> buffer = [[queue commandBuffer] retain];
  id<MTLComputeCommandEncoder> compute = [[buffer computeCommandEncoder] retain];
  [compute endEncoding];
  id<MTLBlitCommandEncoder> blit = [[buffer blitCommandEncoder] retain];
  [blit endEncoding];
  NSError *error = nil;
  id<MTLLibrary> library =
      [device newLibraryWithSource:@"#include <metal_stdlib>\nkernel void nothing(device float *none [[buffer(0)]]) {}"
                           options:nil
                             error:&error];
  id<MTLFunction> function = [library newFunctionWithName:@"nothing"];
  id<MTLComputePipelineState> state =
      function == nil ? nil : [device newComputePipelineStateWithFunction:function error:&error];
  [function release];
  add_sample("MTLDevice", device);
  add_sample("MTLCommandQueue", queue);
  add_sample("MTLCommandBuffer", buffer);
  add_sample("MTLCommandEncoder", compute);
  add_sample("MTLComputeCommandEncoder", compute);
  add_sample("MTLBlitCommandEncoder", blit);
  add_sample("MTLBuffer", [device newBufferWithLength:16 options:MTLResourceStorageModeShared]);
  add_sample("MTLEvent", [device newSharedEvent]);
  add_sample("MTLSharedEvent", [device newSharedEvent]);
  add_sample("MTLLibrary", library);
  add_sample("MTLComputePipelineState", state);
  printf("device: %s\n", device.name.UTF8String);
}

/* Writes an encoding without what may differ between equal types: frame offsets, qualifiers, names of structures, and
 * how the platform spells BOOL. */
static void normalize(const char *encoding, char *out, size_t capacity) {
  size_t length = 0;
  bool in_name = false;
  for (const char *at = encoding; *at != '\0' && length + 1 < capacity; at++) {
    if (in_name && *at != '=' && *at != '}') {
      continue;
    }
    in_name = *at == '{';
    if (isdigit((unsigned char)*at) || strchr("rnNoORV", *at) != NULL) {
      continue;
    }
    out[length++] = *at == 'c' || *at == 'C' ? 'B' : *at;
  }
  out[length] = '\0';
}

enum outcome { EQUAL, LEFT_OUT, WRONG };

static bool system_has(const method *wanted) {
  NSOperatingSystemVersion version = {wanted->major, wanted->minor, 0};
  return wanted->major == 0 || [NSProcessInfo.processInfo isOperatingSystemAtLeastVersion:version];
}

static enum outcome check(const method *wanted) {
  if (!system_has(wanted)) {
    printf("left out: %c[%s %s] needs macOS %d.%d\n", wanted->kind, wanted->owner, wanted->selector, wanted->major,
           wanted->minor);
    return LEFT_OUT;
  }
  bool protocol = strncmp(wanted->owner, "MTL", 3) == 0 && objc_lookUpClass(wanted->owner) == Nil;
  Class class = protocol ? object_getClass(sample_of(wanted->owner)) : objc_lookUpClass(wanted->owner);
  if (class == Nil) {
    printf("%s: %c[%s %s]: %s\n", protocol ? "left out" : "WRONG", wanted->kind, wanted->owner, wanted->selector,
           protocol ? "no object of a driver" : "no such class");
    return protocol ? LEFT_OUT : WRONG;
  }
  SEL selector = sel_registerName(wanted->selector);
  Method found = wanted->kind == '+' ? class_getClassMethod(class, selector) : class_getInstanceMethod(class, selector);
  if (found == NULL) {
    printf("WRONG: %c[%s %s]: %s does not have it\n", wanted->kind, wanted->owner, wanted->selector,
           class_getName(class));
    return WRONG;
  }
  char expected[256];
  char actual[256];
  const char *encoding = method_getTypeEncoding(found);
  normalize(wanted->encoding, expected, sizeof(expected));
  normalize(encoding == NULL ? "" : encoding, actual, sizeof(actual));
  if (strcmp(expected, actual) != 0) {
    printf("WRONG: %c[%s %s]: %s has types %s, not %s\n", wanted->kind, wanted->owner, wanted->selector,
           class_getName(class), actual, expected);
    return WRONG;
  }
  return EQUAL;
}

int main(void) {
  @autoreleasepool {
    make_samples();
    int counts[3] = {0, 0, 0};
    for (size_t i = 0; i < sizeof(METHODS) / sizeof(METHODS[0]); i++) {
      counts[check(&METHODS[i])]++;
    }
    printf("%d methods have the expected types, %d do not, %d were left out\n", counts[EQUAL], counts[WRONG],
           counts[LEFT_OUT]);
    return counts[WRONG] == 0 ? 0 : 1;
  }
}
