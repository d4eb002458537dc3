/*
 * Simulated Metal: MPSGraph. Graphs are built node by node; an executable is a copy of the nodes that its targets need.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * What the documentation leaves open is done the less convenient way: feedTensors come in the reverse order of their
 * creation and without those that no target needs, and with MST_SIM_GRAPH_COMMITS=1 an encode commits and continues
 * after half of its nodes. Tensors die with their graph, and so does an executable whose graph is gone.
 */
#import <MetalPerformanceShadersGraph/MetalPerformanceShadersGraph.h>

#include <stdlib.h>
#include <string.h>

#include "metal.h"
#include "product.h"

enum sim_operation {
  SIM_PLACEHOLDER,
  SIM_CONSTANT,
  SIM_MATMUL,
  SIM_ADD,
  SIM_LESS,
  SIM_SELECT,
  SIM_TRANSPOSE,
  SIM_RESHAPE,
  SIM_SLICE,
  SIM_CONCAT,
};

/* Sizes begin with the slowest dimension. */
struct sim_node {
  enum sim_operation operation;
  NSUInteger rank;
  NSUInteger sizes[SIM_MAX_RANK];
  int *operands;
  int operand_count;
  float scalar;       /* CONSTANT without data */
  NSData *data;       /* CONSTANT with data, retained */
  NSUInteger first;   /* TRANSPOSE, SLICE and CONCAT: the dimension */
  NSUInteger second;  /* TRANSPOSE */
  NSUInteger start;   /* SLICE */
  bool needed;        /* in an executable: by one of its targets */
  int argument;       /* in an executable: position of a placeholder among the feeds */
};

static size_t elements(const struct sim_node *node) {
  size_t count = 1;
  for (NSUInteger i = 0; i < node->rank; i++)
    count *= node->sizes[i];
  return count;
}

static void set_shape(struct sim_node *node, MPSShape *shape, const char *what) {
  node->rank = [shape count];
  if (node->rank > SIM_MAX_RANK)
    sim_stop("%s: %llu dimensions", what, (unsigned long long)node->rank);
  for (NSUInteger i = 0; i < node->rank; i++) {
    node->sizes[i] = [[shape objectAtIndex:i] unsignedIntegerValue];
    if (node->sizes[i] == 0)
      sim_stop("%s: a dimension of 0", what);
  }
  if (elements(node) > INT32_MAX)
    sim_stop("%s: %zu elements", what, elements(node));
}

static MPSShape *shape_of(const struct sim_node *node) {
  NSMutableArray *shape = [NSMutableArray arrayWithCapacity:node->rank];
  for (NSUInteger i = 0; i < node->rank; i++)
    [shape addObject:[NSNumber numberWithUnsignedInteger:node->sizes[i]]];
  return shape;
}

static void check_type(MPSDataType type, const char *what) {
  if (type != MPSDataTypeFloat32)
    sim_stop("%s: the simulation knows MPSDataTypeFloat32 only", what);
}

static struct sim_node *copy_nodes(const struct sim_node *nodes, int count) {
  struct sim_node *copy = malloc((size_t)count * sizeof *copy);
  memcpy(copy, nodes, (size_t)count * sizeof *copy);
  for (int i = 0; i < count; i++) {
    copy[i].operands = malloc((size_t)(nodes[i].operand_count + 1) * sizeof(int));
    memcpy(copy[i].operands, nodes[i].operands, (size_t)nodes[i].operand_count * sizeof(int));
    [copy[i].data retain];
  }
  return copy;
}

static void free_nodes(struct sim_node *nodes, int count) {
  for (int i = 0; i < count; i++) {
    free(nodes[i].operands);
    [nodes[i].data release];
  }
  free(nodes);
}

/* ------------------------------------------------------------------------------------------------- execution ------ */

/* Steps of `node` by which a walk over `shape` goes through an operand that is broadcast to it. */
static void broadcast_strides(const struct sim_node *operand, NSUInteger rank, size_t strides[SIM_MAX_RANK]) {
  size_t stride = 1;
  for (NSUInteger i = 0; i < rank; i++) {
    NSUInteger from_end = i + 1;
    NSUInteger size = from_end <= operand->rank ? operand->sizes[operand->rank - from_end] : 1;
    strides[rank - from_end] = size == 1 ? 0 : stride;
    stride *= size;
  }
}

/* Offset of the element with this index in row-major order of `node`, by other strides. */
static size_t offset_of(const struct sim_node *node, size_t index, const size_t strides[SIM_MAX_RANK]) {
  size_t offset = 0;
  for (NSUInteger i = node->rank; i-- > 0; index /= node->sizes[i])
    offset += index % node->sizes[i] * strides[i];
  return offset;
}

static void run_elementwise(const struct sim_node *nodes, const struct sim_node *node, float *const *values, float *y) {
  size_t strides[3][SIM_MAX_RANK];
  const float *x[3] = {NULL, NULL, NULL};
  for (int i = 0; i < node->operand_count; i++) {
    broadcast_strides(&nodes[node->operands[i]], node->rank, strides[i]);
    x[i] = values[node->operands[i]];
  }
  size_t count = elements(node);
  for (size_t i = 0; i < count; i++) {
    float v[3] = {0, 0, 0};
    for (int o = 0; o < node->operand_count; o++)
      v[o] = x[o][offset_of(node, i, strides[o])];
    if (node->operation == SIM_ADD)
      y[i] = v[0] + v[1];
    else if (node->operation == SIM_LESS)
      y[i] = v[0] < v[1];
    else
      y[i] = v[0] != 0 ? v[1] : v[2];
  }
}

static void run_matmul(const struct sim_node *nodes, const struct sim_node *node, float *const *values, float *y) {
  const struct sim_node *a = &nodes[node->operands[0]];
  const struct sim_node *b = &nodes[node->operands[1]];
  size_t m = a->sizes[a->rank - 2], k = a->sizes[a->rank - 1], n = b->sizes[b->rank - 1];
  size_t batches = elements(node) / (m * n);
  for (size_t i = 0; i < batches; i++) {
    size_t a_batches = elements(a) / (m * k), b_batches = elements(b) / (k * n);
    struct sim_matrix left = {values[node->operands[0]] + i % a_batches * m * k, m, k, k, 1};
    struct sim_matrix right = {values[node->operands[1]] + i % b_batches * k * n, k, n, n, 1};
    struct sim_matrix result = {y + i * m * n, m, n, n, 1};
    sim_product(left, right, result, 1);
  }
}

static void run_transpose(const struct sim_node *nodes, const struct sim_node *node, float *const *values, float *y) {
  size_t strides[SIM_MAX_RANK];
  broadcast_strides(&nodes[node->operands[0]], node->rank, strides);
  size_t first = strides[node->first];
  strides[node->first] = strides[node->second];
  strides[node->second] = first;
  size_t count = elements(node);
  for (size_t i = 0; i < count; i++)
    y[i] = values[node->operands[0]][offset_of(node, i, strides)];
}

/* Copies between a tensor and a stretch [start, start + length) of a dimension of a longer one. */
static void copy_stretch(const struct sim_node *stretch, const struct sim_node *whole, NSUInteger dimension,
                         size_t start, float *in_stretch, float *in_whole, bool to_whole) {
  size_t inner = 1, outer = 1;
  for (NSUInteger i = 0; i < whole->rank; i++)
    *(i < dimension ? &outer : &inner) *= i == dimension ? 1 : whole->sizes[i];
  size_t length = stretch->sizes[dimension] * inner;
  for (size_t i = 0; i < outer; i++) {
    float *there = in_whole + (i * whole->sizes[dimension] + start) * inner;
    memcpy(to_whole ? there : in_stretch + i * length, to_whole ? in_stretch + i * length : there,
           length * sizeof(float));
  }
}

static void run_node(const struct sim_node *nodes, int index, float **values) {
  const struct sim_node *node = &nodes[index];
  size_t count = elements(node);
  float *y = malloc(count * sizeof(float));
  if (y == NULL)
    sim_stop("no memory for a tensor of %zu elements", count);
  values[index] = y;
  switch (node->operation) {
    case SIM_PLACEHOLDER:
      sim_stop("a placeholder is not fed");
    case SIM_CONSTANT:
      for (size_t i = 0; i < count; i++)
        y[i] = node->data != nil ? ((const float *)[node->data bytes])[i] : node->scalar;
      break;
    case SIM_MATMUL:
      run_matmul(nodes, node, values, y);
      break;
    case SIM_ADD:
    case SIM_LESS:
    case SIM_SELECT:
      run_elementwise(nodes, node, values, y);
      break;
    case SIM_TRANSPOSE:
      run_transpose(nodes, node, values, y);
      break;
    case SIM_RESHAPE:
      memcpy(y, values[node->operands[0]], count * sizeof(float));
      break;
    case SIM_SLICE:
      copy_stretch(node, &nodes[node->operands[0]], node->first, node->start, y, values[node->operands[0]], false);
      break;
    case SIM_CONCAT: {
      size_t start = 0;
      for (int i = 0; i < node->operand_count; i++) {
        const struct sim_node *part = &nodes[node->operands[i]];
        copy_stretch(part, node, node->first, start, values[node->operands[i]], y, true);
        start += part->sizes[node->first];
      }
      break;
    }
  }
}

/* One execution of an executable: what its commands share. */
@interface SimGraphRun : SimObject {
 @public
  MPSGraphExecutable *_executable;
  NSArray *_inputs;
  NSArray *_results;
  float **_values; /* per node */
  bool _garbage;
}
- (uint32_t)run:(struct sim_run *)run from:(int)first to:(int)last;
@end

static SimBuffer *memory_of(NSArray *data, NSUInteger index) {
  MPSGraphTensorData *tensor = [data objectAtIndex:index];
  return (SimBuffer *)tensor->_buffer;
}

@implementation SimGraphRun

- (void)dealloc {
  for (int i = 0; i < _executable->_node_count; i++) {
    if (_executable->_nodes[i].operation != SIM_PLACEHOLDER)
      free(_values[i]);
  }
  free(_values);
  [_executable release];
  [_inputs release];
  [_results release];
  [super dealloc];
}

/* The inputs and, if the results are written, those: returns their number. */
- (int)accesses:(struct sim_access *)accesses toResults:(bool)to_results {
  int count = 0;
  if ([_inputs count] + [_results count] > SIM_MAX_ACCESSES)
    sim_stop("an executable with %llu buffers", (unsigned long long)([_inputs count] + [_results count]));
  for (NSUInteger i = 0; i < [_inputs count]; i++) {
    MPSGraphTensor *feed = [_executable->_feedTensors objectAtIndex:i];
    NSUInteger bytes = elements(&_executable->_nodes[feed->_index]) * sizeof(float);
    accesses[count++] = (struct sim_access){memory_of(_inputs, i), 0, bytes, false};
  }
  for (NSUInteger i = 0; to_results && i < [_results count]; i++) {
    MPSGraphTensor *target = [_executable->_targetTensors objectAtIndex:i];
    NSUInteger bytes = elements(&_executable->_nodes[target->_index]) * sizeof(float);
    accesses[count++] = (struct sim_access){memory_of(_results, i), 0, bytes, true};
  }
  return count;
}

- (uint32_t)run:(struct sim_run *)run from:(int)first to:(int)last {
  struct sim_node *nodes = _executable->_nodes;
  struct sim_access accesses[SIM_MAX_ACCESSES];
  int count = [self accesses:accesses toResults:last == _executable->_node_count];
  sim_access_begin(accesses, count, run);
  /* The command buffer with the first part may have failed: then this part works on memory that nobody has written. */
  for (int i = 0; i < first; i++) {
    if (nodes[i].needed && _values[i] == NULL && nodes[i].operation != SIM_PLACEHOLDER) {
      _values[i] = malloc(elements(&nodes[i]) * sizeof(float));
      memset(_values[i], 0x5A, elements(&nodes[i]) * sizeof(float));
    }
  }
  for (int i = 0; i < last; i++) {
    if (!nodes[i].needed || (i < first && nodes[i].operation != SIM_PLACEHOLDER))
      continue;
    if (nodes[i].operation == SIM_PLACEHOLDER)
      _values[i] = (float *)(void *)memory_of(_inputs, (NSUInteger)nodes[i].argument)->_bytes;
    else
      run_node(nodes, i, _values);
  }
  for (NSUInteger i = 0; last == _executable->_node_count && i < [_results count]; i++) {
    MPSGraphTensor *target = [_executable->_targetTensors objectAtIndex:i];
    SimBuffer *memory = memory_of(_results, i);
    memcpy(memory->_bytes, _values[target->_index], elements(&nodes[target->_index]) * sizeof(float));
    if (_garbage)
      memory->_bytes[0] ^= 0x5A;
  }
  sim_access_end(accesses, count);
  return 0;
}

@end

/* ------------------------------------------------------------------------------------------------- data ----------- */

@implementation MPSGraphObject
@end

@implementation MPSGraphDevice

+ (instancetype)deviceWithMTLDevice:(id<MTLDevice>)metalDevice {
  if (metalDevice == nil)
    sim_stop("an MPSGraphDevice without a device");
  MPSGraphDevice *device = [[[self alloc] init] autorelease];
  device->_metalDevice = [metalDevice retain];
  return device;
}

- (void)dealloc {
  [_metalDevice release];
  [super dealloc];
}

- (id<MTLDevice>)metalDevice {
  return _metalDevice;
}

@end

@implementation MPSGraphType
@end

@implementation MPSGraphShapedType
@synthesize shape = _shape;
@synthesize dataType = _dataType;

- (instancetype)initWithShape:(MPSShape *)shape dataType:(MPSDataType)dataType {
  self = [super init];
  if (self != nil) {
    _shape = [shape copy];
    _dataType = dataType;
  }
  return self;
}

- (void)dealloc {
  [_shape release];
  [super dealloc];
}

@end

@implementation MPSGraphTensor

- (void)dealloc {
  [_shape release];
  [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
  (void)zone;
  return [self retain];
}

- (MPSShape *)shape {
  return _shape;
}

- (MPSDataType)dataType {
  return _dataType;
}

@end

@implementation MPSGraphTensorData

- (instancetype)initWithMTLBuffer:(id<MTLBuffer>)buffer shape:(MPSShape *)shape dataType:(MPSDataType)dataType {
  self = [super init];
  check_type(dataType, "an MPSGraphTensorData");
  struct sim_node node = {0};
  set_shape(&node, shape, "an MPSGraphTensorData");
  [sim_buffer(buffer, "an MPSGraphTensorData") checkRange:0
                                                   length:elements(&node) * sizeof(float)
                                                       in:"an MPSGraphTensorData"];
  _buffer = [buffer retain];
  _shape = [shape copy];
  _dataType = dataType;
  return self;
}

- (instancetype)initWithMPSNDArray:(MPSNDArray *)ndarray {
  NSMutableArray *shape = [NSMutableArray array];
  NSUInteger stride = 1;
  for (NSUInteger i = 0; i < ndarray->_layout.rank; i++) {
    [shape insertObject:[NSNumber numberWithUnsignedInteger:ndarray->_layout.sizes[i]] atIndex:0];
    if (ndarray->_layout.strides[i] != stride || ndarray->_offset != 0)
      sim_stop("the simulation takes dense MPSNDArrays at offset 0 as tensor data");
    stride *= ndarray->_layout.sizes[i];
  }
  self = [self initWithMTLBuffer:ndarray->_buffer shape:shape dataType:ndarray->_dataType];
  _ndarray = [ndarray retain];
  return self;
}

- (void)dealloc {
  [_ndarray release];
  [_buffer release];
  [_shape release];
  [super dealloc];
}

- (MPSShape *)shape {
  return _shape;
}

- (MPSDataType)dataType {
  return _dataType;
}

- (MPSNDArray *)mpsndarray {
  if (_ndarray == nil) {
    MPSNDArrayDescriptor *descriptor = [MPSNDArrayDescriptor descriptorWithDataType:_dataType shape:_shape];
    descriptor.preferPackedRows = YES;
    _ndarray = [[MPSNDArray alloc] initWithBuffer:_buffer offset:0 descriptor:descriptor];
  }
  return _ndarray;
}

@end

@implementation MPSGraphCompilationDescriptor
@synthesize optimizationLevel = _optimizationLevel;
@synthesize waitForCompilationCompletion = _waitForCompilationCompletion;

- (instancetype)init {
  self = [super init];
  if (self != nil)
    _optimizationLevel = MPSGraphOptimizationLevel1;
  return self;
}

- (id)copyWithZone:(NSZone *)zone {
  MPSGraphCompilationDescriptor *copy = [[[self class] allocWithZone:zone] init];
  copy.optimizationLevel = _optimizationLevel;
  copy.waitForCompilationCompletion = _waitForCompilationCompletion;
  return copy;
}

- (void)disableTypeInference {
}

@end

@implementation MPSGraphExecutableExecutionDescriptor
@synthesize scheduledHandler = _scheduledHandler;
@synthesize completionHandler = _completionHandler;
@synthesize waitUntilCompleted = _waitUntilCompleted;

- (void)dealloc {
  [_scheduledHandler release];
  [_completionHandler release];
  [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
  MPSGraphExecutableExecutionDescriptor *copy = [[[self class] allocWithZone:zone] init];
  copy.scheduledHandler = _scheduledHandler;
  copy.completionHandler = _completionHandler;
  copy.waitUntilCompleted = _waitUntilCompleted;
  return copy;
}

@end

/* ------------------------------------------------------------------------------------------------- building ------- */

@implementation MPSGraph
@synthesize options = _options;

- (instancetype)init {
  self = [super init];
  if (self != nil) {
    _options = MPSGraphOptionsDefault;
    _tensors = [[NSMutableArray alloc] init];
  }
  return self;
}

- (void)dealloc {
  for (MPSGraphTensor *tensor in _tensors)
    tensor->_graph = nil;
  [_tensors release];
  free_nodes(_nodes, _node_count);
  [super dealloc];
}

- (NSArray *)placeholderTensors {
  NSMutableArray *placeholders = [NSMutableArray array];
  for (int i = 0; i < _node_count; i++) {
    if (_nodes[i].operation == SIM_PLACEHOLDER)
      [placeholders addObject:[_tensors objectAtIndex:(NSUInteger)i]];
  }
  return placeholders;
}

- (const struct sim_node *)nodeOf:(MPSGraphTensor *)tensor for:(const char *)what {
  if (tensor == nil)
    sim_stop("%s of no tensor", what);
  if (tensor->_graph != self)
    sim_stop("%s of a tensor of another graph, or of one that is gone", what);
  return &_nodes[tensor->_index];
}

- (MPSGraphTensor *)add:(struct sim_node)node operands:(NSArray *)operands {
  node.operand_count = (int)[operands count];
  node.operands = malloc((size_t)(node.operand_count + 1) * sizeof(int));
  for (int i = 0; i < node.operand_count; i++)
    node.operands[i] = ((MPSGraphTensor *)[operands objectAtIndex:(NSUInteger)i])->_index;
  _nodes = realloc(_nodes, (size_t)(_node_count + 1) * sizeof *_nodes);
  if (_nodes == NULL)
    sim_stop("no memory for a node");
  MPSGraphTensor *tensor = [[[MPSGraphTensor alloc] init] autorelease];
  tensor->_graph = self;
  tensor->_index = _node_count;
  tensor->_shape = [shape_of(&node) copy];
  tensor->_dataType = MPSDataTypeFloat32;
  _nodes[_node_count++] = node;
  [_tensors addObject:tensor];
  return tensor;
}

- (MPSGraphTensor *)placeholderWithShape:(MPSShape *)shape dataType:(MPSDataType)dataType name:(NSString *)name {
  (void)name;
  struct sim_node node = {.operation = SIM_PLACEHOLDER};
  check_type(dataType, "a placeholder");
  if (shape == nil)
    sim_stop("the simulation knows placeholders with a shape only");
  set_shape(&node, shape, "a placeholder");
  return [self add:node operands:nil];
}

- (MPSGraphTensor *)constantWithData:(NSData *)data shape:(MPSShape *)shape dataType:(MPSDataType)dataType {
  struct sim_node node = {.operation = SIM_CONSTANT};
  check_type(dataType, "a constant");
  set_shape(&node, shape, "a constant");
  if ([data length] != elements(&node) * sizeof(float))
    sim_stop("a constant whose data is not as long as its shape says");
  node.data = [data copy];
  return [self add:node operands:nil];
}

- (MPSGraphTensor *)constantWithScalar:(double)scalar shape:(MPSShape *)shape dataType:(MPSDataType)dataType {
  struct sim_node node = {.operation = SIM_CONSTANT, .scalar = (float)scalar};
  check_type(dataType, "a constant");
  set_shape(&node, shape, "a constant");
  return [self add:node operands:nil];
}

- (MPSGraphTensor *)matrixMultiplicationWithPrimaryTensor:(MPSGraphTensor *)primary
                                          secondaryTensor:(MPSGraphTensor *)secondary
                                                     name:(NSString *)name {
  (void)name;
  const struct sim_node *a = [self nodeOf:primary for:"a product"];
  const struct sim_node *b = [self nodeOf:secondary for:"a product"];
  struct sim_node node = {.operation = SIM_MATMUL, .rank = a->rank > b->rank ? a->rank : b->rank};
  if (a->rank < 2 || b->rank < 2 || a->sizes[a->rank - 1] != b->sizes[b->rank - 2])
    sim_stop("a product of tensors whose sizes do not fit");
  const struct sim_node *longer = a->rank >= b->rank ? a : b;
  for (NSUInteger i = 0; i + 2 < node.rank; i++)
    node.sizes[i] = longer->sizes[i];
  for (NSUInteger i = 3; i <= a->rank && i <= b->rank; i++) {
    if (a->sizes[a->rank - i] != b->sizes[b->rank - i])
      sim_stop("the simulation does not broadcast the batches of a product");
  }
  node.sizes[node.rank - 2] = a->sizes[a->rank - 2];
  node.sizes[node.rank - 1] = b->sizes[b->rank - 1];
  return [self add:node operands:@[ primary, secondary ]];
}

/* The shape to which the operands of an elementwise operation are broadcast. */
- (MPSGraphTensor *)elementwise:(enum sim_operation)operation operands:(NSArray *)operands {
  struct sim_node node = {.operation = operation};
  for (MPSGraphTensor *operand in operands) {
    NSUInteger rank = [self nodeOf:operand for:"an elementwise operation"]->rank;
    node.rank = rank > node.rank ? rank : node.rank;
  }
  for (NSUInteger i = 0; i < node.rank; i++)
    node.sizes[i] = 1;
  for (MPSGraphTensor *operand in operands) {
    const struct sim_node *x = &_nodes[operand->_index];
    for (NSUInteger i = 1; i <= x->rank; i++) {
      NSUInteger *size = &node.sizes[node.rank - i];
      if (*size != 1 && x->sizes[x->rank - i] != 1 && *size != x->sizes[x->rank - i])
        sim_stop("an elementwise operation on tensors whose shapes do not broadcast");
      *size = *size == 1 ? x->sizes[x->rank - i] : *size;
    }
  }
  return [self add:node operands:operands];
}

- (MPSGraphTensor *)additionWithPrimaryTensor:(MPSGraphTensor *)primary
                              secondaryTensor:(MPSGraphTensor *)secondary
                                         name:(NSString *)name {
  (void)name;
  return [self elementwise:SIM_ADD operands:@[ primary, secondary ]];
}

- (MPSGraphTensor *)lessThanWithPrimaryTensor:(MPSGraphTensor *)primary
                              secondaryTensor:(MPSGraphTensor *)secondary
                                         name:(NSString *)name {
  (void)name;
  return [self elementwise:SIM_LESS operands:@[ primary, secondary ]];
}

- (MPSGraphTensor *)selectWithPredicateTensor:(MPSGraphTensor *)predicate
                          truePredicateTensor:(MPSGraphTensor *)whenTrue
                         falsePredicateTensor:(MPSGraphTensor *)whenFalse
                                         name:(NSString *)name {
  (void)name;
  return [self elementwise:SIM_SELECT operands:@[ predicate, whenTrue, whenFalse ]];
}

- (MPSGraphTensor *)transposeTensor:(MPSGraphTensor *)tensor
                          dimension:(NSUInteger)first
                      withDimension:(NSUInteger)second
                               name:(NSString *)name {
  (void)name;
  struct sim_node node = *[self nodeOf:tensor for:"a transposition"];
  if (first >= node.rank || second >= node.rank)
    sim_stop("a transposition of dimensions %llu and %llu, of %llu", (unsigned long long)first,
             (unsigned long long)second, (unsigned long long)node.rank);
  NSUInteger size = node.sizes[first];
  node.sizes[first] = node.sizes[second];
  node.sizes[second] = size;
  node.operation = SIM_TRANSPOSE;
  node.first = first;
  node.second = second;
  return [self add:node operands:@[ tensor ]];
}

- (MPSGraphTensor *)reshapeTensor:(MPSGraphTensor *)tensor withShape:(MPSShape *)shape name:(NSString *)name {
  (void)name;
  struct sim_node node = {.operation = SIM_RESHAPE};
  set_shape(&node, shape, "a reshape");
  if (elements(&node) != elements([self nodeOf:tensor for:"a reshape"]))
    sim_stop("a reshape to another number of elements");
  return [self add:node operands:@[ tensor ]];
}

- (MPSGraphTensor *)sliceTensor:(MPSGraphTensor *)tensor
                      dimension:(NSUInteger)dimension
                          start:(NSInteger)start
                         length:(NSInteger)length
                           name:(NSString *)name {
  (void)name;
  struct sim_node node = *[self nodeOf:tensor for:"a slice"];
  if (dimension >= node.rank || start < 0 || length < 1 || (NSUInteger)(start + length) > node.sizes[dimension])
    sim_stop("a slice beyond its tensor");
  node.operation = SIM_SLICE;
  node.first = dimension;
  node.start = (NSUInteger)start;
  node.sizes[dimension] = (NSUInteger)length;
  return [self add:node operands:@[ tensor ]];
}

- (MPSGraphTensor *)concatTensors:(NSArray *)tensors dimension:(NSInteger)dimension name:(NSString *)name {
  (void)name;
  if ([tensors count] == 0)
    sim_stop("a concatenation of nothing");
  struct sim_node node = *[self nodeOf:[tensors objectAtIndex:0] for:"a concatenation"];
  if (dimension < 0 || (NSUInteger)dimension >= node.rank)
    sim_stop("a concatenation in dimension %lld", (long long)dimension);
  node.operation = SIM_CONCAT;
  node.first = (NSUInteger)dimension;
  node.sizes[dimension] = 0;
  for (MPSGraphTensor *tensor in tensors) {
    const struct sim_node *part = [self nodeOf:tensor for:"a concatenation"];
    for (NSUInteger i = 0; i < node.rank; i++) {
      if (part->rank != node.rank || (i != node.first && part->sizes[i] != node.sizes[i]))
        sim_stop("a concatenation of tensors whose shapes do not fit");
    }
    node.sizes[dimension] += part->sizes[dimension];
  }
  return [self add:node operands:tensors];
}

/* ------------------------------------------------------------------------------------------------- compiling ------ */

static void mark_needed(const struct sim_node *nodes, int index, bool *needed) {
  if (needed[index])
    return;
  needed[index] = true;
  for (int i = 0; i < nodes[index].operand_count; i++)
    mark_needed(nodes, nodes[index].operands[i], needed);
}

- (MPSGraphExecutable *)compileWithDevice:(MPSGraphDevice *)device
                                    feeds:(NSDictionary *)feeds
                            targetTensors:(NSArray *)targets
                         targetOperations:(NSArray *)operations
                    compilationDescriptor:(MPSGraphCompilationDescriptor *)descriptor {
  (void)descriptor;
  if (device == nil || [targets count] == 0 || operations != nil)
    sim_stop("the simulation compiles for a device, for target tensors and without target operations");
  if (!MPSSupportsMTLDevice([device metalDevice]))
    sim_stop("a graph for a device that MPS does not support");
  bool *needed = calloc((size_t)_node_count, sizeof *needed);
  for (MPSGraphTensor *target in targets) {
    [self nodeOf:target for:"a target"];
    mark_needed(_nodes, target->_index, needed);
  }
  for (MPSGraphTensor *feed in feeds) {
    const struct sim_node *node = [self nodeOf:feed for:"a feed"];
    MPSGraphShapedType *type = [feeds objectForKey:feed];
    if (node->operation != SIM_PLACEHOLDER || ![type.shape isEqual:feed.shape] || type.dataType != feed.dataType)
      sim_stop("a feed that is no placeholder, or of another shape or type");
  }
  MPSGraphExecutable *executable = [[[MPSGraphExecutable alloc] init] autorelease];
  executable->_nodes = copy_nodes(_nodes, _node_count);
  executable->_node_count = _node_count;
  NSMutableArray *order = [[NSMutableArray alloc] init];
  for (int i = _node_count - 1; i >= 0; i--) {
    executable->_nodes[i].needed = needed[i];
    if (!needed[i] || _nodes[i].operation != SIM_PLACEHOLDER)
      continue;
    MPSGraphTensor *tensor = [_tensors objectAtIndex:(NSUInteger)i];
    if ([feeds objectForKey:tensor] == nil)
      sim_stop("a placeholder that a target needs is not among the feeds");
    executable->_nodes[i].argument = (int)[order count];
    [order addObject:tensor];
  }
  executable->_feedTensors = order;
  executable->_targetTensors = [targets copy];
  free(needed);
  return executable;
}

@end

/* ------------------------------------------------------------------------------------------------- encoding ------- */

@implementation MPSGraphExecutable
@synthesize options = _options;

- (void)dealloc {
  [_feedTensors release];
  [_targetTensors release];
  free_nodes(_nodes, _node_count);
  [super dealloc];
}

- (NSArray *)feedTensors {
  return _feedTensors;
}

- (NSArray *)targetTensors {
  return _targetTensors;
}

static void check_data(NSArray *data, NSArray *tensors, const char *what) {
  if ([data count] != [tensors count])
    sim_stop("an executable is given %llu %s, not %llu", (unsigned long long)[data count], what,
             (unsigned long long)[tensors count]);
  for (NSUInteger i = 0; i < [data count]; i++) {
    MPSGraphTensorData *each = [data objectAtIndex:i];
    MPSGraphTensor *tensor = [tensors objectAtIndex:i];
    if (tensor->_graph == nil)
      sim_stop("an executable is encoded after its graph is gone");
    if (![each.shape isEqual:tensor.shape] || each.dataType != tensor.dataType)
      sim_stop("an executable is given %s of other shapes than its tensors, or in another order", what);
  }
}

/* Encodes the nodes [first, last) into the live root. */
- (void)encode:(SimGraphRun *)graph_run from:(int)first to:(int)last into:(MPSCommandBuffer *)commandBuffer {
  AGXSimFamilyCommandBuffer *root = sim_command_buffer(commandBuffer, "an executable");
  AGXSimFamilyComputeContext *encoder = (AGXSimFamilyComputeContext *)[root computeCommandEncoder];
  for (NSUInteger i = 0; i < [graph_run->_inputs count]; i++)
    [root uses:memory_of(graph_run->_inputs, i)];
  for (NSUInteger i = 0; i < [graph_run->_results count]; i++)
    [root uses:memory_of(graph_run->_results, i)];
  graph_run->_garbage |= root->_garbage;
  [root append:^(struct sim_run *run) {
    return [graph_run run:run from:first to:last];
  }];
  [encoder endEncoding];
}

- (NSArray *)encodeToCommandBuffer:(MPSCommandBuffer *)commandBuffer
                       inputsArray:(NSArray *)inputs
                      resultsArray:(NSArray *)results
               executionDescriptor:(MPSGraphExecutableExecutionDescriptor *)descriptor {
  if (![commandBuffer isKindOfClass:[MPSCommandBuffer class]])
    sim_stop("an executable is encoded into what is no MPSCommandBuffer");
  if (descriptor.waitUntilCompleted || descriptor.completionHandler != nil || descriptor.scheduledHandler != nil)
    sim_stop("the simulation knows encodes without a wait and without handlers only");
  check_data(inputs, _feedTensors, "inputs");
  check_data(results, _targetTensors, "results");
  SimGraphRun *graph_run = [[SimGraphRun alloc] init];
  graph_run->_executable = [self retain];
  graph_run->_inputs = [inputs copy];
  graph_run->_results = [results copy];
  graph_run->_values = calloc((size_t)_node_count, sizeof(float *));
  if (sim_switches.graph_commits && _node_count > 1) {
    sim_count(SIM_COUNT_MID_ENCODE_COMMITS);
    [self encode:graph_run from:0 to:_node_count / 2 into:commandBuffer];
    [commandBuffer commitAndContinue];
    [self encode:graph_run from:_node_count / 2 to:_node_count into:commandBuffer];
  } else {
    [self encode:graph_run from:0 to:_node_count into:commandBuffer];
  }
  [graph_run release];
  return results;
}

@end
