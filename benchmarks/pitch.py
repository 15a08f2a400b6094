"""Device augmentation RandomPitch beside its published form, in ms per second of a stereo stem.

Ten stems of 10 s and 44.1 kHz, each shifted by one of four intervals. The published form goes from
ratio to ratio: it gathers the stems by a boolean mask and sends them through torchaudio's
spectrogram, phase vocoder, inverse and resampling, also those whose ratio is 1. Both take turns
in one process. The second line is of stems of which a fifth draws a ratio of 1, as
in the published configurations. torchaudio is needed.

    PYTHONPATH=. python benchmarks/pitch.py --threads 1
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional
import torchaudio.transforms
from torch import Tensor, nn
from turns import in_turns, options

from aimless.augment import RandomPitch
from aimless.augment.pitch import pitch_percentage
from aimless.draws import generator

RATE, SECONDS, STEMS = 44100, 10, 10
N_FFT, HOP = 2048, 512


class Published(nn.Module):
    """A pass per ratio."""

    def __init__(self, semitones: list[int]) -> None:
        super().__init__()
        self.percentages = [pitch_percentage(shift) for shift in semitones]
        self.spectrogram = torchaudio.transforms.Spectrogram(N_FFT, hop_length=HOP, power=None)
        self.inverse = torchaudio.transforms.InverseSpectrogram(N_FFT, hop_length=HOP)
        self.stretches = nn.ModuleList(
            torchaudio.transforms.TimeStretch(HOP, N_FFT // 2 + 1, fixed_rate=100 / percent)
            for percent in self.percentages
        )
        self.resamplers = nn.ModuleList(
            torchaudio.transforms.Resample(percent, 100) for percent in self.percentages
        )

    def forward(self, stems: Tensor, picks: Tensor) -> Tensor:
        """Shift (stems, channels, samples) by choices (stems)."""
        result = torch.empty_like(stems)
        for number in range(len(self.percentages)):
            mask = picks == number
            if mask.any():
                spec = self.stretches[number](self.spectrogram(stems[mask]))
                y = self.resamplers[number](self.inverse(spec))[..., : stems.shape[-1]]
                result[mask] = F.pad(y, (0, stems.shape[-1] - y.shape[-1]))
        return result


def compare(semitones: list[int], repeats: int) -> str:
    """Ms per stem-second of both forms."""
    noise = generator("pitch").standard_normal((STEMS, 2, RATE * SECONDS))
    stems = torch.from_numpy(noise.astype(np.float32))
    # each choice as often as the others
    order = np.arange(STEMS) % len(semitones)
    ours = RandomPitch(semitones, N_FFT, HOP, p=1.0)
    ours.picks = lambda uniform: order  # type: ignore[method-assign]
    published, picks = Published(semitones), torch.from_numpy(order)

    @torch.no_grad()
    def run_ours() -> Tensor:
        return ours(stems[:, None])

    @torch.no_grad()
    def run_published() -> Tensor:
        return published(stems, picks)

    seconds = in_turns({"published": run_published, "ours": run_ours}, repeats)
    there, here = (1000 * seconds[form] / STEMS / SECONDS for form in ("published", "ours"))
    return f"published {there:.2f}, ours {here:.2f}, ratio {there / here:.1f}"


def main() -> None:
    """Print both lines."""
    parsed = options(__doc__, repeats=5)
    for name, semitones in (
        ("every stem is shifted", [-2, -1, 1, 2]),
        ("a fifth has a ratio of 1", [-2, -1, 0, 1, 2]),
    ):
        result = compare(semitones, parsed.repeats)
        print(f"{name}, {parsed.threads} threads, ms per stem-second: {result}", flush=True)


if __name__ == "__main__":
    main()
