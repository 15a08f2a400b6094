"""Mastering: loudness and peak limiting of the mixture, carried over to the stems."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.augment.base import Audio, CPUBase, Mix, require, require_package
from data.loudness import integrated_loudness

__all__ = ["LimitAug", "limiter_gain"]


class LimitAug(CPUBase):
    """Master the mixture as loudly as released music (Jeon, Lee: "Towards robust music source
    separation on loud commercial music", ISMIR 2022).

    The mixture is brought to a loudness drawn from a normal distribution, limited to full
    scale, and normalised to `target_loudnorm_lufs`. All three are gains, and their product,
    one number per sample, is applied to every stem, so that the stems still sum to the
    mixture. A mixture that is silent or shorter than 400 ms has no loudness and stays as it is.

    Args:
        target_lufs_mean: mean of the loudness that drives the limiter, in LUFS; the default
            and the next are of commercial music.
        target_lufs_std: its standard deviation, in LU.
        target_loudnorm_lufs: loudness of the result, in LUFS.
        max_release_ms: longest release time of the limiter, see `limiter_gain`.
        min_release_ms: shortest release time; drawn uniformly between the two.
        sample_rate: in Hz.
        p: probability per mixture, from 0 to 1.

    Raises:
        ConfigError: a value that is not allowed, or numba is not installed.
    """

    def __init__(
        self,
        target_lufs_mean: float = -10.887,
        target_lufs_std: float = 1.191,
        target_loudnorm_lufs: float = -14.0,
        max_release_ms: float = 200.0,
        min_release_ms: float = 30.0,
        sample_rate: int = 44100,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        require_package(self, "numba", "train")
        require(self, "target_lufs_mean", target_lufs_mean, -70, 20)
        require(self, "target_lufs_std", target_lufs_std, 0, 20)
        require(self, "target_loudnorm_lufs", target_loudnorm_lufs, -70, 20)
        require(self, "min_release_ms", min_release_ms, 0.1)
        require(self, "max_release_ms", max_release_ms, min_release_ms)
        require(self, "sample_rate", sample_rate, 1)
        self.target_lufs_mean = target_lufs_mean
        self.target_lufs_std = target_lufs_std
        self.target_loudnorm_lufs = target_loudnorm_lufs
        self.max_release_ms = max_release_ms
        self.min_release_ms = min_release_ms
        self.sample_rate = sample_rate

    def apply(self, mix: Mix, rng: np.random.Generator) -> None:
        """Draw loudness and release time, and scale mixture and stems."""
        selected = rng.random() < self.p
        target = rng.normal(self.target_lufs_mean, self.target_lufs_std)
        release_ms = rng.uniform(self.min_release_ms, self.max_release_ms)
        if selected:
            gain = self._mastering_gain(mix.mixture, target, release_ms)
            if gain is not None:
                mix.scale(gain)

    def _mastering_gain(self, mixture: Audio, target: float, release_ms: float) -> Audio | None:
        """Gain (samples) of all three steps; None if the mixture has no loudness."""
        loudness = integrated_loudness(mixture, self.sample_rate)
        if not np.isfinite(loudness):
            return None
        drive = np.float32(_from_db(target - loudness))
        gain = drive * limiter_gain(mixture * drive, release_ms / 1000 * self.sample_rate)
        limited = integrated_loudness(mixture * gain, self.sample_rate)
        if np.isfinite(limited):
            gain *= np.float32(_from_db(self.target_loudnorm_lufs - limited))
        return gain


def limiter_gain(audio: Audio, release: float, threshold: float = 1.0) -> Audio:
    r"""Gain of a peak limiter with instant attack and exponential release, common to all channels.

    The envelope jumps to each peak above it and falls by a factor r per sample in between.
    That recursion has a closed form,

        env[n] = \max_{k \le n} |x[k]| r^{n-k},

    a cumulative maximum after dividing by r^n, here in logarithms and double precision. The
    gain is threshold / env where the envelope passes the threshold, else 1, so that no sample
    of the result passes it.

    Args:
        audio: (channels, samples).
        release: samples in which the envelope falls to 1/e, greater than 0.
        threshold: largest magnitude to let through.

    Returns:
        (samples,) from 0 to 1.
    """
    peak = np.abs(audio).max(0)
    # Peaks below the threshold never set an envelope that matters: no logarithms of those.
    (above,) = np.nonzero(peak > threshold)
    gain = np.ones(len(peak), np.float32)
    if not len(above):
        return gain
    level: NDArray[np.float64] = np.full(len(peak), -np.inf)
    level[above] = np.log(peak[above] / threshold) + above / release
    level = np.maximum.accumulate(level) - np.arange(len(peak)) / release
    (limited,) = np.nonzero(level > 0)
    gain[limited] = np.exp(-level[limited])
    return gain


def _from_db(level: float) -> float:
    return float(10 ** (level / 20))
