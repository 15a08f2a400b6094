"""Band-split RNN: recurrent networks over time and over bands, in turn.

Luo and Yu, "Music source separation with band-split RNN" (IEEE/ACM TASLP 2023). Unlike theirs,
the networks here see magnitudes and give masks between 0 and 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aimless.bands import MUSIC_EDGES, band_widths
from aimless.errors import ConfigError
from aimless.models.blocks import GroupNorm, LayerNorm, check_positive, recompute, run_lstm
from aimless.transforms import at_least_float32, no_autocast

__all__ = ["BandSplitRNN", "BandSplitRNNMulti"]

_EPS = 1e-8

# Said once per process; there is nothing that a user could do about it.
warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")


class _BandSplit(nn.Module):
    """The network of both classes, with `masks` numbers per bin."""

    def __init__(
        self,
        n_fft: int,
        masks: int,
        split_freqs: Sequence[float],
        hidden_size: int,
        num_layers: int,
        norm_groups: int,
        sample_rate: int,
        checkpoint_gradients: bool,
    ) -> None:
        super().__init__()
        check_positive(
            n_fft=n_fft,
            n_sources=masks,
            hidden_size=hidden_size,
            num_layers=num_layers,
            norm_groups=norm_groups,
            sample_rate=sample_rate,
        )
        if hidden_size % 2 or hidden_size < 4:
            raise ConfigError(f"hidden_size: {hidden_size} is not an even number of at least 4")
        if hidden_size % norm_groups:
            raise ConfigError(
                f"norm_groups: {norm_groups} does not divide hidden_size {hidden_size}"
            )
        self.masks = masks
        self.checkpoint_gradients = checkpoint_gradients
        self.widths = band_widths(split_freqs, n_fft, sample_rate)

        self.norm1_list = nn.ModuleList(LayerNorm(width) for width in self.widths)
        self.fc1_list = nn.ModuleList(nn.Linear(width, hidden_size) for width in self.widths)
        layers = range(num_layers)
        self.band_lstms = nn.ModuleList(_make_lstm(hidden_size) for _ in layers)
        self.time_lstms = nn.ModuleList(_make_lstm(hidden_size) for _ in layers)
        self.band_group_norms = nn.ModuleList(GroupNorm(norm_groups, hidden_size) for _ in layers)
        self.time_group_norms = nn.ModuleList(GroupNorm(norm_groups, hidden_size) for _ in layers)
        self.norm2_list = nn.ModuleList(LayerNorm(hidden_size) for _ in self.widths)
        self.mlps = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden_size, 4 * hidden_size),
                nn.Tanh(),
                nn.Linear(4 * hidden_size, masks * width),
            )
            for width in self.widths
        )

    def _logits(self, spec: Tensor) -> Tensor:
        """(B,C,F,T) -> (B,C,masks,F,T)."""
        if spec.dim() != 4 or spec.shape[2] != sum(self.widths) or not spec.numel():
            raise ValueError(
                f"spectrogram of shape {tuple(spec.shape)} given to a network for "
                f"(batch, channels, {sum(self.widths)} bins, frames)"
            )
        with no_autocast(spec):
            # (B,C,F,T) -> (B*C,T,F): every channel is an item of its own
            x = (at_least_float32(spec) + _EPS).log().flatten(0, 1).transpose(1, 2)
        x = self._split(x)
        for layer in zip(
            self.time_group_norms, self.time_lstms, self.band_group_norms, self.band_lstms
        ):
            x = recompute(self.checkpoint_gradients, _run_layer, x, *layer)
        # (B*C,T,F*masks) -> (B,C,masks,F,T)
        return self._join(x).unflatten(0, spec.shape[:2])

    def _split(self, x: Tensor) -> Tensor:
        """(N,T,F) -> (N,K,T,H), K bands."""
        bands = [
            linear(norm(band))
            for norm, linear, band in zip(
                self.norm1_list, self.fc1_list, x.split(self.widths, dim=2)
            )
        ]
        return torch.stack(bands, dim=1)

    def _join(self, x: Tensor) -> Tensor:
        """(N,K,T,H) -> (N,masks,F,T)."""
        bands = [
            # (N,T,H) -> (N,T,masks,F of the band)
            mlp(norm(band)).unflatten(2, (self.masks, -1))
            for norm, mlp, band in zip(self.norm2_list, self.mlps, x.unbind(1))
        ]
        return torch.cat(bands, dim=3).permute(0, 2, 3, 1)


class BandSplitRNN(_BandSplit):
    """A mask for one source from a magnitude spectrogram.

    The spectrogram is cut into bands, each is mapped to as many features, and pairs of LSTMs run
    over the frames of each band and over the bands of each frame. Channels are separated
    independently, so that any number of them goes.

    Args:
        n_fft: FFT length of the spectrogram, which then has n_fft // 2 + 1 bins.
        split_freqs: where the bands meet, in Hz, increasing.
        hidden_size: features per band and frame, even.
        num_layers: pairs of LSTMs.
        norm_groups: groups of the group normalisation.
        sample_rate: of the audio in Hz.
        checkpoint_gradients: compute each pair of LSTMs again for its gradient instead of
            keeping what lies inside: less memory, more time, the same result.

    Shape:
        magnitude (batch, channels, bins, frames) -> mask between 0 and 1, the same shape

    Raises:
        ConfigError: an argument is out of range, or a band has no bin.
    """

    def __init__(
        self,
        n_fft: int = 4096,
        split_freqs: Sequence[float] = MUSIC_EDGES,
        hidden_size: int = 128,
        num_layers: int = 12,
        norm_groups: int = 4,
        sample_rate: int = 44100,
        checkpoint_gradients: bool = False,
    ) -> None:
        super().__init__(
            n_fft,
            1,
            split_freqs,
            hidden_size,
            num_layers,
            norm_groups,
            sample_rate,
            checkpoint_gradients,
        )

    def forward(self, spec: Tensor) -> Tensor:
        """Predict the mask; raises ValueError where the bins are not the network's."""
        logits = self._logits(spec).squeeze(2)
        with no_autocast(spec):
            return at_least_float32(logits).sigmoid()


class BandSplitRNNMulti(_BandSplit):
    """Masks for several sources, which add up to 1, from a magnitude spectrogram.

    Args:
        n_fft: FFT length of the spectrogram, which then has n_fft // 2 + 1 bins.
        n_sources: number of sources.
        split_freqs: as for `BandSplitRNN`, and so the arguments that follow.
        hidden_size: see there.
        num_layers: see there.
        norm_groups: see there.
        sample_rate: see there.
        checkpoint_gradients: see there.

    Shape:
        magnitude (batch, channels, bins, frames) -> masks between 0 and 1, (batch, sources,
        channels, bins, frames)

    Raises:
        ConfigError: an argument is out of range, or a band has no bin.
    """

    def __init__(
        self,
        n_fft: int = 4096,
        n_sources: int = 4,
        split_freqs: Sequence[float] = MUSIC_EDGES,
        hidden_size: int = 128,
        num_layers: int = 12,
        norm_groups: int = 4,
        sample_rate: int = 44100,
        checkpoint_gradients: bool = False,
    ) -> None:
        super().__init__(
            n_fft,
            n_sources,
            split_freqs,
            hidden_size,
            num_layers,
            norm_groups,
            sample_rate,
            checkpoint_gradients,
        )

    def forward(self, spec: Tensor) -> Tensor:
        """Predict masks; raises ValueError where the bins are not the network's."""
        # (B,C,S,F,T) -> (B,S,C,F,T)
        logits = self._logits(spec).transpose(1, 2)
        with no_autocast(spec):
            return at_least_float32(logits).softmax(dim=1)


def _make_lstm(hidden_size: int) -> nn.LSTM:
    """Both directions together give `hidden_size` features."""
    return nn.LSTM(
        hidden_size,
        hidden_size,
        batch_first=True,
        bidirectional=True,
        proj_size=hidden_size // 2,
    )


def _run_layer(
    x: Tensor, time_norm: nn.Module, time_lstm: nn.LSTM, band_norm: nn.Module, band_lstm: nn.LSTM
) -> Tensor:
    """(N,K,T,H) -> (N,K,T,H): over the frames of each band, then over the bands of each frame."""
    x = _run_sequences(x, time_norm, time_lstm)
    return _run_sequences(x.transpose(1, 2), band_norm, band_lstm).transpose(1, 2)


def _run_sequences(x: Tensor, norm: nn.Module, lstm: nn.LSTM) -> Tensor:
    """Add an LSTM over axis 2 of (N,*,T,H); every sequence is normalised by itself."""
    sequences = x.flatten(0, 1)
    y = run_lstm(lstm, norm(sequences.transpose(1, 2)).transpose(1, 2))
    return (sequences + y).unflatten(0, x.shape[:2])
