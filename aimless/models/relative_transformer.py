"""Transformer encoder with relative positions.

Attention after Dai et al., "Transformer-XL: attentive language models beyond a fixed-length
context" (ACL 2019), without its memory; layers after Vaswani et al., "Attention is all you need"
(2017).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimless.errors import ConfigError
from aimless.models.blocks import LayerNorm, check_positive, recompute
from aimless.transforms import at_least_float32, no_autocast

__all__ = ["RelativeAttention", "RelativeTransformer"]

_FEED_FORWARD = 4
_LONGEST_PERIOD = 10000.0


class RelativeTransformer(nn.Module):
    """Layers of self-attention and a feed-forward network of four times the width.

    Args:
        width: features per frame, even.
        heads: attention heads; divides the width.
        layers: number of layers.
        context_size: each frame sees frames at a distance below this; None: all.
        dropout: share of values dropped, of attention weights too; 0 or more, below 1.
        norm_first: normalise before attention and feed-forward instead of after them.
        checkpoint_gradients: compute each layer again for its gradient.

    Shape:
        (batch, frames, width) -> the same

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        context_size: int | None = None,
        dropout: float = 0.1,
        norm_first: bool = False,
        checkpoint_gradients: bool = False,
    ) -> None:
        super().__init__()
        check_positive(attention_layers=layers, nhead=heads)
        if width % heads or width % 2:
            raise ConfigError(f"nhead: {heads} does not divide the even width {width}")
        if context_size is not None and context_size < 1:
            raise ConfigError(f"context_size: {context_size} is not positive")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout: {dropout} is not at least 0 and below 1")
        self.checkpoint_gradients = checkpoint_gradients
        self.layers = nn.ModuleList(
            _Layer(width, heads, context_size, dropout, norm_first) for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, width) -> the same."""
        for layer in self.layers:
            x = recompute(self.checkpoint_gradients, layer, x)
        return x


class _Layer(nn.Module):
    def __init__(
        self, width: int, heads: int, context_size: int | None, dropout: float, norm_first: bool
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.self_attn = RelativeAttention(width, heads, context_size, dropout)
        self.linear1 = nn.Linear(width, _FEED_FORWARD * width)
        self.linear2 = nn.Linear(_FEED_FORWARD * width, width)
        self.norm1 = LayerNorm(width)
        self.norm2 = LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, width) -> the same."""
        if self.norm_first:
            x = x + self._attend(self.norm1(x))
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(x + self._attend(x))
        return self.norm2(x + self._feed_forward(x))

    def _attend(self, x: Tensor) -> Tensor:
        return self.dropout(self.self_attn(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        x = self.dropout(F.relu(self.linear1(x)))
        return self.dropout(self.linear2(x))


class RelativeAttention(nn.Module):
    """Self-attention whose scores depend on contents and on distance.

    The score of key j for query i is ((q_i + u) k_j + (q_i + v) p_(j-i)) / sqrt(head size), where
    u and v are learned per head, and p is a linear map of sines and cosines of the distance. It is
    computed in at least float32, as is the softmax.

    Args:
        width: features per frame, even.
        heads: attention heads; divides the width.
        context_size: each frame sees frames at a distance below this; None: all.
        dropout: share of the attention weights dropped in training.

    Shape:
        (batch, frames, width) -> the same
    """

    def __init__(
        self, width: int, heads: int, context_size: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.context_size = context_size
        self.dropout = dropout
        # rows: queries, keys and values of the first head, then those of the second, ...
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.u = nn.Parameter(torch.zeros(heads, width // heads))
        self.v = nn.Parameter(torch.zeros(heads, width // heads))
        self.out_proj = nn.Linear(width, width, bias=False)
        self.pos_emb = _DistanceTable(width)
        self.pos_emb_proj = nn.Linear(width, width, bias=False)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, width) -> the same."""
        # (B,T,3W) -> (B,T,H,3W/H) -> (B,H,T,W/H) three times; (2T,W) -> (H,2T,W/H)
        projected = F.linear(x, self.in_proj_weight).unflatten(2, (self.heads, -1))
        positions = self.pos_emb_proj(self.pos_emb(x.shape[1])).unflatten(1, (self.heads, -1))
        with no_autocast(x):
            query, key, value = at_least_float32(projected).transpose(1, 2).chunk(3, dim=3)
            positions = at_least_float32(positions).transpose(0, 1)
            y = F.scaled_dot_product_attention(
                query + self.u[:, None],
                key,
                value,
                attn_mask=self._position_scores(query + self.v[:, None], positions),
                dropout_p=self.dropout if self.training else 0.0,
            )
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _position_scores(self, query: Tensor, positions: Tensor) -> Tensor:
        """Queries (B,H,T,D), positions (H,2T,D) -> what to add to the scores, (B,H,T,T)."""
        frames = query.shape[2]
        # (B,H,T,2T): row i, column j - i + T. Row by row in memory, that is the place
        # i (2T - 1) + j + T: with T dropped, rows of 2T - 1 that start at j = 0.
        scores = (query @ positions.transpose(1, 2)).flatten(2)[..., frames:]
        scores = scores.unflatten(2, (frames, -1))[..., :frames] / math.sqrt(query.shape[3])
        if self.context_size is not None:
            time = torch.arange(frames, device=query.device)
            far = (time[:, None] - time).abs() >= self.context_size
            scores = scores.masked_fill(far, -math.inf)
        return scores


class _DistanceTable(nn.Module):
    """Cosines and sines of distances, in turn, with periods from 2 pi to 10000 * 2 pi frames."""

    inv_freq: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
        self.register_buffer("inv_freq", (_LONGEST_PERIOD**-exponents).float())

    def forward(self, frames: int) -> Tensor:
        """Rows for the distances -frames to frames - 1, (2 * frames, width)."""
        distances = torch.arange(-frames, frames, device=self.inv_freq.device)
        with no_autocast(self.inv_freq):
            angles = distances[:, None] * self.inv_freq
            return torch.stack([angles.cos(), angles.sin()], dim=2).flatten(1)
