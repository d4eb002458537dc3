/*
 * Simulated Metal: libraries compiled from source at run time, their functions, and the dispatch of a kernel.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * The Metal Shading Language is C++14 with attributes and address spaces. The source is handed to clang++ with a
 * header that gives its words a meaning (include/msl/metal_stdlib), after two changes: `threadgroup` before a
 * variable, as opposed to a pointer, makes it static, and each kernel gets a function that calls it with what its
 * attributes ask for. What is the same text with the same options is compiled once in the life of a process.
 */
#include "library.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SIM_KERNEL_COMPILER
#error "the build names the C++ compiler for kernels"
#endif

extern char **environ;

typedef void dispatch_function(void *function, void *const *buffers, char *const *group_memory, const uint64_t *grid,
                               const uint64_t *group_size, int has_barriers);

struct sim_program {
  struct sim_program *next;
  char *source;
  bool fast_math;
  bool has_barriers;
  const struct sim_kernel *kernels; /* the last one has no name */
  dispatch_function *dispatch;
};

static pthread_mutex_t programs_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_program *programs;

/* ------------------------------------------------------------------------------------------------- translation ---- */

static bool is_word(char c) {
  return isalnum((unsigned char)c) || c == '_';
}

/* Whether the word stands at `at`, by itself. */
static bool word_at(const char *text, const char *at, const char *word) {
  size_t length = strlen(word);
  return strncmp(at, word, length) == 0 && !is_word(at[length]) && (at == text || !is_word(at[-1]));
}

/* Whether the `threadgroup` at `at` qualifies a pointee: a * or & comes before the end of the type. */
static bool qualifies_pointee(const char *at) {
  const char *c = at + strlen("threadgroup");
  for (int words = 0; words < 3; words++) {
    while (isspace((unsigned char)*c))
      c++;
    if (*c == '*' || *c == '&')
      return true;
    while (is_word(*c))
      c++;
  }
  return false;
}

static void write_body(FILE *out, const char *source) {
  for (const char *c = source; *c != '\0';) {
    if (word_at(source, c, "threadgroup")) {
      fputs(qualifies_pointee(c) ? "" : "static thread_local", out);
      c += strlen("threadgroup");
    } else {
      fputc(*c++, out);
    }
  }
}

struct parameter {
  char type[128]; /* with its * or & at the end, if it has one */
  char attribute[64];
  int index; /* of buffer(n) and threadgroup(n) */
};

/* "device const float *x [[buffer(0)]]" */
static void parse_parameter(const char *text, size_t length, struct parameter *parameter) {
  char copy[256];
  if (length >= sizeof copy)
    sim_stop("a kernel's parameter of %zu characters", length);
  memcpy(copy, text, length);
  copy[length] = '\0';
  char *attribute = strstr(copy, "[[");
  char *end = attribute == NULL ? NULL : strstr(attribute, "]]");
  if (end == NULL)
    sim_stop("a kernel's parameter without an attribute: %s", copy);
  *end = '\0';
  *attribute = '\0';
  parameter->index = 0;
  int words = sscanf(attribute + 2, " %63[a-z_] ( %d", parameter->attribute, &parameter->index);
  if (words < 1 || parameter->index < 0 || parameter->index >= SIM_MAX_ARGUMENTS)
    sim_stop("a kernel's attribute is not understood: %s", attribute + 2);
  char *name = copy + strlen(copy);
  while (name > copy && isspace((unsigned char)name[-1]))
    name--;
  while (name > copy && is_word(name[-1]))
    name--;
  *name = '\0';
  while (name > copy && isspace((unsigned char)name[-1]))
    *--name = '\0';
  const char *type = copy;
  while (isspace((unsigned char)*type))
    type++;
  if (word_at(type, type, "threadgroup"))
    type += strlen("threadgroup");
  snprintf(parameter->type, sizeof parameter->type, "%s", type);
}

static void write_argument(FILE *out, struct parameter *parameter, struct sim_kernel *kernel) {
  char *kind = parameter->type + strlen(parameter->type) - 1;
  bool reference = *kind == '&';
  if (strcmp(parameter->attribute, "buffer") == 0) {
    bool constant = strstr(parameter->type, "const") != NULL;
    *(constant ? &kernel->reads : &kernel->writes) |= 1u << parameter->index;
    *kind = '*';
    fprintf(out, "%s(%s)buffers[%d]", reference ? "*" : "", parameter->type, parameter->index);
  } else if (strcmp(parameter->attribute, "threadgroup") == 0) {
    kernel->group_memory |= 1u << parameter->index;
    fprintf(out, "(%s)group_memory[%d]", parameter->type, parameter->index);
  } else {
    fprintf(out, "sim_as<%s>(t.%s)", parameter->type, parameter->attribute);
  }
}

/* Writes the function that calls the kernel whose parameters begin at `text`, and its line of the table. */
static void write_call(FILE *out, FILE *table, const char *name, const char *text) {
  struct sim_kernel kernel = {0};
  fprintf(out, "static void sim_call_%s(void *const *buffers, char *const *group_memory, const sim_thread &t) {\n  %s(",
          name, name);
  int depth = 1;
  for (const char *from = text, *c = text; depth > 0; c++) {
    if (*c == '\0')
      sim_stop("a kernel's parameters do not end");
    if (*c == '(')
      depth++;
    if (*c == ')')
      depth--;
    if (depth == 0 || (depth == 1 && *c == ',')) {
      struct parameter parameter;
      parse_parameter(from, (size_t)(c - from), &parameter);
      if (from != text)
        fputs(", ", out);
      write_argument(out, &parameter, &kernel);
      from = c + 1;
    }
  }
  fputs(");\n}\n", out);
  fprintf(table, "  {\"%s\", sim_call_%s, %uu, %uu, %uu},\n", name, name, kernel.reads, kernel.writes,
          kernel.group_memory);
}

static void write_calls(FILE *out, const char *source) {
  char *table_text = NULL;
  size_t table_length = 0;
  FILE *table = open_memstream(&table_text, &table_length);
  for (const char *c = source; *c != '\0'; c++) {
    char name[128];
    int parameters = 0;
    if (word_at(source, c, "kernel") && sscanf(c, "kernel void %127[A-Za-z0-9_] ( %n", name, &parameters) == 1 &&
        parameters > 0)
      write_call(out, table, name, c + parameters);
  }
  fclose(table);
  fprintf(out,
          "extern \"C\" __attribute__((visibility(\"default\"))) const sim_kernel sim_kernels[] = {\n%s"
          "  {nullptr, nullptr, 0, 0, 0}};\n",
          table_text);
  free(table_text);
}

/* ------------------------------------------------------------------------------------------------- compilation ---- */

/* The environment without what is meant for this process alone. */
static char **child_environment(void) {
  int count = 0;
  while (environ[count] != NULL)
    count++;
  char **copy = calloc((size_t)count + 1, sizeof *copy);
  for (int i = 0, kept = 0; i < count; i++) {
    if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
      copy[kept++] = environ[i];
  }
  return copy;
}

/* Returns what the compiler had to say, or NULL if it succeeded. */
static char *run_compiler(const char *source, const char *library, const char *messages, bool fast_math) {
  char *arguments[] = {(char *)SIM_KERNEL_COMPILER,
                       (char *)"-x",
                       (char *)"c++",
                       (char *)"-std=c++17",
                       (char *)"-O2",
                       (char *)(fast_math ? "-ffast-math" : "-ffp-contract=off"),
                       (char *)"-w",
                       (char *)"-fPIC",
                       (char *)"-shared",
                       (char *)"-fvisibility=hidden",
                       (char *)"-I" SIM_MSL_INCLUDE,
                       (char *)source,
                       (char *)"-o",
                       (char *)library,
                       NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, messages, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  char **environment = child_environment();
  pid_t child;
  int status = -1;
  int failed = posix_spawn(&child, SIM_KERNEL_COMPILER, &actions, NULL, arguments, environment);
  free(environment);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0)
    return strdup(strerror(failed));
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    continue;
  if (status == 0)
    return NULL;
  char text[2048] = "";
  FILE *file = fopen(messages, "r");
  size_t length = file == NULL ? 0 : fread(text, 1, sizeof text - 1, file);
  text[length] = '\0';
  if (file != NULL)
    fclose(file);
  return strdup(length == 0 ? "the compiler failed" : text);
}

/* Compiles and loads; NULL and a message for the caller to free if that fails. */
static struct sim_program *build_program(const char *source, bool fast_math, char **message) {
  char directory[] = "/tmp/simulated-metal-XXXXXX";
  if (mkdtemp(directory) == NULL)
    sim_stop("no directory for kernels: %s", strerror(errno));
  char input[64], output[64], messages[64];
  snprintf(input, sizeof input, "%s/kernels.cc", directory);
  snprintf(output, sizeof output, "%s/kernels.so", directory);
  snprintf(messages, sizeof messages, "%s/messages", directory);
  FILE *out = fopen(input, "w");
  if (out == NULL)
    sim_stop("no file for kernels: %s", strerror(errno));
  write_body(out, source);
  write_calls(out, source);
  fclose(out);
  *message = run_compiler(input, output, messages, fast_math);
  void *loaded = *message == NULL ? dlopen(output, RTLD_NOW | RTLD_LOCAL) : NULL;
  if (*message == NULL && loaded == NULL)
    *message = strdup(dlerror());
  unlink(input);
  unlink(output);
  unlink(messages);
  rmdir(directory);
  if (loaded == NULL)
    return NULL;
  struct sim_program *program = calloc(1, sizeof *program);
  program->source = strdup(source);
  program->fast_math = fast_math;
  program->has_barriers = strstr(source, "threadgroup_barrier") != NULL;
  program->kernels = dlsym(loaded, "sim_kernels");
  program->dispatch = (dispatch_function *)dlsym(loaded, "sim_dispatch");
  if (program->kernels == NULL || program->dispatch == NULL)
    sim_stop("a kernel library without its table: does the source include <metal_stdlib>?");
  return program;
}

static struct sim_program *program_for(const char *source, bool fast_math, char **message) {
  *message = NULL;
  pthread_mutex_lock(&programs_lock);
  struct sim_program *program = programs;
  while (program != NULL && (program->fast_math != fast_math || strcmp(program->source, source) != 0))
    program = program->next;
  if (program == NULL) {
    program = build_program(source, fast_math, message);
    if (program != NULL) {
      program->next = programs;
      programs = program;
    }
  }
  pthread_mutex_unlock(&programs_lock);
  return program;
}

/* ------------------------------------------------------------------------------------------------- objects -------- */

@implementation MTLCompileOptions
@synthesize preprocessorMacros = _preprocessorMacros;
@synthesize fastMathEnabled = _fastMathEnabled;
@synthesize mathMode = _mathMode;
@synthesize languageVersion = _languageVersion;

- (instancetype)init {
  self = [super init];
  if (self != nil) {
    _fastMathEnabled = YES;
    _mathMode = MTLMathModeFast;
  }
  return self;
}

- (void)dealloc {
  [_preprocessorMacros release];
  [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
  MTLCompileOptions *copy = [[[self class] allocWithZone:zone] init];
  copy.preprocessorMacros = _preprocessorMacros;
  copy.fastMathEnabled = _fastMathEnabled;
  copy.mathMode = _mathMode;
  copy.languageVersion = _languageVersion;
  return copy;
}

@end

@implementation SimLibrary

- (instancetype)initWithDevice:(SimDevice *)device
                        source:(NSString *)source
                       options:(MTLCompileOptions *)options
                         error:(NSError **)error {
  self = [super init];
  _device = [device retain];
  bool fast_math = options == nil || (options.fastMathEnabled && options.mathMode == MTLMathModeFast);
  char *message;
  _program = program_for([source UTF8String], fast_math, &message);
  if (_program == NULL) {
    if (error != NULL) {
      sim_require_pool("an NSError");
      NSString *text = [NSString stringWithUTF8String:message];
      *error = [NSError errorWithDomain:MTLLibraryErrorDomain
                                   code:MTLLibraryErrorCompileFailure
                               userInfo:@{NSLocalizedDescriptionKey : text}];
    }
    free(message);
    [self release];
    return nil;
  }
  return self;
}

- (void)dealloc {
  [_label release];
  [_device release];
  [super dealloc];
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

- (NSArray *)functionNames {
  NSMutableArray *names = [NSMutableArray array];
  for (const struct sim_kernel *kernel = _program->kernels; kernel->name != NULL; kernel++)
    [names addObject:[NSString stringWithUTF8String:kernel->name]];
  return names;
}

- (id<MTLFunction>)newFunctionWithName:(NSString *)name {
  for (const struct sim_kernel *kernel = _program->kernels; kernel->name != NULL; kernel++) {
    if (strcmp(kernel->name, [name UTF8String]) == 0) {
      SimFunction *function = [[SimFunction alloc] init];
      function->_library = [self retain];
      function->_kernel = kernel;
      return function;
    }
  }
  return nil;
}

@end

@implementation SimFunction

- (void)dealloc {
  [_label release];
  [_library release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return [_library device];
}

- (NSString *)label {
  return _label;
}

- (void)setLabel:(NSString *)label {
  NSString *copy = [label copy];
  [_label release];
  _label = copy;
}

- (NSString *)name {
  return [NSString stringWithUTF8String:_kernel->name];
}

@end

@implementation SimPipeline

- (instancetype)initWithFunction:(SimFunction *)function {
  self = [super init];
  if (self != nil)
    _function = [function retain];
  return self;
}

- (void)dealloc {
  [_function release];
  [super dealloc];
}

- (id<MTLDevice>)device {
  return [_function device];
}

- (NSString *)label {
  return nil;
}

- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return 1024;
}

- (NSUInteger)threadExecutionWidth {
  return 32;
}

- (NSUInteger)staticThreadgroupMemoryLength {
  return 0;
}

- (NSUInteger)allocatedSize {
  return 0;
}

@end

/* ------------------------------------------------------------------------------------------------- dispatch ------- */

/* A dispatch as it was encoded: a copy of what was bound at that moment. */
struct dispatch {
  dispatch_function *function;
  const struct sim_kernel *kernel;
  bool has_barriers;
  bool garbage;
  uint64_t grid[3];
  uint64_t group[3];
  struct sim_argument arguments[SIM_MAX_ARGUMENTS];
  NSUInteger group_memory[SIM_MAX_ARGUMENTS];
};

/* The dispatch, freed with the command that holds it. */
@interface SimDispatch : SimObject {
 @public
  struct dispatch _dispatch;
}
@end

@implementation SimDispatch

- (void)dealloc {
  for (int i = 0; i < SIM_MAX_ARGUMENTS; i++)
    free(_dispatch.arguments[i].bytes);
  [super dealloc];
}

/* Which bytes a kernel writes, nobody says beforehand: those that it changed are taken for it. */
static void check_changes(SimBuffer *buffer, const char *before, struct sim_run *run) {
  NSUInteger from = 0, to = buffer->_length;
  while (from < to && before[from] == buffer->_bytes[from])
    from++;
  while (to > from && before[to - 1] == buffer->_bytes[to - 1])
    to--;
  sim_access_check((struct sim_access){buffer, from, to - from, true}, run);
}

- (void)run:(struct sim_run *)run {
  struct dispatch *d = &_dispatch;
  void *buffers[SIM_MAX_ARGUMENTS] = {NULL};
  char *memory[SIM_MAX_ARGUMENTS] = {NULL};
  char *before[SIM_MAX_ARGUMENTS] = {NULL};
  struct sim_access accesses[SIM_MAX_ARGUMENTS];
  int count = 0;
  for (int i = 0; i < SIM_MAX_ARGUMENTS; i++) {
    uint32_t bit = 1u << i;
    SimBuffer *buffer = d->arguments[i].buffer;
    bool write = (d->kernel->writes & bit) != 0;
    if (buffer != nil && (write || (d->kernel->reads & bit))) {
      accesses[count++] = (struct sim_access){buffer, d->arguments[i].offset,
                                              write ? 0 : buffer->_length - d->arguments[i].offset, write};
      buffers[i] = buffer->_bytes + d->arguments[i].offset;
    } else {
      buffers[i] = d->arguments[i].bytes;
    }
    if (d->group_memory[i] > 0)
      memory[i] = calloc(1, d->group_memory[i]);
  }
  sim_access_begin(accesses, count, run);
  for (int i = 0; i < SIM_MAX_ARGUMENTS; i++) {
    if (d->kernel->writes & (1u << i)) {
      before[i] = malloc(d->arguments[i].buffer->_length);
      memcpy(before[i], d->arguments[i].buffer->_bytes, d->arguments[i].buffer->_length);
    }
  }
  d->function(d->kernel->function, buffers, memory, d->grid, d->group, d->has_barriers);
  for (int i = 0; i < SIM_MAX_ARGUMENTS; i++) {
    if (before[i] != NULL) {
      SimBuffer *buffer = d->arguments[i].buffer;
      if (d->garbage)
        memset(buffers[i], 0x5A, buffer->_length - d->arguments[i].offset);
      check_changes(buffer, before[i], run);
      free(before[i]);
    }
    free(memory[i]);
  }
  sim_access_end(accesses, count);
}

@end

void sim_kernel_dispatch(AGXSimFamilyComputeContext *encoder, MTLSize threads, MTLSize group) {
  if (encoder->_pipeline == nil)
    sim_stop("a dispatch without a pipeline state");
  if (threads.width * threads.height * threads.depth == 0)
    sim_stop("a dispatch of no threads");
  NSUInteger size = group.width * group.height * group.depth;
  if (size == 0 || size > [encoder->_pipeline maxTotalThreadsPerThreadgroup])
    sim_stop("a threadgroup of %llu threads", (unsigned long long)size);
  const struct sim_kernel *kernel = encoder->_pipeline->_function->_kernel;
  struct sim_program *program = encoder->_pipeline->_function->_library->_program;
  SimDispatch *command = [[SimDispatch alloc] init];
  struct dispatch *d = &command->_dispatch;
  d->function = program->dispatch;
  d->kernel = kernel;
  d->has_barriers = program->has_barriers;
  d->garbage = encoder->_command_buffer->_garbage;
  memcpy(d->grid, (uint64_t[]){threads.width, threads.height, threads.depth}, sizeof d->grid);
  memcpy(d->group, (uint64_t[]){group.width, group.height, group.depth}, sizeof d->group);
  for (int i = 0; i < SIM_MAX_ARGUMENTS; i++) {
    struct sim_argument *bound = &encoder->_arguments[i];
    uint32_t bit = 1u << i;
    if (((kernel->reads | kernel->writes) & bit) && bound->buffer == nil && bound->bytes == NULL)
      sim_stop("kernel %s: nothing is bound at index %d", kernel->name, i);
    if ((kernel->writes & bit) && bound->bytes != NULL)
      sim_stop("kernel %s writes to index %d, where bytes are bound", kernel->name, i);
    if ((kernel->group_memory & bit) && encoder->_threadgroup_memory[i] == 0)
      sim_stop("kernel %s: no threadgroup memory at index %d", kernel->name, i);
    d->arguments[i] = *bound;
    d->group_memory[i] = encoder->_threadgroup_memory[i];
    if (bound->bytes != NULL) {
      d->arguments[i].bytes = malloc(bound->length);
      memcpy(d->arguments[i].bytes, bound->bytes, bound->length);
    }
  }
  [encoder->_command_buffer append:^(struct sim_run *run) {
    [command run:run];
    return (uint32_t)0;
  }];
  [command release];
}
