"""Loudness of single stems."""

from __future__ import annotations

import numpy as np

from data.augment.base import CPUBase, Gain, Mix, require, require_package
from data.loudness import integrated_loudness

__all__ = ["LoudnessNormalize"]

_LOWEST_GAIN_DB, _HIGHEST_GAIN_DB = -120.0, 40.0


class LoudnessNormalize(CPUBase):
    """Bring a stem to a loudness, by a gain between -120 and 40 dB.

    A stem that is silent or shorter than 400 ms has no loudness and stays as it is.

    Args:
        target_lufs_db: loudness in LUFS.
        sample_rate: in Hz.
        p: probability per stem, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or numba is not installed.
    """

    def __init__(
        self, target_lufs_db: float = -32.0, sample_rate: int = 44100, p: float = 1.0
    ) -> None:
        super().__init__(p)
        require_package(self, "numba", "train")
        require(self, "target_lufs_db", target_lufs_db, -120, 20)
        require(self, "sample_rate", sample_rate, 1)
        self.target_lufs_db = target_lufs_db
        self.sample_rate = sample_rate

    def apply(self, mix: Mix, rng: np.random.Generator) -> None:
        """Draw which stems to change, measure them and choose their gains."""
        for source in self.selected(mix, rng):
            loudness = integrated_loudness(mix.stem(source), self.sample_rate)
            if np.isfinite(loudness):
                wanted = self.target_lufs_db - loudness
                gain_db = min(max(wanted, _LOWEST_GAIN_DB), _HIGHEST_GAIN_DB)
                mix.multiply(source, Gain(10 ** (gain_db / 20)))
