/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* The AGX guard: a way around a race in Apple's GPU driver, for those who meet it.
 *
 * The race, as it was found by others in AGXMetalG16X of macOS 15: -[...ComputeContext destroyImpl] gives the encoder's
 * implementation back under a lock and clears its pointer *after* the unlock. A thread that is encoding at that moment
 * can find the pointer cleared under its hands, and crashes. Streams that keep their encoders to themselves, as ours
 * do, have not been seen to meet it, and those of our own kernels are destroyed under the lock that serialises them
 * (kernels.m); MPS and other users of Metal in the process may. So the guard is off unless asked for.
 *
 * The gate
 *   At any time at most one thread has open encoders or is inside a destroyImpl. Creating an encoder enters the gate,
 *   its endEncoding leaves it, whichever thread calls that; destroyImpl enters before and leaves after. So no
 *   destruction runs while another thread encodes. A thread may hold several encoders, and may create and destroy while
 *   it does.
 *
 * The price is that all encoding of the process is done by one thread at a time.
 *
 * No call is ever dropped, and none waits for ever: whoever has waited for LIMIT takes the gate over. The encoders that
 * it waited for count as forced ends, as does an encoder that is destroyed while open. If the driver calls destroyImpl
 * with a lock of its own held that an encoding thread needs, that limit is also what ends the deadlock.
 *
 * How it gets there: the driver's classes have other names for every GPU generation, so they are taken from a command
 * buffer and encoders made for the purpose. A replaced method is found again by class and selector, never by selector
 * alone: compute and blit encoders share selectors. A method that a class inherits is added to that class; its
 * superclass, which others share, is left alone. Nothing is ever put back: there is no moment at which no thread is
 * inside.
 *
 * Under Metal's debug layer encoders are wrappers without a destroyImpl: then there is nothing to guard, and the
 * counters say so. */
#include "agx_guard.h"

#include <objc/runtime.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "platform.h"

static const int64_t LIMIT = 5000000000;

/* --------------------------------------------------------------------------------------------------------- gate --- */

typedef struct live_encoder {
  const void *encoder; /* not retained: it is taken out when it ends or is destroyed */
  bool ending;         /* its endEncoding is running, and will take it out */
} live_encoder;

/* Guarded by its lock. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t left;
  pthread_t owner;     /* while depth > 0 */
  uint32_t depth;      /* of the owner: open encoders, and calls inside the gate */
  uint64_t generation; /* raised when the gate is taken over: what was inside then does not leave any more */
  live_encoder *live;
  uint32_t live_count;
  uint32_t live_capacity;
  uint64_t acquisitions;
  uint64_t contentions;
  uint64_t forced_ends;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER};

static bool occupied_by_another(void) {
  return gate.depth > 0 && !pthread_equal(gate.owner, pthread_self());
}

/* Takes one thing of the owner out. Lock held. */
static void step_out(void) {
  gate.depth--;
  if (gate.depth == 0) {
    pthread_cond_signal(&gate.left);
  }
}

/* Enters; the result is for leave. */
static uint64_t enter(void) {
  pthread_mutex_lock(&gate.lock);
  gate.acquisitions++;
  if (occupied_by_another()) {
    gate.contentions++;
    uint64_t deadline = mst_deadline(LIMIT);
    while (occupied_by_another()) {
      if (!mst_wait_until(&gate.left, &gate.lock, deadline)) {
        gate.forced_ends += gate.live_count;
        gate.live_count = 0;
        gate.depth = 0;
        gate.generation++;
      }
    }
  }
  gate.owner = pthread_self();
  gate.depth++;
  uint64_t generation = gate.generation;
  pthread_mutex_unlock(&gate.lock);
  return generation;
}

static void leave(uint64_t generation) {
  pthread_mutex_lock(&gate.lock);
  if (generation == gate.generation) {
    step_out();
  }
  pthread_mutex_unlock(&gate.lock);
}

/* The index of an encoder, or live_count. Lock held. */
static uint32_t find(const void *encoder) {
  uint32_t i = 0;
  while (i < gate.live_count && gate.live[i].encoder != encoder) {
    i++;
  }
  return i;
}

/* Lock held. */
static void take_out(uint32_t index) {
  gate.live[index] = gate.live[--gate.live_count];
  step_out();
}

/* Room for one more encoder; false if there is no memory. Lock held. */
static bool make_room(void) {
  if (gate.live_count < gate.live_capacity) {
    return true;
  }
  uint32_t capacity = gate.live_capacity == 0 ? 64 : gate.live_capacity * 2;
  live_encoder *live = realloc(gate.live, capacity * sizeof(live_encoder));
  if (live == NULL) {
    return false;
  }
  gate.live = live;
  gate.live_capacity = capacity;
  return true;
}

/* What entered stays inside as this encoder, until it ends. Creating methods call each other: the outermost finds the
 * encoder there already, and leaves. */
static void stay_as(id encoder, uint64_t generation) {
  pthread_mutex_lock(&gate.lock);
  if (generation == gate.generation) {
    if (encoder != nil && find(encoder) == gate.live_count && make_room()) {
      gate.live[gate.live_count++] = (live_encoder){encoder, false};
    } else {
      step_out();
    }
  }
  pthread_mutex_unlock(&gate.lock);
}

/* ------------------------------------------------------------------------------------------- replaced methods ----- */

typedef struct original {
  Class class;
  SEL selector;
  IMP function;
} original;

enum { MOST_ORIGINALS = 24 };

/* Entries below the count are constant. */
static original originals[MOST_ORIGINALS];
static atomic_uint original_count;

/* The replaced method of the object's class, or of the nearest superclass that has one. */
static IMP original_of(id object, SEL selector) {
  uint32_t count = atomic_load_explicit(&original_count, memory_order_acquire);
  for (Class class = object_getClass(object); class != Nil; class = class_getSuperclass(class)) {
    for (uint32_t i = 0; i < count; i++) {
      if (originals[i].class == class && sel_isEqual(originals[i].selector, selector)) {
        return originals[i].function;
      }
    }
  }
  abort(); /* only classes in the table have our methods */
}

static id create(id self, SEL selector) {
  id (*function)(id, SEL) = (id(*)(id, SEL))original_of(self, selector);
  uint64_t generation = enter();
  id encoder = function(self, selector);
  stay_as(encoder, generation);
  return encoder;
}

static id create_with_descriptor(id self, SEL selector, id descriptor) {
  id (*function)(id, SEL, id) = (id(*)(id, SEL, id))original_of(self, selector);
  uint64_t generation = enter();
  id encoder = function(self, selector, descriptor);
  stay_as(encoder, generation);
  return encoder;
}

static id create_with_type(id self, SEL selector, NSUInteger type) {
  id (*function)(id, SEL, NSUInteger) = (id(*)(id, SEL, NSUInteger))original_of(self, selector);
  uint64_t generation = enter();
  id encoder = function(self, selector, type);
  stay_as(encoder, generation);
  return encoder;
}

static void end(id self, SEL selector) {
  void (*function)(id, SEL) = (void (*)(id, SEL))original_of(self, selector);
  pthread_mutex_lock(&gate.lock);
  uint32_t index = find(self);
  bool ours = index < gate.live_count && !gate.live[index].ending;
  uint64_t generation = gate.generation;
  if (ours) {
    gate.live[index].ending = true;
  }
  pthread_mutex_unlock(&gate.lock);
  function(self, selector);
  if (ours) {
    pthread_mutex_lock(&gate.lock);
    if (generation == gate.generation) {
      take_out(find(self));
    }
    pthread_mutex_unlock(&gate.lock);
  }
}

static void destroy(id self, SEL selector) {
  void (*function)(id, SEL) = (void (*)(id, SEL))original_of(self, selector);
  uint64_t generation = enter();
  pthread_mutex_lock(&gate.lock);
  uint32_t index = find(self);
  if (index < gate.live_count && !gate.live[index].ending) {
    gate.forced_ends++;
    take_out(index);
  }
  pthread_mutex_unlock(&gate.lock);
  function(self, selector);
  leave(generation);
}

/* ------------------------------------------------------------------------------------------------- installation --- */

static atomic_int state; /* enum mst_agx_guard */

/* The instance method, if the class has one of its own; NULL if it inherits or lacks it. */
static Method own_method(Class class, SEL selector) {
  unsigned int count = 0;
  Method *methods = class_copyMethodList(class, &count);
  Method own = NULL;
  for (unsigned int i = 0; i < count && own == NULL; i++) {
    own = sel_isEqual(method_getName(methods[i]), selector) ? methods[i] : NULL;
  }
  free(methods);
  return own;
}

/* Whether the method gives back this type, 'v' or '@': the driver's own methods are declared nowhere. */
static bool returns(Method method, char expected) {
  char *type = method_copyReturnType(method);
  bool equal = type != NULL && type[0] == expected;
  free(type);
  return equal;
}

/* Replaces the instance method of exactly this class. False: it does not have it, or with another type.
 * (class_replaceMethod of some runtimes replaces an inherited method where it stands.) */
static bool replace(Class class, const char *name, IMP function, char result) {
  SEL selector = sel_registerName(name);
  Method method = class_getInstanceMethod(class, selector);
  if (method == NULL || !returns(method, result)) {
    return false;
  }
  uint32_t count = atomic_load_explicit(&original_count, memory_order_relaxed);
  if (method_getImplementation(method) == function || count == MOST_ORIGINALS) {
    return method_getImplementation(method) == function; /* a class that serves for two kinds of encoder */
  }
  originals[count] = (original){class, selector, method_getImplementation(method)};
  atomic_store_explicit(&original_count, count + 1, memory_order_release);
  Method own = own_method(class, selector);
  if (own != NULL) {
    method_setImplementation(own, function);
    return true;
  }
  return class_addMethod(class, selector, function, method_getTypeEncoding(method));
}

static void guard_encoder(Class class) {
  replace(class, "endEncoding", (IMP)end, 'v');
  replace(class, "deferredEndEncoding", (IMP)end, 'v');
  replace(class, "destroyImpl", (IMP)destroy, 'v');
}

static void guard_command_buffer(Class class) {
  replace(class, "computeCommandEncoder", (IMP)create, '@');
  replace(class, "blitCommandEncoder", (IMP)create, '@');
  replace(class, "computeCommandEncoderWithDescriptor:", (IMP)create_with_descriptor, '@');
  replace(class, "blitCommandEncoderWithDescriptor:", (IMP)create_with_descriptor, '@');
  replace(class, "computeCommandEncoderWithDispatchType:", (IMP)create_with_type, '@');
}

/* Asks the driver for its classes, and guards them. */
static int probe(id<MTLDevice> metal) {
  int found = MST_AGX_GUARD_NO_TARGET;
  id<MTLCommandQueue> queue = [metal newCommandQueue];
  id<MTLCommandBuffer> buffer = [queue commandBuffer];
  id<MTLComputeCommandEncoder> compute = [buffer computeCommandEncoder];
  [compute endEncoding];
  id<MTLBlitCommandEncoder> blit = [buffer blitCommandEncoder];
  [blit endEncoding];
  Class compute_class = object_getClass(compute);
  if (blit != nil && replace(compute_class, "destroyImpl", (IMP)destroy, 'v')) {
    guard_encoder(compute_class);
    guard_encoder(object_getClass(blit));
    guard_command_buffer(object_getClass(buffer));
    found = MST_AGX_GUARD_ON;
  }
  [queue release];
  return found;
}

void mst_agx_guard_install(id<MTLDevice> metal) {
  static pthread_mutex_t installing = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&installing);
  if (atomic_load(&state) != MST_AGX_GUARD_ON) {
    @autoreleasepool {
      atomic_store(&state, probe(metal));
    }
  }
  pthread_mutex_unlock(&installing);
}

void mst_agx_guard_count(mst_device_counter_facts *out_facts) {
  pthread_mutex_lock(&gate.lock);
  out_facts->agx_acquisitions = gate.acquisitions;
  out_facts->agx_contentions = gate.contentions;
  out_facts->agx_live_encoders = gate.live_count;
  out_facts->agx_forced_ends = gate.forced_ends;
  pthread_mutex_unlock(&gate.lock);
  out_facts->agx_guard = atomic_load(&state);
}
