/*
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 */

/* A model of the ABI: what mst.h lets each call of one thread return, whatever the device does meanwhile.
 *
 *     floor <= completed (the device's secret) <= ceiling <= committed
 *
 * Principles
 *   1. Of the device the model knows bounds. The floor of a queue is the greatest value that was seen to be completed, by
 *      any means; what that value came after is then completed, too. The ceiling is the greatest that may be: no more than
 *      is committed, than a hold lets through, than the waits of each command buffer allow.
 *   2. A status that depends on the device is right if it was right at some moment of the call: it is compared with the
 *      completed values read before and after. Where a call breaks several rules, any of their statuses is right.
 *   3. What a command buffer ended with is told by its completion, and is then compared with all that was seen of it
 *      before: failed values, waits of others. Whether it fails with DEPENDENCY, and with which cause, follows from the
 *      completions before it. Whether it fails by itself is for the test to order, but not more often than ordered.
 *   4. Each byte of a buffer has one value for each queue that wrote it last without an order between them, so it may be
 *      any of these and nothing else. A byte is ANY if a copy read it while it was written, or if what wrote it computes
 *      or may fail. The order is that of vector clocks: a command buffer comes after those before it on its queue, after
 *      what it waits for, after what was known to be completed when it was committed, and after what these came after.
 *
 *   5. A host queue is one that is promised instead of committed, up to what was waited for, and completes by its signals
 *      alone: its bounds are one. What a value ended with is known when it is signalled.
 *
 * Not modelled: what executables and layer norms compute (graph_test.c does), the shapes of graphs, and so the sizes of
 * outputs of the executables that the input made up. */
#include "abi_model.h"

#include <math.h>
#include <stdarg.h>

#include "abi_twins.h"

/* Of a buffer, so many bytes are compared. */
enum { MODELLED = 1024 };

/* A completion is overdue after this; of a twin, nobody waits so long. */
static const int64_t PATIENCE_NS = 60000000000;
static const int64_t PATIENCE_WITH_A_TWIN_NS = 1000000000;

enum { NONE = -1, ANY = 256 }; /* a byte: 0 to 255, or one of these */

enum { UNKNOWN = 99 }; /* a status that was not told yet */

typedef struct model_queue model_queue;
typedef struct model_buffer model_buffer;

typedef struct clocks {
  uint64_t at[QUEUES]; /* of each slot, the value that is over by then */
} clocks;

typedef struct model_wait {
  model_queue *awaited;
  uint64_t value;
  uint64_t forgiven; /* failures up to this value were reset before the wait was encoded */
} model_wait;

/* A committed command buffer. */
typedef struct model_value {
  clocks clock; /* what was over when it began its last operation */
  model_wait *waits;
  int wait_count;
  int32_t status; /* UNKNOWN until its completion is taken */
  bool may_fail;  /* by itself or with what it waits for */
  bool succeeded; /* failed values say so */
  bool failed;    /* the same */
  bool signal;    /* of a host queue: signalled itself, and not with a later one */
  uint64_t cause_queue_id;
  uint64_t cause_value;
} model_value;

typedef enum op_kind { OP_WAIT, OP_FILL, OP_COPY, OP_COMPUTE } op_kind;

typedef struct model_op {
  op_kind kind;
  model_wait wait;
  model_buffer *target;
  uint64_t offset;
  uint64_t length;
  uint8_t byte;
  model_buffer *source;
  uint64_t source_offset;
} model_op;

struct model_queue {
  mst_queue *handle; /* NULL: destroyed; its completions may still come */
  int slot;
  int device;
  uint64_t id;
  uint32_t max_in_flight; /* 0: a host queue */
  uint64_t committed;     /* or promised */
  uint64_t floor;
  uint64_t reported; /* the last value whose completion was taken */
  uint64_t forgiven; /* committed at the last reset */
  bool open;
  bool held;
  uint64_t let_through; /* held: values above this do not begin */
  clocks clock;         /* of the last commit */
  model_value *values;  /* of value v at v - 1 */
  size_t value_capacity;
  model_op *ops; /* of the open command buffer */
  size_t op_count;
  size_t op_capacity;
  model_queue *next; /* all that there ever were */
};

typedef struct model_byte {
  int16_t settled;         /* written by what came before all that runs, or NONE */
  int16_t byte[QUEUES];    /* the last that each queue wrote, if that may be what is left */
  uint64_t writer[QUEUES]; /* its value; 0: none */
} model_byte;

struct model_buffer {
  mst_buffer *handle; /* NULL: no buffer */
  int device;
  uint64_t bytes;
  const uint8_t *contents; /* NULL: private */
  model_byte *model;       /* of the first MODELLED bytes */
  uint64_t modelled;
  uint64_t uses[QUEUES]; /* the last committed value that uses it */
  bool open_use[QUEUES];
};

/* A copy that is not known to be over: what it reads may still change. */
typedef struct model_copy {
  int slot;
  uint64_t value;
  model_op op;
  bool spoilt;
} model_copy;

typedef struct model_node {
  enum node_kind kind;
  uint64_t bytes; /* 0: not known */
  bool output;
} model_node;

typedef struct model_graph {
  mst_graph *handle;
  int device;
  model_node *nodes;
  size_t node_count;
  size_t node_capacity;
  uint64_t *arguments; /* bytes of the inputs, then of the outputs */
  size_t argument_count;
  size_t argument_capacity;
  size_t input_count;
} model_graph;

typedef struct model_executable {
  mst_executable *handle;
  int device;
  uint64_t *arguments;
  size_t argument_count;
  size_t input_count;
} model_executable;

static struct {
  bool metal;
  bool closed; /* all devices */
  mst_device *devices[DEVICES];
  uint64_t max_buffer_bytes;
  enum { NO_WAKE, MAYBE_WAKE, WAKE } wakes[DEVICES];
  model_queue *queues[QUEUES]; /* those that live */
  model_queue *all_queues;
  model_buffer buffers[BUFFERS];
  model_graph graphs[GRAPHS];
  model_executable executables[EXECUTABLES];
  model_copy *copies;
  size_t copy_count;
  size_t copy_capacity;
  int64_t placed;       /* orders of failures: so many failures there are at most */
  int64_t carried_out;  /* and at least */
  int64_t own_failures; /* command buffers that failed by themselves */
  int64_t failures;     /* that failed at all */
  bool ordered;         /* the last order was not seen to be carried out */
  bool loss_possible;   /* one of them may have lost a device */
} model;

/* ------------------------------------------------------------------------------------------------ disagreement ---- */

static void print_state(void) {
  for (const model_queue *queue = model.all_queues; queue != NULL; queue = queue->next) {
    fprintf(stderr, "  queue %llu%s: committed %llu%s, floor %llu, reported %llu, forgiven %llu, at most %u%s\n",
            (unsigned long long)queue->id, queue->handle == NULL ? " (destroyed)" : "",
            (unsigned long long)queue->committed, queue->open ? " and one open" : "", (unsigned long long)queue->floor,
            (unsigned long long)queue->reported, (unsigned long long)queue->forgiven, queue->max_in_flight,
            queue->held ? ", held" : "");
  }
}

__attribute__((format(printf, 1, 2))) static void disagree(const char *format, ...) {
  fflush(stdout);
  fprintf(stderr, "model: ");
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, " (last error: %s)\n", mst_last_error());
  print_state();
  exit(1);
}

/* The model holds that `condition`; else what follows is said. */
#define HOLD(condition, ...) \
  do {                       \
    if (!(condition)) {      \
      disagree(__VA_ARGS__); \
    }                        \
  } while (0)

int32_t check_status(int32_t status) {
  CHECK(status <= MST_TIMEOUT && status >= MST_ERROR_INTERNAL);
  CHECK(status != MST_ERROR_INTERNAL);
  CHECK(status >= 0 || mst_last_error()[0] != '\0');
  return status;
}

/* A set of statuses. */
typedef unsigned statuses;

static statuses only(int32_t status) {
  return 1u << (status - MST_ERROR_INTERNAL);
}

/* What remains if no rule is broken. */
static statuses or_ok(statuses broken) {
  return broken != 0 ? broken : only(MST_OK);
}

static int32_t expect(statuses allowed, int32_t status, const char *call) {
  check_status(status);
  HOLD((allowed & only(status)) != 0, "%s returns %d, allowed is the set 0x%x (bit 11 is 0, MST_OK)", call, status,
       allowed);
  return status;
}

/* ------------------------------------------------------------------------------------------------------ tables ---- */

static void *grown(void *array, size_t count, size_t *capacity, size_t element) {
  if (count < *capacity) {
    return array;
  }
  *capacity = *capacity == 0 ? 16 : *capacity * 2;
  array = realloc(array, *capacity * element);
  CHECK(array != NULL);
  return array;
}

static void *allocated(size_t count, size_t element) {
  void *array = calloc(count, element);
  CHECK(array != NULL);
  return array;
}

static int device_index(const mst_device *device) {
  int index = 0;
  while (model.devices[index] != device) {
    index++;
    CHECK(index < DEVICES);
  }
  return index;
}

static model_queue *find_queue(const mst_queue *handle) {
  for (int i = 0; handle != NULL && i < QUEUES; i++) {
    if (model.queues[i] != NULL && model.queues[i]->handle == handle) {
      return model.queues[i];
    }
  }
  return NULL;
}

static model_buffer *find_buffer(const mst_buffer *handle) {
  for (int i = 0; handle != NULL && i < BUFFERS; i++) {
    if (model.buffers[i].handle == handle) {
      return &model.buffers[i];
    }
  }
  return NULL;
}

static model_graph *find_graph(const mst_graph *handle) {
  for (int i = 0; handle != NULL && i < GRAPHS; i++) {
    if (model.graphs[i].handle == handle) {
      return &model.graphs[i];
    }
  }
  return NULL;
}

static model_executable *find_executable(const mst_executable *handle) {
  for (int i = 0; handle != NULL && i < EXECUTABLES; i++) {
    if (model.executables[i].handle == handle) {
      return &model.executables[i];
    }
  }
  return NULL;
}

static bool is_host(const model_queue *queue) {
  return queue->max_in_flight == 0;
}

static model_value *value_of(const model_queue *queue, uint64_t value) {
  return &queue->values[value - 1];
}

uint64_t model_next_value(const mst_queue *handle) {
  const model_queue *queue = find_queue(handle);
  return queue != NULL ? queue->committed + 1 : 1;
}

uint64_t model_taken_id(const mst_device *device, uint64_t otherwise) {
  for (int i = 0; i < QUEUES; i++) {
    if (model.queues[i] != NULL && model.devices[model.queues[i]->device] == device) {
      return model.queues[i]->id;
    }
  }
  return otherwise;
}

/* ------------------------------------------------------------------------------------------------------ bounds ---- */

static bool wait_is_over(const model_wait *wait, const uint64_t completed[QUEUES]) {
  return wait->awaited->handle == NULL || completed[wait->awaited->slot] >= wait->value;
}

static bool next_may_complete(const model_queue *queue, bool certain, const uint64_t completed[QUEUES]) {
  uint64_t value = completed[queue->slot] + 1;
  if (value > queue->committed || is_host(queue) || (queue->held && (certain || value > queue->let_through))) {
    return false;
  }
  const model_value *next = value_of(queue, value);
  bool over = true;
  for (int i = 0; i < next->wait_count && over; i++) {
    over = wait_is_over(&next->waits[i], completed);
  }
  return over;
}

/* How far each queue may get without a further call; `certain`: how far it does get. */
static void get_bounds(bool certain, uint64_t completed[QUEUES]) {
  for (int i = 0; i < QUEUES; i++) {
    completed[i] = model.queues[i] != NULL ? model.queues[i]->floor : 0;
  }
  for (bool went_on = true; went_on;) {
    went_on = false;
    for (int i = 0; i < QUEUES; i++) {
      while (model.queues[i] != NULL && next_may_complete(model.queues[i], certain, completed)) {
        completed[i]++;
        went_on = true;
      }
    }
  }
}

static uint64_t ceiling(const model_queue *queue) {
  uint64_t ceilings[QUEUES];
  get_bounds(false, ceilings);
  return ceilings[queue->slot];
}

bool model_must_complete(const mst_queue *handle, uint64_t value) {
  const model_queue *queue = find_queue(handle);
  uint64_t certain[QUEUES];
  get_bounds(true, certain);
  return queue != NULL && certain[queue->slot] >= value;
}

/* Copies that are over read what they read. */
static void forget_copies(void) {
  size_t kept = 0;
  for (size_t i = 0; i < model.copy_count; i++) {
    const model_copy *copy = &model.copies[i];
    if (model.queues[copy->slot]->floor < copy->value) {
      model.copies[kept++] = *copy;
    }
  }
  model.copy_count = kept;
}

/* It was seen that `completed` is completed. */
static void learn(model_queue *queue, uint64_t completed) {
  if (completed <= queue->floor) {
    return;
  }
  queue->floor = completed;
  const clocks *before = &value_of(queue, completed)->clock;
  for (int i = 0; i < QUEUES; i++) {
    model_queue *other = model.queues[i];
    if (other != NULL && !is_host(other) && before->at[i] > other->floor) {
      other->floor = before->at[i];
    }
  }
  forget_copies();
}

/* Reads the completed value, which must be between the bounds. */
static uint64_t look_at_completed(model_queue *queue) {
  uint64_t completed = twin_queue_completed_value(queue->handle);
  HOLD(completed >= queue->floor, "value %llu of queue %llu is completed, which has been at %llu",
       (unsigned long long)completed, (unsigned long long)queue->id, (unsigned long long)queue->floor);
  uint64_t most = ceiling(queue);
  HOLD(completed <= most, "value %llu of queue %llu is completed, but only %llu can be", (unsigned long long)completed,
       (unsigned long long)queue->id, (unsigned long long)most);
  learn(queue, completed);
  return completed;
}

/* ---------------------------------------------------------------------------------------------------- failures ---- */

static void check_succeeded(const model_queue *queue, uint64_t value) {
  model_value *record = value_of(queue, value);
  HOLD(!record->failed && (record->status == UNKNOWN || record->status == MST_OK),
       "value %llu of queue %llu failed, but the failed value was seen beyond it", (unsigned long long)value,
       (unsigned long long)queue->id);
  record->succeeded = true;
}

/* Reads the failed value, and compares it with what was told of the command buffers. */
static void look_at_failed(model_queue *queue) {
  uint64_t completed = look_at_completed(queue);
  uint64_t failed = twin_queue_failed_value(queue->handle);
  for (uint64_t value = queue->forgiven + 1; value <= completed && (failed == 0 || value < failed); value++) {
    check_succeeded(queue, value);
  }
  if (failed == 0) {
    return;
  }
  HOLD(failed > queue->forgiven && failed <= queue->committed, "the failed value of queue %llu is %llu",
       (unsigned long long)queue->id, (unsigned long long)failed);
  model_value *record = value_of(queue, failed);
  HOLD(record->may_fail && !record->succeeded && record->status != MST_OK,
       "value %llu of queue %llu cannot have failed", (unsigned long long)failed, (unsigned long long)queue->id);
  record->failed = true;
}

/* The failure that a wait must meet, all of which was told by now; 0: none. */
static uint64_t failure_met(const model_wait *wait) {
  for (uint64_t value = wait->forgiven + 1; value <= wait->value; value++) {
    if (value_of(wait->awaited, value)->status != MST_OK) {
      return value;
    }
  }
  return 0;
}

static bool may_meet_failure(const model_wait *wait) {
  for (uint64_t value = wait->forgiven + 1; value <= wait->value; value++) {
    const model_value *record = value_of(wait->awaited, value);
    if (record->status == UNKNOWN ? record->may_fail : record->status != MST_OK) {
      return true;
    }
  }
  return false;
}

static void spoil_writes(model_buffer *buffer, int slot, uint64_t after) {
  for (uint64_t i = 0; i < buffer->modelled; i++) {
    if (buffer->model[i].writer[slot] > after) {
      buffer->model[i].byte[slot] = ANY;
    }
  }
}

/* All that is not known to be completed may fail from now on. */
static void doubt_what_runs(void) {
  for (int i = 0; i < QUEUES; i++) {
    model_queue *queue = model.queues[i];
    for (uint64_t value = queue != NULL ? queue->floor + 1 : 1; queue != NULL && value <= queue->committed; value++) {
      value_of(queue, value)->may_fail = true;
    }
    for (int j = 0; queue != NULL && j < BUFFERS; j++) {
      spoil_writes(&model.buffers[j], i, queue->floor);
    }
  }
}

/* Notes whether the ordered failure is still to come. */
static void look_at_order(void) {
  if (model.ordered && mst_test_ordered() == 0) {
    model.ordered = false;
    model.carried_out++;
  }
}

int32_t checked_fail_execution(uint32_t n, int32_t status) {
  look_at_order();
  int32_t result = expect(n == 0 && status != MST_OK ? only(MST_ERROR_INVALID_ARGUMENT) : only(MST_OK),
                          mst_test_fail("execute", n, status), "mst_test_fail");
  if (result == MST_OK) {
    model.ordered = status != MST_OK; /* the one before is taken back, unless it was carried out just now */
    model.placed += model.ordered;
    model.loss_possible = model.loss_possible || status == MST_ERROR_DEVICE_LOST;
    if (model.ordered) {
      doubt_what_runs();
    }
  }
  return result;
}

/* ---------------------------------------------------------------------------------------------------- contents ---- */

static void write_byte(model_byte *byte, const model_queue *queue, uint64_t value, const clocks *clock,
                       int16_t content) {
  byte->settled = NONE;
  for (int i = 0; i < QUEUES; i++) {
    if (i == queue->slot || byte->writer[i] <= clock->at[i]) {
      byte->writer[i] = 0;
    }
  }
  byte->byte[queue->slot] = content;
  byte->writer[queue->slot] = value;
}

/* What is read at `clock`. */
static int16_t read_byte(const model_byte *byte, const model_queue *queue, const clocks *clock) {
  int16_t content = byte->settled;
  for (int i = 0; i < QUEUES; i++) {
    if (byte->writer[i] != 0) {
      bool before = i == queue->slot || byte->writer[i] <= clock->at[i];
      content = content == NONE && before ? byte->byte[i] : ANY;
    }
  }
  return content;
}

static bool overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length) {
  return a < b + b_length && b < a + a_length;
}

/* What the copy has read is not known, and so what was copied on from there. */
static void spoil_copy(size_t index) {
  model_copy *copy = &model.copies[index];
  if (copy->spoilt) {
    return;
  }
  copy->spoilt = true;
  const model_op *op = &copy->op;
  for (uint64_t i = op->offset; i < op->offset + op->length && i < op->target->modelled; i++) {
    model_byte *byte = &op->target->model[i];
    if (byte->writer[copy->slot] == copy->value) {
      byte->byte[copy->slot] = ANY;
    }
  }
  for (size_t i = index + 1; i < model.copy_count; i++) {
    const model_op *next = &model.copies[i].op;
    if (next->source == op->target && overlap(next->source_offset, next->length, op->offset, op->length)) {
      spoil_copy(i);
    }
  }
}

/* A committed operation writes a range: a copy from there that is not ordered before it may read either. */
static void write_range(const model_queue *queue, uint64_t value, const clocks *clock, const model_op *op,
                        bool may_fail) {
  for (size_t i = 0; i < model.copy_count; i++) {
    const model_copy *copy = &model.copies[i];
    if (copy->slot != queue->slot && copy->value > clock->at[copy->slot] && copy->op.source == op->target &&
        overlap(copy->op.source_offset, copy->op.length, op->offset, op->length)) {
      spoil_copy(i);
    }
  }
  for (uint64_t i = 0; i < op->length && op->offset + i < op->target->modelled; i++) {
    int16_t content = ANY;
    if (op->kind == OP_FILL) {
      content = op->byte;
    } else if (op->kind == OP_COPY && op->source_offset + i < op->source->modelled) {
      content = read_byte(&op->source->model[op->source_offset + i], queue, clock);
    }
    write_byte(&op->target->model[op->offset + i], queue, value, clock, may_fail ? ANY : content);
  }
  if (op->kind == OP_COPY) {
    model.copies = grown(model.copies, model.copy_count, &model.copy_capacity, sizeof(model_copy));
    model.copies[model.copy_count++] = (model_copy){queue->slot, value, *op, false};
  }
}

/* Compares the contents of a buffer, if nothing can be at work on it. */
static void look_at_contents(const model_buffer *buffer) {
  for (int i = 0; i < QUEUES; i++) {
    if (buffer->open_use[i] || (model.queues[i] != NULL && buffer->uses[i] > model.queues[i]->floor)) {
      return;
    }
  }
  for (uint64_t i = 0; buffer->contents != NULL && i < buffer->modelled; i++) {
    const model_byte *byte = &buffer->model[i];
    int16_t found = buffer->contents[i];
    bool right = byte->settled == ANY || byte->settled == found;
    for (int j = 0; j < QUEUES; j++) {
      right = right || (byte->writer[j] != 0 && (byte->byte[j] == ANY || byte->byte[j] == found));
    }
    HOLD(right,
         "byte %llu of a buffer of %llu is %d; %d was settled, the queues wrote %d, %d, %d, %d at %llu, %llu, "
         "%llu, %llu",
         (unsigned long long)i, (unsigned long long)buffer->bytes, found, byte->settled, byte->byte[0], byte->byte[1],
         byte->byte[2], byte->byte[3], (unsigned long long)byte->writer[0], (unsigned long long)byte->writer[1],
         (unsigned long long)byte->writer[2], (unsigned long long)byte->writer[3]);
  }
}

/* ------------------------------------------------------------------------------------------------------ queues ---- */

/* Either kind. */
static int32_t create_queue_of(bool host, mst_device *device, uint64_t id, uint32_t max_in_flight,
                               mst_queue **out_queue) {
  bool bounded = host || (max_in_flight >= 1 && max_in_flight <= MST_MAX_IN_FLIGHT);
  statuses broken = bounded ? 0 : only(MST_ERROR_INVALID_ARGUMENT);
  int slot = QUEUES;
  int of_device = device_index(device);
  for (int i = QUEUES - 1; i >= 0; i--) {
    const model_queue *other = model.queues[i];
    slot = other == NULL ? i : slot;
    if (other != NULL && other->device == of_device && other->id == id) {
      broken |= only(MST_ERROR_INVALID_ARGUMENT);
    }
  }
  CHECK(slot < QUEUES);
  mst_queue *const untouched = (mst_queue *)&model;
  mst_queue *created = untouched;
  int32_t status =
      host ? mst_queue_create_host(device, id, NULL, &created) : twin_queue_create(device, id, max_in_flight, &created);
  expect(or_ok(broken), status, "mst_queue_create");
  HOLD(status == MST_OK ? created != NULL && created != untouched : created == untouched,
       "mst_queue_create writes its out-parameter %p with status %d", (void *)created, status);
  if (status == MST_OK) {
    model_queue *queue = allocated(1, sizeof(model_queue));
    queue->handle = created;
    queue->slot = slot;
    queue->device = of_device;
    queue->id = id;
    queue->max_in_flight = max_in_flight;
    queue->next = model.all_queues;
    model.all_queues = queue;
    model.queues[slot] = queue;
    *out_queue = created;
  }
  return status;
}

int32_t checked_queue_create(mst_device *device, uint64_t id, uint32_t max_in_flight, mst_queue **out_queue) {
  return create_queue_of(false, device, id, max_in_flight, out_queue);
}

int32_t checked_queue_create_host(mst_device *device, uint64_t id, mst_queue **out_queue) {
  return create_queue_of(true, device, id, 0, out_queue);
}

/* Makes records of a host queue up to a value. */
static void promise(model_queue *queue, uint64_t value) {
  while (queue->committed < value) {
    queue->values = grown(queue->values, queue->committed, &queue->value_capacity, sizeof(model_value));
    *value_of(queue, ++queue->committed) = (model_value){.status = UNKNOWN, .may_fail = true};
  }
}

int32_t checked_queue_signal(mst_queue *handle, uint64_t value, const char *failure) {
  model_queue *queue = find_queue(handle);
  statuses broken = queue == NULL                              ? only(MST_ERROR_INVALID_ARGUMENT)
                    : !is_host(queue) || value <= queue->floor ? only(MST_ERROR_INVALID_STATE)
                                                               : 0;
  if (broken == 0) { /* before the call: what waits may be completed at once */
    promise(queue, value);
    for (uint64_t each = queue->floor + 1; each <= value; each++) {
      value_of(queue, each)->status = failure == NULL ? MST_OK : MST_ERROR_EXECUTION;
    }
    value_of(queue, value)->signal = true;
    learn(queue, value);
  }
  return expect(or_ok(broken), twin_queue_signal(handle, value, failure), "mst_queue_signal");
}

/* Keeps what was promised, so that nothing waits for the host. */
static void keep_promises(void) {
  for (int i = 0; i < QUEUES && !model.closed; i++) {
    model_queue *queue = model.queues[i];
    if (queue != NULL && is_host(queue) && queue->floor < queue->committed) {
      checked_queue_signal(queue->handle, queue->committed, NULL);
    }
  }
}

/* The devices are closed: what waited for the host went on with a failure. */
static void break_promises(void) {
  for (int i = 0; i < QUEUES; i++) {
    model_queue *queue = model.queues[i];
    while (queue != NULL && is_host(queue) && queue->floor < queue->committed) {
      value_of(queue, ++queue->floor)->status = MST_ERROR_EXECUTION;
    }
  }
}

static void drop_open(model_queue *queue) {
  queue->open = false;
  queue->op_count = 0;
  for (int i = 0; i < BUFFERS; i++) {
    model.buffers[i].open_use[queue->slot] = false;
  }
}

/* What the queue has written comes before all that is committed from now on. */
static void settle(const model_queue *queue) {
  int slot = queue->slot;
  for (int i = 0; i < BUFFERS; i++) {
    model_buffer *buffer = &model.buffers[i];
    buffer->uses[slot] = 0;
    for (uint64_t j = 0; j < buffer->modelled; j++) {
      model_byte *byte = &buffer->model[j];
      if (byte->writer[slot] != 0) {
        byte->settled = byte->settled == NONE || byte->settled == byte->byte[slot] ? byte->byte[slot] : ANY;
        byte->writer[slot] = 0;
      }
    }
  }
  for (int i = 0; i < QUEUES; i++) {
    model_queue *other = model.queues[i];
    if (other != NULL) {
      other->clock.at[slot] = 0;
      for (uint64_t value = 1; value <= other->committed; value++) {
        value_of(other, value)->clock.at[slot] = 0;
      }
    }
  }
}

int32_t checked_queue_destroy(mst_queue *handle) {
  for (int i = 0; i < QUEUES; i++) {
    if (model.queues[i] != NULL) {
      checked_release(model.queues[i]->handle);
    }
  }
  keep_promises();
  model_queue *queue = find_queue(handle);
  int32_t status = expect(handle == NULL || queue != NULL ? only(MST_OK) : only(MST_ERROR_INVALID_ARGUMENT),
                          mst_queue_destroy(handle), "mst_queue_destroy");
  if (queue != NULL) {
    drop_open(queue);
    if (queue->committed > 0) {
      learn(queue, queue->committed);
    }
    settle(queue);
    model.queues[queue->slot] = NULL;
    queue->handle = NULL;
  }
  return status;
}

int32_t checked_queue_wait(mst_queue *handle, uint64_t value, int64_t timeout_ns) {
  model_queue *queue = find_queue(handle);
  statuses allowed = only(MST_ERROR_INVALID_ARGUMENT);
  if (queue != NULL) {
    uint64_t before = look_at_completed(queue);
    CHECK(timeout_ns >= 0 || (value > queue->committed && !is_host(queue)) ||
          model_must_complete(handle, value)); /* or it never ends */
    allowed = is_host(queue)                      ? only(before >= value ? MST_OK : MST_TIMEOUT)
              : value > queue->committed          ? only(MST_ERROR_INVALID_STATE)
              : before >= value || timeout_ns < 0 ? only(MST_OK)
                                                  : only(MST_OK) | only(MST_TIMEOUT);
  }
  int32_t status = expect(allowed, twin_queue_wait(handle, value, timeout_ns), "mst_queue_wait");
  if (status == MST_OK) {
    uint64_t after = look_at_completed(queue);
    HOLD(after >= value, "mst_queue_wait for value %llu of queue %llu returns at %llu", (unsigned long long)value,
         (unsigned long long)queue->id, (unsigned long long)after);
  }
  return status;
}

/* What waits for values to come meets no failure before the reset. */
static void forgive(model_queue *host, model_wait *wait) {
  if (wait->awaited == host && wait->value > host->floor) {
    wait->forgiven = host->floor;
  }
}

static int32_t reset_host(model_queue *host) {
  look_at_failed(host);
  int32_t status = expect(only(MST_OK), mst_queue_reset(host->handle), "mst_queue_reset");
  host->forgiven = host->floor;
  for (model_queue *queue = model.all_queues; queue != NULL; queue = queue->next) {
    for (size_t i = 0; i < queue->op_count; i++) {
      if (queue->ops[i].kind == OP_WAIT) {
        forgive(host, &queue->ops[i].wait);
      }
    }
    for (uint64_t value = queue->reported + 1; value <= queue->committed; value++) {
      for (int i = 0; i < value_of(queue, value)->wait_count; i++) {
        forgive(host, &value_of(queue, value)->waits[i]);
      }
    }
  }
  look_at_failed(host);
  return status;
}

int32_t checked_queue_reset(mst_queue *handle) {
  model_queue *queue = find_queue(handle);
  if (queue == NULL) {
    return expect(only(MST_ERROR_INVALID_ARGUMENT), mst_queue_reset(handle), "mst_queue_reset");
  }
  if (is_host(queue)) {
    return reset_host(queue);
  }
  look_at_failed(queue);
  bool idle_before = queue->floor == queue->committed;
  int32_t status = twin_queue_reset(handle);
  bool idle_after = look_at_completed(queue) == queue->committed;
  statuses allowed = (queue->open || !idle_before ? only(MST_ERROR_INVALID_STATE) : 0) |
                     (!queue->open && idle_after ? only(MST_OK) : 0);
  expect(allowed, status, "mst_queue_reset");
  if (status == MST_OK) {
    queue->forgiven = queue->committed;
    look_at_failed(queue);
  }
  return status;
}

/* ---------------------------------------------------------------------------------------------------- commands ---- */

int32_t checked_commands_begin(mst_queue *handle, uint64_t value) {
  model_queue *queue = find_queue(handle);
  if (queue == NULL) {
    return expect(only(MST_ERROR_INVALID_ARGUMENT), mst_commands_begin(handle, value), "mst_commands_begin");
  }
  uint64_t before = look_at_completed(queue);
  if (is_host(queue)) {
    return expect(only(MST_ERROR_INVALID_STATE), mst_commands_begin(handle, value), "mst_commands_begin");
  }
  int32_t status = twin_commands_begin(handle, value);
  uint64_t after = look_at_completed(queue);
  statuses allowed = queue->open || value != queue->committed + 1 ? only(MST_ERROR_INVALID_STATE) : 0;
  if (queue->committed - before >= queue->max_in_flight) {
    allowed |= only(MST_ERROR_BUSY);
  }
  if ((allowed & only(MST_ERROR_INVALID_STATE)) == 0 && queue->committed - after < queue->max_in_flight) {
    allowed |= only(MST_OK);
  }
  expect(allowed, status, "mst_commands_begin");
  queue->open = queue->open || status == MST_OK;
  return status;
}

/* The rules that all calls on an open command buffer have in common. */
static statuses broken_by_naming(const model_queue *queue, uint64_t value) {
  return queue == NULL                                   ? only(MST_ERROR_INVALID_ARGUMENT)
         : !queue->open || value != queue->committed + 1 ? only(MST_ERROR_INVALID_STATE)
                                                         : 0;
}

static uint64_t at_least(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

/* Adds an operation's waits to the record, and to the clock what they make sure of. */
static void commit_wait(model_value *record, clocks *clock, const model_wait *wait) {
  record->waits = realloc(record->waits, (size_t)(record->wait_count + 1) * sizeof(model_wait));
  CHECK(record->waits != NULL);
  record->waits[record->wait_count++] = *wait;
  if (wait->awaited->handle != NULL && wait->value > 0) {
    const clocks *awaited = &value_of(wait->awaited, wait->value)->clock;
    for (int i = 0; i < QUEUES; i++) {
      clock->at[i] = at_least(clock->at[i], awaited->at[i]);
    }
    clock->at[wait->awaited->slot] = at_least(clock->at[wait->awaited->slot], wait->value);
  }
}

static void commit_open(model_queue *queue) {
  uint64_t value = queue->committed + 1;
  queue->values = grown(queue->values, queue->committed, &queue->value_capacity, sizeof(model_value));
  model_value *record = value_of(queue, value);
  *record = (model_value){.status = UNKNOWN};
  look_at_order();
  record->may_fail = model.ordered || model.loss_possible;
  for (size_t i = 0; i < queue->op_count; i++) {
    record->may_fail = record->may_fail || (queue->ops[i].kind == OP_WAIT && may_meet_failure(&queue->ops[i].wait));
  }
  clocks *clock = &queue->clock;
  for (int i = 0; i < QUEUES; i++) {
    clock->at[i] = at_least(clock->at[i], model.queues[i] != NULL ? model.queues[i]->floor : 0);
  }
  for (size_t i = 0; i < queue->op_count; i++) {
    const model_op *op = &queue->ops[i];
    if (op->kind == OP_WAIT) {
      commit_wait(record, clock, &op->wait);
    } else {
      write_range(queue, value, clock, op, record->may_fail);
    }
  }
  record->clock = *clock;
  for (int i = 0; i < BUFFERS; i++) {
    model_buffer *buffer = &model.buffers[i];
    buffer->uses[queue->slot] = buffer->open_use[queue->slot] ? value : buffer->uses[queue->slot];
  }
  drop_open(queue);
  queue->committed = value;
}

int32_t checked_commands_commit(mst_queue *handle, uint64_t value, uint32_t flags) {
  model_queue *queue = find_queue(handle);
  statuses broken = broken_by_naming(queue, value);
  if (queue != NULL && flags > (MST_COMMIT_WAITING | MST_COMMIT_CONTINUE)) {
    broken |= only(MST_ERROR_INVALID_ARGUMENT);
  }
  if (broken == 0) {
    commit_open(queue); /* before the call: what is committed may be completed at once */
  }
  return expect(or_ok(broken), twin_commands_commit(handle, value, flags), "mst_commands_commit");
}

int32_t checked_commands_discard(mst_queue *handle, uint64_t value) {
  model_queue *queue = find_queue(handle);
  int32_t status =
      expect(or_ok(broken_by_naming(queue, value)), twin_commands_discard(handle, value), "mst_commands_discard");
  if (status == MST_OK) {
    drop_open(queue);
  }
  return status;
}

/* ------------------------------------------------------------------------------------------------------ encode ---- */

static void add_op(model_queue *queue, const model_op *op) {
  queue->ops = grown(queue->ops, queue->op_count, &queue->op_capacity, sizeof(model_op));
  queue->ops[queue->op_count++] = *op;
}

/* The rules for a range of a buffer; the buffer, if there is one, is used if all is well. */
static statuses broken_by_range(const model_queue *queue, mst_buffer *handle, uint64_t offset, uint64_t length) {
  const model_buffer *buffer = find_buffer(handle);
  bool right = buffer != NULL && queue != NULL && buffer->device == queue->device && offset <= buffer->bytes &&
               length <= buffer->bytes - offset;
  return right ? 0 : only(MST_ERROR_INVALID_ARGUMENT);
}

static model_buffer *use(const model_queue *queue, mst_buffer *handle) {
  model_buffer *buffer = find_buffer(handle);
  buffer->open_use[queue->slot] = true;
  return buffer;
}

int32_t checked_encode_wait(mst_queue *handle, uint64_t value, mst_queue *awaited_handle, uint64_t awaited_value) {
  model_queue *queue = find_queue(handle);
  model_queue *awaited = find_queue(awaited_handle);
  statuses broken = broken_by_naming(queue, value);
  if (awaited == NULL || queue == NULL || awaited->device != queue->device) {
    broken |= only(MST_ERROR_INVALID_ARGUMENT);
  } else if (is_host(awaited)) {
    awaited_value = awaited->floor + awaited_value % 4; /* a little ahead, mostly */
    promise(awaited, awaited_value);
  } else if (awaited_value > awaited->committed) {
    broken |= only(MST_ERROR_INVALID_STATE);
  }
  int32_t status =
      expect(or_ok(broken), twin_encode_wait(handle, value, awaited_handle, awaited_value), "mst_encode_wait");
  if (status == MST_OK && awaited != queue) {
    add_op(queue, &(model_op){.kind = OP_WAIT, .wait = {awaited, awaited_value, awaited->forgiven}});
  }
  return status;
}

int32_t checked_encode_fill(mst_queue *handle, uint64_t value, mst_buffer *buffer, uint64_t offset, uint64_t length,
                            uint8_t byte) {
  model_queue *queue = find_queue(handle);
  statuses broken = broken_by_naming(queue, value) | broken_by_range(queue, buffer, offset, length);
  int32_t status =
      expect(or_ok(broken), twin_encode_fill(handle, value, buffer, offset, length, byte), "mst_encode_fill");
  if (status == MST_OK) {
    add_op(queue, &(model_op){
                      .kind = OP_FILL, .target = use(queue, buffer), .offset = offset, .length = length, .byte = byte});
  }
  return status;
}

int32_t checked_encode_copy(mst_queue *handle, uint64_t value, mst_buffer *source, uint64_t source_offset,
                            mst_buffer *target, uint64_t target_offset, uint64_t length) {
  model_queue *queue = find_queue(handle);
  statuses broken = broken_by_naming(queue, value) | broken_by_range(queue, source, source_offset, length) |
                    broken_by_range(queue, target, target_offset, length);
  if (broken == 0 && source == target && overlap(source_offset, length, target_offset, length)) {
    broken = only(MST_ERROR_INVALID_ARGUMENT);
  }
  int32_t status =
      expect(or_ok(broken), twin_encode_copy(handle, value, source, source_offset, target, target_offset, length),
             "mst_encode_copy");
  if (status == MST_OK) {
    add_op(queue, &(model_op){.kind = OP_COPY,
                              .target = use(queue, target),
                              .offset = target_offset,
                              .length = length,
                              .source = use(queue, source),
                              .source_offset = source_offset});
  }
  return status;
}

int32_t checked_encode_executable(mst_queue *handle, uint64_t value, mst_executable *executable_handle,
                                  mst_buffer *const *buffers, int32_t count, uint32_t flags) {
  model_queue *queue = find_queue(handle);
  const model_executable *executable = find_executable(executable_handle);
  statuses broken = broken_by_naming(queue, value);
  bool known = true;
  if (queue == NULL || executable == NULL || executable->device != queue->device || count < 0 ||
      (size_t)count != executable->argument_count || flags > MST_ENCODE_SOLE) {
    broken |= only(MST_ERROR_INVALID_ARGUMENT);
  } else {
    for (size_t i = 0; i < executable->argument_count; i++) {
      known = known && executable->arguments[i] > 0;
      broken |= broken_by_range(queue, buffers[i], 0, executable->arguments[i]);
      for (size_t j = 0; j < i && i >= executable->input_count; j++) {
        broken |= buffers[i] == buffers[j] ? only(MST_ERROR_INVALID_ARGUMENT) : 0;
      }
    }
  }
  int32_t status =
      expect(or_ok(broken) | (known ? 0 : only(MST_ERROR_INVALID_ARGUMENT)),
             mst_encode_executable(handle, value, executable_handle, buffers, count, flags), "mst_encode_executable");
  for (size_t i = 0; status == MST_OK && i < executable->argument_count; i++) {
    model_buffer *buffer = use(queue, buffers[i]);
    if (i >= executable->input_count) {
      uint64_t bytes = known ? executable->arguments[i] : buffer->bytes;
      add_op(queue, &(model_op){.kind = OP_COMPUTE, .target = buffer, .length = bytes});
    }
  }
  return status;
}

int32_t checked_encode_layer_norm(mst_queue *handle, uint64_t value, mst_buffer *x, mst_buffer *gamma, mst_buffer *beta,
                                  mst_buffer *y, uint64_t rows, uint64_t columns, float eps) {
  model_queue *queue = find_queue(handle);
  statuses broken = broken_by_naming(queue, value);
  if (rows < 1 || rows > UINT32_MAX || columns < 1 || columns > UINT32_MAX || !isfinite(eps) || eps < 0 ||
      rows > UINT64_MAX / (columns * sizeof(float)) || y == x || y == gamma || y == beta) {
    broken |= only(MST_ERROR_INVALID_ARGUMENT);
  } else {
    uint64_t row = columns * sizeof(float);
    broken |= broken_by_range(queue, x, 0, rows * row) | broken_by_range(queue, gamma, 0, row) |
              broken_by_range(queue, beta, 0, row) | broken_by_range(queue, y, 0, rows * row);
  }
  int32_t status = expect(or_ok(broken), mst_encode_layer_norm(handle, value, x, gamma, beta, y, rows, columns, eps),
                          "mst_encode_layer_norm");
  if (status == MST_OK) {
    use(queue, x);
    use(queue, gamma);
    use(queue, beta);
    add_op(queue, &(model_op){.kind = OP_COMPUTE, .target = use(queue, y), .length = rows * columns * sizeof(float)});
  }
  return status;
}

/* ----------------------------------------------------------------------------------------------------- buffers ---- */

static mst_device_memory_facts memory_of(int device) {
  mst_device_memory_facts facts;
  OK(mst_device_memory(model.devices[device], &facts));
  return facts;
}

static uint64_t bytes_of(int device, uint64_t *out_count) {
  uint64_t bytes = 0;
  *out_count = 0;
  for (int i = 0; i < BUFFERS; i++) {
    if (model.buffers[i].handle != NULL && model.buffers[i].device == device) {
      bytes += model.buffers[i].bytes;
      (*out_count)++;
    }
  }
  return bytes;
}

static void note_buffer(mst_buffer *handle, int device, uint64_t bytes, void *contents) {
  model_buffer *buffer = model.buffers;
  while (buffer->handle != NULL) {
    buffer++;
    CHECK(buffer < model.buffers + BUFFERS);
  }
  *buffer = (model_buffer){.handle = handle, .device = device, .bytes = bytes, .contents = contents};
  buffer->modelled = bytes < MODELLED ? bytes : MODELLED;
  buffer->model = allocated(buffer->modelled, sizeof(model_byte));
  if (contents != NULL) {
    memset(contents, 1, buffer->modelled);
  }
  for (uint64_t i = 0; i < buffer->modelled; i++) {
    buffer->model[i].settled = contents != NULL ? 1 : ANY;
  }
}

int32_t checked_buffer_create(mst_device *device, uint64_t bytes, int32_t storage, mst_buffer **out_buffer) {
  int of_device = device_index(device);
  mst_device_memory_facts facts = memory_of(of_device);
  statuses allowed = 0;
  if (bytes == 0 || bytes > model.max_buffer_bytes || storage < 0 || storage > MST_STORAGE_PRIVATE) {
    allowed |= only(MST_ERROR_INVALID_ARGUMENT);
  }
  uint64_t count;
  uint64_t held = bytes_of(of_device, &count);
  if (bytes > facts.limit_bytes || facts.allocated_bytes > facts.limit_bytes - bytes) {
    allowed |= only(MST_ERROR_OUT_OF_MEMORY);
  }
  if ((allowed & only(MST_ERROR_INVALID_ARGUMENT)) == 0 && bytes <= facts.limit_bytes &&
      held <= facts.limit_bytes - bytes) {
    allowed |= only(MST_OK); /* Metal: the driver's figure may have gone down since */
  }
  mst_buffer *const untouched = (mst_buffer *)&model;
  mst_buffer *created = untouched;
  void *contents = &model;
  int32_t status =
      expect(allowed, twin_buffer_create(device, bytes, storage, &created, &contents), "mst_buffer_create");
  if (status != MST_OK) {
    HOLD(created == untouched && contents == &model, "mst_buffer_create fails and writes an out-parameter");
    return status;
  }
  HOLD(created != NULL && created != untouched, "mst_buffer_create gives no buffer");
  HOLD((contents != NULL) == (storage == MST_STORAGE_SHARED) && contents != &model && (uintptr_t)contents % 64 == 0,
       "a buffer of storage %d has its contents at %p", storage, contents);
  note_buffer(created, of_device, bytes, contents);
  *out_buffer = created;
  return status;
}

int32_t checked_buffer_destroy(mst_buffer *handle) {
  model_buffer *buffer = find_buffer(handle);
  if (buffer == NULL) {
    return expect(handle == NULL ? only(MST_OK) : only(MST_ERROR_INVALID_ARGUMENT), mst_buffer_destroy(handle),
                  "mst_buffer_destroy");
  }
  bool in_use = false; /* for certain, until after the call */
  bool may_be_used = false;
  for (int i = 0; i < QUEUES; i++) {
    model_queue *queue = model.queues[i];
    if (queue != NULL && buffer->uses[i] > 0) {
      may_be_used = may_be_used || look_at_completed(queue) < buffer->uses[i];
      in_use = in_use || ceiling(queue) < buffer->uses[i];
    }
    in_use = in_use || buffer->open_use[i];
  }
  if (!in_use && !may_be_used) {
    look_at_contents(buffer);
  }
  /* A destroy may succeed a moment before the value can be seen. */
  statuses allowed = (in_use || may_be_used ? only(MST_ERROR_INVALID_STATE) : 0) | (in_use ? 0 : only(MST_OK));
  int32_t status = expect(allowed, twin_buffer_destroy(handle), "mst_buffer_destroy");
  if (status == MST_OK) {
    size_t kept = 0;
    for (size_t i = 0; i < model.copy_count; i++) {
      const model_op *op = &model.copies[i].op;
      if (op->source != buffer && op->target != buffer) {
        model.copies[kept++] = model.copies[i];
      }
    }
    model.copy_count = kept;
    free(buffer->model);
    *buffer = (model_buffer){0};
  }
  return status;
}

/* ------------------------------------------------------------------------------------------------------ graphs ---- */

int32_t checked_graph_create(mst_device *device, mst_graph **out_graph) {
  OK(mst_graph_create(device, out_graph));
  model_graph *graph = model.graphs;
  while (graph->handle != NULL) {
    graph++;
    CHECK(graph < model.graphs + GRAPHS);
  }
  graph->handle = *out_graph;
  graph->device = device_index(device);
  return MST_OK;
}

int32_t checked_graph_destroy(mst_graph *handle) {
  OK(mst_graph_destroy(handle));
  model_graph *graph = find_graph(handle);
  if (graph != NULL) {
    free(graph->nodes);
    free(graph->arguments);
    *graph = (model_graph){0};
  }
  return MST_OK;
}

static void add_argument(model_graph *graph, size_t at, uint64_t bytes) {
  graph->arguments = grown(graph->arguments, graph->argument_count, &graph->argument_capacity, sizeof(uint64_t));
  memmove(graph->arguments + at + 1, graph->arguments + at, (graph->argument_count - at) * sizeof(uint64_t));
  graph->arguments[at] = bytes;
  graph->argument_count++;
}

void checked_node(mst_graph *handle, int32_t status, int32_t node, enum node_kind kind, uint64_t bytes) {
  model_graph *graph = find_graph(handle);
  expect(graph == NULL ? only(MST_ERROR_INVALID_ARGUMENT) : only(MST_OK) | only(MST_ERROR_INVALID_ARGUMENT), status,
         "a call that adds a node");
  if (status != MST_OK) {
    return;
  }
  HOLD(node >= 0 && (size_t)node == graph->node_count, "node %zu is given the id %d", graph->node_count, node);
  graph->nodes = grown(graph->nodes, graph->node_count, &graph->node_capacity, sizeof(model_node));
  graph->nodes[graph->node_count++] = (model_node){kind, bytes, false};
  if (kind == NODE_INPUT) {
    add_argument(graph, graph->input_count++, bytes);
  }
}

int32_t checked_graph_output(mst_graph *handle, int32_t node) {
  model_graph *graph = find_graph(handle);
  bool right = graph != NULL && node >= 0 && (size_t)node < graph->node_count &&
               graph->nodes[node].kind == NODE_COMPUTED && !graph->nodes[node].output;
  int32_t status = expect(right ? only(MST_OK) : only(MST_ERROR_INVALID_ARGUMENT), mst_graph_output(handle, node),
                          "mst_graph_output");
  if (status == MST_OK) {
    graph->nodes[node].output = true;
    add_argument(graph, graph->argument_count, graph->nodes[node].bytes);
  }
  return status;
}

int32_t checked_graph_compile(mst_graph *handle, mst_executable **out_executable) {
  const model_graph *graph = find_graph(handle);
  bool right = graph != NULL && graph->argument_count > graph->input_count;
  mst_executable *const untouched = (mst_executable *)&model;
  mst_executable *compiled = untouched;
  /* A graph may also be too much for a machine. */
  int32_t status = expect(
      right ? only(MST_OK) | only(MST_ERROR_OUT_OF_MEMORY) | only(MST_ERROR_COMPILE) : only(MST_ERROR_INVALID_ARGUMENT),
      mst_graph_compile(handle, &compiled), "mst_graph_compile");
  HOLD((status == MST_OK) == (compiled != untouched) && compiled != NULL, "mst_graph_compile gives %p with status %d",
       (void *)compiled, status);
  if (status == MST_OK) {
    model_executable *executable = model.executables;
    while (executable->handle != NULL) {
      executable++;
      CHECK(executable < model.executables + EXECUTABLES);
    }
    *executable = (model_executable){compiled, graph->device, allocated(graph->argument_count, sizeof(uint64_t)),
                                     graph->argument_count, graph->input_count};
    memcpy(executable->arguments, graph->arguments, graph->argument_count * sizeof(uint64_t));
    *out_executable = compiled;
  }
  return status;
}

int32_t checked_executable_destroy(mst_executable *handle) {
  OK(mst_executable_destroy(handle));
  model_executable *executable = find_executable(handle);
  if (executable != NULL) {
    free(executable->arguments);
    *executable = (model_executable){0};
  }
  return MST_OK;
}

/* ------------------------------------------------------------------------------------------------- completions ---- */

/* The failure that the command buffer must have met at a wait: the first in the order of encoding. NULL: none. */
static const model_wait *wait_that_fails(const model_value *record, uint64_t *out_failure) {
  for (int i = 0; i < record->wait_count; i++) {
    *out_failure = failure_met(&record->waits[i]);
    if (*out_failure != 0) {
      return &record->waits[i];
    }
  }
  return NULL;
}

static void check_cause(const mst_completion *completion, const model_wait *wait, uint64_t failure) {
  uint64_t queue_id = wait->awaited->id;
  const model_value *failed = value_of(wait->awaited, failure);
  if (failed->status == MST_ERROR_DEPENDENCY) {
    queue_id = failed->cause_queue_id;
    failure = failed->cause_value;
  }
  HOLD(completion->cause_queue_id == queue_id && completion->cause_value == failure,
       "value %llu of queue %llu blames value %llu of queue %llu, but %llu of %llu failed first",
       (unsigned long long)completion->value, (unsigned long long)completion->queue_id,
       (unsigned long long)completion->cause_value, (unsigned long long)completion->cause_queue_id,
       (unsigned long long)failure, (unsigned long long)queue_id);
}

static void check_form(const mst_completion *completion) {
  bool ok = completion->status == MST_OK;
  HOLD(ok == (memchr(completion->message, '\0', sizeof(completion->message)) == completion->message),
       "a completion of status %d has the message \"%.200s\"", completion->status, completion->message);
  HOLD(completion->reserved == 0, "a completion has %d in `reserved`", completion->reserved);
  HOLD(completion->gpu_start_ns <= completion->gpu_end_ns &&
           (completion->gpu_start_ns == 0) == (completion->gpu_end_ns == 0) && (!ok || completion->gpu_start_ns != 0),
       "a command buffer of status %d ran from %llu to %llu", completion->status,
       (unsigned long long)completion->gpu_start_ns, (unsigned long long)completion->gpu_end_ns);
  HOLD(completion->status == MST_ERROR_DEPENDENCY || (completion->cause_queue_id == 0 && completion->cause_value == 0),
       "a command buffer of status %d blames another", completion->status);
}

/* The completion of a signal. */
static void take_signal(model_queue *queue, const mst_completion *completion) {
  uint64_t next = queue->reported + 1;
  while (next <= queue->floor && !value_of(queue, next)->signal) {
    next++;
  }
  HOLD(completion->value == next && next <= queue->floor,
       "there is a completion of value %llu of host queue %llu after that of %llu",
       (unsigned long long)completion->value, (unsigned long long)queue->id, (unsigned long long)queue->reported);
  HOLD(completion->status == value_of(queue, next)->status, "value %llu of host queue %llu is completed with status %d",
       (unsigned long long)next, (unsigned long long)queue->id, completion->status);
  HOLD(completion->gpu_start_ns == 0 && completion->gpu_end_ns == 0 && completion->cause_value == 0 &&
           completion->cause_queue_id == 0 && (completion->status == MST_OK) == (completion->message[0] == '\0'),
       "the completion of a signal tells more than there is");
  queue->reported = next;
}

static void take_completion(int device, const mst_completion *completion) {
  model_queue *queue = model.all_queues;
  while (queue != NULL && (queue->device != device || queue->id != completion->queue_id)) {
    queue = queue->next;
  }
  HOLD(queue != NULL, "there is a completion of queue %llu, which never was", (unsigned long long)completion->queue_id);
  if (is_host(queue)) {
    take_signal(queue, completion);
    return;
  }
  HOLD(completion->value == queue->reported + 1 && completion->value <= queue->committed,
       "there is a completion of value %llu of queue %llu after that of %llu", (unsigned long long)completion->value,
       (unsigned long long)queue->id, (unsigned long long)queue->reported);
  if (queue->handle != NULL) {
    uint64_t most = ceiling(queue);
    HOLD(completion->value <= most, "there is a completion of value %llu of queue %llu, but only %llu can be completed",
         (unsigned long long)completion->value, (unsigned long long)queue->id, (unsigned long long)most);
  }
  check_form(completion);

  model_value *record = value_of(queue, completion->value);
  for (int i = 0; i < record->wait_count; i++) {
    const model_wait *wait = &record->waits[i];
    HOLD(wait->awaited->reported >= wait->value,
         "value %llu of queue %llu is reported before value %llu of queue %llu, for which it waited",
         (unsigned long long)completion->value, (unsigned long long)queue->id, (unsigned long long)wait->value,
         (unsigned long long)wait->awaited->id);
  }
  uint64_t failure = 0;
  const model_wait *failing = wait_that_fails(record, &failure);
  statuses allowed = failing != NULL ? only(MST_ERROR_DEPENDENCY) : only(MST_OK);
  if (record->may_fail && (model.own_failures < model.placed || (model.loss_possible && !model.metal))) {
    allowed |= only(MST_ERROR_EXECUTION) | (model.loss_possible ? only(MST_ERROR_DEVICE_LOST) : 0);
  }
  if (record->succeeded) {
    allowed &= only(MST_OK);
  } else if (record->failed) {
    allowed &= ~only(MST_OK);
  }
  HOLD(completion->status <= MST_OK && completion->status > MST_ERROR_INTERNAL &&
           (allowed & only(completion->status)) != 0,
       "value %llu of queue %llu is completed with status %d, allowed is the set 0x%x (bit 11 is 0, MST_OK)",
       (unsigned long long)completion->value, (unsigned long long)queue->id, completion->status, allowed);
  if (completion->status == MST_ERROR_DEPENDENCY) {
    check_cause(completion, failing, failure);
  }
  model.failures += completion->status != MST_OK;
  model.own_failures += completion->status != MST_OK && completion->status != MST_ERROR_DEPENDENCY;
  record->status = completion->status;
  record->cause_queue_id = completion->cause_queue_id;
  record->cause_value = completion->cause_value;
  queue->reported = completion->value;
  if (queue->handle != NULL) {
    learn(queue, completion->value);
  }
}

/* Completions that must be there by now. */
static uint64_t known_completions(int device) {
  uint64_t count = 0;
  for (const model_queue *queue = model.all_queues; queue != NULL; queue = queue->next) {
    for (uint64_t value = queue->reported + 1; queue->device == device && value <= queue->floor; value++) {
      count += !is_host(queue) || value_of(queue, value)->signal;
    }
  }
  return count;
}

static bool completion_must_come(int device) {
  bool comes = known_completions(device) > 0;
  for (int i = 0; i < QUEUES && !comes; i++) {
    const model_queue *queue = model.queues[i];
    comes = queue != NULL && queue->device == device && model_must_complete(queue->handle, queue->reported + 1);
  }
  return comes;
}

int32_t checked_next_completions(mst_device *device, int32_t capacity, bool waits) {
  enum { MOST = 8 };
  CHECK(capacity <= MOST);
  int at = device_index(device);
  for (int i = 0; i < QUEUES; i++) {
    if (model.queues[i] != NULL) {
      look_at_completed(model.queues[i]);
    }
  }
  uint64_t known = known_completions(at);
  uint64_t least = known < (uint64_t)capacity ? known : (uint64_t)capacity;
  waits = waits && completion_must_come(at);
  mst_completion completions[MOST];
  int32_t count = -7;
  int64_t patience = twin() == TWIN_NONE ? PATIENCE_NS : PATIENCE_WITH_A_TWIN_NS;
  int32_t status = twin_next_completions(device, completions, capacity, waits ? patience : 0, &count);
  statuses allowed = only(MST_ERROR_INVALID_ARGUMENT);
  if (capacity > 0) {
    bool quiet = known == 0 && model.wakes[at] != WAKE && !waits;
    allowed = only(MST_OK) | (quiet ? only(MST_TIMEOUT) : 0);
  }
  expect(allowed, status, "mst_device_next_completions");
  if (status < 0) {
    HOLD(count == -7, "mst_device_next_completions fails and writes a count");
    return status;
  }
  HOLD(count >= 0 && count <= capacity && (uint64_t)count >= least && (status == MST_OK || count == 0),
       "mst_device_next_completions takes %d of %d with status %d, but %llu must be there", count, capacity, status,
       (unsigned long long)known);
  HOLD(count > 0 || status == MST_TIMEOUT || model.wakes[at] != NO_WAKE,
       "mst_device_next_completions returns nothing without a wake");
  if (model.wakes[at] != NO_WAKE) {
    /* Whether completions consume a wake is left open. */
    model.wakes[at] = count == 0 ? NO_WAKE : MAYBE_WAKE;
  }
  for (int32_t i = 0; i < count; i++) {
    take_completion(at, &completions[i]);
  }
  return status;
}

void checked_device_wake(mst_device *device) {
  expect(only(MST_OK), twin_device_wake(device), "mst_device_wake");
  model.wakes[device_index(device)] = WAKE;
}

/* ------------------------------------------------------------------------------------------------------- hooks ---- */

int32_t checked_hold(mst_queue *handle) {
  model_queue *queue = find_queue(handle);
  int32_t status =
      expect(queue != NULL ? only(MST_OK) : only(MST_ERROR_INVALID_ARGUMENT), mst_test_hold(handle), "mst_test_hold");
  if (queue != NULL && !queue->held) {
    /* The one that runs is finished. On Metal the handlers of more may be under way. */
    uint64_t most = model.metal ? queue->committed : look_at_completed(queue) + 1;
    queue->let_through = most < queue->committed ? most : queue->committed;
    queue->held = true;
  }
  return status;
}

int32_t checked_release(mst_queue *handle) {
  model_queue *queue = find_queue(handle);
  if (queue != NULL) {
    queue->held = false;
  }
  return expect(queue != NULL ? only(MST_OK) : only(MST_ERROR_INVALID_ARGUMENT), mst_test_release(handle),
                "mst_test_release");
}

int32_t checked_step(mst_queue *handle, uint32_t count) {
  model_queue *queue = find_queue(handle);
  if (queue != NULL && !queue->held && model.metal) {
    return MST_OK; /* the simulation's hook would begin a hold */
  }
  if (queue != NULL && queue->held) {
    queue->let_through += count;
  }
  return expect(queue == NULL ? only(MST_ERROR_INVALID_ARGUMENT)
                : queue->held ? only(MST_OK)
                              : only(MST_ERROR_INVALID_STATE),
                mst_test_step(handle, count), "mst_test_step");
}

/* -------------------------------------------------------------------------------------------- beginning and end --- */

void model_start(mst_device *const *devices) {
  memset(&model, 0, sizeof(model));
  model.metal = strcmp(mst_backend_name(), "metal") == 0;
  memcpy(model.devices, devices, sizeof(model.devices));
  mst_device_facts facts;
  OK(mst_device_info(devices[0], &facts));
  model.max_buffer_bytes = facts.max_buffer_bytes;
}

/* What the shim counts. The simulation of Metal counts when all is idle, which may never be here. */
static void look_at_counts(void) {
  int64_t queues = 0;
  int64_t buffers = 0;
  for (int i = 0; i < DEVICES; i++) {
    uint64_t count;
    uint64_t bytes = bytes_of(i, &count);
    mst_device_memory_facts facts = memory_of(i);
    HOLD(facts.buffer_count == count && (model.metal ? facts.allocated_bytes >= bytes : facts.allocated_bytes == bytes),
         "device %d has %llu buffers of %llu bytes, not %llu of %llu", i, (unsigned long long)facts.buffer_count,
         (unsigned long long)facts.allocated_bytes, (unsigned long long)count, (unsigned long long)bytes);
    buffers += (int64_t)count;
  }
  for (int i = 0; i < QUEUES; i++) {
    queues += model.queues[i] != NULL;
  }
  if (!model.metal) {
    mst_test_live_objects live;
    OK(mst_test_live(&live));
    HOLD(live.queues == queues && live.buffers == buffers && live.devices == DEVICES,
         "%lld queues, %lld buffers, %lld devices live, not %lld, %lld, %d", (long long)live.queues,
         (long long)live.buffers, (long long)live.devices, (long long)queues, (long long)buffers, DEVICES);
  }
}

static void look_at_buffers(void) {
  for (int i = 0; i < BUFFERS; i++) {
    if (model.buffers[i].handle != NULL) {
      look_at_contents(&model.buffers[i]);
    }
  }
}

void model_look(void) {
  for (int i = 0; i < QUEUES; i++) {
    if (model.queues[i] != NULL) {
      look_at_failed(model.queues[i]);
    }
  }
  look_at_buffers();
  look_at_counts();
}

/* Takes all that is left, and compares failures with the orders. */
static void finish_completions(void) {
  for (int i = 0; i < DEVICES; i++) {
    while (completion_must_come(i)) {
      checked_next_completions(model.devices[i], 5, true);
    }
    checked_next_completions(model.devices[i], 1, false);
  }
  for (const model_queue *queue = model.all_queues; queue != NULL; queue = queue->next) {
    HOLD(queue->reported == queue->committed, "queue %llu has no completion of its last values",
         (unsigned long long)queue->id);
  }
  HOLD(model.failures >= model.carried_out, "%lld command buffers failed, but %lld failures were carried out",
       (long long)model.failures, (long long)model.carried_out);
}

static void forget_queues(void) {
  model_queue *next = NULL;
  for (model_queue *queue = model.all_queues; queue != NULL; queue = next) {
    next = queue->next;
    for (uint64_t value = 1; value <= queue->committed; value++) {
      free(value_of(queue, value)->waits);
    }
    free(queue->values);
    free(queue->ops);
    free(queue);
  }
  free(model.copies);
}

void model_finish(bool devices_first) {
  checked_fail_execution(0, MST_OK);
  for (int i = 0; i < QUEUES; i++) {
    if (model.queues[i] != NULL) {
      checked_release(model.queues[i]->handle);
    }
  }
  if (!devices_first) {
    keep_promises();
  }
  if (devices_first) {
    look_at_counts();
    for (int i = 0; i < DEVICES; i++) {
      OK(mst_device_close(model.devices[i]));
    }
    model.closed = true;
    break_promises();
  }
  for (int i = 0; i < QUEUES; i++) {
    model_queue *queue = model.queues[i];
    if (queue != NULL && (!devices_first || !is_host(queue))) {
      checked_queue_wait(queue->handle, queue->committed, devices_first ? 0 : -1);
      HOLD(queue->floor == queue->committed, "queue %llu is at %llu at its end", (unsigned long long)queue->id,
           (unsigned long long)queue->floor);
      look_at_failed(queue);
    }
  }
  for (int i = 0; i < BUFFERS; i++) {
    memset(model.buffers[i].open_use, 0, sizeof(model.buffers[i].open_use));
  }
  look_at_buffers();
  if (!devices_first) {
    finish_completions();
    look_at_counts();
  }
  for (int i = 0; i < QUEUES; i++) {
    if (model.queues[i] != NULL) {
      checked_queue_destroy(model.queues[i]->handle);
    }
  }
  for (int i = 0; i < BUFFERS; i++) {
    checked_buffer_destroy(model.buffers[i].handle);
  }
  for (int i = 0; i < GRAPHS; i++) {
    checked_graph_destroy(model.graphs[i].handle);
  }
  for (int i = 0; i < EXECUTABLES; i++) {
    checked_executable_destroy(model.executables[i].handle);
  }
  for (int i = 0; !devices_first && i < DEVICES; i++) {
    OK(mst_device_close(model.devices[i]));
  }
  forget_queues();
  check_nothing_lives();
}
