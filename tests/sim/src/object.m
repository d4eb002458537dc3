/*
 * Simulated Metal: the root class, and the counts of living objects.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#import <objc/runtime.h>

#include "mst_sim.h"
#include "sim.h"

enum { MAX_CLASSES = 64 };

static pthread_mutex_t counts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
  Class class;
  int64_t count;
} counts[MAX_CLASSES];

void sim_stop(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  flockfile(stderr);
  fputs("simulated Metal: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  funlockfile(stderr);
  va_end(arguments);
  abort();
}

const char *sim_text(NSString *text) {
  static _Thread_local char copy[128];
  @autoreleasepool {
    snprintf(copy, sizeof copy, "%s", text == nil ? "" : [text UTF8String]);
  }
  return copy;
}

void sim_require_pool(const char *what) {
  if ([NSAutoreleasePool currentPool] == nil)
    sim_stop("%s was autoreleased with no pool in place: it leaks", what);
}

void sim_count_object(Class class, int delta) {
  pthread_mutex_lock(&counts_lock);
  for (int i = 0; i < MAX_CLASSES; i++) {
    if (counts[i].class == class || counts[i].class == Nil) {
      counts[i].class = class;
      counts[i].count += delta;
      pthread_mutex_unlock(&counts_lock);
      return;
    }
  }
  sim_stop("more than %d classes", MAX_CLASSES);
}

int64_t mst_sim_live_objects(const char *class_name) {
  int64_t sum = 0;
  pthread_mutex_lock(&counts_lock);
  for (int i = 0; i < MAX_CLASSES && counts[i].class != Nil; i++) {
    if (class_name == NULL || strcmp(class_name, class_getName(counts[i].class)) == 0)
      sum += counts[i].count;
  }
  pthread_mutex_unlock(&counts_lock);
  return sum;
}

int64_t mst_sim_report_live_objects(void) {
  int64_t sum = 0;
  pthread_mutex_lock(&counts_lock);
  for (int i = 0; i < MAX_CLASSES && counts[i].class != Nil; i++) {
    if (counts[i].count != 0)
      fprintf(stderr, "simulated Metal: %lld living %s\n", (long long)counts[i].count, class_getName(counts[i].class));
    sum += counts[i].count;
  }
  pthread_mutex_unlock(&counts_lock);
  return sum;
}

/* Foundation's own objects: GNUstep only logs that a pool is missing. */
typedef void log_handler(NSString *);
extern log_handler *_NSLog_printf_handler;

static void log_or_stop(NSString *message) {
  const char *text = [message UTF8String];
  const char *missing = strstr(text, "autorelease called without pool");
  if (missing != NULL)
    sim_stop("an object was autoreleased with no pool in place, it leaks: %s", missing);
  fputs(text, stderr);
}

/*
 * GNUstep's classes set themselves up at their first message, and GCC's runtime lets a second thread in before the
 * first is done. So each class that two threads could meet in is used once while the library is loaded.
 */
static void set_up_foundation(void) {
  @autoreleasepool {
    NSString *text = [NSString stringWithFormat:@"%@ %d", [NSNumber numberWithLongLong:1], 2];
    NSString *copy = [[[NSString stringWithUTF8String:[text UTF8String]] copy] autorelease];
    NSMutableString *changing = [NSMutableString stringWithString:copy];
    [changing appendFormat:@"%g", 1.0];
    NSMutableArray *array = [NSMutableArray arrayWithCapacity:2];
    [array addObject:copy];
    [array addObject:[NSNumber numberWithUnsignedInteger:3]];
    for (id each in [[array copy] autorelease])
      [each isEqual:copy];
    NSMutableDictionary *dictionary = [NSMutableDictionary dictionaryWithObject:array forKey:changing];
    for (id each in [[dictionary copy] autorelease])
      [dictionary objectForKey:each];
    NSError *error = [NSError errorWithDomain:copy code:1 userInfo:dictionary];
    [error localizedDescription];
    [[NSProcessInfo processInfo] physicalMemory];
    @try {
      [NSException raise:@"set-up" format:@"%@", error];
    } @catch (NSException *exception) {
      [exception reason];
    }
  }
}

@implementation SimObject

+ (void)load {
  _NSLog_printf_handler = log_or_stop;
  set_up_foundation();
}

+ (instancetype)allocWithZone:(NSZone *)zone {
  SimObject *object = [super allocWithZone:zone];
  if (object != nil) {
    object->_references = 1;
    sim_count_object(self, 1);
  }
  return object;
}

- (void)dealloc {
  sim_count_object([self class], -1);
  [super dealloc];
}

- (instancetype)retain {
  if (__atomic_fetch_add(&_references, 1, __ATOMIC_RELAXED) == 0)
    sim_stop("a deallocated %s was retained", class_getName([self class]));
  return self;
}

- (oneway void)release {
  uint32_t before = __atomic_fetch_sub(&_references, 1, __ATOMIC_ACQ_REL);
  if (before == 0)
    sim_stop("a deallocated %s was released", class_getName([self class]));
  if (before == 1)
    [self dealloc];
}

- (instancetype)autorelease {
  sim_require_pool(class_getName([self class]));
  return [super autorelease];
}

- (NSUInteger)retainCount {
  return __atomic_load_n(&_references, __ATOMIC_RELAXED);
}

@end
