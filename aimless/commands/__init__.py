"""The subcommands of `aimless`, one per file: `add_parser` declares, `run` does."""
