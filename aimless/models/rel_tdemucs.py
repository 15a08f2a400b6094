"""Demucs with a transformer in place of the LSTM.

After "Music source separation in the waveform domain" (Défossez, Usunier, Bottou and Bach,
2019); the transformer's attention knows relative positions, see
`aimless.models.relative_transformer`.
"""

from __future__ import annotations

from torch import Tensor, nn

from aimless.models.blocks import check_positive, recompute, rescale_convolutions
from aimless.models.demucs_base import DemucsBase
from aimless.models.relative_transformer import RelativeTransformer

__all__ = ["RelTDemucs"]


class RelTDemucs(DemucsBase):
    """Waveforms of all sources from the mixture's waveform.

    The convolutions are not padded, so that the output may be shorter than the input:
    `valid_length` gives the lengths that come back whole. An input too short for the
    convolutions is padded with zeros inside, and comes back at its own length.

    Args:
        in_channels: channels of the audio.
        num_sources: number of sources.
        channels: width of the first block; each block doubles it.
        depth: number of blocks of the encoder and of the decoder, 1 to 10.
        context_size: each frame at the bottom sees frames at a distance below this; None: all.
        rescale: at construction the weights of each convolution are divided by
            sqrt(std(weights) / rescale), which brings their scale closer to this.
        resample: work at twice the sample rate.
        kernel_size: taps of each block's strided convolution.
        stride: stride of each block.
        attention_layers: layers of the transformer.
        nhead: attention heads; divides channels * 2 ** (depth - 1).
        dropout: share of values that the transformer drops in training.
        norm_first: normalise before attention and feed-forward instead of after them.
        checkpoint_gradients: compute each block and layer again for its gradient instead of
            keeping what lies inside: less memory, more time, the same result.

    Shape:
        mixture (batch, channels, samples) -> stems (batch, sources, channels, samples'),
        samples' <= samples

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        in_channels: int = 2,
        num_sources: int = 4,
        channels: int = 64,
        depth: int = 6,
        context_size: int | None = None,
        rescale: float = 0.1,
        resample: bool = True,
        kernel_size: int = 8,
        stride: int = 4,
        attention_layers: int = 8,
        nhead: int = 8,
        dropout: float = 0.1,
        norm_first: bool = False,
        checkpoint_gradients: bool = False,
    ) -> None:
        check_positive(in_channels=in_channels, num_sources=num_sources, rescale=rescale)
        super().__init__(
            in_channels,
            num_sources,
            channels,
            depth,
            resample,
            kernel_size,
            stride,
            checkpoint_gradients,
        )
        self.decoder = nn.ModuleList()
        for level in reversed(range(depth)):
            width = self.widths[level]
            outputs = self.widths[level - 1] if level else num_sources * in_channels
            self.decoder.append(
                nn.Sequential(
                    nn.Conv1d(width, 2 * width, 3, padding=1, bias=False),
                    nn.GLU(dim=1),
                    nn.ConvTranspose1d(width, outputs, kernel_size, stride),
                    nn.ReLU() if level else nn.Identity(),
                )
            )
        self.transformer = RelativeTransformer(
            self.widths[-1],
            nhead,
            attention_layers,
            context_size,
            dropout,
            norm_first,
            checkpoint_gradients,
        )
        rescale_convolutions(self, rescale)

    def _decode(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """(B,W,T) and skips -> (B,S*C,L')."""
        x = self.transformer(x.transpose(1, 2)).transpose(1, 2)
        for block in self.decoder:
            skip = skips.pop()[..., : x.shape[-1]]
            x = recompute(self.checkpoint_gradients, block, x + skip)
        return x
