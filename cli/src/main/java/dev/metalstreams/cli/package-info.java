/** The {@code metalstreams} command. Nothing here is for use by other programs. */
@NullMarked
package dev.metalstreams.cli;

import org.jspecify.annotations.NullMarked;
