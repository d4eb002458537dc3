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

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metal.h"
#include "tensor.h"

enum sim_operation {
  SIM_PLACEHOLDER,
  SIM_CONSTANT,
  SIM_MATMUL,
  SIM_MAP, /* element by element, casts and copies included */
  SIM_REDUCE,
  SIM_TRANSPOSE,
  SIM_RESHAPE,
  SIM_SLICE,
  SIM_CONCAT,
};

struct sim_node {
  enum sim_operation operation;
  struct sim_tensor tensor; /* type and shape; an execution has elements of its own */
  int *operands;
  int operand_count;
  double scalar;                      /* CONSTANT without data */
  NSData *data;                       /* CONSTANT with data, retained */
  sim_function *function;             /* MAP */
  enum sim_reduction reduction;       /* REDUCE */
  uint32_t axes;                      /* REDUCE: bit i for dimension i */
  size_t dimension;                   /* CONCAT */
  size_t order[SIM_TENSOR_RANK];      /* TRANSPOSE: the permutation; SLICE: starts */
  size_t strides[SIM_TENSOR_RANK];    /* SLICE */
  bool needed;                        /* in an executable: by one of its targets */
  int argument;                       /* in an executable: position of a placeholder among the feeds */
};

static size_t elements(const struct sim_node *node) {
  return sim_tensor_count(&node->tensor);
}

/* Of what lies in a buffer. */
static size_t bytes_of(const struct sim_node *node) {
  return elements(node) * sim_type_bytes(node->tensor.type);
}

static enum sim_type type_of(MPSDataType type, const char *what) {
  switch (type) {
    case MPSDataTypeFloat32:
      return SIM_F32;
    case MPSDataTypeFloat16:
      return SIM_F16;
    default:
      sim_stop("%s: the simulation knows MPSDataTypeFloat32 and MPSDataTypeFloat16 only", what);
  }
}

static MPSDataType data_type(enum sim_type type) {
  return type == SIM_F32 ? MPSDataTypeFloat32 : type == SIM_F16 ? MPSDataTypeFloat16 : MPSDataTypeBool;
}

static void set_shape(struct sim_node *node, MPSShape *shape, const char *what) {
  struct sim_tensor *tensor = &node->tensor;
  tensor->rank = [shape count];
  if (tensor->rank > SIM_TENSOR_RANK)
    sim_stop("%s: %zu dimensions", what, tensor->rank);
  for (NSUInteger i = 0; i < tensor->rank; i++) {
    tensor->sizes[i] = [[shape objectAtIndex:i] unsignedIntegerValue];
    if (tensor->sizes[i] == 0)
      sim_stop("%s: a dimension of 0", what);
  }
  if (elements(node) > INT32_MAX)
    sim_stop("%s: %zu elements", what, elements(node));
}

static MPSShape *shape_of(const struct sim_node *node) {
  NSMutableArray *shape = [NSMutableArray arrayWithCapacity:node->tensor.rank];
  for (NSUInteger i = 0; i < node->tensor.rank; i++)
    [shape addObject:[NSNumber numberWithUnsignedInteger:node->tensor.sizes[i]]];
  return shape;
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

static void run_concat(const struct sim_node *node, struct sim_tensor *y, struct sim_tensor *const *operands) {
  size_t start = 0;
  for (int i = 0; i < node->operand_count; i++) {
    sim_tensor_insert(y, operands[i], node->dimension, start);
    start += operands[i]->sizes[node->dimension];
  }
}

/* Makes the elements of a node's tensor. */
static void run_node(const struct sim_node *nodes, int index, struct sim_tensor *tensors) {
  const struct sim_node *node = &nodes[index];
  struct sim_tensor *y = &tensors[index];
  struct sim_tensor **operands = malloc((size_t)(node->operand_count + 1) * sizeof *operands);
  y->elements = malloc(elements(node) * sizeof(float));
  if (y->elements == NULL || operands == NULL)
    sim_stop("no memory for a tensor of %zu elements", elements(node));
  for (int i = 0; i < node->operand_count; i++)
    operands[i] = &tensors[node->operands[i]];
  switch (node->operation) {
    case SIM_PLACEHOLDER:
      sim_stop("a placeholder is not fed");
    case SIM_CONSTANT:
      if (node->data != nil)
        sim_tensor_load(y, [node->data bytes]);
      else
        sim_tensor_fill(y, node->scalar);
      break;
    case SIM_MATMUL:
      sim_tensor_product(y, operands[0], operands[1]);
      break;
    case SIM_MAP:
      sim_tensor_map(y, node->function, (const struct sim_tensor *const *)operands, node->operand_count);
      break;
    case SIM_REDUCE:
      sim_tensor_reduce(y, node->reduction, operands[0], node->axes);
      break;
    case SIM_TRANSPOSE:
      sim_tensor_permute(y, operands[0], node->order);
      break;
    case SIM_RESHAPE:
      memcpy(y->elements, operands[0]->elements, elements(node) * sizeof(float));
      break;
    case SIM_SLICE:
      sim_tensor_slice(y, operands[0], node->order, node->strides);
      break;
    case SIM_CONCAT:
      run_concat(node, y, operands);
      break;
  }
  free(operands);
}

/* One execution of an executable: what its commands share. */
@interface SimGraphRun : SimObject {
 @public
  MPSGraphExecutable *_executable;
  NSArray *_inputs;
  NSArray *_results;
  struct sim_tensor *_tensors; /* per node; elements once they are made */
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
  for (int i = 0; i < _executable->_node_count; i++)
    free(_tensors[i].elements);
  free(_tensors);
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
    NSUInteger bytes = bytes_of(&_executable->_nodes[feed->_index]);
    accesses[count++] = (struct sim_access){memory_of(_inputs, i), 0, bytes, false};
  }
  for (NSUInteger i = 0; to_results && i < [_results count]; i++) {
    MPSGraphTensor *target = [_executable->_targetTensors objectAtIndex:i];
    NSUInteger bytes = bytes_of(&_executable->_nodes[target->_index]);
    accesses[count++] = (struct sim_access){memory_of(_results, i), 0, bytes, true};
  }
  return count;
}

- (void)readInput:(int)node {
  struct sim_tensor *tensor = &_tensors[node];
  if (tensor->elements == NULL)
    tensor->elements = malloc(sim_tensor_count(tensor) * sizeof(float));
  if (tensor->elements == NULL)
    sim_stop("no memory for an input");
  sim_tensor_load(tensor, memory_of(_inputs, (NSUInteger)_executable->_nodes[node].argument)->_bytes);
}

- (uint32_t)run:(struct sim_run *)run from:(int)first to:(int)last {
  struct sim_node *nodes = _executable->_nodes;
  struct sim_access accesses[SIM_MAX_ACCESSES];
  int count = [self accesses:accesses toResults:last == _executable->_node_count];
  sim_access_begin(accesses, count, run);
  /* The command buffer with the first part may have failed: then this part works on memory that nobody has written. */
  for (int i = 0; i < first; i++) {
    if (nodes[i].needed && _tensors[i].elements == NULL && nodes[i].operation != SIM_PLACEHOLDER) {
      _tensors[i].elements = malloc(elements(&nodes[i]) * sizeof(float));
      memset(_tensors[i].elements, 0x5A, elements(&nodes[i]) * sizeof(float));
    }
  }
  for (int i = 0; i < last; i++) {
    if (!nodes[i].needed || (i < first && nodes[i].operation != SIM_PLACEHOLDER))
      continue;
    if (nodes[i].operation == SIM_PLACEHOLDER)
      [self readInput:i];
    else
      run_node(nodes, i, _tensors);
  }
  for (NSUInteger i = 0; last == _executable->_node_count && i < [_results count]; i++) {
    MPSGraphTensor *target = [_executable->_targetTensors objectAtIndex:i];
    SimBuffer *memory = memory_of(_results, i);
    sim_tensor_store(&_tensors[target->_index], memory->_bytes);
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
  struct sim_node node = {.tensor.type = type_of(dataType, "an MPSGraphTensorData")};
  set_shape(&node, shape, "an MPSGraphTensorData");
  [sim_buffer(buffer, "an MPSGraphTensorData") checkRange:0
                                                   length:bytes_of(&node)
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
  tensor->_dataType = data_type(node.tensor.type);
  _nodes[_node_count++] = node;
  [_tensors addObject:tensor];
  return tensor;
}

- (MPSGraphTensor *)placeholderWithShape:(MPSShape *)shape dataType:(MPSDataType)dataType name:(NSString *)name {
  (void)name;
  struct sim_node node = {.operation = SIM_PLACEHOLDER, .tensor.type = type_of(dataType, "a placeholder")};
  if (shape == nil)
    sim_stop("the simulation knows placeholders with a shape only");
  set_shape(&node, shape, "a placeholder");
  return [self add:node operands:nil];
}

- (MPSGraphTensor *)constantWithData:(NSData *)data shape:(MPSShape *)shape dataType:(MPSDataType)dataType {
  struct sim_node node = {.operation = SIM_CONSTANT, .tensor.type = type_of(dataType, "a constant")};
  set_shape(&node, shape, "a constant");
  if ([data length] != bytes_of(&node))
    sim_stop("a constant whose data is not as long as its shape says");
  node.data = [data copy];
  return [self add:node operands:nil];
}

- (MPSGraphTensor *)constantWithScalar:(double)scalar shape:(MPSShape *)shape dataType:(MPSDataType)dataType {
  struct sim_node node = {
      .operation = SIM_CONSTANT, .tensor.type = type_of(dataType, "a constant"), .scalar = scalar};
  set_shape(&node, shape, "a constant");
  return [self add:node operands:nil];
}

/* ------------------------------------------------------------------------------------------------- products ------- */

- (MPSGraphTensor *)matrixMultiplicationWithPrimaryTensor:(MPSGraphTensor *)primary
                                          secondaryTensor:(MPSGraphTensor *)secondary
                                                     name:(NSString *)name {
  (void)name;
  const struct sim_tensor *a = &[self nodeOf:primary for:"a product"]->tensor;
  const struct sim_tensor *b = &[self nodeOf:secondary for:"a product"]->tensor;
  if (a->type != b->type || a->type == SIM_BOOL)
    sim_stop("a product of tensors of different types, or of truths");
  if (a->rank < 2 || b->rank < 2 || a->sizes[a->rank - 1] != b->sizes[b->rank - 2])
    sim_stop("a product of tensors whose sizes do not fit");
  for (size_t i = 3; i <= a->rank && i <= b->rank; i++) {
    if (a->sizes[a->rank - i] != b->sizes[b->rank - i])
      sim_stop("the simulation does not broadcast the batches of a product");
  }
  struct sim_node node = {.operation = SIM_MATMUL, .tensor = a->rank >= b->rank ? *a : *b};
  node.tensor.sizes[node.tensor.rank - 2] = a->sizes[a->rank - 2];
  node.tensor.sizes[node.tensor.rank - 1] = b->sizes[b->rank - 1];
  return [self add:node operands:@[ primary, secondary ]];
}

/* ------------------------------------------------------------------------------------------------- elements ------- */

static double add(double a, double b, double c) {
  (void)c;
  return a + b;
}

static double subtract(double a, double b, double c) {
  (void)c;
  return a - b;
}

static double multiply(double a, double b, double c) {
  (void)c;
  return a * b;
}

static double divide(double a, double b, double c) {
  (void)c;
  return a / b;
}

static double less(double a, double b, double c) {
  (void)c;
  return a < b;
}

static double greater(double a, double b, double c) {
  (void)c;
  return a > b;
}

static double choose(double a, double b, double c) {
  return a != 0 ? b : c;
}

static double same(double a, double b, double c) {
  (void)b, (void)c;
  return a;
}

static double absolute(double a, double b, double c) {
  (void)b, (void)c;
  return fabs(a);
}

static double square_root(double a, double b, double c) {
  (void)b, (void)c;
  return sqrt(a);
}

static double power(double a, double b, double c) {
  (void)b, (void)c;
  return exp(a);
}

/* As the Metal Shading Language's fast one was seen to be: beyond 44 its exponentials overflow, and their quotient is
 * not a number. */
static double hyperbolic_tangent(double a, double b, double c) {
  (void)b, (void)c;
  return fabs(a) > 44 ? NAN : tanh(a);
}

/* The shape to which the operands of an elementwise operation are broadcast. Operands from `first` on have one type, which
 * is that of the result unless that is given as well. */
- (MPSGraphTensor *)map:(sim_function *)function operands:(NSArray *)operands from:(NSUInteger)first type:(int)type {
  struct sim_node node = {.operation = SIM_MAP, .function = function};
  struct sim_tensor *y = &node.tensor;
  for (MPSGraphTensor *operand in operands) {
    size_t rank = [self nodeOf:operand for:"an elementwise operation"]->tensor.rank;
    y->rank = rank > y->rank ? rank : y->rank;
  }
  for (size_t i = 0; i < y->rank; i++)
    y->sizes[i] = 1;
  for (MPSGraphTensor *operand in operands) {
    const struct sim_tensor *x = &_nodes[operand->_index].tensor;
    for (size_t i = 1; i <= x->rank; i++) {
      size_t *size = &y->sizes[y->rank - i];
      if (*size != 1 && x->sizes[x->rank - i] != 1 && *size != x->sizes[x->rank - i])
        sim_stop("an elementwise operation on tensors whose shapes do not broadcast");
      *size = *size == 1 ? x->sizes[x->rank - i] : *size;
    }
  }
  y->type = _nodes[((MPSGraphTensor *)[operands objectAtIndex:first])->_index].tensor.type;
  for (NSUInteger i = first; i < [operands count]; i++) {
    if (_nodes[((MPSGraphTensor *)[operands objectAtIndex:i])->_index].tensor.type != y->type)
      sim_stop("an elementwise operation on tensors of different types");
  }
  y->type = type >= 0 ? (enum sim_type)type : y->type;
  return [self add:node operands:operands];
}

- (MPSGraphTensor *)function:(sim_function *)function of:(MPSGraphTensor *)tensor {
  if ([self nodeOf:tensor for:"a function"]->tensor.type == SIM_BOOL)
    sim_stop("a function of truths");
  return [self map:function operands:@[ tensor ] from:0 type:-1];
}

- (MPSGraphTensor *)arithmetic:(sim_function *)function of:(MPSGraphTensor *)primary and:(MPSGraphTensor *)secondary {
  if ([self nodeOf:primary for:"arithmetic"]->tensor.type == SIM_BOOL)
    sim_stop("arithmetic with truths");
  [self nodeOf:secondary for:"arithmetic"];
  return [self map:function operands:@[ primary, secondary ] from:0 type:-1];
}

- (MPSGraphTensor *)additionWithPrimaryTensor:(MPSGraphTensor *)primary
                              secondaryTensor:(MPSGraphTensor *)secondary
                                         name:(NSString *)name {
  (void)name;
  return [self arithmetic:add of:primary and:secondary];
}

- (MPSGraphTensor *)subtractionWithPrimaryTensor:(MPSGraphTensor *)primary
                                 secondaryTensor:(MPSGraphTensor *)secondary
                                            name:(NSString *)name {
  (void)name;
  return [self arithmetic:subtract of:primary and:secondary];
}

- (MPSGraphTensor *)multiplicationWithPrimaryTensor:(MPSGraphTensor *)primary
                                    secondaryTensor:(MPSGraphTensor *)secondary
                                               name:(NSString *)name {
  (void)name;
  return [self arithmetic:multiply of:primary and:secondary];
}

- (MPSGraphTensor *)divisionWithPrimaryTensor:(MPSGraphTensor *)primary
                              secondaryTensor:(MPSGraphTensor *)secondary
                                         name:(NSString *)name {
  (void)name;
  return [self arithmetic:divide of:primary and:secondary];
}

- (MPSGraphTensor *)lessThanWithPrimaryTensor:(MPSGraphTensor *)primary
                              secondaryTensor:(MPSGraphTensor *)secondary
                                         name:(NSString *)name {
  (void)name;
  return [self map:less operands:@[ primary, secondary ] from:0 type:SIM_BOOL];
}

- (MPSGraphTensor *)greaterThanWithPrimaryTensor:(MPSGraphTensor *)primary
                                 secondaryTensor:(MPSGraphTensor *)secondary
                                            name:(NSString *)name {
  (void)name;
  return [self map:greater operands:@[ primary, secondary ] from:0 type:SIM_BOOL];
}

- (MPSGraphTensor *)selectWithPredicateTensor:(MPSGraphTensor *)predicate
                          truePredicateTensor:(MPSGraphTensor *)whenTrue
                         falsePredicateTensor:(MPSGraphTensor *)whenFalse
                                         name:(NSString *)name {
  (void)name;
  if ([self nodeOf:predicate for:"a selection"]->tensor.type != SIM_BOOL)
    sim_stop("a selection by what are no truths");
  return [self map:choose operands:@[ predicate, whenTrue, whenFalse ] from:1 type:-1];
}

- (MPSGraphTensor *)identityWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name {
  (void)name;
  return [self function:same of:tensor];
}

- (MPSGraphTensor *)castTensor:(MPSGraphTensor *)tensor toType:(MPSDataType)type name:(NSString *)name {
  (void)name;
  [self nodeOf:tensor for:"a cast"];
  return [self map:same operands:@[ tensor ] from:0 type:(int)type_of(type, "a cast")];
}

- (MPSGraphTensor *)absoluteWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name {
  (void)name;
  return [self function:absolute of:tensor];
}

- (MPSGraphTensor *)exponentWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name {
  (void)name;
  return [self function:power of:tensor];
}

- (MPSGraphTensor *)squareRootWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name {
  (void)name;
  return [self function:square_root of:tensor];
}

- (MPSGraphTensor *)tanhWithTensor:(MPSGraphTensor *)tensor name:(NSString *)name {
  (void)name;
  return [self function:hyperbolic_tangent of:tensor];
}

/* ------------------------------------------------------------------------------------------------- reductions ----- */

/* The dimensions that are reduced stay, with a size of 1. */
- (MPSGraphTensor *)reduce:(MPSGraphTensor *)tensor by:(enum sim_reduction)reduction over:(NSArray *)axes {
  struct sim_node node = {.operation = SIM_REDUCE, .reduction = reduction};
  node.tensor = [self nodeOf:tensor for:"a reduction"]->tensor;
  if (node.tensor.type == SIM_BOOL || [axes count] == 0)
    sim_stop("a reduction of truths, or over no axis");
  for (NSNumber *number in axes) {
    NSInteger axis = [number integerValue];
    if (axis < 0 || (size_t)axis >= node.tensor.rank || (node.axes >> axis & 1) != 0)
      sim_stop("a reduction over axis %lld, of %zu, or over one twice", (long long)axis, node.tensor.rank);
    node.axes |= (uint32_t)1 << axis;
    node.tensor.sizes[axis] = 1;
  }
  return [self add:node operands:@[ tensor ]];
}

- (MPSGraphTensor *)meanOfTensor:(MPSGraphTensor *)tensor axes:(NSArray *)axes name:(NSString *)name {
  (void)name;
  return [self reduce:tensor by:SIM_REDUCE_MEAN over:axes];
}

- (MPSGraphTensor *)reductionSumWithTensor:(MPSGraphTensor *)tensor axis:(NSInteger)axis name:(NSString *)name {
  (void)name;
  return [self reduce:tensor by:SIM_REDUCE_SUM over:@[ @(axis) ]];
}

- (MPSGraphTensor *)reductionMaximumWithTensor:(MPSGraphTensor *)tensor axis:(NSInteger)axis name:(NSString *)name {
  (void)name;
  return [self reduce:tensor by:SIM_REDUCE_MAXIMUM over:@[ @(axis) ]];
}

/* ------------------------------------------------------------------------------------------------- rearranging ---- */

- (MPSGraphTensor *)transposeTensor:(MPSGraphTensor *)tensor permutation:(NSArray *)permutation name:(NSString *)name {
  (void)name;
  const struct sim_tensor *a = &[self nodeOf:tensor for:"a transposition"]->tensor;
  struct sim_node node = {.operation = SIM_TRANSPOSE, .tensor = *a};
  if ([permutation count] != a->rank)
    sim_stop("a permutation of %llu dimensions, of %zu", (unsigned long long)[permutation count], a->rank);
  uint32_t seen = 0;
  for (size_t i = 0; i < a->rank; i++) {
    NSUInteger from = [[permutation objectAtIndex:i] unsignedIntegerValue];
    if (from >= a->rank || (seen >> from & 1) != 0)
      sim_stop("a permutation that does not name each dimension once");
    seen |= (uint32_t)1 << from;
    node.order[i] = from;
    node.tensor.sizes[i] = a->sizes[from];
  }
  return [self add:node operands:@[ tensor ]];
}

- (MPSGraphTensor *)transposeTensor:(MPSGraphTensor *)tensor
                          dimension:(NSUInteger)first
                      withDimension:(NSUInteger)second
                               name:(NSString *)name {
  size_t rank = [self nodeOf:tensor for:"a transposition"]->tensor.rank;
  if (first >= rank || second >= rank)
    sim_stop("a transposition of dimensions %llu and %llu, of %zu", (unsigned long long)first,
             (unsigned long long)second, rank);
  NSMutableArray *permutation = [NSMutableArray array];
  for (NSUInteger i = 0; i < rank; i++)
    [permutation addObject:@(i == first ? second : i == second ? first : i)];
  return [self transposeTensor:tensor permutation:permutation name:name];
}

- (MPSGraphTensor *)reshapeTensor:(MPSGraphTensor *)tensor withShape:(MPSShape *)shape name:(NSString *)name {
  (void)name;
  struct sim_node node = {.operation = SIM_RESHAPE, .tensor.type = [self nodeOf:tensor for:"a reshape"]->tensor.type};
  set_shape(&node, shape, "a reshape");
  if (elements(&node) != elements([self nodeOf:tensor for:"a reshape"]))
    sim_stop("a reshape to another number of elements");
  return [self add:node operands:@[ tensor ]];
}

- (MPSGraphTensor *)sliceTensor:(MPSGraphTensor *)tensor
                         starts:(NSArray *)starts
                           ends:(NSArray *)ends
                        strides:(NSArray *)strides
                           name:(NSString *)name {
  (void)name;
  const struct sim_tensor *a = &[self nodeOf:tensor for:"a slice"]->tensor;
  struct sim_node node = {.operation = SIM_SLICE, .tensor = *a};
  if ([starts count] != a->rank || [ends count] != a->rank || [strides count] != a->rank)
    sim_stop("a slice without a start, an end and a stride for each dimension");
  for (size_t i = 0; i < a->rank; i++) {
    NSInteger start = [[starts objectAtIndex:i] integerValue];
    NSInteger end = [[ends objectAtIndex:i] integerValue];
    NSInteger stride = [[strides objectAtIndex:i] integerValue];
    if (start < 0 || stride < 1 || end <= start || (size_t)end > a->sizes[i])
      sim_stop("a slice beyond its tensor");
    node.order[i] = (size_t)start;
    node.strides[i] = (size_t)stride;
    node.tensor.sizes[i] = (size_t)((end - start + stride - 1) / stride);
  }
  return [self add:node operands:@[ tensor ]];
}

- (MPSGraphTensor *)sliceTensor:(MPSGraphTensor *)tensor
                      dimension:(NSUInteger)dimension
                          start:(NSInteger)start
                         length:(NSInteger)length
                           name:(NSString *)name {
  const struct sim_tensor *a = &[self nodeOf:tensor for:"a slice"]->tensor;
  NSMutableArray *starts = [NSMutableArray array], *ends = [NSMutableArray array], *strides = [NSMutableArray array];
  if (dimension >= a->rank)
    sim_stop("a slice beyond its tensor");
  for (NSUInteger i = 0; i < a->rank; i++) {
    [starts addObject:@(i == dimension ? start : 0)];
    [ends addObject:@(i == dimension ? start + length : (NSInteger)a->sizes[i])];
    [strides addObject:@1];
  }
  return [self sliceTensor:tensor starts:starts ends:ends strides:strides name:name];
}

- (MPSGraphTensor *)concatTensors:(NSArray *)tensors dimension:(NSInteger)dimension name:(NSString *)name {
  (void)name;
  if ([tensors count] == 0)
    sim_stop("a concatenation of nothing");
  struct sim_node node = {.operation = SIM_CONCAT, .dimension = (size_t)dimension};
  struct sim_tensor *y = &node.tensor;
  *y = [self nodeOf:[tensors objectAtIndex:0] for:"a concatenation"]->tensor;
  if (dimension < 0 || (size_t)dimension >= y->rank)
    sim_stop("a concatenation in dimension %lld", (long long)dimension);
  y->sizes[dimension] = 0;
  for (MPSGraphTensor *tensor in tensors) {
    const struct sim_tensor *part = &[self nodeOf:tensor for:"a concatenation"]->tensor;
    if (part->type != y->type)
      sim_stop("a concatenation of tensors of different types");
    for (size_t i = 0; i < y->rank; i++) {
      if (part->rank != y->rank || (i != node.dimension && part->sizes[i] != y->sizes[i]))
        sim_stop("a concatenation of tensors whose shapes do not fit");
    }
    y->sizes[dimension] += part->sizes[dimension];
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
    if ([self nodeOf:target for:"a target"]->operation == SIM_PLACEHOLDER || target.dataType == MPSDataTypeBool)
      sim_stop("the simulation knows targets that are computed, and are no truths");
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
      sim_stop("an executable is given %s of other shapes or types than its tensors, or in another order", what);
  }
}

/* Encodes the nodes [first, last) into the live root. */
- (void)encode:(SimGraphRun *)graph_run from:(int)first to:(int)last into:(MPSCommandBuffer *)commandBuffer {
  AGXSimFamilyCommandBuffer *root = sim_command_buffer(commandBuffer, "an executable");
  AGXSimFamilyComputeContext *encoder = sim_encoder_of_mps(root);
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
  graph_run->_tensors = malloc((size_t)_node_count * sizeof *graph_run->_tensors);
  for (int i = 0; i < _node_count; i++)
    graph_run->_tensors[i] = _nodes[i].tensor;
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
