"""X-UMX: one network that masks all sources, with a meeting point between them.

Sawata, Uhlich, Takahashi and Mitsufuji, "All for one and one for all: improving music
separation by bridging networks" (ICASSP 2021), after Open-Unmix (Stöter et al., 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from aimless.errors import ConfigError
from aimless.models.blocks import run_lstm
from aimless.sources import MDX_SOURCES

__all__ = ["X_UMX"]

_LSTM_DROPOUT = 0.4


class X_UMX(nn.Module):
    """Masks for all sources from a magnitude spectrogram.

    Each source has its own encoder and decoder, one group of a grouped convolution. Between
    them all sources share their mean, and each source's LSTM runs on that mean.

    Args:
        n_fft: FFT length of the spectrogram, which then has n_fft // 2 + 1 bins.
        hidden_channels: width of each source's features, even.
        max_bins: the network sees only this many of the lowest bins; None: all of them. Masks
            are given for all bins.
        nb_channels: audio channels.
        nb_layers: layers of each LSTM.
        sources: names of the sources, in output order; they name the LSTMs' parameters.

    Shape:
        magnitude (batch, channels, bins, frames) -> masks, non-negative,
        (batch, sources, channels, bins, frames)

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        n_fft: int = 4096,
        hidden_channels: int = 512,
        max_bins: int | None = None,
        nb_channels: int = 2,
        nb_layers: int = 3,
        sources: Sequence[str] = MDX_SOURCES,
    ) -> None:
        super().__init__()
        self.nb_output_bins = n_fft // 2 + 1
        self.nb_bins = self.nb_output_bins if max_bins is None else max_bins
        self.nb_channels = nb_channels
        self.hidden_channels = hidden_channels
        self.sources = tuple(sources)
        self._check_arguments(nb_layers)

        groups = len(self.sources)
        features = groups * hidden_channels
        self.input_means = nn.Parameter(torch.zeros(groups * self.nb_bins))
        self.input_scale = nn.Parameter(torch.ones(groups * self.nb_bins))
        self.output_means = nn.Parameter(torch.zeros(groups * self.nb_output_bins))
        self.output_scale = nn.Parameter(torch.ones(groups * self.nb_output_bins))

        inputs = groups * nb_channels * self.nb_bins
        self.affine1 = nn.Sequential(
            nn.Conv1d(inputs, features, 1, groups=groups, bias=False),
            nn.BatchNorm1d(features),
            nn.Tanh(),
        )
        for source in self.sources:
            self.add_module(f"{source}_lstm", self._make_lstm(nb_layers))
        outputs = groups * nb_channels * self.nb_output_bins
        self.affine2 = nn.Sequential(
            nn.Conv1d(2 * hidden_channels, features, 1, bias=False),
            nn.BatchNorm1d(features),
            nn.ReLU(),
            nn.Conv1d(features, outputs, 1, groups=groups, bias=False),
            nn.BatchNorm1d(outputs),
        )

    def _check_arguments(self, nb_layers: int) -> None:
        if not 1 <= self.nb_bins <= self.nb_output_bins:
            raise ConfigError(
                f"max_bins: {self.nb_bins} is not between 1 and {self.nb_output_bins}, "
                "the bins of n_fft"
            )
        if self.hidden_channels < 2 or self.hidden_channels % 2:
            raise ConfigError(f"hidden_channels: {self.hidden_channels} is not even and positive")
        if self.nb_channels < 1 or nb_layers < 1:
            raise ConfigError(
                f"nb_channels and nb_layers must be positive, got {self.nb_channels}, {nb_layers}"
            )
        names = self.sources
        if not names or len(set(names)) < len(names) or any(not n or "." in n for n in names):
            raise ConfigError(f"sources: needs different names without dots, got {list(names)}")

    def _make_lstm(self, nb_layers: int) -> nn.LSTM:
        return nn.LSTM(
            input_size=self.hidden_channels,
            hidden_size=self.hidden_channels // 2,
            num_layers=nb_layers,
            bidirectional=True,
            batch_first=True,
            dropout=_LSTM_DROPOUT if nb_layers > 1 else 0.0,
        )

    def forward(self, spec: Tensor) -> Tensor:
        """Predict masks; raises ValueError where the channels or bins are not the network's."""
        batch, channels, bins, frames = spec.shape
        if (channels, bins) != (self.nb_channels, self.nb_output_bins):
            raise ValueError(
                f"spectrogram of {channels} channels and {bins} bins given to a network for "
                f"{self.nb_channels} channels and {self.nb_output_bins} bins"
            )
        groups = len(self.sources)

        # (B,C,F,T) -> (B,S*H,T) -> (B,S,H,T) -> (B,H,T)
        x = self._encode(spec[:, :, : self.nb_bins].reshape(batch, -1, frames))
        x = x.view(batch, groups, self.hidden_channels, frames).mean(1)

        # (B,H,T) -> (B,2*H,T): the shared features and the mean of the sources' views of them
        x = torch.cat([x, self._run_lstms(x)], dim=1)
        # (B,2*H,T) -> (B,S*C*F,T) -> (B,S,C,F,T)
        x = self.affine2(x)
        x = x.view(batch, groups, channels, bins, frames)
        x = x * self.output_scale.view(groups, 1, -1, 1) + self.output_means.view(groups, 1, -1, 1)
        return x.relu()

    def _encode(self, x: Tensor) -> Tensor:
        """The sources' features of the spectrogram, (B,C*F,T) -> (B,S*H,T).

        Each source sees the spectrogram x on its own scale, (x + mean) * scale. All of them see
        the same x: with scale and mean moved into its weights, the grouped convolution of S
        copies is a single one of x itself, and nothing is to be differentiated below it.
        """
        groups = len(self.sources)
        convolution, normalise, activate = self.affine1
        shape = groups, self.hidden_channels, self.nb_channels, self.nb_bins
        scale = self.input_scale.view(groups, 1, 1, -1)
        weight = convolution.get_parameter("weight").view(shape) * scale
        bias = (weight * self.input_means.view(groups, 1, 1, -1)).sum((2, 3))
        x = conv1d(x, weight.flatten(0, 1).flatten(1)[..., None], bias.flatten())
        return activate(normalise(x))

    def _run_lstms(self, x: Tensor) -> Tensor:
        """Mean of all sources' LSTMs, (B,H,T) -> (B,H,T)."""
        x = x.transpose(1, 2)
        outputs = [run_lstm(self.get_submodule(f"{name}_lstm"), x) for name in self.sources]
        return torch.stack(outputs).mean(0).transpose(1, 2)
