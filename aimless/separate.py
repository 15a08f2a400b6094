"""A song in, named stems out, at the song's own rate, length and channel count."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aimless.errors import DataError
from aimless.overlap_add import Network, OverlapAdd, Progress

__all__ = ["separate", "write_stems"]


@torch.inference_mode()
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
    """Separate one song.

    Args:
        network: (batch, channels, samples) -> (batch, sources, channels, samples or fewer),
            at `sample_rate`.
        audio: (channels, samples), any number of both from 1 up.
        rate: sample rate of the audio in Hz. It is resampled in and out only if it differs.
        sample_rate: the network's sample rate in Hz.
        channels: the network's channel count; None if it takes any. A mono song is doubled for
            a stereo network and the stems averaged; channels that do not fit otherwise are
            separated one by one.
        overlap_add: how the song is cut; the default settings if None.
        device: where the network is.
        progress: called with (samples done, samples in all).

    Returns:
        (sources, channels, samples), with the song's channels and samples.

    Raises:
        DataError: no samples, or a sample that is not finite.
    """
    _check(audio)
    overlap_add = overlap_add or OverlapAdd()
    resampled = _resample(audio, rate, sample_rate)  # (C, samples at sample_rate)
    song_channels = audio.shape[0]
    fitting = channels in (None, song_channels)
    if fitting:
        parts = [resampled]
    else:
        parts = [channel.expand(channels, -1) for channel in resampled[:, None]]

    estimates = []
    for index, part in enumerate(parts):

        def report(done: int, samples: int, index: int = index) -> None:
            if progress:
                progress(index * samples + done, len(parts) * samples)

        stems = overlap_add(network, part, sample_rate, device, report)  # (S, channels, samples)
        estimates.append(stems if fitting else stems.mean(1, keepdim=True))
    stems = torch.cat(estimates, dim=1)  # (S, C, samples at sample_rate)
    flat = _resample(stems.flatten(0, 1), sample_rate, rate, audio.shape[-1])
    return flat.view(-1, *audio.shape)


def _check(audio: Tensor) -> None:
    if audio.ndim != 2 or 0 in audio.shape:
        raise DataError(
            f"audio of shape {tuple(audio.shape)}; needs (channels, samples), not empty"
        )
    finite = audio.isfinite().all(0)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise DataError(f"a sample that is not finite (NaN or infinite), the first at {first}")


def _resample(audio: Tensor, rate: int, new_rate: int, samples: int | None = None) -> Tensor:
    """Resample (channels, samples) with soxr; cut or pad to `samples` if given."""
    if rate != new_rate:
        import soxr  # only where rates differ

        resampled = soxr.resample(audio.T.cpu().numpy(), rate, new_rate)
        audio = torch.from_numpy(np.ascontiguousarray(resampled.T)).to(audio.dtype)
    if samples is not None:
        audio = torch.nn.functional.pad(audio, (0, samples - audio.shape[-1]))
    return audio


def write_stems(folder: Path, stems: Mapping[str, Tensor], rate: int) -> list[Path]:
    """Write one 32-bit float WAV per stem, so that nothing clips.

    Each file is written under a temporary name and renamed once all are complete.

    Args:
        folder: made if missing.
        stems: name -> (channels, samples).
        rate: in Hz.

    Returns:
        The paths, `folder/<name>.wav`.

    Raises:
        DataError: the folder cannot be written to.
    """
    import soundfile

    pending: list[tuple[Path, Path]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, stem in stems.items():
            temporary = folder / f".{name}.wav.part"
            pending.append((temporary, folder / f"{name}.wav"))
            samples = stem.T.cpu().numpy()
            soundfile.write(temporary, samples, rate, format="WAV", subtype="FLOAT")
        for temporary, final in pending:
            os.replace(temporary, final)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{folder}: stems cannot be written: {error}") from error
    finally:
        for temporary, _ in pending:
            temporary.unlink(missing_ok=True)
    return [final for _, final in pending]
