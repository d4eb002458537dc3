/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#include "scratch.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

/* Larger scratch is freed after its use: any thread that waits may execute, and must not keep much for ever. */
static const uint64_t MOST_KEPT = 64 << 20;
enum { ALIGNMENT = 64 };

typedef struct scratch {
  void *memory[MST_SCRATCH_KINDS];
  uint64_t bytes[MST_SCRATCH_KINDS];
} scratch;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;
static _Thread_local scratch *mine;

static void free_scratch(void *pointer) {
  scratch *ending = pointer;
  for (int kind = 0; kind < MST_SCRATCH_KINDS; kind++) {
    free(ending->memory[kind]);
  }
  free(ending);
}

static void create_key(void) {
  key_error = pthread_key_create(&key, free_scratch);
  /* Threads of the caller will run free_scratch when they end, perhaps long after it has closed this library: pin it. */
  Dl_info self;
  if (dladdr(&key, &self) != 0 && self.dli_fname != NULL) {
    dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  }
}

static scratch *of_this_thread(void) {
  if (mine == NULL) {
    pthread_once(&once, create_key);
    scratch *made = key_error == 0 ? calloc(1, sizeof(scratch)) : NULL;
    if (made != NULL && pthread_setspecific(key, made) != 0) {
      free(made);
      made = NULL;
    }
    mine = made;
  }
  return mine;
}

void *mst_scratch(enum mst_scratch kind, uint64_t bytes) {
  scratch *own = of_this_thread();
  if (own == NULL) {
    return NULL;
  }
  if (own->bytes[kind] < bytes) {
    free(own->memory[kind]);
    own->memory[kind] = NULL;
    own->bytes[kind] = 0;
    if (bytes > SIZE_MAX || posix_memalign(&own->memory[kind], ALIGNMENT, (size_t)bytes) != 0) {
      own->memory[kind] = NULL;
      return NULL;
    }
    own->bytes[kind] = bytes;
  }
  return own->memory[kind];
}

void mst_scratch_trim(void) {
  for (int kind = 0; mine != NULL && kind < MST_SCRATCH_KINDS; kind++) {
    if (mine->bytes[kind] > MOST_KEPT) {
      free(mine->memory[kind]);
      mine->memory[kind] = NULL;
      mine->bytes[kind] = 0;
    }
  }
}
