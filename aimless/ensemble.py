"""Networks made of networks: several views of a song, several models, a filter at the end.

Each part here takes networks and is one itself: mixture (batch, channels, samples) ->
(batch, sources, channels, samples or fewer), with `sources`, `sample_rate` and `channels`. They
nest, and `aimless.recipe` builds them from a YAML file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from aimless.errors import ConfigError
from aimless.network import AudioNetwork, MaskNetwork
from aimless.transforms import STFT
from aimless.wiener import MWF

__all__ = ["Blend", "Ensemble", "MidSide", "Normalised", "WienerRefine"]


class Ensemble(AudioNetwork):
    """Base class of the parts. A recipe describes them, not one class and its arguments.

    Args:
        sources: names of the stems, in the order of the output's source axis.
        sample_rate: of the audio, in Hz.
        channels: audio channels; None if it takes any.
    """

    def __init__(self, sources: Sequence[str], sample_rate: int, channels: int | None) -> None:
        super().__init__()
        self.targets = tuple(sources)
        self.sample_rate = sample_rate
        self.channels = channels


class MidSide(Ensemble):
    """Stereo from a mono network, which hears left, right, mid and side one by one.

    With M = (L + R) / 2 and S = (L - R) / 2, an estimate of the left channel is that of L
    itself, another one those of M and S added; of the right, R itself and M less S. The output
    is the weighted mean of the two.

    Args:
        network: of one audio channel.
        direct: weight of the estimates from left and right themselves, from 0 to 1; mid and side
            get the rest.

    Shape:
        (batch, 2, samples) -> (batch, sources, 2, samples or fewer)

    Raises:
        ConfigError: the network is not mono, or the weight is out of range.
    """

    def __init__(self, network: AudioNetwork, direct: float = 0.5) -> None:
        if network.channels not in (None, 1):
            raise ConfigError(f"MidSide: needs a mono network, got {network.channels} channels")
        if not 0 <= direct <= 1:
            raise ConfigError(f"MidSide.direct: {direct}; must be from 0 to 1")
        super().__init__(network.sources, network.sample_rate, 2)
        self.network = network
        self.direct = direct

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate all four views in one batch."""
        left, right = mixture.unbind(1)
        views = torch.stack([left, right, (left + right) / 2, (left - right) / 2], dim=1)
        estimates = self.network(views.flatten(0, 1)[:, None])  # (4*B,S,1,L)
        left, right, mid, side = estimates.unflatten(0, (-1, 4)).squeeze(3).unbind(1)  # (B,S,L)
        direct = torch.stack([left, right], dim=2)
        indirect = torch.stack([mid + side, mid - side], dim=2)
        return self.direct * direct + (1 - self.direct) * indirect


class Blend(Ensemble):
    """Weighted mean of several networks' estimates, source by source.

    Args:
        members: networks of one sample rate. Each may give other sources; a source's estimate
            is the mean over the members that give it.
        weights: per member, for all sources; or source -> weights per member, where a source
            that is not named gets equal ones. A member that does not give a source must have
            the weight 0 there. They are divided by their sum.

    Shape:
        (batch, channels, samples) -> (batch, sources, channels, samples or fewer); the sources
        in the order in which the members first name them

    Raises:
        ConfigError: members that do not fit each other, or weights that do not fit them.
    """

    members: nn.ModuleList
    weights: Tensor

    def __init__(
        self,
        members: Sequence[AudioNetwork],
        weights: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        members = list(members)
        if not members:
            raise ConfigError("Blend.members: none given")
        rates = sorted({member.sample_rate for member in members})
        if len(rates) > 1:
            raise ConfigError(f"Blend.members: several sample rates, {rates} Hz")
        channels = {member.channels for member in members if member.channels is not None}
        if len(channels) > 1:
            raise ConfigError(f"Blend.members: take {sorted(channels)} channels; need the same")
        sources = tuple(dict.fromkeys(name for member in members for name in member.sources))
        super().__init__(sources, rates[0], next(iter(channels), None))
        self.members = nn.ModuleList(members)
        self._places = [[sources.index(name) for name in member.sources] for member in members]
        table = _weight_table(sources, [member.sources for member in members], weights)
        self.register_buffer("weights", table, persistent=False)

    def forward(self, mixture: Tensor) -> Tensor:
        """Run all members, over the length that all of them give."""
        estimates = [member(mixture) for member in self.members]
        samples = min(estimate.shape[-1] for estimate in estimates)
        out = estimates[0].new_zeros(
            len(mixture), len(self.sources), *estimates[0].shape[2:-1], samples
        )
        for row, places, estimate in zip(self.weights, self._places, estimates):
            weight = row[places].to(estimate)[:, None, None]  # (S,1,1)
            out[:, places] += weight * estimate[..., :samples]
        return out


def _weight_table(
    sources: Sequence[str],
    given: Sequence[Sequence[str]],
    weights: Sequence[float] | Mapping[str, Sequence[float]] | None,
) -> Tensor:
    """Weights (members, sources), each column with the sum 1."""
    present = torch.tensor([[name in names for name in sources] for names in given]).double()
    table = present.clone()
    if isinstance(weights, Mapping):
        unknown = sorted(set(weights) - set(sources))
        if unknown:
            raise ConfigError(f"Blend.weights: {', '.join(unknown)}; known: {', '.join(sources)}")
        columns = weights
    else:
        columns = {} if weights is None else dict.fromkeys(sources, weights)
    for name, column in columns.items():
        place = sources.index(name)
        values = torch.tensor([float(value) for value in column], dtype=torch.float64)
        if len(values) != len(given) or not (values >= 0).all() or not values.isfinite().all():
            raise ConfigError(
                f"Blend.weights.{name}: {list(column)}; needs {len(given)} numbers of 0 or more"
            )
        if isinstance(weights, Mapping) and (values[present[:, place] == 0] != 0).any():
            raise ConfigError(f"Blend.weights.{name}: {list(column)} weighs a member without it")
        table[:, place] = values * present[:, place]
    total = table.sum(0)
    if (total <= 0).any():
        name = sources[int(total.argmin())]
        raise ConfigError(f"Blend.weights: all are 0 for {name}")
    return table / total


class Normalised(Ensemble):
    """A network that expects its input with mean 0 and standard deviation 1.

    Both are of the mono mix, of each item by itself; they are undone on the stems. Silence
    stays silence.

    Args:
        network: any.

    Shape:
        (batch, channels, samples) -> (batch, sources, channels, samples or fewer)
    """

    def __init__(self, network: AudioNetwork) -> None:
        super().__init__(network.sources, network.sample_rate, network.channels)
        self.network = network

    def forward(self, mixture: Tensor) -> Tensor:
        """Normalise, separate, and undo it."""
        mono = mixture.mean(1, keepdim=True)
        mean = mono.mean(-1, keepdim=True)
        scale = mono.std(-1, keepdim=True, correction=0).clamp_min(1e-8)
        return self.network((mixture - mean) / scale) * scale[:, None] + mean[:, None]


class WienerRefine(Ensemble):
    """A network whose estimates go through the multichannel Wiener filter.

    Of a network on spectrograms the masks are filtered, in place of its own filter. Of any
    other, the masks are the ratios of its estimates' magnitudes to the mixture's.

    Args:
        network: any.
        n_iter: see `aimless.wiener.MWF`.
        residual_model: see `aimless.wiener.MWF`; the residual is not part of the output.
        softmask: see `aimless.wiener.MWF`.
        alpha: see `aimless.wiener.MWF`.
        precision: see `aimless.wiener.MWF`.
        n_fft: FFT length, for networks on waveforms.
        hop_length: samples between frames, for networks on waveforms.

    Shape:
        (batch, channels, samples) -> (batch, sources, channels, samples or fewer)

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        network: AudioNetwork,
        n_iter: int = 1,
        residual_model: bool = False,
        softmask: bool = False,
        alpha: float = 1.0,
        precision: Literal["double", "single"] = "double",
        n_fft: int = 4096,
        hop_length: int = 1024,
    ) -> None:
        super().__init__(network.sources, network.sample_rate, network.channels)
        self.network = network
        self.filter = MWF(residual_model, softmask, alpha, n_iter, precision)
        self.spec = network.spec if isinstance(network, MaskNetwork) else STFT(n_fft, hop_length)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate and filter."""
        if isinstance(self.network, MaskNetwork):
            spectrogram = self.spec(mixture)
            masks = self.network.masks(spectrogram)
        else:
            estimates = self.network(mixture)
            mixture = mixture[..., : estimates.shape[-1]]
            spectrogram = self.spec(mixture)
            tiny = torch.finfo(spectrogram.real.dtype).tiny
            masks = self.spec(estimates).abs() / spectrogram.abs().clamp_min(tiny)[:, None]
        filtered = self.filter(masks, spectrogram)[:, : len(self.sources)]
        return self.spec.inverse(filtered, mixture.shape[-1])
