package dev.metalstreams;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.metalstreams.MemoryStats.Counter;
import dev.metalstreams.MemoryStats.Metric;
import dev.metalstreams.MemoryStats.Pool;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** The memory of a device as JSON; what PyTorch has a name for has that name. */
final class MemoryJson {
  private static final JsonFactory FACTORY = new JsonFactory();

  private MemoryJson() {}

  static String of(DeviceMemory memory) {
    StringWriter text = new StringWriter();
    try (JsonGenerator json = FACTORY.createGenerator(text)) {
      json.writeStartObject();
      stats(json, memory.stats());
      json.writeArrayFieldStart("blocks");
      for (BlockInfo block : memory.snapshot()) {
        block(json, block);
      }
      json.writeEndArray();
      json.writeArrayFieldStart("history");
      for (MemoryEvent event : memory.history()) {
        event(json, event);
      }
      json.writeEndArray();
      json.writeEndObject();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return text.toString();
  }

  private static void stats(JsonGenerator json, MemoryStats stats) throws IOException {
    json.writeObjectFieldStart("stats");
    for (Metric metric : Metric.values()) {
      json.writeObjectFieldStart(name(metric));
      json.writeObjectFieldStart("bytes");
      for (Pool pool : Pool.values()) {
        counter(json, name(pool), stats.bytes(metric, pool));
      }
      json.writeEndObject();
      json.writeObjectFieldStart("count");
      for (Pool pool : Pool.values()) {
        counter(json, name(pool), stats.count(metric, pool));
      }
      json.writeEndObject();
      json.writeEndObject();
    }
    json.writeNumberField("num_alloc_retries", stats.retries());
    json.writeNumberField("num_ooms", stats.outOfMemories());
    json.writeNumberField("num_device_alloc", stats.deviceAllocations());
    json.writeNumberField("num_device_free", stats.deviceFrees());
    json.writeNumberField("num_steals", stats.steals());
    json.writeNumberField("num_leaks", stats.leaks());
    json.writeObjectFieldStart("pending_bytes_by_stream");
    for (Map.Entry<Integer, Long> each : new TreeMap<>(stats.pendingByStream()).entrySet()) {
      json.writeNumberField(Integer.toString(each.getKey()), each.getValue());
    }
    json.writeEndObject();
    json.writeEndObject();
  }

  private static void counter(JsonGenerator json, String name, Counter counter) throws IOException {
    json.writeObjectFieldStart(name);
    json.writeNumberField("current", counter.current());
    json.writeNumberField("peak", counter.peak());
    json.writeNumberField("total_in", counter.totalIn());
    json.writeNumberField("total_out", counter.totalOut());
    json.writeEndObject();
  }

  private static void block(JsonGenerator json, BlockInfo block) throws IOException {
    json.writeStartObject();
    json.writeNumberField("id", block.id());
    json.writeStringField("state", name(block.state()));
    json.writeNumberField("size", block.size());
    json.writeNumberField("requested", block.requested());
    json.writeNumberField("stream", block.stream());
    json.writeNumberField("outstanding_uses", block.outstandingUses());
    json.writeNumberField("age_ns", block.ageNanos());
    json.writeEndObject();
  }

  private static void event(JsonGenerator json, MemoryEvent event) throws IOException {
    json.writeStartObject();
    json.writeNumberField("time_ns", event.nanoTime());
    json.writeStringField("kind", name(event.kind()));
    json.writeNumberField("block", event.block());
    json.writeNumberField("bytes", event.bytes());
    json.writeNumberField("stream", event.stream());
    json.writeEndObject();
  }

  private static String name(Enum<?> constant) {
    return constant.name().toLowerCase(Locale.ROOT);
  }
}
