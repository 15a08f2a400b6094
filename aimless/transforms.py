"""The short-time Fourier transform with its inverse, and sinc resampling.

Both are always computed in at least 32-bit floats, also where mixed precision is on: a
spectrum of loud music does not fit in 16 bits.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimless.errors import ConfigError

__all__ = ["STFT", "Resample", "at_least_float32", "no_autocast"]

# A Hann window falls to zero at its end. Up to this share of the window, the last samples of
# a signal (those after the last frame's centre) still lie under a window that can be undone.
_LARGEST_HOP = 0.49

# Coefficients of a resampling kernel; 2 ** 26 floats are 256 MB. Rates with a small common
# divisor need more, e.g. 44099 and 44100.
_LARGEST_KERNEL = 2**26


def no_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A context in which operations keep the precision of their inputs.

    Args:
        x: a tensor on the device that the computation runs on.
    """
    return torch.autocast(device_type=x.device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """16-bit tensors, real or complex, in 32-bit precision; others as they are."""
    if x.dtype in (torch.float16, torch.bfloat16):
        return x.float()
    if x.dtype == torch.complex32:
        return x.to(torch.complex64)
    return x


class STFT(nn.Module):
    """Short-time Fourier transform and its inverse, with a periodic Hann window.

    Frames are centred on multiples of the hop length, the signal is reflected at its ends.
    A signal shorter than `n_fft // 2 + 1` samples cannot be reflected; it is first padded
    with zeros at its end to that length. `inverse` undoes the pair exactly, to rounding.

    Args:
        n_fft: window length in samples, even, at least 4.
        hop_length: samples between frames, at most 0.49 of `n_fft`.

    Shape:
        forward: (..., samples) -> complex (..., bins, frames), bins = n_fft // 2 + 1 and
        frames = 1 + samples // hop_length.

    Raises:
        ConfigError: a length is out of range.

    >>> stft = STFT(512, 128)
    >>> stft(torch.zeros(2, 1280)).shape
    torch.Size([2, 257, 11])
    """

    window: Tensor

    def __init__(self, n_fft: int = 4096, hop_length: int = 1024) -> None:
        super().__init__()
        if n_fft < 4 or n_fft % 2:
            raise ConfigError(f"n_fft: {n_fft} is not an even number of at least 4")
        if not 1 <= hop_length <= _LARGEST_HOP * n_fft:
            raise ConfigError(
                f"hop_length: {hop_length} does not fit n_fft {n_fft}; "
                f"allowed are 1 to {int(_LARGEST_HOP * n_fft)}"
            )
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @property
    def bins(self) -> int:
        """Number of frequencies, 0 and half the sample rate included."""
        return self.n_fft // 2 + 1

    def extra_repr(self) -> str:
        """What `print` shows of the module."""
        return f"n_fft={self.n_fft}, hop_length={self.hop_length}"

    def forward(self, x: Tensor) -> Tensor:
        """Spectrogram of a waveform: (..., samples) -> complex (..., bins, frames)."""
        with no_autocast(x):
            x = at_least_float32(x)
            batch, samples = x.shape[:-1], x.shape[-1]
            x = F.pad(x, (0, max(0, self.bins - samples)))
            spec = torch.stft(
                x.reshape(-1, x.shape[-1]),
                self.n_fft,
                self.hop_length,
                window=self.window_like(x),
                return_complex=True,
            )
            return spec.reshape(*batch, *spec.shape[-2:])

    def inverse(self, spec: Tensor, length: int) -> Tensor:
        """Waveform of a spectrogram: complex (..., bins, frames) -> (..., samples).

        Args:
            spec: as `forward` gives it.
            length: samples to return, those that went into `forward`.
        """
        with no_autocast(spec):
            spec = at_least_float32(spec)
            x = torch.istft(
                spec.reshape(-1, *spec.shape[-2:]),
                self.n_fft,
                self.hop_length,
                window=self.window_like(spec.real),
                length=max(length, 1),  # torch.istft refuses 0
            )
            return x[:, :length].reshape(*spec.shape[:-2], length)

    def window_like(self, x: Tensor) -> Tensor:
        """The window (n_fft) in the precision of a real tensor."""
        if x.dtype == self.window.dtype:
            return self.window
        # computed anew, so that float64 gets a window of its own precision
        return torch.hann_window(self.n_fft, dtype=x.dtype, device=x.device)


class Resample(nn.Module):
    """Change of sample rate with a windowed sinc.

    A low-pass of `2 * 6` zero crossings under a squared cosine, cut off at 0.99 of the lower
    rate's Nyquist frequency (Smith, "Digital Audio Resampling", 2002); the same filter as
    torchaudio's default. Each of the `new` output phases is one filter of a strided
    convolution, `new` and `orig` being the rates over their greatest common divisor.

    Args:
        orig_freq: rate of the input in Hz, or any integer in the right ratio.
        new_freq: rate of the output, in the same unit.
        persistent: keep the kernel in the state dict, for checkpoints that hold it.

    Shape:
        (..., samples) -> (..., ceil(samples * new_freq / orig_freq))

    Raises:
        ConfigError: a rate is not positive, or the rates have so small a common divisor that
            the kernel would take more than 256 MB.
    """

    kernel: Tensor

    def __init__(self, orig_freq: int, new_freq: int, persistent: bool = False) -> None:
        super().__init__()
        if orig_freq < 1 or new_freq < 1:
            raise ConfigError(f"sample rates must be positive, got {orig_freq} and {new_freq}")
        divisor = math.gcd(orig_freq, new_freq)
        self.orig = orig_freq // divisor
        self.new = new_freq // divisor
        self.width = _sinc_width(self.orig, self.new)
        if self.new * (2 * self.width + self.orig) > _LARGEST_KERNEL:
            raise ConfigError(
                f"cannot resample {orig_freq} Hz to {new_freq} Hz: the rates' ratio "
                f"{self.new}/{self.orig} needs a kernel of more than 256 MB"
            )
        if self.orig == self.new:
            kernel = torch.ones(1, 1, 1)
        else:
            kernel = _sinc_kernel(self.orig, self.new, self.width)
        self.register_buffer("kernel", kernel, persistent=persistent)

    def extra_repr(self) -> str:
        """What `print` shows of the module."""
        return f"ratio={self.new}/{self.orig}"

    def forward(self, x: Tensor) -> Tensor:
        """Resample a waveform; equal rates return the input itself."""
        if self.orig == self.new:
            return x
        with no_autocast(x):
            x = at_least_float32(x)
            batch, samples = x.shape[:-1], x.shape[-1]
            length = -(-samples * self.new // self.orig)
            x = F.pad(x.reshape(-1, 1, samples), (self.width, self.width + self.orig))
            # (items, new, blocks): one output sample per phase in every block of `orig` inputs
            y = F.conv1d(x, self._kernel_like(x), stride=self.orig)
            return y.transpose(1, 2).reshape(*batch, -1)[..., :length]

    def _kernel_like(self, x: Tensor) -> Tensor:
        """The kernel in the precision of a tensor; anew where a 16-bit network has rounded it."""
        kernel = self.kernel
        if kernel.dtype.itemsize < 4 and self.orig != self.new:
            kernel = _sinc_kernel(self.orig, self.new, self.width).to(x.device)
        return kernel.to(x.dtype)


_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99


def _sinc_width(orig: int, new: int) -> int:
    """Input samples on each side of an output sample that the filter reaches."""
    return math.ceil(_ZERO_CROSSINGS * orig / (min(orig, new) * _ROLLOFF))


def _sinc_kernel(orig: int, new: int, width: int) -> Tensor:
    """Filters of all output phases, (new, 1, 2 * width + orig), from double precision."""
    cutoff = min(orig, new) * _ROLLOFF
    taps = torch.arange(-width, width + orig, dtype=torch.float64) / orig
    phases = torch.arange(new, dtype=torch.float64) / new
    # distance from output sample to input sample, in zero crossings of the sinc
    distance = (taps - phases[:, None]) * cutoff
    distance = distance.clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = torch.cos(distance * (math.pi / 2 / _ZERO_CROSSINGS)) ** 2
    return (torch.sinc(distance) * window * (cutoff / orig)).float()[:, None]
