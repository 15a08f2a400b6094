"""Training systems: `SourceSeparator` and its two kinds."""
