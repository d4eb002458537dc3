package dev.metalstreams;

import dev.metalstreams.driver.ElementType;

/** Types of tensor elements. */
public enum DType {
  /** 32-bit IEEE 754 floating point. */
  F32(ElementType.F32);

  private final ElementType element;

  DType(ElementType element) {
    this.element = element;
  }

  /** Bytes of one element. */
  public int bytes() {
    return element.bytes();
  }

  ElementType element() {
    return element;
  }
}
