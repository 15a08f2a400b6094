"""Convolution with recorded impulse responses."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimless.augment.base import DeviceEffect
from aimless.augment.lazy import LazyStems, Settings, on_device
from aimless.draws import require
from aimless.errors import ConfigError, DataError

__all__ = ["RandomConvolutions"]

logger = logging.getLogger(__name__)


class RandomConvolutions(DeviceEffect):
    """Convolve stems with impulse responses drawn from a folder of WAV files.

    The result is causal and as long as the stem. The responses are used at the level that they
    were recorded at. The left channel is convolved with the left one of the response, the
    right with the right; a mono response serves both, and a mono stem takes the left.

    All files are read once, when the effect is made; they are not part of its state dict.

    Args:
        target_sr: sample rate in Hz; responses of other rates are resampled.
        ir_folder: folder with WAV files, at any depth. Files of more than two channels are left
            out, with a warning.
        p: probability per stem, from 0 to 1.

    Shape:
        stems (batch, sources, channels, samples) -> the same.

    Raises:
        ConfigError: a value that is not allowed, or no such folder.
        DataError: a file that cannot be read, is empty, or holds samples that are not finite; or
            no usable file.
    """

    def __init__(self, target_sr: int, ir_folder: str, p: float = 0.2) -> None:
        super().__init__(p)
        require(self, "target_sr", target_sr, 1)
        folder = Path(ir_folder)
        if not folder.is_dir():
            raise ConfigError(f"RandomConvolutions.ir_folder: {ir_folder!r} is not a folder")
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".wav")
        read = [_read(path, target_sr) for path in paths]
        self.responses = [response for response in read if response is not None]
        if not self.responses:
            raise DataError(f"{ir_folder}: holds no WAV file of one or two channels")

    def extra_repr(self) -> str:
        """What `print` shows of the module."""
        return f"responses={len(self.responses)}, p={self.p}"

    def numbers(self, samples: int) -> int:
        """One, which picks the response."""
        return 1

    def change(
        self, stems: LazyStems, chosen: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> None:
        """A response for each chosen stem."""
        picks = (uniform[:, 0] * len(self.responses)).astype(np.int64)
        lengths = np.array([self.responses[pick].shape[1] for pick in picks])
        # what comes after the end of the stem is not heard
        heard = np.minimum(lengths, stems.samples)
        settings = {"pick": picks, "heard": heard}
        stems.filter(chosen, self._convolve, settings, heard)

    def _convolve(self, spectra: Tensor, settings: Settings, n_fft: int) -> Tensor:
        responses = np.zeros((len(spectra), 2, settings["heard"].max()), np.float32)
        for row, (pick, heard) in enumerate(zip(settings["pick"], settings["heard"])):
            responses[row, :, :heard] = self.responses[pick][:, :heard]
        # (stems, 2, bins)
        transfer = torch.fft.rfft(on_device(responses, spectra), n=n_fft)
        ears = np.arange(spectra.shape[1]) % 2
        return spectra * transfer.index_select(1, on_device(ears, spectra))[:, :, None]


def _read(path: Path, rate: int) -> NDArray[np.float32] | None:
    """A response (2, samples); None if it has more than two channels."""
    try:
        response, recorded = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: cannot be read as an impulse response: {error}") from error
    if response.shape[1] > 2:
        logger.warning("%s: left out, it has %d channels", path, response.shape[1])
        return None
    if not len(response):
        raise DataError(f"{path}: holds no audio")
    if not np.isfinite(response).all():
        raise DataError(f"{path}: holds samples that are not finite")
    if recorded != rate:
        response = soxr.resample(response, recorded, rate)
    return np.ascontiguousarray(np.broadcast_to(response.T, (2, len(response))))
