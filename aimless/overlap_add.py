r"""Long audio through a network that sees short segments.

        |<---- segment ---->|
    ____/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾\____            weights of one segment: linear ramps over
            |<---- segment ---->|            the overlap, flat in between
        ____/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾\____
        |hop|

Each output is weighted, added, and the sum divided by the sum of the weights; where a network
gives its input back, so does the whole, whatever the lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from aimless.errors import ConfigError

__all__ = ["OverlapAdd"]

Network = Callable[[Tensor], Tensor]
#: (samples done, samples in all)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class OverlapAdd:
    """How long audio is cut into segments for a network, and put together again.

    Args:
        segment: length of a segment in seconds; best is about what the network was trained on.
        overlap: share of a segment that the next one repeats, from 0 to below 1. More makes
            seams smoother and takes longer.
        batch_size: segments that go through the network at once.

    Raises:
        ConfigError: a value outside its range.
    """

    segment: float = 10.0
    overlap: float = 0.25
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.segment < float("inf"):
            raise ConfigError(f"overlap_add.segment: {self.segment} s; must be above 0")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap_add.overlap: {self.overlap}; must be from 0 to below 1")
        if self.batch_size < 1:
            raise ConfigError(f"overlap_add.batch_size: {self.batch_size}; must be at least 1")

    def __call__(
        self,
        network: Network,
        mixture: Tensor,
        sample_rate: int,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> Tensor:
        """Separate a mixture of any length.

        Args:
            network: (batch, channels, samples) -> (batch, sources, channels, samples or fewer).
                An output that is shorter than its input starts with it; the network is then
                given as much more audio as it swallows.
            mixture: (channels, samples), at least one sample.
            sample_rate: of the mixture in Hz.
            device: where the network is; the song stays where it was.
            progress: called after each batch.

        Returns:
            (sources, channels, samples)
        """
        samples = mixture.shape[-1]
        size = max(1, round(self.segment * sample_rate))
        hop = max(1, size - int(self.overlap * size))
        network = _same_length(network)
        if samples <= size:
            # a whole second at least, as no network learned from less
            padded = _pad_to(mixture, min(size, sample_rate))
            estimate = network(padded[None].to(device))[0, ..., :samples].to(mixture)
            if progress:
                progress(samples, samples)
            return estimate

        weights = _trapezoid(size, size - hop).to(mixture)
        total: Tensor | None = None
        weight_sum = mixture.new_zeros(samples)
        for starts in _batches(_segment_starts(samples, size, hop), self.batch_size):
            segments = torch.stack([mixture[:, start : start + size] for start in starts])
            estimates = network(segments.to(device)).to(mixture)
            if total is None:
                total = mixture.new_zeros(*estimates.shape[1:-1], samples)
            for start, estimate in zip(starts, estimates):
                total[..., start : start + size] += estimate * weights
                weight_sum[start : start + size] += weights
            if progress:
                progress(min(starts[-1] + size, samples), samples)
        assert total is not None  # there is a first segment
        return total.div_(weight_sum)


def _segment_starts(samples: int, size: int, hop: int) -> list[int]:
    """Where segments begin; the last ends with the song, on real audio instead of padding."""
    return [*range(0, samples - size, hop), samples - size]


def _batches(items: list[int], size: int) -> Iterator[list[int]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _trapezoid(size: int, ramp: int) -> Tensor:
    """Weights of a segment: up over `ramp` samples, flat, down; all above 0."""
    up = torch.arange(1, ramp + 1, dtype=torch.float32) / (ramp + 1)
    weights = torch.ones(size)
    if ramp:
        weights[:ramp] = up
        weights[size - ramp :] = torch.minimum(weights[size - ramp :], up.flip(0))
    return weights


def _pad_to(mixture: Tensor, samples: int) -> Tensor:
    return torch.nn.functional.pad(mixture, (0, max(0, samples - mixture.shape[-1])))


def _same_length(network: Network) -> Network:
    """A network whose output is never shorter than its input."""
    missing = 0

    def call(mixture: Tensor) -> Tensor:
        nonlocal missing
        wanted = mixture.shape[-1]
        for _ in range(8):  # one extra call the first time; strided networks may need a second
            estimate = network(_pad_to(mixture, wanted + missing))
            short = wanted - estimate.shape[-1]
            if short <= 0:
                return estimate[..., :wanted]
            missing += short
        raise ConfigError(
            f"the network gives {estimate.shape[-1]} samples for {wanted + missing - short}; "
            f"it never reaches the {wanted} of a segment"
        )

    return call
