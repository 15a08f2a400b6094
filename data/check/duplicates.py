"""The same sound twice: tracks and files, within a split and across splits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from data.audio import printable
from data.check.findings import Finding, LookedAt

__all__ = ["find_duplicates"]

Sound = tuple[tuple[str, str], ...]  # (stem, identity) of a track


def find_duplicates(tracks: Sequence[LookedAt], sources: Sequence[str]) -> list[Finding]:
    """Findings about tracks and files that are copies of earlier ones.

    Sound is the same if the digests of all its samples are, see `data.check.measure`; where
    no samples were read, if the files are, links resolved. Silence is not compared.

    Args:
        tracks: what is known of them.
        sources: names of the stems.
    """
    identities = [_identify(track) for track in tracks]
    sounds = [_sound(known, sources) for known in identities]
    return [
        *_twins(tracks, sounds),
        *_copies(tracks, identities, sounds, sources),
    ]


def _identify(track: LookedAt) -> dict[str, str]:
    """What each file of a track is known by; "" for silence."""
    if track.measure is not None:
        return {
            name: found.digest for name, found in track.measure.files.items() if not found.fault
        }
    return {name: os.path.realpath(file) for name, file in track.headers.items()}


def _sound(known: dict[str, str], sources: Sequence[str]) -> Sound | None:
    """A track by its stems; None if all of them are silent."""
    sound = tuple((name, known[name]) for name in sources if name in known)
    return sound if any(identity for _, identity in sound) else None


def _twins(tracks: Sequence[LookedAt], sounds: Sequence[Sound | None]) -> Iterator[Finding]:
    first: dict[Sound, LookedAt] = {}
    for track, sound in zip(tracks, sounds):
        twin = track if sound is None else first.setdefault(sound, track)
        if twin is track:
            continue
        text = f"all stems are those of {printable(twin.found.folder)}"
        if twin.split != track.split:
            yield track.finding("error", "in two splits", track.found.folder, text)
        else:
            yield track.finding("warning", "duplicate", track.found.folder, text)


def _copies(
    tracks: Sequence[LookedAt],
    identities: Sequence[dict[str, str]],
    sounds: Sequence[Sound | None],
    sources: Sequence[str],
) -> Iterator[Finding]:
    """Files that sound as an earlier one, unless their whole tracks do.

    A mixture may be the same as a stem of its track, if the others are silent.
    """
    first: dict[str, tuple[int, str]] = {}
    for number, (track, known) in enumerate(zip(tracks, identities)):
        for name, identity in known.items():
            owner, original = (
                first.setdefault(identity, (number, name)) if identity else (number, name)
            )
            if (owner, original) == (number, name):
                continue
            if owner == number and not (name in sources and original in sources):
                continue
            if owner != number and sounds[owner] is not None and sounds[owner] == sounds[number]:
                continue
            text = f"the same sound as {printable(tracks[owner].headers[original])}"
            yield track.finding("warning", "duplicate", track.headers[name].path, text)
