"""Demucs with a decoder that is split by source.

After "Music source separation in the waveform domain" (Défossez, Usunier, Bottou and Bach,
2019). The encoder and the LSTM are shared; every convolution of the decoder's state is
grouped, one group per source, so that the sources are decoded side by side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimless.errors import ConfigError
from aimless.transforms import Resample, at_least_float32, no_autocast

__all__ = ["DemucsSplit"]

# The channels double with every block: the tenth of 64 channels has 32768.
_MAX_DEPTH = 10


class DemucsSplit(nn.Module):
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
    ) -> None:
        super().__init__()
        _check_positive(
            channels=channels,
            rescale=rescale,
            kernel_size=kernel_size,
            stride=stride,
            lstm_layers=lstm_layers,
            nb_sources=nb_sources,
            audio_channels=audio_channels,
        )
        if channels % 2:
            raise ConfigError(f"channels: {channels} is odd; the decoder needs half of it")
        if not 1 <= depth <= _MAX_DEPTH:
            raise ConfigError(f"depth: {depth} is not between 1 and {_MAX_DEPTH}")
        self.depth = depth
        self.kernel_size = kernel_size
        self.stride = stride
        self.nb_sources = nb_sources
        self.audio_channels = audio_channels
        self.resample = resample
        if resample:
            self.up_sample = Resample(1, 2, persistent=True)
            self.down_sample = Resample(2, 1, persistent=True)

        widths = [channels * 2**level for level in range(depth)]
        self._build_encoder(widths)
        self.lstm = nn.LSTM(
            widths[-1], widths[-1], lstm_layers, bidirectional=True, batch_first=True
        )
        # each source decodes half as many channels as the encoder had at that level
        self.lstm_linear = nn.Linear(2 * widths[-1], nb_sources * widths[-1] // 2)
        self._build_decoder(widths)
        _rescale_convolutions(self, rescale)

    def _build_encoder(self, widths: list[int]) -> None:
        self.encoder = nn.ModuleList()
        for inputs, width in zip([self.audio_channels, *widths], widths):
            self.encoder.append(
                nn.Sequential(
                    nn.Conv1d(inputs, width, self.kernel_size, self.stride),
                    nn.ReLU(),
                    nn.Conv1d(width, 2 * width, 1),
                    nn.GLU(dim=1),
                )
            )

    def _build_decoder(self, widths: list[int]) -> None:
        groups = self.nb_sources
        self.dec_pre_convs = nn.ModuleList()
        self.convs_1x1 = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(self.depth)):
            width = widths[level]
            state = groups * width // 2
            outputs = groups * (widths[level - 1] // 2 if level else self.audio_channels)
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

    def valid_length(self, length: int) -> int:
        """The smallest number of samples, at least `length`, that comes back whole.

        Args:
            length: samples, at least 1. `valid_length(1)` is the shortest input that passes
                the convolutions without padding.
        """
        # of two up-sampled samples the second may be lost, it comes back in down-sampling
        length = 2 * length - 1 if self.resample else length
        for _ in range(self.depth):
            length = -(-max(length - self.kernel_size, 0) // self.stride) + 1
        for _ in range(self.depth):
            length = (length - 1) * self.stride + self.kernel_size
        return -(-length // 2) if self.resample else length

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate; raises ValueError where the channels are not the network's."""
        if mixture.dim() != 3 or mixture.shape[1] != self.audio_channels or not mixture.numel():
            raise ValueError(
                f"mixture of shape {tuple(mixture.shape)} given to a network for "
                f"(batch, {self.audio_channels}, samples)"
            )
        with no_autocast(mixture):
            x = at_least_float32(mixture)
            mean, scale = _mono_statistics(x)
            x = (x - mean) / scale
        samples = x.shape[-1]
        x = F.pad(x, (0, max(0, self.valid_length(1) - samples)))
        x = self._separate_normalised(x)[..., :samples]
        with no_autocast(x):
            return at_least_float32(x) * scale[:, None] + mean[:, None]

    def _separate_normalised(self, x: Tensor) -> Tensor:
        """(B,C,L) -> (B,S,C,L')."""
        if self.resample:
            x = self.up_sample(x)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        # (B,W,T) -> (B,T,W) for the LSTM -> (B,S*W/2,T)
        x = self.lstm_linear(self.lstm(x.transpose(1, 2))[0]).transpose(1, 2)
        for pre_conv, skip_conv, block in zip(self.dec_pre_convs, self.convs_1x1, self.decoder):
            skip = skips.pop()[..., : x.shape[-1]]
            x = pre_conv(x) + skip_conv(skip)
            # (B,S*W,T) -> (B,S,W,T) -> (B,S,W/2,T) -> (B,S*W/2,T): a gate inside each source
            x = F.glu(x.unflatten(1, (self.nb_sources, -1)), dim=2).flatten(1, 2)
            x = block(x)
        if self.resample:
            x = self.down_sample(x)
        # (B,S*C,L') -> (B,S,C,L')
        return x.unflatten(1, (self.nb_sources, self.audio_channels))


def _check_positive(**arguments: float) -> None:
    for name, value in arguments.items():
        if not value > 0:
            raise ConfigError(f"{name}: {value} is not positive")


def _mono_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation + 1e-5 of the mono mix, each (B,1,1)."""
    mono = x.mean(dim=1, keepdim=True)
    mean = mono.mean(dim=2, keepdim=True)
    # a single sample has no deviation, where torch would answer NaN
    std = mono.std(dim=2, keepdim=True) if mono.shape[2] > 1 else torch.zeros_like(mean)
    return mean, std + 1e-5


@torch.no_grad()
def _rescale_convolutions(module: nn.Module, reference: float) -> None:
    """Divide weights and biases of every convolution by sqrt(std(weight) / reference)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            scale = (layer.weight.std() / reference).sqrt()
            layer.weight /= scale
            if layer.bias is not None:
                layer.bias /= scale
