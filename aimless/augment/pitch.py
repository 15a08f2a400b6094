"""Change of pitch at the same speed: phase vocoder, then resampling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aimless.augment.base import CudaBase
from aimless.augment.frames import Spectra, overlap_add
from aimless.augment.lazy import LazyStems
from aimless.augment.vocoder import phase_vocoder, stretched_frames
from aimless.errors import ConfigError
from aimless.transforms import STFT, Resample, at_least_float32, no_autocast

__all__ = ["RandomPitch", "pitch_percentage"]

_LARGEST_SHIFT = 24

# Samples of stems that a CPU works on at a time.
_CACHED = 1 << 20


def pitch_percentage(semitones: float) -> int:
    """Frequency ratio of a shift, in hundredths, rounded down and then up to an even number.

    Even, so that it has a common divisor with 100 and the resampling kernel stays small.

    >>> [pitch_percentage(semitones) for semitones in (-2, -1, 0, 1, 2)]
    [90, 94, 100, 106, 112]
    """
    ratio = int(100 * 2 ** (semitones / 12))
    return ratio + ratio % 2


class RandomPitch(CudaBase):
    """Shift the pitch of stems by a number of semitones, keeping their length.

    Args:
        semitones: shifts to draw from, each within two octaves; a value named twice is drawn
            twice as often.
        n_fft: window length of the phase vocoder in samples.
        hop_length: hop length of the phase vocoder in samples.
        p: probability that a stem is drawn.
        double_phase: keep the vocoder's phases in double precision. They grow by up to
            pi * hop_length radians per frame, so that single precision, which published
            results were made with, leaves noise at high frequencies: 62 dB below white noise
            of half a second, 35 dB below ten seconds of it.

    Gradients end here: neither the phases nor what is written in place is differentiated.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        semitones: Sequence[float] = (-2, -1, 0, 1, 2),
        n_fft: int = 2048,
        hop_length: int = 512,
        p: float = 0.2,
        double_phase: bool = False,
    ) -> None:
        super().__init__(semitones, p)
        for shift in semitones:
            if not -_LARGEST_SHIFT <= shift <= _LARGEST_SHIFT:
                raise ConfigError(
                    f"semitones: {shift} is not between -{_LARGEST_SHIFT} and {_LARGEST_SHIFT}"
                )
        self.double_phase = double_phase
        self.stft = STFT(n_fft, hop_length)
        ratios = sorted({pitch_percentage(shift) for shift in semitones})
        self.resamplers = nn.ModuleDict({str(ratio): Resample(ratio, 100) for ratio in ratios})

    def is_identity(self, choice: float) -> bool:
        """A shift of so few cents that the ratio is 100 hundredths changes nothing."""
        return pitch_percentage(choice) == 100

    def transform(self, x: Tensor, choice: float) -> Tensor:
        """Stretch (N, channels, samples) by the ratio, then play it faster by the same."""
        (shifted,) = self._shift(x, [pitch_percentage(choice)] * len(x))
        return shifted

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """Transform the stems of all choices together, but those that change nothing."""
        ratios = np.array([pitch_percentage(self.choices[pick]) for pick in self.picks(uniform)])
        # those of one ratio side by side
        order = np.argsort(ratios, kind="stable")
        order = order[ratios[order] != 100]
        if len(order):
            stems.replace(chosen[order], lambda x: self._shift_and_fit(x, ratios[order].tolist()))

    def _shift_and_fit(self, x: Tensor, ratios: list[int]) -> Tensor:
        """Shift stems whose ratios ascend; on a CPU some at a time, for the sake of its cache."""
        together = max(1, _CACHED // x[0].numel()) if x.device.type == "cpu" else len(x)
        result = torch.empty_like(x)
        for begin in range(0, len(x), together):
            part = slice(begin, begin + together)
            first = begin
            for shifted in self._shift(x[part], ratios[part]):
                place = result[first : first + len(shifted)]
                samples = min(x.shape[-1], shifted.shape[-1])
                place[..., :samples] = shifted[..., :samples]
                place[..., samples:] = 0
                first += len(shifted)
        return result

    @torch.no_grad()
    def _shift(self, x: Tensor, ratios: list[int]) -> list[Tensor]:
        """Shift stems (N, channels, samples), whose ratios ascend.

        Returns:
            For each ratio, its stems (n, channels, any).
        """
        channels, hop = x.shape[1], self.stft.hop_length
        with no_autocast(x):
            spectra = Spectra(at_least_float32(x).flatten(0, 1), self.stft)
            stretches = [Fraction(ratio, 100) for ratio in ratios for _ in range(channels)]
            counts = [stretched_frames(spectra.count, stretch) for stretch in stretches]
            blocks = phase_vocoder(spectra, spectra.count, stretches, hop, self.double_phase)
            waves = overlap_add(blocks, self.stft, counts).unflatten(0, (-1, channels))
        shifted, begin = [], 0
        for ratio, same in itertools.groupby(ratios):
            end = begin + len(list(same))
            # a single frame still stands for the samples up to where the next one would be
            length = max(counts[begin * channels] - 1, 1) * hop
            shifted.append(self.resamplers[str(ratio)](waves[begin:end, :, :length]))
            begin = end
        return shifted
