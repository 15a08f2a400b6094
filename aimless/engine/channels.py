"""Songs and networks of different channel counts."""

from __future__ import annotations

import torch
from torch import Tensor

from aimless.engine.segments import Network

__all__ = ["fit_channels", "groups"]

#: Left-right pairs in the channel orders of WAVE: 3.0, quad, 5.0, 5.1, 6.1 and 7.1.
_PAIRS = {
    3: [(0, 1)],
    4: [(0, 1), (2, 3)],
    5: [(0, 1), (3, 4)],
    6: [(0, 1), (4, 5)],
    7: [(0, 1), (5, 6)],
    8: [(0, 1), (4, 5), (6, 7)],
}


def groups(song_channels: int, network_channels: int | None) -> list[tuple[int, ...]]:
    """Which channels of a song go through the network together.

    All of them where their number is right. A stereo network hears the left-right pairs of
    surround sound as stereo; centre and low frequencies, and everything that fits no network
    otherwise, are heard one by one.
    """
    if network_channels in (None, song_channels):
        return [tuple(range(song_channels))]
    pairs = _PAIRS.get(song_channels, []) if network_channels == 2 else []
    paired = {channel for pair in pairs for channel in pair}
    singles = [(channel,) for channel in range(song_channels) if channel not in paired]
    return sorted([*pairs, *singles])


def fit_channels(network: Network, song_channels: int, network_channels: int | None) -> Network:
    """A network for songs of another channel count than its own.

    A single channel is doubled for a stereo network, and its stems averaged. The groups of
    `groups` are segments of one batch.

    Args:
        network: (batch, network_channels, samples) -> (batch, sources, network_channels, n).
        song_channels: channels that the result is given, and gives.
        network_channels: None if the network takes any number.
    """
    if network_channels is None or network_channels == song_channels:
        return network
    width = network_channels
    parts = groups(song_channels, width)

    def call(segments: Tensor) -> Tensor:
        batch = len(segments)
        heard = [segments[:, list(part)].expand(-1, width, -1) for part in parts]
        estimates = network(torch.cat(heard))  # (parts * batch, S, width, n)
        outputs = [
            estimate if len(part) == width else estimate.mean(2, keepdim=True)
            for part, estimate in zip(parts, estimates.split(batch))
        ]
        order = [channel for part in parts for channel in part]
        return torch.cat(outputs, dim=2)[:, :, torch.tensor(order).argsort()]

    return call
