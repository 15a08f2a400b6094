"""A song in, stems out, at the song's own rate, length and channel count.

    blocks of the song -> network's rate -> segments -> network -> overlap-add -> song's rate

Everything flows in blocks, so that memory does not grow with the song.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from aimless.engine.channels import fit_channels
from aimless.engine.fifo import Fifo, collect
from aimless.engine.segments import Network
from aimless.overlap_add import OverlapAdd, Progress
from aimless.songs.resampling import resampled
from aimless.songs.song import Song
from aimless.songs.stem_files import write_stems

__all__ = ["SecondsDone", "separate", "separate_blocks", "write_stems"]

#: (seconds done, seconds in all)
SecondsDone = Callable[[float, float], None]


def separate_blocks(
    network: Network,
    song: Song,
    *,
    sample_rate: int = 44100,
    channels: int | None = 2,
    overlap_add: OverlapAdd | None = None,
    device: torch.device | str = "cpu",
    progress: SecondsDone | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Separate a song of any length block by block.

    Args:
        network: (batch, channels, samples) -> (batch, sources, channels, samples or fewer),
            at `sample_rate`.
        song: is read once. It is resampled in and out only if its rate differs.
        sample_rate: the network's sample rate in Hz.
        channels: the network's channel count; None if it takes any. See
            `aimless.engine.channels.fit_channels` for songs of another count.
        overlap_add: how the song is cut; the default settings if None.
        device: where the network is.
        progress: called with seconds of audio after each block.

    Yields:
        Mixture (channels, n) and stems (sources, channels, n), in all as many samples as the
        song has.

    Raises:
        DataError: the song cannot be read, or a sample is not finite.
        NumericalError: the network gives numbers that are not finite.
    """
    mixture, stems = Fifo(), Fifo()

    def heard() -> Iterator[Tensor]:
        for block in song.blocks():
            mixture.push(block)
            yield block

    done = 0

    def report(samples: int, total: int) -> None:
        nonlocal done
        done += samples
        if progress:
            progress(done / song.rate, max(total, done) / song.rate)

    fitting = fit_channels(network, song.channels, channels)
    at_network = resampled(heard(), song.rate, sample_rate)
    separated = (overlap_add or OverlapAdd()).stream(fitting, at_network, sample_rate, device)
    for block in resampled(separated, sample_rate, song.rate):
        stems.push(block)
        ready = min(len(stems), len(mixture))
        if ready:
            yield mixture.take(ready), stems.take(ready)
            report(ready, song.frames)
    if missing := len(mixture):  # resampling in and out may round a sample away
        yield mixture.take(missing), block.new_zeros(*block.shape[:-1], missing)
    report(missing, done + missing)


def separate(
    network: Network,
    audio: Tensor,
    rate: int,
    *,
    sample_rate: int = 44100,
    channels: int | None = 2,
    overlap_add: OverlapAdd | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Tensor:
    """Separate one song that is in memory; see `separate_blocks`.

    Args:
        network: see `separate_blocks`.
        audio: (channels, samples), any number of samples from 1 up.
        rate: sample rate of the audio in Hz.
        sample_rate: the network's sample rate in Hz.
        channels: the network's channel count; None if it takes any.
        overlap_add: how the song is cut; the default settings if None.
        device: where the network is.
        progress: called with (samples done, samples in all).

    Returns:
        (sources, channels, samples), with the song's channels and samples, on the CPU.

    Raises:
        DataError: no samples, or a sample that is not finite.
    """
    song = Song.from_array(audio, rate)

    def report(done: float, seconds: float) -> None:
        if progress:
            progress(round(done * rate), round(seconds * rate))

    blocks = separate_blocks(
        network,
        song,
        sample_rate=sample_rate,
        channels=channels,
        overlap_add=overlap_add,
        device=device,
        progress=report,
    )
    return collect((stems for _, stems in blocks), song.frames)
