/** Races of the lock-free parts of core; in its package, to reach them. */
@NullMarked
package dev.metalstreams;

import org.jspecify.annotations.NullMarked;
