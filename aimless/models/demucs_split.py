"""Demucs with a decoder that is split by source.

After "Music source separation in the waveform domain" (Défossez, Usunier, Bottou and Bach,
2019). The encoder and the LSTM are shared; every convolution of the decoder's state is
grouped, one group per source, so that the sources are decoded side by side.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from aimless.errors import ConfigError
from aimless.models.blocks import check_positive, recompute, rescale_convolutions, run_lstm
from aimless.models.demucs_base import DemucsBase

__all__ = ["DemucsSplit"]


class DemucsSplit(DemucsBase):
    """Waveforms of all sources from the mixture's waveform.

    The convolutions are not padded, so that the output may be shorter than the input:
    `valid_length` gives the lengths that come back whole. An input too short for the
    convolutions is padded with zeros inside, and comes back at its own length.

    Args:
        channels: width of the first block, even; each block doubles it.
        depth: number of blocks of the encoder and of the decoder, 1 to 10.
        rescale: at construction the weights of each convolution are divided by
            sqrt(std(weights) / rescale), which brings their scale closer to this.
        resample: work at twice the sample rate.
        kernel_size: taps of each block's strided convolution.
        stride: stride of each block.
        lstm_layers: layers of the bidirectional LSTM between encoder and decoder.
        nb_sources: number of sources.
        audio_channels: channels of the audio.
        checkpoint_gradients: compute each block again for its gradient instead of keeping
            what lies inside: less memory, more time, the same result.

    Shape:
        mixture (batch, channels, samples) -> stems (batch, sources, channels, samples'),
        samples' <= samples

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        channels: int = 64,
        depth: int = 6,
        rescale: float = 0.1,
        resample: bool = True,
        kernel_size: int = 8,
        stride: int = 4,
        lstm_layers: int = 2,
        nb_sources: int = 4,
        audio_channels: int = 2,
        checkpoint_gradients: bool = False,
    ) -> None:
        check_positive(
            channels=channels,
            rescale=rescale,
            lstm_layers=lstm_layers,
            nb_sources=nb_sources,
            audio_channels=audio_channels,
        )
        if channels % 2:
            raise ConfigError(f"channels: {channels} is odd; the decoder needs half of it")
        super().__init__(
            audio_channels,
            nb_sources,
            channels,
            depth,
            resample,
            kernel_size,
            stride,
            checkpoint_gradients,
        )
        width = self.widths[-1]
        self.lstm = nn.LSTM(width, width, lstm_layers, bidirectional=True, batch_first=True)
        # each source decodes half as many channels as the encoder had at that level
        self.lstm_linear = nn.Linear(2 * width, nb_sources * width // 2)
        self._build_decoder()
        rescale_convolutions(self, rescale)

    def _build_decoder(self) -> None:
        groups = self.nb_sources
        self.dec_pre_convs = nn.ModuleList()
        self.convs_1x1 = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(self.depth)):
            width = self.widths[level]
            state = groups * width // 2
            outputs = groups * (self.widths[level - 1] // 2 if level else self.audio_channels)
            self.dec_pre_convs.append(nn.Conv1d(state, groups * width, 3, padding=1, groups=groups))
            self.convs_1x1.append(nn.Conv1d(width, groups * width, 3, padding=1, bias=False))
            self.decoder.append(
                nn.Sequential(
                    nn.ConvTranspose1d(
                        state, outputs, self.kernel_size, self.stride, groups=groups
                    ),
                    nn.ReLU() if level else nn.Identity(),
                )
            )

    def _decode(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """(B,W,T) and skips -> (B,S*C,L')."""
        # (B,W,T) -> (B,T,W) for the LSTM -> (B,S*W/2,T)
        x = self.lstm_linear(run_lstm(self.lstm, x.transpose(1, 2))).transpose(1, 2)
        for layers in zip(self.dec_pre_convs, self.convs_1x1, self.decoder):
            x = recompute(self.checkpoint_gradients, self._decode_block, x, skips.pop(), *layers)
        return x

    def _decode_block(
        self, x: Tensor, skip: Tensor, pre_conv: nn.Module, skip_conv: nn.Module, block: nn.Module
    ) -> Tensor:
        x = pre_conv(x) + skip_conv(skip[..., : x.shape[-1]])
        # (B,S*W,T) -> (B,S,W,T) -> (B,S,W/2,T) -> (B,S*W/2,T): a gate inside each source
        x = F.glu(x.unflatten(1, (self.nb_sources, -1)), dim=2).flatten(1, 2)
        return block(x)
