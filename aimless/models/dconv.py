"""Residual branches of dilated convolutions, with an LSTM and attention where wanted.

The layers that Hybrid Demucs puts into its encoders: Défossez, "Hybrid spectrogram and
waveform source separation" (MDX workshop at ISMIR 2021), section 3.2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimless.errors import ConfigError
from aimless.models.blocks import GroupNorm, run_lstm
from aimless.transforms import at_least_float32, no_autocast

__all__ = ["DConv"]

_TAPS = 3
_HEADS = 4
_DECAYS = 4
# An LSTM runs over at most so many frames at a time.
_CHUNK = 200
# The score of a frame for itself: attention looks elsewhere.
_OWN_SCORE = -100.0


class DConv(nn.Module):
    """Residual branches one after the other, each narrower than its input.

    A branch is a dilated convolution to `channels / compress` channels, GELU, optionally an
    LSTM and attention, a convolution of one tap back and a gate. It is added to its input
    with a learned weight per channel (Touvron et al., "Going deeper with image
    transformers", 2021).

    Args:
        channels: width of input and output.
        compress: the branches are narrower by this factor.
        depth: number of branches. The k-th has dilation 2^k; if negative, none is dilated.
        init: weight of each branch at the start.
        attention: with local attention.
        lstm: with a bidirectional LSTM of two layers.

    Shape:
        (batch, channels, frames) -> the same

    Raises:
        ConfigError: the width that is left fits neither the convolution nor the attention.
    """

    def __init__(
        self,
        channels: int,
        compress: float = 4,
        depth: int = 2,
        init: float = 1e-4,
        attention: bool = False,
        lstm: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(channels / compress)
        if hidden < 1 or (attention and hidden % _HEADS):
            raise ConfigError(
                f"dconv_comp: {channels} channels over {compress} leave {hidden}; needs "
                + (f"a multiple of {_HEADS} for attention" if attention else "at least 1")
            )
        self.layers = nn.ModuleList()
        for level in range(abs(depth)):
            dilation = 2**level if depth > 0 else 1
            modules: list[nn.Module] = [
                nn.Conv1d(channels, hidden, _TAPS, dilation=dilation, padding=dilation),
                GroupNorm(1, hidden),
                nn.GELU(),
            ]
            if lstm:
                modules.append(_ChunkedLSTM(hidden))
            if attention:
                modules.append(_LocalAttention(hidden))
            modules += [
                nn.Conv1d(hidden, 2 * channels, 1),
                GroupNorm(1, 2 * channels),
                nn.GLU(dim=1),
                _LayerScale(channels, init),
            ]
            self.layers.append(_Branch(*modules))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames) -> the same."""
        for branch in self.layers:
            x = branch(x)
        return x


class _LayerScale(nn.Module):
    """Weights per channel of a residual branch."""

    def __init__(self, channels: int, init: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), float(init)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x + scale * y in one pass, (batch, channels, frames) all."""
        return torch.addcmul(x, self.scale[:, None].to(y.dtype), y)


class _Branch(nn.Sequential):
    """Modules in sequence, of which the last adds the branch to its input."""

    def forward(self, x: Tensor) -> Tensor:
        *modules, scale = self
        y = x
        for module in modules:
            y = module(y)
        return scale(x, y)


class _ChunkedLSTM(nn.Module):
    """Bidirectional LSTM and a linear layer, added to their input.

    Longer inputs are cut into chunks that overlap by half, which the LSTM sees as separate
    items; of each chunk its middle is kept.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True)
        self.linear = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, frames) -> the same."""
        if x.shape[-1] <= _CHUNK:
            return x + self._run(x)
        return x + self._run_chunks(x)

    def _run(self, x: Tensor) -> Tensor:
        # (N,W,T) -> (T,N,W) for the LSTM, and back
        return self.linear(run_lstm(self.lstm, x.permute(2, 0, 1))).permute(1, 2, 0)

    def _run_chunks(self, x: Tensor) -> Tensor:
        batch, width, frames = x.shape
        hop = _CHUNK // 2
        chunks = math.ceil(frames / hop)
        x = F.pad(x, (0, (chunks - 1) * hop + _CHUNK - frames))
        # (B,W,N,chunk) -> (B*N,W,chunk)
        x = x.unfold(2, _CHUNK, hop).transpose(1, 2).reshape(-1, width, _CHUNK)
        y = self._run(x).view(batch, chunks, width, _CHUNK)
        edge = hop // 2
        middle = y[..., edge : edge + hop].transpose(1, 2).reshape(batch, width, -1)
        # the first chunk's beginning has no other chunk, and so the last one's end
        y = torch.cat([y[:, 0, :, :edge], middle, y[:, -1, :, edge + hop :]], dim=-1)
        return y[..., :frames]


class _LocalAttention(nn.Module):
    """Attention over time that fades with distance, added to its input.

    There is no position other than the distance |t - s| of a key from the query s. Each
    query sets, through four sigmoids, by how much its scores fall per frame. Scores and
    softmax are computed in at least float32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.content = nn.Conv1d(channels, channels, 1)
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.query_decay = nn.Conv1d(channels, _HEADS * _DECAYS, 1)
        with torch.no_grad():  # a wide window to begin with
            self.query_decay.weight *= 0.01
            assert self.query_decay.bias is not None
            self.query_decay.bias.fill_(-2)
        self.proj = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames) -> the same."""
        projections = (self.query(x), self.key(x), self.content(x), self.query_decay(x))
        with no_autocast(x):
            # (B,C,T) -> (B,H,T,C/H)
            query, key, content, decay = (
                at_least_float32(y).unflatten(1, (_HEADS, -1)).transpose(2, 3) for y in projections
            )
            scores = query @ key.transpose(2, 3) / math.sqrt(key.shape[3])
            scores = torch.addcmul(scores, _slope(decay), _distance(scores), value=-1)
            scores.diagonal(dim1=2, dim2=3).fill_(_OWN_SCORE)
            y = (scores.softmax(dim=3) @ content).transpose(2, 3).flatten(1, 2)
        return x + self.proj(y)


def _slope(decay: Tensor) -> Tensor:
    """By how much the scores of each query fall per frame, (B,H,T,4) -> (B,H,T,1)."""
    factors = torch.arange(1, _DECAYS + 1, device=decay.device, dtype=decay.dtype)
    return (decay.sigmoid() @ factors)[..., None] / (2 * math.sqrt(_DECAYS))


def _distance(scores: Tensor) -> Tensor:
    """|query - key| in frames, (T,T)."""
    time = torch.arange(scores.shape[-1], device=scores.device, dtype=scores.dtype)
    return (time[:, None] - time).abs()
