"""What the samples of a track are like, from one pass over all its files, block by block."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data import audio
from data.audio import AudioFile, AudioReadError, NonFiniteError

__all__ = ["FULL_SCALE", "FileMeasure", "TrackMeasure", "decibels", "measure"]

FULL_SCALE = 1 - 2.0**-15  # the largest 16-bit sample
_SILENCE = 1e-3  # -60 dB

_WINDOW = 0.1  # seconds
_WINDOWS_PER_BLOCK = 16
_DIGEST_STEP = 16


@dataclass
class FileMeasure:
    """What the samples of a file are like.

    Attributes:
        peak: largest absolute sample, 1 is full scale.
        rms: root mean square.
        full_scale: share of samples at full scale, 16-bit's largest, or beyond.
        silence: share of time in windows of 100 ms that stay below -60 dB of full scale.
        digest: equal for equal sound; "" if all samples are zero. A hash of the extremes of
            each window and of every 16th frame.
        fault: why the file could not be read to its end, if so.
        not_finite: where samples are NaN or infinite, if so; blocks with them count as zeros.
    """

    peak: float
    rms: float
    full_scale: float
    silence: float
    digest: str
    fault: str | None
    not_finite: str | None


@dataclass
class TrackMeasure:
    """What the samples of a track are like.

    Attributes:
        files: by name.
        rms: of the recorded mixture, or of the sum of the stems without one.
        residual: root mean square of the recorded mixture minus the sum of the stems; None
            if one of them cannot be read.
    """

    files: dict[str, FileMeasure]
    rms: float
    residual: float | None


def decibels(ratio: float) -> float:
    """A ratio of amplitudes in dB; -inf for 0."""
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf


def measure(
    headers: Mapping[str, AudioFile], sources: Sequence[str], mixture: str | None, compare: bool
) -> TrackMeasure:
    """Read all files of a track once; memory does not grow with their length.

    Args:
        headers: of the files that can be read, by name.
        sources: names of the stems.
        mixture: name of the recorded mixture; None if there is none.
        compare: the stems should sum to the mixture: all are there, of one rate.
    """
    window = max(1, round(_WINDOW * max(header.rate for header in headers.values())))
    meters = {name: _Meter(header, window) for name, header in headers.items()}
    stems = [meters[name] for name in sources if name in meters]
    recorded = meters.get(mixture) if mixture else None
    longest = max(header.frames for header in headers.values())
    shortest = min(header.frames for header in headers.values())
    step = window * _WINDOWS_PER_BLOCK
    total_power, residual_power = _MeanSquare(), _MeanSquare()
    for start in range(0, longest, step):
        for meter in meters.values():
            meter.read(start, min(step, longest - start))
        if compare and stems and start < shortest:
            total = _sum(stems, min(step, shortest - start))
            total_power.add(total)
            if recorded is not None:
                residual_power.add(recorded.block[:, : total.shape[1]] - total)
    results = {name: meter.result() for name, meter in meters.items()}
    whole = all(result.fault is result.not_finite is None for result in results.values())
    return TrackMeasure(
        results,
        recorded.power.root() if recorded else total_power.root(),
        residual_power.root() if compare and recorded and stems and whole else None,
    )


class _MeanSquare:
    def __init__(self) -> None:
        self.energy = 0.0
        self.count = 0

    def add(self, block: NDArray[np.float32]) -> None:
        self.energy += sum(float(np.vdot(channel, channel)) for channel in block)
        self.count += block.size

    def root(self) -> float:
        return math.sqrt(self.energy / max(1, self.count))


class _Meter:
    """Reads a file and gathers its figures; `block` is what was read last."""

    def __init__(self, header: AudioFile, window: int) -> None:
        self.header = header
        self.window = window
        self.block = np.zeros((header.channels, window * _WINDOWS_PER_BLOCK), np.float32)
        self.power = _MeanSquare()
        self.peak = 0.0
        self.at_full_scale = self.silent_frames = 0
        self.digest = hashlib.blake2b(digest_size=16)
        self.fault: str | None = None
        self.not_finite: str | None = None

    def read(self, start: int, frames: int) -> None:
        """Read the next frames; zeros where the file has ended or cannot be read."""
        count = max(0, min(frames, self.header.frames - start))
        self.block[:, count:] = 0
        if count == 0:
            return
        part = self.block[:, :count]
        if self.fault is None:
            try:
                audio.read(self.header, start, count, part)
            except NonFiniteError as error:
                self.not_finite = self.not_finite or _last_clause(error)
                part[:] = 0
            except AudioReadError as error:
                self.fault = _last_clause(error)
        if self.fault is not None:
            part[:] = 0
        self._gather(part)

    def _gather(self, part: NDArray[np.float32]) -> None:
        edges = np.arange(0, part.shape[1], self.window)
        high = np.maximum.reduceat(part, edges, axis=1)
        low = np.minimum.reduceat(part, edges, axis=1)
        peaks = np.maximum(high, -low).max(0)
        frames = np.diff(edges, append=part.shape[1])
        self.silent_frames += int(frames[peaks < _SILENCE].sum())
        peak = float(peaks.max())
        self.peak = max(self.peak, peak)
        if peak >= FULL_SCALE:
            self.at_full_scale += int(np.count_nonzero(np.abs(part) >= FULL_SCALE))
        self.power.add(part)
        for values in (high, low, part[:, ::_DIGEST_STEP]):
            self.digest.update((values + np.float32(0)).tobytes())  # -0.0 is 0.0

    def result(self) -> FileMeasure:
        return FileMeasure(
            self.peak,
            self.power.root(),
            self.at_full_scale / max(1, self.power.count),
            self.silent_frames / self.header.frames,
            self.digest.hexdigest() if self.peak else "",
            self.fault,
            self.not_finite,
        )


def _sum(stems: Sequence[_Meter], frames: int) -> NDArray[np.float32]:
    """Sum of the stems' blocks (channels, frames); mono ones are in all channels."""
    channels = max(stem.header.channels for stem in stems)
    total = np.zeros((channels, frames), np.float32)
    for stem in stems:
        total += stem.block[:, :frames]
    return total


def _last_clause(error: AudioReadError) -> str:
    """What is wrong, without the path and the place that was read."""
    return str(error).rsplit(": ", 1)[-1]
