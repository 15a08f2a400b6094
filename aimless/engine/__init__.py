"""Parts of the engine that `aimless.overlap_add` and `aimless.separate` put together."""
