"""Where the tracks of a data set lie, and what is in each: the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aimless.draws import generator
from aimless.errors import ConfigError
from aimless.sources import MDX_SOURCES, SDX_SOURCES
from data.dataset.musdb import VALIDATION_TRACKS
from synthetic.planted import Error, draw_errors
from synthetic.song import compose

__all__ = ["LAYOUTS", "SPLITS", "Layout", "Settings", "Track", "make_plan", "tracks_of"]

SPLITS = ("train", "validation", "test")


class Layout(NamedTuple):
    """The form of a data set.

    Attributes:
        folders: split -> folder.
        sources: names of the stems.
        mixture: name of the mixture.
        errors: whether training tracks have errors in their labels.
    """

    folders: dict[str, str]
    sources: tuple[str, ...]
    mixture: str
    errors: bool = False


LAYOUTS = {
    "musdb": Layout(
        {"train": "train", "validation": "train", "test": "test"}, MDX_SOURCES, "mixture"
    ),
    "dnr": Layout({"train": "tr", "validation": "cv", "test": "tt"}, SDX_SOURCES, "mix"),
    "label_noise": Layout(
        {"train": "train", "validation": "valid", "test": "valid"}, MDX_SOURCES, "mixture", True
    ),
}


class Settings(NamedTuple):
    """What decides which tracks there are.

    Attributes:
        layout: a name in `LAYOUTS`.
        counts: split -> number of tracks.
        shortest: seconds of a track.
        longest: seconds; the length of each is drawn between the two.
        seed: of everything.
        errors: share of the training tracks that have an error, in a layout with errors.
    """

    layout: str
    counts: dict[str, int]
    shortest: float
    longest: float
    seed: int
    errors: float


class Track(NamedTuple):
    """A track that is to be made.

    Attributes:
        place: its folder, relative to that of the data set.
        seed: its key of random numbers.
        seconds: its length.
        errors: in its labels.
    """

    place: str
    seed: tuple[int | str, ...]
    seconds: float
    errors: tuple[Error, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.place.rsplit("/", 1)[-1]


def make_plan(settings: Settings) -> dict[str, Any]:
    """What is to be made, as JSON holds it; `tracks_of` reads it.

    A track is the same whatever other tracks there are.

    Raises:
        ConfigError: more validation songs than the layout has names for.
    """
    layout = LAYOUTS[settings.layout]
    if settings.layout == "musdb" and settings.counts["validation"] > len(VALIDATION_TRACKS):
        raise ConfigError(
            f"--validation: {settings.counts['validation']}; MUSDB names {len(VALIDATION_TRACKS)} "
            "songs for it, take no more"
        )
    tracks: dict[str, dict[str, Any]] = {}
    for split, count in settings.counts.items():
        for number in range(count):
            seed = (settings.seed, split, number)
            name = _name(settings.layout, split, number)
            length = generator("length", *seed).uniform(settings.shortest, settings.longest)
            seconds = round(float(length), 2)
            track: dict[str, Any] = {"seed": list(seed), "seconds": seconds}
            if settings.layout != "dnr":
                track |= _describe_song(seconds, seed, settings, layout, split)
            tracks[f"{layout.folders[split]}/{name}"] = track
    return {"tracks": tracks}


def tracks_of(plan: Mapping[str, Any]) -> list[Track]:
    """The tracks of a plan."""
    return [
        Track(
            place,
            tuple(track["seed"]),
            track["seconds"],
            tuple(Error(*error) for error in track.get("errors", ())),
        )
        for place, track in plan["tracks"].items()
    ]


def _describe_song(
    seconds: float, seed: tuple[int | str, ...], settings: Settings, layout: Layout, split: str
) -> dict[str, Any]:
    """What a reader of the plan may want to know, and the errors."""
    song = compose(seconds, *seed)
    share = settings.errors if layout.errors and split == "train" else 0.0
    errors = draw_errors(generator("errors", *seed), song, share)
    return {
        "style": song.style,
        "key": song.key,
        "tempo": round(song.tempo, 1),
        "form": " ".join(song.form),
        "programs": {part.name: part.program for part in song.parts if part.player == "instrument"},
        "errors": [list(error) for error in errors],
    }


def _name(layout: str, split: str, number: int) -> str:
    """Of a track's folder; unique in its data set."""
    if layout == "dnr":
        return f"{number + 1:05}"
    if layout == "musdb" and split == "validation":
        return VALIDATION_TRACKS[number]  # by which the data module knows them
    word = {"train": "Song", "validation": "Validation Song", "test": "Test Song"}[split]
    return f"Synthetic - {word} {number + 1:04}"
