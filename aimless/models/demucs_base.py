"""What the networks after Demucs share: normalisation, resampling and the encoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from aimless.errors import ConfigError
from aimless.models.blocks import check_positive, check_waveform, mean_and_std, recompute
from aimless.transforms import Resample, at_least_float32, no_autocast

__all__ = ["DemucsBase"]

# The channels double with every block: the tenth of 64 channels has 32768.
_MAX_DEPTH = 10
_EPS = 1e-5  # added to a deviation before something is divided by it


class DemucsBase(nn.Module):
    """A U-Net on waveforms whose lower half and decoder a subclass adds, with `_decode`.

    The mixture is normalised by the mean and the deviation of its mono mix, and up-sampled.
    Each encoder block is a strided convolution, ReLU, and a convolution of one tap with a gate.
    The convolutions are not padded, so that the output may be shorter than the input:
    `valid_length` gives the lengths that come back whole. An input too short for the
    convolutions is padded with zeros inside, and comes back at its own length.

    Args:
        audio_channels: channels of the audio.
        nb_sources: number of sources.
        channels: width of the first block; each block doubles it.
        depth: number of blocks of the encoder and of the decoder, 1 to 10.
        resample: work at twice the sample rate.
        kernel_size: taps of each block's strided convolution.
        stride: stride of each block.
        checkpoint_gradients: compute each block again for its gradient instead of keeping what
            lies inside.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        audio_channels: int,
        nb_sources: int,
        channels: int,
        depth: int,
        resample: bool,
        kernel_size: int,
        stride: int,
        checkpoint_gradients: bool,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, kernel_size=kernel_size, stride=stride)
        if not 1 <= depth <= _MAX_DEPTH:
            raise ConfigError(f"depth: {depth} is not between 1 and {_MAX_DEPTH}")
        self.audio_channels = audio_channels
        self.nb_sources = nb_sources
        self.depth = depth
        self.kernel_size = kernel_size
        self.stride = stride
        self.resample = resample
        self.checkpoint_gradients = checkpoint_gradients
        if resample:
            self.up_sample = Resample(1, 2, persistent=True)
            self.down_sample = Resample(2, 1, persistent=True)
        self.widths = [channels * 2**level for level in range(depth)]
        self.encoder = nn.ModuleList()
        for inputs, width in zip([audio_channels, *self.widths], self.widths):
            self.encoder.append(
                nn.Sequential(
                    nn.Conv1d(inputs, width, kernel_size, stride),
                    nn.ReLU(),
                    nn.Conv1d(width, 2 * width, 1),
                    nn.GLU(dim=1),
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
        check_waveform(mixture, self.audio_channels)
        with no_autocast(mixture):
            x = at_least_float32(mixture)
            mean, std = mean_and_std(x.mean(dim=1, keepdim=True))
            x = (x - mean) / (std + _EPS)
        samples = x.shape[-1]
        x = F.pad(x, (0, max(0, self.valid_length(1) - samples)))
        x = self._separate_normalised(x)[..., :samples]
        with no_autocast(x):
            return at_least_float32(x) * (std + _EPS)[:, None] + mean[:, None]

    def _separate_normalised(self, x: Tensor) -> Tensor:
        """(B,C,L) -> (B,S,C,L')."""
        if self.resample:
            x = self.up_sample(x)
        skips = []
        for block in self.encoder:
            x = recompute(self.checkpoint_gradients, block, x)
            skips.append(x)
        x = self._decode(x, skips)
        if self.resample:
            x = self.down_sample(x)
        # (B,S*C,L') -> (B,S,C,L')
        return x.unflatten(1, (self.nb_sources, self.audio_channels))

    def _decode(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """The last block's output (B,W,T) and all blocks' outputs -> (B,S*C,L')."""
        raise NotImplementedError
