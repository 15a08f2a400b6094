"""Recorded rooms and lossy coding on the training device."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import soundfile
import torch

from aimless.augment import Codec, RandomConvolutions
from aimless.augment.mdct import inverse_mdct, mdct
from aimless.augment.spectral import fast_length
from aimless.draws import generator
from aimless.errors import ConfigError, DataError

RATE = 44100


def noise(*shape: int) -> torch.Tensor:
    return 0.2 * torch.from_numpy(generator("noise").standard_normal(shape)).float()


def write(path, samples, channels=2, rate=RATE, seed=0):
    response = generator("response", seed).standard_normal((samples, channels)) / samples
    soundfile.write(path, response.astype(np.float32), rate, "FLOAT")
    return response.astype(np.float32).T


@pytest.mark.parametrize("samples", [5000, 40000])
@pytest.mark.parametrize("channels", [1, 2])
def test_convolution_is_causal_and_channel_by_channel(tmp_path, samples, channels):
    response = write(tmp_path / "a.WAV", 9000, channels)
    effect = RandomConvolutions(RATE, str(tmp_path), p=1.0)
    stems = noise(2, 1, 2, samples)
    result = effect(stems, generator(0))
    for item in range(2):
        for ear in range(2):
            x = stems[item, 0, ear].double().numpy()
            expected = np.convolve(x, response[ear % channels])[:samples]
            np.testing.assert_allclose(result[item, 0, ear], expected, atol=1e-6)


def test_each_stem_draws_its_response_from_all_depths(tmp_path):
    (tmp_path / "deeper").mkdir()
    for number, folder in enumerate((tmp_path, tmp_path / "deeper")):
        response = np.zeros((10, 1), np.float32)
        response[number] = 1  # a delay by that many samples
        soundfile.write(folder / "a.wav", response, RATE, "FLOAT")
    stems = torch.zeros(50, 2, 1, 100)
    stems[..., 0] = 1
    where = RandomConvolutions(RATE, str(tmp_path), p=1.0)(stems, generator(0)).argmax(-1)
    assert set(where.flatten().tolist()) == {0, 1}
    assert 25 < where.sum() < 75


def test_other_rates_are_resampled_and_many_channels_left_out(tmp_path, caplog):
    time = np.arange(4800) / 48000
    soundfile.write(tmp_path / "tone.wav", np.sin(2 * np.pi * 1000 * time), 48000, "FLOAT")
    write(tmp_path / "wide.wav", 100, channels=4)
    with caplog.at_level(logging.WARNING):
        effect = RandomConvolutions(24000, str(tmp_path))
    assert "wide.wav: left out, it has 4 channels" in caplog.text
    (response,) = effect.responses
    assert response.shape == (2, 2400)
    expected = np.sin(2 * np.pi * 1000 * np.arange(2400) / 24000)
    np.testing.assert_allclose(response[0, 200:-200], expected[200:-200], atol=1e-3)


def test_what_is_wrong_with_the_folder_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"ir_folder: .*nowhere' is not a folder"):
        RandomConvolutions(RATE, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="holds no WAV file of one or two channels"):
        RandomConvolutions(RATE, str(tmp_path))
    bad = tmp_path / "bad.wav"
    for content, message in (
        (b"no audio", "cannot be read"),
        (np.zeros((0, 1)), "holds no audio"),
        (np.array([[np.nan]]), "not finite"),
    ):
        if isinstance(content, bytes):
            bad.write_bytes(content)
        else:
            soundfile.write(bad, content, RATE, "FLOAT")
        with pytest.raises(DataError, match=message) as caught:
            RandomConvolutions(RATE, str(tmp_path))
        assert str(caught.value).startswith(str(bad))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("samples", [1, 575, 576, 577, 20000])
def test_the_transform_of_the_codec_is_undone(samples):
    x = noise(2, 1, samples)
    torch.testing.assert_close(inverse_mdct(mdct(x, 576), samples), x, rtol=0, atol=1e-6)


def test_the_transform_of_the_codec_by_its_definition():
    x, lines = noise(96).double(), 16
    padded = np.pad(x.numpy(), (lines, lines))
    n, k = np.arange(2 * lines), np.arange(lines)[:, None]
    window = np.sin(np.pi * (n + 0.5) / 2 / lines)
    kernel = np.cos(np.pi / lines * (n + 0.5 + lines / 2) * (k + 0.5))
    frames = [padded[begin : begin + 2 * lines] * window for begin in range(0, 96 + 1, lines)]
    np.testing.assert_allclose(mdct(x, lines), np.array(frames) @ kernel.T, atol=1e-12)


def coded(x, kbps):
    return Codec(min_bitrate_kbps=kbps, max_bitrate_kbps=kbps, p=1.0)(x, generator(0))


def test_more_bits_leave_less_noise_and_a_higher_band():
    x = noise(1, 1, 2, 2 * RATE)
    frequency = torch.fft.rfftfreq(2 * RATE, 1 / RATE)
    previous = 0.0
    for kbps, cutoff in ((64, 11000), (128, 17000), (192, 18600), (320, 20500)):
        y = coded(x, kbps)
        ratio = 20 * torch.log10(x.norm() / (y - x).norm())
        assert ratio > previous + 1
        previous = float(ratio)
        power = torch.fft.rfft(y[0, 0, 0] * torch.hann_window(2 * RATE)).abs().square()
        assert power[frequency > cutoff + 300].sum() < 1e-6 * power.sum()
        assert power[(frequency > cutoff - 1000) & (frequency < cutoff - 200)].mean() > 1e-4
    assert previous > 10  # the lost band alone is 11.5 dB below


def test_the_codec_spends_the_bits_that_it_is_given():
    """The entropy of the rounded lines is near the bit rate."""
    from aimless.augment import codec

    x = noise(1, 1, 2, 2 * RATE)[0] * torch.exp(-torch.linspace(0, 6, 2 * RATE))
    for kbps in (64, 128, 256):
        spectra = mdct(x[None], 576)
        bits = torch.full((1, 1, 1), kbps * 500 * 576 / RATE)
        step = codec._step_sizes(spectra, bits, RATE)
        whole = ((spectra.abs() / step).pow(0.75) + 0.4054).floor() * spectra.sign()
        _, counts = torch.unique(whole, return_counts=True)
        share = counts / counts.sum()
        entropy = -(share * share.log2()).sum() * RATE * 2 / 1000
        assert 0.5 * kbps < entropy < 1.8 * kbps


def test_the_codec_is_not_late_and_keeps_what_is_simple():
    time = torch.arange(RATE) / RATE
    tone = (0.5 * torch.sin(2 * torch.pi * 440 * time)).expand(1, 1, 1, -1)
    y = coded(tone, 128)
    assert (y - tone)[..., 1000:-1000].norm() < 0.02 * tone.norm()


@pytest.mark.parametrize("samples", [1, 2, 3, 17, 97, 1000, 66151, 882001])
def test_fast_lengths_have_small_factors_and_are_the_next(samples):
    length = fast_length(samples)
    assert length >= samples
    assert length % 2 == 0

    def small(n):
        for prime in (2, 3, 5):
            while n % prime == 0:
                n //= prime
        return n == 1

    assert small(length)
    assert not any(small(n) for n in range(samples + samples % 2, length, 2) if n > 1)
