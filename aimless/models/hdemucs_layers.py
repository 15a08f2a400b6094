"""Encoder and decoder layers of Hybrid Demucs, for its spectral and its temporal branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from aimless.models.blocks import GroupNorm
from aimless.models.dconv import DConv

__all__ = ["DecoderLayer", "EncoderLayer", "Strides"]


@dataclass(frozen=True)
class Strides:
    """How a layer shortens its axis: bins (`spectral`), otherwise time.

    An encoder layer gives ceil(length / stride); with `pad` False it takes exactly `kernel`
    bins and gives one. A decoder layer undoes it.
    """

    kernel: int
    stride: int
    spectral: bool
    pad: bool = True

    @property
    def encoder_padding(self) -> int:
        """Zeros at each end before the encoder's convolution."""
        return self.kernel // 4 if self.pad else 0

    @property
    def decoder_cut(self) -> int:
        """Values to drop at each end after the decoder's transposed convolution."""
        return (self.kernel - self.stride) // 2 if self.pad else 0

    @property
    def invertible(self) -> bool:
        """Whether encoder and decoder lengths fit each other as the class says."""
        if not self.pad:
            return True
        spare = 2 * self.encoder_padding + self.stride - self.kernel
        return (self.kernel - self.stride) % 2 == 0 and 0 <= spare < self.stride

    def along(self, size: int, across: int = 1) -> Any:
        """`size` on this layer's axis, for a convolution of one or two axes."""
        return (size, across) if self.spectral else (size,)


class EncoderLayer(nn.Module):
    """Strided convolution, residual branches, and a gate.

    Args:
        inputs: input channels.
        outputs: output channels.
        strides: the convolution's size.
        groups: groups of the group normalisations; None: no normalisation.
        context: the gate's convolution reaches so many values to each side.
        bare: only the strided convolution. The layer keeps its first normalisation's weights,
            which published checkpoints hold, but never uses or trains them.
        **dconv: arguments of `DConv`.

    Shape:
        (batch, inputs, bins, frames) -> (batch, outputs, bins', frames) if spectral, otherwise
        (batch, inputs, frames) -> (batch, outputs, frames')
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        strides: Strides,
        groups: int | None,
        context: int,
        bare: bool = False,
        **dconv: Any,
    ) -> None:
        super().__init__()
        self.strides = strides
        self.bare = bare
        convolution = nn.Conv2d if strides.spectral else nn.Conv1d
        self.conv = convolution(
            inputs,
            outputs,
            strides.along(strides.kernel),
            strides.along(strides.stride),
            strides.along(strides.encoder_padding, 0),
        )
        self.norm1 = _norm(groups, outputs)
        if bare:
            self.norm1.requires_grad_(False)
        else:
            self.rewrite = _gate_convolution(outputs, context, strides.spectral)
            self.norm2 = _norm(groups, 2 * outputs)
            self.dconv = DConv(outputs, **dconv)

    def forward(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        """Encode; `inject` is added after the convolution, (batch, outputs, frames)."""
        if not self.strides.spectral:
            x = x.flatten(1, -2)  # one bin that is left over is no axis any more
            x = F.pad(x, (0, -x.shape[-1] % self.strides.stride))
        y = self.conv(x)
        if self.bare:
            return y
        if inject is not None:
            y = y + (inject[:, :, None] if y.dim() == 4 else inject)
        y = F.gelu(self.norm1(y))
        y = self._residual(y)
        return F.glu(self.norm2(self.rewrite(y)), dim=1)

    def _residual(self, y: Tensor) -> Tensor:
        if not self.strides.spectral:
            return self.dconv(y)
        # every bin is an item of its own: (B,C,F,T) -> (B*F,C,T)
        batch, channels, bins, frames = y.shape
        y = self.dconv(y.transpose(1, 2).reshape(-1, channels, frames))
        return y.view(batch, bins, channels, frames).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Gate on the sum of state and skip, then a transposed convolution.

    Args:
        inputs: input channels.
        outputs: output channels.
        strides: the convolution's size, the encoder layer's at the same level.
        groups: groups of the group normalisations; None: no normalisation.
        context: the gate's convolution reaches so many values to each side.
        last: without GELU at the end.
        bare: only the transposed convolution.

    Shape:
        the reverse of `EncoderLayer`
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        strides: Strides,
        groups: int | None,
        context: int,
        last: bool = False,
        bare: bool = False,
    ) -> None:
        super().__init__()
        self.strides = strides
        self.last = last
        self.bare = bare
        # the normalisation sees the ends that are cut off; without it they are not computed
        self.cut = strides.decoder_cut if groups else 0
        transposed = nn.ConvTranspose2d if strides.spectral else nn.ConvTranspose1d
        self.conv_tr = transposed(
            inputs,
            outputs,
            strides.along(strides.kernel),
            strides.along(strides.stride),
            strides.along(strides.decoder_cut - self.cut, 0),
        )
        self.norm2 = _norm(groups, outputs)
        if not bare:
            self.rewrite = _gate_convolution(inputs, context, strides.spectral)
            self.norm1 = _norm(groups, 2 * inputs)

    def gate(self, state: Tensor | None, skip: Tensor) -> Tensor:
        """What the transposed convolution runs on; `state` None counts as zero."""
        x = skip if state is None else state.reshape(skip.shape) + skip
        return F.glu(self.norm1(self.rewrite(x)), dim=1)

    def expand(self, y: Tensor, length: int) -> Tensor:
        """Transposed convolution of the gate's output, or of another state if bare.

        Args:
            y: (batch, inputs, [bins,] frames).
            length: frames to return, those that went into the encoder layer; of no effect in a
                spectral layer.
        """
        z = self.norm2(self.conv_tr(y))
        if self.strides.spectral:
            z = z[:, :, self.cut : z.shape[2] - self.cut]
        else:
            z = z[..., self.cut : self.cut + length]
        return z if self.last else F.gelu(z)


def _norm(groups: int | None, channels: int) -> nn.Module:
    return GroupNorm(groups, channels) if groups else nn.Identity()


def _gate_convolution(channels: int, context: int, spectral: bool) -> nn.Module:
    """To twice the channels, over `context` values to each side."""
    convolution = nn.Conv2d if spectral else nn.Conv1d
    return convolution(channels, 2 * channels, 1 + 2 * context, padding=context)
