/** Tests of the command line. */
@NullMarked
package dev.metalstreams.cli;

import org.jspecify.annotations.NullMarked;
