package dev.metalstreams;

import java.lang.ref.PhantomReference;
import org.jspecify.annotations.Nullable;

/**
 * One use of a block by one {@link DeviceBuffer}: from the moment it was handed out to the close.
 *
 * <p>The buffer is the user's handle on it and may be dropped without a close: the tenancy, which
 * the block keeps alive, then comes out of the leak queue, and is closed in the user's place. After
 * the close nothing refers to the tenancy but the handle, so a closed buffer never comes out there.
 */
final class Tenancy extends PhantomReference<DeviceBuffer> {
  final Block block;
  final Lifetime lifetime = new Lifetime();

  // Where it stands in the Tenancies of its stream, whose they are; null once it is closed.
  Tenancies.@Nullable Chunk chunk;
  int place;

  /** Where it was allocated; null unless this tenancy is sampled. */
  final @Nullable Throwable site;

  /** Where it was last used, if that is looked for; written racily, for a report only. */
  volatile @Nullable Throwable lastUse;

  Tenancy(DeviceBuffer handle, Leaks leaks, Block block, @Nullable Throwable site) {
    super(handle, leaks.queue());
    this.block = block;
    this.site = site;
    if (leaks.recordsUse()) {
      lastUse = site;
    }
  }
}
