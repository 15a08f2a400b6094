"""One pass over a song, segment by segment: cut, separate, weight, add.

The song comes in blocks and the stems leave in blocks; what is kept is the segments of a batch.
See `aimless.overlap_add` for a drawing of the weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from aimless.engine.fifo import Fifo
from aimless.errors import ConfigError, NumericalError

__all__ = ["Lengths", "Network", "SegmentPass"]

#: (batch, channels, samples) -> (batch, sources, channels, samples or fewer)
Network = Callable[[Tensor], Tensor]


class Lengths(NamedTuple):
    """How a song is cut, in samples: `hop` + 2 `context` + `ramp` make a segment's `size`.

    `shortest` is the least that the network is given where the song leaves less.
    """

    size: int
    hop: int
    context: int
    ramp: int
    shortest: int


@dataclass(frozen=True)
class _Segment:
    """Samples `start` to `stop` of the song; the network hears `length` from `begin` on."""

    begin: int
    start: int
    stop: int
    length: int
    last: bool


class SegmentPass:
    """An iterator of finished blocks (sources, channels, n), float32 on the device of the song.

    Args:
        network: see `aimless.overlap_add.OverlapAdd.stream`.
        blocks: (channels, n) each, in all at least one sample.
        rate: of the blocks in Hz, for messages.
        device: where the network is.
        lengths: how the song is cut.
        batch_size: segments that go through the network at once.

    Raises:
        ConfigError: while iterating: the network's output is too short for any input.
        NumericalError: while iterating: the network gives numbers that are not finite.
    """

    def __init__(
        self,
        network: Network,
        blocks: Iterable[Tensor],
        rate: int,
        device: torch.device | str,
        lengths: Lengths,
        batch_size: int,
    ) -> None:
        self.network, self.device, self.rate = network, device, rate
        self.size, self.hop, self.context, self.ramp, self.shortest = lengths
        self.batch_size = batch_size
        self.song = _Song(blocks)
        self.swallowed = 0  # samples by which an output is shorter than its input

    def __iter__(self) -> Iterator[Tensor]:
        rest: Tensor | None = None  # of the outputs so far, weighted: (S, C, size - hop)
        weights_of_rest: Tensor | None = None
        for batch in self._batches():
            self.song.forget(batch[0].start - self.hop)
            for segment, estimate in zip(batch, self._separate(batch)):
                done, rest, weights_of_rest = self._add(segment, estimate, rest, weights_of_rest)
                if not done.isfinite().all():
                    where = segment.start / self.rate
                    raise NumericalError(
                        f"the network gives numbers that are not finite after {where:.1f} s; "
                        "precision 32 may help"
                    )
                yield done.to(self.song.device)

    def _segments(self) -> Iterator[_Segment]:
        for start in itertools.count(0, self.hop):
            stop = start + self.size
            if self.song.reaches(stop + 1):
                yield _Segment(start, start, stop, self.size, last=False)
                continue
            # the last is short, and reaches back over real audio where it would be too short
            stop = self.song.end
            length = max(stop - start, self.shortest)
            yield _Segment(max(0, stop - length), start, stop, length, last=True)
            return

    def _batches(self) -> Iterator[list[_Segment]]:
        """Up to `batch_size` segments of one length."""
        batch: list[_Segment] = []
        for segment in self._segments():
            if batch and (len(batch) == self.batch_size or segment.length != self.size):
                yield batch
                batch = []
            batch.append(segment)
        yield batch

    @torch.inference_mode()
    def _separate(self, batch: list[_Segment]) -> Tensor:
        """Outputs of the segments, as long as they: (segments, sources, channels, length)."""
        length = batch[0].length
        for _ in range(8):  # one extra call the first time; strided networks may need a second
            heard = length + self.swallowed
            segments = torch.stack([self.song.cut(s.begin, heard) for s in batch])
            segments = segments.to(self.device)
            estimates = self.network(segments)
            short = length - estimates.shape[-1]
            if short <= 0:
                silent = ~segments.flatten(1).any(1)
                estimates = estimates[..., :length].float()
                return estimates.masked_fill(silent[:, None, None, None], 0)
            self.swallowed += short
        raise ConfigError(
            f"the network gives {estimates.shape[-1]} samples for {heard}; "
            f"it never reaches the {length} of a segment"
        )

    @torch.inference_mode()
    def _add(
        self,
        segment: _Segment,
        estimate: Tensor,
        rest: Tensor | None,
        weights_of_rest: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add an output to the rest of those before: what is final, and the new rest."""
        weights = self._weights(segment, rest is None).to(estimate)
        total = estimate[..., segment.start - segment.begin :][..., : len(weights)] * weights
        if rest is not None and weights_of_rest is not None:
            total[..., : rest.shape[-1]] += rest
            weights[: len(weights_of_rest)] += weights_of_rest
        final = len(weights) if segment.last else self.hop
        return total[..., :final] / weights[:final], total[..., final:], weights[final:]

    def _weights(self, segment: _Segment, first: bool) -> Tensor:
        """Weights of a segment (samples,); no ramp where the song begins or ends."""
        samples = segment.stop - segment.start
        place = torch.arange(samples, dtype=torch.float64)
        weights = torch.ones(samples, dtype=torch.float64)
        if not first:
            weights = torch.minimum(weights, (place + 1 - self.context) / (self.ramp + 1))
        if not segment.last:
            weights = torch.minimum(weights, (samples - self.context - place) / (self.ramp + 1))
        return weights.clamp_(min=0).float()


class _Song:
    """Blocks of audio as one song that is read ahead as far as needed and forgotten behind."""

    def __init__(self, blocks: Iterable[Tensor]) -> None:
        self._blocks = iter(blocks)
        self._fifo = Fifo()
        self._forgotten = 0
        self.end = 0
        self.device = torch.device("cpu")

    def reaches(self, stop: int) -> bool:
        """Whether there are `stop` samples; `end` is the song's where there are not."""
        while self.end < stop:
            block = next(self._blocks, None)
            if block is None:
                return False
            self.device = block.device
            self._fifo.push(block)
            self.end += block.shape[-1]
        return True

    def cut(self, begin: int, length: int) -> Tensor:
        """(channels, length) from sample `begin` on; zeros after the song's end."""
        self.reaches(begin + length)
        stop = min(begin + length, self.end)
        piece = self._fifo.peek(begin - self._forgotten, stop - self._forgotten)
        return pad(piece, (0, begin + length - stop))

    def forget(self, before: int) -> None:
        """Nothing before this sample will be cut again."""
        if before > self._forgotten:
            self._fifo.drop(before - self._forgotten)
            self._forgotten = before
