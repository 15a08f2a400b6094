"""The change of pitch: the phase vocoder, the FFT around it, and what becomes of sounds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from aimless import draws
from aimless.augment import RandomPitch, frames
from aimless.augment.frames import Spectra, overlap_add
from aimless.augment.pitch import pitch_percentage
from aimless.augment.vocoder import phase_vocoder
from aimless.errors import ConfigError
from aimless.transforms import STFT


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def in_blocks(spec: torch.Tensor, size: int = 7) -> tuple[torch.Tensor, ...]:
    """(signals, bins, frames) as blocks of (signals, frames, bins)."""
    return spec.transpose(1, 2).split(size, 1)


def joined(blocks) -> torch.Tensor:
    """(signals, bins, frames) of blocks of (signals, frames, bins)."""
    return torch.cat(list(blocks), 1).transpose(1, 2)


def pitch(**kwargs):
    defaults = {"semitones": [-1, 0, 2], "n_fft": 128, "hop_length": 32, "p": 1.0}
    return RandomPitch(**{**defaults, **kwargs})


@pytest.mark.parametrize("shift", [-7, -2, -1, 1, 5])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_phase_vocoder_is_torchaudio(shift, dtype):
    functional = pytest.importorskip("torchaudio").functional
    stretch = Fraction(pitch_percentage(shift), 100)
    spec = STFT(256, 64)(noise(6, 3000).double()).to(dtype)
    advance = torch.linspace(0, math.pi * 64, 129, dtype=spec.real.dtype)[:, None]
    expected = functional.phase_vocoder(spec, float(1 / stretch), advance)
    ours = joined(phase_vocoder(in_blocks(spec), spec.shape[-1], [stretch] * 6, 64))
    # the last bit of a phase of 64 pi radians in each of 50 frames
    tolerance = 1e-9 if dtype == torch.complex128 else 2e-3
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance * spec.abs().max())


@pytest.mark.parametrize("frames", [1, 2, 7, 50])
@pytest.mark.parametrize("percent", [50, 90, 106, 200])
def test_phase_vocoder_by_its_definition(frames, percent):
    spec = torch.complex(noise(5, frames), noise(5, frames, seed=1)).to(torch.complex128)
    padded = np.concatenate([spec.numpy(), np.zeros((5, 1))], axis=1)
    steps = math.ceil(Fraction(frames * percent, 100))
    phase, expected = np.angle(padded[:, 0]), []
    for k in range(steps):
        left, rest = divmod(Fraction(100 * k, percent), 1)
        magnitude = (1 - float(rest)) * np.abs(padded[:, left])
        magnitude += float(rest) * np.abs(padded[:, left + 1])
        expected.append(magnitude * np.exp(1j * phase))
        phase += np.angle(padded[:, left + 1]) - np.angle(padded[:, left])
    others = [Fraction(1), Fraction(percent, 100), Fraction(3)]
    blocks = in_blocks(spec.expand(3, -1, -1))
    result = joined(phase_vocoder(blocks, frames, others, hop_length=3))[1]
    np.testing.assert_allclose(result[:, :steps], np.stack(expected, axis=1), rtol=0, atol=1e-10)
    assert not result[:, steps:].any()


def test_all_ratios_together_equal_one_at_a_time():
    stems = noise(6, 3, 2, 5000)
    augment = pitch(semitones=[-7, -2, 0, 1, 5], p=0.8)
    together = augment(stems, draws.generator(4))
    key = int(draws.generator(4).integers(2**63))
    table = draws.generator("stems", key).random((18, 2))
    for stem, (drawn, pick) in enumerate(table):
        x = stems.flatten(0, 1)[stem : stem + 1]
        choice = augment.choices[int(pick * 5)]
        if drawn < 0.8 and choice:
            y = augment.transform(x, choice)[..., :5000]
            x = torch.nn.functional.pad(y, (0, 5000 - y.shape[-1]))
        torch.testing.assert_close(together.flatten(0, 1)[stem], x[0], rtol=0, atol=1e-5)


def test_the_size_of_the_blocks_changes_nothing(monkeypatch):
    stems, results = noise(2, 2, 2, 5000), []
    for cached in (1, 2000, 1 << 30):
        monkeypatch.setattr(frames, "_CACHED", cached)
        augment = pitch(semitones=[-7, -2, 5], double_phase=True)
        results.append(augment(stems, draws.generator(1)))
    assert not torch.equal(results[0], stems)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n_fft", "hop"), [(128, 32), (128, 50), (130, 60), (64, 1)])
def test_overlap_add_is_torch_istft(n_fft, hop):
    stft = STFT(n_fft, hop)
    spec = stft(noise(3, 1000))
    counts = [spec.shape[-1] // 2] * 2 + [spec.shape[-1]]
    spec[:2, :, counts[0] :] = 0
    waves = overlap_add(in_blocks(spec), stft, counts)
    for signal, count in enumerate(counts):
        length = (count - 1) * hop
        expected = stft.inverse(spec[signal, :, :count], length)
        torch.testing.assert_close(waves[signal, :length], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("samples", [1, 64, 1000, 70000])
@pytest.mark.parametrize(("n_fft", "hop"), [(128, 32), (130, 60)])
def test_spectra_in_blocks_are_the_spectrogram(samples, n_fft, hop):
    stft, x = STFT(n_fft, hop), noise(3, samples)
    spectra = Spectra(x, stft)
    torch.testing.assert_close(joined(spectra), stft(x), rtol=0, atol=1e-5)
    assert spectra.count == stft(x).shape[-1]


def test_double_phase_keeps_the_accuracy_of_long_signals():
    x = noise(1, 1, 132300)
    options = {"n_fft": 2048, "hop_length": 512, "semitones": [2]}
    exact = pitch(**options).transform(x.double(), 2)
    error = {}
    for double_phase in (False, True):
        y = pitch(**options, double_phase=double_phase).transform(x, 2)
        assert y.dtype == torch.float32
        error[double_phase] = 20 * torch.log10((y - exact).norm() / exact.norm()).item()
    # what is left comes from bins that are almost silent, whose phase is rounding
    assert error[True] < -65
    assert error[False] > -50


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_tone_moves_and_keeps_its_length(shift):
    time = torch.arange(22050) / 22050
    # a cosine goes on smoothly in its reflection, before the first sample
    tone = torch.cos(2 * torch.pi * 1000 * time)[None, None, None]
    augment = RandomPitch([shift], p=1.0)
    y = augment(tone, draws.generator(0))[0, 0, 0]
    assert y.shape == time.shape
    inside = y[2000:18000]
    peak = torch.fft.rfft(inside * torch.hann_window(16000)).abs().argmax() * 22050 / 16000
    assert peak.item() == pytest.approx(10 * pitch_percentage(shift), abs=2)
    assert inside.square().mean().item() == pytest.approx(0.5, rel=0.02)


def test_percentages_are_even():
    for tenth in range(-240, 241):
        ratio = pitch_percentage(tenth / 10)
        assert ratio % 2 == 0
        assert abs(ratio - 100 * 2 ** (tenth / 120)) <= 1


def test_published_list_names_a_shift_twice():
    augment = RandomPitch([-1, 1, 0, 1, 2])
    assert augment.choices.count(1) == 2


@pytest.mark.parametrize(
    "arguments",
    [{"semitones": []}, {"semitones": [25]}, {"n_fft": 7}, {"hop_length": 0}, {"p": 2}],
)
def test_arguments(arguments):
    with pytest.raises(ConfigError):
        RandomPitch(**arguments)
