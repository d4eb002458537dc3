/** Shows that the benchmarks run. Nothing here is timed. */
@NullMarked
package dev.metalstreams.bench;

import org.jspecify.annotations.NullMarked;
