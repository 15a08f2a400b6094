"""STFT pair and resampling, against torch, torchaudio and a plain float64 sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aimless.errors import ConfigError
from aimless.transforms import STFT, Resample

RATES = [(1, 2), (2, 1), (10, 9), (10, 11), (106, 100), (94, 100), (44100, 48000), (48000, 44100)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stft_is_torch_stft(dtype):
    x = noise(3, 1000).to(dtype)
    window = torch.hann_window(256, dtype=dtype)
    expected = torch.stft(x, 256, 64, window=window, return_complex=True)
    assert torch.equal(STFT(256, 64)(x), expected)


@pytest.mark.parametrize("length", [0, 1, 2, 63, 64, 128, 129, 1000, 1024, 1087])
@pytest.mark.parametrize("hop", [1, 64, 100, 125])
def test_inverse_undoes_stft(length, hop):
    stft = STFT(256, hop)
    x = noise(2, 3, length)
    spec = stft(x)
    assert spec.shape == (2, 3, 129, 1 + max(length, 129) // hop)
    torch.testing.assert_close(stft.inverse(spec, length), x, rtol=0, atol=1e-10)
    y = stft.inverse(stft(x.float()), length)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, x.float(), rtol=0, atol=2e-4 if hop > 100 else 1e-5)


def test_stft_takes_a_single_waveform():
    x = noise(700)
    stft = STFT(256, 64)
    torch.testing.assert_close(stft.inverse(stft(x), 700), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stft_of_loud_half_precision_does_not_overflow(dtype):
    stft = STFT(4096, 1024)
    x = torch.full((1, 8192), 60.0, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spec = stft(x)
        y = stft.inverse(spec, 8192)
    assert spec.dtype == torch.complex64
    # half of the window's 4096 samples times 60, above float16's 65504
    assert spec[0, 0, 4].abs().item() == pytest.approx(60 * 2048, rel=1e-5)
    torch.testing.assert_close(y, x.float(), rtol=1e-5, atol=1e-5)


def test_transforms_add_nothing_to_the_state_dict():
    assert not STFT(256, 64).state_dict()
    assert not Resample(1, 2).state_dict()
    assert list(Resample(1, 2, persistent=True).state_dict()) == ["kernel"]


@pytest.mark.parametrize(
    ("n_fft", "hop"), [(0, 1), (2, 1), (511, 128), (512, 0), (512, 256), (512, 513), (512, -1)]
)
def test_stft_arguments(n_fft, hop):
    with pytest.raises(ConfigError, match=r"n_fft|hop_length"):
        STFT(n_fft, hop)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("length", [1, 7, 1000])
def test_resample_is_torchaudio(rates, length):
    transforms = pytest.importorskip("torchaudio").transforms
    x = 0.1 * noise(2, 3, length).float()
    ours = Resample(*rates)
    # torchaudio with a float64 kernel: its default one rounds the phases to float32, which
    # shows where the rates' common divisor is small
    oracle = transforms.Resample(*rates, dtype=torch.float64)
    assert ours.kernel.shape == oracle.kernel.shape
    torch.testing.assert_close(ours.kernel.double(), oracle.kernel, rtol=0, atol=1e-7)
    torch.testing.assert_close(ours(x).double(), oracle(x.double()), rtol=0, atol=1e-6)
    default = transforms.Resample(*rates)
    torch.testing.assert_close(ours(x), default(x), rtol=0, atol=1e-6 if rates[0] < 200 else 5e-6)


@pytest.mark.parametrize("rates", [(3, 2), (4, 7)])
def test_resample_is_a_windowed_sinc_sum(rates):
    orig, new = rates
    x = noise(50)
    cutoff = 0.99 * min(1, new / orig)
    expected = []
    for k in range(math.ceil(50 * new / orig)):
        distance = (np.arange(50) - k * orig / new) * cutoff
        window = np.where(np.abs(distance) < 6, np.cos(np.pi * distance / 12) ** 2, 0)
        expected.append((x.numpy() * np.sinc(distance) * window * cutoff).sum())
    y = Resample(orig, new)(x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


def test_resample_keeps_a_tone():
    old, new = torch.arange(4410) / 44100, torch.arange(4800) / 48000
    y = Resample(44100, 48000)(torch.sin(2 * torch.pi * 1000 * old))
    expected = torch.sin(2 * torch.pi * 1000 * new)
    assert (y - expected)[100:-100].abs().max() < 2e-3


def test_equal_rates_return_the_input():
    x = noise(2, 10)
    assert Resample(44100, 44100)(x) is x


def test_resample_gradient():
    x = noise(2, 12).requires_grad_()
    assert torch.autograd.gradcheck(Resample(3, 2).double(), x)


def test_resample_in_mixed_precision_stays_float32():
    x = noise(2, 500).float()
    resample = Resample(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = resample(x)
    assert torch.equal(y, resample(x))
    assert resample(x.half()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_resample_in_a_network_of_16_bits_keeps_its_precision(dtype):
    x = noise(2, 500).float()
    assert torch.equal(Resample(2, 3).to(dtype)(x), Resample(2, 3)(x))


@pytest.mark.parametrize("rates", [(0, 1), (1, -1), (44099, 44100)])
def test_resample_arguments(rates):
    with pytest.raises(ConfigError, match=str(rates[0])):
        Resample(*rates)
