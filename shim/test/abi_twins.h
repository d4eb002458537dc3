/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef MST_TEST_ABI_TWINS_H
#define MST_TEST_ABI_TWINS_H

/* The shim as the model of the ABI calls it, or a twin that breaks one promise of mst.h: the environment variable MST_TWIN
 * names it. tests/fuzz/run tries each, and fails if the model does not notice. */

#include <stdbool.h>

#include "check.h"

/* clang-format off */
#define TWINS(X)                                                                       \
  X(commits_twice)            /* a commit without an open command buffer succeeds */   \
  X(begins_twice)             /* a begin while one is open succeeds */                 \
  X(busy_one_too_late)        /* one more in flight than was asked for */              \
  X(busy_one_too_early)                                                                \
  X(commits_what_is_dropped)  /* discard commits */                                    \
  X(completes_early)          /* the completed value is one ahead */                   \
  X(completed_goes_back)      /* at times it is one behind */                          \
  X(waits_for_the_uncommitted)                                                         \
  X(returns_early)            /* a wait whose time is over says that it is done */     \
  X(ignores_waits)            /* of one queue for another */                           \
  X(resets_what_runs)                                                                  \
  X(forgets_failures)         /* the failed value stays 0 */                           \
  X(hides_failures)           /* a failure is completed as a success */                \
  X(blames_another)           /* a dependency names the wrong value */                 \
  X(loses_a_completion)       /* each fifth */                                         \
  X(completes_out_of_order)   /* two completions change places */                      \
  X(ignores_a_wake)                                                                    \
  X(destroys_in_use)          /* so it says */                                         \
  X(fills_one_byte_less)                                                               \
  X(fills_one_byte_more)                                                               \
  X(copies_from_the_start)                                                             \
  X(copies_late)              /* a copy is left out */                                 \
  X(keeps_memory)             /* a destroyed buffer lives on */                        \
  X(writes_after_an_error)    /* an out-parameter */                                   \
  X(loses_a_signal)           /* of the host: each third */                            \
  X(fails_in_silence)         /* a failure that the host signals is none */
/* clang-format on */

enum twin {
  TWIN_NONE,
#define X(name) TWIN_##name,
  TWINS(X)
#undef X
};

/* The one that MST_TWIN names. */
static enum twin twin(void) {
  static const char *const NAMES[] = {"",
#define X(name) #name,
                                      TWINS(X)
#undef X
  };
  static int chosen = -1;
  if (chosen < 0) {
    const char *name = getenv("MST_TWIN");
    int count = (int)(sizeof(NAMES) / sizeof(NAMES[0]));
    for (chosen = 0; name != NULL && chosen < count && strcmp(NAMES[chosen], name) != 0;) {
      chosen++;
    }
    CHECK(chosen < count); /* no twin has this name */
  }
  return (enum twin)chosen;
}

/* Whether this is the twin, and its turn: once in `turns` calls. */
static bool twin_is(enum twin name, int turns) {
  static int calls;
  return twin() == name && ++calls % turns == 0;
}

static int32_t twin_queue_create(mst_device *device, uint64_t id, uint32_t max_in_flight, mst_queue **out_queue) {
  if (twin_is(TWIN_busy_one_too_late, 1) && max_in_flight > 0 && max_in_flight < MST_MAX_IN_FLIGHT) {
    max_in_flight++;
  } else if (twin_is(TWIN_busy_one_too_early, 1) && max_in_flight > 1 && max_in_flight <= MST_MAX_IN_FLIGHT) {
    max_in_flight--;
  }
  int32_t status = mst_queue_create(device, id, NULL, max_in_flight, out_queue);
  if (status != MST_OK && twin_is(TWIN_writes_after_an_error, 1)) {
    *out_queue = NULL;
  }
  return status;
}

static int32_t twin_queue_signal(mst_queue *queue, uint64_t value, const char *failure) {
  if (mst_queue_wait(queue, value, 0) == MST_TIMEOUT && twin_is(TWIN_loses_a_signal, 3)) {
    return MST_OK; /* it would have been one */
  }
  return mst_queue_signal(queue, value, twin_is(TWIN_fails_in_silence, 1) ? NULL : failure);
}

static uint64_t twin_queue_completed_value(mst_queue *queue) {
  uint64_t value = mst_queue_completed_value(queue);
  return value + twin_is(TWIN_completes_early, 1) - (value > 0 && twin_is(TWIN_completed_goes_back, 7));
}

static uint64_t twin_queue_failed_value(mst_queue *queue) {
  return twin_is(TWIN_forgets_failures, 1) ? 0 : mst_queue_failed_value(queue);
}

static int32_t twin_queue_wait(mst_queue *queue, uint64_t value, int64_t timeout_ns) {
  int32_t status = mst_queue_wait(queue, value, timeout_ns);
  bool wrong = (status == MST_TIMEOUT && twin_is(TWIN_returns_early, 1)) ||
               (status == MST_ERROR_INVALID_STATE && twin_is(TWIN_waits_for_the_uncommitted, 1));
  return wrong ? MST_OK : status;
}

static int32_t twin_queue_reset(mst_queue *queue) {
  int32_t status = mst_queue_reset(queue);
  return status == MST_ERROR_INVALID_STATE && twin_is(TWIN_resets_what_runs, 1) ? MST_OK : status;
}

static int32_t twin_commands_begin(mst_queue *queue, uint64_t value) {
  int32_t status = mst_commands_begin(queue, value);
  return status == MST_ERROR_INVALID_STATE && twin_is(TWIN_begins_twice, 1) ? MST_OK : status;
}

static int32_t twin_commands_commit(mst_queue *queue, uint64_t value, uint32_t flags) {
  int32_t status = mst_commands_commit(queue, value, flags);
  return status == MST_ERROR_INVALID_STATE && twin_is(TWIN_commits_twice, 1) ? MST_OK : status;
}

static int32_t twin_commands_discard(mst_queue *queue, uint64_t value) {
  return twin_is(TWIN_commits_what_is_dropped, 1) ? mst_commands_commit(queue, value, MST_COMMIT_DEFAULT)
                                                  : mst_commands_discard(queue, value);
}

static int32_t twin_encode_wait(mst_queue *queue, uint64_t value, mst_queue *awaited_queue, uint64_t awaited_value) {
  if (twin_is(TWIN_ignores_waits, 1)) {
    awaited_value = awaited_value < UINT64_MAX / 2 ? 0 : awaited_value;
  }
  return mst_encode_wait(queue, value, awaited_queue, awaited_value);
}

static int32_t twin_encode_fill(mst_queue *queue, uint64_t value, mst_buffer *buffer, uint64_t offset, uint64_t length,
                                uint8_t byte) {
  int32_t status = MST_OK;
  if (twin_is(TWIN_fills_one_byte_less, 1) && length > 0) {
    status = mst_encode_fill(queue, value, buffer, offset, length - 1, byte);
  } else if (!twin_is(TWIN_fills_one_byte_more, 1) ||
             (status = mst_encode_fill(queue, value, buffer, offset, length + 1, byte)) != MST_OK) {
    status = mst_encode_fill(queue, value, buffer, offset, length, byte);
  }
  return status;
}

static int32_t twin_encode_copy(mst_queue *queue, uint64_t value, mst_buffer *source, uint64_t source_offset,
                                mst_buffer *target, uint64_t target_offset, uint64_t length) {
  if (twin_is(TWIN_copies_from_the_start, 1) && source != target) {
    source_offset = source_offset < UINT64_MAX / 2 ? 0 : source_offset;
  } else if (twin_is(TWIN_copies_late, 1)) {
    length = length < UINT64_MAX / 2 ? 0 : length;
  }
  return mst_encode_copy(queue, value, source, source_offset, target, target_offset, length);
}

static int32_t twin_buffer_create(mst_device *device, uint64_t bytes, int32_t storage, mst_buffer **out_buffer,
                                  void **out_contents) {
  int32_t status = mst_buffer_create(device, bytes, storage, out_buffer, out_contents);
  if (status != MST_OK && twin_is(TWIN_writes_after_an_error, 1)) {
    *out_contents = NULL;
  }
  return status;
}

static int32_t twin_buffer_destroy(mst_buffer *buffer) {
  if (buffer != NULL && twin_is(TWIN_keeps_memory, 1)) {
    return MST_OK;
  }
  int32_t status = mst_buffer_destroy(buffer);
  return status == MST_ERROR_INVALID_STATE && twin_is(TWIN_destroys_in_use, 1) ? MST_OK : status;
}

static int32_t twin_next_completions(mst_device *device, mst_completion *out, int32_t capacity, int64_t timeout_ns,
                                     int32_t *out_count) {
  int32_t status = mst_device_next_completions(device, out, capacity, timeout_ns, out_count);
  if (status != MST_OK) {
    return status;
  }
  for (int32_t i = 0; i < *out_count; i++) {
    if (twin_is(TWIN_loses_a_completion, 5)) {
      (*out_count)--;
      memmove(&out[i], &out[i + 1], (size_t)(*out_count - i) * sizeof(*out));
    }
  }
  for (int32_t i = 0; i < *out_count; i++) {
    if (out[i].status != MST_OK && twin_is(TWIN_hides_failures, 1)) {
      out[i].status = MST_OK;
      out[i].message[0] = '\0';
      out[i].cause_queue_id = 0;
      out[i].cause_value = 0;
    } else if (out[i].status == MST_ERROR_DEPENDENCY && twin_is(TWIN_blames_another, 1)) {
      out[i].cause_value++;
    } else if (i > 0 && out[i].queue_id == out[i - 1].queue_id && twin_is(TWIN_completes_out_of_order, 1)) {
      mst_completion swapped = out[i];
      out[i] = out[i - 1];
      out[i - 1] = swapped;
    }
  }
  return status;
}

static int32_t twin_device_wake(mst_device *device) {
  return twin_is(TWIN_ignores_a_wake, 1) ? MST_OK : mst_device_wake(device);
}

#endif
