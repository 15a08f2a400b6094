"""Divide and Remaster as a Lightning data module."""

from __future__ import annotations

from typing import Any

from aimless.sources import SDX_SOURCES
from data.lightning.base import BaseDataModule, Split

__all__ = ["DnR"]


class DnR(BaseDataModule):
    """DnR v2: `root/{tr,cv,tt}/<id>/{mix,music,sfx,speech}.wav`, mono.

    Args:
        root: folder that holds `tr`, `cv` and `tt`.
        include_val: train on `cv` too, as the published runs did. It stays the validation split,
            whose scores then say nothing about unseen sound.
        channels: that items have; the recordings are mono.
        **kwargs: settings of all data modules, see `BaseDataModule`.

    Raises:
        ConfigError: a value that is not allowed; names the key.
    """

    sources = SDX_SOURCES
    mixture = "mix"

    def __init__(
        self, root: str, *args: Any, include_val: bool = False, channels: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(root, *args, channels=channels, **kwargs)  # type: ignore[misc]
        training, validation = [Split("tr")], [Split("cv")]
        if include_val:
            training = [*training, *validation]
            self.held_out = ("test",)
        self.splits = {"train": training, "val": validation, "test": [Split("tt")]}
