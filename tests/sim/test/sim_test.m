/*
 * Simulated Metal: a test of the simulation itself. Everything that it lets through must work, and everything that it
 * is strict about must stop the process: such a case runs in a child, whose end and last words are checked.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 *     sim-test            runs all cases
 *     sim-test CASE       runs one case in this process
 */
#import <MetalPerformanceShadersGraph/MetalPerformanceShadersGraph.h>

#include <Block.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <os/lock.h>

#include "mst_sim.h"

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                               \
    }                                                                        \
  } while (0)

/* ------------------------------------------------------------------------------------------------- stage ---------- */

static id<MTLDevice> device;

static id<MTLBuffer> floats(NSUInteger count) {
  return [[device newBufferWithLength:count * sizeof(float) options:MTLResourceStorageModeShared] autorelease];
}

static float *contents(id<MTLBuffer> buffer) {
  return (float *)[buffer contents];
}

static id<MTLCommandQueue> queue(void) {
  return [[device newCommandQueue] autorelease];
}

static void fill(id<MTLCommandBuffer> commands, id<MTLBuffer> buffer, uint8_t value) {
  id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
  [blit fillBuffer:buffer range:NSMakeRange(0, [buffer length]) value:value];
  [blit endEncoding];
}

/* ------------------------------------------------------------------------------------------------- what works ----- */

static void fills_and_copies(void) {
  id<MTLBuffer> a = floats(64), b = floats(64);
  CHECK(isnan(contents(a)[0]));
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  fill(commands, a, 7);
  id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
  [blit copyFromBuffer:a sourceOffset:0 toBuffer:b destinationOffset:128 size:128];
  [blit endEncoding];
  CHECK(commands.status == MTLCommandBufferStatusNotEnqueued);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(commands.status == MTLCommandBufferStatusCompleted && commands.error == nil);
  CHECK(commands.GPUEndTime >= commands.GPUStartTime && commands.GPUStartTime > 0);
  unsigned char *bytes = [b contents];
  CHECK(bytes[127] == 0xFF && bytes[128] == 7 && bytes[255] == 7);
}

static void calls_handlers(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  __block int calls = 0;
  NSObject *captured = [[NSObject alloc] init];
  [commands addScheduledHandler:^(id<MTLCommandBuffer> buffer) {
    CHECK(buffer.status < MTLCommandBufferStatusCompleted && [NSAutoreleasePool currentPool] == nil);
    calls++;
  }];
  [commands addCompletedHandler:^(id<MTLCommandBuffer> buffer) {
    CHECK(buffer.status == MTLCommandBufferStatusCompleted && [captured hash] != 0);
    calls++;
  }];
  [captured release]; /* the handler holds it */
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(calls == 2);
}

static void orders_queues_by_events(void) {
  id<MTLSharedEvent> event = [[device newSharedEvent] autorelease];
  id<MTLBuffer> a = floats(16);
  id<MTLCommandBuffer> second = [queue() commandBuffer];
  [second encodeWaitForEvent:event value:3];
  fill(second, a, 2);
  [second commit]; /* waits for what is not even encoded */
  id<MTLCommandBuffer> first = [queue() commandBuffer];
  fill(first, a, 1);
  [first encodeSignalEvent:event value:3];
  [first commit];
  [second waitUntilCompleted];
  CHECK(*(unsigned char *)[a contents] == 2 && event.signaledValue == 3);
  event.signaledValue = 1; /* never back */
  CHECK(event.signaledValue == 3);
  CHECK([event waitUntilSignaledValue:3 timeoutMS:0] && ![event waitUntilSignaledValue:4 timeoutMS:1]);
}

static void notifies_listeners(void) {
  id<MTLSharedEvent> event = [[device newSharedEvent] autorelease];
  MTLSharedEventListener *listener = [[[MTLSharedEventListener alloc] init] autorelease];
  dispatch_semaphore_t told = dispatch_semaphore_create(0);
  [event notifyListener:listener
                atValue:2
                  block:^(id<MTLSharedEvent> source, uint64_t value) {
                    CHECK(source == event && value == 5);
                    dispatch_semaphore_signal(told);
                  }];
  CHECK(dispatch_semaphore_wait(told, DISPATCH_TIME_NOW) != 0);
  event.signaledValue = 5;
  CHECK(dispatch_semaphore_wait(told, dispatch_time(DISPATCH_TIME_NOW, 10000000000)) == 0);
  mst_sim_quiesce();
  dispatch_release(told);
}

static void blocks_at_the_bound(void) {
  id<MTLCommandQueue> small = [[device newCommandQueueWithMaxCommandBufferCount:2] autorelease];
  for (int i = 0; i < 10; i++)
    [[small commandBuffer] commit]; /* waits for a place, and gets one */
  mst_sim_quiesce();
}

static void drops_uncommitted_buffers(void) {
  id<MTLCommandQueue> small = [[device newCommandQueueWithMaxCommandBufferCount:1] autorelease];
  for (int i = 0; i < 3; i++) {
    @autoreleasepool {
      fill([small commandBuffer], floats(4), 1);
    }
  }
}

static void continues_after_a_commit(void) {
  id<MTLBuffer> a = floats(16);
  MPSCommandBuffer *commands = [MPSCommandBuffer commandBufferFromCommandQueue:queue()];
  id<MTLCommandBuffer> first = commands.rootCommandBuffer;
  fill(commands, a, 1);
  [commands commitAndContinue];
  CHECK(commands.rootCommandBuffer != first && commands.status == MTLCommandBufferStatusNotEnqueued);
  fill(commands, a, 2);
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(first.status == MTLCommandBufferStatusCompleted && *(unsigned char *)[a contents] == 2);
}

static NSString *const KERNELS =
    @"#include <metal_stdlib>\n"
     "using namespace metal;\n"
     "struct scale { float factor; uint count; };\n"
     "kernel void scale_all(device float *x [[buffer(0)]], constant scale &s [[buffer(2)]],\n"
     "                      uint i [[thread_position_in_grid]]) {\n"
     "  if (i < s.count) x[i] *= s.factor;\n"
     "}\n"
     "static float sum(float mine, threadgroup float *all, uint lane, uint lanes) {\n"
     "  all[lane] = mine;\n"
     "  threadgroup_barrier(mem_flags::mem_threadgroup);\n"
     "  float total = 0;\n"
     "  for (uint i = 0; i < lanes; i++) total += all[i];\n"
     "  threadgroup_barrier(mem_flags::mem_threadgroup);\n"
     "  return total;\n"
     "}\n"
     "kernel void sum_rows(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],\n"
     "                     uint row [[threadgroup_position_in_grid]],\n"
     "                     uint lane [[thread_position_in_threadgroup]], uint lanes [[threads_per_threadgroup]]) {\n"
     "  threadgroup float all[64];\n"
     "  float total = sum(x[row * lanes + lane], all, lane, lanes);\n"
     "  if (lane == 0) y[row] = total;\n"
     "}\n";

static id<MTLComputePipelineState> pipeline(NSString *name) {
  NSError *error = nil;
  id<MTLLibrary> library = [[device newLibraryWithSource:KERNELS options:nil error:&error] autorelease];
  if (library == nil)
    fprintf(stderr, "%s\n", [[error localizedDescription] UTF8String]);
  CHECK(library != nil && [library.functionNames count] == 2);
  id<MTLFunction> function = [[library newFunctionWithName:name] autorelease];
  CHECK(function != nil && [library newFunctionWithName:@"no such kernel"] == nil);
  return [[device newComputePipelineStateWithFunction:function error:&error] autorelease];
}

static void runs_kernels(void) {
  id<MTLBuffer> x = floats(5 * 64), y = floats(5);
  for (int i = 0; i < 5 * 64; i++)
    contents(x)[i] = (float)i;
  struct {
    float factor;
    uint32_t count;
  } scale = {2, 5 * 64};
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  id<MTLComputeCommandEncoder> compute = [commands computeCommandEncoder];
  [compute setComputePipelineState:pipeline(@"scale_all")];
  [compute setBuffer:x offset:0 atIndex:0];
  [compute setBytes:&scale length:sizeof scale atIndex:2];
  [compute dispatchThreads:MTLSizeMake(5 * 64, 1, 1) threadsPerThreadgroup:MTLSizeMake(48, 1, 1)];
  [compute setComputePipelineState:pipeline(@"sum_rows")];
  [compute setBuffer:y offset:0 atIndex:1];
  [compute dispatchThreadgroups:MTLSizeMake(5, 1, 1) threadsPerThreadgroup:MTLSizeMake(64, 1, 1)];
  [compute endEncoding];
  [commands commit];
  [commands waitUntilCompleted];
  for (int row = 0; row < 5; row++)
    CHECK(contents(y)[row] == (float)(2 * (row * 64 * 64 + 63 * 32)));
}

static void reports_kernels_that_do_not_compile(void) {
  NSError *error = nil;
  NSString *source = @"#include <metal_stdlib>\nkernel void f(device float *x [[buffer(0)]]) { uint half = 1; }\n";
  CHECK([device newLibraryWithSource:source options:nil error:&error] == nil);
  CHECK([error.domain isEqual:MTLLibraryErrorDomain] && error.code == MTLLibraryErrorCompileFailure);
  CHECK([[error localizedDescription] rangeOfString:@"cannot combine"].location != NSNotFound); /* half is a type */
}

/* x [m, k] times w [n, k] transposed, plus b [n], as a graph with a feed that nothing needs. */
struct linear {
  MPSGraph *graph;
  MPSGraphTensor *x, *w, *b, *y;
  MPSGraphExecutable *executable;
};

static MPSGraphExecutable *compile(struct linear *l, NSArray *feeds) {
  NSMutableDictionary *types = [NSMutableDictionary dictionary];
  for (MPSGraphTensor *feed in feeds)
    [types setObject:[[[MPSGraphShapedType alloc] initWithShape:feed.shape dataType:feed.dataType] autorelease]
              forKey:feed];
  return [l->graph compileWithDevice:[MPSGraphDevice deviceWithMTLDevice:device]
                               feeds:types
                       targetTensors:@[ l->y ]
                    targetOperations:nil
               compilationDescriptor:nil];
}

static struct linear linear(int m, int k, int n) {
  struct linear l;
  l.graph = [[[MPSGraph alloc] init] autorelease];
  l.x = [l.graph placeholderWithShape:@[ @(m), @(k) ] dataType:MPSDataTypeFloat32 name:nil];
  l.w = [l.graph placeholderWithShape:@[ @(n), @(k) ] dataType:MPSDataTypeFloat32 name:nil];
  l.b = [l.graph placeholderWithShape:@[ @(n) ] dataType:MPSDataTypeFloat32 name:nil];
  MPSGraphTensor *unused = [l.graph placeholderWithShape:@[ @1 ] dataType:MPSDataTypeFloat32 name:nil];
  MPSGraphTensor *wt = [l.graph transposeTensor:l.w dimension:0 withDimension:1 name:nil];
  MPSGraphTensor *xw = [l.graph matrixMultiplicationWithPrimaryTensor:l.x secondaryTensor:wt name:nil];
  l.y = [l.graph additionWithPrimaryTensor:xw secondaryTensor:l.b name:nil];
  l.executable = compile(&l, @[ l.x, l.w, l.b, unused ]);
  return l;
}

static MPSGraphTensorData *data_for(MPSGraphTensor *tensor, id<MTLBuffer> buffer) {
  return [[[MPSGraphTensorData alloc] initWithMTLBuffer:buffer
                                                  shape:tensor.shape
                                               dataType:tensor.dataType] autorelease];
}

static void runs_graphs(void) {
  struct linear l = linear(3, 4, 2);
  CHECK([l.executable.feedTensors isEqual:(@[ l.b, l.w, l.x ])]);
  id<MTLBuffer> x = floats(12), w = floats(8), b = floats(2), y = floats(6);
  for (int i = 0; i < 12; i++)
    contents(x)[i] = (float)i;
  for (int i = 0; i < 8; i++)
    contents(w)[i] = (float)(i % 3);
  contents(b)[0] = 10;
  contents(b)[1] = 20;
  MPSCommandBuffer *commands = [MPSCommandBuffer commandBufferFromCommandQueue:queue()];
  id<MTLCommandBuffer> root = commands.rootCommandBuffer;
  NSArray *inputs = @[ data_for(l.b, b), data_for(l.w, w), data_for(l.x, x) ];
  [l.executable encodeToCommandBuffer:commands
                          inputsArray:inputs
                         resultsArray:@[ data_for(l.y, y) ]
                  executionDescriptor:nil];
  CHECK((commands.rootCommandBuffer == root) == (mst_sim_counter("mid_encode_commits") == 0));
  [commands commit];
  [commands waitUntilCompleted];
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 2; j++) {
      float expected = contents(b)[j];
      for (int k = 0; k < 4; k++)
        expected += contents(x)[i * 4 + k] * contents(w)[j * 4 + k];
      CHECK(contents(y)[i * 2 + j] == expected);
    }
  }
}

/* ------------------------------------------------------------------------------------------------- operations ----- */

static MPSGraph *new_graph(void) {
  return [[[MPSGraph alloc] init] autorelease];
}

static MPSGraphTensor *numbers(MPSGraph *graph, NSArray *shape, const float *values, NSUInteger count) {
  return [graph constantWithData:[NSData dataWithBytes:values length:count * sizeof(float)]
                           shape:shape
                        dataType:MPSDataTypeFloat32];
}
#define NUMBERS(graph, shape, ...) \
  numbers(graph, shape, (const float[]){__VA_ARGS__}, sizeof((const float[]){__VA_ARGS__}) / sizeof(float))

/* Computes a tensor from constants. */
static id<MTLBuffer> evaluate(MPSGraph *graph, MPSGraphTensor *target) {
  NSUInteger count = 1;
  for (NSNumber *size in target.shape)
    count *= [size unsignedIntegerValue];
  id<MTLBuffer> result = floats(count + 1);
  contents(result)[count] = 7;
  MPSGraphExecutable *executable = [graph compileWithDevice:[MPSGraphDevice deviceWithMTLDevice:device]
                                                      feeds:[NSDictionary dictionary]
                                              targetTensors:@[ target ]
                                           targetOperations:nil
                                      compilationDescriptor:nil];
  MPSCommandBuffer *commands = [MPSCommandBuffer commandBufferFromCommandQueue:queue()];
  [executable encodeToCommandBuffer:commands
                        inputsArray:@[]
                       resultsArray:@[ data_for(target, result) ]
                executionDescriptor:nil];
  [commands commit];
  [commands waitUntilCompleted];
  CHECK(contents(result)[count] == 7);
  return result;
}

/* NaN equals NaN; what is computed may be off by a rounding. */
static bool equals(MPSGraph *graph, MPSGraphTensor *target, NSArray *shape, const float *expected, int count) {
  const float *values = contents(evaluate(graph, target));
  bool equal = [target.shape isEqual:shape];
  for (int i = 0; i < count; i++) {
    bool same = isnan(expected[i]) ? isnan(values[i])
                                   : values[i] == expected[i] || fabsf(values[i] - expected[i]) < 1e-6f;
    if (!same)
      fprintf(stderr, "element %d is %g, not %g\n", i, (double)values[i], (double)expected[i]);
    equal = equal && same;
  }
  return equal;
}
#define EQUALS(graph, target, shape, ...)           \
  equals(graph, target, shape, (float[]){__VA_ARGS__}, sizeof((float[]){__VA_ARGS__}) / sizeof(float))

static void computes_element_by_element(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @2, @3 ]), 1, 2, 3, 4, 5, 6);
  MPSGraphTensor *row = NUMBERS(g, (@[ @3 ]), 2, 4, 8);
  MPSGraphTensor *column = NUMBERS(g, (@[ @2, @1 ]), 10, 20);
  NSArray *shape = @[ @2, @3 ];
  CHECK(EQUALS(g, [g additionWithPrimaryTensor:a secondaryTensor:column name:nil], shape, 11, 12, 13, 24, 25, 26));
  CHECK(EQUALS(g, [g subtractionWithPrimaryTensor:row secondaryTensor:a name:nil], shape, 1, 2, 5, -2, -1, 2));
  CHECK(EQUALS(g, [g multiplicationWithPrimaryTensor:a secondaryTensor:row name:nil], shape, 2, 8, 24, 8, 20, 48));
  CHECK(EQUALS(g, [g divisionWithPrimaryTensor:column secondaryTensor:row name:nil], shape, 5, 2.5f, 1.25f, 10, 5, 2.5f));
  MPSGraphTensor *x = NUMBERS(g, (@[ @4 ]), -50, 4, NAN, INFINITY);
  CHECK(EQUALS(g, [g absoluteWithTensor:x name:nil], (@[ @4 ]), 50, 4, NAN, INFINITY));
  CHECK(EQUALS(g, [g exponentWithTensor:[g subtractionWithPrimaryTensor:x secondaryTensor:x name:nil] name:nil],
               (@[ @4 ]), 1, 1, NAN, NAN));
  CHECK(EQUALS(g, [g squareRootWithTensor:x name:nil], (@[ @4 ]), NAN, 2, NAN, INFINITY));
  CHECK(EQUALS(g, [g tanhWithTensor:x name:nil], (@[ @4 ]), NAN, 0.9993293f, NAN, NAN)); /* as fast math has it */
  CHECK(EQUALS(g, [g identityWithTensor:x name:nil], (@[ @4 ]), -50, 4, NAN, INFINITY));
  MPSGraphTensor *bound = NUMBERS(g, (@[ @1 ]), 4);
  MPSGraphTensor *less = [g lessThanWithPrimaryTensor:x secondaryTensor:bound name:nil];
  MPSGraphTensor *greater = [g greaterThanWithPrimaryTensor:x secondaryTensor:bound name:nil];
  CHECK(less.dataType == MPSDataTypeBool);
  CHECK(EQUALS(g, [g selectWithPredicateTensor:less truePredicateTensor:bound falsePredicateTensor:x name:nil], (@[ @4 ]), 4,
               4, NAN, INFINITY));
  CHECK(EQUALS(g, [g selectWithPredicateTensor:greater truePredicateTensor:bound falsePredicateTensor:x name:nil], (@[ @4 ]),
               -50, 4, NAN, 4));
}

static void reduces_along_axes(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @2, @2, @3 ]), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 18);
  CHECK(EQUALS(g, [g reductionSumWithTensor:a axis:2 name:nil], (@[ @2, @2, @1 ]), 6, 15, 24, 39));
  CHECK(EQUALS(g, [g reductionSumWithTensor:a axis:0 name:nil], (@[ @1, @2, @3 ]), 8, 10, 12, 14, 16, 24));
  CHECK(EQUALS(g, [g meanOfTensor:a axes:@[ @1 ] name:nil], (@[ @2, @1, @3 ]), 2.5f, 3.5f, 4.5f, 8.5f, 9.5f, 13.5f));
  CHECK(EQUALS(g, [g meanOfTensor:a axes:(@[ @2, @0 ]) name:nil], (@[ @1, @2, @1 ]), 5, 9));
  MPSGraphTensor *x = NUMBERS(g, (@[ @2, @2 ]), NAN, 3, -INFINITY, -INFINITY);
  CHECK(EQUALS(g, [g reductionMaximumWithTensor:x axis:1 name:nil], (@[ @2, @1 ]), 3, -INFINITY));
}

static void rearranges(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @1, @2, @3 ]), 1, 2, 3, 4, 5, 6);
  CHECK(EQUALS(g, [g transposeTensor:a permutation:(@[ @2, @0, @1 ]) name:nil], (@[ @3, @1, @2 ]), 1, 4, 2, 5, 3, 6));
  CHECK(EQUALS(g, [g transposeTensor:a dimension:1 withDimension:2 name:nil], (@[ @1, @3, @2 ]), 1, 4, 2, 5, 3, 6));
  CHECK(EQUALS(g, [g reshapeTensor:a withShape:(@[ @3, @2 ]) name:nil], (@[ @3, @2 ]), 1, 2, 3, 4, 5, 6));
  CHECK(EQUALS(g, [g sliceTensor:a starts:(@[ @0, @1, @0 ]) ends:(@[ @1, @2, @3 ]) strides:(@[ @1, @1, @2 ]) name:nil],
               (@[ @1, @1, @2 ]), 4, 6));
  CHECK(EQUALS(g, [g sliceTensor:a dimension:2 start:1 length:2 name:nil], (@[ @1, @2, @2 ]), 2, 3, 5, 6));
  MPSGraphTensor *b = NUMBERS(g, (@[ @1, @2, @1 ]), 8, 9);
  CHECK(EQUALS(g, [g concatTensors:(@[ a, b ]) dimension:2 name:nil], (@[ @1, @2, @4 ]), 1, 2, 3, 8, 4, 5, 6, 9));
}

static void multiplies_batches(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @2, @1, @2 ]), 1, 2, 3, 4);
  MPSGraphTensor *b = NUMBERS(g, (@[ @2, @2, @1 ]), 5, 6, 7, 8);
  MPSGraphTensor *c = NUMBERS(g, (@[ @2, @1 ]), 5, 6);
  NSArray *shape = @[ @2, @1, @1 ];
  CHECK(EQUALS(g, [g matrixMultiplicationWithPrimaryTensor:a secondaryTensor:b name:nil], shape, 17, 53));
  CHECK(EQUALS(g, [g matrixMultiplicationWithPrimaryTensor:a secondaryTensor:c name:nil], shape, 17, 39));
}

static MPSGraphTensor *half(MPSGraph *graph, MPSGraphTensor *tensor) {
  return [graph castTensor:tensor toType:MPSDataTypeFloat16 name:nil];
}

static MPSGraphTensor *single(MPSGraph *graph, MPSGraphTensor *tensor) {
  return [graph castTensor:tensor toType:MPSDataTypeFloat32 name:nil];
}

static void computes_in_the_type_of_its_tensors(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *x = NUMBERS(g, (@[ @6 ]), 1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 65519.9f, 65520, 0x1p-25f, 0x1.8p-25f);
  CHECK(EQUALS(g, single(g, half(g, x)), (@[ @6 ]), 1, 1 + 2 * 0x1p-10f, 65504, INFINITY, 0, 0x1p-24f));
  const uint16_t *patterns = [evaluate(g, half(g, x)) contents];
  CHECK(patterns[0] == 0x3C00 && patterns[1] == 0x3C02 && patterns[2] == 0x7BFF && patterns[3] == 0x7C00);
  CHECK(patterns[4] == 0 && patterns[5] == 1);
  uint16_t given[] = {0x3C01, 0xC000, 0x0001};
  MPSGraphTensor *y = [g constantWithData:[NSData dataWithBytes:given length:sizeof given]
                                    shape:@[ @3 ]
                                 dataType:MPSDataTypeFloat16];
  CHECK(EQUALS(g, single(g, y), (@[ @3 ]), 1 + 0x1p-10f, -2, 0x1p-24f));
  MPSGraphTensor *ones = [g constantWithScalar:1 shape:@[ @4096 ] dataType:MPSDataTypeFloat16];
  CHECK(EQUALS(g, single(g, [g reductionSumWithTensor:ones axis:0 name:nil]), (@[ @1 ]), 2048)); /* 2049 has 12 bits */
  CHECK(EQUALS(g, [g reductionSumWithTensor:single(g, ones) axis:0 name:nil], (@[ @1 ]), 4096));
}

static void adds_different_types(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @2 ]), 1, 2);
  [g additionWithPrimaryTensor:a secondaryTensor:half(g, a) name:nil];
}

static void multiplies_different_types(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @1, @1 ]), 1);
  [g matrixMultiplicationWithPrimaryTensor:a secondaryTensor:half(g, a) name:nil];
}

static void concatenates_different_types(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @1 ]), 1);
  [g concatTensors:(@[ a, half(g, a) ]) dimension:0 name:nil];
}

static void selects_by_numbers(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @2 ]), 1, 0);
  [g selectWithPredicateTensor:a truePredicateTensor:a falsePredicateTensor:a name:nil];
}

static void computes_with_truths(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *a = NUMBERS(g, (@[ @2 ]), 1, 0);
  [g exponentWithTensor:[g lessThanWithPrimaryTensor:a secondaryTensor:a name:nil] name:nil];
}

static void broadcasts_what_does_not_fit(void) {
  MPSGraph *g = new_graph();
  [g additionWithPrimaryTensor:NUMBERS(g, (@[ @2 ]), 1, 2) secondaryTensor:NUMBERS(g, (@[ @3 ]), 1, 2, 3) name:nil];
}

static void names_a_dimension_twice(void) {
  MPSGraph *g = new_graph();
  [g transposeTensor:NUMBERS(g, (@[ @1, @2 ]), 1, 2) permutation:(@[ @0, @0 ]) name:nil];
}

static void reduces_an_axis_that_is_not_there(void) {
  MPSGraph *g = new_graph();
  [g meanOfTensor:NUMBERS(g, (@[ @2 ]), 1, 2) axes:@[ @1 ] name:nil];
}

static void slices_beyond_the_end(void) {
  MPSGraph *g = new_graph();
  [g sliceTensor:NUMBERS(g, (@[ @2 ]), 1, 2) starts:@[ @1 ] ends:@[ @3 ] strides:@[ @1 ] name:nil];
}

static void feeds_another_type(void) {
  MPSGraph *g = new_graph();
  MPSGraphTensor *x = [g placeholderWithShape:@[ @4 ] dataType:MPSDataTypeFloat16 name:nil];
  MPSGraphTensor *y = single(g, x);
  MPSGraphShapedType *type = [[[MPSGraphShapedType alloc] initWithShape:@[ @4 ] dataType:x.dataType] autorelease];
  MPSGraphExecutable *executable = [g compileWithDevice:[MPSGraphDevice deviceWithMTLDevice:device]
                                                  feeds:[NSDictionary dictionaryWithObject:type forKey:x]
                                          targetTensors:@[ y ]
                                       targetOperations:nil
                                  compilationDescriptor:nil];
  MPSGraphTensorData *wrong = [[[MPSGraphTensorData alloc] initWithMTLBuffer:floats(4)
                                                                       shape:@[ @4 ]
                                                                    dataType:MPSDataTypeFloat32] autorelease];
  [executable encodeToCommandBuffer:[MPSCommandBuffer commandBufferFromCommandQueue:queue()]
                        inputsArray:@[ wrong ]
                       resultsArray:@[ data_for(y, floats(4)) ]
                executionDescriptor:nil];
}

static void commits_in_the_middle_of_an_encode(void) {
  CHECK(mst_sim_set("GRAPH_COMMITS", "1") == 0);
  runs_graphs();
  CHECK(mst_sim_counter("mid_encode_commits") == 1);
}

static MPSNDArray *matrix(id<MTLBuffer> buffer, NSUInteger rows, NSUInteger columns) {
  NSUInteger sizes[] = {columns, rows};
  MPSNDArrayDescriptor *descriptor = [MPSNDArrayDescriptor descriptorWithDataType:MPSDataTypeFloat32
                                                                   dimensionCount:2
                                                                   dimensionSizes:sizes];
  descriptor.preferPackedRows = YES;
  return [[[MPSNDArray alloc] initWithBuffer:buffer offset:0 descriptor:descriptor] autorelease];
}

static void encode_product(MPSNDArrayMatrixMultiplication *kernel, id<MTLCommandBuffer> commands, id<MTLBuffer> a,
                           id<MTLBuffer> b, id<MTLBuffer> y) {
  MPSNDArray *right = matrix(b, 5, 3);
  MPSNDArrayDescriptor *descriptor = [right descriptor];
  [descriptor transposeDimension:0 withDimension:1];
  right = [right arrayViewWithCommandBuffer:commands descriptor:descriptor aliasing:MPSAliasingStrategyShallAlias];
  [kernel encodeToCommandBuffer:commands sourceArrays:@[ matrix(a, 2, 3), right ] destinationArray:matrix(y, 2, 5)];
}

static void multiplies_arrays(void) {
  id<MTLBuffer> a = floats(6), b = floats(15), y = floats(10);
  for (int i = 0; i < 15; i++)
    contents(b)[i] = (float)i;
  for (int i = 0; i < 6; i++)
    contents(a)[i] = (float)(i + 1);
  MPSNDArrayMatrixMultiplication *kernel =
      [[[MPSNDArrayMatrixMultiplication alloc] initWithDevice:device sourceCount:2] autorelease];
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  encode_product(kernel, commands, a, b, y);
  [commands commit];
  [commands waitUntilCompleted];
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 5; j++)
      CHECK(contents(y)[i * 5 + j] == contents(a)[i * 3] * contents(b)[j * 3] +
                                          contents(a)[i * 3 + 1] * contents(b)[j * 3 + 1] +
                                          contents(a)[i * 3 + 2] * contents(b)[j * 3 + 2]);
}

static void pads_rows_unless_told_otherwise(void) {
  NSUInteger sizes[] = {3, 2};
  MPSNDArrayDescriptor *descriptor = [MPSNDArrayDescriptor descriptorWithDataType:MPSDataTypeFloat32
                                                                   dimensionCount:2
                                                                   dimensionSizes:sizes];
  MPSNDArray *array = [[[MPSNDArray alloc] initWithBuffer:floats(8) offset:0 descriptor:descriptor] autorelease];
  CHECK(array->_layout.strides[1] == 4 && matrix(floats(6), 2, 3)->_layout.strides[1] == 3);
}

/* ------------------------------------------------------------------------------------------------- switches ------- */

static void has_no_device(void) {
  CHECK(mst_sim_set("DEVICE", "none") == 0);
  CHECK(MTLCreateSystemDefaultDevice() == nil && [[MTLCopyAllDevices() autorelease] count] == 0);
}

static void is_paravirtual(void) {
  CHECK(mst_sim_set("DEVICE", "paravirtual") == 0);
  CHECK([device.name isEqual:@"Apple Paravirtual device"] && !MPSSupportsMTLDevice(device));
  CHECK([device supportsFamily:MTLGPUFamilyApple5] && ![device supportsFamily:MTLGPUFamilyMetal3]);
}

static void runs_out_of_memory(void) {
  CHECK(mst_sim_set("MEMORY_LIMIT", "1024") == 0);
  CHECK(device.recommendedMaxWorkingSetSize == 1024 && floats(256) != nil);
  CHECK([device newBufferWithLength:4 options:0] == nil && device.currentAllocatedSize == 1024);
}

static void knows_older_systems(void) {
  CHECK(mst_sim_set("MACOS", "14.0") == 0 && mst_sim_set("MACOS", "old") == -1 && mst_sim_set("NONE", "1") == -1);
  int sim_available(const char *);
  CHECK(sim_available("macOS 14.0, *") && !sim_available("macOS 14.4, *") && !sim_available("macOS 15, *"));
}

static void fails_a_command_buffer_on_order(void) {
  id<MTLSharedEvent> event = [[device newSharedEvent] autorelease];
  id<MTLCommandQueue> chosen = queue(), other = queue();
  chosen.label = @"stream 7";
  mst_sim_fail_command_buffer("stream 7", 2, MTLCommandBufferErrorPageFault);
  for (int i = 1; i <= 3; i++) {
    id<MTLCommandBuffer> bystander = [other commandBuffer];
    id<MTLCommandBuffer> commands = [chosen commandBuffer];
    [commands encodeSignalEvent:event value:(uint64_t)i];
    [commands commit];
    [bystander commit];
    [commands waitUntilCompleted];
    [bystander waitUntilCompleted];
    CHECK(bystander.status == MTLCommandBufferStatusCompleted);
    CHECK((commands.status == MTLCommandBufferStatusError) == (i == 2));
    CHECK(i != 2 || ([commands.error.domain isEqual:MTLCommandBufferErrorDomain] &&
                     commands.error.code == MTLCommandBufferErrorPageFault && event.signaledValue == 1));
  }
  CHECK(event.signaledValue == 3);
}

/* Threads that do the same at the same time. */
struct crew {
  pthread_barrier_t start;
  void (*work)(void);
};

static void *work_in_crew(void *argument) {
  struct crew *crew = argument;
  pthread_barrier_wait(&crew->start);
  for (int i = 0; i < 20; i++) {
    @autoreleasepool {
      crew->work();
    }
  }
  return NULL;
}

static void run_crew(int threads, void (*work)(void)) {
  struct crew crew = {.work = work};
  pthread_t ids[8];
  pthread_barrier_init(&crew.start, NULL, (unsigned)threads);
  for (int i = 0; i < threads; i++)
    pthread_create(&ids[i], NULL, work_in_crew, &crew);
  for (int i = 0; i < threads; i++)
    pthread_join(ids[i], NULL);
  pthread_barrier_destroy(&crew.start);
}

static void survives_crowds_by_default(void) {
  run_crew(8, multiplies_arrays);
  run_crew(8, runs_kernels);
  CHECK(mst_sim_counter("ndarray_overlaps") == 0 && mst_sim_counter("compute_overlaps") == 0);
}

static void admits_two_products(void) {
  CHECK(mst_sim_set("NDARRAY_LIMIT", "2") == 0);
  run_crew(2, multiplies_arrays);
}

static void crashes_with_three_products(void) {
  CHECK(mst_sim_set("NDARRAY_LIMIT", "2") == 0);
  run_crew(3, multiplies_arrays);
}

static void admits_three_kernels(void) {
  CHECK(mst_sim_set("COMPUTE_LIMIT", "3") == 0);
  run_crew(3, runs_kernels);
}

static void crashes_with_four_kernels(void) {
  CHECK(mst_sim_set("COMPUTE_LIMIT", "3") == 0);
  run_crew(4, runs_kernels);
}

static void opens_an_encoder(void) {
  @autoreleasepool {
    id<MTLComputeCommandEncoder> encoder = [[queue() commandBuffer] computeCommandEncoder];
    [encoder endEncoding];
  }
}

static void one_thread_is_safe_from_the_impl_race(void) {
  CHECK(mst_sim_set("DESTROY_IMPL_RACE", "1") == 0);
  run_crew(1, opens_an_encoder);
  CHECK(mst_sim_counter("impl_races") == 0);
}

static void loses_the_impl_race(void) {
  CHECK(mst_sim_set("DESTROY_IMPL_RACE", "1") == 0);
  run_crew(4, opens_an_encoder);
}

/* ------------------------------------------------------------------------------------------------- strictness ----- */

static void commits_twice(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  [commands commit];
  [commands commit];
}

static void encodes_after_the_commit(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  [commands commit];
  [commands blitCommandEncoder];
}

static void opens_a_second_encoder(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
  [commands computeCommandEncoder];
  [blit endEncoding];
}

static void commits_with_an_open_encoder(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  [commands blitCommandEncoder];
  [commands commit];
}

static void signals_with_an_open_encoder(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  [commands blitCommandEncoder];
  [commands encodeSignalEvent:[[device newSharedEvent] autorelease] value:1];
}

static void waits_with_an_open_encoder(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  [commands blitCommandEncoder];
  [commands encodeWaitForEvent:[[device newSharedEvent] autorelease] value:1];
}

static void adds_a_handler_after_the_commit(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  [commands commit];
  [commands addCompletedHandler:^(id<MTLCommandBuffer> buffer) {
    (void)buffer;
  }];
}

static void leaves_an_encoder_open(void) {
  @autoreleasepool {
    [[queue() commandBuffer] blitCommandEncoder];
  }
}

static void uses_an_ended_encoder(void) {
  id<MTLBlitCommandEncoder> blit = [[queue() commandBuffer] blitCommandEncoder];
  [blit endEncoding];
  [blit fillBuffer:floats(4) range:NSMakeRange(0, 4) value:0];
}

static void holds_too_many_buffers(void) {
  CHECK(mst_sim_set("HANG_SECONDS", "1") == 0);
  id<MTLCommandQueue> q = queue();
  for (int i = 0; i < 65; i++)
    [q commandBuffer];
}

static void waits_for_what_nobody_signals(void) {
  CHECK(mst_sim_set("HANG_SECONDS", "1") == 0);
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  [commands encodeWaitForEvent:[[device newSharedEvent] autorelease] value:1];
  [commands commit];
  [commands waitUntilCompleted];
}

static void waits_after_commit_and_continue(void) {
  MPSCommandBuffer *commands = [MPSCommandBuffer commandBufferFromCommandQueue:queue()];
  [commands commitAndContinue];
  [commands waitUntilCompleted];
}

static void waits_in_its_own_handler(void) {
  id<MTLCommandBuffer> commands = [queue() commandBuffer];
  [commands addCompletedHandler:^(id<MTLCommandBuffer> buffer) {
    [buffer waitUntilCompleted];
  }];
  [commands commit];
  mst_sim_quiesce();
}

static void frees_a_buffer_in_flight(void) {
  mst_sim_hold();
  id<MTLBuffer> buffer = [device newBufferWithLength:64 options:0];
  id<MTLCommandBuffer> commands = [queue() commandBufferWithUnretainedReferences];
  fill(commands, buffer, 1);
  [commands commit];
  [buffer release];
}

static void recycles_a_buffer_in_flight(void) {
  id<MTLBuffer> buffer = floats(16);
  id<MTLCommandQueue> queues[] = {queue(), queue()};
  mst_sim_hold();
  for (int i = 0; i < 2; i++) {
    id<MTLCommandBuffer> commands = [queues[i] commandBuffer];
    fill(commands, buffer, 1);
    [commands commit];
  }
  mst_sim_release();
  mst_sim_quiesce();
}

static void lets_queues_share_a_buffer(void) {
  id<MTLBuffer> buffer = floats(16);
  id<MTLCommandQueue> queues[] = {queue(), queue()};
  mst_sim_hold();
  for (int i = 0; i < 2; i++) {
    id<MTLCommandBuffer> commands = [queues[i] commandBuffer];
    id<MTLBlitCommandEncoder> blit = [commands blitCommandEncoder];
    [blit fillBuffer:buffer range:NSMakeRange(32 * (NSUInteger)i, 32) value:1];
    [blit endEncoding];
    [commands commit];
  }
  mst_sim_release();
  mst_sim_quiesce();
}

static void *make_a_command_buffer(void *q) {
  [(id<MTLCommandQueue>)q commandBuffer];
  return NULL;
}

static void *make_a_string(void *unused) {
  (void)unused;
  [NSString stringWithFormat:@"%d of %@", 1, @"many"];
  return NULL;
}

static void run_bare(void *(*body)(void *), void *argument) {
  pthread_t thread;
  pthread_create(&thread, NULL, body, argument);
  pthread_join(thread, NULL);
}

static void autoreleases_without_a_pool(void) {
  run_bare(make_a_command_buffer, queue());
}

static void autoreleases_foundation_without_a_pool(void) {
  run_bare(make_a_string, NULL);
}

static void copies_beyond_a_buffer(void) {
  id<MTLBlitCommandEncoder> blit = [[queue() commandBuffer] blitCommandEncoder];
  [blit copyFromBuffer:floats(4) sourceOffset:8 toBuffer:floats(4) destinationOffset:0 size:12];
}

static void fills_at_an_odd_offset(void) {
  id<MTLBlitCommandEncoder> blit = [[queue() commandBuffer] blitCommandEncoder];
  [blit fillBuffer:floats(4) range:NSMakeRange(1, 4) value:0];
}

static void dispatches_with_nothing_bound(void) {
  id<MTLComputeCommandEncoder> compute = [[queue() commandBuffer] computeCommandEncoder];
  [compute setComputePipelineState:pipeline(@"scale_all")];
  [compute dispatchThreads:MTLSizeMake(1, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
}

static void encode_graph(struct linear *l, NSArray *inputs) {
  [l->executable encodeToCommandBuffer:[MPSCommandBuffer commandBufferFromCommandQueue:queue()]
                           inputsArray:inputs
                          resultsArray:@[ data_for(l->y, floats(6)) ]
                   executionDescriptor:nil];
}

static void feeds_too_few(void) {
  struct linear l = linear(3, 4, 2);
  encode_graph(&l, @[ data_for(l.b, floats(2)), data_for(l.w, floats(8)) ]);
}

static void feeds_in_the_wrong_order(void) {
  struct linear l = linear(3, 4, 2);
  encode_graph(&l, @[ data_for(l.x, floats(12)), data_for(l.w, floats(8)), data_for(l.b, floats(2)) ]);
}

static void gives_too_short_a_buffer(void) {
  struct linear l = linear(3, 4, 2);
  data_for(l.x, floats(11));
}

static void forgets_a_feed(void) {
  struct linear l = linear(3, 4, 2);
  compile(&l, @[ l.x, l.w ]);
}

static void drops_the_graph_of_an_executable(void) {
  struct linear l;
  NSArray *inputs;
  @autoreleasepool {
    l = linear(3, 4, 2);
    [l.executable retain];
    [l.y retain];
    inputs = [@[ data_for(l.b, floats(2)), data_for(l.w, floats(8)), data_for(l.x, floats(12)) ] retain];
  }
  encode_graph(&l, inputs);
}

static MPSNDArrayMatrixMultiplication *shared_kernel;

static void multiplies_with_a_shared_kernel(void) {
  encode_product(shared_kernel, [queue() commandBuffer], floats(6), floats(15), floats(10));
}

static void shares_a_kernel(void) {
  CHECK(mst_sim_set("NDARRAY_LIMIT", "8") == 0); /* lingers, so that the threads meet */
  shared_kernel = [[MPSNDArrayMatrixMultiplication alloc] initWithDevice:device sourceCount:2];
  run_crew(2, multiplies_with_a_shared_kernel);
}

static void releases_too_often(void) {
  id<MTLSharedEvent> event = [device newSharedEvent];
  NSUInteger count = [event retainCount];
  CHECK(count == 1);
  [device release];
  [device release];
  [device release];
}

static void locks_twice(void) {
  os_unfair_lock lock = OS_UNFAIR_LOCK_INIT;
  os_unfair_lock_lock(&lock);
  os_unfair_lock_lock(&lock);
}

/* ------------------------------------------------------------------------------------------------- cases ---------- */

static const struct test_case {
  const char *name;
  void (*body)(void);
  const char *last_words; /* NULL: it ends well, and nothing stays alive */
} cases[] = {
#define WORKS(name) {#name, name, NULL}
#define STOPS(name, words) {#name, name, words}
    WORKS(fills_and_copies),
    WORKS(calls_handlers),
    WORKS(orders_queues_by_events),
    WORKS(notifies_listeners),
    WORKS(blocks_at_the_bound),
    WORKS(drops_uncommitted_buffers),
    WORKS(continues_after_a_commit),
    WORKS(runs_kernels),
    WORKS(reports_kernels_that_do_not_compile),
    WORKS(runs_graphs),
    WORKS(computes_element_by_element),
    WORKS(reduces_along_axes),
    WORKS(rearranges),
    WORKS(multiplies_batches),
    WORKS(computes_in_the_type_of_its_tensors),
    WORKS(commits_in_the_middle_of_an_encode),
    WORKS(multiplies_arrays),
    WORKS(pads_rows_unless_told_otherwise),
    WORKS(has_no_device),
    WORKS(is_paravirtual),
    WORKS(lets_queues_share_a_buffer),
    WORKS(runs_out_of_memory),
    WORKS(knows_older_systems),
    WORKS(fails_a_command_buffer_on_order),
    WORKS(survives_crowds_by_default),
    WORKS(admits_two_products),
    WORKS(admits_three_kernels),
    WORKS(one_thread_is_safe_from_the_impl_race),
    STOPS(crashes_with_three_products, "more than 2 threads encode an MPSNDArrayMatrixMultiplication"),
    STOPS(crashes_with_four_kernels, "more than 3 threads encode compute kernels"),
    STOPS(loses_the_impl_race, "the destroyImpl race"),
    STOPS(commits_twice, "commit on a command buffer that is committed"),
    STOPS(encodes_after_the_commit, "a blit encoder on a command buffer that is committed"),
    STOPS(opens_a_second_encoder, "a command encoder is already encoding to this command buffer"),
    STOPS(commits_with_an_open_encoder, "commit: a command encoder is already encoding"),
    STOPS(signals_with_an_open_encoder, "a signal: a command encoder is already encoding"),
    STOPS(waits_with_an_open_encoder, "a wait: a command encoder is already encoding"),
    STOPS(adds_a_handler_after_the_commit, "a completed handler on a command buffer that is committed"),
    STOPS(leaves_an_encoder_open, "released without endEncoding"),
    STOPS(uses_an_ended_encoder, "a fill after endEncoding"),
    STOPS(holds_too_many_buffers, "64 uncompleted command buffers"),
    STOPS(waits_for_what_nobody_signals, "nobody signals it"),
    STOPS(waits_after_commit_and_continue, "would never return"),
    STOPS(waits_in_its_own_handler, "in a handler of the command buffer"),
    STOPS(frees_a_buffer_in_flight, "was freed while 1 command buffers use it"),
    STOPS(recycles_a_buffer_in_flight, "in no order with its write by another"),
    STOPS(autoreleases_without_a_pool, "with no pool in place"),
    STOPS(autoreleases_foundation_without_a_pool, "with no pool in place"),
    STOPS(copies_beyond_a_buffer, "exceeds buffer"),
    STOPS(fills_at_an_odd_offset, "is no multiple of 4"),
    STOPS(dispatches_with_nothing_bound, "nothing is bound at index 0"),
    STOPS(feeds_too_few, "2 inputs, not 3"),
    STOPS(feeds_in_the_wrong_order, "in another order"),
    STOPS(feeds_another_type, "of other shapes or types"),
    STOPS(adds_different_types, "on tensors of different types"),
    STOPS(multiplies_different_types, "a product of tensors of different types"),
    STOPS(concatenates_different_types, "a concatenation of tensors of different types"),
    STOPS(selects_by_numbers, "a selection by what are no truths"),
    STOPS(computes_with_truths, "a function of truths"),
    STOPS(broadcasts_what_does_not_fit, "whose shapes do not broadcast"),
    STOPS(names_a_dimension_twice, "does not name each dimension once"),
    STOPS(reduces_an_axis_that_is_not_there, "a reduction over axis 1, of 1"),
    STOPS(slices_beyond_the_end, "a slice beyond its tensor"),
    STOPS(gives_too_short_a_buffer, "exceeds buffer"),
    STOPS(forgets_a_feed, "is not among the feeds"),
    STOPS(drops_the_graph_of_an_executable, "after its graph is gone"),
    STOPS(shares_a_kernel, "two threads use an MPSKernel at once"),
    STOPS(releases_too_often, "the device was released more often than retained"),
    STOPS(locks_twice, "locked twice by one thread"),
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* Runs the case, and counts what it leaves behind. */
static int run(const struct test_case *test) {
  @autoreleasepool {
    device = MTLCreateSystemDefaultDevice();
    test->body();
    [device release];
  }
  mst_sim_quiesce();
  return mst_sim_report_live_objects() == 0 ? 0 : 1;
}

static bool passes(const struct test_case *test, const char *program) {
  int words[2];
  CHECK(pipe(words) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    dup2(words[1], 2);
    close(words[0]);
    close(words[1]);
    execl(program, program, test->name, (char *)NULL);
    _exit(127);
  }
  close(words[1]);
  char text[65536];
  size_t length = 0;
  for (ssize_t n; length < sizeof text - 1 && (n = read(words[0], text + length, sizeof text - 1 - length)) > 0;)
    length += (size_t)n;
  text[length] = '\0';
  close(words[0]);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  bool passed = test->last_words == NULL ? status == 0
                                         : !WIFEXITED(status) && WTERMSIG(status) == SIGABRT &&
                                               strstr(text, test->last_words) != NULL;
  printf("%s %s\n", passed ? "ok  " : "FAIL", test->name);
  if (!passed)
    printf("     status %x, said: %s\n", (unsigned)status, text);
  fflush(stdout);
  return passed;
}

int main(int count, char **arguments) {
  int failed = 0;
  for (int i = 0; i < CASES; i++) {
    if (count == 2 && strcmp(arguments[1], cases[i].name) == 0)
      return run(&cases[i]);
    if (count == 1 && !passes(&cases[i], "/proc/self/exe"))
      failed++;
  }
  if (count != 1) {
    fprintf(stderr, "no such case: %s\n", arguments[1]);
    return 2;
  }
  printf("%d cases, %d failed\n", CASES, failed);
  return failed == 0 ? 0 : 1;
}
