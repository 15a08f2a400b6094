"""Where estimates come from: a folder, a network, or the baselines that need neither."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aimless.errors import ConfigError, DataError
from aimless.evaluation.ideal_mask import ideal_masks
from aimless.evaluation.songs import Song, SongFiles, find_songs
from aimless.evaluation.stems import ArrayStem, FileStem, Stem
from aimless.songs.audio_paths import printable

if TYPE_CHECKING:
    from aimless.separator import Separator

__all__ = [
    "Estimates",
    "FolderEstimates",
    "IdealMaskEstimates",
    "MixtureEstimates",
    "NetworkEstimates",
]


class Estimates(ABC):
    """Estimated stems of any song; `label` is what reports call them."""

    label: str
    #: Whether songs may be scored in other processes.
    portable = True

    def sources(self, songs: Mapping[str, SongFiles]) -> list[str]:
        """Sources that are estimated, out of those that any song has a reference of."""
        return sorted({source for song in songs.values() for source in song.sources})

    @abstractmethod
    def stems(self, song: Song, sources: Sequence[str]) -> Mapping[str, Stem]:
        """The estimates of a song.

        Raises:
            DataError: one is missing or cannot be read.
        """


class FolderEstimates(Estimates):
    """Files `<root>/[test/]<song>/<source>.wav`, as `aimless separate` writes them.

    Args:
        root: the folder.

    Raises:
        DataError: there is no folder, or no song in it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.label = root, printable(root)
        self.songs = find_songs(root)

    def sources(self, songs: Mapping[str, SongFiles]) -> list[str]:
        """Sources that any song has both a reference and an estimate of."""
        known = set(super().sources(songs))
        found = {source for song in self.songs.values() for source in song.sources}
        if not known & found:
            raise DataError(
                f"{self.root}: estimates of {', '.join(sorted(found))}, "
                f"but the references are {', '.join(sorted(known))}"
            )
        return sorted(known & found)

    def stems(self, song: Song, sources: Sequence[str]) -> Mapping[str, Stem]:
        """The files of a song."""
        if song.name not in self.songs:
            raise DataError(f"{self.root}: no folder '{song.name}'")
        files = self.songs[song.name].stems
        missing = [source for source in sources if source not in files]
        if missing:
            raise DataError(f"{self.root / song.name}: no file of {', '.join(missing)}")
        return {source: FileStem(files[source]) for source in sources}


class MixtureEstimates(Estimates):
    """The mixture as estimate of every source: what doing nothing scores."""

    label = "mixture"

    def stems(self, song: Song, sources: Sequence[str]) -> Mapping[str, Stem]:
        """The mixture, once per source."""
        return dict.fromkeys(sources, song.mixture)


class IdealMaskEstimates(Estimates):
    """Ideal ratio masks, made from the references: about what masks can reach at best.

    Args:
        alpha: exponent of the magnitudes in the ratio, 1 or 2.

    Raises:
        ConfigError: alpha is neither.
    """

    def __init__(self, alpha: int = 1) -> None:
        if alpha not in (1, 2):
            raise ConfigError(f"alpha: {alpha}; must be 1 or 2")
        self.alpha, self.label = alpha, f"ideal ratio mask, alpha {alpha}"

    def stems(self, song: Song, sources: Sequence[str]) -> Mapping[str, Stem]:
        """Masked mixtures, computed where they are read."""
        estimates = ideal_masks(song.references, song.mixture, self.alpha)
        return {source: estimates[source] for source in sources}


class NetworkEstimates(Estimates):
    """What a trained network makes of each song's mixture, which is held in memory meanwhile.

    Args:
        separator: the network and how it is run.
        label: what reports call it.
    """

    portable = False

    def __init__(self, separator: Separator, label: str = "network") -> None:
        self.separator, self.label = separator, label

    def sources(self, songs: Mapping[str, SongFiles]) -> list[str]:
        """The network's stems that any song has a reference of."""
        known = super().sources(songs)
        found = [source for source in known if source in self.separator.stems]
        if not found:
            raise ConfigError(
                f"{self.label}: separates {', '.join(self.separator.stems)}, "
                f"but the references are {', '.join(known)}"
            )
        return found

    def stems(self, song: Song, sources: Sequence[str]) -> Mapping[str, Stem]:
        """Separate the song's mixture."""
        mixture = song.mixture.read(0, song.mixture.samples).astype(np.float32)
        stems = self.separator.separate(mixture, song.rate)
        return {
            source: ArrayStem(
                stems[source].numpy(), song.rate, f"{source} of {song.name} by {self.label}"
            )
            for source in sources
        }
