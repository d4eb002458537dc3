package dev.metalstreams.safetensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParseException;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.exc.StreamConstraintsException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Reads and judges the header of a file.
 *
 * <p>A file is eight bytes of header length, little-endian; the header, a JSON object in UTF-8 that
 * may be padded with spaces; then the data. The header maps each tensor's name to its {@code
 * dtype}, {@code shape} and {@code data_offsets}, the latter relative to the start of the data. The
 * format asks that the tensors cover the data exactly: no gap, no overlap, nothing behind the last.
 *
 * <p>Every number is checked against the size of the file before anything is made from it; the only
 * allocations that a header can cause are proportional to its own length, which is at most {@link
 * #LONGEST_HEADER}.
 */
final class HeaderParser {
  private static final int LENGTH_BYTES = Long.BYTES;

  /** The format's own limit. */
  private static final long LONGEST_HEADER = 100_000_000;

  private static final String METADATA = "__metadata__";

  private static final JsonFactory JSON =
      JsonFactory.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();

  private final Content content;
  private final long dataStart;
  private final long dataSize;
  private final Map<String, StoredTensor> tensors = new LinkedHashMap<>();
  private final Map<String, String> metadata = new LinkedHashMap<>();
  private final List<Extent> extents = new ArrayList<>();

  /** Where a tensor lies in the data: from {@code begin}, inclusive, to {@code end}, exclusive. */
  private record Extent(String name, long begin, long end) {}

  private HeaderParser(Content content, long headerLength) {
    this.content = content;
    this.dataStart = LENGTH_BYTES + headerLength;
    this.dataSize = content.size() - dataStart;
  }

  static Header parse(Content content) {
    long size = content.size();
    if (size < LENGTH_BYTES) {
      throw content.fault(
          "the file is "
              + size
              + " bytes long, but a safetensors file begins with 8 bytes of header length");
    }
    long length = content.read(0, LENGTH_BYTES).order(ByteOrder.LITTLE_ENDIAN).getLong();
    if (length < 0 || length > LONGEST_HEADER) {
      throw content.fault(
          "the header is said to be "
              + Long.toUnsignedString(length)
              + " bytes long, but the format allows at most "
              + LONGEST_HEADER);
    }
    if (length > size - LENGTH_BYTES) {
      throw content.fault(
          "the header is said to be "
              + length
              + " bytes long, but only "
              + (size - LENGTH_BYTES)
              + " bytes follow");
    }
    HeaderParser parser = new HeaderParser(content, length);
    parser.read(decode(content, (int) length));
    parser.checkCover();
    return new Header(
        Collections.unmodifiableMap(parser.tensors), Collections.unmodifiableMap(parser.metadata));
  }

  private static String decode(Content content, int length) {
    ByteBuffer bytes = content.read(LENGTH_BYTES, length);
    try {
      // A decoder of its own: it reports what new String(…) would replace.
      return StandardCharsets.UTF_8.newDecoder().decode(bytes).toString();
    } catch (CharacterCodingException e) {
      throw content.fault("the header is not valid UTF-8");
    }
  }

  private void read(String header) {
    if (!header.startsWith("{")) {
      throw content.fault("the header does not begin with '{'");
    }
    try (JsonParser json = JSON.createParser(header)) {
      json.nextToken();
      while (json.nextToken() == JsonToken.FIELD_NAME) {
        String name = json.currentName();
        if (name.equals(METADATA)) {
          readMetadata(json);
        } else {
          readTensor(json, name);
        }
      }
      if (json.nextToken() != null) {
        throw content.fault("something follows the header's closing '}'");
      }
    } catch (StreamConstraintsException | JsonParseException e) {
      throw new SafetensorsException(
          content.name()
              + ": the header is not valid JSON: "
              + Text.oneLine(e.getOriginalMessage()),
          e);
    } catch (IOException e) {
      throw new SafetensorsException(
          content.name()
              + ": the header cannot be read: "
              + Text.oneLine(String.valueOf(e.getMessage())),
          e);
    }
  }

  private void readMetadata(JsonParser json) throws IOException {
    if (json.nextToken() != JsonToken.START_OBJECT) {
      throw content.fault("the metadata is not an object");
    }
    while (json.nextToken() == JsonToken.FIELD_NAME) {
      String key = json.currentName();
      if (json.nextToken() != JsonToken.VALUE_STRING) {
        throw content.fault("the metadata entry " + Text.quoted(key) + " is not a string");
      }
      metadata.put(key, json.getText());
    }
  }

  private void readTensor(JsonParser json, String name) throws IOException {
    if (json.nextToken() != JsonToken.START_OBJECT) {
      throw fault(name, "is not described by an object");
    }
    String dtype = null;
    long[] shape = null;
    long[] offsets = null;
    while (json.nextToken() == JsonToken.FIELD_NAME) {
      String key = json.currentName();
      switch (key) {
        case "dtype" -> {
          if (json.nextToken() != JsonToken.VALUE_STRING) {
            throw fault(name, "has a dtype that is not a string");
          }
          dtype = json.getText();
        }
        case "shape" -> shape = readSizes(json, name, key);
        case "data_offsets" -> offsets = readSizes(json, name, key);
        default -> throw fault(name, "has the unknown key " + Text.quoted(key));
      }
    }
    add(
        name,
        present(dtype, name, "dtype"),
        present(shape, name, "shape"),
        present(offsets, name, "data_offsets"));
  }

  private long[] readSizes(JsonParser json, String name, String key) throws IOException {
    if (json.nextToken() != JsonToken.START_ARRAY) {
      throw fault(name, "has a " + key + " that is not an array");
    }
    long[] sizes = new long[4];
    int count = 0;
    while (json.nextToken() != JsonToken.END_ARRAY) {
      if (json.currentToken() != JsonToken.VALUE_NUMBER_INT) {
        throw fault(name, "has a " + key + " with something that is not a whole number");
      }
      if (json.getNumberType() == JsonParser.NumberType.BIG_INTEGER || json.getLongValue() < 0) {
        throw fault(
            name,
            "has a " + key + " with " + Text.oneLine(json.getText()) + ", which no size can be");
      }
      if (count == sizes.length) {
        sizes = Arrays.copyOf(sizes, 2 * count);
      }
      sizes[count++] = json.getLongValue();
    }
    return Arrays.copyOf(sizes, count);
  }

  private <T> T present(@Nullable T value, String name, String key) {
    if (value == null) {
      throw fault(name, "has no " + key);
    }
    return value;
  }

  private void add(String name, String dtype, long[] shape, long[] offsets) {
    StoredType type = StoredType.named(dtype);
    if (type == null) {
      throw fault(name, "has the unknown dtype " + Text.quoted(dtype));
    }
    if (offsets.length != 2) {
      throw fault(name, "has " + offsets.length + " data_offsets, not 2");
    }
    long begin = offsets[0];
    long end = offsets[1];
    if (begin > end) {
      throw fault(name, "ends at " + end + ", before its begin at " + begin);
    }
    if (end > dataSize) {
      throw fault(name, "ends at byte " + end + " of the data, but the file has only " + dataSize);
    }
    long wanted;
    try {
      wanted = byteSize(type, shape);
    } catch (ArithmeticException e) {
      throw fault(name, "has a shape whose size overflows");
    }
    if (wanted != end - begin) {
      throw fault(
          name,
          "takes "
              + wanted
              + " bytes by its dtype and shape, but "
              + (end - begin)
              + " by its data_offsets");
    }
    tensors.put(name, new StoredTensor(content, name, type, shape, dataStart + begin, wanted));
    extents.add(new Extent(name, begin, end));
  }

  private static long byteSize(StoredType type, long[] shape) {
    long size = type.bytes();
    for (long dimension : shape) {
      size = Math.multiplyExact(size, dimension);
    }
    return size;
  }

  /**
   * Checks that the tensors, in the order of their offsets, follow one another from the first byte
   * to the last.
   */
  private void checkCover() {
    extents.sort(Comparator.comparingLong(Extent::begin).thenComparingLong(Extent::end));
    long covered = 0;
    String before = "";
    for (Extent extent : extents) {
      if (extent.begin() < covered) {
        throw fault(extent.name(), "overlaps tensor " + Text.quoted(before));
      }
      if (extent.begin() > covered) {
        throw content.fault(
            "the bytes from "
                + covered
                + " to "
                + extent.begin()
                + " of the data belong to no tensor");
      }
      covered = extent.end();
      before = extent.name();
    }
    if (covered < dataSize) {
      throw content.fault("the last " + (dataSize - covered) + " bytes belong to no tensor");
    }
  }

  private SafetensorsException fault(String tensor, String fault) {
    return content.fault("tensor " + Text.quoted(tensor) + " " + fault);
  }
}
