/**
 * The driver over the C ABI: finds and loads the native library, and calls it with the Foreign
 * Function and Memory API. The only package of the system that does.
 */
@NullMarked
package dev.metalstreams.bindings;

import org.jspecify.annotations.NullMarked;
