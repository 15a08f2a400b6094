r"""Long audio through a network that sees short segments.

        |<---- segment ---->|
    ______/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾\______            weights of one segment: zero over the context,
    |<c>|<r>|           |<r>|<c>|            linear ramps r over the rest of the overlap,
                |<---- segment ---->|        flat in between
            ______/‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾\______
    |<- hop ->|

Each output is weighted and added to the next one's, and the sum divided by the sum of the
weights; where a network gives its input back, so does the whole, whatever the lengths. The audio
comes and goes in blocks: what is kept is the segments of a batch, whatever the song's length.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from aimless.draws import generator
from aimless.engine.fifo import Fifo, collect
from aimless.engine.segments import Lengths, Network, SegmentPass
from aimless.engine.tta import TTA_VARIANTS, augmented
from aimless.errors import ConfigError

__all__ = ["Network", "OverlapAdd", "Progress"]

#: (samples done, samples in all)
Progress = Callable[[int, int], None]

#: Seconds by which the passes of shift averaging lie apart at most, as in Demucs.
_MAX_SHIFT = 0.5


@dataclass(frozen=True)
class OverlapAdd:
    """How long audio is cut into segments for a network, and put together again.

    Args:
        segment: length of a segment in seconds; best is about what the network was trained on.
        overlap: share of a segment that the next one repeats, from 0 to below 1. More makes
            seams smoother and takes longer.
        context: seconds at both edges of a segment that the network hears and whose output is
            discarded; part of the overlap, so at most half of it. What remains of the overlap
            is cross-faded.
        batch_size: segments that go through the network at once.
        shifts: passes over the song, each but the first with the audio moved by up to half a
            second, whose mean is taken; n passes take n times as long.
        seed: of the random shifts.
        tta: test-time augmentation: also separate each segment with inverted `polarity` or, if
            it is stereo, with a `swap` of its channels, undo that, and take the mean. Each
            costs a run of the network more.
        fixed: let all segments have one length, as a compiled network wants; otherwise the last
            one is only as long as what is left of the song.

    Raises:
        ConfigError: a value outside its range.
    """

    segment: float = 10.0
    overlap: float = 0.25
    batch_size: int = 1
    context: float = 0.0
    shifts: int = 1
    seed: int = 0
    tta: tuple[str, ...] = ()
    fixed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.segment < float("inf"):
            raise ConfigError(f"overlap_add.segment: {self.segment} s; must be above 0")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap_add.overlap: {self.overlap}; must be from 0 to below 1")
        longest = self.overlap * self.segment / 2
        if not 0 <= self.context <= longest:
            raise ConfigError(
                f"overlap_add.context: {self.context} s; must be from 0 to {longest:g} s, half of "
                "the overlap"
            )
        for name in ("batch_size", "shifts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"overlap_add.{name}: {getattr(self, name)}; must be at least 1")
        for name in self.tta:
            if name not in TTA_VARIANTS:
                known = ", ".join(TTA_VARIANTS)
                raise ConfigError(f"overlap_add.tta: unknown '{name}'; known: {known}")
        if self.seed < 0:
            raise ConfigError(f"overlap_add.seed: {self.seed}; must be 0 or above")

    def __call__(
        self,
        network: Network,
        mixture: Tensor,
        sample_rate: int,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> Tensor:
        """Separate a mixture of any length; see `stream`.

        Args:
            network: see `stream`.
            mixture: (channels, samples), at least one sample.
            sample_rate: of the mixture in Hz.
            device: where the network is; the song stays where it was.
            progress: called whenever a part is done.

        Returns:
            (sources, channels, samples)
        """
        samples = mixture.shape[-1]

        def blocks() -> Iterator[Tensor]:
            done = 0
            for block in self.stream(network, [mixture], sample_rate, device):
                yield block
                done += block.shape[-1]
                if progress:
                    progress(done, samples)

        return collect(blocks(), samples)

    def stream(
        self,
        network: Network,
        blocks: Iterable[Tensor],
        sample_rate: int,
        device: torch.device | str = "cpu",
    ) -> Iterator[Tensor]:
        """Separate audio that arrives in blocks of any lengths.

        Args:
            network: (batch, channels, samples) -> (batch, sources, channels, samples or fewer).
                An output that is shorter than its input starts with it; the network is then
                given as much more audio as it swallows.
            blocks: (channels, n) each, in all at least one sample.
            sample_rate: of the blocks in Hz.
            device: where the network is.

        Yields:
            (sources, channels, n) float32 on the device of the blocks; in all as many samples
            as came. A segment of digital silence gives silence, whatever the network says.

        Raises:
            ConfigError: the network's output is too short for any input.
            NumericalError: the network gives numbers that are not finite.
        """
        run = augmented(network, self.tta)
        lengths = self._lengths(sample_rate)

        def one_pass(audio: Iterable[Tensor]) -> Iterator[Tensor]:
            return iter(
                SegmentPass(run, audio, sample_rate, device, lengths, batch_size=self.batch_size)
            )

        if self.shifts == 1:
            yield from one_pass(blocks)
            return
        longest = max(1, round(_MAX_SHIFT * sample_rate))
        drawn = generator("shifts", self.seed).integers(1, longest + 1, self.shifts - 1)
        shifts = [0, *map(int, drawn)]
        copies = itertools.tee(blocks, self.shifts)
        yield from _mean(
            [_dropped(one_pass(_delayed(c, shift)), shift) for c, shift in zip(copies, shifts)]
        )

    def _lengths(self, sample_rate: int) -> Lengths:
        size = max(1, round(self.segment * sample_rate))
        overlap = min(int(self.overlap * size), size - 1)
        context = min(round(self.context * sample_rate), overlap // 2)
        return Lengths(
            size=size,
            hop=size - overlap,
            context=context,
            ramp=overlap - 2 * context,
            # no network learned from less than a second
            shortest=size if self.fixed else min(size, sample_rate),
        )


def _delayed(blocks: Iterable[Tensor], samples: int) -> Iterator[Tensor]:
    """The audio after `samples` zeros."""
    for block in blocks:
        yield pad(block, (samples, 0))
        samples = 0


def _dropped(blocks: Iterable[Tensor], samples: int) -> Iterator[Tensor]:
    """The audio without its first `samples`."""
    for block in blocks:
        kept = block[..., samples:]
        samples -= block.shape[-1] - kept.shape[-1]
        if kept.shape[-1]:
            yield kept


def _mean(passes: list[Iterator[Tensor]]) -> Iterator[Tensor]:
    """The mean of streams of equal length, whose blocks end at different places."""
    queues = [Fifo() for _ in passes]
    while True:
        for queue, stream in zip(queues, passes):
            if not len(queue):
                block = next(stream, None)
                if block is None:
                    return
                queue.push(block)
        samples = min(map(len, queues))
        yield torch.stack([queue.take(samples) for queue in queues]).mean(0)
