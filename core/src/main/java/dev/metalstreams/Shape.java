package dev.metalstreams;

import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * The extents of a dense, row-major tensor. Immutable; checked once, so that sizes computed from it
 * never overflow.
 */
final class Shape {
  static final int MAX_RANK = 8;

  private final long[] extents;
  private final long elements;

  private Shape(long[] extents, long elements) {
    this.extents = extents;
    this.elements = elements;
  }

  static Shape of(long... extents) {
    Objects.requireNonNull(extents, "shape");
    if (extents.length > MAX_RANK) {
      throw new IllegalArgumentException(
          "a tensor has at most " + MAX_RANK + " dimensions, not " + extents.length);
    }
    long elements = 1;
    for (long extent : extents) {
      if (extent <= 0) {
        throw new IllegalArgumentException(
            "extents are positive, not " + extent + " in " + Arrays.toString(extents));
      }
      try {
        elements = Math.multiplyExact(elements, extent);
        Math.multiplyExact(
            elements, 16L); // bytes of the largest element: keeps byte counts in range
      } catch (ArithmeticException e) {
        throw new IllegalArgumentException("too many elements: " + Arrays.toString(extents), e);
      }
    }
    return new Shape(extents.clone(), elements);
  }

  int rank() {
    return extents.length;
  }

  /** Extent of a dimension; negative ones count from the last. */
  long extent(int dimension) {
    return extents[dimension < 0 ? extents.length + dimension : dimension];
  }

  long elements() {
    return elements;
  }

  long[] toArray() {
    return extents.clone();
  }

  List<Long> toList() {
    return Arrays.stream(extents).boxed().toList();
  }

  /** Whether all but the last {@code last} extents are the same as another shape's. */
  boolean sameLeading(Shape other, int last) {
    return rank() == other.rank()
        && Arrays.equals(extents, 0, rank() - last, other.extents, 0, rank() - last);
  }

  @Override
  public boolean equals(@Nullable Object other) {
    return this == other || (other instanceof Shape shape && Arrays.equals(extents, shape.extents));
  }

  @Override
  public int hashCode() {
    return Arrays.hashCode(extents);
  }

  @Override
  public String toString() {
    return Arrays.toString(extents);
  }
}
