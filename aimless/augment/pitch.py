"""Change of pitch at the same speed: phase vocoder, then resampling."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimless.augment.base import CudaBase
from aimless.errors import ConfigError
from aimless.transforms import STFT, Resample

__all__ = ["RandomPitch", "phase_vocoder", "pitch_percentage"]

_LARGEST_SHIFT = 24


def pitch_percentage(semitones: float) -> int:
    """Frequency ratio of a shift, in hundredths, rounded down and then up to an even number.

    Even, so that it has a common divisor with 100 and the resampling kernel stays small.

    >>> [pitch_percentage(semitones) for semitones in (-2, -1, 0, 1, 2)]
    [90, 94, 100, 106, 112]
    """
    ratio = int(100 * 2 ** (semitones / 12))
    return ratio + ratio % 2


def phase_vocoder(
    spec: Tensor, stretch: Fraction, hop_length: int, double_phase: bool = False
) -> Tensor:
    """Stretch a spectrogram in time without changing its frequencies.

    Frame k of the result stands at k / stretch in the input: its magnitude is interpolated
    there, its phase is that of frame k - 1 plus what the input's phase gains there from one
    frame to the next (Flanagan and Golden, 1966; Dolson, 1986).

    Args:
        spec: complex (..., bins, frames).
        stretch: length of the result over the length of the input, positive.
        hop_length: samples between frames.
        double_phase: add the phases up in double precision, see `RandomPitch`.

    Returns:
        complex (..., bins, ceil(frames * stretch))
    """
    bins, frames = spec.shape[-2:]
    steps = -(-frames * stretch.numerator // stretch.denominator)
    position = torch.arange(steps, device=spec.device) * stretch.denominator
    left = position // stretch.numerator
    fraction = (position % stretch.numerator).to(spec.real.dtype) / stretch.numerator

    # one frame of silence after the end, to interpolate towards
    spec = F.pad(spec, (0, 1))
    magnitude, phase = spec.abs(), spec.angle()
    magnitude = torch.lerp(
        magnitude.index_select(-1, left), magnitude.index_select(-1, left + 1), fraction
    )
    phase = phase.double() if double_phase else phase
    # radians that the centre frequency of each bin gains in one hop, (bins, 1)
    advance = torch.linspace(
        0, torch.pi * hop_length, bins, dtype=phase.dtype, device=phase.device
    )[:, None]
    gain = _wrap(phase.diff(dim=-1) - advance) + advance
    total = torch.cat([phase[..., :1], gain.index_select(-1, left[:-1])], dim=-1)
    # summed in double on every device; torch's float32 sum on a GPU would drift
    phase = total.cumsum(-1, dtype=torch.float64).to(phase.dtype)
    return torch.polar(magnitude.to(phase.dtype), phase).to(spec.dtype)


def _wrap(phase: Tensor) -> Tensor:
    """The same angle between -pi and pi."""
    return phase - 2 * torch.pi * torch.round(phase / (2 * torch.pi))


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
        ratio = pitch_percentage(choice)
        spec = phase_vocoder(
            self.stft(x), Fraction(ratio, 100), self.stft.hop_length, self.double_phase
        )
        # a single frame still stands for the samples up to where the next one would be
        length = max(spec.shape[-1] - 1, 1) * self.stft.hop_length
        return self.resamplers[str(ratio)](self.stft.inverse(spec, length))
