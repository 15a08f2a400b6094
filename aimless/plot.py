"""Spectrogram pictures, for the eye that checks what the ear will hear."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aimless.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["png_bytes", "spectrogram_figure"]

FLOOR_DB = -80.0
#: Lowest frequency shown, in Hz.
LOWEST = 40.0


def spectrogram_figure(
    rows: Mapping[str, Mapping[str, Tensor]], sample_rate: int, title: str = ""
) -> Figure:
    """Draw a grid of spectrograms on one dB scale, with a logarithmic frequency axis.

    Args:
        rows: row label -> column label -> waveform (channels, samples); channels are averaged
            in power. All rows have the same columns.
        sample_rate: in Hz.
        title: above the picture.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: pip install 'aimless[train]'") from error

    columns = len(next(iter(rows.values())))
    figure = Figure(figsize=(4.2 * columns + 0.8, 1.9 * len(rows) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    levels = {
        (row, column): _power(waveform)
        for row, cells in rows.items()
        for column, waveform in cells.items()
    }
    peak = max(float(power.max()) for power in levels.values()) or 1.0
    for y, (row, cells) in enumerate(rows.items()):
        for x, (column, waveform) in enumerate(cells.items()):
            power = levels[row, column]
            decibels = 10 * np.log10(np.maximum(power / peak, 10 ** (FLOOR_DB / 10)))
            frequencies = np.linspace(0, sample_rate / 2, power.shape[0])
            seconds = np.linspace(0, waveform.shape[-1] / sample_rate, power.shape[1])
            axis = axes[y, x]
            image = axis.pcolormesh(
                seconds, frequencies, decibels, vmin=FLOOR_DB, vmax=0, cmap="magma", rasterized=True
            )
            axis.set_yscale("log")
            axis.set_ylim(LOWEST, sample_rate / 2)
            axis.set_yticks([100, 1000, 10000], ["100 Hz", "1 kHz", "10 kHz"])
            axis.minorticks_off()
            if y == 0:
                axis.set_title(column)
            if x == 0:
                axis.set_ylabel(row)
            if y == len(rows) - 1:
                axis.set_xlabel("time (s)")
    figure.colorbar(image, ax=axes, label="dB below the loudest", shrink=0.8)
    if title:
        figure.suptitle(title)
    return figure


def png_bytes(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _power(waveform: Tensor, n_fft: int = 2048, most_frames: int = 800) -> np.ndarray:
    """Power spectrogram (bins, frames) of (channels, samples); its hop grows with the length."""
    waveform = waveform.detach().float().cpu()
    hop = max(256, waveform.shape[-1] // most_frames)
    padded = torch.nn.functional.pad(waveform, (n_fft // 2, n_fft // 2))
    spectrogram = torch.stft(
        padded,
        n_fft,
        hop,
        window=torch.hann_window(n_fft),
        center=False,
        return_complex=True,
    )
    return spectrogram.abs().square().mean(0).numpy()
