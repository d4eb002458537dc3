/** What the library costs, and how that compares with the same calls from C. */
@NullMarked
package dev.metalstreams.bench;

import org.jspecify.annotations.NullMarked;
