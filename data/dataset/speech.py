"""Speech in noise: recordings of both, mixed at a drawn signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aimless import draws
from aimless.errors import DataError
from aimless.sources import SE_SOURCES
from data import audio
from data.audio import AudioFile
from data.augment.base import Audio, Compose, CPUBase
from data.dataset.excerpts import Excerpt, Plan, level_db
from data.dataset.items import ItemDataset
from data.dataset.redraw import Redraw, Rejects
from data.files.resampling import frames_at, read_at
from data.sampling import Key
from data.snr import SnrSampler, noise_gain
from data.tracks import BadTrackPolicy

__all__ = ["Scene", "SpeechNoiseDataset", "place"]


class Scene(NamedTuple):
    """What an item is made of; all positions are in samples at the rate of the data set.

    Attributes:
        speech: file of the speech.
        start: where in the speech its part begins.
        frames: length of that part.
        offset: where in the segment it is put; the rest of the speech stem is zeros.
        noise: file of the noise, which is repeated if it is shorter than the segment.
        noise_start: where in the noise the segment begins.
        snr_db: wanted where the speech is, in dB.
    """

    speech: AudioFile
    start: int
    frames: int
    offset: int
    noise: AudioFile
    noise_start: int
    snr_db: float


class _ScenePlan(Plan):
    """The excerpts of a scene, as its files count frames, and the scene."""

    def __init__(self, scene: Scene, rate: int, length: int) -> None:
        self.scene = scene
        noise = _excerpt(scene.noise, scene.noise_start, length, rate)
        speech = _excerpt(scene.speech, scene.start, scene.frames, rate)
        super().__init__(speech=[speech], noise=[noise])


class SpeechNoiseDataset(ItemDataset):
    """Segments of noise with speech at a random place in them; sources are (speech, noise).

    Each speech file takes part `samples_per_file` times per epoch, with a noise file and places
    that are drawn from (seed, epoch, index). At least `least_overlap_ratio` of the segment is
    overlapped by speech, or all of the speech if it is shorter than that. The noise goes through
    the whole segment: it is repeated if it is too short, since padding would leave part of the
    speech without noise and teach that noise begins and ends within seconds. It is scaled so
    that the power of speech and noise, where speech is, have the drawn ratio. The mixture is
    their sum.

    Args:
        speech: recordings of any rate and length.
        noise: the same.
        rate: sample rate of the items in Hz; files of other rates are resampled.
        segment: length in seconds; None: all of each speech file, from its beginning.
        samples_per_file: items per speech file and epoch.
        least_overlap_ratio: see above, from 0 to 1.
        snr: draws the ratio; None: between 0 and 20 dB, each as likely.
        channels: of the items; one averages the channels of a file, mono files fill them all.
        transforms: effects on (mixture, stems), applied in this order.
        seed: of all draws.
        min_loudness_db: RMS in dB of full scale that the speech stem must reach, as for
            `data.dataset.SegmentDataset`.
        on_bad_track: likewise.
        max_bad_excerpts: likewise.

    Raises:
        DataError: no files, or files of less than one sample at `rate`.
    """

    sources = SE_SOURCES

    def __init__(
        self,
        speech: Sequence[AudioFile],
        noise: Sequence[AudioFile],
        rate: int,
        segment: float | None = 6.0,
        samples_per_file: int = 1,
        least_overlap_ratio: float = 0.5,
        snr: SnrSampler | None = None,
        channels: int = 1,
        transforms: Sequence[CPUBase] | None = None,
        seed: int = 0,
        *,
        min_loudness_db: float | None = None,
        on_bad_track: BadTrackPolicy = "error",
        max_bad_excerpts: int | None = 10,
    ) -> None:
        if not speech or not noise:
            raise DataError(f"needs speech and noise, got {len(speech)} and {len(noise)} files")
        for file in (*speech, *noise):
            if frames_at(file, rate) == 0:
                raise DataError(f"{audio.printable(file)}: shorter than one sample at {rate} Hz")
        self.speech, self.noise = list(speech), list(noise)
        self.rate, self.channels = rate, channels
        self.length = None if segment is None else max(1, round(segment * rate))
        self.samples_per_file = samples_per_file
        self.least_overlap_ratio = least_overlap_ratio
        self.snr = snr or SnrSampler({"low": 0.0, "high": 20.0})
        self.transforms = Compose(transforms or ())
        self.seed = seed
        self.rejects = Rejects(max_bad_excerpts)
        self._redraw = Redraw(min_loudness_db, on_bad_track, self.rejects)

    def __len__(self) -> int:
        return len(self.speech) * self.samples_per_file

    def frames(self, key: Key) -> int:
        """Length of an item: the segment's, or its speech file's."""
        return self.length or frames_at(self.speech[key.index // self.samples_per_file], self.rate)

    def lengths(self) -> set[int]:
        """All lengths that items have, in samples."""
        return {self.length or frames_at(file, self.rate) for file in self.speech}

    def fill(self, key: Key, mixture: Audio, stems: Audio) -> None:
        """Read an item and apply the effects, into (channels, samples) and (sources, ...)."""
        self._read(key, stems, key.epoch)
        self.apply_effects(key, mixture, stems, recorded=False)

    def describe(self, key: Key | int) -> dict[str, list[Excerpt]]:
        """Files and places that an item is read from, as the files count frames.

        Raises:
            AudioReadError: as for the item.
        """
        key = self.complete(key)
        shape = len(self.sources), self.channels, self.frames(key)
        return self._read(key, np.empty(shape, np.float32), epoch=None)

    def scene(self, key: Key, attempt: int = 0) -> Scene:
        """All draws of an item but those of the effects.

        Args:
            key: of the item.
            attempt: further ones, counted from 1, also draw the speech file.
        """
        rng = draws.generator("speech", self.seed, key.epoch, key.index, attempt)
        number = key.index // self.samples_per_file
        speech = self.speech[rng.integers(len(self.speech)) if attempt else number]
        noise = self.noise[rng.integers(len(self.noise))]
        total, length = frames_at(speech, self.rate), self.frames(key)
        start, offset, frames = 0, 0, min(total, length)
        if self.length is not None:
            start, offset, frames = place(total, length, self.least_overlap_ratio, rng)
        total = frames_at(noise, self.rate)
        # Of a noise that is repeated, the segment may begin anywhere.
        noise_start = int(rng.integers(total - length + 1 if total >= length else total))
        return Scene(speech, start, frames, offset, noise, noise_start, self.snr.draw(rng))

    def _read(self, key: Key, stems: Audio, epoch: int | None) -> Plan:
        """Read speech and noise; rejected excerpts are counted in the epoch, if it is given."""
        length = stems.shape[-1]

        def draw(attempt: int) -> Plan:
            return _ScenePlan(self.scene(key, attempt), self.rate, length)

        def read(plan: Plan) -> None:
            assert isinstance(plan, _ScenePlan)
            self._read_scene(plan.scene, *stems)

        return self._redraw.settle(draw, read, lambda: level_db(stems[0]), epoch)

    def _read_scene(self, scene: Scene, speech: Audio, noise: Audio) -> None:
        """Read speech and noise (channels, samples), and scale the noise."""
        region = slice(scene.offset, scene.offset + scene.frames)
        speech[:] = 0
        speech[:, region] = self._read_part(scene.speech, scene.start, scene.frames)
        noise[:] = self._read_repeated(scene.noise, scene.noise_start, noise.shape[1])
        noise *= noise_gain(speech[:, region], noise[:, region], scene.snr_db)

    def _read_part(self, file: AudioFile, start: int, frames: int) -> Audio:
        """A part of a file, (channels or 1, frames)."""
        block = read_at(file, start, frames, self.rate)
        return block.mean(0, keepdims=True) if self.channels == 1 else block

    def _read_repeated(self, file: AudioFile, start: int, frames: int) -> Audio:
        """The same, from the beginning again where the file ends."""
        total = frames_at(file, self.rate)
        if start + frames <= total:
            return self._read_part(file, start, frames)
        return self._read_part(file, 0, total)[:, np.arange(start, start + frames) % total]


def place(
    total: int, length: int, least_overlap_ratio: float, rng: np.random.Generator
) -> tuple[int, int, int]:
    """Draw where a recording lies in relation to a segment, evenly among the places allowed.

        recording        ├──────────total──────────┤
        segment   ├─────length─────┤
                         ├─overlap─┤   at least the ratio of the segment, or all the recording

    Args:
        total: samples of the recording.
        length: samples of the segment.
        least_overlap_ratio: smallest share of the segment that the recording must overlap.
        rng: makes the draw.

    Returns:
        (start, offset, frames): `frames` samples of the recording from `start` on go into the
        segment from `offset` on; at least one.
    """
    overlap = min(total, max(1, math.ceil(least_overlap_ratio * length)))
    shift = int(rng.integers(overlap - total, length - overlap + 1))  # of the recording's beginning
    start, offset = max(0, -shift), max(0, shift)
    return start, offset, min(total - start, length - offset)


def _excerpt(file: AudioFile, start: int, frames: int, rate: int) -> Excerpt:
    """A part in the file's own frames, at most to its end."""
    first, last = (position * file.rate // rate for position in (start, start + frames))
    return Excerpt(file, first, min(last, file.frames) - first)
