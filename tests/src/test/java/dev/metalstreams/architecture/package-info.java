/** Rules that hold for the whole of the code. */
@NullMarked
package dev.metalstreams.architecture;

import org.jspecify.annotations.NullMarked;
